"""Brain data by name or path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from rsacompare import plugins
from rsacompare.schema.arrays import read_tree


def load_dataset(name: str | Path, **options: Any) -> xr.DataTree:
    """Brain data: a registered data set, or a netCDF file of ours.

    Parameters
    ----------
    name : str or path
        See ``rsacompare list datasets``; or the path of a `.nc` file.
    **options
        Passed to the data set's loader.

    Returns
    -------
    DataTree
        One node per subject, with `response` and `roi_mask`, or `rdm`.

    Raises
    ------
    DataError, FetchError, ProtocolError
        A broken file; a file that cannot be had; an unknown name.
    """
    path = Path(name)
    if path.suffix == ".nc" or (path.exists() and path.is_file()):
        return read_tree(path)
    return plugins.find("datasets", str(name))(**options)
