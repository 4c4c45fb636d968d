"""Sparse Bayesian regression against its update rules restated, and golden values (FACTS 3.1)."""

from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import ARDRegression

from rsacompare.kernels import cholesky, gram, sparse


def restated(x, y, n_iter=200, prune=1e-10):
    """The rules on the samples, line by line: x (feature, row) with its row of ones, y (row,)."""
    n_features, n_rows = x.shape
    a = np.full(n_features, 1 / max((x**2).mean(axis=1).mean(), 1e-15))
    active = np.arange(n_features)
    total = (y**2).mean()
    for _ in range(n_iter):
        if n_rows >= len(active):
            inverse = np.linalg.inv(x @ x.T + np.diag(1 / a))
            w = (y @ x.T) @ inverse
            g = np.diag(x @ x.T @ inverse)
        else:
            c = np.linalg.inv(x.T @ (a[:, None] * x) + np.eye(n_rows))
            w = (y @ x.T) * a - ((y @ x.T) * a @ x @ c) @ x.T * a
            g = a * np.diag(x @ c @ x.T)
        noise = (y @ y - w @ (x @ y)) / n_rows
        if noise / total < 1e-15:
            noise = max(((y - w @ x) ** 2).mean(), 1e-15)
        a = np.sqrt(a * (w**2 / noise) / np.maximum(g, 1e-15))
        keep = a / a.max() > prune
        x, w, a, active = x[keep], w[keep], a[keep], active[keep]
    return active, w, noise


def golden():
    rng = np.random.default_rng(12345)
    x = rng.standard_normal((60, 20))
    w = np.zeros(20)
    w[[1, 4, 7]] = 1.5, -2.0, 0.7
    y = x @ w + 0.5 * rng.standard_normal(60)
    x, y = ((v - v.mean(axis=0)) / v.std(axis=0, ddof=1) for v in (x, y))
    return np.c_[x, np.ones(60)].T, y


def ours(x, y, rules=sparse.ard, **options):
    return rules(np.ascontiguousarray(x @ x.T), x @ y, y @ y, x.shape[1], **options)


@pytest.mark.parametrize("n_iter", [200, 2000])
def test_golden_values(n_iter):
    found = ours(*golden(), n_iter=n_iter)
    assert found.active.tolist() == [1, 4, 7, 9, 14, 15, 17]
    expected = [0.64468702, -0.75143886, 0.25403666]
    np.testing.assert_allclose(found.weights[[1, 4, 7]], expected, atol=5e-9)
    assert found.noise == pytest.approx(0.0340391767, abs=5e-11)
    assert not found.weights[np.setdiff1d(np.arange(21), found.active)].any()


def test_golden_values_after_ten_iterations():
    found = ours(*golden(), n_iter=10)
    assert found.active.tolist() == [0, 1, 2, 4, 5, 6, 7, 9, 10, *range(12, 19)]
    expected = [0.64685955, -0.75044099, 0.25348077]
    np.testing.assert_allclose(found.weights[[1, 4, 7]], expected, atol=5e-9)
    assert found.noise == pytest.approx(0.0335457031, abs=5e-11)


@pytest.mark.parametrize(("n_rows", "n_features"), [(80, 30), (40, 40), (30, 90)])
@pytest.mark.parametrize("n_iter", [1, 15, 200])
def test_the_gram_form_equals_the_rules(n_rows, n_features, n_iter):
    """Also where there are more features than rows, for which the source has another form."""
    rng = np.random.default_rng(n_rows)
    x = rng.standard_normal((n_features, n_rows)) + rng.standard_normal(n_rows)  # correlated
    y = x[:3].sum(axis=0) + 2 * rng.standard_normal(n_rows)
    active, w, noise = restated(x, y, n_iter)
    found = ours(x, y, n_iter=n_iter)
    by_rows = ours(x, y, n_iter=n_iter, rows=(np.ascontiguousarray(x.T), y))
    for held in (found, by_rows):
        np.testing.assert_array_equal(held.active, active)
        np.testing.assert_allclose(held.weights[active], w, rtol=1e-7, atol=1e-9)
        assert held.noise == pytest.approx(noise, rel=1e-7)


def test_decoding_weights_equal_the_rules_on_selected_voxels():
    rng = np.random.default_rng(8)
    x, x_new = rng.standard_normal((90, 40)) * 5 + 100, rng.standard_normal((7, 40)) * 5 + 100
    x[:, 3] = 2.5  # a voxel that never varies
    y = x[:, [4, 9]] @ rng.standard_normal((2, 5)) + 3 * rng.standard_normal((90, 5)) + 7
    y[:, 2] = -1.5  # a unit that never varies
    live = np.delete(np.arange(40), 3)
    mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
    scale[3] = 1
    expected = np.full((7, 5), -1.5)
    for unit in (0, 1, 3, 4):
        r = np.abs([np.corrcoef(x[:, v], y[:, unit])[0, 1] for v in live])
        best = np.sort(live[np.argsort(-r)[:25]])
        z, z_new = (np.c_[((v - mean) / scale)[:, best], np.ones(len(v))] for v in (x, x_new))
        target = (y[:, unit] - y[:, unit].mean()) / y[:, unit].std(ddof=1)
        active, w, _ = restated(z.T, target)
        expected[:, unit] = z_new[:, active] @ w * y[:, unit].std(ddof=1) + y[:, unit].mean()
    for largest in (gram.LARGEST_GRAM, 10):  # with the region's Gram matrix, and without
        training = gram.train(x, 25, least_squares=False, largest=largest)
        got = gram.predict(training, y, x_new, sparse.weights)
        np.testing.assert_allclose(got, expected, rtol=1e-8)


def mackay_restated(x, y, n_iter):
    """x (row, feature), on the samples with plain inverses."""
    n = len(y)
    alpha, precision = 1 / y.var(), np.ones(x.shape[1])
    active, old = np.arange(x.shape[1]), None
    for _ in range(n_iter):
        part = x[:, active]
        sigma = np.linalg.inv(np.diag(precision) + alpha * part.T @ part)
        w = alpha * sigma @ part.T @ y
        gamma = 1 - precision * np.diag(sigma)
        precision = (gamma + 2e-6) / (w**2 + 2e-6)
        alpha = (n - gamma.sum() + 2e-6) / (((y - part @ w) ** 2).sum() + 2e-6)
        keep = precision < 1e4
        now = np.zeros(x.shape[1])
        now[active[keep]] = w[keep]
        active, precision = active[keep], precision[keep]
        if old is not None and np.abs(now - old).sum() < 1e-3:
            break
        old = now
    part = x[:, active]
    sigma = np.linalg.inv(np.diag(precision) + alpha * part.T @ part)
    return active, alpha * sigma @ part.T @ y


@pytest.mark.parametrize(("n_rows", "n_features"), [(120, 30), (60, 60), (40, 90)])
@pytest.mark.parametrize("n_iter", [1, 7, 300])
def test_mackay_rules_are_scikit_learns(n_rows, n_features, n_iter):
    rng = np.random.default_rng(n_rows)
    x = rng.standard_normal((n_rows, n_features)) + rng.standard_normal((n_rows, 1))
    y = x[:, :3].sum(axis=1) + 2 * rng.standard_normal(n_rows)
    x, y = ((v - v.mean(axis=0)) / v.std(axis=0, ddof=1) for v in (x, y))
    model = ARDRegression(max_iter=n_iter).fit(x, y)
    for rows in (None, (x, y)):
        found = ours(x.T, y, sparse.ard_mackay, n_iter=n_iter, rows=rows)
        active, w = mackay_restated(x, y, n_iter)
        np.testing.assert_array_equal(found.active, active)
        np.testing.assert_allclose(found.weights[active], w, rtol=1e-6, atol=1e-9)
        if n_rows >= n_features:
            np.testing.assert_allclose(found.weights, model.coef_, rtol=1e-6, atol=1e-9)
            assert found.noise == pytest.approx(1 / model.alpha_, rel=1e-6)
        else:  # scikit-learn's form for fewer rows loses digits of γ by cancellation
            np.testing.assert_allclose(found.weights, model.coef_, atol=1e-3)


def test_decoding_weights_by_mackay_rules_are_scikit_learns():
    rng = np.random.default_rng(3)
    for n in (70, 20):  # more and fewer rows than selected voxels
        x, x_new = rng.standard_normal((n, 40)), rng.standard_normal((6, 40))
        y = x[:, [4, 9]] @ rng.standard_normal((2, 3)) + 0.5 * rng.standard_normal((n, 3)) + 7
        training = gram.train(x, 30, least_squares=False)
        got = gram.predict(training, y, x_new, partial(sparse.weights, rules="mackay"))
        mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
        for unit in range(3):
            target = (y[:, unit] - y[:, unit].mean()) / y[:, unit].std(ddof=1)
            best = np.argsort(-np.abs(x.T @ target / scale - mean / scale * target.sum()))[:30]
            z, z_new = (((v - mean) / scale)[:, best] for v in (x, x_new))
            expected = ARDRegression(max_iter=200).fit(z, target).predict(z_new)
            expected = expected * y[:, unit].std(ddof=1) + y[:, unit].mean()
            np.testing.assert_allclose(got[:, unit], expected, rtol=1e-6 if n == 70 else 1e-2)
    with pytest.raises(ValueError, match="rules must be one of sato, mackay"):
        sparse.weights(training, y, rules="tipping")


def test_it_finds_what_scikit_learn_finds():
    """The same model with other updates: the same few features, nearly the same weights."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((30, 300))
    w = np.zeros(30)
    w[[2, 11, 20]] = 1.0, -0.8, 0.6
    y = w @ x + 0.5 * rng.standard_normal(300)
    found = ours(x, y, n_iter=2000)
    other = ARDRegression(fit_intercept=False).fit(x.T, y)
    assert set(np.flatnonzero(np.abs(found.weights) > 0.2)) == {2, 11, 20}
    np.testing.assert_allclose(found.weights, other.coef_, atol=0.05)
    assert found.noise == pytest.approx(1 / other.alpha_, rel=0.1)
    assert len(found.active) < 20


def test_twins_and_constants_have_an_outcome():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, 50))
    x[1] = x[0]  # perfectly collinear
    y = 2 * x[0] + 0.1 * rng.standard_normal(50)
    found = ours(x, y)
    assert found.weights[0] == pytest.approx(found.weights[1], rel=1e-6)  # they share
    assert found.weights[:2].sum() == pytest.approx(2, abs=0.05)
    nothing = ours(x, np.zeros(50))
    assert not nothing.weights.any()
    assert nothing.active.size == 0
    assert not ours(x, np.zeros(50), sparse.ard_mackay).weights.any()
    orthogonal = np.linalg.qr(rng.standard_normal((50, 3)))[0].T
    assert np.abs(ours(orthogonal[:2], orthogonal[2]).weights).max() < 1e-12
    perfect = ours(x[2:], x[2])
    assert perfect.weights == pytest.approx([1, 0], abs=1e-6)


@pytest.mark.parametrize("change", [{"n_rows": 0}, {"n_iter": 0}, {"cross": np.ones(3)}])
def test_what_does_not_fit_is_refused(change):
    given = {"gram": np.eye(2), "cross": np.ones(2), "square": 1.0, "n_rows": 5} | change
    with pytest.raises(ValueError, match="iterations"):
        sparse.ard(**given)


@pytest.mark.parametrize("n", [1, 7, 64, 65, 130, 301])
def test_inverse_factor(n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 2 * n))
    matrix = x @ x.T + np.eye(n)
    held = matrix.copy()
    assert cholesky.inverse_factor_in_place(held)
    u = np.triu(held)
    np.testing.assert_allclose(u @ u.T, np.linalg.inv(matrix), rtol=1e-8, atol=1e-12)
    np.testing.assert_array_equal(np.tril(held, -1), np.tril(matrix, -1))
    assert not cholesky.inverse_factor_in_place(-np.eye(3))
    with pytest.raises(ValueError, match="square float64"):
        cholesky.inverse_factor_in_place(np.eye(4)[:, ::2])
