"""Which share of what can be explained each score is, with the ceiling's uncertainty in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from rsacompare.inference.bootstrap import Sources, corrected_variance
from rsacompare.inference.estimate import estimate
from rsacompare.inference.inferred import Beside, Inferred
from rsacompare.inference.statistics import Statistics, Values, levels_of

STEPS = 100  # doublings and halvings: to the last bit


def beside(inferred: Inferred) -> Beside:
    """Fills `fraction` and `fraction_ci`.

    The fraction of a cell is (score − chance) / (lower ceiling − chance), of group means: a ratio
    of means over subjects and targets, not a mean of ratios. NaN where there is no ceiling, where
    the interval of (ceiling − chance) touches 0 (as for equivalence), and for metrics whose
    score is divided by its ceiling already.

    Notes
    -----
    The interval holds every R for which 0 is within the t interval of score − R · ceiling, both
    from the same draws with the corrected variance: Fieller's (1954), so that the uncertainty of
    the ceiling and its covariance with the score are in it. With the other methods it is that
    method's interval of the ratio itself.
    """
    family, statistics, options = inferred.family, inferred.statistics, inferred.options
    shape = (len(family.rois), len(family.layers))
    value, bounds = np.full(shape, np.nan), np.full((*shape, 2), np.nan)
    chance = inferred.meaning.get("chance", 0.0)
    if "/ ceiling" in str(inferred.meaning.get("unit", "")) or chance is None:
        return Beside()
    for r, roi in enumerate(family.rois):
        levels = levels_of(family, roi, options)
        top, bottom = (partial(_above, r, float(chance), family.better, n) for n in (0, 1))
        roof = estimate(bottom, statistics, levels, options)
        usable = roof.low > 0
        if not usable.any():
            continue
        if options.interval == "t":
            low, high = fieller(top, bottom, statistics, levels, options.confidence)
        else:
            found = estimate(partial(_ratio, top, bottom), statistics, levels, options)
            low, high = found.low, found.high
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = top(statistics.observed) / roof.value
        value[r] = np.where(usable, ratio, np.nan)
        bounds[r] = np.where(usable[:, None], np.stack([low, high], axis=-1), np.nan)
    return Beside({"fraction": value, "fraction_ci": bounds})


def _above(r: int, chance: float, better: int, which: int, values: Values) -> np.ndarray:
    """Score (0) or ceiling (1) above chance, in the metric's direction: (..., layer)."""
    held = values.ceiling if which else values.mean
    return better * (held[..., r, :] - chance)


def _ratio(
    top: Callable[[Values], np.ndarray], bottom: Callable[[Values], np.ndarray], values: Values
) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return top(values) / bottom(values)


def fieller(
    top: Callable[[Values], np.ndarray],
    bottom: Callable[[Values], np.ndarray],
    statistics: Statistics,
    levels: dict[str, int],
    confidence: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the ratio of two statistics: every R with |top − R · bottom| ≤ t · SE of it.

    Parameters
    ----------
    top, bottom : Values -> (..., item)
    statistics : Statistics
    levels : {source: n}
    confidence : float

    Returns
    -------
    low, high : (item,)
        NaN where the interval of `bottom` holds 0, since that of the ratio has no end there.

    Notes
    -----
    The variance of top − R · bottom is a quadratic in R for each subset of the sources;
    `corrected_variance` combines these with clipping, so that the ends are found by bisection,
    from the ratio outwards. Without clipping it is Fieller's formula.
    """
    s, c = (np.asarray(f(statistics.observed), dtype=float) for f in (top, bottom))
    nothing = np.full(s.shape, np.nan)
    draws = {k: v for k, v in statistics.draws.items() if k <= levels.keys()}
    if not draws or min(levels.values()) < 2:
        return nothing, nothing
    moments = {k: _moments(top(v), bottom(v)) for k, v in draws.items()}
    t = stats.t.ppf(0.5 + confidence / 2, min(levels.values()) - 1)

    def inside(ratio: np.ndarray) -> np.ndarray:
        variances: dict[Sources, np.ndarray] = {
            k: np.maximum(a - 2 * ratio * b + ratio**2 * d, 0.0) for k, (a, b, d) in moments.items()
        }
        with np.errstate(invalid="ignore"):
            squared = t**2 * np.maximum(corrected_variance(variances, levels), 0.0)
            return (s - ratio * c) ** 2 <= squared

    spread = np.maximum(corrected_variance({k: m[2] for k, m in moments.items()}, levels), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = s / c
        known = np.isfinite(middle) & (c**2 > t**2 * spread)
    middle = np.where(known, middle, 0.0)
    ends = []
    for sign in (-1.0, 1.0):
        step = np.maximum(np.abs(middle), 1.0) * 1e-3
        for _ in range(STEPS):
            out = ~inside(middle + sign * step) | ~known
            if out.all():
                break
            step = np.where(out, step, 2 * step)
        near, far = np.zeros_like(step), step
        for _ in range(STEPS):
            half = (near + far) / 2
            within = inside(middle + sign * half)
            near, far = np.where(within, half, near), np.where(within, far, half)
        ends.append(np.where(known, middle + sign * near, np.nan))
    return ends[0], ends[1]


def _moments(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variance of a, covariance, variance of b over draws (ddof 0), as `bootstrap.spread`."""
    both = np.isfinite(a) & np.isfinite(b)
    count = both.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (np.where(both, v - np.where(both, v, 0.0).sum(axis=0) / count, 0.0) for v in (a, b))
        found = [(p * q).sum(axis=0) / count for p, q in ((x, x), (x, y), (y, y))]
    enough = count >= 0.9 * len(a)
    first, cross, second = (np.where(enough, v, np.nan) for v in found)
    return first, cross, second
