"""Arrays in, Estimate out. numpy and scipy only; what needs another library stands in a module of its own.

Names follow one grid: the quantity, then how: ``failure_rate_exact``, ``failure_rate_weighted``,
``preference_coupled``, ``attack_cost_exact``. Every estimate carries what it rests on.

    estimate, checks        the number with its interval; what every statistic asks of its input
    binomial                exact shares, zero failures, sample sizes
    differences             exact differences of two shares
    betting, weighted       bounded values with weights, at any sample size; the reuse of unfiltered labels
    stratified, poisson     strata that were sampled unequally; weighted counts of rare events
    designs, assisted       what to label next; rates of a pool labelled so, assisted by predictions or not
    prediction_powered      the same for some tens of failures, by ppi-python
    proposals, reweighting  importance draws from a generator that fails more often; samples with wrong weights
    extremes                forecasts from the top scores: never a bound
    quality, preferences    the preference for the filtered system: coupled, by raters, strata, policies
    attack_cost, survival   queries, seconds or minutes for a confirmed success
    judges                  rates corrected for labelers who err
    ranking, reliability    how well scores rank, and whether they mean what they say
    planning, plans         how many labels it will take

The names below are loaded when first used: ``fivenines plan`` answers before all of scipy would have loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fivenines.stats.assisted import failure_rate_assisted as failure_rate_assisted
    from fivenines.stats.assisted import failure_rate_hajek as failure_rate_hajek
    from fivenines.stats.assisted import failure_rate_horvitz_thompson as failure_rate_horvitz_thompson
    from fivenines.stats.attack_cost import attack_cost_exact as attack_cost_exact
    from fivenines.stats.attack_cost import attack_cost_ratio_exact as attack_cost_ratio_exact
    from fivenines.stats.attack_cost import attack_rate_exact as attack_rate_exact
    from fivenines.stats.attack_cost import attempt_totals as attempt_totals
    from fivenines.stats.attack_cost import successes_needed as successes_needed
    from fivenines.stats.binomial import binomial_p_value as binomial_p_value
    from fivenines.stats.binomial import failure_rate_exact as failure_rate_exact
    from fivenines.stats.binomial import sample_size_exact as sample_size_exact
    from fivenines.stats.binomial import share_exact as share_exact
    from fivenines.stats.binomial import zero_failure_sample_size as zero_failure_sample_size
    from fivenines.stats.designs import Design as Design
    from fivenines.stats.designs import design_active as design_active
    from fivenines.stats.designs import design_near_threshold as design_near_threshold
    from fivenines.stats.designs import design_stratified as design_stratified
    from fivenines.stats.designs import design_uniform as design_uniform
    from fivenines.stats.designs import stratum_numbers as stratum_numbers
    from fivenines.stats.differences import share_difference_exact as share_difference_exact
    from fivenines.stats.differences import share_difference_p_value as share_difference_p_value
    from fivenines.stats.estimate import Estimate as Estimate
    from fivenines.stats.extremes import failure_forecast as failure_forecast
    from fivenines.stats.extremes import forecast_error as forecast_error
    from fivenines.stats.extremes import largest_forecast as largest_forecast
    from fivenines.stats.judges import failure_rate_corrected as failure_rate_corrected
    from fivenines.stats.poisson import failure_rate_poisson as failure_rate_poisson
    from fivenines.stats.prediction_powered import failure_rate_powered as failure_rate_powered
    from fivenines.stats.preferences import preference_clustered as preference_clustered
    from fivenines.stats.preferences import preference_coupled_by as preference_coupled_by
    from fivenines.stats.preferences import preference_difference as preference_difference
    from fivenines.stats.preferences import preference_stratified as preference_stratified
    from fivenines.stats.preferences import preference_weighted as preference_weighted
    from fivenines.stats.preferences import quality_no_worse_p_value as quality_no_worse_p_value
    from fivenines.stats.preferences import rater_effect as rater_effect
    from fivenines.stats.proposals import control_coefficient as control_coefficient
    from fivenines.stats.proposals import failure_rate_importance as failure_rate_importance
    from fivenines.stats.proposals import failure_rate_unmixed as failure_rate_unmixed
    from fivenines.stats.proposals import mixture_weights as mixture_weights
    from fivenines.stats.proposals import proposal_check as proposal_check
    from fivenines.stats.quality import preference_coupled as preference_coupled
    from fivenines.stats.quality import preference_exact as preference_exact
    from fivenines.stats.ranking import auroc as auroc
    from fivenines.stats.ranking import average_precision as average_precision
    from fivenines.stats.reliability import calibration_curve as calibration_curve
    from fivenines.stats.reliability import calibration_error as calibration_error
    from fivenines.stats.reliability import failure_rate_unlike as failure_rate_unlike
    from fivenines.stats.reweighting import Overlap as Overlap
    from fivenines.stats.reweighting import failure_rate_poststratified as failure_rate_poststratified
    from fivenines.stats.reweighting import failure_rate_reweighted as failure_rate_reweighted
    from fivenines.stats.stratified import failure_rate_stratified as failure_rate_stratified
    from fivenines.stats.survival import survival_curve as survival_curve
    from fivenines.stats.weighted import failure_rate_reused as failure_rate_reused
    from fivenines.stats.weighted import failure_rate_weighted as failure_rate_weighted
    from fivenines.stats.weighted import mean_bounded as mean_bounded
    from fivenines.stats.weighted import ratio_bounded as ratio_bounded
    from fivenines.stats.weighted import ratio_weighted as ratio_weighted

_HOMES = {
    "Design": "designs",
    "Estimate": "estimate",
    "Overlap": "reweighting",
    "attack_cost_exact": "attack_cost",
    "attack_cost_ratio_exact": "attack_cost",
    "attack_rate_exact": "attack_cost",
    "attempt_totals": "attack_cost",
    "auroc": "ranking",
    "average_precision": "ranking",
    "binomial_p_value": "binomial",
    "calibration_curve": "reliability",
    "calibration_error": "reliability",
    "control_coefficient": "proposals",
    "design_active": "designs",
    "design_near_threshold": "designs",
    "design_stratified": "designs",
    "design_uniform": "designs",
    "failure_forecast": "extremes",
    "failure_rate_assisted": "assisted",
    "failure_rate_corrected": "judges",
    "failure_rate_exact": "binomial",
    "failure_rate_hajek": "assisted",
    "failure_rate_horvitz_thompson": "assisted",
    "failure_rate_importance": "proposals",
    "failure_rate_poisson": "poisson",
    "failure_rate_poststratified": "reweighting",
    "failure_rate_powered": "prediction_powered",
    "failure_rate_reused": "weighted",
    "failure_rate_reweighted": "reweighting",
    "failure_rate_stratified": "stratified",
    "failure_rate_unlike": "reliability",
    "failure_rate_unmixed": "proposals",
    "failure_rate_weighted": "weighted",
    "forecast_error": "extremes",
    "largest_forecast": "extremes",
    "mean_bounded": "weighted",
    "mixture_weights": "proposals",
    "preference_clustered": "preferences",
    "preference_coupled": "quality",
    "preference_coupled_by": "preferences",
    "preference_difference": "preferences",
    "preference_exact": "quality",
    "preference_stratified": "preferences",
    "preference_weighted": "preferences",
    "proposal_check": "proposals",
    "quality_no_worse_p_value": "preferences",
    "rater_effect": "preferences",
    "ratio_bounded": "weighted",
    "ratio_weighted": "weighted",
    "sample_size_exact": "binomial",
    "share_difference_exact": "differences",
    "share_difference_p_value": "differences",
    "share_exact": "binomial",
    "stratum_numbers": "designs",
    "successes_needed": "attack_cost",
    "survival_curve": "survival",
    "zero_failure_sample_size": "binomial",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fivenines.stats' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fivenines.stats.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
