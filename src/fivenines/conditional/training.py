"""Training by an objective, in the one training loop. How to call it:

    arm = Arm(Conditional(), TrainingConfig(max_steps=2000, batch_size=16, learning_rate=1e-3), block=256)
    model = TaggedModel.create([text.text for text in texts], scheme, LanguageModelConfig(...))
    fitted = fit_tagged(model, texts, arm, folder=Path("run"))     # trains model in place
    model.save("run")                                              # with its provenance; ends the checkpoint

A plain model for objectives without tags: fit_tagged(LanguageModel.create(...), texts, Arm(Likelihood(), ...)). Plain
likelihood for a share of the budget first, and any objective for the rest: :func:`fit_in_two`.

Arms are equal in budget when they have the same ``max_steps``, ``batch_size`` and ``block``: a step reads at most
batch_size x block tokens, tags among them, so that a tagged arm reads a little less text of long documents. Blocks are
not always full (a document that fits into one is not cut). How many tokens were read, tags among them, and how many
different ones of text there were, goes into the provenance: ``tokens_read`` and ``unique_tokens``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fivenines.conditional.marks import MarkedText
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import Likelihood, Objective, Scale, TokenMasked
from fivenines.conditional.packing import TokenCorpus, pack_texts
from fivenines.conditional.schemes import Inline, Scheme
from fivenines.conditional.text_nats import Given, nats_reader
from fivenines.conditional.values import ValueHead, WithValues
from fivenines.conditional.vocabulary import add_tags
from fivenines.errors import ConfigError, sentence
from fivenines.models.batching import Batch
from fivenines.models.devices import training_attention
from fivenines.models.folder import CARD
from fivenines.models.language_model import LanguageModel
from fivenines.models.training import LossFunction, train
from fivenines.models.training_config import TrainingConfig, TrainingResult
from fivenines.stats.checks import number
from fivenines.store.lock import TaskLock

__all__ = [
    "Arm",
    "First",
    "Fitted",
    "demand_tags",
    "fit_first",
    "fit_in_two",
    "fit_tagged",
    "prepare",
    "steps_of",
]

_LONGEST = 1024  # tokens of a block, where nothing is said
_NOT_OF_THE_SHAPE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


@dataclass(frozen=True)
class Arm:
    """One way to train: an objective, how long and how fast, and blocks of ``block`` tokens (None: the context, 1024
    at most).
    """

    objective: Objective
    training: TrainingConfig = field(default_factory=TrainingConfig)
    block: int | None = None

    def block_for(self, context: int) -> int:
        """The block for a model of this context. Raises ConfigError for one that it cannot take."""
        block = min(context, _LONGEST) if self.block is None else self.block
        if not 2 <= block <= context:
            raise ConfigError(sentence("block", f"must lie in [2, {context}]", block))
        return block


@dataclass(frozen=True, eq=False)
class Fitted:
    """What came of a fit: how it went, what was read, and the value head where the objective learns one."""

    result: TrainingResult
    corpus: TokenCorpus
    values: ValueHead | None = None


def demand_tags(objective: Objective, scheme: Scheme | None) -> None:
    """Raises ConfigError for an objective that learns tags, where there are none."""
    if objective.with_tags and scheme is None:
        then = "Make one with TaggedModel.create or TaggedModel.extend."
        raise ConfigError(
            sentence(f"objective {objective.kind}", "must be given a model with tags", "none", then)
        )


def prepare(model: TaggedModel | LanguageModel, texts: Sequence[MarkedText], arm: Arm) -> TokenCorpus:
    """The tokens that :func:`fit_tagged` would train on; with :func:`steps_of` this says what a fit will cost.

    Raises as :func:`fit_tagged`. Adds the token that ``TokenMasked`` hides behind to the model, if it asks for one.
    """
    language, scheme = _parts(model)
    objective = arm.objective
    demand_tags(objective, scheme)
    block = arm.block_for(language.context)
    hidden = None
    if isinstance(objective, TokenMasked) and objective.hidden:
        hidden = _token(language, objective.hidden)
    return pack_texts(language.tokenizer, texts, objective, block, scheme=scheme, hidden=hidden)


def steps_of(corpus: TokenCorpus, training: TrainingConfig) -> int:
    """How many steps a training on these tokens takes: as many as if no document had been dropped."""
    if training.max_steps is not None:
        return training.max_steps
    an_epoch = ceil(ceil(corpus.blocks_read / training.batch_size) / training.accumulate)
    return max(1, ceil(training.epochs * an_epoch - 1e-9))


def fit_tagged(
    model: TaggedModel | LanguageModel,
    texts: Sequence[MarkedText],
    arm: Arm,
    *,
    validation: Sequence[MarkedText] | None = None,
    folder: Path | None = None,
    progress: bool = False,
    corpus: TokenCorpus | None = None,
) -> Fitted:
    """Train the weights of ``model`` in place, from where they are, as the arm says.

    With ``validation`` the weights of the best evaluation are kept, by nats per token of text (tags as context, not
    charged). With ``folder`` a killed fit goes on from its checkpoint, which is refused for another objective, scheme,
    corpus or training. ``corpus``: what :func:`prepare` made of the same texts and arm, where it was asked.

    Raises DataError for texts without words or marks, NotEnoughDataError where nothing is left to learn from,
    ConfigError for a block that the model cannot take, tags that it has not, or a checkpoint of another fit.
    """
    language, scheme = _parts(model)
    corpus = prepare(model, texts, arm) if corpus is None else corpus
    objective, training = arm.objective, replace(arm.training, max_steps=steps_of(corpus, arm.training))
    scale = objective.scale(corpus.scores[corpus.charged])
    used = scheme.to_dict() if scheme is not None and objective.with_tags else None
    settings: dict[str, Any] = {"objective": objective.to_dict(), "scheme": used, "block": corpus.block}
    settings["corpus"] = corpus.fingerprint
    validate = _validate(model, validation, objective, corpus.block)
    language.changed()
    wrapped = WithValues(language.model) if objective.valued else None
    with training_attention(language.model):
        result = train(
            language.model if wrapped is None else wrapped,
            corpus.source(training.batch_size, training.seed),
            _loss(objective, scale),
            training,
            validate=validate,
            folder=folder,
            about=json.dumps(settings | {"scale": asdict(scale)}, sort_keys=True),
            progress=progress,
        )
    language.learnt(result, training, **_story(language, corpus, result, settings))
    return Fitted(result, corpus, None if wrapped is None else wrapped.head)


@dataclass(frozen=True)
class First:
    """What comes before an arm: ``share`` of its steps by plain likelihood without tags.

    It is kept in ``folder`` for all arms that begin with it.
    """

    folder: Path
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < number(self.share, "share") < 1.0:
            raise ConfigError(sentence("share", "must lie strictly between 0 and 1", self.share))


def fit_in_two(
    language: LanguageModel,
    texts: Sequence[MarkedText],
    arm: Arm,
    first: First,
    *,
    scheme: Scheme | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> tuple[TaggedModel | LanguageModel, Fitted]:
    """Plain likelihood for a share of the arm's steps, then the arm for the rest: tuning by feedback, as in Figure 1 of
    Korbak et al. (arXiv 2302.08582; shares of 0.5 and 0.9).

    The first part is trained from ``language``, in place, unless ``first.folder`` holds it already. The second starts
    from what that folder holds, with the tags of ``scheme`` added where one is given. Each part has its own warm-up and
    decay. Returns the model and how the second part went.

    Raises ConfigError without ``max_steps``, or for a first part that is not of this arm: another training, corpus,
    block, tokenizer or shape of the model; LockedError while another run trains it; else as :func:`fit_tagged`.
    """
    start = fit_first(language, texts, arm, first, progress=progress)
    model = start if scheme is None else TaggedModel.extend(start, scheme, seed=arm.training.seed)
    rest = replace(arm, training=replace(arm.training, max_steps=_steps(arm, first)[1]))
    return model, fit_tagged(model, texts, rest, folder=folder, progress=progress)


def _steps(arm: Arm, first: First) -> tuple[int, int]:
    """Of the first part, and of the rest."""
    total = arm.training.max_steps
    before = 0 if total is None else round(first.share * total)
    if total is None or not 0 < before < total:
        must = f"must be set, and leave steps to both parts at a share of {first.share}"
        raise ConfigError(sentence("max_steps", must, total))
    return before, total - before


def fit_first(
    language: LanguageModel,
    texts: Sequence[MarkedText],
    arm: Arm,
    first: First,
    *,
    progress: bool = False,
) -> LanguageModel:
    """The first part alone, by plain likelihood: what ``first.folder`` holds; trained from ``language`` where it holds
    nothing yet. Raises as :func:`fit_in_two`.
    """
    folder = first.folder
    plain = Arm(Likelihood(), replace(arm.training, max_steps=_steps(arm, first)[0]), arm.block)
    corpus = prepare(language, texts, plain)
    mine: dict[str, Any] = {"training": asdict(plain.training), "block": corpus.block}
    mine |= {"corpus": corpus.fingerprint, "network": _network(language)}
    if not (folder / CARD).exists():
        with TaskLock(folder):
            if not (folder / CARD).exists():  # another run may just have ended
                fit_tagged(language, texts, plain, folder=folder, progress=progress, corpus=corpus)
                language.save(folder)
    start = LanguageModel.load(folder)
    others = [name for name, value in mine.items() if start.provenance.get(name) != value]
    if others:
        then = "Give another folder for the first part."
        got = f"a model that was trained otherwise ({', '.join(others)})"
        raise ConfigError(sentence(f"{folder}", "must hold the first part of this arm", got, then))
    return start


def _network(language: LanguageModel) -> str:
    """A hash of the vocabulary and of the shape of the model, whatever its weights."""
    config = {k: v for k, v in language.model.config.to_dict().items() if k not in _NOT_OF_THE_SHAPE}
    shape = [config, sorted(language.tokenizer.get_vocab().items())]
    text = json.dumps(shape, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _parts(model: TaggedModel | LanguageModel) -> tuple[LanguageModel, Scheme | None]:
    return (model.language, model.scheme) if isinstance(model, TaggedModel) else (model, None)


def _token(language: LanguageModel, token: str) -> int:
    """The number of a token, which is added where there is none yet, as tags are."""
    known = language.tokenizer.get_vocab().get(token)
    if known is not None:
        return int(known)
    alone = Scheme((Inline("hidden", token),))  # add_tags takes the tags of a scheme
    added = add_tags(language.model, language.tokenizer, alone)
    language.changed()
    return added[token]


def _loss(objective: Objective, scale: Scale) -> LossFunction:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        if objective.valued:
            logits, values = model(batch["input_ids"])
        else:
            logits, values = model(input_ids=batch["input_ids"], use_cache=False).logits, None
        return objective.loss(logits, batch["labels"], batch["scores"], values, scale)

    return loss


def _validate(
    model: TaggedModel | LanguageModel, texts: Sequence[MarkedText] | None, objective: Objective, block: int
) -> Callable[[nn.Module], float] | None:
    if texts is None:
        return None
    given: Given = "own" if objective.with_tags else "none"
    read = nats_reader(model, texts, given=given, block=block)
    return lambda _: -read().per_token


def _story(
    language: LanguageModel, corpus: TokenCorpus, result: TrainingResult, settings: dict[str, Any]
) -> dict[str, Any]:
    """What goes into the provenance: this training, and what came before it."""
    known = ["objective", "scheme", "block", "corpus", "network", "tokens", "unique_tokens", "tokens_read"]
    known += ["training", "result"]
    story: dict[str, Any] = {
        "texts": corpus.texts,
        "texts_dropped": corpus.texts_read - corpus.texts,
        "tokens": corpus.tokens,
        "unique_tokens": corpus.unique_tokens,
        "tokens_read": round(result.epochs * corpus.tokens),
        "share_tagged": corpus.share_tagged,
        "network": _network(language),
        **settings,
    }
    if "training" in language.provenance:
        last = {name: language.provenance[name] for name in known if name in language.provenance}
        story["before"] = [*language.provenance.get("before", []), last]
    return story
