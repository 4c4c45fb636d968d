"""Scores and ceilings of many cells, whatever is drawn, with all stimuli and halves of them.

Cells of targets share what belongs to their observed side, both halves of a split what belongs to
all stimuli, and drawn targets what belongs to all targets (`kernels.means`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rsacompare.kernels.mean_ceilings import mean_ceilings
from rsacompare.kernels.means import Means, mean_correlations
from rsacompare.metrics.evidence import Evidence, TargetEvidence
from rsacompare.metrics.many import is_plain, score_draws, score_draws_of_units


def score_in_parts(
    cells: Sequence[Evidence],
    halves: np.ndarray,
    weights: np.ndarray | None = None,
    units: Sequence[np.ndarray] | None = None,
    nothing: bool = True,
) -> Means:
    """Scores with all stimuli and with both halves of each split, whatever is drawn.

    Parameters
    ----------
    cells : sequence of Evidence
        Of the same stimuli and folds.
    halves : (split, stimulus) bool
    weights : (draw, stimulus), optional
    units : sequence of (draw, target), optional
        Multiplicities of each cell's targets; of the same array, for cells that share draws.
    nothing : bool
        Whether the scores without draws are wanted beside the others.

    Returns
    -------
    Means
        (part, draw, cell) with nothing (one draw), the stimuli, the units and both drawn; parts
        are all stimuli, then the first and the second half of each split.
    """
    n_parts, size = 1 + 2 * len(halves), len(cells)
    n_draws = len(weights) if weights is not None else 0
    n_units = len(units[0]) if units else 0
    out = Means(
        np.full((n_parts, 1, size), np.nan),
        None if weights is None else np.full((n_parts, n_draws, size), np.nan),
        None if units is None else np.full((n_parts, n_units, size), np.nan),
        None if weights is None or units is None else np.full((n_parts, n_draws, size), np.nan),
    )
    groups: dict[tuple[str, int], list[int]] = {}
    others = []
    for place, cell in enumerate(cells):
        if is_plain(cell):
            shared = id(units[place]) if units is not None else 0
            groups.setdefault((cell.observed_key, shared), []).append(place)
        else:
            others.append(place)
    for places in groups.values():
        own: list[Any] = [cells[p] for p in places]
        found = mean_correlations(
            own[0].observed, [c.predicted for c in own], weights,
            None if units is None else units[places[0]], halves, own[0].fold,
        )  # fmt: skip
        for held, given in zip(out, found, strict=True):
            if held is not None:
                held[..., places] = given
    if not others:
        return out
    rest, drawn = [cells[p] for p in others], [units[p] for p in others] if units else None
    for part in range(n_parts):
        mask = np.ones(halves.shape[1])
        if part:
            mask = (halves[(part - 1) // 2] == bool(part % 2)).astype(np.float64)
        pairs: list[tuple[Any, Any, np.ndarray]] = []
        if nothing or units is not None:
            pairs.append((out.nothing, out.units, mask[None]))
        if weights is not None:
            pairs.append((out.stimuli, out.both, weights * mask))
        for fixed, joint, w in pairs:
            if drawn is None:
                fixed[part][:, others] = score_draws(rest, w)
            else:
                scores = score_draws_of_units(rest, w, drawn)
                fixed[part][:, others], joint[part][:, others] = scores
    return out


def target_ceilings(
    cells: Sequence[Evidence],
    weights: np.ndarray | None = None,
    units: np.ndarray | None = None,
) -> Means | None:
    """Ceilings of cells of targets, (1, draw, cell): nothing, stimuli, units and both drawn.

    Parameters
    ----------
    cells : sequence of Evidence
        Of the same stimuli, folds and draws of targets.
    weights : (draw, stimulus), optional
    units : (draw, target), optional

    Returns
    -------
    Means or None
        None for evidence whose ceiling is none of ours.
    """
    kinds: list[Any] = [type(cell) for cell in cells]
    names = ("ceiling", "target_ceiling", "_mean")
    for kind in kinds:
        if (
            not issubclass(kind, TargetEvidence)
            or any(getattr(kind, n) is not getattr(TargetEvidence, n) for n in names)
            or kind.group_ceiling.__func__ is not vars(TargetEvidence)["group_ceiling"].__func__
        ):
            return None
    held: list[Any] = list(cells)
    known = [
        p
        for p, c in enumerate(held)
        if c.noise_variance is not None
        and c.n_repetitions is not None
        and not (c.n_repetitions < 2).any()
    ]
    n = 0 if weights is None else len(weights)
    out = Means(
        np.full((1, 1, len(cells)), np.nan),
        None if weights is None else np.full((1, n, len(cells)), np.nan),
        None if units is None else np.full((1, len(units), len(cells)), np.nan),
        None if weights is None or units is None else np.full((1, n, len(cells)), np.nan),
    )
    if known:
        own = [held[p] for p in known]
        found = mean_ceilings(
            [c.observed if c.noisy == "observed" else c.predicted for c in own],
            [c.noise_variance / c.n_repetitions[:, None] for c in own],
            [np.isfinite(c.profile) for c in own],
            weights, units, own[0].fold,
        )  # fmt: skip
        for place, given in zip(out, found, strict=True):
            if place is not None:
                place[..., known] = given
    return out
