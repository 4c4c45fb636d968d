"""Comparators, ceilings and column correlations: published values, theorems, plain resampling."""

import numpy as np
import pytest
import scipy.stats

from rsacompare.kernels import columns, correlate, kendall, pairs, ranks
from rsacompare.kernels.resample import multiplicities, permutations

X = np.array([[1.0, 2, 2, 3, 4, 6]])
Y = np.array([[2.0, 1, 3, 3, 5, 4]])
Z = np.array([[1.0, 3, 2, 4, 4, 5]])
GOLDEN = {  # rsatoolbox 0.3.2
    "cosine": 0.941242529850835,
    "corr": 0.7115124735378853,
    "spearman": 0.8088235294117647,
    "rho-a": 0.7857142857142858,
    "tau-b": 0.6428571428571429,
    "kendall": 0.6428571428571429,
    "tau-a": 0.6,
    "cosine_cov": 0.8922268747738975,
    "corr_cov": 0.6902684899626333,
}
GOLDEN_CEILING = {
    "cosine": (0.963356218472447, 0.9837096574141118),
    "corr": (0.7923252251596868, 0.9066959869783009),
    "spearman": (0.8691277929013782, 0.9276336570439175),
    "rho-a": (0.8523809523809524, 0.9142857142857143),
    "cosine_cov": (0.9306266924672283, 0.9690685352366204),
    "corr_cov": (0.7727566867369093, 0.8980157260805962),
}
COMPARATORS = tuple(correlate.COMPARATORS)


def random_rdms(rng, n_rdms, n_stimuli):
    return np.abs(rng.standard_normal((n_rdms, n_stimuli * (n_stimuli - 1) // 2))) + 0.5


def expand(rdm, w):
    """The resampled RDM vector without pairs of copies: the long way."""
    chosen = np.repeat(np.arange(len(w)), w.astype(int))
    i, j = np.triu_indices(len(chosen), 1)
    keep = chosen[i] != chosen[j]
    return rdm[..., pairs.pair_table(len(w))[chosen[i[keep]], chosen[j[keep]]]]


# --- RDM comparators


def test_every_comparator_has_a_golden_value():
    assert set(GOLDEN) == set(correlate.COMPARATORS)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_golden_comparator(comparator):
    assert correlate.compare_rdms(X, Y, comparator)[0, 0] == pytest.approx(
        GOLDEN[comparator], abs=1e-14
    )


@pytest.mark.parametrize("comparator", GOLDEN_CEILING)
def test_golden_ceiling(comparator):
    low, high = correlate.noise_ceiling(np.concatenate([X, Y, Z]), comparator)
    np.testing.assert_allclose(
        (low.mean(), high.mean()), GOLDEN_CEILING[comparator], atol=1e-14, rtol=0
    )


@pytest.mark.parametrize(
    ("comparator", "judge"),
    [
        ("corr", scipy.stats.pearsonr),
        ("spearman", scipy.stats.spearmanr),
        ("kendall", scipy.stats.kendalltau),
    ],
)
@pytest.mark.parametrize("digits", [8, 1])
def test_bootstrap_draws_against_scipy_on_expanded_vectors(comparator, judge, digits):
    rng = np.random.default_rng(0)
    x, y = random_rdms(rng, 2, 14).round(digits), random_rdms(rng, 3, 14).round(digits)
    draws = multiplicities(rng, 14, 66)
    ours = correlate.compare_rdms(x, y, comparator, draws)
    for draw in range(0, 66, 5):
        for i in range(2):
            for j in range(3):
                theirs = judge(expand(x[i], draws[draw]), expand(y[j], draws[draw])).statistic
                assert ours[draw, i, j] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_draws_of_ones_are_no_draws(comparator):
    rng = np.random.default_rng(1)
    x, y = random_rdms(rng, 2, 7), random_rdms(rng, 2, 7)
    plain = correlate.compare_rdms(x, y, comparator)
    np.testing.assert_array_equal(
        correlate.compare_rdms(x, y, comparator, np.ones((2, 7))), [plain, plain]
    )


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_stimuli_that_no_draw_uses_do_not_matter(comparator):
    rng = np.random.default_rng(2)
    x, y = random_rdms(rng, 2, 9), random_rdms(rng, 3, 9)
    keep = np.array([0, 2, 3, 5, 8])
    draws = np.zeros((4, 9))
    draws[:, keep] = rng.integers(1, 4, (4, 5))
    i, j = np.triu_indices(5, 1)
    small = pairs.pair_table(9)[keep[i], keep[j]]
    np.testing.assert_allclose(
        correlate.compare_rdms(x, y, comparator, draws),
        correlate.compare_rdms(x[:, small], y[:, small], comparator, draws[:, keep]),
        atol=1e-14,
    )


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_monotone_transforms_leave_rank_correlations_and_change_the_others(comparator):
    rng = np.random.default_rng(3)
    x, y, w = random_rdms(rng, 2, 8), random_rdms(rng, 2, 8), multiplicities(rng, 8, 5)
    same = correlate.compare_rdms(x, y, comparator, w)
    scaled = correlate.compare_rdms(3e-7 * x, 5e9 * y, comparator, w)
    np.testing.assert_allclose(scaled, same, atol=1e-12)
    cubed = correlate.compare_rdms(x**3, y, comparator, w)
    ranked = comparator in ("spearman", "rho-a", "tau-a", "tau-b", "kendall")
    assert np.allclose(cubed, same, atol=1e-12) == ranked


@pytest.mark.parametrize("comparator", ["corr", "spearman", "corr_cov"])
def test_an_offset_of_a_million_changes_nothing(comparator):
    rng = np.random.default_rng(4)
    x, y, w = random_rdms(rng, 2, 8), random_rdms(rng, 2, 8), multiplicities(rng, 8, 5)
    np.testing.assert_allclose(
        correlate.compare_rdms(x + 1e6, y, comparator, w),
        correlate.compare_rdms(x, y, comparator, w),
        atol=1e-8,
    )


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_not_scorable_is_nan_and_nothing_else_is(comparator):
    rng = np.random.default_rng(5)
    x, y = random_rdms(rng, 2, 6), random_rdms(rng, 2, 6)
    x[1] = 0.0 if comparator.startswith("cosine") else 0.1
    draws = np.array([[1.0] * 6, [3, 3, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0], [2, 1, 3, 0, 0, 0]])
    scores = correlate.compare_rdms(x, y, comparator, draws)
    assert np.isnan(scores[:, 1]).all()  # a constant RDM
    assert np.isfinite(scores[[0, 3], 0]).all()
    assert np.isnan(scores[1:3]).all()  # one pair, none
    permuted = correlate.compare_rdms_permuted(x, y, comparator, np.array([[1, 0, 2, 5, 4, 3]]))
    assert np.isnan(permuted[0, 1]).all()
    assert np.isfinite(permuted[0, 0]).all()


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_a_small_spread_is_a_spread(comparator):
    rng = np.random.default_rng(6)
    x = random_rdms(rng, 1, 6)
    assert correlate.compare_rdms(1e-100 * x, x, comparator)[0, 0] == pytest.approx(
        correlate.compare_rdms(x, x, comparator)[0, 0], abs=1e-12
    )


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_permutation_is_reindexing(comparator):
    rng = np.random.default_rng(7)
    x, y = random_rdms(rng, 3, 7).round(1), random_rdms(rng, 2, 7).round(1)
    orders = permutations(rng, 7, 4)
    ours = correlate.compare_rdms_permuted(x, y, comparator, orders)
    i, j = np.triu_indices(7, 1)
    for order, mine in zip(orders, ours, strict=True):
        moved = x[:, pairs.pair_table(7)[order[i], order[j]]]
        np.testing.assert_allclose(mine, correlate.compare_rdms(moved, y, comparator), atol=1e-12)
        back = correlate.compare_rdms_permuted(moved, y, comparator, np.argsort(order)[None])[0]
        np.testing.assert_allclose(back, correlate.compare_rdms(x, y, comparator), atol=1e-12)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_blocks_of_draws_do_not_show(comparator, monkeypatch):
    rng = np.random.default_rng(8)
    x, y, w = random_rdms(rng, 2, 8), random_rdms(rng, 2, 8), multiplicities(rng, 8, 9)
    whole = correlate.compare_rdms(x, y, comparator, w)
    ceiling = correlate.noise_ceiling(x, comparator, w)
    monkeypatch.setattr(pairs, "_BLOCK", 1)
    np.testing.assert_allclose(
        correlate.compare_rdms(x, y, comparator, w), whole, rtol=1e-13, atol=1e-15
    )
    np.testing.assert_allclose(
        correlate.noise_ceiling(x, comparator, w), ceiling, rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize("comparator", ["tau-a", "tau-b"])
def test_large_sums_leave_the_int32_path_of_tau(comparator):
    rng = np.random.default_rng(9)
    x, y = random_rdms(rng, 1, 6).round(1), random_rdms(rng, 1, 6).round(1)
    few = np.array([[1.0, 2, 3, 1, 0, 2]])
    many = 2000 * few  # tau-b does not see how often everything is repeated
    if comparator == "tau-b":
        np.testing.assert_allclose(
            correlate.compare_rdms(x, y, comparator, many),
            correlate.compare_rdms(x, y, comparator, few),
            atol=1e-14,
        )
    side, other = expand(x[0], few[0]), expand(y[0], few[0])
    sign = np.sign(side[:, None] - side) * np.sign(other[:, None] - other)
    pair_sum = sign.sum() / 2 * (4e6) ** 2  # every pair weight is 2000 squared times larger
    total = len(side) * 4e6
    if comparator == "tau-a":
        expected = pair_sum / (total * (total - 1) / 2)
        assert correlate.compare_rdms(x, y, comparator, many)[0, 0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("comparator", ["spearman", "tau-b"])
def test_fractional_weights_agree_with_the_same_weights_doubled(comparator):
    """Sorting by comparison (fractions) and by digits (whole numbers) give one answer."""
    rng = np.random.default_rng(10)
    x = random_rdms(rng, 4, 7)
    w = multiplicities(rng, 7, 6) + 1
    for ours, doubled in zip(
        correlate.noise_ceiling(x, comparator, w / 2),
        correlate.noise_ceiling(x, comparator, w),
        strict=True,
    ):
        np.testing.assert_allclose(ours, doubled, atol=1e-12)
    np.testing.assert_allclose(
        correlate.compare_rdms(x, x, comparator, w / 2),
        correlate.compare_rdms(x, x, comparator, w),
        atol=1e-12,
    )


# --- ceilings


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_ceiling_of_one_subject_has_no_lower_end(comparator):
    low, high = correlate.noise_ceiling(X, comparator)
    assert np.isnan(low).all()
    itself = correlate.compare_rdms(X, X, comparator)[0, 0]
    np.testing.assert_allclose(high, [itself], atol=1e-12)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_ceiling_of_copies_of_one_subject_has_no_lower_end(comparator):
    rdms = np.concatenate([X, Y, Z])
    low, high = correlate.noise_ceiling(rdms, comparator, None, np.array([[0.0, 3, 0]]))
    assert np.isnan(low).all()
    assert np.isnan(high[0, [0, 2]]).all()
    itself = correlate.compare_rdms(Y, Y, comparator)[0, 0]
    assert high[0, 1] == pytest.approx(itself, abs=1e-12)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_a_subject_who_is_not_drawn_does_not_count(comparator):
    rdms = random_rdms(np.random.default_rng(11), 4, 6)
    low, high = correlate.noise_ceiling(rdms, comparator, None, np.array([[1.0, 1, 0, 1]]))
    kept = [0, 1, 3]
    for mine, alone in zip(
        (low, high), correlate.noise_ceiling(rdms[kept], comparator), strict=True
    ):
        np.testing.assert_allclose(mine[0, kept], alone, atol=1e-12)
        assert np.isnan(mine[0, 2])


def test_opposite_subjects_have_no_pool():
    rdms = np.concatenate([X, 10 - X, Y])
    low, _ = correlate.noise_ceiling(rdms, "corr")
    assert np.isnan(low[2])
    assert np.isfinite(low[:2]).all()


# --- columns


def columns_by_copying(x, y, w, fold=None):
    """scipy on rows that stand there as often as drawn."""
    rows = np.repeat(np.arange(len(w)), w.astype(int))
    x, y = x[rows], y[rows]
    if fold is not None:
        x, y = x.copy(), y.copy()
        for label in np.unique(fold[rows]):
            there = fold[rows] == label
            x[there] -= x[there].mean(axis=0)
            y[there] -= y[there].mean(axis=0)
    return np.array([scipy.stats.pearsonr(a, b).statistic for a, b in zip(x.T, y.T, strict=True)])


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_columns_against_scipy_on_copied_rows(folded, offset):
    rng = np.random.default_rng(12)
    x = rng.standard_normal((20, 6)) + offset
    y = x + rng.standard_normal((20, 6))
    fold = np.arange(20) % 3 if folded else None
    draws = multiplicities(rng, 20, 12).reshape(3, 4, 20)
    ours = correlate.correlate_columns(x, y, draws, fold)
    assert ours.shape == (3, 4, 6)
    for i in range(3):
        for j in range(4):
            expected = columns_by_copying(x, y, draws[i, j], fold)
            np.testing.assert_allclose(ours[i, j], expected, atol=1e-9 if offset else 1e-12)


def test_columns_beyond_one_block(monkeypatch):
    rng = np.random.default_rng(13)
    x, y, w = rng.random((9, 7)), rng.random((9, 7)), multiplicities(rng, 9, 11)
    whole = correlate.correlate_columns(x, y, w)
    monkeypatch.setattr(columns, "_COLUMNS", 2)
    monkeypatch.setattr(pairs, "_BLOCK", 50)
    np.testing.assert_allclose(correlate.correlate_columns(x, y, w), whole, atol=1e-13)
    np.testing.assert_allclose(whole[3], columns_by_copying(x, y, w[3]), atol=1e-12)


def test_columns_without_variance_are_nan_whatever_their_scale():
    rng = np.random.default_rng(14)
    x = rng.standard_normal((10, 6))
    y = rng.standard_normal((10, 6))
    x[:, 0] = 0.1  # a mean of 0.1 is not exactly 0.1
    x[:, 1] = 1e30 / 3
    x[:, 2] *= 1e-30  # tiny but alive
    y[:, 3] = 0.0
    y[:, 4] = 1e8 + 1e-3 * y[:, 4]  # a small share of its size, but well above rounding
    x[:, 5] = 0.0
    x[3, 5] = 0.7  # alive only where stimulus 3 is drawn
    draws = np.ones((2, 10))
    draws[1, 3] = 0
    draws[1, 4] = 2
    r = correlate.correlate_columns(x, y, draws)
    np.testing.assert_array_equal(np.isnan(r[0]), [True, True, False, True, False, False])
    np.testing.assert_array_equal(np.isnan(r[1]), [True, True, False, True, False, True])
    expected = columns_by_copying(x[:, [2, 4]] * [1e30, 1], y[:, [2, 4]], draws[1])
    np.testing.assert_allclose(r[1, [2, 4]], expected, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(correlate.correlate_columns(x, y)), np.isnan(r[0]))


def test_null_of_the_mean_against_scipy():
    rng = np.random.default_rng(15)
    x, y = rng.standard_normal((8, 5)), rng.standard_normal((8, 5))
    x[:, 2] = 0.3  # a dead target is left out of the mean
    orders = permutations(rng, 8, 6)
    ours = correlate.null_mean_correlation(x, y, orders)
    live = [0, 1, 3, 4]
    for order, mine in zip(orders, ours, strict=True):
        r = [scipy.stats.pearsonr(x[:, t], y[order, t]).statistic for t in live]
        assert mine == pytest.approx(np.mean(r), abs=1e-13)


def test_null_of_the_mean_within_folds():
    rng = np.random.default_rng(16)
    x, y = rng.standard_normal((9, 4)) + 3, rng.standard_normal((9, 4))
    fold = np.arange(9) % 2
    orders = permutations(rng, 9, 5, fold)
    ours = correlate.null_mean_correlation(x, y, orders, fold)
    for order, mine in zip(orders, ours, strict=True):
        assert mine == pytest.approx(
            columns_by_copying(x, y[order], np.ones(9), fold).mean(), abs=1e-13
        )
    with pytest.raises(ValueError, match="inside its fold"):
        correlate.null_mean_correlation(x, y, permutations(rng, 9, 5), fold)


def test_null_of_dead_targets_is_nan():
    dead = np.ones((4, 2))
    assert np.isnan(correlate.null_mean_correlation(dead, dead, np.array([[0, 1, 2, 3]]))).all()


# --- parts


def test_weighted_ranks_are_the_ranks_among_copies():
    rng = np.random.default_rng(17)
    x, w = rng.integers(0, 6, 12).astype(float), rng.integers(0, 4, 12).astype(float)
    order, last, _ = ranks.presort(x[None])
    ours = np.empty(12)
    slot = np.arange(12, dtype=np.int32)
    ranks.weighted_ranks(order[0], last[0], w, slot, w.sum(), True, ours)
    copies = np.repeat(np.arange(12), w.astype(int))
    theirs = scipy.stats.rankdata(x[copies])
    np.testing.assert_array_equal(ours[copies], 2 * theirs - (len(copies) + 1))


def test_sort_by_digits_is_stable():
    rng = np.random.default_rng(18)
    keys = rng.integers(-(2**40), 2**40, 300).astype(float)
    keys[100:200] = rng.integers(-3, 3, 100)
    first = rng.permutation(300).astype(np.int32)
    for whole in (True, False):
        order = first.copy()
        ranks.sort_keys(keys, whole, order, np.empty(300, np.int32), np.empty(300, np.int64))
        np.testing.assert_array_equal(order, first[np.argsort(keys[first], kind="stable")])


def test_weighted_inversions_by_counting():
    rng = np.random.default_rng(19)
    values, weight = rng.integers(0, 9, 37), rng.random(37)
    i, j = np.triu_indices(37, 1)
    expected = (weight[i] * weight[j])[values[i] > values[j]].sum()
    assert kendall.inversions(values, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: correlate.compare_rdms(X, Y, "spearmann"), "unknown comparator 'spearmann'"),
        (lambda: correlate.noise_ceiling(X, "pearson"), "unknown comparator 'pearson'"),
        (lambda: correlate.compare_rdms(X[:, :5], Y[:, :5], "corr"), "5 fits no n"),
        (lambda: correlate.compare_rdms(X, Y[:, :3], "corr"), "x has 6 pairs, y 3"),
        (lambda: correlate.compare_rdms(X * np.nan, Y, "corr"), "NaN"),
        (lambda: correlate.compare_rdms(X, Y, "corr", np.ones((2, 5))), "with 4 stimulus"),
        (lambda: correlate.compare_rdms(X, Y, "corr", -np.ones((2, 4))), "not negative"),
        (
            lambda: correlate.noise_ceiling(X, "corr", np.ones((2, 4)), np.ones((3, 1))),
            "2 draws of stimuli but 3",
        ),
        (lambda: correlate.correlate_columns(X, Y[:, :3]), "must be"),
        (lambda: correlate.compare_rdms_permuted(X, Y, "corr", np.arange(4)), "permutations"),
        (lambda: correlate.compare_rdms_permuted(X, Y, "corr", np.array([[0, 1, 2, 9]])), "0 to 3"),
    ],
)
def test_wrong_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
