"""What any metric gives, checked where it is given: a guest's slip is named, never scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.metrics.evidence import KINDS, Evidence, PairEvidence, TargetEvidence
from rsacompare.schema.labels import listed


def require_sound(evidence: Any, brain: xr.Dataset) -> None:
    """Raise unless `compare` and `infer` can work with what a metric's `compare` returned.

    Parameters
    ----------
    evidence : anything
    brain : Dataset
        Of the subject it was made from: its stimuli (and their `category`) may be scored.

    Raises
    ------
    ProtocolError
        No evidence, or a score that is not one number.
    LabelError
        Stimuli that are there twice, or that the brain never saw. (Their order is free: they are
        known by their labels.)
    DataError
        NaN among dissimilarities, or for some stimuli of a target. (A target of nothing but NaN
        has no correlation, like one without variance: it is left out, and counted.)
    """
    if not isinstance(evidence, Evidence):
        raise ProtocolError(
            f"the metric gave {type(evidence).__name__}, expected evidence such as "
            "rsacompare.TargetEvidence(stimulus_id, observed, predicted)"
        )
    ids = np.asarray(evidence.stimulus_id).astype(str)
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise LabelError(
            f"stimuli stand twice in the metric's evidence: {listed(names[counts > 1].tolist())}; "
            "rsacompare.average_repetitions gives each once"
        )
    known: set[str] = set()
    for name in ("stimulus_id", "category", "stimulus_a", "stimulus_b"):  # the latter of pairs
        if name in brain.coords:
            known.update(map(str, brain[name].values.tolist()))
    strange = [s for s in ids.tolist() if s not in known]
    if strange:
        raise LabelError(
            f"the metric's evidence is of {len(strange)} stimuli that the brain never saw: "
            f"{listed(strange)}"
        )
    if isinstance(evidence, PairEvidence):
        for side in ("network", "brain"):
            holes = int(np.isnan(getattr(evidence, side)).sum())
            if holes:
                raise DataError(
                    f"{holes} of {evidence.network.size} dissimilarities of the {side} are NaN"
                )
    elif isinstance(evidence, TargetEvidence):
        for side in ("observed", "predicted"):
            missing = np.isnan(getattr(evidence, side))
            torn = missing.any(axis=0) & ~missing.all(axis=0)
            if torn.any():
                where = ids[missing[:, torn].any(axis=1)].tolist()
                raise DataError(
                    f"{side} is NaN for some stimuli ({listed(where)}) in {int(torn.sum())} of "
                    f"{torn.size} targets; leave out the stimuli, or the targets"
                )
    if type(evidence) not in KINDS.values() and np.shape(evidence.score()) != ():
        raise ProtocolError(
            f"the score of {type(evidence).__name__} has shape {np.shape(evidence.score())}, "
            "expected one number"
        )
