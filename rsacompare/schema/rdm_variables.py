"""Named arrays of `.npz` and `.mat` files, never unpickled, never larger than the file can be."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from rsacompare.errors import DataError
from rsacompare.schema import matlab5
from rsacompare.schema.matlab5 import Refused

MOST = 1100  # times its packed size: more than deflate can pack into anything
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def read(file: Path) -> dict[str, Any]:
    """All variables of an `.npz` or `.mat` file.

    Returns
    -------
    dict
        Arrays of numbers as they are (MATLAB's row and column order), text as (label,) str,
        MATLAB struct arrays with fields `RDM` and `name` as lists of (name, array), and
        `Refused` for what cannot be read without running or guessing something.

    Raises
    ------
    DataError
        A file that is broken.
    """
    try:
        if file.suffix.lower() == ".npz":
            return _npz(file)
        with open(file, "rb") as handle:
            start = handle.read(1024)
        return _mat73(file) if HDF5_MAGIC in start else _mat5(file)
    except DataError:
        raise
    except Exception as err:  # zipfile, zlib, numpy and h5py raise many kinds
        raise DataError(
            f"cannot be read as {file.suffix.lower()[1:]} ({type(err).__name__}: {err}); it may "
            "be truncated"
        ) from err


def _npz(file: Path) -> dict[str, Any]:
    held: dict[str, Any] = {}
    with open(file, "rb") as handle:
        with zipfile.ZipFile(handle) as archive:
            broken = archive.testzip()  # before anything of a claimed size is allocated
            if broken is not None:
                raise DataError(f"'{broken}' in it is damaged (wrong checksum)")
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            for name in sizes:
                with archive.open(name) as member:
                    _check_header(member, name, sizes[name])
        handle.seek(0)
        with np.load(handle, allow_pickle=False) as arrays:
            for name in arrays.files:
                held[name] = _plain(arrays[name])
    return held


def _check_header(member: Any, name: str, size: int) -> None:
    """An npy header that claims more than its member holds is refused before it is believed."""
    version = np.lib.format.read_magic(member)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        return
    shape, _, dtype = readers[version](member)
    if dtype.hasobject:
        raise DataError(f"'{name}' holds Python objects, which would have to be unpickled")
    if prod(shape) * dtype.itemsize > size:
        raise DataError(f"'{name}' claims {shape} of {dtype}, more than the file holds")


def _mat5(file: Path) -> dict[str, Any]:
    return {name: _matlab(value) for name, value in matlab5.read(file.read_bytes()).items()}


def _matlab(value: Any) -> Any:
    """Numbers and text as they are; a cell of texts as text; structs with RDMs by their names."""
    if not isinstance(value, matlab5.Cells):
        return value
    if value.values and all(
        isinstance(v, dict) and {"RDM", "name"} <= set(v) for v in value.values
    ):
        return [
            (_word(v["name"]) or f"RDM {i}", np.squeeze(v["RDM"]))
            for i, v in enumerate(value.values, 1)
            if isinstance(v["RDM"], np.ndarray)
        ]
    words = [_word(v) for v in value.values]
    if any(word is None for word in words):
        return Refused("a cell or struct array of other things than text")
    return np.array(words, dtype=str)


def _word(value: Any) -> str | None:
    is_text = isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1
    return str(value.item()) if is_text else None


def _plain(value: np.ndarray) -> Any:
    if value.dtype.kind in "USTO":
        words = np.ravel(value).astype(str)
        return np.array([w.rstrip() for w in words.tolist()], dtype=str)
    if value.dtype.kind not in "fiub":
        return Refused(f"values of type {value.dtype}")
    return value


def _mat73(file: Path) -> dict[str, Any]:
    import h5py

    size = file.stat().st_size
    with h5py.File(file, "r") as held:
        found = {
            name: _hdf5(item, held, size) for name, item in held.items() if not name.startswith("#")
        }
    return found


def _hdf5(item: Any, held: Any, size: int) -> Any:
    import h5py

    if not isinstance(item, h5py.Dataset):
        return Refused("a struct of a version 7.3 file")
    _check_dataset(item, size)
    kind = _kind(item.attrs)
    if item.dtype.kind == "O":
        if h5py.check_ref_dtype(item.dtype) is not h5py.Reference:
            return Refused(f"values of type {item.dtype}")
        cells = []
        for reference in np.ravel(item[()]).tolist():
            cell = held[reference]
            if not isinstance(cell, h5py.Dataset) or _kind(cell.attrs) != "char":
                return Refused("a cell array of other things than text")
            _check_dataset(cell, size)
            cells.append("".join(_rows(cell[()])))
        return np.array([c.rstrip() for c in cells], dtype=str)
    if kind == "char":
        return np.array([row.rstrip() for row in _rows(item[()])], dtype=str)
    if kind not in (None, "double", "single", "logical") and not kind.lstrip("u").startswith("int"):
        return Refused(f"a {kind} of MATLAB")
    # MATLAB's column order is HDF5's row order the other way round
    return _plain(np.asarray(item[()]).T)


def _kind(attrs: Mapping[str, Any]) -> str | None:
    value = attrs.get("MATLAB_class")
    return value.decode() if isinstance(value, bytes) else value


def _rows(codes: np.ndarray) -> list[str]:
    """Text from MATLAB's character codes, a string per row of its char matrix."""
    matrix = np.atleast_2d(np.asarray(codes).T)
    return ["".join(map(chr, row)) for row in matrix.tolist()]


def _check_dataset(item: Any, size: int) -> None:
    packed = item.id.get_storage_size()
    claimed = item.size * item.dtype.itemsize
    most = MOST * min(packed, size) if item.chunks else size
    if claimed > most:
        raise DataError(f"'{item.name}' claims {item.shape}, more than the file can hold")
