"""The attack benchmark in words: a table a recipe, and whether the goals are reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.attacks_peer.sides import Result
from fivenines.stats import attack_cost_exact, attack_cost_ratio_exact, share_exact

__all__ = ["figures", "reached", "table", "verdict"]

TIMES = 10.0  # fewer seconds per success
SHARE = 0.8  # of the classifier's own rate
HEAD = "| | success rate | queries per success | seconds per success | CPU seconds | words changed |"
Verdicts = Mapping[str, Mapping[str, dict[str, Any]]]  # of each side of ours, against each of TextAttack's


def figures(result: Result) -> dict[str, Any]:
    """What JSON keeps; None for what has no value without a success."""
    n, k = len(result.rows), result.fooled
    rate, cost = share_exact(k, n), attack_cost_exact(k, result.seconds, unit="second")
    return {
        "texts": n,
        "fooled": k,
        "success rate": [rate.point, rate.low, rate.high],
        "queries": result.queries,
        "seconds": result.seconds,
        "CPU seconds": result.cpu_seconds,
        "queries per success": result.queries / k if k else None,
        "seconds per success": [cost.point, cost.low, cost.high] if k else None,
        "CPU seconds per success": result.cpu_seconds / k if k else None,
        "words changed": result.words if k else None,
        "fooled with fewer words than before": sum(row.fooled and row.shorter for row in result.rows),
        "classifier asked again disagrees": sum(not row.agreed for row in result.rows),
    }


def verdict(our: Result, their: Result) -> dict[str, Any]:
    """One of ours against one of theirs on the same texts."""
    ratio = attack_cost_ratio_exact(our.fooled, our.seconds, their.fooled, their.seconds)
    known = our.fooled > 0 and their.fooled > 0
    by_cpu = their.cpu_seconds / their.fooled / (our.cpu_seconds / our.fooled) if known else None
    pairs = list(zip(our.rows, their.rows, strict=True))
    return {
        "times": [ratio.point, ratio.low, ratio.high] if known else None,
        "times by CPU": by_cpu,
        "only ours": sum(a.fooled and not b.fooled for a, b in pairs),
        "only theirs": sum(b.fooled and not a.fooled for a, b in pairs),
        "rate reached": our.fooled >= their.fooled,
        "times reached": known and ratio.point >= TIMES,
    }


def reached(our: Result, verdicts: Mapping[str, dict[str, Any]]) -> bool:
    """Whether a side of ours reaches every goal, against every one of theirs."""
    faster = all(v["rate reached"] and v["times reached"] for v in verdicts.values())
    return faster and _keeps_up(our)


def table(recipe: str, results: Mapping[str, Result], verdicts: Verdicts) -> str:
    """Markdown: a line a side, and sentences on each."""
    lines = [f"### {recipe}", "", HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    lines += [_line(side, figures(result)) for side, result in results.items()]
    theirs = [side for side in results if side not in verdicts]
    said = [_opponent(side, results[side]) for side in theirs] + [
        f"{side}: " + " ".join([*(_against(peer, v) for peer, v in each.items()), _throughput(results[side])])
        for side, each in verdicts.items()
    ]
    return "\n".join([*lines, *("\n" + each for each in said if each)]) + "\n"


def _line(side: str, f: Mapping[str, Any]) -> str:
    if not f["fooled"]:
        return f"| {side} | 0 of {f['texts']} |  |  |  |  |"
    rate, low, high = (100 * value for value in f["success rate"])
    cost = "{:.3g} ({:.3g} to {:.3g})".format(*f["seconds per success"])
    return (
        f"| {side} | {f['fooled']} of {f['texts']} = {rate:.1f}% ({low:.1f} to {high:.1f}) "
        f"| {f['queries per success']:.0f} | {cost} | {f['CPU seconds per success']:.3g} | {f['words changed']:.1f} |"
    )


def _opponent(side: str, result: Result) -> str:
    about = result.about
    stopped = f"{about['stopped']} texts ended by an error or the limit of time." if about["stopped"] else ""
    if not about["texts_per_second"]:
        return f"{side}: {stopped}" if stopped else ""
    rates = "; ".join(f"{name}: {rate:.0f}" for name, rate in about["texts_per_second"].items())
    choice = f"batches of {about['batch_size']} in {about['precision']}"
    return f"{side}: {choice}, the fastest of its choices (texts a second: {rates}). {stopped}".strip()


def _against(peer: str, v: Mapping[str, Any]) -> str:
    alone = f"fooled by ours alone {v['only ours']}, by it alone {v['only theirs']}"
    rate = f"its success rate {_word(v['rate reached'])} ({alone})."
    if v["times"] is None:
        return f"Against {peer}: seconds per success cannot be compared where nothing was fooled; {rate}"
    times = "{:.1f} times ({:.1f} to {:.1f}; ".format(*v["times"]) + f"{v['times by CPU']:.1f} by CPU time)"
    goal = f"goal of {TIMES:g} {_word(v['times reached'])}"
    return f"Against {peer}: {times} fewer seconds per success, {goal}; {rate}"


def _throughput(our: Result) -> str:
    about, shorter = our.about, figures(our)["fooled with fewer words than before"]
    return (
        f"{about['candidates']:,} candidates in {about['calls']:,} calls, {about['per second']:.0f} a second: "
        f"{_percent(about['share'])} of the rate of one call with all of them, goal of {_percent(SHARE)} "
        f"{_word(_keeps_up(our))} ({_percent(about['share while scoring'])} while it scores). Of its "
        f"successes {shorter} have fewer words than before."
    )


def _keeps_up(our: Result) -> bool:
    return bool(our.about["share"] >= SHARE)


def _word(done: bool) -> str:
    return "reached" if done else "missed"


def _percent(share: float) -> str:
    return "?" if math.isnan(share) else f"{100 * share:.0f}%"
