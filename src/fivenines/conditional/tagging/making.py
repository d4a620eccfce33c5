"""Scorers from a word on the command line, or from a table of TOML or JSON."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fivenines.conditional.tagging.asking import Asking
from fivenines.conditional.tagging.cascade import CascadeScorer
from fivenines.conditional.tagging.classifying import ClassifierScorer
from fivenines.conditional.tagging.judging import ChatScorer, HttpScorer
from fivenines.conditional.tagging.private_data import PrivateDataScorer
from fivenines.conditional.tagging.rules import ColumnScorer, RegexScorer
from fivenines.conditional.tagging.scorers import SpanScorer
from fivenines.conditional.tagging.style import StyleScorer
from fivenines.errors import ConfigError, DataError, sentence

__all__ = ["make_scorer", "scorers_from"]

_KINDS: dict[str, Callable[..., SpanScorer]] = {
    "classifier": ClassifierScorer,
    "regex": RegexScorer,
    "column": ColumnScorer,
    "pycodestyle": StyleScorer,
    "pii": PrivateDataScorer,
    "chat": ChatScorer,
    "http": HttpScorer,
    "cascade": CascadeScorer,
}
_MAIN = {
    "classifier": "classifier",
    "regex": "pattern",
    "column": "column",
    "http": "url",
}  # what stands after the :
_WORD = re.compile(
    r"(?:(?P<name>[\w.-]+)=)?(?P<kind>" + "|".join(_KINDS) + r")(?::(?P<value>.*))?", re.DOTALL
)


def make_scorer(settings: Mapping[str, Any]) -> SpanScorer:
    """A scorer by its ``kind`` and its own fields, ``asking`` and the two of a cascade as tables in it.

    Raises ConfigError for a kind or a field that is not known, ModelError for a model that cannot be read.
    """
    rest = dict(settings)
    kind = rest.pop("kind", None)
    if kind not in _KINDS:
        raise ConfigError(sentence("the kind of a scorer", f"must be one of {', '.join(_KINDS)}", kind))
    if isinstance(rest.get("asking"), Mapping):
        rest["asking"] = _made(Asking, rest["asking"], "asking")
    for role in ("cheap", "exact") if kind == "cascade" else ():
        if isinstance(rest.get(role), Mapping):
            rest[role] = make_scorer({"name": role, **rest[role]})
    made: SpanScorer = _made(_KINDS[kind], rest, f"scorer {rest.get('name', kind)}")
    return made


def scorers_from(words: Sequence[str]) -> list[SpanScorer]:
    """Of each word one scorer, or those of a file.

    [NAME=]KIND[:VALUE]   injury=classifier:runs/classifier, regex:(?i)idiot, pycodestyle, pii, column:toxicity,
                          http:http://localhost:8000/score
    FILE.toml, FILE.json  {"scorers": [table, ...]}, a table with kind and fields each; all kinds

    Raises ConfigError or DataError for what is neither, ConfigError for two of one name.
    """
    found: list[SpanScorer] = []
    for word in words:
        path = Path(word).expanduser()
        if path.suffix in (".toml", ".json") and path.is_file():
            found += [make_scorer(table) for table in _tables(path)]
        else:
            found.append(_from_word(word))
    if not found:
        raise ConfigError(
            sentence("--scorer", "must be given", "none", "fivenines tag --help shows the forms.")
        )
    names = [scorer.name for scorer in found]
    for name in names:
        if names.count(name) > 1:
            then = "Put a name before it: NAME=KIND:VALUE."
            raise ConfigError(sentence("scorers", "must have names of their own", f"two called {name}", then))
    return found


def _from_word(word: str) -> SpanScorer:
    match = _WORD.fullmatch(word)
    if match is None:
        must = f"must be a TOML or JSON file, or [NAME=]KIND[:VALUE] with a kind of {', '.join(_KINDS)}"
        raise ConfigError(sentence("--scorer", must, word))
    kind, value = match["kind"], match["value"]
    settings: dict[str, Any] = {"kind": kind} | ({"name": match["name"]} if match["name"] else {})
    if kind in ("chat", "cascade"):
        raise ConfigError(
            sentence("--scorer", f"must be a file for {kind}, which has several settings", word)
        )
    if (kind in _MAIN) != bool(value):
        must = f"must be {kind}:{_MAIN[kind].upper()}" if kind in _MAIN else f"must be {kind} alone"
        raise ConfigError(sentence("--scorer", must, word))
    if value:
        settings[_MAIN[kind]] = value
    return make_scorer(settings)


def _tables(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(sentence(str(path), "must be readable TOML or JSON", str(error))) from error
    tables = content.get("scorers") if isinstance(content, dict) else None
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        must = 'must hold a list of tables "scorers"'
        raise DataError(sentence(str(path), must, type(tables).__name__ if tables is None else repr(tables)))
    return tables


def _made(kind: Callable[..., Any], settings: Mapping[str, Any], what: str) -> Any:
    try:
        return kind(**settings)
    except TypeError as error:
        reason = str(error).removeprefix(f"{getattr(kind, '__name__', '')}.__init__() ")
        raise ConfigError(sentence(what, "must have the fields of its kind", reason)) from None
