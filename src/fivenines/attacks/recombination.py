"""Known failures under other prompts.

A completion that fails tends to fail after many prompts, and classifiers lean on the prompt: calm or romantic ones
hid blatant injuries in the adversarial training of Ziegler et al. (arXiv 2205.01663; methods 1.3). Whether it still
fails is for the label to say: under another prompt "it hit her" may hit nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search
from fivenines.attacks.trial import Trial
from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["Recombination"]


@dataclass(frozen=True, eq=False)
class Recombination(SearchAttack):
    """Put the completion under ``prompts``, in random order, ``at_a_time`` in a batch, until one passes.

    At most ``tries`` prompts of those there are. Raises ConfigError.
    """

    prompts: Sequence[str]
    tries: int = 1000
    at_a_time: int = 8
    constraints: tuple[Constraint, ...] = ()
    name: str = "recombination"

    def __post_init__(self) -> None:
        if isinstance(self.prompts, str):
            raise ConfigError(sentence("prompts", "must be a list of texts", "one text"))
        for name in ("tries", "at_a_time"):
            if getattr(self, name) < 1:
                raise ConfigError(sentence(name, "must be at least 1", getattr(self, name)))

    def search(self, trial: Trial) -> Search[None]:
        order = trial.rng.permutation(len(self.prompts))[: self.tries]
        for begin in range(0, len(order), self.at_a_time):
            some = [self.prompts[i] for i in order[begin : begin + self.at_a_time]]
            completion, source = trial.start.completion, trial.start.source
            yield from trial.try_all([Snippet(prompt, completion, source) for prompt in some])
