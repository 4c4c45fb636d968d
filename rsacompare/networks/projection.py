"""Fewer dimensions than units: sparse random projections, and principal components by blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse


def sparse_projection(n_units: int, n_dimensions: int, rng: np.random.Generator) -> Any:
    """A very sparse random projection (Li, Hastie & Church 2006), as scikit-learn scales it.

    Each entry is 0 but for a share 1/sqrt(n_units) of them, which are +-sqrt(density * k)^-1:
    squared distances are kept in expectation.

    Returns
    -------
    (dimension, unit) sparse float32
    """
    density = 1 / np.sqrt(n_units)
    counts = rng.binomial(n_units, density, size=n_dimensions)
    columns = [np.sort(rng.choice(n_units, count, replace=False)) for count in counts]
    signs = 2 * rng.integers(2, size=int(counts.sum())) - 1
    values = (signs / np.sqrt(density * n_dimensions)).astype(np.float32)
    pointers = np.r_[0, np.cumsum(counts)]
    return scipy.sparse.csr_array(
        (values, np.concatenate(columns), pointers), shape=(n_dimensions, n_units)
    )


@dataclass(frozen=True)
class Components:
    """Scores (stimulus, component), variance share of each, and constant units passed by."""

    scores: np.ndarray
    ratio: np.ndarray
    n_constant: int


def principal_components(
    blocks: Callable[[], Iterator[np.ndarray]], n_stimuli: int, number: float, fit: np.ndarray
) -> Components:
    """Principal components of a layer of any width, from its stimulus x stimulus Gram matrix.

    Parameters
    ----------
    blocks : callable
        Gives the layer as (stimulus, unit) blocks of units, one after the other.
    n_stimuli : int
    number : float
        Below 1 the share of the variance to be exceeded, as in scikit-learn; else how many.
    fit : (stimulus,) int
        Rows that the components (and means) are fitted on; the others are projected.

    Returns
    -------
    Components
        Signs are such that the score with the largest magnitude among `fit` is positive.
    """
    gram = np.zeros((n_stimuli, len(fit)))
    n_constant = 0
    for block in blocks():
        n_constant += int(np.count_nonzero(block.max(axis=0) == block.min(axis=0)))
        values = block.astype(np.float64)
        values -= values[fit].mean(axis=0)
        gram += values @ values[fit].T
    variance, vectors = np.linalg.eigh(gram[fit])
    variance, vectors = variance[::-1], vectors[:, ::-1]
    floor = max(variance[0], 0) * len(fit) * np.finfo(np.float64).eps
    live = int(np.count_nonzero(variance > floor))  # the mean takes one, copies take more
    ratio = variance[:live] / variance[:live].sum()
    if number < 1:
        # the same rule as scikit-learn: the first number of components that exceeds the share
        count = int(np.searchsorted(np.cumsum(ratio), number, side="right")) + 1
    else:
        count = int(number)
    count = min(count, live)
    scores = gram @ vectors[:, :count] / np.sqrt(variance[:count])
    largest = np.abs(scores[fit]).argmax(axis=0) if count else np.empty(0, dtype=int)
    scores *= np.sign(scores[fit][largest, np.arange(count)])
    return Components(scores, ratio[:count], n_constant)
