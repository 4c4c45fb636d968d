"""The difference of two networks as a curve over relative depth, with a simultaneous band."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.inference import contrast
from rsacompare.inference.bootstrap import t_interval
from rsacompare.inference.contrast import Row, interpolation
from rsacompare.inference.estimate import Estimate, Function, estimate, rounding_of, t_estimate
from rsacompare.inference.inferred import Beside, Inferred, file_name
from rsacompare.inference.statistics import Options, Statistics, Values, levels_of
from rsacompare.kernels import resample

MOST_CORNERS = 40  # of a curve, all of them judged; with more, an even grid
GRID = 21
MOST_DRAWN = 3  # pairs of networks with a figure; the table file has all
MOST_LEVELS = 31  # simulated; beyond, t hardly changes and the band stays a little wide
SIMULATIONS = 2000

COLUMNS = {
    "difference": "height of the first network's interpolated curve minus the second's",
    "low": "lower end of the pointwise interval",
    "high": "upper end of the pointwise interval",
    "band_low": "lower edge of the band that holds the whole curve of this ROI",
    "band_high": "upper edge of that band",
}


def beside(inferred: Inferred) -> Beside:
    """A figure per pair (up to three), a panel per ROI, and all curves as a table file."""
    pairs: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    for row, entry in zip(inferred.rows, inferred.table, strict=True):
        # where the area has no number (other subjects, unscored layers), the curve has none
        if row.pairing == "depth" and np.isfinite(entry["difference"]):
            pairs.setdefault((row.a, row.b), []).append(_curve(inferred, row))
    found = Beside()
    if not pairs:
        return found
    metric = inferred.family.metric
    for pair, curves in list(pairs.items())[:MOST_DRAWN]:
        found.extras.append(_figure(inferred, pair, curves))
    more = len(pairs) - MOST_DRAWN
    if more > 0:
        found.extras[-1]["caption"] += (
            f" The curves of {more} more pair{'s' if more > 1 else ''} of networks stand in "
            f"{file_name(inferred, 'depth_curves')}.csv."
        )
    rows = [
        {"network_a": np.full(len(c["depth"]), a), "network_b": np.full(len(c["depth"]), b)} | c
        for (a, b), curves in pairs.items()
        for c in curves
    ]
    columns = {key: np.concatenate([r[key] for r in rows]) for key in rows[0]}
    found.extras.append(
        {
            "kind": "table",
            "metric": metric,
            "title": "Differences over relative depth",
            "caption": "",
            "arrays": {key: xr.DataArray(v, dims="row") for key, v in columns.items()},
            "columns": COLUMNS,
            "file": file_name(inferred, "depth_curves"),
            "shown": 0,
        }
    )
    return found


def points(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Depths at which two curves are compared: all their corners, if these are few.

    Between corners both curves are straight, so a band that holds their difference at the corners
    and is straight between them holds it everywhere.

    Examples
    --------
    >>> points(np.array([0.0, 0.5, 1.0]), np.array([0.2, 0.6, 1.0])).tolist()
    [0.2, 0.5, 0.6, 1.0]
    """
    span = contrast.common_depth(a, b)
    if span is None:
        return np.empty(0)
    every = np.unique(np.concatenate([a, b]))
    corners = every[(every >= span[0]) & (every <= span[1])]
    return corners if len(corners) <= MOST_CORNERS else np.linspace(*span, GRID)


def difference(depth: np.ndarray, network: np.ndarray, row: Row, r: int) -> tuple[Any, Function]:
    """The depths of a row's pair, and its difference there as a function of the values."""
    own_a, own_b = np.flatnonzero(network == row.a), np.flatnonzero(network == row.b)
    at = points(depth[own_a], depth[own_b])
    weights = np.hstack(
        [interpolation(depth[own_a], at), -interpolation(depth[own_b], at)],
    ).T
    used = np.concatenate([own_a, own_b])

    def function(values: Values) -> np.ndarray:
        scores = values.mean[..., r, used]
        if np.isfinite(scores).all():
            return scores @ weights
        missing = ~np.isfinite(scores)
        heights = np.where(missing, 0.0, scores) @ weights
        return np.where(missing @ (weights != 0), np.nan, heights)

    return at, function


def _curve(inferred: Inferred, row: Row) -> dict[str, np.ndarray]:
    family, options, statistics = inferred.family, inferred.options, inferred.statistics
    r = family.rois.index(row.roi)
    levels = levels_of(family, row.roi, options, row.layers)
    at, function = difference(inferred.depth, family.network, row, r)
    rounding = rounding_of(statistics, r, row.layers)
    found = estimate(function, statistics, levels, options, rounding)
    # the band is made of standard errors, whatever the pointwise interval is made of
    by_t = (
        found
        if options.interval == "t"
        else t_estimate(function, statistics, levels, options, rounding)
    )
    low, high = band(function, by_t, statistics, levels, options)
    return {
        "roi": np.full(len(at), row.roi),
        "depth": at,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        # an interval of another kind may reach beyond a band made of standard errors
        "band_low": np.fmin(low, found.low),
        "band_high": np.fmax(high, found.high),
    }


def band(
    function: Function,
    found: Estimate,
    statistics: Statistics,
    levels: dict[str, int],
    options: Options,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate ± c · SE that holds all items of a statistic at once.

    Parameters
    ----------
    function : Values -> (..., item)
    found : Estimate
        Of that function, by :func:`rsacompare.inference.estimate.t_estimate`.
    statistics, levels, options
        As for :func:`rsacompare.inference.estimate.estimate`.

    Returns
    -------
    low, high : (item,)
        See :func:`critical_value` for c; the correlations are those of the draws in which all
        sources are resampled together.
    """
    used = [s for s in statistics.draws if s <= levels.keys()]
    live = np.isfinite(found.se) & (found.se > 0)
    if not used or not live.any():
        return found.low, found.high
    draws = function(statistics.draws[max(used, key=len)])[:, live]
    draws = draws[np.isfinite(draws).all(axis=1)]
    if len(draws) < 10:
        nothing = np.full(found.value.shape, np.nan)
        return nothing, nothing
    c = critical_value(_correlation(draws), found.dof, options.confidence, options.seed)
    narrow, _ = t_interval(np.zeros(1), np.ones(1), np.array(found.dof), options.confidence)
    c = max(c, -float(narrow[0]))
    return found.value - c * found.se, found.value + c * found.se


def _correlation(draws: np.ndarray) -> np.ndarray:
    centred = draws - draws.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    return np.clip((centred / scale).T @ (centred / scale), -1.0, 1.0)


def critical_value(correlation: np.ndarray, dof: float, confidence: float, seed: int) -> float:
    """Quantile of the largest |t| over correlated items.

    Parameters
    ----------
    correlation : (item, item)
        Of the estimates.
    dof : float
        Degrees of freedom of every item's standard error.
    confidence : float
    seed : int

    Returns
    -------
    float
        `confidence` quantile of max |t| of `dof` + 1 independent Gaussian levels with these
        correlations, each item's mean divided by its *own* standard error.

    Notes
    -----
    The quantile of the standardised draws themselves, turned into t by equal tail probability,
    is too small with few levels: five subjects span four dimensions, so that items look more
    alike than they are and no draw goes far (simulated coverage of a 95 % band of 10 to 20
    depths: 89 % with five subjects that differ, 91 to 94 % with nine). So the draws give the
    correlations alone, shrunk as an adjusted R²: r² → 1 − (1 − r²) · dof / (dof − 1); and the
    process is drawn as it arises, with a standard error per item (a common one, as in the
    multivariate t, has lighter tails). Simulated coverage is then 94 to 99 %
    (`tests/calibration/test_depth_band.py`).

    Examples
    --------
    >>> from scipy import stats
    >>> one = critical_value(np.ones((3, 3)), 9.0, 0.95, 0)  # one item, thrice
    >>> bool(abs(one - stats.t.ppf(0.975, 9)) < 0.1)
    True
    """
    squared = np.clip(1 - (1 - correlation**2) * dof / max(dof - 1, 1e-9), 0.0, 1.0)
    values, vectors = np.linalg.eigh(np.sign(correlation) * np.sqrt(squared))
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    n = min(int(dof) + 1, MOST_LEVELS)
    mean, square = 0.0, 0.0
    noise = _noise(seed, n, len(root))
    for level in noise:
        drawn = level @ root.T
        mean = mean + drawn
        square = square + drawn**2
    mean = mean / n
    variance = np.maximum(square - n * mean**2, 0.0) / (n - 1)
    return float(np.quantile((np.abs(mean) / np.sqrt(variance / n)).max(axis=1), confidence))


@lru_cache(maxsize=4)
def _noise(seed: int, n: int, items: int) -> np.ndarray:
    """Standard normal (level, simulation, item), the same for all ROIs and pairs."""
    rng = resample.stream(seed, "simultaneous", n, items)
    return rng.standard_normal((n, SIMULATIONS, items))


def _figure(
    inferred: Inferred, pair: tuple[str, str], curves: Sequence[dict[str, np.ndarray]]
) -> dict[str, Any]:
    a, b = pair
    unit = str(inferred.meaning.get("unit", ""))
    sign = "above" if inferred.family.better > 0 else "below"
    percent = f"{inferred.options.confidence * 100:g} %"
    joined = {key: np.concatenate([c[key] for c in curves]) for key in curves[0]}
    apart = [
        str(c["roi"][0])
        for c in curves
        if ((c["band_low"] > 0) | (c["band_high"] < 0)).any()
    ]  # fmt: skip
    most = max(len(c["depth"]) for c in curves)
    where = "the whole curve of its ROI at once"
    if most == GRID and len(inferred.family.layers) > MOST_CORNERS:
        where = f"the curve of its ROI at all {GRID} depths at once"
    told = f"in {', '.join(apart)}" if apart else "in no ROI"
    if len(apart) == len(curves) > 1:
        told = f"in all {len(apart)} ROIs"
    roles = {
        "x": "depth", "y": "difference", "panel": "roi", "low": "low", "high": "high",
        "outer_low": "band_low", "outer_high": "band_high",
    }  # fmt: skip
    arrays = {role: xr.DataArray(joined[key], dims="point") for role, key in roles.items()}
    arrays["curve"] = xr.DataArray(np.full(len(joined["roi"]), f"{a} − {b}"), dims="point")
    return {
        "kind": "curves",
        "metric": inferred.family.metric,
        "title": f"Difference over depth: {a} − {b}",
        "caption": (
            f"Height of the score curve of {a} minus that of {b}, both interpolated over their "
            f"common range of relative depth (0: first layer given, 1: last); {sign} zero {a} is "
            f"closer to the brain. Dark band: pointwise {percent} interval, right for one depth "
            f"chosen beforehand. Light band: simultaneous {percent} band, which holds "
            f"{where} (largest |t| over the depths); so depths at which it leaves "
            f"out zero may be picked after looking. It does so {told}; several ROIs are not "
            "corrected for each other. Over the sources of chance resampled, and conditional "
            "on the fitted models, as all intervals here."
        ),
        "arrays": arrays,
        "x_axis": "relative depth of the layer",
        "y_axis": f"difference, {unit}" if unit else "difference",
        "reference": 0.0,
        "band_label": f"pointwise {percent} interval",
        "outer_label": f"simultaneous {percent} band",
    }  # fmt: skip
