"""Model folders: a plain transformers folder and one ``fivenines.json``. Anyone can load one without
fivenines.

A model is named by a local folder, a name on the hub, or "minilm" (the encoder of the extra ``minilm``).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub.constants
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from fivenines.errors import ModelError, ResourceError, sentence
from fivenines.models.minilm import MINILM, minilm_folder

__all__ = [
    "CARD",
    "FORMAT",
    "Card",
    "load_config",
    "load_model",
    "load_model_with_head",
    "load_tokenizer",
    "locate",
    "override_dropout",
    "read_card",
    "save_folder",
    "write_card",
]

CARD = "fivenines.json"
FORMAT = 1  # version of fivenines.json; a reader refuses newer ones
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
_UNLOADABLE = (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError)
T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """What fivenines knows of a model beyond its weights: kind, settings, calibration, where it came from.

    ``kind`` is "classifier" or "language model"; ``settings`` are the fields of its config; ``tags``: the scheme that a
    language model learnt, if any.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] | None = None
    format: int = FORMAT


def locate(name: str | Path) -> str:
    """The folder or hub name to give to transformers. Raises ModelError for a folder that is no model
    folder.
    """
    if str(name) == MINILM and not Path(name).is_dir():
        return str(minilm_folder())
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            then = "A model folder is one that save or save_pretrained wrote."
            raise ModelError(sentence(f"model folder {path}", "must hold config.json", "none", then))
        return str(path)
    text = str(name)
    # a hub name has at most one slash and no path syntax
    if text.startswith((".", "/", "~")) or text.count("/") > 1 or "\\" in text or not text.strip():
        then = "Give a folder that exists, a hub name, or minilm."
        raise ModelError(sentence("model folder", "must exist", text or "an empty name", then))
    return text


def _loaded(what: str, source: str, load: Callable[[], T]) -> T:
    """``load()``, with whatever transformers raises turned into one sentence."""
    try:
        return load()
    except _UNLOADABLE as error:
        if isinstance(error, OSError) and not Path(source).is_dir():
            raise ModelError(_not_on_hub(what, source)) from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
        raise ModelError(
            sentence(f"{what} of {source}", "must be loadable by transformers", reason)
        ) from error


def _not_on_hub(what: str, source: str) -> str:
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        then = "Unset HF_HUB_OFFLINE to download it, or give a local folder."
        return sentence(
            f"{what} of {source}", "must be in the local cache", "HF_HUB_OFFLINE=1 and no copy", then
        )
    then = "Check the name and the connection, or give a local folder."
    return sentence(f"{what} of {source}", "must be a local folder or found on the hub", "neither", then)


def load_config(name: str | Path, **options: Any) -> PretrainedConfig:
    """The transformers config of a folder or hub name, with ``options`` (``num_labels``, ...) set in it."""
    source = locate(name)
    config: PretrainedConfig = _loaded(
        "config", source, lambda: AutoConfig.from_pretrained(source, **options)
    )
    return config


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name. Raises ModelError where there is none."""
    source = locate(name)
    folder = Path(source)
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        then = "Save the tokenizer there with tokenizer.save_pretrained."
        raise ModelError(sentence(f"model folder {folder}", "must hold a tokenizer", "none", then))
    tokenizer: PreTrainedTokenizerBase = _loaded(
        "tokenizer", source, lambda: AutoTokenizer.from_pretrained(source)
    )
    return tokenizer


def load_model(auto: Any, name: str | Path, config: PretrainedConfig | None = None) -> PreTrainedModel:
    """The weights by an Auto class of transformers (``AutoModelForCausalLM``, ...): float32, evaluation mode.

    Raises ModelError where weights are missing.
    """
    model, fresh = _weights(auto, name, config, other_shapes=False)
    _demand_weights(name, model, fresh)
    return model


def load_model_with_head(
    auto: Any, name: str | Path, config: PretrainedConfig | None = None
) -> tuple[PreTrainedModel, bool]:
    """As :func:`load_model`, but the head may be missing or of another shape. The second value: whether it
    was.

    A missing head is drawn from torch's random stream. The pooler counts as head: many encoders come without.
    """
    model, fresh = _weights(auto, name, config, other_shapes=True)
    prefix = f"{model.base_model_prefix}." if hasattr(model, model.base_model_prefix) else ""
    _demand_weights(name, model, {key for key in fresh if key.startswith(prefix) and "pooler" not in key})
    return model, bool(fresh)


def _weights(
    auto: Any, name: str | Path, config: PretrainedConfig | None, *, other_shapes: bool
) -> tuple[PreTrainedModel, set[str]]:
    """The model and the names of the weights that the files do not give."""
    source = locate(name)
    options = {
        "config": load_config(name) if config is None else config,
        "dtype": torch.float32,
        "ignore_mismatched_sizes": other_shapes,
        "output_loading_info": True,
    }
    with _quiet():
        model, report = _loaded("model", source, lambda: auto.from_pretrained(source, **options))
    return model, set(report["missing_keys"]) | {key for key, *_ in report["mismatched_keys"]}


def _demand_weights(name: str | Path, model: PreTrainedModel, missing: set[str]) -> None:
    if missing:
        got = f"{len(missing)} missing or of another shape, such as {min(missing)}"
        raise ModelError(sentence(f"weights of {name}", f"must be those of a {type(model).__name__}", got))


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no report of transformers: what matters of it is raised as an error."""
    log: Any = transformers_logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _dropouts(settings: dict[str, Any]) -> list[str]:
    """The names of the dropout rates; None stands for another rate and stays."""
    numbers = [k for k, v in settings.items() if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return [name for name in numbers if "dropout" in name or "pdrop" in name]


def override_dropout(config: PretrainedConfig, dropout: float | None) -> PretrainedConfig:
    """Set every dropout rate of a config, whatever its architecture calls them; None: leave them."""
    if dropout is not None:
        for name in _dropouts(config.to_dict()):
            setattr(config, name, dropout)
        for nested in vars(
            config
        ).values():  # an encoder's own settings, inside the config of a pooled classifier
            if isinstance(nested, dict):
                nested.update(dict.fromkeys(_dropouts(nested), dropout))
    return config


def read_card(name: str | Path) -> Card | None:
    """The ``fivenines.json`` of a folder; None for a folder without one, or a hub name.

    Raises ModelError for one that is broken or was written by a newer version.
    """
    path = Path(name).expanduser() / CARD
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = int(content["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(
            sentence(str(path), "must be the JSON that save wrote", reason, "Save the model again.")
        ) from error
    if version > FORMAT:
        then = "Update fivenines."
        raise ModelError(sentence(str(path), f"must be of format {FORMAT} or older", version, then))
    try:
        return Card(**content)
    except TypeError as error:
        raise ModelError(
            sentence(str(path), "must hold the fields of a card", str(error), "Save the model again.")
        ) from error


def write_card(folder: Path, card: Card) -> None:
    """Write the card of ``folder`` in one go. Raises ResourceError where that fails."""
    temporary = folder / f"{CARD}.{os.getpid()}.tmp"
    try:
        temporary.write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, folder / CARD)
    except OSError as error:
        raise ResourceError(_cannot_write(folder, error)) from error


def save_folder(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: Card) -> None:
    """Write weights, config, tokenizer and card into ``folder``; other files there stay.

    Everything is written beside first and moved in afterwards, the card last: a folder with a card is whole.
    Raises ResourceError when the disk is full or the folder cannot be written.
    """
    staging = folder / f".saving.{os.getpid()}"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        with _quiet():
            model.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
        (folder / CARD).unlink(missing_ok=True)
        for path in staging.iterdir():
            os.replace(path, folder / path.name)
        write_card(folder, card)
    except OSError as error:
        raise ResourceError(_cannot_write(folder, error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _cannot_write(folder: Path, error: OSError) -> str:
    then = "Make room or give another folder."
    return sentence(f"model folder {folder}", "must be written", error.strerror or str(error), then)
