"""`rsacompare check` on studies, data sets and files, good and bad, and its page rebuilt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import rsacompare as rc
from rsacompare import pipeline
from rsacompare.cli import app
from rsacompare.schema import checks, store


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        # power takes long, and is on unless it is declined; tests/study/test_check_power.py has it
        given = [str(a) for a in arguments]
        quick = [] if "--power" in given else ["--no-power"]
        return CliRunner().invoke(app, ["check", *given, *quick])

    return call


def lines(result, level):
    return [line for line in result.stdout.splitlines() if line.startswith(f"{level} ")]


def voxel_file(path, spoil=False):
    rng = np.random.default_rng(2)
    ids = [f"p{i}" for i in range(20) for _ in range(3)]
    brain = rc.responses(
        {s: rng.normal(size=(60, 25)) for s in ("s1", "s2")},
        stimulus_id=ids,
        roi_mask={"V1": np.arange(25) < 22, "LOC": np.arange(25) >= 3},
        attrs={"title": "A lab's voxels"},
    )
    if spoil:
        brain["s2"]["response"].values[4, 24] = np.nan
    store.write_netcdf(brain, path)
    return path


def test_a_good_study_has_no_error(tiny, call, tmp_path):
    result = call(tiny.file, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "A tiny study" in result.stdout
    assert "lab, 3 subjects" in result.stdout
    assert lines(result, "error") == []
    check = checks.load_check(tmp_path / "out")
    direct = rc.check({"lab": rc.load_dataset(tiny.folder / "brain.nc")}, rois=["EVC", "IT"],
                      random_state=3)  # fmt: skip
    assert check["rsa_ceiling_low"].equals(direct["rsa_ceiling_low"])
    assert check["network_name"].values.tolist() == ["first", "second"]
    assert check["layer_name"].values.tolist() == ["l0", "l1", "l2", "l0", "l2"]
    table = pd.read_csv(tmp_path / "out" / "check.csv")
    assert len(table) == 6
    np.testing.assert_allclose(
        table["rsa_ceiling_high"], check["rsa_ceiling_high"].values.ravel(), rtol=1e-12
    )
    page = (tmp_path / "out" / "index.html").read_text()
    assert "A tiny study" in page
    assert "No errors, but read the warnings before a run" in page


def test_labels_that_do_not_match_end_with_1(tiny, call):
    tiny.write_network("second", ids=[f"{i}.png" for i in tiny.ids])
    result = call(tiny.file)
    assert result.exit_code == 1
    (line,) = lines(result, "error")
    assert "14 of 14 scored stimuli were not shown to second" in line
    assert "without the ending of a file, 14 of 14 would match" in line


def test_a_study_is_looked_at_though_parts_cannot_be_read(tiny, call):
    (tiny.folder / "first.npz").write_bytes(b"nothing")
    tiny.write(('rois = ["EVC", "IT"]', 'rois = ["EVC", "ITx"]'))
    result = call(tiny.file)
    assert result.exit_code == 1
    text = " ".join(lines(result, "error"))
    assert "[networks.first]" in text
    assert "Unknown ROI 'ITx'; did you mean 'IT'?" in text
    assert "second" in result.stdout
    assert "Traceback" not in result.output


def test_a_contrast_of_an_unknown_network(tiny, call):
    tiny.write(('["first", "second"]', '["first", "secnd"]'))
    result = call(tiny.file)
    assert result.exit_code == 1
    assert "did you mean 'second'?" in lines(result, "error")[0]


def test_no_brain_data_at_all_is_one_clean_line(tiny, call):
    (tiny.folder / "brain.nc").write_bytes(b"nothing")
    result = call(tiny.file)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "brain.nc" in result.stderr


def test_a_file_with_missing_voxels_is_told_where(call, tmp_path):
    result = call(voxel_file(tmp_path / "lab.nc", spoil=True))
    assert result.exit_code == 1
    errors = lines(result, "error")
    assert len(errors) == 2
    assert "lab.nc" in errors[0]
    assert "ROI LOC: 1 values are NaN or infinite" in errors[1]
    assert "LOC 1" in errors[1]


def test_a_file_and_the_networks_beside_it(call, tmp_path):
    file = voxel_file(tmp_path / "lab.nc")
    net = rc.activations({"net": {"l": np.eye(20)}}, stimulus_id=[f"p{i}" for i in range(20)])
    store.write_netcdf(net, tmp_path / "net.nc")
    result = call(file, "--activations", tmp_path / "net.nc", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "all scored stimuli" in result.stdout
    check = checks.load_check(tmp_path / "out")
    assert check["n_voxels"].values.tolist() == [[22, 22]] * 2
    assert list(checks.tables(check)["rois"]["dataset"].unique()) == ["lab"]


def test_a_registered_data_set_with_options(call):
    result = call("phantom", "--option", "preset=null", "--seed", "4")
    assert result.exit_code == 0, result.output
    assert "simulated" in result.stdout.splitlines()[0]
    assert "phantom, 5 subjects" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.nc"], "nothing.nc"),
        (["phantm"], "did you mean 'phantom'"),
        (["phantom", "--option", "sise=3"], "sise"),
    ],
)
def test_wrong_names_are_one_clean_line(call, arguments, said):
    result = call(*arguments)
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_an_option_without_value_is_wrong_usage(call):
    assert call("phantom", "--option", "size").exit_code == 2


def test_results_of_a_run_are_not_overwritten(tiny, call, tmp_path):
    (tmp_path / "results.nc").write_bytes(b"precious")
    result = call(tiny.file, "--out", tmp_path)
    assert result.exit_code == 1
    assert "choose another --out" in result.stderr
    assert sorted(f.name for f in tmp_path.iterdir()) == ["results.nc", "study"]


def test_the_page_is_rebuilt_from_the_file_byte_by_byte(tiny, call, tmp_path):
    assert call(tiny.file, "--out", tmp_path / "a", "--quiet").exit_code == 0
    built = CliRunner().invoke(
        app, ["report", str(tmp_path / "a" / "check.nc"), "--out", str(tmp_path / "b")]
    )
    assert built.exit_code == 0, built.output
    for name in ("index.html", "figures/check-reliability.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert pipeline.rebuild(tmp_path / "a") == tmp_path / "a" / "index.html"


def test_quiet_prints_the_path_only(tiny, call, tmp_path):
    result = call(tiny.file, "--out", tmp_path / "out", "--quiet")
    assert result.output.strip() == str(tmp_path / "out" / "index.html")


def test_power_and_forecast_stand_in_the_terminal_and_in_the_tables(
    tiny, call, tmp_path, monkeypatch
):
    monkeypatch.setattr("rsacompare.study.check_power.STUDIES", 3)
    result = call(tiny.file, "--power", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "could see a difference of" in result.stdout
    assert "A run with 1 job" in result.stdout
    power = pd.read_csv(tmp_path / "out" / "check_power.csv")
    assert set(power["roi"]) == {"EVC", "IT"}
    forecast = pd.read_csv(tmp_path / "out" / "check_forecast.csv")
    cells, wanted = forecast["stage"].str.endswith(": cells"), pipeline.run(tiny.file)
    assert forecast.loc[cells, "count"].sum() == int(wanted["score"].notnull().sum())
    page = (tmp_path / "out" / "index.html").read_text()
    assert "What this design could see" in page
    assert "What a run would cost" in page
