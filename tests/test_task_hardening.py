"""How task.toml says that a classifier is hardened, and that its configs get what it says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from pydantic import ValidationError

from fivenines.models.hardening import Hardening
from fivenines.models.latent import Latent
from fivenines.models.smoothness import Sift
from fivenines.task.problems import problems
from fivenines.task.section import Section
from fivenines.task.sections import Classifier


class Root(Section):
    classifier: Classifier = Classifier()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Hardening()),
        ({"sift": False, "latent": False}, Hardening()),
        ({"sift": True}, Hardening(sift=Sift())),
        ({"sift": {"weight": 3.0}, "latent": True}, Hardening(Sift(weight=3.0), Latent())),
        (
            {"latent": {"epsilon": 0.2, "layers": [0, 4], "steps": 6, "relative": False}},
            Hardening(latent=Latent(epsilon=0.2, layers=(0, 4), steps=6, relative=False)),
        ),
        ({"latent": {"enabled": False, "epsilon": 0.2}}, Hardening()),
    ],
)
def test_a_section_becomes_a_config(given: dict[str, Any], wanted: Hardening) -> None:
    section = Root.model_validate({"classifier": {"hardening": given}}).classifier.hardening
    assert Hardening.from_dict(section.settings()) == wanted


def test_defaults_are_those_of_the_code() -> None:
    section = Classifier.model_validate({"hardening": {"sift": True, "latent": True}}).hardening.settings()
    assert section["latent"] == asdict(Latent())
    assert section["sift"] == {k: v for k, v in asdict(Sift()).items() if k != "ascent"}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"sift": "yes"}, "t: classifier.hardening.sift must be a section, got 'yes'."),
        ({"sift": {"weight": 0.0}}, "t: classifier.hardening.sift.weight must be greater than 0, got 0.0."),
        (
            {"latent": {"epsilon": -1.0}},
            "t: classifier.hardening.latent.epsilon must be greater than 0, got -1.0.",
        ),
        ({"latent": {"steps": 0}}, "t: classifier.hardening.latent.steps must be at least 1, got 0."),
        (
            {"latent": {"layers": [0, -1]}},
            "t: classifier.hardening.latent.layers.1 must be at least 0, got -1.",
        ),
        (
            {"latent": {"layers": "all"}},
            "t: classifier.hardening.latent.layers.0 must be a whole number, got 'all'.",
        ),
        ({"latent": {"ramp": 1.0}}, "t: classifier.hardening.latent.ramp must be less than 1, got 1.0."),
        (
            {"latent": {"epsilo": 1.0}},
            "t: classifier.hardening.latent.epsilo must be a known key, got an unknown one. Did you mean epsilon?",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Root.model_validate({"classifier": {"hardening": given}})
    assert problems("t", Root, caught.value) == line
