"""When a completion is finished, and what of it is returned.

A sentence ends where sentencex says so, not at a bare full stop ("Mr. Smith"). That takes a look at what
follows, so a row is looked at while the few tokens after a possible end arrive, and only then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sentencex.sentencex import segment
from transformers import PreTrainedTokenizerBase

from fivenines.models.tokenizing import speller

__all__ = ["Stop", "StopRule", "first_sentence"]

Stop = Literal["sentence", "newline", "eos"]
_LOOKAHEAD = 3  # tokens after a possible end within which the next sentence must have begun
_PLAIN = re.compile(
    r"[A-Za-z0-9,;ĠĊ▁#]*"
)  # a token of these alone cannot end a sentence; Ġ, ▁, #: word starts
_OPENING = re.compile(r'(?:(?<=\s)|(?<=^)|(?<=[(\[—–-]))["\'](?=\S)|[“«„]')
_DANGLING = re.compile(r"\s+[\"'“„«‘(\[]+$")  # the opening mark of the next sentence
_CLOSING = re.compile(r'(?<=[^\s(\[—–-])"|[”»]')


def first_sentence(text: str, language: str = "en") -> tuple[str, bool]:
    """The first sentence of ``text``, stripped, and whether another one has begun after it.

    While a quotation mark is open the sentence counts as unfinished: sentencex splits after “Go! as long as
    it has not seen the end of “Go! Run,” she said.
    """
    sentences = _sentences(text, language)
    if not sentences:
        return "", False
    return sentences[0], len(sentences) > 1 and not _quote_is_open(sentences[0])


def _sentences(text: str, language: str) -> list[str]:
    """By sentencex, which leaves an opening mark that it does not see closed with the sentence before it."""
    pieces = (_DANGLING.sub("", piece.strip()) for piece in segment(language, text.strip()))
    return [piece for piece in pieces if piece]


def _quote_is_open(text: str) -> bool:
    """Whether more double quotation marks were opened than closed; of straight ones the neighbours tell."""
    opened = sum(match.group() != "'" for match in _OPENING.finditer(text))
    return opened > len(_CLOSING.findall(text))


def _whole_words(text: str) -> str:
    """Without the last word if it may have been cut in two; a single word stays."""
    if not text or not text[-1].isalnum():
        return text
    head, space, _ = text.rpartition(" ")
    return head.rstrip() if space else text


class StopRule:
    """Knows of each token whether a completion may end at it, and of each completion whether it has.

    :param stop: "sentence": after one whole sentence; "newline": after one line; "eos": at the end-of-text
        token alone, which ends the others too.
    :param vocabulary: number of rows of the model's output, which may exceed the tokenizer's size.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop: Stop,
        vocabulary: int,
        eos: Iterable[int],
        language: str = "en",
    ) -> None:
        self.stop = stop
        self.language = language
        self._spell = speller(tokenizer)
        self.is_eos: NDArray[np.bool_] = np.zeros(vocabulary, dtype=np.bool_)
        self.is_eos[[token for token in eos if token < vocabulary]] = True
        self.may_end: NDArray[np.bool_] = np.zeros(vocabulary, dtype=np.bool_)
        if stop != "eos":
            known = min(vocabulary, len(tokenizer))
            names = tokenizer.convert_ids_to_tokens(list(range(known)))
            self.may_end[:known] = [self._name_may_end(name) for name in names]

    def _name_may_end(self, name: str | None) -> bool:
        if name is None:
            return False
        if self.stop == "newline":  # Ċ: a newline in byte-level vocabularies
            return "\n" in name or "Ċ" in name or "0x0A" in name
        return "Ċ" in name or _PLAIN.fullmatch(name) is None

    @property
    def lookahead(self) -> int:
        """For how many tokens after a possible end a row must be looked at."""
        return _LOOKAHEAD if self.stop == "sentence" else 0

    def decode(self, tokens: list[int]) -> str:
        """The text of a completion's tokens, without special tokens."""
        return self._spell(tokens).strip()

    def is_complete(self, tokens: list[int]) -> str | None:
        """The finished completion, or None if it goes on. For rows at or shortly after a possible end."""
        text = self.decode(tokens)
        if text.endswith("\ufffd"):  # half of a character: what follows is not known yet
            return None
        if self.stop == "newline":
            line, newline, _ = text.partition("\n")
            return line.rstrip() if newline else None
        sentence, complete = first_sentence(text, self.language)
        return sentence if complete else None

    def finish(self, tokens: list[int], at_eos: bool) -> str:
        """The completion of a row that met the end of text, or its limit of tokens."""
        text = self.decode(tokens).rstrip("\ufffd")
        if self.stop == "newline":
            text, newline, _ = text.partition("\n")
            return text.rstrip() if newline or at_eos else _whole_words(text)
        if self.stop == "sentence":
            sentences = _sentences(text, self.language)
            if len(sentences) > 1:
                return sentences[0]
        return text if at_eos else _whole_words(text)
