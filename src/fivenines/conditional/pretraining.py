"""A language model from a marked corpus: texts in, a model folder out, by any objective."""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from fivenines.conditional.marks import MarkedText
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import Likelihood, Objective
from fivenines.conditional.packing import TokenCorpus, scorer_of
from fivenines.conditional.schemes import Scheme
from fivenines.conditional.text_nats import Given, WordNats, nats_reader, with_spans
from fivenines.conditional.training import (
    Arm,
    First,
    Fitted,
    demand_tags,
    fit_in_two,
    fit_tagged,
    prepare,
    steps_of,
)
from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.files import read_json, write_json_atomic
from fivenines.models.checkpoints import CHECKPOINT
from fivenines.models.folder import CARD, read_card
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.store.lock import TaskLock

__all__ = ["PretrainSettings", "Pretrained", "cost", "hold_out", "pretrain", "read_scheme"]

_START = (
    "start"  # the model before the first step, while it trains: a killed run goes on with the same tokens
)
_BEGUN = "start.json"  # what it was made of
_MOST_HELD = 500_000  # characters of what is held out that are measured


@dataclass(frozen=True)
class PretrainSettings:
    """What to train and from what. ``model``: the shape of a new one, or a folder or hub name to go on from.

    ``scheme``: its tags are added where the objective learns tags and the model has none yet; otherwise it says whose
    scores count. ``first``: plain likelihood for a share of the steps before. ``tokens``: a budget in place of the
    arm's epochs or ``max_steps``, in steps of batch_size x block tokens. Raises ConfigError for two budgets.
    """

    arm: Arm
    scheme: Scheme | None = None
    model: LanguageModelConfig | str | Path = field(default_factory=LanguageModelConfig)
    first: First | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.tokens is None:
            return
        if self.tokens < 1:
            raise ConfigError(sentence("tokens", "must be None or at least 1", self.tokens))
        if self.arm.training.max_steps is not None:
            then = "Give one of them."
            raise ConfigError(sentence("the budget", "must be given once", "steps and tokens", then))

    def arm_for(self, context: int) -> Arm:
        """The arm with its budget in steps and its scorer, for a model of this context."""
        arm = replace(self.arm, objective=_with_scorer(self.arm.objective, self.scheme))
        if self.tokens is None:
            return arm
        a_step = arm.training.batch_size * arm.training.accumulate * arm.block_for(context)
        return replace(arm, training=replace(arm.training, max_steps=max(1, round(self.tokens / a_step))))


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What came of it. ``held_out``: nats of texts that were not learnt from, by what they were given."""

    model: TaggedModel | LanguageModel
    fitted: Fitted
    held_out: dict[Given, WordNats]


def read_scheme(path: str | Path) -> Scheme:
    """The scheme of a TOML or JSON file: ``[[rules]]`` tables with a ``kind`` each, see ``Scheme.from_dict``.

    Raises DataError for what cannot be read, ConfigError for what is no scheme.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        row = read_json(path)
    else:
        try:
            row = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(sentence(str(path), "must be a readable TOML file", str(error))) from error
    if not isinstance(row, dict):
        raise ConfigError(sentence(str(path), "must hold a scheme", row))
    return Scheme.from_dict(row)


def hold_out(
    texts: Sequence[MarkedText], share: float, seed: int
) -> tuple[list[MarkedText], list[MarkedText]]:
    """(to learn from, held out): ``share`` of the documents, drawn by ``seed``; of two or more, one at least."""
    count = 0 if len(texts) < 2 or share == 0 else max(1, round(share * len(texts)))
    chosen = set(np.random.default_rng(seed).permutation(len(texts))[:count].tolist())
    return [text for i, text in enumerate(texts) if i not in chosen], [texts[i] for i in sorted(chosen)]


def pretrain(
    texts: Sequence[MarkedText],
    folder: Path,
    settings: PretrainSettings,
    *,
    held_out: Sequence[MarkedText] = (),
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Pretrained:
    """Train on ``texts`` and save into ``folder``; a run that was stopped goes on when it is called again.

    ``say`` is told what it will cost before it starts. Some of ``held_out`` is measured afterwards, without marks as
    sentences.

    Raises ConfigError for a folder that holds a model already, a scheme that the model does not know, or settings or
    texts of another run; NotEnoughDataError for no text; LockedError while another run trains there; else as
    :func:`~fivenines.conditional.training.fit_tagged`.
    """
    if folder.is_file():
        raise ConfigError(sentence("the folder of the model", "must not be a file", str(folder)))
    _demand_no_model(folder)
    if not texts:
        raise NotEnoughDataError(sentence("training", "needs texts", "none", "Name files with text."))
    _check(texts, settings)
    with TaskLock(folder):
        _demand_no_model(folder)  # another run may just have ended
        start = _start(texts, folder, settings)
        model, fitted, read = _fit(start, texts, folder, settings, held_out, progress, say)
        model.save(folder)
        shutil.rmtree(folder / _START, ignore_errors=True)
        (folder / _BEGUN).unlink(missing_ok=True)
    return Pretrained(model, fitted, {given: reader() for given, reader in read.items()})


def _fit(
    start: TaggedModel | LanguageModel,
    texts: Sequence[MarkedText],
    folder: Path,
    settings: PretrainSettings,
    held_out: Sequence[MarkedText],
    progress: bool,
    say: Callable[[str], None],
) -> tuple[TaggedModel | LanguageModel, Fitted, dict[Given, Callable[[], WordNats]]]:
    arm = settings.arm_for((start.language if isinstance(start, TaggedModel) else start).context)
    scheme = settings.scheme if arm.objective.with_tags else None
    if settings.first is None:
        model = _tagged(start, scheme, arm.training.seed)
        corpus = _told(model, texts, arm, say)
        read = _readers(model, held_out, arm)  # before the training: what cannot be read is said now
        fitted = fit_tagged(model, texts, arm, folder=folder, progress=progress, corpus=corpus)
    else:
        _readers(_untagged(start), held_out, arm)
        plain = _untagged(start)
        steps = steps_of(_told(plain, texts, replace(arm, objective=Likelihood()), say), arm.training)
        arm = replace(arm, training=replace(arm.training, max_steps=steps))
        say(f"First {settings.first.share:.0%} of the steps by plain likelihood, in {settings.first.folder}")
        model, fitted = fit_in_two(
            plain, texts, arm, settings.first, scheme=scheme, folder=folder, progress=progress
        )
        read = _readers(model, held_out, arm)
    return model, fitted, read


def cost(model: TaggedModel | LanguageModel, corpus: TokenCorpus, arm: Arm) -> list[str]:
    """What a training will take, in words; floating-point operations as 6 x parameters x tokens."""
    language = model.language if isinstance(model, TaggedModel) else model
    steps, batch = steps_of(corpus, arm.training), arm.training.batch_size
    batches = steps * arm.training.accumulate
    epochs = batches / ceil(len(corpus.starts) / batch)
    read = round(epochs * corpus.tokens)
    size = sum(parameter.numel() for parameter in language.model.parameters())
    dropped = corpus.texts_read - corpus.texts
    return [
        f"{corpus.texts:,} texts{f' ({dropped:,} dropped)' if dropped else ''}, {corpus.tokens:,} tokens, of which "
        f"{corpus.unique_tokens:,} of text are charged and {int(corpus.is_tag.sum()):,} are tags",
        f"{steps:,} steps, {epochs:.2f} epochs: about {read:,} tokens of at most {batches * batch * corpus.block:,}",
        f"{size / 1e6:.1f} million parameters, about {6 * size * read:.1e} operations",
    ]


def _told(
    model: TaggedModel | LanguageModel,
    texts: Sequence[MarkedText],
    arm: Arm,
    say: Callable[[str], None],
) -> TokenCorpus:
    corpus = prepare(model, texts, arm)
    for line in cost(model, corpus, arm):
        say(line)
    return corpus


def _with_scorer(objective: Objective, scheme: Scheme | None) -> Objective:
    """An objective that asks nobody by name asks the scheme's first scorer."""
    if not objective.scored or objective.reads is not None or scheme is None or not scheme.scorers:
        return objective
    return replace(objective, scorer=scheme.scorers[0])  # type: ignore[type-var]


def _demand_no_model(folder: Path) -> None:
    if (folder / CARD).exists():
        then = "Give another name."
        raise ConfigError(sentence("the folder", "must not hold a model yet", str(folder), then))


def _check(texts: Sequence[MarkedText], settings: PretrainSettings) -> None:
    """What is wrong with objective, scheme or block, before a new model is made; one that is there is asked later."""
    if not isinstance(settings.model, LanguageModelConfig):
        return
    objective, scheme = settings.arm.objective, settings.scheme
    settings.arm.block_for(settings.model.context)
    demand_tags(objective, scheme)
    asked = {scorer_of(_with_scorer(objective, scheme), texts, scheme)} - {None}
    if scheme is not None and objective.with_tags:
        asked |= set(scheme.scorers)
    for text in texts:
        for scorer in asked if text.text.strip() else ():
            text.by(str(scorer))


def _start(
    texts: Sequence[MarkedText], folder: Path, settings: PretrainSettings
) -> TaggedModel | LanguageModel:
    """The model before any training of ours: that of the run which was begun in ``folder``, if it is this one."""
    kept, note, mine = folder / _START, folder / _BEGUN, _made_of(texts, settings)
    begun = read_json(note) if note.exists() else {}
    others = [name for name, value in mine.items() if begun.get(name) != value]
    if others and (folder / CHECKPOINT).exists():
        then = "Delete it to train anew, or give another folder."
        got = f"another one ({', '.join(others)})"
        raise ConfigError(sentence(f"the run that was begun in {folder}", "must be this one", got, then))
    if not isinstance(settings.model, LanguageModelConfig):
        made = _base(settings.model, settings.scheme)
    elif not others and (kept / CARD).exists():
        return LanguageModel.load(kept)
    else:
        note.unlink(missing_ok=True)
        made = LanguageModel.create([text.text for text in texts], settings.model)
        made.save(kept)
    write_json_atomic(note, mine)
    return made


def _made_of(texts: Sequence[MarkedText], settings: PretrainSettings) -> dict[str, Any]:
    """What the model before the training is made of, and what it is to read."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        content = text.text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)} ".encode() + content)
    model = settings.model
    shape = asdict(model) if isinstance(model, LanguageModelConfig) else str(model)
    return {"model": shape, "texts": digest.hexdigest()}


def _base(name: str | Path, scheme: Scheme | None) -> TaggedModel | LanguageModel:
    """A model that is there, with its tags."""
    card = read_card(name)
    if card is None or card.tags is None:
        return LanguageModel.load(name)
    model = TaggedModel.load(name)
    if scheme is not None and model.scheme.tags != scheme.tags:
        then = "Leave the scheme away, or start from a model without tags."
        must = f"must have the tags that the model has ({', '.join(model.scheme.tags)})"
        raise ConfigError(sentence("the scheme", must, ", ".join(scheme.tags), then))
    return model if scheme is None else TaggedModel(model.language, scheme)


def _tagged(
    start: TaggedModel | LanguageModel, scheme: Scheme | None, seed: int
) -> TaggedModel | LanguageModel:
    if scheme is None or isinstance(start, TaggedModel):
        return start
    return TaggedModel.extend(start, scheme, seed=seed)


def _untagged(start: TaggedModel | LanguageModel) -> LanguageModel:
    if isinstance(start, TaggedModel):
        then = "Start from a model without tags."
        raise ConfigError(sentence("what is trained in two parts", "must have no tags yet", "some", then))
    return start


def _readers(
    model: TaggedModel | LanguageModel, texts: Sequence[MarkedText], arm: Arm
) -> dict[Given, Callable[[], WordNats]]:
    """How to measure some of ``texts``, with good tags and without; of texts without marks sentences are tagged."""
    scorers = model.scheme.scorers if isinstance(model, TaggedModel) else ()
    held: list[MarkedText] = []
    room = _MOST_HELD
    for text in texts:
        if room <= 0:
            break
        held.append(with_spans(text, scorers))
        room -= len(text.text)
    if not any(text.text.strip() for text in held):
        return {}
    ways: tuple[Given, ...] = ("good", "none") if isinstance(model, TaggedModel) else ("none",)
    return {given: nats_reader(model, held, given=given, block=arm.block) for given in ways}
