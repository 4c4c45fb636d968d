"""The rows of contrasts.csv: each difference with its interval, p, equivalence and verdict."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rsacompare.inference import contrast
from rsacompare.inference.beyond import p_beyond, ruled
from rsacompare.inference.estimate import Estimate, Function, estimate, rounding_of
from rsacompare.inference.family import Family
from rsacompare.inference.multiple import false_discovery
from rsacompare.inference.statistics import Options, Statistics, Values, levels_of
from rsacompare.schema.results import CONTRAST_COLUMNS, CONTRAST_EXTRAS


def contrast_table(
    family: Family,
    rows: list[contrast.Row],
    statistics: Statistics,
    null: np.ndarray | None,
    options: Options,
) -> list[dict[str, Any]]:
    """One dict per row of contrasts.csv, corrected within each pairing: Holm, and FDR beside it.

    Rows with a baseline are corrected by themselves: they are points of comparison,
    and networks must not become harder to tell apart by them.

    `null`: (permutation, roi, layer). A network that Holm's p names closer is named only where its
    own score is beyond that null too (:mod:`rsacompare.inference.beyond`); None: not looked at.
    """
    table = [_contrast_row(family, row, statistics, options) for row in rows]
    alpha = round(1 - options.confidence, 12)
    families: dict[tuple[str, bool], list[int]] = {}
    for i, row in enumerate(rows):
        below = not family.baselines.isdisjoint((row.a, row.b))
        families.setdefault((row.pairing, below), []).append(i)
    for at in families.values():
        own = [table[i] for i in at]
        p = np.array([t["p"] for t in own])
        differences = [t["difference"] for t in own]
        beyond = (
            np.full(len(at), np.nan)
            if null is None
            else p_beyond(
                family, [rows[i] for i in at], differences, statistics.observed.mean, null
            )
        )
        corrected = zip(
            own, contrast.holm(p), false_discovery(p, "fdr_bh"), false_discovery(p, "fdr_by"),
            beyond, strict=True,
        )  # fmt: skip
        for entry, p_fwer, p_bh, p_by, p_own in corrected:
            entry |= {"p_fwer": float(p_fwer), "p_bh": float(p_bh), "p_by": float(p_by)}
            entry["p_beyond"] = float(p_own)
            difference, better = entry["difference"], family.better
            found = contrast.verdict(difference, p_fwer, entry["p_equivalence"], better, alpha)
            a, b = entry["network_a"], entry["network_b"]
            closer = a if better * difference > 0 else b
            entry["verdict"], said = (
                (found, "")
                if null is None
                else ruled(found, closer, p_own, len(null), alpha, f"{a} − {b}")
            )
            entry["note"] = "; ".join(part for part in (entry["note"], said) if part)
    return table


def _contrast_row(
    family: Family, row: contrast.Row, statistics: Statistics, options: Options
) -> dict[str, Any]:
    r = family.rois.index(row.roi)
    levels = levels_of(family, row.roi, options, row.layers)
    notes = []
    layer_a, layer_b = row.layer_a, row.layer_b
    function = difference_of(family, row, statistics)
    if row.pairing == "best":
        (layer_a, often_a), (layer_b, often_b) = (
            _most_chosen(family, statistics.chosen[r], n) for n in (row.a, row.b)
        )
        notes.append(f"best layer chosen in {often_a:.0%} ({row.a}) and {often_b:.0%} ({row.b})")
    rounding = rounding_of(statistics, r, row.layers)
    found = estimate(function, statistics, levels, options, rounding)
    unpaired = _unpaired(family, row)
    if unpaired:
        found = found.unknown()
        notes.append(
            f"some layers have no score in {', '.join(unpaired)}: the networks would be compared "
            "on different subjects"
        )
    bound, p_equivalence, tested, note = _equivalence(
        row, r, function, found, statistics, levels, options
    )
    difference, p = float(found.value), float(found.p)
    if not np.isfinite(difference) and not unpaired:
        notes.append("a layer has no score: all its targets are constant")
    elif np.isfinite(difference) and not np.isfinite(p):
        notes.append(
            "no p: fewer than nine in ten draws can be scored, or nothing has two levels to draw"
            + (", or an end of the interval is unbounded" if options.interval != "t" else "")
        )
    if note:
        notes.append(note)
    return {
        "metric": family.metric, "roi": row.roi, "pairing": row.pairing,
        "network_a": row.a, "layer_a": layer_a, "network_b": row.b, "layer_b": layer_b,
        "difference": difference, "ci_low": float(found.low), "ci_high": float(found.high), "p": p,
        "p_equivalence": p_equivalence, "se": float(found.se), "dof": found.dof, "bound": bound,
        "tested": tested, "note": "; ".join(notes),
    }  # fmt: skip


def difference_of(family: Family, row: contrast.Row, statistics: Statistics) -> Function:
    """The row's difference a − b as a function of the values."""
    r = family.rois.index(row.roi)
    if row.pairing == "best":
        a, b = (statistics.networks.index(n) for n in (row.a, row.b))
        return lambda values: values.best[..., r, a] - values.best[..., r, b]
    used = np.flatnonzero(row.weights)
    return lambda values: values.mean[..., r, used] @ row.weights[used]


def _unpaired(family: Family, row: contrast.Row) -> list[str]:
    """Subjects who have a score in some of the row's layers and in others none."""
    places = family.place[row.roi][row.layers]
    scored = family.scored[places]
    partly = scored.any(axis=0) & ~scored.all(axis=0) & scored.any(axis=1).all()
    return [s for s, partial in zip(family.subjects[row.roi], partly, strict=True) if partial]


def _equivalence(
    row: contrast.Row,
    r: int,
    function: Function,
    difference: Estimate,
    statistics: Statistics,
    levels: dict[str, int],
    options: Options,
) -> tuple[float, float, tuple[float, float], str]:
    """Half width of the equivalence range, p of equivalence, and why there is none.

    The third is the 1 − 2α interval that the two tests make: inside ± bound just when p is below
    α. The tests compare D − bound and D + bound with 0, the bound being a statistic of the same
    draws; so its upper end is that of D − bound, moved by the bound, and its lower end that of
    D + bound, moved back. With a bound that is known it is the plain 1 − 2α interval of D. The
    ceiling is the ROI's lower one, averaged over the layers of both networks.
    """
    unknown = (np.nan, np.nan)
    share = options.equivalence_bound

    def roof(values: Values) -> np.ndarray:
        return values.ceiling[..., r, row.layers].mean(axis=-1)

    held = estimate(roof, statistics, levels, options)
    if not np.isfinite(held.value):
        return np.nan, np.nan, unknown, "no equivalence test: no noise ceiling"
    bound = share * float(held.value)
    if not held.low > 0:
        return bound, np.nan, unknown, "no equivalence test: the interval of the ceiling reaches 0"
    if not np.isfinite(difference.value):
        return bound, np.nan, unknown, ""
    # at 0.5 or less there is no interval of 1 − 2α
    inner = replace(options, confidence=max(2 * options.confidence - 1, 1e-9))
    below, above = (
        estimate(partial(_shifted, function, roof, by), statistics, levels, inner)
        for by in (-share, share)
    )
    tested = (float(above.low) - bound, float(below.high) + bound)
    if options.interval != "t":
        return bound, float(np.maximum(below.less, above.greater)), tested, ""
    dof = np.asarray(difference.dof)
    p = contrast.tost(np.asarray(difference.value), np.asarray(bound), below.se, above.se, dof)
    return bound, float(p), tested, ""


def _shifted(function: Function, roof: Function, by: float, values: Values) -> np.ndarray:
    return function(values) + by * roof(values)


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
    for column in (*CONTRAST_COLUMNS, *CONTRAST_EXTRAS):
        values = [row.get(column, np.nan) for row in rows]
        dtype = str if column in texts else float
        variables[f"contrast_{column}"] = ("contrast", np.array(values, dtype=dtype))
    return variables
