"""The driver: batches, order, time, and what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.attacks.engine import Ask, Finished, Search, ask, drive
from fivenines.errors import ConfigError, FiveninesError


@dataclass
class Scaling:
    """An oracle that multiplies. Equal to others of its kind, and without a hash."""

    by: int
    calls: list[int] = field(default_factory=list, compare=False)

    def __call__(self, questions: Sequence[int], /) -> list[int]:
        self.calls.append(len(questions))
        return [self.by * question for question in questions]

    def negative(self, questions: Sequence[int], /) -> list[int]:
        self.calls.append(len(questions))
        return [-self.by * question for question in questions]


Script = list[tuple[int, list[int]]]  # (which oracle, what it is asked) of each turn
scripts = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(-9, 9), max_size=4)), max_size=5), max_size=8
)


def following(script: Script, oracles: Sequence[Scaling]) -> Search[list[list[int]]]:
    heard = []
    for which, questions in script:
        heard.append(list((yield from ask(oracles[which], questions))))
    return heard


def alone(script: Script) -> list[list[int]]:
    return [[(which + 1) * question for question in questions] for which, questions in script]


@given(scripts, st.integers(1, 9))
def test_every_search_hears_what_it_asked(found: list[Script], at_once: int) -> None:
    oracles = [Scaling(by) for by in (1, 2, 3)]
    done = list(drive((following(script, oracles) for script in found), at_once))
    assert sorted(one.number for one in done) == list(range(len(found)))
    for one in done:
        assert one.result == alone(found[one.number])
    questions = [len(asked) for script in found for _, asked in script]
    assert sum(sum(oracle.calls) for oracle in oracles) == sum(questions)


@given(scripts)
def test_an_oracle_is_asked_once_a_turn_for_all(found: list[Script]) -> None:
    oracles = [Scaling(by) for by in (1, 2, 3)]
    list(drive((following(script, oracles) for script in found), at_once=8))
    turns = [
        [(which, len(asked)) for which, asked in script if asked] for script in found
    ]  # of no questions none
    for which, oracle in enumerate(oracles):
        expected = []
        for turn in range(5):
            sizes = [script[turn][1] for script in turns if turn < len(script) and script[turn][0] == which]
            expected += [sum(sizes)] if sizes else []
        assert oracle.calls == expected


def test_equal_oracles_are_not_the_same() -> None:
    one, other = Scaling(2), Scaling(2)

    def searching(oracle: Scaling) -> Search[Sequence[int]]:
        first = yield from ask(oracle.negative, [1])
        second = yield from ask(oracle, [2, 3])
        return [*first, *second]

    done = list(drive([searching(one), searching(other), searching(one)]))
    assert [each.result for each in done] == [[-2, 4, 6]] * 3
    assert (one.calls, other.calls) == ([2, 4], [1, 2])


def test_no_questions_are_no_call() -> None:
    oracle = Scaling(1)

    def plainly() -> Search[Sequence[int]]:
        return (yield Ask(oracle, []))

    assert [one.result for one in drive([plainly()])] == [[]]
    assert oracle.calls == []


@given(st.integers(0, 12), st.integers(1, 5), st.data())
def test_at_most_so_many_at_once(n: int, at_once: int, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    oracle, under_way, most = Scaling(1), 0, 0

    def searching(length: int) -> Search[None]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(length):
            yield from ask(oracle, [0])
        under_way -= 1

    assert len(list(drive(map(searching, lengths), at_once))) == n
    assert most <= at_once
    assert all(size <= at_once for size in oracle.calls)


def test_searches_are_begun_as_they_are_needed() -> None:
    begun = []

    def searching(number: int) -> Search[int]:
        begun.append(number)
        yield from ask(Scaling(1), [number])
        return number

    endless = drive(map(searching, count()), at_once=3)
    assert [next(endless).result for _ in range(4)] == [0, 1, 2, 3]
    assert len(begun) <= 6


def test_no_searches() -> None:
    assert list(drive([])) == []


@pytest.mark.parametrize("at_once", [0, -1])
def test_none_at_once_is_refused(at_once: int) -> None:
    with pytest.raises(ConfigError, match=f"at_once must be at least 1, got {at_once}"):
        next(drive([following([], [])], at_once))


# -- time


def sleeping(seconds: float) -> Callable[[Sequence[int]], Sequence[int]]:
    def oracle(questions: Sequence[int], /) -> Sequence[int]:
        time.sleep(seconds)
        return questions

    return oracle


def test_the_seconds_add_up_to_the_time_on_the_wall() -> None:
    slow, slower = sleeping(0.01), sleeping(0.02)

    def searching(turns: int) -> Search[None]:
        for _ in range(turns):
            yield from ask(slow, [1])
            yield from ask(slower, [1, 2])

    begun = time.perf_counter()
    done = list(drive(searching(turns) for turns in (1, 2, 3)))
    wall = time.perf_counter() - begun
    assert 3 * 0.03 <= sum(one.seconds for one in done) <= wall
    assert [one.number for one in sorted(done, key=lambda one: one.seconds)] == [0, 1, 2]


def test_an_oracles_time_is_shared_by_questions() -> None:
    oracle = sleeping(0.04)

    def searching(questions: int) -> Search[None]:
        yield from ask(oracle, [0] * questions)

    begun = time.perf_counter()
    few, many = sorted(drive([searching(1), searching(3)]), key=lambda one: one.number)
    wall = time.perf_counter() - begun
    # 3/4 less 1/4 of what the oracle took; all else is shared evenly
    assert 0.5 * 0.04 <= many.seconds - few.seconds <= 0.5 * wall


def test_searches_are_told_their_time_before_they_go_on() -> None:
    told: dict[int, list[float]] = {0: [], 1: []}

    def searching(turns: int) -> Search[None]:
        for turn in range(turns):
            yield from ask(sleeping(0.002), [1])
            assert told[turns // 4][-1] >= 0.002 * (turn + 1)

    done = list(drive([searching(2), searching(4)], on_time=lambda number, spent: told[number].append(spent)))
    for one, turns in zip(done, (2, 4), strict=True):
        assert len(told[one.number]) == turns + 1
        assert told[one.number][0] == 0.0
        assert told[one.number] == sorted(told[one.number])
        assert told[one.number][-1] <= one.seconds


def test_the_time_of_who_reads_the_results_is_not_theirs() -> None:
    def searching() -> Search[None]:
        yield from ask(sleeping(0.0), [1])

    done: list[Finished[None]] = []
    begun = time.perf_counter()
    for one in drive([searching() for _ in range(4)], at_once=1):
        done.append(one)
        time.sleep(0.02)
    wall = time.perf_counter() - begun
    assert sum(one.seconds for one in done) <= wall - 4 * 0.02


# -- what goes wrong


@settings(max_examples=30)
@given(st.integers(0, 6).filter(lambda n: n != 3))
def test_too_few_or_too_many_answers(n: int) -> None:
    def wrong(questions: Sequence[int], /) -> Sequence[int]:
        return [0] * n

    def searching() -> Search[None]:
        yield from ask(wrong, [1, 2, 3])

    with pytest.raises(FiveninesError, match=f"must give an answer for each of 3 questions, got {n}"):
        list(drive([searching()]))


def test_what_an_oracle_or_a_search_raises_comes_out() -> None:
    def raising(questions: Sequence[int], /) -> Sequence[int]:
        raise OSError("the oracle is down")

    def asking() -> Search[None]:
        yield from ask(raising, [1])

    def failing() -> Search[None]:
        yield from ask(Scaling(1), [1])
        raise KeyError("a search of its own")

    with pytest.raises(OSError, match="the oracle is down"):
        list(drive([following([(0, [1])], [Scaling(1)]), asking()]))
    with pytest.raises(KeyError, match="a search of its own"):
        list(drive([following([(0, [1])], [Scaling(1)]), failing()]))


def test_what_ended_before_is_given_before_it_raises() -> None:
    def searching(turns: int) -> Search[int]:
        for turn in range(turns):
            if turn == 2:
                raise OSError("too long")
            yield from ask(Scaling(1), [1])
        return turns

    found: Iterator[Finished[int]] = drive([searching(0), searching(1), searching(3)])
    assert [next(found).result, next(found).result] == [0, 1]
    with pytest.raises(OSError, match="too long"):
        next(found)
