"""Evidence of a flexible model: combinations fitted on other stimuli than those they score on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rsacompare.kernels import correlate
from rsacompare.kernels.pairs import pair_table
from rsacompare.metrics.evidence import KINDS, Evidence
from rsacompare.schema.store import digest


@dataclass
class CombinedEvidence(Evidence):
    """Dissimilarities predicted within folds of the stimuli, and the brain's.

    Only pairs inside a fold are scored: the combination that predicts them was fitted on pairs of
    the stimuli of other folds. The score is the mean over folds; a fold whose fit left no layer
    (all would have to count negatively) predicts nothing and scores 0.

    Parameters
    ----------
    stimulus_id : (stimulus,) str
    network, brain : (pair,)
        Over all pairs; those between folds are not read.
    fold : (stimulus,) int
    comparator : str
    theta : (fold, layer)
        Weights of the layers, of sum 1.
    """

    stimulus_id: np.ndarray
    network: np.ndarray
    brain: np.ndarray
    fold: np.ndarray
    comparator: str
    theta: np.ndarray
    sources: tuple[str, ...] = ("stimuli",)
    kind: ClassVar[str] = "combined"

    def _folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(stimuli, pairs) of each fold."""
        table = pair_table(len(self.stimulus_id))
        found = []
        for label in np.unique(self.fold):
            own = np.flatnonzero(self.fold == label)
            i, j = np.triu_indices(len(own), 1)
            found.append((own, table[own[i], own[j]]))
        return found

    @property
    def n_targets(self) -> int:
        return sum(len(pairs) for _, pairs in self._folds())

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        n = len(self.stimulus_id)
        w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
        flat = w.reshape(-1, n)
        parts = []
        for theta, (own, pairs) in zip(self.theta, self._folds(), strict=True):
            x, y = self.network[None, pairs], self.brain[None, pairs]
            found = correlate.compare_rdms(x, y, self.comparator, flat[:, own])[:, 0, 0]
            parts.append(found if theta.any() else np.zeros(len(flat)))
        return _mean(parts).reshape(w.shape[:-1])

    def null(self, permutations: np.ndarray) -> np.ndarray:
        parts = []
        for theta, (own, pairs) in zip(self.theta, self._folds(), strict=True):
            place = np.full(len(self.stimulus_id), -1)
            place[own] = np.arange(len(own))
            orders = place[np.asarray(permutations)[:, own]]
            x, y = self.network[None, pairs], self.brain[None, pairs]
            found = correlate.compare_rdms_permuted(x, y, self.comparator, orders)[:, 0, 0]
            parts.append(found if theta.any() else np.zeros(len(orders)))
        return _mean(parts)

    def ceiling_key(self) -> str:
        return digest(self.brain, self.fold, self.comparator)

    @classmethod
    def group_ceiling(
        cls,
        cells: Sequence[CombinedEvidence],
        weights: np.ndarray | None = None,
        subject_weights: np.ndarray | None = None,
        target_weights: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Those of RSA within each fold, averaged over folds."""
        rdms = np.stack([cell.brain for cell in cells])
        lows, highs = [], []
        for own, pairs in cells[0]._folds():
            part = None if weights is None else np.asarray(weights)[:, own]
            low, high = correlate.noise_ceiling(
                rdms[:, pairs], cells[0].comparator, part, subject_weights
            )
            lows.append(low)
            highs.append(high)
        low, high = _mean(lows), _mean(highs)
        return low, high if len(cells) > 1 else np.full_like(high, np.nan)

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {
            "kind": np.array(self.kind),
            "stimulus_id": np.asarray(self.stimulus_id, dtype=str),
            "network": self.network,
            "brain": self.brain,
            "fold": self.fold,
            "comparator": np.array(self.comparator),
            "theta": self.theta,
            "sources": np.array(self.sources, dtype=str),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> CombinedEvidence:
        return cls(
            stimulus_id=arrays["stimulus_id"],
            network=arrays["network"],
            brain=arrays["brain"],
            fold=arrays["fold"],
            comparator=str(arrays["comparator"]),
            theta=arrays["theta"],
            sources=tuple(arrays["sources"].tolist()),
        )


def _mean(parts: list[np.ndarray]) -> np.ndarray:
    """Mean over folds of what could be scored; NaN where no fold could."""
    stack = np.stack(parts)
    finite = np.isfinite(stack)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(finite, stack, 0.0).sum(axis=0) / finite.sum(axis=0)


KINDS[CombinedEvidence.kind] = CombinedEvidence
