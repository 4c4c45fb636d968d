"""Mean correlations of cells of targets under draws and halves, in one pass over small blocks.

A bootstrap of decoding scores every cell (layer, region, subject) under every draw, for all
stimuli and for both halves of several splits, with the targets weighted once and once by their
own multiplicities. What would be five matrix products and some passes over large arrays for each
of these is done here by blocks that fit the cache:

- cells of one layer (decoding) or one region (encoding) have the same `observed`: its sums, and
  the share of the correlation that belongs to it, are made once for all of them;
- weighted sums are linear in the multiplicities: those of a second half are the sums over all
  stimuli less those of the first half;
- the correlation, its mean over targets and the mean over drawn targets are taken at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from rsacompare.kernels.columns import CONSTANT, ROUNDING
from rsacompare.kernels.pairs import checked_weights

_TARGETS, _DRAWS = 32, 128  # worked on at a time: 1 MiB of cache; constants
_HELD = 4_000_000  # numbers of predictions held at a time; a constant
# below this share of the variance over all stimuli a difference of sums has lost digits: that
# correlation is computed from its own sums
_LOST = 1e-4
_NONE = np.empty((0, 0, 0))


class Means(NamedTuple):
    """Means of correlations: (part, draw, cell), None where those draws were not asked for.

    Parts are all stimuli, then the first and the second half of each split.
    """

    nothing: np.ndarray
    stimuli: np.ndarray | None
    units: np.ndarray | None
    both: np.ndarray | None


def mean_correlations(
    observed: np.ndarray,
    predicted: Sequence[np.ndarray],
    weights: np.ndarray | None = None,
    units: np.ndarray | None = None,
    halves: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> Means:
    """Mean over targets of the weighted correlation of the same observed with many predicted.

    Parameters
    ----------
    observed : (stimulus, target)
    predicted : sequence of (stimulus, target)
        One of each cell.
    weights : (draw, stimulus), optional
        Multiplicities of the stimuli.
    units : (draw, target), optional
        Multiplicities of the targets.
    halves : (split, stimulus) bool, optional
        First halves of splits of the stimuli.
    fold : (stimulus,) int, optional
        Values are centred within folds by the same weights.

    Returns
    -------
    Means
        With nothing drawn (one draw), stimuli, units, and both. Targets that have no correlation
        are left out of the mean; NaN where none is left.

    Raises
    ------
    ValueError
        Shapes that do not fit.

    Notes
    -----
    Agrees with the mean of :func:`rsacompare.kernels.columns.correlate_columns` under the same
    weights to about 1e-12: see `_LOST`.
    """
    cells = _Cells(observed, predicted, halves, fold)
    n, n_targets = cells.observed.shape
    ones = np.ones((1, n))
    # all stimuli are one more draw, the last
    w_all = ones if weights is None else np.concatenate([checked_weights(weights, n), ones])
    u_all = None if units is None else checked_weights(units, n_targets, "target")
    if weights is not None and u_all is not None and len(u_all) != len(weights):
        raise ValueError(f"{len(weights)} draws of stimuli but {len(u_all)} of targets")
    kinds = 1 if weights is None or u_all is None else 2
    top = np.zeros((kinds, len(cells.offset), len(cells.predicted), len(w_all)))
    count = np.zeros_like(top)
    top_units = np.zeros((top.shape[1], 0 if u_all is None else len(u_all), top.shape[2]))
    count_units = np.zeros_like(top_units)
    for columns, x, alive_x, y, alive_y in cells.batches():
        r = np.zeros((*top.shape[1:3], x.shape[1]))
        for start in range(0, len(w_all), _DRAWS):
            block = slice(start, start + _DRAWS)
            w, share = cells.weigh(w_all[block])
            drawn = np.zeros((0, w.shape[1]))
            if kinds == 2 and u_all is not None:
                drawn = np.zeros((x.shape[1], w.shape[1]))
                own = u_all[block, columns]
                drawn[:, : len(own)] = own.T
            keep = r if u_all is not None and start + _DRAWS >= len(w_all) else _NONE
            found = np.zeros((2, *top[..., block].shape))
            _accumulate(
                x, y, alive_x, alive_y, cells.place, cells.offset, w, share, drawn, *found, keep
            )
            top[..., block] += found[0]
            count[..., block] += found[1]
        if u_all is not None:  # the correlations are the same in all draws of the targets alone
            u, live = np.ascontiguousarray(u_all[:, columns]), np.isfinite(r)
            top_units += np.matmul(u, np.where(live, r, 0.0).transpose(0, 2, 1))
            if live.all():
                count_units += u.sum(axis=1)[:, None]
            else:
                count_units += np.matmul(u, live.astype(np.float64).transpose(0, 2, 1))
    means = divide(top, count).transpose(0, 1, 3, 2)
    return Means(
        means[0, :, -1:],
        None if weights is None else means[0, :, :-1],
        None if u_all is None else divide(top_units, count_units),
        means[1, :, :-1] if kinds == 2 else None,
    )


class _Cells:
    """Cells of one `observed`, centred batch by batch, and the stimuli of each part."""

    def __init__(
        self,
        observed: np.ndarray,
        predicted: Sequence[np.ndarray],
        halves: np.ndarray | None,
        fold: np.ndarray | None,
    ):
        self.observed, self.predicted = np.asarray(observed), [np.asarray(p) for p in predicted]
        n = len(self.observed)
        for p in self.predicted:
            if p.ndim != 2 or p.shape != self.observed.shape:
                raise ValueError(
                    f"observed {self.observed.shape} and predicted {p.shape} must be "
                    "(stimulus, target)"
                )
        halves = np.zeros((0, n), bool) if halves is None else np.asarray(halves, dtype=bool)
        self.groups = np.zeros(n, dtype=np.intp)
        if fold is not None:
            self.groups = np.unique(fold, return_inverse=True)[1].astype(np.intp)
        self.place, self.offset = _members(_parts(halves, n), self.groups)

    def batches(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(columns, x (stimulus, target), which vary, y (cell, stimulus, target), which vary)."""
        n, n_targets = self.observed.shape
        step = _TARGETS * max(1, _HELD // max(1, n * len(self.predicted) * _TARGETS))
        for start in range(0, n_targets, step):
            columns = slice(start, start + step)
            x, alive_x = _centred(self.observed[None, :, columns], self.groups)
            y, alive_y = _centred(np.stack([p[:, columns] for p in self.predicted]), self.groups)
            yield columns, x[0], alive_x[0], y, alive_y

    def weigh(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the members (member, draw); one over those of each group, 0 for none."""
        w = np.ascontiguousarray(weights.T[self.place])
        total = np.empty((len(self.offset), self.offset.shape[1] - 1, w.shape[1]))
        for p, offset in enumerate(self.offset):
            for g in range(len(offset) - 1):
                total[p, g] = w[offset[g] : offset[g + 1]].sum(axis=0)
        return w, np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)


def divide(top: np.ndarray, count: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    return np.divide(top, count, out=np.full_like(top, np.nan), where=count > 0)


def _parts(halves: np.ndarray, n: int) -> np.ndarray:
    """All stimuli, then both halves of each split: (part, stimulus) bool."""
    both = np.stack([halves, ~halves], axis=1).reshape(-1, n)
    return np.concatenate([np.ones((1, n), dtype=bool), both])


def _members(parts: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stimuli of each part, by group, one part after the other; where each part's groups start."""
    n_groups = int(groups.max(initial=0)) + 1
    place: list[np.ndarray] = []
    offset = np.zeros((len(parts), n_groups + 1), dtype=np.intp)
    end = 0
    for p, part in enumerate(parts):
        for g in range(n_groups):
            place.append(np.flatnonzero(part & (groups == g)))
            offset[p, g] = end
            end += len(place[-1])
        offset[p, n_groups] = end
    return np.concatenate(place), offset


def _centred(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns centred within groups (cell, stimulus, target), and which of them vary.

    Columns that do not are set to 0.
    """
    values = np.array(values, dtype=np.float64)
    alive = np.empty((len(values), values.shape[2]), dtype=np.bool_)
    _centre(values, groups, int(groups.max(initial=0)) + 1, alive)
    return values, alive


@njit(nogil=True, cache=True, error_model="numpy")
def _centre(values: np.ndarray, groups: np.ndarray, n_groups: int, alive: np.ndarray) -> None:
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
def _accumulate(
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
    for first in range(0, x.shape[1], _TARGETS):
        size = min(_TARGETS, x.shape[1] - first)
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
                        if variance[t, d] < _LOST * whole[t, d]:
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
    """Weighted sums over a part of y by group (group, target, draw); of y² and xy below each
    other (2 target, draw)."""
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


@njit(nogil=True, cache=True, error_model="numpy")
def _correlations(
    var: np.ndarray, cov: np.ndarray, scale: np.ndarray, whole: np.ndarray, out: np.ndarray
) -> int:
    """Correlations; 0 where `observed` does not vary. NaN, and how often, where digits are lost."""
    bad = 0
    for d in range(len(var)):
        good = var[d] > _LOST * whole[d]
        r = cov[d] * scale[d] / np.sqrt(var[d] if good else 1.0)
        r = 1.0 if r > 1.0 else r
        r = -1.0 if r < -1.0 else r
        r = r if good else np.nan
        r = 0.0 if scale[d] == 0.0 else r
        bad += r != r
        out[d] = r
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
        good = var > _LOST * whole[d]
        r = (xy[d] - sums[d] * mean[d]) * scale[d] / np.sqrt(var if good else 1.0)
        r = 1.0 if r > 1.0 else r
        r = -1.0 if r < -1.0 else r
        r = r if good else np.nan
        r = 0.0 if scale[d] == 0.0 else r
        bad += r != r
        out[d] = r
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
