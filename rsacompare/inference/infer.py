"""Evidence to intervals, nulls, ceilings and paired differences, for any metric."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.inference import bootstrap, ceiling, intervals, permutation, phase, roi_order
from rsacompare.inference import contrast as contrasts
from rsacompare.inference.bootstrap import group_mean, spread
from rsacompare.inference.estimate import estimate
from rsacompare.inference.family import Family, arrange, origins
from rsacompare.inference.inferred import Beside, Inferred
from rsacompare.inference.pools import level_notes
from rsacompare.inference.statistics import (
    Options,
    Statistics,
    Values,
    bootstrap_family,
    levels_of,
    null_family,
)
from rsacompare.inference.steps import STEPS
from rsacompare.inference.table import contrast_table, contrast_variables
from rsacompare.inference.workers import Progress
from rsacompare.kernels import resample
from rsacompare.schema import labels
from rsacompare.schema.results import Comparison, add_extra, meanings

DIMS = ("metric", "roi", "layer")
PRIMARY = ("mean", "depth", "best")  # pairings with a row per ROI


def infer(
    comparison: Comparison,
    contrast: Any = None,
    *,
    n_bootstrap: int = 10_000,
    n_permutations: int = 10_000,
    random_state: int | None = 0,
    confidence: float = 0.95,
    equivalence_bound: float = 0.1,
    n_splits: int = 4,
    sources: Sequence[str] | None = None,
    interval: str = "t",
    exchange: str = "auto",
    null: str = "permutation",
    hierarchy: Sequence[str] | None = None,
    primary: str | None = None,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Intervals, permutation nulls, noise ceilings and paired network differences.

    Parameters
    ----------
    comparison : Comparison
        From `rsacompare.compare`.
    contrast : (a, b), list of (a, b), or None
        Pairs of networks; differences are a − b. None: every pair, and each network with its own
        baselines (which are not paired with one another).
    n_bootstrap, n_permutations : int
    random_state : int or None
        None takes fresh entropy, stored with the result.
    confidence : float
        Of the intervals; tests use 1 − confidence.
    equivalence_bound : float
        Half width of the range that counts as no difference, as a share of the ROI's lower
        noise ceiling.
    n_splits : int
        Repeated halvings of the stimuli for the `best` pairing.
    sources : sequence of {"subjects", "stimuli", "units"}, optional
        What to resample; by default subjects and all that the evidence declares.
    interval : {"t", "percentile", "bca", "studentised"}
        All but the first are of a single source, as `sources=["stimuli"]`. Over few levels
        `percentile` and `bca` are too narrow; `studentised` scores each draw about .63 n + 1 times
        for n levels.
    exchange : {"auto", "stimuli", "categories"}
        What the bootstrap draws and the null permutes where responses have a coordinate
        `category`. `auto`: categories where the scored stimuli are nested in eight or more of
        them, each with the same number of two or more; else single stimuli. Stimuli with time
        blocks are drawn and permuted in these. See `rsacompare.inference.pools`.
    null : {"permutation", "phase"}
        `phase`: for stimuli that are a time series (they have time blocks), phases of the network's
        series at random, by metrics that hold values per stimulus (`rsacompare.inference.phase`);
        the others permute time blocks, and a note says so.
    hierarchy : sequence of str, optional
        ROIs in the order of the visual system; by default that of the names known.
    primary : {"mean", "depth", "best"}, optional
        The pairing that the question is about, named beforehand: the one that the first page
        shows. All are computed in any case. By default the mean over layers where the networks
        have equally many, else relative depth.
    n_jobs : int
        Threads; results are bitwise the same for any number.
    progress : callable (stage, done, total), optional

    Returns
    -------
    Dataset
        See DESIGN section 2: scores, ceilings, `mean_score`, `ci`, `p_null`, `p_null_fwer`, the
        bootstrap and null draws, and `contrast_<column>` per row of `contrasts.csv`.

    Raises
    ------
    ProtocolError
        Unknown networks, sources or pairing, numbers that make no sense, or an interval for one
        source where several are resampled: before anything is computed. Categories or phases that
        were asked for and cannot be had.

    Notes
    -----
    The default interval and p are one object: estimate ± t · SE with the corrected variance of
    all sources together (:func:`rsacompare.inference.bootstrap.corrected_variance`) and degrees
    of freedom = smallest number of resampled levels − 1. They are conditional on the fitted
    models.
    """
    for name, listed in (("sources", sources), ("hierarchy", hierarchy)):
        if isinstance(listed, str):
            raise ProtocolError(f"{name} is a list of names, as ['{listed}'], not the text alone")
    options = Options(
        n_bootstrap, n_permutations, resample.as_seed(random_state), confidence,
        equivalence_bound, n_splits, None if sources is None else tuple(sources), interval,
        exchange, null, None if hierarchy is None else tuple(hierarchy),
    )  # fmt: skip
    if not isinstance(comparison, Comparison):
        raise ProtocolError(
            f"infer takes what rsacompare.compare gives, not a {type(comparison).__name__}"
        )
    if primary is not None and primary not in PRIMARY:
        raise ProtocolError(plugins.unknown("primary pairing", primary, PRIMARY))
    scores = comparison.scores
    pairs = _pairs(contrast, scores)
    roi_order.check(options.hierarchy, scores["roi"].values.astype(str).tolist())
    intervals.check_single(comparison, options)
    meaning = meanings(scores)
    result = empty_result(scores, options)
    inference: dict[str, Any] = {
        "sources": {}, "left_out": {}, "dof": {}, "cross_validated": {}, "levels": {}, "nulls": {},
    }  # fmt: skip
    if primary is not None:
        inference["primary"] = primary
    series = phase.with_series(comparison) if null == "phase" else {}
    notes: list[str] = []
    all_rows: list[dict[str, Any]] = []
    extras: list[dict[str, Any]] = []
    depth_of = dict(zip(scores["layer"].values, scores["depth"].values, strict=True))
    with threadpool_limits(limits=1):
        for metric in scores["metric"].values.astype(str).tolist():
            if not comparison.cells(metric):
                continue
            better = 1 if meaning[metric]["higher_is_better"] else -1
            family = arrange(comparison, metric, better, options.exchange)
            depth = np.array([depth_of[layer] for layer in family.layers])
            rows, said = contrasts.rows(family, depth, pairs)
            notes += said
            inference["nulls"][metric] = "phase" if series.get(metric) else "permutation"
            if series.get(metric):
                phase.require(family)
            elif series:
                notes.append(f"{metric}: holds no series to phase-randomise; blocks were permuted.")
            statistics = bootstrap_family(family, rows, options, n_jobs, progress)
            nulls = null_family(family, options, n_jobs, progress, inference["nulls"][metric])
            fill_result(result, family, statistics, nulls, options)
            table = contrast_table(family, rows, statistics, nulls, options)
            inferred = Inferred(
                family, depth, rows, statistics, nulls, options, table, meaning[metric], scores
            )
            for step in STEPS:
                _add(result, family, step(inferred), extras, notes)
            all_rows += table
            _describe(inference, family, options)
            notes += level_notes(metric, family.pool.values(), not series.get(metric))
            notes += intervals.notes(family, options)
            notes += permutation.notes(family, inference["nulls"][metric])
            if inference["cross_validated"][metric]:
                notes.append(
                    f"{metric}: without a split, predictions were cross-validated over stimuli. "
                    "Permutations re-index the predictions without refitting, which gives at least "
                    "half the variance of a null with refits; the null was widened by √2 for that. "
                    "Intervals are not: between two networks that have both nothing to do with the "
                    "brain they are too narrow, so heed whether the closer one is beyond its null."
                )
    notes += _floor_notes(scores)
    kind = intervals.label(options, inference["sources"])
    for name in ("ci", "fraction_ci"):
        result[name].attrs = {"kind": kind, "prob": options.confidence}
    result = result.assign(contrast_variables(all_rows))
    described = options.described() | inference | {"random_state": options.seed}
    result.attrs |= labels.clean_attrs(
        {"inference": described, "contrast": [list(p) for p in pairs], "notes": notes}
    )
    for extra in [*comparison.extras, *extras]:
        result = add_extra(result, **extra)
    return result


def _add(
    result: xr.Dataset,
    family: Family,
    found: Beside,
    extras: list[dict[str, Any]],
    notes: list[str],
) -> None:
    m = result["metric"].values.tolist().index(family.metric)
    at_roi = [result["roi"].values.tolist().index(x) for x in family.rois]
    at_layer = [result["layer"].values.tolist().index(x) for x in family.layers]
    for name, values in found.cells.items():
        result[name].values[(m, *np.ix_(at_roi, at_layer))] = values
    extras += found.extras
    notes += [note for note in found.notes if note not in notes]  # metrics may say the same


def _pairs(given: Any, scores: xr.Dataset) -> list[tuple[str, str]]:
    networks = list(dict.fromkeys(scores["network"].values.astype(str).tolist()))
    if given is None:
        known = origins(scores)
        origin = {n: known.get(n) for n in networks}
        real = [n for n in networks if origin[n] not in networks]
        pairs = [(a, b) for i, a in enumerate(real) for b in real[i + 1 :]]
        return pairs + [(a, b) for a in real for b in networks if origin[b] == a]
    if isinstance(given, str):
        raise ProtocolError(f"a contrast names two networks, as ('a', 'b'), got '{given}'")
    listed = [given] if given and isinstance(given[0], str) else list(given)
    for pair in listed:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ProtocolError(f"a contrast names two different networks, got {list(pair)}")
        for network in pair:
            if network not in networks:
                raise ProtocolError(plugins.unknown("network in contrast", network, networks))
    return [(str(a), str(b)) for a, b in listed]


def empty_result(scores: xr.Dataset, options: Options) -> xr.Dataset:
    """The result with everything unknown."""
    shape = tuple(scores.sizes[d] for d in DIMS)
    full = ("metric", "subject", "roi", "layer")

    def unknown(dims: tuple[str, ...], *extra: int, dtype: type = np.float64) -> tuple[Any, Any]:
        return dims, np.full((*shape, *extra), np.nan, dtype=dtype)

    resampled = [bootstrap.name(s) for s in bootstrap.subsets(bootstrap.ORDER)]
    made: dict[str, tuple[Any, Any]] = {}
    for name in ("ceiling_low", "ceiling_high"):
        made[name] = full, np.full(scores["score"].shape, np.nan)
    for name in (
        "mean_score", "se", "p_null", "p_null_fwer", "p_null_step", "p_null_bh", "p_null_by",
        "fraction", "group_ceiling_low", "group_ceiling_high",
    ):  # fmt: skip
        made[name] = unknown(DIMS)
    for name in ("ci", "fraction_ci"):
        made[name] = unknown((*DIMS, "ci_bound"), 2)
    made["bootstrap_se"] = unknown((*DIMS, "resampled"), len(resampled))
    made["boot"] = unknown((*DIMS, "draw"), options.n_bootstrap, dtype=np.float32)
    made["null"] = unknown((*DIMS, "permutation"), options.n_permutations, dtype=np.float32)
    # all at once: each assignment aligns the whole Dataset anew
    result = scores.assign(made).assign_coords(ci_bound=["lower", "upper"], resampled=resampled)
    result["bootstrap_se"].attrs = {"note": "plain bootstrap, without correction, per source"}
    return result


def fill_result(
    result: xr.Dataset,
    family: Family,
    statistics: Statistics,
    null: np.ndarray,
    options: Options,
) -> None:
    """Write one family's numbers into the result."""
    m = result["metric"].values.tolist().index(family.metric)
    at_layer = [result["layer"].values.tolist().index(x) for x in family.layers]
    for r, (roi, (low, high)) in enumerate(ceiling.observed(family).items()):
        here = (m, result["roi"].values.tolist().index(roi), at_layer)
        levels = levels_of(family, roi, options)
        found = estimate(partial(_means_of, r), statistics, levels, options)
        result["mean_score"].values[here] = found.value
        result["se"].values[here] = found.se
        result["ci"].values[here] = np.stack([found.low, found.high], axis=-1)
        result["null"].values[here] = null[:, r].T
        used = {s: d.mean[:, r] for s, d in statistics.draws.items() if s <= levels.keys()}
        for sources, draws in used.items():
            k = result["resampled"].values.tolist().index(bootstrap.name(sources))
            result["bootstrap_se"].values[(*here, k)] = np.sqrt(spread(draws))
        if used:
            result["boot"].values[here] = used[max(used, key=len)].T
        for s, subject in enumerate(family.subjects[roi]):
            at = (m, result["subject"].values.tolist().index(subject), here[1], at_layer)
            result["ceiling_low"].values[at] = low[:, s]
            result["ceiling_high"].values[at] = high[:, s]
        result["group_ceiling_low"].values[here] = group_mean(low)
        result["group_ceiling_high"].values[here] = group_mean(high)


def _means_of(r: int, values: Values) -> np.ndarray:
    return values.mean[..., r, :]


def _describe(inference: dict[str, Any], family: Family, options: Options) -> None:
    used: dict[str, dict[str, int]] = {roi: levels_of(family, roi, options) for roi in family.rois}
    sources = bootstrap.ordered({s for levels in used.values() for s in levels})
    declared = {"subjects", "stimuli", *family.sources}
    inference["sources"][family.metric] = sources
    inference["left_out"][family.metric] = bootstrap.ordered(declared - set(sources))
    inference["dof"][family.metric] = {
        roi: min(levels.values(), default=1) - 1 for roi, levels in used.items()
    }
    kinds = dict.fromkeys(pool.kind for pool in family.pool.values())
    inference["levels"][family.metric] = [kind or "single stimuli" for kind in kinds]
    inference["cross_validated"][family.metric] = any(
        fold is not None for fold in family.fold.values()
    )


def _floor_notes(scores: xr.Dataset) -> list[str]:
    """What few subjects cannot show by signs alone."""
    counts = scores["n_targets"].notnull().any(["metric", "layer"]).sum("subject")
    sizes = sorted({int(n) for n in counts.values if n})
    return [
        f"With {n} subjects a sign-flip test over subjects cannot give a two-sided p below "
        f"{2 / 2**n:.4g}: it could never reach .05. It is given beside the p of each contrast as a "
        "check that assumes least (p sign-flip), and decides nothing."
        for n in sizes
        if 1 < n < 6
    ]
