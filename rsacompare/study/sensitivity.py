"""Does the sign of a difference survive other units, voxels, stimuli and people?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from threadpoolctl import threadpool_limits

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.inference.differences import PAIRINGS
from rsacompare.inference.workers import Progress
from rsacompare.kernels import resample
from rsacompare.metrics.registry import as_metrics
from rsacompare.schema import labels, trees
from rsacompare.schema import store as files
from rsacompare.schema.sensitivity import from_rows
from rsacompare.study.cells import layers_of, plan, regions_of
from rsacompare.study.compare import with_seed
from rsacompare.study.specifications import (
    Plan,
    Sets,
    Size,
    checked_sizes,
    drawable,
    stimulus_sets,
)
from rsacompare.study.specified import Analysis


def sensitivity(
    activations: xr.DataTree,
    brain: xr.DataTree | Mapping[str, xr.DataTree],
    metrics: Any = ("decoding", "rsa", "encoding"),
    contrast: Sequence[str] | None = None,
    *,
    rois: Iterable[str] | None = None,
    pairing: str | None = None,
    unit_draws: int = 20,
    n_units: Sequence[Size] | None = (0.5, 0.25),
    n_voxels: Sequence[Size] | None = (0.5, 0.25),
    number_draws: int = 3,
    leave_out: Sets | None = None,
    leave_one_subject_out: bool = True,
    crossed: bool = False,
    pool: xr.DataTree | None = None,
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    sources: Sequence[str] | None = None,
    exchange: str = "auto",
    n_jobs: int = 1,
    random_state: int | None = 0,
    store: str | Path | None = None,
    cells: str | Path | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """A difference between two networks under every choice that a study could have made otherwise.

    Parameters
    ----------
    activations, brain, metrics, rois
        As for `rsacompare.compare`.
    contrast : (a, b), optional
        The difference is a − b; may be left out where there are two networks.
    pairing : {"mean", "depth"}, optional
        Over layers, or over relative depth; by default the mean where both networks have equally
        many layers.
    unit_draws : int
        Draws of as many units of each layer as the study analyses, without replacement, from
        `pool` (or from those at hand, where a metric takes only some of them). Of a layer that
        has no more, a draw takes half.
    n_units : sequence of int or float
        Other numbers of units, or shares of those analysed; `number_draws` draws of each.
    n_voxels : sequence of int or float
        Numbers of voxels of an ROI, or shares of them; `number_draws` draws of each.
    number_draws : int
    leave_out : {name: stimulus ids, or a text file of one a line}, optional
        Sets of stimuli to leave out, one at a time; beside those that the data mark themselves
        (`god`: the test images in the ILSVRC training set).
    leave_one_subject_out : bool
    crossed : bool
        Also all combinations of the choices that need no new fit.
    pool : DataTree, optional
        The same networks and layers with more units, to draw from.
    n_bootstrap : int
        Draws of each interval; a few hundred will do.
    confidence : float
    sources, exchange
        As for `rsacompare.infer`.
    n_jobs : int
        Threads; results are bitwise the same for any number.
    random_state : int or None
    store : path, optional
        Folder of finished specifications: what it holds is not computed again.
    cells : path, optional
        Folder of finished cells, as that of a run; by default `cells` in `store`.
    progress : callable (stage, done, total), optional

    Returns
    -------
    Dataset
        A row per metric, ROI and specification: see `rsacompare.schema.sensitivity`.
        `rsacompare.tables` gives its tables, `rsacompare.report` draws its specification curves.

    Raises
    ------
    ProtocolError, LabelError, DataError
        Unknown names, numbers that make no sense, or nothing to compare.

    Notes
    -----
    A specification curve (Simonsohn, Simmons & Nelson 2020) is descriptive: specifications share
    their data and are not independent, so that their number is no evidence.

    People, and stimuli that no model was trained on, are left out of what was scored already;
    units of metrics that score each unit by itself, and voxels of voxel-wise ones, are picked
    from it. All else is fitted again. Either way the result is that of a study without them.

    Examples
    --------
    >>> import numpy as np
    >>> import rsacompare as rc
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(24, 40))
    >>> ids = [f"p{i:02d}" for i in range(24)]
    >>> layers = {"a": {"l": x}, "b": {"l": rng.normal(size=(24, 40))}}
    >>> acts = rc.activations(layers, stimulus_id=ids)
    >>> people = {s: x + rng.normal(size=x.shape) for s in ("s1", "s2", "s3")}
    >>> brain = rc.responses(people, stimulus_id=ids)
    >>> found = sensitivity(acts, brain, ["rsa"], unit_draws=2, n_units=None, n_voxels=None)
    >>> rc.tables(found)["summary"][["n_scored", "n_same_sign"]].values.tolist()
    [[5, 5]]
    """
    seed = resample.as_seed(random_state)
    made = {label: with_seed(m, seed) for label, m in as_metrics(metrics).items()}
    tree = brain if isinstance(brain, xr.DataTree) else trees.merge_brains(brain)
    pair = pair_of(contrast, activations)
    both = _only(activations, pair)
    layers, regions = layers_of(both), regions_of(tree, rois)
    pooled = None if pool is None else _pool(pool, both, pair)
    for name, number in (("unit_draws", unit_draws), ("number_draws", number_draws)):
        if isinstance(number, bool) or int(number) != number or number < 0:
            raise ProtocolError(f"{name}: a whole number from 0 is expected, got {number!r}")
    asked = Plan(
        pair=pair,
        pairing=_pairing(pairing, layers, pair),
        unit_draws=unit_draws,
        n_units=checked_sizes(n_units, "n_units"),
        n_voxels=checked_sizes(n_voxels, "n_voxels"),
        number_draws=number_draws,
        sets=stimulus_sets(leave_out, tree, regions),
        leave_one_subject_out=leave_one_subject_out,
        crossed=crossed,
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        sources=None if sources is None else tuple(sources),
        exchange=exchange,
        seed=seed,
    )
    _, not_applicable = plan(made, layers, regions)
    notes = _notes(both, asked)
    folder = None if store is None else Path(store)
    cell_folder = folder and folder / "cells" if cells is None else Path(cells)
    rows: list[dict[str, Any]] = []
    meaning: dict[str, Any] = {}
    told: list[tuple[str, list[str]]] = []
    with threadpool_limits(1):
        for label, metric in made.items():
            analysis = Analysis(label, metric, layers, regions, pooled, asked, folder, cell_folder)
            if not analysis.work:
                continue
            found = analysis.rows(n_jobs, progress)
            if found:
                rows += found
                told.append((label, analysis.notes))
                meaning[label] = analysis.meaning
    for note in dict.fromkeys(note for _, own in told for note in own):
        whose = [label for label, own in told if note in own]
        notes.append(note if len(whose) == len(told) else f"{', '.join(whose)}: {note}")
    if not rows:
        raise ProtocolError(
            f"no metric gives a difference {pair[0]} − {pair[1]} ({asked.pairing} over layers): "
            + ("; ".join([*not_applicable, *notes]) or "they have no scores in common")
        )
    order = {label: i for i, label in enumerate(meaning)}
    at = {roi: i for i, roi in enumerate(dict.fromkeys(roi for roi, _ in regions))}
    rows.sort(key=lambda row: (order[row["metric"]], at[row["roi"]]))  # stable
    attrs = {
        "title": _title(tree),
        "question": "",
        "simulated": any(bool(int(t.attrs.get("simulated", 0))) for t in (tree, activations)),
        "contrast": list(pair),
        "pairing": asked.pairing,
        "options": asked.described(),
        "meaning": meaning,
        "data": trees.describe_brain(tree),
        "networks": trees.describe_networks(both),
        "notes": list(dict.fromkeys(notes)),
        "not_applicable": not_applicable,
        "leave_out": {name: ids.tolist() for name, ids in asked.sets.items()},
        "provenance": files.provenance() | {"random_state": seed},
    }
    return from_rows(rows, labels.clean_attrs(attrs))


def pair_of(contrast: Sequence[str] | None, activations: xr.DataTree) -> tuple[str, str]:
    """The two networks.

    Raises
    ------
    ProtocolError
        Unknown ones, or none named where there are more than two.
    """
    there = list(activations.children)
    if contrast is None:
        if len(there) != 2:
            raise ProtocolError(
                f"which difference? There are {len(there)} networks ({', '.join(there)}): name two "
                "of them as contrast"
            )
        contrast = there
    if isinstance(contrast, str) or len(contrast) != 2 or contrast[0] == contrast[1]:
        raise ProtocolError(f"contrast: two different networks are expected, got {contrast!r}")
    for name in contrast:
        if name not in there:
            raise ProtocolError(plugins.unknown("network in contrast", name, there))
    return str(contrast[0]), str(contrast[1])


def _only(tree: xr.DataTree, pair: tuple[str, str]) -> xr.DataTree:
    children = {n: node.copy(deep=False) for n, node in tree.children.items() if n in pair}
    kept = xr.DataTree(children=children)
    kept.attrs = tree.attrs
    return kept


def _pool(pool: xr.DataTree, activations: xr.DataTree, pair: tuple[str, str]) -> dict[str, Any]:
    """Layers to draw from; those of the study where the pool has none of the name."""
    named = [n for n in pair if n in pool.children]
    if not named:
        raise ProtocolError(f"the pool of units has neither {pair[0]} nor {pair[1]}")
    found = layers_of(activations)
    for name, layer in layers_of(_only(pool, pair)).items():
        if name not in found:
            continue
        if layer.kind != "activation" or found[name].kind != "activation":
            raise ProtocolError(f"the pool of units: {name} is known by its RDM alone")
        shown = found[name].data["stimulus_id"].values
        labels.index_of(shown, layer.data["stimulus_id"].values, name, "the pool of units")
        found[name] = layer
    return found


def _pairing(given: str | None, layers: Mapping[str, Any], pair: tuple[str, str]) -> str:
    if given is None:
        counts = [sum(layer.network == n for layer in layers.values()) for n in pair]
        return "mean" if counts[0] == counts[1] else "depth"
    if given not in PAIRINGS:
        raise ProtocolError(plugins.unknown("pairing", given, PAIRINGS))
    return given


def _notes(both: xr.DataTree, asked: Plan) -> list[str]:
    """What cannot be drawn, and why."""
    if not (asked.unit_draws or asked.n_units):
        return []
    told = []
    for network, node in both.children.items():
        data = next(iter(node.children.values())).to_dataset()
        if "activation" not in data:
            told.append(f"{network} is known by layer RDMs alone: its units cannot be drawn")
        elif not drawable(data):
            told.append(
                f"{network} is known by components ({data.attrs['units_option']}), not by units: "
                "none are drawn"
            )
    return told


def _title(tree: xr.DataTree) -> str:
    names = [d["title"] or d["name"] for d in trees.describe_brain(tree)]
    return "; ".join(names)
