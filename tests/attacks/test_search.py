"""Strategies on landscapes that are known: a planted optimum, blind alleys, texts that must not be built on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.candidates import WordList
from fivenines.attacks.constraints import Constraint, Edited, KeepWords
from fivenines.attacks.engine import Search
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.search import Beam, BestFirst, Foreseen, Greedy, Strategy, Together
from fivenines.attacks.trial import Trial
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.attacks.words import Place, part_of, place_in, places_of, replace_at, words_changed, words_of
from fivenines.errors import ConfigError
from fivenines.records import Attempt, Outcome, Snippet
from small_attack import Scorer

# -- a classifier that is a sum over words, and its exact gradient

LETTERS = "abcdefgh"


@dataclass(eq=False)
class Linear(Scorer):
    """The margin is the sum of the words' weights."""

    of: Any = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.of = lambda snippet: 1.0 / (1.0 + math.exp(-self.margin(snippet)))

    def margin(self, snippet: Snippet) -> float:
        return sum(self.weights.get(word, 0.0) for word in snippet.completion.split())

    def gradient(self, snippets: Sequence[Snippet], /) -> list[Slope]:
        return [Slope(snippet, self.weights) for snippet in snippets]


@dataclass
class Slope:
    """Exact, since the margin is linear."""

    snippet: Snippet
    weights: Mapping[str, float]

    def importance(self, place: Place) -> float:
        return self.weights.get(part_of(self.snippet, place.part)[place.start : place.end], 0.0)

    def gains(self, place: Place, words: Sequence[str]) -> NDArray[np.float64]:
        return np.array([self.weights.get(word, 0.0) - self.importance(place) for word in words])

    def best(self, places: Sequence[Place], k: int) -> list[list[str]]:
        lowest = sorted(self.weights, key=lambda word: self.weights[word])
        return [lowest[:k] for _ in places]


def attempt(attack: SearchAttack, scorer: Scorer, start: Snippet, limit: float = 0.0, **more: Any) -> Attempt:
    budget = Budget(more.pop("queries", 5000))
    (found,) = attack.run(Goal(scorer, limit, more.pop("fails", None)), [start], budget=budget, seed=0)
    return found


def lettered(strategy: Strategy, scorer: Linear, **more: Any) -> WordSubstitution:
    """Any letter may stand for any other of its class."""
    words = WordList.of_classes([list("abcd"), list("efgh")])
    return WordSubstitution(words, scorer.gradient, strategy, parts=("completion",), **more)


weights = st.fixed_dictionaries({letter: st.floats(-2.0, 2.0) for letter in LETTERS})
starts = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=5).map(
    lambda words: Snippet("", " ".join(words))
)
STRATEGIES: list[Strategy] = [
    Greedy(),
    Greedy(places=3),
    Beam(width=2, places=5, depth=20),
    BestFirst(places=5, expansions=200),
    Together(),
    Together(steps=1, growth=3.0),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@given(weights=weights, start=starts)
def test_a_planted_optimum_is_found(strategy: Strategy, weights: dict[str, float], start: Snippet) -> None:
    """Where every word counts for itself, and nothing passes."""
    scorer = Linear(weights=weights)
    classes = {letter: group for group in ("abcd", "efgh") for letter in group}
    optimum = sum(min(weights[other] for other in classes[word]) for word in start.completion.split())
    found = attempt(lettered(strategy, scorer), scorer, start)
    assert found.outcome == Outcome.EXHAUSTED
    assert found.best is not None
    assert scorer.margin(found.best) == pytest.approx(optimum, abs=1e-6)
    assert found.score == min(map(scorer.of, scorer.texts))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@given(weights=weights, start=starts, limit=st.floats(0.0, 1.0), queries=st.integers(0, 30))
def test_every_search_ends_within_its_budget(
    strategy: Strategy, weights: dict[str, float], start: Snippet, limit: float, queries: int
) -> None:
    scorer = Linear(weights=weights)
    attack = lettered(strategy, scorer, operations=("replace", "delete"), constraints=(KeepWords(["a"]),))
    found = attempt(attack, scorer, start, limit, queries=queries)
    assert len(scorer.texts) <= found.queries <= queries
    if found.fooled:
        assert found.best is not None
        assert scorer.of(found.best) < limit
        assert found.best.completion.split().count("a") == start.completion.split().count("a")


# -- any landscape: a graph of texts


@dataclass(frozen=True, eq=False)
class Graph(SearchAttack):
    """Texts are numbers; an edit is a step along an edge."""

    edges: Mapping[int, Sequence[int]]
    strategy: Strategy
    constraints: tuple[Constraint, ...] = ()
    name: str = "graph"

    def search(self, trial: Trial) -> Search[None]:
        yield from self.strategy.run(trial, self)

    def places(self, trial: Trial, text: Snippet) -> Search[Sequence[Place]]:
        """A place for each edge."""
        return [Place("prompt", i, i) for i, _ in enumerate(self.edges.get(number(text), ()))]
        yield

    def edits(
        self, trial: Trial, text: Snippet, places: Sequence[Place]
    ) -> Search[Sequence[Sequence[Snippet]]]:
        return [[node(self.edges[number(text)][place.start])] for place in places]
        yield

    def foreseen(self, trial: Trial, text: Snippet) -> Search[Sequence[Foreseen]]:
        return []
        yield


def node(i: int) -> Snippet:
    return Snippet("", f"number {i}")


def number(text: Snippet) -> int:
    return int(text.completion.split()[1])


def on(
    strategy: Strategy, edges: Mapping[int, Sequence[int]], scores: Mapping[int, float], **more: Any
) -> Attempt:
    return attempt(Graph(edges, strategy), Scorer(lambda text: scores[number(text)]), node(0), 0.5, **more)


graphs = st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=4))
heights = st.lists(st.one_of(st.floats(0.4, 1.0), st.just(math.nan)), min_size=10, max_size=10)


@given(graphs, heights, st.lists(st.booleans(), min_size=10, max_size=10))
def test_best_first_finds_whatever_can_be_reached(
    edges: dict[int, list[int]], scores: list[float], fails: list[bool]
) -> None:
    scores = [0.9, *scores[1:]]
    reached, waiting = {0}, [0]
    while waiting:
        for after in edges.get(waiting.pop(), ()):
            if after not in reached:
                reached.add(after)
                # neither built on: what cannot be scored, and what is refuted
                if scores[after] >= 0.5:
                    waiting.append(after)
    possible = any(scores[i] < 0.5 and fails[i] for i in reached)
    found = on(
        BestFirst(places=4),
        edges,
        dict(enumerate(scores)),
        fails=lambda some: [fails[number(text)] for text in some],
    )
    assert found.succeeded == possible
    assert found.outcome in (Outcome.FOOLED, Outcome.EXHAUSTED)


@given(
    graphs,
    heights,
    st.sampled_from([Greedy(), Greedy(4), Beam(2, 2, 5), Beam(), BestFirst(1, 3), Together()]),
)
def test_every_strategy_ends_on_any_graph(
    edges: dict[int, list[int]], scores: list[float], strategy: Strategy
) -> None:
    scores = [0.9, *scores[1:]]
    found = on(strategy, edges, dict(enumerate(scores)), fails=lambda some: [False] * len(some))
    assert found.outcome == Outcome.EXHAUSTED
    assert found.queries <= 10
    valid = [score for score in scores if score >= 0.5]
    assert found.score in valid


ALLEY = {0: [1, 2], 1: [3], 2: [4], 4: [5]}  # 1 looks better and leads nowhere
SCORES = {0: 0.9, 1: 0.6, 2: 0.8, 3: 0.7, 4: 0.75, 5: 0.1}


def test_best_first_steps_back_from_a_blind_alley() -> None:
    assert on(Greedy(places=4), ALLEY, SCORES).outcome == Outcome.EXHAUSTED
    assert on(Beam(width=1), ALLEY, SCORES).outcome == Outcome.EXHAUSTED
    assert on(BestFirst(), ALLEY, SCORES).best == node(5)
    assert on(BestFirst(expansions=3), ALLEY, SCORES).outcome == Outcome.EXHAUSTED


def test_a_wider_beam_sees_more_and_a_shallow_one_less() -> None:
    edges = {0: [1, 2], 1: [3], 2: [4], 4: [5]}
    scores = {0: 0.9, 1: 0.6, 2: 0.8, 3: 0.65, 4: 0.55, 5: 0.1}
    assert on(Beam(width=1), edges, scores).outcome == Outcome.EXHAUSTED
    assert on(Beam(width=2), edges, scores).best == node(5)
    assert on(Beam(width=2, depth=2), edges, scores).outcome == Outcome.EXHAUSTED


@pytest.mark.parametrize("strategy", [Greedy(4), Beam(), BestFirst(), Together()], ids=repr)
def test_what_is_refuted_or_cannot_be_scored_is_not_built_on(strategy: Strategy) -> None:
    edges = {0: [1, 2], 1: [3], 2: [3]}
    scores = {0: 0.9, 1: 0.2, 2: math.nan, 3: 0.1}
    found = on(strategy, edges, scores, fails=lambda some: [number(text) == 3 for text in some])
    assert (found.outcome, found.refuted, found.best) == (Outcome.EXHAUSTED, 1, node(0))


# -- greedy, in detail


def test_greedy_visits_every_place_before_it_visits_one_again() -> None:
    """Of "a e a" the first a is the most important; then those not yet visited, though a replaced word weighs more."""
    scorer = Linear(weights={"a": 3.0, "b": 2.9, "c": 2.8, "d": 2.7, "e": 1.0, "f": 0.5, "g": 0.6, "h": 0.7})
    once = WordList({"a": ["b"], "b": ["c"], "e": ["f"]})
    attack = WordSubstitution(once, scorer.gradient, Greedy(), parts=("completion",))
    attempt(attack, scorer, Snippet("", "a e a"))
    tried = [snippet.completion for snippet in scorer.texts]
    assert tried == ["a e a", "b e a", "b e b", "b f b", "c f b", "c f c"]


@given(st.lists(st.sampled_from(["dog", "cat", "cats", "do", "a"]), min_size=1, max_size=6), st.data())
def test_places_are_found_again_after_an_edit(words: list[str], data: st.DataObject) -> None:
    snippet = Snippet("the prompt", " ".join(words))
    places = list(places_of(snippet))
    place = data.draw(st.sampled_from(places))
    edited = replace_at(snippet, place, data.draw(st.sampled_from(["bird", "big bird", "x"])))
    for other in places:
        found = place_in(edited, snippet, other)
        if other != place:
            assert found is not None
            text = part_of(snippet, other.part)[other.start : other.end]
            assert part_of(edited, found.part)[found.start : found.end] == text
        else:
            assert found is None
    assert place_in(snippet, snippet, place) == place


# -- several edits at once


def test_the_fewest_edits_that_fool_it_win_in_a_few_queries() -> None:
    harm = dict.fromkeys("abcd", 1.0) | {"e": 0.5, "f": -0.5, "g": 0.6, "h": 0.7}
    scorer = Linear(weights=harm | {"b": 0.2, "a": 1.2})
    start = Snippet("", "a a a a e e")  # the margin is 5.8; an edit of a takes 1, of e 1
    found = attempt(lettered(Together(), scorer), scorer, start, 0.9)  # at a margin of 2.2: four edits
    assert found.fooled
    assert found.best is not None
    assert words_changed(start, found.best) == 4
    assert found.queries == 1 + 1 + len([3, 6, 4])  # of 1, 2, 3, 4 and 6 edits
    assert [len(batch) for batch in scorer.asked] == [1, 1, 1, 1]


def test_edits_at_once_stand_where_each_would_stand_alone() -> None:
    scorer = Linear(weights={"a": 2.0, "much": -1.0, "longer": 2.0, "x": -1.0})
    words = WordList({"a": ["much"], "longer": ["x"]})
    attack = WordSubstitution(words, scorer.gradient, Together(then=None))
    found = attempt(attack, scorer, Snippet("longer a", "longer a end a longer."), 0.01)  # out of reach
    assert "x much x much end much x." in [snippet.text for batch in scorer.asked for snippet in batch]
    assert found.best is not None
    assert scorer.margin(found.best) == -3.0  # the prompt and what ends with a full stop weigh nothing


def test_edits_that_the_constraints_forbid_are_not_combined() -> None:
    scorer = Linear(weights={"a": 2.0, "b": 0.0, "c": 1.0, "d": 1.0, "e": 1.0, "f": -1.0, "g": 1.0, "h": 1.0})

    def calm(edited: Sequence[Edited]) -> list[bool]:
        return [words_changed(one.start, one.snippet) <= 2 for one in edited]

    attack = lettered(Together(), scorer, constraints=(calm,))
    found = attempt(attack, scorer, Snippet("", "a a e e"))
    assert found.outcome == Outcome.EXHAUSTED
    assert found.best is not None
    assert all(calm([Edited(found.start, snippet)])[0] for snippet in scorer.texts)
    assert scorer.margin(found.best) == pytest.approx(2.0)


def test_together_without_a_gradient_climbs_as_greedy_does() -> None:
    scorer = Linear(weights={"a": 2.0, "b": 0.0})
    words = WordList.of_classes([["a", "b"]])
    for then, best in ((Greedy(), "b b"), (None, "a a")):
        attack = WordSubstitution(words, strategy=Together(then=then), order="random", parts=("completion",))
        found = attempt(attack, scorer, Snippet("", "a a"))
        assert found.best == Snippet("", best)


@pytest.mark.parametrize("growth", [1.01, 1.4, 3.0, 10.0])
@pytest.mark.parametrize("most", [0, 1, 2, 7, 50])
def test_so_many_at_once(growth: float, most: int) -> None:
    counts = Together(growth=growth)._counts(most)
    assert counts == sorted(set(counts))
    assert counts[-1:] == ([most] if most else [])
    assert counts[:1] == ([1] if most else [])


# -- settings


@pytest.mark.parametrize("kind", [Greedy, Beam, BestFirst, Together])
def test_numbers_that_are_none(kind: Any) -> None:
    names = {Greedy: ["places"], Beam: ["width", "places", "depth"], BestFirst: ["places", "expansions"]}
    for name in names.get(kind, ["steps"]):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
            kind(**{name: 0})
    for growth in (1.0, 0.5, math.nan, 11.0):
        with pytest.raises(ConfigError, match="growth must lie in"):
            Together(growth=growth)


def test_word_substitution_is_checked() -> None:
    words, gradient = WordList({}), Linear().gradient
    for operations in ((), ("move",), ("replace", "move")):
        with pytest.raises(ConfigError, match="operations must be of replace, insert and delete"):
            WordSubstitution(words, gradient, operations=operations)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="word substitution needs a gradient for its order"):
        WordSubstitution(words)
    with pytest.raises(ConfigError, match="word substitution needs a gradient for its shortlist"):
        WordSubstitution(words, order="random", shortlist=3)
    with pytest.raises(ConfigError, match="shortlist must be None or at least 1, got 0"):
        WordSubstitution(words, gradient, shortlist=0)
    with pytest.raises(ConfigError, match="order of word substitution must be one of"):
        WordSubstitution(words, gradient, order="leave-one-out")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="parts must be of"):
        WordSubstitution(words, gradient, parts=("prompts",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="words to keep must be"):
        WordSubstitution(words, gradient, keep=frozenset(["Knife"]))


# -- what word substitution tries


def tried(attack: SearchAttack, start: Snippet, queries: int = 5000) -> list[Snippet]:
    """All that one pass over the places scores, when nothing lowers the score."""
    scorer = Scorer(lambda snippet: 0.5 if snippet == start else 0.9)
    attempt(attack, scorer, start, queries=queries)
    assert scorer.texts[0] == start
    return scorer.texts[1:]


def test_replacements_insertions_and_deletions() -> None:
    start = Snippet("Old men", "sat.")
    words = WordList({"old": ["big", "old"], "sat": ["stood", "lay"]}, insertions=["then"])
    attack = WordSubstitution(words, order="random", operations=("replace", "insert", "delete"))
    assert {snippet.text for snippet in tried(attack, start)} == {
        "Big men sat.",
        "then Old men sat.",
        "men sat.",
        "Old then men sat.",
        "Old sat.",
        "Old men stood.",
        "Old men lay.",
        "Old men then sat.",
        "Old men .",
    }
    kept = WordSubstitution(words, order="random", parts=("prompt",), keep=frozenset(["men"]))
    assert [snippet.text for snippet in tried(kept, start)] == ["Big men sat."]


def test_the_shortlist_holds_the_best_by_gradient_and_insertions_at_random() -> None:
    scorer = Linear(weights={letter: float(i) for i, letter in enumerate(LETTERS)})
    words = WordList({"h": list("gfedcba")}, insertions=list("abcdefg"))
    start = Snippet("", "h")
    attack = WordSubstitution(words, scorer.gradient, shortlist=2)
    assert {snippet.text for snippet in tried(attack, start)} == {"a", "b"}
    inserting = WordSubstitution(words, scorer.gradient, operations=("insert",), shortlist=2)
    found = [snippet.text for snippet in tried(inserting, start)]
    assert len(found) == 2
    assert all(text.endswith(" h") for text in found)


def test_no_candidates_leave_nothing_to_try() -> None:
    for strategy, operations in itertools.product(STRATEGIES, (("replace",), ("insert",))):
        attack = WordSubstitution(
            WordList({}),
            strategy=strategy,
            order="random",
            operations=operations,  # type: ignore[arg-type]
        )
        for start in (Snippet("no", "words"), Snippet("", "?!")):
            scorer = Scorer(lambda _: 0.9)
            found = attempt(attack, scorer, start, 0.5)
            assert (found.outcome, found.queries, found.best) == (Outcome.EXHAUSTED, 1, start)


def test_odd_texts_are_edited_word_by_word() -> None:
    start = Snippet("שָׁלוֹם 👩\u200d🔬", "hurt 🙂 नमस्ते!")
    words = {start.prompt[span.start : span.end]: ["x"] for span in words_of(start.prompt)}
    words |= {start.completion[span.start : span.end]: ["y"] for span in words_of(start.completion)}
    found = tried(WordSubstitution(WordList(words), order="random"), start)
    assert {snippet.text for snippet in found} == {
        "x 👩\u200d🔬 hurt 🙂 नमस्ते!",
        "שָׁלוֹם 👩\u200d🔬 y 🙂 नमस्ते!",
        "שָׁלוֹם 👩\u200d🔬 hurt 🙂 y!",
    }
