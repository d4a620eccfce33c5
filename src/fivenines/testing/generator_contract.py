"""The contract of a generator as a test class. Subclass it, give the fixture ``generator``, and run pytest::

class TestMine(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return MyGenerator(...)
"""

from __future__ import annotations

import pytest

from fivenines.models.protocols import GeneratorLike

__all__ = ["GeneratorContract"]


class GeneratorContract:
    """What every generator keeps. Override ``prompts`` if yours takes other texts."""

    prompts: tuple[str, ...] = (
        "The old robot rolled down to the beach. It looked at the sea. It began to sing.",
        "Mara opened the door.",
        "It rained all day.",
    )

    @pytest.fixture
    def generator(self) -> GeneratorLike:
        raise NotImplementedError("a subclass gives the generator")

    def test_it_is_a_generator(self, generator: GeneratorLike) -> None:
        assert isinstance(generator, GeneratorLike)

    def test_one_text_per_prompt(self, generator: GeneratorLike) -> None:
        completions = generator.sample(self.prompts, seed=0)
        assert isinstance(completions, list)
        assert len(completions) == len(self.prompts)
        assert all(isinstance(completion, str) for completion in completions)

    def test_no_prompts_give_no_texts(self, generator: GeneratorLike) -> None:
        assert generator.sample([], seed=0) == []

    def test_the_same_seed_gives_the_same_texts(self, generator: GeneratorLike) -> None:
        prompts = self.prompts * 3
        first = generator.sample(prompts, seed=11)
        generator.sample(self.prompts, seed=12)  # what lies between must leave no trace
        assert generator.sample(prompts, seed=11) == first

    def test_seeds_of_any_size_up_to_63_bits(self, generator: GeneratorLike) -> None:
        for seed in (0, 2**32, 2**63 - 1):
            assert len(generator.sample(self.prompts[:1], seed=seed)) == 1

    def test_another_seed_gives_other_texts(self, generator: GeneratorLike) -> None:
        prompts = [self.prompts[0]] * 20
        assert generator.sample(prompts, seed=1) != generator.sample(prompts, seed=2)

    def test_a_repeated_prompt_gets_draws_of_its_own(self, generator: GeneratorLike) -> None:
        assert len(set(generator.sample([self.prompts[0]] * 50, seed=3))) > 1

    def test_a_completion_does_not_repeat_its_prompt(self, generator: GeneratorLike) -> None:
        long = max(self.prompts, key=len)
        assert not any(text.strip().startswith(long) for text in generator.sample([long] * 5, seed=4))

    def test_prompts_are_left_alone(self, generator: GeneratorLike) -> None:
        prompts = list(self.prompts)
        generator.sample(prompts, seed=5)
        assert prompts == list(self.prompts)
