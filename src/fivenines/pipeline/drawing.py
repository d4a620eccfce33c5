"""Long draws in chunks, so that a kill costs one chunk and the numbers stay the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fivenines.files import read_json, read_jsonl, write_json_atomic, write_jsonl_atomic
from fivenines.filtering import FilteredGenerator
from fivenines.models.protocols import GeneratorLike, forget
from fivenines.pipeline.workspace import row_of_output
from fivenines.records import Snippet

__all__ = ["draw_in_chunks", "filter_in_chunks"]

_CHUNK = 4096  # draws: seconds for a small model, minutes for a large one


def chunk_seed(seed: int, chunk: int) -> int:
    """A seed of its own for each chunk: what a chunk holds does not depend on which were there before."""
    return int(np.random.SeedSequence([seed, chunk]).generate_state(1, np.uint32)[0])


def draw_in_chunks(
    generator: GeneratorLike, prompts: Sequence[str], folder: Path, name: str, seed: int
) -> list[Snippet]:
    """One unfiltered completion per prompt, written to ``folder`` chunk by chunk; chunks there are not redone."""
    drawn: list[Snippet] = []
    for chunk, start in enumerate(range(0, len(prompts), _CHUNK)):
        path = folder / f"{name}-{chunk:05d}.jsonl"
        if not path.is_file():
            some = prompts[start : start + _CHUNK]
            forget(generator)  # each chunk is drawn as in a fresh process, whichever came before it
            completions = generator.sample(some, seed=chunk_seed(seed, chunk))
            write_jsonl_atomic(path, map(Snippet, some, completions))
        drawn += [Snippet(row["prompt"], row["completion"]) for _, row in read_jsonl(path)]
    return drawn


def filter_in_chunks(
    safe: FilteredGenerator, prompts: Sequence[str], folder: Path, name: str, seed: int, size: int = 2000
) -> dict[str, Any]:
    """One output per prompt, written to ``folder`` chunk by chunk. Returns what it cost, summed over chunks.

    A chunk is a run of the filter of its own, with its own seed and models that remember no prompt, so that a
    chunk redone after a kill holds the same outputs. What it cost stands beside it.
    """
    costs: list[dict[str, Any]] = []
    for chunk, start in enumerate(range(0, len(prompts), size)):
        path, cost = folder / f"{name}-{chunk:05d}.jsonl", folder / f"{name}-{chunk:05d}.cost.json"
        if not (path.is_file() and cost.is_file()):
            safe.forget()
            begin = time.perf_counter()
            outputs = safe.generate(prompts[start : start + size], seed=chunk_seed(seed, chunk))
            write_jsonl_atomic(path, map(row_of_output, outputs))
            spent = {
                "seconds": time.perf_counter() - begin,
                "drawn": safe.stats.drawn,
                "decided": safe.stats.decided,
                "outputs": safe.stats.outputs,
                "abstentions": safe.stats.abstentions,
                "generating seconds": safe.stats.generating_seconds,
                "scoring seconds": safe.stats.scoring_seconds,
            }
            write_json_atomic(cost, spent)
        costs.append(read_json(cost))
    return {key: sum(cost[key] for cost in costs) for key in costs[0]} if costs else {}
