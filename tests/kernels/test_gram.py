"""Subset least squares against numpy's lstsq on the voxels that numpy's corrcoef ranks first."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rsacompare.kernels import gram
from rsacompare.kernels.cholesky import solve_in_place


def world(n, n_voxels, n_units=6, seed=0, n_new=20):
    """Voxels and units that share 30 latent dimensions, far from zero mean and unit scale."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n + n_new, 30))
    x = latent @ rng.standard_normal((30, n_voxels)) + rng.standard_normal((n + n_new, n_voxels))
    x = 100 + x * rng.uniform(0.1, 10, n_voxels)
    y = 3 + latent @ rng.standard_normal((30, n_units))
    return x[:n], y[:n], x[n:]


def chosen_by_corrcoef(x, y, p):
    r = np.abs([np.corrcoef(voxel, y)[0, 1] for voxel in x.T])
    return np.sort(np.argsort(-r)[:p])


def by_lstsq(x, y, x_new, p):
    mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
    z, z_new = (x - mean) / scale, (x_new - mean) / scale
    out = []
    for unit in y.T:
        best = chosen_by_corrcoef(x, unit, p)
        w = np.linalg.lstsq(z[:, best], unit - unit.mean(), rcond=1e-13)[0]
        out.append(z_new[:, best] @ w + unit.mean())
    return np.stack(out, axis=1)


def way(training):
    held = [k for k in ("gram", "inverse", "operator") if getattr(training, k) is not None]
    return held[0] if held else "rows"


@pytest.mark.parametrize(
    ("n", "n_voxels", "p", "expected_way"),
    [
        (300, 200, 50, "gram"),
        (300, 200, 150, "inverse"),
        (150, 148, 100, "gram"),  # the inverse of all would be ill-conditioned
        (300, 200, 500, "operator"),
        (100, 200, 500, "operator"),  # more voxels than rows, all taken
        (100, 200, 150, "rows"),  # more selected than rows
        (100, 200, 99, "rows"),
        (100, 200, 98, "gram"),
        (40, 12, 1, "gram"),
    ],
)
def test_predictions_equal_lstsq_on_the_selected_voxels(n, n_voxels, p, expected_way):
    x, y, x_new = world(n, n_voxels)
    training = gram.train(x, p)
    assert way(training) == expected_way
    expected = by_lstsq(x, y, x_new, p)
    predicted = gram.predict(training, y, x_new)
    np.testing.assert_allclose(predicted, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("p", [50, 150])
def test_each_target_takes_the_voxels_that_corrcoef_ranks_first(p):
    x, y, _ = world(300, 200)
    w = gram.weights(gram.train(x, p), y - y.mean(axis=0))
    for target in range(y.shape[1]):
        np.testing.assert_array_equal(
            np.flatnonzero(w[:, target]), chosen_by_corrcoef(x, y[:, target], p)
        )


@pytest.mark.parametrize("p", [20, 55])
def test_residuals_are_orthogonal_to_the_selected_voxels_and_to_one(p):
    # the definition of least squares with an intercept, without another solver
    x, y, _ = world(200, 60, n_units=1)
    residual = (y - gram.predict(gram.train(x, p), y, x))[:, 0]
    best = chosen_by_corrcoef(x, y[:, 0], p)
    assert abs(residual.sum()) < 1e-9
    assert np.abs((x[:, best] - x.mean(axis=0)[best]).T @ residual).max() < 1e-8
    left_out = np.setdiff1d(np.arange(60), best)
    assert np.abs((x[:, left_out] - x.mean(axis=0)[left_out]).T @ residual).max() > 1e-3


@pytest.mark.parametrize("p", [30, 45, 500])
def test_constant_voxels_are_never_selected(p):
    x, y, x_new = world(100, 50)
    places = [0, 3, 17, 50]  # 0.1: its mean over the rows is not 0.1, nor its deviation 0
    padded, padded_new = (np.insert(a, places, 0.1, axis=1) for a in (x, x_new))
    assert padded.std(axis=0, ddof=1)[0] > 0
    training = gram.train(padded, p)
    assert training.n_selected == min(p, 50)
    np.testing.assert_allclose(
        gram.predict(training, y, padded_new + 7 * (padded == 0.1)[: len(x_new)]),
        gram.predict(gram.train(x, p), y, x_new),
        rtol=1e-10,
    )


@pytest.mark.parametrize(("n", "p"), [(100, 20), (100, 70), (100, 500), (30, 40)])
def test_voxels_that_repeat_one_another_get_the_minimum_norm_solution(n, p):
    x, y, x_new = world(n, 40)
    x, x_new = np.hstack([x, x]), np.hstack([x_new, x_new])
    training = gram.train(x, p)
    expected = by_lstsq(x, y, x_new, p)
    np.testing.assert_allclose(gram.predict(training, y, x_new), expected, rtol=1e-8)
    w = gram.weights(training, y - y.mean(axis=0))
    both = (w[:40] != 0) & (w[40:] != 0)
    assert both.any()
    np.testing.assert_allclose(w[:40][both], w[40:][both], rtol=1e-6)  # equal shares: least norm


def test_a_constant_target_is_predicted_by_its_value():
    x, y, x_new = world(60, 30)
    y[:, 1] = 0.1
    for p in (10, 20, 500):
        predicted = gram.predict(gram.train(x, p), y, x_new)
        assert (predicted[:, 1] == 0.1).all()
        assert np.ptp(predicted[:, 0]) > 0.1


def test_a_region_too_wide_for_its_gram_matrix_gives_the_same():
    x, y, x_new = world(200, 100)
    held, not_held = gram.train(x, 30), gram.train(x, 30, largest=99**2)
    assert (way(held), way(not_held)) == ("gram", "rows")
    np.testing.assert_allclose(
        gram.predict(not_held, y, x_new), gram.predict(held, y, x_new), rtol=1e-10
    )


def test_units_and_order_of_voxels_do_not_matter_but_their_content_does():
    x, y, x_new = world(150, 60)
    rng = np.random.default_rng(1)
    order, a, b = rng.permutation(60), rng.uniform(-3, 3, 60), rng.uniform(-50, 50, 60)
    for p in (20, 45, 500):
        expected = gram.predict(gram.train(x, p), y, x_new)
        moved, moved_new = (x * a + b)[:, order], (x_new * a + b)[:, order]
        np.testing.assert_allclose(
            gram.predict(gram.train(moved, p), y, moved_new), expected, rtol=1e-8, atol=1e-9
        )
        mixed, mixed_new = (np.c_[v[:, 0] + 100 * v[:, 1], v[:, 1:]] for v in (x, x_new))
        changed = gram.predict(gram.train(mixed, p), y, mixed_new)
        assert (np.abs(changed - expected).max() > 1e-6) == (p != 500)  # a shear of all: none


def test_targets_beyond_one_block_and_in_threads():
    x, y, x_new = world(80, 50, n_units=gram.TARGETS_AT_ONCE + 5)
    for p in (10, 40, 500):
        training = gram.train(x, p)
        together = gram.predict(training, y, x_new)
        last = gram.predict(training, y[:, -1:], x_new)
        np.testing.assert_allclose(together[:, -1:], last, rtol=1e-10)
        with ThreadPoolExecutor(4) as pool:
            for result in pool.map(lambda t: gram.predict(t, y, x_new), [training] * 8):
                np.testing.assert_array_equal(result, together)


def test_fold_trainings_see_only_the_rows_outside_their_fold():
    x, y, x_new = world(90, 40)
    fold = np.arange(90) % 3
    trainings = gram.train_folds(x, fold, 15)
    assert list(trainings) == [0, 1, 2]
    for label, training in trainings.items():
        outside = fold != label
        np.testing.assert_allclose(
            gram.predict(training, y[outside], x_new),
            by_lstsq(x[outside], y[outside], x_new, 15),
            rtol=1e-8,
        )


def test_shapes_that_do_not_fit_are_refused():
    x, y, x_new = world(60, 30)
    training = gram.train(x, 10)
    for bad in ((y[:-1], x_new), (y, x_new[:, 1:])):
        with pytest.raises(ValueError, match="do not fit"):
            gram.predict(training, *bad)
    with pytest.raises(ValueError, match="at least 2 rows"):
        gram.train(x[:1], 10)
    with pytest.raises(ValueError, match="at least 2 rows"):
        gram.train(x, 0)


def test_solve_in_place_equals_numpy_and_knows_singular_systems():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((30, 12))
    matrix, right = a.T @ a, rng.standard_normal((3, 12))
    solved = right.copy()
    upper_only = np.triu(matrix)
    assert solve_in_place(upper_only, solved)
    np.testing.assert_allclose(solved.T, np.linalg.solve(matrix, right.T), rtol=1e-10)

    a[:, 5] = a[:, 2] - a[:, 3]
    assert not solve_in_place(a.T @ a, right.copy())
    assert not solve_in_place(-matrix, right.copy())
    with pytest.raises(ValueError, match="C order"):
        solve_in_place(np.asfortranarray(matrix), right[0].copy())
    with pytest.raises(ValueError, match="does not fit"):
        solve_in_place(matrix, right[:, :5].copy())
