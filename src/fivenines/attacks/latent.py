"""How far hidden states must be moved until failures pass: an attack without a text, to measure with.

Source: latent adversarial training (arXiv 2403.05030, 2407.15549; methods 3.7). Departures: the perturbation is
found against the classifier's margin, layer by layer within a bound for each token, and a text that no bound on the
grid moves below the threshold is counted as such. There is no text, so nothing to confirm: a share that passes here
is a weakness, not a failure of the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fivenines.attacks.goal import Goal
from fivenines.errors import ConfigError, sentence
from fivenines.models.classifier import Classifier
from fivenines.models.latent import Latent
from fivenines.models.latent_attack import latent_robustness
from fivenines.records import Snippet
from fivenines.stats import Estimate, failure_rate_exact

__all__ = ["LatentPoint", "latent_curve"]


@dataclass(frozen=True, slots=True)
class LatentPoint:
    """Of the failures that the classifier can score, the share that passes within ``epsilon``."""

    epsilon: float
    passed: Estimate


def latent_curve(
    goal: Goal,
    failures: Sequence[Snippet],
    epsilons: Sequence[float],
    attack: Latent | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> list[LatentPoint]:
    """The share of failing texts that pass within each bound, rising; first without any (epsilon 0).

    ``attack``: layers, steps and units. Intervals are exact, each for itself. Raises ConfigError for a classifier
    that is none of ours, and as :func:`fivenines.models.latent_attack.latent_robustness`.
    """
    if not isinstance(goal.classifier, Classifier):
        got = type(goal.classifier).__name__
        raise ConfigError(sentence("a latent attack", "needs a classifier whose states it can move", got))
    needed = latent_robustness(goal.classifier, failures, goal.limit, epsilons, attack, seed=seed)
    known = needed[~np.isnan(needed)]
    points = []
    for epsilon in (0.0, *map(float, epsilons)):
        passed = int((known <= epsilon).sum())
        what = f"failures that pass within {epsilon:g}"
        points.append(LatentPoint(epsilon, failure_rate_exact(passed, known.size, level, what=what)))
    return points
