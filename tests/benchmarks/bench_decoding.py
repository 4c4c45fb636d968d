"""Decoding: ours against scikit-learn's LinearRegression and ARDRegression, on the same two cores.

Theirs: voxels standardised, all correlations in one product, then per unit selection, fit and
prediction, in two processes of one BLAS thread each. Ours: the same units in two threads of one
BLAS thread each, with the region's share (standardisation, Gram matrix, inverse) spread over
the 16 layers that use it. Best of a few runs each. ``--full`` is the size of DESIGN section 9.

Sparse Bayesian regression: by scikit-learn's own updates (same iterations, same survivors), and by
the paper's, whose rival is the same rules in numpy with the Gram matrix made once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.linear_model import ARDRegression, LinearRegression
from threadpoolctl import threadpool_limits

from rsacompare.kernels import gram, sparse

N_TRAIN, N_TEST, N_LAYERS, N_CORES = 1200, 50, 16, 2


def main(full: bool = False) -> list[str]:
    """One line per case."""
    cases = [(900, 500), (540, 500), (4500, 1000)]
    ours, theirs = (1000, 24) if full else (256, 8)
    repeats = 3 if full else 2
    lines = [_case(v, p, ours if v < 4000 else ours // 4, theirs, repeats) for v, p in cases]
    units = 8 if full else 2
    for v, p in [(900, 500), (4500, 1000)] if full else [(900, 500)]:
        lines.append(_ard_case(v, p, units, "mackay", 300))
    lines.append(_ard_case(900, 500, units, "sato", 200 if full else 40))
    return lines


def _case(n_voxels: int, n_selected: int, n_ours: int, n_theirs: int, repeats: int) -> str:
    x, x_new, y = _data(n_voxels, n_ours)
    with threadpool_limits(1), ThreadPoolExecutor(N_CORES) as pool:
        region = _best(lambda: gram.train(x, n_selected), repeats)
        training = gram.train(x, n_selected)
        halves = np.array_split(np.arange(n_ours), N_CORES)

        def run() -> np.ndarray:
            jobs = [pool.submit(gram.predict, training, y[:, h], x_new) for h in halves]
            return np.concatenate([job.result() for job in jobs], axis=1)

        predicted = run()
        mine = _best(run, repeats) / n_ours + region / (N_LAYERS * 1000)

    parts = np.array_split(np.arange(n_theirs), N_CORES)
    with parallel_config("loky", inner_max_num_threads=1), Parallel(N_CORES) as workers:

        def rival() -> np.ndarray:
            work = (delayed(_scikit_learn)(x, y[:, u], x_new, n_selected) for u in parts)
            return np.concatenate(workers(work), axis=1)

        expected = rival()
        other = _best(rival, repeats) / n_theirs
    if not np.allclose(predicted[:, :n_theirs], expected, rtol=1e-8, atol=1e-8):
        raise AssertionError("ours and scikit-learn's predictions differ")
    return (
        f"decoding x{other / mine:.1f}  (ours {mine * 1e3:.2f} ms, scikit-learn "
        f"{other * 1e3:.1f} ms per unit; {n_selected} of {n_voxels} voxels)"
    )


def _ard_case(n_voxels: int, n_selected: int, n_units: int, rules: str, n_iter: int) -> str:
    x, x_new, y = _data(n_voxels, n_units)
    parts = np.array_split(np.arange(n_units), N_CORES)
    with threadpool_limits(1), ThreadPoolExecutor(N_CORES) as pool:
        region = _best(lambda: gram.train(x, n_selected, least_squares=False), 2)
        training = gram.train(x, n_selected, least_squares=False)
        solve = partial(sparse.weights, rules=rules, n_iter=n_iter)

        def run() -> np.ndarray:
            jobs = [pool.submit(gram.predict, training, y[:, h], x_new, solve) for h in parts]
            return np.concatenate([job.result() for job in jobs], axis=1)

        predicted = run()
        mine = _best(run, 2) / n_units + region / (N_LAYERS * 1000)
    fit = _ard_scikit_learn if rules == "mackay" else _ard_numpy
    with parallel_config("loky", inner_max_num_threads=1), Parallel(N_CORES) as workers:

        def rival() -> np.ndarray:
            work = (delayed(fit)(x, y[:, u], x_new, n_selected, n_iter) for u in parts)
            return np.concatenate(workers(work), axis=1)

        workers(delayed(np.ones)(3) for _ in parts)  # processes up, before the clock starts
        start = time.perf_counter()
        expected = rival()
        other = (time.perf_counter() - start) / n_units
    if not np.allclose(predicted, expected, rtol=1e-6, atol=1e-6):
        raise AssertionError("ours and the rival's predictions differ")
    name = "scikit-learn" if rules == "mackay" else f"numpy, {n_iter} iterations of the paper's,"
    return (
        f"ard, {rules} x{other / mine:.1f}  (ours {mine * 1e3:.0f} ms, {name} "
        f"{other * 1e3:.0f} ms per unit; {n_selected} of {n_voxels} voxels)"
    )


def _ard_selected(
    x: np.ndarray, y: np.ndarray, x_new: np.ndarray, n: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float, float]]:
    """Standardised rows of each unit's best voxels, old and new, and the unit with its scale."""
    mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
    z, z_new = (x - mean) / scale, (x_new - mean) / scale
    centre, spread = y.mean(axis=0), y.std(axis=0, ddof=1)
    target = (y - centre) / spread
    r = np.abs(target.T @ z)
    for unit in range(y.shape[1]):
        best = np.sort(np.argpartition(-r[unit], n - 1)[:n])
        yield z[:, best], z_new[:, best], target[:, unit], centre[unit], spread[unit]


def _ard_scikit_learn(
    x: np.ndarray, y: np.ndarray, x_new: np.ndarray, n: int, n_iter: int
) -> np.ndarray:
    out = []
    for z, z_new, target, centre, spread in _ard_selected(x, y, x_new, n):
        out.append(ARDRegression(max_iter=n_iter).fit(z, target).predict(z_new) * spread + centre)
    return np.stack(out, axis=1)


def _ard_numpy(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, n: int, n_iter: int) -> np.ndarray:
    out = []
    for z, z_new, target, centre, spread in _ard_selected(x, y, x_new, n):
        rows = np.c_[z, np.ones(len(z))]
        gram_, cross, square = rows.T @ rows, rows.T @ target, target @ target
        prior = np.full(n + 1, 1 / (np.diag(gram_) / len(z)).mean())
        active = np.arange(n + 1)
        for _ in range(n_iter):
            inverse = np.linalg.inv(gram_ + np.diag(1 / prior))
            w = cross @ inverse
            noise = (square - w @ cross) / len(z)
            prior = np.sqrt(prior * w**2 / noise / np.einsum("ij,ji->i", gram_, inverse))
            keep = prior > 1e-10 * prior.max()
            if not keep.all():
                gram_, cross = gram_[np.ix_(keep, keep)], cross[keep]
                w, prior, active = w[keep], prior[keep], active[keep]
        new = np.c_[z_new, np.ones(len(z_new))]
        out.append(new[:, active] @ w * spread + centre)
    return np.stack(out, axis=1)


def _data(n_voxels: int, n_units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, new rows and training targets."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((N_TRAIN + N_TEST, 60))
    x = latent @ rng.standard_normal((60, n_voxels)) / 4
    x += 2 * rng.standard_normal(x.shape)
    y = latent @ rng.standard_normal((60, n_units)) + rng.standard_normal((len(x), n_units))
    return x[:N_TRAIN], x[N_TRAIN:], y[:N_TRAIN]


def _scikit_learn(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, n: int) -> np.ndarray:
    mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
    z, z_new = (x - mean) / scale, (x_new - mean) / scale
    r = np.abs((y - y.mean(axis=0)).T @ z)
    out = []
    for unit in range(y.shape[1]):
        best = np.argpartition(-r[unit], min(n, z.shape[1]) - 1)[:n]
        model = LinearRegression().fit(z[:, best], y[:, unit])
        out.append(model.predict(z_new[:, best]))
    return np.stack(out, axis=1)


def _best(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    for line in main("--full" in sys.argv):
        print(line)
