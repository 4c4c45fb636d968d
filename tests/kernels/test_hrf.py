"""The haemodynamic response against scipy's gamma and closed forms; frames to volumes."""

import numpy as np
import pytest
from scipy import stats

from rsacompare.kernels import hrf


def test_golden_facts_of_the_released_parameters():
    response = hrf.spm_hrf(1 / 30, hrf.WEN)
    time = np.arange(response.size) / 30
    assert response.size == 961
    np.testing.assert_allclose(response.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(time[response.argmax()], 4.0, atol=1e-12)
    np.testing.assert_allclose(time[response.argmin()], 15.33, atol=0.005)
    assert np.isclose(hrf.spm_hrf(0.1)[50], hrf.spm_hrf(0.1).max())  # SPM's own peaks at 5 s


@pytest.mark.parametrize("step", [0.05, 1 / 30, 0.7])
def test_it_is_the_difference_of_two_gamma_densities(step):
    time = np.arange(int(32 / step + 1e-6) + 1) * step
    expected = stats.gamma(5, scale=1).pdf(time) - stats.gamma(16, scale=1).pdf(time) / 6
    np.testing.assert_allclose(hrf.spm_hrf(step, hrf.WEN), expected / expected.sum(), rtol=1e-9)
    late = hrf.spm_hrf(0.5, (6, 16, 1.5, 1, 4, 2.0, 24))
    at = np.arange(49) * 0.5 - 2
    two = stats.gamma(4, scale=1.5).pdf(at) - stats.gamma(16).pdf(at) / 4
    np.testing.assert_allclose(late, two / two.sum(), rtol=1e-9)
    assert (late[:4] == 0).all()


def test_nilearn_makes_the_same_curve_on_its_grid():
    models = pytest.importorskip("nilearn.glm.first_level.hemodynamic_models")
    theirs = models.spm_hrf(1.0, oversampling=10, time_length=32.0)
    ours = hrf.spm_hrf(0.1)
    peak = abs(theirs.argmax() - ours.argmax())
    assert peak <= 1
    n = min(len(ours), len(theirs))
    assert np.corrcoef(ours[:n], theirs[:n])[0, 1] > 0.999


def test_an_impulse_comes_back_as_the_response_at_the_middle_of_each_volume():
    rate, tr = 30.0, 2.0
    frames = np.zeros((40 * 30, 2))
    frames[0, 0] = 1.0
    frames[300, 1] = 1.0  # at 10 s
    kernel = hrf.spm_hrf(1 / rate, hrf.WEN)
    volumes = hrf.to_volumes(frames, rate, tr, hrf=kernel)
    assert volumes.shape == (20, 2)
    np.testing.assert_allclose(volumes[:16, 0], kernel[30::60][:16], atol=1e-15)
    np.testing.assert_allclose(volumes[5:, 1], volumes[:15, 0], atol=1e-15)
    np.testing.assert_allclose(volumes[:5, 1], 0, atol=1e-15)
    # the shift of the released code: the response's peak at lag 0
    moved = hrf.to_volumes(frames, rate, tr, hrf=kernel, shift=4.0)
    np.testing.assert_allclose(moved[:14], volumes[2:16], atol=1e-15)


def test_convolution_is_numpys_and_times_between_frames_are_interpolated():
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((50, 3))
    kernel = rng.standard_normal(7)
    full = np.stack([np.convolve(c, kernel) for c in frames.T], axis=1)
    np.testing.assert_allclose(hrf.to_volumes(frames, 1.0, 2.0, hrf=kernel), full[1:50:2])
    # 1.5 frames a volume: centres at 0.75, 2.25, 3.75 … frames
    at = (np.arange(33) + 0.5) * 1.5
    expected = [np.interp(at, np.arange(len(full)), column) for column in full.T]
    np.testing.assert_allclose(hrf.to_volumes(frames, 1.5, 1.0, hrf=kernel), np.transpose(expected))
    np.testing.assert_allclose(hrf.to_volumes(frames, 1.0, 2.0, hrf=np.ones(1)), frames[1::2])


def test_a_constant_settles_at_itself():
    volumes = hrf.to_volumes(np.ones((4000, 1)), 10.0, 2.0)
    np.testing.assert_allclose(volumes[17:], 1.0, rtol=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: hrf.spm_hrf(0),
        lambda: hrf.spm_hrf(0.1, (6, 16, 1, 1, 6, 0)),
        lambda: hrf.spm_hrf(0.1, (6, 16, 0, 1, 6, 0, 32)),
        lambda: hrf.to_volumes(np.ones((10, 1)), 0, 2.0),
        lambda: hrf.to_volumes(np.ones((0, 1)), 1.0, 2.0),
        lambda: hrf.to_volumes(np.ones((1, 1)), 1.0, 2.0),  # lasts for no volume
        lambda: hrf.to_volumes(np.ones((10, 1)), 1.0, 2.0, n_volumes=40),
        lambda: hrf.detrend(np.ones((5, 1)), 4),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError, match=r"."):
        call()


def test_detrending_is_the_residual_of_a_polynomial_fit():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((60, 2))
    time = np.arange(60.0)
    for order in (0, 1, 4):
        fits = [np.polyval(np.polyfit(time / 60, c, order), time / 60) for c in values.T]
        np.testing.assert_allclose(
            hrf.detrend(values, order), values - np.transpose(fits), atol=1e-9
        )
