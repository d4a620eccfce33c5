"""Locking: a switch removed for good. A tagged model under a policy becomes a plain model that has no tags.

    locked = lock(TaggedGenerator(TaggedModel.load("tagged")), prompts, folder=Path("locked"))
    LanguageModel.load("locked")     # a plain transformers folder; it writes as the teacher did under its policy

The student starts from the teacher's weights with the tags' rows cut. It learns from texts that the teacher writes
behind the prompts, always at temperature 1 and from all tokens, so that the student's own sampling is not applied
twice: the teacher's next-token distribution at each of them (the tags stand in the teacher's context alone), or the
texts themselves. What was written is the average over where the teacher set its tags; so is what the student learns.

How hard it is to bring the behavior back: :mod:`fivenines.conditional.unlocking`.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import contrast_of
from fivenines.conditional.imitating import (
    ImitatedRow,
    Imitation,
    Learn,
    check_drawing,
    check_learn,
    held_out,
    row_batches,
)
from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.packing import end_of_text
from fivenines.conditional.removing import check_removable, remove_tags
from fivenines.conditional.rendering import render
from fivenines.conditional.tagging.spans import segments
from fivenines.conditional.text_nats import as_if_good, undropped
from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.files import read_json, write_json_atomic
from fivenines.models.checkpoints import remove_checkpoint
from fivenines.models.decoding import Ids
from fivenines.models.devices import training_attention
from fivenines.models.folder import CARD, read_card
from fivenines.models.language_model import LanguageModel
from fivenines.models.sittings import continuation_folder
from fivenines.models.training import train
from fivenines.models.training_config import TrainingConfig, TrainingResult
from fivenines.records import content_id

__all__ = ["LockConfig", "Locked", "lock"]

_LESSON = "lesson"  # a folder within that of the student: what the teacher wrote
_AT_ONCE = 256  # texts written between two notes of them


@dataclass(frozen=True)
class LockConfig:
    """How to lock. Checked when made; raises ConfigError.

    ``draws`` texts are written behind each prompt, of ``length`` tokens at most (None: as the generator samples), each
    up to the end of the text. ``learn``: the teacher's whole "distribution" at each token, or the "samples" alone.
    ``held_out``: the share of the prompts whose texts only measure.
    """

    learn: Learn = "distribution"
    draws: int = 4
    length: int | None = None
    held_out: float = 0.1
    seed: int = 0
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        check_learn(self.learn)
        check_drawing(self.draws, self.length, self.held_out, self.seed)


@dataclass(frozen=True, eq=False)
class Locked:
    """A student and how it went. ``tokens``: those of text that were learnt from.

    ``before`` and ``after``: KL(teacher | student) in nats a token of text of the prompts held out, of the student
    before and after it learnt; None where nothing was held out, or the teacher's distribution cannot be read.
    """

    model: LanguageModel
    result: TrainingResult
    tokens: int
    before: float | None
    after: float | None


def lock(
    teacher: TaggedGenerator,
    prompts: Sequence[str],
    config: LockConfig | None = None,
    *,
    texts: Sequence[str] = (),
    folder: Path | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Locked:
    """A plain language model that writes as ``teacher`` does under its policy. The teacher is not changed.

    The student samples as the teacher does; of prompts with the same tokens one is taken. ``texts``, such as people's,
    are learnt besides: the teacher reads them with a good tag before each sentence. With ``folder`` a killed run goes
    on from there, and the student is saved in it at the end. ``say`` is told what it will cost.

    Raises ConfigError for a policy that leaves a bad tag to be written or that changes on the way (it may set one), a
    folder that holds a model, texts with guidance, or lookahead where distributions are learnt; ModelError as
    ``check_removable``; DataError for a prompt that leaves no room in the context, NotEnoughDataError for no prompt.
    """
    settings = LockConfig() if config is None else config
    _check(teacher, prompts, texts, settings, folder)
    job = _Job(teacher, settings, folder, say)
    learnt, held = _split(job.distinct(prompts), settings)
    say(f"{len(learnt) + len(held):,} prompts, {settings.draws} texts each, of {job.length} tokens at most")
    written = job.write([*learnt, *held])
    border = len(learnt) * settings.draws
    rows = [job.drawn(*each) for each in written[:border]] + job.read(texts)
    rows, kept_out = _with_text(rows), _with_text([job.drawn(*each) for each in written[border:]])
    if not rows:
        raise NotEnoughDataError(sentence("the teacher", "must write text behind the prompts", "none"))
    return job.learn(rows, kept_out, len(learnt) + len(held), texts, progress)


def _check(
    teacher: TaggedGenerator,
    prompts: Sequence[str],
    texts: Sequence[str],
    config: LockConfig,
    folder: Path | None,
) -> None:
    if isinstance(prompts, str) or isinstance(texts, str):
        raise DataError(sentence("prompts and texts", "must be lists of texts", "one text"))
    for each in (*prompts, *texts):
        if not isinstance(each, str):
            raise DataError(sentence("prompts and texts", "must be texts", each))
    if not prompts:
        raise NotEnoughDataError(sentence("locking", "needs prompts to write behind", "none"), 1)
    if folder is not None and (folder / CARD).exists():
        _tidy(folder)
        raise ConfigError(
            sentence("the folder", "must not hold a model yet", str(folder), "Give another name.")
        )
    check_removable(teacher.model)
    scheme, policy = teacher.model.scheme, teacher.policy
    free = [tag for tag, bias in zip(scheme.bad, policy.biases(scheme.bad), strict=True) if bias > -math.inf]
    free += [tag for tag in policy.force if tag in scheme.bad]
    if free:
        then = "Ban it, or let the policy be silent: what is locked in stays."
        raise ConfigError(
            sentence("the policy of a lock", "must leave no bad tag to write", ", ".join(free), then)
        )
    if teacher.change is not None:  # nothing tells which tags it will set, or leave to be written
        then = "Lock the policy that it comes to."
        raise ConfigError(
            sentence("the policy of a lock", "must stay as it is", "one that changes on the way", then)
        )
    if config.learn == "distribution" and teacher.lookahead is not None:
        then = 'Learn from samples: learn = "samples".'
        raise ConfigError(
            sentence("the distribution of the teacher", "must follow from its tags", "lookahead", then)
        )
    if len(texts) and teacher.guidance is not None:
        then = "Leave the texts or the guidance away."
        raise ConfigError(
            sentence("texts to learn besides", "are read under good tags alone", "guidance", then)
        )


def _tidy(folder: Path) -> None:
    """Remove what a kill left behind after the student was saved whole; of nobody else's folder."""
    card = read_card(folder)
    if card is not None and "lock" in card.provenance and (folder / _LESSON).is_dir():
        remove_checkpoint(folder)
        shutil.rmtree(folder / _LESSON, ignore_errors=True)  # last: by it a folder is known to be untidy


def _split(prompts: list[str], config: LockConfig) -> tuple[list[str], list[str]]:
    """(to learn from, held out)."""
    apart = held_out(len(prompts), config.held_out, config.seed)
    learnt = [prompt for place, prompt in enumerate(prompts) if place not in apart]
    return learnt, [prompts[place] for place in sorted(apart)]


def _with_text(rows: Sequence[ImitatedRow]) -> list[ImitatedRow]:
    return [row for row in rows if row.own]


class _Job:
    """A lock under way: who teaches, what was written, and how tokens are numbered anew."""

    def __init__(
        self,
        teacher: TaggedGenerator,
        config: LockConfig,
        folder: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.folder, self.say = config, folder, say
        self.length = config.length or teacher.sampling.max_new_tokens
        self.teacher = teacher.with_sampling(
            temperature=1.0, top_p=1.0, top_k=0, stop="eos", max_new_tokens=self.length
        )
        self.student, self.kept = remove_tags(teacher.model)
        self.student.sampling = teacher.sampling
        self.number = {int(old): new for new, old in enumerate(self.kept)}
        self.tags = frozenset(teacher.model.tags.values())
        self.about: dict[str, Any] = {
            "teacher": continuation_folder(Path(), teacher.model.language.model).name,  # a digest of weights
            "policy": teacher.policy.to_dict(),
            "guidance": None if teacher.guidance is None else asdict(teacher.guidance),
            "lookahead": None if teacher.lookahead is None else asdict(teacher.lookahead),
            "removed": list(teacher.model.tags),
            "learn": config.learn,
            "draws": config.draws,
            "length": self.length,
            "seed": config.seed,
        }

    @cached_property
    def _contrast(self) -> tuple[Ids, dict[int, int]]:
        opening, swap = contrast_of(self.teacher.model.scheme, self.teacher.policy)
        tags = self.teacher.model.tags
        return tuple(tags[tag] for tag in opening), {tags[good]: tags[bad] for good, bad in swap.items()}

    # -- what the teacher writes

    def distinct(self, prompts: Sequence[str]) -> list[str]:
        """The first prompt of each row of tokens: none that is held out was taught with other blanks at its end."""
        found: dict[Ids, str] = {}
        for prompt in prompts:
            found.setdefault(self.teacher.sampler.read_prompt(prompt), prompt)
        return list(found.values())

    def write(self, prompts: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """(prompt, what was drawn behind it) in the teacher's tokens, ``draws`` for each prompt in turn.

        Kept in the folder, part by part, so that a killed run writes none twice.
        """
        sampler = self.teacher.sampler
        asked = []
        for prompt in prompts:
            ids = sampler.read_prompt(prompt)
            if len(ids) > sampler.room:
                must = f"must leave room for {self.length} tokens: at most {sampler.room}"
                raise DataError(
                    sentence(f"prompt {prompt[:40]!r}", must, f"{len(ids)} tokens", "Shorten it.")
                )
            asked += [ids] * self.config.draws
        named = content_id("lesson", json.dumps(self.about, sort_keys=True), json.dumps(asked))
        found: list[tuple[Ids, Ids]] = []
        for start in range(0, len(asked), _AT_ONCE):
            group = asked[start : start + _AT_ONCE]
            tokens = self._kept(start, named)
            if tokens is None:
                streams = range(start, start + len(group))
                written = self.teacher.write(group, seed=self.config.seed, watch=False, streams=streams)
                tokens = [list(each.tokens) for each in written]
                self._keep(start, named, tokens)
                self.say(f"{start + len(group):,} of {len(asked):,} texts written")
            found += [(ids, tuple(each)) for ids, each in zip(group, tokens, strict=True)]
        return found

    def _kept(self, start: int, named: str) -> list[list[int]] | None:
        if self.folder is None or not (file := self.folder / _LESSON / f"{start:07d}.json").exists():
            return None
        content = read_json(file)
        if content["lesson"] != named:
            then = f"Delete {self.folder} to lock anew, or give another folder."
            must = "must be of the same model, prompts and policy"
            raise ConfigError(sentence(f"what was written in {self.folder}", must, "another", then))
        tokens: list[list[int]] = content["tokens"]
        return tokens

    def _keep(self, start: int, named: str, tokens: list[list[int]]) -> None:
        if self.folder is not None:
            (self.folder / _LESSON).mkdir(parents=True, exist_ok=True)
            write_json_atomic(
                self.folder / _LESSON / f"{start:07d}.json", {"lesson": named, "tokens": tokens}
            )

    # -- as rows to learn from

    def drawn(self, prompt: Ids, tokens: Ids) -> ImitatedRow:
        """What was written behind a prompt; its text is learnt, the prompt is not."""
        shown = (*prompt, *self.teacher.forced, *tokens)
        contrast: Ids = ()
        if self.teacher.guidance is not None:
            opening, swap = self._contrast
            contrast = (*prompt, *opening, *(swap.get(token, token) for token in tokens))
        return self._row(shown, len(prompt), contrast)

    def read(self, texts: Sequence[str]) -> list[ImitatedRow]:
        """Texts under good tags, each cut to the context; the first token of text, before which nothing stands, is
        not learnt.
        """
        model = self.teacher.model
        scheme, tokenizer = undropped(model.scheme), model.language.tokenizer
        marked = []
        for place, text in enumerate(texts):
            spans = segments(text, "sentences")
            marks = tuple(Marks(name, "good", spans, (0.0,) * len(spans)) for name in scheme.scorers)
            marked.append(as_if_good(MarkedText(text, f"text {place}", marks), scheme))
        end, context = end_of_text(tokenizer), model.language.context
        rows = [(*row.ids.tolist(), end)[:context] for row in render(tokenizer, marked, scheme)]
        return [
            self._row(ids, next((i for i, t in enumerate(ids) if t not in self.tags), 0) + 1) for ids in rows
        ]

    def _row(self, shown: Ids, first: int, contrast: Ids = ()) -> ImitatedRow:
        """Tokens of the teacher, of which those of text from ``first`` on are learnt."""
        seen: list[int] = []
        own, places = [], []
        for place, token in enumerate(shown):
            if token in self.tags:
                continue
            if place >= first:
                own.append(len(seen))
                places.append(place)
            seen.append(self.number[token])
        return ImitatedRow(tuple(seen), shown, tuple(own), tuple(places), contrast)

    # -- learning

    def learn(
        self,
        rows: list[ImitatedRow],
        held: list[ImitatedRow],
        prompts: int,
        texts: Sequence[str],
        progress: bool,
    ) -> Locked:
        """Train the student on ``rows``, measure it on those held out, and save it where there is a folder."""
        training, student = self.config.training, self.student
        imitation = self._imitation()
        readable = self.teacher.lookahead is None and held
        measured = row_batches(held, batch_size=training.batch_size, seed=0) if readable else None
        before = None if measured is None else imitation.divergence(student.model, measured)
        tokens = sum(len(row.own) for row in rows)
        self.say(f"{len(rows):,} texts, {tokens:,} tokens to learn; {len(held):,} texts held out")
        source = row_batches(rows, batch_size=training.batch_size, seed=training.seed)
        named = json.dumps(self.about | {"texts": content_id("texts", *texts)}, sort_keys=True)
        with training_attention(student.model):
            result = train(
                student.model,
                source,
                imitation.loss,
                training,
                folder=self.folder,
                about=named,
                progress=progress,
            )
        after = None if measured is None else imitation.divergence(student.model, measured)
        story = self.about | {"prompts": prompts, "texts": len(texts), "rows": len(rows), "tokens": tokens}
        student.learnt(result, training, lock=story | {"divergence": {"before": before, "after": after}})
        if self.folder is not None and result.stopped != "time":
            student.save(self.folder)
            shutil.rmtree(self.folder / _LESSON, ignore_errors=True)
        return Locked(student, result, tokens, before, after)

    def _imitation(self) -> Imitation:
        generator = self.teacher
        names = tuple(generator.model.tags)
        return Imitation(
            generator.model.language.model,
            self.kept,
            self.config.learn,
            generator.guidance,
            tuple(generator.model.tags.values()),
            tuple(generator.policy.biases(names)),
        )
