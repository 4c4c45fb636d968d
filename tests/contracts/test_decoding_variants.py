"""Every kind of decoding keeps the metric contract; options are checked; bad input is answered."""

import itertools

import numpy as np
import pytest

import rsacompare as rc
from rsacompare import testing
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.metrics.decoding import Decoding
from rsacompare.schema import arrays
from rsacompare.study.protocol import load_study

VARIANTS = {
    "ard": {"estimator": "ard", "n_iter": 30},
    "ard, mackay": {"estimator": "ard", "rules": "mackay"},
    "ridge": {"estimator": "ridge", "alpha": 5},
    "ridge, chosen": {"estimator": "ridge", "alpha": "cv", "n_inner_folds": 3, "n_voxels": 6},
    "first units": {"n_units": 4},
    "fisher": {"average": "fisher"},
    "zero": {"dead_units": "zero"},
    "pattern": {"score": "pattern"},
    "pattern, fisher": {"score": "pattern", "average": "fisher", "dead_units": "zero"},
    "pairwise": {"score": "pairwise"},
    "3-way": {"score": "n_way", "n_way": 3},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_variant_passes_every_check(options):
    assert testing.check_metric(Decoding(**options))


def response_of(tree, roi="V1"):
    return tree["s1"]["response"].assign_attrs(roi=roi, subject="s1")


def scene(n_train=30, n_test=6, n_imagery=0, n_voxels=12, n_units=8, category=True, seed=0):
    """Stimuli s00…; the last ones are tested twice; categories c0… of three stimuli each."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    names = np.array([f"s{i:02d}" for i in range(n)])
    kinds = np.array([f"c{i // 3}" for i in range(n)])
    latent = rng.standard_normal((n, 4))
    acts = 5 + latent @ rng.standard_normal((4, n_units))
    row = np.r_[np.arange(n_train), np.repeat(np.arange(n_train, n), 2)]
    brain = latent[row] @ rng.standard_normal((4, n_voxels))
    brain += 0.5 * rng.standard_normal(brain.shape)
    ids, split, of = names[row], np.where(row < n_train, "train", "test"), kinds[row]
    if n_imagery:
        imagined = np.repeat(np.unique(kinds[n_train:]), n_imagery)
        brain = np.r_[brain, rng.standard_normal((len(imagined), n_voxels))]
        ids, split = np.r_[ids, imagined], np.r_[split, np.full(len(imagined), "imagery")]
        of = np.r_[of, imagined]
    extra = {"category": of} if category else None
    tree = arrays.responses({"s1": brain}, stimulus_id=ids, split=split, presentation=extra)
    activations = arrays.activations({"net": {"l1": acts}}, stimulus_id=names)
    return activations["net/l1"]["activation"], response_of(tree)


def evidence_of(metric, activation, response):
    return metric.compare(metric.prepare_activation(activation), metric.prepare_response(response))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "rigde"}, "unknown estimator 'rigde'; did you mean 'ridge'"),
        ({"score": "paterns"}, "unknown score 'paterns'; did you mean 'pattern'"),
        ({"items": "images"}, "unknown items 'images'"),
        ({"rules": "tipping"}, "unknown rules 'tipping'"),
        ({"average": "median"}, "unknown average"),
        ({"dead_units": "keep"}, "unknown dead_units"),
        ({"candidates": "every"}, "unknown candidates"),
        ({"candidates": [1, 2]}, "candidates must be .* list of stimulus ids"),
        ({"n_units": 0}, "n_units must be a whole number from 1 or 'all', got 0"),
        ({"n_way": 1}, "n_way must be a whole number from 2, got 1"),
        ({"n_iter": 2.5}, "n_iter must be a whole number from 1"),
        ({"prune": 1}, "prune must be a number from 0 to below 1"),
        ({"alpha": -1}, "alpha must be a positive number or 'cv', got -1"),
        ({"alpha": "auto"}, "alpha must be a positive number or 'cv'"),
        ({"alphas": []}, "alphas must be a list of positive numbers"),
        ({"alphas": "1"}, "alphas must be a list"),
        ({"n_voxels": "every"}, "n_voxels must be a whole number from 1 or 'all'"),
        ({"n_voxels": {"V1": "al"}}, "n_voxels must be a whole number from 1 or 'all'"),
        ({"n_inner_folds": 1}, "n_inner_folds must be a whole number from 2"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ProtocolError, match=f"decoding: {message}"):
        Decoding(**options)
    with pytest.raises(ProtocolError, match="did you mean 'estimator'"):
        rc.metric("decoding", estimater="ols")


def test_configuration_holds_the_options_that_matter():
    assert Decoding().config() == {
        "average": "arithmetic",
        "dead_units": "drop",
        "estimator": "ols",
        "items": "stimuli",
        "n_folds": 5,
        "n_units": None,
        "n_voxels": {"LVC": 1000, "HVC": 1000, "VC": 1000, "*": 500},
        "random_state": None,
        "score": "profile",
    }
    chosen = Decoding(estimator="ridge", alpha="cv", score="n_way").config()
    assert {"alphas", "n_inner_folds", "candidates", "n_way"} <= set(chosen)
    assert "n_iter" in Decoding(estimator="ard").config()
    configs = [str(Decoding(**options).config()) for options in VARIANTS.values()]
    assert len(set(configs)) == len(configs)  # cells of variants never share a place in the store


def test_every_meaning_says_what_is_scored():
    grid = itertools.product(
        ("ols", "ard", "ridge"),
        ("profile", "pattern", "pairwise", "n_way"),
        ("stimuli", "categories", "imagery"),
    )
    sentences = set()
    for estimator, score, items in grid:
        meaning = Decoding(estimator=estimator, score=score, items=items, n_way=4).meaning
        sentences.add(meaning.sentence)
        expected = {"pairwise": 0.5, "n_way": 0.25}.get(score, 0.0)
        assert meaning.chance == expected
        assert (meaning.minimum, meaning.maximum) == (0 if expected else -1, 1)
        assert meaning.unit == ("proportion correct" if expected else "correlation r")
        assert bool(meaning.ceiling) == (score == "profile")
        assert any("Horikawa" in c for c in meaning.citations)
        assert any("Sato" in c for c in meaning.citations) == (estimator == "ard")
    assert len(sentences) == 36


def test_options_in_a_study_file(tmp_path):
    text = """
    name = "variants"
    [brain.phantom]
    [networks.phantom]
    [metrics.sparse]
    type = "decoding"
    estimator = "ard"
    n_iter = 2000
    n_voxels = {LVC = 1000, "*" = "all"}
    [metrics.identified]
    type = "decoding"
    score = "pairwise"
    items = "categories"
    candidates = ["n01518878"]
    """
    file = tmp_path / "study.toml"
    file.write_text(text)
    made = load_study(file).make_metrics()
    assert made["sparse"].config()["n_iter"] == 2000
    assert made["sparse"].n_voxels == {"LVC": 1000, "*": "all"}
    assert made["identified"].meaning.chance == 0.5
    file.write_text(text.replace("pairwise", "pairwize"))
    with pytest.raises(ProtocolError, match="unknown score 'pairwize'; did you mean 'pairwise'"):
        load_study(file).make_metrics()
    file.write_text(text.replace("n_iter", "n_itr"))
    with pytest.raises(ProtocolError, match="did you mean 'n_iter'"):
        load_study(file).make_metrics()


def test_imagery_needs_imagery():
    activation, response = scene()
    with pytest.raises(ProtocolError, match=r"s1 in V1: items='imagery' needs .* there are none"):
        evidence_of(Decoding(items="imagery"), activation, response)


def test_categories_need_labels():
    activation, response = scene(category=False)
    with pytest.raises(DataError, match=r"6 scored stimuli have no category \('s30', .*'category'"):
        evidence_of(Decoding(items="categories"), activation, response)


def test_a_category_that_nobody_knows_is_an_error():
    activation, response = scene(n_imagery=2)
    strange = response.assign_coords(
        category=("presentation", np.char.replace(response["category"].values, "c11", "new"))
    )
    strange = strange.isel(presentation=strange["split"].values != "test")
    with pytest.raises(LabelError, match=r"'c10', 'new'.* no stimulus of theirs was shown"):
        evidence_of(Decoding(items="imagery"), activation, strange)


def test_one_category_alone_cannot_be_identified():
    activation, response = scene(n_test=3)
    metric = Decoding(items="categories", score="pairwise")
    with pytest.raises(DataError, match="'c10' is the only candidate, identification needs two"):
        evidence_of(metric, activation, response)
    named = Decoding(items="categories", score="pairwise", candidates=["s01", "s02"])
    assert evidence_of(named, activation, response).score() in (0, 0.5, 1)
    with pytest.raises(LabelError, match="nobody"):
        evidence_of(Decoding(score="pairwise", candidates=["nobody"]), activation, response)


def test_more_candidates_than_there_are():
    activation, response = scene()
    with pytest.raises(DataError, match="10-way identification needs 10 candidates, there are 6"):
        evidence_of(Decoding(score="n_way"), activation, response)
    response = response.assign_coords(split=("presentation", np.full(len(response), "")))
    metric = Decoding(score="n_way", n_way=8, random_state=0)
    with pytest.raises(DataError, match="there are 7 within a fold"):
        evidence_of(metric, activation, response)


def test_patterns_need_units():
    activation, response = scene(n_units=2)
    for options in ({"score": "pattern"}, {"score": "pairwise"}):
        with pytest.raises(DataError, match=r"2 units; score=.* at least 3"):
            evidence_of(Decoding(**options), activation, response)
    assert evidence_of(Decoding(), activation, response).n_targets == 2


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_poor_voxels_have_an_outcome(options):
    """More voxels asked for than there are; twins; constants; noise-free; NaN."""
    activation, response = scene(n_voxels=6)
    metric = Decoding(**{"n_voxels": 500} | options, random_state=0)
    values = response.values.copy()
    values[:, 2] = 3.25
    values[:, 4] = values[:, 1]
    poor = evidence_of(metric, activation, response.copy(data=values))
    good = evidence_of(
        metric, activation, response.copy(data=np.delete(values, 2, 1)[:, [*range(5), 0]])
    )
    assert np.isfinite(poor.score())
    if metric.n_voxels == 500:  # columns that repeat others or never vary change nothing in ols
        tolerance = 1e-8 if metric.estimator == "ols" else 0.2
        assert float(poor.score()) == pytest.approx(float(good.score()), abs=tolerance)
    values[3, 0] = np.nan
    with pytest.raises(DataError, match="responses of s1 in V1: 1 values are NaN"):
        evidence_of(metric, activation, response.copy(data=values))


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_a_region_where_nothing_varies_decodes_nothing(options):
    activation, response = scene()
    evidence = evidence_of(Decoding(**options), activation, response * 0 + 1)
    if options.get("score") in ("pairwise", "n_way"):  # one prediction: someone is always nearest
        assert float(evidence.score()) == pytest.approx(1 / (options.get("n_way", 2)), abs=1e-12)
    else:
        assert np.isnan(evidence.score()) or abs(float(evidence.score())) < 1


def test_fewer_stimuli_than_folds_and_too_few():
    activation, response = scene(n_train=9, n_test=0)
    free = response.assign_coords(split=("presentation", np.full(len(response), "")))
    for options in ({}, {"score": "pattern"}, {"score": "pairwise"}):
        evidence = evidence_of(Decoding(n_folds=30, random_state=1, **options), activation, free)
        assert np.bincount(evidence.fold).min() == 2
        assert np.isfinite(evidence.score())
    with pytest.raises(DataError, match=r"3 categories and no split.* at least 6 categories"):
        evidence_of(Decoding(items="categories", random_state=0), activation, free)
    activation, response = scene(n_train=30, n_test=0)
    free = response.assign_coords(split=("presentation", np.full(len(response), "")))
    evidence = evidence_of(Decoding(items="categories", random_state=0), activation, free)
    assert evidence.stimulus_id.tolist() == sorted(f"c{i}" for i in range(10))
    assert np.bincount(evidence.fold).tolist() == [2] * 5


def test_one_repetition_has_no_ceiling_and_one_subject_an_interval():
    rng = np.random.default_rng(3)
    ids = [f"s{i:02d}" for i in range(50)]
    latent = rng.standard_normal((50, 5))
    acts = rc.activations(
        {"net": {"l": latent @ rng.standard_normal((5, 9))}, "other": {"l": latent[:, :4] ** 2}},
        stimulus_id=ids,
    )
    brain = rc.responses(
        {"s1": latent @ rng.standard_normal((5, 8)) + rng.standard_normal((50, 8))},
        stimulus_id=ids,
        split=["train"] * 35 + ["test"] * 15,
    )
    metrics = {
        name: rc.metric("decoding", **options)
        for name, options in VARIANTS.items()
        if name in ("pattern", "pairwise", "3-way", "fisher", "zero")
    }
    comparison = rc.compare(acts, brain, metrics)
    result = rc.infer(comparison, n_bootstrap=50, n_permutations=199, n_splits=1)
    assert np.isnan(result["group_ceiling_low"]).all()
    own = result.sel(layer="net/l", roi="all")
    assert np.isfinite(own["ci"]).all()
    assert (own["p_null"] <= 0.05).all()
    contrasts = rc.tables(result)["contrasts"]
    assert (contrasts["verdict"] != "equivalent").all()  # without a ceiling nothing can be
