"""Where the rounds of a task lie, and what each left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fivenines.attacks.logbook import attempts_in
from fivenines.errors import DataError, sentence
from fivenines.files import read_json
from fivenines.models.classifier import Classifier
from fivenines.pipeline.learning import load_classifier, load_threshold
from fivenines.pipeline.serving import Deployed
from fivenines.pipeline.workspace import Workspace
from fivenines.records import Attempt, Outcome, Snippet
from fivenines.store import RunFolder, Step
from fivenines.task.adversarial import Family
from fivenines.threshold import Threshold

__all__ = ["Round", "counts_of", "deployed_by", "done_rounds", "finds_of", "round_of"]

_LAST = "measure"  # the step that ends a round


@dataclass(frozen=True)
class Round:
    """Round ``number`` of a task. Round 0 is the classifier of `fivenines run`, copied and measured."""

    work: Workspace
    number: int

    @property
    def folder(self) -> Path:
        return self.work.runs.path / "rounds" / f"round-{self.number:03d}"

    @property
    def is_done(self) -> bool:
        """Whether its last step was finished, whatever was changed afterwards."""
        return (self.folder / _LAST / "DONE").is_file()

    @property
    def before(self) -> Round:
        """The round whose classifier this one attacks. Raises DataError for round 0."""
        if self.number == 0:
            raise DataError(sentence("round 0", "must not be asked for a round before it", 0))
        return Round(self.work, self.number - 1)

    def step(self, name: str, inputs: Mapping[str, Any]) -> Step:
        return RunFolder(self.folder).step(name, inputs)

    def path(self, step: str) -> Path:
        return self.folder / step

    @property
    def key(self) -> dict[str, str]:
        """What its classifier and its threshold were made from. Raises DataError before they are there."""
        names = ("classifier", "threshold")
        if self._is_of_run:
            return {name: str(read_json(self.work.runs.path / name / "DONE")["key"]) for name in names}
        if self.number == 0:
            return {name: str(self.inputs(name)["of"]["key"]) for name in names}
        return {name: str(read_json(self.path(name) / "DONE")["key"]) for name in names}

    def classifier(self) -> Classifier:
        """The classifier that came out of the round, ready to be deployed or attacked again."""
        if self._is_of_run:
            return load_classifier(self.work)
        return Classifier.load(self.path("classifier") / "model")

    def learner(self) -> Classifier:
        """The classifier that its training ended with, which the next round's goes on from: not yet averaged with those
        of earlier rounds, nor taught what it accepted. In round 0, and in rounds of earlier versions, the same one.
        """
        folder = self.path("classifier") / "learner"
        return Classifier.load(folder) if folder.is_dir() else self.classifier()

    def threshold(self) -> Threshold:
        """Its own threshold."""
        if self._is_of_run:
            return load_threshold(self.work)
        return Threshold.from_dict(read_json(self.path("threshold") / "threshold.json"))

    @property
    def _is_of_run(self) -> bool:
        """Before its first round a task has but what `fivenines run` made."""
        return self.number == 0 and not (self.path("threshold") / "DONE").is_file()

    @property
    def families(self) -> list[str]:
        """The families that measured it, as their logs say."""
        return sorted(file.stem for file in self.path("measure").glob("*.jsonl"))

    @property
    def taught(self) -> set[str]:
        """The families whose finds its classifier learnt from, in this round and all before."""
        files = {file.stem for file in self.path("attack").glob("*.jsonl")}
        mine = files & set(get_args(Family))
        return mine if self.number == 0 else mine | self.before.taught

    def inputs(self, step: str) -> dict[str, Any]:
        """What a step was made from, as it noted itself."""
        found: dict[str, Any] = read_json(self.path(step) / "config.json")["inputs"]
        return found

    def attempts(self, step: str, family: str) -> list[Attempt]:
        """What the attack of a family tried, in the step "attack" or "measure"; none where it did not."""
        return attempts_in(self.path(step) / f"{family}.jsonl")

    def metrics(self, step: str) -> dict[str, Any]:
        """What a step noted. Raises DataError where it is not done."""
        found: dict[str, Any] = read_json(self.path(step) / "metrics.json")
        return found


def done_rounds(work: Workspace) -> list[Round]:
    """The rounds that are done, from 0 on, without gaps."""
    found: list[Round] = []
    while (one := Round(work, len(found))).is_done:
        found.append(one)
    return found


def round_of(work: Workspace, number: int | None) -> Round:
    """A round that is done; the last one for None. Round 0 needs no more than a finished `fivenines run`.

    :raises DataError: for one that is not there.
    """
    done = done_rounds(work)
    wanted = max(len(done) - 1, 0) if number is None else number
    if wanted == 0:
        work.need("classifier", "threshold")
    elif not 0 < wanted < len(done):
        must = f"must be one of 0 to {max(len(done) - 1, 0)}"
        raise DataError(sentence("round", must, wanted, f"Run: fivenines round {work.task.folder}"))
    return Round(work, wanted)


def deployed_by(number: int) -> Callable[[Workspace], Deployed]:
    """For ``pipeline.serving``: the classifier and threshold of a round."""

    def which(work: Workspace) -> Deployed:
        one = round_of(work, number)
        return one.classifier(), one.threshold()

    return which


def finds_of(attempts: Sequence[Attempt]) -> list[Snippet]:
    """The texts that fooled a classifier; whether they fail, a label says."""
    return [attempt.best for attempt in attempts if attempt.fooled and attempt.best is not None]


def counts_of(attempts: Sequence[Attempt]) -> dict[str, int]:
    """How the attempts ended, and what they took."""
    outcomes = {outcome.name.lower(): 0 for outcome in Outcome}
    for attempt in attempts:
        outcomes[attempt.outcome.name.lower()] += 1
    return {"attempts": len(attempts), **outcomes, "queries": sum(one.queries for one in attempts)}
