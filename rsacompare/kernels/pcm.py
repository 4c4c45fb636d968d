"""Pattern component modelling: the likelihood of patterns under a second moment.

Each of P channels is one draw of y ~ N(0, σ² (ρ G / g + I)) over the n stimuli, their mean taken
out (restricted likelihood: n - 1 contrasts), G a model's second moment with mean eigenvalue g.
Diedrichsen, Yokoi & Arbuckle 2018.
"""

from __future__ import annotations

import numpy as np

_LOG_RATIO = np.linspace(-14.0, 14.0, 57)  # of signal to noise, searched


def spectrum(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, of mean 1, and eigenvectors of a Gram among contrasts of the stimuli.

    Parameters
    ----------
    g : (stimulus, stimulus)

    Returns
    -------
    values : (contrast,)
        n - 1 of them, from 0; all 0 for a model without any structure.
    vectors : (stimulus, contrast)
        Orthonormal, each of sum 0.
    """
    n = len(g)
    rows = np.arange(1, n)
    contrasts = np.tril(np.ones((n - 1, n)), 0)
    contrasts[rows - 1, rows] = -rows
    contrasts /= np.sqrt(rows * (rows + 1.0))[:, None]
    values, vectors = np.linalg.eigh(contrasts @ g @ contrasts.T)
    values = np.maximum(values, 0.0)
    mean = values.mean()
    tiny = 1e-12 * np.abs(np.diag(g)).max()
    return (values / mean if mean > tiny else np.zeros(n - 1)), contrasts.T @ vectors


def energy(
    vectors: np.ndarray, data: np.ndarray, permutations: np.ndarray | None = None
) -> np.ndarray:
    """Squared length of the data along each eigenvector: ([perm,] contrast).

    Parameters
    ----------
    vectors : (stimulus, contrast)
    data : (stimulus, dimension)
        The patterns, or any coordinates with their Gram.
    permutations : (perm, stimulus), optional
        The model's stimuli re-indexed.
    """
    if permutations is None:
        return ((data.T @ vectors) ** 2).sum(axis=0)
    out = np.empty((len(permutations), vectors.shape[1]))
    for order, row in zip(permutations, out, strict=True):
        row[:] = ((data.T @ vectors[order]) ** 2).sum(axis=0)
    return out


def gain(
    values: np.ndarray, found: np.ndarray, channels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-likelihood per channel above that of unrelated stimuli, at its best ratio.

    Parameters
    ----------
    values : (contrast,)
        Eigenvalues of the model.
    found : (..., contrast)
        From `energy`.
    channels : int

    Returns
    -------
    gain : (...)
        In nats, from 0: a ratio of 0 is the model of unrelated stimuli.
    ratio, noise : (...)
        The fitted ρ and σ². NaN where the data do not vary.

    Notes
    -----
    Given ρ the best σ² is the mean of u_k / (1 + ρ λ_k) over contrasts and channels; ρ is searched
    on a grid of its logarithm, then by halving until the slope is 0.
    """
    found = np.asarray(found, dtype=np.float64)
    lead = found.shape[:-1]
    u = found.reshape(-1, found.shape[-1])
    m = u.shape[1]

    def above(log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        share = np.exp(log_ratio)[:, None] * values
        scale = 1 + share
        parts = u / scale
        total = parts.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = -0.5 * (m * np.log(total / (m * channels)) + np.log(scale).sum(axis=1))
            share /= scale
            slope = m * (parts * share).sum(axis=1) / total - share.sum(axis=1)
        return value, slope, total / (m * channels)

    null_noise = u.sum(axis=1) / (m * channels)
    with np.errstate(divide="ignore"):
        null = -0.5 * m * np.log(null_noise)
    grid = np.stack([above(np.full(len(u), t))[0] for t in _LOG_RATIO])
    best = _LOG_RATIO[np.argmax(grid, axis=0)]
    step = _LOG_RATIO[1] - _LOG_RATIO[0]
    low, high = best - step, best + step
    for _ in range(55):
        middle = (low + high) / 2
        rising = above(middle)[1] > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    middle = (low + high) / 2
    value, _, noise = above(middle)
    with np.errstate(invalid="ignore"):
        more = value - null
    useful = more > 0
    alive = null_noise > 0
    out = [
        np.where(useful, more, 0.0),
        np.where(useful, np.exp(middle), 0.0),
        np.where(useful, noise, null_noise),
    ]
    made = [np.where(alive, x, np.nan).reshape(lead) for x in out]
    return made[0], made[1], made[2]


def contributions(
    values: np.ndarray,
    vectors: np.ndarray,
    data: np.ndarray,
    channels: int,
    ratio: float,
    noise: float,
) -> np.ndarray:
    """The gain as a sum over stimuli that can be weighed: (stimulus,).

    Parameters
    ----------
    values, vectors
        From `spectrum`.
    data : (stimulus, dimension)
        Centred patterns, or any coordinates with their Gram.
    channels : int
    ratio, noise : float
        From `gain`.

    Notes
    -----
    The influence of stimulus i on the fitted log-likelihood is what is lost without it, the
    density of y_i given all other patterns: with Q = V⁻¹ over the contrasts, a normal of mean
    y_i - (Q y)_i / Q_ii and variance 1 / Q_ii. Its excess over the same of unrelated stimuli,
    around its mean, plus an equal share of the gain: the linear (jackknife) bootstrap. Shares of a
    log-likelihood as they stand (of log det V and tr V⁻¹ Y Y') make standard errors a third too
    small, since they leave out that stimuli inform about one another.
    """
    n = len(vectors)
    scale = noise * (1 + ratio * values)
    found = vectors.T @ data
    square = (found**2).sum(axis=1)
    null = square.sum() / ((n - 1) * channels)
    gained = -0.5 * (
        np.log(scale / null).sum() + (square * (1 / scale - 1 / null)).sum() / channels
    )
    precision = (vectors**2) @ (1 / scale)
    residual = (((vectors / scale) @ found) ** 2).sum(axis=1) / precision
    null_residual = (data**2).sum(axis=1) / (null * (1 - 1 / n))
    lost = 0.5 * (np.log(precision) - (residual - null_residual) / channels)
    return gained / n + lost - lost.mean()
