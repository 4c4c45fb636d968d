"""The committed sample: what its script makes, readable, and enough for a whole run."""

import importlib.util
import tomllib
from pathlib import Path

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.datasets.load import resolve
from rsacompare.schema.reading import load_activations
from rsacompare.schema.trees import iter_layers

DATA = Path(__file__).parents[2] / "data"
SAMPLE = DATA / "sample"


def test_the_script_makes_what_is_committed(tmp_path):
    spec = importlib.util.spec_from_file_location("make_sample", DATA / "make_sample.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.make(tmp_path)
    committed, fresh = (rc.load_dataset(f / "responses.nc") for f in (SAMPLE, tmp_path))
    assert dict(committed.attrs) == dict(fresh.attrs)
    for subject, node in committed.children.items():
        again = fresh[subject].to_dataset()
        np.testing.assert_allclose(node["response"], again["response"], rtol=1e-5, atol=1e-5)
        assert node.to_dataset().drop_vars("response").identical(again.drop_vars("response"))
    for name in ("tiny-a", "tiny-b"):
        pairs = zip(
            *(iter_layers(load_activations(f / f"{name}.npz")) for f in (SAMPLE, tmp_path)),
            strict=True,
        )
        for (_, layer, one), (_, other, two) in pairs:
            assert layer == other
            np.testing.assert_allclose(one["activation"], two["activation"], rtol=1e-5, atol=1e-5)
            assert one["neuroid"].equals(two["neuroid"])


def test_it_is_small_and_says_that_it_is_simulated():
    assert sum(f.stat().st_size for f in SAMPLE.iterdir()) < 150_000
    assert rc.load_dataset(SAMPLE / "responses.nc").attrs["simulated"] == 1


def test_the_study_names_files_that_are_there():
    study = tomllib.loads((SAMPLE / "study.toml").read_text())
    for table in ("brain", "networks"):
        for entry in study[table].values():
            assert resolve(entry["source"], SAMPLE) == SAMPLE / entry["source"]


def test_the_whole_study_finds_the_network_that_reads_what_the_brains_read(tmp_path):
    pytest.importorskip("rsacompare.pipeline")
    result = rc.run(SAMPLE / "study.toml", tmp_path / "out")
    assert result.attrs["simulated"] == 1
    summary = rc.tables(result)["summary"]
    assert set(summary["metric"]) == {"decoding", "rsa", "encoding"}
    assert set(summary["roi"]) == {"V1", "LOC", "VC"}
    best = summary.groupby(["metric", "roi", "network"])["score"].max().unstack()
    assert (best["tiny-a"] > best["tiny-b"] + 0.1).all()
    v1 = summary.query("metric == 'encoding' and roi == 'V1'").set_index("layer")["score"]
    assert v1["early"] > v1["late"] + 0.3
    assert (tmp_path / "out" / "index.html").is_file()
    assert (tmp_path / "out" / "scores.csv").is_file()
