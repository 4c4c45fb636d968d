"""Principal components of the training features, scaled as Wen et al. (2018) scale them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh


@dataclass(frozen=True)
class Components:
    """Axes learnt from training features; :meth:`project` takes any features to them."""

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    share: np.ndarray

    def project(self, features: np.ndarray) -> np.ndarray:
        """(stimulus, unit) to (stimulus, component), divided by the root of the number of units."""
        z = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        return z @ self.axes / np.sqrt(len(self.mean))


def fit_components(train: np.ndarray, variance: float = 0.99) -> Components:
    """Principal components that hold more than a share of the variance of standardised units.

    Per unit the mean is taken off and the standard deviation (n − 1; 1 where it is 0) divided
    out; of the components the first few are kept whose shares add up to more than `variance`
    (FACTS 6.1).

    Parameters
    ----------
    train : (stimulus, unit)
    variance : float
        Above 0; 1 keeps all that have any.

    Returns
    -------
    Components
        `share` (component,): of the variance, of those that are kept. Signs are fixed: the
        largest loading of an axis is positive. A layer that never varies has one component, 0.

    Raises
    ------
    ValueError
        Fewer than two stimuli; a share outside (0, 1].
    """
    train = np.asarray(train, dtype=np.float64)
    if train.ndim != 2 or len(train) < 2:
        raise ValueError(f"components are of (stimulus, unit) from 2 stimuli, got {train.shape}")
    if not 0 < variance <= 1:
        raise ValueError(f"variance must lie above 0 and up to 1, got {variance}")
    n, p = train.shape
    mean = train.mean(axis=0)
    flat = train.max(axis=0) == train.min(axis=0)  # a mean of equal numbers may differ from them
    mean = np.where(flat, train[0], mean)
    sd = train.std(axis=0, ddof=1)
    scale = np.where(flat | (sd == 0), 1.0, sd)
    z = (train - mean) / scale
    if p <= n:
        power, vectors = eigh(z.T @ z, check_finite=False)
        power, axes = power[::-1], vectors[:, ::-1]
        keep = _kept(power, variance)
        axes = axes[:, :keep]
    else:
        power, vectors = eigh(z @ z.T, check_finite=False)
        power, vectors = power[::-1], vectors[:, ::-1]
        keep = _kept(power, variance)
        norm = np.sqrt(np.maximum(power[:keep], np.finfo(float).tiny))
        axes = z.T @ (vectors[:, :keep] / norm)
    if power[0] <= 0:
        axes = np.zeros((p, 1))
    sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    axes = axes * np.where(sign == 0, 1.0, sign)
    total = np.maximum(power, 0).sum()
    share = power[:keep] / total if total > 0 else np.zeros(1)
    return Components(mean, scale, axes, share)


def _kept(power: np.ndarray, variance: float) -> int:
    """How many components hold more than the share; never one that is zero but for rounding."""
    real = power > max(power[0], 0.0) * len(power) * np.finfo(float).eps
    total = np.maximum(power, 0).cumsum()
    if total[-1] <= 0:
        return 1
    enough = np.flatnonzero(total / total[-1] > variance)
    wanted = int(enough[0]) + 1 if enough.size else len(power)
    return max(1, min(wanted, int(real.sum())))
