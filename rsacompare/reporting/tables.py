"""The rows of the pages' tables: outcomes, contrasts, scores."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from rsacompare.reporting.methods import sign_flip_floor
from rsacompare.reporting.numbers import (
    MISSING,
    bayes_factor,
    by_value,
    counted,
    interval,
    number,
    p_value,
)
from rsacompare.reporting.reading import ALPHA, PAIRINGS, Reading, Row

MOST_ACROSS = 5  # metrics side by side on a page
MOST_EXACT_FLIPS = 14  # subjects of whom `infer` tries every pattern of signs
CHOSEN = re.compile(r"best layer chosen in (\d+) ?% \(.*?\) and (\d+) ?% \(.*?\)(?:; |$)")


def verdict_tables(reading: Reading) -> list[dict[str, Any]]:
    """Who is closer: a table per contrast, ROIs down and metrics across; many metrics down."""
    found = []
    for pair in reading.pairs:
        rows = reading.rows(None, pair, reading.pairing)
        metrics = [m for m in reading.metrics if m in {r.metric for r in rows}]
        rois = [r for r in reading.result["roi"].values.astype(str) if r in {x.roi for x in rows}]
        cells = {(r.roi, r.metric): _verdict_cell(r) for r in rows}
        turned = len(metrics) > MOST_ACROSS and len(rois) < len(metrics)
        lines = (
            [(m, [cells.get((roi, m)) for roi in rois]) for m in metrics]
            if turned
            else [(roi, [cells.get((roi, m)) for m in metrics]) for roi in rois]
        )
        if lines:
            across = rois if turned else metrics
            found.append({"pair": pair, "across": across, "turned": turned, "lines": lines})
    return found


def _verdict_cell(row: Row) -> dict[str, str]:
    return {
        "outcome": row.outcome,
        "winner": row.winner,
        "difference": number(row.difference, signed=True),
        "interval": interval(row.ci_low, row.ci_high),
    }


def contrast_tables(reading: Reading, metric: str) -> list[dict[str, Any]]:
    """A table per pairing, that of the answer first; and why a contrast has no rows there."""
    found = []
    permutations = int(reading.inference.get("n_permutations", 0)) or None
    order = sorted(PAIRINGS, key=lambda p: p != reading.pairing)
    for pairing, meaning in ((p, PAIRINGS[p]) for p in order):
        groups, missing = [], []
        for pair in reading.pairs:
            own = reading.rows(metric, pair, pairing)
            if own:
                groups.append((pair, [_contrast_row(r, permutations) for r in own]))
            n = [len(reading.layers(metric, network)[0]) for network in pair]
            if pairing == "ordinal" and not own and 0 not in n and n[0] != n[1]:
                missing.append(f"{pair[0]} has {counted(n[0], 'layer')}, {pair[1]} has {n[1]}")
        rows = [row for _, group in groups for row in group]
        if rows or missing:
            found.append(
                {
                    "pairing": pairing,
                    "meaning": f"{meaning[0].upper()}{meaning[1:]}",
                    "groups": groups,
                    "n": len(rows),
                    "layered": any(r["layers"] for r in rows),
                    "chosen": any(r["chosen"] for r in rows),
                    "first": pairing == reading.pairing,
                    "summary": _outcomes(rows),
                    "missing": missing,
                    "flipped": any(r["p_sign_flip"] != MISSING for r in rows),
                    "bayes": any(r["bf10"] != MISSING for r in rows),
                }
            )
    return found


def _outcomes(rows: list[dict[str, Any]]) -> str:
    """How many rows ended how."""
    found = Counter("named" if r["winner"] else r["outcome"] for r in rows)
    counts = (("named", "with a closer network"), ("equivalent", "equivalent"),
              ("undecided", "undecided"))  # fmt: skip
    told = ", ".join(f"{found[key]} {text}" for key, text in counts if found[key])
    return f"{counted(len(rows), 'row')}: {told}"


def _contrast_row(row: Row, permutations: int | None) -> dict[str, Any]:
    layers, note = [row.layer_a, row.layer_b], row.note
    chosen = CHOSEN.match(note)
    if chosen:  # how often stands beside each layer, not in a sentence per row
        layers = [f"{name} ({n} %)" for name, n in zip(layers, chosen.groups(), strict=True)]
        note = note[chosen.end() :]
    return _verdict_cell(row) | {
        "roi": row.roi,
        "layers": layers if row.layer_a else [],
        "chosen": bool(chosen),
        "dof": f"{row.dof:g}" if np.isfinite(row.dof) else MISSING,
        "p": p_value(row.p),
        "p_fwer": p_value(row.p_fwer),
        "p_beyond": p_value(row.p_beyond, permutations),
        "p_equivalence": p_value(row.p_equivalence),
        "p_sign_flip": _flip(row.p_sign_flip),
        "bf10": bayes_factor(row.bf10),
        "bound": f"±{number(row.bound)}" if np.isfinite(row.bound) else MISSING,
        "note": note,
    }


def sign_flips(reading: Reading, metric: str) -> str:
    """What the sign-flip p of this metric's contrasts is, with its floor; "" without any."""
    found = [row.roi for row in reading.rows(metric) if np.isfinite(row.p_sign_flip)]
    if not found:
        return ""
    n_random = int(reading.inference.get("n_permutations", 0))
    floors = {}
    for roi in dict.fromkeys(found):
        n = reading.n_subjects(metric, roi)
        drawn = n > MOST_EXACT_FLIPS and n_random
        floor = max(sign_flip_floor(n), 1 / (n_random + 1) if drawn else 0.0)
        floors[roi] = f"{_flip(floor).rstrip('0')} for {counted(n, 'subject')}" + (
            f" ({n_random:,} random patterns of signs)" if drawn else ""
        )
    return (
        "p sign-flip: two-sided, over subjects alone and for these stimuli, not corrected; "
        f"whatever the data, it cannot lie below {by_value(floors)}."
    )


def _flip(p: float) -> str:
    """Four digits: no p may look lower than the floor, which is .0625 for five subjects.

    Examples
    --------
    >>> _flip(0.0625), _flip(0.25), _flip(1 / 2001)
    ('0.0625', '0.2500', '0.0005')
    """
    return f"{p:.4f}" if 1e-4 <= p <= 1 else p_value(p)


def score_rows(reading: Reading, metric: str) -> list[dict[str, Any]]:
    """Every score of a metric with interval, p values and ceiling."""
    permutations = int(reading.inference.get("n_permutations", 0)) or None
    rows = []
    for roi in reading.rois(metric):
        for network in reading.networks_of(metric):
            c = reading.curve(metric, roi, network)
            for i, layer in enumerate(c.names):
                rows.append(
                    {
                        "roi": roi,
                        "network": network,
                        "layer": layer,
                        "score": number(c.mean[i]),
                        "interval": interval(c.low[i], c.high[i]),
                        "p": p_value(c.p[i], permutations),
                        "p_fwer": p_value(c.p_fwer[i], permutations),
                        "ceiling": _range(c.ceiling_low[i], c.ceiling_high[i]),
                        "fraction": number(c.fraction[i]),
                        "fraction_interval": interval(c.fraction_low[i], c.fraction_high[i]),
                        "significant": bool(c.p_fwer[i] < ALPHA),
                    }
                )
    return rows


def _range(low: float, high: float) -> str:
    """Lower to upper ceiling, once where they are one."""
    first, second = number(low), number(high)
    return first if first == second else f"{first} to {second}"
