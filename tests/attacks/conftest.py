"""Tiny trained models that several tests of attacks read."""

from __future__ import annotations

import pytest

from fivenines.models.classifier import Classifier
from small_classifier import TRAINING, an_encoder, task


@pytest.fixture(scope="session")
def hurt() -> Classifier:
    """Knows the harms of ``small_classifier``; reads 40 tokens."""
    return an_encoder().fit(*task(240), training=TRAINING)
