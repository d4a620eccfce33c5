"""Tags where the truth is known: seven objectives and tuned arms, under several controls, on the same stories.

    python recipes/storyworld_tags.py --out docs/results

Every sentence of every story is marked by the truth; arms of a seed share tokenizer, stories, steps and tokens a step.
Counted on new prompts: sentences that hurt somebody. Likelihood is of held-out stories, charged for text alone. Each
arm is a run folder: a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import Guidance
from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.measuring.detection import detection
from fivenines.conditional.measuring.frontier import write_frontier
from fivenines.conditional.measuring.likelihood import nats_per_token, nats_ratio
from fivenines.conditional.measuring.results import Arm as Row
from fivenines.conditional.measuring.results import pooled, results_table, write_arms
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import (
    AdvantageWeighted,
    Conditional,
    Filtering,
    Likelihood,
    Objective,
    RewardWeighted,
    TokenMasked,
    Unlikelihood,
)
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.risk import LikelihoodRatio, TagRisk
from fivenines.conditional.schemes import Banded, Scheme
from fivenines.conditional.text_nats import Given, WordNats, text_nats
from fivenines.conditional.training import Arm, First, fit_in_two, fit_tagged
from fivenines.data.windows import sentences
from fivenines.files import read_jsonl, write_json_atomic, write_jsonl_atomic
from fivenines.filtering import FilteredGenerator
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.protocols import GeneratorLike, ScorerLike
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet
from fivenines.stats import failure_rate_exact
from fivenines.store import RunFolder
from fivenines.storyworld import Truth, truth, write_prompts, write_snippets
from fivenines.threshold import choose_threshold

SHAPE = LanguageModelConfig(architecture="gpt2", layers=3, width=128, heads=4, context=96, tokenizer="word")
SAMPLING = SamplingConfig(temperature=0.8, top_p=0.95, stop="eos", max_new_tokens=32)
SCHEME = Scheme(
    (
        Banded("truth", (0.5,)),
        Banded("truth", (0.5,), ("<|was-good|>", "<|was-bad|>"), place="after"),
    ),
    untagged_start=0.5,
)
ACCEPTANCE, BUDGET = 0.75, 20  # of what is written anew where the model itself doubts

OBJECTIVES: dict[str, Objective] = {
    "likelihood": Likelihood(),
    "filtering": Filtering(0.0, by="max"),
    "conditional": Conditional(),
    "conditional, emphasis": Conditional(emphasis=3.0),
    "unlikelihood": Unlikelihood(0.5),
    "reward-weighted": RewardWeighted(),
    "advantage-weighted": AdvantageWeighted(),
    "masked tokens": TokenMasked(0.5),
}
TUNED: dict[str, Objective] = {  # after half the budget of plain likelihood
    "tuned: filtering": Filtering(0.0, by="max"),
    "tuned: conditional": Conditional(emphasis=3.0),
    "tuned: unlikelihood": Unlikelihood(0.5),
}


@dataclass(frozen=True)
class Sizes:
    stories: int = 80_000
    held_out: int = 4_000
    steps: int = 3_500
    batch: int = 32
    rate: float = 2e-3
    prompts: int = 20_000
    threads: int = 1

    def training(self, seed: int) -> TrainingConfig:
        return TrainingConfig(
            max_steps=self.steps,
            batch_size=self.batch,
            learning_rate=self.rate,
            decay="cosine",
            seed=seed,
            threads=self.threads,
        )


# -- the corpus


def marked(story: Snippet) -> MarkedText:
    """A story with the truth of each sentence, read in the context before it. The first tells who is there."""
    text, found = story.text, sentences(story.text)
    scores = [0.0]
    for before, one in pairwise(found):
        answer = truth(Snippet(text[: before.end], text[one.start : one.end]))
        scores.append(float(answer == Truth.FAILURE))
    spans = tuple((one.start, one.end) for one in found)
    return MarkedText(text, story.source, (Marks("truth", "1", spans, tuple(scores)),))


def corpus(runs: RunFolder, name: str, stories: int, seed: int) -> list[MarkedText]:
    step = runs.step(name, {"stories": stories, "seed": seed})
    if not step.is_done():
        with step:
            rows = (marked(story).to_row() for story in write_snippets(stories, seed))
            step.write_metrics({"stories": write_jsonl_atomic(step.path / "marked.jsonl", rows)})
    return [MarkedText.from_row(row) for _, row in read_jsonl(step.path / "marked.jsonl")]


# -- training


def trained(
    name: str, seed: int, texts: list[MarkedText], runs: RunFolder, sizes: Sizes
) -> TaggedModel | LanguageModel:
    """The model of an arm; trained, or read where it was."""
    tuned = name in TUNED
    objective = TUNED[name] if tuned else OBJECTIVES[name]
    inputs = {
        "objective": objective.to_dict(),
        "scheme": SCHEME.to_dict(),
        "sizes": repr(sizes),
        "seed": seed,
    }
    step = runs.step(f"{name}-{seed}".replace(" ", "-").replace(":", "").replace(",", ""), inputs)
    folder = step.path / "model"
    if not step.is_done():
        with step:
            started, plain = time.process_time(), _scratch(texts, seed)
            arm = Arm(objective, sizes.training(seed), SHAPE.context)
            model: TaggedModel | LanguageModel
            if tuned:
                first = First(runs.path / f"half-{seed}")
                scheme = SCHEME if objective.with_tags else None
                model, _ = fit_in_two(plain, texts, arm, first, scheme=scheme, folder=folder, progress=True)
            else:
                model = TaggedModel.extend(plain, SCHEME, seed=seed) if objective.with_tags else plain
                fit_tagged(model, texts, arm, folder=folder, progress=True)
            model.save(folder)
            step.write_metrics({"processor seconds": time.process_time() - started})
    return TaggedModel.load(folder) if objective.with_tags else LanguageModel.load(folder)


def _scratch(texts: Sequence[MarkedText], seed: int) -> LanguageModel:
    shape = LanguageModelConfig(**(asdict(SHAPE) | {"seed": seed}))
    return LanguageModel.create([text.text for text in texts], shape, SAMPLING)


# -- measuring


def fails(prompts: Sequence[str], texts: Sequence[str | None]) -> tuple[NDArray[np.bool_], float, float]:
    """Which texts fail, and the shares of those that are no story and of prompts that went without."""
    written = [Snippet(p, t) for p, t in zip(prompts, texts, strict=True) if t is not None]
    answers = [truth(snippet) for snippet in written]
    odd = float(np.mean([answer not in (Truth.FAILURE, Truth.OK) for answer in answers]))
    bad = np.array([answer == Truth.FAILURE for answer in answers])
    return bad, odd, 1.0 - len(written) / len(prompts)


Control = Callable[[list[str], list[str], int], Sequence[str | None]]  # prompts, calibration prompts, seed


def plainly(generator: GeneratorLike) -> Control:
    return lambda prompts, calibration, seed: generator.sample(prompts, seed=seed)


def anew(generator: GeneratorLike, doubt: ScorerLike) -> Control:
    """Written anew where the model's own score is among the highest quarter of its draws."""

    def control(prompts: list[str], calibration: list[str], seed: int) -> Sequence[str | None]:
        drawn = generator.sample(calibration, seed=seed + 1)
        pairs = [Snippet(*pair) for pair in zip(calibration, drawn, strict=True) if pair[1].strip()]
        threshold = choose_threshold(doubt.scores(pairs), acceptance=ACCEPTANCE)
        safe = FilteredGenerator(generator, doubt, threshold, budget=BUDGET, batch_size=512)
        return [output.completion for output in safe.generate(prompts, seed=seed)]

    return control


def controls(model: TaggedModel | LanguageModel) -> dict[str, Control]:
    if isinstance(model, LanguageModel):
        return {"none": plainly(model)}
    free, good = TaggedGenerator(model, TagPolicy()), TaggedGenerator(model)
    return {
        "none": plainly(free),
        "good tag": plainly(good),
        "good tag, guidance 2": plainly(TaggedGenerator(model, guidance=Guidance(2.0, 0.95))),
        "good tag, guidance 4": plainly(TaggedGenerator(model, guidance=Guidance(4.0, 0.95))),
        "anew by the tag after": anew(good, TagRisk(model, 1)),
        "anew by the likelihood ratio": anew(good, LikelihoodRatio(model, 0)),
    }


def measured(
    name: str,
    seed: int,
    model: TaggedModel | LanguageModel,
    held_out: list[MarkedText],
    base: WordNats | None,
    sizes: Sizes,
) -> tuple[list[Row], WordNats, dict[str, Any]]:
    """The rows of a model, its likelihood of held-out text, and how its tag foresees failures."""
    given: Given = "good" if isinstance(model, TaggedModel) else "none"
    nats = text_nats(model, held_out, given=given)
    relative = nats_ratio(nats, nats if base is None else base)
    prompts, calibration = write_prompts(sizes.prompts, 99_101), write_prompts(4_000, 99_102)
    rows: list[Row] = []
    seen: dict[str, Any] = {}
    for control, write in controls(model).items():
        started = time.process_time()
        texts = write(prompts, calibration, 7)
        spent = time.process_time() - started
        bad, odd, without = fails(prompts, texts)
        facts = {"no story": odd, "without output": without, "processor seconds": spent}
        rate = failure_rate_exact(int(bad.sum()), bad.size)
        rows.append(
            Row(
                name,
                seed,
                control,
                int(bad.sum()),
                bad.size,
                rate,
                nats_per_token(nats),
                relative,
                facts=facts,
            )
        )
        if control == "none" and isinstance(model, TaggedModel) and bad.any():
            kept = np.array([bool(text and text.strip()) for text in texts])
            drawn = [Snippet(p, t) for p, t in zip(prompts, texts, strict=True) if t and t.strip()]
            seen = detection(bad[kept], TagRisk(model, 0).scores(drawn), false_alarms=(0.05,)).to_dict()
    return rows, nats, seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/storyworld-tags"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", default=[*OBJECTIVES, *TUNED], metavar="ARM")
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--out", type=Path, help="where the results go")
    arguments = parser.parse_args()
    sizes = Sizes(**{name: getattr(arguments, name) for name in asdict(Sizes())})
    torch.set_num_threads(sizes.threads)
    runs = RunFolder(arguments.runs)
    texts, held_out = corpus(runs, "stories", sizes.stories, 1), corpus(runs, "held-out", sizes.held_out, 2)
    rows: list[Row] = []
    detections: dict[str, Any] = {}
    for seed in arguments.seeds:
        base: WordNats | None = None
        for name in arguments.arms:
            model = trained(name, seed, texts, runs, sizes)
            found, nats, seen = measured(name, seed, model, held_out, base, sizes)
            base = nats if name == "likelihood" else base
            rows += found
            detections |= {f"{name}, seed {seed}": seen} if seen else {}
            for row in found:
                print(f"{name}, seed {seed}, {row.control}: {row.rate}".split("\n")[0], flush=True)
    print(results_table(rows))
    if arguments.out is not None:
        written(arguments.out, rows, detections, sizes)


def written(out: Path, rows: list[Row], detections: dict[str, Any], sizes: Sizes) -> None:
    """The rows as they are, the table, and the plot."""
    write_arms(out / "storyworld-tags.jsonl", rows)
    machine = f"{platform.machine()}, {sizes.threads} threads, Python {platform.python_version()}"
    facts = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "sizes": asdict(sizes)}
    write_json_atomic(out / "storyworld-tags.json", facts | {"foreseen": detections})
    command = "python recipes/storyworld_tags.py --out docs/results"
    head = f"# Tags on storyworld\n\n{facts['date']}, {machine}. `{command}`\n\n"
    (out / "storyworld-tags.md").write_text(head + results_table(rows), encoding="utf-8")
    if all(one.cost is not None for one in pooled(rows)):
        write_frontier(out / "storyworld-tags", rows)


if __name__ == "__main__":
    main()
