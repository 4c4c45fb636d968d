"""Every cell (metric, layer, ROI, subject) compared once: shared work, threads, resume."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from rsacompare.errors import RsacompareError
from rsacompare.inference.workers import Progress, in_threads
from rsacompare.kernels import resample
from rsacompare.metrics.evidence import Evidence, Metric
from rsacompare.metrics.registry import as_metrics
from rsacompare.schema import labels, overlap, store, trees
from rsacompare.schema.results import Cell, Comparison, layer_coords
from rsacompare.study import extras, maps
from rsacompare.study.cells import CellCache, Layer, Region, cell_key, layers_of, plan, regions_of
from rsacompare.study.guests import require_sound


def compare(
    activations: xr.DataTree,
    brain: xr.DataTree | Mapping[str, xr.DataTree],
    metrics: Any = ("decoding", "rsa", "encoding"),
    rois: Iterable[str] | None = None,
    *,
    n_jobs: int = 1,
    random_state: int | None = 0,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare every layer with every region of every brain, by every metric.

    Parameters
    ----------
    activations : DataTree
        Nodes `/network/layer`, from `rsacompare.activations`, `load_activations` or `rdms`.
    brain : DataTree or {data set: DataTree}
        A node per subject. With several data sets subjects are prefixed `dataset.`.
    metrics : names, Metric objects, or {label: name or object}
    rois : sequence of str, optional
        Only these, in this order; by default all.
    n_jobs : int
        Threads; results are bitwise the same for any number.
    random_state : int or None
        For metrics that draw folds. None takes fresh entropy, stored with the scores.
    store : path, optional
        Folder of finished cells: what it holds is not computed again.
    progress : callable (stage, done, total), optional

    Returns
    -------
    Comparison
        Its scores' attribute `roi_overlap` tells which ROIs share voxels
        (:func:`rsacompare.schema.overlap.describe`).

    Raises
    ------
    LabelError, DataError, ProtocolError
        Stimuli that do not match, unusable values, unknown names, or nothing that any of the
        metrics could use.
    """
    seed = resample.as_seed(random_state)
    chosen = {label: with_seed(m, seed) for label, m in as_metrics(metrics).items()}
    tree = brain if isinstance(brain, xr.DataTree) else trees.merge_brains(brain)
    layers, regions = layers_of(activations), regions_of(tree, rois)
    work, not_applicable = plan(chosen, layers, regions)
    with threadpool_limits(limits=1):
        cells, scores = compute_cells(chosen, layers, regions, work, store, n_jobs, progress)
        extra = extras.of_truth(activations) + extras.of_pairs(work, cells, scores, tree)
        extra += maps.of_voxels(work, cells, chosen, scores, regions)
    scores.attrs |= labels.clean_attrs(
        {
            "simulated": _is_simulated(tree, activations),
            "meaning": {k: asdict(m.meaning) | {"options": m.config()} for k, m in chosen.items()},
            "data": trees.describe_brain(tree),
            "networks": trees.describe_networks(activations),
            "not_applicable": not_applicable + json.loads(activations.attrs.get("left_out", "[]")),
            "roi_overlap": overlap.describe((r.subject, r.roi, r.mask) for r in regions.values()),
            "evidence_folder": None if store is None else str(store),
            "provenance": _provenance(layers, regions, seed),
        }
    )
    return Comparison(scores, cells, extra)


def compute_cells(
    metrics: Mapping[str, Metric],
    layers: Mapping[str, Layer],
    regions: Mapping[tuple[str, str], Region],
    work: list[Cell],
    store: str | Path | None = None,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> tuple[CellCache, xr.Dataset]:
    """Evidence and scores of the cells alone; `compare` adds what pages show beside them."""
    cells = CellCache(store, work)
    for label, metric in metrics.items():
        todo = [cell for cell in work if cell.metric == label]
        fill_cells(metric, todo, layers, regions, cells, n_jobs, progress)
    return cells, scores_of(work, cells, metrics, layers, regions)


def with_seed(metric: Metric, seed: int) -> Metric:
    """A metric that draws at random and was given no seed takes the study's."""
    if getattr(metric, "random_state", 0) is not None:
        return metric
    seeded = copy.copy(metric)
    seeded.random_state = seed  # type: ignore[attr-defined]
    return seeded


def fill_cells(
    metric: Metric,
    todo: list[Cell],
    layers: Mapping[str, Layer],
    regions: Mapping[tuple[str, str], Region],
    cells: CellCache,
    n_jobs: int,
    progress: Progress | None,
) -> None:
    """Fill `cells` with one metric's evidence; what the store has already is left alone."""
    # what belongs to one array is prepared once: a brain part serves all layers; what it holds
    # does not depend on which cells are missing, so that a resumed run gives the same bits
    parts = parts_of(metric, todo)
    unions = {part: union_of(metric, [regions[k] for k in own]) for part, own in parts.items()}
    keys = {
        c: cell_key(metric, layers[c.layer], regions[c.roi, c.subject], unions[part_of(metric, c)])
        for c in todo
    }
    missing = [cell for cell in todo if not cells.expect(cell, keys[cell])]
    if not missing:
        return
    label = missing[0].metric
    parts = {part: parts[part] for part in dict.fromkeys(part_of(metric, c) for c in missing)}

    def prepare(part: tuple[str, str]) -> Any:
        first = regions[parts[part][0]]
        with _named(label, first.subject, f"ROI {part[0]}" if part[0] else ""):
            return metric.prepare_response(first.array(unions[part]))

    names = list(parts)
    ready_parts = in_threads(
        prepare,
        [(part,) for part in names],
        n_jobs=n_jobs,
        stage=f"{label}: regions",
        progress=progress,
    )
    prepared = dict(zip(names, ready_parts, strict=True))
    by_layer: dict[str, list[Cell]] = {}
    for cell in missing:
        by_layer.setdefault(cell.layer, []).append(cell)

    def one_layer(name: str) -> None:
        with _named(label, name):
            ready = metric.prepare_activation(layers[name].array)
        done: dict[tuple[str, str], Evidence] = {}
        for cell in by_layer[name]:
            part = part_of(metric, cell)
            if part not in done:
                with _named(label, name, f"ROI {cell.roi}", cell.subject):
                    found = metric.compare(ready, prepared[part])
                    require_sound(found, regions[cell.roi, cell.subject].data)
                    done = {part: found}  # one part at a time
            evidence = done[part]
            union, mask = unions[part], regions[cell.roi, cell.subject].mask
            if union is not None and mask is not None:
                evidence = evidence.take(mask[union])  # type: ignore[attr-defined]
            with _named(label, name, f"ROI {cell.roi}", cell.subject):
                regions[cell.roi, cell.subject].mark(evidence)
            cells.put(cell, keys[cell], evidence)

    for name in by_layer:  # cells of one brain part stand together, so that `done` serves them
        by_layer[name].sort(key=lambda cell: names.index(part_of(metric, cell)))
    todo_layers = [(name,) for name in by_layer]
    stage = f"{label}: layers"
    in_threads(one_layer, todo_layers, n_jobs=n_jobs, stage=stage, progress=progress)


def part_of(metric: Metric, cell: Cell) -> tuple[str, str]:
    """What is prepared together: an ROI, or all voxels of a subject for a voxel-wise metric."""
    return ("" if metric.voxelwise else cell.roi, cell.subject)


def parts_of(metric: Metric, cells: Iterable[Cell]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """{part: the (roi, subject) that it serves}, each once, in the order of the cells."""
    parts: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
    for cell in cells:
        parts.setdefault(part_of(metric, cell), {})[cell.roi, cell.subject] = None
    return {part: list(own) for part, own in parts.items()}


def union_of(metric: Metric, regions: list[Region]) -> np.ndarray | None:
    """Voxels of any of the ROIs, which a voxel-wise metric compares together."""
    masks = [r.mask for r in regions if r.mask is not None]
    return np.logical_or.reduce(masks) if metric.voxelwise and masks else None


class _named:
    """Errors inside say where they arose."""

    def __init__(self, *where: str):
        self.where = ", ".join(w for w in where if w)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RsacompareError):
            raise type(error)(f"{self.where}: {error}") from error
        if error is not None:
            error.add_note(f"while comparing {self.where}")


def scores_of(
    work: list[Cell],
    evidence: Mapping[Cell, Evidence],
    metrics: Mapping[str, Metric],
    layers: Mapping[str, Layer],
    regions: Mapping[tuple[str, str], Region],
) -> xr.Dataset:
    """Score and number of targets of every cell, NaN where there is no such cell."""
    coords: dict[str, Any] = {
        "metric": list(metrics),
        "subject": list(dict.fromkeys(r.subject for r in regions.values())),
        "roi": list(dict.fromkeys(r.roi for r in regions.values())),
        **layer_coords([(x.network, x.name, x.data.attrs) for x in layers.values()]),
    }
    dims = ("metric", "subject", "roi", "layer")
    places = [{v: i for i, v in enumerate(coords[d])} for d in dims]
    shape = tuple(len(p) for p in places)
    score, n_targets = np.full(shape, np.nan), np.full(shape, np.nan)
    for cell in work:
        held = evidence[cell]
        at = tuple(
            place[name]
            for place, name in zip(
                places, (cell.metric, cell.subject, cell.roi, cell.layer), strict=True
            )
        )
        score[at], n_targets[at] = held.score(), held.n_targets
    return xr.Dataset({"score": (dims, score), "n_targets": (dims, n_targets)}, coords=coords)


def _is_simulated(*trees: xr.DataTree) -> bool:
    return any(bool(int(tree.attrs.get("simulated", 0))) for tree in trees)


def _provenance(
    layers: Mapping[str, Layer], regions: Mapping[tuple[str, str], Region], seed: int
) -> dict[str, Any]:
    """Versions, seed and the content hashes of all that was compared."""
    hashes = {name: layer.hash for name, layer in layers.items()}
    hashes |= {f"{r.subject}, {r.roi}": r.hash for r in regions.values()}
    return store.provenance() | {"random_state": seed, "inputs": hashes}
