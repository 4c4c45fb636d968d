"""What `sensitivity` gives back: a Dataset with a row per specification, tables as its views.

A specification is one metric and ROI analysed with one set of choices. One dim, `specification`:

- `metric`, `roi`; `changed`: which choice differs from the study, one of :data:`CHOICES`, or
  `reference` (none), or `crossed` (several).
- per choice (`units`, `voxels`, `stimuli`, `subjects`): its level in words, :data:`AS_STUDIED`
  where it is the study's; `units_draw`, `voxels_draw`: which random draw (0: none).
- `difference`, `ci_low`, `ci_high`, `se`, `p`, `dof`: of a − b, as in contrasts.csv (p is not
  corrected); NaN with a `note` where the specification could not be computed.
- `n_units`, `n_voxels` (medians over layers and over subjects; NaN where only RDMs are known),
  `n_stimuli`, `n_subjects`.

Attributes: `rsacompare_kind` = `sensitivity`, `title`, `question`, `simulated`, `pairing`, and as
one JSON string each `contrast` ([a, b]), `options`, `meaning`, `data`, `networks`, `notes`,
`not_applicable`, `leave_out` ({set: [stimulus ids]}), `provenance`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.errors import DataError
from rsacompare.schema import store

KIND = "sensitivity"
CHOICES = ("units", "voxels", "stimuli", "subjects")
AS_STUDIED = "as in the study"
REFERENCE, CROSSED = "reference", "crossed"
TEXTS = ("metric", "roi", "changed", *CHOICES, "note")
COUNTS = ("units_draw", "voxels_draw")
NUMBERS = (
    "difference", "ci_low", "ci_high", "se", "p", "dof", "n_units", "n_voxels", "n_stimuli",
    "n_subjects",
)  # fmt: skip
COLUMNS = (
    "metric", "roi", "changed", "units", "units_draw", "voxels", "voxels_draw", "stimuli",
    "subjects", "difference", "ci_low", "ci_high", "p", "same_sign", "significant", "se", "dof",
    "n_units", "n_voxels", "n_stimuli", "n_subjects", "note",
)  # fmt: skip


def from_rows(rows: list[dict[str, Any]], attrs: dict[str, Any]) -> xr.Dataset:
    """The Dataset of rows as the module describes them."""
    kinds: dict[str, Any] = dict.fromkeys(TEXTS, str) | dict.fromkeys(COUNTS, np.int64)
    kinds |= dict.fromkeys(NUMBERS, np.float64)
    variables = {
        name: ("specification", np.array([row[name] for row in rows], dtype=kind))
        for name, kind in kinds.items()
    }
    return xr.Dataset(variables, attrs={"rsacompare_kind": KIND} | attrs)


def is_sensitivity(data: xr.Dataset) -> bool:
    """Whether a Dataset is one of `sensitivity`."""
    return data.attrs.get("rsacompare_kind") == KIND


def tables(data: xr.Dataset) -> dict[str, pd.DataFrame]:
    """The tidy tables of a sensitivity analysis.

    Returns
    -------
    dict
        `specifications`: a row each; `same_sign` says whether the difference has the sign of the
        reference (empty for the reference, and where either has no sign), `significant` whether
        its interval excludes 0. `summary`: a row per metric and ROI, the counts over all
        specifications but the reference, `sd_units` over the draws of as many units as in the
        study (else of half) beside `se_reference`.
    """
    frame = pd.DataFrame({name: data[name].values for name in (*TEXTS, *COUNTS, *NUMBERS)})
    alpha = 1 - float(json.loads(data.attrs["options"])["confidence"])
    frame["significant"] = (frame["p"] < alpha).where(frame["p"].notna()).astype("boolean")
    frame["same_sign"] = pd.array([pd.NA] * len(frame), dtype="boolean")
    rows = []
    for (metric, roi), own in frame.groupby(["metric", "roi"], sort=False):
        reference = own[own["changed"] == REFERENCE].iloc[0]
        others = own[own["changed"] != REFERENCE]
        sign = np.sign(reference["difference"])
        known = others[np.isfinite(others["difference"]) & (abs(sign) > 0)]
        same = np.sign(known["difference"]) == sign
        frame.loc[known.index, "same_sign"] = same.to_numpy()
        significant = known["significant"].fillna(False).to_numpy(dtype=bool)
        drawn = repeated_units(others)["difference"].dropna()
        rows.append(
            {
                "metric": metric,
                "roi": roi,
                "difference": reference["difference"],
                "ci_low": reference["ci_low"],
                "ci_high": reference["ci_high"],
                "p": reference["p"],
                "n_specifications": len(others),
                "n_scored": len(known),
                "n_same_sign": int(same.sum()),
                "n_significant": int((significant & same).sum()),
                "n_significant_opposite": int((significant & ~same).sum()),
                "smallest": known["difference"].min(),
                "largest": known["difference"].max(),
                "sd_units": drawn.std(ddof=1) if len(drawn) > 1 else np.nan,
                "se_reference": reference["se"],
            }
        )
    return {"specifications": frame[list(COLUMNS)], "summary": pd.DataFrame(rows)}


def repeated_units(frame: pd.DataFrame) -> pd.DataFrame:
    """The draws of as many units as in the study (else of half): the level of the first draw."""
    drawn = frame[frame["changed"] == "units"]
    return drawn[drawn["units"] == drawn["units"].iloc[0]] if len(drawn) else drawn


def write_tables(data: xr.Dataset, folder: str | Path) -> list[Path]:
    """Write `sensitivity.csv`, a row per specification, and `sensitivity_summary.csv`."""
    made = tables(data)
    named = {"sensitivity": made["specifications"], "sensitivity_summary": made["summary"]}
    return store.write_tables(named, folder)


def load_sensitivity(path: str | Path) -> xr.Dataset:
    """A stored analysis: a `sensitivity.nc`, or the folder that holds it.

    Raises
    ------
    DataError
        When there is none, or the file is broken or something else.
    """
    file = Path(path)
    file = file / "sensitivity.nc" if file.is_dir() else file
    data = store.read_netcdf(file).to_dataset()
    if not is_sensitivity(data) or "difference" not in data:
        raise DataError(f"{file} holds no sensitivity analysis of rsacompare")
    return data
