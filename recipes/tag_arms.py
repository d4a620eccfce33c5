"""What the recipes of tags share: arms trained once, in run folders; results kept seed by seed, in one ledger.

An arm is an objective and a seed. All arms of a study see the same texts, in blocks of one size, for as many steps. A
study can be run in pieces, a seed today and one tomorrow: rows that the ledger already holds stay.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fivenines.conditional.marks import MarkedText
from fivenines.conditional.measuring.frontier import write_frontier
from fivenines.conditional.measuring.results import Arm as Row
from fivenines.conditional.measuring.results import Unit, pooled, read_arms, results_table, write_arms
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import (
    AdvantageWeighted,
    Filtering,
    Likelihood,
    Objective,
    RewardWeighted,
    TokenMasked,
    Unlikelihood,
)
from fivenines.conditional.schemes import Scheme
from fivenines.conditional.training import Arm, First, fit_first, fit_in_two, fit_tagged
from fivenines.files import atomic_file, read_json, read_jsonl, write_json_atomic, write_jsonl_atomic
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig, TrainingResult
from fivenines.store import RunFolder, Step, TaskLock

__all__ = ["Model", "OwnText", "Study", "keep", "objectives", "parser", "step_name", "tuned", "unknown_arms"]

Model = TaggedModel | LanguageModel


@dataclass(frozen=True)
class Study:
    """``objectives`` train from scratch; ``tuned`` ones after half the steps of plain likelihood, shared by them."""

    runs: RunFolder
    texts: Sequence[MarkedText]
    facts: Mapping[str, Any]  # what the texts are: arms are trained anew where it changes
    shape: LanguageModelConfig
    sampling: SamplingConfig
    scheme: Scheme
    training: TrainingConfig
    objectives: Mapping[str, Objective]
    tuned: Mapping[str, Objective]

    def step(self, name: str, seed: int) -> Step:
        """Where an arm is trained."""
        arm = self._arm(name, seed)
        inputs = self._inputs(seed) | {
            "objective": arm.objective.to_dict(),
            "half": self._half(seed) if name in self.tuned else None,
            "scheme": self.scheme.to_dict() if arm.objective.with_tags else None,
        }
        return self.runs.step(step_name(name, seed), inputs)

    def trained(self, name: str, seed: int) -> Model:
        """The model of an arm: trained, or read where it was."""
        arm, step = self._arm(name, seed), self.step(name, seed)
        folder = step.path / "model"
        if not step.is_done():
            if name in self.tuned:
                self._train_half(arm)
            with step:
                model, result = self._fitted(name, arm, folder)
                model.save(folder)
                step.write_metrics({"seconds": result.seconds})
        return TaggedModel.load(folder) if arm.objective.with_tags else LanguageModel.load(folder)

    def seconds(self, name: str, seed: int) -> float:
        """Seconds of training, all sittings of it; of a tuned arm without the half that it began from."""
        return float(self.step(name, seed).metrics()["seconds"])

    def _inputs(self, seed: int) -> dict[str, Any]:
        """What every training of a seed depends on."""
        shared = {"training": asdict(replace(self.training, seed=seed)), "shape": asdict(self.shape)}
        return shared | {"sampling": asdict(self.sampling), "texts": dict(self.facts)}

    def _arm(self, name: str, seed: int) -> Arm:
        objective = self.tuned[name] if name in self.tuned else self.objectives[name]
        return Arm(objective, replace(self.training, seed=seed), self.shape.context)

    def _half(self, seed: int) -> Step:
        """Plain likelihood for half of the steps: what all tuned arms of a seed begin with."""
        return self.runs.step(step_name("half", seed), self._inputs(seed))

    def _train_half(self, arm: Arm) -> None:
        half = self._half(arm.training.seed)
        if not half.is_done():
            with half:
                fit_first(self._plain(arm), self.texts, arm, First(half.path / "model"), progress=True)

    def _plain(self, arm: Arm) -> LanguageModel:
        shape = LanguageModelConfig(**(asdict(self.shape) | {"seed": arm.training.seed}))
        return LanguageModel.create([text.text for text in self.texts], shape, self.sampling)

    def _fitted(self, name: str, arm: Arm, folder: Path) -> tuple[Model, TrainingResult]:
        plain, tagged = self._plain(arm), arm.objective.with_tags
        if name in self.tuned:
            first = First(self._half(arm.training.seed).path / "model")
            scheme = self.scheme if tagged else None
            model, fitted = fit_in_two(
                plain, self.texts, arm, first, scheme=scheme, folder=folder, progress=True
            )
            return model, fitted.result
        model = TaggedModel.extend(plain, self.scheme, seed=arm.training.seed) if tagged else plain
        return model, fit_tagged(model, self.texts, arm, folder=folder, progress=True).result


@dataclass(frozen=True)
class OwnText:
    """The arms of a study, and besides ``own``: arms that learn from what they write themselves.

    They begin as the study's arm ``likelihood`` or, where they have tags, ``conditional``, with fewer steps. Then, as
    often as there are ``shares``, ``write(model, seed, number)`` gives marked text of theirs, and so large a share of
    the study's steps goes to what was written so far and, for each text, ``mixed`` texts of the study. How fast they
    learn falls at the last alone: what is written before comes from a model that still learns. ``facts``: what writing
    depends on.
    """

    study: Study
    own: Mapping[str, Objective]
    write: Callable[[Model, int, int], Iterable[MarkedText]]
    shares: Sequence[float]
    mixed: float
    facts: Mapping[str, Any]

    @property
    def runs(self) -> RunFolder:
        """Where all arms lie."""
        return self.study.runs

    @property
    def rounds(self) -> list[int]:
        """Steps after each time that a model has written."""
        return [int(share * _steps(self.study)) for share in self.shares]

    @property
    def first(self) -> Study:
        """What the arms begin with: in a folder of its own, since arms of the same names have more steps elsewhere."""
        training = replace(self.study.training, max_steps=_steps(self.study) - sum(self.rounds), decay="none")
        return replace(self.study, runs=RunFolder(self.runs.path / "first"), training=training)

    def trained(self, name: str, seed: int) -> Model:
        """The model of an arm: trained, or read where it was. Raises LockedError where another process trains it."""
        if not self.step(name, seed).is_done():
            with TaskLock(self.runs.path / "locks" / step_name(name, seed)):
                if name in self.own:
                    for number in range(len(self.shares)):
                        self._round(name, seed, number)
                else:
                    self.study.trained(name, seed)
        return self._load(name, self.step(name, seed)) if name in self.own else self.study.trained(name, seed)

    def step(self, name: str, seed: int) -> Step:
        """Where an arm lies in the end."""
        return (
            self._step(name, seed, len(self.shares) - 1) if name in self.own else self.study.step(name, seed)
        )

    def seconds(self, name: str, seed: int) -> float:
        """Seconds of training and of writing; of a tuned arm without the half that it began from."""
        if name not in self.own:
            return self.study.seconds(name, seed)
        told = [self._step(name, seed, number).metrics() for number in range(len(self.shares))]
        parts = [float(each[part]) for each in told for part in ("seconds", "writing")]
        return self.first.seconds(self._base(name), seed) + sum(parts)

    def _base(self, name: str) -> str:
        return "conditional" if self.own[name].with_tags else "likelihood"

    def _step(self, name: str, seed: int, number: int) -> Step:
        before = self._step(name, seed, number - 1) if number else self.first.step(self._base(name), seed)
        inputs = {"before": before, "objective": self.own[name].to_dict(), "steps": self.rounds[number]}
        last = number == len(self.shares) - 1
        return self.runs.step(
            step_name(name, seed, number), {**inputs, "last": last, "mixed": self.mixed, **self.facts}
        )

    def _load(self, name: str, step: Step) -> Model:
        kind = TaggedModel if self.own[name].with_tags else LanguageModel
        return kind.load(step.path / "model", self.study.sampling)

    def _round(self, name: str, seed: int, number: int) -> None:
        """Write, and go on with what was written so far and with the study's texts."""
        step = self._step(name, seed, number)
        if step.is_done():
            return
        before = self._step(name, seed, number - 1) if number else None
        model = self.first.trained(self._base(name), seed) if before is None else self._load(name, before)
        with step:
            if not step.file("writing.json").is_file():
                started = time.monotonic()
                written = [*self.write(model, seed, number), *([] if before is None else _written(before))]
                write_jsonl_atomic(step.path / "own.jsonl", (text.to_row() for text in written))
                step.write_json("writing.json", {"seconds": time.monotonic() - started})
            texts, rng = _written(step), random.Random(1_000 * seed + number)
            texts += rng.sample(
                self.study.texts, min(1 + int(self.mixed * len(texts)), len(self.study.texts))
            )
            rng.shuffle(texts)
            last = number == len(self.shares) - 1
            training = replace(self.study.training, seed=seed, max_steps=self.rounds[number], warmup=0.0)
            training = training if last else replace(training, decay="none")
            arm = Arm(self.own[name], training, self.study.shape.context)
            fitted = fit_tagged(model, texts, arm, folder=step.path / "model", progress=True)
            model.save(step.path / "model")
            writing = read_json(step.file("writing.json"))["seconds"]
            step.write_metrics({"seconds": fitted.result.seconds, "writing": writing, "texts": len(texts)})


def _steps(study: Study) -> int:
    assert study.training.max_steps is not None, "a study is of so many steps"
    return study.training.max_steps


def _written(step: Step) -> list[MarkedText]:
    return [MarkedText.from_row(row) for _, row in read_jsonl(step.path / "own.jsonl")]


def objectives(name: str, tags: Objective) -> dict[str, Objective]:
    """What training from scratch is compared with; the arm with tags goes by ``name``."""
    return {
        "likelihood": Likelihood(),
        name: tags,
        "filtering": Filtering(0.0, by="max"),
        "unlikelihood": Unlikelihood(0.5),
        "reward-weighted": RewardWeighted(),
        "advantage-weighted": AdvantageWeighted(),
        "masked tokens": TokenMasked(0.5),
    }


def tuned(name: str, tags: Objective) -> dict[str, Objective]:
    """What comes after half the budget of plain likelihood."""
    every = objectives(name, tags)
    return {f"tuned: {each}": every[each] for each in (name, "filtering", "unlikelihood")}


def step_name(*parts: object) -> str:
    """A plain folder name."""
    name = "-".join(str(part) for part in parts)
    return "".join(each for each in name.replace(" ", "-") if each not in ":,")


def keep(
    out: Path, name: str, head: str, rows: Iterable[Row], sizes: Mapping[str, Any], facts: Mapping[str, Unit]
) -> list[Row]:
    """Put rows into the ledger ``out/name.jsonl``, and write its table and plot; returns all that it holds now.

    ``sizes``: of this run; a ledger holds rows of the same sizes alone, else its means would be of unlike things.
    ``facts``: columns of the table besides. Ends the program where the ledger has other sizes.
    """
    with TaskLock(out / name):
        ledger, side = out / f"{name}.jsonl", out / f"{name}.json"
        known = {_place(row): row for row in (read_arms(ledger) if ledger.is_file() else [])}
        new = {_place(row): row for row in rows}
        new = {place: row for place, row in new.items() if known.get(place) != row}
        seeds: dict[str, Any] = read_json(side) if side.is_file() else {}
        others = [seed for seed, about in seeds.items() if about["sizes"] != dict(sizes)]
        if others:
            raise SystemExit(f"{ledger} holds {', '.join(others)} of other sizes: give another --out.")
        now = {"date": datetime.now(UTC).date().isoformat(), "machine": _machine(), "sizes": dict(sizes)}
        seeds |= {f"seed {seed}": now for seed in sorted({row.seed for row in new.values()})}
        every = list((known | new).values())
        write_arms(ledger, every)
        write_json_atomic(side, seeds)
        told = [f"{seed}: {about['date']}, {about['machine']}." for seed, about in sorted(seeds.items())]
        text = "\n\n".join([head, "\n".join(told), results_table(every, facts=facts)])
        with atomic_file(out / f"{name}.md") as handle:
            handle.write(text)
        if all(one.cost is not None for one in pooled(every)):
            write_frontier(out / name, every)
    return every


def _machine() -> str:
    python = platform.python_version()
    return f"{platform.machine()}, {os.cpu_count()} cores, one thread each process, Python {python}"


def _place(row: Row) -> tuple[str, int, str]:
    return (row.objective, row.seed, row.control)


def parser(doc: str | None, runs: str, arms: Sequence[str], sizes: Any) -> argparse.ArgumentParser:
    """The options that all these recipes have; one for each field of ``sizes``."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--runs", type=Path, default=Path(runs), help="where arms are kept, and found again")
    made.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    made.add_argument("--arms", nargs="+", default=list(arms), metavar="ARM", help=", ".join(arms))
    for name, value in asdict(sizes).items():
        made.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"{value}")
    made.add_argument("--out", type=Path, help="where the results go; none are written without it")
    return made


def unknown_arms(asked: Sequence[str], known: Sequence[str]) -> None:
    """Ends the program where an arm is none."""
    wrong = [name for name in asked if name not in known]
    if wrong:
        raise SystemExit(f"There is no arm {', '.join(wrong)}: {', '.join(known)}.")
