"""Encoding of several subjects from one layer: ours against himalaya's RidgeCV.

    python tests/benchmarks/bench_encoding.py [--full]

himalaya gets the best of several settings: all subjects stacked in one call (they share their
stimuli, so its work on the features is done once too) or one by one, batch sizes, all cores on
one layer or a layer per core. Ours runs as `compare` does: a layer per thread, one BLAS thread in
each. Times are per layer; both must choose the same alphas and predict the same.
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


def _our_layer(x, e, ys, fold, alphas, select="kfold"):
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


def _their_layer(x, e, ys, fold, alphas, together, batch):
    settings = {"warn": False, "n_targets_batch": batch, "n_targets_batch_refit": batch}
    out = []
    for y in [np.hstack(ys)] if together else ys:
        model = RidgeCV(
            alphas, fit_intercept=True, cv=PredefinedSplit(fold), solver_params=settings
        ).fit(x, y)
        out.append((model.predict(e), model.best_alphas_))
    return out


def _per_layer(layer, data, *options, one_blas_thread=True):
    """Seconds per layer, and the result: a layer per core at once, or one with all cores."""
    layers = CORES if one_blas_thread else 1
    with threadpool_limits(CORES // layers):
        start = time.perf_counter()
        results = Parallel(layers, prefer="threads")(
            delayed(layer)(*data, *options) for _ in range(layers)
        )
        return (time.perf_counter() - start) / layers, results[0]


def main(full: bool = False) -> list[str]:
    """Time both, check that they agree, print and return one line per kernel."""
    n, n_test, p, v, subjects = (1200, 50, 1000, 4500, 5) if full else (300, 50, 250, 600, 2)
    data = _data(n, n_test, p, v, subjects)
    small = (data[0][:40], data[1], [data[2][0][:40, :5]], data[3][:40], data[4])
    _our_layer(*small)  # compile
    rounds = 1 if full else 2

    def best_of(*args, **options):
        return min((_per_layer(*args, **options) for _ in range(rounds)), key=lambda r: r[0])

    ours, mine = best_of(_our_layer, data)
    quick, _ = best_of(_our_layer, data, "gcv")
    ways = [(True, 1000, True), (False, 1000, True), (True, 200, True), (True, 1000, False)]
    ways = ways[:2] if full else ways
    times = {w: best_of(_their_layer, data, *w[:2], one_blas_thread=w[2]) for w in ways}
    best = min(times, key=lambda way: times[way][0])
    theirs, reference = times[best]
    one_by_one = times[ways[1]][0]
    predicted, chosen = (np.concatenate([r[i] for r in mine], axis=-1) for i in (0, 1))
    other, penalty = (np.concatenate([r[i] for r in reference], axis=-1) for i in (0, 1))
    np.testing.assert_allclose(chosen, penalty, rtol=1e-10)
    np.testing.assert_allclose(predicted, other, rtol=1e-6, atol=1e-6)
    size = f"a layer of {p} units, {subjects} x {v} voxels, {len(data[4])} alphas, 5 folds"
    how = "a layer per core" if best[2] else "all cores on a layer"
    lines = [
        f"encoding x{theirs / ours:.1f}  (ours {ours:.2f} s, himalaya RidgeCV {theirs:.2f} s with "
        f"all subjects stacked, batches of {best[1]}, {how}; x{one_by_one / ours:.1f} subject by "
        f"subject {one_by_one:.2f} s; {size})",
        f"encoding-gcv x{theirs / quick:.1f}  (ours {quick:.2f} s by GCV against himalaya's K-fold "
        f"{theirs:.2f} s: another way to choose; {size})",
    ]
    for line in lines:
        print(line)
    return lines


if __name__ == "__main__":
    main("--full" in sys.argv)
