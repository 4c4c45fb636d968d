"""The layers of an extraction on the terminal, and how fast it ran."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import xarray as xr

from rsacompare.schema.trees import iter_layers


class Rate:
    """Pictures per second, heard from the progress of an extraction; passes it on.

    The first batch does not count: it bears the start of the engine and what an earlier run did.
    """

    def __init__(self, told: Callable[[str, int, int], None] | None) -> None:
        self._told = told
        self._heard: list[tuple[float, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Hear of progress."""
        self._heard.append((time.perf_counter(), done))
        if self._told is not None:
            self._told(stage, done, total)

    def __str__(self) -> str:
        if len(self._heard) < 2:
            return ""
        (began, first), (ended, last) = self._heard[0], self._heard[-1]
        return f"{(last - first) / max(ended - began, 1e-9):.3g} images/s; "


def layer_rows(tree: xr.DataTree) -> list[tuple[str, str, str, str, str]]:
    """Layer, op, shape, columns and constant units of each layer of an extraction."""
    rows = []
    for _, layer, data in iter_layers(tree):
        shape = " x ".join(map(str, json.loads(data.attrs["shape"])))
        kept, constant = data.sizes["neuroid"], int(data.attrs["n_constant"])
        rows.append((layer, str(data.attrs["op"]), shape, f"{kept}", f"{constant}"))
    return rows


def lines(tree: xr.DataTree) -> list[str]:
    """A table of the layers, as wide as its words, and what was kept of them."""
    rows = [("layer", "op", "shape", "units", "constant"), *layer_rows(tree)]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    table = [
        "  ".join(
            word.rjust(width) if column > 2 else word.ljust(width)
            for column, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    words = dict.fromkeys(str(data.attrs["units"]) for _, _, data in iter_layers(tree))
    return [*table, "", *words]
