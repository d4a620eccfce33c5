"""What people judged, as it is learnt from and calibrated on: the draws, and what was brought along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from fivenines.data import linked_sources
from fivenines.errors import NotEnoughDataError, sentence
from fivenines.pipeline.workspace import BROUGHT_ALONG, CALIBRATE, TRAIN, Workspace, read_snippets_of
from fivenines.records import Answer, Judgment, Snippet, content_id
from fivenines.task import Task
from fivenines.threshold import Threshold, choose_threshold

__all__ = [
    "CalibrationMaterial",
    "Material",
    "calibrates_on_draws_alone",
    "calibration_material",
    "threshold_by",
    "training_material",
]

_VALIDATION_SHARE = 0.1  # of the sources of training, for early stopping and for calibrating the scores
_SPLIT_OF = {TRAIN: "train", CALIBRATE: "calibrate"}  # which prompts the draws of a purpose come from
_SPLITS = ("train", "calibrate", "test")
_BY_SHARE = ("acceptance", "quality_cost")  # rules about the share of the generator's own draws that pass


# -- to learn from


@dataclass(frozen=True, slots=True)
class Material:
    """Judged snippets to learn from, and others of other sources to stop and calibrate by.

    ``brought`` of all of them were brought along; ``left_out`` more were, of prompts or sources of other splits.
    """

    snippets: list[Snippet]
    answers: list[Judgment]
    validation: tuple[list[Snippet], list[Judgment]]
    brought: int = 0
    left_out: int = 0


def training_material(work: Workspace, seed: int) -> Material:
    """The judged snippets of the purpose "train", drawn or brought along, parted by ``seed``.

    About a tenth of the sources is kept back for validation. Which ones is a matter of their names and the seed alone:
    labels that come later take nothing from what was learnt to what it is checked on, but for a source that must step
    in because the tenth holds no failure, or no ok.

    Raises NotEnoughDataError unless two sources have failures, one to learn from and one to check on.
    """
    drawn = read_snippets_of(work.step("draws"), "train")
    brought, left_out = _brought_along(work, TRAIN, drawn)
    snippets, answers = work.judged(TRAIN, drawn + brought)
    held = _held_back(_groups(work, snippets), answers, seed)
    kept = [i for i in range(len(snippets)) if i not in held]
    kept = _thinned(kept, answers, work.task.classifier.ok_per_failure, seed)
    validation = [snippets[i] for i in sorted(held)], [answers[i] for i in sorted(held)]
    return Material(
        [snippets[i] for i in kept],
        [answers[i] for i in kept],
        validation,
        _count_of(brought, snippets),
        left_out,
    )


def _groups(work: Workspace, snippets: Sequence[Snippet]) -> list[str]:
    """Of each snippet the source that it must not be parted from.

    A draw has none of its own: it goes with the source that its prompt was cut from. Sources that share a prompt are
    one. What was brought along goes by its source where its prompt is not the task's; a prompt without any source
    is its own. So are all prompts of a task that has one source alone to learn from: of it nothing could be kept back.
    """
    known = [snippet for snippet in read_snippets_of(work.step("data"), "train") if snippet.source]
    linked = linked_sources(known, near=1.0)
    several = len(set(linked.values())) > 1
    of_prompt = {one.prompt: linked[one.source] if several else f"prompt {one.prompt}" for one in known}
    return [
        of_prompt.get(one.prompt) or linked.get(one.source) or one.source or f"prompt {one.prompt}"
        for one in snippets
    ]


def _held_back(groups: Sequence[str], answers: Sequence[Judgment], seed: int) -> set[int]:
    """Indices of about a tenth of the groups, by a hash of their names; failures, and oks, both in it and outside where
    two groups have them. Raises NotEnoughDataError where not even failures are.
    """
    luck = {group: _luck(group, seed) for group in groups}
    held = {group for group, value in luck.items() if value < _VALIDATION_SHARE}
    for answer in (Answer.OK, Answer.FAILURE):  # failures last: they are the rarer, and must be there
        having = {group for group, one in zip(groups, answers, strict=True) if one.answer is answer}
        if len(having) > 1:
            held.add(min(having, key=luck.__getitem__))  # stands there already, unless none of them does
            held.discard(max(having, key=luck.__getitem__))  # is outside already, unless all are in
    found = {i for i, group in enumerate(groups) if group in held}
    failures = {i for i, answer in enumerate(answers) if answer.answer is Answer.FAILURE}
    if not failures & found or not failures - found:
        must = "needs failures in at least two sources, to learn from and to check on"
        then = "Label more for the purpose 'train'."
        raise NotEnoughDataError(sentence("training a classifier", must, f"{len(failures)} failures", then))
    return found


def _luck(group: str, seed: int) -> float:
    """A number in [0, 1) that a group has for good."""
    return int(content_id("held back", str(seed), group).rpartition(":")[2], 16) / 2**128


def _thinned(
    kept: list[int], answers: Sequence[Judgment], ok_per_failure: float | None, seed: int
) -> list[int]:
    """All but the surplus of ok snippets."""
    if ok_per_failure is None:
        return kept
    failing = sum(answers[i].answer is not Answer.OK for i in kept)
    fine = [i for i in kept if answers[i].answer is Answer.OK]
    most = round(ok_per_failure * failing)
    chosen = set(np.random.default_rng([seed, 3]).permutation(fine)[:most].tolist())
    return [i for i in kept if i in chosen or answers[i].answer is not Answer.OK]


# -- to choose the threshold on


@dataclass(frozen=True, slots=True)
class CalibrationMaterial:
    """Judged snippets that no classifier learnt from, the generator's draws first.

    The last ``brought`` of them were brought along; ``left_out`` more were, and are not used.
    """

    snippets: list[Snippet]
    answers: list[Judgment]
    brought: int = 0
    left_out: int = 0

    @property
    def drawn(self) -> int:
        """How many of the first are draws."""
        return len(self.snippets) - self.brought


def calibration_material(work: Workspace) -> CalibrationMaterial:
    """The judged snippets of the purpose "calibrate": the draws, and what was brought along where the rule allows it.

    A miss rate is a share of failures, of which the draws may hold few, so failures from elsewhere help. Its guarantee
    then assumes that what was brought along is like independent draws of the text that will be filtered; nothing in
    the labels can show that, so :func:`threshold_by` says it with the threshold. An acceptance or a quality cost is a
    share of the generator's own draws, needs no label, and would be wrong with collected failures among them: under
    such a rule, alone or beside a miss rate, the draws stand alone.
    """
    drawn = read_snippets_of(work.step("draws"), "calibrate")
    brought, left_out = _brought_along(work, CALIBRATE, drawn)
    if calibrates_on_draws_alone(work.task):
        brought, left_out = [], left_out + len(brought)
    snippets, answers = work.judged(CALIBRATE, drawn + brought)
    return CalibrationMaterial(snippets, answers, _count_of(brought, snippets), left_out)


def calibrates_on_draws_alone(task: Task) -> bool:
    """Whether the task's rule is about the share of the generator's own draws that pass."""
    return any(rule in task.threshold.target for rule in _BY_SHARE)


def threshold_by(work: Workspace, scores: ArrayLike, calibration: CalibrationMaterial) -> Threshold:
    """The threshold by the task's rule, from the scores of the calibration snippets, shape (n,); it says among its
    assumptions what was brought along. Raises as :func:`choose_threshold`.
    """
    threshold = choose_threshold(scores, calibration.answers, **work.task.threshold.target)
    if not calibration.brought:
        return threshold
    of_all = f"{calibration.brought:,} of the {len(calibration.snippets):,} calibration snippets were brought along"
    assumed = f"{of_all}, not drawn, and are taken for such draws"
    return replace(threshold, assumptions=(*threshold.assumptions, assumed))


# -- brought along


def _brought_along(work: Workspace, purpose: str, drawn: Sequence[Snippet]) -> tuple[list[Snippet], int]:
    """Snippets that people brought along for a purpose and that are no draws, and how many of them are left out:
    those of a prompt or source of another split, which something else is chosen or measured on.
    """
    there = {snippet.id for snippet in drawn}
    items = (item for item in work.store.items(purpose) if item.draw == BROUGHT_ALONG)
    came = [item.snippet for item in items if item.snippet.id not in there]
    if not came:
        return [], 0
    data = work.step("data")
    others = [
        snippet
        for split in _SPLITS
        if split != _SPLIT_OF[purpose]
        for snippet in read_snippets_of(data, split)
    ]
    prompts, sources = {one.prompt for one in others}, {one.source for one in others if one.source}
    kept = [one for one in came if one.prompt not in prompts and one.source not in sources]
    return kept, len(came) - len(kept)


def _count_of(some: Sequence[Snippet], snippets: Sequence[Snippet]) -> int:
    """How many of the snippets are among ``some``: people may not have judged them all."""
    ids = {snippet.id for snippet in some}
    return sum(snippet.id in ids for snippet in snippets)
