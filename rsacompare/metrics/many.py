"""Scores of many cells under the same draws, with the work that they share done once.

Cells that hold the same dissimilarity vectors share the work on them: RSA over all layers,
subjects and draws is then a few matrix products. The means of cells of targets, for all stimuli
and halves of them at once, are in `parts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np

from rsacompare.kernels import columns, correlate
from rsacompare.metrics.evidence import Evidence, PairEvidence, TargetEvidence

# constants, so that results never depend on memory
_GRID = 4_000_000  # scores held at a time
_COLUMNS = 4000  # targets scored side by side
_FEW = 64  # stimuli


def score_draws(cells: Sequence[Evidence], weights: np.ndarray) -> np.ndarray:
    """Scores of many cells under the same draws of stimuli.

    Parameters
    ----------
    cells : sequence of Evidence
        Of the same stimuli and folds.
    weights : (draw, stimulus)

    Returns
    -------
    (draw, cell)
    """
    out = np.full((len(weights), len(cells)), np.nan)
    rest = np.ones(len(cells), dtype=bool)
    for places, r, starts in _side_by_side(cells, weights):
        out[:, places] = columns.segment_means(r, starts)
        rest[places] = False
    others = np.flatnonzero(rest).tolist()
    kernel = correlate.compare_rdms
    out[:, others] = _many([cells[i] for i in others], len(weights), kernel, weights, "score")
    return out


def score_draws_of_units(
    cells: Sequence[Evidence], weights: np.ndarray, units: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores under the same draws of stimuli, with all units and with drawn units.

    Parameters
    ----------
    cells : sequence of Evidence
        Of the same stimuli and folds.
    weights : (1 or draw, stimulus)
    units : sequence of (draw, target)
        Multiplicities of each cell's targets.

    Returns
    -------
    fixed : (1 or draw, cell)
    joint : (draw, cell)
    """
    fixed = np.full((len(weights), len(cells)), np.nan)
    joint = np.full((len(units[0]), len(cells)), np.nan)
    rest = np.ones(len(cells), dtype=bool)
    for places, r, starts in _side_by_side(cells, weights):
        fixed[:, places] = columns.segment_means(r, starts)
        drawn = np.concatenate([units[p] for p in places], axis=1)
        joint[:, places] = columns.segment_means(r, starts, drawn)
        rest[places] = False
    for p in np.flatnonzero(rest).tolist():
        fixed[:, p] = cells[p].score(weights)
        joint[:, p] = cells[p].score(weights, units[p])
    return fixed, joint


def is_plain(cell: Any) -> TypeGuard[TargetEvidence]:
    """Whether a cell's score is the plain mean of plain correlations."""
    return (
        isinstance(cell, TargetEvidence)
        and type(cell).score is TargetEvidence.score
        and type(cell).target_scores is TargetEvidence.target_scores
        and type(cell)._mean is TargetEvidence._mean
    )


def score_permuted(cells: Sequence[Evidence], permutations: np.ndarray) -> np.ndarray:
    """Null scores of many cells under the same permutations: (perm, cell)."""
    out = np.full((len(permutations), len(cells)), np.nan)
    plain = [
        p
        for p, cell in enumerate(cells)
        if is_plain(cell)
        and type(cell).null is TargetEvidence.null
        # else what is kept of a cell would be larger than the cell
        and len(cell.stimulus_id) <= max(_FEW, cell.target_size)
    ]
    step = max(1, _GRID // max(1, len(cells[0].stimulus_id) ** 2))
    for start in range(0, len(plain), step):
        places = plain[start : start + step]
        own: list[Any] = [cells[p] for p in places]
        orders = columns.checked_permutations(permutations, len(own[0].stimulus_id), own[0].fold)
        out[:, places] = columns.permuted_sums(np.stack([c.cross for c in own], axis=-1), orders)
    others = sorted(set(range(len(cells))) - set(plain))
    kernel = correlate.compare_rdms_permuted
    rest = [cells[p] for p in others]
    out[:, others] = _many(rest, len(permutations), kernel, permutations, "null")
    return out


def _side_by_side(
    cells: Sequence[Evidence], weights: np.ndarray
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """(places, r (draw, target), first column of each cell) for batches of cells of targets."""
    used = weights.any(axis=0)
    keep: Any = slice(None) if used.all() else used
    batches: list[list[int]] = []
    width = _COLUMNS + 1
    for place, cell in enumerate(cells):
        if not is_plain(cell):
            continue
        width += cell.target_size
        if width > _COLUMNS:
            batches.append([])
            width = cell.target_size
        batches[-1].append(place)
    for batch in batches:
        held: list[Any] = [cells[i] for i in batch]
        observed = np.concatenate([c.observed[keep] for c in held], axis=1)
        predicted = np.concatenate([c.predicted[keep] for c in held], axis=1)
        fold = None if held[0].fold is None else held[0].fold[keep]
        r = correlate.correlate_columns(observed, predicted, weights[:, keep], fold)
        yield batch, r, np.cumsum([0, *(c.target_size for c in held[:-1])])


def _many(
    cells: Sequence[Evidence], n: int, kernel: Any, argument: np.ndarray, method: str
) -> np.ndarray:
    out = np.full((n, len(cells)), np.nan)
    pairs: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        if isinstance(cell, PairEvidence) and type(cell).score is PairEvidence.score:
            pairs.setdefault(cell.comparator, []).append(place)
        else:
            out[:, place] = getattr(cell, method)(argument)
    for comparator, places in pairs.items():
        own: list[Any] = [cells[p] for p in places]
        x, row = _distinct([c.network for c in own], [c.keys[0] for c in own])
        y, column = _distinct([c.brain for c in own], [c.keys[1] for c in own])
        if comparator_is_cheap_on_grid(len(x), len(y), len(places)):
            step = max(1, _GRID // max(1, len(x) * len(y)))
            for start in range(0, n, step):
                block = slice(start, start + step)
                grid = kernel(x, y, comparator, argument[block])
                out[block, places] = grid[:, row, column]
        else:
            for p, i, j in zip(places, row, column, strict=True):
                out[:, p] = kernel(x[i : i + 1], y[j : j + 1], comparator, argument)[:, 0, 0]
    return out


def comparator_is_cheap_on_grid(n_x: int, n_y: int, n_cells: int) -> bool:
    """Whether to score all x against all y: yes when most of that grid is wanted."""
    return n_cells * 2 >= n_x * n_y


def _distinct(vectors: list[np.ndarray], keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Stack of the distinct vectors and the index of each given one."""
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    index = {key: row for row, key in enumerate(first)}
    places = np.array([index[key] for key in keys], dtype=np.intp)
    return np.stack([vectors[i] for i in first.values()]), places
