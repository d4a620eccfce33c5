"""Tags: control tokens that mark spans of text as showing a behavior or not. Learnt, then banned, boosted or watched."""
