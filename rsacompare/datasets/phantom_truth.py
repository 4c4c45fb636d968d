"""The population behind a phantom, and what it makes the right answer.

Everything here is exact: presets, the mixtures that voxels and units read, the shares of variance
they have in common, and the limits of their decoding and encoding scores. Nothing is estimated
from simulated responses; those are drawn in `rsacompare.datasets.phantom`, where the presets are
explained.

The world has shared latent features in nine groups of six: one group per level of a hierarchy
(level 0 to 7) and one that everything reads. A region or a layer at a level reads that level with
weight 1 and its neighbours with weight 1/2, so that depth has a peak, and the common group with a
fifth of its variance, so that no two are wholly unrelated. Within a group the k-th feature has
variance 1/k (FACTS section 11). A network may read only the first `reach` features of each group,
and has a `private` share of variance in groups of its own, laid out in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVELS = 8
PER_GROUP = 6  # features in a group
SHARED = (LEVELS + 1) * PER_GROUP
EVERYWHERE = 0.2  # share of the shared variance that lies in the common group
NETWORKS = ("sim-alexnet", "sim-resnet50")
LAYERS = {
    "sim-alexnet": tuple(f"cnn{i}" for i in range(1, LEVELS + 1)),
    "sim-resnet50": (
        "conv1",
        "conv2_block2",
        "conv3_block2",
        "conv3_block4",
        "conv4_block3",
        "conv4_block5",
        "conv5_block1",
        "predictions",
    ),
}
# Disjoint areas in anatomical order, each at the level of its place in this list; `HVC_other`
# holds the voxels of the higher visual cortex that no localiser claims.
AREAS = ("V1", "V2", "V3", "V4", "HVC_other", "LOC", "FFA", "PPA")
ROIS = {
    **{area: (area,) for area in AREAS if area != "HVC_other"},
    "LVC": ("V1", "V2", "V3"),
    "HVC": ("HVC_other", "LOC", "FFA", "PPA"),
    "VC": AREAS,
}
TRUTH_COLUMNS = (
    "network",
    "layer",
    "roi",
    "network_share",
    "region_share",
    "expected_decoding",
    "expected_encoding",
)
TRUTH_MEANING = {
    "network_share": "share of the layer's variance that lies in what the region represents",
    "region_share": "share of the region's reliable variance that lies in what the layer "
    "represents, mean over subjects",
    "expected_decoding": "limit of the mean correlation over units between a unit and its "
    "prediction from the region's voxels, for least squares on all voxels of the region, "
    "infinitely many single-trial training and infinitely many test stimuli, predictions from "
    "the mean of the test repetitions; mean over subjects. Selecting voxels and finite training "
    "data lower what is reached",
    "expected_encoding": "limit of the mean correlation over voxels between the mean of the test "
    "repetitions and its prediction from the layer, for infinitely many training and test "
    "stimuli: root of the share of the voxel's signal variance that the layer has, times the "
    "root of the reliability of that mean; mean over subjects. Finite training data lower it",
}


@dataclass(frozen=True)
class Network:
    """What a network reads: `reach` features per shared group, `private` share of variance."""

    reach: int
    private: float
    private_reach: int

    @property
    def n_features(self) -> int:
        """The most features that one of its layers reads: three levels and the common group."""
        return 4 * (self.reach + self.private_reach)


@dataclass(frozen=True)
class Preset:
    """Two networks and the right answer: by the population numbers, by decoding, by encoding."""

    networks: Mapping[str, Network]
    verdict: str
    decoding: str
    encoding: str
    sentence: str


def _pair(alexnet: Network, resnet50: Network) -> dict[str, Network]:
    return dict(zip(NETWORKS, (alexnet, resnet50), strict=True))


PRESETS = {
    "flip": Preset(
        _pair(Network(2, 0.2, 2), Network(6, 0.5, 6)),
        "flip: decoding favours sim-alexnet, encoding favours sim-resnet50",
        "sim-alexnet",
        "sim-resnet50",
        "The two networks differ in kind: nearly all that sim-alexnet represents is in the brain, "
        "but it lacks much of what the brain represents; sim-resnet50 has all that the brain "
        "represents, and much else besides. Decoding favours the first, encoding the second, and "
        "naming one winner would be an error.",
    ),
    "closer": Preset(
        _pair(Network(6, 0.2, 2), Network(2, 0.5, 6)),
        "closer: sim-alexnet",
        "sim-alexnet",
        "sim-alexnet",
        "sim-alexnet is truly closer to the brain: more of its variance is in the brain, and it "
        "has more of the brain's variance.",
    ),
    "equal": Preset(
        _pair(Network(4, 0.4, 4), Network(4, 0.4, 4)),
        "equal",
        "neither",
        "neither",
        "The two networks are equally close to the brain: they read the same features in the same "
        "proportions through different random readouts, with equally much private variance.",
    ),
    "null": Preset(
        _pair(Network(0, 1.0, 6), Network(0, 1.0, 6)),
        "null",
        "neither",
        "neither",
        "Neither network has anything to do with the brain: all their variance is private.",
    ),
}


@dataclass(frozen=True)
class Size:
    """How large a phantom is; every field but `voxels` can be overridden by name."""

    n_subjects: int
    n_train: int
    n_test: int
    n_repetitions: int
    n_units: int
    noise: float  # sd of one presentation's noise; the mean signal variance of an area is 1
    voxels: tuple[int, ...]  # per area, before the variation between subjects


SIZES = {
    "small": Size(5, 300, 40, 10, 120, 1.0, (60, 56, 48, 44, 30, 42, 36, 34)),
    "medium": Size(5, 1200, 50, 10, 150, 2.0, (180, 168, 144, 132, 90, 126, 108, 102)),
    "full": Size(5, 1200, 50, 35, 1000, 2.0, (1000, 900, 700, 500, 300, 450, 350, 300)),
}


def rng(random_state: int, *name: object) -> np.random.Generator:
    """A generator of its own for `name`: draws do not depend on what else is drawn."""
    return np.random.default_rng([random_state, *"/".join(map(str, name)).encode()])


def profile(level: int, reach: int = PER_GROUP) -> np.ndarray:
    """Variance per shared feature of what stands at `level`: (SHARED,), sum 1 (0 for reach 0)."""
    groups = np.maximum(0, 1 - np.abs(np.arange(LEVELS) - level) / 2)
    groups = np.append((1 - EVERYWHERE) * groups / groups.sum(), EVERYWHERE)
    rank = np.arange(1, PER_GROUP + 1)
    within = np.where(rank <= reach, 1 / rank, 0)
    return np.outer(groups, within / max(within.sum(), 1e-300)).ravel()


def readout(generator: np.random.Generator, n_channels: int, variance: np.ndarray) -> np.ndarray:
    """Random loadings (channel, feature) whose mean variance per feature is exactly `variance`.

    The columns are orthogonal, so that the variance of a whole layer or area is shared out over
    the features as its profile says, and not merely in expectation over readouts.
    """
    read = np.flatnonzero(variance)
    if n_channels < read.size:
        raise ValueError(f"{n_channels} channels cannot read {read.size} features")
    loadings = np.zeros((n_channels, variance.size))
    basis, _ = np.linalg.qr(generator.standard_normal((n_channels, read.size)))
    loadings[:, read] = basis * np.sqrt(n_channels * variance[read])
    return loadings


def layer_readouts(
    preset: Preset, size: Size, random_state: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(network, layer, loadings) with loadings (unit, feature): shared features, then private."""
    for name, network in preset.networks.items():
        for level, layer in enumerate(LAYERS[name]):
            shared = (1 - network.private) * profile(level, network.reach)
            private = network.private * profile(level, network.private_reach)
            generator = rng(random_state, "units", name, layer)
            yield name, layer, readout(generator, size.n_units, np.append(shared, private))


def subject_names(size: Size) -> list[str]:
    """`sub-01`, `sub-02` …"""
    return [f"sub-{i:02d}" for i in range(1, size.n_subjects + 1)]


def area_readouts(size: Size, random_state: int, subject: str) -> dict[str, np.ndarray]:
    """Loadings (voxel, shared feature) per area of one subject; voxel counts vary by a tenth."""
    generator = rng(random_state, "voxels", subject)
    factors = generator.uniform(0.9, 1.1, len(AREAS))
    return {
        area: readout(generator, round(count * factor), profile(level))
        for level, (area, count, factor) in enumerate(zip(AREAS, size.voxels, factors, strict=True))
    }


def decoding_limit(
    units: np.ndarray, voxels: np.ndarray, noise: float, n_repetitions: float
) -> np.ndarray:
    """Correlation of each unit with its best linear prediction from noisy voxels.

    β = (C + σ²I)⁻¹c and r² = (c′β)² / [β′(C + σ²/m·I)β · var u], where C is the covariance of the
    voxels' signals, c its covariance with the unit, σ² the noise variance of one presentation (on
    which the predictor is trained) and m the number of averaged test repetitions (DESIGN section
    10, FACTS section 11). With V the voxels' loadings, c = Vg and β = V(V′V + σ²I)⁻¹g: the work is
    done in the eigenvectors of V′V, which has the size of the features.

    Parameters
    ----------
    units : (unit, feature)
        Loadings; features beyond those of the voxels are private to the units.
    voxels : (voxel, feature)
    noise : float
        Standard deviation of one presentation's noise.
    n_repetitions : float

    Returns
    -------
    (unit,) ndarray
        0 for units that share nothing with the voxels.
    """
    power, axes = _spectrum(voxels)
    loads = np.square(units[:, : len(axes)] @ axes)
    return _decoding(loads, np.square(units).sum(axis=1), power, noise, n_repetitions)


def _spectrum(loadings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances and axes (feature, rank) of the features that the channels (rows) can tell."""
    values, vectors = np.linalg.eigh(loadings.T @ loadings)
    read = values > 1e-9 * values[-1]
    return values[read], vectors[:, read]


def _decoding(
    loads: np.ndarray, variance: np.ndarray, power: np.ndarray, noise: float, n_repetitions: float
) -> np.ndarray:
    """Per unit, from its squared loadings on the region's axes, its variance and their power."""
    gain = power / (power + noise**2)
    spread = gain**2 * (1 + noise**2 / n_repetitions / power)
    scale = np.sqrt(loads @ spread * variance)
    return np.divide(loads @ gain, scale, out=np.zeros_like(scale), where=scale > 0)


def encoding_limit(
    voxels: np.ndarray, units: np.ndarray, noise: float, n_repetitions: float
) -> np.ndarray:
    """Correlation of each voxel's mean over repetitions with its best prediction from units.

    The root of the share of signal variance inside the row space of the layer, times the root of
    the reliability of the mean of the repetitions (FACTS section 11). Shapes as in
    `decoding_limit`; returns (voxel,).
    """
    _, basis = _spectrum(units)
    has = np.square(voxels @ basis[: voxels.shape[1]]).sum(axis=1)
    return _encoding(has, np.square(voxels).sum(axis=1), noise, n_repetitions)


def _encoding(
    has: np.ndarray, signal: np.ndarray, noise: float, n_repetitions: float
) -> np.ndarray:
    """Per voxel, from the signal variance that the layer has and all of it."""
    return np.sqrt(has / (signal + noise**2 / n_repetitions))


def truth_table(preset: Preset, size: Size, random_state: int) -> pd.DataFrame:
    """Population numbers and expected scores, a row per network × layer × roi.

    Columns `TRUTH_COLUMNS`, explained in `TRUTH_MEANING`.
    """
    layers = list(layer_readouts(preset, size, random_state))
    variances = [np.square(units).sum(axis=1) for _, _, units in layers]
    bases = [_spectrum(units)[1][:SHARED] for _, _, units in layers]
    cells = np.zeros((size.n_subjects, len(layers), len(ROIS), 4))
    for s, subject in enumerate(subject_names(size)):
        areas = area_readouts(size, random_state, subject)
        everything = np.concatenate(list(areas.values()))
        area = np.repeat(list(areas), [len(loadings) for loadings in areas.values()])
        signal = np.square(everything).sum(axis=1)
        has = np.array([np.square(everything @ basis).sum(axis=1) for basis in bases])
        for r, parts in enumerate(ROIS.values()):
            mask = np.isin(area, parts)
            power, axes = _spectrum(everything[mask])
            for i, (_, _, units) in enumerate(layers):
                loads = np.square(units[:, :SHARED] @ axes)
                noisy = size.noise, size.n_repetitions
                cells[s, i, r] = (
                    loads.sum() / variances[i].sum(),
                    has[i, mask].sum() / signal[mask].sum(),
                    _decoding(loads, variances[i], power, *noisy).mean(),
                    _encoding(has[i, mask], signal[mask], *noisy).mean(),
                )
    mean = cells.mean(axis=0)
    return pd.DataFrame(
        [
            (network, layer, roi, *mean[i, r].tolist())
            for i, (network, layer, _) in enumerate(layers)
            for r, roi in enumerate(ROIS)
        ],
        columns=list(TRUTH_COLUMNS),
    )
