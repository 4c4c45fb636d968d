"""What a metric returns: evidence that can be re-scored under any weighting of the stimuli.

The contract is in `base`; the kinds of evidence, each under the name that a store knows it by, are
those of `KINDS`.
"""

from __future__ import annotations

from rsacompare.metrics.base import Evidence, Meaning, Metric
from rsacompare.metrics.identification import IdentificationEvidence
from rsacompare.metrics.normalised import NormalisedEvidence
from rsacompare.metrics.pairs import PairEvidence
from rsacompare.metrics.profiles import PatternEvidence, ProfileEvidence
from rsacompare.metrics.targets import TargetEvidence

__all__ = [
    "KINDS",
    "Evidence",
    "IdentificationEvidence",
    "Meaning",
    "Metric",
    "NormalisedEvidence",
    "PairEvidence",
    "PatternEvidence",
    "ProfileEvidence",
    "TargetEvidence",
]

KINDS: dict[str, type[Evidence]] = {
    kind.kind: kind
    for kind in (
        TargetEvidence,
        PairEvidence,
        ProfileEvidence,
        PatternEvidence,
        IdentificationEvidence,
        NormalisedEvidence,
    )
}
