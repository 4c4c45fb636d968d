"""The plot of equivalence says what the tests say, row by row."""

import json

import numpy as np
import pytest
from scipy import stats

import rsacompare as rc
from rsacompare.inference import inclusion
from rsacompare.metrics.evidence import Meaning
from rsacompare.schema.results import iter_extras


def with_ceiling(comparison, ceiling=1.0, spread=0.02):
    """Evidence whose lower ceiling is known, and moves with the draws of stimuli."""
    rng = np.random.default_rng(99)
    wave = spread * rng.standard_normal(len(next(iter(comparison.evidence.values())).stimulus_id))

    class Bounded(type(next(iter(comparison.evidence.values())))):
        @classmethod
        def group_ceiling(cls, cells, weights, subject_weights, target_weights=None):
            if weights is None:
                low = np.full((1, len(cells)), ceiling + wave.mean())
            else:
                low = ceiling + (weights @ wave / weights.sum(axis=-1))[:, None]
                low = np.repeat(low, len(cells), axis=1)
            return low, low

    for held in comparison.evidence.values():
        held.__class__ = Bounded
    return comparison


def networks(shift, noise=0.1, seed=0, subjects=6, stimuli=60):
    rng = np.random.default_rng(seed)
    base = 0.5 + 0.3 * rng.standard_normal((2, subjects, stimuli))
    other = base + shift + noise * rng.standard_normal((2, subjects, stimuli))
    third = base + 0.15 + 0.01 * rng.standard_normal((2, subjects, stimuli))
    return {"a": base, "b": other, "c": third}


def plots(result):
    return [
        (extra, roles)
        for extra, roles in iter_extras(result, "product")
        if extra["kind"] == "intervals" and "small enough" in extra["title"]
    ]


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.1, 0.3])
def test_thick_interval_lies_in_the_range_just_when_the_tests_reject(product_comparison, bound):
    comparison = with_ceiling(
        product_comparison(networks(0.03), meaning=Meaning("product", unit="units of it")), 1.0, 0.5
    )
    result = rc.infer(comparison, n_bootstrap=300, n_permutations=5, equivalence_bound=bound)
    rows = rc.tables(result)["contrasts"]
    found = plots(result)
    assert [e["title"].split("between ")[1][:7] for e, _ in found] == ["a and b", "a and c",
                                                                      "b and c"]  # fmt: skip
    for extra, roles in found:
        a, b = extra["title"].split("between ")[1][:7].split(" and ")
        own = rows.query("network_a == @a and network_b == @b and pairing != 'ordinal'")
        inside = (roles["inner_low"] > roles["range_low"]) & (
            roles["inner_high"] < roles["range_high"]
        )
        np.testing.assert_array_equal(inside, own["p_equivalence"].to_numpy() < 0.05)
        if (a, b) == ("a", "b"):
            assert inside.sum() == {0.02: 0, 0.05: 2, 0.1: 3, 0.3: 3}[bound]
        np.testing.assert_allclose(roles["estimate"], own["difference"])
        np.testing.assert_allclose(roles["low"], own["ci_low"])
        np.testing.assert_allclose(roles["high"], own["ci_high"])
        words = own["verdict"].replace({"a": a, "b": b}).tolist()
        assert roles["outcome"].tolist() == words
        assert extra["axis"] == "difference, units of it"
        assert "90 % interval" in extra["inner_label"]


def test_with_a_known_bound_it_is_the_plain_interval_of_half_the_error():
    entry = {"se_bounds": (0.1, 0.1), "dof": 4.0, "difference": 0.3}
    half = stats.t.ppf(0.95, 4) * 0.1
    assert inclusion.tested_interval(entry, 0.05) == pytest.approx((0.3 - half, 0.3 + half))


def test_no_ceiling_no_plot(product_comparison):
    result = rc.infer(product_comparison(networks(0.0)), n_bootstrap=50, n_permutations=5)
    assert not plots(result)
    drawn = [e["title"] for e in json.loads(result.attrs["extras"]) if e["kind"] == "intervals"]
    assert all("Mixed model" in title for title in drawn)
