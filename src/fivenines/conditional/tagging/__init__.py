"""Marking a corpus: documents are cut into segments, and scorers mark each segment in the context before it.

    spans, scorers            what is scored, and what scores it
    classifying, rules, style, private_data, judging, columns, cascade     the scorers
    making                    scorers from words and TOML
    places, reading, writing  shards of files, read and written
    blocks, executors         the steps as blocks of datatrove; here, on Ray or on Slurm (extra ``corpora``)
    running, submitting, manifest  a whole run, its jobs elsewhere, and what it did
    agreement                 how well marks agree with people

Nothing here loads torch or datatrove before it is used.
"""
