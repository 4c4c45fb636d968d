"""Stimuli that follow each other in time: blocks are drawn, permuted, halved and counted."""

import json

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.datasets import movie
from rsacompare.errors import DataError
from rsacompare.kernels import resample


def rng():
    return np.random.default_rng(0)


def test_blocks_of_one_length_change_places_and_keep_their_order():
    block = np.repeat(list("abcde"), [3, 3, 2, 3, 2])
    orders = resample.permutations(rng(), 13, 4000, block=block)
    assert (np.sort(orders, axis=1) == np.arange(13)).all()
    starts = {"a": 0, "b": 3, "c": 6, "d": 8, "e": 11}
    for name, start in starts.items():
        size = (block == name).sum()
        there = orders[:, start : start + size]
        assert (np.diff(there, axis=1) == 1).all()  # inside a block time goes on
        came_from = block[there[:, 0]]
        equals = [b for b in starts if (block == b).sum() == size]
        counts = [np.mean(came_from == b) for b in equals]
        np.testing.assert_allclose(counts, 1 / len(equals), atol=0.04)  # every order as likely
        assert np.isin(came_from, equals).all()


def test_a_block_of_its_own_length_stays_and_folds_are_not_left():
    block = np.repeat(["a", "b", "c"], [2, 2, 3])
    assert (resample.permutations(rng(), 7, 50, block=block)[:, 4:] == [4, 5, 6]).all()
    block, fold = np.repeat(list("abcd"), 2), np.repeat([0, 1], 4)
    orders = resample.permutations(rng(), 8, 200, fold, block)
    assert (fold[orders] == fold).all()
    assert len(np.unique(orders, axis=0)) == 4
    single = resample.permutations(np.random.default_rng(1), 30, 5)
    blocks_of_one = resample.permutations(np.random.default_rng(1), 30, 5, block=np.arange(30))
    assert (np.sort(blocks_of_one) == np.sort(single)).all()


def test_halves_hold_whole_blocks():
    block = np.repeat(np.arange(10), 4)
    halves = resample.halves(rng(), 40, 20, block=block)
    assert (halves.reshape(20, 10, 4).sum(axis=2) % 4 == 0).all()
    assert (halves.sum(axis=1) == 20).all()


def _study(blocks=True, n_subjects=2):
    options = dict(n_subjects=n_subjects, n_train=3, n_test=2, n_volumes=45, n_voxels=6, n_units=9)
    brain = movie.load_brain("closer", **options)
    if not blocks:
        for node in brain.children.values():
            node.dataset = node.to_dataset().drop_vars("time_block")
    return movie.load_networks("closer", **options), brain


def test_every_metric_s_evidence_knows_the_blocks_and_the_result_says_so():
    networks, brain = _study()
    metrics = {
        "encoding": rc.metric("encoding", features="given", folds="contiguous"),
        "rsa": rc.metric("rsa"),
    }
    comparison = rc.compare(networks, brain, metrics, rois=["V1"])
    for cell in comparison.cells():
        held = comparison.evidence[cell]
        names = np.array([i.rsplit("-", 1)[0] for i in held.stimulus_id])
        # 45 volumes of 2 s: blocks of 10, the last one takes the rest of 5 as one of its own
        assert len(np.unique(held.block)) == 2 * 5
        assert all(b.startswith(n) for b, n in zip(held.block, names, strict=True))
        again = type(held).from_arrays(held.to_arrays())
        np.testing.assert_array_equal(again.block, held.block)
    result = rc.infer(comparison, n_bootstrap=20, n_permutations=20, n_splits=1)
    told = json.loads(result.attrs["inference"])
    assert told["dof"]["encoding"] == {"V1": 1}
    assert any("90 scored stimuli follow each other in time; 10 contiguous" in n
               for n in json.loads(result.attrs["notes"]))  # fmt: skip


def test_the_null_and_the_bootstrap_are_those_of_blocks():
    networks, brain = _study(n_subjects=1)
    metrics = {"e": rc.metric("encoding", features="given", folds="contiguous")}
    comparison = rc.compare(networks, brain, metrics, rois=["V1"])
    result = rc.infer(comparison, n_bootstrap=400, n_permutations=300, n_splits=1, random_state=3)
    held = comparison.evidence[comparison.cells()[0]]
    names, member = np.unique(held.block, return_inverse=True)
    assert len(names) == 10
    draws = resample.multiplicities(
        resample.stream(3, "bootstrap", "stimuli", held.stimulus_id, 0), 10, 250
    )
    boot = result["boot"].values[0, 0, 0]
    np.testing.assert_allclose(boot[:250], held.score(draws[:, member]), rtol=1e-5)
    orders = resample.permutations(
        resample.stream(3, "permutation", "stimuli", held.stimulus_id, 0), 90, 300, block=member
    )
    np.testing.assert_allclose(result["null"].values[0, 0, 0], held.null(orders), rtol=1e-4)
    # more spread than single time points would have
    single = resample.multiplicities(np.random.default_rng(0), 90, 400)
    assert np.std(boot) > 1.1 * np.std(held.score(single))


def test_a_stimulus_in_two_blocks_is_an_error():
    networks, brain = _study(n_subjects=1)
    node = brain["sub-01"]
    block = node["time_block"].values.copy()
    at = np.flatnonzero(node["stimulus_id"].values == "test-1-0003")[-1]
    block[at] = "elsewhere"
    node.dataset = node.to_dataset().assign_coords(time_block=("presentation", block))
    with pytest.raises(DataError, match=r"test-1-0003.*give it one block"):
        rc.compare(networks, brain, {"r": rc.metric("rsa")}, rois=["V1"])


@pytest.mark.slow
def test_single_time_points_are_anticonservative_and_blocks_are_not():
    """A movie that nothing relates to: p_null below .05 as often as it should (FACTS 9.11)."""
    options = dict(n_subjects=2, n_train=4, n_test=2, n_volumes=150, n_voxels=12, n_units=16,
                   test_repetitions=4)  # fmt: skip
    rates = {True: [], False: []}
    metric = rc.metric("encoding", features="given", criterion="correlation", folds="contiguous",
                       penalty="mean", intercept=False)  # fmt: skip
    for seed in range(60):
        brain = movie.load_brain("null", random_state=seed, **options)
        networks = movie.load_networks("null", random_state=seed, **options)
        for blocks in (True, False):
            if not blocks:
                for node in brain.children.values():
                    node.dataset = node.to_dataset().drop_vars("time_block")
            comparison = rc.compare(networks, brain, {"e": metric})
            result = rc.infer(comparison, n_bootstrap=10, n_permutations=200, n_splits=1,
                              random_state=seed)  # fmt: skip
            rates[blocks].append((result["p_null"].values < 0.05).mean())
    error = {k: np.std(v, ddof=1) / np.sqrt(len(v)) for k, v in rates.items()}
    assert np.mean(rates[True]) < 0.05 + 2.5 * error[True]
    assert np.mean(rates[False]) > 0.1  # without blocks: .16 when this was written


@pytest.mark.parametrize(
    ("lengths", "floor"),
    [
        (
            [4, 4, 5, 5, 6, 7, 8, 9, 10, 11],
            "4 orders only, so that p_null cannot lie below about 0.25",
        ),
        ([5] * 8, ""),
    ],
)
def test_few_orders_of_blocks_are_told(product_comparison, lengths, floor):
    block = np.repeat(np.arange(len(lengths)), lengths)
    shape = (1, 2, len(block))
    made = product_comparison(
        {"a": rng().standard_normal(shape), "b": np.random.default_rng(1).standard_normal(shape)}
    )
    for cell in made.cells():
        made.evidence[cell].block = block.astype(str)
    result = rc.infer(made, n_bootstrap=20, n_permutations=400)
    (note,) = (n for n in json.loads(result.attrs["notes"]) if "follow each other" in n)
    assert ("orders only" in note) == bool(floor)
    assert floor in note
    if floor:  # a quarter of all orders is the one that there is: ties count
        assert float(result["p_null"].min()) > 0.18
