"""What encoding makes of a layer and of a brain before it predicts one from the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError
from rsacompare.kernels import components, reliability, resample, ridge
from rsacompare.schema import labels

FEATURES = ("units", "components", "given")
TRANSFORMS = ("none", "log10")
FOLDS = ("random", "contiguous")
PENALTIES = ("sum", "mean")
_LOG_SHIFT = 0.01


@dataclass
class Layer:
    """A layer's features, and the hat matrices made from them so far (read-only for users)."""

    stimulus_id: np.ndarray
    values: np.ndarray
    where: str
    hats: dict[Any, ridge.Hats] = field(default_factory=dict)


@dataclass(frozen=True)
class Means:
    """Repetition means of one part of the responses, sorted by stimulus.

    `block` (stimulus,): where stimuli follow each other in time.
    """

    stimulus_id: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    n_repetitions: np.ndarray
    block: np.ndarray | None = None

    @classmethod
    def of(cls, response: xr.DataArray, split: str | None = None) -> Means:
        """Of the presentations of a split."""
        means = labels.average_repetitions(response, split)
        if "time_block" not in response.coords:
            return cls(*means)
        ids, first = np.unique(response["stimulus_id"].values.astype(str), return_index=True)
        own = first[np.searchsorted(ids, means[0])]
        return cls(*means, response["time_block"].values.astype(str)[own])

    def take(self, rows: np.ndarray) -> Means:
        """Some of the stimuli."""
        return Means(
            self.stimulus_id[rows],
            self.mean[rows],
            self.variance[rows],
            self.n_repetitions[rows],
            None if self.block is None else self.block[rows],
        )


def log_shifted(values: np.ndarray, where: str) -> np.ndarray:
    """log10(x + 0.01), for activations that are not negative.

    Raises
    ------
    DataError
        A value of -0.01 or below.
    """
    if values.min() <= -_LOG_SHIFT:
        raise DataError(
            f"{where}: transform='log10' is for activations after a rectifier; the smallest value "
            f"is {values.min():g}, and log10(x + {_LOG_SHIFT}) needs more than {-_LOG_SHIFT}. "
            "Leave the transform out for this layer, or take the layer after its ReLU"
        )
    return np.log10(values + _LOG_SHIFT)


def make_features(
    train: np.ndarray, other: np.ndarray, features: str, variance: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Predictors of the training and of other stimuli, learnt from the training stimuli alone.

    Returns
    -------
    train : (stimulus, predictor)
    other : (any, predictor)
    power : float
        Variance of the training predictors, added up: the scale of the default penalties.
    """
    if features == "units":
        x, e = ridge.standardise(train, other)
        return x, e, float(max(int(x.any(axis=0).sum()), 1))
    if features == "components":
        held = components.fit_components(train, variance)
        x, e = held.project(train), held.project(other)
    else:
        x, e = np.asarray(train, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return x, e, float(x.var(axis=0).sum()) or 1.0


def folds_of(
    stimulus_id: np.ndarray,
    block: np.ndarray | None,
    n_folds: int,
    how: str,
    random_state: int,
    where: str,
    whole_blocks: bool = True,
) -> np.ndarray:
    """Fold of each stimulus, given in the order of their labels.

    random: stimuli (or whole time blocks) are dealt by the seed. contiguous: neighbours by label
    stay together, in runs of near-equal size; the first ones hold one more where the number of
    folds does not divide that of the stimuli. With `whole_blocks` runs end where a block ends.

    Raises
    ------
    DataError
        Fewer than two time blocks.
    """
    if block is None or (how == "contiguous" and not whole_blocks):
        if how == "contiguous":
            return resample.contiguous_folds(len(stimulus_id), n_folds)
        return resample.folds(stimulus_id, n_folds, random_state)
    names, first, member = np.unique(block, return_index=True, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"{where}: all {len(stimulus_id)} stimuli are of one time block; cross-validation "
            "needs two at least. Make the blocks shorter, or give a split"
        )
    n_folds = min(n_folds, len(names))
    if how == "random":
        return resample.folds(names, n_folds, random_state)[member]
    rank = np.argsort(np.argsort(first))
    return resample.contiguous_folds(len(names), n_folds)[rank][member]


def reliable(train: Means, least: float, where: str) -> np.ndarray:
    """Voxels whose single-repetition reliability over training stimuli is above `least`.

    Raises
    ------
    DataError
        Training stimuli that were shown once.
    """
    found = reliability.single_repetition(train.mean, train.variance, train.n_repetitions)
    if (train.n_repetitions > 1).sum() < 3:
        raise DataError(
            f"{where}: min_reliability is judged on repeated training stimuli, but "
            f"{(train.n_repetitions > 1).sum()} of {len(train.n_repetitions)} were shown more "
            "than once; leave it out, or choose voxels by min_validation"
        )
    with np.errstate(invalid="ignore"):
        return found > least


def listed_alphas(alphas: Sequence[float] | None) -> list[float] | None:
    """Penalties as floats; an empty list stands for what cannot be used."""
    if alphas is None:
        return None
    try:
        made = [float(a) for a in alphas]
    except (TypeError, ValueError):
        return []
    return made if all(0 < a < np.inf for a in made) else []
