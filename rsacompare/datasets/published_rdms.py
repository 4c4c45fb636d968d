"""Brains, and one network, that are known by their dissimilarities alone, on the same 92 pictures.

The pictures are `stim01` … `stim92` in the order of the files, which all of them share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets.load import at_hand, fetch
from rsacompare.datasets.registry import registry
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema.arrays import rdms

N_STIMULI = 92
STIMULUS_ID = [f"stim{i:02d}" for i in range(1, N_STIMULI + 1)]
PICTURES = "kriegeskorte92/Kriegeskorte_Neuron2008_supplementalData.mat"
HUMAN_IT = "kriegeskorte92/92_brainRDMs.mat"
ALEXNET = "kriegeskorte92/modelRDMs_A2020.mat"
ALGONAUTS = "algonauts2019/92_target_fmri.mat"
KRIEGESKORTE_2008 = (
    "Kriegeskorte N, Mur M, Ruff DA, Kiani R, Bodurka J, Esteky H, Tanaka K, Bandettini PA (2008). "
    "Matching categorical object representations in inferior temporal cortex of man and monkey. "
    "Neuron 60:1126-1141. doi:10.1016/j.neuron.2008.10.043"
)
ALGONAUTS_2019 = (
    "Cichy RM, Roig G, Andonian A, Dwivedi K, Lahner B, Lascelles A, Mohsenzadeh Y, "
    "Ramakrishnan K, Oliva A (2019). The Algonauts Project: A platform for communication between "
    "the sciences of biological and artificial intelligence. arXiv:1905.05675"
)


def kriegeskorte92(sessions: Iterable[int] = (1, 2)) -> xr.DataTree:
    """Human IT of four subjects on 92 object pictures (Kriegeskorte et al. 2008).

    Parameters
    ----------
    sessions : iterable of int
        Which of the two sessions to keep.

    Returns
    -------
    DataTree
        Nodes BE, KO, SN, TI, each with `rdm(roi=[hIT], session, pair)`: 1 - Pearson correlation
        of the response patterns.

    Raises
    ------
    FetchError, DataError, ProtocolError
        A file that cannot be had; one that is not what it should be; a session there is not.
    """
    path = fetch(HUMAN_IT)
    cells = _mat(path, "RDMs")
    stacks: dict[str, dict[int, np.ndarray]] = {}
    for cell in cells.ravel():
        name = _text(cell, "name", path)
        parts = re.fullmatch(r"hIT \| (\w+) \| Session: (\d+)", name)
        if parts is None:
            raise DataError(
                f"{path}: RDM named '{name}', expected 'hIT | <subject> | Session: <n>'"
            )
        stacks.setdefault(parts[1], {})[int(parts[2])] = _field(cell, "RDM", path)
    wanted = list(dict.fromkeys(int(s) for s in sessions))
    for subject, held in stacks.items():
        absent = [s for s in wanted if s not in held]
        if absent or not wanted:
            raise ProtocolError(
                f"kriegeskorte92: sessions {wanted} of subject {subject}: there are {sorted(held)}"
            )
    tree = rdms(
        {subject: {"hIT": np.stack([held[s] for s in wanted])} for subject, held in stacks.items()},
        stimulus_id=STIMULUS_ID,
        attrs={
            "title": "92 object pictures, human IT (Kriegeskorte et al. 2008)",
            "description": (
                "Dissimilarities (1 - Pearson correlation) of fMRI response patterns in human "
                f"inferior temporal cortex to 92 pictures of objects: {len(stacks)} subjects, "
                f"{len(wanted)} session{'s' * (len(wanted) > 1)} each."
            ),
            "citation": KRIEGESKORTE_2008,
            "licence": f"{registry()[HUMAN_IT].licence} (as distributed with rsatoolbox)",
            **_common([HUMAN_IT], picture_file=fetch(PICTURES)),
        },
    )
    for subject in stacks:
        tree[subject] = xr.DataTree(tree[subject].to_dataset().assign_coords(session=wanted))
    return tree


def algonauts2019() -> xr.DataTree:
    """Human EVC and IT of 15 subjects on the 92 pictures (the Algonauts Project 2019).

    Returns
    -------
    DataTree
        Nodes sub-01 … sub-15, each with `rdm(roi=[EVC, IT], pair)`: 1 - Pearson correlation.
        The categories are there when the file of kriegeskorte92 that holds them is at hand.

    Raises
    ------
    FetchError, DataError
        The file cannot be had, or is not what it should be.
    """
    path = fetch(ALGONAUTS)
    held = _hdf5(path, ["EVC_RDMs", "IT_RDMs"])
    stacks = {roi: held[f"{roi}_RDMs"] for roi in ("EVC", "IT")}
    shapes = {roi: array.shape for roi, array in stacks.items()}
    if any(len(s) != 3 or s[:2] != (N_STIMULI, N_STIMULI) for s in shapes.values()) or (
        len(set(shapes.values())) > 1
    ):
        raise DataError(f"{path}: shapes {shapes}, expected (92, 92, subject), the same for both")
    n_subjects = stacks["EVC"].shape[2]
    return rdms(
        {
            f"sub-{i + 1:02d}": {roi: array[:, :, i] for roi, array in stacks.items()}
            for i in range(n_subjects)
        },
        stimulus_id=STIMULUS_ID,
        attrs={
            "title": "92 object pictures, human EVC and IT (Algonauts 2019)",
            "description": (
                "Dissimilarities (1 - Pearson correlation) of fMRI response patterns in human "
                "early visual cortex (EVC) and inferior temporal cortex (IT) to 92 pictures of "
                f"objects: {n_subjects} subjects."
            ),
            "citation": ALGONAUTS_2019,
            "licence": registry()[ALGONAUTS].licence,
            **_common([ALGONAUTS], picture_file=at_hand(PICTURES)),
        },
    )


def alexnet_a2020(variant: str = "complete") -> xr.DataTree:
    """A full-precision AlexNet on the 92 pictures, known by the RDMs of its layers.

    Parameters
    ----------
    variant : str
        `complete`: all units of each of nine layers, conv1 … conv5, fc6 … fc8, prob. The others
        are simulated measurements of some layers: `smooth1sepFeat`, `rpwavgFeat`, …

    Returns
    -------
    DataTree
        Nodes `/alexnet_a2020/<layer>` with `rdm(pair)`: squared Euclidean distances (their
        doubly centred matrices have no negative eigenvalue, those of their squares do).

    Raises
    ------
    FetchError, DataError, ProtocolError
        The file cannot be had, or is not what it should be; a variant there is not.
    """
    path = fetch(ALEXNET)
    layers: dict[str, np.ndarray] = {}
    variants: dict[str, None] = {}
    for cell in _mat(path, "modelRDMs").ravel():
        found = _text(cell, "measModelName", path)
        variants[found] = None
        if found == variant:
            layers[_text(cell, "reprName", path)] = _field(cell, "RDM", path).ravel()
    if not layers:
        raise ProtocolError(plugins.unknown("variant of alexnet_a2020", variant, variants))
    kinds = {"con": "conv", "fc6": "fc", "fc7": "fc", "fc8": "logits", "pro": "softmax"}
    note = (
        "AlexNet at full precision, with fully connected layers, known by the RDMs of its layers "
        f"only ({variant}; squared Euclidean distances, as distributed with rsatoolbox)"
    )
    return rdms(
        {"alexnet_a2020": layers},
        stimulus_id=STIMULUS_ID,
        of="network",
        attrs={
            "title": "AlexNet, layer RDMs on the 92 pictures",
            "licence": f"{registry()[ALEXNET].licence} (as distributed with rsatoolbox)",
            **_common([ALEXNET], picture_file=None),
        },
        layer_attrs={
            "alexnet_a2020": {
                layer: {"note": note, "distance": "squared euclidean"}
                | ({"kind": kinds[layer[:3]]} if layer[:3] in kinds else {})
                for layer in layers
            }
        },
    )


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
    pictures = _mat(path, "stimuli_92objs").ravel()
    if pictures.size != N_STIMULI:
        raise DataError(f"{path}: {pictures.size} pictures, expected {N_STIMULI}")
    found = {}
    for stimulus, picture in zip(STIMULUS_ID, pictures, strict=True):
        human, face, animal, natural = (
            bool(_field(picture, flag, path).item())
            for flag in ("human", "face", "animal", "natural")
        )
        if animal:  # in the file's sense humans are animals too
            category = f"{'human' if human else 'animal'} {'face' if face else 'body part'}"
        else:
            category = f"{'natural' if natural else 'artificial'} object"
        found[stimulus] = category
    return found


def _common(names: list[str], picture_file: Path | None) -> dict[str, Any]:
    """Attributes that all trees of this module carry."""
    attrs: dict[str, Any] = {"simulated": False}
    inputs = {name: registry()[name].sha256 for name in names}  # fetch has verified them
    if picture_file is not None:
        attrs["categories"] = categories(picture_file)
        inputs[PICTURES] = registry()[PICTURES].sha256
    return {**attrs, "inputs": inputs}


def _mat(path: Path, variable: str) -> np.ndarray:
    try:
        held = scipy.io.loadmat(path)
    except Exception as err:  # scipy raises many kinds for a broken file
        raise DataError(_broken(path, "MATLAB", err)) from err
    if variable not in held:
        names = [name for name in held if not name.startswith("__")]
        raise DataError(f"{path}: {plugins.unknown('variable', variable, names)}")
    return held[variable]


def _hdf5(path: Path, variables: list[str]) -> dict[str, np.ndarray]:
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


def _field(cell: np.void, name: str, path: Path) -> np.ndarray:
    if name not in (cell.dtype.names or ()):
        raise DataError(f"{path}: {plugins.unknown('field', name, cell.dtype.names or ())}")
    return cell[name]


def _text(cell: np.void, name: str, path: Path) -> str:
    value = _field(cell, name, path)
    if value.size != 1:
        raise DataError(f"{path}: field '{name}' should hold one name, got {value!r}")
    return str(value.item())
