"""False-positive rate and coverage of the default interval in crossed layouts (DESIGN 10)."""

import numpy as np
import pytest

import rsacompare as rc

pytestmark = pytest.mark.slow
N = 200


def rates(product_comparison, sd_subject, sd_stimulus, sd_both, subjects, stimuli, truth):
    """Share of p < .05, and share of intervals that hold the true difference."""
    rng = np.random.default_rng([subjects, stimuli, int(10 * sd_subject)])
    p, covered = [], []
    for seed in range(N):
        shared = rng.standard_normal((1, subjects, stimuli))
        x = shared + truth
        x = x + sd_subject * rng.standard_normal((1, subjects, 1))
        x = x + sd_stimulus * rng.standard_normal((1, 1, stimuli))
        x = x + sd_both * rng.standard_normal((1, subjects, stimuli))
        result = rc.infer(
            product_comparison({"a": x, "b": shared}),
            n_bootstrap=400,
            n_permutations=1,
            random_state=seed,
        )
        row = rc.tables(result)["contrasts"].set_index("pairing").loc["mean"]
        p.append(row["p"] < 0.05)
        covered.append(row["ci_low"] <= truth <= row["ci_high"])
    return np.mean(p), np.mean(covered)


LAYOUTS = [  # sd of subjects, stimuli, interaction; subjects, stimuli
    (0.3, 1.0, 1.0, 5, 50),
    (1.0, 0.3, 0.5, 5, 50),  # subjects dominate: rsatoolbox's clip would reject at about .07
    (0.0, 1.0, 1.0, 15, 92),
    (0.3, 1.0, 1.0, 15, 92),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_contrast_p_is_not_liberal(product_comparison, layout):
    rate, _ = rates(product_comparison, *layout, truth=0.0)
    assert rate <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / N)


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_intervals_cover_and_effects_are_found(product_comparison, layout):
    truth = 3 * np.sqrt(layout[0] ** 2 / layout[3] + layout[1] ** 2 / layout[4])
    rate, coverage = rates(product_comparison, *layout, truth=truth)
    assert coverage >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / N)
    assert rate > 0.3
