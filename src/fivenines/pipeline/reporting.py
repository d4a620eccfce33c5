"""Gathers what the steps have left behind into one report. Needs no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fivenines.errors import NotEnoughDataError
from fivenines.evaluate import Evaluation
from fivenines.files import read_json, read_jsonl
from fivenines.labels import agreement
from fivenines.pipeline.workspace import (
    CALIBRATE,
    FILTERED,
    STEPS,
    TRAIN,
    UNFILTERED,
    Workspace,
    read_outputs,
)
from fivenines.records import Answer
from fivenines.report import (
    DrawCounts,
    History,
    LabelFacts,
    ModelFacts,
    Reliability,
    Report,
    Samples,
    ScoreCounts,
)
from fivenines.stats import Estimate, calibration_error
from fivenines.store import versions
from fivenines.threshold import Threshold

__all__ = ["make_report"]


def make_report(work: Workspace) -> Report:
    """The report of the finished steps of a task."""
    task, runs = work.task, work.runs.path
    outputs = {name: read_outputs(runs / "outputs", name) for name in task.evaluate.distributions}
    main = next(iter(outputs))
    threshold = Threshold.from_dict(read_json(runs / "threshold" / "threshold.json"))
    return Report(
        task=task.name,
        behavior=task.behavior,
        seed=task.seed,
        evaluation=Evaluation.from_dict(read_json(runs / "evaluation" / "evaluation.json")),
        threshold=threshold,
        classifier=_classifier(work),
        generator=_generator(work),
        labels=tuple(
            facts for purpose in (TRAIN, CALIBRATE, UNFILTERED, FILTERED) if (facts := _labels(work, purpose))
        ),
        draws={name: DrawCounts.of(found) for name, found in outputs.items()},
        samples=Samples.of(outputs[main], main),
        timing={
            name: read_json(runs / name / "DONE")["seconds"]
            for name in STEPS
            if (runs / name / "DONE").is_file()
        },
        versions=versions(),
        assumptions=_assumptions(work),
        created=datetime.now(UTC).isoformat(timespec="minutes"),
        command=f"fivenines run {task.folder.name}",
    )


def _generator(work: Workspace) -> ModelFacts:
    metrics = work.runs.metrics("generator")
    size, training = work.task.generator.size, metrics.get("training", {})
    facts: dict[str, str | int | float] = {"parameters": metrics["parameters"]}
    if metrics["trained"]:
        facts["trained on texts"] = metrics["texts"]
    if work.task.generator.model == "scratch":
        facts["architecture"] = f"{size.architecture}, {size.layers} layers, {size.width} wide"
    sampling = work.task.generator.sampling
    facts["sampling"] = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    return ModelFacts(work.task.generator.model, facts, _history(training, "nats per word, negated"))


def _classifier(work: Workspace) -> ModelFacts:
    metrics = work.runs.metrics("classifier")
    facts: dict[str, str | int | float] = {}
    model = work.task.classifier.model
    if metrics["trained"]:
        facts["trained on snippets"] = metrics["snippets"]
        facts["failures among them"] = metrics["failures"]
        facts["kept back to check and calibrate"] = metrics["validation"]
    rows = [
        row
        for _, row in read_jsonl(work.runs.path / "threshold" / "scores.jsonl")
        if row["score"] is not None
    ]
    scores = np.array([row["score"] for row in rows])
    failed = np.array([row["answer"] != Answer.OK for row in rows], dtype=np.bool_)
    return ModelFacts(
        "started from the generator" if model == "generator" else model,
        facts,
        _history(metrics.get("training", {}), "validation"),
        (
            *(
                Estimate.from_dict(metrics[name])
                for name in ("auroc", "average precision")
                if name in metrics
            ),
            *((calibration_error(failed, scores),) if rows else ()),
        ),
        Reliability.of(scores, failed),
        ScoreCounts.of(scores, failed),
    )


def _history(training: Mapping[str, Any], metric: str) -> History | None:
    return History.of(training, metric) if training else None


def _labels(work: Workspace, purpose: str) -> LabelFacts | None:
    labels = work.store.labels(purpose)
    if not labels:
        return None
    resolved = work.judgments(purpose).values()
    answers = Counter(judgment.answer for judgment in resolved)
    try:
        agreed = str(agreement(labels))
    except NotEnoughDataError:
        agreed = "one label each: not known"
    return LabelFacts(
        purpose,
        labels=len(labels),
        snippets=len(resolved),
        failures=answers[Answer.FAILURE],
        oks=answers[Answer.OK],
        unsures=answers[Answer.UNSURE],
        disputed=sum(judgment.disputed for judgment in resolved),
        labelers=len({label.labeler for label in labels}),
        agreement=agreed,
    )


def _assumptions(work: Workspace) -> tuple[str, ...]:
    said = ["prompts are a random sample of each distribution; the rates hold for prompts like them"]
    if work.task.labels.source == "storyworld":
        said.append(
            "labels and preferences are simulated: storyworld's labelers read the truth without error"
        )
    else:
        said.append("labels are taken as the truth: the labelers' own errors are not in the intervals")
        if "failing" in work.task.evaluate.distributions.values():
            said.append(
                "the classifier says which prompts the source continued with a failure (score of 0.5 or more)"
            )
    return tuple(said)
