"""The home of torch. Import from its modules; only ``protocols`` is free of torch, so nothing is imported
here.

protocols        the seams: what a generator and a classifier must be able to do (no torch)
training         the one training loop, with exact resume
batching         batches by length
losses           classification and language-model losses
optimizers       parameter groups, learning rate over time
checkpoints      checkpoints that survive a kill
devices          device, precision, random streams
folder           model folders: a plain transformers folder and one fivenines.json
language_model   a causal language model that is trained and sampled from
classifier       an encoder that gives P(failure), calibrated
calibration      scores that mean probabilities
minilm           a real pretrained encoder without a hub
"""
