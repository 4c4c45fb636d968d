"""RDMs, comparators, noise ceilings and their bootstraps against rsatoolbox 0.3.2."""

import warnings

import numpy as np
import pytest
import rsatoolbox
from rsatoolbox.inference import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, compare

from rsacompare.kernels import correlate, dissimilarity
from rsacompare.kernels.resample import multiplicities

COMPARATORS = tuple(correlate.COMPARATORS)
KINDS = ("continuous", "tied", "categories")


def make_rdms(rng, n_rdms, n_stimuli, kind):
    """RDMs with something in common; `tied` has few values, `categories` two."""
    shared = rng.standard_normal((n_stimuli, 6))
    rows = []
    for _ in range(n_rdms):
        patterns = shared + rng.standard_normal((n_stimuli, 6))
        i, j = np.triu_indices(n_stimuli, 1)
        rows.append(((patterns[i] - patterns[j]) ** 2).mean(axis=1))
    rdms = np.array(rows)
    if kind == "tied":
        return np.round(rdms)
    if kind == "categories":
        return (rdms > np.median(rdms, axis=1, keepdims=True)).astype(float)
    return rdms


def resampled(rdms, stimulus_weights, subject_weights=None):
    """rsatoolbox's own resampling; pairs of copies become NaN and are dropped by it."""
    theirs = RDMs(rdms)
    if subject_weights is not None:
        chosen = np.repeat(np.arange(len(rdms)), subject_weights.astype(int))
        theirs = theirs.subsample("index", chosen)
    if stimulus_weights is not None:
        chosen = np.repeat(np.arange(len(stimulus_weights)), stimulus_weights.astype(int))
        theirs = theirs.subsample_pattern("index", chosen)
    return theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_comparator(comparator, kind):
    rng = np.random.default_rng(1)
    x, y = make_rdms(rng, 3, 12, kind), make_rdms(rng, 4, 12, kind)
    ours = correlate.compare_rdms(x, y, comparator)
    np.testing.assert_allclose(ours, compare(RDMs(x), RDMs(y), comparator), atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_comparator_under_the_same_bootstrap_draws(comparator, kind):
    rng = np.random.default_rng(2)
    x, y = make_rdms(rng, 3, 12, kind), make_rdms(rng, 2, 12, kind)
    draws = multiplicities(rng, 12, 70)  # more than one block of the tau kernel
    draws[0] = [4, 5, 3] + [0] * 9  # three stimuli alone, one of them holding nearly half
    draws[1] = [1, 8, 2, 1] + [0] * 8  # more than half of all copies are of one stimulus
    draws[2] = [1, 7, 2, 2] + [0] * 8  # exactly half and one: a zero pivot when whitening
    ours = correlate.compare_rdms(x, y, comparator, draws)
    assert np.isfinite(ours).mean() > 0.97  # binary RDMs may be constant over three stimuli
    for w, mine in zip(draws, ours, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant input in a draw of three stimuli
            theirs = compare(resampled(x, w), resampled(y, w), comparator)
        scored = np.isfinite(mine)
        np.testing.assert_allclose(mine[scored], theirs[scored], atol=1e-10)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_comparator_permuted(comparator):
    rng = np.random.default_rng(3)
    x, y = make_rdms(rng, 2, 9, "continuous"), make_rdms(rng, 3, 9, "tied")
    permutations = np.array([rng.permutation(9) for _ in range(5)])
    for a, b in ((x, y), (y, x)):  # either side may be the smaller one
        ours = correlate.compare_rdms_permuted(a, b, comparator, permutations)
        for order, mine in zip(permutations, ours, strict=True):
            moved = RDMs(RDMs(a).get_matrices()[:, order][:, :, order])
            np.testing.assert_allclose(mine, compare(moved, RDMs(b), comparator), atol=1e-10)


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau based on averaged ranks")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_noise_ceiling(comparator, kind):
    rdms = make_rdms(np.random.default_rng(4), 5, 10, kind)
    low, high = correlate.noise_ceiling(rdms, comparator)
    theirs = boot_noise_ceiling(RDMs(rdms), comparator)
    np.testing.assert_allclose([low.mean(), high.mean()], theirs, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau based on averaged ranks")
@pytest.mark.parametrize("resample", ["stimuli", "subjects", "both"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_noise_ceiling_under_the_same_bootstrap_draws(comparator, kind, resample):
    rng = np.random.default_rng(5)
    rdms = make_rdms(rng, 5, 10, kind)
    w = multiplicities(rng, 10, 12) if resample != "subjects" else None
    s = multiplicities(rng, 5, 12) if resample != "stimuli" else None
    low, high = correlate.noise_ceiling(rdms, comparator, w, s)
    for draw in range(12):
        w_draw = None if w is None else w[draw]
        s_draw = None if s is None else s[draw]
        theirs = boot_noise_ceiling(resampled(rdms, w_draw, s_draw), comparator)
        # rsatoolbox averages over distinct subjects, whatever their multiplicity
        there = slice(None) if s is None else s[draw] > 0
        ours = low[draw, there].mean(), high[draw, there].mean()
        np.testing.assert_allclose(ours, theirs, atol=1e-10)
        if s is not None:
            assert np.isnan(low[draw, s[draw] == 0]).all()
            assert np.isnan(high[draw, s[draw] == 0]).all()


@pytest.mark.parametrize("distance", tuple(dissimilarity.DISTANCES))
def test_distance(distance):
    patterns = np.random.default_rng(6).standard_normal((9, 30)) + 4
    ours = dissimilarity.DISTANCES[distance](patterns)
    data = rsatoolbox.data.Dataset(patterns)
    theirs = rsatoolbox.rdm.calc_rdm(data, method=distance).get_vectors()[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
