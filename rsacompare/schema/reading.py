"""Arrays of ours from files: activations by file or name, and trees from netCDF."""

from __future__ import annotations

import inspect
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema import labels, store
from rsacompare.schema.arrays import activations, validate_response
from rsacompare.schema.rdm_files import RDM_SUFFIXES, load_rdms


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
        A file that cannot be read; an unknown name; a network that runs (:func:`extract` makes
        its activations).
    """
    path = Path(source)
    if path.suffix.lower() == ".npz" and (_has_layers(path) or not path.is_file()):
        other = [option for option in options if option != "name"]
        if other:
            raise ProtocolError(f"{path} holds activations; they have no {labels.listed(other)}")
        return _read_npz(path, **options)
    if path.suffix.lower() in RDM_SUFFIXES:
        try:
            return load_rdms(path, "network", **options)
        except (DataError, LabelError) as err:
            hint = (
                "; if it holds activations, not RDMs: their npz needs the keys 'stimulus_id' and "
                "'layers', the names of its (stimulus, unit) arrays from input to output"
            )
            raise type(err)(f"{err}{hint if path.suffix == '.npz' else ''}") from err
    if path.suffix.lower() in (".keras", ".tflite"):
        raise ProtocolError(_runs(source))
    if path.suffix in (".nc", ".h5") or path.is_file():
        if options:
            raise ProtocolError(f"{path}: a netCDF file takes no options, got {', '.join(options)}")
        return read_tree(path, "activations")
    plugin = plugins.find("networks", str(source))
    # what says that it returns a network is not made first: that may take minutes and a download
    tree = None if makes_network(plugin) else plugin(**options)
    if not isinstance(tree, xr.DataTree):
        raise ProtocolError(_runs(source))
    return tree


def _runs(source: str | Path) -> str:
    return (
        f"network '{source}' runs here and has no stored activations: make them with "
        f"rc.extract('{source}', pictures), `rsacompare extract {source} PICTURES`, or "
        'stimuli = "…" in its table of a study file'
    )


def makes_network(plugin: Any) -> bool | None:
    """Whether a registered function returns a network that runs, and not a tree.

    Returns
    -------
    bool or None
        As its annotation says; None where it says nothing.
    """
    try:
        made = inspect.signature(plugin).return_annotation
    except (TypeError, ValueError):
        return None
    if made is inspect.Signature.empty or "Any" in str(made):
        return None
    return "DataTree" not in str(made)


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
