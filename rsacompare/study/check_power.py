"""How small a difference between two networks a design would see: simulated studies, real tests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from rsacompare.inference import power as numbers
from rsacompare.inference.bootstrap import Sources
from rsacompare.inference.workers import Progress, in_threads
from rsacompare.metrics.evidence import Metric
from rsacompare.schema import checks
from rsacompare.study import simulated
from rsacompare.study.check_designs import Designs, Networks
from rsacompare.study.compare import with_seed
from rsacompare.study.forecast_cells import speedup
from rsacompare.study.simulated import Design, Region
from rsacompare.study.simulated_tests import ALPHA, DRAWS, Observed, observe

WANTED = 0.8
STUDIES = 12  # simulated of a design as it is
FEWER = 6  # with other numbers of repetitions
CLOSENESS = (0.6, 0.4)  # share of each network's variance that the brains have
SUBJECTS = (1, 2, 3, 4)
STIMULI = (0.5, 1, 2, 4)
REPETITIONS = (0.5, 2)
BUDGET = 100.0  # seconds


@dataclass
class Power:
    """Rows for the check's table, and what the page says about them."""

    rows: list[dict[str, Any]]
    without: list[dict[str, str]]
    about: dict[str, Any]


def power(
    designs: Designs,
    networks: Networks,
    metrics: Mapping[str, Metric],
    *,
    n_pairs: int = 1,
    sources: Sequence[str] | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    budget: float = BUDGET,
    progress: Progress | None = None,
) -> Power:
    """Smallest differences that designs see, by simulating studies like them.

    Parameters
    ----------
    designs : Designs
    networks : Networks
    metrics : {label: Metric}
    n_pairs : int
        Contrasts of the study: Holm's correction counts ROIs × pairs.
    sources : sequence of str, optional
        What is resampled, as in `infer`.
    budget : float
        Seconds; where all ROIs would take longer, fewer are simulated, evenly over the range of
        reliability. What is found for an ROI depends on no other.
    """
    chosen = {label: with_seed(metric, seed) for label, metric in metrics.items()}
    n_rois = sum(len(r) for r in designs.regions.values())
    done = Power([], [{"metric": "", "roi": r, "why": w} for r, w in designs.without], {})
    with threadpool_limits(1):
        for design, regions in designs.regions.items():
            share = budget * len(regions) / n_rois
            _one_design(design, regions, networks, chosen, n_pairs * n_rois, sources, seed, n_jobs,
                        share, progress, done)  # fmt: skip
    caps = [d for d in designs.regions if d.capped() != d]
    done.about = {
        "alpha": ALPHA,
        "wanted": WANTED,
        "n_studies": STUDIES,
        "n_studies_repetitions": FEWER,
        "n_draws": DRAWS,
        "closeness": list(CLOSENESS),
        "n_tests": n_rois * n_pairs,
        "n_layers": networks.n_layers,
        "layers_known": networks.known,
        "n_units": networks.n_units,
        "layer_correlation": networks.correlation,
        "most_voxels": simulated.MOST_VOXELS,
        "carried_over": [
            f"{d.n_subjects} subjects and {d.n_stimuli} stimuli from {d.capped().n_subjects} and "
            f"{d.capped().n_stimuli}"
            for d in caps
        ],
        "without": done.without,
    }
    return done


def _one_design(
    design: Design,
    regions: list[Region],
    networks: Networks,
    metrics: Mapping[str, Metric],
    n_tests: int,
    sources: Sequence[str] | None,
    seed: int,
    n_jobs: int,
    budget: float,
    progress: Progress | None,
    done: Power,
) -> None:
    small = design.capped()
    factors = _repetition_factors(design)
    started = time.perf_counter()
    first = observe(small, regions, metrics, CLOSENESS, sources, seed, 0)
    started = time.perf_counter() - started
    usable = {m: metric for m, metric in metrics.items() if isinstance(first[m], Observed)}
    for label, found in first.items():
        if isinstance(found, str):
            said = f"it cannot be simulated for these data ({found})"
            done.without.append({"metric": label, "roi": "", "why": said})
    if not usable:
        return
    n_studies = STUDIES + FEWER * len(factors)
    needed = started * n_studies / speedup(max(n_jobs, 1), n_studies)
    if needed > budget and len(regions) > 1:
        kept = _spanning(regions, max(1, int(len(regions) * budget / needed)))
        why = "not simulated, to keep the check short; see the ROIs of similar reliability"
        done.without += [{"metric": "", "roi": r.roi, "why": why} for r in regions if r not in kept]
        regions = kept
        first = {}
    jobs_list = [(1.0, i) for i in range(STUDIES)]
    jobs_list += [(q, i) for q in factors for i in range(FEWER)]

    def one(q: float, index: int) -> dict[str, Observed | str]:
        if (q, index) == (1.0, 0) and first:
            return first
        return observe(
            replace(small, more_repetitions=q), regions, usable, CLOSENESS, sources, seed, index
        )

    stage = "power: simulated studies"
    results = in_threads(one, jobs_list, n_jobs=n_jobs, stage=stage, progress=progress)
    for label in usable:
        sets: dict[float, list[Observed]] = {}
        failed = ""
        for (q, _), held in zip(jobs_list, results, strict=True):
            one_set = held[label]
            if isinstance(one_set, str):
                failed = one_set
            else:
                sets.setdefault(q, []).append(one_set)
        if failed and len(sets.get(1.0, [])) < STUDIES:
            why = f"some simulated studies could not be scored ({failed})"
            done.without.append({"metric": label, "roi": "", "why": why})
            continue
        for r, region in enumerate(regions):
            done.rows += _rows(label, region, r, sets, design, networks, n_tests, done)


def _repetition_factors(design: Design) -> list[float]:
    """Repetitions that can be simulated: where noise is known from them."""
    if design.kind == "rdms" or design.n_repetitions < 2:
        return []
    whole = [max(round(design.n_repetitions * q), 1) for q in REPETITIONS]
    return [n / design.n_repetitions for n in whole]


def _spanning(regions: list[Region], n: int) -> list[Region]:
    """`n` regions from the least to the most reliable, in the order given."""
    order = sorted(range(len(regions)), key=lambda i: (regions[i].reliability, i))
    picks = np.unique(np.round(np.linspace(len(order) - 1, 0, n)).astype(int))
    return [regions[i] for i in sorted(order[k] for k in picks)]


@dataclass
class Fit:
    """Components of the variance of a difference, at the simulated numbers of levels."""

    parts: dict[Sources, float]
    levels: dict[str, int]
    inflation: float  # what the test's SE² is above the sum of the parts
    ceiling: float

    def se(self, wanted: Mapping[str, float]) -> float:
        return float(
            np.sqrt(self.inflation) * numbers.standard_error(self.parts, self.levels, wanted)
        )


def fit(studies: Sequence[Observed], r: int) -> Fit | None:
    """Mean components over simulated studies of one design; None where there is no test."""
    levels = studies[0].levels[r]
    variance = float(np.mean([one.variance[r] for one in studies]))
    if not levels or min(levels.values()) < 2 or not np.isfinite(variance):
        return None
    parts = {
        s: max(float(np.mean([one.parts[r][s] for one in studies])), 0.0)
        for s in studies[0].parts[r]
    }
    total = sum(parts.values())
    if not total > 0:
        return None
    roof = float(np.mean([one.ceiling[r] for one in studies]))
    return Fit(parts, levels, variance / total, roof)


def _rows(
    label: str,
    region: Region,
    r: int,
    sets: Mapping[float, Sequence[Observed]],
    design: Design,
    networks: Networks,
    n_tests: int,
    done: Power,
) -> list[dict[str, Any]]:
    base = fit(sets[1.0], r)
    if base is None:
        why = "nothing that is drawn at random has two levels: there is no test"
        done.without.append({"metric": label, "roi": region.roi, "why": why})
        return []
    # the mean over more layers than are simulated is one over more units too
    units = networks.n_units * networks.n_layers / design.n_layers
    real = {"subjects": design.n_subjects, "stimuli": design.n_stimuli, "units": units}
    have = {s: float(real[s]) for s in base.levels}
    differences = np.array([one.difference[r] for one in sets[1.0]])
    variances = np.array([one.variance[r] for one in sets[1.0]])
    held = {
        "metric": label, "roi": region.roi, "reliability": region.reliability,
        "agreement": region.agreement,
        "sd": float(differences.std(ddof=1)), "se_simulated": float(np.sqrt(variances.mean())),
        "difference": float(differences.mean()),
        "error": float(variances.std(ddof=1) / variances.mean() / 2 / np.sqrt(len(variances))),
    }  # fmt: skip

    def row(varied: str, factor: float, found: Fit, levels: dict[str, float]) -> dict[str, Any]:
        se = found.se(levels)
        dof = min(levels.values()) - 1
        smallest = numbers.smallest_difference(se, dof, ALPHA, WANTED)
        corrected = numbers.smallest_difference(se, dof, ALPHA / n_tests, WANTED)
        repetitions = float(design.n_repetitions)
        return held | {
            "varied": varied, "factor": factor,
            "n_subjects": levels.get("subjects", float(design.n_subjects)),
            "n_stimuli": levels.get("stimuli", float(design.n_stimuli)),
            "n_repetitions": repetitions * factor if varied == "repetitions" else repetitions,
            "se": se, "dof": dof, "smallest": smallest, "smallest_holm": corrected,
            "ceiling": found.ceiling,
            "share": smallest / found.ceiling if found.ceiling > 0 else np.nan,
        }  # fmt: skip

    rows = [row("", 1.0, base, have)]
    for source, factors in (("subjects", SUBJECTS), ("stimuli", STIMULI)):
        if source not in have:
            continue
        for factor in factors:
            levels = have | {source: float(max(round(have[source] * factor), 1))}
            if min(levels.values()) >= 2:
                rows.append(row(source, factor, base, levels))
    few = {q: fit(studies[:FEWER], r) for q, studies in sets.items()}
    now = few.get(1.0)
    if len(sets) > 1 and now is not None:
        # the same studies with other noise: their ratio is known better than either
        for q, other in sorted(few.items()):
            if other is not None:
                ratio = other.se({}) / now.se({})
                changed = replace(
                    base,
                    inflation=base.inflation * ratio**2,
                    ceiling=base.ceiling * other.ceiling / now.ceiling,
                )
                rows.append(row("repetitions", q, changed, have))
    return rows


def variables(found: Power) -> dict[str, Any]:
    """The rows as variables `power_<column>(power)` of a check."""
    out: dict[str, Any] = {}
    for column in checks.POWER:
        kind: Any = str if column in ("metric", "roi", "varied") else float
        values = np.array([row[column] for row in found.rows], dtype=kind)
        out[f"power_{column}"] = ("power", values)
    return out
