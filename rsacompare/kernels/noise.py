"""The covariance of the noise over channels, from residuals, and patterns whitened by it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import cho_solve, eigh, solve_triangular

_SINGULAR = 1e-10  # eigenvalues below this share of the largest are rounding


def covariance(
    residuals: np.ndarray, method: str = "shrinkage_diag", dof: int | None = None
) -> np.ndarray:
    """Covariance over channels of residuals, shrunk where asked.

    Parameters
    ----------
    residuals : (row, channel)
        What is left of measurements after their model: of a time series after a GLM, or of
        repetitions after the mean of their stimulus. The mean over rows is removed.
    method : str
        A name of `NOISE`: `full` (sample covariance), `diag` (variances alone), `shrinkage_eye`
        (Ledoit & Wolf 2004: towards a multiple of the identity), `shrinkage_diag` (Schäfer &
        Strimmer 2005: towards the diagonal).
    dof : int, optional
        Degrees of freedom; rows − 1 when absent. Rows − stimuli for repetitions.

    Returns
    -------
    (channel, channel)

    Raises
    ------
    ValueError
        An unknown method, no degree of freedom, or a channel without any variance.

    Notes
    -----
    The same numbers as ``rsatoolbox.data.noise.cov_from_residuals``; its loop over rows is two
    matrix products here.

    Examples
    --------
    >>> covariance(np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]]), "full")
    array([[0.66666667, 0.        ],
           [0.        , 2.66666667]])
    """
    if method not in NOISE:
        raise ValueError(f"unknown noise covariance '{method}'; there are {', '.join(NOISE)}")
    x = np.asarray(residuals, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"residuals must be (row, channel) of two or more rows, got {x.shape}")
    dof = len(x) - 1 if dof is None else dof
    if dof < 1:
        raise ValueError(f"{len(x)} residuals leave {dof} degrees of freedom")
    largest = np.abs(x).max(axis=0)
    x = x - x.mean(axis=0)
    still = np.abs(x).max(axis=0) <= 1e-13 * largest
    if still.any():
        raise ValueError(f"{np.count_nonzero(still)} of {len(still)} channels have no noise at all")
    return NOISE[method](x, dof)


def _full(x: np.ndarray, dof: int) -> np.ndarray:
    return x.T @ x / dof


def _diag(x: np.ndarray, dof: int) -> np.ndarray:
    return np.diag(np.einsum("ij,ij->j", x, x) / dof)


def _towards_identity(x: np.ndarray, dof: int) -> np.ndarray:
    n, p = x.shape
    s = x.T @ x / n
    square = x * x
    spread = ((square.T @ square) / n - s * s).sum() / n
    mean = np.trace(s) / p
    distance = ((s - mean * np.eye(p)) ** 2).sum()
    share = min(distance, spread) / distance if distance > 0 else 1.0
    return (share * mean * np.eye(p) + (1 - share) * s) * n / dof


def _towards_diagonal(x: np.ndarray, dof: int) -> np.ndarray:
    n, p = x.shape
    s = x.T @ x / dof
    sd = np.sqrt(np.diag(s))
    z = x / sd
    square = z * z
    mean = z.T @ z / (n - 1)
    spread = n / dof**2 * ((square.T @ square) / (n - 1) - mean**2)
    off = ~np.eye(p, dtype=bool)
    total = (mean[off] ** 2).sum()
    share = float(np.clip(spread[off].sum() / total, 0.0, 1.0)) if total > 0 else 1.0
    return s * (np.eye(p) + (1 - share) * off)


NOISE: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "shrinkage_diag": _towards_diagonal,
    "shrinkage_eye": _towards_identity,
    "diag": _diag,
    "full": _full,
}
"""Estimators of a noise covariance by name: ``f(centred residuals (row, channel), dof)``."""


def whiten(patterns: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Patterns whose dot products are `x Σ⁻¹ y'`.

    Parameters
    ----------
    patterns : (..., channel)
    cov : (channel, channel)

    Returns
    -------
    (..., channel)

    Raises
    ------
    ValueError
        A covariance that is singular, up to rounding: channels that are copies or mixtures of
        others, or fewer degrees of freedom than channels.
    """
    sd, root = _root(cov)
    flat = (patterns / sd).reshape(-1, len(cov))
    return solve_triangular(root, flat.T, lower=True).T.reshape(patterns.shape)


def precise(patterns: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Patterns times the inverse of the noise covariance, `x Σ⁻¹`.

    Parameters
    ----------
    patterns : (..., channel)
    cov : (channel, channel)

    Returns
    -------
    (..., channel)

    Raises
    ------
    ValueError
        As `whiten`.
    """
    sd, root = _root(cov)
    flat = (patterns / sd).reshape(-1, len(cov))
    return (cho_solve((root, True), flat.T).T / sd).reshape(patterns.shape)


def _root(cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations, and the lower Cholesky factor of the correlations."""
    sd = np.sqrt(np.diag(cov))
    alike = cov / np.outer(sd, sd)  # so that a channel of small numbers is not taken for rounding
    lowest, highest = eigh(alike, eigvals_only=True)[[0, -1]]
    if not lowest > _SINGULAR * highest:
        raise ValueError(
            f"the noise covariance of {len(cov)} channels is singular (smallest eigenvalue "
            f"{lowest / highest:.1g} of the largest)"
        )
    return sd, np.linalg.cholesky(alike)
