"""One small door per kind of array: plain numpy plus labels in, a labelled DataTree out."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema import labels, store

FORMAT = 1  # of the trees on disk
RDM_SUFFIXES = (".npz", ".mat", ".csv", ".tsv")  # files that `load_rdms` reads
Masks = Mapping[str, np.ndarray]
RESERVED = (
    "stimulus_id", "split", "repetition", "roi", "response", "roi_mask", "presentation", "neuroid"
)  # fmt: skip


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
        array = _matrix(values, where, len(ids), "stimulus")
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
        ids = labels.as_stimulus_ids(_for_subject(stimulus_id, subject, where), where)
        array = _matrix(values, where, len(ids), "presentation", finite=False)
        split_ = _split(_for_subject(split, subject, where), len(ids), where)
        repetition_ = _for_subject(repetition, subject, where)
        repetition_ = (
            _count_repetitions(ids, split_) if repetition_ is None else np.asarray(repetition_)
        )
        if repetition_.shape != ids.shape:
            raise LabelError(f"{where}: {repetition_.size} repetitions for {len(ids)} rows")
        if repetition_.dtype.kind not in "iu":
            raise LabelError(
                f"{where}: repetition must be whole numbers counted from 0, got {repetition_.dtype}"
            )
        masks = _masks(roi_mask, subject, array.shape[1], where)
        more = {
            **_coords(presentation, "presentation", subject, array.shape[0], where),
            **_coords(neuroid, "neuroid", subject, array.shape[1], where),
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
            vector = _pair_vector(values, f"RDM of {network}/{layer}", len(ids))
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
        stack = [_pair_vector(v, f"RDM of {subject}, {roi}", len(ids)) for roi, v in rois.items()]
        if not stack or len({v.shape for v in stack}) > 1:
            raise DataError(f"RDMs of {subject}: at least one ROI, all with equal session counts")
        dims = ("roi", "pair") if stack[0].ndim == 1 else ("roi", "session", "pair")
        nodes[_new_node(nodes, subject)] = xr.Dataset(
            {"rdm": (dims, np.array(stack))}, coords={**coords, "roi": list(rois)}
        )
    return _tree(nodes, attrs, kind="rdms")


def load_activations(source: str | Path, **options: Any) -> xr.DataTree:
    """Activations from a file or by a registered name.

    Parameters
    ----------
    source : path or str
        A netCDF file of ours, an npz file (keys `stimulus_id`, `layers`, and per layer
        `<layer>`, `<layer>.unit_index`, `<layer>.n_units`), a file of layer RDMs (`.npz`, `.mat`,
        `.csv`: :func:`rsacompare.load_rdms`), or a name from ``rsacompare list networks``.
    **options
        For a named source: passed on. For a file: `name`, the network's name, and for RDMs the
        options of :func:`rsacompare.load_rdms`.

    Returns
    -------
    DataTree
        Nodes `/network/layer`.

    Raises
    ------
    DataError, ProtocolError
        A file that cannot be read; an unknown name.
    """
    path = Path(source)
    if path.suffix.lower() == ".npz" and (_has_layers(path) or not path.is_file()):
        other = [option for option in options if option != "name"]
        if other:
            raise ProtocolError(f"{path} holds activations; they have no {labels.listed(other)}")
        return _read_npz(path, **options)
    if path.suffix.lower() in RDM_SUFFIXES:
        from rsacompare.schema.rdm_files import load_rdms  # it makes its trees with `rdms` above

        try:
            return load_rdms(path, "network", **options)
        except (DataError, LabelError) as err:
            hint = "; an npz of activations needs the keys 'stimulus_id' and 'layers'"
            raise type(err)(f"{err}{hint if path.suffix == '.npz' else ''}") from err
    if path.suffix in (".nc", ".h5") or path.is_file():
        if options:
            raise ProtocolError(f"{path}: a netCDF file takes no options, got {', '.join(options)}")
        return read_tree(path, "activations")
    return plugins.find("networks", str(source))(**options)


def read_tree(path: str | Path, kind: str | None = None) -> xr.DataTree:
    """A tree of ours from netCDF; every array is validated again.

    Raises
    ------
    DataError
        When the file is broken, or holds another kind of tree than `kind`.
    """
    tree = store.read_netcdf(path)
    found = tree.attrs.get("rsacompare_kind")
    if found is None or (kind is not None and found != kind):
        raise DataError(
            f"{path} holds {found or 'no rsacompare data'}, expected {kind or 'a tree'}"
        )
    variables = {"responses": ["response", "roi_mask"], "rdms": ["rdm"], "activations": []}
    for node in tree.leaves:
        data, where = node.to_dataset(), f"{path}, {node.path.strip('/')}"
        absent = [v for v in variables.get(found, []) if v not in data]
        if absent or not ({"response", "rdm", "activation"} & set(data)):
            raise DataError(f"{where}: {labels.listed(absent or ['activation', 'rdm'])} not there")
        if found == "responses":
            validate_response(data, where)
        else:
            values = data["rdm" if "rdm" in data else "activation"].values
            labels.require_finite(values.reshape(-1, values.shape[-1]), where)
    return tree


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


def _matrix(values: Any, where: str, n_rows: int, row: str, finite: bool = True) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: numbers expected, got {array.dtype}")
    if array.ndim != 2 or array.shape[0] != n_rows:
        raise DataError(
            f"{where}: expected ({row}, neuroid) with {n_rows} rows for {n_rows} stimulus ids, "
            f"got shape {array.shape}"
        )
    if array.shape[1] == 0 or n_rows == 0:
        raise DataError(f"{where}: empty, shape {array.shape}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if finite:
        labels.require_finite(array, where)
    return array


def _pair_vector(values: Any, where: str, n: int) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: numbers expected, got {array.dtype}")
    if n < 3:
        raise DataError(f"{where}: {n} stimuli make no dissimilarities to compare; at least 3")
    array = array.astype(np.float64)
    m = n * (n - 1) // 2
    if array.ndim >= 2 and array.shape[-2:] == (n, n):
        scale = float(np.max(np.abs(array), initial=1e-300, where=np.isfinite(array)))
        if not np.allclose(array, np.swapaxes(array, -1, -2), atol=1e-6 * scale, equal_nan=True):
            raise DataError(f"{where}: not symmetric")
        if np.abs(np.diagonal(array, axis1=-2, axis2=-1)).max() > 1e-6 * scale:
            raise DataError(f"{where}: the diagonal is not zero: are these similarities?")
        i, j = np.triu_indices(n, 1)
        array = array[..., i, j]
    if array.shape[-1:] != (m,) or array.ndim > 2:
        raise DataError(
            f"{where}: shape {np.shape(values)} does not fit {n} stimuli: expected ({n}, {n}) or "
            f"the upper triangle of {m}"
        )
    bad = np.flatnonzero(~np.isfinite(np.atleast_2d(array)).all(axis=0))
    if bad.size:
        first = ", ".join(str(k[bad[0]]) for k in np.triu_indices(n, 1))
        raise DataError(
            f"{where}: {bad.size} of {m} pairs are NaN or infinite (first: rows {first}, counted "
            "from 0); leave out the stimuli they belong to"
        )
    return array


def _masks(
    roi_mask: Masks | Mapping[str, Masks] | None, subject: str, n_voxels: int, where: str
) -> dict[str, np.ndarray]:
    masks: Any = roi_mask
    if masks and isinstance(next(iter(masks.values())), Mapping):
        if subject not in masks:
            raise LabelError(f"{where}: roi_mask has no entry for this subject")
        masks = masks[subject]
    if not masks:
        masks = {"all": np.ones(n_voxels, dtype=bool)}
    checked = {}
    for roi, mask in masks.items():
        array = np.asarray(mask)
        if array.shape != (n_voxels,):
            raise DataError(
                f"{where}: mask of ROI '{roi}' has shape {array.shape}, expected ({n_voxels},) "
                "booleans, one per voxel"
            )
        if array.dtype != bool and not np.isin(array, (0, 1)).all():
            raise DataError(f"{where}: mask of ROI '{roi}' must be boolean, got {array.dtype}")
        checked[str(roi)] = array.astype(bool)
    return checked


def _for_subject(value: Any, subject: str, where: str) -> Any:
    if isinstance(value, Mapping):
        if subject not in value:
            raise LabelError(f"{where}: no labels for this subject")
        return value[subject]
    return value


def _coords(
    given: Mapping[str, Any] | None, dim: str, subject: str, n: int, where: str
) -> dict[str, tuple[str, np.ndarray]]:
    """Further coordinates along `dim`: numbers or text, one for each of `n`."""
    coords = {}
    for name, value in (given or {}).items():
        if name in RESERVED:
            raise LabelError(f"{where}: '{name}' has a meaning of its own, not a {dim} coordinate")
        array = np.asarray(_for_subject(value, subject, where))
        if array.dtype.kind in "OT":
            array = array.astype(str)
        if array.shape != (n,) or array.dtype.kind not in "biufU":
            raise LabelError(
                f"{where}: coordinate '{name}' must be numbers or text, one for each of {n} along "
                f"{dim}; got shape {array.shape}, {array.dtype}"
            )
        coords[name] = (dim, array)
    return coords


def _split(given: Any, n_rows: int, where: str) -> np.ndarray:
    """Split of each presentation; all "" when the study has none."""
    split = np.full(n_rows, "") if given is None else np.asarray(given).astype(str)
    names = set(split.ravel().tolist())
    odd = sorted(names - set(labels.SPLITS)) if names != {""} else []
    if odd or split.shape != (n_rows,):
        raise LabelError(
            f"{where}: split must name one of {', '.join(labels.SPLITS)} for each of {n_rows} "
            f"presentations; got {labels.listed(odd or sorted(names))} in {split.size} labels"
        )
    return split


def _new_node(nodes: Mapping[str, Any], subject: str) -> str:
    """The name of a subject's node; two that differ in '/' and '.' alone would overwrite."""
    name = labels.safe_name(subject)
    if name in nodes:
        raise LabelError(f"two subjects are called '{name}'; give one another name")
    return name


def _count_repetitions(ids: np.ndarray, split: np.ndarray) -> np.ndarray:
    seen: dict[tuple[str, str], int] = {}
    out = np.empty(len(ids), dtype=int)
    for row, key in enumerate(zip(ids.tolist(), split.tolist(), strict=True)):
        out[row] = seen.get(key, 0)
        seen[key] = out[row] + 1
    return out


def _has_layers(path: Path) -> bool:
    """Whether an npz is one of activations, or too broken to tell."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "layers.npy" in archive.namelist()
    except Exception:  # zipfile raises many kinds for a broken file; the reader says what is wrong
        return True


def _read_npz(path: Path, name: str | None = None) -> xr.DataTree:
    if not path.is_file():
        raise DataError(f"no file {path}")
    try:
        # opened here, since numpy leaves a broken file open
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            held = {key: file[key] for key in file.files}
    except Exception as err:  # zipfile, zlib and numpy raise many kinds for a broken file
        raise DataError(
            f"{path} cannot be read as npz ({type(err).__name__}: {err}); it may be truncated"
        ) from err
    if not {"stimulus_id", "layers"} <= held.keys():
        raise DataError(f"{path}: an activations npz needs the keys 'stimulus_id' and 'layers'")
    network = name or path.stem
    layers = [str(layer) for layer in held["layers"]]
    absent = [layer for layer in layers if layer not in held]
    if absent:
        raise DataError(f"{path}: layers named but not there: {labels.listed(absent)}")
    shared: dict[str, Any] = {}
    for key in ("note", "imagenet_top1"):
        if key in held:
            shared[key] = held[key].item() if held[key].ndim == 0 else str(held[key])
    if not np.isfinite(shared.get("imagenet_top1", np.nan)):
        shared.pop("imagenet_top1", None)
    layer_attrs, units = {}, {}
    for layer in layers:
        layer_attrs[layer] = dict(shared)
        if f"{layer}.n_units" in held:
            layer_attrs[layer]["n_units"] = int(held[f"{layer}.n_units"])
        if f"{layer}.unit_index" in held:
            units[layer] = held[f"{layer}.unit_index"]
    return activations(
        {network: {layer: held[layer] for layer in layers}},
        stimulus_id=held["stimulus_id"],
        layer_attrs={network: layer_attrs},
        neuroid={network: units},
        attrs={"inputs": {path.name: store.file_sha256(path)}},
    )
