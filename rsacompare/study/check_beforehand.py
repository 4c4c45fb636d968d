"""The second half of a check: what this design could see, and what a run would cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.errors import RsacompareError
from rsacompare.inference.workers import Progress
from rsacompare.metrics.evidence import Metric
from rsacompare.metrics.registry import as_metrics
from rsacompare.schema.checks import Finding
from rsacompare.study import check_forecast, check_power
from rsacompare.study.check_brain import Measured
from rsacompare.study.check_designs import designs, networks_of
from rsacompare.study.check_findings import some

USUAL = ("decoding", "rsa", "encoding")
LARGE = 0.5  # share of the ceiling


@dataclass
class Beforehand:
    """Variables, attributes and findings to add to a check."""

    variables: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def beforehand(
    check: xr.Dataset,
    subjects: Sequence[Measured],
    tree: xr.DataTree,
    activations: xr.DataTree | None,
    rsa: Metric,
    metrics: Any,
    inference: Mapping[str, Any],
    *,
    rois: Sequence[str] | None,
    report: Callable[[xr.Dataset], None] | None,
    seed: int,
    n_jobs: int,
    progress: Progress | None,
) -> Beforehand:
    """Power and, where there are networks, a forecast.

    Parameters
    ----------
    check, subjects, tree, activations, rsa
        What was checked.
    metrics : as `compare` takes them, or None
        The usual ones that these data can be used with.
    inference : mapping
        Arguments of `infer`; the numbers of draws concern the forecast only.
    """
    found = Beforehand()
    chosen = _chosen(check, metrics, rsa)
    networks = networks_of(activations)
    exchange = inference.get("exchange") or "auto"
    made = designs(check, subjects, tree, networks, rsa, seed, exchange)
    power = check_power.power(
        made,
        networks,
        chosen,
        n_pairs=_pairs(activations, inference),
        sources=inference.get("sources"),
        seed=seed,
        n_jobs=n_jobs,
        progress=progress,
    )
    found.variables |= check_power.variables(power)
    found.attrs["power"] = power.about
    found.findings += power_findings(pd.DataFrame(power.rows), power.without)
    if activations is not None:
        try:
            cost = check_forecast.forecast(
                activations, tree, chosen, rois=rois, inference=inference, n_jobs=n_jobs,
                seed=seed, write=report, progress=progress,
            )  # fmt: skip
        except (RsacompareError, ValueError, KeyError) as err:
            found.attrs["forecast"] = {"why": f"no forecast: {err}"}
        else:
            found.variables |= check_forecast.variables(cost)
            found.attrs["forecast"] = cost.about
    return found


def _chosen(check: xr.Dataset, metrics: Any, rsa: Metric) -> dict[str, Metric]:
    """The study's metrics, or the usual ones that these data can be used with."""
    if metrics is not None:
        return as_metrics(metrics)
    if "responses" in check["kind"].values:
        return as_metrics(USUAL) | {"rsa": rsa}
    return {"rsa": rsa}


def _pairs(activations: xr.DataTree | None, inference: Mapping[str, Any]) -> int:
    if inference.get("contrast"):
        return len(inference["contrast"])
    n = 2 if activations is None else len(activations.children)
    return max(n * (n - 1) // 2, 1)


def power_findings(rows: pd.DataFrame, without: Sequence[Mapping[str, str]]) -> list[Finding]:
    """Where only large differences could be seen, and where nothing is known."""
    found = []
    for metric in dict.fromkeys(rows["metric"] if len(rows) else ()):
        own = rows[(rows["metric"] == metric) & (rows["varied"] == "")]
        # without a ceiling a difference of more than 1 is still beyond any correlation
        own = own[(own["share"] > LARGE) | (own["ceiling"] <= 0) | (own["smallest"] > 1)]
        if len(own):
            where = [
                f"{r} {s:.0%}" if np.isfinite(s) else f"{r} {d:.2g}"
                for r, s, d in zip(own["roi"], own["share"], own["smallest"], strict=True)
            ]
            beyond = not (own["share"] <= 1).any()
            found.append(
                Finding(
                    "warning",
                    f"{metric}: {some(where)}",
                    "The smallest difference between two networks that this design would see in 8 "
                    "of 10 studies is "
                    + ("beyond the noise ceiling, or all scores." if beyond else
                       "more than half of the noise ceiling (the share is given)."),
                    "Do not read a missing difference as equality; see what more subjects, stimuli "
                    "or repetitions would bring.",
                )
            )  # fmt: skip
    reasons: dict[str, list[str]] = {}
    for entry in without:
        place = ", ".join(x for x in (entry["metric"], entry["roi"]) if x) or "all ROIs"
        reasons.setdefault(entry["why"], []).append(place)
    for why, places in reasons.items():
        sentence = f"No smallest difference is given: {why}"
        found.append(Finding("note", some(places), f"{sentence.rstrip('.')}."))
    return found
