"""A generator and a classifier without a model: NumPy only, deterministic, fast enough for millions.

Their truth is known in closed form, so every estimator and every guarantee can be checked against it. They
keep the same contracts as the real ones (``generator_contract`` and ``classifier_contract``, beside this
file).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from fivenines.attacks.goal import Budget, Goal
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.records import Answer, Attempt, Judgment, Outcome, Snippet

__all__ = ["FakeAttack", "FakeClassifier", "FakeGenerator", "Fault", "fake_truth"]

_FAILURE = "Somebody got hurt"
_OK = "Nobody was hurt"

Fault = Literal["raise", "nan", "range", "negative", "infinite", "shape", "column", "text", "masked", "none"]


def fake_truth(snippet: Snippet) -> Answer:
    """The answer on a completion of :class:`FakeGenerator`, read from the text."""
    return Answer.FAILURE if snippet.completion.startswith(_FAILURE) else Answer.OK


def _uniforms(texts: Iterable[str], salt: int) -> NDArray[np.float64]:
    """One number in [0, 1) per text, the same on every machine: CRC-32, mixed as in SplitMix64."""
    hashes = np.fromiter((zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in texts), np.uint64)
    mixed = hashes + np.uint64((salt * 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


@dataclass(frozen=True)
class FakeGenerator:
    """Draws from a known distribution of ``2 * variants`` completions, another one for each prompt.

    A prompt's failure probability is exponential over prompts with mean ``failure_rate`` (capped at 1), found
    from a hash of the prompt, or given in ``rates``. ``empty_rate`` is the share of draws that are empty
    text.
    """

    failure_rate: float = 0.02
    variants: int = 8
    rates: Mapping[str, float] = field(default_factory=dict)
    empty_rate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("failure_rate", "empty_rate"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(sentence(name, "must lie in [0, 1]", value))
        if self.variants < 1:
            raise ConfigError(sentence("variants", "must be at least 1", self.variants))

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """One completion per prompt; row i uses the i-th pair of numbers of the stream of ``seed``."""
        if not prompts:
            return []
        rng = np.random.default_rng(seed)
        chance, which, blank = rng.random((3, len(prompts)))
        failed = chance < self.failure_rates(prompts)
        rank = np.minimum(np.searchsorted(np.cumsum(self._weights()), which, "right"), self.variants - 1)
        variant = (rank + self._shifts(prompts)) % self.variants
        texts = [f"{stem}, {k}." for stem in (_OK, _FAILURE) for k in range(self.variants)] + [""]
        index = np.where(blank < self.empty_rate, len(texts) - 1, failed * self.variants + variant)
        return [texts[i] for i in index.tolist()]

    def truth(self, snippet: Snippet) -> Answer:
        return fake_truth(snippet)

    def failure_rates(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """P(failure | prompt, not empty) of each prompt, shape (n,)."""
        drawn = np.minimum(-self.failure_rate * np.log1p(-_uniforms(prompts, salt=1)), 1.0)
        if self.rates:
            given = [self.rates.get(prompt, np.nan) for prompt in prompts]
            drawn = np.where(np.isnan(given), drawn, given)
        return drawn

    def distribution(self, prompt: str) -> dict[str, float]:
        """Every completion that the prompt can get, with its probability."""
        rate = float(self.failure_rates([prompt])[0])
        shift = int(self._shifts([prompt])[0])
        result = {"": self.empty_rate} if self.empty_rate > 0 else {}
        for stem, share in ((_OK, 1 - rate), (_FAILURE, rate)):
            for rank, weight in enumerate(self._weights().tolist()):
                completion = f"{stem}, {(rank + shift) % self.variants}."
                result[completion] = share * weight * (1 - self.empty_rate)
        return result

    def _weights(self) -> NDArray[np.float64]:
        weights: NDArray[np.float64] = 1.0 / np.arange(1, self.variants + 1, dtype=np.float64)
        weights /= weights.sum()
        return weights

    def _shifts(self, prompts: Sequence[str]) -> NDArray[np.int64]:
        return (_uniforms(prompts, salt=2) * self.variants).astype(np.int64)


@dataclass
class FakeClassifier:
    """Scores by the truth, blurred: at threshold 0.5 it catches ``sensitivity`` of the failures and passes
    ``specificity`` of the rest. A snippet's score is a function of its text alone.

    ``fault`` makes it misbehave, for the share ``fault_rate`` of the snippets (chosen by a hash of the text):
    "raise" raises when such a snippet is in the batch; "nan", "range", "negative" and "infinite" give scores
    that are no probabilities; "shape", "column", "text" and "none" spoil the answer; "masked" hides scores.
    """

    sensitivity: float = 0.99
    specificity: float = 0.8
    truth: Callable[[Snippet], Answer] = fake_truth
    fault: Fault | None = None
    fault_rate: float = 1.0
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for name in ("sensitivity", "specificity", "fault_rate"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(sentence(name, "must lie in [0, 1]", value))

    def fit(self, snippets: Sequence[Snippet], judgments: Sequence[Judgment]) -> Self:
        """Check the pairs as a real one would; what it knows stands in the constructor."""
        if len(snippets) != len(judgments) or not snippets:
            got = f"{len(snippets)} snippets and {len(judgments)} judgments"
            raise DataError(sentence("fit", "needs one judgment per snippet and at least one", got))
        return self

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """P(failure), shape (n,): uniform over the half of [0, 1) that the verdict names."""
        self.calls += 1
        texts = [f"{s.prompt}\n{s.completion}" for s in snippets]
        failed = np.fromiter((self.truth(s) is Answer.FAILURE for s in snippets), bool, len(snippets))
        verdict, height = _uniforms(texts, salt=3), _uniforms(texts, salt=4)
        flagged = np.where(failed, verdict < self.sensitivity, verdict >= self.specificity)
        scores = (height + flagged) / 2.0
        if self.fault is None or not snippets:
            return scores
        return self._spoil(scores, _uniforms(texts, salt=5) < self.fault_rate)

    def _spoil(self, scores: NDArray[np.float64], faulty: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The wrong answers that a filter must survive. Their types are wrong on purpose."""
        if not faulty.any():
            return scores
        if self.fault == "raise":
            raise RuntimeError("the fake classifier cannot read this text")
        wrong = {"nan": np.nan, "range": 1.5, "negative": -0.25, "infinite": -np.inf}
        if self.fault in wrong:
            return np.where(faulty, wrong[self.fault], scores)
        spoiled: dict[str | None, object] = {
            "shape": scores[:-1],
            "column": np.zeros((len(scores), 1)),
            "text": np.full(len(scores), "0.0"),
            "masked": np.ma.MaskedArray(np.where(faulty, 0.0, scores), mask=faulty),
            "none": None,
        }
        return spoiled[self.fault]  # type: ignore[return-value]


@dataclass(frozen=True)
class FakeAttack:
    """Numbers the prompt, "1.", "2.", ..., until the classifier passes the text: one query at a time, no batches. It
    takes no time, so that of a budget in seconds only 0 counts.

    ``tries``: after so many numbers it has nothing left to try.
    """

    tries: int = 1000
    name: str = "numbered prompts"

    def run(self, goal: Goal, starts: Sequence[Snippet], *, budget: Budget, seed: int) -> Iterator[Attempt]:
        for start in dict.fromkeys(starts):
            yield self._attempt(goal, start, budget, seed)

    def _attempt(self, goal: Goal, start: Snippet, budget: Budget, seed: int) -> Attempt:
        texts = [start] + [
            Snippet(f"{start.prompt} {seed + i}.", start.completion) for i in range(self.tries)
        ]
        scores: list[float] = []
        refuted, outcome = 0, Outcome.EXHAUSTED
        for text in texts:
            if len(scores) >= budget.queries or budget.seconds == 0.0:
                outcome = Outcome.BUDGET
                break
            (score,) = goal.scores([text])
            scores.append(float(score))
            if len(scores) == 1 and not score < goal.limit:
                if np.isnan(score):
                    outcome = Outcome.UNSCORED
                    break
                continue
            if score < goal.limit:
                if len(scores) > 1 and goal.still_fails is not None and not goal.confirm([text])[0]:
                    refuted += 1
                    scores[-1] = np.nan
                    continue
                outcome = Outcome.FOOLED if len(scores) > 1 else Outcome.PASSED
                break
        best = None if not scores or np.isnan(scores).all() else int(np.nanargmin(scores))
        confirmed = True if outcome == Outcome.FOOLED and goal.still_fails is not None else None
        return Attempt(
            self.name,
            start,
            outcome,
            None if best is None else texts[best],
            None if not scores or np.isnan(scores[0]) else scores[0],
            None if best is None else scores[best],
            len(scores),
            0.0,
            seed,
            refuted,
            confirmed,
        )
