"""Phase-randomised series: what is kept, what is not, and correlations without making them."""

import numpy as np
import pytest
from scipy import signal

from rsacompare.kernels import surrogates
from rsacompare.kernels.surrogates import Surrogates, null_mean_correlation, rotations


def drawn(rng, lengths, size, *, shuffled=False):
    order = rng.permutation(sum(lengths)) if shuffled else np.arange(sum(lengths))
    runs = np.split(order, np.cumsum(lengths)[:-1])
    return Surrogates(runs, [rotations(rng, n, size) for n in lengths])


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 150])
def test_each_power_spectrum_and_every_cross_spectrum_is_kept(n):
    rng = np.random.default_rng(n)
    x = np.cumsum(rng.standard_normal((n, 4)), axis=0)
    made = drawn(rng, [n], 3)
    before = np.fft.fft(x, axis=0)
    cross = before[:, :, None].conj() * before[:, None, :]
    for d in range(3):
        turned = made.turn(x, d)
        after = np.fft.fft(turned, axis=0)
        scale = np.abs(cross).max()
        np.testing.assert_allclose(
            after[:, :, None].conj() * after[:, None, :], cross, atol=1e-10 * scale
        )
        np.testing.assert_allclose(
            turned.mean(axis=0), x.mean(axis=0), atol=1e-12 * np.abs(x).max()
        )
        if n > 3:
            assert np.abs(turned - x).max() > 0.1 * x.std()
            # scipy's periodogram, of the series without its mean
            spectra = [signal.periodogram(v, axis=0)[1] for v in (x, turned)]
            np.testing.assert_allclose(*spectra, atol=1e-10 * spectra[0].max())


def test_phases_are_uniform_and_those_of_real_coefficients_are_signs():
    phases = rotations(np.random.default_rng(0), 8, 20_000)
    np.testing.assert_allclose(np.abs(phases), 1, rtol=1e-12)
    assert (phases[:, 0] == 1).all()
    assert set(phases[:, -1].tolist()) == {1 + 0j, -1 + 0j}
    assert abs(phases[:, -1].real.mean()) < 0.03
    angle = np.angle(phases[:, 1:-1]) / (2 * np.pi) + 0.5
    for k in (1, 2, 3):  # no harmonic of the phase has a mean, alone or between frequencies
        assert np.abs(np.exp(2j * np.pi * k * angle).mean(axis=0)).max() < 0.03
    assert abs((phases[:, 1] * phases[:, 2].conj()).mean()) < 0.03


@pytest.mark.parametrize("side", ["x", "y"])
@pytest.mark.parametrize("fisher", [False, True])
def test_correlations_equal_those_of_the_series_made(side, fisher):
    rng = np.random.default_rng(1)
    x, y = (np.cumsum(rng.standard_normal((47, 5)), axis=0) for _ in range(2))
    made = drawn(rng, [20, 13, 14], 6, shuffled=True)
    still, turned = (y, x) if side == "x" else (x, y)
    got = null_mean_correlation(still, turned, made, fisher=fisher)
    for d in range(6):
        new = made.turn(turned, d)
        r = np.array([np.corrcoef(still[:, t], new[:, t])[0, 1] for t in range(5)])
        expected = np.arctanh(r).mean() if fisher else r.mean()
        assert got[d] == pytest.approx(expected, abs=1e-12)


def test_folds_dead_targets_and_factors():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 4))
    fold = np.repeat([0, 1], 15)
    x += 5 * fold[:, None]
    y[:, 3] = 0.1  # dead
    factor = np.array([1.0, 2.0, np.nan, 1.0])
    made = drawn(rng, [15, 15], 4)
    got = null_mean_correlation(x, y, made, fold)
    scaled = null_mean_correlation(x, y, made, fold, factor=factor)
    centre = lambda v: v - np.stack([v[fold == f].mean(axis=0) for f in (0, 1)])[fold]  # noqa: E731
    for d in range(4):
        a, b = centre(x), centre(made.turn(y, d))
        r = (a * b).sum(axis=0)[:3] / np.linalg.norm(a, axis=0)[:3] / np.linalg.norm(b, axis=0)[:3]
        assert got[d] == pytest.approx(r.mean(), abs=1e-12)
        assert scaled[d] == pytest.approx((r[0] + 2 * r[1]) / 2, abs=1e-12)
    assert np.isnan(null_mean_correlation(x, np.ones_like(x), made)).all()


def test_no_turn_is_the_correlation_and_blocks_of_targets_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((20, 7)), rng.standard_normal((20, 7))
    still = Surrogates([np.arange(20)], [np.ones((1, 11), dtype=complex)])
    r = np.mean([np.corrcoef(x[:, t], y[:, t])[0, 1] for t in range(7)])
    assert null_mean_correlation(x, y, still)[0] == pytest.approx(r, abs=1e-12)
    monkeypatch.setattr(surrogates, "_COLUMNS", 3)
    assert null_mean_correlation(x, y, still)[0] == pytest.approx(r, abs=1e-12)


def test_what_does_not_fit_is_an_error():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((10, 2))
    with pytest.raises(ValueError, match="in one run, once"):
        Surrogates([np.arange(4), np.arange(3, 10)], [rotations(rng, n, 1) for n in (4, 7)])
    with pytest.raises(ValueError, match=r"expected \(1, 6\)"):
        Surrogates([np.arange(10)], [rotations(rng, 8, 1)])
    with pytest.raises(ValueError, match="inside folds"):
        null_mean_correlation(x, x, drawn(rng, [10], 1), np.repeat([0, 1], 5))
    with pytest.raises(ValueError, match="runs of 9 of 10"):
        null_mean_correlation(x, x, drawn(rng, [9], 1))
    with pytest.raises(ValueError, match="not both"):
        null_mean_correlation(x, x, drawn(rng, [10], 1), fisher=True, factor=np.ones(2))
    with pytest.raises(ValueError, match="one time point"):
        rotations(rng, 0, 1)
