"""BData: the format of the Kamitani laboratory, read without its library (FACTS section 1).

One matrix holds everything numeric, voxels and labels side by side; a table of keys says which
columns are what. A file may be HDF5 (groups `dataset` and `metadata`, or `dataSet` and
`metaData`) or an old v5 `.mat`. Only the columns and rows asked for are read, and no size that a
damaged file declares is believed before it fits the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rsacompare.datasets.bdata_grammar import select_columns
from rsacompare.errors import DataError, ProtocolError, RsacompareError
from rsacompare.schema import matlab5

__all__ = ["BData", "open_bdata", "select_columns"]

BLOCK_BYTES = 8 << 20  # of one read: scattered columns are picked from whole blocks of rows
COLUMN_GAP = 1024  # columns further apart than this are read apart
MOST_PACKED = 1032  # times its stored size is the most that a compressed array can hold
HDF5_HEAD = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class BData:
    """An open table of keys, and the matrix behind it.

    Attributes
    ----------
    path : Path
    keys : {key: (column,) float64}
        1 where a column belongs to the key, NaN where the key says nothing of it.
    n_rows, n_columns : int
    """

    path: Path
    keys: Mapping[str, np.ndarray]
    n_rows: int
    n_columns: int
    _matrix: np.ndarray | str = field(repr=False)  # the array itself, or its name in the HDF5 file

    def select(self, expression: str) -> np.ndarray:
        """Columns by `select_columns`, errors with the file's name: (column,) bool."""
        try:
            return select_columns(self.keys, expression)
        except ProtocolError as err:
            raise ProtocolError(f"{self.path}: {err}") from err

    def read(self, columns: np.ndarray, rows: np.ndarray | None = None, dtype: Any = float) -> Any:
        """Some columns of some rows.

        Parameters
        ----------
        columns : (column,) bool
        rows : (row,) bool, optional
            All without it.
        dtype : dtype
            Of the result. Labels must stay float64: float32 merges images.

        Returns
        -------
        ndarray (selected row, selected column)
            In the order of the file.

        Raises
        ------
        DataError
            When the file is damaged.
        """
        row = np.arange(self.n_rows) if rows is None else np.flatnonzero(rows)
        column = np.flatnonzero(columns)
        if isinstance(self._matrix, np.ndarray):
            return self._matrix[np.ix_(row, column)].astype(dtype, copy=False)
        name = self._matrix

        def read(file: h5py.File) -> np.ndarray:
            matrix = _array(file, name, self.path)
            if matrix.shape != (self.n_rows, self.n_columns):
                raise DataError(f"{self.path} changed while it was read")
            return _read_blocks(matrix, row, column, np.dtype(dtype))

        return _with_hdf5(self.path, read)

    def column(self, key: str, rows: np.ndarray | None = None) -> np.ndarray:
        """The first column of a key, float64: (row,)."""
        mask = np.zeros(self.n_columns, dtype=bool)
        mask[np.flatnonzero(self.keys[key] == 1)[:1]] = True
        if not mask.any():
            raise DataError(f"{self.path}: key '{key}' marks no column")
        return self.read(mask, rows)[:, 0]


def open_bdata(path: str | Path) -> BData:
    """Open a BData file; its keys are read, of its matrix only the shape (a `.mat`: all of it).

    Parameters
    ----------
    path : str or Path
        HDF5 or a v5 `.mat`: told apart by content.

    Raises
    ------
    DataError
        No such file; neither format, or a `-v7.3` mat; damaged; matrix and keys that do not fit.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(128)
    except OSError as err:
        raise DataError(f"{path} cannot be read: {err.strerror}") from err
    if head.startswith(b"MATLAB 7.3"):
        raise DataError(
            f"{path} is a MATLAB -v7.3 file, whose cell arrays are laid out in another way; take "
            "the .h5 of the same name, or save it again in MATLAB with save(…, '-v7')"
        )
    if head.startswith(HDF5_HEAD):
        found = _with_hdf5(path, lambda file: _open_hdf5(file, path))
    elif head[126:128] in (b"IM", b"MI"):
        found = _guarded(path, "MATLAB", lambda: _open_mat(path))
    else:
        raise DataError(f"{path} is neither HDF5 nor a MATLAB v5 file; it may be damaged")
    keys, values, shape, matrix = found
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{path}: the data have shape {shape}, expected (sample, column)")
    if values.shape != (len(keys), shape[1]):
        raise DataError(
            f"{path}: the table of keys has shape {values.shape} for {len(keys)} keys and "
            f"{shape[1]} columns of data"
        )
    table: dict[str, np.ndarray] = {}
    for key, row in zip(keys, values, strict=True):
        table.setdefault(key, row)  # the first counts, as in bdpy
    return BData(path, table, shape[0], shape[1], matrix)


Found = tuple[list[str], np.ndarray, tuple[int, ...], np.ndarray | str]


def _open_hdf5(file: h5py.File, path: Path) -> Found:
    names = list(file)
    matrix = _either(names, ("dataSet", "dataset"), path)
    group = _either(names, ("metaData", "metadata"), path)
    values = _array(file, f"{group}/value", path)
    if values.dtype.kind not in "fiu":
        raise DataError(f"{path}: {group}/value holds {values.dtype}, expected numbers")
    key = _array(file, f"{group}/key", path)
    keys = _texts(file, key, path)
    data = _array(file, matrix, path)
    if data.dtype.kind not in "fiu" or (data.dtype.kind == "f" and data.dtype.itemsize < 8):
        raise DataError(
            f"{path}: {matrix} holds {data.dtype}, expected float64: among its columns are labels "
            "like 1518878.010042, which narrower numbers cannot hold"
        )
    return keys, np.asarray(values[()], dtype=np.float64), data.shape, matrix


def _open_mat(path: Path) -> Found:
    matrices, groups = ("dataSet", "dataset"), ("metaData", "metadata")
    held = matlab5.read(path.read_bytes())
    data = held[_either(held, matrices, path)]
    meta = held[_either(held, groups, path)]
    if not isinstance(meta, matlab5.Cells) or [type(v) for v in meta.values] != [dict]:
        raise DataError(f"{path}: metaData is no struct")
    fields = meta.values[0]
    absent = {"key", "value"} - set(fields)
    if absent:
        raise DataError(f"{path}: metaData has no field {' and '.join(sorted(absent))}")
    for name, array in (("dataSet", data), ("metaData.value", fields["value"])):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            found = array.dtype if isinstance(array, np.ndarray) else getattr(array, "why", "cells")
            raise DataError(f"{path}: {name} holds {found}, expected numbers")
    named = fields["key"].values if isinstance(fields["key"], matlab5.Cells) else [fields["key"]]
    keys = [str(np.ravel(text)[0]).strip() if np.size(text) else "" for text in named]
    return keys, fields["value"].astype(np.float64), data.shape, data


def _either(names: Any, spellings: tuple[str, str], path: Path) -> str:
    for name in spellings:
        if name in names:
            return name
    there = ", ".join(n for n in names if not n.startswith("__")) or "nothing"
    raise DataError(f"{path} holds no '{spellings[1]}', so it is no BData file; it holds {there}")


def _with_hdf5(path: Path, work: Callable[[h5py.File], Any]) -> Any:
    def opened() -> Any:
        with h5py.File(path, "r") as file:
            return work(file)

    return _guarded(path, "HDF5", opened)


def _guarded(path: Path, kind: str, work: Callable[[], Any]) -> Any:
    """Whatever a damaged file makes a library raise, as one of our errors."""
    try:
        return work()
    except RsacompareError:
        raise
    except Exception as err:  # h5py, zlib and scipy raise many kinds
        raise DataError(
            f"{path} cannot be read as {kind} ({type(err).__name__}: {err}); it may be truncated "
            "or damaged: fetch it again"
        ) from err


def _array(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """An array whose declared size fits what is stored of it and the file."""
    array = file.get(name)
    if not isinstance(array, h5py.Dataset):
        raise DataError(f"{path}: '{name}' is not an array in this file")
    stored, size = array.id.get_storage_size(), path.stat().st_size
    declared = (
        int(np.prod([int(n) for n in array.shape], dtype=object)) * array.id.get_type().get_size()
    )
    packed = array.chunks is not None and array.id.get_create_plist().get_nfilters() > 0
    chunk = int(np.prod(array.chunks or (0,), dtype=object)) * array.id.get_type().get_size()
    if stored > size or declared > stored * (MOST_PACKED if packed else 1) or chunk > (1 << 30):
        raise DataError(
            f"{path}: '{name}' declares shape {array.shape}, {declared} bytes, of which "
            f"{stored} are stored in a file of {size}: damaged or incomplete"
        )
    return array


def _texts(file: h5py.File, texts: h5py.Dataset, path: Path) -> list[str]:
    """An array of text. Variable-length text is read here and not by HDF5.

    HDF5 2 loops for ever in a heap with a damaged size, and allocates whatever length a text
    declares. Layout: HDF5 file format specification, III.E (global heap).
    """
    info = h5py.check_string_dtype(texts.dtype)
    if info is None:
        raise DataError(f"{path}: the keys are {texts.dtype}, expected text")
    offset = texts.id.get_offset()
    if info.length is not None or offset is None:  # fixed length, or in chunks: nobody writes so
        return [
            t.rstrip(b"\0").decode() if isinstance(t, bytes) else str(t) for t in texts[()].ravel()
        ]
    width = file.id.get_create_plist().get_sizes()[0]
    element = np.dtype([("length", "<u4"), ("heap", f"<u{width}"), ("index", "<u4")])
    places = np.fromfile(path, dtype=element, count=texts.size, offset=offset)
    heaps = {heap: _heap(path, heap, width) for heap in set(places["heap"].tolist())}
    found = []
    for length, heap, index in places.tolist():
        text = heaps[heap].get(index, b"")
        if length > len(text):
            raise DataError(f"{path}: a key of {length} bytes is not there; the file is damaged")
        found.append(text[:length].decode())
    return found


def _heap(path: Path, address: int, width: int) -> dict[int, bytes]:
    """The objects of a global heap collection by their index."""
    size = path.stat().st_size
    with open(path, "rb") as handle:
        handle.seek(min(address, size))
        head = handle.read(8 + width)
        declared = int.from_bytes(head[8:], "little")
        if head[:4] != b"GCOL" or address + declared > size:
            raise DataError(f"{path}: no texts at byte {address}; the file is damaged")
        data = handle.read(declared - len(head))
    objects: dict[int, bytes] = {}
    at = 0
    while at + 8 + width <= len(data):
        index = int.from_bytes(data[at : at + 2], "little")
        length = int.from_bytes(data[at + 8 : at + 8 + width], "little")
        if index == 0:  # free space, the rest of the collection
            break
        at += 8 + width
        objects[index] = data[at : at + length]
        at += length + (-length % 8)
    return objects


def _read_blocks(
    matrix: h5py.Dataset, row: np.ndarray, column: np.ndarray, dtype: np.dtype[Any]
) -> np.ndarray:
    """Rows and columns picked from blocks: h5py is slow for scattered columns."""
    out = np.empty((len(row), len(column)), dtype=dtype)
    pieces = np.split(np.arange(len(column)), np.flatnonzero(np.diff(column) > COLUMN_GAP) + 1)
    for piece in pieces:
        if not piece.size:
            continue
        low, high = int(column[piece[0]]), int(column[piece[-1]]) + 1
        step = max(1, BLOCK_BYTES // ((high - low) * matrix.dtype.itemsize))
        for block in np.split(np.arange(len(row)), np.flatnonzero(np.diff(row // step)) + 1):
            if block.size:
                first, last = int(row[block[0]]), int(row[block[-1]]) + 1
                held = matrix[first:last, low:high]
                out[block[0] : block[-1] + 1, piece[0] : piece[-1] + 1] = held[
                    np.ix_(row[block] - first, column[piece] - low)
                ]
    return out
