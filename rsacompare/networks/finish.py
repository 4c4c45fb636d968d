"""From what was kept of a layer to the layer that is handed on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rsacompare.errors import DataError
from rsacompare.networks import spool
from rsacompare.networks.projection import principal_components
from rsacompare.networks.units import Plan
from rsacompare.schema.streaming import StreamedLayer


def finish(
    spec: str,
    plan: Plan,
    held: spool.Memory | spool.Folder,
    n: int,
    fit: np.ndarray,
    drop_constant: bool,
    attrs: Mapping[str, Any],
) -> StreamedLayer:
    """A layer with its units, their number that do not vary, and all that repeats it.

    Parameters
    ----------
    spec : str
    plan : Plan
    held : where its (stimulus, column) array is
    n : int
        Number of stimuli.
    fit : (stimulus,) int
        Rows that components are fitted on.
    drop_constant : bool
    attrs : mapping
        Of the network and of the extraction.

    Raises
    ------
    DataError
        No unit varies, and none would be left.
    """
    layer, k = plan.layer, len(plan.neuroid)
    neuroid, words, coords = plan.neuroid, plan.words, {}
    rows: Iterable[np.ndarray]
    if plan.pca is not None:
        found = principal_components(
            lambda: spool.column_blocks(held, spec, n, k), n, plan.pca, fit
        )
        count, n_constant = found.scores.shape[1], found.n_constant
        if not count:
            raise DataError(f"layer '{spec}': no unit varies over the pictures; no components")
        rows = [found.scores.astype(spool.VALUE)]
        neuroid, coords = np.arange(count), {"variance_share": found.ratio}
        words = (
            f"{count} principal components of {k} units ({100 * found.ratio.sum():.4g} % of the "
            f"variance over {len(fit)} pictures)"
        )
    else:
        constant = _constant(held, spec, n, k)
        n_constant = int(constant.sum())
        rows = spool.row_blocks(held, spec, n, k)
        if drop_constant and n_constant:
            if n_constant == k:
                raise DataError(
                    f"layer '{spec}': none of its {k} units varies over the pictures, and "
                    "drop_constant would leave none"
                )
            neuroid = neuroid[~constant]
            rows = (block[:, ~constant] for block in rows)
            words += f", {n_constant} constant ones left out"
    own = {
        "op": layer.op,
        "shape": json.dumps(list(layer.shape)),
        "n_units": layer.n_units,
        "n_parameters": layer.n_parameters,
        "depth": layer.depth,
        "original_name": spec,
        "units": words,
        "n_constant": n_constant,
    }
    return StreamedLayer(spec, rows, neuroid, {**attrs, **own}, coords)


def _constant(held: spool.Memory | spool.Folder, spec: str, n: int, k: int) -> np.ndarray:
    low, high = np.full(k, np.inf, spool.VALUE), np.full(k, -np.inf, spool.VALUE)
    for block in spool.row_blocks(held, spec, n, k):
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    return low == high
