"""A statistic, its interval and its p: one object, for any function of the values of a family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rsacompare.inference import bootstrap
from rsacompare.inference.statistics import Options, Statistics, Values, standard_error

Function = Callable[[Values], np.ndarray]
"""Values with leading dims (...) to a statistic (...) or (..., item); never mixes draws."""


@dataclass(frozen=True)
class Estimate:
    """A statistic (scalar or (item,)) with its uncertainty.

    `p` is two-sided against 0 and below 1 − confidence just when 0 lies outside [low, high].
    """

    value: np.ndarray
    se: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    dof: float

    def unknown(self) -> Estimate:
        """The same without any number."""
        nothing = np.full(np.shape(self.value), np.nan)
        return replace(self, value=nothing, se=nothing, low=nothing, high=nothing, p=nothing)


def estimate(
    function: Function,
    statistics: Statistics,
    levels: dict[str, int],
    options: Options,
    rounding: float = 0.0,
) -> Estimate:
    """The statistic with the interval that the options ask for.

    Parameters
    ----------
    function : Values -> (...) or (..., item)
    statistics : Statistics
    levels : {source: n}
        The resampled sources and how many levels each has (`statistics.levels_of`).
    options : Options
    rounding : float
        Values and standard errors up to this are 0.
    """
    return t_estimate(function, statistics, levels, options, rounding)


def t_estimate(
    function: Function,
    statistics: Statistics,
    levels: dict[str, int],
    options: Options,
    rounding: float = 0.0,
) -> Estimate:
    """Estimate ± t · SE with the corrected variance of all sources together (DESIGN 10)."""
    value = np.asarray(function(statistics.observed), dtype=float)
    draws = {s: function(v) for s, v in statistics.draws.items()}
    se = np.asarray(np.broadcast_to(standard_error(draws, levels), value.shape))
    value = np.where(np.abs(value) <= rounding, 0.0, value)
    se = np.where(se <= rounding, 0.0, se)
    dof = np.asarray(float(min(levels.values(), default=1) - 1))
    low, high = bootstrap.t_interval(value, se, dof, options.confidence)
    p = bootstrap.t_two_sided(value, se, dof)
    return Estimate(value, se, low, high, p, float(dof))
