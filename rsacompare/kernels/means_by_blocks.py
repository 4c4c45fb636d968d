"""The compiled passes of `means`: sums and correlations in blocks that fit the cache."""

from __future__ import annotations

import numpy as np
from numba import njit

from rsacompare.kernels.columns import CONSTANT, ROUNDING

TARGETS = 32  # worked on at a time: with 128 draws 1 MiB of cache; a constant
# below this share of the variance over all stimuli a difference of sums has lost digits: that
# correlation is computed about its own means
LOST = 1e-4


@njit(nogil=True, cache=True, error_model="numpy")
def centre(values: np.ndarray, groups: np.ndarray, n_groups: int, alive: np.ndarray) -> None:
    """Centre columns (cell, stimulus, target) within groups, and tell which vary; 0 the others."""
    n, size = values.shape[1:]
    counts = np.zeros(n_groups)
    for s in range(n):
        counts[groups[s]] += 1
    for c in range(len(values)):
        mean, largest, left = np.zeros((n_groups, size)), np.zeros(size), np.zeros(size)
        for s in range(n):
            for t in range(size):
                mean[groups[s], t] += values[c, s, t]
                largest[t] = max(largest[t], abs(values[c, s, t]))
        for g in range(n_groups):
            for t in range(size):
                mean[g, t] /= counts[g]
        for s in range(n):
            for t in range(size):
                values[c, s, t] -= mean[groups[s], t]
                left[t] = max(left[t], abs(values[c, s, t]))
        for t in range(size):
            finite = np.isfinite(mean[:, t]).all()
            alive[c, t] = finite and left[t] > CONSTANT * largest[t]
            if not alive[c, t]:
                values[c, :, t] = 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def accumulate(
    x: np.ndarray,
    y: np.ndarray,
    alive_x: np.ndarray,
    alive_y: np.ndarray,
    place: np.ndarray,
    offset: np.ndarray,
    w: np.ndarray,
    share: np.ndarray,
    units: np.ndarray,
    top: np.ndarray,
    count: np.ndarray,
    keep: np.ndarray,
) -> None:
    """Sums and counts of correlations (all targets or drawn ones, part, cell, draw).

    `w` is (member, draw), `share` (part, group, draw) one over its sums, `units` (target, draw).
    Correlations under the last draw go to `keep` (part, cell, target) where it has room.
    """
    n_parts, n_groups, n_draws = share.shape
    drawn = len(units) > 0
    counted = np.zeros((2, n_parts, n_draws))
    var, cov, row = np.empty(n_draws), np.empty(n_draws), np.empty(n_draws)
    for first in range(0, x.shape[1], TARGETS):
        size = min(TARGETS, x.shape[1] - first)
        scale = np.empty((n_parts, size, n_draws))
        means = np.empty((n_parts, n_groups, size, n_draws))
        whole = np.empty((size, n_draws))
        for p in range(n_parts):
            begin, end = offset[p, 0], offset[p, n_groups]
            a = np.empty((end - begin, size))
            for s in range(end - begin):
                for t in range(size):
                    a[s, t] = x[place[begin + s], first + t]
            square = _product(a * a, w[begin:end])
            if p == 0:
                whole[:] = square
            variance = square.copy()
            for g in range(n_groups):
                start, stop = offset[p, g], offset[p, g + 1]
                sums = _product(a[start - begin : stop - begin], w[start:stop])
                for t in range(size):
                    for d in range(n_draws):
                        mean = sums[t, d] * share[p, g, d]
                        means[p, g, t, d] = mean
                        variance[t, d] -= sums[t, d] * mean
            for t in range(size):
                for d in range(n_draws):
                    scale[p, t, d] = 0.0
                    if alive_x[first + t] and variance[t, d] > ROUNDING * square[t, d]:
                        counted[0, p, d] += 1.0
                        if drawn:
                            counted[1, p, d] += units[first + t, d]
                        scale[p, t, d] = 1 / np.sqrt(variance[t, d])
                        if variance[t, d] < LOST * whole[t, d]:
                            scale[p, t, d] = np.nan
        for c in range(len(y)):
            sums, seconds = _sums(x, y[c], first, size, place, offset, 0, w)
            yy = seconds[:size]
            for p in range(n_parts):
                if p == 0:
                    now, both = sums, seconds
                elif p % 2 == 1:
                    now, both = _sums(x, y[c], first, size, place, offset, p, w)
                else:
                    _subtract(sums.reshape(-1), now.reshape(-1))
                    _subtract(seconds.reshape(-1), both.reshape(-1))
                for t in range(size):
                    if n_groups == 1:
                        bad = _in_one(
                            both[t], both[size + t], now[0, t], means[p, 0, t], share[p, 0],
                            scale[p, t], yy[t], row,
                        )  # fmt: skip
                    else:
                        var[:], cov[:] = both[t], both[size + t]
                        for g in range(n_groups):
                            _less(now[g, t], means[p, g, t], share[p, g], var, cov)
                        bad = _correlations(var, cov, scale[p, t], yy[t], row)
                    if bad > 0:
                        for d in range(n_draws):
                            if np.isnan(row[d]):
                                row[d] = 0.0
                                if alive_y[c, first + t]:
                                    row[d] = _direct(
                                        x[:, first + t], y[c, :, first + t], place, offset[p],
                                        w[:, d],
                                    )  # fmt: skip
                                if not alive_y[c, first + t] or np.isnan(row[d]):
                                    row[d] = 0.0
                                    count[0, p, c, d] -= 1.0
                                    if drawn:
                                        count[1, p, c, d] -= units[first + t, d]
                                    if len(keep) > 0 and d == n_draws - 1:
                                        keep[p, c, first + t] = np.nan
                    if len(keep) > 0:
                        keep[p, c, first + t] += row[n_draws - 1]
                        if scale[p, t, n_draws - 1] == 0.0:
                            keep[p, c, first + t] = np.nan
                    if drawn:
                        _add_both(row, units[first + t], top[0, p, c], top[1, p, c])
                    else:
                        _add(row, top[0, p, c])
    for k in range(len(count)):
        for p in range(n_parts):
            for c in range(len(y)):
                _add(counted[k, p], count[k, p, c])


@njit(nogil=True, cache=True, error_model="numpy")
def _product(values: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(stimulus, column), (stimulus, draw) to (column, draw)."""
    if len(values) == 0:
        return np.zeros((values.shape[1], w.shape[1]))
    return np.dot(values.T, w)


@njit(nogil=True, cache=True, error_model="numpy")
def _sums(
    x: np.ndarray,
    y: np.ndarray,
    first: int,
    size: int,
    place: np.ndarray,
    offset: np.ndarray,
    p: int,
    w: np.ndarray,
) -> tuple:
    """Sums over a part: of y by group (group, target, draw), of y² above xy (2 target, draw)."""
    n_groups = offset.shape[1] - 1
    begin, end = offset[p, 0], offset[p, n_groups]
    a, q = np.empty((end - begin, size)), np.empty((end - begin, 2 * size))
    for s in range(end - begin):
        row = place[begin + s]
        for t in range(size):
            value = y[row, first + t]
            a[s, t] = value
            q[s, t] = value * value
            q[s, size + t] = value * x[row, first + t]
    sums = np.empty((n_groups, size, w.shape[1]))
    for g in range(n_groups):
        start, stop = offset[p, g], offset[p, g + 1]
        sums[g] = _product(a[start - begin : stop - begin], w[start:stop])
    return sums, _product(q, w[begin:end])


@njit(nogil=True, cache=True, error_model="numpy")
def _subtract(whole: np.ndarray, part: np.ndarray) -> None:
    """`part` becomes what the whole has beside it."""
    for d in range(len(part)):
        part[d] = whole[d] - part[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _less(
    sums: np.ndarray, mean: np.ndarray, total: np.ndarray, var: np.ndarray, cov: np.ndarray
) -> None:
    """Squares and products about the mean of a group."""
    for d in range(len(var)):
        var[d] -= sums[d] * sums[d] * total[d]
        cov[d] -= sums[d] * mean[d]


@njit(nogil=True, inline="always", error_model="numpy")
def _correlation(cov: float, var: float, whole: float, scale: float) -> float:
    """Within ±1; 0 where `observed` does not vary, NaN where digits are lost."""
    good = var > LOST * whole
    r = cov * scale / np.sqrt(var if good else 1.0)
    r = 1.0 if r > 1.0 else r
    r = -1.0 if r < -1.0 else r
    r = r if good else np.nan
    return 0.0 if scale == 0.0 else r


@njit(nogil=True, cache=True, error_model="numpy")
def _correlations(
    var: np.ndarray, cov: np.ndarray, scale: np.ndarray, whole: np.ndarray, out: np.ndarray
) -> int:
    """Correlations, and how many are NaN."""
    bad = 0
    for d in range(len(var)):
        out[d] = _correlation(cov[d], var[d], whole[d], scale[d])
        bad += out[d] != out[d]
    return bad


@njit(nogil=True, cache=True, error_model="numpy")
def _in_one(
    yy: np.ndarray,
    xy: np.ndarray,
    sums: np.ndarray,
    mean: np.ndarray,
    share: np.ndarray,
    scale: np.ndarray,
    whole: np.ndarray,
    out: np.ndarray,
) -> int:
    """`_less` and `_correlations` of a single group in one pass."""
    bad = 0
    for d in range(len(out)):
        var = yy[d] - sums[d] * sums[d] * share[d]
        out[d] = _correlation(xy[d] - sums[d] * mean[d], var, whole[d], scale[d])
        bad += out[d] != out[d]
    return bad


@njit(nogil=True, cache=True, error_model="numpy")
def _add(row: np.ndarray, fixed: np.ndarray) -> None:
    for d in range(len(row)):
        fixed[d] += row[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _add_both(row: np.ndarray, units: np.ndarray, fixed: np.ndarray, joint: np.ndarray) -> None:
    for d in range(len(row)):
        fixed[d] += row[d]
        joint[d] += units[d] * row[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _direct(
    x: np.ndarray, y: np.ndarray, place: np.ndarray, offset: np.ndarray, w: np.ndarray
) -> float:
    """One correlation about its own means; NaN where a side does not vary."""
    xx, yy, var_x, var_y, cov = 0.0, 0.0, 0.0, 0.0, 0.0
    for g in range(len(offset) - 1):
        total, mean_x, mean_y = 0.0, 0.0, 0.0
        for k in range(offset[g], offset[g + 1]):
            total += w[k]
            mean_x += w[k] * x[place[k]]
            mean_y += w[k] * y[place[k]]
        if total > 0:
            mean_x /= total
            mean_y /= total
        for k in range(offset[g], offset[g + 1]):
            a, b = x[place[k]], y[place[k]]
            xx += w[k] * a * a
            yy += w[k] * b * b
            var_x += w[k] * (a - mean_x) ** 2
            var_y += w[k] * (b - mean_y) ** 2
            cov += w[k] * (a - mean_x) * (b - mean_y)
    if not (var_x > ROUNDING * xx and var_y > ROUNDING * yy):
        return np.nan
    return min(1.0, max(-1.0, cov / np.sqrt(var_x * var_y)))
