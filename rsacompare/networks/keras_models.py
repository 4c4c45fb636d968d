"""The networks of keras.applications, built from the table `zoo.toml` and checked against it.

`layers.toml` holds what the layers of the named sets must be: shape and parameters by name. A
model of another architecture, or of a Keras version that changed one, is refused with the
difference, so that a layer is never another one of the same name.
"""

from __future__ import annotations

import os
import random
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rsacompare import plugins
from rsacompare.errors import DataError, FetchError, ProtocolError
from rsacompare.networks import engine
from rsacompare.networks.keras_network import KerasNetwork
from rsacompare.networks.layer_kinds import automatic_name
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.networks.presets import preprocessing

TOP1_SOURCE = "Keras applications table (keras.io/api/applications)"
TORCHVISION = "torchvision 0.29.2, IMAGENET1K_V1: its own network of this name"
_SUFFIXES = (".h5", ".hdf5", ".npz")


@lru_cache
def table(file: str = "zoo.toml") -> Mapping[str, Any]:
    """Networks, or the layers of their sets, by name: `zoo.toml` or `layers.toml`."""
    return tomllib.loads((files("rsacompare.networks") / file).read_text(encoding="utf-8"))


def row(name: str) -> dict[str, Any]:
    """The row of a network in `zoo.toml`.

    Raises
    ------
    ProtocolError
        No such network.
    """
    if name not in table():
        raise ProtocolError(plugins.unknown("network of the zoo", name, table()))
    return dict(table()[name])


def default_preprocessing(name: str, size: tuple[int, int] | None = None) -> Preprocessing:
    """As Keras' own examples show a picture: squashed, nearest neighbour, the network's colours."""
    known = row(name)
    return Preprocessing(size or (known["size"], known["size"]), known["scaling"])


def build(name: str, weights: str | Path | None, random_state: int) -> tuple[Any, dict[str, Any]]:
    """A `keras.Model` of the zoo with its weights, and what they are.

    Parameters
    ----------
    name : str
        A row of `zoo.toml`.
    weights : "imagenet", path or None
        Keras' own download; a file of weights of the whole network; random, as Keras initialises.
    random_state : int
        Of random weights.

    Returns
    -------
    model : keras.Model
        Layers that Keras numbers by what was built before in the process (`conv2d_94`) are
        numbered from 0, so that a name means the same layer everywhere.
    attrs : dict
        For :attr:`rsacompare.networks.network.Network.attrs`.

    Raises
    ------
    ProtocolError, FetchError, DataError
        A file of another kind; weights that cannot be downloaded; weights that do not fit.
    """
    known = row(name)
    trained = weights == "imagenet"
    file = None if weights is None or trained else _weights_file(name, weights)
    if isinstance(random_state, bool) or not isinstance(random_state, int) or random_state < 0:
        raise ProtocolError(f"random_state must be a whole number from 0, got {random_state!r}")
    builder = getattr(engine.keras().applications, known["builder"])  # seconds, after the checks
    shape = (known["size"], known["size"], 3)
    with _seeded(random_state), _download_errors(name), redirect_stdout(sys.stderr):
        model = builder(weights="imagenet" if trained else None, input_shape=shape)
    attrs: dict[str, Any] = {"citation": f"keras.applications.{known['builder']}"}
    if trained:
        attrs["weights"] = "ImageNet, from keras.applications"
        if "imagenet_top1" in known:
            attrs["imagenet_top1"] = float(known["imagenet_top1"])
            attrs["imagenet_top1_source"] = TOP1_SOURCE
        if "imagenet_top1_torchvision" in known:
            attrs["imagenet_top1_torchvision"] = float(known["imagenet_top1_torchvision"])
            attrs["imagenet_top1_torchvision_source"] = TORCHVISION
    elif file is None:
        attrs["weights"] = f"random (Keras' initialisers, random_state {random_state}), not trained"
    stable_names(model)
    if file is not None:
        attrs |= load_weights(model, file, name)
        if name.startswith("efficientnet_b"):
            # Keras adds a rescaling to the graph where it loads ImageNet's weights by itself
            attrs["note"] = (
                "without the rescaling of colours that ImageNet's own weights need in Keras: for "
                f"those, put the file into {_cache()} and pass weights='imagenet'"
            )
    return model, attrs


def finished(
    model: Any,
    name: str,
    attrs: Mapping[str, Any],
    shown: Any = None,
    sets: Mapping[str, Sequence[str]] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> KerasNetwork:
    """A model of the zoo as a network: checked against the table, with its checksum.

    Parameters
    ----------
    model : keras.Model
    name : str
        A row of `zoo.toml`.
    attrs : mapping
    shown : Preprocessing, name or mapping, optional
        In place of the zoo's.
    sets : mapping, optional
        Layer sets beside `default`.
    shapes : {layer: shape}, optional
        Where a variant differs from the table on purpose.

    Raises
    ------
    ProtocolError
        Layers whose shape or parameters differ from the table.
    """
    from rsacompare.networks.weights import weights_digest

    chosen = default_preprocessing(name) if shown is None else preprocessing(shown)
    net = KerasNetwork(model, name, chosen, None, attrs)
    check(net, name, shapes or {})  # before its sets: a missing layer is told with the others
    net.sets = {**net.sets, **(sets or {})}
    net.attrs = {**net.attrs, "weights_sha256": weights_digest(model)}
    return net


def check(net: KerasNetwork, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a network whose layers are not those of the table.

    Raises
    ------
    ProtocolError
        Each difference: layer, expected, found.
    """
    wrong = []
    found = {layer.name: layer for layer in net.layers()}
    for layer, (*shape, n_parameters) in table("layers.toml").get(name, {}).items():
        if layer not in found:
            wrong.append(f"{layer}: expected, not found")
            continue
        wanted = tuple(shapes.get(layer, shape))
        if found[layer].shape != wanted:
            wrong.append(f"{layer}: expected shape {wanted}, found {found[layer].shape}")
        if found[layer].n_parameters != n_parameters:
            wrong.append(
                f"{layer}: expected {n_parameters:,} parameters, "
                f"found {found[layer].n_parameters:,}"
            )
    total = net.model.count_params()
    if total != row(name)["n_parameters"]:
        wrong.append(f"in all: expected {row(name)['n_parameters']:,} parameters, found {total:,}")
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ProtocolError(
            f"network {net.name} is not the {name} of keras.applications: "
            f"{'; '.join(wrong[:5])}{more}"
        )


def load_weights(model: Any, file: Path, name: str) -> dict[str, Any]:
    """Weights of a file, `.weights.h5`, `.h5` (as Keras writes them) or `.npz` (as we do).

    Raises
    ------
    DataError
        A damaged file, or weights of another network.
    """
    from rsacompare.networks.weights import load_weights_npz
    from rsacompare.schema.store import file_sha256

    said: dict[str, Any] = {"weights": f"from {file.name}"}
    if file.suffix == ".npz":
        said |= load_weights_npz(model, file)
    else:
        try:
            model.load_weights(file)
        except Exception as err:  # h5py's and Keras' are of many kinds
            told = " ".join(str(err).split())
            raise DataError(
                f"{file}: these are no weights of {name}, or the file is damaged: {told[:300]}"
            ) from err
    return {**said, "weights_file_sha256": file_sha256(file)}


def _weights_file(name: str, weights: str | Path) -> Path:
    path = Path(weights)
    if path.suffix not in _SUFFIXES:
        raise ProtocolError(
            f"{name}: weights must be 'imagenet', 'random' or a file "
            f"({', '.join(_SUFFIXES)}), got '{weights}'"
        )
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of weights")
    return path


@contextmanager
def _seeded(random_state: int) -> Iterator[None]:
    """Keras' initialisers draw their seeds from `random`; the user's stream is put back."""
    state = random.getstate()
    random.seed(random_state)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _download_errors(name: str) -> Iterator[None]:
    """What Keras raises where a download fails or is damaged, as a `FetchError`."""
    try:
        yield
    except Exception as err:
        told = " ".join(str(err).split())
        address = re.search(r"https?://\S+?(?=[:,;]?(?:\s|$))", told)
        if "URL fetch failure" not in told and "corrupted file" not in told:
            raise
        where = address.group() if address else "the trained weights"
        why = told.rpartition(" -- ")[2] if " -- " in told else told
        raise FetchError(
            f"{name}: {where} cannot be had ({why[-200:]}); download it elsewhere and put it "
            f"into {_cache()}, or pass weights=PATH, or weights='random'"
        ) from err


def _cache() -> str:
    return str(Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models")


def stable_names(model: Any) -> None:
    """Number automatically named layers from 0 in the order they were made, in a model of ours."""
    groups: dict[str, list[tuple[int, Any]]] = {}
    for operation in _operations(model):
        base = automatic_name(type(operation).__name__)
        match = re.fullmatch(rf"{base}(?:_(\d+))?", operation.name)
        if match:
            groups.setdefault(base, []).append((int(match.group(1) or 0), operation))
    for base, members in groups.items():
        for k, (_, operation) in enumerate(sorted(members, key=lambda member: member[0])):
            old, operation.name = operation.name, f"{base}_{k}" if k else base
            for variable in getattr(operation, "weights", ()):  # their paths name npz files
                held = getattr(variable, "_path", "")
                if held.startswith(f"{old}/"):
                    variable._path = f"{operation.name}/{held[len(old) + 1 :]}"


def _operations(model: Any) -> Iterator[Any]:
    from rsacompare.networks.graph import has_graph

    for operation in getattr(model, "operations", model.layers):
        yield operation
        if has_graph(operation):
            yield from _operations(operation)
