"""The sampler: many completions of many prompts, as fast as the machine allows.

Rejection sampling comes back to the same prompts again and again, and reading a prompt costs more than
writing a sentence after it. So a prompt is read once for all its draws and remembered between calls; a row
that ends leaves the batch at once and a waiting draw takes its place; keys and values are never copied
between steps. What a draw says depends on (prompt, seed, its place in the list of prompts) alone, up to the
rounding of floats.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.decoding import Decoder, Ids, make_decoder
from fivenines.models.prefix_cache import Prefix, PrefixCache
from fivenines.models.steering import Steering
from fivenines.models.stopping import Stop, StopRule
from fivenines.models.token_choice import choose_with_mass, uniforms

__all__ = ["Sampler", "SamplingConfig", "Written", "output_size"]

_READ_AHEAD = 16  # prompts read at once: enough for full matrix products, few enough to hold in memory
_UNLIMITED = 2**20  # context of a model that states none


@dataclass(frozen=True)
class SamplingConfig:
    """How to draw completions. Checked when made; raises ConfigError.

    ``temperature`` 0 takes the likeliest token; ``top_k`` 0 and ``top_p`` 1 leave all tokens in. ``stop``:
    see :class:`~fivenines.models.stopping.StopRule`. ``batch_size``: rows per step. ``prefix_cache_mb``:
    memory for prompts that were read, in 2^20 bytes. ``precision``: "auto" is float32 on a CPU and bfloat16
    on an accelerator that has it.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 64
    stop: Stop = "sentence"
    batch_size: int = 64
    prefix_cache_mb: float = 256.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ConfigError(sentence("temperature", "must be a number of at least 0", self.temperature))
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(sentence("top_p", "must lie in (0, 1]", self.top_p))
        for name, least in (("top_k", 0), ("max_new_tokens", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(sentence(name, f"must be an integer of at least {least}", value))
        if not self.prefix_cache_mb >= 0:
            raise ConfigError(sentence("prefix_cache_mb", "must be at least 0", self.prefix_cache_mb))
        if self.stop not in ("sentence", "newline", "eos"):
            raise ConfigError(sentence("stop", "must be sentence, newline or eos", self.stop))
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(sentence("precision", "must be auto, float32 or bfloat16", self.precision))


@dataclass(frozen=True, slots=True)
class Written:
    """A completion, and all the tokens that were drawn for it: what decided that it ends stands among them."""

    text: str
    tokens: Ids


@dataclass(slots=True)
class _Row:
    """A completion in the making."""

    draw: int  # its place in the list of prompts
    chances: list[float]  # one random number per token
    tokens: list[int]
    since_end: int  # tokens since one at which the completion might have ended


class Sampler:
    """Draws completions from one model. ``model`` stays as it is; after training it, make a new sampler.

    :param opening: tokens that stand behind every prompt, before what is drawn; they survive the cut to the context.
    :param literal: what spells a special token in a prompt is plain text, not that token.
    :raises ConfigError: when ``max_new_tokens`` leaves no room for a prompt.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: SamplingConfig,
        *,
        opening: Ids = (),
        literal: bool = False,
    ) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.opening = opening
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.context = int(context) if context else _UNLIMITED
        self.room = self.context - config.max_new_tokens - len(opening)  # tokens of a prompt
        if self.room < 1:
            must = f"must be below the model's context of {self.context} tokens"
            must += f" less the {len(opening)} put behind a prompt" if opening else ""
            raise ConfigError(sentence("max_new_tokens", must, config.max_new_tokens))
        self._tokenizing = {"split_special_tokens": True} if literal else {}
        self.rule = StopRule(
            tokenizer,
            config.stop,
            output_size(model),
            _eos_tokens(model, tokenizer),
        )
        self.prefixes = PrefixCache(int(config.prefix_cache_mb * 2**20))
        self.decoder: Decoder = make_decoder(model, self.context)
        self.encode = lru_cache(maxsize=2**16)(self._encode)

    def _encode(self, prompt: str | Ids) -> Ids:
        """The tokens of a prompt, as :meth:`read_prompt`; of one too long for the context the right end, with room to
        complete it. ``opening`` comes behind them.
        """
        ids = self.read_prompt(prompt) if isinstance(prompt, str) else prompt or self.read_prompt("")
        return (*ids[-self.room :], *self.opening)

    def read_prompt(self, prompt: str) -> Ids:
        """The tokens of a prompt.

        Trailing space is dropped, since a completion begins with its own. An empty prompt is the
        start-of-text (or end-of-text) token.

        :raises DataError: for an empty prompt, when the tokenizer has neither.
        """
        ids = self.tokenizer(prompt.rstrip(), **self._tokenizing)["input_ids"]
        if not ids:
            start = self.tokenizer.bos_token_id
            start = self.tokenizer.eos_token_id if start is None else start
            if start is None:
                then = "The tokenizer has no start-of-text token to begin from."
                raise DataError(sentence("prompt", "must not be empty", repr(prompt), then))
            ids = [start]
        return tuple(ids)

    def sample(self, prompts: Sequence[str], seed: int) -> list[str]:
        """One completion per prompt; see :class:`~fivenines.models.protocols.GeneratorLike`."""
        return [completion.text for completion in self.write(prompts, seed)]

    @torch.inference_mode()
    def write(
        self,
        prompts: Sequence[str | Ids],
        seed: int,
        *,
        steering: Steering | None = None,
        streams: Sequence[int] | None = None,
    ) -> list[Written]:
        """As :meth:`sample`, with every token that was drawn. A prompt may be tokens already.

        ``steering`` moves or reads the logits; ``streams``: which random numbers each prompt draws with, at least 0
        and below 2^64; None: those of its place in the list.
        """
        encoded = [self.encode(prompt) for prompt in prompts]
        if not encoded:
            return []
        places = range(len(encoded)) if streams is None else streams
        found = dict(_Run(self, encoded, seed, places, steering).texts())
        return [found[draw] for draw in range(len(encoded))]

    def clear(self) -> None:
        """Forget the prompts that were read. Afterwards results are those of a fresh sampler, bit by bit."""
        self.prefixes.clear()


def output_size(model: PreTrainedModel) -> int:
    """The number of logits per token, which may exceed the tokenizer's size."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return int(head.weight.shape[0])


def _eos_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """All tokens that end a text, by the model and by the tokenizer."""
    found: list[int] = []
    for source in (model.generation_config, model.config, tokenizer):
        token = getattr(source, "eos_token_id", None)
        found.extend(token if isinstance(token, list) else [] if token is None else [token])
    return found


class _Run:
    """One call of ``sample``: what waits, and what is in the batch."""

    def __init__(
        self,
        sampler: Sampler,
        encoded: Sequence[Ids],
        seed: int,
        streams: Sequence[int],
        steering: Steering | None,
    ) -> None:
        self.sampler, self.config, self.rule = sampler, sampler.config, sampler.rule
        self.decoder = sampler.decoder
        self.seed, self.streams, self.steering = seed, streams, steering
        draws: dict[Ids, list[int]] = {}
        for draw, ids in enumerate(encoded):
            draws.setdefault(ids, []).append(draw)
        longest_first = sorted(draws.items(), key=lambda item: -len(item[0]))  # like lengths share a batch
        self.unread = deque(longest_first)
        self.waiting: deque[tuple[int, Prefix]] = deque()
        self.rows: list[_Row] = []
        size = min(self.config.batch_size, len(encoded))
        self.decoder.reserve(size, len(longest_first[0][0]), self.config.max_new_tokens)
        self.size = size

    def texts(self) -> Iterator[tuple[int, Written]]:
        """(place in the list of prompts, completion), in order of finishing."""
        logits = None  # (rows, vocabulary), for the rows of the last step
        while True:
            joined = self._fill()
            if not self.rows:
                return
            parts = [part for part in (logits, joined) if part is not None]
            tokens = self._choose(torch.cat(parts) if len(parts) > 1 else parts[0])
            finished = self._append(tokens)
            yield from finished.values()
            kept = self._leave(finished)
            logits = self.decoder.step(tokens[kept].to(tokens.device)) if self.rows else None

    def _fill(self) -> torch.Tensor | None:
        """Let waiting draws join while there is room; the logits for their first token, (joined, vocab)."""
        joined = []
        while len(self.rows) < self.size:
            if not self.waiting and not self._read():
                break
            draw, prefix = self.waiting.popleft()
            chances = uniforms(self.seed, self.streams[draw], self.config.max_new_tokens)
            self.rows.append(_Row(draw, chances.tolist(), [], _FAR))
            self.decoder.join(prefix)
            if self.steering is not None:
                self.steering.join(draw, prefix)
            joined.append(prefix.logits)
        return torch.stack(joined) if joined else None

    def _read(self) -> bool:
        """Read the next few prompts, those that are not remembered; False if none is left."""
        group = [self.unread.popleft() for _ in range(min(_READ_AHEAD, len(self.unread)))]
        cache = self.sampler.prefixes
        known = {ids: prefix for ids, _ in group if (prefix := cache.get(ids)) is not None}
        new = [ids for ids, _ in group if ids not in known]
        for prefix in self.decoder.read(new) if new else []:
            known[prefix.ids] = prefix
            cache.put(prefix)
        self.waiting.extend((draw, known[ids]) for ids, draws in group for draw in draws)
        return bool(group)

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        chance = [row.chances[len(row.tokens)] for row in self.rows]
        if self.steering is not None:
            logits = self.steering.steer(self.rows, logits)
        tokens, mass = choose_with_mass(
            logits,
            torch.tensor(chance, dtype=torch.float64, device=logits.device),
            temperature=self.config.temperature,
            top_k=self.config.top_k,
            top_p=self.config.top_p,
        )
        if self.steering is not None:
            self.steering.chose(self.rows, tokens, mass)
        return tokens

    def _append(self, tokens: torch.Tensor) -> dict[int, tuple[int, Written]]:
        """Add one token to each row; by row, the (draw, completion) of those that end."""
        chosen = tokens.cpu().numpy()
        ends = self.rule.is_eos[chosen].tolist()
        marks = self.rule.may_end[chosen].tolist()
        finished: dict[int, tuple[int, Written]] = {}
        for index, (row, token, eos, mark) in enumerate(
            zip(self.rows, chosen.tolist(), ends, marks, strict=True)
        ):
            text: str | None = None
            if eos:
                text = self.rule.finish(row.tokens, at_eos=True)
            else:
                row.tokens.append(token)
                row.since_end = 0 if mark else row.since_end + 1
                if row.since_end <= self.rule.lookahead:
                    text = self.rule.is_complete(row.tokens)
                if text is None and len(row.tokens) == self.config.max_new_tokens:
                    text = self.rule.finish(row.tokens, at_eos=False)
            if text is not None:
                drawn = (*row.tokens, token) if eos else tuple(row.tokens)
                finished[index] = (row.draw, Written(text, drawn))
        return finished

    def _leave(self, finished: dict[int, tuple[int, Written]]) -> NDArray[np.int64]:
        """Drop finished rows; the last rows take their places. The rows that stay, in their new order."""
        count = len(self.rows) - len(finished)
        order = np.arange(count)
        if finished:
            gaps = [index for index in finished if index < count]
            movers = [index for index in range(count, len(self.rows)) if index not in finished]
            order[gaps] = movers
            self.rows = [self.rows[index] for index in order]
            self.decoder.keep(order)
        return order


_FAR = 2**30  # since_end of a row in which no end was in sight yet
