"""A simulated study with known answers: brains, networks and what is true of them.

Stimuli are points in a space of latent features; every voxel and every unit reads its own random
mixture of those that its area or layer represents (`rsacompare.datasets.phantom_truth` says which,
and holds the closed forms). All is linear and Gaussian. Units are free of noise, each presentation
to a brain has fresh noise in every voxel. Regions have the names of the GOD data and overlap as
they do there; the networks are called `sim-…` so that nobody can take them for the real ones.

Two numbers say how close a network is to a region in the population (DESIGN section 10): the share
of the network's variance that the region has, and the share of the region's reliable variance that
the network has. Each of the four presets fixes both:

`flip`
    sim-alexnet reads only the two strongest of the six features per group but has little private
    variance (20 %); sim-resnet50 reads all six but half of its variance is private. So the region
    has more of sim-alexnet's variance, and sim-resnet50 has more of the region's. Private variance
    cannot be decoded but hardly hurts encoding; missing features cannot be encoded but hardly hurt
    decoding: the expected decoding score is higher for the first network and the expected encoding
    score for the second, at every level and region. It is here because a protocol that names one
    winner errs on it (FACTS section 11).

`closer`
    sim-alexnet reads all six features with 20 % private variance, sim-resnet50 two features with
    50 %: the first is ahead on both numbers at every layer and region, and every sound metric must
    say so. It is the positive control.

`equal`
    Both networks read four features with 40 % private variance, through different random readouts
    and with private features of their own. Readouts have orthogonal columns, so both population
    numbers agree exactly, layer by layer; expected encoding scores agree exactly too, expected
    decoding scores up to the draw of units. Any winner found here is a false positive, though
    both networks relate to the brain (a harder null than the next).

`null`
    All variance of both networks is private, laid out over layers as elsewhere: nothing relates to
    any brain, and every score is 0 but for chance. It calibrates `p_null`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets import phantom_truth as population
from rsacompare.errors import ProtocolError
from rsacompare.schema import arrays

VOXEL_MM = 3.0


def load_brain(
    preset: str = "flip",
    size: str = "small",
    random_state: int = 0,
    n_subjects: int | None = None,
    **overrides: float,
) -> xr.DataTree:
    """Simulated responses of several subjects.

    Parameters
    ----------
    preset : {"flip", "closer", "equal", "null"}
        What is true; see the module's docstring.
    size : {"small", "medium", "full"}
        `small`: 300 train and 40 × 10 test presentations, about 350 voxels, noise sd 1; `medium`:
        1,200 and 50 × 10, about 1,050 voxels, noise sd 2; `full`: about the GOD study, 1,200 and
        50 × 35 presentations, about 4,500 voxels, noise sd 2.
    random_state : int
        Equal options and seed give identical arrays, and networks that fit.
    n_subjects : int, optional
        5 unless given.
    **overrides
        `n_train`, `n_test`, `n_repetitions`, `n_units`, `noise` (sd of one presentation; the mean
        signal variance of an area is 1).

    Returns
    -------
    DataTree
        `sub-01` …, each with float32 `response(presentation, neuroid)`: train stimuli once, then
        all test stimuli per repetition; `roi_mask(roi, neuroid)`; voxel centres in mm (areas lie
        one behind the other). `attrs["truth"]` is one JSON string: preset, options, verdict, the
        network that each metric favours (or "neither"), and the table of `truth` with the meaning
        of its columns.

    Raises
    ------
    ProtocolError
        Unknown preset, size or option; a value out of range.

    Examples
    --------
    >>> brain = load_brain("null", n_subjects=2, n_train=10, n_test=4, n_repetitions=2)
    >>> brain["sub-02"]["response"].sizes["presentation"]
    18
    """
    chosen, scale = _settings(preset, size, random_state, n_subjects, overrides)
    latents = np.concatenate(_latents("stimuli", scale, random_state))
    n_train, n_test, n_repetitions = scale.n_train, scale.n_test, scale.n_repetitions
    shown = np.r_[np.arange(n_train), np.tile(n_train + np.arange(n_test), n_repetitions)]
    data, masks, places = {}, {}, {}
    for subject in population.subject_names(scale):
        areas = population.area_readouts(scale, random_state, subject)
        area = np.repeat(list(areas), [len(loadings) for loadings in areas.values()])
        signal = (latents @ np.concatenate(list(areas.values())).T).astype(np.float32)
        generator = population.rng(random_state, "noise", subject)
        response = generator.standard_normal((len(shown), len(area)), dtype=np.float32)
        response *= np.float32(scale.noise)
        response += signal[shown]
        data[subject] = response
        masks[subject] = {r: np.isin(area, parts) for r, parts in population.ROIS.items()}
        places[subject] = _voxel_places([len(loadings) for loadings in areas.values()])
    tree = arrays.responses(
        data,
        stimulus_id=_stimulus_ids(scale)[shown],
        split=np.where(shown < n_train, "train", "test"),
        repetition=np.r_[np.zeros(n_train, int), np.repeat(np.arange(n_repetitions), n_test)],
        roi_mask=masks,
        attrs=_attrs(preset, chosen, size, scale, random_state),
    )
    for subject, place in places.items():
        coords = {f"voxel_{axis}": ("neuroid", place[:, i]) for i, axis in enumerate("xyz")}
        tree[subject].dataset = tree[subject].to_dataset().assign_coords(coords)
    return tree


def load_networks(
    preset: str = "flip",
    size: str = "small",
    random_state: int = 0,
    n_subjects: int | None = None,
    **overrides: float,
) -> xr.DataTree:
    """The two simulated networks that belong to `load_brain` with the same options.

    Parameters
    ----------
    preset, size, random_state, n_subjects, **overrides
        As in `load_brain`; what concerns brains alone changes nothing but the truth told.

    Returns
    -------
    DataTree
        Nodes `sim-alexnet/cnn1` … and `sim-resnet50/conv1` …: float32
        `activation(stimulus_id, neuroid)` for all train and test stimuli; `attrs` as in
        `load_brain`.

    Raises
    ------
    ProtocolError
        As in `load_brain`.

    Examples
    --------
    >>> networks = load_networks("closer", n_train=10, n_test=4)
    >>> list(networks)
    ['sim-alexnet', 'sim-resnet50']
    """
    chosen, scale = _settings(preset, size, random_state, n_subjects, overrides)
    shared = np.concatenate(_latents("stimuli", scale, random_state))
    latents = {
        name: np.hstack([shared, np.concatenate(_latents(f"private {name}", scale, random_state))])
        for name in chosen.networks
    }
    networks: dict[str, dict[str, np.ndarray]] = {name: {} for name in chosen.networks}
    for name, layer, loadings in population.layer_readouts(chosen, scale, random_state):
        networks[name][layer] = (latents[name] @ loadings.T).astype(np.float32)
    note = {"kind": "simulated", "note": "simulated: not the real network"}
    return arrays.activations(
        networks,
        stimulus_id=_stimulus_ids(scale),
        layer_attrs={name: dict.fromkeys(layers, note) for name, layers in networks.items()},
        attrs=_attrs(preset, chosen, size, scale, random_state),
    )


def truth(
    preset: str = "flip",
    size: str = "small",
    random_state: int = 0,
    n_subjects: int | None = None,
    **overrides: float,
) -> pd.DataFrame:
    """What is true of the phantom with these options, from its population and not its data.

    Parameters
    ----------
    preset, size, random_state, n_subjects, **overrides
        As in `load_brain`.

    Returns
    -------
    DataFrame
        `network, layer, roi`, the population numbers `network_share` and `region_share`, and the
        limits `expected_decoding` and `expected_encoding` of two scores, each explained in
        `phantom_truth.TRUTH_MEANING`.

    Raises
    ------
    ProtocolError
        As in `load_brain`.
    """
    chosen, scale = _settings(preset, size, random_state, n_subjects, overrides)
    return population.truth_table(chosen, scale, random_state)


def _settings(
    preset: str, size: str, random_state: int, n_subjects: int | None, overrides: dict[str, float]
) -> tuple[population.Preset, population.Size]:
    """The preset and the size with its overrides, all checked."""
    if preset not in population.PRESETS:
        raise ProtocolError(plugins.unknown("phantom preset", preset, population.PRESETS))
    if size not in population.SIZES:
        raise ProtocolError(plugins.unknown("phantom size", size, population.SIZES))
    known = [f.name for f in fields(population.Size) if f.name != "voxels"]
    for name in overrides:
        if name not in known:
            raise ProtocolError(plugins.unknown("phantom option", name, known))
    given: dict[str, Any] = dict(overrides)
    if n_subjects is not None:
        given["n_subjects"] = n_subjects
    chosen = population.PRESETS[preset]
    n_features = max(network.n_features for network in chosen.networks.values())
    least = {"n_subjects": 1, "n_train": 2, "n_test": 3, "n_repetitions": 1, "n_units": n_features}
    for name, value in {**given, "random_state": random_state}.items():
        what = f"phantom option {name}={value!r}"
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise ProtocolError(f"{what}: a number expected")
        if name == "noise":
            if not (math.isfinite(value) and value >= 0):
                raise ProtocolError(f"{what}: a standard deviation expected, from 0")
            given[name] = float(value)
            continue
        low = least.get(name, 0)
        if not float(value).is_integer() or value < low:
            raise ProtocolError(f"{what}: a whole number from {low} expected for '{preset}'")
        if name != "random_state":
            given[name] = int(value)
    return chosen, replace(population.SIZES[size], **given)


def _stimulus_ids(size: population.Size) -> np.ndarray:
    """`train0001` …, then `test01` …: (stimulus,) str."""
    train = [f"train{i:04d}" for i in range(1, size.n_train + 1)]
    width = max(2, len(str(size.n_test)))
    return np.array(train + [f"test{i:0{width}d}" for i in range(1, size.n_test + 1)])


def _latents(what: str, size: population.Size, random_state: int) -> list[np.ndarray]:
    """Features of the train and of the test stimuli; more of one never changes the other."""
    return [
        population.rng(random_state, what, split).standard_normal((n, population.SHARED))
        for split, n in (("train", size.n_train), ("test", size.n_test))
    ]


def _voxel_places(counts: list[int]) -> np.ndarray:
    """Centres in mm, (voxel, xyz): each area a block on a grid, one behind the other along y."""
    side = max(2, round(max(counts) ** (1 / 3)))
    blocks, slab = [], 0
    for count in counts:
        rest, x = np.divmod(np.arange(count), side)
        y, z = np.divmod(rest, side)
        blocks.append(np.stack([x, slab + y, z], axis=1))
        slab += int(y[-1]) + 1
    return VOXEL_MM * np.concatenate(blocks)


def _attrs(
    preset: str, chosen: population.Preset, size: str, scale: population.Size, random_state: int
) -> dict[str, Any]:
    table = population.truth_table(chosen, scale, random_state)
    numbers = list(population.TRUTH_COLUMNS[3:])
    means = table.groupby("network", sort=False)[numbers].mean()
    return {
        "title": f"Phantom '{preset}' (simulated)",
        "description": f"Simulated brains of {scale.n_subjects} subjects and two simulated "
        f"networks: {scale.n_train} training stimuli shown once, {scale.n_test} test stimuli "
        f"shown {scale.n_repetitions} times. No real data. {chosen.sentence}",
        "citation": "",
        "licence": "Simulated by rsacompare; CC0-1.0",
        "simulated": 1,
        "inputs": {},
        "truth": {
            "preset": preset,
            "size": size,
            "random_state": int(random_state),
            "options": asdict(scale),
            "verdict": chosen.verdict,
            "decoding": chosen.decoding,
            "encoding": chosen.encoding,
            "sentence": chosen.sentence,
            "meaning": population.TRUTH_MEANING,
            "means": means.reset_index().to_dict("records"),
            "columns": population.TRUTH_COLUMNS,
            "rows": json.loads(table.to_json(orient="values", double_precision=15)),
        },
    }
