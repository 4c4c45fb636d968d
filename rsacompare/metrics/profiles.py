"""Evidence of predicted targets with other averages, and patterns over targets per stimulus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rsacompare.errors import DataError
from rsacompare.kernels import columns
from rsacompare.kernels.surrogates import Surrogates
from rsacompare.metrics.targets import TargetEvidence, no_ceiling, weighted_mean
from rsacompare.schema.store import digest

AVERAGES = ("arithmetic", "fisher")
DEAD = ("drop", "zero")
LARGEST_R = 1 - 1e-12  # atanh(1) is infinite; a perfect correlation counts as z = 14.2


@dataclass
class ProfileEvidence(TargetEvidence):
    """Target evidence whose mean over targets is taken otherwise.

    Parameters
    ----------
    average : {"arithmetic", "fisher"}
        ``fisher``: tanh of the mean of atanh(r).
    dead : {"drop", "zero"}
        Targets that have no correlation are left out of the mean, or count as 0. Where no target
        has one there is no score either way.
    """

    average: str = "arithmetic"
    dead: str = "drop"
    kind: ClassVar[str] = "profile"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.average not in AVERAGES or self.dead not in DEAD:
            raise DataError(
                f"average must be one of {', '.join(AVERAGES)} and dead one of {', '.join(DEAD)}, "
                f"got '{self.average}' and '{self.dead}'"
            )

    @property
    def n_targets(self) -> int:
        scored = int(np.isfinite(self.profile).sum())
        return self.target_size if self.dead == "zero" and scored else scored

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        # a method of its own: `metrics.many` scores the plain kind side by side, by plain means
        return super().score(weights, target_weights)

    def null(self, permutations: np.ndarray) -> np.ndarray:
        z = columns.null_mean_correlation(
            self.observed, self.predicted, permutations, self.fold, fisher=self.average == "fisher"
        )
        return self._averaged(z)

    def null_series(self, surrogates: Surrogates) -> np.ndarray:
        return self._averaged(self._null_series(surrogates, fisher=self.average == "fisher"))

    def _averaged(self, z: np.ndarray) -> np.ndarray:
        """Scores from the mean of r, or of atanh(r), over the targets that are not dead."""
        if self.dead == "zero":  # a target that is dead is so in every order
            z = z * (np.isfinite(self.profile).sum() / self.target_size)
        return np.tanh(z) if self.average == "fisher" else z

    def ceiling_key(self) -> str:
        return digest(super().ceiling_key(), self.average, self.dead)

    def to_arrays(self) -> dict[str, np.ndarray]:
        own = {"average": np.array(self.average), "dead": np.array(self.dead)}
        return super().to_arrays() | own

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> ProfileEvidence:
        made: Any = super().from_arrays(arrays)
        made.average, made.dead = str(arrays["average"]), str(arrays["dead"])
        return made

    def _mean(self, values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        if self.dead == "zero":
            scored = np.isfinite(values)
            values = np.where(~scored & scored.any(axis=-1, keepdims=True), 0.0, values)
        if self.average == "fisher":
            values = np.arctanh(np.clip(values, -LARGEST_R, LARGEST_R))
            return np.tanh(weighted_mean(values, weights))
        return weighted_mean(values, weights)


@dataclass
class PatternEvidence(ProfileEvidence):
    """Correlation over targets of each stimulus's predicted and observed pattern; their mean.

    Both sides should come standardised by *training* data, target by target: raw patterns
    correlate by the targets' means alone, whatever was predicted. `dead` is about stimuli whose
    pattern does not vary. It has no ceiling.
    """

    kind: ClassVar[str] = "pattern"

    @property
    def pattern(self) -> np.ndarray:
        """Correlation over targets per stimulus: (stimulus,), NaN for patterns without variance."""
        return columns.correlate_columns(self.observed.T, self.predicted.T)

    @property
    def n_targets(self) -> int:
        return int((np.ptp(self.observed, axis=0) > 0).sum())

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        r = columns.correlate_columns(self.observed.T, self.predicted.T, target_weights)
        return self._mean(r, None if weights is None else np.asarray(weights, dtype=np.float64))

    @property
    def network_side(self) -> str:
        return "observed"  # patterns of units, decoded

    def null_series(self, surrogates: Surrogates) -> np.ndarray:
        return TargetEvidence.null_series(self, surrogates)

    def null(self, permutations: np.ndarray) -> np.ndarray:
        # every pair of a predicted and an observed stimulus once: orders are look-ups
        r = correlate_rows(self.predicted, self.observed)
        return self._mean(r[permutations, np.arange(len(r))], None)

    def ceiling_key(self) -> str:
        return "none"

    def ceiling(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        return no_ceiling(weights, target_weights)


def correlate_rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson correlation of every row of `x` with every row of `y`: (n_x, n_y).

    NaN for rows that do not vary.
    """
    return unit_rows(x) @ unit_rows(y).T


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows centred, of length 1; NaN where a row does not vary beyond the rounding of its mean."""
    x = np.asarray(x, dtype=np.float64)
    largest = np.abs(x).max(axis=1, keepdims=True)
    x = x - x.mean(axis=1, keepdims=True)
    varies = np.abs(x).max(axis=1, keepdims=True) > columns.CONSTANT * largest
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.full_like(x, np.nan), where=varies & (length > 0))
