"""Bootstrap over crossed sources of chance: draws, the corrected variance, t intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import stats

Sources = frozenset[str]
ORDER = ("subjects", "stimuli", "units")


def ordered(sources: Iterable[str]) -> list[str]:
    """Subjects, stimuli, units, then whatever else a guest's evidence names."""
    return sorted(sources, key=lambda s: (ORDER.index(s) if s in ORDER else len(ORDER), s))


def subsets(sources: Iterable[str]) -> list[Sources]:
    """All non-empty subsets, small ones first."""
    items = ordered(sources)
    return [frozenset(c) for k in range(1, len(items) + 1) for c in combinations(items, k)]


def name(sources: Sources) -> str:
    """`subjects+stimuli`."""
    return "+".join(ordered(sources))


def corrected_variance(
    variances: Mapping[Sources, np.ndarray], levels: Mapping[str, int | np.ndarray] | None
) -> np.ndarray:
    """Variance of a statistic over crossed sources from the bootstraps of every subset of them.

    A bootstrap of several sources at once counts their interactions more than once. With V_T the
    variance when the sources in T are resampled together, I_T = Σ_{U⊆T} (−1)^{|T|−|U|} V_U is
    the part that belongs to T alone, and ::

        V = Σ_T (−1)^{|T|+1} I_T / Π_{t∈T} (1 − 1/n_t)

    is unbiased in a crossed random-effects layout. For two sources it is the formula of Schütt
    et al. (2023, FACTS 7.3); for three and large n it is 4 ΣV_i − 2 ΣV_ij + V_ijk.

    Parameters
    ----------
    variances : {sources: (...)}
        One entry for every non-empty subset of the sources.
    levels : {source: n} or None
        Number of levels resampled; None for the large-n form.

    Returns
    -------
    (...) ndarray

    Notes
    -----
    The result is clipped from below at the largest corrected single-source variance, then from
    above at the joint variance *with each of its parts corrected for n too* (Σ I_T / Π f_t).
    rsatoolbox clips at the uncorrected joint variance: with 5 subjects whose differences
    dominate, that takes a fifth off the variance and makes a .05 test reject at about .07
    (`tests/calibration`).
    """
    sources = frozenset().union(*variances)
    shrink = {s: 1.0 if levels is None else 1 - 1 / np.asarray(levels[s]) for s in sources}
    total: np.ndarray | float = 0.0
    joint: np.ndarray | float = 0.0
    lowest: np.ndarray | float = 0.0
    for subset in subsets(sources):
        own = sum((-1) ** (len(subset) - len(part)) * variances[part] for part in subsets(subset))
        for source in subset:
            own = own / shrink[source]
        total = total + (-1) ** (len(subset) + 1) * own
        joint = joint + own
        if len(subset) == 1:
            lowest = np.maximum(lowest, own)
    if len(sources) == 1:
        return np.asarray(total)
    return np.minimum(np.maximum(total, lowest), np.maximum(joint, lowest))


def spread(draws: np.ndarray) -> np.ndarray:
    """Variance over the first axis (ddof 0) of the draws that could be scored.

    NaN where fewer than nine in ten could be.
    """
    finite = np.isfinite(draws)
    count = finite.sum(axis=0)
    values = np.where(finite, draws, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = values.sum(axis=0) / count
        square = (np.where(finite, draws - mean, 0.0) ** 2).sum(axis=0) / count
    return np.where(count >= 0.9 * len(draws), square, np.nan)


def t_interval(
    estimate: np.ndarray, se: np.ndarray, dof: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate ± t · se."""
    with np.errstate(invalid="ignore"):
        half = stats.t.ppf(0.5 + confidence / 2, dof) * se
    return estimate - half, estimate + half


def t_two_sided(estimate: np.ndarray, se: np.ndarray, dof: np.ndarray) -> np.ndarray:
    """P of a difference from 0: below 1 − confidence just when the t interval excludes 0.

    Without any spread the p is 1 for a difference of exactly 0, and 0 for any other.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * stats.t.sf(np.abs(estimate) / se, dof)
    return np.where((se == 0) & (estimate == 0), 1.0, p)


def group_mean(scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean over the last axis (subjects) of what is finite: (draw, ..., subject) → (draw, ...).

    Parameters
    ----------
    scores : (draw, ..., subject)
    weights : (draw, subject), optional
        Multiplicities of the subjects.
    """
    finite = np.isfinite(scores)
    counts = finite.astype(np.float64)
    if weights is not None:
        counts *= weights.reshape(len(weights), *[1] * (scores.ndim - 2), weights.shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(finite, scores, 0.0) * counts).sum(axis=-1) / counts.sum(axis=-1)


def available(
    cell_sources: Sequence[str], n_subjects: int, wanted: Sequence[str] | None
) -> tuple[str, ...]:
    """The sources to resample: what the evidence declares, and subjects where there are two."""
    have = [*(["subjects"] if n_subjects > 1 else []), *cell_sources]
    return tuple(s for s in have if wanted is None or s in wanted)
