"""Linear decoding: each unit of a layer predicted from the voxels of a region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import gram, resample
from rsacompare.metrics.evidence import Meaning, Metric, TargetEvidence
from rsacompare.schema import labels

HORIKAWA_N_VOXELS = {"LVC": 1000, "HVC": 1000, "VC": 1000, "*": 500}
FEWEST_TRAINING_STIMULI = 3


@dataclass(frozen=True)
class _Activation:
    """One layer: values (stimulus, unit) and their labels."""

    stimulus_id: np.ndarray
    values: np.ndarray
    where: str


@dataclass(frozen=True)
class _Part:
    """One training and the presentations it predicts."""

    training: gram.Training
    train_id: np.ndarray
    test_id: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class _Response:
    """One subject and region: one part for a train/test split, or one per fold."""

    parts: tuple[_Part, ...]
    stimulus_id: np.ndarray
    fold: np.ndarray | None
    where: str


class Decoding(Metric):
    """Correlation between a unit's true and decoded activation over test stimuli, mean over units.

    Per unit: the voxels of the largest |Pearson r| over training presentations, ordinary least
    squares with an intercept on them, predictions of the test presentations averaged over the
    repetitions of each stimulus (Horikawa & Kamitani 2017 in the quick form that Yu et al. 2018
    used; FACTS section 3). Normalisation, selection and weights come from training presentations
    only.

    Parameters
    ----------
    n_voxels : int or {roi: int}, optional
        How many voxels a unit takes, of all where the region has no more. A table may name
        regions, with ``"*"`` for all others; by default 1000 in LVC, HVC and VC, else 500.
    n_folds : int
        Without a split, cross-validation over stimuli in so many folds, at most one per two
        stimuli (predictions are centred within folds, and one stimulus alone says nothing).
    random_state : int, optional
        Of the folds.

    Raises
    ------
    ProtocolError
        An option that makes no sense.

    Examples
    --------
    >>> Decoding(n_voxels={"V1": 100, "*": 300}).config()
    {'n_folds': 5, 'n_voxels': {'V1': 100, '*': 300}, 'random_state': None}
    """

    name = "decoding"
    meaning = Meaning(
        label="linear decoding",
        sentence=(
            "Each unit's activation was predicted from the voxels that correlate most with it, "
            "by ordinary least squares fitted to training stimuli; the score is the correlation "
            "of predicted with true activation over test stimuli, averaged over units."
        ),
        ceiling=(
            "Square root of the reliability of the decoded activations, from how much they vary "
            "between repetitions of a stimulus: the score that this decoder would reach if its "
            "predictions were right but for that noise. It does not bound a better decoder."
        ),
        citations=(
            "Horikawa, T. & Kamitani, Y. (2017). Generic decoding of seen and imagined objects "
            "using hierarchical visual features. Nature Communications 8, 15037.",
            "Yu, Lu, Hasson, Norman & Pillow (2018). Conference on Cognitive Computational "
            "Neuroscience.",
        ),
    )
    accepts = frozenset({"activation", "response"})

    def __init__(
        self,
        n_voxels: int | Mapping[str, int] | None = None,
        n_folds: int = 5,
        random_state: int | None = None,
    ):
        table = HORIKAWA_N_VOXELS if n_voxels is None else n_voxels
        self.n_voxels = dict(table) if isinstance(table, Mapping) else table
        self.n_folds = n_folds
        self.random_state = random_state
        counts = self.n_voxels.values() if isinstance(self.n_voxels, dict) else [self.n_voxels]
        if not counts or not all(_is_count(count, 1) for count in counts):
            raise ProtocolError(
                f"decoding: n_voxels must be a whole number from 1, or a table of them per ROI, "
                f"got {n_voxels!r}"
            )
        if not _is_count(n_folds, 2):
            raise ProtocolError(f"decoding: n_folds must be a whole number from 2, got {n_folds!r}")

    def prepare_activation(self, activation: xr.DataArray) -> _Activation:
        name = "/".join(
            str(activation.attrs[k]) for k in ("network", "layer") if k in activation.attrs
        )
        where = f"activations of {name}" if name else "activations"
        values = activation.transpose("stimulus_id", "neuroid").values
        labels.require_finite(values, where)
        return _Activation(activation["stimulus_id"].values.astype(str), values, where)

    def prepare_response(self, response: xr.DataArray) -> _Response:
        """Work of one subject and ROI: standardised training rows and their Gram matrix.

        Raises
        ------
        DataError
            No or too few training stimuli; a stimulus in both training and test; NaN.
        """
        where = "responses" + "".join(
            f" {word} {response.attrs[key]}"
            for key, word in (("subject", "of"), ("roi", "in"))
            if response.attrs.get(key)
        )
        rows = response.transpose("presentation", "neuroid").values.astype(np.float64)
        ids = response["stimulus_id"].values.astype(str)
        split = response["split"].values if "split" in response.coords else np.full(len(ids), "")
        used = split != "imagery"
        rows, ids, split = rows[used], ids[used], split[used]
        labels.require_finite(rows, where)
        n_voxels = self._n_voxels(str(response.attrs.get("roi", "")), where)
        if (split == "").all():
            return self._folds(rows, ids, n_voxels, where)
        train, test = split == "train", split == "test"
        if not test.any():
            raise DataError(f"{where}: no presentation is marked 'test'; decoding scores those")
        n_train = len(np.unique(ids[train]))
        if n_train < FEWEST_TRAINING_STIMULI:
            raise DataError(
                f"{where}: {n_train} stimuli are marked 'train', decoding needs at least "
                f"{FEWEST_TRAINING_STIMULI}; mark more, or leave out the split to cross-validate"
            )
        both = np.intersect1d(ids[train], ids[test])
        if both.size:
            raise DataError(
                f"{where}: {both.size} stimuli are in both training and test "
                f"({labels.listed(both.tolist())}): the score would not be one of new stimuli; "
                "give each stimulus one split"
            )
        part = _Part(gram.train(rows[train], n_voxels), ids[train], ids[test], rows[test])
        return _Response((part,), np.unique(ids[test]), None, where)

    def compare(self, activation: _Activation, response: _Response) -> TargetEvidence:
        """Evidence over the test stimuli, or over all of them when cross-validated."""
        predicted, shown = [], []
        for part in response.parts:
            row = labels.index_of(
                part.train_id, activation.stimulus_id, response.where, activation.where
            )
            predicted.append(gram.predict(part.training, activation.values[row], part.test))
            shown.append(part.test_id)
        ids, mean, variance, count = labels.group_rows(
            np.concatenate(predicted), np.concatenate(shown)
        )
        row = labels.index_of(ids, activation.stimulus_id, response.where, activation.where)
        return TargetEvidence(
            stimulus_id=ids,
            observed=activation.values[row].astype(np.float64),
            predicted=mean,
            fold=response.fold,
            sources=("stimuli", "units"),
            noise_variance=variance,
            n_repetitions=count,
            noisy="predicted",
        )

    def _n_voxels(self, roi: str, where: str) -> int:
        if not isinstance(self.n_voxels, dict):
            return self.n_voxels
        if roi not in self.n_voxels and "*" not in self.n_voxels:
            raise ProtocolError(
                f"decoding: n_voxels names {', '.join(self.n_voxels)} but not the ROI of {where}; "
                "add it, or '*' for all others"
            )
        return self.n_voxels.get(roi, self.n_voxels.get("*", 0))

    def _folds(self, rows: np.ndarray, ids: np.ndarray, n_voxels: int, where: str) -> _Response:
        unique, place = np.unique(ids, return_inverse=True)
        if len(unique) < 2 * FEWEST_TRAINING_STIMULI:
            raise DataError(
                f"{where}: {len(unique)} stimuli and no split; to train and test on different "
                f"ones decoding needs at least {2 * FEWEST_TRAINING_STIMULI} stimuli"
            )
        n_folds = min(self.n_folds, len(unique) // 2)
        fold = resample.folds(unique, n_folds, self.random_state)  # type: ignore[arg-type]
        of_row = fold[place]
        parts = []
        for label, training in gram.train_folds(rows, of_row, n_voxels).items():
            held = of_row == label
            parts.append(_Part(training, ids[~held], ids[held], rows[held]))
        return _Response(tuple(parts), unique, fold, where)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
