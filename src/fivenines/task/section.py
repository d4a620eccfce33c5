"""What all sections of task.toml are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Count", "Positive", "Section", "Share", "Texts", "as_numbers", "as_section", "as_tuple"]


class Section(BaseModel):
    """Frozen, strict about types, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def as_tuple(value: Any) -> Any:
    """TOML has lists; a lone text stands for a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def as_section(value: Any) -> Any:
    """true and false stand for a section with its defaults, and for none."""
    return {"enabled": value} if isinstance(value, bool) else value


def as_numbers(value: Any) -> Any:
    """As :func:`as_tuple`, for numbers."""
    return tuple(value) if isinstance(value, list) else value if value is None else (value,)


Texts = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
