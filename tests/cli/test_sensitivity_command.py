"""`rsacompare sensitivity` on a study: table, files, resume, rebuilt page, complaints."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

import rsacompare as rc
from rsacompare.cli import app
from rsacompare.schema import sensitivity

TABLE = """
[sensitivity]
unit_draws = 2
n_units = [3]
number_draws = 1
n_bootstrap = 40

[sensitivity.leave_out]
"the first two" = ["picture0", "picture1"]
others = "others.txt"
"""


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def study(tiny):
    (tiny.folder / "others.txt").write_text("picture7\n\npicture9\n", encoding="utf-8")
    tiny.file.write_text(tiny.file.read_text(encoding="utf-8") + TABLE, encoding="utf-8")
    return tiny


def test_the_command_writes_tables_figure_and_page_and_resumes(study, call, tmp_path):
    out = tmp_path / "out"
    first = call("sensitivity", study.file, "--out", out, "--jobs", 2)
    assert first.exit_code == 0, first.output
    assert re.search(
        r"rsa, first − second: the sign of the difference survives in \d+ of", first.stdout
    )
    frame = pd.read_csv(out / "sensitivity.csv", keep_default_na=False)
    assert tuple(frame.columns) == sensitivity.COLUMNS
    counts = frame[frame["roi"] == "IT"]["changed"].value_counts().to_dict()
    assert counts == {"reference": 1, "units": 3, "stimuli": 2, "subjects": 3}
    assert "without the first two" in set(frame["stimuli"])
    # the study's own comparison, restricted to the two networks, is the reference
    direct = rc.sensitivity(
        _networks(study),
        rc.load_dataset(study.folder / "brain.nc"), "rsa", rois=["IT"], pairing="depth",
        unit_draws=0, n_units=None, n_voxels=None, leave_one_subject_out=False,
        n_bootstrap=40, random_state=3,
    )  # fmt: skip
    own = frame[(frame["roi"] == "IT") & (frame["changed"] == "reference")].iloc[0]
    assert float(own["difference"]) == pytest.approx(float(direct["difference"][0]), rel=1e-12)
    assert float(own["p"]) == pytest.approx(float(direct["p"][0]), rel=1e-9)
    html = (out / "index.html").read_text("utf-8")
    assert "Does the sign of the difference first − second survive other choices?" in html
    assert "sensitivity.csv" in html
    assert "picture7, picture9" in html
    kept = {p: p.stat().st_mtime_ns for p in (out / "specifications").rglob("*.npz")}
    assert len(kept) == 9
    again = call("sensitivity", study.file, "--out", out, "--quiet")
    assert again.exit_code == 0
    assert again.stdout.strip() == str(out / "index.html")
    assert {p: p.stat().st_mtime_ns for p in (out / "specifications").rglob("*.npz")} == kept
    pd.testing.assert_frame_equal(
        frame, pd.read_csv(out / "sensitivity.csv", keep_default_na=False)
    )
    (out / "index.html").unlink()
    rebuilt = call("report", out, "--quiet")
    assert rebuilt.exit_code == 0, rebuilt.output
    assert (out / "index.html").read_text("utf-8").count("<li>") == html.count("<li>") == 2
    held = sensitivity.load_sensitivity(out)
    assert json.loads(held.attrs["leave_out"])["others"] == ["picture7", "picture9"]


def _networks(study):
    second = {k: v for k, v in study.layers["second"].items() if k != "l1"}
    return rc.activations({"first": study.layers["first"], "second": second}, stimulus_id=study.ids)


def test_beside_a_run_its_cells_are_used(study, call, tmp_path):
    assert call("run", study.file, "--out", tmp_path, "--quiet").exit_code == 0
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*.npz")}
    refused = call("sensitivity", study.file, "--out", tmp_path)
    assert refused.exit_code == 1
    assert "holds results.nc, whose page would be lost; choose another --out, as" in refused.output
    done = call("sensitivity", study.file, "--out", tmp_path / "sensitivity", "--quiet")
    assert done.exit_code == 0, done.output
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*.npz")} == kept
    assert not (tmp_path / "sensitivity" / "cells").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("unit_draws = 2", "unit_drawz = 2", "[sensitivity]: unknown key 'unit_drawz'"),
        ("n_units = [3]", "n_units = [1.5]", "[sensitivity] n_units"),
        ("n_units = [3]", "pairing = 'best'", "[sensitivity] pairing: unknown pairing 'best'"),
        ("n_units = [3]", "contrast = ['first', 'secnd']", "network in contrast 'secnd'; did"),
        ("n_units = [3]", "pool_units = 100", "pool_units is for networks that run from pictures"),
        ('"picture1"', '"picure1"', "unknown stimulus 'picure1'; did you mean 'picture1'?"),
        ("others.txt", "other.txt", "other.txt cannot be read as text, a stimulus_id a line"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(study, call, old, new, said, tmp_path):
    text = study.file.read_text(encoding="utf-8")
    assert old in text
    study.file.write_text(text.replace(old, new), encoding="utf-8")
    result = call("sensitivity", study.file, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output
