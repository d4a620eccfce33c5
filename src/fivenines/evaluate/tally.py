"""The records of a run in columns: a million candidates in a few dozen megabytes, one output at a time."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.records import Answer, Comparison, Judgment, Output, Reason, Snippet

__all__ = ["Code", "Labelled", "Tally"]


class Code(IntEnum):
    """What is known of a snippet, as it stands in a column."""

    OK = 0
    FAILURE = 1
    UNSURE = 2
    MISSING = 3  # asked, or could have been asked, but without a judgment


_CODES = {Answer.OK: Code.OK, Answer.FAILURE: Code.FAILURE, Answer.UNSURE: Code.UNSURE}


@dataclass(frozen=True, slots=True)
class Labelled:
    """The judgments of a sample of snippets that was chosen without regard to score or content.

    ``judgments`` by snippet id. ``first`` says that the sample was asked of the first so many outputs; None
    takes every output that has a judgment. Do not pass labels that came about otherwise: a first draw that
    was labelled because the filter returned it is no fair sample of the unfiltered generator.
    """

    judgments: Mapping[str, Judgment | Answer] = field(default_factory=dict)
    first: int | None = None

    def code(self, position: int, snippet: Snippet) -> Code:
        """What is known of the snippet of the output at this position, 0 for the first."""
        if not self.judgments or (self.first is not None and position >= self.first):
            return Code.MISSING
        found = self.judgments.get(snippet.id)
        if found is None:
            return Code.MISSING
        return _CODES[found if isinstance(found, Answer) else found.answer]


class Tally:
    """What the outputs of one prompt distribution say, gathered one by one.

    Args:
        unfiltered: judgments of first draws, for the failure rate without the filter.
        filtered: judgments of outputs, for the failure rate through the filter.
        comparisons: preferences between an output and the first draw of its prompt, by any number of raters.
        budget: the most draws a prompt gets before the filter abstains.
        policy: "first" when the filter returns the first draw below a fixed threshold; "other" when it
            chooses among several or its threshold moves. Unfiltered labels can be reused only under "first".
        unsure: whether an unsure judgment counts as a failure (the default, on the safe side) or is left out.

    Raises:
        ConfigError: a budget below 1.
    """

    def __init__(
        self,
        unfiltered: Labelled | None = None,
        filtered: Labelled | None = None,
        comparisons: Iterable[Comparison] = (),
        *,
        budget: int = 50,
        policy: Literal["first", "other"] = "first",
        unsure: Literal["failure", "drop"] = "failure",
    ) -> None:
        if budget < 1:
            raise ConfigError(sentence("budget", "must be at least 1", budget))
        self.budget, self.policy, self.unsure = budget, policy, unsure
        self._unfiltered, self._filtered = unfiltered or Labelled(), filtered or Labelled()
        self._preferences: dict[tuple[str, frozenset[str]], list[tuple[str, float]]] = defaultdict(list)
        for comparison in comparisons:
            self._preferences[_pair(comparison.prompt, comparison.left, comparison.right)].append(
                (comparison.left, {"left": 1.0, "right": 0.0, "tie": 0.5}[comparison.preferred])
            )
        self._draws, self._returned = array("i"), array("b")
        self._first_accepted, self._same = array("b"), array("b")
        self._first_score, self._output_score, self._preference = array("d"), array("d"), array("d")
        self._first_code, self._output_code = array("b"), array("b")
        self._scores, self._starts = array("d"), array("q", [0])
        self._failing: dict[str, list[int]] = defaultdict(list)  # rows of labelled first draws that fail
        self._redraws: dict[int, list[NDArray[np.float64]]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._draws)

    def add(self, output: Output) -> None:
        """One output of the filter, with its candidates when they were kept.

        Raises:
            DataError: more draws than the budget.
        """
        if output.draws > self.budget:
            then = "Give the tally the budget of the run."
            raise DataError(sentence("output", f"must have at most {self.budget} draws", output.draws, then))
        row, returned = len(self), not output.abstained
        first = output.candidates[0] if output.candidates else None
        first_text = (
            first.completion if first is not None else output.completion if output.draws == 1 else None
        )
        same = returned and first_text == output.completion
        self._draws.append(output.draws)
        self._returned.append(returned)
        self._same.append(same)
        accepted = (first.kept or first.reason is Reason.OUTRANKED) if first is not None else same
        self._first_accepted.append(accepted)
        self._output_score.append(_number(output.score))
        self._first_score.append(
            _number(first.score if first is not None else output.score if same else None)
        )
        self._scores.extend(_number(candidate.score) for candidate in output.candidates)
        self._starts.append(len(self._scores))
        self._label(row, output, first_text)
        self._preference.append(np.nan if same else self._preferred(output, first_text))

    def extend(self, outputs: Iterable[Output]) -> Self:
        """Many outputs, read once."""
        for output in outputs:
            self.add(output)
        return self

    def add_redraws(self, outputs: Iterable[Output]) -> Self:
        """Fresh runs of the filter on the prompts in :attr:`failing_prompts`, any number for each.

        With the same threshold, or with a stricter one: that serves the stricter part of the curve too.

        They give the weights that the reuse of unfiltered labels needs: how many draws, independent of the
        labelled one, it takes to be accepted. They need no labels. Outputs of other prompts are passed over.

        Raises:
            DataError: the candidates were not kept.
        """
        for output in outputs:
            if len(output.candidates) != output.draws:
                got = f"{len(output.candidates)} of {output.draws}"
                raise DataError(sentence("redraw", "must keep all its candidates", got))
            scores = np.array([_number(candidate.score) for candidate in output.candidates])
            for row in self._failing.get(output.prompt, ()):
                self._redraws[row].append(scores)
        return self

    @property
    def failing_prompts(self) -> list[str]:
        """The prompts whose labelled first draw is a failure (or unsure): few, and the ones to redraw."""
        return list(self._failing)

    # Columns, shape (outputs,) each.

    @property
    def draws(self) -> NDArray[np.int32]:
        return np.frombuffer(self._draws, dtype=np.int32) if len(self) else np.zeros(0, np.int32)

    @property
    def returned(self) -> NDArray[np.bool_]:
        return _flags(self._returned)

    @property
    def same(self) -> NDArray[np.bool_]:
        """Whether the output is the first draw."""
        return _flags(self._same)

    @property
    def first_accepted(self) -> NDArray[np.bool_]:
        return _flags(self._first_accepted)

    @property
    def first_score(self) -> NDArray[np.float64]:
        return _floats(self._first_score)

    @property
    def output_score(self) -> NDArray[np.float64]:
        return _floats(self._output_score)

    @property
    def preference(self) -> NDArray[np.float64]:
        """Mean preference of the raters for the output over another first draw; NaN where none is known."""
        return _floats(self._preference)

    @property
    def first_code(self) -> NDArray[np.int8]:
        return np.array(self._first_code, dtype=np.int8)

    @property
    def output_code(self) -> NDArray[np.int8]:
        return np.array(self._output_code, dtype=np.int8)

    @property
    def redraws(self) -> Mapping[int, list[NDArray[np.float64]]]:
        """Scores of the fresh draws, in order, by row."""
        return self._redraws

    @property
    def traced(self) -> bool:
        """Whether every output came with all its candidates."""
        lengths = np.diff(np.array(self._starts))
        return len(self) > 0 and bool(np.array_equal(lengths, self.draws))

    def asked(self, kind: Literal["unfiltered", "filtered"]) -> int | None:
        """How many outputs at the front were asked about; None when that is not known."""
        return (self._unfiltered if kind == "unfiltered" else self._filtered).first

    def first_below(self, threshold: float) -> NDArray[np.int64]:
        """Which draw of each output is the first to score below the threshold, from 1; 0 where none is."""
        if not len(self):
            return np.zeros(0, np.int64)
        starts = np.array(self._starts)
        below = np.flatnonzero(_floats(self._scores) < threshold)
        following = np.searchsorted(below, starts[:-1])  # the first passing draw at or after the row's start
        reached = np.append(below, len(self._scores))[following]
        return np.where(reached < starts[1:], reached - starts[:-1] + 1, 0)

    def fails(self, codes: NDArray[np.int8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(which of them count as labelled, which of them count as failures)."""
        unsure = codes == Code.UNSURE
        known = (codes == Code.OK) | (codes == Code.FAILURE)
        if self.unsure == "drop":
            return known, codes == Code.FAILURE
        return known | unsure, (codes == Code.FAILURE) | unsure

    def _label(self, row: int, output: Output, first_text: str | None) -> None:
        code = Code.MISSING
        if first_text is not None:
            code = self._unfiltered.code(row, Snippet(output.prompt, first_text))
        self._first_code.append(code)
        if code == Code.FAILURE or (code == Code.UNSURE and self.unsure == "failure"):
            self._failing[output.prompt].append(row)
        code = Code.MISSING
        if output.completion is not None:
            code = self._filtered.code(row, Snippet(output.prompt, output.completion))
        self._output_code.append(code)

    def _preferred(self, output: Output, first_text: str | None) -> float:
        if output.completion is None or first_text is None:
            return float("nan")
        found = self._preferences.get(_pair(output.prompt, output.completion, first_text))
        if not found:
            return float("nan")
        values = [value if left == output.completion else 1.0 - value for left, value in found]
        return sum(values) / len(values)


def _pair(prompt: str, one: str, other: str) -> tuple[str, frozenset[str]]:
    return prompt, frozenset((one, other))


def _number(score: float | None) -> float:
    return float("nan") if score is None else score


def _flags(column: array[int]) -> NDArray[np.bool_]:
    return np.array(column, dtype=np.bool_)


def _floats(column: array[float]) -> NDArray[np.float64]:
    return np.array(column, dtype=np.float64)
