"""Clustered similarities of brains and of layers, against scipy; what the figure shows."""

import numpy as np
import pytest
import scipy.cluster.hierarchy as hierarchy
import scipy.stats
from scipy.spatial.distance import pdist, squareform

import rsacompare as rc
from rsacompare.reporting import clustered
from rsacompare.reporting.reading import Reading
from rsacompare.schema.results import iter_extras
from rsacompare.study import second_order

N = 12
IDS = [f"s{i:02d}" for i in range(N)]


def scene(metrics=("rsa",), n_subjects=4):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((N, 6))
    nets = {
        name: {f"l{k}": z @ rng.standard_normal((6, 10)) + k * rng.standard_normal((N, 10))
               for k in range(3)}
        for name in ("a", "b")
    }  # fmt: skip
    brain = {
        f"p{k}": z @ rng.standard_normal((6, 8)) + rng.standard_normal((N, 8))
        for k in range(n_subjects)
    }
    masks = {"V1": np.arange(8) < 5, "IT": np.arange(8) >= 3}
    return rc.compare(
        rc.activations(nets, stimulus_id=IDS),
        rc.responses(brain, stimulus_id=IDS, roi_mask=masks),
        metrics,
    ), brain, nets, masks  # fmt: skip


def matrices(comparison, metric):
    return [e for e in comparison.extras if e["kind"] == "matrix" and e["metric"] == metric]


def test_brains_and_layers_by_scipy():
    comparison, brain, nets, masks = scene()
    subjects, layers = matrices(comparison, "rsa")
    rdms = {
        f"{roi} · {s}": pdist(y[:, m], "correlation")
        for roi, m in masks.items() for s, y in brain.items()
    }  # fmt: skip
    of_layers = {f"{n}/{k}": pdist(x, "correlation") for n, v in nets.items() for k, x in v.items()}
    for extra, expected in ((subjects, rdms), (layers, of_layers)):
        items = extra["arrays"]["row"].values.tolist()
        assert sorted(items) == sorted(expected)
        for i, one in enumerate(items):
            for j, other in enumerate(items):
                rho = scipy.stats.spearmanr(expected[one], expected[other]).statistic
                assert extra["arrays"]["values"].values[i, j] == pytest.approx(rho, abs=1e-12)
        like = extra["arrays"]["values"].values
        tree = hierarchy.linkage(squareform(1 - like, checks=False), "average")
        np.testing.assert_allclose(extra["arrays"]["linkage"].values[:, 2:], tree[:, 2:])
    assert layers["arrays"]["group"].values.tolist() == ["a"] * 3 + ["b"] * 3


def test_grams_are_compared_by_their_own_metric():
    comparison, _, nets, _ = scene(["cka", "procrustes", "pcm"])
    for name in ("cka", "procrustes"):
        extra = matrices(comparison, name)[1]["arrays"]
        x, y = nets["a"]["l0"], nets["b"]["l1"]
        layer = rc.activations({"n": {"l": x}}, stimulus_id=IDS)
        other = rc.responses({"s": y}, stimulus_id=IDS)
        expected = rc.compare(layer, other, [name]).scores["score"].item()
        row = extra["row"].values.tolist()
        found = extra["values"].values[row.index("a/l0"), row.index("b/l1")]
        assert found == pytest.approx(expected, abs=1e-12)
    assert matrices(comparison, "pcm") == []  # a model and data are no two things of one kind


def test_many_brains_become_the_mean_over_rois(monkeypatch):
    monkeypatch.setattr(second_order, "MOST_ITEMS", 7)
    comparison, brain, _, masks = scene()
    subjects = matrices(comparison, "rsa")[0]["arrays"]
    assert subjects["row"].values.tolist() == list(brain)
    expected = [
        scipy.stats.spearmanr(*(pdist(brain[s][:, m], "correlation") for s in ("p0", "p1")))[0]
        for m in masks.values()
    ]
    assert subjects["values"].values[0, 1] == pytest.approx(np.mean(expected), abs=1e-12)


def test_two_brains_and_two_layers_make_no_tree():
    rng = np.random.default_rng(1)
    nets = {"n": {k: rng.standard_normal((N, 4)) for k in "ab"}}
    brain = {s: rng.standard_normal((N, 4)) for s in "pq"}
    made = rc.compare(
        rc.activations(nets, stimulus_id=IDS), rc.responses(brain, stimulus_id=IDS), ["rsa"]
    )
    assert matrices(made, "rsa") == []


def test_figure_shows_the_values_in_the_order_of_the_tree():
    comparison = scene()[0]
    result = rc.infer(comparison, n_bootstrap=20, n_permutations=20)
    reading = Reading(result)
    for extra, roles in iter_extras(result, "rsa"):
        if extra["kind"] != "matrix":
            continue
        figure = clustered.matrix(reading, extra, roles).figure
        axis = figure.axes[0]
        leaves = hierarchy.leaves_list(roles["linkage"])
        image = axis.images[0].get_array()
        np.testing.assert_allclose(image, roles["values"][np.ix_(leaves, leaves)])
        labels = [t.get_text() for t in axis.get_yticklabels()]
        assert labels == [str(roles["row"][i]) for i in leaves]
        tree = next(c for c in figure.axes[1].collections if c.get_label() == "tree")
        tops = sorted(float(s[:, 1].max()) for s in tree.get_segments())
        np.testing.assert_allclose(tops, np.sort(roles["linkage"][:, 2]))
