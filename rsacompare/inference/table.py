"""The rows of contrasts.csv: each difference with its interval, p, equivalence and verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsacompare.inference import bootstrap, contrast
from rsacompare.inference.bootstrap import Sources
from rsacompare.inference.family import Family
from rsacompare.inference.statistics import Options, Statistics, levels_of, standard_error
from rsacompare.schema.results import CONTRAST_COLUMNS


def contrast_table(
    family: Family, rows: list[contrast.Row], statistics: Statistics, options: Options
) -> list[dict[str, Any]]:
    """One dict per row of contrasts.csv, Holm-corrected within each pairing."""
    table = [_contrast_row(family, row, statistics, options) for row in rows]
    alpha = 1 - options.confidence
    for pairing in contrast.PAIRINGS:
        own = [t for t in table if t["pairing"] == pairing]
        for entry, p_fwer in zip(own, contrast.holm(np.array([t["p"] for t in own])), strict=True):
            entry["p_fwer"] = float(p_fwer)
            entry["verdict"] = contrast.verdict(
                entry["difference"], p_fwer, entry["p_equivalence"], family.better, alpha
            )
    return table


def _contrast_row(
    family: Family, row: contrast.Row, statistics: Statistics, options: Options
) -> dict[str, Any]:
    r = family.rois.index(row.roi)
    levels = levels_of(family, row.roi, options, row.layers)
    notes = []
    layer_a, layer_b = row.layer_a, row.layer_b
    if row.pairing == "best":
        a, b = (statistics.best_networks.index(n) for n in (row.a, row.b))
        difference = float(statistics.best[r, a] - statistics.best[r, b])
        draws = {s: d[:, r, a] - d[:, r, b] for s, d in statistics.best_draws.items()}
        (layer_a, often_a), (layer_b, often_b) = (
            _most_chosen(family, statistics.chosen[r], n) for n in (row.a, row.b)
        )
        notes.append(f"best layer chosen in {often_a:.0%} ({row.a}) and {often_b:.0%} ({row.b})")
    else:
        used = np.flatnonzero(row.weights)
        vector = row.weights[used]
        difference = float(statistics.mean[r, used] @ vector)
        draws = {s: d[:, r][:, used] @ vector for s, d in statistics.mean_draws.items()}
    se = float(standard_error(draws, levels))
    # equal networks: what is left of sums of equal numbers in another order is no difference
    rounding = 1e-12 * float(np.abs(statistics.mean[r, row.layers]).max())
    difference = 0.0 if abs(difference) <= rounding else difference
    se = 0.0 if se <= rounding else se
    unpaired = _unpaired(family, row)
    if unpaired:
        difference = se = np.nan
        notes.append(
            f"some layers have no score in {', '.join(unpaired)}: the networks would be compared "
            "on different subjects"
        )
    dof = np.asarray(float(min(levels.values(), default=1) - 1))
    low, high = bootstrap.t_interval(
        np.asarray(difference), np.asarray(se), dof, options.confidence
    )
    p = float(bootstrap.t_two_sided(np.asarray(difference), np.asarray(se), dof))
    bound, p_equivalence, note = _equivalence(
        family, row, statistics, options, difference, draws, levels, dof
    )
    if not np.isfinite(difference) and not unpaired:
        notes.append("a layer has no score: all its targets are constant")
    elif np.isfinite(difference) and not np.isfinite(p):
        notes.append(
            "no p: fewer than nine in ten draws can be scored, or nothing has two levels to draw"
        )
    if note:
        notes.append(note)
    return {
        "metric": family.metric, "roi": row.roi, "pairing": row.pairing,
        "network_a": row.a, "layer_a": layer_a, "network_b": row.b, "layer_b": layer_b,
        "difference": difference, "ci_low": float(low), "ci_high": float(high), "p": p,
        "p_equivalence": p_equivalence, "se": se, "dof": float(dof), "bound": bound,
        "note": "; ".join(notes),
    }  # fmt: skip


def _unpaired(family: Family, row: contrast.Row) -> list[str]:
    """Subjects who have a score in some of the row's layers and in others none."""
    places = family.place[row.roi][row.layers]
    scored = family.scored[places]
    partly = scored.any(axis=0) & ~scored.all(axis=0) & scored.any(axis=1).all()
    return [s for s, partial in zip(family.subjects[row.roi], partly, strict=True) if partial]


def _equivalence(
    family: Family,
    row: contrast.Row,
    statistics: Statistics,
    options: Options,
    difference: float,
    draws: dict[Sources, np.ndarray],
    levels: dict[str, int],
    dof: np.ndarray,
) -> tuple[float, float, str]:
    """Half width of the equivalence range, p of equivalence, and why there is none.

    The ceiling is the ROI's lower one, averaged over the layers of both networks.
    """
    r = family.rois.index(row.roi)
    roof = float(np.mean(statistics.ceiling[r, row.layers]))
    roof_draws = {
        s: d[:, r][:, row.layers].mean(axis=1) for s, d in statistics.ceiling_draws.items()
    }
    if not np.isfinite(roof):
        return np.nan, np.nan, "no equivalence test: no noise ceiling"
    bound = options.equivalence_bound * roof
    roof_se = standard_error(roof_draws, levels)
    low, _ = bootstrap.t_interval(np.asarray(roof), roof_se, dof, options.confidence)
    if not low > 0:
        return bound, np.nan, "no equivalence test: the interval of the ceiling reaches 0"
    scaled = {s: options.equivalence_bound * d for s, d in roof_draws.items()}
    below = standard_error({s: d - scaled[s] for s, d in draws.items()}, levels)
    above = standard_error({s: d + scaled[s] for s, d in draws.items()}, levels)
    p = contrast.tost(np.asarray(difference), np.asarray(bound), below, above, dof)
    return bound, float(p), ""


def _most_chosen(family: Family, chosen: np.ndarray, network: str) -> tuple[str, float]:
    own = np.flatnonzero(family.network == network)
    counts = chosen[own]
    if not counts.sum():
        return "", np.nan
    place = int(counts.argmax())
    return family.layers[own[place]].split("/", 1)[1], float(counts[place] / counts.sum())


def contrast_variables(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows as variables `contrast_<column>(contrast)` of the result."""
    texts = {
        "metric", "roi", "pairing", "network_a", "layer_a", "network_b", "layer_b", "verdict",
        "note",
    }  # fmt: skip
    variables = {}
    for column in (*CONTRAST_COLUMNS, "se", "dof", "bound", "note"):
        values = [row[column] for row in rows]
        dtype = str if column in texts else float
        variables[f"contrast_{column}"] = ("contrast", np.array(values, dtype=dtype))
    return variables
