"""The fraction of the noise ceiling: Fieller's interval by hand, coverage, and the whole path."""

import numpy as np
import pytest
from scipy import stats

from rsacompare.inference.estimate import t_estimate
from rsacompare.inference.fraction import fieller
from rsacompare.inference.statistics import Options, Statistics, Values

T = Options(400, 1, 0, 0.95, 0.1, 1, None)


def one(values):
    """(..., 2) pairs of score and ceiling as Values of a single cell."""
    values = np.asarray(values)
    nothing = np.empty((*values.shape[:-1], 1, 0))
    return Values(values[..., None, :1], values[..., None, 1:], nothing)


def score(values):
    return values.mean[..., 0, :]


def roof(values):
    return values.ceiling[..., 0, :]


def of_one_source(x, weights):
    """Bootstrap of the mean of pairs x (level, 2)."""
    draws = {frozenset({"stimuli"}): one(weights @ x / len(x))}
    return Statistics(one(x.mean(axis=0)), draws, [], np.zeros((1, 1)))


def multiplicities(rng, n, draws):
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)


def fieller_by_hand(s, c, v_ss, v_sc, v_cc, t):
    """Roots of (s − R c)² = t² (v_ss − 2 R v_sc + R² v_cc)."""
    return np.sort(np.roots([c**2 - t**2 * v_cc, -2 * (s * c - t**2 * v_sc), s**2 - t**2 * v_ss]))


def test_interval_is_fiellers_where_the_variance_is_not_clipped():
    rng = np.random.default_rng(0)
    for n in (6, 40):
        x = rng.multivariate_normal([0.3, 0.5], [[0.04, 0.02], [0.02, 0.03]], size=n)
        weights = multiplicities(rng, n, 400)
        low, high = fieller(score, roof, of_one_source(x, weights), {"stimuli": n}, 0.95)
        cov = np.cov((weights @ x / n).T, ddof=0) * n / (n - 1)
        judge = fieller_by_hand(
            *x.mean(axis=0), cov[0, 0], cov[0, 1], cov[1, 1], stats.t.ppf(0.975, n - 1)
        )
        assert [low[0], high[0]] == pytest.approx(judge, abs=1e-10)
        # without the ceiling's uncertainty it is another interval
        half = stats.t.ppf(0.975, n - 1) * np.sqrt(cov[0, 0]) / x[:, 1].mean()
        assert abs((high[0] - low[0]) / 2 / half - 1) > 0.1


def test_ends_are_where_the_t_interval_of_score_less_ratio_times_ceiling_touches_zero():
    """Two sources, with the clipped variance: the corrected t test is the judge."""
    rng = np.random.default_rng(1)
    levels = {"subjects": 5, "stimuli": 30}
    for _ in range(20):
        x = np.array([0.3, 0.6]) + (
            0.2 * rng.standard_normal((5, 1, 2)) * rng.choice([0, 1], size=2)
            + 0.3 * rng.standard_normal((1, 30, 2))
            + 0.4 * rng.standard_normal((5, 30, 1))
        )
        people, stimuli = multiplicities(rng, 5, 400) / 5, multiplicities(rng, 30, 400) / 30
        draws = {
            frozenset({"subjects"}): one(people @ x.mean(axis=1)),
            frozenset({"stimuli"}): one(stimuli @ x.mean(axis=0)),
            frozenset(levels): one(np.einsum("ds,dp,spk->dk", people, stimuli, x)),
        }
        statistics = Statistics(one(x.mean(axis=(0, 1))), draws, [], np.zeros((1, 1)))
        low, high = fieller(score, roof, statistics, levels, 0.95)
        ceiling = t_estimate(roof, statistics, levels, T)
        if not ceiling.low[0] > 0:
            assert np.isnan(low[0])
            assert np.isnan(high[0])
            continue
        for end in (low[0], high[0]):
            at = t_estimate(lambda v, r=end: score(v) - r * roof(v), statistics, levels, T)
            assert at.p[0] == pytest.approx(0.05, abs=1e-6)
        ratio = x[..., 0].mean() / x[..., 1].mean()
        assert low[0] < ratio < high[0]


def test_interval_covers_a_known_ratio_and_that_of_a_fixed_ceiling_does_not():
    rng = np.random.default_rng(2)
    n, truth, sets = 25, 0.6, 1000
    x = np.array([truth, 1.0]) + np.array([0.3, 0.8]) * rng.standard_normal((n, sets, 2))
    weights = multiplicities(rng, n, 600) / n  # the sets do not share their data, only the draws

    def many(values):  # (..., set, 2)
        nothing = np.empty((*values.shape[:-2], 1, 0))
        return Values(values[..., None, :, 0], values[..., None, :, 1], nothing)

    drawn = np.tensordot(weights, x, axes=1)
    mean = x.mean(axis=0)
    statistics = Statistics(
        many(mean), {frozenset({"stimuli"}): many(drawn)}, [], np.zeros((1, sets))
    )
    low, high = fieller(score, roof, statistics, {"stimuli": n}, 0.95)
    hits = ((low <= truth) & (truth <= high)).mean()
    own = t_estimate(score, statistics, {"stimuli": n}, T)
    naive = ((own.low / mean[:, 1] <= truth) & (truth <= own.high / mean[:, 1])).mean()
    assert hits == pytest.approx(0.95, abs=3 * np.sqrt(0.05 * 0.95 / sets))
    assert naive < 0.85
