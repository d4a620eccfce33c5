"""A masked language model of transformers: fills holes in texts, and says which words could stand for others."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.batching import Batch, to_device
from fivenines.models.checkpoints import remove_checkpoint
from fivenines.models.devices import autocast, isolated, place, training_attention
from fivenines.models.encoders import EncoderConfig, make_masked_model, train_pair_tokenizer
from fivenines.models.folder import (
    Card,
    load_config,
    load_model,
    load_model_with_head,
    load_tokenizer,
    read_card,
    save_folder,
)
from fivenines.models.heads import reads_left_to_right
from fivenines.models.losses import IGNORE
from fivenines.models.masked_blocks import MaskedBlocks, masked_batch, text_blocks
from fivenines.models.masking import Masker, Masking, masked_language_loss, masked_logits
from fivenines.models.optimizers import freeze_bottom
from fivenines.models.pairs import LONGEST, Encoded, readable_length
from fivenines.models.pooled import PooledConfig, PooledPairClassifier
from fivenines.models.texts import Hole, Span, TextEncoder, span_tokens, whole_words
from fivenines.models.training import train
from fivenines.models.training_config import Precision, TrainingConfig, TrainingResult

__all__ = ["KIND", "Filling", "Hole", "MaskedLanguageModel", "MaskedScore"]

KIND = "masked language model"
_TOKENS_AT_ONCE = 4096
_LOGITS_AT_ONCE = 2**25  # numbers: 128 MB in float32
_FORMS = 4  # ways in which a vocabulary may write one word: run, Run, RUN, rUN


@dataclass(frozen=True, slots=True)
class Filling:
    """A word as the vocabulary writes it (lower case, in an uncased model), and its log P over the vocabulary."""

    text: str
    log_p: float


@dataclass(frozen=True)
class MaskedScore:
    """How well hidden tokens are known: mean nats of each, the share that is guessed right, and their number."""

    nats: float
    accuracy: float
    tokens: int


class MaskedLanguageModel:
    """Knows which words fit where. Made by :meth:`load`, :meth:`over` or :meth:`create`.

    ``precision`` is that of the body while it reads; the head multiplies in float32.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        precision: Precision = "auto",
        provenance: dict[str, Any] | None = None,
        fitted: bool = True,
    ) -> None:
        self.masker = Masker(tokenizer)  # raises ModelError where there is no mask token
        self.model, self.tokenizer, self.precision = model, tokenizer, precision
        self.provenance = {} if provenance is None else provenance
        self.fitted = fitted
        self.result: TrainingResult | None = None  # of the last fit
        self.reader = TextEncoder(tokenizer, min(readable_length(model, tokenizer), LONGEST))
        self._words: dict[bool, dict[int, str]] = {}  # whole words by id, without and with punctuation

    # -- making

    @classmethod
    def load(
        cls, name: str | Path, *, freeze_layers: int | None = None, precision: Precision = "auto"
    ) -> Self:
        """From a folder that :meth:`save` wrote, any folder of transformers with a masked language model, or a hub
        name. ``freeze_layers``: the embeddings and so many layers stay as they are in :meth:`fit`.

        Raises ModelError for what cannot be loaded; see :meth:`over` for an encoder without the head.
        """
        card = read_card(name)
        if card is not None and card.kind != KIND:
            then = "Put a new head over it with MaskedLanguageModel.over."
            raise ModelError(sentence(f"model folder {name}", f"must hold a {KIND}", f"a {card.kind}", then))
        tokenizer = load_tokenizer(name)
        model = load_model(AutoModelForMaskedLM, name)
        place(model)
        freeze_bottom(model, freeze_layers)
        provenance = {"base": str(name)} if card is None else dict(card.provenance)
        return cls(model, tokenizer, precision=precision, provenance=provenance)

    @classmethod
    def over(
        cls,
        name: str | Path,
        *,
        seed: int = 0,
        freeze_layers: int | None = None,
        precision: Precision = "auto",
    ) -> Self:
        """An encoder's body ("minilm", a classifier's folder, a hub name) under a new head, tied to its embeddings.

        It must be fitted before it fills. A model that has the head already keeps it. Raises ModelError for what
        cannot be loaded and for a model that reads from left to right.
        """
        tokenizer = load_tokenizer(name)
        with isolated(seed):
            model, fresh = _with_masked_head(name)
        place(model)
        freeze_bottom(model, freeze_layers)
        base = {"base": str(name)}
        return cls(model, tokenizer, precision=precision, provenance=base, fitted=not fresh)

    @classmethod
    def create(
        cls,
        texts: Sequence[str],
        encoder: EncoderConfig | None = None,
        *,
        seed: int = 0,
        precision: Precision = "auto",
    ) -> Self:
        """A small model with random weights, and a tokenizer trained on ``texts``; it must be fitted."""
        encoder = EncoderConfig() if encoder is None else encoder
        tokenizer = train_pair_tokenizer(texts, encoder)
        model = make_masked_model(encoder, tokenizer, seed=seed)
        place(model)
        model.train(False)
        base = {"base": asdict(encoder)}
        return cls(model, tokenizer, precision=precision, provenance=base, fitted=False)

    # -- learning

    def fit(
        self,
        texts: Sequence[str],
        *,
        validation: Sequence[str] | None = None,
        training: TrainingConfig | None = None,
        mask_share: float = 0.15,
        block: int = 128,
        folder: Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Learn the words of ``texts``, one document each, from the weights as they are now.

        Texts are cut into blocks of ``block`` tokens. What is hidden is drawn anew in each epoch, by whole words, and
        by the seed alone. With ``validation`` the weights of the best evaluation are kept (:meth:`measure`). With
        ``folder`` a killed fit goes on from its checkpoint.

        Raises DataError for texts without words, ConfigError for a block that the model cannot take.
        """
        training = TrainingConfig() if training is None else training
        blocks = text_blocks(self.reader, texts, block)
        masker = Masker(self.tokenizer, Masking(share=mask_share))
        source = MaskedBlocks(blocks, masker, self._pad_id, training.batch_size, training.seed)
        validate = None
        if validation is not None:
            held_out = text_blocks(self.reader, validation, block)
            validate = lambda model: -self._measure(held_out, mask_share, 0).nats  # noqa: E731
        training = replace(training, precision=self._precision(training.precision))
        with training_attention(self.model):
            self.result = train(
                self.model, source, _loss, training, validate=validate, folder=folder, progress=progress
            )
        self.fitted = True
        summary = {k: v for k, v in self.result.to_dict().items() if k not in ("losses", "seconds")}
        self.provenance = self.provenance | {
            "texts": len(texts),
            "tokens": int(blocks.size),
            "masking": asdict(masker.masking),
            "training": asdict(training),
            "result": summary,
            "versions": {"python": platform.python_version(), "torch": torch.__version__}
            | {"transformers": transformers.__version__},
        }
        return self

    def measure(
        self, texts: Sequence[str], *, share: float = 0.15, block: int = 128, seed: int = 0
    ) -> MaskedScore:
        """How well the model knows words of ``texts`` that are hidden, every one of them by the mask.

        Raises as :meth:`fit`; ModelError before the first fit.
        """
        self._demand_fitted()
        return self._measure(text_blocks(self.reader, texts, block), share, seed)

    @torch.inference_mode()
    def _measure(self, blocks: NDArray[np.int64], share: float, seed: int) -> MaskedScore:
        self.model.train(False)
        masker = Masker(self.tokenizer, Masking(share, masked=1.0, random=0.0))
        at_once = max(
            1, min(_TOKENS_AT_ONCE, int(_LOGITS_AT_ONCE / (share * self._outputs))) // blocks.shape[1]
        )
        nats, right, tokens = 0.0, 0, 0
        for number, start in enumerate(range(0, len(blocks), at_once)):
            rng = np.random.default_rng([seed, number])
            batch = masked_batch(blocks[start : start + at_once], masker, rng, self._pad_id)
            batch = to_device(batch, self.model.device)
            where = batch["labels"] != IGNORE
            labels, count = batch["labels"][where], int(where.sum())
            logits = self._logits(batch, where)
            nats += float(masked_language_loss(logits, labels)) * count
            right += int((logits.argmax(dim=-1) == labels).sum())
            tokens += count
        return MaskedScore(nats / tokens, right / tokens, tokens)

    @property
    def _pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @property
    def _outputs(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    def _precision(self, wanted: Precision) -> Precision:
        """transformers' first DeBERTa fills its mask with the least float32 and so fails in bfloat16."""
        return "float32" if wanted == "auto" and self.model.config.model_type == "deberta" else wanted

    # -- words

    def fill(self, holes: Sequence[Hole], k: int, *, punctuation: bool = False) -> list[list[Filling]]:
        """For each hole the ``k`` likeliest words, best first; with ``punctuation`` also its marks.

        A word is one token here, so rare words do not come up. A text too long for the model is read around its hole.
        What is found does not depend on the other holes, beyond the rounding of float32. Raises DataError for what is
        no text, ModelError before the first fit.
        """
        mask = str(self.tokenizer.mask_token)
        found = self.reader.tokens([hole.before + mask + hole.after for hole in holes])
        places = [[one.char_to_token(len(hole.before))] for one, hole in zip(found, holes, strict=True)]
        return [best[0] for best in self._best([one.ids for one in found], places, k, punctuation)]

    def substitutes(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]], k: int, *, punctuation: bool = False
    ) -> list[list[list[Filling]]]:
        """For each span of each text the ``k`` likeliest other words, best first, from one pass over the whole text.

        The word itself is not hidden, so what comes up is near it in meaning (BERT-Attack: Li et al. 2020, arXiv
        2004.09984, section 3.2). A word in pieces is read as a hole instead, one pass for each: the rest of its pieces
        calls for another beginning ("un", "con") and not for a word. (BERT-Attack combines the likeliest pieces and
        ranks the combinations by perplexity, at many passes.)

        Raises DataError for a span that is not of its text or holds no token, ModelError before the first fit.
        """
        found = self.reader.tokens(texts)
        ids: list[list[int]] = [one.ids for one in found]
        places: list[list[int]] = [[] for _ in texts]
        where: list[list[tuple[int, int]]] = [
            [] for _ in texts
        ]  # for each span: row of ids, number of its place
        for i, (text, some) in enumerate(zip(texts, spans, strict=True)):
            for span in some:
                tokens, row = span_tokens(found[i], text, span), i
                if len(tokens) > 1:
                    row = len(ids)
                    ids.append([*ids[i][: tokens.start], self.masker.mask_id, *ids[i][tokens.stop :]])
                    places.append([])
                where[i].append((row, len(places[row])))
                places[row].append(tokens.start)
        best = self._best(ids, places, k + _FORMS, punctuation)
        return [
            [_without(best[row][at], text[a:b], k) for (row, at), (a, b) in zip(some, of, strict=True)]
            for some, text, of in zip(where, texts, spans, strict=True)
        ]

    def _best(
        self, ids: Sequence[Sequence[int]], places: Sequence[Sequence[int]], k: int, punctuation: bool
    ) -> list[list[list[Filling]]]:
        """For each place of each text the ``k`` best words."""
        self._demand_fitted()
        if k < 1:
            raise ConfigError(sentence("k", "must be at least 1", k))
        windows: dict[tuple[int, int], list[int]] = {}  # (text, where a window begins) -> places in the text
        for i, some in enumerate(places):
            for at in sorted(set(some)):
                windows.setdefault((i, self.reader.window(len(ids[i]), at)), []).append(at)
        encoded = [self.reader.wrap(ids[i][begin : begin + self.reader.room]) for i, begin in windows]
        inside = [
            [at - begin + len(self.reader.around[0]) for at in some] for (_, begin), some in windows.items()
        ]
        found: dict[tuple[int, int], list[Filling]] = {}
        keys = list(windows.items())
        for row, best in self._read(encoded, inside, k, self._whole_words(punctuation)):
            (i, _), some = keys[row]
            found.update({(i, at): fillings for at, fillings in zip(some, best, strict=True)})
        return [[found[i, at] for at in some] for i, some in enumerate(places)]

    @torch.inference_mode()
    def _read(
        self, encoded: Sequence[Encoded], places: Sequence[Sequence[int]], k: int, words: dict[int, str]
    ) -> Iterator[tuple[int, list[list[Filling]]]]:
        """(row, the ``k`` best words at each of its places) for each encoded text, in any order."""
        if not encoded:
            return
        self.model.train(False)
        barred = torch.ones(self._outputs, dtype=torch.bool, device=self.model.device)
        barred[list(words)] = False
        share = max(len(some) / len(one["input_ids"]) for one, some in zip(encoded, places, strict=True))
        at_once = min(_TOKENS_AT_ONCE, int(_LOGITS_AT_ONCE / (share * self._outputs)))
        for rows, width in self.reader.scoring_batches(encoded, at_once):
            batch = to_device(self.reader.collate([encoded[i] for i in rows], width), self.model.device)
            where = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
            for row, i in enumerate(rows):
                where[row, list(places[i])] = True
            log_p = self._logits(batch, where).log_softmax(dim=-1)  # (places, vocabulary)
            best = log_p.masked_fill_(barred, -torch.inf).topk(min(k, len(words)), dim=-1)
            found = iter(zip(best.indices.tolist(), best.values.tolist(), strict=True))
            for i in rows:
                pairs = [next(found) for _ in places[i]]
                yield int(i), [[Filling(words[t], p) for t, p in zip(*two, strict=True)] for two in pairs]

    def _logits(self, batch: Batch, where: Tensor) -> Tensor:
        """(places, vocabulary) float32."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with autocast(self._precision(self.precision), self.model.device):
            return masked_logits(self.model, inputs, where, exact=True).float()

    def _whole_words(self, punctuation: bool) -> dict[int, str]:
        if punctuation not in self._words:
            self._words[punctuation] = whole_words(self.tokenizer, punctuation=punctuation)
        return self._words[punctuation]

    def _demand_fitted(self) -> None:
        if not self.fitted:
            must = "must be fitted before it is used"
            raise ModelError(sentence(KIND, must, "a new head", "Call fit first."))

    # -- keeping

    def save(self, folder: str | Path) -> None:
        """A plain transformers folder and ``fivenines.json``. Removes a training checkpoint that stands there.

        Raises ModelError for a model with a new head, ResourceError when the disk is full.
        """
        self._demand_fitted()
        save_folder(Path(folder), self.model, self.tokenizer, Card(KIND, provenance=self.provenance))
        remove_checkpoint(Path(folder))


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    where = batch["labels"] != IGNORE
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return masked_language_loss(masked_logits(model, inputs, where), batch["labels"][where])


def _with_masked_head(name: str | Path) -> tuple[PreTrainedModel, bool]:
    """The encoder of a folder under its masked-language head, and whether that is new."""
    config = load_config(name)
    if reads_left_to_right(config):
        must = "must be an encoder, which reads both ways"
        raise ModelError(sentence(f"model {name}", must, f"a decoder ({config.model_type})"))
    if config.model_type != PooledConfig.model_type:
        return load_model_with_head(AutoModelForMaskedLM, name, config)
    judge = load_model(AutoModelForSequenceClassification, name, config)
    assert isinstance(judge, PooledPairClassifier)
    auto: Any = AutoModelForMaskedLM
    model: PreTrainedModel = auto.from_config(judge.encoder.config)
    model.base_model.load_state_dict(judge.encoder.state_dict(), strict=False)
    return model.train(False), True


def _without(fillings: Sequence[Filling], word: str, k: int) -> list[Filling]:
    """The ``k`` best that are not the word itself, whatever its case."""
    return [filling for filling in fillings if filling.text.casefold() != word.casefold()][:k]
