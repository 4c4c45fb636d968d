"""Image features of the GOD study: `ImageFeatures.h5`, AlexNet by MatConvNet and three others.

The AlexNet layers are about 1,000 units each, sampled at random by the authors (FACTS 1.6). Which
operation they are of is written nowhere, so it is told from the values: a negative one means
before the ReLU; the last layer is logits if it has negative values and softmax if rows sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.datasets import god_files, god_labels
from rsacompare.datasets.bdata import BData, open_bdata
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema.arrays import activations
from rsacompare.schema.labels import listed
from rsacompare.schema.store import file_sha256

NETWORKS = {
    "god_alexnet": tuple(f"cnn{i}" for i in range(1, 9)),
    "hmax": ("hmax1", "hmax2", "hmax3"),
    "gist": ("gist",),
    "sift": ("sift",),
}
TYPES = {"train": 1, "test": 2, "test_category": 3, "other_category": 4}
EXPECTED = {"train": 1200, "test": 50, "test_category": 50, "other_category": 15_322}
N_ROWS = 16_622
SUM_TOLERANCE = 1e-3  # of a softmax row in single precision


@dataclass(frozen=True)
class _Rows:
    """The rows wanted: which of the file's, their names and types."""

    mask: np.ndarray
    stimulus_id: np.ndarray
    feature_type: np.ndarray


def load_networks(
    path: str | None = None,
    layers: list[str] | None = None,
    feature_types: list[str] | None = None,
    check_rows: bool = True,
    dtype: str = "float64",
) -> xr.DataTree:
    """Features of the GOD pictures as distributed with them (ImageFeatures.h5): AlexNet and others.

    Parameters
    ----------
    path : str, optional
        `ImageFeatures.h5` (or the old `.mat`), or the folder it lies in; when absent `god` in the
        folder that `RSACOMPARE_DATA` names, or what `rsacompare fetch god` downloaded.
    layers : list of str, optional
        Of `cnn1` … `cnn8`, `hmax1` … `hmax3`, `gist`, `sift`; all that the file has, when absent.
        Only their columns are read.
    feature_types : list of str, optional
        Of `train` and `test` (pictures; the default), `test_category` and `other_category`
        (category averages, the candidates of identification, known by their synset like the
        imagery responses).
    check_rows : bool
        Refuse a file with other row counts than the study's: 1,200 and 50 pictures, and 16,622
        rows in all where category averages are asked for.
    dtype : {"float64", "float32"}
        Of the activations.

    Returns
    -------
    DataTree
        `/god_alexnet/cnn1` …, `/hmax/hmax1` …, `/gist/gist`, `/sift/sift`, each with
        `activation(stimulus_id, neuroid)` and the coordinate `feature_type` (1–4, as in the
        file). Attributes of a layer: `kind` (`conv`, `fc`, `relu`, `logits`, `softmax`),
        `activation_stage` (`pre-ReLU`, `post-ReLU`, `softmax`) and `detected`, the values that
        told so.

    Raises
    ------
    DataError, LabelError, ProtocolError
        A file that is missing, damaged or of other rows; labels that are no pictures, or twice
        there; an unknown layer, type or option.
    """
    kinds = ["train", "test"] if feature_types is None else list(feature_types)
    for kind in kinds:
        if kind not in TYPES:
            raise ProtocolError(f"god_features: {plugins.unknown('feature type', kind, TYPES)}")
    if not kinds or layers == []:
        raise ProtocolError("god_features: neither layers nor feature_types may be empty")
    if dtype not in ("float64", "float32"):
        raise ProtocolError(plugins.unknown("dtype", dtype, ["float64", "float32"]))
    file = _file(god_files.folder(path, "god_features", "ImageFeatures*"))
    held = open_bdata(file)
    chosen = _layers(held, layers)
    rows, notes = _rows(held, kinds, check_rows)
    values: dict[str, dict[str, np.ndarray]] = {}
    layer_attrs: dict[str, dict[str, dict[str, Any]]] = {}
    for network, names in chosen.items():
        values[network] = {
            layer: held.read(held.keys[layer] == 1, rows.mask, np.dtype(dtype)) for layer in names
        }
        layer_attrs[network] = {
            layer: _layer_attrs(network, layer, array) | {"note": _note(network, notes)}
            for layer, array in values[network].items()
        }
    tree = activations(
        values,
        stimulus_id=rows.stimulus_id,
        layer_attrs=layer_attrs,
        attrs={
            "title": "Image features of the GOD study (Horikawa & Kamitani 2017)",
            "citation": god_labels.CITATION,
            "licence": "as stated at figshare, doi:10.6084/m9.figshare.7387130",
            "simulated": 0,
            "notes": notes,
            "inputs": {file.name: file_sha256(file)},
        },
    )
    for leaf in tree.leaves:
        coord = {"feature_type": ("stimulus_id", rows.feature_type)}
        leaf.dataset = leaf.to_dataset().assign_coords(coord)
    return tree


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for suffix in (".h5", ".mat"):
        if (path / f"ImageFeatures{suffix}").is_file():
            return path / f"ImageFeatures{suffix}"
    raise DataError(
        f"god_features: no ImageFeatures.h5 in {path}; it is at figshare, "
        "doi:10.6084/m9.figshare.7387130"
    )


def _layers(held: BData, wanted: list[str] | None) -> dict[str, list[str]]:
    known = [layer for layers in NETWORKS.values() for layer in layers]
    there = [layer for layer in known if layer in held.keys]
    for layer in wanted or ():
        if layer not in there:
            raise ProtocolError(f"{held.path}: {plugins.unknown('layer', layer, there)}")
    if not there:
        raise DataError(f"{held.path}: none of the layers {', '.join(known)}")
    for layer in there:
        if not (held.keys[layer] == 1).any():
            raise DataError(f"{held.path}: layer '{layer}' has no units")
    chosen = {
        network: [layer for layer in layers if layer in (there if wanted is None else wanted)]
        for network, layers in NETWORKS.items()
    }
    return {network: layers for network, layers in chosen.items() if layers}


def _rows(held: BData, kinds: list[str], check: bool) -> tuple[_Rows, list[str]]:
    """The rows of the wanted types with their names, counts and duplicates checked."""
    for key in ("FeatureType", "ImageID", "CatID"):
        if key not in held.keys:
            raise DataError(f"{held.path}: {plugins.unknown('key', key, held.keys)}")
    types = held.column("FeatureType")
    odd = np.unique(types[~np.isin(types, list(TYPES.values()))])
    if odd.size:
        raise DataError(f"{held.path}: FeatureType is {odd[:5].tolist()}, expected 1 to 4")
    averages = any(kind.endswith("category") for kind in kinds)
    counts = {kind: int(np.sum(types == TYPES[kind])) for kind in TYPES}
    wrong = [
        f"{counts[kind]} of type {TYPES[kind]} ({kind}), expected {EXPECTED[kind]}"
        for kind in ("train", "test")
        if kind in kinds and counts[kind] != EXPECTED[kind]
    ]
    notes = []
    if held.n_rows != N_ROWS:
        text = f"{held.n_rows} rows, the study's file has {N_ROWS}"
        if averages:
            wrong.append(text)
        notes.append(f"{held.path.name} has {text}; its category averages may be incomplete")
    if wrong and check:
        raise DataError(
            f"{held.path}: {'; '.join(wrong)}: an incomplete or another file; fetch it again, or "
            "say check_rows=False"
        )
    absent = [kind for kind in kinds if not counts[kind]]
    if absent:
        raise DataError(f"{held.path}: no rows of feature type {', '.join(absent)}")
    mask = np.isin(types, [TYPES[kind] for kind in kinds])
    image, category = held.column("ImageID", mask), held.column("CatID", mask)
    pictured = types[mask] <= TYPES["test"]
    ids = np.full(len(image), "", dtype="<U24")
    ids[pictured] = god_labels.names_of(image[pictured], f"{held.path}, 'ImageID'")
    ids[~pictured] = god_labels.names_of(
        category[~pictured], f"{held.path}, 'CatID'", category=True
    )
    unique, times = np.unique(ids, return_counts=True)
    if (times > 1).any():
        raise LabelError(
            f"{held.path}: {int((times > 1).sum())} labels stand more than once: "
            f"{listed(unique[times > 1].tolist())}"
        )
    return _Rows(mask, ids, types[mask].astype(np.int8)), notes


def _layer_attrs(network: str, layer: str, values: np.ndarray) -> dict[str, Any]:
    """Place in the whole network, and what the values say of the operation."""
    every = NETWORKS[network]
    index = every.index(layer)
    attrs: dict[str, Any] = {
        "layer_index": index,
        "depth": index / (len(every) - 1) if len(every) > 1 else 1.0,
    }
    if network != "god_alexnet":
        return {**attrs, "kind": network}
    least = float(values.min())
    if layer == every[-1]:
        sums = values.sum(axis=1, dtype=np.float64)
        if least < 0:
            kind, stage = "logits", "pre-softmax"
        elif np.abs(sums - 1).max() <= SUM_TOLERANCE:
            kind, stage = "softmax", "softmax"
        else:
            kind, stage = "relu", "post-ReLU"
        detected = f"smallest value {least:.4g}, row sums {sums.min():.4g} to {sums.max():.4g}"
    else:
        plain = "conv" if index < 5 else "fc"
        kind, stage = (plain, "pre-ReLU") if least < 0 else ("relu", "post-ReLU")
        detected = f"smallest value {least:.4g}"
    return {**attrs, "kind": kind, "activation_stage": stage, "detected": detected}


def _note(network: str, notes: list[str]) -> str:
    words = {
        "god_alexnet": "AlexNet by MatConvNet, about 1,000 units a layer sampled by the authors",
        "hmax": "HMAX, a hierarchical model of simple and complex cells",
        "gist": "GIST descriptor of a scene's spatial layout",
        "sift": "SIFT descriptors as a bag of visual words",
    }
    return "; ".join([f"{words[network]} (features distributed with the GOD study)", *notes])
