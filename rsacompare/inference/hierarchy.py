"""Layer–ROI correspondence: do a network's best layers rise along the visual hierarchy?"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from rsacompare.inference import unit_hierarchy
from rsacompare.inference.estimate import estimate
from rsacompare.inference.inferred import Beside, Inferred, file_name
from rsacompare.inference.roi_order import (
    EXACT,
    FEWEST,
    SAMPLED,
    floor,
    order,
    orders,
    p_of_order,
    told,
)
from rsacompare.inference.statistics import Values, levels_of_all

STATISTICS = ("centre over depth", "best layer")
COLUMNS = {
    "statistic": "centre over depth: mean relative depth of the layers, weighted by score above "
    "the network's lowest in that ROI; best layer: relative depth of the layer with the highest "
    "group-mean score",
    "rho": "Spearman correlation over ROIs of that depth with the place in the hierarchy; 0 where "
    "it is the same in all ROIs",
    "p_order": "one-sided, from permuting the ROIs' places; of a difference there is none",
    "p_floor": "the smallest p that this number of ROIs can give",
    "step": "slope: by how much the depth rises per step of the hierarchy",
    "p_step": "two-sided, of the slope (or of the difference of two slopes), from the bootstrap",
}


def beside(inferred: Inferred) -> Beside:
    """Test per network, differences, BH score and a figure; or a note why there are none."""
    family = inferred.family
    level = order(family.rois, inferred.options.hierarchy)
    if len(set(level.values())) < FEWEST:
        said = told(level) or "none"
        return Beside(
            notes=[
                "Whether best layers rise along the visual hierarchy was not tested: that needs "
                f"{FEWEST} ROIs at different levels, and of those here the order has {said}. The "
                "option `hierarchy` names another order."
            ]
        )
    profile = _Profiles.of(inferred, list(level))
    if not profile.layers:
        return Beside()
    found = _test(inferred, profile, level)
    found.extras += unit_hierarchy.extras(inferred, level)
    return found


class _Profiles:
    """Depth statistics of several networks in several ROIs, as functions of the values."""

    def __init__(
        self, at: list[int], layers: dict[str, np.ndarray], depth: np.ndarray, better: int
    ):
        self.at, self.layers, self.depth, self.better = at, layers, depth, better

    @classmethod
    def of(cls, inferred: Inferred, rois: list[str]) -> _Profiles:
        """Networks with two layers that are scored in all of the ROIs."""
        family = inferred.family
        at = [family.rois.index(roi) for roi in rois]
        scored = np.isfinite(inferred.statistics.observed.mean[at]).all(axis=0)
        layers = {}
        for network in dict.fromkeys(family.network.tolist()):
            own = np.flatnonzero((family.network == network) & scored)
            if len(np.unique(inferred.depth[own])) > 1:
                layers[network] = own
        return cls(at, layers, inferred.depth, family.better)

    def depths(self, values: Values, network: str) -> np.ndarray:
        """(..., statistic, roi) of one network, in the order of STATISTICS."""
        own = self.layers[network]
        scores = self.better * values.mean[..., self.at, :][..., own]
        return np.stack([centre(scores, self.depth[own]), best(scores, self.depth[own])], axis=-2)


def centre(scores: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Mean depth weighted by the score above the lowest: (..., layer) → (...).

    NaN where all layers score the same.

    Examples
    --------
    >>> centre(np.array([0.1, 0.3, 0.2]), np.array([0.0, 0.5, 1.0])).round(4).item()
    0.6667
    """
    above = scores - scores.min(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.round((above @ depth) / above.sum(axis=-1), 12)


def best(scores: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Depth of the highest score: (..., layer) → (...)."""
    found = depth[np.where(np.isfinite(scores), scores, -np.inf).argmax(axis=-1)]
    return np.where(np.isfinite(scores).any(axis=-1), found, np.nan)


def spearman(x: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Rank correlation over the last axis; 0 where x is constant, NaN where it has NaN."""
    a = stats.rankdata(x, axis=-1) - (x.shape[-1] + 1) / 2
    b = stats.rankdata(level, axis=-1) - (level.shape[-1] + 1) / 2
    top, square = (a * b).sum(axis=-1), (a**2).sum(axis=-1) * (b**2).sum(axis=-1)
    rho = np.where(square > 0, top / np.sqrt(np.where(square > 0, square, 1.0)), 0.0)
    return np.where(np.isfinite(x).all(axis=-1), rho, np.nan)


def slope(x: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Least-squares rise per level over the last axis."""
    centred = level - level.mean()
    return x @ (centred / (centred @ centred))


def _test(inferred: Inferred, profile: _Profiles, level: dict[str, int]) -> Beside:
    family, options, statistics = inferred.family, inferred.options, inferred.statistics
    rois, place = list(level), np.array(list(level.values()))
    n, networks = len(rois), list(profile.layers)
    pairs = [p for p in dict.fromkeys((r.a, r.b) for r in inferred.rows) if {*p} <= {*networks}]

    def everything(values: Values) -> np.ndarray:
        """(..., item): per network and statistic the depths, rho, slope; then differences."""
        held = {}
        for network in networks:
            x = profile.depths(values, network)
            tail = np.stack([spearman(x, place), slope(x, place)], axis=-1)
            held[network] = np.concatenate([x, tail], axis=-1)
        parts = [held[network] for network in networks]
        parts += [held[a] - held[b] for a, b in pairs]
        stacked = np.stack(parts, axis=-3)
        return stacked.reshape(*stacked.shape[:-3], -1)

    used = [int(i) for own in profile.layers.values() for i in own]
    levels = levels_of_all(family, rois, options, used)
    found = estimate(everything, statistics, levels, options)
    shape = (len(networks) + len(pairs), len(STATISTICS), n + 2)
    value, low, high, p = (
        np.asarray(v).reshape(shape) for v in (found.value, found.low, found.high, found.p)
    )
    shuffled = place[orders(n, options.seed)]
    rows = []
    names = [*networks, *(f"{a} − {b}" for a, b in pairs)]
    for i, name in enumerate(names):
        reach = 1.0 if i < len(networks) else 2.0
        for s, statistic in enumerate(STATISTICS):
            rho_low, rho_high = (float(np.clip(v[i, s, n], -reach, reach)) for v in (low, high))
            own = i < len(networks)
            rows.append(
                {
                    "network": name,
                    "statistic": statistic,
                    "rho": value[i, s, n],
                    "rho_low": rho_low,
                    "rho_high": rho_high,
                    "p_order": p_of_order(spearman(value[i, s, :n], shuffled)) if own else np.nan,
                    "p_floor": floor(place) if own else np.nan,
                    "step": value[i, s, n + 1],
                    "step_low": low[i, s, n + 1],
                    "step_high": high[i, s, n + 1],
                    "p_step": p[i, s, n + 1],
                }
            )
    arrays = {key: xr.DataArray([r[key] for r in rows], dims="row") for key in rows[0]}
    table = {
        "kind": "table",
        "metric": family.metric,
        "title": "Do the best layers rise along the visual hierarchy?",
        "caption": _caption(level, floor(place), options.confidence),
        "arrays": arrays,
        "columns": COLUMNS,
        "file": file_name(inferred, "hierarchy"),
    }
    m = len(networks)
    figure = _figure(inferred, profile, level, value[:m, :, :n], low[:m, :, :n], high[:m, :, :n])
    return Beside(extras=[figure, table])


def _caption(level: dict[str, int], smallest: float, confidence: float) -> str:
    exact = len(level) <= EXACT
    return (
        f"Order: {told(level)}. The centre over depth is the primary statistic: it uses all "
        "layers and changes smoothly, where the best layer jumps between neighbours that score "
        "alike. p of the order: the share of "
        f"{'all' if exact else f'{SAMPLED + 1:,} random'} orders of these {len(level)} ROIs with a "
        f"rho at least as high, so never below {smallest:.2g}; it asks whether this order could be "
        "chance if ROIs were exchangeable, and knows nothing of the noise in each. The "
        f"{confidence * 100:g} % intervals are over the sources resampled, with these ROIs fixed; "
        "those of rho end at its bounds (one without width: all draws have the same order), those "
        "of the slope have none. Neither is corrected over networks."
    )


def _figure(
    inferred: Inferred,
    profile: _Profiles,
    level: dict[str, int],
    value: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> dict[str, Any]:
    """Depth per ROI, a panel per statistic and a curve per network."""
    networks, n = list(profile.layers), len(level)
    points: dict[str, list[Any]] = {k: [] for k in ("x", "y", "low", "high", "curve", "panel")}
    for s, statistic in enumerate(STATISTICS):
        for i, network in enumerate(networks):
            depth = profile.depth[profile.layers[network]]
            points["x"] += range(n)
            points["y"] += value[i, s].tolist()
            points["low"] += np.clip(low[i, s], depth.min(), depth.max()).tolist()
            points["high"] += np.clip(high[i, s], depth.min(), depth.max()).tolist()
            points["curve"] += [network] * n
            points["panel"] += [statistic] * n
    percent = f"{inferred.options.confidence * 100:g} %"
    return {
        "kind": "curves",
        "metric": inferred.family.metric,
        "title": "Depth of the best layers along the visual hierarchy",
        "caption": (
            f"ROIs in the order {told(level)}. Left: centre over depth (mean relative depth of the "
            "layers, weighted by score above the lowest); right: relative depth of the layer with "
            "the highest group-mean score. A line that rises: later areas are best matched by "
            f"later layers. Whiskers: {percent} intervals, ended at the first and last layer. "
            "Networks are shifted sideways a little."
        ),
        "arrays": {key: xr.DataArray(v, dims="point") for key, v in points.items()},
        "x_axis": "ROI",
        "x_labels": list(level),
        "y_axis": "relative depth of the layers",
        "band_label": f"{percent} interval",
    }
