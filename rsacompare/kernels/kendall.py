"""Kendall's tau-a and tau-b under weights, as if the copies stood in the vectors."""

from __future__ import annotations

import numpy as np
from numba import njit

from rsacompare.kernels.ranks import presort

_DRAWS = 64  # draws worked on side by side in `concordance`


@njit(nogil=True, cache=True)
def inversions(values: np.ndarray, weight: np.ndarray) -> float:
    """Weight of the pairs whose earlier value is the larger: sum of w_k * w_l (merge sort)."""
    n = len(values)
    v, w = values.copy(), weight.copy()
    v2, w2 = np.empty_like(v), np.empty_like(w)
    found, width = 0.0, 1
    while width < n:
        for start in range(0, n, 2 * width):
            middle, stop = min(start + width, n), min(start + 2 * width, n)
            a, b, above = start, middle, 0.0
            for q in range(start, middle):
                above += w[q]
            for q in range(start, stop):
                if b >= stop or (a < middle and v[a] <= v[b]):
                    v2[q], w2[q] = v[a], w[a]
                    above -= w[a]
                    a += 1
                else:
                    v2[q], w2[q] = v[b], w[b]
                    found += w[b] * above
                    b += 1
        v, v2 = v2, v
        w, w2 = w2, w
        width *= 2
    return found


@njit(nogil=True, cache=True)
def tie_square(order: np.ndarray, last: np.ndarray, weight: np.ndarray) -> float:
    """Sum of squared weights of the runs of ties."""
    run, square = 0.0, 0.0
    for q in range(len(order)):
        run += weight[order[q]]
        if last[q]:
            square += run * run
            run = 0.0
    return square


@njit(nogil=True, cache=True)
def tau(
    total: float, ties_x: float, ties_y: float, ties_both: float, discordant: float, tau_b: bool
) -> float:
    """Kendall's tau-a or tau-b from weights of ties (sums of squares) and of discordant pairs."""
    free_x, free_y = total * total - ties_x, total * total - ties_y
    tiny = 1e-12 * total * total
    if not (free_x > tiny and free_y > tiny) or (total <= 1 and not tau_b):
        return np.nan
    # concordant + discordant = all pairs less those tied in x, in y, counted once if in both
    balance = (total * total - ties_x - ties_y + ties_both) / 2 - 2 * discordant
    if tau_b:
        return balance / (np.sqrt(free_x / 2) * np.sqrt(free_y / 2))
    return balance / (total * (total - 1) / 2)


@njit(nogil=True, cache=True)
def bucket(dense: np.ndarray, first: np.ndarray, start: np.ndarray, out: np.ndarray) -> None:
    """Places sorted by the dense ranks, ties in the order of `first`."""
    start[:] = 0
    for k in range(len(dense)):
        start[dense[k] + 1] += 1
    for k in range(len(dense)):
        start[k + 1] += start[k]
    for q in range(len(first)):
        k = first[q]
        out[start[dense[k]]] = k
        start[dense[k]] += 1


@njit(nogil=True, cache=True)
def _merge_levels(
    along: np.ndarray, dense: np.ndarray, place: np.ndarray, left: np.ndarray
) -> None:
    """All merges of a merge sort of ``dense[along]``, from the largest value down.

    Level h merges runs of 2^h; `place` holds the merged order, `left` which run each came from.
    """
    n = len(along)
    source, width = along, 1
    for h in range(len(place)):
        for start in range(0, n, 2 * width):
            middle, stop = min(start + width, n), min(start + 2 * width, n)
            a, b = start, middle
            for q in range(start, stop):
                if b >= stop or (a < middle and dense[source[a]] > dense[source[b]]):
                    place[h, q], left[h, q] = source[a], True
                    a += 1
                else:  # on ties the right one first, so that it does not see the left one
                    place[h, q], left[h, q] = source[b], False
                    b += 1
        source = place[h]
        width *= 2


@njit(nogil=True, cache=True)
def _discordant(
    place: np.ndarray, left: np.ndarray, weight: np.ndarray, above: np.ndarray, out: np.ndarray
) -> None:
    """Weight of discordant pairs for all draws at once: the merges are the same in all."""
    n = place.shape[1]
    out[:] = 0.0
    width = 1
    for h in range(len(place)):
        for start in range(0, n, 2 * width):
            above[:] = 0.0
            for q in range(start, min(start + 2 * width, n)):
                k = place[h, q]
                if left[h, q]:
                    for d in range(_DRAWS):
                        above[d] += weight[k, d]
                else:
                    for d in range(_DRAWS):
                        out[d] += weight[k, d] * above[d]
        width *= 2


@njit(nogil=True, cache=True)
def _run_squares(order: np.ndarray, last: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """`tie_square` for all draws at once."""
    run = np.zeros_like(out)
    out[:] = 0.0
    for q in range(len(order)):
        k = order[q]
        for d in range(_DRAWS):
            run[d] += weight[k, d]
        if last[q]:
            for d in range(_DRAWS):
                out[d] += run[d] * run[d]
                run[d] = 0.0


@njit(nogil=True, cache=True)
def _concordance(
    order_x: np.ndarray,
    last_x: np.ndarray,
    dense_x: np.ndarray,
    order_y: np.ndarray,
    last_y: np.ndarray,
    dense_y: np.ndarray,
    weight: np.ndarray,
    tau_b: bool,
    out: np.ndarray,
) -> None:
    n_blocks, n, _ = weight.shape
    n_levels = 0
    while (1 << n_levels) < n:
        n_levels += 1
    place, left = np.empty((n_levels, n), np.int32), np.empty((n_levels, n), np.bool_)
    along, start, joint = np.empty(n, np.int32), np.empty(n + 1, np.intp), np.empty(n, np.bool_)
    above, discordant = np.empty_like(weight[0, 0]), np.empty_like(weight[0, 0])
    both, total = np.empty_like(weight[0, 0]), np.zeros_like(weight[:, 0])
    ties_x = np.empty((n_blocks, len(order_x), _DRAWS), weight.dtype)
    ties_y = np.empty((n_blocks, len(order_y), _DRAWS), weight.dtype)
    for k in range(n_blocks):
        for p in range(n):
            total[k] += weight[k, p]
        for i in range(len(order_x)):
            _run_squares(order_x[i], last_x[i], weight[k], ties_x[k, i])
        for j in range(len(order_y)):
            _run_squares(order_y[j], last_y[j], weight[k], ties_y[k, j])
    for i in range(len(order_x)):
        for j in range(len(order_y)):
            bucket(dense_x[i], order_y[j], start, along)
            _merge_levels(along, dense_y[j], place, left)
            for q in range(n - 1):
                k, m = along[q], along[q + 1]
                joint[q] = dense_x[i, k] != dense_x[i, m] or dense_y[j, k] != dense_y[j, m]
            joint[n - 1] = True
            for k in range(n_blocks):
                _discordant(place, left, weight[k], above, discordant)
                _run_squares(along, joint, weight[k], both)
                for d in range(_DRAWS):
                    out[k, i, j, d] = tau(
                        float(total[k, d]),
                        float(ties_x[k, i, d]),
                        float(ties_y[k, j, d]),
                        float(both[d]),
                        float(discordant[d]),
                        tau_b,
                    )


def concordance(
    x: np.ndarray, y: np.ndarray, pair_weights: np.ndarray, *, tau_b: bool
) -> np.ndarray:
    """Weighted Kendall correlations of all rows of `x` with all of `y`.

    One merge sort per (x, y); its merges are replayed with the weights of many draws side by side.

    Parameters
    ----------
    x, y : (row, value)
    pair_weights : (draw, value)
    tau_b : bool
        tau-b, else tau-a.

    Returns
    -------
    (draw, x, y)
        NaN where a side is constant.
    """
    n_draws = len(pair_weights)
    n_blocks = -(-n_draws // _DRAWS)
    # whole numbers whose sums of squares fit go as int32: twice as many side by side, still exact
    whole = (pair_weights == np.rint(pair_weights)).all()
    small = whole and pair_weights.sum(axis=1).max() ** 2 < 2**31
    side_by_side = np.zeros((n_blocks * _DRAWS, x.shape[1]), np.int32 if small else np.float64)
    side_by_side[:n_draws] = pair_weights
    weight = np.ascontiguousarray(side_by_side.reshape(n_blocks, _DRAWS, -1).transpose(0, 2, 1))
    out = np.empty((n_blocks, len(x), len(y), _DRAWS))
    _concordance(*presort(x), *presort(y), weight, tau_b, out)
    return out.transpose(0, 3, 1, 2).reshape(-1, len(x), len(y))[:n_draws]


@njit(nogil=True, cache=True)
def concordance_permuted(
    dense_x: np.ndarray,
    ties_x: np.ndarray,
    order_y: np.ndarray,
    dense_y: np.ndarray,
    ties_y: np.ndarray,
    index: np.ndarray,
    tau_b: bool,
    out: np.ndarray,
) -> None:
    """Kendall correlations with x re-indexed: ``x[index[perm]]``; `out` is (perm, x, y)."""
    n = dense_x.shape[1]
    along, start, moved = np.empty(n, np.int32), np.empty(n + 1, np.intp), np.empty(n, np.int32)
    ones, values = np.ones(n), np.empty(n, np.int32)
    for p in range(len(index)):
        for i in range(len(dense_x)):
            for k in range(n):
                moved[k] = dense_x[i, index[p, k]]
            for j in range(len(dense_y)):
                bucket(moved, order_y[j], start, along)
                both, run = 0.0, 1.0
                for q in range(n):
                    values[q] = dense_y[j, along[q]]
                    if q + 1 < n and (
                        moved[along[q]] == moved[along[q + 1]]
                        and dense_y[j, along[q]] == dense_y[j, along[q + 1]]
                    ):
                        run += 1
                    else:
                        both += run * run
                        run = 1.0
                discordant = inversions(values, ones)
                out[p, i, j] = tau(float(n), ties_x[i], ties_y[j], both, discordant, tau_b)
