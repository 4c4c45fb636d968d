"""Counts of cells, and whether best layers rise along the visual hierarchy."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import rsacompare as rc
from rsacompare.errors import ProtocolError
from rsacompare.inference import hierarchy, roi_order, unit_hierarchy
from rsacompare.metrics.evidence import (
    IdentificationEvidence,
    Meaning,
    NormalisedEvidence,
    TargetEvidence,
)
from rsacompare.schema.results import Comparison, extra_tables, iter_extras

QUICK = {"n_bootstrap": 300, "n_permutations": 9}
AREAS = ["V1", "V2", "V3", "V4", "HVC"]


@pytest.fixture
def areas_comparison(product_comparison):
    """Comparison of {roi: {network: (layer, subject, stimulus)}}."""

    def make(values, **more):
        parts = {roi: product_comparison(cubes, **more) for roi, cubes in values.items()}
        scores = xr.concat([p.scores.assign_coords(roi=[r]) for r, p in parts.items()], "roi")
        scores = scores.transpose("metric", "subject", "roi", "layer")
        scores.attrs = next(iter(parts.values())).scores.attrs
        evidence = {
            cell._replace(roi=roi): held
            for roi, part in parts.items()
            for cell, held in part.evidence.items()
        }
        return Comparison(scores, evidence)

    return make


def noisy(rng, means, subjects=6, stimuli=40, noise=0.3):
    """(layer, subject, stimulus) about these layer means."""
    return np.asarray(means)[:, None, None] + noise * rng.standard_normal(
        (len(means), subjects, stimuli)
    )


def bump(at, layers=5):
    return np.exp(-((np.arange(layers) - at) ** 2))


def rising(rng, areas=AREAS):
    """`a` is best at layer i in ROI i, `b` the other way round, `c` the same everywhere."""
    last = len(areas) - 1
    return {
        roi: {
            "a": noisy(rng, bump(i, last + 1)),
            "b": noisy(rng, bump(last - i, last + 1)),
            "c": noisy(rng, bump(2, last + 1)),
        }
        for i, roi in enumerate(areas)
    }


# wins


def test_counts_are_those_of_the_table(areas_comparison):
    rng = np.random.default_rng(0)
    ahead = {"V1": 0.5, "V2": 0.5, "V3": -0.5}
    values = {
        roi: {"a": noisy(rng, [by, by]), "b": noisy(rng, [0.0, 0.0])} for roi, by in ahead.items()
    }
    result = rc.infer(areas_comparison(values), **QUICK)
    rows = extra_tables(result)["wins_product"].set_index("cells")
    first, layers, people = rows.index
    assert first.startswith("ROIs")
    assert layers.startswith("layers")
    assert people.startswith("subj")
    assert rows["number"].tolist() == [3, 6, 6]
    assert rows.loc[first, ["first_ahead", "second_ahead"]].tolist() == [2, 1]
    assert rows.loc[layers, ["first_ahead", "second_ahead"]].tolist() == [4, 2]
    assert rows.loc[people, ["first_ahead", "second_ahead"]].tolist() == [6, 0]
    # the differences are large: all significant, and every draw has the same majority
    assert rows.loc[first, ["first_closer", "second_closer"]].tolist() == ["2", "1"]
    assert rows.loc[first, "first_majority_of_draws"] == 1.0
    table = rc.tables(result)["contrasts"]
    mean = table[table["pairing"] == "mean"]
    assert (mean["verdict"] == "a").sum() == 2


def test_fewer_is_closer_where_lower_scores_are_better(areas_comparison):
    rng = np.random.default_rng(1)
    values = {roi: {"a": noisy(rng, [1.0]), "b": noisy(rng, [0.0])} for roi in ("V1", "V2")}
    comparison = areas_comparison(values, meaning=Meaning("product", higher_is_better=False))
    rows = extra_tables(rc.infer(comparison, **QUICK))["wins_product"]
    assert rows["first_ahead"].tolist() == [0, 0, 0]
    assert rows["second_ahead"].tolist() == [2, 2, 6]
    assert rows["first_majority_of_draws"][0] == 0.0


def test_share_of_draws_of_one_roi_is_that_of_its_own_bootstrap(product_comparison):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 1, 5, 20))
    result = rc.infer(
        product_comparison({"a": x, "b": y}),
        n_bootstrap=4000,
        n_permutations=9,
        sources=["stimuli"],
    )
    rows = extra_tables(result)["wins_product"]
    each = (x - y).mean(axis=(0, 1))
    expected = stats.norm.sf(0, each.mean(), each.std() / np.sqrt(len(each)))
    assert rows["first_majority_of_draws"][0] == pytest.approx(expected, abs=0.03)


def test_equal_networks_are_ahead_nowhere(areas_comparison):
    x = noisy(np.random.default_rng(3), [0.2, 0.3])
    rows = extra_tables(rc.infer(areas_comparison({"V1": {"a": x, "b": x}}), **QUICK))
    rows = rows["wins_product"]
    assert rows["first_ahead"].sum() == rows["second_ahead"].sum() == 0
    assert np.nan_to_num(rows["first_majority_of_draws"]).sum() == 0


def test_a_layer_without_scores_does_not_hide_who_is_ahead_in_the_others(areas_comparison):
    rng = np.random.default_rng(4)
    a, b = noisy(rng, [0.5, 0.5]), noisy(rng, [0.0, 0.0])
    b[1] = np.nan
    rows = extra_tables(rc.infer(areas_comparison({"V1": {"a": a, "b": b}}), **QUICK))
    rows = rows["wins_product"].set_index("cells").filter(like="layers", axis=0)
    assert rows[["number", "first_ahead"]].values.tolist() == [[1, 1]]
    assert rows["first_majority_of_draws"].tolist() == [1.0]


# the order of ROIs


def test_spearman_is_scipys_with_ties_too():
    rng = np.random.default_rng(0)
    level = np.array([0, 1, 2, 2, 3, 4])
    x = rng.integers(0, 4, (200, 6)).astype(float)
    expected = [
        stats.spearmanr(row, level).statistic if np.ptp(row) else 0.0 for row in x
    ]  # fmt: skip
    assert hierarchy.spearman(x, level) == pytest.approx(np.array(expected))


def test_p_is_the_share_of_orders_counted_by_hand():
    x, level = np.array([0.1, 0.3, 0.2, 0.4]), np.arange(4)
    p = roi_order.p_of_order(hierarchy.spearman(x, level[roi_order.orders(4, 0)]))
    # of 24 orders one has rho 1 and three have rho .8, the one observed
    assert p == pytest.approx(4 / 24)
    every = [stats.spearmanr(x, o).statistic for o in itertools.permutations(level)]
    assert p == pytest.approx(np.mean(np.array(every) >= 0.8 - 1e-9))


def test_more_rois_than_can_be_counted_are_sampled():
    level = np.arange(9)
    p = roi_order.p_of_order(hierarchy.spearman(level * 1.0, level[roi_order.orders(9, 0)]))
    assert p == roi_order.floor(level) == 1 / 10_001
    x = np.array([3.0, 1, 2, 6, 4, 5, 9, 7, 8])
    p = roi_order.p_of_order(hierarchy.spearman(x, level[roi_order.orders(9, 0)]))
    judge = stats.permutation_test(
        (x,), lambda a: stats.spearmanr(a, level).statistic, permutation_type="pairings",
        alternative="greater", n_resamples=2000, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert p == pytest.approx(judge.pvalue, abs=0.005)


def test_without_a_rise_p_below_05_comes_as_seldom_as_it_should():
    """ROIs share stimulus noise and differ by their own; no order among them."""
    rng = np.random.default_rng(1)
    n, layers, depth = 2000, 8, np.linspace(0, 1, 8)
    scores = (
        0.1 * np.sin(np.linspace(0, 3, layers))
        + 0.1 * rng.standard_normal((n, 1, layers))
        + 0.05 * rng.standard_normal((n, 5, layers))
    )
    shuffled = np.arange(5)[roi_order.orders(5, 0)]
    for statistic in (hierarchy.centre, hierarchy.best):
        x = statistic(scores, depth)
        p = np.array([roi_order.p_of_order(hierarchy.spearman(one, shuffled)) for one in x])
        assert (p < 0.05).mean() < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / n)
    # and the primary statistic, without ties, is not conservative either
    p = [
        roi_order.p_of_order(hierarchy.spearman(one, shuffled))
        for one in hierarchy.centre(scores, depth)
    ]
    assert (np.array(p) <= 6 / 120).mean() > 0.03


def test_a_built_in_rise_is_found_and_its_reverse_is_not(areas_comparison):
    result = rc.infer(areas_comparison(rising(np.random.default_rng(0))), **QUICK)
    rows = extra_tables(result)["hierarchy_product"].set_index(["network", "statistic"])
    for statistic in hierarchy.STATISTICS:
        up, down = rows.loc[("a", statistic)], rows.loc[("b", statistic)]
        assert up["rho"] == 1
        assert up["p_order"] == pytest.approx(1 / 120) == up["p_floor"]
        assert down["rho"] == -1
        assert down["p_order"] == 1
        assert up["step_low"] > 0
        assert up["p_step"] < 0.001
        apart = rows.loc[("a − b", statistic)]
        assert apart["rho"] == 2
        assert np.isnan(apart["p_order"])
        assert apart["step"] == pytest.approx(up["step"] - down["step"])
        assert apart["p_step"] < 0.001
    assert rows.loc[("a", "best layer"), "step"] == pytest.approx(0.25)
    # the same layer everywhere: no rise, and no order is special
    assert rows.loc[("c", "best layer"), ["rho", "p_order"]].tolist() == [0, 1]
    assert rows.loc[("c", "centre over depth"), "step_low"] < 0


def test_centre_is_that_of_the_scores_above_the_lowest(areas_comparison):
    values = rising(np.random.default_rng(2))
    result = rc.infer(areas_comparison(values), **QUICK)
    (roles,) = [r for x, r in iter_extras(result) if x["title"].startswith("Depth of the best")]
    here = (roles["curve"] == "a") & (roles["panel"] == "centre over depth")
    depth = np.linspace(0, 1, 5)
    for place, roi in enumerate(AREAS):
        mean = values[roi]["a"].mean(axis=(1, 2))
        expected = np.average(depth, weights=mean - mean.min())
        assert roles["y"][here][place] == pytest.approx(expected)


def test_a_given_order_takes_the_place_of_the_known_one(areas_comparison):
    comparison = areas_comparison(rising(np.random.default_rng(0)))
    result = rc.infer(comparison, **QUICK, hierarchy=["HVC", "V3", "V1"])
    rows = extra_tables(result)["hierarchy_product"].set_index(["network", "statistic"])
    assert rows.loc[("a", "best layer"), "rho"] == -1
    assert rows.loc[("b", "best layer"), "p_order"] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["V1", "V2", "HCV"], "unknown roi in hierarchy 'HCV'; did you mean 'HVC'"),
        (["V1", "V2", "V1"], "names 'V1' more than once"),
        (["V1", "V2"], "2 ROIs; an order that can be tested needs 3"),
    ],
)
def test_a_hierarchy_that_makes_no_sense_is_told_before_anything_is_computed(
    areas_comparison, given, said
):
    comparison = areas_comparison(rising(np.random.default_rng(0)))

    def never(*_):
        raise AssertionError("something was computed")

    with pytest.raises(ProtocolError, match=said):
        rc.infer(comparison, **QUICK, hierarchy=given, progress=never)


def test_too_few_known_rois_are_said_to_be_too_few(areas_comparison):
    values = rising(np.random.default_rng(0), ["EVC", "IT", "hIT"])
    result = rc.infer(areas_comparison(values), **QUICK)
    assert "hierarchy_product" not in extra_tables(result)
    assert "was not tested" in result.attrs["notes"]
    assert "EVC < IT = hIT" in result.attrs["notes"]


def test_unions_and_parts_have_no_place():
    assert list(roi_order.order(["VC", "LVC", "V1v", "V1d", "hV4", "FFA", "LOC", "all"])) == [
        "V1v", "V1d", "hV4", "FFA", "LOC",
    ]  # fmt: skip
    assert roi_order.order(["EVC", "V1", "V4", "IT"]) == {"V1": 0, "V4": 1, "IT": 2}


# BH score


def test_p_of_a_correlation_is_scipys_and_not_that_of_the_source():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 50))
    r, p = stats.pearsonr(x, y)
    assert unit_hierarchy.correlation_p(np.array(r), 48) == pytest.approx(p)
    # FACTS section 8: t is 2.179 at r = .3, not 1.983
    assert unit_hierarchy.correlation_p(np.array(0.3), 48) == pytest.approx(
        2 * stats.t.sf(2.179, 48), abs=1e-4
    )


def test_bh_score_of_counts_is_spearmans_of_the_units():
    rng = np.random.default_rng(1)
    table = rng.integers(0, 30, (6, 5))
    layer, roi = (np.repeat(i.ravel(), table.ravel()) for i in np.indices(table.shape))
    for level in ([0, 1, 2, 3, 4], [2, 0, 1, 4, 3], [0, 1, 1, 2, 2]):
        expected = stats.spearmanr(layer, np.array(level)[roi]).statistic
        assert unit_hierarchy.bh_score(table, np.array(level)) == pytest.approx(expected)


def _units(rng, rois, layers=4, subjects=2, stimuli=30, units=40):
    """Evidence whose units of layer i are predicted best by ROI i, others less well or not."""
    ids = np.array([f"s{i:02d}" for i in range(stimuli)])
    held = {}
    for layer in range(layers):
        true = rng.standard_normal((stimuli, units))
        for r in range(len(rois)):
            for s in range(subjects):
                noise = 2.5 + 2.0 * abs(r - layer)
                seen = true + noise * rng.standard_normal(true.shape)
                held[layer, r, s] = TargetEvidence(ids, true, seen, sources=("stimuli", "units"))
    return held


def _inferred(held, rois, layers=4, subjects=2):
    names = tuple(f"sub-{s}" for s in range(subjects))
    place = {
        roi: np.array([[(i * len(rois) + r) * subjects + s for s in range(subjects)]
                       for i in range(layers)])
        for r, roi in enumerate(rois)
    }  # fmt: skip
    evidence = [
        held[i, r, s] for i in range(layers) for r in range(len(rois)) for s in range(subjects)
    ]
    family = SimpleNamespace(
        metric="d", network=np.array(["a"] * layers), subjects=dict.fromkeys(rois, names),
        place=place, evidence=evidence, sources=("stimuli", "units"),
    )  # fmt: skip
    scores = xr.Dataset(coords={"metric": ["d"]})
    return SimpleNamespace(
        family=family, depth=np.linspace(0, 1, layers), scores=scores,
        options=SimpleNamespace(seed=0),
    )  # fmt: skip


def test_bh_score_of_evidence_by_the_long_way():
    rois = ["V1", "V2", "V3", "HVC"]
    held = _units(np.random.default_rng(2), rois)
    layer_of, roi_of, who = [], [], []
    for layer in range(4):
        for s in range(2):
            for unit in range(40):
                found = []
                for r in range(4):
                    e = held[layer, r, s]
                    found.append(stats.pearsonr(e.observed[:, unit], e.predicted[:, unit]))
                top = int(np.argmax([f.statistic for f in found]))
                if found[top].pvalue < 0.05 and found[top].statistic > 0:
                    layer_of.append(layer + 1)
                    roi_of.append(top)
                    who.append(s)
    expected = stats.spearmanr(layer_of, roi_of).statistic
    (table,) = unit_hierarchy.extras(_inferred(held, rois), dict(zip(rois, range(4), strict=True)))
    arrays = {k: v.values[0] for k, v in table["arrays"].items()}
    assert arrays["bh_score"] == pytest.approx(expected)
    assert (arrays["units"], arrays["of"]) == (len(layer_of), 320)
    assert arrays["units"] < 320  # some units passed no screen
    assert arrays["p_order"] == pytest.approx(1 / 24)
    held_by = pd.DataFrame({"layer": layer_of, "roi": roi_of, "who": who})
    each = [
        stats.spearmanr(own["layer"], own["roi"]).statistic for _, own in held_by.groupby("who")
    ]
    assert arrays["lowest_subject"] == pytest.approx(min(each))
    assert arrays["highest_subject"] == pytest.approx(max(each))


def test_evidence_of_patterns_and_of_voxels_has_no_bh_score():
    rois = ["V1", "V2", "V3", "HVC"]
    level = dict(zip(rois, range(4), strict=True))
    held = _units(np.random.default_rng(3), rois)
    inferred = _inferred(held, rois)
    inferred.family.sources = ("stimuli",)
    assert unit_hierarchy.extras(inferred, level) == []
    patterns = {
        k: IdentificationEvidence(e.stimulus_id, e.observed, e.predicted, sources=e.sources)
        for k, e in held.items()
    }
    assert unit_hierarchy.extras(_inferred(patterns, rois), level) == []


def test_correlations_of_targets_are_correlations_also_where_the_score_is_a_ratio():
    rng = np.random.default_rng(4)
    true = rng.standard_normal((20, 3))
    seen = true + rng.standard_normal((20, 3))
    ids = np.array([f"s{i:02d}" for i in range(20)])
    more = {"noise_variance": np.full((20, 3), 0.5), "n_repetitions": np.full(20, 4)}
    expected = [stats.pearsonr(true[:, i], seen[:, i]).statistic for i in range(3)]
    for kind in (TargetEvidence, NormalisedEvidence):
        found = kind(ids, true, seen, **more).target_correlations()
        assert found == pytest.approx(np.array(expected))
