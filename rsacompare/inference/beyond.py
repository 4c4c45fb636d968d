"""Whether the network that a contrast finds closer is itself beyond chance.

A score that lies above 0 for unrelated patterns (plain CKA, Procrustes, cosine of distances that
are all positive) lies there by how much depends on the network's dimensions. Of two networks which
both have nothing to do with the brain, one can then differ from the other for certain, and its
interval says so truthfully: the difference is there, and means nothing. DESIGN section 10 gives
the verdict to p_fwer alone; here it is tightened: a network is *named* closer only if its own score
is also beyond the permutation null, in that row and corrected over the rows.
"""

from __future__ import annotations

import numpy as np

from rsacompare.inference.contrast import Row
from rsacompare.inference.family import Family
from rsacompare.inference.permutation import standardised


def own_null(
    family: Family, row: Row, difference: float, mean: np.ndarray, null: np.ndarray
) -> tuple[float, np.ndarray]:
    """The closer network's statistic in a row and its null, standardised: z, (permutation,).

    Its side of the row's weighting of layers, applied to observed scores and to every permutation
    alike; for the best layer, where weights are chosen by the data, the largest standardised score
    over all its layers.

    Parameters
    ----------
    family, row
    difference : float
        a − b; its sign says which is closer.
    mean : (roi, layer)
    null : (permutation, roi, layer)

    Returns
    -------
    z, z_null
        NaN where there is no difference, or no null that varies.
    """
    r = family.rois.index(row.roi)
    nothing = np.nan, np.full(len(null), np.nan)
    if not np.isfinite(difference) or difference == 0:
        return nothing
    closer = row.a if family.better * difference > 0 else row.b
    own = np.flatnonzero((family.network == closer) & (row.weights != 0))
    if row.pairing == "best":
        z, z_null = standardised(mean[r, own], null[:, r, own], family.better)
        if not np.isfinite(z).any():
            return nothing
        # the maximum over layers has a null of its own, which is not that of one layer
        highest, score = np.fmax.reduce(z_null, axis=1), np.fmax.reduce(z)
        return _scalar(*standardised(score, highest))
    weights = np.abs(row.weights[own])
    return _scalar(*standardised(mean[r, own] @ weights, null[:, r, own] @ weights, family.better))


def _scalar(z: np.ndarray, z_null: np.ndarray) -> tuple[float, np.ndarray]:
    return float(z), z_null


def p_beyond(
    family: Family,
    rows: list[Row],
    differences: list[float],
    mean: np.ndarray,
    null: np.ndarray,
) -> np.ndarray:
    """P that the closer network of each row is by chance where it is: (row,).

    One-sided in the metric's direction, corrected by the maximum over the closer networks of all
    `rows` (those of one metric and pairing), (1 + #{maximum ≥ own}) / (permutations + 1). NaN where
    the null says nothing.
    """
    if not rows:
        return np.empty(0)
    found = [own_null(family, row, d, mean, null) for row, d in zip(rows, differences, strict=True)]
    z, z_null = np.array([f[0] for f in found]), np.stack([f[1] for f in found], axis=1)
    highest = np.fmax.reduce(z_null, axis=1)
    p = (1 + (highest[:, None] >= z - 1e-12).sum(axis=0)) / (len(null) + 1)
    return np.where(np.isfinite(z), p, np.nan)


def ruled(
    verdict: str, closer: str, p: float, n_permutations: int, alpha: float, pair: str
) -> tuple[str, str]:
    """The verdict after the rule, and a note on it: withheld, or why the rule does not apply.

    Parameters
    ----------
    verdict : {"a", "b", "equivalent", "undecided"}
        By p_fwer.
    closer : str
        The network it names.
    p : float
        Of :func:`p_beyond`.
    n_permutations : int
    alpha : float
    pair : str
        `a − b`.

    Examples
    --------
    >>> ruled("a", "x", 0.4, 999, 0.05, "x − y")
    ('undecided', 'x − y differs, but x is not beyond its own null (p = 0.4): not named')
    >>> ruled("a", "x", 0.001, 999, 0.05, "x − y")
    ('a', '')
    """
    if verdict not in ("a", "b"):
        return verdict, ""
    if not np.isfinite(p):
        return verdict, (
            f"{closer} is named by the difference alone: its own null is not defined, or does not "
            "vary"
        )
    if n_permutations + 1 <= 1 / alpha + 1e-9:
        return verdict, (
            f"{closer} is named by the difference alone: {n_permutations} permutations cannot tell "
            f"whether it is beyond its own null (p ≥ {1 / (n_permutations + 1):.2g})"
        )
    if p < alpha:
        return verdict, ""
    return "undecided", (
        f"{pair} differs, but {closer} is not beyond its own null (p = {p:.2g}): not named"
    )
