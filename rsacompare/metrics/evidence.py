"""What a metric returns: evidence that can be re-scored under any weighting of the stimuli."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from rsacompare.errors import DataError
from rsacompare.kernels import correlate
from rsacompare.schema.store import digest


@dataclass(frozen=True)
class Meaning:
    """What a metric's number means; figures, pages and contract tests read it.

    `chance` is the expected score of a network that has nothing to do with the brain.
    """

    label: str
    unit: str = "correlation r"
    chance: float = 0.0
    minimum: float = -1.0
    maximum: float = 1.0
    higher_is_better: bool = True
    sentence: str = ""
    ceiling: str = ""
    citations: tuple[str, ...] = ()


class Metric(ABC):
    """A way to compare one network layer with one region of one brain.

    A metric is configured in ``__init__`` (plain arguments, kept as attributes of the same name)
    and gives evidence in :meth:`compare`. It may prepare each array once
    (:meth:`prepare_activation`, :meth:`prepare_response`); what these return is handed to
    `compare` in place of the array.

    Attributes
    ----------
    name : str
        Its name in tables.
    meaning : Meaning
    accepts : frozenset of str
        Which inputs it can use, of `activation`, `network_rdm`, `response`, `brain_rdm`.
    voxelwise : bool
        True when the targets are the voxels in their order and none depends on another: evidence
        is then made once per subject and layer, and each ROI takes its own voxels from it.

    Notes
    -----
    A metric that draws at random (folds, for instance) takes ``random_state=None`` in
    ``__init__``; `rsacompare.compare` sets it to its own seed where it is None.

    Examples
    --------
    A complete metric: the brain's mean response predicted by the network's mean activation.

    >>> import numpy as np
    >>> import rsacompare as rc
    >>> class MeanLevel(rc.Metric):
    ...     name = "mean_level"
    ...     meaning = rc.Meaning("mean level")
    ...
    ...     def compare(self, activation, response):
    ...         ids, brain, _, _ = rc.average_repetitions(response)
    ...         network = activation.sel(stimulus_id=ids).mean("neuroid").values
    ...         return rc.TargetEvidence(ids, brain.mean(axis=1)[:, None], network[:, None])
    >>> ids = ["a", "b", "c", "d"]
    >>> acts = rc.activations({"net": {"l1": np.array([[1.0], [2], [3], [5]])}}, stimulus_id=ids)
    >>> brain = rc.responses({"s1": np.array([[2.0], [4], [6], [10]])}, stimulus_id=ids)
    >>> comparison = rc.compare(acts, brain, metrics=[MeanLevel()])
    >>> round(float(comparison.scores["score"].squeeze()), 6)
    1.0
    """

    name: str
    meaning: Meaning
    accepts: frozenset[str] = frozenset({"activation", "response"})
    voxelwise: bool = False

    def prepare_activation(self, activation: xr.DataArray) -> Any:
        """Work that belongs to one layer: `activation(stimulus_id, neuroid)` or `rdm(pair)`."""
        return activation

    def prepare_response(self, response: xr.DataArray) -> Any:
        """Work of one subject and ROI: `response(presentation, neuroid)` or `rdm(pair)`."""
        return response

    @abstractmethod
    def compare(self, activation: Any, response: Any) -> Evidence:
        """Evidence for one layer and one region, from what the two prepare methods returned."""

    def config(self) -> dict[str, Any]:
        """The options this metric was made with, for provenance and the hash of a cell."""
        return {k: v for k, v in sorted(vars(self).items()) if not k.startswith("_")}


class Evidence(ABC):
    """Enough to re-score under any weighting of the test stimuli without refitting.

    Attributes
    ----------
    stimulus_id : (stimulus,) str
        The scored stimuli; weights and permutations refer to this order.
    sources : tuple of str
        Sources of chance beside the subjects: `stimuli`, and `units` where the targets are a
        random draw.
    fold : (stimulus,) int or None
        Cross-validation folds within which values are centred and permutations act.
    block : (stimulus,) or None
        For stimuli that follow each other in time: the block of each. Neighbours resemble each
        other, so that blocks, not stimuli, are drawn by the bootstrap and change places in
        permutations (FACTS 9.11). `compare` sets it where the responses have a coordinate
        `time_block` and the metric has not said anything else.
    """

    stimulus_id: np.ndarray
    sources: tuple[str, ...]
    fold: np.ndarray | None
    block: np.ndarray | None = None
    ceiling_pools_subjects: ClassVar[bool] = True  # False: a subject's ceiling is its own affair

    @property
    @abstractmethod
    def n_targets(self) -> int:
        """How many targets (units, voxels, pairs) the score is a mean over."""

    @property
    def target_size(self) -> int:
        """Length of `target_weights`: the targets that are scored and those that cannot be."""
        return self.n_targets

    @abstractmethod
    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Score under multiplicities of stimuli and targets.

        Parameters
        ----------
        weights : (..., stimulus), optional
            How often each stimulus counts; ones when absent.
        target_weights : (..., target), optional
            Broadcast against the leading dims of `weights`.

        Returns
        -------
        ndarray
            The broadcast leading dims; NaN where a draw cannot be scored.
        """

    @abstractmethod
    def null(self, permutations: np.ndarray) -> np.ndarray:
        """Scores with the network's stimuli re-indexed: `permutations` (perm, stimulus)."""

    def ceiling_key(self) -> str:
        """Cells with equal keys share their ceiling (it is computed once)."""
        return self.digest()

    @classmethod
    def group_ceiling(
        cls,
        cells: Sequence[Any],
        weights: np.ndarray | None = None,
        subject_weights: np.ndarray | None = None,
        target_weights: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ceiling per subject: (subject,), or (draw, subject) under weights.

        `cells` are the evidence of one layer and ROI for each subject; all weights are
        (draw, level). A kind of evidence that knows no ceiling says NaN.
        """
        given = [w for w in (weights, subject_weights, target_weights) if w is not None]
        draws = given[0] if given else None
        shape = (len(cells),) if draws is None else (len(draws), len(cells))
        return np.full(shape, np.nan), np.full(shape, np.nan)

    @abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for the store; `from_arrays` of the class turns them back."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Evidence:
        """Evidence from stored arrays."""

    def digest(self) -> str:
        """Content hash."""
        arrays = self.to_arrays()
        return digest(*(part for key in sorted(arrays) for part in (key, arrays[key])))


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

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        if weights is None:
            return _mean_targets(self.profile, target_weights)
        return _mean_targets(self.target_scores(weights), target_weights)

    def target_scores(self, weights: np.ndarray) -> np.ndarray:
        """Score of each target under multiplicities of stimuli: (..., target)."""
        # stimuli that no draw holds (the other half of a split) need not be multiplied
        used = np.asarray(weights).reshape(-1, len(self.stimulus_id)).any(axis=0)
        keep = slice(None) if used.all() else used
        fold = None if self.fold is None else self.fold[keep]
        return correlate.correlate_columns(
            self.observed[keep], self.predicted[keep], np.asarray(weights)[..., keep], fold
        )

    def null(self, permutations: np.ndarray) -> np.ndarray:
        if type(self).score is not TargetEvidence.score:  # a guest's own score has its own null
            moved = (self.predicted[order] for order in permutations)
            return np.array([replace(self, predicted=p, _profile=None).score() for p in moved])
        return correlate.null_mean_correlation(
            self.observed, self.predicted, permutations, self.fold
        )

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
        return _mean_targets(self.target_ceiling(weights), target_weights)

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

    def take(self, targets: np.ndarray) -> TargetEvidence:
        """The same evidence for some of the targets."""
        noise = self.noise_variance
        return replace(
            self,
            observed=self.observed[:, targets],
            predicted=self.predicted[:, targets],
            noise_variance=None if noise is None else noise[:, targets],
            _profile=None,
        )


@dataclass
class PairEvidence(Evidence):
    """Two dissimilarity vectors over the same pairs of stimuli and the comparator between them.

    Under multiplicities w a pair (i, j) counts w_i·w_j times, i ≠ j: copies of one stimulus
    never score as a pair.

    Parameters
    ----------
    stimulus_id : (stimulus,) str
    network, brain : (pair,)
    comparator : str
        A name of `kernels.correlate.COMPARATORS`.
    """

    stimulus_id: np.ndarray
    network: np.ndarray
    brain: np.ndarray
    comparator: str = "corr"
    sources: tuple[str, ...] = ("stimuli",)
    fold: np.ndarray | None = None
    block: np.ndarray | None = None
    kind: ClassVar[str] = "pair"

    def __post_init__(self) -> None:
        n = len(self.stimulus_id)
        if self.network.shape != (n * (n - 1) // 2,) or self.network.shape != self.brain.shape:
            raise DataError(
                f"{n} stimuli make {n * (n - 1) // 2} pairs; got {self.network.shape} for the "
                f"network and {self.brain.shape} for the brain"
            )

    @property
    def n_targets(self) -> int:
        return len(self.network)

    @cached_property
    def keys(self) -> tuple[str, str]:
        """Content hashes of the network's and the brain's vector."""
        return digest(self.network), digest(self.brain)

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        x, y = self.network[None], self.brain[None]
        if weights is None:
            return correlate.compare_rdms(x, y, self.comparator)[0, 0]
        flat = np.asarray(weights).reshape(-1, len(self.stimulus_id))
        scores = correlate.compare_rdms(x, y, self.comparator, flat)[:, 0, 0]
        return scores.reshape(np.shape(weights)[:-1])

    def null(self, permutations: np.ndarray) -> np.ndarray:
        if type(self).score is not PairEvidence.score:  # a guest's own score has its own null
            n = len(self.stimulus_id)
            i, j = np.triu_indices(n, 1)
            square = np.zeros((n, n))
            square[i, j] = square[j, i] = self.network
            moved = (replace(self, network=square[p[i], p[j]]) for p in permutations)
            return np.array([evidence.score() for evidence in moved])
        x, y = self.network[None], self.brain[None]
        return correlate.compare_rdms_permuted(x, y, self.comparator, permutations)[:, 0, 0]

    def ceiling_key(self) -> str:
        return digest(self.brain, self.comparator)

    @classmethod
    def group_ceiling(
        cls,
        cells: Sequence[PairEvidence],
        weights: np.ndarray | None = None,
        subject_weights: np.ndarray | None = None,
        target_weights: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        rdms = np.stack([cell.brain for cell in cells])
        low, high = correlate.noise_ceiling(rdms, cells[0].comparator, weights, subject_weights)
        # a single subject agrees with the mean of itself: that bounds nothing
        return low, high if len(cells) > 1 else np.full_like(high, np.nan)

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {
            "kind": np.array(self.kind),
            "stimulus_id": np.asarray(self.stimulus_id, dtype=str),
            "network": self.network,
            "brain": self.brain,
            "comparator": np.array(self.comparator),
            "sources": np.array(self.sources, dtype=str),
            **({} if self.fold is None else {"fold": self.fold}),
            **({} if self.block is None else {"block": self.block}),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> PairEvidence:
        return cls(
            stimulus_id=arrays["stimulus_id"],
            network=arrays["network"],
            brain=arrays["brain"],
            comparator=str(arrays["comparator"]),
            sources=tuple(arrays["sources"].tolist()),
            fold=arrays.get("fold"),
            block=arrays.get("block"),
        )


KINDS: dict[str, type[Evidence]] = {"target": TargetEvidence, "pair": PairEvidence}


def _mean_targets(r: np.ndarray, target_weights: np.ndarray | None) -> np.ndarray:
    """Mean over the last axis of what is not NaN, weighted; NaN where nothing is left."""
    valid = np.isfinite(r)
    values = np.where(valid, r, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if target_weights is None:
            return values.sum(axis=-1) / valid.sum(axis=-1)
        top = np.einsum("...t,...t->...", values, target_weights)
        return top / np.einsum("...t,...t->...", valid.astype(np.float64), target_weights)
