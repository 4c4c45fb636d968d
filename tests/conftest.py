"""Shared scenes: evidence with a closed form, and comparisons made of it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr
from threadpoolctl import threadpool_limits

from rsacompare.metrics.evidence import Evidence, Meaning
from rsacompare.schema.labels import clean_attrs
from rsacompare.schema.results import Cell, Comparison, layer_coords


@dataclass
class ProductEvidence(Evidence):
    """Score = weighted mean over stimuli of network · brain: linear, so all is known."""

    stimulus_id: np.ndarray
    network: np.ndarray
    brain: np.ndarray
    sources: tuple[str, ...] = ("stimuli",)
    fold: np.ndarray | None = None

    @property
    def n_targets(self):
        return 1

    def score(self, weights=None, target_weights=None):
        product = self.network * self.brain
        if weights is None:
            return product.mean()
        return (weights @ product) / weights.sum(axis=-1)

    def null(self, permutations):
        return (self.network[permutations] * self.brain).mean(axis=-1)

    def to_arrays(self):
        return {"n": self.network, "b": self.brain}

    @classmethod
    def from_arrays(cls, arrays):
        raise NotImplementedError


def _product_comparison(values, depth=None, meaning=None, brain=None):
    """Comparison of {network: (layer, subject, stimulus)}; one ROI "V1", one metric "product"."""
    n_stimuli = next(iter(values.values())).shape[-1]
    ids = np.array([f"s{i:03d}" for i in range(n_stimuli)])
    layers, evidence = [], {}
    for network, cube in values.items():
        for index, per_subject in enumerate(cube):
            where = index / max(len(cube) - 1, 1) if depth is None else depth[network][index]
            layers.append((network, f"l{index}", {"layer_index": index, "depth": where}))
            for subject, row in enumerate(per_subject):
                cell = Cell("product", f"{network}/l{index}", "V1", f"sub-{subject:02d}")
                factor = np.ones(n_stimuli) if brain is None else brain
                evidence[cell] = ProductEvidence(ids, np.asarray(row), factor)
    n_subjects = next(iter(values.values())).shape[1]
    shape = (1, n_subjects, 1, len(layers))
    scores = np.array(
        [
            [float(evidence[Cell("product", f"{n}/{x}", "V1", f"sub-{s:02d}")].score())
             for n, x, _ in layers]
            for s in range(n_subjects)
        ]
    )  # fmt: skip
    dims = ("metric", "subject", "roi", "layer")
    data = xr.Dataset(
        {"score": (dims, scores.reshape(shape)), "n_targets": (dims, np.ones(shape))},
        coords={
            "metric": ["product"],
            "subject": [f"sub-{s:02d}" for s in range(n_subjects)],
            "roi": ["V1"],
            **layer_coords(layers),
        },
    )
    held = asdict(meaning or Meaning("product"))
    data.attrs = clean_attrs({"meaning": {"product": held}})
    return Comparison(data, evidence)


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """As `compare` and `infer` run: on a busy machine BLAS threads wait for one another."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def product_comparison():
    return _product_comparison


def _write_bdata(path, columns, marks=None, spelling="dataset"):
    """A BData file by the laboratory's own library; returns its object, the judge of the file.

    columns: {key: (row,) or (row, column)}; marks: {key: a value per column of VoxelData}.
    spelling: "dataset", or "dataSet" as older files have it. A `.mat` is v5, as the oldest are.
    """
    from bdpy.bdata import BData

    path = Path(path)
    bdata = BData()
    for key, values in columns.items():
        bdata.add(np.asarray(values, dtype=float), key)
    for key, values in (marks or {}).items():
        bdata.add_metadata(key, np.asarray(values, dtype=float), f"1 = {key}", where="VoxelData")
    if path.suffix == ".mat":
        meta = {
            "key": np.array(bdata.metadata.key, dtype=object)[None],
            "value": bdata.metadata.value,
            "description": np.array(bdata.metadata.description, dtype=object)[None],
        }
        held = {"dataSet": bdata.dataset, "metaData": meta, "header": {"note": "not read"}}
        scipy.io.savemat(path, held, do_compression=spelling == "dataSet")
        return bdata
    bdata.save(str(path))
    if spelling == "dataSet":
        with h5py.File(path, "a") as file:
            file.move("dataset", "dataSet")
            file.move("metadata", "metaData")
    return bdata


@pytest.fixture(scope="session")
def write_bdata():
    return _write_bdata
