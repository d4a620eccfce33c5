"""What the recipes of tags share: arms trained once, in run folders; results kept seed by seed, in one ledger.

An arm is an objective and a seed. All arms of a study see the same texts, in blocks of one size, for as many steps. A
study can be run in pieces, a seed today and one tomorrow: rows that the ledger already holds stay.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fivenines.conditional.marks import MarkedText
from fivenines.conditional.measuring.frontier import write_frontier
from fivenines.conditional.measuring.results import Arm as Row
from fivenines.conditional.measuring.results import pooled, read_arms, results_table, write_arms
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import Objective
from fivenines.conditional.schemes import Scheme
from fivenines.conditional.training import Arm, First, fit_in_two, fit_tagged
from fivenines.files import read_json, write_json_atomic
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.store import RunFolder, Step

__all__ = ["Model", "Study", "keep", "parser", "step_name", "unknown_arms"]

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
        inputs = {
            "objective": arm.objective.to_dict(),
            "tuned": name in self.tuned,
            "scheme": self.scheme.to_dict() if arm.objective.with_tags else None,
            "training": asdict(arm.training),
            "shape": asdict(self.shape),
            "texts": dict(self.facts),
        }
        return self.runs.step(step_name(name, seed), inputs)

    def trained(self, name: str, seed: int) -> Model:
        """The model of an arm: trained, or read where it was."""
        arm, step = self._arm(name, seed), self.step(name, seed)
        folder = step.path / "model"
        if not step.is_done():
            with step:
                started = time.process_time()
                model = self._fitted(name, arm, folder)
                model.save(folder)
                step.write_metrics({"processor seconds": time.process_time() - started})
        return TaggedModel.load(folder) if arm.objective.with_tags else LanguageModel.load(folder)

    def seconds(self, name: str, seed: int) -> float:
        """Processor seconds that the training of an arm took; of a tuned one, without the half it began from."""
        return float(self.step(name, seed).metrics()["processor seconds"])

    def _arm(self, name: str, seed: int) -> Arm:
        objective = self.tuned[name] if name in self.tuned else self.objectives[name]
        return Arm(objective, replace(self.training, seed=seed), self.shape.context)

    def _fitted(self, name: str, arm: Arm, folder: Path) -> Model:
        shape = LanguageModelConfig(**(asdict(self.shape) | {"seed": arm.training.seed}))
        plain = LanguageModel.create([text.text for text in self.texts], shape, self.sampling)
        tagged = arm.objective.with_tags
        if name in self.tuned:
            first = First(self.runs.path / f"half-{arm.training.seed}")
            scheme = self.scheme if tagged else None
            return fit_in_two(plain, self.texts, arm, first, scheme=scheme, folder=folder, progress=True)[0]
        model: Model = TaggedModel.extend(plain, self.scheme, seed=arm.training.seed) if tagged else plain
        fit_tagged(model, self.texts, arm, folder=folder, progress=True)
        return model


def step_name(*parts: object) -> str:
    """A plain folder name."""
    name = "-".join(str(part) for part in parts)
    return "".join(each for each in name.replace(" ", "-") if each not in ":,")


def keep(out: Path, name: str, head: str, rows: Iterable[Row], facts: Mapping[str, Any]) -> list[Row]:
    """Put rows into the ledger ``out/name.jsonl``, and write its table and plot; returns all that it holds now."""
    ledger, side = out / f"{name}.jsonl", out / f"{name}.json"
    known = {_place(row): row for row in (read_arms(ledger) if ledger.is_file() else [])}
    known |= {_place(row): row for row in rows}
    every = list(known.values())
    seeds = sorted({row.seed for row in every})
    write_arms(ledger, every)
    runs = read_json(side) if side.is_file() else {}
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, one thread each process, {platform.python_version()}"
    )
    now = {"date": datetime.now(UTC).date().isoformat(), "machine": machine}
    runs |= {f"seed {seed}": now for seed in {row.seed for row in rows}} | dict(facts)
    write_json_atomic(side, runs)
    text = (
        f"{head}\n\nSeeds: {', '.join(map(str, seeds))}. {now['date']}, {machine}.\n\n{results_table(every)}"
    )
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    if all(one.cost is not None for one in pooled(every)):
        write_frontier(out / name, every)
    return every


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
