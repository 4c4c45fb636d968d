"""Second moments of patterns: Grams over stimuli, their alignment, Procrustes and PCM.

All of it sees patterns only through G = X X', the stimulus x stimulus Gram: any rotation of the
channels gives the same numbers (Diedrichsen & Kriegeskorte 2017). Under multiplicities w a
stimulus counts w_i times in means and sums; where pairs of different stimuli are meant (debiased
alignment) the pairs of a stimulus with its own copies are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

_TINY = 1e-12  # squared norms below this share of what they are a difference of are rounding
_BLOCK = 4_000_000  # numbers worked on at a time; a constant, so that bits never depend on memory


def gram(patterns: np.ndarray) -> np.ndarray:
    """Dot products of the patterns after the mean pattern is taken out: (stimulus, stimulus).

    Parameters
    ----------
    patterns : (stimulus, channel)

    Examples
    --------
    >>> gram(np.array([[0.0, 1], [2, 1]]))
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    x = np.asarray(patterns, dtype=np.float64)
    x = x - x.mean(axis=0)
    return x @ x.T


def gram_of_squared_distances(distance: np.ndarray) -> np.ndarray:
    """The centred Gram of squared Euclidean distances: G = -H D H / 2 (FACTS 7).

    Parameters
    ----------
    distance : (stimulus, stimulus)
    """
    rest = distance - distance.mean(axis=0)
    return -0.5 * (rest - rest.mean(axis=1, keepdims=True))


def squared_distances(g: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of a Gram: D_ij = G_ii + G_jj - 2 G_ij."""
    own = np.diag(g)
    return own[:, None] + own[None] - 2 * g


class Weighted(NamedTuple):
    """What one Gram contributes to inner products under each draw."""

    fit: np.ndarray  # (draw, stimulus): u of the part u_i + u_j that is taken out
    row: np.ndarray  # (draw, stimulus): weighted sums of the rows
    square: np.ndarray  # (draw,): inner product with itself; NaN where nothing is left


def prepare(g: np.ndarray, debiased: bool) -> np.ndarray:
    """The Gram without its part u_i + u_j; debiased: fitted off the diagonal, which becomes 0.

    For equal weights this is double centring, or the U-centring of Székely & Rizzo (2014).
    """
    g = np.array(g, dtype=np.float64)
    if not debiased:
        rest = g - g.mean(axis=0)
        return rest - rest.mean(axis=1, keepdims=True)
    n = len(g)
    np.fill_diagonal(g, 0.0)
    if n > 2:
        u = (g.sum(axis=0) - g.sum() / (2 * (n - 1))) / (n - 2)
        g -= u[:, None] + u[None]
        np.fill_diagonal(g, 0.0)
    return g


def weigh(g: np.ndarray, weights: np.ndarray, debiased: bool) -> Weighted:
    """Fit of u_i + u_j to a prepared Gram under each draw, and what it leaves.

    Parameters
    ----------
    g : (stimulus, stimulus)
        From `prepare`.
    weights : (draw, stimulus)
    debiased : bool
    """
    fit, row = _fit(g, weights, debiased)
    square = _inner(g, g, weights, fit, row)
    raw = np.einsum("di,di->d", weights @ (g * g), weights)
    need = 4 if debiased else 2
    alive = (square > _TINY * raw) & (np.count_nonzero(weights, axis=1) >= need)
    return Weighted(fit, row, np.where(alive, square, np.nan))


def alignment(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray,
    debiased: bool,
    of_a: Weighted | None = None,
    of_b: Weighted | None = None,
) -> np.ndarray:
    """Centred kernel alignment (linear CKA) of two prepared Grams under each draw.

    Parameters
    ----------
    a, b : (stimulus, stimulus)
        From `prepare`, with the same `debiased`.
    weights : (draw, stimulus)
        Multiplicities.
    debiased : bool
        HSIC of Song et al. (2012) in place of the plain one (Kornblith et al. 2019). It sums over
        pairs of different stimuli; the general form is the inner product of what is left of the
        two Grams, off the diagonal, after the weighted least squares fit of u_i + u_j, in which
        pairs of copies have no part. With equal weights this is U-centring, and the sum is
        n (n - 3) HSIC.
    of_a, of_b : Weighted, optional
        From `weigh`, where it is at hand.

    Returns
    -------
    (draw,)
        -1 to 1 (plain: from 0). NaN where a Gram has nothing to align, or a draw fewer than 4
        (plain: 2) distinct stimuli.

    Examples
    --------
    >>> x = np.array([[0.0, 1], [2, 1], [3, 0], [5, 2], [1, 7]])
    >>> g = prepare(gram(x), debiased=True)
    >>> alignment(g, g, np.ones((1, 5)), debiased=True)
    array([1.])
    """
    of_a = weigh(a, weights, debiased) if of_a is None else of_a
    of_b = weigh(b, weights, debiased) if of_b is None else of_b
    cross = _inner(a, b, weights, of_a.fit, of_b.row)
    return np.clip(cross / np.sqrt(of_a.square * of_b.square), -1.0, 1.0)


def alignment_permuted(a: np.ndarray, b: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Alignment of two prepared Grams with the stimuli of `a` re-indexed: (perm,).

    The norms and what centring takes out do not change with the order of the stimuli.
    """
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    if not norm > 0:
        return np.full(len(permutations), np.nan)
    orders = np.ascontiguousarray(permutations, dtype=np.intp)
    return np.clip(
        _products(np.ascontiguousarray(a), np.ascontiguousarray(b), orders) / norm, -1, 1
    )


def factor(g: np.ndarray) -> np.ndarray:
    """Coordinates of the stimuli whose dot products are the Gram: (stimulus, dimension)."""
    values, vectors = np.linalg.eigh(g)
    keep = values > _TINY * max(values[-1], 0.0)
    return vectors[:, keep] * np.sqrt(values[keep])


class Drawn(NamedTuple):
    """One configuration under each draw, in as few dimensions as its distinct stimuli span."""

    parts: list[tuple[np.ndarray, np.ndarray]]  # draws of d distinct stimuli: (draw, d - 1, dim)
    norm: np.ndarray  # (draw,); NaN where nothing varies


def draw(x: np.ndarray, weights: np.ndarray) -> Drawn:
    """Weighted, centred coordinates of the stimuli that each draw holds.

    A draw of d distinct stimuli spans d - 1 dimensions at most: a reflection takes their weighted
    mean into the first row, which is dropped, and any square root of what is left has the same
    dot products. Half of the stimuli drawn with return have a third of the dimensions, and their
    singular values take a tenth of the time.

    Parameters
    ----------
    x : (stimulus, dimension)
    weights : (draw, stimulus)
    """
    w = np.asarray(weights, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # a draw may hold no stimulus of a half
        p = w / w.sum(axis=1, keepdims=True)
    gram = x @ x.T
    raw = p @ np.diag(gram)
    square = raw - np.einsum("di,di->d", p @ gram, p)
    norm = np.sqrt(np.where(square > _TINY * raw, square, np.nan))
    parts = []
    count = np.count_nonzero(w, axis=1)
    for d in np.unique(count[count > 1]):
        alike = np.flatnonzero(count == d)
        step = max(1, _BLOCK // (d * len(x)))
        for start in range(0, len(alike), step):
            own = alike[start : start + step]
            index = np.argsort(w[own] == 0, axis=1, kind="stable")[:, :d]
            root = np.sqrt(np.take_along_axis(p[own], index, axis=1))
            parts.append((own, _reduced(x, gram, index, root)))
    return Drawn(parts, norm)


def _reduced(x: np.ndarray, gram: np.ndarray, index: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Coordinates (draw, d - 1, dim) of stimuli `index` (draw, d), whose weights are root²."""
    mirror = root.copy()
    mirror[:, 0] += 1.0
    scale = 1.0 / mirror[:, 0]  # 2 over its squared length, the roots having length 1
    if x.shape[1] > index.shape[1] - 1:
        k = gram[index[:, :, None], index[:, None, :]] * (root[:, :, None] * root[:, None, :])
        turned = scale[:, None] * np.einsum("dij,dj->di", k, mirror)
        turned -= 0.5 * (scale * np.einsum("di,di->d", mirror, turned))[:, None] * mirror
        k -= mirror[:, :, None] * turned[:, None, :] + turned[:, :, None] * mirror[:, None, :]
        try:
            return np.linalg.cholesky(k[:, 1:, 1:])
        except np.linalg.LinAlgError:
            pass  # stimuli that coincide: their coordinates as they are
    rows = root[:, :, None] * x[index]
    along = scale[:, None] * np.einsum("di,dik->dk", mirror, rows)
    return rows[:, 1:] - mirror[:, 1:, None] * along[:, None, :]


def procrustes(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray,
    of_a: Drawn | None = None,
    of_b: Drawn | None = None,
) -> np.ndarray:
    """Largest correlation of two configurations over rotations: (draw,).

    Parameters
    ----------
    a, b : (stimulus, dimension)
        From `factor`, or the patterns themselves.
    weights : (draw, stimulus)
    of_a, of_b : Drawn, optional
        From `draw`, where it is at hand.

    Returns
    -------
    (draw,)
        Nuclear norm of the weighted cross-covariance over the product of the norms: the cosine of
        the angular Procrustes distance (Williams et al. 2021), 0 to 1. NaN where a side does not
        vary.
    """
    out = np.full(len(weights), np.nan)
    if not (a.size and b.size):
        return out
    of_a = draw(a, weights) if of_a is None else of_a
    of_b = draw(b, weights) if of_b is None else of_b
    for (own, x), (_, y) in zip(of_a.parts, of_b.parts, strict=True):
        out[own] = np.linalg.svd(x.transpose(0, 2, 1) @ y, compute_uv=False).sum(axis=1)
    return np.clip(out / (of_a.norm * of_b.norm), 0.0, 1.0)


def procrustes_permuted(a: np.ndarray, b: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """`procrustes` with the stimuli of `a` re-indexed: (perm,); both sides must be centred."""
    if not (a.size and b.size):
        return np.full(len(permutations), np.nan)
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    turned = np.ascontiguousarray(b.T)
    out = np.empty(len(permutations))
    step = max(1, _BLOCK // (len(a) * a.shape[1] + a.shape[1] * b.shape[1]))
    for start in range(0, len(permutations), step):
        block = slice(start, start + step)
        cross = turned @ a[permutations[block]]
        out[block] = np.linalg.svd(cross, compute_uv=False).sum(axis=1)
    return np.clip(out / norm, 0.0, 1.0)


def _fit(g: np.ndarray, w: np.ndarray, debiased: bool) -> tuple[np.ndarray, np.ndarray]:
    total = w.sum(axis=1, keepdims=True)
    row = w @ g  # debiased: the diagonal is 0, so that copies of a stimulus are no pair
    if not debiased:
        with np.errstate(invalid="ignore"):  # a draw may hold no stimulus of a half
            mean = row / total
            level = np.einsum("di,di->d", w, mean)[:, None] / total
        return mean - level / 2, row
    # the normal equations of each u_i: u_i (total - 2 w_i) + sum_j w_j u_j = row_i
    slope = total - 2 * w
    singular = (np.abs(slope) < 1e-9 * total).any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = (w * row / slope).sum(axis=1) / (1 + (w / slope).sum(axis=1))
        fit = (row - level[:, None]) / slope
    for d in np.flatnonzero(singular | ~np.isfinite(fit).all(axis=1)):
        # one stimulus has half of all copies: the same equations, solved as they stand
        matrix = np.diag(slope[d]) + w[d][None]
        fit[d] = np.linalg.lstsq(matrix, row[d], rcond=None)[0]
    return fit, row


def _inner(
    a: np.ndarray, b: np.ndarray, w: np.ndarray, fit: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """Sum of w_i w_j (a_ij - u_i - u_j) b'_ij, b' being what is left of b."""
    return np.einsum("di,di->d", w @ (a * b), w) - 2 * np.einsum("di,di,di->d", w, fit, row)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _products(a: np.ndarray, b: np.ndarray, orders: np.ndarray) -> np.ndarray:
    n = len(a)
    out = np.empty(len(orders))
    for p in range(len(orders)):
        total = 0.0
        for i in range(n):
            row, other = a[orders[p, i]], b[i]
            for j in range(i):
                total += row[orders[p, j]] * other[j]
        total *= 2
        for i in range(n):
            total += a[orders[p, i], orders[p, i]] * b[i, i]
        out[p] = total
    return out
