"""Maps per voxel: what they hold, where they are written, and for whom there are none."""

import json

import nibabel
import numpy as np
import pytest

import rsacompare as rc
from rsacompare.datasets import movie
from rsacompare.datasets.map_files import write_maps
from rsacompare.datasets.volumes import grid_of, to_nifti
from rsacompare.kernels import resample
from rsacompare.schema.results import iter_extras

OPTIONS = {"n_subjects": 2, "n_train": 6, "n_test": 2, "n_volumes": 60, "n_voxels": 31,
           "n_units": 20, "noise": 1.0}  # fmt: skip


@pytest.fixture(scope="module")
def study():
    networks, brain = movie.load_networks(**OPTIONS), movie.load_brain(**OPTIONS)
    metrics = {"enc": rc.metric("encoding", features="given", folds="contiguous"), "rsa": "rsa"}
    comparison = rc.compare(networks, brain, metrics)
    result = rc.infer(comparison, n_bootstrap=10, n_permutations=10, n_splits=1)
    return brain, comparison, result


def maps_of(result, subject):
    return {e["file"].split(f"_{subject}_")[1]: (e, roles) for e, roles in iter_extras(result)
            if e["kind"] == "map" and f"_{subject}_" in e["file"]}  # fmt: skip


def test_maps_hold_what_the_evidence_says(study):
    _, comparison, result = study
    found = maps_of(result, "sub-02")
    assert set(found) == {
        "ceiling", "sim-alexnet-minus-sim-resnet50",
        *(f"{n}_{w}" for n in ("sim-alexnet", "sim-resnet50")
          for w in ("score", "best-layer", "normalised")),
    }  # fmt: skip
    layers = [f"sim-resnet50/level{i}" for i in (1, 2, 3)]
    cells = {(c.roi, c.layer): comparison.evidence[c] for c in comparison.cells("enc")
             if c.subject == "sub-02"}  # fmt: skip
    full = np.stack([np.concatenate([cells[roi, x].profile for roi in movie.AREAS])
                     for x in layers])  # fmt: skip
    extra, roles = found["sim-resnet50_score"]
    np.testing.assert_allclose(roles["volumes"], full, rtol=1e-6)
    assert json.loads(extra["volume_names"]) == ["level1", "level2", "level3"]
    best = found["sim-resnet50_best-layer"][1]["values"]
    highest = np.where(full.max(axis=0) > 0, full.argmax(axis=0) + 1, np.nan)
    np.testing.assert_array_equal(best, highest)  # NaN where no layer is above 0
    # most voxels are best predicted by the level of their own area: the known answer
    assert np.mean(best == np.repeat([1, 2, 3], 31)) > 0.85
    # nested by brute force
    held = cells["V4", layers[1]]
    half = resample.halves(resample.stream(0, "map halves", held.stimulus_id),
                           len(held.stimulus_id), 2, None, held.block)  # fmt: skip
    expected = np.zeros(31)
    for part in (*half, *~half):

        def r(layer, rows, v):
            e = cells["V4", layer]
            return np.corrcoef(e.observed[rows, v], e.predicted[rows, v])[0, 1]

        for v in range(31):
            pick = max(layers, key=lambda x: r(x, part, v))
            expected[v] += r(pick, ~part, v) / 4
    np.testing.assert_allclose(roles["values"][31:62], expected, rtol=1e-5)
    roof = np.concatenate([cells[roi, layers[0]].target_ceiling() for roi in movie.AREAS])
    np.testing.assert_allclose(found["ceiling"][1]["values"], roof, rtol=1e-6)
    able = roof >= 0.1
    ratio = found["sim-resnet50_normalised"][1]["values"]
    np.testing.assert_allclose(ratio[able], roles["values"][able] / roof[able], rtol=1e-5)
    assert np.isnan(ratio[~able]).all()
    difference = found["sim-alexnet-minus-sim-resnet50"][1]["values"]
    np.testing.assert_allclose(
        difference, found["sim-alexnet_score"][1]["values"] - roles["values"], atol=1e-6
    )
    assert difference.mean() < -0.02  # sim-resnet50 is closer


def test_images_lie_on_the_subjects_grid(study, tmp_path):
    brain, _, result = study
    files = write_maps(result, tmp_path / "maps")
    assert len(files) == 2 * (8 + 2)
    image = nibabel.load(tmp_path / "maps" / "enc_sub-01_ceiling.nii.gz")
    _, roles = maps_of(result, "sub-01")["ceiling"]
    direct = to_nifti(roles["values"], brain["sub-01"])
    np.testing.assert_array_equal(image.get_fdata(), direct.get_fdata())
    np.testing.assert_array_equal(image.affine, direct.affine)
    assert np.isnan(image.get_fdata()).sum() == np.prod(image.shape) - 93
    layers = nibabel.load(tmp_path / "maps" / "enc_sub-01_sim-alexnet_score_layers.nii.gz")
    assert layers.shape == (*image.shape, 3)
    assert layers.header["descrip"].item() == b"level1; level2; level3"


def test_pages_show_the_first_subject_and_keep_the_others_as_files(study, tmp_path):
    _, _, result = study
    rc.report(result, tmp_path)
    page = (tmp_path / "enc.html").read_text(encoding="utf-8")
    assert "sim-alexnet − sim-resnet50, sub-01" in page
    assert "sim-alexnet − sim-resnet50, sub-02" not in page
    assert "noise ceiling, sub" not in (tmp_path / "rsa.html").read_text(encoding="utf-8")


def test_a_map_without_any_value_is_no_panel():
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(8)]  # four folds of two: a half of them leaves one in each
    ijk = np.stack(np.meshgrid(range(3), range(3), range(2), indexing="ij"), -1).reshape(-1, 3)
    place = {f"voxel_{axis}": 3.0 * ijk[:, i] for i, axis in enumerate("xyz")}
    brain = rc.responses(
        {"sub-01": rng.standard_normal((8, 18))}, stimulus_id=ids, neuroid=place, roi_mask=None
    )
    layers = {name: rng.standard_normal((8, 5)) for name in ("a", "b")}
    nets = rc.activations({"n": layers}, stimulus_id=ids)
    result = rc.infer(rc.compare(nets, brain, ["encoding"]), n_bootstrap=10, n_permutations=10)
    found = maps_of(result, "sub-01")
    for extra, roles in found.values():
        assert bool(extra["shown"]) == bool(np.isfinite(roles["values"]).any()), extra["title"]
    assert not found["n_score"][0]["shown"]
    assert found["n_best-layer"][0]["shown"]
    assert np.isfinite(found["n_score"][1]["volumes"]).any()  # the layers' own, in the file


def test_no_grid_no_maps_and_no_folder(study, tmp_path):
    brain, _, _ = study
    bare = rc.responses({"s": brain["sub-01"]["response"].values[:, :4]},
                        stimulus_id=brain["sub-01"]["stimulus_id"].values,
                        split=brain["sub-01"]["split"].values)  # fmt: skip
    comparison = rc.compare(movie.load_networks(**OPTIONS), bare, ["encoding"])
    assert [e for e in comparison.extras if e["kind"] == "map"] == []
    result = rc.infer(comparison, n_bootstrap=10, n_permutations=10, n_splits=1)
    assert write_maps(result, tmp_path / "maps") == []
    assert not (tmp_path / "maps").exists()


def test_millimetres_on_a_lattice_are_a_grid():
    rng = np.random.default_rng(0)
    ijk = np.argwhere(rng.random((5, 6, 4)) < 0.5)
    mm = ijk * [3.0, 2.0, 2.5] + [-40, -90.5, 3]

    def node(places):
        tree = rc.responses(
            {"s": rng.random((4, len(places)))},
            stimulus_id=list("abcd"),
            neuroid={f"voxel_{a}": places[:, i] for i, a in enumerate("xyz")},
        )
        return tree["s"]  # fmt: skip

    found, grid = grid_of(node(mm))
    np.testing.assert_array_equal(found, ijk - ijk.min(axis=0))
    world = np.c_[found, np.ones(len(found))] @ grid.affine.T
    np.testing.assert_allclose(world[:, :3], mm)
    assert grid_of(node(mm + rng.normal(0, 0.8, mm.shape))) is None
    assert grid_of(node(np.r_[mm, mm[:1]])) is None  # two voxels in one place
    mm[0, 0] = np.nan
    assert grid_of(node(mm)) is None
