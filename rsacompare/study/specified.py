"""One metric's specifications: what each needs computed, its differences, and the finished ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from rsacompare.errors import RsacompareError
from rsacompare.inference.differences import Difference, differences, exchanged
from rsacompare.inference.workers import Progress, in_threads
from rsacompare.metrics.evidence import Evidence, Metric
from rsacompare.schema.results import Cell, Comparison
from rsacompare.schema.sensitivity import NUMBERS
from rsacompare.schema.store import CellStore, digest
from rsacompare.study.cells import Layer, cell_key
from rsacompare.study.cells import plan as plan_cells
from rsacompare.study.specifications import (
    Draw,
    Plan,
    Specification,
    drawable,
    listed,
    unit_draws,
    voxel_draws,
)
from rsacompare.study.subsets import (
    Layers,
    Regions,
    can_leave_out,
    can_take_targets,
    changed,
    chosen,
    compared,
    fewer_units,
    fewer_voxels,
    leave_out,
    stimuli_of,
    without_stimuli,
)

FORMAT = 2  # of kept specifications: another number computes them again


class Analysis:
    """All specifications of one metric.

    What needs no new fit is re-scored: `scored_again` says of which choices that holds.
    """

    def __init__(
        self,
        label: str,
        metric: Metric,
        layers: Layers,
        regions: Regions,
        pool: Layers | None,
        asked: Plan,
        folder: Path | None,
        cells: Path | None,
    ):
        self.label, self.metric, self.asked = label, metric, asked
        self.layers, self.regions = layers, regions
        self.pool = layers if pool is None else pool
        self.drawn_from_pool = pool is not None
        try:
            self.work, _ = plan_cells({label: metric}, layers, regions)
        except RsacompareError:  # told by the plan of all metrics
            self.work = []
        self.cells = cells
        self.finished = None if folder is None else CellStore(folder / "specifications")
        self.meaning = asdict(metric.meaning) | {"options": metric.config()}
        self.notes: list[str] = []
        self.subjects: dict[str, list[str]] = {}
        for roi, subject in dict.fromkeys((c.roi, c.subject) for c in self.work):
            self.subjects.setdefault(roi, []).append(subject)

    def rows(self, n_jobs: int, progress: Progress | None) -> list[dict[str, Any]]:
        """A row per specification and ROI that it concerns, the reference first."""
        used = {k: r for k, r in self.regions.items() if k[1] in self.subjects.get(k[0], ())}
        self.regions = used
        self.reference = compared(self.label, self.metric, self.layers, used, n_jobs, self.cells)
        # a set left out may unbalance categories: levels of chance stay those of the study
        asked = self.asked.exchange
        self.exchange = exchanged(self.reference, self.label) if asked == "auto" else asked
        self.scored_again = self._scored_again()
        wanted = self._specifications()
        pool = None
        if self.scored_again["units"] and self.drawn_from_pool:
            pool = compared(self.label, self.metric, self.pool, used, n_jobs, self.cells)
        groups: dict[tuple[Any, ...], list[Specification]] = {}
        for k, one in enumerate(wanted):
            again = self._computed_again(one)
            # what is only re-scored is a job each
            key = (k,) if again == Specification() else (_key(again),)
            groups.setdefault(key, []).append(one)
        done = in_threads(
            partial(self._group, pool),
            [(group,) for group in groups.values()],
            n_jobs=n_jobs,
            stage=f"{self.label}: specifications",
            progress=progress,
        )
        found = {_key(one): rows for group in done for one, rows in group}
        return [row for one in wanted for row in found[_key(one)]]

    def _scored_again(self) -> dict[str, Any]:
        held = self.reference.evidence
        targets = all(can_take_targets(e) for e in held.values())
        sizes = {c: self._n_units(c.layer) for c in held}
        units = targets and self.metric.config().get("n_units") is None
        units = units and all("units" in e.sources for e in held.values())
        voxels = targets and self.metric.voxelwise
        shown = {key: stimuli_of(region) for key, region in self.regions.items()}
        return {
            "units": units and all(e.target_size == sizes[c] for c, e in held.items()),
            "voxels": voxels
            and all(
                region.mask is not None and e.target_size == region.mask.sum()
                for c, e in held.items()
                if (region := self.regions[c.roi, c.subject])
            ),
            "stimuli": {
                name
                for name, ids in self.asked.sets.items()
                if all(can_leave_out(e, ids, shown[c.roi, c.subject]) for c, e in held.items())
            },
        }

    def _n_units(self, layer: str, layers: Layers | None = None) -> int:
        return int((self.layers if layers is None else layers)[layer].data.sizes.get("neuroid", 0))

    def _specifications(self) -> list[Specification]:
        asked = self.asked
        named = dict.fromkeys(c.layer for c in self.work)
        able = [name for name in named if drawable(self.layers[name].data)]
        most = self.metric.config().get("n_units")
        limit = int(most) if isinstance(most, (int, np.integer)) else None
        studied = {n: min(self._n_units(n), limit or self._n_units(n)) for n in able}
        available = {n: self._n_units(n, self.pool) for n in able}
        # a layer of one unit has no other draw
        studied = {n: k for n, k in studied.items() if available[n] > 1}
        units, told = unit_draws(
            studied, available, asked.n_units, asked.unit_draws, asked.number_draws
        )
        voxels, also = voxel_draws(self.regions, asked.n_voxels, asked.number_draws)
        self.notes += [*told, *also]
        people = list(dict.fromkeys(s for own in self.subjects.values() for s in own))
        for roi, own in self.subjects.items():
            if len(own) == 1 and asked.leave_one_subject_out:
                self.notes.append(f"{roi} has one subject, who cannot be left out")
        again = self.scored_again
        cheap = {"units": again["units"], "voxels": again["voxels"], "subject": True}
        cheap["stimuli"] = again["stimuli"] == set(asked.sets)
        wanted = listed(
            units,
            voxels,
            list(asked.sets),
            people if asked.leave_one_subject_out else [],
            cheap if asked.crossed else None,
        )
        return [one for one in wanted if self._concerned(one)]

    def _concerned(self, one: Specification) -> list[str]:
        """The ROIs that all of its choices change something of."""
        rois = []
        for roi, subjects in self.subjects.items():
            if one.subject is not None and (one.subject not in subjects or len(subjects) == 1):
                continue
            if one.voxels is not None and not any((roi, s) in one.voxels.sizes for s in subjects):
                continue
            if one.stimuli is not None:
                ids = self.asked.sets[one.stimuli]
                if not any(np.isin(ids, stimuli_of(self.regions[roi, s])).any() for s in subjects):
                    continue
            rois.append(roi)
        return rois

    def _computed_again(self, one: Specification) -> Specification:
        """The choices that change what is fitted, alone."""
        again = self.scored_again
        return Specification(
            None if again["units"] else one.units,
            None if again["voxels"] else one.voxels,
            None if one.stimuli in again["stimuli"] else one.stimuli,
        )

    def _group(
        self, pool: Comparison | None, group: list[Specification]
    ) -> list[tuple[Specification, list[dict[str, Any]]]]:
        """The rows of specifications that share what is computed again."""
        base: Comparison | RsacompareError | None = None
        found = []
        for one in group:
            key = self._kept_under(one)
            held = self.finished.load(key) if self.finished is not None else None
            if held is None:
                if base is None:
                    base = self._base(self._computed_again(one))
                start = pool if pool is not None and one.units is not None else base
                held = self._differences(one, start)
                if self.finished is not None:
                    self.finished.save(key, held)
            found.append((one, self._told(one, held)))
        return found

    def _base(self, again: Specification) -> Comparison | RsacompareError:
        if again == Specification():
            return self.reference
        layers: Mapping[str, Layer] = self.layers
        try:
            if again.units is not None:
                drawn = {n: self._units(n, again.units) for n in again.units.sizes}
                fresh = fewer_units({n: self.pool[n] for n in drawn}, drawn)
                layers = {name: fresh.get(name, layer) for name, layer in layers.items()}
            regions: Regions = self.regions
            if again.voxels is not None:
                masks = {k: self._voxels(k, again.voxels) for k in again.voxels.sizes}
                regions = fewer_voxels(regions, masks)
            if again.stimuli is not None:
                regions = without_stimuli(regions, self.asked.sets[again.stimuli])
            return compared(self.label, self.metric, layers, regions)
        except RsacompareError as err:
            return err

    def _units(self, layer: str, draw: Draw) -> np.ndarray:
        total = self._n_units(layer, self.pool)
        names = ("units", layer)
        return chosen(self.asked.seed, names, total, draw.sizes[layer], draw.number)

    def _voxels(self, key: tuple[str, str], draw: Draw) -> np.ndarray:
        mask = self.regions[key].mask
        assert mask is not None  # an RDM has no voxels to draw
        names = ("voxels", *key)
        return chosen(self.asked.seed, names, int(mask.sum()), draw.sizes[key], draw.number)

    def _differences(
        self, one: Specification, base: Comparison | RsacompareError
    ) -> dict[str, np.ndarray]:
        """Plain arrays, a value per ROI; where it fails, NaN and why."""
        rois = self._concerned(one)
        again = self._computed_again(one)

        def change(cell: Cell, evidence: Evidence) -> Evidence | None:
            if cell.roi not in rois or cell.subject == one.subject:
                return None
            if one.units is not None and again.units is None and cell.layer in one.units.sizes:
                evidence = evidence.take(self._units(cell.layer, one.units))  # type: ignore[attr-defined]
            if one.voxels is not None and again.voxels is None:
                key = (cell.roi, cell.subject)
                if key in one.voxels.sizes:
                    evidence = evidence.take(self._voxels(key, one.voxels))  # type: ignore[attr-defined]
            if one.stimuli is not None and again.stimuli is None:
                evidence = leave_out(evidence, self.asked.sets[one.stimuli])
            return evidence

        try:
            if isinstance(base, RsacompareError):
                raise base
            made = differences(
                changed(base, change),
                self.label,
                self.asked.pair,
                self.asked.pairing,
                n_bootstrap=self.asked.n_bootstrap,
                confidence=self.asked.confidence,
                sources=self.asked.sources,
                random_state=self.asked.seed,
                exchange=self.exchange,
            )
        except RsacompareError as err:
            made = [Difference(roi=roi, note=str(err)) for roi in rois]
        names = [f.name for f in fields(Difference)]
        return {name: np.array([getattr(d, name) for d in made]) for name in names}

    def _told(self, one: Specification, held: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        rows = []
        for k, roi in enumerate(held["roi"].astype(str).tolist()):
            row = {name: held[name][k].item() for name in NUMBERS if name in held}
            rows.append(
                {"metric": self.label, "roi": roi, "note": str(held["note"][k])}
                | one.words()
                | row
                | {"n_units": self._median_units(one), "n_voxels": self._median_voxels(one, roi)}
            )
        return rows

    def _median_units(self, one: Specification) -> float:
        sizes = {} if one.units is None else one.units.sizes
        most = self.metric.config().get("n_units")
        found = []
        for name in dict.fromkeys(c.layer for c in self.work):
            if self.layers[name].kind == "activation":
                n = sizes.get(name, self._n_units(name))
                found.append(min(n, int(most)) if most else n)
        return float(np.median(found)) if found else np.nan

    def _median_voxels(self, one: Specification, roi: str) -> float:
        sizes = {} if one.voxels is None else one.voxels.sizes
        found = []
        for subject in self.subjects[roi]:
            mask = self.regions[roi, subject].mask
            if mask is not None and subject != one.subject:
                found.append(sizes.get((roi, subject), int(mask.sum())))
        return float(np.median(found)) if found else np.nan

    def _kept_under(self, one: Specification) -> str:
        """Content hash of a specification: data, metric, code, choices and numbers."""
        asked = self.asked
        ids = None if one.stimuli is None else asked.sets[one.stimuli].tolist()
        return digest(
            FORMAT, self._data, _key(one), ids, asked.pair, asked.pairing,
            asked.n_bootstrap, asked.confidence, asked.sources, asked.exchange, asked.seed,
        )  # fmt: skip

    @cached_property
    def _data(self) -> str:
        keys = [
            cell_key(self.metric, self.layers[c.layer], self.regions[c.roi, c.subject])
            for c in self.work
        ]
        return digest(keys, self.label, [layer.hash for layer in self.pool.values()])


def _key(one: Specification) -> str:
    """Its choices as text, sizes included."""

    def told(draw: Draw | None) -> Any:
        return draw and (draw.number, sorted((str(k), n) for k, n in draw.sizes.items()))

    return repr((told(one.units), told(one.voxels), one.stimuli, one.subject))
