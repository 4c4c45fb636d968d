"""The cells of one metric, arranged for statistics, and their scores under draws."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from rsacompare.errors import DataError
from rsacompare.inference.pools import Key, Pool, pools, stimulus_key
from rsacompare.kernels import resample
from rsacompare.metrics.evidence import Evidence
from rsacompare.metrics.parts import score_in_parts
from rsacompare.schema.results import Cell, Comparison

Sources = frozenset[str]
HELD_OUT_SUBJECTS = 8  # from this many on, the best layer is chosen on other subjects too


@dataclass
class Family:
    """All cells of one metric.

    Attributes
    ----------
    metric : str
    layers : list of str
        Flat labels `network/layer` that have cells.
    network : (layer,) str
    subjects : {roi: tuple of subjects}
        Each ROI has its own.
    place : {roi: (layer, subject) int}
        Position of each cell in `evidence`.
    evidence : list of Evidence
    stimuli : list of keys, per cell
        Cells with the same stimuli and folds share a key, hence their draws.
    ids : {key: (stimulus,) str}
    fold : {key: (stimulus,) int or None}
    pool : {key: Pool}
        The stimuli that are drawn together with those of the key.
    sources : tuple of str
        What the evidence declares beside the subjects.
    scored : (cell,) bool
        Which cells have a score.
    better : 1 or -1
        The direction of closeness.
    ceiling_groups : {roi: list of lists of layer}
        Layers whose cells have the same noise ceiling.
    baselines : frozenset of str
        The networks that are no more than points of comparison.
    """

    metric: str
    layers: list[str]
    network: np.ndarray
    subjects: dict[str, Key]
    place: dict[str, np.ndarray]
    evidence: list[Evidence]
    stimuli: list[Key]
    ids: dict[Key, np.ndarray]
    fold: dict[Key, np.ndarray | None]
    pool: dict[Key, Pool]
    sources: tuple[str, ...]
    scored: np.ndarray
    better: int = 1
    ceiling_groups: dict[str, list[list[int]]] = field(default_factory=dict)
    baselines: frozenset[str] = frozenset()

    @property
    def layer_groups(self) -> list[np.ndarray]:
        """Places of the layers of networks, and of those of baselines: each corrected by itself.

        Baselines are points of comparison, and must not make networks harder to find related.
        """
        below = np.isin(self.network, list(self.baselines))
        return [np.flatnonzero(group) for group in (~below, below) if group.any()]

    @property
    def rois(self) -> list[str]:
        return list(self.subjects)

    def unit_layers(self) -> dict[str, int]:
        """{layer: number of targets} for layers whose units are resampled."""
        if "units" not in self.sources:
            return {}
        found = {}
        for i, layer in enumerate(self.layers):
            places = [int(p) for rows in self.place.values() for p in rows[i]]
            sizes = {self.evidence[p].target_size for p in places}
            if len(sizes) > 1:
                raise DataError(
                    f"{self.metric}, {layer}: its evidence declares the source 'units', which are "
                    f"the same for every subject and ROI of a layer, but holds {min(sizes)} to "
                    f"{max(sizes)} targets; keep dead units as targets, or declare 'stimuli' alone"
                )
            found[layer] = sizes.pop()
        return found

    def layer_of(self) -> list[str]:
        """The layer of each cell."""
        found = [""] * len(self.evidence)
        for rows in self.place.values():
            for layer, row in zip(self.layers, rows, strict=True):
                for place in row.tolist():
                    found[place] = layer
        return found

    def n_stimuli(self, roi: str) -> int:
        """The fewest stimuli, or blocks or categories of these, that any cell is scored on."""
        return min(self._n_levels(p) for p in self.place[roi].ravel())

    def _n_levels(self, place: int) -> int:
        pool = self.pool[self.stimuli[place]]
        return len(pool.own) if pool.level is None else len(np.unique(pool.own_level))

    def n_units(self, roi: str, layers: Sequence[int] | None = None) -> int:
        """The fewest targets that any cell of the ROI (and these layers) has."""
        rows = self.place[roi] if layers is None else self.place[roi][list(layers)]
        return min(self.evidence[p].target_size for p in rows.ravel())


def origins(scores: xr.Dataset) -> dict[str, str]:
    """{baseline: the network it is one of}."""
    told = json.loads(scores.attrs.get("networks", "[]"))
    return {n["name"]: n["baseline_of"] for n in told if n.get("baseline_of")}


def arrange(comparison: Comparison, metric: str, better: int, exchange: str = "auto") -> Family:
    """The family of one metric of a comparison.

    `exchange` says what is drawn and permuted: see :mod:`rsacompare.inference.pools`.
    """
    cells = comparison.cells(metric)
    order = [str(x) for x in comparison.scores["layer"].values]
    have = {c.layer for c in cells}
    layers = [x for x in order if x in have]
    network_of = dict(
        zip(order, comparison.scores["network"].values.astype(str).tolist(), strict=True)
    )
    held = {cell: comparison.evidence[cell] for cell in cells}
    score = comparison.scores["score"].sel(metric=metric, drop=True)
    table = score.notnull().transpose("subject", "roi", "layer").to_series().to_dict()
    scored = {c: bool(table[c.subject, c.roi, c.layer]) for c in cells}
    position = {cell: i for i, cell in enumerate(cells)}
    subjects, place = {}, {}
    for roi in comparison.scores["roi"].values.astype(str).tolist():
        here = [c for c in cells if c.roi == roi]
        # a subject without any score is no level of chance
        able = [c for c in here if scored[c]]
        own = tuple(dict.fromkeys(c.subject for c in able or here))
        if own:
            subjects[roi] = own
            place[roi] = np.array(
                [[position[Cell(metric, layer, roi, s)] for s in own] for layer in layers]
            )
    evidence = list(held.values())
    own_pools = pools(cells, evidence, exchange)
    stimuli = [stimulus_key(e, pool) for e, pool in zip(evidence, own_pools, strict=True)]
    first = {key: evidence[i] for i, key in reversed(list(enumerate(stimuli)))}
    family = Family(
        metric=metric,
        layers=layers,
        network=np.array([network_of[x] for x in layers]),
        subjects=subjects,
        place=place,
        evidence=evidence,
        stimuli=stimuli,
        ids={key: np.asarray(e.stimulus_id) for key, e in first.items()},
        fold={key: e.fold for key, e in first.items()},
        pool=dict(zip(stimuli, own_pools, strict=True)),
        sources=tuple(s for s in ("stimuli", "units") if all(s in e.sources for e in evidence)),
        scored=np.array(list(scored.values())),
        better=better,
        baselines=frozenset(origins(comparison.scores)),
    )
    keys = [e.ceiling_key() for e in evidence]
    for roi, rows in place.items():
        groups: dict[Key, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(tuple(keys[p] for p in row), []).append(i)
        family.ceiling_groups[roi] = list(groups.values())
    return family


@dataclass
class Draws:
    """One block of draws: multiplicities per source, shared by all cells that share the source.

    A source that is absent is not resampled.
    """

    size: int
    stimuli: dict[Key, np.ndarray] = field(default_factory=dict)
    subjects: dict[Key, np.ndarray] = field(default_factory=dict)
    units: dict[str, np.ndarray] = field(default_factory=dict)


BLOCK = 250  # draws at a time: a constant, so that bits never depend on memory or workers


def draw_block(family: Family, seed: int, index: int, size: int) -> Draws:
    """Block `index` of the bootstrap draws; streams are named by what is drawn.

    Stimuli and subjects of the same names get the same draws in every metric and ROI, units in
    every subject and ROI: that is what makes differences paired.
    """
    draws = Draws(size)
    for key, pool in family.pool.items():
        rng = resample.stream(seed, "bootstrap", "stimuli", pool.ids, index)
        draws.stimuli[key] = pool.multiplicities(rng, size)
    for subjects in set(family.subjects.values()):
        rng = resample.stream(seed, "bootstrap", "subjects", subjects, index)
        draws.subjects[subjects] = resample.multiplicities(rng, len(subjects), size)
    for layer, n in family.unit_layers().items():
        rng = resample.stream(seed, "bootstrap", "units", layer, index)
        draws.units[layer] = resample.multiplicities(rng, n, size)
    return draws


def scores_in_parts(
    family: Family,
    draws: Draws,
    wanted: Sequence[Sources],
    halves: Mapping[Key, np.ndarray] | None = None,
) -> list[dict[Sources, np.ndarray]]:
    """Scores of every cell with all stimuli, and with both halves of every split of them.

    Parameters
    ----------
    family, draws
    wanted : subsets of {"stimuli", "units"}
    halves : {key: (split, stimulus) bool}, optional
        First halves; the second ones are what they leave.

    Returns
    -------
    list of {sources: (draw, cell)}, (1, cell) where nothing is resampled
        All stimuli, the first and the second half of the first split, and so on.
    """
    n_parts = 1 if halves is None else 1 + 2 * len(next(iter(halves.values())))
    shape = {s: (n_parts, draws.size if s else 1, len(family.evidence)) for s in wanted}
    out = {s: np.full(shape[s], np.nan) for s in wanted}
    layer_of = family.layer_of()
    nothing: Sources = frozenset()
    stimuli, units = frozenset({"stimuli"}), frozenset({"units"})
    order = (nothing, stimuli, units, stimuli | units)
    for key, ids in family.ids.items():
        places = [i for i, k in enumerate(family.stimuli) if k == key]
        weights = None
        if any("stimuli" in s for s in wanted):
            weights = draws.stimuli.get(key, np.ones((draws.size, len(ids))))
        found = score_in_parts(
            [family.evidence[i] for i in places],
            np.zeros((0, len(ids)), dtype=bool) if halves is None else halves[key],
            weights,
            [draws.units[layer_of[i]] for i in places]
            if any("units" in s for s in wanted)
            else None,
            nothing in out,
        )
        for sources, scores in zip(order, found, strict=True):
            if sources in out and scores is not None:
                out[sources][..., places] = scores
    return [{s: scores[p] for s, scores in out.items()} for p in range(n_parts)]
