"""Simulated studies whose truth is known: the populations that `calibration.py` draws from.

Two networks `a` and `b` of two layers, several people with two disjoint regions. All is linear:
stimuli are points in a space of latent features; a layer and a region read some of these through
readouts of their own. Both networks have the features that everybody has; each has a group that
only it shares with brains, and private ones. How much a subject's region reads of the two groups
varies between people, so that people truly differ in which network they favour. The truth of the
contrast is the expected difference for *new people and new stimuli*, with everything else drawn
anew too; in `null` and `equal` the two networks are exchangeable, so that it is exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

import rsacompare as rc
from rsacompare.kernels import resample

POPULATION = 1  # raise it when other studies are drawn: results of another are not mixed
GROUP = 4  # features of each group: common, of a's own with the brain, of b's own with it
ROIS = ("early", "late")
LAYERS = ("l1", "l2")
MORE = 12  # features of badly measured units, other at every stimulus
SCENARIOS = ("null", "equal", "closer")


@dataclass(frozen=True)
class Design:
    """How large a study is and what is difficult about it; `name` is its row of the table."""

    name: str
    what: str
    n_subjects: int = 5
    n_stimuli: int = 50
    n_train: int = 60
    n_repetitions: int = 2
    n_units: int = 30
    n_voxels: int = 16
    noise: float = 1.0  # sd of one presentation; the mean signal variance of a region is 1
    decay: float = 1.0  # variance of the k-th feature of a group: k ** -decay
    tails: int = 0  # degrees of freedom of t noise (of unit variance); 0: Gaussian
    unequal: bool = False
    split: bool = True


DESIGNS = {
    design.name: design
    for design in (
        Design("5 people, 50 stimuli", "the size of the GOD study"),
        Design("15 people, 50 stimuli", "more people", n_subjects=15),
        Design("5 people, 92 stimuli", "more stimuli", n_stimuli=92),
        Design("15 people, 92 stimuli", "the size of the 92 pictures", n_subjects=15, n_stimuli=92),
        Design("correlated units", "88 % of a group's variance in one dimension", decay=3.5),
        Design("heavy-tailed noise", "t with 3 degrees of freedom", tails=3),
        Design(
            "unequal reliability",
            "second layers and one region badly measured, people of unequal noise; unrelated "
            "networks of 2 and of 16 dimensions",
            unequal=True,
        ),
        Design("no split", "cross-validated over the 50 stimuli in 5 folds", split=False),
        Design("no split, 15 people", "the same", n_subjects=15, split=False),
    )
}


@dataclass(frozen=True)
class Study:
    """One simulated study.

    `networks`: {kind of readout: activations}, of `random` and `exact` readouts.
    """

    networks: dict[str, xr.DataTree]
    brain: xr.DataTree


def orthogonal(rng: np.random.Generator, n_channels: int, variance: np.ndarray) -> np.ndarray:
    """Loadings (channel, feature) with orthogonal columns that are orthogonal to 1 as well.

    What is seen through them depends on the features alone: distances (Euclidean and correlation),
    Grams and ridge predictions are the same for every such readout.
    """
    given = rng.standard_normal((n_channels, len(variance)))
    basis, _ = np.linalg.qr(np.column_stack([np.ones(n_channels), given]))
    return basis[:, 1:] * np.sqrt(n_channels * variance)


def independent(rng: np.random.Generator, n_channels: int, variance: np.ndarray) -> np.ndarray:
    """Loadings of units that are a random draw, as decoding takes its units to be."""
    return rng.standard_normal((n_channels, len(variance))) * np.sqrt(variance)


READOUTS = {"exact": orthogonal, "random": independent}


def _profile(design: Design, n: int = GROUP) -> np.ndarray:
    power = np.arange(1.0, n + 1) ** -design.decay
    return power / power.sum()


def _network_profile(design: Design, scenario: str, network: str, layer: str) -> np.ndarray:
    """Variance of each feature: common, own with the brain, private, and noise of the units."""
    private, own = 0.4, 0.5
    if scenario == "closer":
        private = 0.3 if network == "a" else 0.45
    if scenario == "null":
        private = 1.0
    extra = MORE
    shared = (1 - private) * np.concatenate([(1 - own) * _profile(design), own * _profile(design)])
    hidden, unreliable = private * _profile(design), np.zeros(extra)
    if design.unequal:
        # the second layer is measured badly: most of its variance is other at every stimulus
        if layer == "l2":
            shared, hidden, unreliable = 0.4 * shared, 0.4 * hidden, np.full(extra, 0.6 / extra)
        # and unrelated networks differ in their dimensions: 2 against 16
        if scenario == "null":
            hidden = np.array([0.5, 0.5, 0, 0]) if network == "a" else np.full(GROUP, 0.25)
            unreliable = np.zeros(extra) if network == "a" else np.full(extra, 0.25)
    return np.concatenate([shared, hidden, unreliable])


def draw(design: Design, scenario: str, seed: int, n_test: int | None = None) -> Study:
    """One study of the population, a function of the seed alone.

    Parameters
    ----------
    design : Design
    scenario : {"null", "equal", "closer"}
    seed : int
    n_test : int, optional
        Other than the design's number of test stimuli (for the truth).
    """
    rng = resample.stream(seed, "calibration", design.name, scenario)
    n_test = design.n_stimuli if n_test is None else n_test
    n = design.n_train + n_test
    common, of_a, of_b = (rng.standard_normal((n, GROUP)) for _ in range(3))
    ids = np.array([f"s{i:05d}" for i in range(n)])
    networks: dict[str, dict[str, dict[str, np.ndarray]]] = {k: {} for k in READOUTS}
    for name, own in (("a", of_a), ("b", of_b)):
        for layer in LAYERS:
            hidden = rng.standard_normal((n, GROUP + MORE))
            features = np.hstack([common, own, hidden])
            variance = _network_profile(design, scenario, name, layer)
            for kind, readout in READOUTS.items():
                values = features @ readout(rng, design.n_units, variance).T
                networks[kind].setdefault(name, {})[layer] = values
    features = np.hstack([common, of_a, of_b])
    tested = np.tile(np.arange(design.n_train, n), design.n_repetitions)
    row = np.r_[np.arange(design.n_train), tested] if design.split else tested
    responses = {}
    for i in range(design.n_subjects):
        level = np.exp(0.3 * rng.standard_normal()) if design.unequal else 1.0
        taste = rng.uniform(0.1, 0.9)  # which network's features this person has
        if scenario == "closer":
            taste = 1 - 0.8 * (1 - taste)
        share = np.concatenate(
            [0.5 * _profile(design), 0.5 * taste * _profile(design),
             0.5 * (1 - taste) * _profile(design)]
        )  # fmt: skip
        regions = []
        for roi in ROIS:
            signal = features @ orthogonal(rng, design.n_voxels, share).T
            noise = design.noise * level * (2.0 if design.unequal and roi == "late" else 1.0)
            regions.append(signal[row] + noise * _noise(rng, design, (len(row), design.n_voxels)))
        responses[f"sub-{i + 1:02d}"] = np.hstack(regions)
    area = np.repeat(ROIS, design.n_voxels)
    brain = rc.responses(
        responses,
        stimulus_id=ids[row],
        split=np.where(row < design.n_train, "train", "test") if design.split else None,
        roi_mask={roi: area == roi for roi in ROIS},
    )
    shown = slice(None) if design.split else slice(design.n_train, None)
    return Study(
        {
            kind: rc.activations(
                {k: {x: v[shown] for x, v in layers.items()} for k, layers in of.items()},
                stimulus_id=ids[shown],
            )
            for kind, of in networks.items()
        },
        brain,
    )


def _noise(rng: np.random.Generator, design: Design, shape: tuple[int, int]) -> np.ndarray:
    if not design.tails:
        return rng.standard_normal(shape)
    df = design.tails
    return rng.standard_t(df, shape) / np.sqrt(df / (df - 2))
