"""Encoding of several subjects from one layer: ours against himalaya's RidgeCV.

    python tests/benchmarks/bench_encoding.py [--full]

himalaya gets the better of two settings: all subjects stacked in one call (they share their
stimuli, so its work on the features is done once too) or one by one; batches of 1000 targets
(200 and 4500 were slower, so were both cores on one layer). Both run as `compare` does: a layer
per core, one BLAS thread in each. Times are per layer; both must choose the same alphas and
predict the same.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
from himalaya.ridge import RidgeCV
from joblib import Parallel, delayed
from sklearn.model_selection import PredefinedSplit
from threadpoolctl import threadpool_limits

from rsacompare.kernels import resample, ridge, ridge_cv

CORES = min(2, os.cpu_count() or 1)


def _data(n: int, n_test: int, p: int, v: int, subjects: int) -> tuple:
    rng = np.random.default_rng(0)
    x, e = ridge.standardise(rng.standard_normal((n, p)), rng.standard_normal((n_test, p)))
    ys = []
    for _ in range(subjects):
        noise = rng.uniform(0.5, 10, v)
        ys.append(
            x @ rng.standard_normal((p, v)) / np.sqrt(p) + noise * rng.standard_normal((n, v))
        )
    fold = resample.folds(np.array([f"s{i:05d}" for i in range(n)]), 5, 0)
    return x, e, ys, fold, ridge.default_alphas(p)


def _our_layer(x, e, ys, fold, alphas, select):
    """One layer against all subjects: (predicted, alpha) for each."""
    hats = ridge.build_hats(x, e, alphas, fold if select == "kfold" else None)
    out = []
    for y in ys:
        chosen = (
            ridge_cv.choose_r2(hats, y)
            if select == "kfold"
            else ridge_cv.choose(ridge_cv.gcv_scores(hats, y))
        )
        out.append((ridge.predict(hats, y, chosen), alphas[chosen]))
    return out


def _their_layer(x, e, ys, fold, alphas, stacked):
    settings = {"warn": False, "n_targets_batch": 1000, "n_targets_batch_refit": 1000}
    out = []
    for y in [np.hstack(ys)] if stacked else ys:
        model = RidgeCV(
            alphas, fit_intercept=True, cv=PredefinedSplit(fold), solver_params=settings
        ).fit(x, y)
        out.append((model.predict(e), model.best_alphas_))
    return out


def _per_layer(layer, data, option, rounds):
    """Seconds per layer where each core has one, the best of some rounds; and the result."""
    seconds = []
    with threadpool_limits(1):
        for _ in range(rounds):
            start = time.perf_counter()
            results = Parallel(CORES, prefer="threads")(
                delayed(layer)(*data, option) for _ in range(CORES)
            )
            seconds.append((time.perf_counter() - start) / CORES)
    return min(seconds), results[0]


def main(full: bool = False) -> list[str]:
    """Time both, check that they agree, return one line per kernel."""
    n, n_test, p, v, subjects = (1200, 50, 1000, 4500, 5) if full else (480, 50, 400, 900, 5)
    data = _data(n, n_test, p, v, subjects)
    small = (data[0][:40], data[1], [data[2][0][:40, :5]], data[3][:40], data[4])
    _our_layer(*small, "kfold")  # compile
    rounds = 1 if full else 2
    ours, mine = _per_layer(_our_layer, data, "kfold", rounds + 1)
    quick, _ = _per_layer(_our_layer, data, "gcv", rounds + 1)
    theirs, reference = _per_layer(_their_layer, data, True, rounds)
    one_by_one, _ = _per_layer(_their_layer, data, False, rounds)
    best = min(theirs, one_by_one)
    predicted, chosen = (np.concatenate([r[i] for r in mine], axis=-1) for i in (0, 1))
    other, penalty = (np.concatenate([r[i] for r in reference], axis=-1) for i in (0, 1))
    np.testing.assert_allclose(chosen, penalty, rtol=1e-10)
    np.testing.assert_allclose(predicted, other, rtol=1e-6, atol=1e-6)
    size = f"a layer of {p} units, {subjects} x {v} voxels, {len(data[4])} alphas, 5 folds"
    lines = [
        f"encoding x{best / ours:.1f}  (ours {ours:.2f} s, himalaya RidgeCV {theirs:.2f} s with "
        f"all subjects stacked, {one_by_one:.2f} s [x{one_by_one / ours:.1f}] one by one; {size})",
        f"encoding-gcv x{best / quick:.1f}  (ours {quick:.2f} s by GCV, another way to choose, "
        f"against himalaya's K-fold; {size})",
    ]
    return lines


if __name__ == "__main__":
    print("\n".join(main("--full" in sys.argv)))
