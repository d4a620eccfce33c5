"""Claim: a policy of tags and watching cost at most 3% over plain writing, guidance at most 2.2 times as much; and a
banned tag never comes in 100,000 samples.

    python benchmarks/tag_decoding.py                         two sizes of random weights; on a quiet machine
    python benchmarks/tag_decoding.py --size demo --repetitions 5 --samples 2000      a look
    python benchmarks/tag_decoding.py --model runs/tagged     a trained model of one's own
    python benchmarks/tag_decoding.py --out docs/results      also as tag-decoding.md and .json there

All arms write after the same prompts in one process and take turns within each repetition, in an order drawn anew, each
with its memory of prompts emptied first:
  plain       the language model itself; the good tag is the last token of its prompt
  policy      the good tag forced, the bad one banned, a bias on the good one
  watch       the same, the probabilities of all tags kept
  guidance    as watch, weight 1, two rows for each draw
  lookahead   as watch, 20 candidates for each token (no claim)
  boost       as watch, with a bias so high that watching cannot share the sampler's softmax (no claim)
A repetition gives each arm the time per token drawn, over that of plain beside it; the median over repetitions counts,
with its quartiles. Arms of which nothing is claimed take part in every fifth alone, and the large size has a quarter
of the repetitions and of the prompts. Temperature 1, all tokens in; texts end at their length. For the samples the bad
tag's row of the output is set so that it comes all the time where nobody bans it.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import Guidance
from fivenines.conditional.lookahead import Lookahead
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Banded, Scheme
from fivenines.models.language_model import LanguageModelConfig, SamplingConfig
from fivenines.models.sampling import Sampler
from fivenines.storyworld import write_corpus, write_prompts

SIZES = {  # layers, width, heads, rows of the vocabulary
    "demo": (4, 128, 4, 8_000),
    "small": (12, 768, 12, 50_000),
}
GOALS = {"policy": 1.03, "watch": 1.03, "guidance": 2.2}
ROWS, NEW = 64, 32  # draws in a batch, tokens of a text
SELDOM = 5  # in every so many repetitions arms without a goal take part
LARGE = 4  # the large size has one in so many of the repetitions and prompts
PROMPTS = 256  # of an arm in a repetition
Arm = Callable[[list[str], int], int]  # prompts and seed to tokens drawn


def make(size: str) -> TaggedModel:
    """Random weights; the vocabulary filled up with rows that no text uses, since its size is what choosing costs."""
    layers, width, heads, vocabulary = SIZES[size]
    config = LanguageModelConfig(layers=layers, width=width, heads=heads, vocabulary=vocabulary, context=256)
    sampling = SamplingConfig(max_new_tokens=NEW, stop="eos", batch_size=ROWS)
    model = TaggedModel.create(write_corpus(2000, 0), Scheme((Banded("harm"),)), config, sampling)
    if len(model.language.tokenizer) < vocabulary:
        model.language.model.resize_token_embeddings(vocabulary, mean_resizing=False)
    _make_likely(model, model.scheme.bad[0])
    return model


@torch.no_grad()
def _make_likely(model: TaggedModel, tag: str) -> None:
    """Let the tag's row of the output look where the last states look: free, it comes all the time."""
    network: Any = model.language.model
    states = []
    for prompt in write_prompts(32, 3):
        ids = torch.tensor([model.language.tokenizer(prompt)["input_ids"]], device=network.device)
        states.append(network(ids, output_hidden_states=True).hidden_states[-1][0, -1])
    mean = torch.stack(states).mean(dim=0)  # (width,)
    network.get_output_embeddings().weight[model.tags[tag]] = 8.0 * mean / mean.square().sum()


def arms(model: TaggedModel) -> dict[str, Arm]:
    """What takes turns."""
    good, bad = model.scheme.good[0], model.scheme.bad[0]
    policy = TagPolicy(ban=(bad,), force=(good,), bias={good: 0.5})
    up = TagPolicy(ban=(bad,), force=(good,), bias={good: 6.0})
    language = model.language
    plain = Sampler(
        language.sampler.model, language.tokenizer, language.sampling, opening=(model.tags[good],)
    )

    def of(generator: TaggedGenerator, watch: bool = True) -> Arm:
        def run(prompts: list[str], seed: int) -> int:
            generator.forget()
            written = generator.write(prompts, seed=seed, watch=watch)
            return sum(len(each.tokens) for each in written)

        return run

    def run_plain(prompts: list[str], seed: int) -> int:
        plain.clear()
        return sum(len(each.tokens) for each in plain.write(prompts, seed))

    return {
        "plain": run_plain,
        "policy": of(TaggedGenerator(model, policy), watch=False),
        "watch": of(TaggedGenerator(model, policy)),
        "boost": of(TaggedGenerator(model, up)),
        "guidance": of(TaggedGenerator(model, policy, guidance=Guidance(1.0))),
        "lookahead": of(TaggedGenerator(model, policy, lookahead=Lookahead())),
    }


def measure(model: TaggedModel, repetitions: int, count: int) -> dict[str, dict[str, Any]]:
    """Seconds per token of each arm, and its ratio to plain: median and quartiles over repetitions."""
    found, order = arms(model), random.Random(0)
    for run in found.values():  # kernels, blocks of memory
        run(write_prompts(ROWS, 1), 0)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    beside: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(repetitions):
        prompts = write_prompts(count, 1000 + turn)
        now = [name for name in found if name in GOALS or name == "plain" or turn % SELDOM == 0]
        for name in order.sample(now, len(now)):
            begin = time.perf_counter()
            tokens = found[name](prompts, turn)
            if model.language.model.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - begin) / tokens)
        for name in now:
            beside[name].append(seconds["plain"][-1])
        print(f"{turn + 1} of {repetitions}", file=sys.stderr, end="\r", flush=True)
    return {name: _summary(np.array(each), np.array(beside[name])) for name, each in seconds.items()}


def _summary(seconds: np.ndarray[Any, Any], plain: np.ndarray[Any, Any]) -> dict[str, Any]:
    low, middle, high = np.quantile(seconds / plain, [0.25, 0.5, 0.75]).tolist()
    return {
        "microseconds_a_token": 1e6 * float(np.median(seconds)),
        "ratio": middle,
        "quartiles": [low, high],
        "repetitions": len(seconds),
    }


def count_banned(model: TaggedModel, samples: int) -> dict[str, Any]:
    """How often a tag comes among all tokens of ``samples`` texts, banned and not; sharpest and flattest settings."""
    good, bad = model.scheme.good[0], model.scheme.bad[0]
    prompts = write_prompts(512, 5)
    found: dict[str, Any] = {"samples": samples, "tokens": 0}
    for name, policy in (
        ("banned", TagPolicy(ban=(bad,), force=(good,))),
        ("free", TagPolicy(force=(good,))),
    ):
        generator, seen = TaggedGenerator(model, policy), 0
        for start in range(0, samples, len(prompts)):
            group = prompts[: min(len(prompts), samples - start)]
            for each in generator.write(group, seed=start, watch=False):
                seen += each.tokens.count(model.tags[bad])
                found["tokens"] += len(each.tokens) if name == "banned" else 0
        found[name] = seen
    return found


def table(name: str, results: dict[str, dict[str, Any]], banned: dict[str, Any]) -> str:
    """One size as Markdown."""
    lines = [
        f"### {name}",
        "",
        "| arm | repetitions | µs a token | over plain | quartiles | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, row in results.items():
        goal = GOALS.get(arm)
        verdict = "" if goal is None else ("holds" if row["ratio"] <= goal else "FAILS")
        low, high = row["quartiles"]
        shown = "" if goal is None else f"{goal:g}"
        cells = [arm, row["repetitions"], f"{row['microseconds_a_token']:.1f}", f"{row['ratio']:.3f}"]
        cells += [f"{low:.3f} to {high:.3f}", shown, verdict]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        f"A banned tag came {banned['banned']} times in {banned['samples']:,} samples ({banned['tokens']:,} tokens); "
        f"free it came {banned['free']:,} times.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=[*SIZES, "all"], default="all")
    parser.add_argument("--model", type=Path, help="a folder with a tagged model, in place of random weights")
    parser.add_argument("--repetitions", type=int, default=41)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    names = [str(options.model)] if options.model else [*SIZES] if options.size == "all" else [options.size]
    machine = {
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    reports, shown, missed = {}, [], False
    for place, name in enumerate(names):
        model = _load(options.model) if options.model else make(name)
        part = LARGE if name == "small" else 1
        sizes = {
            "repetitions": max(1, options.repetitions // part),
            "prompts": max(1, options.prompts // part),
        }
        results = measure(model, sizes["repetitions"], sizes["prompts"])
        banned = count_banned(model, options.samples if place == 0 else min(options.samples, 2_000))
        reports[name] = {**sizes, "arms": results, "banned": banned}
        shown.append(table(name, results, banned))
        print(shown[-1], flush=True)
        missed |= bool(banned["banned"]) or any(results[arm]["ratio"] > goal for arm, goal in GOALS.items())
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        settings = {"rows": ROWS, "tokens": NEW}
        whole = {"machine": machine, "settings": settings, "sizes": reports}
        (options.out / "tag-decoding.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        head = "# What writing with tags costs\n\n" + ", ".join(
            f"{k} {v}" for k, v in (machine | settings).items()
        )
        text = "\n\n".join([head, *shown]) + "\n"
        (options.out / "tag-decoding.md").write_text(text, encoding="utf-8")
    return int(missed)


def _load(folder: Path) -> TaggedModel:
    return TaggedModel.load(folder, SamplingConfig(max_new_tokens=NEW, stop="eos", batch_size=ROWS))


if __name__ == "__main__":
    sys.exit(main())
