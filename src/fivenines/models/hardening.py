"""How a classifier is hardened inside its training loop: what is added to its loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fivenines.models.latent import Latent
from fivenines.models.smoothness import Sift

__all__ = ["Hardening"]


@dataclass(frozen=True)
class Hardening:
    """``sift``: the same answer under a small move of the word embeddings. ``latent``: the right answer under the worst
    small move of hidden states. None leaves one out; they can be had together.
    """

    sift: Sift | None = None
    latent: Latent | None = None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``dataclasses.asdict``. Raises TypeError for fields that are none."""
        sift, latent = content.get("sift"), content.get("latent")
        made = {
            "sift": None if sift is None else Sift(**sift),
            "latent": None if latent is None else Latent(**latent),
        }
        return cls(**{**content, **made})
