"""Claim: through the filter, at least 20 times the accepted outputs per second of the plain way, and at least
1.5 times those of a careful batched loop; same models, prompts, threshold, budget and sampling settings.

    python benchmarks/filter_throughput.py                        the demo's sizes, trained here in minutes
    python benchmarks/filter_throughput.py --size all             larger generators and classifiers as well
    python benchmarks/filter_throughput.py --models demo/runs     those of a finished task
    python benchmarks/filter_throughput.py --out docs/results     also as filter-throughput.md and .json there

The opponents use transformers' own ``generate`` and see the models as transformers loads them:
  plain   one completion at a time, the classifier on it, again until it is accepted
  loop    all pending prompts, sorted by length and padded on the left, in calls of ``generate`` with 2, 4
          or 8 returns each and at most 128 or 2048 rows a call; the classifier on all of them, sorted by
          length; until all are accepted. Whichever of the six settings is fastest on average counts.
All stop at the end-of-text token, which the generators learned to write after their sentence. The opponents ask
the classifier through transformers too, in batches sorted by length; weights, precision, calibration and
threshold are the same. Each repetition has prompts of its own, so that no cache is warm, and all methods take
turns within it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from fivenines.filtering import FilteredGenerator
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.devices import autocast, uses_bfloat16
from fivenines.models.encoders import EncoderConfig
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet
from fivenines.storyworld import Truth, truth, write_corpus, write_prompts, write_snippets

NEW_TOKENS = 32
BUDGET = 50
RETURNS = (2, 4, 8)
JUDGED = 128  # texts per call of the classifier: some 8,000 tokens (0.47 ms a text; of 2,000: 0.52)
ROWS = (128, 2048)  # per call of generate: little waiting for the longest row, or few calls
GOALS = {"plain": 20.0, "loop": 1.5}
OURS = "fivenines"


@dataclass(frozen=True)
class Size:
    """Layers and width of a generator and a classifier, and how long the generator is trained."""

    generator: tuple[int, int]
    classifier: tuple[int, int]
    steps: int


SIZES = {
    "demo": Size((3, 128), (4, 128), 600),
    "small classifier": Size((3, 128), (1, 64), 600),
    "large classifier": Size((3, 128), (6, 384), 600),
    "large generator": Size((6, 384), (4, 128), 200),
}


@dataclass
class Setup:
    """What all methods share."""

    generator: LanguageModel
    classifier: Classifier
    threshold: float
    model: Any  # the generator as transformers loads it
    tokenizer: Any
    judge: Any  # the classifier as transformers loads it
    reader: Any  # its tokenizer


@dataclass
class Run:
    """One method on one set of prompts."""

    accepted: int
    drawn: int
    seconds: float
    cpu_seconds: float  # of all threads; other people's load on the machine disturbs it less

    @property
    def rate(self) -> float:
        return self.accepted / self.seconds


@dataclass
class Result:
    """All repetitions of one method."""

    runs: list[Run] = field(default_factory=list)

    @property
    def rates(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([run.rate for run in self.runs])

    @property
    def per_cpu_second(self) -> float:
        return sum(run.accepted for run in self.runs) / sum(run.cpu_seconds for run in self.runs)

    def summary(self) -> dict[str, float]:
        drawn, accepted = (sum(getattr(run, name) for run in self.runs) for name in ("drawn", "accepted"))
        return {
            "outputs per second": float(self.rates.mean()),
            "standard deviation": float(self.rates.std(ddof=1)) if len(self.runs) > 1 else 0.0,
            "outputs per CPU second": self.per_cpu_second,
            "draws per output": drawn / accepted,
            "draws per second": drawn / sum(run.seconds for run in self.runs),
            "outputs": accepted,
        }


# -- the three ways


def ours(setup: Setup, prompts: Sequence[str], seed: int) -> Run:
    batch = setup.generator.sampling.batch_size
    safe = FilteredGenerator(
        setup.generator, setup.classifier, setup.threshold, budget=BUDGET, batch_size=batch
    )
    begin = _now()
    accepted = sum(not output.abstained for output in safe.generate(prompts, seed=seed))
    return Run(accepted, safe.stats.drawn, *_since(begin))


def plain(setup: Setup, prompts: Sequence[str], seed: int) -> Run:
    torch.manual_seed(seed)
    accepted = drawn = 0
    begin = _now()
    for prompt in prompts:
        for _ in range(BUDGET):
            completion = _generate(setup, [prompt], 1)[0]
            drawn += 1
            if _passes(setup, [prompt], [completion])[0]:
                accepted += 1
                break
    return Run(accepted, drawn, *_since(begin))


def loop(setup: Setup, prompts: Sequence[str], seed: int, returns: int, rows: int) -> Run:
    torch.manual_seed(seed)
    accepted = drawn = 0
    begin = _now()
    pending = sorted(prompts, key=len)
    for _ in range(-(-BUDGET // returns)):
        left: list[str] = []
        for start in range(0, len(pending), rows // returns):
            part = pending[start : start + rows // returns]
            completions = _generate(setup, part, returns)
            drawn += len(completions)
            repeated = [prompt for prompt in part for _ in range(returns)]
            each = _passes(setup, repeated, completions).reshape(len(part), returns)
            passed: list[bool] = np.any(each, axis=1).tolist()
            accepted += sum(passed)
            left.extend(prompt for prompt, done in zip(part, passed, strict=True) if not done)
        pending = left
        if not pending:
            break
    return Run(accepted, drawn, *_since(begin))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begin: tuple[float, float]) -> tuple[float, float]:
    """Seconds, and seconds of CPU."""
    wall, cpu = _now()
    return wall - begin[0], cpu - begin[1]


@torch.inference_mode()
def _generate(setup: Setup, prompts: Sequence[str], returns: int) -> list[str]:
    """``returns`` completions per prompt, in order, by transformers."""
    batch = setup.tokenizer(list(prompts), return_tensors="pt", padding=True)
    ids = setup.model.generate(
        **batch,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_return_sequences=returns,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=setup.tokenizer.pad_token_id,
    )
    new = ids[:, batch["input_ids"].shape[1] :]
    return [text.strip() for text in setup.tokenizer.batch_decode(new, skip_special_tokens=True)]


@torch.inference_mode()
def _passes(setup: Setup, prompts: Sequence[str], completions: Sequence[str]) -> NDArray[np.bool_]:
    """What the classifier lets through, (n,), by transformers, in batches of ``JUDGED`` sorted by length."""
    margins = np.full(len(prompts), np.inf)  # an empty completion never passes
    written = [i for i, completion in enumerate(completions) if completion]
    order = sorted(written, key=lambda i: len(prompts[i]) + len(completions[i]))
    for start in range(0, len(order), JUDGED):
        rows = order[start : start + JUDGED]
        texts = [[prompts[i] for i in rows], [completions[i] for i in rows]]
        if not setup.reader.sep_token:  # a decoder reads one text
            texts = [[f"{first} {second}" for first, second in zip(*texts, strict=True)]]
        batch = setup.reader(*texts, return_tensors="pt", padding=True, truncation=True)
        with autocast(setup.classifier.config.precision, torch.device("cpu")):
            logits = setup.judge(**batch).logits.float()
        margins[rows] = (logits[:, 1] - logits[:, 0]).double().numpy()
    passed: NDArray[np.bool_] = setup.classifier.calibration(margins) < setup.threshold
    return passed


# -- models


def make_models(size: Size, folder: Path) -> None:
    """Train a generator and a classifier on storyworld; well enough that sentences end and scores differ."""
    layers, width = size.generator
    shape = LanguageModelConfig(
        layers=layers, width=width, heads=max(4, width // 64), context=96, tokenizer="word"
    )
    texts = write_corpus(20_000, seed=1)
    generator = LanguageModel.create(texts, shape)
    generator.fit(
        texts, training=TrainingConfig(max_steps=size.steps, learning_rate=2e-3, precision="float32")
    )
    generator.save(folder / "generator")
    layers, width = size.classifier
    encoder = EncoderConfig(
        layers=layers, width=width, heads=max(2, width // 64), tokenizer="word", max_length=96
    )
    snippets = write_snippets(12_000, seed=2)
    failures = [s for s in snippets if truth(s) is Truth.FAILURE]
    oks = [s for s in snippets if truth(s) is not Truth.FAILURE][: 5 * len(failures)]
    judgments = [Judgment(s.id, Answer.FAILURE) for s in failures] + [Judgment(s.id, Answer.OK) for s in oks]
    classifier = Classifier.create([s.text for s in snippets], ClassifierConfig(), encoder)
    steps = TrainingConfig(max_steps=min(200, size.steps), learning_rate=5e-4)
    classifier.fit(failures + oks, judgments, training=steps)
    classifier.save(folder / "classifier")


def load(folder: Path, acceptance: float, batch_size: int) -> Setup:
    """The models, and the threshold that ``acceptance`` of the unfiltered completions pass."""
    written, judging = _inside(folder / "generator"), _inside(folder / "classifier")
    generator = LanguageModel.load(written).with_sampling(
        temperature=1.0, top_k=0, top_p=1.0, stop="eos", max_new_tokens=NEW_TOKENS, batch_size=batch_size
    )
    classifier = Classifier.load(judging)
    prompts = write_prompts(512, seed=3)
    completions = generator.sample(prompts, seed=3)
    snippets = [Snippet(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
    scores = classifier.scores(snippets)
    threshold = float(np.nanquantile(scores, acceptance))
    if abs(float(np.mean(scores < threshold)) - acceptance) > 0.05:
        raise SystemExit(f"the classifier gives so many equal scores that none accepts {acceptance:g}")
    auto: Any = AutoModelForSequenceClassification
    model = AutoModelForCausalLM.from_pretrained(written, dtype=torch.float32)
    judge = auto.from_pretrained(judging, dtype=torch.float32)
    model.train(False)
    judge.train(False)
    tokenizer = AutoTokenizer.from_pretrained(written, padding_side="left")
    return Setup(
        generator, classifier, threshold, model, tokenizer, judge, AutoTokenizer.from_pretrained(judging)
    )


def _inside(folder: Path) -> Path:
    """A task keeps its models one folder further in."""
    return folder / "model" if (folder / "model").is_dir() else folder


# -- measuring


def measure(setup: Setup, repetitions: int, count: int) -> dict[str, Result]:
    methods: dict[str, Callable[[Sequence[str], int], Run]] = {
        OURS: lambda prompts, seed: ours(setup, prompts, seed),
        # slow: every fourth prompt must do; prompts differ much in acceptance, so fewer would not
        "plain": lambda prompts, seed: plain(setup, prompts[::4], seed),
    }
    for returns in RETURNS:
        for rows in ROWS:
            name = f"loop, {returns} returns, {rows} rows"
            methods[name] = lambda prompts, seed, k=returns, n=rows: loop(setup, prompts, seed, k, n)  # type: ignore[misc]
    results = {name: Result() for name in methods}
    for method in methods.values():
        method(write_prompts(8, seed=4), 0)
    for repetition in range(repetitions):
        prompts = write_prompts(count, seed=100 + repetition)
        names = list(methods)
        for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
            results[name].runs.append(methods[name](prompts, repetition))
            print(f"  {repetition + 1}  {name:28} {results[name].runs[-1].rate:8.1f} outputs/s", flush=True)
    return results


def judge(results: dict[str, Result]) -> dict[str, Any]:
    """The best loop, and our rate over each opponent's, repetition by repetition."""
    loops = [name for name in results if name.startswith("loop")]
    best = max(loops, key=lambda name: results[name].rates.mean())
    verdict: dict[str, Any] = {"best loop": best}
    for opponent, name in (("plain", "plain"), ("loop", best)):
        ratios = results[OURS].rates / results[name].rates
        mean = float(results[OURS].rates.mean() / results[name].rates.mean())
        verdict[opponent] = {
            "times": mean,
            "times by CPU": results[OURS].per_cpu_second / results[name].per_cpu_second,
            "lowest": float(ratios.min()),
            "highest": float(ratios.max()),
            "goal": GOALS[opponent],
            "reached": mean >= GOALS[opponent],
        }
    return verdict


def table(name: str, size: str, results: dict[str, Result], verdict: dict[str, Any]) -> str:
    lines = [
        f"### {name}: {size}",
        "",
        "| | outputs per second | sd | per CPU second | draws per output | draws per second | fivenines is faster by |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, result in results.items():
        row = result.summary()
        times = results[OURS].rates.mean() / result.rates.mean()
        mark = " (best loop)" if method == verdict["best loop"] else ""
        lines.append(
            f"| {method}{mark} | {row['outputs per second']:.1f} | {row['standard deviation']:.1f} "
            f"| {row['outputs per CPU second']:.1f} | {row['draws per output']:.2f} | {row['draws per second']:.1f} "
            f"| {f'{times:.1f}x' if method != OURS else ''} |"
        )
    for opponent in GOALS:
        v = verdict[opponent]
        word = "reached" if v["reached"] else "missed"
        spread = (
            f"{v['lowest']:.1f} to {v['highest']:.1f} over repetitions, {v['times by CPU']:.1f} by CPU time"
        )
        lines.append(f"\n{opponent}: {v['times']:.1f} times as fast ({spread}); goal {v['goal']:g}: {word}.")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=Path, help="a folder with generator/ and classifier/")
    parser.add_argument("--size", default="demo", choices=[*SIZES, "all"])
    parser.add_argument("--keep", type=Path, help="folder for the models trained here, used again if there")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--acceptance", type=float, default=0.5, help="share of draws below the threshold")
    parser.add_argument("--batch-size", type=int, default=512, help="rows of the sampler, draws per call")
    parser.add_argument("--out", type=Path, help="folder for the table and the figures")
    options = parser.parse_args()
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        parser.error(
            "this measures processors, and here is an accelerator. Set CUDA_VISIBLE_DEVICES= to hide it."
        )
    torch.set_num_threads(options.threads)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    names = list(SIZES) if options.size == "all" else [options.size]
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: (options.keep or Path(temporary)) / name.replace(" ", "-") for name in names}
        if options.models is not None:
            folders = {"given": options.models}
        reports = {name: _report(name, folder, options) for name, folder in folders.items()}
    if options.out is not None:
        _write(options.out, reports, options)
    return 0 if all(v["reached"] for v in _verdicts(reports)) else 1


def _report(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    if name in SIZES and not (folder / "classifier" / "fivenines.json").is_file():
        print(f"{name}: training the models", flush=True)
        make_models(SIZES[name], folder)
    setup = load(folder, options.acceptance, options.batch_size)
    size = (
        f"generator of {setup.model.num_parameters() / 1e6:.1f} million parameters, "
        f"classifier of {setup.classifier.model.num_parameters() / 1e6:.1f}"
    )
    print(f"{name}: {size}; threshold {setup.threshold:.4f}", flush=True)
    results = measure(setup, options.repetitions, options.prompts)
    verdict = judge(results)
    text = table(name, size, results, verdict)
    print(text, flush=True)
    methods = {
        method: result.summary() | {"runs": [asdict(r) for r in result.runs]}
        for method, result in results.items()
    }
    return {"table": text, "size": size, "verdict": verdict, "methods": methods, "threshold": setup.threshold}


def _verdicts(reports: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [report["verdict"][opponent] for report in reports.values() for opponent in GOALS]


def _write(folder: Path, reports: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    machine = f"{options.threads} threads, {platform.machine()}, {versions}"
    bfloat16 = uses_bfloat16("auto", torch.device("cpu"))
    precision = "bfloat16" if bfloat16 else "float32"
    settings = (
        f"{options.prompts} prompts (the plain way, which is slow, every fourth of them) and "
        f"{options.repetitions} repetitions, in turns; threshold at an "
        f"acceptance of {options.acceptance:g}; batch size {options.batch_size}; at most {NEW_TOKENS} new "
        f"tokens; the generator in float32, the classifier in {precision} for all; budget {BUDGET}."
    )
    command = "python " + " ".join(["benchmarks/filter_throughput.py", *sys.argv[1:]])
    head = f"# Accepted outputs per second\n\n{machine}. {settings} Made by `{command}`.\n"
    body = "\n".join([head, *(report["table"] for report in reports.values())])
    (folder / "filter-throughput.md").write_text(body, encoding="utf-8")
    figures = {"machine": machine, "settings": settings, "sizes": reports}
    (folder / "filter-throughput.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
