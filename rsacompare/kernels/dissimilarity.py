"""Dissimilarities of all pairs of stimuli from their patterns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_CONSTANT = 1e-13  # a centred pattern below this share of its largest value is rounding


def constant_patterns(patterns: np.ndarray) -> np.ndarray:
    """Which stimuli have the same value in all channels: their correlation is undefined.

    Parameters
    ----------
    patterns : (stimulus, channel)

    Returns
    -------
    (stimulus,) bool
    """
    patterns = np.asarray(patterns, dtype=np.float64)
    rest = patterns - patterns.mean(axis=1, keepdims=True)
    return np.abs(rest).max(axis=1) <= _CONSTANT * np.abs(patterns).max(axis=1)


def correlation(patterns: np.ndarray) -> np.ndarray:
    """One minus the Pearson correlation of two patterns across channels.

    Parameters
    ----------
    patterns : (stimulus, channel)

    Returns
    -------
    (pair,)
        Row-major upper triangle, from 0 to 2.

    Raises
    ------
    ValueError
        A constant pattern; fewer than two stimuli.

    Notes
    -----
    Kriegeskorte, Mur & Bandettini 2008; FACTS 7. One matrix product of the unit-length rows.

    Examples
    --------
    >>> correlation(np.array([[1.0, 2, 3], [2, 4, 6], [3, 2, 1]])).round(6)
    array([0., 2., 2.])
    """
    x = _checked(patterns)
    flat = np.flatnonzero(constant_patterns(x))
    if len(flat):
        raise ValueError(f"patterns {flat.tolist()} are constant: no correlation with others")
    x = x - x.mean(axis=1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return 1.0 - np.clip(_upper(x @ x.T), -1.0, 1.0)


def euclidean(patterns: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance of two patterns over the number of channels, as in rsatoolbox.

    Parameters
    ----------
    patterns : (stimulus, channel)

    Returns
    -------
    (pair,)
        Row-major upper triangle.

    Raises
    ------
    ValueError
        Fewer than two stimuli.

    Examples
    --------
    >>> euclidean(np.array([[0.0, 0], [3, 4], [0, 0]]))
    array([12.5,  0. , 12.5])
    """
    x = _checked(patterns)
    x = x - x.mean(axis=0)  # distances stay; the squares that cancel get small
    return np.maximum(_upper(_squares(x)), 0.0) / x.shape[1]


def crossvalidated(folds: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance between independent measurements, over the number of channels.

    Parameters
    ----------
    folds : (fold, stimulus, channel)
        The same stimuli measured independently; NaN rows where a fold lacks a stimulus. Patterns
        whitened by the noise covariance give the crossnobis distance.

    Returns
    -------
    (pair,)
        Mean over all ordered pairs of different folds, both of which have both stimuli, of
        (x_ai − x_aj)·(x_bi − x_bj). Unbiased: 0 on average for stimuli that do not differ, hence
        negative about half of the time for these. Never clipped.

    Raises
    ------
    ValueError
        Fewer than two folds; a pair of stimuli that no two folds have in common.

    Notes
    -----
    Walther et al. 2016; FACTS 7. With all stimuli in all folds it is
    (F² D(mean) − Σ_a D(x_a)) / (F (F − 1)), D the plain squared distances: F + 1 matrix products.

    Examples
    --------
    >>> crossvalidated(np.array([[[0.0, 0], [1, 0]], [[0, 0], [1, 5]]]))
    array([0.5])
    """
    x = np.asarray(folds, dtype=np.float64)
    if x.ndim != 3 or len(x) < 2 or x.shape[1] < 2:
        raise ValueError(f"folds must be (fold, stimulus, channel), two or more, got {x.shape}")
    n_folds, n, channels = x.shape
    there = np.isfinite(x.sum(axis=2))
    if there.all():
        x = x - x.mean(axis=(0, 1))
        total = n_folds**2 * _squares(x.mean(axis=0))
        for part in x:
            total -= _squares(part)
        return _upper(total) / (n_folds * (n_folds - 1) * channels)
    x = np.where(there[:, :, None], x, 0.0)
    total = np.zeros((n, n))
    count = np.zeros((n, n))
    for a in range(n_folds):
        for b in range(a):
            both = there[a] & there[b]
            pairs = np.outer(both, both)
            product = x[a] @ x[b].T
            own = np.diag(product)
            total += pairs * (own[:, None] + own[None] - product - product.T)
            count += pairs
    shared = _upper(count)
    lonely = np.flatnonzero(shared == 0)
    if len(lonely):
        i, j = (k[lonely[0]] for k in np.triu_indices(n, 1))
        raise ValueError(f"stimuli {i} and {j} have no two folds in common")
    return _upper(total) / shared / channels


def _squares(x: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances: (stimulus, stimulus)."""
    product = x @ x.T
    square = np.diag(product)
    return square[:, None] + square[None] - 2 * product


DISTANCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "correlation": correlation,
    "euclidean": euclidean,
}
"""Distances by name: ``f(patterns (stimulus, channel)) -> (pair,)``."""


def _checked(patterns: np.ndarray) -> np.ndarray:
    patterns = np.asarray(patterns, dtype=np.float64)
    if patterns.ndim != 2 or patterns.shape[0] < 2 or patterns.shape[1] < 1:
        raise ValueError(
            f"patterns must be (stimulus, channel) of two or more stimuli, got {patterns.shape}"
        )
    return patterns


def _upper(square: np.ndarray) -> np.ndarray:
    return square[np.triu_indices(len(square), 1)]
