"""Ridge regression on each target's own best voxels, from one shared Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import linalg

from rsacompare.kernels import gram
from rsacompare.kernels.cholesky import solve_in_place
from rsacompare.kernels.columns import correlate_columns
from rsacompare.kernels.gram import Training, gather, select_top


def predict(
    training: Training, y: np.ndarray, x_new: np.ndarray, alpha: float | np.ndarray
) -> np.ndarray:
    """Predict targets for new rows, as :func:`gram.predict`, by ridge.

    Parameters
    ----------
    training : Training
        Made with ``least_squares=False``.
    y : (row, target)
    x_new : (row_new, voxel)
    alpha : float or (target,), positive

    Returns
    -------
    (row_new, target)
    """
    penalty = np.broadcast_to(np.asarray(alpha, dtype=np.float64), y.shape[1:])
    out = np.empty((len(x_new), y.shape[1]))
    for value in np.unique(penalty):
        own = penalty == value
        solve = partial(weights, alpha=float(value))
        out[:, own] = gram.predict(training, y[:, own], x_new, solve)
    return out


def weights(training: Training, y: np.ndarray, *, alpha: float) -> np.ndarray:
    """Ridge weights of the standardised live voxels for centred targets, each on its best voxels.

    ``||y − Zw||² + alpha ||w||²`` over the voxels of the largest |r|, as in FastL2LiR (FACTS 3.1).
    There the row of ones is penalised too; with everything centred its weight is 0 either way.

    Parameters
    ----------
    training : Training
        Made with ``least_squares=False``.
    y : (row, target), centred
    alpha : float, positive

    Returns
    -------
    (live, target)

    Raises
    ------
    ValueError
        A penalty that is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    z, p = training.z, training.n_selected
    n = len(z)
    covariance = z.T @ y
    if p == len(covariance):
        return _all_voxels(training, y, covariance, alpha) if p else covariance
    out = np.zeros_like(covariance)
    chosen = select_top(np.abs(covariance.T), p)
    work = np.zeros((p, p))  # its lower triangle is multiplied, though never read
    for target, voxels in enumerate(chosen):
        right = covariance[voxels, target]
        if training.gram is None:
            part = z[:, voxels]
            np.matmul(part.T, part, out=work)
        else:
            gather(training.gram, voxels, work)
            work *= n - 1
        work.flat[:: p + 1] += alpha
        if not solve_in_place(work, right, smallest=0.0):
            right = _augmented(z[:, voxels], y[:, target], alpha)
        out[voxels, target] = right
    return out


def choose_alpha(
    trainings: dict[int, Training],
    x: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    alphas: Sequence[float],
) -> np.ndarray:
    """The penalty of each target by cross-validation: the largest mean validation correlation.

    Parameters
    ----------
    trainings : {fold: Training}
        Of the rows outside each fold (:func:`gram.train_folds`): the voxels are selected anew in
        every fold.
    x : (row, voxel)
    y : (row, target)
    fold : (row,) int
    alphas : sequence of float

    Returns
    -------
    (target,)
        Among equals the largest; the largest too for a target that no fold can score.
    """
    ordered = np.sort(np.asarray(alphas, dtype=np.float64))[::-1]
    total = np.zeros((len(ordered), y.shape[1]))
    for label, training in trainings.items():
        held = fold == label
        for i, alpha in enumerate(ordered):
            got = predict(training, y[~held], x[held], alpha)
            total[i] += np.nan_to_num(correlate_columns(y[held], got))
    return ordered[total.argmax(axis=0)]


def _all_voxels(
    training: Training, y: np.ndarray, covariance: np.ndarray, alpha: float
) -> np.ndarray:
    """One factorisation for all targets, of whichever side is smaller."""
    z = training.z
    if training.gram is None or len(z) < z.shape[1]:
        kernel = z @ z.T
        kernel.flat[:: len(z) + 1] += alpha
        right = np.array(y.T, order="C")
        solved = solve_in_place(kernel, right, smallest=0.0)
        return z.T @ right.T if solved else _augmented(z, y, alpha)
    system = training.gram * (len(z) - 1)
    system.flat[:: len(system) + 1] += alpha
    right = np.array(covariance.T, order="C")
    return right.T if solve_in_place(system, right, smallest=0.0) else _augmented(z, y, alpha)


def _augmented(z: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """By singular values: a penalty within rounding of voxels that repeat one another."""
    rows = np.vstack([z, np.sqrt(alpha) * np.eye(z.shape[1])])
    return linalg.lstsq(rows, np.concatenate([y, np.zeros((z.shape[1], *y.shape[1:]))]))[0]
