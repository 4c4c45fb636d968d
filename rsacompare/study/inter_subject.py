"""Similarity of stimuli across brains: patterns of one subject beside those of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets.volumes import Grid, grid_of
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema import labels

_ELSE = (
    "; the second-order similarity of subjects, RDM by RDM, needs no voxels in common: the page of "
    "every metric on pairs or Grams shows it"
)


def inter_subject(
    brain: xr.DataTree,
    roi: str | None = None,
    *,
    subjects: Iterable[str] | None = None,
    same_voxels: bool = False,
) -> xr.Dataset:
    """Stimulus x stimulus correlations of patterns within and between subjects.

    Patterns of two brains can be correlated only voxel by voxel. Subjects have voxels in common
    where their images lie on one grid (the same affine and shape, as after normalisation to MNI
    space), or where you say so.

    Parameters
    ----------
    brain : DataTree
        Responses; of the `test` split where there is one, means over repetitions.
    roi : str, optional
        Voxels of this ROI in every subject; all voxels unless given.
    subjects : sequence of str, optional
    same_voxels : bool
        Declare that voxel k of one subject is voxel k of every other (responses brought into
        one space before, hyperaligned ones for instance): then only their numbers must agree.
        Two brains scanned with one field of view share a grid and yet no space: normalise first.

    Returns
    -------
    Dataset
        `similarity(subject_a, subject_b, stimulus_a, stimulus_b)`: Pearson r over the voxels that
        the two have in common, of a's pattern of one stimulus with b's of another; NaN where a
        pattern is constant. `matched(subject_a, subject_b)`: mean r of the same stimuli less that
        of different ones. `n_voxels(subject_a, subject_b)`.

    Raises
    ------
    ProtocolError
        Subjects without voxels in common, RDMs in place of responses, unknown names.
    DataError
        Fewer than two stimuli, or two voxels, in common.
    """
    chosen = list(brain.children) if subjects is None else list(subjects)
    patterns, places, ids = {}, {}, {}
    grids: dict[str, Grid] = {}
    for name in chosen:
        if name not in brain.children:
            raise ProtocolError(plugins.unknown("subject", name, brain.children))
        data = brain.children[name].to_dataset()
        if "response" not in data:
            raise ProtocolError(f"{name}: RDMs alone have no voxels to compare{_ELSE}")
        rois = data["roi"].values.tolist()
        if roi is not None and roi not in rois:
            raise ProtocolError(plugins.unknown(f"ROI of {name}", roi, rois))
        mask = np.ones(data.sizes["neuroid"], dtype=bool)
        if roi is not None:
            mask = data["roi_mask"].sel(roi=roi).values.astype(bool)
        cut = data["response"].isel(neuroid=mask)
        split = "test" if (cut["split"].values != "").any() else None
        ids[name], patterns[name], _, _ = labels.average_repetitions(cut, split)
        labels.require_finite(patterns[name], name)
        if same_voxels:
            places[name] = np.arange(int(mask.sum()))
        elif "affine" in data.attrs and (placed := grid_of(data)) is not None:
            grids[name] = placed[1]
            places[name] = np.ravel_multi_index(tuple(placed[0][mask].T), placed[1].shape)
        else:
            raise ProtocolError(
                f"{name} did not come from images on a grid, so that its voxels are nobody else's; "
                "if all subjects were brought into one space, say same_voxels=True" + _ELSE
            )
    _require_common(places, grids)
    stimuli = np.array(sorted(set.intersection(*(set(own.tolist()) for own in ids.values()))))
    if len(stimuli) < 2:
        raise DataError(f"{len(stimuli)} stimuli were shown to all subjects; 2 are needed")
    for name in chosen:
        patterns[name] = patterns[name][np.searchsorted(ids[name], stimuli)]
    return _similarities(chosen, patterns, places, stimuli)


def _require_common(places: dict[str, np.ndarray], grids: Mapping[str, Grid]) -> None:
    names = list(places)
    for name in names[1:]:
        first, other = grids.get(names[0]), grids.get(name)
        if first is not None and other is not None:
            same = first.shape == other.shape and np.allclose(first.affine, other.affine, atol=1e-4)
            if not same:
                raise ProtocolError(
                    f"{names[0]} and {name} lie on different grids: their voxels are not the same "
                    f"places; bring the images into one space (MNI) first{_ELSE}"
                )
        elif len(places[name]) != len(places[names[0]]):
            raise ProtocolError(
                f"same_voxels=True, but {names[0]} has {len(places[names[0]])} voxels and {name} "
                f"{len(places[name])}{_ELSE}"
            )


def _similarities(
    names: list[str],
    patterns: dict[str, np.ndarray],
    places: dict[str, np.ndarray],
    stimuli: np.ndarray,
) -> xr.Dataset:
    n, size = len(stimuli), len(names)
    out = np.full((size, size, n, n), np.nan)
    n_voxels = np.zeros((size, size), dtype=int)
    for a, one in enumerate(names):
        for b, two in enumerate(names):
            _, left, right = np.intersect1d(places[one], places[two], return_indices=True)
            n_voxels[a, b] = len(left)
            if len(left) < 2:
                raise DataError(f"{one} and {two} have {len(left)} voxels in common; 2 are needed")
            x, y = _unit(patterns[one][:, left]), _unit(patterns[two][:, right])
            out[a, b] = x @ y.T
    own = np.eye(n, dtype=bool)
    matched = out[..., own].mean(axis=-1) - out[..., ~own].mean(axis=-1)
    both = ("subject_a", "subject_b")
    return xr.Dataset(
        {
            "similarity": ((*both, "stimulus_a", "stimulus_b"), out),
            "matched": (both, matched),
            "n_voxels": (both, n_voxels),
        },
        coords={
            "subject_a": names,
            "subject_b": names,
            "stimulus_a": stimuli,
            "stimulus_b": stimuli,
        },
    )


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows centred and of length 1; NaN for a constant row."""
    x = x - x.mean(axis=1, keepdims=True)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 1e-12 * np.abs(x).max(initial=0.0), length, np.nan)
