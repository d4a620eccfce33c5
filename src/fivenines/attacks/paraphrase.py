"""Say it otherwise: rewritings of a known failure by a language model that is given examples, or by anybody else.

Source: the paraphrase attack of Ziegler et al. (arXiv 2205.01663; methods 1.3 b): few-shot prompts, many diverse
rewritings, those that the classifier passes go to a label. Departure: the search goes on from the rewriting with the
lowest score, as a person would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search, ask
from fivenines.attacks.trial import Trial
from fivenines.errors import ConfigError, sentence
from fivenines.models.protocols import GeneratorLike
from fivenines.records import Snippet

__all__ = ["FewShot", "Paraphrase", "Rewrite", "Rewriter"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A request: ``n`` rewritings of a text, drawn with ``seed``."""

    snippet: Snippet
    n: int
    seed: int


_ASKED, _ANSWERED = "Sentence:", "Rewritten:"

Rewriter = Callable[[Sequence[Rewrite]], Sequence[Sequence[Snippet]]]  # an oracle of the engine


@dataclass(frozen=True, eq=False)
class FewShot:
    """A rewriter made of any generator that continues text: it is shown pairs of a sentence and its rewriting.

    ``examples``: (sentence, rewriting) pairs, two at least. The completion alone is rewritten, and alone is shown; of
    what the generator writes the first line counts. Raises ConfigError.
    """

    generator: GeneratorLike
    examples: Sequence[tuple[str, str]]
    instruction: str = "Each sentence is written again in other words. What happens stays the same."

    def __post_init__(self) -> None:
        if len(self.examples) < 2:
            raise ConfigError(sentence("examples", "must be two at least", len(self.examples)))
        if not all(len(pair) == 2 and _line(pair[0]) and _line(pair[1]) for pair in self.examples):
            raise ConfigError(sentence("examples", "must be pairs of texts", repr(list(self.examples))))

    def __call__(self, requests: Sequence[Rewrite], /) -> Sequence[Sequence[Snippet]]:
        return [  # one by one: what a text gets does not depend on the others
            self._read(
                request.snippet, self.generator.sample([self._prompt(request)] * request.n, seed=request.seed)
            )
            for request in requests
        ]

    def _prompt(self, request: Rewrite) -> str:
        """The examples in an order of their own for each request, so that not all rewritings are alike."""
        order = np.random.default_rng(request.seed).permutation(len(self.examples))
        pairs = (self.examples[i] for i in order)
        shown = [f"{_ASKED} {_line(a)}\n{_ANSWERED} {_line(b)}" for a, b in pairs]
        asked = f"{_ASKED} {_line(request.snippet.completion)}\n{_ANSWERED}"
        return "\n\n".join([self.instruction, *shown, asked])

    def _read(self, snippet: Snippet, drawn: Sequence[str]) -> list[Snippet]:
        """What stands before the line ends; nothing where the generator wrote another example instead."""
        lines = [_line(text.partition("\n")[0]) for text in drawn]
        kept = dict.fromkeys(line for line in lines if line and not line.startswith((_ASKED, _ANSWERED)))
        unlike = [line for line in kept if line != _line(snippet.completion)]
        return [Snippet(snippet.prompt, line, snippet.source) for line in unlike]


def _line(text: str) -> str:
    """On one line, as the form wants it."""
    return " ".join(text.split())


@dataclass(frozen=True, eq=False)
class Paraphrase(SearchAttack):
    """Ask for ``n`` rewritings of the text with the lowest score so far, and again, ``patience`` times without gain
    at most. Raises ConfigError.
    """

    rewriter: Rewriter
    n: int = 8
    patience: int = 4
    constraints: tuple[Constraint, ...] = ()
    name: str = "paraphrase"

    def __post_init__(self) -> None:
        for name in ("n", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(sentence(name, "must be at least 1", getattr(self, name)))

    def search(self, trial: Trial) -> Search[None]:
        text, score, idle = trial.start, trial.start_score, 0
        while idle < self.patience:
            seed = int(trial.rng.integers(2**31))
            (found,) = yield from ask(self.rewriter, [Rewrite(text, self.n, seed)])
            tried = yield from trial.try_all(found)
            idle += 1
            if tried and tried[0][0] < score:
                (score, text), idle = tried[0], 0
