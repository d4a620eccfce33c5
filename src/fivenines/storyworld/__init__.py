"""A small story language with algorithmic truth."""

from fivenines.storyworld.lexicon import detokenize, tokenize
from fivenines.storyworld.reading import Reading, Truth, read, truth
from fivenines.storyworld.writing import write_corpus, write_prompts, write_snippet, write_snippets

__all__ = [
    "Reading",
    "Truth",
    "detokenize",
    "read",
    "tokenize",
    "truth",
    "write_corpus",
    "write_prompts",
    "write_snippet",
    "write_snippets",
]
