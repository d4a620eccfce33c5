"""Attempts on the disk as they end, so that a killed attack goes on: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fivenines.attacks.attack import Attack
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.trial import COUNTING
from fivenines.errors import ConfigError, DataError, LockedError, sentence
from fivenines.files import read_jsonl, resource_errors
from fivenines.records import Answer, Attempt, Judgment, Outcome, Snippet

__all__ = ["attempt_of_row", "attempts_in", "confirmed_by", "row_of_attempt", "run_logged"]


def row_of_attempt(attempt: Attempt) -> dict[str, Any]:
    """An attempt as a line of JSON."""
    return {
        "attack": attempt.attack,
        "start": _row(attempt.start),
        "outcome": attempt.outcome.name,
        "best": None if attempt.best is None else _row(attempt.best),
        "start_score": attempt.start_score,
        "score": attempt.score,
        "queries": attempt.queries,
        "seconds": round(attempt.seconds, 6),
        "seed": attempt.seed,
        "refuted": attempt.refuted,
        "confirmed": attempt.confirmed,
    }


def attempt_of_row(row: Mapping[str, Any]) -> Attempt:
    """The inverse of :func:`row_of_attempt`. Raises DataError for what is none."""
    try:
        best = None if row["best"] is None else _snippet(row["best"])
        rest = {key: row[key] for key in ("attack", "start_score", "score", "queries", "seconds", "seed")}
        more = {key: row[key] for key in ("refuted", "confirmed")}
        return Attempt(
            start=_snippet(row["start"]), outcome=Outcome[row["outcome"]], best=best, **rest, **more
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(sentence("line of an attack's log", "must be an attempt", repr(error))) from error


def attempts_in(file: Path) -> list[Attempt]:
    """The attempts of a log, in the order in which they ended; none where there is no file. A torn last line, which
    another process may be writing, is passed over. Raises DataError for what is no log.
    """
    return list(_read(file)) if file.is_file() else []


def run_logged(
    attack: Attack,
    goal: Goal,
    starts: Sequence[Snippet],
    file: Path,
    *,
    budget: Budget,
    seed: int,
    progress: bool = False,
    about: Mapping[str, str | int | float | None] | None = None,
) -> list[Attempt]:
    """Attack every start that the log does not hold yet, adding each attempt to it as it ends; all of them, in order
    of the starts.

    A kill costs the attempts under way alone; they are made anew. ``progress`` shows a bar. ``about``: more that a
    log must agree on to be gone on with, such as which classifier it is of: of that it knows the threshold alone.

    Raises:
        ConfigError: the log is of another attack, threshold, budget, seed, or says otherwise of what ``about`` names;
            all that differs is told, new value and old. Or ``about`` names what the log itself says.
        DataError: the file is no such log and stays as it is, or holds a broken line; a torn last line is cut off.
        ScoringError: the classifier is broken; the attempts under way are not kept.
        LockedError: another process writes to the log.
        ResourceError: the disk is full.
    """
    facts: dict[str, Any] = {
        "attack": attack.name,
        "threshold": goal.limit,
        "queries": budget.queries,
        "budget seconds": budget.seconds,
        "seed": seed,
        "confirms": goal.still_fails is not None,
        "counting": COUNTING,
    }
    for name, value in ({} if about is None else about).items():
        if name in facts:
            raise ConfigError(sentence("about", "must not name what the log itself says", name))
        facts[name] = value
    wanted = list(dict.fromkeys(starts))
    with _opened(file, facts) as log, _bar(progress) as bar:
        known = {attempt.start: attempt for attempt in attempts_in(file)}
        done = {start: known[start] for start in wanted if start in known}
        left = [start for start in wanted if start not in done]
        won = sum(attempt.fooled for attempt in done.values())
        task = bar.add_task(attack.name, total=len(wanted), completed=len(done), won=won)
        for attempt in attack.run(goal, left, budget=budget, seed=seed):
            with resource_errors(file):
                _append(log, row_of_attempt(attempt))
            done[attempt.start] = attempt
            won += attempt.fooled
            bar.update(task, advance=1, won=won)
    return [replace(done[start], start=start) for start in wanted]


def confirmed_by(attempts: Iterable[Attempt], judgments: Iterable[Judgment]) -> list[Attempt]:
    """The attempts with what the labels say of the texts that fooled the classifier.

    A failure confirms, ok refutes, unsure leaves it open: None. What was confirmed in the attack itself stays,
    unless a judgment is there.
    """
    known = {judgment.snippet_id: judgment.answer for judgment in judgments}
    verdict = {Answer.FAILURE: True, Answer.OK: False, Answer.UNSURE: None}
    out = []
    for attempt in attempts:
        if attempt.fooled and attempt.best is not None and attempt.best.id in known:
            attempt = replace(attempt, confirmed=verdict[known[attempt.best.id]])
        out.append(attempt)
    return out


@contextmanager
def _opened(file: Path, facts: Mapping[str, Any]) -> Iterator[BinaryIO]:
    """The log, for this process alone, to add to: its first line is there, a torn last line is gone."""
    with resource_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        log = file.open("a+b")
    with log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        except BlockingIOError:
            then = "Wait for it, or give another file."
            raise LockedError(
                sentence(f"the log {file}", "must have one writer", "one that writes now", then)
            ) from None
        with resource_errors(file):
            _begin(log, file, facts)
        yield log


def _begin(log: BinaryIO, file: Path, facts: Mapping[str, Any]) -> None:
    log.seek(0)
    content = log.read()
    if _line(facts).startswith(content):  # new, or killed before its first line was whole
        log.truncate(0)
        _append(log, facts)
        return
    first = _first(file)
    names = [name for name in dict.fromkeys([*facts, *first]) if first.get(name) != facts.get(name)]
    if names:
        new, old = (", ".join(repr(each.get(name)) for name in names) for each in (facts, first))
        then = f"Delete {file} to attack anew, or give another file."
        raise ConfigError(sentence(f"{', '.join(names)} of the log {file}", f"must be {new}", old, then))
    log.truncate(content.rfind(b"\n") + 1)


def _first(file: Path) -> dict[str, Any]:
    """What a log is of. Raises DataError for a file that is no log."""
    _, first = next(read_jsonl(file), (0, {}))
    if not {"attack", "threshold", "queries", "seed"} <= set(first):
        raise DataError(sentence(str(file), "must be the log of an attack", "another file", "Give another."))
    return first


def _read(file: Path) -> Iterator[Attempt]:
    whole = file.read_bytes().count(b"\n")  # lines; what follows the last of them is torn
    if not whole:
        return
    _first(file)
    for number, row in read_jsonl(file):
        if number > 1:
            try:
                yield attempt_of_row(row)
            except DataError as error:
                raise DataError(f"{file}, line {number}: {error}") from None
        if number >= whole:
            return


def _line(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, allow_nan=False, default=_plain).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise DataError(
            sentence("line of an attack's log", "must be what JSON can hold", str(error))
        ) from error


def _plain(value: Any) -> Any:
    """A scalar of numpy, which attacks of others may bring along."""
    if not hasattr(value, "item"):
        raise TypeError(f"a value of type {type(value).__name__}")
    return value.item()


def _append(log: BinaryIO, row: Mapping[str, Any]) -> None:
    log.write(_line(row))
    log.flush()
    os.fsync(log.fileno())


def _bar(shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    won = TextColumn("fooled {task.fields[won]}")
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), won, disable=not shown)


def _row(snippet: Snippet) -> dict[str, str]:
    return {"prompt": snippet.prompt, "completion": snippet.completion, "source": snippet.source}


def _snippet(row: Mapping[str, str]) -> Snippet:
    texts = row["prompt"], row["completion"], row.get("source", "")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"a snippet of {row}")
    return Snippet(*texts)
