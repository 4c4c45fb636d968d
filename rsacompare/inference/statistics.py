"""Observed values, bootstrap draws and permutation null of one family, block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.inference import bootstrap, ceiling, contrast, permutation, phase
from rsacompare.inference.bootstrap import Sources, corrected_variance, group_mean, spread
from rsacompare.inference.family import BLOCK, Draws, Family, draw_block, scores_in_parts
from rsacompare.inference.leave_out import Deletions, Jackknife, Part, Spool, Strata
from rsacompare.inference.workers import Progress, in_threads

INTERVALS = ("t", "percentile", "bca", "studentised")
EXCHANGE = ("auto", "stimuli", "categories")
NULLS = ("permutation", "phase")
MOST_DELETIONS = 10_000_000  # of a studentised interval: days, and more than a disk holds


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
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise ProtocolError(f"{name}: a whole number is expected, got {value!r}")
            if value < least:
                raise ProtocolError(f"{name} must be at least {least}, got {value}")
        if not 0 < self.confidence < 1:
            raise ProtocolError(f"confidence must lie between 0 and 1, got {self.confidence}")
        if not self.equivalence_bound > 0:
            raise ProtocolError(f"equivalence_bound must be positive, got {self.equivalence_bound}")
        if self.sources is not None and not self.sources:
            raise ProtocolError(
                "sources names nothing to resample; leave it out for all that there are, or name "
                f"some of {', '.join(bootstrap.ORDER)}"
            )
        for source in self.sources or ():
            if source not in bootstrap.ORDER:
                raise ProtocolError(plugins.unknown("source", source, bootstrap.ORDER))
        least = int(np.ceil(2 / (1 - self.confidence) - 1e-9))
        if self.interval != "t" and self.n_bootstrap < least:
            raise ProtocolError(
                f'interval="{self.interval}" at {100 * self.confidence:g} % reads the tails of the '
                f"draws: n_bootstrap must be at least {least} (thousands are better), got "
                f"{self.n_bootstrap}"
            )

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
    was the best. `jackknife`: the values with one level left out, for BCa and studentised
    intervals; `redrawn`: the same of every draw, for studentised ones. None where not asked for.
    """

    observed: Values
    draws: dict[Sources, Values]
    networks: list[str]
    chosen: np.ndarray
    jackknife: Jackknife | None = None
    redrawn: Jackknife | None = None


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
    if options.interval == "studentised" and len(used) == 1:
        scores = options.n_bootstrap * sum(Strata.of(family, used[0]).sizes)
        if scores > MOST_DELETIONS:
            raise ProtocolError(
                f'{family.metric}: interval="studentised" over {used[0]} would score everything '
                f'{scores:,} times; take interval="bca", or fewer draws than n_bootstrap = '
                f"{options.n_bootstrap:,}"
            )
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
    observed = Values(*(a[0] for a in _joined([alone[nothing]])))
    draws = {s: Values(*_joined([p[0][s] for p in parts])) for s in wanted}
    chosen = sum((p[1] for p in parts), np.zeros((len(family.rois), len(family.layers)), int))
    found = Statistics(observed, draws, networks, chosen)
    if len(used) == 1 and options.interval in ("bca", "studentised"):
        given = (family, used[0], halves, networks)
        ones = np.ones((1, sum(Strata.of(family, used[0]).sizes)))
        found.jackknife = jackknife(*given, [lambda: ones], n_jobs, progress)
        if options.interval == "studentised":
            counts = [partial(_drawn, family, used[0], options.seed, *b) for b in blocks]
            found.redrawn = jackknife(*given, counts, n_jobs, progress)
    return found


def _joined(parts: Sequence[Values]) -> list[np.ndarray]:
    """The fields of values whose draws follow each other."""
    return [np.concatenate([getattr(v, f.name) for v in parts]) for f in fields(Values)]


def _drawn(family: Family, source: str, seed: int, index: int, size: int) -> np.ndarray:
    return Strata.of(family, source).counts(family, draw_block(family, seed, index, size))


def jackknife(
    family: Family,
    source: str,
    halves: contrast.Halves,
    networks: list[str],
    counts: Sequence[Callable[[], np.ndarray]],
    n_jobs: int,
    progress: Progress | None,
) -> Jackknife | None:
    """Values with one level of a source left out, for blocks of draws; None without two levels.

    Parameters
    ----------
    source : str
    counts : callables, a block each
        How often each draw holds each level: (draw, level of all samples), see `Strata`.

    Notes
    -----
    Costs one score of everything per draw and distinct level; values lie in a temporary file
    (8 bytes per draw, level, ROI and layer, twice).
    """
    strata = Strata.of(family, source)
    if max(strata.sizes) < 2:
        return None
    wanted: Sources = frozenset({source})

    def block(drawn: Callable[[], np.ndarray], spool: Spool) -> tuple[Deletions, list[Any]]:
        held = drawn()
        deletions = Deletions.of(held, strata.sizes)
        pieces: list[Values] = []
        for start in range(0, len(deletions.draw), BLOCK):
            left = deletions.left(held, slice(start, start + BLOCK))
            draws = strata.draws(family, left)
            pieces.append(one_block(family, draws, [wanted], halves, networks)[0][wanted])
        return deletions, [spool.add(a) for a in _joined(pieces)]

    stage = f"{family.metric}: leaving out one level"
    with Spool() as spool:
        arguments = [(c, spool) for c in counts]
        found = in_threads(block, arguments, n_jobs=n_jobs, stage=stage, progress=progress)
        read = spool.reader()
    return Jackknife([Part(d, Values(*map(read, places))) for d, places in found])


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
    family: Family,
    options: Options,
    n_jobs: int,
    progress: Progress | None,
    kind: str = "permutation",
) -> np.ndarray:
    """Group means under permuted stimuli, or phases at random: (permutation, roi, layer)."""
    module = phase if kind == "phase" else permutation
    one = module.null_block

    def block(index: int, size: int) -> np.ndarray:
        return one(family, options.seed, index, size)

    stage = f"{family.metric}: {'surrogates' if kind == 'phase' else 'permutations'}"
    blocks = _blocks(options.n_permutations, permutation.BLOCK)
    null = in_threads(block, blocks, n_jobs=n_jobs, stage=stage, progress=progress)
    found = np.concatenate(null)
    rois = permutation.apart(family, kind)
    if rois:
        cells = module.cell_block(family, options.seed, *blocks[0])
        found = permutation.widen_apart(family, found, cells, rois)
    return permutation.widen_cross_validated(family, found)


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


def levels_of_all(
    family: Family, rois: Sequence[str], options: Options, layers: Sequence[int] | None = None
) -> dict[str, int]:
    """The same of several ROIs together: the sources that all have, and the fewest levels."""
    held = [levels_of(family, roi, options, layers) for roi in rois]
    shared = [s for s in held[0] if all(s in levels for levels in held)]
    return {s: min(levels[s] for levels in held) for s in shared}


def standard_error(draws: dict[Sources, np.ndarray], levels: dict[str, int]) -> np.ndarray:
    """SE of a statistic from its draws under every subset of the ROI's sources."""
    used = {s: spread(d) for s, d in draws.items() if s <= levels.keys()}
    if not used or min(levels.values()) < 2:
        shape = next(iter(draws.values())).shape[1:] if draws else ()
        return np.full(shape, np.nan)
    return np.sqrt(np.maximum(corrected_variance(used, levels), 0.0))
