"""The contract: what a metric is, what its number means, and evidence that can be re-scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from rsacompare.errors import ProtocolError
from rsacompare.kernels.surrogates import Surrogates
from rsacompare.schema.store import digest

# of scores that lie above 0 for unrelated patterns, by how much depending on the network
BIASED = (
    "judge it by the permutation null, network by network. By how much depends on the network's "
    "dimensions, so that two networks which both have nothing to do with the brain can differ for "
    "certain: a difference means little unless the closer network is beyond its own null, and only "
    "then is it named."
)


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
    category : (stimulus,) str or None
        The category of each stimulus, "" where it has none or several. `compare` sets it where the
        responses have a coordinate `category` and the scored stimuli are single ones.
    segment : (stimulus,) str or None
        For stimuli that follow each other in time: the recording that each belongs to, set by
        `compare` where the responses have a coordinate `segment`.
    """

    stimulus_id: np.ndarray
    sources: tuple[str, ...]
    fold: np.ndarray | None
    block: np.ndarray | None = None
    category: np.ndarray | None = None
    segment: np.ndarray | None = None
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

    def null_series(self, surrogates: Surrogates) -> np.ndarray:
        """Scores with the network's time series phase-randomised: (draw,).

        Kinds of evidence that hold the network's values per stimulus can say; a guest's own kind
        too, by `surrogates.turn(values, draw)`.

        Raises
        ------
        ProtocolError
            This kind holds no series.
        """
        raise ProtocolError(
            f"{type(self).__name__} holds no series that could be phase-randomised; use "
            "null='permutation'"
        )

    def target_correlations(self) -> np.ndarray | None:
        """Correlation over stimuli of each target with its prediction: (target,), NaN for dead.

        None for evidence whose score is not made of such correlations.
        """
        return None

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
