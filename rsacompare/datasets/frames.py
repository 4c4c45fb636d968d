"""Activations of the frames of a movie to activations of the scanner's volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.kernels import components as pca
from rsacompare.kernels import hrf as response
from rsacompare.schema import arrays, labels, trees

HRFS = {"spm": response.SPM, "wen": response.WEN, "none": None}


def frames_to_volumes(
    activations: xr.DataTree,
    segment: Any,
    frame_rate: float,
    repetition_time: float,
    *,
    train: Sequence[str] | None = None,
    components: float | None = None,
    hrf: str = "spm",
    n_volumes: int | Mapping[str, int] | None = None,
    shift: float = 0.0,
) -> xr.DataTree:
    """Activations per frame, convolved with a haemodynamic response and sampled once per volume.

    In the order of Wen et al. (2018, FACTS 6.1): every unit is standardised by the training
    frames (n − 1; a unit that never varies becomes 0); with `components` a layer's principal
    components over these frames that hold more than this share of the variance, divided by the
    root of the number of units; convolution within each segment; one sample per volume.

    Parameters
    ----------
    activations : DataTree
        Of frames: `rsacompare.activations` with a `stimulus_id` per frame, in order of time.
    segment : (frame,) str
        The movie segment of each frame; those of one segment stand together.
    frame_rate : float
        Frames per second.
    repetition_time : float
        Seconds from volume to volume.
    train : sequence of str, optional
        The segments to learn means, deviations and components from; all when absent (features
        of test segments then enter these, never brain data).
    components : float, optional
        Share of the variance; without it the units themselves.
    hrf : {"spm", "wen", "none"}
        SPM's canonical response; with the parameters of Wen et al. (peak at 4 s); none at all.
    n_volumes : int or {segment: int}, optional
        By default as many as each segment lasts for; segments may differ in length.
    shift : float
        See :func:`rsacompare.kernels.hrf.to_volumes`.

    Returns
    -------
    DataTree
        The same layers; `stimulus_id` is :func:`volume_ids` of each segment.

    Raises
    ------
    LabelError, DataError, ProtocolError
        Segments that do not fit the frames or are torn; an unknown response or training segment;
        more volumes than a segment lasts for.

    Examples
    --------
    >>> import numpy as np
    >>> import rsacompare as rc
    >>> frames = [f"f{i:03d}" for i in range(80)]
    >>> tree = rc.activations({"net": {"l1": np.eye(80)[:, :5]}}, stimulus_id=frames)
    >>> volumes = frames_to_volumes(tree, ["a"] * 80, frame_rate=4.0, repetition_time=2.0)
    >>> volumes["net/l1"]["stimulus_id"].values[:2].tolist()
    ['a-0000', 'a-0001']
    """
    if hrf not in HRFS:
        raise ProtocolError(plugins.unknown("haemodynamic response", hrf, HRFS))
    names = np.asarray(segment).astype(str)
    order = list(dict.fromkeys(names.tolist()))
    changes = 1 + np.count_nonzero(names[1:] != names[:-1])
    if names.ndim != 1 or changes != len(order):
        raise LabelError("the frames of a segment must stand together, in the order of time")
    for wanted in train or ():
        if wanted not in order:
            raise LabelError(plugins.unknown("training segment", wanted, order))
    learn = np.isin(names, list(train)) if train is not None else np.ones(len(names), dtype=bool)
    parameters = HRFS[hrf]
    kernel = np.ones(1) if parameters is None else response.spm_hrf(1.0 / frame_rate, parameters)
    made: dict[str, dict[str, np.ndarray]] = {}
    attrs: dict[str, dict[str, dict[str, Any]]] = {}
    ids: list[np.ndarray] = []
    for network, layer, data in trees.iter_layers(activations):
        where = f"activations of {network}/{layer}"
        values = data["activation"].values.astype(np.float64)
        if len(values) != len(names):
            raise LabelError(f"{where}: {len(values)} frames, but {len(names)} segment labels")
        labels.require_finite(values, where)
        if components is None:
            mean, sd = values[learn].mean(axis=0), values[learn].std(axis=0, ddof=1)
            live = (sd > 0) & (np.ptp(values[learn], axis=0) > 0)
            values = np.where(live, (values - mean) / np.where(live, sd, 1.0), 0.0)
        else:
            try:
                values = pca.fit_components(values[learn], components).project(values)
            except ValueError as err:
                raise ProtocolError(f"{where}: {err}") from err
        parts, ids = [], []
        for name in order:
            n = n_volumes.get(name) if isinstance(n_volumes, Mapping) else n_volumes
            try:
                part = response.to_volumes(
                    values[names == name], frame_rate, repetition_time,
                    hrf=kernel, n_volumes=n, shift=shift,
                )  # fmt: skip
            except ValueError as err:
                raise DataError(f"{where}, segment {name}: {err}") from err
            parts.append(part)
            ids.append(volume_ids(name, len(part)))
        made.setdefault(network, {})[layer] = np.concatenate(parts)
        kept = {k: v for k, v in data.attrs.items() if k != "original_name"}
        attrs.setdefault(network, {})[layer] = kept | {
            "hrf": hrf, "frame_rate": frame_rate, "repetition_time": repetition_time,
            "shift": shift, "components": components,
        }  # fmt: skip
    held = {str(k): v for k, v in activations.attrs.items() if not str(k).startswith("rsacompare_")}
    return arrays.activations(made, stimulus_id=np.concatenate(ids), attrs=held, layer_attrs=attrs)


def volume_ids(segment: str, n_volumes: int) -> np.ndarray:
    """Labels of a segment's volumes; their alphabetical order is that of time.

    Examples
    --------
    >>> volume_ids("test-1", 2).tolist()
    ['test-1-0000', 'test-1-0001']
    """
    return np.array([f"{segment}-{t:04d}" for t in range(n_volumes)])


def time_blocks(segment: str, n_volumes: int, volumes_per_block: int) -> np.ndarray:
    """Block of each volume of a segment, for the coordinate `time_block` of responses.

    A rest shorter than half a block joins the last one; so do segments shorter than one block
    make one. Only blocks of equal length change places in permutations.

    Examples
    --------
    >>> time_blocks("a", 5, 2).tolist()
    ['a:000', 'a:000', 'a:001', 'a:001', 'a:002']
    >>> time_blocks("a", 7, 3).tolist()[-2:]
    ['a:001', 'a:001']
    """
    if volumes_per_block < 1:
        raise ProtocolError(f"volumes_per_block must be 1 at least, got {volumes_per_block}")
    rest = n_volumes % volumes_per_block
    whole = max(1, n_volumes // volumes_per_block + (2 * rest >= volumes_per_block))
    number = np.minimum(np.arange(n_volumes) // volumes_per_block, whole - 1)
    return np.array([f"{segment}:{b:03d}" for b in number])
