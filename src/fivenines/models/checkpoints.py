"""Checkpoints that survive a kill at any moment, and the random states that make a resumed run exact."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fivenines.errors import ModelError, ResourceError, sentence

__all__ = [
    "CHECKPOINT",
    "random_states",
    "read_checkpoint",
    "remove_checkpoint",
    "restore_random_states",
    "write_checkpoint",
]

CHECKPOINT = "checkpoint.pt"


def random_states() -> dict[str, Any]:
    """The state of every global random stream (python, numpy, torch, every GPU), in types that torch.load
    trusts.
    """
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - the global stream is what is kept here
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put back what :func:`random_states` took. GPU streams only where their number is the same."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def write_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Write beside the old one, flush to the disk, then replace: at every moment one whole checkpoint is
    there.

    Raises ResourceError when the disk is full or the folder cannot be written; the old checkpoint then stays.
    """
    temporary = folder / f"{CHECKPOINT}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / CHECKPOINT)
    except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
        with suppress(OSError):
            temporary.unlink()
        raise ResourceError(_cannot_write(folder, error)) from error


def _cannot_write(folder: Path, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "the write failed"
    free = f" ({shutil.disk_usage(folder).free / 1e9:.1f} GB free)" if folder.is_dir() else ""
    then = "Make room or give another folder; the training goes on from the last checkpoint."
    return sentence(f"checkpoint in {folder}{free}", "must be written", reason, then)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The checkpoint of ``folder``, tensors on the CPU; None where there is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        then = f"Delete {path} to train from the beginning."
        raise ModelError(
            sentence(f"checkpoint {path}", "must be readable", type(error).__name__, then)
        ) from error
    return content


def remove_checkpoint(folder: Path) -> None:
    """Delete the checkpoint and left-over temporary files: for when the trained model has been saved."""
    for path in (folder / CHECKPOINT, *folder.glob(f"{CHECKPOINT}.*.tmp")):
        path.unlink(missing_ok=True)
