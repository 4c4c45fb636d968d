"""Voxel-wise encoding: each voxel predicted from a layer's units by ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import ridge, ridge_cv
from rsacompare.metrics import voxels
from rsacompare.metrics.evidence import Meaning, Metric, TargetEvidence
from rsacompare.metrics.normalised import LOWEST_CEILING, NormalisedEvidence
from rsacompare.metrics.voxels import Layer, Means
from rsacompare.schema import labels

SELECT = ("kfold", "gcv")
_MIN_TRAIN = 4  # stimuli: two folds of two
_MIN_TEST = 3  # a correlation over two is ±1
_KEPT = 16  # sets of hat matrices per layer


@dataclass(frozen=True)
class _Brain:
    """Responses of one subject; without a split `train` is None and `test` holds everything."""

    train: Means | None
    test: Means
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
    `criterion="correlation"` is blind to scale and may choose any alpha where there is no signal;
    there predictions are divided by what noise alone would predict in that fold with that alpha,
    which depends on the features only (dividing by the shrinkage left a mean r of +0.015).

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
    features : {"units", "components", "given"}
        units: each standardised over the training stimuli. components: principal components of
        the standardised units that hold more than `variance` of their variance over the training
        stimuli, divided by the root of the number of units (Wen et al.). given: as they are.
    variance : float
        Of the components that are kept.
    transform : {"none", "log10"}
        log10: log10(x + 0.01) of the activations, before all else; an error for a layer with
        values of -0.01 or below. (In the released code of Wen et al. it is in the unit-voxel
        correlations only, not in the encoding path.)
    folds : {"random", "contiguous"}
        How stimuli are dealt into folds: at random, or neighbours by label together, as time
        points must be; near-equal where the number of folds does not divide theirs. With a
        coordinate `time_block` random folds hold whole blocks.
    intercept : bool
        False: nothing is centred; features and responses are taken to have mean 0 (Wen et al.).
    penalty : {"sum", "mean"}
        mean: alpha is multiplied by the number of training stimuli, in each fold by its own:
        ``(X'X + alpha·T·I)⁻¹ X'y`` (Wen et al.).
    min_reliability : float, optional
        Leave out voxels whose reliability over the training stimuli (the expected correlation of
        two single repetitions) is not above this. It is the same for all layers and networks.
    min_validation : float, optional
        Leave out voxels whose mean held-out correlation within the training stimuli is not above
        this. It depends on the layer: layers are then scored on voxels of their own, so that
        differences between networks are better made with `min_reliability`.
    normalise : bool
        Divide each voxel's correlation by its noise ceiling (voxels with a ceiling below 0.1 are
        left out); the score's own ceiling is then 1.
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
    deviation by default; PCA keeps that and leaves out what varies little, and for ridge on all
    components changes nothing. The release of Wen et al. (FACTS 6.1) is ``features="components",
    select="kfold", criterion="correlation", folds="contiguous", penalty="mean", intercept=False,
    n_inner_folds=9`` on responses that have mean 0 (`given` where the features were made from
    frames, see `rsacompare.datasets.frames`).

    Voxels that are left out keep their places with a constant prediction, hence no correlation.
    Without a split they are chosen in each fold by the others' responses; one that is left out in
    some folds counts with a constant prediction there. With `min_validation` noise then scores a
    little below zero (60 stimuli, 5 folds: mean r -0.02 to -0.03), since a voxel is kept in more
    folds where they agree; `min_reliability` has no such bias. All voxels left out: the score is
    NaN.

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
        features: str = "units",
        variance: float = 0.99,
        transform: str = "none",
        folds: str = "random",
        intercept: bool = True,
        penalty: str = "sum",
        min_reliability: float | None = None,
        min_validation: float | None = None,
        normalise: bool = False,
    ):
        for what, value, known in (
            ("way to select alpha", select, SELECT),
            ("criterion", criterion, ridge_cv.CRITERIA),
            ("kind of features", features, voxels.FEATURES),
            ("transform", transform, voxels.TRANSFORMS),
            ("kind of folds", folds, voxels.FOLDS),
            ("kind of penalty", penalty, voxels.PENALTIES),
        ):
            if value not in known:
                raise ProtocolError(plugins.unknown(what, value, known))
        if not 0 < variance <= 1:
            raise ProtocolError(f"encoding: variance must lie in (0, 1], got {variance!r}")
        for name, least in (
            ("min_reliability", min_reliability), ("min_validation", min_validation),
        ):  # fmt: skip
            if least is not None and not -1 <= least < 1:
                raise ProtocolError(f"encoding: {name} must lie in [-1, 1), got {least!r}")
        if min_validation is not None and select == "gcv":
            raise ProtocolError(
                "encoding: min_validation needs held-out stimuli, so select='kfold', not 'gcv'"
            )
        for option, count in (("n_folds", n_folds), ("n_inner_folds", n_inner_folds)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 2:
                raise ProtocolError(
                    f"encoding: {option} must be a whole number from 2, got {count!r}"
                )
        self.alphas = voxels.listed_alphas(alphas)
        if self.alphas is not None and not self.alphas:
            raise ProtocolError(
                "encoding: alphas must be a list of positive numbers, for instance "
                "[1, 10, 100, 1000]; leave it out for a grid that fits the layer"
            )
        self.n_folds = n_folds
        self.select = select
        self.n_inner_folds = n_inner_folds
        self.criterion = criterion
        self.random_state = random_state
        self.features = features
        self.variance = float(variance)
        self.transform = transform
        self.folds = folds
        self.intercept = bool(intercept)
        self.penalty = penalty
        self.min_reliability = min_reliability
        self.min_validation = min_validation
        self.normalise = bool(normalise)
        self.meaning = self._told()

    def config(self) -> dict[str, Any]:
        return {k: v for k, v in super().config().items() if k != "meaning"}

    def _told(self) -> Meaning:
        """What the number means with these options."""
        meaning = type(self).meaning
        said = meaning.sentence
        if self.features == "components":
            said = said.replace(
                "all units of a layer",
                f"the principal components of a layer's units that hold {self.variance:.0%} of "
                "their variance over training stimuli",
            )
        if self.transform == "log10":
            said = said.replace(
                " by ridge regression", " (each unit as log10(x + 0.01)) by ridge regression"
            )
        if self.folds == "contiguous":
            said = said.replace(
                "by cross-validation over", "by cross-validation over contiguous blocks of"
            )
        if self.min_reliability is not None or self.min_validation is not None:
            rules = [
                f"{words} {least:g}"
                for words, least in (
                    ("a reliability above", self.min_reliability),
                    ("a cross-validated correlation above", self.min_validation),
                )
                if least is not None
            ]
            said += f" Only voxels with {' and '.join(rules)} over training stimuli are scored."
        if not self.normalise:
            return replace(meaning, sentence=said)
        bound = 1 / LOWEST_CEILING
        return replace(
            meaning,
            label=f"{meaning.label}, ceiling-normalised",
            unit="correlation r / ceiling",
            minimum=-bound,
            maximum=bound,
            sentence=f"{said} Each voxel's correlation is divided by its noise ceiling; voxels "
            f"with a ceiling below {LOWEST_CEILING:g} are left out.",
            ceiling="1, since each voxel's correlation is divided by its own noise ceiling.",
        )

    def prepare_activation(self, activation: xr.DataArray) -> Layer:
        where = "activation" if activation.name is None else str(activation.name)
        values = np.asarray(activation.values, dtype=np.float64)
        labels.require_finite(values, where)
        if self.transform == "log10":
            network = "/".join(
                str(activation.attrs[k]) for k in ("network", "layer") if k in activation.attrs
            )
            values = voxels.log_shifted(values, network or where)
        ids = labels.as_stimulus_ids(activation["stimulus_id"].values, where, unique=True)
        return Layer(ids, values, where)

    def prepare_response(self, response: xr.DataArray) -> _Brain:
        where = "responses" + "".join(
            f" of {response.attrs[key]}" if key == "subject" else f", ROI {response.attrs[key]}"
            for key in ("subject", "roi")
            if key in response.attrs
        )
        labels.require_finite(np.asarray(response.values), where)
        if "split" not in response.coords or not (response["split"].values != "").any():
            return _Brain(None, Means.of(response), where)
        for split in ("train", "test"):
            if not (response["split"].values == split).any():
                raise DataError(
                    f"{where}: there is a split, but no presentation in '{split}'; encoding learns "
                    "from 'train' and is scored on 'test'. Give both, or leave the split out to "
                    "cross-validate over stimuli"
                )
        train, test = (Means.of(response, split) for split in ("train", "test"))
        shared = np.intersect1d(train.stimulus_id, test.stimulus_id)
        if shared.size:
            raise DataError(
                f"{where}: {shared.size} stimuli are both in 'train' and 'test' "
                f"({labels.listed(list(shared))}); a prediction would be scored on what it was "
                "fitted to. Give each stimulus one split"
            )
        return _Brain(train, test, where)

    def compare(self, activation: Layer, response: _Brain) -> TargetEvidence:
        test = response.test
        fold = None
        if test.stimulus_id.size < _MIN_TEST:
            raise DataError(
                f"{response.where}: encoding is scored over at least {_MIN_TEST} test stimuli, "
                f"there are {test.stimulus_id.size}; add test stimuli"
            )
        if response.train is not None:
            predicted = self._predict(activation, response.train, test, response.where)
        else:
            n = test.stimulus_id.size
            fold = voxels.folds_of(
                test.stimulus_id, test.block, max(2, min(self.n_folds, n // 2)), self.folds,
                self.random_state or 0, response.where,
            )  # fmt: skip
            predicted = np.empty_like(test.mean)
            for label in np.unique(fold):
                held = fold == label
                predicted[held] = self._predict(
                    activation, test.take(~held), test.take(held), response.where, unshrunk=True
                )
        kind = NormalisedEvidence if self.normalise else TargetEvidence
        return kind(
            stimulus_id=test.stimulus_id,
            observed=test.mean,
            predicted=predicted,
            fold=fold,
            sources=("stimuli",),
            noise_variance=test.variance,
            n_repetitions=test.n_repetitions,
            noisy="observed",
            block=test.block,
        )

    def _predict(
        self,
        layer: Layer,
        train: Means,
        wanted: Means,
        where: str,
        unshrunk: bool = False,
    ) -> np.ndarray:
        """Predictions for the `wanted` stimuli; `unshrunk`: divided by the voxel's shrinkage."""
        hats = self._hats(layer, train, wanted.stimulus_id, where)
        held_out = None
        if self.select == "gcv":
            chosen = ridge_cv.choose(ridge_cv.gcv_scores(hats, train.mean))
        elif self.criterion == "r2":
            chosen = ridge_cv.choose_r2(hats, train.mean)
        else:
            held_out = ridge_cv.kfold_scores(hats, train.mean, self.criterion)
            chosen = ridge_cv.choose(held_out)
        predicted = ridge.predict(hats, train.mean, chosen)
        if unshrunk:
            sd = train.mean.std(axis=0)
            if self.select == "kfold" and self.criterion == "correlation":
                scale = ridge.noise_gain(hats, chosen) * sd
            else:
                scale = ridge.fitted_sd(hats, train.mean, chosen)
            live = scale > 0
            factor = np.where(live, sd / np.where(live, scale, 1.0), 1.0)
            centre = train.mean.mean(axis=0)
            predicted = np.where(live, centre + (predicted - centre) * factor, predicted)
        keep = np.ones(predicted.shape[1], dtype=bool)
        if self.min_reliability is not None:
            keep &= voxels.reliable(train, self.min_reliability, where)
        if self.min_validation is not None:
            if held_out is None or self.criterion != "correlation":
                held_out = ridge_cv.kfold_scores(hats, train.mean, "correlation")
            keep &= held_out[chosen, np.arange(len(chosen))] > self.min_validation
        if not keep.all():
            predicted[:, ~keep] = train.mean[:, ~keep].mean(axis=0)
        return predicted

    def _hats(self, layer: Layer, train: Means, wanted: np.ndarray, where: str) -> ridge.Hats:
        """Hat matrices of one training set, shared by all subjects who saw these stimuli.

        Both label arrays come sorted, so the row order of the responses does not matter. Threads
        that need the same set at the same moment may each make it: the results are equal, and
        waiting would not be faster.
        """
        ids = train.stimulus_id
        smallest = 2 if self.criterion == "r2" and self.min_validation is None else 3
        least = _MIN_TRAIN if self.select == "gcv" else max(_MIN_TRAIN, 2 * smallest)
        n = ids.size
        if n < least:
            raise DataError(
                f"{where}: {n} stimuli to train on, encoding needs at least {least} to choose "
                "alpha by cross-validation; give more training stimuli (without a split: more "
                "stimuli), or leave encoding out for these data"
            )
        block = "" if train.block is None else "\n".join(train.block)
        key = (self.random_state or 0, "\n".join(ids), "\n".join(wanted), block)
        known = layer.hats.get(key)
        if known is not None:
            return known
        rows = [
            labels.index_of(each, layer.stimulus_id, where, layer.where) for each in (ids, wanted)
        ]
        x, evaluate, power = voxels.make_features(
            layer.values[rows[0]], layer.values[rows[1]], self.features, self.variance
        )
        per_row = self.penalty == "mean"
        alphas: Any = self.alphas
        if alphas is None:
            alphas = power * ridge.default_alphas(1) / (n if per_row else 1)
        fold = None
        if self.select == "kfold":
            fold = voxels.folds_of(
                ids, train.block, min(self.n_inner_folds, n // smallest), self.folds,
                self.random_state or 0, where, whole_blocks=False,
            )  # fmt: skip
        hats = ridge.build_hats(
            x, evaluate, alphas, fold, self.criterion == "r2", self.intercept, per_row
        )
        for oldest in list(layer.hats)[: -max(_KEPT, 2 * self.n_folds)]:
            layer.hats.pop(oldest, None)
        return layer.hats.setdefault(key, hats)
