"""Stimuli nested in categories: categories are drawn, permuted, halved and counted."""

import json

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.errors import ProtocolError
from rsacompare.inference.family import arrange, draw_block
from rsacompare.inference.permutation import null_block, p_values
from rsacompare.kernels import resample

N_CATEGORIES, EACH = 10, 3
CATEGORY = np.repeat([f"kind{c}" for c in range(N_CATEGORIES)], EACH)
IDS = np.array([f"s{i:02d}" for i in np.random.default_rng(5).permutation(len(CATEGORY))])


def arrays(category=CATEGORY, seed=0):
    rng = np.random.default_rng(seed)
    activations = rc.activations({"net": {"l": rng.standard_normal((30, 6))}}, stimulus_id=IDS)
    given = {} if category is None else {"presentation": {"category": category}}
    brain = rc.responses({"p": rng.standard_normal((30, 5))}, stimulus_id=IDS, **given)
    return activations, brain


def told(result):
    return json.loads(result.attrs["inference"]), json.loads(result.attrs["notes"])


def infer(comparison, **given):
    return rc.infer(comparison, n_bootstrap=40, n_permutations=60, n_splits=1, **given)


def test_whole_categories_change_places_and_are_shuffled_inside():
    block = np.repeat(list("abcde"), [2, 2, 2, 3, 3])
    orders = resample.permutations(np.random.default_rng(0), 12, 6000, block=block, inside=True)
    assert (np.sort(orders, axis=1) == np.arange(12)).all()
    there = block[orders]
    for start, size in ((0, 2), (2, 2), (4, 2), (6, 3), (9, 3)):  # each place holds one category
        assert (there[:, start : start + size] == there[:, start, None]).all()
    assert np.isin(there[:, 6], ["d", "e"]).all()
    # 3! · 2!³ orders of the pairs times 2! · 3!² of the triples, each as likely
    first = np.unique(orders[:, :6], axis=0, return_counts=True)[1]
    assert len(first) == 6 * 8
    np.testing.assert_allclose(first / 6000, 1 / 48, atol=0.01)
    assert len(np.unique(orders[:, 6:], axis=0)) == 2 * 36


def test_balanced_categories_are_the_levels_of_chance(tmp_path):
    stored = rc.compare(*arrays(), {"r": rc.metric("rsa")}, store=tmp_path)
    memory = rc.compare(*arrays(), {"r": rc.metric("rsa")})
    (cell,) = memory.cells()
    held, again = memory.evidence[cell], stored.evidence[cell]
    assert again is not held
    kind = dict(zip(IDS.tolist(), CATEGORY.tolist(), strict=True))
    assert held.category.tolist() == [kind[i] for i in held.stimulus_id.tolist()]
    np.testing.assert_array_equal(again.category, held.category)
    result = infer(memory, random_state=3)
    inference, notes = told(result)
    assert inference["levels"] == {"r": ["categories"]}
    assert inference["dof"] == {"r": {"all": N_CATEGORIES - 1}}
    assert any("30 scored stimuli are nested in 10 categories" in n for n in notes)
    np.testing.assert_array_equal(infer(stored, random_state=3)["boot"], result["boot"])
    # draws and orders by hand
    member = np.unique(held.category, return_inverse=True)[1]
    stream = resample.stream(3, "bootstrap", "stimuli", held.stimulus_id, 0)
    draws = resample.multiplicities(stream, N_CATEGORIES, 40)[:, member]
    np.testing.assert_allclose(result["boot"].values[0, 0, 0], held.score(draws), rtol=1e-5)
    stream = resample.stream(3, "permutation", "stimuli", held.stimulus_id, 0)
    orders = resample.permutations(stream, 30, 60, block=member, inside=True)
    np.testing.assert_allclose(result["null"].values[0, 0, 0], held.null(orders), rtol=1e-4)
    single = told(infer(memory, exchange="stimuli"))
    assert single[0]["dof"] == {"r": {"all": 29}}
    assert single[0]["levels"] == {"r": ["single stimuli"]}


@pytest.mark.parametrize(
    ("category", "reason", "forced"),
    [
        (None, "", "no category of any scored stimulus is known"),
        (IDS, "", None),  # each is its own: nothing to say, and nothing to change
        (np.repeat(["a", "b", "c", "d", "e"], 6), "there are 5 categories only", None),
        (np.repeat(["a", "b"], 15), "there are 2 categories only", "there are 2 categories only"),
        (np.r_[CATEGORY[:-1], ["kind0"]], "between 2 and 4 scored stimuli", None),
        (np.r_[CATEGORY[:-1], [""]], "the category of 1 of 30", "the category of 1 of 30"),
    ],
)
def test_when_categories_are_not_the_levels(category, reason, forced):
    comparison = rc.compare(*arrays(category), {"r": rc.metric("rsa")})
    inference, notes = told(infer(comparison))
    assert inference["dof"] == {"r": {"all": 29}}
    said = [n for n in notes if "share a category" in n]
    assert len(said) == (1 if reason else 0)
    assert all(reason in n and "exchange='categories'" in n for n in said)
    if forced is None:
        n = len(np.unique(category))
        assert told(infer(comparison, exchange="categories"))[0]["dof"] == {"r": {"all": n - 1}}
    else:
        with pytest.raises(ProtocolError, match=forced):
            infer(comparison, exchange="categories")


def test_folds_that_divide_categories_forbid_their_exchange():
    comparison = rc.compare(*arrays(), {"e": rc.metric("encoding", n_folds=3)})
    inference, notes = told(infer(comparison))
    assert inference["dof"] == {"e": {"all": 29}}
    assert any("folds of the cross-validation divide categories" in n for n in notes)
    with pytest.raises(ProtocolError, match="divide categories"):
        infer(comparison, exchange="categories")


def test_scored_categories_are_no_nested_stimuli():
    comparison = rc.compare(*arrays(), {"d": rc.metric("decoding", items="categories")})
    (cell,) = comparison.cells()
    assert len(comparison.evidence[cell].stimulus_id) == N_CATEGORIES
    assert comparison.evidence[cell].category is None


def test_halves_hold_whole_categories():
    comparison = rc.compare(*arrays(), {"r": rc.metric("rsa")})
    family = arrange(comparison, "r", 1)
    (key,) = family.pool
    pool = family.pool[key]
    held = resample.halves(np.random.default_rng(0), 30, 8, None, pool.level)
    shares = np.stack([held[:, pool.level == c].mean(axis=1) for c in range(N_CATEGORIES)])
    assert np.isin(shares, [0.0, 1.0]).all()
    assert (shares.sum(axis=0) == N_CATEGORIES / 2).all()


N, EACH_OF_N, SHARE = 12, 6, 0.8


def nested(rng):
    """(network or brain, stimulus); a share of the variance is that of categories, unrelated."""
    effects = rng.standard_normal((2, N, 1)) * np.sqrt(SHARE)
    own = rng.standard_normal((2, N, EACH_OF_N)) * np.sqrt(1 - SHARE)
    return (effects + own).reshape(2, -1)


def test_single_stimuli_are_anticonservative_and_categories_are_not(product_comparison):
    """200 studies whose network and brain have category effects that are unrelated."""
    rng = np.random.default_rng(0)
    found = {"stimuli": [], "auto": []}
    spread = {"stimuli": [], "auto": []}
    for seed in range(200):
        network, brain = nested(rng)
        made = product_comparison({"net": network[None, None]}, brain=brain)
        (cell,) = made.cells()
        held = made.evidence[cell]
        held.category = np.repeat([f"c{i:02d}" for i in range(N)], EACH_OF_N)
        for exchange, p in found.items():
            family = arrange(made, "product", 1, exchange)
            null = null_block(family, seed, 0, 199)
            p.append(p_values(np.array([[held.score()]]), null)[0][0, 0])
            (draws,) = draw_block(family, seed, 0, 100).stimuli.values()
            n = family.n_stimuli("V1")
            spread[exchange].append(held.score(draws).var() * n / (n - 1))
    rates = {k: np.mean(np.array(v) < 0.05) for k, v in found.items()}
    error = np.sqrt(0.05 * 0.95 / 200)
    assert rates["stimuli"] > 0.05 + 4 * error, rates
    assert abs(rates["auto"] - 0.05) < 2.5 * error, rates
    # the mean of n products whose k of one category correlate by ρ²: (1 + (k − 1) ρ²) / n
    truth = (1 + (EACH_OF_N - 1) * SHARE**2) / (N * EACH_OF_N)
    assert np.mean(spread["auto"]) == pytest.approx(truth, rel=0.12)
    assert np.mean(spread["stimuli"]) < 0.4 * truth
