"""The steps that make models: generator, draws to be labelled, classifier, threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fivenines.errors import NotEnoughDataError, sentence
from fivenines.files import read_json, read_jsonl
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import EncoderConfig
from fivenines.models.hardening import Hardening
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.pipeline.drawing import draw_in_chunks
from fivenines.pipeline.material import (
    CalibrationMaterial,
    Material,
    calibration_material,
    threshold_by,
    training_material,
)
from fivenines.pipeline.workspace import Workspace, read_snippets_of
from fivenines.records import Answer, Judgment, Snippet
from fivenines.stats import auroc, average_precision
from fivenines.store import Step
from fivenines.threshold import Threshold

__all__ = [
    "CalibrationMaterial",
    "Fitted",
    "Material",
    "calibration_material",
    "choose",
    "draw",
    "fit_classifier",
    "load_classifier",
    "load_generator",
    "load_threshold",
    "threshold_by",
    "train_classifier",
    "train_generator",
    "training_material",
]


def sampling_config(work: Workspace) -> SamplingConfig:
    return SamplingConfig(**work.task.generator.sampling.model_dump(), batch_size=work.task.filter.batch_size)


def load_generator(work: Workspace) -> LanguageModel:
    """The generator of the finished step."""
    return LanguageModel.load(_generator_source(work), sampling=sampling_config(work))


def _generator_source(work: Workspace) -> str | Path:
    folder = work.runs.path / "generator" / "model"
    if folder.is_dir():
        return folder
    return work.task.model_source(work.task.generator.model)  # used as it is, not copied


def load_classifier(work: Workspace) -> Classifier:
    """The classifier of the finished step."""
    return Classifier.load(work.runs.path / "classifier" / "model")


def load_threshold(work: Workspace) -> Threshold:
    """The threshold of the finished step."""
    return Threshold.from_dict(read_json(work.runs.path / "threshold" / "threshold.json"))


def train_generator(work: Workspace, step: Step) -> None:
    """Train a generator from scratch, fine-tune one, or see that the one named can be loaded."""
    settings = work.task.generator
    if not settings.train.enabled:
        source = work.task.model_source(settings.model)
        model = LanguageModel.load(source, sampling=sampling_config(work))
        step.write_metrics({"trained": False, "parameters": _parameters(model)})
        return
    texts = _texts(work, "train_texts")
    if not texts:
        then = "Name texts under [data], or set generator.train = false."
        raise NotEnoughDataError(sentence("training a generator", "needs texts", "none", then))
    if settings.model == "scratch":
        size = LanguageModelConfig(**settings.size.model_dump(), seed=work.task.seed)
        model = LanguageModel.create(texts, size, sampling_config(work))
    else:
        model = LanguageModel.load(work.task.model_source(settings.model), sampling=sampling_config(work))
    model.fit(
        texts,
        training=TrainingConfig(**settings.train.settings(), seed=work.task.seed),
        validation=_texts(work, "validation_texts") or None,
        folder=step.path / "model",
        progress=work.progress,
    )
    model.save(step.path / "model")
    result = model.result.to_dict() if model.result is not None else {}
    step.write_metrics(
        {"trained": True, "parameters": _parameters(model), "texts": len(texts), "training": result}
    )


def draw(work: Workspace, step: Step) -> None:
    """Unfiltered completions, and the source's own, that people will label for training and the threshold."""
    data, labels, seed = work.step("data"), work.task.labels, work.task.seed
    rng = np.random.default_rng([seed, 1])
    train, calibrate = read_snippets_of(data, "train"), read_snippets_of(data, "calibrate")
    own = [snippet for snippet in train if snippet.completion]
    n_train = labels.n_train if work.task.classifier.training.enabled else 0
    n_own = min(round(n_train * labels.source_share), len(own))
    taken = [own[i] for i in rng.permutation(len(own))[:n_own]]
    generator = load_generator(work)
    drawn = draw_in_chunks(generator, _prompts(train, n_train - n_own, rng), step.path, "train", seed)
    calibration = draw_in_chunks(
        generator, _prompts(calibrate, labels.n_calibrate, rng), step.path, "calibrate", seed + 1
    )
    step.write_jsonl("train.jsonl", taken + drawn)
    step.write_jsonl("calibrate.jsonl", calibration)
    step.write_metrics(
        {"train": len(taken) + len(drawn), "from source": len(taken), "calibrate": len(calibration)}
    )


def train_classifier(work: Workspace, step: Step) -> None:
    """Fit on judged snippets, or take the classifier as it is where task.toml says so."""
    settings = work.task.classifier
    if not settings.training.enabled:
        Classifier.load(work.task.model_source(settings.model)).save(step.path / "model")
        step.write_metrics({"trained": False})
        return
    fitted = fit_classifier(work, step.path / "model", work.task.seed)
    fitted.classifier.save(step.path / "model")
    found = {
        "trained": True,
        "snippets": fitted.snippets,
        "failures": fitted.failures,
        **_brought(fitted.brought, fitted.left_out),
        **_checked(fitted.classifier, *fitted.validation),
    }
    step.write_metrics(found)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A classifier, how many snippets and failures it learnt from, and what was kept back to calibrate it.

    ``brought``, ``left_out``: as in :class:`Material`.
    """

    classifier: Classifier
    snippets: int
    failures: int
    validation: tuple[list[Snippet], list[Judgment]]
    brought: int = 0
    left_out: int = 0


def fit_classifier(work: Workspace, folder: Path, seed: int) -> Fitted:
    """A classifier as the task describes it, fitted and calibrated on the judged training snippets.

    Another ``seed`` than the task's gives another one on other parts of them: an auditor of the first.
    """
    settings = work.task.classifier
    material = training_material(work, seed)
    classifier = _untrained(work, [snippet.text for snippet in material.snippets], seed)
    classifier.fit(
        material.snippets,
        material.answers,
        validation=material.validation if settings.training.patience is not None else None,
        training=TrainingConfig(**settings.training.settings(), seed=seed),
        folder=folder,
        progress=work.progress,
    )
    classifier.calibrate(*material.validation)
    failures = sum(answer.answer is Answer.FAILURE for answer in material.answers)
    return Fitted(
        classifier,
        len(material.snippets),
        failures,
        material.validation,
        material.brought,
        material.left_out,
    )


def _checked(
    classifier: Classifier, snippets: Sequence[Snippet], answers: Sequence[Judgment]
) -> dict[str, Any]:
    """How well it ranks what was kept back; unsure counts as failure."""
    failed = np.array([answer.answer is not Answer.OK for answer in answers])
    scores = classifier.scores(snippets)
    known = np.isfinite(scores)
    return {
        "validation": len(snippets),
        "validation failures": int(failed.sum()),
        "auroc": auroc(failed[known], scores[known]).to_dict(),
        "average precision": average_precision(failed[known], scores[known]).to_dict(),
        "training": classifier.result.to_dict() if classifier.result is not None else {},
    }


def choose(work: Workspace, step: Step) -> None:
    """The threshold, from judged snippets that the classifier has not seen (:func:`calibration_material`).

    Writes the scores of the draws alone: the report measures the classifier on them, and what is measured is drawn.
    """
    calibration = calibration_material(work)
    scores = load_classifier(work).scores(calibration.snippets)
    threshold = threshold_by(work, scores, calibration)
    rows = list(zip(calibration.snippets, scores.tolist(), calibration.answers, strict=True))
    step.write_jsonl(
        "scores.jsonl",
        (
            {"snippet_id": s.id, "score": None if x != x else x, "answer": str(a.answer)}
            for s, x, a in rows[: calibration.drawn]
        ),
    )
    step.write_json("threshold.json", threshold.to_dict())
    found = {"threshold": threshold.value, "rule": threshold.rule}
    step.write_metrics({**found, **_brought(calibration.brought, calibration.left_out)})


def _brought(used: int, left_out: int) -> dict[str, int]:
    """What a step says of labels that were brought along."""
    return {"brought along": used, "brought along, left out": left_out} if used or left_out else {}


def _parameters(model: LanguageModel) -> int:
    return sum(parameter.numel() for parameter in model.model.parameters())


def _texts(work: Workspace, name: str) -> list[str]:
    return [row["text"] for _, row in read_jsonl(work.step("data").file(f"{name}.jsonl"))]


def _prompts(snippets: Sequence[Snippet], n: int, rng: np.random.Generator) -> list[str]:
    """``n`` prompts in random order; each stands about equally often when there are fewer."""
    if n > 0 and not snippets:
        then = "Name more texts or prompts under [data], or give this split a larger share."
        raise NotEnoughDataError(
            sentence("drawing completions", "needs prompts", "a split without any", then)
        )
    order: list[int] = []
    while len(order) < n:
        order += rng.permutation(len(snippets)).tolist()
    return [snippets[i].prompt for i in order[:n]]


def _untrained(work: Workspace, texts: Sequence[str], seed: int) -> Classifier:
    settings = work.task.classifier
    if settings.model == "scratch":
        size = settings.size.model_dump()
        encoder = EncoderConfig(max_length=size.pop("context"), **size)
        made = Classifier.create(texts, ClassifierConfig(seed=seed), encoder)
    elif settings.model == "generator":
        made = Classifier.load(_generator_source(work), ClassifierConfig(seed=seed))
    else:
        made = Classifier.load(work.task.model_source(settings.model))
    made.config = replace(  # how to learn is the task's to say, whatever a folder was taught by before
        made.config,
        objective=replace(made.config.objective, wide=settings.wide),
        hardening=Hardening.from_dict(settings.hardening.settings()),
    )
    return made
