"""Where the checkpoints lie of a training that goes on from weights that another one left."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from fivenines.models.checkpoints import remove_checkpoint

__all__ = ["continuation_folder", "remove_continuations"]

_PREFIX = "from-"


def continuation_folder(folder: Path, model: nn.Module) -> Path:
    """A folder inside ``folder`` named after the weights as they are now.

    So a training that is started again after a kill finds its own checkpoint, and never one of a training that
    began elsewhere, which may have had the same data and settings.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return folder / f"{_PREFIX}{digest.hexdigest()}"


def remove_continuations(folder: Path) -> None:
    """Delete the checkpoints of all continuations in ``folder``: for when the trained model has been saved."""
    for place in folder.glob(f"{_PREFIX}{'[0-9a-f]' * 16}"):
        remove_checkpoint(place)
        with suppress(OSError):  # somebody put something else there
            place.rmdir()
