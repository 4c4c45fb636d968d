"""The specifications of a sensitivity analysis: one choice changed at a time, or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema.sensitivity import AS_STUDIED, CHOICES, CROSSED, REFERENCE
from rsacompare.study.subsets import Regions, how_many, stimuli_of

ILSVRC = "ILSVRC training images"
NO_UNITS = ("pca", "projection")  # what is kept of a layer is no unit of it
Size = int | float
Sets = Mapping[str, "Sequence[str] | str | Path"]


@dataclass(frozen=True)
class Draw:
    """One random draw of units or voxels: `sizes` of each layer, or each (roi, subject)."""

    level: str
    number: int
    sizes: dict[Any, int] = field(hash=False)


@dataclass(frozen=True)
class Specification:
    """What differs from the study; None where nothing does."""

    units: Draw | None = None
    voxels: Draw | None = None
    stimuli: str | None = None
    subject: str | None = None

    @property
    def changed(self) -> str:
        """Which choice it is: one of CHOICES, or reference, or crossed."""
        held = (self.units, self.voxels, self.stimuli, self.subject)
        names = [name for name, value in zip(CHOICES, held, strict=True) if value is not None]
        return REFERENCE if not names else names[0] if len(names) == 1 else CROSSED

    def words(self) -> dict[str, Any]:
        """The columns that name its choices."""
        return {
            "changed": self.changed,
            "units": AS_STUDIED if self.units is None else self.units.level,
            "units_draw": 0 if self.units is None else self.units.number,
            "voxels": AS_STUDIED if self.voxels is None else self.voxels.level,
            "voxels_draw": 0 if self.voxels is None else self.voxels.number,
            "stimuli": AS_STUDIED if self.stimuli is None else f"without {self.stimuli}",
            "subjects": AS_STUDIED if self.subject is None else f"without {self.subject}",
        }


@dataclass(frozen=True)
class Plan:
    """The arguments of `sensitivity`, checked."""

    pair: tuple[str, str]
    pairing: str
    unit_draws: int
    n_units: list[Size]
    n_voxels: list[Size]
    number_draws: int
    sets: dict[str, np.ndarray]
    leave_one_subject_out: bool
    crossed: bool
    n_bootstrap: int
    confidence: float
    sources: tuple[str, ...] | None
    exchange: str
    seed: int

    def described(self) -> dict[str, Any]:
        """For the attributes."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        held["random_state"] = held.pop("seed")
        return {k: v for k, v in held.items() if k not in ("pair", "pairing", "sets")}


def checked_sizes(sizes: Sequence[Size] | None, what: str) -> list[Size]:
    """Numbers from 1, or shares below 1.

    Raises
    ------
    ProtocolError
        Something else.
    """
    found: list[Size] = []
    for size in [sizes] if isinstance(sizes, (int, float)) else sizes or []:
        whole = not isinstance(size, bool) and isinstance(size, (int, np.integer)) and size >= 1
        share = isinstance(size, float) and 0 < size < 1
        if not (whole or share):
            raise ProtocolError(
                f"{what}: numbers from 1 or shares between 0 and 1 are expected, got {size!r}"
            )
        found.append(size)
    return list(dict.fromkeys(found))


def unit_draws(
    studied: Mapping[str, int],
    available: Mapping[str, int],
    sizes: Sequence[Size],
    n_draws: int,
    n_number: int,
) -> tuple[list[Draw], list[str]]:
    """Draws of units, and what has to be told of them.

    Parameters
    ----------
    studied, available : {layer: n}
        How many units the study takes, and how many there are to draw from.
    sizes : shares of `studied`, or numbers
    n_draws : int
        Of as many units as in the study; of layers that have no more, of half of these.
    n_number : int
        Draws of each of `sizes`.
    """
    if not studied:
        return [], []
    repeated = {k: n if available[k] > n else max(1, n // 2) for k, n in studied.items()}
    halved = [k for k, n in studied.items() if available[k] <= n]
    notes = []
    otherwise = "as many units, drawn anew" if not halved else "units drawn anew, half at most"
    level = _units_level(repeated, available, otherwise)
    if halved and n_draws:
        which = (
            "no layer has" if len(halved) == len(studied) else f"{len(halved)} layers do not have"
        )
        notes.append(
            f"{which} more units at hand than are analysed: of these layers each draw takes half"
        )
    draws = [Draw(level, k + 1, repeated) for k in range(n_draws)]
    for size in sizes:
        wanted = {
            k: how_many(size, n) if size < 1 else min(int(size), available[k])
            for k, n in studied.items()
        }
        if size >= 1 and all(size >= n for n in available.values()):
            notes.append(f"{size:,} units: no layer has more, so that there is nothing to draw")
            continue
        if n_draws and wanted == repeated:
            continue
        draws += [Draw(_units_level(wanted, available, f"{_words(size)} units"), k + 1, wanted)
                  for k in range(n_number)]  # fmt: skip
    return draws, notes


def drawable(data: xr.Dataset) -> bool:
    """Whether a layer holds units that could have been others."""
    option = str(data.attrs.get("units_option", ""))
    return "activation" in data and option.split(":")[0] not in NO_UNITS


def _units_level(sizes: Mapping[str, int], available: Mapping[str, int], otherwise: str) -> str:
    """In words: `60 of 120 units` where that is so of every layer."""
    numbers, totals = set(sizes.values()), {available[k] for k in sizes}
    if len(numbers) > 1:
        return otherwise
    of = f" of {totals.pop():,} units" if len(totals) == 1 else " units drawn"
    return f"{numbers.pop():,}{of}"


def _words(size: Size) -> str:
    return f"{100 * size:.3g} % of the" if size < 1 else f"{size:,}"


def voxel_draws(
    regions: Regions, sizes: Sequence[Size], n_number: int
) -> tuple[list[Draw], list[str]]:
    """Draws of the voxels of every region that has more than are asked for, and what to tell."""
    have = {k: int(r.mask.sum()) for k, r in regions.items() if r.mask is not None}
    draws, notes = [], []
    alone = dict.fromkeys(roi for roi, who in regions if (roi, who) not in have)
    if alone and sizes and n_number:
        notes.append(f"{', '.join(alone)}: known by RDMs alone, so that no voxels can be drawn")
    for size in sizes if have else ():
        wanted = {k: how_many(size, n) for k, n in have.items()}
        rois = list(dict.fromkeys(roi for roi, _ in have))
        small = [r for r in rois if all(wanted[k] == n for k, n in have.items() if k[0] == r)]
        kept = {k: n for k, n in wanted.items() if k[0] not in small}
        if small:
            notes.append(f"{size:,} voxels: {', '.join(small)} has no more, for any subject")
        level = f"{100 * size:.3g} % of the voxels" if size < 1 else f"{size:,} voxels"
        draws += [Draw(level, k + 1, kept) for k in range(n_number if kept else 0)]
    return draws, notes


def stimulus_sets(
    given: Sets | None, brain: xr.DataTree, regions: Regions
) -> dict[str, np.ndarray]:
    """Sets of stimuli to leave out: those that the data mark themselves, and those given.

    Images of the ILSVRC training set are known where responses have the coordinate
    `ilsvrc_train` (as those of `god`): networks were trained on these.

    Raises
    ------
    DataError, LabelError, ProtocolError
        A file that cannot be read, an empty set, or a stimulus that nobody saw.
    """
    shown = np.unique(np.concatenate([stimuli_of(r) for r in regions.values()]))
    marked: set[str] = set()
    for node in brain.children.values():
        data = node.to_dataset()
        if "ilsvrc_train" in data.coords:
            held = data["ilsvrc_train"].values == 1
            marked |= set(data["stimulus_id"].values[held].astype(str).tolist())
    found = {ILSVRC: np.array(sorted(marked))} if marked else {}
    for name, ids in (given or {}).items():
        words = _read(ids, name) if isinstance(ids, (str, Path)) else [str(i) for i in ids]
        if not words:
            raise ProtocolError(f"leave_out '{name}' names no stimulus")
        for word in words:
            if word not in shown:
                raise LabelError(
                    f"leave_out '{name}': " + plugins.unknown("stimulus", word, shown.tolist())
                )
        found[name] = np.array(sorted(set(words)))
    for name, held in found.items():
        if len(held) == len(shown):
            raise ProtocolError(f"leave_out '{name}' would leave out all {len(shown)} stimuli")
    return found


def _read(file: str | Path, name: str) -> list[str]:
    """A stimulus a line."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(
            f"leave_out '{name}': {file} cannot be read as text, a stimulus_id a line ({err})"
        ) from err
    return [line.strip() for line in lines if line.strip()]


def listed(
    units: Sequence[Draw],
    voxels: Sequence[Draw],
    stimuli: Sequence[str],
    subjects: Sequence[str],
    crossed: Mapping[str, bool] | None = None,
) -> list[Specification]:
    """The reference, every choice by itself, then the crossing of those that `crossed` marks."""
    alone: dict[str, list[Any]] = {
        "units": list(units),
        "voxels": list(voxels),
        "stimuli": list(stimuli),
        "subject": list(subjects),
    }
    found = [Specification()]
    found += [replace(Specification(), **{k: v}) for k, values in alone.items() for v in values]
    if crossed is not None:
        names = [name for name in alone if crossed.get(name)]
        options = [[None, *alone[name]] for name in names]
        for values in product(*options):
            if sum(v is not None for v in values) > 1:
                found.append(Specification(**dict(zip(names, values, strict=True))))
    return found
