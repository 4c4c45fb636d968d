"""Paired differences of two networks and no more: what a sensitivity analysis needs many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from rsacompare.errors import ProtocolError
from rsacompare.inference import contrast as contrasts
from rsacompare.inference.family import arrange
from rsacompare.inference.pools import CATEGORIES
from rsacompare.inference.statistics import Options, bootstrap_family
from rsacompare.inference.table import contrast_table
from rsacompare.kernels import resample
from rsacompare.schema.results import Comparison, meanings

PAIRINGS = ("mean", "depth")  # those with one row per ROI that no choice of a layer precedes


@dataclass(frozen=True)
class Difference:
    """One row of contrasts.csv, as far as it needs neither nulls nor ceilings."""

    roi: str
    difference: float = np.nan
    ci_low: float = np.nan
    ci_high: float = np.nan
    se: float = np.nan
    p: float = np.nan
    dof: float = np.nan
    n_subjects: int = 0
    n_stimuli: int = 0
    note: str = ""


def exchanged(comparison: Comparison, metric: str) -> str:
    """What `auto` comes to: "categories" or "stimuli" where it is one for all ROIs, else "auto"."""
    kinds = {pool.kind for pool in arrange(comparison, metric, 1).pool.values()}
    return (
        {CATEGORIES: "categories", "": "stimuli"}.get(kinds.pop(), "auto")
        if len(kinds) == 1
        else "auto"
    )


def differences(
    comparison: Comparison,
    metric: str,
    pair: tuple[str, str],
    pairing: str,
    *,
    n_bootstrap: int,
    confidence: float = 0.95,
    random_state: int = 0,
    sources: Sequence[str] | None = None,
    exchange: str = "auto",
) -> list[Difference]:
    """The difference a − b per ROI with the interval and p that `infer` gives it.

    Parameters
    ----------
    comparison : Comparison
    metric : str
    pair : (a, b)
    pairing : {"mean", "depth"}
    n_bootstrap, confidence, random_state, sources, exchange
        As in `infer`; with equal numbers the result is equal too.

    Returns
    -------
    list of Difference
        In the order of the ROIs; empty where the pairing does not exist.

    Raises
    ------
    ProtocolError
        Another pairing, or numbers that make no sense.
    """
    if pairing not in PAIRINGS:
        raise ProtocolError(f"pairing '{pairing}'; there are {' and '.join(PAIRINGS)}")
    options = Options(
        n_bootstrap, 1, resample.as_seed(random_state), confidence, 0.1, 1,
        None if sources is None else tuple(sources), exchange=exchange,
    )  # fmt: skip
    # no permutation, equivalence or split is looked at
    scores = comparison.scores
    better = 1 if meanings(scores)[metric]["higher_is_better"] else -1
    with threadpool_limits(limits=1):
        family = arrange(comparison, metric, better, exchange)
        # ceilings take most of the time of some metrics, and serve equivalence alone
        family.ceiling_groups = {roi: [] for roi in family.rois}
        depth_of = dict(zip(scores["layer"].values, scores["depth"].values, strict=True))
        depth = np.array([depth_of[layer] for layer in family.layers])
        made, _ = contrasts.rows(family, depth, [pair])
        rows = [row for row in made if row.pairing == pairing]
        if not rows:
            return []
        statistics = bootstrap_family(family, rows, options, 1, None)
        table = contrast_table(family, rows, statistics, None, options)
    return [
        Difference(
            **{name: entry[name] for name in ("roi", "difference", "ci_low", "ci_high", "se", "p")},
            dof=entry["dof"],
            n_subjects=len(family.subjects[entry["roi"]]),
            n_stimuli=family.n_stimuli(entry["roi"]),
            note="; ".join(
                n for n in entry["note"].split("; ") if not n.startswith("no equivalence test")
            ),
        )
        for entry in table
    ]
