"""How alike two texts are in meaning: the cosine of their embeddings by a sentence encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from fivenines.errors import ConfigError, DataError, ModelError, sentence
from fivenines.models.batching import to_device
from fivenines.models.devices import autocast, place
from fivenines.models.folder import load_model_with_head, load_tokenizer, locate
from fivenines.models.minilm import MINILM
from fivenines.models.pairs import LONGEST, Encoded, readable_length
from fivenines.models.texts import TextEncoder
from fivenines.models.training_config import Precision

__all__ = ["SentenceEncoder"]

_TOKENS_AT_ONCE = 4096
_LENGTH_FILE, _POOLING_FILE = "sentence_bert_config.json", "1_Pooling/config.json"


class SentenceEncoder:
    """Texts as unit vectors: the mean of an encoder's last states over a text's tokens, special ones included.

    That is how all-MiniLM-L6-v2 was trained (Reimers and Gurevych 2019, arXiv 1908.10084, section 3). A text of more
    than ``max_length`` tokens is read to there. ``precision`` bfloat16 changes a cosine in the third digit.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        limit = readable_length(model, tokenizer)
        if max_length is not None and not 3 <= max_length <= limit:
            raise ConfigError(sentence("max_length", f"must lie in [3, {limit}]", max_length))
        self.model, self.tokenizer, self.precision = model, tokenizer, precision
        self.reader = TextEncoder(tokenizer, min(limit, LONGEST) if max_length is None else max_length)
        model.train(False)

    @classmethod
    def load(
        cls, name: str | Path = MINILM, *, max_length: int | None = None, precision: Precision = "float32"
    ) -> Self:
        """From a folder of sentence-transformers or transformers with an encoder, a hub name, or "minilm".

        Without ``max_length``, that of the folder. Raises ModelError for what cannot be loaded, and for a folder of
        sentence-transformers that says to pool by anything but the mean.
        """
        folder = Path(locate(name))
        pooling = _settings(folder / _POOLING_FILE)
        if pooling.get("pooling_mode_mean_tokens") is False:
            then = "Give one such as all-MiniLM-L6-v2."
            raise ModelError(
                sentence(f"sentence encoder {name}", "must pool by the mean", "another way", then)
            )
        tokenizer = load_tokenizer(name)
        model, _ = load_model_with_head(AutoModel, name)
        place(model)
        if max_length is None and (length := _settings(folder / _LENGTH_FILE).get("max_seq_length")):
            max_length = min(int(length), readable_length(model, tokenizer))
        return cls(model, tokenizer, max_length=max_length, precision=precision)

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return int(self.model.config.get_text_config().hidden_size)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One unit vector for each text, shape (n, width). It does not depend on the other texts.

        Raises DataError for what is no text.
        """
        if isinstance(texts, str):
            raise DataError(sentence("texts", "must be a list of texts", "one text"))
        out = np.empty((len(texts), self.width), dtype=np.float32)
        room = self.reader.room
        encoded: list[Encoded] = [self.reader.wrap(one.ids[:room]) for one in self.reader.tokens(texts)]
        for rows, width in self.reader.scoring_batches(encoded, _TOKENS_AT_ONCE):
            batch = to_device(self.reader.collate([encoded[i] for i in rows], width), self.model.device)
            with autocast(self.precision, self.model.device):
                states = self.model(**batch).last_hidden_state.float()  # (n, t, width)
            mask = batch["attention_mask"].unsqueeze(-1).to(states)  # (n, t, 1)
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
            out[rows] = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
        return out

    def similarity(self, a: Sequence[str], b: Sequence[str]) -> NDArray[np.float64]:
        """Cosine of a[i] and b[i], shape (n,), in [-1, 1]; a text that stands often is read once.

        Raises DataError for lists of unlike length.
        """
        if len(a) != len(b):
            raise DataError(sentence("b", f"must be as long as a ({len(a)})", len(b)))
        place_of = {text: i for i, text in enumerate(dict.fromkeys([*a, *b]))}
        vectors = self.embed(list(place_of)).astype(np.float64)
        left, right = ([place_of[text] for text in texts] for texts in (a, b))
        cosines: NDArray[np.float64] = np.einsum("ij,ij->i", vectors[left], vectors[right])
        return np.clip(cosines, -1.0, 1.0)


def _settings(file: Path) -> dict[str, Any]:
    """A small JSON file of sentence-transformers; nothing where there is none. Raises ModelError for a broken one."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(sentence(str(file), "must be JSON", str(error))) from error
    return content if isinstance(content, dict) else {}
