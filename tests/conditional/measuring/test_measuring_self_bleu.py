"""Self-BLEU: against nltk, text by text with all others as references, and against the definition by hand."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.conditional.measuring.self_bleu import self_bleu, self_bleu_each
from fivenines.errors import ConfigError, NotEnoughDataError

texts_of_words = st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=2, max_size=6)


def slow_bleu(references: Sequence[Sequence[str]], text: Sequence[str], n: int, smoothing: float) -> float:
    """Papineni et al. 2002, sections 2.1 to 2.3, in the words of the paper."""
    product = 1.0
    for order in range(1, n + 1):
        grams = Counter(tuple(text[i : i + order]) for i in range(len(text) - order + 1))
        clipped = 0
        for gram, count in grams.items():
            most = max(
                sum(tuple(ref[i : i + order]) == gram for i in range(len(ref) - order + 1))
                for ref in references
            )
            clipped += min(count, most)
        if order == 1 and clipped == 0:
            return 0.0
        product *= ((clipped or smoothing) / max(sum(grams.values()), 1)) ** (1 / n)
    nearest = min((abs(len(ref) - len(text)), len(ref)) for ref in references)[1]
    return product * (1.0 if len(text) > nearest else math.exp(1 - nearest / len(text)))


@given(texts_of_words, st.integers(1, 5), st.sampled_from([0.1, 0.0]))
@settings(max_examples=150)
def test_the_definition_agrees(texts: list[list[str]], n: int, smoothing: float) -> None:
    found = self_bleu_each(texts, n, smoothing=smoothing)
    slow = [slow_bleu(texts[:i] + texts[i + 1 :], text, n, smoothing) for i, text in enumerate(texts)]
    assert found.tolist() == pytest.approx(slow, abs=1e-12)
    assert self_bleu(texts, n, smoothing=smoothing) == pytest.approx(np.mean(slow))


@given(texts_of_words)
@settings(max_examples=50)
def test_nltk_agrees(texts: list[list[str]]) -> None:
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smooth = bleu.SmoothingFunction().method1
    theirs = [
        float(bleu.sentence_bleu(texts[:i] + texts[i + 1 :], text, (0.2,) * 5, smooth))
        for i, text in enumerate(texts)
    ]
    assert self_bleu_each(texts).tolist() == pytest.approx(theirs, abs=1e-12)


def test_equal_texts_and_unlike_texts() -> None:
    same = ["the", "cat", "sat", "on", "the", "mat", "again"]
    assert self_bleu([same] * 3) == pytest.approx(1.0)
    assert self_bleu([list("abcdef"), list("ghijkl")]) == 0.0
    assert self_bleu_each([[], list("abc"), list("abc")])[0] == 0.0


def test_the_example_of_the_paper_is_clipped() -> None:
    """ "the the the ..." against "the cat is on the mat": modified unigram precision 2 / 7."""
    candidate, reference = ["the"] * 7, ["the", "cat", "is", "on", "the", "mat"]
    assert self_bleu_each([candidate, reference], 1)[0] == pytest.approx(2 / 7)


def test_thousands_of_texts_take_seconds() -> None:
    rng = np.random.default_rng(0)
    texts = [rng.zipf(1.5, 30).tolist() for _ in range(2000)]
    start = time.perf_counter()
    value = self_bleu(texts)
    assert time.perf_counter() - start < 20
    assert 0.2 < value < 0.9


def test_what_it_refuses() -> None:
    with pytest.raises(NotEnoughDataError, match="self-BLEU needs two texts at least, got 1"):
        self_bleu([["a"]])
    with pytest.raises(ConfigError, match="n and smoothing must be at least 1 and 0"):
        self_bleu([["a"], ["b"]], 0)
