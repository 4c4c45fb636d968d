"""Searchlight RSA against rsatoolbox's, on the same spheres, in two workers each.

rsatoolbox makes an RDM per sphere with `calc_rdm` and compares each with the models; a few of its
spheres are run and scaled up. Both must agree before anything is timed.
"""

import argparse
import time
import warnings

import numpy as np
from joblib import Parallel, delayed
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import RDMs, calc_rdm, compare
from threadpoolctl import threadpool_limits

from rsacompare.kernels import correlate, spheres


def theirs(patterns, index, start, models, which):
    warnings.simplefilter("ignore")
    held = [Dataset(patterns[:, index[start[s] : start[s + 1]]]) for s in which]
    return compare(RDMs(models), calc_rdm(held, method="correlation"), "spearman").T


def ours(patterns, position, centres, models):
    index, start = spheres.neighbours(position, centres, 9.0)
    rdms = spheres.dissimilarities(patterns, index, start, "correlation", 2)
    return correlate.compare_rdms(spheres.ranks(models), spheres.ranks(rdms), "corr").T


def main(full: bool = False) -> list[str]:
    side, n = (34, 50) if full else (14, 50)
    rng = np.random.default_rng(0)
    position = 3.0 * np.argwhere(np.ones((side, side, side), bool))
    patterns = rng.standard_normal((n, len(position)))
    models = rng.random((8, n * (n - 1) // 2))
    few = np.sort(rng.permutation(len(position))[: 400 if full else 200])
    with threadpool_limits(1), Parallel(2) as processes, Parallel(2, prefer="threads") as threads:
        index, start = spheres.neighbours(position, position, 9.0)
        processes(delayed(theirs)(patterns, index, start, models, few[:2]) for _ in range(2))
        clock = time.perf_counter()
        parts = processes(
            delayed(theirs)(patterns, index, start, models, part) for part in np.array_split(few, 2)
        )
        slow = (time.perf_counter() - clock) / len(few) * len(position)
        ours(patterns, position, position[:2], models)
        blocks = np.array_split(position, max(2, len(position) // 2000))
        clock = time.perf_counter()
        found = threads(delayed(ours)(patterns, position, block, models) for block in blocks)
        fast = time.perf_counter() - clock
    np.testing.assert_allclose(np.concatenate(found)[few], np.concatenate(parts), atol=1e-10)
    line = (
        f"searchlight x{slow / fast:.0f}  (ours {fast:.2f} s, rsatoolbox {slow:.1f} s; "
        f"{len(position)} spheres of up to 123 voxels, {n} stimuli, 8 layers)"
    )
    return [line]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    print("\n".join(main(parser.parse_args().full)))
