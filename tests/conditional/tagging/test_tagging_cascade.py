"""The cascade: whose score a segment gets, and what the audit says of the recall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from fivenines.conditional.tagging.cascade import CascadeScorer, recall_of_cascade
from fivenines.conditional.tagging.making import make_scorer
from fivenines.conditional.tagging.rules import RegexScorer
from fivenines.conditional.tagging.scorers import Scores, marks_by
from fivenines.conditional.tagging.spans import SpannedText, segments
from fivenines.errors import ConfigError


@dataclass(frozen=True)
class Exact:
    """Bad is what holds "bad"; it cannot score what holds "strange"."""

    name: str = "exact"
    version: str = "1"

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        found = []
        for text in texts:
            scores = np.full(len(text.spans), np.nan)
            for i in text.asked:
                piece = text.text[slice(*text.spans[i])]
                scores[i] = np.nan if "strange" in piece else 0.9 if "bad" in piece else 0.2
            found.append(scores)
        return found


def cut(text: str, name: str = "t") -> SpannedText:
    return SpannedText(text, segments(text, "sentences"), id=name)


def a_cascade(audit: float = 0.0) -> CascadeScorer:
    return CascadeScorer(RegexScorer("loud", name="cheap"), Exact(), cut=1, audit=audit)


def test_the_exact_score_where_the_cheap_one_is_not_below_its_cut() -> None:
    text = cut("A loud bad one. A loud one. A bad one. Nothing. A loud strange one.")
    cascade = a_cascade()
    (marks,) = marks_by(cascade, [text])
    assert [each.scorer for each in marks] == ["cheap", "cascade"]
    assert marks[0].scores == (1, 1, 0, 0, 1)  # whose score it is can be told from these
    assert marks[1].scores == (0.9, 0.2, 0, 0, None)
    assert marks[1].version == cascade.version != marks[0].version
    assert cascade.counts() == {
        "above the cut": 3,
        "below the cut": 2,
        "bad above the cut": 1,
        "audited": 0,
        "bad among the audited": 0,
    }


def test_an_audit_of_all_is_the_exact_scorer() -> None:
    text = cut("A loud bad one. A bad one. Nothing. A strange one.")
    cascade = a_cascade(audit=1.0)
    np.testing.assert_array_equal(cascade.score([text])[0], [0.9, 0.9, 0.2, np.nan])
    assert cascade.counts()["audited"] == 3
    assert cascade.counts()["bad among the audited"] == 2  # one is bad, one could not be scored


def test_the_audit_draws_the_same_segments_in_any_company() -> None:
    texts = [cut("Nothing. " * 50, str(i)) for i in range(40)]
    cascade = a_cascade(audit=0.1)
    together = cascade.score(texts)
    alone = [a_cascade(audit=0.1).score([text])[0] for text in reversed(texts)][::-1]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    drawn = cascade.counts()["audited"]
    assert 140 < drawn < 260  # of 2,000
    assert drawn == sum(int((scores == 0.2).sum()) for scores in together)


def test_the_recall_of_a_cascade_by_hand() -> None:
    share, recall = recall_of_cascade(
        {"below the cut": 1000, "bad above the cut": 50, "audited": 100, "bad among the audited": 1}
    )
    assert share.point == pytest.approx(0.01)
    assert (share.low, share.high) == pytest.approx(
        (0.000253146, 0.0544594), rel=1e-4
    )  # Clopper-Pearson, 1 of 100
    assert recall.point == pytest.approx(50 / 60)
    assert recall.low == pytest.approx(50 / (50 + 1000 * 0.0544594), rel=1e-4)
    assert recall.high == pytest.approx(50 / (50 + 1000 * 0.000253146), rel=1e-4)
    assert "recall of the cascade 0.833" in recall.line


def test_without_an_audit_nothing_is_known() -> None:
    share, recall = recall_of_cascade(Counter({"below the cut": 10, "bad above the cut": 3}))
    assert (share.low, share.high) == (0, 1)
    assert recall.low == pytest.approx(3 / 13)
    assert recall.high == 1
    _, none = recall_of_cascade({"below the cut": 10, "audited": 10})
    assert (none.low, none.high) == (0, 1)


def test_the_interval_of_the_recall_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        bad_below, below, caught = 30, 3000, 200
        audited = rng.random(below) < 0.05
        missed = int(audited[:bad_below].sum())
        counts = {
            "below the cut": below,
            "bad above the cut": caught,
            "audited": int(audited.sum()),
            "bad among the audited": missed,
        }
        held += recall_of_cascade(counts, level=0.9)[1].contains(caught / (caught + bad_below))
    assert held >= 0.9 * 400 - 2 * np.sqrt(400 * 0.09)  # exact intervals hold at least as often, less chance


def test_settings_of_a_cascade() -> None:
    cheap = RegexScorer("a", name="cheap")
    with pytest.raises(ConfigError, match=r"audit must lie in \[0, 1\]"):
        CascadeScorer(cheap, Exact(), 1, audit=2)
    with pytest.raises(ConfigError, match="cut must be above 0"):
        CascadeScorer(cheap, Exact(), 0)
    with pytest.raises(ConfigError, match="must have names of their own"):
        CascadeScorer(cheap, RegexScorer("b", name="cheap"), 1)
    table = {
        "kind": "cascade",
        "cut": 1,
        "cheap": {"kind": "regex", "pattern": "a"},
        "exact": {"kind": "pii"},
    }
    made = make_scorer(table)
    assert isinstance(made, CascadeScorer)
    assert (made.cheap.name, made.exact.name) == ("cheap", "exact")
    assert made.describe()["exact"]["kind"] == "pii"
