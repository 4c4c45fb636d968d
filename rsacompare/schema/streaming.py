"""Activations larger than memory: written to netCDF in blocks, opened without being read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from rsacompare.errors import DataError, LabelError
from rsacompare.schema import labels, store
from rsacompare.schema.arrays import FORMAT

CHUNK = 1 << 20  # bytes of a chunk, near


@dataclass(frozen=True)
class StreamedLayer:
    """A layer as blocks of rows: `rows` gives (stimulus, unit) arrays, in order."""

    name: str
    rows: Iterable[np.ndarray]
    neuroid: np.ndarray
    attrs: Mapping[str, Any]
    coords: Mapping[str, np.ndarray] = field(default_factory=dict)


def write_activations(
    path: str | Path,
    network: str,
    layers: Iterable[StreamedLayer],
    *,
    stimulus_id: np.ndarray,
    attrs: Mapping[str, Any],
) -> None:
    """Write the activations of a network as :func:`rsacompare.activations` would make them.

    Never more than a block of a layer is in memory; the file appears only when it is whole.
    """
    ids = labels.as_stimulus_ids(stimulus_id, str(path), unique=True)
    head = {**labels.clean_attrs(attrs), "rsacompare_kind": "activations"}
    with store.atomic_path(path) as temporary, h5netcdf.File(temporary, "w") as file:
        file.attrs.update({**head, "rsacompare_format": FORMAT})
        node = file.create_group(labels.safe_name(network))
        for layer in layers:
            if labels.safe_name(layer.name) in node.groups:
                raise LabelError(f"two layers are called '{labels.safe_name(layer.name)}'")
            _write_layer(node.create_group(labels.safe_name(layer.name)), layer, ids)


def _write_layer(group: Any, layer: StreamedLayer, ids: np.ndarray) -> None:
    n, k = len(ids), len(layer.neuroid)
    group.dimensions = {"stimulus_id": n, "neuroid": k}
    held = group.create_variable("stimulus_id", ("stimulus_id",), h5netcdf.core.h5py.string_dtype())
    held[:] = ids.astype(object)
    for name, values in {"neuroid": layer.neuroid, **layer.coords}.items():
        group.create_variable(name, ("neuroid",), data=np.asarray(values))
    columns = max(1, min(k, CHUNK // 4))
    chunks = (max(1, min(n, CHUNK // (4 * columns))), columns)
    target = group.create_variable(
        "activation", ("stimulus_id", "neuroid"), np.float32, chunks=chunks
    )
    if layer.coords:
        target.attrs["coordinates"] = " ".join(layer.coords)
    start = 0
    for block in layer.rows:
        target[start : start + len(block)] = block
        start += len(block)
    group.attrs.update(labels.clean_attrs(layer.attrs))


def open_activations(path: str | Path) -> xr.DataTree:
    """Activations of a file of ours whose values are read only when they are used.

    The file stays open while the tree lives, and what was read is not kept in memory. Values are
    those that were checked when the file was written; :func:`rsacompare.load_activations` reads
    and checks them all.
    """
    try:
        tree = xr.open_datatree(path, engine="h5netcdf", cache=False)
    except Exception as err:  # h5py raises many kinds for a broken file
        raise DataError(f"{path} cannot be read ({type(err).__name__}: {err})") from err
    return tree.map_over_datasets(store.plain_strings)


def read_attrs(path: str | Path) -> dict[str, Any]:
    """Attributes of a file's root; none where it is not one of ours."""
    try:
        with h5netcdf.File(path, "r") as file:
            return dict(file.attrs)
    except Exception:  # h5py raises many kinds for what is not its own
        return {}
