"""The null: stimuli of the network re-indexed, for every cell by the same permutations."""

from __future__ import annotations

import numpy as np

from rsacompare.inference.bootstrap import group_mean
from rsacompare.inference.family import Family
from rsacompare.kernels import resample
from rsacompare.metrics.many import score_permuted

BLOCK = 500  # a constant, as for the bootstrap


def null_block(family: Family, seed: int, index: int, size: int) -> np.ndarray:
    """Group means of one block of permutations: (permutation, roi, layer)."""
    scores = np.full((size, len(family.evidence)), np.nan)
    for key, ids in family.ids.items():
        rng = resample.stream(seed, "permutation", "stimuli", ids, index)
        orders = resample.permutations(rng, len(ids), size, family.fold[key])
        places = [i for i, k in enumerate(family.stimuli) if k == key]
        scores[:, places] = score_permuted([family.evidence[i] for i in places], orders)
    return np.stack([group_mean(scores[:, rows]) for rows in family.place.values()], axis=1)


def p_values(score: np.ndarray, null: np.ndarray, better: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """One-sided p of every cell, and corrected over the whole family by the maximum.

    Parameters
    ----------
    score : (roi, layer)
    null : (permutation, roi, layer)
    better : 1 or -1

    Returns
    -------
    p, p_fwer : (roi, layer)
        (1 + #{null at least as good}) / (permutations + 1). For the maximum, cells are
        standardised by the mean and sd of their own null, so that a noisy ROI does not set the
        threshold for all.
    """
    score, null = better * score, better * null
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, sd = null.mean(axis=0), null.std(axis=0)
        z, z_null = (score - mean) / sd, (null - mean) / sd
    # the same arrangement may come out of another sum with other last digits
    slack = 1e-12 * np.maximum(np.abs(score), 1.0)
    p = (1 + (null >= score - slack).sum(axis=0)) / (len(null) + 1)
    highest = np.fmax.reduce(z_null.reshape(len(null), -1), axis=1)
    p_fwer = (1 + (highest[:, None, None] >= z - 1e-12).sum(axis=0)) / (len(null) + 1)
    defined = np.isfinite(score) & np.isfinite(null).all(axis=0)
    return np.where(defined, p, np.nan), np.where(defined & np.isfinite(z), p_fwer, np.nan)
