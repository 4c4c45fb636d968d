"""Activations of a network to pictures: batch by batch, all layers in one pass."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.networks import images, spool
from rsacompare.networks import units as units_
from rsacompare.networks.batches import Batch, batches
from rsacompare.networks.finish import finish
from rsacompare.networks.job import Job, fit_rows, pictures_of, preprocessing_of
from rsacompare.networks.network import Forward, Network
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
    preprocessing: str | Preprocessing | Mapping[str, Any] | None = None,
    name: str | None = None,
    drop_constant: bool = False,
    fit_on: Sequence[str] | None = None,
    overwrite: bool = False,
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
    preprocessing : str, Preprocessing or mapping of its fields, optional
        In place of the network's own: a preset's name, or itself, or some fields to change. For a
        Keras file or model, which has none, it is needed.
    name : str, optional
        Of the network in the result.
    drop_constant : bool
        Leave out units that do not vary over the pictures (they are counted in any case).
    fit_on : sequence of str, optional
        For `pca`: the `stimulus_id` that components are fitted on; all by default.
    overwrite : bool
        Whether `out` may be replaced where it holds something else. A file of the same
        extraction is opened and nothing runs.
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
        No pictures, or one that cannot be read; NaN in a layer; no room on the disk; `out` is
        there already and holds something else.
    """
    for word, value, least in (("random_state", random_state, 0), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ProtocolError(f"{word} must be a whole number from {least}, got {value!r}")
    kind, _ = units_.parse(units)
    if fit_on is not None and kind != "pca":
        raise ProtocolError(f"fit_on is for units='pca:…' only; units are '{units}'")
    sources = images.find_stimuli(stimuli, stimulus_id)
    ids = labels.as_stimulus_ids(list(sources), "stimuli", unique=True)
    fit = fit_rows(fit_on, ids)
    target = None if out is None else _writable(Path(out))
    net, shown = _network(network, options, name, preprocessing)
    specs = net.choose(layers)
    plans = units_.plan(units, [net.layer(spec) for spec in specs], int(random_state))
    job = Job(
        network=net,
        name=labels.safe_name(name or net.name),
        preprocessing=preprocessing_of(net, shown),
        plans=dict(zip(specs, plans, strict=True)),
        ids=ids,
        fit=fit,
        drop_constant=bool(drop_constant),
        units=str(units),
        random_state=int(random_state),
        batch_size=int(batch_size),
        options={key: str(value) for key, value in options.items()},
    )
    columns = {spec: len(plan.neuroid) for spec, plan in job.plans.items()}
    if target is None:
        memory = spool.Memory(len(ids), columns)
        pictures = _run(job, sources, memory, progress)
        return _tree(job, _finished(job, memory), job.attrs(pictures))
    if target.exists() and not overwrite and _is_there(target, job, sources):
        log.info("%s holds this extraction already", target)
        return streaming.open_activations(target)
    beside = target.parent / f".{target.name}.partial"
    room = sum(min(k, len(ids)) if kind == "pca" else k for k in columns.values())
    folder = spool.Folder(beside, job.configuration(), len(ids), columns, room, job.has_checksum)
    try:
        pictures = _run(job, sources, folder, progress)
    except BaseException:
        if folder.is_empty:  # nothing to go on with
            folder.remove()
        raise
    streaming.write_activations(
        target, job.name, _finished(job, folder), stimulus_id=ids, attrs=job.attrs(pictures)
    )
    folder.remove()
    return streaming.open_activations(target)


def _network(
    network: Any, options: dict[str, Any], name: str | None, preprocessing: Any
) -> tuple[Network, Any]:
    """The network, and the preprocessing that is still to be set in place of its own."""
    if isinstance(network, Network):
        if options:
            raise ProtocolError(
                f"{network.name} is a network already and takes no {labels.listed([*options])}"
            )
        return network, preprocessing
    from rsacompare.networks.zoo import network as find
    from rsacompare.networks.zoo import registered

    if isinstance(network, str) and network in plugins.names("networks"):
        return registered(network, options, preprocessing)
    # a file or a model of somebody's does not say how it takes pictures
    return find(network, name=name, preprocessing=preprocessing, **options), None


def _writable(target: Path) -> Path:
    """Whether the file can be written, told before anything runs."""
    if target.is_dir():
        raise DataError(f"{target} is a folder; out is the netCDF file to write")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"cannot write in {target.parent}: {err.strerror}") from err
    if not os.access(target.parent, os.W_OK):
        raise DataError(f"cannot write in {target.parent}: no permission")
    return target


def _is_there(target: Path, job: Job, sources: images.Stimuli) -> bool:
    """Whether a file is this extraction; an error where it is anything else."""
    attrs = streaming.read_attrs(target)
    try:
        found, inputs = (json.loads(attrs[key]) for key in ("extraction", "inputs"))
    except (KeyError, ValueError):
        why = "is no extraction of ours"
    else:
        differ = spool.differing(job.configuration(), found)
        if not differ and not job.has_checksum:
            differ = ["weights, without checksum,"]
        if not differ and inputs.get(pictures_of(job.ids)) != images.digest(sources):
            differ = ["contents of the pictures"]
        if not differ:
            return True
        why = f"holds another extraction ({', '.join(differ)} differ)"
    raise DataError(
        f"{target} is there already and {why}; name another file, or replace it with "
        "overwrite=True (--force)"
    )


def _run(
    job: Job,
    sources: images.Stimuli,
    held: spool.Memory | spool.Folder,
    progress: Progress | None,
) -> str:
    """Every batch that is not there yet; returns the digest of all pictures."""
    forward = job.network.forward(list(job.plans))
    shas: dict[str, str] = {}
    for batch in batches(sources, job.batch_size, job.preprocessing, held.has):
        shas |= batch.shas
        if batch.images is None:
            continue
        kept = _kept(job, forward, batch)
        held.write(batch.number, batch.key, batch.start, kept)
        if progress is not None:
            progress(f"{job.name}: pictures", batch.start + len(batch.ids), len(sources))
    return store.digest(*shas.items())  # images.digest, without reading them again


def _kept(job: Job, forward: Forward, batch: Batch) -> dict[str, np.ndarray]:
    """What is kept of a batch; the layers themselves are gone before the next one runs."""
    assert batch.images is not None
    found = forward(batch.images)
    kept = {}
    for spec, plan in job.plans.items():
        kept[spec] = plan.take(np.asarray(found.pop(spec))[: len(batch.ids)])
        _require_finite(kept[spec], job.network.name, spec, batch.ids)
    return kept


def _require_finite(values: np.ndarray, network: str, spec: str, ids: list[str]) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"network {network}, layer '{spec}': NaN or infinite activations for picture "
            f"'{ids[int(np.argmin(finite))]}'; look at the weights, the preprocessing and that "
            "picture"
        )


def _finished(job: Job, held: spool.Memory | spool.Folder) -> Iterator[streaming.StreamedLayer]:
    """The layers one after the other; at the end a line on those with constant units."""
    constant = []
    for index, (spec, plan) in enumerate(job.plans.items()):
        attrs = {
            **job.network.attrs,
            "layer_index": index,
            "options": job.options or None,
            "units_option": job.units,
            "random_state": job.random_state,
            "batch_size": job.batch_size,
            "preprocessing": json.dumps(job.preprocessing.as_dict(), sort_keys=True),
        }
        layer = finish(spec, plan, held, len(job.ids), job.fit, job.drop_constant, attrs)
        if layer.attrs["n_constant"]:
            constant.append(f"{layer.attrs['n_constant']} of {spec}")
        yield layer
    if constant:
        more = f" and {len(constant) - 8} more layers" if len(constant) > 8 else ""
        told = ", ".join(constant[:8]) + more
        log.info("%s: units constant over the pictures: %s", job.name, told)


def _tree(
    job: Job, layers: Iterator[streaming.StreamedLayer], attrs: Mapping[str, Any]
) -> xr.DataTree:
    held = {layer.name: layer for layer in layers}
    tree = activations(
        {job.name: {k: _whole(layer) for k, layer in held.items()}},
        stimulus_id=job.ids,
        neuroid={job.name: {k: layer.neuroid for k, layer in held.items()}},
        layer_attrs={job.name: {k: layer.attrs for k, layer in held.items()}},
        attrs=attrs,
    )
    for name, layer in held.items():
        node = tree[job.name][labels.safe_name(name)]
        coords = {key: ("neuroid", values) for key, values in layer.coords.items()}
        node.dataset = node.to_dataset().assign_coords(coords)
    return tree


def _whole(layer: streaming.StreamedLayer) -> np.ndarray:
    blocks = list(layer.rows)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
