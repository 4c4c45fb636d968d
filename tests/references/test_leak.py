"""Nothing of the test stimuli may reach the training (FACTS 9.4): noise must score nothing."""

import numpy as np
import pytest
from scipy import ndimage

from rsacompare.errors import DataError
from rsacompare.kernels import gram
from rsacompare.metrics.decoding import Decoding
from rsacompare.schema import arrays

N_TRAIN, N_TEST, N_VOXELS, N_UNITS, N_SELECTED = 400, 50, 2500, 30, 200


def noise(seed=0, split=True, n_train=N_TRAIN, n_voxels=N_VOXELS):
    rng = np.random.default_rng(seed)
    n = n_train + N_TEST
    names = np.array([f"s{i:04d}" for i in range(n)])
    part = np.repeat(["train", "test"], [n_train, N_TEST]) if split else None
    brain = rng.standard_normal((n, n_voxels))
    response = arrays.responses({"s": brain}, stimulus_id=names, split=part)["s"]["response"]
    acts = arrays.activations({"n": {"l": rng.standard_normal((n, N_UNITS))}}, stimulus_id=names)
    return acts["n/l"]["activation"], response


def evidence_of(metric, activation, response):
    return metric.compare(metric.prepare_activation(activation), metric.prepare_response(response))


def leaking_scores(activation, response):
    """The same decoder on voxels that were selected on training and test rows together."""
    z = gram.train(response.values, N_SELECTED).z
    y = activation.values
    chosen = gram.select_top(np.abs((y - y.mean(axis=0)).T @ z), N_SELECTED)
    return [
        float(
            evidence_of(
                Decoding(N_SELECTED),
                activation.isel(neuroid=[unit]),
                response.isel(neuroid=chosen[unit]),
            ).score()
        )
        for unit in range(N_UNITS)
    ]


def test_noise_scores_nothing_unless_selection_sees_the_test_rows():
    activation, response = noise()
    honest = evidence_of(Decoding(N_SELECTED), activation, response).profile
    # one r over 50 stimuli has sd 1/7; thirty units: their mean lies within 4 sd of 0
    assert abs(honest.mean()) < 4 / np.sqrt((N_TEST - 1) * N_UNITS)
    leaking = leaking_scores(activation, response)
    assert np.mean(leaking) > 0.5  # the test is able to fail


def test_noise_scores_nothing_in_cross_validation():
    activation, response = noise(split=False, n_train=150, n_voxels=300)
    for p in (50, 200, 300):  # p above and below the number of training rows
        evidence = evidence_of(Decoding(p, random_state=1), activation, response)
        assert abs(evidence.profile.mean()) < 4 / np.sqrt(194 * N_UNITS)


@pytest.mark.parametrize("split", [True, False])
def test_held_out_rows_and_activations_do_not_touch_other_predictions(split):
    activation, response = noise(split=split, n_train=70, n_voxels=60)
    metric = Decoding(20, random_state=1)
    before = evidence_of(metric, activation, response)
    held = before.stimulus_id if split else before.stimulus_id[before.fold == 0]
    spoilt, kept = held[::2], held[1::2]

    wild = np.isin(response["stimulus_id"].values, spoilt)
    moved = response.copy(data=np.where(wild[:, None], 1e3 * response.values + 7, response.values))
    tested = np.isin(activation["stimulus_id"].values, held)
    other = activation.copy(
        data=np.where(tested[:, None], activation.values[::-1], activation.values)
    )
    after = evidence_of(metric, other, moved)
    same = np.isin(before.stimulus_id, kept)
    np.testing.assert_array_equal(after.predicted[same], before.predicted[same])
    assert (
        after.predicted[np.isin(before.stimulus_id, spoilt)]
        != before.predicted[np.isin(before.stimulus_id, spoilt)]
    ).all()
    if not split:  # in the other folds these stimuli are training, so predictions do move
        elsewhere = before.fold != 0
        assert np.abs(after.predicted[elsewhere] - before.predicted[elsewhere]).max() > 0.01


def slow_noise(seed, blocks=True):
    """Time points of slow noise on both sides, which have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    slow = ndimage.gaussian_filter1d(rng.standard_normal((160, 50)), 2, axis=0, mode="wrap")
    names = np.array([f"t{i:03d}" for i in range(160)])
    when = {"time_block": np.array([f"b{i // 16}" for i in range(160)])} if blocks else None
    brain = arrays.responses({"s": slow[:, :30]}, stimulus_id=names, presentation=when)
    acts = arrays.activations({"n": {"l": slow[:, 30:]}}, stimulus_id=names)
    return acts["n/l"]["activation"], brain["s"]["response"]


@pytest.mark.parametrize(
    "options", [{}, {"estimator": "ridge", "alpha": "cv", "alphas": [1.0, 100.0]}]
)
def test_neighbours_in_time_are_held_out_together(options):
    metric = Decoding(20, random_state=0, **options)
    scores = {blocks: [] for blocks in (True, False)}
    for seed in range(12):
        for blocks, values in scores.items():
            evidence = evidence_of(metric, *slow_noise(seed, blocks))
            values.append(float(evidence.score()))
            if blocks:
                block = np.arange(160) // 16
                assert all(len(set(evidence.fold[block == b])) == 1 for b in range(10))
                assert len(set(evidence.fold)) == 5
    assert np.mean(scores[False]) > 0.3  # the test is able to fail
    # only the ends of a block have a neighbour in training
    assert abs(np.mean(scores[True])) < 0.1


def test_folds_that_choose_a_penalty_hold_whole_blocks():
    _, response = slow_noise(0)
    part = np.repeat(["train", "test"], [128, 32])
    response = response.assign_coords(split=("presentation", part))
    ready = Decoding(20, random_state=0, estimator="ridge", alpha="cv").prepare_response(response)
    (only,) = ready.parts
    block = np.arange(128) // 16
    assert all(len(set(only.inner_fold[block == b])) == 1 for b in range(8))
    lone = response.assign_coords(time_block=("presentation", np.where(part == "train", "a", "b")))
    with pytest.raises(DataError, match="all 128 stimuli are of one time block"):
        Decoding(20, estimator="ridge", alpha="cv").prepare_response(lone)


def test_a_penalty_chosen_in_each_fold_does_not_lift_noise():
    scores = []
    for seed in range(40):
        rng = np.random.default_rng(77_000 + seed)
        names = np.array([f"s{i:02d}" for i in range(60)])
        brain = arrays.responses({"s": rng.standard_normal((60, 60))}, stimulus_id=names)
        acts = arrays.activations({"n": {"l": rng.standard_normal((60, 60))}}, stimulus_id=names)
        metric = Decoding("all", estimator="ridge", alpha="cv", random_state=seed)
        evidence = evidence_of(metric, acts["n/l"]["activation"], brain["s"]["response"])
        scores.append(float(evidence.score()))
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert error < 0.005  # pooled as they were the folds gave +0.014
    assert abs(np.mean(scores)) < 2.5 * error
