"""The encoding metric against himalaya's RidgeCV: same alphas, same predictions."""

import numpy as np
import pytest
from himalaya.ridge import RidgeCV
from himalaya.scoring import correlation_score, l2_neg_loss
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import StandardScaler

import rsacompare as rc
from rsacompare.kernels import resample, ridge, ridge_cv
from rsacompare.metrics.encoding import Encoding

SCORES = {"r2": l2_neg_loss, "correlation": correlation_score}
REGIMES = {  # training stimuli, units, voxels
    "n>p": (70, 30, 25),
    "n<p": (40, 120, 25),
    "inner n<p<n": (60, 52, 4),
    "one voxel": (50, 20, 1),
}
ALPHAS = [0.5, 5.0, 50.0, 500.0, 5000.0]


def study(n_train, n_units, n_voxels, n_test=12, seed=0, split=True, repetitions=(2, 5)):
    """A layer and a brain that reads it, rows in random order, training shown twice."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"im{i:03d}" for i in rng.permutation(n_train + n_test)])
    units = np.exp(0.5 * rng.standard_normal((len(ids), n_units))) * rng.uniform(0.1, 9, n_units)
    units[:, 0] = 3.0
    z = (units - units.mean(axis=0)) / (units.std(axis=0) + (units.std(axis=0) == 0))
    signal = z @ rng.standard_normal((n_units, n_voxels)) / np.sqrt(n_units)
    row = np.repeat(np.arange(len(ids)), [repetitions[i >= n_train] for i in range(len(ids))])
    rng.shuffle(row)
    y = signal[row] + 2 * rng.standard_normal((len(row), n_voxels)) + 50
    part = np.where(row < n_train, "train", "test") if split else None
    layer = rc.activations({"net": {"l": units}}, stimulus_id=ids)["net/l"]["activation"]
    brain = rc.responses({"s": y}, stimulus_id=ids[row], split=part)["s"]["response"]
    return layer, brain


def run(metric, layer, brain):
    return metric.compare(metric.prepare_activation(layer), metric.prepare_response(brain))


def himalaya(layer, train_ids, y, test_ids, alphas, criterion, seed, n_folds=5):
    x, e = (layer.sel(stimulus_id=i).values for i in (train_ids, test_ids))
    scaler = StandardScaler().fit(x)
    fold = resample.folds(train_ids, n_folds, seed)
    model = RidgeCV(
        alphas=alphas,
        fit_intercept=True,
        cv=PredefinedSplit(fold),
        solver_params={"score_func": SCORES[criterion], "warn": False},
    ).fit(scaler.transform(x), y)
    return model.predict(scaler.transform(e)), model.best_alphas_, (x, e, fold)


@pytest.mark.parametrize("criterion", SCORES)
@pytest.mark.parametrize("regime", REGIMES)
def test_alphas_and_predictions_are_those_of_himalaya(regime, criterion):
    layer, brain = study(*REGIMES[regime])
    evidence = run(Encoding(ALPHAS, criterion=criterion, random_state=3), layer, brain)
    train_ids, y, _, _ = rc.average_repetitions(brain, "train")
    test_ids, observed, variance, count = rc.average_repetitions(brain, "test")
    expected, alphas, (x, e, fold) = himalaya(
        layer, train_ids, y, test_ids, ALPHAS, criterion, seed=3
    )
    np.testing.assert_allclose(evidence.predicted, expected, rtol=1e-6)
    x, e = ridge.standardise(x, e)
    _, ours, _ = ridge_cv.ridge_cv(x, y, e, ALPHAS, fold, criterion)
    np.testing.assert_allclose(ours, alphas, rtol=1e-12)
    assert regime == "one voxel" or len(np.unique(ours)) > 1
    # the evidence: repetition means and their variance, in the order of the labels
    np.testing.assert_array_equal(evidence.stimulus_id, test_ids)
    np.testing.assert_array_equal(evidence.observed, observed)
    np.testing.assert_array_equal(evidence.noise_variance, variance)
    assert (evidence.n_repetitions == count).all()
    assert (count == 5).all()
    assert evidence.fold is None
    assert evidence.noisy == "observed"
    r = [np.corrcoef(observed[:, v], expected[:, v])[0, 1] for v in range(y.shape[1])]
    np.testing.assert_allclose(evidence.score(), np.mean(r), rtol=1e-6)
    assert evidence.n_targets == y.shape[1]


@pytest.mark.parametrize("regime", ["n>p", "n<p"])
def test_default_alphas_are_scaled_by_the_units_that_vary(regime):
    n, p, v = REGIMES[regime]
    layer, brain = study(n, p, v)
    evidence = run(Encoding(random_state=0), layer, brain)
    train_ids, y, _, _ = rc.average_repetitions(brain, "train")
    grid = (p - 1) * np.logspace(-3, 5, 10)  # one of the units is constant
    expected, _, _ = himalaya(layer, train_ids, y, evidence.stimulus_id, grid, "r2", seed=0)
    np.testing.assert_allclose(evidence.predicted, expected, rtol=1e-6)


def test_without_a_split_every_outer_fold_is_a_himalaya_fit_on_the_others():
    layer, brain = study(50, 30, 10, split=False, repetitions=(3, 3))
    evidence = run(Encoding(ALPHAS, n_folds=4, random_state=7), layer, brain)
    ids, y, _, _ = rc.average_repetitions(brain)
    fold = resample.folds(ids, 4, 7)
    np.testing.assert_array_equal(evidence.fold, fold)
    for label in range(4):
        held = fold == label
        expected, _, _ = himalaya(layer, ids[~held], y[~held], ids[held], ALPHAS, "r2", seed=7)
        # up to the voxel's shrinkage in this fold, which is taken out
        train = y[~held]
        fitted, _, _ = himalaya(layer, ids[~held], train, ids[~held], ALPHAS, "r2", seed=7)
        shrinkage = fitted.std(axis=0) / train.std(axis=0)
        assert np.ptp(shrinkage) > 0.1
        expected = train.mean(axis=0) + (expected - train.mean(axis=0)) / shrinkage
        np.testing.assert_allclose(evidence.predicted[held], expected, rtol=1e-6)


def test_equal_repetitions_equal_a_ridge_on_presentations_with_a_larger_penalty():
    from sklearn.linear_model import Ridge

    layer, brain = study(40, 20, 6, repetitions=(3, 5))
    evidence = run(Encoding([10.0], random_state=0), layer, brain)
    train = brain[brain["split"].values == "train"]
    x = layer.sel(stimulus_id=train["stimulus_id"].values).values
    scaler = StandardScaler().fit(x)
    e = scaler.transform(layer.sel(stimulus_id=evidence.stimulus_id).values)
    trials = Ridge(30.0).fit(scaler.transform(x), train.values).predict(e)
    np.testing.assert_allclose(evidence.predicted, trials, rtol=1e-9)


def test_with_unequal_repetitions_each_stimulus_counts_once():
    layer, brain = study(40, 20, 6, repetitions=(3, 5))
    rng = np.random.default_rng(1)
    train = brain["split"].values == "train"
    keep = ~train | (rng.random(len(train)) < 0.7) | (brain["repetition"].values == 0)
    brain = brain[keep]
    train_ids, y, _, count = rc.average_repetitions(brain, "train")
    assert set(count) == {1, 2, 3}
    evidence = run(Encoding(ALPHAS, random_state=0), layer, brain)
    expected, _, _ = himalaya(layer, train_ids, y, evidence.stimulus_id, ALPHAS, "r2", seed=0)
    np.testing.assert_allclose(evidence.predicted, expected, rtol=1e-6)
