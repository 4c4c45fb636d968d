"""Brain data in BIDS: preprocessed images, events and masks to one pattern per presentation.

OpenNeuro ds001246 (Horikawa & Kamitani 2017) is recognised and read as the paper did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets import bids_events, bids_layout, timeseries, volumes
from rsacompare.datasets.bids_about import attributes
from rsacompare.datasets.bids_layout import Layout
from rsacompare.datasets.bids_runs import read_run
from rsacompare.datasets.images import open_image, require_content
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema.arrays import responses

Names = str | Sequence[str]
_DEAD = {
    "percent": "normalise='percent' needs a positive mean in every run; data that are centred "
    "already need 'zscore' or 'none'",
    "zscore": "normalise='zscore' needs variance in every run",
}


def load_bids(
    path: str | Path,
    task: Names | None = None,
    masks: Mapping[str, Any] | Sequence[str] | None = None,
    *,
    layout: str = "auto",
    subjects: Names | None = None,
    sessions: Names | None = None,
    bold: str | None = None,
    raw: str | Path | None = None,
    stimulus: Names | None = None,
    event_column: str | None = None,
    events: Names | None = None,
    category: str | None = None,
    columns: Mapping[str, Names] | None = None,
    splits: Mapping[str, str] | None = None,
    drop_repeats: bool | None = None,
    repetition_time: float | None = None,
    discarded: int | None = None,
    shift: int | None = None,
    n_volumes: int | None = None,
    detrend: bool = True,
    normalise: str = "percent",
    estimator: str = "average",
    nuisance_events: Names | None = None,
    hrf_model: str = "spm",
    high_pass: float = 0.01,
    incomplete: str = "error",
    dead_voxels: str = "error",
    resample_masks: bool = False,
) -> xr.DataTree:
    """Any BIDS data set with preprocessed BOLD, events and masks; ds001246 as the paper read it.

    Parameters
    ----------
    path : path
        The root of the data set.
    task : str or sequence of str, optional
        All tasks when absent (ds001246: perception and imagery).
    masks : {roi: pattern or patterns} or {subject: {roi: …}} or names of ROIs
        Mask images below `path`, united per ROI; `{subject}` stands for `sub-01`, and `*` for
        anything. Names choose among the ROIs of a known data set. ds001246 has V1, V2, V3 (dorsal
        and ventral), V4 (hV4), LOC, FFA, PPA, HVC, LVC (V1-V3) and VC (all of them), each over
        both hemispheres.
    layout : {"auto", "generic", "ds001246"}
        Where the defaults come from; `auto` reads `dataset_description.json`.
    subjects, sessions : str or sequence of str, optional
        `sub-01` or `01`; sessions may be patterns (`perceptionTest*`). All when absent.
    bold : str, optional
        Pattern of the preprocessed images below `path`, with `{subject}` and `{task}`. Default
        ``derivatives/*/{subject}/**/*_task-{task}_*desc-preproc_bold.nii*`` (ds001246:
        ``derivatives/preproc-spm/output/…_bold_preproc.nii.gz``).
    raw : path, optional
        Where events and side-cars are, when not below `path`.
    stimulus : str or sequence of str, optional
        Column of the events that names the stimulus; of several the first that a file has.
        Default `trial_type` (ds001246: `stimulus_name`, `category_name`).
    event_column, events : str; str or sequence of str, optional
        Only rows whose `event_column` (default `trial_type`) is one of `events` are presentations;
        all rows when absent (ds001246: `event_type` is stimulus or imagery).
    category : str, optional
        Column that names the category of a stimulus (ds001246: the synset).
    columns : {coord: column or columns}, optional
        Further columns to keep; numbers where all are (`n/a` is NaN). ds001246: `god_label` (the
        float of the event file) and `vividness`.
    splits : {session pattern: split}, optional
        The split of a run by its session (its task where there are no sessions). ds001246:
        perceptionTraining* train, perceptionTest* test, imageryTest* imagery; otherwise no split.
    drop_repeats : bool, optional
        Leave out a presentation of the same stimulus as the one before it (a one-back task).
        Default False (ds001246: True).
    repetition_time : float, optional
        Seconds; from the side-car of the images, else their header, when absent.
    discarded : int, optional
        Volumes at the start of the scan that the images no longer hold. Default 0 (ds001246: 3).
    shift : int, optional
        Haemodynamic delay in volumes. Default 4 s, rounded to volumes (ds001246: 1).
    n_volumes : int, optional
        Volumes per block; those of its duration when absent (ds001246: 3, and 5 for imagery).
    detrend : bool
        Remove each voxel's linear trend in each run, keeping its mean.
    normalise : {"percent", "zscore", "none"}
        Units of each run, before blocks are averaged.
    estimator : {"average", "glm"}
        Mean over the volumes of a block, or a beta per presentation (least squares with a
        regressor for each, nilearn's design with cosine drifts in place of `detrend`; dropped
        repeats are modelled apart).
    nuisance_events, hrf_model, high_pass : optional
        For `glm`: names in `event_column` that get a regressor each (ds001246: cue, evaluation);
        the response function; the cut-off of the drifts in Hz.
    incomplete : {"error", "drop"}
        What to do with a block that its run does not hold wholly.
    dead_voxels : {"error", "drop"}
        What to do with voxels that have no values in some run.
    resample_masks : bool
        Take masks on another grid to the grid of the images, by nearest voxel.

    Returns
    -------
    DataTree
        A node per subject: `response(presentation, neuroid)` in float32, `roi_mask(roi, neuroid)`;
        coords `stimulus_id`, `split`, `repetition`, `session`, `task`, `run` (counted through the
        subject's sessions from 1), `run_label`, `onset`, `category`, those of `columns`, and
        voxel indices `i`, `j`, `k`; attributes `affine` and `shape`, so that
        `rsacompare.datasets.volumes.to_nifti` can write maps.

    Raises
    ------
    ProtocolError, DataError, FetchError, MissingDependency
        A name there is not; files that are broken, missing or do not fit each other; git-annex
        links without content; nilearn missing.

    Notes
    -----
    Preprocessing of ds001246: FACTS section 2, after Horikawa & Kamitani (2017), Methods.
    """
    root = Path(path)
    if estimator not in timeseries.ESTIMATORS:
        raise ProtocolError(plugins.unknown("estimator", estimator, timeseries.ESTIMATORS))
    if normalise not in timeseries.NORMALISE:
        raise ProtocolError(plugins.unknown("normalise", normalise, timeseries.NORMALISE))
    if incomplete not in ("error", "drop"):
        raise ProtocolError(f"incomplete='{incomplete}': there are 'error' and 'drop'")
    for name, number, least in (
        ("discarded", discarded, 0),
        ("shift", shift, None),
        ("n_volumes", n_volumes, 1),
    ):
        whole = number is None or isinstance(number, (int, np.integer))
        if not whole or (number is not None and least is not None and number < least):
            raise ProtocolError(f"{name}={number!r}: a whole number of volumes is expected")
    chosen: dict[str, Any] = {
        "tasks": _names(task),
        "bold": bold,
        "stimulus": _names(stimulus),
        "event_column": event_column,
        "events": _names(events),
        "nuisance_events": _names(nuisance_events),
        "category": category,
        "category_pattern": None if category is None else "",
        "columns": None if columns is None else {k: _names(v) for k, v in columns.items()},
        "splits": splits,
        "drop_repeats": drop_repeats,
        "discarded": discarded,
        "shift": shift,
    }
    taken = set(columns or ()) & set(bids_events.TAKEN)
    if taken:
        raise ProtocolError(f"columns: the name {', '.join(sorted(taken))} has a meaning already")
    known = bids_layout.find_layout(layout, root)
    known = replace(known, **{k: v for k, v in chosen.items() if v is not None})
    people = bids_layout.find_subjects(root, _names(subjects))
    raw_root = root if raw is None else Path(raw)
    runs = {
        s: bids_layout.find_runs(root, raw_root, known, s, _names(sessions), repetition_time)
        for s in people
    }
    mask_files = {s: _mask_files(root, known, masks, s) for s in people}
    # all that is missing is told before the first image is read
    needed = [f for files in mask_files.values() for roi in files.values() for f in roi]
    require_content(
        dict.fromkeys(needed + [f for s in people for r in runs[s] for f in (r.bold, r.events)]),
        root,
    )
    options = {
        "n_volumes": n_volumes,
        "detrend": detrend,
        "normalise": normalise,
        "estimator": estimator,
        "hrf_model": hrf_model,
        "high_pass": high_pass,
        "incomplete": incomplete,
    }
    values, tables, grids, ijk, roi_masks = {}, {}, {}, {}, {}
    masked = {}
    for subject in people:
        grids[subject] = open_image(runs[subject][0].bold).grid
        held = {
            roi: volumes.read_mask(files, grids[subject], resample_masks)
            for roi, files in mask_files[subject].items()
        }
        masked[subject] = volumes.voxels_of(held, subject)
    for subject, (voxels, roi_mask) in masked.items():
        grid = grids[subject]
        parts = [
            read_run(run, number, known, grid, voxels, options)
            for number, run in enumerate(runs[subject], start=1)
        ]
        pattern = np.concatenate([p[0] for p in parts])
        live = volumes.live_voxels(
            pattern,
            voxels,
            dead_voxels,
            subject,
            _DEAD.get(normalise, "NaN or infinite in some run"),
        )
        values[subject] = pattern[:, live]
        ijk[subject] = voxels[live]
        roi_masks[subject] = {roi: mask[live] for roi, mask in roi_mask.items()}
        tables[subject] = pd.concat([p[1] for p in parts], ignore_index=True)
        if not len(tables[subject]):
            raise DataError(f"{subject}: no presentations in {len(parts)} runs; see `events`")
    tree = responses(
        values,
        stimulus_id={s: t["stimulus_id"].to_list() for s, t in tables.items()},
        split=None
        if known.splits is None
        else {s: t["split"].to_list() for s, t in tables.items()},
        roi_mask=roi_masks,
        attrs=attributes(root, known, tables, runs, mask_files, options),
        presentation={
            str(column): {s: bids_events.as_coord(t[column]) for s, t in tables.items()}
            for column in next(iter(tables.values()))
            if column not in ("stimulus_id", "split")
        },
        neuroid={a: {s: v[:, n] for s, v in ijk.items()} for n, a in enumerate("ijk")},
    )
    for subject, grid in grids.items():
        volumes.place(tree.children[subject], grid)
    return tree


def _mask_files(root: Path, layout: Layout, masks: Any, subject: str) -> dict[str, list[Path]]:
    """Mask images of each ROI of a subject."""
    if isinstance(masks, str):
        masks = [masks]
    if masks is None:
        patterns = layout.masks
    elif not isinstance(masks, Mapping):
        for roi in masks:
            if roi not in layout.masks:
                raise ProtocolError(plugins.unknown("roi", roi, layout.masks))
        patterns = {roi: layout.masks[roi] for roi in masks}
    elif any(isinstance(v, Mapping) for v in masks.values()):
        if subject not in masks:
            raise ProtocolError(plugins.unknown("subject with masks", subject, masks))
        patterns = masks[subject]
    else:
        patterns = masks
    if not patterns:
        raise ProtocolError(
            "masks: name at least one ROI, e.g. masks={'V1': 'derivatives/rois/{subject}/"
            "{subject}_desc-V1_mask.nii.gz'}"
        )
    files: dict[str, list[Path]] = {}
    for roi, given in patterns.items():
        files[roi] = []
        for pattern in _names(given) or ():
            found = bids_layout.matching(root, bids_layout.filled(pattern, subject))
            if not found:
                raise DataError(f"{subject}, ROI {roi}: no mask {pattern} in {root}")
            files[roi] += found
    return files


def _names(given: Names | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    return (given,) if isinstance(given, (str, Path)) else tuple(given)
