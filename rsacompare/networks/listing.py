"""The table of a network's layers, as `rsacompare list layers` prints it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.networks.network import Network
from rsacompare.networks.zoo import network, registered

_COLUMNS = ("layer", "op", "shape", "units", "parameters", "depth", "sets")
_RIGHT = ("units", "parameters", "depth")


def runnable(source: str | Path, options: Mapping[str, Any] | None = None) -> Network | None:
    """The network that a name or file means, with random weights where it has a choice.

    None where it stands for known activations, which :func:`rsacompare.load_activations` reads.

    Parameters
    ----------
    source : str or path
    options : mapping, optional
        As of :func:`rsacompare.networks.zoo.network`: `padding="yu2018"` of resnet50; for a
        model's file `like="resnet50"`, with which another architecture is refused.

    Raises
    ------
    ProtocolError, DataError
        A network that cannot be built, or that is not what it shall be like; a file that cannot
        be read.
    """
    given = dict(options or {})
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix in (".keras", ".tflite") or (suffix in (".h5", ".hdf5") and _is_keras(path)):
        # how it takes pictures changes nothing in the table
        shown = {} if suffix == ".tflite" or "like" in given else {"preprocessing": "keras-raw"}
        return network(path, **{**shown, **given})
    if str(source) not in plugins.names("networks"):  # a name may hold a dot
        return None
    maker = plugins.find("networks", str(source))
    module = str(getattr(maker, "__module__", ""))
    if "weights" in inspect.signature(maker).parameters:
        return registered(str(source), {"weights": None, **given}, "keras-raw")[0]
    if module.startswith("rsacompare.datasets."):  # not loaded twice
        return None
    try:
        return registered(str(source), given, "keras-raw")[0]
    except ProtocolError as err:
        if "known activations" in str(err):
            return None
        raise


def _is_keras(path: Path) -> bool:
    """Whether an HDF5 file is a model of Keras, and not activations in netCDF."""
    import h5py

    try:
        with h5py.File(path) as file:
            return "model_config" in file.attrs or "layer_names" in file.attrs
    except OSError:
        return False


def layer_table(net: Network) -> list[str]:
    """A line per layer, a heading before and the named sets after.

    Parameters
    ----------
    net : Network

    Returns
    -------
    list of str
        Columns layer, op, shape, units, parameters, depth, sets; a set that reads the layer at
        another place than its output names that place, as `default:logits`.
    """
    within: dict[str, list[str]] = {}
    known = {layer.name for layer in net.layers()}
    for name, specs in net.sets.items():
        for spec in specs:
            base, _, op = (spec, "", "") if spec in known else spec.rpartition(":")
            within.setdefault(base, []).append(f"{name}:{op}" if op else name)
    rows = [_COLUMNS]
    for layer in net.layers():
        rows.append(
            (
                layer.name,
                layer.op,
                " x ".join(map(str, layer.shape)),
                f"{layer.n_units:,}",
                f"{layer.n_parameters:,}",
                f"{layer.depth:.2f}",
                ", ".join(within.get(layer.name, ())),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_padded, row, _COLUMNS, widths)).rstrip() for row in rows]
    total = sum(layer.n_parameters for layer in net.layers())
    sets = ", ".join(f"{name} ({len(specs)})" for name, specs in net.sets.items())
    return [*lines, "", f"{net.name}: {len(rows) - 1} layers, {total:,} parameters; sets: {sets}"]


def _padded(text: str, column: str, width: int) -> str:
    return text.rjust(width) if column in _RIGHT else text.ljust(width)
