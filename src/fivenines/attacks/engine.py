"""Many searches at once, their questions in batches.

A search is written as if it were alone: a generator that yields an :class:`Ask` and is sent the answers. The driver
keeps many of them under way, puts together what they ask of the same oracle (a classifier, a masked language model, a
person) and asks once. So every attack is batched over candidates and over texts, and none has to know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fivenines.errors import ConfigError, FiveninesError, sentence

__all__ = ["Ask", "Finished", "Oracle", "Search", "ask", "drive"]

Result = TypeVar("Result")

Oracle = Callable[[Sequence[Any]], Sequence[Any]]  # one answer for each question, in order


@dataclass(frozen=True, slots=True)
class Ask:
    """Questions to an oracle: a function of a list that gives an answer for each. The same function is asked once
    for all searches that wait for it.
    """

    oracle: Oracle
    questions: Sequence[Any]


Search = Generator[Ask, Sequence[Any], Result]


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """A search that ended: its place in the order of starting, its result and its share of the time, in seconds."""

    number: int
    result: Result
    seconds: float


def ask(oracle: Oracle, questions: Sequence[Any]) -> Search[Sequence[Any]]:
    """``answers = yield from ask(oracle, questions)``. Nothing is asked for no questions."""
    if not questions:
        return []
    answers = yield Ask(oracle, questions)
    return answers


@dataclass(slots=True)
class _Running(Generic[Result]):
    number: int
    search: Search[Result]
    waits_for: Ask | None = None
    seconds: float = 0.0


def drive(
    searches: Iterable[Search[Result]],
    at_once: int = 64,
    on_time: Callable[[int, float], None] | None = None,
) -> Iterator[Finished[Result]]:
    """Run searches, ``at_once`` at a time, and give each as it ends.

    In every turn each oracle answers what all searches ask of it, and its time is shared among them by their
    questions; other work is shared evenly. The sum of all seconds is the time on the wall. ``on_time`` is told what a
    search (its place in the order of starting) has taken so far, before it goes on with what it asked for.

    Raises what a search or an oracle raises; FiveninesError for an oracle that gives too few answers, ConfigError for
    ``at_once`` below 1.
    """
    if at_once < 1:
        raise ConfigError(sentence("at_once", "must be at least 1", at_once))
    waiting = enumerate(searches)
    running: list[_Running[Result]] = []
    more = True
    while True:
        begun = time.perf_counter()
        while more and len(running) < at_once:
            following = next(waiting, None)
            more = following is not None
            if following is not None:
                running.append(_Running(*following))
        if not running:
            return
        answers = _answers(running)
        for one, (_, seconds) in zip(running, answers, strict=True):
            one.seconds += seconds
            if on_time is not None:
                on_time(one.number, one.seconds)
        ended: dict[int, Result] = {}
        for one, (given, _) in zip(running, answers, strict=True):
            try:
                one.waits_for = next(one.search) if given is None else one.search.send(given)
            except StopIteration as stop:
                ended[one.number] = stop.value
        spent = time.perf_counter() - begun - sum(seconds for _, seconds in answers)
        for one in running:
            one.seconds += spent / len(running)
        finished = [one for one in running if one.number in ended]
        running = [one for one in running if one.number not in ended]
        for one in finished:
            yield Finished(one.number, ended[one.number], one.seconds)


def _answers(running: Sequence[_Running[Any]]) -> list[tuple[Sequence[Any] | None, float]]:
    """What each is sent, and the seconds that it took; None for one that has not begun."""
    groups: dict[object, list[tuple[int, Ask]]] = {}
    for place, one in enumerate(running):
        if one.waits_for is not None:
            groups.setdefault(_identity(one.waits_for.oracle), []).append((place, one.waits_for))
    found: list[tuple[Sequence[Any] | None, float]] = [(None, 0.0)] * len(running)
    for members in groups.values():
        oracle = members[0][1].oracle
        questions = [question for _, asked in members for question in asked.questions]
        begun = time.perf_counter()
        answers = oracle(questions) if questions else []
        seconds = (time.perf_counter() - begun) / max(1, len(questions))
        if len(answers) != len(questions):
            must = f"must give an answer for each of {len(questions)} questions"
            raise FiveninesError(sentence(f"oracle {oracle}", must, len(answers)))
        start = 0
        for place, asked in members:
            count = len(asked.questions)
            found[place] = (answers[start : start + count], seconds * count)
            start += count
    return found


def _identity(oracle: Oracle) -> object:
    """Equal for the same oracle. A method is another object whenever it is looked up; not all oracles have a hash."""
    owner = getattr(oracle, "__self__", None)
    return id(oracle) if owner is None else (id(owner), getattr(oracle, "__name__", ""))
