"""Choice of the ridge penalty per target: K-fold and generalised cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from rsacompare.kernels.ridge import FoldHats, Hats, along_axes, as_fitted, build_hats, predict

CRITERIA = ("r2", "correlation")
_BLOCK = 512  # targets at a time; a constant, because BLAS sums differ in bits with block size
# bound on the error of single-precision predictions, as a share of their norm: some thirty times
# what is seen (sums of ~1000 products; 6e-8 each)
_SINGLE = 4e-6


def kfold_scores(hats: Hats, y: np.ndarray, criterion: str = "r2") -> np.ndarray:
    """How well each alpha predicts the held-out folds of the training stimuli.

    Parameters
    ----------
    hats : Hats
        Built with folds.
    y : (stimulus, target)
        Responses to the training stimuli.
    criterion : {"r2", "correlation"}
        r2: 1 - (mean over folds of the mean squared error) / (variance over all training
        stimuli), so it chooses the smallest held-out squared error. correlation: mean over folds
        of the correlation within the fold (Wen et al. 2018), 0 where a side does not vary.

    Returns
    -------
    (alpha, target)
        In the order of ``hats.alphas``.

    Raises
    ------
    ValueError
        An unknown criterion; hats without folds.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, got '{criterion}'")
    if not hats.folds:
        raise ValueError("these hats were built without folds")
    y = as_fitted(hats, y)
    n_alphas = len(hats.alphas)
    scores = np.zeros((n_alphas, y.shape[1]))
    for start in range(0, y.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        part, out = y[:, block], scores[:, block]
        for fold in hats.folds:
            inside, held = _fold_responses(hats, fold, part)
            if fold.merged is None or fold.merged.dtype == np.float32:
                predicted = fold.spectrum.shrunk(fold.penalties) @ (fold.spectrum.right @ inside)
            else:
                predicted = fold.merged @ inside
            predicted = predicted.reshape(n_alphas, len(fold.held), -1)
            if criterion == "r2":
                _add_squared_error(predicted, held, out)
            else:
                _add_correlation(predicted, held, out)
    scores /= len(hats.folds)
    if criterion == "r2":
        variance = y.var(axis=0)
        scores = np.where(variance > 0, 1.0 - scores / np.where(variance > 0, variance, 1.0), 0.0)
    return scores


def gcv_scores(hats: Hats, y: np.ndarray) -> np.ndarray:
    """Generalised cross-validation (Golub, Heath & Wahba 1979), as an R².

    ``1 - [RSS / n / (1 - tr H / n)²] / variance``: leave-one-out error with every leverage
    replaced by the mean leverage; no refits, no folds.

    Parameters
    ----------
    hats : Hats
    y : (stimulus, target)

    Returns
    -------
    (alpha, target)
    """
    y = as_fitted(hats, y)
    spectrum, n = hats.spectrum, len(y)
    mean_free = 1 if hats.intercept else 0  # the intercept takes one axis
    along = along_axes(spectrum, y) ** 2
    total = (y**2).sum(axis=0)
    beyond = np.maximum(total - along.sum(axis=0), 0.0)
    if (
        len(spectrum.power) >= n - mean_free
    ):  # nothing lies beyond the axes: what is left is rounding
        beyond = np.zeros_like(total)
    left_over = hats.penalties[:, None] / (spectrum.power + hats.penalties[:, None])
    rss = left_over**2 @ along + beyond
    trace = (
        n - mean_free - len(spectrum.power) + left_over.sum(axis=1)
    )  # of I - H, intercept included
    error = rss / n / (trace[:, None] / n) ** 2
    variance = total / n
    return np.where(variance > 0, 1.0 - error / np.where(variance > 0, variance, 1.0), 0.0)


def choose(scores: np.ndarray) -> np.ndarray:
    """Index of the best alpha per target, (alpha, target) -> (target,); ties: the largest."""
    return len(scores) - 1 - np.argmax(scores[::-1], axis=0)


def choose_r2(hats: Hats, y: np.ndarray) -> np.ndarray:
    """Index of the alpha with the largest `r2` of :func:`kfold_scores`, in half the time.

    All alphas are scored from predictions in single precision; where another alpha comes within
    the error bound of the best, the target is scored again in double precision. The choice is
    that of double precision throughout.

    Parameters
    ----------
    hats : Hats
        Built with folds.
    y : (stimulus, target)

    Returns
    -------
    (target,) int
    """
    single = [f.merged for f in hats.folds if f.merged is not None and f.merged.itemsize == 4]
    if not single or len(single) < len(hats.folds):
        return choose(kfold_scores(hats, y))
    y = as_fitted(hats, y)
    sd = y.std(axis=0) if hats.intercept else np.sqrt((y * y).mean(axis=0))
    y = y / np.where(sd > 0, sd, 1.0)  # without an intercept y is the caller's own
    shape = (len(hats.alphas), y.shape[1])
    norm2, product, observed2 = np.zeros(shape), np.zeros(shape), np.zeros(shape[1])
    for start in range(0, shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        for fold, merged in zip(hats.folds, single, strict=True):
            inside, held = _fold_responses(hats, fold, y[:, block])
            predicted = merged @ inside.astype(np.float32)
            predicted = predicted.reshape(shape[0], len(held), -1)
            _add_products(predicted, held, norm2[:, block], product[:, block])
            observed2[block] += (held * held).mean(axis=0)
    # squared error of each alpha less that of predicting the mean; predictions off by
    # _SINGLE of their norm put it off by at most `slack` (Cauchy-Schwarz)
    gain = norm2 - 2 * product
    slack = 2 * _SINGLE * np.sqrt(norm2) * (np.sqrt(norm2) + np.sqrt(observed2))
    chosen = choose(-gain)
    close = gain - slack <= (gain + slack).min(axis=0)
    again = np.flatnonzero(close.sum(axis=0) > 1)
    if again.size:
        chosen[again] = choose(kfold_scores(hats, y[:, again]))
    return chosen


def _fold_responses(hats: Hats, fold: FoldHats, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Responses of the fold's training part and of its held-out part, less the former's mean."""
    inside = y[fold.train]
    if not hats.intercept:
        return inside, y[fold.held]
    mean = inside.mean(axis=0)
    return inside - mean, y[fold.held] - mean


def ridge_cv(
    train: np.ndarray,
    y: np.ndarray,
    evaluate: np.ndarray,
    alphas: Any,
    fold: np.ndarray | None = None,
    criterion: str = "r2",
    intercept: bool = True,
    per_row: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge in one call: choose an alpha per target and predict.

    Parameters
    ----------
    train : (stimulus, unit)
    y : (stimulus, target)
    evaluate : (eval, unit)
    alphas : (alpha,)
    fold : (stimulus,) int, optional
        K-fold cross-validation over these folds; generalised cross-validation without.
    criterion : {"r2", "correlation"}
        Of the K-fold cross-validation; see :func:`kfold_scores`.
    intercept, per_row : bool
        See :func:`rsacompare.kernels.ridge.build_hats`.

    Returns
    -------
    predicted : (eval, target)
    alpha : (target,)
        The chosen penalties. Many at an end of the grid say that the grid is too narrow.
    scores : (alpha, target)

    Examples
    --------
    >>> x = np.array([[-1.0], [0.0], [1.0], [2.0]])
    >>> predicted, alpha, _ = ridge_cv(x, 3 * x + 1, x[:1], [1e-9, 1.0], np.array([0, 0, 1, 1]))
    >>> predicted.round(6).tolist(), alpha.tolist()
    ([[-2.0]], [1e-09])
    """
    hats = build_hats(train, evaluate, alphas, fold, False, intercept, per_row)
    scores = gcv_scores(hats, y) if fold is None else kfold_scores(hats, y, criterion)
    chosen = choose(scores)
    return predict(hats, y, chosen), hats.alphas[chosen], scores


@njit(nogil=True, cache=True)
def _add_squared_error(predicted: np.ndarray, observed: np.ndarray, out: np.ndarray) -> None:
    n_alphas, n, n_targets = predicted.shape
    for a in range(n_alphas):
        error = np.zeros(n_targets)
        for i in range(n):
            for t in range(n_targets):
                d = observed[i, t] - predicted[a, i, t]
                error[t] += d * d
        for t in range(n_targets):
            out[a, t] += error[t] / n


@njit(nogil=True, cache=True)
def _add_correlation(predicted: np.ndarray, observed: np.ndarray, out: np.ndarray) -> None:
    n_alphas, n, n_targets = predicted.shape
    y_mean = np.zeros(n_targets)
    y_square = np.zeros(n_targets)
    for i in range(n):
        y_mean += observed[i] / n
    for i in range(n):
        y_square += (observed[i] - y_mean) ** 2
    for a in range(n_alphas):
        mean = np.zeros(n_targets)
        square = np.zeros(n_targets)
        product = np.zeros(n_targets)
        for i in range(n):
            mean += predicted[a, i] / n
        for i in range(n):
            for t in range(n_targets):
                d = predicted[a, i, t] - mean[t]
                square[t] += d * d
                product[t] += d * (observed[i, t] - y_mean[t])
        for t in range(n_targets):
            scale = np.sqrt(square[t] * y_square[t])
            if scale > 0:
                out[a, t] += product[t] / scale


@njit(nogil=True, cache=True)
def _add_products(
    predicted: np.ndarray, observed: np.ndarray, norm2: np.ndarray, product: np.ndarray
) -> None:
    n_alphas, n, n_targets = predicted.shape
    for a in range(n_alphas):
        square = np.zeros(n_targets)
        cross = np.zeros(n_targets)
        for i in range(n):
            for t in range(n_targets):
                value = np.float64(predicted[a, i, t])
                square[t] += value * value
                cross[t] += value * observed[i, t]
        for t in range(n_targets):
            norm2[a, t] += square[t] / n
            product[a, t] += cross[t] / n
