"""Schemes: which tag stands where, as rules over marks. One rule a behavior; any number of rules at once.

Banded     a tag before (or after) each span, by the band that its score lies in       <|good|>, <|bad|>
Enclosed   a tag where a bad span begins and one where it ends                         <deceit> ... </deceit>
Inline     a tag before some of the words of bad spans, none elsewhere                 Safety Pretraining
Labelled   a tag before the document, by a column of its metadata                      <|fiction|>

Each tag becomes one token. What must be decided when tags are rendered, and how, stands in docs/design/tags.md.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from fivenines.conditional.marks import MarkedText, Span
from fivenines.errors import ConfigError, sentence
from fivenines.stats.checks import check_finite, check_share, number

__all__ = ["Banded", "Enclosed", "Inline", "Insertion", "Labelled", "Rule", "Scheme"]

_WORD = re.compile(r"\S+")
Insertion = tuple[int, str]  # before text[offset:], this tag


@dataclass(frozen=True)
class Banded:
    """Each span of ``scorer`` gets the tag of its band: ``tags[k]`` above ``edges[k - 1]`` and up to ``edges[k]``.

    ``tags`` from the best band to the worst, one more than ``edges``; "" leaves a band untagged. Bands from
    ``bad_from`` on are bad. ``drop``: the share of spans that go without their tag, so that the model also learns to
    go on without. ``place`` "after" tells what was written, "before" asks for what is to come.
    """

    scorer: str
    edges: tuple[float, ...] = (0.5,)
    tags: tuple[str, ...] = ("<|good|>", "<|bad|>")
    drop: float = 0.1
    place: Literal["before", "after"] = "before"
    bad_from: int = 1
    kind: Literal["banded"] = "banded"

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(number(edge, "an edge") for edge in self.edges))
        object.__setattr__(self, "tags", tuple(self.tags))
        if (
            not self.edges
            or any(high <= low for low, high in pairwise(self.edges))
            or np.isnan(self.edges).any()
        ):
            raise ConfigError(sentence("edges", "must be one rising number or more", list(self.edges)))
        if len(self.tags) != len(self.edges) + 1:
            must = f"must be one more than edges ({len(self.edges)})"
            raise ConfigError(sentence("tags of bands", must, len(self.tags)))
        if both := set(self.tags[: self.bad_from]) & set(self.tags[self.bad_from :]) - {""}:
            raise ConfigError(sentence("a tag", "must not be good and bad at once", min(both)))
        for tag in self.tags:
            if tag and self.tags.count(tag) > 1:
                raise ConfigError(sentence("a tag", "must belong to one rule and stand once in it", tag))
        if not 1 <= self.bad_from <= len(self.edges):
            raise ConfigError(sentence("bad_from", f"must lie in [1, {len(self.edges)}]", self.bad_from))
        if self.place not in ("before", "after"):
            raise ConfigError(sentence("place", "must be before or after", self.place))
        check_share(self.drop, "drop")

    def band(self, score: float) -> int:
        """Which band a score lies in; one on an edge lies in the better band."""
        return sum(score > edge for edge in self.edges)

    def insertions(self, marked: MarkedText, rng: np.random.Generator) -> Iterator[Insertion]:
        """The tags of a text, each with its offset."""
        marks = marked.by(self.scorer)
        kept = rng.random(len(marks.spans)) >= self.drop
        for (start, end), score, keep in zip(marks.spans, marks.scores, kept.tolist(), strict=True):
            tag = "" if score is None else self.tags[self.band(score)]
            if keep and tag:
                yield (start if self.place == "before" else end), tag

    @property
    def good(self) -> tuple[str, ...]:
        """Tags of what is wanted, the best first."""
        return tuple(tag for tag in self.tags[: self.bad_from] if tag)

    @property
    def bad(self) -> tuple[str, ...]:
        """Tags of what is not wanted."""
        return tuple(tag for tag in self.tags[self.bad_from :] if tag)


@dataclass(frozen=True)
class Enclosed:
    """``opening`` before and ``closing`` after each span of ``scorer`` that scores above ``above``.

    Bad spans that touch (nothing but blanks between them) are enclosed together.
    """

    scorer: str
    opening: str
    closing: str
    above: float = 0.5
    drop: float = 0.1
    kind: Literal["enclosed"] = "enclosed"

    def __post_init__(self) -> None:
        if not self.opening or not self.closing or self.opening == self.closing:
            must = "must be two different tags"
            raise ConfigError(sentence("opening and closing", must, f"{self.opening!r} and {self.closing!r}"))
        check_share(self.drop, "drop")
        check_finite(self.above, "above")

    def insertions(self, marked: MarkedText, rng: np.random.Generator) -> Iterator[Insertion]:
        """The tags of a text, each with its offset."""
        for start, end in self._enclosed(marked):
            if rng.random() >= self.drop:
                yield start, self.opening
                yield end, self.closing

    def _enclosed(self, marked: MarkedText) -> list[Span]:
        marks = marked.by(self.scorer)
        found: list[Span] = []
        for span, score in zip(marks.spans, marks.scores, strict=True):
            if score is None or score <= self.above:
                continue
            if found and not marked.text[found[-1][1] : span[0]].strip():
                found[-1] = (found[-1][0], span[1])
            else:
                found.append(span)
        return found

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.opening, self.closing)

    @property
    def good(self) -> tuple[str, ...]:
        return ()

    @property
    def bad(self) -> tuple[str, ...]:
        """To ban the opening is to ban what it opens."""
        return (self.opening,)


@dataclass(frozen=True)
class Inline:
    """``tag`` before each word of the spans that score above ``above`` with probability ``rate``, and nowhere else.

    Safety Pretraining (Maini et al. 2025, section 5): 5% was best of 3, 5 and 10.
    """

    scorer: str
    tag: str = "<|unsafe|>"
    above: float = 0.5
    rate: float = 0.05
    kind: Literal["inline"] = "inline"

    def __post_init__(self) -> None:
        if not self.tag:
            raise ConfigError(sentence("an inline tag", "must not be empty", repr(self.tag)))
        check_share(self.rate, "rate")
        check_finite(self.above, "above")

    def insertions(self, marked: MarkedText, rng: np.random.Generator) -> Iterator[Insertion]:
        """The tags of a text, each with its offset."""
        marks = marked.by(self.scorer)
        for (start, end), score in zip(marks.spans, marks.scores, strict=True):
            if score is not None and score > self.above:
                for word in _WORD.finditer(marked.text, start, end):
                    if rng.random() < self.rate:
                        yield word.start(), self.tag

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.tag,)

    @property
    def good(self) -> tuple[str, ...]:
        return ()

    @property
    def bad(self) -> tuple[str, ...]:
        return (self.tag,)


@dataclass(frozen=True)
class Labelled:
    """The tag of what stands in ``column`` of a document's metadata, before the document.

    ``values`` maps what may stand there to its tag ("" for none); what it does not name goes untagged. ``banned``: the
    values that are not wanted. For bands of a number let a scorer mark the whole document, and take Banded.
    """

    column: str
    values: Mapping[str, str]
    banned: tuple[str, ...] = ()
    drop: float = 0.1
    kind: Literal["labelled"] = "labelled"

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            raise ConfigError(sentence("values", "must give a tag to each of its values", self.values))
        object.__setattr__(self, "values", {str(value): tag for value, tag in self.values.items()})
        object.__setattr__(self, "banned", tuple(self.banned))
        if not any(self.values.values()):
            raise ConfigError(sentence("values", "must give a tag to one value at least", self.values))
        for value in self.banned:
            if value not in self.values:
                raise ConfigError(sentence("banned", "must hold values that have a tag", value))
        check_share(self.drop, "drop")

    def insertions(self, marked: MarkedText, rng: np.random.Generator) -> Iterator[Insertion]:
        """The tag of a text, at its start."""
        tag = self.values.get(str(marked.meta.get(self.column)), "")
        if tag and rng.random() >= self.drop:
            yield 0, tag

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tag for tag in self.values.values() if tag))

    @property
    def good(self) -> tuple[str, ...]:
        bad = set(self.bad)
        return tuple(tag for tag in self.tags if tag not in bad)

    @property
    def bad(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.values[value] for value in self.banned if self.values[value]))


Rule = Banded | Enclosed | Inline | Labelled
_KINDS: dict[str, type[Banded] | type[Enclosed] | type[Inline] | type[Labelled]] = {
    "banded": Banded,
    "enclosed": Enclosed,
    "inline": Inline,
    "labelled": Labelled,
}


@dataclass(frozen=True)
class Scheme:
    """The rules of a tagged corpus. Checked when made; raises ConfigError for tags that two rules share.

    ``share`` of the documents are tagged, the others stay as they are. ``untagged_start``: of the tagged documents,
    the share whose tags begin only after a place in the text drawn at random, as after a prompt that nobody tagged.
    What is dropped depends on (``seed``, the document's id) alone.
    """

    rules: tuple[Rule, ...]
    share: float = 1.0
    untagged_start: float = 0.0
    seed: int = 0
    tags: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        if not self.rules:
            raise ConfigError(sentence("a scheme", "must have a rule", "none"))
        check_share(self.share, "share")
        check_share(self.untagged_start, "untagged_start")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(sentence("seed", "must be a whole number of at least 0", self.seed))
        found: list[str] = []
        for rule in self.rules:
            found += [tag for tag in dict.fromkeys(rule.tags) if tag]
        for tag in found:
            if tag != tag.strip() or any(c.isspace() for c in tag):
                raise ConfigError(sentence("a tag", "must be without blanks", repr(tag)))
            if found.count(tag) > 1:
                raise ConfigError(sentence("a tag", "must belong to one rule and stand once in it", tag))
        object.__setattr__(self, "tags", tuple(found))

    @property
    def good(self) -> tuple[str, ...]:
        """Tags of what is wanted."""
        return tuple(tag for rule in self.rules for tag in rule.good)

    @property
    def bad(self) -> tuple[str, ...]:
        """Tags of what is not wanted."""
        return tuple(tag for rule in self.rules for tag in rule.bad)

    @property
    def start(self) -> tuple[str, ...]:
        """The tags to begin with where what is wanted shall come: the best of each rule that tags what is to come."""
        asking = [rule for rule in self.rules if not (isinstance(rule, Banded) and rule.place == "after")]
        order = sorted(asking, key=lambda rule: not isinstance(rule, Labelled))
        return tuple(rule.good[0] for rule in order if rule.good)

    @property
    def scorers(self) -> tuple[str, ...]:
        """Whose marks it needs."""
        return tuple(dict.fromkeys(rule.scorer for rule in self.rules if not isinstance(rule, Labelled)))

    def insertions(self, marked: MarkedText) -> list[Insertion]:
        """All tags of a text with their offsets, in order; at one place what closes comes before what opens.

        Raises DataError for a text without the marks of a scorer.
        """
        rng = np.random.default_rng([self.seed, *_numbers(marked.id)])
        tagged, late, place = rng.random(3).tolist()
        if tagged >= self.share:
            return []
        found: list[tuple[int, int, int, str]] = []
        for place_of_rule, rule in enumerate(self.rules):
            for offset, tag in rule.insertions(marked, rng):
                found.append((offset, _rank(rule, tag), place_of_rule, tag))
        found.sort(key=lambda each: each[:3])
        if late < self.untagged_start:
            first = bisect_right([each[0] for each in found], int(place * len(marked.text)))
            found = [each for each in found[first:] if not _closes_unopened(self.rules, each, found[first:])]
        return [(offset, tag) for offset, _, _, tag in found]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "rules": [asdict(rule) for rule in self.rules],
            "share": self.share,
            "untagged_start": self.untagged_start,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Scheme:
        """From :meth:`to_dict`, or a table of TOML. Raises ConfigError for what is no scheme."""
        rules = row.get("rules")
        if not isinstance(rules, list | tuple):
            raise ConfigError(sentence("a scheme", "must hold a list of rules", rules))
        made = tuple(_rule(each) for each in rules)
        unknown = sorted(set(row) - {"rules", "share", "untagged_start", "seed"})
        if unknown:
            must = "must hold rules, share, untagged_start and seed alone"
            raise ConfigError(sentence("a scheme", must, ", ".join(unknown)))
        rest = {key: row[key] for key in ("share", "untagged_start", "seed") if key in row}
        return cls(made, **rest)


def _rule(row: Any) -> Rule:
    kind = row.get("kind") if isinstance(row, Mapping) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(sentence("the kind of a rule", f"must be one of {', '.join(_KINDS)}", kind))
    try:
        return _KINDS[kind](**row)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            sentence(f"a rule of kind {kind}", "must have its own fields", str(error))
        ) from error


def _rank(rule: Rule, tag: str) -> int:
    """The order of tags at one place: what closes, what tells of what was, the document's, what opens, what asks."""
    if isinstance(rule, Enclosed):
        return 0 if tag == rule.closing else 3
    if isinstance(rule, Banded):
        return 1 if rule.place == "after" else 4
    return 2 if isinstance(rule, Labelled) else 5


def _closes_unopened(
    rules: tuple[Rule, ...], each: tuple[int, int, int, str], found: list[tuple[int, int, int, str]]
) -> bool:
    """Whether this tag closes what was opened before the tags begin."""
    offset, _, number, tag = each
    rule = rules[number]
    if not isinstance(rule, Enclosed) or tag != rule.closing:
        return False
    mine = [other for other in found if other[2] == number]
    return mine[0][3] == rule.closing and mine[0][0] == offset


def _numbers(name: str) -> list[int]:
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return [int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")]
