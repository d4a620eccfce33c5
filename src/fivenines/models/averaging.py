"""One classifier from several of one training: the mean of their weights, steady as a committee, at the cost of one.

Source: stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407) and model soups (Wortsman et al. 2022,
arXiv 2203.05482); against attacks, Rebuffi et al. 2021 (arXiv 2103.01946). It is good where each went on from the one
before, or all from the same: weights of trainings that began apart have nothing to do with each other, and their mean
is worth nothing. For those there is :class:`fivenines.models.ensemble.Ensemble`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from fivenines.errors import ConfigError, sentence
from fivenines.models.classifier import Classifier

__all__ = ["averaged"]


def averaged(classifiers: Sequence[Classifier]) -> Classifier:
    """A further classifier with the mean of the weights of these, all else as the last one has it; not calibrated.

    Raises ConfigError for none, and for classifiers that are not alike in their weights, their words or their reading.
    """
    if not classifiers:
        raise ConfigError(sentence("an average of classifiers", "must be of at least one", 0))
    last = classifiers[-1]
    for other in classifiers[:-1]:
        _check_alike(other, last)
    model = copy.deepcopy(last.model)
    each = [one.model.state_dict() for one in classifiers]
    model.load_state_dict({name: _mean([state[name] for state in each]) for name in each[-1]})
    provenance = last.provenance | {"average of": len(classifiers)}
    fitted = all(one.fitted for one in classifiers)
    return type(last)(model, last.tokenizer, last.config, provenance=provenance, fitted=fitted)


def _check_alike(one: Classifier, last: Classifier) -> None:
    shapes = [{name: value.shape for name, value in c.model.state_dict().items()} for c in (one, last)]
    differ = {
        "weights": shapes[0] != shapes[1],
        "vocabularies": one.tokenizer.get_vocab() != last.tokenizer.get_vocab(),
        "settings": one.config != last.config,
    }
    if any(differ.values()):
        got = "other " + ", other ".join(name for name, is_other in differ.items() if is_other)
        raise ConfigError(sentence("an average of classifiers", "must be of classifiers that are alike", got))


def _mean(values: Sequence[Tensor]) -> Tensor:
    """In float64, as four numbers of bfloat16 would lose what they differ by; counters come from the last."""
    last = values[-1]
    if not last.is_floating_point():
        return last
    return torch.stack([value.to(torch.float64) for value in values]).mean(dim=0).to(last)
