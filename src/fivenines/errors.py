"""Every error that fivenines raises on purpose.

    FiveninesError
    ├── UserError                 the user can mend it; the command line prints one line and exits with 2
    │   ├── ConfigError           task.toml, command line options, arguments of a config
    │   ├── DataError             a file or a record that cannot be read; names the file and the line
    │   ├── LabelError            a label that contradicts what is known: unknown snippet, two golds
    │   ├── ModelError            a model folder or name that cannot be loaded or does not fit the text
    │   ├── StoreError            the database: newer schema, unreachable, not a store
    │   ├── LockedError           another process runs on the same task
    │   ├── ResourceError         the machine: disk full, no permission to write
    │   └── NotEnoughDataError    the data cannot support the claim; says how much more is needed
    └── ScoringError              a classifier returned what is no probability; no text may pass on it

All messages have one form, made by :func:`sentence`: what, the constraint, the value received, what to do.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "FiveninesError",
    "LabelError",
    "LockedError",
    "ModelError",
    "NotEnoughDataError",
    "ResourceError",
    "ScoringError",
    "StoreError",
    "UserError",
    "sentence",
]


class FiveninesError(Exception):
    """Root of all errors raised on purpose."""


class UserError(FiveninesError):
    """The user can mend it. The command line prints it on one line and exits with 2."""


class ConfigError(UserError):
    """A setting is missing, unknown, of the wrong type or out of range."""


class DataError(UserError):
    """A file or record cannot be read as what it should be."""


class LabelError(UserError):
    """A label contradicts what is known."""


class ModelError(UserError):
    """A model cannot be loaded, or does not fit the text it is given."""


class StoreError(UserError):
    """The database cannot be used."""


class LockedError(UserError):
    """Another process works on the same task."""


class ResourceError(UserError):
    """The machine refuses: disk full, no permission."""


class NotEnoughDataError(UserError):
    """The data cannot support the claim that was asked for.

    ``more_needed`` is the number of further items of the scarce kind (labels, failures), where it is known.
    """

    def __init__(self, message: str, more_needed: int | None = None) -> None:
        super().__init__(message)
        self.more_needed = more_needed


class ScoringError(FiveninesError):
    """A classifier returned something that is no probability."""


def sentence(what: str, must: str, got: object, then: str = "") -> str:
    """The one form of an error message.

    >>> sentence("threshold", "must lie in [0, 1]", 1.5, "Give a probability.")
    'threshold must lie in [0, 1], got 1.5. Give a probability.'
    """
    shown = got if isinstance(got, str) else repr(got)
    lines = [line for line in shown.splitlines() if line.strip()]
    shown = "; ".join(lines) or shown
    if len(shown) > 200:  # a whole broken line of JSON helps nobody
        shown = shown[:197] + "..."
    return f"{what} {must}, got {shown}. {then}".rstrip()
