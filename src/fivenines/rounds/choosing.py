"""What a round draws: texts to attack from, prompts, seeds. What measures it was never learnt from."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from fivenines.errors import NotEnoughDataError, sentence
from fivenines.pipeline.material import calibration_material, training_material
from fivenines.pipeline.workspace import UNFILTERED, Workspace, read_snippets_of
from fivenines.records import Answer, Judgment, Snippet
from fivenines.rounds.families import DRAWING
from fivenines.rounds.folders import Round

__all__ = [
    "PROMPTS",
    "held_out_failures",
    "held_out_prompts",
    "rng_of",
    "seed_of",
    "some",
    "starts_of",
    "with_answer",
]

Item = TypeVar("Item")
PROMPTS = 5000  # of those to put completions under: more would not differ


def seed_of(one: Round, what: str) -> int:
    """A seed of its own for each use in each round."""
    return zlib.crc32(f"{one.work.task.seed} round {one.number} {what}".encode())


def rng_of(one: Round, what: str) -> np.random.Generator:
    """A stream of its own for each use in each round."""
    return np.random.default_rng(seed_of(one, what))


def some(items: Sequence[Item], count: int, rng: np.random.Generator) -> list[Item]:
    """``count`` of them in random order, or all."""
    return [items[i] for i in rng.permutation(len(items))[:count]]


def with_answer(snippets: Sequence[Snippet], answers: Sequence[Judgment], answer: Answer) -> list[Snippet]:
    """Those that were so judged."""
    return [snippet for snippet, one in zip(snippets, answers, strict=True) if one.answer is answer]


def starts_of(family: str, failing: Sequence[Snippet], count: int, rng: np.random.Generator) -> list[Snippet]:
    """Failing texts; for draws of the generator their prompts alone."""
    chosen = some(failing, count, rng)
    return [Snippet(one.prompt, "") for one in chosen] if family in DRAWING else chosen


def held_out_failures(work: Workspace) -> list[Snippet]:
    """Judged failing texts that no classifier learnt from: draws for the threshold and for measuring, and what training
    keeps back. Raises NotEnoughDataError.
    """
    calibration = calibration_material(work)
    drawn = work.judged(UNFILTERED, [item.snippet for item in work.store.items(UNFILTERED)])
    failing = with_answer(*drawn, Answer.FAILURE)
    failing += with_answer(calibration.snippets, calibration.answers, Answer.FAILURE)
    found = {snippet.id: snippet for snippet in failing}
    if work.task.classifier.training.enabled:
        kept_back = training_material(work, work.task.seed).validation
        found |= {snippet.id: snippet for snippet in with_answer(*kept_back, Answer.FAILURE)}
    if not found:
        must = "needs judged failing texts that nothing learnt from"
        then = "Label more, or set rounds.measure_starts = 0."
        raise NotEnoughDataError(sentence("measuring an attack", must, "none", then))
    return list(found.values())


def held_out_prompts(work: Workspace, seed: int) -> list[str]:
    """Prompts of the test split, in random order."""
    prompts = [snippet.prompt for snippet in read_snippets_of(work.step("data"), "test")]
    return some(prompts, PROMPTS, np.random.default_rng(seed))
