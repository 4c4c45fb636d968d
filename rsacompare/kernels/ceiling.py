"""Noise ceilings of RDM comparators, under multiplicities of stimuli and subjects."""

from __future__ import annotations

import numpy as np
from numba import njit

from rsacompare.kernels.kendall import inversions, tau, tie_square
from rsacompare.kernels.pairs import (
    KINDS,
    checked_rdms,
    checked_weights,
    drop_unused,
    features,
    fill_slots,
    live_pairs,
    n_stimuli,
)
from rsacompare.kernels.ranks import any_ties, presort, sort_keys, weighted_ranks

_RANK_KINDS = {"spearman": 0, "rho-a": 1, "tau-a": 2, "kendall": 3, "tau-b": 3}


def noise_ceiling(
    rdms: np.ndarray,
    comparator: str,
    weights: np.ndarray | None = None,
    subject_weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """How well subjects' RDMs are predicted by the pool of the others, and of all.

    Parameters
    ----------
    rdms : (subject, pair)
    comparator : str
        A name of `correlate.COMPARATORS`.
    weights : (draw, stimulus), optional
        Multiplicities of the stimuli.
    subject_weights : (draw, subject), optional
        Multiplicities of the subjects: the pool is weighted by them, and "the others" leave out
        every copy of a subject.

    Returns
    -------
    low, high : (subject,), or (draw, subject) under weights
        Per subject; the ceiling is the mean over subjects, weighted by `subject_weights`. NaN
        where a subject has no weight, `low` also where nobody else has, and where an RDM of the
        pool has no variance.

    Raises
    ------
    ValueError
        Shapes that do not fit; NaN; an unknown comparator.

    Notes
    -----
    Nili et al. 2014, Schütt et al. 2023; FACTS 7.2. Pooling is that of rsatoolbox: RDMs are
    averaged after division by their root mean square (cosine), z-scoring (corr) or ranking (rank
    correlations; for tau this is only near the optimum). The whitened comparators pool like the
    plain ones.
    """
    if comparator not in KINDS and comparator not in _RANK_KINDS:
        known = ", ".join(sorted({*KINDS, *_RANK_KINDS}))
        raise ValueError(f"unknown comparator '{comparator}'; there are {known}")
    rdms = checked_rdms(rdms, "rdms")
    w = checked_weights(weights, n_stimuli(rdms.shape[1]))
    s = checked_weights(subject_weights, len(rdms), "subject")
    if weights is not None and subject_weights is not None and len(w) != len(s):
        raise ValueError(f"{len(w)} draws of stimuli but {len(s)} of subjects")
    w, rdms = drop_unused(w, rdms)
    if comparator in _RANK_KINDS:
        low, high = _by_ranks(rdms, comparator, w, s)
    else:
        low, high = _by_products(rdms, comparator, w, s)
    if weights is None and subject_weights is None:
        return low[0], high[0]
    return low, high


def _by_products(
    rdms: np.ndarray, kind: str, w: np.ndarray, s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The inner products of subjects with subjects hold both ceilings."""
    n = len(rdms)
    product = np.empty((len(w), n, n))
    for block, z in features(rdms, w, kind, pooling=True):
        np.matmul(z, z.transpose(0, 2, 1), out=product[block])
    # a subject who is not drawn must not make the others NaN
    drawn = s > 0
    product = np.where(drawn[:, :, None] & drawn[:, None, :], product, 0.0)
    own = np.sqrt(np.diagonal(product, axis1=1, axis2=2))
    others = s[:, None, :] * (1 - np.eye(n))  # (draw, subject left out, subject)
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = np.matmul(others, product)
        norm = np.einsum("dts,dts->dt", pooled, others)
        # a pool whose members cancel each other is rounding
        norm[norm <= 1e-12 * np.einsum("dts,dss->dt", others**2, product)] = np.nan
        low = np.diagonal(pooled, axis1=1, axis2=2) / (own * np.sqrt(norm))
        pooled_all = np.einsum("ds,dst->dt", s, product)
        norm_all = np.einsum("ds,ds->d", s, pooled_all)
        norm_all[norm_all <= 1e-12 * np.einsum("ds,dss->d", s**2, product)] = np.nan
        high = pooled_all / (own * np.sqrt(norm_all)[:, None])
    drawn = np.broadcast_to(drawn, low.shape)
    return (
        np.clip(np.where(drawn, low, np.nan), -1, 1),
        np.clip(np.where(drawn, high, np.nan), -1, 1),
    )


def _by_ranks(
    rdms: np.ndarray, comparator: str, w: np.ndarray, s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    low = np.empty((max(len(w), len(s)), len(rdms)))
    high = np.empty_like(low)
    whole = bool((w == np.rint(w)).all() and (s == np.rint(s)).all())
    order, last, _ = presort(rdms)
    _rank_ceiling(order, last, w, s, _RANK_KINDS[comparator], whole, low, high)
    return np.clip(low, -1, 1), np.clip(high, -1, 1)


@njit(nogil=True, cache=True)
def _rank_ceiling(
    order: np.ndarray,
    last: np.ndarray,
    weights: np.ndarray,
    subject_weights: np.ndarray,
    kind: int,
    whole: bool,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    n_subjects, m = order.shape
    live, pair = np.empty(weights.shape[1], np.intp), np.empty(m, np.int32)
    weight, slot = np.empty(m + 1), np.empty(m, np.int32)
    ranks, tied = np.empty((n_subjects, m + 1)), any_ties(last)
    # each subject's live pairs in ascending order: where sorting starts, so that it breaks ties
    first = np.empty((n_subjects, m), np.int32)
    for i in range(n_subjects):
        first[i] = np.arange(m)
    low[:], high[:] = np.nan, np.nan
    for d in range(len(low)):
        w = weights[d if len(weights) > 1 else 0]
        s = subject_weights[d if len(subject_weights) > 1 else 0]
        if d == 0 or len(weights) > 1:  # subject draws alone leave the ranks as they are
            n_live, count = live_pairs(w, live, pair, weight)
            total = fill_slots(pair, weight, count, slot)
            for i in range(n_subjects):
                weighted_ranks(order[i], last[i], weight, slot, total, tied[i], ranks[i])
                q = 0
                for k in range(m if kind >= 2 else 0):
                    place = slot[order[i, k]]
                    if place < count:
                        first[i, q] = place
                        q += 1
        if n_live < 3:
            continue
        pool, rest = np.zeros(count), np.empty(count)
        for i in range(n_subjects):
            if s[i] > 0:
                pool += s[i] * ranks[i, :count]
        n_drawn = (s > 0).sum()
        pool_last = np.empty(count, np.bool_)
        pool_ranks, by_pool = np.empty(count), first[0, :count].copy()
        if kind < 2:
            _rank(pool, weight[:count], total, whole, by_pool, pool_last, pool_ranks)
        for i in range(n_subjects):
            if not s[i] > 0:
                continue
            mine, p = ranks[i, :count], weight[:count]
            if kind >= 2:
                by_pool[:] = first[i, :count]
                _rank(pool, p, total, whole, by_pool, pool_last, pool_ranks)
            high[d, i] = _compare(pool_ranks, by_pool, pool_last, mine, first[i], p, total, kind)
            if n_drawn > 1:
                for q in range(count):
                    rest[q] = pool[q] - s[i] * mine[q]
                by_rest = first[i, :count].copy()
                last_rest, rest_ranks = np.empty(count, np.bool_), np.empty(count)
                _rank(rest, p, total, whole, by_rest, last_rest, rest_ranks)
                low[d, i] = _compare(rest_ranks, by_rest, last_rest, mine, first[i], p, total, kind)


@njit(nogil=True, cache=True)
def _rank(
    keys: np.ndarray,
    weight: np.ndarray,
    total: float,
    whole: bool,
    order: np.ndarray,
    last: np.ndarray,
    ranks: np.ndarray,
) -> None:
    """Sort `order` by the keys and give their weighted ranks."""
    n = len(keys)
    sort_keys(keys, whole, order, np.empty(n, np.int32), np.empty(n, np.int64))
    tied = False
    for q in range(n - 1):
        last[q] = keys[order[q]] != keys[order[q + 1]]
        tied |= not last[q]
    last[n - 1] = True
    weighted_ranks(order, last, weight, np.arange(n), total, tied, ranks)


@njit(nogil=True, cache=True)
def _compare(
    pool: np.ndarray,
    by_pool: np.ndarray,
    last: np.ndarray,
    mine: np.ndarray,
    by_mine: np.ndarray,
    weight: np.ndarray,
    total: float,
    kind: int,
) -> float:
    """Comparator of two vectors of doubled centred ranks; `by_pool` breaks ties by `mine`."""
    n = len(pool)
    if kind < 2:
        xx, yy, xy = 0.0, 0.0, 0.0
        for q in range(n):
            xx += weight[q] * pool[q] * pool[q]
            yy += weight[q] * mine[q] * mine[q]
            xy += weight[q] * pool[q] * mine[q]
        if not (xx > 0 and yy > 0):
            return np.nan
        return xy / np.sqrt(xx * yy) if kind == 0 else 3 * xy / (total**3 - total)
    values, moved = np.empty(n), np.empty(n)
    mine_last, both_last = np.empty(n, np.bool_), np.empty(n, np.bool_)
    for q in range(n):
        values[q], moved[q] = mine[by_pool[q]], weight[by_pool[q]]
        mine_last[q] = q == n - 1 or mine[by_mine[q]] != mine[by_mine[q + 1]]
    for q in range(n):
        both_last[q] = last[q] or values[q] != values[q + 1]
    return tau(
        total,
        tie_square(by_pool, last, weight),
        tie_square(by_mine[:n], mine_last, weight),
        tie_square(by_pool, both_last, weight),
        inversions(values, moved),
        kind == 3,
    )
