"""What is compared with what: layers, regions, the cells of a study and where they are kept."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.metrics.evidence import KINDS, Evidence, Metric
from rsacompare.schema import store, trees
from rsacompare.schema.labels import index_of
from rsacompare.schema.results import Cell

LABELS = {"block": "time_block", "category": "category", "segment": "segment"}
"""{attribute of the evidence: coordinate of the presentations}; set from outside, and stored so,
so that no metric and no kind of evidence need think of them."""
FORMAT = 2  # of a cell's file; 2 holds categories and segments


@dataclass(frozen=True)
class Layer:
    """One layer of one network: its labels, its array and the array's content hash."""

    network: str
    name: str
    data: xr.Dataset
    hash: str

    @property
    def kind(self) -> str:
        return "activation" if "activation" in self.data else "network_rdm"

    @property
    def array(self) -> xr.DataArray:
        values = self.data["activation" if self.kind == "activation" else "rdm"]
        return values.assign_attrs(network=self.network, layer=self.name)


@dataclass(frozen=True)
class Region:
    """One ROI of one subject; `mask` picks its voxels (None where only RDMs exist)."""

    subject: str
    roi: str
    data: xr.Dataset
    mask: np.ndarray | None
    hash: str

    @property
    def kind(self) -> str:
        return "brain_rdm" if self.mask is None else "response"

    def array(self, mask: np.ndarray | None = None) -> xr.DataArray:
        """The ROI's responses or RDM; of other voxels than its own where `mask` is given."""
        if self.mask is None:
            cut = self.data["rdm"].sel(roi=self.roi, drop=True)
        else:
            cut = self.data["response"].isel(neuroid=self.mask if mask is None else mask)
        return cut.assign_attrs(subject=self.subject, roi=self.roi)

    @cached_property
    def _labelled(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{coordinate: (stimuli, label of each)}; "" where presentations of one differ."""
        if "stimulus_id" not in self.data.coords:
            return {}
        ids = self.data["stimulus_id"].values.astype(str)
        unique, first, member = np.unique(ids, return_index=True, return_inverse=True)
        found = {}
        for name in LABELS.values():
            if name in self.data.coords:
                values = self.data[name].values.astype(str)
                torn = np.flatnonzero(values != values[first][member])
                if torn.size and name == "time_block":
                    raise DataError(
                        f"stimulus '{ids[torn[0]]}' is in time block '{values[torn[0]]}' and in "
                        f"'{values[first][member][torn[0]]}'; give it one block"
                    )
                kept = values[first].astype(object)
                kept[np.unique(member[torn])] = ""
                found[name] = unique, kept.astype(str)
        return found

    def mark(self, evidence: Evidence) -> None:
        """Evidence learns what its stimuli are nested in, whatever the metric (`LABELS`).

        Raises
        ------
        DataError
            A stimulus whose presentations lie in different time blocks.
        """
        wanted = np.asarray(evidence.stimulus_id).astype(str)
        for attribute, name in LABELS.items():
            if getattr(evidence, attribute) is not None or name not in self._labelled:
                continue
            if name == "segment" and "time_block" not in self._labelled:
                continue  # recordings of stimuli that do not follow each other
            known, label = self._labelled[name]
            if name == "category" and not np.isin(wanted, known).all():
                continue  # what is scored are categories themselves
            own = index_of(wanted, known, "the evidence", "the responses")
            setattr(evidence, attribute, label[own])


def layers_of(tree: xr.DataTree) -> dict[str, Layer]:
    """{`network/layer`: Layer} in order."""
    found = {
        f"{network}/{name}": Layer(network, name, data, store.digest_dataset(data))
        for network, name, data in trees.iter_layers(tree)
    }
    if not found:
        kind = tree.attrs.get("rsacompare_kind", "something else")
        raise ProtocolError(
            f"no layers of a network: the first argument holds {kind}; the order is "
            'compare(activations, brain), and RDMs of a network are made with of="network"'
        )
    return found


def regions_of(tree: xr.DataTree, rois: Iterable[str] | None) -> dict[tuple[str, str], Region]:
    """(roi, subject) → Region, ROIs in the order asked for (or of appearance)."""
    nodes = {subject: node.to_dataset() for subject, node in tree.children.items()}
    known = list(dict.fromkeys(str(r) for data in nodes.values() for r in data["roi"].values))
    wanted = known if rois is None else [rois] if isinstance(rois, str) else list(rois)
    for roi in wanted:
        if roi not in known:
            raise LabelError(plugins.unknown("ROI", roi, known))
    found: dict[tuple[str, str], Region] = {}
    for roi in dict.fromkeys(wanted):
        for subject, data in nodes.items():
            if roi not in data["roi"].values:
                continue
            if "response" in data:
                mask = data["roi_mask"].sel(roi=roi).values.astype(bool)
                part = data["response"].isel(neuroid=mask)
            else:
                mask, part = None, data["rdm"].sel(roi=roi, drop=True)
            # every label counts: a metric may read the category or the repetition too
            hashed = store.digest(roi, store.digest_dataset(part.to_dataset(name="values")))
            found[roi, subject] = Region(subject, roi, data, mask, hashed)
    if not found:
        raise LabelError("no ROI of any subject is left to compare")
    return found


def plan(
    metrics: Mapping[str, Metric],
    layers: Mapping[str, Layer],
    regions: Mapping[tuple[str, str], Region],
) -> tuple[list[Cell], list[str]]:
    """The cells that exist, and a sentence for each combination that a metric cannot use."""
    kinds = {"network_rdm": "layer RDMs alone", "brain_rdm": "RDMs alone"}
    work, sentences = [], {}
    for label, metric in metrics.items():
        for name, layer in layers.items():
            for (roi, subject), region in regions.items():
                if layer.kind not in metric.accepts:
                    sentences[f"{label}: not for {layer.network}, known by {kinds[layer.kind]}"] = 1
                elif region.kind not in metric.accepts:
                    sentences[f"{label}: not for {roi}, known by {kinds[region.kind]}"] = 1
                else:
                    work.append(Cell(label, name, roi, subject))
    if not work:
        raise ProtocolError("nothing to compare: " + "; ".join(sentences))
    return work, list(sentences)


class CellCache(Mapping[Cell, Evidence]):
    """Evidence by cell: in memory, or read from the store when it is asked for.

    It iterates in the order of `work`, whichever thread finished first.
    """

    def __init__(self, folder: str | Path | None, work: list[Cell]):
        self._work = work
        self._store = None if folder is None else store.CellStore(folder)
        self._memory: dict[Cell, Evidence] = {}
        self._keys: dict[Cell, str] = {}

    def expect(self, cell: Cell, key: str) -> bool:
        """Name the content hash of a cell; True when the store holds it whole."""
        if self._store is None:
            return False
        if self._store.load(key) is None:
            return False
        self._keys[cell] = key
        return True

    def put(self, cell: Cell, key: str, evidence: Evidence) -> None:
        """Keep a finished cell; with a store, on disk at once and not in memory.

        A guest's own kind of evidence that `KINDS` does not know could not be read back as what
        it is: it stays in memory, and a later run computes it again.
        """
        arrays = {} if self._store is None else evidence.to_arrays()
        if self._store is None or KINDS.get(str(arrays.get("kind"))) is not type(evidence):
            self._memory[cell] = evidence
        else:
            for name in LABELS:
                if getattr(evidence, name) is not None:
                    arrays = arrays | {name: np.asarray(getattr(evidence, name))}
            self._store.save(key, arrays)
            self._keys[cell] = key

    def __getitem__(self, cell: Cell) -> Evidence:
        if cell in self._memory:
            return self._memory[cell]
        key = self._keys[cell]
        held = self._store.load(key) if self._store is not None else None
        if held is None:
            raise KeyError(cell)
        evidence = KINDS[str(held["kind"])].from_arrays(held)
        for name in LABELS:
            if name in held:
                setattr(evidence, name, held[name])
        return evidence

    def __iter__(self) -> Iterator[Cell]:
        yield from (c for c in self._work if c in self._memory or c in self._keys)

    def __len__(self) -> int:
        return len(self._memory) + len(self._keys)


def cell_key(metric: Metric, layer: Layer, region: Region, union: np.ndarray | None = None) -> str:
    """Content hash of a cell: data, options, and the code (by version, or a guest's source).

    `union`: voxels that were compared together with the region's; their number can touch the last
    digits of a matrix product, so that they count.
    """
    kind = type(metric)
    code: str = store.provenance()["versions"]["rsacompare"]
    if not kind.__module__.startswith("rsacompare."):
        try:
            code += inspect.getsource(kind)
        except (OSError, TypeError):
            code += "?"
    options = {
        k: store.digest(v) if isinstance(v, np.ndarray) else v for k, v in metric.config().items()
    }
    together = [f"format {FORMAT}"] if union is None else [f"format {FORMAT}", union]
    return store.digest(kind.__qualname__, options, code, layer.hash, region.hash, *together)
