"""Tables and maps of a partition of variance and of searchlights, for pages and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.datasets.volumes import grid_of

Extra = dict[str, Any]


def of_partition(found: xr.Dataset, networks: tuple[str, str], brain: xr.DataTree) -> list[Extra]:
    """Three tables (one shown, two as files) and maps of subjects whose voxels lie on a grid.

    Parameters
    ----------
    found : Dataset
        From `variance_partition`.
    networks : (a, b)
    brain : DataTree
        For the grids.

    Returns
    -------
    list of dict
        Arguments for `schema.results.add_extra`.
    """
    a, b = networks
    words = {
        "a": a,
        "b": b,
        "joint": "both",
        "unique_a": f"only {a}",
        "unique_b": f"only {b}",
        "shared": "shared",
    }
    rois, parts = found["roi"].values.tolist(), list(words)
    level = 100 * float(found.attrs["confidence"])
    counted = json.loads(found.attrs["levels"])
    levels = " and ".join(f"{n} {source}" for source, n in sorted(counted.items()))
    mean, ci = found["mean_r2"], found["ci"]
    wide: dict[str, list[Any]] = {"ROI": rois}
    for part, word in words.items():
        wide[word] = [
            f"{mean.sel(part=part, roi=roi).item():.3f} "
            f"[{ci.sel(part=part, roi=roi).values[0]:.3f}, "
            f"{ci.sel(part=part, roi=roi).values[1]:.3f}]".replace("-", "−")
            for roi in rois
        ]
    long = [(roi, part) for roi in rois for part in parts]
    group: dict[str, list[Any]] = {
        "roi": [roi for roi, _ in long],
        "part": [part for _, part in long],
        "network_a": [a] * len(long),
        "network_b": [b] * len(long),
        "r2": [mean.sel(part=p, roi=r).item() for r, p in long],
        "ci_low": [ci.sel(part=p, roi=r, ci_bound="lower").item() for r, p in long],
        "ci_high": [ci.sel(part=p, roi=r, ci_bound="upper").item() for r, p in long],
    }
    each = [(s, r, p) for s in found["subject"].values.tolist() for r, p in long]
    each = [(s, r, p) for s, r, p in each if found["n_voxels"].sel(subject=s, roi=r) > 0]
    own: dict[str, list[Any]] = {
        "subject": [s for s, _, _ in each],
        "roi": [r for _, r, _ in each],
        "part": [p for _, _, p in each],
        "r2": [found["r2"].sel(subject=s, roi=r, part=p).item() for s, r, p in each],
        "n_voxels": [int(found["n_voxels"].sel(subject=s, roi=r)) for s, r, _ in each],
    }
    caption = (
        "Banded ridge: share of the variance of the test responses (R², mean over voxels and "
        "subjects) that each network predicts, that both predict together, and its parts: what "
        "only one of them adds to the other, and what either could do. Parts may be negative, "
        "because a second network also brings noise. In brackets: "
        f"{level:g} % intervals, estimate ± t · SE by the corrected variance of {levels} drawn "
        "together, conditional on the fitted models and not corrected for the number of rows. "
        "Noise bounds all parts alike: they are shares of the measured variance."
    )
    title = f"{a} and {b} jointly: unique and shared variance"
    extras = [
        _table("", title, caption, wide),
        _table("", title, caption, group, file="partition", shown=False),
        _table("", f"{title}, per subject", "", own, file="partition_subjects", shown=False),
    ]
    shown = True
    for subject, node in brain.children.items():
        placed = grid_of(node)
        if placed is None or subject not in found["subject"].values:
            continue
        for part in ("unique_a", "unique_b", "shared"):
            values = found["voxel_r2"].sel(part=part, subject=subject).values[: len(placed[0])]
            extras.append(
                _map(
                    f"R²: {words[part]}, {subject}",
                    "Share of each voxel's variance over the test stimuli.",
                    values,
                    placed,
                    "R²",
                    f"partition_{subject}_{words[part]}",
                    shown and part != "shared",
                )
            )
        shown = False
    return extras


def of_searchlight(
    maps: Mapping[str, xr.Dataset], contrast: Sequence[Sequence[str]] | None
) -> list[Extra]:
    """Maps of each subject and network, differences of networks, and a table of the peaks.

    Parameters
    ----------
    maps : {subject: Dataset}
        From `searchlight`.
    contrast : list of (a, b), optional
        Differences of these.

    Returns
    -------
    list of dict
        Arguments for `schema.results.add_extra`; empty without maps.
    """
    extras: list[Extra] = []
    peaks: dict[str, list[Any]] = {
        k: [] for k in ("subject", "network", "layer", "score", "i", "j", "k", "x", "y", "z")
    }
    for subject, held in maps.items():
        placed = grid_of(held)
        assert placed is not None
        names = held["layer"].values.astype(str).tolist()
        network_of = [name.split("/", 1)[0] for name in names]
        scores = held["score"].values
        told = (
            f"{float(held.attrs['radius_mm']):g} mm around each voxel, {held.attrs['distance']} "
            f"distance, {held.attrs['comparator']}"
        )
        means = {}
        first = subject == next(iter(maps))
        for n, network in enumerate(dict.fromkeys(network_of)):
            rows = [i for i, own in enumerate(network_of) if own == network]
            means[network] = scores[rows].mean(axis=0)
            extras.append(
                _map(
                    f"Searchlight: {network}, {subject}",
                    f"RSA score, mean over {len(rows)} layers, of the patterns {told}.",
                    means[network],
                    placed,
                    "RSA score",
                    f"searchlight_{subject}_{network}",
                    first and n < 2,
                    scores[rows] if len(rows) > 1 else None,
                    [names[i].split("/", 1)[1] for i in rows],
                )
            )
        pairs = [tuple(p) for p in contrast] if contrast else list(_pairs(list(means)))
        for a, b in pairs:
            if a in means and b in means:
                extras.append(
                    _map(
                        f"Searchlight: {a} − {b}, {subject}",
                        f"Difference of the mean RSA scores of the patterns {told}.",
                        means[a] - means[b],
                        placed,
                        "difference of RSA scores",
                        f"searchlight_{subject}_{a}-minus-{b}",
                        first,
                    )
                )
        ijk, grid = placed
        for name, network, row in zip(names, network_of, scores, strict=True):
            if not np.isfinite(row).any():
                continue
            at = int(np.nanargmax(row))
            mm = grid.affine[:3, :3] @ ijk[at] + grid.affine[:3, 3]
            record = [subject, network, name.split("/", 1)[1], float(row[at])]
            record += [*map(int, ijk[at]), *(round(float(v), 2) for v in mm)]
            for column, value in zip(peaks, record, strict=True):
                peaks[column].append(value)
    if not maps:
        return []
    best: dict[tuple[str, str], int] = {}
    for n, key in enumerate(zip(peaks["subject"], peaks["network"], strict=True)):
        if key not in best or peaks["score"][n] > peaks["score"][best[key]]:
            best[key] = n
    highest = {column: [values[n] for n in best.values()] for column, values in peaks.items()}
    caption = (
        "The voxel around which a layer of the network scores highest, by voxel index (i, j, k) "
        "and in mm (x, y, z); those of all layers are in searchlight_peaks.csv. A searchlight is "
        "a map to look at: these are maxima over many spheres that overlap, without a test and "
        "without correction for their number."
    )
    columns = {"score": "RSA score at the peak"}
    title = "Searchlight: peaks"
    shown = _table("", title, caption, highest) | {"columns": columns}
    file = _table("", title, "", peaks, file="searchlight_peaks", shown=False)
    return [shown, file, *extras]


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def _table(
    metric: str,
    title: str,
    caption: str,
    columns: Mapping[str, list[Any]],
    file: str | None = None,
    shown: bool = True,
) -> Extra:
    return {
        "kind": "table",
        "metric": metric,
        "title": title,
        "caption": caption,
        "arrays": {name: xr.DataArray(values, dims="row") for name, values in columns.items()},
        "file": file,
        "shown": shown,
    }


def _map(
    title: str,
    caption: str,
    values: np.ndarray,
    placed: tuple[np.ndarray, Any],
    unit: str,
    file: str,
    shown: bool,
    volumes: np.ndarray | None = None,
    volume_names: list[str] | None = None,
) -> Extra:
    ijk, grid = placed
    inside = np.isfinite(values)
    arrays = {
        "values": xr.DataArray(values[inside].astype(np.float32), dims="voxel"),
        "ijk": xr.DataArray(ijk[inside].astype(np.int16), dims=("voxel", "axis")),
    }
    if volumes is not None:
        cut = volumes[:, inside].astype(np.float32)
        arrays["volumes"] = xr.DataArray(cut, dims=("volume", "voxel"))
    return {
        "kind": "map",
        "metric": "",
        "title": title,
        "caption": caption,
        "arrays": arrays,
        "unit": unit,
        "affine": grid.affine.tolist(),
        "shape": list(grid.shape),
        "file": file,
        "volume_names": volume_names if volumes is not None else None,
        "shown": shown and bool(inside.any()),
    }
