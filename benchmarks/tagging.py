"""Claims: sentences are scored in context at least 3 times as fast as by the text-classification pipeline of
transformers with the same model on the same cores; two Ray workers do at least 1.8 times what one does; memory does
not grow with the corpus.

    python benchmarks/tagging.py                       all three, on real stories where they lie beside the project
    python benchmarks/tagging.py --parts speed         one of speed, scale, memory
    python benchmarks/tagging.py --out docs/results    also as tagging.md and tagging.json there

speed    Both read the same (three sentences, next sentence) pairs of the same documents, cut by us beforehand, with
         as many threads. The pipeline runs as its documentation has it, with batches of 32 texts; besides with other
         sizes and in bfloat16, so that its best can be seen as well. Ours fills batches of 4,096 tokens (32 texts of
         128), sorted by length, in bfloat16 where the processor has it, and is a whole scorer: documents and spans in,
         scores out. They take turns, each repetition with documents of its own. That the scores agree is checked in
         float32.
scale    A whole run of ``fivenines tag`` on Ray, with one worker and with two of one core each, side by side.
memory   The peak of a whole run, each in a process of its own, on the corpus once, 4 times and 16 times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from fivenines.conditional.tagging.classifying import ClassifierScorer, in_context
from fivenines.conditional.tagging.running import TaggingSettings, Workers, start, tag_corpus
from fivenines.conditional.tagging.spans import SpannedText, segments
from fivenines.models.classifier import Classifier
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet
from fivenines.storyworld import write_corpus

STORIES = Path("../shared/data/fiction/modern_simple/tinystories_subset_smallGPT.txt")
GOALS = {"speed": 3.0, "scale": 1.8, "memory": 1.1}
OURS = "fivenines"


def main() -> None:
    options = _options()
    set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"about": _about(options)}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        documents = list(_documents(options.documents * (options.repetitions + 1)))
        model = _model(options.model, documents, work / "model")
        if "speed" in options.parts:
            found["speed"] = speed(model, documents, options)
            print(json.dumps(found["speed"]), file=sys.stderr, flush=True)
        if "scale" in options.parts:
            found["scale"] = scale(model, documents, options, work)
            print(json.dumps(found["scale"]), file=sys.stderr, flush=True)
        if "memory" in options.parts:
            found["memory"] = memory(model, documents, options, work)
    text = _as_markdown(found)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "tagging.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (options.out / "tagging.md").write_text(text + "\n", encoding="utf-8")


# -- speed


def speed(model: Path, documents: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Sentences per second of every way, over the repetitions; documents of the first one only warm up."""
    ways: dict[str, Callable[[Sequence[SpannedText]], NDArray[np.float64]]] = {
        OURS: _ours(model, None),
        f"{OURS}, float32": _ours(model, "float32"),
    }
    for size in options.batch_sizes:
        for dtype in ("float32", "bfloat16"):
            ways[f"pipeline, {dtype}, batches of {size}"] = _pipeline(model, dtype, size)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    worst = 0.0
    for repetition in range(options.repetitions + 1):
        some = documents[repetition * options.documents :][: options.documents]
        texts = [SpannedText(text, segments(text, "sentences")) for text in some]
        count = sum(len(text.spans) for text in texts)
        scores = {}
        for name, way in ways.items():
            begin = time.perf_counter()
            scores[name] = way(texts)
            if repetition:
                rates[name].append(count / (time.perf_counter() - begin))
        exact = [scores[name] for name in scores if "bfloat16" not in name and name != OURS]
        worst = max([worst, *(float(np.abs(each - exact[0]).max()) for each in exact)])
    assert worst < 1e-3, f"scores differ by {worst}: not the same work"
    means = {name: float(np.mean(each)) for name, each in rates.items()}
    best = {
        dtype: max(
            (name for name in ways if name.startswith(f"pipeline, {dtype}")), key=lambda name: means[name]
        )
        for dtype in ("float32", "bfloat16")
    }
    return {
        "sentences per second": {
            name: [means[name], float(np.std(each, ddof=1))] for name, each in rates.items()
        },
        "times the best pipeline in float32": means[OURS] / means[best["float32"]],
        "times the best pipeline in bfloat16": means[OURS] / means[best["bfloat16"]],
        "in float32, times the best pipeline in float32": means[f"{OURS}, float32"] / means[best["float32"]],
        "largest difference of scores in float32": worst,
    }


def _ours(model: Path, precision: str | None) -> Callable[[Sequence[SpannedText]], NDArray[np.float64]]:
    classifier = Classifier.load(model)
    if precision is not None:
        settings = {**classifier.config.__dict__, "precision": precision}
        classifier = Classifier.load(model, type(classifier.config)(**settings))
    scorer = ClassifierScorer(classifier, version="1")
    return lambda texts: np.concatenate(scorer.score(texts))


def _pipeline(model: Path, dtype: str, size: int) -> Callable[[Sequence[SpannedText]], NDArray[np.float64]]:
    pipe: Any = transformers.pipeline(
        "text-classification", model=str(model), dtype=getattr(torch, dtype), device="cpu", top_k=None
    )
    length = Classifier.load(model).pairs.max_length

    def score(texts: Sequence[SpannedText]) -> NDArray[np.float64]:
        pairs = [_pair(text, place) for text in texts for place in range(len(text.spans))]
        inputs = [{"text": snippet.prompt, "text_pair": snippet.completion} for snippet in pairs]
        answers = pipe(inputs, batch_size=size, truncation="only_first", max_length=length)
        return np.array([next(one["score"] for one in all_ if one["label"] == "failure") for all_ in answers])

    return score


def _pair(text: SpannedText, place: int) -> Snippet:
    near = range(max(0, place - 3), place + 1)
    pieces = [" ".join(text.text[slice(*text.spans[i])].split()) for i in near]
    return in_context(pieces, len(pieces) - 1, 3, " ")


# -- scale


def scale(model: Path, documents: Sequence[str], options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Seconds of a run on Ray with one worker and with two, taking turns."""
    import ray

    os.environ["OMP_NUM_THREADS"] = "1"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)
    corpus = _corpus(work / "scale.jsonl", documents, options.scale_megabytes)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    try:
        for repetition in range(options.scale_repetitions):
            for workers in (1, 2) if repetition % 2 else (2, 1):
                out = work / f"scale-{repetition}-{workers}"
                size = options.scale_megabytes / options.scale_shards
                run = start([corpus], out, [ClassifierScorer(str(model))], TaggingSettings(shard_mb=size))
                begin = time.perf_counter()
                tag_corpus(run, Workers(workers, "ray", threads=1, options={"mem_per_cpu_gb": 1}))
                seconds[workers].append(time.perf_counter() - begin)
    finally:
        ray.shutdown()
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "seconds with one worker": seconds[1],
        "seconds with two workers": seconds[2],
        "times as fast": [float(np.mean(ratios)), _spread(ratios)],
        "shards": options.scale_shards,
        "megabytes": options.scale_megabytes,
    }


# -- memory

RUN = """
import resource, sys
from pathlib import Path
from fivenines.conditional.tagging.classifying import ClassifierScorer
from fivenines.conditional.tagging.running import TaggingSettings, start, tag_corpus
corpus, out, model, size = sys.argv[1:]
run = start([Path(corpus)], out, [ClassifierScorer(model)], TaggingSettings(shard_mb=float(size)))
tag_corpus(run)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory(model: Path, documents: Sequence[str], options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Peak memory in MiB of a run on the corpus once, 4 times and 16 times; shards stay as large."""
    peaks = {}
    for times in (1, 4, 16):
        corpus = _corpus(work / f"memory-{times}.jsonl", documents, options.memory_megabytes * times)
        command = [sys.executable, "-c", RUN, str(corpus), str(work / f"memory-{times}"), str(model)]
        done = subprocess.run(
            [*command, str(options.memory_megabytes)], capture_output=True, text=True, check=True
        )
        peaks[times] = float(done.stdout)
    return {
        "megabytes of the corpus": {str(times): options.memory_megabytes * times for times in peaks},
        "peak MiB": {str(times): peak for times, peak in peaks.items()},
        "16 times over once": peaks[16] / peaks[1],
    }


# -- what all use


def _documents(count: int) -> Iterator[str]:
    """Real stories where they are, else those of storyworld."""
    if STORIES.is_file():
        stories = [story.strip() for story in STORIES.read_text(encoding="utf-8").split("<|endoftext|>")]
        stories = [story for story in stories if len(story) > 200]
        if len(stories) < 10:  # stories apart by blank lines
            stories = [part.strip() for part in "\n".join(stories).split("\n\n\n") if len(part) > 200]
    else:
        stories = list(write_corpus(count, seed=0))
    yield from (stories[i % len(stories)] for i in range(count))


def _model(name: str, documents: Sequence[str], folder: Path) -> Path:
    """An encoder under a head that has learnt a step: how fast it is does not depend on what it knows."""
    snippets = [Snippet("", text[:200]) for text in documents[:8]]
    judged = [Judgment(s.id, Answer.FAILURE if i % 2 else Answer.OK) for i, s in enumerate(snippets)]
    training = TrainingConfig(max_steps=1, batch_size=4, precision="float32")
    Classifier.load(name).fit(snippets, judged, training=training).save(folder)
    return folder


def _corpus(path: Path, documents: Sequence[str], megabytes: float) -> Path:
    size = number = 0
    with open(path, "w", encoding="utf-8") as handle:
        while size < megabytes * 2**20:
            size += handle.write(json.dumps({"text": documents[number % len(documents)]}) + "\n")
            number += 1
    return path


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _about(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "text": STORIES.name if STORIES.is_file() else "storyworld",
        **{key: value if key != "out" else str(value) for key, value in vars(options).items()},
    }


def _as_markdown(found: dict[str, Any]) -> str:
    about = found["about"]
    lines = ["# Tagging: speed, scale, memory", ""]
    lines += [
        f"{about['date']}, {about['machine']}, torch {about['torch']}, model {about['model']}, {about['text']}.",
        "",
    ]
    if "speed" in found:
        lines += ["| way | sentences per second | deviation |", "|---|---|---|"]
        for name, (mean, spread) in found["speed"]["sentences per second"].items():
            lines.append(f"| {name} | {mean:,.0f} | {spread:,.0f} |")
        lines += ["", f"Goal: {GOALS['speed']:g} times the pipeline."]
        lines += [
            f"{name}: {value:.3g}" for name, value in found["speed"].items() if isinstance(value, float)
        ]
    if "scale" in found:
        mean, spread = found["scale"]["times as fast"]
        lines += [
            "",
            f"Two Ray workers: {mean:.2f} (deviation {spread:.2f}) times as fast; goal {GOALS['scale']:g}.",
        ]
    if "memory" in found:
        peaks = ", ".join(
            f"{times} times: {peak:,.0f}" for times, peak in found["memory"]["peak MiB"].items()
        )
        lines += [
            "",
            f"Peak memory in MiB by size of the corpus: {peaks}; goal: 16 times at most {GOALS['memory']:g}",
        ]
        lines[-1] += f" of once, found {found['memory']['16 times over once']:.2f}."
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=["speed", "scale", "memory"], choices=list(GOALS))
    parser.add_argument("--model", default="minilm", help="an encoder's folder, a hub name, or minilm")
    parser.add_argument("--documents", type=int, default=60, help="of a repetition of speed")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[32, 8, 128], help="the fastest is compared"
    )
    parser.add_argument("--scale-megabytes", type=float, default=3.0)
    parser.add_argument("--scale-repetitions", type=int, default=2)
    parser.add_argument("--scale-shards", type=int, default=8)
    parser.add_argument("--memory-megabytes", type=float, default=0.25, help="of the corpus at its smallest")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
