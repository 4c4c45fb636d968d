"""How long a run will take and how much memory: a few real cells, timed, times their number."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from rsacompare.errors import RsacompareError
from rsacompare.inference import bootstrap
from rsacompare.inference.family import BLOCK
from rsacompare.inference.infer import infer
from rsacompare.inference.workers import Progress
from rsacompare.metrics.evidence import KINDS, Evidence, Metric
from rsacompare.schema import checks, labels, store, trees
from rsacompare.schema.results import Cell, Comparison
from rsacompare.study import extras
from rsacompare.study.cells import Layer, Region, layers_of, plan, regions_of
from rsacompare.study.compare import scores_of, with_seed
from rsacompare.study.forecast_cells import GAIN, MEGABYTE, clock, speedup, stand_ins

DRAWS = (10, 60)  # of the timed inferences: what a draw takes is the difference
READ = 4  # times that a run reads a stored cell: finished?, score, matrices, inference


@dataclass
class Forecast:
    """Rows for the check's table, and what was assumed."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, stage: str, seconds: float, megabytes: float, count: int, note: str) -> None:
        self.rows.append(
            {
                "stage": stage,
                "seconds": float(seconds),
                "megabytes": float(megabytes),
                "count": float(count),
                "note": note,
            }
        )


def forecast(
    activations: xr.DataTree,
    brain: xr.DataTree,
    metrics: Mapping[str, Metric],
    *,
    rois: Sequence[str] | None = None,
    inference: Mapping[str, Any] | None = None,
    n_jobs: int = 1,
    seed: int = 0,
    write: Callable[[xr.Dataset], None] | None = None,
    progress: Progress | None = None,
) -> Forecast:
    """Seconds and megabytes of a run, from a few real cells.

    Parameters
    ----------
    inference : mapping, optional
        Arguments of `infer`.
    write : callable, optional
        Writes a result and its pages somewhere; timed once.

    Notes
    -----
    Of each metric the cells of one layer (that of the median number of units) with up to three
    ROIs (the smallest, the middle one and the largest) of one subject per design are computed.
    Seconds are taken to grow with the number of units, and between ROIs linearly with that of
    voxels. These cells then stand for all others in two short inferences, whose difference is the
    price of a draw, and in a report.
    """
    found = Forecast()
    options = dict(inference or {})
    jobs = max(int(n_jobs), 1)
    chosen = {label: with_seed(metric, seed) for label, metric in metrics.items()}
    held: dict[Cell, Evidence] = {}  # every cell of the study, by one of the few computed
    with threadpool_limits(1):
        started = clock()
        layers, regions = layers_of(activations), regions_of(brain, rois)
        found.add("reading of arrays", clock() - started, 0, len(regions), "timed")
        for k, (label, metric) in enumerate(chosen.items()):
            if progress is not None:
                progress("forecast: cells", k, len(chosen))
            try:
                work, _ = plan({label: metric}, layers, regions)
                own, row = stand_ins(metric, work, layers, regions, jobs)
            except (RsacompareError, ValueError) as err:
                found.add(f"{label}: cells", np.nan, np.nan, 0, f"could not be timed: {err}")
                continue
            held |= own
            found.add(f"{label}: cells", *row)
        if progress is not None:
            progress("forecast: cells", len(chosen), len(chosen))
        if held:
            _rest(found, held, chosen, layers, regions, activations, brain, options, jobs,
                  seed, write, progress)  # fmt: skip
    _sum(found, jobs, options)
    return found


def _rest(
    found: Forecast,
    held: Mapping[Cell, Evidence],
    metrics: Mapping[str, Metric],
    layers: Mapping[str, Layer],
    regions: Mapping[tuple[str, str], Region],
    activations: xr.DataTree,
    brain: xr.DataTree,
    options: dict[str, Any],
    jobs: int,
    seed: int,
    write: Callable[[xr.Dataset], None] | None,
    progress: Progress | None,
) -> None:
    """Inference and report, with stand-ins for all cells."""
    every = list(held)
    used = {
        label: metric for label, metric in metrics.items() if any(c.metric == label for c in every)
    }
    started = clock()
    scores = scores_of(every, held, used, layers, regions)
    scores.attrs |= labels.clean_attrs(
        {
            "simulated": 0,
            "meaning": {k: asdict(m.meaning) | {"options": m.config()} for k, m in used.items()},
            "data": trees.describe_brain(brain),
            "networks": trees.describe_networks(activations),
            "not_applicable": [],
            "provenance": {},
        }
    )
    extra = extras.of_pairs(every, held, scores, brain)
    beside = clock() - started
    comparison = Comparison(scores, held, extra)
    n_bootstrap = int(options.get("n_bootstrap", 10_000))
    n_permutations = int(options.get("n_permutations", 10_000))
    plain = {k: v for k, v in options.items() if k not in ("n_bootstrap", "n_permutations")}
    times: list[float] = []
    result = None
    for n in (DRAWS[0], *DRAWS):  # the first warms up
        if progress is not None:
            progress("forecast: inference", len(times), 3)
        started = clock()
        result = infer(comparison, **plain, n_bootstrap=n, n_permutations=n, random_state=seed)
        times.append(clock() - started)
    if progress is not None:
        progress("forecast: inference", 3, 3)
    per_draw = max(times[2] - times[1], 0.0) / (DRAWS[1] - DRAWS[0])
    fixed = max(times[1] - per_draw * DRAWS[0], 0.0)
    # draws and permutations are timed together; a permutation costs the less of the two
    n = max(n_bootstrap, n_permutations)
    blocks = -(-n // BLOCK)
    rounds = -(-blocks // min(jobs, blocks)) * BLOCK if blocks > 1 else n
    drawn = per_draw * max(min(rounds, n), n / speedup(jobs, blocks))
    n_rois, n_layers = scores.sizes["roi"], scores.sizes["layer"]
    kept = 4 * len(used) * (n_bootstrap + n_permutations)
    sources = max(len(e.sources) for e in held.values()) + 1
    working = 2 * 8 * 2 * len(bootstrap.subsets(bootstrap.ORDER[:sources])) * n_bootstrap
    megabytes = n_rois * n_layers * (kept + working) / MEGABYTE
    seconds = _keeping(list(held.values())) * len(every)
    note = f"written once and read {READ} times, timed; a run without --out does not"
    found.add("keeping of cells", seconds, 0, len(every), note)
    note = f"{DRAWS[1] - DRAWS[0]} draws and permutations timed on stand-ins for all cells"
    found.add("inference", beside + fixed + drawn, megabytes, n, note)
    if write is not None and result is not None:
        started = clock()
        write(result)
        note = "the pages of the stand-ins, timed"
        found.add("report", clock() - started, 0, len(used) + 1, note)


def _keeping(evidence: list[Evidence]) -> float:
    """Seconds that a cell takes to be written and read as often as a run does."""
    few = evidence[:: max(len(evidence) // 5, 1)][:5]
    with tempfile.TemporaryDirectory() as folder:
        cells = store.CellStore(folder)
        started = clock()
        for k, one in enumerate(few):
            cells.save(f"{k:064x}", one.to_arrays())
            for _ in range(READ):
                held = cells.load(f"{k:064x}")
                if held is not None and str(held["kind"]) in KINDS:
                    KINDS[str(held["kind"])].from_arrays(held)
        return (clock() - started) / len(few)


def _sum(found: Forecast, jobs: int, options: Mapping[str, Any]) -> None:
    base = _resident()
    found.add("data and program", 0, base, 0, "what this check itself needed, most at a time")
    seconds = float(np.nansum([row["seconds"] for row in found.rows]))
    megabytes = float(np.nansum([row["megabytes"] for row in found.rows]))
    found.about = {
        "n_jobs": jobs,
        "seconds": seconds,
        "megabytes": megabytes,
        "n_bootstrap": int(options.get("n_bootstrap", 10_000)),
        "n_permutations": int(options.get("n_permutations", 10_000)),
        "gain": GAIN,
        "complete": all(np.isfinite(row["seconds"]) for row in found.rows),
    }


def _resident() -> float:
    """The most memory that this process had at a time, in megabytes; NaN where unknown."""
    try:
        import resource
    except ImportError:  # not on Windows
        return np.nan
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MEGABYTE if sys.platform == "darwin" else most / 1024


def variables(found: Forecast) -> dict[str, Any]:
    """The rows as variables `forecast_<column>(forecast)` of a check."""
    out: dict[str, Any] = {}
    for column in checks.FORECAST:
        kind: Any = str if column in ("stage", "note") else float
        values = np.array([row[column] for row in found.rows], dtype=kind)
        out[f"forecast_{column}"] = ("forecast", values)
    return out
