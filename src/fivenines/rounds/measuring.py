"""What a round came to: the cost of fooling its classifier, and how it does on the generator's own draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from fivenines.attacks.goal import Budget
from fivenines.attacks.logbook import run_logged
from fivenines.models.classifier import Classifier
from fivenines.pipeline.labelling import queue_snippets
from fivenines.pipeline.workspace import ATTACK_MEASURE, UNFILTERED, Workspace, read_outputs
from fivenines.records import Answer, Snippet
from fivenines.rounds.choosing import held_out_failures, held_out_prompts, seed_of, starts_of
from fivenines.rounds.families import arsenal_of, attacks_of, goal_of
from fivenines.rounds.folders import Round, counts_of, finds_of
from fivenines.stats import failure_rate_exact, share_exact
from fivenines.store import Step
from fivenines.threshold import Threshold

__all__ = ["measure"]


def measure(one: Round, step: Step) -> None:
    """What it costs to fool the new classifier, by all families, from failing texts that no classifier learnt from;
    and how it does on the generator's own draws.
    """
    work, settings = one.work, one.work.task
    classifier, threshold = one.classifier(), one.threshold()
    found: dict[str, Any] = _in_distribution(work, classifier, threshold)
    count = settings.rounds.measure_starts
    if count:
        failing = held_out_failures(work)
        prompts = held_out_prompts(work, seed_of(one, "prompts"))
        families = (*settings.attack.families, *settings.attack.held_out)
        for family, attacking in attacks_of(arsenal_of(work, prompts), families, classifier).items():
            attempts = run_logged(
                attacking,
                goal_of(settings, classifier, threshold.value),
                starts_of(family, failing, count, np.random.default_rng([settings.seed, 5])),
                step.file(f"{family}.jsonl"),
                budget=Budget(settings.rounds.measure_queries),
                seed=seed_of(one, f"measure {family}"),
                progress=work.progress,
            )
            found[family] = counts_of(attempts)
            queue_snippets(
                work, ATTACK_MEASURE, finds_of(attempts), f"round {one.number} {family}", design="attack"
            )
    step.write_metrics(found)


def _in_distribution(work: Workspace, classifier: Classifier, threshold: Threshold) -> dict[str, Any]:
    """Acceptance of first draws, and failures among those that are accepted, on the judged first draws for the first
    distribution of prompts that `fivenines run` evaluates; none where it has not gone so far.
    """
    name, drawn = next(iter(work.task.evaluate.distributions)), list[Snippet]()
    if (folder := work.step("outputs").path).joinpath("DONE").is_file():
        outputs = read_outputs(folder, name)[: work.task.labels.n_unfiltered]
        drawn = [output.first.snippet for output in outputs]
    snippets, judged = work.judged(UNFILTERED, drawn)
    accepted = threshold.accepts(classifier.scores(snippets)) if snippets else np.zeros(0, dtype=np.bool_)
    failed = np.array([one.answer is not Answer.OK for one in judged], dtype=np.bool_)
    n, k = int(accepted.sum()), int((accepted & failed).sum())
    what = "failures among accepted first draws"
    return {
        "distribution": name,
        "acceptance": share_exact(n, len(snippets), what="acceptance").to_dict(),
        "accepted failures": failure_rate_exact(k, n, what=what).to_dict(),
    }
