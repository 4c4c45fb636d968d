"""Sign flips and the Bayes factor beside each contrast, against scipy and published values."""

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

import rsacompare as rc
from rsacompare.inference.bayes import jzs
from rsacompare.inference.sign_flip import sign_flip

QUICK = {"n_bootstrap": 100, "n_permutations": 99}


def by_scipy(x):
    found = stats.permutation_test(
        (x,), lambda v, axis: v.mean(axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    return found.pvalue


@pytest.mark.parametrize("n", [2, 3, 5, 8, 11])
def test_exact_sign_flips_equal_scipy(n):
    rng = np.random.default_rng(n)
    for shift in (0.0, 0.3, 1.0, 4.0):
        x = rng.standard_normal(n) + shift
        assert sign_flip(x, rng) == pytest.approx(by_scipy(x), abs=1e-12)
    tied = rng.integers(-2, 4, size=n) / 10  # sums that tie up to their last digits
    assert sign_flip(tied, rng) == pytest.approx(by_scipy(tied), abs=1e-12)


def test_random_sign_flips_of_many_subjects_near_the_exact_p():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(16) + 0.8
    patterns = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
    exact = (np.abs(patterns @ x) >= np.abs(x.sum()) - 1e-9).mean()
    found = sign_flip(x, rng, 20_000)
    assert 0.02 < exact < 0.5
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    # the observed pattern counts, so that p is never 0
    assert sign_flip(np.full(40, 1.0), rng, 999) == 1 / 1000


def test_rows_hold_the_sign_flips_of_their_subjects_differences(product_comparison):
    rng = np.random.default_rng(1)
    values = {"a": rng.standard_normal((3, 5, 20)) + 0.2, "b": rng.standard_normal((3, 5, 20))}
    result = rc.infer(product_comparison(values), **QUICK)
    p = dict(
        zip(*(result[f"contrast_{c}"].values for c in ("pairing", "p_sign_flip")), strict=True)
    )
    per_subject = (values["a"] - values["b"]).mean(axis=-1)  # (layer, subject)
    assert p["mean"] == pytest.approx(by_scipy(per_subject.mean(axis=0)))
    area = np.array([0.25, 0.5, 0.25]) @ per_subject
    assert p["depth"] == pytest.approx(by_scipy(area))
    ordinal = result["contrast_p_sign_flip"].values[result["contrast_pairing"].values == "ordinal"]
    assert ordinal == pytest.approx([by_scipy(d) for d in per_subject])
    assert np.isnan(p["best"])
    notes = json.loads(result.attrs["notes"])
    assert any("below 0.0625" in n and "given beside" in n for n in notes)
    # a difference that all five subjects share reaches the floor and no more
    shared = {"a": values["b"] + 3 + 0.01 * values["a"], "b": values["b"]}
    result = rc.infer(product_comparison(shared), **QUICK)
    assert np.nanmin(result["contrast_p_sign_flip"]) == 0.0625


def test_bayes_factors_equal_published_ones():
    # documentation of pingouin.bayesfactor_ttest: t = 3.5, n = 20, paired
    assert jzs(np.array([3.5]), np.array([19.0]), 0.707)[0] == pytest.approx(17.185, abs=6e-4)


def noncentral(t, dof, scale):
    """The same Bayes factor as an integral over the effect, of noncentral t densities."""
    n = dof + 1

    def density(effect):
        return stats.nct.pdf(t, dof, effect * np.sqrt(n)) * stats.cauchy.pdf(effect, scale=scale)

    around = t / np.sqrt(n)
    pieces = [-40, -5, -1, 0, around / 2, around, 2 * around + 1, 10, 60]
    total = sum(integrate.quad(density, a, b, limit=200)[0] for a, b in pairwise(pieces))
    return total / stats.t.pdf(t, dof)


@pytest.mark.parametrize(("t", "dof"), [(0.0, 4), (0.7, 4), (3.0, 4), (2.1, 14), (4.5, 49)])
@pytest.mark.parametrize("scale", [0.5, np.sqrt(0.5), 1.0])
def test_bayes_factors_equal_an_integral_over_the_effect(t, dof, scale):
    found = jzs(np.array([t, -t]), np.array([float(dof)] * 2), scale)
    assert found[0] == pytest.approx(noncentral(t, dof, scale), rel=1e-4)
    assert found[1] == found[0]


def test_bayes_factor_of_rows_and_where_there_is_none(product_comparison):
    rng = np.random.default_rng(2)
    values = {"a": rng.standard_normal((1, 5, 20)) + 0.4, "b": rng.standard_normal((1, 5, 20))}
    result = rc.infer(product_comparison(values), **QUICK)
    row = result.isel(contrast=0)
    t = row["contrast_difference"].item() / row["contrast_se"].item()
    assert row["contrast_dof"].item() == 4
    judge, _ = integrate.quad(_rouder, 0, np.inf, args=(t, 5, 4))
    judge /= (1 + t**2 / 4) ** -2.5
    assert row["contrast_bf10"].item() == pytest.approx(judge, rel=1e-6)
    same = rc.infer(product_comparison({"a": values["a"], "b": values["a"]}), **QUICK)
    assert np.isnan(same["contrast_bf10"]).all()  # no spread, no t
    assert np.isnan(jzs(np.array([1.0, np.nan]), np.array([0.0, 3.0]))).all()


def _rouder(g, t, n, dof):
    wide = 1 + n * g / 2
    likelihood = wide**-0.5 * (1 + t**2 / (wide * dof)) ** (-(dof + 1) / 2)
    return likelihood * (2 * np.pi) ** -0.5 * g**-1.5 * np.exp(-1 / (2 * g))
