"""The order of ROIs in the visual system, and what chance makes of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations
from math import factorial

import numpy as np

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.kernels import resample

FEWEST = 3  # ordered ROIs; of two, one order in two is a rise
EXACT = 7  # up to this many ROIs all orders are counted
SAMPLED = 10_000  # orders of more ROIs
EARLY = re.compile(r"^h?v([1-4])[vd]?$", re.IGNORECASE)
LOW, HIGHEST = 1, 5
HIGHER = ("it", "hit", "loc", "lo", "ffa", "ppa")  # side by side, above V4


def check(given: Sequence[str] | None, rois: Sequence[str]) -> None:
    """Names of a hierarchy against the ROIs there are.

    Raises
    ------
    ProtocolError
        An ROI that does not exist or is named twice, or fewer than three.
    """
    if given is None:
        return
    for name in given:
        if name not in rois:
            raise ProtocolError(plugins.unknown("roi in hierarchy", name, rois))
    twice = [n for n in dict.fromkeys(given) if list(given).count(n) > 1]
    if twice:
        raise ProtocolError(f"hierarchy names '{twice[0]}' more than once")
    if len(given) < FEWEST:
        raise ProtocolError(
            f"hierarchy names {len(given)} ROIs; an order that can be tested needs {FEWEST}"
        )


def order(rois: Sequence[str], given: Sequence[str] | None = None) -> dict[str, int]:
    """ROIs in the order of the visual system, with their level from 0 on.

    Parameters
    ----------
    rois : sequence of str
        All there are.
    given : sequence of str, optional
        An order in place of the known one.

    Returns
    -------
    {roi: level}
        Of names that are known: V1 to V4 (also v and d, hV4); EVC in place of V1 to V3 where
        none of these is there; HVC, or else IT, LOC, FFA and PPA side by side. Unions such as
        LVC and VC have no place.

    Examples
    --------
    >>> order(["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA", "LVC", "HVC", "VC"])
    {'V1': 0, 'V2': 1, 'V3': 2, 'V4': 3, 'HVC': 4}
    >>> order(["IT", "V4", "EVC"]), order(["b", "a"], given=["a", "b"])
    ({'EVC': 0, 'V4': 1, 'IT': 2}, {'a': 0, 'b': 1})
    """
    if given is not None:
        return {roi: i for i, roi in enumerate(n for n in given if n in rois)}
    level = {}
    for roi in rois:
        match = EARLY.match(roi)
        if match:
            level[roi] = int(match[1])
    if not any(v <= 3 for v in level.values()):
        level |= {roi: LOW for roi in rois if roi.lower() == "evc"}
    top = [roi for roi in rois if roi.lower() == "hvc"]
    level |= {roi: HIGHEST for roi in top or [r for r in rois if r.lower() in HIGHER]}
    rank = {v: i for i, v in enumerate(sorted(set(level.values())))}
    return {roi: rank[v] for roi, v in sorted(level.items(), key=lambda kv: kv[1])}


def told(level: dict[str, int]) -> str:
    """The order in words.

    Examples
    --------
    >>> told({"EVC": 0, "V4": 1, "LOC": 2, "FFA": 2})
    'EVC < V4 < LOC = FFA'
    """
    words, last = "", -1
    for roi, at in level.items():
        words += ("" if last < 0 else " < " if at > last else " = ") + roi
        last = at
    return words


def orders(n: int, seed: int) -> np.ndarray:
    """All orders of n items, or many at random where there are too many: (order, item).

    The first is the order as it stands.
    """
    if n <= EXACT:
        return np.array(list(permutations(range(n))))
    rng = resample.stream(seed, "hierarchy", n)
    return np.concatenate([np.arange(n)[None], resample.permutations(rng, n, SAMPLED)])


def p_of_order(statistic: np.ndarray) -> float:
    """One-sided p of the first among all orders; it counts itself, as (1 + #≥) / (B + 1)."""
    if not np.isfinite(statistic).all():
        return np.nan
    return float((statistic >= statistic[0] - 1e-12).mean())


def floor(level: np.ndarray) -> float:
    """The smallest p: the share of orders that are one with the hierarchy.

    Examples
    --------
    >>> 1 / floor(np.array([0, 1, 2, 3, 4])), 1 / floor(np.array([0, 1, 2, 2]))
    (120.0, 12.0)
    """
    n = len(level)
    ties = np.prod([factorial(c) for c in np.bincount(level)], dtype=float)
    own = float(ties / factorial(n))
    return own if n <= EXACT else max(own, 1 / (SAMPLED + 1))
