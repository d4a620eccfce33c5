"""fivenines: how many nines does your text generator have? Measure it, and add more.

The names below are loaded when first used, so that ``import fivenines`` is fast and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fivenines.errors import FiveninesError as FiveninesError
    from fivenines.errors import UserError as UserError
    from fivenines.filtering import FilteredGenerator as FilteredGenerator
    from fivenines.models.classifier import Classifier as Classifier
    from fivenines.models.language_model import LanguageModel as LanguageModel
    from fivenines.records import Answer as Answer
    from fivenines.records import Judgment as Judgment
    from fivenines.records import Label as Label
    from fivenines.records import Output as Output
    from fivenines.records import Snippet as Snippet
    from fivenines.stats import Estimate as Estimate
    from fivenines.stats import failure_rate_exact as failure_rate_exact
    from fivenines.task import Task as Task
    from fivenines.threshold import Threshold as Threshold
    from fivenines.threshold import choose_threshold as choose_threshold

__version__ = "0.1.0"

# Where each public name lives. One table: __all__, __getattr__ and the tests read it.
_HOMES = {
    "Answer": "fivenines.records",
    "Classifier": "fivenines.models.classifier",
    "Estimate": "fivenines.stats",
    "FilteredGenerator": "fivenines.filtering",
    "FiveninesError": "fivenines.errors",
    "Judgment": "fivenines.records",
    "Label": "fivenines.records",
    "LanguageModel": "fivenines.models.language_model",
    "Output": "fivenines.records",
    "Snippet": "fivenines.records",
    "Task": "fivenines.task",
    "Threshold": "fivenines.threshold",
    "UserError": "fivenines.errors",
    "choose_threshold": "fivenines.threshold",
    "failure_rate_exact": "fivenines.stats",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fivenines' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
