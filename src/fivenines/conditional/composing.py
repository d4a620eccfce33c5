"""What metatokens do alone and together: measured beside the long prompts that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fivenines.conditional.measuring.rates import Draws, failure_rate
from fivenines.conditional.metatokens import place_tags, read_context, write_behind
from fivenines.conditional.model import TaggedModel
from fivenines.errors import ConfigError, DataError, NotEnoughDataError, ScoringError, sentence
from fivenines.filtering.scoring import plain_scores
from fivenines.models.decoding import Ids
from fivenines.models.protocols import ScorerLike
from fivenines.records import Snippet
from fivenines.stats import Estimate, mean_bounded
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import check_level, check_whole

__all__ = ["ComposeConfig", "Composed", "Composition", "Measure", "compose"]

Measure = Callable[[Snippet], float] | ScorerLike  # a number in [0, 1]
_ONCE = "every context counts once, however many draws it got"
_DRAWN = "contexts are independent draws from those the mean speaks of"


@dataclass(frozen=True)
class ComposeConfig:
    """``draws`` completions of each context; ``place``: where the tags stand, as they were learnt.

    Checked when made; raises ConfigError.
    """

    draws: int = 4
    place: Literal["before", "behind"] = "before"
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole(self.draws, "draws", 1)
        check_whole(self.seed, "seed", 0)
        if self.place not in ("before", "behind"):
            raise ConfigError(sentence("place", "must be before or behind", self.place))
        check_level(self.level)


@dataclass(frozen=True, slots=True)
class Composed:
    """One scorer's mean on what was written behind ``tags``, behind their prompts in that order, and the difference.

    ``difference`` is the first less the second, paired by context. None of the intervals is of normal theory.
    """

    tags: tuple[str, ...]
    scorer: str
    tagged: Estimate
    prompted: Estimate
    difference: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shown = {name: getattr(self, name).to_dict() for name in ("tagged", "prompted", "difference")}
        return {"tags": list(self.tags), "scorer": self.scorer, **shown}


@dataclass(frozen=True, slots=True)
class Composition:
    """What :func:`compose` finds: each tag, then each pair in both orders, by each scorer."""

    rows: tuple[Composed, ...]
    contexts: int
    draws: int

    def of(self, *tags: str, scorer: str | None = None) -> Composed:
        """The row of these tags in this order; ``scorer`` None: the first. Raises ConfigError where there is none."""
        for row in self.rows:
            if row.tags == tags and scorer in (None, row.scorer):
                return row
        got = " ".join(tags) if scorer is None else f"{' '.join(tags)} by {scorer}"
        raise ConfigError(sentence("a composition", "must have been measured", got))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "contexts": self.contexts,
            "draws": self.draws,
            "rows": [row.to_dict() for row in self.rows],
        }

    def table(self) -> str:
        """A table in Markdown: means with their intervals."""
        lines = [
            "| tags | scorer | behind the tags | behind the prompts | difference |",
            "|---|---|---|---|---|",
        ]
        for row in self.rows:
            cells = " | ".join(_cell(each) for each in (row.tagged, row.prompted, row.difference))
            tags = " ".join(row.tags).replace("|", r"\|")
            lines.append(f"| {tags} | {row.scorer} | {cells} |")
        return "\n".join(lines)


def compose(
    model: TaggedModel,
    tags: Sequence[str],
    contexts: Sequence[str],
    scorers: Mapping[str, Measure],
    *,
    prompts: Mapping[str, str] | None = None,
    config: ComposeConfig | None = None,
) -> Composition:
    """The mean of each scorer on completions behind each tag and each ordered pair, and behind their long prompts.

    ``prompts`` by tag; None: those in the model's provenance. The prompts of a pair are joined by a blank. Scorers see
    the context and the completion alone. Cost: draws x contexts completions, twice for each of k + k (k - 1) arms.
    Give other contexts than those that the tags were learnt behind.

    Raises ConfigError for tags that the model has not, whose prompt nobody knows, or that were learnt at another place
    than ``config.place``; NotEnoughDataError for no context, no tag or no scorer, DataError for a prompt that is blank
    or leaves no room, ScoringError for a score outside [0, 1] or scores of another number than completions.
    """
    settings = ComposeConfig() if config is None else config
    known = _prompts(model, tags, prompts, settings.place)
    if isinstance(contexts, str):
        raise DataError(sentence("contexts", "must be a list of texts", "one text"))
    for what, given in (("tags", tags), ("contexts", contexts), ("scorers", scorers)):
        if not given:
            raise NotEnoughDataError(sentence("composing", f"needs {what}", "none"), 1)
    rows: list[Composed] = []
    for arm in [*((tag,) for tag in tags), *permutations(tags, 2)]:
        tokens = tuple(model.tags[tag] for tag in arm)
        long = " ".join(known[tag].strip() for tag in arm)
        own = [read_context(model, "", context) for context in contexts]
        tagged = [place_tags(model, ids, tokens, settings.place) for ids in own]
        prompted = [read_context(model, long, context) for context in contexts]
        both = [_write(model, before, contexts, settings) for before in (tagged, prompted)]
        for name, scorer in scorers.items():
            rows.append(
                _compared(arm, name, [_values(scorer, each, name) for each in both], contexts, settings)
            )
    return Composition(tuple(rows), len(contexts), settings.draws)


def _prompts(
    model: TaggedModel, tags: Sequence[str], prompts: Mapping[str, str] | None, place: str
) -> Mapping[str, str]:
    told = model.language.provenance.get("metatokens", {})
    known = {tag: row["prompt"] for tag, row in told.items()} if prompts is None else prompts
    for tag in tags:
        if tag not in model.tags:
            raise ConfigError(sentence("tags", f"must be of the model ({', '.join(model.tags)})", tag))
        if tag not in known:
            then = "Give its prompt."
            raise ConfigError(sentence("tags", "must have a prompt that they stand for", tag, then))
        if not known[tag].strip():
            raise DataError(sentence(f"the prompt of {tag}", "must hold words", repr(known[tag])))
        learnt = told.get(tag, {}).get("place", place)
        if learnt not in (place, "both"):
            then = f'Compose with place = "{learnt}".'
            raise ConfigError(
                sentence(f"tag {tag}", f"must have been learnt {place} the context", learnt, then)
            )
        if list(tags).count(tag) > 1:
            raise ConfigError(sentence("tags", "must be different", tag))
    return known


def _write(
    model: TaggedModel, before: Sequence[Ids], contexts: Sequence[str], config: ComposeConfig
) -> list[Snippet]:
    asked = [ids for ids in before for _ in range(config.draws)]
    shown = [context for context in contexts for _ in range(config.draws)]
    written = write_behind(model, asked, model.language.sampling, seed=config.seed)
    return [Snippet(context, text) for context, (text, _) in zip(shown, written, strict=True)]


def _values(scorer: Measure, snippets: Sequence[Snippet], name: str) -> NDArray[np.float64]:
    if isinstance(scorer, ScorerLike):
        raw: Any = scorer.scores(snippets)
    else:
        raw = np.array([scorer(each) for each in snippets])
    try:
        values = plain_scores(raw, len(snippets))
    except ScoringError as error:
        must = f"must be one number for each of {len(snippets):,} completions"
        shape = f"shape {np.shape(raw)} of {np.asarray(raw).dtype}"
        raise ScoringError(sentence(f"what {name} gives", must, shape)) from error
    wrong = ~((values >= 0.0) & (values <= 1.0))  # NaN too
    if wrong.any():
        got = float(values[wrong][0])
        raise ScoringError(sentence(f"what {name} gives", "must lie in [0, 1]", got))
    return values


def _compared(
    arm: tuple[str, ...],
    name: str,
    values: Sequence[NDArray[np.float64]],
    contexts: Sequence[str],
    config: ComposeConfig,
) -> Composed:
    """Alike contexts are one cluster; answers of yes and no, one a context, are counted exactly."""
    asked = [context for context in contexts for _ in range(config.draws)]
    numbers = np.unique(asked, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    means = [np.bincount(numbers, each) / sizes for each in values]  # (contexts,)
    found = []
    for each, mean in zip(values, means, strict=True):
        if np.isin(each, (0.0, 1.0)).all():
            rate = failure_rate(Draws.of(each == 1.0, asked), config.level)
            # a scorer's yes and no are what they are: nobody labelled
            rests = tuple(note for note in rate.assumptions if note != LABELS)
            found.append(replace(rate, what=f"mean {name}", assumptions=rests))
        else:
            found.append(_bounded(mean.tolist(), (0.0, 1.0), config.level, f"mean {name}"))
    gap = (means[0] - means[1]).tolist()
    return Composed(
        arm, name, found[0], found[1], _bounded(gap, (-1.0, 1.0), config.level, f"difference in {name}")
    )


def _bounded(values: list[float], bounds: tuple[float, float], level: float, what: str) -> Estimate:
    found = mean_bounded(values, bounds, level=level, what=what)
    return replace(found, method="betting, by context", assumptions=(_ONCE, _DRAWN))


def _cell(each: Estimate) -> str:
    low, high = each.rounded()
    return f"{each.point:.3g} ({low:.3g} to {high:.3g})"
