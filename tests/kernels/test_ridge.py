"""Ridge kernels against scikit-learn, normal equations and explicit hat matrices."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from rsacompare.kernels import ridge, ridge_cv

REGIMES = {  # stimuli, units, targets
    "n>>p": (90, 7, 20),
    "n>p": (60, 55, 20),
    "inner n<p<n": (60, 50, 3),
    "n<p": (40, 150, 20),
    "one target": (50, 20, 1),
    "one unit": (30, 1, 5),
}
ALPHAS = [0.03, 1.0, 30.0, 1000.0]


def data(n, p, t, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x, e = rng.standard_normal((n, p)) * 3 + 5, rng.standard_normal((11, p)) * 3 + 5
    y = (x - 5) @ rng.standard_normal((p, t)) / np.sqrt(p) + noise * rng.standard_normal((n, t))
    fold = rng.permutation(np.arange(n) % 4)
    x, e = ridge.standardise(x, e)
    return x, e, y + 100.0, fold


@pytest.fixture(params=REGIMES.values(), ids=REGIMES.keys())
def problem(request):
    return data(*request.param)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_prediction_is_that_of_scikit_learn(problem, alpha):
    x, e, y, fold = problem
    predicted, chosen, _ = ridge_cv.ridge_cv(x, y, e, [alpha], fold)
    np.testing.assert_allclose(predicted, Ridge(alpha).fit(x, y).predict(e).reshape(11, -1), 1e-9)
    assert (chosen == alpha).all()


def test_prediction_solves_the_penalised_normal_equations(problem):
    x, e, y, fold = problem
    centre = x.mean(axis=0)
    a, b = x - centre, y - y.mean(axis=0)
    weights = np.linalg.solve(a.T @ a + 7.0 * np.eye(x.shape[1]), a.T @ b)
    predicted, _, _ = ridge_cv.ridge_cv(x, y, e, [7.0], fold)
    np.testing.assert_allclose(predicted, y.mean(axis=0) + (e - centre) @ weights, 1e-9)


@pytest.mark.parametrize("criterion", ridge_cv.CRITERIA)
def test_kfold_scores_are_those_of_refitting_in_every_fold(problem, criterion):
    x, e, y, fold = problem
    expected = np.zeros((len(ALPHAS), y.shape[1]))
    for i, alpha in enumerate(ALPHAS):
        for label in np.unique(fold):
            inside, held = fold != label, fold == label
            p = Ridge(alpha).fit(x[inside], y[inside]).predict(x[held]).reshape(held.sum(), -1)
            for t in range(y.shape[1]):
                if criterion == "r2":
                    expected[i, t] += np.mean((y[held, t] - p[:, t]) ** 2) / 4
                else:
                    expected[i, t] += np.corrcoef(y[held, t], p[:, t])[0, 1] / 4
    if criterion == "r2":
        expected = 1 - expected / y.var(axis=0)
    predicted, alpha, scores = ridge_cv.ridge_cv(x, y, e, ALPHAS, fold, criterion)
    np.testing.assert_allclose(scores, expected, rtol=1e-8, atol=1e-9)
    best = np.array(ALPHAS)[expected.argmax(axis=0)]
    if x.shape[1] > 1 or criterion == "r2":  # with one unit all alphas correlate alike
        np.testing.assert_array_equal(alpha, best)
    refit = Ridge(alpha).fit(x, y).predict(e).reshape(11, -1)
    np.testing.assert_allclose(predicted, refit, 1e-8)


def test_regimes_take_both_forms_of_the_fold_product():
    forms = {
        name: [f.merged is not None for f in ridge.build_hats(x, e, ALPHAS, fold).folds]
        for name, (x, e, _, fold) in ((k, data(*v)) for k, v in REGIMES.items())
    }
    assert not any(forms["n>>p"])
    assert all(forms["n<p"])


def test_many_targets_give_what_each_gives_alone():
    # more targets than one block holds
    x, e, y, fold = data(40, 30, ridge_cv._BLOCK + 40)
    together, alpha, _ = ridge_cv.ridge_cv(x, y, e, ALPHAS, fold)
    for t in (0, ridge_cv._BLOCK - 1, ridge_cv._BLOCK, y.shape[1] - 1):
        alone, alpha_alone, _ = ridge_cv.ridge_cv(x, y[:, [t]], e, ALPHAS, fold)
        np.testing.assert_allclose(together[:, t], alone[:, 0], 1e-11)
        assert alpha[t] == alpha_alone[0]


def test_gcv_is_its_definition_with_the_explicit_hat_matrix(problem):
    x, e, y, _ = problem
    n = len(x)
    hats = ridge.build_hats(x, e, ALPHAS)
    scores = ridge_cv.gcv_scores(hats, y)
    for i, alpha in enumerate(ALPHAS):
        a = x - x.mean(axis=0)
        # I - H without cancellation: alpha (K + alpha I)^-1, less the intercept
        rest = alpha * np.linalg.inv(a @ a.T + alpha * np.eye(n)) - 1 / n
        gcv = ((rest @ (y - y.mean(axis=0))) ** 2).mean(axis=0) / (np.trace(rest) / n) ** 2
        np.testing.assert_allclose(scores[i], 1 - gcv / y.var(axis=0), rtol=1e-7, atol=1e-9)


def test_gcv_chooses_nearly_as_leave_one_out():
    x, e, y, _ = data(120, 60, 200)
    y += np.random.default_rng(1).standard_normal(y.shape) * np.linspace(0, 20, 200)
    _, alpha, _ = ridge_cv.ridge_cv(x, y, e, [1, 10, 100, 1000, 10000])
    loo = RidgeCV([1, 10, 100, 1000, 10000], alpha_per_target=True).fit(x, y)
    assert np.mean(alpha == loo.alpha_) > 0.9
    assert len(np.unique(alpha)) >= 3  # otherwise the agreement would say nothing


def test_fitted_sd_is_that_of_predicting_the_training_stimuli(problem):
    x, _, y, _ = problem
    hats = ridge.build_hats(x, x, ALPHAS)
    chosen = np.arange(y.shape[1]) % len(ALPHAS)
    expected = ridge.predict(hats, y, chosen).std(axis=0)
    np.testing.assert_allclose(ridge.fitted_sd(hats, y, chosen), expected, 1e-9)


@pytest.mark.parametrize("shape", [(50, 12), (20, 60)])
def test_collinear_units_are_no_trouble(shape):
    x, e, y, fold = data(*shape, 6)
    twice, e_twice = np.hstack([x, x, x[:, :3]]), np.hstack([e, e, e[:, :3]])
    predicted, _, scores = ridge_cv.ridge_cv(twice, y, e_twice, [5.0], fold)
    np.testing.assert_allclose(predicted, Ridge(5.0).fit(twice, y).predict(e_twice), 1e-9)
    # a unit given twice counts as one of √2 times its size
    scale = np.r_[np.full(3, np.sqrt(3)), np.full(shape[1] - 3, np.sqrt(2))]
    _, _, same = ridge_cv.ridge_cv(x * scale, y, e * scale, [5.0], fold)
    np.testing.assert_allclose(scores, same, 1e-8)


def test_rotating_the_units_changes_nothing_but_rescaling_does():
    x, e, y, fold = data(40, 12, 8)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))
    first, alpha, _ = ridge_cv.ridge_cv(x, y, e, ALPHAS, fold)
    turned, alpha_turned, _ = ridge_cv.ridge_cv(x @ rotation, y, e @ rotation, ALPHAS, fold)
    np.testing.assert_allclose(first, turned, 1e-10)
    np.testing.assert_array_equal(alpha, alpha_turned)
    stretch = np.linspace(0.2, 3, 12)
    stretched, _, _ = ridge_cv.ridge_cv(x * stretch, y, e * stretch, ALPHAS, fold)
    assert np.abs(stretched - first).max() > 0.01


def test_standardise_learns_from_training_rows_only():
    rng = np.random.default_rng(0)
    train, other = rng.standard_normal((20, 4)) * 2 + 1, rng.standard_normal((5, 4)) * 9
    train[:, 1] = 0.1  # never varies in training, though it does later
    a, b = ridge.standardise(train, other)
    assert (a[:, 1] == 0).all()
    assert (b[:, 1] == 0).all()
    live = [0, 2, 3]
    np.testing.assert_allclose(a[:, live].std(axis=0), 1)
    np.testing.assert_allclose(a[:, live].mean(axis=0), 0, atol=1e-12)
    expected = (other[:, live] - train[:, live].mean(axis=0)) / train[:, live].std(axis=0)
    np.testing.assert_allclose(b[:, live], expected)


@pytest.mark.parametrize("criterion", ridge_cv.CRITERIA)
def test_what_never_varies_is_predicted_by_an_exact_constant(criterion):
    x, e, y, fold = data(40, 12, 5)
    y[:, 2] = 0.1
    predicted, _, scores = ridge_cv.ridge_cv(x, y, e, ALPHAS, fold, criterion)
    assert (predicted[:, 2] == 0.1).all()
    assert (scores[:, 2] == 0).all()
    assert np.isfinite(predicted).all()
    dead, _, _ = ridge_cv.ridge_cv(0 * x, y, 0 * e, ALPHAS, fold, criterion)
    assert (np.ptp(dead, axis=0) == 0).all()
    np.testing.assert_allclose(dead[0], y.mean(axis=0))


def test_default_grid_holds_the_best_penalty_of_a_known_noise_level():
    # weights of equal variance: the best alpha is units * noise / signal variance
    n, p, sigma2 = 200, 50, 4.0
    rng = np.random.default_rng(3)
    x, e = ridge.standardise(rng.standard_normal((n, p)), rng.standard_normal((2000, p)))
    weights = rng.standard_normal((p, 60)) / np.sqrt(p)
    y = x @ weights + np.sqrt(sigma2) * rng.standard_normal((n, 60))
    grid = ridge.default_alphas(p, 25)
    error = [((ridge_cv.ridge_cv(x, y, e, [a])[0] - e @ weights) ** 2).mean() for a in grid]
    best = grid[int(np.argmin(error))]
    assert grid[0] < best < grid[-1]
    assert abs(np.log10(best / (p * sigma2))) < 0.4
    coarse = ridge.default_alphas(p)
    assert len(coarse) == 10
    assert error[int(np.argmin(error))] > 0.9 * min(
        ((ridge_cv.ridge_cv(x, y, e, [a])[0] - e @ weights) ** 2).mean() for a in coarse
    )


def test_ties_go_to_the_largest_alpha_and_alphas_are_sorted():
    assert ridge_cv.choose(np.array([[1.0, 0, 2], [1.0, 3, 2], [0.0, 3, 1]])).tolist() == [1, 2, 1]
    x, e, _, fold = data(30, 5, 3)
    hats = ridge.build_hats(x, e, [100.0, 1.0, 10.0], fold)
    assert hats.alphas.tolist() == [1.0, 10.0, 100.0]


def test_same_input_same_bits():
    x, e, y, fold = data(60, 80, 30)
    first, second = (ridge_cv.ridge_cv(x, y, e, ALPHAS, fold) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alphas": [0.0, 1.0]}, "positive"),
        ({"alphas": []}, "positive"),
        ({"alphas": [1.0, np.nan]}, "positive"),
        ({"evaluate": np.zeros((3, 4))}, "share their units"),
        ({"fold": np.zeros(30, int)}, "1 folds"),
        ({"criterion": "r3"}, "r2, correlation"),
    ],
)
def test_what_cannot_be_done_is_said(change, message):
    x, e, y, fold = data(30, 5, 3)
    given = {"evaluate": e, "alphas": ALPHAS, "fold": fold} | change
    with pytest.raises(ValueError, match=message):
        ridge_cv.ridge_cv(x, y, **given)


def test_kfold_scores_need_folds():
    x, e, y, _ = data(30, 5, 3)
    with pytest.raises(ValueError, match="without folds"):
        ridge_cv.kfold_scores(ridge.build_hats(x, e, ALPHAS), y)


def test_deciding_from_single_precision_changes_no_choice(monkeypatch):
    scored = []
    exact = ridge_cv.kfold_scores
    monkeypatch.setattr(
        ridge_cv, "kfold_scores", lambda h, y, *a: scored.append(y.shape[1]) or exact(h, y, *a)
    )
    for n, p in ((60, 58), (40, 150), (100, 90)):
        x, e, y, fold = data(n, p, 600, noise=0)
        # from no noise to nothing but noise, two constants, and a large offset
        y += np.random.default_rng(1).standard_normal(y.shape) * np.geomspace(1e-6, 1e4, 600)
        y[:, :2] = [0.1, 5.0]
        for n_alphas, most in ((10, 0.03), (60, 0.2)):
            alphas = ridge.default_alphas(p, n_alphas)
            hats = ridge.build_hats(x, e, alphas, fold)
            assert all(f.merged.dtype == np.float32 for f in hats.folds)
            scored.clear()
            chosen = ridge_cv.choose_r2(hats, y)
            wanted = ridge_cv.choose(exact(ridge.build_hats(x, e, alphas, fold, single=False), y))
            np.testing.assert_array_equal(chosen, wanted)
            assert len(np.unique(chosen)) > 5
            assert sum(scored) < most * 600  # few need a second look


def test_what_is_too_close_for_single_precision_is_looked_at_again():
    x, e, y, fold = data(40, 150, 300)
    alphas = 150 * (1 + 1e-9 * np.arange(5))
    hats = ridge.build_hats(x, e, alphas, fold)
    scores = ridge_cv.kfold_scores(hats, y)
    assert (np.ptp(scores, axis=0) < 1e-7).all()
    np.testing.assert_array_equal(ridge_cv.choose_r2(hats, y), ridge_cv.choose(scores))


@pytest.mark.parametrize("intercept", [True, False])
def test_noise_gain_is_the_spread_of_predictions_from_noise(intercept):
    rng = np.random.default_rng(3)
    train, evaluate = rng.standard_normal((30, 12)), rng.standard_normal((9, 12))
    hats = ridge.build_hats(train, evaluate, [0.1, 10.0, 1e4], intercept=intercept)
    chosen = np.array([0, 1, 2, 1])
    noise = rng.standard_normal((30, 20_000))
    for index, gain in zip(chosen, ridge.noise_gain(hats, chosen), strict=True):
        predicted = ridge.predict(hats, noise, np.full(20_000, index))
        spread = np.sqrt((predicted.std(axis=0) ** 2).mean())
        assert abs(gain / spread - 1) < 0.02
    same = ridge.build_hats(train, np.repeat(evaluate[:1], 4, axis=0), [1.0], intercept=intercept)
    assert ridge.noise_gain(same, np.array([0])).tolist() == [0.0]
