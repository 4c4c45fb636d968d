"""Which units are kept: published indices, fair draws, projections against scikit-learn."""

from __future__ import annotations

import random

import numpy as np
import pytest
import scipy.stats
from sklearn.decomposition import PCA
from sklearn.random_projection import SparseRandomProjection

from rsacompare.errors import ProtocolError
from rsacompare.networks import units
from rsacompare.networks.network import Layer
from rsacompare.networks.projection import principal_components, sparse_projection


def layer(name="conv1", shape=(8, 8, 3)):
    return Layer(name, "conv", shape, 0, 0, 1.0)


# FACTS 4.4: layer sizes of ResNet-50 as sampled, first five indices, sum of all 1000
GOLDEN = [
    (802816, [58948, 477163, 794343, 276155, 436711], 417755621),
    (774400, [56861, 460273, 766227, 266381, 421253], 403410924),
    (100352, [7368, 59645, 99292, 34519, 54588], 52356296),
    (401408, [29474, 238581, 397171, 138077, 218355], 208877554),
    (50176, [3684, 29822, 49646, 17259, 27294], 26167672),
    (1000, [73, 593, 987, 342, 541], 499500),
]


@pytest.mark.parametrize(("n", "first", "total"), GOLDEN)
def test_units_of_yu_2018(n, first, total):
    (plan,) = units.plan("yu2018", [layer(shape=(n,))], random_state=99)
    assert plan.neuroid[:5].tolist() == first
    assert int(plan.neuroid.sum()) == total
    assert len(set(plan.neuroid.tolist())) == 1000
    block = np.arange(2 * n, dtype=np.float32).reshape(2, n)
    np.testing.assert_array_equal(plan.take(block), block[:, plan.neuroid])


def test_the_uniform_numbers_are_those_of_python_2():
    uniform = random.Random(72).random
    assert [uniform() for _ in range(3)] == [
        0.07342665480233157,
        0.5943619291362376,
        0.9894469617774092,
    ]


@pytest.mark.parametrize("n", [4117, 4118])
def test_both_methods_of_python_2_meet_at_the_threshold(n):
    """21 + 4 ** ceil(log(3000, 4)) = 4117: the pool shrinks up to there, beyond it is redrawn."""
    drawn = units.python2_sample(n, 1000, 72)
    uniform = random.Random(72).random
    first = [int(uniform() * (n - i * (n <= 4117))) for i in range(20)]
    assert drawn[:20].tolist() == first  # no collision among the first twenty
    assert len(set(drawn.tolist())) == 1000


@pytest.mark.parametrize(("n", "k"), [(10, 10), (30, 5), (21, 5), (22, 5), (500, 20), (90, 20)])
def test_python_2_samples_agree_with_python_3_where_its_integers_are_given(n, k, monkeypatch):
    """Python 3 kept the algorithm and changed only how a whole number below m is drawn."""

    class Python2(random.Random):
        def _randbelow(self, m):
            return int(self.random() * m)

    assert units.python2_sample(n, k, 7).tolist() == Python2(7).sample(range(n), k)


GOD_FIRST = [124881, 57798, 7181, 20331, 16926, 1984, 3362, 829]  # FACTS 4.4
GOD_SHAPES = [
    (55, 55, 96),
    (27, 27, 256),
    (13, 13, 384),
    (13, 13, 384),
    (13, 13, 256),
    (4096,),
    (4096,),
    (1000,),
]


def test_units_of_god_2017_are_counted_channel_first():
    plans = units.plan("god2017", [layer(f"l{i}", s) for i, s in enumerate(GOD_SHAPES)], 0)
    for plan, shape, first in zip(plans, GOD_SHAPES, GOD_FIRST, strict=True):
        as_in_caffe = np.arange(np.prod(shape))
        if len(shape) == 3:
            height, width, channels = shape
            as_in_caffe = as_in_caffe.reshape(channels, height, width).transpose(1, 2, 0)
        block = np.broadcast_to(as_in_caffe.reshape(shape), (1, *shape))
        taken = plan.take(block)[0]
        assert taken[0] == first
        assert len(set(taken.tolist())) == 1000
    with pytest.raises(ProtocolError, match="in this order"):
        units.plan("god2017", [layer(shape=s) for s in GOD_SHAPES[1:]], 0)


def test_a_draw_depends_on_seed_and_layer_alone():
    layers = [layer(name, (40, 5, 5)) for name in ("a", "b", "b:relu")]
    a, b, relu = (p.neuroid for p in units.plan(100, layers, 3))
    (alone,) = units.plan(100, layers[1:2], 3)
    np.testing.assert_array_equal(b, alone.neuroid)
    np.testing.assert_array_equal(b, relu)  # before and after the ReLU: the same units
    (other,) = units.plan("100", layers[1:2], 4)
    for one in (a, other.neuroid):
        shared = len(np.intersect1d(b, one))
        assert 2 <= shared <= 25  # 10 by chance, and never by design as in yu2018
    assert (np.diff(b) > 0).all()


def test_draws_are_fair():
    counts = np.zeros(60)
    for seed in range(3000):
        (plan,) = units.plan(20, [layer(shape=(60,))], seed)
        counts[plan.neuroid] += 1
    # without replacement, so counts vary less than a multinomial's: the test is conservative
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert counts.sum() == 60_000


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (192, "all 192 units"),
        (193, "all 192 units (193 were asked for)"),
        ("all", "all 192 units"),
        ("yu2018", "all 192 units (1000 were asked for)"),
        ("projection:500", "all 192 units (no more than the 500 dimensions asked for)"),
    ],
)
def test_small_layers_are_kept_whole_and_it_is_said(given, words):
    (plan,) = units.plan(given, [layer()], 0)
    assert plan.words == words
    block = np.arange(192.0).reshape(1, 8, 8, 3)
    np.testing.assert_array_equal(plan.take(block)[0], np.arange(192))


def test_channel_mean():
    block = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
    plan, dense = units.plan("channel-mean", [layer(), layer("fc", (7,))], 0)
    np.testing.assert_allclose(plan.take(block), block.astype(float).mean(axis=(1, 2)))
    assert plan.neuroid.tolist() == [0, 1, 2]
    assert dense.words == "all 7 units (no spatial axes)"


def test_projection_against_scikit_learn():
    n, k = 3000, 400
    ours = sparse_projection(n, k, np.random.default_rng(1))
    theirs = SparseRandomProjection(k, random_state=1).fit(np.zeros((1, n)))
    values = theirs.components_
    np.testing.assert_allclose(np.unique(ours.data), np.unique(values.data), rtol=1e-6)
    assert ours.nnz == pytest.approx(values.nnz, rel=0.03)
    assert (ours.data > 0).mean() == pytest.approx(0.5, abs=0.02)
    by_column = np.bincount(ours.indices, minlength=n)  # every entry is as likely as any other
    share = n**-0.5
    assert by_column.var() == pytest.approx(k * share * (1 - share), rel=0.1)
    x = np.random.default_rng(2).normal(size=(6, n)).astype(np.float32)
    theirs.components_ = ours
    (plan,) = units.plan(f"projection:{k}", [layer("p", (n,))], 8)
    np.testing.assert_allclose((ours @ x.T).T, theirs.transform(x), rtol=1e-5, atol=1e-4)
    assert plan.take(x).shape == (6, k)
    ratio = np.linalg.norm(plan.take(x), axis=1) ** 2 / np.linalg.norm(x, axis=1) ** 2
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / k)


def blocks_of(x, step):
    return lambda: (x[:, i : i + step] for i in range(0, x.shape[1], step))


@pytest.fixture
def wide():
    """40 stimuli, 300 units, ten strong dimensions and noise."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(40, 10)) * np.arange(1, 11) @ rng.normal(size=(10, 300))
    x = x + 0.5 * rng.normal(size=x.shape) + rng.normal(size=300)
    x[:, 7] = 3.0
    return x.astype(np.float32)


@pytest.mark.parametrize("number", [0.5, 0.9, 0.99, 0.9999, 1, 12, 500])
@pytest.mark.parametrize("step", [7, 300])
@pytest.mark.parametrize("n_fit", [40, 25])
def test_components_against_scikit_learn(number, step, n_fit, wide):
    fit = np.sort(np.random.default_rng(0).permutation(40)[:n_fit])
    found = principal_components(blocks_of(wide, step), 40, number, fit)
    most = min(number, n_fit - 1) if number >= 1 else number
    pca = PCA(most, svd_solver="full").fit(wide[fit].astype(np.float64))
    expected = pca.transform(wide.astype(np.float64))
    assert found.scores.shape == expected.shape
    signs = np.sign((found.scores * expected).sum(axis=0))
    np.testing.assert_allclose(found.scores * signs, expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(found.ratio, pca.explained_variance_ratio_, rtol=1e-6)
    assert found.n_constant == 1
    fitted = found.scores[fit]
    assert (fitted[np.abs(fitted).argmax(axis=0), range(len(signs))] > 0).all()


def test_copies_of_a_stimulus_make_no_components(wide):
    doubled = np.concatenate([wide[:5], wide[:5]])
    found = principal_components(blocks_of(doubled, 50), 10, 500, np.arange(10))
    assert found.scores.shape == (10, 4)
    np.testing.assert_allclose(found.scores[:5], found.scores[5:])
    distances = np.linalg.norm(found.scores[0] - found.scores[1:5], axis=1)
    exact = np.linalg.norm((wide[0] - wide[1:5]).astype(np.float64), axis=1)
    np.testing.assert_allclose(distances, exact, rtol=1e-6)
