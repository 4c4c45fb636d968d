"""One run of a BIDS data set: its images and events to a pattern per presentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rsacompare.datasets import bids_events, timeseries
from rsacompare.datasets.bids_layout import Layout, Run
from rsacompare.datasets.images import Grid, Image, open_image
from rsacompare.errors import DataError


def read_run(
    run: Run,
    number: int,
    layout: Layout,
    grid: Grid,
    voxels: np.ndarray,
    options: Mapping[str, Any],
) -> tuple[np.ndarray, pd.DataFrame]:
    """Patterns (presentation, voxel) of a run and their table."""
    image = open_image(run.bold)
    if not image.grid.same(grid):
        raise DataError(
            f"{run.bold}: on another grid than the subject's first run. Here: {image.grid}. "
            f"First: {grid}"
        )
    interval = run.repetition_time or image.repetition_time
    if not interval:
        raise DataError(f"{run.bold}: no repetition time in side-car or header; `repetition_time`")
    kept, other = bids_events.presentations(run, number, layout)
    _check_length(run, image, layout, interval, pd.concat([kept, other]))
    shift = timeseries.default_shift(interval) if layout.shift is None else layout.shift
    onset, duration = kept["onset"].to_numpy(), kept["duration"].to_numpy()
    needed = options["n_volumes"] is None or options["estimator"] == "glm"
    if needed and not np.isfinite(duration).all():
        raise DataError(f"{run.events}: presentations without a duration; see `n_volumes`")
    first, count = timeseries.windows(
        onset, duration, interval, layout.discarded, shift, options["n_volumes"]
    )
    whole = (first >= 0) & (first + count <= image.n_volumes) & (count > 0)
    if not whole.all() and options["incomplete"] == "error":
        worst = int(np.flatnonzero(~whole)[0])
        raise DataError(
            f"{run.bold}: {np.count_nonzero(~whole)} of {len(whole)} blocks are not wholly in its "
            f"{image.n_volumes} volumes, first the one at {onset[worst]:g} s (volumes "
            f"{first[worst]} to {first[worst] + count[worst] - 1}, with discarded="
            f"{layout.discarded}, shift={shift}); mend these, or incomplete='drop'"
        )
    if not whole.any():
        return np.empty((0, len(voxels)), np.float32), kept[whole].drop(columns="duration")
    series = image.read(voxels)
    if options["estimator"] == "glm":
        betas = timeseries.glm_betas(
            timeseries.normalise(series, options["normalise"]),
            onset,
            duration,
            interval,
            discarded=layout.discarded,
            nuisance=bids_events.nuisance(other, layout),
            hrf_model=options["hrf_model"],
            high_pass=options["high_pass"],
            where=str(run.bold),
        )
        pattern = betas[whole]
    else:
        series = timeseries.detrend(series) if options["detrend"] else series
        series = timeseries.normalise(series, options["normalise"])
        pattern = timeseries.block_average(series, first[whole], count[whole])
    pattern = pattern.reshape(np.count_nonzero(whole), len(voxels)).astype(np.float32)
    return pattern, kept[whole].drop(columns="duration")


def _check_length(
    run: Run, image: Image, layout: Layout, interval: float, events: pd.DataFrame
) -> None:
    """Where the events cover the whole scan, the number of volumes says what was discarded."""
    if not layout.complete_events:
        return
    seconds = float((events["onset"] + events["duration"]).max())
    scanned = round(seconds / interval) if np.isfinite(seconds) else -1
    if image.n_volumes != scanned - layout.discarded:
        raise DataError(
            f"{run.bold} has {image.n_volumes} volumes; {scanned} were scanned, of which "
            f"{layout.discarded} should have been discarded (discarded={layout.discarded}, "
            f"expected {scanned - image.n_volumes} for this file)"
        )
