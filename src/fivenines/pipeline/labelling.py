"""What people are asked, in files or by simulation, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fivenines.pipeline.workspace import (
    ATTACK,
    ATTACK_MEASURE,
    CALIBRATE,
    COMPARE,
    FILTERED,
    TRAIN,
    UNFILTERED,
    Workspace,
    read_outputs,
    read_snippets_of,
)
from fivenines.records import Answer, Output, Snippet
from fivenines.store import Draw
from fivenines.storyworld import SimulatedLabeler, SimulatedRater

__all__ = [
    "WHY",
    "Waiting",
    "missing",
    "pairs_to_compare",
    "queue_calibration",
    "queue_outputs",
    "queue_snippets",
    "queue_training",
    "simulated_failure",
    "unanswered_pairs",
]

WHY = {
    TRAIN: "the classifier learns from them",
    CALIBRATE: "the threshold is chosen on them",
    UNFILTERED: "they give the failure rate without the filter",
    FILTERED: "they give the failure rate through the filter",
    ATTACK: "they say which texts that fool the classifier fail; it learns from them",
    ATTACK_MEASURE: "they say which texts that fool the classifier fail; they measure an attack",
    COMPARE: "they say what the filter costs in quality",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """People have work to do before the run can go on."""

    purpose: str
    missing: int

    def __str__(self) -> str:
        what = "preferences" if self.purpose == COMPARE else "labels"
        return f"{self.missing:,} {what} are needed for '{self.purpose}': {WHY[self.purpose]}"


def queue_training(work: Workspace) -> None:
    queue_snippets(work, TRAIN, read_snippets_of(work.step("draws"), "train"), "train")


def queue_calibration(work: Workspace) -> None:
    queue_snippets(work, CALIBRATE, read_snippets_of(work.step("draws"), "calibrate"), "calibrate")


def queue_outputs(work: Workspace) -> None:
    """Ask about first draws (the unfiltered generator), about outputs, and for preferences between the two.

    Prompts stand in random order, so the first n of them are a simple random sample. First draws that passed
    are outputs too: one label serves both.
    """
    folder, labels = work.step("outputs").path, work.task.labels
    for name in work.task.evaluate.distributions:
        outputs = read_outputs(folder, name)
        queue_snippets(work, UNFILTERED, [o.first.snippet for o in outputs[: labels.n_unfiltered]], name)
        returned = [o for o in outputs[: labels.n_filtered] if not o.abstained]
        queue_snippets(work, FILTERED, [Snippet(o.prompt, o.completion or "") for o in returned], name)
        _simulate_preferences(work, pairs_to_compare(outputs, labels.n_comparisons))


def pairs_to_compare(outputs: Sequence[Output], n: int) -> list[tuple[str, str, str]]:
    """(prompt, filtered completion, rejected first draw) of the first ``n`` outputs whose first draw was rejected.

    The others are ties by construction: both systems return the first draw.
    """
    pairs = [(o.prompt, o.completion, o.first.completion) for o in outputs if o.draws > 1 and o.completion]
    return pairs[:n]


def unanswered_pairs(work: Workspace) -> list[tuple[str, str, str]]:
    """The pairs that nobody has compared yet, over all distributions, each once."""
    folder, known = work.step("outputs").path, _compared(work)
    if not (folder / "DONE").is_file():
        return []
    wanted = [
        pair
        for name in work.task.evaluate.distributions
        for pair in pairs_to_compare(read_outputs(folder, name), work.task.labels.n_comparisons)
    ]
    return [pair for pair in dict.fromkeys(wanted) if _key(*pair) not in known]


def missing(work: Workspace, purpose: str) -> Waiting | None:
    """What people still have to do for a purpose; None when nothing."""
    left = len(unanswered_pairs(work)) if purpose == COMPARE else work.store.counts(purpose).missing
    return Waiting(purpose, left) if left else None


def queue_snippets(
    work: Workspace, purpose: str, snippets: Sequence[Snippet], distribution: str, design: str = "uniform"
) -> None:
    """Put snippets into the labelling queue; simulated people answer at once. Asking twice asks once."""
    labels = work.task.labels
    simulated = labels.source == "storyworld"
    work.store.add_items(
        purpose, snippets, Draw(distribution, design=design), 1 if simulated else labels.per_item
    )
    if simulated and work.store.counts(purpose).missing:
        answered = {label.snippet_id for label in work.store.labels(purpose)}
        labeler = _simulated_labeler(work)
        unanswered = {s.id: s for s in snippets}
        work.store.add_labels([labeler.label(s) for i, s in unanswered.items() if i not in answered])


def simulated_failure(work: Workspace, snippet: Snippet) -> bool:
    """Whether a simulated labeler calls it a failure."""
    return _simulated_labeler(work).label(snippet).answer is Answer.FAILURE


def _simulated_labeler(work: Workspace) -> SimulatedLabeler:
    return SimulatedLabeler("storyworld", noise=0.0, seed=work.task.seed)


def _simulate_preferences(work: Workspace, pairs: Sequence[tuple[str, str, str]]) -> None:
    if work.task.labels.source != "storyworld":
        return
    known = _compared(work)
    rater = SimulatedRater("storyworld", seed=work.task.seed)
    fresh = [pair for pair in pairs if _key(*pair) not in known]
    work.store.add_comparisons(COMPARE, [rater.compare(*pair) for pair in fresh])


def _compared(work: Workspace) -> set[tuple[str, frozenset[str]]]:
    return {_key(c.prompt, c.left, c.right) for c in work.store.comparisons(COMPARE)}


def _key(prompt: str, one: str, other: str) -> tuple[str, frozenset[str]]:
    return prompt, frozenset((one, other))
