"""Two networks jointly: the variance of voxels that each explains alone, and both share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.inference import bootstrap
from rsacompare.inference.workers import Progress, in_threads
from rsacompare.kernels import banded, components, resample, ridge, ridge_cv
from rsacompare.metrics import voxels
from rsacompare.schema import labels, trees
from rsacompare.study.cells import Region, regions_of

_DRAWS = 250  # at a time; a constant, so that bits never depend on memory


def variance_partition(
    activations: xr.DataTree,
    brain: xr.DataTree,
    networks: Sequence[str],
    *,
    layers: Mapping[str, Sequence[str]] | None = None,
    rois: Iterable[str] | None = None,
    components_of: float | None = None,
    alphas: Sequence[float] | None = None,
    n_folds: int = 5,
    folds: str = "random",
    ratios: Any = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int = 0,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Unique and shared variance of two networks in every voxel, by banded ridge.

    Three models predict each voxel: network a, network b, and both with a penalty for each
    (:func:`rsacompare.kernels.banded.banded_cv`). Over the test stimuli, with R² = 1 − squared
    error / variance: unique a = R²(joint) − R²(b), unique b = R²(joint) − R²(a), shared =
    R²(a) + R²(b) − R²(joint).

    Parameters
    ----------
    activations : DataTree
        Of both networks.
    brain : DataTree
        Responses with a split into `train` and `test`.
    networks : (a, b)
    layers : {network: list of layers}, optional
        Which layers make up a network's features, side by side; all when absent. Each layer has
        the same weight: its units are standardised over the training stimuli and divided by the
        root of their number.
    rois : sequence of str, optional
    components_of : float, optional
        Principal components of every layer to this share of the variance, in place of the units.
    alphas : sequence of float, optional
        Default: as for encoding, 10 values over eight decades.
    n_folds : int
        Over training stimuli; fewer where a fold would hold less than two.
    folds : {"random", "contiguous"}
        As for encoding: neighbours by label together, or at random, whole blocks where the
        responses have `time_block`.
    ratios : (ratio, 2), optional
        Weights of the two networks to try, :func:`rsacompare.kernels.banded.simplex_grid`.
    n_bootstrap : int
        Draws of test stimuli (of whole blocks where the responses have `time_block`) and subjects.
    confidence : float
    random_state, n_jobs : int
    progress : callable (stage, done, total), optional

    Returns
    -------
    Dataset
        `r2(part, subject, roi)`: mean over voxels, with `part` of a, b, joint, unique_a,
        unique_b, shared; `mean_r2`, `se` (part, roi) and `ci` (part, roi, ci_bound): estimate ±
        t · SE by the corrected variance of subjects and stimuli, as everywhere; `n_voxels`
        (subject, roi); `voxel_r2` (part, subject, neuroid), NaN outside the ROIs, for
        `rsacompare.datasets.volumes.to_nifti`. With one subject the interval is over stimuli
        alone (attribute `sources`).

    Raises
    ------
    ProtocolError, LabelError, DataError
        Unknown networks, layers or ROIs; no split, or too few stimuli.

    Notes
    -----
    R² is of the mean over repetitions, so that noise bounds all three models alike: unique and
    shared parts are shares of the measured variance. Parts of a sum of noisy estimates may be
    negative. Which layers make a network matters: with all of them it is the network that is
    compared. Dupré la Tour et al. (2022).
    """
    if folds not in ("random", "contiguous"):
        raise ProtocolError(plugins.unknown("kind of folds", folds, ("random", "contiguous")))
    spaces = [_space(activations, name, layers) for name in _pair(activations, networks)]
    regions = regions_of(brain, rois)
    names = list(dict.fromkeys(roi for roi, _ in regions))
    subjects = list(dict.fromkeys(subject for _, subject in regions))
    by_subject = {s: [r for (_, own), r in regions.items() if own == s] for s in subjects}

    held = {s: _prepare(own) for s, own in by_subject.items()}
    groups: dict[tuple[str, ...], list[str]] = {}  # who saw the same stimuli share all work on them
    for subject, ready in held.items():
        blocks = () if ready.train_block is None else ("blocks", *ready.train_block)
        key = ("train", *ready.train_ids, *blocks, "test", *ready.ids)
        groups.setdefault(key, []).append(subject)

    def one(members: list[str]) -> None:
        _fit([held[s] for s in members], spaces, components_of, alphas, n_folds, folds, ratios,
             random_state)  # fmt: skip

    with threadpool_limits(limits=1):
        jobs = [(members,) for members in groups.values()]
        in_threads(one, jobs, n_jobs=n_jobs, stage="partition: fits", progress=progress)
        fitted = held
        return _result(fitted, by_subject, names, list(networks), n_bootstrap, confidence,
                       random_state)  # fmt: skip


@dataclass
class _Fitted:
    """Observed and predicted test responses of one subject's ROI voxels."""

    where: str
    train_ids: np.ndarray
    train: np.ndarray
    train_block: np.ndarray | None
    ids: np.ndarray
    observed: np.ndarray
    block: np.ndarray | None
    voxels: np.ndarray
    size: int
    predicted: list[np.ndarray] = field(default_factory=list)

    def parts(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(part, voxel), or (part, draw, voxel)."""
        scored = [banded.r2(self.observed, p, weights) for p in self.predicted]
        return banded.partition(*scored)


def _pair(activations: xr.DataTree, networks: Sequence[str]) -> tuple[str, str]:
    if isinstance(networks, str) or len(networks) != 2 or networks[0] == networks[1]:
        raise ProtocolError(f"variance_partition takes two different networks, got {networks!r}")
    for name in networks:
        if name not in activations.children:
            raise ProtocolError(plugins.unknown("network", name, activations.children))
    return networks[0], networks[1]


def _space(
    activations: xr.DataTree, network: str, layers: Mapping[str, Sequence[str]] | None
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, stimulus_id, activation) of each layer that makes up a network's features."""
    found = {layer: data for own, layer, data in trees.iter_layers(activations) if own == network}
    wanted = list(found) if layers is None or network not in layers else list(layers[network])
    if not wanted:
        raise ProtocolError(f"layers: none is left of {network}")
    made = []
    for name in wanted:
        if name not in found:
            raise ProtocolError(plugins.unknown(f"layer of {network}", name, found))
        if "activation" not in found[name]:
            raise DataError(f"{network}/{name} is known by its RDM alone; activations are needed")
        values = found[name]["activation"].values.astype(np.float64)
        labels.require_finite(values, f"activations of {network}/{name}")
        made.append((f"{network}/{name}", found[name]["stimulus_id"].values.astype(str), values))
    return made


def _prepare(regions: list[Region]) -> _Fitted:
    """Repetition means of all ROI voxels of one subject."""
    where = f"responses of {regions[0].subject}"
    if any(r.mask is None for r in regions):
        raise DataError(f"{where}: RDMs alone; variance is partitioned in responses")
    union = np.logical_or.reduce([r.mask for r in regions if r.mask is not None])
    response = regions[0].array(union)
    labels.require_finite(response.values, where)
    if not {"train", "test"} <= set(response["split"].values.tolist()):
        raise DataError(f"{where}: variance_partition needs a split into 'train' and 'test'")
    train_ids, y, _, _ = labels.average_repetitions(response, "train")
    test_ids, observed, _, _ = labels.average_repetitions(response, "test")
    if len(train_ids) < 4 or len(test_ids) < 3:
        raise DataError(
            f"{where}: {len(train_ids)} training and {len(test_ids)} test stimuli; 4 and 3 are "
            "needed at least"
        )
    block = train_block = None
    if "time_block" in response.coords:
        pairs = zip(response["stimulus_id"].values, response["time_block"].values, strict=True)
        own = {str(i): str(b) for i, b in pairs}
        train_block, block = (np.array([own[i] for i in part]) for part in (train_ids, test_ids))
    return _Fitted(
        where, train_ids, y, train_block, test_ids, observed, block,
        np.flatnonzero(union), len(union),
    )  # fmt: skip


def _fit(
    group: list[_Fitted],
    spaces: list[list[tuple[str, np.ndarray, np.ndarray]]],
    share: float | None,
    alphas: Sequence[float] | None,
    n_folds: int,
    folds: str,
    ratios: Any,
    random_state: int,
) -> None:
    """Predict the voxels of subjects who saw the same stimuli, side by side."""
    where, train_ids, test_ids = group[0].where, group[0].train_ids, group[0].ids
    n_folds = max(2, min(n_folds, len(train_ids) // 2))
    fold = voxels.folds_of(
        train_ids, group[0].train_block, n_folds, folds, random_state, where, whole_blocks=False
    )
    trained, tested = [], []
    for space in spaces:
        parts = [_features(layer, train_ids, test_ids, where, share) for layer in space]
        trained.append(np.concatenate([p[0] for p in parts], axis=1))
        tested.append(np.concatenate([p[1] for p in parts], axis=1))
    grid = ridge.default_alphas(1) if alphas is None else np.asarray(alphas, dtype=np.float64)
    y = np.concatenate([held.train for held in group], axis=1)
    ends = np.cumsum([held.train.shape[1] for held in group])[:-1]
    try:
        predicted = [
            ridge_cv.ridge_cv(x, y, e, grid, fold)[0] for x, e in zip(trained, tested, strict=True)
        ]
        predicted.append(banded.banded_cv(trained, y, tested, grid, fold, ratios)[0])
    except ValueError as err:
        raise ProtocolError(f"{where}: {err}") from err
    for values in predicted:
        for held, part in zip(group, np.split(values, ends, axis=1), strict=True):
            held.predicted.append(part)


def _features(
    layer: tuple[str, np.ndarray, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    where: str,
    share: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    name, ids, values = layer
    rows = [
        labels.index_of(wanted, ids, where, f"activations of {name}") for wanted in (train, test)
    ]
    if share is not None:
        held = components.fit_components(values[rows[0]], share)
        return held.project(values[rows[0]]), held.project(values[rows[1]])
    x, e = ridge.standardise(values[rows[0]], values[rows[1]])
    scale = np.sqrt(max(int(x.any(axis=0).sum()), 1))
    return x / scale, e / scale


def _result(
    fitted: Mapping[str, _Fitted],
    by_subject: Mapping[str, list[Region]],
    rois: list[str],
    networks: list[str],
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> xr.Dataset:
    subjects = list(fitted)
    shape = (len(banded.PARTS), len(subjects), len(rois))
    scores, n_voxels = np.full(shape, np.nan), np.zeros(shape[1:], dtype=int)
    draws = np.full((n_bootstrap, *shape), np.nan)
    width = max(f.size for f in fitted.values())
    voxel = np.full((len(banded.PARTS), len(subjects), width), np.nan)
    levels = []
    for s, subject in enumerate(subjects):
        held = fitted[subject]
        parts = held.parts()
        voxel[:, s, held.voxels] = parts
        masks = {r.roi: r.mask[held.voxels] for r in by_subject[subject] if r.mask is not None}
        for roi, mask in masks.items():
            n_voxels[s, rois.index(roi)] = np.isfinite(parts[0, mask]).sum()
            scores[:, s, rois.index(roi)] = _mean(parts[:, mask])
        block = held.ids if held.block is None else held.block
        names, member = np.unique(block, return_inverse=True)
        levels.append(len(names))
        rng = resample.stream(seed, "partition", "stimuli", names)
        counts = resample.multiplicities(rng, len(names), n_bootstrap)[:, member]
        for start in range(0, n_bootstrap, _DRAWS):
            rows = slice(start, start + _DRAWS)
            drawn = held.parts(counts[rows])
            for roi, mask in masks.items():
                draws[rows, :, s, rois.index(roi)] = _mean(drawn[:, :, mask]).T
    counted = {"stimuli": min(levels)}
    variances = {frozenset({"stimuli"}): bootstrap.spread(bootstrap.group_mean(_last(draws)))}
    if len(subjects) > 1:
        counted["subjects"] = len(subjects)
        rng = resample.stream(seed, "partition", "subjects", np.array(subjects))
        people = resample.multiplicities(rng, len(subjects), n_bootstrap)
        still = np.broadcast_to(scores, draws.shape)
        for sources, values in (({"subjects"}, still), ({"subjects", "stimuli"}, draws)):
            group = bootstrap.group_mean(_last(values), people)
            variances[frozenset(sources)] = bootstrap.spread(group)
    se = np.sqrt(np.maximum(bootstrap.corrected_variance(variances, counted), 0.0))
    mean = bootstrap.group_mean(np.moveaxis(scores, 1, -1))
    dof = np.asarray(float(min(counted.values()) - 1))
    bounds = bootstrap.t_interval(mean, se, dof, confidence)
    return xr.Dataset(
        {
            "r2": (("part", "subject", "roi"), scores),
            "mean_r2": (("part", "roi"), mean),
            "se": (("part", "roi"), se),
            "ci": (("part", "roi", "ci_bound"), np.stack(bounds, axis=-1)),
            "n_voxels": (("subject", "roi"), n_voxels),
            "voxel_r2": (("part", "subject", "neuroid"), voxel),
        },
        coords={
            "part": list(banded.PARTS),
            "subject": subjects,
            "roi": rois,
            "ci_bound": ["lower", "upper"],
        },
        attrs=labels.clean_attrs(
            {
                "networks": networks,
                "sources": sorted(counted),
                "levels": counted,
                "confidence": confidence,
                "random_state": seed,
            }
        ),
    )


def _last(values: np.ndarray) -> np.ndarray:
    """(draw, part, subject, roi) with subjects last."""
    return np.moveaxis(values, 2, -1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(finite, values, 0.0).sum(axis=-1) / finite.sum(axis=-1)
