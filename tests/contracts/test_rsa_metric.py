"""RSA as a metric: labels, splits, sessions, and what cannot be compared."""

import threading

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

import rsacompare as rc
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.metrics.rsa import RSA

IDS = np.array(["cat", "dog", "ant", "bee", "eel"])


@pytest.fixture
def patterns():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 12))
    return x, x + rng.standard_normal((5, 12))


def layer(x, ids=IDS):
    return rc.activations({"net": {"l1": x}}, stimulus_id=ids)["net/l1"]["activation"]


def region(y, ids=IDS, **options):
    return rc.responses({"s1": y}, stimulus_id=ids, **options)["s1"]["response"]


def evidence(metric, activation, response):
    return metric.compare(metric.prepare_activation(activation), metric.prepare_response(response))


def by_scipy(x, y, distance="correlation"):
    a, b = (scipy.spatial.distance.pdist(v, distance) for v in (x, y))
    return scipy.stats.spearmanr(a, b).statistic


@pytest.mark.parametrize(
    ("distance", "judge"), [("correlation", "correlation"), ("euclidean", "sqeuclidean")]
)
def test_score_against_scipy(patterns, distance, judge):
    x, y = patterns
    made = evidence(RSA(distance=distance), layer(x), region(y))
    assert float(made.score()) == pytest.approx(by_scipy(x, y, judge), abs=1e-12)
    assert made.n_targets == 10


def test_alignment_is_by_label(patterns):
    x, y = patterns
    straight = evidence(RSA(), layer(x), region(y))
    mixed = evidence(
        RSA(),
        layer(np.r_[x[[3, 0, 4, 2, 1]], np.eye(2, 12)], [*IDS[[3, 0, 4, 2, 1]], "fox", "gnu"]),
        region(y[[1, 4, 2, 0, 3]], IDS[[1, 4, 2, 0, 3]]),
    )
    assert straight.stimulus_id.tolist() == sorted(IDS)
    assert mixed.stimulus_id.tolist() == sorted(IDS)
    np.testing.assert_allclose(mixed.network, straight.network, atol=1e-14)
    np.testing.assert_allclose(mixed.brain, straight.brain, atol=1e-14)


def test_test_split_is_scored_and_repetitions_are_averaged(patterns):
    x, y = patterns
    noise = np.random.default_rng(1).standard_normal((5, 12))
    rows = np.r_[100 * noise, y + noise, y - noise]
    split = ["train"] * 5 + ["test"] * 10
    made = evidence(RSA(), layer(x), region(rows, np.tile(IDS, 3), split=split))
    assert float(made.score()) == pytest.approx(by_scipy(x, y), abs=1e-12)
    everything = evidence(RSA(), layer(x), region(rows, np.tile(IDS, 3)))
    mean = (100 * noise + 2 * y) / 3
    assert float(everything.score()) == pytest.approx(by_scipy(x, mean), abs=1e-12)


def test_given_rdms_are_taken_as_they_are(patterns):
    rng = np.random.default_rng(2)
    network, brain = rng.random(10), rng.random((2, 10))
    tree = rc.rdms({"net": {"l1": network}}, stimulus_id=IDS, of="network")
    order = np.array([2, 0, 1, 4, 3])
    square = np.array([scipy.spatial.distance.squareform(b)[order][:, order] for b in brain])
    brains = rc.rdms({"s1": {"IT": square}}, stimulus_id=IDS[order])
    response = brains["s1"]["rdm"].sel(roi="IT")
    made = evidence(RSA(distance="euclidean"), tree["net/l1"]["rdm"], response)
    expected = scipy.stats.spearmanr(network, brain.mean(axis=0)).statistic
    assert float(made.score()) == pytest.approx(expected, abs=1e-12)


def test_network_rdm_with_more_stimuli_and_activation_give_one_answer(patterns):
    x, y = patterns
    more = np.r_[x, np.eye(2, 12)]
    ids = [*IDS, "fox", "gnu"]
    d = scipy.spatial.distance.pdist(more, "correlation")
    tree = rc.rdms({"net": {"l1": d}}, stimulus_id=ids, of="network")
    metric = RSA(comparator="tau-a")
    given = evidence(metric, tree["net/l1"]["rdm"], region(y))
    computed = evidence(metric, layer(x), region(y))
    np.testing.assert_allclose(given.network, computed.network, atol=1e-12)


def test_vector_of_a_layer_is_made_once_also_by_threads(patterns, monkeypatch):
    x, y = patterns
    metric = RSA()
    network = metric.prepare_activation(layer(x))
    brains = [metric.prepare_response(region(y + k)) for k in range(4)]
    made: list = []
    threads = [
        threading.Thread(target=lambda b=b: made.append(metric.compare(network, b))) for b in brains
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(e.network) for e in made}) == 1
    fewer = metric.prepare_response(region(y[:4], IDS[:4]))
    assert metric.compare(network, fewer).network.shape == (6,)


def test_meaning_and_configuration():
    metric = RSA(comparator="tau-a", distance="euclidean")
    assert metric.config() == {"distance": "euclidean", "comparator": "tau-a"}
    assert "τ-a" in metric.meaning.unit
    assert "squared Euclidean" in metric.meaning.sentence
    assert "above 0" in RSA(comparator="cosine").meaning.sentence
    assert metric.meaning.chance == 0
    assert RSA.accepts == {"activation", "network_rdm", "response", "brain_rdm"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"distance": "corelation"}, "unknown distance 'corelation'; did you mean 'correlation'"),
        ({"comparator": "spearmann"}, "unknown comparator 'spearmann'; did you mean 'spearman'"),
    ],
)
def test_unknown_options(options, says):
    with pytest.raises(ProtocolError, match=says):
        RSA(**options)


def test_a_constant_pattern_is_named(patterns):
    x, y = patterns
    x, y = x.copy(), y.copy()
    x[2] = 0.1
    with pytest.raises(DataError, match=r"'ant' is constant over all 12"):
        evidence(RSA(), layer(x), region(y))
    made = evidence(RSA(distance="euclidean"), layer(x), region(y))
    assert np.isfinite(made.score())
    y[4] = 3.0
    with pytest.raises(DataError, match=r"brain.*'eel' is constant"):
        RSA().prepare_response(region(y))


def test_what_cannot_be_compared(patterns):
    x, y = patterns
    with pytest.raises(LabelError, match=r"1 of 5 stimuli of brain are not in the network.*'eel'"):
        evidence(RSA(), layer(x[:4], IDS[:4]), region(y))
    with pytest.raises(DataError, match="2 stimuli"):
        RSA().prepare_response(region(y[:2], IDS[:2]))
    with pytest.raises(DataError, match="no presentations of split 'test'"):
        RSA().prepare_response(region(y, split=["train"] * 5))
    tree = rc.rdms({"net": {"l1": np.arange(10.0)}}, stimulus_id=IDS, of="network")
    with pytest.raises(LabelError, match="9 pairs, 9 of them distinct, but 5 stimuli make 10"):
        RSA().prepare_activation(tree["net/l1"]["rdm"].isel(pair=slice(9)))
