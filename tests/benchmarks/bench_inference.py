"""Whole inference over a grid of cells, against scipy's and rsatoolbox's resampling of its scores.

Ours is `infer`, with everything in it: draws of subjects, stimuli and (decoding) units by
themselves and together, the ceilings, and the best layer chosen anew in both halves of four
splits in every draw. The rivals get the same two cores and do less: scipy.stats.bootstrap the
stimuli alone, scipy.stats.permutation_test the same null, rsatoolbox's dual bootstrap subjects,
stimuli and both. A few of their draws are run and scaled up; on these, ours must give the same.
"""

import argparse
import resource
import time
import warnings
from dataclasses import asdict

import numpy as np
import rsatoolbox.inference.evaluate
import scipy.stats
import xarray as xr
from joblib import Parallel, delayed
from rsatoolbox.inference import eval_dual_bootstrap
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs
from threadpoolctl import threadpool_limits

import rsacompare as rc
from rsacompare.kernels import correlate
from rsacompare.kernels.resample import multiplicities
from rsacompare.metrics.parts import score_in_parts
from rsacompare.schema.labels import clean_attrs
from rsacompare.schema.results import Cell, Comparison, layer_coords

DRAWS = 10_000  # of the study: what the times are scaled to


def comparison(kind, n_layers, n_rois, n_subjects, n, n_units):
    """Decoding: units shared by the cells of a layer. Encoding and RSA: the brain's side is."""
    rng = np.random.default_rng(0)
    ids = np.array([f"s{i:02d}" for i in range(n)])
    layers = [
        (net, f"l{i}", {"layer_index": i, "depth": 2 * i / n_layers})
        for net in "ab"
        for i in range(n_layers // 2)
    ]
    rois, subjects = ([f"{x}{i}" for i in range(k)] for x, k in (("r", n_rois), ("s", n_subjects)))
    size = (n * (n - 1) // 2,) if kind == "rsa" else (n, n_units)
    signal = rng.standard_normal(size)
    brains = {(r, s): signal + rng.standard_normal(size) for r in rois for s in subjects}
    noise = {key: rng.chisquare(7, size) / 7 for key in brains}
    evidence = {}
    for net, layer, _ in layers:
        own = signal + rng.standard_normal(size)
        for (r, s), brain in brains.items():
            cell = Cell(kind, f"{net}/{layer}", r, s)
            if kind == "rsa":
                evidence[cell] = rc.PairEvidence(ids, own, brain, "spearman")
                continue
            known = {"noise_variance": noise[r, s], "n_repetitions": np.full(n, 8)}
            guess = 0.5 * (own if kind == "decoding" else brain) + rng.standard_normal(size)
            evidence[cell] = (
                rc.TargetEvidence(
                    ids, own, guess, sources=("stimuli", "units"), noisy="predicted", **known
                )
                if kind == "decoding"
                else rc.TargetEvidence(ids, brain, guess, **known)
            )
    score = [
        [[[evidence[Cell(kind, f"{net}/{la}", r, s)].score() for net, la, _ in layers]
          for r in rois] for s in subjects]
    ]  # fmt: skip
    dims = ("metric", "subject", "roi", "layer")
    data = xr.Dataset(
        {"score": (dims, score), "n_targets": (dims, np.full(np.shape(score), float(n_units)))},
        coords={"metric": [kind], "subject": subjects, "roi": rois, **layer_coords(layers)},
    )
    data.attrs = clean_attrs({"meaning": {kind: asdict(rc.Meaning(kind))}})
    return Comparison(data, evidence)


def ours(cells, n_bootstrap, n_permutations):
    start = time.perf_counter()
    rc.infer(cells, n_bootstrap=n_bootstrap, n_permutations=n_permutations, n_jobs=2)
    return time.perf_counter() - start


def rates(cells, n_draws, n_orders):
    """Seconds per bootstrap draw and per permutation; what is left at none of either apart."""
    ours(cells, 10, 1)  # compiles
    least = ours(cells, 10, 1)
    draw = (ours(cells, n_draws, 1) - least) / (n_draws - 10)
    order = (ours(cells, 10, n_orders) - least) / (n_orders - 1)
    return max(draw, 1e-9), max(order, 1e-9), least


def same_draws(held, weights):
    """Seconds per draw for what scipy does: scores under draws of the stimuli, nothing else."""
    none = np.zeros((0, weights.shape[1]), dtype=bool)
    blocks = np.array_split(weights, max(2, len(weights) // 250))
    took = []
    with threadpool_limits(1), Parallel(2, prefer="threads") as threads:
        for _ in range(2):
            start = time.perf_counter()
            threads(delayed(score_in_parts)(held, none, block) for block in blocks)
            took.append(time.perf_counter() - start)
    return min(took) / len(weights)


def mean_correlation(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return ((x * y).sum(axis=0) / np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))).mean()


def scipys(x, y, few):
    """Seconds per draw and per permutation of one cell; the draws and what came of them."""
    seen = []

    def drawn(index):
        seen.append((index, mean_correlation(x[index], y[index])))
        return seen[-1][1]

    def moved(index):
        seen.append((index, mean_correlation(x, y[index])))
        return seen[-1][1]

    start = time.perf_counter()
    scipy.stats.bootstrap(
        (np.arange(len(x)),), drawn, n_resamples=few, vectorized=False, method="percentile"
    )
    middle = time.perf_counter()
    draws, seen = seen, []
    scipy.stats.permutation_test(
        (np.arange(len(x)),), moved, permutation_type="pairings", n_resamples=few,
        vectorized=False,
    )  # fmt: skip
    return (middle - start) / few, (time.perf_counter() - middle) / few, draws, seen


def target_line(kind, sizes, n_draws, n_orders, few):
    cells = comparison(kind, *sizes)
    held = list(cells.evidence.values())
    with Parallel(2) as processes:
        processes(delayed(scipys)(e.observed, e.predicted, 2) for e in held[:2])  # imports
        found = processes(delayed(scipys)(e.observed, e.predicted, few) for e in held[:2])
    for evidence, (_, _, draws, orders) in zip(held, found, strict=False):
        weights = [np.bincount(index, minlength=sizes[3]) for index, _ in draws]
        none = np.zeros((0, sizes[3]), dtype=bool)
        mine = score_in_parts([evidence], none, np.array(weights, dtype=float)).stimuli[0, :, 0]
        np.testing.assert_allclose(mine, [value for _, value in draws], atol=1e-10)
        mine = evidence.null(np.array([index for index, _ in orders]))
        np.testing.assert_allclose(mine, [value for _, value in orders], atol=1e-10)
    rival, rival_order = (np.mean([f[i] for f in found]) / 2 * len(held) for i in (0, 1))
    draw, order, least = rates(cells, n_draws, n_orders)
    alike = same_draws(held, multiplicities(np.random.default_rng(0), sizes[3], n_draws))
    return (
        f"infer {kind} bootstrap x{rival / draw:.1f}, of the same draws alone "
        f"x{rival / alike:.0f}, null x{rival_order / order:.0f}  (ours "
        f"{1 / draw:.0f} draws/s with all pairings, {1 / order:.0f} permutations/s, {DRAWS} + "
        f"{DRAWS} in {DRAWS * (draw + order) + least:.0f} s; scipy.stats.bootstrap of the stimuli "
        f"alone {DRAWS * rival:.0f} s, permutation_test {DRAWS * rival_order:.0f} s, scaled from "
        f"{few} draws; {_words(sizes)}; peak {_peak():.0f} MiB)"
    )


def dual(x, brain, few, seed):
    """rsatoolbox's scores (both, subjects, stimuli) of one region, and its draws."""
    warnings.simplefilter("ignore")
    module, drawn = rsatoolbox.inference.evaluate, []
    module.tqdm.trange, original = range, module.bootstrap_sample

    def recorded(*given, **options):
        found = original(*given, **options)
        drawn.append(found[1:])
        return found

    module.bootstrap_sample = recorded
    np.random.seed(seed)  # noqa: NPY002  rsatoolbox draws from it
    models = [ModelFixed(f"m{i}", RDMs(row[None])) for i, row in enumerate(x)]
    start = time.perf_counter()
    result = eval_dual_bootstrap(
        models, RDMs(brain), method="spearman", k_pattern=1, k_rdm=1, N=few, use_correction=False
    )
    took = time.perf_counter() - start
    module.bootstrap_sample = original
    return took / few, result.evaluations.reshape(few, len(x), -1), drawn


def rsa_line(sizes, n_draws, n_orders, few):
    cells = comparison("rsa", *sizes)
    n = sizes[3]
    x = np.stack([cells.evidence[Cell("rsa", f"{net}/l{i}", "r0", "s0")].network
                  for net in "ab" for i in range(sizes[0] // 2)])  # fmt: skip
    rois = [
        np.stack([cells.evidence[Cell("rsa", "a/l0", f"r{r}", f"s{s}")].brain
                  for s in range(sizes[2])])
        for r in range(min(2, sizes[1]))
    ]  # fmt: skip
    with Parallel(2) as processes:
        processes(delayed(dual)(x, roi, 1, 0) for roi in rois)  # imports
        found = processes(delayed(dual)(x, roi, few, i) for i, roi in enumerate(rois))
    for roi, (_, theirs, drawn) in zip(rois, found, strict=True):
        for (subjects, stimuli), values in zip(drawn, theirs, strict=True):
            s = np.bincount(subjects, minlength=len(roi))
            w = np.bincount(stimuli, minlength=n)[None].astype(float)
            every, plain = (
                correlate.compare_rdms(x, roi, "spearman", v)[0] for v in (w, np.ones((1, n)))
            )
            mine = [every @ s / s.sum(), plain @ s / s.sum(), every.mean(axis=1)]
            np.testing.assert_allclose(np.transpose(mine), values, atol=1e-10)
    rival = np.mean([f[0] for f in found]) / 2 * sizes[1]
    draw, order, least = rates(cells, n_draws, n_orders)
    return (
        f"infer rsa spearman bootstrap x{rival / draw:.0f}  (ours {1 / draw:.0f} draws/s with all "
        f"pairings and ceilings, {1 / order:.0f} permutations/s, {DRAWS} + {DRAWS} in "
        f"{DRAWS * (draw + order) + least:.0f} s; rsatoolbox eval_dual_bootstrap "
        f"{DRAWS * rival:.0f} s scaled from {few} draws; {_words(sizes)}; peak {_peak():.0f} MiB)"
    )


def _words(sizes):
    layers, rois, subjects, n, units = sizes
    return f"{layers} layers x {rois} ROIs x {subjects} subjects, {n} stimuli, {units} units"


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(full: bool = False) -> list[str]:
    if full:
        sizes, draws, orders, few = (16, 10, 5, 50, 1000), 1000, 10_000, 100
    else:
        sizes, draws, orders, few = (4, 2, 3, 50, 500), 500, 2000, 200
    lines = [target_line(kind, sizes, draws, orders, few) for kind in ("decoding", "encoding")]
    return [*lines, rsa_line(sizes, draws, orders, 10 if full else 3)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="at the size of the study")
    print("\n".join(main(parser.parse_args().full)))
