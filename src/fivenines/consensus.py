"""What labelers agree on when some are better than others: the model of Dawid and Skene, by crowd-kit.

Each person has a probability of every answer to a failure and to a text without one; nobody says which texts
are which, so these and the probability that each text is a failure are found together, by expectation
maximization (Dawid and Skene, Applied Statistics 1979). Needs the extra ``consensus``.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.labels import judgments, latest_labels
from fivenines.records import Answer, Label

__all__ = ["Consensus", "Skill", "UnsureAs", "consensus"]

UnsureAs = Literal["class", "failure", "drop"]

_ROUNDS, _TOLERANCE = 500, 1e-8  # gain in log likelihood a label; crowd-kit's 100 and 1e-5 stop too early
_UNSETTLED = f"the search was stopped after {_ROUNDS} rounds, before the probabilities had settled"
_TINY = 1e-10  # the least probability, as in crowd-kit
_NOTHING = 1e-6  # texts of a kind a person saw, below which nothing is known of them on that kind
_ASSUMPTIONS = (
    "labelers err independently of each other given what a text is",
    "each labeler errs equally often on all texts of a kind: none is harder than another",
    "most answers are right (else failures and the rest would change places)",
    "the maximum that was found is the largest one, and no interval comes with it",
)


@dataclass(frozen=True, slots=True)
class Skill:
    """One person's answers, held against the consensus.

    ``failures`` and ``oks`` are how many of each kind the person labelled, as expected under the consensus
    (a sum of probabilities). ``sensitivity`` is the share of the failures that the person called a failure,
    ``specificity`` the share of the rest called ok; NaN where the person saw none of the kind.
    """

    labeler: str
    labels: int
    failures: float
    oks: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True, slots=True)
class Consensus:
    """P(failure) of each snippet, by id in order of first appearance, and each person's skill.

    ``unsure`` says how unsure answers were read; as a class of their own, P(failure) + P(ok) can be below 1.
    ``gold`` counts the snippets whose gold answer was taken as known.
    """

    failure: Mapping[str, float]
    skills: tuple[Skill, ...]
    unsure: UnsureAs
    gold: int
    assumptions: tuple[str, ...]


def consensus(labels: Iterable[Label], unsure: UnsureAs = "failure") -> Consensus:
    """The consensus of the labels that stand (:func:`latest_labels`).

    A gold answer of failure or ok is taken as known, and is no vote; a snippet with nothing else has no part
    in the skills. An unsure answer is read as "failure", on the safe side; as "class", a third kind of answer
    and of text; or "drop", left out. Snippets that this leaves without an answer are left out.

    The probabilities are those of a model: use them to choose what to label again and whom to train, not as
    labels in an estimate of a failure rate.

    Raises:
        ConfigError: the extra is missing, or an unknown reading of unsure.
        LabelError: two gold answers that contradict each other.
        NotEnoughDataError: no snippet has answers of two people, or nobody answered failure, or nobody ok.
    """
    if unsure not in get_args(UnsureAs):
        raise ConfigError(sentence("unsure", f"must be one of {', '.join(get_args(UnsureAs))}", str(unsure)))
    given = list(labels)
    known = {
        judgment.snippet_id: judgment.answer
        for judgment in judgments(label for label in given if label.gold)
        if judgment.answer is not Answer.UNSURE
    }
    votes = _votes([label for label in given if not label.gold], unsure)
    model = _fitted(votes, known)
    chance = dict(zip(model.probas_.index, model.probas_[str(Answer.FAILURE)].tolist(), strict=True))
    ok = dict(zip(model.probas_.index, model.probas_[str(Answer.OK)].tolist(), strict=True))
    gold = {snippet_id: float(answer is Answer.FAILURE) for snippet_id, answer in known.items()}
    chance.update(gold)
    ok.update({snippet_id: 1.0 - value for snippet_id, value in gold.items()})
    order = dict.fromkeys(label.snippet_id for label in given if label.snippet_id in chance)
    failure = {snippet_id: float(chance[snippet_id]) for snippet_id in order}
    skills = _skills(votes, model.errors_, chance, ok)
    notes = (_UNSETTLED,) if len(model.loss_history_) == _ROUNDS else ()
    return Consensus(failure, skills, unsure, len(known), (*notes, *_ASSUMPTIONS))


def _votes(labels: list[Label], unsure: UnsureAs) -> list[tuple[str, str, str]]:
    """(snippet id, labeler, answer) of what counts."""
    rows = []
    for standing in latest_labels(labels).values():
        for label in standing:
            answer = label.answer
            if answer is Answer.UNSURE and unsure == "drop":
                continue
            if answer is Answer.UNSURE and unsure == "failure":
                answer = Answer.FAILURE
            rows.append((label.snippet_id, label.labeler, str(answer)))
    people: dict[str, int] = defaultdict(int)
    for snippet_id, _, _ in rows:
        people[snippet_id] += 1
    if max(people.values(), default=0) < 2:
        then = "Have a second person label some of the snippets."
        raise NotEnoughDataError(
            sentence("consensus", "must have a snippet with answers of two people", "none", then), 1
        )
    for answer in (Answer.FAILURE, Answer.OK):
        if all(said != answer for _, _, said in rows):
            must = "must have answers of both kinds, failure and ok"
            raise NotEnoughDataError(sentence("consensus", must, f"no {answer}"), 1)
    return rows


def _fitted(votes: list[tuple[str, str, str]], known: Mapping[str, Answer]) -> Any:
    """crowd-kit's model: ``probas_`` (snippets, classes) and ``errors_`` ((person, answer), classes)."""
    try:
        library = importlib.import_module("crowdkit.aggregation")
    except ImportError as missing:
        then = "Run: pip install 'fivenines[consensus]'"
        raise ConfigError(sentence("consensus", "needs crowd-kit", str(missing), then)) from missing
    frame = pd.DataFrame(votes, columns=["task", "worker", "label"])
    truth = pd.Series({snippet_id: str(answer) for snippet_id, answer in known.items()}, dtype=object)
    with warnings.catch_warnings():  # of the pandas to come, which is crowd-kit's business
        warnings.simplefilter("ignore")
        model = library.DawidSkene(n_iter=_ROUNDS, tol=_TOLERANCE)
        # crowd-kit 1.4.2 counts the prior once for each label instead of once for each text: its bound can
        # fall while the likelihood rises, and the rounds end early.
        model._evidence_lower_bound = _bound
        model.fit(frame, true_labels=truth if known else None)
    if model.probas_.isna().to_numpy().any():
        raise DataError(sentence("consensus", "must be a number for each snippet", "NaN"))
    return model


def _bound(
    votes: pd.DataFrame, chances: pd.DataFrame, priors: pd.Series[float], errors: pd.DataFrame
) -> float:
    """The lower bound of the log likelihood that each round raises."""
    kinds = list(chances.columns)
    chance = chances.to_numpy(dtype=np.float64).clip(_TINY)  # (snippets, kinds)
    said = errors.index.get_indexer(pd.MultiIndex.from_frame(votes[["worker", "label"]]))
    likelihood = np.log(errors[kinds].to_numpy(dtype=np.float64))[said]  # (votes, kinds)
    by_vote = chance[chances.index.get_indexer(pd.Index(votes["task"]))]
    prior = np.log(priors[kinds].to_numpy(dtype=np.float64).clip(_TINY))
    return float((by_vote * likelihood).sum() + (chance * (prior - np.log(chance))).sum())


def _skills(
    votes: list[tuple[str, str, str]],
    errors: pd.DataFrame,
    failure: Mapping[str, float],
    ok: Mapping[str, float],
) -> tuple[Skill, ...]:
    seen: dict[str, list[str]] = defaultdict(list)
    for snippet_id, labeler, _ in votes:
        seen[labeler].append(snippet_id)
    shares = dict(zip(errors.index, errors.to_dict("records"), strict=True))
    found = []
    for labeler, snippets in seen.items():
        failures, oks = (sum(kind[snippet_id] for snippet_id in snippets) for kind in (failure, ok))
        rates = [
            float(shares.get((labeler, answer), {}).get(answer, 0.0)) if expected > _NOTHING else math.nan
            for answer, expected in ((str(Answer.FAILURE), failures), (str(Answer.OK), oks))
        ]
        found.append(Skill(labeler, len(snippets), failures, oks, rates[0], rates[1]))
    return tuple(found)
