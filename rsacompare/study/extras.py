"""What a comparison shows beside its scores: RDMs and their maps, and a simulation's known answer.

Any metric whose evidence is pairs gets the RDMs, a guest's too; where evidence is the same both
ways (pairs, Grams), brains and layers are compared with one another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.kernels import correlate
from rsacompare.metrics.evidence import Evidence, PairEvidence
from rsacompare.metrics.gram_evidence import GramEvidence
from rsacompare.schema import trees
from rsacompare.schema.results import Cell
from rsacompare.study import second_order

Extra = dict[str, Any]


def of_pairs(
    work: list[Cell],
    evidence: Mapping[Cell, Evidence],
    scores: xr.Dataset,
    tree: xr.DataTree,
) -> list[Extra]:
    """RDMs, the arrangement of RDMs and of stimuli, and clustered similarities, per metric.

    Parameters
    ----------
    work : list of Cell
    evidence : {Cell: Evidence}
    scores : Dataset
        For the layer of each network that is closest on average, whose RDM is shown.
    tree : DataTree
        The brain, for the categories of its stimuli.

    Returns
    -------
    list of dict
        Arguments for `schema.results.add_extra`.
    """
    found: list[Extra] = []
    for metric in dict.fromkeys(cell.metric for cell in work):
        groups: dict[tuple[str, ...], list[tuple[Cell, Any]]] = {}
        for cell in (c for c in work if c.metric == metric):
            held = evidence[cell]
            if not isinstance(held, (PairEvidence, GramEvidence)):
                break
            groups.setdefault(tuple(held.stimulus_id.tolist()), []).append((cell, held))
        mean = scores["score"].sel(metric=metric).mean(["subject", "roi"])
        network_of = dict(zip(mean["layer"].values, mean["network"].values, strict=True))
        for ids, cells in groups.items():
            if isinstance(cells[0][1], PairEvidence):
                found += _of_one_stimulus_set(
                    metric, np.array(ids), cells, mean, trees.categories(tree)
                )
            found += second_order.of_cells(metric, cells, network_of)
    return found


def of_truth(tree: xr.DataTree) -> list[Extra]:
    """The known answer of a simulated study as a table for the first page.

    Parameters
    ----------
    tree : DataTree
        With an attribute `truth`: a JSON object of `means` (a record per network), `meaning` (a
        sentence per column) and `sentence`.
    """
    if "truth" not in tree.attrs:
        return []
    truth = json.loads(tree.attrs["truth"])
    columns = ["network", *truth["meaning"]]
    arrays = {
        column: xr.DataArray([record[column] for record in truth["means"]], dims="row")
        for column in columns
    }
    return [
        {
            "kind": "table",
            "metric": "",
            "title": "The known answer of this simulation",
            "caption": f"{truth['sentence']} Means over layers and ROIs.",
            "arrays": arrays,
            "columns": dict(truth["meaning"]),
        }
    ]


def _of_one_stimulus_set(
    metric: str,
    ids: np.ndarray,
    cells: list[tuple[Cell, PairEvidence]],
    mean: xr.DataArray,
    categories: Mapping[str, str],
) -> list[Extra]:
    layers = {cell.layer: held.network for cell, held in cells}
    subjects: dict[str, dict[str, np.ndarray]] = {}
    for cell, held in cells:
        subjects.setdefault(cell.roi, {})[cell.subject] = held.brain
    rois = {roi: np.mean(list(held.values()), axis=0) for roi, held in subjects.items()}
    network_of = dict(zip(mean["layer"].values, mean["network"].values, strict=True))
    best = {}
    for network in dict.fromkeys(network_of[layer] for layer in layers):
        own = [layer for layer in layers if network_of[layer] == network]
        best[network] = max(own, key=lambda layer: float(mean.sel(layer=layer)))
    shown = {f"brain: {roi}": rdm for roi, rdm in rois.items()}
    shown |= {layer: layers[layer] for layer in best.values()}
    extras = [_rdm_extra(metric, ids, shown, categories)]
    comparator = cells[0][1].comparator
    stack = np.stack([*rois.values(), *layers.values()])
    alike = correlate.compare_rdms(stack, stack, comparator)
    if len(stack) > 2 and np.isfinite(alike).all():
        xy, stress = arrange(1 - alike)
        extras.append(
            _embedding(
                metric,
                xy,
                label=[*rois, *(layer.split("/", 1)[1] for layer in layers)],
                group=["brain"] * len(rois) + [network_of[layer] for layer in layers],
                title="Arrangement of the RDMs",
                caption=(
                    "Each point is one RDM (a layer, or the subject mean of an ROI); near points "
                    f"have similar RDMs. Multidimensional scaling of 1 − {comparator}, "
                    f"stress-1 {stress:.2f}."
                ),
            )
        )
    if categories:
        placed = {name: arrange(_square(rdm, len(ids))) for name, rdm in shown.items()}
        stresses = [value for _, value in placed.values()]
        extras.append(
            _embedding(
                metric,
                np.concatenate([xy for xy, _ in placed.values()]),
                label=[*ids] * len(placed),
                group=[categories.get(i, "other") for i in ids] * len(placed),
                panel=[name for name in placed for _ in ids],
                title="Arrangement of the stimuli",
                caption=(
                    "A panel per RDM shown above. Each point is one stimulus; near points have "
                    "similar activity patterns. Multidimensional scaling of each RDM, stress-1 "
                    f"{min(stresses):.2f} to {max(stresses):.2f} (above 0.2 is poor)."
                ),
            )
        )
    return extras


def _rdm_extra(
    metric: str, ids: np.ndarray, rdms: Mapping[str, np.ndarray], categories: Mapping[str, str]
) -> Extra:
    arrays = {
        "values": xr.DataArray(np.stack(list(rdms.values())), dims=("item", "pair")),
        "label": xr.DataArray(list(rdms), dims="item"),
        "stimulus_id": xr.DataArray(ids, dims="stimulus"),
    }
    if categories:
        named = [categories.get(i, "other") for i in ids]
        arrays["category"] = xr.DataArray(named, dims="stimulus")
    return {
        "kind": "rdm",
        "metric": metric,
        "title": "Representational dissimilarity matrices",
        "caption": (
            "Subject-mean RDM of each ROI, and of each network the layer whose score is highest "
            "on average over ROIs (chosen on the same data: for looking, not for testing)."
        ),
        "arrays": arrays,
        "unit": "dissimilarity",
    }


def _embedding(
    metric: str,
    xy: np.ndarray,
    *,
    label: list[str],
    group: list[str],
    title: str,
    caption: str,
    panel: list[str] | None = None,
) -> Extra:
    panels = {} if panel is None else {"panel": xr.DataArray(panel, dims="item")}
    return {
        "kind": "embedding",
        "metric": metric,
        "title": title,
        "caption": caption,
        "arrays": {
            "xy": xr.DataArray(xy, dims=("item", "axis")),
            "label": xr.DataArray(label, dims="item"),
            "group": xr.DataArray(group, dims="item"),
            **panels,
        },
    }


def _square(rdm: np.ndarray, n: int) -> np.ndarray:
    square = np.zeros((n, n))
    square[np.triu_indices(n, 1)] = rdm
    return square + square.T


def arrange(dissimilarity: np.ndarray) -> tuple[np.ndarray, float]:
    """Two-dimensional metric scaling (SMACOF) from the classical solution: no random start.

    Parameters
    ----------
    dissimilarity : (item, item)
        Symmetric up to rounding; negative values count as zero.

    Returns
    -------
    xy : (item, 2)
    stress : float
        Kruskal's stress-1: 0 is perfect, above 0.2 is poor.
    """
    from sklearn.manifold import smacof  # a second of import that only this needs

    d = np.clip((dissimilarity + dissimilarity.T) / 2, 0, None)
    np.fill_diagonal(d, 0)
    if d.max() == 0:
        return np.zeros((len(d), 2)), 0.0
    d = d / d.max()
    centre = np.eye(len(d)) - 1 / len(d)
    values, vectors = np.linalg.eigh(-0.5 * centre @ d**2 @ centre)
    start = vectors[:, -2:] * np.sqrt(np.clip(values[-2:], 1e-12, None))
    start *= np.sign(start[np.abs(start).argmax(axis=0), [0, 1]])  # eigenvectors have no sign
    xy, stress = smacof(d, init=start, n_init=1, max_iter=500, normalized_stress=True)
    return xy[:, ::-1], float(stress)
