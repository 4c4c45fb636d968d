"""Ridge regression with a penalty per target, chosen by K-fold or generalised cross-validation.

For each target ``b = argmin ||y - m - X b||² + alpha ||b||²`` with an unpenalised intercept m: the
penalty is added to the sum of squares, not to their mean (as in scikit-learn and himalaya). Both
can be otherwise: ``per_row`` multiplies alpha by the number of rows that are fitted, and without
``intercept`` nothing is centred, as Wen et al. (2018) have it: W = (X'X + alpha·T·I)⁻¹ X'y.

Predictions are linear in y, ``y_eval = H(alpha) y_train``, and the hat matrices H depend on the
features alone. They are built once (:func:`build_hats`, in the primal or the dual, whichever is
smaller) and then serve any number of brains: choosing alphas (`ridge_cv`) is one matrix product
per fold for all alphas and targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh


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
    """What scores all alphas on one held-out fold, from responses centred on its `train` part.

    `merged` (alpha * held, train) is the hat matrix of every alpha; None where the features have
    so few axes that two steps, `spectrum.right` and then `spectrum.shrunk`, are cheaper.
    """

    train: np.ndarray
    held: np.ndarray
    spectrum: Spectrum
    merged: np.ndarray | None
    penalties: np.ndarray


@dataclass(frozen=True)
class Hats:
    """All that ridge needs of the features; see :func:`build_hats`.

    `final` is (alpha, eval, train), for responses centred over all training stimuli: no
    intercept, so that a layer or a voxel that never varies gives exact constants. `penalties` are
    what is added to the sum of squares over all training stimuli: the alphas, or so many times
    them. Without `intercept` responses are not centred anywhere.
    """

    alphas: np.ndarray
    folds: tuple[FoldHats, ...]
    final: np.ndarray
    spectrum: Spectrum
    penalties: np.ndarray
    intercept: bool = True


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
    train: np.ndarray,
    evaluate: np.ndarray,
    alphas: Any,
    fold: np.ndarray | None = None,
    single: bool = True,
    intercept: bool = True,
    per_row: bool = False,
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
        be chosen by `ridge_cv.gcv_scores` only.
    single : bool
        Keep the merged matrices of the folds in single precision: enough for
        `ridge_cv.choose_r2`, which decides in double precision where it matters.
    intercept : bool
        False: neither features nor responses are centred.
    per_row : bool
        True: the penalty is alpha times the number of rows fitted, in each fold its own.

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
            spectrum = _spectrum(train[inside], train[held], own, cross, intercept)
            rows, n, rank = len(alphas) * len(held), len(inside), len(spectrum.power)
            penalties = alphas * n if per_row else alphas
            merged = None
            if rank * (n + rows) >= rows * n:
                merged = spectrum.shrunk(penalties) @ spectrum.right
                merged = merged.astype(np.float32) if single else merged
            folds.append(FoldHats(inside, held, spectrum, merged, penalties))
    spectrum = _spectrum(train, evaluate, gram, None, intercept)
    penalties = alphas * len(train) if per_row else alphas
    final = (spectrum.shrunk(penalties) @ spectrum.right).reshape(
        len(alphas), len(evaluate), len(train)
    )
    return Hats(alphas, tuple(folds), final, spectrum, penalties, intercept)


def _spectrum(
    x: np.ndarray,
    e: np.ndarray,
    gram: np.ndarray | None,
    cross: np.ndarray | None,
    intercept: bool,
) -> Spectrum:
    """Principal axes of the rows of `x`, and the rows of `e` in them.

    Where there are fewer units than rows the axes come from the unit covariance (primal), else
    from the products between stimuli (dual): `gram` (of x) and `cross` (e by x) where known.
    """
    if x.shape[1] < len(x):
        mean = x.mean(axis=0) if intercept else np.zeros(x.shape[1])
        x = x - mean
        power, axes = _eigh(x.T @ x)
        return Spectrum((e - mean) @ axes, power, axes.T @ x.T)
    gram = x @ x.T if gram is None else gram
    cross = e @ x.T if cross is None else cross
    if not intercept:
        power, axes = _eigh(gram)
        return Spectrum(cross @ axes, power, axes.T)
    mean = gram.mean(axis=0)
    power, axes = _eigh(gram - mean - mean[:, None] + mean.mean())
    cross = cross - cross.mean(axis=1, keepdims=True) - mean + mean.mean()
    # K_eval U (power + alpha)^-1 U' y; the axes are kept orthogonal to the constant
    return Spectrum(cross @ axes, power, axes.T - axes.mean(axis=0)[:, None])


def _eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors, without the directions that are zero but for rounding."""
    power, axes = eigh(matrix, check_finite=False)
    keep = power > max(power[-1], 0.0) * len(power) * np.finfo(float).eps
    return power[keep], np.ascontiguousarray(axes[:, keep])


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
    mean = _mean(y) if hats.intercept else np.zeros(y.shape[1])
    y = as_fitted(hats, y)
    out = np.empty((hats.final.shape[1], y.shape[1]))
    for index in np.unique(chosen):
        targets = np.flatnonzero(chosen == index)
        out[:, targets] = hats.final[index] @ y[:, targets]
    return out + mean


def fitted_sd(hats: Hats, y: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Standard deviation (ddof 0) of the fitted values over the training stimuli.

    Without an intercept their root mean square.

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
    y = as_fitted(hats, y)
    power = hats.spectrum.power[:, None]
    fitted = along_axes(hats.spectrum, y) * (power / (power + hats.penalties[chosen]))
    return np.sqrt((fitted**2).sum(axis=0) / len(y))


def noise_gain(hats: Hats, chosen: np.ndarray) -> np.ndarray:
    """Standard deviation over evaluated stimuli of what noise of unit variance would predict.

    The root mean square of the hat matrix, its rows less their mean over the evaluated stimuli: it
    depends on the features and the penalty alone.

    Parameters
    ----------
    hats : Hats
    chosen : (target,) int
        Index into ``hats.alphas``.

    Returns
    -------
    (target,)
        0 where the evaluated stimuli cannot be told apart.
    """
    found = np.zeros(len(hats.alphas))
    for index in np.unique(chosen):
        hat = hats.final[index]
        spread = hat - hat.mean(axis=0)
        if np.abs(spread).max(initial=0.0) > 1e-12 * np.abs(hat).max(initial=0.0):
            found[index] = np.sqrt((spread**2).sum() / len(hat))
    return found[chosen]


def as_fitted(hats: Hats, y: np.ndarray) -> np.ndarray:
    """Responses as these hats take them: centred, or as they are where there is no intercept."""
    return centred(y) if hats.intercept else np.asarray(y, dtype=np.float64)


def along_axes(spectrum: Spectrum, y: np.ndarray) -> np.ndarray:
    """Centred responses along the unit axes of the stimuli: (axis, target)."""
    norms = np.sqrt((spectrum.right**2).sum(axis=1, keepdims=True))
    return (spectrum.right / norms) @ y


def _mean(y: np.ndarray) -> np.ndarray:
    """Mean over stimuli; exactly the value itself for a target that never varies."""
    return np.where(y.max(axis=0) > y.min(axis=0), y.mean(axis=0), y[0])


def centred(y: np.ndarray) -> np.ndarray:
    """Responses (stimulus, target) less their mean; exactly 0 for a target that never varies."""
    y = np.asarray(y, dtype=np.float64)
    return y - _mean(y)
