"""Several classifiers as one: the mean of their margins. Steadier than each, at as many times the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.calibration import Calibration, Method
from fivenines.models.classifier import Classifier, ClassifierConfig, Judged
from fivenines.models.folder import Card, read_card, write_card
from fivenines.models.objective import calibration_of, lesson_of
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Judgment, Snippet

__all__ = ["Ensemble"]

KIND = "classifier ensemble"


class Ensemble:
    """A classifier made of classifiers. On the disk: a folder with a card and a model folder per member."""

    def __init__(self, members: Sequence[Classifier], calibration: Calibration | None = None) -> None:
        if not members:
            raise ConfigError(sentence("an ensemble", "must have members", 0))
        self.members = tuple(members)
        self.calibration = Calibration() if calibration is None else calibration

    @classmethod
    def load(
        cls, name: str | Path, config: ClassifierConfig | None = None, *, size: int | None = None
    ) -> Self:
        """A folder that :meth:`save` wrote; or, with ``size``, so many classifiers from ``name``, each with
        its own seed.

        Raises ModelError for a folder that holds no ensemble.
        """
        if size is not None:
            first = ClassifierConfig() if config is None else config
            seeds = range(first.seed, first.seed + size)
            return cls([Classifier.load(name, replace(first, seed=seed)) for seed in seeds])
        card = read_card(name)
        if card is None or card.kind != KIND:
            then = "Give size to make an ensemble of one model."
            got = "no card" if card is None else f"a {card.kind}"
            raise ModelError(sentence(f"folder {name}", f"must hold a {KIND}", got, then))
        folders = [Path(name).expanduser() / str(member) for member in card.settings["members"]]
        calibration = None if card.calibration is None else Calibration.from_dict(card.calibration)
        return cls([Classifier.load(folder, config) for folder in folders], calibration)

    def fit(
        self,
        snippets: Sequence[Snippet],
        judgments: Sequence[Judgment],
        *,
        weights: ArrayLike | None = None,
        texts: Sequence[str] = (),
        validation: Judged | None = None,
        training: TrainingConfig | None = None,
        folder: Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Fit every member, each with its own seed, as :meth:`Classifier.fit`; a killed fit goes on with
        its member.
        """
        training = TrainingConfig() if training is None else training
        for number, member in enumerate(self.members):
            member.fit(
                snippets,
                judgments,
                weights=weights,
                texts=texts,
                validation=validation,
                training=replace(training, seed=training.seed + number),
                folder=None if folder is None else folder / _member(number),
                progress=progress,
            )
        self.calibration = Calibration()
        return self

    def member_margins(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """The margin of each member, shape (members, n): how much they differ says what to label next."""
        return np.stack([member.margins(snippets) for member in self.members])

    def margins(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """Mean of the members' margins, shape (n,); NaN where one of them cannot read a snippet."""
        mean: NDArray[np.float64] = self.member_margins(snippets).mean(axis=0)
        return mean

    def forget(self) -> None:
        """As :meth:`Classifier.forget`."""
        for member in self.members:
            member.forget()

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """P(failure), shape (n,), in [0, 1]; NaN as in :meth:`margins`."""
        return self.calibration(self.margins(snippets))

    def calibrate(
        self,
        snippets: Sequence[Snippet],
        judgments: Sequence[Judgment],
        *,
        weights: ArrayLike | None = None,
        method: Method = "platt",
    ) -> Self:
        """As :meth:`Classifier.calibrate`, of the mean."""
        lesson = lesson_of(snippets, judgments, self.members[0].config.objective, weights)
        margins = self.margins([snippets[i] for i in lesson.index])
        self.calibration = calibration_of(margins, lesson, method)
        return self

    def save(self, folder: str | Path) -> None:
        """A model folder per member, then the card that makes them one."""
        place = Path(folder)
        names = [_member(number) for number in range(len(self.members))]
        for name, member in zip(names, self.members, strict=True):
            member.save(place / name)
        write_card(place, Card(KIND, {"members": names}, asdict(self.calibration)))


def _member(number: int) -> str:
    return f"member-{number}"
