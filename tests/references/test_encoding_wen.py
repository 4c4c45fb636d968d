"""Encoding as in the released code of Wen et al.: a plain numpy re-statement is the oracle."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

import rsacompare as rc
from rsacompare.datasets.frames import frames_to_volumes
from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import hrf
from rsacompare.metrics.encoding import Encoding
from rsacompare.metrics.voxels import folds_of
from rsacompare.testing import metric_checks

WEN = {
    "criterion": "correlation",
    "folds": "contiguous",
    "penalty": "mean",
    "intercept": False,
}
LAMBDAS = [0.003, 0.03, 0.3, 3.0]


def movie(seed=0, n_train=90, n_test=45, n_units=12, n_voxels=9, noise=1.0, repeats=(2, 10)):
    """Time points in order, a layer, and runs of a brain that reads it."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    units = np.cumsum(rng.standard_normal((n, n_units)), axis=0)
    units -= np.linspace(0, 1, n)[:, None] * units[-1]
    ids = np.array([f"t{i:04d}" for i in range(n)])
    z = (units - units.mean(axis=0)) / units.std(axis=0)
    signal = z @ rng.standard_normal((n_units, n_voxels)) / np.sqrt(n_units)
    signal -= signal.mean(axis=0)
    row = np.r_[np.tile(np.arange(n_train), repeats[0]),
                np.tile(np.arange(n_train, n), repeats[1])]  # fmt: skip
    y = signal[row] + noise * rng.standard_normal((len(row), n_voxels))
    return units, ids, y, row, np.where(row < n_train, "train", "test")


def arrays_of(units, ids, y, row, part, **coords):
    layer = rc.activations({"net": {"l": units}}, stimulus_id=ids)["net/l"]["activation"]
    brain = rc.responses({"s": y}, stimulus_id=ids[row], split=part, presentation=coords)
    return layer, brain["s"]["response"]


def run(metric, layer, brain):
    return metric.compare(metric.prepare_activation(layer), metric.prepare_response(brain))


def voxelwise_encoding(features, responses, lambdas, nfold):
    """voxelwise_encoding.m: W = (Y'Y + lambda T I)^-1 Y'X, lambda by mean validation r."""
    n = len(features)
    edges = np.linspace(0, n, nfold + 1).astype(int)
    r = np.zeros((len(lambdas), responses.shape[1]))

    def fit(x, y, penalty):
        return np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T @ y)

    for f in range(nfold):
        held = np.arange(edges[f], edges[f + 1])
        kept = np.setdiff1d(np.arange(n), held)
        for i, penalty in enumerate(lambdas):
            guess = features[held] @ fit(features[kept], responses[kept], penalty)
            for v in range(responses.shape[1]):
                r[i, v] += np.corrcoef(guess[:, v], responses[held, v])[0, 1] / nfold
    best = r.argmax(axis=0)
    weights = np.stack(
        [fit(features, responses[:, [v]], lambdas[best[v]])[:, 0] for v in range(len(best))], axis=1
    )
    return weights, best, r


def wen_features(train, other, share=0.99):
    mean, sd = train.mean(axis=0), train.std(axis=0, ddof=1)
    sd[sd == 0] = 1
    z = (train - mean) / sd
    _, s, vt = np.linalg.svd(z, full_matrices=False)
    keep = int(np.flatnonzero(np.cumsum(s**2) / np.sum(s**2) > share)[0]) + 1
    p = train.shape[1]
    return z @ vt[:keep].T / np.sqrt(p), (other - mean) / sd @ vt[:keep].T / np.sqrt(p)


@pytest.mark.parametrize("n_units", [12, 150])
@pytest.mark.parametrize("share", [0.8, 0.99])
def test_the_released_code_step_by_step(n_units, share):
    data = movie(n_units=n_units)
    units, _ids, y, _row, _part = data
    layer, brain = arrays_of(*data)
    metric = Encoding(LAMBDAS, features="components", variance=share, n_inner_folds=9, **WEN)
    evidence = run(metric, layer, brain)
    x, e = wen_features(units[:90], units[90:], share)
    train = np.mean([y[:90], y[90:180]], axis=0)
    test = np.mean([y[180 + 45 * k : 225 + 45 * k] for k in range(10)], axis=0)
    weights, best, _ = voxelwise_encoding(x, train, LAMBDAS, 9)
    assert len(np.unique(best)) > 1
    np.testing.assert_allclose(evidence.predicted, e @ weights, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(evidence.observed, test)
    r = [np.corrcoef(e @ weights[:, v], test[:, v])[0, 1] for v in range(9)]
    np.testing.assert_allclose(evidence.profile, r, rtol=1e-7)


def test_frames_components_hrf_volumes_regression():
    """From frames to scores: the order of the source, with its HRF and another length of test."""
    rng = np.random.default_rng(1)
    rate, tr, lengths = 5.0, 2.0, {"a": 40, "b": 40, "c": 25}
    n = {k: round(v * tr * rate) for k, v in lengths.items()}
    frames = np.cumsum(rng.standard_normal((sum(n.values()), 20)), axis=0) * 0.1
    frames[:, 3] = 7.0
    segment = np.repeat(list(n), list(n.values()))
    tree = rc.activations({"n": {"l": frames}}, stimulus_id=[f"f{i}" for i in range(len(frames))])
    made = frames_to_volumes(
        tree, segment, rate, tr, train=["a", "b"], components=0.9, hrf="wen", shift=4.0
    )
    x, e = wen_features(frames[segment != "c"], frames[segment == "c"], 0.9)
    kernel = hrf.spm_hrf(1 / rate, hrf.WEN)
    parts = {"a": x[: n["a"]], "b": x[n["a"] :], "c": e}
    expected = []
    for k, v in parts.items():
        full = np.stack([np.convolve(c, kernel) for c in v.T], axis=1)
        at = (np.arange(lengths[k]) * tr + 1 + 4) * rate
        expected.append(full[at.round().astype(int)])
    expected = np.concatenate(expected)
    ours = made["n/l"]["activation"].values
    sign = np.sign((ours * expected).sum(axis=0))
    np.testing.assert_allclose(ours * sign, expected, atol=1e-9)
    assert made["n/l"]["stimulus_id"].values[[0, 40, 80]].tolist() == ["a-0000", "b-0000", "c-0000"]


def test_no_intercept_and_penalties_per_row_against_scikit_learn():
    data = movie()
    units, ids, y, row, part = data
    y = y + 3
    layer, brain = arrays_of(units, ids, y, row, part)
    for intercept in (True, False):
        for penalty, factor in (("sum", 1), ("mean", 90)):
            metric = Encoding([0.7], features="given", intercept=intercept, penalty=penalty)
            evidence = run(metric, layer, brain)
            fit = Ridge(0.7 * factor, fit_intercept=intercept).fit(
                units[:90], np.mean([y[:90], y[90:180]], axis=0)
            )
            np.testing.assert_allclose(evidence.predicted, fit.predict(units[90:]), rtol=1e-6)


@pytest.mark.parametrize("n_units", [12, 200])
@pytest.mark.parametrize("select", ["kfold", "gcv"])
def test_without_intercept_r2_and_gcv_choose_like_explicit_ridges(n_units, select):
    data = movie(n_units=n_units)
    units, _ids, y, _row, _part = data
    layer, brain = arrays_of(*data)
    alphas = [1.0, 30.0, 1000.0]
    metric = Encoding(
        alphas, features="given", intercept=False, select=select, folds="contiguous",
        n_inner_folds=5,
    )  # fmt: skip
    ready = metric.prepare_response(brain)
    before = ready.train.mean.copy()
    evidence = metric.compare(metric.prepare_activation(layer), ready)
    np.testing.assert_array_equal(ready.train.mean, before)  # shared by threads: read only
    x, train = units[:90], np.mean([y[:90], y[90:180]], axis=0)
    error = np.zeros((3, train.shape[1]))
    for i, a in enumerate(alphas):
        if select == "gcv":
            h = x @ np.linalg.solve(x.T @ x + a * np.eye(n_units), x.T)
            error[i] = ((train - h @ train) ** 2).mean(axis=0) / (1 - np.trace(h) / 90) ** 2
        else:
            for held in np.split(np.arange(90), 5):
                kept = np.setdiff1d(np.arange(90), held)
                fit = Ridge(a, fit_intercept=False).fit(x[kept], train[kept])
                error[i] += ((fit.predict(x[held]) - train[held]) ** 2).mean(axis=0)
    best = error.argmin(axis=0)
    fits = [Ridge(a, fit_intercept=False).fit(x, train).predict(units[90:]) for a in alphas]
    expected = np.stack([fits[b][:, v] for v, b in enumerate(best)], axis=1)
    np.testing.assert_allclose(evidence.predicted, expected, rtol=1e-6, atol=1e-8)


def test_the_log_transform_and_where_it_cannot_be():
    data = movie()
    units, *rest = data
    layer, brain = arrays_of(np.abs(units), *rest)
    logged, _ = arrays_of(np.log10(np.abs(units) + 0.01), *rest)
    one = run(Encoding([1.0], transform="log10", random_state=0), layer, brain)
    two = run(Encoding([1.0], random_state=0), logged, brain)
    np.testing.assert_array_equal(one.predicted, two.predicted)
    layer, _ = arrays_of(*data)
    layer.attrs |= {"network": "alexnet", "layer": "conv1"}
    with pytest.raises(DataError, match=r"alexnet/conv1: transform='log10'.*after its ReLU"):
        Encoding(transform="log10").prepare_activation(layer)


def test_the_ceiling_is_the_closed_form_of_the_source():
    """FACTS 6.2, per voxel; and a simulation of many voxels reaches it."""
    data = movie(noise=2.0)
    layer, brain = arrays_of(*data)
    evidence = run(Encoding(random_state=0), layer, brain)
    y = data[2][180:].reshape(10, 45, 9)
    sigma2 = y.var(axis=0, ddof=1).mean(axis=0)
    s2 = np.maximum(0, y.mean(axis=0).var(axis=0, ddof=1) - sigma2 / 10)
    np.testing.assert_allclose(evidence.target_ceiling(), np.sqrt(s2 / (s2 + sigma2 / 10)))
    np.testing.assert_allclose(evidence.ceiling(), evidence.target_ceiling().mean())
    rng = np.random.default_rng(5)
    signal = rng.standard_normal((400, 300))
    noisy = signal[None] + 2 * rng.standard_normal((4, 400, 300))
    many = rc.TargetEvidence(
        np.arange(400).astype(str), noisy.mean(axis=0), signal,
        noise_variance=noisy.var(axis=0, ddof=1), n_repetitions=np.full(400, 4),
    )  # fmt: skip
    assert abs(many.ceiling() - np.sqrt(1 / 2)) < 0.01
    assert abs(many.score() - many.ceiling()) < 0.01


def test_normalised_scores_divide_each_voxel_by_its_ceiling():
    data = movie(noise=3.0, n_voxels=20)
    units, ids, y, row, part = data
    y[:, 4] = np.random.default_rng(9).standard_normal(len(y))  # hardly a ceiling
    layer, brain = arrays_of(units, ids, y, row, part)
    plain = run(Encoding(random_state=0), layer, brain)
    ours = run(Encoding(random_state=0, normalise=True), layer, brain)
    roof = plain.target_ceiling()
    keep = roof >= 0.1
    roof = np.where(keep, roof, np.nan)
    np.testing.assert_allclose(ours.score(), (plain.profile / roof)[keep].mean())
    assert ours.n_targets == keep.sum()
    assert type(ours).group_ceiling([ours])[0].tolist() == [1.0]
    assert float(ours.ceiling()) == 1.0
    assert ours.ceiling(np.ones((3, 45))).tolist() == [1.0] * 3
    # maps show the ceiling of every voxel, too low for a ratio or not
    np.testing.assert_array_equal(ours.target_ceiling(), plain.target_ceiling())
    w = np.random.default_rng(0).multinomial(45, np.full(45, 1 / 45), 5)
    r = np.stack([[np.corrcoef(np.repeat(plain.observed[:, v], k), np.repeat(plain.predicted[:, v],
        k))[0, 1] for v in range(20)] for k in w])  # fmt: skip
    np.testing.assert_allclose(ours.score(w), (r / roof)[:, keep].mean(axis=1))
    order = np.random.default_rng(1).permuted(np.tile(np.arange(45), (4, 1)), axis=1)
    moved = [[np.corrcoef(plain.observed[:, v], plain.predicted[o, v])[0, 1] for v in range(20)]
             for o in order]  # fmt: skip
    np.testing.assert_allclose(ours.null(order), (np.array(moved) / roof)[:, keep].mean(axis=1))
    again = type(ours).from_arrays(ours.to_arrays())
    assert again.score() == ours.score()
    checks = [c for c in metric_checks(Encoding(normalise=True)) if c.world.split]
    assert checks  # without a split most stimuli of that world are shown once: no ceiling
    for check in checks:
        check()


def test_voxels_are_chosen_by_training_data_alone():
    data = movie(noise=2.0, n_voxels=40)
    units, ids, y, row, part = data
    y[:, ::2] = np.random.default_rng(3).standard_normal((len(y), 20))
    layer, brain = arrays_of(units, ids, y, row, part)
    everything = run(Encoding(random_state=0), layer, brain)
    # reliability: the intraclass correlation of two training repetitions
    a, b = y[:90], y[90:180]
    sigma2 = ((a - b) ** 2 / 2).mean(axis=0)
    s2 = np.maximum(((a + b) / 2).var(axis=0, ddof=1) - sigma2 / 2, 0)
    reliability = s2 / (s2 + sigma2)
    ours = run(Encoding(random_state=0, min_reliability=0.15), layer, brain)
    np.testing.assert_array_equal(np.isfinite(ours.profile), reliability > 0.15)
    assert 0 < ours.n_targets < 40
    kept = reliability > 0.15
    np.testing.assert_array_equal(ours.profile[kept], everything.profile[kept])
    # validation: mean held-out correlation within the training stimuli
    metric = Encoding(LAMBDAS, features="components", n_inner_folds=9, min_validation=0.1, **WEN)
    ours = run(metric, layer, brain)
    x, _ = wen_features(units[:90], units[90:])
    _, best, r = voxelwise_encoding(x, (a + b) / 2, LAMBDAS, 9)
    np.testing.assert_array_equal(np.isfinite(ours.profile), r[best, np.arange(40)] > 0.1)
    # other test responses choose the same voxels
    y[180:] = np.random.default_rng(8).standard_normal(y[180:].shape)
    _, brain = arrays_of(units, ids, y, row, part)
    np.testing.assert_array_equal(np.isfinite(run(metric, layer, brain).profile),
                                  np.isfinite(ours.profile))  # fmt: skip


def test_choosing_voxels_by_training_data_does_not_bias_the_score_of_noise():
    scores = []
    for seed in range(25):
        units, ids, y, row, part = movie(seed, n_voxels=60)
        y = np.random.default_rng([seed, 1]).standard_normal(y.shape)
        layer, brain = arrays_of(units, ids, y, row, part)
        scores.append(run(Encoding(random_state=0, min_validation=0.1), layer, brain).score())
    scores = np.array(scores, dtype=float)
    scores = scores[np.isfinite(scores)]
    assert len(scores) > 15
    assert abs(scores.mean()) < 3 * scores.std(ddof=1) / np.sqrt(len(scores))


# bad input: each has an outcome


def test_fewer_time_points_than_folds_and_lengths_that_do_not_divide():
    units, ids, y, row, part = movie(n_train=10, n_test=5)
    layer, brain = arrays_of(units, ids, y, row, part)
    evidence = run(Encoding(n_inner_folds=20, folds="contiguous"), layer, brain)
    assert np.isfinite(evidence.predicted).all()
    fold = folds_of(ids, None, 4, "contiguous", 0, "x")
    assert np.bincount(fold).tolist() == [4, 4, 4, 3]
    assert (np.diff(fold) >= 0).all()


def test_one_repetition_has_no_ceiling_no_normalised_score_and_no_reliability():
    data = movie(repeats=(1, 1))
    layer, brain = arrays_of(*data)
    evidence = run(Encoding(normalise=True, random_state=0), layer, brain)
    assert np.isnan(evidence.score())
    assert evidence.n_targets == 0
    with pytest.raises(DataError, match=r"0 of 90 were shown more than once.*min_validation"):
        run(Encoding(min_reliability=0.1), layer, brain)


def test_all_voxels_left_out_is_no_score_not_an_error():
    layer, brain = arrays_of(*movie(noise=5.0))
    evidence = run(Encoding(min_reliability=0.99), layer, brain)
    assert evidence.n_targets == 0
    assert np.isnan(evidence.score())


def test_collinear_units_and_stimuli_that_do_not_vary_are_finite():
    units, ids, y, row, part = movie()
    double = np.hstack([units, units, 2 * units])
    for features in ("units", "components", "given"):
        layer, brain = arrays_of(double, ids, y, row, part)
        evidence = run(Encoding(features=features, random_state=0), layer, brain)
        assert np.isfinite(evidence.predicted).all()
        same, _ = arrays_of(np.full_like(units, 0.3), ids, y, row, part)
        dead = run(Encoding(features=features, random_state=0), same, brain)
        assert dead.n_targets == 0 or features == "given"
        assert np.isfinite(dead.predicted).all()
    # the same space twice is the same prediction: the kernel is, up to its scale
    one = run(Encoding([5.0], features="units"), arrays_of(units, ids, y, row, part)[0], brain)
    two = run(Encoding([10.0], features="units"),
              arrays_of(np.hstack([units, units]), ids, y, row, part)[0], brain)  # fmt: skip
    np.testing.assert_allclose(one.predicted, two.predicted, rtol=1e-8)


def test_nan_voxels_are_an_error_that_names_them():
    units, ids, y, row, part = movie()
    y[3, 2] = np.nan
    with pytest.raises(DataError, match=r"1 values are NaN.*columns"):
        arrays_of(units, ids, y, row, part)


@pytest.mark.parametrize("folds", ["random", "contiguous"])
def test_without_a_split_outer_folds_hold_whole_blocks(folds):
    units, ids, y, row, _part = movie()
    keep = row < 90
    block = np.array([f"b{i // 10}" for i in row[keep]])
    layer, brain = arrays_of(units, ids, y[keep], row[keep], None, time_block=block)
    evidence = run(Encoding(folds=folds, n_folds=4, random_state=1), layer, brain)
    held = dict(zip(ids[row[keep]], block, strict=True))
    own = np.array([held[i] for i in evidence.stimulus_id])
    assert len(np.unique(evidence.fold)) == 4
    assert all(len(np.unique(evidence.fold[own == b])) == 1 for b in np.unique(own))
    np.testing.assert_array_equal(evidence.block, own)
    layer, brain = arrays_of(units, ids, y[keep], row[keep], None, time_block=np.full(180, "b"))
    with pytest.raises(DataError, match="one time block"):
        run(Encoding(folds=folds), layer, brain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "pcs"}, "units, components, given"),
        ({"variance": 0}, "variance"),
        ({"transform": "log"}, "did you mean 'log10'"),
        ({"folds": "block"}, "random, contiguous"),
        ({"penalty": "T"}, "sum, mean"),
        ({"min_reliability": 1.5}, "min_reliability"),
        ({"min_validation": 0.1, "select": "gcv"}, "kfold"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ProtocolError, match=message):
        Encoding(**options)


def test_the_meaning_tells_the_transform_and_the_folds():
    said = Encoding(transform="log10", features="components", folds="contiguous").meaning.sentence
    assert "(each unit as log10(x + 0.01)) by ridge regression" in said
    assert "cross-validation over contiguous blocks of training stimuli" in said
    assert "log10" not in Encoding().meaning.sentence
