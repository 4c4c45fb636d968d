"""Ridge regression with a penalty per target, chosen by K-fold or generalised cross-validation.

For each target ``b = argmin ||y - m - X b||² + alpha ||b||²`` with an unpenalised intercept m: the
penalty is added to the sum of squares, not to their mean (as in scikit-learn and himalaya).

Predictions are linear in y, ``y_eval = H(alpha) y_train``, and the hat matrices H depend on the
features alone. They are built once (:func:`build_hats`, in the primal or the dual, whichever is
smaller) and then serve any number of brains: choosing alphas is one matrix product per fold for
all alphas and targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from scipy.linalg import eigh

CRITERIA = ("r2", "correlation")
_BLOCK = 512  # targets at a time; a constant, because BLAS sums differ in bits with block size


@dataclass(frozen=True)
class Spectrum:
    """Features of a training part in their principal axes, so that every alpha is a rescaling.

    ``H(alpha) = left @ diag(1 / (power + alpha)) @ right`` predicts evaluated rows from centred
    responses; `power` (axis,) are the squared singular values of the centred features, and
    `right` (axis, train) their scores (primal) or the same on unit length (dual).
    """

    left: np.ndarray
    power: np.ndarray
    right: np.ndarray

    def shrunk(self, alphas: np.ndarray) -> np.ndarray:
        """The left part for every alpha, stacked: (alpha * eval, axis)."""
        scaled = self.left[None] / (self.power + alphas[:, None])[:, None, :]
        return scaled.reshape(len(alphas) * len(self.left), len(self.power))


@dataclass(frozen=True)
class FoldHats:
    """What scores all alphas on one held-out fold: ``(left @ right) @ y[train]``.

    Where the features have few axes the product is cheaper in two steps; else it is taken once
    and `right` is None. `left` is (alpha * held, axis or train).
    """

    train: np.ndarray
    held: np.ndarray
    left: np.ndarray
    right: np.ndarray | None


@dataclass(frozen=True)
class Hats:
    """All that ridge needs of the features; see :func:`build_hats`.

    `final` is (alpha, eval, train), for responses centred over all training stimuli: no
    intercept, so that a layer or a voxel that never varies gives exact constants.
    """

    alphas: np.ndarray
    folds: tuple[FoldHats, ...]
    final: np.ndarray
    spectrum: Spectrum


def standardise(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Features less their mean over `train`, divided by their sd (ddof 0) over `train`.

    A unit that never varies in `train` becomes 0 everywhere: what it does elsewhere was never
    seen in training.

    Parameters
    ----------
    train : (stimulus, unit)
    *others : (any, unit)

    Returns
    -------
    tuple of ndarray
        `train` and each of the others.
    """
    train = np.asarray(train, dtype=np.float64)
    live = train.max(axis=0) > train.min(axis=0)
    mean, sd = train.mean(axis=0), np.where(live, train.std(axis=0), 1.0)
    # values so small that their square is zero
    live, sd = live & (sd > 0), np.where(sd > 0, sd, 1.0)
    return tuple(np.where(live, (part - mean) / sd, 0.0) for part in (train, *others))


def default_alphas(n_units: int, n_alphas: int = 10) -> np.ndarray:
    """Penalties for `n_units` standardised units: `n_units` times 10**-3 ... 10**5.

    With weights of equal prior variance and a target whose signal has variance s² and noise σ²,
    the best penalty is n_units · σ²/s² whatever the number of stimuli: the grid spans
    noise-to-signal ratios from a thousandth to a hundred thousand.

    Examples
    --------
    >>> default_alphas(100, 3).tolist()
    [0.1, 1000.0, 10000000.0]
    """
    return max(n_units, 1) * np.logspace(-3, 5, n_alphas)


def build_hats(
    train: np.ndarray, evaluate: np.ndarray, alphas: Any, fold: np.ndarray | None = None
) -> Hats:
    """Hat matrices of ridge for every alpha: within each fold, and from all of `train`.

    Parameters
    ----------
    train : (stimulus, unit)
        Standardised features (:func:`standardise`); every fold centres them again on its own
        training part, as an unpenalised intercept does.
    evaluate : (eval, unit)
        Features of the stimuli to predict in the end.
    alphas : (alpha,)
        Positive; kept in ascending order.
    fold : (stimulus,) int, optional
        Held-out fold of each training stimulus. Without it no folds are built, and alphas can
        be chosen by :func:`gcv_scores` only.

    Returns
    -------
    Hats

    Raises
    ------
    ValueError
        Alphas that are not positive and finite; shapes that do not fit; fewer than two folds or
        than two stimuli to train on.
    """
    alphas = np.unique(np.asarray(alphas, dtype=np.float64))
    if alphas.ndim != 1 or not alphas.size or not np.isfinite(alphas).all() or alphas[0] <= 0:
        raise ValueError(f"alphas must be positive numbers, got {alphas}")
    if train.ndim != 2 or evaluate.ndim != 2 or train.shape[1] != evaluate.shape[1]:
        raise ValueError(f"features {train.shape} and {evaluate.shape} must share their units")
    if len(train) < 2:
        raise ValueError(f"ridge needs at least 2 training stimuli, got {len(train)}")
    folds = []
    gram = None
    if fold is not None:
        labels, sizes = np.unique(fold, return_counts=True)
        if len(fold) != len(train) or len(labels) < 2:
            raise ValueError(f"{len(labels)} folds over {len(fold)} of {len(train)} stimuli")
        if train.shape[1] >= len(train) - sizes.max():
            gram = train @ train.T  # the folds take their parts of it
        for label in labels:
            inside, held = np.flatnonzero(fold != label), np.flatnonzero(fold == label)
            cross = None if gram is None else gram[np.ix_(held, inside)]
            own = None if gram is None else gram[np.ix_(inside, inside)]
            spectrum = _spectrum(train[inside], train[held], own, cross)
            folds.append(_fold_hats(spectrum, alphas, inside, held))
    spectrum = _spectrum(train, evaluate, gram, None)
    final = (spectrum.shrunk(alphas) @ spectrum.right).reshape(
        len(alphas), len(evaluate), len(train)
    )
    return Hats(alphas, tuple(folds), final, spectrum)


def _spectrum(
    x: np.ndarray, e: np.ndarray, gram: np.ndarray | None, cross: np.ndarray | None
) -> Spectrum:
    """Principal axes of the rows of `x`, and the rows of `e` in them.

    Where there are fewer units than rows the axes come from the unit covariance (primal), else
    from the products between stimuli (dual): `gram` (of x) and `cross` (e by x) where known.
    """
    if x.shape[1] < len(x):
        mean = x.mean(axis=0)
        centred = x - mean
        power, axes = _eigh(centred.T @ centred)
        return Spectrum((e - mean) @ axes, power, axes.T @ centred.T)
    gram = x @ x.T if gram is None else gram
    cross = e @ x.T if cross is None else cross
    mean = gram.mean(axis=0)
    power, axes = _eigh(gram - mean - mean[:, None] + mean.mean())
    centred = cross - cross.mean(axis=1, keepdims=True) - mean + mean.mean()
    # K_eval U (power + alpha)^-1 U' y; the axes are kept orthogonal to the constant
    return Spectrum(centred @ axes, power, axes.T - axes.mean(axis=0)[:, None])


def _eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors, without the directions that are zero but for rounding."""
    power, axes = eigh(matrix, check_finite=False)
    keep = power > max(power[-1], 0.0) * len(power) * np.finfo(float).eps
    return power[keep], np.ascontiguousarray(axes[:, keep])


def _fold_hats(
    spectrum: Spectrum, alphas: np.ndarray, inside: np.ndarray, held: np.ndarray
) -> FoldHats:
    rank, n, rows = len(spectrum.power), len(inside), len(alphas) * len(held)
    left, right = spectrum.shrunk(alphas), spectrum.right
    if rank * (n + rows) < rows * n:
        # the intercept is one more axis
        left = np.hstack([left, np.ones((rows, 1))])
        right = np.vstack([right, np.full(n, 1.0 / n)])
        return FoldHats(inside, held, left, right)
    hat = left @ right
    hat += 1.0 / n
    return FoldHats(inside, held, hat, None)


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
    y = _centred(y)
    n_alphas = len(hats.alphas)
    scores = np.zeros((n_alphas, y.shape[1]))
    for start in range(0, y.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        part, out = np.ascontiguousarray(y[:, block]), scores[:, block]
        for fold in hats.folds:
            inside = part[fold.train]
            inside = inside if fold.right is None else fold.right @ inside
            predicted = (fold.left @ inside).reshape(n_alphas, len(fold.held), -1)
            if criterion == "r2":
                _add_squared_error(predicted, part[fold.held], out)
            else:
                _add_correlation(predicted, part[fold.held], out)
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
    y = _centred(y)
    spectrum, n = hats.spectrum, len(y)
    along = _along_axes(spectrum, y) ** 2
    total = (y**2).sum(axis=0)
    beyond = np.maximum(total - along.sum(axis=0), 0.0)
    if len(spectrum.power) >= n - 1:  # nothing lies beyond the axes: what is left is rounding
        beyond = np.zeros_like(total)
    left_over = hats.alphas[:, None] / (spectrum.power + hats.alphas[:, None])
    rss = left_over**2 @ along + beyond
    trace = n - 1 - len(spectrum.power) + left_over.sum(axis=1)  # of I - H, intercept included
    error = rss / n / (trace[:, None] / n) ** 2
    variance = total / n
    return np.where(variance > 0, 1.0 - error / np.where(variance > 0, variance, 1.0), 0.0)


def choose(scores: np.ndarray) -> np.ndarray:
    """Index of the best alpha per target, (alpha, target) -> (target,); ties: the largest."""
    return len(scores) - 1 - np.argmax(scores[::-1], axis=0)


def predict(hats: Hats, y: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Predictions from all training stimuli, each target with its own alpha.

    Parameters
    ----------
    hats : Hats
    y : (stimulus, target)
    chosen : (target,) int
        Index into ``hats.alphas``.

    Returns
    -------
    (eval, target)
    """
    mean = _mean(y)
    y = _centred(y)
    out = np.empty((hats.final.shape[1], y.shape[1]))
    for index in np.unique(chosen):
        targets = np.flatnonzero(chosen == index)
        out[:, targets] = hats.final[index] @ y[:, targets]
    return out + mean


def fitted_sd(hats: Hats, y: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Standard deviation (ddof 0) of the fitted values over the training stimuli.

    Parameters
    ----------
    hats : Hats
    y : (stimulus, target)
    chosen : (target,) int
        Index into ``hats.alphas``.

    Returns
    -------
    (target,)
    """
    y = _centred(y)
    power = hats.spectrum.power[:, None]
    fitted = _along_axes(hats.spectrum, y) * (power / (power + hats.alphas[chosen]))
    return np.sqrt((fitted**2).sum(axis=0) / len(y))


def ridge_cv(
    train: np.ndarray,
    y: np.ndarray,
    evaluate: np.ndarray,
    alphas: Any,
    fold: np.ndarray | None = None,
    criterion: str = "r2",
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
    hats = build_hats(train, evaluate, alphas, fold)
    scores = gcv_scores(hats, y) if fold is None else kfold_scores(hats, y, criterion)
    chosen = choose(scores)
    return predict(hats, y, chosen), hats.alphas[chosen], scores


def _along_axes(spectrum: Spectrum, y: np.ndarray) -> np.ndarray:
    """Centred responses along the unit axes of the stimuli: (axis, target)."""
    norms = np.sqrt((spectrum.right**2).sum(axis=1, keepdims=True))
    return (spectrum.right / norms) @ y


def _mean(y: np.ndarray) -> np.ndarray:
    """Mean over stimuli; exactly the value itself for a target that never varies."""
    return np.where(y.max(axis=0) > y.min(axis=0), y.mean(axis=0), y[0])


def _centred(y: np.ndarray) -> np.ndarray:
    y = np.asarray(y, dtype=np.float64)
    return y - _mean(y)


@njit(nogil=True, cache=True)
def _add_squared_error(predicted, observed, out):  # type: ignore[no-untyped-def]
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
def _add_correlation(predicted, observed, out):  # type: ignore[no-untyped-def]
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
