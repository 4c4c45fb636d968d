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
    product = x @ x.T
    square = np.diag(product)
    distance = square[:, None] + square[None] - 2 * product
    return np.maximum(_upper(distance), 0.0) / x.shape[1]


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
