"""What a figure shows is what the result says: heights, points, whiskers, bands, marks."""

import json
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from rsacompare.reporting import extras, figures, maps, panels, style
from rsacompare.reporting.reading import Reading
from rsacompare.schema.results import add_extra, iter_extras

PAIR = ("sim-alexnet", "sim-resnet50")


@pytest.fixture(scope="module")
def phantom(phantom_result):
    return Reading(phantom_result)


@pytest.fixture(scope="module")
def real(real_result):
    return Reading(real_result)


def _labelled(axis, label):
    found = [a for a in axis.get_children() if a.get_label() == label]
    assert len(found) == 1, f"{len(found)} artists called '{label}'"
    return found[0]


def _cells(result, metric, network, layer):
    return result.sel(metric=metric, layer=f"{network}/{layer}")


def _horizontal_lines(axis):
    return [line.get_ydata()[0] for line in axis.lines if len(set(line.get_ydata())) == 1]


def test_bars_dots_and_whiskers_of_yus_view_are_the_results(phantom, phantom_result):
    drawing = figures.layer_pairs(phantom, "rsa", PAIR)
    layers, ordinal = phantom.layer_pairs("rsa", PAIR)
    assert ordinal
    assert len(drawing.figure.axes) == len(layers) == 8
    for axis, names in zip(drawing.figure.axes, layers, strict=True):
        for network, layer in zip(PAIR, names, strict=True):
            cells = _cells(phantom_result, "rsa", network, layer)
            bars = next(c for c in axis.containers if c.get_label() == network)
            np.testing.assert_allclose([b.get_height() for b in bars], cells["mean_score"])
            assert {b.get_y() for b in bars} == {0.0}
            whiskers = np.array(_labelled(axis, f"interval {network}").get_segments())
            np.testing.assert_allclose(whiskers[:, :, 1], cells["ci"])
            dots = _labelled(axis, f"subjects {network}").get_offsets()
            np.testing.assert_allclose(dots[:, 1], cells["score"].T.values.ravel())
        a, b = (next(c for c in axis.containers if c.get_label() == n) for n in PAIR)
        gap = np.array([q.get_x() - p.get_x() for p, q in zip(a, b, strict=True)])
        np.testing.assert_allclose(gap, 0.4)  # adjacent, a on the left


def test_stars_stand_where_the_corrected_p_says(phantom):
    drawing = figures.layer_pairs(phantom, "decoding", PAIR)
    rois = phantom.rois("decoding")
    layers, _ = phantom.layer_pairs("decoding", PAIR)
    total = 0
    for axis, names in zip(drawing.figure.axes, layers, strict=True):
        drawn = {rois[round(t.get_position()[0])] for t in axis.texts if t.get_text() == "*"}
        rows = phantom.rows("decoding", PAIR, "ordinal")
        expected = {r.roi for r in rows if (r.layer_a, r.layer_b) == names and r.p_fwer < 0.05}
        assert drawn == expected
        total += len(drawn)
    assert 0 < total < 80


def test_ceiling_boxes_reach_from_lower_to_upper_bound(phantom, phantom_result):
    axis = figures.layer_pairs(phantom, "rsa", PAIR).figure.axes[0]
    boxes = [c for c in axis.collections if c.get_label() == "ceiling"]
    for collection, (network, layer) in zip(
        boxes, zip(PAIR, ("conv1", "conv1"), strict=True), strict=True
    ):
        cells = _cells(phantom_result, "rsa", network, layer)
        spans = [p.get_extents().intervaly for p in collection.get_paths()]
        expected = np.stack([cells["group_ceiling_low"], cells["group_ceiling_high"]], axis=1)
        np.testing.assert_allclose(spans, expected)


def test_chance_is_drawn_where_the_metric_says(small_result):
    result = small_result.copy()
    meaning = json.loads(result.attrs["meaning"])
    meaning["rsa"]["chance"] = 0.05
    result.attrs = result.attrs | {"meaning": json.dumps(meaning)}
    reading = Reading(result)
    yus = figures.layer_pairs(reading, "rsa", ("sim-a", "sim-b")).figure
    for figure in (yus, panels.roi_panels(reading, "rsa").figure):
        for axis in figure.axes:
            assert 0.05 in _horizontal_lines(axis)
            assert 0.0 not in _horizontal_lines(axis)
    tops = [b.get_y() + b.get_height() for b in yus.axes[0].containers[0]]
    np.testing.assert_allclose(tops, _cells(result, "rsa", "sim-a", "l1")["mean_score"])
    heat = _labelled(maps.score_maps(reading, "rsa").figure.axes[0], "scores")
    assert heat.norm(0.05) == pytest.approx(0.5)


def test_unequal_layer_counts_pair_by_nearest_depth(real, real_result):
    pair = ("alexnet_w1a2", "resnet50_w1a2")
    layers, ordinal = real.layer_pairs("rsa", pair)
    assert not ordinal
    # depths k/6 against j/18: layer k of the six stands exactly at layer 3k of the eighteen
    assert layers == [
        (f"conv{k}", f"block{3 * k}_bottleneck_residual_out_relu") for k in range(1, 7)
    ]
    drawing = figures.layer_pairs(real, "rsa", pair)
    assert "nearest in relative depth" in drawing.caption
    assert "no test" in drawing.caption
    hit = _cells(real_result, "rsa", "resnet50_w1a2", layers[2][1])["mean_score"]
    bars = next(c for c in drawing.figure.axes[2].containers if c.get_label() == pair[1])
    np.testing.assert_allclose([b.get_height() for b in bars], hit)


def test_roi_panels_show_every_network_subject_and_ceiling(real, real_result):
    drawing = panels.roi_panels(real, "rsa")
    rois = real.rois("rsa")
    assert [a.get_title(loc="left") for a in drawing.figure.axes] == [
        "EVC (n = 15)",
        "IT (n = 15)",
        "hIT (n = 4)",
    ]
    for axis, roi in zip(drawing.figure.axes, rois, strict=True):
        for network in real.networks:
            own = real_result["network"].values == network
            cells = real_result.sel(metric="rsa", roi=roi).isel(layer=own)
            line = _labelled(axis, network)
            np.testing.assert_allclose(line.get_ydata(), cells["mean_score"])
            np.testing.assert_allclose(np.diff(line.get_xdata()), 1)  # a place for every layer
            dots = _labelled(axis, f"subjects {network}").get_offsets()
            scores = cells["score"].dropna("subject").values
            np.testing.assert_allclose(np.sort(dots[:, 1]), np.sort(scores.ravel()))
        ends = [_labelled(axis, n).get_xdata()[[0, -1]] for n in real.networks]
        assert all(a[1] < b[0] for a, b in pairwise(ends))  # one network after the other
        band = _labelled(axis, "ceiling")
        low = float(real_result["group_ceiling_low"].sel(metric="rsa", roi=roi)[0])
        high = float(real_result["group_ceiling_high"].sel(metric="rsa", roi=roi)[0])
        assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((low, high))


def test_layers_are_named_below_the_panels_in_their_networks_colour(real):
    axis = panels.roi_panels(real, "rsa").figure.axes[-1]
    labels = axis.get_xticklabels()
    names = {(t.get_text(), to_hex(t.get_color()).upper()) for t in labels}
    assert ("conv1", style.OKABE_ITO[0]) in names
    assert ("block18", style.OKABE_ITO[1]) in names
    at = _labelled(axis, "resnet50_w1a2").get_xdata()
    assert [t.get_position()[0] for t in labels if t.get_text() == "block18"] == [at[-1]]


def test_depth_curves_are_the_means_over_depth(real, real_result, phantom):
    assert panels.depth_curves(phantom, "rsa") is None  # equal counts: the same as the panels
    drawing = panels.depth_curves(real, "rsa")
    for axis, roi in zip(drawing.figure.axes, real.rois("rsa"), strict=True):
        for network in real.networks:
            own = real_result["network"].values == network
            cells = real_result.sel(metric="rsa", roi=roi).isel(layer=own)
            line = _labelled(axis, network)
            np.testing.assert_allclose(line.get_xdata(), cells["depth"])
            np.testing.assert_allclose(line.get_ydata(), cells["mean_score"])


def test_stimuli_have_a_panel_per_rdm(real):
    xy = np.random.default_rng(1).normal(size=(12, 2))
    roles = {
        "xy": xy,
        "label": np.array(list("abcdef") * 2),
        "group": np.array(["face", "face", "face", "tool", "tool", "tool"] * 2),
        "panel": np.array(["brain: IT"] * 6 + ["squeezenet/fire9"] * 6),
    }
    figure = extras.embedding(real, {"title": "t", "caption": "c.", "roles": list(roles)}, roles)
    axes = figure.figure.axes
    assert [a.get_title(loc="left") for a in axes] == ["brain: IT", "squeezenet/fire9"]
    for n, axis in enumerate(axes):
        for m, group in enumerate(("face", "tool")):
            start = 6 * n + 3 * m
            points = _labelled(axis, f"points {group}").get_xydata()
            np.testing.assert_allclose(points, xy[start : start + 3])
    hues = {to_hex(line.get_color()).upper() for line in axes[0].lines}
    assert len(hues) == 2
    assert not hues & set(style.OKABE_ITO)  # no network's colour


def test_a_ceiling_that_depends_on_the_layer_is_a_line_per_network(phantom, phantom_result):
    axis = panels.roi_panels(phantom, "decoding").figure.axes[0]
    lines = [line for line in axis.lines if line.get_label() == "ceiling"]
    for line, network in zip(lines, PAIR, strict=True):
        own = phantom_result["network"].values == network
        cells = phantom_result.sel(metric="decoding", roi="V1").isel(layer=own)
        np.testing.assert_allclose(line.get_ydata(), cells["group_ceiling_high"])


def test_no_ceiling_is_no_band(phantom_result):
    result = phantom_result.copy()
    for name in ("group_ceiling_low", "group_ceiling_high"):
        result[name] = result[name] * np.nan
    reading = Reading(result)
    for figure in (
        panels.roi_panels(reading, "rsa").figure,
        figures.layer_pairs(reading, "rsa", PAIR).figure,
    ):
        for axis in figure.axes:
            found = [a for a in axis.get_children() if a.get_label() == "ceiling"]
            assert not any(len(a.get_paths()) for a in found)


def test_answer_shows_each_difference_with_interval_range_and_verdict(phantom):
    figure = figures.answer(phantom).figure
    rois = phantom.rois("rsa")
    for axis, metric in zip(figure.axes, phantom.metrics, strict=True):
        rows = phantom.rows(metric, PAIR, "mean")
        bands = axis.collections[0].get_paths()
        for row, band in zip(rows, bands, strict=True):
            point = _labelled(axis, f"difference {row.roi}")
            assert point.get_xdata()[0] == row.difference
            assert point.get_ydata()[0] == rois.index(row.roi)
            assert [row.ci_low, row.ci_high] in [list(li.get_xdata()) for li in axis.lines]
            np.testing.assert_allclose(band.get_extents().intervalx, [-row.bound, row.bound])
            hue = {"a": style.OKABE_ITO[0], "b": style.OKABE_ITO[1]}.get(
                row.verdict, style.INK if row.verdict == "equivalent" else style.GREY
            )
            assert to_hex(point.get_color()).upper() == hue.upper()
        low, high = axis.get_xlim()
        assert low == -high  # zero in the middle: no side looks larger


def test_answer_of_many_contrasts_has_a_band_for_each(real):
    assert real.pairing == "depth"  # layer counts differ: a mean would depend on them
    axes = figures.answer(real).figure.axes
    assert len(axes) == 6
    for axis, pair in zip(axes, real.pairs, strict=True):
        for row in real.rows("rsa", pair, "depth"):
            assert _labelled(axis, f"difference {row.roi}").get_xdata()[0] == row.difference


def test_heat_maps_hold_the_scores_and_mark_the_significant(real, real_result):
    figure = maps.score_maps(real, "rsa").figure
    marked = 0
    for axis, network in zip(figure.axes, real.networks, strict=False):
        own = real_result["network"].values == network
        cells = real_result.sel(metric="rsa").isel(layer=own).transpose(..., "layer", "roi")
        shown = _labelled(axis, "scores").get_array()
        np.testing.assert_allclose(shown, cells["mean_score"])
        dots = _labelled(axis, "significant").get_offsets()
        found = {(round(float(y) + 0.3), round(float(x) - 0.38)) for x, y in dots}
        p = cells["p_null_fwer"].values
        assert found == set(zip(*(i.tolist() for i in np.nonzero(p < 0.05)), strict=True))
        marked += len(found)
    assert 0 < marked < 129


def test_rdms_share_one_order_sorted_by_category(real, real_result):
    extra, roles = next(iter_extras(real_result, "rsa"))
    figure = extras.rdms(real, extra, roles).figure
    images = [a for axis in figure.axes for a in axis.images if a.get_label() == "rdm"]
    assert len(images) == 6
    names = roles["category"].tolist()
    order = sorted(range(92), key=lambda i: (names.index(names[i]), i))
    upper = np.triu_indices(92, 1)
    for image, vector in zip(images, roles["values"], strict=True):
        square = np.zeros((92, 92))
        square[upper] = vector
        square = (square + square.T)[np.ix_(order, order)]
        shown = np.ma.filled(image.get_array(), np.nan)
        assert np.isnan(np.diag(shown)).all()
        np.testing.assert_array_equal(
            np.argsort(shown[upper], kind="stable"), np.argsort(square[upper], kind="stable")
        )
        assert shown[upper].min() == 0
        assert shown[upper].max() == 100
    # the last was made with the strongest categories: low within, high between
    labels = roles["category"][order]
    same = (labels[:, None] == labels[None, :])[upper]
    assert shown[upper][same].mean() < 20 < 50 < shown[upper][~same].mean()


def test_embedding_has_equal_axes_and_joins_a_networks_layers(real, real_result):
    extra, roles = next(e for e in iter_extras(real_result, "rsa") if e[0]["kind"] == "embedding")
    axis = extras.embedding(real, extra, roles).figure.axes[0]
    assert axis.get_aspect() == 1
    for group in dict.fromkeys(roles["group"]):
        line = _labelled(axis, f"points {group}")
        np.testing.assert_allclose(line.get_xydata(), roles["xy"][roles["group"] == group])
        assert line.get_linestyle() == ("None" if group == "brain" else "-")
    texts = {t.get_text() for t in axis.texts}
    assert {"EVC", "IT", "hIT", "prob", "block18"} <= texts


def test_matrix_and_voxel_map_show_their_values(real, real_result, phantom, phantom_result):
    extra, roles = next(e for e in iter_extras(real_result, "rsa") if e[0]["kind"] == "matrix")
    axis = maps.matrix(real, extra, roles).figure.axes[0]
    np.testing.assert_allclose(_labelled(axis, "matrix").get_array(), roles["values"])
    assert [t.get_text() for t in axis.get_yticklabels()] == ["EVC", "IT", "hIT"]

    extra, roles = next(iter_extras(phantom_result, "encoding"))
    slices = [a for a in maps.voxel_map(phantom, extra, roles).figure.axes if a.images]
    for k in range(5):
        here = roles["ijk"][:, 2] == k
        i, j = roles["ijk"][here, :2].T
        shown = slices[k].images[0].get_array()
        np.testing.assert_allclose(shown[j, i], roles["values"][here])


def _all_drawings(reading):
    yield figures.answer(reading)
    for metric in reading.metrics:
        yield panels.roi_panels(reading, metric)
        curves = panels.depth_curves(reading, metric)
        if curves is not None:
            yield curves
        yield maps.score_maps(reading, metric)
        yield figures.layer_pairs(reading, metric, reading.pairs[0])
        for extra, roles in iter_extras(reading.result, metric):
            if extra["kind"] != "table":
                yield extras.DRAW[extra["kind"]](reading, extra, roles)


@pytest.mark.parametrize("which", ["phantom", "real"])
def test_all_text_is_readable_in_print_and_inside_the_figure(which, request):
    reading = request.getfixturevalue(which)
    for drawing in _all_drawings(reading):
        figure = drawing.figure
        assert figure.get_figwidth() <= 7.2
        with matplotlib.rc_context(style.RC):
            figure.draw_without_rendering()
            renderer = FigureCanvasAgg(figure).get_renderer()
            width, height = figure.bbox.size
            for text in figure.findobj(matplotlib.text.Text):
                if text.get_text().strip() and text.get_visible():
                    assert text.get_fontsize() >= 7, (drawing.title, text.get_text())
            for legend in figure.legends:
                box = legend.get_window_extent(renderer)
                assert 0 <= box.x0 < box.x1 <= width, drawing.title
                tops = [a.get_tightbbox(renderer).y1 for a in figure.axes]
                assert box.y0 >= max(tops), f"{drawing.title}: legend over a panel"
            for axis in figure.axes:
                shown = [t for t in axis.texts if t.get_text().strip()]
                shown += [axis.xaxis.label, axis.yaxis.label, axis.title]
                shown += [
                    tick.label1
                    for side in (axis.xaxis, axis.yaxis)
                    for tick in side.get_major_ticks()
                    if tick.label1.get_visible()
                    and side.get_view_interval()[0] <= tick.get_loc()
                    and tick.get_loc() <= side.get_view_interval()[1]
                ]
                for text in shown:
                    if text.get_text().strip():
                        box = text.get_window_extent(renderer)
                        inside = box.x0 >= -1 and box.y0 >= -1
                        inside &= box.x1 <= width + 1 and box.y1 <= height + 1
                        assert inside, (drawing.title, text.get_text(), box, (width, height))


def test_a_network_has_one_colour_everywhere(real):
    for network, hue in zip(real.networks, style.OKABE_ITO, strict=False):
        for axis in panels.roi_panels(real, "rsa").figure.axes:
            assert to_hex(_labelled(axis, network).get_color()).upper() == hue
    last = figures.layer_pairs(real, "rsa", ("squeezenet", "alexnet_a2020")).figure.axes[0]
    hues = [to_hex(c[0].get_facecolor()).upper() for c in last.containers]
    assert hues == [style.OKABE_ITO[2], style.OKABE_ITO[3]]


def test_same_result_gives_identical_files_and_leaves_matplotlib_alone(small_result, tmp_path):
    before = dict(matplotlib.rcParams)
    files = []
    for n in range(2):
        drawing = panels.roi_panels(Reading(small_result), "rsa")
        svg = style.save(drawing, tmp_path / str(n))
        png = (tmp_path / str(n) / f"{drawing.name}.png").read_bytes()
        files.append((svg, png))
    assert files[0] == files[1]
    assert dict(matplotlib.rcParams) == before


def test_simulated_figures_say_so_themselves(phantom, real):
    for reading, expected in ((phantom, True), (real, False)):
        for drawing in (figures.answer(reading), maps.score_maps(reading, "rsa")):
            texts = [t.get_text() for t in drawing.figure.texts]
            assert ("SIMULATED DATA" in texts) == expected


def _volume(reading, unit="r", affine=None, scale=1.0, **more):
    """A reading whose only extra is a map of 2 x 3 x 2 voxels."""
    ijk = np.stack(np.meshgrid(range(2), range(3), range(2), indexing="ij"), -1).reshape(-1, 3)
    values = scale * np.arange(1.0, 13.0)
    extra = {
        "kind": "map", "metric": "rsa", "title": "map, sub-01", "caption": "A map.", "unit": unit,
        "roles": ["values", "ijk"], "prefix": "none",
    }  # fmt: skip
    if affine is not None:
        extra["affine"] = json.dumps(affine)
    return maps.voxel_map(reading, extra | more, {"values": values, "ijk": ijk})


def test_a_map_says_which_way_it_lies_and_keeps_the_shape_of_its_voxels(real):
    affine = [[-3.0, 0, 0, 60], [0, 0, 4.0, 0], [0, -6.0, 0, 0], [0, 0, 0, 1]]
    drawing = _volume(real, affine=affine)
    said = [t.get_text() for t in drawing.figure.texts]
    assert "left to right: R → L; bottom to top: S → I" in said
    assert "From left to right R → L, from bottom to top S → I" in drawing.caption
    assert [a.get_aspect() for a in drawing.figure.axes if a.images] == [2.0, 2.0]
    without = _volume(real)
    assert not any("→" in t.get_text() for t in without.figure.texts)


def test_best_layers_have_a_colour_each(real):
    drawing = _volume(real, unit="layer", scale=0.25)
    image = drawing.figure.axes[0].images[0]
    assert image.get_clim() == (0.5, 3.5)
    assert image.cmap.N == 3


def test_maps_of_one_quantity_on_a_page_share_their_colours(real_result):
    result = real_result.copy()
    for size, unit, shown in (
        (1.0, "r", True),
        (5.0, "r", True),
        (9.0, "r", False),
        (7, "x", True),
    ):
        result = add_extra(
            result,
            kind="map",
            metric="rsa",
            title="t",
            caption="c",
            unit=unit,
            shown=shown,
            arrays={
                "values": xr.DataArray(np.array([size, -0.5, 0.1]), dims="voxel"),
                "ijk": xr.DataArray(np.arange(9).reshape(3, 3), dims=("voxel", "axis")),
            },
        )
    reading = Reading(result)
    limits = [
        maps.voxel_map(reading, extra, roles).figure.axes[0].images[0].get_clim()
        for extra, roles in iter_extras(result, "rsa")
        if extra["kind"] == "map" and extra["shown"]
    ]
    assert limits == [(-5, 5), (-5, 5), (-7, 7)]


def test_no_ceiling_is_explained_where_there_is_none(real_result):
    bare = real_result.copy()
    for name in ("ceiling_low", "ceiling_high", "group_ceiling_low", "group_ceiling_high"):
        bare[name] = bare[name] * np.nan
    for result, told in ((real_result, True), (bare, False)):
        reading = Reading(result)
        for drawing in (
            panels.roi_panels(reading, "rsa"),
            figures.layer_pairs(reading, "rsa", reading.pairs[0]),
        ):
            keys = [t.get_text() for t in drawing.figure.legends[0].get_texts()]
            assert ("noise ceiling" in " ".join(keys)) is told
            assert ("noise ceiling" in drawing.caption) is told
