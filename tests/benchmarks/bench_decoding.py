"""Decoding by least squares: ours against scikit-learn's LinearRegression, on the same two cores.

Theirs: voxels standardised, all correlations in one product, then per unit selection, fit and
prediction, in two processes of one BLAS thread each. Ours: the same units in two threads of one
BLAS thread each, with the region's share (standardisation, Gram matrix, inverse) spread over
the 16 layers that use it. Best of a few runs each. ``--full`` is the size of DESIGN section 9.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_limits

from rsacompare.kernels import gram

N_TRAIN, N_TEST, N_LAYERS, N_CORES = 1200, 50, 16, 2


def main(full: bool = False) -> list[str]:
    """One line per case."""
    cases = [(900, 500), (540, 500), (4500, 1000)]
    ours, theirs = (1000, 24) if full else (256, 8)
    repeats = 3 if full else 2
    return [_case(v, p, ours if v < 4000 else ours // 4, theirs, repeats) for v, p in cases]


def _case(n_voxels: int, n_selected: int, n_ours: int, n_theirs: int, repeats: int) -> str:
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((N_TRAIN + N_TEST, 60))
    x = latent @ rng.standard_normal((60, n_voxels)) / 4
    x += 2 * rng.standard_normal(x.shape)
    y = latent @ rng.standard_normal((60, n_ours)) + rng.standard_normal((len(x), n_ours))
    x, x_new, y = x[:N_TRAIN], x[N_TRAIN:], y[:N_TRAIN]

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
