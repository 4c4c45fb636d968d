"""Split-half reliability: enumeration of all splits, analysis of variance, known simulations."""

import itertools

import numpy as np
import pytest

from rsacompare.kernels.reliability import spearman_brown, split_half


def rng(seed=0):
    return np.random.default_rng(seed)


def data(n_stimuli, repetitions, n_voxels, signal, noise, seed=0):
    """Rows of stimuli in random order; variances `signal` over stimuli, `noise` over rows."""
    draw = rng(seed)
    counts = np.broadcast_to(repetitions, n_stimuli)
    stimulus = draw.permutation(np.repeat(np.arange(n_stimuli), counts))
    truth = np.sqrt(signal) * draw.normal(size=(n_stimuli, n_voxels))
    return truth[stimulus] + np.sqrt(noise) * draw.normal(size=(len(stimulus), n_voxels)), stimulus


def test_two_repetitions_are_the_mean_over_all_swaps():
    values, stimulus = data(6, 2, 3, 1.0, 0.5)
    pairs = np.stack([values[stimulus == s] for s in range(6)])  # (stimulus, repetition, voxel)
    r = []
    for swap in itertools.product((0, 1), repeat=6):
        one = pairs[np.arange(6), swap]
        two = pairs[np.arange(6), 1 - np.array(swap)]
        r.append([np.corrcoef(one[:, v], two[:, v])[0, 1] for v in range(3)])
    mean = np.mean(r, axis=0)
    expected = 2 * mean / (1 + mean)
    np.testing.assert_allclose(split_half(values, stimulus, 4000, rng(1)), expected, atol=0.01)


def test_near_the_intraclass_correlation_of_the_mean():
    """ICC(1, k) = 1 - MSW / MSB of a one-way analysis of variance estimates the same."""
    values, stimulus = data(300, 6, 40, 1.0, 3.0)
    cube = np.stack([values[stimulus == s] for s in range(300)])
    within = cube.var(axis=1, ddof=1).mean(axis=0)
    between = 6 * cube.mean(axis=1).var(axis=0, ddof=1)
    found = split_half(values, stimulus, 50, rng(2))
    np.testing.assert_allclose(found, 1 - within / between, atol=0.02)


@pytest.mark.parametrize("repetitions", [2, 3, 7])
@pytest.mark.parametrize("noise", [0.5, 4.0])
def test_known_reliability(repetitions, noise):
    """Odd counts drop a repetition in each half and are stepped up all the same."""
    values, stimulus = data(400, repetitions, 300, 1.0, noise)
    found = split_half(values, stimulus, 10, rng(3)).mean()
    assert found == pytest.approx(1 / (1 + noise / repetitions), abs=0.012)


def test_known_reliability_with_unequal_repetitions():
    counts = rng(4).integers(2, 9, size=400)
    values, stimulus = data(400, counts, 100, 1.0, 3.0)
    expected = 1 / (1 + 3.0 * np.mean(1 / counts))
    assert split_half(values, stimulus, 10, rng(5)).mean() == pytest.approx(expected, abs=0.012)


def test_noise_has_none_and_pure_signal_has_all():
    values, stimulus = data(400, 4, 100, 0.0, 1.0)
    assert split_half(values, stimulus, 10, rng(6)).mean() == pytest.approx(0, abs=0.015)
    values, stimulus = data(50, 4, 5, 1.0, 0.0)
    np.testing.assert_allclose(split_half(values, stimulus, 3, rng(7)), 1)


def test_scale_and_offset_of_a_voxel_do_not_matter():
    values, stimulus = data(30, 4, 8, 1.0, 1.0)
    one = split_half(values, stimulus, 5, rng(8))
    two = split_half(values * np.arange(1, 9) - 1e3, stimulus, 5, rng(8))
    np.testing.assert_allclose(one, two)


def test_stimuli_shown_once_are_left_out():
    values, stimulus = data(30, 3, 4, 1.0, 1.0)
    once = np.r_[values, 50 + rng(9).normal(size=(10, 4))]
    ids = np.r_[stimulus, np.arange(100, 110)]
    a = split_half(values, stimulus, 2000, rng(10))
    b = split_half(once, ids, 2000, rng(11))
    np.testing.assert_allclose(a, b, atol=0.01)
    assert np.isnan(split_half(values[:6], np.arange(6), 5, rng())).all()


def test_a_voxel_that_does_not_vary_has_none():
    values, stimulus = data(30, 4, 3, 1.0, 1.0)
    values[:, 1] = 0.1
    found = split_half(values, stimulus, 5, rng(12))
    assert np.isnan(found).tolist() == [False, True, False]


def test_spearman_brown_closed_form_and_its_floor():
    np.testing.assert_allclose(spearman_brown(np.array([0.2, 0.5, 1.0]), 3), [3 / 7, 0.75, 1])
    # the formula itself would give -18 and, past its pole, more than 1
    np.testing.assert_allclose(spearman_brown(np.array([-0.9, -1.0]), 2), -1)
    twice = spearman_brown(spearman_brown(np.array([0.3]), 2), 2)
    np.testing.assert_allclose(twice, spearman_brown(np.array([0.3]), 4))


def test_wrong_input_is_told():
    with pytest.raises(ValueError, match="stimulus a row"):
        split_half(np.zeros((4, 2)), np.arange(3), 5, rng())
    with pytest.raises(ValueError, match="n_splits"):
        split_half(np.zeros((4, 2)), np.arange(4), 0, rng())
