"""A small encoder from scratch: a tokenizer trained on the texts and random weights, for any machine
without a hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.devices import isolated
from fivenines.models.heads import Head, pooled_over

__all__ = ["Architecture", "EncoderConfig", "make_encoder", "make_masked_model", "train_pair_tokenizer"]

Architecture = Literal["bert", "roberta", "modernbert", "deberta", "deberta-v2"]
_ARCHITECTURES = ("bert", "roberta", "modernbert", "deberta", "deberta-v2")
_PAD, _UNKNOWN, _FIRST, _BETWEEN, _MASK = _SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an encoder made from scratch. Checked when made; raises ConfigError.

    ``tokenizer``: "word" (one id a word: closed vocabularies), "wordpiece" or "bpe" (open text);
    ``vocabulary`` is its size at most. ``max_length`` in tokens of a pair.
    """

    architecture: Architecture = "bert"
    layers: int = 3
    width: int = 128
    heads: int = 4
    tokenizer: Literal["word", "wordpiece", "bpe"] = "wordpiece"
    vocabulary: int = 8000
    max_length: int = 256
    lowercase: bool = True
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "vocabulary", "max_length"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise ConfigError(sentence(name, "must be an integer of at least 1", getattr(self, name)))
        if self.width % self.heads or (self.width // self.heads) % 2:
            must = f"must be an even multiple of heads ({self.heads})"
            raise ConfigError(sentence("width", must, self.width))
        if self.architecture not in _ARCHITECTURES:
            raise ConfigError(
                sentence("architecture", f"must be one of {', '.join(_ARCHITECTURES)}", self.architecture)
            )
        if self.tokenizer not in ("word", "wordpiece", "bpe"):
            raise ConfigError(sentence("tokenizer", "must be word, wordpiece or bpe", self.tokenizer))
        if not 0 <= self.dropout < 1:
            raise ConfigError(sentence("dropout", "must lie in [0, 1)", self.dropout))


def _empty(config: EncoderConfig) -> tuple[Tokenizer, Any]:
    """A tokenizer without a vocabulary, and its trainer."""
    options: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "special_tokens": list(_SPECIAL),
        "show_progress": False,
    }
    if config.tokenizer == "word":
        return Tokenizer(models.WordLevel(unk_token=_UNKNOWN)), trainers.WordLevelTrainer(**options)
    if config.tokenizer == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer, trainers.WordPieceTrainer(**options)
    return Tokenizer(models.BPE(unk_token=_UNKNOWN)), trainers.BpeTrainer(**options)


def train_pair_tokenizer(texts: Iterable[str], config: EncoderConfig) -> PreTrainedTokenizerFast:
    """A tokenizer trained on the texts that writes a pair as [CLS] prompt [SEP] completion [SEP], with types
    0 and 1.

    The same texts give the same tokenizer. Raises DataError when there is no word in the texts.
    """
    tokenizer, trainer = _empty(config)
    steps = [normalizers.NFC()] + ([normalizers.Lowercase()] if config.lowercase else [])
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(texts, trainer)
    size = tokenizer.get_vocab_size()
    if size <= len(_SPECIAL):
        raise DataError(sentence("texts for the tokenizer", "must hold words", "none"))
    ids = {token: tokenizer.token_to_id(token) for token in (_FIRST, _BETWEEN)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_FIRST} $A {_BETWEEN}",
        pair=f"{_FIRST} $A {_BETWEEN} $B:1 {_BETWEEN}:1",
        special_tokens=list(ids.items()),
    )
    wrap: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = wrap(
        tokenizer_object=tokenizer,
        model_max_length=config.max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        cls_token=_FIRST,
        sep_token=_BETWEEN,
        mask_token=_MASK,
    )
    return wrapped


def _model_config(
    config: EncoderConfig, tokenizer: PreTrainedTokenizerFast, outputs: int
) -> PretrainedConfig:
    if config.architecture == "modernbert":  # knows no types
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": 4 * config.width,
        "max_position_embeddings": config.max_length,
        "pad_token_id": tokenizer.pad_token_id,
        "num_labels": outputs,
        "initializer_range": 0.7
        * config.width**-0.5,  # as for language models: narrow ones must start larger
    }
    dropout = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2}
    special: dict[str, Callable[[], dict[str, Any]]] = {
        "bert": lambda: dropout,
        # counts positions from pad_token_id + 1, and has two types here, unlike the published models
        "roberta": lambda: (
            dropout
            | {
                "max_position_embeddings": config.max_length + tokenizer.pad_token_id + 1,
                "type_vocab_size": 2,
            }
        ),
        "modernbert": lambda: {
            "cls_token_id": tokenizer.cls_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "bos_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "embedding_dropout": config.dropout,
            "mlp_dropout": config.dropout,
            "attention_dropout": config.dropout,
            "intermediate_size": 2 * config.width,  # gated: twice this goes through
        },
        "deberta": lambda: dropout | relative,
        "deberta-v2": lambda: dropout | relative | {"position_biased_input": False, "share_att_key": True},
    }
    made: PretrainedConfig = AutoConfig.for_model(
        config.architecture, **(common | special[config.architecture]())
    )
    return made


def make_encoder(
    config: EncoderConfig,
    tokenizer: PreTrainedTokenizerFast,
    *,
    outputs: int,
    seed: int,
    head: Head = "plain",
) -> PreTrainedModel:
    """A sequence classifier with random weights, the same for the same seed."""
    settings = _model_config(config, tokenizer, outputs)
    plain: Any = AutoModelForSequenceClassification
    bare: Any = AutoModel
    with isolated(seed):
        model: PreTrainedModel
        if head == "plain":
            model = plain.from_config(settings)
        else:
            model = pooled_over(bare.from_config(settings), tokenizer, outputs, config.dropout)
    return model


def make_masked_model(
    config: EncoderConfig, tokenizer: PreTrainedTokenizerFast, *, seed: int
) -> PreTrainedModel:
    """A masked language model with random weights, its head tied to the word embeddings."""
    auto: Any = AutoModelForMaskedLM
    settings = _model_config(config, tokenizer, outputs=2)
    settings.tie_word_embeddings = True
    with isolated(seed):
        model: PreTrainedModel = auto.from_config(settings)
    return model
