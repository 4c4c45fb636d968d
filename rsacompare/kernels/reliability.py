"""Split-half reliability over repetitions, stepped up to all repetitions (Spearman–Brown)."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def spearman_brown(r: np.ndarray, factor: float) -> np.ndarray:
    """Reliability of `factor` times as many repetitions as those that correlate at `r`.

    Parameters
    ----------
    r : ndarray
        Correlation of two halves.
    factor : float
        2 where the halves hold all repetitions.

    Returns
    -------
    ndarray
        factor·r / (1 + (factor − 1)·r), no lower than −1: the formula runs to minus infinity as
        r falls to −1 / (factor − 1), which few stimuli alone can bring about.

    Notes
    -----
    Spearman 1910; Brown 1910.

    Examples
    --------
    >>> spearman_brown(np.array([0.5, 0.0, -0.9]), 2).round(3)
    array([ 0.667,  0.   , -1.   ])
    """
    r = np.maximum(np.asarray(r, dtype=np.float64), -1.0 / (2.0 * factor - 1.0))
    return factor * r / (1.0 + (factor - 1.0) * r)


def split_half(
    values: np.ndarray, stimulus: np.ndarray, n_splits: int, rng: np.random.Generator
) -> np.ndarray:
    """Reliability over stimuli of the mean over repetitions, per voxel.

    In each split the repetitions of every stimulus are dealt at random into two halves of equal
    size (an odd one is left out); the halves' means are correlated over stimuli. The mean of r
    over splits is stepped up to all repetitions.

    Parameters
    ----------
    values : (presentation, voxel)
    stimulus : (presentation,)
        Which stimulus each row shows. Those shown once are left out.
    n_splits : int
    rng : numpy.random.Generator

    Returns
    -------
    (voxel,)
        Estimates s² / (s² + σ²·mean(1/n)) with the variance s² of the signal over stimuli, σ² of
        the noise over repetitions and n repetitions a stimulus. NaN for a voxel that does not
        vary, and for all where fewer than three stimuli are repeated. The step up is concave, so
        that pure noise comes out below zero, on average by about 1.5 / stimuli.

    Raises
    ------
    ValueError
        Shapes that do not fit; fewer than one split.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or np.shape(stimulus) != (len(values),):
        raise ValueError(
            f"values must be (presentation, voxel) with a stimulus a row, got {values.shape} and "
            f"{np.shape(stimulus)}"
        )
    if n_splits < 1:
        raise ValueError(f"n_splits must be 1 at least, got {n_splits}")
    _, group, counts = np.unique(stimulus, return_inverse=True, return_counts=True)
    repeated = counts > 1
    if repeated.sum() < 3:
        return np.full(values.shape[1], np.nan)
    keep = repeated[group]
    values = values[keep]
    group, counts = (np.cumsum(repeated) - 1)[group[keep]], counts[repeated]
    half = counts // 2
    # equal halves carry the noise σ²·mean(1/half); all repetitions carry σ²·mean(1/count)
    factor = float(np.mean(1.0 / half) / np.mean(1.0 / counts))
    values = values - values.mean(axis=0)
    scale = np.abs(values).max(axis=0, initial=0.0)
    total, used = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for _ in range(n_splits):
        first, second = _halves(group, counts, half, rng)
        r = _columns(first @ values, second @ values, scale)
        live = np.isfinite(r)
        total[live] += r[live]
        used += live
    with np.errstate(invalid="ignore", divide="ignore"):
        return spearman_brown(total / used, factor)


def _halves(
    group: np.ndarray, counts: np.ndarray, half: np.ndarray, rng: np.random.Generator
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Two averaging matrices (stimulus, presentation) over repetitions that do not overlap."""
    order = np.lexsort((rng.random(len(group)), group))
    place = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    stimulus = group[order]
    shape = (len(counts), len(group))
    made = []
    for low in (0, 1):
        mine = (place >= low * half[stimulus]) & (place < (low + 1) * half[stimulus])
        weight = 1.0 / half[stimulus[mine]]
        made.append(sparse.csr_matrix((weight, (stimulus[mine], order[mine])), shape=shape))
    return made[0], made[1]


def _columns(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column; NaN where one side is constant up to rounding."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    norm = np.sqrt((x * x).sum(axis=0)), np.sqrt((y * y).sum(axis=0))
    live = np.minimum(*norm) > 1e-12 * scale
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(live, (x * y).sum(axis=0) / (norm[0] * norm[1]), np.nan)


def single_repetition(mean: np.ndarray, variance: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Correlation to be expected between two single repetitions, per voxel, in closed form.

    Parameters
    ----------
    mean : (stimulus, voxel)
        Over the repetitions of each stimulus.
    variance : (stimulus, voxel)
        Across repetitions (ddof 1); NaN for a stimulus shown once.
    n : (stimulus,) int
        Repetitions.

    Returns
    -------
    (voxel,)
        s² / (s² + σ²) over the stimuli shown twice at least: σ² the mean of `variance`, s² the
        variance of the means less σ²·mean(1/n), no lower than 0 (an intraclass correlation). NaN
        where fewer than three stimuli are repeated and for a voxel that does not vary. The ceiling
        of FACTS 6.2 is the root of the same with σ²/n in the place of σ².
    """
    repeated = np.asarray(n) > 1
    if repeated.sum() < 3:
        return np.full(mean.shape[1], np.nan)
    noise = variance[repeated].mean(axis=0)
    held = mean[repeated]
    signal = np.maximum(held.var(axis=0, ddof=1) - noise * np.mean(1.0 / n[repeated]), 0.0)
    live = held.max(axis=0) > held.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(live, signal / (signal + noise), np.nan)
