"""Questions out and answers in: labelling by files, until there is a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fivenines.data import read_snippets
from fivenines.errors import ConfigError, LabelError, sentence
from fivenines.files import read_jsonl
from fivenines.labels import (
    export_comparisons,
    export_queue,
    latest_labels,
    read_answers,
    read_comparisons,
)
from fivenines.pipeline.labelling import unanswered_pairs
from fivenines.pipeline.material import calibrates_on_draws_alone
from fivenines.pipeline.workspace import BROUGHT_ALONG, CALIBRATE, COMPARE, PURPOSES, TRAIN, Workspace
from fivenines.records import Snippet
from fivenines.store import SQLStore, Store
from fivenines.task import Task

__all__ = ["Imported", "export_questions", "import_answers"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: answers that were new, that were known, and lines left unanswered."""

    new: int
    known: int
    unanswered: int


def export_questions(task: Task, out: Path, *, labeler: str = "", purpose: str | None = None) -> int:
    """Write what waits for an answer; preferences with the purpose "compare", else labels. Returns the number.

    Snippets of all purposes are mixed in an order that says nothing, so that whoever labels does not see which
    text passed the filter. With ``labeler``, only what that person has not answered.

    :raises ConfigError: for an unknown purpose.
    :raises DataError: when ``out`` holds answers already.
    """
    if purpose is not None and purpose not in PURPOSES:
        raise ConfigError(sentence("purpose", f"must be one of {', '.join(PURPOSES)}", purpose))
    with SQLStore.open(task.store_url) as store:
        if purpose == COMPARE:
            pairs = unanswered_pairs(Workspace(task, store))
            return export_comparisons(pairs, out, seed=task.seed, rater=labeler)
        purposes = PURPOSES[:-1] if purpose is None else (purpose,)
        waiting: dict[str, Snippet] = {}
        for name in purposes:
            mine = _answered_by(store, name, labeler)
            for item in store.items(name):
                if not item.complete and item.snippet.id not in mine:
                    waiting[item.snippet.id] = item.snippet
        # Ids are hashes: their order is a shuffle, the same each time.
        return export_queue([waiting[key] for key in sorted(waiting)], out, labeler)


def import_answers(task: Task, file: Path, *, labeler: str = "", add: str | None = None) -> Imported:
    """Keep the answers of a file, labels or preferences; all or, if a line is wrong, none.

    ``add`` names the purpose under which snippets that the task does not know are taken too: "train", or "calibrate"
    where the threshold is chosen by a miss rate alone.

    :raises ConfigError: for another ``add``.
    :raises DataError: for a broken line; names file and line.
    :raises LabelError: for a snippet that the task does not know, or a gold that contradicts another.
    """
    if add is not None and add not in (TRAIN, CALIBRATE):
        # What is measured must be drawn by the design, never brought along.
        raise ConfigError(sentence("purpose of added snippets", f"must be {TRAIN} or {CALIBRATE}", add))
    if add == CALIBRATE and calibrates_on_draws_alone(task):
        must = "must be train where the threshold is a matter of the share of draws that pass"
        then = "An acceptance or a quality cost needs the generator's own draws, and no label."
        raise ConfigError(sentence("purpose of added snippets", must, add, then))
    with SQLStore.open(task.store_url) as store:
        if any("preferred" in row for _, row in _first(file)):
            chosen = read_comparisons(file, labeler)
            new = store.add_comparisons(COMPARE, chosen.records, chosen.numbers)
            return Imported(new, len(chosen) - new, chosen.unanswered)
        lines = read_answers(file, labeler)
        if add is not None:
            answered = {label.snippet_id for label in lines}
            known = {item.snippet.id for purpose in store.purposes() for item in store.items(purpose)}
            fresh = answered - known  # what is measured, or asked for another purpose, stays that alone
            store.add_items(add, [one for one in read_snippets(file) if one.id in fresh], BROUGHT_ALONG)
        try:
            new = store.add_labels(lines.records, lines.numbers)
        except LabelError as error:
            raise LabelError(f"{file}: {error}") from None
        return Imported(new, len(lines) - new, lines.unanswered)


def _first(file: Path) -> list[tuple[int, dict[str, object]]]:
    for line in read_jsonl(file):
        return [line]
    return []


def _answered_by(store: Store, purpose: str, labeler: str) -> set[str]:
    if not labeler:
        return set()
    standing = latest_labels(store.labels(purpose))
    return {key for key, labels in standing.items() if any(label.labeler == labeler for label in labels)}
