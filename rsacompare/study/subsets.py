"""Fewer units, voxels, stimuli or people: of data, and of evidence that need not be made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rsacompare.errors import DataError
from rsacompare.kernels import resample
from rsacompare.metrics.evidence import (
    Evidence,
    IdentificationEvidence,
    Metric,
    NormalisedEvidence,
    PairEvidence,
    PatternEvidence,
    ProfileEvidence,
    TargetEvidence,
)
from rsacompare.schema import labels
from rsacompare.schema.results import Cell, Comparison
from rsacompare.study.cells import CellCache, Layer, Region, plan
from rsacompare.study.compare import fill_cells, scores_of

Layers = Mapping[str, Layer]
Regions = Mapping[tuple[str, str], Region]
# of these we know that stimuli and targets can be taken out; a guest's kind may hold more
_OF_TARGETS = (TargetEvidence, ProfileEvidence, PatternEvidence, NormalisedEvidence)
FEWEST_STIMULI = 3


def chosen(seed: int, names: Iterable[str], total: int, size: int, draw: int) -> np.ndarray:
    """`size` of `total` without replacement, ascending, from a stream of its own: (size,) int."""
    rng = resample.stream(seed, "sensitivity", *names, size, draw)
    return np.sort(rng.permutation(total)[:size])


def how_many(wanted: int | float, total: int) -> int:
    """A share (below 1) or a number, of what there is; one at least.

    Examples
    --------
    >>> how_many(0.5, 7), how_many(100, 7), how_many(0.01, 7)
    (4, 7, 1)
    """
    return max(1, min(total, int(wanted * total + 0.5) if wanted < 1 else int(wanted)))


def compared(
    label: str,
    metric: Metric,
    layers: Layers,
    regions: Regions,
    n_jobs: int = 1,
    store: Path | None = None,
) -> Comparison:
    """One metric's comparison of these layers and regions, its evidence in memory."""
    work, _ = plan({label: metric}, layers, regions)
    cells = CellCache(store, work)
    fill_cells(metric, work, layers, regions, cells, n_jobs, None)
    held = dict(cells.items())
    scores = scores_of(work, held, {label: metric}, layers, regions)
    scores.attrs = labels.clean_attrs({"meaning": {label: asdict(metric.meaning)}})
    return Comparison(scores, held)


def changed(
    comparison: Comparison, change: Callable[[Cell, Evidence], Evidence | None]
) -> Comparison:
    """The comparison with other evidence, or none, in its cells; scores are those of it."""
    scores = comparison.scores.copy(deep=True)
    score = scores["score"]
    place = {d: {str(v): i for i, v in enumerate(score[d].values)} for d in score.dims}
    held = {}
    for cell, evidence in comparison.evidence.items():
        fresh = change(cell, evidence)
        at = tuple(place[d][getattr(cell, str(d))] for d in score.dims)
        if fresh is None:
            score.values[at] = np.nan
            continue
        held[cell] = fresh
        if fresh is not evidence:
            score.values[at] = fresh.score()
    return Comparison(scores, held)


def fewer_units(layers: Layers, units: Mapping[str, np.ndarray]) -> dict[str, Layer]:
    """Layers of these units only; layers that are not named stay as they are."""
    return {
        name: replace(layer, data=layer.data.isel(neuroid=units[name])) if name in units else layer
        for name, layer in layers.items()
    }


def fewer_voxels(
    regions: Regions, voxels: Mapping[tuple[str, str], np.ndarray]
) -> dict[tuple[str, str], Region]:
    """Regions of these voxels only, counted within the region."""
    found = {}
    for key, region in regions.items():
        mask = region.mask
        if mask is not None and key in voxels:
            fresh = np.zeros_like(mask)
            fresh[np.flatnonzero(mask)[voxels[key]]] = True
            region = replace(region, mask=fresh)
        found[key] = region
    return found


def without_stimuli(regions: Regions, ids: np.ndarray) -> dict[tuple[str, str], Region]:
    """Regions without the presentations, or pairs, of these stimuli.

    Raises
    ------
    DataError
        Nothing is left.
    """
    found = {}
    for key, region in regions.items():
        data = region.data
        if "response" in data:
            data = data.isel(presentation=~np.isin(data["stimulus_id"].values.astype(str), ids))
            left = data.sizes["presentation"]
        else:
            sides = [np.isin(data[s].values.astype(str), ids) for s in ("stimulus_a", "stimulus_b")]
            data = data.isel(pair=~(sides[0] | sides[1]))
            left = data.sizes["pair"]
        if not left:
            raise DataError(f"ROI {region.roi}, {region.subject}: no stimulus is left")
        found[key] = replace(region, data=data)
    return found


def stimuli_of(region: Region) -> np.ndarray:
    """All stimuli of a region, scored or not."""
    if "response" in region.data:
        return np.unique(region.data["stimulus_id"].values.astype(str))
    both = [region.data[s].values.astype(str) for s in ("stimulus_a", "stimulus_b")]
    return np.unique(np.concatenate(both))


def can_take_targets(evidence: Evidence) -> bool:
    """Whether some of its targets can be scored alone."""
    return type(evidence) in _OF_TARGETS


def can_leave_out(evidence: Evidence, ids: np.ndarray, shown: np.ndarray) -> bool:
    """Whether leaving out stimuli is a matter of scoring alone.

    Where stimuli were cross-validated, or some of those left out were trained on, models would
    have been fitted otherwise.

    Parameters
    ----------
    evidence : Evidence
    ids : (left out,) str
    shown : (stimulus,) str
        All stimuli that the person saw.
    """
    alone = type(evidence) is IdentificationEvidence and evidence.above is None
    known = alone or type(evidence) in (*_OF_TARGETS, PairEvidence)
    scored = np.asarray(evidence.stimulus_id).astype(str)
    return (
        known and evidence.fold is None and bool(np.isin(np.intersect1d(ids, shown), scored).all())
    )


def leave_out(evidence: Evidence, ids: np.ndarray) -> Evidence:
    """The same evidence without some of its stimuli.

    Raises
    ------
    DataError
        Fewer than three are left.
    """
    keep = ~np.isin(np.asarray(evidence.stimulus_id).astype(str), ids)
    if keep.all():
        return evidence
    if keep.sum() < FEWEST_STIMULI:
        raise DataError(f"{int(keep.sum())} scored stimuli are left, too few")
    block = None if evidence.block is None else np.asarray(evidence.block)[keep]
    common: dict[str, Any] = {"stimulus_id": evidence.stimulus_id[keep], "block": block}
    if isinstance(evidence, PairEvidence):
        n = len(keep)
        i, j = np.triu_indices(n, 1)
        pairs = keep[i] & keep[j]
        fresh: Evidence = replace(
            evidence, network=evidence.network[pairs], brain=evidence.brain[pairs], **common
        )
        return _labelled(fresh, evidence, keep)
    assert isinstance(evidence, TargetEvidence)
    rows: dict[str, Any] = {
        "observed": evidence.observed[keep],
        "predicted": evidence.predicted[keep],
    }
    for name in ("noise_variance", "n_repetitions"):
        if getattr(evidence, name) is not None:
            rows[name] = getattr(evidence, name)[keep]
    return _labelled(replace(evidence, **rows, **common, _profile=None), evidence, keep)


def _labelled(fresh: Evidence, evidence: Evidence, keep: np.ndarray) -> Evidence:
    """With the labels that `compare` gave, which are no arguments of the evidence."""
    for name in ("category", "segment"):
        if getattr(evidence, name) is not None:
            setattr(fresh, name, np.asarray(getattr(evidence, name))[keep])
    return fresh
