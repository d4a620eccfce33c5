"""Objectives: what is kept of a corpus, which of its tokens are charged, and how (Korbak et al., arXiv 2302.08582).

Likelihood         -log p of every token; the text as it is
Conditional        the same on text with tags; a tag is charged like any token
Filtering          the same on the documents that score at most a threshold, repeated to the same number of tokens
Unlikelihood       -log p where the score is at most a threshold, -alpha log(1 - p) above
RewardWeighted     weights exp(R / beta) on -log p, with the reward R = -score
AdvantageWeighted  weights exp((R - V) / beta), with a value V that is learnt beside
TokenMasked        -log p, but nothing is learnt from tokens above a threshold (arXiv 2601.21571)

Each is a value: settings, checked when made, and a loss of logits; fivenines.conditional.training trains by them. What
all share: a token whose score is not known is never charged, the end of a text scores 0, and so does a tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fivenines.conditional.marks import Marks
from fivenines.errors import ConfigError, sentence
from fivenines.models.losses import IGNORE, language_model_loss, unlikelihood_loss, value_loss
from fivenines.stats.checks import check_finite, check_share

__all__ = [
    "AdvantageWeighted",
    "Conditional",
    "Filtering",
    "Likelihood",
    "Objective",
    "RewardWeighted",
    "Scale",
    "TokenMasked",
    "Unlikelihood",
    "objective_from_dict",
]


@dataclass(frozen=True)
class Scale:
    """Of the rewards of a corpus's charged tokens: mean, deviation, and the mean of the weights made of them."""

    mean: float = 0.0
    deviation: float = 1.0
    weight: float = 1.0


class Objective:
    """What an objective is unless it says otherwise: mean nats over all charged tokens, of all documents."""

    kind: ClassVar[str] = ""
    scored: ClassVar[bool] = True  # whether it needs scores beside those of the scheme
    valued: ClassVar[bool] = False  # whether a value is learnt beside

    @property
    def with_tags(self) -> bool:
        """Whether the text is learnt with its tags."""
        return False

    @property
    def reads(self) -> str | None:
        """Whose scores; None: the first scorer of the scheme, or the one that marked the texts."""
        return None

    def keeps(self, marks: Marks) -> bool:
        """Whether a document with these marks is learnt from."""
        return True

    def hides(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which tokens are not charged although their score is known; both (t,)."""
        return np.zeros(len(scores), dtype=np.bool_)

    def scale(self, scores: NDArray[np.float32]) -> Scale:
        """What :meth:`loss` must know of the whole corpus: ``scores`` (t,) of all its charged tokens."""
        return Scale()

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        scores: Tensor,
        values: Tensor | None = None,
        scale: Scale | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar in nats; its gradient goes to ``logits`` and ``values``.

        ``logits`` (n, t, vocabulary) at each position, position i for token i + 1; ``labels`` (n, t) the tokens
        that stand there, IGNORE where nothing is charged; ``scores`` (n, t) of these tokens; ``values`` (n, t) at
        each position, of the token after it. A batch that charges no token costs 0.
        """
        return language_model_loss(logits, labels)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; :func:`objective_from_dict` reads it."""
        return {"kind": self.kind} | asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class Likelihood(Objective):
    """Mean nats of a token, of text without tags. Needs no marks."""

    kind: ClassVar[str] = "likelihood"
    scored: ClassVar[bool] = False


@dataclass(frozen=True)
class Conditional(Objective):
    """Mean nats of a token, of text with its tags, which are charged like tokens: the model learns where they stand.

    Korbak et al., section 2; labels of tags are not masked in the released code either. Which bands there are, and
    which share of spans goes without its tag, is the scheme's. With ``emphasis`` the tokens of spans that score above
    ``above`` weigh so many times as much: where one sentence in fifty is bad, what its tag stands for is else learnt
    late or never (docs/LOG.md). The tags themselves keep their weight, so that their probabilities stay honest.
    """

    emphasis: float = 1.0
    above: float = 0.5
    kind: ClassVar[str] = "conditional"
    scored: ClassVar[bool] = False  # the scheme knows whose

    def __post_init__(self) -> None:
        if check_finite(self.emphasis, "emphasis") < 1:
            raise ConfigError(sentence("emphasis", "must be at least 1", self.emphasis))
        check_finite(self.above, "above")

    @property
    def with_tags(self) -> bool:
        return True

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        scores: Tensor,
        values: Tensor | None = None,
        scale: Scale | None = None,
    ) -> Tensor:
        if self.emphasis == 1.0:
            return language_model_loss(logits, labels)
        weights = 1.0 + (self.emphasis - 1.0) * (scores > self.above)  # (n, t); a tag scores 0
        return language_model_loss(logits, labels, token_weights=weights, by_count=True)


@dataclass(frozen=True, kw_only=True)
class _Scored(Objective):
    """``scorer``: whose scores, see :attr:`Objective.reads`; ``tagged``: learn the text with the scheme's tags too."""

    scorer: str | None = None
    tagged: bool = False

    @property
    def with_tags(self) -> bool:
        return self.tagged

    @property
    def reads(self) -> str | None:
        return self.scorer


@dataclass(frozen=True)
class Filtering(_Scored):
    """Likelihood of the documents whose mean (or largest) score of a span is at most ``threshold``.

    The others are dropped, and so is a document of which no span could be scored. What is kept is repeated until as
    many tokens are read as there were before. The mean is that of the spans, unweighted, as in the released code.
    """

    threshold: float
    by: Literal["mean", "max"] = "mean"
    kind: ClassVar[str] = "filtering"

    def __post_init__(self) -> None:
        check_finite(self.threshold, "threshold")
        if self.by not in ("mean", "max"):
            raise ConfigError(sentence("by", "must be mean or max", self.by))

    def keeps(self, marks: Marks) -> bool:
        known = [score for score in marks.scores if score is not None]
        if not known:
            return False
        return (max(known) if self.by == "max" else sum(known) / len(known)) <= self.threshold


@dataclass(frozen=True)
class Unlikelihood(_Scored):
    """Mean over tokens of -log p where the score is at most ``threshold``, and -``alpha`` log(1 - p) above.

    Korbak et al., section 2, after Welleck et al. 2020 (arXiv 1908.04319).
    """

    threshold: float
    alpha: float = 1.0
    kind: ClassVar[str] = "unlikelihood"

    def __post_init__(self) -> None:
        check_finite(self.threshold, "threshold")
        if check_finite(self.alpha, "alpha") < 0:
            raise ConfigError(sentence("alpha", "must not be negative", self.alpha))

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        scores: Tensor,
        values: Tensor | None = None,
        scale: Scale | None = None,
    ) -> Tensor:
        return unlikelihood_loss(logits, labels, scores > self.threshold, alpha=self.alpha)


@dataclass(frozen=True)
class TokenMasked(_Scored):
    """Likelihood of the tokens of spans that score at most ``threshold``; the others are read and not charged.

    With ``hidden``, a token such as "<|hidden|>", the others are not even read: it stands in the place of each. Both
    forms: "Shaping capabilities with token-level data filtering", arXiv 2601.21571.
    """

    threshold: float
    hidden: str = ""
    kind: ClassVar[str] = "token_masked"

    def __post_init__(self) -> None:
        check_finite(self.threshold, "threshold")
        if any(character.isspace() for character in self.hidden):
            raise ConfigError(sentence("hidden", "must be a token without blanks", repr(self.hidden)))

    def hides(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        return scores > self.threshold


@dataclass(frozen=True)
class _Weighted(_Scored):
    """``normalise``: rewards are taken over their deviation in the corpus, so that ``beta`` means the same for all."""

    normalise: bool = field(default=True, kw_only=True)
    clip: float = field(default=1000.0, kw_only=True)

    def _check(self, beta: float) -> None:
        for name, value in (("beta", beta), ("clip", self.clip)):
            if check_finite(value, name) <= 0:
                raise ConfigError(sentence(name, "must be positive", value))

    def scale(self, scores: NDArray[np.float32]) -> Scale:
        if not self.normalise or not len(scores):
            return Scale()
        rewards = -scores.astype(np.float64)
        deviation = float(rewards.std())
        return Scale(float(rewards.mean()), deviation if deviation > 0 else 1.0)


@dataclass(frozen=True)
class RewardWeighted(_Weighted):
    """Mean over tokens of -w log p with w = exp(R / beta), at most ``clip`` (Korbak et al., section 2: RWR).

    With ``normalise`` the reward is R less its mean over its deviation in the corpus, and the weights are divided by
    their mean there: beta 1 and the learning rate then mean the same for every scorer. Without, it is the paper's form:
    nearly plain likelihood at beta 10 (docs/design/tags.md, 6).
    """

    beta: float = 1.0
    kind: ClassVar[str] = "reward_weighted"

    def __post_init__(self) -> None:
        self._check(self.beta)

    def scale(self, scores: NDArray[np.float32]) -> Scale:
        found = super().scale(scores)
        if not self.normalise or not len(scores):
            return found
        weights = self._weights(torch.from_numpy(scores.astype(np.float64)), found)
        return replace(found, weight=float(weights.mean()))

    def _weights(self, scores: Tensor, scale: Scale) -> Tensor:
        rewards = (-scores - scale.mean) / scale.deviation
        return (rewards / self.beta).exp().clamp_max(self.clip) / scale.weight

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        scores: Tensor,
        values: Tensor | None = None,
        scale: Scale | None = None,
    ) -> Tensor:
        weights = self._weights(_known(scores, labels), _scale_of(self, scale))
        return language_model_loss(logits, labels, token_weights=weights, by_count=True)


@dataclass(frozen=True)
class AdvantageWeighted(_Weighted):
    """``alpha`` mean(-w log p) + (1 - ``alpha``) mean((V - R)^2) with w = exp((R - V) / beta), at most ``clip``
    (Korbak et al., section 2: AWR).

    V at a position is learnt to be the reward of the token after it; the weights send no gradient to it. Values lie in
    (-1, 0), so scores must lie in [0, 1]. With ``normalise`` the advantage R - V is centred in the batch and taken over
    the deviation of rewards in the corpus; without, it is the reference code's form.
    """

    alpha: float = 0.5
    beta: float = 1.0
    kind: ClassVar[str] = "advantage_weighted"
    valued: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._check(self.beta)
        check_share(self.alpha, "alpha")

    def scale(self, scores: NDArray[np.float32]) -> Scale:
        if len(scores) and scores.max() > 1:
            then = "Scale them, or take RewardWeighted."
            raise ConfigError(
                sentence("scores for values in (-1, 0)", "must lie in [0, 1]", float(scores.max()), then)
            )
        return super().scale(scores)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        scores: Tensor,
        values: Tensor | None = None,
        scale: Scale | None = None,
    ) -> Tensor:
        if values is None:
            raise ConfigError(sentence("the loss of AdvantageWeighted", "must be given values", None))
        rewards = -_known(scores, labels)
        advantages = rewards[:, 1:] - values[:, :-1].detach()  # (n, t - 1), of token i + 1
        if self.normalise:
            charged = labels[:, 1:] != IGNORE
            mean = advantages[charged].mean() if charged.any() else 0.0
            advantages = (advantages - mean) / _scale_of(self, scale).deviation
        weights = F.pad((advantages / self.beta).exp().clamp_max(self.clip), (1, 0))  # (n, t)
        text = language_model_loss(logits, labels, token_weights=weights, by_count=True)
        return self.alpha * text + (1 - self.alpha) * value_loss(values, rewards, labels)


_KINDS: dict[str, type[Objective]] = {
    made.kind: made
    for made in (
        Likelihood,
        Conditional,
        Filtering,
        Unlikelihood,
        RewardWeighted,
        AdvantageWeighted,
        TokenMasked,
    )
}


def objective_from_dict(row: Mapping[str, Any]) -> Objective:
    """From :meth:`Objective.to_dict`, or a table of TOML. Raises ConfigError for what is no objective."""
    kind = row.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(sentence("the kind of an objective", f"must be one of {', '.join(_KINDS)}", kind))
    given = {name: value for name, value in row.items() if name != "kind"}
    own = {each.name: each for each in _settings(_KINDS[kind])}
    needed = [name for name, each in own.items() if each.default is MISSING and name not in given]
    if needed:
        raise ConfigError(sentence(f"objective {kind}", f"must be given {', '.join(needed)}", "none"))
    if others := [name for name in given if name not in own]:
        must = f"must have settings among {', '.join(own)}" if own else "has no settings"
        raise ConfigError(sentence(f"objective {kind}", must, ", ".join(others)))
    return _KINDS[kind](**given)


def _settings(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)


def _known(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores, 0 where nothing is charged: a NaN would not go away by a weight of 0."""
    return scores.masked_fill(labels == IGNORE, 0.0)


def _scale_of(objective: _Weighted, scale: Scale | None) -> Scale:
    if scale is None and objective.normalise:
        then = "Give that of objective.scale(scores), or set normalise to False."
        raise ConfigError(sentence("a normalised loss", "must know the scale of the rewards", None, then))
    return Scale() if scale is None or not objective.normalise else scale
