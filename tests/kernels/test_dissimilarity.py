"""Distances of patterns against scipy, and what must not change them."""

import numpy as np
import pytest
import scipy.spatial.distance

from rsacompare.kernels import dissimilarity


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("distance", "judge", "divide"),
    [("correlation", "correlation", False), ("euclidean", "sqeuclidean", True)],
)
def test_distance_against_scipy(distance, judge, divide, dtype):
    patterns = (np.random.default_rng(0).standard_normal((7, 40)) + 2).astype(dtype)
    theirs = scipy.spatial.distance.pdist(patterns.astype(float), judge) / (40 if divide else 1)
    np.testing.assert_allclose(dissimilarity.DISTANCES[distance](patterns), theirs, atol=1e-12)


def test_what_leaves_distances_and_what_does_not():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 5))
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    shift = rng.standard_normal(5)
    np.testing.assert_allclose(
        dissimilarity.euclidean(x @ turn + shift), dissimilarity.euclidean(x), atol=1e-13
    )
    scaled = x * rng.uniform(0.5, 2, (6, 1)) + rng.standard_normal((6, 1))
    np.testing.assert_allclose(
        dissimilarity.correlation(scaled), dissimilarity.correlation(x), atol=1e-13
    )
    assert np.abs(dissimilarity.correlation(x + shift) - dissimilarity.correlation(x)).max() > 0.1
    assert np.abs(dissimilarity.euclidean(scaled) - dissimilarity.euclidean(x)).max() > 0.1


def test_euclidean_far_from_the_origin():
    x = np.random.default_rng(2).standard_normal((5, 30))
    np.testing.assert_allclose(
        dissimilarity.euclidean(x + 1e6), dissimilarity.euclidean(x), atol=1e-8
    )


def test_equal_patterns_are_at_distance_zero():
    x = np.random.default_rng(3).standard_normal((2, 9))[[0, 0, 1]]
    assert dissimilarity.euclidean(x)[0] == 0
    assert dissimilarity.correlation(x)[0] == pytest.approx(0, abs=1e-15)
    assert dissimilarity.euclidean(x)[1] > 0


def test_constant_patterns_have_no_correlation():
    x = np.random.default_rng(4).standard_normal((4, 7)) * 1e-20
    x[1], x[3] = 0.1, 0.0
    np.testing.assert_array_equal(dissimilarity.constant_patterns(x), [False, True, False, True])
    with pytest.raises(ValueError, match=r"\[1, 3\] are constant"):
        dissimilarity.correlation(x)
    assert np.isfinite(dissimilarity.euclidean(x)).all()


def test_one_stimulus_has_no_pairs():
    with pytest.raises(ValueError, match="two or more"):
        dissimilarity.euclidean(np.ones((1, 3)))
