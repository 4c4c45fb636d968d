"""A stored sensitivity analysis to its page: the answer, a specification curve per metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.reporting import pages, style
from rsacompare.reporting import sensitivity_figures as figures
from rsacompare.reporting import sensitivity_text as text
from rsacompare.reporting.numbers import MISSING, interval, number, p_value
from rsacompare.schema import sensitivity
from rsacompare.schema.sensitivity import load_sensitivity

FILES = ("sensitivity.csv", "sensitivity_summary.csv", "sensitivity.nc")


def sensitivity_report(
    data: xr.Dataset | str | Path, out: str | Path, *, files_in: str | Path | None = None
) -> Path:
    """Write the page of a sensitivity analysis.

    Parameters
    ----------
    data : Dataset or path
        What `rsacompare.sensitivity` gives, a `sensitivity.nc`, or the folder that holds one.
    out : path
        Folder for `index.html` and `figures/`. Tables and `sensitivity.nc` are linked to where
        they are there, not written.
    files_in : path, optional
        Where these files lie by the time the page is read, default `out`.

    Returns
    -------
    Path
        Of `index.html`.

    Raises
    ------
    DataError
        When the analysis cannot be read or the folder not be written.
    """
    held = data if isinstance(data, xr.Dataset) else load_sensitivity(data)
    folder = Path(out)
    tables = sensitivity.tables(held)
    a, b = json.loads(held.attrs["contrast"])
    return pages.write_page(
        "sensitivity.html.j2",
        held,
        folder,
        FILES,
        files_in,
        lambda name: style.colour([a, b], name),
        question=str(held.attrs.get("question", "")),
        a=a,
        b=b,
        over=text.OVER[str(held.attrs["pairing"])],
        answer=text.answer(held),
        varied=text.varied(held),
        metrics=[_metric(held, tables, metric, folder) for metric in metrics_of(tables)],
        notes=json.loads(held.attrs.get("notes", "[]")),
        not_applicable=json.loads(held.attrs.get("not_applicable", "[]")),
        sets=json.loads(held.attrs.get("leave_out", "{}")),
        heads=HEADS,
    )


def metrics_of(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Metrics in order."""
    return list(dict.fromkeys(tables["summary"]["metric"]))


def _metric(
    data: xr.Dataset, tables: dict[str, pd.DataFrame], metric: str, folder: Path
) -> dict[str, Any]:
    summary = tables["summary"][tables["summary"]["metric"] == metric]
    rows = tables["specifications"][tables["specifications"]["metric"] == metric]
    drawing = figures.curve(data, metric) if rows["difference"].notna().any() else None
    return {
        "name": metric,
        "label": json.loads(data.attrs["meaning"])[metric]["label"],
        "figure": pages.place_figure(drawing, folder, ""),
        "sentences": [
            text.sentence(data, row, rows[rows["roi"] == row["roi"]])
            for _, row in summary.iterrows()
        ],
        "rows": [_row(row) for _, row in rows.iterrows()],
    }


HEADS = (
    "ROI", "changed", "units", "voxels", "stimuli", "subjects", "difference", "interval", "p",
    "same sign", "note",
)  # fmt: skip


def _row(row: pd.Series) -> list[str]:
    """An entry per head."""

    def level(choice: str) -> str:
        draw = int(row.get(f"{choice}_draw", 0) or 0)
        words = str(row[choice])
        words = MISSING if words == sensitivity.AS_STUDIED else words
        return f"{words}, draw {draw}" if draw else words

    same = row["same_sign"]
    return [
        str(row["roi"]),
        str(row["changed"]),
        *(level(choice) for choice in sensitivity.CHOICES),
        number(row["difference"], signed=True),
        interval(row["ci_low"], row["ci_high"]),
        p_value(row["p"]) if np.isfinite(row["p"]) else MISSING,
        MISSING if pd.isna(same) else "yes" if same else "no",
        str(row["note"]),
    ]
