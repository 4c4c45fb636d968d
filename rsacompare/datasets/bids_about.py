"""What the pages say of a BIDS data set: whence it is, and what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rsacompare.datasets import bids_layout
from rsacompare.datasets.bids_layout import Layout, Run
from rsacompare.schema import store


def attributes(
    root: Path,
    layout: Layout,
    tables: Mapping[str, pd.DataFrame],
    runs: Mapping[str, Sequence[Run]],
    mask_files: Mapping[str, Mapping[str, Sequence[Path]]],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """What pages say of the data set."""
    about = bids_layout.description(root)
    attrs: dict[str, Any] = {
        "title": layout.title or str(about.get("Name", root.name)),
        "description": f"BIDS data set {about.get('DatasetDOI', root.name)}. "
        + _sentence(layout, options),
        "citation": layout.citation or _citation(about),
        "licence": str(about.get("License", "not stated")),
        "simulated": False,
        "preprocessing": {
            **options,
            "discarded": layout.discarded,
            "shift": "4 s" if layout.shift is None else layout.shift,
            "drop_repeats": layout.drop_repeats,
        },
        # a file of checksums per subject would be long: its own checksum stands for it
        "inputs": {
            f"{root.name}/{subject} ({len(runs[subject])} runs)": store.digest(
                *(store.file_sha256(f) for run in runs[subject] for f in (run.bold, run.events)),
                *(store.file_sha256(f) for files in mask_files[subject].values() for f in files),
            )
            for subject in runs
        },
    }
    if all("category" in table for table in tables.values()):
        both = pd.concat([t[["stimulus_id", "category"]] for t in tables.values()])
        attrs["categories"] = dict(zip(both["stimulus_id"], both["category"], strict=True))
    return attrs


def _sentence(layout: Layout, options: Mapping[str, Any]) -> str:
    """How patterns came from the time series, for the pages."""
    parts = [f"{layout.discarded} initial volumes discarded"] if layout.discarded else []
    if layout.drop_repeats:
        parts.append("one-back repeats left out")
    glm = options["estimator"] == "glm"
    if options["detrend"] and not glm:
        parts.append("linear trend of each run removed")
    units = {"percent": "percent of the run's mean", "zscore": "z-scored per run"}
    if options["normalise"] in units:
        parts.append(units[options["normalise"]])
    delay = "4 s" if layout.shift is None else f"{layout.shift} volume(s)"
    parts.append(
        f"one GLM beta per presentation ({options['hrf_model']} response function, cosine drifts)"
        if glm
        else f"mean over each block's volumes, {delay} after its onset"
    )
    return f"Patterns: {'; '.join(parts)}."


def _citation(about: Mapping[str, Any]) -> str:
    links = about.get("ReferencesAndLinks") or [about.get("DatasetDOI", "")]
    return "; ".join(map(str, links)) if isinstance(links, list) else str(links)
