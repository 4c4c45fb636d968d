"""Noise covariances, mahalanobis and crossnobis distances against rsatoolbox, and bad input."""

import os

import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.data.noise import (
    cov_from_residuals,
    cov_from_unbalanced,
    prec_from_residuals,
    prec_from_unbalanced,
)
from rsatoolbox.rdm import RDMs, calc_rdm, compare

import rsacompare as rc
from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import correlate, dissimilarity, noise
from rsacompare.metrics.rsa import RSA

N, VOXELS, RUNS = 7, 9, 4
IDS = np.array([f"s{i}" for i in range(N)])
needs_data = pytest.mark.skipif(
    not os.environ.get("RSACOMPARE_DATA"),
    reason="RSACOMPARE_DATA is not set: the published files are not here",
)


def measured(seed=0, voxels=VOXELS, runs=RUNS):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((voxels, voxels)) + 2 * np.eye(voxels)
    signal = rng.standard_normal((N, voxels))
    y = np.concatenate([signal + rng.standard_normal((N, voxels)) @ mixing for _ in range(runs)])
    return y + 5, np.tile(IDS, runs), np.repeat(np.arange(runs), N)


def dataset(y, ids, run=None):
    """For rsatoolbox, which casts NaN to the type of a descriptor: numbers that can be NaN."""
    named = {"stimulus": np.searchsorted(IDS, ids).astype(float)}
    return Dataset(y, obs_descriptors=named | ({} if run is None else {"run": run.astype(float)}))


def region(y, ids, **options):
    tree = rc.responses({"s1": y}, stimulus_id=ids, roi_mask={"V1": np.ones(y.shape[1], bool)},
                        **options)  # fmt: skip
    return tree["s1"]["response"].assign_attrs(subject="s1", roi="V1")


@pytest.mark.parametrize("rows", [60, 12])  # fewer rows than voxels, for the shrunk ones
@pytest.mark.parametrize("method", tuple(noise.NOISE))
def test_covariance_of_residuals(method, rows):
    x = np.random.default_rng(1).standard_normal((rows, 15)) @ np.diag(np.arange(1, 16.0)) + 3
    x[:, 3] += x[:, 2]
    for dof in (None, rows - 5):
        theirs = cov_from_residuals(x, dof=dof, method=method)
        np.testing.assert_allclose(noise.covariance(x, method, dof), theirs, atol=1e-10)
    if rows > 15 or method != "full":
        cov = noise.covariance(x, method)
        white = noise.whiten(x, cov)
        expected = x @ prec_from_residuals(x, method=method) @ x.T
        np.testing.assert_allclose(white @ white.T, expected, rtol=1e-10, atol=1e-10)


def without_own_fold(y, ids, run, method="shrinkage_diag"):
    """Crossnobis by its formula, K = x_a Σ⁻¹ x_b': Σ by rsatoolbox, from runs other than a's."""
    run = run.astype(str)
    names, levels = np.unique(ids), np.unique(run)
    mean = {(i, r): y[(ids == i) & (run == r)].mean(axis=0)
            for i in names for r in levels if ((ids == i) & (run == r)).any()}  # fmt: skip
    precision = {}
    n_blocks = min(5, len(levels))
    for place, r in enumerate(levels):
        rest = np.searchsorted(levels, run) % n_blocks != place % n_blocks
        data = Dataset(y[rest], obs_descriptors={"stimulus": np.searchsorted(names, ids[rest])})
        precision[r] = prec_from_unbalanced(data, "stimulus", method=method)
    found = []
    for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
        d = {r: mean[names[i], r] - mean[names[j], r]
             for r in levels if {(names[i], r), (names[j], r)} <= set(mean)}  # fmt: skip
        found.append(np.mean([d[a] @ precision[a] @ d[b] for a in d for b in d if a != b]))
    return np.array(found) / y.shape[1]


@pytest.mark.parametrize("method", tuple(noise.NOISE))
@pytest.mark.parametrize("distance", ["mahalanobis", "crossnobis"])
def test_metric_with_noise_from_repetitions(distance, method):
    y, ids, run = measured(runs=7)
    order = np.random.default_rng(2).permutation(len(y))
    made = RSA(distance=distance, noise=method, folds="run").prepare_response(
        region(y[order], ids[order], presentation={"run": run[order]})
    )
    if distance == "crossnobis":
        theirs = without_own_fold(y, ids, run, method)
    else:
        data = dataset(y, ids, run)
        precision = prec_from_unbalanced(data, "stimulus", method=method)
        theirs = calc_rdm(data, distance, descriptor="stimulus", noise=precision).get_vectors()[0]
    np.testing.assert_allclose(made.vector, theirs, rtol=1e-9, atol=1e-10)
    assert made.stimulus_id.tolist() == sorted(IDS)


def correlated_noise(seed, n=12, voxels=20, repeats=3):
    """Nothing but noise, alike in all voxels: what a covariance of few rows fits best."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n * repeats, voxels)) + rng.standard_normal((n * repeats, 1))
    return y, np.tile([f"s{i:02d}" for i in range(n)], repeats)


@pytest.mark.parametrize("method", [*noise.NOISE, "none"])
def test_crossnobis_of_nothing_is_zero_on_average(method):
    """Also where the noise covariance comes from the same repetitions."""
    repeats = 4 if method == "full" else 3  # 24 degrees of freedom without one of them
    metric = RSA(distance="crossnobis", noise=method)
    found = np.array([
        metric.prepare_response(region(*correlated_noise(seed, repeats=repeats))).vector.mean()
        for seed in range(60)
    ])  # fmt: skip
    assert abs(found.mean()) < 4 * found.std(ddof=1) / np.sqrt(len(found))


def test_cosines_of_crossnobis_with_nothing_are_zero_whatever_the_network():
    """A flat RDM would profit most from distances that are all too large."""
    rng = np.random.default_rng(0)
    metric = RSA(distance="crossnobis", comparator="cosine")
    ids = [f"s{i:02d}" for i in range(12)]
    layers = {"flat": rng.standard_normal((12, 60)), "spiky": rng.standard_normal((12, 2))}
    ready = [
        metric.prepare_activation(layer["activation"])
        for layer in rc.activations({"net": layers}, stimulus_id=ids)["net"].children.values()
    ]
    found = []
    for seed in range(60):
        brain = metric.prepare_response(region(*correlated_noise(seed)))
        found.append([float(metric.compare(layer, brain).score()) for layer in ready])
    mean, se = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(mean) < 4 * se).all()


def test_two_repetitions_leave_no_noise_to_whiten_either_by():
    y, ids, run = measured(runs=2)
    with pytest.raises(ProtocolError, match=r"without one of the 2 levels.*noise='none'"):
        RSA(distance="crossnobis").prepare_response(region(y, ids))
    assert np.isfinite(RSA(distance="mahalanobis").prepare_response(region(y, ids)).vector).all()
    plain = RSA(distance="crossnobis", noise="none").prepare_response(region(y, ids))
    theirs = calc_rdm(dataset(y, ids, run), "crossnobis", descriptor="stimulus",
                      noise=np.eye(VOXELS), cv_descriptor="run")  # fmt: skip
    np.testing.assert_allclose(plain.vector, theirs.get_vectors()[0], atol=1e-10)


@pytest.mark.parametrize("distance", ["mahalanobis", "crossnobis"])
def test_metric_with_given_residuals(distance):
    y, ids, run = measured()
    left = np.random.default_rng(3).standard_normal((200, VOXELS)) * np.arange(1, VOXELS + 1)
    masks = {"all": np.ones(VOXELS, bool), "V1": np.ones(VOXELS, bool)}
    tree = rc.responses({"s1": left}, stimulus_id=["rest"] * 200, roi_mask=masks)
    metric = RSA(distance=distance, residuals=tree, residual_dof=190, noise="full")
    made = metric.prepare_response(region(y, ids))
    data = dataset(y, ids, run)
    precision = prec_from_residuals(left, dof=190, method="full")
    options = {"cv_descriptor": "run"} if distance == "crossnobis" else {}
    theirs = calc_rdm(data, distance, descriptor="stimulus", noise=precision, **options)
    np.testing.assert_allclose(made.vector, theirs.get_vectors()[0], rtol=1e-10, atol=1e-10)
    other = rc.responses({"s1": 2 * left}, stimulus_id=["rest"] * 200, roi_mask=masks)
    assert metric.config() != RSA(distance=distance, residuals=other, noise="full").config()
    with pytest.raises(ProtocolError, match="no residuals of 's2'"):
        metric.prepare_response(region(y, ids).assign_attrs(subject="s2"))
    with pytest.raises(ProtocolError, match="know no ROI 'V9'"):
        metric.prepare_response(region(y, ids).assign_attrs(roi="V9"))


def test_unbalanced_repetitions():
    """A stimulus that some folds lack: the mean over the pairs of folds that have both."""
    y, ids, run = measured()
    keep = np.ones(len(y), bool)
    keep[[1, 2, N + 3, 3 * N + 4]] = False
    y, ids, run = y[keep], ids[keep], run[keep]
    made = RSA(distance="crossnobis", folds="run").prepare_response(
        region(y, ids, presentation={"run": run})
    )
    np.testing.assert_allclose(made.vector, without_own_fold(y, ids, run), atol=1e-10)


@pytest.mark.parametrize("comparator", tuple(correlate.COMPARATORS))
def test_comparators_take_negative_distances_as_they_are(comparator):
    y, ids, _ = measured(4)
    x = np.random.default_rng(5).standard_normal((N, 6))
    metric = RSA(distance="crossnobis", comparator=comparator)
    layer = rc.activations({"net": {"l1": x}}, stimulus_id=IDS)["net/l1"]["activation"]
    made = metric.compare(metric.prepare_activation(layer), metric.prepare_response(region(y, ids)))
    assert (made.brain < 0).any()
    assert (made.network >= 0).all()
    theirs = compare(RDMs(made.network[None]), RDMs(made.brain[None]),
                     {"kendall": "tau-b"}.get(comparator, comparator))  # fmt: skip
    assert float(made.score()) == pytest.approx(theirs[0, 0], abs=1e-10)
    np.testing.assert_allclose(made.network, dissimilarity.euclidean(x), atol=1e-14)


def test_crossnobis_is_unbiased_where_mahalanobis_is_not():
    rng = np.random.default_rng(6)
    noise_only = rng.standard_normal((4000, 3, 2, 5))
    crossed = np.array([dissimilarity.crossvalidated(x) for x in noise_only])
    plain = np.array([dissimilarity.euclidean(x.mean(axis=0)) for x in noise_only])
    se = crossed.std(axis=0)[0] / np.sqrt(len(crossed))
    assert abs(crossed.mean()) < 4 * se
    assert plain.mean() == pytest.approx(2 / 3, abs=0.03)  # 2 sigma² / folds
    assert 0.4 < (crossed < 0).mean() < 0.65


def test_covariance_of_repetitions_is_rsatoolbox_unbalanced():
    y, ids, _ = measured()
    data = dataset(y, ids)
    mean = np.array([y[ids == i].mean(axis=0) for i in ids])
    ours = noise.covariance(y - mean, "shrinkage_eye", len(y) - N)
    theirs = cov_from_unbalanced(data, "stimulus", method="shrinkage_eye")
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_one_repetition_has_neither_noise_nor_folds():
    y, ids, _ = measured(runs=1)
    with pytest.raises(ProtocolError, match="every stimulus was shown once"):
        RSA(distance="mahalanobis").prepare_response(region(y, ids))
    with pytest.raises(ProtocolError, match=r"7 of 7 stimuli stand in a single level of 'rep"):
        RSA(distance="crossnobis", noise="none").prepare_response(region(y, ids))
    y, ids, run = measured()
    with pytest.raises(ProtocolError, match="no coordinate 'runs' to take folds from; there are"):
        RSA(distance="crossnobis", folds="runs").prepare_response(
            region(y, ids, presentation={"run": run})
        )
    more = np.r_[y, y[:1]], np.r_[ids, ["lonely"]]
    with pytest.raises(ProtocolError, match=r"1 of 8 stimuli .* 'lonely'"):
        RSA(distance="crossnobis").prepare_response(region(*more))


def test_singular_noise_is_told_with_what_to_do():
    y, ids, _ = measured()
    twin = np.c_[y, y[:, 0]]
    with pytest.raises(DataError, match=r"10 channels is singular.*shrinkage_diag"):
        RSA(distance="mahalanobis", noise="full").prepare_response(region(twin, ids))
    shrunk = RSA(distance="mahalanobis").prepare_response(region(twin, ids))
    assert np.isfinite(shrunk.vector).all()
    silent = y.copy()
    silent[:, 2] = 4.0
    with pytest.raises(DataError, match=r"1 of 9 channels have no noise at all; leave them out$"):
        RSA(distance="crossnobis").prepare_response(region(silent, ids))
    wide, ids, _ = measured(voxels=40)
    with pytest.raises(DataError, match="40 channels is singular"):
        RSA(distance="crossnobis", noise="full").prepare_response(region(wide, ids))


def test_one_voxel_and_two_stimuli():
    y, ids, run = measured()
    with pytest.raises(DataError, match="constant over all 1 units or voxels"):
        RSA().prepare_response(region(y[:, :1], ids))
    made = RSA(distance="crossnobis").prepare_response(region(y[:, :1], ids))
    theirs = without_own_fold(y[:, :1], ids, run, "full")
    np.testing.assert_allclose(made.vector, theirs, rtol=1e-10)
    few = np.isin(ids, IDS[:2])
    with pytest.raises(DataError, match="2 stimuli"):
        RSA(distance="crossnobis").prepare_response(region(y[few], ids[few]))
    with pytest.raises(DataError, match="NaN or infinite"):
        RSA(distance="crossnobis").prepare_response(region(y, ids) * np.nan)


@pytest.mark.parametrize(
    ("option", "says"), [("noise", "unknown noise 'shrink'"), ("distance", "unknown distance")]
)
def test_unknown_options(option, says):
    with pytest.raises(ProtocolError, match=says):
        RSA(**{option: "shrink"})


def test_meaning_says_what_was_done():
    sentence = RSA(distance="crossnobis", folds="run").meaning.sentence
    assert "negative values kept" in sentence
    assert "'run'" in sentence
    assert "Schäfer" in sentence
    assert "Walther" in RSA(distance="mahalanobis").meaning.citations[-1]


@needs_data
def test_crossnobis_over_the_runs_of_haxby():
    node = rc.load_dataset("haxby")["sub-01"]
    response = node["response"].assign_attrs(subject="sub-01", roi="brain")
    made = RSA(distance="crossnobis", folds="run").prepare_response(response)
    y = response.values.astype(float)
    theirs = without_own_fold(y, response["stimulus_id"].values, response["run"].values)
    np.testing.assert_allclose(made.vector, theirs, rtol=1e-8, atol=1e-10)
    square = np.zeros((8, 8))
    square[np.triu_indices(8, 1)] = made.vector
    square += square.T
    names = made.stimulus_id.tolist()
    assert (made.vector > 0).all()  # 88 of 96 blocks can be told apart
    assert square[names.index("house"), names.index("face")] > np.median(made.vector)
