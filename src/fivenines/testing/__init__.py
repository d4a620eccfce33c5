"""Fakes of the seams, and their contracts as test classes that a third party can run on its own parts.

The test classes need pytest and are imported by their own names, so that the fakes work without it::

    from fivenines.testing.attack_contract import AttackContract
    from fivenines.testing.classifier_contract import ClassifierContract
    from fivenines.testing.generator_contract import GeneratorContract
    from fivenines.testing.store_contract import StoreContract
"""

from fivenines.testing.fakes import FakeAttack, FakeClassifier, FakeGenerator, fake_truth

__all__ = ["FakeAttack", "FakeClassifier", "FakeGenerator", "fake_truth"]
