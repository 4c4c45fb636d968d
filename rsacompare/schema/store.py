"""Files: written whole or not at all, netCDF without pickle, content hashes, provenance."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError

# read once: to read it is to set it, and two threads doing so would leave it at 0
_UMASK = os.umask(0o022)
os.umask(_UMASK)

LIBRARIES = (
    *("rsacompare", "numpy", "scipy", "scikit-learn", "xarray", "numba", "pandas", "statsmodels"),
    *("tensorflow", "keras", "ai-edge-litert", "pillow"),  # that ran networks, where they are there
)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place only when the block ends well."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
        )
        os.close(handle)
    except OSError as err:
        raise DataError(f"cannot write in {target.parent}: {err.strerror}") from err
    temporary = Path(name)
    temporary.chmod(0o666 & ~_UMASK)
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as err:
        raise DataError(f"cannot write {target}: {err.strerror or err}") from err
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write text whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tables(frames: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Write each DataFrame as `<name>.csv`; gives the paths."""
    written = []
    for name, frame in frames.items():
        path = Path(folder) / f"{name}.csv"
        with atomic_path(path) as temporary:
            frame.to_csv(temporary, index=False)
        written.append(path)
    return written


def write_netcdf(data: xr.Dataset | xr.DataTree, path: str | Path) -> None:
    """Write a Dataset or DataTree as netCDF-4 through h5netcdf."""
    with atomic_path(path) as temporary:
        data.to_netcdf(temporary, engine="h5netcdf")


def read_netcdf(path: str | Path) -> xr.DataTree:
    """Read a netCDF file of ours into memory.

    Raises
    ------
    DataError
        When the file is missing, truncated or not netCDF.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"no file {file}")
    if _is_bdata(file):
        raise DataError(
            f"{file} is a BData file, not one of ours: take it by name, 'god' for responses or "
            f"'god_features' for ImageFeatures.h5, with the option path='{file}'"
        )
    try:
        with xr.open_datatree(file, engine="h5netcdf", phony_dims="access") as tree:
            loaded = tree.load()
    except Exception as err:  # h5py raises many kinds for a broken file
        raise DataError(
            f"{file} cannot be read as netCDF ({type(err).__name__}: {err}); "
            "the file may be truncated: make or fetch it again"
        ) from err
    return loaded.map_over_datasets(plain_strings)


def _is_bdata(file: Path) -> bool:
    """Whether a file is in the format of the GOD study, which people will try here too."""
    import h5py  # only where a file is read

    try:
        with h5py.File(file) as held:
            names = {name.lower() for name in held}
    except Exception:  # h5py raises many kinds for what is not its own; the reader tells them
        return False
    return {"dataset", "metadata"} <= names


def as_text(values: np.ndarray) -> np.ndarray:
    """Objects or variable-width strings as fixed-width text (numpy casts the latter only so)."""
    return values.astype(object).astype(str)


def plain_strings(data: xr.Dataset) -> xr.Dataset:
    """Strings come back from HDF5 as objects; make them fixed-width text again."""
    for name, var in list(data.variables.items()):
        if var.dtype.kind in "OT":
            fresh = xr.Variable(var.dims, as_text(var.values), var.attrs)
            data = (
                data.assign_coords({name: fresh})
                if name in data.coords
                else data.assign({name: fresh})
            )
    return data


def digest(*parts: Any) -> str:
    """Content hash of arrays and plain values: same contents, same 32 hex digits."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            if part.dtype.kind in "OUT":
                part = np.char.encode(as_text(part), "utf-8")
            state.update(f"{part.dtype.str}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).data)
        else:
            state.update(json.dumps(part, sort_keys=True, default=str).encode())
        state.update(b"\0")
    return state.hexdigest()


def digest_dataset(data: xr.Dataset) -> str:
    """Content hash of a Dataset's variables and coordinates (attributes do not count)."""
    parts: list[Any] = []
    for name in sorted(str(n) for n in data.variables):
        var = data.variables[name]
        parts += [name, list(var.dims), var.values]
    return digest(*parts)


def file_sha256(path: str | Path) -> str:
    """Sha256 of a file, read in pieces."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@cache
def _versions() -> dict[str, str]:
    """Once a process: looking one up reads a package's whole metadata, and every cell asks."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def provenance() -> dict[str, Any]:
    """Versions of what computes here."""
    return {
        "versions": dict(_versions()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
    }


class CellStore:
    """A folder of finished cells, each one file under its content hash.

    A killed run loses at most the cells in work: a file appears only when it is whole. Arrays
    are kept as npz without pickle, since a cell is a handful of plain arrays and there are
    thousands of them (a netCDF file each would cost ten times the time).
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the cell of this hash lives."""
        return self.folder / key[:2] / f"{key}.npz"

    def save(self, key: str, arrays: dict[str, np.ndarray]) -> None:
        """Store the arrays of one cell."""
        with atomic_path(self.path(key)) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of a cell, or None where there is none or the file is broken."""
        file = self.path(key)
        if not file.is_file():
            return None
        try:
            with open(file, "rb") as handle, np.load(handle, allow_pickle=False) as cell:
                return {name: cell[name] for name in cell.files}
        except Exception:  # broken in any way means: compute the cell again
            return None

    def cached(
        self, key: str, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The stored cell, computed and stored first when it is not there."""
        arrays = self.load(key)
        if arrays is None:
            arrays = compute()
            self.save(key, arrays)
        return arrays
