"""Brain hierarchy score of units that several ROIs predict (Nonaka et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from rsacompare.inference.inferred import Inferred, file_name
from rsacompare.inference.roi_order import floor, orders, p_of_order, told

ALPHA = 0.05  # of the screen, as in the source
COLUMNS = {
    "bh_score": "Spearman correlation over units of layer number and place of the best ROI",
    "p_order": "one-sided, from permuting the ROIs' places",
    "p_floor": "the smallest p that this number of ROIs can give",
    "units": "units that passed the screen, summed over subjects",
    "of": "units in all, summed over subjects",
    "lowest_subject": "the lowest score of a single subject",
    "highest_subject": "the highest",
}


def correlation_p(r: np.ndarray, dof: float) -> np.ndarray:
    """Two-sided p of a correlation: t = r · sqrt(dof / (1 − r²)), dof = n − 2.

    The code of the source has the square root of a product there, r · sqrt(dof · (1 − r²)),
    which is too small (FACTS section 8).

    Examples
    --------
    >>> correlation_p(np.array([0.3, 1.0]), 48).round(5).tolist()
    [0.03429, 0.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt(dof / (1 - np.minimum(r**2, 1.0)))
    return 2 * stats.t.sf(np.abs(t), dof)


@dataclass
class Counts:
    """Screened units of one network by layer and best ROI, per subject: (subject, layer, roi)."""

    table: np.ndarray
    of: int

    def score(self, level: np.ndarray) -> np.ndarray:
        """BH score with the ROIs at these levels: (..., roi) → (...)."""
        return bh_score(self.table.sum(axis=0), level)


def bh_score(table: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Spearman correlation of row number and level of the column, over counted units.

    Parameters
    ----------
    table : (layer, roi)
        Counts.
    level : (..., roi)

    Returns
    -------
    (...) ndarray
        NaN where all units share a layer or a level.

    Examples
    --------
    >>> bh_score(np.array([[3, 0], [0, 5]]), np.array([[0, 1], [1, 0]])).tolist()
    [1.0, -1.0]
    """
    level = np.asarray(level)
    rows = _midranks(table.sum(axis=1)[None])[0]
    size = int(level.max()) + 1
    # a unit's ROI becomes its level; ROIs side by side share one
    member = (level[..., None] == np.arange(size)).astype(float)
    counts = table @ member
    columns = _midranks(counts.sum(axis=-2))
    middle = (table.sum() + 1) / 2
    a, b = rows - middle, columns - middle
    top = np.einsum("...lk,l,...k->...", counts, a, b)
    square = (table.sum(axis=1) * a**2).sum() * (counts.sum(axis=-2) * b**2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(square > 0, top / np.sqrt(square), np.nan)


def _midranks(counts: np.ndarray) -> np.ndarray:
    """Rank that tied items of each group share: (..., group)."""
    return np.cumsum(counts, axis=-1) - (counts - 1) / 2


def count(inferred: Inferred, network: str, rois: list[str]) -> Counts | None:
    """Which ROI predicts each unit best, for units it predicts with p < .05 and r > 0.

    None where evidence does not tell its targets' correlations, or where these are no units that
    all ROIs share (`units` among the sources of chance).
    """
    family = inferred.family
    own = np.flatnonzero(family.network == network)
    own = own[np.argsort(inferred.depth[own], kind="stable")]
    shared = [s for s in family.subjects[rois[0]] if all(s in family.subjects[r] for r in rois)]
    if "units" not in family.sources or not shared:
        return None
    table = np.zeros((len(shared), len(own), len(rois)), dtype=int)
    total = 0
    for i, subject in enumerate(shared):
        for row, layer in enumerate(own):
            held = []
            for roi in rois:
                place = family.place[roi][layer, family.subjects[roi].index(subject)]
                evidence = family.evidence[place]
                r = evidence.target_correlations()
                if r is None:
                    return None
                folds = 1 if evidence.fold is None else len(np.unique(evidence.fold))
                dof = len(evidence.stimulus_id) - 1 - folds
                if dof < 1:
                    return None
                with np.errstate(invalid="ignore"):
                    held.append(np.where(correlation_p(r, dof) < ALPHA, r, -np.inf))
            stack = np.stack(held)
            kept = stack.max(axis=0) > 0
            table[i, row] = np.bincount(stack.argmax(axis=0)[kept], minlength=len(rois))
            total += stack.shape[1]
    return Counts(table, total)


def extras(inferred: Inferred, level: dict[str, int]) -> list[dict[str, Any]]:
    """A table of BH scores; nothing for evidence without units."""
    rois, place = list(level), np.array(list(level.values()))
    shuffled = place[orders(len(rois), inferred.options.seed)]
    rows = []
    for network in dict.fromkeys(inferred.family.network.tolist()):
        counts = count(inferred, network, rois)
        if counts is None:
            continue
        score = counts.score(shuffled)
        each = [float(bh_score(own, place)) for own in counts.table]
        each = [v for v in each if np.isfinite(v)] or [np.nan]
        rows.append(
            {
                "network": network,
                "bh_score": float(score[0]),
                "p_order": p_of_order(score),
                "p_floor": floor(place),
                "units": int(counts.table.sum()),
                "of": counts.of,
                "lowest_subject": min(each),
                "highest_subject": max(each),
            }
        )
    if not rows:
        return []
    arrays = {key: xr.DataArray([r[key] for r in rows], dims="row") for key in rows[0]}
    return [
        {
            "kind": "table",
            "metric": inferred.family.metric,
            "title": "Brain hierarchy score of the units",
            "caption": (
                "After Nonaka et al. (2021, iScience), its decoding-based form, with all layers. "
                f"Order: {told(level)}. Of each subject's units those count that the best ROI "
                "predicts with r > 0 and p < .05 (two-sided, t = r·√(dof/(1 − r²)), not corrected "
                "for taking the best ROI: a screen, not a test). Descriptive: units share the "
                "stimuli, so their number is no sample size and no p is taken from it; p is that "
                "of the order of the ROIs, every unit keeping its ROI."
            ),
            "arrays": arrays,
            "columns": COLUMNS,
            "file": file_name(inferred, "bh_score"),
        }
    ]
