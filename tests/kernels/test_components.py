"""Principal components against scikit-learn, over n > p and n < p, ties and dead units."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from rsacompare.kernels.components import fit_components


@pytest.mark.parametrize(("n", "p"), [(60, 20), (20, 60), (30, 30)])
@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99])
def test_components_are_those_of_scikit_learn(n, p, variance):
    rng = np.random.default_rng(0)
    train = rng.standard_normal((n, 5)) @ rng.standard_normal((5, p))
    train = 3 + train + 0.4 * rng.standard_normal((n, p)) * rng.uniform(0.1, 3, p)
    other = rng.standard_normal((7, p))
    held = fit_components(train, variance)
    mean, sd = train.mean(axis=0), train.std(axis=0, ddof=1)
    judge = PCA().fit((train - mean) / sd)
    share = judge.explained_variance_ratio_
    keep = int(np.searchsorted(share.cumsum(), variance, side="right")) + 1
    assert held.axes.shape == (p, keep)
    np.testing.assert_allclose(held.share, share[:keep], rtol=1e-9)
    for values in (train, other):
        theirs = judge.transform((values - mean) / sd)[:, :keep] / np.sqrt(p)
        ours = held.project(values)
        sign = np.sign((held.axes * judge.components_[:keep].T).sum(axis=0))
        np.testing.assert_allclose(ours * sign, theirs, atol=1e-9)
    assert (held.axes[np.abs(held.axes).argmax(axis=0), np.arange(keep)] > 0).all()


def test_dead_and_doubled_units():
    rng = np.random.default_rng(1)
    train = rng.standard_normal((30, 4))
    train = np.c_[train, train, np.full(30, 0.1)]  # perfectly collinear, and one that never varies
    held = fit_components(train, 1.0)
    assert held.axes.shape == (9, 4)  # never a direction that is zero but for rounding
    np.testing.assert_allclose(held.share.sum(), 1)
    # all the variance is kept: inner products are those of the standardised units over their number
    z = (train - train.mean(axis=0)) / np.r_[train[:, :8].std(axis=0, ddof=1), 1]
    own = held.project(train)
    np.testing.assert_allclose(own @ own.T, z @ z.T / 9, atol=1e-12)


def test_a_layer_that_never_varies_is_one_component_of_zeros():
    held = fit_components(np.full((5, 3), 0.3), 0.99)
    np.testing.assert_array_equal(held.project(np.random.default_rng(0).random((4, 3))), 0)
    assert held.share.tolist() == [0.0]


@pytest.mark.parametrize("bad", [0, 1.1, -0.5])
def test_shares_outside_the_range(bad):
    with pytest.raises(ValueError, match="variance"):
        fit_components(np.eye(3), bad)
    with pytest.raises(ValueError, match="2 stimuli"):
        fit_components(np.eye(1), 0.9)
