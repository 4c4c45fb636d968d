"""Identification: which of several candidates was seen, told from a predicted pattern."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels.surrogates import Surrogates
from rsacompare.metrics.profiles import correlate_rows, unit_rows
from rsacompare.metrics.targets import TargetEvidence, no_ceiling

ROUNDING = 1e-12  # correlations nearer than this are tied
AT_ONCE = 2000  # candidates; a constant


@dataclass
class IdentificationEvidence(TargetEvidence):
    """How often a predicted pattern is nearer its own candidate than others (FACTS section 3).

    A candidate is the network's pattern of a scored stimulus, or of any other; nearness is the
    Pearson correlation **across targets** of the values as they are. As in the source, a rival
    wins only if its correlation is strictly larger: ties count as correct. Rivals of a
    cross-validated prediction are of its own fold: the others took part in its training.

    Parameters
    ----------
    stimulus_id, observed, predicted, fold, sources
        As in `TargetEvidence`.
    n_way : int
        2 is pairwise: over all pairs of a stimulus and a rival, the share that is right. More:
        the chance to be the best of `n_way` candidates, the others drawn at random from all
        rivals (a hypergeometric probability, no draw is made).
    above : (stimulus, stimulus) int, optional
        How many candidates beside the scored stimuli correlate more with the predicted i than
        the observed j does; made by :func:`count_above`.
    n_others : (stimulus,) int, optional
        How many such candidates there are for predicted i.

    Notes
    -----
    Under multiplicities w of the stimuli a pair (i, rival j) counts w_i·w_j times, i ≠ j, as for
    RDMs, and other candidates once; for `n_way` > 2 the rivals stay as they are, and only the
    identified stimuli are weighted. Stimuli whose predicted or observed pattern does not vary are
    left out. Without two different candidates there is no score.

    Examples
    --------
    >>> values = np.array([[1.0, 2, 3], [3.0, 1, 2], [2.0, 3, 1]])
    >>> evidence = IdentificationEvidence(np.array(["a", "b", "c"]), values, values)
    >>> float(evidence.score()), float(evidence.null(np.array([[1, 2, 0]]))[0])
    (1.0, 0.5)
    """

    n_way: int = 2
    above: np.ndarray | None = None
    n_others: np.ndarray | None = None
    kind: ClassVar[str] = "identification"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_way < 2:
            raise DataError(f"n_way must be 2 or more, got {self.n_way}")
        total = self._tables[1]
        fewest = np.nanmin(total) if np.isfinite(total).any() else np.inf
        if fewest < self.n_way - 1:
            inside = "" if self.fold is None else " within a fold of the cross-validation"
            raise DataError(
                f"{self.n_way}-way identification needs {self.n_way} candidates, there are "
                f"{int(fewest) + 1}{inside}; score more stimuli or categories, ask for fewer, or "
                "add candidates"
            )

    @property
    def n_targets(self) -> int:
        return int((np.ptp(self.observed, axis=0) > 0).sum())

    def target_correlations(self) -> None:
        """None: what is told apart are patterns, of all targets together."""
        return None

    @cached_property
    def similarity(self) -> np.ndarray:
        """Correlation of predicted i with observed j: (stimulus, stimulus), NaN across folds."""
        r = correlate_rows(self.predicted, self.observed)
        alone = self.n_others is None or not self.n_others.any()
        if alone and len(r) > 1 and (self.observed == self.observed[:1]).all():
            r[:] = np.nan  # one candidate under many names
        if self.fold is not None:
            r[self.fold[:, None] != self.fold] = np.nan
        return r

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Rivals that beat j for predicted i, and rivals in all: (stimulus, stimulus), NaN."""
        r = self.similarity
        n = len(r)
        valid = np.isfinite(r)
        above = np.zeros((n, n)) if self.above is None else self.above.astype(np.float64)
        others = np.zeros(n) if self.n_others is None else self.n_others
        for i in range(n):
            own = np.sort(r[i][valid[i]])
            above[i] += len(own) - np.searchsorted(own, r[i] + ROUNDING, side="right")
        total = (valid.sum(axis=1) - 1 + others)[:, None] * np.ones(n)
        return np.where(valid, above, np.nan), np.where(valid, total, np.nan)

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Score under multiplicities; of targets only without candidates beside the stimuli.

        Raises
        ------
        DataError
            `target_weights` with other candidates: their patterns are not kept.
        """
        if target_weights is not None:
            return self._redrawn(weights, np.asarray(target_weights))
        n = len(self.stimulus_id)
        if weights is None:
            return self.null(np.arange(n)[None])[0]
        w = np.asarray(weights, dtype=np.float64)
        above, total = (np.diagonal(table) for table in self._tables)
        live = np.isfinite(total)
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.n_way > 2:
                right = np.where(live, _best_of(above, total, self.n_way), 0.0)
                return (w @ right) / (w @ live.astype(np.float64))
            r = self.similarity
            rival = np.isfinite(r) & ~np.eye(n, dtype=bool)
            others = np.zeros(n) if self.n_others is None else self.n_others.astype(np.float64)
            beaten = np.zeros(n) if self.above is None else np.diagonal(self.above)
            beats = rival & (np.nan_to_num(r, nan=-2.0) > (np.diagonal(r) + ROUNDING)[:, None])
            # multiplicities relative to one of each, beside candidates that count once
            v = w * (n / w.sum(axis=-1, keepdims=True))
            lost = (v @ beats.T.astype(np.float64) + beaten)[..., live]
            pairs = (v @ rival.T.astype(np.float64) + others)[..., live]
            v = v[..., live]
            return 1 - (v * lost).sum(axis=-1) / (v * pairs).sum(axis=-1)

    def null(self, permutations: np.ndarray) -> np.ndarray:
        above, total = self._tables
        here = np.arange(len(above))
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.n_way > 2:
                right = _best_of(above, total, self.n_way)[permutations, here]
                live = np.isfinite(right)
                return np.where(live, right, 0.0).sum(axis=1) / live.sum(axis=1)
            lost, pairs = (np.nan_to_num(t[permutations, here]).sum(axis=1) for t in (above, total))
            return 1 - lost / pairs

    @property
    def network_side(self) -> str:
        return "observed"  # patterns of units, decoded

    def null_series(self, surrogates: Surrogates) -> np.ndarray:
        """Of candidates among the scored stimuli only.

        Raises
        ------
        ProtocolError
            With other candidates: their patterns are not kept.
        """
        if self.n_others is not None and self.n_others.any():
            raise ProtocolError(
                "identification among candidates beside the scored stimuli cannot be "
                "phase-randomised: the candidates' patterns are not kept; use null='permutation'"
            )
        return super().null_series(surrogates)

    def _redrawn(self, weights: np.ndarray | None, target_weights: np.ndarray) -> np.ndarray:
        """Every draw of targets has correlations of its own."""
        if self.n_others is not None and self.n_others.any():
            raise DataError(
                "identification among candidates beside the scored stimuli cannot be re-scored "
                "for other units: the candidates' patterns are not kept"
            )
        n = len(self.stimulus_id)
        lead = np.broadcast_shapes(
            target_weights.shape[:-1], () if weights is None else np.shape(weights)[:-1]
        )
        targets = np.broadcast_to(target_weights, (*lead, self.target_size))
        stimuli = np.broadcast_to(np.ones(n) if weights is None else weights, (*lead, n))
        out = np.full(lead, np.nan)
        for at in np.ndindex(*lead):
            columns = np.repeat(np.arange(self.target_size), targets[at].astype(int))
            if columns.size:
                drawn = self.take(columns)
                out[at] = drawn.score(stimuli[at])
        return out

    def ceiling_key(self) -> str:
        return "none"

    def ceiling(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        return no_ceiling(weights, target_weights)

    def to_arrays(self) -> dict[str, np.ndarray]:
        arrays = super().to_arrays() | {"n_way": np.array(self.n_way)}
        for name in ("above", "n_others"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> IdentificationEvidence:
        return cls(
            stimulus_id=arrays["stimulus_id"],
            observed=arrays["observed"],
            predicted=arrays["predicted"],
            fold=arrays.get("fold"),
            sources=tuple(arrays["sources"].tolist()),
            n_way=int(arrays["n_way"]),
            above=arrays.get("above"),
            n_others=arrays.get("n_others"),
            block=arrays.get("block"),
        )


def count_above(
    predicted: np.ndarray, observed: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates beside the scored stimuli, as the counts that identification needs of them.

    Parameters
    ----------
    predicted, observed : (stimulus, target)
    others : (candidate, target)
        Those that do not vary across targets can never be chosen and are dropped.

    Returns
    -------
    above : (stimulus, stimulus) int
        How many of them correlate more with predicted i than observed j does.
    n_others : (stimulus,) int
    """
    own = correlate_rows(predicted, observed)
    given = unit_rows(predicted)
    above = np.zeros(own.shape, dtype=np.int64)
    count = np.zeros(len(own), dtype=np.int64)
    for start in range(0, len(others), AT_ONCE):
        r = given @ unit_rows(others[start : start + AT_ONCE]).T
        for i, row in enumerate(r):
            held = np.sort(row[np.isfinite(row)])
            above[i] += len(held) - np.searchsorted(held, own[i] + ROUNDING, side="right")
            count[i] += len(held)
    return above, count


def _best_of(above: np.ndarray, total: np.ndarray, n_way: int) -> np.ndarray:
    """Chance that none of n_way − 1 rivals, drawn from `total` without return, is `above`."""
    out = np.ones_like(total)
    for k in range(n_way - 1):
        out *= np.clip((total - above - k) / (total - k), 0.0, 1.0)
    return out
