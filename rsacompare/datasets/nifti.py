"""Beta images with a table of labels, and the half slice of Haxby et al. (2001) at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets import timeseries, volumes
from rsacompare.datasets.images import Grid, open_image, require_content
from rsacompare.datasets.load import fetch
from rsacompare.datasets.registry import registry
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema import store
from rsacompare.schema.arrays import responses

BOLD, MASK, ATTRIBUTES = "haxby/bold.nii.gz", "haxby/mask.nii.gz", "haxby/attributes.txt"
CATEGORIES = ("face", "house", "shoe", "cat", "scissors", "scrambledpix", "bottle", "chair")
HAXBY_2001 = (
    "Haxby JV, Gobbini MI, Furey ML, Ishai A, Schouten JL, Pietrini P (2001). Distributed and "
    "overlapping representations of faces and objects in ventral temporal cortex. Science "
    "293:2425-2430. doi:10.1126/science.1063736"
)


def load_nifti(
    betas: Any,
    labels: Any,
    masks: Any = None,
    *,
    stimulus: str = "stimulus_id",
    title: str = "",
    categories: Mapping[str, str] | None = None,
    dead_voxels: str = "error",
    resample_masks: bool = False,
) -> xr.DataTree:
    """Beta images of your own: a 4-D NIfTI (or a list of images) with a table of labels and masks.

    Parameters
    ----------
    betas : path, sequence of paths, or {subject: …}
        One image per presentation: a 4-D file, or files whose volumes follow one another. One
        subject without a name is called by the `sub-…` of its file, else `sub-01`.
    labels : path, sequence of str, table, or {subject: …}
        A row per image: a `.csv` or `.tsv` with a header, a DataFrame or {column: values}, or the
        stimulus ids themselves. Columns `split` and `repetition` mean what they say; all others
        are kept as coordinates (`run`, `category`, …).
    masks : path, {roi: path or paths}, or {subject: {roi: …}}, optional
        Binary images; several of one ROI are united; `{subject}` in a path is replaced. One path
        without a name is the ROI `all`. Without masks: `all`, the voxels that are finite in every
        image and not 0 in all.
    stimulus : str
        Column of the stimulus ids.
    title : str
        Of the data set, for the pages.
    categories : {stimulus_id: category}, optional
        Taken from a column `category` when absent.
    dead_voxels : {"error", "drop"}
        What to do with voxels of a mask that are NaN in some image.
    resample_masks : bool
        Take masks on another grid to the grid of the images, by nearest voxel.

    Returns
    -------
    DataTree
        A node per subject: `response(presentation, neuroid)` in float32, `roi_mask(roi, neuroid)`,
        voxel indices `i`, `j`, `k`; attributes `affine` and `shape`.

    Raises
    ------
    DataError, LabelError, FetchError
        Files that are broken, missing or on different grids; labels that do not fit.
    """
    given = dict(betas) if isinstance(betas, Mapping) else {_subject_of(betas): betas}
    values, tables, roi_masks, ijk, grids = {}, {}, {}, {}, {}
    inputs: dict[str, str] = {}
    for subject, images in given.items():
        files = [Path(f) for f in ([images] if isinstance(images, (str, Path)) else images)]
        if not files:
            raise DataError(f"{subject}: no beta images")
        opened = [open_image(file) for file in files]
        grid = opened[0].grid
        for image in opened:
            if not image.grid.same(grid):
                raise DataError(
                    f"{image.path}: on another grid than the subject's first image. Here: "
                    f"{image.grid}. First: {grid}"
                )
        tables[subject] = _labels(_of(labels, subject, isinstance(betas, Mapping)), stimulus)
        n_images = sum(image.n_volumes for image in opened)
        if len(tables[subject]) != n_images:
            raise LabelError(
                f"{subject}: {len(tables[subject])} labels for {n_images} images in "
                f"{files[0]}{' …' if len(files) > 1 else ''}"
            )
        mask_files = _mask_files(masks, subject)
        held = {roi: volumes.read_mask(m, grid, resample_masks) for roi, m in mask_files.items()}
        if not held:
            held = {"all": _brain([image.read() for image in opened], grid)}
        voxels, roi_mask = volumes.voxels_of(held, subject)
        pattern = np.concatenate([image.read(voxels) for image in opened]).astype(np.float32)
        live = volumes.live_voxels(
            pattern, voxels, dead_voxels, f"{subject}: betas", "NaN or infinite in some image"
        )
        values[subject], ijk[subject], grids[subject] = pattern[:, live], voxels[live], grid
        roi_masks[subject] = {roi: mask[live] for roi, mask in roi_mask.items()}
        for file in [*files, *(f for found in mask_files.values() for f in found)]:
            inputs[str(file)] = store.file_sha256(file)
    columns = dict.fromkeys(str(c) for table in tables.values() for c in table)
    for subject, table in tables.items():
        if set(table) != set(columns):
            raise LabelError(f"{subject}: label columns {list(table)}, others have {list(columns)}")
    if categories is None and "category" in columns:
        both = pd.concat([t[[stimulus, "category"]] for t in tables.values()])
        categories = dict(zip(both[stimulus].astype(str), both["category"], strict=True))

    def column(name: str) -> dict[str, np.ndarray] | None:
        return {s: t[name].to_numpy() for s, t in tables.items()} if name in columns else None

    tree = responses(
        values,
        stimulus_id={s: t[stimulus].to_list() for s, t in tables.items()},
        split=column("split"),
        repetition=column("repetition"),
        roi_mask=roi_masks,
        attrs={
            "title": title or f"Beta images ({', '.join(list(given)[:3])})",
            "categories": None if categories is None else dict(categories),
            "simulated": False,
            "inputs": inputs,
        },
        presentation={c: column(c) for c in columns if c not in (stimulus, "split", "repetition")},
        neuroid={a: {s: v[:, n] for s, v in ijk.items()} for n, a in enumerate("ijk")},
    )
    for subject, grid in grids.items():
        volumes.place(tree.children[subject], grid)
    return tree


def haxby(shift: int = 0, detrend: bool = True, normalise: str = "zscore") -> xr.DataTree:
    """Half a slice of one subject who saw eight kinds of objects in 12 runs (Haxby et al. 2001).

    Parameters
    ----------
    shift : int
        Haemodynamic delay in volumes of 2.5 s, beyond the one that the labels hold already: the
        mean response rises past its half before the first labelled volume of a block.
    detrend : bool
        Remove each voxel's linear trend in each run.
    normalise : {"percent", "zscore", "none"}
        Units of each run, before the nine volumes of a block are averaged.

    Returns
    -------
    DataTree
        Node `sub-01`: `response(presentation, neuroid)`, a presentation per run and category
        (`stimulus_id`, also `category`; coord `run`), ROI `brain`.

    Raises
    ------
    FetchError, DataError, ProtocolError
        A file that cannot be had or is not what it should be; a name there is not.
    """
    paths = {name: fetch(name) for name in (BOLD, MASK, ATTRIBUTES)}
    image = open_image(paths[BOLD])
    mask = volumes.read_mask([paths[MASK]], image.grid)
    voxels, roi_mask = volumes.voxels_of({"brain": mask}, "haxby")
    label, run = _attributes(paths[ATTRIBUTES], image.n_volumes)
    series = image.read(voxels)
    patterns, names, runs = [], [], []
    for number in np.unique(run):
        here = series[run == number]
        here = timeseries.normalise(timeseries.detrend(here) if detrend else here, normalise)
        shown = label[run == number]
        starts = np.flatnonzero((shown != np.r_[0, shown[:-1]]) & (shown != 0))
        ends = np.flatnonzero((shown != np.r_[shown[1:], 0]) & (shown != 0)) + 1
        if starts.min(initial=len(here)) + shift < 0 or ends.max(initial=0) + shift > len(here):
            raise ProtocolError(f"haxby: shift={shift} moves blocks out of run {number}")
        patterns.append(timeseries.block_average(here, starts + shift, ends - starts))
        names += [CATEGORIES[c - 1] for c in shown[starts]]
        runs += [int(number)] * len(starts)
    values = np.concatenate(patterns)
    volumes.live_voxels(values, voxels, "error", "haxby", f"normalise='{normalise}'")
    tree = responses(
        {"sub-01": values.astype(np.float32)},
        stimulus_id=names,
        roi_mask=roi_mask,
        attrs={
            "title": "Haxby et al. (2001), half a slice of one subject",
            "description": "Block averages of eight categories in 12 runs; 530 voxels of the "
            "posterior half of an axial slice (the example data of PyMVPA).",
            "citation": HAXBY_2001,
            "licence": f"{registry()[BOLD].licence} (as distributed with PyMVPA)",
            "categories": {name: name for name in CATEGORIES},
            "simulated": False,
            "preprocessing": {"shift": shift, "detrend": detrend, "normalise": normalise},
            "inputs": {name: registry()[name].sha256 for name in paths},
        },
        presentation={"run": runs, "category": names},
        neuroid={axis: voxels[:, n] for n, axis in enumerate("ijk")},
    )
    volumes.place(tree.children["sub-01"], image.grid)
    return tree


def _attributes(file: Path, n_volumes: int) -> tuple[np.ndarray, np.ndarray]:
    """Label (0 rest, 1-8) and run of each volume."""
    try:
        table = np.loadtxt(file, dtype=int, ndmin=2)
    except (ValueError, OSError) as err:
        raise DataError(f"{file} cannot be read as labels and runs: {err}") from err
    if table.shape != (n_volumes, 2) or not np.isin(table[:, 0], range(9)).all():
        raise DataError(f"{file}: {table.shape} values, expected a label 0-8 and a run per volume")
    return table[:, 0], table[:, 1]


def _subject_of(betas: Any) -> str:
    first = betas if isinstance(betas, (str, Path)) else next(iter(betas), "")
    found = re.search(r"sub-[a-zA-Z0-9]+", Path(first).name)
    return found[0] if found else "sub-01"


def _of(given: Any, subject: str, by_subject: bool) -> Any:
    """A subject's share of something that may be told per subject."""
    if by_subject and isinstance(given, Mapping):
        if subject not in given:
            raise LabelError(plugins.unknown("subject with labels", subject, given))
        return given[subject]
    if isinstance(given, (str, Path)):
        return str(given).replace("{subject}", subject)
    return given


def _labels(given: Any, stimulus: str) -> pd.DataFrame:
    """A table with a row per image, its text columns as text."""
    if isinstance(given, (str, Path)):
        file = Path(given)
        require_content([file])
        try:
            table = pd.read_csv(
                file,
                sep="," if file.suffix == ".csv" else "\t",
                dtype={stimulus: str, "split": str, "category": str},
                keep_default_na=False,
                encoding="utf-8-sig",
            )
        except (ValueError, OSError) as err:
            raise LabelError(f"{file} cannot be read as a table of labels: {err}") from err
    elif isinstance(given, (pd.DataFrame, Mapping)):
        try:
            table = pd.DataFrame(given)
        except ValueError as err:
            raise LabelError(f"labels: {err}") from err
        file = Path("labels")
    else:
        table, file = pd.DataFrame({stimulus: list(given)}), Path("labels")
    if stimulus not in table:
        raise LabelError(f"{file}: {plugins.unknown('column', stimulus, table.columns)}")
    return table


def _mask_files(masks: Any, subject: str) -> dict[str, list[Path]]:
    if masks is None:
        return {}
    if isinstance(masks, (str, Path)):
        masks = {"all": masks}
    if any(isinstance(v, Mapping) for v in masks.values()):
        if subject not in masks:
            raise LabelError(plugins.unknown("subject with masks", subject, masks))
        masks = masks[subject]
    return {
        roi: [
            Path(str(f).replace("{subject}", subject))
            for f in ([given] if isinstance(given, (str, Path)) else given)
        ]
        for roi, given in masks.items()
    }


def _brain(stacks: Sequence[np.ndarray], grid: Grid) -> np.ndarray:
    """Voxels that are finite in every image and not 0 in all."""
    finite = np.logical_and.reduce([np.isfinite(v).all(axis=0) for v in stacks])
    alive = np.logical_or.reduce([(v != 0).any(axis=0) for v in stacks])
    return (finite & alive).reshape(grid.shape, order="F")
