"""Linear decoding: each unit of a layer predicted from the voxels of a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import gram, shrinkage, sparse
from rsacompare.metrics import decoding_options as options
from rsacompare.metrics import voxels
from rsacompare.metrics.base import Metric
from rsacompare.metrics.decoding_rows import Rows, item_features, sort_out
from rsacompare.metrics.identification import IdentificationEvidence, count_above
from rsacompare.metrics.profiles import PatternEvidence, ProfileEvidence
from rsacompare.metrics.targets import TargetEvidence
from rsacompare.schema import labels

FEWEST_UNITS = 3  # of a correlation across units


@dataclass(frozen=True)
class _Activation:
    """One layer: values (stimulus, unit) and their labels."""

    stimulus_id: np.ndarray
    values: np.ndarray
    where: str


@dataclass(frozen=True)
class _Part:
    """One training and the presentations it predicts; `inner` folds of its rows choose alpha."""

    training: gram.Training
    train_id: np.ndarray
    item: np.ndarray
    test: np.ndarray
    train: np.ndarray
    inner: dict[int, gram.Training]
    inner_fold: np.ndarray


@dataclass(frozen=True)
class _Response:
    """One subject and region: one part for a train/test split, or one per fold."""

    parts: tuple[_Part, ...]
    rows: Rows
    fold: np.ndarray | None

    @property
    def where(self) -> str:
        return self.rows.where


class Decoding(Metric):
    """Correlation between a unit's true and decoded activation over test stimuli, mean over units.

    Per unit: the voxels of the largest |Pearson r| over training presentations, a linear model
    with an intercept on them, predictions of the test presentations averaged over the
    repetitions of each stimulus (Horikawa & Kamitani 2017, by default in the quick form that Yu et
    al. 2018 used; FACTS section 3). Normalisation, selection and weights come from training
    presentations only.

    Parameters
    ----------
    n_voxels : int, "all" or {roi: int or "all"}, optional
        How many voxels a unit takes, of all where the region has no more. A table may name
        regions, with ``"*"`` for all others; by default 1000 in LVC, HVC and VC, else 500.
    estimator : {"ols", "ard", "ridge"}
        Ordinary least squares; sparse Bayesian regression (the paper's, :func:`sparse.ard`); ridge
        on standardised voxels and units as in FastL2LiR.
    n_units : int or "all", optional
        Only the first so many units of a layer (the demo of the paper takes 100).
    n_iter : int
        Iterations of ``ard``: 200, the paper's 2000.
    prune : float
        Share of the largest prior variance below which ``ard`` drops a voxel (``sato``).
    rules : {"sato", "mackay"}
        Updates of ``ard``: the paper's, or those of scikit-learn's ARDRegression, which stop by
        themselves (at the latest after `n_iter`) and take a tenth of the time.
    alpha : float or "cv"
        Penalty of ``ridge``, or the best of `alphas` for each unit: the largest mean correlation
        over `n_inner_folds` folds of the training stimuli (at most one per two stimuli), voxels
        selected anew in each. Without a split the predictions of every fold are then brought to
        one spread per unit (score ``profile``): folds of unlike penalties, pooled, would score
        noise at about +0.015.
    alphas : sequence of float
    n_inner_folds : int
    score : {"profile", "pattern", "pairwise", "n_way"}
        Correlation over items per unit (the paper's); correlation across units per item, with
        both sides standardised by training data; identification of each item among two or `n_way`
        candidates by the correlation across units (chance 1/2, 1/n_way; ties count as correct).
    items : {"stimuli", "categories", "imagery"}
        What is scored: test stimuli; their categories (coordinate `category`; with the average
        activation of the category as truth); imagined categories (presentations of the split
        ``imagery``, their category or stimulus_id; trained on the training presentations, or on
        all that were seen where none is marked). The network's row of a category's name is its
        average; without one, the mean over the stimuli of the category that were shown.
    candidates : "items", "all" or sequence of str
        Of identification: the scored items; with all stimuli of the network that were not
        shown; with the stimuli of the network named.
    n_way : int
        Candidates of the score ``n_way``.
    average : {"arithmetic", "fisher"}
        Mean of r over units (or items), or tanh of the mean of atanh(r).
    dead_units : {"drop", "zero"}
        Units (items, for patterns) without a correlation are left out, n_targets counting the
        others; or count as 0.
    n_folds : int
        Without a split, cross-validation over stimuli (categories) in so many folds, at most one
        per two (predictions are centred within folds, and one item alone says nothing). With a
        coordinate `time_block` folds of stimuli, those that choose `alpha` too, hold whole blocks.
    random_state : int, optional
        Of the folds.

    Raises
    ------
    ProtocolError
        An option that makes no sense.

    Examples
    --------
    >>> Decoding(n_voxels={"V1": 100, "*": 300}, score="pairwise").meaning.chance
    0.5
    >>> Decoding(100, estimator="ridge").config()["alpha"]
    100.0
    """

    name = "decoding"
    meaning = options.meaning("ols", "profile", "stimuli", "arithmetic", 10)
    accepts = frozenset({"activation", "response"})

    def __init__(
        self,
        n_voxels: int | str | Mapping[str, int | str] | None = None,
        n_folds: int = 5,
        random_state: int | None = None,
        *,
        estimator: str = "ols",
        n_units: int | str | None = None,
        n_iter: int = 200,
        prune: float = 1e-10,
        rules: str = "sato",
        alpha: float | str = 100.0,
        alphas: Sequence[float] = options.DEFAULT_ALPHAS,
        n_inner_folds: int = 5,
        score: str = "profile",
        items: str = "stimuli",
        candidates: str | Sequence[str] = "items",
        n_way: int = 10,
        average: str = "arithmetic",
        dead_units: str = "drop",
    ):
        self.n_voxels = options.checked_n_voxels(n_voxels)
        self.n_folds = n_folds
        self.random_state = random_state
        self.estimator = estimator
        self.n_units = None if n_units == "all" else n_units
        self.n_iter = n_iter
        self.prune = prune
        self.rules = rules
        self.alpha = alpha
        self.alphas = list(alphas) if isinstance(alphas, tuple) else alphas
        self.n_inner_folds = n_inner_folds
        self.score = score
        self.items = items
        self.candidates = list(candidates) if isinstance(candidates, tuple) else candidates
        self.n_way = n_way
        self.average = average
        self.dead_units = dead_units
        options.check(vars(self))
        self.meaning = options.meaning(estimator, score, items, average, n_way)

    def config(self) -> dict[str, Any]:
        own = {k: v for k, v in super().config().items() if k != "meaning"}
        return options.that_matter(own)

    def prepare_activation(self, activation: xr.DataArray) -> _Activation:
        """A layer's values, of its first `n_units` units.

        Raises
        ------
        DataError
            NaN; too few units for a correlation across units.
        """
        name = "/".join(
            str(activation.attrs[k]) for k in ("network", "layer") if k in activation.attrs
        )
        where = f"activations of {name}" if name else "activations"
        values = activation.transpose("stimulus_id", "neuroid").values
        if self.n_units is not None:
            values = values[:, : int(self.n_units)]
        labels.require_finite(values, where)
        if self.score != "profile" and values.shape[1] < FEWEST_UNITS:
            raise DataError(
                f"{where}: {values.shape[1]} units; score='{self.score}' correlates across units "
                f"and needs at least {FEWEST_UNITS}; take score='profile', or more units"
            )
        return _Activation(activation["stimulus_id"].values.astype(str), values, where)

    def prepare_response(self, response: xr.DataArray) -> _Response:
        """Work of one subject and ROI: standardised training rows and their Gram matrix.

        Raises
        ------
        DataError
            No or too few training stimuli; a stimulus in both training and test; NaN; items
            without a category.
        ProtocolError
            Imagery where there is none; an ROI that the table of `n_voxels` does not know.
        """
        rows = sort_out(response, self.items)
        n_voxels = self._n_voxels(str(response.attrs.get("roi", "")), rows)
        # what is kept for all layers holds the training's share, not the presentations again
        known = replace(rows, values=np.empty((0, rows.values.shape[1])))
        if not rows.cross_validated:
            train = rows.values[rows.train]
            held = gram.train(train, n_voxels, least_squares=self.estimator == "ols")
            part = self._part(rows, rows.train, rows.scored, held, n_voxels)
            return _Response((part,), known, None)
        unique, first, place = np.unique(rows.item, return_index=True, return_inverse=True)
        n_folds = min(self.n_folds, len(unique) // 2)
        # neighbours in time resemble each other: both in one fold, where items are time points
        block = rows.block[first] if rows.block is not None and self.items == "stimuli" else None
        seed: Any = self.random_state
        fold = voxels.folds_of(unique, block, n_folds, "random", seed, rows.where)
        of_row = fold[place]
        trained = gram.train_folds(
            rows.values, of_row, n_voxels, least_squares=self.estimator == "ols"
        )
        parts = tuple(
            self._part(rows, of_row != label, of_row == label, training, n_voxels)
            for label, training in trained.items()
        )
        return _Response(parts, known, fold)

    def compare(self, activation: _Activation, response: _Response) -> TargetEvidence:
        """Evidence over the scored items."""
        predicted, shown, standard = [], [], []
        for part in response.parts:
            row = labels.index_of(
                part.train_id, activation.stimulus_id, response.where, activation.where
            )
            y = np.asarray(activation.values[row], dtype=np.float64)
            made = self._predict(part, y)
            if response.fold is not None and self.alpha == "cv" and self.score == "profile":
                made = _evened(made, part.item, y) if self.estimator == "ridge" else made
            predicted.append(made)
            shown.append(part.item)
            standard.append((np.unique(part.item), y.mean(axis=0), _spread(y)))
        ids, mean, variance, count = labels.group_rows(
            np.concatenate(predicted), np.concatenate(shown)
        )
        stimuli, values, where = activation.stimulus_id, activation.values, activation.where
        truth = partial(
            item_features,
            members=response.rows.members,
            stimulus_id=stimuli,
            values=values,
            where=response.where,
            values_where=where,
        )
        observed = truth(ids)
        common: dict[str, Any] = {"stimulus_id": ids, "fold": response.fold}
        if self.score in options.IDENTIFICATION:
            others = values[self._others(activation, response.rows, ids)]
            beside: dict[str, Any] = {}
            if len(others):
                above, n_others = count_above(mean, observed, others)
                beside = {"above": above, "n_others": n_others}
            if len(ids) + len(others) < 2:
                raise DataError(
                    f"{response.where}: '{ids[0]}' is the only candidate, identification needs two"
                    "; score more items, or name more candidates"
                )
            n_way = 2 if self.score == "pairwise" else self.n_way
            return IdentificationEvidence(
                observed=observed, predicted=mean, n_way=n_way, **beside, **common
            )
        common |= {"sources": ("stimuli", "units")}
        averaging: dict[str, Any] = {"average": self.average, "dead": self.dead_units}
        if self.score == "pattern":
            for names, centre, scale in standard:
                own = np.isin(ids, names)
                observed[own] = (observed[own] - centre) / scale
                mean[own] = (mean[own] - centre) / scale
            return PatternEvidence(observed=observed, predicted=mean, **averaging, **common)
        common |= {"noise_variance": variance, "n_repetitions": count, "noisy": "predicted"}
        if averaging == {"average": "arithmetic", "dead": "drop"}:
            return TargetEvidence(observed=observed, predicted=mean, **common)
        return ProfileEvidence(observed=observed, predicted=mean, **averaging, **common)

    def _predict(self, part: _Part, y: np.ndarray) -> np.ndarray:
        """Every presentation on its own; the mean over them is taken of predictions."""
        if self.estimator == "ols":
            return gram.predict(part.training, y, part.test)
        if self.estimator == "ard":
            solve = partial(sparse.weights, n_iter=self.n_iter, prune=self.prune, rules=self.rules)
            return gram.predict(part.training, y, part.test, solve)
        alpha: Any = self.alpha
        if self.alpha == "cv":
            alpha = shrinkage.choose_alpha(
                part.inner, part.train, y, part.inner_fold, [float(a) for a in self.alphas]
            )
        return shrinkage.predict(part.training, y, part.test, alpha)

    def _part(
        self,
        rows: Rows,
        train: np.ndarray,
        scored: np.ndarray,
        training: gram.Training,
        n_voxels: int,
    ) -> _Part:
        ids, values = rows.stimulus_id[train], np.empty((0, rows.values.shape[1]))
        inner: dict[int, gram.Training] = {}
        fold = np.zeros(len(ids), dtype=int)
        if self.estimator == "ridge" and self.alpha == "cv":
            unique, first, place = np.unique(ids, return_index=True, return_inverse=True)
            n_folds = max(2, min(self.n_inner_folds, len(unique) // 2))
            seed: Any = self.random_state
            values = rows.values[train]
            block = None if rows.block is None else rows.block[train][first]
            fold = voxels.folds_of(unique, block, n_folds, "random", seed, rows.where)[place]
            inner = gram.train_folds(values, fold, n_voxels, least_squares=False)
        return _Part(training, ids, rows.item[scored], rows.values[scored], values, inner, fold)

    def _others(self, activation: _Activation, rows: Rows, ids: np.ndarray) -> np.ndarray:
        """Rows of the network that are candidates beside the items."""
        if self.candidates == "items":
            return np.array([], dtype=int)
        if self.candidates == "all":
            known = np.union1d(rows.shown, ids)
            return np.flatnonzero(~np.isin(activation.stimulus_id, known))
        named = np.setdiff1d(np.array(self.candidates, dtype=str), ids)
        return labels.index_of(named, activation.stimulus_id, "candidates", activation.where)

    def _n_voxels(self, roi: str, rows: Rows) -> int:
        asked: Any = self.n_voxels
        if isinstance(asked, dict):
            if roi not in asked and "*" not in asked:
                raise ProtocolError(
                    f"decoding: n_voxels names {', '.join(asked)} but not the ROI of {rows.where}; "
                    "add it, or '*' for all others"
                )
            asked = asked.get(roi, asked.get("*"))
        return max(1, rows.values.shape[1]) if asked == "all" else asked


def _evened(predicted: np.ndarray, item: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Predictions of a fold that vary as much over its items as the unit did in training.

    A penalty that was chosen by correlation may be any where there is no signal, and the items of
    the other folds chose it: pooling folds of unlike spread scores noise above zero.
    """
    means = labels.group_rows(predicted, item)[1]
    centre, sd = means.mean(axis=0), means.std(axis=0)
    live = sd > 1e-12 * np.abs(means).max(axis=0)
    factor = np.where(live, _spread(y) / np.where(live, sd, 1.0), 1.0)
    return centre + (predicted - centre) * factor


def _spread(y: np.ndarray) -> np.ndarray:
    """Standard deviation (ddof 1) per unit, 1 for one that never varies."""
    return np.where((y == y[:1]).all(axis=0), 1.0, y.std(axis=0, ddof=1))
