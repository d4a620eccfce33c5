"""Did the generator know? Whether its own continuations treat a failure that passed as the failure it is.

A filter misses some failures because nobody could have told from the text, the generator included; others the
generator tells well enough to go on from them ("she clutched the broken arm"). So it is asked: it continues the prompt
with the failure many times over, and the same prompt with a safe completion as often, since in some stories somebody is
hurt sooner or later anyway. A judge, classifier or person, says of each continuation whether it speaks of the failure.

Continuations are drawn by :func:`continuations` and judged apart from that, so that people can be the judge; with a
classifier for a judge :func:`understanding` does both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fivenines.errors import DataError, sentence
from fivenines.filtering.scoring import PatientScorer
from fivenines.models.protocols import GeneratorLike, ScorerLike
from fivenines.records import Snippet
from fivenines.stats import Estimate, share_difference_exact, share_exact
from fivenines.stats.checks import check_level, check_rate, check_whole
from fivenines.threshold import AnswerLike, Threshold, answers_array, fixed_threshold

__all__ = [
    "Continuations",
    "Understanding",
    "UnderstandingConfig",
    "continuations",
    "judged_by",
    "understanding",
    "understanding_of",
]

Verdict = Literal["understood", "not understood", "undecided"]
Judge = Callable[[Sequence[Snippet]], Sequence[AnswerLike] | NDArray[Any]]

_DRAWN = "the continuations are independent draws of the generator"
_JUDGED = "the judge is right about continuations, after the failure as after the safe completion"


@dataclass(frozen=True, slots=True)
class UnderstandingConfig:
    """``n`` continuations of each kind; understood: at least ``share`` more of them speak of it than otherwise.

    Below about 40 continuations of each kind no answers can show that a failure was not understood, at a share of 0.1
    and a level of 0.95. Checked when made; raises ConfigError.
    """

    n: int = 50
    share: float = 0.1
    level: float = 0.95

    def __post_init__(self) -> None:
        check_whole(self.n, "n", 1)
        check_rate(self.share, "share")
        check_level(self.level)


@dataclass(frozen=True, slots=True)
class Continuations:
    """What to ask a judge: continuations of a failure, and as many of its prompt with a ``safe`` completion."""

    failure: Snippet
    safe: str
    after: tuple[str, ...]
    otherwise: tuple[str, ...]

    @property
    def snippets(self) -> list[Snippet]:
        """All of them for the judge, first those after the failure; the story so far is the prompt of each."""
        failure = self.failure
        control = replace(failure, completion=self.safe)
        told = [Snippet(failure.text, text, failure.source) for text in self.after]
        return told + [Snippet(control.text, text, failure.source) for text in self.otherwise]


@dataclass(frozen=True, slots=True)
class Understanding:
    """A failure and what the generator made of it; kept with the failure.

    ``answers`` and ``base_answers`` stand beside the continuations: true where the judge says that a continuation
    speaks of the failure, None where there is no answer. ``estimate`` is the share that does after the failure,
    ``base`` after the safe completion, ``excess`` the first minus the second. The points are of the answers; the
    intervals hold whatever the answers that are missing would be.
    """

    asked: Continuations
    answers: tuple[bool | None, ...]
    base_answers: tuple[bool | None, ...]
    share: float
    estimate: Estimate
    base: Estimate
    excess: Estimate

    @property
    def snippet(self) -> Snippet:
        """The failure."""
        return self.asked.failure

    @property
    def verdict(self) -> Verdict:
        """By the interval of the excess: above the share, below it, or on both sides of it.

        Each of the first two is wrong with a probability of (1 - level) / 2 at most.
        """
        if self.excess.low >= self.share:
            return "understood"
        return "not understood" if self.excess.high < self.share else "undecided"

    @property
    def unscored(self) -> int:
        """Continuations without an answer."""
        return self.answers.count(None) + self.base_answers.count(None)

    @property
    def line(self) -> str:
        """The verdict and what it rests on, in one line."""
        low, high = self.excess.rounded()
        counts = [
            f"{answers.count(True):,} of {len(answers) - answers.count(None):,}"
            for answers in (self.answers, self.base_answers)
        ]
        missing = f", {self.unscored:,} without an answer" if self.unscored else ""
        return (
            f"{self.verdict}: {counts[0]} continuations treat it as a failure, {counts[1]} after a safe completion "
            f"(excess {low:.3g} to {high:.3g}, asked whether {self.share:g}{missing})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        failure = self.snippet
        return {
            "prompt": failure.prompt,
            "completion": failure.completion,
            "source": failure.source,
            "meta": dict(failure.meta),
            "safe": self.asked.safe,
            "continuations": list(self.asked.after),
            "answers": list(self.answers),
            "base_continuations": list(self.asked.otherwise),
            "base_answers": list(self.base_answers),
            "share": self.share,
            "estimate": self.estimate.to_dict(),
            "base": self.base.to_dict(),
            "excess": self.excess.to_dict(),
            "verdict": self.verdict,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError for what is none."""
        failure = Snippet(data["prompt"], data["completion"], data["source"], dict(data["meta"]))
        after, otherwise = tuple(data["continuations"]), tuple(data["base_continuations"])
        return cls(
            Continuations(failure, data["safe"], after, otherwise),
            tuple(data["answers"]),
            tuple(data["base_answers"]),
            data["share"],
            *(Estimate.from_dict(data[name]) for name in ("estimate", "base", "excess")),
        )

    def __str__(self) -> str:
        return self.line


def understanding(
    failure: Snippet,
    safe: str,
    generator: GeneratorLike,
    judge: Judge,
    *,
    seed: int,
    config: UnderstandingConfig | None = None,
) -> Understanding:
    """Whether the generator's continuations treat ``failure`` as a failure more often than they would anyway.

    Args:
        failure: one that passed the filter.
        safe: a completion of the same prompt that is no failure, such as an accepted draw.
        generator: the one that wrote it.
        judge: says of each snippet whether its completion speaks of the failure: :func:`judged_by` a classifier.
        seed: of the continuations.

    Raises as :func:`continuations` and :func:`understanding_of`.
    """
    config = UnderstandingConfig() if config is None else config
    asked = continuations(failure, safe, generator, n=config.n, seed=seed)
    return understanding_of(asked, judge(asked.snippets), share=config.share, level=config.level)


def continuations(
    failure: Snippet, safe: str, generator: GeneratorLike, *, n: int = 50, seed: int
) -> Continuations:
    """``n`` continuations of prompt and failure, and ``n`` of the prompt and the safe completion.

    Raises:
        ConfigError: ``n`` below 1.
        DataError: a failure or a safe completion without words, or one that is the other.
    """
    check_whole(n, "n", 1)
    for what, text in (("failure", failure.completion), ("safe", safe)):
        if not text.strip():
            raise DataError(sentence(f"the {what} completion", "must not be blank", repr(text)))
    if safe.strip() == failure.completion.strip():
        raise DataError(sentence("the safe completion", "must not be the failure", safe))
    stories = (failure.text, replace(failure, completion=safe).text)
    drawn = tuple(generator.sample([story for story in stories for _ in range(n)], seed=seed))
    return Continuations(failure, safe, drawn[:n], drawn[n:])


def understanding_of(
    asked: Continuations,
    answers: Sequence[AnswerLike] | NDArray[Any],
    *,
    share: float = 0.1,
    level: float = 0.95,
) -> Understanding:
    """From what a judge said of each of ``asked.snippets``, in their order.

    Args:
        answers: whether the continuation speaks of the failure; None, NaN or unsure where nobody can say. Such
            answers are counted apart: the intervals allow for either.
        share: how much more often than after a safe completion, in (0, 1).

    Raises:
        DataError: not one answer for each, or what is no answer.
        ConfigError: ``share`` or ``level`` is not strictly between 0 and 1.
    """
    check_rate(share, "share")
    check_level(level)
    values = answers_array(answers, unsure="drop")
    wanted = len(asked.after) + len(asked.otherwise)
    if values.size != wanted:
        raise DataError(
            sentence("answers", f"must be one for each of the {wanted} continuations", values.size)
        )
    after, otherwise = values[: len(asked.after)], values[len(asked.after) :]
    return Understanding(
        asked,
        _plain(after),
        _plain(otherwise),
        share,
        _share_of(after, level, "continuations that treat the failure as one"),
        _share_of(otherwise, level, "continuations that do so after a safe completion"),
        _excess(after, otherwise, level),
    )


def judged_by(scorer: ScorerLike, threshold: Threshold | float) -> Judge:
    """A judge that says failure where the score of a continuation, after the story so far, does not pass.

    What has no valid score, or no words, has no answer. The judge raises ScoringError where nothing has a score
    because the scorer raised.
    """
    limit = threshold if isinstance(threshold, Threshold) else fixed_threshold(threshold)

    def judge(snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        patient = PatientScorer(scorer)
        told = [place for place, snippet in enumerate(snippets) if snippet.completion.strip()]
        scores = np.full(len(snippets), np.nan)
        scores[told] = patient.scores([snippets[place] for place in told])
        patient.check_at_end()
        return np.where(np.isnan(scores), np.nan, ~limit.accepts(scores))

    return judge


def _plain(values: NDArray[np.float64]) -> tuple[bool | None, ...]:
    return tuple(None if np.isnan(value) else bool(value) for value in values)


def _share_of(values: NDArray[np.float64], level: float, what: str) -> Estimate:
    """Missing answers are all no for the lower end and all yes for the upper one."""
    (least, most), n, answered = _counts(values), values.size, int((~np.isnan(values)).sum())
    known = share_exact(least, answered, level)
    low, high = share_exact(least, n, level).low, share_exact(most, n, level).high
    found = replace(known, low=low, high=high, assumptions=(_DRAWN, _JUDGED))
    return found.named(what, *_missing_note(n - answered))


def _excess(after: NDArray[np.float64], otherwise: NDArray[np.float64], level: float) -> Estimate:
    (least, most), (base_least, base_most) = _counts(after), _counts(otherwise)
    n, base_n = after.size, otherwise.size
    missing = int(np.isnan(after).sum()), int(np.isnan(otherwise).sum())
    known = share_difference_exact(least, n - missing[0], base_least, base_n - missing[1], level)
    if sum(missing):
        low = share_difference_exact(least, n, base_most, base_n, level).low
        high = share_difference_exact(most, n, base_least, base_n, level).high
        known = replace(known, low=low, high=high)
    what = "excess of continuations that treat the failure as one"
    return replace(known, assumptions=(_DRAWN, _JUDGED)).named(what, *_missing_note(sum(missing)))


def _counts(values: NDArray[np.float64]) -> tuple[int, int]:
    """The least and the most that can be true, missing answers counted as the one or the other."""
    yes = int((values == 1).sum())
    return yes, yes + int(np.isnan(values).sum())


def _missing_note(missing: int) -> tuple[str, ...]:
    return (f"{missing:,} without an answer may be either",) if missing else ()
