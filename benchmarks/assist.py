"""Claim: what a person who attacks works with answers while he types, on two cores and without an accelerator.

    python benchmarks/assist.py --out docs/results

A text of 100 tokens, another in every call; the classifier is "minilm" (22 million parameters) under the pooled head,
the masked language model the same body under its own. Neither head is trained: the time does not depend on weights.
Milliseconds of each call, after calls to warm up.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fivenines.attacks.assist import Assistant, AssistConfig
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.devices import uses_bfloat16
from fivenines.models.masked import MaskedLanguageModel
from fivenines.records import Snippet

TOKENS = 100
WARM_UP = 5
TEXT = (
    "He walked down the long road to the old house by the river, and the rain fell on the roof while the dog slept "
    "near the fire. Nobody spoke a word until the clock struck nine and the door opened slowly. The woman who came in "
    "carried a small lamp and a letter, and when she had read it aloud the old man took up his stick and struck the "
    "boy across the shoulder, so that he fell against the wall and cried out, and the lamp went over and broke on the "
    "stones"
)
SPLIT = TEXT.index("The woman")
WORD = "shoulder"  # the one that is replaced
_GIVEN = (
    "face arm head back hand knee leg neck chest mouth ear eye foot nose cheek wrist elbow finger throat side garden "
    "table window street morning summer letter story river stone horse coat shoes hat bread water paper music song ship"
)
WORDS = _GIVEN.split()  # 40


@dataclass(frozen=True)
class Case:
    """What is measured; ``target`` in ms at the 95th percentile, None where none was set."""

    name: str
    call: Callable[[Snippet], object]
    before: Callable[[Snippet], object] | None = None  # not measured
    target: float | None = None


def texts(classifier: Classifier, count: int) -> list[Snippet]:
    """Different texts of exactly 100 tokens, special ones included."""
    words = [w for w in WORDS if len(classifier.tokenizer.tokenize(w)) == 1]
    found = []
    for number in range(count):
        first, second = words[number % len(words)], words[number // len(words) % len(words)]
        prompt = TEXT[:SPLIT].replace("river", first).replace("roof", second).strip()
        completion = TEXT[SPLIT:] + " and" * TOKENS
        pieces = completion.split(" ")
        while len(_ids(classifier, Snippet(prompt, " ".join(pieces)))) > TOKENS:
            pieces.pop()
        snippet = Snippet(prompt, " ".join(pieces))
        assert len(_ids(classifier, snippet)) == TOKENS
        found.append(snippet)
    return found


def _ids(classifier: Classifier, snippet: Snippet) -> list[int]:
    (encoded,) = classifier.pairs.encode([snippet])
    assert encoded is not None
    return encoded["input_ids"]


def cases(classifier: Classifier, masked: MaskedLanguageModel) -> list[Case]:
    given, proposing = Assistant(classifier, words=WORDS), Assistant(classifier, masked)
    exact = AssistConfig(mode="exact")
    given_exact = Assistant(classifier, words=WORDS, config=exact)
    proposing_exact = Assistant(classifier, masked, config=exact)

    def menu(assistant: Assistant) -> Callable[[Snippet], object]:
        def ask(snippet: Snippet) -> object:
            at = snippet.completion.index(WORD)
            found = assistant.replacements(snippet, "completion", at, at + len(WORD))
            assert len(found) == 10
            return found

        return ask

    def insert(snippet: Snippet) -> object:
        return proposing.insertions(snippet, "completion", snippet.completion.index(WORD))

    return [
        Case("score", given.score, target=40),
        Case("saliency", given.saliency, target=100),
        Case(
            "the three words to touch next, of a text whose saliency is shown",
            given.next_tokens,
            given.saliency,
        ),
        Case("ten best of 40 given, shortlist of 12 by the gradient", menu(given), target=200),
        Case("the same, 40 proposed by the masked language model", menu(proposing), target=200),
        Case("the same, of a text whose saliency is shown", menu(proposing), proposing.saliency),
        Case("ten best of 40 proposed for an insertion", insert),
        Case("ten best of 40 given, all scored", menu(given_exact), target=500),
        Case("the same, 40 proposed by the masked language model", menu(proposing_exact), target=500),
    ]


def milliseconds(case: Case, snippets: list[Snippet]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """On the clock and of the processor, all threads together, of each call after the warm-up."""
    clock, processor = [], []
    for snippet in snippets:
        if case.before is not None:
            case.before(snippet)
        began, start = time.process_time(), time.perf_counter()
        case.call(snippet)
        clock.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - began))
    return np.array(clock[WARM_UP:]), np.array(processor[WARM_UP:])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for assist.md")
    parser.add_argument("--calls", type=int, default=100, help="measured calls of each kind (default: 100)")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    classifier = Classifier.load("minilm", ClassifierConfig(head="pooled"))
    masked = MaskedLanguageModel.over("minilm")
    classifier.fitted = masked.fitted = True  # untrained heads: see above
    snippets = texts(classifier, options.calls + WARM_UP)
    rows, slow = [], 0
    for case in cases(classifier, masked):
        clock, processor = milliseconds(case, snippets)
        middle, high = np.percentile(clock, [50, 95])
        slow += case.target is not None and high > case.target
        target = "" if case.target is None else f"{case.target:g}"
        rows.append(f"| {case.name} | {np.median(processor):.0f} | {middle:.0f} | {high:.0f} | {target} |")
        print(rows[-1], flush=True)
    if options.out is not None:
        precision = "bfloat16" if uses_bfloat16("auto", classifier.model.device) else "float32"
        head = (
            "# How soon the tools of an attacker answer\n\nMilliseconds on the clock, asked at the 95th percentile "
            f"over {options.calls} calls of each kind, each on another text of {TOKENS} tokens: MiniLM (22 million "
            "parameters) under the pooled head, and the same body as masked language model; their heads untrained, for "
            f"time does not depend on weights. {platform.machine()}, {options.threads} threads of {os.cpu_count()} "
            f"cores, {precision}, torch {torch.__version__}, {datetime.now(UTC).date().isoformat()}. Made by "
            "`python benchmarks/assist.py --out docs/results`.\n\n"
            "| what | processor, p50 | clock, p50 | p95 | asked |\n|---|---:|---:|---:|---:|\n"
        )
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "assist.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    return 0 if not slow else 1


if __name__ == "__main__":
    sys.exit(main())
