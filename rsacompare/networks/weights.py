"""Weights of Keras networks: their checksum, seeded random ones, and npz files of our layout.

An npz file holds an array `<layer>.<weight>` for every weight of the model, e.g. `conv1.kernel`
(height, width, channel in, channel out) and `conv1.bias`, in the layout of Keras: rows of a dense
layer after a flattened convolution are in the order height, width, channel. What else is known
(`imagenet_top1`, …) may stand in `attrs`, one JSON string. Files of other layouts are read by
:mod:`rsacompare.networks.onnx_weights`.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema.labels import listed

ATTRS = "attrs"
# what numpy and zipfile raise for a file with changed bytes; RuntimeError: "encrypted", "not
# implemented"
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    EOFError,
    OSError,
    AttributeError,
    RuntimeError,
    MemoryError,
)


def weights_digest(model: Any) -> str:
    """Sha256 over all weights of a Keras model, in the model's order.

    Type, shape and values of every array count, names do not: the same weights under other layer
    names give the same digest.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for variable in model.weights:
        array = np.asarray(variable)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def named_weights(model: Any) -> dict[str, Any]:
    """The model's variables by `<layer>.<weight>`, in the model's order."""
    return {variable.path.replace("/", "."): variable for variable in model.weights}


def fill_random(model: Any, random_state: int = 0) -> None:
    """Seeded random weights: He normal kernels, small normal biases; the same on every machine.

    Parameters
    ----------
    model : keras.Model
        Changed in place. Weights of one axis (biases) get a standard deviation of 0.01, kernels
        sqrt(2 / fan in), so that activations neither die nor grow through the layers.
    random_state : int
    """
    rng = np.random.default_rng(random_state)
    for variable in model.weights:
        shape = tuple(variable.shape)
        sd = 0.01 if len(shape) < 2 else np.sqrt(2 / np.prod(shape[:-1]))
        values = rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(sd)
        variable.assign(values)


def assign(model: Any, arrays: Mapping[str, np.ndarray], where: str | Path) -> None:
    """Give the model all its weights, after everything about them has been checked.

    Parameters
    ----------
    model : keras.Model
        Changed in place, or left as it was when an error is raised.
    arrays : {`<layer>.<weight>`: array}
        Exactly the model's.
    where : str or path
        For messages.

    Raises
    ------
    DataError
        Weights missing or of no layer of the model; another shape than the layer's; values that
        are not finite numbers. The message names file, layer, expected and found.
    """
    variables = named_weights(model)
    missing = [name for name in variables if name not in arrays]
    extra = [name for name in arrays if name not in variables]
    if missing or extra:
        parts = [f"lacks {listed(missing)}"] if missing else []
        parts += [f"holds {listed(extra)}, which the network has not"] if extra else []
        raise DataError(
            f"{where}: these are no weights of {model.name}: the file {' and '.join(parts)}"
        )
    for name, variable in variables.items():
        check(arrays[name], tuple(variable.shape), f"{where}: {name} of {model.name}")
    for name, variable in variables.items():
        variable.assign(np.asarray(arrays[name], np.float32))


def check(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    """DataError unless an array has the shape, holds floating-point numbers and all are finite."""
    if array.shape != shape:
        raise DataError(f"{what}: expected shape {shape}, found {array.shape}")
    if array.dtype.kind != "f":
        raise DataError(f"{what}: expected floating-point numbers, found {array.dtype}")
    finite = np.isfinite(array)
    if not finite.all():
        bad = array.size - np.count_nonzero(finite)
        raise DataError(f"{what}: expected finite weights, found {bad} that are NaN or infinite")


def save_weights_npz(model: Any, path: str | Path, **attrs: Any) -> Path:
    """Write a model's weights as an npz file that :func:`load_weights_npz` reads.

    Parameters
    ----------
    model : keras.Model
    path : str or path
        Must end in `.npz`.
    **attrs
        What else is known of them, for the network's attributes: `imagenet_top1` (per cent),
        `imagenet_top1_source`, `weights` (in words), `licence`, `citation`, …

    Returns
    -------
    Path

    Raises
    ------
    ProtocolError
        Another suffix.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ProtocolError(f"{path}: weights are written as .npz, not as '{path.suffix}'")
    arrays = {name: np.asarray(variable) for name, variable in named_weights(model).items()}
    if attrs:
        arrays[ATTRS] = np.array(json.dumps(attrs, sort_keys=True))
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path


def load_weights_npz(model: Any, path: str | Path) -> dict[str, Any]:
    """Read weights of our layout into a model.

    Parameters
    ----------
    model : keras.Model
        Changed in place.
    path : str or path

    Returns
    -------
    dict
        The file's `attrs`, empty where there are none.

    Raises
    ------
    DataError
        No such file, a file that cannot be read or is truncated, weights of another network, NaN.
    """
    path = Path(path)
    refuse_pointer(path)
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except _UNREADABLE as err:
        raise DataError(
            f"{path}: expected an npz file of weights, but it cannot be read ({err}); it is "
            "damaged, truncated or of another kind"
        ) from err
    attrs = arrays.pop(ATTRS, None)
    assign(model, arrays, path)
    if attrs is None:
        return {}
    try:
        held = json.loads(str(attrs))
    except json.JSONDecodeError as err:
        raise DataError(f"{path}: '{ATTRS}' is not JSON ({err})") from err
    if not isinstance(held, dict):
        raise DataError(f"{path}: '{ATTRS}' is expected to be a JSON object, found {held!r}")
    return held


def refuse_pointer(path: Path) -> None:
    """DataError where there is no such file, an empty one, or a stand-in of Git LFS."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of weights")
    with open(path, "rb") as file:
        head = file.read(200)
    if not head:
        raise DataError(f"{path}: expected weights, found an empty file")
    if head.startswith(b"version https://git-lfs"):
        size = next((w[5:].decode() for w in head.splitlines() if w.startswith(b"size ")), "?")
        raise DataError(
            f"{path}: this is a Git LFS pointer of {path.stat().st_size} bytes, not the weights "
            f"({size} bytes); fetch the file itself (git lfs pull, or its download link)"
        )
