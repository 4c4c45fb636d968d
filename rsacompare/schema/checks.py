"""What `check` gives back: a Dataset of counts and reliabilities, findings, tables as its views.

Dims and variables (NaN where there is nothing to say):

- `subject, roi`: `present` (bool), `n_voxels`, `n_missing` (voxels with NaN or infinite values),
  `n_constant` (voxels of one value only), `split_half` (reliability of the mean over repetitions
  of the scored stimuli: mean over voxels of the Spearman–Brown corrected split-half correlation),
  `split_half_sd` (its standard deviation over voxels), `voxel_ceiling` (mean over voxels of the
  noise ceiling), `session_reliability` (RDMs with sessions: mean agreement of two sessions),
  `rsa_ceiling_low`, `rsa_ceiling_high`.
- `subject, roi, roi_other`: `overlap`, the share of the voxels of `roi` that `roi_other` holds too.
- `subject`: `dataset`, `kind` (`responses` or `rdms`), `n_scored` (stimuli that are scored).
- `subject, split`: `n_stimuli`, `n_presentations`, `repetitions_min`, `_median`, `_max`; the split
  is `all` where the data have none. For RDMs a repetition is a session.
- `subject, split, repetitions`: `n_repeated`, how many stimuli are shown so often.
- `layer` (with the coords of results): `n_units`, `n_constant_units`, `n_missing_units`,
  `n_shown` (stimuli), `share_negative` (of all values), `layer_kind`.
- `subject, network_name`: `n_not_shown` (scored stimuli that the network was not shown),
  `n_train_not_shown`, `n_unused` (stimuli of the network that the subject never saw).
- `unmatched` (a row per label without a partner, subjects of equal stimuli taken together):
  `unmatched_subjects`, `unmatched_network`, `unmatched_split`, `unmatched_stimulus_id`,
  `unmatched_missing_in` (`network` or `brain`).

With `power` also:

- `power` (a row per metric, ROI and design): `power_metric`, `power_roi`, `power_varied` (what
  differs from the design as it is: "", `subjects`, `stimuli`, `repetitions`) by `power_factor`,
  `power_n_subjects`, `power_n_stimuli`, `power_n_repetitions`; `power_smallest`, the smallest true
  difference of two networks (mean over layers) that a two-sided test of .05 sees in 8 of 10
  studies, `power_smallest_holm`, the same with Holm's correction over ROIs and pairs of networks
  when it is the only difference; `power_ceiling`, lower noise ceiling in the simulated studies,
  `power_share` = smallest / ceiling; `power_se`, `power_dof` of the test. Of the design as it is
  simulated: `power_se_simulated` (root of the mean SE² of the tests), `power_error` (its relative
  Monte-Carlo error), `power_sd` (standard deviation of the differences over studies),
  `power_difference` (their mean), `power_reliability` and `power_agreement` of the ROI.
- `forecast` (a row per stage of a run): `forecast_stage`, `forecast_seconds`,
  `forecast_megabytes`, `forecast_count` (cells, draws, pages), `forecast_note`.

Attributes: `rsacompare_kind` = `check`, `title`, `simulated`, and as one JSON string each `data`
(as in results), `findings` (list of {level, where, sentence, advice}), `options`, `networks`,
`provenance`, and with `power` `power` and `forecast` (what was assumed).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.errors import DataError
from rsacompare.schema import store

POWER = (
    "metric", "roi", "varied", "factor", "n_subjects", "n_stimuli", "n_repetitions", "smallest",
    "smallest_holm", "ceiling", "share", "se", "dof", "sd", "se_simulated", "error", "difference",
    "reliability", "agreement",
)  # fmt: skip
FORECAST = ("stage", "seconds", "megabytes", "count", "note")
KIND = "check"
LEVELS = ("error", "warning", "note")
RELIABILITIES = {
    "split_half": "split-half reliability",
    "voxel_ceiling": "noise ceiling per voxel",
    "session_reliability": "session-to-session agreement",
    "rsa_ceiling_low": "RSA noise ceiling, lower",
    "rsa_ceiling_high": "RSA noise ceiling, upper",
}
UNMATCHED = ("subjects", "network", "split", "stimulus_id", "missing_in")


@dataclass(frozen=True)
class Finding:
    """One thing that a reader of a check should know.

    `error`: a run would stop or be wrong; `warning`: a result may mislead, or one kind of metric
    would stop; `note`: good to know.
    """

    level: str
    where: str
    sentence: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level '{self.level}'; there are {', '.join(LEVELS)}")


def findings(check: xr.Dataset) -> list[Finding]:
    """The findings of a check, errors first."""
    return [Finding(**entry) for entry in json.loads(check.attrs["findings"])]


def about(check: xr.Dataset, name: str) -> dict[str, Any]:
    """What was assumed for `power` or `forecast`; empty where a check has none."""
    return json.loads(check.attrs.get(name, "{}"))


def is_check(data: xr.Dataset) -> bool:
    """Whether a Dataset is one of `check`."""
    return data.attrs.get("rsacompare_kind") == KIND


def tables(check: xr.Dataset) -> dict[str, pd.DataFrame]:
    """The tidy tables of a check.

    Returns
    -------
    dict
        `rois` (a row per subject and ROI), `summary` (per ROI, over subjects), `stimuli` (per
        subject and split), `overlaps` (per subject and two ROIs that share voxels), `layers`,
        `labels` (per subject and network), `unmatched`, `findings`, and with `power` `power` and
        `forecast`.
    """
    rois = _rows(
        check,
        ["n_voxels", "n_missing", "n_constant", "split_half_sd", *RELIABILITIES],
        ("subject", "roi"),
    )
    rois = rois[check["present"].values.ravel()]
    rois.insert(0, "dataset", check["dataset"].sel(subject=rois["subject"].values).values)
    stimuli = ["n_stimuli", "n_presentations", *(f"repetitions_{s}" for s in _SPREAD)]
    splits = _rows(check, stimuli, ("subject", "split"))
    overlaps = _rows(check, ["overlap"], ("subject", "roi", "roi_other"))
    overlaps = overlaps[(overlaps["overlap"] > 0) & (overlaps["roi"] != overlaps["roi_other"])]
    layers = check[list(_LAYER)].to_dataframe().reset_index(drop=True)
    shown = ["network", "layer_name", "layer_index", "depth", *_LAYER]
    return {
        "rois": rois.reset_index(drop=True),
        "summary": _summary(rois),
        "stimuli": splits[splits["n_stimuli"] > 0].reset_index(drop=True),
        "overlaps": overlaps.reset_index(drop=True),
        "layers": layers[shown].rename(columns={"layer_name": "layer", "layer_kind": "kind"}),
        "labels": _rows(check, list(_LABELS), ("subject", "network_name")).rename(
            columns={"network_name": "network"}
        ),
        "unmatched": pd.DataFrame({c: check[f"unmatched_{c}"].values for c in UNMATCHED}),
        "findings": pd.DataFrame(
            json.loads(check.attrs["findings"]), columns=["level", "where", "sentence", "advice"]
        ),
    } | {
        name: pd.DataFrame({c: check[f"{name}_{c}"].values for c in columns})
        for name, columns in (("power", POWER), ("forecast", FORECAST))
        if f"{name}_{columns[0]}" in check
    }


_SPREAD = ("min", "median", "max")
_LAYER = (
    "layer_kind", "n_units", "n_constant_units", "n_missing_units", "n_shown", "share_negative"
)  # fmt: skip
_LABELS = ("n_not_shown", "n_train_not_shown", "n_unused")


def _rows(check: xr.Dataset, names: list[str], dims: tuple[str, ...]) -> pd.DataFrame:
    plain = check[names].reset_coords(drop=True)
    return plain.to_dataframe(dim_order=list(dims)).reset_index()[[*dims, *names]]


def _summary(rois: pd.DataFrame) -> pd.DataFrame:
    """A row per ROI: how many subjects and voxels, and each reliability with its spread."""
    spreads = [f"{name}{end}" for name in RELIABILITIES for end in ("", "_sd", "_min", "_max")]
    columns = ["roi", "n_subjects", *(f"n_voxels_{s}" for s in _SPREAD), "n_missing", "n_constant"]
    rows = []
    for roi in dict.fromkeys(rois["roi"]):
        own = rois[rois["roi"] == roi]
        row = {"roi": roi, "n_subjects": len(own)}
        row |= {f"n_voxels_{s}": getattr(own["n_voxels"], s)() for s in _SPREAD}
        row |= {name: own[name].sum(min_count=1) for name in ("n_missing", "n_constant")}
        for name in RELIABILITIES:
            row |= {name: own[name].mean(), f"{name}_sd": own[name].std()}
            row |= {f"{name}_{s}": getattr(own[name], s)() for s in ("min", "max")}
        rows.append(row)
    return pd.DataFrame(rows, columns=[*columns, *spreads])


def write_tables(check: xr.Dataset, folder: str | Path) -> list[Path]:
    """Write each table as `check_<table>.csv`, and the one per subject and ROI as `check.csv`."""
    named = {"check" if k == "rois" else f"check_{k}": v for k, v in tables(check).items()}
    return store.write_tables(named, folder)


def load_check(path: str | Path) -> xr.Dataset:
    """A stored check: a `check.nc`, or the folder that holds it.

    Raises
    ------
    DataError
        When there is none, or the file is broken or something else.
    """
    file = Path(path)
    file = file / "check.nc" if file.is_dir() else file
    check = store.read_netcdf(file).to_dataset()
    if not is_check(check) or "findings" not in check.attrs:
        raise DataError(f"{file} holds no check of rsacompare")
    return check.assign(present=check["present"].astype(np.bool_))
