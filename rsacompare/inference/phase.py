"""The null of time series: phases of the network's series at random, the same for every cell.

Only for stimuli with time blocks. The network's side of the evidence is what is turned: its units
where these are decoded, its prediction where it encodes (a linear function of the network's series,
so that turning one turns the other). One draw has the same phases for all units, voxels, layers,
regions and subjects that were scored on the same run, so that what hangs together stays so.

A **run** is a stretch of scored stimuli without a gap: of one recording, of one cross-validation
fold. The recording is the coordinate `segment` of the responses where there is one, else the
beginning of the stimulus's name where names end in a number (`test-1-0003`: `test-1-`), else its
time block. Time goes by that number, or by the order of the names; where it does not go on by the
step that is usual in the recording, another run begins.

Surrogates are as long as the run and go round: where a run's two ends lie far apart (drifts), the
spectrum leaks, and the null is a little too wide. Series need be stationary and roughly Gaussian.
"""

from __future__ import annotations

import re

import numpy as np

from rsacompare.errors import ProtocolError
from rsacompare.inference.bootstrap import group_mean
from rsacompare.inference.family import Family
from rsacompare.inference.pools import BLOCKS
from rsacompare.kernels import resample, surrogates
from rsacompare.metrics.evidence import Evidence
from rsacompare.schema.results import Comparison

FEWEST_PHASES = 8  # of all runs together
_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)


def with_series(comparison: Comparison) -> dict[str, bool]:
    """Which metrics hold series that can be phase-randomised; the others permute time blocks.

    Raises
    ------
    ProtocolError
        None of them does.
    """
    found = {
        str(metric): type(comparison.evidence[cells[0]]).null_series is not Evidence.null_series
        for metric in comparison.scores["metric"].values
        if (cells := comparison.cells(str(metric)))
    }
    if not any(found.values()):
        raise ProtocolError(
            "null='phase' needs the network's series, and the evidence of "
            f"{', '.join(found)} holds similarities of stimuli alone; use null='permutation', "
            "which permutes time blocks"
        )
    return found


def require(family: Family) -> None:
    """Raise ProtocolError where the family's evidence cannot be phase-randomised."""
    name = family.metric
    if any(pool.kind != BLOCKS for pool in family.pool.values()):
        raise ProtocolError(
            f"{name}: null='phase' is for stimuli that follow each other in time, responses with "
            "a coordinate 'time_block'; use null='permutation'"
        )
    for evidence in family.evidence:
        if type(evidence).null_series is Evidence.null_series:
            raise ProtocolError(
                f"{name}: null='phase' needs the network's series, and this metric's evidence "
                f"({type(evidence).__name__}) holds similarities of stimuli alone; use "
                "null='permutation', which permutes time blocks"
            )
    for key, ids in family.ids.items():
        free = sum((len(run) - 1) // 2 for run in _runs_of_key(family, key))
        if free < FEWEST_PHASES:
            raise ProtocolError(
                f"{name}: null='phase', but the {len(ids)} scored stimuli make runs so short that "
                f"{free} phases are free in all; use null='permutation', or name the recordings by "
                "a coordinate 'segment'"
            )


def runs(
    ids: np.ndarray,
    block: np.ndarray,
    segment: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Places of the stimuli of each run, in the order of time.

    Parameters
    ----------
    ids, block : (stimulus,)
    segment, fold : (stimulus,), optional

    Examples
    --------
    >>> names = np.array(["a-1", "a-2", "a-3", "a-5", "a-6", "b-1", "b-2"])
    >>> [run.tolist() for run in runs(names, np.zeros(7))]
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    found = [_NUMBERED.fullmatch(str(i)) for i in ids]
    groups: dict[tuple[str, ...], list[tuple[int, str, int]]] = {}
    for place, match in enumerate(found):
        named = "" if segment is None else str(segment[place])
        label = named or (match.group(1) if match else f"\0{block[place]}")
        part = "" if fold is None else str(fold[place])
        number = int(match.group(2)) if match else 0
        groups.setdefault((label, part), []).append((number, str(ids[place]), place))
    made = []
    for members in groups.values():
        members.sort()
        steps = np.diff([number for number, _, _ in members])
        sizes, counts = np.unique(steps, return_counts=True)
        usual = sizes[counts.argmax()] if len(sizes) else 0
        ends = np.flatnonzero(steps != usual) + 1
        made += np.split(np.array([place for _, _, place in members]), ends)
    return made


def _runs_of_key(family: Family, key: tuple[str, ...]) -> list[np.ndarray]:
    pool = family.pool[key]
    assert pool.level is not None  # `require` saw to it
    segment = family.evidence[family.stimuli.index(key)].segment
    return runs(family.ids[key], pool.level[pool.own], segment, family.fold[key])


def null_block(family: Family, seed: int, index: int, size: int) -> np.ndarray:
    """Group means of one block of surrogates: (draw, roi, layer)."""
    scores = cell_block(family, seed, index, size)
    return np.stack([group_mean(scores[:, rows]) for rows in family.place.values()], axis=1)


def cell_block(family: Family, seed: int, index: int, size: int) -> np.ndarray:
    """Scores of every cell under one block of surrogates: (draw, cell)."""
    scores = np.full((size, len(family.evidence)), np.nan)
    for key, ids in family.ids.items():
        found = _runs_of_key(family, key)
        drawn = surrogates.Surrogates(
            found,
            [
                surrogates.rotations(
                    resample.stream(seed, "phase", ids[run], index), len(run), size
                )
                for run in found
            ],
        )
        for place in [i for i, k in enumerate(family.stimuli) if k == key]:
            scores[:, place] = family.evidence[place].null_series(drawn)
    return scores
