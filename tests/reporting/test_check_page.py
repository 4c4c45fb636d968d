"""The figures and tables of a check's page show what the check says."""

from __future__ import annotations

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.reporting import check_figures
from rsacompare.reporting.check_page import check_report, stimuli_lines, summary_table, verdict
from rsacompare.schema.checks import Finding


@pytest.fixture(scope="module")
def brain():
    rng = np.random.default_rng(0)
    ids = [f"p{i:02d}" for i in range(25) for _ in range(2 + i % 3)]
    signal = rng.normal(size=(25, 50))
    x = signal[[int(i[1:]) for i in ids]]
    place = np.arange(50)
    return rc.responses(
        {f"s{k}": x + rng.normal(size=x.shape) for k in range(4)},
        stimulus_id=ids,
        roi_mask={
            f"s{k}": {"V1": place < 20 + k, "LOC <b>": place >= 15, "VC": place >= 0}
            for k in range(4)
        },
        attrs={"title": "Brains & <tags>", "simulated": 1},
    )


@pytest.fixture(scope="module")
def check(brain):
    layers = {"l1": np.random.default_rng(1).normal(size=(25, 6))}
    net = rc.activations({"net": layers}, stimulus_id=[f"p{i:02d}" for i in range(25)])
    return rc.check(brain, net)


def dots(axis):
    return [c.get_offsets() for c in axis.collections if c.get_label() == "subjects"]


def test_reliability_dots_and_means_are_the_numbers(check):
    axes = check_figures.reliability(check).figure.axes
    names = ("split_half", "voxel_ceiling", "rsa_ceiling_low")
    assert len(axes) == len(names)
    for axis, name in zip(axes, names, strict=True):
        values = check[name].values
        drawn = dots(axis)
        assert len(drawn) == 3
        for j in range(3):
            np.testing.assert_allclose(drawn[j][:, 1], values[:, j])
        means = [line.get_ydata()[0] for line in axis.lines if line.get_label() == f"mean {name}"]
        np.testing.assert_allclose(means, values.mean(axis=0))
    (boxes,) = [c for c in axes[2].collections if c.get_label() == "ceiling"]
    tops = [p.vertices[:, 1].max() for p in boxes.get_paths()]
    np.testing.assert_allclose(tops, check["rsa_ceiling_high"].mean("subject"))


def test_voxel_dots_are_the_counts(check):
    (axis,) = check_figures.voxels(check).figure.axes
    drawn = dots(axis)
    assert drawn[0][:, 1].tolist() == [20, 21, 22, 23]
    assert drawn[2][:, 1].tolist() == [50] * 4
    assert [t.get_text() for t in axis.texts] == ["22", "35", "50"]


def test_repetition_bars_are_the_counts(check):
    (axis,) = check_figures.repetitions(check).figure.axes
    assert [b.get_height() for b in axis.patches] == [9, 8, 8]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["2", "3", "4"]


def test_overlap_map_is_the_share(check):
    axis = check_figures.overlap(check).figure.axes[0]
    (image,) = axis.images
    shown = np.asarray(image.get_array())
    v1 = np.mean([(20 + k - 15) / (20 + k) for k in range(4)])
    assert shown[0, 1] == pytest.approx(100 * v1)
    assert shown[0, 2] == 100
    assert shown[2, 1] == pytest.approx(70)


def test_rdm_data_have_no_voxel_figures():
    rdm = np.random.default_rng(3).random((2, 2, 45))
    brain = rc.rdms(
        {"a": {"IT": rdm[0]}, "b": {"IT": rdm[1]}}, stimulus_id=[f"p{i}" for i in range(10)]
    )
    names = [d.name for d in check_figures.drawings(rc.check(brain))]
    assert names == ["check-reliability", "check-repetitions"]


def test_page_says_it_all_and_escapes_names(check, tmp_path):
    index = check_report(check, tmp_path)
    html = index.read_text()
    assert "SIMULATED DATA" in html
    assert "Brains &amp; &lt;tags&gt;" in html
    assert "LOC &lt;b&gt;" in html
    assert "LOC <b>" not in html
    assert f"{float(check['split_half'].mean('subject')[2]):.3f} ±" in html
    assert "all scored stimuli" in html
    for name in ("reliability", "voxels", "repetitions", "overlap"):
        assert (tmp_path / "figures" / f"check-{name}.png").stat().st_size > 1000
    again = rc.report(check, tmp_path / "again")
    assert again.read_bytes() == index.read_bytes()


def test_summary_and_stimuli_lines(check):
    table = summary_table(check)
    assert table["columns"] == ["ROI", "subjects", "voxels", "missing", "constant", "split-half",
                                "ceiling per voxel", "RSA ceiling"]  # fmt: skip
    assert table["rows"][0][:5] == ("V1", "4", "20–23", "0", "0")
    (line,) = stimuli_lines(check)["rows"]
    assert line == ("4 subjects", "all", "25", "74", "2, 3, 4 repetitions")


def test_verdict_counts_levels():
    found = [Finding("error", "", "a"), Finding("warning", "", "b"), Finding("warning", "", "c")]
    assert verdict(found) == "1 error to mend before a run (2 warnings)."
    assert verdict(found[1:]) == "No errors, but read the warnings before a run (2 warnings)."
    assert verdict([]) == "Nothing stands in the way of a run."
