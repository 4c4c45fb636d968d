"""What a user sees: one clean line and an exit code for every kind of bad input, help at once."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import rsacompare as rc
from rsacompare import pipeline, plugins
from rsacompare.cli import app
from rsacompare.errors import FetchError
from rsacompare.reporting import progress


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return call


@pytest.fixture(autouse=True)
def _plain_pages(plain_pages):
    pass


@pytest.fixture
def finished(finished_run, tmp_path):
    """The folder of a finished run, and a check that its files are as they were."""
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)

    def files():
        return {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}

    before = files()
    yield out
    assert files() == before


def one_clean_line(result, *said, code=1):
    assert result.exit_code == code
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors == lines[-1:]
    assert "Traceback" not in result.stderr
    for part in said:
        assert part in errors[0]


def truncate(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


BAD = {
    "unknown layer": (
        lambda t: t.write(('"l2"', '"l3"')),
        ["STUDY.toml, [networks.second]", "unknown layer of second 'l3'", "There are: l0, l1, l2"],
    ),
    "misspelt roi": (
        lambda t: t.write(('["EVC", "IT"]', '["EVCC"]')),
        ["STUDY.toml, rois: unknown roi 'EVCC'; did you mean 'EVC'?"],
    ),
    "unknown key": (
        lambda t: t.write(("n_bootstrap = 50", "bootstrap = 50")),
        ["STUDY.toml, [inference]: unknown key 'bootstrap'; did you mean 'n_bootstrap'?"],
    ),
    "wrong type": (
        lambda t: t.write(("n_bootstrap = 50", 'n_bootstrap = "many"')),
        ["[inference] n_bootstrap: expected a whole number, got 'many' (text)"],
    ),
    "unknown metric": (
        lambda t: t.write(("[metrics.rsa]", "[metrics.rsaa]")),
        ["STUDY.toml, [metrics.rsaa]: unknown metric 'rsaa'; did you mean 'rsa'?"],
    ),
    "unknown metric option": (
        lambda t: t.write(("comparator =", "comparater =")),
        ["[metrics.rsa]: unknown option of metric rsa 'comparater'; did you mean 'comparator'?"],
    ),
    "refused metric option": (
        lambda t: t.write(('"spearman"', '"spearmen"')),
        ["[metrics.rsa]", "'spearmen'", "did you mean 'spearman'?"],
    ),
    "unknown network in a contrast": (
        lambda t: t.write(('["first", "second"]', '["first", "secnd"]')),
        ["[inference] contrast: unknown network 'secnd'; did you mean 'second'?"],
    ),
    "truncated netCDF": (
        lambda t: truncate(t.folder / "brain.nc"),
        ["STUDY.toml, [brain.lab]", "brain.nc cannot be read as netCDF", "truncated"],
    ),
    "truncated npz": (
        lambda t: truncate(t.folder / "first.npz"),
        ["STUDY.toml, [networks.first]", "first.npz cannot be read as npz", "truncated"],
    ),
    "ids that do not match": (
        lambda t: t.write_network("first", [f"bild{i}" for i in range(14)]),
        ["14 of 14 stimuli of data set lab (s0) are not in network first", "'bild0'"],
    ),
    "one id that does not match": (
        lambda t: t.write_brain([*t.ids[:-1], "other"]),
        ["1 of 14 stimuli of data set lab (s0) are not in network first: 'other'"],
    ),
    "missing file": (
        lambda t: (t.folder / "first.npz").unlink(),
        ["STUDY.toml, [networks.first]: no file", "first.npz"],
    ),
    "missing study": (lambda t: t.file.unlink(), ["no study file", "STUDY.toml"]),
    "not toml": (lambda t: t.file.write_text("name = "), ["is not valid TOML"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_nothing_is_overwritten(tiny, finished, call, case):
    spoil, said = BAD[case]
    spoil(tiny)
    one_clean_line(call("run", tiny.file, "--out", finished), *said)


def test_nan_in_a_network_is_refused(tiny, finished, call):
    tiny.layers["first"]["l1"][2, 4] = np.nan
    tiny.write_network("first")
    one_clean_line(call("run", tiny.file, "--out", finished), "first/l1", "NaN")


def test_debug_shows_the_traceback(tiny, tmp_path, call):
    tiny.write(("n_bootstrap", "bootstrap"))
    result = call("run", tiny.file, "--out", tmp_path / "x", "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "x").exists()


def test_an_unexpected_error_is_one_line_too(tiny, tmp_path, call, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(pipeline, "compare", broken)
    result = call("run", tiny.file, "--out", tmp_path / "x")
    one_clean_line(result, "unexpected ZeroDivisionError: division by zero", "--debug", code=3)
    result = call("run", tiny.file, "--out", tmp_path / "x", "--debug")
    assert "in broken" in result.stderr


def test_a_stopped_run_says_where_it_goes_on(tiny, tmp_path, call, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "infer", stopped)
    result = call("run", tiny.file, "--out", tmp_path / "x")
    assert result.exit_code == 130
    cells = tmp_path / "x" / "cells"
    assert result.stderr.strip().splitlines()[-1] == (
        f"stopped; finished cells are kept in {cells}, run again to go on"
    )
    assert len(list(cells.rglob("*.npz"))) == 30
    assert not (tmp_path / "x" / "results.nc").exists()


def test_if_available_passes_over_data_that_cannot_be_had(tiny, tmp_path, call, monkeypatch):
    def far_away():
        raise FetchError("cannot download brains.mat from lab.org: no connection")

    monkeypatch.setitem(plugins._registered["datasets"], "far_away", far_away)
    tiny.write(('source = "brain.nc"', 'source = "far_away"'))
    one_clean_line(call("run", tiny.file, "--out", tmp_path / "x"), "no connection")
    result = call("run", tiny.file, "--out", tmp_path / "x", "--if-available")
    assert result.exit_code == 0
    assert result.stdout == (
        f"tiny is left out: {tiny.file}, [brain.lab]: "
        "cannot download brains.mat from lab.org: no connection\n"
    )
    tiny.write(('source = "brain.nc"', 'source = "none.nc"'))
    one_clean_line(call("run", tiny.file, "--out", tmp_path / "x", "--if-available"), "no file")


def test_a_run_tells_the_answer_and_where_the_report_is(tiny, tmp_path, call):
    result = call("run", tiny.file, "--out", tmp_path / "x", "--jobs", 2, "--seed", 5)
    assert result.exit_code == 0
    first, last = result.stdout.strip().splitlines()
    assert first.startswith("rsa: first − second, over the common range of relative depth: EVC ")
    assert last.startswith(f"report: {tmp_path / 'x' / 'index.html'} (")
    stages = result.stderr.strip().splitlines()
    assert stages[0] == "load (3)"
    assert len(stages) == len(set(stages))


def test_quiet_prints_the_path_alone(tiny, tmp_path, call):
    result = call("run", tiny.file, "--out", tmp_path / "x", "--quiet")
    assert (result.stdout, result.stderr) == (f"{tmp_path / 'x' / 'index.html'}\n", "")


def test_the_results_go_to_reports_by_default(tiny, call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call("run", tiny.file).exit_code == 0
    assert (tmp_path / "reports" / "tiny" / "index.html").is_file()


def test_report_rebuilds_pages_or_says_what_is_wrong(tiny, tmp_path, call, finished_run):
    out = tmp_path / "x"
    shutil.copytree(finished_run, out)
    page = (out / "index.html").read_bytes()
    (out / "index.html").unlink()
    result = call("report", out)
    assert result.exit_code == 0
    assert (out / "index.html").read_bytes() == page
    one_clean_line(call("report", tmp_path / "nowhere"), "no file")
    one_clean_line(call("report", tiny.folder / "brain.nc"), "holds no result of rsacompare")
    truncate(out / "results.nc")
    one_clean_line(call("report", out), "results.nc cannot be read as netCDF")
    assert (out / "index.html").read_bytes() == page


def test_an_out_that_cannot_be_a_folder(tiny, tmp_path, call):
    (tmp_path / "x").write_text("a file")
    one_clean_line(call("run", tiny.file, "--out", tmp_path / "x"), "cannot make the folder")
    assert (tmp_path / "x").read_text() == "a file"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("metrics", ["decoding", "encoding", "rsa"]),
        ("datasets", ["algonauts2019", "kriegeskorte92", "phantom"]),
        ("networks", ["alexnet_a2020", "phantom"]),
    ],
)
def test_list_names_and_describes_what_there_is(call, kind, names):
    lines = call("list", kind).stdout.splitlines()
    listed = [line.split()[0] for line in lines]
    assert set(names) <= set(listed)
    assert listed == sorted(listed)
    assert all(len(line.split()) > 2 for line in lines)


def test_list_layers_of_a_network(tiny, call):
    lines = call("list", "layers", tiny.folder / "first.npz").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["first", f"l{i}", "depth", f"{i / 2:.2f}", "9", "units"] for i in range(3)
    ]
    one_clean_line(call("list", "layers"), "of which network?")
    one_clean_line(call("list", "layers", "alexnet_a2021"), "did you mean 'alexnet_a2020'?")


def test_fetch_names_the_nearest_data_set(call):
    one_clean_line(call("fetch", "algonauts"), "did you mean 'algonauts2019'?")


def test_fetch_prints_where_the_files_are(call, monkeypatch, tmp_path):
    monkeypatch.setattr("rsacompare.datasets.load.fetch", lambda name, **_: tmp_path / name)
    result = call("fetch", "algonauts2019")
    assert result.stdout == f"{tmp_path / 'algonauts2019/92_target_fmri.mat'}\n"


def test_version_and_wrong_usage(call):
    assert call("--version").stdout == f"rsacompare {rc.__version__}\n"
    result = call("run")
    assert result.exit_code == 2
    assert "STUDY.toml" in result.stderr
    assert call("list", "metrik").exit_code == 2


@pytest.mark.parametrize("command", ["demo", "run", "report", "list", "fetch"])
def test_every_command_has_help(call, command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "--debug" in result.stdout


def test_help_loads_nothing_heavy():
    """Help and version appear at once: what takes time to import is left for the commands."""
    heavy = "{'numpy', 'pandas', 'xarray', 'matplotlib', 'tensorflow', 'numba', 'pydantic'}"
    code = f"import sys, rsacompare.cli; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
    assert done.returncode == 0


def test_fetch_takes_a_folder_for_downloads(call, monkeypatch, tmp_path):
    seen = {}

    def fetched(name, **options):
        seen.update(options)
        return Path(options["cache"]) / name

    monkeypatch.setattr("rsacompare.datasets.load.fetch", fetched)
    result = call("fetch", "algonauts2019", "--cache", tmp_path)
    assert result.stdout == f"{tmp_path / 'algonauts2019/92_target_fmri.mat'}\n"
    assert seen["progress"] is None, "no bar where nobody looks"
    refused = call("fetch", "algonauts2019", "--to", tmp_path)
    one_clean_line(refused, "--to is for ds001246", "for algonauts2019 use --cache")
    one_clean_line(call("fetch", "ds00124"), "did you mean 'ds001246'?")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_download_shows_a_bar_on_a_terminal_after_two_seconds(monkeypatch):
    screen, clock = Terminal(), [0.0]
    monkeypatch.setattr(progress.sys, "stderr", screen)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("TERM", "xterm")
    with progress.download_bar(quiet=False) as bar:
        bar("god/Subject1.h5", 10, 100)
        clock[0] = 1.9
        bar("god/Subject1.h5", 20, 100)
        assert screen.getvalue() == ""
        clock[0] = 2.1
        bar("god/Subject1.h5", 30, 100)
    assert "god/Subject1.h5" in screen.getvalue()
    assert "30/100 bytes" in screen.getvalue()
    with progress.download_bar(quiet=True) as bar:
        assert bar is None
