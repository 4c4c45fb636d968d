"""The inputs of a study: located, loaded, named, and checked against each other."""

from __future__ import annotations

import dataclasses
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
from rsacompare.inference import roi_order
from rsacompare.networks.baselines import SUFFIX, mark_untrained
from rsacompare.schema import labels, reading, store
from rsacompare.schema.rdm_files import RdmOptions
from rsacompare.schema.reading import makes_network
from rsacompare.study import baselines, keys, running
from rsacompare.study.protocol import Study
from rsacompare.study.running import Extraction

Progress = Callable[[str, int, int], None]


def load_inputs(
    study: Study, progress: Progress | None = None, folder: Path | None = None
) -> tuple[dict[str, xr.DataTree], dict[str, xr.DataTree]]:
    """Brain data and networks of a study, each by the name of its table.

    All sources are located and their options checked before the first is loaded; networks that
    run are made, and their pictures found and matched with the brains', before the first runs.

    Parameters
    ----------
    study : Study
    progress : callable (stage, done, total), optional
    folder : path, optional
        Where extracted activations are kept; in memory without it.

    Raises
    ------
    ProtocolError, DataError, FetchError, LabelError
        With the place in the study file.
    """
    tables = [("brain", name) for name in study.brain]
    tables += [("networks", name) for name in study.networks]
    sources = {table: study.locate(*table) for table in tables}
    untrained = baselines.untrained(study)
    loaded: dict[str, dict[str, Any]] = {"brain": {}, "networks": {}}
    for done, (group, name) in enumerate(tables):
        if progress:
            progress("load", done, len(tables))
        with keys.at(study.place(group, name)):
            loaded[group][name] = load_source(study, group, name, sources[group, name])
    if progress:
        progress("load", len(tables), len(tables))
    found = {k: v for k, v in loaded["networks"].items() if isinstance(v, Extraction)}
    for name, extraction in found.items():
        _require_shown(study, loaded["brain"], f"network {name}", extraction.stimulus_id)
    of = {f"{name}{SUFFIX['untrained']}": name for name in untrained}
    found |= {b: _untrained(study, name, sources["networks", name], b) for b, name in of.items()}
    for name, tree in extract_all(study, found, folder, progress).items():
        # a key that no table can have: a network of that name is told by the merge
        key = f"{name} (baseline)" if name in of else name
        loaded["networks"][key] = mark_untrained(tree, of[name]) if name in of else tree
    noise = baselines.noise(study, loaded["networks"])
    if noise is not None:
        loaded["networks"]["(noise)"] = noise
    return loaded["brain"], loaded["networks"]


def _untrained(study: Study, name: str, source: str | Path, called: str) -> Extraction:
    """The extraction of a `[networks.NAME]` table with random weights, to be called otherwise."""
    options = _from_folder(study.folder, baselines.untrained_options(study, name))
    with keys.at(study.place("baselines", "untrained")):
        found = Extraction.of(study, name, source, options)
    return dataclasses.replace(found, name=called)


def load_source(
    study: Study, group: str, name: str, source: str | Path
) -> xr.DataTree | Extraction:
    """The data of one `[brain]` or `[networks]` table, whose source `Study.locate` has found.

    Of a network that runs: the extraction that has yet to run.
    """
    found = _load(study, group, name, source)
    if group == "brain" or isinstance(found, Extraction):
        return found
    return _select(study, name, found)


def extract_all(
    study: Study,
    extractions: Mapping[str, Extraction],
    folder: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, xr.DataTree]:
    """Run the networks that have to run; progress counts the pictures of all (`extract`)."""
    total = sum(len(extraction.stimulus_id) for extraction in extractions.values())
    before = 0

    def told(stage: str, done: int, of: int) -> None:
        if progress:
            progress("extract", before + done, total)

    found = {}
    for name, extraction in extractions.items():
        table = ("networks", name) if name in study.networks else ("baselines", "untrained")
        with keys.at(study.place(*table)):
            found[name] = extraction.run(folder, told)
        before += len(extraction.stimulus_id)
        told("", 0, 0)
    return found


def _load(study: Study, group: str, name: str, source: str | Path) -> xr.DataTree | Extraction:
    kind = "datasets" if group == "brain" else "networks"
    table = study.brain[name] if group == "brain" else study.networks[name]
    if isinstance(source, str) and source in plugins.names(kind):
        loader = plugins.find(kind, source)
        if group == "networks" and (makes_network(loader) or study.networks[name].stimuli):
            return Extraction.of(study, name, source, _from_folder(study.folder, table.options))
        takes = inspect.signature(loader).parameters
        options = keys.check_options(f"{kind[:-1]} {source}", loader, table.options)
        # like a metric, simulated data follow the study's seed unless they are given their own
        if "random_state" in takes:
            options.setdefault("random_state", study.random_state)
        # voxels of other ROIs need not be read; with several data sets `rois` names those of all
        if group == "brain" and len(study.brain) == 1 and study.rois and "rois" in takes:
            options.setdefault("rois", list(study.rois))
        found = loader(**_from_folder(study.folder, options))
        if group == "networks":
            running.check_table(
                study.networks[name], source, not isinstance(found, xr.DataTree), study.folder
            )
        return found
    file = fetch(source) if isinstance(source, str) else source
    if group == "networks" and running.is_network_file(file, study.networks[name].stimuli):
        return Extraction.of(study, name, file, _from_folder(study.folder, table.options))
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

    names = ("path",) if "path" in options else ("betas", "labels", "masks", "weights")
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
    with keys.at(study.place("inference", "hierarchy")):
        roi_order.check(study.inference.hierarchy, study.rois or there)
    for pair in study.inference.contrast or []:
        for network in pair:
            if network not in activations.children:
                text = plugins.unknown("network", network, activations.children)
                raise ProtocolError(f"{study.place('inference', 'contrast')}: {text}")
    each_counts_once(study, brains)
    shown = {}
    for network, node in activations.children.items():
        shown[network] = scored_stimuli(next(iter(node.children.values())).to_dataset())
    for network, available in shown.items():
        _require_shown(study, brains, f"network {network}", available)


def _require_shown(
    study: Study, brains: Mapping[str, xr.DataTree], what: str, available: Any
) -> None:
    """Every stimulus that will be scored must be one that the network saw."""
    for name, tree in brains.items():
        for subject, node in tree.children.items():
            scored = scored_stimuli(node.to_dataset())
            try:
                labels.index_of(scored, available, f"data set {name} ({subject})", what)
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
