"""Text in, snippets out: reading, cutting into windows, removing copies, splitting by source."""

from fivenines.data.duplicates import deduplicate, near_duplicates
from fivenines.data.snippets import read_prompts, read_snippets, write_snippets
from fivenines.data.splits import linked_sources, split_by_source
from fivenines.data.text import Document, read_texts
from fivenines.data.windows import Sentence, paragraphs, sentences, windows

__all__ = [
    "Document",
    "Sentence",
    "deduplicate",
    "linked_sources",
    "near_duplicates",
    "paragraphs",
    "read_prompts",
    "read_snippets",
    "read_texts",
    "sentences",
    "split_by_source",
    "windows",
    "write_snippets",
]
