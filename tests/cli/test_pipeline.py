"""A study from plain files to pages, judged against scores computed by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

import rsacompare as rc
from rsacompare import pipeline
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.study.inputs import load_inputs
from rsacompare.study.protocol import load_study

pytestmark = pytest.mark.usefixtures("plain_pages")
TABLES = ("scores.csv", "summary.csv", "contrasts.csv")


def read(folder):
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and "cells" not in f.parts
    }


def test_scores_equal_those_computed_by_hand(tiny, tmp_path):
    result = pipeline.run(tiny.file, tmp_path / "out")
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert len(scores) == 3 * 2 * (3 + 2)  # subjects x ROIs x layers, l1 of `second` left out
    pairs = np.triu_indices(tiny.n_stimuli, 1)
    for row in scores.itertuples():
        network = pdist(tiny.layers[row.network][row.layer], "correlation")
        brain = tiny.brain[row.subject][row.roi][pairs]
        assert row.score == pytest.approx(spearmanr(network, brain).statistic, abs=1e-10)
    again = rc.load_result(tmp_path / "out")
    pd.testing.assert_frame_equal(rc.tables(again)["scores"], rc.tables(result)["scores"])


def test_a_layer_that_is_left_out_leaves_depth_and_index_of_the_others(tiny, tmp_path):
    pipeline.run(tiny.file, tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out" / "scores.csv").query("network == 'second'")
    assert set(zip(rows["layer"], rows["layer_index"], rows["depth"], strict=True)) == {
        ("l0", 0, 0.0),
        ("l2", 2, 1.0),
    }


def test_tables_do_not_depend_on_jobs_nor_on_resuming(tiny, tmp_path):
    for name, n_jobs in (("one", 1), ("two", 2)):
        pipeline.run(tiny.file, tmp_path / name, n_jobs=n_jobs)
    first = {t: (tmp_path / "one" / t).read_bytes() for t in TABLES}
    pipeline.run(tiny.file, tmp_path / "two", n_jobs=2)  # from the kept cells
    assert first == {t: (tmp_path / "two" / t).read_bytes() for t in TABLES}


def test_another_seed_draws_anew_but_scores_stay(tiny, tmp_path):
    pipeline.run(tiny.file, tmp_path / "three")
    pipeline.run(tiny.file, tmp_path / "four", random_state=4)
    three, four = (pd.read_csv(tmp_path / n / "summary.csv") for n in ("three", "four"))
    pd.testing.assert_series_equal(three["score"], four["score"])
    assert (three["ci_low"] != four["ci_low"]).any()


def test_a_result_says_what_it_was_made_of(tiny, tmp_path):
    result = pipeline.run(tiny.file, tmp_path / "out", random_state=5)
    assert (result.attrs["title"], result.attrs["question"]) == ("A tiny study", "Does it run?")
    assert result.attrs["simulated"] == 0
    (data,) = json.loads(result.attrs["data"])
    assert (data["name"], data["title"], data["n_subjects"]) == ("lab", "A lab's brains", 3)
    assert [n["name"] for n in json.loads(result.attrs["networks"])] == ["first", "second"]
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())["provenance"]
    assert record["configuration"]["random_state"] == 5
    assert record["configuration"]["networks"]["second"]["layers"] == ["l0", "l2"]
    chosen = {"type": None, "combine": None, "comparator": "spearman"}
    assert record["configuration"]["metrics"]["rsa"] == chosen
    assert {"brain.nc", "first.npz", "second.npz"} <= set(record["inputs"])
    assert record["versions"]["rsacompare"] == rc.__version__


def test_without_a_folder_nothing_is_written(tiny, monkeypatch):
    monkeypatch.chdir(tiny.folder)
    before = read(tiny.folder)
    result = pipeline.run(tiny.file)
    assert result["score"].notnull().any()
    assert read(tiny.folder) == before


@pytest.mark.parametrize("place", ["report", "write_tables"])
def test_a_failure_while_writing_leaves_the_old_files(tiny, tmp_path, monkeypatch, place):
    out = tmp_path / "out"
    pipeline.run(tiny.file, out)
    before = read(out)

    def broken(*_):
        raise OSError("no space left")

    home = pipeline if place == "report" else pipeline.results
    monkeypatch.setattr(home, place, broken)
    with pytest.raises(OSError, match="no space left"):
        pipeline.run(tiny.file, out, random_state=99)
    assert read(out) == before


def test_progress_tells_every_stage_to_its_end(tiny):
    told = {}
    pipeline.run(tiny.file, progress=lambda stage, done, total: told.update({stage: done / total}))
    assert "load" in told
    assert set(told.values()) == {1.0}


def test_one_network_takes_the_tables_name_and_several_keep_theirs(tiny):
    both = rc.activations({n: tiny.layers[n] for n in tiny.layers}, stimulus_id=tiny.ids)
    pipeline.store.write_netcdf(both, tiny.folder / "both.nc")
    plain = '[networks.first]\nsource = "first.npz"\n'
    second = '[networks.second]\nsource = "second.npz"\nlayers = ["l0", "l2"]\n'
    tiny.write((plain, '[networks.renamed]\nsource = "first.npz"\n'))
    _, networks = load_inputs(load_study(tiny.file))
    assert [list(t.children) for t in networks.values()] == [["renamed"], ["second"]]
    tiny.write((plain, ""), (second, '[networks.pair]\nsource = "both.nc"\n'))
    _, networks = load_inputs(load_study(tiny.file))
    assert list(networks["pair"].children) == ["first", "second"]
    tiny.write((plain, ""), (second, '[networks.x]\nsource = "both.nc"\nnetwork = "second"\n'))
    _, networks = load_inputs(load_study(tiny.file))
    assert list(networks["x"].children) == ["x"]
    chosen = networks["x"]["x/l1"]["activation"].values
    np.testing.assert_array_equal(chosen, tiny.layers["second"]["l1"])
    tiny.write((plain, ""), (second, '[networks.x]\nsource = "both.nc"\nnetwork = "secnd"\n'))
    with pytest.raises(ProtocolError, match=r"\[networks\.x\]: unknown network 'secnd'; did you"):
        load_inputs(load_study(tiny.file))


def test_two_networks_of_one_name_are_refused(tiny):
    both = rc.activations({n: tiny.layers[n] for n in tiny.layers}, stimulus_id=tiny.ids)
    pipeline.store.write_netcdf(both, tiny.folder / "both.nc")
    tiny.write(("second.npz", "both.nc"))
    with pytest.raises(LabelError, match=r"STUDY\.toml, \[networks\]: two networks .* 'first'"):
        pipeline.run(tiny.file)


def test_a_network_is_no_brain(tiny):
    tree = rc.activations({"first": tiny.layers["first"]}, stimulus_id=tiny.ids)
    pipeline.store.write_netcdf(tree, tiny.folder / "brain.nc")
    with pytest.raises(DataError, match=r"\[brain\.lab\]: .* activations of a network"):
        pipeline.run(tiny.file)


def test_simulated_data_follow_the_seed_of_the_study(tiny, monkeypatch):
    seen = []

    def simulated(random_state=0):
        seen.append(random_state)
        return rc.rdms(
            tiny.brain, stimulus_id=tiny.ids, attrs={"simulated": 1, "title": "simulated"}
        )

    monkeypatch.setitem(rc.plugins._registered["datasets"], "simulated", simulated)
    tiny.write(('source = "brain.nc"', 'source = "simulated"'))
    result = pipeline.run(tiny.file, random_state=8)
    assert result.attrs["simulated"] == 1
    tiny.write(
        ('source = "brain.nc"', 'source = "simulated"\noptions = { random_state = 2 }'),
    )
    pipeline.run(tiny.file, random_state=8)
    assert seen == [8, 2]


def test_pages_are_rebuilt_from_stored_results(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "report", rc.report)
    pipeline.run(tiny.file, tmp_path / "out")
    pages = {k: v for k, v in read(tmp_path / "out").items() if k.endswith(".html")}
    assert {"index.html", "rsa.html"} <= set(pages)
    assert b"A tiny study" in pages["index.html"]
    index = pipeline.rebuild(tmp_path / "out" / "results.nc", tmp_path / "again")
    assert index == tmp_path / "again" / "index.html"
    assert {k: v for k, v in read(tmp_path / "again").items() if k.endswith(".html")} == pages


def test_a_rebuild_takes_figures_of_an_earlier_report_away(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "report", rc.report)
    pipeline.run(tiny.file, tmp_path / "out")
    before = set(read(tmp_path / "out"))
    (tmp_path / "out" / "figures" / "rsa-old.svg").write_text("<svg/>")
    pipeline.rebuild(tmp_path / "out")
    assert set(read(tmp_path / "out")) == before
    assert "figures/rsa-heat-maps.svg" in before


def test_the_answer_is_one_line_a_metric(tiny):
    result = pipeline.run(tiny.file)
    rows = rc.tables(result)["contrasts"].query("pairing == 'depth'")  # unequal layers
    (line,) = pipeline.answer(result)
    assert line.startswith("rsa: first − second, over the common range of relative depth: EVC ")
    for row in rows.itertuples():
        assert f"{row.roi} {row.difference:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}]" in line


def test_the_answer_without_an_interval_says_so(tiny):
    result = pipeline.run(tiny.file)
    for bound in ("ci_low", "ci_high", "p_fwer"):
        result[f"contrast_{bound}"] = result[f"contrast_{bound}"] * np.nan
    result["contrast_verdict"][:] = "undecided"
    (line,) = pipeline.answer(result)
    assert "nan" not in line
    assert line.count("undecided (no interval)") == 2


def test_the_answer_over_many_rois_is_counted(tiny):
    for rois in tiny.brain.values():
        rois.update({"V1": rois["EVC"], "V2": rois["IT"]})
    tiny.write_brain()
    tiny.write(('rois = ["EVC", "IT"]', ""))
    result = pipeline.run(tiny.file)
    shown = result["contrast_pairing"] == "depth"
    result["contrast_verdict"][np.flatnonzero(shown)] = ["a", "b", "undecided", "a"]
    assert pipeline.answer(result) == [
        "rsa: first − second, over the common range of relative depth: "
        "first closer in 2, second closer in 1, undecided in 1 of 4 ROIs"
    ]
