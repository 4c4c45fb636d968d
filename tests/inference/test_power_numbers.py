"""Power and components of variance against statsmodels, and layouts with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from rsacompare.inference import bootstrap, power


@pytest.mark.parametrize("n", [2, 3, 5, 15, 92])
@pytest.mark.parametrize("effect", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_power_is_that_of_statsmodels(n, effect, alpha):
    expected = TTestPower().power(effect, n, alpha, alternative="two-sided")
    # its series for the noncentral t gives up where all is seen
    expected = 1.0 if np.isnan(expected) and effect * np.sqrt(n) > 8 else expected
    assert power.power(effect, 1 / np.sqrt(n), n - 1, alpha) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("n", [3, 5, 20])
def test_smallest_difference_is_the_effect_size_of_statsmodels(n):
    expected = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8, alternative="two-sided")
    found = power.smallest_difference(2.0 / np.sqrt(n), n - 1)
    assert found == pytest.approx(2.0 * expected, rel=1e-4)


def test_smallest_difference_scales_and_knows_its_limits():
    assert power.smallest_difference(3.0, 4) == pytest.approx(3 * power.smallest_difference(1, 4))
    assert power.power(power.smallest_difference(0.7, 9, 0.01), 0.7, 9, 0.01) == pytest.approx(0.8)
    assert power.smallest_difference(0.0, 4) == 0
    assert np.isnan(power.smallest_difference(1.0, 0))
    assert np.isnan(power.smallest_difference(np.nan, 4))
    assert np.isnan(power.power(1.0, 1.0, 0))
    # two subjects: one degree of freedom, far critical values
    assert power.power(power.smallest_difference(1.0, 1, 0.001), 1.0, 1, 0.001) == pytest.approx(
        0.8, abs=1e-6
    )


def bootstrap_variances(cube, levels, rng, n_draws):
    """Variance of the mean of a crossed layout under every subset of its factors."""
    found = {}
    for sources in bootstrap.subsets(levels):
        draws = np.broadcast_to(cube, (n_draws, *cube.shape))
        values = []
        for draw in draws:
            held = draw
            for axis, source in reversed(list(enumerate(levels))):
                n = held.shape[axis]
                weights = rng.multinomial(n, np.full(n, 1 / n)) if source in sources else np.ones(n)
                held = np.tensordot(held, weights / n, (axis, 0))
            values.append(float(held))
        found[sources] = np.var(values)
    return found


def test_components_of_a_crossed_layout():
    """Subjects 1, stimuli 2, interaction 6 (variance of one level each): 1/5, 2/8 and 6/40."""
    rng = np.random.default_rng(0)
    levels = {"subjects": 5, "stimuli": 8}
    total = {}
    n = 400
    for _ in range(n):
        cube = rng.normal(size=(5, 1)) + np.sqrt(2) * rng.normal(size=(1, 8))
        cube = cube + np.sqrt(6) * rng.normal(size=(5, 8))
        found = power.components(bootstrap_variances(cube, levels, rng, 40), levels)
        for sources, value in found.items():
            total[sources] = total.get(sources, 0) + value / n
    s, i = frozenset({"subjects"}), frozenset({"stimuli"})
    assert total[s] == pytest.approx(0.2, abs=0.035)
    assert total[i] == pytest.approx(0.25, abs=0.035)
    assert total[s | i] == pytest.approx(0.15, abs=0.03)


def test_components_sum_to_the_corrected_variance():
    """What the test uses, where nothing is clipped; exact for three sources too."""
    rng = np.random.default_rng(3)
    levels = {"subjects": 5, "stimuli": 40, "units": 100}
    single = {s: float(rng.uniform(1, 2)) for s in levels}
    variances = {
        u: sum(single[s] * (1 - 1 / levels[s]) for s in u) for u in bootstrap.subsets(levels)
    }
    parts = power.components(variances, levels)
    for sources, value in parts.items():
        expected = single[next(iter(sources))] if len(sources) == 1 else 0.0
        assert value == pytest.approx(expected, abs=1e-9)
    corrected = bootstrap.corrected_variance(
        {k: np.asarray(v) for k, v in variances.items()}, levels
    )
    assert sum(parts.values()) == pytest.approx(float(corrected))


def test_other_numbers_of_levels():
    parts = {
        frozenset({"subjects"}): 4.0,
        frozenset({"stimuli"}): 2.0,
        frozenset({"subjects", "stimuli"}): 8.0,
    }
    levels = {"subjects": 5, "stimuli": 40}
    assert power.standard_error(parts, levels, {}) == pytest.approx(np.sqrt(14))
    found = power.standard_error(parts, levels, {"subjects": 10, "stimuli": 160})
    assert found == pytest.approx(np.sqrt(4 / 2 + 2 / 4 + 8 / 8))
