"""Observed values, bootstrap draws and permutation null of one family, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.inference import bootstrap, ceiling, contrast, permutation
from rsacompare.inference.bootstrap import Sources, corrected_variance, group_mean, spread
from rsacompare.inference.family import BLOCK, Draws, Family, draw_block, scores_in_parts
from rsacompare.inference.workers import Progress, in_threads

INTERVALS = ("t", "percentile", "bca", "studentised")
EXCHANGE = ("auto", "stimuli", "categories")
NULLS = ("permutation", "phase")


@dataclass(frozen=True)
class Options:
    """The numbers of one inference, checked."""

    n_bootstrap: int
    n_permutations: int
    seed: int
    confidence: float
    equivalence_bound: float
    n_splits: int
    sources: tuple[str, ...] | None
    interval: str = "t"
    exchange: str = "auto"
    null: str = "permutation"
    hierarchy: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, known in (("interval", INTERVALS), ("exchange", EXCHANGE), ("null", NULLS)):
            if getattr(self, name) not in known:
                raise ProtocolError(plugins.unknown(name, getattr(self, name), known))
        for name, least in (("n_bootstrap", 10), ("n_permutations", 1), ("n_splits", 1)):
            if getattr(self, name) < least:
                raise ProtocolError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.confidence < 1:
            raise ProtocolError(f"confidence must lie between 0 and 1, got {self.confidence}")
        if not self.equivalence_bound > 0:
            raise ProtocolError(f"equivalence_bound must be positive, got {self.equivalence_bound}")
        for source in self.sources or ():
            if source not in bootstrap.ORDER:
                raise ProtocolError(plugins.unknown("source", source, bootstrap.ORDER))

    def described(self) -> dict[str, Any]:
        """For the result's attributes."""
        held = {k: v for k, v in vars(self).items() if k not in ("seed", "sources")}
        return held | {"requested_sources": None if self.sources is None else list(self.sources)}


@dataclass(frozen=True)
class Values:
    """What every statistic of a family is a function of; leading dims (...) are draws.

    `mean`: (..., roi, layer) group means of the scores; `ceiling`: (..., roi, layer) group means of
    the lower noise ceilings; `best`: (..., roi, network) of each network's best layer, chosen on
    other stimuli than it is scored on.
    """

    mean: np.ndarray
    ceiling: np.ndarray
    best: np.ndarray


@dataclass
class Statistics:
    """Observed values and draws of one family.

    `observed` has no leading dims, `draws` one Values (draw, ...) per subset of the resampled
    sources. `networks` names the last dim of `best`; `chosen`: (roi, layer), how often each layer
    was the best.
    """

    observed: Values
    draws: dict[Sources, Values]
    networks: list[str]
    chosen: np.ndarray


def bootstrap_family(
    family: Family,
    rows: list[contrast.Row],
    options: Options,
    n_jobs: int,
    progress: Progress | None,
) -> Statistics:
    """Observed values and draws of a family: every subset of its sources, same draws for all."""
    most = max(len(s) for s in family.subjects.values())
    used = bootstrap.available(family.sources, most, options.sources)
    wanted = bootstrap.subsets(used)
    halves = contrast.Halves.split(family, options.n_splits, options.seed)
    networks = list(dict.fromkeys(n for r in rows if r.pairing == "best" for n in (r.a, r.b)))

    def block(index: int, size: int) -> tuple[dict[Sources, Values], np.ndarray]:
        draws = draw_block(family, options.seed, index, size)
        return one_block(family, draws, wanted, halves, networks)

    stage = f"{family.metric}: bootstrap"
    blocks = _blocks(options.n_bootstrap, BLOCK) if wanted else []
    parts = in_threads(block, blocks, n_jobs=n_jobs, stage=stage, progress=progress)
    nothing: Sources = frozenset()
    alone, _ = one_block(family, Draws(1), [nothing], halves, networks)
    observed = Values(*(getattr(alone[nothing], f.name)[0] for f in fields(Values)))
    draws = {
        s: Values(
            *(np.concatenate([getattr(p[0][s], f.name) for p in parts]) for f in fields(Values))
        )
        for s in wanted
    }
    chosen = sum((p[1] for p in parts), np.zeros((len(family.rois), len(family.layers)), int))
    return Statistics(observed, draws, networks, chosen)


def one_block(
    family: Family,
    draws: Draws,
    wanted: Sequence[Sources],
    halves: contrast.Halves,
    networks: list[str],
) -> tuple[dict[Sources, Values], np.ndarray]:
    """Values of one block of draws, and how often each layer was the best."""
    inner = list(dict.fromkeys(s - {"subjects"} for s in wanted))
    parts = scores_in_parts(family, draws, inner, halves.stimuli if networks else None)
    cells = parts[0]
    roof = ceiling.LowerCeiling(family, draws, wanted)
    if networks:
        best, chosen = contrast.best_layers(family, draws, wanted, halves, networks, parts)
    else:
        best = {s: np.empty((draws.size, len(family.rois), 0)) for s in wanted}
        chosen = np.zeros((len(family.rois), len(family.layers)), dtype=int)
    values = {}
    for sources in wanted:
        held = cells[sources - {"subjects"}]
        means, roofs = [], []
        for roi, place in family.place.items():
            scores = np.broadcast_to(held, (draws.size, held.shape[1]))[:, place]
            weights = draws.subjects[family.subjects[roi]] if "subjects" in sources else None
            means.append(group_mean(scores, weights))
            roofs.append(roof.mean(roi, sources))
        values[sources] = Values(np.stack(means, axis=1), np.stack(roofs, axis=1), best[sources])
    return values, chosen


def null_family(
    family: Family, options: Options, n_jobs: int, progress: Progress | None
) -> np.ndarray:
    """Group means under permuted stimuli: (permutation, roi, layer)."""

    def block(index: int, size: int) -> np.ndarray:
        return permutation.null_block(family, options.seed, index, size)

    stage = f"{family.metric}: permutations"
    blocks = _blocks(options.n_permutations, permutation.BLOCK)
    null = in_threads(block, blocks, n_jobs=n_jobs, stage=stage, progress=progress)
    return permutation.widen_cross_validated(family, np.concatenate(null))


def _blocks(n: int, size: int) -> list[tuple[int, int]]:
    return [(i, min(size, n - start)) for i, start in enumerate(range(0, n, size))]


def roi_sources(family: Family, roi: str, options: Options) -> tuple[str, ...]:
    """What is resampled for an ROI."""
    return bootstrap.available(family.sources, len(family.subjects[roi]), options.sources)


def levels_of(
    family: Family, roi: str, options: Options, layers: Sequence[int] | None = None
) -> dict[str, int]:
    """How many levels each resampled source of an ROI has."""
    counts = {
        "subjects": len(family.subjects[roi]),
        "stimuli": family.n_stimuli(roi),
        "units": family.n_units(roi, layers) if "units" in family.sources else 0,
    }
    return {s: counts[s] for s in roi_sources(family, roi, options)}


def standard_error(draws: dict[Sources, np.ndarray], levels: dict[str, int]) -> np.ndarray:
    """SE of a statistic from its draws under every subset of the ROI's sources."""
    used = {s: spread(d) for s, d in draws.items() if s <= levels.keys()}
    if not used or min(levels.values()) < 2:
        shape = next(iter(draws.values())).shape[1:] if draws else ()
        return np.full(shape, np.nan)
    return np.sqrt(np.maximum(corrected_variance(used, levels), 0.0))
