"""A cheap scorer before an exact one, and what that costs in recall, measured while it runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivenines.conditional.marks import Marks
from fivenines.conditional.tagging.scorers import Counting, Scores, SpanScorer, as_marks, settings_version
from fivenines.conditional.tagging.spans import SpannedText
from fivenines.errors import ConfigError, sentence
from fivenines.stats import Estimate, share_exact
from fivenines.stats.checks import check_share

__all__ = ["CascadeScorer", "recall_of_cascade"]

_RIGHT = "the exact scorer is right"


@dataclass(frozen=True)
class CascadeScorer:
    """Segments that ``cheap`` scores below ``cut`` keep that score; all others get the score of ``exact``.

    Those that the cheap one cannot score go to the exact one. Its own marks are kept beside the cascade's under its
    own name, so that for each segment it can be told which of the two scored it.

    The audit: of the segments below the cut, the share ``audit``, drawn by a hash of ``seed``, document and place,
    goes to the exact scorer all the same, and keeps the score that it gives. ``bad_above``: what the exact score of a
    bad segment lies above; the audit counts how many such segments the cheap scorer let pass
    (:func:`recall_of_cascade`).
    """

    cheap: SpanScorer
    exact: SpanScorer
    cut: float
    name: str = "cascade"
    audit: float = 0.02
    bad_above: float = 0.5
    seed: int = 0
    version: str = field(default="", init=False)
    _counts: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_share(self.audit, "audit")
        if not self.cut > 0:
            raise ConfigError(sentence("cut", "must be above 0: nothing scores below it", self.cut))
        if len({self.name, self.cheap.name, self.exact.name}) < 3:
            got = ", ".join((self.name, self.cheap.name, self.exact.name))
            raise ConfigError(sentence("the scorers of a cascade", "must have names of their own", got))
        settings = {name: getattr(self, name) for name in ("cut", "audit", "bad_above", "seed")}
        settings |= {"cheap": self.cheap.version, "exact": self.exact.version}
        object.__setattr__(self, "version", settings_version("cascade", settings))

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        parts = {
            role: {**getattr(scorer, "describe", dict)(), "name": scorer.name, "version": scorer.version}
            for role, scorer in (("cheap", self.cheap), ("exact", self.exact))
        }
        settings = {name: getattr(self, name) for name in ("cut", "audit", "bad_above", "seed")}
        return {"kind": "cascade", "name": self.name, **settings, **parts}

    def counts(self) -> Mapping[str, int]:
        """Segments below the cut, at or above it, bad among these; audited, and bad or unscored among those."""
        found = Counter(self._counts)
        for scorer in (self.cheap, self.exact):
            if isinstance(scorer, Counting):
                found.update({f"{scorer.name}: {what}": n for what, n in scorer.counts().items()})
        return found

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """The exact score where there is one, else the cheap one."""
        return [final for _, final in self._both(texts)]

    def marks(self, texts: Sequence[SpannedText]) -> list[tuple[Marks, ...]]:
        """Of the cheap scorer and of the cascade."""
        return [
            (as_marks(self.cheap, text, cheap), as_marks(self, text, final))
            for text, (cheap, final) in zip(texts, self._both(texts), strict=True)
        ]

    def _both(self, texts: Sequence[SpannedText]) -> list[tuple[Scores, Scores]]:
        cheap = self.cheap.score(texts)
        asked, to_exact, audited = [], [], []
        for text, scores in zip(texts, cheap, strict=True):
            wanted = np.zeros(len(text.spans), dtype=np.bool_)
            wanted[text.asked] = True
            below = wanted & (scores < self.cut)  # NaN is not below
            drawn = below & self._drawn(text)
            asked.append(wanted)
            audited.append(drawn)
            to_exact.append((wanted & ~below) | drawn)
        exact = self.exact.score(
            [replace(text, wanted=tuple(some.tolist())) for text, some in zip(texts, to_exact, strict=True)]
        )
        found = []
        for i, scores in enumerate(cheap):
            self._count(asked[i], to_exact[i], audited[i], exact[i])
            found.append((scores, np.where(to_exact[i], exact[i], scores)))
        return found

    def _count(
        self, asked: NDArray[np.bool_], to_exact: NDArray[np.bool_], audited: NDArray[np.bool_], exact: Scores
    ) -> None:
        above = to_exact & ~audited
        self._counts["above the cut"] += int(above.sum())
        self._counts["below the cut"] += int((asked & ~above).sum())
        self._counts["bad above the cut"] += int((above & (exact > self.bad_above)).sum())
        self._counts["audited"] += int(audited.sum())
        # where in doubt bad: what the exact scorer cannot score speaks against the cheap one
        self._counts["bad among the audited"] += int((audited & ~(exact <= self.bad_above)).sum())

    def _drawn(self, text: SpannedText) -> NDArray[np.bool_]:
        """Which segments are audited: the same ones on every machine, whatever shard they are in."""
        if self.audit in (0.0, 1.0):
            return np.full(len(text.spans), self.audit == 1.0)
        key = f"{self.seed}\0{text.id}\0".encode("utf-8", "surrogatepass")
        draws = [
            int.from_bytes(hashlib.blake2b(key + b"%d" % start, digest_size=8).digest(), "big") / 2.0**64
            for start, _ in text.spans
        ]
        return np.array(draws) < self.audit


def recall_of_cascade(counts: Mapping[str, int], level: float = 0.95) -> tuple[Estimate, Estimate]:
    """What the counts of a cascade say: the share of bad segments below the cut, and the recall of the cascade.

    Both by the exact interval of the audit (Clopper and Pearson). The recall is the share of all bad segments of this
    corpus, as the exact scorer judges, that got its score: bad above the cut are known, bad below it are the share of
    the audit times all below. Without an audit both are unknown.
    """
    below, audited = counts.get("below the cut", 0), counts.get("audited", 0)
    caught, missed = counts.get("bad above the cut", 0), counts.get("bad among the audited", 0)
    share = share_exact(missed, audited, level, what="share of bad segments below the cut").named(
        "share of bad segments below the cut", _RIGHT
    )
    if (
        caught == 0
    ):  # no bad segment above the cut: nothing is known of the recall but that it may be anything
        low, point, high = 0.0, float("nan"), 1.0
    else:
        low, point, high = (caught / (caught + below * each) for each in (share.high, share.point, share.low))
    return share, replace(share, what="recall of the cascade", point=point, low=low, high=high)
