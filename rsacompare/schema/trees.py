"""Whole trees: walking, merging and describing them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, LabelError

DESCRIBED = ("title", "description", "citation", "licence")
# what results tell of a network: the attribute of its layers by the key on the pages' side
NETWORK_KEYS = {
    "note": "note",
    "imagenet_top1": "imagenet_top1",
    "citation": "citation",
    "licence": "licence",
    "weights": "weights",
    "framework": "framework",
    "preprocessing": "preprocessing",
    "units": "units_option",
    "units_seed": "random_state",
    "baseline": "baseline",
    "baseline_of": "baseline_of",
}


def iter_layers(tree: xr.DataTree) -> Iterator[tuple[str, str, xr.Dataset]]:
    """(network, layer, Dataset) in layer order for every layer of an activations tree."""
    for network, node in tree.children.items():
        layers = sorted(node.children.items(), key=lambda kv: int(kv[1].attrs["layer_index"]))
        for layer, leaf in layers:
            yield network, layer, leaf.to_dataset()


def layer_lines(tree: xr.DataTree) -> list[str]:
    """A line per layer of an activations tree: network, layer, depth, size."""
    lines = []
    for network, layer, data in iter_layers(tree):
        size = f"{data.sizes['neuroid']} units" if "neuroid" in data.sizes else "RDM only"
        depth = float(data.attrs["depth"])
        lines.append(f"{network}  {layer:<16} depth {depth:.2f}  {size}")
    return lines


def merge_networks(trees: list[xr.DataTree]) -> xr.DataTree:
    """Several activations trees as one; a network's name may stand only once.

    `inputs`, the hashes of the files they came from, and `left_out`, sentences about what has no
    baseline, are put together.
    """
    children: dict[str, xr.DataTree] = {}
    attrs: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    left_out: list[str] = []
    for tree in trees:
        for name, node in tree.children.items():
            if name in children:
                raise LabelError(f"two networks are called '{name}'; give one another name")
            children[name] = node.copy(deep=False)
        attrs.update({str(k): v for k, v in tree.attrs.items()})
        inputs.update(json.loads(tree.attrs.get("inputs", "{}")))
        left_out += json.loads(tree.attrs.get("left_out", "[]"))
    merged = xr.DataTree(children=children)
    merged.attrs = {**attrs, "inputs": json.dumps(inputs)}
    if left_out:
        merged.attrs["left_out"] = json.dumps(left_out)
    return merged


def merge_brains(trees: Mapping[str, xr.DataTree]) -> xr.DataTree:
    """Several data sets as one tree; with more than one, subjects are prefixed `dataset.`.

    The attributes of each data set are kept in the tree's `datasets`, one JSON string.
    """
    if not trees:
        raise DataError("no brain data")
    children: dict[str, xr.DataTree] = {}
    held: dict[str, Any] = {}
    for name, tree in trees.items():
        subjects = []
        for subject, node in tree.children.items():
            label = f"{name}.{subject}" if len(trees) > 1 else subject
            children[label] = node.copy(deep=False)
            subjects.append(label)
        held[name] = {"attrs": dict(tree.attrs), "subjects": subjects}
    merged = xr.DataTree(children=children)
    merged.attrs = {
        "datasets": json.dumps(held, default=str),
        "simulated": int(any(int(t.attrs.get("simulated", 0)) for t in trees.values())),
    }
    return merged


def describe_brain(tree: xr.DataTree) -> list[dict[str, Any]]:
    """What pages say of each data set: title, citation, licence, subjects, ROIs, stimuli."""
    held = json.loads(tree.attrs.get("datasets", "null")) or {
        str(tree.attrs.get("name", "brain")): {
            "attrs": dict(tree.attrs),
            "subjects": list(tree.children),
        }
    }
    described = []
    for name, part in held.items():
        nodes = [tree[subject].to_dataset() for subject in part["subjects"]]
        described.append(
            {"name": name}
            | {key: str(part["attrs"].get(key, "")) for key in DESCRIBED}
            | {
                "n_subjects": len(nodes),
                "rois": list(dict.fromkeys(str(r) for n in nodes for r in n["roi"].values)),
                "n_stimuli": len(np.unique(np.concatenate([_stimuli(n) for n in nodes]))),
                "kind": "responses" if "response" in nodes[0] else "RDMs",
            }
        )
    return described


def _stimuli(node: xr.Dataset) -> np.ndarray:
    if "response" in node:
        return np.unique(node["stimulus_id"].values)
    return np.union1d(node["stimulus_a"].values, node["stimulus_b"].values)


def categories(tree: xr.DataTree) -> dict[str, str]:
    """Category per stimulus, where a data set knows it (its attribute `categories`)."""
    held = json.loads(tree.attrs.get("datasets", "{}"))
    texts = [part["attrs"].get("categories") for part in held.values()]
    found: dict[str, str] = {}
    for text in [tree.attrs.get("categories"), *texts]:
        found |= json.loads(text) if text else {}
    return found


def real_networks(tree: xr.DataTree) -> list[str]:
    """The networks of an activations tree that are no baselines."""
    return [name for name, node in tree.children.items() if "baseline" not in node.attrs]


def describe_networks(tree: xr.DataTree) -> list[dict[str, Any]]:
    """What pages say of each network: its layers, note, accuracy, and how it was run."""
    described = []
    for name, node in tree.children.items():
        layers = [data for network, _, data in iter_layers(tree) if network == name]
        entry: dict[str, Any] = {
            "name": name,
            "layers": [layer for network, layer, _ in iter_layers(tree) if network == name],
            "kind": "activations" if "activation" in layers[0] else "layer RDMs",
        }
        for key, attr in NETWORK_KEYS.items():
            value = layers[0].attrs.get(attr, node.attrs.get(attr))
            if value is not None:
                entry[key] = value if isinstance(value, str) else float(value)
        read = {
            str(layer): f"{data.attrs['op']}; {data.attrs['units']}"
            for network, layer, data in iter_layers(tree)
            if network == name and {"op", "units"} <= data.attrs.keys()
        }
        if read:
            entry["read"] = read
        described.append(entry)
    return described
