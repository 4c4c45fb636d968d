"""A few cells of a study, timed, that stand for all others: the first part of a forecast."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.metrics.evidence import Evidence, Metric
from rsacompare.schema.results import Cell
from rsacompare.study.cells import Layer, Region
from rsacompare.study.compare import part_of, parts_of, union_of

LONG = 8.0  # seconds that one timed cell may take; beyond, units are left out
GAIN = 0.8  # of a core that each thread beyond the first brings
MEGABYTE = 2**20
clock = time.process_time  # what others do on this machine meanwhile is not counted


def speedup(jobs: int, pieces: int) -> float:
    """How many times faster several threads are, with so many pieces of work."""
    return 1 + GAIN * (min(jobs, max(pieces, 1)) - 1)


def stand_ins(
    metric: Metric,
    work: list[Cell],
    layers: Mapping[str, Layer],
    regions: Mapping[tuple[str, str], Region],
    jobs: int,
) -> tuple[dict[Cell, Evidence], tuple[float, float, int, str]]:
    """Evidence that stands for every cell, and (seconds, megabytes, number, assumption)."""
    names = list(dict.fromkeys(c.layer for c in work))
    units = {name: _size(layers[name]) for name in names}
    reference = sorted(names, key=lambda n: units[n])[len(names) // 2]
    parts = parts_of(metric, work)
    unions = {p: union_of(metric, [regions[k] for k in own]) for p, own in parts.items()}
    voxels = {p: _voxels(regions[own[0]], unions[p]) for p, own in parts.items()}
    groups: dict[Any, list[tuple[str, str]]] = {}
    for part, own in parts.items():
        groups.setdefault(_design_of(regions[own[0]]), []).append(part)
    layer = layers[reference].array
    share = 1.0
    prepared: dict[tuple[str, str], float] = {}
    compared: dict[tuple[str, str], float] = {}
    evidence: dict[tuple[str, str], Evidence] = {}
    nearest: dict[tuple[str, str], tuple[str, str]] = {}
    warm = False
    for members in groups.values():
        order = sorted(members, key=lambda p: voxels[p])
        picks = list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))
        for part in picks:
            region = regions[parts[part][0]]
            if not warm:  # what is compiled or looked up once is not counted for every cell
                response = metric.prepare_response(region.array(unions[part]))
                metric.compare(metric.prepare_activation(_cut(layer, 0.1)), response)
                warm = True
            started = clock()
            response = metric.prepare_response(region.array(unions[part]))
            prepared[part] = clock() - started
            ready = metric.prepare_activation(_cut(layer, share))
            compared[part] = np.inf
            for _ in range(2):  # the first may compile for arrays of this kind
                started = clock()
                evidence[part] = metric.compare(ready, response)
                compared[part] = min((clock() - started) / share, compared[part])
                if compared[part] > LONG / 4:
                    break
            larger = voxels[order[-1]] / max(voxels[part], 1)
            if compared[part] * larger**1.5 > LONG and share == 1.0:
                share = 0.125
        nearest |= {p: min(picks, key=lambda q: abs(voxels[q] - voxels[p])) for p in members}
        at = np.array([voxels[p] for p in picks], dtype=float)
        for times in (prepared, compared):
            known = np.array([times[p] for p in picks])
            for p in members:
                times.setdefault(p, float(np.interp(voxels[p], at, known)))
    started = clock()
    ready = metric.prepare_activation(_cut(layer, share))
    first = next(iter(evidence))
    response = metric.prepare_response(regions[parts[first][0]].array(unions[first]))
    metric.compare(ready, response)
    layer_seconds = max((clock() - started) / share - prepared[first] - compared[first], 0)
    scale = {name: max(units[name], 1) / max(units[reference], 1) for name in names}
    all_parts = sum(prepared[p] for p in parts)
    per_layer = layer_seconds + sum(compared[p] for p in parts)
    seconds = all_parts / speedup(jobs, len(parts))
    seconds += sum(scale.values()) * per_layer / speedup(jobs, len(names))
    two = [reference, *(n for n in names if n != reference)][:2]
    pooled = _ceiling_of_brain(metric, response, [layers[n].array for n in two])
    held = {}
    for cell in work:
        one = copy.copy(evidence[nearest[part_of(metric, cell)]])
        union, mask = unions[part_of(metric, cell)], regions[cell.roi, cell.subject].mask
        if (
            union is not None
            and mask is not None
            and nearest[part_of(metric, cell)] == part_of(metric, cell)
        ):
            one = one.take(mask[union])  # type: ignore[attr-defined]
        key = f"{cell.roi}/{cell.subject}" if pooled else f"{cell.layer}/{cell.roi}/{cell.subject}"
        object.__setattr__(one, "ceiling_key", lambda key=key: key)
        held[cell] = one
    megabytes = sum(_bytes(one) for one in list(held.values())[:50]) / min(len(held), 50)
    megabytes *= len(held) / MEGABYTE
    note = f"{len(evidence)} cells timed"
    note += ", an eighth of the units" if share < 1 else ""
    return held, (seconds, megabytes, len(work), note)


def _ceiling_of_brain(metric: Metric, response: Any, layers: Sequence[xr.DataArray]) -> bool:
    """Whether the ceiling is the brain's own: the same for all of these layers."""
    few = [metric.prepare_activation(_cut(x, 0.1)) for x in layers]
    keys = {metric.compare(x, response).ceiling_key() for x in few}
    return len(keys) == 1


def _size(layer: Layer) -> int:
    return int(layer.array.sizes["neuroid"]) if layer.kind == "activation" else 1


def _voxels(region: Region, union: np.ndarray | None) -> int:
    if region.mask is None:
        return 1
    return int((region.mask if union is None else union).sum())


def _design_of(region: Region) -> tuple[Any, ...]:
    data = region.data
    if region.mask is None:
        return ("rdm", data.sizes["pair"])
    return ("response", data.sizes["presentation"], len(np.unique(data["stimulus_id"].values)))


def _cut(array: xr.DataArray, share: float) -> xr.DataArray:
    if share >= 1 or "neuroid" not in array.dims:
        return array
    return array.isel(neuroid=slice(0, max(2, round(array.sizes["neuroid"] * share))))


def _bytes(evidence: Evidence) -> int:
    return sum(np.asarray(a).nbytes for a in evidence.to_arrays().values())
