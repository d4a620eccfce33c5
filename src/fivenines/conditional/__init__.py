"""Tags: control tokens that mark spans of text as showing a behavior or not; learnt, then banned, boosted, watched."""
