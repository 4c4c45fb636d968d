"""Mixed model of the scores, network × depth × ROI with subjects at random: descriptive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.inference import mixed_fit
from rsacompare.inference.estimate import estimate
from rsacompare.inference.family import Family, arrange
from rsacompare.inference.inferred import Beside, Inferred, file_name
from rsacompare.inference.mixed_plan import Plan, choose
from rsacompare.inference.statistics import (
    Options,
    Statistics,
    Values,
    bootstrap_family,
    levels_of_all,
)
from rsacompare.kernels import resample
from rsacompare.schema.results import Comparison, iter_extras, meanings

COLUMNS = ("term", "estimate", "ci_low", "ci_high", "wald_low", "wald_high")
AT_MEAN_DEPTH, OVER_DEPTH = "at mean depth", "change from first to last layer"
WALD = (
    "Wald's intervals, from the model alone, take stimuli as fixed and few subjects as many (too "
    "narrow) and the misfit of straight lines over depth as noise (too wide)"
)
MARK = "mixed_model"  # the attribute of its table among the extras


def mixed_model(
    result_or_comparison: xr.Dataset | Comparison,
    metric: str | None = None,
    rois: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    *,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Linear mixed model of the scores: network × depth × ROI, subjects at random. Descriptive.

    Fitted by REML (statsmodels' `MixedLM`) to one score per subject, ROI and layer, with a random
    intercept per subject and, where that fits cleanly, random slopes for the networks.

    Parameters
    ----------
    result_or_comparison : Dataset or Comparison
        From `infer`: its own table, with the intervals of its draws; for other ROIs or networks
        than those of the page, the estimates without these. From `compare`: draws are made here.
    metric : str, optional
        May be left out where there is one.
    rois : sequence of str, optional
        By default ROIs that share no voxels: :func:`rsacompare.schema.overlap.disjoint`, which
        keeps small ones before those that hold them. The same voxel in two rows would count twice.
    networks : sequence of str, optional
        Differences are against the last. By default all that are no baselines, or the first two
        of more than three.
    n_bootstrap, confidence, random_state
        Of the draws for a Comparison.

    Returns
    -------
    DataFrame
        `term`, `estimate`, `ci_low`, `ci_high` (from the bootstrap draws), `wald_low`,
        `wald_high`. `attrs`: `caption`, `notes` (whatever went wrong), `rois`, `networks`.

    Raises
    ------
    ProtocolError
        Unknown names, or data to which the model cannot be fitted, with the reason.

    Notes
    -----
    Coding: see :func:`rsacompare.inference.mixed_fit.design`; a difference of two networks or
    ROIs is averaged over all else, at mean depth.

    Where every subject has every cell, generalised and ordinary least squares are one, whatever
    the variances: the fixed effects are β = L · (group means of the cells), L the pseudo-inverse
    of the design. So each draw of the joint bootstrap gives its β, and `ci` is the interval that
    all of our differences have. Where subjects lack cells that does not hold, and there is none.

    No p: with five subjects Wald's is too liberal. In 400 simulations each, without any difference
    between the networks (5 subjects, 2 ROIs, 2 × 4 layers, 40 stimuli;
    `tests/inference/test_mixed_model.py`), the Wald interval of the difference left out 0 in 13 %
    where stimuli are alike and in 41 % where their chance is shared by all subjects; that of the
    draws in 4 % and 2 %.
    """
    given = result_or_comparison
    if isinstance(given, Comparison):
        data = given.scores
    elif isinstance(given, xr.Dataset) and "mean_score" in given:
        data = given
    else:
        raise ProtocolError(
            "mixed_model takes what rsacompare.infer or rsacompare.compare gives, "
            f"not a {type(given).__name__}"
        )
    known = data["metric"].values.astype(str).tolist()
    if metric is None and len(known) == 1:
        metric = known[0]
    if metric is None or metric not in known:
        raise ProtocolError(plugins.unknown("metric", str(metric), known))
    if isinstance(given, xr.Dataset) and rois is None and networks is None:
        stored = _stored(given, metric)
        if stored is not None:
            return stored
    plan = choose(data, metric, rois, networks)
    if isinstance(plan, str):
        raise ProtocolError(f"no mixed model of {metric}: {plan}")
    if not isinstance(given, Comparison):
        return table(plan, None)
    seed = resample.as_seed(random_state)
    options = Options(n_bootstrap, 1, seed, confidence, 0.1, 1, None)
    better = 1 if meanings(data)[metric]["higher_is_better"] else -1
    family = arrange(given, metric, better)
    return table(plan, Draws(family, bootstrap_family(family, [], options, 1, None), options))


@dataclass(frozen=True)
class Draws:
    """The draws that the intervals come from."""

    family: Family
    statistics: Statistics
    options: Options


def table(plan: Plan, draws: Draws | None) -> pd.DataFrame:
    """The fitted model as a table; raises ProtocolError where it cannot be fitted."""
    scores = plan.scores
    network = scores["network"].values.astype(str)
    made = mixed_fit.design(plan.rois, plan.networks, network.tolist(), plan.depth)
    y = scores.values
    finite = np.isfinite(y)
    subject = np.broadcast_to(np.arange(len(y))[:, None, None], y.shape)[finite]
    x = np.broadcast_to(made.x, (*y.shape, made.x.shape[-1]))[finite]
    few = made.slopes.shape[1] < len(y) - 1  # slopes need more subjects than random effects
    slopes = np.broadcast_to(made.slopes, (*y.shape, made.slopes.shape[1]))[finite]
    try:
        found = mixed_fit.fit(y[finite], x, subject, slopes if few else None)
    except np.linalg.LinAlgError:
        raise ProtocolError(
            f"no mixed model of {plan.metric}: cells are missing, so that its terms cannot be told "
            "apart; choose rois= or networks= that have scores everywhere"
        ) from None
    confidence = 0.95 if draws is None else draws.options.confidence
    half = stats.norm.ppf(0.5 + confidence / 2) * found.se
    low = high = np.full(len(made.terms), np.nan)
    notes = list(plan.notes)
    if not few:
        notes.append("no random slopes of the networks: too few subjects")
    notes += found.trouble
    if not finite.all():
        notes.append(
            f"{(~finite).sum()} of {finite.size} cells have no score: the fixed effects are no "
            "function of the group means, and there are no intervals from the draws"
        )
    elif draws is not None:
        low, high = _intervals(plan, made, draws)
    values = (made.terms, found.coefficients, low, high, found.coefficients - half,
              found.coefficients + half)  # fmt: skip
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    notes = [f"{text[0].upper()}{text[1:]}." for text in notes]
    frame.attrs = {  # plain lists and texts: they become JSON
        "metric": plan.metric, "rois": plan.rois, "networks": plan.networks, "notes": notes,
        "caption": _caption(plan, made, found, finite, confidence, bool(np.isfinite(low).any())),
        "parts": made.parts, "variances": found.variances, "trouble": found.trouble,
    }  # fmt: skip
    return frame


def _intervals(plan: Plan, made: mixed_fit.Design, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Of the fixed effects, each a weighted sum of the group means of the cells."""
    family = draws.family
    at_roi = [family.rois.index(r) for r in plan.rois]
    at_layer = [family.layers.index(str(x)) for x in plan.scores["layer"].values]
    inverse = np.linalg.pinv(made.x.reshape(-1, made.x.shape[-1]))
    function = partial(_effects, inverse, at_roi, at_layer)
    levels = levels_of_all(family, plan.rois, draws.options, at_layer)
    found = estimate(function, draws.statistics, levels, draws.options)
    return found.low, found.high


def _effects(
    inverse: np.ndarray, at_roi: list[int], at_layer: list[int], values: Values
) -> np.ndarray:
    cells = values.mean[..., at_roi, :][..., at_layer]
    return cells.reshape(*cells.shape[:-2], -1) @ inverse.T


def _caption(
    plan: Plan,
    made: mixed_fit.Design,
    found: mixed_fit.Fit,
    finite: np.ndarray,
    confidence: float,
    drawn: bool,
) -> str:
    level = f"{100 * confidence:g}"
    regions = "" if len(plan.rois) == 1 else f" × ROI ({', '.join(plan.rois)})"
    return (
        f"Linear mixed model (REML) of {finite.sum()} scores, one per subject, ROI and layer: "
        f"network × depth{regions}, with a random intercept"
        f"{' and random slopes of the networks' if found.slopes else ''} per subject "
        f"(n = {len(finite)}). A difference is averaged over all other factors, at the mean "
        f"relative depth ({made.centre:.2f}); depth: change from the first layer (0) to the last "
        f"(1), linear. ×: how much one changes with the other. Descriptive: "
        + (
            f"{level} % intervals from the bootstrap draws, one by one and not corrected for their "
            "number. "
            if drawn
            else "no intervals are drawn. "
        )
        + f"{WALD}: they stand in the table alone, and no p is given."
    )


def _stored(result: xr.Dataset, metric: str) -> pd.DataFrame | None:
    """The table that `infer` has left in a result."""
    for extra, roles in iter_extras(result, metric):
        if extra.get(MARK):
            frame = pd.DataFrame({name: roles[name] for name in COLUMNS})
            frame.attrs = json.loads(extra[MARK])
            return frame
    return None


def beside(inferred: Inferred) -> Beside:
    """The model's table and its coefficients as rows; or a note that says why there is none."""
    metric, data = inferred.family.metric, inferred.scores
    pairs = list(dict.fromkeys((r.a, r.b) for r in inferred.rows))
    if not pairs:
        return Beside()
    try:
        contrasted = data.assign_attrs(contrast=json.dumps(pairs))
        plan = choose(contrasted, metric)
        if isinstance(plan, str):
            return Beside(notes=[f"{metric}: no mixed model: {plan}."])
        draws = Draws(inferred.family, inferred.statistics, inferred.options)
        frame = table(plan, draws)
    except ProtocolError as err:
        return Beside(notes=[f"{metric}: {err}."])
    trouble = frame.attrs["trouble"]
    notes = [f"{metric}, mixed model: {'; '.join(trouble)}."] if trouble else []
    caption = " ".join([frame.attrs["caption"], *frame.attrs["notes"]])
    shown: dict[str, Any] = {"metric": metric, "caption": caption}
    extras = [_figure(frame, inferred, shown), _table(frame, inferred, shown)]
    return Beside(extras=extras, notes=notes)


def _table(frame: pd.DataFrame, inferred: Inferred, shown: dict[str, Any]) -> dict[str, Any]:
    return shown | {
        "kind": "table",
        "title": "Mixed model: all terms",
        "caption": "The model of the figure above, with the intervals of both kinds.",
        "arrays": {name: xr.DataArray(frame[name].to_numpy(), dims="term") for name in COLUMNS},
        "columns": {
            "ci_low": "from the bootstrap draws, like all our intervals",
            "wald_low": "from the model alone: not to be relied on, see the figure",
        },
        "file": file_name(inferred, "mixed_model"),
        MARK: dict(frame.attrs),
    }


def _figure(frame: pd.DataFrame, inferred: Inferred, shown: dict[str, Any]) -> dict[str, Any]:
    order = [*dict.fromkeys(n for n, _, _ in frame.attrs["parts"] if n), ""]
    terms = frame.assign(part=frame.attrs["parts"]).iloc[1:]  # the overall mean is no difference
    drawn = terms["ci_low"].notna().any()
    rows = sorted(terms.to_dict("records"), key=lambda row: order.index(row["part"][0]))
    roles = {
        "label": [row["part"][2] or "all ROIs" for row in rows],
        "panel": [OVER_DEPTH if row["part"][1] else AT_MEAN_DEPTH for row in rows],
        "group": [row["part"][0] or "mean of the networks" for row in rows],
        "estimate": [row["estimate"] for row in rows],
        "low": [row["ci_low"] for row in rows],
        "high": [row["ci_high"] for row in rows],
    }
    unit = inferred.meaning.get("unit") or "score"
    level = f"{100 * inferred.options.confidence:g} %"
    return (
        shown
        | {
            "kind": "intervals",
            "title": "Mixed model: network, depth and ROI",
            "arrays": {k: xr.DataArray(np.asarray(v), dims="term") for k, v in roles.items()},
            "axis": f"coefficient, {unit}",
            "reference": 0.0,
            "own_scales": 1,
        }
        | ({"interval_label": f"{level} interval from the draws"} if drawn else {})
    )
