"""A statistic, its interval and its p: one object, for any function of the values of a family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rsacompare.inference import bootstrap, intervals
from rsacompare.inference.leave_out import Jackknife
from rsacompare.inference.statistics import Options, Statistics, Values, standard_error

Function = Callable[[Values], np.ndarray]
"""Values with leading dims (...) to a statistic (...) or (..., item); never mixes draws."""


@dataclass(frozen=True)
class Estimate:
    """A statistic (scalar or (item,)) with its uncertainty.

    `p` is two-sided against 0 and below 1 − confidence just when 0 lies outside [low, high];
    `greater` and `less` are its one-sided halves, p of a statistic above and below 0. `dof`:
    levels of the smallest resampled source less one.
    """

    value: np.ndarray
    se: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    greater: np.ndarray
    less: np.ndarray
    dof: float

    def unknown(self) -> Estimate:
        """The same without any number."""
        nothing = np.full(np.shape(self.value), np.nan)
        return Estimate(nothing, nothing, nothing, nothing, nothing, nothing, nothing, self.dof)


def rounding_of(statistics: Statistics, r: int, layers: Sequence[int]) -> float:
    """Up to here, a sum of scores of these layers of an ROI is 0.

    What is left of equal numbers added in another order is no difference. Layers without a score
    have no part in it.
    """
    scores = statistics.observed.mean[r, layers]
    return 1e-12 * float(np.nanmax(np.abs(scores), initial=0.0))


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

    Raises
    ------
    ProtocolError
        A percentile, BCa or studentised interval over more than one source.

    Notes
    -----
    Costs beside the draws themselves: percentile nothing; BCa one score per level; studentised
    one per level of every draw. The factor n/(n − 1) belongs to the variance of a t interval;
    percentile and BCa intervals lack it, so that over few levels they are too narrow (84 % for
    95 % over five subjects, FACTS 9.2). `se` is that of t (corrected for n) except for studentised
    intervals, whose own it is.
    """
    intervals.refuse(options, tuple(levels), "the statistic")
    found = t_estimate(function, statistics, levels, options, rounding)
    if options.interval == "t" or found.dof < 1:
        return found
    shape = found.value.shape
    value = np.atleast_1d(found.value)

    def rounded(values: np.ndarray) -> np.ndarray:
        values = values.reshape(len(values), *value.shape)
        values = np.where(np.abs(values) <= rounding, 0.0, values)
        return np.where(np.abs(values - value) <= rounding, value, values)

    def moments(jackknife: Jackknife | None) -> tuple[np.ndarray, np.ndarray]:
        if jackknife is None:
            return np.full((1, *value.shape), np.nan), np.full((1, *value.shape), np.nan)
        se, acceleration = jackknife.moments(lambda v: np.asarray(function(v), dtype=float))
        still = se <= rounding
        return (
            np.where(still, 0.0, se).reshape(len(se), *value.shape),
            np.where(still, 0.0, acceleration).reshape(len(se), *value.shape),
        )

    draws = rounded(np.asarray(function(statistics.draws[frozenset(levels)]), dtype=float))
    ends = intervals.bounds(
        options, value, draws, moments, statistics.jackknife, statistics.redrawn
    )
    p = np.minimum(2 * np.minimum(ends.greater, ends.less), 1.0)
    se = ends.se.reshape(shape) if options.interval == "studentised" else found.se
    low, high, p, greater, less = (
        x.reshape(shape) for x in (ends.low, ends.high, p, ends.greater, ends.less)
    )
    return Estimate(found.value, se, low, high, p, greater, less, found.dof)


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
    greater, less = (np.where(sign * value > 0, p / 2, 1 - p / 2) for sign in (1, -1))
    return Estimate(value, se, low, high, p, greater, less, float(dof))
