"""Non-negative combinations of RDMs that agree best with another."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from rsacompare.kernels.pairs import checked_rdms, features, n_stimuli

FITS = ("cosine", "corr", "cosine_cov", "corr_cov")
"""Comparators that a combination can be fitted for; ranks are not linear in the RDMs."""


def nonnegative(models: np.ndarray, target: np.ndarray, comparator: str) -> np.ndarray:
    """Weights >= 0 of the model RDMs whose sum agrees best with the target.

    Parameters
    ----------
    models : (model, pair)
    target : (pair,)
    comparator : str
        One of `FITS`.

    Returns
    -------
    (model,)
        Of sum 1; all 0 where nothing but a negative combination would agree. NaN where the
        target or a model does not vary.

    Raises
    ------
    ValueError
        Another comparator; shapes that do not fit; NaN.

    Notes
    -----
    Each of these comparators is a cosine in some space of features linear in the RDM, and the
    direction of a convex cone closest to a vector is that of its projection: non-negative least
    squares (rsatoolbox finds the same by searching, ``fit_optimize_positive``).
    """
    if comparator not in FITS:
        raise ValueError(f"no linear fit for '{comparator}'; there are {', '.join(FITS)}")
    x = checked_rdms(np.vstack([models, target[None]]), "models and target")
    ones = np.ones((1, n_stimuli(x.shape[1])))
    _, block = next(features(x, ones, comparator))
    z = block[0].copy()
    if not np.isfinite(z).all():
        return np.full(len(models), np.nan)
    length = np.einsum("vq,vq->v", z[:, : x.shape[1]], x)  # norm of what the feature is made of
    found = nnls(z[:-1].T, z[-1])[0] / length[:-1]
    return found / found.sum() if found.any() else found
