"""A latent attack on a classifier as a measure: how small a move of its hidden states lets a failure pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from fivenines.errors import ConfigError, sentence
from fivenines.models.batching import to_device
from fivenines.models.classifier import Classifier
from fivenines.models.devices import training_attention
from fivenines.models.embedding_gradients import margins_of
from fivenines.models.latent import Latent, LatentPerturbation
from fivenines.models.pairs import Encoded
from fivenines.records import Snippet

__all__ = ["latent_attack", "latent_robustness"]

_HEX = 15  # digits of a snippet's id that seed its noise


def latent_attack(
    classifier: Classifier,
    snippets: Sequence[Snippet],
    threshold: float,
    attack: Latent | None = None,
    *,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The lowest margin, shape (n,), that gradient ascent finds within ``attack.epsilon``; before calibration.

    The margin without perturbation counts too, so none comes out higher. A snippet whose score falls below
    ``threshold`` has passed and is left alone. NaN for what cannot be read. ``attack.weight`` plays no part. The
    start depends on ``seed`` and the snippet's text alone: the result does not depend on order or company, beyond
    rounding. The lowest margin of all may lie lower still: gradient ascent shows weakness, it proves no strength.

    Raises ModelError before the first fit, ConfigError for layers that the model does not have.
    """
    attack = Latent() if attack is None else attack
    out = np.full(len(snippets), np.nan)
    classifier.margins([])  # raises before the first fit
    pairs = classifier.pairs.encode(snippets)
    known = [i for i, pair in enumerate(pairs) if pair is not None]
    encoded = [pair for pair in pairs if pair is not None]
    with training_attention(classifier.model):
        for rows, width in classifier.pairs.scoring_batches(encoded, classifier.config.scoring_tokens):
            noise = _noise([snippets[known[i]] for i in rows], seed)
            found = _lowest(classifier, [encoded[i] for i in rows], width, threshold, attack, noise)
            out[[known[i] for i in rows]] = found
    return out


def latent_robustness(
    classifier: Classifier,
    snippets: Sequence[Snippet],
    threshold: float,
    epsilons: ArrayLike,
    attack: Latent | None = None,
    *,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The smallest epsilon of the grid at which each failing snippet passes the threshold, shape (n,).

    0 for one that passes without an attack, inf for one that passes at none, NaN for what cannot be read. Units as
    ``attack.relative`` says; ``attack.epsilon`` plays no part. An upper bound of the smallest epsilon of all, up to
    the grid. Raises ConfigError for a grid that does not rise from above 0.
    """
    grid = np.asarray(epsilons, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0 or not (grid[0] > 0 and np.all(np.diff(grid) > 0)):
        raise ConfigError(sentence("epsilons", "must rise from above 0, one or more", grid.tolist()))
    attack = Latent() if attack is None else attack
    scores = classifier.scores(snippets)
    out = np.where(np.isnan(scores), np.nan, np.where(scores < threshold, 0.0, np.inf))
    for epsilon in grid:
        left = np.flatnonzero(np.isposinf(out)).tolist()
        if not left:
            break
        margins = latent_attack(
            classifier,
            [snippets[i] for i in left],
            threshold,
            replace(attack, epsilon=float(epsilon)),
            seed=seed,
        )
        out[np.array(left)[classifier.calibration(margins) < threshold]] = epsilon
    return out


def _lowest(
    classifier: Classifier,
    encoded: Sequence[Encoded],
    width: int,
    threshold: float,
    attack: Latent,
    noise: Callable[[int, torch.Size], Tensor],
) -> NDArray[np.float64]:
    """The lowest margin of each row of a batch, (n,)."""
    model = classifier.model.train(False)
    batch = to_device(classifier.pairs.collate(encoded, width), model.device)
    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
    found = LatentPerturbation(model, attack, mask, noise)

    def downwards(network: nn.Module) -> Tensor:
        return -margins_of(classifier, batch)

    with torch.no_grad():
        lowest = -downwards(model)  # (n,)
    for step in range(attack.steps + 1):
        passed = torch.from_numpy(classifier.calibration(lowest.cpu().numpy()) < threshold).to(lowest.device)
        if bool(passed.all()):
            break
        if step < attack.steps:
            margins = -found.ascend(downwards)
        else:
            with torch.no_grad(), found.inserted():
                margins = -downwards(model)
        lowest = torch.where(passed, lowest, torch.fmin(lowest, margins))
    return lowest.double().cpu().numpy()


def _noise(snippets: Sequence[Snippet], seed: int) -> Callable[[int, torch.Size], Tensor]:
    """Standard normal numbers for each snippet, by its text and the place among the layers."""
    digits = [int(snippet.id.rsplit(":", 1)[-1][:_HEX], 16) for snippet in snippets]

    def noise(number: int, shape: torch.Size) -> Tensor:
        rows = [
            np.random.default_rng([seed, number, own]).standard_normal(tuple(shape[1:]), dtype=np.float32)
            for own in digits
        ]
        return torch.from_numpy(np.stack(rows))  # (n, t, width)

    return noise
