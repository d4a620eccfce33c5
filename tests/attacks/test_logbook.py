"""Attempts on the disk: killed, torn, locked, of another kind; and what labels make of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.logbook import (
    attempt_of_row,
    attempts_in,
    confirmed_by,
    row_of_attempt,
    run_logged,
)
from fivenines.attacks.recombination import Recombination
from fivenines.errors import ConfigError, DataError, LockedError, ResourceError, ScoringError
from fivenines.records import Answer, Attempt, Judgment, Outcome, Snippet
from fivenines.testing import FakeAttack, FakeClassifier, fake_truth

STARTS = [Snippet(f"Number {i} sat.", f"Somebody got hurt, {i}.", f"book {i}") for i in range(40)]
ATTACK = Recombination([f"Prompt {i}." for i in range(30)], at_a_time=2)
BUDGET = Budget(9)


def fails(snippets: Sequence[Snippet]) -> list[bool]:
    return [fake_truth(snippet) is Answer.FAILURE for snippet in snippets]


def a_goal() -> Goal:
    return Goal(FakeClassifier(sensitivity=0.9), 0.5, fails)


def logged(file: Path, starts: Sequence[Snippet] = STARTS, **more: Any) -> list[Attempt]:
    settings: dict[str, Any] = {"attack": ATTACK, "goal": a_goal(), "budget": BUDGET, "seed": 3} | more
    attack, goal = settings.pop("attack"), settings.pop("goal")
    return run_logged(attack, goal, starts, file, **settings)


def untimed(attempts: Sequence[Attempt]) -> list[Attempt]:
    return [replace(attempt, seconds=0.0) for attempt in attempts]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "log.jsonl"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Attempt]:
    found = logged(tmp_path_factory.mktemp("undisturbed") / "log.jsonl")
    assert len({one.outcome for one in found}) >= 3  # there is something to compare
    return untimed(found)


# -- lines

texts = st.one_of(st.text(max_size=8), st.sampled_from(["\ud83d", "\n\r\u2028", "שָׁלוֹם 👩\u200d🔬", '"\\']))
snippets = st.builds(Snippet, texts, texts, texts)
numbers = st.one_of(st.none(), st.floats(0.0, 1.0))
attempts = st.builds(
    Attempt,
    attack=texts,
    start=snippets,
    outcome=st.sampled_from(Outcome),
    best=st.one_of(st.none(), snippets),
    start_score=numbers,
    score=numbers,
    queries=st.integers(0, 10**6),
    seconds=st.integers(0, 10**9).map(lambda n: round(n / 1e6, 6)),
    seed=st.integers(0, 2**63),
    refuted=st.integers(0, 99),
    confirmed=st.sampled_from([None, True, False]),
)


@given(attempts)
def test_a_line_holds_an_attempt(attempt: Attempt) -> None:
    row = json.loads(json.dumps(row_of_attempt(attempt)))
    again = attempt_of_row(row)
    assert again == attempt
    assert again.start.source == attempt.start.source
    assert again.id == attempt.id


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "WON"},
        {"outcome": None},
        {"start": "text"},
        {"start": {"prompt": "a"}},
        {"start": {"prompt": 1, "completion": "b"}},
        {"best": {"prompt": "a", "completion": None}},
        {"best": []},
        "attack",
        "confirmed",
        "queries",
    ],
)
def test_a_line_that_is_no_attempt(change: Any) -> None:
    row = row_of_attempt(Attempt("a", STARTS[0], Outcome.FOOLED, STARTS[1], 0.9, 0.1, 3, 0.5, 0))
    if isinstance(change, str):
        del row[change]
    else:
        row |= change
    with pytest.raises(DataError, match="line of an attack's log must be an attempt"):
        attempt_of_row(row)


# -- whole runs


def test_attempts_come_in_the_order_of_their_starts(file: Path, undisturbed: list[Attempt]) -> None:
    found = logged(file, [*STARTS, *STARTS[:3]])
    assert [one.start for one in found] == STARTS
    assert untimed(found) == undisturbed
    assert sorted(untimed(attempts_in(file)), key=lambda one: STARTS.index(one.start)) == undisturbed
    assert len(file.read_bytes().splitlines()) == 1 + len(STARTS)


def test_what_is_in_the_log_is_not_made_again(file: Path, undisturbed: list[Attempt]) -> None:
    first = logged(file, STARTS[:15])
    goal = a_goal()
    every = logged(file, goal=goal)
    assert every[:15] == [replace(one, seconds=round(one.seconds, 6)) for one in first]
    assert untimed(every) == undisturbed
    content, calls = file.read_bytes(), goal.classifier.calls  # type: ignore[attr-defined]
    assert logged(file, goal=goal) == [replace(one, seconds=round(one.seconds, 6)) for one in every]
    assert file.read_bytes() == content
    assert goal.classifier.calls == calls  # type: ignore[attr-defined]
    some = logged(file, [STARTS[7], STARTS[2]])
    assert [one.start for one in some] == [STARTS[7], STARTS[2]]


def test_starts_keep_what_was_known_of_them(file: Path) -> None:
    start = Snippet("Number 0 sat.", "Somebody got hurt, 0.", "book 0", {"stratum": 2})
    for _ in range(2):
        (found,) = logged(file, [start])
        assert dict(found.start.meta) == {"stratum": 2}


def test_no_starts(file: Path) -> None:
    assert logged(file, []) == []
    assert attempts_in(file) == []
    assert attempts_in(file.with_name("none.jsonl")) == []


def test_half_characters_are_kept(file: Path) -> None:
    starts = [
        Snippet("half \ud83d", "Somebody got hurt, \udc00."),
        Snippet("\u2028 \r", "Somebody got hurt, 🙂."),
    ]
    first = logged(file, starts)
    assert untimed(logged(file, starts)) == untimed(first)
    assert {one.start for one in attempts_in(file)} == set(starts)


def test_an_attack_of_somebody_else(file: Path) -> None:
    """Whose numbers are numpy's, and which takes its time."""

    @dataclass(frozen=True)
    class Foreign:
        name: str = "foreign"

        def run(
            self, goal: Goal, starts: Sequence[Snippet], *, budget: Budget, seed: int
        ) -> Iterator[Attempt]:
            for start in starts:
                score: Any = np.float32(0.25)
                queries: Any = np.int64(3)
                yield Attempt("foreign", start, Outcome.FOOLED, start, score, score, queries, score, seed)

    first = logged(file, attack=Foreign(), seed=np.int64(7))
    assert logged(file, attack=Foreign(), seed=7) == first
    assert logged(file.with_name("fake.jsonl"), STARTS[:3], attack=FakeAttack())


def test_a_score_that_is_no_number_is_told(file: Path) -> None:
    @dataclass(frozen=True)
    class Wrong:
        name: str = "wrong"
        score: Any = float("nan")

        def run(
            self, goal: Goal, starts: Sequence[Snippet], *, budget: Budget, seed: int
        ) -> Iterator[Attempt]:
            yield Attempt("wrong", starts[0], Outcome.FOOLED, starts[0], 0.5, self.score, 3, 0.1, seed)

    for score in (float("nan"), object()):
        with pytest.raises(DataError, match="line of an attack's log must be what JSON can hold"):
            logged(file, attack=Wrong(score=score))
    assert attempts_in(file) == []


# -- a log of something else


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed of the log .* must be 4, got 3. Delete"),
        ({"budget": Budget(10)}, "queries of the log .* must be 10, got 9"),
        ({"budget": Budget(9, 1.5)}, "budget seconds of the log .* must be 1.5, got None"),
        ({"attack": FakeAttack()}, "attack of the log .* must be 'numbered prompts', got 'recombination'"),
        ({"goal": Goal(FakeClassifier(), 0.4, fails)}, "threshold of the log .* must be 0.4, got 0.5"),
        ({"goal": Goal(FakeClassifier(), 0.5)}, "confirms of the log .* must be False, got True"),
        ({"about": {"round": 2}}, "round of the log .* must be 2, got 1"),
        ({"about": None}, "round of the log .* must be None, got 1"),
        ({"about": {"round": 1, "weights": "ab"}}, "weights of the log .* must be 'ab', got None"),
        (
            {"about": {"round": 2, "weights": "ab"}, "seed": 4},
            "seed, round, weights of the log .* must be 4, 2, 'ab', got 3, 1, None. Delete",
        ),
    ],
)
def test_a_log_of_other_settings_is_refused_and_stays(
    file: Path, change: dict[str, Any], message: str
) -> None:
    logged(file, STARTS[:3], about={"round": 1})
    with file.open("ab") as log:
        log.write(b'{"torn')
    content = file.read_bytes()
    with pytest.raises(ConfigError, match=message):
        logged(file, **({"about": {"round": 1}} | change))
    assert file.read_bytes() == content


def test_a_log_of_the_same_is_gone_on_with(file: Path, undisturbed: list[Attempt]) -> None:
    about = {"round": 1, "weights": "ab", "share": 0.1, "words": None}
    logged(file, STARTS[:3], about=about)
    assert untimed(logged(file, about=dict(reversed(about.items())))) == undisturbed
    assert len(file.read_bytes().splitlines()) == 1 + len(STARTS)


def test_what_the_log_says_itself_is_not_said_again(file: Path) -> None:
    with pytest.raises(ConfigError, match="about must not name what the log itself says, got threshold"):
        logged(file, about={"threshold": 0.9})
    assert not file.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"a note without an end",
        b"a note\nand its second line",
        b'{"a": "file of JSON"}',
        b'{"a": 1}\n{"b": 2}\n{"c": 3}',
        b'{"attack": "recombination"}\n',
        b"[1, 2]\n",
        b"\n\n",
        b"\x00\xff\xfe binary \x00",
    ],
)
def test_a_file_of_another_kind_is_refused_and_stays(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(DataError, match="must be"):
        logged(file)
    assert file.read_bytes() == content
    if b"\n" in content:
        with pytest.raises(DataError, match="must be"):
            attempts_in(file)


def test_an_empty_file_is_a_new_log(file: Path, undisturbed: list[Attempt]) -> None:
    file.parent.mkdir()
    file.touch()
    assert attempts_in(file) == []
    assert untimed(logged(file)) == undisturbed


def test_a_broken_line_within_a_log_names_its_place(file: Path) -> None:
    logged(file, STARTS[:4])
    lines = file.read_bytes().splitlines(keepends=True)
    for broken in (b'{"attack": "recomb\n', b'{"attack": "recombination"}\n'):
        file.write_bytes(b"".join([*lines[:2], broken, *lines[3:]]))
        for read in (logged, attempts_in):
            with pytest.raises(DataError, match=r"log\.jsonl, line 3"):
                read(file)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(ResourceError, match="must be writable"):
        logged(tmp_path / "a file" / "log.jsonl")


def test_what_an_attack_raises_is_not_taken_for_the_disks_fault(file: Path) -> None:
    def judge(snippets: Sequence[Snippet]) -> list[bool]:
        raise FileNotFoundError(2, "No such file", "the judge's")

    with pytest.raises(FileNotFoundError, match="the judge's"):
        logged(file, goal=Goal(FakeClassifier(sensitivity=0.5), 0.5, judge))


@dataclass
class Breaking(FakeClassifier):
    """Raises for every text from a call on."""

    good: int = 0

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        if self.calls >= self.good:
            self.calls += 1
            raise RuntimeError("CUDA out of memory")
        return super().scores(snippets)


@pytest.mark.parametrize("good", [0, 1, 3])
def test_a_broken_classifier_leaves_no_attempt_and_a_mended_one_goes_on(
    file: Path, undisturbed: list[Attempt], good: int
) -> None:
    with pytest.raises(ScoringError, match=r"classifier must give scores, got none.* CUDA out of memory"):
        logged(file, goal=Goal(Breaking(sensitivity=0.9, good=good), 0.5, fails))
    some = untimed(attempts_in(file))
    assert {one.start: one for one in some}.items() <= {one.start: one for one in undisturbed}.items()
    assert bool(some) == (good > 0)
    assert not any(one.outcome == Outcome.UNSCORED for one in some)
    assert untimed(logged(file)) == undisturbed


# -- killed


@pytest.mark.parametrize("cut", [1, 2, 40, 10**6])
def test_a_torn_last_line_is_cut_off(file: Path, undisturbed: list[Attempt], cut: int) -> None:
    """Wherever it was torn: after a byte of it, or but for the end of the line."""
    logged(file, STARTS[:20])
    lines = file.read_bytes().splitlines(keepends=True)
    torn = lines[-1][: min(cut, len(lines[-1]) - 1)]
    file.write_bytes(b"".join(lines[:-1]) + torn)
    assert len(attempts_in(file)) == 19  # another process may be writing
    assert untimed(logged(file)) == undisturbed
    assert len(file.read_bytes().splitlines()) == 1 + len(STARTS)
    assert len(attempts_in(file)) == len({one.start for one in attempts_in(file)}) == len(STARTS)


def test_a_first_line_that_was_torn_is_written_anew(file: Path, undisturbed: list[Attempt]) -> None:
    logged(file, [])
    first = file.read_bytes()
    for cut in (1, 10, len(first) - 1):
        file.write_bytes(first[:cut])
        assert attempts_in(file) == []
        logged(file, [])
        assert file.read_bytes() == first
    assert untimed(logged(file)) == undisturbed


CHILD = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
from test_logbook import ATTACK, BUDGET, STARTS, FakeClassifier, Goal, fails, run_logged

class Sticking(FakeClassifier):
    def scores(self, snippets):
        if self.calls >= {calls}:
            Path({told!r}).touch()
            time.sleep(600)
        return super().scores(snippets)

run_logged(ATTACK, Goal(Sticking(sensitivity=0.9), 0.5, fails), STARTS, Path({file!r}), budget=BUDGET, seed=3)
"""


@dataclass
class Child:
    """A process that attacks, and sticks at a call of its classifier."""

    file: Path
    calls: int
    process: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Child:
        told = self.file.with_suffix(f".{self.calls}.told")
        here = Path(__file__).parent
        code = CHILD.format(
            tests=str(here.parent), here=str(here), told=str(told), file=str(self.file), calls=self.calls
        )
        self.process = subprocess.Popen([sys.executable, "-c", code])
        while not told.exists():
            assert self.process.poll() is None, "it ended before it stuck"
            time.sleep(0.01)
        return self

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def test_a_killed_attack_goes_on(file: Path, undisturbed: list[Attempt]) -> None:
    file.parent.mkdir()
    with Child(file, calls=3) as child:
        with pytest.raises(LockedError, match="must have one writer, got one that writes now"):
            logged(file)
        child.kill()
    before = file.read_bytes()
    some = attempts_in(file)
    assert 0 < len(some) < len(STARTS)
    found = logged(file)
    assert untimed(found) == undisturbed
    assert file.read_bytes().startswith(before)
    every = attempts_in(file)
    assert every[: len(some)] == some
    assert len(every) == len({one.start for one in every}) == len(STARTS)


# -- progress


def test_progress_is_shown_if_asked_for(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = logged(file, STARTS[:10])
    assert capsys.readouterr() == ("", "")
    assert untimed(logged(file, STARTS[:20], progress=True))[:10] == untimed(first)
    shown = "".join(capsys.readouterr())
    assert "recombination" in shown
    assert "20/20" in shown
    assert f"fooled {sum(one.fooled for one in logged(file, STARTS[:20]))}" in shown
    logged(file, STARTS[:5], progress=True)
    shown = "".join(capsys.readouterr())
    assert "5/5" in shown
    assert f"fooled {sum(one.fooled for one in logged(file, STARTS[:5]))}" in shown


# -- labels


def test_labels_make_a_success_or_none() -> None:
    plain = Attempt("a", STARTS[0], Outcome.FOOLED, Snippet("p", "c"), 0.9, 0.1, 3, 0.5, 0)
    assert (plain.fooled, plain.confirmed, plain.succeeded) == (True, None, False)
    found = {
        answer: confirmed_by([plain], [Judgment(plain.best.id, answer)])[0]  # type: ignore[union-attr]
        for answer in Answer
    }
    assert {answer: one.confirmed for answer, one in found.items()} == {
        Answer.FAILURE: True,
        Answer.OK: False,
        Answer.UNSURE: None,
    }
    assert [one.succeeded for one in found.values()] == [True, False, False]
    assert confirmed_by([plain], [Judgment(STARTS[0].id, Answer.FAILURE)]) == [plain]


def test_labels_say_nothing_of_what_did_not_fool() -> None:
    best = Snippet("p", "c")
    for outcome in set(Outcome) - {Outcome.FOOLED}:
        one = Attempt("a", STARTS[0], outcome, best, 0.9, 0.1, 3, 0.5, 0)
        assert confirmed_by([one], [Judgment(best.id, Answer.FAILURE)]) == [one]
        assert not one.succeeded
        assert not replace(one, confirmed=True).succeeded


def test_a_label_outweighs_the_attacks_own_judge() -> None:
    best = Snippet("p", "c")
    one = Attempt("a", STARTS[0], Outcome.FOOLED, best, 0.9, 0.1, 3, 0.5, 0, confirmed=True)
    for answer, expected in ((Answer.OK, False), (Answer.UNSURE, None), (Answer.FAILURE, True)):
        assert confirmed_by([one], [Judgment(best.id, answer)])[0].confirmed is expected
    assert confirmed_by([one], [])[0].confirmed is True
    assert confirmed_by([], []) == []
