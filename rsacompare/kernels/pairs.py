"""Pairs of stimuli under multiplicities, and RDM vectors as feature vectors of a comparator.

Every comparator but Kendall's is an inner product of two vectors that each RDM gives by itself:
what belongs to one RDM is done once per draw, and all RDMs against all others are one matrix
product. A draw is a vector w of multiplicities; pair (i, j) then stands w_i * w_j times in the
resampled RDM and the pairs of a stimulus with its own copy, whose dissimilarity is no measurement,
drop out by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

import numpy as np
from numba import njit

from rsacompare.kernels.ranks import any_ties, presort, weighted_ranks

KINDS = ("cosine", "corr", "cosine_cov", "corr_cov", "spearman", "rho-a")
_RELATIVE = 1e-12  # spread below this share of the largest value is rounding: no variance
_BLOCK = 1_000_000  # numbers worked on at a time; a constant, so that results never depend on it


def n_stimuli(n_pairs: int) -> int:
    """How many stimuli make `n_pairs` pairs.

    Raises
    ------
    ValueError
        When no whole number does.
    """
    n = (1 + isqrt(1 + 8 * n_pairs)) // 2
    if n < 2 or n * (n - 1) // 2 != n_pairs:
        raise ValueError(f"an RDM of n stimuli has n(n-1)/2 pairs; {n_pairs} fits no n")
    return n


def pair_table(n: int) -> np.ndarray:
    """Place of pair (i, j) in the row-major upper triangle: (n, n), symmetric, diagonal 0."""
    table = np.zeros((n, n), dtype=np.intp)
    i, j = np.triu_indices(n, 1)
    table[i, j] = table[j, i] = np.arange(len(i))
    return table


def blocks(n_draws: int, size: int) -> Iterator[slice]:
    """Slices of draws, each draw working on `size` numbers; they depend on the shapes alone."""
    step = max(1, _BLOCK // max(1, size))
    for start in range(0, n_draws, step):
        yield slice(start, min(start + step, n_draws))


def checked_rdms(x: np.ndarray, name: str) -> np.ndarray:
    """RDM vectors as a float64 matrix (rdm, pair) of finite numbers."""
    x = np.ascontiguousarray(x, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"{name} must be (rdm, pair), got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} holds NaN or infinite dissimilarities")
    n_stimuli(x.shape[1])
    return x


def checked_weights(weights: np.ndarray | None, n: int, name: str = "stimulus") -> np.ndarray:
    """Multiplicities as float64 (draw, level); a single draw of ones for None."""
    if weights is None:
        return np.ones((1, n))
    weights = np.ascontiguousarray(weights, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != n:
        raise ValueError(f"weights must be (draw, {name}) with {n} {name}s, got {weights.shape}")
    if not (weights >= 0).all() or not np.isfinite(weights).all():
        raise ValueError("weights must be finite and not negative")
    return weights


def drop_unused(weights: np.ndarray, *rdms: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weights and RDM vectors without the stimuli that have no weight in any draw."""
    used = np.flatnonzero((weights > 0).any(axis=0))
    n = weights.shape[1]
    if len(used) == n or len(used) < 2:
        return (weights, *rdms)
    i, j = np.triu_indices(len(used), 1)
    keep = pair_table(n)[used[i], used[j]]
    return (np.ascontiguousarray(weights[:, used]), *(rdm.take(keep, axis=1) for rdm in rdms))


def features(
    x: np.ndarray, weights: np.ndarray, kind: str, *, pooling: bool = False
) -> Iterator[tuple[slice, np.ndarray]]:
    """RDM vectors as vectors whose inner products are the comparator, block by block of draws.

    Parameters
    ----------
    x : (rdm, pair)
    weights : (draw, stimulus)
    kind : str
        One of `KINDS`.
    pooling : bool
        Scale to root mean square 1 (corr: standard deviation 1) over the resampled pairs, as is
        done before averaging over subjects, instead of to an inner product of 1 with itself.

    Yields
    ------
    block : slice
        Of the draws.
    z : (draw, rdm, feature)
        Overwritten by the next block. NaN where there are fewer than 3 pairs or no variance.
        Features of a draw are the pairs that have weight in it (whitened kinds: then the
        stimuli), filled up with zeros.

    Notes
    -----
    Whitening (Diedrichsen et al. 2021; FACTS 7.1): x' V^-1 y with V the covariance of the
    distances of equal, independent patterns is the inner product of what is left of the two RDMs,
    as symmetric matrices with a zero diagonal, after the least squares fit of u_i + u_j. With
    copies, the entries that compare a stimulus with its copy are left out of that fit.
    """
    n_live = (weights > 0).sum(axis=1)
    whiten = kind in ("cosine_cov", "corr_cov")
    widths = np.maximum(1, n_live * (n_live - 1) // 2 + whiten * n_live)
    parts = list(blocks(len(weights), x.size))
    room = np.empty((parts[0].stop if parts else 0, len(x), int(widths.max(initial=1))))
    ranked = kind in ("spearman", "rho-a")
    order, last, _ = presort(x if ranked else x[:, :0])
    tiny = _RELATIVE * np.abs(x).max(axis=1)
    for block in parts:
        w = weights[block]
        z, width = room[: len(w)], int(widths[block].max())
        if ranked:
            _rank_features(order, last, w, kind == "rho-a", width, z)
        else:
            centre = kind in ("corr", "corr_cov")
            _value_features(x, tiny, w, centre, whiten, pooling, width, z)
        yield block, z[:, :, :width]


@njit(nogil=True, cache=True)
def reindex(x: np.ndarray, permutations: np.ndarray, out: np.ndarray) -> None:
    """RDM vectors with their stimuli re-indexed: `out` is (perm, rdm, pair)."""
    n = permutations.shape[1]
    index = np.empty(x.shape[1], np.int32)
    for p in range(len(permutations)):
        q = 0
        for i in range(n):
            for j in range(i + 1, n):
                a = min(permutations[p, i], permutations[p, j])
                b = max(permutations[p, i], permutations[p, j])
                index[q] = a * n - a * (a + 1) // 2 + b - a - 1
                q += 1
        for v in range(len(x)):
            for q in range(len(index)):
                out[p, v, q] = x[v, index[q]]


@njit(nogil=True, cache=True)
def live_pairs(w: np.ndarray, live: np.ndarray, pair: np.ndarray, weight: np.ndarray) -> tuple:
    """Fill in the stimuli that have weight, their pairs and the pairs' weights; both counts."""
    n = len(w)
    n_live = 0
    for i in range(n):
        if w[i] > 0:
            live[n_live] = i
            n_live += 1
    count = 0
    for a in range(n_live):
        i = live[a]
        row = i * n - i * (i + 1) // 2 - i - 1
        for b in range(a + 1, n_live):
            pair[count] = row + live[b]
            weight[count] = w[i] * w[live[b]]
            count += 1
    return n_live, count


# sums may be reordered (and so vectorised): the same code gives the same bits all the same
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _centre(values: np.ndarray, weight: np.ndarray, total: float) -> float:
    """Subtract the weighted mean (unless `total` is 0); the weighted sum of squares."""
    mean, square = 0.0, 0.0
    if total > 0:
        for q in range(len(values)):
            mean += weight[q] * values[q]
        mean /= total
    for q in range(len(values)):
        values[q] -= mean
        square += weight[q] * values[q] * values[q]
    return square


@njit(nogil=True, cache=True)
def _value_features(
    x: np.ndarray,
    tiny: np.ndarray,
    weights: np.ndarray,
    centre: bool,
    whiten: bool,
    pooling: bool,
    width: int,
    out: np.ndarray,
) -> None:
    n, m = weights.shape[1], x.shape[1]
    live, pair = np.empty(n, np.intp), np.empty(m, np.int32)
    weight, root, values = np.empty(m), np.empty(m), np.empty(m)
    fit = np.empty(n)
    for d in range(len(weights)):
        n_live, count = live_pairs(weights[d], live, pair, weight)
        if n_live < 3:
            out[d] = np.nan
            continue
        w_live = weights[d][live[:n_live]]
        w_pair, mine = weight[:count], values[:count]
        total = 0.0
        for q in range(count):
            root[q] = np.sqrt(weight[q])
            total += weight[q]
        for v in range(len(x)):
            row = out[d, v, :width]
            for q in range(count):
                mine[q] = x[v, pair[q]]
            square = _centre(mine, w_pair, total if centre else 0.0)
            norm = square
            if whiten and square > total * tiny[v] ** 2:
                norm = _whiten(mine, w_pair, w_live, fit[:n_live])
            # constant; or u_i + u_j all over, of which whitening leaves nothing to compare
            if not (square > total * tiny[v] ** 2 and norm > total * tiny[v] ** 2):
                row[:] = np.nan
                continue
            factor = np.sqrt(total / square) if pooling else 1 / np.sqrt(norm)
            for q in range(count):
                row[q] = factor * root[q] * mine[q]
            row[count:] = 0.0
            if whiten:
                for a in range(n_live):
                    # each diagonal entry once, where a pair stands for two entries of the matrix
                    row[count + a] = -factor * np.sqrt(2 * w_live[a]) * fit[a]


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _whiten(values: np.ndarray, weight: np.ndarray, w: np.ndarray, fit: np.ndarray) -> float:
    """Subtract the least squares fit u_i + u_j from `values`; return the weighted square left.

    `w` and `fit` belong to the stimuli that have weight. With W = sum of w and
    c_i = sum_j w_j x_ij the normal equations are (W + 2 - 2 w_i) u_i + sum_j w_j u_j = c_i: a
    diagonal plus rank one, solved by hand. Only the stimulus of the largest weight can have a
    diagonal that is zero or less; it is eliminated last.
    """
    n = len(w)
    top, q = 0, 0
    fit[:] = 0.0
    for a in range(n):
        if w[a] > w[top]:
            top = a
        for b in range(a + 1, n):
            fit[a] += w[b] * values[q + b - a - 1]
            fit[b] += w[a] * values[q + b - a - 1]
        q += n - a - 1
    slope, level, n_copies = 0.0, 0.0, w.sum()
    for a in range(n):
        if a != top:
            slope += w[a] / (n_copies + 2 - 2 * w[a])
            level += w[a] * fit[a] / (n_copies + 2 - 2 * w[a])
    diagonal = n_copies + 2 - 2 * w[top]
    u_top = (fit[top] * (1 + slope) - level) / (w[top] + diagonal * (1 + slope))
    total = fit[top] - diagonal * u_top  # sum_j w_j u_j
    norm, q = 0.0, 0
    for a in range(n):
        fit[a] = u_top if a == top else (fit[a] - total) / (n_copies + 2 - 2 * w[a])
        norm += 2 * w[a] * fit[a] ** 2
    for a in range(n):
        for b in range(a + 1, n):
            r = values[q + b - a - 1] - (fit[a] + fit[b])
            values[q + b - a - 1] = r
            norm += weight[q + b - a - 1] * r * r
        q += n - a - 1
    return norm


@njit(nogil=True, cache=True)
def _rank_features(
    order: np.ndarray,
    last: np.ndarray,
    weights: np.ndarray,
    rho_a: bool,
    width: int,
    out: np.ndarray,
) -> None:
    n, n_pairs = weights.shape[1], order.shape[1]
    live, pair = np.empty(n, np.intp), np.empty(n_pairs, np.int32)
    slot = np.empty(n_pairs, np.int32)
    weight, root = np.empty(n_pairs + 1), np.empty(n_pairs)
    ranks, tied = np.empty(n_pairs + 1), any_ties(last)
    for d in range(len(weights)):
        n_live, count = live_pairs(weights[d], live, pair, weight)
        if n_live < 3:
            out[d] = np.nan
            continue
        total = fill_slots(pair, weight, count, slot)
        for q in range(count):
            root[q] = np.sqrt(weight[q])
        for v in range(len(order)):
            weighted_ranks(order[v], last[v], weight, slot, total, tied[v], ranks)
            square = 0.0
            for q in range(count):
                square += weight[q] * ranks[q] ** 2
            if not square > 0:
                out[d, v] = np.nan
                continue
            factor = 1 / np.sqrt(square)
            if rho_a:
                factor = np.sqrt(3 / (total**3 - total))
            for q in range(count):
                out[d, v, q] = factor * root[q] * ranks[q]
            out[d, v, count:width] = 0.0


@njit(nogil=True, cache=True)
def fill_slots(pair: np.ndarray, weight: np.ndarray, count: int, slot: np.ndarray) -> float:
    """Where each live pair stands; all others share place `count`, of weight 0. Total weight."""
    slot[:] = count
    weight[count] = 0.0
    total = 0.0
    for q in range(count):
        slot[pair[q]] = q
        total += weight[q]
    return total
