"""A language model and the scheme of its tags: a plain transformers folder, with the scheme in ``fivenines.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from fivenines.conditional.rendering import tag_ids
from fivenines.conditional.schemes import Scheme
from fivenines.conditional.vocabulary import add_tags
from fivenines.errors import ModelError, sentence
from fivenines.models.folder import read_card
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig

__all__ = ["TaggedModel"]


class TaggedModel:
    """A language model whose tokenizer knows the tags of ``scheme``. Made by :meth:`load`, :meth:`create`,
    :meth:`extend`.

    ``tags``: the token of each tag. Raises ModelError for tags that are not tokens of the model.
    """

    def __init__(self, language: LanguageModel, scheme: Scheme) -> None:
        self.language, self.scheme = language, scheme
        self.tags: dict[str, int] = tag_ids(language.tokenizer, scheme.tags)

    @classmethod
    def create(
        cls,
        texts: Sequence[str],
        scheme: Scheme,
        config: LanguageModelConfig | None = None,
        sampling: SamplingConfig | None = None,
    ) -> Self:
        """A small model with random weights, its tokenizer trained on ``texts``, its tags added."""
        return cls.extend(LanguageModel.create(texts, config, sampling), scheme)

    @classmethod
    def extend(cls, language: LanguageModel, scheme: Scheme, *, seed: int = 0) -> Self:
        """``language`` with the tags of the scheme as new tokens; changes it in place. Raises as ``add_tags``."""
        add_tags(language.model, language.tokenizer, scheme, seed=seed)
        language.changed()
        return cls(language, scheme)

    @classmethod
    def load(cls, folder: str | Path, sampling: SamplingConfig | None = None) -> Self:
        """From a folder that :meth:`save` wrote. Raises ModelError for a model without tags."""
        card = read_card(folder)
        if card is None or card.tags is None:
            then = "Train one with fivenines pretrain, or load it as a LanguageModel."
            raise ModelError(sentence(f"model folder {folder}", "must hold a model with tags", "none", then))
        return cls(LanguageModel.load(folder, sampling), Scheme.from_dict(card.tags))

    def save(self, folder: str | Path) -> None:
        """As :meth:`LanguageModel.save`, with the scheme beside it."""
        self.language.save(folder, tags=self.scheme.to_dict())
