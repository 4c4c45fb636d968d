"""Brain data by name or path; files of the registry from a folder, the cache or the network."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import xarray as xr

from rsacompare import plugins
from rsacompare.datasets.registry import Entry, registry
from rsacompare.errors import DataError, FetchError, ProtocolError
from rsacompare.schema.rdm_files import RDM_SUFFIXES, load_rdms
from rsacompare.schema.reading import read_tree
from rsacompare.schema.store import file_sha256

OFFLINE = "RSACOMPARE_DATA"  # environment variable: a folder that holds the files of the registry
CACHE = "RSACOMPARE_CACHE"  # environment variable: where downloads are kept


def load_dataset(name: str | Path, /, **options: Any) -> xr.DataTree:
    """Brain data: a registered data set, a netCDF file of ours, or a file of RDMs.

    Parameters
    ----------
    name : str or path
        See ``rsacompare list datasets``; or the path of a `.nc` file; or of RDMs in a `.npz`,
        `.mat`, `.csv` or `.tsv` file (:func:`rsacompare.load_rdms`).
    **options
        Passed to the data set's loader, or to `load_rdms`.

    Returns
    -------
    DataTree
        One node per subject, with `response` and `roi_mask`, or `rdm`.

    Raises
    ------
    DataError, FetchError, ProtocolError
        A broken file; a file that cannot be had; an unknown name.
    """
    path = Path(name)
    if path.suffix.lower() in RDM_SUFFIXES:
        return load_rdms(path, "brain", **options)
    if path.suffix == ".nc" or (path.exists() and path.is_file()):
        if options:
            raise ProtocolError(f"{path}: a netCDF file takes no options, got {', '.join(options)}")
        tree = read_tree(path)
        if tree.attrs["rsacompare_kind"] == "activations":
            raise DataError(f"{path} holds activations of a network, expected responses or rdms")
        return tree
    return plugins.find("datasets", str(name))(**options)


def fetch(
    path: str,
    *,
    cache: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """A file of the registry on this machine: from `RSACOMPARE_DATA`, the cache or its address.

    Parameters
    ----------
    path : str
        As in the registry, e.g. `kriegeskorte92/92_brainRDMs.mat`.
    cache : path, optional
        Where downloads are kept; by default `RSACOMPARE_CACHE`, else the user's cache folder.
    progress : callable (name, done, total), optional
        Told in bytes of a download.

    Returns
    -------
    Path
        The checksum of what it names has been verified (but for a file under a DOI that lies in
        the offline folder: its checksum is known to the repository alone).

    Raises
    ------
    ProtocolError
        The registry has no such file.
    FetchError
        Wrong checksum in the offline folder; no network (said within ten seconds), an address that
        does not answer; a computed file that is not in the offline folder.
    """
    entry = _entry(path)
    local = at_hand(path, cache)
    if local is not None:
        return local
    if not entry.address:
        raise FetchError(
            f"{path} has no address to download from ({entry.what}); set {OFFLINE} to a folder "
            f"that holds it{_offline_note()}"
        )
    from rsacompare.datasets.download import download  # requests: only where it is needed

    return download(entry, _cached(entry, cache), _hint(path), progress)


def at_hand(path: str, cache: str | Path | None = None) -> Path | None:
    """The verified file where it is on this machine already; None where it must be downloaded.

    Raises
    ------
    ProtocolError, FetchError
        The registry has no such file; the one in the offline folder has another checksum.
    """
    entry = _entry(path)
    folder = os.environ.get(OFFLINE)
    if folder and (file := Path(folder) / path).is_file():
        if not entry.sha256:
            return file
        found = _sha256(file)
        if found != entry.sha256:
            raise FetchError(
                f"{file} has sha256 {found}, but the registry says {entry.sha256}: the file is "
                "damaged, incomplete or of another version; replace it, or take it out of "
                f"{OFFLINE} to have it downloaded"
            )
        return file
    cached = _cached(entry, cache)
    if not cached.is_file():
        return None
    if entry.sha256:
        return cached if _sha256(cached) == entry.sha256 else None
    return cached if _is_as_downloaded(cached) else None


def _is_as_downloaded(file: Path) -> bool:
    """Whether a file has the checksum that the repository of its DOI gave for it."""
    import pooch

    from rsacompare.datasets.download import checksum_file

    known = checksum_file(file)
    algorithm, _, value = (
        known.read_text(encoding="ascii").partition(":") if known.is_file() else ("",) * 3
    )
    return bool(value) and pooch.file_hash(str(file), alg=algorithm) == value


def resolve(source: str | Path, folder: str | Path | None = None) -> Path | str:
    """What a study file names: a path that exists, a file of the registry, else the name itself.

    Parameters
    ----------
    source : str or path
        `squeezenet.npz`, `activations92/squeezenet.npz`, `phantom`, …
    folder : path, optional
        Where relative paths start (the folder of the study file); the current folder otherwise.

    Returns
    -------
    Path or str
        Something that `load_activations` and `load_dataset` take.

    Raises
    ------
    FetchError
        A file of the registry that cannot be had.
    ProtocolError
        A path that names neither a file nor one of the registry.
    """
    path = Path(folder or ".") / source
    if path.is_file():
        return path
    name = Path(source).as_posix()
    if name in registry():
        return fetch(name)
    if Path(source).suffix in (".nc", ".h5", *RDM_SUFFIXES) or "/" in name:
        raise ProtocolError(no_file(path))
    return str(source)


def no_file(path: Path) -> str:
    """The sentence for a file that is neither here nor in the registry: what looks like it."""
    folder = path.parent.resolve()
    here = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, here, n=1)
    close = close or difflib.get_close_matches(path.as_posix(), registry(), n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"no file {path.name} in {folder}, nor does the data registry have it{hint}"


def _entry(path: str) -> Entry:
    if path not in registry():
        raise ProtocolError(plugins.unknown("file of the registry", path, registry()))
    return registry()[path]


def _cached(entry: Entry, cache: str | Path | None) -> Path:
    return cache_folder(cache) / entry.path


def cache_folder(cache: str | Path | None = None) -> Path:
    """Where downloads are kept: as given, else `RSACOMPARE_CACHE`, else the user's cache folder."""
    folder = cache or os.environ.get(CACHE)
    if not folder:
        import pooch  # half a tenth of a second, and only here

        folder = pooch.os_cache("rsacompare")
    return Path(folder).expanduser()


def _hint(path: str) -> str:
    return (
        f"connect to the internet and run again, or set {OFFLINE} to a folder that holds "
        f"{path}{_offline_note()}"
    )


def _offline_note() -> str:
    folder = os.environ.get(OFFLINE)
    return f" (it is '{folder}' now, where the file is missing)" if folder else ""


def _sha256(file: Path) -> str:
    """Checksum of a file, computed once while the file stays as it is."""
    stat = file.stat()
    return _sha256_once(file.resolve(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _sha256_once(file: Path, mtime_ns: int, size: int) -> str:
    return file_sha256(file)
