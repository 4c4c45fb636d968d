"""The inputs of a study: located, loaded, named, and checked against each other."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import xarray as xr

from rsacompare import plugins
from rsacompare.datasets.load import fetch, load_dataset
from rsacompare.errors import LabelError, ProtocolError
from rsacompare.schema import labels, reading, store
from rsacompare.schema.rdm_files import RdmOptions
from rsacompare.study import keys
from rsacompare.study.protocol import Study

Progress = Callable[[str, int, int], None]


def load_inputs(
    study: Study, progress: Progress | None = None
) -> tuple[dict[str, xr.DataTree], dict[str, xr.DataTree]]:
    """Brain data and networks of a study, each by the name of its table.

    All sources are located and their options checked before the first is loaded.

    Raises
    ------
    ProtocolError, DataError, FetchError, LabelError
        With the place in the study file.
    """
    tables = [("brain", name) for name in study.brain]
    tables += [("networks", name) for name in study.networks]
    sources = {table: study.locate(*table) for table in tables}
    loaded: dict[str, dict[str, xr.DataTree]] = {"brain": {}, "networks": {}}
    for done, (group, name) in enumerate(tables):
        if progress:
            progress("load", done, len(tables))
        with keys.at(study.place(group, name)):
            loaded[group][name] = load_source(study, group, name, sources[group, name])
    if progress:
        progress("load", len(tables), len(tables))
    return loaded["brain"], loaded["networks"]


def load_source(study: Study, group: str, name: str, source: str | Path) -> xr.DataTree:
    """The data of one `[brain]` or `[networks]` table, whose source `Study.locate` has found."""
    tree = _load(study, group, name, source)
    return tree if group == "brain" else _select(study, name, tree)


def _load(study: Study, group: str, name: str, source: str | Path) -> xr.DataTree:
    kind = "datasets" if group == "brain" else "networks"
    table = study.brain[name] if group == "brain" else study.networks[name]
    if isinstance(source, str) and source in plugins.names(kind):
        loader = plugins.find(kind, source)
        takes = inspect.signature(loader).parameters
        options = keys.check_options(f"{kind[:-1]} {source}", loader, table.options)
        # like a metric, simulated data follow the study's seed unless they are given their own
        if "random_state" in takes:
            options.setdefault("random_state", study.random_state)
        # voxels of other ROIs need not be read; with several data sets `rois` names those of all
        if group == "brain" and len(study.brain) == 1 and study.rois and "rois" in takes:
            options.setdefault("rois", list(study.rois))
        return loader(**_from_folder(study.folder, options))
    file = fetch(source) if isinstance(source, str) else source
    options = keys.check_options(f"file {table.source or name}", RdmOptions, table.options)
    load = reading.load_activations if group == "networks" else load_dataset
    tree = load(file, **options)
    tree.attrs["inputs"] = json.dumps({table.source or name: store.file_sha256(file)})
    return tree


def _from_folder(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Options that name files, from the study file's folder where they are found there.

    `path` is one for every loader; patterns and files of images and labels are, unless they
    already start from a `path`.
    """

    def found(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: found(part) for key, part in value.items()}
        if isinstance(value, list):
            return [found(part) for part in value]
        if not isinstance(value, str):
            return value
        fixed = re.split(r"[{*?\[]", value)[0]
        there = folder / (fixed if fixed == value else fixed.rpartition("/")[0])
        return str(folder / value) if there.exists() else value

    names = ("path",) if "path" in options else ("betas", "labels", "masks")
    return {key: found(value) if key in names else value for key, value in options.items()}


def _select(study: Study, name: str, tree: xr.DataTree) -> xr.DataTree:
    """The networks and layers that a `[networks.NAME]` table asks for, under their final names."""
    table = study.networks[name]
    nodes = dict(tree.children)
    if table.network is not None:
        if table.network not in nodes:
            raise ProtocolError(plugins.unknown("network", table.network, nodes))
        nodes = {table.network: nodes[table.network]}
    if len(nodes) == 1:
        nodes = {name: next(iter(nodes.values()))}
    if table.layers is not None:
        wanted = [labels.safe_name(layer) for layer in table.layers]
        for network, node in nodes.items():
            for layer in wanted:
                if layer not in node.children:
                    raise ProtocolError(
                        "layers: " + plugins.unknown(f"layer of {network}", layer, node.children)
                    )
        nodes = {network: _keep(node, wanted) for network, node in nodes.items()}
    selected = xr.DataTree(children={k: node.copy(deep=False) for k, node in nodes.items()})
    selected.attrs = tree.attrs
    return selected


def _keep(network: xr.DataTree, layers: list[str]) -> xr.DataTree:
    kept = {k: v.copy(deep=False) for k, v in network.children.items() if k in layers}
    node = xr.DataTree(children=kept)
    node.attrs = network.attrs
    return node


def check_inputs(study: Study, brains: Mapping[str, xr.DataTree], activations: xr.DataTree) -> None:
    """Check names and stimuli of loaded data against each other and the study, all cheap.

    Raises
    ------
    ProtocolError, LabelError
        An ROI or a network that does not exist; scored stimuli that a network was not shown.
    """
    there = list(dict.fromkeys(roi for tree in brains.values() for roi in rois_of(tree)))
    for roi in study.rois or []:
        if roi not in there:
            raise ProtocolError(f"{study.place('rois')}: {plugins.unknown('roi', roi, there)}")
    for pair in study.inference.contrast or []:
        for network in pair:
            if network not in activations.children:
                text = plugins.unknown("network", network, activations.children)
                raise ProtocolError(f"{study.place('inference', 'contrast')}: {text}")
    each_counts_once(study, brains)
    shown = {}
    for network, node in activations.children.items():
        shown[network] = scored_stimuli(next(iter(node.children.values())).to_dataset())
    for name, tree in brains.items():
        for subject, node in tree.children.items():
            scored = scored_stimuli(node.to_dataset())
            for network, available in shown.items():
                try:
                    labels.index_of(
                        scored, available, f"data set {name} ({subject})", f"network {network}"
                    )
                except LabelError as err:
                    file = study.file or f"study '{study.name}'"
                    raise LabelError(f"{file}: {err}") from err


def each_counts_once(study: Study, brains: Mapping[str, xr.DataTree]) -> None:
    """Two data sets of one file must not share an ROI: its people would count twice.

    Raises
    ------
    ProtocolError
        Naming both tables and the ROIs.
    """
    held = {
        name: set(json.loads(t.attrs.get("inputs", "{}")).values()) for name, t in brains.items()
    }
    for a, b in combinations(brains, 2):
        both = [roi for roi in rois_of(brains[a]) if roi in rois_of(brains[b])]
        if study.rois is not None:
            both = [roi for roi in both if roi in study.rois]
        if both and held[a] & held[b]:
            raise ProtocolError(
                f"{study.place('brain')}: {a} and {b} are of the same files and both have ROI "
                f"{labels.listed(both)}: the same people would count twice; give the ROIs of one "
                f'other names, e.g. options.rois = {{ "{both[0]}, {b}" = "{both[0]}" }} for god'
            )


def scored_stimuli(data: xr.Dataset) -> Any:
    """The stimuli of a network's layer, or those of a brain that will be scored."""
    if "rdm" in data:
        pairs = data["rdm"]
        both = [*pairs["stimulus_a"].values.tolist(), *pairs["stimulus_b"].values.tolist()]
        return labels.as_stimulus_ids(list(dict.fromkeys(both)), "rdm")
    ids = data["stimulus_id"].values
    if "split" in data.coords and (data["split"].values == "test").any():
        ids = ids[data["split"].values == "test"]
    return ids


def rois_of(tree: xr.DataTree) -> list[str]:
    """All ROIs of a data set's subjects, in order."""
    found: dict[str, None] = {}
    for node in tree.children.values():
        found |= dict.fromkeys(map(str, node.to_dataset()["roi"].values))
    return list(found)
