"""What `schema.arrays` is given: numbers, masks and labels, each checked for its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rsacompare.errors import DataError, LabelError
from rsacompare.schema import labels

Masks = Mapping[str, np.ndarray]
RESERVED = (
    "stimulus_id", "split", "repetition", "roi", "response", "roi_mask", "presentation", "neuroid"
)  # fmt: skip


def matrix(values: Any, where: str, n_rows: int, row: str, finite: bool = True) -> np.ndarray:
    """A two-dimensional array of numbers with `n_rows` rows, in float."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: numbers expected, got {array.dtype}")
    if array.ndim != 2 or array.shape[0] != n_rows:
        raise DataError(
            f"{where}: expected ({row}, neuroid) with {n_rows} rows for {n_rows} stimulus ids, "
            f"got shape {array.shape}"
        )
    if array.shape[1] == 0 or n_rows == 0:
        raise DataError(f"{where}: empty, shape {array.shape}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if finite:
        labels.require_finite(array, where)
    return array


def pair_vector(values: Any, where: str, n: int) -> np.ndarray:
    """The upper triangle of one RDM, or of one per session: ([session,] pair)."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: numbers expected, got {array.dtype}")
    if n < 3:
        raise DataError(f"{where}: {n} stimuli make no dissimilarities to compare; at least 3")
    array = array.astype(np.float64)
    m = n * (n - 1) // 2
    if array.ndim >= 2 and array.shape[-2:] == (n, n):
        scale = float(np.max(np.abs(array), initial=1e-300, where=np.isfinite(array)))
        if not np.allclose(array, np.swapaxes(array, -1, -2), atol=1e-6 * scale, equal_nan=True):
            raise DataError(f"{where}: not symmetric")
        if np.abs(np.diagonal(array, axis1=-2, axis2=-1)).max() > 1e-6 * scale:
            raise DataError(f"{where}: the diagonal is not zero: are these similarities?")
        i, j = np.triu_indices(n, 1)
        array = array[..., i, j]
    if array.shape[-1:] != (m,) or array.ndim > 2:
        raise DataError(
            f"{where}: shape {np.shape(values)} does not fit {n} stimuli: expected ({n}, {n}) or "
            f"the upper triangle of {m}"
        )
    bad = np.flatnonzero(~np.isfinite(np.atleast_2d(array)).all(axis=0))
    if bad.size:
        first = ", ".join(str(k[bad[0]]) for k in np.triu_indices(n, 1))
        raise DataError(
            f"{where}: {bad.size} of {m} pairs are NaN or infinite (first: rows {first}, counted "
            "from 0); leave out the stimuli they belong to"
        )
    return array


def masks_of(
    roi_mask: Masks | Mapping[str, Masks] | None, subject: str, n_voxels: int, where: str
) -> dict[str, np.ndarray]:
    """Boolean masks of one subject; one ROI `all` where there are none."""
    masks: Any = roi_mask
    if masks and isinstance(next(iter(masks.values())), Mapping):
        if subject not in masks:
            raise LabelError(f"{where}: roi_mask has no entry for this subject")
        masks = masks[subject]
    if not masks:
        masks = {"all": np.ones(n_voxels, dtype=bool)}
    checked = {}
    for roi, mask in masks.items():
        array = np.asarray(mask)
        if array.shape != (n_voxels,):
            raise DataError(
                f"{where}: mask of ROI '{roi}' has shape {array.shape}, expected ({n_voxels},) "
                "booleans, one per voxel"
            )
        if array.dtype != bool and not np.isin(array, (0, 1)).all():
            raise DataError(f"{where}: mask of ROI '{roi}' must be boolean, got {array.dtype}")
        checked[str(roi)] = array.astype(bool)
    return checked


def for_subject(value: Any, subject: str, where: str) -> Any:
    """What is given for all subjects alike, or for each."""
    if isinstance(value, Mapping):
        if subject not in value:
            raise LabelError(f"{where}: no labels for this subject")
        return value[subject]
    return value


def coordinates(
    given: Mapping[str, Any] | None, dim: str, subject: str, n: int, where: str
) -> dict[str, tuple[str, np.ndarray]]:
    """Further coordinates along `dim`: numbers or text, one for each of `n`."""
    coords = {}
    for name, value in (given or {}).items():
        if name in RESERVED:
            raise LabelError(f"{where}: '{name}' has a meaning of its own, not a {dim} coordinate")
        array = np.asarray(for_subject(value, subject, where))
        if array.dtype.kind in "OT":
            array = array.astype(str)
        if array.shape != (n,) or array.dtype.kind not in "biufU":
            raise LabelError(
                f"{where}: coordinate '{name}' must be numbers or text, one for each of {n} along "
                f"{dim}; got shape {array.shape}, {array.dtype}"
            )
        coords[name] = (dim, array)
    return coords


def split_of(given: Any, n_rows: int, where: str) -> np.ndarray:
    """Split of each presentation; all "" when the study has none."""
    split = np.full(n_rows, "") if given is None else np.asarray(given).astype(str)
    names = set(split.ravel().tolist())
    odd = sorted(names - set(labels.SPLITS)) if names != {""} else []
    if odd or split.shape != (n_rows,):
        raise LabelError(
            f"{where}: split must name one of {', '.join(labels.SPLITS)} for each of {n_rows} "
            f"presentations; got {labels.listed(odd or sorted(names))} in {split.size} labels"
        )
    return split


def count_repetitions(ids: np.ndarray, split: np.ndarray) -> np.ndarray:
    """How often the stimulus of a row was shown before in its split."""
    seen: dict[tuple[str, str], int] = {}
    out = np.empty(len(ids), dtype=int)
    for row, key in enumerate(zip(ids.tolist(), split.tolist(), strict=True)):
        out[row] = seen.get(key, 0)
        seen[key] = out[row] + 1
    return out
