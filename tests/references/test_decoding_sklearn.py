"""The decoding metric against the protocol written out with scikit-learn (FACTS section 3)."""

from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.kernels import gram, resample, shrinkage, sparse
from rsacompare.metrics.decoding import Decoding
from rsacompare.schema import arrays


def study(n_train=80, n_test=15, n_repeats=3, n_voxels=40, n_units=7, split=True, seed=0):
    """Rows in random order; activations in another order, with stimuli that nobody saw."""
    rng = np.random.default_rng(seed)
    names = rng.permutation([f"s{i:04d}" for i in range(n_train + n_test + 5)])
    latent = rng.standard_normal((len(names), 8))
    acts = 2 + latent @ rng.standard_normal((8, n_units))
    row = np.r_[np.arange(n_train), np.repeat(np.arange(n_train, n_train + n_test), n_repeats)]
    part = np.where(row < n_train, "train", "test")
    order = rng.permutation(len(row))
    row, part = row[order], part[order]
    brain = latent[row] @ rng.standard_normal((8, n_voxels))
    brain = 50 + 3 * (brain + 1.5 * rng.standard_normal(brain.shape))
    responses = arrays.responses(
        {"s1": brain}, stimulus_id=names[row], split=part if split else None
    )
    activations = arrays.activations({"net": {"l1": acts}}, stimulus_id=names)
    response = responses["s1"]["response"]
    return activations["net/l1"]["activation"], response.assign_attrs(roi="V1", subject="s1")


def evidence_of(metric, activation, response):
    return metric.compare(metric.prepare_activation(activation), metric.prepare_response(response))


def written_out(x, y, x_new, n):
    """Per-trial predictions, step by step."""
    mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
    z, z_new = (x - mean) / scale, (x_new - mean) / scale
    out = np.empty((len(x_new), y.shape[1]))
    for unit in range(y.shape[1]):
        y_mean, y_scale = y[:, unit].mean(), y[:, unit].std(ddof=1)
        target = (y[:, unit] - y_mean) / (y_scale or 1.0)
        r = np.abs([np.corrcoef(voxel, target)[0, 1] for voxel in z.T])
        best = np.sort(np.argsort(-r)[:n])
        model = LinearRegression().fit(z[:, best], target)
        out[:, unit] = model.predict(z_new[:, best]) * (y_scale or 1.0) + y_mean
    return out


@pytest.mark.parametrize("n_voxels", [10, 30, 500])
def test_split_equals_the_protocol_written_out(n_voxels):
    activation, response = study()
    evidence = evidence_of(Decoding(n_voxels), activation, response)

    ids, x = response["stimulus_id"].values, response.values
    train = response["split"].values == "train"
    y = activation.sel(stimulus_id=ids[train]).values
    trials = written_out(x[train], y, x[~train], n_voxels)
    test_ids = np.unique(ids[~train])
    mean = np.stack([trials[ids[~train] == i].mean(axis=0) for i in test_ids])
    variance = np.stack([trials[ids[~train] == i].var(axis=0, ddof=1) for i in test_ids])
    truth = activation.sel(stimulus_id=test_ids).values

    np.testing.assert_array_equal(evidence.stimulus_id, test_ids)
    np.testing.assert_array_equal(evidence.observed, truth)
    np.testing.assert_allclose(evidence.predicted, mean, rtol=1e-8)
    np.testing.assert_allclose(evidence.noise_variance, variance, rtol=1e-7)
    assert evidence.n_repetitions.tolist() == [3] * 15
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(truth.T, mean.T, strict=True)]
    assert float(evidence.score()) == pytest.approx(np.mean(r), abs=1e-9)
    assert evidence.score() > 0.5
    assert evidence.sources == ("stimuli", "units")
    assert evidence.fold is None

    s2 = np.maximum(mean.var(axis=0, ddof=1) - variance.mean(axis=0) / 3, 0)
    ceiling = np.sqrt(s2 / (s2 + variance.mean(axis=0) / 3)).mean()  # FACTS 6, of the predictions
    assert float(evidence.ceiling()) == pytest.approx(ceiling, rel=1e-6)


def demo(x, labels, y, x_test, test_labels, features, n_voxels):
    """The quick demo of Horikawa & Kamitani's repository, step by step (FACTS section 3).

    Returns predictions averaged over trials (sorted by label) and the mean profile correlation.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        x_mean, x_scale = x.mean(axis=0), x.std(axis=0, ddof=1)
        z, z_test = (x - x_mean) / x_scale, (x_test - x_mean) / x_scale
    z[:, np.ptp(x, axis=0) == 0] = np.nan  # 0/0, or rounding over rounding
    trials = []
    for unit in range(y.shape[1]):
        y_mean, y_scale = y[:, unit].mean(), y[:, unit].std(ddof=1)
        y_scale = 1.0 if np.ptp(y[:, unit]) == 0 else y_scale
        target = (y[:, unit] - y_mean) / y_scale
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.abs([np.corrcoef(target, voxel)[0, 1] for voxel in z.T])
        r[np.isnan(r)] = -np.inf
        best = np.argsort(r)[::-1][:n_voxels]
        best = np.sort(best[np.isfinite(z[0, best])])
        rows = np.c_[z[:, best], np.ones(len(z))]
        new = np.c_[z_test[:, best], np.ones(len(z_test))]
        trials.append(LinearRegression().fit(rows, target).predict(new) * y_scale + y_mean)
    trials = np.transpose(trials)
    names = np.unique(test_labels)
    mean = np.stack([trials[test_labels == name].mean(axis=0) for name in names])
    with np.errstate(invalid="ignore", divide="ignore"):
        r = [np.corrcoef(mean[:, u], features[:, u])[0, 1] for u in range(y.shape[1])]
    return mean, np.nanmean(np.where(np.ptp(y, axis=0) == 0, np.nan, r))


@pytest.mark.parametrize("n_train", [60, 140])
@pytest.mark.parametrize("n_roi", [8, 40, 75])
@pytest.mark.parametrize("n_selected", [1, 25, 50, 500])
@pytest.mark.parametrize("trouble", [None, "constant", "twins", "dead units"])
def test_the_demo_is_reproduced(n_train, n_roi, n_selected, trouble):
    """ROIs smaller and larger than the selection, more and fewer rows than voxels, and trouble.

    Twins (and a voxel's negative) tie in |r|: which of them is selected is not specified, and
    does not matter; both together share their weight (minimum norm).
    """
    activation, response = study(n_train=n_train, n_voxels=n_roi, seed=n_roi)
    x, features = response.values.copy(), activation.values.copy()
    if trouble == "constant":
        x[:, [2, 5]] = 0.1, -7
    if trouble == "twins":
        x[:, 1], x[:, 6] = x[:, 0], 100 - x[:, 3]
    if trouble == "dead units":
        features[:, 1], features[:, 4] = 0.1, 0
    response, activation = response.copy(data=x), activation.copy(data=features)
    evidence = evidence_of(Decoding(n_selected), activation, response)

    ids, train = response["stimulus_id"].values, response["split"].values == "train"
    y = activation.sel(stimulus_id=ids[train]).values
    truth = activation.sel(stimulus_id=np.unique(ids[~train])).values
    mean, score = demo(x[train], ids[train], y, x[~train], ids[~train], truth, n_selected)
    np.testing.assert_allclose(evidence.predicted, mean, rtol=1e-8, atol=1e-8)
    assert float(evidence.score()) == pytest.approx(score, abs=1e-8)
    assert evidence.n_targets == (5 if trouble == "dead units" else 7)


@pytest.mark.parametrize(
    "options", [{}, {"estimator": "ard", "n_iter": 40}, {"estimator": "ridge"}, {"n_voxels": "all"}]
)
def test_mean_of_predictions_is_the_prediction_of_the_mean(options):
    activation, response = study()
    metric = Decoding(**{"n_voxels": 15} | options)
    trials = evidence_of(metric, activation, response)
    ids, split = response["stimulus_id"].values, response["split"].values
    names = np.unique(ids[split == "test"])
    means = np.stack([response.values[ids == name].mean(axis=0) for name in names])
    tree = arrays.responses(
        {"s1": np.r_[response.values[split == "train"], means]},
        stimulus_id=np.r_[ids[split == "train"], names],
        split=["train"] * 80 + ["test"] * 15,
    )
    once = evidence_of(metric, activation, tree["s1"]["response"].assign_attrs(roi="V1"))
    np.testing.assert_allclose(trials.predicted, once.predicted, rtol=1e-9)
    assert once.n_repetitions.tolist() == [1] * 15


def test_all_voxels_of_some_regions():
    _, response = study(n_voxels=60)
    for table, roi, expected in (("all", "V1", 60), ({"V1": "all", "*": 10}, "V1", 60)):
        prepared = Decoding(table).prepare_response(response.assign_attrs(roi=roi))
        assert prepared.parts[0].training.n_selected == expected
    prepared = Decoding({"V1": "all", "*": 10}).prepare_response(response.assign_attrs(roi="V2"))
    assert prepared.parts[0].training.n_selected == 10


def test_estimators_are_those_of_the_kernels_and_alpha_is_chosen_in_training_alone():
    activation, response = study(n_train=60)
    ids, x = response["stimulus_id"].values, response.values
    train = response["split"].values == "train"
    y = activation.sel(stimulus_id=ids[train]).values
    names = np.unique(ids[~train])

    def mean(trials):
        return np.stack([trials[ids[~train] == name].mean(axis=0) for name in names])

    held = gram.train(x[train], 20, least_squares=False)
    got = evidence_of(Decoding(20, estimator="ard", n_iter=25, prune=1e-6), activation, response)
    rules = partial(sparse.weights, n_iter=25, prune=1e-6)
    expected = mean(gram.predict(held, y, x[~train], rules))
    np.testing.assert_allclose(got.predicted, expected, rtol=1e-12)
    for alpha in (100.0, 3):
        got = evidence_of(Decoding(20, estimator="ridge", alpha=alpha), activation, response)
        expected = mean(shrinkage.predict(held, y, x[~train], alpha))
        np.testing.assert_allclose(got.predicted, expected, rtol=1e-12)
    metric = Decoding(20, estimator="ridge", alpha="cv", alphas=[1, 1e5], random_state=2)
    got = evidence_of(metric, activation, response)
    unique, place = np.unique(ids[train], return_inverse=True)
    fold = resample.folds(unique, 5, 2)[place]
    inner = gram.train_folds(x[train], fold, 20, least_squares=False)
    alpha = shrinkage.choose_alpha(inner, x[train], y, fold, [1, 1e5])
    expected = mean(shrinkage.predict(held, y, x[~train], alpha))
    np.testing.assert_allclose(got.predicted, expected, rtol=1e-12)
    # what the test presentations hold changes neither choice nor fit
    moved = response.copy(data=np.where(train[:, None], x, 1e3 * x[::-1]))
    prepared = metric.prepare_response(moved)
    np.testing.assert_array_equal(prepared.parts[0].training.mean, held.mean)
    np.testing.assert_array_equal(prepared.parts[0].train, x[train])


def test_cross_validation_equals_the_protocol_written_out_in_each_fold():
    activation, response = study(n_train=30, n_test=25, n_repeats=2, n_voxels=20, split=False)
    evidence = evidence_of(Decoding(8, n_folds=4, random_state=3), activation, response)
    ids, x = response["stimulus_id"].values, response.values
    assert sorted(np.bincount(evidence.fold)) == [13, 14, 14, 14]
    for label in range(4):
        inside = evidence.stimulus_id[evidence.fold == label]
        held = np.isin(ids, inside)
        y = activation.sel(stimulus_id=ids[~held]).values
        trials = written_out(x[~held], y, x[held], 8)
        mean = np.stack([trials[ids[held] == i].mean(axis=0) for i in inside])
        np.testing.assert_allclose(evidence.predicted[evidence.fold == label], mean, rtol=1e-8)
    np.testing.assert_array_equal(
        evidence.observed, activation.sel(stimulus_id=evidence.stimulus_id).values
    )
    once = evidence.n_repetitions == 1
    assert once.sum() == 30
    assert np.isnan(evidence.noise_variance[once]).all()
    assert np.isnan(evidence.ceiling())


def test_units_that_never_vary_are_left_out_and_counted():
    activation, response = study()
    dead = activation.copy(data=np.where(np.arange(7) == 2, 0.1, activation.values))
    evidence = evidence_of(Decoding(10), dead, response)
    rest = evidence_of(Decoding(10), activation.isel(neuroid=[0, 1, 3, 4, 5, 6]), response)
    assert evidence.n_targets == 6
    assert float(evidence.score()) == pytest.approx(float(rest.score()), abs=1e-12)


def test_expected_score_of_a_linear_world():
    # DESIGN section 10: beta = (C + s2 I)^-1 c, r2 = (c'b)^2 / (b'(C + s2/m I) b var u)
    rng = np.random.default_rng(4)
    n_train, n_test, m, s2 = 20_000, 10_000, 2, 4.0
    reads, unit = rng.standard_normal((6, 15)), rng.standard_normal((9, 3))
    cov, c = reads.T @ reads, reads.T @ unit[:6]  # three latent dimensions are the network's own
    beta = np.linalg.solve(cov + s2 * np.eye(15), c)
    below = np.einsum("vu,vw,wu->u", beta, cov + s2 / m * np.eye(15), beta)
    expected = np.sqrt((c * beta).sum(axis=0) ** 2 / below / (unit**2).sum(axis=0))

    latent = rng.standard_normal((n_train + n_test, 9))
    row = np.r_[np.arange(n_train), np.repeat(np.arange(n_train, n_train + n_test), m)]
    brain = latent[row, :6] @ reads + np.sqrt(s2) * rng.standard_normal((len(row), 15))
    names = np.array([f"s{i:06d}" for i in range(len(latent))])
    tree = arrays.responses(
        {"s": brain}, stimulus_id=names[row], split=np.where(row < n_train, "train", "test")
    )
    acts = arrays.activations({"n": {"l": latent @ unit}}, stimulus_id=names)
    evidence = evidence_of(Decoding(), acts["n/l"]["activation"], tree["s"]["response"])
    np.testing.assert_allclose(evidence.profile, expected, atol=0.015)
    assert np.ptp(expected) > 0.05


def test_how_many_voxels_a_region_takes():
    _, response = study(n_voxels=60)

    def taken(n_voxels, roi):
        prepared = Decoding(n_voxels).prepare_response(response.assign_attrs(roi=roi))
        return prepared.parts[0].training.n_selected

    table = {"LVC": 30, "*": 20}
    assert [taken(table, roi) for roi in ("LVC", "V1")] == [30, 20]
    assert taken(25, "LVC") == 25
    assert taken(None, "V1") == 60  # all there are
    assert Decoding().n_voxels == {"LVC": 1000, "HVC": 1000, "VC": 1000, "*": 500}
    with pytest.raises(ProtocolError, match=r"names LVC but not the ROI of responses of s1 in V1"):
        taken({"LVC": 30}, "V1")


@pytest.mark.parametrize(
    "options",
    [
        {"n_voxels": 0},
        {"n_voxels": {"V1": 2.5}},
        {"n_voxels": {}},
        {"n_voxels": True},
        {"n_folds": 1},
        {"n_folds": "five"},
    ],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(ProtocolError, match="whole number"):
        Decoding(**options)


def test_imagery_is_neither_trained_on_nor_scored():
    activation, response = study()
    imagined = response.isel(presentation=[0, 5, 9]) * 1e6
    imagined = imagined.assign_coords(split=("presentation", np.full(3, "imagery")))
    both = np.concatenate([imagined.values, response.values])
    names, split = (
        np.concatenate([a[key].values for a in (imagined, response)])
        for key in ("stimulus_id", "split")
    )
    tree = arrays.responses({"s": both}, stimulus_id=names, split=split)
    with_imagery = evidence_of(Decoding(10), activation, tree["s"]["response"])
    without = evidence_of(Decoding(10), activation, response)
    np.testing.assert_array_equal(with_imagery.predicted, without.predicted)


def test_what_cannot_be_decoded_says_why():
    activation, response = study()

    def prepare(split=None, **chosen):
        cut = response.isel(**chosen)
        if split is not None:
            cut = cut.assign_coords(split=("presentation", np.asarray(split, dtype="<U7")))
        return Decoding().prepare_response(cut)

    n = response.sizes["presentation"]
    with pytest.raises(DataError, match=r"responses of s1 in V1: 0 stimuli are marked 'train'"):
        prepare(np.full(n, "test"))
    with pytest.raises(DataError, match="no presentation is marked 'test'"):
        prepare(np.full(n, "train"))
    with pytest.raises(DataError, match="in both training and test"):
        prepare(np.where(np.arange(n) % 2, "train", "test"))
    first = np.unique(response["stimulus_id"].values, return_index=True)[1][:5]
    with pytest.raises(DataError, match="5 stimuli and no split"):
        prepare(np.full(5, ""), presentation=first)
    with pytest.raises(LabelError, match="not in activations"):
        evidence_of(Decoding(), activation.isel(stimulus_id=slice(0, 50)), response)
    broken = activation.copy(data=np.where(np.arange(7) == 2, np.nan, activation.values))
    with pytest.raises(DataError, match="NaN"):
        Decoding().prepare_activation(broken)
