"""Step-down maxima and false discovery rates against loops by hand, statsmodels and MNE's rule."""

import json

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

import rsacompare as rc
from rsacompare.inference.multiple import false_discovery, step_down
from rsacompare.inference.permutation import p_values
from rsacompare.schema.results import iter_extras


def by_hand(score, null, better):
    """Westfall & Young's algorithm 2.8 as the book has it, one permutation after another."""
    cells = [(r, c) for r in range(score.shape[0]) for c in range(score.shape[1])]
    z, draws = {}, {}
    for cell in cells:
        own = better * null[(slice(None), *cell)]
        if np.isfinite(score[cell]) and own.std() > 0:
            z[cell] = (better * score[cell] - own.mean()) / own.std()
            draws[cell] = (own - own.mean()) / own.std()
    order = sorted(z, key=lambda cell: -z[cell])
    out = np.full(score.shape, np.nan)
    counts = dict.fromkeys(order, 1)
    for b in range(len(null)):
        for j, cell in enumerate(order):
            if max(draws[other][b] for other in order[j:]) >= z[cell] - 1e-12:
                counts[cell] += 1
    last = 0.0
    for cell in order:
        last = max(last, counts[cell] / (len(null) + 1))
        out[cell] = last
    return out


@pytest.mark.parametrize("better", [1, -1])
def test_step_down_equals_the_loop(better):
    rng = np.random.default_rng(0)
    null = rng.standard_normal((199, 3, 4)) @ (np.eye(4) + 0.5) * [1, 5, 0.2, 1] + 3
    score = 3 + better * np.array([[3.0, 1, 0, 4], [2, 9, 0.4, 0], [1, 0, 0.1, -3]])
    score[2, 0] = np.nan
    null[:, 1, 3] = 3.0  # never varies: no test
    got = step_down(score, null, better)
    np.testing.assert_array_equal(got, by_hand(score, null, better))
    assert np.isnan(got[2, 0])
    assert np.isnan(got[1, 3])
    single = p_values(score, null, better)[1]
    tests = np.isfinite(single)
    assert tests.sum() == 10
    assert (got[tests] <= single[tests]).all()
    assert (got[tests] < single[tests]).any()
    z = better * (score - null.mean(axis=0)) / np.where(tests, null.std(axis=0), np.nan)
    order = np.argsort(-z[tests])
    assert (np.diff(got[tests][order]) >= 0).all()  # monotone in the observed statistic


def test_step_down_finds_what_single_steps_find_that_start_again_without_what_was_found():
    """As MNE's `step_down_p` does: cells below the threshold leave, and the maximum is anew."""
    rng = np.random.default_rng(1)
    null = rng.standard_normal((999, 1, 8)) + rng.standard_normal((999, 1, 1))
    score = np.array([[6.0, 4.4, 3.6, 3.35, 2.6, 1.0, 0.0, -1.0]])
    found = np.zeros(8, dtype=bool)
    while True:
        left = np.flatnonzero(~found)
        p = p_values(score[:, left], null[:, :, left])[1][0]
        if not (p < 0.05).any():
            break
        found[left[p < 0.05]] = True
    got = step_down(score, null)[0] < 0.05
    np.testing.assert_array_equal(got, found)
    assert found.sum() > (p_values(score, null)[1] < 0.05).sum()


@pytest.mark.parametrize("method", ["fdr_bh", "fdr_by"])
def test_false_discovery_rates_are_those_of_statsmodels_over_real_tests(method):
    p = np.array([[0.001, 0.2, np.nan], [0.03, 0.04, 0.9]])
    got = false_discovery(p, method)
    assert np.isnan(got[0, 2])
    expected = multipletests([0.001, 0.2, 0.03, 0.04, 0.9], method=method)[1]
    np.testing.assert_allclose(got[np.isfinite(p)], expected)
    harmonic = 1.0 if method == "fdr_bh" else sum(1 / k for k in range(1, 6))
    assert got[0, 0] == pytest.approx(0.005 * harmonic)
    assert np.isnan(false_discovery(np.full(3, np.nan), method)).all()


def test_the_result_holds_them_and_the_page_shows_the_family(product_comparison):
    rng = np.random.default_rng(2)
    brain = rng.standard_normal(30)
    values = {n: rng.standard_normal((3, 4, 30)) for n in ("net", "other")}
    values["net"][:2] += 0.9 * brain
    values["other"][2] = 1.0  # no permutation changes it: no test
    result = rc.infer(product_comparison(values, brain=brain), n_bootstrap=20, n_permutations=499)
    p = {name: result[name].values[0, 0] for name in
         ("p_null", "p_null_fwer", "p_null_step", "p_null_bh", "p_null_by")}  # fmt: skip
    null = result["null"].values[0, 0].T[:, None].astype(float)
    np.testing.assert_allclose(
        p["p_null_step"], step_down(result["mean_score"].values[0], null)[0], atol=0.0041
    )
    live = np.arange(6) != 5
    for name in ("p_null_step", "p_null_bh", "p_null_by"):
        assert (np.isfinite(p[name]) == live).all()
    assert (p["p_null_step"][live] <= p["p_null_fwer"][live]).all()
    np.testing.assert_allclose(
        p["p_null_bh"][live], multipletests(p["p_null"][live], method="fdr_bh")[1]
    )
    np.testing.assert_allclose(
        p["p_null_by"][live], multipletests(p["p_null"][live], method="fdr_by")[1]
    )
    ((extra, roles),) = [x for x in iter_extras(result, "product") if "correction" in x[1]]
    assert "The family: 5 layers × 1 ROI = 5 cells; beyond chance: p < 0.05." in extra["caption"]
    counts = dict(zip(roles["correction"].tolist(), roles["cells_beyond_chance"], strict=True))
    names = {"none": "p_null", "maximum": "p_null_fwer", "step-down": "p_null_step",
             "BH": "p_null_bh", "BY": "p_null_by"}  # fmt: skip
    assert counts == {k: int((p[v][live] < 0.05).sum()) for k, v in names.items()}
    assert counts["none"] >= 2
    rows = {k: result[f"contrast_{k}"].values for k in ("pairing", "p", "p_fwer", "p_bh", "p_by")}
    own = rows["pairing"] == "ordinal"
    for name, method in (("p_bh", "fdr_bh"), ("p_by", "fdr_by"), ("p_fwer", "holm")):
        np.testing.assert_allclose(rows[name][own], multipletests(rows["p"][own], method=method)[1])
    assert own.sum() == 3
    assert json.loads(result.attrs["inference"])["levels"] == {"product": ["single stimuli"]}


def test_step_down_keeps_the_family_wise_rate_where_some_effects_are_true():
    """400 studies of 8 correlated cells, half of them true: strong control, and more power."""
    rng = np.random.default_rng(3)
    n, size = 400, 199
    wrong, found, single = [], [], []
    mixing = np.linalg.cholesky(0.5 * np.eye(8) + 0.5)
    effect = np.r_[np.full(4, 3.4), np.zeros(4)]
    for _ in range(n):
        null = rng.standard_normal((size, 8)) @ mixing.T
        score = mixing @ rng.standard_normal(8) + effect
        p = step_down(score[None], null[:, None])[0]
        wrong.append((p[4:] < 0.05).any())
        found.append((p[:4] < 0.05).mean())
        single.append((p_values(score[None], null[:, None])[1][0, :4] < 0.05).mean())
    error = np.sqrt(0.05 * 0.95 / n)
    assert np.mean(wrong) < 0.05 + 2.5 * error
    assert np.mean(found) > np.mean(single) + 0.01
