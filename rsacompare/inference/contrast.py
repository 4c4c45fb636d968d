"""Differences between two networks: pairings, the nested best layer, equivalence, verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from rsacompare.inference.bootstrap import group_mean
from rsacompare.inference.family import (
    HELD_OUT_SUBJECTS,
    Draws,
    Family,
    Key,
    Sources,
)
from rsacompare.kernels import resample

PAIRINGS = ("ordinal", "depth", "mean", "best")


@dataclass
class Row:
    """One difference a − b of an ROI: a weighting of layers, or the best layers of both."""

    roi: str
    pairing: str
    a: str
    b: str
    weights: np.ndarray  # (layer,); for `best` the marks of a's layers (1) and b's (-1)
    layer_a: str = ""
    layer_b: str = ""
    layers: list[int] = field(default_factory=list)


def rows(
    family: Family, depth: np.ndarray, pairs: Sequence[tuple[str, str]]
) -> tuple[list[Row], list[str]]:
    """All differences of a family, and a sentence for each pairing that does not exist.

    Parameters
    ----------
    family : Family
    depth : (layer,) float
        Relative depth of each layer of the family.
    pairs : list of (a, b)
    """
    made: list[Row] = []
    notes: list[str] = []
    unequal: list[str] = []
    for a, b in pairs:
        own_a = np.flatnonzero(family.network == a)
        own_b = np.flatnonzero(family.network == b)
        if not len(own_a) or not len(own_b):
            absent = a if not len(own_a) else b
            notes.append(f"{family.metric}: no contrast {a} − {b}, since {absent} has no scores")
            continue
        weightings: list[tuple[str, np.ndarray, str, str]] = []
        names = [label.split("/", 1)[1] for label in family.layers]
        size = len(family.layers)
        if len(own_a) == len(own_b):
            for i, j in zip(own_a, own_b, strict=True):
                weightings.append(("ordinal", _vector(size, {i: 1.0, j: -1.0}), names[i], names[j]))
        else:
            unequal.append(f"{a} ({len(own_a)}) and {b} ({len(own_b)})")
        span = common_depth(depth[own_a], depth[own_b])
        if span is None:
            notes.append(
                f"{family.metric}: no depth pairing of {a} and {b}: their layers share no range "
                "of relative depth (a network of one layer has none)"
            )
        else:
            vector = np.zeros(size)
            vector[own_a] += curve_weights(depth[own_a], *span, also=depth[own_b])
            vector[own_b] -= curve_weights(depth[own_b], *span, also=depth[own_a])
            weightings.append(("depth", vector, "", ""))
        mean = np.zeros(size)
        mean[own_a], mean[own_b] = 1 / len(own_a), -1 / len(own_b)
        marks = np.sign(mean)
        weightings += [("mean", mean, "", ""), ("best", marks, "", "")]
        both = [*own_a.tolist(), *own_b.tolist()]
        made += [
            Row(roi, pairing, a, b, vector, layer_a, layer_b, both)
            for pairing, vector, layer_a, layer_b in weightings
            for roi in family.rois
        ]
    if unequal:
        notes.append(
            f"{family.metric}: no ordinal pairing, which needs equal numbers of layers, of "
            + "; ".join(unequal)
        )
    return sorted(made, key=lambda r: PAIRINGS.index(r.pairing)), notes


def _vector(size: int, entries: Mapping[Any, float]) -> np.ndarray:
    out = np.zeros(size)
    for place, value in entries.items():
        out[place] += value
    return out


def common_depth(a: np.ndarray, b: np.ndarray) -> tuple[float, float] | None:
    """The range of relative depth that both curves cover, or None."""
    low, high = max(a.min(), b.min()), min(a.max(), b.max())
    return (float(low), float(high)) if high > low else None


def interpolation(depth: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Weights w such that w @ scores are the heights of the curve at these depths: (point, layer).

    Layers of one depth share its weight.
    """
    unique, inverse = np.unique(depth, return_inverse=True)
    basis = np.stack([np.interp(at, unique, row) for row in np.eye(len(unique))], axis=1)
    return (basis / np.bincount(inverse))[:, inverse]


def curve_weights(depth: np.ndarray, low: float, high: float, also: np.ndarray) -> np.ndarray:
    """Weights w such that w @ scores is the mean height of the interpolated curve on [low, high].

    The area between two piecewise linear curves, divided by the width of their common range so
    that it has the unit of the score, is exactly a weighted sum of the scores at the nodes.

    Examples
    --------
    >>> curve_weights(np.array([0.0, 0.5, 1.0]), 0.0, 1.0, also=np.array([0.25])).tolist()
    [0.25, 0.5, 0.25]
    """
    nodes = np.unique(np.concatenate([depth, also, [low, high]]))
    nodes = nodes[(nodes >= low) & (nodes <= high)]
    return np.trapezoid(interpolation(depth, nodes), nodes, axis=0) / (high - low)


@dataclass
class Halves:
    """Repeated splits of the stimuli, and from eight subjects on of the subjects."""

    stimuli: dict[Key, np.ndarray]
    subjects: dict[Key, np.ndarray | None]

    @classmethod
    def split(cls, family: Family, n_splits: int, seed: int) -> Halves:
        """The original levels are split once; draws act inside the halves."""
        stimuli = {
            key: resample.halves(
                resample.stream(seed, "halves", "stimuli", pool.ids),
                len(pool.ids),
                n_splits,
                pool.fold(family.fold[key]),
                pool.level,
            )[:, pool.own]
            for key, pool in family.pool.items()
        }
        subjects = {
            own: resample.halves(
                resample.stream(seed, "halves", "subjects", own), len(own), n_splits
            )
            if len(own) >= HELD_OUT_SUBJECTS
            else None
            for own in set(family.subjects.values())
        }
        return cls(stimuli, subjects)


def best_layers(
    family: Family,
    draws: Draws,
    wanted: Sequence[Sources],
    halves: Halves,
    networks: Sequence[str],
    scores: Sequence[Mapping[Sources, np.ndarray]],
) -> tuple[dict[Sources, np.ndarray], np.ndarray]:
    """Score of each network's best layer, chosen on one half and scored on the other.

    Parameters
    ----------
    wanted : subsets of {"subjects", "stimuli", "units"}
    networks : sequence of str
    scores : list of {sources: (draw, cell)}
        What `family.scores_in_parts` gives for these draws and halves.

    Returns
    -------
    {sources: (draw, roi, network)}
        Mean over splits and over the two directions.
    (roi, layer) int
        How often each layer was chosen, with all sources resampled.
    """
    members = [np.flatnonzero(family.network == n) for n in networks]
    shape = (draws.size, len(family.rois), len(networks))
    total = {s: np.zeros(shape) for s in wanted}
    chosen = np.zeros((len(family.rois), len(family.layers)), dtype=int)
    n_splits = len(next(iter(halves.stimuli.values())))
    fullest = max(wanted, key=len)
    for split in range(n_splits):
        parts = scores[1 + 2 * split : 3 + 2 * split]
        for sources in wanted:
            for r, roi in enumerate(family.rois):
                place = family.place[roi]
                means = []
                for side, held in enumerate(parts):
                    cells = held[sources - {"subjects"}]
                    cells = np.broadcast_to(cells, (draws.size, cells.shape[1]))[:, place]
                    means.append(
                        group_mean(
                            cells, _subjects(family, draws, halves, roi, split, side, sources)
                        )
                    )
                for n, own in enumerate(members):
                    for select, judge in (means, means[::-1]):
                        pick = _argbest(select[:, own], family.better)
                        value = np.take_along_axis(judge[:, own], pick[:, None], axis=1)[:, 0]
                        total[sources][:, r, n] += value / (2 * n_splits)
                        if sources == fullest:
                            chosen[r, own] += np.bincount(pick, minlength=len(own))
    return total, chosen


def _subjects(
    family: Family,
    draws: Draws,
    halves: Halves,
    roi: str,
    split: int,
    side: int,
    sources: Sources,
) -> np.ndarray | None:
    own = family.subjects[roi]
    weights = draws.subjects.get(own) if "subjects" in sources else None
    half = halves.subjects[own]
    if half is None:
        return weights
    inside = (half[split] if side == 0 else ~half[split]).astype(float)
    return np.broadcast_to(inside, (draws.size, len(own))) if weights is None else weights * inside


def _argbest(scores: np.ndarray, better: int) -> np.ndarray:
    return np.where(np.isfinite(scores), better * scores, -np.inf).argmax(axis=1)


def tost(
    difference: np.ndarray,
    bound: np.ndarray,
    se_low: np.ndarray,
    se_high: np.ndarray,
    dof: np.ndarray,
) -> np.ndarray:
    """P that the difference lies outside ± bound: the larger of two one-sided t tests.

    Parameters
    ----------
    difference, bound : (row,)
    se_low, se_high : (row,)
        Standard errors of difference − bound and of difference + bound, the bound being a
        statistic of the same draws.
    dof : (row,)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        below = stats.t.cdf((difference - bound) / se_low, dof)
        above = stats.t.sf((difference + bound) / se_high, dof)
    return np.maximum(below, above)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's family-wise correction (1979); NaN rows are no tests.

    Examples
    --------
    >>> holm(np.array([0.01, np.nan, 0.04])).tolist()
    [0.02, nan, 0.04]
    """
    out = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    steps = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out


def verdict(
    difference: float, p_fwer: float, p_equivalence: float, better: int, alpha: float
) -> str:
    """`a` or `b` where one network is closer, else `equivalent`, else `undecided`.

    As in DESIGN section 10; a name may still be withheld (`inference.beyond`).
    """
    if p_fwer < alpha and difference != 0:
        return "a" if better * difference > 0 else "b"
    return "equivalent" if p_equivalence < alpha else "undecided"
