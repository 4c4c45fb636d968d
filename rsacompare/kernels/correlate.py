"""Correlations under multiplicities of the stimuli: RDMs with RDMs; columns and ceilings beside."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from rsacompare.kernels.ceiling import noise_ceiling
from rsacompare.kernels.columns import correlate_columns, null_mean_correlation
from rsacompare.kernels.kendall import concordance, concordance_permuted, tie_square
from rsacompare.kernels.pairs import (
    KINDS,
    blocks,
    checked_rdms,
    checked_weights,
    drop_unused,
    features,
    n_stimuli,
    pair_table,
    reindex,
)
from rsacompare.kernels.ranks import presort

__all__ = [
    "COMPARATORS",
    "compare_rdms",
    "compare_rdms_permuted",
    "correlate_columns",
    "noise_ceiling",
    "null_mean_correlation",
]


def compare_rdms(
    x: np.ndarray, y: np.ndarray, comparator: str, weights: np.ndarray | None = None
) -> np.ndarray:
    """Compare every RDM of `x` with every one of `y`, under multiplicities of the stimuli.

    Parameters
    ----------
    x : (nx, pair)
    y : (ny, pair)
        Row-major upper triangles.
    comparator : str
        A name of `COMPARATORS`.
    weights : (draw, stimulus), optional
        Multiplicities; pair (i, j) counts w_i * w_j times.

    Returns
    -------
    (nx, ny), or (draw, nx, ny) under weights
        What rsatoolbox gives for the resampled RDMs with the pairs of copies dropped (FACTS 7.1).
        NaN where fewer than 3 pairs have weight or a side has no variance.

    Raises
    ------
    ValueError
        Shapes that do not fit; NaN; an unknown comparator.

    Examples
    --------
    >>> x, y = np.array([[1.0, 2, 2, 3, 4, 6]]), np.array([[2.0, 1, 3, 3, 5, 4]])
    >>> round(float(compare_rdms(x, y, "spearman")[0, 0]), 6)
    0.808824
    """
    x, y = checked_rdms(x, "x"), checked_rdms(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x has {x.shape[1]} pairs, y {y.shape[1]}")
    w = checked_weights(weights, n_stimuli(x.shape[1]))
    w, x, y = drop_unused(w, x, y)
    scores = np.clip(_comparator(comparator)(x, y, w), -1.0, 1.0)
    return scores[0] if weights is None else scores


def compare_rdms_permuted(
    x: np.ndarray, y: np.ndarray, comparator: str, permutations: np.ndarray
) -> np.ndarray:
    """Compare with the stimuli of `x` re-indexed.

    Parameters
    ----------
    x : (nx, pair)
    y : (ny, pair)
    comparator : str
        A name of `COMPARATORS`.
    permutations : (perm, stimulus) int
        Row p makes D[i, j] of x into D[perm[i], perm[j]].

    Returns
    -------
    (perm, nx, ny)

    Raises
    ------
    ValueError
        Shapes that do not fit; NaN; an unknown comparator.
    """
    x, y = checked_rdms(x, "x"), checked_rdms(y, "y")
    n = n_stimuli(x.shape[1])
    permutations = np.ascontiguousarray(permutations, dtype=np.intp)
    if x.shape[1] != y.shape[1] or permutations.ndim != 2 or permutations.shape[1] != n:
        raise ValueError(
            f"x has {x.shape[1]} pairs, y {y.shape[1]}, permutations {permutations.shape}; "
            f"expected equal pairs and (perm, {n})"
        )
    if (np.sort(permutations, axis=1) != np.arange(n)).any():
        raise ValueError(f"every row of permutations must hold 0 to {n - 1} once")
    _comparator(comparator)  # the name is checked before the work
    out = np.empty((len(permutations), len(x), len(y)))
    if comparator not in KINDS:
        i, j = np.triu_indices(n, 1)
        table = pair_table(n)
        order_y, last_y, dense_y = presort(y)
        order_x, last_x, dense_x = presort(x)
        ties_x, ties_y = (_tie_squares(o, t) for o, t in ((order_x, last_x), (order_y, last_y)))
        for block in blocks(len(permutations), x.shape[1]):
            index = table[permutations[block][:, i], permutations[block][:, j]]
            tau_b = comparator != "tau-a"
            concordance_permuted(
                dense_x, ties_x, order_y, dense_y, ties_y, index, tau_b, out[block]
            )
        return out if n > 2 else np.full_like(out, np.nan)
    _, both = next(features(np.concatenate([x, y]), np.ones((1, n)), comparator))
    fx, fy = both[0, : len(x)], both[0, len(x) :]
    if comparator in ("cosine_cov", "corr_cov"):
        fx, fy = _half_whitened(x, fx, comparator == "corr_cov"), fy[:, : x.shape[1]]
    move_y = len(y) < len(x)  # re-index the smaller side, by the inverse permutation
    orders = np.argsort(permutations, axis=1) if move_y else permutations
    moving, still = (fy, fx) if move_y else (fx, fy)
    moving = np.ascontiguousarray(moving)
    parts = list(blocks(len(orders), moving.size))
    room = np.empty((parts[0].stop if parts else 0, *moving.shape))
    for block in parts:
        moved = room[: block.stop - block.start]
        reindex(moving, orders[block], moved)
        scores = moved.reshape(-1, moving.shape[1]) @ still.T
        scores = scores.reshape(len(moved), len(moving), len(still))
        out[block] = scores.transpose(0, 2, 1) if move_y else scores
    return np.clip(out, -1.0, 1.0)


def _by_features(x: np.ndarray, y: np.ndarray, w: np.ndarray, *, kind: str) -> np.ndarray:
    out = np.empty((len(w), len(x), len(y)))
    for block, z in features(np.concatenate([x, y]), w, kind):
        np.matmul(z[:, : len(x)], z[:, len(x) :].transpose(0, 2, 1), out=out[block])
    return out


def _kendall(x: np.ndarray, y: np.ndarray, w: np.ndarray, *, tau_b: bool) -> np.ndarray:
    i, j = np.triu_indices(w.shape[1], 1)
    out = np.empty((len(w), len(x), len(y)))
    for start in range(0, len(w), 256):
        part = w[start : start + 256]
        out[start : start + 256] = concordance(x, y, part[:, i] * part[:, j], tau_b=tau_b)
    out[(w > 0).sum(axis=1) < 3] = np.nan
    return out


COMPARATORS: dict[str, Callable[..., np.ndarray]] = {
    **{kind: partial(_by_features, kind=kind) for kind in KINDS},
    "tau-a": partial(_kendall, tau_b=False),
    "tau-b": partial(_kendall, tau_b=True),
    "kendall": partial(_kendall, tau_b=True),
}
"""Comparators of RDMs by name: ``f(x (nx, pair), y (ny, pair), w (draw, stimulus))``."""


def _tie_squares(order: np.ndarray, last: np.ndarray) -> np.ndarray:
    ones = np.ones(order.shape[1])
    return np.array([tie_square(o, t, ones) for o, t in zip(order, last, strict=True)])


def _half_whitened(x: np.ndarray, whitened: np.ndarray, centre: bool) -> np.ndarray:
    """RDMs over the norm of what whitening leaves of them.

    One whitened side is enough (what is left of it is orthogonal to every u_i + u_j); the plain
    side has a zero diagonal, so that only pairs count and re-indexing moves only pairs.
    """
    if centre:
        x = x - x.mean(axis=1, keepdims=True)
    return x / np.einsum("vq,vq->v", x, whitened[:, : x.shape[1]])[:, None]


def _comparator(name: str) -> Callable[..., np.ndarray]:
    if name not in COMPARATORS:
        raise ValueError(f"unknown comparator '{name}'; there are {', '.join(COMPARATORS)}")
    return COMPARATORS[name]
