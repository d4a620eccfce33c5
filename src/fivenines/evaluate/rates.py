"""From a tally to estimates: the failure rates by both routes, quality, acceptance, draws."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fivenines.evaluate.tally import Code, Tally
from fivenines.stats import (
    Estimate,
    failure_rate_exact,
    failure_rate_reused,
    preference_coupled,
    ratio_bounded,
    share_exact,
)

__all__ = [
    "abstention",
    "acceptance",
    "draws_per_output",
    "filtered_rate",
    "quality",
    "reused_rate",
    "unfiltered_rate",
]


def unfiltered_rate(tally: Tally, level: float) -> Estimate:
    """P(failure) of the first draw."""
    codes = tally.first_code
    return _exact(tally, codes, "unfiltered", level)


def filtered_rate(tally: Tally, level: float) -> Estimate:
    """P(failure) of what the system returns, from labels on its own outputs (no weights, no trust)."""
    return _exact(tally, tally.output_code[tally.returned], "filtered", level)


def reused_rate(tally: Tally, level: float, threshold: float | None = None) -> Estimate | None:
    """The same quantity from the labels on first draws, weighted by fresh draws to acceptance.

    ``threshold`` asks "what if it were this one"; None takes the run's own decisions. Where an accepted
    failure has no redraws, or they end before an acceptance at a stricter threshold, the weight lies between
    what was seen
    and the budget: the interval covers both ends and the point is not known. None under another policy.
    """
    if tally.policy != "first":
        return None
    known, failed = tally.fails(tally.first_code)
    accepted = tally.first_accepted if threshold is None else tally.first_score < threshold
    hit = known & failed & accepted
    low, high = np.ones(hit.size), np.ones(hit.size)
    for row in np.flatnonzero(hit):
        low[row], high[row] = _draws_to_acceptance(tally, int(row), threshold)
    surely, perhaps = _returned_at(tally, threshold)
    name = "filtered failure rate, reused labels"
    lower, upper = (
        failure_rate_reused(hit[known], ends[known], back[known], tally.budget, level, what=name)
        for ends, back in ((low, perhaps), (high, surely))
    )
    notes = _unsure_note(tally, tally.first_code)
    point = lower.point if np.array_equal(low, high) else math.nan
    if math.isnan(point) and known.any():
        notes = ("some weights are not known (no fresh draws): between those seen and the budget", *notes)
    if not np.array_equal(surely, perhaps):
        notes = ("the point takes no abstentions where the run ended early; the interval allows all", *notes)
    return replace(
        lower,
        point=point,
        high=upper.high,
        what="filtered failure rate",
        method="reused labels, betting",
        assumptions=(*notes, *upper.assumptions),
    )


def quality(tally: Tally, level: float) -> Estimate:
    """Preference for the filtered system by coupling, among prompts that got an output."""
    rejected = ~tally.same[tally.returned]
    preferences = tally.preference[tally.returned][rejected]
    judged = preferences[~np.isnan(preferences)]
    found = preference_coupled(rejected, judged, level)
    note = (
        f"{judged.size:,} of {int(rejected.sum()):,} pairs that differ were judged; abstentions count apart"
    )
    return found.named("quality", note)


def draws_per_output(tally: Tally, level: float) -> Estimate:
    """Draws for every output returned, those of abstentions included."""
    back = tally.returned.astype(np.float64)
    return ratio_bounded(tally.draws, back, float(tally.budget), level=level, what="draws per output")


def acceptance(tally: Tally, level: float) -> Estimate:
    """P(a first draw is accepted), the mean of A(x) over the prompts."""
    return share_exact(int(tally.first_accepted.sum()), len(tally), level, what="acceptance of a draw")


def abstention(tally: Tally, level: float) -> Estimate:
    """P(the budget ends before a draw is accepted)."""
    return share_exact(int((~tally.returned).sum()), len(tally), level, what="abstention")


def _exact(
    tally: Tally, codes: NDArray[np.int8], kind: Literal["unfiltered", "filtered"], level: float
) -> Estimate:
    known, failed = tally.fails(codes)
    found = failure_rate_exact(int(failed.sum()), int(known.sum()), level, what=f"{kind} failure rate")
    return found.named(f"{kind} failure rate", *_unsure_note(tally, codes))


def _unsure_note(tally: Tally, codes: NDArray[np.int8]) -> tuple[str, ...]:
    unsure = int((codes == Code.UNSURE).sum())
    if not unsure:
        return ()
    return (f"{unsure:,} unsure " + ("count as failures" if tally.unsure == "failure" else "are left out"),)


def _draws_to_acceptance(tally: Tally, row: int, threshold: float | None) -> tuple[float, float]:
    """Mean of min(draws to the first acceptance, budget) over the fresh runs: at least, at most."""
    traces, budget = tally.redraws.get(row, []), tally.budget
    if not traces:
        return 1.0, float(budget)
    if threshold is None:
        return (float(np.mean([trace.size for trace in traces])),) * 2
    ends = []
    for scores in traces:
        below = np.flatnonzero(scores < threshold)
        if below.size:
            ends.append((below[0] + 1, below[0] + 1))
        else:  # the run ended here, accepted by a looser threshold or out of budget
            ends.append((min(scores.size + 1, budget), budget))
    low, high = np.mean(ends, axis=0)
    return float(low), float(high)


def _returned_at(tally: Tally, threshold: float | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(which prompts surely get an output, which may): they differ where a run ended too early."""
    if threshold is None:
        return tally.returned, tally.returned
    surely = tally.first_below(threshold) > 0 if tally.traced else tally.output_score < threshold
    return surely, surely | (tally.draws < tally.budget)
