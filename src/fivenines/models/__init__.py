"""The home of torch. Import from its modules; only ``protocols`` is free of torch, so nothing is imported
here.

    protocols        the seams: what a generator and a classifier must be able to do (no torch)
    training         the one training loop, with exact resume
    training_config  how to train and what came of it (no torch)
    batching         batches by length
    losses           classification and language-model losses
    optimizers       parameter groups, learning rate over time
    checkpoints      checkpoints that survive a kill
    devices          device, precision, random streams
    folder           model folders: a plain transformers folder and one fivenines.json
    minilm           a real pretrained encoder without a hub

    classifier       an encoder or decoder that gives P(failure), calibrated; classifier_config: how it reads
    ensemble         several classifiers as one
    objective        what a classifier is taught: targets, weights, losses; teaching: as batches and one loss
    hardening        what is added to its loss against attacks: smoothness (SiFT), latent, language_objective
    insisting        training that goes on until every adversarial example is rejected; sittings: its checkpoints
    distilling       a classifier that answers as another one does
    latent_attack    how far hidden states must be moved for a failure to pass; perturbing: where they are moved
    saliency         which tokens push towards failure; embedding_gradients, token_places, word_embeddings beneath
    pairs            prompt and completion as the pair that an encoder reads
    continuation     prompt and completion as the one text that a decoder reads
    prefix_scoring   a decoder that reads a prompt once for all its completions
    heads, pooled    the head of a classifier: that of transformers, or one that reads the completion apart
    encoders         a small encoder and its tokenizer from scratch
    calibration      scores that mean probabilities

    masked           which words fit a place; masking, masked_blocks, texts, sentences, neighbours beside
    guided           draws led towards failures; proposals: draws with exact likelihoods

    language_model   a causal language model that is trained and sampled from
    sampling         drawing completions, and what it rests on: decoding, token_choice, stopping,
    prefix_cache, kv_rows
"""
