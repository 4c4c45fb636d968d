"""Ordinary least squares on each target's own best voxels, from one shared Gram matrix.

Every target (a network unit) is predicted from the voxels that correlate most with it. What the
targets share is done once per brain region: the standardised voxels Z, their Gram matrix
G = Z'Z/(n - 1) and, where it pays, its inverse. A target then costs a gather of a block of G and
a Cholesky factorisation, and never touches the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from scipy import linalg

from rsacompare.kernels.cholesky import solve_in_place

LARGEST_GRAM = 150_000_000  # entries (1.2 GB); wider regions form each target's block from Z
TARGETS_AT_ONCE = 128  # a constant, so that sums never depend on memory
LARGEST_CONDITION = 1e7  # of G, for the way over its inverse


@dataclass(frozen=True)
class Training:
    """Training rows of one region and what all targets share of them; made by :func:`train`.

    Attributes
    ----------
    mean, scale : (voxel,)
        Of the training rows, scale with ddof 1 and 1 for voxels that never vary.
    live : (live,) int
        The voxels that vary; the others are never selected.
    z : (row, live)
        Standardised rows.
    n_selected : int
        How many voxels a target takes: as asked for, or all there are.
    gram, inverse : (live, live) or None
        Correlations between voxels, or their inverse; which of them is held names the way.
    operator : (live, row) or None
        Where every target takes all voxels: centred targets to weights.
    """

    mean: np.ndarray
    scale: np.ndarray
    live: np.ndarray
    z: np.ndarray
    n_selected: int
    gram: np.ndarray | None = None
    inverse: np.ndarray | None = None
    operator: np.ndarray | None = None


def train(
    x: np.ndarray, n_selected: int, *, largest: int = LARGEST_GRAM, least_squares: bool = True
) -> Training:
    """Standardise training rows and do the work that all targets share.

    Parameters
    ----------
    x : (row, voxel)
    n_selected : int
        How many voxels each target takes (all, where there are no more).
    largest : int
        Entries of the largest Gram matrix to hold.
    least_squares : bool
        False for other estimators: the Gram matrix itself is held wherever it fits.

    Raises
    ------
    ValueError
        Fewer than two rows, or `n_selected` below 1.
    """
    x = np.asarray(x, dtype=np.float64)
    n = len(x)
    if x.ndim != 2 or n < 2 or n_selected < 1:
        raise ValueError(f"need at least 2 rows and 1 voxel to select, got {x.shape}, {n_selected}")
    mean = x.mean(axis=0)
    scale = x.std(axis=0, ddof=1)
    # compared, not computed: the deviation of a constant is seldom exactly 0
    live = np.flatnonzero((x != x[0]).any(axis=0) & (scale > 0))
    scale[np.setdiff1d(np.arange(x.shape[1]), live)] = 1.0
    z = np.ascontiguousarray((x[:, live] - mean[live]) / scale[live])
    n_live = len(live)
    p = min(n_selected, n_live)
    shared: dict[str, Any] = {"mean": mean, "scale": scale, "live": live, "z": z, "n_selected": p}
    if not least_squares and n_live**2 <= largest:
        return Training(**shared, gram=(z.T @ z) / (n - 1))
    if not least_squares:
        return Training(**shared)
    if p == n_live:
        return Training(**shared, operator=_operator(z))
    if p >= n - 1 or n_live**2 > largest:
        return Training(**shared)
    gram = z.T @ z
    gram /= n - 1
    if n_live - p < p and n_live < n - 1:
        inverse = _inverse(gram)
        if inverse is not None:
            return Training(**shared, inverse=inverse)
    return Training(**shared, gram=gram)


def train_folds(
    x: np.ndarray, fold: np.ndarray, n_selected: int, *, least_squares: bool = True
) -> dict[int, Training]:
    """For each fold, the training on all rows outside it.

    Each fold's Gram matrix is formed afresh: taking the held-out part from that of all rows
    loses digits and, measured, no time (a symmetric product costs half of a general one).

    Parameters
    ----------
    x : (row, voxel)
    fold : (row,) int
    n_selected, least_squares
        See :func:`train`.
    """
    labels = np.unique(fold).tolist()
    kept: dict[str, Any] = {"largest": LARGEST_GRAM // len(labels), "least_squares": least_squares}
    return {label: train(x[fold != label], n_selected, **kept) for label in labels}


def select_top(score: np.ndarray, n: int) -> np.ndarray:
    """Positions of the `n` largest scores per row, in ascending order: (row, n)."""
    if n >= score.shape[1]:
        return np.tile(np.arange(score.shape[1]), (len(score), 1))
    return np.sort(np.argpartition(-score, n - 1, axis=1)[:, :n], axis=1)


def predict(
    training: Training,
    y: np.ndarray,
    x_new: np.ndarray,
    solve: Callable[[Training, np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Predict targets for new rows, by least squares on each target's best voxels or as told.

    Per target: the voxels of the largest |Pearson r| over the training rows (FACTS section 3;
    Horikawa & Kamitani 2017), ordinary least squares with an intercept on them, in the target's
    own units. Where the selected voxels determine the training rows (as many voxels as rows, or
    voxels that repeat one another), the solution of minimum norm in standardised voxels.

    Parameters
    ----------
    training : Training
        Of `n` rows.
    y : (n, target)
        Training targets. One that never varies is predicted by its value.
    x_new : (row_new, voxel)
    solve : callable (training, centred targets (n, target)) -> (live, target), optional
        Weights of the standardised voxels, least squares by default (:func:`weights`).

    Returns
    -------
    (row_new, target)

    Raises
    ------
    ValueError
        Shapes that do not fit.

    Examples
    --------
    >>> x = np.array([[0.0, 5], [1, 5], [2, 5], [3, 5]])
    >>> predict(train(x, 500), 2 * x[:, :1] + 1, np.array([[10.0, 5]]))
    array([[21.]])
    """
    if len(y) != len(training.z) or x_new.shape[1] != len(training.mean):
        raise ValueError(
            f"targets {y.shape} and new rows {x_new.shape} do not fit a training on "
            f"{len(training.z)} rows and {len(training.mean)} voxels"
        )
    live = training.live
    z_new = (x_new[:, live] - training.mean[live]) / training.scale[live]
    out = np.empty((len(x_new), y.shape[1]))
    for start in range(0, y.shape[1], TARGETS_AT_ONCE):
        block = slice(start, start + TARGETS_AT_ONCE)
        part = np.asarray(y[:, block], dtype=np.float64)
        mean = np.where((part == part[0]).all(axis=0), part[0], part.mean(axis=0))
        # y is not divided by its deviation: neither the order of |r| nor the prediction would
        # change by it
        found = weights(training, part - mean) if solve is None else solve(training, part - mean)
        out[:, block] = z_new @ found + mean
    return out


def weights(training: Training, y: np.ndarray) -> np.ndarray:
    """Weights of the standardised live voxels for centred targets `y` (row, target).

    Returns
    -------
    (live, target)
        Zero for voxels that were not selected.
    """
    if training.operator is not None:
        return training.operator @ y
    z, p = training.z, training.n_selected
    covariance = z.T @ y
    covariance /= len(z) - 1
    chosen = select_top(np.abs(covariance.T), p)
    if training.inverse is not None:
        return _by_complement(training.inverse, covariance, chosen)
    out = np.zeros_like(covariance)
    work = np.empty((p, p))
    for target, voxels in enumerate(chosen):
        right = covariance[voxels, target]
        if not right.any():
            continue
        if p >= len(z) - 1:
            solution = _dual(z[:, voxels], y[:, target])
        else:
            if training.gram is None:
                part = z[:, voxels]
                np.matmul(part.T, part, out=work)
                work /= len(z) - 1
            else:
                gather(training.gram, voxels, work)
            solution = right if solve_in_place(work, right) else None
        if solution is None:
            solution = _minimum_norm(z[:, voxels], y[:, target])
        out[voxels, target] = solution
    return out


def _by_complement(inverse: np.ndarray, covariance: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The weights from K = G^-1 of all voxels and a factorisation of the left-out block only.

    With S selected and D left out, G_SS^-1 c = (K_SS - K_SD K_DD^-1 K_DS) c: two products with
    K for all targets at once, and per target the system K_DD.
    """
    n_live, n_targets = covariance.shape
    left_out = np.ones((n_targets, n_live), dtype=bool)
    np.put_along_axis(left_out, chosen, False, axis=1)
    right = np.where(left_out.T, 0.0, covariance)
    whole = (inverse @ right).T
    d = n_live - chosen.shape[1]
    work = np.empty((d, d))
    for target in range(n_targets):
        voxels = np.flatnonzero(left_out[target])
        part = whole[target, voxels]
        gather(inverse, voxels, work)
        if not solve_in_place(work, part, smallest=0.0):
            raise ValueError("the left-out block of a well-conditioned inverse is not positive")
        right[voxels, target] = -part
    out = inverse @ right
    out[left_out.T] = 0.0
    return out


def _operator(z: np.ndarray) -> np.ndarray:
    """Least squares on all columns of `z` (row, voxel) as a matrix (voxel, row) on centred y."""
    n, n_live = z.shape
    if n_live == 0:
        return z.T.copy()  # nothing varies: the prediction is the mean
    if n_live < n - 1:
        right = z.copy()
        if solve_in_place(z.T @ z, right):
            return right.T
    else:
        solution = _dual(z, np.eye(n))
        if solution is not None:
            return solution
    return linalg.pinv(z)


def _inverse(gram: np.ndarray) -> np.ndarray | None:
    """Inverse of a Gram matrix, or None where it is too ill-conditioned to be used."""
    right = np.eye(len(gram))
    if not solve_in_place(gram.copy(), right):
        return None
    condition = np.abs(gram).sum(axis=0).max() * np.abs(right).sum(axis=0).max()
    return (right + right.T) / 2 if condition < LARGEST_CONDITION else None


def _dual(z: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Minimum-norm weights z'(zz')^-1 y of at least as many columns as rows, or None.

    Centred rows sum to zero, so zz' has the null vector 1: adding a multiple of 11' makes it
    regular and changes nothing for a centred y.
    """
    kernel = z @ z.T
    kernel += np.trace(kernel) / len(z) ** 2
    right = np.array(y.T, order="C")
    return z.T @ right.T if solve_in_place(kernel, right) else None


def _minimum_norm(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Singular values, as scikit-learn's LinearRegression: voxels that repeat one another."""
    return linalg.lstsq(z, y, cond=max(z.shape) * np.finfo(np.float64).eps)[0]


@njit(nogil=True, cache=True)
def gather(matrix: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
    """Upper triangle (in C order) of matrix[index][:, index] into `out`."""
    for i in range(len(index)):
        row = index[i]
        for j in range(i, len(index)):
            out[i, j] = matrix[row, index[j]]
