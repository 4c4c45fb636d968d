"""Percentile, BCa and studentised intervals against scipy and plain numpy on the same draws."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import rsacompare as rc
from rsacompare.errors import ProtocolError
from rsacompare.inference import intervals
from rsacompare.inference.contrast import Halves, rows
from rsacompare.inference.estimate import estimate
from rsacompare.inference.family import BLOCK, arrange, draw_block
from rsacompare.inference.leave_out import Deletions, Strata, _moments
from rsacompare.inference.statistics import Options, bootstrap_family, levels_of
from rsacompare.inference.table import contrast_table

DRAWS = 999


def options(interval, source="stimuli", n_bootstrap=DRAWS, **more):
    return Options(n_bootstrap, 1, 3, 0.95, 0.1, 2, (source,), interval, **more)


def skewed(seed, layers=2, subjects=4, stimuli=20):
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(layers, subjects, stimuli)) - 0.7


def found(comparison, chosen):
    """(family, statistics, the mean pairing's row)."""
    family = arrange(comparison, "product", 1)
    pairs = [("a", "b")] if (family.network == "b").any() else []
    listed = rows(family, np.linspace(0, 1, len(family.layers)), pairs)[0]
    return family, bootstrap_family(family, listed, chosen, 1, None), listed


def one_network(product_comparison, x):
    return product_comparison({"a": x, "b": x[:1] + 5})


def multiplicities(family, n_bootstrap, source="stimuli", seed=3):
    sizes = [(i, min(BLOCK, n_bootstrap - s)) for i, s in enumerate(range(0, n_bootstrap, BLOCK))]
    drawn = [draw_block(family, seed, *size) for size in sizes]
    held = [getattr(d, source) for d in drawn]
    return np.concatenate([next(iter(h.values())) for h in held])


def scipy_interval(x, draws, method):
    """scipy's interval of a mean from these very bootstrap values."""
    given = SimpleNamespace(bootstrap_distribution=draws)
    judge = stats.bootstrap(
        (x,), np.mean, n_resamples=0, method=method, bootstrap_result=given, vectorized=True
    )
    return judge.confidence_interval


@pytest.mark.parametrize("source", ["stimuli", "subjects"])
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_a_mean_equal_scipy_on_the_same_draws(product_comparison, method, source):
    x = skewed(0, layers=1)
    chosen = options(method, source)
    family, statistics, _ = found(one_network(product_comparison, x), chosen)
    levels = levels_of(family, "V1", chosen)
    mine = estimate(lambda v: v.mean[..., 0, 0], statistics, levels, chosen)
    single = x[0].mean(axis=0 if source == "stimuli" else 1)
    draws = multiplicities(family, DRAWS, source) @ single / len(single)
    assert statistics.draws[frozenset({source})].mean[:, 0, 0] == pytest.approx(draws, abs=1e-13)
    judge = scipy_interval(single, draws, method)
    assert [mine.low, mine.high] == pytest.approx(list(judge), abs=1e-10)


def test_acceleration_and_bias_by_their_formulas(product_comparison):
    x = skewed(1, layers=1)
    chosen = options("bca")
    _, statistics, _ = found(one_network(product_comparison, x), chosen)
    ratio = lambda v: v.mean[..., 0, 0] / (3 + v.mean[..., 0, 1] ** 2)  # noqa: E731
    se, acceleration = statistics.jackknife.moments(ratio)
    data = x[0].mean(axis=0)
    n = len(data)
    away = np.array([np.delete(data, i).mean() for i in range(n)])
    away = away / (3 + (away + 5) ** 2)
    u = away.mean() - away
    assert acceleration[0] == pytest.approx((u**3).sum() / 6 / (u**2).sum() ** 1.5, rel=1e-10)
    assert se[0] == pytest.approx(np.sqrt((n - 1) / n * (u**2).sum()), rel=1e-10)
    draws = ratio(statistics.draws[frozenset({"stimuli"})])
    value = ratio(statistics.observed)
    mine = intervals.bca(np.atleast_1d(value), draws[:, None], np.atleast_1d(acceleration[0]), 0.95)
    z0 = stats.norm.ppf((draws < value).mean())
    z = z0 + stats.norm.ppf([0.025, 0.975])
    ends = np.quantile(draws, stats.norm.cdf(z0 + z / (1 - acceleration[0] * z)))
    assert [mine.low[0], mine.high[0]] == pytest.approx(ends, rel=1e-10)


@pytest.mark.parametrize("source", ["stimuli", "subjects"])
def test_studentised_mean_is_the_textbook_bootstrap_t(product_comparison, source):
    x = skewed(2, layers=1, subjects=7)
    chosen = options("studentised", source)
    family, statistics, _ = found(one_network(product_comparison, x), chosen)
    levels = levels_of(family, "V1", chosen)
    mine = estimate(lambda v: v.mean[..., 0, 0], statistics, levels, chosen)
    data = x[0].mean(axis=0 if source == "stimuli" else 1)
    n = len(data)
    t = []
    for counts in multiplicities(family, DRAWS, source):
        sample = np.repeat(data, counts.astype(int))
        with np.errstate(divide="ignore"):
            t.append((sample.mean() - data.mean()) / (sample.std(ddof=1) / np.sqrt(n)))
    se = data.std(ddof=1) / np.sqrt(n)
    low, high = data.mean() - np.quantile(t, [0.975, 0.025]) * se
    assert mine.se == pytest.approx(se, rel=1e-12)
    assert [mine.low, mine.high] == pytest.approx([low, high], rel=1e-9)


@pytest.mark.parametrize("method", ["percentile", "bca", "studentised"])
def test_p_is_below_alpha_just_when_the_interval_excludes_zero(product_comparison, method):
    """For means moved over a whole range, at several confidences; and p by brute inversion."""
    x = skewed(3, layers=1, stimuli=24)
    chosen = options(method, n_bootstrap=399)
    family, statistics, _ = found(one_network(product_comparison, x), chosen)
    levels = levels_of(family, "V1", chosen)
    shifts = np.linspace(-1.2, 1.2, 241)
    moved = lambda v: v.mean[..., 0, :1] + shifts  # noqa: E731
    p = estimate(moved, statistics, levels, chosen).p
    for confidence in (0.5, 0.9, 0.95, 0.99):
        one = estimate(moved, statistics, levels, replace(chosen, confidence=confidence))
        outside = (one.low > 0) | (one.high < 0)
        assert one.p == pytest.approx(p, abs=0)
        np.testing.assert_array_equal(outside, p < 1 - confidence)
        assert 0.1 < outside.mean() < 1
    # the interval at confidence 1 − p ends at 0
    inner = np.flatnonzero((p > 0.02) & (p < 0.95))[::10]
    for i in inner:
        ends = estimate(
            lambda v, s=shifts[i]: v.mean[..., 0, 0] + s,
            statistics, levels, replace(chosen, confidence=1 - p[i]),
        )  # fmt: skip
        assert min(abs(ends.low), abs(ends.high)) < 1e-9
    assert len(inner) > 3


def test_bca_bounds_agree_with_p_beyond_the_pole_of_the_acceleration():
    """Accelerations and biases far from 0, where the correction has a pole."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        draws = rng.standard_normal((101, 1)) + rng.normal(0, 2)
        value = np.array([rng.normal(draws.mean(), 0.5)])
        a = np.array([rng.choice([-0.9, -0.4, 0.0, 0.4, 0.9])])
        one = intervals.bca(value, draws, a, 0.9)
        if np.isnan(one.low[0]):
            continue
        p = 2 * min(one.greater[0], one.less[0])
        assert (one.low[0] > 0 or one.high[0] < 0) == (p < 0.1)


def test_every_method_takes_the_best_layer_and_reselects_it(product_comparison):
    rng = np.random.default_rng(6)
    values = {"a": rng.standard_normal((3, 4, 16)) + 0.3, "b": rng.standard_normal((2, 4, 16))}
    comparison = product_comparison(values)
    chosen = options("studentised", n_bootstrap=60)
    family, statistics, listed = found(comparison, chosen)
    # leaving a stimulus out is scoring without it, the choice of the layer included
    strata = Strata.of(family, "stimuli")
    assert strata.sizes == [16]
    split = Halves.split(family, chosen.n_splits, chosen.seed)
    halves = next(iter(split.stimuli.values()))
    got = statistics.jackknife.parts[0].values.best[:, 0]
    for i in (0, 7, 15):
        for n, network in enumerate("ab"):
            total = []
            data = values[network].mean(axis=1)
            for half in halves:
                for side in (half, ~half):
                    select = side & (np.arange(16) != i)
                    judge = ~side & (np.arange(16) != i)
                    pick = data[:, select].mean(axis=1).argmax()
                    total.append(data[pick, judge].mean())
            assert got[i, n] == pytest.approx(np.mean(total), abs=1e-12)
    row = next(r for r in listed if r.pairing == "best")
    table = contrast_table(family, [row], statistics, None, chosen)
    assert np.isfinite([table[0][c] for c in ("ci_low", "ci_high", "p", "se")]).all()


def test_leaving_out_copies_of_drawn_levels():
    counts = np.array([[2.0, 0, 1], [1, 1, 1]])
    deletions = Deletions.of(counts, [3])
    assert deletions.left(counts, slice(None)).tolist() == [
        [1, 0, 1], [2, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0],
    ]  # fmt: skip
    assert deletions.copies.tolist() == [2, 1, 1, 1, 1]
    assert deletions.start.tolist() == [0, 2]


def test_several_samples_make_the_acceleration_of_scipy():
    """Units of two layers are two samples: scipy's multi-sample jackknife is the judge."""
    rng = np.random.default_rng(7)
    x, y = rng.exponential(size=9), rng.exponential(size=6) ** 2
    counts = np.ones((1, 15))
    deletions = Deletions.of(counts, [9, 6])
    left = deletions.left(counts, slice(None))
    theta = left[:, :9] @ x / left[:, :9].sum(1) - left[:, 9:] @ y / left[:, 9:].sum(1)
    se, acceleration = _moments(theta, deletions)
    assert se[0] == pytest.approx(np.sqrt(x.var(ddof=1) / 9 + y.var(ddof=1) / 6))
    judge = stats.bootstrap(
        (x, y), lambda a, b, axis: a.mean(axis) - b.mean(axis), n_resamples=2000,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    draws = judge.bootstrap_distribution
    mine = intervals.bca(np.array([x.mean() - y.mean()]), draws[:, None], acceleration, 0.95)
    assert [mine.low[0], mine.high[0]] == pytest.approx(list(judge.confidence_interval), abs=1e-10)


def test_a_constant_difference_and_no_difference(product_comparison):
    x = skewed(8)
    for method in ("percentile", "bca", "studentised"):
        for shift in (0.0, 0.25):
            result = rc.infer(
                product_comparison({"a": x + shift, "b": x}), n_bootstrap=99, n_permutations=1,
                sources=["stimuli"], interval=method,
            )  # fmt: skip
            table = rc.tables(result)["contrasts"].query("pairing != 'best'")
            assert table["ci_low"].to_numpy() == pytest.approx(shift, abs=1e-9)
            assert table["ci_high"].to_numpy() == pytest.approx(shift, abs=1e-9)
            expected = 1.0 if shift == 0 else 0.01
            assert table["p"].to_numpy() == pytest.approx(expected), (method, shift)


def test_more_than_one_source_is_refused_before_anything_is_computed(product_comparison):
    comparison = product_comparison({"a": skewed(9), "b": skewed(10)})
    called = []
    with pytest.raises(ProtocolError, match=r'subjects, stimuli.*sources=\["stimuli"\].*"t"'):
        rc.infer(comparison, interval="bca", progress=lambda *a: called.append(a))
    assert called == []
    with pytest.raises(ProtocolError, match="at least 40"):
        rc.infer(comparison, interval="bca", sources=["stimuli"], n_bootstrap=20)
    with pytest.raises(ProtocolError, match=r"20,000,000 times.*bca"):
        rc.infer(
            comparison, interval="studentised", sources=["stimuli"], n_bootstrap=1_000_000,
            n_permutations=1,
        )  # fmt: skip
    # one subject alone leaves one source
    single = product_comparison({"a": skewed(9, subjects=1), "b": skewed(10, subjects=1)})
    result = rc.infer(single, interval="percentile", n_bootstrap=99, n_permutations=1)
    assert json.loads(result.attrs["inference"])["sources"]["product"] == ["stimuli"]
    assert np.isfinite(result["ci"]).all()


def test_labels_and_notes_say_what_an_interval_is(product_comparison):
    comparison = product_comparison({"a": skewed(9), "b": skewed(10)})
    quick = {"n_bootstrap": 99, "n_permutations": 1}
    result = rc.infer(comparison, interval="bca", sources=["subjects"], **quick)
    assert result["ci"].attrs["kind"] == (
        "BCa bootstrap interval, over subjects, conditional on the fitted models"
    )
    assert any("4 subjects is too narrow" in n for n in json.loads(result.attrs["notes"]))
    result = rc.infer(comparison, interval="bca", sources=["stimuli"], **quick)
    assert not any("too narrow" in n for n in json.loads(result.attrs["notes"]))
    result = rc.infer(comparison, **quick)
    assert (
        result["ci"]
        .attrs["kind"]
        .startswith("t interval, corrected variance, over subjects and stimuli")
    )


def test_threads_change_no_bit(product_comparison):
    comparison = product_comparison({"a": skewed(11), "b": skewed(12)})
    given = {"n_bootstrap": 600, "n_permutations": 1, "sources": ["subjects"]}
    one, two = (rc.infer(comparison, interval="studentised", n_jobs=n, **given) for n in (1, 2))
    assert one["ci"].identical(two["ci"])
    assert np.isfinite(one["ci"]).all()


def test_studentised_covers_the_mean_of_skewed_data_where_percentile_does_not():
    """Log-normal, 15 levels, 600 data sets: known to be hard (Efron & Tibshirani 1993, 14)."""
    rng = np.random.default_rng(13)
    n, truth = 15, np.exp(0.5)
    hit = {"percentile": 0, "bca": 0, "studentised": 0}
    for _ in range(600):
        x = rng.lognormal(size=n)
        sample = x[rng.integers(0, n, size=(599, n))]
        draws, se = sample.mean(axis=1), sample.std(axis=1, ddof=1) / np.sqrt(n)
        u = x - x.mean()
        value = np.array([x.mean()])
        acceleration = np.array([(u**3).sum() / 6 / (u**2).sum() ** 1.5])
        own = np.array([x.std(ddof=1) / np.sqrt(n)])
        bounds = {
            "percentile": intervals.percentile(value, draws[:, None], 0.95),
            "bca": intervals.bca(value, draws[:, None], acceleration, 0.95),
            "studentised": intervals.studentised(value, own, draws[:, None], se[:, None], 0.95),
        }
        for name, b in bounds.items():
            hit[name] += b.low[0] <= truth <= b.high[0]
    rate = {name: n / 600 for name, n in hit.items()}
    assert rate["percentile"] < rate["bca"] < rate["studentised"]
    assert rate["percentile"] < 0.87
    assert rate["studentised"] > 0.91
