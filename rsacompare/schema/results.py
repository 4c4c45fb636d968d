"""What compare and infer give back, and the three tidy tables as views of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema import checks, labels, sensitivity, store

SCORE_COLUMNS = (
    "metric",
    "network",
    "layer",
    "layer_index",
    "depth",
    "roi",
    "subject",
    "score",
    "ceiling_low",
    "ceiling_high",
    "n_targets",
)
SUMMARY_COLUMNS = (
    "metric",
    "network",
    "layer",
    "roi",
    "score",
    "ci_low",
    "ci_high",
    "p_null",
    "p_null_fwer",
    "ceiling_low",
    "ceiling_high",
)
CONTRAST_COLUMNS = (
    "metric",
    "roi",
    "pairing",
    "network_a",
    "layer_a",
    "network_b",
    "layer_b",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_fwer",
    "p_equivalence",
    "verdict",
)
SUMMARY_EXTRAS = ("p_null_step", "p_null_bh", "p_null_by", "fraction")
CONTRAST_EXTRAS = (  # kept beside these in results.nc; NaN or "" where there is none
    "se",
    "dof",
    "bound",
    "p_beyond",
    "p_bh",
    "p_by",
    "p_sign_flip",
    "bf10",
    "note",
)
EXTRA_KINDS = ("rdm", "embedding", "matrix", "map", "table", "intervals", "curves")


class Cell(NamedTuple):
    """The smallest thing that is scored; `layer` is the flat label `network/layer`."""

    metric: str
    layer: str
    roi: str
    subject: str


@dataclass
class Comparison:
    """Scores and evidence of every cell.

    Attributes
    ----------
    scores : Dataset
        `score(metric, subject, roi, layer)` and `n_targets`, NaN where there is no such cell;
        coords `network`, `layer_name`, `layer_index`, `depth` on `layer`. Attributes: `meaning`
        (JSON, per metric), `provenance`, `not_applicable`, `simulated`.
    evidence : Mapping[Cell, Evidence]
        One per cell, in memory or read lazily from the store.
    extras : list of dict
        See :func:`add_extra`.
    """

    scores: xr.Dataset
    evidence: Mapping[Cell, Any]
    extras: list[dict[str, Any]] = field(default_factory=list)

    def cells(self, metric: str | None = None) -> list[Cell]:
        """All cells, of one metric where given, in the order of the scores."""
        return [c for c in self.evidence if metric in (None, c.metric)]


def layer_coords(layers: list[tuple[str, str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Coordinates of the flat `layer` dim from (network, layer, attributes)."""
    return {
        "layer": [f"{network}/{layer}" for network, layer, _ in layers],
        "network": ("layer", [network for network, _, _ in layers]),
        "layer_name": ("layer", [layer for _, layer, _ in layers]),
        "layer_index": ("layer", [int(a["layer_index"]) for _, _, a in layers]),
        "depth": ("layer", [float(a["depth"]) for _, _, a in layers]),
    }


def add_extra(
    result: xr.Dataset,
    *,
    kind: str,
    metric: str,
    title: str,
    caption: str,
    arrays: Mapping[str, xr.DataArray],
    **attrs: Any,
) -> xr.Dataset:
    """Give a result something more to draw: reporting dispatches on the kind alone.

    Parameters
    ----------
    kind : {"rdm", "embedding", "matrix", "map", "table", "intervals", "curves"}
        rdm: `values(item, pair)` with `stimulus_id(stimulus)`, optional `category(stimulus)`.
        embedding: `xy(item, axis)` with `label(item)` and `group(item)`; optional `panel(item)`
        for several arrangements side by side.
        matrix: `values(row, column)` with labelled rows and columns; of items against themselves
        optionally `linkage(merge, link)`, a tree as scipy gives it, and `group(item)`.
        map: `values(voxel)`, `ijk(voxel, axis)`, optional `volumes(volume, voxel)`; affine and
        shape in attrs, and the name of an image `file`; with `shown` 0 it is a file alone.
        table: any number of 1-D arrays of one length, a column each; `columns` in attrs: what
        they mean, {role: sentence}. With a name `file` also written as `<file>.csv`; with `shown`
        0 it is a file alone.
        intervals: `label(item)`, `estimate(item)`, `low(item)`, `high(item)`, a row each; optional
        `group(item)` (decides the colour; a network's name takes the network's), `panel(item)`
        (side by side), `inner_low(item)`, `inner_high(item)` (a second, thicker interval),
        `range_low(item)`, `range_high(item)` (a range shaded behind, as that of equivalence),
        `outcome(item)` (a word at the end of the row; a network's name takes its colour).
        Attributes: `axis`, its label with unit, and optionally `reference`, where a line is drawn,
        `own_scales` 1 for a scale per panel, and what the legend says: `interval_label`,
        `inner_label`, `range_label`.
        curves: `x(point)`, `y(point)`, `curve(point)` (its name; a network's takes its colour);
        optional `low(point)`, `high(point)` (a band), `outer_low(point)`, `outer_high(point)` (a
        wider one, as a simultaneous one), `panel(point)`. Attributes: `x_axis`, `y_axis`, and
        optionally `reference` (a horizontal line), `band_label` and `outer_label` (what the bands
        are), `x_labels` (names of x = 0, 1, …: markers with whiskers take the place of bands).
    metric : str
        The page it belongs to; "" for the index.
    title, caption : str
    arrays : {role: DataArray}

    Returns
    -------
    Dataset
        With variables `extra<n>.<role>`; their dims are prefixed likewise.
    """
    if kind not in EXTRA_KINDS:
        raise DataError(f"extra of kind '{kind}'; there are {', '.join(EXTRA_KINDS)}")
    listed = json.loads(result.attrs.get("extras", "[]"))
    prefix = f"extra{len(listed)}"
    fresh = {}
    for role, array in arrays.items():
        values = np.asarray(array.values)
        values = store.as_text(values) if values.dtype.kind in "OT" else values
        fresh[f"{prefix}.{role}"] = ([f"{prefix}.{d}" for d in array.dims], values)
    result = result.assign(fresh)
    listed.append(
        {"kind": kind, "metric": metric, "title": title, "caption": caption, "prefix": prefix}
        | {"roles": list(arrays)}
        | labels.clean_attrs(attrs)
    )
    result.attrs["extras"] = json.dumps(listed)
    return result


def iter_extras(
    result: xr.Dataset, metric: str | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """(description, {role: values}) of each extra, of one metric's page where given."""
    for extra in json.loads(result.attrs.get("extras", "[]")):
        if metric is None or extra["metric"] == metric:
            prefix = extra["prefix"]
            yield extra, {role: result[f"{prefix}.{role}"].values for role in extra["roles"]}


def meanings(data: xr.Dataset) -> dict[str, dict[str, Any]]:
    """What each metric's number means (see `metrics.evidence.Meaning`), as plain dicts."""
    return json.loads(data.attrs["meaning"])


def tables(result: xr.Dataset) -> dict[str, pd.DataFrame]:
    """The three tidy tables of a result.

    Returns
    -------
    dict
        `scores`, `summary`, `contrasts`, with the columns of the CSV files. No rows for cells
        that do not exist. Of a check or a sensitivity analysis: its own
        tables, see `schema.checks.tables` and `schema.sensitivity.tables`.
    """
    require_result(result, "tables")
    if checks.is_check(result):
        return checks.tables(result)
    if sensitivity.is_sensitivity(result):
        return sensitivity.tables(result)
    scores = _long(
        result[["score", "ceiling_low", "ceiling_high", "n_targets"]],
        ("metric", "layer", "roi", "subject"),
    )
    scores = scores[scores["n_targets"] > 0].astype({"n_targets": int})
    summary = _long(
        xr.Dataset(
            {
                "score": result["mean_score"],
                "ci_low": result["ci"].sel(ci_bound="lower", drop=True),
                "ci_high": result["ci"].sel(ci_bound="upper", drop=True),
                "p_null": result["p_null"],
                "p_null_fwer": result["p_null_fwer"],
                "ceiling_low": result["group_ceiling_low"],
                "ceiling_high": result["group_ceiling_high"],
                "n_cells": result["n_targets"].notnull().sum("subject"),
            }
        ),
        ("metric", "layer", "roi"),
    )
    summary = summary[summary["n_cells"] > 0]
    names = {c: f"contrast_{c}" for c in CONTRAST_COLUMNS}
    contrasts = pd.DataFrame({c: result[v].values for c, v in names.items()})
    return {
        "scores": scores[list(SCORE_COLUMNS)].reset_index(drop=True),
        "summary": summary[list(SUMMARY_COLUMNS)].reset_index(drop=True),
        "contrasts": contrasts[list(CONTRAST_COLUMNS)],
    }


def _long(data: xr.Dataset, order: tuple[str, ...]) -> pd.DataFrame:
    """A labelled cube as rows in the order of its dims, `layer` renamed to the layer's name."""
    frame = data.to_dataframe(dim_order=list(order)).reset_index()
    return frame.drop(columns="layer").rename(columns={"layer_name": "layer"})


def write_tables(result: xr.Dataset, folder: str | Path) -> list[Path]:
    """Write the CSV files into `folder`: the three tables, what stands beside them, extras."""
    every = tables(result) | checks_beside(result) | extra_tables(result)
    return store.write_tables(every, folder)


def checks_beside(result: xr.Dataset) -> dict[str, pd.DataFrame]:
    """What results hold of each cell and contrast beside the columns of the three tables.

    Returns
    -------
    dict
        `summary_more` (p by step-down and false discovery rates, share of the ceiling) and
        `contrasts_more` (standard error, own null, sign flips, Bayes factor, …), rows as in
        `summary` and `contrasts`.
    """
    held = [name for name in SUMMARY_EXTRAS if name in result]
    cells = result[["mean_score", *held]].assign(
        {f"fraction_{end}": result["fraction_ci"].sel(ci_bound=bound, drop=True)
         for end, bound in (("low", "lower"), ("high", "upper")) if "fraction_ci" in result}
    )  # fmt: skip
    summary = _long(cells, ("metric", "layer", "roi"))
    summary = summary[summary["mean_score"].notna()].reset_index(drop=True)
    names = ["metric", "network", "layer", "roi"]
    rest = [c for c in summary if str(c) in SUMMARY_EXTRAS or str(c).startswith("fraction")]
    keys = ("metric", "roi", "pairing", "network_a", "layer_a", "network_b", "layer_b")
    columns = [c for c in (*keys, *CONTRAST_EXTRAS) if f"contrast_{c}" in result]
    contrasts = pd.DataFrame({c: result[f"contrast_{c}"].values for c in columns})
    return {"summary_more": summary[names + rest], "contrasts_more": contrasts}


def extra_tables(result: xr.Dataset) -> dict[str, pd.DataFrame]:
    """{file: DataFrame} of the tables among the extras that have a `file`."""
    return {
        str(extra["file"]): pd.DataFrame(roles)
        for extra, roles in iter_extras(result)
        if extra["kind"] == "table" and extra.get("file")
    }


def require_result(data: object, what: str) -> None:
    """Raise ProtocolError where `data` is no Dataset: most often a step was left out."""
    if not isinstance(data, xr.Dataset):
        raise ProtocolError(
            f"{what} takes what rsacompare.infer, check or sensitivity gives, "
            f"not a {type(data).__name__}"
        )


def load_result(path: str | Path) -> xr.Dataset:
    """A stored result: a `results.nc`, or the folder that holds it.

    Raises
    ------
    DataError
        When there is none, or the file is broken or something else.
    """
    file = Path(path)
    file = file / "results.nc" if file.is_dir() else file
    result = store.read_netcdf(file).to_dataset()
    if "mean_score" not in result or "meaning" not in result.attrs:
        raise DataError(f"{file} holds no result of rsacompare (no 'mean_score')")
    return result
