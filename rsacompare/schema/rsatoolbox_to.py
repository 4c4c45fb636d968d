"""To rsatoolbox: trees and comparisons as its `RDMs` and `Dataset` objects, with descriptors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import LabelError, MissingDependency, ProtocolError
from rsacompare.schema import labels
from rsacompare.schema.results import Comparison
from rsacompare.schema.trees import iter_layers

# what our trees keep of rsatoolbox's descriptors that have no place of their own, one JSON string:
# {"patterns": {descriptor: {stimulus: value}}, "rdms": {descriptor: [value of each row]}}
KEPT = "rsatoolbox_descriptors"
OURS = ("rsacompare_kind", "rsacompare_format", "distance", "categories", KEPT)


def to_rsatoolbox(data: xr.DataTree | Comparison, metric: str | None = None) -> Any:
    """A tree, or what a metric compared, as objects of rsatoolbox.

    Parameters
    ----------
    data : DataTree or Comparison
    metric : str, optional
        For a comparison: which metric's dissimilarities; needed where several have them.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        For dissimilarities: a row per subject, ROI and session (or network and layer), with
        `rdm_descriptors` of these names and the `pattern_descriptors` `stimulus_id` (and
        `category` where known). For a comparison: the rows that were compared, those of networks
        and of brains, told apart by the descriptor `of`.
    dict of rsatoolbox.data.Dataset
        For responses, {subject: Dataset}, with `channel_descriptors` `roi_<name>` (0 or 1); for
        activations {network/layer: Dataset}.

    Raises
    ------
    MissingDependency
        rsatoolbox is not installed.
    LabelError
        The RDMs are not over the same stimuli.
    ProtocolError
        Neither; a comparison without dissimilarities of this metric.

    Examples
    --------
    >>> import rsacompare as rc
    >>> brain = rc.rdms({"sub-01": {"V1": [1.0, 2.0, 3.0]}}, stimulus_id=["a", "b", "c"])
    >>> theirs = rc.to_rsatoolbox(brain)
    >>> theirs.rdm_descriptors["roi"], list(theirs.pattern_descriptors["stimulus_id"])
    (['V1'], ['a', 'b', 'c'])
    """
    toolbox()
    if isinstance(data, Comparison):
        return _compared(data, metric)
    kind = data.attrs.get("rsacompare_kind") if isinstance(data, xr.DataTree) else None
    if kind == "responses":
        return {name: _dataset(node.to_dataset(), name) for name, node in data.children.items()}
    if kind == "rdms":
        return _rdms(data, [row for name in data.children for row in _brain_rows(data, name)])
    if kind == "activations":
        layers = list(iter_layers(data))
        if all("activation" in layer for _, _, layer in layers):
            return {f"{n}/{name}": _layer_dataset(n, name, layer) for n, name, layer in layers}
        if all("rdm" in layer for _, _, layer in layers):
            return _rdms(data, [_layer_row(*layer) for layer in layers])
        raise ProtocolError(
            "to_rsatoolbox: some layers have activations, others RDMs only; convert a network at "
            "a time"
        )
    raise ProtocolError(
        "to_rsatoolbox takes a tree of rsacompare (responses, activations, rdms) or a Comparison, "
        f"got {type(data).__name__}"
    )


def toolbox() -> Any:
    """The module, or MissingDependency with what to type."""
    try:
        import rsatoolbox
    except ImportError as err:
        raise MissingDependency(
            "rsatoolbox is needed for this: pip install 'rsacompare[rsatoolbox]'"
        ) from err
    return rsatoolbox


PairRow = tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]  # names, a, b, values


def _brain_rows(tree: xr.DataTree, subject: str) -> list[PairRow]:
    data = tree[subject].to_dataset()
    a, b = data["stimulus_a"].values, data["stimulus_b"].values
    rows: list[PairRow] = []
    for roi in data["roi"].values:
        names = {"subject": subject, "roi": str(roi)}
        values = data["rdm"].sel(roi=roi)
        if "session" not in values.dims:
            rows.append((names, a, b, values.values))
            continue
        stack = values.transpose("session", "pair")
        for session, row in zip(stack["session"].values.tolist(), stack.values, strict=True):
            rows.append((names | {"session": session}, a, b, row))
    return rows


def _layer_row(network: str, layer: str, data: xr.Dataset) -> PairRow:
    names = {
        "network": network,
        "layer": layer,
        "layer_index": int(data.attrs["layer_index"]),
        "depth": float(data.attrs["depth"]),
    }
    return names, data["stimulus_a"].values, data["stimulus_b"].values, data["rdm"].values


def _compared(comparison: Comparison, metric: str | None) -> Any:
    """The vectors of pair evidence: networks first, each layer and each brain once."""
    pairs = {
        cell: evidence
        for cell, evidence in comparison.evidence.items()
        if metric in (None, cell.metric) and getattr(evidence, "kind", None) == "pair"
    }
    found = list(dict.fromkeys(cell.metric for cell in pairs))
    if len(found) != 1:
        there = f"there are {labels.listed(found)}" if found else "none of its cells are RDMs"
        raise ProtocolError(f"to_rsatoolbox: name one metric that compares RDMs ({there})")
    rows: dict[tuple[str, ...], PairRow] = {}
    for cell, evidence in pairs.items():
        ids = np.asarray(evidence.stimulus_id)
        a, b = np.triu_indices(len(ids), 1)
        network, layer = cell.layer.split("/", 1)
        blank = {"subject": "", "roi": "", "network": "", "layer": ""}
        for key, names, values in (
            (
                ("network", cell.layer),
                {"of": "network", **blank, "network": network, "layer": layer},
                evidence.network,
            ),
            (
                ("brain", cell.subject, cell.roi),
                {"of": "brain", **blank, "subject": cell.subject, "roi": cell.roi},
                evidence.brain,
            ),
        ):
            rows.setdefault(key, (names, ids[a], ids[b], values))
    ordered = sorted(rows.items(), key=lambda item: item[0][0] != "network")
    return _rdms(None, [row for _, row in ordered])


def _rdms(tree: xr.DataTree | None, rows: list[PairRow]) -> Any:
    from rsatoolbox.rdm import RDMs

    ids = _stimuli(rows[0])
    place = {stimulus: i for i, stimulus in enumerate(ids)}
    matrices = np.zeros((len(rows), len(ids), len(ids)))
    for k, (names, a, b, values) in enumerate(rows):
        if set(_stimuli(rows[k])) != set(ids):
            raise LabelError(
                f"to_rsatoolbox: the RDM of {', '.join(map(str, names.values()))} is over other "
                "stimuli than the first; convert them one at a time"
            )
        i, j = [place[s] for s in a.tolist()], [place[s] for s in b.tolist()]
        matrices[k, i, j] = matrices[k, j, i] = values
    attrs = {} if tree is None else dict(tree.attrs)
    kept = json.loads(attrs.get(KEPT, "{}"))
    patterns: dict[str, Any] = {"stimulus_id": ids}
    categories = json.loads(attrs.get("categories", "{}"))
    if set(ids) <= set(categories):
        patterns["category"] = [categories[s] for s in ids]
    for descriptor, values in kept.get("patterns", {}).items():
        patterns[descriptor] = [values[s] for s in ids]
    keys = dict.fromkeys(key for row in rows for key in row[0])
    of_rdms = {key: [row[0].get(key, "") for row in rows] for key in keys}
    for descriptor, values in kept.get("rdms", {}).items():
        if len(values) == len(rows):
            of_rdms[descriptor] = values
    return RDMs(
        matrices,
        dissimilarity_measure=attrs.get("distance"),
        descriptors={k: v for k, v in attrs.items() if k not in OURS},
        rdm_descriptors=of_rdms,
        pattern_descriptors=patterns,
    )


def _stimuli(row: PairRow) -> list[str]:
    """Stimuli in the order of the first pairs: a of the first, then its partners."""
    return list(dict.fromkeys([*row[1][:1].tolist(), *row[2].tolist(), *row[1].tolist()]))


def _dataset(data: xr.Dataset, subject: str) -> Any:
    from rsatoolbox.data import Dataset

    channels = {
        f"roi_{r}": m.astype(int)
        for r, m in zip(data["roi"].values, data["roi_mask"].values, strict=True)
    }
    return Dataset(
        np.asarray(data["response"].values, dtype=np.float64),
        descriptors={"subject": subject},
        obs_descriptors=_coords(data, "presentation"),
        channel_descriptors=channels | _coords(data, "neuroid"),
    )


def _layer_dataset(network: str, layer: str, data: xr.Dataset) -> Any:
    from rsatoolbox.data import Dataset

    return Dataset(
        np.asarray(data["activation"].values, dtype=np.float64),
        descriptors={"network": network, "layer": layer},
        obs_descriptors=_coords(data, "stimulus_id"),
        channel_descriptors=_coords(data, "neuroid"),
    )


def _coords(data: xr.Dataset, dim: str) -> dict[str, np.ndarray]:
    return {str(k): v.values for k, v in data.coords.items() if v.dims == (dim,)}
