"""Labels resolved to judgments, how far labelers agree, and the files in which people answer.

A person can label without any page: ``export_queue`` writes a line a snippet with an empty answer, the person
fills in what they like, ``read_answers`` takes the answered lines. Blind comparisons go the same way.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, overload

from fivenines.errors import ConfigError, DataError, LabelError, NotEnoughDataError, sentence
from fivenines.files import read_jsonl, write_jsonl_atomic
from fivenines.records import Answer, Comparison, Judgment, Label, Severity, Snippet

__all__ = [
    "Agreement",
    "Lines",
    "Rule",
    "agreement",
    "export_comparisons",
    "export_queue",
    "judgments",
    "latest_labels",
    "read_answers",
    "read_comparisons",
    "read_labels",
    "write_labels",
]

Rule = Literal["majority", "any_failure", "unanimous"]
T_co = TypeVar("T_co", covariant=True)

_GRAVITY = {
    severity: rank for rank, severity in enumerate(Severity)
}  # the enum lists them from none to egregious


def latest_labels(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """The label that stands of each labeler, by snippet, in order of first appearance.

    A later label supersedes an earlier one of the same person on the same snippet. Labels without a time
    count as older than those with one; among equals the later in the list stands.

    Raises:
        LabelError: a time that is no ISO 8601.
    """
    by_person: dict[str, dict[str, Label]] = {}
    for label in labels:
        people = by_person.setdefault(label.snippet_id, {})
        before = people.get(label.labeler)
        if before is None or _moment(label) >= _moment(before):
            people[label.labeler] = label
    return {snippet_id: list(people.values()) for snippet_id, people in by_person.items()}


def judgments(labels: Iterable[Label], rule: Rule = "majority") -> list[Judgment]:
    """The labels of each snippet resolved to one answer, in order of the snippets' first appearance.

    Each labeler has one vote, the latest (:func:`latest_labels`). A gold answer decides alone. Else, by rule:

    - "majority": the answer with the most votes, unsure included; a tie for the most is unsure.
    - "any_failure": failure if anyone says so; otherwise ok if more say ok than unsure; otherwise unsure.
      The wide definition, to train on.
    - "unanimous": the answer that all gave; otherwise unsure.

    The severity is the gravest among the labels that gave the answer. All votes stay in the counts.

    Raises:
        ConfigError: an unknown rule.
        LabelError: two gold answers that contradict each other; names the snippet.
    """
    if rule not in get_args(Rule):
        raise ConfigError(sentence("rule", f"must be one of {', '.join(get_args(Rule))}", str(rule)))
    return [_judgment(snippet_id, votes, rule) for snippet_id, votes in latest_labels(labels).items()]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha with its bootstrap interval, and the plain share of pairs that agree.

    ``point`` is alpha: 1 is perfect, 0 what chance would give. ``raw`` is the share of pairs of labels on one
    snippet that are equal. ``n`` counts snippets with two labels or more, the only ones that tell anything.
    """

    point: float
    low: float
    high: float
    level: float
    n: int
    raw: float
    labels: int
    labelers: int
    method: str
    assumptions: tuple[str, ...] = ()

    def __str__(self) -> str:
        interval = f"{self.level:.0%}: {self.low:.2f} to {self.high:.2f}"
        counts = f"{self.labels} labels of {self.labelers} people on {self.n} snippets"
        note = "".join(f"; {text}" for text in self.assumptions)
        return f"alpha {self.point:.2f} ({interval}, {counts}); {self.raw:.1%} of pairs agree{note}"


def agreement(labels: Iterable[Label], *, level: float = 0.95, seed: int = 0) -> Agreement:
    """How far labelers agree beyond chance, on failure, ok and unsure as three unordered answers.

    Krippendorff's alpha, nominal (Krippendorff 2018, ch. 12), with the bootstrap over pairs of Krippendorff
    (2006), both by evalica. Each labeler's latest label counts, gold ones like any other.

    Raises:
        NotEnoughDataError: no snippet has two labels.
    """
    import evalica  # half a second, which whoever only counts labels need not wait for
    import pandas as pd

    votes = [standing for standing in latest_labels(labels).values() if len(standing) > 1]
    if not votes:
        then = "Have a second person label some of the snippets."
        must = "must have a snippet with labels of two people"
        raise NotEnoughDataError(sentence("agreement", must, "none", then), more_needed=1)
    # Alpha does not ask who gave an answer, so the rows can be places (first label, second, ...), not people.
    codes = {answer: code for code, answer in enumerate(Answer)}
    width = max(map(len, votes))
    columns = [[codes[v.answer] for v in standing] + [None] * (width - len(standing)) for standing in votes]
    frame = pd.DataFrame(columns, dtype="float64").T  # (places, snippets)
    if frame.stack().nunique() == 1:  # what chance would give cannot be told
        point, low, high = 1.0, -1.0, 1.0
        assumption = "all labels give one answer, so alpha is not determined"
    else:
        result = evalica.alpha_bootstrap(frame, confidence_level=level, random_state=seed)
        point, low, high = result.alpha, result.low, result.high
        assumption = "bootstrap over the pairs of labels"
    alike = sum(n * (n - 1) // 2 for standing in votes for n in Counter(v.answer for v in standing).values())
    pairs = sum(len(standing) * (len(standing) - 1) // 2 for standing in votes)
    return Agreement(
        point=point,
        low=low,
        high=high,
        level=level,
        n=len(votes),
        raw=alike / pairs,
        labels=sum(map(len, votes)),
        labelers=len({v.labeler for standing in votes for v in standing}),
        method="Krippendorff's alpha, nominal",
        assumptions=(assumption,),
    )


@dataclass(frozen=True)
class Lines(Sequence[T_co], Generic[T_co]):
    """What the answered lines of a file held, with their numbers for error messages.

    A sequence of the records; ``numbers[i]`` is the line of record i; ``unanswered`` counts the others.
    """

    records: tuple[T_co, ...]
    numbers: tuple[int, ...]
    unanswered: int = 0

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | Sequence[T_co]:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)


def write_labels(labels: Iterable[Label], path: str | Path) -> int:
    """Write labels as JSON lines, whole or not at all; returns their number.

    Raises:
        ResourceError: disk full, no permission.
    """
    return write_jsonl_atomic(path, labels)


def read_labels(path: str | Path) -> Lines[Label]:
    """Labels from JSON lines as :func:`write_labels` writes them; every line must hold an answer.

    Raises:
        DataError: a broken line; names the file and the line.
    """
    return _read(path, "answer", _label, None, blank_is_error=True)


def export_queue(snippets: Iterable[Snippet], path: str | Path, labeler: str = "") -> int:
    """Write a line a snippet with an empty answer for a person to fill in; returns their number.

    Raises:
        DataError: the file is there and holds answers; it is left as it is.
        ResourceError: disk full, no permission.
    """
    _keep_answers(path, "answer")
    return write_jsonl_atomic(path, (_question(snippet, labeler) for snippet in snippets))


def read_answers(path: str | Path, labeler: str = "") -> Lines[Label]:
    """The labels that a person filled in; lines without an answer are passed over.

    ``labeler`` names the person where a line does not. A line may leave out ``snippet_id`` when it holds
    prompt and completion.

    Raises:
        DataError: a broken line, an unknown answer, a text that was changed; names the file and the line.
    """
    return _read(path, "answer", _label, labeler)


def export_comparisons(
    pairs: Iterable[tuple[str, str, str]], path: str | Path, *, seed: int, rater: str = ""
) -> int:
    """Write blind pairs for a person to choose from; returns their number.

    ``pairs`` holds (prompt, one completion, the other). Which of the two is shown on the left, and the order
    of the lines, are random by ``seed``; the file does not say which is which, the text does.

    Raises:
        DataError: the file is there and holds answers; it is left as it is.
        ResourceError: disk full, no permission.
    """
    _keep_answers(path, "preferred")
    rng = random.Random(seed)
    lines = []
    for prompt, one, other in pairs:
        left, right = (one, other) if rng.random() < 0.5 else (other, one)
        lines.append({"prompt": prompt, "left": left, "right": right, "preferred": None, "rater": rater})
    rng.shuffle(lines)
    return write_jsonl_atomic(path, lines)


def read_comparisons(path: str | Path, rater: str = "") -> Lines[Comparison]:
    """The preferences that a person filled in (left, right or tie); other lines are passed over.

    Raises:
        DataError: a broken line or an unknown preference; names the file and the line.
    """
    return _read(path, "preferred", _comparison, rater)


def _judgment(snippet_id: str, votes: Sequence[Label], rule: Rule) -> Judgment:
    counts = Counter(vote.answer for vote in votes)
    gold = [vote for vote in votes if vote.gold]
    if len({vote.answer for vote in gold}) > 1:
        answers = ", ".join(f"{vote.answer} of {vote.labeler}" for vote in gold)
        then = "Settle it: one of the two must give a later gold label."
        raise LabelError(sentence(f"gold labels of {snippet_id}", "must agree", answers, then))
    answer = gold[0].answer if gold else _resolved(counts, rule)
    given = [v.severity for v in (gold or votes) if v.answer == answer and v.severity is not None]
    return Judgment(
        snippet_id=snippet_id,
        answer=answer,
        failures=counts[Answer.FAILURE],
        oks=counts[Answer.OK],
        unsures=counts[Answer.UNSURE],
        severity=max(given, key=_GRAVITY.__getitem__) if given else None,
        gold=bool(gold),
        rule="gold" if gold else rule,
    )


def _resolved(counts: Mapping[Answer, int], rule: Rule) -> Answer:
    if rule == "any_failure":
        if counts[Answer.FAILURE] > 0:
            return Answer.FAILURE
        return Answer.OK if counts[Answer.OK] > counts[Answer.UNSURE] else Answer.UNSURE
    most = max(counts.values())
    enough = sum(counts.values()) if rule == "unanimous" else most
    first = [answer for answer, n in counts.items() if n == most]
    return first[0] if len(first) == 1 and most == enough else Answer.UNSURE


def _moment(label: Label) -> datetime:
    if not label.at:
        return datetime.min.replace(tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(label.at)
    except ValueError as error:
        place = f"time of the label of {label.labeler} on {label.snippet_id}"
        raise LabelError(sentence(place, "must be ISO 8601", label.at)) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _question(snippet: Snippet, labeler: str) -> dict[str, Any]:
    texts = {"snippet_id": snippet.id, "prompt": snippet.prompt, "completion": snippet.completion}
    return {**texts, "answer": None, "severity": None, "labeler": labeler, "note": ""}


def _keep_answers(path: str | Path, field: str) -> None:
    """Refuse to write over what somebody has filled in."""
    if not Path(path).exists():
        return
    answered = sum(row.get(field) not in (None, "") for _, row in read_jsonl(path))
    if answered:
        then = "Import them first, or choose another file."
        raise DataError(sentence(str(path), "must hold no answers before it is written over", answered, then))


def _read(
    path: str | Path, field: str, parse: Any, person: str | None, blank_is_error: bool = False
) -> Lines[Any]:
    records, numbers, unanswered = [], [], 0
    for number, row in read_jsonl(path):
        if row.get(field) in (None, "") and not blank_is_error:
            unanswered += 1
            continue
        records.append(parse(row, f"{path}, line {number}", person or ""))
        numbers.append(number)
    return Lines(tuple(records), tuple(numbers), unanswered)


def _label(row: Mapping[str, Any], where: str, person: str) -> Label:
    return Label(
        snippet_id=_snippet_id(row, where),
        labeler=_text(row, "labeler", where, person),
        answer=_choice(Answer, row.get("answer"), "answer", where),
        severity=None if not row.get("severity") else _choice(Severity, row["severity"], "severity", where),
        at=_optional_text(row, "at", where),
        seconds=_seconds(row, where),
        gold=_flag(row, "gold", where),
        note=_optional_text(row, "note", where),
    )


def _comparison(row: Mapping[str, Any], where: str, person: str) -> Comparison:
    preferred = str(row["preferred"]).strip().lower()
    if preferred not in ("left", "right", "tie"):
        raise DataError(sentence(f"preferred in {where}", "must be left, right or tie", row["preferred"]))
    prompt, left, right = (row.get(name) for name in ("prompt", "left", "right"))
    if not (isinstance(prompt, str) and isinstance(left, str) and isinstance(right, str)):
        raise DataError(sentence(where, "must hold the texts prompt, left and right", dict(row)))
    rater = _text(row, "rater", where, person)
    return Comparison(
        prompt, left, right, rater, preferred, _optional_text(row, "at", where), _seconds(row, where)
    )


def _snippet_id(row: Mapping[str, Any], where: str) -> str:
    prompt, completion, given = row.get("prompt"), row.get("completion"), row.get("snippet_id")
    if not (isinstance(prompt, str) and isinstance(completion, str)):
        return _text(row, "snippet_id", where, "")
    found = Snippet(prompt, completion).id
    if given not in (None, "", found):
        then = "Leave the text as it was exported: the answer is about that text."
        raise DataError(sentence(f"text in {where}", f"must be that of {given}", found, then))
    return found


def _text(row: Mapping[str, Any], name: str, where: str, default: str) -> str:
    value = row.get(name) or default
    if not isinstance(value, str) or not value.strip():
        raise DataError(sentence(f"{name} in {where}", "must be a text that is not empty", row.get(name)))
    return value.strip()


def _optional_text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(sentence(f"{name} in {where}", "must be a text", value))
    return value


def _choice(kind: type[Answer] | type[Severity], value: object, name: str, where: str) -> Any:
    try:
        return kind(str(value).strip().lower())
    except ValueError:
        allowed = ", ".join(str(choice) for choice in kind)
        raise DataError(sentence(f"{name} in {where}", f"must be one of {allowed}", value)) from None


def _flag(row: Mapping[str, Any], name: str, where: str) -> bool:
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise DataError(sentence(f"{name} in {where}", "must be true or false", value))
    return bool(value)


def _seconds(row: Mapping[str, Any], where: str) -> float | None:
    value = row.get("seconds")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise DataError(sentence(f"seconds in {where}", "must be a number, 0 or more", value))
    return float(value)
