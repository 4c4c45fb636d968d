"""Sets of pictures by folder, table, mapping, array or name; what identifies their content.

How one picture is read: :mod:`rsacompare.networks.picture`.
"""

from __future__ import annotations

import csv
import difflib
import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.networks.picture import SUFFIXES, read_image
from rsacompare.schema import labels, store

__all__ = ["Stimuli", "digest", "digests", "find_stimuli", "read_image"]

TABLES = (".csv", ".tsv")


class Stimuli(dict[str, Path | np.ndarray]):
    """{stimulus_id: file or array}; `about` says in words where it comes from."""

    def __init__(self, held: Mapping[str, Path | np.ndarray], about: str) -> None:
        super().__init__(held)
        self.about = about


def find_stimuli(stimuli: Any, stimulus_id: Sequence[str] | None = None) -> Stimuli:
    """Pictures by their stimulus_id.

    Parameters
    ----------
    stimuli : str, path, list, mapping, array or DataArray
        - the name of a registered set (``rsacompare list stimuli``); a folder of that name is
          given as `./name`;
        - a folder: its pictures and those of the folders in it, sorted by path. Hidden files and
          files that are no pictures by their name are left out, and counted in `about`;
        - a list of files and patterns (`photos/*.jpg`, `**` for folders within);
        - a `.csv` or `.tsv` file with columns `stimulus_id` and `path`, relative to that file;
        - {stimulus_id: file, array or Pillow image};
        - an array (stimulus, height, width, 3), or a list of arrays, with `stimulus_id`;
        - a DataArray whose first dim has the coord `stimulus_id`.
    stimulus_id : sequence of str, optional
        For arrays and lists. Otherwise the id of a file is its name without suffix:
        `n01518878_10042.JPEG` is `n01518878_10042`.

    Returns
    -------
    Stimuli
        A dict {stimulus_id: Path or array}, in the order given. Files are there, but not yet read.

    Raises
    ------
    DataError
        No pictures; a file that is missing; an array of the wrong shape.
    LabelError
        Ids missing, given twice, or not fitting in number.
    ProtocolError
        A name that is neither a registered set nor something that is there.
    """
    if isinstance(stimuli, Stimuli) and stimulus_id is None:
        return stimuli
    if isinstance(stimuli, (str, os.PathLike)):
        return _from_text(stimuli, stimulus_id)
    if isinstance(stimuli, xr.DataArray):
        return _from_data_array(stimuli, stimulus_id)
    if isinstance(stimuli, Mapping):
        _no_ids(stimulus_id, "a mapping")
        return _from_pairs(list(stimuli), list(stimuli.values()), "stimuli")
    if isinstance(stimuli, np.ndarray):
        return _from_array(stimuli, stimulus_id, "stimuli")
    if isinstance(stimuli, Iterable):
        return _from_list(list(stimuli), stimulus_id)
    raise DataError(
        "stimuli: a folder, files, a table, {stimulus_id: picture}, an array or the name of a set "
        f"is expected, got {type(stimuli).__name__}"
    )


def digests(stimuli: Mapping[str, Path | np.ndarray]) -> dict[str, str]:
    """Content hash of each picture: of its file's bytes, or of its array with dtype and shape.

    Raises
    ------
    DataError
        A file that cannot be read.
    """
    found = {}
    for stimulus, source in stimuli.items():
        if isinstance(source, np.ndarray):
            found[stimulus] = store.digest(source)
            continue
        try:
            found[stimulus] = store.file_sha256(source)
        except OSError as err:
            raise DataError(
                f"stimulus '{stimulus}' ({source}) cannot be read: {err.strerror or err}"
            ) from err
    return found


def digest(stimuli: Mapping[str, Path | np.ndarray]) -> str:
    """One content hash of a set: of its ids and pictures, in their order.

    Examples
    --------
    >>> picture = np.zeros((2, 2, 3), np.uint8)
    >>> digest({"a": picture, "b": picture}) == digest({"b": picture, "a": picture})
    False
    """
    return store.digest(*digests(stimuli).items())


def _from_text(given: str | os.PathLike[str], stimulus_id: Any) -> Stimuli:
    """A registered name, a folder, a table, a picture or a pattern."""
    text = os.fspath(given)
    if not text.strip():
        raise ProtocolError("stimuli: an empty text; a folder or the name of a set is expected")
    if isinstance(given, str) and text in plugins.names("stimuli"):
        _no_ids(stimulus_id, "a registered set")
        where = f"stimulus set '{text}'"
        held = plugins.find("stimuli", text)()
        if not isinstance(held, Mapping):
            raise DataError(
                f"{where}: its function must return {{stimulus_id: picture}}, got "
                f"{type(held).__name__}"
            )
        return _from_pairs(list(held), list(held.values()), where)
    path = Path(os.path.expanduser(text))
    if os.path.isdir(path):  # os.path: a text too long for a name is no error there
        _no_ids(stimulus_id, "a folder")
        return _from_folder(path)
    if os.path.isfile(path) and path.suffix.lower() in TABLES:
        _no_ids(stimulus_id, "a table")
        return _from_table(path)
    if os.path.isfile(path) or glob.has_magic(text):
        return _from_list([given], stimulus_id)
    raise ProtocolError(_not_there(text, path))


def _not_there(text: str, path: Path) -> str:
    """The sentence for a text that means nothing here: registered sets, then what lies nearby."""
    if path.suffix or len(path.parts) > 1:
        parent = path.parent
        if not os.path.isdir(parent):
            return f"stimuli: no '{text}': there is no folder {parent.absolute()}"
        close = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1)
        hint = f"; did you mean '{parent / close[0]}'?" if close else ""
        return f"stimuli: no file or folder '{text}' in {parent.absolute()}{hint}"
    folders = sorted(p.name for p in Path().iterdir() if p.is_dir() and p.name[0] != ".")
    known = [*plugins.names("stimuli"), *folders]
    return f"{plugins.unknown('stimulus set or folder', text, known)} (here: {Path().absolute()})"


def _from_folder(folder: Path) -> Stimuli:
    files: list[Path] = []
    others: list[str] = []
    seen: set[str] = set()
    for root, inner, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        # a link back to a folder already read would never end
        inner[:] = [name for name in inner if not name.startswith(".")]
        real = os.path.realpath(root)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        for name in names:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                files.append(Path(root, name))
            else:
                others.append(name)
    ignored = ""
    if others:
        ignored = f"; {len(others)} other files left out ({labels.listed(sorted(others), 3)})"
    if not files:
        raise DataError(f"{folder}: no pictures ({', '.join(SUFFIXES)}) in this folder{ignored}")
    files.sort(key=lambda file: file.relative_to(folder).as_posix())
    found = _by_stem(files, str(folder))
    return Stimuli(found, f"{len(found)} pictures of {folder}{ignored}")


def _unreadable(err: OSError) -> None:
    """A folder that cannot be looked into would otherwise be missing without a word."""
    raise DataError(f"{err.filename} cannot be read: {err.strerror}") from err


def _by_stem(files: Sequence[Path], where: str) -> dict[str, Path | np.ndarray]:
    found: dict[str, Path | np.ndarray] = {}
    for file in files:
        if file.stem in found:
            raise LabelError(
                f"{where}: stimulus_id '{file.stem}' is the name of two files, "
                f"{found[file.stem]} and {file}; rename one, or give {{stimulus_id: file}}"
            )
        found[file.stem] = file
    labels.as_stimulus_ids(list(found), where)
    return found


def _from_table(path: Path) -> Stimuli:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataError(f"{path} cannot be read as a table ({type(err).__name__}: {err})") from err
    for column in ("stimulus_id", "path"):
        if columns.count(column) != 1:
            raise DataError(
                f"{path}: exactly one column '{column}' is expected, separated by "
                f"{'tabs' if delimiter != ',' else 'commas'}; there are: "
                f"{', '.join(columns) or 'none'}"
            )
    if not rows:
        raise DataError(f"{path}: no rows")
    for number, row in enumerate(rows, 2):
        if not row["stimulus_id"] or not row["path"] or None in row:
            raise DataError(f"{path}: line {number} does not have the {len(columns)} columns")
    files = [path.parent / os.path.expanduser(row["path"]) for row in rows]
    return _from_pairs([row["stimulus_id"] for row in rows], files, str(path))


def _from_list(given: list[Any], stimulus_id: Any) -> Stimuli:
    if not given:
        raise DataError("stimuli: an empty list")
    if stimulus_id is None and not all(isinstance(g, (str, os.PathLike)) for g in given):
        raise LabelError(
            "stimuli: a list of pictures that are not files needs stimulus_id, one for each"
        )
    sources: list[Any] = []
    for one in given:
        sources += _matched(one) if isinstance(one, (str, os.PathLike)) else [one]
    if stimulus_id is not None:
        if len(sources) > len(given):
            raise ProtocolError(
                "stimuli: a pattern has no order of its own: stimulus_id goes with a list of files"
            )
        return _from_pairs(stimulus_id, sources, "stimuli")
    _require_files(sources, "stimuli")
    return Stimuli(_by_stem(sources, "stimuli"), f"{len(sources)} files")


def _matched(given: str | os.PathLike[str]) -> list[Path]:
    """The file itself, or the pictures that a pattern matches."""
    path = Path(os.path.expanduser(given))
    if os.path.exists(path) or not glob.has_magic(str(path)):
        return [path]
    found = sorted(
        p for p in map(Path, glob.glob(str(path), recursive=True))
        if p.is_file() and p.suffix.lower() in SUFFIXES
    )  # fmt: skip
    if not found:
        raise DataError(f"stimuli: no picture matches '{given}' (from {Path().absolute()})")
    return found


def _from_pairs(ids: Any, sources: Sequence[Any], where: str) -> Stimuli:
    ids = labels.as_stimulus_ids(ids, where, unique=True).tolist() if np.size(ids) else []
    if len(ids) != len(sources):
        raise LabelError(f"{where}: {len(ids)} stimulus ids for {len(sources)} pictures")
    if not ids:
        raise DataError(f"{where}: no pictures")
    held = [_source(s, f"stimulus '{i}'") for i, s in zip(ids, sources, strict=True)]
    _require_files([s for s in held if isinstance(s, Path)], where)
    return Stimuli(dict(zip(ids, held, strict=True)), f"{len(ids)} pictures of {where}")


def _source(given: Any, where: str) -> Path | np.ndarray:
    if isinstance(given, (str, os.PathLike)):
        return Path(os.path.expanduser(given))
    return given if isinstance(given, np.ndarray) else read_image(given, where)


def _require_files(paths: Sequence[Path], where: str) -> None:
    missing = [str(p) for p in paths if not os.path.isfile(p)]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(paths)} files are not there: "
            f"{labels.listed(missing, 3)}"
        )


def _from_array(array: np.ndarray, stimulus_id: Any, where: str) -> Stimuli:
    shape = array.shape
    if array.ndim != 4 or shape[3] not in (1, 3, 4):
        hint = "; its channels come first: np.moveaxis(pictures, 1, -1)"
        raise DataError(
            f"{where}: an array of pictures is (stimulus, height, width, 3), got shape {shape}"
            f"{hint if array.ndim == 4 and shape[1] in (1, 3, 4) else ''}"
        )
    if stimulus_id is None:
        raise LabelError(f"{where}: an array of pictures needs stimulus_id, one for each")
    return _from_pairs(stimulus_id, list(array), where)


def _from_data_array(array: xr.DataArray, stimulus_id: Any) -> Stimuli:
    _no_ids(stimulus_id, "a DataArray")
    where = f"DataArray {array.name}" if array.name else "DataArray"
    coord = array.coords.get("stimulus_id")
    if coord is None or coord.ndim != 1:
        raise LabelError(f"{where}: needs a coord stimulus_id along its stimuli")
    first = array.transpose(coord.dims[0], ...)
    return _from_array(np.asarray(first.values), coord.values, where)


def _no_ids(stimulus_id: Any, what: str) -> None:
    if stimulus_id is not None:
        raise ProtocolError(
            f"stimuli: {what} brings its own ids; stimulus_id is for arrays and lists"
        )
