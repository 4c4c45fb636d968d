"""Baselines to compare networks with: noise in place of every layer."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import resample
from rsacompare.schema import trees

SUFFIX = {"noise": "-noise", "untrained": "-untrained"}
NOTE = "baseline: independent Gaussian noise of the same layers and numbers of units"


def noise_baseline(
    activations: xr.DataTree,
    random_state: int | None = 0,
    *,
    networks: Iterable[str] | None = None,
) -> xr.DataTree:
    """A network `<name>-noise` beside each network: the same layers and sizes, values noise.

    What a metric gives to noise is not its chance level by name but by its shape: with more units
    than stimuli, linear CKA without debiasing is far above 0 for noise, and a network is only
    interesting where it is above that.

    Parameters
    ----------
    activations : DataTree
        From `rsacompare.activations`, `extract` or `load_activations`.
    random_state : int or None
        Each layer draws from a stream of its own. None takes fresh entropy.
    networks : sequence of str, optional
        Only these; by default all that are no baselines themselves.

    Returns
    -------
    DataTree
        The baselines alone; :func:`rsacompare.schema.trees.merge_networks` puts them beside the
        networks. Attributes of network and layers: `baseline` ("noise") and `baseline_of`. The
        tree's `left_out` (JSON) has a sentence for each network known by RDMs alone.

    Raises
    ------
    DataError
        No network has activations, or one that was named has none.
    ProtocolError
        A network that is not there.

    Examples
    --------
    >>> from rsacompare.schema.arrays import activations
    >>> tree = activations({"net": {"fc": np.eye(3)}}, stimulus_id=["a", "b", "c"])
    >>> noise_baseline(tree)["net-noise/fc"]["activation"].shape
    (3, 3)
    """
    seed = resample.as_seed(random_state)
    known = list(activations.children)
    asked = None if networks is None else list(networks)
    for name in asked or []:
        if name not in known:
            raise ProtocolError(plugins.unknown("network", name, known))
    nodes: dict[str, xr.Dataset] = {}
    left_out: dict[str, None] = {}
    for network, layer, data in trees.iter_layers(activations):
        if network not in (asked or known) or (asked is None and "baseline" in data.attrs):
            continue
        if "activation" not in data:
            sentence = f"noise baseline: not for {network}, known by layer RDMs alone"
            if asked is not None:
                raise DataError(f"{sentence}: noise would need its numbers of units")
            left_out[sentence] = None
            continue
        nodes[f"{network}{SUFFIX['noise']}/{layer}"] = _noise(data, network, layer, seed)
    if not nodes:
        raise DataError(
            "no network to make a noise baseline of: "
            + ("; ".join(left_out) or "all are baselines already")
        )
    tree = xr.DataTree.from_dict(nodes)
    for name, node in tree.children.items():
        node.attrs |= {"baseline": "noise", "baseline_of": name.removesuffix(SUFFIX["noise"])}
    tree.attrs = {
        key: activations.attrs[key]
        for key in ("rsacompare_kind", "rsacompare_format")
        if key in activations.attrs
    } | {"left_out": json.dumps(list(left_out))}
    return tree


def _noise(data: xr.Dataset, network: str, layer: str, seed: int) -> xr.Dataset:
    values = data["activation"]
    kind = values.dtype if values.dtype.kind == "f" else np.dtype(float)
    rng = resample.stream(seed, "baseline", "noise", network, layer)
    noise = rng.standard_normal(values.shape).astype(kind)
    attrs = {
        key: data.attrs[key]
        for key in ("layer_index", "depth", "original_name")
        if key in data.attrs
    }
    attrs |= {"baseline": "noise", "baseline_of": network, "noise_seed": seed, "note": NOTE}
    return xr.Dataset({"activation": (values.dims, noise)}, coords=data.coords, attrs=attrs)


def mark_untrained(tree: xr.DataTree, network: str) -> xr.DataTree:
    """The same activations, flagged as the untrained baseline of `network`."""
    flags = {"baseline": "untrained", "baseline_of": network}
    for node in tree.children.values():
        node.attrs |= flags
        for leaf in node.children.values():
            leaf.attrs |= flags
    return tree
