"""Banded ridge: several feature spaces, each with a penalty of its own; and variance partitions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from rsacompare.kernels import ridge, ridge_cv


def simplex_grid(n_spaces: int, n_steps: int = 8) -> np.ndarray:
    """Weights of feature spaces that add up to 1, in steps of ``1 / n_steps``; none is 0.

    Parameters
    ----------
    n_spaces : int
    n_steps : int
        At least `n_spaces`.

    Returns
    -------
    (ratio, space)
        Of two spaces also the extreme ratios 1e-3 and 1e-2 on either side, since spaces of very
        unlike use need them.

    Examples
    --------
    >>> simplex_grid(2, 2).round(3).tolist()
    [[0.001, 0.999], [0.01, 0.99], [0.5, 0.5], [0.99, 0.01], [0.999, 0.001]]
    """
    if n_spaces < 1 or n_steps < n_spaces:
        raise ValueError(f"{n_steps} steps for {n_spaces} feature spaces")
    counts = [c for c in product(range(1, n_steps), repeat=n_spaces) if sum(c) == n_steps]
    grid = np.array(counts if n_spaces > 1 else [[1]], dtype=np.float64)
    grid /= grid.sum(axis=1, keepdims=True)
    if n_spaces == 2:
        ends = np.array([[e, 1 - e] for e in (1e-3, 1e-2)])
        grid = np.concatenate([ends, grid, ends[::-1, ::-1]])
    return grid


def banded_cv(
    spaces: Sequence[np.ndarray],
    y: np.ndarray,
    evaluate: Sequence[np.ndarray],
    alphas: Any,
    fold: np.ndarray,
    ratios: np.ndarray | None = None,
    criterion: str = "r2",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge on several feature spaces: per target the best penalty and the best ratio of spaces.

    With γ on the simplex, features ``[√γ_1 X_1, √γ_2 X_2, …]`` and penalty α, space b has the
    penalty α / γ_b (himalaya's group ridge). Ratios and penalties are tried on a grid.

    Parameters
    ----------
    spaces : sequence of (stimulus, unit_b)
    y : (stimulus, target)
    evaluate : sequence of (eval, unit_b)
    alphas : (alpha,)
    fold : (stimulus,) int
    ratios : (ratio, space), optional
        γ; :func:`simplex_grid` when absent.
    criterion : {"r2", "correlation"}

    Returns
    -------
    predicted : (eval, target)
    alpha : (target,)
    gamma : (target, space)

    Raises
    ------
    ValueError
        Ratios that are negative, do not add up to 1 or do not fit; what `build_hats` refuses.

    Notes
    -----
    Ties go to the earlier ratio and the larger penalty. Nunez-Elizalde et al. (2019) and Dupré la
    Tour et al. (2022) describe the model.
    """
    ratios = simplex_grid(len(spaces)) if ratios is None else np.asarray(ratios, dtype=np.float64)
    if ratios.ndim != 2 or ratios.shape[1] != len(spaces) or len(evaluate) != len(spaces):
        raise ValueError(f"ratios {ratios.shape} and {len(evaluate)} spaces to evaluate must be "
                         f"of {len(spaces)} feature spaces")  # fmt: skip
    if (ratios < 0).any() or not np.allclose(ratios.sum(axis=1), 1):
        raise ValueError("ratios of feature spaces must not be negative and must add up to 1")
    n_targets = y.shape[1]
    best = np.full(n_targets, -np.inf)
    predicted = np.zeros((len(evaluate[0]), n_targets))
    alpha, gamma = np.zeros(n_targets), np.zeros((n_targets, len(spaces)))
    for ratio in ratios:
        root = np.sqrt(ratio)
        x = np.concatenate([r * s for r, s in zip(root, spaces, strict=True)], axis=1)
        e = np.concatenate([r * s for r, s in zip(root, evaluate, strict=True)], axis=1)
        hats = ridge.build_hats(x, e, alphas, fold, single=False)
        scores = ridge_cv.kfold_scores(hats, y, criterion)
        chosen = ridge_cv.choose(scores)
        top = scores[chosen, np.arange(n_targets)]
        won = np.flatnonzero(top > best)
        if won.size:
            best[won] = top[won]
            predicted[:, won] = ridge.predict(hats, y[:, won], chosen[won])
            alpha[won], gamma[won] = hats.alphas[chosen[won]], ratio
    return predicted, alpha, gamma


def r2(
    observed: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """1 − squared error / variance over stimuli, per target, under multiplicities.

    Parameters
    ----------
    observed, predicted : (stimulus, target)
    weights : (draw, stimulus), optional

    Returns
    -------
    (target,), or (draw, target)
        May be negative. NaN for a target that does not vary.
    """
    w = np.ones((1, len(observed))) if weights is None else np.asarray(weights, dtype=np.float64)
    flat = observed.max(axis=0) == observed.min(axis=0)
    centred = observed - observed.mean(axis=0)
    error = w @ (observed - predicted) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (w @ centred) / w.sum(axis=1, keepdims=True)
        total = w @ centred**2 - w.sum(axis=1, keepdims=True) * mean**2
        out = np.where(flat | (total <= 1e-12 * (w @ centred**2)), np.nan, 1 - error / total)
    return out[0] if weights is None else out


PARTS = ("a", "b", "joint", "unique_a", "unique_b", "shared")


def partition(a: np.ndarray, b: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Explained variances of two spaces and of both, split up: (part, ...) as `PARTS` names them.

    unique_a = joint − b, unique_b = joint − a, shared = a + b − joint. By sampling, each may be
    negative.

    Examples
    --------
    >>> partition(np.array(0.5), np.array(0.25), np.array(0.625)).tolist()
    [0.5, 0.25, 0.625, 0.375, 0.125, 0.125]
    """
    return np.stack([a, b, joint, joint - b, joint - a, a + b - joint])
