"""Generic object decoding: five subjects see and imagine objects (Horikawa & Kamitani 2017).

Two families of preprocessed files lie on the same figshare page and differ in their voxels (FACTS
1.5): `Subject1.h5` (or the old `.mat`), preprocessed with SPM as in the paper, and the triple
`Subject1_ImageNetTraining.h5`, `…_ImageNetTest.h5`, `…_Imagery.h5`, from fMRIPrep. Stimuli are
known by their labels alone: `category_index` and `image_index`, wrong in figshare versions before
5, are never read.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets import god_labels
from rsacompare.datasets.god_files import (
    ADDRESS,
    FAMILIES,
    TEST_IMAGES,
    find,
    folder,
    read,
    require_same_voxels,
)
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema.arrays import responses
from rsacompare.schema.labels import SPLITS
from rsacompare.schema.store import file_sha256

# of the data registry: where files of a family are looked for first
FOLDERS = {
    None: ("god", "god_fmriprep"),
    "spm": ("god", "god_fmriprep"),
    "fmriprep": ("god_fmriprep", "god"),
}


def load_brain(
    path: str | None = None,
    subjects: str | list[str] | None = None,
    rois: str | list[str] | dict[str, str] | None = None,
    splits: str | list[str] | None = None,
    test_images: str = "all",
    family: str | None = None,
    dtype: str = "float64",
) -> xr.DataTree:
    """Five subjects seeing and imagining objects (Horikawa & Kamitani 2017, GOD), from BData files.

    Parameters
    ----------
    path : str, optional
        The folder with the files, or one file of a subject; when absent `god` in the folder that
        `RSACOMPARE_DATA` names, or what `rsacompare fetch god` downloaded.
    subjects : str or list of str, optional
        As in the file names, `Subject1`; all there are, when absent.
    rois : str, list of str or {name: selection}, optional
        ROIs by their short names, or by selections in the grammar of
        `rsacompare.datasets.bdata.select_columns`. Only their voxels are read. All, when absent.
    splits : str or list of str, optional
        Of `train`, `test`, `imagery`; all when absent.
    test_images : {"all", "not_in_ilsvrc", "in_ilsvrc"}
        Which of the 50 test images: 20 of them are in the ILSVRC-2012 training set, so that
        networks trained on it know them.
    family : {"spm", "fmriprep"}, optional
        Which files, where a folder holds both for a subject.
    dtype : {"float64", "float32"}
        Of the responses: as in the files, or half the memory. Labels are float64 either way.

    Returns
    -------
    DataTree
        One node per subject. Coordinates of `presentation`: `stimulus_id` (`n01518878_10042`;
        imagined ones the synset), `god_label` (the float of the file), `split`, `repetition`,
        `category` (the synset), `ilsvrc_train` (1, 0, -1 where unknown), `run`, and `session` and
        `block` where the files know them. Of `neuroid`: `voxel_x`, … In attrs: `family`,
        `voxels`, one JSON string {subject: {roi: count}}, and `notes`, what was left out and why.

    Raises
    ------
    DataError, LabelError, ProtocolError
        Files that are missing, damaged or do not belong together; labels that name no picture;
        an unknown ROI, subject or option.
    """
    subjects = [subjects] if isinstance(subjects, str) else subjects
    splits = [splits] if isinstance(splits, str) else splits
    rois = [rois] if isinstance(rois, str) else rois
    options: list[tuple[str, str | None, tuple[str | None, ...]]] = [
        ("test_images", test_images, tuple(TEST_IMAGES)),
        ("dtype", dtype, ("float64", "float32")),
        ("family", family, (None, *FAMILIES)),
        *(("split", split, SPLITS) for split in splits or ()),
    ]
    for name, value, known in options:
        if value not in known:
            raise ProtocolError(f"god: {plugins.unknown(name, value, known)}")
    found, family = find(folder(path, folders=FOLDERS[family]), subjects, family)
    wanted = set(SPLITS if splits is None else splits)
    data: dict[str, np.ndarray] = {}
    ids: dict[str, np.ndarray] = {}
    rows: dict[str, dict[str, np.ndarray]] = {}
    masks: dict[str, dict[str, np.ndarray]] = {}
    places: dict[str, dict[str, np.ndarray]] = {}
    notes: list[str] = []
    for subject, parts in found.items():
        held = []
        for file, split in parts:
            if split is None or split in wanted:
                held.append(read(file, split, wanted, rois, test_images, np.dtype(dtype)))
        held = [part for part in held if len(part.stimulus_id)]
        if not held:
            raise DataError(f"god: {subject} has no presentations of {', '.join(sorted(wanted))}")
        require_same_voxels(subject, parts, held)
        masks[subject], places[subject] = held[0].masks, held[0].places
        data[subject] = _joined([part.response for part in held])
        ids[subject] = _joined([part.stimulus_id for part in held])
        shared = [name for name in held[0].rows if all(name in part.rows for part in held)]
        rows[subject] = {name: _joined([part.rows[name] for part in held]) for name in shared}
        notes += [f"{subject}: {part.left_out}" for part in held if part.left_out]
    counts = {s: {roi: int(m.sum()) for roi, m in named.items()} for s, named in masks.items()}
    return responses(
        data,
        stimulus_id=ids,
        split={s: named["split"] for s, named in rows.items()},
        roi_mask=masks,
        presentation={k: v for k, v in _by_name(rows).items() if k != "split"},
        neuroid=_by_name(places),
        attrs={
            "title": "Generic object decoding (Horikawa & Kamitani 2017)",
            "description": _description(ids, rows, counts, family, test_images, notes),
            "citation": god_labels.CITATION,
            "licence": f"as stated at {ADDRESS}",
            "simulated": 0,
            "family": family,
            "voxels": counts,
            "notes": notes,
            "inputs": {f.name: file_sha256(f) for parts in found.values() for f, _ in parts},
        },
    )


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _by_name(held: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """{name: {subject: …}} of what every subject has."""
    first = next(iter(held.values()))
    shared = [name for name in first if all(name in named for named in held.values())]
    return {name: {s: named[name] for s, named in held.items()} for name in shared}


def _description(
    ids: dict[str, np.ndarray],
    rows: dict[str, dict[str, np.ndarray]],
    counts: dict[str, dict[str, int]],
    family: str,
    test_images: str,
    notes: list[str],
) -> str:
    """What is there, counted: presentations of the first subject, voxels of all; what is not."""
    first = next(iter(ids))
    shown = []
    for split, words in zip(SPLITS, ("training", "test", "imagined"), strict=True):
        of_split = rows[first]["split"] == split
        if of_split.any():
            things = "categories" if split == "imagery" else "images"
            unique = np.unique(ids[first][of_split]).size
            shown.append(f"{unique} {words} {things} in {of_split.sum()} presentations")
    rois = list(dict.fromkeys(roi for named in counts.values() for roi in named))
    voxels = [
        f"{roi} {'/'.join(str(named.get(roi, '-')) for named in counts.values())}" for roi in rois
    ]
    chosen = {
        "all": "",
        "in_ilsvrc": " Only test images that are in the ILSVRC-2012 training set.",
        "not_in_ilsvrc": " Without the test images that are in the ILSVRC-2012 training set.",
    }
    return (
        f"fMRI responses of {len(ids)} subject{'s' * (len(ids) > 1)} to photographs of objects, "
        f"{FAMILIES[family]}: {', '.join(shown)}.{chosen[test_images]} Voxels "
        f"({'/'.join(ids)}): {', '.join(voxels)}.{' ' * bool(notes)}{'. '.join(notes)}"
        f"{'.' * bool(notes)}"
    )
