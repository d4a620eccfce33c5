"""Texts made odd at random: words lost, doubled, moved or replaced, sentences in another order.

What an attack leaves is odd as a rule, whichever attack it is. A classifier that is taught odd texts as failures, be
they harmless or not, stands up to attacks that it has never met; nobody has to label them. It costs the odd texts of
honest users. The wider circle for training of Redwood's takeaways (methods 1.8), around what machines garble.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivenines.attacks.words import PARTS, Part, part_of
from fivenines.data.windows import sentences
from fivenines.records import Snippet

__all__ = ["corrupted"]

_MOST = 3  # corruptions of words in a text
_FAR = 6  # words that a word moves at most
_SENTENCES = 0.5  # share of the texts whose sentences are disturbed, where there are several


def corrupted(texts: Sequence[Snippet], n: int, rng: np.random.Generator) -> list[Snippet]:
    """``n`` texts, each a text of ``texts`` made odd; a text comes again only when all have come. Fewer where a text
    stays as it was. Corruptions know nothing but the text itself and the words of the others.
    """
    words = sorted({word for text in texts[:2000] for word in text.text.split()})
    if not words or n < 1:
        return []
    order = np.concatenate([rng.permutation(len(texts)) for _ in range(-(-n // len(texts)))])[:n]
    made = [_odd(texts[i], words, rng) for i in order]
    return [new for new, i in zip(made, order, strict=True) if new != texts[i] and new.completion.strip()]


def _odd(text: Snippet, words: Sequence[str], rng: np.random.Generator) -> Snippet:
    spans = sentences(text.prompt)
    if len(spans) > 1 and rng.random() < _SENTENCES:
        return Snippet(_disordered(text.prompt, rng), text.completion, text.source)
    lengths = {part: len(part_of(text, part).split()) for part in PARTS}
    part: Part = "prompt" if rng.random() * sum(lengths.values()) < lengths["prompt"] else "completion"
    garbled = _garbled(part_of(text, part).split(), words, rng)
    if part == "prompt":
        return Snippet(garbled, text.completion, text.source)
    return Snippet(text.prompt, garbled, text.source)


def _disordered(prompt: str, rng: np.random.Generator) -> str:
    """A sentence lost, one twice, or all in another order."""
    found = [prompt[one.start : one.end].strip() for one in sentences(prompt)]
    kind = rng.integers(3)
    if kind == 0:
        del found[rng.integers(len(found))]
    elif kind == 1:
        found.insert(int(rng.integers(len(found) + 1)), found[rng.integers(len(found))])
    else:
        found = [found[i] for i in rng.permutation(len(found))]
    return " ".join(found)


def _garbled(words: list[str], others: Sequence[str], rng: np.random.Generator) -> str:
    """One to three words lost, replaced, put in or moved."""
    for _ in range(int(rng.integers(1, _MOST + 1))):
        place, kind = int(rng.integers(len(words) + 1)), rng.integers(4)
        if kind == 0 or not words:
            words.insert(place, others[int(rng.integers(len(others)))])
            continue
        place = min(place, len(words) - 1)
        if kind == 1 and len(words) > 1:
            del words[place]
        elif kind == 2:
            words[place] = others[int(rng.integers(len(others)))]
        else:
            words.insert(place + int(rng.integers(1, _FAR + 1)), words.pop(place))
    return " ".join(words)
