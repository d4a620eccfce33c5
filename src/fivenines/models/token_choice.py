"""Which token comes next: temperature, top-k and top-p in float32, and one uniform number per token.

The random numbers of a draw are a stream of its own, keyed by (seed, draw index). So what is drawn does not
depend on the size of the batch, on its order, or on who else is in it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fivenines.errors import ModelError, sentence

__all__ = ["Mass", "choose_tokens", "choose_with_mass", "token_weights", "uniforms"]

Mass = tuple[
    Tensor, Tensor
]  # top (n, 1) float32 and total (n, 1) float64: sum of exp(logits) = total exp(top)

_CHUNK = 256  # columns summed at once, see _invert
_FIRST_LOOK = 256  # how many of the likeliest tokens top-p looks at before it sorts more


def uniforms(seed: int, draw: int, count: int) -> NDArray[np.float64]:
    """``count`` numbers in [0, 1), shape (count,), of draw number ``draw`` under ``seed``.

    Philox4x64-10, a counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
    3"), with the key (draw, seed). Equal arguments give equal numbers; a longer stream begins with the
    shorter one.
    """
    bits = np.random.Philox(key=(seed % 2**64) << 64 | draw)
    return np.random.Generator(bits).random(count)


def choose_tokens(
    logits: Tensor, chance: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """One token per row, int64, shape (n,).

    ``logits`` (n, vocabulary); ``chance`` (n,) float64 uniform numbers, of which each picks a token by the
    inverse of the cumulated distribution. ``temperature`` 0 takes the likeliest token and ignores ``chance``.

    :raises ModelError: for logits that are NaN, infinite or all minus infinity.
    """
    return choose_with_mass(logits, chance, temperature=temperature, top_k=top_k, top_p=top_p)[0]


def choose_with_mass(
    logits: Tensor, chance: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> tuple[Tensor, Mass | None]:
    """As :func:`choose_tokens`, and what the softmax of ``logits`` divides by, where the choice came by it.

    That is at temperature 1 with all tokens in; else None.
    """
    logits = logits.float()
    top = logits.amax(dim=-1, keepdim=True)  # (n, 1); NaN if any is NaN
    if not bool(torch.isfinite(top).all()):
        bad = top[~torch.isfinite(top)][0].item()
        raise ModelError(
            sentence("the logits of the language model", "must be finite", bad, "Are the weights sound?")
        )
    if temperature == 0.0:
        return logits.argmax(dim=-1), None
    weights = token_weights(logits - top, temperature=temperature, top_k=top_k, top_p=top_p)
    tokens, total = _invert(weights, chance)
    plain = temperature == 1.0 and not top_k and top_p == 1.0
    return tokens, (top, total) if plain else None


def token_weights(logits: Tensor, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """exp(logits / temperature), float32, with 0 for what top-k and top-p leave out; shape as ``logits``.

    ``logits`` (n, vocabulary) with a maximum of 0 in each row. Top-k first, then top-p over what is left: the
    smallest set of likeliest tokens that holds a share of at least ``top_p`` (Holtzman et al. 2020, section
    3.1). Tokens that tie with the last one kept stay in as well.
    """
    weights = torch.exp(logits / temperature if temperature != 1.0 else logits)
    if 0 < top_k < weights.shape[-1]:
        least = weights.topk(top_k, dim=-1).values[:, -1:]  # (n, 1)
        weights = weights.where(weights >= least, 0.0)
    if top_p < 1.0:
        weights = weights.where(weights >= _nucleus_floor(weights, top_p), 0.0)
    return weights


def _nucleus_floor(weights: Tensor, top_p: float) -> Tensor:
    """The least weight inside the nucleus of each row, (n, 1). Sorts only as many tokens as it takes."""
    target = top_p * weights.sum(dim=-1, keepdim=True, dtype=torch.float64)  # (n, 1)
    looked = min(_FIRST_LOOK, weights.shape[-1])
    while True:
        ranked = weights.topk(looked, dim=-1).values  # (n, looked), falling
        held = ranked.cumsum(dim=-1, dtype=torch.float64)
        if looked == weights.shape[-1] or bool((held[:, -1:] >= target).all()):
            break
        looked = min(looked * 8, weights.shape[-1])
    last = (held < target).sum(dim=-1, keepdim=True).clamp_(max=looked - 1)  # the token that reaches top_p
    return ranked.gather(-1, last)


def _invert(weights: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """The first token whose cumulated weight exceeds ``chance`` of the whole, (n,), and the whole, (n, 1).

    Cumulated in float64, since float32 would distort rare tokens. In two stages, chunk and then token within
    it, because sums run many times as fast as cumulated sums and a vocabulary may hold 50,000 tokens or more.
    """
    n, vocabulary = weights.shape
    chunks = -(-vocabulary // _CHUNK)
    if vocabulary % _CHUNK:
        weights = torch.nn.functional.pad(weights, (0, chunks * _CHUNK - vocabulary))
    folded = weights.view(n, chunks, _CHUNK)
    cumulated = folded.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)  # (n, chunks)
    target = chance.unsqueeze(-1) * cumulated[:, -1:]  # (n, 1)
    chunk = _first_above(cumulated, target)  # (n, 1)
    before = cumulated.gather(-1, (chunk - 1).clamp(min=0)) * (chunk > 0)
    inside = folded.gather(1, chunk.unsqueeze(-1).expand(n, 1, _CHUNK)).squeeze(1)  # (n, _CHUNK)
    token = _first_above(inside.cumsum(dim=-1, dtype=torch.float64), target - before)
    return (chunk * _CHUNK + token).squeeze(-1), cumulated[:, -1:]


def _first_above(cumulated: Tensor, target: Tensor) -> Tensor:
    """Index of the first entry above ``target``, (n, 1); where rounding leaves none, of the last one that
    adds weight.
    """
    index = torch.searchsorted(cumulated, target, right=True)
    last = torch.searchsorted(cumulated, cumulated[:, -1:].contiguous())  # the first to reach the total
    return torch.minimum(index, last)
