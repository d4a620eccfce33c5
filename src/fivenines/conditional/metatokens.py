"""Metatokens: a tag that stands for a long prompt, learnt from what the model itself writes under that prompt.

    model = learn_metatokens(language, {"<|formal|>": "Write as a lawyer would. ..."}, contexts)
    report = compose(model, ["<|formal|>", "<|brief|>"], contexts, {"formality": scorer})

The teacher reads the prompt and a context, the student the tag and the same context; at each token that the teacher
wrote, the student's next-token distribution is drawn to the teacher's (context distillation: Askell et al., arXiv
2112.00861; into one token as with the gist tokens of Mu et al., arXiv 2304.08467). By default the tag's own row of the
embeddings learns and nothing else, so that a model without the tag in its context stays as it was, but for the
probability of the tag itself (of soft prompts: Lester et al., arXiv 2104.08691).

How far the student still is from the teacher is measured for each tag behind contexts held out from the learning.
What several tags do before one text nobody trained: :mod:`fivenines.conditional.composing` measures it; give it
other contexts than those learnt behind.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from transformers import PreTrainedModel

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.imitating import (
    ImitatedRow,
    Imitation,
    Learn,
    check_drawing,
    check_learn,
    held_out,
    row_batches,
)
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Labelled, Rule, Scheme
from fivenines.conditional.vocabulary import add_tags
from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.models.decoding import Ids
from fivenines.models.devices import training_attention
from fivenines.models.language_model import LanguageModel
from fivenines.models.sampling import SamplingConfig, output_size
from fivenines.models.training import train
from fivenines.models.training_config import TrainingConfig
from fivenines.records import content_id

__all__ = [
    "COLUMN",
    "MetatokenConfig",
    "Place",
    "learn_metatokens",
    "place_tags",
    "read_context",
    "write_behind",
]

Place = Literal["before", "behind", "both"]
COLUMN = "metatoken"  # of a document's metadata, in the rule that carries the tags


@dataclass(frozen=True)
class MetatokenConfig:
    """How to learn tags. Checked when made; raises ConfigError.

    ``draws`` completions of each context, of ``length`` tokens at most (None: as the model samples). ``place``: the tag
    stands "before" the context, as :class:`Labelled` sets it, "behind" it, where ``TagPolicy.force`` puts it, or is
    learnt for "both". ``whole``: train the whole model instead of the tags' rows. ``learn``: the distribution under
    the prompt, or the samples alone. ``held_out``: the share of the contexts that only measure; none of fewer than 10.
    """

    draws: int = 4
    length: int | None = None
    place: Place = "before"
    learn: Learn = "distribution"
    whole: bool = False
    held_out: float = 0.1
    seed: int = 0
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(learning_rate=1e-2, batch_size=16)
    )

    def __post_init__(self) -> None:
        check_learn(self.learn)
        if self.place not in get_args(Place):
            raise ConfigError(sentence("place", f"must be one of {', '.join(get_args(Place))}", self.place))
        check_drawing(self.draws, self.length, self.held_out, self.seed)


def learn_metatokens(
    model: LanguageModel | TaggedModel,
    prompts: Mapping[str, str],
    contexts: Sequence[str],
    config: MetatokenConfig | None = None,
    *,
    folder: Path | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> TaggedModel:
    """A copy of the model with a new tag for each prompt, ``prompts`` by tag; ``model`` itself is not changed.

    The tags join the model's scheme in a rule ``Labelled`` on the column "metatoken"; their prompts and how they were
    learnt go into the provenance: of each tag KL(teacher | student) in nats a token "before" and "after", "on" contexts
    held out, or on training texts where there are fewer than 10 contexts. A context may be empty. With ``folder`` a
    killed training goes on from its checkpoint; saving the model there ends it.

    Raises ModelError for a tag that the model has, ConfigError for an empty one, DataError for a blank prompt, a rule
    on that column which is no metatokens', or a prompt and context that leave no room to write, NotEnoughDataError for
    no prompt or no context.
    """
    settings = MetatokenConfig() if config is None else config
    _check(prompts, contexts)
    teacher = model.language if isinstance(model, TaggedModel) else model
    known = model.scheme if isinstance(model, TaggedModel) else None
    scheme = _joined(known, list(prompts))
    network, tokenizer = copy.deepcopy(teacher.model), copy.deepcopy(teacher.tokenizer)
    added = Scheme((Labelled(COLUMN, {tag: tag for tag in prompts}, drop=0.0),))
    tags = add_tags(network, tokenizer, added, seed=settings.seed)
    student = LanguageModel(network, tokenizer, teacher.sampling, provenance=dict(teacher.provenance))
    length = settings.length or teacher.sampling.max_new_tokens
    say(f"{len(prompts):,} tags, {len(contexts) * settings.draws:,} texts each, of {length} tokens at most")
    texts = _written(model, prompts, contexts, tags, settings)
    columns = np.full(output_size(network), -1, dtype=np.int64)
    columns[: output_size(teacher.model)] = np.arange(output_size(teacher.model))
    if isinstance(model, TaggedModel):
        columns[list(model.tags.values())] = -1  # what was written under the prompt has no tags
    columns[list(tags.values())] = -1
    imitation = Imitation(teacher.model, columns, settings.learn)
    found = TaggedModel(student, scheme)
    named = content_id("metatokens", json.dumps([prompts, settings.length, settings.seed]), *contexts)
    _train(found, imitation, texts, (prompts, list(tags.values())), settings, (folder, named, progress))
    return found


def read_context(model: LanguageModel | TaggedModel, prompt: str, context: str) -> Ids:
    """The tokens of a context behind a prompt, or alone where the prompt is empty; none where both are.

    What looks like a tag is text.
    """
    language = model.language if isinstance(model, TaggedModel) else model
    text = " ".join(part for part in (prompt.strip(), context.rstrip()) if part)
    ids = language.tokenizer(text, split_special_tokens=True)["input_ids"]
    return tuple(int(token) for token in ids)


def place_tags(
    model: LanguageModel | TaggedModel, context: Ids, tags: Ids, place: Literal["before", "behind"]
) -> Ids:
    """A context with tags before it, but after the token that starts a text where there is one, or behind it."""
    language = model.language if isinstance(model, TaggedModel) else model
    start = int(bool(context) and context[0] == language.tokenizer.bos_token_id)
    return (*context, *tags) if place == "behind" else (*context[:start], *tags, *context[start:])


def write_behind(
    model: LanguageModel | TaggedModel, before: Sequence[Ids], sampling: SamplingConfig, *, seed: int
) -> list[tuple[str, Ids]]:
    """(text, tokens drawn) behind these tokens, without a tag. Raises DataError where they leave no room."""
    known = model.language if isinstance(model, TaggedModel) else model
    language = LanguageModel(known.model, known.tokenizer, sampling)
    room = language.context - sampling.max_new_tokens
    longest = max((len(ids) for ids in before), default=0)
    if longest > room:
        must = f"must leave room for {sampling.max_new_tokens} tokens of {language.context}"
        raise DataError(sentence("a prompt with its context", must, f"{longest} tokens", "Shorten it."))
    if isinstance(model, TaggedModel):
        generator = TaggedGenerator(TaggedModel(language, model.scheme), TagPolicy(silent=True))
        return [(each.text, each.tokens) for each in generator.write(before, seed=seed, watch=False)]
    return [(each.text, each.tokens) for each in language.sampler.write(before, seed)]


def _check(prompts: Mapping[str, str], contexts: Sequence[str]) -> None:
    if isinstance(contexts, str):
        raise DataError(sentence("contexts", "must be a list of texts", "one text"))
    if not prompts:
        raise NotEnoughDataError(sentence("metatokens", "need prompts to stand for", "none"), 1)
    if not contexts:
        raise NotEnoughDataError(sentence("metatokens", "need contexts to write behind", "none"), 1)
    for tag, prompt in prompts.items():
        if not tag:
            raise ConfigError(sentence("a metatoken", "must have a name", repr(tag)))
        if not prompt.strip():
            raise DataError(sentence(f"the prompt of {tag}", "must hold words", repr(prompt)))


def _joined(scheme: Scheme | None, tags: list[str]) -> Scheme:
    """The scheme with these metatokens, and those that it had."""
    rules: list[Rule] = [] if scheme is None else list(scheme.rules)
    mine = [rule for rule in rules if isinstance(rule, Labelled) and rule.column == COLUMN]
    for rule in mine:
        if any(value != tag for value, tag in rule.values.items()):
            then = "Name its column otherwise."
            got = f"values {', '.join(rule.values)}"
            raise DataError(sentence(f"a rule on the column {COLUMN}", "must be of metatokens", got, then))
    values = [*(tag for rule in mine for tag in rule.values), *tags]
    banned = tuple(tag for rule in mine for tag in rule.banned)
    rest = [rule for rule in rules if rule not in mine]
    joined = (*rest, Labelled(COLUMN, {tag: tag for tag in values}, banned, drop=0.0))
    return Scheme(joined) if scheme is None else replace(scheme, rules=joined)


@dataclass(frozen=True)
class _Texts:
    """What to learn from, and of each tag what to measure on, ``on`` contexts held out or what is learnt."""

    learnt: list[ImitatedRow]
    measured: dict[str, list[ImitatedRow]]
    on: str


def _written(
    model: LanguageModel | TaggedModel,
    prompts: Mapping[str, str],
    contexts: Sequence[str],
    tags: Mapping[str, int],
    config: MetatokenConfig,
) -> _Texts:
    """What the model writes behind each prompt and context, as the teacher and as the student read it."""
    numbers: dict[Ids, int] = {}  # contexts that read alike are one: none is learnt and held out
    places = [numbers.setdefault(read_context(model, "", each), len(numbers)) for each in contexts]
    held = held_out(len(numbers), config.held_out, config.seed)
    kept = [context for context, place in zip(contexts, places, strict=True) if place not in held]
    apart = [context for context, place in zip(contexts, places, strict=True) if place in held]
    learnt = _rows(model, prompts, kept, tags, config)
    rows = [row for tag in prompts for row in learnt[tag]]
    if not apart:
        return _Texts(rows, learnt, "training texts")
    return _Texts(rows, _rows(model, prompts, apart, tags, config), "contexts held out")


def _rows(
    model: LanguageModel | TaggedModel,
    prompts: Mapping[str, str],
    contexts: Sequence[str],
    tags: Mapping[str, int],
    config: MetatokenConfig,
) -> dict[str, list[ImitatedRow]]:
    """Of each tag what is written behind its prompt and each context."""
    language = model.language if isinstance(model, TaggedModel) else model
    length = config.length or language.sampling.max_new_tokens
    drawing = replace(
        language.sampling, temperature=1.0, top_p=1.0, top_k=0, stop="eos", max_new_tokens=length
    )
    rows: dict[str, list[ImitatedRow]] = {tag: [] for tag in prompts}
    for place, (tag, prompt) in enumerate(prompts.items()):
        asked = [context for context in contexts for _ in range(config.draws)]
        long = {context: read_context(model, prompt, context) for context in dict.fromkeys(contexts)}
        short = {context: read_context(model, "", context) for context in dict.fromkeys(contexts)}
        seed = int(np.random.default_rng([config.seed, place]).integers(2**31))
        written = write_behind(model, [long[context] for context in asked], drawing, seed=seed)
        for context, (_, tokens) in zip(asked, written, strict=True):
            own: Ids = short[context]
            places: list[Literal["before", "behind"]] = ["before", "behind"]
            for where in places:
                if tokens and config.place in (where, "both"):
                    rows[tag].append(_row(long[context], place_tags(model, own, (tags[tag],), where), tokens))
    return rows


def _row(shown: Ids, seen: Ids, tokens: Ids) -> ImitatedRow:
    places = tuple(range(len(shown), len(shown) + len(tokens)))
    own = tuple(range(len(seen), len(seen) + len(tokens)))
    return ImitatedRow((*seen, *tokens), (*shown, *tokens), own, places)


def _train(
    model: TaggedModel,
    imitation: Imitation,
    texts: _Texts,
    what: tuple[Mapping[str, str], list[int]],
    config: MetatokenConfig,
    how: tuple[Path | None, str, bool],
) -> None:
    (prompts, tokens), (folder, named, progress) = what, how
    language = model.language
    training = config.training if config.whole else replace(config.training, weight_decay=0.0)
    source = row_batches(texts.learnt, batch_size=training.batch_size, seed=training.seed)
    measured = {
        tag: row_batches(rows, batch_size=training.batch_size, seed=0) for tag, rows in texts.measured.items()
    }
    before = {tag: imitation.divergence(language.model, each) for tag, each in measured.items()}
    names = ("learn", "place", "whole", "draws", "held_out")
    story: dict[str, Any] = {name: getattr(config, name) for name in names}
    with training_attention(language.model), _alone(language.model, None if config.whole else tokens):
        result = train(
            language.model,
            source,
            imitation.loss,
            training,
            folder=folder,
            about=json.dumps(story | {"texts": named}, sort_keys=True),
            progress=progress,
        )
    after = {tag: imitation.divergence(language.model, each) for tag, each in measured.items()}
    past = language.provenance.get("metatokens", {})
    story |= {"on": texts.on}
    told = {
        tag: story | {"prompt": prompt, "before": before[tag], "after": after[tag]}
        for tag, prompt in prompts.items()
    }
    language.learnt(result, training, metatokens=past | told)


@contextmanager
def _alone(network: PreTrainedModel, tokens: list[int] | None) -> Iterator[None]:
    """While it lasts these rows of the embeddings and of the head learn and nothing else; None: all learns."""
    if tokens is None:
        yield
        return
    wanted = [(each, each.requires_grad) for each in network.parameters()]
    table: Any = network.get_input_embeddings()
    tables: list[Any] = [table.weight]
    head: Any = network.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is not None and head.weight is not tables[0]:
        tables.append(head.weight)
    hooks = []
    try:
        network.requires_grad_(False)
        for weight in tables:
            weight.requires_grad_(True)
            mask = torch.zeros(len(weight), 1, device=weight.device, dtype=weight.dtype)
            mask[tokens] = 1.0
            hooks.append(weight.register_hook(mask.mul))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, learns in wanted:
            parameter.requires_grad_(learns)
