"""Flexible models: the fit against rsatoolbox, the score against a loop, the whole path."""

import os
import warnings

import numpy as np
import pytest
import scipy.stats
from rsatoolbox.model import ModelWeighted
from rsatoolbox.model.fitter import fit_optimize_positive
from rsatoolbox.rdm import RDMs

import rsacompare as rc
from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import combine, correlate, resample
from rsacompare.study.combine import combine_layers

N = 16
needs_data = pytest.mark.skipif(
    not os.environ.get("RSACOMPARE_DATA"),
    reason="RSACOMPARE_DATA is not set: the published files are not here",
)


def scene(seed=0, n=N, layers=4):
    rng = np.random.default_rng(seed)
    models = rng.random((layers, n * (n - 1) // 2)) + 0.5
    target = 0.7 * models[0] + 0.3 * models[2] - 0.2 * models[3]
    return models, target + 0.2 * rng.random(target.shape)


@pytest.mark.parametrize("comparator", combine.FITS)
def test_fit_is_the_best_that_rsatoolbox_finds(comparator):
    models, target = scene()
    theta = combine.nonnegative(models, target, comparator)
    assert (theta >= 0).all()
    assert theta.sum() == pytest.approx(1)
    np.random.seed(0)  # noqa: NPY002  their search starts at random
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = fit_optimize_positive(
            ModelWeighted("m", RDMs(models)), RDMs(target[None]), method=comparator
        )
    found = [
        correlate.compare_rdms((t @ models)[None], target[None], comparator)[0, 0]
        for t in (theta, theirs)
    ]
    assert found[0] >= found[1] - 1e-9
    np.testing.assert_allclose(theta, theirs / theirs.sum(), atol=2e-3)


def test_nothing_agrees_or_nothing_varies():
    models, _ = scene()
    assert (combine.nonnegative(models[:1], -models[0], "corr") == 0).all()
    assert np.isnan(combine.nonnegative(models, np.ones(models.shape[1]), "corr")).all()
    with pytest.raises(ValueError, match="no linear fit for 'spearman'"):
        combine.nonnegative(models, models[0], "spearman")


def study(comparator="spearman", n=N, subjects=3, seed=1):
    models, target = scene(seed, n)
    rng = np.random.default_rng(100 + seed)
    ids = [f"s{i:02d}" for i in range(n)]
    nets = {
        "rich": {f"l{k}": m for k, m in enumerate(models)},
        "poor": {"only": rng.random(len(target))},
    }
    brain = {f"p{k}": {"V1": target + 0.1 * rng.random(len(target))} for k in range(subjects)}
    return rc.compare(
        rc.rdms(nets, stimulus_id=ids, of="network"),
        rc.rdms(brain, stimulus_id=ids),
        {"rsa": rc.metric("rsa", comparator=comparator)},
    )


@pytest.mark.parametrize(("comparator", "fit"), [("spearman", "corr"), ("cosine", "cosine")])
def test_score_is_that_of_a_loop_over_folds(comparator, fit):
    comparison = study(comparator)
    whole = combine_layers(comparison, n_folds=2)
    score = whole.scores["score"].sel(layer="rich/combined", subject="p1").item()
    held = [comparison.evidence[c] for c in comparison.cells() if c.subject == "p1"]
    models = np.array([e.network for e in held[:4]])
    brain = held[0].brain
    fold = resample.folds(held[0].stimulus_id, 2, 0)
    i, j = np.triu_indices(N, 1)
    parts = []
    for f in range(2):
        test, train = (fold[i] == f) & (fold[j] == f), (fold[i] != f) & (fold[j] != f)
        predicted = combine.nonnegative(models[:, train], brain[train], fit) @ models[:, test]
        if comparator == "spearman":
            parts.append(scipy.stats.spearmanr(predicted, brain[test]).statistic)
        else:
            norm = np.linalg.norm(predicted) * np.linalg.norm(brain[test])
            parts.append(predicted @ brain[test] / norm)
    assert score == pytest.approx(np.mean(parts), abs=1e-12)


def test_inference_ceilings_and_weights():
    comparison = study()
    whole = combine_layers(comparison)
    result = rc.infer(whole, ("rich", "poor"), n_bootstrap=200, n_permutations=199)
    best = float(comparison.scores["score"].sel(layer=[f"rich/l{k}" for k in range(4)]).max())
    assert float(result["mean_score"].sel(layer="rich/combined").squeeze()) > best
    assert float(result["p_null"].sel(layer="rich/combined").squeeze()) == 1 / 200
    assert float(result["p_null"].sel(layer="poor/combined").squeeze()) > 0.01
    assert rc.tables(result)["contrasts"]["difference"].gt(0.3).all()
    assert np.isfinite(result["ceiling_low"]).all()
    weight = whole.extras[0]["arrays"]
    rich = dict(zip(weight["layer"].values, weight["weight"].values, strict=True))
    assert rich["l0"] > rich["l2"] > max(rich["l1"], rich["l3"])
    assert "non-negative combination" in result.attrs["meaning"]


def test_flexibility_wins_nothing_on_noise():
    rng = np.random.default_rng(3)
    found = []
    for seed in range(40):
        models = rng.random((6, N * (N - 1) // 2))
        ids = [f"s{i:02d}" for i in range(N)]
        nets = rc.rdms({"n": {f"l{k}": m for k, m in enumerate(models)}}, stimulus_id=ids,
                       of="network")  # fmt: skip
        brain = rc.rdms({"p": {"V1": rng.random(models.shape[1])}}, stimulus_id=ids)
        comparison = rc.compare(nets, brain, ["rsa"])
        found.append(combine_layers(comparison, random_state=seed).scores["score"].item())
    found = np.array(found)
    assert (found != 0).sum() > 25
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))


def test_equal_weights_fit_nothing():
    comparison = study()
    whole = combine_layers(comparison, weights="equal")
    held = [comparison.evidence[c] for c in comparison.cells() if c.subject == "p0"][:4]
    total = sum(e.network / e.network.std() for e in held)
    expected = scipy.stats.spearmanr(total, held[0].brain).statistic
    score = whole.scores["score"].sel(layer="rich/combined", subject="p0")
    assert score.item() == pytest.approx(expected, abs=1e-12)
    assert float(rc.infer(whole, n_bootstrap=50, n_permutations=50)["p_null"].min()) < 0.05


def test_what_cannot_be_combined():
    comparison = study(n=7)
    with pytest.raises(DataError, match="7 stimuli cannot make 2 folds of four"):
        combine_layers(comparison)
    with pytest.raises(ProtocolError, match="unknown metric of the comparison 'rsaa'"):
        combine_layers(comparison, "rsaa")
    with pytest.raises(ProtocolError, match="unknown way of weighing 'free'"):
        combine_layers(comparison, weights="free")
    x = np.random.default_rng(0).standard_normal((9, 4))
    ids = [f"s{i}" for i in range(9)]
    other = rc.compare(
        rc.activations({"n": {"l": x}}, stimulus_id=ids), rc.responses({"p": x}, stimulus_id=ids),
        ["cka"],
    )  # fmt: skip
    with pytest.raises(ProtocolError, match="this metric gives AlignmentEvidence"):
        combine_layers(other, "cka")


@needs_data
def test_layers_of_a_real_network_against_brains_and_behaviour():
    """AlexNet's nine layers together, 92 pictures: human IT, and judged dissimilarity as target."""
    brain = {k: rc.load_dataset(k) for k in ("kriegeskorte92", "kriegeskorte92_behaviour")}
    network = rc.load_activations("alexnet_a2020")
    comparison = rc.compare(network, brain, ["rsa"])
    whole = combine_layers(comparison)
    score = whole.scores["score"].squeeze(["metric", "layer"])
    assert int(score.sel(roi="behaviour").notnull().sum()) == 16
    mean = score.mean("subject")
    assert float(mean.sel(roi="behaviour")) == pytest.approx(0.280, abs=2e-3)
    assert float(mean.sel(roi="hIT")) == pytest.approx(0.100, abs=2e-3)
    weight = whole.extras[0]["arrays"]
    share = dict(zip(weight["layer"].values, weight["weight"].values, strict=True))
    assert share["fc8"] > 0.7  # the last layer before the softmax carries the combination
