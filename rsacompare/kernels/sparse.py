"""Sparse Bayesian regression (automatic relevance determination) from Gram matrices alone.

The update rules are those of SLiR (Sato 2001; FACTS 3.1), the estimator of Horikawa & Kamitani
(2017). An iteration costs one Cholesky factorisation and one triangular inverse of the Gram
matrix of the voxels that are still active, and never touches the samples; as voxels are pruned
the block shrinks. LAPACK and the compiled loops work without the GIL: one target per thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rsacompare.kernels.active_set import ActiveSet, Sparse
from rsacompare.kernels.gram import Training, gather, select_top

TINY = 1e-15  # the source's floor of variances and of the effective degrees of freedom
RULES = ("sato", "mackay")


def ard(
    gram: np.ndarray,
    cross: np.ndarray,
    square: float,
    n_rows: int,
    *,
    n_iter: int = 200,
    prune: float = 1e-10,
    power: float | None = None,
    rows: tuple[np.ndarray, np.ndarray] | None = None,
) -> Sparse:
    """Sparse Bayesian regression of one target.

    With features X (feature, row), target y, prior variances A and D = diag(√A), an iteration is ::

        B = I + D XX' D,   w = D B⁻¹ D Xy,   g = 1 − diag(B⁻¹)
        σ² = (y'y − w'Xy) / n,   A ← √(A · (w²/σ²) / g),   drop A ≤ prune · max A

    which is the source's S = XX' + A⁻¹, scaled so that the matrix to factorise is never worse
    than I.

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
    rows : (X' (row, feature), y (row,)), optional
        Used while more features than rows are active: the source's other form (equal by the
        Woodbury identity), which factorises I + X'AX.

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
    system = ActiveSet(gram, cross, n_rows, n_iter, rows)
    m = len(cross)
    if square / n_rows <= TINY:
        return Sparse(np.zeros(m), system.active[:0], square / n_rows)
    if power is None:
        power = float(np.diagonal(gram).mean()) / n_rows if m else 0.0
    prior: np.ndarray = np.full(m, 1.0 / max(power, TINY))
    w, noise = np.zeros(m), square / n_rows
    for _ in range(n_iter):
        w, effective = system.solve(np.sqrt(prior))
        noise = max(float(square - w @ system.cross) / n_rows, TINY)
        prior = np.sqrt(prior * (w * w / noise) / np.maximum(effective, TINY))
        largest = float(prior.max(initial=0.0))
        if not largest > 0:
            return Sparse(np.zeros(m), system.active[:0], square / n_rows)
        keep = prior > prune * largest
        if not keep.all():
            system.keep(keep)
            w, prior = w[keep], prior[keep]
    return system.result(w, float(noise), m)


def ard_mackay(
    gram: np.ndarray,
    cross: np.ndarray,
    square: float,
    n_rows: int,
    *,
    n_iter: int = 300,
    tolerance: float = 1e-3,
    largest: float = 1e4,
    rows: tuple[np.ndarray, np.ndarray] | None = None,
) -> Sparse:
    """Sparse Bayesian regression by MacKay's updates, as scikit-learn's ``ARDRegression``.

    With precisions λ of the weights and α of the noise, and D = diag(√(α/λ)) ::

        B = I + D XX' D,   w = D B⁻¹ D Xy,   γ = 1 − diag(B⁻¹)
        λ ← (γ + 2ε) / (w² + 2ε),   α ← (n − Σγ + 2ε) / (sse + 2ε),   ε = 10⁻⁶, drop λ ≥ largest

    until the weights move by less than `tolerance` in sum. It stops after a few dozen iterations
    where :func:`ard` runs hundreds, and prunes sooner.

    Parameters
    ----------
    gram, cross, square, n_rows, rows
        As for :func:`ard`, of centred features and target.
    n_iter : int
        At most.
    tolerance, largest : float

    Returns
    -------
    Sparse
    """
    system = ActiveSet(gram, cross, n_rows, n_iter, rows)
    m, few = len(cross), 1e-6
    if square / n_rows <= TINY:
        return Sparse(np.zeros(m), system.active[:0], square / n_rows)
    alpha, precision = 1.0 / (square / n_rows + np.finfo(np.float64).eps), np.ones(m)
    before = None
    for _ in range(n_iter):
        w, effective = system.solve(np.sqrt(alpha / precision))
        # XX'w = Xy − λw/α
        error = max(square - w @ system.cross - precision @ (w * w) / alpha, 0.0)
        precision = (effective + 2 * few) / (w * w + 2 * few)
        alpha = (n_rows - effective.sum() + 2 * few) / (error + 2 * few)
        now = np.zeros(m)
        keep = precision < largest
        now[system.active[keep]] = w[keep]
        if not keep.all():
            system.keep(keep)
            precision = precision[keep]
        if before is not None and np.abs(now - before).sum() < tolerance:
            break
        before = now
        if not keep.any():
            return Sparse(np.zeros(m), system.active, 1 / alpha)
    return system.result(system.solve(np.sqrt(alpha / precision))[0], 1 / alpha, m)


def weights(
    training: Training,
    y: np.ndarray,
    *,
    n_iter: int = 200,
    prune: float = 1e-10,
    rules: str = "sato",
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
    rules : {"sato", "mackay"}
        :func:`ard`, or :func:`ard_mackay` with `n_iter` as its limit.

    Returns
    -------
    (live, target)
        In the units of `y`.

    Raises
    ------
    ValueError
        Unknown rules.
    """
    if rules not in RULES:
        raise ValueError(f"rules must be one of {', '.join(RULES)}, got '{rules}'")
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
        own: dict[str, Any] = {"n_iter": n_iter}
        if n < p:
            own["rows"] = (z[:, voxels], y[:, target] / scale[target])
        if rules == "sato":
            own |= {"prune": prune, "power": power}
        cross = covariance[voxels, target] / scale[target]
        found = (ard if rules == "sato" else ard_mackay)(block, cross, n - 1.0, n, **own)
        out[voxels, target] = found.weights * scale[target]
    return out
