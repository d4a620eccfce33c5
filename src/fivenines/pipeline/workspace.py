"""What a run works on: the task, its run folders, its store; and which step depends on what.

A step's inputs are hashes of settings, files, labels and earlier steps, so that it is redone when, and only
when, something that it depends on has changed:

    data -> generator -> draws -> classifier -> threshold -> outputs -> evaluation -> report
                           |          ^             ^           |           ^
                           +-- labels on them ------+           +-- labels -+
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fivenines.errors import DataError, sentence
from fivenines.files import read_jsonl
from fivenines.labels import judgments
from fivenines.models.minilm import MINILM
from fivenines.records import Candidate, Judgment, Output, Reason, Snippet
from fivenines.store import Draw, RunFolder, Step, Store
from fivenines.task import Task

__all__ = [
    "BROUGHT_ALONG",
    "PURPOSES",
    "STEPS",
    "Workspace",
    "read_outputs",
    "read_snippets_of",
    "row_of_output",
]

STEPS = ("data", "generator", "draws", "classifier", "threshold", "outputs", "evaluation", "report")

# The purposes of labels, in the order in which they are needed; those of attacks as rounds go on.
PURPOSES = ("train", "calibrate", "unfiltered", "filtered", "attack", "attack-measure", "compare")
TRAIN, CALIBRATE, UNFILTERED, FILTERED, ATTACK, ATTACK_MEASURE, COMPARE = PURPOSES
BROUGHT_ALONG = Draw("brought along", design="unknown")  # of snippets that people came with, labels and all


@dataclass
class Workspace:
    """A task with its store and run folders. ``progress`` shows bars on the terminal."""

    task: Task
    store: Store
    progress: bool = False
    runs: RunFolder = field(init=False)

    def __post_init__(self) -> None:
        self.runs = RunFolder(self.task.folder / "runs")

    def step(self, name: str) -> Step:
        """The step of this name, for the settings and labels of now.

        :raises DataError: for an unknown name, or a file it depends on that is gone.
        """
        if name not in STEPS:
            raise DataError(sentence("step", f"must be one of {', '.join(STEPS)}", name))
        return self.runs.step(name, self._inputs(name))

    def _inputs(self, name: str) -> Mapping[str, Any]:
        task, inputs = self.task, dict[str, Any]()
        if name == "data":
            inputs["settings"] = task.digest("data", "evaluate.distributions", "seed")
            inputs["texts"] = task.text_files()
            inputs["prompts"] = [*task.prompt_files(), *map(task.path, task.evaluate.files.values())]
        elif name == "generator":
            inputs["settings"] = task.digest("generator.model", "generator.train", "generator.size", "seed")
            inputs["model"] = self._model_input(task.generator.model)
            inputs["data"] = self.step("data")
        elif name == "draws":
            inputs["settings"] = task.digest("generator.sampling", "labels.n_train", "labels.n_calibrate")
            inputs["sampler"] = task.digest(
                "filter.batch_size", "labels.source_share", "classifier.training.enabled", "seed"
            )
            inputs["generator"] = self.step("generator")
        elif name == "classifier":
            inputs["settings"] = task.digest("classifier", "labels.rule", "seed")
            inputs["model"] = self._model_input(task.classifier.model)
            inputs["labels"] = self.store.said(TRAIN)
            inputs["draws"] = self.step("draws")
        elif name == "threshold":
            inputs["settings"] = task.digest("threshold", "labels.rule")
            inputs["labels"] = self.store.said(CALIBRATE)
            inputs["classifier"] = self.step("classifier")
        elif name == "outputs":
            inputs["settings"] = task.digest("filter", "evaluate", "generator.sampling", "seed")
            inputs["threshold"] = self.step("threshold")
        elif name == "evaluation":
            inputs["labels"] = [self.store.said(p) for p in (UNFILTERED, FILTERED, COMPARE)]
            inputs["settings"] = task.digest("labels", "threshold")
            inputs["outputs"] = self.step("outputs")
        else:
            inputs["settings"] = task.digest("name", "behavior")
            inputs["evaluation"] = self.step("evaluation")
        return inputs

    def _model_input(self, model: str) -> str | Path:
        """A local folder counts by its content, anything else by its name."""
        if model in (MINILM, "generator", "scratch"):
            return model
        source = self.task.model_source(model)
        return Path(source) if Path(source).is_dir() else model

    def need(self, *names: str) -> None:
        """:raises DataError: unless these steps are done."""
        for name in names:
            if not (self.runs.path / name / "DONE").is_file():
                then = f"Run: fivenines run {self.task.folder}"
                raise DataError(sentence(f"step {name}", "must be done first", "not done", then))

    def judged(self, purpose: str, snippets: Sequence[Snippet]) -> tuple[list[Snippet], list[Judgment]]:
        """The snippets that have a judgment, with it, in the order given."""
        by_id = self.judgments(purpose)
        pairs = [(snippet, by_id[snippet.id]) for snippet in snippets if snippet.id in by_id]
        return [snippet for snippet, _ in pairs], [judgment for _, judgment in pairs]

    def judgments(self, purpose: str) -> dict[str, Judgment]:
        """The judgments on the items of a purpose, by snippet id."""
        resolved = judgments(self.store.labels(purpose), self.task.labels.rule)
        return {judgment.snippet_id: judgment for judgment in resolved}


def read_snippets_of(step: Step, name: str) -> list[Snippet]:
    """The snippets that a step wrote as ``name``.jsonl."""
    return [
        Snippet(row["prompt"], row["completion"], row.get("source", ""), row.get("meta", {}))
        for _, row in read_jsonl(step.file(f"{name}.jsonl"))
    ]


def row_of_output(output: Output) -> dict[str, Any]:
    """An output as a line of JSON: short keys, the prompt once."""
    return {
        "prompt": output.prompt,
        "completion": output.completion,
        "score": output.score,
        "draws": output.draws,
        "candidates": [[c.completion, c.score, c.kept, c.reason.name, c.draw] for c in output.candidates],
    }


def read_outputs(folder: Path, distribution: str) -> list[Output]:
    """The outputs of one distribution of prompts, in order of the prompts."""
    outputs = []
    for path in sorted(folder.glob(f"{distribution}-[0-9]*.jsonl")):
        for _, row in read_jsonl(path):
            prompt = row["prompt"]
            candidates = tuple(
                Candidate(prompt, completion, score, kept, Reason[reason], draw)
                for completion, score, kept, reason, draw in row["candidates"]
            )
            outputs.append(Output(prompt, row["completion"], row["score"], row["draws"], candidates))
    return outputs
