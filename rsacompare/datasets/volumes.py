"""Voxels and masks of images, and the way from values per voxel back to NIfTI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets.images import SAME_PLACE, Grid, open_image
from rsacompare.errors import DataError, ProtocolError

MOST_STEPS = 512  # voxels along an axis: more is no lattice


def read_mask(paths: Sequence[Path], grid: Grid, resample: bool = False) -> np.ndarray:
    """The union of binary mask images on a grid.

    Parameters
    ----------
    paths : sequence of Path
    grid : Grid
        Of the images that the mask is for.
    resample : bool
        Take a mask on another grid to this one by its nearest voxel; an error otherwise.

    Returns
    -------
    (x, y, z) bool

    Raises
    ------
    DataError
        Another grid, more than one volume, or values other than 0 and one other.
    """
    union = np.zeros(grid.shape, dtype=bool)
    for path in paths:
        image = open_image(path)
        if image.n_volumes != 1:
            raise DataError(f"{path}: a mask of {image.n_volumes} volumes; one is expected")
        if not resample and not image.grid.same(grid):
            raise DataError(
                f"{path}: the mask is on another grid than the images. Mask: {image.grid}. "
                f"Images: {grid}. Resample it, or ask for its nearest voxels "
                "(resample_masks=True)"
            )
        values = image.read()[0]
        kinds = np.unique(values[~np.isnan(values)])
        if kinds[kinds != 0].size > 1:
            raise DataError(
                f"{path}: a mask holds 0 and one other value, this one {kinds.size} values from "
                f"{kinds[0]:g} to {kinds[-1]:g}; threshold it, or cut out one label"
            )
        mask = (np.nan_to_num(values) != 0).reshape(image.grid.shape, order="F")
        union |= mask if image.grid.same(grid) else _nearest(mask, image.grid, grid)
    return union


def _nearest(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """A mask at the voxel centres of another grid; False outside of it."""
    to_source = np.linalg.inv(source.affine) @ target.affine
    centres = np.indices(target.shape).reshape(3, -1)
    # one rounding for all: centres that lie half way must not depend on the last bit
    place = np.floor((to_source[:3, :3] @ centres + to_source[:3, 3:]).round(6) + 0.5).astype(int)
    inside = ((place >= 0) & (place < np.array(source.shape)[:, None])).all(axis=0)
    out = np.zeros(centres.shape[1], dtype=bool)
    out[inside] = mask[tuple(place[:, inside])]
    return out.reshape(target.shape)


def voxels_of(masks: Mapping[str, np.ndarray], where: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels that any mask holds, and each mask over these voxels.

    Returns
    -------
    ijk : (voxel, 3) int
    roi_mask : {roi: (voxel,) bool}

    Raises
    ------
    DataError
        When a mask holds no voxel.
    """
    for roi, mask in masks.items():
        if not mask.any():
            raise DataError(f"{where}: the mask of ROI '{roi}' holds no voxel; leave it out")
    union = np.logical_or.reduce(list(masks.values()))
    return np.argwhere(union), {roi: mask[union] for roi, mask in masks.items()}


def live_voxels(
    values: np.ndarray, ijk: np.ndarray, dead_voxels: str, where: str, why: str
) -> np.ndarray:
    """Which columns are finite throughout; the others are an error unless they may be dropped.

    Parameters
    ----------
    values : (row, voxel)
    ijk : (voxel, 3)
    dead_voxels : {"error", "drop"}
    where, why : str
        For the message: what the values are, and why some may not be numbers.

    Returns
    -------
    (voxel,) bool
    """
    if dead_voxels not in ("error", "drop"):
        raise ProtocolError(f"dead_voxels='{dead_voxels}': there are 'error' and 'drop'")
    live = np.isfinite(values).all(axis=0)
    if not live.all() and dead_voxels == "error":
        first = ", ".join(str(tuple(v.tolist())) for v in ijk[~live][:3])
        raise DataError(
            f"{where}: {np.count_nonzero(~live)} of {live.size} voxels have no usable values "
            f"({why}), first at (i, j, k) {first}; mend the masks, or leave these voxels out "
            "(dead_voxels='drop')"
        )
    return live


def place(node: xr.DataTree, grid: Grid) -> None:
    """Write the grid of a subject's images into the attributes of the subject's node."""
    node.attrs["shape"] = json.dumps(list(grid.shape))
    node.attrs["affine"] = json.dumps(grid.affine.tolist())


def grid_of(node: xr.DataTree | xr.Dataset) -> tuple[np.ndarray, Grid] | None:
    """Voxel indices and grid of a subject's responses, or None where there is none to go back to.

    From `i, j, k` with `affine` and `shape`, as images have them; else from `voxel_x/y/z` in
    millimetres where these lie on a lattice along the axes (at most a twentieth of a voxel off),
    which the smallest box around the voxels then holds.

    Returns
    -------
    ijk : (voxel, 3) int
    grid : Grid
    """
    if {"affine", "shape"} <= set(node.attrs) and {"i", "j", "k"} <= set(node.coords):
        ijk = np.stack([node.coords[axis].values for axis in "ijk"], axis=1).astype(int)
        shape = tuple(int(n) for n in json.loads(node.attrs["shape"]))
        return ijk, Grid(shape, np.array(json.loads(node.attrs["affine"])))  # type: ignore[arg-type]
    names = [f"voxel_{axis}" for axis in "xyz"]
    if not set(names) <= set(node.coords):
        return None
    affine = np.eye(4)
    index = []
    for axis, name in enumerate(names):
        place = node.coords[name].values.astype(np.float64)
        if not len(place) or not np.isfinite(place).all():
            return None
        gaps = np.diff(np.unique(place.round(3)))
        step = float(gaps.min()) if gaps.size else 1.0
        steps = (place - place.min()) / step
        if np.abs(steps - steps.round()).max() > SAME_PLACE or steps.max() > MOST_STEPS:
            return None
        index.append(steps.round().astype(int))
        affine[axis, axis], affine[axis, 3] = step, place.min()
    ijk = np.stack(index, axis=1)
    if len(np.unique(ijk, axis=0)) < len(ijk):
        return None
    return ijk, Grid(tuple(int(n) for n in ijk.max(axis=0) + 1), affine)  # type: ignore[arg-type]


def to_nifti(
    values: Any, node: xr.DataTree | xr.Dataset, roi: str | None = None, fill: float = np.nan
) -> Any:
    """Values per voxel as an image on the grid of the subject's scans.

    Parameters
    ----------
    values : (neuroid,) or (map, neuroid)
        One value per voxel of the subject, or of `roi`.
    node : DataTree or Dataset
        A subject of a tree that came from images: ``tree["sub-01"]``.
    roi : str, optional
        The values are of this ROI's voxels.
    fill : float
        Everywhere else.

    Returns
    -------
    nibabel.Nifti1Image
        float32, three-dimensional, or four-dimensional for several maps.

    Raises
    ------
    DataError
        A subject without a grid; a number of values that does not fit.
    """
    from nibabel import Nifti1Image

    placed = grid_of(node)
    if placed is None:
        raise DataError("these responses did not come from images: there is no grid to go back to")
    ijk, grid = placed
    if roi is not None:
        rois = node.coords["roi"].values.tolist()
        if roi not in rois:
            raise DataError(plugins.unknown("roi", roi, rois))
        data = node.to_dataset() if isinstance(node, xr.DataTree) else node
        ijk = ijk[data["roi_mask"].sel(roi=roi).values]
    maps = np.asarray(values, dtype=np.float32)
    if maps.ndim not in (1, 2) or maps.shape[-1] != len(ijk):
        raise DataError(f"{maps.shape} values for {len(ijk)} voxels; one per voxel is expected")
    volume = np.full(grid.shape + maps.shape[:-1], fill, dtype=np.float32)
    volume[tuple(ijk.T)] = maps.T
    return Nifti1Image(volume, grid.affine)
