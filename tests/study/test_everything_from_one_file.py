"""Issue 6 from one study file: runs, goes on, writes its files; values are those of Python."""

import json

import numpy as np
import pandas as pd
import pytest

import rsacompare as rc
from rsacompare.study import beside

STUDY = """
name = "all"
random_state = 3
rois = ["V1", "LOC"]
[brain.phantom]
options = { n_subjects = 3 }
[networks.phantom]
options = { n_subjects = 3 }
[metrics.ard]
type = "decoding"
estimator = "ard"
rules = "mackay"
n_iter = 20
n_units = 6
[metrics.identification]
type = "decoding"
score = "pairwise"
[metrics.components]
type = "encoding"
features = "components"
[metrics.crossnobis]
type = "rsa"
distance = "crossnobis"
comparator = "cosine"
[metrics.flexible]
type = "rsa"
distance = "crossnobis"
comparator = "cosine"
combine = "nonnegative"
[metrics.cka]
[metrics.pcm]
[partition]
folds = "contiguous"
components = 0.9
layers = { sim-alexnet = ["cnn1", "cnn5"], sim-resnet50 = ["conv1"] }
[searchlight]
radius_mm = 6
min_voxels = 5
subjects = ["sub-02"]
layers = { sim-alexnet = ["cnn1"] }
[inference]
contrast = ["sim-alexnet", "sim-resnet50"]
n_bootstrap = 30
n_permutations = 30
n_splits = 1
"""
LAYERS = {"sim-alexnet": ["cnn1", "cnn5"], "sim-resnet50": ["conv1"]}


@pytest.mark.slow
def test_one_file_runs_goes_on_and_equals_the_python_calls(tmp_path, monkeypatch):
    file, out = tmp_path / "all.toml", tmp_path / "out"
    file.write_text(STUDY)
    result = rc.run(file, out)

    options = dict(n_subjects=3, random_state=3)
    brain = rc.load_dataset("phantom", **options)
    nets = rc.load_activations("phantom", **options)
    metrics = {
        "ard": rc.metric("decoding", estimator="ard", rules="mackay", n_iter=20, n_units=6),
        "identification": rc.metric("decoding", score="pairwise"),
        "components": rc.metric("encoding", features="components"),
        "crossnobis": rc.metric("rsa", distance="crossnobis", comparator="cosine"),
        "cka": rc.metric("cka"),
        "pcm": rc.metric("pcm"),
    }
    comparison = rc.compare(nets, brain, metrics, rois=["V1", "LOC"], random_state=3)
    for name in metrics:
        expected = comparison.scores["score"].sel(metric=name)
        found = result["score"].sel(metric=name, layer=expected["layer"])
        np.testing.assert_array_equal(found, expected.sel(roi=found["roi"]))
    pair = ("sim-alexnet", "sim-resnet50")
    whole = rc.combine_layers(comparison, "crossnobis", random_state=3)
    inferred = rc.infer(whole, pair, n_bootstrap=30, n_permutations=30, n_splits=1, random_state=3)
    for name in ("score", "mean_score", "ci", "p_null", "p_null_fwer", "group_ceiling_low"):
        expected = inferred[name].sel(metric="crossnobis")
        found = result[name].sel(metric="flexible", layer=expected["layer"])
        np.testing.assert_array_equal(found, expected)
    flexible = result["score"].sel(metric="flexible").notnull().any(["subject", "roi"])
    assert result["layer"].values[flexible].tolist() == [f"{n}/combined" for n in pair]

    partition = rc.variance_partition(
        nets, brain, pair, layers=LAYERS, rois=["V1", "LOC"], components_of=0.9,
        folds="contiguous", n_bootstrap=30, random_state=3,
    )  # fmt: skip
    table = pd.read_csv(out / "partition.csv").set_index(["roi", "part"])
    for roi in ("V1", "LOC"):
        for part in ("a", "b", "joint", "unique_a", "unique_b", "shared"):
            at = {"roi": roi, "part": part}
            row = table.loc[roi, part]
            assert row["r2"] == pytest.approx(float(partition["mean_r2"].sel(at)), abs=1e-12)
            np.testing.assert_allclose(
                row[["ci_low", "ci_high"]].tolist(), partition["ci"].sel(at), atol=1e-12
            )
    own = pd.read_csv(out / "partition_subjects.csv")
    assert len(own) == 3 * 2 * 6

    maps = rc.searchlight(nets, brain["sub-02"], radius_mm=6, min_voxels=5)
    peaks = pd.read_csv(out / "searchlight_peaks.csv")
    assert peaks["subject"].unique().tolist() == ["sub-02"]
    assert len(peaks) == 1 + 8
    for row in peaks.itertuples():
        score = maps["score"].sel(layer=f"{row.network}/{row.layer}")
        assert row.score == pytest.approx(float(score.max()), abs=1e-12)
        voxel = maps.isel(neuroid=int(np.nanargmax(score.values)))
        assert [int(voxel[a]) for a in "ijk"] == [row.i, row.j, row.k]
    images = {p.name for p in (out / "maps").iterdir()}
    assert {"partition_sub-01_only-sim-alexnet.nii.gz", "partition_sub-03_shared.nii.gz",
            "searchlight_sub-02_sim-alexnet.nii.gz",
            "searchlight_sub-02_sim-alexnet-minus-sim-resnet50.nii.gz",
            "searchlight_sub-02_sim-resnet50_layers.nii.gz"} <= images  # fmt: skip

    index = (out / "index.html").read_text()
    assert "unique and shared variance" in index
    assert "drawn together" in index
    assert 'href="partition.csv"' in index
    for label in [*metrics, "flexible"]:
        assert (out / f"{label}.html").is_file()
    assert "Weights of the layers" in (out / "flexible.html").read_text()

    def never(*_, **__):
        raise AssertionError("this was kept")

    monkeypatch.setattr(beside, "variance_partition", never)
    monkeypatch.setattr(beside, "searchlight", never)
    for metric in metrics.values():
        monkeypatch.setattr(type(metric), "prepare_response", never)
    study = file.read_text().replace('combine = "nonnegative"', 'combine = "equal"')
    file.write_text(study)
    monkeypatch.setattr(beside, "_check_combined", lambda *_: None)
    again = rc.run(file, out)
    at = {"metric": "cka", "layer": "sim-alexnet/cnn1"}
    np.testing.assert_array_equal(again["score"].sel(at), result["score"].sel(at))
    assert again["score"].sel(metric="flexible").notnull().any()
    pages = json.loads(again.attrs["extras"])
    assert [e["title"] for e in pages if e.get("file") == "partition"]
