"""The specification curve shows the numbers of the table; its page stands in a browser."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rsacompare as rc
from rsacompare.reporting import sensitivity_figures as figures
from rsacompare.reporting.sensitivity_page import sensitivity_report
from rsacompare.reporting.sensitivity_text import answer, sentence
from rsacompare.schema.sensitivity import AS_STUDIED, from_rows, tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


def made(n_people=3, rois=("V1", "LOC"), lower_is_better=False):
    """One metric; in LOC the last person's absence flips the sign, and that clearly."""
    rng = np.random.default_rng(0)
    rows = []
    for roi in rois:
        kinds = [("reference", {})]
        kinds += [("units", {"units": "50 of 100 units", "units_draw": k + 1}) for k in range(4)]
        kinds += [("stimuli", {"stimuli": "without <odd> ones"})]
        kinds += [("subjects", {"subjects": f"without s{k}"}) for k in range(n_people)]
        for changed, choice in kinds:
            value = 0.1 + 0.02 * rng.normal()
            if roi == "LOC" and choice.get("subjects") == f"without s{n_people - 1}":
                value = -0.1
            half = 0.05 if changed != "stimuli" else 0.3
            rows.append(
                {"metric": "rsa", "roi": roi, "changed": changed}
                | dict.fromkeys(("units", "voxels", "stimuli", "subjects"), AS_STUDIED)
                | {"units_draw": 0, "voxels_draw": 0, "note": "", "difference": value}
                | {"ci_low": value - half, "ci_high": value + half, "se": half / 2, "dof": 4.0}
                | {"p": 0.01 if half < 0.1 else 0.5, "n_units": 100.0, "n_voxels": np.nan}
                | {"n_stimuli": 40.0, "n_subjects": 5.0}
                | choice
            )
    attrs = {
        "title": "A & <study>", "question": "", "simulated": 1, "contrast": json.dumps(["a", "b"]),
        "pairing": "mean", "notes": "[]", "not_applicable": "[]", "provenance": "{}",
        "options": json.dumps({"confidence": 0.95, "n_bootstrap": 200, "random_state": 0,
                                "crossed": False}),
        "meaning": json.dumps({"rsa": {"label": "RSA", "unit": "Spearman's ρ",
                                       "higher_is_better": not lower_is_better}}),
        "leave_out": json.dumps({"<odd> ones": ["p1", "p2"]}), "data": "[]", "networks": "[]",
    }  # fmt: skip
    return from_rows(rows, attrs)


def test_curve_and_matrix_are_the_table():
    data = made()
    drawing = figures.curve(data, "rsa")
    frame = tables(data)["specifications"]
    upper, matrix, other, _ = drawing.figure.axes
    own = frame[frame["roi"] == "V1"].sort_values("difference")
    dots, diamond = (c.get_offsets() for c in upper.collections[-2:])
    np.testing.assert_allclose(dots[:, 1], own["difference"])
    at = int(np.flatnonzero(own["changed"] == "reference")[0])
    np.testing.assert_allclose(diamond, [[at, own["difference"].iloc[at]]])
    ends = np.array([p.vertices[:, 1] for p in upper.collections[0].get_paths()])
    np.testing.assert_allclose(ends, own[["ci_low", "ci_high"]])
    lines = figures.matrix_rows(frame)
    assert [label for *_, label in lines] == [
        "as in the study", "50 of 100 units", "all", "without <odd> ones", "all", "without s0",
        "without s1", "without s2",
    ]  # fmt: skip
    for (choice, level, _), marks in zip(lines, matrix.collections, strict=False):
        drawn = [p.vertices[0, 0] for p in marks.get_paths()]
        assert drawn == np.flatnonzero(own[choice] == level).tolist()
    # LOC: the flipped one comes first, filled, in the colour of b
    faces = other.collections[-2].get_facecolor()
    np.testing.assert_allclose(faces[0][:3], [0xD5 / 255, 0x5E / 255, 0], atol=1e-6)
    assert (faces[1:, 0] != faces[0, 0]).all()
    wide = figures.curve(made(lower_is_better=True), "rsa").figure.axes[2]
    np.testing.assert_allclose(
        wide.collections[-2].get_facecolor()[0][:3], [0, 0x72 / 255, 0xB2 / 255], atol=1e-6
    )


def test_many_people_share_a_row():
    labels = [label for *_, label in figures.matrix_rows(tables(made(12))["specifications"])]
    assert labels[-2:] == ["all", "one left out"]


def test_sentences_say_the_numbers():
    data = made()
    held = tables(data)
    (said,) = answer(data)
    assert said == (
        "rsa, a − b: the sign of the difference survives in 15 of 16 specifications beside the "
        "study's own (2 ROIs); it flips in LOC without s2, in 1 of these with an interval that "
        "excludes 0."
    )
    row = held["summary"].iloc[1]
    rows = held["specifications"]
    text = sentence(data, row, rows[rows["roi"] == "LOC"])
    assert "The sign survives in 7 of 8 other specifications" in text
    assert "excludes 0 in 7 of 8, in 1 of these with the opposite sign." in text
    drawn = rows[(rows["roi"] == "LOC") & (rows["changed"] == "units")]["difference"]
    assert f"standard deviation of {drawn.std():.3f}, beside a standard error of 0.025" in text


def test_page_escapes_and_links(tmp_path):
    data = made()
    index = rc.report(data, tmp_path)
    html = index.read_text("utf-8")
    assert "A &amp; &lt;study&gt;" in html
    assert "<odd>" not in html
    assert html.count("<tr>") == 1 + len(tables(data)["specifications"])
    for kind in ("svg", "png"):
        assert (tmp_path / "figures" / f"specifications-rsa.{kind}").stat().st_size > 1000
    assert "SIMULATED DATA" in html
    pd.testing.assert_frame_equal(rc.tables(data)["summary"], tables(data)["summary"])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to open the page in")
def test_page_in_a_browser(tmp_path):
    index = sensitivity_report(made(), tmp_path)
    shot = tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--enable-logging=stderr", "--window-size=1200,1600"]  # fmt: skip
    done = subprocess.run(
        [CHROMIUM, *flags, f"--user-data-dir={tmp_path}", f"--screenshot={shot}", index.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)[80:]
    assert 0.01 < (pixels.min(axis=2) < 200).mean() < 0.6
    for colour in ([0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]):
        assert (abs(pixels - colour).max(axis=2) < 30).sum() > 20
