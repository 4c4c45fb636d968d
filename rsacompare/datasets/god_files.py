"""The files of the GOD study: which there are, and what one holds of a subject."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsacompare import plugins
from rsacompare.datasets import god_labels
from rsacompare.datasets.bdata import BData, open_bdata
from rsacompare.datasets.load import OFFLINE, cache_folder
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema.labels import require_finite

ADDRESS = "figshare, doi:10.6084/m9.figshare.7387130"
PAPER_ROIS = ("V1", "V2", "V3", "V4", "LOC", "FFA", "PPA", "LVC", "HVC", "VC")
FAMILIES = {
    "spm": "preprocessed with SPM, as in the paper (one file per subject)",
    "fmriprep": "preprocessed with fMRIPrep (a file per experiment; not the paper's voxels)",
}
PARTS = {"ImageNetTraining": "train", "ImageNetTest": "test", "Imagery": "imagery"}
LABEL_KEYS = ("stimulus_id", "category_id", "Label")  # category_id: imagined, from BIDS events
ROW_KEYS = {"run": "Run", "session": "Session", "block": "Block"}
PLACES = ("voxel_x", "voxel_y", "voxel_z", "voxel_i", "voxel_j", "voxel_k")
TEST_IMAGES = {"all": None, "in_ilsvrc": 1, "not_in_ilsvrc": 0}
Files = list[tuple[Path, str | None]]  # of one subject, each with the split it is of


@dataclass
class Part:
    """What one file holds of a subject, rows (presentation) and voxels cut to what is wanted."""

    response: np.ndarray
    stimulus_id: np.ndarray
    rows: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    places: dict[str, np.ndarray]
    left_out: str


def folder(
    path: str | None,
    name: str = "god",
    files: str = "Subject*",
    folders: tuple[str, ...] = ("god",),
) -> Path:
    """Where the files are: as given, else `god` in the offline folder or among the downloads.

    Parameters
    ----------
    path : str or None
    name, files : str
        Of the loader, for the message; a pattern of the files that it looks for.
    folders : tuple of str
        Of the data registry.

    Raises
    ------
    ProtocolError
        No path, no offline folder, and nothing was downloaded.
    """
    if path is not None:
        return Path(path)
    offline = os.environ.get(OFFLINE)
    places = [Path(offline) / each for each in folders] if offline else []
    for place in (*places, *(cache_folder() / each for each in folders)):
        if any(place.glob(files)):
            return place
    if not places:
        raise ProtocolError(
            f"{name}: give path=, the folder with {files}.h5 ({ADDRESS}), set "
            f"{OFFLINE} to a folder in which they lie under god/, or say `rsacompare fetch god`"
        )
    return places[0]


def find(path: Path, subjects: Iterable[str] | None, family: str | None) -> Any:
    """{subject: files}, and the family they are of."""
    if not path.exists():
        raise DataError(f"god: there is no {path}; the files are at {ADDRESS}")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found: dict[str, dict[str, Files]] = {name: {} for name in FAMILIES}
    for file in files:
        stem, part = file.stem, None
        if triple := re.fullmatch(rf"(.+?)_({'|'.join(PARTS)})(_fmriprep\w*)?", file.stem):
            stem, part = triple[1], triple[2]
        whole = re.fullmatch(r"Subject\d+", stem) or path.is_file()
        if file.suffix not in (".h5", ".mat") or not (part or whole) or not file.is_file():
            continue
        held = found["fmriprep" if part else "spm"].setdefault(stem, [])
        split = PARTS[part] if part else None
        same = [f for f, s in held if s == split]
        if not same:
            held.append((file, split))
        elif same[0].suffix == file.suffix:  # else the .h5, which comes before the old .mat
            raise ProtocolError(
                f"god: two files of {split} for {stem} in {path}: {same[0].name} and {file.name}; "
                "keep one, or give its path"
            )
    there = [name for name in FAMILIES if found[name]]
    if not there:
        raise DataError(
            f"god: no Subject1.h5, Subject1.mat or Subject1_ImageNetTraining.h5 … in {path}; the "
            f"files are at {ADDRESS}"
        )
    if family is None and len(there) > 1:
        raise ProtocolError(
            f"god: {path} holds files preprocessed with SPM and with fMRIPrep, whose voxels "
            "differ; choose with family='spm' or family='fmriprep'"
        )
    chosen = family or there[0]
    of_family = found[chosen]
    if not of_family:
        raise ProtocolError(f"god: {path} holds no files of family '{chosen}', only '{there[0]}'")
    names = sorted(of_family, key=lambda s: (len(s), s)) if subjects is None else list(subjects)
    if not names:
        raise ProtocolError("god: subjects= names none")
    for name in names:
        if name not in of_family:
            raise ProtocolError(f"god: {plugins.unknown('subject', name, of_family)}")
    order = list(PARTS.values())
    ordered = {
        n: sorted(of_family[n], key=lambda part: order.index(part[1]) if part[1] else 0)
        for n in names
    }
    return ordered, chosen


def read(
    file: Path,
    split: str | None,
    wanted: set[str],
    rois: Iterable[str] | Mapping[str, str] | None,
    test_images: str,
    dtype: np.dtype[Any],
) -> Part:
    """What one file holds, cut to the rows and the ROIs that are wanted; no other voxel is read.

    Parameters
    ----------
    file : Path
    split : str or None
        Of all its rows, where the name says so; otherwise `DataType` tells.
    wanted : set of str
        Splits to keep.
    rois, test_images, dtype
        As in `load_brain`.

    Raises
    ------
    DataError, LabelError, ProtocolError
        As in `load_brain`.
    """
    held = open_bdata(file)
    masks = _masks(held, rois)
    columns = np.any(list(masks.values()), axis=0)
    key = next((k for k in LABEL_KEYS if k in held.keys), None)
    if key is None:
        raise DataError(f"{file}: no labels, none of the keys {', '.join(LABEL_KEYS)}")
    label = held.column(key)
    splits = _splits(held, split)
    rest = np.isnan(label) if split else np.zeros(len(label), dtype=bool)
    keep = np.isin(splits, list(wanted)) & ~rest
    others = {}
    for name, known in ROW_KEYS.items():
        if known in held.keys:
            others[name] = held.column(known)
    ids = np.full(len(label), "", dtype="<U24")
    for imagined in (False, True):
        rows = keep & ((splits == "imagery") == imagined)
        ids[rows] = god_labels.names_of(label[rows], f"{file}, '{key}'", category=imagined)
    left_out = [f"{int(rest.sum())} rows without a stimulus"] if rest.any() else []
    if split in ("train", "test"):
        again = _one_back(ids, others)
        if again.any():
            keep &= ~again
            left_out.append(f"{int(again.sum())} one-back repeats")
    flag = god_labels.ilsvrc_flag(ids)
    tested = keep & (splits == "test")
    if test_images != "all":
        unknown = tested & (flag < 0)
        if unknown.any():
            raise LabelError(
                f"{file}: test_images='{test_images}', but {np.unique(ids[unknown]).size} test "
                f"images are not among the 50 of the study ('{ids[unknown][0]}')"
            )
        keep &= ~tested | (flag == TEST_IMAGES[test_images])
    rows = {
        "split": splits,
        "god_label": label,
        "category": np.array([s.partition("_")[0] for s in ids.tolist()], dtype="<U9"),
        "ilsvrc_train": np.where(splits == "test", flag, np.int8(-1)),
        **{name: _whole(values) for name, values in others.items()},
    }
    response = held.read(columns, keep, dtype)
    require_finite(response, f"{file}, voxels of {', '.join(masks)}")
    return Part(
        response=response,
        stimulus_id=ids[keep],
        rows={name: values[keep] for name, values in rows.items()},
        masks={roi: mask[columns] for roi, mask in masks.items()},
        places={name: held.keys[name][columns] for name in PLACES if name in held.keys},
        left_out=f"{' and '.join(left_out)} left out of {file.name}" if left_out else "",
    )


def _masks(held: BData, rois: Iterable[str] | Mapping[str, str] | None) -> dict[str, np.ndarray]:
    """{short name: columns}, in the paper's order unless asked for in another."""
    named = {key.removeprefix("ROI_"): key for key in held.keys if key.startswith("ROI_")}
    ordered = [roi for roi in PAPER_ROIS if roi in named]
    ordered += [roi for roi in named if roi not in PAPER_ROIS]
    if rois is None:
        found = {roi: held.keys[named[roi]] == 1 for roi in ordered}
        masks = {roi: mask for roi, mask in found.items() if mask.any()}
        if not masks:
            raise DataError(f"{held.path}: no key ROI_… marks a voxel")
    else:
        chosen = rois.items() if isinstance(rois, Mapping) else [(r, r) for r in rois]
        masks = {}
        for roi, selection in chosen:
            name = roi.removeprefix("ROI_")
            short = selection.removeprefix("ROI_")
            if short in named:
                masks[name] = held.keys[named[short]] == 1
            elif re.search(r"[|+&\-=*()]", selection) or selection in held.keys:
                masks[name] = held.select(selection)
            else:
                raise ProtocolError(f"{held.path}: {plugins.unknown('roi', roi, ordered)}")
            if not masks[name].any():
                raise DataError(f"{held.path}: ROI '{roi}' has no voxels")
        if not masks:
            raise ProtocolError("god: rois= names none")
    if "VoxelData" in held.keys:
        for roi, mask in masks.items():
            if (mask & (held.keys["VoxelData"] != 1)).any():
                raise DataError(f"{held.path}: ROI '{roi}' holds columns that are not voxels")
    return masks


def _splits(held: BData, split: str | None) -> np.ndarray:
    """Split of each row, from DataType or the file's name; both must agree."""
    if "DataType" not in held.keys:
        if split is None:
            raise DataError(f"{held.path}: no key DataType, so no telling training from test rows")
        return np.full(held.n_rows, split, dtype="<U7")
    kinds = held.column("DataType")
    odd = np.unique(kinds[~np.isin(kinds, list(god_labels.SPLIT_OF_TYPE))])
    if odd.size:
        raise DataError(f"{held.path}: DataType is {odd[:5].tolist()}, expected 1, 2 or 3")
    names = np.array(["", *god_labels.SPLIT_OF_TYPE.values()], dtype="<U7")[kinds.astype(int)]
    if split is not None and (names != split).any():
        raise DataError(
            f"{held.path}: by its name a file of {split} rows, but {np.sum(names != split)} have "
            "another DataType"
        )
    return names


def _one_back(ids: np.ndarray, others: dict[str, np.ndarray]) -> np.ndarray:
    """Rows that show the picture of the row before again, in the same run: (row,) bool."""
    again = np.zeros(len(ids), dtype=bool)
    if "run" in others:
        again[1:] = (ids[1:] == ids[:-1]) & (ids[1:] != "")
        for name in ("run", "session"):
            if name in others:
                again[1:] &= others[name][1:] == others[name][:-1]
    return again


def require_same_voxels(subject: str, files: Files, parts: list[Part]) -> None:
    """Raise DataError unless the files of a subject are of one set of voxels."""
    for part in parts[1:]:
        for ours, theirs in ((parts[0].masks, part.masks), (parts[0].places, part.places)):
            same = ours.keys() == theirs.keys() and all(
                np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours
            )
            if not same:
                raise DataError(
                    f"god: the files of {subject} ({', '.join(f.name for f, _ in files)}) do not "
                    "have the same voxels; take all of one download"
                )


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers as such."""
    whole = (np.abs(values) < 2**53).all() and (values == np.rint(values)).all()
    return values.astype(int) if whole else values
