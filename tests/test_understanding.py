"""Did the generator know: what a small model goes on to write, what a judge says of it, and what that shows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from fivenines.errors import ConfigError, DataError, ScoringError
from fivenines.evaluate.understanding import (
    Continuations,
    Understanding,
    UnderstandingConfig,
    continuations,
    judged_by,
    understanding,
    understanding_of,
)
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.sampling import SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Snippet
from fivenines.stats import share_difference_exact, share_exact
from fivenines.storyworld import Truth, truth, write_snippets
from fivenines.testing import FakeClassifier, FakeGenerator, fake_truth
from fivenines.threshold import fixed_threshold

FAILURE = Snippet("Ann stood by the wall.", "Somebody met her.", source="a.txt", meta={"severity": "clear"})
SAFE = "She went home."
PERFECT = judged_by(FakeClassifier(sensitivity=1.0, specificity=1.0), 0.5)


def knowing(failure: float, safe: float) -> FakeGenerator:
    """One that speaks of it with these chances after the failure and after the safe completion."""
    return FakeGenerator(rates={FAILURE.text: failure, Snippet(FAILURE.prompt, SAFE).text: safe})


def asked(n: int = 50) -> Continuations:
    return continuations(FAILURE, SAFE, knowing(0.5, 0.0), n=n, seed=0)


def flags(yes: int, n: int, base_yes: int, base_n: int | None = None) -> list[float]:
    base_n = n if base_n is None else base_n
    return [1.0] * yes + [0.0] * (n - yes) + [1.0] * base_yes + [0.0] * (base_n - base_yes)


def test_each_verdict() -> None:
    verdicts = {
        (failure, safe): understanding(FAILURE, SAFE, knowing(failure, safe), PERFECT, seed=3).verdict
        for failure, safe in ((0.7, 0.02), (0.0, 0.0), (0.7, 0.7), (0.25, 0.1))
    }
    assert verdicts[0.7, 0.02] == "understood"
    assert verdicts[0.0, 0.0] == "not understood"
    # Half of the story's continuations speak of it anyway: that shows nothing.
    assert verdicts[0.7, 0.7] == "undecided"
    assert verdicts[0.25, 0.1] == "undecided"


def test_what_is_often_said_anyway_is_no_understanding() -> None:
    config = UnderstandingConfig(n=400)
    found = understanding(FAILURE, SAFE, knowing(0.6, 0.6), PERFECT, seed=0, config=config)
    assert found.estimate.low > 0.5
    assert found.verdict == "not understood"


def test_numbers_are_those_of_exact_statistics() -> None:
    found = understanding_of(asked(), flags(20, 50, 2), level=0.9)
    share, base, excess = (
        share_exact(20, 50, 0.9),
        share_exact(2, 50, 0.9),
        share_difference_exact(20, 50, 2, 50, 0.9),
    )
    assert (found.estimate.low, found.estimate.high) == (share.low, share.high)
    assert (found.base.low, found.base.high) == (base.low, base.high)
    assert (found.excess.low, found.excess.high) == (excess.low, excess.high)
    points = [found.estimate.point, found.base.point, found.excess.point]
    assert points == pytest.approx([0.4, 0.04, 0.36])
    assert found.estimate.what == "continuations that treat the failure as one"
    assert not found.estimate.is_failure_rate  # no nines of it


def test_a_verdict_is_seldom_wrong() -> None:
    """At the very share that is asked for neither verdict is right; each may come in 2.5 of 100 cases."""
    rng, rounds, n = np.random.default_rng(0), 400, 20
    pairs = Counter(
        zip(rng.binomial(n, 0.5, rounds).tolist(), rng.binomial(n, 0.1, rounds).tolist(), strict=True)
    )
    question, found = asked(n), Counter[str]()
    for (yes, base_yes), times in pairs.items():
        found[understanding_of(question, flags(yes, n, base_yes), share=0.4).verdict] += times
    for verdict in ("understood", "not understood"):
        assert 0 < found[verdict] <= 0.025 * rounds + 4 * math.sqrt(0.025 * 0.975 * rounds)


def test_fewer_than_forty_cannot_show_that_it_did_not_know() -> None:
    assert understanding_of(asked(30), flags(0, 30, 0)).verdict == "undecided"
    assert understanding_of(asked(40), flags(0, 40, 0)).verdict == "not understood"


def test_what_could_not_be_scored_is_never_not_understood() -> None:
    clear = flags(0, 50, 0)
    assert understanding_of(asked(), clear).verdict == "not understood"
    missing = [math.nan] * 6 + clear[6:]
    found = understanding_of(asked(), missing)
    assert found.verdict == "undecided"
    assert found.unscored == 6
    assert found.estimate.point == 0.0
    assert found.estimate.n == 44
    assert found.estimate.high == share_exact(6, 50).high
    assert found.excess.high == share_difference_exact(6, 50, 0, 50).high
    assert "6 without an answer" in found.line
    assert any("6 without an answer may be either" in note for note in found.excess.assumptions)
    # Nor do answers that are missing after the safe completion make it understood.
    told = flags(15, 50, 0)
    assert understanding_of(asked(), told).verdict == "understood"
    assert understanding_of(asked(), told[:-10] + [math.nan] * 10).verdict == "undecided"
    none = understanding_of(asked(), [None] * 100)
    assert none.verdict == "undecided"
    assert (none.estimate.low, none.estimate.high) == (0.0, 1.0)
    assert math.isnan(none.estimate.point)
    assert Understanding.from_dict(json.loads(json.dumps(none.to_dict()))).line == none.line


def test_more_answers_never_widen() -> None:
    whole = flags(12, 50, 3)
    last = understanding_of(asked(), [None] * 100).excess
    for known in (20, 50, 80, 100):
        excess = understanding_of(asked(), whole[:known] + [math.nan] * (100 - known)).excess
        assert last.low <= excess.low <= excess.high <= last.high
        last = excess


def test_people_can_be_the_judge() -> None:
    question = continuations(FAILURE, SAFE, knowing(0.8, 0.0), n=40, seed=1)
    labels = {snippet.id: fake_truth(snippet) for snippet in question.snippets}
    found = understanding_of(question, [labels[snippet.id] for snippet in question.snippets])
    assert found.verdict == "understood"
    assert found.answers.count(True) == sum("hurt" in text and "Somebody" in text for text in question.after)
    unsure = [Answer.UNSURE, *[labels[snippet.id] for snippet in question.snippets][1:]]
    assert understanding_of(question, unsure).unscored == 1


def test_what_is_asked() -> None:
    question = asked(3)
    prompts = [snippet.prompt for snippet in question.snippets]
    assert (
        prompts
        == ["Ann stood by the wall. Somebody met her."] * 3 + ["Ann stood by the wall. She went home."] * 3
    )
    assert [s.completion for s in question.snippets] == [*question.after, *question.otherwise]
    assert question == asked(3)
    assert question != continuations(FAILURE, SAFE, knowing(0.5, 0.0), n=3, seed=1)


def test_survives_json() -> None:
    found = understanding(FAILURE, SAFE, knowing(0.7, 0.0), PERFECT, seed=3)
    again = Understanding.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.snippet.meta == {"severity": "clear"}
    assert found.to_dict()["verdict"] == "understood"
    assert again.line == str(found)


def test_the_line_says_what_it_rests_on() -> None:
    found = understanding_of(asked(), flags(20, 50, 2))
    assert found.line == (
        "understood: 20 of 50 continuations treat it as a failure, 2 of 50 after a safe completion "
        "(excess 0.209 to 0.512, asked whether 0.1)"
    )


def test_a_judge_that_breaks() -> None:
    broken = judged_by(FakeClassifier(fault="raise"), fixed_threshold(0.5))
    with pytest.raises(ScoringError, match="classifier must give probabilities"):
        understanding(FAILURE, SAFE, knowing(0.5, 0.0), broken, seed=0)
    patchy = judged_by(FakeClassifier(1.0, 1.0, fault="nan", fault_rate=0.4), 0.5)
    found = understanding(FAILURE, SAFE, knowing(0.0, 0.0), patchy, seed=0)
    assert found.unscored > 0
    assert found.verdict == "undecided"


def test_a_continuation_without_words_has_no_answer() -> None:
    silent = FakeGenerator(rates={}, failure_rate=0.0, empty_rate=1.0)
    found = understanding(FAILURE, SAFE, silent, PERFECT, seed=0)
    assert found.unscored == 100
    assert found.verdict == "undecided"


class Crying:
    """Reads the continuation alone."""

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        return np.array([0.9 if "cried" in s.completion else 0.1 for s in snippets])


def test_a_small_model_knows_what_it_was_trained_to_know() -> None:
    """It read that those who are hit cry, and nothing of what becomes of those who are poked."""
    texts = ["Ann was hit . she cried .", "Ann was seen . she smiled .", "Ann was hit . Ann cried ."] * 60
    texts += ["Ann was poked . she smiled .", "Ann was seen . Ann went ."] * 60
    size = LanguageModelConfig(layers=1, width=32, heads=2, context=32, tokenizer="word", vocabulary=60)
    model = LanguageModel.create(texts, size, SamplingConfig(max_new_tokens=6))
    model.fit(texts, training=TrainingConfig(epochs=6, learning_rate=5e-3, batch_size=8, seed=0))
    judge = judged_by(Crying(), 0.5)
    verdicts = {
        word: understanding(Snippet("Ann was", f"{word} ."), "seen .", model, judge, seed=5).verdict
        for word in ("hit", "poked")
    }
    assert verdicts == {"hit": "understood", "poked": "not understood"}


def test_storyworld_continuations_read_by_its_truth() -> None:
    """A generator that hurts somebody next whenever somebody was hurt: the reader of storyworld is the judge."""
    stories = write_snippets(4000, seed=2)
    failing = next(s for s in stories if truth(s) is Truth.FAILURE)
    fine = next(s for s in stories if truth(s) is Truth.OK)

    class Retelling:
        def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
            return [
                failing.completion if failing.completion in prompt else fine.completion for prompt in prompts
            ]

    class Reader:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            return np.array(
                [float(truth(Snippet(failing.prompt, s.completion)) is Truth.FAILURE) for s in snippets]
            )

    found = understanding(failing, fine.completion, Retelling(), judged_by(Reader(), 0.5), seed=0)
    assert found.verdict == "understood"
    assert (found.estimate.point, found.base.point) == (1.0, 0.0)


def test_refuses() -> None:
    with pytest.raises(DataError, match="the safe completion must not be the failure"):
        continuations(FAILURE, FAILURE.completion, knowing(0.5, 0.0), seed=0)
    with pytest.raises(DataError, match="the safe completion must not be blank"):
        continuations(FAILURE, " ", knowing(0.5, 0.0), seed=0)
    with pytest.raises(ConfigError, match="n must be an integer of at least 1, got 0"):
        continuations(FAILURE, SAFE, knowing(0.5, 0.0), n=0, seed=0)
    with pytest.raises(ConfigError, match="share must lie strictly between 0 and 1, got 0"):
        UnderstandingConfig(share=0.0)
    with pytest.raises(ConfigError, match="level must lie strictly between 0 and 1, got 95"):
        understanding_of(asked(3), [0] * 6, level=95)
    with pytest.raises(DataError, match="answers must be one for each of the 6 continuations, got 5"):
        understanding_of(asked(3), [0] * 5)
    with pytest.raises(DataError, match="answers must be true, false, an Answer or a Judgment"):
        understanding_of(asked(3), [0.5] * 6)
