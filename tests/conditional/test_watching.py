"""What is read from the probabilities of tags: risks over the text, and alarms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Banded, Enclosed, Inline, Labelled, Scheme
from fivenines.conditional.watching import (
    SegmentRisk,
    Watch,
    calibrate_alarm,
    draw_risk,
    html_risk,
    risk_curve,
    segment_risks,
    tag_risk,
    text_risk,
    units,
)
from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.models.language_model import SamplingConfig
from small_tagged import GOOD, SCHEME, tagged_model

TAGS = ("<|good|>", "<|bad|>")
TWO = Scheme((Banded("harm"),))


def watch(text: str, offsets: list[int], rows: list[list[float]], tags: tuple[str, ...] = TAGS) -> Watch:
    shares = np.array(rows, dtype=np.float32)
    return Watch(text, tags, tuple(range(len(rows))), np.array(offsets, dtype=np.int64), shares)


#       forced, " She", " ran", ".", tag, " He", " fell", ".", end
TEXT = "She ran. He fell."
OFFSETS = [0, 0, 3, 7, 8, 8, 11, 16, 17]
ROWS: list[list[float]] = [
    [0.6, 0.2],
    [0, 0.01],
    [0, 0],
    [0, 0],
    [0.1, 0.3],
    [0.01, 0.02],
    [0, 0],
    [0, 0.9],
    [0.1, 0.1],
]


def test_readings_at_a_place() -> None:
    seen = watch(TEXT, OFFSETS, ROWS)
    assert seen.at(0) == slice(0, 2)
    assert seen.at(9) == slice(4, 6)  # "He" begins at 9, its token at 8, behind a tag
    assert seen.at(4) == slice(2, 3)
    assert seen.at(17) == slice(8, 9)
    assert watch("abc", [0, 1], [[0, 0], [0, 0]]).at(3) == slice(0, 0)  # cut off: nothing was read at the end


def test_risk_of_a_segment_is_read_where_its_tag_is_due() -> None:
    risks = segment_risks(watch(TEXT, OFFSETS, ROWS), TWO)
    assert [(each.start, each.end) for each in risks] == [(0, 8), (9, 17)]
    assert [each.risk for each in risks] == pytest.approx([0.25, 0.75])
    assert text_risk(watch(TEXT, OFFSETS, ROWS), TWO) == pytest.approx(0.75)
    after = Scheme((Banded("harm", place="after"),))
    assert [each.risk for each in segment_risks(watch(TEXT, OFFSETS, ROWS), after)] == pytest.approx(
        [0.75, 0.5]
    )


def test_rules_that_tag_the_bad_alone() -> None:
    seen = watch(TEXT, OFFSETS, [[row[1]] for row in ROWS], ("<|bad|>",))
    untagged = Scheme((Banded("harm", tags=("", "<|bad|>")),))
    assert [each.risk for each in segment_risks(seen, untagged)] == pytest.approx([0.2, 0.3])
    for scheme in (Scheme((Inline("harm", "<|bad|>"),)), Scheme((Enclosed("harm", "<|bad|>", "</bad>"),))):
        both = np.hstack([seen.probabilities, 0 * seen.probabilities])
        shares = both[:, : len(scheme.tags)]
        mine = Watch(TEXT, scheme.tags, seen.tokens, seen.offsets, shares)
        assert [each.risk for each in segment_risks(mine, scheme)] == pytest.approx([0.2, 0.9])


def test_tag_risk() -> None:
    assert tag_risk([[0.3, 0.1], [0.0, 0.0]], TAGS, TWO) == pytest.approx([0.25, np.nan], nan_ok=True)
    both = Scheme((Banded("harm"), Labelled("kind", {"a": "<|a|>", "b": "<|b|>"}, banned=("b",))))
    assert tag_risk([0.3, 0.1, 0.01, 0.09], both.tags, both) == pytest.approx(0.9)
    with pytest.raises(ConfigError, match="a risk needs a scheme with a bad tag"):
        tag_risk([1.0], ("<|a|>",), Scheme((Labelled("kind", {"a": "<|a|>"}),)))


def test_curve() -> None:
    curve = risk_curve(watch(TEXT, OFFSETS, ROWS), TWO)
    assert curve[0][1] == pytest.approx(0.2)
    assert [offset for offset, _ in curve] == OFFSETS


def test_units() -> None:
    assert units("She ran. He fell.", "sentence") == [(0, 8), (9, 17)]
    assert units("  a b\n\n\tc \n", "line") == [(2, 5), (8, 9)]
    assert units(" \n", "line") == []
    assert units("", "sentence") == []
    assert np.isnan(text_risk(watch("", [0], [[0.5, 0.5]]), TWO))


def test_a_row_of_json() -> None:
    row = watch("ab", [0, 1], [[0.5, 0.25], [0.0, 1.0]]).to_row()
    assert json.loads(json.dumps(row)) == row
    assert row["probabilities"] == [[0.5, 0.25], [0.0, 1.0]]


# -- places of real tokens


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_offsets_of_what_a_model_wrote(tokenizer: str) -> None:
    model = tagged_model(tokenizer)
    sampling = SamplingConfig(max_new_tokens=40, stop="eos")
    tags = set(model.tags.values())
    for each in TaggedGenerator(model, TagPolicy(), sampling=sampling).write(["Then Ann sang."] * 30, seed=0):
        seen = each.watch
        assert each.watch is seen
        assert len(seen.offsets) == len(seen.tokens) == len(seen.probabilities)
        assert (np.diff(seen.offsets) >= 0).all()
        assert seen.offsets.max(initial=0) <= len(seen.text)
        names: Any = model.language.tokenizer
        for token, start, end in zip(
            seen.tokens, seen.offsets, [*seen.offsets[1:], len(seen.text)], strict=True
        ):
            piece = seen.text[start:end]
            if token in tags or token == names.eos_token_id:
                assert piece == ""
            elif end < len(seen.text):
                assert piece.strip() == names.decode([token]).strip()


def test_where_a_sentence_begins_a_tag_is_due() -> None:
    model = tagged_model()
    sampling = SamplingConfig(max_new_tokens=40, stop="eos")
    written = TaggedGenerator(model, TagPolicy(force=(GOOD,)), sampling=sampling).write(["Then"] * 40, seed=0)
    tags = model.tags.values()
    for each in written:
        seen = each.watch
        for start, _ in units(seen.text, "sentence")[1:]:
            rows = seen.at(start)
            told = any(token in tags for token in seen.tokens[rows])
            assert told or seen.probabilities[rows].sum(axis=1).max() < 0.999
    risks = [risk.risk for each in written for risk in segment_risks(each.watch, SCHEME)]
    assert np.isfinite(risks).all()


# -- alarms


@pytest.mark.parametrize("confidence", [None, 0.9])
def test_false_alarms_are_as_rare_as_said(confidence: float | None) -> None:
    rng = np.random.default_rng(0)
    rates = [1.0 - calibrate_alarm(rng.random(300), 0.05, confidence=confidence).level for _ in range(2000)]
    if confidence is None:
        assert 0.045 < np.mean(rates) <= 0.0505
    else:  # of 2,000 calibrations at most one in ten may exceed the rate; 4 standard errors beside
        share = float(np.mean(np.array(rates) > 0.05))
        assert 0.03 < share < 0.1 + 4 * np.sqrt(0.09 / 2000)


@given(st.integers(1, 60), st.floats(0.01, 0.6), st.sampled_from([None, 0.8, 0.95]))
def test_an_alarm_needs_enough_texts(n: int, rate: float, confidence: float | None) -> None:
    try:
        alarm = calibrate_alarm(np.linspace(0, 1, n), rate, confidence=confidence)
    except NotEnoughDataError as error:
        needed = n + (error.more_needed or 0)
    else:
        assert alarm.rings(np.linspace(0, 1, n)).mean() <= rate
        assert alarm.rings([np.nan, np.inf, alarm.level]).tolist() == [True, True, False]
        return
    assert needed > n
    more = np.linspace(0, 1, needed)
    assert calibrate_alarm(more, rate, confidence=confidence).level == 1.0  # just enough


def test_what_an_alarm_refuses() -> None:
    with pytest.raises(NotEnoughDataError, match=r"an alarm needs 59 good texts for a rate of 0\.05, got 20"):
        calibrate_alarm(np.zeros(20), 0.05)
    with pytest.raises(DataError, match="risks"):
        calibrate_alarm([0.1, np.nan], 0.5)
    with pytest.raises(ConfigError, match="rate must lie strictly between 0 and 1"):
        calibrate_alarm([0.1], 1.0)


# -- drawing


def test_drawing() -> None:
    parts = [SegmentRisk(0, 4, 0.01), SegmentRisk(5, 8, 0.7), SegmentRisk(9, 10, float("nan"))]
    text = "a<b. c&d e"
    assert draw_risk(text, parts, colour=False) == "a<b. [0.01] c&d [0.7] e [nan]"
    assert (
        draw_risk(text, parts) == "a<b. \x1b[41mc&d\x1b[0m \x1b[41me\x1b[0m"
    )  # what was not read counts as risky
    drawn = html_risk(text, parts)
    assert "a&lt;b." in drawn
    assert 'title="P(bad) 0.7">c&amp;d</span> ' in drawn
    assert drawn.count("<span") == 3
