"""How much more likely a difference than none makes the data: the JZS Bayes factor of each row."""

from __future__ import annotations

import numpy as np

from rsacompare.inference.inferred import Beside, Inferred

SCALE = np.sqrt(0.5)  # of the Cauchy prior on the standardised difference


def beside(inferred: Inferred) -> Beside:
    """Fills `bf10` of every row from its t and degrees of freedom.

    Notes
    -----
    The t is difference / SE with the corrected variance, which is no mean of dof + 1 independent
    differences: the effective n = dof + 1 is that of the smallest resampled source, and the prior
    on difference / (SE · √n) is a default. Read it as a translation of t, not as new evidence.
    """
    t = np.array([_ratio(row["difference"], row["se"]) for row in inferred.table])
    dof = np.array([row["dof"] for row in inferred.table], dtype=float)
    for row, factor in zip(inferred.table, jzs(t, dof), strict=True):
        row["bf10"] = float(factor)
    return Beside()


def _ratio(difference: float, se: float) -> float:
    return difference / se if se > 0 else np.nan


def jzs(t: np.ndarray, dof: np.ndarray, scale: float = float(SCALE)) -> np.ndarray:
    """Bayes factor of a one-sample t test, difference over none (Rouder et al. 2009, eq. 1).

    Parameters
    ----------
    t, dof : (row,)
        NaN, or no degree of freedom, gives NaN.
    scale : float
        Of the Cauchy prior on the standardised effect; the usual √.5.

    Returns
    -------
    (row,) ndarray

    Notes
    -----
    With g the variance of the effect relative to the noise, the integral over g is one over log g,
    whose integrand falls off at both ends faster than exp(−|x|): the trapezoidal rule is exact
    to rounding.

    Examples
    --------
    >>> round(float(jzs(np.array([3.5]), np.array([19.0]))[0]), 2)
    17.18
    """
    t, dof = np.asarray(t, dtype=float)[:, None], np.asarray(dof, dtype=float)[:, None]
    x = np.arange(-8.0, 90.0, 0.01)
    wider = 1 + (dof + 1) * scale**2 * np.exp(x)
    power = (dof + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        log = (
            power * (np.log1p(t**2 / dof) - np.log1p(t**2 / (wider * dof)))
            - 0.5 * (np.log(wider) + np.log(2 * np.pi) + x + np.exp(-x))
        )  # fmt: skip
        factor = np.trapezoid(np.exp(log), x, axis=1)
    return np.where((dof[:, 0] > 0) & np.isfinite(t[:, 0]), factor, np.nan)
