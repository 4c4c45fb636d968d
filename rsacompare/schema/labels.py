"""The words of rsacompare, and alignment by `stimulus_id`.

Order and vocabulary, the same everywhere:

- network before brain: `compare(activation, response)`, `x` before `y`; a difference is a - b.
- `stimulus_id`: a string that names one picture, never a row number, never a float.
- `presentation`: one showing of a stimulus to a subject (a row of `response`);
  `repetition` counts the showings of one stimulus within a split from 0.
- `neuroid`: a voxel or a unit (a column); `target`: what a metric predicts and is scored on.
- `split`: `train`, `test` or `imagery`; absent (all "") when the study has none.
- `roi`: a named set of voxels; ROIs overlap (LVC holds V1, V2 and V3), so a mask per ROI.
- `layer`: flat label `network/layer`, with coords `network`, `layer_name`, `layer_index`, `depth`.
- `pair`: two stimuli i < j in row-major upper-triangle order, `stimulus_a` and `stimulus_b`.
- `subject`: one brain; prefixed `dataset.` when a study takes several data sets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, LabelError

SPLITS = ("train", "test", "imagery")


def listed(items: Sequence[Any], most: int = 5) -> str:
    """A few items for a message: `'a', 'b', … (12 in all)`."""
    shown = ", ".join(f"'{i}'" for i in list(items)[:most])
    return shown if len(items) <= most else f"{shown}, … ({len(items)} in all)"


def as_stimulus_ids(ids: Any, where: str, *, unique: bool = False) -> np.ndarray:
    """Stimulus labels as an array of strings.

    Parameters
    ----------
    ids : sequence of str or int
    where : str
        What the labels belong to, for the message.
    unique : bool
        Whether a label may stand only once.

    Raises
    ------
    LabelError
        Float labels (float32 merges images: of the 1,250 GOD ids only 200 survive), missing or
        empty labels, duplicates where `unique`.
    """
    array = np.asarray(ids)
    if array.ndim != 1:
        raise LabelError(f"{where}: stimulus_id must be one-dimensional, got shape {array.shape}")
    if array.dtype.kind == "f":
        extra = (
            " (float32 cannot even tell GOD images apart: 1,250 ids become 200)"
            if array.dtype == np.float32
            else ""
        )
        raise LabelError(
            f"{where}: stimulus_id is {array.dtype}, but must be strings{extra}; "
            "make them from the image names, e.g. 'n01518878_10042'"
        )
    if array.dtype.kind == "T":  # numpy's variable-width text cannot be cast to fixed width
        array = array.astype(object)
    if array.dtype.kind == "O":
        bad = [i for i, v in enumerate(array) if not isinstance(v, (str, int, np.integer, bytes))]
        if bad:
            raise LabelError(
                f"{where}: stimulus_id has missing or non-text labels at rows {listed(bad)}"
            )
        array = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in array], dtype=str)
    elif array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    elif array.dtype.kind not in "Uiu":
        raise LabelError(f"{where}: stimulus_id must be strings, got {array.dtype}")
    array = array.astype(str)
    empty = np.flatnonzero((array == "") | (array == "nan"))
    if empty.size:
        raise LabelError(f"{where}: stimulus_id is empty or 'nan' at rows {listed(list(empty))}")
    if unique:
        values, counts = np.unique(array, return_counts=True)
        if (counts > 1).any():
            raise LabelError(
                f"{where}: stimulus_id has duplicates: {listed(list(values[counts > 1]))}; "
                "each stimulus may stand once"
            )
    return array


def index_of(wanted: np.ndarray, available: np.ndarray, wanted_in: str, available_in: str) -> Any:
    """Positions of `wanted` stimuli in `available`: alignment is by label, never by row order.

    Returns
    -------
    ndarray of intp (len(wanted),)

    Raises
    ------
    LabelError
        When a wanted stimulus is missing.
    """
    order = np.argsort(available, kind="stable")
    if available.size == 0:
        raise LabelError(f"{available_in} has no stimuli")
    place = np.minimum(np.searchsorted(available, wanted, sorter=order), available.size - 1)
    index = order[place]
    missing = np.unique(wanted[available[index] != wanted])
    if missing.size:
        none = missing.size == np.unique(wanted).size
        hint = (
            f" No id matches at all: {wanted_in} has ids like '{wanted[0]}', "
            f"{available_in} like '{available[0]}'; rename one of them."
            if none
            else ""
        )
        raise LabelError(
            f"{missing.size} of {np.unique(wanted).size} stimuli of {wanted_in} are not in "
            f"{available_in}: {listed(list(missing))}.{hint}"
        )
    return index


def safe_name(name: str) -> str:
    """A name that can be a tree node: '/' becomes '.' (a '/' would silently make a level).

    Raises
    ------
    LabelError
        For an empty name and for names that mean a place in the tree ('.', '..').
    """
    safe = str(name).replace("/", ".")
    if safe.strip() in ("", ".", ".."):
        raise LabelError(f"'{name}' cannot name a subject, network or layer")
    return safe


def clean_attrs(attrs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Attributes that netCDF can hold: None dropped, bool to int, structures to one JSON string."""
    clean: dict[str, Any] = {}
    for key, value in (attrs or {}).items():
        if value is None:
            continue
        if isinstance(value, (bool, np.bool_)):
            clean[key] = int(value)
        elif isinstance(value, (dict, list, tuple)):
            clean[key] = json.dumps(value, sort_keys=True, default=_plain)
        else:
            clean[key] = value
    return clean


def _plain(value: Any) -> Any:
    """What JSON can hold of a value it does not know: numbers stay numbers."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)


def require_finite(values: np.ndarray, where: str) -> None:
    """Raise DataError with counts and places when `values` (row, column) hold NaN or inf."""
    finite = np.isfinite(values)
    if not finite.all():
        columns = np.flatnonzero(~finite.all(axis=0))
        raise DataError(
            f"{where}: {np.count_nonzero(~finite)} values are NaN or infinite, in "
            f"{columns.size} of {values.shape[-1]} columns (first: {listed(list(columns))}); "
            "drop or mend these columns before comparing"
        )


def average_repetitions(
    response: xr.DataArray, split: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the presentations of each stimulus, and how they vary.

    Parameters
    ----------
    response : DataArray (presentation, neuroid)
        With coord `stimulus_id`, and `split` where `split` is given.
    split : str, optional
        Only the presentations of this split.

    Returns
    -------
    stimulus_id : (stimulus,) str, sorted
    mean : (stimulus, neuroid)
    variance : (stimulus, neuroid)
        Across repetitions, ddof 1; NaN for a stimulus shown once.
    n_repetitions : (stimulus,) int

    Raises
    ------
    LabelError
        When no presentation has this split.
    """
    values = response.values
    ids = response["stimulus_id"].values.astype(str)
    if split is not None:
        keep = response["split"].values == split
        if not keep.any():
            held = sorted(set(response["split"].values.astype(str).tolist()))
            raise LabelError(f"no presentations with split '{split}'; there are {listed(held)}")
        values, ids = values[keep], ids[keep]
    return group_rows(values, ids)


def group_rows(
    values: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance (ddof 1) and count of the rows of each id; ids come back sorted."""
    unique, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.r_[0, np.cumsum(counts)[:-1]]
    rows = np.asarray(values, dtype=np.float64)[order]
    mean = np.add.reduceat(rows, starts, axis=0) / counts[:, None]
    rows = rows - np.repeat(mean, counts, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.add.reduceat(rows * rows, starts, axis=0) / (counts - 1)[:, None]
    return unique, mean, variance, counts
