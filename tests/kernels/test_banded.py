"""Banded ridge against himalaya's group ridge and brute force; variance parts in closed form."""

import numpy as np
import pytest
from himalaya.ridge import solve_group_ridge_random_search
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import PredefinedSplit

from rsacompare.kernels import banded

ALPHAS = np.logspace(-1, 4, 6)


def data(n=60, n_test=30, sizes=(8, 15), v=6, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    x = [rng.standard_normal((n + n_test, p)) for p in sizes]
    weights = [rng.uniform(0, 2, v) * rng.standard_normal((p, v)) / np.sqrt(p) for p in sizes]
    y = sum(a @ w for a, w in zip(x, weights, strict=True))
    y = y + noise * rng.standard_normal(y.shape)
    fold = np.arange(n) % 4
    return [a[:n] for a in x], [a[n:] for a in x], y[:n], y[n:], fold


@pytest.mark.parametrize("sizes", [(8, 15), (40, 90), (5, 9, 70)])
def test_choice_and_predictions_are_himalayas(sizes):
    train, test, y, _, fold = data(sizes=sizes)
    # centred, so that nobody's intercept matters; himalaya fits none here
    ratios = banded.simplex_grid(len(sizes), 4)
    predicted, alpha, gamma = banded.banded_cv(train, y, test, ALPHAS, fold, ratios)
    deltas, weights, _, intercept = solve_group_ridge_random_search(
        train, y, n_iter=ratios, alphas=ALPHAS, cv=PredefinedSplit(fold), fit_intercept=True,
        return_weights=True, progress_bar=False, warn=False, local_alpha=True,
    )  # fmt: skip
    theirs = np.concatenate(test, axis=1) @ weights + intercept
    # exp(deltas) are gamma / alpha
    np.testing.assert_allclose(gamma.T / alpha, np.exp(deltas), rtol=1e-6)
    np.testing.assert_allclose(predicted, theirs, rtol=1e-5, atol=1e-6)
    assert len(np.unique(gamma[:, 0])) > 1


def test_brute_force_over_the_grid_finds_the_same():
    train, test, y, _, fold = data()
    ratios = np.array([[0.1, 0.9], [0.5, 0.5], [0.95, 0.05]])
    predicted, alpha, gamma = banded.banded_cv(train, y, test, ALPHAS, fold, ratios)
    for t in range(y.shape[1]):
        best = (-np.inf,)
        for ratio in ratios:
            x, e = (np.hstack([np.sqrt(r) * s for r, s in zip(ratio, p, strict=True)])
                    for p in (train, test))  # fmt: skip
            for penalty in ALPHAS:
                error = 0.0
                for f in range(4):
                    fit = Ridge(penalty).fit(x[fold != f], y[fold != f, t])
                    error += np.mean((y[fold == f, t] - fit.predict(x[fold == f])) ** 2)
                if -error > best[0]:
                    best = (-error, penalty, ratio, Ridge(penalty).fit(x, y[:, t]).predict(e))
        assert alpha[t] == best[1]
        np.testing.assert_array_equal(gamma[t], best[2])
        np.testing.assert_allclose(predicted[:, t], best[3], rtol=1e-8)


def test_r2_is_scikit_learns_and_a_weight_is_so_many_rows():
    _, _, _, y, _ = data(n_test=12)
    rng = np.random.default_rng(2)
    predicted = y + rng.standard_normal(y.shape)
    np.testing.assert_allclose(
        banded.r2(y, predicted), r2_score(y, predicted, multioutput="raw_values")
    )
    w = rng.integers(0, 4, (3, 12))
    drawn = [r2_score(np.repeat(y, k, axis=0), np.repeat(predicted, k, axis=0),
                      multioutput="raw_values") for k in w]  # fmt: skip
    np.testing.assert_allclose(banded.r2(y, predicted, w), drawn)
    y[:, 1] = 0.1
    assert np.isnan(banded.r2(y, predicted)[1])


def _parts(train, test, y, y_test, fold):
    from rsacompare.kernels import ridge_cv

    alphas = np.logspace(-6, 3, 10)
    alone = [ridge_cv.ridge_cv(x, y, e, alphas, fold)[0] for x, e in zip(train, test, strict=True)]
    joint = banded.banded_cv(train, y, test, alphas, fold)[0]
    r2 = [banded.r2(y_test, p) for p in (*alone, joint)]
    return dict(zip(banded.PARTS, banded.partition(*r2), strict=True))


def test_orthogonal_spaces_share_nothing_and_add_up():
    rng = np.random.default_rng(3)
    x = [rng.standard_normal((4000, 3)) for _ in range(2)]
    share = np.array([0.1, 0.5, 0.8])
    w = [v / np.linalg.norm(v, axis=0) for v in (rng.standard_normal((3, 3)) for _ in range(2))]
    y = x[0] @ w[0] * np.sqrt(share) + x[1] @ w[1] * np.sqrt(1 - share)
    fold = np.arange(3000) % 4
    parts = _parts([a[:3000] for a in x], [a[3000:] for a in x], y[:3000], y[3000:], fold)
    np.testing.assert_allclose(parts["joint"], 1, atol=1e-3)
    np.testing.assert_allclose(parts["unique_a"], share, atol=0.06)
    np.testing.assert_allclose(parts["unique_b"], 1 - share, atol=0.06)
    np.testing.assert_allclose(parts["shared"], 0, atol=0.08)


def test_identical_spaces_share_everything_exactly():
    train, test, y, y_test, fold = data(sizes=(8, 8))
    parts = _parts([train[0]] * 2, [test[0]] * 2, y, y_test, fold)
    np.testing.assert_allclose(parts["unique_a"], 0, atol=1e-8)
    np.testing.assert_allclose(parts["unique_b"], 0, atol=1e-8)
    np.testing.assert_allclose(parts["shared"], parts["joint"], atol=1e-8)
    # a larger space holds the smaller one: nothing unique is left to that (up to estimation)
    train, test, y, y_test, fold = data(n=1200, n_test=400, sizes=(8, 8))
    both = np.hstack(train), np.hstack(test)
    parts = _parts([train[0], both[0]], [test[0], both[1]], y, y_test, fold)
    assert (np.abs(parts["unique_a"]) < 0.05).all()


@pytest.mark.parametrize("ratios", [[[0.5, 0.6]], [[1.5, -0.5]], [[1.0]], [0.5, 0.5]])
def test_ratios_that_make_no_sense(ratios):
    train, test, y, _, fold = data()
    with pytest.raises(ValueError, match="ratios"):
        banded.banded_cv(train, y, test, ALPHAS, fold, np.array(ratios))
