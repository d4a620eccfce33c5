"""The small files that a task's attacks read: words to try, words to keep, examples of rewriting."""

from __future__ import annotations

from pathlib import Path

from fivenines.attacks.candidates import WordList
from fivenines.errors import DataError, sentence
from fivenines.files import read_jsonl

__all__ = ["read_examples", "read_word_list", "read_words"]

_INSERT = "+"


def read_words(file: Path) -> list[str]:
    """All words of a text file, lower case. Lines that begin with # are passed over. Raises DataError."""
    return [word.lower() for line in _lines(file) for word in line.split()]


def read_word_list(file: Path) -> WordList:
    """A line of words is a class: each may stand for any other of it. Words on lines that begin with + may be
    inserted.

    Raises DataError for a file that cannot be read, or without words.
    """
    classes, insertions = [], list[str]()
    for line in _lines(file):
        if line.startswith(_INSERT):
            insertions += line[1:].split()
        else:
            classes.append(line.split())
    if not classes and not insertions:
        raise DataError(
            sentence(str(file), "must hold words", "none", "Write a line of words for each class.")
        )
    return WordList.of_classes(classes, insertions)


def read_examples(file: Path) -> list[tuple[str, str]]:
    """Pairs of a sentence and its rewriting: JSONL with "sentence" and "rewritten". Raises DataError."""
    pairs = []
    for number, row in read_jsonl(file):
        values = row.get("sentence"), row.get("rewritten")
        if not all(isinstance(value, str) and value.strip() for value in values):
            raise DataError(
                sentence(f"{file}, line {number}", 'must have texts "sentence" and "rewritten"', row)
            )
        pairs.append((str(values[0]), str(values[1])))
    return pairs


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(sentence(str(file), "must be a readable file in UTF-8", str(error))) from error
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
