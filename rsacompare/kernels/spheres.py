"""Searchlights: the voxels around each voxel, and the dissimilarities that they hold."""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

DISTANCES = ("correlation", "euclidean")


def neighbours(
    position: np.ndarray, centre: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which voxels lie within a radius of each centre.

    Parameters
    ----------
    position : (voxel, 3)
        In mm, of the voxels that there are: a sphere at the edge of a mask holds fewer.
    centre : (sphere, 3)
    radius : float
        In mm; a voxel at just this distance is in.

    Returns
    -------
    index : (total,) int
        Voxels of all spheres, one sphere after another, each in ascending order.
    start : (sphere + 1,) int
        Where each sphere begins.
    """
    found = cKDTree(position).query_ball_point(centre, radius * (1 + 1e-9), return_sorted=True)
    counts = np.array([len(f) for f in found], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(counts)])
    index = np.concatenate([np.asarray(f, dtype=np.int64) for f in found]) if len(found) else start
    return index[: start[-1]].astype(np.int64), start


def dissimilarities(
    patterns: np.ndarray, index: np.ndarray, start: np.ndarray, distance: str, fewest: int
) -> np.ndarray:
    """The RDM of each sphere.

    Parameters
    ----------
    patterns : (stimulus, voxel)
    index, start
        From `neighbours`.
    distance : {"correlation", "euclidean"}
        As in `kernels.dissimilarity`.
    fewest : int
        Spheres of fewer voxels are NaN; so are those where a pattern is constant (correlation).

    Returns
    -------
    (sphere, pair)

    Raises
    ------
    ValueError
        Another distance.
    """
    if distance not in DISTANCES:
        raise ValueError(f"no searchlight for '{distance}'; there are {', '.join(DISTANCES)}")
    x = np.ascontiguousarray(np.asarray(patterns, dtype=np.float64).T)
    return _rdms(x, index, start, distance == "correlation", fewest)


@njit(nogil=True, cache=True)
def _unit(held: np.ndarray) -> bool:
    """Centre each column of (voxel, stimulus) and scale it to length 1; False if one is constant.

    Row by row: columns lie far apart in memory.
    """
    v, n = held.shape
    mean, largest = np.zeros(n), np.zeros(n)
    square, spread = np.zeros(n), np.zeros(n)
    for k in range(v):
        for i in range(n):
            mean[i] += held[k, i]
            largest[i] = max(largest[i], abs(held[k, i]))
    for i in range(n):
        mean[i] /= v
    for k in range(v):
        for i in range(n):
            held[k, i] -= mean[i]
            square[i] += held[k, i] * held[k, i]
            spread[i] = max(spread[i], abs(held[k, i]))
    for i in range(n):
        if not spread[i] > 1e-13 * largest[i]:
            return False
        square[i] = 1 / np.sqrt(square[i])
    for k in range(v):
        for i in range(n):
            held[k, i] *= square[i]
    return True


def ranks(rdms: np.ndarray) -> np.ndarray:
    """Average ranks of each row of (rdm, pair), from 1: correlated, they give Spearman's rho."""
    return _ranks(rdms, np.argsort(rdms, axis=1))


@njit(nogil=True, cache=True)
def _ranks(rdms: np.ndarray, order: np.ndarray) -> np.ndarray:
    out = np.empty_like(rdms)
    for s in range(len(rdms)):
        row, place = rdms[s], order[s]
        q = 0
        while q < len(place):
            end = q + 1
            while end < len(place) and row[place[end]] == row[place[q]]:
                end += 1
            for k in range(q, end):
                out[s, place[k]] = (q + end + 1) / 2
            q = end
    return out


@njit(nogil=True, cache=True)
def _rdms(
    x: np.ndarray, index: np.ndarray, start: np.ndarray, correlation: bool, fewest: int
) -> np.ndarray:
    n = x.shape[1]
    n_spheres = len(start) - 1
    out = np.full((n_spheres, n * (n - 1) // 2), np.nan)
    for s in range(n_spheres):
        v = start[s + 1] - start[s]
        if v < max(fewest, 2 if correlation else 1):
            continue
        held = np.empty((v, n))
        for k in range(v):
            held[k] = x[index[start[s] + k]]
        if correlation:
            if not _unit(held):
                continue
        else:
            for k in range(v):
                held[k] -= held[k].mean()
        product = held.T @ held
        q = 0
        for i in range(n):
            for j in range(i + 1, n):
                if correlation:
                    out[s, q] = 1 - min(max(product[i, j], -1.0), 1.0)
                else:
                    out[s, q] = max(product[i, i] + product[j, j] - 2 * product[i, j], 0.0) / v
                q += 1
    return out
