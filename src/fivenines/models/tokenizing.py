"""Tokenizers for language models from scratch. decode(encode(text)) == text, space for space.

"bpe"   byte pairs on bytes (as GPT-2): open text, nothing is unknown
"lines" as bpe, but no token goes on after the end of a line: for code, where a tag stands before a line's first blanks
"word"  one token per word and per punctuation mark: closed vocabularies; words not seen become <unk>
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from fivenines.errors import ConfigError, DataError, sentence

__all__ = ["END", "TokenizerKind", "speller", "train_tokenizer"]

TokenizerKind = Literal["bpe", "lines", "word"]
END = "<|endoftext|>"  # between documents, and fills up batches
_UNKNOWN = "<unk>"


def train_tokenizer(
    texts: Iterable[str], kind: TokenizerKind, vocabulary: int, context: int
) -> PreTrainedTokenizerFast:
    """A tokenizer trained on ``texts``; the same texts give the same tokenizer.

    ``vocabulary``: its size at most (byte pairs need 257 or more); ``context``: the longest text in tokens.

    :raises DataError: when there is no word in the texts.
    """
    tokenizer, trainer = _words(vocabulary) if kind == "word" else _bytes(vocabulary, lines=kind == "lines")
    seen = False

    def told() -> Iterable[str]:
        nonlocal seen
        for text in texts:
            seen = seen or bool(text.strip())
            yield text

    tokenizer.train_from_iterator(told(), trainer)
    if not seen:
        raise DataError(sentence("texts for the tokenizer", "must hold words", "none"))
    wrap: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = wrap(
        tokenizer_object=tokenizer,
        model_max_length=context,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        eos_token=END,
        pad_token=END,
        **({"unk_token": _UNKNOWN} if kind == "word" else {}),
    )
    return wrapped


def _bytes(vocabulary: int, *, lines: bool) -> tuple[Tokenizer, Any]:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary <= len(alphabet):
        must = f"must exceed {len(alphabet)}, the bytes and the end-of-text token"
        raise ConfigError(sentence("vocabulary", must, vocabulary))
    tokenizer = Tokenizer(models.BPE())
    pieces: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if lines:
        pieces = pre_tokenizers.Sequence(
            [pre_tokenizers.Split("\n", behavior="merged_with_previous"), pieces]
        )
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    return tokenizer, trainer


def _words(vocabulary: int) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.WordLevel(unk_token=_UNKNOWN))
    # a word carries the space before it (▁); the text's first word does as well, and decoding takes it off
    # again, so that a word is one token wherever it stands
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(r"[^\w▁]"), behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    special = [END, _UNKNOWN]
    return tokenizer, trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=special, show_progress=False
    )


def speller(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], str]:
    """Tokens to text, without special tokens, blanks as they are."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # several times as fast as the wrapper around it
        return lambda tokens: str(backend.decode(tokens, skip_special_tokens=True))
    return lambda tokens: str(
        tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )
