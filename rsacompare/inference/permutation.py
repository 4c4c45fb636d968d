"""The null: stimuli of the network re-indexed, for every cell by the same permutations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsacompare.inference.bootstrap import group_mean
from rsacompare.inference.family import Family, Key
from rsacompare.kernels import resample
from rsacompare.metrics.many import score_permuted

BLOCK = 500  # a constant, as for the bootstrap


def null_block(family: Family, seed: int, index: int, size: int) -> np.ndarray:
    """Group means of one block of permutations: (permutation, roi, layer)."""
    scores = cell_block(family, seed, index, size)
    return np.stack([group_mean(scores[:, rows]) for rows in family.place.values()], axis=1)


def cell_block(family: Family, seed: int, index: int, size: int) -> np.ndarray:
    """Scores of every cell under one block of permutations: (permutation, cell)."""
    scores = np.full((size, len(family.evidence)), np.nan)
    for key, pool in family.pool.items():
        fold = family.fold[key]
        if shared(family, key):
            rng = resample.stream(seed, "permutation", "stimuli", pool.ids, index)
            orders = pool.restrict(pool.permutations(rng, size, pool.fold(fold)))
        else:
            rng = resample.stream(seed, "permutation", "stimuli", family.ids[key], index)
            orders = pool.own_permutations(rng, size, fold)
        places = [i for i, k in enumerate(family.stimuli) if k == key]
        scores[:, places] = score_permuted([family.evidence[i] for i in places], orders)
    return scores


def shared(family: Family, key: Key) -> bool:
    """Whether the key's orders are those of all cells of its pool.

    Folds of cells that lack different stimuli are other folds: they have no order in common.
    """
    return family.pool[key].whole or family.fold[key] is None


def apart(family: Family, kind: str = "permutation") -> list[str]:
    """ROIs some of whose subjects have orders, or phases, that the others do not share."""
    found = []
    for roi, rows in family.place.items():
        keys = {family.stimuli[int(p)] for p in rows.ravel()}
        # runs of cells that lack different time points are other runs
        free = any(
            not (family.pool[k].whole if kind == "phase" else shared(family, k)) for k in keys
        )
        if free and len(keys) > 1:
            found.append(roi)
    return found


def notes(family: Family, kind: str) -> list[str]:
    """That subjects who lack different stimuli have a null of an upper bound."""
    rois = apart(family, kind)
    why = "runs" if kind == "phase" else "folds"
    return [
        f"{family.metric}: in {', '.join(rois)} subjects lack different stimuli, so that their "
        f"{why} differ and their nulls cannot be drawn together; the null of their mean was "
        "widened to what it could be at most if they were. Score the stimuli that all have, for "
        "a null that is no wider than it must be."
    ] * bool(rois)


def widen_apart(
    family: Family, null: np.ndarray, cells: np.ndarray, rois: Sequence[str]
) -> np.ndarray:
    """The null of ROIs whose subjects have orders of their own, as wide as shared ones could be.

    Parameters
    ----------
    family : Family
    null : (permutation, roi, layer)
    cells : (permutation, cell)
        Scores of every cell under one block of the orders.
    rois : sequence of str
        See :func:`apart`.

    Returns
    -------
    (permutation, roi, layer) ndarray

    Notes
    -----
    What subjects saw in common is one sample of stimuli: a network that resembles it by chance does
    so in all of them. Independent orders average that chance away: the standard deviation of the
    group mean is √Σ s_k², s_k being that of what the subjects of one set of stimuli add to it,
    where shared orders give Σ s_k at most. Draws are spread about their mean by the ratio of the
    two: an upper bound, as for cross-validation. Without it a .05 test of five subjects, each of
    whom lacks another stimulus, rejected at .12 (`tests/inference/test_shared_chance.py`).
    """
    out = null.copy()
    for roi in rois:
        r = family.rois.index(roi)
        for i, row in enumerate(family.place[roi]):
            own: dict[Key, list[int]] = {}
            for place in row.tolist():
                if np.isfinite(cells[:, place]).all():
                    own.setdefault(family.stimuli[place], []).append(place)
            spreads = np.array([cells[:, p].sum(axis=1).std() for p in own.values()])
            if spreads.any():
                factor = spreads.sum() / np.sqrt((spreads**2).sum())
                mean = null[:, r, i].mean()
                out[:, r, i] = mean + factor * (null[:, r, i] - mean)
    return out


def widen_cross_validated(family: Family, null: np.ndarray) -> np.ndarray:
    """The null of ROIs with cross-validated cells, √2 times as wide about its mean.

    Parameters
    ----------
    family : Family
    null : (permutation, roi, layer)

    Returns
    -------
    (permutation, roi, layer) ndarray

    Notes
    -----
    With a split, predictions of test stimuli do not know the test data, and re-indexing these is
    exact. Cross-validated predictions come from the other folds' data: up to scale the score is
    Σ_{f≠g} y_f' M_fg y_g over folds f, g, where the data y stand on both sides. Under the null
    its variance is Σ_{f<g} |M_fg + M_gf'|², at most twice the Σ_{f≠g} |M_fg|² that re-indexing
    within folds without refitting gives, and close to twice, since M is nearly symmetric (it is
    for ridge). Without this a .05 test rejects at .09 to .14
    (`tests/calibration/test_phantom_calibration.py`).
    """
    wide = [
        any(family.fold[family.stimuli[p]] is not None for p in rows.ravel())
        for rows in family.place.values()
    ]
    factor = np.where(wide, np.sqrt(2.0), 1.0)[:, None]
    mean = null.mean(axis=0)
    return np.where(factor > 1, mean + factor * (null - mean), null)


def standardised(
    score: np.ndarray, null: np.ndarray, better: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and null draws by the mean and sd of each cell's own null, larger being closer.

    Parameters
    ----------
    score : (...)
    null : (permutation, ...)
    better : 1 or -1

    Returns
    -------
    z : (...)
        NaN where there is no score, no null, or a null that never varies: no test.
    z_null : (permutation, ...)
        NaN there too.
    """
    score, null = better * np.asarray(score), better * null
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, sd = null.mean(axis=0), null.std(axis=0)
        # a score that no permutation changes varies in its last digits alone
        sd = np.where((sd > 1e-12 * np.abs(mean)) & np.isfinite(score), sd, np.nan)
        return (score - mean) / sd, (null - mean) / sd


def family_p(family: Family, score: np.ndarray, null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`p_values` of networks, and by themselves those of baselines: p, p_fwer (roi, layer)."""
    p, p_fwer = np.full(score.shape, np.nan), np.full(score.shape, np.nan)
    for own in family.layer_groups:
        p[:, own], p_fwer[:, own] = p_values(score[:, own], null[:, :, own], family.better)
    return p, p_fwer


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
    z, z_null = standardised(score, null, better)
    score, null = better * score, better * null
    # the same arrangement may come out of another sum with other last digits
    slack = 1e-12 * np.maximum(np.abs(score), 1.0)
    p = (1 + (null >= score - slack).sum(axis=0)) / (len(null) + 1)
    highest = np.fmax.reduce(z_null.reshape(len(null), -1), axis=1)
    p_fwer = (1 + (highest[:, None, None] >= z - 1e-12).sum(axis=0)) / (len(null) + 1)
    defined = np.isfinite(score) & np.isfinite(null).all(axis=0)
    return np.where(defined, p, np.nan), np.where(defined & np.isfinite(z), p_fwer, np.nan)
