"""Searchlight RSA: how close a network is to the patterns around every voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from rsacompare import plugins
from rsacompare.datasets.volumes import Grid, grid_of
from rsacompare.errors import DataError, ProtocolError
from rsacompare.inference.workers import Progress, in_threads
from rsacompare.kernels import correlate, spheres
from rsacompare.kernels.noise import NOISE
from rsacompare.metrics import noise_distances
from rsacompare.metrics.evidence import PairEvidence
from rsacompare.metrics.registry import metric
from rsacompare.schema import labels
from rsacompare.study.cells import layers_of

DISTANCES = (*spheres.DISTANCES, *noise_distances.DISTANCES)
BLOCK = 4_000_000  # dissimilarities held by a thread at a time: memory, not results


def searchlight(
    activations: xr.DataTree,
    subject: xr.DataTree | xr.Dataset,
    radius_mm: float = 9.0,
    *,
    distance: str = "correlation",
    comparator: str = "spearman",
    noise: str = "shrinkage_diag",
    folds: str = "repetition",
    roi: str | None = None,
    min_voxels: int = 10,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> xr.Dataset:
    """RSA of every layer with the voxels around each voxel of one subject.

    Parameters
    ----------
    activations : DataTree
        Layers, or RDMs of a network (``rsacompare.rdms(…, of="network")``), of the stimuli shown.
    subject : DataTree or Dataset
        A subject of responses that came from images, ``brain["sub-01"]``: it has voxel indices
        `i`, `j`, `k` and an affine; or `voxel_x/y/z` that lie on a lattice.
    radius_mm : float
        Of the spheres, between voxel centres by the affine (voxels may be no cubes).
    distance : {"correlation", "euclidean", "mahalanobis", "crossnobis"}
    comparator : str
        A name of `kernels.correlate.COMPARATORS`.
    noise, folds : str
        As for the metric `rsa` with `mahalanobis` or `crossnobis`: the covariance of every sphere
        is estimated from the repetitions of its own voxels.
    roi : str, optional
        Centres and voxels of this ROI alone; by default all voxels of any ROI.
    min_voxels : int
        Spheres with fewer (at the edge of the mask) are NaN, as is a sphere where the pattern of
        a stimulus is constant (`correlation`) or the noise covariance is singular.
    n_jobs : int
        Threads; results are the same for any number.
    progress : callable (stage, done, total), optional

    Returns
    -------
    Dataset
        `score(layer, neuroid)` and `n_voxels(neuroid)` of each centre, with the coordinates `i`,
        `j`, `k` (of the lattice of `voxel_x/y/z`, in mm, where there are no others) and the
        attributes that `rsacompare.datasets.volumes.to_nifti` needs:
        ``to_nifti(maps["score"], maps)`` is an image per layer.

    Raises
    ------
    DataError
        A subject that did not come from images; fewer than three stimuli; no sphere large enough.
    LabelError
        A stimulus that the network lacks.
    ProtocolError
        A distance or comparator there is not, a radius that is not positive.

    Notes
    -----
    Kriegeskorte, Goebel & Bandettini 2006. The stimuli are those of the `test` split where there
    is one, repetitions averaged, as in `rsa`. Scores are maps to look at: voxels near one another
    share their spheres, and nothing here is corrected for their number.
    """
    data = subject.to_dataset() if isinstance(subject, xr.DataTree) else subject
    if distance not in DISTANCES:
        raise ProtocolError(plugins.unknown("searchlight distance", distance, DISTANCES))
    if noise not in (*NOISE, "none"):
        raise ProtocolError(plugins.unknown("noise", noise, (*NOISE, "none")))
    if comparator not in correlate.COMPARATORS:
        raise ProtocolError(plugins.unknown("comparator", comparator, correlate.COMPARATORS))
    if not radius_mm > 0 or min_voxels < 1:
        raise ProtocolError(f"radius_mm={radius_mm}, min_voxels={min_voxels}: both are above 0")
    ijk, grid = _places(data)
    position = ijk @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    mask = _mask(data, roi)
    response = data["response"].isel(neuroid=mask)
    ids, patterns = _patterns(response)
    noisy = distance in noise_distances.DISTANCES
    vectors = _layers(activations, ids, "euclidean" if noisy else distance, comparator)
    tasks = _tasks(int(mask.sum()), patterns.shape[0] * (patterns.shape[0] - 1) // 2)
    here = position[mask]
    models = np.stack(list(vectors.values()))
    ranked = comparator == "spearman"  # all spheres have equal weights: ranked once, no presorting
    models = spheres.ranks(models) if ranked else models

    def work(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        index, start = spheres.neighbours(here, here[first:last], radius_mm)
        if noisy:
            rdms = _with_noise(response, index, start, distance, noise, folds, min_voxels)
        else:
            rdms = spheres.dissimilarities(patterns, index, start, distance, min_voxels)
        alive = np.isfinite(rdms).all(axis=1)
        scores = np.full((len(models), last - first), np.nan)
        if alive.any():
            live = spheres.ranks(rdms[alive]) if ranked else rdms[alive]
            kind = "corr" if ranked else comparator
            scores[:, alive] = correlate.compare_rdms(models, live, kind)
        return scores, np.diff(start)

    with threadpool_limits(limits=1):
        done = in_threads(work, tasks, n_jobs=n_jobs, stage="searchlight", progress=progress)
    n_voxels = np.concatenate([counts for _, counts in done])
    score = np.concatenate([s for s, _ in done], axis=1)
    if n_voxels.max() < min_voxels:
        raise DataError(
            f"no sphere of {radius_mm:g} mm holds {min_voxels} voxels, at most {n_voxels.max()}; "
            "take a larger radius_mm or fewer min_voxels"
        )
    if noisy and not np.isfinite(score).any():
        raise DataError(
            f"no sphere of {radius_mm:g} mm has a noise covariance that can be inverted; shrink it "
            "(noise='shrinkage_diag'), take variances alone (noise='diag') or smaller spheres"
        )
    kept = {axis: ("neuroid", ijk[mask, n]) for n, axis in enumerate("ijk")}
    attrs = labels.clean_attrs(
        {"affine": grid.affine.tolist(), "shape": list(grid.shape)}
        | {"radius_mm": radius_mm, "distance": distance, "comparator": comparator}
        | {"min_voxels": min_voxels, "stimuli": len(ids)}
    )
    return xr.Dataset(
        {
            "score": (("layer", "neuroid"), score),
            "n_voxels": ("neuroid", n_voxels),
        },
        coords={"layer": list(vectors), **kept},
        attrs=attrs,
    )


def _places(data: xr.Dataset) -> tuple[np.ndarray, Grid]:
    """Voxel indices (voxel, 3) and their grid."""
    placed = grid_of(data)
    if placed is None:
        raise DataError(
            "a searchlight needs the places of the voxels: coordinates i, j, k and an affine, as "
            "responses have that came from images (load_dataset 'bids', 'nifti', 'haxby'), or "
            "voxel_x, voxel_y, voxel_z in mm on a lattice"
        )
    return placed


def _with_noise(
    response: xr.DataArray,
    index: np.ndarray,
    start: np.ndarray,
    distance: str,
    noise: str,
    folds: str,
    fewest: int,
) -> np.ndarray:
    """The RDM of each sphere by distances that know its noise: (sphere, pair)."""
    split = "test" if (response["split"].values != "").any() else ""
    scored = response.isel(presentation=response["split"].values == split)
    n = len(np.unique(scored["stimulus_id"].values))
    out = np.full((len(start) - 1, n * (n - 1) // 2), np.nan)
    for s in range(len(out)):
        own = index[start[s] : start[s + 1]]
        if len(own) < fewest:
            continue
        try:
            out[s] = noise_distances.distances(
                scored.isel(neuroid=own), distance, noise, folds, None, None, "searchlight"
            )[1]
        except ProtocolError:
            raise  # what the design lacks, every sphere lacks
        except DataError:
            continue  # a covariance that cannot be inverted is this sphere's own
    return out


def _mask(data: xr.Dataset, roi: str | None) -> np.ndarray:
    masks = data["roi_mask"]
    if roi is None:
        return np.logical_or.reduce(masks.values.astype(bool))
    if roi not in masks["roi"].values:
        raise ProtocolError(plugins.unknown("ROI", roi, masks["roi"].values.tolist()))
    return masks.sel(roi=roi).values.astype(bool)


def _patterns(response: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    split = "test" if (response["split"].values != "").any() else None
    ids, mean, _, _ = labels.average_repetitions(response, split)
    if len(ids) < 3:
        raise DataError(f"{len(ids)} stimuli; RSA compares pairs and needs 3 at least")
    labels.require_finite(mean, "searchlight")
    return ids, mean


def _layers(
    activations: xr.DataTree, ids: np.ndarray, distance: str, comparator: str
) -> dict[str, np.ndarray]:
    """{layer: its dissimilarities of these stimuli}, as the registered `rsa` makes them."""
    rsa = metric("rsa", distance=distance, comparator=comparator)
    pairs = np.triu_indices(len(ids), 1)
    names = {"stimulus_a": ("pair", ids[pairs[0]]), "stimulus_b": ("pair", ids[pairs[1]])}
    nothing = xr.DataArray(np.zeros(len(pairs[0])), dims="pair", coords=names)
    brain = rsa.prepare_response(nothing)
    found: dict[str, np.ndarray] = {}
    for name, layer in layers_of(activations).items():
        evidence: Any = rsa.compare(rsa.prepare_activation(layer.array), brain)
        assert isinstance(evidence, PairEvidence)
        found[name] = evidence.network
    return found


def _tasks(n_centres: int, n_pairs: int) -> list[tuple[int, int]]:
    step = int(np.clip(BLOCK // max(n_pairs, 1), 1, 2000))
    return [(a, min(a + step, n_centres)) for a in range(0, n_centres, step)]
