"""Which weights a network of ours gets: random, a user's file, or the published ones."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsacompare.datasets.load import fetch
from rsacompare.datasets.registry import registry
from rsacompare.errors import FetchError, ProtocolError
from rsacompare.networks import weights as weights_files
from rsacompare.networks.onnx_weights import load_weights_onnx
from rsacompare.schema.store import file_sha256

SUFFIXES = (".onnx", ".npz")


def load_weights(
    model: Any,
    weights: str | Path | None,
    *,
    random_state: int = 0,
    published: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Give a Keras model its weights and say what they are.

    Parameters
    ----------
    model : keras.Model
        Changed in place.
    weights : "imagenet", path or None
        The published weights, fetched by way of the registry; an `.onnx` file of the same
        architecture; an `.npz` file of our layout (:mod:`rsacompare.networks.weights`); random.
    random_state : int
        Of random weights.
    published : str, optional
        The file of the registry that "imagenet" means.
    about : mapping, optional
        Attributes that hold for the published weights alone, such as `imagenet_top1`; given
        wherever the file is that one by its checksum.

    Returns
    -------
    dict
        `weights` in words, `weights_sha256` over the arrays, for files also `weights_file_sha256`;
        what `about` or the npz file says of them.

    Raises
    ------
    ProtocolError
        Not one of these.
    DataError
        A damaged file, or one of another architecture.
    FetchError
        Published weights that cannot be had.
    """
    if weights is None:
        weights_files.fill_random(model, random_state)
        said: dict[str, Any] = {
            "weights": f"random (He normal, random_state {random_state}), not trained"
        }
        return {**said, "weights_sha256": weights_files.weights_digest(model)}
    file = _file(weights, published, model.name)
    said = {"weights": f"from {file.name}"}
    if file.suffix == ".npz":
        said |= weights_files.load_weights_npz(model, file)
    else:
        load_weights_onnx(model, file)
    sha256 = file_sha256(file)
    if published is not None and sha256 == registry()[published].sha256:
        entry = registry()[published]
        said = {"weights": f"{entry.what} ({file.name})", "licence": entry.licence, **(about or {})}
    digest = weights_files.weights_digest(model)
    return {**said, "weights_sha256": digest, "weights_file_sha256": sha256}


def _file(weights: str | Path, published: str | None, name: str) -> Path:
    if weights == "imagenet":
        if published is None:
            raise ProtocolError(
                f"{name}: no trained weights are registered; give a file "
                f"({' or '.join(SUFFIXES)}), or 'random'"
            )
        try:
            return fetch(published)
        except FetchError as err:
            raise FetchError(
                f"{name}: {err}; or give weights as a file ({' or '.join(SUFFIXES)}), or 'random'"
            ) from err
    path = Path(weights)
    if path.suffix not in SUFFIXES:
        close = difflib.get_close_matches(str(weights), ["imagenet"], n=1)
        hint = "; did you mean 'imagenet'?" if close else ""
        raise ProtocolError(
            f"{name}: weights must be 'imagenet', 'random' or a file "
            f"({' or '.join(SUFFIXES)}), got '{weights}'{hint}"
        )
    return path
