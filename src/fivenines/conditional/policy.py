"""What a model may do with its tags while it writes: ban, allow, force, bias."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fivenines.conditional.schemes import Scheme
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.stats.checks import number

__all__ = ["ChangePolicy", "TagPolicy"]


@dataclass(frozen=True)
class TagPolicy:
    """How tags are treated in writing. What text looks like a tag is text and never concerned.

    ``ban``: never written. ``allow``: where given, all other tags are banned. ``force``: put behind the prompt in this
    order, before writing starts; free to come again unless ``silent``, which bans every tag from then on (Korbak et
    al., arXiv 2302.08582, decode so: <|aligned|> once, then none). ``bias``: added to a tag's logit.

    Checked when made, and against a scheme by :meth:`check`; raises ConfigError.
    """

    ban: tuple[str, ...] = ()
    allow: tuple[str, ...] | None = None
    force: tuple[str, ...] = ()
    bias: Mapping[str, float] = field(default_factory=dict)
    silent: bool = False

    def __post_init__(self) -> None:
        for name in ("ban", "force"):
            object.__setattr__(self, name, _tags(getattr(self, name), name))
        if self.allow is not None:
            object.__setattr__(self, "allow", _tags(self.allow, "allow"))
            if not self.allow:
                then = "To write without tags, let the policy be silent."
                raise ConfigError(sentence("allow", "must hold a tag: it bans all others", "none", then))
        if not isinstance(self.bias, Mapping):
            raise ConfigError(sentence("bias", "must give a number to each of its tags", self.bias))
        bias = {str(tag): number(value, f"the bias of {tag}") for tag, value in self.bias.items()}
        object.__setattr__(self, "bias", bias)
        if not isinstance(self.silent, bool):
            raise ConfigError(sentence("silent", "must be true or false", self.silent))
        for tag, value in bias.items():
            if not math.isfinite(value):
                raise ConfigError(sentence(f"the bias of {tag}", "must be finite", value, "Ban it instead."))
        self._check_against_itself()

    def _check_against_itself(self) -> None:
        banned = set(self.ban)
        for name, tags in (("allow", self.allow or ()), ("force", self.force), ("bias", tuple(self.bias))):
            for tag in tags:
                if tag in banned:
                    raise ConfigError(sentence(name, "must not hold a tag that is banned", tag))
        if self.allow is not None:
            for name, tags in (("force", self.force), ("bias", tuple(self.bias))):
                for tag in tags:
                    if tag not in self.allow:
                        must = "must not hold a tag that is banned, as all are that allow leaves out"
                        raise ConfigError(sentence(name, must, tag))
        if self.silent and (self.allow is not None or self.bias):
            must = "must have neither allow nor bias: it writes no tag"
            raise ConfigError(sentence("a silent policy", must, "allow" if self.allow else "bias"))

    def __hash__(self) -> int:
        return hash((self.ban, self.allow, self.force, tuple(sorted(self.bias.items())), self.silent))

    @classmethod
    def for_good(cls, scheme: Scheme) -> Self:
        """Begin with the tags of what is wanted, and never write one of what is not."""
        return cls(ban=scheme.bad, force=scheme.start)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """From a table of TOML or an object of JSON. Raises ConfigError for fields that a policy has not."""
        known = {"ban", "allow", "force", "bias", "silent"}
        if unknown := sorted(set(row) - known):
            must = f"must hold {', '.join(sorted(known))} alone"
            raise ConfigError(sentence("a policy of tags", must, ", ".join(unknown)))
        return cls(**row)

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """From a TOML file of these fields. Raises DataError for a file that cannot be read, ConfigError."""
        try:
            row = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(sentence(f"policy file {file}", "must be readable TOML", str(error))) from error
        return cls.from_dict(row)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; what is left out is as by default."""
        row: dict[str, Any] = {"ban": list(self.ban), "force": list(self.force), "bias": dict(self.bias)}
        row["silent"] = self.silent
        return row if self.allow is None else row | {"allow": list(self.allow)}

    def check(self, scheme: Scheme) -> None:
        """Whether all its tags are tags of the scheme. Raises ConfigError."""
        named = {"ban": self.ban, "allow": self.allow or (), "force": self.force, "bias": tuple(self.bias)}
        for name, tags in named.items():
            for tag in tags:
                if tag not in scheme.tags:
                    must = f"must hold tags of the model ({', '.join(scheme.tags)})"
                    raise ConfigError(sentence(name, must, tag))

    def biases(self, tags: Sequence[str]) -> list[float]:
        """What is added to the logit of each of ``tags``; minus infinity for one that is banned."""
        return [-math.inf if self._bans(tag) else self.bias.get(tag, 0.0) for tag in tags]

    def _bans(self, tag: str) -> bool:
        if self.silent or tag in self.ban:
            return True
        return self.allow is not None and tag not in self.allow


ChangePolicy = Callable[[int, str], TagPolicy | None]
"""Asked before each token of a text, with the number of tokens written and the text so far, without tags.

None: go on as before. A policy with ``force`` writes these tags next, each time that it is given: then return one
without at the next step, or None. The answer should depend on the arguments alone.
"""


def _tags(value: Any, name: str) -> tuple[str, ...]:
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or any(not isinstance(t, str) for t in value)
    ):
        raise ConfigError(sentence(name, "must be a list of tags", value))
    return tuple(dict.fromkeys(value)) if name != "force" else tuple(value)
