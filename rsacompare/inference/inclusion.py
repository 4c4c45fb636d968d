"""Equivalence as inclusion: each difference with the interval of its two one-sided tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from rsacompare.inference.inferred import Beside, Inferred

PER_ROI = {
    "mean": "mean over layers",
    "depth": "common range of depth",
    "best": "best layers",
}
MOST_PAIRS = 3


def beside(inferred: Inferred) -> Beside:
    """An extra of kind `intervals` per pair of networks: rows per ROI, a panel per pairing.

    Only of pairs with an equivalence range in at least one row; of the first three pairs.
    """
    pairs = list(dict.fromkeys((r.a, r.b) for r in inferred.rows))
    extras = []
    for a, b in pairs[:MOST_PAIRS]:
        own = [
            entry
            for entry in inferred.table
            if (entry["network_a"], entry["network_b"]) == (a, b) and entry["pairing"] in PER_ROI
        ]
        if any(np.isfinite(entry["bound"]) for entry in own):
            extras.append(_extra(inferred, own, a, b))
    return Beside(extras=extras)


def _extra(inferred: Inferred, rows: list[dict[str, Any]], a: str, b: str) -> dict[str, Any]:
    options, unit = inferred.options, inferred.meaning.get("unit") or "score"
    alpha = 1 - options.confidence
    inner = np.array([entry["tested"] for entry in rows])
    bound = np.array([entry["bound"] for entry in rows])
    words = {"a": a, "b": b}
    roles = {
        "label": [entry["roi"] for entry in rows],
        "panel": [PER_ROI[entry["pairing"]] for entry in rows],
        "estimate": [entry["difference"] for entry in rows],
        "low": [entry["ci_low"] for entry in rows],
        "high": [entry["ci_high"] for entry in rows],
        "inner_low": inner[:, 0],
        "inner_high": inner[:, 1],
        "range_low": -bound,
        "range_high": bound,
        "outcome": [words.get(entry["verdict"], entry["verdict"]) for entry in rows],
    }
    inside, outside = f"{100 * (1 - 2 * alpha):g}", f"{100 * options.confidence:g}"
    higher = inferred.meaning.get("higher_is_better", True)
    return {
        "kind": "intervals",
        "metric": inferred.family.metric,
        "title": f"Is the difference between {a} and {b} small enough to count as none?",
        "caption": (
            f"Difference {a} − {b} per ROI ({a if higher else b} is closer on the right). Thin: "
            f"its {outside} % interval. Thick: the {inside} % interval of the two one-sided tests "
            f"at {alpha:.2g}. Grey: the equivalence range, ± {options.equivalence_bound:g} of the "
            "ROI's lower noise ceiling. The networks are equivalent where the thick interval lies "
            "wholly in the range. The range is uncertain as the ceiling is; the thick interval "
            "has taken over that uncertainty (each arm is that of difference minus or plus bound "
            "in the same draws), so that it is not exactly one of the difference alone. At the "
            "end of a row the verdict: a network that is closer after correction comes first, "
            "even where the difference lies in the range. A thin interval that holds 0 is no "
            "evidence for equality. No range: no usable noise ceiling."
        ),
        "arrays": {name: xr.DataArray(np.asarray(v), dims="item") for name, v in roles.items()},
        "axis": f"difference, {unit}",
        "reference": 0.0,
        "interval_label": f"{outside} % interval",
        "inner_label": f"{inside} % interval of the equivalence tests",
        "range_label": "equivalence range",
    }
