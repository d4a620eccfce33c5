"""A masked language model from anybody's own texts: files in, a model folder out."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fivenines.data import Document, read_texts
from fivenines.errors import ConfigError, NotEnoughDataError, sentence
from fivenines.models.encoders import EncoderConfig
from fivenines.models.folder import CARD
from fivenines.models.masked import MaskedLanguageModel, MaskedScore
from fivenines.models.training_config import TrainingConfig, TrainingResult

__all__ = ["MaskedSettings", "TrainedMasked", "matching_files", "train_masked"]

SCRATCH = "scratch"
_HELD_SHARE = 0.02  # of the texts, where no file is named for it
_MOST_HELD = 200_000  # characters to measure on: some 7,000 hidden tokens, a few seconds


@dataclass(frozen=True)
class MaskedSettings:
    """What a masked language model starts from and how it learns. Checked when made; raises ConfigError.

    ``model``: an encoder or masked language model (a folder, a hub name, "minilm"), or "scratch". ``freeze_layers``:
    the embeddings and so many layers stay as they are. ``block`` in tokens.
    """

    model: str = "minilm"
    freeze_layers: int | None = None
    mask_share: float = 0.15
    block: int = 128
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            epochs=1.0, learning_rate=5e-4, head_learning_rate=1e-3, batch_size=16
        )
    )

    def __post_init__(self) -> None:
        if self.freeze_layers is not None and self.freeze_layers < 0:
            raise ConfigError(sentence("freeze_layers", "must be None or at least 0", self.freeze_layers))
        if not 0 < self.mask_share < 1:
            raise ConfigError(sentence("mask_share", "must lie in (0, 1)", self.mask_share))


@dataclass(frozen=True)
class TrainedMasked:
    """What came of it: the model, how it was trained, and its score on texts held out (None: there were none)."""

    model: MaskedLanguageModel
    result: TrainingResult
    score: MaskedScore | None


def matching_files(patterns: Sequence[str | Path]) -> list[Path]:
    """The files that names and patterns match, in their order, each once.

    :raises ConfigError: for a pattern that matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        # a name with brackets is a file first
        names = [str(pattern)] if Path(pattern).is_file() else sorted(glob.glob(str(pattern), recursive=True))
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            then = "It is a folder." if Path(pattern).is_dir() else "Nothing there."
            raise ConfigError(sentence("texts", "must match a file", str(pattern), then))
        found |= dict.fromkeys(files)
    return list(found)


def train_masked(
    texts: Sequence[str | Path],
    folder: Path,
    settings: MaskedSettings | None = None,
    *,
    held_out: Sequence[str | Path] = (),
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> TrainedMasked:
    """Train on the documents of files and save into ``folder``; a run that was stopped goes on from its checkpoint.

    ``texts`` and ``held_out`` are files or patterns, read as :func:`~fivenines.data.read_texts` does. Without
    ``held_out``, one document in fifty is kept for measuring (of two or more, one at least), never a part of one that
    was learned from.

    :raises ConfigError: for a folder that holds a model already, a pattern that matches nothing.
    :raises DataError: for files that cannot be read. :raises NotEnoughDataError: for files without text.
    """
    settings = MaskedSettings() if settings is None else settings
    if (folder / CARD).exists():
        raise ConfigError(sentence("folder", "must not hold a model yet", str(folder), "Give another name."))
    learned = list(read_texts(matching_files(texts)))
    if not learned:
        raise NotEnoughDataError(sentence("training", "needs texts", "none", "Name files with text."))
    kept = list(read_texts(matching_files(held_out)))
    if not held_out:
        learned, kept = _hold_out(learned, settings.training.seed)
    say(f"{len(learned):,} texts to learn from, {len(kept):,} held out")
    model = _start(settings, [document.text for document in learned])
    measured = _parts(kept)
    model.fit(
        [document.text for document in learned],
        validation=measured or None,
        training=settings.training,
        mask_share=settings.mask_share,
        block=min(settings.block, model.reader.max_length),
        folder=folder,
        progress=progress,
    )
    assert model.result is not None
    score = model.measure(measured, share=settings.mask_share) if measured else None
    model.save(folder)
    return TrainedMasked(model, model.result, score)


def _start(settings: MaskedSettings, texts: Sequence[str]) -> MaskedLanguageModel:
    seed, freeze = settings.training.seed, settings.freeze_layers
    if settings.model == SCRATCH:
        # by words: every filling is one; and pieces come out of training in another order each time, which would keep
        # a stopped run from going on
        return MaskedLanguageModel.create(
            texts, EncoderConfig(tokenizer="word", vocabulary=20_000), seed=seed
        )
    return MaskedLanguageModel.over(settings.model, seed=seed, freeze_layers=freeze)


def _hold_out(documents: Sequence[Document], seed: int) -> tuple[list[Document], list[Document]]:
    """(to learn from, held out); of one document nothing is held out."""
    count = 0 if len(documents) < 2 else max(1, round(_HELD_SHARE * len(documents)))
    chosen = set(np.random.default_rng(seed).permutation(len(documents))[:count].tolist())
    learned = [document for i, document in enumerate(documents) if i not in chosen]
    return learned, [documents[i] for i in sorted(chosen)]


def _parts(documents: Sequence[Document]) -> list[str]:
    """As much of the middle of each, so that all together are quickly read."""
    room = _MOST_HELD // max(1, len(documents))
    starts = [max(0, (len(document.text) - room) // 2) for document in documents]
    return [document.text[start : start + room] for document, start in zip(documents, starts, strict=True)]
