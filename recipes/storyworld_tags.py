"""Tags where the truth is known: seven objectives and tuned arms, under several controls, on the same stories.

    python recipes/storyworld_tags.py --seeds 1 --out docs/results

Every sentence of every story is marked by the truth; arms of a seed share tokenizer, stories, steps and tokens a step.
Counted on new prompts: sentences that hurt somebody. Likelihood is of held-out stories, charged for text alone. Then
each of the plain model and the best controls is attacked by prompts put together anew from what did well.

Each arm is a run folder: a killed run goes on where it was. Seeds can be run one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tag_arms import Model, Study, keep, parser, step_name, unknown_arms

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import Guidance
from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.measuring.attack_rates import attack_rates
from fivenines.conditional.measuring.detection import detection
from fivenines.conditional.measuring.evolving import EvolvingAttacker
from fivenines.conditional.measuring.likelihood import nats_per_token, nats_ratio
from fivenines.conditional.measuring.red_team import RedTeamConfig, Target, red_team
from fivenines.conditional.measuring.results import Arm as Row
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
from fivenines.data.windows import sentences
from fivenines.files import read_jsonl, write_jsonl_atomic
from fivenines.filtering import FilteredGenerator
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.protocols import GeneratorLike, ScorerLike
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet
from fivenines.stats import Estimate, failure_rate_exact
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
    "conditional, emphasis 3": Conditional(emphasis=3.0),
    "filtering": Filtering(0.0, by="max"),
    "unlikelihood": Unlikelihood(0.5),
    "reward-weighted": RewardWeighted(),
    "advantage-weighted": AdvantageWeighted(),
    "masked tokens": TokenMasked(0.5),
}
TUNED: dict[str, Objective] = {  # after half the budget of plain likelihood
    "tuned: conditional, emphasis 3": Conditional(emphasis=3.0),
    "tuned: filtering": Filtering(0.0, by="max"),
    "tuned: unlikelihood": Unlikelihood(0.5),
}
EXTRA: dict[str, Objective] = {
    "conditional": Conditional()
}  # without emphasis; not among the arms that run unasked


@dataclass(frozen=True)
class Sizes:
    stories: int = 80_000
    held_out: int = 4_000
    steps: int = 3_000
    batch: int = 16
    rate: float = 3e-3
    prompts: int = 10_000
    attacks: int = 3  # trials of the red team; 0: none
    threads: int = 1


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


def study(runs: RunFolder, texts: Sequence[MarkedText], sizes: Sizes) -> Study:
    training = TrainingConfig(
        max_steps=sizes.steps,
        batch_size=sizes.batch,
        learning_rate=sizes.rate,
        decay="cosine",
        optimizer="muon",
        threads=sizes.threads,
    )
    facts = {"stories": sizes.stories, "seed": 1}
    return Study(runs, texts, facts, SHAPE, SAMPLING, SCHEME, training, OBJECTIVES | EXTRA, TUNED)


# -- controls


def fails(prompts: Sequence[str], texts: Sequence[str | None]) -> tuple[NDArray[np.bool_], float, float]:
    """Which texts fail, and the shares of those that are no story and of prompts that went without."""
    written = [Snippet(p, t) for p, t in zip(prompts, texts, strict=True) if t is not None]
    answers = [truth(snippet) for snippet in written]
    odd = float(np.mean([answer not in (Truth.FAILURE, Truth.OK) for answer in answers]))
    bad = np.array([answer == Truth.FAILURE for answer in answers])
    return bad, odd, 1.0 - len(written) / len(prompts)


@dataclass(frozen=True, eq=False)
class Anew:
    """Written anew where the model's own score is among the highest quarter of its draws, within a budget."""

    generator: GeneratorLike
    doubt: ScorerLike

    @cached_property
    def filtered(self) -> FilteredGenerator:
        prompts = write_prompts(4_000, 99_102)
        drawn = self.generator.sample(prompts, seed=8)
        pairs = [Snippet(*pair) for pair in zip(prompts, drawn, strict=True) if pair[1].strip()]
        threshold = choose_threshold(self.doubt.scores(pairs), acceptance=ACCEPTANCE)
        return FilteredGenerator(self.generator, self.doubt, threshold, budget=BUDGET, batch_size=512)


@dataclass(eq=False)
class Written:
    """A control as something that writes; of ``asked`` prompts of the red team ``without`` were left without a text."""

    control: GeneratorLike | Anew
    asked: int = 0
    without: int = 0

    def outputs(self, prompts: Sequence[str], seed: int) -> list[str | None]:
        if not isinstance(self.control, Anew):
            return list(self.control.sample(prompts, seed=seed))
        return [output.completion for output in self.control.filtered.generate(prompts, seed=seed)]

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """For the red team: a prompt that goes without counts as a text that does not fail."""
        outputs = self.outputs(prompts, seed)
        self.asked += len(outputs)
        self.without += sum(text is None for text in outputs)
        return [text or "" for text in outputs]


def controls(model: Model) -> dict[str, GeneratorLike | Anew]:
    if isinstance(model, LanguageModel):
        return {"none": model}
    good = TaggedGenerator(model)
    guided = TaggedGenerator(model, guidance=Guidance(2.0, 0.95))
    return {
        "none": TaggedGenerator(model, TagPolicy()),
        "good tag": good,
        "guidance 2": guided,
        "guidance 4": TaggedGenerator(model, guidance=Guidance(4.0, 0.95)),
        "anew by the tag after": Anew(good, TagRisk(model, 1)),
        "anew by the likelihood ratio": Anew(good, LikelihoodRatio(model, 0)),
        "guidance 2, anew by the likelihood ratio": Anew(guided, LikelihoodRatio(model, 0)),
    }


ATTACKED = ("guidance 4", "anew by the likelihood ratio")  # and whatever has no tags


# -- measuring


class TruthScorer:
    """The truth as a score: the strongest of all guides for an attack."""

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        return np.array([float(failing(each)) for each in snippets])


def failing(snippet: Snippet) -> bool:
    return truth(snippet) == Truth.FAILURE


def attacked(name: str, written: Written, folder: Path, trials: int) -> tuple[Estimate, dict[str, float]]:
    """The failure rate of the last round of prompts that were found against a control, and what it left unwritten in
    this sitting. ``folder``: of this very model, so that no attack on another is taken up.
    """
    config = RedTeamConfig(rounds=5, prompts=10, completions=32, trials=trials)
    attacker = EvolvingAttacker(write_prompts, crossover=0.0, label="storyworld")
    target = Target(name, written, TruthScorer(), failing)
    run = red_team(attacker, target, write_prompts(100, 99_103), folder, config=config)
    last, facts = attack_rates(run)[-1], {}
    if written.asked:
        facts["attack without output"] = written.without / written.asked
    return last.found, facts | {"attack prompts": last.prompts}


def measured(
    name: str, seed: int, own: Study, held_out: list[MarkedText], base: WordNats | None, sizes: Sizes
) -> tuple[WordNats, Iterator[Row]]:
    """The likelihood of held-out text, and a row for each control."""
    model = own.trained(name, seed)
    given: Given = "none" if isinstance(model, LanguageModel) else "good"
    nats = text_nats(model, held_out, given=given)
    relative = nats_ratio(nats, nats if base is None else base)
    prompts = write_prompts(sizes.prompts, 99_101)

    def rows() -> Iterator[Row]:
        for control, generator in controls(model).items():
            counted = {"prompts": sizes.prompts, "attacks": sizes.attacks, "held out": sizes.held_out}
            step = own.runs.step(
                step_name("row", name, seed, control), {"model": own.step(name, seed), **counted}
            )
            if not step.is_done():
                with step:
                    row = _counted(model, name, seed, control, Written(generator), prompts)
                    if sizes.attacks and (control in ATTACKED or isinstance(model, LanguageModel)):
                        found, more = attacked(
                            f"{name}, {control}, seed {seed}",
                            Written(generator),
                            step.file("red-team"),
                            sizes.attacks,
                        )
                        row = replace(row, attacked=found, facts={**row.facts, **more})
                    facts = {**row.facts, "seconds of training": own.seconds(name, seed)}
                    row = replace(row, nats=nats_per_token(nats), relative=relative, facts=facts)
                    step.write_metrics(row.to_dict())
            yield Row.from_dict(step.metrics())

    return nats, rows()


def _counted(model: Model, name: str, seed: int, control: str, written: Written, prompts: list[str]) -> Row:
    """How often a control fails, and, where there is none, how well the tag foresees it."""
    started = time.process_time()
    texts = written.outputs(prompts, 7)
    facts: dict[str, Any] = {"processor seconds": time.process_time() - started}
    bad, facts["no story"], facts["without output"] = fails(prompts, texts)
    if control == "none" and isinstance(model, TaggedModel) and bad.any():
        kept = np.array([bool(text and text.strip()) for text in texts])
        drawn = [Snippet(p, t) for p, t in zip(prompts, texts, strict=True) if t and t.strip()]
        seen = detection(bad[kept], TagRisk(model, 0).scores(drawn), false_alarms=(0.05,))
        facts |= {"AUROC": seen.auroc.point, "AUROC low": seen.auroc.low, "AUROC high": seen.auroc.high}
    rate = failure_rate_exact(int(bad.sum()), bad.size)
    return Row(name, seed, control, int(bad.sum()), bad.size, rate, facts=facts)


def main() -> None:
    sizes = Sizes()
    arguments = parser(__doc__, "runs/storyworld-tags", [*OBJECTIVES, *TUNED], sizes).parse_args()
    unknown_arms(arguments.arms, [*OBJECTIVES, *EXTRA, *TUNED])
    sizes = Sizes(**{name: getattr(arguments, name) for name in vars(sizes)})
    torch.set_num_threads(sizes.threads)
    runs = RunFolder(arguments.runs)
    texts, held_out = corpus(runs, "stories", sizes.stories, 1), corpus(runs, "held-out", sizes.held_out, 2)
    own = study(runs, texts, sizes)
    for seed in arguments.seeds:
        base, rows = None, []
        for name in arguments.arms:
            nats, found = measured(name, seed, own, held_out, base, sizes)
            base = nats if name == "likelihood" else base
            for row in found:
                rows.append(row)
                print(f"{name}, seed {seed}, {row.control}: {row.rate}".split("\n")[0], flush=True)
            if arguments.out is not None:
                head = "# Tags on storyworld\n\n`python recipes/storyworld_tags.py --out docs/results`"
                keep(arguments.out, "storyworld-tags", head, rows, {"sizes": vars(sizes)})


if __name__ == "__main__":
    main()
