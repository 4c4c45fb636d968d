"""What a check's power and forecast say, in sentences and small tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.reporting.check_power_figures import power_rows
from rsacompare.reporting.numbers import counted, listing, number
from rsacompare.schema import checks


def power_sentences(check: xr.Dataset) -> list[str]:
    """One sentence per metric: the ROI where most could be seen, and what more data would bring."""
    rows = power_rows(check)
    told = []
    for metric in dict.fromkeys(rows["metric"]):
        own = rows[rows["metric"] == metric]
        base = own[own["varied"] == ""]
        known = base[np.isfinite(base["smallest"])]
        if not len(known):
            continue
        best = known.loc[known["smallest"].idxmin()]
        sentence = (
            f"With {counted(int(best['n_subjects']), 'subject')} and "
            f"{int(best['n_stimuli'])} scored stimuli, {metric} in {best['roi']} could see a "
            f"difference of {_size(best)} in 8 of 10 studies"
        )
        more = [_more(own[own["roi"] == best["roi"]], v) for v in ("subjects", "stimuli")]
        more = [m for m in more if m]
        if more:
            sentence += f"; with {'; with '.join(more)}"
        told.append(sentence + ".")
        if len(known) > 1:
            worst = known.loc[known["smallest"].idxmax()]
            told[-1] += f" Least is seen in {worst['roi']}: {_size(worst)}."
    return told


def _size(row: pd.Series) -> str:
    share = f" ({100 * row['share']:.0f} % of the ceiling)" if np.isfinite(row["share"]) else ""
    beyond = ", more than any network could reach" if row["share"] > 1 else ""
    return f"{number(row['smallest'])}{share}{beyond}"


def _more(own: pd.DataFrame, varied: str) -> str:
    rows = own[(own["varied"] == varied) & (own["factor"].round(6) == 2)]
    if not len(rows):
        return ""
    row = rows.iloc[0]
    return f"{row[f'n_{varied}']:.0f} {varied}, {number(row['smallest'])}"


def power_assumptions(check: xr.Dataset) -> list[str]:
    """What the simulated studies were like."""
    about = checks.about(check, "power")
    if not about:
        return []
    a, b = (f"{c:.0%}" for c in about["closeness"])
    known = f"{counted(about['n_layers'], 'layer')} each, whose RDMs correlate by " + number(
        about["layer_correlation"]
    )
    layers = known if about["layers_known"] and about["n_layers"] > 1 else "one layer each"
    told = [
        f"Each design was simulated {about['n_studies']} times with its numbers of subjects and "
        "stimuli, the voxels, the reliability and the agreement between subjects of each ROI (set "
        "so that the split-half reliability and, as near as it allows, the lower RSA ceiling are "
        "those measured), and "
        f"{about['n_studies_repetitions']} times with half and twice the repetitions. Every study "
        f"was compared and tested as a run would do it, with {about['n_draws']} bootstrap draws.",
        f"The two networks of a simulated study have {a} and {b} of their variance in common with "
        f"the brains, and as much of the brains' variance; {layers}, {about['n_units']} units a "
        "layer. Networks that are less alike, or further from the brains, may need more or less.",
        "Signal and noise are Gaussian, voxels equally reliable and their noise independent; at "
        f"most {about['most_voxels']} voxels of an ROI are simulated, with as many fewer training "
        "stimuli.",
        "The smallest difference is that of a noncentral t distribution with the test's standard "
        "error and degrees of freedom. With other numbers of subjects and stimuli the standard "
        "error follows from the components of variance of subjects, stimuli, units and their "
        "interactions; training stimuli stay as they are.",
    ]
    if about["carried_over"]:
        told.append(f"Carried over by components of variance: {listing(about['carried_over'])}.")
    return told


def forecast_table(check: xr.Dataset) -> dict[str, Any]:
    """A line per stage of a run."""
    frame = checks.tables(check).get("forecast", pd.DataFrame())
    rows = [
        (
            str(row["stage"]),
            duration(float(row["seconds"])),
            _megabytes(float(row["megabytes"])),
            f"{float(row['count']):,.0f}" if row["count"] else "–",
            str(row["note"]),
        )
        for _, row in frame.iterrows()
    ]
    return {"columns": ["stage", "time", "memory", "number", "how it is known"], "rows": rows}


def forecast_sentence(check: xr.Dataset) -> str:
    """How long a run would take, and how much memory."""
    about = checks.about(check, "forecast")
    if "seconds" not in about:
        return str(about.get("why", ""))
    least = "" if about["complete"] else "at least "
    return (
        f"A run with {counted(about['n_jobs'], 'job')}, {about['n_bootstrap']:,} bootstrap draws "
        f"and {about['n_permutations']:,} permutations would take {least}about "
        f"{duration(about['seconds'])} on free cores of this machine and about "
        f"{_megabytes(about['megabytes'])} of memory."
    )


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Examples
    --------
    >>> duration(0.3), duration(42.3), duration(200), duration(7300)
    ('under 1 s', '42 s', '3.3 min', '2.0 h')
    """
    if not np.isfinite(seconds):
        return "–"
    if seconds < 1:
        return "under 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _megabytes(value: float) -> str:
    if not np.isfinite(value) or value <= 0:
        return "–"
    return f"{value:,.0f} MB" if value < 2000 else f"{value / 1024:.1f} GB"
