"""How alike brains are to one another, and layers to one another: similarities of second order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from rsacompare.kernels import correlate
from rsacompare.metrics.evidence import Evidence, PairEvidence
from rsacompare.metrics.gram_evidence import GramEvidence
from rsacompare.schema.results import Cell

Extra = dict[str, Any]
MOST_ITEMS = 60  # of a matrix whose labels can be read


def of_cells(
    metric: str, cells: list[tuple[Cell, Evidence]], layers: Mapping[str, str]
) -> list[Extra]:
    """A clustered matrix of brains and one of layers, for evidence that is the same both ways.

    Parameters
    ----------
    metric : str
        Its label.
    cells : list of (Cell, Evidence)
        Of one set of stimuli.
    layers : {layer: network}

    Returns
    -------
    list of dict
        Arguments for `schema.results.add_extra`; empty where the evidence has no two sides of
        one kind, or fewer than three brains or layers are there.
    """
    first = cells[0][1]
    symmetric = isinstance(first, PairEvidence) or (
        isinstance(first, GramEvidence) and first.symmetric
    )
    if not symmetric:
        return []
    networks, brains = {}, {}
    for cell, held in cells:
        networks[cell.layer] = held.network  # type: ignore[attr-defined]
        brains[cell.roi, cell.subject] = held.brain  # type: ignore[attr-defined]
    rois = list(dict.fromkeys(roi for roi, _ in brains))
    found = []
    if len(brains) <= MOST_ITEMS:
        name = {key: key[1] if len(rois) == 1 else f"{key[0]} · {key[1]}" for key in brains}
        like = matrix(first, [brains[key] for key in brains])
        items, group = [name[key] for key in brains], [roi for roi, _ in brains]
        said = f"Each row is a subject{' in one ROI' if len(rois) > 1 else ''}. "
    else:
        items = list(dict.fromkeys(s for _, s in brains))
        items = [s for s in items if all((roi, s) in brains for roi in rois)]
        squares = [matrix(first, [brains[roi, s] for s in items]) for roi in rois]
        like, group = np.mean(squares, axis=0), [""] * len(items)
        said = f"Each row is a subject; mean over {len(rois)} ROIs. "
    found += _extra(metric, "Subjects compared with one another", said, first, items, group, like)
    if len(networks) <= MOST_ITEMS:
        like = matrix(first, list(networks.values()))
        group = [layers[name] for name in networks]
        items = list(networks)
        said = "Each row is a layer of a network. "
        found += _extra(metric, "Layers compared with one another", said, first, items, group, like)
    return found


def matrix(like: Evidence, sides: list[Any]) -> np.ndarray:
    """Every side against every other, as this evidence compares a layer with a brain.

    Parameters
    ----------
    like : PairEvidence or GramEvidence
        Says how two sides are compared.
    sides : list
        RDM vectors, or Grams.

    Returns
    -------
    (side, side) ndarray
        Symmetric, diagonal 1.
    """
    if isinstance(like, PairEvidence):
        stack = np.stack(sides)
        out = correlate.compare_rdms(stack, stack, like.comparator)
        out = (out + out.T) / 2
    else:
        held: Any = like
        out = np.ones((len(sides), len(sides)))
        for a, one in enumerate(sides):
            for b in range(a):
                out[a, b] = out[b, a] = replace(held, network=one, brain=sides[b]).score()
    np.fill_diagonal(out, 1.0)
    return out


def cluster(like: np.ndarray) -> np.ndarray:
    """Average-linkage tree of 1 − similarity, leaves ordered so that neighbours are alike.

    Parameters
    ----------
    like : (item, item)

    Returns
    -------
    (item - 1, 4)
        As `scipy.cluster.hierarchy.linkage` gives it.
    """
    distance = np.maximum(squareform(1.0 - like, checks=False), 0.0)
    return hierarchy.linkage(distance, method="average", optimal_ordering=True)


def _extra(
    metric: str,
    title: str,
    said: str,
    like: Evidence,
    items: list[str],
    group: list[str],
    values: np.ndarray,
) -> list[Extra]:
    if len(items) < 3 or not np.isfinite(values).all():
        return []
    unit = getattr(like, "comparator", metric)
    tree = cluster(values)
    return [
        {
            "kind": "matrix",
            "metric": metric,
            "title": title,
            "caption": (
                f"{said}Colour: similarity ({unit}) of their representations of the same stimuli. "
                "Rows and columns stand in the order of a hierarchical clustering (average "
                "linkage of 1 − similarity), whose tree is drawn above."
            ),
            "arrays": {
                "values": xr.DataArray(values, dims=("row", "column")),
                "row": xr.DataArray(items, dims="row"),
                "column": xr.DataArray(items, dims="column"),
                "group": xr.DataArray(group, dims="item"),
                "linkage": xr.DataArray(tree, dims=("merge", "link")),
            },
            "unit": unit,
        }
    ]
