"""Writing with tags: a tagged model under a policy is a generator, and tells what it thought on the way."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from fivenines.conditional.guidance import ContrastDecoder, Guidance, contrast_of
from fivenines.conditional.lookahead import Lookahead
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.opening import OpeningDecoder
from fivenines.conditional.policy import ChangePolicy, TagPolicy
from fivenines.conditional.steering import OnReading, Spell, TagSteering
from fivenines.conditional.watching import Watch
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.decoding import CachedDecoder, Ids, PlainDecoder, make_peeking_decoder
from fivenines.models.language_model import SamplingConfig
from fivenines.models.sampling import Sampler, output_size
from fivenines.models.tokenizing import speller

__all__ = ["TaggedGenerator", "TaggedText"]

_LINE_ENDS = ("\n", "\r\n", "\r")


@dataclass(frozen=True, eq=False)
class TaggedText:
    """What was written after a prompt. ``text`` has no tags; ``tokens`` are all that were drawn, tags among them.

    ``forced``: the tags before them; ``at_end``: whether the last token ends a text. ``readings`` float32 (t, k): the
    probability of each of ``tags`` at the places of ``forced`` and then of ``tokens``; None where nobody watched.
    """

    text: str
    tokens: Ids
    forced: Ids
    tags: tuple[str, ...]
    readings: NDArray[np.float32] | None
    at_end: bool
    spell: Spell = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether the end of text follows ``text``."""
        return self.at_end and self.spell(list(self.tokens)).strip() == self.text

    @cached_property
    def kept(self) -> Ids | None:
        """The tokens up to the end of ``text``, with tags and blanks as they were written; the end of the line with it.

        What was drawn beyond, to see that a sentence had ended, is left out, and so is the end of the text. None where
        no tokens end where the text does: one token reached over its end, or holds but half of a character.
        """
        sizes = range(len(self.tokens) + 1)
        n = bisect_left(sizes, len(self.text), key=lambda n: len(self._beginning(n).strip()))
        if n > len(self.tokens) or self._beginning(n).strip() != self.text or "\ufffd" in self.text:
            return None  # what is half a character here would be joined to what comes next
        if self._beginning(n).endswith(_LINE_ENDS):
            return self.tokens[:n]
        ended = n
        for m in range(n + 1, len(self.tokens) + 1):
            # nothing where tags or blanks stand before the end of the line
            added = self.spell(list(self.tokens[n:m])).strip(" \t\f\v")
            if added in _LINE_ENDS:
                ended = m
            if added not in ("", "\r"):  # "\n" may follow "\r"
                break
        return self.tokens[:ended]

    def _beginning(self, n: int) -> str:
        return self.spell(list(self.tokens[:n]))

    @cached_property
    def watch(self) -> Watch:
        """The readings with their places in the text; worked out when asked for, by spelling out every beginning.

        Raises ConfigError where nobody watched.
        """
        if self.readings is None:
            raise ConfigError(sentence("watch", "must be on when the text is written", "off"))
        whole = self.spell(list(self.tokens))
        lead = len(whole) - len(whole.lstrip())
        # half a character is spelled as a replacement: it is not there yet
        sizes = [len(self._beginning(n).rstrip("\ufffd")) for n in range(len(self.tokens))]
        offsets = np.array([0] * len(self.forced) + [size - lead for size in sizes], dtype=np.int64)
        offsets = np.maximum.accumulate(offsets.clip(0, len(self.text)))
        return Watch(self.text, self.tags, (*self.forced, *self.tokens), offsets, self.readings)


class TaggedGenerator:
    """A tagged model that writes under a policy; a ``GeneratorLike``.

    What looks like a tag in a prompt is plain text. Tags never stand in what is returned; they count among
    ``max_new_tokens``, the forced ones before the text do not. The same (prompt, seed, place in the list) gives the
    same text, as of a language model.

    Args:
        model: the model and the scheme of its tags.
        policy: None: :meth:`TagPolicy.for_good`.
        change: may change the policy of each text at each of its tokens.
        guidance: moves what is written away from the bad tags.
        lookahead: leaves out tokens after which a bad tag is likely.
        sampling: None: as the model does.

    Raises ConfigError for tags that the scheme has not, a policy that bans every token of the model, or guidance that
    has nothing to lead away from.
    """

    def __init__(
        self,
        model: TaggedModel,
        policy: TagPolicy | None = None,
        *,
        change: ChangePolicy | None = None,
        guidance: Guidance | None = None,
        lookahead: Lookahead | None = None,
        sampling: SamplingConfig | None = None,
    ) -> None:
        self.model = model
        self.policy = TagPolicy.for_good(model.scheme) if policy is None else policy
        self.policy.check(model.scheme)
        if np.isneginf(self.policy.biases(tuple(model.tags))).sum() >= output_size(model.language.model):
            raise ConfigError(sentence("a policy of tags", "must leave a token to write", "every one banned"))
        self.change, self.lookahead = change, lookahead
        self.guidance = (
            None if guidance is None or guidance.weight == guidance.base_top_p - 1.0 == 0.0 else guidance
        )
        if self.guidance is not None:
            contrast_of(model.scheme, self.policy)  # complain now
        if lookahead is not None and not model.scheme.bad:
            raise ConfigError(sentence("lookahead", "needs a scheme with a bad tag", "none"))
        self.sampling = model.language.sampling if sampling is None else sampling
        self._made: tuple[Sampler, Sampler] | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of the model."""
        return self.model.language.tokenizer

    @property
    def forced(self) -> Ids:
        """The tokens behind a prompt."""
        return tuple(self.model.tags[tag] for tag in self.policy.force)

    def with_sampling(self, **changes: Any) -> Self:
        """The same model and policy, that draw otherwise; as :meth:`LanguageModel.with_sampling`."""
        other = copy.copy(self)
        other.sampling, other._made = replace(self.sampling, **changes), None
        return other

    def with_policy(self, policy: TagPolicy) -> Self:
        """The same model under another policy. Raises ConfigError as a new one does."""
        return type(self)(
            self.model,
            policy,
            change=self.change,
            guidance=self.guidance,
            lookahead=self.lookahead,
            sampling=self.sampling,
        )

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """One completion per prompt, without tags; see ``GeneratorLike``."""
        return [each.text for each in self.write(prompts, seed=seed, watch=False)]

    def write(
        self,
        prompts: Sequence[str | Ids],
        *,
        seed: int,
        watch: bool = True,
        on_reading: OnReading | None = None,
        streams: Sequence[int] | None = None,
    ) -> list[TaggedText]:
        """As :meth:`sample`, with all tokens and, where ``watch``, the probability of every tag at each of them.

        A prompt may be tokens already. ``on_reading`` is told of each step of the batch as it happens. ``streams``: as
        :meth:`Sampler.write`.
        """
        if isinstance(prompts, str):
            raise DataError(sentence("prompts", "must be a list of texts", "one text"))
        watch = watch or on_reading is not None
        sampler, spell = self.sampler, speller(self.tokenizer)
        steering = self._steering(sampler, watch, spell)
        steering.on_reading = on_reading
        written = sampler.write(prompts, seed, steering=steering, streams=streams)
        readings: Sequence[NDArray[np.float32] | None] = [None] * len(written)
        if watch:
            readings = steering.readings(len(written))
        return [
            TaggedText(
                each.text,
                each.tokens,
                self.forced,
                steering.names,
                read,
                _at_end(each.tokens, sampler),
                spell,
            )
            for each, read in zip(written, readings, strict=True)
        ]

    def _steering(self, sampler: Sampler, watch: bool, spell: Spell) -> TagSteering:
        draws = self.sampling
        exact = draws.temperature == 1.0 and not draws.top_k and draws.top_p == 1.0
        found = TagSteering(
            self.model.scheme, self.model.tags, self.policy, exact=exact, watch=watch, spell=spell
        )
        found.change, found.mix = self.change, self.guidance
        if self.lookahead is not None:
            ends = torch.from_numpy(sampler.rule.is_eos).to(sampler.model.device)
            names = self.model.scheme.bad
            bad = [self.model.tags[tag] for tag in names]
            good = [token for tag, token in self.model.tags.items() if tag not in names]
            decoder: Any = sampler.decoder
            found.look = partial(self.lookahead.look, peek=decoder.peek, bad=bad, good=good, ends=ends)
        return found

    @property
    def sampler(self) -> Sampler:
        """Draws from the model as it is now, and remembers the prompts that it read."""
        language = self.model.language
        base = language.sampler  # a new one after training
        if self._made is None or self._made[0] is not base:
            precision = self.sampling.precision
            if precision != language.sampling.precision:
                language = language.with_sampling(precision=precision)
            network = language.sampler.model  # in the precision of sampling
            sampler = Sampler(network, self.tokenizer, self.sampling, opening=self.forced, literal=True)
            self._open(sampler)
            self._made = base, sampler
        return self._made[1]

    def _open(self, sampler: Sampler) -> None:
        """Put the decoder that the policy, guidance and lookahead need into a sampler."""
        inner = sampler.decoder
        assert isinstance(inner, CachedDecoder | PlainDecoder)
        tags, force = self.model.tags, self.policy.force
        if self.lookahead is not None:
            inner = sampler.decoder = make_peeking_decoder(sampler.model, sampler.context)
            if isinstance(inner, CachedDecoder):
                inner.ahead = self.lookahead.candidates
        if self.guidance is not None:
            contrast = contrast_of(self.model.scheme, self.policy)
            sampler.room -= max(0, len(contrast[0]) - len(force))
            if sampler.room < 1:
                must = f"must leave room in the model's context of {sampler.context} tokens for the tags of guidance"
                raise ConfigError(sentence("max_new_tokens", must, self.sampling.max_new_tokens))
            sampler.decoder = ContrastDecoder(inner, tags, force, contrast, output_size(sampler.model))
        elif force:
            sampler.decoder = OpeningDecoder(inner, list(tags.values()), len(force))

    def forget(self) -> None:
        """Forget the prompts that were read; draws are then those of a fresh process, bit by bit."""
        if self._made is not None:
            self._made[1].clear()


def _at_end(tokens: Ids, sampler: Sampler) -> bool:
    return bool(tokens) and bool(sampler.rule.is_eos[tokens[-1]])
