"""The difference over depth at its corners, its pointwise interval and its simultaneous band."""

import numpy as np
import pytest
from scipy import stats

import rsacompare as rc
from rsacompare.inference import depth_curve
from rsacompare.schema.results import extra_tables, iter_extras

QUICK = {"n_bootstrap": 400, "n_permutations": 9}


def scene(rng, layers, subjects=6, stimuli=30):
    """(layer, subject, stimulus) with layers that resemble each other."""
    common = rng.standard_normal((1, subjects, 1)) + rng.standard_normal((1, 1, stimuli))
    return common + 0.5 * rng.standard_normal((layers, subjects, stimuli))


def curve_of(result):
    return extra_tables(result)["depth_curves_product"]


def test_the_curve_is_the_difference_of_two_interpolated_curves(product_comparison):
    rng = np.random.default_rng(0)
    depth = {"a": [0.1, 0.4, 0.9], "b": [0.0, 0.5, 0.6, 1.0]}
    values = {"a": scene(rng, 3), "b": scene(rng, 4)}
    table = curve_of(rc.infer(product_comparison(values, depth=depth), **QUICK))
    assert table["depth"].tolist() == [0.1, 0.4, 0.5, 0.6, 0.9]
    mean = {n: v.mean(axis=(1, 2)) for n, v in values.items()}
    at = table["depth"].to_numpy()
    expected = np.interp(at, depth["a"], mean["a"]) - np.interp(at, depth["b"], mean["b"])
    assert table["difference"].to_numpy() == pytest.approx(expected)


def test_its_area_is_the_difference_of_the_depth_pairing(product_comparison):
    rng = np.random.default_rng(1)
    values = {"a": scene(rng, 4), "b": scene(rng, 7)}
    result = rc.infer(product_comparison(values), **QUICK)
    table, rows = curve_of(result), rc.tables(result)["contrasts"]
    area = np.trapezoid(table["difference"], table["depth"])
    assert area == pytest.approx(rows.set_index("pairing").loc["depth", "difference"])


def test_where_both_have_a_layer_the_pointwise_interval_is_that_of_the_two_layers(
    product_comparison,
):
    rng = np.random.default_rng(2)
    result = rc.infer(product_comparison({"a": scene(rng, 4), "b": scene(rng, 4)}), **QUICK)
    table, rows = curve_of(result), rc.tables(result)["contrasts"]
    ordinal = rows[rows["pairing"] == "ordinal"]
    assert table["low"].to_numpy() == pytest.approx(ordinal["ci_low"].to_numpy())
    assert table["high"].to_numpy() == pytest.approx(ordinal["ci_high"].to_numpy())
    assert (table["band_low"] < table["low"]).all()
    assert (table["band_high"] > table["high"]).all()
    # one critical value for all depths of the ROI
    ratio = (table["band_high"] - table["difference"]) / (table["high"] - table["difference"])
    assert ratio.to_numpy() == pytest.approx(np.full(len(table), ratio[0]))


def test_many_corners_are_thinned_to_an_even_grid():
    at = depth_curve.points(np.linspace(0, 1, 30), np.linspace(0, 1, 17))
    assert at == pytest.approx(np.linspace(0, 1, 21))
    at = depth_curve.points(np.linspace(0, 1, 18), np.linspace(0, 1, 12))
    assert len(at) == 28  # all corners; the ends are shared


def test_layers_of_one_depth_share_its_weight():
    weights = depth_curve.interpolation(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.5, 1.0]))
    assert weights == pytest.approx(np.array([[1, 0, 0], [0.5, 0.25, 0.25], [0, 0.5, 0.5]]))


@pytest.mark.parametrize("dof", [4, 9, 30])
def test_critical_value_of_independent_items_is_sidaks(dof):
    items = 6
    found = depth_curve.critical_value(np.eye(items), dof, 0.95, 0)
    exact = stats.t.ppf(0.5 + 0.95 ** (1 / items) / 2, dof)
    assert found == pytest.approx(exact, rel=0.06)  # 2000 simulations


def test_critical_value_of_alike_items_lies_between_one_and_independent():
    near = 0.9 ** np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    found = depth_curve.critical_value(near, 14, 0.95, 0)
    rng = np.random.default_rng(0)
    data = rng.standard_normal((4000, 15, 8)) @ np.linalg.cholesky(near).T
    largest = np.abs(data.mean(1) / (data.std(1, ddof=1) / np.sqrt(15))).max(axis=1)
    exact = np.quantile(largest, 0.95)
    assert stats.t.ppf(0.975, 14) < exact < stats.t.ppf(0.5 + 0.95 ** (1 / 8) / 2, 14)
    # shrunk correlations: a little beyond the exact one, never below its error
    assert exact * 0.97 < found < exact * 1.06


def test_equal_networks_have_a_band_of_no_width(product_comparison):
    x = scene(np.random.default_rng(3), 3)
    table = curve_of(rc.infer(product_comparison({"a": x, "b": x}), **QUICK))
    for column in ("difference", "low", "high", "band_low", "band_high"):
        assert (table[column] == 0).all()


def test_three_pairs_are_drawn_and_all_stand_in_the_file(product_comparison):
    rng = np.random.default_rng(4)
    values = {n: scene(rng, 3) for n in "abcd"}
    result = rc.infer(product_comparison(values), **QUICK)
    drawn = [x for x, _ in iter_extras(result, "product") if x["title"].startswith("Difference o")]
    assert [x["title"][-5:] for x in drawn] == ["a − b", "a − c", "a − d"]
    assert "3 more pairs" in drawn[-1]["caption"]
    table = curve_of(result)
    pairs = set(zip(table["network_a"], table["network_b"], strict=True))
    assert pairs == {("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")}


def test_networks_without_a_common_range_have_no_curve(product_comparison):
    rng = np.random.default_rng(5)
    comparison = product_comparison(
        {"a": scene(rng, 2), "b": scene(rng, 2)}, depth={"a": [0.0, 0.3], "b": [0.5, 1.0]}
    )
    assert "depth_curves_product" not in extra_tables(rc.infer(comparison, **QUICK))
