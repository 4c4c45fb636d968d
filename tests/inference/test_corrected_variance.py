"""The variance over crossed sources: golden values, rsatoolbox, a layout with known answer."""

import numpy as np
import pytest
from rsatoolbox.util.inference_util import _dual_bootstrap

from rsacompare.inference.bootstrap import corrected_variance, ordered, subsets

S, P, U = "subjects", "stimuli", "units"
F = frozenset


def two(v_b, v_r, v_p):
    return {F([S]): np.array(v_r), F([P]): np.array(v_p), F([S, P]): np.array(v_b)}


@pytest.mark.parametrize(
    ("variances", "levels", "expected"),
    [
        ((0.010, 0.004, 0.003), None, 0.004),  # FACTS 7.3
        ((0.010, 0.004, 0.003), {S: 5, P: 50}, 0.005),
        ((0.008, 0.004, 0.003), {S: 5, P: 50}, 0.0067857142857142855),
    ],
)
def test_golden_values_of_two_factors(variances, levels, expected):
    assert corrected_variance(two(*variances), levels) == pytest.approx(expected, abs=1e-15)


def test_two_factors_equal_rsatoolbox_where_its_upper_clip_is_idle():
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(500):
        v_r, v_p = rng.uniform(0.5, 2, 2)
        v_b = v_r + v_p + rng.uniform(-0.2, 1)
        n_r, n_p = int(rng.integers(3, 30)), int(rng.integers(10, 100))
        theirs = _dual_bootstrap(np.array([v_b, v_r, v_p]), n_r, n_p)
        ours = corrected_variance(two(v_b, v_r, v_p), {S: n_r, P: n_p})
        if theirs < v_b - 1e-12:  # see the calibration of the clip below
            assert ours == pytest.approx(theirs, rel=1e-12)
            compared += 1
    assert compared > 200


def test_one_factor_is_the_unbiased_variance():
    assert corrected_variance({F([S]): np.array(0.8)}, {S: 5}) == pytest.approx(1.0)


def test_three_factors_large_n():
    rng = np.random.default_rng(1)
    v = {t: np.array(rng.uniform(1, 1.2)) for t in subsets([S, P, U])}
    v[F([S, P, U])] = np.array(6.0)
    for pair in ((S, P), (S, U), (P, U)):
        v[F(pair)] = np.array(rng.uniform(2.2, 2.4))
    single = sum(v[F([x])] for x in (S, P, U))
    double = sum(v[F(x)] for x in ((S, P), (S, U), (P, U)))
    expected = 4 * single - 2 * double + v[F([S, P, U])]
    assert corrected_variance(v, None) == pytest.approx(float(expected), rel=1e-12)


def crossed_bootstrap(x, n_draws, rng):
    """Bootstrap variances of the mean of a crossed array under every subset of its axes."""
    names = (S, P, U)[: x.ndim]
    draws = [
        np.stack([np.bincount(rng.integers(n, size=n), minlength=n) / n for _ in range(n_draws)])
        for n in x.shape
    ]
    out = {}
    for chosen in subsets(names):
        w = [
            d if name in chosen else np.full_like(d, 1 / d.shape[1])
            for d, name in zip(draws, names, strict=True)
        ]
        spec = "ijk"[: x.ndim]
        terms = ",".join(f"d{letter}" for letter in spec)
        out[chosen] = np.var(np.einsum(f"{spec},{terms}->d", x, *w))
    return out


@pytest.mark.parametrize("shape", [(5, 40), (5, 20, 30)])
def test_unbiased_in_a_crossed_random_effects_layout(shape):
    """Variance of the mean of main effects and all interactions, each with a known variance."""
    rng = np.random.default_rng(7)
    names = (S, P, U)[: len(shape)]
    sd = {t: 1.0 / len(t) for t in subsets(names)}
    truth = sum(sd[t] ** 2 / np.prod([shape[names.index(s)] for s in t]) for t in subsets(names))
    levels = dict(zip(names, shape, strict=True))
    estimates, naive = [], []
    for _ in range(300):
        x = np.zeros(shape)
        for t in subsets(names):
            x = x + sd[t] * rng.standard_normal(
                [n if name in t else 1 for n, name in zip(shape, names, strict=True)]
            )
        v = crossed_bootstrap(x, 400, rng)
        estimates.append(float(corrected_variance(v, levels)))
        naive.append(float(v[F(names)]))
    error = np.std(estimates) / np.sqrt(len(estimates))
    # clipping from below can only add: allow 3 Monte-Carlo errors below and a tenth above
    assert truth - 3 * error < np.mean(estimates) < 1.1 * truth + 3 * error
    # the joint bootstrap alone is off: the test would notice
    assert abs(np.mean(naive) - truth) > 5 * np.std(naive) / np.sqrt(len(naive))


def test_the_upper_clip_of_rsatoolbox_is_too_low_for_five_subjects():
    """Why we differ: with subject differences alone it keeps four fifths of the variance."""
    rng = np.random.default_rng(3)
    ratio = {"ours": [], "theirs": []}
    for _ in range(400):
        x = rng.standard_normal((5, 1)) + 0.05 * rng.standard_normal((5, 40))
        v = crossed_bootstrap(x, 300, rng)
        ours = corrected_variance(v, {S: 5, P: 40})
        theirs = _dual_bootstrap(np.array([v[F([S, P])], v[F([S])], v[F([P])]]), 5, 40)
        ratio["ours"].append(ours / 0.2)
        ratio["theirs"].append(theirs / 0.2)
    assert np.mean(ratio["ours"]) == pytest.approx(1.0, abs=0.12)
    assert np.mean(ratio["theirs"]) == pytest.approx(0.8, abs=0.1)
    assert np.mean(ratio["theirs"]) < 0.85 * np.mean(ratio["ours"])


def test_order_of_sources():
    assert ordered({U, S, P}) == [S, P, U]
    assert [sorted(s) for s in subsets([P, S])] == [[S], [P], sorted([S, P])]
