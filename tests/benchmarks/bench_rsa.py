"""RSA bootstrap over stimuli with noise ceilings, against rsatoolbox.

rsatoolbox resamples the RDMs and compares, draw by draw, in two processes of one BLAS thread; ours
takes all draws at once, in two threads over the regions. Only a few of rsatoolbox's draws are run
and scaled up. The two must agree, on the same draws, before anything is timed.
"""

import argparse
import time
import warnings

import numpy as np
from joblib import Parallel, delayed
from rsatoolbox.data import Dataset
from rsatoolbox.inference import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, calc_rdm, compare
from threadpoolctl import threadpool_limits

from rsacompare.kernels import correlate, dissimilarity
from rsacompare.kernels.resample import multiplicities

LAYERS, SUBJECTS = 16, 5


def theirs(x, rois, draws, comparator):
    """Scores (draw, roi, layer, subject) and ceilings (draw, roi, 2) by rsatoolbox."""
    warnings.simplefilter("ignore")
    models, brains = RDMs(x), [RDMs(roi) for roi in rois]
    scores, ceilings = [], []
    for w in draws:
        chosen = np.repeat(np.arange(len(w)), w.astype(int))
        sample = models.subsample_pattern("index", chosen)
        samples = [brain.subsample_pattern("index", chosen) for brain in brains]
        scores.append([compare(sample, s, comparator) for s in samples])
        ceilings.append([boot_noise_ceiling(s, comparator) for s in samples])
    return np.array(scores), np.array(ceilings)


def ours(x, rois, draws, comparator, pool):
    """The same; one task per region for the ceilings, one per half of the draws for the scores."""
    y = np.concatenate(rois)
    halves = np.array_split(draws, 2)
    scores = pool(delayed(correlate.compare_rdms)(x, y, comparator, half) for half in halves)
    ceilings = pool(delayed(correlate.noise_ceiling)(roi, comparator, draws) for roi in rois)
    split = np.concatenate(scores).reshape(len(draws), len(x), len(rois), -1)
    ends = np.array([[low.mean(axis=1), high.mean(axis=1)] for low, high in ceilings])
    return split.transpose(0, 2, 1, 3), ends.transpose(2, 0, 1)


def bootstrap_line(comparator, n_stimuli, n_rois, n_draws, n_theirs):
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(n_stimuli * (n_stimuli - 1) // 2)
    x = shared + rng.standard_normal((LAYERS, len(shared))) + 9
    rois = [shared + rng.standard_normal((SUBJECTS, len(shared))) + 9 for _ in range(n_rois)]
    draws = multiplicities(rng, n_stimuli, n_draws)
    thread_pool = Parallel(n_jobs=2, prefer="threads")
    with Parallel(n_jobs=2) as processes:
        few = np.array_split(draws[:n_theirs], 2)
        processes(delayed(theirs)(x, rois, part[:1], comparator) for part in few)  # imports
        start = time.perf_counter()
        parts = processes(delayed(theirs)(x, rois, part, comparator) for part in few)
        rival = (time.perf_counter() - start) * n_draws / n_theirs
    check = ours(x, rois, draws[:n_theirs], comparator, thread_pool)  # compiles, too
    for mine, other in zip(check, zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(mine, np.concatenate(other), atol=1e-10)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        ours(x, rois, draws, comparator, thread_pool)
        took.append(time.perf_counter() - start)
    best = min(took)
    return (
        f"rsa bootstrap {comparator} x{rival / best:.0f}  (ours {best:.2f} s, rsatoolbox "
        f"{rival:.0f} s scaled from {n_theirs} draws; {LAYERS} layers x {n_rois} ROIs x "
        f"{SUBJECTS} subjects x {n_draws} draws, {n_stimuli} stimuli, with ceilings)"
    )


def rdm_line(n_stimuli, repeats):
    patterns = np.random.default_rng(1).standard_normal((n_stimuli, 1000))
    dataset = Dataset(patterns)
    times = []
    for work in (
        lambda: dissimilarity.correlation(patterns),
        lambda: calc_rdm(dataset, method="correlation"),
    ):
        work()
        took = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            took.append(time.perf_counter() - start)
        times.append(min(took))
    return (
        f"rdm correlation x{times[1] / times[0]:.1f}  (ours {1e3 * times[0]:.2f} ms, rsatoolbox "
        f"{1e3 * times[1]:.2f} ms; {n_stimuli} stimuli x 1000 units)"
    )


@threadpool_limits.wrap(1)
def main(full: bool = False) -> list[str]:
    lines = [rdm_line(50, 20), rdm_line(200, 10)]
    for comparator in ("corr", "cosine", "corr_cov", "spearman", "tau-a"):
        rois, draws, few = (10, 1000, 20) if full else (3, 500, 4)
        lines.append(bootstrap_line(comparator, 50, rois, draws, few))
    if full:
        lines += [bootstrap_line(c, 200, 10, 1000, 4) for c in ("corr", "cosine", "spearman")]
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="at the size of the study")
    print("\n".join(main(parser.parse_args().full)))
