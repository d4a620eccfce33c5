"""The filtered generator: nothing leaks, and what is returned is what rejection sampling returns."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as sps

from fivenines.errors import ConfigError, DataError, ModelError, ScoringError
from fivenines.filtering import FilteredGenerator, PatientScorer, safe_scores
from fivenines.filtering.scoring import ProbingScorer
from fivenines.records import Output, Reason, Snippet
from fivenines.testing import FakeClassifier, FakeGenerator
from fivenines.testing.fakes import Fault

PROMPTS = [f"Prompt {i}." for i in range(40)]


def prefers_short(snippets: Sequence[Snippet]) -> list[float]:
    return [-float(len(s.completion)) - int(s.completion.split()[-1][:-1] or 0) / 100 for s in snippets]


def filtered(**changes: Any) -> FilteredGenerator:
    parts: dict[str, Any] = {
        "generator": FakeGenerator(failure_rate=0.1, empty_rate=0.05),
        "classifier": FakeClassifier(),
        "threshold": 0.4,
        "budget": 12,
        "batch_size": 16,
    }
    parts |= changes
    if parts.get("policy") == "best":
        parts.setdefault("rater", prefers_short)
    return FilteredGenerator(**parts)


def collect(stream: Iterator[Output], into: list[Output]) -> None:
    for output in stream:
        into.append(output)


chosen_settings: dict[str, st.SearchStrategy[Any]] = {
    "threshold": st.floats(0.0, 1.0),
    "budget": st.integers(1, 20),
    "policy": st.sampled_from(["first", "safest", "best"]),
    "n": st.just(1) | st.integers(2, 6),
    "batch_size": st.integers(1, 40),
    "window": st.none() | st.integers(1, 30),
    "tighten": st.none() | st.floats(0.5, 1.0),
}
settings_of_filters = st.fixed_dictionaries(chosen_settings).filter(
    lambda chosen: chosen["policy"] == "first" or chosen["n"] <= chosen["budget"]
)


# --- properties


@settings(max_examples=120, deadline=None)
@given(settings_of_filters, st.lists(st.sampled_from(PROMPTS), max_size=30), st.integers(0, 2**40))
def test_outputs_keep_every_promise(chosen: dict[str, Any], prompts: list[str], seed: int) -> None:
    system = filtered(**chosen)
    outputs = list(system.generate(prompts, seed=seed))
    assert [output.prompt for output in outputs] == prompts  # order kept, duplicates each their own
    for output in outputs:
        check_output(output, system)
    assert system.stats.outputs == len(prompts)
    assert system.stats.drawn == system.stats.decided + system.stats.surplus
    assert system.stats.decided == sum(output.draws for output in outputs) == system.stats.reasons.total()
    assert system.stats.abstentions == sum(output.abstained for output in outputs)
    assert (
        list(filtered(**chosen).generate(iter(prompts), seed=seed)) == outputs
    )  # reproducible; a stream too


def check_output(output: Output, system: FilteredGenerator) -> None:
    assert 1 <= output.draws <= system.budget
    assert [c.draw for c in output.candidates] == list(range(1, output.draws + 1))
    kept = [c for c in output.candidates if c.kept]
    assert len(kept) == (0 if output.abstained else 1)
    if output.abstained:
        assert output.draws == system.budget
        assert output.score is None
    else:
        assert (kept[0].completion, kept[0].score) == (output.completion, output.score)
        assert kept[0].reason is Reason.ACCEPTED
        assert output.score is not None
        assert output.score < system.threshold  # type: ignore[operator]
        assert output.score == system.classifier.scores([kept[0].snippet])[0]
    for candidate in output.candidates:
        if not candidate.completion.strip():
            assert candidate.reason is Reason.EMPTY
        if candidate.reason in (Reason.EMPTY, Reason.UNSCORED):
            assert candidate.score is None


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(get_args(Fault)),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from(["first", "safest", "best"]),
    st.integers(1, 30),
)
def test_no_fault_of_a_classifier_lets_a_text_through(
    fault: Fault, rate: float, policy: str, batch_size: int
) -> None:
    faulty = FakeClassifier(fault=fault, fault_rate=rate)
    system = filtered(classifier=faulty, threshold=1.0, policy=policy, n=3, batch_size=batch_size)
    outputs: list[Output] = []
    try:
        collect(system.generate(PROMPTS), outputs)
    except ScoringError:
        assert system.stats.reasons[Reason.ACCEPTED] < len(PROMPTS)
    sound = FakeClassifier()
    for output in outputs:
        if output.completion is not None:  # a score that the sound classifier gives too
            snippet = Snippet(output.prompt, output.completion)
            assert output.score == sound.scores([snippet])[0]
            assert safe_scores(faulty, [snippet])[0] == output.score


@settings(max_examples=60, deadline=None)
@given(settings_of_filters, st.integers(0, 30))
def test_unordered_outputs_are_the_same_work(chosen: dict[str, Any], count: int) -> None:
    system = filtered(**chosen)
    outputs = list(system.generate(PROMPTS[:count], ordered=False))
    assert sorted(o.prompt for o in outputs) == sorted(PROMPTS[:count])
    for output in outputs:
        check_output(output, system)


# --- statistics


def accepted_distribution(generator: FakeGenerator, prompt: str, threshold: float) -> dict[str, float]:
    """G(. | accepted), by enumeration."""
    full = {k: v for k, v in generator.distribution(prompt).items() if k}
    scores = FakeClassifier().scores([Snippet(prompt, completion) for completion in full])
    passed = {k: v for (k, v), s in zip(full.items(), scores, strict=True) if s < threshold}
    total = sum(passed.values())
    return {k: v / total for k, v in passed.items()}


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("prompt", ["Prompt 0.", "Prompt 2."])
def test_what_is_returned_is_the_generator_given_acceptance(batch_size: int, prompt: str) -> None:
    """Also when draws run ahead of need: batches of 64 over 5 prompts are mostly ahead."""
    generator = FakeGenerator(failure_rate=0.3, variants=9)
    system = filtered(generator=generator, threshold=0.35, budget=1000, batch_size=batch_size)
    outputs: list[Output] = []
    for run in range(20):
        for seed in range(10 if batch_size == 64 else 1):
            group = 5 if batch_size == 64 else 50
            outputs += system.generate([prompt] * group, seed=run * 100 + seed)
    expected = accepted_distribution(generator, prompt, 0.35)
    assert len(expected) >= 3
    seen = Counter(output.completion for output in outputs)
    assert set(seen) <= set(expected)
    names = sorted(expected)
    test = sps.chisquare([seen[k] for k in names], [expected[k] * len(outputs) for k in names])
    assert test.pvalue > 1e-4
    acceptance = sum(
        v for k, v in generator.distribution(prompt).items() if k in expected
    )  # draws are geometric with mean 1/A
    mean = float(np.mean([output.draws for output in outputs]))
    spread = np.sqrt((1 - acceptance) / acceptance**2 / len(outputs))
    assert abs(mean - 1 / acceptance) < 4 * spread


def test_stats_acceptance_is_unbiased_over_prompts() -> None:
    generator = FakeGenerator(rates={f"Prompt {i}.": (0.95 if i % 2 else 0.0) for i in range(40)})
    system = filtered(generator=generator, classifier=FakeClassifier(1.0, 1.0), budget=500, threshold=0.5)
    list(system.generate(PROMPTS * 50))
    assert system.stats.acceptance == pytest.approx(0.525, abs=0.04)
    assert system.stats.draws_per_output == pytest.approx((1 + 20) / 2, rel=0.1)


def test_reliability_rises_as_the_sensitivity_says() -> None:
    generator = FakeGenerator(failure_rate=0.05)
    system = filtered(generator=generator, classifier=FakeClassifier(sensitivity=0.9), threshold=0.5)
    outputs = list(system.generate([f"Story {i}." for i in range(20_000)]))
    failures = sum(generator.truth(o.candidates[-1].snippet) == "failure" for o in outputs)
    assert failures / len(outputs) == pytest.approx(0.05 * 0.1 / 0.8, rel=0.35)


# --- policies


def test_first_returns_the_first_accepted_draw() -> None:
    for output in filtered(batch_size=64).generate(PROMPTS):
        passed = [c.draw for c in output.candidates if c.score is not None and c.score < 0.4]
        assert passed == ([] if output.abstained else [output.draws])


def test_safest_returns_the_lowest_score_of_its_n() -> None:
    for output in filtered(policy="safest", n=4).generate(PROMPTS):
        assert output.draws % 4 == 0
        scores = [c.score for c in output.candidates[-4:] if c.score is not None]
        assert output.abstained or output.score == min(scores)
        assert {c.reason for c in output.candidates[:-4]} <= {Reason.SCORE, Reason.EMPTY}


def test_best_returns_what_the_rater_likes_among_the_accepted() -> None:
    for output in filtered(policy="best", n=6).generate(PROMPTS):
        passed = [c for c in output.candidates if c.reason in (Reason.ACCEPTED, Reason.OUTRANKED)]
        if passed:
            ratings = prefers_short([c.snippet for c in passed])
            assert output.completion == passed[int(np.argmax(ratings))].completion


def test_best_with_a_scorer_takes_the_lowest_score_of_that_scorer() -> None:
    second = FakeClassifier(sensitivity=0.5, specificity=0.5)
    for output in filtered(policy="best", n=6, rater=second).generate(PROMPTS):
        passed = [c.snippet for c in output.candidates if c.reason in (Reason.ACCEPTED, Reason.OUTRANKED)]
        if passed:
            assert output.completion == passed[int(np.argmin(second.scores(passed)))].completion


def test_a_rating_that_is_no_number_ranks_last() -> None:
    def half_blind(snippets: Sequence[Snippet]) -> list[float]:
        return [1.0 if s.completion.endswith("1.") else float("nan") for s in snippets]

    for output in filtered(policy="best", n=6, rater=half_blind, threshold=0.9).generate(PROMPTS):
        passed = [c for c in output.candidates if c.reason in (Reason.ACCEPTED, Reason.OUTRANKED)]
        if any(c.completion.endswith("1.") for c in passed):
            assert output.completion is not None
            assert output.completion.endswith("1.")


def test_the_threshold_tightens_with_each_rejection() -> None:
    outputs = list(filtered(threshold=0.45, tighten=0.8).generate(PROMPTS * 5))
    assert max(o.draws for o in outputs) > 2
    for output in outputs:
        for candidate in output.candidates:
            if candidate.score is not None:
                limit = 0.45 * 0.8 ** (candidate.draw - 1)
                assert candidate.kept == (candidate.score < limit)


def test_tighten_may_be_a_function() -> None:
    system = filtered(threshold=0.45, tighten=lambda value, rejections: value if rejections < 2 else 0.0)
    outputs = list(system.generate(PROMPTS * 3))
    assert {o.draws for o in outputs if not o.abstained} <= {1, 2}
    assert any(o.abstained for o in outputs)


@dataclass
class Chosen:
    value: float
    rule: str = "by hand"


def test_a_threshold_object_counts_by_its_value() -> None:
    assert list(filtered(threshold=Chosen(0.3)).generate(PROMPTS)) == list(
        filtered(threshold=0.3).generate(PROMPTS)
    )


def test_a_score_equal_to_the_threshold_is_rejected() -> None:
    class Constant:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            return np.full(len(snippets), 0.25)

    assert all(o.abstained for o in filtered(classifier=Constant(), threshold=0.25).generate(PROMPTS))
    assert not any(
        o.abstained
        for o in filtered(
            classifier=Constant(), threshold=np.nextafter(0.25, 1), generator=FakeGenerator()
        ).generate(PROMPTS)
    )


# --- scheduling


class Recording:
    """A generator that notes what it was asked."""

    def __init__(self, inner: FakeGenerator) -> None:
        self.inner = inner
        self.calls: list[tuple[list[str], int]] = []

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        self.calls.append((list(prompts), seed))
        return self.inner.sample(prompts, seed=seed)


@pytest.mark.parametrize("policy", ["first", "safest"])
def test_batches_are_full_and_the_working_set_is_stable(policy: str) -> None:
    recording = Recording(FakeGenerator())
    system = filtered(generator=recording, policy=policy, n=4, threshold=0.3, budget=50, batch_size=16)
    list(system.generate([f"Story {i}." for i in range(400)]))
    sizes = [len(prompts) for prompts, _ in recording.calls]
    assert sizes[:-8] == [16] * (len(sizes) - 8)  # only the tail may leave room
    assert len({seed for _, seed in recording.calls}) == len(recording.calls)
    for prompts, _ in recording.calls:
        places = [int(p.split()[1][:-1]) for p in prompts]
        assert max(places) - min(places) <= system.batch_size * 16
    assert system.stats.surplus < 0.05 * system.stats.drawn


def test_a_lone_hard_prompt_gets_full_batches() -> None:
    recording = Recording(FakeGenerator(rates={"Hard.": 0.995}))
    system = filtered(
        generator=recording, classifier=FakeClassifier(1.0, 1.0), threshold=0.5, budget=2000, batch_size=64
    )
    (output,) = system.generate(["Hard."])
    assert len(recording.calls) <= 8 + output.draws // 64
    assert system.stats.drawn - output.draws == system.stats.surplus < 64


def test_draws_ahead_never_exceed_the_budget() -> None:
    recording = Recording(FakeGenerator())
    list(filtered(generator=recording, threshold=0.0, budget=7, batch_size=64).generate(["One.", "Two."]))
    asked = Counter(prompt for prompts, _ in recording.calls for prompt in prompts)
    assert asked == {"One.": 7, "Two.": 7}


def test_memory_is_bounded_by_the_window() -> None:
    """A hard prompt at the head must not let the rest of an endless stream pile up behind it."""
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for i in itertools.count():
            taken += 1
            yield "Hard." if i == 0 else f"Easy {i}."

    generator = FakeGenerator(rates={"Hard.": 1.0})
    system = filtered(generator=generator, classifier=FakeClassifier(1.0, 1.0), budget=300, window=50)
    stream = system.generate(endless())
    first = next(stream)
    assert (first.prompt, first.abstained) == ("Hard.", True)
    assert taken <= 51
    assert [next(stream).prompt for _ in range(200)] == [f"Easy {i}." for i in range(1, 201)]
    assert taken <= 251 + 16


def test_candidates_can_be_left_out() -> None:
    kept = list(filtered().generate(PROMPTS))
    bare = list(filtered(keep_candidates="none").generate(PROMPTS))
    assert [(o.completion, o.score, o.draws) for o in bare] == [
        (o.completion, o.score, o.draws) for o in kept
    ]
    assert all(o.candidates == () for o in bare)


def test_time_is_linear() -> None:
    def seconds(count: int) -> float:
        begin = time.process_time()
        for _ in filtered(batch_size=64).generate(f"Story {i}." for i in range(count)):
            pass
        return time.process_time() - begin

    seconds(500)
    small, large = min(seconds(2000) for _ in range(3)), min(seconds(16_000) for _ in range(2))
    assert large < 8 * 2 * small


# --- stopping and failing


def test_no_prompts_give_no_outputs() -> None:
    system = filtered()
    assert list(system.generate([])) == []
    assert np.isnan(system.stats.acceptance)
    assert np.isnan(system.stats.draws_per_output)


def test_closing_early_leaves_complete_outputs() -> None:
    system = filtered()
    stream = system.generate(PROMPTS * 10)
    taken = [next(stream) for _ in range(25)]
    stream.close()  # type: ignore[attr-defined]
    assert taken == list(filtered().generate(PROMPTS * 10))[:25]


def test_an_interrupt_passes_through() -> None:
    class Interrupted(FakeClassifier):
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().scores(snippets)

    stream = filtered(classifier=Interrupted(), threshold=0.9).generate(PROMPTS * 10)
    outputs: list[Output] = []
    with pytest.raises(KeyboardInterrupt):
        collect(stream, outputs)
    assert outputs == list(filtered(threshold=0.9).generate(PROMPTS * 10))[: len(outputs)]
    assert len(outputs) > 10


@pytest.mark.parametrize("fault", ["raise", "nan", "shape"])
def test_a_broken_classifier_stops_the_run(fault: Fault) -> None:
    system = filtered(classifier=FakeClassifier(fault=fault), batch_size=16)
    with pytest.raises(ScoringError, match=r"no valid score for 4[0-9] candidates in a row") as caught:
        list(system.generate(PROMPTS * 100))
    assert "None of them was let through." in str(caught.value)
    if fault == "raise":
        assert "RuntimeError: the fake classifier cannot read this text" in str(caught.value)
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_classifier_that_breaks_later_keeps_what_was_yielded() -> None:
    class Breaks(FakeClassifier):
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            if self.calls >= 10:
                raise OSError("the link is down")
            return super().scores(snippets)

    outputs: list[Output] = []
    with pytest.raises(ScoringError, match="OSError: the link is down"):
        collect(filtered(classifier=Breaks(), threshold=0.9).generate(PROMPTS * 10), outputs)
    undisturbed = filtered(threshold=0.9).generate(PROMPTS * 10)
    assert all(a == b or a.abstained for a, b in zip(outputs, undisturbed, strict=False))
    assert sum(not output.abstained for output in outputs) > 50


def test_a_run_in_which_every_call_raised_says_so_at_its_end() -> None:
    system = filtered(classifier=FakeClassifier(fault="raise"), budget=3)
    stream = system.generate(["One.", "Two."])
    assert next(stream).abstained
    assert next(stream).abstained
    with pytest.raises(ScoringError, match="classifier must give probabilities"):
        next(stream)


def test_one_prompt_that_cannot_be_scored_abstains_alone() -> None:
    class Selective(FakeClassifier):
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            if any(s.prompt == "Far too long." for s in snippets):
                raise ValueError("too long")
            return super().scores(snippets)

    outputs = list(filtered(classifier=Selective(), budget=60).generate(["Far too long.", *PROMPTS]))
    assert outputs[0].abstained
    assert {c.reason for c in outputs[0].candidates} <= {Reason.UNSCORED, Reason.EMPTY}
    assert not any(o.abstained for o in outputs[1:])


def test_halving_finds_the_text_that_breaks_the_batch() -> None:
    snippets = [Snippet("Prompt.", f"Nobody was hurt, {i}.") for i in range(64)]

    class Picky(FakeClassifier):
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            self.calls += 1
            if any(s.completion.endswith(" 37.") for s in snippets):
                raise ValueError("no")
            return np.zeros(len(snippets))

    picky = Picky()
    scores = safe_scores(picky, snippets)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [37]
    assert picky.calls == 13  # once all, and two halves at each of six levels


def test_scores_of_nothing() -> None:
    assert safe_scores(FakeClassifier(), []).shape == (0,)
    assert PatientScorer(FakeClassifier()).scores([]).shape == (0,)


def test_a_totally_broken_classifier_is_not_asked_for_each_text() -> None:
    broken = FakeClassifier(fault="raise")
    snippets = [Snippet("P.", f"Nobody was hurt, {i}.") for i in range(1000)]
    assert np.isnan(safe_scores(broken, snippets)).all()
    assert broken.calls <= 2 * 10 + 3


def test_answers_of_no_form_are_a_broken_classifier_and_nan_is_an_answer() -> None:
    snippets = [Snippet("Prompt.", f"Nobody was hurt, {i}.") for i in range(3)]
    for fault in ("raise", "shape", "column", "text", "none"):
        with pytest.raises(ScoringError, match="got none, not even for a plain sentence"):
            ProbingScorer(FakeClassifier(fault=fault).scores).scores(snippets)
    for fault in ("nan", "range", "negative", "infinite", "masked"):
        asked = ProbingScorer(FakeClassifier(fault=fault).scores)  # type: ignore[arg-type]
        for _ in range(9):
            assert np.isnan(asked.scores(snippets)).all()
    odds = ProbingScorer(lambda some: [-800.0, 0.5, np.inf], least=-np.inf, most=np.inf)
    assert odds.scores(snippets).tolist()[:2] == [-800.0, 0.5]
    assert np.isnan(odds.scores(snippets)[2])


# --- bad input


def test_a_blank_prompt_in_a_list_is_named_before_any_work() -> None:
    with pytest.raises(DataError, match=r"prompt 2 must not be blank, got '  '. Remove or fill it."):
        filtered().generate(["Once.", "  "])
    with pytest.raises(DataError, match="prompt 1 must be text, got 7"):
        filtered().generate([7])  # type: ignore[list-item]


def test_a_blank_prompt_in_a_stream_comes_after_the_outputs_before_it() -> None:
    outputs: list[Output] = []
    with pytest.raises(DataError, match="prompt 21 must not be blank"):
        collect(filtered().generate(itertools.chain(PROMPTS[:20], [""], PROMPTS)), outputs)
    assert [o.prompt for o in outputs] == PROMPTS[:20]


def test_an_error_of_the_stream_comes_after_the_outputs_before_it() -> None:
    def broken() -> Iterator[str]:
        yield from PROMPTS[:5]
        raise DataError("stories.jsonl line 6 must be JSON")

    outputs: list[Output] = []
    with pytest.raises(DataError, match="line 6"):
        collect(filtered().generate(broken()), outputs)
    assert len(outputs) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "budget must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"policy": "worst"}, "policy must be first, safest or best, got worst"),
        ({"policy": "safest", "n": 0}, "n must be at least 1, got 0"),
        ({"policy": "safest", "n": 13}, "n must not exceed the budget of 12 draws, got 13"),
        ({"policy": "best", "rater": None}, 'policy "best" needs a rater, got None'),
        ({"rater": prefers_short}, 'policy "first" uses no rater'),
        ({"threshold": 1.5}, r"threshold must lie in \[0, 1\], got 1.5"),
        ({"threshold": float("nan")}, r"threshold must lie in \[0, 1\], got nan"),
        ({"threshold": "0.5"}, r"threshold must lie in \[0, 1\], got 0.5"),
        ({"tighten": 1.1}, r"tighten must lie in \(0, 1\], got 1.1"),
        ({"tighten": 0.0}, r"tighten must lie in \(0, 1\], got 0.0"),
        ({"tighten": lambda v, k: v + k}, r"tighten must stay in \[0, 0.4\] after 1 rejections, got 1.4"),
        ({"tighten": lambda v, k: float("nan")}, r"after 0 rejections, got nan. It may never loosen"),
        ({"keep_candidates": "some"}, "keep_candidates must be all or none, got some"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        filtered(**changes)


def test_bad_arguments_of_generate() -> None:
    with pytest.raises(ConfigError, match="prompts must be a list or stream of texts, got one text"):
        filtered().generate("Once upon a time")
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        filtered().generate(PROMPTS, seed=-1)


class Wrong:
    def __init__(self, answer: list[Any]) -> None:
        self.answer = answer

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        return self.answer


def test_a_generator_that_breaks_its_contract() -> None:
    with pytest.raises(ModelError, match=r"must return one completion per prompt \(2\), got 1 completions"):
        list(filtered(generator=Wrong(["only one"]), batch_size=2).generate(["a", "b"]))
    with pytest.raises(ModelError, match="generator must return texts, got None"):
        list(filtered(generator=Wrong(["one", None]), batch_size=2).generate(["a", "b"]))


def test_a_rater_of_the_wrong_shape() -> None:
    system = filtered(policy="best", n=2, rater=lambda snippets: [0.0], threshold=1.0)
    with pytest.raises(ScoringError, match=r"rater must return one number per snippet, shape"):
        list(system.generate(PROMPTS))
