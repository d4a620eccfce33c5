"""What is wrong in a task.toml, a line for each problem: where, what it must be, what it is, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from fivenines.errors import sentence

__all__ = ["problems"]

_TYPES = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list of texts",
    "dict_type": "must be a table",
    "model_type": "must be a section",
    "model_attributes_type": "must be a section",
}
_BOUNDS = {
    "greater_than": ("gt", "must be greater than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


def problems(file: str, model: type[BaseModel], error: ValidationError) -> str:
    """The problems, one line each, in the one form of an error message."""
    return "\n".join(_line(file, model, dict(problem)) for problem in error.errors(include_url=False))


def _line(file: str, model: type[BaseModel], problem: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    what = f"{file}: {path}" if path else file
    kind, got, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return sentence(what, "must be a known key", "an unknown one", _suggestion(model, problem["loc"]))
    if kind == "missing":
        return sentence(what, "must be given", "nothing", _meaning(model, problem["loc"]))
    if kind == "literal_error":
        then = _nearest(str(got), [part.strip("'") for part in _options(context["expected"])])
        return sentence(what, f"must be {context['expected']}", _shown(got), then)
    if kind in _TYPES:
        return sentence(what, _TYPES[kind], _shown(got))
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return sentence(what, f"{words} {context[name]:g}", _shown(got))
    if kind in ("string_too_short", "too_short"):
        return sentence(what, "must not be empty", _shown(got))
    if (
        kind == "value_error"
    ):  # our own validators: "KEY must ..., got ...", or "must ..., got ..." of the section
        message = str(context["error"])
        joint = " " if message.startswith("must") else "." if path else ": "
        return f"{what}{joint}{message}."
    return sentence(what, f"is wrong ({problem['msg']})", _shown(got))


def _shown(value: object) -> str:
    """As TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _options(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _suggestion(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The nearest known key: of this section first, then of any other."""
    wrong = str(location[-1])
    section = _section(model, location[:-1])
    known = list(section.model_fields) if section is not None else []
    near = _nearest(wrong, known)
    if near:
        return near
    elsewhere = [path for path in _paths(model) if path.split(".")[-1] == wrong]
    if elsewhere:
        return f"Did you mean {elsewhere[0]}?"
    return f"Known here: {', '.join(known)}."


def _nearest(wrong: str, known: list[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"Did you mean {near[0]}?" if near else ""


def _meaning(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    section = _section(model, location[:-1])
    field = section.model_fields.get(str(location[-1])) if section is not None else None
    return (field.description or "") if field is not None else ""


def _section(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type):
            return None
        if not issubclass(field.annotation, BaseModel):
            return None
        model = field.annotation
    return model


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")
