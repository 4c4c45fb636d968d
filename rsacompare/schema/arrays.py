"""One small door per kind of array: plain numpy plus labels in, a labelled DataTree out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema import given, labels
from rsacompare.schema.given import Masks

FORMAT = 1  # of the trees on disk


def activations(
    networks: Mapping[str, Mapping[str, Any]],
    *,
    stimulus_id: Any,
    attrs: Mapping[str, Any] | None = None,
    layer_attrs: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    neuroid: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.DataTree:
    """Activations of one or more networks from plain arrays.

    Parameters
    ----------
    networks : {network: {layer: (stimulus, unit) array}}
        Layers in order from input to output; the order gives `layer_index` and `depth`.
    stimulus_id : (stimulus,) str
        One label per row, shared by all layers.
    attrs : mapping, optional
        Attributes of the tree.
    layer_attrs : {network: {layer: mapping}}, optional
        Attributes per layer (`kind`, `depth`, preprocessing, …).
    neuroid : {network: {layer: (unit,) int}}, optional
        Positions of sampled units in the flattened layer; 0, 1, 2 … when absent.

    Returns
    -------
    DataTree
        Nodes `/network/layer`, each with `activation(stimulus_id, neuroid)`.

    Raises
    ------
    LabelError, DataError
        Labels that are not unique strings or do not fit the rows; NaN; an empty layer.

    Examples
    --------
    >>> import numpy as np
    >>> tree = activations({"mynet": {"layer1": np.eye(3)}}, stimulus_id=["a", "b", "c"])
    >>> tree["mynet/layer1"]["activation"].sizes["neuroid"]
    3
    """
    _require_tables(networks, "activations", "{network: {layer: array of (stimulus, unit)}}")
    ids = labels.as_stimulus_ids(stimulus_id, "activations", unique=True)

    def layer_dataset(network: str, layer: str, values: Any) -> xr.Dataset:
        where = f"activations of {network}/{layer}"
        array = given.matrix(values, where, len(ids), "stimulus")
        units = (neuroid or {}).get(network, {}).get(layer)
        units = np.arange(array.shape[1]) if units is None else np.asarray(units)
        if units.shape != (array.shape[1],):
            raise LabelError(f"{where}: {units.size} unit labels for {array.shape[1]} units")
        return xr.Dataset(
            {"activation": (("stimulus_id", "neuroid"), array)},
            coords={"stimulus_id": ids, "neuroid": units},
        )

    return _network_tree(networks, layer_dataset, attrs, layer_attrs)


def responses(
    subjects: Mapping[str, Any],
    *,
    stimulus_id: Any,
    split: Any = None,
    repetition: Any = None,
    roi_mask: Masks | Mapping[str, Masks] | None = None,
    presentation: Mapping[str, Any | Mapping[str, Any]] | None = None,
    neuroid: Mapping[str, Any | Mapping[str, Any]] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Brain responses per subject from plain arrays.

    Parameters
    ----------
    subjects : {subject: (presentation, voxel) array}
    stimulus_id : (presentation,) str, or {subject: …}
        Which stimulus each row shows; a stimulus shown again is a repetition.
    split : (presentation,) str or {subject: …}, optional
        `train`, `test` or `imagery` per row. Without it, metrics that need training stimuli
        cross-validate over stimuli.
    repetition : (presentation,) int or {subject: …}, optional
        Counted within stimulus and split, in row order, when absent.
    roi_mask : {roi: (voxel,) bool} or {subject: {roi: …}}, optional
        Masks may overlap. Without it one ROI `all`.
    presentation : {name: (presentation,) array or {subject: …}}, optional
        More coordinates of the rows: `run`, `session`, `category`, …
    neuroid : {name: (voxel,) array or {subject: …}}, optional
        More coordinates of the voxels: `voxel_x`, …
    attrs : mapping, optional
        Attributes of the tree.

    Returns
    -------
    DataTree
        One node per subject: `response(presentation, neuroid)`, `roi_mask(roi, neuroid)`.

    Raises
    ------
    LabelError, DataError
        Labels that do not fit; an unknown split; NaN voxels inside an ROI; an empty ROI.
    """
    _require_table(subjects, "responses", "{subject: array of (presentation, voxel)}")
    if not subjects:
        raise DataError("responses: no subjects")
    both = set(presentation or ()) & set(neuroid or ())
    if both:
        raise LabelError(f"responses: '{min(both)}' cannot be a coordinate of rows and of columns")
    nodes: dict[str, xr.Dataset] = {}
    for subject, values in subjects.items():
        where = f"responses of {subject}"
        ids = labels.as_stimulus_ids(given.for_subject(stimulus_id, subject, where), where)
        array = given.matrix(values, where, len(ids), "presentation", finite=False)
        split_ = given.split_of(given.for_subject(split, subject, where), len(ids), where)
        repetition_ = given.for_subject(repetition, subject, where)
        repetition_ = (
            given.count_repetitions(ids, split_) if repetition_ is None else np.asarray(repetition_)
        )
        if repetition_.shape != ids.shape:
            raise LabelError(f"{where}: {repetition_.size} repetitions for {len(ids)} rows")
        if repetition_.dtype.kind not in "iu":
            raise LabelError(
                f"{where}: repetition must be whole numbers counted from 0, got {repetition_.dtype}"
            )
        masks = given.masks_of(roi_mask, subject, array.shape[1], where)
        more = {
            **given.coordinates(presentation, "presentation", subject, array.shape[0], where),
            **given.coordinates(neuroid, "neuroid", subject, array.shape[1], where),
        }
        dataset = xr.Dataset(
            {
                "response": (("presentation", "neuroid"), array),
                "roi_mask": (("roi", "neuroid"), np.array(list(masks.values()))),
            },
            coords={
                **more,
                "stimulus_id": ("presentation", ids),
                "split": ("presentation", split_),
                "repetition": ("presentation", repetition_.astype(int)),
                "roi": list(masks),
            },
        )
        nodes[_new_node(nodes, subject)] = validate_response(dataset, where)
    return _tree(nodes, attrs, kind="responses")


def rdms(
    rdm: Mapping[str, Mapping[str, Any]],
    *,
    stimulus_id: Any,
    of: str = "brain",
    attrs: Mapping[str, Any] | None = None,
    layer_attrs: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> xr.DataTree:
    """Dissimilarities where only RDMs exist: of brains or of a network's layers.

    Parameters
    ----------
    rdm : {subject: {roi: D}} or, with ``of="network"``, {network: {layer: D}}
        D: (stimulus, stimulus) symmetric with a zero diagonal, or (pair,) upper triangle in
        row-major order. For brains a leading session axis is allowed.
    stimulus_id : (stimulus,) str
    of : {"brain", "network"}
    attrs, layer_attrs : mapping, optional

    Returns
    -------
    DataTree
        Nodes per subject with `rdm(roi, pair)` or `rdm(roi, session, pair)`, or nodes
        `/network/layer` with `rdm(pair)`; `pair` has coords `stimulus_a`, `stimulus_b`.

    Raises
    ------
    LabelError, DataError
        Labels that do not fit the size; an RDM that is not symmetric; NaN.
    """
    levels = "{network: {layer: D}}" if of == "network" else "{subject: {roi: D}}"
    _require_tables(rdm, "rdms", levels)
    ids = labels.as_stimulus_ids(stimulus_id, "rdms", unique=True)
    a, b = np.triu_indices(len(ids), 1)
    coords = {"stimulus_a": ("pair", ids[a]), "stimulus_b": ("pair", ids[b])}
    if of == "network":

        def layer_dataset(network: str, layer: str, values: Any) -> xr.Dataset:
            vector = given.pair_vector(values, f"RDM of {network}/{layer}", len(ids))
            if vector.ndim != 1:
                raise DataError(f"RDM of {network}/{layer}: one RDM per layer, without sessions")
            return xr.Dataset({"rdm": ("pair", vector)}, coords=coords)

        return _network_tree(rdm, layer_dataset, attrs, layer_attrs)
    if of != "brain":
        raise ProtocolError(plugins.unknown("kind of RDM", of, ["brain", "network"]))
    if not rdm:
        raise DataError("rdms: no subjects")
    nodes: dict[str, xr.Dataset] = {}
    for subject, rois in rdm.items():
        stack = [
            given.pair_vector(v, f"RDM of {subject}, {roi}", len(ids)) for roi, v in rois.items()
        ]
        if not stack or len({v.shape for v in stack}) > 1:
            raise DataError(f"RDMs of {subject}: at least one ROI, all with equal session counts")
        dims = ("roi", "pair") if stack[0].ndim == 1 else ("roi", "session", "pair")
        nodes[_new_node(nodes, subject)] = xr.Dataset(
            {"rdm": (dims, np.array(stack))}, coords={**coords, "roi": list(rois)}
        )
    return _tree(nodes, attrs, kind="rdms")


def validate_response(data: xr.Dataset, where: str) -> xr.Dataset:
    """Check one subject's responses: no empty ROI, no NaN inside an ROI; returns `data`."""
    counts = data["roi_mask"].values.sum(axis=1)
    for roi, mask, count in zip(data["roi"].values, data["roi_mask"].values, counts, strict=True):
        if count == 0:
            raise DataError(f"{where}: ROI '{roi}' is empty (no voxel in its mask); leave it out")
        labels.require_finite(data["response"].values[:, mask], f"{where}, ROI {roi}")
    return data


def _require_table(given: Any, where: str, expected: str) -> None:
    if not isinstance(given, Mapping):
        raise DataError(f"{where}: expected {expected}, got {type(given).__name__}")


def _require_tables(given: Any, where: str, expected: str) -> None:
    _require_table(given, where, expected)
    for name, inner in given.items():
        _require_table(inner, f"{where}, '{name}'", f"{expected}; below '{name}' a table")


def _network_tree(
    networks: Mapping[str, Mapping[str, Any]],
    layer_dataset: Any,
    attrs: Mapping[str, Any] | None,
    layer_attrs: Mapping[str, Mapping[str, Mapping[str, Any]]] | None,
) -> xr.DataTree:
    nodes: dict[str, xr.Dataset] = {}
    for network, layers in networks.items():
        if not layers:
            raise DataError(f"network '{network}' has no layers")
        last = max(len(layers) - 1, 1)
        for index, (layer, values) in enumerate(layers.items()):
            dataset = layer_dataset(network, layer, values)
            node = f"{labels.safe_name(network)}/{labels.safe_name(layer)}"
            if node in nodes:
                raise LabelError(f"two layers are called '{node}'")
            default = {
                "layer_index": index,
                "depth": index / last if len(layers) > 1 else 1.0,
                "original_name": layer,
            }
            given = (layer_attrs or {}).get(network, {}).get(layer, {})
            dataset.attrs = labels.clean_attrs({**default, **given})
            nodes[node] = dataset
    if not nodes:
        raise DataError("no networks")
    return _tree(nodes, attrs, kind="activations")


def _tree(
    nodes: Mapping[str, xr.Dataset], attrs: Mapping[str, Any] | None, kind: str
) -> xr.DataTree:
    tree = xr.DataTree.from_dict(dict(nodes))
    tree.attrs = {
        **labels.clean_attrs(attrs),
        "rsacompare_kind": kind,
        "rsacompare_format": FORMAT,
    }
    return tree


def _new_node(nodes: Mapping[str, Any], subject: str) -> str:
    """The name of a subject's node; two that differ in '/' and '.' alone would overwrite."""
    name = labels.safe_name(subject)
    if name in nodes:
        raise LabelError(f"two subjects are called '{name}'; give one another name")
    return name
