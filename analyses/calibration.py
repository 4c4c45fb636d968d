"""False-positive rates, coverage and power of rsacompare, and of what is done elsewhere, measured.

`make calibration` (or `python analyses/calibration.py --simulations 1000 --jobs 2`) simulates
studies whose truth is known (`calibration_population.py`), puts each through compare and the
inference of `rsacompare.infer`, and writes `calibration.csv`, `calibration.md`, a figure and a page
(`calibration_table.py`). Side by side, on the same data: percentile bars over people, as in Yu et
al. (2018), and the dual bootstrap of rsatoolbox.

What is finished stays in `OUT/raw`, a file per 20 simulations: a stopped run goes on, and the same
command with more simulations extends what there is. Seeds are named by row and simulation, so that
numbers do not depend on the number of jobs.
"""

from __future__ import annotations

import argparse
import inspect
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import xarray as xr
from calibration_population import DESIGNS, POPULATION, ROIS, SCENARIOS, Design, draw
from threadpoolctl import threadpool_limits

import rsacompare as rc
from rsacompare.inference import contrast as contrasts
from rsacompare.inference import permutation
from rsacompare.inference.bootstrap import spread
from rsacompare.inference.family import Family, arrange
from rsacompare.inference.statistics import (
    Options,
    Statistics,
    bootstrap_family,
    null_family,
)
from rsacompare.inference.table import contrast_table, difference_of
from rsacompare.kernels import resample
from rsacompare.schema import trees
from rsacompare.schema.results import Cell, Comparison, layer_coords
from rsacompare.schema.store import digest

ROI, LAYER = "early", "a/l1"  # the cell and the row that are judged, chosen beforehand
CHUNK = 20  # simulations per file
N_BOOTSTRAP, N_PERMUTATIONS, N_BARS = 250, 199, 500
# short grids of penalties and all voxels: small data
METRICS = {
    "decoding": ("random", {"n_voxels": "all"}),
    "rsa": ("exact", {}),
    "encoding": ("exact", {"alphas": [1, 10, 100, 1000], "n_inner_folds": 3}),
    "cka": ("exact", {}),
}
TRAINED = ("decoding", "encoding")  # the others score all stimuli alike, with or without a split


def metrics_of(design: Design) -> list[str]:
    """The metrics that a design has something to say about."""
    return [m for m in METRICS if design.split or m in TRAINED]


# -- one simulation ------------------------------------------------------------------------------


@cache
def _metric(name: str, seed: int) -> rc.Metric:
    # what trains without a split draws its folds; a fixed seed, since stimuli are random anyway
    return rc.metric(
        name, **METRICS[name][1], **({"random_state": seed} if name in TRAINED else {})
    )


def compared(
    design: Design,
    scenario: str,
    seed: int,
    n_test: int | None = None,
    metrics: Sequence[str] | None = None,
) -> dict[str, Comparison]:
    """{metric: comparison} of one simulated study: what `rsacompare.compare` gives, without extras.

    That the scores are those of `compare` is tested; it hashes, checks and arranges for its pages
    what nobody would look at here.
    """
    study = draw(design, scenario, seed, n_test)
    subjects = {name: node.to_dataset() for name, node in study.brain.children.items()}
    responses = {
        (roi, name): data["response"].isel(neuroid=data["roi_mask"].sel(roi=roi).values)
        for roi in ROIS
        for name, data in subjects.items()
    }
    found = {}
    for name in metrics_of(design) if metrics is None else metrics:
        metric, activations = _metric(name, 0), study.networks[METRICS[name][0]]
        brains = {key: metric.prepare_response(r) for key, r in responses.items()}
        listed, evidence = [], {}
        for network, layer, data in trees.iter_layers(activations):
            listed.append((network, layer, data.attrs))
            ready = metric.prepare_activation(data["activation"])
            for (roi, subject), brain in brains.items():
                cell = Cell(name, f"{network}/{layer}", roi, subject)
                evidence[cell] = metric.compare(ready, brain)
        coords = {
            "metric": [name], "subject": list(subjects), "roi": list(ROIS), **layer_coords(listed)
        }  # fmt: skip
        dims = ("metric", "subject", "roi", "layer")
        values = np.empty([len(coords[d]) for d in dims])
        for at in np.ndindex(*values.shape):
            _, subject, roi, layer = (coords[d][i] for d, i in zip(dims, at, strict=True))
            values[at] = evidence[Cell(name, layer, roi, subject)].score()
        found[name] = Comparison(xr.Dataset({"score": (dims, values)}, coords=coords), evidence)
    return found


def inferred(
    comparison: Comparison, metric: str, options: Options
) -> tuple[Family, Statistics, dict, float, float]:
    """What `rsacompare.infer` finds, without its pages, other pairings and ceilings.

    That the numbers are those of `infer` is tested. Returns the family, its statistics, the row of
    the contrast, `p_null` of the judged cell and the smallest `p_null_fwer` of all cells.
    """
    family = arrange(comparison, metric, 1)
    family.ceiling_groups = {roi: [] for roi in family.rois}
    depth = comparison.scores["depth"].values
    rows = [r for r in contrasts.rows(family, depth, [("a", "b")])[0] if r.pairing == "mean"]
    statistics = bootstrap_family(family, rows, options, 1, None)
    null = null_family(family, options, 1, None)
    given = {"family": family, "rows": rows, "statistics": statistics, "null": null}
    wanted = inspect.signature(contrast_table).parameters  # a verdict may be withheld by the null
    table = contrast_table(**{k: v for k, v in given.items() if k in wanted}, options=options)
    p, p_fwer = permutation.p_values(statistics.observed.mean, null, family.better)
    place = family.rois.index(ROI)
    row = next(t for t in table if t["roi"] == ROI)
    v = difference_of(family, rows[place], statistics)
    row["draws"] = {s: v(values) for s, values in statistics.draws.items()}
    return family, statistics, row, p[place, family.layers.index(LAYER)], p_fwer.min()


def bars(scores: np.ndarray, rng: np.random.Generator, n: int = N_BARS) -> dict[str, float]:
    """Percentile bootstrap over people of each network, and of their difference.

    Parameters
    ----------
    scores : (subject, 2)
    """
    drawn = resample.multiplicities(rng, len(scores), n) @ scores / len(scores)
    levels = [2.5, 97.5, 0.5, 99.5]
    (a_low, a_high, _, _), (b_low, b_high, _, _) = np.percentile(drawn, levels, axis=0).T
    low, high, low99, high99 = np.percentile(drawn[:, 0] - drawn[:, 1], levels)
    return {
        "a_low": a_low, "a_high": a_high, "b_low": b_low, "b_high": b_high,
        "paired_low": low, "paired_high": high, "paired_low99": low99, "paired_high99": high99,
    }  # fmt: skip


def dual_variance(
    both: float, subjects: float, stimuli: float, n_subjects: int, n_stimuli: int
) -> float:
    """Variance of rsatoolbox's dual bootstrap, with its clip (FACTS 7.3, `_dual_bootstrap`)."""
    of_subjects = n_subjects / (n_subjects - 1) * subjects
    of_stimuli = n_stimuli / (n_stimuli - 1) * stimuli
    more = n_subjects * n_stimuli / ((n_subjects - 1) * (n_stimuli - 1))
    value = of_subjects + of_stimuli - more * (both - subjects - stimuli)
    return min(max(value, of_subjects, of_stimuli), both)


@threadpool_limits.wrap(limits=1)
def simulate(design: Design, scenario: str, simulation: int, seed: int) -> list[dict]:
    """One line per metric."""
    own = int(resample.stream(seed, design.name, scenario, simulation).integers(2**62))
    options = Options(N_BOOTSTRAP, N_PERMUTATIONS, own, 0.95, 0.1, 1, None)
    lines = []
    for metric, comparison in compared(design, scenario, own).items():
        _, _, row, p_null, p_fwer = inferred(comparison, metric, options)
        scores = comparison.scores["score"].sel(metric=metric, roi=ROI)
        per_network = np.column_stack(
            [scores.values[:, scores["network"].values == n].mean(axis=1) for n in "ab"]
        )
        v = {name: float(spread(row["draws"][frozenset(of)])) * N_BOOTSTRAP / (N_BOOTSTRAP - 1)
             for name, of in (("both", {"subjects", "stimuli"}), ("subjects", {"subjects"}),
                              ("stimuli", {"stimuli"}))}  # fmt: skip
        dual = dual_variance(**v, n_subjects=design.n_subjects, n_stimuli=design.n_stimuli)
        lines.append(
            {
                "simulation": simulation, "code": code(), "metric": metric,
                "p_null": p_null, "p_fwer": p_fwer,
                "difference": row["difference"], "se": row["se"], "dof": row["dof"],
                "low": row["ci_low"], "high": row["ci_high"], "p": row["p"],
                "verdict": row["verdict"], "dual_se": np.sqrt(dual),
                **bars(per_network, resample.stream(own, "bars")),
            }
        )  # fmt: skip
    return lines


# -- truth ---------------------------------------------------------------------------------------


def differences(
    design: Design,
    scenario: str,
    seed: int,
    n_test: int | None = None,
    metrics: Sequence[str] | None = None,
) -> dict[str, float]:
    """{metric: difference of the two networks} of one study, without inference."""
    found = {}
    for metric, comparison in compared(design, scenario, seed, n_test, metrics).items():
        mean = comparison.scores["score"].sel(metric=metric, roi=ROI).mean("subject")
        a, b = (float(mean[mean["network"].values == n].mean()) for n in "ab")
        found[metric] = a - b
    return found


def truth(
    design: Design, scenario: str, seed: int, n_studies: int = 200, n_test: int = 120
) -> pd.DataFrame:
    """Expected difference for new people and new stimuli, with its Monte-Carlo error.

    Exactly 0 in `null` and `equal`: in `equal` the networks can change names; unrelated networks
    have an expected score of 0. Else the mean over many studies of twelve people and `n_test` test
    stimuli, each with networks, training stimuli and people of its own. Without a split the
    training set has the size of the study's, so that these keep their own size.
    """
    if scenario != "closer":
        zero = {"difference": 0.0, "se": 0.0}
        return pd.DataFrame([{"metric": m, **zero} for m in metrics_of(design)])
    size, tested = replace(design, n_subjects=12), n_test
    if not design.split:
        size, tested, n_studies = design, design.n_stimuli, 4 * n_studies
    seeds = [int(resample.stream(seed, "truth", i).integers(2**62)) for i in range(n_studies)]
    table = pd.DataFrame([differences(size, scenario, own, tested) for own in seeds])
    return pd.DataFrame(
        {"metric": table.columns, "difference": table.mean().values, "se": table.sem().values}
    )


# -- all of them ---------------------------------------------------------------------------------


def fingerprint(design: Design, scenario: str, seed: int) -> str:
    """Of all that decides what is simulated; results of another are not mixed with these."""
    numbers = (POPULATION, N_BOOTSTRAP, N_PERMUTATIONS, N_BARS, seed)
    return digest(repr(design), scenario, repr(METRICS), repr(numbers))[:10]


@cache
def code() -> str:
    """Of the package's statistics as they stand: results say which code they are from."""
    root = Path(rc.__file__).parent
    parts = ("kernels", "metrics", "inference")
    return digest(*(f.read_text() for p in parts for f in sorted((root / p).glob("*.py"))))[:8]


def _write(file: Path, table: pd.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    table.to_csv(part, index=False)
    part.replace(file)


def _chunk(file: Path, design: Design, scenario: str, first: int, size: int, seed: int) -> None:
    lines = [x for i in range(first, first + size) for x in simulate(design, scenario, i, seed)]
    _write(file, pd.DataFrame(lines))


def _truth_file(file: Path, design: Design, scenario: str, seed: int) -> None:
    _write(file, truth(design, scenario, seed))


def files(
    out: Path, designs: list[str], n: int, seed: int
) -> list[tuple[Path, Design, str, int | None]]:
    """(file, design, scenario, first simulation or None for the truth), evenly over the rows."""
    listed: list[tuple[Path, Design, str, int | None]] = []
    for first in [*range(0, n, CHUNK), None]:
        for name in designs:
            for scenario in SCENARIOS:
                mark = fingerprint(DESIGNS[name], scenario, seed)
                plain = name.replace(" ", "_").replace(",", "")
                folder = out / "raw" / f"{plain}-{scenario}-{mark}"
                what = "truth.csv" if first is None else f"{first:05d}.csv"
                listed.append((folder / what, DESIGNS[name], scenario, first))
    return listed


def run(
    out: str | Path,
    n_simulations: int,
    designs: list[str] | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    quiet: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate what is not there yet; all simulations and all truths, with design and scenario.

    Parameters
    ----------
    out : path
        `raw/` in it holds what is finished.
    n_simulations : int
        Per row; rounded up to a multiple of `CHUNK`.
    designs : list of str, optional
        Names in `DESIGNS`.

    Returns
    -------
    simulations, truths : DataFrame
    """
    wanted = files(Path(out), list(DESIGNS) if designs is None else designs, n_simulations, seed)
    todo = [w for w in wanted if not w[0].exists()]
    pool = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    start = time.perf_counter()
    jobs = (
        joblib.delayed(_truth_file)(file, design, scenario, seed)
        if first is None
        else joblib.delayed(_chunk)(file, design, scenario, first, CHUNK, seed)
        for file, design, scenario, first in todo
    )
    for done, _ in enumerate(pool(jobs), 1):
        if not quiet:
            spent = time.perf_counter() - start
            left = spent / done * (len(todo) - done)
            print(f"{done} of {len(todo)} parts, {spent:.0f} s, {left:.0f} s left", flush=True)
    tables: dict[bool, list[pd.DataFrame]] = {True: [], False: []}
    for file, design, scenario, first in wanted:
        table = pd.read_csv(file).assign(design=design.name, scenario=scenario)
        tables[first is None].append(table)
    return pd.concat(tables[False], ignore_index=True), pd.concat(tables[True], ignore_index=True)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--simulations", type=int, default=1000, help="per row (1000)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--out", type=Path, default=Path("reports/calibration"))
    parser.add_argument("--rows", nargs="*", choices=list(DESIGNS), help="only these designs")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = run(given.out, given.simulations, given.rows, given.seed, given.jobs)
    from calibration_table import write

    print(write(given.out, *found))


if __name__ == "__main__":
    import calibration  # workers find its functions by this name

    calibration.main()
