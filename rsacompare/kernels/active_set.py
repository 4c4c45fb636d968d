"""The linear system of sparse Bayesian regression, over the features that are still active."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from rsacompare.kernels.cholesky import inverse_factor_in_place
from rsacompare.kernels.gram import gather

COMPACT = 0.8  # a block is copied together once pruning leaves less of its width


@dataclass(frozen=True)
class Sparse:
    """Weights of one target.

    Attributes
    ----------
    weights : (feature,)
        Zero for features that were pruned.
    active : (kept,) int
        The features that were not.
    noise : float
        Estimated variance of the residual.
    """

    weights: np.ndarray
    active: np.ndarray
    noise: float


class ActiveSet:
    """The features that are still active, and what is left of their Gram matrix."""

    def __init__(
        self,
        gram: np.ndarray,
        cross: np.ndarray,
        n_rows: int,
        n_iter: int,
        rows: tuple[np.ndarray, np.ndarray] | None,
    ):
        m = len(cross)
        if gram.shape != (m, m) or n_rows < 1 or n_iter < 1:
            raise ValueError(
                f"gram {gram.shape} and cross {cross.shape} of {n_rows} rows, {n_iter} iterations"
            )
        self.block, self.rows = gram, rows
        self.cross = np.asarray(cross, dtype=np.float64)
        self.active = self.place = np.arange(m)  # among all features, and in `block`

    def solve(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights D B⁻¹ D Xy and 1 − diag(B⁻¹), with B = I + D XX' D."""
        if self.rows is not None and len(d) > len(self.rows[1]):
            return self._solve_rows(d)
        if len(self.active) < COMPACT * len(self.block):
            work = np.empty((len(self.active), len(self.active)))
            gather(self.block, self.place, work)
            self.block, self.place = work, np.arange(len(self.active))
        b = np.empty((len(d), len(d)))
        _scaled(self.block, self.place, d, b)
        if not inverse_factor_in_place(b):
            raise ValueError("the Gram matrix of the features is not positive semi-definite")
        return _from_factor(b, d, self.cross)

    def _solve_rows(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self.rows is not None
        z, y = self.rows
        scaled = z[:, self.active] * d
        c = scaled @ scaled.T
        c.flat[:: len(c) + 1] += 1.0
        if not inverse_factor_in_place(c):
            raise ValueError("the features' rows are not finite")
        u = np.triu(c)
        v = u.T @ scaled
        return d * (v.T @ (u.T @ y)), (v * v).sum(axis=0)

    def keep(self, keep: np.ndarray) -> None:
        self.active, self.place, self.cross = (
            a[keep] for a in (self.active, self.place, self.cross)
        )

    def result(self, w: np.ndarray, noise: float, m: int) -> Sparse:
        out = np.zeros(m)
        out[self.active] = w
        return Sparse(out, self.active, noise)


@njit(nogil=True, cache=True)
def _scaled(gram: np.ndarray, place: np.ndarray, d: np.ndarray, out: np.ndarray) -> None:
    """Upper triangle of I + D G D over the features at `place`."""
    for i in range(len(place)):
        row, scale = place[i], d[i]
        for j in range(i, len(place)):
            out[i, j] = scale * d[j] * gram[row, place[j]]
        out[i, i] += 1.0


@njit(nogil=True, cache=True)
def _from_factor(u: np.ndarray, d: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D B⁻¹ D h and 1 − diag(B⁻¹), with B⁻¹ = UU' (U upper triangular)."""
    m = len(d)
    v = np.zeros(m)
    for i in range(m):
        g = d[i] * h[i]
        for j in range(i, m):
            v[j] += u[i, j] * g
    w = np.empty(m)
    effective = np.empty(m)
    for i in range(m):
        total, size = 0.0, 0.0
        for j in range(i, m):
            total += u[i, j] * v[j]
            size += u[i, j] * u[i, j]
        w[i] = d[i] * total
        effective[i] = 1.0 - size
    return w, effective
