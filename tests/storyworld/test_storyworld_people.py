"""Simulated labelers, raters and attackers."""

from __future__ import annotations

import pytest

from fivenines.errors import ConfigError, DataError
from fivenines.records import Answer, Severity, Snippet
from fivenines.storyworld import (
    SimulatedAttacker,
    SimulatedLabeler,
    SimulatedRater,
    Truth,
    coherence,
    tokenize,
    truth,
    vocabulary,
    write_snippets,
)

STORIES = write_snippets(3000, seed=21)
FAILURES = [snippet for snippet in STORIES if truth(snippet) is Truth.FAILURE]


def test_a_labeler_without_noise_says_the_truth() -> None:
    labeler = SimulatedLabeler("ann", noise=0)
    for snippet in STORIES[:300] + FAILURES:
        label = labeler.label(snippet)
        assert (label.answer is Answer.FAILURE) == (truth(snippet) is Truth.FAILURE)
        assert (label.severity is Severity.NONE) == (label.answer is Answer.OK)
        assert (label.seconds or 0) > 0


def test_noise_and_unsure_come_at_their_rates() -> None:
    labeler = SimulatedLabeler("ben", noise=0.1, unsure=0.2, seed=3)
    labels = [labeler.label(snippet) for snippet in STORIES]
    unsure = sum(label.answer is Answer.UNSURE for label in labels)
    wrong = sum(
        label.answer is not Answer.UNSURE
        and (label.answer is Answer.FAILURE) != (truth(snippet) is Truth.FAILURE)
        for label, snippet in zip(labels, STORIES, strict=True)
    )
    assert unsure / len(labels) == pytest.approx(0.2, abs=0.03)
    assert wrong / len(labels) == pytest.approx(0.1, abs=0.02)


def test_labels_depend_on_labeler_snippet_and_seed_alone() -> None:
    first = [SimulatedLabeler("cid", noise=0.5).label(snippet) for snippet in STORIES[:100]]
    again = [SimulatedLabeler("cid", noise=0.5).label(snippet) for snippet in STORIES[:100]]
    other = [SimulatedLabeler("dan", noise=0.5).label(snippet) for snippet in STORIES[:100]]
    assert first == again
    assert [label.answer for label in first] != [label.answer for label in other]


def test_shares_must_be_shares() -> None:
    with pytest.raises(ConfigError, match=r"noise must lie in \[0, 1\], got 2"):
        SimulatedLabeler("eve", noise=2)
    with pytest.raises(ConfigError, match=r"unsure must lie in \[0, 1\], got -1"):
        SimulatedLabeler("eve", unsure=-1)
    with pytest.raises(ConfigError, match=r"noise must be 0 or more, got -0.5"):
        SimulatedRater("eve", noise=-0.5)


def test_a_rater_prefers_the_more_coherent_and_is_blind_to_the_order() -> None:
    rater = SimulatedRater("ann", noise=0)
    noisy = SimulatedRater("ann", noise=0.3)
    other_side = {"left": "right", "right": "left", "tie": "tie"}
    for one, two in zip(STORIES[:100], STORIES[100:200], strict=True):
        left, right = one.completion, two.completion
        preferred = rater.compare(one.prompt, left, right).preferred
        margin = coherence(Snippet(one.prompt, left)) - coherence(Snippet(one.prompt, right))
        assert preferred == ("left" if margin > 0 else "right" if margin < 0 else "tie")
        swapped = noisy.compare(one.prompt, right, left).preferred
        assert noisy.compare(one.prompt, left, right).preferred == other_side[swapped]
    assert noisy.compare(STORIES[0].prompt, left, left).preferred == "tie"


def test_an_attacker_proposes_edits_that_still_fail() -> None:
    attacker = SimulatedAttacker("mal")
    words = set(vocabulary())
    for snippet in FAILURES[:20]:
        edits = attacker.propose(snippet, 5)
        assert len({edit.id for edit in edits}) == len(edits) == 5
        for edit in edits:
            assert truth(edit) is Truth.FAILURE
            assert edit != snippet
            assert set(tokenize(edit.text)) <= words


def test_an_attacker_fools_a_classifier_that_counts_words() -> None:
    def score(snippet: Snippet) -> float:
        bad = {"hit", "bit", "kicked", "poison", "fell", "broke", "cut"}
        return sum(token in bad for token in tokenize(snippet.completion)) / 3

    target = next(snippet for snippet in FAILURES if " kicked " in snippet.completion)
    trail = SimulatedAttacker("mal", seed=1).attack(target, score, threshold=0.2)
    assert trail[0].snippet == target
    assert trail[-1].score < 0.2
    assert truth(trail[-1].snippet) is Truth.FAILURE
    assert all(attempt.score >= 0.2 for attempt in trail[:-1])


def test_an_attacker_gives_up() -> None:
    trail = SimulatedAttacker("mal", patience=5).attack(FAILURES[0], lambda _: 1.0, threshold=0.5)
    assert len(trail) == 6


def test_there_is_nothing_to_hide_in_a_harmless_snippet() -> None:
    harmless = next(snippet for snippet in STORIES if truth(snippet) is Truth.OK)
    with pytest.raises(DataError, match="the snippet to attack must be a failure"):
        SimulatedAttacker("mal").propose(harmless)
