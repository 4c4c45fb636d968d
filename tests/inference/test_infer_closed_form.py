"""infer on evidence whose every statistic has a closed form."""

import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import rsacompare as rc
from rsacompare.errors import ProtocolError
from rsacompare.inference import contrast, permutation
from rsacompare.metrics.evidence import Meaning

QUICK = {"n_bootstrap": 400, "n_permutations": 199}


def crossed(rng, layers=3, subjects=6, stimuli=40, shift=0.0):
    """(layer, subject, stimulus): main effects of subjects and stimuli, and an interaction."""
    return (
        shift
        + 0.3 * rng.standard_normal((layers, subjects, 1))
        + 1.0 * rng.standard_normal((layers, 1, stimuli))
        + 1.0 * rng.standard_normal((layers, subjects, stimuli))
    )


def test_standard_error_equals_the_crossed_analysis_of_variance(product_comparison):
    x = crossed(np.random.default_rng(0), layers=1)
    comparison = product_comparison({"a": x, "b": x + 1})
    result = rc.infer(comparison, n_bootstrap=20_000, n_permutations=1)
    data = x[0]
    n_s, n_p = data.shape
    v_s = data.mean(axis=1).var(ddof=1) / n_s
    v_p = data.mean(axis=0).var(ddof=1) / n_p
    residual = data - data.mean(1, keepdims=True) - data.mean(0, keepdims=True) + data.mean()
    v_sp = (residual**2).sum() / ((n_s - 1) * (n_p - 1)) / (n_s * n_p)
    expected = np.sqrt(v_s + v_p - v_sp)
    se = result["se"].sel(layer="a/l0").item()
    assert se == pytest.approx(expected, rel=0.03)
    t = stats.t.ppf(0.975, min(n_s, n_p) - 1)
    mean = data.mean()
    assert result["ci"].sel(layer="a/l0").values.ravel() == pytest.approx(
        [mean - t * se, mean + t * se]
    )
    single = result["bootstrap_se"].sel(layer="a/l0", resampled="subjects").item()
    assert single == pytest.approx(data.mean(axis=1).std() / np.sqrt(n_s), rel=0.03)
    single = result["bootstrap_se"].sel(layer="a/l0", resampled="stimuli").item()
    assert single == pytest.approx(data.mean(axis=0).std() / np.sqrt(n_p), rel=0.03)


def test_only_the_sources_asked_for_are_resampled(product_comparison):
    x = crossed(np.random.default_rng(0), layers=1)
    comparison = product_comparison({"a": x, "b": x + 1})
    result = rc.infer(comparison, n_bootstrap=20_000, n_permutations=1, sources=["stimuli"])
    expected = x[0].mean(axis=0).std(ddof=1) / np.sqrt(x.shape[-1])
    assert result["se"].sel(layer="a/l0").item() == pytest.approx(expected, rel=0.03)
    inference = json.loads(result.attrs["inference"])
    assert inference["sources"]["product"] == ["stimuli"]
    assert inference["left_out"]["product"] == ["subjects"]
    assert inference["dof"]["product"]["V1"] == x.shape[-1] - 1


def test_paired_difference_has_no_variance_where_the_networks_differ_by_a_constant(
    product_comparison,
):
    x = crossed(np.random.default_rng(1))
    result = rc.infer(product_comparison({"a": x + 0.5, "b": x}), **QUICK)
    table = rc.tables(result)["contrasts"]
    linear = table[table["pairing"] != "best"]
    assert linear["difference"].to_numpy() == pytest.approx(np.full(len(linear), 0.5))
    assert (linear["ci_high"] - linear["ci_low"]).to_numpy() == pytest.approx(
        np.zeros(len(linear)), abs=1e-9
    )
    assert (linear["verdict"] == "a").all()
    # and the networks themselves do have an interval
    assert (result["se"] > 0.05).all()


def test_p_is_below_alpha_just_when_the_interval_excludes_zero(product_comparison):
    rng = np.random.default_rng(2)
    values = {"a": crossed(rng, layers=12, shift=0.4), "b": crossed(rng, layers=12)}
    table = rc.tables(rc.infer(product_comparison(values), **QUICK))["contrasts"]
    outside = (table["ci_low"] > 0) | (table["ci_high"] < 0)
    assert (outside == (table["p"] < 0.05)).all()
    assert 0 < outside.mean() < 1
    ordinal = table[table["pairing"] == "ordinal"]
    assert ordinal["p_fwer"].to_numpy() == pytest.approx(
        multipletests(ordinal["p"], method="holm")[1]
    )
    assert (ordinal["p_fwer"] >= ordinal["p"]).all()


def test_depth_and_mean_pairings_are_the_areas_they_say(product_comparison):
    rng = np.random.default_rng(3)
    values = {"a": crossed(rng, layers=3), "b": crossed(rng, layers=5)}
    depth = {"a": [0.1, 0.4, 0.9], "b": [0.0, 0.2, 0.5, 0.8, 1.0]}
    result = rc.infer(product_comparison(values, depth), **QUICK)
    table = rc.tables(result)["contrasts"].set_index("pairing")
    curve = {n: v.mean(axis=(1, 2)) for n, v in values.items()}
    z = np.linspace(0.1, 0.9, 200_001)
    a, b = (np.interp(z, depth[n], curve[n]) for n in "ab")
    assert table.loc["depth", "difference"] == pytest.approx((a - b).mean(), abs=1e-4)
    assert table.loc["mean", "difference"] == pytest.approx(curve["a"].mean() - curve["b"].mean())
    assert "ordinal" not in table.index
    assert any("no ordinal pairing" in note for note in json.loads(result.attrs["notes"]))


def test_curve_weights_of_layers_that_share_a_depth():
    weights = contrast.curve_weights(np.array([0.0, 1.0, 1.0]), 0.0, 1.0, also=np.array([0.5]))
    assert weights == pytest.approx([0.5, 0.25, 0.25])
    assert contrast.common_depth(np.array([0.0, 0.2]), np.array([0.2, 1.0])) is None


def test_the_best_layer_is_not_chosen_on_the_data_it_is_scored_on(product_comparison):
    """Twelve layers of pure noise against one: the naive maximum is biased, the nested is not."""
    rng = np.random.default_rng(4)
    nested, naive = [], []
    for _ in range(100):
        many = rng.standard_normal((12, 4, 30))
        one = rng.standard_normal((1, 4, 30))
        result = rc.infer(
            product_comparison({"many": many, "one": one}), n_bootstrap=20, n_permutations=1
        )
        table = rc.tables(result)["contrasts"].set_index("pairing")
        nested.append(table.loc["best", "difference"])
        naive.append(many.mean(axis=(1, 2)).max() - one.mean())
    error = np.std(nested) / np.sqrt(len(nested))
    assert abs(np.mean(nested)) < 3 * error
    assert np.mean(naive) > 10 * error


def test_the_best_layer_is_found_and_named(product_comparison):
    rng = np.random.default_rng(5)
    a, b = crossed(rng, layers=4), crossed(rng, layers=4)
    a[2] += 3
    b[1] += 5
    result = rc.infer(product_comparison({"a": a, "b": b}), **QUICK)
    row = rc.tables(result)["contrasts"].set_index("pairing").loc["best"]
    assert (row["layer_a"], row["layer_b"], row["verdict"]) == ("l2", "l1", "b")
    assert row["difference"] == pytest.approx(a[2].mean() - b[1].mean())


@pytest.mark.parametrize("subjects", [5, 9])
def test_subjects_are_held_out_from_eight_on(product_comparison, subjects):
    """A layer that only half the subjects like is chosen and judged by different subjects."""
    rng = np.random.default_rng(6)
    x = 0.01 * rng.standard_normal((2, subjects, 20))
    x[0, 0] += 1.0  # one subject alone prefers layer 0
    comparison = product_comparison({"a": x, "b": np.zeros((1, subjects, 20))})
    result = rc.infer(comparison, n_bootstrap=20, n_permutations=1, n_splits=8)
    best = rc.tables(result)["contrasts"].set_index("pairing").loc["best", "difference"]
    if subjects < 8:
        assert best == pytest.approx(1 / subjects, abs=0.02)
    else:
        # chosen where the one is, judged where it is not; or the other way round, by noise
        assert best < 0.8 / subjects


def test_null_is_the_permutation_of_stimuli_and_counts_the_identity(product_comparison):
    rng = np.random.default_rng(7)
    brain = rng.standard_normal(12)
    x = np.broadcast_to(brain + 0.5 * rng.standard_normal(12), (1, 3, 12)).copy()
    result = rc.infer(
        product_comparison({"a": x, "b": x}, brain=brain), n_bootstrap=20, n_permutations=5000
    )
    orders = np.argsort(rng.random((5000, 12)), axis=1)
    null = (x[0, 0][orders] * brain).mean(axis=1)
    p = result["p_null"].sel(layer="a/l0").item()
    observed = (x[0, 0] * brain).mean()
    assert p >= 1 / 5001
    assert p == pytest.approx((null >= observed).mean(), abs=0.01)


def test_lower_is_better_turns_every_direction(product_comparison):
    rng = np.random.default_rng(8)
    brain = rng.standard_normal(12)
    x = np.broadcast_to(-brain, (2, 3, 12)).copy()
    values = {"a": x - 1.0, "b": x + np.array([0.0, 0.5])[:, None, None]}
    meaning = Meaning("distance", higher_is_better=False)
    result = rc.infer(product_comparison(values, meaning=meaning), **QUICK)
    table = rc.tables(result)["contrasts"].set_index("pairing")
    assert table.loc["mean", "difference"] < 0
    assert table.loc["mean", "verdict"] == "a"
    assert table.loc["best", "layer_b"] == "l0"
    with_brain = rc.infer(product_comparison(values, meaning=meaning, brain=brain), **QUICK)
    assert with_brain["p_null"].sel(layer="b/l0").item() == pytest.approx(1 / 200)


def test_family_wise_p_of_a_noisy_cell_does_not_set_the_threshold():
    rng = np.random.default_rng(9)
    null = rng.standard_normal((2000, 2, 3)) * np.array([1.0, 50.0])[:, None]
    score = np.array([[4.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
    p, p_fwer = permutation.p_values(score, null)
    assert p[0, 0] == pytest.approx(1 / 2001)
    assert p_fwer[0, 0] < 0.01
    assert (p_fwer >= p - 1e-12).all()
    unit = 1 - (1 - p[0, 1]) ** 6  # six independent cells
    assert p_fwer[0, 1] == pytest.approx(unit, abs=0.04)


def test_equivalence_is_two_one_sided_tests_and_says_when_there_is_none(product_comparison):
    p = contrast.tost(
        np.array([0.1]), np.array([0.5]), np.array([0.2]), np.array([0.25]), np.array([4.0])
    )
    expected = max(stats.t.cdf((0.1 - 0.5) / 0.2, 4), stats.t.sf((0.1 + 0.5) / 0.25, 4))
    assert p[0] == pytest.approx(expected)
    x = crossed(np.random.default_rng(10))
    result = rc.infer(product_comparison({"a": x, "b": x}), **QUICK)
    table = rc.tables(result)["contrasts"]
    assert table["p_equivalence"].isna().all()
    assert (table["verdict"] == "undecided").all()
    assert all("no noise ceiling" in str(n) for n in result["contrast_note"].values)


@pytest.mark.parametrize(
    ("difference", "p_fwer", "p_equivalence", "better", "expected"),
    [
        (0.2, 0.01, 0.9, 1, "a"),
        (-0.2, 0.01, 0.01, 1, "b"),
        (0.2, 0.01, 0.9, -1, "b"),
        (0.2, 0.2, 0.04, 1, "equivalent"),
        (0.2, 0.2, np.nan, 1, "undecided"),
        (0.2, np.nan, np.nan, 1, "undecided"),
    ],
)
def test_verdict(difference, p_fwer, p_equivalence, better, expected):
    assert contrast.verdict(difference, p_fwer, p_equivalence, better, 0.05) == expected


def test_same_seed_same_bits_for_any_n_jobs(product_comparison):
    rng = np.random.default_rng(11)
    comparison = product_comparison({"a": crossed(rng), "b": crossed(rng)})
    one = rc.infer(comparison, n_bootstrap=700, n_permutations=1100, random_state=5)
    two = rc.infer(comparison, n_bootstrap=700, n_permutations=1100, random_state=5, n_jobs=2)
    other = rc.infer(comparison, n_bootstrap=700, n_permutations=1100, random_state=6)
    assert one.identical(two)
    assert not one["boot"].equals(other["boot"])


def test_one_subject_leaves_subjects_out(product_comparison):
    x = crossed(np.random.default_rng(12), subjects=1)
    result = rc.infer(product_comparison({"a": x, "b": -x}), **QUICK)
    inference = json.loads(result.attrs["inference"])
    assert inference["sources"]["product"] == ["stimuli"]
    assert inference["left_out"]["product"] == ["subjects"]
    expected = x[0, 0].std(ddof=1) / np.sqrt(x.shape[-1])
    assert result["se"].sel(layer="a/l0").item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrast": ("a", "c")}, "unknown network in contrast 'c'"),
        ({"contrast": ("a", "a")}, "two different networks"),
        ({"sources": ["voxels"]}, "unknown source 'voxels'"),
        ({"n_bootstrap": 5}, "n_bootstrap must be at least 10"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"equivalence_bound": 0}, "positive"),
    ],
)
def test_bad_options(product_comparison, options, message):
    x = crossed(np.random.default_rng(13))
    with pytest.raises(ProtocolError, match=message):
        rc.infer(product_comparison({"a": x, "b": x}), **options)


def test_the_primary_pairing_is_stored_and_changes_no_number(product_comparison):
    values = {"a": np.ones((2, 3, 12)), "b": np.zeros((2, 3, 12))}
    values = {
        k: v + np.random.default_rng(i).normal(size=v.shape)
        for i, (k, v) in enumerate(values.items())
    }
    made = product_comparison(values)
    plain, named = (
        rc.infer(made, n_bootstrap=20, n_permutations=20, primary=which) for which in (None, "best")
    )
    np.testing.assert_array_equal(plain["contrast_p"], named["contrast_p"])
    assert "primary" not in json.loads(plain.attrs["inference"])
    assert json.loads(named.attrs["inference"])["primary"] == "best"
    with pytest.raises(ProtocolError, match="unknown primary pairing 'bets'; did you mean 'best'"):
        rc.infer(made, primary="bets")


def test_rows_with_a_baseline_are_corrected_by_themselves(product_comparison):
    """Holm over the rows of real networks is what it is without baselines."""
    rng = np.random.default_rng(5)
    cube = {
        n: rng.standard_normal((1, 6, 30)) + shift
        for n, shift in zip("abc", (1, 0.6, 0), strict=True)
    }
    alone = product_comparison({n: cube[n] for n in "ab"})
    beside = product_comparison(cube)
    beside.scores.attrs["networks"] = json.dumps(
        [{"name": "a"}, {"name": "b"}, {"name": "c", "baseline_of": "a", "baseline": "noise"}]
    )
    found = [
        rc.tables(rc.infer(c, n_bootstrap=200, n_permutations=199))["contrasts"]
        for c in (alone, beside)
    ]
    grids = [
        rc.infer(c, n_bootstrap=20, n_permutations=199)["p_null_fwer"].values[..., :2]
        for c in (alone, beside)
    ]
    np.testing.assert_array_equal(*grids)
    real = found[1][found[1]["network_b"] == "b"]
    assert set(found[1]["network_b"]) == {"b", "c"}
    assert real["p_fwer"].tolist() == found[0]["p_fwer"].tolist()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"sources": []}, "sources names nothing to resample"),
        ({"sources": "stimuli"}, r"sources is a list of names, as \['stimuli'\]"),
        ({"hierarchy": "V1"}, r"hierarchy is a list of names, as \['V1'\]"),
        ({"n_bootstrap": 50.5}, "n_bootstrap: a whole number is expected, got 50.5"),
        ({"n_permutations": "99"}, "n_permutations: a whole number is expected, got '99'"),
        ({"n_splits": True}, "n_splits: a whole number is expected, got True"),
    ],
)
def test_options_that_say_nothing_are_refused(product_comparison, option, said):
    ones = {"a": np.ones((1, 3, 8)), "b": np.ones((1, 3, 8))}
    with pytest.raises(ProtocolError, match=said):
        rc.infer(product_comparison(ones), **{"n_bootstrap": 10, "n_permutations": 5} | option)
