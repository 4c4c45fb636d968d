"""Dissimilarities of all pairs of stimuli from their patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

_CONSTANT = 1e-13  # a centred pattern below this share of its largest value is rounding
_BLOCK = 1 << 24  # bytes of a block of channels


def constant_patterns(patterns: np.ndarray) -> np.ndarray:
    """Which stimuli have the same value in all channels: their correlation is undefined.

    Parameters
    ----------
    patterns : (stimulus, channel)

    Returns
    -------
    (stimulus,) bool
    """
    _, spread, largest = _centre(np.asarray(patterns))
    return spread <= _CONSTANT * largest


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
    Kriegeskorte, Mur & Bandettini 2008; FACTS 7. Products of the centred rows, block by block of
    channels: a whole layer of a network is never copied.

    Examples
    --------
    >>> correlation(np.array([[1.0, 2, 3], [2, 4, 6], [3, 2, 1]])).round(6)
    array([0., 2., 2.])
    """
    x = _shaped(patterns)
    mean, spread, largest = _centre(x)
    flat = np.flatnonzero(spread <= _CONSTANT * largest)
    if len(flat):
        raise ValueError(f"patterns {flat.tolist()} are constant: no correlation with others")
    product = np.zeros((len(x), len(x)))
    for block in _blocks(x):
        block -= mean
        block /= spread[:, None]  # squares of very small or large values stay in range
        product += block @ block.T
    length = np.sqrt(np.diag(product))
    return 1.0 - np.clip(_upper(product / length[:, None] / length), -1.0, 1.0)


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


def crossvalidated(folds: np.ndarray, left: np.ndarray | None = None) -> np.ndarray:
    """Squared Euclidean distance between independent measurements, over the number of channels.

    Parameters
    ----------
    folds : (fold, stimulus, channel)
        The same stimuli measured independently; NaN rows where a fold lacks a stimulus. Patterns
        whitened by the noise covariance give the crossnobis distance.
    left : (fold, stimulus, channel), optional
        What stands on the left of the products, for fold a in place of x_a: `x_a Σ_a⁻¹`, where a
        covariance was estimated without that fold. What it holds where a fold lacks a stimulus is
        not read.

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
    if left is not None and np.shape(left) != x.shape:
        raise ValueError(f"left must have the shape of folds, {x.shape}, got {np.shape(left)}")
    if there.all() and left is None:
        x = x - x.mean(axis=(0, 1))
        total = n_folds**2 * _squares(x.mean(axis=0))
        for part in x:
            total -= _squares(part)
        return _upper(total) / (n_folds * (n_folds - 1) * channels)
    x = np.where(there[:, :, None], x, 0.0)
    left = x if left is None else np.where(there[:, :, None], left, 0.0)
    total = np.zeros((n, n))
    count = np.zeros((n, n))
    if there.all():
        left, x = left - left.mean(axis=1, keepdims=True), x - x.mean(axis=1, keepdims=True)
        whole = x.sum(axis=0)
        for one, own in zip(left, x, strict=True):
            total += _crossed(one, whole - own)
        return _upper(total) / (n_folds * (n_folds - 1) * channels)
    for a in range(n_folds):
        for b in range(n_folds):
            if a != b:
                both = there[a] & there[b]
                pairs = np.outer(both, both)
                total += pairs * _crossed(left[a], x[b])
                count += pairs
    shared = _upper(count)
    lonely = np.flatnonzero(shared == 0)
    if len(lonely):
        i, j = (k[lonely[0]] for k in np.triu_indices(n, 1))
        raise ValueError(f"stimuli {i} and {j} have no two folds in common")
    return _upper(total) / shared / channels


def _crossed(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x_i - x_j)·(y_i - y_j): (stimulus, stimulus)."""
    product = x @ y.T
    own = np.diag(product)
    return own[:, None] + own[None] - product - product.T


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
    return _shaped(patterns).astype(np.float64, copy=False)


def _shaped(patterns: np.ndarray) -> np.ndarray:
    patterns = np.asarray(patterns)
    if patterns.ndim != 2 or patterns.shape[0] < 2 or patterns.shape[1] < 1:
        raise ValueError(
            f"patterns must be (stimulus, channel) of two or more stimuli, got {patterns.shape}"
        )
    return patterns


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Copies of a few channels at a time, as float64."""
    step = max(1, _BLOCK // (8 * max(len(x), 1)))
    for start in range(0, x.shape[1], step):
        yield x[:, start : start + step].astype(np.float64)


def _centre(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (stimulus, 1) over channels, largest distance from it, and largest value."""
    mean = sum(block.sum(axis=1, keepdims=True) for block in _blocks(x)) / x.shape[1]
    spread, largest = np.zeros(len(x)), np.zeros(len(x))
    for block in _blocks(x):
        np.maximum(largest, np.abs(block).max(axis=1), out=largest)
        block -= mean
        np.maximum(spread, np.abs(block, out=block).max(axis=1), out=spread)
    return np.asarray(mean), spread, largest


def _upper(square: np.ndarray) -> np.ndarray:
    return square[np.triu_indices(len(square), 1)]
