"""Target evidence whose score is divided by each target's own noise ceiling."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from rsacompare.kernels import correlate
from rsacompare.kernels.surrogates import Surrogates
from rsacompare.metrics.targets import TargetEvidence, no_ceiling

LOWEST_CEILING = 0.1  # below, a target holds no signal to speak of, and the ratio no information


@dataclass
class NormalisedEvidence(TargetEvidence):
    """Mean over targets of correlation / ceiling, of targets whose ceiling is 0.1 at least.

    The ceiling of a target (:meth:`TargetEvidence.target_ceiling`) is that of all stimuli, in
    every draw the same: intervals are conditional on it. Its own ceiling is then 1; by chance a
    score may lie above. With a single repetition no target has a ceiling, and the score is NaN.
    """

    kind: ClassVar[str] = "normalised"

    def _plain(self) -> TargetEvidence:
        own = {f.name: getattr(self, f.name) for f in fields(TargetEvidence)}
        return TargetEvidence(**(own | {"_profile": None}))

    @property
    def factor(self) -> np.ndarray:
        """1 / ceiling per target, NaN where that is too low."""
        roof = self._plain().target_ceiling()
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(roof >= LOWEST_CEILING, 1.0 / roof, np.nan)

    @property
    def profile(self) -> np.ndarray:
        if self._profile is None:
            self._profile = self._plain().profile * self.factor
        return self._profile

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        if weights is None:
            return self._mean(self.profile, target_weights)
        return self._mean(self.target_scores(weights), target_weights)

    def target_scores(self, weights: np.ndarray) -> np.ndarray:
        return super().target_scores(weights) * self.factor

    def target_correlations(self) -> np.ndarray | None:
        return self._plain().profile

    def target_ceiling(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Of every target that varies, too low for a ratio or not."""
        return self._plain().target_ceiling(weights)

    def ceiling(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        """1, or NaN where no target has a ratio."""
        own = no_ceiling(weights, target_weights)
        return np.ones_like(own) if self.n_targets else own

    def null(self, permutations: np.ndarray) -> np.ndarray:
        return correlate.null_mean_correlation(
            self.observed, self.predicted, permutations, self.fold, factor=self.factor
        )

    def null_series(self, surrogates: Surrogates) -> np.ndarray:
        return self._null_series(surrogates, factor=self.factor)

    def ceiling_key(self) -> str:
        return f"normalised, {self.n_targets > 0}"
