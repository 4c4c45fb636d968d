"""The simulated movie study: labels, truth; frames to volumes; the partition of variance."""

import json

import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

import rsacompare as rc
from rsacompare.datasets import frames, movie
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.kernels import hrf, resample
from rsacompare.study.partition import variance_partition

SMALL = {"n_subjects": 2, "n_train": 4, "n_test": 2, "n_volumes": 100, "n_voxels": 20,
         "n_units": 24, "noise": 1.0}  # fmt: skip
WEN = {"features": "given", "criterion": "correlation", "folds": "contiguous", "penalty": "mean",
       "intercept": False}  # fmt: skip


@pytest.fixture(scope="module")
def closer():
    return movie.load_networks("closer", **SMALL), movie.load_brain("closer", **SMALL)


def test_time_points_are_labelled_in_order_and_repeated(closer):
    networks, brain = closer
    node = brain["sub-01"].to_dataset()
    assert node.sizes["presentation"] == 100 * (4 * 2 + 2 * 10)
    test = node["split"].values == "test"
    ids, counts = np.unique(node["stimulus_id"].values[test], return_counts=True)
    assert len(ids) == 200
    assert (counts == 10).all()
    assert ids[0] == "test-1-0000"
    assert ids[-1] == "test-2-0099"
    layer = networks["sim-alexnet/level1"]["activation"]
    assert set(layer["stimulus_id"].values) == set(node["stimulus_id"].values)
    assert len(np.unique(node["time_block"].values[test])) == 2 * 10


def test_runs_are_detrended_and_standardised(closer):
    _, brain = closer
    node = brain["sub-02"].to_dataset()
    run = node["response"].values[node["run"].values == 3].astype(float)
    np.testing.assert_allclose(run.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(hrf.detrend(run, 4), run, atol=1e-5)


def test_encoding_finds_the_truth_of_the_simulation(closer):
    networks, brain = closer
    truth = {r["network"]: r for r in json.loads(brain.attrs["truth"])["means"]}
    metric = rc.metric("encoding", normalise=True, **WEN)
    comparison = rc.compare(networks, brain, {"e": metric})
    score = comparison.scores["score"].sel(metric="e").mean("subject")
    for network, told in truth.items():
        own = [float(score.sel(roi=area, layer=f"{network}/level{a + 1}"))
               for a, area in enumerate(movie.AREAS)]  # fmt: skip
        # 400 training volumes leave some 0.15 to be learnt
        assert told["expected_encoding"] - 0.18 < np.mean(own) < told["expected_encoding"] + 0.03
        for area in range(3):  # other areas have other features
            for level in {0, 1, 2} - {area}:
                label = f"{network}/level{level + 1}"
                assert abs(float(score.sel(roi=movie.AREAS[area], layer=label))) < 0.3


def test_the_best_features_of_an_infinite_study_explain_the_share_that_truth_says():
    """Without noise a least-squares fit of each voxel on the layer has R² = its share."""
    options = SMALL | {"noise": 0.0, "n_volumes": 400}
    brain, networks = movie.load_brain(**options), movie.load_networks(**options)
    truth = {r["network"]: r for r in json.loads(brain.attrs["truth"])["means"]}
    node = brain["sub-01"].to_dataset()
    ids, y, _, _ = rc.average_repetitions(node["response"], "train")
    for network, told in truth.items():
        shares = []
        for a, area in enumerate(movie.AREAS):
            x = networks[f"{network}/level{a + 1}"]["activation"].sel(stimulus_id=ids).values
            x = np.concatenate([hrf.detrend(p, 4) for p in np.split(x, 4)])
            own = y[:, node["roi_mask"].sel(roi=area).values]
            left = own - x @ np.linalg.lstsq(x, own, rcond=None)[0]
            shares.append(1 - (left**2).mean() / (own**2).mean())
        assert abs(np.mean(shares) - told["share_of_region"]) < 0.05


def test_partition_gives_the_larger_network_its_own_share_and_the_smaller_none(closer):
    networks, brain = closer
    found = variance_partition(
        networks, brain, ("sim-alexnet", "sim-resnet50"), folds="contiguous", n_bootstrap=200
    )
    np.testing.assert_allclose(
        found["r2"].sel(part="unique_a") + found["r2"].sel(part="unique_b")
        + found["r2"].sel(part="shared"), found["r2"].sel(part="joint"),
    )  # fmt: skip
    mean = found["mean_r2"]
    assert (mean.sel(part="unique_b") > 0.05).all()
    assert (abs(mean.sel(part="unique_a")) < 0.05).all()
    # alexnet's shared variance over the joint one is its share of the region
    truth = {r["network"]: r for r in json.loads(brain.attrs["truth"])["means"]}
    share = float((mean.sel(part="shared") / mean.sel(part="joint")).mean())
    # with 400 training volumes the smaller space is learnt better: above it by some .1
    assert 0 < share - truth["sim-alexnet"]["share_of_region"] < 0.2
    voxels = found["voxel_r2"].sel(subject="sub-01").values
    mask = brain["sub-01"]["roi_mask"].values[1]
    np.testing.assert_allclose(voxels[:, mask].mean(axis=1), found["r2"].values[:, 0, 1])
    assert json.loads(found.attrs["levels"]) == {"stimuli": 20, "subjects": 2}
    low, high = found["ci"].values[..., 0], found["ci"].values[..., 1]
    assert (low < mean.values).all()
    assert (mean.values < high).all()
    # one subject alone: the same numbers, an interval over stimuli
    alone = variance_partition(
        networks, brain.filter(lambda n: n.name != "sub-02"), ("sim-alexnet", "sim-resnet50"),
        folds="contiguous", n_bootstrap=50, rois=["V4"],
    )  # fmt: skip
    np.testing.assert_allclose(alone["r2"].values[:, 0, 0], found["r2"].values[:, 0, 1], rtol=1e-6)
    assert json.loads(alone.attrs["sources"]) == ["stimuli"]
    with pytest.raises(ProtocolError, match="did you mean 'sim-alexnet'"):
        variance_partition(networks, brain, ("sim-alexnt", "sim-resnet50"))
    with pytest.raises(ProtocolError, match="two different networks"):
        variance_partition(networks, brain, ("sim-alexnet", "sim-alexnet"))
    with pytest.raises(ProtocolError, match="did you mean 'level1'"):
        variance_partition(networks, brain, ("sim-alexnet", "sim-resnet50"),
                           layers={"sim-alexnet": ["levl1"]})  # fmt: skip


def test_random_folds_of_the_partition_hold_whole_blocks_of_time():
    rng = np.random.default_rng(4)
    n, names = 90, np.array([f"t{i:03d}" for i in range(90)])
    block = np.array([f"b{i // 6:02d}" for i in range(n)])
    slow = ndimage.gaussian_filter1d(rng.standard_normal((n, 40)), 3, axis=0)
    noise = ndimage.gaussian_filter1d(rng.standard_normal((n, 25)), 3, axis=0)
    y = 0.3 * slow @ rng.standard_normal((40, 25)) + noise
    part = np.where(np.arange(n) < 60, "train", "test")
    brain = rc.responses(
        {"s": y}, stimulus_id=names, split=part, roi_mask={"V1": np.ones(25, bool)},
        presentation={"time_block": block},
    )  # fmt: skip
    networks = rc.activations({"a": {"l": slow}, "b": {"l": slow[:, :3]}}, stimulus_id=names)
    found = variance_partition(networks, brain, ("a", "b"), n_bootstrap=10, random_state=1)
    ours = found["voxel_r2"].sel(part="a", subject="s").values
    z = (slow - slow[:60].mean(axis=0)) / slow[:60].std(axis=0) / np.sqrt(40)

    def written_out(fold):
        """R² by scikit-learn's ridges, the penalty of each voxel by these folds."""
        grid = np.logspace(-3, 5, 10)
        error = np.zeros((len(grid), 25))
        for g, alpha in enumerate(grid):
            for label in np.unique(fold):
                held = fold == label
                fitted = Ridge(alpha=alpha).fit(z[:60][~held], y[:60][~held])
                error[g] += ((y[:60][held] - fitted.predict(z[:60][held])) ** 2).mean(axis=0)
        best = grid[error.argmin(axis=0)]
        predicted = Ridge(alpha=best).fit(z[:60], y[:60]).predict(z[60:])
        return r2_score(y[60:], predicted, multioutput="raw_values")

    blocks, member = np.unique(block[:60], return_inverse=True)
    whole = written_out(resample.folds(blocks, 5, 1)[member])
    torn = written_out(resample.folds(names[:60], 5, 1))
    assert (abs(whole - torn) > 0.01).sum() > 3  # points that neighbours predict choose otherwise
    np.testing.assert_allclose(ours, whole, rtol=1e-6)


def test_options_of_the_movie_that_make_no_sense():
    for options, message in (
        ({"preset": "close"}, "did you mean 'closer'"),
        ({"size": "big"}, "small, full"),
        ({"n_voxel": 3}, "did you mean 'n_voxels'"),
        ({"n_train": 1.5}, "n_train"),
        ({"n_volumes": 5}, "n_volumes must be 12"),
    ):
        with pytest.raises(ProtocolError, match=message):
            movie.load_brain(**options)


def test_segments_of_unequal_length_and_torn_ones():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((90, 3))
    tree = rc.activations({"n": {"l": values}}, stimulus_id=[f"f{i:02d}" for i in range(90)])
    segment = np.repeat(["b", "a"], [40, 50])
    made = frames.frames_to_volumes(tree, segment, 5.0, 2.0)["n/l"]
    assert made["stimulus_id"].values[[0, 3, 4, 8]].tolist() == [
        "b-0000", "b-0003", "a-0000", "a-0004",
    ]  # fmt: skip
    z = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    expected = hrf.to_volumes(z[40:], 5.0, 2.0)
    np.testing.assert_allclose(made["activation"].values[4:], expected)
    some = frames.frames_to_volumes(tree, segment, 5.0, 2.0, n_volumes={"b": 2, "a": 5})["n/l"]
    assert some.sizes["stimulus_id"] == 7
    with pytest.raises(LabelError, match="stand together"):
        frames.frames_to_volumes(tree, segment[::-1][np.r_[0:90:2, 1:90:2]], 5.0, 2.0)
    with pytest.raises(LabelError, match="90 frames, but 80"):
        frames.frames_to_volumes(tree, segment[:80], 5.0, 2.0)
    with pytest.raises(LabelError, match="training segment 'c'"):
        frames.frames_to_volumes(tree, segment, 5.0, 2.0, train=["c"])
    with pytest.raises(DataError, match="segment b: 90 volumes"):
        frames.frames_to_volumes(tree, segment, 5.0, 2.0, n_volumes=90)
    with pytest.raises(ProtocolError, match="spm, wen, none"):
        frames.frames_to_volumes(tree, segment, 5.0, 2.0, hrf="glover")
