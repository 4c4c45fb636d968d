"""The maps of a result as NIfTI images on each subject's grid."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import xarray as xr

from rsacompare.schema.results import iter_extras


def write_maps(result: xr.Dataset, folder: str | Path) -> list[Path]:
    """Write every map of a result as `<file>.nii.gz`; maps of all layers as `<file>_layers.nii.gz`.

    Parameters
    ----------
    result : Dataset
        With extras of kind `map` that carry `affine`, `shape` and `file`.
    folder : path
        Made when there is a map to write.

    Returns
    -------
    list of Path
        float32 images, NaN outside the voxels. An image of several layers names these in its
        header's description, shortened to what fits (80 bytes), and in full in `results.nc`.
    """
    from nibabel import Nifti1Image

    written = []
    for extra, roles in iter_extras(result):
        if extra["kind"] != "map" or not {"affine", "shape", "file"} <= set(extra):
            continue
        ijk = tuple(roles["ijk"].astype(int).T)
        shape, affine = tuple(json.loads(extra["shape"])), np.array(json.loads(extra["affine"]))
        name = re.sub(r"[^A-Za-z0-9._+-]", "-", extra["file"])
        contents = {name: (roles["values"], extra["title"])}
        if "volumes" in roles:
            layers = "; ".join(json.loads(extra["volume_names"]))
            contents[f"{name}_layers"] = (roles["volumes"].T, layers)
        for stem, (values, description) in contents.items():
            volume = np.full(shape + values.shape[1:], np.nan, dtype=np.float32)
            volume[ijk] = values
            image = Nifti1Image(volume, affine)
            image.header["descrip"] = description.encode("ascii", "replace")[:79]
            file = Path(folder) / f"{stem}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.to_filename(file)
            written.append(file)
    return written
