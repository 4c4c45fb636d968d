"""Mean correlations of cells of targets under draws and halves, in one pass over small blocks.

A bootstrap of decoding scores every cell (layer, region, subject) under every draw, for all
stimuli and for both halves of several splits, with the targets weighted once and once by their
own multiplicities. What would be five matrix products and some passes over large arrays for each
of these is done here by blocks that fit the cache:

- cells of one layer (decoding) or one region (encoding) have the same `observed`: its sums, and
  the share of the correlation that belongs to it, are made once for all of them;
- weighted sums are linear in the multiplicities: those of a second half are the sums over all
  stimuli less those of the first half;
- the correlation, its mean over targets and the mean over drawn targets are taken at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rsacompare.kernels.means_by_blocks import TARGETS, accumulate, centre
from rsacompare.kernels.pairs import checked_weights

_DRAWS = 128  # worked on at a time; a constant
_HELD = 4_000_000  # numbers of predictions held at a time; a constant
_NONE = np.empty((0, 0, 0))


class Means(NamedTuple):
    """Means of correlations: (part, draw, cell), None where those draws were not asked for.

    Parts are all stimuli, then the first and the second half of each split.
    """

    nothing: np.ndarray
    stimuli: np.ndarray | None
    units: np.ndarray | None
    both: np.ndarray | None


def mean_correlations(
    observed: np.ndarray,
    predicted: Sequence[np.ndarray],
    weights: np.ndarray | None = None,
    units: np.ndarray | None = None,
    halves: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> Means:
    """Mean over targets of the weighted correlation of the same observed with many predicted.

    Parameters
    ----------
    observed : (stimulus, target)
    predicted : sequence of (stimulus, target)
        One of each cell.
    weights : (draw, stimulus), optional
        Multiplicities of the stimuli.
    units : (draw, target), optional
        Multiplicities of the targets.
    halves : (split, stimulus) bool, optional
        First halves of splits of the stimuli.
    fold : (stimulus,) int, optional
        Values are centred within folds by the same weights.

    Returns
    -------
    Means
        With nothing drawn (one draw), stimuli, units, and both. Targets that have no correlation
        are left out of the mean; NaN where none is left.

    Raises
    ------
    ValueError
        Shapes that do not fit.

    Notes
    -----
    Agrees with the mean of :func:`rsacompare.kernels.columns.correlate_columns` under the same
    weights to about 1e-12: see `means_by_blocks.LOST`.
    """
    cells = _Cells(observed, predicted, halves, fold)
    n, n_targets = cells.observed.shape
    ones = np.ones((1, n))
    # all stimuli are one more draw, the last
    w_all = ones if weights is None else np.concatenate([checked_weights(weights, n), ones])
    u_all = None if units is None else checked_weights(units, n_targets, "target")
    if weights is not None and u_all is not None and len(u_all) != len(weights):
        raise ValueError(f"{len(weights)} draws of stimuli but {len(u_all)} of targets")
    kinds = 1 if weights is None or u_all is None else 2
    top = np.zeros((kinds, len(cells.offset), len(cells.predicted), len(w_all)))
    count = np.zeros_like(top)
    top_units = np.zeros((top.shape[1], 0 if u_all is None else len(u_all), top.shape[2]))
    count_units = np.zeros_like(top_units)
    for columns, x, alive_x, y, alive_y in cells.batches():
        r = np.zeros((*top.shape[1:3], x.shape[1]))
        for start in range(0, len(w_all), _DRAWS):
            block = slice(start, start + _DRAWS)
            w, share = cells.weigh(w_all[block])
            drawn = np.zeros((0, w.shape[1]))
            if kinds == 2 and u_all is not None:
                drawn = np.zeros((x.shape[1], w.shape[1]))
                own = u_all[block, columns]
                drawn[:, : len(own)] = own.T
            keep = r if u_all is not None and start + _DRAWS >= len(w_all) else _NONE
            found = np.zeros((2, *top[..., block].shape))
            accumulate(
                x,
                y,
                alive_x,
                alive_y,
                cells.place,
                cells.offset,
                w,
                share,
                drawn,
                found[0],
                found[1],
                keep,
            )
            top[..., block] += found[0]
            count[..., block] += found[1]
        if u_all is not None:  # the correlations are the same in all draws of the targets alone
            u, live = np.ascontiguousarray(u_all[:, columns]), np.isfinite(r)
            top_units += np.matmul(u, np.where(live, r, 0.0).transpose(0, 2, 1))
            if live.all():
                count_units += u.sum(axis=1)[:, None]
            else:
                count_units += np.matmul(u, live.astype(np.float64).transpose(0, 2, 1))
    means = divide(top, count).transpose(0, 1, 3, 2)
    return Means(
        means[0, :, -1:],
        None if weights is None else means[0, :, :-1],
        None if u_all is None else divide(top_units, count_units),
        means[1, :, :-1] if kinds == 2 else None,
    )


class _Cells:
    """Cells of one `observed`, centred batch by batch, and the stimuli of each part."""

    def __init__(
        self,
        observed: np.ndarray,
        predicted: Sequence[np.ndarray],
        halves: np.ndarray | None,
        fold: np.ndarray | None,
    ):
        self.observed, self.predicted = np.asarray(observed), [np.asarray(p) for p in predicted]
        n = len(self.observed)
        for p in self.predicted:
            if p.ndim != 2 or p.shape != self.observed.shape:
                raise ValueError(
                    f"observed {self.observed.shape} and predicted {p.shape} must be "
                    "(stimulus, target)"
                )
        halves = np.zeros((0, n), bool) if halves is None else np.asarray(halves, dtype=bool)
        self.groups = np.zeros(n, dtype=np.intp)
        if fold is not None:
            self.groups = np.unique(fold, return_inverse=True)[1].astype(np.intp)
        self.place, self.offset = _members(_parts(halves, n), self.groups)

    def batches(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(columns, x (stimulus, target), which vary, y (cell, stimulus, target), which vary)."""
        n, n_targets = self.observed.shape
        step = TARGETS * max(1, _HELD // max(1, n * len(self.predicted) * TARGETS))
        for start in range(0, n_targets, step):
            columns = slice(start, start + step)
            x, alive_x = _centred(self.observed[None, :, columns], self.groups)
            y, alive_y = _centred(np.stack([p[:, columns] for p in self.predicted]), self.groups)
            yield columns, x[0], alive_x[0], y, alive_y

    def weigh(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the members (member, draw); one over those of each group, 0 for none."""
        w = np.ascontiguousarray(weights.T[self.place])
        total = np.empty((len(self.offset), self.offset.shape[1] - 1, w.shape[1]))
        for p, offset in enumerate(self.offset):
            for g in range(len(offset) - 1):
                total[p, g] = w[offset[g] : offset[g + 1]].sum(axis=0)
        return w, np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)


def divide(top: np.ndarray, count: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    return np.divide(top, count, out=np.full_like(top, np.nan), where=count > 0)


def _parts(halves: np.ndarray, n: int) -> np.ndarray:
    """All stimuli, then both halves of each split: (part, stimulus) bool."""
    both = np.stack([halves, ~halves], axis=1).reshape(-1, n)
    return np.concatenate([np.ones((1, n), dtype=bool), both])


def _members(parts: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stimuli of each part, by group, one part after the other; where each part's groups start."""
    n_groups = int(groups.max(initial=0)) + 1
    place: list[np.ndarray] = []
    offset = np.zeros((len(parts), n_groups + 1), dtype=np.intp)
    end = 0
    for p, part in enumerate(parts):
        for g in range(n_groups):
            place.append(np.flatnonzero(part & (groups == g)))
            offset[p, g] = end
            end += len(place[-1])
        offset[p, n_groups] = end
    return np.concatenate(place), offset


def _centred(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns centred within groups (cell, stimulus, target), and which of them vary.

    Columns that do not are set to 0.
    """
    values = np.array(values, dtype=np.float64)
    alive = np.empty((len(values), values.shape[2]), dtype=np.bool_)
    centre(values, groups, int(groups.max(initial=0)) + 1, alive)
    return values, alive
