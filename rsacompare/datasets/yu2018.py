"""The data of Yu et al. (2018): GOD where its folder is named, else a phantom in the same files.

Either way the files are read by the loaders of the real ones: subjects by `god`, AlexNet by
`god_features`, ResNet-50 as activations that were extracted before. So one study file serves both,
and only `path` differs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xarray as xr

from rsacompare.datasets import god, god_features, god_phantom
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema.reading import read_tree
from rsacompare.schema.store import file_sha256

NETWORKS = ("alexnet", "resnet50")
CITATION = (
    "Yu, Lu, Hasson, Norman & Pillow (2018), Conference on Cognitive Computational Neuroscience"
)


def load_brain(
    path: str | None = None,
    rois: list[str] | None = None,
    subjects: list[str] | None = None,
    test_images: str = "all",
    random_state: int = 0,
    **simulated: Any,
) -> xr.DataTree:
    """Brains of Yu et al. 2018: GOD where `path` is given, else a phantom in the same files.

    Parameters
    ----------
    path : str, optional
        Folder with the real files (`rsacompare.datasets.god`). Without it simulated subjects are
        written to the cache once, as such files, and read from there.
    rois, subjects, test_images
        As in `god`.
    random_state : int
        Of the phantom.
    **simulated
        Options of the phantom (`preset`, `size`, `n_subjects`, `n_train`, …), by default preset
        `flip` at size `medium`; refused with a `path`.

    Returns
    -------
    DataTree
        As `god` gives it, training and test images; `attrs["simulated"]` is 1 for a phantom, and
        `attrs["truth"]` is then what is true of it.

    Raises
    ------
    ProtocolError, DataError, LabelError
        As in `god`; options of the phantom beside a path.
    """
    folder, about = _folder(path, random_state, simulated)
    tree = god.load_brain(
        str(folder),
        subjects=subjects,
        rois=rois,
        splits=["train", "test"],
        test_images=test_images,
        dtype="float32" if about else "float64",  # phantoms are drawn in single precision
    )
    tree.attrs |= {k: v for k, v in about.items() if k != "networks"}
    return tree


def load_networks(
    path: str | None = None,
    resnet50: str | None = None,
    random_state: int = 0,
    **simulated: Any,
) -> xr.DataTree:
    """AlexNet and ResNet-50 of Yu et al. 2018: real ones where `path` is given, else simulated.

    Parameters
    ----------
    path : str, optional
        Folder with `ImageFeatures.h5` (AlexNet, cnn1 to cnn8) and `resnet50.nc`, which
        ``rsacompare extract resnet50 IMAGES --layers yu2018 --units yu2018`` writes.
    resnet50 : str, optional
        The latter where it is another file, from the working directory.
    random_state, **simulated
        As in `load_brain`, with the same meaning.

    Returns
    -------
    DataTree
        `alexnet` and `resnet50`, or `sim-alexnet` and `sim-resnet50` of a phantom.

    Raises
    ------
    ProtocolError, DataError, LabelError
        As in `god_features`; no ResNet-50 there, or a file that holds another number of networks.
    """
    folder, about = _folder(path, random_state, simulated)
    real = not about
    features = god_features.load_networks(
        str(folder), layers=list(god_features.NETWORKS["god_alexnet"]), check_rows=real
    )
    file = Path(resnet50) if resnet50 else folder / god_phantom.RESNET
    if not file.is_file():
        raise DataError(
            f"yu2018: there is no {file}; make it by `rsacompare extract resnet50 IMAGES --layers "
            f"yu2018 --units yu2018 --out {file}`, IMAGES being the folder with the 1,250 pictures"
        )
    extracted = read_tree(file, "activations")
    if len(extracted.children) != 1:
        raise DataError(f"yu2018: {file} holds {len(extracted.children)} networks, expected one")
    names = about.pop("networks", NETWORKS)
    nodes = (next(iter(features.children.values())), next(iter(extracted.children.values())))
    tree = xr.DataTree(
        children={n: node.copy(deep=True) for n, node in zip(names, nodes, strict=True)}
    )
    if not real:
        for leaf in tree[names[0]].children.values():
            leaf.dataset = leaf.to_dataset().assign_attrs(
                kind="simulated", note="simulated: not the real network"
            )
    tree.attrs = dict(extracted.attrs) | dict(features.attrs)
    tree.attrs.update(
        about
        or {
            "title": "AlexNet and ResNet-50 on the GOD pictures (Yu et al. 2018)",
            "citation": f"{features.attrs['citation']}; {CITATION}",
        }
    )
    inputs = {file.name: file_sha256(file)}
    tree.attrs["inputs"] = json.dumps(json.loads(features.attrs["inputs"]) | inputs)
    return tree


def _folder(
    path: str | None, random_state: int, simulated: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Where the files are, and what is told of them if they are simulated."""
    if path is None:
        folder = god_phantom.cached(
            random_state=random_state, **{"preset": "flip", "size": "medium"} | simulated
        )
        return folder, god_phantom.told(folder)
    if simulated:
        raise ProtocolError(
            f"yu2018: {', '.join(simulated)} says how to simulate, but path names the files of "
            f"{path}; leave out one or the other"
        )
    return Path(path), god_phantom.told(Path(path))
