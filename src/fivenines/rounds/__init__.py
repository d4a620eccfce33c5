"""Adversarial rounds: attack, confirm, add, retrain, set the threshold again at the same quality, measure.

    families     the attacks that a task names, made for a classifier; word_files: the words they are given
    expert       a generator led towards failures, to draw from
    attacking    one attack outside of any round
    folders      where the rounds of a task lie, and what each left: classifier, threshold, attempts
    steps        the attack of a round and its threshold; learning, measuring: what comes between and after
    choosing     what a round draws: texts to attack from, prompts, seeds
    wandering    harmless and failing texts edited as attacks edit; corrupting: texts made odd
    rounds       one round after the other; resumes, pauses for people
    history      what the rounds came to: cost of an attack, what it is over that of the first classifier

    runs/rounds/expert/                                                where the family "guided" is used
    runs/rounds/round-000/              classifier  threshold  measure     those of `fivenines run`
    runs/rounds/round-001/              attack  classifier  threshold  measure

A round that is done is never made again, whatever changes afterwards: its data and models stay as they were.
"""
