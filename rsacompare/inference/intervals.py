"""Bootstrap intervals over one source of chance: percentile, BCa and studentised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rsacompare.errors import ProtocolError
from rsacompare.inference import bootstrap
from rsacompare.inference.family import Family
from rsacompare.inference.leave_out import Jackknife
from rsacompare.inference.statistics import Options, levels_of
from rsacompare.schema.results import Comparison

FEW_LEVELS = 15  # below, percentile and BCa intervals are told to be too narrow
WORDS = {
    "t": "t interval, corrected variance",
    "percentile": "bootstrap percentile interval",
    "bca": "BCa bootstrap interval",
    "studentised": "studentised bootstrap interval",
}


def check_single(comparison: Comparison, options: Options) -> None:
    """Before anything is computed: all intervals but t are over one source of chance.

    Raises
    ------
    ProtocolError
        Where more than one would be resampled, naming them and the way out.
    """
    if options.interval == "t" or (options.sources is not None and len(options.sources) == 1):
        return
    for metric in comparison.scores["metric"].values.astype(str).tolist():
        cells = comparison.cells(metric)
        if not cells:
            continue
        scored = comparison.scores["score"].sel(metric=metric).notnull().any("layer")
        people = int(scored.sum("subject").max())
        declared = [
            s
            for s in bootstrap.ORDER[1:]
            if all(s in comparison.evidence[cell].sources for cell in cells)
        ]
        refuse(options, bootstrap.available(declared, people, options.sources), metric)


def refuse(options: Options, sources: tuple[str, ...], metric: str) -> None:
    """Raise ProtocolError where an interval for one source is asked over several."""
    if options.interval != "t" and len(sources) > 1:
        raise ProtocolError(
            f'interval="{options.interval}" generalises over a single source of chance, but '
            f"{metric} has {len(sources)} to resample: {', '.join(sources)}; name one of them, "
            f'as in sources=["{sources[-1]}"], or keep interval="t", which covers them together'
        )


def label(options: Options, sources: Mapping[str, list[str]]) -> str:
    """What the intervals are and what they generalise over: {metric: sources}."""
    groups: dict[str, list[str]] = {}
    for metric, own in sources.items():
        groups.setdefault(" and ".join(own) or "nothing", []).append(metric)
    over = "; ".join(
        f"over {own}" + (f" ({', '.join(metrics)})" if len(groups) > 1 else "")
        for own, metrics in groups.items()
    )
    return f"{WORDS[options.interval]}, {over}, conditional on the fitted models"


def notes(family: Family, options: Options) -> list[str]:
    """That few levels make percentile and BCa intervals too narrow."""
    if options.interval not in ("percentile", "bca"):
        return []
    few = {
        f"{n} {source}"
        for roi in family.rois
        for source, n in levels_of(family, roi, options).items()
        if n < FEW_LEVELS
    }
    return [
        f"{family.metric}: the {WORDS[options.interval]} over {', '.join(sorted(few))} is too "
        "narrow: it lacks the factor n/(n − 1) of the variance and the tails of t (over 5 "
        'subjects, a 95 % percentile interval covers 84 %). Take interval="t".'
    ] * bool(few)


@dataclass(frozen=True)
class Bounds:
    """An interval of a statistic and its inversion; all (item,).

    `greater`, `less`: one-sided p of a statistic above and below 0. The two-sided p is twice the
    smaller one.
    """

    se: np.ndarray
    low: np.ndarray
    high: np.ndarray
    greater: np.ndarray
    less: np.ndarray


def percentile(value: np.ndarray, draws: np.ndarray, confidence: float) -> Bounds:
    """The interval between two quantiles of the draws; the standard error is theirs.

    Parameters
    ----------
    value : (item,)
    draws : (draw, item)
        Those that cannot be scored are left out; with fewer than nine in ten, NaN.
    confidence : float

    Notes
    -----
    Quantiles interpolate linearly between the draws, as numpy and scipy do. The p is the largest
    1 − confidence for which 0 is still inside; where 0 lies beyond all draws it is
    1 / (draws + 1).
    """
    return _between(value, draws, confidence, _plain, _plain)


def bca(
    value: np.ndarray, draws: np.ndarray, acceleration: np.ndarray, confidence: float
) -> Bounds:
    """Percentile interval, corrected for bias and for a spread that grows with the value.

    Efron (1987), as `scipy.stats.bootstrap`. Parameters as for :func:`percentile`, and
    `acceleration` (item,) from the jackknife (`leave_out.Jackknife.moments`).
    """
    with np.errstate(invalid="ignore"):
        below = (draws < value).sum(axis=0) + (draws <= value).sum(axis=0)
        bias = stats.norm.ppf(below / (2 * np.isfinite(draws).sum(axis=0)))
    known = np.isfinite(bias) & np.isfinite(acceleration)
    a, z0 = np.where(known, acceleration, np.nan), np.where(known, bias, np.nan)

    def to_quantile(level: np.ndarray) -> np.ndarray:
        x = z0 + stats.norm.ppf(level)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = stats.norm.cdf(z0 + x / (1 - a * x))
        return np.where(1 - a * x <= 0, (x > 0).astype(float), moved)

    def to_level(quantile: np.ndarray) -> np.ndarray:
        d = stats.norm.ppf(quantile) - z0
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.where(np.isinf(d), np.where(a == 0, d, 1 / a), d / (1 + a * d))
            beyond = 1 + a * d <= 0  # the pole: no level reaches the quantile
        return np.where(beyond, (d > 0).astype(float), stats.norm.cdf(x - z0))

    found = _between(value, draws, confidence, to_quantile, to_level)
    return _where(known, found)


def studentised(
    value: np.ndarray, se: np.ndarray, draws: np.ndarray, draw_se: np.ndarray, confidence: float
) -> Bounds:
    """Bootstrap-t: value − q · SE, q the quantiles of (draw − value) / SE of the draw.

    Parameters
    ----------
    value, se : (item,)
        The standard error from the jackknife of the data.
    draws, draw_se : (draw, item)
        Standard errors from the jackknife of each draw.
    confidence : float

    Notes
    -----
    A draw without any spread counts as infinitely far; where the interval would end there, it is
    NaN. Costs one score of everything per draw and distinct level, about .63 n + 1 as much as
    the others.
    """
    away = draws - value
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where((away == 0) & (draw_se == 0), 0.0, away / draw_se)
        t = np.where(np.isnan(draw_se), np.nan, t)
        point = np.where((value == 0) & (se == 0), 0.0, value / se)
    found = _between(value, t, confidence, _plain, _plain, point)
    with np.errstate(invalid="ignore"):
        low, high = value - found.high * se, value - found.low * se
    # all is the same wherever the data have no spread
    still = (se == 0) & (np.isfinite(t).mean(axis=0) >= 0.9)
    low, high = np.where(still, value, low), np.where(still, value, high)
    return _where(
        np.isfinite(low) & np.isfinite(high), Bounds(se, low, high, found.less, found.greater)
    )


def _plain(level: np.ndarray) -> np.ndarray:
    return level


def _where(known: np.ndarray, found: Bounds) -> Bounds:
    """NaN where it is not known."""
    names = ("low", "high", "greater", "less")
    return Bounds(found.se, *(np.where(known, getattr(found, n), np.nan) for n in names))


def _between(
    value: np.ndarray,
    draws: np.ndarray,
    confidence: float,
    to_quantile: Callable[[np.ndarray], np.ndarray],
    to_level: Callable[[np.ndarray], np.ndarray],
    point: np.ndarray | float = 0.0,
) -> Bounds:
    """The interval between two quantiles of the draws, and where `point` would be its end.

    `to_quantile` says which quantile of the draws stands for a level, `to_level` its inverse.
    """
    ordered = np.sort(draws, axis=0)  # NaN last
    count = (~np.isnan(draws)).sum(axis=0)
    enough = (count >= 0.9 * len(draws)) & np.isfinite(value)
    count = np.maximum(count, 1)
    tail = np.full(value.shape, (1 - confidence) / 2)
    low = _quantile(ordered, count, to_quantile(tail))
    high = _quantile(ordered, count, to_quantile(1 - tail))
    first, last = _ranks(ordered, count, np.broadcast_to(point, value.shape))
    floor = 0.5 / (len(draws) + 1)
    # at the ends the levels that lead beyond the draws belong to them
    inner = to_level(np.clip(last, 0, 1)), to_level(np.clip(first, 0, 1))
    greater = np.where(last < 0, 0.0, np.where(last >= 1, 1.0, inner[0]))
    less = 1 - np.where(first > 1, 1.0, np.where(first <= 0, 0.0, inner[1]))
    found = Bounds(
        np.sqrt(bootstrap.spread(draws)), low, high,
        np.maximum(greater, floor), np.maximum(less, floor),
    )  # fmt: skip
    return _where(enough, found)


def _quantile(ordered: np.ndarray, count: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Quantile of each item's first `count` sorted values, NaN at a level of NaN."""
    place = np.where(np.isnan(level), 0.0, level) * (count - 1)
    below = np.minimum(np.floor(place).astype(int), count - 1)
    share = place - below
    a = np.take_along_axis(ordered, below[None], axis=0)[0]
    b = np.take_along_axis(ordered, np.minimum(below + 1, count - 1)[None], axis=0)[0]
    with np.errstate(invalid="ignore"):
        between = np.where((share == 0) | (a == b), a, (1 - share) * a + share * b)
    return np.where(np.isnan(level), np.nan, between)


def _ranks(
    ordered: np.ndarray, count: np.ndarray, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The levels at which the quantile first reaches the point and last does not exceed it.

    first > 1 where no draw reaches it, last < 0 where all exceed it.
    """
    top = np.maximum(count - 1, 1)
    with np.errstate(invalid="ignore"):
        under, upto = (ordered < point).sum(axis=0), (ordered <= point).sum(axis=0)

    def level(n: np.ndarray) -> np.ndarray:
        low, high = (
            np.take_along_axis(ordered, np.clip(k, 0, count - 1)[None], axis=0)[0]
            for k in (n - 1, n)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (point - low) / (high - low)
        share = np.where(np.isposinf(high), 0.0, np.where(np.isneginf(low), 1.0, share))
        return (n - 1 + share) / top

    first = np.where(under == 0, 0.0, np.where(under == count, 2.0, level(under)))
    last = np.where(upto == 0, -1.0, np.where(upto == count, 1.0, level(upto)))
    return first, last


def bounds(
    options: Options,
    value: np.ndarray,
    draws: np.ndarray,
    moments: Callable[[Jackknife | None], tuple[np.ndarray, np.ndarray]],
    jackknife: Jackknife | None,
    redrawn: Jackknife | None,
) -> Bounds:
    """The interval that the options ask for; `moments` gives a jackknife's SE and acceleration."""
    if options.interval == "percentile":
        return percentile(value, draws, options.confidence)
    se, acceleration = moments(jackknife)
    if options.interval == "bca":
        return bca(value, draws, acceleration[0], options.confidence)
    return studentised(value, se[0], draws, moments(redrawn)[0], options.confidence)
