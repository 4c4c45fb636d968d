"""[partition], [searchlight] and `combine` in study files: keys, early checks, what cannot be."""

import json

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.errors import ProtocolError

HEAD = """
name = "b"
rois = ["V1"]
[brain.phantom]
options = { n_subjects = 2 }
[networks.phantom]
options = { n_subjects = 2 }
[inference]
n_bootstrap = 10
n_permutations = 10
n_splits = 1
"""
RSA = "[metrics.rsa]\n"
RDMS = """
name = "r"
[brain.lab]
source = "brain.nc"
[networks.net]
source = "net.nc"
[inference]
n_bootstrap = 10
n_permutations = 10
[metrics.rsa]
combine = "equal"
[partition]
[searchlight]
"""


def run(tmp_path, text, **kw):
    file = tmp_path / "s.toml"
    file.write_text(text)
    return rc.run(file, **kw)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[metrics.rsa]\ncombine = 'nonegative'", ["[metrics.rsa] combine", "'nonnegative'?"]),
        ("[partition]\nnetwork = ['a', 'b']", ["[partition]", "mean 'networks'?"]),
        ("[partition]\nfolds = 'contigous'", ["[partition] folds", "mean 'contiguous'?"]),
        ("[partition]\nnetworks = ['a', 'a']", ["[partition] networks", "with itself"]),
        ("[partition]\nn_folds = 1", ["[partition] n_folds"]),
        ("[searchlight]\nradius = 3", ["[searchlight]", "mean 'radius_mm'?"]),
        ("[searchlight]\nradius_mm = 0", ["[searchlight] radius_mm"]),
        ("[searchlight]\ndistance = 'crosnobis'", ["[searchlight] distance", "mean 'crossnobis'?"]),
        ("[searchlight]\ncomparator = 'spearmann'", ["comparator", "mean 'spearman'?"]),
        ("[searchlight]\nnoise = 'fulll'", ["[searchlight] noise", "mean 'full'?"]),
        ("[searchlite]", ["unknown key 'searchlite'", "mean 'searchlight'?"]),
    ],
)
def test_a_wrong_key_or_word_is_told_with_its_place(tmp_path, text, said):
    with pytest.raises(ProtocolError) as err:
        run(tmp_path, HEAD + ("" if "metrics" in text else RSA) + text)
    for part in said:
        assert part in str(err.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[partition]\nnetworks = ['sim-alexnt', 'sim-resnet50']", "mean 'sim-alexnet'?"),
        ("[partition]\nlayers = { sim-alexnet = ['cn1'] }", "mean 'cnn1'?"),
        ("[partition]\nlayers = { sim-alexnt = ['cnn1'] }", "mean 'sim-alexnet'?"),
        ("[searchlight]\nnetworks = ['sim-alexnt']", "mean 'sim-alexnet'?"),
        ("[searchlight]\nsubjects = ['sub-1']", "mean 'sub-01'?"),
        ("[searchlight]\nroi = 'V11'", "mean 'V1'?"),
        ("[metrics.cka]\ncombine = 'equal'", "as 'rsa' gives them; this metric gives Alignment"),
        ("[metrics.encoding]\ncombine = 'equal'", "this metric gives TargetEvidence"),
    ],
)
def test_names_and_evidence_are_checked_before_anything_is_compared(
    tmp_path, monkeypatch, text, said
):
    def never(*_, **__):
        raise AssertionError("compared before it was checked")

    monkeypatch.setattr("rsacompare.pipeline.compare", never)
    with pytest.raises(ProtocolError, match=r"s\.toml, \[") as err:
        run(tmp_path, HEAD + RSA + text)
    assert said in str(err.value)


def test_where_brains_are_rdms_the_others_are_said_to_be_not_applicable(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(7)]
    pairs = {f"p{k}": {"V1": rng.random(21)} for k in range(2)}
    rc.rdms(pairs, stimulus_id=ids).to_netcdf(tmp_path / "brain.nc")
    nets = {n: {"l1": rng.random((7, 4)), "l2": rng.random((7, 4))} for n in "ab"}
    rc.activations(nets, stimulus_id=ids).to_netcdf(tmp_path / "net.nc")
    result = run(tmp_path, RDMS, out=tmp_path / "out")
    told = json.loads(result.attrs["not_applicable"])
    assert told == [f"{what}: not for p{k}, known by RDMs alone"
                    for what in ("partition", "searchlight") for k in range(2)]  # fmt: skip
    assert "partition: not for p0" in (tmp_path / "out" / "index.html").read_text()
    assert result["layer"].values.tolist() == ["a/combined", "b/combined"]
    assert result["score"].notnull().all()


def test_a_partition_needs_a_split_and_two_networks(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(7)]
    rc.responses({"p": rng.random((7, 5))}, stimulus_id=ids).to_netcdf(tmp_path / "brain.nc")
    nets = {n: {"l1": rng.random((7, 4))} for n in "abc"}
    rc.activations(nets, stimulus_id=ids).to_netcdf(tmp_path / "net.nc")
    text = RDMS.replace("[searchlight]", "")
    with pytest.raises(ProtocolError, match=r"\[partition\].*3 networks; name two of them"):
        run(tmp_path, text)
    with pytest.raises(ProtocolError, match=r"\[partition\].*p has no split"):
        run(tmp_path, text + 'networks = ["a", "c"]')


def test_a_broken_kept_file_is_made_again(tmp_path):
    text = HEAD + RSA + "[searchlight]\nradius_mm = 4\nmin_voxels = 4\nsubjects = ['sub-01']\n"
    first = run(tmp_path, text, out=tmp_path / "out")
    kept = list((tmp_path / "out" / "cells").glob("searchlight-*.nc"))
    assert len(kept) == 1
    kept[0].write_bytes(b"broken")
    again = run(tmp_path, text, out=tmp_path / "out")
    assert json.loads(first.attrs["extras"]) == json.loads(again.attrs["extras"])
    maps = [e for e in json.loads(first.attrs["extras"]) if e["title"].startswith("Searchlight:")]
    name = f"{next(e for e in maps if e['kind'] == 'map')['prefix']}.values"
    np.testing.assert_array_equal(first[name], again[name])


def test_a_check_before_a_run_finds_it_too(tmp_path):
    from rsacompare.pipeline import check_source
    from rsacompare.schema.checks import tables

    file = tmp_path / "s.toml"
    file.write_text(HEAD + RSA + "[partition]\nnetworks = ['sim-alexnt', 'sim-resnet50']\n")
    findings = tables(check_source(file))["findings"]
    errors = findings[findings["level"] == "error"]
    assert errors["sentence"].str.contains("did you mean 'sim-alexnet'").tolist() == [True]
