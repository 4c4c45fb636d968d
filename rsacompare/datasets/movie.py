"""A simulated movie study with known answers, laid out as that of Wen et al. (2018).

Every area has latent features of its own that change slowly over the frames of a movie. A voxel
reads a random mixture of all of its area's features (variance 1/k for the k-th), convolved with
the haemodynamic response, plus autocorrelated noise and drift in every run. Layer l of a network
reads the first `n_read` features of area l with the same variances, through a random mixture,
plus a share of private variance. All features have the same temporal spectrum, so that convolution
leaves shares of variance as they are: the share of a voxel's signal that a layer holds is the sum
of its squared weights on the features that the layer reads.

`closer`
    sim-resnet50 reads all six features of an area, sim-alexnet three: encoding must find the first
    closer everywhere, by as much as the truth table says.
`equal`
    Both read four, through different mixtures.
`null`
    Both are private throughout: nothing relates to any brain, but everything is autocorrelated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets import frames, volumes
from rsacompare.datasets.images import Grid
from rsacompare.errors import ProtocolError
from rsacompare.kernels import hrf, resample
from rsacompare.schema import arrays

AREAS = ("V1", "V4", "LOC")
N_LATENT, N_PRIVATE = 6, 6
TAU = 3.0  # seconds: how long a feature lasts
NOISE_RHO = 0.4  # from volume to volume
DRIFT_ORDER = 4
PRESETS: dict[str, dict[str, tuple[int, float]]] = {  # features read, share of private variance
    "closer": {"sim-alexnet": (3, 0.2), "sim-resnet50": (6, 0.5)},
    "equal": {"sim-alexnet": (4, 0.4), "sim-resnet50": (4, 0.4)},
    "null": {"sim-alexnet": (0, 1.0), "sim-resnet50": (0, 1.0)},
}


@dataclass(frozen=True)
class _Scale:
    n_subjects: int = 3
    n_train: int = 8
    n_test: int = 2
    n_volumes: int = 150
    n_voxels: int = 60
    n_units: int = 40
    train_repetitions: int = 2
    test_repetitions: int = 10
    noise: float = 2.0
    frame_rate: float = 4.0
    repetition_time: float = 2.0
    block_seconds: float = 20.0


SIZES = {
    "small": _Scale(),
    "full": _Scale(n_train=18, n_test=5, n_volumes=240, n_voxels=600, n_units=200, frame_rate=30.0),
}


def load_brain(
    preset: str = "closer", size: str = "small", random_state: int = 0, **overrides: float
) -> xr.DataTree:
    """Simulated responses to a movie: a presentation per volume, runs detrended and z-scored.

    Parameters
    ----------
    preset : {"closer", "equal", "null"}
        What is true; see the module's docstring.
    size : {"small", "full"}
        small: 3 subjects, 8 training segments of 150 volumes shown twice, 2 test segments shown
        ten times. full: 18 and 5 segments of 240 volumes, as Wen et al.
    random_state : int
        Equal options and seed give networks that fit.
    **overrides
        `n_subjects`, `n_train`, `n_test` (segments), `n_volumes`, `n_voxels` (per area),
        `n_units`, `train_repetitions`, `test_repetitions`, `noise` (sd, the signal's mean
        variance is 1), `frame_rate`, `repetition_time`, `block_seconds`.

    Returns
    -------
    DataTree
        `response(presentation, neuroid)`; `stimulus_id` names a volume (`test-1-0003`), `split`,
        `repetition`, `run`, `segment`, and `time_block`: the stretch of 20 s that intervals and
        nulls draw as one. Voxels lie on a grid (`i, j, k`, `affine`, `shape`).
        `attrs["truth"]`: what is true, one JSON string.

    Examples
    --------
    >>> brain = load_brain(n_subjects=1, n_train=2, n_test=1, n_volumes=20, n_voxels=5)
    >>> brain["sub-01"]["response"].shape
    (280, 15)
    """
    reads, scale = _settings(preset, size, overrides)
    segments = _segments(scale)
    kernel = hrf.spm_hrf(1.0 / scale.frame_rate)
    signals = {
        name: np.concatenate(
            [
                hrf.to_volumes(area, scale.frame_rate, scale.repetition_time, hrf=kernel)
                for area in _latents(scale, random_state, name)
            ],
            axis=1,
        )
        for name in segments
    }
    sd = np.sqrt(np.mean([part.var(axis=0).mean() for part in signals.values()]))
    area_of = np.repeat(np.arange(len(AREAS)), scale.n_voxels)
    per_block = round(scale.block_seconds / scale.repetition_time)
    rows: dict[str, list[np.ndarray]] = {}
    data: dict[str, np.ndarray] = {}
    for subject in _subjects(scale):
        weights = _voxel_weights(scale, random_state, subject)
        runs = []
        rows = {k: [] for k in ("stimulus_id", "split", "repetition", "run", "segment", "block")}
        for name, signal in signals.items():
            split = name.split("-")[0]
            times = scale.train_repetitions if split == "train" else scale.test_repetitions
            for repetition in range(times):
                rng = resample.stream(random_state, "movie noise", subject, name, repetition)
                run = signal / sd @ weights.T
                run += scale.noise * _autocorrelated(rng, run.shape, NOISE_RHO)
                drift = np.linspace(-1, 1, len(run))[:, None] ** np.arange(1, DRIFT_ORDER + 1)
                run += drift @ rng.standard_normal((DRIFT_ORDER, run.shape[1]))
                run = hrf.detrend(100 + run, DRIFT_ORDER)
                runs.append(run / run.std(axis=0))
                n = len(run)
                rows["stimulus_id"].append(frames.volume_ids(name, n))
                rows["split"].append(np.full(n, split))
                rows["repetition"].append(np.full(n, repetition))
                rows["run"].append(np.full(n, len(runs)))
                rows["segment"].append(np.full(n, name))
                rows["block"].append(frames.time_blocks(name, n, per_block))
        data[subject] = np.concatenate(runs).astype(np.float32)
    told = {key: np.concatenate(parts) for key, parts in rows.items()}
    ijk, grid = _grid(scale)
    tree = arrays.responses(
        data,
        stimulus_id=told["stimulus_id"],
        split=told["split"],
        repetition=told["repetition"],
        roi_mask={area: area_of == a for a, area in enumerate(AREAS)},
        presentation={
            "run": told["run"], "segment": told["segment"], "time_block": told["block"],
        },
        neuroid={axis: ijk[:, a] for a, axis in enumerate("ijk")},
        attrs=_attrs(preset, size, random_state, reads, scale),
    )  # fmt: skip
    for subject in data:
        volumes.place(tree.children[subject], grid)
    return tree


def load_networks(
    preset: str = "closer",
    size: str = "small",
    random_state: int = 0,
    components: float | None = None,
    **overrides: float,
) -> xr.DataTree:
    """The two simulated networks of `load_brain` with the same options, sampled per volume.

    Their frames went through :func:`rsacompare.datasets.frames.frames_to_volumes`, standardised
    (and reduced to `components`) by the training frames.

    Examples
    --------
    >>> nets = load_networks(n_train=2, n_test=1, n_volumes=20)
    >>> nets["sim-alexnet/level1"]["activation"].shape
    (60, 40)
    """
    _, scale = _settings(preset, size, overrides)
    tree, segment = load_frames(preset, size, random_state, **overrides)
    return frames.frames_to_volumes(
        tree, segment, scale.frame_rate, scale.repetition_time, components=components,
        train=[name for name in _segments(scale) if name.startswith("train")],
    )  # fmt: skip


def load_frames(
    preset: str = "closer", size: str = "small", random_state: int = 0, **overrides: float
) -> tuple[xr.DataTree, np.ndarray]:
    """The networks' activations per frame, and the segment of each frame."""
    reads, scale = _settings(preset, size, overrides)
    segments = _segments(scale)
    made: dict[str, dict[str, np.ndarray]] = {}
    for network, (n_read, private) in reads.items():
        for a in range(len(AREAS)):
            shared, own = _unit_weights(scale, random_state, network, a, n_read, private)
            parts = []
            for name in segments:
                latent = _latents(scale, random_state, name)[a]
                rng = resample.stream(random_state, "movie private", network, a, name)
                parts.append(latent @ shared.T + _features(scale, rng, N_PRIVATE) @ own.T)
            made.setdefault(network, {})[f"level{a + 1}"] = np.concatenate(parts)
    n = round(scale.n_volumes * scale.repetition_time * scale.frame_rate)
    ids = [f"{name}/{i:06d}" for name in segments for i in range(n)]
    attrs = _attrs(preset, size, random_state, reads, scale)
    tree = arrays.activations(made, stimulus_id=ids, attrs=attrs)
    return tree, np.repeat(segments, n)


def _settings(
    preset: str, size: str, overrides: dict[str, float]
) -> tuple[dict[str, tuple[int, float]], _Scale]:
    if preset not in PRESETS:
        raise ProtocolError(plugins.unknown("preset", preset, PRESETS))
    if size not in SIZES:
        raise ProtocolError(plugins.unknown("size", size, SIZES))
    known = asdict(SIZES[size])
    for name, value in overrides.items():
        if name not in known:
            raise ProtocolError(plugins.unknown("option of movie", name, known))
        whole = isinstance(known[name], int)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or value < (1 if whole else 0)
            or (whole and int(value) != value)
        ):
            raise ProtocolError(f"movie: {name} must be a positive number, got {value!r}")
    scale = replace(SIZES[size], **overrides)  # type: ignore[arg-type]
    if scale.n_volumes < DRIFT_ORDER + 8:
        raise ProtocolError(
            f"movie: n_volumes must be {DRIFT_ORDER + 8} at least, since a polynomial of order "
            f"{DRIFT_ORDER} is taken off every run; got {scale.n_volumes}"
        )
    return PRESETS[preset], scale


def _segments(scale: _Scale) -> list[str]:
    train = [f"train-{i + 1:02d}" for i in range(scale.n_train)]
    return train + [f"test-{i + 1}" for i in range(scale.n_test)]


def _subjects(scale: _Scale) -> list[str]:
    return [f"sub-{i + 1:02d}" for i in range(scale.n_subjects)]


def _autocorrelated(rng: np.random.Generator, shape: tuple[int, int], rho: float) -> np.ndarray:
    """Columns with variance 1 and correlation `rho` from row to row."""
    from scipy.signal import lfilter

    shocks = rng.standard_normal(shape)
    shocks[1:] *= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], shocks, axis=0)


def _features(scale: _Scale, rng: np.random.Generator, n: int) -> np.ndarray:
    """Features of one segment's frames: (frame, feature)."""
    n_frames = round(scale.n_volumes * scale.repetition_time * scale.frame_rate)
    return _autocorrelated(rng, (n_frames, n), float(np.exp(-1 / (scale.frame_rate * TAU))))


def _latents(scale: _Scale, random_state: int, segment: str) -> list[np.ndarray]:
    return [
        _features(scale, resample.stream(random_state, "movie latent", area, segment), N_LATENT)
        for area in AREAS
    ]


def _variances(n: int = N_LATENT) -> np.ndarray:
    """1/k, adding up to 1."""
    power = 1.0 / np.arange(1, n + 1)
    return power / power.sum()


def _voxel_weights(scale: _Scale, random_state: int, subject: str) -> np.ndarray:
    """(voxel, area x latent): mean signal variance 1, all from the voxel's own area."""
    out = np.zeros((len(AREAS) * scale.n_voxels, len(AREAS) * N_LATENT))
    for a, area in enumerate(AREAS):
        rng = resample.stream(random_state, "movie voxels", subject, area)
        drawn = rng.standard_normal((scale.n_voxels, N_LATENT)) * np.sqrt(_variances())
        rows = slice(a * scale.n_voxels, (a + 1) * scale.n_voxels)
        out[rows, a * N_LATENT : (a + 1) * N_LATENT] = drawn
    return out


def _unit_weights(
    scale: _Scale, random_state: int, network: str, area: int, n_read: int, private: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights on the area's latents (unit, latent) and on private features."""
    rng = resample.stream(random_state, "movie units", network, area)
    shared = rng.standard_normal((scale.n_units, N_LATENT)) * np.sqrt(_variances())
    shared[:, n_read:] = 0
    if n_read:
        shared *= np.sqrt((1 - private) / _variances()[:n_read].sum())
    own = rng.standard_normal((scale.n_units, N_PRIVATE)) * np.sqrt(private / N_PRIVATE)
    return shared, own


def _grid(scale: _Scale) -> tuple[np.ndarray, Grid]:
    """Voxels of each area fill slices of 6 x 5, the areas one above the other."""
    n = np.arange(scale.n_voxels)
    depth = -(-scale.n_voxels // 30)
    ijk = np.concatenate(
        [np.stack([n % 6, n // 6 % 5, n // 30 + a * depth], axis=1) for a in range(len(AREAS))]
    )
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-9.0, -90.0, -3.0)
    return ijk, Grid((6, 5, depth * len(AREAS)), affine)


def _attrs(
    preset: str,
    size: str,
    random_state: int,
    reads: dict[str, tuple[int, float]],
    scale: _Scale,
) -> dict[str, Any]:
    means = []
    for network, (n_read, private) in reads.items():
        share = []
        for subject in _subjects(scale):
            squares = _voxel_weights(scale, random_state, subject) ** 2
            own = squares.reshape(len(squares), len(AREAS), N_LATENT).sum(axis=1)
            share.append(own[:, :n_read].sum(axis=1) / own.sum(axis=1))
        means.append(
            {
                "network": network,
                "share_of_region": float(np.mean(share)),
                "share_of_network": 1 - private,
                "expected_encoding": float(np.mean(np.sqrt(share))),
            }
        )
    sentence = {
        "closer": "sim-resnet50 holds all of what the regions' voxels represent, sim-alexnet half "
        "of the features: encoding must find sim-resnet50 closer in every region.",
        "equal": "Both networks hold the same features: any winner is a false positive.",
        "null": "Nothing relates to any brain, but features and noise are autocorrelated.",
    }[preset]
    return {
        "title": f"Movie '{preset}' (simulated)",
        "description": f"Simulated brains of {scale.n_subjects} subjects who watch "
        f"{scale.n_train} training segments {scale.train_repetitions} times and {scale.n_test} "
        f"test segments {scale.test_repetitions} times, {scale.n_volumes} volumes of "
        f"{scale.repetition_time:g} s each, and two simulated networks. Per run a polynomial of "
        f"order {DRIFT_ORDER} was taken off and voxels were z-scored. No real data.",
        "citation": "",
        "licence": "Simulated by rsacompare; CC0-1.0",
        "simulated": 1,
        "inputs": {},
        "truth": {
            "preset": preset,
            "size": size,
            "random_state": int(random_state),
            "options": asdict(scale),
            "sentence": sentence,
            "meaning": {
                "share_of_region": "share of the voxels' signal variance that the area's layer "
                "holds",
                "share_of_network": "share of the layer's variance that the area holds",
                "expected_encoding": "expected correlation / noise ceiling of the area's layer, "
                "with unlimited training data",
            },
            "means": means,
        },
    }
