"""TextAttack's side of ``benchmarks/attacks_peer.py``: runs in the environment that setup.sh makes, knows no fivenines.

    NLTK_DATA=... .venv/bin/python opponent.py job.json

The job names the texts (JSON lines: id, prompt, completion), the classifier (a folder that fivenines saved), the masked
language model (a plain transformers folder), the recipe, the threshold, the threads. The answer is JSON lines, one a
text, and beside it what was chosen and spent as a whole.

Nothing of TextAttack is changed: recipes, search, constraints, goal function, caches and order are its own. The goal is
P(failure) below the threshold, by its own ``target_max_score``; prompt and completion may both be edited. "As it comes"
its wrapper for transformers scores 32 texts at once, each padded to the 512 tokens that the model could read, and the
masked language model reads as many. "Tuned" it gets the better of every choice that is left to its users:
  padding    to the longest text of a batch; for the masked language model, to the text in hand
  batches    of 32, 64 or 128 texts, in float32 or bfloat16: whichever scores the texts of its first step fastest
"""

from __future__ import annotations

import json
import math
import random
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import textattack
import torch
import transformers
from textattack.attack_recipes import DeepWordBugGao2018
from textattack.attack_results import AttackResult, SkippedAttackResult, SuccessfulAttackResult
from textattack.constraints.overlap import MaxWordsPerturbed
from textattack.constraints.pre_transformation import RepeatModification, StopwordModification
from textattack.goal_functions import UntargetedClassification
from textattack.models.wrappers import HuggingFaceModelWrapper
from textattack.search_methods import GreedyWordSwapWIR
from textattack.shared import AttackedText
from textattack.transformations import WordSwapMaskedLM
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

FAILURE = 1  # the class
AS_IT_COMES = 32  # texts in a batch
BATCH_SIZES = (32, 64, 128)
TUNED_ON = 2  # texts: some 150 candidates
SPARE = 16  # tokens that edits may add to a text before the masked language model cuts it


@dataclass(frozen=True)
class Job:
    """``recipe``: deepwordbug, bert-attack or bae. ``tuned``: see above. ``candidates``: words a place, of the masked
    recipes; None: what TextAttack takes. ``limit_seconds``: a text that takes longer counts as not fooled.
    """

    texts: str
    classifier: str
    masked: str
    recipe: str
    threshold: float
    out: str
    threads: int
    tuned: bool
    candidates: int | None = None
    limit_seconds: int = 600
    seed: int = 0


class Judge(HuggingFaceModelWrapper):  # type: ignore[misc]
    """TextAttack's own wrapper. It knows the head's P(failure), uncalibrated: ``raw`` and ``calibrated`` translate."""

    def __init__(self, folder: Path) -> None:
        self.card = json.loads((folder / "fivenines.json").read_text(encoding="utf-8"))
        calibration = self.card["calibration"]
        if calibration["knots_x"]:
            raise SystemExit("the classifier must be calibrated by a line (Platt), got isotonic steps")
        self.slope, self.offset = float(calibration["slope"]), float(calibration["offset"])
        auto: Any = AutoModelForSequenceClassification
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        super().__init__(auto.from_pretrained(folder, trust_remote_code=True).eval(), tokenizer)
        self.bfloat16 = False
        self.scored = 0  # what TextAttack's cache did not know

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
        """Logits, shape (n, 2)."""
        self.scored += len(pairs)
        logits: torch.Tensor = super().__call__(pairs)
        return logits

    def raw(self, score: float) -> float:
        """The head's P(failure) at a calibrated score."""
        return _sigmoid((math.log(score / (1 - score)) - self.offset) / self.slope)

    def calibrated(self, raw: float) -> float:
        """The score at the head's P(failure)."""
        margin = math.log(raw / (1 - raw)) if 0 < raw < 1 else math.copysign(math.inf, raw - 0.5)
        return _sigmoid(self.slope * margin + self.offset)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


class TunedJudge(Judge):
    """Reads as fivenines does, in its precision, and pads to the longest of a batch."""

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
        """Probabilities of ok and failure, shape (n, 2), float64."""
        self.scored += len(pairs)
        batch = self.tokenizer(
            [prompt for prompt, _ in pairs],
            [completion for _, completion in pairs],
            padding=True,
            truncation="only_first",
            max_length=int(self.card["settings"]["max_length"] or self.tokenizer.model_max_length),
            return_tensors="pt",
        )
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits = self.model(**batch).logits
        return torch.softmax(logits.double(), dim=1)  # (n, 2)


def columns(row: dict[str, Any]) -> AttackedText:
    return AttackedText(OrderedDict([("prompt", row["prompt"]), ("completion", row["completion"])]))


def tune(judge: Judge, rows: Sequence[dict[str, Any]]) -> tuple[int, dict[str, float]]:
    """The fastest batch size, with the precision set; and texts a second of each choice.

    Measured on what word importance asks for: texts of one length, each with one word unknown.
    """
    texts = [columns(row) for row in rows[:TUNED_ON]]
    asked = [[t.replace_word_at_index(i, "[UNK]").tokenizer_input for i in range(t.num_words)] for t in texts]
    judge(asked[0][:8])
    rates: dict[tuple[int, bool], float] = {}
    for bfloat16 in (False, True):
        judge.bfloat16 = bfloat16
        for size in BATCH_SIZES:
            begin = time.perf_counter()
            for pairs in asked:
                for start in range(0, len(pairs), size):
                    judge(pairs[start : start + size])
            rates[size, bfloat16] = sum(map(len, asked)) / (time.perf_counter() - begin)
    best, judge.bfloat16 = max(rates, key=lambda choice: rates[choice])
    return best, {f"{size}, {'bfloat16' if b else 'float32'}": rate for (size, b), rate in rates.items()}


# -- recipes


def recipe(job: Job, judge: Judge, batch_size: int) -> textattack.Attack:
    """The recipe, with the threshold for its goal."""
    limit = judge.raw(job.threshold)
    goal = UntargetedClassification(judge, target_max_score=limit, model_batch_size=batch_size)
    if job.recipe == "deepwordbug":
        made = DeepWordBugGao2018.build(judge)
        constraints = made.pre_transformation_constraints + made.constraints
        return textattack.Attack(goal, constraints, made.transformation, made.search_method)
    # as textattack/attack_recipes/bert_attack_li_2020.py, without the sentence encoder, which it would download
    constraints = [RepeatModification(), StopwordModification(), MaxWordsPerturbed(max_percent=0.4)]
    search = GreedyWordSwapWIR(wir_method="unk")
    return textattack.Attack(goal, constraints, _masked_swap(job), search)


def _masked_swap(job: Job) -> WordSwapMaskedLM:
    most = {"bert-attack": 8, "bae": 50}  # what the recipes of this version take
    if job.recipe not in most:
        raise SystemExit(f"recipe must be deepwordbug, bert-attack or bae, got {job.recipe}")
    auto: Any = AutoModelForMaskedLM
    return WordSwapMaskedLM(
        method=job.recipe,
        masked_language_model=auto.from_pretrained(job.masked),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(job.masked),
        max_candidates=most[job.recipe] if job.candidates is None else job.candidates,
    )


def _fit_padding(attack: textattack.Attack, text: AttackedText) -> None:
    """Let the masked language model pad to this text, where there is one."""
    swap = attack.transformation
    if isinstance(swap, WordSwapMaskedLM):
        tokenizer = swap._lm_tokenizer
        wanted = len(tokenizer(text.text)["input_ids"]) + SPARE
        swap.max_length = min(-(-wanted // 8) * 8, tokenizer.model_max_length)


# -- one text


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in what runs longer."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_one(attack: textattack.Attack, row: dict[str, Any], job: Job) -> dict[str, Any]:
    judge, text = attack.goal_function.model, columns(row)
    random.seed(job.seed)
    np.random.seed(job.seed)  # noqa: NPY002 - the stream that TextAttack draws from
    if job.tuned:
        _fit_padding(attack, text)
    scored, wall, cpu = judge.scored, time.perf_counter(), time.process_time()
    result, why = None, ""
    try:
        with at_most(job.limit_seconds), torch.autocast("cpu", torch.bfloat16, enabled=judge.bfloat16):
            result = attack.attack(text, FAILURE)
    except TimeoutError:
        why = f"more than {job.limit_seconds} s"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    return {
        "id": row["id"],
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "queries": attack.goal_function.num_queries,
        "scored": judge.scored - scored,
    } | _told(attack, result, why)


def _told(attack: textattack.Attack, result: AttackResult | None, why: str) -> dict[str, Any]:
    if result is None:
        attack.clear_cache()  # what was interrupted has not done so
        return {"outcome": "stopped", "why": why, "start_score": None, "score": None}
    judge, before, after = attack.goal_function.model, result.original_result, result.perturbed_result
    fooled = isinstance(result, SuccessfulAttackResult)
    skipped = isinstance(result, SkippedAttackResult)
    prompt, completion = after.attacked_text.tokenizer_input
    return {
        "outcome": "fooled" if fooled else "passed unchanged" if skipped else "not fooled",
        "start_score": judge.calibrated(1 - float(before.score)),
        "score": judge.calibrated(1 - float(after.score)),
        "words_changed": len(after.attacked_text.all_words_diff(before.attacked_text)),
        "prompt": prompt,
        "completion": completion,
    }


# -- all texts


def run(job: Job) -> dict[str, Any]:
    torch.set_num_threads(job.threads)
    # no word about tokenizers whose class has another name
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    judge = (TunedJudge if job.tuned else Judge)(Path(job.classifier))
    rows = [json.loads(line) for line in Path(job.texts).read_text(encoding="utf-8").splitlines()]
    batch_size, rates = tune(judge, rows) if job.tuned else (AS_IT_COMES, {})
    attack = recipe(job, judge, batch_size)
    run_one(attack, rows[0], job)  # not counted: what is slow once
    begin, cpu, answers = time.perf_counter(), time.process_time(), []
    with open(job.out, "w", encoding="utf-8") as handle:
        for row in rows:
            answers.append(run_one(attack, row, job))
            handle.write(json.dumps(answers[-1], ensure_ascii=False) + "\n")
            handle.flush()
            print(_line(len(answers), len(rows), answers[-1]), flush=True)
    return {
        "job": asdict(job),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers)} | {"textattack": "0.3.11"},
        "batch_size": batch_size,
        "precision": "bfloat16" if judge.bfloat16 else "float32",
        "texts_per_second": rates,
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "stopped": sum(row["outcome"] == "stopped" for row in answers),
        "attack": repr(attack),
    }


def _line(done: int, of: int, row: dict[str, Any]) -> str:
    score = math.nan if row["score"] is None else row["score"]
    spent = f"{row['queries']:6d} queries {row['seconds']:7.2f} s"
    return f"  {done:4d} / {of}  {row['outcome']:16}  score {score:.4f} {spent}  {row.get('why', '')}"


def main() -> None:
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    summary = run(job)
    Path(job.out).with_suffix(".summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
