"""From rsatoolbox: its `RDMs` and `Dataset` objects as trees, descriptors kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema import labels
from rsacompare.schema.arrays import activations, rdms, responses
from rsacompare.schema.rsatoolbox_to import KEPT, toolbox

STIMULI = ("stimulus_id", "conds", "conditions", "stimulus", "stimuli", "pattern")
OWNERS = {
    "brain": ("subject", "participant", "subj", "sub"),
    "network": ("network", "model", "name"),
}
PARTS = {"brain": ("roi", "ROI", "region"), "network": ("layer",)}
DEFAULT_PART = {"brain": "all", "network": "rdm"}


def from_rsatoolbox(
    data: Any,
    *,
    of: str = "brain",
    stimulus_id: Any = None,
    name: str | None = None,
    part: str | None = None,
) -> xr.DataTree:
    """A tree from `RDMs` or `Dataset` objects of rsatoolbox.

    Parameters
    ----------
    data : rsatoolbox.rdm.RDMs, rsatoolbox.data.Dataset, or a list or dict of Datasets
        A dict names the subjects (or `network/layer`); otherwise they are named by the descriptor
        `subject` (`network`, `layer`), or numbered.
    of : {"brain", "network"}
    stimulus_id : str or sequence, optional
        The descriptor of patterns (of observations) that names the stimuli, or the labels
        themselves. By default `stimulus_id`, `conds`, `conditions` or `stimulus`. rsatoolbox's own
        `index` is a row number and is not taken for a label.
    name, part : str, optional
        Descriptors of RDMs that name the subject and the ROI (the network and the layer), where
        they are not called so.

    Returns
    -------
    DataTree
        As of :func:`rsacompare.rdms`, `responses` or `activations`. Descriptors without a place
        in it are kept in its attributes and come back with :func:`to_rsatoolbox`.

    Raises
    ------
    LabelError
        No labels of stimuli, or RDMs that are not told apart.
    DataError
        Values that are missing; a `TemporalDataset`.
    ProtocolError
        Another kind of object.
    """
    theirs = toolbox()
    if of not in OWNERS:
        raise ProtocolError(plugins.unknown("kind of data", of, OWNERS))
    if isinstance(data, theirs.rdm.RDMs):
        return _from_rdms(data, of, stimulus_id, name, part)
    if isinstance(data, Mapping):
        named = dict(data)
    else:
        held = list(data) if isinstance(data, (list, tuple)) else [data]
        named = {f"{of}-{i + 1:02d}": each for i, each in enumerate(held)}
        own = [_owner(each, of) for each in held]
        if all(own) and len(set(own)) == len(own):
            named = dict(zip([str(o) for o in own], held, strict=True))
    for label, each in named.items():
        if isinstance(each, theirs.data.TemporalDataset):
            raise DataError(
                f"{label}: a TemporalDataset has a time axis, which responses do not; choose or "
                "average times first (subset_time, bin_time, or convert_to_dataset)"
            )
        if not isinstance(each, theirs.data.dataset.DatasetBase):
            raise ProtocolError(
                "from_rsatoolbox takes RDMs, a Dataset, or several of these by name, got "
                f"{type(each).__name__}"
            )
    if not named:
        raise DataError("from_rsatoolbox: no data sets")
    return _from_datasets(named, of, stimulus_id)


def _from_rdms(data: Any, of: str, given: Any, name: str | None, part: str | None) -> xr.DataTree:
    patterns = {k: _list(v) for k, v in data.pattern_descriptors.items() if k != "index"}
    rows = {k: _list(v) for k, v in data.rdm_descriptors.items() if k != "index"}
    used, ids = _labels(patterns, given, data.n_cond, "pattern_descriptors")
    owner = _descriptor(rows, name, OWNERS[of])
    region = _descriptor(rows, part, PARTS[of])
    owners = [f"{of}-{i + 1:02d}" for i in range(data.n_rdm)] if owner is None else rows[owner]
    parts = [DEFAULT_PART[of]] * data.n_rdm if region is None else rows[region]
    sessions = rows["session"] if of == "brain" and "session" in rows else [None] * data.n_rdm
    # {subject: {roi: {session: row}}}
    places: dict[str, dict[str, dict[Any, int]]] = {}
    for k, (own, where, session) in enumerate(zip(owners, parts, sessions, strict=True)):
        cell = places.setdefault(str(own), {}).setdefault(str(where), {})
        if session in cell:
            raise LabelError(
                f"two RDMs are of {own}, {where}; name the descriptors that tell them apart "
                f"(name=, part=); there are {labels.listed(list(rows)) or 'none'}"
            )
        cell[session] = k
    held = {tuple(cell) for regions in places.values() for cell in regions.values()}
    if len(held) > 1:
        raise LabelError(f"not all subjects and ROIs have the same sessions: {sorted(held)}")
    names = next(iter(held))
    matrices = data.get_matrices()
    order = [k for regions in places.values() for cell in regions.values() for k in cell.values()]
    told = ("layer_index", "depth") if of == "network" else ("session",)
    kept = {
        "patterns": {
            k: dict(zip(ids.tolist(), v, strict=True))
            for k, v in patterns.items()
            if k not in (used, "category")
        },
        "rdms": {
            k: [v[i] for i in order] for k, v in rows.items() if k not in (owner, region, *told)
        },
    }
    tree = rdms(
        {
            own: {
                where: matrices[list(cell.values())] if names != (None,) else matrices[cell[None]]
                for where, cell in regions.items()
            }
            for own, regions in places.items()
        },
        stimulus_id=ids,
        of=of,
        attrs={str(k): _plain(v) for k, v in data.descriptors.items()}
        | {"distance": data.dissimilarity_measure}
        | ({KEPT: kept} if any(kept.values()) else {})
        | (
            {"categories": dict(zip(ids.tolist(), map(str, patterns["category"]), strict=True))}
            if "category" in patterns
            else {}
        ),
        layer_attrs={
            own: {
                where: {k: rows[k][cell[None]] for k in told if k in rows}
                for where, cell in regions.items()
            }
            for own, regions in places.items()
        }
        if of == "network"
        else None,
    )
    if names != (None,):
        for subject in tree.children:
            with_names = tree[subject].to_dataset().assign_coords(session=list(names))
            tree[subject] = xr.DataTree(with_names)
    return tree


def _list(values: Any) -> list[Any]:
    return [_plain(v) for v in values]


def _plain(value: Any) -> Any:
    """Numbers and text of Python in place of numpy's."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _from_datasets(named: Mapping[str, Any], of: str, given: Any) -> xr.DataTree:
    ids: dict[str, np.ndarray] = {}
    for label, data in named.items():
        ids[label] = _labels(
            data.obs_descriptors, given, data.n_obs, f"obs_descriptors of {label}"
        )[1]
    if of == "network":
        first = next(iter(ids.values()))
        networks: dict[str, dict[str, Any]] = {}
        for label, data in named.items():
            order = labels.index_of(first, ids[label], "the first data set", label)
            network, _, layer = label.partition("/")
            networks.setdefault(network, {})[layer or "layer"] = data.measurements[order]
        return activations(networks, stimulus_id=first)
    masks: dict[str, dict[str, np.ndarray]] = {}
    for label, data in named.items():
        channels = data.channel_descriptors
        masks[label] = {
            key.removeprefix("roi_"): np.asarray(v).astype(bool)
            for key, v in channels.items()
            if key.startswith("roi_")
        }
        if "roi" in channels and not masks[label]:
            regions = np.asarray(channels["roi"]).astype(str)
            masks[label] = {r: regions == r for r in dict.fromkeys(regions.tolist())}
    extra = {label: dict(data.obs_descriptors) for label, data in named.items()}
    tree = responses(
        {label: data.measurements for label, data in named.items()},
        stimulus_id=ids,
        split=_shared(extra, "split"),
        repetition=_shared(extra, "repetition"),
        roi_mask=masks if any(masks.values()) else None,
    )
    for label, data in named.items():
        node = tree[labels.safe_name(label)]
        more = {k: ("presentation", np.asarray(v)) for k, v in data.obs_descriptors.items()} | {
            k: ("neuroid", np.asarray(v))
            for k, v in data.channel_descriptors.items()
            if k != "roi" and not k.startswith("roi_")
        }
        held = node.to_dataset()
        fresh = {k: v for k, v in more.items() if k not in held.variables and k != "index"}
        tree[labels.safe_name(label)] = xr.DataTree(held.assign_coords(fresh))
    return tree


def _shared(held: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    return (
        {s: np.asarray(d[key]) for s, d in held.items()}
        if all(key in d for d in held.values())
        else None
    )


def _owner(data: Any, of: str) -> str | None:
    descriptors = getattr(data, "descriptors", {})
    found = next((descriptors[w] for w in OWNERS[of] if w in descriptors), None)
    if of == "network" and found is not None and "layer" in descriptors:
        return f"{found}/{descriptors['layer']}"
    return None if found is None else str(found)


def _labels(
    held: Mapping[str, Any], given: Any, n: int, where: str
) -> tuple[str | None, np.ndarray]:
    """(descriptor, labels) of the stimuli."""
    used = given if isinstance(given, str) else next((w for w in STIMULI if w in held), None)
    if given is not None and not isinstance(given, str):
        ids = labels.as_stimulus_ids(given, "stimulus_id")
        if len(ids) != n:
            raise LabelError(f"{len(ids)} stimulus labels for {n} rows")
        return None, ids
    if used is None or used not in held:
        there = [k for k in held if k != "index"]
        raise LabelError(
            f"{where} hold no labels of stimuli"
            f"{f' called {given!r}' if given else ''}; there are {labels.listed(there) or 'none'}: "
            "give stimulus_id, a descriptor or the labels"
        )
    return used, labels.as_stimulus_ids(np.asarray(held[used]), where)


def _descriptor(rows: Mapping[str, Any], given: str | None, words: Sequence[str]) -> str | None:
    if given is not None and given not in rows:
        raise LabelError(plugins.unknown("descriptor of RDMs", given, rows))
    return given or next((w for w in words if w in rows), None)
