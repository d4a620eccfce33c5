"""Python style: the violations that pycodestyle finds in each line (extra ``style``)."""

from __future__ import annotations

import importlib
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fivenines.conditional.tagging.scorers import Scores, settings_version
from fivenines.conditional.tagging.spans import SpannedText
from fivenines.errors import ConfigError, sentence

__all__ = ["StyleScorer", "Violation"]

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_HIDING = re.compile(
    r"# no(?:qa|pep8)\b", re.IGNORECASE
)  # what the checker itself heeds, and has no option against


class Violation(NamedTuple):
    """``line`` from 1, ``column`` from 0, ``code`` of pycodestyle, such as E501."""

    line: int
    column: int
    code: str


@dataclass(frozen=True)
class StyleScorer:
    """How many violations stand in a segment, found by pycodestyle's own checker in the whole file.

    Codes that begin with one of ``ignore`` do not count; W503 and W504 contradict each other. With ``select`` only
    codes that begin with one of these count. What it says of an empty line, which is no segment, counts for the
    segment before it. A text that cannot be read as Python is left unscored whole: where the tokenizer gives up,
    the checker sees nothing more, which is not to say that nothing is there. Configuration files are not read, and no
    comment (noqa) hides a line.
    """

    name: str = "pycodestyle"
    ignore: tuple[str, ...] = ("W503", "W504")
    select: tuple[str, ...] = ()
    max_line_length: int = 79
    version: str = field(default="", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ignore", tuple(self.ignore))
        object.__setattr__(self, "select", tuple(self.select))
        if self.max_line_length < 1:
            raise ConfigError(sentence("max_line_length", "must be at least 1", self.max_line_length))
        settings = {**asdict(self), "noqa": "not heeded", "pycodestyle": _library().__version__}
        object.__setattr__(self, "version", settings_version("pycodestyle", settings))

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {"kind": "pycodestyle", **asdict(self)}

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """Violations; NaN in a text that is no Python."""
        return [self._score(text) for text in texts]

    def violations(self, text: str) -> list[Violation] | None:
        """All that are found in a text, as the checker tells them; None for what is no Python."""
        return self._violations(_lines(text))

    def _violations(self, lines: Sequence[str]) -> list[Violation] | None:
        return _violations(lines, self.ignore, self.select, self.max_line_length)

    def _score(self, text: SpannedText) -> Scores:
        lines = _lines(text.text)
        violations = self._violations(lines)
        if violations is None:
            return np.full(len(text.spans), np.nan)
        starts = np.cumsum([0, *(len(line) for line in lines)]).tolist()
        scores = np.zeros(len(text.spans))
        firsts = [start for start, _ in text.spans]
        for found in violations:
            row = min(found.line, len(lines)) - 1
            # the place itself where the segment is a sentence; a line's first segment begins where the line does
            place = min(starts[row] + max(0, found.column), max(starts[row], starts[row + 1] - 1))
            before = bisect_right(firsts, place) - 1
            if len(firsts):
                scores[max(0, before)] += 1
        return scores


def _lines(text: str) -> list[str]:
    return _LINE.findall(text)[:-1]  # the last match is empty, at the end


def _violations(
    lines: Sequence[str], ignore: tuple[str, ...], select: tuple[str, ...], longest: int
) -> list[Violation] | None:
    style, report = _checker(ignore, select, longest)
    report.found = []
    plain = [line.rstrip("\r\n") + "\n" if line[-1:] in ("\r", "\n") else line for line in lines]
    plain = [_HIDING.sub(lambda found: "# " + "x" * (len(found[0]) - 2), line) for line in plain]
    try:
        _library().Checker(lines=plain, options=style.options, report=report).check_all()
    except Exception:  # whatever a strange file makes of a checker that is not ours
        return None
    if any(each.code.startswith("E9") for each in report.found):
        return None
    return list(report.found)


@lru_cache(maxsize=8)
def _checker(ignore: tuple[str, ...], select: tuple[str, ...], longest: int) -> tuple[Any, Any]:
    library = _library()

    class Found(library.BaseReport):  # type: ignore[misc, name-defined]  # a class of an extra
        found: list[Violation]

        def error(self, line_number: int, offset: int, text: str, check: Any) -> Any:
            code = super().error(line_number, offset, text, check)
            if code or text[:2] == "E9":  # that it is no Python counts, whatever is ignored
                self.found.append(Violation(line_number, offset, text[:4]))
            return code

    style = library.StyleGuide(
        parse_argv=False,
        config_file=False,
        reporter=Found,
        # a code that no rule has: with nothing to ignore pycodestyle would ignore what it does by default
        ignore=list(ignore) or ["X000"],
        select=list(select),
        max_line_length=longest,
    )
    return style, style.options.report


def _library() -> Any:
    try:
        return importlib.import_module("pycodestyle")
    except ImportError:
        then = "Run: pip install 'fivenines[style]'."
        raise ConfigError(
            sentence("pycodestyle", "must be installed", "no package pycodestyle", then)
        ) from None
