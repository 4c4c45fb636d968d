"""A phantom on disk in the files of the GOD study, so that its whole path can be walked (FACTS 1).

What is written is a folder as somebody has it who works with the real data: `Subject1.h5` … and
`ImageFeatures.h5` in BData format, and `resnet50.nc` as `rsacompare extract` leaves it; and
`phantom.json`, which says that all of it is simulated and what is true of it. Pictures have synsets
from n90000001 on, which do not exist, so that no file can be taken for a real one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from rsacompare.datasets import phantom
from rsacompare.datasets.load import cache_folder
from rsacompare.errors import DataError
from rsacompare.schema import arrays, store

TOLD = "phantom.json"  # a folder with it is simulated
RESNET = "resnet50.nc"
FIRST_SYNSET = 90_000_001
PER_CATEGORY = 8  # training pictures of a synset, as in the study
ROWS_PER_RUN = 50
FORMAT = 1  # of the files; a new one is written beside the old


def write(folder: str | Path, **options: Any) -> Path:
    """Write simulated subjects and networks as files of the GOD study, all or nothing.

    Parameters
    ----------
    folder : path
        Must not exist yet, or be empty.
    **options
        Of :func:`rsacompare.datasets.phantom.load_brain`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ProtocolError, DataError
        An option that the phantom refuses; a folder that holds something or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> few = {"n_subjects": 1, "n_train": 16, "n_test": 4, "n_repetitions": 2, "n_units": 48}
    >>> made = write(Path(tempfile.mkdtemp()) / "god", **few)
    >>> sorted(file.name for file in made.iterdir())
    ['ImageFeatures.h5', 'Subject1.h5', 'phantom.json', 'resnet50.nc']
    """
    folder = Path(folder)
    brain, networks = phantom.load_brain(**options), phantom.load_networks(**options)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as err:
        raise DataError(f"{folder} cannot be written: {err}") from err
    try:
        _fill(fresh, brain, networks)
        fresh.chmod(0o755)
        fresh.rename(folder)  # refused by the system where something is in it
    except OSError as err:
        raise DataError(f"{folder} cannot be written: {err}") from err
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def cached(**options: Any) -> Path:
    """The folder of a phantom among the downloads, written where it is not there yet.

    Parameters
    ----------
    **options
        As in `write`; each choice has a folder of its own.

    Raises
    ------
    ProtocolError, DataError
        As in `write`.
    """
    truth = phantom.load_networks(**options).attrs["truth"]  # options, seed and what follows
    folder = cache_folder() / "god_phantom" / store.digest(FORMAT, truth)[:16]
    if not (folder / TOLD).is_file():
        try:
            write(folder, **options)
        except DataError:
            if not (folder / TOLD).is_file():  # else somebody wrote the same in the meantime
                raise
    return folder


def told(folder: Path) -> dict[str, Any]:
    """Attributes of a phantom (`title`, `truth`, …); nothing where the folder holds none."""
    file = folder / TOLD
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def write_bdata(
    path: str | Path,
    columns: Mapping[str, np.ndarray],
    marks: Mapping[str, np.ndarray] | None = None,
) -> None:
    """A BData file (HDF5) as bdpy 0.26 lays it out (FACTS 1.1, 1.2).

    Parameters
    ----------
    path : path
    columns : {key: (row,) or (row, column)}
        Side by side in the matrix, each marked by its key.
    marks : {key: (column,)}, optional
        More keys, with a value per column of the first entry of `columns`.
    """
    parts = {key: np.asarray(values, dtype=float) for key, values in columns.items()}
    parts = {key: v[:, None] if v.ndim == 1 else v for key, v in parts.items()}
    matrix = np.hstack(list(parts.values()))
    table: dict[str, np.ndarray] = {}
    at = 0
    for key, values in parts.items():
        table[key] = np.full(matrix.shape[1], np.nan)
        table[key][at : at + values.shape[1]] = 1
        at += values.shape[1]
    width = next(iter(parts.values())).shape[1]
    for key, values in (marks or {}).items():
        table[key] = np.full(matrix.shape[1], np.nan)
        table[key][:width] = values
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file["dataset"] = matrix
        file.create_dataset("metadata/key", data=list(table), dtype=text)
        about = [f"1 = {key}" for key in table]
        file.create_dataset("metadata/description", data=about, dtype=text)
        file["metadata/value"] = np.stack(list(table.values()))


def _fill(folder: Path, brain: xr.DataTree, networks: xr.DataTree) -> None:
    """All files of a phantom."""
    alexnet, resnet = networks.children.values()
    shown = next(iter(alexnet.children.values())).to_dataset()["stimulus_id"].values
    label = _labels(shown)
    for number, node in enumerate(brain.children.values(), 1):
        data = node.to_dataset()
        marks = {f"ROI_{roi}": data["roi_mask"].sel(roi=roi).values for roi in data["roi"].values}
        marks |= {f"voxel_{axis}": data[f"voxel_{axis}"].values for axis in "xyz"}
        ids = data["stimulus_id"].values
        columns = {
            "VoxelData": data["response"].values,
            "DataType": np.where(data["split"].values == "train", 1, 2),
            "Run": 1 + np.arange(len(ids)) // ROWS_PER_RUN,
            "stimulus_id": np.array([label[s] for s in ids.tolist()]),
        }
        write_bdata(folder / f"Subject{number}.h5", columns, marks)
    floats = np.array([label[s] for s in shown.tolist()])
    features = {k: leaf.to_dataset()["activation"].values for k, leaf in alexnet.children.items()}
    kinds = np.where(np.char.startswith(shown.astype(str), "train"), 1, 2)
    about = {"FeatureType": kinds, "CatID": np.floor(floats), "ImageID": floats}
    write_bdata(folder / "ImageFeatures.h5", features | about)
    layers = {k: leaf.to_dataset()["activation"].values for k, leaf in resnet.children.items()}
    names = [f"n{int(v):08d}_{round((v - int(v)) * 1e6)}" for v in floats.tolist()]
    note = {"kind": "simulated", "note": "simulated: not the real network"}
    extracted = arrays.activations(
        {resnet.name or "": layers},
        stimulus_id=names,
        layer_attrs={resnet.name or "": dict.fromkeys(layers, note)},
        attrs={"title": brain.attrs["title"], "simulated": 1},
    )
    store.write_netcdf(extracted, folder / RESNET)
    kept = ("title", "description", "citation", "licence", "simulated", "truth")
    text = {name: brain.attrs[name] for name in kept}
    text["description"] += " Written in the files of the GOD study and read from them."
    store.write_text(folder / TOLD, json.dumps(text | {"networks": [alexnet.name, resnet.name]}))


def _labels(shown: np.ndarray) -> dict[str, float]:
    """Label of each picture, `synset.image` as the study writes them.

    A test picture is the only one of its category; training categories have several.
    """
    train = [s for s in shown.tolist() if s.startswith("train")]
    test = [s for s in shown.tolist() if not s.startswith("train")]
    first = FIRST_SYNSET + -(-len(train) // PER_CATEGORY)
    pairs = {s: (FIRST_SYNSET + i // PER_CATEGORY, 1 + i) for i, s in enumerate(train)}
    pairs |= {s: (first + i, 1) for i, s in enumerate(test)}
    return {s: float(f"{synset}.{image:06d}") for s, (synset, image) in pairs.items()}
