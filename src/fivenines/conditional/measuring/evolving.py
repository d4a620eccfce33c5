"""An attacker without a language model: sentences of the prompts that did well, put together anew.

For tasks where a few-shot request makes no sense (a closed vocabulary, as in storyworld; code for a small model). The
rule of selection is that of the few-shot red team; what changes is who writes. A child is one of the examples with some
of its sentences exchanged for those that stand at the same place of another, or of a fresh prompt. Most are kept:
sentences of a prompt speak of each other, and what makes it dangerous seldom stands in one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fivenines.conditional.measuring.prompt_pool import PromptPool, seed_of
from fivenines.conditional.tagging.spans import Unit, check_unit, segments
from fivenines.errors import ConfigError, sentence
from fivenines.stats.checks import check_share

__all__ = ["EvolvingAttacker"]

_ATTEMPTS = 20  # at a child that is new and valid, for each that is wanted


@dataclass(frozen=True, eq=False)
class EvolvingAttacker:
    """Recombines prompts sentence by sentence.

    ``fresh(n, seed)`` writes n new prompts; ``fresh_share`` of the proposals are such. Each sentence of a child is
    another example's with probability ``crossover``, and a fresh one with ``mutation``. ``unit``: what is exchanged;
    lines and statements keep their blanks. ``valid``: whether a prompt may be proposed (None: any). ``examples`` are
    drawn at ``temperature``, for each child anew; ``label`` tells settings apart that the name does not show (fresh,
    valid). Raises ConfigError.
    """

    fresh: Callable[[int, int], Sequence[str]]
    examples: int = 4
    temperature: float = 0.1
    fresh_share: float = 0.2
    crossover: float = 0.2
    mutation: float = 0.2
    unit: Unit = "sentences"
    valid: Callable[[str], bool] | None = None
    label: str = ""

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ConfigError(sentence("examples", "must be at least 1", self.examples))
        if not self.temperature > 0.0:
            raise ConfigError(sentence("temperature", "must be positive", self.temperature))
        check_unit(self.unit)
        for name in ("fresh_share", "crossover", "mutation"):
            check_share(getattr(self, name), name)

    @property
    def name(self) -> str:
        who = f" by {self.label}" if self.label else ""
        shares = f"{self.fresh_share:g} fresh, crossover {self.crossover:g}, mutation {self.mutation:g}"
        unit = "" if self.unit == "sentences" else f" of {self.unit}"
        return f"evolving{who}: {self.examples} examples at {self.temperature:g}, {shares}{unit}"

    def propose(self, pool: PromptPool, n: int, *, seed: int) -> list[str]:
        """``n`` prompts that the pool does not hold; fewer where none were found in many attempts."""
        rng = np.random.default_rng(seed)
        found: dict[str, None] = {}
        for attempt in range(_ATTEMPTS):
            wanted = n - len(found)
            if not wanted:
                break
            new = list(self.fresh(2 * wanted, seed_of(seed, attempt)))
            if len(new) < 2 * wanted:
                raise ConfigError(sentence("fresh", f"must write {2 * wanted} prompts", len(new)))
            for own, other in zip(new[:wanted], new[wanted:], strict=False):
                child = own if rng.random() < self.fresh_share else self._child(pool, other, rng)
                if child and child not in pool and (self.valid is None or self.valid(child)):
                    found[child] = None
        return list(found)

    def _child(self, pool: PromptPool, new: str, rng: np.random.Generator) -> str:
        """The first example drawn, the likeliest to be a good one, with some sentences of the others and of ``new``."""
        drawn = [_parts(each.prompt, self.unit) for each in pool.draw(self.examples, self.temperature, rng)]
        written, child = _parts(new, self.unit), []
        for place, own in enumerate(drawn[0]):
            others = [parts[place] for parts in drawn[1:] if len(parts) > place]
            if others and rng.random() < self.crossover:
                own = others[int(rng.integers(len(others)))]
            if place < len(written) and rng.random() < self.mutation:
                own = written[place]
            child.append(own)
        return (" " if self.unit == "sentences" else "").join(child)


def _parts(prompt: str, unit: Unit) -> list[str]:
    """Sentences without the blanks between them; of all else every character, what lies before with each part."""
    spans = segments(prompt, unit)
    if unit == "sentences":
        return [prompt[start:end] for start, end in spans]
    cuts = [0, *(end for _, end in spans[:-1]), len(prompt)]
    return [prompt[start:end] for start, end in pairwise(cuts)]
