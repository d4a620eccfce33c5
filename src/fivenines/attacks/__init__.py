"""Attacks: from known failures to failures that a classifier passes.

An attack is a goal, constraints, edits and a search, within a budget:

    goal, trial       what counts as success, what it may cost; one attempt under way
    engine            many searches at once, their questions to models in batches
    attack            the seam (``Attack.run``), and what all searches share
    words             the words of a text and edits of one word
    candidates        words that may stand in a place: masked language model, neighbours, word list
    constraints       what an edited text must keep
    importance, gradients   which word to touch first, and what the gradient tells
    search            greedy, beam, best-first
    logbook           attempts on the disk, as they end; resumes

One file an attack, each saying where it departs from its source:

    word_substitution  characters  gradient_swaps  paraphrase  recombination  prompt_search  sampling  latent

    assist            what a person who attacks works with

A classifier that is fooled is not a success: see ``records.Attempt``.
"""
