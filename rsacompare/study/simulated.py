"""Studies like a given one, with two networks of known closeness: what power is simulated with.

Stimuli are points in a space of latent features, the k-th with variance 1/k. A region of a subject
reads the features that all subjects share, and some of its own, through random weights. A network
layer reads features of which each has a share (its closeness) in common with the shared one of the
same rank: by so much the region has the network's variance, and the network the region's, so that
the closer network is closer in every sense (DESIGN section 10). All is linear and Gaussian, noise
is independent. How reliable a region is, and how far subjects agree, is set to what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.kernels import dissimilarity, resample
from rsacompare.metrics.evidence import Metric
from rsacompare.schema import arrays, labels

FEATURES = 20
SPECTRUM = np.sqrt((1 / np.arange(1, FEATURES + 1)) / (1 / np.arange(1, FEATURES + 1)).sum())
UNITS = 40  # of a simulated layer
MOST_VOXELS = 150
MOST_SUBJECTS = 12
MOST_STIMULI = 120
MOST_REPETITIONS = 6  # of a scored stimulus; fewer with less noise give the same mean
NETWORKS = ("a", "b")
AGREEMENTS = np.array([0.0, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0])
RELIABILITIES = np.array([0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.99])


@dataclass(frozen=True)
class Region:
    """One ROI of a design: what it is like in the mean over subjects.

    `reliability`: of the mean over the repetitions, per voxel; `agreement`: share of the signal's
    variance that subjects have in common.
    """

    roi: str
    n_voxels: int
    reliability: float
    agreement: float = 1.0


@dataclass(frozen=True)
class Design:
    """What a simulated study is made of; ROIs of one design share subjects and stimuli."""

    kind: str  # responses or rdms
    n_subjects: int
    n_stimuli: int
    n_repetitions: int
    n_train: int = 0  # 0: no split
    train_repetitions: int = 1
    n_layers: int = 1  # or 2
    layer_correlation: float = 0.0  # of what the two have of their own
    more_repetitions: float = 1.0  # factor on the repetitions of scored stimuli

    def capped(self) -> Design:
        """The design as far as it is simulated; variance components carry it further."""
        return replace(
            self,
            n_subjects=min(self.n_subjects, MOST_SUBJECTS),
            n_stimuli=min(self.n_stimuli, MOST_STIMULI),
        )

    def train_size(self, n_voxels: int) -> int:
        """Training stimuli: fewer where voxels are capped, in the same proportion."""
        if n_voxels <= MOST_VOXELS:
            return min(self.n_train, 10 * MOST_VOXELS)
        return min(self.n_train, max(100, round(self.n_train * MOST_VOXELS / n_voxels)))


def noise_variance(reliability: float) -> float:
    """Of the mean over repetitions, where the signal has variance 1."""
    return 1 / reliability - 1


def _latents(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, FEATURES)) * SPECTRUM


def _read(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random weights (feature, channel): a channel has variance 1 in the mean."""
    return rng.standard_normal((FEATURES, n))


def study(
    design: Design, regions: Sequence[Region], closeness: tuple[float, float], seed: int, index: int
) -> tuple[xr.DataTree, xr.DataTree]:
    """One simulated study: brain and networks.

    Parameters
    ----------
    closeness : (a, b)
        Share of each network feature's variance that is the shared feature's.
    seed, index : int
        What is drawn for an ROI depends on neither the other ROIs nor the closeness.

    Returns
    -------
    brain, networks : DataTree
    """
    n_train = max((design.train_size(r.n_voxels) for r in regions), default=0)
    n_all = n_train + design.n_stimuli
    shared = _latents(resample.stream(seed, "power", "stimuli", index), n_all)
    ids = np.array([f"train{i:05d}" for i in range(n_train)]
                   + [f"test{i:05d}" for i in range(design.n_stimuli)])  # fmt: skip
    brain = _brain(design, regions, shared, ids, n_train, seed, index)
    rng = resample.stream(seed, "power", "networks", index)
    nets: dict[str, dict[str, np.ndarray]] = {}
    for name, close in zip(NETWORKS, closeness, strict=True):
        nets[name] = {}
        own = _latents(rng, n_all)
        for k in range(design.n_layers):
            if k:  # two layers at most
                r = design.layer_correlation
                own = r * own + np.sqrt(1 - r**2) * _latents(rng, n_all)
            features = np.sqrt(close) * shared + np.sqrt(1 - close) * own
            nets[name][f"layer{k + 1}"] = (features @ _read(rng, UNITS)).astype(np.float32)
    return brain, arrays.activations(nets, stimulus_id=ids)


def _brain(
    design: Design,
    regions: Sequence[Region],
    shared: np.ndarray,
    ids: np.ndarray,
    n_train: int,
    seed: int,
    index: int,
) -> xr.DataTree:
    subjects = [f"sub-{s + 1:02d}" for s in range(design.n_subjects)]
    scored = np.arange(n_train, len(ids))
    m = min(design.n_repetitions, MOST_REPETITIONS)
    shown = np.r_[np.repeat(np.arange(n_train), design.train_repetitions), np.tile(scored, m)]
    n_presented = n_train * design.train_repetitions
    data: dict[str, Any] = {}
    sizes = [min(region.n_voxels, MOST_VOXELS) for region in regions]
    for subject in subjects:
        parts = []
        for region, n_voxels in zip(regions, sizes, strict=True):
            rng = resample.stream(seed, "power", "brain", region.roi, subject, index)
            signal = _signal(rng, shared, region.agreement, n_voxels)
            variance = noise_variance(region.reliability)
            if design.kind == "rdms":
                noise = np.sqrt(variance / design.more_repetitions)
                patterns = signal + noise * rng.standard_normal(signal.shape)
                parts.append(dissimilarity.DISTANCES["correlation"](patterns))
                continue
            # one presentation's noise; of scored ones fewer are simulated than there are
            single = np.sqrt(variance * design.n_repetitions)
            spread = np.full(len(shown), np.sqrt(variance * m / design.more_repetitions))
            spread[:n_presented] = single
            noise = rng.standard_normal((len(shown), n_voxels), dtype=np.float32)
            parts.append(signal[shown] + spread[:, None] * noise)
        if design.kind == "rdms":
            data[subject] = {r.roi: rdm for r, rdm in zip(regions, parts, strict=True)}
        else:
            data[subject] = np.hstack(parts).astype(np.float32)
    if design.kind == "rdms":
        return arrays.rdms(data, stimulus_id=ids)
    owner = np.repeat(np.arange(len(regions)), sizes)
    masks = {region.roi: owner == k for k, region in enumerate(regions)}
    split = np.where(np.arange(len(shown)) < n_presented, "train", "test") if n_train else None
    return arrays.responses(data, stimulus_id=ids[shown], split=split, roi_mask=masks)


def _signal(
    rng: np.random.Generator, shared: np.ndarray, agreement: float, n_voxels: int
) -> np.ndarray:
    own = _latents(rng, len(shared))
    weights = _read(rng, n_voxels), _read(rng, n_voxels)
    return np.sqrt(agreement) * shared @ weights[0] + np.sqrt(1 - agreement) * own @ weights[1]


def rsa_ceiling(
    design: Design, region: Region, rsa: Metric, seed: int, n_studies: int = 3
) -> float:
    """Lower RSA noise ceiling that this agreement and reliability lead to, mean over studies."""
    plain = replace(design, n_train=0)
    found = []
    for index in range(n_studies):
        shared = _latents(resample.stream(seed, "power", "ceiling", index), design.n_stimuli)
        ids = np.array([f"test{i:05d}" for i in range(design.n_stimuli)])
        brain = _brain(plain, [region], shared, ids, 0, seed, -1 - index)
        cells = []
        for node in brain.children.values():
            data = node.to_dataset()
            if design.kind == "rdms":
                part = own = data["rdm"].sel(roi=region.roi, drop=True)
            else:
                part = data["response"]
                names, mean, _, _ = labels.average_repetitions(part)
                own = xr.DataArray(
                    mean, dims=("stimulus_id", "neuroid"), coords={"stimulus_id": names}
                )
            cells.append(rsa.compare(rsa.prepare_activation(own), rsa.prepare_response(part)))
        found.append(float(np.mean(type(cells[0]).group_ceiling(cells)[0])))
    return float(np.mean(found))


def fitted(design: Design, region: Region, ceiling: float, rsa: Metric, seed: int) -> Region:
    """The region with the agreement of subjects (or the reliability) that gives its RSA ceiling.

    Where the reliability is known, the rest is what subjects do not share; where it is not (one
    repetition, RDMs alone), all that they do not share is taken for noise.
    """
    small = design.capped()
    known = np.isfinite(region.reliability)
    if design.n_subjects < 2 or not np.isfinite(ceiling):
        return region
    grid = AGREEMENTS if known else RELIABILITIES

    def at(value: float) -> Region:
        if known:
            return replace(region, agreement=value)
        return replace(region, reliability=value)

    reached = [rsa_ceiling(small, at(value), rsa, seed) for value in grid.tolist()]
    return at(float(np.interp(ceiling, np.maximum.accumulate(reached), grid)))
