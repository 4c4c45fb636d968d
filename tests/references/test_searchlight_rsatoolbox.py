"""Searchlight RSA against a loop over voxels with rsatoolbox, on haxby and on a tilted grid."""

import json
import os

import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import RDMs, calc_rdm, compare

import rsacompare as rc
from rsacompare.datasets.volumes import to_nifti
from rsacompare.errors import DataError, LabelError, ProtocolError

AFFINE = np.array([[2.0, 0.5, 0, -20], [-0.4, 3.0, 0.2, 5], [0, 0.1, 2.5, 7], [0, 0, 0, 1]])
needs_data = pytest.mark.skipif(
    not os.environ.get("RSACOMPARE_DATA"),
    reason="RSACOMPARE_DATA is not set: the published files are not here",
)


def volume(shape=(7, 6, 5), n=9, seed=0, repeats=2):
    rng = np.random.default_rng(seed)
    inside = rng.random(shape) < 0.8
    ijk = np.argwhere(inside)
    ids = np.tile([f"s{i}" for i in range(n)], repeats)
    y = rng.standard_normal((len(ids), len(ijk))) + 3
    masks = {"left": ijk[:, 0] < 4, "rest": ijk[:, 0] >= 3}
    tree = rc.responses({"p": y}, stimulus_id=ids, roi_mask=masks,
                        neuroid={axis: ijk[:, k] for k, axis in enumerate("ijk")})  # fmt: skip
    tree["p"].attrs |= {"affine": json.dumps(AFFINE.tolist()), "shape": json.dumps(list(shape))}
    layers = {"l0": rng.standard_normal((n, 6)), "l1": rng.standard_normal((n, 6))}
    nets = rc.activations({"net": layers}, stimulus_id=ids[:n])
    return nets, tree["p"], layers


def by_rsatoolbox(subject, layers, radius, distance, comparator, fewest, roi=None):
    """Score (layer, centre) and number of voxels, one sphere at a time."""
    data = subject.to_dataset()
    mask = data["roi_mask"].values.any(axis=0) if roi is None else data["roi_mask"].sel(roi=roi)
    ijk = np.stack([data[a].values for a in "ijk"], axis=1)[np.asarray(mask)]
    affine = np.array(json.loads(data.attrs["affine"]))
    mm = ijk @ affine[:3, :3].T + affine[:3, 3]
    ids = np.unique(data["stimulus_id"].values)
    y = data["response"].values[:, np.asarray(mask)].astype(float)
    mean = np.array([y[data["stimulus_id"].values == i].mean(axis=0) for i in ids])
    models = [calc_rdm(Dataset(x), method=distance).get_vectors()[0] for x in layers.values()]
    scores, counts = [], []
    for centre in mm:
        near = np.linalg.norm(mm - centre, axis=1) <= radius + 1e-9
        counts.append(near.sum())
        if near.sum() < fewest:
            scores.append([np.nan] * len(layers))
            continue
        rdm = calc_rdm(Dataset(mean[:, near]), method=distance)
        scores.append(compare(RDMs(np.array(models)), rdm, comparator)[:, 0])
    return np.array(scores).T, np.array(counts)


@pytest.mark.parametrize("roi", [None, "left"])
@pytest.mark.parametrize(
    ("distance", "comparator"), [("correlation", "spearman"), ("euclidean", "cosine_cov")]
)
def test_tilted_grid(distance, comparator, roi):
    nets, subject, layers = volume()
    found = rc.searchlight(
        nets, subject, 5.0, distance=distance, comparator=comparator, min_voxels=20, roi=roi
    )
    expected, counts = by_rsatoolbox(subject, layers, 5.0, distance, comparator, 20, roi)
    np.testing.assert_array_equal(found["n_voxels"], counts)
    np.testing.assert_allclose(found["score"], expected, atol=1e-10)
    assert 0.1 < np.isnan(expected).mean() < 0.9
    assert found["layer"].values.tolist() == ["net/l0", "net/l1"]


@needs_data
def test_haxby_and_back_to_the_scans_grid(tmp_path):
    subject = rc.load_dataset("haxby")["sub-01"]
    ids = np.unique(subject["stimulus_id"].values)
    layers = {"l": np.random.default_rng(0).standard_normal((len(ids), 9))}
    nets = rc.activations({"net": layers}, stimulus_id=ids)
    found = rc.searchlight(nets, subject, 7.5)
    expected, counts = by_rsatoolbox(subject, layers, 7.5, "correlation", "spearman", 10)
    np.testing.assert_array_equal(found["n_voxels"], counts)
    np.testing.assert_allclose(found["score"], expected, atol=1e-10)
    image = to_nifti(found["score"], found)
    image.to_filename(tmp_path / "map.nii.gz")
    import nibabel

    back = nibabel.load(tmp_path / "map.nii.gz")
    assert back.shape == (40, 20, 1, 1)
    place = tuple(found[a].values for a in "ijk")
    np.testing.assert_allclose(back.get_fdata()[..., 0][place], expected[0], atol=1e-6)
    np.testing.assert_allclose(back.affine, json.loads(subject.attrs["affine"]), rtol=1e-6)


def test_where_the_network_is_right_the_map_says_so():
    nets, subject, layers = volume(shape=(12, 6, 5), n=20, repeats=1)
    near = subject["i"].values < 5
    rng = np.random.default_rng(5)
    values = subject["response"].values
    values[:, near] += 4 * layers["l0"] @ rng.standard_normal((6, near.sum()))
    found = rc.searchlight(nets, subject, 5.0, distance="euclidean")["score"].sel(layer="net/l0")
    inside, outside = subject["i"].values < 3, subject["i"].values > 8
    assert np.nanmean(found[inside]) > 0.5
    assert abs(np.nanmean(found[outside])) < 0.2


def test_threads_blocks_and_network_rdms_change_nothing(monkeypatch):
    nets, subject, layers = volume()
    one = rc.searchlight(nets, subject, 5.0)
    monkeypatch.setattr("rsacompare.study.searchlight.BLOCK", 36 * 50)
    serial = rc.searchlight(nets, subject, 5.0)
    assert serial.identical(rc.searchlight(nets, subject, 5.0, n_jobs=2))
    np.testing.assert_allclose(serial["score"], one["score"], atol=1e-12)
    ids = np.unique(subject["stimulus_id"].values)
    rdms = {k: calc_rdm(Dataset(x), method="correlation").get_matrices()[0]
            for k, x in layers.items()}  # fmt: skip
    given = rc.searchlight(rc.rdms({"net": rdms}, stimulus_id=ids, of="network"), subject, 5.0)
    np.testing.assert_allclose(given["score"], one["score"], atol=1e-12)


def test_test_split_and_a_constant_pattern():
    nets, subject, _ = volume()
    data = subject.to_dataset().copy(deep=True)
    data["split"] = ("presentation", ["train"] * 9 + ["test"] * 9)
    found = rc.searchlight(nets, data, 5.0)
    alone = rc.searchlight(nets, data.isel(presentation=slice(9, None)), 5.0)
    np.testing.assert_array_equal(found["score"], alone["score"])
    corner = np.flatnonzero(data["i"].values < 3)
    data["response"].values[9, corner] = 1.5  # one stimulus, constant over some spheres
    holes = rc.searchlight(nets, data, 2.6, min_voxels=2)
    spheres = holes["n_voxels"].values >= 2
    lost = np.isnan(holes["score"].values[0])
    assert lost[spheres & (data["i"].values < 2)].all()
    assert not lost[spheres & (data["i"].values > 4)].any()


def test_bad_input():
    nets, subject, _ = volume()
    with pytest.raises(
        DataError, match=r"no sphere of 1 mm holds 10 voxels, at most 1; take a lar"
    ):
        rc.searchlight(nets, subject, 1.0)
    with pytest.raises(ProtocolError, match="unknown searchlight distance 'crossnob'"):
        rc.searchlight(nets, subject, distance="crossnob")
    with pytest.raises(ProtocolError, match="did you mean 'spearman'"):
        rc.searchlight(nets, subject, comparator="spearmen")
    with pytest.raises(ProtocolError, match="unknown ROI 'lefft'; did you mean 'left'"):
        rc.searchlight(nets, subject, roi="lefft")
    with pytest.raises(ProtocolError, match="radius_mm=0"):
        rc.searchlight(nets, subject, 0)
    plain = subject.to_dataset().drop_attrs()
    with pytest.raises(DataError, match="needs the places of the voxels"):
        rc.searchlight(nets, plain)
    with pytest.raises(DataError, match="2 stimuli"):
        rc.searchlight(nets, subject.to_dataset().isel(presentation=[0, 1]))
    few = rc.activations({"net": {"l": np.eye(3)}}, stimulus_id=["s0", "s1", "s2"])
    with pytest.raises(LabelError, match="'s3'"):
        rc.searchlight(few, subject)


@pytest.mark.parametrize(("distance", "noise"), [("crossnobis", "shrinkage_diag"),
                                                 ("mahalanobis", "diag")])  # fmt: skip
def test_distances_with_noise_are_those_of_the_metric_in_every_sphere(distance, noise):
    nets, subject, _ = volume(repeats=3)
    data = subject.to_dataset()
    mm = np.stack([data[a].values for a in "ijk"], axis=1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    found = rc.searchlight(nets, subject, 4.0, distance=distance, noise=noise,
                           comparator="cosine", min_voxels=8)  # fmt: skip
    alive = np.flatnonzero(np.isfinite(found["score"].values[0]))
    assert len(alive) > 40
    for centre in alive[::40]:
        near = np.linalg.norm(mm - mm[centre], axis=1) <= 4 + 1e-9
        sphere = rc.responses({"p": data["response"].values[:, near]},
                              stimulus_id=data["stimulus_id"].values)  # fmt: skip
        metric = rc.metric("rsa", distance=distance, noise=noise, comparator="cosine")
        scores = rc.compare(nets, sphere, {"m": metric}).scores["score"].squeeze()
        np.testing.assert_allclose(found["score"].values[:, centre], scores, atol=1e-12)


def test_noise_that_cannot_be_had():
    nets, subject, _ = volume(repeats=1)
    with pytest.raises(ProtocolError, match="shown once"):
        rc.searchlight(nets, subject, 4.0, distance="mahalanobis", min_voxels=2)
    with pytest.raises(ProtocolError, match="did you mean 'diag'"):
        rc.searchlight(nets, subject, distance="mahalanobis", noise="diga")
    nets, subject, _ = volume(repeats=2)
    with pytest.raises(ProtocolError, match="without one of the 2 levels"):
        rc.searchlight(nets, subject, 6.0, distance="crossnobis", min_voxels=20)
    nets, subject, _ = volume(repeats=3)  # 9 degrees of freedom for more voxels: singular
    with pytest.raises(DataError, match="no sphere"):
        rc.searchlight(nets, subject, 6.0, distance="crossnobis", noise="full", min_voxels=20)
