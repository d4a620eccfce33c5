"""What several tests of commands start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_tagged import tagged_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows its tags."""
    path = tmp_path_factory.mktemp("model") / "tagged"
    tagged_model().save(path)
    return path
