"""Leaving out one level of a source of chance: of the data, or of each bootstrap draw."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rsacompare.inference.family import Draws, Family

if TYPE_CHECKING:
    from rsacompare.inference.statistics import Values


@dataclass(frozen=True)
class Strata:
    """The samples that make up a source: each is drawn by itself, with levels of its own.

    Stimuli: one sample per pool, whose levels are stimuli or blocks of these; subjects: one per
    group of subjects that share their ROIs; units: one per layer.
    """

    source: str
    names: list[Any]
    sizes: list[int]

    @classmethod
    def of(cls, family: Family, source: str) -> Strata:
        """The samples of a source of a family."""
        sizes: dict[Any, int] = {}
        if source == "stimuli":
            for pool in family.pool.values():
                sizes[tuple(pool.ids.tolist())] = pool.n_levels
        elif source == "subjects":
            sizes = {own: len(own) for own in family.subjects.values()}
        else:
            sizes = dict(family.unit_layers())
        return cls(source, list(sizes), list(sizes.values()))

    def draws(self, family: Family, counts: np.ndarray) -> Draws:
        """Draws in which each level counts so often: (draw, level of all samples)."""
        apart = np.split(counts, np.cumsum(self.sizes)[:-1], axis=1)
        parts = dict(zip(self.names, apart, strict=True))
        made = Draws(len(counts))
        if self.source == "stimuli":
            for key, pool in family.pool.items():
                held = parts[tuple(pool.ids.tolist())]
                made.stimuli[key] = np.take(held, pool.own_level, axis=1)
        elif self.source == "subjects":
            made.subjects = parts
        else:
            made.units = parts
        return made

    def counts(self, family: Family, draws: Draws) -> np.ndarray:
        """How often each level was drawn: (draw, level of all samples)."""
        if self.source == "subjects":
            return np.concatenate([draws.subjects[name] for name in self.names], axis=1)
        if self.source == "units":
            return np.concatenate([draws.units[name] for name in self.names], axis=1)
        parts = {n: np.zeros((draws.size, k)) for n, k in zip(self.names, self.sizes, strict=True)}
        for key, pool in family.pool.items():
            parts[tuple(pool.ids.tolist())][:, pool.own_level] = draws.stimuli[key]
        return np.concatenate([parts[name] for name in self.names], axis=1)


@dataclass(frozen=True)
class Deletions:
    """One copy of one drawn level left out at a time, an entry per draw and distinct level.

    `draw`, `level`, `copies`: (entry,), draw by draw and sample by sample; `start`: where each
    draw and sample begins; `size`: (sample,), of the samples with two levels at least.
    """

    draw: np.ndarray
    level: np.ndarray
    copies: np.ndarray
    start: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, sizes: list[int]) -> Deletions:
        """All deletions of (draw, level) multiplicities."""
        sample = np.repeat(np.arange(len(sizes)), sizes)
        usable = np.asarray(sizes)[sample] > 1
        draw, level = np.nonzero((counts > 0) & usable)
        place = draw * len(sizes) + sample[level]
        start = np.flatnonzero(np.diff(place, prepend=-1))
        size = np.asarray([n for n in sizes if n > 1], dtype=float)
        return cls(draw, level, np.asarray(counts[draw, level], dtype=float), start, size)

    def left(self, counts: np.ndarray, part: slice) -> np.ndarray:
        """Multiplicities with the entry's copy left out: (entry, level)."""
        out = np.array(counts[self.draw[part]], dtype=float)
        out[np.arange(len(out)), self.level[part]] -= 1
        return out


@dataclass(frozen=True)
class Part:
    """The values of some deletions."""

    deletions: Deletions
    values: Values


@dataclass(frozen=True)
class Jackknife:
    """Values with each level left out, of the data alone or of each draw in turn."""

    parts: list[Part]

    def moments(self, function: Callable[[Values], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Jackknife standard error and acceleration of a statistic, per draw: (draw, ...).

        Notes
        -----
        With θ_i the statistic without level i, and θ̄ their mean over the n levels of a sample
        (copies count as often as they are drawn), the variance is (n − 1)/n Σ (θ_i − θ̄)² and the
        acceleration Σ U³/n³ / (6 (Σ U²/n²)^{3/2}) with U = (n − 1)(θ̄ − θ_i), both summed over
        samples where a source has several (Efron & Tibshirani 1993, sections 11.5 and 14.3).
        """
        spreads, accelerations = [], []
        for part in self.parts:
            found = _moments(np.asarray(function(part.values), dtype=float), part.deletions)
            spreads.append(found[0])
            accelerations.append(found[1])
        return np.concatenate(spreads), np.concatenate(accelerations)


def _moments(theta: np.ndarray, deletions: Deletions) -> tuple[np.ndarray, np.ndarray]:
    n = deletions.size.reshape(1, -1, *[1] * (theta.ndim - 1))
    copies = deletions.copies.reshape(-1, *[1] * (theta.ndim - 1))
    lengths = np.diff(deletions.start, append=len(theta))

    def total(values: np.ndarray) -> np.ndarray:  # (draw, sample, ...)
        sums = np.add.reduceat(copies * values, deletions.start, axis=0)
        return sums.reshape(-1, n.shape[1], *theta.shape[1:])

    mean = (total(theta) / n).reshape(-1, *theta.shape[1:])
    away = np.repeat(mean, lengths, axis=0) - theta
    variance = ((n - 1) / n * total(away**2)).sum(axis=1)
    share = (n - 1) / n
    third = (share**3 * total(away**3)).sum(axis=1)
    second = (share**2 * total(away**2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        acceleration = np.where(second == 0, 0.0, third / (6 * second**1.5))
    return np.sqrt(variance), acceleration


@dataclass
class Spool:
    """Arrays written to a nameless temporary file, so that memory holds few at a time."""

    file: Any = field(default_factory=tempfile.TemporaryFile)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()  # what is mapped stays readable, and goes with its last reader

    def add(self, array: np.ndarray) -> tuple[int, tuple[int, ...]]:
        """Keep an array; gives its place."""
        with self.lock:
            start = self.file.tell() // 8
            self.file.write(np.ascontiguousarray(array, dtype=np.float64).data)
        return start, array.shape

    def reader(self) -> Callable[[tuple[int, tuple[int, ...]]], np.ndarray]:
        """From place to array, read from disk when it is used; nothing can be added any more."""
        self.file.flush()
        held = np.memmap(self.file, dtype=np.float64, mode="r") if self.file.tell() else np.empty(0)
        return lambda place: held[place[0] :][: int(np.prod(place[1]))].reshape(place[1])
