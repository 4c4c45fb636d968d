"""Many tests at once: step-down maxima, false discovery rates, and the family shown."""

from __future__ import annotations

import numpy as np
import xarray as xr
from statsmodels.stats.multitest import multipletests

from rsacompare.inference.inferred import Beside, Inferred
from rsacompare.inference.permutation import family_p, standardised

METHODS = {
    "none": "each cell by itself",
    "maximum": "family-wise: the maximum over all cells (single step)",
    "step-down": "family-wise: the maximum over the cells not yet found (Westfall & Young, 1993)",
    "BH": "share of false discoveries, positively dependent cells (Benjamini & Hochberg, 1995)",
    "BY": "share of false discoveries, any dependence (Benjamini & Yekutieli, 2001)",
}


def step_down(score: np.ndarray, null: np.ndarray, better: int = 1) -> np.ndarray:
    """P of every cell, corrected by the step-down maximum statistic.

    Cells are standardised by the mean and sd of their own null and taken from the best on; each
    is compared with the maximum, in every permutation, over itself and those that come after it,
    and its p is never smaller than that of one before it. Free step-down resampling (Westfall &
    Young 1993, algorithm 2.8; Nichols & Holmes 2002): strong control where null cells have the
    joint distribution that permuting gives them whichever others are true (subset pivotality),
    and never larger than the single-step p.

    Parameters
    ----------
    score : (roi, layer)
    null : (permutation, roi, layer)
    better : 1 or -1

    Returns
    -------
    (roi, layer)
        NaN for cells that are no tests.
    """
    z, z_null = standardised(score, null, better)
    tests = np.flatnonzero(np.isfinite(z.ravel()))
    out = np.full(z.size, np.nan)
    order = tests[np.argsort(-z.ravel()[tests], kind="stable")]
    draws = z_null.reshape(len(z_null), -1)
    highest = np.full(len(draws), -np.inf)
    for place in order[::-1]:  # from the least on: the maximum over it and all after it
        highest = np.maximum(highest, draws[:, place])
        out[place] = (1 + (highest >= z.ravel()[place] - 1e-12).sum()) / (len(draws) + 1)
    out[order] = np.maximum.accumulate(out[order])
    return out.reshape(z.shape)


def false_discovery(p: np.ndarray, method: str) -> np.ndarray:
    """P adjusted for the false discovery rate over all that are not NaN; of the shape of `p`.

    Parameters
    ----------
    p : (...)
    method : {"fdr_bh", "fdr_by"}
        Of `statsmodels.stats.multitest.multipletests`.

    Examples
    --------
    >>> false_discovery(np.array([0.01, np.nan, 0.04]), "fdr_bh").tolist()
    [0.02, nan, 0.04]
    """
    values = np.asarray(p, dtype=float)
    out = np.full(values.shape, np.nan)
    tests = np.isfinite(values)
    if tests.any():
        out[tests] = multipletests(values[tests], method=method)[1]
    return out


def corrections(inferred: Inferred) -> Beside:
    """All p of a metric's layer x ROI family against its null, and how many that makes."""
    family, score = inferred.family, inferred.statistics.observed.mean
    p, single = family_p(family, score, inferred.null)
    cells = {"p_null": p, "p_null_fwer": single}
    p = np.where(np.isfinite(single), p, np.nan)  # a cell that no permutation moves is no test
    found = {name: np.full(p.shape, np.nan) for name in ("p_null_step", "p_null_bh", "p_null_by")}
    for own in family.layer_groups:
        found["p_null_step"][:, own] = step_down(
            score[:, own], inferred.null[:, :, own], family.better
        )
        for name, method in (("p_null_bh", "fdr_bh"), ("p_null_by", "fdr_by")):
            found[name][:, own] = false_discovery(p[:, own], method)
    real = ~np.isin(family.network, list(family.baselines))
    p, single = p[:, real], single[:, real]
    n_tests = int(np.isfinite(single).sum())
    if not n_tests:
        return Beside(cells=cells | found)
    alpha = round(1 - inferred.options.confidence, 12)
    every = {"none": p, "maximum": single} | dict(
        zip(("step-down", "BH", "BY"), (v[:, real] for v in found.values()), strict=True)
    )
    beyond = {name: int((values < alpha).sum()) for name, values in every.items()}
    least = {name: float(np.nanmin(values)) for name, values in every.items()}
    layers, rois = (int(np.isfinite(single).any(axis=axis).sum()) for axis in (0, 1))
    family_text = f"The family: {counted(layers, 'layer')} × {counted(rois, 'ROI')}" + (
        f" = {counted(n_tests, 'cell')}"
        if n_tests == layers * rois
        else f", of which {counted(n_tests, 'cell')} can be tested"
    )
    beside = "" if real.all() else " (baselines are corrected by themselves)"
    table = {
        "correction": list(METHODS),
        "cells_beyond_chance": [beyond[name] for name in METHODS],
        "smallest_p": [f"{least[name]:.3g}" for name in METHODS],
        "controls": list(METHODS.values()),
    }
    extra = {
        "kind": "table",
        "metric": family.metric,
        "title": "How many layers and regions are beyond chance",
        "caption": f"{family_text}{beside}; beyond chance: p < {alpha:g}. The p values of all "
        "cells are in summary.csv (p_null, p_null_fwer) and summary_more.csv (p_null_step, "
        "p_null_bh, p_null_by).",
        "arrays": {name: xr.DataArray(values, dims="row") for name, values in table.items()},
    }
    return Beside(cells=cells | found, extras=[extra])


def counted(n: int, noun: str) -> str:
    """A number with its noun."""
    return f"{n:,} {noun if n == 1 else noun + 's'}"
