"""Segment by segment: what a scorer rejects is thrown away and written anew; after too many failures one goes back.

Rejection of whole texts costs ever more the longer they are; here a bad sentence costs a sentence. What is returned has
no segment that scored above the limit, and none that could not be scored. It is not a draw from the model given that
the whole text passes: each segment is drawn given that it passes alone. What passed is read on as the tokens that were
written, with their tags and blanks: code keeps its indentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fivenines.conditional.decoding import TaggedGenerator, TaggedText
from fivenines.conditional.schemes import Labelled
from fivenines.conditional.watching import Unit
from fivenines.errors import ConfigError, sentence
from fivenines.filtering.scoring import ProbingScorer
from fivenines.models.decoding import Ids
from fivenines.models.protocols import ScorerLike
from fivenines.models.stopping import Stop
from fivenines.models.tokenizing import speller
from fivenines.records import Snippet
from fivenines.stats.checks import check_finite, check_whole

__all__ = ["BacktrackedText", "Backtracking", "BacktrackingGenerator", "TextScore", "watched_risk"]

TextScore = Callable[[TaggedText], float]  # from the readings of a segment; NaN: cannot be scored
_STOPS: dict[Unit, Stop] = {"sentence": "sentence", "line": "newline"}


@dataclass(frozen=True)
class Backtracking:
    """How to write in segments. Checked when made; raises ConfigError.

    A segment passes with a score of at most ``limit``. ``segments``: at most, in a text; ``tries``: of one segment,
    before the one before it is thrown away too; ``budget``: segments drawn for a text, all in all. ``abstain``: give
    nothing when the budget is spent, rather than what passed so far.
    """

    limit: float
    unit: Unit = "sentence"
    segments: int = 8
    tries: int = 4
    budget: int = 64
    abstain: bool = False

    def __post_init__(self) -> None:
        check_finite(self.limit, "limit")
        if self.unit not in _STOPS:
            raise ConfigError(sentence("unit", "must be sentence or line", self.unit))
        for name in ("segments", "tries", "budget"):
            check_whole(getattr(self, name), name, 1)


@dataclass(frozen=True)
class BacktrackedText:
    """``text``: the segments as they were written, None where it abstains; ``scores[i]`` of ``segments[i]``, all within
    the limit, each segment without the blanks around it.

    ``drawn``: segments in all. ``complete``: False when the budget was spent before the text came to its end.
    ``tokens``: the same text with its tags and all blanks, which count where it is code.
    """

    text: str | None
    segments: tuple[str, ...]
    scores: tuple[float, ...]
    drawn: int
    complete: bool
    tokens: Ids = ()


@dataclass(slots=True)
class _Work:
    """A text in the making."""

    prompt: str
    place: int
    read: Ids  # the tokens of the prompt
    segments: list[TaggedText] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    failures: int = 0  # at this place
    drawn: int = 0
    done: bool = False
    complete: bool = False


class BacktrackingGenerator:
    """Writes with a tagged generator under a scorer; a ``GeneratorLike``, which gives "" where it abstains.

    ``scorer``: gives each segment a number, by its snippet (what stands before it as the prompt; of a line every
    character, its own blanks too), or by its readings (:func:`watched_risk`). The same (prompt, seed, place in the
    list) gives the same text whatever the batch, as far as the scorer does. ``due``: whether a tag is due after a text
    (the prompt, and what was written after it, without tags), where not each segment began with one in training: a
    line in the midst of a statement. None: the tags forced stand before each. A line that does not end within
    ``max_new_tokens`` is written anew.
    """

    def __init__(
        self,
        generator: TaggedGenerator,
        scorer: ScorerLike | TextScore,
        settings: Backtracking,
        *,
        due: Callable[[str], bool] | None = None,
    ) -> None:
        self.scorer, self.settings, self.due = scorer, settings, due
        self._probing: ProbingScorer | None = None
        if isinstance(scorer, ScorerLike):
            self._probing = ProbingScorer(scorer.scores, least=-math.inf, most=math.inf)
        self.generator = generator.with_sampling(stop=_STOPS[settings.unit])
        labels = {
            tag for rule in generator.model.scheme.rules if isinstance(rule, Labelled) for tag in rule.tags
        }
        force = tuple(tag for tag in generator.policy.force if tag not in labels)
        # a document's tag stands once
        self.going_on = self.generator.with_policy(replace(generator.policy, force=force))
        self.within = self.generator.with_policy(replace(generator.policy, force=()))

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """One text per prompt; see ``GeneratorLike``."""
        return [each.text or "" for each in self.write(prompts, seed=seed)]

    def forget(self) -> None:
        """As :meth:`TaggedGenerator.forget`."""
        for generator in (self.generator, self.going_on, self.within):
            generator.forget()

    def write(self, prompts: Sequence[str | Ids], *, seed: int) -> list[BacktrackedText]:
        """As :meth:`sample`, with the scores, what it took, and whether the text came to its end.

        A prompt may be tokens already; the scorer is shown them as text, without tags. Raises ScoringError for a scorer
        that is broken; what it cannot score alone is written anew.
        """
        works = [self._begun(place, prompt) for place, prompt in enumerate(prompts)]
        turn = 0
        while open_ := [work for work in works if not work.done]:
            entropy = np.random.SeedSequence([seed, turn]).generate_state(1, np.uint64)[0]
            drawn = self._drawn(open_, int(entropy) >> 1)
            scores = self._scores(open_, drawn)
            for work, text, score in zip(open_, drawn, scores.tolist(), strict=True):
                self._judge(work, text, score)
            turn += 1
        return [self._result(work) for work in works]

    def _begun(self, place: int, prompt: str | Ids) -> _Work:
        if isinstance(prompt, str):
            return _Work(prompt, place, self.generator.sampler.read_prompt(prompt))
        return _Work(speller(self.generator.tokenizer)(list(prompt)), place, prompt)

    def _drawn(self, works: Sequence[_Work], seed: int) -> list[TaggedText]:
        """The next segment of each."""
        found: dict[int, TaggedText] = {}
        chosen = [self._generator(work) for work in works]
        for generator in (self.generator, self.going_on, self.within):
            group = [work for work, own in zip(works, chosen, strict=True) if own is generator]
            texts = generator.write(
                [self._tokens(work) for work in group],
                seed=seed,
                watch=not isinstance(self.scorer, ScorerLike),
                streams=[work.place for work in group],
            )
            found |= {work.place: text for work, text in zip(group, texts, strict=True)}
        return [found[work.place] for work in works]

    def _generator(self, work: _Work) -> TaggedGenerator:
        if not work.segments:
            return self.generator
        due = self.due is None or self.due(work.prompt + self._spelled(work))
        return self.going_on if due else self.within

    def _tokens(self, work: _Work) -> Ids:
        """All that stands before the next segment, tags and blanks among it."""
        return (
            *work.read,
            *(token for text in work.segments for token in (*text.forced, *self._read_on(text))),
        )

    def _read_on(self, text: TaggedText) -> Ids:
        """A segment as it is read on: what was scored and nothing beyond it."""
        if text.kept is not None:
            return text.kept
        ids = self.generator.tokenizer(
            _blanks(text) + text.text, add_special_tokens=False, split_special_tokens=True
        )
        return tuple(ids["input_ids"])

    def _snippet(self, work: _Work, drawn: TaggedText) -> Snippet:
        """A segment after all before it, without tags: what a classifier reads. A line's blanks mean something."""
        written = self._spelled(work)
        if self.settings.unit == "line":  # blanks at its end, too, are read on
            line = drawn.spell(list(self._read_on(drawn))).rstrip("\r\n").lstrip()
            return Snippet(work.prompt + written + _blanks(drawn), line)
        before = work.prompt if not written.strip() else (work.prompt.rstrip() + written).strip()
        return Snippet(before, drawn.text)

    def _spelled(self, work: _Work) -> str:
        spell = work.segments[0].spell if work.segments else speller(self.generator.tokenizer)
        before = spell(list(work.read))
        return spell(list(self._tokens(work)))[len(before) :]

    def _scores(self, works: Sequence[_Work], drawn: Sequence[TaggedText]) -> NDArray[np.float64]:
        """NaN for an empty segment, and for what the scorer could not score."""
        out = np.full(len(drawn), np.nan)
        filled = [i for i, text in enumerate(drawn) if text.text.strip()]
        if not filled:
            return out
        if self._probing is not None:
            snippets = [self._snippet(works[i], drawn[i]) for i in filled]
            out[filled] = self._probing.scores(snippets)
        elif not isinstance(self.scorer, ScorerLike):
            found = np.array([self.scorer(drawn[i]) for i in filled], dtype=np.float64)
            out[filled] = np.where(np.isfinite(found), found, np.nan)
        return out

    def _judge(self, work: _Work, drawn: TaggedText, score: float) -> None:
        """Keep a segment that passed, or throw it away and see what is left to try."""
        work.drawn += 1
        if not drawn.text.strip() and work.segments and drawn.ended:
            work.done = work.complete = True
        elif score <= self.settings.limit and self._is_whole(drawn):  # NaN is not
            work.segments.append(drawn)
            work.scores.append(score)
            work.failures = 0
            work.done = work.complete = drawn.ended or len(work.segments) == self.settings.segments
        else:
            work.failures += 1
            if work.failures >= self.settings.tries:
                work.failures = 0
                del work.segments[-1:], work.scores[-1:]
        work.done = work.done or work.drawn == self.settings.budget

    def _is_whole(self, drawn: TaggedText) -> bool:
        """Whether a line came to its end: what comes after half of one would be joined to it."""
        if self.settings.unit != "line" or drawn.ended:
            return True
        return drawn.spell(list(self._read_on(drawn))).endswith(("\n", "\r"))

    def _result(self, work: _Work) -> BacktrackedText:
        if not work.complete and (self.settings.abstain or not work.segments):
            return BacktrackedText(None, (), (), work.drawn, False)
        segments = tuple(text.text for text in work.segments)
        tokens = self._tokens(work)[len(work.read) :]
        return BacktrackedText(
            self._spelled(work).strip(), segments, tuple(work.scores), work.drawn, work.complete, tokens
        )


def _blanks(drawn: TaggedText) -> str:
    """What a segment begins with."""
    whole = drawn.spell(list(drawn.tokens))
    return whole[: len(whole) - len(whole.lstrip())]


def watched_risk(bad: Sequence[str]) -> TextScore:
    """The model's own doubt as a scorer: the highest P(a tag of ``bad`` comes next) from the segment's first token on.

    What was read before the segment does not count: writing it anew would not change it. Raises ConfigError for no tag,
    and, when it scores, for one that the model has not.
    """
    if isinstance(bad, str) or not bad:
        raise ConfigError(sentence("bad", "must be a list of tags, one at least", repr(bad)))

    def score(drawn: TaggedText) -> float:
        unknown = [tag for tag in bad if tag not in drawn.tags]
        if unknown:
            raise ConfigError(
                sentence("bad", f"must hold tags of {', '.join(drawn.tags)}", ", ".join(unknown))
            )
        columns = [drawn.tags.index(tag) for tag in bad]
        if drawn.readings is None:
            return float("nan")
        read = drawn.readings[len(drawn.forced) + 1 :, columns].sum(axis=1, dtype=np.float64)
        return float(read.max()) if len(read) else float("nan")

    return score
