import numpy as np
import pytest

from rsacompare.kernels import resample


def test_streams_depend_on_names_and_seed_only():
    ids = np.array(["a", "b"])
    first = resample.stream(3, "stimuli", ids, 0).random(4)
    resample.stream(3, "other").random(100)
    assert (first == resample.stream(3, "stimuli", ids, 0).random(4)).all()
    assert (first != resample.stream(4, "stimuli", ids, 0).random(4)).all()
    assert (first != resample.stream(3, "stimuli", ids, 1).random(4)).all()
    # names are kept apart: ("ab", "c") is not ("a", "bc")
    assert resample.stream(0, "ab", "c").random() != resample.stream(0, "a", "bc").random()


def test_multiplicities_are_multinomial():
    draws = resample.multiplicities(resample.stream(0, "m"), 10, 20_000)
    assert (draws.sum(axis=1) == 10).all()
    # variance n p (1 - p) = 0.9, covariance -n p² = -0.1; Monte-Carlo error about 0.01
    assert draws.mean(axis=0) == pytest.approx(np.ones(10), abs=0.03)
    covariance = np.cov(draws.T)
    assert np.diag(covariance) == pytest.approx(np.full(10, 0.9), abs=0.05)
    assert covariance[0, 1] == pytest.approx(-0.1, abs=0.03)


def test_multiplicities_do_not_depend_on_the_internal_block():
    few = resample.multiplicities(resample.stream(0, "m"), 1000, 1000)
    more = resample.multiplicities(resample.stream(0, "m"), 1000, 2500)
    assert (few == more[:1000]).all()


def test_permutations_stay_in_folds():
    fold = np.array([0, 1, 0, 1, 0, 2])
    orders = resample.permutations(resample.stream(0, "p"), 6, 500, fold)
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert (fold[orders] == fold).all()
    assert (orders[:, 5] == 5).all()
    # each of the 3! · 2! arrangements turns up
    assert len(np.unique(orders, axis=0)) == 12


def test_folds_belong_to_labels_not_rows():
    ids = np.array([f"s{i:02d}" for i in range(23)])
    fold = resample.folds(ids, 5, 1)
    assert sorted(np.bincount(fold).tolist()) == [4, 4, 5, 5, 5]
    order = np.random.default_rng(0).permutation(23)
    assert (resample.folds(ids[order], 5, 1) == fold[order]).all()
    assert (resample.folds(ids, 5, 2) != fold).any()
    with pytest.raises(ValueError, match="between 2 and the 23 stimuli"):
        resample.folds(ids, 24, 0)


def test_halves_are_balanced_in_every_fold():
    fold = np.repeat([0, 1, 2], [4, 5, 6])
    parts = resample.halves(resample.stream(0, "h"), 15, 200, fold)
    sizes = np.stack([parts[:, fold == f].sum(axis=1) for f in range(3)], axis=1)
    assert (sizes[:, 0] == 2).all()
    assert set(sizes[:, 1].tolist()) == {2, 3}
    assert (sizes[:, 2] == 3).all()
    # every stimulus is in the first half about half the time
    assert np.abs(parts.mean(axis=0) - 0.5).max() < 4 * 0.5 / np.sqrt(200)


@pytest.mark.parametrize("bad", [-1, 1.5, True])
def test_seed_must_be_a_whole_number(bad):
    with pytest.raises(ValueError, match="whole number"):
        resample.as_seed(bad)
