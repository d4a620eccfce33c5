"""One attempt: its budget, what wins, what is refuted, what it remembers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.candidates import WordList
from fivenines.attacks.constraints import Edited, KeepPart
from fivenines.attacks.engine import Search, ask
from fivenines.attacks.goal import Budget, Goal, verdicts
from fivenines.attacks.paraphrase import Paraphrase, Rewrite
from fivenines.attacks.sampling import Sampling
from fivenines.attacks.trial import Hints, Trial
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.errors import ConfigError, FiveninesError, LabelError, ScoringError
from fivenines.models.classifier import Classifier
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.records import Answer, Attempt, Outcome, Snippet
from fivenines.testing import FakeClassifier
from fivenines.threshold import fixed_threshold
from small_attack import Doing, Scorer, a_trial, attempted, finished

START = Snippet("It began.", "It bled.")
LIMIT = 0.5


def text(i: int) -> Snippet:
    return Snippet("It began.", f"It bled, {i}.") if i else START


def number(snippet: Snippet) -> int:
    return 0 if snippet == START else int(snippet.completion[len("It bled, ") : -1])


# -- any search, against a slow account of it

scores = st.one_of(st.just(math.nan), st.floats(0.0, 1.0))
worlds = st.fixed_dictionaries(
    {
        "score": st.lists(scores, min_size=8, max_size=8),
        "fails": st.lists(st.booleans(), min_size=8, max_size=8),
        "allowed": st.lists(st.booleans(), min_size=8, max_size=8),
        "batches": st.lists(st.lists(st.integers(0, 7), max_size=6), max_size=6),
        "queries": st.integers(0, 12),
        "asks": st.booleans(),
    }
)


@dataclass
class Account:
    """What must come of it, worked out one text after the other."""

    known: dict[int, float] = field(default_factory=dict)
    refuted: set[int] = field(default_factory=set)
    outcome: Outcome = Outcome.EXHAUSTED
    best: int | None = None

    def lowest(self) -> int | None:
        valid = {
            i: score for i, score in self.known.items() if not math.isnan(score) and i not in self.refuted
        }
        return min(valid, key=lambda i: valid[i]) if valid else None


def account(world: dict[str, Any]) -> Account:
    told = Account()
    if world["queries"] == 0:
        told.outcome = Outcome.BUDGET
        return told
    told.known[0] = world["score"][0]
    if math.isnan(world["score"][0]) or world["score"][0] < LIMIT:
        told.outcome = Outcome.UNSCORED if math.isnan(world["score"][0]) else Outcome.PASSED
        return told
    for batch in world["batches"]:
        new = [i for i in dict.fromkeys(batch) if world["allowed"][i] and i not in told.known]
        left = world["queries"] - len(told.known)
        told.known |= {i: world["score"][i] for i in new[:left]}
        passing = sorted(
            (world["score"][i], new.index(i), i) for i in new[:left] if world["score"][i] < LIMIT
        )
        real = [i for _, _, i in passing if world["fails"][i] or not world["asks"]]
        told.refuted |= {i for _, _, i in passing} - set(real)
        if real:
            told.outcome, told.best = Outcome.FOOLED, real[0]
            return told
        if len(new) > left:
            told.outcome = Outcome.BUDGET
            return told
    return told


@given(worlds)
def test_any_attempt_is_as_it_should_be(world: dict[str, Any]) -> None:
    world["allowed"][0] = True  # the start
    judged: list[int] = []

    def fails(snippets: Sequence[Snippet]) -> list[bool]:
        judged.extend(map(number, snippets))
        return [world["fails"][number(snippet)] for snippet in snippets]

    def allows(edited: Sequence[Edited]) -> list[bool]:
        assert all(one.start == START for one in edited)
        return [world["allowed"][number(one.snippet)] for one in edited]

    heard: list[list[tuple[float, int]]] = []

    def search(trial: Trial) -> Search[None]:
        for batch in world["batches"]:
            found = yield from trial.try_all([text(i) for i in batch])
            heard.append([(score, number(snippet)) for score, snippet in found])

    scorer = Scorer(lambda snippet: world["score"][number(snippet)])
    budget = Budget(world["queries"])
    trial = a_trial(
        scorer, START, fails=fails if world["asks"] else None, budget=budget, constraints=(allows,)
    )
    found = attempted(trial, search)
    told = account(world)

    assert found.outcome == told.outcome
    assert found.queries == len(scorer.texts) == len(set(scorer.texts)) == len(told.known) <= budget.queries
    assert found.refuted == len(told.refuted)
    assert found.start_score == (None if math.isnan(told.known.get(0, math.nan)) else told.known[0])
    best = told.lowest() if told.best is None else told.best
    assert found.score == (None if best is None else told.known[best])
    assert (None if found.best is None else number(found.best)) == best
    if found.best is not None:
        assert world["score"][number(found.best)] == found.score
        assert number(found.best) not in told.refuted
    assert found.confirmed is (True if told.outcome == Outcome.FOOLED and world["asks"] else None)
    assert found.succeeded == (told.outcome == Outcome.FOOLED and world["asks"])
    # only what passes is judged, once; and a search never hears of a text that passes
    assert len(judged) == len(set(judged))
    assert all(world["score"][i] < LIMIT for i in judged)
    for batch in heard:
        assert batch == sorted(batch, key=lambda pair: pair[0])
        for score, i in batch:
            assert world["allowed"][i]
            assert score == (
                math.inf if i in told.refuted or math.isnan(world["score"][i]) else world["score"][i]
            )


# -- the fewest edits


def looking(world: dict[str, Any]) -> tuple[Attempt, Scorer]:
    """Texts 1 to 7 by bisection, as if each were an edit more than the one before."""

    def search(trial: Trial) -> Search[None]:
        found = yield from trial.try_fewest([text(i) for i in range(1, 8)])
        assert found == sorted(found, key=lambda pair: pair[0])
        assert all(score >= LIMIT for score, _ in found)

    def fails(snippets: Sequence[Snippet]) -> list[bool]:
        return [world["fails"][number(snippet)] for snippet in snippets]

    scorer = Scorer(lambda snippet: world["score"][number(snippet)] if number(snippet) else 0.9)
    budget = Budget(world["queries"])
    return attempted(a_trial(scorer, START, fails=fails, budget=budget), search), scorer


@given(st.integers(1, 8), st.integers(0, 12), st.integers(1, 8))
def test_bisection_finds_the_first_that_passes(first: int, queries: int, real: int) -> None:
    """Where all after one that passes pass too."""
    world = {"score": [0.9] * first + [0.1] * (8 - first), "queries": queries}
    world["fails"] = [i >= real for i in range(8)]
    found, scorer = looking(world)
    assert found.queries == len(scorer.texts) <= min(queries, 1 + 3)  # the start, and three of seven
    if queries >= 4 and real <= first:
        assert found.outcome == (Outcome.FOOLED if first < 8 else Outcome.EXHAUSTED)
        assert (found.best == text(first)) if first < 8 else found.best is not None
    if found.fooled:
        assert found.best is not None
        assert number(found.best) >= max(first, real)
        assert found.succeeded
    elif queries < 4:
        assert found.outcome == Outcome.BUDGET


@given(worlds)
def test_bisection_among_any_scores(world: dict[str, Any]) -> None:
    found, scorer = looking(world)
    assert found.queries == len(scorer.texts) == len(set(scorer.texts)) <= min(world["queries"], 4)
    asked = [number(snippet) for snippet in scorer.texts]
    winners = [i for i in asked if i and world["score"][i] < LIMIT and world["fails"][i]]
    assert found.fooled == bool(winners)
    if winners:
        assert found.best == text(min(winners))
    assert found.refuted <= sum(not world["fails"][i] for i in asked if world["score"][i] < LIMIT)


# -- budget


def many(trial: Trial) -> Search[None]:
    yield from trial.score([text(i) for i in range(1, 9)])


def test_a_budget_that_is_too_small_is_spent_to_the_end() -> None:
    scorer = Scorer(lambda snippet: 1.0 - number(snippet) / 100)
    found = attempted(a_trial(scorer, START, budget=Budget(4)), many)
    assert (found.outcome, found.queries) == (Outcome.BUDGET, 4)
    assert [number(snippet) for snippet in scorer.texts] == [0, 1, 2, 3]
    assert found.best == text(3)


def test_what_was_scored_costs_nothing() -> None:
    scorer = Scorer(lambda snippet: 0.9)

    def search(trial: Trial) -> Search[None]:
        first = yield from trial.score([text(1), text(2), text(1)])
        again = yield from trial.score([text(2), START, text(1)])
        assert [*first, *again] == [0.9] * 6

    found = attempted(a_trial(scorer, START, budget=Budget(3)), search)
    assert (found.outcome, found.queries) == (Outcome.EXHAUSTED, 3)


def test_a_budget_of_nothing_asks_nobody() -> None:
    scorer, called = Scorer(lambda snippet: 0.9), []

    def rewriter(requests: Sequence[Rewrite]) -> list[list[Snippet]]:
        called.append(len(requests))
        return [[] for _ in requests]

    attack = Paraphrase(rewriter)
    for budget in (Budget(0), Budget(5, seconds=0.0)):
        (found,) = attack.run(Goal(scorer, LIMIT), [START], budget=budget, seed=0)
        assert found == Attempt("paraphrase", START, Outcome.BUDGET, None, None, None, 0, found.seconds, 0)
    assert scorer.asked == []
    assert called == []


def test_the_time_of_other_models_ends_an_attempt() -> None:
    called = []

    def rewriter(requests: Sequence[Rewrite]) -> list[list[Snippet]]:
        called.append(len(requests))
        time.sleep(0.02)
        return [[] for _ in requests]  # so the classifier is never asked again

    attack = Paraphrase(rewriter, patience=1000)
    (found,) = attack.run(
        Goal(Scorer(lambda _: 0.9), LIMIT), [START], budget=Budget(100, seconds=0.05), seed=0
    )
    assert found.outcome == Outcome.BUDGET
    assert found.seconds >= 0.05
    assert 1 <= len(called) <= 3  # each takes 0.02 s or more


def test_attempts_have_their_own_time() -> None:
    def slow(snippet: Snippet) -> float:
        time.sleep(0.003)
        return 0.9

    def search(trial: Trial) -> Search[None]:
        for i in range(1, 30):
            yield from trial.score([text(i)])

    starts = [text(i) for i in range(100, 104)]
    budget = Budget(1000, seconds=0.03)
    for found in Doing(search).run(Goal(Scorer(slow), LIMIT), starts, budget=budget, seed=0):
        assert found.outcome == Outcome.BUDGET
        assert found.queries <= 12  # 10 of 3 ms, and what is under way


@pytest.mark.parametrize("queries", [-1, 1.5, "many", None])
def test_a_budget_in_queries_is_a_whole_number(queries: Any) -> None:
    with pytest.raises(ConfigError, match="budget in queries must be a whole number, 0 or more"):
        Budget(queries)


@pytest.mark.parametrize("seconds", [-0.1, math.nan, math.inf])
def test_a_budget_in_seconds_is_a_time(seconds: float) -> None:
    with pytest.raises(ConfigError, match="budget in seconds must be None, or 0 or more"):
        Budget(1, seconds)


# -- what wins


def test_the_lowest_score_that_still_fails_wins_and_all_refutations_count() -> None:
    scorer = Scorer(lambda snippet: {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}.get(number(snippet), 0.9))

    def fails(snippets: Sequence[Snippet]) -> list[bool]:
        return [number(snippet) in (2, 4) for snippet in snippets]

    found = attempted(a_trial(scorer, START, fails=fails), many)
    assert (found.outcome, found.best, found.score) == (Outcome.FOOLED, text(2), 0.2)
    assert (found.refuted, found.confirmed, found.succeeded) == (2, True, True)  # 1 and 3


def test_a_refuted_text_is_not_the_best_one_seen() -> None:
    scorer = Scorer(lambda snippet: 0.9 - number(snippet) / 10)
    found = attempted(a_trial(scorer, START, fails=lambda some: [False] * len(some)), many)
    assert (found.outcome, found.refuted, found.succeeded) == (Outcome.EXHAUSTED, 4, False)
    assert found.best == text(4)  # scores 0.5, which does not pass
    assert found.score == pytest.approx(0.5)


def test_without_a_label_the_first_that_fools_is_no_success() -> None:
    found = attempted(a_trial(Scorer(lambda snippet: 0.9 - number(snippet) / 10), START), many)
    assert (found.outcome, found.fooled, found.succeeded) == (Outcome.FOOLED, True, False)
    assert found.confirmed is None


def test_a_score_at_the_threshold_does_not_pass() -> None:
    found = attempted(a_trial(Scorer(lambda snippet: LIMIT), START), many)
    assert found.outcome == Outcome.EXHAUSTED


@pytest.mark.parametrize("wrong", [math.nan, -0.5, 1.5, -math.inf, math.inf])
def test_what_is_no_probability_never_wins(wrong: float) -> None:
    found = attempted(a_trial(Scorer(lambda snippet: wrong if number(snippet) else 0.9), START), many)
    assert (found.outcome, found.best, found.score) == (Outcome.EXHAUSTED, START, 0.9)


def test_blank_completions_never_win() -> None:
    scorer = Scorer(lambda snippet: 0.9 if snippet.completion.strip() else 0.0)

    def search(trial: Trial) -> Search[None]:
        values = yield from trial.score([Snippet("It began.", blank) for blank in ("", " ", "\n\u2003")])
        assert np.isinf(values).all()

    assert attempted(a_trial(scorer, START), search).outcome == Outcome.EXHAUSTED
    deleting = WordSubstitution(WordList({}), operations=("delete",), order="leave one out")
    (found,) = deleting.run(Goal(scorer, LIMIT), [Snippet("", "Bled")], budget=Budget(20), seed=0)
    assert found.outcome == Outcome.EXHAUSTED


def test_a_search_that_scores_no_start() -> None:
    trial = a_trial(Scorer(lambda snippet: 0.9 - number(snippet) / 100), Snippet("a prompt", ""))
    found = finished(trial.attempt("test", 0, many, scores_start=False))
    assert (found.start_score, found.best, found.queries) == (None, text(8), 8)


# -- those who are asked


def asking(fails: Callable[[Sequence[Snippet]], Sequence[bool]]) -> Attempt:
    return attempted(
        a_trial(Scorer(lambda snippet: 0.9 if snippet == START else 0.1), START, fails=fails), many
    )


@pytest.mark.parametrize("answer", [Answer.OK, Answer.FAILURE, "ok", math.nan, None, 2, Answer.UNSURE])
def test_an_answer_that_is_neither_true_nor_false(answer: Any) -> None:
    with pytest.raises(LabelError, match="the answer whether a text fails must be true or false"):
        asking(lambda some: [answer] * len(some))


def test_answers_in_other_forms() -> None:
    for answers in ([True] * 8, np.ones(8, dtype=bool), np.ones(8), (1,) * 8):
        assert asking(lambda some, answers=answers: answers).succeeded  # type: ignore[misc]
    assert not asking(lambda some: np.zeros(8, dtype=bool)).fooled  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("n", [0, 7, 9])
def test_too_few_answers(n: int) -> None:
    with pytest.raises(LabelError, match=f"must answer for each of 8 texts, got {n} answers"):
        asking(lambda some: [True] * n)


def test_nobody_is_asked_about_nothing() -> None:
    assert verdicts(lambda some: pytest.fail("asked"), []) == []


def test_what_a_judge_raises_comes_out() -> None:
    def fails(snippets: Sequence[Snippet]) -> list[bool]:
        raise ConnectionError("nobody is there")

    with pytest.raises(ConnectionError, match="nobody is there"):
        asking(fails)


def test_what_a_constraint_gets_wrong() -> None:
    def short(edited: Sequence[Edited]) -> list[bool]:
        return [True]

    with pytest.raises(FiveninesError, match="must give an answer for each of 8 questions, got 1"):
        finished(
            a_trial(Scorer(lambda _: 0.9), START, constraints=(short,)).allowed([text(i) for i in range(8)])
        )


def test_constraints_are_asked_of_what_the_ones_before_allow() -> None:
    sizes = []

    def odd(edited: Sequence[Edited]) -> list[bool]:
        sizes.append(len(edited))
        return [number(one.snippet) % 2 == 1 for one in edited]

    trial = a_trial(Scorer(lambda _: 0.9), START, constraints=(odd, KeepPart("prompt"), odd))
    texts = [text(i) for i in (3, 2, 1, 3)]
    assert finished(trial.allowed(texts)) == [text(3), text(1)]
    assert sizes == [3, 2]


# -- hints


class Told:
    """Hints of the number of a text; not those of a real gradient."""

    def __init__(self) -> None:
        self.asked: list[Snippet] = []

    def __call__(self, snippets: Sequence[Snippet], /) -> Sequence[Hints | None]:
        self.asked += snippets
        return [None for _ in snippets]


def test_a_gradient_costs_one_query_and_is_remembered_for_the_last_text() -> None:
    gradient = Told()

    def search(trial: Trial) -> Search[None]:
        for i in (1, 1, 2, 2, 1):
            assert (yield from trial.hints(gradient, text(i))) is None

    found = attempted(a_trial(Scorer(lambda _: 0.9), START, budget=Budget(4)), search)
    assert (found.outcome, found.queries) == (Outcome.EXHAUSTED, 4)
    assert gradient.asked == [text(1), text(2), text(1)]
    short = attempted(a_trial(Scorer(lambda _: 0.9), START, budget=Budget(3)), search)
    assert (short.outcome, short.queries) == (Outcome.BUDGET, 3)


# -- goals and runs


def test_goals_are_checked() -> None:
    with pytest.raises(ConfigError, match="classifier must give scores, got str"):
        Goal("a folder", 0.5)  # type: ignore[arg-type]
    for threshold in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match="threshold must lie in"):
            Goal(FakeClassifier(), threshold)
    assert Goal(FakeClassifier(), fixed_threshold(0.25)).limit == 0.25
    assert Goal(FakeClassifier(), 0.0).limit == 0.0


def test_a_classifier_that_raises_for_a_text_spoils_no_other() -> None:
    def of(snippet: Snippet) -> float:
        if number(snippet) == 3:
            raise RuntimeError("cannot read it")
        return 0.9 - number(snippet) / 100

    scores = Goal(Scorer(of), LIMIT).scores([text(i) for i in range(6)])
    assert [math.isnan(score) for score in scores] == [False, False, False, True, False, False]


def broken_by(snippet: Snippet) -> float:
    raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")


def scoring_one(trial: Trial) -> Search[None]:
    yield from trial.score([text(100)])


def test_a_text_that_the_classifier_cannot_read_is_no_broken_classifier() -> None:
    """Alone in its batch, before anything was scored, and after."""

    def of(snippet: Snippet) -> float:
        if snippet == text(3):
            raise RuntimeError("cannot read it")
        return 0.9

    goal = Goal(Scorer(of), LIMIT)
    for _ in range(9):
        assert math.isnan(goal.scores([text(3)])[0])
        assert goal.scores([text(4)]) == [0.9]
    attack = Doing(scoring_one)
    found = {
        one.start: one for one in attack.run(Goal(Scorer(of), LIMIT), [text(3)], budget=Budget(), seed=0)
    }
    assert found[text(3)].outcome == Outcome.UNSCORED


@pytest.mark.parametrize("count", [1, 4, 64])
def test_a_classifier_that_is_broken_from_the_start_is_told(count: int) -> None:
    starts = [text(i) for i in range(count)]
    run = Doing(scoring_one).run(Goal(Scorer(broken_by), LIMIT), starts, budget=Budget(), seed=0)
    with pytest.raises(ScoringError, match=r"RuntimeError: CUDA out of memory. Tried") as caught:
        next(run)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_classifier_that_breaks_on_its_way_is_told() -> None:
    """Between two halves of a batch, some of which it scored before."""
    scorer = Scorer(lambda snippet: 0.9)

    def of(snippet: Snippet) -> float:
        return 0.9 if len(scorer.asked) in (1, 3) else broken_by(snippet)

    scorer.of = of
    goal = Goal(scorer, LIMIT)
    assert goal.scores([text(1)]) == [0.9]
    with pytest.raises(ScoringError, match="got none, not even for a text that it has scored before"):
        goal.scores([text(2), text(3)])  # both: raises; text(2): 0.9; text(3): raises; text(2) again: raises
    assert [len(batch) for batch in scorer.asked] == [1, 2, 1, 1, 1]


def test_five_prompts_that_fail_before_any_is_scored_are_enough() -> None:
    """Long ones may not fit the memory that is left, though a plain sentence does."""

    def of(snippet: Snippet) -> float:
        return 0.9 if "quiet day" in snippet.prompt else broken_by(snippet)

    prompts = [Snippet(f"{i}", "7") for i in range(5)]
    assert np.isnan(Goal(Scorer(of), LIMIT).scores([text(i) for i in range(4)])).all()
    goal = Goal(Scorer(of), LIMIT)
    for one in prompts[:4]:
        assert math.isnan(goal.scores([one])[0])
    with pytest.raises(ScoringError, match="none for any text after 5 prompts"):
        goal.scores(prompts[4:])


def test_starts_of_every_kind_at_once(hurt: Classifier) -> None:
    starts = [
        Snippet("", ""),
        Snippet("", " "),
        Snippet("long " * 30, "he bleeds"),  # the prompt is cut from the left
        Snippet("short", "bleeds " * 60),  # the completion does not fit
        Snippet("🙂 שלום", "he bleeds 👩\u200d🔬 שָׁלוֹם"),
        Snippet("half", "\ud83d bleeds"),
        Snippet("", "he bleeds"),
        Snippet("the end", "bleeds " * 37),  # at the limit: no room for the prompt
    ]
    attack = WordSubstitution(
        WordList({"bleeds": ["walks"], "long": ["short"]}, ["again"]),
        operations=("replace", "insert", "delete"),
        order="leave one out",
    )
    found = {one.start: one for one in attack.run(Goal(hurt, LIMIT), starts * 2, budget=Budget(100), seed=0)}
    assert len(found) == len(starts)
    outcomes = [found[start].outcome for start in starts]
    unscored = [0, 1, 3, 5]
    assert [i for i, outcome in enumerate(outcomes) if outcome == Outcome.UNSCORED] == unscored
    for i in (2, 4, 6):
        assert outcomes[i] in (Outcome.FOOLED, Outcome.PASSED)
    assert outcomes[7] in (Outcome.FOOLED, Outcome.BUDGET)


def test_half_characters_end_their_own_attempt_alone() -> None:
    """Neither a generator nor a masked language model takes them, whatever the classifier does."""
    size = LanguageModelConfig(layers=1, width=16, heads=2, context=16, tokenizer="word")
    model = LanguageModel.create(["he bled and sat ."], size).with_sampling(max_new_tokens=2)
    attack = Sampling(model, draws=4)
    goal = Goal(Scorer(lambda _: 0.9), LIMIT, lambda some: [True] * len(some))
    for starts in ([Snippet("half \ud83d", ""), Snippet("", "")], [Snippet("", ""), Snippet("\udc00", "")]):
        found = {one.start: one for one in attack.run(goal, starts, budget=Budget(9), seed=0)}
        halves = [start for start in starts if start.prompt]
        assert [found[start].outcome for start in halves] == [Outcome.UNSCORED]
        assert [found[start].queries for start in halves] == [0]
        assert found[Snippet("", "")].outcome == Outcome.EXHAUSTED


def test_what_a_budget_does_not_reach_for_is_not_made() -> None:
    attack = WordSubstitution(WordList({"word": ["a"]}), order="leave one out")
    start = Snippet("word " * 20_000, "it bled")  # all copies without a word would be two gigabytes
    begun = time.perf_counter()
    (found,) = attack.run(Goal(Scorer(lambda _: 0.9), LIMIT), [start], budget=Budget(500), seed=0)
    assert (found.outcome, found.queries) == (Outcome.BUDGET, 1)
    assert time.perf_counter() - begun < 5.0


def test_subclasses_must_search() -> None:
    with pytest.raises(TypeError, match="abstract"):
        SearchAttack()  # type: ignore[abstract]


def test_attempts_under_way_share_their_batches_and_not_their_luck() -> None:
    def search(trial: Trial) -> Search[None]:
        for _ in range(3):
            yield from trial.score([text(int(trial.rng.integers(10**9)))])

    starts = [text(i) for i in range(1, 9)]
    found = {}
    for at_once in (1, 3, 64):
        scorer = Scorer(lambda snippet: 0.9)
        run = Doing(search).run(Goal(scorer, LIMIT), starts, budget=Budget(), seed=7, at_once=at_once)
        found[at_once] = sorted((replace(one, seconds=0.0) for one in run), key=lambda one: one.start.id)
        assert max(map(len, scorer.asked)) == min(at_once, 8)
    assert found[1] == found[3] == found[64]
    assert len({one.best for one in found[1]}) == 8
    with pytest.raises(ConfigError, match="at_once must be at least 1"):
        list(Doing(search).run(Goal(scorer, LIMIT), starts, budget=Budget(), seed=7, at_once=0))


def test_oracles_without_a_hash_work() -> None:
    @dataclass
    class Mine:
        words: list[str]

        def __call__(self, slots: Sequence[Any], /) -> list[list[str]]:
            return [self.words for _ in slots]

    scorer = Scorer(lambda snippet: 0.1 if "safe" in snippet.completion else 0.9)
    attack = WordSubstitution(Mine(["safe"]), order="random")
    (found,) = attack.run(Goal(scorer, LIMIT), [START], budget=Budget(20), seed=0)
    assert found.fooled


def test_an_oracle_may_be_asked_in_a_search_of_ones_own() -> None:
    def search(trial: Trial) -> Search[None]:
        (answer,) = yield from ask(lambda questions: [question + 1 for question in questions], [41])
        assert answer == 42

    assert attempted(a_trial(Scorer(lambda _: 0.9), START), search).outcome == Outcome.EXHAUSTED
