"""Brains, judgements and models known by their dissimilarities alone, on the same 92 pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets.load import at_hand, fetch
from rsacompare.datasets.pictures92 import (
    N_STIMULI,
    PICTURES,
    STIMULUS_ID,
    common_attrs,
    field,
    read_hdf5,
    read_mat,
    text,
)
from rsacompare.datasets.registry import registry
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema.arrays import rdms

HUMAN_IT = "kriegeskorte92/92_brainRDMs.mat"
JUDGEMENTS = "kriegeskorte92/92_behavRDMs.mat"
MODELS = "kriegeskorte92/92_modelRDMs.mat"
ALEXNET = "kriegeskorte92/modelRDMs_A2020.mat"
ALGONAUTS = "algonauts2019/92_target_fmri.mat"
KRIEGESKORTE_2008 = (
    "Kriegeskorte N, Mur M, Ruff DA, Kiani R, Bodurka J, Esteky H, Tanaka K, Bandettini PA (2008). "
    "Matching categorical object representations in inferior temporal cortex of man and monkey. "
    "Neuron 60:1126-1141. doi:10.1016/j.neuron.2008.10.043"
)
MUR_2013 = (
    "Mur M, Meys M, Bodurka J, Goebel R, Bandettini PA, Kriegeskorte N (2013). Human "
    "object-similarity judgments reflect and transcend the primate-IT object representation. "
    "Frontiers in Psychology 4:128. doi:10.3389/fpsyg.2013.00128"
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
    cells = read_mat(path, "RDMs")
    stacks: dict[str, dict[int, np.ndarray]] = {}
    for cell in cells.ravel():
        name = text(cell, "name", path)
        parts = re.fullmatch(r"hIT \| (\w+) \| Session: (\d+)", name)
        if parts is None:
            raise DataError(
                f"{path}: RDM named '{name}', expected 'hIT | <subject> | Session: <n>'"
            )
        stacks.setdefault(parts[1], {})[int(parts[2])] = field(cell, "RDM", path)
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
            **common_attrs([HUMAN_IT], picture_file=fetch(PICTURES)),
        },
    )
    for subject in stacks:
        tree[subject] = xr.DataTree(tree[subject].to_dataset().assign_coords(session=wanted))
    return tree


def kriegeskorte92_behaviour() -> xr.DataTree:
    """Similarity judgements of the 92 pictures by 16 people (Mur et al. 2013).

    A data set of its own, since these people are not those of `kriegeskorte92`: a study lists
    both, and statistics of `behaviour` then use these 16.

    Returns
    -------
    DataTree
        Nodes sub-01 … sub-16, each with `rdm(roi=[behaviour], pair)`: judged dissimilarities.

    Raises
    ------
    FetchError, DataError
        A file that cannot be had; one that is not what it should be.
    """
    path = fetch(JUDGEMENTS)
    subjects: dict[str, dict[str, np.ndarray]] = {}
    for cell in read_mat(path, "rdms_behav_92").ravel():
        name = text(cell, "name", path)
        parts = re.fullmatch(r"simJudge \| subject(\d+)", name)
        if parts is None:
            raise DataError(f"{path}: RDM named '{name}', expected 'simJudge | subject<n>'")
        subjects[f"sub-{int(parts[1]):02d}"] = {"behaviour": field(cell, "RDM", path)}
    return rdms(
        subjects,
        stimulus_id=STIMULUS_ID,
        attrs={
            "title": "92 object pictures, similarity judgements (Mur et al. 2013)",
            "description": (
                "Dissimilarities of 92 pictures of objects as judged by people who arranged them "
                f"by similarity: {len(subjects)} subjects, other people than those scanned."
            ),
            "citation": MUR_2013,
            "licence": f"{registry()[JUDGEMENTS].licence} (as distributed with rsatoolbox)",
            **common_attrs([JUDGEMENTS], picture_file=fetch(PICTURES)),
        },
    )


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
    held = read_hdf5(path, ["EVC_RDMs", "IT_RDMs"])
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
            **common_attrs([ALGONAUTS], picture_file=at_hand(PICTURES)),
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
    for cell in read_mat(path, "modelRDMs").ravel():
        found = text(cell, "measModelName", path)
        variants[found] = None
        if found == variant:
            layers[text(cell, "reprName", path)] = field(cell, "RDM", path).ravel()
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
            **common_attrs([ALEXNET], picture_file=None),
        },
        layer_attrs={
            "alexnet_a2020": {
                layer: {"note": note, "distance": "squared euclidean"}
                | ({"kind": kinds[layer[:3]]} if layer[:3] in kinds else {})
                for layer in layers
            }
        },
    )


MODEL_NOTES = {
    "animacy": "1 where one of two pictures shows something animate and the other does not",
    "FaceBodyManmadeNatobj": "1 between faces, bodies, man-made and natural objects, 0 within",
    "monkeyIT": "cells in inferior temporal cortex of monkeys, 1 - Pearson correlation",
    "EVA": "named EVA in the file, without an explanation (early visual areas, by its name)",
    "HMAX": "the HMAX model",
    "V1": "a model of V1, not the ROI",
    "Silhouette": "the silhouettes of the objects",
    "RADON": "the Radon transform of the pictures",
}


def kriegeskorte92_models(models: Iterable[str] | None = None) -> xr.DataTree:
    """Model RDMs of the 92 pictures: animacy, monkey IT, HMAX, V1 and others, a network each.

    A model is one RDM: a network with the single layer `model`, so that models can be contrasted
    with each other and with networks (`mean` and `best`). Its `layer_index` 0 and depth 1 say
    nothing of a hierarchy; the attribute `hierarchy` is 0 to say so.

    Parameters
    ----------
    models : iterable of str, optional
        Only these, in this order: animacy, FaceBodyManmadeNatobj, monkeyIT, EVA, HMAX, V1,
        Silhouette, RADON.

    Returns
    -------
    DataTree
        Nodes `/<model>/model` with `rdm(pair)`.

    Raises
    ------
    FetchError, DataError, ProtocolError
        The file cannot be had, or is not what it should be; a model there is not.
    """
    held = _model_rdms(models)
    return rdms(
        {name: {"model": rdm} for name, rdm in held.items()},
        stimulus_id=STIMULUS_ID,
        of="network",
        attrs=_model_attrs(),
        layer_attrs={
            name: {
                "model": {
                    "note": (
                        f"A model RDM, no network: {MODEL_NOTES.get(name, 'as in the file')}. "
                        "One RDM without layers; its depth has no meaning."
                    ),
                    "kind": "model",
                    "hierarchy": False,
                    "citation": KRIEGESKORTE_2008,
                }
            }
            for name in held
        },
    )


def kriegeskorte92_model_targets(models: Iterable[str] | None = None) -> xr.DataTree:
    """Model RDMs of the 92 pictures as what networks are compared with, beside brains.

    Parameters
    ----------
    models : iterable of str, optional
        As in `kriegeskorte92_models`.

    Returns
    -------
    DataTree
        One node `models`, with `rdm(roi, pair)`; a ROI is called `V1 model`, since it is none.
        A single "subject": there is no noise ceiling, and nothing is said about people.

    Raises
    ------
    FetchError, DataError, ProtocolError
        As in `kriegeskorte92_models`.
    """
    held = _model_rdms(models)
    kinds = "; ".join(f"{name}: {MODEL_NOTES.get(name, 'as in the file')}" for name in held)
    return rdms(
        {"models": {f"{name} model": rdm for name, rdm in held.items()}},
        stimulus_id=STIMULUS_ID,
        attrs=_model_attrs() | {"description": f"Model RDMs, no brain responses. {kinds}."},
    )


def _model_rdms(models: Iterable[str] | None) -> dict[str, np.ndarray]:
    """The models asked for, in that order, else all."""
    path = fetch(MODELS)
    held = {
        text(cell, "name", path): field(cell, "RDM", path)
        for cell in read_mat(path, "Models").ravel()
    }
    wanted = list(held) if models is None else list(dict.fromkeys(models))
    for name in wanted:
        if name not in held:
            raise ProtocolError(plugins.unknown("model of kriegeskorte92_models", name, held))
    if not wanted:
        raise ProtocolError(f"kriegeskorte92_models: no models; there are {', '.join(held)}")
    return {name: held[name] for name in wanted}


def _model_attrs() -> dict[str, Any]:
    return {
        "title": "Model RDMs of the 92 pictures (Kriegeskorte et al. 2008)",
        "citation": KRIEGESKORTE_2008,
        "licence": f"{registry()[MODELS].licence} (as distributed with rsatoolbox)",
        **common_attrs([MODELS], picture_file=None),
    }
