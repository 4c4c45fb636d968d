"""A sensitivity analysis in sentences: does the sign survive, and what flips it?"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.reporting.numbers import counted, interval, listing, number
from rsacompare.schema import sensitivity
from rsacompare.schema.sensitivity import CROSSED, REFERENCE

OVER = {"mean": "averaged over layers", "depth": "over the common range of relative depth"}


def answer(data: xr.Dataset) -> list[str]:
    """One sentence per metric: in how many specifications the sign survives, and where it flips.

    Returns
    -------
    list of str
    """
    tables = sensitivity.tables(data)
    summary, rows = tables["summary"], tables["specifications"]
    a, b = json.loads(data.attrs["contrast"])
    said = []
    for metric, own in summary.groupby("metric", sort=False):
        scored, same = int(own["n_scored"].sum()), int(own["n_same_sign"].sum())
        text = f"{metric}, {a} − {b}: the sign of the difference survives in {same} of {scored} "
        text += "specifications beside the study's own"
        if len(own) > 1:
            text += f" ({counted(len(own), 'ROI')})"
        if not scored:
            text = f"{metric}, {a} − {b}: no other specification could be scored"
        flipping = own[own["n_same_sign"] < own["n_scored"]]
        if len(flipping):
            here = rows[(rows["metric"] == metric) & (rows["roi"].isin(flipping["roi"]))]
            where = listing(flipping["roi"].tolist()) if len(own) > 1 else ""
            text += f"; it flips {f'in {where} ' if where else ''}{flips(here)}"
            opposite = int(own["n_significant_opposite"].sum())
            text += (
                f", in {opposite} of these with an interval that excludes 0"
                if opposite
                else ", never with an interval that excludes 0"
            )
        elif scored:
            text += ": nothing that was varied flips it"
        said.append(f"{text}.")
    return said


def flips(rows: pd.DataFrame) -> str:
    """What the specifications of the opposite sign have in common, and how many of each there are.

    Examples
    --------
    >>> frame = pd.DataFrame({"changed": ["units", "units", "subjects"]})
    >>> frame["subjects"], frame["units"] = ["", "", "without s1"], ["100 units", "100 units", ""]
    >>> flips(frame.assign(same_sign=pd.array([True, False, False], dtype="boolean")))
    'with 100 units (1 of 2), without s1'
    """
    found = []
    for changed, own in rows[rows["changed"] != REFERENCE].groupby("changed", sort=False):
        other = own["same_sign"].eq(False).fillna(False)
        if not other.any():
            continue
        if changed == CROSSED:
            found.append(f"with combinations of choices ({int(other.sum())} of {len(own)})")
            continue
        for level, part in own.groupby(str(changed), sort=False):
            n = int(other[part.index].sum())
            if n:
                with_ = "" if str(level).startswith("without ") else "with "
                share = f" ({n} of {len(part)})" if len(part) > 1 else ""
                found.append(f"{with_}{level}{share}")
    return ", ".join(found)


def sentence(data: xr.Dataset, row: pd.Series, rows: pd.DataFrame) -> str:
    """The answer of one metric and ROI, all numbers said.

    Parameters
    ----------
    data : Dataset
    row : of the table `summary`
    rows : of the table `specifications`, of this metric and ROI
    """
    options = json.loads(data.attrs["options"])
    n = int(row["n_scored"])
    text = (
        f"{row['roi']}: {number(row['difference'], signed=True)} "
        f"{interval(row['ci_low'], row['ci_high'])} in the study. "
    )
    if not np.isfinite(row["difference"]):
        return f"{row['roi']}: the study itself has no difference to compare with."
    if not n:
        return text + "No other specification could be scored."
    text += (
        f"The sign survives in {int(row['n_same_sign'])} of {n} other specifications "
        f"({number(row['smallest'], signed=True)} to {number(row['largest'], signed=True)})"
    )
    flipped = flips(rows)
    text += f"; it flips {flipped}. " if flipped else ". "
    same, opposite = int(row["n_significant"]), int(row["n_significant_opposite"])
    percent = f"{100 * options['confidence']:g} %"
    text += f"The {percent} interval excludes 0 in {same + opposite} of {n}"
    text += f", in {opposite} of these with the opposite sign. " if opposite else ". "
    if np.isfinite(row["sd_units"]):
        drawn = sensitivity.repeated_units(rows)
        text += (
            f"Over {len(drawn)} draws of units ({drawn['units'].iloc[0]}) the difference has a "
            f"standard deviation of {number(row['sd_units'])}, beside a standard error of "
            f"{number(row['se_reference'])} in the study."
        )
    failed = int(row["n_specifications"]) - n
    if failed:
        text += f" {counted(failed, 'specification')} could not be scored; the table says why."
    return text.strip()


def varied(data: xr.Dataset) -> list[tuple[str, str]]:
    """(choice, what was varied) for the page."""
    options: dict[str, Any] = json.loads(data.attrs["options"])
    frame = sensitivity.tables(data)["specifications"]
    sets = json.loads(data.attrs["leave_out"])
    found = []
    for choice in sensitivity.CHOICES:
        own = frame[frame["changed"] == choice]
        if not len(own):
            continue
        if choice == "stimuli":
            said = "; ".join(f"without {name} ({len(ids):,})" for name, ids in sets.items())
        elif choice == "subjects":
            said = f"each of {own[choice].nunique()} left out in turn"
        else:
            draws = own.groupby(choice, sort=False)[f"{choice}_draw"].nunique()
            said = "; ".join(f"{level}: {counted(k, 'draw')}" for level, k in draws.items())
        found.append((choice, said))
    if options.get("crossed"):
        n = frame.loc[frame["changed"] == CROSSED].drop_duplicates(
            ["units", "units_draw", "voxels", "voxels_draw", "stimuli", "subjects"]
        )
        found.append(("crossed", f"{counted(len(n), 'combination')} of those that need no new fit"))
    return found
