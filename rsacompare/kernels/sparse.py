"""Sparse Bayesian regression (automatic relevance determination) from Gram matrices alone.

The update rules are those of SLiR (Sato 2001; FACTS 3.1), the estimator of Horikawa & Kamitani
(2017). An iteration costs one Cholesky factorisation and one triangular inverse of the Gram
matrix of the voxels that are still active, and never touches the samples; as voxels are pruned
the block shrinks. LAPACK and the compiled loops work without the GIL: one target per thread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from rsacompare.kernels.cholesky import inverse_factor_in_place
from rsacompare.kernels.gram import Training, gather, select_top

TINY = 1e-15  # the source's floor of variances and of the effective degrees of freedom
COMPACT = 0.8  # a block is copied together once pruning leaves less of its width


@dataclass(frozen=True)
class Sparse:
    """Weights of one target.

    Attributes
    ----------
    weights : (feature,)
        Zero for features that were pruned.
    active : (kept,) int
        The features that were not.
    noise : float
        Estimated variance of the residual.
    """

    weights: np.ndarray
    active: np.ndarray
    noise: float


def ard(
    gram: np.ndarray,
    cross: np.ndarray,
    square: float,
    n_rows: int,
    *,
    n_iter: int = 200,
    prune: float = 1e-10,
    power: float | None = None,
) -> Sparse:
    """Sparse Bayesian regression of one target.

    With features X (feature, row), target y, prior variances A and D = diag(√A), an iteration is ::

        B = I + D XX' D,   w = D B⁻¹ D Xy,   g = 1 − diag(B⁻¹)
        σ² = (y'y − w'Xy) / n,   A ← √(A · (w²/σ²) / g),   drop A ≤ prune · max A

    which is the source's S = XX' + A⁻¹ (and, by the Woodbury identity, its form for fewer rows
    than features), scaled so that the matrix to factorise is never worse than I.

    Parameters
    ----------
    gram : (feature, feature) float64
        XX', not divided by anything; the upper triangle is read.
    cross : (feature,)
        Xy. Nothing is centred here.
    square : float
        y'y.
    n_rows : int
    n_iter : int
        All are run: the source's stopping rule cannot fire once a feature was pruned.
    prune : float
        Share of the largest prior variance below which a feature is dropped.
    power : float, optional
        Mean square of the features, whose inverse A starts from; by default of these features.

    Returns
    -------
    Sparse
        Without active features where the target has no variance or nothing explains it (there
        the source fails).

    Raises
    ------
    ValueError
        Shapes that do not fit, fewer than one row or iteration.

    Examples
    --------
    >>> x = np.array([[1.0, -1, 1, -1], [1, 1, -1, -1]])
    >>> y = 3 * x[0] + np.array([0.1, 0.1, -0.1, 0.2])
    >>> found = ard(x @ x.T, x @ y, y @ y, 4)
    >>> found.active.tolist(), found.weights.round(3).tolist()
    ([0], [2.924, 0.0])
    """
    m = len(cross)
    if gram.shape != (m, m) or n_rows < 1 or n_iter < 1:
        raise ValueError(
            f"gram {gram.shape} and cross {cross.shape} of {n_rows} rows, {n_iter} iterations"
        )
    block, active = gram, np.arange(m)
    place = active  # of the active features in `block`
    if power is None:
        power = float(np.mean(np.diagonal(gram))) / n_rows if m else 0.0
    prior = np.full(m, 1.0 / max(power, TINY))
    h = np.asarray(cross, dtype=np.float64)
    w, noise = np.zeros(m), square / n_rows
    if square / n_rows <= TINY:
        return Sparse(np.zeros(m), active[:0], noise)
    for _ in range(n_iter):
        if len(active) < COMPACT * len(block):
            work = np.empty((len(active), len(active)))
            gather(block, place, work)
            block, place = work, np.arange(len(active))
        d = np.sqrt(prior)
        b = np.empty((len(active), len(active)))
        _scaled(block, place, d, b)
        if not inverse_factor_in_place(b):
            raise ValueError("the Gram matrix of the features is not positive semi-definite")
        w, noise, updated = _update(b, d, h, prior, square, n_rows)
        largest = updated.max()
        if not largest > 0:
            return Sparse(np.zeros(m), active[:0], square / n_rows)
        keep = updated > prune * largest
        prior = updated
        if not keep.all():
            active, place, w, h, prior = active[keep], place[keep], w[keep], h[keep], updated[keep]
    out = np.zeros(m)
    out[active] = w
    return Sparse(out, active, float(noise))


def weights(
    training: Training, y: np.ndarray, *, n_iter: int = 200, prune: float = 1e-10
) -> np.ndarray:
    """Sparse weights of the standardised live voxels for centred targets, each on its best voxels.

    As the source: voxels and target standardised (ddof 1), the target's voxels of the largest |r|,
    a row of ones beside them (pruned at once since everything is centred, but it counts for the
    power that the prior starts from), then :func:`ard`.

    Parameters
    ----------
    training : Training
        Made with ``least_squares=False``.
    y : (row, target), centred
    n_iter, prune
        See :func:`ard`.

    Returns
    -------
    (live, target)
        In the units of `y`.
    """
    z, p = training.z, training.n_selected
    n = len(z)
    covariance = z.T @ y
    scale = np.sqrt((y**2).sum(axis=0) / (n - 1))
    chosen = select_top(np.abs(covariance.T), p)
    out = np.zeros_like(covariance)
    block = np.zeros((p, p))  # its lower triangle is multiplied, though never read
    power = (p * (n - 1) / n + 1) / (p + 1)
    for target, voxels in enumerate(chosen):
        if not scale[target] > 0 or not p:
            continue
        if training.gram is None:
            part = z[:, voxels]
            np.matmul(part.T, part, out=block)
        else:
            gather(training.gram, voxels, block)
            block *= n - 1
        found = ard(
            block,
            covariance[voxels, target] / scale[target],
            n - 1.0,
            n,
            n_iter=n_iter,
            prune=prune,
            power=power,
        )
        out[voxels, target] = found.weights * scale[target]
    return out


@njit(nogil=True, cache=True)
def _scaled(gram: np.ndarray, place: np.ndarray, d: np.ndarray, out: np.ndarray) -> None:
    """Upper triangle of I + D G D over the features at `place`."""
    for i in range(len(place)):
        row, scale = place[i], d[i]
        for j in range(i, len(place)):
            out[i, j] = scale * d[j] * gram[row, place[j]]
        out[i, i] += 1.0


@njit(nogil=True, cache=True)
def _update(
    u: np.ndarray, d: np.ndarray, h: np.ndarray, prior: np.ndarray, square: float, n_rows: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """Weights, noise variance and new prior variances, with B⁻¹ = UU' (U upper triangular)."""
    m = len(d)
    v = np.zeros(m)
    for i in range(m):
        g = d[i] * h[i]
        for j in range(i, m):
            v[j] += u[i, j] * g
    w = np.empty(m)
    updated = np.empty(m)
    spread = np.empty(m)
    explained = 0.0
    for i in range(m):
        total, size = 0.0, 0.0
        for j in range(i, m):
            total += u[i, j] * v[j]
            size += u[i, j] * u[i, j]
        w[i] = d[i] * total
        spread[i] = size
        explained += w[i] * h[i]
    noise = max((square - explained) / n_rows, 1e-15)
    for i in range(m):
        effective = max(1.0 - spread[i], 1e-15)
        updated[i] = np.sqrt(prior[i] * (w[i] * w[i] / noise) / effective)
    return w, noise, updated
