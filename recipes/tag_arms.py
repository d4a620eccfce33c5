"""What the recipes of tags share: arms trained once, in run folders; results kept seed by seed, in one ledger.

An arm is an objective and a seed. All arms of a study see the same texts, in blocks of one size, for as many steps. A
study can be run in pieces, a seed today and one tomorrow: rows that the ledger already holds stay.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fivenines.conditional.marks import MarkedText
from fivenines.conditional.measuring.frontier import write_frontier
from fivenines.conditional.measuring.results import Arm as Row
from fivenines.conditional.measuring.results import Unit, pooled, read_arms, results_table, write_arms
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import Objective
from fivenines.conditional.schemes import Scheme
from fivenines.conditional.training import Arm, First, fit_first, fit_in_two, fit_tagged
from fivenines.files import atomic_file, read_json, write_json_atomic
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig, TrainingResult
from fivenines.store import RunFolder, Step, TaskLock

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
