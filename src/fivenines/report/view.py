"""From a report to what its page shows: words, numbers with their intervals, tables and plots in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fivenines.evaluate import Measured
from fivenines.report.figures import (
    RateRow,
    draws_figure,
    loss_figure,
    metric_figure,
    rates_figure,
    reliability_figure,
    scores_figure,
    tradeoff_figure,
)
from fivenines.report.fold import fold_reduction
from fivenines.report.records import History, LabelFacts, ModelFacts, Report, Sample
from fivenines.report.words import (
    NOT_MEASURED,
    assumption_badge,
    duration,
    fold_text,
    interval_text,
    is_exact,
    level_text,
    number_text,
    point_text,
    visible,
)
from fivenines.stats import Estimate

__all__ = ["Number", "page"]

_SHOWN = 10  # samples of each kind
_SHORT, _LONG = 80, 4000  # characters of a name, of a paragraph


@dataclass(frozen=True, slots=True)
class Number:
    """A quantity as it is printed. ``badge`` is "exact" or what it assumes; ``note`` a known truth."""

    label: str
    value: str
    interval: str = ""
    badge: str = ""
    assumptions: tuple[str, ...] = ()
    note: str = ""
    right: bool = True  # whether the interval contains the known truth
    role: str = ""

    @property
    def trusts(self) -> bool:
        """Whether the interval rests on more than a fair sample and right labels."""
        return self.badge.startswith(("assumes", "approximate"))


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its title and what to read in it."""

    svg: str
    title: str
    caption: str


def page(report: Report) -> dict[str, Any]:
    """The variables of the template."""
    distributions = report.evaluation.distributions
    main = distributions[0]
    numbers = [_numbers(measured) for measured in distributions]
    return {
        "task": visible(report.task, _SHORT),
        "behavior": visible(report.behavior, _LONG),
        "created": visible(report.created, _SHORT),
        "headline": headline(main),
        "cards": numbers[0],
        "level": f"{100 * report.evaluation.level:.6g}%",
        "main": visible(main.name, _SHORT),
        "names": [visible(measured.name, _SHORT) for measured in distributions],
        "rows": list(zip(*numbers, strict=True)),
        "counts": [_counts(measured) for measured in distributions],
        "rates": _rates(report),
        "tradeoff": _tradeoff(report, main),
        "classifier": _model_view(report.classifier, "classifier"),
        "generator": _model_view(report.generator, "generator"),
        "scores": _score_plots(report),
        "draws": _draw_plots(report),
        "samples": _samples(report),
        "threshold": _threshold(report),
        "labels": [_label_row(row) for row in report.labels],
        "agreement": report.evaluation.agreement,
        "full": _full(report),
        "timing": [(visible(stage, _SHORT), duration(s)) for stage, s in report.timing.items()],
        "total": duration(sum(report.timing.values())) if report.timing else "",
        "versions": [(visible(k, _SHORT), visible(v, _SHORT)) for k, v in report.versions.items()],
        "assumptions": [visible(text, _LONG) for text in _assumptions(report)],
        "seed": report.seed,
        "command": visible(report.command, _LONG),
    }


def headline(measured: Measured) -> dict[str, str]:
    """The answer in one line, the evidence in the next. The nines are those of the bound."""
    rate, counts = _system_rate(measured), measured.counts
    lead = f"Filtered, prompts of '{visible(measured.name, _SHORT)}':"
    if rate is None:
        return {
            "lead": lead,
            "big": NOT_MEASURED,
            "level": "",
            "why": f"{counts.outputs:,} outputs were made and none of them has a label yet.",
        }
    failures = round(rate.point * rate.n) if is_exact(rate) else None
    seen = {0: "No failure", 1: "1 failure"}.get(failures or 0, f"{failures or 0:,} failures")
    bound = f"the failure rate is {_between(rate)}"
    why = f"{seen} in {rate.n:,} labelled outputs: {bound}."
    if failures is None:
        why = f"From labels on first draws, weighted: {bound}."
    return {
        "lead": lead,
        "big": f"at least {rate.nines:.1f}\u00a0nines",
        "level": level_text(rate),
        "why": why,
    }


def _between(rate: Estimate) -> str:
    text = interval_text(rate)
    return text if text.startswith("at most") else f"between {text.replace(' to ', ' and ')}"


def _system_rate(measured: Measured) -> Estimate | None:
    """The rate of the filtered system that trusts least: labels on outputs before reused ones."""
    for rate in (measured.filtered_failure_rate, measured.reused_failure_rate):
        if rate is not None and rate.n:
            return rate
    return None


def _numbers(measured: Measured) -> list[Number]:
    truth = {known.name: known for known in measured.truth}

    def number(name: str, label: str, role: str = "", as_share: bool = True) -> Number:
        estimate = getattr(measured, name)
        if estimate is None or (estimate.n == 0):
            return Number(label, NOT_MEASURED, role=role)
        known, note, right = truth.get(name), "", True
        if known is not None:
            shown = point_text(
                Estimate(known.value, known.value, known.value, 0.95, 1, "", (), estimate.what)
            )
            right = known.contained
            note = f"true value {shown}: {'inside' if right else 'outside'} the interval"
        value = point_text(estimate, as_share)
        interval = interval_text(estimate, as_share)
        if estimate.is_failure_rate and estimate.point == 0:
            none = "no failure in" if is_exact(estimate) else "no accepted failure in"
            value, interval = interval, f"{none} {estimate.n:,}"
        return Number(
            label, value, interval, assumption_badge(estimate), estimate.assumptions, note, right, role
        )

    speed = measured.outputs_per_second
    return [
        number("unfiltered_failure_rate", "Unfiltered failure rate", "unfiltered"),
        number("filtered_failure_rate", "Filtered failure rate", "filtered"),
        _fold(measured),
        number("quality", "Quality against unfiltered"),
        number("acceptance", "Acceptance of a draw"),
        number("draws_per_output", "Draws per output", as_share=False),
        Number("Throughput", NOT_MEASURED if speed is None else f"{number_text(speed)} outputs/s"),
        number("abstention", "Prompts without output"),
        number("reused_failure_rate", "Filtered, from reused labels", "filtered"),
    ]


def _fold(measured: Measured) -> Number:
    fold = fold_reduction(measured.unfiltered_failure_rate, measured.filtered_failure_rate)
    value, interval = fold_text(fold)
    if fold is None:
        return Number("Fewer failures", value)
    return Number("Fewer failures", value, interval, assumption_badge(fold), fold.assumptions)


def _counts(measured: Measured) -> dict[str, str]:
    counts = measured.counts
    asked = {"unfiltered": counts.unfiltered_missing, "filtered": counts.filtered_missing}
    missing = {kind: f", {left:,} unanswered" if left else "" for kind, left in asked.items()}
    return {
        "Prompts": f"{counts.prompts:,}",
        "Labels on first draws": f"{counts.unfiltered_labels:,}{missing['unfiltered']}",
        "Labels on outputs": f"{counts.filtered_labels:,}{missing['filtered']}",
        "Pairs compared": f"{counts.compared:,} of {counts.pairs:,}",
    }


def _rates(report: Report) -> Plot:
    rows = []
    for measured in report.evaluation.distributions:
        truth = {known.name: known.value for known in measured.truth}
        for kind in ("unfiltered", "filtered"):
            name = f"{kind}_failure_rate"
            estimate = getattr(measured, name)
            if estimate.n:
                rows.append(
                    RateRow(f"{measured.name}, {kind}", estimate, kind == "filtered", truth.get(name))
                )
    known = " Diamonds are the true rates." if any(row.truth for row in rows) else ""
    caption = (
        f"Lines are intervals; an arrow means that no failure was seen, from the upper bound down.{known}"
    )
    return Plot(rates_figure(rows) if rows else "", "Failure rates", caption)


def _tradeoff(report: Report, measured: Measured) -> list[Plot]:
    value = None if report.threshold is None else report.threshold.value
    plots = []
    for name, title, caption, log in (
        (
            "failure_rate",
            "Failure rate of the filtered system",
            "From the labels on first draws, reused.",
            True,
        ),
        ("acceptance", "Acceptance of a draw", "Share of first draws that pass.", False),
        ("quality", "Quality", "Preference for the filtered output, ties a half; 50% is no loss.", False),
    ):
        points = [(p.threshold, e) for p in measured.curve if (e := getattr(p, name)) is not None and e.n]
        if len(points) > 1:
            plots.append(Plot(tradeoff_figure(points, value, name, title, log), title, caption))
    return plots


def _score_plots(report: Report) -> list[Plot]:
    facts, plots = report.classifier, []
    value = None if report.threshold is None else report.threshold.value
    if facts.scores is not None:
        caption = "Failures left of the threshold are misses; ok snippets right of it are rejected in vain."
        plots.append(Plot(scores_figure(facts.scores, value), "Scores of failures and ok snippets", caption))
    if facts.reliability is not None and facts.reliability.n:
        caption = (
            "On the dashed line a score means what it says. Bars are exact intervals; a lone tick is a bound."
        )
        plots.append(Plot(reliability_figure(facts.reliability), "Reliability of the scores", caption))
    return plots


def _draw_plots(report: Report) -> list[Plot]:
    first = report.evaluation.distributions[0].name
    draws = report.draws.get(first)
    if draws is None or not (sum(draws.counts) or draws.abstained):
        return []
    caption = f"On the prompts of '{visible(first, _SHORT)}'. One draw means that the first draw passed."
    return [Plot(draws_figure(draws), "Draws per output", caption)]


def _model_view(facts: ModelFacts, name: str) -> dict[str, Any]:
    rows = [(visible(str(key), _SHORT), visible(_fact(value), 200)) for key, value in facts.facts.items()]
    return {
        "name": visible(facts.name, _SHORT),
        "rows": rows,
        "curves": _curves(facts.history, name),
        "estimates": [
            Number(
                _capital(visible(e.what, _SHORT)), point_text(e, False), interval_text(e, False),
                assumption_badge(e), e.assumptions,
            )
            for e in facts.estimates
        ],
    }  # fmt: skip


def _curves(history: History | None, name: str) -> list[Plot]:
    if history is None or not history.losses:
        return []
    took = "" if history.seconds is None else f" It took {duration(history.seconds)}."
    stopped = (
        f" It ended by {visible(history.stopped, _SHORT)}." if history.stopped not in ("", "finished") else ""
    )
    caption = f"Loss at each step, faint, and its running mean.{took}{stopped}"
    plots = [Plot(loss_figure(history, name), f"Training of the {name}", caption)]
    if any(value is not None for _, value in history.metrics):
        best = "" if history.best_step is None else f" The weights of step {history.best_step:,} were kept."
        title = _capital(visible(history.metric, _SHORT))
        plots.append(
            Plot(metric_figure(history, name), title, f"On validation data, higher is better.{best}")
        )
    return plots


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return number_text(value) if isinstance(value, float) else str(value)


def _samples(report: Report) -> list[dict[str, Any]]:
    samples = report.samples
    groups = []
    for title, found, total in (
        ("Accepted", samples.accepted, samples.n_accepted),
        ("Rejected", samples.rejected, samples.n_rejected),
    ):
        shown, total = found[:_SHOWN], max(total, len(found))
        note = f"The first {len(shown):,} of {total:,}, as they came." if total else "None."
        groups.append({"title": title, "note": note, "items": [_sample(one) for one in shown]})
    return groups


def _sample(sample: Sample) -> dict[str, str]:
    return {
        "prompt": visible(sample.prompt),
        "completion": visible(sample.completion) or "(empty)",
        "score": "no score" if sample.score is None else f"score {number_text(sample.score)}",
        "reason": visible(sample.reason, _SHORT),
        "draw": f"draw {sample.draw:,}",
        "distribution": visible(sample.distribution, _SHORT),
    }


def _threshold(report: Report) -> dict[str, Any]:
    threshold = report.threshold or report.evaluation.threshold
    if threshold is None:
        return {}
    estimates = [each for each in (threshold.miss_rate, threshold.acceptance) if each is not None]
    return {
        "value": f"{threshold.value:.4g}",
        "text": visible(str(threshold), _LONG),
        "unsure": threshold.unsure,
        "estimates": [each.line for each in estimates],
        "assumptions": [visible(text, _LONG) for text in threshold.assumptions],
    }


def _label_row(row: LabelFacts) -> dict[str, Any]:
    return {
        "purpose": visible(row.purpose, _SHORT),
        "numbers": [
            f"{value:,}"
            for value in (
                row.snippets,
                row.labels,
                row.labelers,
                row.failures,
                row.oks,
                row.unsures,
                row.disputed,
            )
        ],
        "agreement": visible(row.agreement, _LONG) or NOT_MEASURED,
    }


def _full(report: Report) -> list[tuple[str, str, tuple[str, ...]]]:
    """Every estimate in its own words, with all that it assumes."""
    found: list[tuple[str, Estimate]] = []
    for measured in report.evaluation.distributions:
        name = visible(measured.name, _SHORT)
        found += [(name, estimate) for estimate in measured.estimates.values()]
        fold = fold_reduction(measured.unfiltered_failure_rate, measured.filtered_failure_rate)
        found += [] if fold is None else [(name, fold)]
    found += [("classifier", estimate) for estimate in report.classifier.estimates]
    return [
        (name, each.line, each.assumptions) if each.n else (name, f"{each.what} {NOT_MEASURED}", ())
        for name, each in found
    ]


def _assumptions(report: Report) -> Iterable[str]:
    """What was said of the whole, and every assumption of an estimate, each once."""
    own = [
        text for m in report.evaluation.distributions for e in m.estimates.values() for text in e.assumptions
    ]
    threshold = () if report.threshold is None else report.threshold.assumptions
    return dict.fromkeys((*report.assumptions, *threshold, *own))
