"""Representational similarity analysis: dissimilarities of the same stimuli, compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.kernels import correlate, dissimilarity, noise
from rsacompare.metrics import noise_distances
from rsacompare.metrics.evidence import Metric, PairEvidence
from rsacompare.metrics.rsa_meaning import meaning
from rsacompare.schema import labels

_NETWORK = {name: "euclidean" for name in noise_distances.DISTANCES}  # it has no noise
_DISTANCES = (*dissimilarity.DISTANCES, *noise_distances.DISTANCES)
_NOISE = (*noise.NOISE, "none")


@dataclass
class _Network:
    """One layer: its patterns or its square RDM, and the vectors made from them so far."""

    stimulus_id: np.ndarray
    patterns: np.ndarray | None
    square: np.ndarray | None
    where: str
    made: dict[bytes, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class _Brain:
    """Dissimilarities of one subject and ROI: sorted stimuli and the vector of their pairs."""

    stimulus_id: np.ndarray
    vector: np.ndarray
    where: str


class RSA(Metric):
    """Dissimilarities of the network's patterns against those of the brain's.

    Parameters
    ----------
    distance : {"correlation", "euclidean", "mahalanobis", "crossnobis"}
        How two patterns differ. The last two know the brain's noise; a network has none, and its
        side is then the squared Euclidean distance. It cannot apply where a network or brain is
        given as RDMs: those are taken as they are.
    comparator : str
        How two RDMs agree, a name of `kernels.correlate.COMPARATORS`.
    noise : {"shrinkage_diag", "shrinkage_eye", "diag", "full", "none"}
        The noise covariance over the voxels of a region, for `mahalanobis` and `crossnobis`;
        `none` is the identity.
    folds : str
        For `crossnobis`: the coordinate of the presentations whose levels are independent
        measurements, `repetition` (always there), `run`, `session`; `session+run` where runs are
        counted anew in each session. Name the run where a run repeats a stimulus: repetitions in
        one run share its noise.
    residuals : DataTree or path, optional
        From `rsacompare.responses`, or its netCDF file (a relative path in a study file starts at
        that file), with the subjects, ROIs and voxels of the brain: rows that hold noise alone (of
        a GLM, say). By default the noise is what repetitions leave after the mean of their
        stimulus; for `crossnobis` those in other folds, at most five covariances for all folds:
        one that knows the fold it whitens makes all distances too large.
    residual_dof : int, optional
        Degrees of freedom of the residuals; rows − 1 when absent.

    Raises
    ------
    ProtocolError
        Unknown distance, comparator or noise.

    Notes
    -----
    The stimuli scored are the brain's: those of the `test` split where there is one, repetitions
    averaged; sessions of an RDM are averaged too. The network may know more stimuli, in any order.

    Crossnobis distances are unbiased and negative where stimuli hardly differ. All comparators
    take them as they are: products and ranks know signs, and nothing is clipped. Against a
    network's squared Euclidean distances `cosine` then keeps the meaning of zero, which ranks
    and correlations ignore.

    What cannot be compared is an error that says where: fewer than three stimuli; a pattern that
    is constant over voxels, also in an ROI of one voxel (`correlation`); NaN; a singular noise
    covariance (copied voxels, or `full` with fewer degrees of freedom than voxels); stimuli shown
    once (`mahalanobis`, `crossnobis`), or in two folds only (`crossnobis` with its noise from
    repetitions: without one fold there are none; give residuals or `noise="none"`). One subject
    has scores and no noise ceiling (NaN).

    References
    ----------
    Kriegeskorte, Mur & Bandettini 2008; Nili et al. 2014; Walther et al. 2016; Schütt et al. 2023.
    FACTS section 7.

    Examples
    --------
    >>> import rsacompare as rc
    >>> metric = RSA(comparator="corr")
    >>> ids = ["a", "b", "c"]
    >>> x = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 1]])
    >>> layer = rc.activations({"net": {"l1": x}}, stimulus_id=ids)["net/l1"]["activation"]
    >>> brain = rc.responses({"s1": x * 2 + 5}, stimulus_id=ids)["s1"]["response"]
    >>> evidence = metric.compare(metric.prepare_activation(layer), metric.prepare_response(brain))
    >>> round(float(evidence.score()), 6)
    1.0
    """

    name = "rsa"
    meaning = meaning("correlation", "spearman", "none", "", False)
    accepts = frozenset({"activation", "network_rdm", "response", "brain_rdm"})

    def __init__(
        self,
        distance: str = "correlation",
        comparator: str = "spearman",
        noise: str = "shrinkage_diag",
        folds: str = "repetition",
        residuals: xr.DataTree | Path | str | None = None,
        residual_dof: int | None = None,
    ):
        for what, name, known in (
            ("distance", distance, _DISTANCES),
            ("comparator", comparator, correlate.COMPARATORS),
            ("noise", noise, _NOISE),
        ):
            if name not in known:
                raise ProtocolError(plugins.unknown(what, name, known))
        self.distance = distance
        self.comparator = comparator
        self.noise = noise
        self.folds = folds
        self.residuals = noise_distances.read(residuals)
        self.residual_dof = residual_dof
        self.meaning = meaning(distance, comparator, noise, folds, residuals is not None)

    def config(self) -> dict[str, Any]:
        used: dict[str, Any] = {"distance": self.distance, "comparator": self.comparator}
        if self.distance in noise_distances.DISTANCES:
            used |= {"noise": self.noise}
            if self.residuals is not None:
                used |= {"residuals": noise_distances.digest(self.residuals)}
                used |= {"residual_dof": self.residual_dof}
        if self.distance == "crossnobis":
            used |= {"folds": self.folds}
            if self.noise != "none" and self.residuals is None:
                # said also so that cells kept by the older rule have another key
                used |= {"noise_from": "other folds"}
        return used

    def prepare_activation(self, activation: xr.DataArray) -> _Network:
        """Keep one layer; its RDM is computed for each set of stimuli that is asked for, once.

        Parameters
        ----------
        activation : DataArray
            `activation(stimulus_id, neuroid)`, or `rdm(pair)` with `stimulus_a`, `stimulus_b`.

        Raises
        ------
        DataError, LabelError
            An RDM that lacks pairs, or holds one twice.
        """
        where = _where("network", activation)
        if "pair" in activation.dims:
            ids, square = _square(activation, where)
            return _Network(ids, None, square, where)
        ids = activation["stimulus_id"].values.astype(str)
        patterns = activation.transpose("stimulus_id", "neuroid").values
        return _Network(ids, patterns, None, where)

    def prepare_response(self, response: xr.DataArray) -> _Brain:
        """Dissimilarities of one subject and ROI, over the sorted stimuli.

        Parameters
        ----------
        response : DataArray
            `response(presentation, neuroid)`: the mean over repetitions in the `test` split, or
            over all where there is no split. Or `rdm([session,] pair)`: the mean over sessions.

        Raises
        ------
        DataError
            Fewer than three stimuli; a split without `test`; a constant pattern (`correlation`);
            a noise covariance that cannot be inverted.
        ProtocolError
            No repetitions to take the noise or the folds from.
        """
        where = _where("brain", response)
        if "pair" in response.dims:
            if "session" in response.dims:
                response = response.mean("session")
            ids, square = _square(response, where)
            order = np.argsort(ids, kind="stable")
            i, j = np.triu_indices(len(ids), 1)
            return _Brain(ids[order], square[order[i], order[j]], where)
        split = None
        if "split" in response.coords and (response["split"].values != "").any():
            split = "test"
            if not (response["split"].values == split).any():
                raise DataError(
                    f"{where}: no presentations of split 'test', only "
                    f"{labels.listed(sorted(set(response['split'].values.tolist())))}; RSA scores "
                    "the test stimuli, or all stimuli of responses without a split"
                )
        response = response.transpose("presentation", "neuroid")
        if self.distance in noise_distances.DISTANCES:
            scored = response if split is None else response[response["split"].values == split]
            _enough(np.unique(scored["stimulus_id"].values), where)
            ids, vector = noise_distances.distances(
                scored, self.distance, self.noise, self.folds, self.residuals,
                self.residual_dof, where,
            )  # fmt: skip
            return _Brain(ids, vector, where)
        ids, mean, _, _ = labels.average_repetitions(response, split)
        return _Brain(ids, self._distances(mean, ids, where), where)

    def compare(self, activation: _Network, response: _Brain) -> PairEvidence:
        """Pair one layer's dissimilarities with one region's, aligned by `stimulus_id`.

        Raises
        ------
        LabelError
            A stimulus of the brain that the network lacks.
        DataError
            A constant pattern (`correlation`).
        """
        ids = response.stimulus_id
        key = "\0".join(ids.tolist()).encode()
        if key not in activation.made:
            index = labels.index_of(
                ids, activation.stimulus_id, response.where, f"the {activation.where}"
            )
            if activation.square is not None:
                i, j = np.triu_indices(len(ids), 1)
                vector = activation.square[index[i], index[j]]
            else:
                assert activation.patterns is not None
                vector = self._distances(activation.patterns[index], ids, activation.where)
            # two threads may both get here; they make the same vector, and one is kept
            activation.made.setdefault(key, vector)
        return PairEvidence(
            stimulus_id=ids,
            network=activation.made[key],
            brain=response.vector,
            comparator=self.comparator,
        )

    def _distances(self, patterns: np.ndarray, ids: np.ndarray, where: str) -> np.ndarray:
        _enough(ids, where)
        labels.require_finite(patterns, where)
        if self.distance == "correlation":
            flat = ids[dissimilarity.constant_patterns(patterns)]
            if len(flat):
                raise DataError(
                    f"{where}: the pattern of stimulus {labels.listed(list(flat))} is constant "
                    f"over all {patterns.shape[1]} units or voxels: its correlation distance is "
                    "undefined; leave the stimulus or layer out, or use distance='euclidean'"
                )
        return dissimilarity.DISTANCES[_NETWORK.get(self.distance, self.distance)](patterns)


def _where(kind: str, array: xr.DataArray) -> str:
    """What an array is, for messages."""
    named = [
        str(array.attrs[k]) for k in ("subject", "roi", "network", "layer") if k in array.attrs
    ]
    return f"{kind} ({', '.join(named)})" if named else kind


def _enough(ids: np.ndarray, where: str) -> None:
    if len(ids) < 3:
        raise DataError(f"{where}: {len(ids)} stimuli; RSA compares pairs and needs 3 at least")


def _square(rdm: xr.DataArray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Stimuli in order of appearance and the (stimulus, stimulus) matrix of a `pair` vector."""
    a, b = rdm["stimulus_a"].values.astype(str), rdm["stimulus_b"].values.astype(str)
    ids = np.array(list(dict.fromkeys([*a.tolist(), *b.tolist()])))
    _enough(ids, where)
    i = labels.index_of(a, ids, where, where)
    j = labels.index_of(b, ids, where, where)
    square = np.full((len(ids), len(ids)), np.nan)
    square[i, j] = square[j, i] = rdm.values
    n_pairs = len(ids) * (len(ids) - 1) // 2
    distinct = len({(min(p), max(p)) for p in zip(i.tolist(), j.tolist(), strict=True)})
    if len(i) != n_pairs or distinct != n_pairs or (i == j).any():
        raise LabelError(
            f"{where}: {len(i)} pairs, {distinct} of them distinct, but {len(ids)} stimuli make "
            f"{n_pairs}; every two stimuli must stand there once"
        )
    labels.require_finite(rdm.values[None], where)
    return ids, square
