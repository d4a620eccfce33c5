"""Tags taken out of a model for good: their tokens leave the tokenizer, their rows the embeddings and the head."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fivenines.conditional.model import TaggedModel
from fivenines.errors import ModelError, sentence
from fivenines.models.folder import load_tokenizer
from fivenines.models.language_model import LanguageModel

__all__ = ["check_removable", "remove_tags"]

_BACKEND = "tokenizer.json"
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def remove_tags(model: TaggedModel) -> tuple[LanguageModel, NDArray[np.int64]]:
    """A copy of the model without its tags, and which row of the old head each row of the new one was, (vocabulary,).

    All other tokens keep their order; those behind a tag move up. A text that spells a tag is then plain text, for
    there is no such token. Raises as :func:`check_removable`.
    """
    check_removable(model)
    gone = set(model.tags.values())
    old: Any = model.language.model.get_input_embeddings()
    kept = np.array([row for row in range(int(old.weight.shape[0])) if row not in gone], dtype=np.int64)
    network = copy.deepcopy(model.language.model)
    _cut(network, kept)
    tokenizer = _without(model.language.tokenizer, model.tags, network)
    provenance = {"base": model.language.provenance}
    return LanguageModel(network, tokenizer, model.language.sampling, provenance=provenance), kept


def check_removable(model: TaggedModel) -> None:
    """Whether the tags of a model can be taken out.

    Raises ModelError for a tag that also begins, ends or fills up texts, one that the tokenizer sets around them, one
    of the tokenizer's own vocabulary, or a tokenizer that is not of the library tokenizers.
    """
    tokenizer = model.language.tokenizer
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        then = "Save it as a tokenizer.json first."
        raise ModelError(
            sentence("the tokenizer", "must be of the library tokenizers", type(tokenizer).__name__, then)
        )
    needed = {
        str(token): name for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
    inner = backend.get_vocab(with_added_tokens=False)
    around = _around(json.loads(backend.to_str()).get("post_processor"))
    for tag, token in model.tags.items():
        if token in around:
            must = "must serve as nothing else to be taken out"
            raise ModelError(sentence(f"tag {tag}", must, "one that the tokenizer sets around texts"))
        if tag in needed:
            must = "must serve as nothing else to be taken out"
            raise ModelError(sentence(f"tag {tag}", must, f"the {needed[tag]} of the tokenizer"))
        if tag in inner:
            must = "must stand behind the tokenizer's own vocabulary to be taken out"
            raise ModelError(
                sentence(f"tag {tag}", must, "one of its words", "Add tags with TaggedModel.extend.")
            )


def _cut(network: PreTrainedModel, kept: NDArray[np.int64]) -> None:
    """Keep these rows of the embeddings and of the head alone, and move the numbers of special tokens along."""
    places = torch.from_numpy(kept)
    before = [(get, {k: v.detach().clone() for k, v in get.state_dict().items()}) for get in _tables(network)]
    network.resize_token_embeddings(len(kept), mean_resizing=False)
    with torch.no_grad():
        for table, (_, content) in zip(_tables(network), before, strict=True):
            for name, tensor in table.state_dict().items():
                tensor.copy_(
                    content[name][places.to(content[name].device)]
                )  # (vocabulary, width) or (vocabulary,)
    for settings in (network.config, network.generation_config):
        for name in _SPECIAL:
            token = getattr(settings, name, None)
            if token is not None:
                setattr(settings, name, _moved(token, kept))


def _tables(network: PreTrainedModel) -> list[Any]:
    tables: list[Any] = [network.get_input_embeddings()]
    head: Any = network.get_output_embeddings()  # type: ignore[no-untyped-call]
    return tables if head is None else [*tables, head]


def _moved(token: int | list[int], kept: NDArray[np.int64]) -> int | list[int]:
    if isinstance(token, list):
        return [int(np.searchsorted(kept, each)) for each in token]
    return int(np.searchsorted(kept, token))


def _without(
    tokenizer: PreTrainedTokenizerBase, tags: Mapping[str, int], network: PreTrainedModel
) -> PreTrainedTokenizerBase:
    """A copy that knows none of the tags: written out, struck from its files, and read again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        for file in folder.glob("*.json"):
            content = json.loads(file.read_text(encoding="utf-8"))
            if file.name == _BACKEND:
                added = [each for each in content["added_tokens"] if each["content"] not in tags]
                content["added_tokens"] = [each | {"id": _up(each["id"], tags)} for each in added]
                content["post_processor"] = _renumbered(content.get("post_processor"), tags)
                if content.get("padding"):
                    content["padding"]["pad_id"] = _up(content["padding"]["pad_id"], tags)
            elif file.name != "vocab.json":
                content = _struck(content, tags)
            file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        network.config.save_pretrained(folder)
        found = load_tokenizer(folder)
    for text in ("", "a text"):  # whatever a tokenizer's files hold besides
        old, new = (each.convert_ids_to_tokens(each(text)["input_ids"]) for each in (tokenizer, found))
        if old != new:
            raise ModelError(sentence("the tokenizer without tags", f"must read {text!r} as {old}", str(new)))
    return found


def _up(token: int, tags: Mapping[str, int]) -> int:
    return token - sum(tag < token for tag in tags.values())


def _around(post: Any) -> set[int]:
    """The tokens that a post-processor sets around texts."""
    found: set[int] = set()

    def note(token: int) -> int:
        found.add(token)
        return token

    _each_around(post, note)
    return found


def _renumbered(post: Any, tags: Mapping[str, int]) -> Any:
    """A post-processor whose tokens have moved up."""
    return _each_around(post, lambda token: _up(token, tags))


def _each_around(post: Any, change: Callable[[int], int]) -> Any:
    """A post-processor with ``change`` of each of its tokens: ``ids`` of a template, pairs (name, token) ``cls`` and
    ``sep`` of BERT's and RoBERTa's.
    """
    if isinstance(post, list):
        return [_each_around(each, change) for each in post]
    if not isinstance(post, dict):
        return post
    out = {key: _each_around(value, change) for key, value in post.items()}
    if isinstance(post.get("ids"), list):
        out["ids"] = [change(token) for token in post["ids"]]
    for key in ("cls", "sep"):
        if isinstance(post.get(key), list):
            name, token = post[key]
            out[key] = [name, change(token)]
    return out


def _struck(content: Any, tags: Mapping[str, int]) -> Any:
    """Settings of a tokenizer without what names a tag."""
    if isinstance(content, list):
        return [_struck(each, tags) for each in content if not _names(each, tags)]
    if isinstance(content, dict):
        rest = {k: v for k, v in content.items() if k not in tags and not _names(v, tags)}
        return {
            (str(_up(int(k), tags)) if k.isdigit() else k): _struck(value, tags) for k, value in rest.items()
        }
    return content


def _names(value: Any, tags: Mapping[str, int]) -> bool:
    return (isinstance(value, str) and value in tags) or (
        isinstance(value, dict) and value.get("content") in tags
    )
