"""The plot of equivalence says what the tests say, row by row."""

import json

import numpy as np
import pytest
from scipy import stats

import rsacompare as rc
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


@pytest.mark.parametrize("interval", ["t", "percentile", "bca"])
@pytest.mark.parametrize("bound", [0.02, 0.05, 0.1, 0.3])
def test_thick_interval_lies_in_the_range_just_when_the_tests_reject(
    product_comparison, bound, interval
):
    comparison = with_ceiling(
        product_comparison(networks(0.03), meaning=Meaning("product", unit="units of it")), 1.0, 0.5
    )
    result = rc.infer(
        comparison, n_bootstrap=300, n_permutations=5, equivalence_bound=bound, interval=interval,
        sources=None if interval == "t" else ["stimuli"],
    )  # fmt: skip
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
        assert np.isfinite(roles["inner_low"]).all()
        if (a, b, interval) == ("a", "b", "t"):
            assert inside.sum() == {0.02: 0, 0.05: 2, 0.1: 3, 0.3: 3}[bound]
        np.testing.assert_allclose(roles["estimate"], own["difference"])
        np.testing.assert_allclose(roles["low"], own["ci_low"])
        np.testing.assert_allclose(roles["high"], own["ci_high"])
        words = own["verdict"].replace({"a": a, "b": b}).tolist()
        assert roles["outcome"].tolist() == words
        assert extra["axis"] == "difference, units of it"
        assert "90 % interval" in extra["inner_label"]


def test_with_a_known_bound_it_is_the_plain_interval_of_half_the_error(product_comparison):
    comparison = with_ceiling(product_comparison(networks(0.03)), 1.0, 0.0)
    result = rc.infer(comparison, ("a", "b"), n_bootstrap=300, n_permutations=5)
    ((_, roles),) = plots(result)
    shorter = stats.t.ppf(0.95, 5) / stats.t.ppf(0.975, 5)
    for end in ("low", "high"):
        half = shorter * (roles[end] - roles["estimate"])
        np.testing.assert_allclose(roles[f"inner_{end}"], roles["estimate"] + half)


def test_the_percentile_interval_of_a_known_bound_is_that_of_the_draws(product_comparison):
    comparison = with_ceiling(product_comparison(networks(0.03)), 1.0, 0.0)
    result = rc.infer(
        comparison, ("a", "b"), n_bootstrap=300, n_permutations=5, interval="percentile",
        sources=["stimuli"],
    )  # fmt: skip
    ((_, roles),) = plots(result)
    boot = result["boot"].sel(metric="product").isel(roi=0)
    draws = [boot[result["network"].values == n].mean("layer").values for n in ("a", "b")]
    ends = np.quantile(draws[0].astype(float) - draws[1], [0.05, 0.95])
    at = roles["panel"].tolist().index("mean over layers")
    np.testing.assert_allclose([roles["inner_low"][at], roles["inner_high"][at]], ends, atol=1e-6)


@pytest.mark.parametrize("interval", ["t", "percentile", "bca"])
def test_networks_of_different_subjects_are_never_equivalent(product_comparison, interval):
    nets = networks(0.0, noise=0.01)
    nets["a"][0, 2] = np.nan  # one subject has no score in one layer
    result = rc.infer(
        with_ceiling(product_comparison(nets), 1.0, 0.0), ("a", "b"), n_bootstrap=100,
        n_permutations=5, sources=["stimuli"], interval=interval,
    )  # fmt: skip
    row = rc.tables(result)["contrasts"].query("pairing == 'mean'").iloc[0]
    assert np.isnan(row["difference"])
    assert np.isnan(row["p_equivalence"])
    assert row["verdict"] == "undecided"


def test_no_ceiling_no_plot(product_comparison):
    result = rc.infer(product_comparison(networks(0.0)), n_bootstrap=50, n_permutations=5)
    assert not plots(result)
    drawn = [e["title"] for e in json.loads(result.attrs["extras"]) if e["kind"] == "intervals"]
    assert all("Mixed model" in title for title in drawn)
