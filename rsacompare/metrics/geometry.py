"""Second moments compared: linear CKA, Procrustes similarity and PCM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError
from rsacompare.kernels import second_moment
from rsacompare.metrics.base import BIASED
from rsacompare.metrics.evidence import Meaning, Metric
from rsacompare.metrics.gram_evidence import (
    AlignmentEvidence,
    ComponentEvidence,
    GramEvidence,
    ProcrustesEvidence,
    Side,
)
from rsacompare.schema import labels

_FAMILY = "Diedrichsen & Kriegeskorte 2017, PLoS Computational Biology 13:e1005508"
_CKA = "Kornblith, Norouzi, Lee & Hinton 2019, ICML (arXiv:1905.00414)"


@dataclass
class _Network:
    """One layer, and its Gram for each set of stimuli that was asked for."""

    stimulus_id: np.ndarray
    patterns: np.ndarray
    where: str
    made: dict[bytes, Side] = field(default_factory=dict)


@dataclass(frozen=True)
class _Brain:
    """One region: sorted stimuli, the Gram of their mean patterns, the number of voxels."""

    stimulus_id: np.ndarray
    side: Side
    channels: int
    where: str


class _Geometry(Metric):
    """Metrics that see a layer and a region through their Grams over the same stimuli.

    The stimuli scored are the brain's: those of the `test` split where there is one, repetitions
    averaged. The mean pattern over stimuli is taken out on both sides.
    """

    accepts = frozenset({"activation", "response"})
    fewest: int = 3

    def prepare_activation(self, activation: xr.DataArray) -> _Network:
        """Keep one layer; its Gram is made for each set of stimuli that is asked for, once."""
        ids = activation["stimulus_id"].values.astype(str)
        patterns = activation.transpose("stimulus_id", "neuroid").values
        return _Network(ids, patterns, _where("network", activation))

    def prepare_response(self, response: xr.DataArray) -> _Brain:
        """The Gram of the mean patterns of one region.

        Raises
        ------
        DataError
            Too few stimuli; a split without `test`; patterns that do not vary over stimuli; NaN.
        """
        where = _where("brain", response)
        split = None
        if "split" in response.coords and (response["split"].values != "").any():
            split = "test"
            if not (response["split"].values == split).any():
                raise DataError(
                    f"{where}: no presentations of split 'test'; {self.name} scores the test "
                    "stimuli, or all stimuli of responses without a split"
                )
        response = response.transpose("presentation", "neuroid")
        ids, mean, _, _ = labels.average_repetitions(response, split)
        return _Brain(ids, self._side(mean, ids, where), mean.shape[1], where)

    def compare(self, activation: _Network, response: _Brain) -> GramEvidence:
        """Pair one layer's Gram with one region's, aligned by `stimulus_id`.

        Raises
        ------
        LabelError
            A stimulus of the brain that the network lacks.
        DataError
            Activations that do not vary over these stimuli.
        """
        ids = response.stimulus_id
        key = "\0".join(ids.tolist()).encode()
        if key not in activation.made:
            index = labels.index_of(
                ids, activation.stimulus_id, response.where, f"the {activation.where}"
            )
            side = self._side(activation.patterns[index], ids, activation.where)
            activation.made.setdefault(key, side)
        return self._evidence(ids, activation.made[key], response)

    @abstractmethod
    def _evidence(self, ids: np.ndarray, network: Side, brain: _Brain) -> GramEvidence:
        """The kind of evidence that this metric makes of two Grams."""

    def _side(self, patterns: np.ndarray, ids: np.ndarray, where: str) -> Side:
        if len(ids) < self.fewest:
            raise DataError(
                f"{where}: {len(ids)} stimuli; {self.meaning.label} needs {self.fewest} at least"
            )
        labels.require_finite(patterns, where)
        x = np.asarray(patterns, dtype=np.float64)
        spread = np.abs(x - x.mean(axis=0)).max()
        if spread <= 1e-13 * np.abs(x).max():
            raise DataError(
                f"{where}: all {len(ids)} stimuli have the same pattern over its {x.shape[1]} "
                "units or voxels; leave the layer or region out"
            )
        return Side(second_moment.gram(x))


class CKA(_Geometry):
    """Linear centred kernel alignment of a layer with a region.

    Parameters
    ----------
    debiased : bool
        By the unbiased HSIC of Song et al. (2012): unrelated patterns then score 0 on average,
        whatever the numbers of units, voxels and stimuli. The plain one is above 0 for these, the
        more so the fewer stimuli there are per channel (Murphy et al. 2024).

    Notes
    -----
    Plain CKA is the whitened cosine (`cosine_cov`, unit covariance) of the squared Euclidean RDMs
    (Diedrichsen et al. 2021). Under multiplicities the debiased one leaves out the pairs of a
    stimulus with its own copies: see `kernels.second_moment.alignment`.

    References
    ----------
    Kornblith et al. 2019; Song et al. 2012; Murphy, Zylberberg & Fyshe 2024.

    Examples
    --------
    >>> import rsacompare as rc
    >>> x = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 1], [2, 1, 0], [0, 0, 3]])
    >>> ids = ["a", "b", "c", "d", "e"]
    >>> layer = rc.activations({"net": {"l1": x}}, stimulus_id=ids)["net/l1"]["activation"]
    >>> brain = rc.responses({"s1": x[:, ::-1] * 2 + 5}, stimulus_id=ids)["s1"]["response"]
    >>> metric = CKA()
    >>> evidence = metric.compare(metric.prepare_activation(layer), metric.prepare_response(brain))
    >>> round(float(evidence.score()), 6)
    1.0
    """

    name = "cka"
    meaning = Meaning("CKA", unit="debiased CKA")

    def __init__(self, debiased: bool = True):
        self.debiased = bool(debiased)
        self.fewest = 4 if debiased else 3
        sentence = (
            "Linear centred kernel alignment of the stimulus × stimulus Gram of a layer with that "
            "of a region, mean patterns over repetitions"
        )
        if debiased:
            sentence += ", by the unbiased HSIC: unrelated patterns score 0 on average."
        else:
            sentence += (
                ". It is biased: unrelated patterns score above 0, the more so the fewer stimuli "
                f"there are for the number of units and voxels; {BIASED}"
            )
        self.meaning = Meaning(
            label="CKA",
            unit="debiased CKA" if debiased else "CKA",
            minimum=-1.0 if debiased else 0.0,
            sentence=sentence,
            ceiling=(
                "The noise ceiling is each subject's alignment with the mean of the others' "
                "Grams (lower end) and of all subjects' (upper end), each Gram over its norm: no "
                "model can exceed the upper end on average."
            ),
            citations=(
                _CKA,
                "Song, Smola, Gretton, Bedo & Borgwardt 2012, JMLR 13:1393-1434",
                "Murphy, Zylberberg & Fyshe 2024 (arXiv:2405.01012)",
                _FAMILY,
            ),
        )

    def config(self) -> dict[str, Any]:
        return {"debiased": self.debiased}

    def _evidence(self, ids: np.ndarray, network: Side, brain: _Brain) -> AlignmentEvidence:
        return AlignmentEvidence(ids, network, brain.side, debiased=self.debiased)


class Procrustes(_Geometry):
    """Procrustes similarity: the largest correlation of two configurations over rotations.

    Notes
    -----
    ‖X'Y‖_* / (‖X‖ ‖Y‖) of the centred patterns, the cosine of the angular Procrustes distance
    (Williams et al. 2021), from the Grams alone. Unrelated patterns score above 0: judge it by the
    permutation null. It has no noise ceiling. A draw costs nine singular value decompositions
    per cell where networks are contrasted, a permutation one: 10,000 of each take two to four
    seconds per cell (subject x ROI x layer) and core for 40 stimuli, and grow with their cube.
    Take fewer draws for many cells.

    References
    ----------
    Williams, Kunz, Kornblith & Linderman 2021.
    """

    name = "procrustes"
    meaning = Meaning(
        label="Procrustes",
        unit="Procrustes similarity",
        minimum=0.0,
        sentence=(
            "Procrustes similarity of a layer's and a region's patterns (mean over repetitions, "
            "the mean over stimuli taken out): their correlation after the best rotation. "
            f"Unrelated patterns score above 0: {BIASED}"
        ),
        ceiling="Procrustes similarity has no noise ceiling.",
        citations=(
            "Williams, Kunz, Kornblith & Linderman 2021, NeurIPS (arXiv:2110.14739)",
            _FAMILY,
        ),
    )

    def config(self) -> dict[str, Any]:
        return {}

    def _evidence(self, ids: np.ndarray, network: Side, brain: _Brain) -> ProcrustesEvidence:
        return ProcrustesEvidence(ids, network, brain.side)


class PCM(_Geometry):
    """Pattern component model: how likely a layer's second moment makes a region's patterns.

    Notes
    -----
    Each voxel is a draw of N(0, s G + σ² I) over the stimuli, G the layer's Gram and the mean over
    stimuli taken out (restricted likelihood); s and σ² are fitted by maximum likelihood. The score
    is the log-likelihood over that of unrelated stimuli (s = 0), in nats per voxel; voxels count
    as independent, so that it is no Bayes factor, and the permutation null (refitted for every
    order) is the judge of chance. Under multiplicities the fitted likelihood is weighed, without a
    new fit: see `gram_evidence.ComponentEvidence`.

    References
    ----------
    Diedrichsen, Yokoi & Arbuckle 2018; Diedrichsen & Kriegeskorte 2017.
    """

    name = "pcm"
    meaning = Meaning(
        label="PCM",
        unit="nats per voxel",
        minimum=-np.inf,
        maximum=np.inf,
        sentence=(
            "Pattern component modelling: the log-likelihood of a region's patterns (mean over "
            "repetitions, the mean over stimuli taken out) when each voxel is a draw of a normal "
            "distribution over stimuli with the layer's second moment, scaled, plus independent "
            "noise, both fitted; above the log-likelihood of independent stimuli and per voxel. "
            "It is never negative on the stimuli it was fitted to: judge it by the permutation "
            "null, which is fitted anew for each order of the stimuli."
        ),
        ceiling=(
            "The noise ceiling is the gain of the mean second moment of the other subjects (lower "
            "end) and of all subjects (upper end) as the model of each subject."
        ),
        citations=("Diedrichsen, Yokoi & Arbuckle 2018, NeuroImage 180:119-133", _FAMILY),
    )

    def config(self) -> dict[str, Any]:
        return {}

    def _evidence(self, ids: np.ndarray, network: Side, brain: _Brain) -> ComponentEvidence:
        return ComponentEvidence(ids, network, brain.side, channels=brain.channels)


def _where(kind: str, array: xr.DataArray) -> str:
    """What an array is, for messages."""
    named = [
        str(array.attrs[k]) for k in ("subject", "roi", "network", "layer") if k in array.attrs
    ]
    return f"{kind} ({', '.join(named)})" if named else kind
