"""From a design to its standard error, and to the smallest difference that it would see.

The contrast of two networks is estimate ± t · SE (DESIGN section 10). Were the standard error
estimated with the test's degrees of freedom, the test statistic of a true difference δ would be
noncentral t, with noncentrality δ / SE; the power is its mass outside the critical values. Where
one source of chance with few levels (the subjects) is not all there is, the SE is known better than
its degrees of freedom say, and the power is a little higher than told here.

How the SE depends on the design follows from components of variance: in a crossed layout the part
of the variance that belongs to the sources in T falls with the product of their numbers of levels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import optimize, stats

from rsacompare.inference.bootstrap import Sources, subsets

NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)
QUANTILES = 0.5 * (NODES + 1)  # of the estimated variance


def power(difference: float, se: float, dof: float, alpha: float = 0.05) -> float:
    """Probability that a two-sided t test of level `alpha` sees a true difference.

    Parameters
    ----------
    difference : float
    se : float
        True standard error of its estimate.
    dof : float
        Of the test.
    alpha : float

    Returns
    -------
    float
        NaN without a standard error or degrees of freedom.

    Notes
    -----
    Integrated over the distribution of the estimated variance, which stays exact for one degree
    of freedom and critical values far out, where series for the noncentral t lose their digits.

    Examples
    --------
    >>> round(power(1.0, 0.5, dof=19), 3), round(power(0.0, 0.5, dof=4), 3)
    (0.476, 0.05)
    """
    if not (np.isfinite(difference) and se > 0 and dof >= 1 and 0 < alpha < 1):
        return np.nan
    shift = abs(difference) / se
    limit = stats.t.ppf(1 - alpha / 2, dof) * np.sqrt(stats.chi2.ppf(QUANTILES, dof) / dof)
    found = stats.norm.cdf(shift - limit) + stats.norm.cdf(-shift - limit)
    return float(0.5 * WEIGHTS @ found)


def smallest_difference(se: float, dof: float, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The true difference that is seen with probability `wanted`.

    Parameters
    ----------
    se, dof, alpha
        As in `power`.
    wanted : float
        Above `alpha` and below 1.

    Examples
    --------
    >>> round(smallest_difference(1.0, dof=4), 2), round(smallest_difference(1.0, dof=1e6), 2)
    (3.76, 2.8)
    """
    if not (np.isfinite(se) and dof >= 1):
        return np.nan
    if se <= 0:
        return 0.0
    high = 4.0
    while power(high, 1.0, dof, alpha) < wanted:
        high *= 2
    root = optimize.brentq(lambda d: power(d, 1.0, dof, alpha) - wanted, 0.0, high, xtol=1e-10)
    return float(root) * se


def components(
    variances: Mapping[Sources, np.ndarray], levels: Mapping[str, int]
) -> dict[Sources, np.ndarray]:
    """The share of a statistic's variance that belongs to each subset of the sources.

    Parameters
    ----------
    variances : {sources: (...)}
        Bootstrap variances (ddof 0) with the sources resampled together, for every non-empty
        subset.
    levels : {source: n}

    Returns
    -------
    {sources: (...)}
        Unbiased in a crossed random-effects layout, hence now and then negative; their sum is the
        variance of the statistic.

    Notes
    -----
    With V_U the variances, I_T = Σ_{U⊆T} (−1)^{|T|−|U|} V_U is what T adds. Resampling a level
    keeps 1 − 1/n of a source's variance, and what belongs to smaller subsets of T is counted in
    V_U once however many sources are drawn, but what belongs to larger ones once per source: a
    statistic of one interaction of two sources has V_1 = V_2 = V and V_12 = 3 V for large n. So
    the sums I_T / Π (1 − 1/n_t) hold each component of a superset of T once, and are undone from
    the largest subset down.
    """
    sources = frozenset().union(*variances)
    every = subsets(sources)
    held: dict[Sources, np.ndarray] = {}
    for subset in reversed(every):  # large ones first
        own = sum((-1) ** (len(subset) - len(part)) * variances[part] for part in subsets(subset))
        for source in subset:
            own = own / (1 - 1 / levels[source])
        held[subset] = np.asarray(own) - sum(held[u] for u in every if u > subset)
    return held


def standard_error(
    parts: Mapping[Sources, float], levels: Mapping[str, int], wanted: Mapping[str, float]
) -> float:
    """The standard error with other numbers of levels.

    Parameters
    ----------
    parts : {sources: variance}
        `components`, with the numbers of levels in `levels`.
    levels, wanted : {source: n}
        Sources absent from `wanted` keep their levels.

    Examples
    --------
    >>> parts = {frozenset({"subjects"}): 1.0, frozenset({"stimuli"}): 3.0}
    >>> standard_error(parts, {"subjects": 5, "stimuli": 40}, {"stimuli": 120})
    1.4142135623730951
    """
    total = 0.0
    for sources, variance in parts.items():
        factor = np.prod([levels[s] / wanted.get(s, levels[s]) for s in sources])
        total += float(variance) * float(factor)
    return float(np.sqrt(max(total, 0.0)))
