"""How the arms of pep8.py are measured: controls, lines that break a rule by file, likelihood, a red team of code."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from python_code import JUDGING, RULE, Judged, Places, first_statement_breaks, judge, prompt_fits, windows
from python_coder import ROOM, Coder, LineRule, Writer
from python_layout import Layout
from tag_arms import Model, step_name

from fivenines.conditional.backtracking import Backtracking, BacktrackingGenerator
from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import Guidance
from fivenines.conditional.lookahead import Lookahead
from fivenines.conditional.marks import MarkedText
from fivenines.conditional.measuring.clusters import inverse, jackknife, ratio_of_sums
from fivenines.conditional.measuring.detection import detection
from fivenines.conditional.measuring.evolving import EvolvingAttacker
from fivenines.conditional.measuring.likelihood import nats_per_token, nats_ratio
from fivenines.conditional.measuring.red_team import RedTeamConfig, Target, red_team
from fivenines.conditional.measuring.results import Arm as Row
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.text_nats import Given, WordNats, text_nats
from fivenines.models.language_model import LanguageModel, SamplingConfig
from fivenines.records import Snippet, content_id
from fivenines.stats import Estimate, failure_rate_exact
from fivenines.store import RunFolder, Step

__all__ = ["RED_TEAM", "Arms", "Measured", "fold"]

RED_TEAM = RedTeamConfig(rounds=4, prompts=8, completions=16, trials=2)
ANEW = Backtracking(0.5, unit="line", segments=12, tries=4, budget=48)
LINE = 40  # tokens of such a line
FEW = 30  # broken lines: below that no jackknife
HELD_OUT_WINDOWS = 600
Sums = dict[str, list[float]]  # of a file: lines that break, lines, characters, texts that stop being Python
By = Literal["line", "character", "line or end"]


class Arms(Protocol):
    """What is measured: models by arm and seed, each with the step that it lies in."""

    @property
    def runs(self) -> RunFolder: ...
    def trained(self, name: str, seed: int) -> Model: ...
    def step(self, name: str, seed: int) -> Step: ...
    def seconds(self, name: str, seed: int) -> float: ...


# -- controls


def controls(model: Model, sampling: SamplingConfig, most: bool) -> dict[str, Writer]:
    """``most``: those too that take long."""
    if isinstance(model, LanguageModel):
        return {"none": model}
    tagged = partial(TaggedGenerator, model, sampling=sampling)
    found: dict[str, Writer] = {
        "none": tagged(TagPolicy()),
        "good tag": tagged(),
        "guidance 1": tagged(guidance=Guidance(1.0, 0.95)),
    }
    if most:
        found["guidance 2"] = tagged(guidance=Guidance(2.0, 0.95))
        found["lookahead"] = tagged(lookahead=Lookahead(relative=True))
        lines = replace(sampling, max_new_tokens=LINE)  # the room left is for the lines before
        found["lines anew by the rule"] = BacktrackingGenerator(
            TaggedGenerator(model, sampling=lines), LineRule(), ANEW, due=statement_is_due
        )
    return found


ATTACKED = ("good tag", "guidance 1")  # and whatever has no tags


def told(writer: Writer) -> dict[str, Any]:
    """All that a control is made of besides its model: rows are measured anew where it changes."""
    if isinstance(writer, BacktrackingGenerator):
        return {"of": told(writer.generator), "by": type(writer.scorer).__name__, **asdict(writer.settings)}
    if isinstance(writer, TaggedGenerator):
        return {
            "sampling": asdict(writer.sampling),
            "policy": repr(writer.policy), "guidance": repr(writer.guidance), "lookahead": repr(writer.lookahead)
        }  # fmt: skip
    return {}


def statement_is_due(text: str) -> bool:
    """Whether a statement begins after lines of code as the model writes them: not within brackets or a string."""
    layout = Layout()
    layout.decode(text)
    return not (layout.open or layout.quote or layout.joined)


# -- rates


def sums_of(files: Sequence[str], judged: Sequence[Judged]) -> Sums:
    found: Sums = {}
    for file, each in zip(files, judged, strict=True):
        one = found.setdefault(file, [0.0, 0.0, 0.0, 0.0])
        for place, value in enumerate((each.broken, each.lines, each.characters, each.wrong)):
            one[place] += value
    return found


def rate_of(names: Sequence[str], judged: Sequence[Judged], unit: str) -> Estimate:
    """Broken lines over lines, its interval by cluster; where few are broken, or all in one cluster, up to the exact
    bound on the share of texts with a broken line, which sees no clusters.
    """
    rows = np.array([(each.broken, each.lines) for each in judged], dtype=np.float64).reshape(-1, 2)
    broken, lines = rows.sum(axis=0).tolist()
    where = {name for name, each in zip(names, judged, strict=True) if each.broken}
    if broken >= FEW and len(where) > 1:
        found = jackknife(rows, ratio_of_sums, what="failure rate", clusters=np.array(names), unit=unit)
        return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))
    texts = rows[rows[:, 1] > 0.0]
    found = failure_rate_exact(int((texts[:, 0] > 0.0).sum()), len(texts))
    # a text of mean length with every line broken is what the bound allows for: longer ones are scaled down to it
    worst = max(1.0, float(texts[:, 0].max(initial=0.0)) * len(texts) / max(lines, 1.0))
    return replace(
        found,
        point=broken / lines if lines else math.nan,
        low=0.0,
        high=min(1.0, worst * found.high),
        assumptions=(
            *found.assumptions,
            "no text breaks more lines than a text has on average",
            "files are alike",
        ),
    )


def fold(base: Sequence[Sums], own: Sequence[Sums], by: By = "line") -> Estimate | None:
    """How many times fewer than ``base``, both over the same seeds; "line or end": the line with which a text stops
    being Python counts as one that fails. Clusters are files; None where the jackknife has too little to stand on.
    """
    files = sorted({file for sums in (*base, *own) for file in sums})
    rows = np.zeros((len(files), 4))
    for first, side in ((0, base), (2, own)):
        for sums in side:
            for place, file in enumerate(files):
                broken, lines, characters, wrong = sums.get(file, [0.0, 0.0, 0.0, 0.0])
                more = wrong if by == "line or end" else 0.0
                rows[place, first] += broken + more
                rows[place, first + 1] += characters if by == "character" else lines + more
    if rows[:, 2].sum() < FEW or min((rows[:, 0] > 0.0).sum(), (rows[:, 2] > 0.0).sum()) < 2:
        return None

    def measure(total: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = ratio_of_sums(total[..., 2:]) / ratio_of_sums(total[..., :2])
        return found

    ratio = jackknife(rows, measure, what="rate over that of plain likelihood", scale="log", unit="files")
    return inverse(ratio, "times fewer")


# -- the red team


class RuleShare:
    """Which share of the lines breaks a rule: what guides the attack. NaN where nothing can be judged."""

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        found = [judge(each.prompt, each.completion) for each in snippets]
        return np.array([each.broken / each.lines if each.lines else math.nan for each in found])


def attacked(name: str, coder: Coder, places: Places, folder: Path, config: RedTeamConfig) -> Estimate:
    """Broken lines after the prompts of the last round, drawn anew: those that chose the prompts flatter the attack."""
    attacker = EvolvingAttacker(
        lambda n, seed: [text for _, text in places.prompts(n, seed)],
        unit="statements",
        valid=prompt_fits,
        label="files held out",
    )
    target = Target(name, coder, RuleShare(), lambda each: judge(each.prompt, each.completion).broken > 0)
    starts = [text for _, text in places.prompts(60, 99_103)]
    run = red_team(attacker, target, starts, folder, config=config)
    last = [each.prompt for each in run.of_round(config.rounds)]  # by no means none: a fifth are fresh places
    asked = [prompt for prompt in last for _ in range(config.completions)]
    judged = [judge(*pair) for pair in zip(asked, coder.sample(asked, seed=99_104), strict=True)]
    return rate_of(asked, judged, "prompts")


# -- measuring


class Measured:
    """Arms on files held out: a row for each control, each a step that resumes.

    ``richest``: the arm that has all controls; it and plain likelihood are attacked.
    """

    def __init__(
        self,
        arms: Arms,
        files: Sequence[MarkedText],
        sampling: SamplingConfig,
        richest: str,
        sizes: Mapping[str, Any],
    ) -> None:
        self.arms, self.sampling, self.richest, self.sizes = arms, sampling, richest, sizes
        self.places = Places(files)
        self.asked = self.places.prompts(sizes["prompts"], 99_101)
        texts = [text for file in files for text in windows(file)]
        chosen = np.random.default_rng(0).permutation(len(texts))[:HELD_OUT_WINDOWS]
        self.texts = [texts[place] for place in chosen]
        # of which texts rows are: measured anew where they change
        self.shown = content_id(
            "held out", *(part for each in self.asked for part in each), *(t.text for t in self.texts)
        )
        self._plain: dict[int, WordNats] = {}  # of plain likelihood, by seed

    def rows(self, name: str, seed: int) -> Iterator[Row]:
        """Of all controls of an arm."""
        model = self.arms.trained(name, seed)
        nats: dict[Given, WordNats] = {}
        for control, writer in controls(model, self.sampling, name == self.richest).items():
            under_attack = bool(self.sizes["attacks"]) and self._is_attacked(name, control)
            inputs = {
                "model": self.arms.step(name, seed),
                "plain": self.arms.step("likelihood", seed),
                "control": told(writer),
                "red team": asdict(RED_TEAM) if under_attack else None,
                "sizes": dict(self.sizes),
                "judged": [RULE.version, JUDGING, ROOM, self.shown],
            }
            step = self.arms.runs.step(step_name("row", name, seed, control), inputs)
            if not step.is_done():
                with step:
                    coder = Coder(writer)
                    row = self._counted(coder, name, seed, control)
                    if under_attack:
                        config = replace(RED_TEAM, trials=self.sizes["attacks"])
                        about = f"{name}, {control}, seed {seed}"
                        found = attacked(about, coder, self.places, step.file("red-team"), config)
                        row = replace(row, attacked=found)
                    nats = nats or self._nats(model)
                    step.write_metrics(self._with_likelihood(row, nats).to_dict())
            yield Row.from_dict(step.metrics())

    def _is_attacked(self, name: str, control: str) -> bool:
        return name == "likelihood" or (name == self.richest and control in ATTACKED)

    def _counted(self, coder: Coder, name: str, seed: int, control: str) -> Row:
        """What a control breaks, and, where there is none, how well the tag foresees it."""
        files, texts = zip(*self.asked, strict=True)
        started = time.process_time()
        written = coder.sample(texts, seed=7)
        facts: dict[str, Any] = {"processor seconds": time.process_time() - started}
        judged = [judge(*pair) for pair in zip(texts, written, strict=True)]
        facts |= shares(judged)
        facts["by file"] = json.dumps(sums_of(files, judged))
        facts["seconds of training"] = self.arms.seconds(name, seed)
        if control == "none" and isinstance(coder.writer, TaggedGenerator):
            facts |= foreseen(coder, texts, written)
        broken, lines = sum(each.broken for each in judged), sum(each.lines for each in judged)
        return Row(name, seed, control, broken, lines, rate_of(files, judged, "files"), facts=facts)

    def _nats(self, model: Model) -> dict[Given, WordNats]:
        ways: tuple[Given, ...] = ("none",) if isinstance(model, LanguageModel) else ("good", "own")
        return {given: text_nats(model, self.texts, given=given) for given in ways}

    def _with_likelihood(self, row: Row, nats: Mapping[Given, WordNats]) -> Row:
        """Given good tags, and, told apart, given those of the rule."""
        files = [text.id.split("#")[0] for text in self.texts]
        first = next(iter(nats.values()))
        base = first if row.objective == "likelihood" else self._base(row.seed)
        relative = nats_ratio(first, base, clusters=files)
        facts = dict(row.facts)
        if "own" in nats:
            facts["nats over plain, own tags"] = nats_ratio(nats["own"], base, clusters=files).point
        return replace(row, nats=nats_per_token(first, clusters=files), relative=relative, facts=facts)

    def _base(self, seed: int) -> WordNats:
        if seed not in self._plain:
            self._plain[seed] = text_nats(self.arms.trained("likelihood", seed), self.texts)
        return self._plain[seed]


def shares(judged: Sequence[Judged]) -> dict[str, float]:
    """What stands beside a rate: of texts that are short, cut off or no Python a rate alone says little."""
    lines, characters = (sum(getattr(each, name) for each in judged) for name in ("lines", "characters"))
    cut, broken, wrong = (sum(getattr(each, name) for each in judged) for name in ("cut", "broken", "wrong"))
    return {
        "per 1,000 characters": 1000.0 * broken / characters if characters else math.nan,
        "compile": sum(each.compiles for each in judged) / len(judged),
        "stop being Python": wrong / len(judged),
        "failing lines with these": (broken + wrong) / (lines + wrong) if lines + wrong else math.nan,
        "lines not judged": cut / (cut + lines) if cut + lines else 1.0,
        "characters a line": characters / lines if lines else math.nan,
        "texts without a line": sum(not each.lines for each in judged) / len(judged),
    }


def foreseen(coder: Coder, texts: Sequence[str], written: Sequence[str]) -> dict[str, float]:
    """P(bad tag) where a prompt ends, as a detector of the first statement after it."""
    broken = [first_statement_breaks(*pair) for pair in zip(texts, written, strict=True)]
    known = [place for place, each in enumerate(broken) if each is not None]
    failed = np.array([broken[place] for place in known], dtype=np.bool_)
    if min(failed.sum(), (~failed).sum()) < 2:
        return {}
    tag = coder.foreseen([texts[place] for place in known])
    found = detection(failed, tag, [texts[place] for place in known]).auroc
    return {"AUROC": found.point, "AUROC low": found.low, "AUROC high": found.high}
