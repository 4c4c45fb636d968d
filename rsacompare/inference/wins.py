"""How often each of two networks is ahead: over ROIs, over layers and ROIs, over subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.inference.bootstrap import group_mean
from rsacompare.inference.estimate import rounding_of
from rsacompare.inference.inferred import Beside, Inferred, file_name
from rsacompare.inference.statistics import levels_of
from rsacompare.inference.table import difference_of

COUNTED = {"mean": "ROIs, mean over layers", "ordinal": "layers × ROIs, layer by layer"}
SUBJECTS = "subjects, mean over layers and ROIs"
COLUMNS = {
    "cells": "what is counted",
    "number": "how many of these both networks have a score in",
    "first_ahead": "in how many the first network's score is the closer one; equal scores count "
    "for neither",
    "first_closer": "in how many the verdict names the first network: corrected for the rows of "
    "its pairing",
    "first_majority_of_draws": "share of the bootstrap draws, of all sources together, in which "
    "the first network is ahead in more cells than the second",
}
CAPTION = (
    "Descriptive: in how many cells each network is ahead. The cells share stimuli, subjects and "
    "(where ROIs overlap) voxels, and layers of one network resemble each other: they are no "
    "independent pieces of evidence, so no binomial or sign test is made of the counts. The last "
    "column says how firm the majority is when the same subjects and stimuli are drawn anew; it is "
    "no p value."
)


def beside(inferred: Inferred) -> Beside:
    """A table of counts, rows per pair of networks."""
    rows: list[dict[str, Any]] = []
    for pair in dict.fromkeys((r.a, r.b) for r in inferred.rows):
        counted = [count_cells(inferred, pair, pairing) for pairing in COUNTED]
        rows += [row for row in (*counted, count_subjects(inferred, pair)) if row]
    if not rows:
        return Beside()
    arrays = {key: xr.DataArray([r[key] for r in rows], dims="row") for key in rows[0]}
    return Beside(
        extras=[
            {
                "kind": "table",
                "metric": inferred.family.metric,
                "title": "How often each network is ahead",
                "caption": CAPTION,
                "arrays": arrays,
                "columns": COLUMNS,
                "file": file_name(inferred, "wins"),
            }
        ]
    )


def count_cells(inferred: Inferred, pair: tuple[str, str], pairing: str) -> dict[str, Any] | None:
    """Counts over the rows of a pairing; None where it has none."""
    family, statistics = inferred.family, inferred.statistics
    own = [
        (row, entry)
        for row, entry in zip(inferred.rows, inferred.table, strict=True)
        if (row.a, row.b) == pair and row.pairing == pairing and np.isfinite(entry["difference"])
    ]
    if not own:
        return None
    lead = family.better * np.array([entry["difference"] for _, entry in own])
    verdicts = [entry["verdict"] for _, entry in own]
    # an ROI of one subject has fewer sources than others: what is not drawn there stays as it is
    ahead = []
    for row, _ in own:
        levels = levels_of(family, row.roi, inferred.options, row.layers)
        drawn = [s for s in statistics.draws if s <= levels.keys()]
        if drawn:
            values = statistics.draws[max(drawn, key=len)]
            r = family.rois.index(row.roi)
            gap = family.better * difference_of(family, row, statistics)(values)
            rounding = rounding_of(statistics, r, row.layers)
            ahead.append(np.where(np.abs(gap) > rounding, np.sign(gap), 0.0))
    majority = float(np.mean(np.sum(ahead, axis=0) > 0)) if ahead else np.nan
    return _row(pair, COUNTED[pairing], lead, majority) | {
        "first_closer": str(verdicts.count("a")),
        "second_closer": str(verdicts.count("b")),
    }


def count_subjects(inferred: Inferred, pair: tuple[str, str]) -> dict[str, Any] | None:
    """Counts over subjects, each by the mean over its ROIs of the mean over layers."""
    family = inferred.family
    scores = inferred.scores["score"].sel(metric=family.metric).transpose("subject", "roi", "layer")
    scores = scores.sel(layer=family.layers)
    means = [group_mean(_complete(scores.values[..., family.network == n])) for n in pair]
    lead = family.better * group_mean(means[0] - means[1])
    size = np.nanmax(np.abs(scores.values), initial=0.0)
    lead = np.where(np.abs(lead) > 1e-12 * size, lead, np.where(np.isnan(lead), np.nan, 0.0))
    lead = lead[np.isfinite(lead)]
    if not len(lead):
        return None
    return _row(pair, SUBJECTS, lead, np.nan) | {"first_closer": "–", "second_closer": "–"}


def _complete(scores: np.ndarray) -> np.ndarray:
    """NaN for all layers where one lacks a score: means of other layers do not compare."""
    return np.where(np.isfinite(scores).all(axis=-1, keepdims=True), scores, np.nan)


def _row(pair: Sequence[str], cells: str, lead: np.ndarray, majority: float) -> dict[str, Any]:
    return {
        "first": pair[0],
        "second": pair[1],
        "cells": cells,
        "number": len(lead),
        "first_ahead": int((lead > 0).sum()),
        "second_ahead": int((lead < 0).sum()),
        "first_closer": "",
        "second_closer": "",
        "first_majority_of_draws": majority,
    }
