"""Observed values, bootstrap draws and permutation null of one family, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.inference import bootstrap, ceiling, contrast, permutation
from rsacompare.inference.bootstrap import Sources, corrected_variance, group_mean, spread
from rsacompare.inference.family import BLOCK, Draws, Family, cell_scores, draw_block
from rsacompare.inference.workers import Progress, in_threads


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

    def __post_init__(self) -> None:
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


@dataclass
class Statistics:
    """Observed values and draws of one family.

    `mean`, `ceiling`: (roi, layer) observed and {sources: (draw, roi, layer)}; `best`: (roi,
    network) observed and {sources: (draw, roi, network)}; `chosen`: (roi, layer) counts.
    """

    mean: np.ndarray
    mean_draws: dict[Sources, np.ndarray]
    ceiling: np.ndarray
    ceiling_draws: dict[Sources, np.ndarray]
    best: np.ndarray
    best_draws: dict[Sources, np.ndarray]
    best_networks: list[str]
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
    need_ceiling = bool(rows)

    def block(index: int, size: int) -> tuple[Any, Any, Any, Any]:
        draws = draw_block(family, options.seed, index, size)
        return _one_block(family, draws, wanted, halves, networks, need_ceiling)

    stage = f"{family.metric}: bootstrap"
    blocks = _blocks(options.n_bootstrap, BLOCK) if wanted else []
    parts = in_threads(block, blocks, n_jobs=n_jobs, stage=stage, progress=progress)
    nothing: list[Sources] = [frozenset()]
    mean, roof, best, _ = _one_block(family, Draws(1), nothing, halves, networks, need_ceiling)
    chosen = sum((p[3] for p in parts), np.zeros((len(family.rois), len(family.layers)), int))
    return Statistics(
        mean=mean[frozenset()][0],
        mean_draws={s: np.concatenate([p[0][s] for p in parts]) for s in wanted},
        ceiling=roof[frozenset()][0],
        ceiling_draws={s: np.concatenate([p[1][s] for p in parts]) for s in wanted},
        best=best[frozenset()][0],
        best_draws={s: np.concatenate([p[2][s] for p in parts]) for s in wanted},
        best_networks=networks,
        chosen=chosen,
    )


def _one_block(
    family: Family,
    draws: Draws,
    wanted: list[Sources],
    halves: contrast.Halves,
    networks: list[str],
    need_ceiling: bool,
) -> tuple[dict[Sources, np.ndarray], dict[Sources, np.ndarray], dict[Sources, np.ndarray], Any]:
    """Group means, lower ceilings and nested best scores of one block of draws."""
    inner = list(dict.fromkeys(s - {"subjects"} for s in wanted))
    cells = cell_scores(family, draws, inner)
    roof = ceiling.LowerCeiling(family, draws)
    means, roofs = {}, {}
    for sources in wanted:
        held = cells[sources - {"subjects"}]
        per_roi, per_roof = [], []
        for roi, place in family.place.items():
            scores = np.broadcast_to(held, (draws.size, held.shape[1]))[:, place]
            weights = draws.subjects[family.subjects[roi]] if "subjects" in sources else None
            per_roi.append(group_mean(scores, weights))
            per_roof.append(
                roof.mean(roi, sources) if need_ceiling else np.full(per_roi[-1].shape, np.nan)
            )
        means[sources] = np.stack(per_roi, axis=1)
        roofs[sources] = np.stack(per_roof, axis=1)
    if networks:
        best, chosen = contrast.best_layers(family, draws, wanted, halves, networks)
    else:
        best = {s: np.empty((draws.size, len(family.rois), 0)) for s in wanted}
        chosen = np.zeros((len(family.rois), len(family.layers)), dtype=int)
    return means, roofs, best, chosen


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
