"""Activations of a network to pictures: batch by batch, all layers in one pass."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, ProtocolError
from rsacompare.networks import projection, spool
from rsacompare.networks import units as units_
from rsacompare.networks.network import Network
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.schema import labels, store, streaming
from rsacompare.schema.arrays import activations

log = logging.getLogger("rsacompare")
Progress = Callable[[str, int, int], None]


def extract(
    network: Any,
    stimuli: Any,
    layers: str | Sequence[str] = "default",
    units: int | str = 1000,
    random_state: int = 0,
    *,
    out: str | Path | None = None,
    batch_size: int = 32,
    stimulus_id: Any = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    name: str | None = None,
    drop_constant: bool = False,
    fit_on: Sequence[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> xr.DataTree:
    """Run a network on pictures and keep the activations of its layers.

    Every batch runs once for all layers, and always with `batch_size` pictures (the last is
    filled up), so that neither the number of pictures nor an interruption changes a bit of the
    result.

    Parameters
    ----------
    network : str, path, Network or keras.Model
        A name from ``rsacompare list networks``, a `.keras`, `.h5` or `.tflite` file, or the
        network itself.
    stimuli : folder, file, glob, list of these, csv, name of a stimulus set, or arrays
        See :func:`rsacompare.networks.images.find_stimuli`.
    layers : str or sequence of str
        A named set of the network (`default`, `yu2018`, …), `all`, or layer specs `name[:op]`.
    units : int or str
        `all`; n units at random per layer; `channel-mean`; `projection:k`; `pca:share` or
        `pca:k`; `yu2018`; `god2017`. See :mod:`rsacompare.networks.units`.
    random_state : int
        Seed of the random draws; each layer has a stream of its own.
    out : path, optional
        netCDF file to write. Memory then grows neither with the pictures nor with the layers;
        what is done is kept in `.NAME.partial` beside it until the file is whole, and a run that
        was stopped goes on from there. Without it all is held in memory.
    batch_size : int
    stimulus_id : sequence of str, optional
        Labels of the pictures; by default the names of the files.
    preprocessing : Preprocessing or mapping of its fields, optional
        In place of the network's own, or of some of its fields.
    name : str, optional
        Of the network in the result.
    drop_constant : bool
        Leave out units that do not vary over the pictures (they are counted in any case).
    fit_on : sequence of str, optional
        For `pca`: the `stimulus_id` that components are fitted on; all by default.
    progress : callable (stage, done, total), optional
    **options
        Passed to the network's loader (`weights`, …) where `network` is a name or a file.

    Returns
    -------
    DataTree
        As :func:`rsacompare.activations` makes it, float32. With `out`, arrays are read from the
        file when they are used.

    Raises
    ------
    ProtocolError, LabelError
        A layer, units or option that do not exist; labels that are not unique.
    DataError
        No pictures, or one that cannot be read; NaN in a layer; no room on the disk.
    """
    net = _network(network, options)
    job = _job(net, layers, units, random_state, batch_size, preprocessing, fit_on)
    sources = _stimuli(stimuli, stimulus_id)
    ids = labels.as_stimulus_ids(list(sources), "stimuli", unique=True)
    fit = _fit_rows(fit_on, ids, job)
    columns = {spec: len(plan.neuroid) for spec, plan in job.plans.items()}
    held: spool.Memory | spool.Folder
    if out is None:
        held = spool.Memory(len(ids), columns)
    else:
        target = Path(out)
        folder = target.parent / f".{target.name}.partial"
        held = spool.Folder(folder, job.configuration(ids), len(ids), columns)
    pictures = _run(job, sources, held, progress)
    title = labels.safe_name(name or net.name)
    attrs = {
        "title": f"Activations of {title}",
        "inputs": {f"pictures ({len(ids)})": pictures},
    }
    finished = (
        _finish(job, index, held, len(ids), fit, drop_constant) for index in range(len(columns))
    )
    if isinstance(held, spool.Folder):
        streaming.write_activations(target, title, finished, stimulus_id=ids, attrs=attrs)
        held.remove()
        return streaming.open_activations(target)
    return _tree(title, list(finished), ids, attrs)


@dataclass(frozen=True)
class _Job:
    """What runs: everything that the result depends on but the pictures."""

    network: Network
    preprocessing: Preprocessing
    plans: dict[str, units_.Plan]
    units: int | str
    random_state: int
    batch_size: int

    def configuration(self, ids: np.ndarray) -> dict[str, Any]:
        """What a half-finished extraction must share with this one to be gone on with."""
        return {
            "network": self.network.name,
            "weights": {k: str(v) for k, v in self.network.attrs.items()},
            "layers": {spec: list(plan.layer.shape) for spec, plan in self.plans.items()},
            "units": str(self.units),
            "unit indices": store.digest(*(plan.neuroid for plan in self.plans.values())),
            "seed": self.random_state,
            "preprocessing": self.preprocessing.as_dict(),
            "batch size": self.batch_size,
            "stimuli": store.digest(ids),
        }


def _network(network: Any, options: Mapping[str, Any]) -> Network:
    if isinstance(network, Network):
        if options:
            raise ProtocolError(
                f"{network.name} is a network already and takes no {labels.listed([*options])}"
            )
        return network
    from rsacompare.networks.zoo import network as find

    return find(network, **options)


def _stimuli(stimuli: Any, stimulus_id: Any) -> dict[str, Any]:
    from rsacompare.networks.images import find_stimuli

    return find_stimuli(stimuli, stimulus_id)


def _job(
    net: Network,
    layers: str | Sequence[str],
    units: int | str,
    random_state: int,
    batch_size: int,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
    fit_on: Sequence[str] | None,
) -> _Job:
    """Check all that is asked for before anything runs."""
    for word, value, least in (("random_state", random_state, 0), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ProtocolError(f"{word} must be a whole number from {least}, got {value!r}")
    specs = net.choose(layers)
    plans = units_.plan(units, [net.layer(spec) for spec in specs], int(random_state))
    if preprocessing is None:
        preprocessing = net.preprocessing
    elif not isinstance(preprocessing, Preprocessing):
        try:
            preprocessing = replace(net.preprocessing, **preprocessing)
        except TypeError as err:
            raise ProtocolError(f"preprocessing: {err}") from err
    return _Job(
        net,
        preprocessing,
        dict(zip(specs, plans, strict=True)),
        units,
        int(random_state),
        int(batch_size),
    )


def _fit_rows(fit_on: Sequence[str] | None, ids: np.ndarray, job: _Job) -> np.ndarray:
    if fit_on is None:
        return np.arange(len(ids))
    if all(plan.pca is None for plan in job.plans.values()):
        raise ProtocolError(f"fit_on is for units='pca:…' only; units are '{job.units}'")
    wanted = labels.as_stimulus_ids(list(fit_on), "fit_on", unique=True)
    return np.sort(labels.index_of(wanted, ids, "fit_on", "the stimuli"))


def _run(
    job: _Job,
    sources: Mapping[str, Any],
    held: spool.Memory | spool.Folder,
    progress: Progress | None,
) -> str:
    """Every batch that is not there yet; returns the digest of all pictures."""
    forward = job.network.forward(list(job.plans))
    everything = hashlib.sha256()
    for batch in _batches(job, sources, held):
        for digest in batch.digests:
            everything.update(digest)
        if batch.images is not None:
            found = forward(batch.images)
            kept = {}
            for spec, plan in job.plans.items():
                values = plan.take(np.asarray(found[spec])[: len(batch.ids)])
                _require_finite(values, job.network.name, spec, batch.ids)
                kept[spec] = values
            held.write(batch.number, batch.key, batch.start, kept)
        if progress is not None:
            progress(f"{job.network.name}: pictures", batch.start + len(batch.ids), len(sources))
    return everything.hexdigest()


@dataclass(frozen=True)
class _Batch:
    number: int
    start: int
    ids: list[str]
    digests: list[bytes]
    key: str
    images: np.ndarray | None  # None: it is there already


def _batches(
    job: _Job, sources: Mapping[str, Any], held: spool.Memory | spool.Folder
) -> Iterator[_Batch]:
    """Batches in order; the next one is read while the last runs."""
    ids = list(sources)

    def load(start: int) -> _Batch:
        chosen = ids[start : start + job.batch_size]
        digests = [_digest(sources[label], label) for label in chosen]
        key = hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()
        number = start // job.batch_size
        images = None
        if not held.has(number, key):
            images = np.empty((job.batch_size, *job.preprocessing.size, 3), np.float32)
            for i, label in enumerate(chosen):
                images[i] = _read(sources[label], label, job.preprocessing)
            images[len(chosen) :] = images[len(chosen) - 1]
        return _Batch(number, start, chosen, digests, key, images)

    with ThreadPoolExecutor(1) as reader:
        waiting: Future[_Batch] | None = None
        for start in range(0, len(ids), job.batch_size):
            ready = waiting.result() if waiting else load(start)
            after = start + job.batch_size
            waiting = reader.submit(load, after) if after < len(ids) else None
            yield ready


def _digest(source: Any, label: str) -> bytes:
    if isinstance(source, np.ndarray):
        return bytes.fromhex(store.digest(source))
    try:
        return bytes.fromhex(store.file_sha256(source))
    except OSError as err:
        raise DataError(f"picture '{label}': cannot read {source}: {err.strerror}") from err


def _read(source: Any, label: str, preprocessing: Preprocessing) -> np.ndarray:
    from rsacompare.networks.images import read_image

    where = f"picture '{label}'" if isinstance(source, np.ndarray) else str(source)
    return preprocessing(read_image(source, where))


def _require_finite(values: np.ndarray, network: str, spec: str, ids: list[str]) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"network {network}, layer '{spec}': NaN or infinite activations for picture "
            f"'{ids[int(np.argmin(finite))]}'; look at the weights, the preprocessing and that "
            "picture"
        )


def _finish(
    job: _Job,
    index: int,
    held: spool.Memory | spool.Folder,
    n: int,
    fit: np.ndarray,
    drop_constant: bool,
) -> streaming.StreamedLayer:
    """A layer as it is handed on: components where asked for, constant units counted."""
    spec, plan = list(job.plans.items())[index]
    k = len(plan.neuroid)
    neuroid, words, coords = plan.neuroid, plan.words, {}
    attrs: dict[str, Any] = {}
    if plan.pca is not None:
        found = projection.principal_components(
            lambda: spool.column_blocks(held, spec, n, k), n, plan.pca, fit
        )
        n_constant, scores = found.n_constant, found.scores.astype(spool.VALUE)
        share = float(found.ratio.sum())
        words = (
            f"{scores.shape[1]} principal components of {k} units "
            f"({100 * share:.2f} % of the variance over {len(fit)} pictures)"
        )
        if not scores.shape[1]:
            raise DataError(f"layer '{spec}': no unit varies over the pictures; no components")
        neuroid, coords = np.arange(scores.shape[1]), {"variance_share": found.ratio}
        rows: Iterator[np.ndarray] = iter([scores])
        constant = np.zeros(0, dtype=bool)
    else:
        constant = _constant(held, spec, n, k)
        n_constant = int(constant.sum())
        rows = spool.row_blocks(held, spec, n, k)
    if n_constant:
        log.info("layer '%s': %d of %d units are constant over the pictures", spec, n_constant, k)
    if drop_constant and constant.any():
        if constant.all():
            raise DataError(f"layer '{spec}': no unit varies over the pictures; none is left")
        rows, neuroid = (block[:, ~constant] for block in rows), neuroid[~constant]
        words += f", {n_constant} constant ones left out"
    layer = plan.layer
    attrs = {
        **job.network.attrs,
        "op": layer.op,
        "shape": json.dumps(list(layer.shape)),
        "n_units": layer.n_units,
        "n_parameters": layer.n_parameters,
        "layer_index": index,
        "depth": layer.depth,
        "original_name": spec,
        "units": words,
        "units_option": str(job.units),
        "random_state": job.random_state,
        "n_constant": n_constant,
        "preprocessing": json.dumps(job.preprocessing.as_dict(), sort_keys=True),
        "batch_size": job.batch_size,
    }
    return streaming.StreamedLayer(spec, rows, neuroid, attrs, coords)


def _constant(held: spool.Memory | spool.Folder, spec: str, n: int, k: int) -> np.ndarray:
    low, high = np.full(k, np.inf, spool.VALUE), np.full(k, -np.inf, spool.VALUE)
    for block in spool.row_blocks(held, spec, n, k):
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    return low == high


def _tree(
    name: str, layers: list[streaming.StreamedLayer], ids: np.ndarray, attrs: Mapping[str, Any]
) -> xr.DataTree:
    tree = activations(
        {name: {layer.name: np.concatenate(list(layer.rows)) for layer in layers}},
        stimulus_id=ids,
        neuroid={name: {layer.name: layer.neuroid for layer in layers}},
        layer_attrs={name: {layer.name: layer.attrs for layer in layers}},
        attrs=attrs,
    )
    for layer in layers:
        node = tree[name][labels.safe_name(layer.name)]
        coords = {key: ("neuroid", values) for key, values in layer.coords.items()}
        node.dataset = node.to_dataset().assign_coords(coords)
    return tree
