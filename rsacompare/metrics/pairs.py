"""Evidence of two dissimilarity vectors over the same pairs of stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from rsacompare.errors import DataError
from rsacompare.kernels import correlate
from rsacompare.metrics.base import Evidence
from rsacompare.schema.store import digest


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
        # a guest may give lists or labelled arrays
        self.stimulus_id = np.asarray(self.stimulus_id)
        self.network, self.brain = np.asarray(self.network), np.asarray(self.brain)
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
