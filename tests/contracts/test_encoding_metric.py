"""What the encoding metric promises: nothing leaks, work is shared without a trace, errors help."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.kernels import ridge
from rsacompare.metrics import encoding as module
from rsacompare.metrics.encoding import Encoding


def make(n_train=30, n_test=9, n_units=12, n_voxels=7, seed=0, noise=1.0, split=True, reps=2):
    """A layer, and presentations of a brain that reads it."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    ids = np.array([f"im{i:03d}" for i in range(n)])
    units = rng.standard_normal((n, n_units))
    signal = units @ rng.standard_normal((n_units, n_voxels)) / np.sqrt(n_units)
    row = np.tile(np.arange(n), reps)
    y = signal[row] + noise * rng.standard_normal((len(row), n_voxels))
    part = np.where(row < n_train, "train", "test") if split else None
    return units, ids, y, ids[row], part


def layer_of(units, ids):
    return rc.activations({"net": {"l": units}}, stimulus_id=ids)["net/l"]["activation"]


def brain_of(y, ids, part=None):
    return rc.responses({"s": y}, stimulus_id=ids, split=part)["s"]["response"]


def run(metric, layer, brain):
    return metric.compare(metric.prepare_activation(layer), metric.prepare_response(brain))


def test_options_stay_attributes_and_are_known_by_name():
    metric = rc.metric("encoding", alphas=(1, 10), select="gcv", n_folds=3, random_state=4)
    assert isinstance(metric, Encoding)
    assert metric.config() == {
        "alphas": [1.0, 10.0],
        "criterion": "r2",
        "features": "units",
        "folds": "random",
        "intercept": True,
        "min_reliability": None,
        "min_validation": None,
        "n_folds": 3,
        "n_inner_folds": 5,
        "normalise": False,
        "penalty": "sum",
        "random_state": 4,
        "select": "gcv",
        "transform": "none",
        "variance": 0.99,
    }
    assert metric.voxelwise
    assert metric.meaning.chance == 0


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("select", ["kfold", "gcv"])
def test_predictions_of_a_stimulus_never_use_its_own_responses(split, select):
    units, ids, y, rows, part = make(split=split)
    metric = Encoding(select=select, random_state=0)
    layer, first = layer_of(units, ids), run(metric, layer_of(units, ids), brain_of(y, rows, part))
    # fold 0, or the whole test set, gets other responses: what is predicted for it stays the same
    hit = first.stimulus_id if split else first.stimulus_id[first.fold == 0]
    changed = y.copy()
    changed[np.isin(rows, hit)] = 100 * np.random.default_rng(5).standard_normal(
        (np.isin(rows, hit).sum(), y.shape[1])
    )
    second = run(metric, layer, brain_of(changed, rows, part))
    same = np.isin(first.stimulus_id, hit)
    np.testing.assert_array_equal(first.predicted[same], second.predicted[same])
    if not split:
        assert np.abs(first.predicted[~same] - second.predicted[~same]).min() > 0


def test_features_are_standardised_by_training_stimuli_only():
    units, ids, y, rows, part = make()
    metric = Encoding(random_state=0)
    first = run(metric, layer_of(units, ids), brain_of(y, rows, part))
    # activations of one test stimulus change: only its own prediction does
    other = units.copy()
    place = int(np.flatnonzero(ids == first.stimulus_id[4])[0])
    other[place] += 50
    second = run(metric, layer_of(other, ids), brain_of(y, rows, part))
    keep = np.arange(len(first.stimulus_id)) != 4
    np.testing.assert_array_equal(first.predicted[keep], second.predicted[keep])
    assert np.abs(first.predicted[4] - second.predicted[4]).min() > 0.1


def test_pure_noise_scores_zero_with_and_without_a_split():
    # without a split this needs more than centring within folds: alphas of different folds
    # shrink differently, and pooling that biases r to about -0.07
    scores = {True: [], False: []}
    for split, values in scores.items():
        for seed in range(30):
            units, ids, y, rows, part = make(40, 20, 30, 25, seed=seed, split=split)
            noise = np.random.default_rng([seed, 1]).standard_normal(y.shape)
            layer, brain = layer_of(units, ids), brain_of(noise, rows, part)
            values.append(float(run(Encoding(random_state=seed), layer, brain).score()))
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        assert abs(np.mean(values)) < 3 * error
        assert error < 0.015


def test_noise_scores_zero_in_cross_validation_by_correlation():
    # this criterion may choose any alpha in noise; the shrinkage alone left a mean r of +0.015
    scores = []
    for seed in range(60):
        rng = np.random.default_rng(5000 + seed)
        ids = np.array([f"s{i:02d}" for i in range(60)])
        layer = layer_of(rng.standard_normal((60, 80)), ids)
        brain = brain_of(rng.standard_normal((60, 60)), ids, None)
        metric = Encoding(criterion="correlation", random_state=seed)
        scores.append(float(run(metric, layer, brain).score()))
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert error < 0.005
    assert abs(np.mean(scores)) < 2.5 * error


def test_row_orders_and_scales_do_not_matter():
    units, ids, y, rows, part = make()
    first = run(Encoding(random_state=0), layer_of(units, ids), brain_of(y, rows, part))
    rng = np.random.default_rng(1)
    a, b = rng.permutation(len(ids)), rng.permutation(len(rows))
    other = run(
        Encoding(random_state=0), layer_of(units[a], ids[a]), brain_of(y[b], rows[b], part[b])
    )
    np.testing.assert_array_equal(first.stimulus_id, other.stimulus_id)
    np.testing.assert_allclose(first.predicted, other.predicted, rtol=1e-9)
    scaled = run(
        Encoding(random_state=0), layer_of(units * 7 - 3, ids), brain_of(3 * y + 900, rows, part)
    )
    np.testing.assert_allclose(scaled.predicted, 3 * first.predicted + 900, rtol=1e-9)
    # a broken pairing of labels does matter
    wrong = run(Encoding(random_state=0), layer_of(units[a], ids), brain_of(y, rows, part))
    assert wrong.score() < first.score() - 0.3


@pytest.mark.parametrize("split", [True, False])
def test_shared_work_gives_the_same_bits_and_is_done_once(split, monkeypatch):
    units, ids, y, rows, part = make(split=split)
    brains = []
    for seed in range(4):  # the same stimuli in another order, other responses
        order = np.random.default_rng(seed).permutation(len(rows))
        part_ = None if part is None else part[order]
        brains.append(brain_of((y + seed)[order] * (1 + seed), rows[order], part_))
    metric = Encoding(random_state=0)
    alone = [run(metric, layer_of(units, ids), b).predicted for b in brains]
    calls = []
    built = ridge.build_hats
    monkeypatch.setattr(
        module.ridge, "build_hats", lambda *a, **k: calls.append(1) or built(*a, **k)
    )
    layer = metric.prepare_activation(layer_of(units, ids))
    shared = [metric.compare(layer, metric.prepare_response(b)).predicted for b in brains]
    assert len(calls) == (1 if split else 5)
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)
    layer = metric.prepare_activation(layer_of(units, ids))
    with ThreadPoolExecutor(4) as pool:
        threaded = list(
            pool.map(lambda b: metric.compare(layer, metric.prepare_response(b)), brains)
        )
    for one, other in zip(alone, threaded, strict=True):
        np.testing.assert_array_equal(one, other.predicted)


def test_the_store_of_shared_work_is_bounded():
    units, ids, y, rows, part = make(60, 6)
    metric = Encoding([1.0], random_state=0)
    layer = metric.prepare_activation(layer_of(units, ids))
    for first in range(30):  # every subject saw other training stimuli
        keep = (part == "test") | ~np.isin(rows, ids[first : first + 2])
        metric.compare(layer, metric.prepare_response(brain_of(y[keep], rows[keep], part[keep])))
    assert len(layer.hats) <= module._KEPT + 1


def test_a_region_takes_its_voxels_from_the_whole():
    units, ids, y, rows, part = make()
    whole = run(Encoding(random_state=0), layer_of(units, ids), brain_of(y, rows, part))
    some = np.array([1, 4, 6])
    alone = run(Encoding(random_state=0), layer_of(units, ids), brain_of(y[:, some], rows, part))
    np.testing.assert_allclose(whole.take(some).predicted, alone.predicted, rtol=1e-10)
    np.testing.assert_allclose(whole.take(some).score(), alone.score(), rtol=1e-10)


def test_dead_voxels_and_dead_layers_are_left_out_of_the_mean():
    units, ids, y, rows, part = make()
    y[:, 2] = 0.1
    evidence = run(Encoding(random_state=0), layer_of(units, ids), brain_of(y, rows, part))
    assert np.isnan(evidence.profile[2])
    assert evidence.n_targets == 6
    np.testing.assert_allclose(evidence.score(), np.nanmean(evidence.profile))
    dead = run(Encoding(random_state=0), layer_of(0 * units + 0.3, ids), brain_of(y, rows, part))
    assert dead.n_targets == 0
    assert np.isnan(dead.score())


def test_a_single_test_presentation_leaves_the_ceiling_open():
    units, ids, y, rows, part = make(reps=1)
    evidence = run(Encoding(random_state=0), layer_of(units, ids), brain_of(y, rows, part))
    assert np.isfinite(evidence.score())
    assert np.isnan(evidence.ceiling())


def test_the_folds_follow_the_seed():
    units, ids, y, rows, _ = make(split=False)
    layer, brain = layer_of(units, ids), brain_of(y, rows)
    first, again, other = (run(Encoding(random_state=s), layer, brain) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.predicted, again.predicted)
    assert (first.fold != other.fold).any()


def test_few_stimuli_make_fewer_folds_and_too_few_an_error_that_helps():
    units, ids, y, rows, part = make(4, 3, noise=0.1)
    evidence = run(Encoding(random_state=0), layer_of(units, ids), brain_of(y, rows, part))
    assert np.isfinite(evidence.predicted).all()
    units, ids, y, rows, part = make(3, 3)
    with pytest.raises(DataError, match=r"responses: 3 stimuli .* at least 4 .* give more"):
        run(Encoding(random_state=0), layer_of(units, ids), brain_of(y, rows, part))
    units, ids, y, rows, part = make(5, 3)
    with pytest.raises(DataError, match="at least 6"):
        run(Encoding(criterion="correlation"), layer_of(units, ids), brain_of(y, rows, part))
    units, ids, y, rows, part = make(10, 2)
    with pytest.raises(DataError, match="at least 3 test stimuli"):
        run(Encoding(random_state=0), layer_of(units, ids), brain_of(y, rows, part))
    units, ids, y, rows, _ = make(6, 0, split=False, n_voxels=3)
    assert (np.bincount(run(Encoding(), layer_of(units, ids), brain_of(y, rows)).fold) == 2).all()


def test_a_split_must_have_both_parts_and_no_stimulus_in_both():
    _, _, y, rows, part = make()
    metric = Encoding()
    only = part == "train"
    with pytest.raises(DataError, match="no presentation in 'test'"):
        metric.prepare_response(brain_of(y[only], rows[only], part[only]))
    part = part.copy()
    part[0] = "test"
    brain = brain_of(y, rows, part)
    brain.attrs |= {"subject": "s1", "roi": "V1"}
    with pytest.raises(DataError, match=r"responses of s1, ROI V1: 1 stimuli are both .*im000"):
        metric.prepare_response(brain)


def test_stimuli_that_the_network_never_saw_are_named():
    units, ids, y, rows, part = make()
    with pytest.raises(LabelError, match="im038"):
        run(Encoding(), layer_of(units[:-1], ids[:-1]), brain_of(y, rows, part))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select": "kfolds"}, "did you mean 'kfold'"),
        ({"criterion": "r"}, "r2, correlation"),
        ({"n_folds": 1}, "n_folds"),
        ({"n_inner_folds": 2.5}, "n_inner_folds"),
        ({"alphas": [0, 1]}, "positive"),
        ({"alphas": []}, "positive"),
        ({"alphas": 3}, "positive"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ProtocolError, match=message):
        Encoding(**options)
