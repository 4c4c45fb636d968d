"""Voxel data by study file: what works from Python works from the command line."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import rsacompare as rc
from rsacompare import pipeline
from rsacompare.cli import app
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema import checks

TABLES = Path(os.environ.get("RSACOMPARE_DATA", "/nowhere")) / "god"
pytestmark = pytest.mark.skipif(not TABLES.is_dir(), reason="the GOD tables are not at hand")
N_VOXELS, N_ELSEWHERE = 24, 600

STUDY = """
name = "god"
rois = ["V1"]
[brain.god]
options = { path = "god" }
[networks.god_features]
options = { path = "god", layers = ["cnn1", "cnn8"] }
[metrics.rsa]
[inference]
n_bootstrap = 20
n_permutations = 20
"""
WITHOUT_THE_20 = """
[brain.fresh]
source = "god"
[brain.fresh.options]
path = "god"
test_images = "not_in_ilsvrc"
rois = { "V1, not in ILSVRC" = "V1" }
"""


def labels(name):
    return [float(line.split("\t")[1]) for line in (TABLES / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_bdata):
    """Two subjects and two layers on the real pictures; responses follow the layer `cnn1`."""
    home = tmp_path_factory.mktemp("home")
    (home / "god").mkdir()
    train, test = labels("stimulus_ImageNetTraining.tsv"), labels("stimulus_ImageNetTest.tsv")
    imagined = labels("category_GODImagery.tsv")
    rng = np.random.default_rng(0)
    image = np.array(train + test)
    cnn1 = rng.standard_normal((1250, 6))
    features = {"cnn1": cnn1, "cnn8": rng.standard_normal((1250, 5))}
    columns = {"FeatureType": np.repeat([1, 2], [1200, 50]), "CatID": np.floor(image)}
    write_bdata(home / "god" / "ImageFeatures.h5", columns | {"ImageID": image} | features)
    shown = np.r_[np.arange(1200), np.tile(np.arange(1200, 1250), 2)]
    label = np.r_[image[shown], imagined]
    for subject in (1, 2):
        signal = cnn1[shown] @ rng.standard_normal((6, N_VOXELS))
        signal = np.r_[signal, rng.standard_normal((50, N_VOXELS))]
        rest = rng.standard_normal((len(label), N_ELSEWHERE))
        data = np.c_[signal + 0.5 * rng.standard_normal(signal.shape), rest]
        marks = {
            "ROI_V1": np.arange(data.shape[1]) < N_VOXELS,
            "ROI_VC": np.ones(data.shape[1]),
        }
        held = {
            "VoxelData": data,
            "DataType": np.repeat([1, 2, 3], [1200, 100, 50]),
            "Run": np.r_[1 + np.arange(1200) // 50, np.repeat([25, 26], 50), np.full(50, 27)],
            "stimulus_id": label,
        }
        write_bdata(home / "god" / f"Subject{subject}.h5", held, marks)
    return home


@pytest.fixture
def write_study(folder):
    def write(text, name="STUDY.toml"):
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return write


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_study_reads_the_voxels_of_its_rois_only(write_study):
    """As from Python: the other 600 voxels of each subject (6.5 MB) are not held."""
    file = write_study(STUDY)
    pipeline.run(file)  # what is loaded once, modules and caches
    tracemalloc.start()
    pipeline.run(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    checked = pipeline.check_source(str(file))
    assert checked["roi"].values.tolist() == ["V1"]
    assert checked["n_voxels"].values.ravel().tolist() == [N_VOXELS] * 2
    of_others = 2 * 1350 * N_ELSEWHERE * 8
    assert peak < of_others / 2


def test_rois_of_a_study_reach_the_loader_when_there_is_one_data_set(write_study, monkeypatch):
    from rsacompare.datasets import god

    seen, real = [], god.read
    monkeypatch.setattr(god, "read", lambda *a: seen.append(a[3]) or real(*a))
    pipeline.run(write_study(STUDY))
    assert seen == [["V1"]] * 2
    seen.clear()
    pipeline.run(write_study(STUDY.replace('rois = ["V1"]\n', "") + WITHOUT_THE_20))
    assert seen == [None] * 2 + [{"V1, not in ILSVRC": "V1"}] * 2


def test_results_with_and_without_the_images_that_networks_know(write_study, folder, tmp_path):
    """One study, two ROIs: scores of 50 and of 30 images, each as from Python alone."""
    text = STUDY.replace('rois = ["V1"]', 'rois = ["V1", "V1, not in ILSVRC"]') + WITHOUT_THE_20
    result = call("run", write_study(text), "--out", tmp_path, "--quiet")
    assert result.exit_code == 0, result.output
    rows = rc.tables(rc.load_result(tmp_path / "results.nc"))["scores"]
    acts = rc.load_activations("god_features", path=str(folder / "god"), layers=["cnn1", "cnn8"])
    for roi, images, prefix in (
        ("V1", "all", "god"),
        ("V1, not in ILSVRC", "not_in_ilsvrc", "fresh"),
    ):
        brain = rc.load_dataset(
            "god", path=str(folder / "god"), rois={roi: "V1"}, test_images=images
        )
        alone = rc.compare(acts, brain, ["rsa"]).scores["score"].squeeze(["metric", "roi"])
        ours = rows[(rows["roi"] == roi) & rows["score"].notna()].sort_values(["subject", "layer"])
        assert set(ours["subject"]) == {f"{prefix}.Subject1", f"{prefix}.Subject2"}
        np.testing.assert_array_equal(
            ours["score"], alone.transpose("subject", "layer").values.ravel()
        )
    by_roi = rows.dropna(subset="score").query("layer == 'cnn1'").groupby("roi")["score"].mean()
    assert by_roi.nunique() == 2
    assert (by_roi > 0.5).all()


def test_nobody_counts_twice(write_study):
    twice = STUDY + WITHOUT_THE_20.replace("V1, not in ILSVRC", "V1")
    file = write_study(twice)
    with pytest.raises(ProtocolError, match=r"god and fresh are of the same files.*'V1'.*twice"):
        pipeline.run(file)
    checked = call("check", file)
    assert checked.exit_code == 1
    assert "would count twice" in checked.stdout.replace("\n", " ")


def test_files_are_found_among_the_downloads(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("RSACOMPARE_CACHE", str(folder))
    for offline in (None, str(tmp_path)):
        monkeypatch.delenv("RSACOMPARE_DATA", raising=False)
        if offline:
            monkeypatch.setenv("RSACOMPARE_DATA", offline)
        assert list(rc.load_dataset("god", rois="V1")) == ["Subject1", "Subject2"]
        result = call("check", "god", "--option", "rois=V1", "-a", "god_features")
        assert result.exit_code == 0, result.output
        assert "god_alexnet" in result.stdout
        assert "depth 1.00  5 units" in call("list", "layers", "god_features").stdout
    monkeypatch.setenv("RSACOMPARE_CACHE", str(tmp_path))
    monkeypatch.delenv("RSACOMPARE_DATA")
    for command in (("check", "god"), ("list", "layers", "god_features")):
        refused = call(*command)
        assert refused.exit_code == 1
        assert "give path=" in refused.stderr
        assert "rsacompare fetch god" in refused.stderr


def test_the_family_says_which_download_is_meant(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("RSACOMPARE_DATA", raising=False)
    monkeypatch.setenv("RSACOMPARE_CACHE", str(tmp_path))
    for name in ("god", "god_fmriprep"):
        (tmp_path / name).mkdir()
    source = (folder / "god" / "Subject1.h5").read_bytes()
    (tmp_path / "god" / "Subject1.h5").write_bytes(source)
    (tmp_path / "god_fmriprep" / "Subject1_Imagery.h5").write_bytes(source)
    assert rc.load_dataset("god", rois="V1").attrs["family"] == "spm"
    with pytest.raises(DataError, match=r"god_fmriprep.Subject1_Imagery\.h5.*another DataType"):
        rc.load_dataset("god", rois="V1", family="fmriprep")
    (tmp_path / "god" / "Subject1.h5").unlink()
    with pytest.raises(DataError, match=r"god_fmriprep.Subject1_Imagery\.h5"):
        rc.load_dataset("god", rois="V1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nifti"], "needs the option 'betas' and 'labels'"),
        (["check", "god", "--option", "pth=x"], "did you mean 'path'?"),
        (["check", "god", "--option", "rois=3"], "option 'rois' of data set god"),
        (["check", "FOLDER/god/Subject1.h5"], "is a BData file"),
        (["list", "layers", "FOLDER/god/ImageFeatures.h5"], "'god_features' for ImageFeatures.h5"),
    ],
)
def test_wrong_use_of_a_loader_is_one_clean_line(folder, arguments, said):
    result = call(*[a.replace("FOLDER", str(folder)) for a in arguments])
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_of_rdms_takes_its_options_from_the_command_line(tmp_path):
    ids = [f"p{i}" for i in range(6)]
    distance = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    np.savez(tmp_path / "d.npz", rdm=distance, stimulus_id=ids)
    out = tmp_path / "out"
    result = call("check", tmp_path / "d.npz", "--option", "roi=behaviour", "--out", out)
    assert result.exit_code == 0, result.output
    assert checks.load_check(out)["roi"].values.tolist() == ["behaviour"]
    refused = call("check", tmp_path / "d.npz", "--option", "rio=behaviour")
    assert refused.exit_code == 1
    assert "did you mean 'roi'?" in refused.stderr


def test_a_pattern_without_correlation_distance_is_told_before_the_run():
    rng = np.random.default_rng(0)
    ids = [f"p{i}" for i in range(12)]
    dead = np.abs(rng.standard_normal((12, 4)))
    dead[[2, 5]] = 0.0
    acts = rc.activations({"net": {"a": rng.standard_normal((12, 4)), "b": dead}}, stimulus_id=ids)
    brain = rc.responses({"s": rng.standard_normal((12, 8))}, stimulus_id=ids)
    found = [f for f in json.loads(rc.check(brain, acts).attrs["findings"]) if f["where"] == "net"]
    told = [f for f in found if "would stop" in f["sentence"]]
    assert [f["level"] for f in told] == ["warning"]
    assert "b: 'p2', 'p5'" in told[0]["sentence"]
    euclidean = rc.check(brain, acts, rsa=rc.metric("rsa", distance="euclidean"))
    assert "would stop" not in euclidean.attrs["findings"]
    # a stimulus that is not scored does not matter
    few = rc.responses(
        {"s": rng.standard_normal((4, 8))}, stimulus_id=[ids[k] for k in (0, 1, 3, 4)]
    )
    assert "would stop" not in rc.check(few, acts).attrs["findings"]
