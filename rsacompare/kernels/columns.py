"""Correlations of columns with columns under multiplicities of the rows."""

from __future__ import annotations

import numpy as np
from numba import njit

from rsacompare.kernels.pairs import blocks, checked_weights

# a variance below this share of the mean square about the column's own mean is rounding
ROUNDING = 1e-13
CONSTANT = 1e-13  # a centred column below this share of its largest value is rounding
_COLUMNS = 1000  # targets worked on at a time; a constant


def correlate_columns(
    observed: np.ndarray,
    predicted: np.ndarray,
    weights: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> np.ndarray:
    """Weighted Pearson correlation of each column of two matrices.

    Parameters
    ----------
    observed, predicted : (stimulus, target)
    weights : (..., stimulus), optional
        Multiplicities of the stimuli; ones when absent.
    fold : (stimulus,) int, optional
        Values are centred within folds by the same weights, then pooled.

    Returns
    -------
    (..., target)
        NaN for a target without variance on either side.

    Raises
    ------
    ValueError
        Shapes that do not fit.

    Notes
    -----
    All draws at once: the five weighted sums are one matrix product of the multiplicities with
    the columns, their squares and their cross-products (columns centred first, which changes
    nothing but the rounding).
    """
    x, y, groups = _checked_columns(observed, predicted, fold)
    lead = () if weights is None else np.shape(weights)[:-1]
    w = checked_weights(None if weights is None else np.reshape(weights, (-1, len(x))), len(x))
    out = np.empty((len(w), x.shape[1]))
    scale_x, scale_y = np.abs(x).max(axis=0), np.abs(y).max(axis=0)
    x, y = _centred(x, groups), _centred(y, groups)
    for start in range(0, x.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        a, b = x[:, part], y[:, part]
        # a column that never varies keeps nothing but the rounding of its mean
        alive = _varies(a, scale_x[part]) & _varies(b, scale_y[part])
        seconds = np.concatenate([a * a, b * b, a * b], axis=1)
        firsts = [(g, np.concatenate([a[g], b[g]], axis=1)) for g in groups]
        for block in blocks(len(w), 10 * a.shape[1]):
            sums = w[block] @ seconds
            first_sums = np.stack([w[block][:, g] @ first for g, first in firsts])
            total = np.stack([w[block][:, g].sum(axis=1) for g in groups])
            _finish(sums, first_sums, total, alive, out[block, part])
    return out.reshape(*lead, x.shape[1])


def null_mean_correlation(
    observed: np.ndarray,
    predicted: np.ndarray,
    permutations: np.ndarray,
    fold: np.ndarray | None = None,
    *,
    fisher: bool = False,
    factor: np.ndarray | None = None,
) -> np.ndarray:
    """Mean correlation over targets with the predicted stimuli re-indexed.

    Parameters
    ----------
    observed, predicted : (stimulus, target)
    permutations : (perm, stimulus) int
        Row p pairs stimulus s of `observed` with stimulus ``permutations[p, s]`` of `predicted`.
    fold : (stimulus,) int, optional
        Values are centred within folds; permutations must stay inside them.
    fisher : bool
        Mean of atanh(r) in place of r, with |r| at most 1 - 1e-12; takes no `factor`.
    factor : (target,), optional
        What the correlation of each target is multiplied by before the mean; a target whose
        factor is NaN is left out.

    Returns
    -------
    (perm,)
        Mean over the targets that vary on both sides; NaN where none does.

    Raises
    ------
    ValueError
        Shapes that do not fit; a permutation that leaves its fold.

    Notes
    -----
    With columns of unit length the mean of r over targets is a sum of entries of one
    stimulus x stimulus matrix, whatever the number of targets.
    """
    permutations = checked_permutations(permutations, len(observed), fold)
    if fisher and factor is not None:
        raise ValueError("either fisher or factor, not both")
    if not fisher:
        return permuted_sums(
            mean_cross(observed, predicted, fold, factor)[..., None], permutations
        )[:, 0]
    x, y = _unit_columns(observed, predicted, fold)
    out = np.full(len(permutations), np.nan)
    if x.shape[1]:
        _mean_fisher(x, y, permutations, out)
    return out


def mean_cross(
    observed: np.ndarray,
    predicted: np.ndarray,
    fold: np.ndarray | None = None,
    factor: np.ndarray | None = None,
) -> np.ndarray:
    """What each pair of an observed and a predicted stimulus adds to the mean correlation.

    Parameters
    ----------
    observed, predicted : (stimulus, target)
    fold : (stimulus,) int, optional
        Values are centred within folds.
    factor : (target,), optional
        As in :func:`null_mean_correlation`.

    Returns
    -------
    (stimulus, stimulus)
        Its trace is the mean correlation; NaN where no target varies on both sides.
    """
    x, y = _unit_columns(observed, predicted, fold, factor)
    if not x.shape[1]:
        return np.full((len(x), len(x)), np.nan)
    return (x @ y.T) / x.shape[1]


def checked_permutations(
    permutations: np.ndarray, n: int, fold: np.ndarray | None = None
) -> np.ndarray:
    """Orders of `n` stimuli as a (perm, stimulus) matrix of intp, inside their folds."""
    permutations = np.asarray(permutations).astype(np.intp)
    if permutations.ndim != 2 or permutations.shape[1] != n:
        raise ValueError(f"permutations must be (perm, {n}), got {permutations.shape}")
    if fold is not None and (np.asarray(fold)[permutations] != np.asarray(fold)).any():
        raise ValueError("permutations must keep every stimulus inside its fold")
    return permutations


def permuted_sums(cross: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Sums over stimuli s of ``cross[s, permutations[p, s]]``.

    Parameters
    ----------
    cross : (stimulus, stimulus, cell)
    permutations : (perm, stimulus) int

    Returns
    -------
    (perm, cell)

    Examples
    --------
    >>> permuted_sums(np.array([[1.0, 2], [4, 8]])[..., None], np.array([[0, 1], [1, 0]])).tolist()
    [[9.0], [6.0]]
    """
    out = np.zeros((len(permutations), cross.shape[2]))
    _permuted_sums(np.ascontiguousarray(cross), permutations, out)
    return out


def _unit_columns(
    observed: np.ndarray,
    predicted: np.ndarray,
    fold: np.ndarray | None,
    factor: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Centred columns of length 1 of the targets that vary on both sides; `observed` by factor."""
    x, y, groups = _checked_columns(observed, predicted, fold)
    scale_x, scale_y = np.abs(x).max(axis=0), np.abs(y).max(axis=0)
    x, y = _centred(x, groups), _centred(y, groups)
    alive = _varies(x, scale_x) & _varies(y, scale_y)
    if factor is not None:
        alive &= np.isfinite(factor)
    x, y = x[:, alive], y[:, alive]
    x, y = x / np.linalg.norm(x, axis=0), y / np.linalg.norm(y, axis=0)
    return x if factor is None else x * factor[alive], y


def segment_means(
    r: np.ndarray, starts: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Mean of what is not NaN in each run of columns.

    Parameters
    ----------
    r : (1 or draw, target)
    starts : (run,) int
        First column of each run.
    weights : (draw, target), optional
        Multiplicities of the targets.

    Returns
    -------
    (draw, run)
        NaN where a run has nothing left.

    Examples
    --------
    >>> segment_means(np.array([[1.0, 3.0, np.nan, 5.0]]), np.array([0, 2])).tolist()
    [[2.0, 5.0]]
    """
    given = weights is not None
    w = np.ascontiguousarray(weights, dtype=np.float64) if given else np.ones((1, 1))
    out = np.empty((max(len(r), len(w)), len(starts)))
    ends = np.append(starts[1:], r.shape[1])
    _segment_means(np.ascontiguousarray(r), w, given, np.asarray(starts), ends, out)
    return out


def _checked_columns(
    x: np.ndarray, y: np.ndarray, fold: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, list]:
    """Both matrices as float64, and the rows of each fold."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"observed {x.shape} and predicted {y.shape} must be (stimulus, target)")
    if fold is None:
        return x, y, [slice(None)]
    fold = np.asarray(fold)
    if fold.shape != (len(x),):
        raise ValueError(f"{fold.shape} fold labels for {len(x)} stimuli")
    return x, y, [np.flatnonzero(fold == label) for label in np.unique(fold)]


def _centred(x: np.ndarray, groups: list) -> np.ndarray:
    out = np.empty_like(x)
    for group in groups:
        out[group] = x[group] - x[group].mean(axis=0)
    return out


def _varies(centred: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Whether more than the rounding of the mean is left of a column of that size."""
    return np.abs(centred).max(axis=0) > CONSTANT * scale


@njit(nogil=True, cache=True)
def _finish(
    sums: np.ndarray,
    firsts: np.ndarray,
    total: np.ndarray,
    alive: np.ndarray,
    out: np.ndarray,
) -> None:
    """Correlations from weighted sums: squares and products (draw, 3 target), firsts per fold."""
    n = out.shape[1]
    for d in range(len(out)):
        for t in range(n):
            xx, yy, xy = sums[d, t], sums[d, n + t], sums[d, 2 * n + t]
            size_x, size_y = xx, yy
            for g in range(len(firsts)):
                if total[g, d] > 0:
                    x, y = firsts[g, d, t], firsts[g, d, n + t]
                    xx -= x * x / total[g, d]
                    yy -= y * y / total[g, d]
                    xy -= x * y / total[g, d]
            if alive[t] and xx > ROUNDING * size_x and yy > ROUNDING * size_y:
                out[d, t] = min(1.0, max(-1.0, xy / np.sqrt(xx * yy)))
            else:
                out[d, t] = np.nan


@njit(nogil=True, cache=True)
def _segment_means(
    r: np.ndarray,
    weights: np.ndarray,
    given: bool,
    starts: np.ndarray,
    ends: np.ndarray,
    out: np.ndarray,
) -> None:
    one = len(r) == 1
    for d in range(len(out)):
        row = 0 if one else d
        for s in range(len(starts)):
            total, count = 0.0, 0.0
            for t in range(starts[s], ends[s]):
                value = r[row, t]
                if np.isfinite(value):
                    w = weights[d, t] if given else 1.0
                    total += w * value
                    count += w
            out[d, s] = total / count if count > 0 else np.nan


@njit(nogil=True, cache=True)
def _permuted_sums(cross: np.ndarray, orders: np.ndarray, out: np.ndarray) -> None:
    for p in range(len(orders)):
        for s in range(len(cross)):
            row = cross[s, orders[p, s]]
            for c in range(len(row)):
                out[p, c] += row[c]


@njit(nogil=True, cache=True)
def _mean_fisher(x: np.ndarray, y: np.ndarray, orders: np.ndarray, out: np.ndarray) -> None:
    """Mean over columns of unit length of atanh(r), for each order of the rows of `y`."""
    r = np.empty(x.shape[1])
    for p in range(len(orders)):
        r[:] = 0.0
        for s in range(len(x)):
            row = orders[p, s]
            for t in range(x.shape[1]):
                r[t] += x[s, t] * y[row, t]
        total = 0.0
        for t in range(x.shape[1]):
            total += np.arctanh(min(1 - 1e-12, max(-(1 - 1e-12), r[t])))
        out[p] = total / x.shape[1]
