"""A stored check to its page: `index.html` with what is in the data before anything is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.reporting import check_figures, check_power_figures, check_power_text, pages
from rsacompare.reporting.numbers import MISSING, counted, number
from rsacompare.schema import checks
from rsacompare.schema.checks import LEVELS, Finding, load_check

MOST_UNMATCHED = 300  # labels shown on the page; the table beside it holds all
FILES = (
    "check.nc", "check.csv", "check_summary.csv", "check_stimuli.csv", "check_overlaps.csv",
    "check_layers.csv", "check_labels.csv", "check_unmatched.csv", "check_findings.csv",
    "check_power.csv", "check_forecast.csv",
)  # fmt: skip


def check_report(
    check: xr.Dataset | str | Path, out: str | Path, *, files_in: str | Path | None = None
) -> Path:
    """Write the page of a check.

    Parameters
    ----------
    check : Dataset or path
        What `rsacompare.check` gives, a `check.nc`, or the folder that holds one.
    out : path
        Folder for `index.html` and `figures/`. Tables and `check.nc` are linked to where
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
        When the check cannot be read or the folder not be written.
    """
    data = check if isinstance(check, xr.Dataset) else load_check(check)
    folder = Path(out)
    tables = checks.tables(data)
    found = checks.findings(data)
    return pages.write_page(
        "check.html.j2",
        data,
        folder,
        FILES,
        files_in,
        lambda _: check_figures.INK,
        verdict=verdict(found),
        findings=found,
        drawings=[pages.place_figure(d, folder, "") for d in check_figures.drawings(data)],
        data=json.loads(data.attrs.get("data", "[]")),
        power=power_context(data, folder),
        forecast={
            "sentence": check_power_text.forecast_sentence(data),
            "table": check_power_text.forecast_table(data),
        },
        summary=summary_table(data),
        rois=_frame(tables["rois"].dropna(axis=1, how="all")),
        stimuli=stimuli_lines(data),
        networks=network_lines(data),
        layers=_frame(tables["layers"]),
        unmatched=_frame(tables["unmatched"].head(MOST_UNMATCHED)),
        n_unmatched=len(tables["unmatched"]),
    )


def power_context(check: xr.Dataset, folder: Path) -> dict[str, Any]:
    """What the page shows of power; empty where a check has none."""
    drawn = [check_power_figures.smallest(check), check_power_figures.growth(check)]
    frame = check_power_figures.power_rows(check)
    base = frame[frame["varied"] == ""]
    columns = ["metric", "roi", "n_subjects", "n_stimuli", "n_repetitions", "smallest",
               "smallest_holm", "ceiling", "share", "se", "dof"]  # fmt: skip
    return {
        "there": "power" in check.attrs,
        "sentences": check_power_text.power_sentences(check),
        "drawings": [pages.place_figure(d, folder, "") for d in drawn if d is not None],
        "table": _frame(base[columns]),
        "assumptions": check_power_text.power_assumptions(check),
    }


def verdict(found: list[Finding]) -> str:
    """One sentence: can these data be used?"""
    n = {level: sum(f.level == level for f in found) for level in LEVELS}
    rest = [counted(n[level], level) for level in ("warning", "note") if n[level]]
    beside = f" ({' and '.join(rest)})" if rest else ""
    if n["error"]:
        return f"{counted(n['error'], 'error')} to mend before a run{beside}."
    if any(finding.level == "warning" for finding in found):
        return f"No errors, but read the warnings before a run{beside}."
    return f"Nothing stands in the way of a run{beside}."


def summary_table(check: xr.Dataset) -> dict[str, Any]:
    """A line per ROI; only the columns that these data have."""
    frame = checks.tables(check)["summary"]
    columns: dict[str, list[str]] = {"subjects": [f"{n}" for n in frame["n_subjects"]]}
    if frame["n_voxels_max"].notna().any():
        columns["voxels"] = [
            MISSING if not np.isfinite(low) else f"{low:,.0f}"
            if low == high else f"{low:,.0f}–{high:,.0f}"
            for low, high in zip(frame["n_voxels_min"], frame["n_voxels_max"], strict=True)
        ]  # fmt: skip
        for name in ("missing", "constant"):
            columns[name] = [f"{n:.0f}" if np.isfinite(n) else MISSING for n in frame[f"n_{name}"]]
    heads = {
        "split_half": "split-half",
        "voxel_ceiling": "ceiling per voxel",
        "session_reliability": "session to session",
    }
    for name, head in heads.items():
        if frame[name].notna().any():
            columns[head] = [
                _spread(mean, sd) for mean, sd in zip(frame[name], frame[f"{name}_sd"], strict=True)
            ]
    if frame["rsa_ceiling_high"].notna().any():
        columns["RSA ceiling"] = [
            f"{number(low)} to {number(high)}"
            for low, high in zip(frame["rsa_ceiling_low"], frame["rsa_ceiling_high"], strict=True)
        ]
    return {
        "columns": ["ROI", *columns],
        "rows": list(zip(frame["roi"].astype(str), *columns.values(), strict=True)),
    }


def _spread(mean: float, sd: float) -> str:
    return f"{number(mean)} ± {number(sd)}" if np.isfinite(sd) else number(mean)


def stimuli_lines(check: xr.Dataset) -> dict[str, Any]:
    """A line per data set and split, subjects of equal numbers taken together."""
    frame = checks.tables(check)["stimuli"]
    owner = dict(zip(check["subject"].values, check["dataset"].values, strict=True))
    kind = dict(zip(check["subject"].values, check["kind"].values, strict=True))
    groups: dict[tuple[Any, ...], list[str]] = {}
    for subject, split, *numbers in frame.itertuples(index=False):
        stimuli, presentations, *times = map(float, numbers)
        said = ", ".join(f"{t:g}" for t in (times if times[0] < times[2] else times[:1]))
        unit = "session" if kind[subject] == "rdms" else "repetition"
        unit += "s" if said != "1" else ""
        key = (str(owner[subject]), str(split), stimuli, presentations, said, unit)
        groups.setdefault(key, []).append(str(subject))
    rows = []
    for (dataset, split, stimuli, presentations, said, unit), subjects in groups.items():
        who = subjects[0] if len(subjects) == 1 else f"{len(subjects)} subjects"
        rows.append(
            (f"{dataset}, {who}" if dataset and len(subjects) > 1 else who, split,
             f"{stimuli:,.0f}", f"{presentations:,.0f}", f"{said} {unit}")
        )  # fmt: skip
    columns = ["subjects", "split", "stimuli", "presentations", "each (min, median, max)"]
    return {"columns": columns, "rows": rows}


def network_lines(check: xr.Dataset) -> dict[str, Any]:
    """A line per network: layers, units, what its values look like, and whether labels match."""
    rows = []
    for network in check["network_name"].values.astype(str):
        own = check.isel(layer=check["network"].values == network)
        units = own["n_units"].values
        lost = check["n_not_shown"].sel(network_name=network).values
        train = check["n_train_not_shown"].sel(network_name=network).values
        negative = own["share_negative"].values
        known = np.isfinite(units).any()
        bad = int(np.nansum(lost > 0))
        said = "all scored stimuli"
        if bad:
            said = f"{np.nanmax(lost):.0f} missing ({counted(bad, 'subject')})"
        if np.nanmax(train, initial=0) > 0:
            said += f"; {np.nanmax(train):.0f} training stimuli missing"
        rows.append(
            (
                network,
                str(len(units)),
                _range(units) if known else "RDMs only",
                f"{np.nansum(own['n_constant_units'].values):,.0f}" if known else MISSING,
                f"{np.nansum(negative > 0):.0f} of {len(units)}" if known else MISSING,
                _range(own["n_shown"].values),
                said,
            )
        )
    columns = ["network", "layers", "units a layer", "constant units",
               "layers with negative values", "stimuli", "labels match"]  # fmt: skip
    return {"columns": columns, "rows": rows}


def _range(values: np.ndarray) -> str:
    low, high = np.nanmin(values), np.nanmax(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f}–{high:,.0f}"


def _frame(frame: pd.DataFrame) -> dict[str, Any]:
    """A table as text: whole numbers without decimals."""
    columns = {}
    for name in frame:
        values = frame[name]
        if values.dtype.kind != "f":
            columns[name] = [str(v) for v in values]
        elif (values.dropna() % 1 == 0).all():
            columns[name] = [MISSING if np.isnan(v) else f"{v:,.0f}" for v in values]
        else:
            columns[name] = [number(v) for v in values]
    return {
        "columns": [str(c).replace("_", " ") for c in columns],
        "rows": list(zip(*columns.values(), strict=True)),
    }
