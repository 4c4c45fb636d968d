"""Rows of intervals: what is drawn is what the extra holds, and can be read."""

import json
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from rsacompare.reporting import extras, style
from rsacompare.reporting.reading import Reading
from rsacompare.schema.results import add_extra, iter_extras


def made(result, roles, **attrs):
    arrays = {k: xr.DataArray(np.asarray(v), dims="item") for k, v in roles.items()}
    given = {"axis": "difference, r", "title": "t", "caption": "c"} | attrs
    full = add_extra(result, kind="intervals", metric="", arrays=arrays, **given)
    *_, (extra, held) = iter_extras(full, "")
    return extras.DRAW["intervals"](Reading(full), extra, held)


def artist(axis, label):
    (found,) = [a for a in axis.get_children() if a.get_label() == label]
    return found


def rows(n, rng):
    middle = rng.normal(size=n)
    return {"label": [f"row {i}" for i in range(n)], "estimate": middle, "low": middle - 0.5,
            "high": middle + 0.7}  # fmt: skip


def test_dots_intervals_and_ranges_are_the_values(small_result):
    rng = np.random.default_rng(0)
    roles = rows(5, rng) | {
        "inner_low": np.full(5, -0.2), "inner_high": np.full(5, 0.2),
        "range_low": [-0.4, -0.3, np.nan, -0.2, -0.1], "range_high": [0.4, 0.3, np.nan, 0.2, 0.1],
        "outcome": ["sim-a", "equivalent", "undecided", "", "sim-b"],
    }  # fmt: skip
    drawing = made(small_result, roles, reference=0.0, range_label="the range")
    (axis,) = drawing.figure.axes
    dots = artist(axis, "estimate ")
    np.testing.assert_allclose(dots.get_xdata(), roles["estimate"])
    np.testing.assert_allclose(dots.get_ydata(), range(5))
    lines = np.array(artist(axis, "interval ").get_segments())
    np.testing.assert_allclose(lines[:, :, 0], np.c_[roles["low"], roles["high"]])
    inner = np.array(artist(axis, "inner ").get_segments())
    np.testing.assert_allclose(inner[:, :, 0], np.c_[roles["inner_low"], roles["inner_high"]])
    boxes = [p.get_extents() for p in artist(axis, "range").get_paths()]
    assert [round(b.x1, 3) for b in boxes] == [0.4, 0.3, 0.2, 0.1]
    assert [round((b.y0 + b.y1) / 2, 3) for b in boxes] == [0, 1, 3, 4]
    words = {t.get_text(): t for t in axis.texts}
    assert set(words) == {"sim-a", "equivalent", "undecided", "sim-b"}
    networks = Reading(small_result).networks
    assert to_hex(words["sim-b"].get_color()) == style.colour(networks, "sim-b").lower()
    assert axis.get_xlabel() == "difference, r"
    assert axis.get_ylim() == (4.5, -0.5)  # the first row on top
    (legend,) = drawing.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["the range"]


def test_groups_share_a_row_and_networks_keep_their_colour(small_result):
    rng = np.random.default_rng(1)
    roles = rows(6, rng)
    roles["label"] = ["V1", "V1", "V2", "V2", "V3", "V3"]
    roles["group"] = ["sim-b", "other"] * 3
    (axis,) = made(small_result, roles).figure.axes
    reading = Reading(small_result)
    first, second = artist(axis, "estimate sim-b"), artist(axis, "estimate other")
    assert first.get_color() == style.colour(reading.networks, "sim-b")
    assert second.get_color() not in style.OKABE_ITO
    assert first.get_marker() != second.get_marker()
    gap = second.get_ydata() - first.get_ydata()
    np.testing.assert_allclose(gap, gap[0])
    assert 0.3 < gap[0] < 0.5
    np.testing.assert_allclose((first.get_ydata() + second.get_ydata()) / 2, [0, 1, 2])


def test_panels_stand_side_by_side_on_one_scale_or_on_their_own(small_result):
    roles = rows(6, np.random.default_rng(2))
    roles["label"] = ["V1", "V2", "V3"] * 2
    roles["panel"] = ["mean"] * 3 + ["depth"] * 3
    roles["estimate"] = np.r_[1.0, 2, 3, 100, 200, 300]
    roles["low"], roles["high"] = roles["estimate"] - 0.5, roles["estimate"] + 0.5
    left, right = made(small_result, roles).figure.axes
    assert [a.get_title(loc="left") for a in (left, right)] == ["mean", "depth"]
    assert left.get_position().y0 == right.get_position().y0
    assert left.get_xlim() == right.get_xlim()
    assert [t.get_text() for t in left.get_yticklabels()] == ["V1", "V2", "V3"]
    assert not right.get_yticks().size
    own = made(small_result, roles, own_scales=1).figure.axes[0].get_xlim()
    assert own[1] < 5


@pytest.mark.parametrize("n", [3, 40])
def test_labels_do_not_overlap_nor_leave_the_page(small_result, n):
    roles = rows(n, np.random.default_rng(3))
    roles["label"] = [
        f"network_with_a_long_name / layer{i:02d}, without 20 images" for i in range(n)
    ]
    roles["outcome"] = ["equivalent"] * n
    roles["panel"] = ["one"] * n
    figure = made(small_result, roles).figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axis,) = figure.axes
    boxes = [t.get_window_extent() for t in axis.get_yticklabels()]
    boxes.sort(key=lambda b: b.y0)
    assert all(a.y1 <= b.y0 + 0.5 for a, b in pairwise(boxes))
    assert min(b.x0 for b in boxes) >= 0
    assert max(t.get_window_extent().x1 for t in axis.texts) <= figure.bbox.x1
    assert axis.get_position().width * style.WIDTH > 2.5


def test_values_that_are_not_known_leave_room_and_no_mark(small_result):
    roles = {"label": ["a", "b"], "estimate": [np.nan, 1.0], "low": [np.nan] * 2,
             "high": [np.nan] * 2}  # fmt: skip
    (axis,) = made(small_result, roles).figure.axes
    assert np.isfinite(axis.get_xlim()).all()
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b"]


def test_baselines_are_grey_and_do_not_shift_the_colours_of_others(small_result):
    told = json.loads(small_result.attrs["networks"])
    told[0] |= {"baseline": "noise", "baseline_of": "sim-b"}
    reading = Reading(small_result.assign_attrs(networks=json.dumps(told)))
    assert style.colour(reading.networks, "sim-a") == style.GREYS[0]
    assert style.colour(reading.networks, "sim-b") == style.OKABE_ITO[0]
