"""The kind `curves`: what is drawn is what the arrays hold."""

import numpy as np
import pytest
import xarray as xr

from rsacompare.reporting import curves
from rsacompare.reporting.pages import report
from rsacompare.reporting.reading import Reading
from rsacompare.schema.results import add_extra, iter_extras


def with_curves(result, panels=("V1", "V2"), names=("sim-a − sim-b",), bands=True, **attrs):
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 5)
    rows = [(p, n, t) for p in panels for n in names for t in x]
    y = rng.normal(0, 0.1, len(rows))
    arrays = {"x": [r[2] for r in rows], "y": y, "curve": [r[1] for r in rows],
              "panel": [r[0] for r in rows]}  # fmt: skip
    if bands:
        arrays |= {"low": y - 0.1, "high": y + 0.1, "outer_low": y - 0.2, "outer_high": y + 0.2}
    return add_extra(
        result,
        kind="curves",
        metric="rsa",
        title="Curves",
        caption="What they are.",
        arrays={k: xr.DataArray(np.asarray(v), dims="point") for k, v in arrays.items()},
        **({"x_axis": "depth", "y_axis": "difference, r"} | attrs),
    )


def drawn(result):
    extra, roles = [e for e in iter_extras(result, "rsa") if e[0]["kind"] == "curves"][-1]
    return curves.curves(Reading(result), extra, roles), roles


def line(axis, label):
    return next(x for x in axis.lines if x.get_label() == label)


def test_lines_and_bands_hold_the_numbers(small_result):
    drawing, roles = drawn(with_curves(small_result, reference=0.0))
    assert len(drawing.figure.axes) == 2
    for axis, panel in zip(drawing.figure.axes, ("V1", "V2"), strict=True):
        here = roles["panel"] == panel
        shown = line(axis, "sim-a − sim-b").get_xydata()
        assert shown == pytest.approx(np.c_[roles["x"][here], roles["y"][here]])
        for label, low, high in (("band", "low", "high"), ("outer", "outer_low", "outer_high")):
            (band,) = [c for c in axis.collections if c.get_label() == label]
            corners = band.get_paths()[0].vertices
            assert corners[:, 1].min() == pytest.approx(roles[low][here].min())
            assert corners[:, 1].max() == pytest.approx(roles[high][here].max())
        assert axis.get_title(loc="left") == panel
    # one scale for all panels, with all of every band on it
    limits = {axis.get_ylim() for axis in drawing.figure.axes}
    ((low, high),) = limits
    assert low < roles["outer_low"].min()
    assert high > roles["outer_high"].max()
    assert drawing.figure.axes[0].get_ylabel() == "difference, r"


def test_the_bar_ends_where_the_band_crosses_the_reference(tiny_result):
    y = np.array([0.5, 0.5, 0.1, 0.1])
    arrays = {"x": np.arange(4.0), "y": y, "curve": np.full(4, "d"), "low": y - 0.1,
              "high": y + 0.1, "outer_low": y - 0.3, "outer_high": y + 0.3}  # fmt: skip
    result = add_extra(
        tiny_result, kind="curves", metric="rsa", title="", caption="", reference=0.0,
        arrays={k: xr.DataArray(v, dims="point") for k, v in arrays.items()},
    )  # fmt: skip
    drawing, _ = drawn(result)
    (bar,) = [x for x in drawing.figure.axes[0].lines if x.get_label() == "outside"]
    # the lower edge falls from .2 at 1 to −.2 at 2
    assert bar.get_xdata() == pytest.approx([0.0, 1.5])


def test_networks_have_their_colour_and_named_places_whiskers(small_result):
    result = with_curves(small_result, ["rho"], ["sim-a", "sim-b"], x_labels=["V1", "V2", "V3"])
    drawing, roles = drawn(result)
    axis = drawing.figure.axes[0]
    reading = Reading(result)
    for network in ("sim-a", "sim-b"):
        assert line(axis, network).get_color() == curves.style.colour(reading.networks, network)
        (whiskers,) = [
            c for c in axis.collections
            if c.get_segments()[0][0, 0] == line(axis, network).get_xdata()[0]
        ]  # fmt: skip
        own = roles["curve"] == network
        ends = np.array(whiskers.get_segments())[:, :, 1]
        assert ends == pytest.approx(np.c_[roles["low"], roles["high"]][own])
    # side by side, not on top of each other
    assert line(axis, "sim-a").get_xdata()[0] < line(axis, "sim-b").get_xdata()[0]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["V1", "V2", "V3"]


def test_ten_panels_without_overlap_and_the_page_has_the_figure(small_result, tmp_path):
    result = with_curves(small_result, [f"ROI {i}" for i in range(10)], reference=0.0,
                         band_label="pointwise", outer_label="simultaneous")  # fmt: skip
    drawing, _ = drawn(result)
    boxes = [axis.get_position() for axis in drawing.figure.axes]
    assert len(boxes) == 10
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a.x1 <= b.x0 + 1e-9 or b.x1 <= a.x0 + 1e-9 or a.y0 >= b.y1 or b.y0 >= a.y1
        assert a.width * curves.style.WIDTH > 1.5
    told = [t.get_text() for t in drawing.figure.legends[0].get_texts()]
    assert told == ["sim-a − sim-b", "pointwise", "simultaneous", "that band leaves out 0"]
    report(result, tmp_path)
    assert "What they are." in (tmp_path / "rsa.html").read_text()
    assert list((tmp_path / "figures").glob("rsa-curves-*.svg"))
