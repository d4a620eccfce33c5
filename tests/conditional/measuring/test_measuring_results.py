"""Arms as records: to JSON and back, pooled over seeds, as a table and as a plot."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.conditional.measuring.diversity import diversity
from fivenines.conditional.measuring.frontier import (
    frontier_figure,
    frontier_record,
    pareto_optimal,
    write_frontier,
)
from fivenines.conditional.measuring.results import (
    Arm,
    PooledArm,
    pooled,
    read_arms,
    results_table,
    write_arms,
)
from fivenines.errors import DataError, NotEnoughDataError
from fivenines.stats import Estimate, failure_rate_exact, failure_rate_unlike


def cost_of(point: float) -> Estimate:
    return Estimate(
        point, point - 0.01, point + 0.01, 0.99, 50, "jackknife", (), "nats, model over base", True
    )


def arm(objective: str, seed: int, failures: int, cost: float | None = 1.0, control: str = "none") -> Arm:
    relative = None if cost is None else cost_of(cost)
    return Arm(
        objective, seed, control, failures, 4096, failure_rate_exact(failures, 4096), relative=relative
    )


ARMS = [
    *(arm("likelihood", seed, k) for seed, k in ((1, 98), (2, 90), (3, 105))),
    *(arm("conditional", seed, k, 1.02, "bad tag banned") for seed, k in ((1, 9), (2, 12), (3, 7))),
    *(arm("filtering", seed, k, 1.08) for seed, k in ((1, 30), (2, 28), (3, 41))),
    *(arm("unlikelihood", seed, 0, 1.2) for seed in (1, 2, 3)),
]


def test_arms_survive_json(tmp_path: Path) -> None:
    full = replace(
        ARMS[0],
        nats=cost_of(3.0),
        kl=cost_of(0.1),
        maximum=cost_of(0.5),
        attacked=failure_rate_exact(3, 10),
        diversity=diversity(["a b", "a c d"]),
        facts={"hours": 1.5, "unique tokens": 10},
    )
    arms = [full, *ARMS[1:]]
    assert write_arms(tmp_path / "arms.jsonl", arms) == 12
    assert read_arms(tmp_path / "arms.jsonl") == arms
    with (tmp_path / "arms.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"objective": "x"}) + "\n")
    with pytest.raises(DataError, match="line 13: a result must be an arm"):
        read_arms(tmp_path / "arms.jsonl")
    with pytest.raises(DataError, match="failures of x must not exceed the draws, got 3 of 2"):
        Arm("x", 0, "none", 3, 2, failure_rate_exact(0, 2))


def test_seeds_are_pooled() -> None:
    found = pooled(ARMS)
    assert [(one.objective, one.control, one.seeds) for one in found][:2] == [
        ("likelihood", "none", (1, 2, 3)),
        ("conditional", "bad tag banned", (1, 2, 3)),
    ]
    exact = failure_rate_unlike(293, 3 * 4096)
    assert (found[0].rate.point, found[0].rate.low, found[0].rate.high) == (
        exact.point,
        exact.low,
        exact.high,
    )
    assert found[0].cost is not None
    assert (found[0].cost.point, found[0].cost.low) == pytest.approx((1.0, 0.99))
    assert found[0].cost.level == pytest.approx(0.97)
    assert 0.3 < found[0].alike <= 1.0
    differing = pooled([arm("x", 1, 5), arm("x", 2, 60), arm("x", 3, 7)])[0]
    assert differing.alike < 1e-3
    betting = [replace(a, rate=replace(a.rate, method="betting, by prompt")) for a in ARMS[:3]]
    assert pooled(betting)[0].rate.method == "mean of 3 intervals"
    assert pooled([replace(ARMS[0], relative=None), ARMS[1]])[0].cost is None
    with pytest.raises(DataError, match="likelihood under none must have one result a seed"):
        pooled([ARMS[0], ARMS[0]])
    with pytest.raises(DataError, match="cost must be relative, nats or kl, got price"):
        pooled(ARMS, "price")


def test_the_table() -> None:
    lines = results_table([*ARMS, arm("a|b", 1, 5, None), arm("a|b", 2, 60, None)]).splitlines()
    assert lines[0] == (
        "| objective | control | seeds | failure rate | interval | rate of each seed | nats over plain | interval |"
    )
    assert len(lines) == 2 + 5
    assert "| 2.38% | " in lines[2]
    assert "| 2.39%, 2.2%, 2.56% |" in lines[2]
    assert "at most" in lines[5]
    assert "| a\\|b | none | 2 |" in lines[6]
    assert "seeds differ, p = " in lines[6]
    assert "not measured" in lines[6]
    assert "| +0.00% | -1.00% to +1.00% |" in lines[2]
    cost = replace(cost_of(1.0), point=1.00514, low=0.99996, high=1.01001)
    told = results_table([replace(ARMS[0], relative=cost, attacked=failure_rate_exact(30, 100))]).splitlines()
    assert told[0].endswith("| nats over plain | interval | under attack | interval |")
    assert "| +0.51% | -0.01% to +1.01% | 30% | 21.2% to 40% |" in told[2]
    assert "nan" not in results_table([replace(ARMS[0], relative=replace(cost, point=math.nan, n=0))])


def point(rate: float, cost: float | None) -> PooledArm:
    estimate = Estimate(rate, rate / 2, rate * 2 + 1e-4, 0.95, 100, "exact binomial")
    return PooledArm("x", "none", (1,), (), estimate, None if cost is None else cost_of(cost), 1.0)


def test_the_frontier_by_hand() -> None:
    points = [point(0.02, 1.0), point(0.003, 1.02), point(0.008, 1.08), point(0.0, 1.2), point(0.001, None)]
    assert pareto_optimal(points) == [True, True, False, True, False]
    assert pareto_optimal([point(0.01, 1.0)] * 2) == [True, True]
    looser = replace(point(0.0, 1.0), rate=Estimate(0.0, 0.0, 0.5, 0.95, 5, "exact binomial"))
    assert pareto_optimal([point(0.0, 1.0), looser]) == [True, False]
    assert pareto_optimal([point(0.01, 1.0), looser]) == [
        True,
        False,
    ]  # few draws without a failure beat nobody
    endless = replace(cost_of(1.0), point=math.inf, high=math.inf)
    assert pareto_optimal([replace(point(0.01, 1.0), cost=endless)]) == [False]
    unknown = replace(point(0.1, 0.5), rate=Estimate(math.nan, 0.0, 1.0, 0.95, 0, "exact binomial"))
    assert pareto_optimal([unknown, point(0.1, 1.0)]) == [False, True]


@given(st.lists(st.tuples(st.floats(1e-5, 0.5), st.floats(0.9, 1.5)), min_size=1, max_size=12))
@settings(max_examples=60)
def test_what_is_not_on_the_frontier_is_beaten_by_what_is(places: list[tuple[float, float]]) -> None:
    points = [point(rate, cost) for rate, cost in places]
    best = pareto_optimal(points)
    frontier = [place for place, optimal in zip(places, best, strict=True) if optimal]
    assert frontier
    for place, optimal in zip(places, best, strict=True):
        beaten = [one for one in frontier if one != place and one[0] <= place[0] and one[1] <= place[1]]
        assert bool(beaten) is not optimal


def test_the_figure_says_what_it_shows() -> None:
    before = dict(matplotlib.rcParams)
    svg = frontier_figure(ARMS)
    assert dict(matplotlib.rcParams) == before
    assert svg == frontier_figure(ARMS)
    assert "var(--filtered)" in svg
    assert "#0102" not in svg
    for text in ("conditional, bad tag banned", "likelihood: 2.38%", "unlikelihood: 0 (at most", "filtering"):
        assert text in svg
    ElementTree.fromstring(svg)
    assert "KL of text" in frontier_figure([replace(a, kl=cost_of(0.4)) for a in ARMS], "kl")
    with pytest.raises(NotEnoughDataError, match="the frontier needs an arm with a rate and a cost"):
        frontier_figure([arm("x", 1, 3, None)])


def test_the_files(tmp_path: Path) -> None:
    svg, png, record, table = write_frontier(tmp_path, ARMS)
    alone = svg.read_text(encoding="utf-8")
    assert ElementTree.fromstring(alone).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in alone
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(png.read_bytes()) > 20_000
    data = json.loads(record.read_text(encoding="utf-8"))
    assert data == json.loads(json.dumps(frontier_record(ARMS)))
    assert [row["pareto_optimal"] for row in data["arms"]] == [True, True, False, True]
    text = table.read_text(encoding="utf-8")
    assert (
        "Pareto-optimal, by the upper ends of the rates: likelihood; conditional, bad tag banned; unlikelihood."
        in text
    )
    again = write_frontier(tmp_path / "again", ARMS)
    assert again[1].read_bytes() == png.read_bytes()


def test_a_cost_without_an_end_is_told_and_drawn() -> None:
    wide = replace(cost_of(1.02), high=math.inf)
    arms = [*ARMS, replace(arm("wide", 1, 9), relative=wide), replace(arm("lost", 1, 9), relative=None)]
    assert "| +2.00% | +1.00% to ∞ |" in results_table(arms)
    lost = replace(arm("endless", 1, 9), relative=replace(wide, point=math.inf))
    svg = frontier_figure([*arms, lost])
    assert "wide" in svg
    assert "lost" not in svg
    assert "endless" not in svg
    ticks = [float(tick) for tick in re.findall(r">([+-][0-9.]+)%</text>", svg)]
    assert 0.0 < max(map(abs, ticks)) < 100.0
    with pytest.raises(NotEnoughDataError):
        frontier_figure([lost])


def test_the_table_says_at_which_level_an_interval_holds_and_shows_facts() -> None:
    cost = replace(cost_of(1.0), level=0.95)
    facts = [
        replace(a, relative=cost, facts={"without output": 0.125, "seconds": 12.5 + a.seed}) for a in ARMS
    ]
    told = results_table(facts, facts={"without output": "share", "seconds": "number"}).splitlines()
    assert told[0].endswith("| nats over plain | interval | without output | seconds |")
    assert "% (85% sure) | 12.5% | 14.5 |" in told[2]  # three costs at 95% each
    assert "sure" not in told[2].split("|")[5]
    assert results_table(ARMS[:1], level=0.99).count("sure") == 0
    many = [replace(arm("x", seed, 5), relative=replace(cost_of(1.0), level=0.9)) for seed in range(12)]
    assert "| +0.00% | -∞ to ∞ (90% sure) |" in results_table(many)
    assert "| not measured |" in results_table([*facts[:1], ARMS[1]], facts={"seconds": "number"})


def test_many_arms_are_numbered_and_listed() -> None:
    """Names that would lie on each other stand beside the plot, each with the number at its mark."""
    crowd = [arm(f"objective {i}", 1, 90 + i % 3, 1.0 + 0.01 * (i // 3)) for i in range(24)]
    named, numbered = frontier_figure(crowd[:6]), frontier_figure(crowd)
    for i in range(24):
        assert f">{i + 1}  objective {i}</text>" in numbered
    assert ">objective 3</text>" in named
    drawn = re.findall(r'<text[^>]* x="([0-9.]+)" y="([0-9.]+)"[^>]*>(\d+)</text>', numbered)
    assert sorted(int(number) for _, _, number in drawn) == list(range(1, 25))
    for (x, y, one), (other_x, other_y, other) in combinations(drawn, 2):
        apart = 2.5 * (len(one) + len(other))  # digits are some 5 points wide and 8 high
        assert abs(float(x) - float(other_x)) > apart or abs(float(y) - float(other_y)) > 8.0, (one, other)
