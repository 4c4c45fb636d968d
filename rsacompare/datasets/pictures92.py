"""The 92 object pictures that several published sets share: their names, categories and files.

The pictures are `stim01` … `stim92` in the order of the files, which all of them share.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from rsacompare import plugins
from rsacompare.datasets.load import fetch
from rsacompare.datasets.registry import registry
from rsacompare.errors import DataError

N_STIMULI = 92
STIMULUS_ID = [f"stim{i:02d}" for i in range(1, N_STIMULI + 1)]
PICTURES = "kriegeskorte92/Kriegeskorte_Neuron2008_supplementalData.mat"


def categories(path: Path) -> dict[str, str]:
    """Exclusive category of each of the 92 pictures, from the four flags of the paper's file.

    Returns
    -------
    dict
        {stimulus_id: human face, human body part, animal face, animal body part, natural object
        or artificial object}.

    Raises
    ------
    DataError
        When the file is broken or does not hold 92 pictures with their flags.
    """
    pictures = read_mat(path, "stimuli_92objs").ravel()
    if pictures.size != N_STIMULI:
        raise DataError(f"{path}: {pictures.size} pictures, expected {N_STIMULI}")
    found = {}
    for stimulus, picture in zip(STIMULUS_ID, pictures, strict=True):
        human, face, animal, natural = (
            bool(field(picture, flag, path).item())
            for flag in ("human", "face", "animal", "natural")
        )
        if animal:  # in the file's sense humans are animals too
            category = f"{'human' if human else 'animal'} {'face' if face else 'body part'}"
        else:
            category = f"{'natural' if natural else 'artificial'} object"
        found[stimulus] = category
    return found


def pictures() -> dict[str, np.ndarray]:
    """The 92 object photographs of Kriegeskorte et al. (2008), 175 x 175 pixels on grey.

    Returns
    -------
    dict
        {stimulus_id: (175, 175, 3) uint8 RGB}.

    Raises
    ------
    FetchError, DataError
        The file cannot be had, is broken or does not hold 92 pictures.
    """
    path = fetch(PICTURES)
    cells = read_mat(path, "stimuli_92objs").ravel()
    if cells.size != N_STIMULI:
        raise DataError(f"{path}: {cells.size} pictures, expected {N_STIMULI}")
    found = {}
    for stimulus, cell in zip(STIMULUS_ID, cells, strict=True):
        picture = field(cell, "image", path)
        if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
            raise DataError(
                f"{path}: picture {stimulus} is {picture.shape} {picture.dtype}, "
                "expected (height, width, 3) uint8"
            )
        found[stimulus] = picture
    return found


def common_attrs(names: list[str], picture_file: Path | None) -> dict[str, Any]:
    """Attributes that all trees of these pictures carry: categories, hashes of the inputs."""
    attrs: dict[str, Any] = {"simulated": False}
    inputs = {name: registry()[name].sha256 for name in names}  # fetch has verified them
    if picture_file is not None:
        attrs["categories"] = categories(picture_file)
        inputs[PICTURES] = registry()[PICTURES].sha256
    return {**attrs, "inputs": inputs}


def read_mat(path: Path, variable: str) -> np.ndarray:
    """One variable of a MATLAB file; DataError when there is none or the file is broken."""
    try:
        held = scipy.io.loadmat(path)
    except Exception as err:  # scipy raises many kinds for a broken file
        raise DataError(_broken(path, "MATLAB", err)) from err
    if variable not in held:
        names = [name for name in held if not name.startswith("__")]
        raise DataError(f"{path}: {plugins.unknown('variable', variable, names)}")
    return held[variable]


def read_hdf5(path: Path, variables: list[str]) -> dict[str, np.ndarray]:
    """Variables of an HDF5 file as float64; DataError as for :func:`read_mat`."""
    held: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            names = list(file)
            for name in set(variables) & set(names):
                held[name] = np.asarray(file[name][()], dtype=np.float64)
    except Exception as err:  # h5py raises many kinds for a broken file
        raise DataError(_broken(path, "HDF5", err)) from err
    for name in variables:
        if name not in held:
            raise DataError(f"{path}: {plugins.unknown('variable', name, names)}")
    return held


def _broken(path: Path, kind: str, err: Exception) -> str:
    return (
        f"{path} cannot be read as {kind} ({type(err).__name__}: {err}); it may be truncated: "
        "fetch it again"
    )


def field(cell: np.void, name: str, path: Path) -> np.ndarray:
    """A field of a MATLAB struct."""
    if name not in (cell.dtype.names or ()):
        raise DataError(f"{path}: {plugins.unknown('field', name, cell.dtype.names or ())}")
    return cell[name]


def text(cell: np.void, name: str, path: Path) -> str:
    """A field of a MATLAB struct that holds one name."""
    value = field(cell, name, path)
    if value.size != 1:
        raise DataError(f"{path}: field '{name}' should hold one name, got {value!r}")
    return str(value.item())
