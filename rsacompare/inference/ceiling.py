"""Noise ceilings of every cell and group, observed and under draws."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rsacompare.inference.bootstrap import group_mean
from rsacompare.inference.family import Draws, Family, Key, Sources
from rsacompare.metrics.parts import target_ceilings

NOTHING: Sources = frozenset()
STIMULI, UNITS = frozenset({"stimuli"}), frozenset({"units"})


def observed(family: Family) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{roi: (lower, upper)}, each (layer, subject); NaN where the evidence knows none."""
    found = {}
    for roi, rows in family.place.items():
        low, high = np.full(rows.shape, np.nan), np.full(rows.shape, np.nan)
        for group in family.ceiling_groups[roi]:
            low[group], high[group] = _ceilings(family, roi, group[0], Draws(1), NOTHING)
        found[roi] = (low, high)
    return found


class LowerCeiling:
    """Subject means of the lower ceilings of one block of draws.

    Parameters
    ----------
    family : Family
    draws : Draws
    wanted : subsets of the sources, optional
        Those that will be asked for: what they share is then done at once.
    """

    def __init__(self, family: Family, draws: Draws, wanted: Iterable[Sources] = ()):
        self.family = family
        self.draws = draws
        self.drawn: Sources = frozenset().union(*wanted)
        self._own: dict[tuple[str, int, Sources], np.ndarray] = {}

    def mean(self, roi: str, sources: Sources) -> np.ndarray:
        """When `sources` are resampled: (draw, layer)."""
        family, draws = self.family, self.draws
        out = np.full((draws.size, len(family.layers)), np.nan)
        subjects = draws.subjects[family.subjects[roi]] if "subjects" in sources else None
        for group in family.ceiling_groups[roi]:
            # units are drawn per layer: layers of one ceiling still differ in their draws
            for same in [[i] for i in group] if "units" in sources else [group]:
                low = self._per_subject(roi, same[0], sources)
                every = np.broadcast_to(low, (draws.size, low.shape[-1]))
                out[:, same] = group_mean(every, subjects)[:, None]
        return out

    def _per_subject(self, roi: str, layer: int, sources: Sources) -> np.ndarray:
        """Lower ceilings (1 or draw, subject); each computed once where subjects do not pool."""
        first = self.family.evidence[self.family.place[roi][layer, 0]]
        if first.ceiling_pools_subjects:
            return _ceilings(self.family, roi, layer, self.draws, sources)[0]
        inner = sources - {"subjects"}
        key = (roi, layer, inner)
        if key not in self._own:
            self._fill(roi, layer, inner | self.drawn)
        if key not in self._own:
            self._own[key] = _ceilings(self.family, roi, layer, self.draws, inner)[0]
        return self._own[key]

    def _fill(self, roi: str, layer: int, sources: Sources) -> None:
        """Ceilings of targets, whatever is drawn, in one pass."""
        family, draws = self.family, self.draws
        row = family.place[roi][layer].tolist()
        own: dict[Key, list[int]] = {}
        for subject, place in enumerate(row):
            own.setdefault(family.stimuli[place], []).append(subject)
        out: dict[Sources, np.ndarray] = {}
        for key, subjects in own.items():
            found = target_ceilings(
                [family.evidence[row[i]] for i in subjects],
                draws.stimuli.get(key) if "stimuli" in sources else None,
                draws.units.get(family.layers[layer]) if "units" in sources else None,
            )
            if found is None:
                return
            for drawn, low in zip((NOTHING, STIMULI, UNITS, STIMULI | UNITS), found, strict=True):
                if low is not None:
                    room = np.full((low.shape[1], len(row)), np.nan)
                    out.setdefault(drawn, room)[:, subjects] = low[0]
        self._own |= {(roi, layer, drawn): low for drawn, low in out.items()}


def _ceilings(
    family: Family, roi: str, layer: int, draws: Draws, sources: Sources
) -> tuple[np.ndarray, np.ndarray]:
    """Ceilings of one layer: (1 or draw, subject). Only equal stimuli can be pooled."""
    row = family.place[roi][layer]
    keys = [family.stimuli[p] for p in row]
    subjects = draws.subjects[family.subjects[roi]] if "subjects" in sources else None
    units = draws.units[family.layers[layer]] if "units" in sources else None
    n = draws.size if sources else 1
    low, high = np.full((n, len(row)), np.nan), np.full((n, len(row)), np.nan)
    for key in dict.fromkeys(keys):
        own = [i for i, k in enumerate(keys) if k == key]
        cells = [family.evidence[row[i]] for i in own]
        low[:, own], high[:, own] = type(cells[0]).group_ceiling(
            cells,
            draws.stimuli[key] if "stimuli" in sources else None,
            None if subjects is None else subjects[:, own],
            units,
        )
    return low, high
