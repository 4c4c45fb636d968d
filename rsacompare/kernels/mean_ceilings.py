"""Mean noise ceilings of targets under draws, from the variance across repetitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from rsacompare.kernels.means import Means, divide
from rsacompare.kernels.pairs import checked_weights

_TARGETS = 64  # worked on at a time; a constant


def mean_ceilings(
    values: Sequence[np.ndarray],
    noise: Sequence[np.ndarray],
    scored: Sequence[np.ndarray],
    weights: np.ndarray | None = None,
    units: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> Means:
    """Mean over targets of sqrt(s2 / (s2 + sigma2)) of many cells, under multiplicities.

    Parameters
    ----------
    values : sequence of (stimulus, target)
        Means over repetitions, one of each cell; without `units` cells may differ in targets.
    noise : sequence of (stimulus, target)
        Variance of these means: that across repetitions over their number.
    scored : sequence of (target,) bool
        Other targets have no ceiling.
    weights : (draw, stimulus), optional
        A stimulus of weight k is k rows, degrees of freedom included.
    units : (draw, target), optional
    fold : (stimulus,) int, optional
        Variance is that within folds.

    Returns
    -------
    Means
        One part. NaN where no target has a ceiling, and where no fold holds two distinct stimuli.

    Notes
    -----
    s2 is the variance over stimuli less sigma2, the mean noise variance (FACTS 6.2); see
    `rsacompare.metrics.targets.TargetEvidence.target_ceiling`.
    """
    n, n_targets = np.shape(values[0])
    ones = np.ones((1, n))
    w = ones if weights is None else np.concatenate([checked_weights(weights, n), ones])
    u = None if units is None else checked_weights(units, n_targets, "target")
    groups = np.zeros(n, dtype=np.intp) if fold is None else np.unique(fold, return_inverse=True)[1]
    order = np.argsort(groups, kind="stable")
    start = np.searchsorted(groups[order], np.arange(groups.max(initial=0) + 2))
    w = np.ascontiguousarray(w[:, order].T)
    both = weights is not None and u is not None
    top = np.zeros((2 if both else 1, len(values), w.shape[1]))
    count = np.zeros_like(top)
    top_units = np.zeros((0 if u is None else len(u), len(values)))
    count_units = np.zeros_like(top_units)
    drawn = np.zeros((0, w.shape[1]))
    if both and u is not None:
        drawn = np.concatenate([u.T, np.zeros((n_targets, 1))], axis=1)
    for c, (v, s2, live) in enumerate(zip(values, noise, scored, strict=True)):
        if np.shape(v) != np.shape(s2) or np.shape(v) != (n, len(live)):
            raise ValueError(f"values {np.shape(v)}, noise {np.shape(s2)}, scored {np.shape(live)}")
        if u is not None and len(live) != n_targets:
            raise ValueError(f"units of {n_targets} targets but a cell of {len(live)}")
        alone = np.empty(len(live))
        x, y = (np.ascontiguousarray(np.asarray(a)[order], dtype=np.float64) for a in (v, s2))
        _add_ceilings(x, y, np.asarray(live), w, start, drawn, top[:, c], count[:, c], alone)
        if u is not None:
            known = np.isfinite(alone)
            top_units[:, c] = u @ np.where(known, alone, 0.0)
            count_units[:, c] = u @ known.astype(np.float64)
    means = divide(top, count).transpose(0, 2, 1)[:, None]
    return Means(
        means[0, :, -1:],
        None if weights is None else means[0, :, :-1],
        None if u is None else divide(top_units, count_units)[None],
        means[1, :, :-1] if both else None,
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _add_ceilings(
    values: np.ndarray,
    noise: np.ndarray,
    scored: np.ndarray,
    w: np.ndarray,
    start: np.ndarray,
    units: np.ndarray,
    top: np.ndarray,
    count: np.ndarray,
    alone: np.ndarray,
) -> None:
    """Add up ceilings (all targets or drawn ones, draw); those under the last draw: `alone`."""
    n, n_targets = values.shape
    n_draws = w.shape[1]
    n_groups = len(start) - 1
    share, total = np.zeros((n_groups, n_draws)), np.zeros(n_draws)
    freedom, possible = np.zeros(n_draws), np.zeros(n_draws)
    for d in range(n_draws):
        distinct, used = 0, 0
        for g in range(n_groups):
            weight = 0.0
            for s in range(start[g], start[g + 1]):
                weight += w[s, d]
                distinct += w[s, d] > 0
            total[d] += weight
            if weight > 0:
                used += 1
                share[g, d] = 1 / weight
        freedom[d] = total[d] - used
        possible[d] = 1.0 if distinct > used else 0.0
    variance, row = np.empty(n_draws), np.empty(n_draws)
    for first in range(0, n_targets, _TARGETS):
        size = min(_TARGETS, n_targets - first)
        a, q = np.empty((n, size)), np.empty((n, 2 * size))
        for g in range(n_groups):
            mean = np.zeros(size)
            for s in range(start[g], start[g + 1]):
                for t in range(size):
                    mean[t] += values[s, first + t] / (start[g + 1] - start[g])
            for s in range(start[g], start[g + 1]):
                for t in range(size):
                    a[s, t] = values[s, first + t] - mean[t]
                    q[s, t] = a[s, t] * a[s, t]
                    q[s, size + t] = noise[s, first + t]
        seconds = np.dot(q.T, w)
        sums = np.empty((n_groups, size, n_draws))
        for g in range(n_groups):
            sums[g] = np.dot(a[start[g] : start[g + 1]].T, w[start[g] : start[g + 1]])
        for t in range(size):
            alone[first + t] = np.nan
            if not scored[first + t]:
                continue
            variance[:] = seconds[t]
            for g in range(n_groups):
                _less(sums[g, t], share[g], variance)
            bad = _ceilings(variance, seconds[size + t], freedom, total, row)
            drawn = len(units) > 0
            for d in range(n_draws):
                known = possible[d]
                if bad and np.isnan(row[d]):
                    known, row[d] = 0.0, 0.0
                top[0, d] += known * row[d]
                count[0, d] += known
                if drawn:
                    top[1, d] += known * row[d] * units[first + t, d]
                    count[1, d] += known * units[first + t, d]
            if possible[n_draws - 1] > 0 and not np.isnan(row[n_draws - 1]):
                alone[first + t] = row[n_draws - 1]


@njit(nogil=True, cache=True, error_model="numpy")
def _less(sums: np.ndarray, share: np.ndarray, variance: np.ndarray) -> None:
    for d in range(len(variance)):
        variance[d] -= sums[d] * sums[d] * share[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _ceilings(
    square: np.ndarray, noise: np.ndarray, freedom: np.ndarray, total: np.ndarray, out: np.ndarray
) -> int:
    """Ceilings; NaN, and how often, where nothing varies."""
    bad = 0
    for d in range(len(out)):
        sigma2 = noise[d] / total[d]
        signal = square[d] / freedom[d] - sigma2
        signal = 0.0 if signal < 0.0 else signal
        out[d] = np.sqrt(signal / (signal + sigma2))
        bad += out[d] != out[d]
    return bad
