"""What a study file asks for beside its metrics: combined layers, partition, searchlight."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets.volumes import grid_of
from rsacompare.errors import ProtocolError
from rsacompare.inference.workers import Progress
from rsacompare.metrics.evidence import Evidence, Metric
from rsacompare.schema import store, trees
from rsacompare.schema.results import Cell, Comparison
from rsacompare.study import beside_extras, keys
from rsacompare.study.cells import layers_of, plan, regions_of
from rsacompare.study.combine import COMBINED, combine_layers, require_pairs
from rsacompare.study.compare import with_seed
from rsacompare.study.partition import variance_partition
from rsacompare.study.protocol import Study
from rsacompare.study.searchlight import searchlight

Brains = Mapping[str, xr.DataTree]


def check(
    study: Study, metrics: Mapping[str, Metric], brains: Brains, activations: xr.DataTree
) -> None:
    """All that can be told before anything is computed.

    Raises
    ------
    ProtocolError
        Networks, layers, subjects or ROIs that there are not; a partition of data without a
        split; `combine` of a metric that has no dissimilarities. With the place in the file.
    """
    with keys.at(study.place("partition")):
        if study.partition is not None:
            _known_layers(activations, partition_pair(study, activations), study.partition.layers)
            tree = _with_responses(study, brains)[0]
            for subject, node in {} if tree is None else tree.children.items():
                if not {"train", "test"} <= set(node.coords["split"].values.tolist()):
                    raise ProtocolError(
                        f"{subject} has no split into 'train' and 'test', which it needs"
                    )
    with keys.at(study.place("searchlight")):
        if study.searchlight is not None:
            options, tree = study.searchlight, trees.merge_brains(brains)
            named = options.networks or trees.real_networks(activations)
            _known_layers(activations, named, options.layers)
            for subject in options.subjects or []:
                if subject not in tree.children:
                    raise ProtocolError(plugins.unknown("subject", subject, tree.children))
            rois = [str(r) for node in tree.children.values() for r in node.coords["roi"].values]
            if options.roi is not None and options.roi not in rois:
                raise ProtocolError(plugins.unknown("roi", options.roi, list(dict.fromkeys(rois))))
    combined = {label: metrics[label] for label in _combined(study)}
    if combined:
        _check_combined(study, combined, brains, activations)


def add(
    study: Study,
    comparison: Comparison,
    brains: Brains,
    activations: xr.DataTree,
    folder: Path | None = None,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """The comparison with all that stands beside its metrics.

    Parameters
    ----------
    study : Study
    comparison : Comparison
        Of the study's metrics.
    brains : {data set: DataTree}
    activations : DataTree
    folder : path, optional
        Where a finished partition, and the searchlight of each subject, are kept under their
        content hash: what is there is not computed again.
    n_jobs : int
    progress : callable (stage, done, total), optional

    Returns
    -------
    Comparison
        Metrics with `combine` have one layer `network/combined` per network; tables and maps of
        the others are among the extras, what cannot be done among `not_applicable`.
    """
    for label, weights in _combined(study).items():
        if comparison.cells(label):
            with keys.at(study.place("metrics", label)):
                whole = combine_layers(
                    comparison, label, weights=weights, random_state=study.random_state
                )
            comparison = replaced(comparison, whole, label)
    extras = list(comparison.extras)
    sentences: list[str] = []
    if study.partition is not None:
        with keys.at(study.place("partition")):
            found, said = _partition(study, brains, activations, folder, n_jobs, progress)
        extras, sentences = extras + found, sentences + said
    if study.searchlight is not None:
        with keys.at(study.place("searchlight")):
            found, said = _searchlight(study, brains, activations, folder, n_jobs, progress)
        extras, sentences = extras + found, sentences + said
    scores = comparison.scores.copy()
    told = json.loads(scores.attrs.get("not_applicable", "[]"))
    scores.attrs["not_applicable"] = json.dumps(told + sentences)
    return Comparison(scores, comparison.evidence, extras)


def replaced(comparison: Comparison, whole: Comparison, label: str) -> Comparison:
    """One metric's layers in place of which the combination of each network stands.

    Parameters
    ----------
    comparison : Comparison
    whole : Comparison
        From `combine_layers`, of the metric `label` alone.
    label : str
    """
    old, new = comparison.scores, whole.scores
    layers = [*old["layer"].values.tolist()]
    layers += [x for x in new["layer"].values.tolist() if x not in layers]
    wide = old[["score", "n_targets"]].reindex(layer=layers)
    for name, coord in old.coords.items():
        if coord.dims == ("layer",) and name != "layer":
            known = dict(zip(old["layer"].values.tolist(), coord.values.tolist(), strict=True))
            known |= dict(zip(new["layer"].values.tolist(), new[name].values.tolist(), strict=True))
            wide = wide.assign_coords({name: ("layer", [known[x] for x in layers])})
    for name in ("score", "n_targets"):
        wide[name].loc[{"metric": label}] = np.nan
        wide[name].loc[{"metric": label, "layer": new["layer"].values}] = (
            new[name].sel(metric=label, subject=wide["subject"], roi=wide["roi"]).values
        )
    kept = wide["n_targets"].notnull().any(["metric", "subject", "roi"])
    wide = wide.isel(layer=np.flatnonzero(kept.values))
    wide.attrs = dict(old.attrs)
    meaning = json.loads(old.attrs["meaning"]) | json.loads(new.attrs["meaning"])
    wide.attrs["meaning"] = json.dumps(meaning)
    evidence = _Joined(comparison.evidence, whole.evidence, label)
    return Comparison(wide, evidence, comparison.extras + whole.extras)


class _Joined(Mapping[Cell, Evidence]):
    """The cells of a comparison, those of one metric out of another; read when asked for."""

    def __init__(self, base: Mapping[Cell, Any], instead: Mapping[Cell, Any], label: str):
        self._base, self._instead, self._label = base, instead, label

    def __getitem__(self, cell: Cell) -> Evidence:
        return (self._instead if cell.metric == self._label else self._base)[cell]

    def __iter__(self) -> Iterator[Cell]:
        yield from (cell for cell in self._base if cell.metric != self._label)
        yield from self._instead

    def __len__(self) -> int:
        return sum(1 for _ in self)


def partition_pair(study: Study, activations: xr.DataTree) -> tuple[str, str]:
    """The two networks of `[partition]`: those it names, or the two that there are."""
    assert study.partition is not None
    there = list(activations.children)
    named = study.partition.networks or trees.real_networks(activations)
    for name in named:
        if name not in there:
            raise ProtocolError(plugins.unknown("network", name, there))
    if len(named) != 2:
        raise ProtocolError(f'{len(named)} networks; name two of them: networks = ["a", "b"]')
    return named[0], named[1]


def _combined(study: Study) -> dict[str, str]:
    return {label: m.combine for label, m in study.metrics.items() if m.combine is not None}


def _check_combined(
    study: Study, metrics: Mapping[str, Metric], brains: Brains, activations: xr.DataTree
) -> None:
    """One cell of each metric is compared: its evidence says whether layers can be combined."""
    for network, node in activations.children.items():
        if COMBINED in node.children:
            raise ProtocolError(
                f"{study.place('networks')}: {network} has a layer called '{COMBINED}', the name "
                "that the combination of its layers would have; rename it"
            )
    layers, regions = layers_of(activations), regions_of(trees.merge_brains(brains), study.rois)
    for label, metric in metrics.items():
        with keys.at(study.place("metrics", label)):
            try:
                cell = plan({label: metric}, layers, regions)[0][0]
            except ProtocolError:
                continue  # not applicable, as `compare` will say
            layer, region = layers[cell.layer], regions[cell.roi, cell.subject]
            metric = with_seed(metric, study.random_state)
            ready = metric.prepare_activation(layer.array), metric.prepare_response(region.array())
            require_pairs(label, metric.compare(*ready))


def _known_layers(activations: xr.DataTree, networks: Any, layers: Mapping[str, list[str]]) -> None:
    for name in networks:
        if name not in activations.children:
            raise ProtocolError(plugins.unknown("network", name, activations.children))
    for name, own in layers.items():
        if name not in networks:
            raise ProtocolError(f"layers: {plugins.unknown('network', name, networks)}")
        for layer in own:
            known = activations.children[name].children
            if layer not in known:
                raise ProtocolError(f"layers: {plugins.unknown(f'layer of {name}', layer, known)}")


def _with_responses(study: Study, brains: Brains) -> tuple[xr.DataTree | None, list[str]]:
    """Subjects with responses in the study's ROIs, and who is left out."""
    tree = trees.merge_brains(brains)
    kept, left_out = {}, []
    for subject, node in tree.children.items():
        own = node.coords["roi"].values.tolist()
        if "response" not in node:
            left_out.append(subject)
        elif study.rois is None or any(roi in own for roi in study.rois):
            kept[subject] = node.copy(deep=False)
    return (xr.DataTree(children=kept) if kept else None), left_out


def _partition(
    study: Study,
    brains: Brains,
    activations: xr.DataTree,
    folder: Path | None,
    n_jobs: int,
    progress: Progress | None,
) -> tuple[list[dict[str, Any]], list[str]]:
    assert study.partition is not None
    options, networks = study.partition, partition_pair(study, activations)
    for network in networks:
        layers = options.layers.get(network, list(activations.children[network].children))
        if any("activation" not in activations[f"{network}/{layer}"] for layer in layers):
            return [], [f"partition: not for {network}, known by layer RDMs alone"]
    tree, left_out = _with_responses(study, brains)
    said = [f"partition: not for {s}, known by RDMs alone" for s in left_out]
    if tree is None:
        return [], said
    held = [str(r) for node in tree.children.values() for r in node.coords["roi"].values]
    rois = None if study.rois is None else [r for r in study.rois if r in held]
    given: dict[str, Any] = {
        "layers": options.layers,
        "components_of": options.components,
        "alphas": options.alphas,
        "n_folds": options.n_folds,
        "folds": options.folds,
        "n_bootstrap": study.inference.n_bootstrap,
        "confidence": study.inference.confidence,
        "random_state": study.random_state,
    }
    hashes = [
        layer.hash for x, layer in layers_of(activations).items() if layer.network in networks
    ]
    hashes += [region.hash for region in regions_of(tree, rois).values()]
    found = _kept(
        folder,
        ["partition", networks, given, hashes],
        lambda: variance_partition(
            activations, tree, networks, rois=rois, n_jobs=n_jobs, progress=progress, **given
        ),
    )
    return beside_extras.of_partition(found, networks, tree), said


def _searchlight(
    study: Study,
    brains: Brains,
    activations: xr.DataTree,
    folder: Path | None,
    n_jobs: int,
    progress: Progress | None,
) -> tuple[list[dict[str, Any]], list[str]]:
    assert study.searchlight is not None
    options = study.searchlight
    given = options.model_dump(exclude={"subjects", "networks", "layers"})
    chosen = _chosen(activations, options.networks, options.layers)
    hashes = [layer.hash for layer in layers_of(chosen).values()]
    maps, said = {}, []
    for subject, node in trees.merge_brains(brains).children.items():
        if options.subjects is not None and subject not in options.subjects:
            continue
        if "response" not in node:
            said.append(f"searchlight: not for {subject}, known by RDMs alone")
        elif grid_of(node) is None:
            said.append(f"searchlight: not for {subject}, whose voxels lie on no known grid")
        elif options.roi is not None and options.roi not in node.coords["roi"].values:
            said.append(f"searchlight: not for {subject}, who has no ROI {options.roi}")
        else:
            key = [given, hashes, store.digest_dataset(node.to_dataset()), dict(node.attrs)]
            make = partial(searchlight, chosen, node, n_jobs=n_jobs, progress=progress, **given)
            maps[subject] = _kept(folder, ["searchlight", *key], make)
    return beside_extras.of_searchlight(maps, study.inference.contrast), said


def _chosen(
    activations: xr.DataTree, networks: list[str] | None, layers: Mapping[str, list[str]]
) -> xr.DataTree:
    children = {}
    for name in networks or trees.real_networks(activations):
        node = activations.children[name]
        own = layers.get(name, list(node.children))
        children[name] = xr.DataTree(children={k: node.children[k].copy(deep=False) for k in own})
        children[name].attrs = node.attrs
    return xr.DataTree(children=children)


def _kept(folder: Path | None, key: list[Any], make: Callable[[], xr.Dataset]) -> xr.Dataset:
    """What `make` gives, or what an earlier run kept of it."""
    if folder is None:
        return make()
    name = store.digest(store.provenance()["versions"]["rsacompare"], *key)
    file = folder / f"{key[0]}-{name}.nc"
    if file.is_file():
        try:
            return store.read_netcdf(file).to_dataset()
        except Exception:  # broken in any way means: compute it again
            file.unlink(missing_ok=True)
    found = make()
    store.write_netcdf(found, file)
    return found
