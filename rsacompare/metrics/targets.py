"""Evidence of predicted targets: the correlation over stimuli of each, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from rsacompare.errors import DataError
from rsacompare.kernels import columns, correlate
from rsacompare.kernels.surrogates import Surrogates, null_mean_correlation
from rsacompare.metrics.base import Evidence
from rsacompare.schema.store import digest


@dataclass
class TargetEvidence(Evidence):
    """Observed and predicted values per stimulus and target; the score is the mean correlation.

    Parameters
    ----------
    stimulus_id : (stimulus,) str
    observed, predicted : (stimulus, target)
    fold : (stimulus,) int, optional
        Folds of a cross-validated prediction: pooling held-out predictions of different folds
        would bias correlations below zero, so both sides are centred within folds.
    sources : tuple of str
    noise_variance : (stimulus, target), optional
        Variance (ddof 1) across the repetitions of the noisy side, with `n_repetitions`
        (stimulus,) and `noisy` naming that side: `observed` or `predicted`.

    Notes
    -----
    Targets without variance on either side have no correlation; they are left out of the mean
    and `n_targets` counts the others.
    """

    stimulus_id: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray
    fold: np.ndarray | None = None
    sources: tuple[str, ...] = ("stimuli",)
    noise_variance: np.ndarray | None = None
    n_repetitions: np.ndarray | None = None
    noisy: str = "observed"
    block: np.ndarray | None = None
    kind: ClassVar[str] = "target"
    ceiling_pools_subjects: ClassVar[bool] = False
    _profile: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        # a guest may give lists or labelled arrays
        self.stimulus_id = np.asarray(self.stimulus_id)
        self.observed, self.predicted = np.asarray(self.observed), np.asarray(self.predicted)
        if self.observed.shape != self.predicted.shape or self.observed.ndim != 2:
            raise DataError(
                f"observed {self.observed.shape} and predicted {self.predicted.shape} must both "
                "be (stimulus, target)"
            )
        if len(self.stimulus_id) != len(self.observed):
            raise DataError(
                f"{len(self.stimulus_id)} stimulus ids for {len(self.observed)} predicted stimuli"
            )

    @property
    def profile(self) -> np.ndarray:
        """Correlation over stimuli per target, unweighted: (target,), NaN for dead targets."""
        if self._profile is None:
            self._profile = correlate.correlate_columns(
                self.observed, self.predicted, fold=self.fold
            )
        return self._profile

    @property
    def n_targets(self) -> int:
        return int(np.isfinite(self.profile).sum())

    @property
    def target_size(self) -> int:
        return self.observed.shape[1]

    @cached_property
    def observed_key(self) -> str:
        """Content hash of `observed`, which many cells may share."""
        return digest(self.observed)

    @cached_property
    def cross(self) -> np.ndarray:
        """What each pair of stimuli adds to the mean correlation: (stimulus, stimulus)."""
        return columns.mean_cross(self.observed, self.predicted, self.fold)

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        if weights is None:
            return self._mean(self.profile, target_weights)
        return self._mean(self.target_scores(weights), target_weights)

    def target_scores(self, weights: np.ndarray) -> np.ndarray:
        """Score of each target under multiplicities of stimuli: (..., target)."""
        # stimuli that no draw holds (the other half of a split) need not be multiplied
        used = np.asarray(weights).reshape(-1, len(self.stimulus_id)).any(axis=0)
        keep = slice(None) if used.all() else used
        fold = None if self.fold is None else self.fold[keep]
        return correlate.correlate_columns(
            self.observed[keep], self.predicted[keep], np.asarray(weights)[..., keep], fold
        )

    def target_correlations(self) -> np.ndarray | None:
        return self.profile

    def null(self, permutations: np.ndarray) -> np.ndarray:
        if type(self).score is not TargetEvidence.score:  # a guest's own score has its own null
            moved = (self.predicted[order] for order in permutations)
            return np.array([replace(self, predicted=p, _profile=None).score() for p in moved])
        return correlate.null_mean_correlation(
            self.observed, self.predicted, permutations, self.fold
        )

    @property
    def network_side(self) -> str:
        """Which side is the network's: what is decoded, or what the network predicts."""
        return "observed" if self.noisy == "predicted" else "predicted"

    def null_series(self, surrogates: Surrogates) -> np.ndarray:
        if type(self).score is TargetEvidence.score:
            return self._null_series(surrogates)
        found = []
        for draw in range(len(surrogates)):  # any other score has its own null
            turned: Any = {
                self.network_side: surrogates.turn(getattr(self, self.network_side), draw)
            }
            found.append(replace(self, _profile=None, **turned).score())
        return np.array(found)

    def _null_series(self, surrogates: Surrogates, **options: Any) -> np.ndarray:
        """That of mean correlations, without making the series."""
        sides = self.observed, self.predicted
        still, turned = sides if self.network_side == "predicted" else sides[::-1]
        return null_mean_correlation(still, turned, surrogates, self.fold, **options)

    def ceiling_key(self) -> str:
        side = self.observed if self.noisy == "observed" else self.predicted
        # the ceiling is a mean over the targets that are scored, so these belong to the key
        scored = np.isfinite(self.profile)
        return digest(side, self.noise_variance, self.n_repetitions, self.fold, scored)

    @classmethod
    def group_ceiling(
        cls,
        cells: Sequence[TargetEvidence],
        weights: np.ndarray | None = None,
        subject_weights: np.ndarray | None = None,
        target_weights: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        per_subject = np.stack([cell.ceiling(weights, target_weights) for cell in cells], axis=-1)
        if per_subject.ndim == 1 and subject_weights is not None:
            per_subject = np.broadcast_to(per_subject, subject_weights.shape)
        return per_subject, per_subject

    def ceiling(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Mean over targets of :meth:`target_ceiling`."""
        return self._mean(self.target_ceiling(weights), target_weights)

    def target_ceiling(self, weights: np.ndarray | None = None) -> np.ndarray:
        """sqrt(s2 / (s2 + sigma2 / n)) of the noisy side: (target,); under weights (..., target).

        s2 is the variance over stimuli of the mean over repetitions less its noise share
        sigma2 / n (FACTS 6.2; Lage-Castellanos et al. 2019), both under the weights: a stimulus of
        weight k is k rows, degrees of freedom included. NaN when any stimulus has a single
        repetition, and where a draw leaves nothing that varies.
        """
        lead = () if weights is None else weights.shape[:-1]
        if (
            self.noise_variance is None
            or self.n_repetitions is None
            or (self.n_repetitions < 2).any()
        ):
            return np.full((*lead, self.target_size), np.nan)
        values = self.observed if self.noisy == "observed" else self.predicted
        noise = self.noise_variance / self.n_repetitions[:, None]
        w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
        groups = np.zeros(len(values), int) if self.fold is None else self.fold
        labels = np.unique(groups)
        total = w.sum(axis=-1)[..., None]
        square = np.zeros((*lead, values.shape[1]))
        used = np.zeros((*lead, 1))  # folds with weight: an empty one costs no degree of freedom
        for label in labels:
            part = groups == label
            centred = values[part] - values[part].mean(axis=0)
            n = w[..., part].sum(axis=-1)[..., None]
            used += n > 0
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = (w[..., part] @ centred) / n
            square += w[..., part] @ centred**2 - n * np.where(n > 0, mean, 0.0) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = square / (total - used)
            sigma2 = (w @ noise) / total
            signal = np.maximum(variance - sigma2, 0.0)
            per_target = np.sqrt(signal / (signal + sigma2))
        # a target that never varies, signal or noise, has no reliability
        per_target = np.where(np.isfinite(self.profile), per_target, np.nan)
        # nor has a draw that leaves one distinct stimulus per fold: nothing can vary
        distinct = np.count_nonzero(w, axis=-1)[..., None]
        return np.where(distinct > used, per_target, np.nan)

    def to_arrays(self) -> dict[str, np.ndarray]:
        arrays = {
            "kind": np.array(self.kind),
            "stimulus_id": np.asarray(self.stimulus_id, dtype=str),
            "observed": self.observed,
            "predicted": self.predicted,
            "sources": np.array(self.sources, dtype=str),
            "noisy": np.array(self.noisy),
        }
        for name in ("fold", "noise_variance", "n_repetitions", "block"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> TargetEvidence:
        return cls(
            stimulus_id=arrays["stimulus_id"],
            observed=arrays["observed"],
            predicted=arrays["predicted"],
            fold=arrays.get("fold"),
            sources=tuple(arrays["sources"].tolist()),
            noise_variance=arrays.get("noise_variance"),
            n_repetitions=arrays.get("n_repetitions"),
            noisy=str(arrays["noisy"]),
            block=arrays.get("block"),
        )

    def _mean(self, values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Mean over the last axis of what is not NaN."""
        return weighted_mean(values, weights)

    def take(self, targets: np.ndarray) -> TargetEvidence:
        """The same evidence for some of the targets."""
        noise = self.noise_variance
        fresh = replace(
            self,
            observed=self.observed[:, targets],
            predicted=self.predicted[:, targets],
            noise_variance=None if noise is None else noise[:, targets],
            _profile=None,
        )
        fresh.category, fresh.segment = self.category, self.segment  # no arguments
        return fresh


def no_ceiling(weights: np.ndarray | None, target_weights: np.ndarray | None) -> np.ndarray:
    """NaN for each draw: what a kind of evidence that knows no ceiling says."""
    given = [w.shape[:-1] for w in (weights, target_weights) if w is not None]
    return np.full(np.broadcast_shapes(*given), np.nan)


def weighted_mean(r: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Mean over the last axis of what is not NaN, weighted; NaN where nothing is left."""
    valid = np.isfinite(r)
    values = np.where(valid, r, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if weights is None:
            return values.sum(axis=-1) / valid.sum(axis=-1)
        top = np.einsum("...t,...t->...", values, weights)
        return top / np.einsum("...t,...t->...", valid.astype(np.float64), weights)
