"""All layers of a network as one flexible model of the brain's dissimilarities."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import combine, resample
from rsacompare.metrics.combined_evidence import CombinedEvidence
from rsacompare.metrics.evidence import Evidence, PairEvidence
from rsacompare.schema import labels
from rsacompare.schema.results import Cell, Comparison, layer_coords
from rsacompare.study.cells import LABELS

COMBINED = "combined"


def combine_layers(
    comparison: Comparison,
    metric: str = "rsa",
    *,
    weights: str = "nonnegative",
    n_folds: int | None = None,
    random_state: int = 0,
) -> Comparison:
    """One score per network: its layers' RDMs, combined.

    Parameters
    ----------
    comparison : Comparison
        From `rsacompare.compare`, with a metric on pairs of stimuli.
    metric : str
        Its label there.
    weights : {"nonnegative", "equal"}
        `nonnegative`: weights of the layers fitted to each subject and ROI on the pairs of some
        stimuli, scored on the pairs of the others (cross-validated over stimuli); the best
        non-negative combination for the metric's comparator, or for `corr` where that one goes by
        ranks. `equal`: every layer's RDM over its standard deviation counts alike, nothing is
        fitted and all pairs are scored.
    n_folds : int, optional
        Of stimuli, or of whole time blocks. By default 2 below 24 stimuli, 3 below 40, 4 below
        60, else 5; a fold must hold four stimuli, so that its pairs can be ranked.
    random_state : int
        Of the folds.

    Returns
    -------
    Comparison
        With one layer `network/combined` per network, for `rsacompare.infer` and the pages. A
        table among its `extras` holds the mean weight of every layer.

    Raises
    ------
    ProtocolError
        No such metric or way of weighing; a metric whose evidence is not on pairs.
    DataError
        Too few stimuli.

    Notes
    -----
    Pairs between a fold and the others are neither fitted nor scored, as in rsatoolbox's
    cross-validation. A flexible model can win by its freedom in no fold: it is never scored where
    it was fitted. Khaligh-Razavi & Kriegeskorte 2014; Schütt et al. 2023.
    """
    scores = comparison.scores
    known = scores["metric"].values.astype(str).tolist()
    if metric not in known:
        raise ProtocolError(plugins.unknown("metric of the comparison", metric, known))
    if weights not in ("nonnegative", "equal"):
        raise ProtocolError(plugins.unknown("way of weighing", weights, ["nonnegative", "equal"]))
    network_of = dict(zip(scores["layer"].values, scores["network"].values, strict=True))
    groups: dict[Cell, dict[str, PairEvidence]] = {}
    for cell in comparison.cells(metric):
        held = comparison.evidence[cell]
        require_pairs(metric, held)
        network = str(network_of[cell.layer])
        whole = cell._replace(layer=f"{network}/{COMBINED}")
        groups.setdefault(whole, {})[cell.layer] = held
    evidence: dict[Cell, Evidence] = {}
    theta: dict[str, list[np.ndarray]] = {}
    for cell, layers in groups.items():
        made, found = _combine(cell, layers, weights, n_folds, random_state)
        evidence[cell] = made
        for layer, value in zip(layers, found, strict=True):
            theta.setdefault(layer, []).append(value)
    networks = list(dict.fromkeys(str(n) for n in scores["network"].values))
    networks = [n for n in networks if any(c.layer == f"{n}/{COMBINED}" for c in evidence)]
    coords: dict[str, Any] = {
        "metric": [metric],
        "subject": scores["subject"].values,
        "roi": scores["roi"].values,
        **layer_coords([(n, COMBINED, {"layer_index": 0, "depth": 1.0}) for n in networks]),
    }
    dims = ("metric", "subject", "roi", "layer")
    empty = np.full([len(coords[d]) for d in dims], np.nan)
    data = xr.Dataset({k: (dims, empty.copy()) for k in ("score", "n_targets")}, coords=coords)
    for cell, held in evidence.items():
        at = {"metric": metric, "subject": cell.subject, "roi": cell.roi, "layer": cell.layer}
        data["score"].loc[at], data["n_targets"].loc[at] = held.score(), held.n_targets
    data.attrs = dict(scores.attrs) | labels.clean_attrs(
        {"meaning": {metric: _meaning(scores, metric, weights)}}
    )
    return Comparison(data, evidence, [_table(metric, theta)])


def require_pairs(metric: str, evidence: Evidence) -> None:
    """Raise ProtocolError where evidence has no dissimilarities to combine."""
    if type(evidence) is not PairEvidence:
        raise ProtocolError(
            f"{metric}: layers are combined by their dissimilarities, as 'rsa' gives them; this "
            f"metric gives {type(evidence).__name__}"
        )


def _combine(
    cell: Cell,
    layers: dict[str, PairEvidence],
    weights: str,
    n_folds: int | None,
    random_state: int,
) -> tuple[Evidence, np.ndarray]:
    """Evidence of one network, subject and ROI, and the mean weight of each layer."""
    first = next(iter(layers.values()))
    if any((e.stimulus_id != first.stimulus_id).any() for e in layers.values()):
        raise DataError(f"{cell.layer}, {cell.roi}, {cell.subject}: layers of different stimuli")
    models = np.stack([held.network for held in layers.values()])
    if weights == "equal":
        sd = models.std(axis=1)
        scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0)
        whole = copy.copy(first)
        whole.__dict__.pop("keys", None)  # the hashes of another vector
        whole.network = scale @ models
        return whole, scale / max(scale.sum(), np.finfo(float).tiny)
    ids = np.asarray(first.stimulus_id)
    n = len(ids)
    n_folds = n_folds or (2 if n < 24 else 3 if n < 40 else 4 if n < 60 else 5)
    if n_folds < 2 or n < 4 * n_folds:
        raise DataError(
            f"{cell.roi}, {cell.subject}: {n} stimuli cannot make {n_folds} folds of four; give "
            "fewer folds (n_folds=…), or weights='equal', which fits nothing"
        )
    if first.block is None:
        fold = resample.folds(ids, n_folds, random_state)
    else:  # neighbours in time resemble each other: whole blocks
        names, member = np.unique(first.block, return_inverse=True)
        if len(names) < n_folds:
            raise DataError(
                f"{cell.roi}, {cell.subject}: {len(names)} time blocks cannot make {n_folds} "
                "folds; give fewer folds (n_folds=…), or weights='equal', which fits nothing"
            )
        fold = resample.folds(names, n_folds, random_state)[member]
    fit = first.comparator if first.comparator in combine.FITS else "corr"
    i, j = np.triu_indices(n, 1)
    predicted = np.zeros(len(i))
    found = np.empty((n_folds, len(models)))
    for f in range(n_folds):
        train, test = ((fold[i] != f) & (fold[j] != f)), ((fold[i] == f) & (fold[j] == f))
        found[f] = combine.nonnegative(models[:, train], first.brain[train], fit)
        found[f] = np.nan_to_num(found[f])  # nothing varies: nothing is predicted
        predicted[test] = found[f] @ models[:, test]
    made = CombinedEvidence(ids, predicted, first.brain, fold, first.comparator, found)
    for name in LABELS:
        setattr(made, name, getattr(first, name))
    return made, found.mean(axis=0)


def _meaning(scores: xr.Dataset, metric: str, weights: str) -> dict[str, Any]:
    meaning = json.loads(scores.attrs["meaning"])[metric]
    comparator = meaning["options"].get("comparator", "corr")
    if weights == "equal":
        how = (
            "All layers of a network were one model: the sum of their dissimilarities, each over "
            "its standard deviation."
        )
    else:
        fit = comparator if comparator in combine.FITS else "corr"
        how = (
            "All layers of a network were one model: the non-negative combination of their "
            f"dissimilarities that agrees best ({fit}) with the subject's on the pairs of some "
            "stimuli, scored on the pairs of the others and averaged over folds."
        )
    meaning["sentence"] = f"{meaning['sentence']} {how}".strip()
    meaning["options"] = meaning["options"] | {"layers": weights}
    return meaning


def _table(metric: str, theta: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    names = list(theta)
    columns = {
        "network": [n.split("/", 1)[0] for n in names],
        "layer": [n.split("/", 1)[1] for n in names],
        "weight": [float(np.mean(theta[n])) for n in names],
    }
    return {
        "kind": "table",
        "metric": metric,
        "title": "Weights of the layers",
        "caption": (
            "Weight of each layer's dissimilarities in its network's combination: the weights of a "
            "fit add up to 1; mean over folds, subjects and ROIs."
        ),
        "arrays": {name: xr.DataArray(values, dims="row") for name, values in columns.items()},
        "columns": {"weight": "share of the combination"},
    }
