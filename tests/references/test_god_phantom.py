"""A phantom in the files of the GOD study: bdpy reads what was written, scores stay the same."""

import json
from pathlib import Path

import numpy as np
import pytest

import rsacompare as rc
from rsacompare import pipeline
from rsacompare.datasets import god_phantom, phantom
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema import store
from rsacompare.study.protocol import InferenceOptions, load_study

STUDY = Path(__file__).parents[2] / "analyses" / "yu2018.toml"
ORDER = ["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA", "LVC", "HVC", "VC"]
FEW = {"size": "small", "n_subjects": 2, "n_train": 60, "n_test": 12, "n_repetitions": 3}
FEW["n_units"] = 48


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RSACOMPARE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "god_phantom"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return god_phantom.write(tmp_path_factory.mktemp("phantom") / "god", random_state=4, **FEW)


def test_bdpy_reads_every_value_of_a_subject(written):
    from bdpy.bdata import BData

    node = phantom.load_brain(random_state=4, **FEW)["sub-02"].to_dataset()
    judge = BData(str(written / "Subject2.h5"))
    np.testing.assert_array_equal(judge.select("VoxelData"), node["response"].values)
    for roi in ORDER:
        mask = node["roi_mask"].sel(roi=roi).values
        got = judge.select(f"ROI_{roi} = 1")
        np.testing.assert_array_equal(got, node["response"].values[:, mask])
    np.testing.assert_array_equal(
        judge.get_metadata("voxel_y", where="VoxelData"), node["voxel_y"].values
    )
    kinds = judge.select("DataType")[:, 0]
    np.testing.assert_array_equal(kinds, [1] * 60 + [2] * 36)
    label = judge.select("stimulus_id")[:, 0]
    assert label[0] == 90000001.000001
    # 60 training pictures are of eight synsets of (at most) eight, test pictures one of each
    np.testing.assert_array_equal(np.floor(label[:60]), 90_000_001 + np.arange(60) // 8)
    np.testing.assert_array_equal(np.floor(label[60:72]), 90_000_009 + np.arange(12))
    np.testing.assert_array_equal(label[60:72], label[72:84])
    np.testing.assert_array_equal(judge.select("Run")[:, 0], 1 + np.arange(96) // 50)


def test_bdpy_reads_every_value_of_the_features(written):
    from bdpy.bdata import BData

    layers = phantom.load_networks(random_state=4, **FEW)["sim-alexnet"]
    judge = BData(str(written / "ImageFeatures.h5"))
    for i in range(1, 9):
        want = layers[f"cnn{i}"]["activation"].values
        np.testing.assert_array_equal(judge.select(f"cnn{i}"), want)
    np.testing.assert_array_equal(judge.select("FeatureType")[:, 0], [1] * 60 + [2] * 12)
    shown = BData(str(written / "Subject1.h5")).select("stimulus_id")[:72, 0]
    np.testing.assert_array_equal(judge.select("ImageID")[:, 0], shown)
    np.testing.assert_array_equal(judge.select("CatID")[:, 0], np.floor(shown))


def test_scores_by_way_of_the_files_are_those_of_the_phantom_in_memory():
    brain = rc.load_dataset("yu2018", random_state=4, **FEW)
    networks = rc.load_activations("yu2018", random_state=4, **FEW)
    rois = ["V1", "VC"]
    found = rc.compare(networks, brain, ["decoding", "rsa"], rois=rois).scores["score"]
    plain = rc.compare(
        phantom.load_networks(random_state=4, **FEW),
        phantom.load_brain(random_state=4, **FEW),
        ["decoding", "rsa"],
        rois=rois,
    ).scores["score"]
    assert found["layer"].values.tolist() == plain["layer"].values.tolist()
    np.testing.assert_allclose(found.values, plain.values, rtol=0, atol=1e-12)
    assert plain.sel(metric="decoding").max() > 0.3
    assert brain.attrs["simulated"] == networks.attrs["simulated"] == 1
    truth = json.loads(brain.attrs["truth"])
    want = phantom.truth(random_state=4, **FEW)
    assert [row[0] for row in truth["rows"]] == want["network"].tolist()
    assert {leaf.attrs["note"] for leaf in networks.leaves} == {"simulated: not the real network"}


def test_a_phantom_is_written_once_per_choice(cache):
    rc.load_dataset("yu2018", **FEW)
    (first,) = cache.iterdir()
    before = {file.name: file.stat().st_mtime_ns for file in first.iterdir()}
    rc.load_activations("yu2018", **FEW)
    rc.load_dataset("yu2018", rois=["V1"], **FEW)
    assert [folder.name for folder in cache.iterdir()] == [first.name]
    assert {file.name: file.stat().st_mtime_ns for file in first.iterdir()} == before
    rc.load_dataset("yu2018", random_state=1, **FEW)
    assert len(list(cache.iterdir())) == 2


def test_a_phantom_is_written_whole_or_not_at_all(cache, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_netcdf", full)
        with pytest.raises(DataError, match="no space left on device"):
            rc.load_dataset("yu2018", **FEW)
    assert list(cache.iterdir()) == []
    rc.load_dataset("yu2018", **FEW)
    (whole,) = cache.iterdir()
    with pytest.raises(DataError, match="cannot be written"):
        god_phantom.write(whole, **FEW)  # it holds something: left as it is
    assert (whole / "resnet50.nc").is_file()
    assert list(cache.iterdir()) == [whole]


def test_with_a_path_it_is_the_real_study(tmp_path):
    """Real files differ from these in their values, and in that nothing says they are simulated."""
    sizes = {"size": "small", "n_subjects": 1, "n_train": 1200, "n_test": 50, "n_units": 48}
    folder = god_phantom.write(tmp_path / "god", **sizes, n_repetitions=1)
    (folder / "phantom.json").unlink()
    brain = rc.load_dataset("yu2018", path=str(folder), rois=["V1", "HVC"])
    networks = rc.load_activations("yu2018", path=str(folder))
    assert list(networks) == ["alexnet", "resnet50"]
    assert brain.attrs["simulated"] == networks.attrs["simulated"] == 0
    assert "truth" not in brain.attrs
    assert "Horikawa" in brain.attrs["title"]
    assert "MatConvNet" in networks["alexnet/cnn1"].attrs["note"]
    assert brain["Subject1"]["response"].dtype == np.float64
    assert list(json.loads(networks.attrs["inputs"])) == ["ImageFeatures.h5", "resnet50.nc"]
    (folder / "resnet50.nc").rename(tmp_path / "other.nc")
    same = rc.load_activations("yu2018", path=str(folder), resnet50=str(tmp_path / "other.nc"))
    np.testing.assert_array_equal(
        same["resnet50/conv1"]["activation"].values, networks["resnet50/conv1"]["activation"].values
    )
    with pytest.raises(DataError, match=r"rsacompare extract resnet50 IMAGES --layers yu2018"):
        rc.load_activations("yu2018", path=str(folder))
    with pytest.raises(ProtocolError, match="n_train says how to simulate, but path names"):
        rc.load_dataset("yu2018", path=str(folder), n_train=5)
    with pytest.raises(DataError, match=r"there is no .*nowhere; the files are at figshare"):
        rc.load_dataset("yu2018", path=str(tmp_path / "nowhere"))
    with pytest.raises(ProtocolError, match="unknown phantom option 'n_voxel'"):
        rc.load_dataset("yu2018", n_voxel=5)


def test_of_the_study_only_the_path_differs(written):
    study = load_study(STUDY)
    few = InferenceOptions(n_bootstrap=10, n_permutations=10, n_splits=1)
    scores = []
    for options in ({**FEW, "random_state": 4}, {"path": str(written)}):
        tables = {"god": study.brain["god"].model_copy(update={"options": options})}
        networks = {"god": study.networks["god"].model_copy(update={"options": options})}
        changed = {"brain": tables, "networks": networks, "inference": few}
        result = pipeline.run(study.model_copy(update=changed))
        scores.append(result["score"].values)
    np.testing.assert_array_equal(*scores)
    assert result["roi"].values.tolist() == ORDER
    rows = rc.tables(result)["contrasts"].query("pairing == 'ordinal'")
    pairs = rows[["layer_a", "layer_b"]].drop_duplicates().values.tolist()
    assert pairs[0] == ["cnn1", "conv1"]
    assert pairs[-1] == ["cnn8", "predictions"]
    assert len(rows) == 80
    assert set(rows["network_a"]) == {"sim-alexnet"}
