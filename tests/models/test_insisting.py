"""Training until every adversarial example is rejected, and saying what remains where it ends before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fivenines.errors import ConfigError, LabelError, ModelError
from fivenines.models.classifier import Classifier
from fivenines.models.insisting import Insisted, Insistence, fit_until_rejected
from fivenines.models.objective import Objective
from fivenines.models.protocols import ScorerLike
from fivenines.records import Answer, Judgment, Snippet
from small_classifier import READING, TRAINING, WORDS, a_decoder, an_encoder, task

SHORT = replace(TRAINING, epochs=4)


def hard_task() -> tuple[list[Snippet], list[Judgment], list[int]]:
    """Six failures that hold no harm at all, as if a meaning had been hidden: a plain fit learns to pass them."""
    snippets, judgments = task(96)
    hidden = [s for s, j in zip(*task(60, seed=7), strict=True) if j.answer == Answer.OK][:6]
    more = [Judgment(s.id, Answer.FAILURE) for s in hidden]
    return [*snippets, *hidden], [*judgments, *more], list(range(96, 102))


def middle(scorer: ScorerLike) -> float:
    """A threshold that accepts most of other ok snippets, as a deployment would choose it."""
    fine = [s for s, j in zip(*task(90, seed=8), strict=True) if j.answer == Answer.OK]
    return float(np.quantile(scorer.scores(fine), 0.9))


def made(kind: str, folder: Path) -> Classifier:
    return an_encoder() if kind == "encoder" else a_decoder(folder / "generator")


def insist(classifier: Classifier, folder: Path | None = None, **options: Any) -> Insisted:
    options = {"training": SHORT} | options
    threshold_of: Callable[[ScorerLike], float] = options.pop("threshold_of", lambda scorer: 0.5)
    return fit_until_rejected(classifier, *hard_task(), threshold_of, Insistence(**options), folder)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("threshold_of", [middle, lambda scorer: 0.5])
def test_it_goes_on_until_all_are_rejected(kind: str, threshold_of: Any, tmp_path: Path) -> None:
    snippets, _, hidden = hard_task()
    classifier = made(kind, tmp_path)
    result = insist(classifier, threshold_of=threshold_of, max_rounds=8)
    assert result.passes[0].not_rejected > 0  # a plain fit does not do it
    assert result.all_rejected
    assert result.remaining == ()
    assert 2 <= len(result.passes) <= 8
    assert [one.number for one in result.passes] == list(range(1, len(result.passes) + 1))
    scores = classifier.scores([snippets[i] for i in hidden])
    assert result.passes[-1].threshold == threshold_of(classifier)
    assert np.all(scores >= threshold_of(classifier))
    # what was accepted along the way counted more, and nothing else
    times = np.array([sum(i in one.remaining for one in result.passes) for i in range(len(snippets))])
    np.testing.assert_allclose(result.weights, np.minimum(3.0**times, 100.0))
    assert times[:96].sum() == 0
    assert classifier.provenance["continued"] == len(result.passes) - 1


def test_what_remains_is_said(tmp_path: Path) -> None:
    classifier = an_encoder()
    result = insist(classifier, max_rounds=2, training=replace(SHORT, epochs=1))
    snippets, _, hidden = hard_task()
    assert not result.all_rejected
    assert len(result.passes) == 2
    passing = [
        i
        for i, score in zip(hidden, classifier.scores([snippets[i] for i in hidden]), strict=True)
        if score < 0.5
    ]
    assert list(result.remaining) == passing != []
    n = len(passing)
    assert str(result) == (
        f"adversarial examples accepted, of 6: {result.passes[0].not_rejected} -> {n} ({n} still accepted)"
    )
    content = json.loads(json.dumps(result.to_dict()))
    assert content["passes"][1] == {"number": 2, "threshold": 0.5, "remaining": passing}
    assert content["all_rejected"] is False


def test_a_fitted_classifier_is_looked_at_first() -> None:
    snippets, judgments, _ = hard_task()
    classifier = an_encoder().fit(snippets, judgments, training=SHORT)
    before = {k: v.clone() for k, v in classifier.model.state_dict().items()}
    result = insist(classifier, start="current", threshold_of=lambda scorer: 0.0)
    assert [(one.number, one.remaining) for one in result.passes] == [(0, ())]
    assert all(torch.equal(v, before[k]) for k, v in classifier.model.state_dict().items())
    result = insist(classifier, start="current", max_rounds=8)
    assert result.passes[0].not_rejected > 0
    assert result.passes[1].number == 1
    assert result.all_rejected
    with pytest.raises(ModelError, match="must be fitted before it scores"):
        insist(an_encoder(), start="current")


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_run_that_was_killed_between_passes_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    calm = made(kind, tmp_path)
    options: dict[str, Any] = {"max_rounds": 4, "factor": 2.0}
    wanted = insist(calm, threshold_of=lambda scorer: 0.97, **options)
    assert len(wanted.passes) > 2
    looks = 0

    def dying(scorer: ScorerLike) -> float:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise KeyboardInterrupt
        return 0.97

    with pytest.raises(KeyboardInterrupt):
        insist(made(kind, tmp_path), tmp_path / "run", threshold_of=dying, **options)
    again = made(kind, tmp_path)
    found = insist(again, tmp_path / "run", threshold_of=lambda scorer: 0.97, **options)
    assert found.passes == wanted.passes
    states = calm.model.state_dict()
    assert all(torch.equal(v, states[k]) for k, v in again.model.state_dict().items())
    assert len(list((tmp_path / "run").glob("from-*/checkpoint.pt"))) == len(wanted.passes) - 1
    again.save(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("checkpoint.pt"))
    assert not list((tmp_path / "run").glob("from-*"))


def test_a_threshold_may_calibrate_and_unreadable_examples_are_named() -> None:
    snippets, judgments, hidden = hard_task()
    long = Snippet("a", " ".join(WORDS))
    snippets, judgments = [*snippets, long], [*judgments, Judgment(long.id, Answer.FAILURE)]
    held = task(60, seed=9)

    def calibrated(scorer: ScorerLike) -> float:
        assert isinstance(scorer, Classifier)
        scorer.calibrate(*held)
        return 0.2

    classifier = an_encoder()
    insistence = Insistence(training=SHORT, max_rounds=1)
    result = fit_until_rejected(classifier, snippets, judgments, [*hidden, 102], calibrated, insistence)
    assert result.unreadable == (102,)
    assert 102 not in result.remaining
    assert result.must_reject == 7
    assert classifier.calibration.method == "platt"
    assert "1 unreadable" in str(result)


def test_what_it_refuses() -> None:
    snippets, judgments, hidden = hard_task()

    def run(must_reject: list[int], threshold: float = 0.5, **options: Any) -> Insisted:
        insistence = Insistence(**{"training": replace(SHORT, max_steps=1)} | options)
        return fit_until_rejected(
            an_encoder(), snippets, judgments, must_reject, lambda scorer: threshold, insistence
        )

    with pytest.raises(ConfigError, match="must_reject must be indices of the 102 snippets, got 102"):
        run([102])
    with pytest.raises(ConfigError, match="must_reject must be indices of the 102 snippets, got -1"):
        run([-1])
    with pytest.raises(
        LabelError, match="must_reject must be snippets that are taught as failures, got 2 others"
    ):
        run([0, 1, 2])
    with pytest.raises(ConfigError, match="threshold_of must give a number, got nan"):
        run(hidden, float("nan"))
    for change, message in (
        ({"max_rounds": 0}, "max_rounds must be an integer of at least 1, got 0"),
        ({"factor": 1.0}, "factor must be greater than 1, got 1.0"),
        ({"most": 0.5}, "most must be greater than 1, got 0.5"),
        ({"start": "middle"}, "start must be initial or current, got middle"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(hidden, **change)
    assert run([]).all_rejected


def test_what_is_widely_a_failure_may_be_insisted_on() -> None:
    snippets, judgments, _ = hard_task()
    judgments[1] = Judgment(snippets[1].id, Answer.UNSURE)
    wide = an_encoder(replace(READING, objective=Objective(wide=True)))
    insistence = Insistence(training=replace(SHORT, max_steps=1), max_rounds=1)
    assert fit_until_rejected(wide, snippets, judgments, [1], lambda scorer: 0.0, insistence).all_rejected
    with pytest.raises(LabelError, match="taught as failures"):
        fit_until_rejected(an_encoder(), snippets, judgments, [1], lambda scorer: 0.0, insistence)
