"""Voxel-wise encoding: each voxel predicted from a layer's units by ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import resample, ridge, ridge_cv
from rsacompare.metrics.evidence import Meaning, Metric, TargetEvidence
from rsacompare.schema import labels

SELECT = ("kfold", "gcv")
_MIN_TRAIN = 4  # stimuli: two folds of two
_MIN_TEST = 3  # a correlation over two is ±1
_KEPT = 16  # sets of hat matrices per layer


@dataclass
class _Layer:
    """A layer's features, and the hat matrices made from them so far (read-only for users)."""

    stimulus_id: np.ndarray
    values: np.ndarray
    where: str
    hats: dict[Any, ridge.Hats] = field(default_factory=dict)


@dataclass(frozen=True)
class _Means:
    """Repetition means of one part of the responses, sorted by stimulus."""

    stimulus_id: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    n_repetitions: np.ndarray


@dataclass(frozen=True)
class _Brain:
    """Responses of one subject; without a split `train` is None and `test` holds everything."""

    train: _Means | None
    test: _Means
    where: str


class Encoding(Metric):
    """Correlation between observed and predicted responses, mean over voxels.

    Per voxel a ridge regression on the units of a layer, with its own penalty. Everything is
    learnt from training stimuli: mean and sd of each unit (one that never varies becomes 0), the
    voxel's mean, alpha, weights. Test: the mean over the repetitions of each test stimulus.

    Training presentations of one stimulus are averaged and **each stimulus counts once**, however
    often it was shown. With m presentations of each this equals a ridge on single presentations
    with penalty m · alpha; with unequal numbers it does not, but subjects who saw the same
    stimuli share all work on the features.

    Without a `split` the predictions are cross-validated over stimuli (`n_folds`, fewer when a
    fold would hold less than two stimuli); everything above, the choice of alpha included,
    happens within the training part of each fold, and the evidence says which fold is which.
    Per voxel the predictions of each fold are then divided by the shrinkage of that fold (sd of
    the fitted over sd of the observed training responses): it follows alpha, which the responses
    of the other folds chose, and pooling folds of unlike shrinkage biases correlations below
    zero even when they are centred within folds (60 stimuli of noise, 5 folds: mean r -0.07).

    Parameters
    ----------
    alphas : sequence of float, optional
        Penalties to choose from, ``||y - Xb||² + alpha ||b||²`` with standardised units.
        Default: 10 values from 10⁻³ to 10⁵ times the number of units that vary over the
        training stimuli, which is where the best one lies for any noise level in practice
        (:func:`rsacompare.kernels.ridge.default_alphas`).
    n_folds : int
        Of the outer cross-validation where the responses have no split.
    select : {"kfold", "gcv"}
        How alpha is chosen: K-fold cross-validation over training stimuli, or generalised
        cross-validation (faster; chooses like leave-one-out, not always like K-fold).
    n_inner_folds : int
        Of the K-fold choice; fewer when a fold would hold less than two stimuli (three for
        `correlation`).
    criterion : {"r2", "correlation"}
        What the K-fold choice maximises. r2 (default): the held-out squared error is smallest;
        it stays defined in small folds. correlation: mean over folds of the held-out
        correlation, as Wen et al. (2018).
    random_state : int, optional
        Of the folds; None is 0 unless `rsacompare.compare` sets its own.

    Raises
    ------
    ProtocolError
        An option that does not exist or makes no sense.

    Notes
    -----
    Naselaris et al. (2011); Wen et al. (2018), FACTS 6.1. Units keep their own standard
    deviation here; there is no PCA, which for ridge on all components changes nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import rsacompare as rc
    >>> rng = np.random.default_rng(0)
    >>> ids = [f"s{i:02d}" for i in range(40)]
    >>> units = rng.standard_normal((40, 5))
    >>> voxels = units @ rng.standard_normal((5, 3)) + 0.1 * rng.standard_normal((40, 3))
    >>> layer = rc.activations({"net": {"l1": units}}, stimulus_id=ids)["net/l1"]["activation"]
    >>> brain = rc.responses({"s1": voxels}, stimulus_id=ids)["s1"]["response"]
    >>> metric = Encoding(random_state=0)
    >>> evidence = metric.compare(metric.prepare_activation(layer), metric.prepare_response(brain))
    >>> bool(evidence.score() > 0.98)
    True
    """

    name = "encoding"
    meaning = Meaning(
        label="voxel-wise encoding",
        sentence=(
            "Each voxel's response was predicted from all units of a layer by ridge regression, "
            "with the penalty chosen per voxel by cross-validation over training stimuli; the "
            "score is the correlation between predicted and observed responses to held-out "
            "stimuli, averaged over voxels."
        ),
        ceiling=(
            "Per voxel, from the variance across repetitions of the test stimuli: the "
            "correlation that a perfect prediction of the voxel's signal would reach, "
            "averaged over voxels."
        ),
        citations=(
            "Naselaris T, Kay KN, Nishimoto S, Gallant JL (2011). Encoding and decoding in fMRI. "
            "NeuroImage 56, 400-410.",
            "Wen H, Shi J, Chen W, Liu Z (2018). Deep residual network predicts cortical "
            "representation and organization of visual features for rapid categorization. "
            "Scientific Reports 8, 3752.",
            "Lage-Castellanos A, Valente G, Formisano E, De Martino F (2019). Methods for "
            "computing the maximum performance of computational models of fMRI responses. "
            "PLoS Computational Biology 15, e1006397.",
        ),
    )
    accepts = frozenset({"activation", "response"})
    voxelwise = True

    def __init__(
        self,
        alphas: Sequence[float] | None = None,
        n_folds: int = 5,
        select: str = "kfold",
        n_inner_folds: int = 5,
        criterion: str = "r2",
        random_state: int | None = None,
    ):
        if select not in SELECT:
            raise ProtocolError(plugins.unknown("way to select alpha", select, SELECT))
        if criterion not in ridge_cv.CRITERIA:
            raise ProtocolError(plugins.unknown("criterion", criterion, ridge_cv.CRITERIA))
        for option, value in (("n_folds", n_folds), ("n_inner_folds", n_inner_folds)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise ProtocolError(
                    f"encoding: {option} must be a whole number from 2, got {value!r}"
                )
        if alphas is not None:
            try:
                alphas = [float(a) for a in alphas]
            except (TypeError, ValueError):
                alphas = []
            if not alphas or not all(0 < a < np.inf for a in alphas):
                raise ProtocolError(
                    "encoding: alphas must be a list of positive numbers, for instance "
                    "[1, 10, 100, 1000]; leave it out for a grid that fits the layer"
                )
        self.alphas = alphas
        self.n_folds = n_folds
        self.select = select
        self.n_inner_folds = n_inner_folds
        self.criterion = criterion
        self.random_state = random_state

    def prepare_activation(self, activation: xr.DataArray) -> _Layer:
        where = "activation" if activation.name is None else str(activation.name)
        values = np.asarray(activation.values, dtype=np.float64)
        labels.require_finite(values, where)
        ids = labels.as_stimulus_ids(activation["stimulus_id"].values, where, unique=True)
        return _Layer(ids, values, where)

    def prepare_response(self, response: xr.DataArray) -> _Brain:
        where = "responses" + "".join(
            f" of {response.attrs[key]}" if key == "subject" else f", ROI {response.attrs[key]}"
            for key in ("subject", "roi")
            if key in response.attrs
        )
        labels.require_finite(np.asarray(response.values), where)
        if "split" not in response.coords or not (response["split"].values != "").any():
            return _Brain(None, _Means(*labels.average_repetitions(response)), where)
        for split in ("train", "test"):
            if not (response["split"].values == split).any():
                raise DataError(
                    f"{where}: there is a split, but no presentation in '{split}'; encoding learns "
                    "from 'train' and is scored on 'test'. Give both, or leave the split out to "
                    "cross-validate over stimuli"
                )
        train, test = (
            _Means(*labels.average_repetitions(response, split)) for split in ("train", "test")
        )
        shared = np.intersect1d(train.stimulus_id, test.stimulus_id)
        if shared.size:
            raise DataError(
                f"{where}: {shared.size} stimuli are both in 'train' and 'test' "
                f"({labels.listed(list(shared))}); a prediction would be scored on what it was "
                "fitted to. Give each stimulus one split"
            )
        return _Brain(train, test, where)

    def compare(self, activation: _Layer, response: _Brain) -> TargetEvidence:
        test = response.test
        fold = None
        if test.stimulus_id.size < _MIN_TEST:
            raise DataError(
                f"{response.where}: encoding is scored over at least {_MIN_TEST} test stimuli, "
                f"there are {test.stimulus_id.size}; add test stimuli"
            )
        if response.train is not None:
            predicted = self._predict(activation, response.train, test.stimulus_id, response.where)
        else:
            n = test.stimulus_id.size
            fold = resample.folds(
                test.stimulus_id, max(2, min(self.n_folds, n // 2)), self.random_state or 0
            )
            predicted = np.empty_like(test.mean)
            for label in np.unique(fold):
                inside, held = fold != label, fold == label
                train = _Means(
                    test.stimulus_id[inside],
                    test.mean[inside],
                    test.variance[inside],
                    test.n_repetitions[inside],
                )
                predicted[held] = self._predict(
                    activation, train, test.stimulus_id[held], response.where, unshrunk=True
                )
        return TargetEvidence(
            stimulus_id=test.stimulus_id,
            observed=test.mean,
            predicted=predicted,
            fold=fold,
            sources=("stimuli",),
            noise_variance=test.variance,
            n_repetitions=test.n_repetitions,
            noisy="observed",
        )

    def _predict(
        self,
        layer: _Layer,
        train: _Means,
        wanted: np.ndarray,
        where: str,
        unshrunk: bool = False,
    ) -> np.ndarray:
        """Predictions for the `wanted` stimuli; `unshrunk`: divided by the voxel's shrinkage."""
        hats = self._hats(layer, train.stimulus_id, wanted, where)
        if self.select == "gcv":
            chosen = ridge_cv.choose(ridge_cv.gcv_scores(hats, train.mean))
        elif self.criterion == "r2":
            chosen = ridge_cv.choose_r2(hats, train.mean)
        else:
            chosen = ridge_cv.choose(ridge_cv.kfold_scores(hats, train.mean, self.criterion))
        predicted = ridge.predict(hats, train.mean, chosen)
        if unshrunk:
            fitted = ridge.fitted_sd(hats, train.mean, chosen)
            live = fitted > 0
            factor = np.where(live, train.mean.std(axis=0) / np.where(live, fitted, 1.0), 1.0)
            centre = train.mean.mean(axis=0)
            predicted = np.where(live, centre + (predicted - centre) * factor, predicted)
        return predicted

    def _hats(self, layer: _Layer, train: np.ndarray, wanted: np.ndarray, where: str) -> ridge.Hats:
        """Hat matrices of one training set, shared by all subjects who saw these stimuli.

        Both label arrays come sorted, so the row order of the responses does not matter. Threads
        that need the same set at the same moment may each make it: the results are equal, and
        waiting would not be faster.
        """
        smallest = 2 if self.criterion == "r2" else 3
        least = _MIN_TRAIN if self.select == "gcv" else max(_MIN_TRAIN, 2 * smallest)
        n = train.size
        if n < least:
            raise DataError(
                f"{where}: {n} stimuli to train on, encoding needs at least {least} to choose "
                "alpha by cross-validation; give more training stimuli (without a split: more "
                "stimuli), or leave encoding out for these data"
            )
        key = (self.random_state or 0, "\n".join(train), "\n".join(wanted))
        known = layer.hats.get(key)
        if known is not None:
            return known
        rows = [
            labels.index_of(ids, layer.stimulus_id, where, layer.where) for ids in (train, wanted)
        ]
        x, evaluate = ridge.standardise(layer.values[rows[0]], layer.values[rows[1]])
        n_live = int(x.any(axis=0).sum())
        alphas = ridge.default_alphas(n_live) if self.alphas is None else self.alphas
        fold = None
        if self.select == "kfold":
            fold = resample.folds(
                train, min(self.n_inner_folds, n // smallest), self.random_state or 0
            )
        hats = ridge.build_hats(x, evaluate, alphas, fold, single=self.criterion == "r2")
        for oldest in list(layer.hats)[: -max(_KEPT, 2 * self.n_folds)]:
            layer.hats.pop(oldest, None)
        return layer.hats.setdefault(key, hats)
