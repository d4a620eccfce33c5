"""Python style: tags on the standard library's own source, marked by pycodestyle, under several controls.

    python recipes/pep8.py --seeds 1 --out docs/results

Small models of each objective read as many steps of the same code. Besides, two arms learn from text of their own:
most of their steps are on the library, then they write, the rule marks it, and they go on with both, three times.
All go on with code of held-out files; what they write is judged line by line. Likelihood is of held-out files, charged
for text alone.

Each arm is a run folder: a killed run goes on where it was. Two processes may have an arm each, once that of plain
likelihood is there, which the others are compared with. ``--train`` trains and measures nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from pep8_measured import Measured, Sums, fold
from python_code import MARKING, RULE, WINDOW, Places, library, marked, windows
from python_coder import ROOM, Coder, own_texts
from tag_arms import Model, OwnText, Study, keep, objectives, parser, tuned, unknown_arms

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.marks import MarkedText
from fivenines.conditional.measuring.results import Arm as Row
from fivenines.conditional.measuring.results import Unit
from fivenines.conditional.objectives import Conditional, Filtering, Objective
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Banded, Scheme
from fivenines.files import atomic_file, read_jsonl, write_jsonl_atomic
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import content_id
from fivenines.report.words import interval_text, point_text
from fivenines.store import RunFolder, TaskLock

SHAPE = LanguageModelConfig(
    architecture="llama", layers=3, width=192, heads=6, context=256, tokenizer="lines", vocabulary=2048
)
SAMPLING = SamplingConfig(temperature=0.7, top_p=0.9, stop="eos", max_new_tokens=120, batch_size=256)
SCHEME = Scheme((Banded("pycodestyle", (0.5,), drop=0.0),))
HELD_OUT = 40  # files
# shares of the steps that come after a model has written once, twice, three times
ROUNDS = (1 / 8, 1 / 8, 1 / 8)
LIBRARY = 0.5  # texts of the library among these, for each of its own
OWN_ROOM = 240  # tokens of a text of one's own
# how texts are made: all is made anew where it changes
MADE = {"rule": RULE.version, "window": WINDOW, "room": ROOM}
OBJECTIVES, TUNED = objectives("conditional", Conditional()), tuned("conditional", Conditional())
OWN: dict[str, Objective] = {  # the last part of the budget on text of its own as well
    "conditional, own text": Conditional(),
    "filtering, own text": Filtering(0.0, by="max"),
}


@dataclass(frozen=True)
class Sizes:
    steps: int = 1_600
    batch: int = 4
    rate: float = 2.5e-3
    own: int = 768  # texts of its own, a round
    prompts: int = 640
    attacks: int = 2  # trials of the red team; 0: none
    threads: int = 1


# -- training


def corpus(runs: RunFolder) -> tuple[list[MarkedText], list[MarkedText]]:
    """The files of the library, marked: those to learn from and those held out."""
    texts = library()
    random.Random(0).shuffle(texts)
    step = runs.step(
        "files", {"files": content_id("library", *(part for each in texts for part in each)), **MADE}
    )
    if not step.is_done():
        with TaskLock(runs.path / "locks" / "files"):
            if not step.is_done():  # by another process meanwhile
                with step:
                    rows = (marked(*each).to_row() for each in texts)
                    step.write_metrics({"files": write_jsonl_atomic(step.path / "marked.jsonl", rows)})
    files = [MarkedText.from_row(row) for _, row in read_jsonl(step.path / "marked.jsonl")]
    files = [file for file in files if file.marks[0].spans]
    return files[HELD_OUT:], files[:HELD_OUT]


def arms(runs: RunFolder, files: Sequence[MarkedText], sizes: Sizes) -> OwnText:
    """All arms on the same files."""
    texts = [window for file in files for window in windows(file)]
    training = TrainingConfig(
        max_steps=sizes.steps,
        batch_size=sizes.batch,
        learning_rate=sizes.rate,
        decay="cosine",
        optimizer="muon",
        precision="bfloat16",
        threads=sizes.threads,
    )
    facts = {"windows": content_id("windows", *(text.text for text in texts)), **MADE}
    study = Study(runs, texts, facts, SHAPE, SAMPLING, SCHEME, training, OBJECTIVES, TUNED)
    places = Places(files)

    def write(model: Model, seed: int, number: int) -> Iterator[MarkedText]:
        """Go on at places in the files that are learnt from: freely, and where there are tags half of it under the
        good one.
        """
        asked = [prompt for _, prompt in places.prompts(sizes.own, 1_000 * seed + number)]
        ways: list[TaggedGenerator | LanguageModel] = [model] if isinstance(model, LanguageModel) else [
            TaggedGenerator(model, TagPolicy()), TaggedGenerator(model)
        ]  # fmt: skip
        for place, way in enumerate(ways):
            part = asked[place :: len(ways)]
            pairs = zip(part, Coder(way).sample(part, seed=1_000 * seed + number), strict=True)
            yield from own_texts(way.tokenizer, pairs, OWN_ROOM)

    return OwnText(
        study,
        OWN,
        write,
        ROUNDS,
        LIBRARY,
        {"texts": sizes.own, "own room": OWN_ROOM, "marking": MARKING, **MADE},
    )


HEAD = """# Tags on Python style

`python recipes/pep8.py --out docs/results`

Failures are lines that break a rule of pycodestyle (E and W, without W503 and W504), of the lines that are not blank
and that could be judged, after places in held-out files; intervals by file. A text that stops being Python is judged
up to there; the line with which it does is counted apart. Nats over plain: of held-out files by the
model as it is, a tagged one given its good tags, whatever the control. Under attack: lines after the prompts of the
last round, drawn anew."""
FACTS: dict[str, Unit] = {
    "per 1,000 characters": "number",
    "compile": "share",
    "stop being Python": "share",
    "failing lines with these": "share",
    "lines not judged": "share",
    "characters a line": "number",
    "texts without a line": "share",
    "processor seconds": "number",
    "AUROC": "number",
    "nats over plain, own tags": "number",
}
RICHEST = "conditional, own text"


def fewer(rows: Sequence[Row]) -> str:
    """How many times fewer than plain likelihood of the same seeds: by line, by character, and by line where the one
    with which a text stops being Python counts too.
    """
    counted: dict[tuple[str, str], dict[int, Sums]] = {}
    for row in rows:
        counted.setdefault((row.objective, row.control), {})[row.seed] = json.loads(str(row.facts["by file"]))
    plain = counted.get(("likelihood", "none"), {})
    heads = ["objective", "control", "seeds", "times fewer a line", "interval", "a character", "interval"]
    heads += ["a line, no Python too", "interval"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for (objective, control), own in counted.items():
        seeds = sorted(set(own) & set(plain))
        cells = [objective, control, str(len(seeds))]
        for by in ("line", "character", "line or end"):
            found = fold([plain[s] for s in seeds], [own[s] for s in seeds], by) if seeds else None
            cells += [point_text(found, as_share=False), interval_text(found, as_share=False)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    sizes = Sizes()
    options = parser(__doc__, "runs/pep8", [*OBJECTIVES, *TUNED, *OWN], sizes)
    options.add_argument("--train", action="store_true", help="train and measure nothing")
    arguments = options.parse_args()
    unknown_arms(arguments.arms, [*OBJECTIVES, *TUNED, *OWN])
    sizes = Sizes(**{name: getattr(arguments, name) for name in vars(sizes)})
    torch.set_num_threads(sizes.threads)
    runs = RunFolder(arguments.runs)
    files, held_out = corpus(runs)
    every = arms(runs, files, sizes)
    measured = Measured(every, held_out, SAMPLING, RICHEST, asdict(sizes))
    for seed in arguments.seeds:
        for name in arguments.arms:
            if arguments.train:
                every.trained(name, seed)
                continue
            rows = []
            for row in measured.rows(name, seed):
                rows.append(row)
                print(f"{name}, seed {seed}, {row.control}: {row.rate}".split("\n")[0], flush=True)
            if arguments.out is not None:
                rows_now = keep(arguments.out, "python-style", HEAD, rows, asdict(sizes), FACTS)
                with atomic_file(arguments.out / "python-style-fewer.md") as handle:
                    handle.write("# How many times fewer than plain likelihood\n\n" + fewer(rows_now))


if __name__ == "__main__":
    main()
