"""What attacks on a tagged and on a locked model found, as values, a curve and a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fivenines.errors import ConfigError, sentence
from fivenines.stats import Estimate

__all__ = ["UnlockReport", "Unlocked"]


@dataclass(frozen=True, slots=True)
class Unlocked:
    """One attack: the failure rate of either model, and the student's over the teacher's; None where there is none.

    ``steps`` and ``examples``: of a tuning. ``note`` says what was done, and why a rate is missing.
    """

    attack: str
    teacher: Estimate | None
    student: Estimate | None
    ratio: Estimate | None = None
    note: str = ""
    examples: int | None = None
    steps: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shown = {
            name: None if (each := getattr(self, name)) is None else each.to_dict()
            for name in ("teacher", "student", "ratio")
        }
        rest = {name: getattr(self, name) for name in ("note", "examples", "steps")}
        return {"attack": self.attack, **shown, **rest}


@dataclass(frozen=True, slots=True)
class UnlockReport:
    """What :func:`fivenines.conditional.unlocking.unlock` finds, attack by attack."""

    attacks: tuple[Unlocked, ...]
    prompts: int
    draws: int

    def curve(self, who: str) -> list[tuple[int, Estimate]]:
        """(steps, failure rate) of the tuning of "teacher" or "student", from 0 steps on. Raises ConfigError."""
        if who not in ("teacher", "student"):
            raise ConfigError(sentence("who", "must be teacher or student", who))
        rates = [(each.steps, getattr(each, who)) for each in self.attacks if each.steps is not None]
        return [(0, getattr(self.attacks[0], who)), *rates] if rates else []

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "prompts": self.prompts,
            "draws": self.draws,
            "attacks": [each.to_dict() for each in self.attacks],
        }

    def table(self) -> str:
        """A table in Markdown: a row an attack, rates with their intervals."""
        lines = [
            "| attack | tagged, under its policy | locked | note |",
            "|---|---|---|---|",
        ]
        for each in self.attacks:
            name, note = (
                text.replace("|", r"\|") for text in (each.attack, each.note)
            )  # tags have it in them
            lines.append(f"| {name} | {_cell(each.teacher)} | {_cell(each.student)} | {note} |")
        return "\n".join(lines)


def _cell(rate: Estimate | None) -> str:
    if rate is None:
        return "not possible"
    low, high = rate.rounded()
    return f"{rate.point:.3g} ({low:.3g} to {high:.3g})"
