"""Ranks under weights, as if the copies stood in the vector.

Ranks are kept doubled and centred, 2 * rank - (number of values + 1): under whole-number weights
they are whole numbers and exact, ties included.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def presort(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort each row once for all draws.

    Parameters
    ----------
    x : (row, value)

    Returns
    -------
    order : (row, value) int32
        Places in ascending order.
    last : (row, value) bool
        Along that order, whether the next value is larger: the end of a run of ties.
    dense : (row, value) int32
        Number of the run of ties to which each value belongs, from 0.
    """
    order = np.argsort(x, axis=1, kind="stable")
    ordered = np.take_along_axis(x, order, axis=1)
    last = np.ones(x.shape, dtype=bool)
    last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    dense = np.empty(x.shape, dtype=np.int32)
    np.put_along_axis(dense, order, np.cumsum(last, axis=1) - last, axis=1)
    return order.astype(np.int32), last, dense


@njit(nogil=True, cache=True)
def any_ties(last: np.ndarray) -> np.ndarray:
    """Which rows hold ties."""
    tied = np.empty(len(last), np.bool_)
    for v in range(len(last)):
        tied[v] = not last[v].all()
    return tied


@njit(nogil=True, cache=True)
def weighted_ranks(
    order: np.ndarray,
    last: np.ndarray,
    weight: np.ndarray,
    slot: np.ndarray,
    total: float,
    tied: bool,
    ranks: np.ndarray,
) -> None:
    """Doubled centred average ranks: what stands below, twice, plus the own run, minus `total`.

    Value k has ``weight[slot[k]]`` and its rank goes to ``ranks[slot[k]]``; values without weight
    share a slot that nobody reads.
    """
    below, upto, start = 0.0, 0.0, 0
    if not tied:  # the same, three times faster
        for q in range(len(order)):
            place = slot[order[q]]
            upto = below + weight[place]
            ranks[place] = below + upto - total
            below = upto
        return
    for q in range(len(order)):
        upto += weight[slot[order[q]]]
        if last[q]:
            rank = below + upto - total
            for r in range(start, q + 1):
                ranks[slot[order[r]]] = rank
            below = upto
            start = q + 1


@njit(nogil=True, cache=True)
def sort_keys(
    keys: np.ndarray,
    whole: bool,
    order: np.ndarray,
    spare: np.ndarray,
    digits: np.ndarray,
) -> None:
    """Sort places by their keys, stable with respect to the `order` handed in (and changed).

    Keys are multiplicity-weighted sums of doubled ranks: whole numbers (`whole`) are sorted by
    digits, exactly; others by comparison.
    """
    n = len(order)
    if not whole:
        permuted = np.argsort(keys[order], kind="mergesort")
        spare[:n] = order
        for q in range(n):
            order[q] = spare[permuted[q]]
        return
    low, high = keys[0], keys[0]
    for q in range(n):
        low = min(low, keys[q])
        high = max(high, keys[q])
    for q in range(n):
        digits[q] = np.int64(keys[q] - low)
    count = np.empty(513, np.int64)
    shift, rest = 0, np.int64(high - low)
    while rest > 0:
        count[:] = 0
        for q in range(n):
            count[((digits[q] >> shift) & 511) + 1] += 1
        for c in range(512):
            count[c + 1] += count[c]
        for q in range(n):
            digit = (digits[order[q]] >> shift) & 511
            spare[count[digit]] = order[q]
            count[digit] += 1
        order[:] = spare[:n]
        shift += 9
        rest >>= 9
