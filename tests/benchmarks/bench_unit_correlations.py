"""Bootstrap and permutation null of unit correlations, against numpy and scipy.

The rival for the bootstrap is the best numpy: weighted sums vectorised over units, a loop over
draws, in two threads. scipy's own bootstrap and permutation test are timed on fewer draws.
"""

import argparse
import time

import numpy as np
import scipy.stats
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from rsacompare.kernels import correlate
from rsacompare.kernels.resample import multiplicities, permutations


def pearson(x, y, axis=0):
    x = x - x.mean(axis=axis, keepdims=True)
    y = y - y.mean(axis=axis, keepdims=True)
    return (x * y).sum(axis=axis) / np.sqrt((x * x).sum(axis=axis) * (y * y).sum(axis=axis))


def numpy_bootstrap(x, y, chosen):
    return np.array([pearson(x[rows], y[rows]) for rows in chosen])


def numpy_null(x, y, orders):
    y = y - y.mean(axis=0)
    y /= np.linalg.norm(y, axis=0)
    x = x - x.mean(axis=0)
    x /= np.linalg.norm(x, axis=0)
    return np.array([np.einsum("st,st->t", x, y[order]).mean() for order in orders])


def timed(work, repeats=3):
    work()
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return min(took)


@threadpool_limits.wrap(1)
def main(full: bool = False) -> list[str]:
    n, units, draws = (50, 1000, 10_000) if full else (50, 1000, 1_500)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, units))
    y = x + rng.standard_normal((n, units))
    w = multiplicities(rng, n, draws)
    chosen = np.array([np.repeat(np.arange(n), row.astype(int)) for row in w])
    orders = permutations(rng, n, draws)
    pool = Parallel(n_jobs=2, prefer="threads")

    def in_two(function, rows):
        return np.concatenate(pool(delayed(function)(x, y, r) for r in np.array_split(rows, 2)))

    boot = in_two(correlate.correlate_columns, w)
    np.testing.assert_allclose(boot[:50], numpy_bootstrap(x, y, chosen[:50]), atol=1e-12)
    null = correlate.null_mean_correlation(x, y, orders)
    np.testing.assert_allclose(null[:50], numpy_null(x, y, orders[:50]), atol=1e-12)

    few = max(100, draws // 20)
    ours = timed(lambda: in_two(correlate.correlate_columns, w))
    loop = timed(lambda: in_two(numpy_bootstrap, chosen), 1)
    scipys = timed(
        lambda: scipy.stats.bootstrap(
            (x, y), pearson, paired=True, vectorized=True, axis=0, n_resamples=few,
            method="percentile", batch=50,
        ),
        1,
    ) * draws / few  # fmt: skip
    ours_null = timed(lambda: correlate.null_mean_correlation(x, y, orders))
    loop_null = timed(lambda: in_two(numpy_null, orders), 1)
    size = f"{draws} draws x {n} stimuli x {units} units"
    return [
        f"bootstrap of unit correlations x{loop / ours:.1f}  (ours {ours:.2f} s, numpy loop "
        f"{loop:.2f} s, scipy.stats.bootstrap {scipys:.1f} s = x{scipys / ours:.0f}; {size})",
        f"permutation null of their mean x{loop_null / ours_null:.0f}  (ours "
        f"{1e3 * ours_null:.1f} ms, numpy loop {loop_null:.2f} s; {size})",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="at the size of the study")
    print("\n".join(main(parser.parse_args().full)))
