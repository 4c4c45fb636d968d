"""Ridge on each target's best voxels against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from rsacompare.kernels import gram, shrinkage


def world(n=60, n_voxels=30, seed=0):
    rng = np.random.default_rng(seed)
    x = 40 + 6 * rng.standard_normal((n + 9, n_voxels))
    x[:, 5] = 3.0
    y = x[:, :6] @ rng.standard_normal((6, 8)) + 20 * rng.standard_normal((n + 9, 8))
    y[:, 3] = 2.0
    return x[:n], y[:n], x[n:]


def written_out(x, y, x_new, p, alpha):
    scale = x.std(axis=0, ddof=1)
    scale[scale < 1e-9] = 1
    z, z_new = (x - x.mean(axis=0)) / scale, (x_new - x.mean(axis=0)) / scale
    out = np.empty((len(x_new), y.shape[1]))
    for unit in range(y.shape[1]):
        spread = y[:, unit].std(ddof=1) or 1
        target = (y[:, unit] - y[:, unit].mean()) / spread
        r = np.abs(z.T @ target)
        r[5] = -1
        best = np.argsort(-r)[:p]
        # the row of ones is penalised as any other
        rows, new = np.c_[z[:, best], np.ones(len(z))], np.c_[z_new[:, best], np.ones(len(z_new))]
        model = Ridge(alpha=np.broadcast_to(alpha, y.shape[1:])[unit], fit_intercept=False)
        out[:, unit] = model.fit(rows, target).predict(new) * spread + y[:, unit].mean()
    return out


@pytest.mark.parametrize(("n", "n_voxels"), [(60, 30), (25, 40)])
@pytest.mark.parametrize("p", [7, 26, 500])
@pytest.mark.parametrize("largest", [gram.LARGEST_GRAM, 10])
def test_predictions_equal_scikit_learn(n, n_voxels, p, largest):
    x, y, x_new = world(n, n_voxels)
    training = gram.train(x, p, least_squares=False, largest=largest)
    for alpha in (100.0, np.geomspace(0.1, 1000, 8)):
        got = shrinkage.predict(training, y, x_new, alpha)
        np.testing.assert_allclose(
            got, written_out(x, y, x_new, min(p, n_voxels - 1), alpha), rtol=1e-9
        )


def test_chosen_penalty_is_the_best_of_the_folds():
    x, y, _ = world(70)
    y[:, 0] = x[:, 0] + x[:, 9] - x[:, 12]  # noise-free: the least penalty
    fold = np.arange(70) % 4
    alphas = [1.0, 30.0, 1000.0]
    held = gram.train_folds(x, fold, 12, least_squares=False)
    got = shrinkage.choose_alpha(held, x, y, fold, alphas)
    total = np.zeros((3, 8))
    for label in range(4):
        for i, alpha in enumerate(alphas):
            rows = fold == label
            guess = written_out(x[~rows], y[~rows], x[rows], 12, alpha)
            for unit in (0, 1, 2, 4, 5, 6, 7):
                total[i, unit] += np.corrcoef(guess[:, unit], y[rows, unit])[0, 1]
    expected = np.array(alphas)[total.argmax(axis=0)]
    expected[3] = 1000.0  # it never varies: nothing to choose by
    np.testing.assert_array_equal(got, expected)
    assert got[0] == 1.0
    assert len(set(got)) > 1


def test_a_penalty_must_be_positive():
    x, y, _ = world()
    with pytest.raises(ValueError, match="positive"):
        shrinkage.weights(gram.train(x, 5, least_squares=False), y - y.mean(axis=0), alpha=0.0)


@pytest.mark.parametrize("p", [8, 500])
@pytest.mark.parametrize("n", [60, 20])
def test_a_penalty_below_rounding_gives_the_minimum_norm(p, n):
    """Voxels that repeat one another, and next to no penalty: scikit-learn's least squares."""
    x, y, x_new = world(n, 30)
    x[:, 20:28], x_new[:, 20:28] = x[:, 10:18], x_new[:, 10:18]
    x = np.round(x)  # exactly equal and exactly summed
    got = shrinkage.predict(gram.train(x, p, least_squares=False), y, x_new, 1e-14)
    expected = gram.predict(gram.train(x, p), y, x_new)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
