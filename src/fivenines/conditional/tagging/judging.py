"""Remote judges: a chat model behind the interface that most servers have, or anything that answers in JSON.

What a judge does not answer, or answers in another form than was agreed, stays unscored: it is never 0.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from fivenines.conditional.tagging.asking import Asking, Server
from fivenines.conditional.tagging.scorers import Scores, settings_version
from fivenines.conditional.tagging.spans import SpannedText
from fivenines.errors import ConfigError, sentence

__all__ = ["ChatScorer", "HttpScorer", "asks_a_server"]

_PLACES = re.compile(r"\{(context|segment|document)\}")
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
_UNREADABLE = "answers in no form"


@dataclass(frozen=True)
class ChatScorer:
    """A chat model behind ``url`` + /chat/completions, as OpenAI's interface has it, asked once a segment.

    ``template``: the question, in which {segment}, {context} (the ``context`` segments before) and {document} are
    filled in; other braces stay. The answer, without blanks around it, must be one of ``answers`` (in any case), which
    maps it to a score; without them a plain number from 0 to ``most``. ``extra`` goes into every request
    ({"max_tokens": 5}, say). The version is a hash of all this but of how it is asked.
    """

    url: str
    model: str
    template: str
    name: str = "judge"
    answers: Mapping[str, float] = field(default_factory=dict)
    most: float = 1.0
    context: int = 3
    extra: Mapping[str, Any] = field(default_factory=dict)
    asking: Asking = field(default_factory=Asking)
    version: str = field(default="", init=False)
    _server: Server = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_address(self.url)
        if "{segment}" not in self.template:
            raise ConfigError(sentence("template", "must have {segment} in it", self.template))
        answers = {str(key).strip().casefold(): float(value) for key, value in self.answers.items()}
        if len(answers) != len(self.answers) or any(not 0 <= v < np.inf for v in answers.values()):
            must = "must map different answers to scores of at least 0"
            raise ConfigError(sentence("answers", must, dict(self.answers)))
        object.__setattr__(self, "answers", answers)
        settings = self.describe()
        object.__setattr__(self, "version", settings_version("chat", settings))
        server = Server(self.url.rstrip("/") + "/chat/completions", self.asking)
        object.__setattr__(self, "_server", server)

    def describe(self) -> dict[str, Any]:
        """For the manifest; the key is not in it."""
        names = ("url", "model", "template", "name", "answers", "most", "context", "extra")
        return {"kind": "chat", **{name: getattr(self, name) for name in names}}

    def counts(self) -> Mapping[str, int]:
        """Requests, retries, failed, and answers in no form."""
        return dict(self._server.counts)

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """NaN where no answer came. Raises ModelError for a server that refuses or is gone."""
        jobs = [(number, i) for number, text in enumerate(texts) for i in text.asked]
        found = _empty(texts)
        ask: Callable[[tuple[int, int]], float] = lambda job: self._ask(texts[job[0]], job[1])  # noqa: E731
        for (number, i), score in zip(jobs, _together(ask, jobs, self.asking.at_once), strict=True):
            found[number][i] = score
        return found

    def _ask(self, text: SpannedText, place: int) -> float:
        parts = {
            "segment": text.text[slice(*text.spans[place])],
            "context": _before(text, place, self.context),
            "document": text.text,
        }
        question = _PLACES.sub(
            lambda match: parts[match[1]], self.template
        )  # once: what is filled in is not read
        messages = [{"role": "user", "content": question}]
        reply = self._server.post({"model": self.model, "messages": messages, "temperature": 0, **self.extra})
        return float("nan") if reply is None else self._read(reply)

    def _read(self, reply: Any) -> float:
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            content = None
        score = None
        if isinstance(content, str):  # null, of one who refuses, is no "none"
            answer = content.strip().casefold()
            score = self.answers.get(answer)
            if not self.answers and _NUMBER.fullmatch(answer) and float(answer) <= self.most:
                score = float(answer)
        if score is None:
            self._server.count(_UNREADABLE)
            return float("nan")
        return score

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # it holds a lock

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), _given(self))


@dataclass(frozen=True)
class HttpScorer:
    """Anything that takes {"items": [{"context": ..., "segment": ...}, ...]} and answers {"scores": [...]}.

    ``batch`` segments a request; a score is a number of at least 0, or null for what it cannot score. An answer with
    another number of scores is no answer.
    """

    url: str
    name: str = "judge"
    context: int = 3
    batch: int = 32
    asking: Asking = field(default_factory=Asking)
    version: str = field(default="", init=False)
    _server: Server = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_address(self.url)
        if self.batch < 1:
            raise ConfigError(sentence("batch", "must be at least 1", self.batch))
        settings = {k: v for k, v in self.describe().items() if k != "batch"}
        object.__setattr__(self, "version", settings_version("http", settings))
        object.__setattr__(self, "_server", Server(self.url, self.asking))

    def describe(self) -> dict[str, Any]:
        """For the manifest; the key is not in it."""
        names = ("url", "name", "context", "batch")
        return {"kind": "http", **{name: getattr(self, name) for name in names}}

    def counts(self) -> Mapping[str, int]:
        """Requests, retries, failed, and answers in no form."""
        return dict(self._server.counts)

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """NaN where no answer came. Raises ModelError for a server that refuses or is gone."""
        jobs = [(number, i) for number, text in enumerate(texts) for i in text.asked]
        batches = [jobs[start : start + self.batch] for start in range(0, len(jobs), self.batch)]
        found = _empty(texts)
        ask: Callable[[list[tuple[int, int]]], Scores] = lambda some: self._ask(texts, some)  # noqa: E731
        for some, scores in zip(batches, _together(ask, batches, self.asking.at_once), strict=True):
            for (number, i), score in zip(some, scores.tolist(), strict=True):
                found[number][i] = score
        return found

    def _ask(self, texts: Sequence[SpannedText], jobs: Sequence[tuple[int, int]]) -> Scores:
        items = [
            {
                "context": _before(texts[number], i, self.context),
                "segment": texts[number].text[slice(*texts[number].spans[i])],
            }
            for number, i in jobs
        ]
        reply = self._server.post({"items": items})
        unscored = np.full(len(jobs), np.nan)
        if reply is None:
            return unscored
        scores = reply.get("scores") if isinstance(reply, Mapping) else None
        if not isinstance(scores, list) or len(scores) != len(jobs) or not all(map(_is_score, scores)):
            self._server.count(_UNREADABLE, len(jobs))
            return unscored
        return np.array([np.nan if score is None else score for score in scores], dtype=np.float64)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # it holds a lock

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), _given(self))


def _together(ask: Callable[[Any], Any], jobs: Sequence[Any], at_once: int) -> list[Any]:
    """The answer to each job, in order; when one raises, those that wait are not asked any more."""
    pool = ThreadPoolExecutor(max_workers=at_once)
    try:
        return list(pool.map(ask, jobs))
    finally:
        pool.shutdown(cancel_futures=True)


def _before(text: SpannedText, place: int, count: int) -> str:
    """The text from the ``count`` segments before a place up to it, as it stands there."""
    first = max(0, place - count)
    return text.text[text.spans[first][0] : text.spans[place][0]].rstrip() if first < place else ""


def _empty(texts: Sequence[SpannedText]) -> list[Scores]:
    return [np.full(len(text.spans), np.nan) for text in texts]


def _is_score(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max
    )


def _check_address(url: str) -> None:
    if not re.match(r"https?://[^\s/]", url):
        raise ConfigError(sentence("url", "must begin with http:// or https://", url))


def _given(scorer: Any) -> dict[str, Any]:
    """What a scorer was made of."""
    return {name: f for name, f in scorer.__dict__.items() if name not in ("version", "_server")}


def _again(kind: type, given: dict[str, Any]) -> Any:
    return kind(**given)


def asks_a_server(scorer: object) -> bool:
    """Whether every score of it costs a question to somebody else."""
    parts = [getattr(scorer, role, None) for role in ("cheap", "exact")]  # of a cascade
    return isinstance(scorer, ChatScorer | HttpScorer) or any(map(asks_a_server, filter(None, parts)))
