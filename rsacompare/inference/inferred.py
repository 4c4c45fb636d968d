"""What one family's inference found, for all that is computed from it beside scores and rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.inference.contrast import Row
from rsacompare.inference.family import Family
from rsacompare.inference.statistics import Options, Statistics


@dataclass
class Inferred:
    """Everything about the cells of one metric.

    `depth`: (layer,) relative depth; `null`: (permutation, roi, layer); `table`: the rows of
    contrasts.csv in the order of `rows`; `meaning`: of the metric, as a plain dict; `scores`: the
    comparison's Dataset.
    """

    family: Family
    depth: np.ndarray
    rows: list[Row]
    statistics: Statistics
    null: np.ndarray
    options: Options
    table: list[dict[str, Any]]
    meaning: dict[str, Any]
    scores: xr.Dataset


@dataclass
class Beside:
    """What a step adds to the result.

    `cells`: {variable: (roi, layer) or (roi, layer, ci_bound)} in the order of the family;
    `extras`: arguments of `schema.results.add_extra`; `notes`: sentences for the pages.
    """

    cells: dict[str, np.ndarray] = field(default_factory=dict)
    extras: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def file_name(inferred: Inferred, stem: str) -> str:
    """A file's name that no other metric of the study has."""
    metrics = [str(m) for m in inferred.scores["metric"].values]
    safe = [re.sub(r"[^\w.+-]+", "-", m).strip("-.") or "metric" for m in metrics]
    place = metrics.index(inferred.family.metric)
    same = [s.lower() for s in safe[:place]].count(safe[place].lower())
    return f"{stem}_{safe[place]}" + (f"-{same + 1}" if same else "")
