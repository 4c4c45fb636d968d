"""Maps over a subject's voxels of what a voxel-wise metric found, for pages and NIfTI files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.datasets.volumes import grid_of
from rsacompare.kernels import resample
from rsacompare.metrics.evidence import Evidence, Metric, TargetEvidence
from rsacompare.schema.results import Cell
from rsacompare.study.cells import Region

Extra = dict[str, Any]
N_SPLITS = 2
LOWEST_CEILING = 0.1


def of_voxels(
    work: Iterable[Cell],
    evidence: Mapping[Cell, Evidence],
    metrics: Mapping[str, Metric],
    scores: xr.Dataset,
    regions: Mapping[tuple[str, str], Region],
) -> list[Extra]:
    """Maps of each metric that declares its targets to be voxels, of subjects who have a grid.

    Parameters
    ----------
    work : cells
    evidence : {Cell: Evidence}
    metrics : {label: Metric}
        `voxelwise` ones have maps.
    scores : Dataset
        For the order of networks and layers.
    regions : {(roi, subject): Region}

    Returns
    -------
    list of dict
        Arguments for `schema.results.add_extra`, kind `map`. Those of the first subject are
        shown on pages; all have a `file`, the name of an image.
    """
    grids: dict[str, Any] = {}
    for (_, subject), region in regions.items():
        if subject not in grids and region.mask is not None:
            grids[subject] = grid_of(region.data)
    network_of = dict(
        zip(scores["layer"].values.tolist(), scores["network"].values.tolist(), strict=True)
    )
    found: list[Extra] = []
    held = list(work)
    for label, metric in metrics.items():
        if not metric.voxelwise:
            continue
        shown = False
        for subject, placed in grids.items():
            cells = [c for c in held if c.metric == label and c.subject == subject]
            if placed is None or not cells:
                continue
            one = _Subject(cells, evidence, regions, len(placed[0]))
            if one.per_layer:
                found += _of_subject(label, subject, one, placed, network_of, metric, not shown)
                shown = True
    return found


class _Subject:
    """Scores per voxel of one subject: all stimuli, and halves of them, for each layer."""

    def __init__(
        self,
        cells: list[Cell],
        evidence: Mapping[Cell, Evidence],
        regions: Mapping[tuple[str, str], Region],
        n_voxels: int,
    ):
        self.per_layer: dict[str, np.ndarray] = {}
        self.halves: dict[str, np.ndarray] = {}
        self.ceiling = np.full(n_voxels, np.nan)
        self.inside = np.zeros(n_voxels, dtype=bool)
        for cell in cells:
            held, mask = evidence[cell], regions[cell.roi, cell.subject].mask
            if not isinstance(held, TargetEvidence) or mask is None:
                continue
            place = np.flatnonzero(mask)
            if len(place) != held.target_size:  # a guest that has other targets than voxels
                continue
            full = self.per_layer.setdefault(cell.layer, np.full(n_voxels, np.nan))
            full[place] = held.profile
            rng = resample.stream(0, "map halves", held.stimulus_id)
            first = resample.halves(
                rng, len(held.stimulus_id), N_SPLITS, held.fold, held.block
            ).astype(float)
            both = np.concatenate([first, 1 - first])
            half = self.halves.setdefault(cell.layer, np.full((2 * N_SPLITS, n_voxels), np.nan))
            half[:, place] = held.target_scores(both)
            roof = held.target_ceiling()
            self.ceiling[place] = np.where(np.isnan(roof), self.ceiling[place], roof)
            self.inside[place] = True

    def nested(self, layers: list[str]) -> np.ndarray:
        """Score of the layer that is best on the other half of the stimuli, mean over halves."""
        stack = np.stack([self.halves[x] for x in layers])
        pick = np.where(np.isnan(stack), -np.inf, stack).argmax(axis=0)
        other = np.roll(np.arange(2 * N_SPLITS), N_SPLITS)
        return np.take_along_axis(stack[:, other], pick[None], axis=0)[0].mean(axis=0)

    def best(self, layers: list[str]) -> np.ndarray:
        """Number (from 1) of the best layer by all stimuli; NaN where none is above 0."""
        stack = np.stack([self.per_layer[x] for x in layers])
        low = np.where(np.isnan(stack), -np.inf, stack)
        return np.where(low.max(axis=0) > 0, low.argmax(axis=0) + 1.0, np.nan)


def _of_subject(
    label: str,
    subject: str,
    one: _Subject,
    placed: tuple[np.ndarray, Any],
    network_of: Mapping[str, str],
    metric: Metric,
    shown: bool,
) -> list[Extra]:
    unit = metric.meaning.unit
    ijk, grid = placed
    inside = one.inside
    made: list[Extra] = []

    def add(
        file: str,
        title: str,
        caption: str,
        values: np.ndarray,
        unit: str,
        volumes: np.ndarray | None = None,
        volume_names: list[str] | None = None,
    ) -> None:
        arrays = {
            "values": xr.DataArray(values[inside].astype(np.float32), dims="voxel"),
            "ijk": xr.DataArray(ijk[inside].astype(np.int16), dims=("voxel", "axis")),
        }
        if volumes is not None:
            cut = volumes[:, inside].astype(np.float32)
            arrays["volumes"] = xr.DataArray(cut, dims=("volume", "voxel"))
        made.append(
            {
                "kind": "map",
                "metric": label,
                "title": f"{title}, {subject}",
                "caption": caption,
                "arrays": arrays,
                "unit": unit,
                "affine": grid.affine.tolist(),
                "shape": list(grid.shape),
                "file": f"{label}_{subject}_{file}",
                "volume_names": volume_names,
                # halves of few stimuli may score no voxel at all: a file then, and no empty panel
                "shown": shown and bool(np.isfinite(values[inside]).any()),
            }
        )

    by_network: dict[str, list[str]] = {}
    for layer, network in network_of.items():
        if layer in one.per_layer:
            by_network.setdefault(network, []).append(layer)
    nested = {network: one.nested(layers) for network, layers in by_network.items()}
    for network, layers in by_network.items():
        several = len(layers) > 1
        names = [layer.split("/", 1)[1] for layer in layers]
        add(
            f"{network}_score",
            f"{network}: score",
            "Each voxel is shown by the layer that is best on one half of the test stimuli, scored "
            "on the other half (mean of two splits and both directions)."
            if several
            else "Mean of the scores on halves of the test stimuli.",
            nested[network],
            unit,
            np.stack([one.per_layer[x] for x in layers]),
            names,
        )
        if several:
            listed = ", ".join(f"{i + 1} {name}" for i, name in enumerate(names))
            words = f"By all test stimuli (for looking, not for testing): {listed}."
            title = f"{network}: best layer"
            add(f"{network}_best-layer", title, words, one.best(layers), "layer")
    if np.isfinite(one.ceiling).any():
        words = "The correlation that a perfect prediction would reach, from repetitions."
        add("ceiling", "noise ceiling", words, one.ceiling, "correlation r")
        if unit == "correlation r":
            able = one.ceiling >= LOWEST_CEILING
            words = f"Voxels with a ceiling below {LOWEST_CEILING:g} are left out."
            for network, values in nested.items():
                with np.errstate(invalid="ignore", divide="ignore"):
                    share = np.where(able, values / one.ceiling, np.nan)
                title = f"{network}: score / noise ceiling"
                add(f"{network}_normalised", title, words, share, "r / ceiling")
    for a, b in combinations(nested, 2):
        words = "Difference of the two networks' score maps."
        between = nested[a] - nested[b]
        add(f"{a}-minus-{b}", f"{a} − {b}", words, between, f"difference of {unit}")
    return made
