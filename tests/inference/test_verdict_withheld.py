"""A winner is named only where it is beyond its own null: by hand, and on made scenes."""

import json

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.inference.beyond import ruled


def own_p(result, layers, weights):
    """P by plain counting, of one row alone."""
    null = result["null"].sel(metric="product", roi="V1", layer=layers).values
    score = result["mean_score"].sel(metric="product", roi="V1", layer=layers).values
    return (1 + (weights @ null >= weights @ score - 1e-6).sum()) / (null.shape[1] + 1)


def scene(product_comparison, seed, offset=0.0, related=0.0, n_stimuli=40, **given):
    """Two networks; `offset`: how far a's score lies above b's for patterns of no relation."""
    rng = np.random.default_rng(seed)
    brain = 1 + 0.05 * rng.standard_normal(n_stimuli)
    a = offset + 0.1 * rng.standard_normal((2, 4, n_stimuli)) + related * (brain - 1)
    b = 0.1 * rng.standard_normal((2, 4, n_stimuli))
    made = product_comparison({"a": a, "b": b}, brain=brain)
    return rc.infer(made, n_bootstrap=200, random_state=seed, **given)


def test_a_difference_of_bias_alone_is_not_named(product_comparison):
    result = scene(product_comparison, 0, offset=0.5, n_permutations=499)
    rows = result.sel(contrast=result["contrast_pairing"].values != "ordinal")
    assert (rows["contrast_p_fwer"].values < 0.001).all()
    assert (rows["contrast_p_beyond"].values > 0.05).all()
    assert (result["contrast_verdict"].values == "undecided").all()
    notes = rows["contrast_note"].values.tolist()
    assert all("a − b differs, but a is not beyond its own null (p = 0." in n for n in notes)
    for pairing in ("mean", "depth"):
        at = result["contrast_pairing"].values.tolist().index(pairing)
        by_hand = own_p(result, ["a/l0", "a/l1"], np.array([0.5, 0.5]))
        assert float(result["contrast_p_beyond"][at]) == pytest.approx(by_hand, abs=0.005)


def test_a_true_winner_is_named(product_comparison):
    result = scene(product_comparison, 1, offset=0.5, related=4.0, n_permutations=499)
    assert (result["contrast_verdict"].values == "a").all()
    assert (result["contrast_p_beyond"].values <= 0.01).all()
    assert not any("null" in n for n in result["contrast_note"].values)


def test_rows_of_a_pairing_are_corrected_by_their_maximum(product_comparison):
    result = scene(product_comparison, 2, offset=0.5, n_permutations=499)
    own = np.flatnonzero(result["contrast_pairing"].values == "ordinal")
    layers = [f"a/{result['contrast_layer_a'].values[i]}" for i in own]
    null = result["null"].sel(metric="product", roi="V1", layer=layers).values.astype(float)
    score = result["mean_score"].sel(metric="product", roi="V1", layer=layers).values
    z_null = (null - null.mean(axis=1, keepdims=True)) / null.std(axis=1, keepdims=True)
    z = (score - null.mean(axis=1)) / null.std(axis=1)
    highest = z_null.max(axis=0)
    expected = [(1 + (highest >= v).sum()) / 500 for v in z]
    np.testing.assert_allclose(result["contrast_p_beyond"].values[own], expected, atol=0.003)
    single = [own_p(result, [layer], np.ones(1)) for layer in layers]
    assert (np.array(expected) > np.array(single)).all()


def test_the_best_layer_is_judged_by_the_maximum_over_its_network_s_layers(product_comparison):
    result = scene(product_comparison, 3, offset=0.5, n_permutations=499)
    layers = ["a/l0", "a/l1"]
    null = result["null"].sel(metric="product", roi="V1", layer=layers).values.astype(float)
    score = result["mean_score"].sel(metric="product", roi="V1", layer=layers).values
    centre, sd = null.mean(axis=1), null.std(axis=1)
    highest = ((null - centre[:, None]) / sd[:, None]).max(axis=0)
    expected = (1 + (highest >= ((score - centre) / sd).max()).sum()) / 500
    at = result["contrast_pairing"].values.tolist().index("best")
    assert float(result["contrast_p_beyond"][at]) == pytest.approx(expected, abs=0.003)


def test_smaller_scores_that_are_closer(product_comparison):
    rng = np.random.default_rng(4)
    brain = rng.standard_normal(40)
    values = {n: 0.1 * rng.standard_normal((1, 4, 40)) for n in ("a", "b")}
    values["b"] -= brain  # b's product is far below 0
    meaning = rc.Meaning("distance", higher_is_better=False, minimum=-9, maximum=9)
    made = product_comparison(values, brain=brain, meaning=meaning)
    result = rc.infer(made, n_bootstrap=200, n_permutations=199)
    assert set(result["contrast_verdict"].values.tolist()) == {"b"}
    np.testing.assert_allclose(result["contrast_p_beyond"].values, 1 / 200)


def test_where_the_rule_cannot_be_applied_the_difference_names_and_the_note_says_so(
    product_comparison,
):
    few = scene(product_comparison, 0, offset=0.5, n_permutations=19)
    mean = few["contrast_pairing"].values.tolist().index("mean")
    assert few["contrast_verdict"].values[mean] == "a"
    assert "19 permutations cannot tell whether it is beyond" in few["contrast_note"].values[mean]
    enough = scene(product_comparison, 0, offset=0.5, n_permutations=20)
    assert enough["contrast_verdict"].values[mean] == "undecided"
    rng = np.random.default_rng(5)
    made = product_comparison(  # every order of the stimuli scores the same
        {"a": 1 + 0.1 * rng.standard_normal((1, 4, 30)), "b": 0.1 * rng.standard_normal((1, 4, 30))}
    )
    bare = rc.infer(made, n_bootstrap=200, n_permutations=99)
    assert np.isnan(bare["contrast_p_beyond"].values).all()
    assert set(bare["contrast_verdict"].values.tolist()) == {"a"}
    assert all("its own null is not defined" in n for n in bare["contrast_note"].values)
    assert "not defined" not in json.dumps(few["contrast_note"].values.tolist())


@pytest.mark.parametrize(
    ("verdict", "p", "n", "expected"),
    [
        ("a", 0.04, 999, "a"),
        ("b", 0.05, 999, "undecided"),
        ("equivalent", 0.9, 999, "equivalent"),
        ("undecided", 0.9, 999, "undecided"),
        ("a", np.nan, 999, "a"),
        ("a", 0.2, 19, "a"),
        ("a", 0.2, 20, "undecided"),
    ],
)
def test_the_rule(verdict, p, n, expected):
    assert ruled(verdict, "x", p, n, 0.05, "x − y")[0] == expected
