"""Heat maps of scores, and the extras of a result: RDMs, embeddings, matrices, voxel maps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from os.path import commonprefix
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rsacompare.reporting import style
from rsacompare.reporting.numbers import number, shorten
from rsacompare.reporting.reading import ALPHA, Reading
from rsacompare.reporting.style import INK, WIDTH, Drawing

DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
MOST_SLICES = 24
MOST_LABELS = 60


@style.drawn
def score_maps(reading: Reading, metric: str) -> Drawing:
    """Layer x ROI heat map per network: one colour scale, white at chance, marks for p < .05."""
    networks, rois = reading.networks_of(metric), reading.rois(metric)
    layers = {n: reading.layers(metric, n)[0] for n in networks}
    chance = float(reading.meaning[metric]["chance"])
    grids = {n: _score_grid(reading, metric, n, rois, layers[n]) for n in networks}
    every = np.concatenate([g[0].ravel() for g in grids.values()])
    reach = float(np.nanmax(np.abs(every - chance))) or 1.0
    norm = Normalize(chance - reach, chance + reach)

    longest = max(len(shorten(name, 22)) for names in layers.values() for name in names)
    label = 0.12 + 0.066 * longest
    cell_w, cell_h = 0.3, 0.19
    wide = label + cell_w * max(len(rois), 3) + 0.15
    columns = int(np.clip((WIDTH - 0.75) // wide, 1, len(networks)))
    cell_w = min(0.5, ((WIDTH - 0.75) / columns - label - 0.15) / len(rois))
    slanted = max(len(r) for r in rois) > 4
    top = 0.18 + (0.05 * min(max(len(r) for r in rois), 16) if slanted else 0.14)
    blocks = [networks[i : i + columns] for i in range(0, len(networks), columns)]
    heights = [top + 0.22 + cell_h * max(len(layers[n]) for n in block) for block in blocks]
    total = sum(heights) + 0.3 + 0.12 * (len(blocks) - 1)
    figure = Figure(figsize=(WIDTH, total))
    y = total
    image = None
    for block, height in zip(blocks, heights, strict=True):
        for column, network in enumerate(block):
            n_layers = len(layers[network])
            x = label + column * (label + cell_w * len(rois) + 0.15)
            box = (
                x / WIDTH,
                (y - top - 0.22 - cell_h * n_layers) / total,
                cell_w * len(rois) / WIDTH,
                cell_h * n_layers / total,
            )
            axis = figure.add_axes(box)
            image = _heat(axis, *grids[network], norm, chance, digits=cell_w > 0.27)
            axis.set_yticks(range(n_layers), [shorten(n, 22) for n in layers[network]])
            axis.set_xticks(range(len(rois)), [shorten(r, 16) for r in rois])
            axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
            for text in axis.get_xticklabels() if slanted else []:
                text.set(rotation=45, ha="left", va="bottom", rotation_mode="anchor")
            axis.annotate(
                shorten(network, 30),
                (0, 1),
                (0, 72 * (top - 0.05)),
                xycoords="axes fraction",
                textcoords="offset points",
                color=style.colour(reading.networks, network),
                weight="bold",
                fontsize=8,
            )
        y -= height + 0.12
    right = columns * (label + cell_w * len(rois) + 0.15) + 0.05
    tall = min(2.0, heights[0] - top - 0.22)
    bar = figure.add_axes((right / WIDTH, (total - top - 0.22 - tall) / total,
                           0.11 / WIDTH, tall / total))  # fmt: skip
    figure.colorbar(image, cax=bar).set_label(reading.axis(metric))
    bar.tick_params(length=2)
    style.stamp(figure, reading.simulated)
    caption = (
        "Group mean of each layer and ROI; all networks share the colour scale, white is chance "
        f"({number(chance)}). A dot in the corner marks scores beyond chance after family-wise "
        f"correction over the metric's layer × ROI grid (max-statistic permutation p < {ALPHA:g}). "
        "Layers from input (top) to output (bottom)."
    )
    return Drawing("heat-maps", figure, "Layer × ROI heat maps", caption)


def _score_grid(
    reading: Reading, metric: str, network: str, rois: list[str], names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(layer, roi) scores and family-wise p, NaN where there is no cell."""
    scores = np.full((len(names), len(rois)), np.nan)
    p = scores.copy()
    for j, roi in enumerate(rois):
        curve = reading.curve(metric, roi, network)
        rows = [names.index(n) for n in curve.names]
        scores[rows, j], p[rows, j] = curve.mean, curve.p_fwer
    return scores, p


def _heat(
    axis: Axes,
    scores: np.ndarray,
    p: np.ndarray,
    norm: Normalize,
    chance: float,
    *,
    digits: bool,
) -> Any:
    image = axis.imshow(
        scores, cmap=DIVERGING, norm=norm, aspect="auto", interpolation="none", label="scores"
    )
    red, green, blue, _ = np.moveaxis(image.cmap(norm(np.nan_to_num(scores, nan=chance))), -1, 0)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.6
    for (i, j), value in np.ndenumerate(scores):
        if digits and np.isfinite(value):
            text = f"{value:.2f}".replace("-", "−").replace("0.", ".", 1)
            ink = "white" if dark[i, j] else INK
            axis.text(j, i, text, ha="center", va="center", fontsize=7, color=ink)
    rows, columns = np.nonzero(p < ALPHA)
    ink = np.where(dark[rows, columns], "white", INK)
    axis.scatter(columns + 0.38, rows - 0.3, s=3.5, color=ink, lw=0, label="significant", zorder=3)
    axis.spines[:].set_visible(False)
    return image


# ---- extras: one function per kind; `roles` are the arrays, `extra` the description


@style.drawn
def rdms(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """RDM images in one shared order of stimuli, each as percentiles of its own dissimilarities."""
    values = np.atleast_2d(roles["values"])
    n = round((1 + np.sqrt(1 + 8 * values.shape[1])) / 2)
    names = _labels(extra, roles, len(values))
    category = roles.get("category")
    order = np.arange(n) if category is None else np.argsort(category, kind="stable")
    columns = 4 if len(values) <= 12 else 6
    size = (WIDTH - 0.75 - 0.12 * (columns - 1) - 0.1) / columns
    figure, axes = style.panels(
        len(values), columns, size, width=size, left=0.1, top=0.42, bottom=0.25, gap_x=0.12,
        gap_y=0.42,
    )  # fmt: skip
    upper = np.triu_indices(n, 1)
    image = None
    for axis, vector, name in zip(axes, values, names, strict=True):
        square = np.full((n, n), np.nan)
        square[upper] = square[upper[::-1]] = _percentile(vector)
        image = axis.imshow(
            square[np.ix_(order, order)],
            cmap=SEQUENTIAL,
            vmin=0,
            vmax=100,
            interpolation="none",
            label="rdm",
        )
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if category is not None:
            edges = np.flatnonzero(category[order][1:] != category[order][:-1]) + 0.5
            axis.hlines(edges, -0.5, n - 0.5, color="white", lw=0.5)
            axis.vlines(edges, -0.5, n - 0.5, color="white", lw=0.5)
        finite = vector[np.isfinite(vector)]
        span = f"{number(finite.min())} to {number(finite.max())}" if finite.size else "no values"
        network = name.split("/")[0]
        hue = style.colour(reading.networks, network) if network in reading.networks else INK
        most = 26 if columns == 4 else 17
        for text, ink, rise in ((shorten(name, most), hue, 12), (span, style.GREY, 2)):
            axis.annotate(
                text, (0, 1), (0, rise), xycoords="axes fraction", textcoords="offset points",
                fontsize=7, color=ink,
            )  # fmt: skip
    height = figure.get_figheight()
    tall = min(2.0, height - 0.75)
    bar = figure.add_axes(((WIDTH - 0.6) / WIDTH, (height - 0.42 - tall) / height,
                           0.11 / WIDTH, tall / height))  # fmt: skip
    unit = extra.get("unit", "dissimilarity")
    figure.colorbar(image, cax=bar).set_label(f"{unit}, percentile within each RDM")
    style.stamp(figure, reading.simulated)
    sentence = (
        "All images share one order of stimuli"
        + (
            f", sorted by category ({', '.join(dict.fromkeys(category[order].astype(str)))}; white "
            "lines between them)"
            if category is not None
            else ""
        )
        + f". Colour: percentile of each pair within its own RDM; the range of the {unit} stands "
        "above each image."
    )
    return Drawing("", figure, extra["title"], f"{extra['caption']} {sentence}".strip())


def _percentile(vector: np.ndarray) -> np.ndarray:
    """Ranks as 0..100, ties averaged, NaN kept."""
    out = np.full(vector.shape, np.nan)
    live = np.isfinite(vector)
    unique, inverse, counts = np.unique(vector[live], return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    out[live] = 100 * middle[inverse] / max(live.sum() - 1, 1)
    return out


def _labels(extra: dict[str, Any], roles: dict[str, np.ndarray], n: int) -> list[str]:
    """Names of items: a role `label` or `item`, else an attribute `items`, else numbers."""
    for role in ("label", "item"):
        if role in roles and len(roles[role]) == n:
            return [str(v) for v in roles[role]]
    told = extra.get("items")
    told = json.loads(told) if isinstance(told, str) else told
    return [str(v) for v in told] if told and len(told) == n else [str(i + 1) for i in range(n)]


@style.drawn
def embedding(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """Labelled points with equal axes; the layers of a network are joined in their order."""
    xy = roles["xy"]
    labels = _labels(extra, roles, len(xy))
    groups = roles.get("group", np.full(len(xy), "")).astype(str)
    figure = Figure(figsize=(WIDTH, 5.4))
    axis = figure.add_axes((0.03, 0.04, 0.94, 0.86))
    handles, others = [], 0
    for group in dict.fromkeys(groups.tolist()):
        member = groups == group
        is_network = group in reading.networks
        if is_network:
            hue = style.colour(reading.networks, group)
            shape = style.marker(reading.networks, group)
        else:  # ROIs, categories: colours that no network has, as far as there are some
            free = [c for c in style.OKABE_ITO if c not in _taken(reading)] or [INK]
            free = [INK, *[c for c in free if c != "#000000"]]
            hue, shape = free[others % len(free)], "*hdp<>"[others % 6]
            others += 1
        axis.plot(
            xy[member, 0],
            xy[member, 1],
            ls="-" if is_network else "",
            lw=0.7,
            color=hue,
            marker=shape,
            ms=9 if shape == "*" else 5,
            mec="white",
            mew=0.5,
            label=f"points {group}",
            zorder=3,
        )
        handles.append(Line2D([], [], color=hue, marker=shape, lw=0.7 if is_network else 0,
                              ms=5, label=shorten(group, 28) or "items"))  # fmt: skip
    axis.set_aspect("equal", adjustable="datalim")
    axis.margins(0.08)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(True)
    if len(xy) <= MOST_LABELS:
        _place_labels(axis, xy, [shorten(s, 18) for s in _short_labels(labels, groups)])
    style.legend(figure, handles, columns=5, left=0.15)
    style.stamp(figure, reading.simulated)
    sentence = (
        "Both axes have the same scale and no unit or direction of their own; only distances count."
    )
    return Drawing("", figure, extra["title"], f"{extra['caption']} {sentence}".strip())


def _short_labels(labels: list[str], groups: np.ndarray) -> list[str]:
    """Labels without what all of a group share: `net/` in front, `_out_relu` behind.

    Examples
    --------
    >>> _short_labels(["n/b1_out_relu", "n/b2_out_relu", "V1"], np.array(["n", "n", "brain"]))
    ['b1', 'b2', 'V1']
    """
    short = [
        s[len(g) + 1 :] if s.startswith(f"{g}/") else s
        for s, g in zip(labels, groups.tolist(), strict=True)
    ]
    for group in set(groups.tolist()):
        members = [i for i, g in enumerate(groups) if g == group]
        tail = commonprefix([short[i][::-1] for i in members])[::-1]
        start = re.search(r"[_.\-]", tail)
        if len(members) > 1 and start:
            for i in members:
                short[i] = short[i][: len(short[i]) - len(tail) + start.start()] or short[i]
    return short


def _taken(reading: Reading) -> set[str]:
    return {style.colour(reading.networks, n) for n in reading.networks}


def _place_labels(axis: Axes, xy: np.ndarray, labels: list[str]) -> None:
    """Each label at that of eight places around its point where it covers least."""
    axis.apply_aspect()
    points = axis.transData.transform(xy)
    scale = 72 / axis.figure.dpi
    boxes: list[tuple[float, float, float, float]] = [
        (x - 5, y - 5, x + 5, y + 5) for x, y in points * scale
    ]
    frame = axis.get_window_extent()
    x0, y0, x1, y1 = (v * scale for v in frame.extents)
    for (x, y), text in zip(points * scale, labels, strict=True):
        wide, tall = 4.3 * len(text), 8.0
        best, place = np.inf, (4.0, 4.0, "left", "bottom")
        for reach in (4.0, 9.0, 15.0):
            for dx, dy in ((1, 0), (-1, 0), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7),
                           (0, 1), (0, -1)):  # fmt: skip
                left = x + dx * reach - (wide if dx < 0 else wide / 2 if dx == 0 else 0)
                low = y + dy * reach - (tall if dy < 0 else tall / 2 if dy == 0 else 0)
                box = (left, low, left + wide, low + tall)
                cost = sum(_overlap(box, other) for other in boxes) + 0.3 * reach
                cost += 1e4 * (left < x0 or low < y0 or box[2] > x1 or box[3] > y1)
                if cost < best:
                    ha = "right" if dx < 0 else "center" if dx == 0 else "left"
                    va = "top" if dy < 0 else "center" if dy == 0 else "bottom"
                    best, chosen = cost, box
                    place = (dx * reach, dy * reach, ha, va)
        boxes.append(chosen)
        axis.annotate(
            text, tuple(axis.transData.inverted().transform((x / scale, y / scale))), place[:2],
            textcoords="offset points", ha=place[2], va=place[3], fontsize=7, color=INK, zorder=4,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": style.GREY}
            if np.hypot(*place[:2]) > 8 else None,
        )  # fmt: skip


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


@style.drawn
def matrix(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """A matrix with labelled rows and columns and a colour bar."""
    values = np.atleast_2d(roles["values"])
    row = _side(reading, extra, "row", values.shape[0])
    column = _side(reading, extra, "column", values.shape[1])
    left = 0.15 + 0.068 * max(len(shorten(s, 24)) for s in row)
    below = 0.15 + 0.068 * max(len(shorten(s, 24)) for s in column)
    cell = min(0.4, (WIDTH - left - 0.9) / len(column))
    tall = max(0.19, min(cell, 0.3)) * len(row)
    height = tall + below + 0.3
    figure = Figure(figsize=(WIDTH, height))
    axis = figure.add_axes(
        (left / WIDTH, below / height, cell * len(column) / WIDTH, tall / height)
    )
    finite = values[np.isfinite(values)]
    signed = finite.size and finite.min() < 0 < finite.max()
    reach = float(np.abs(finite).max()) if finite.size else 1.0
    limits = {"vmin": -reach, "vmax": reach} if signed else {}
    image = axis.imshow(
        values, cmap=DIVERGING if signed else SEQUENTIAL, aspect="auto", interpolation="none",
        label="matrix", **limits,
    )  # fmt: skip
    axis.set_yticks(range(len(row)), [shorten(s, 24) for s in row])
    axis.set_xticks(range(len(column)), [shorten(s, 24) for s in column], rotation=90)
    axis.tick_params(length=0)
    bar = figure.add_axes(((left + cell * len(column) + 0.12) / WIDTH, below / height,
                           0.11 / WIDTH, min(tall, 2.0) / height))  # fmt: skip
    figure.colorbar(image, cax=bar).set_label(str(extra.get("unit", "")))
    style.stamp(figure, reading.simulated)
    return Drawing("", figure, extra["title"], extra["caption"])


def _side(reading: Reading, extra: dict[str, Any], dim: str, n: int) -> list[str]:
    """Labels of a matrix's rows or columns: the text array that lies along that dim."""
    prefix = extra["prefix"]
    for role in extra["roles"]:
        array = reading.result[f"{prefix}.{role}"]
        if role != "values" and array.dims == (f"{prefix}.{dim}",):
            return [str(v) for v in array.values]
    return [str(i + 1) for i in range(n)]


@style.drawn
def voxel_map(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """A mosaic of slices along the third voxel axis, empty slices left out."""
    values, ijk = roles["values"].astype(float), roles["ijk"].astype(int)
    ijk = ijk - ijk.min(axis=0)
    shape = ijk.max(axis=0) + 1
    volume = np.full(shape, np.nan)
    volume[tuple(ijk.T)] = values
    slices = np.unique(ijk[:, 2])
    left_out = max(0, len(slices) - MOST_SLICES)
    if left_out:
        slices = slices[np.linspace(0, len(slices) - 1, MOST_SLICES).round().astype(int)]
    columns = min(6, len(slices))
    size = (WIDTH - 0.85 - 0.08 * (columns - 1)) / columns
    tall = float(np.clip(size * shape[1] / shape[0], 0.4, 1.6 * size))
    figure, axes = style.panels(
        len(slices), columns, tall, width=size, left=0.1, top=0.3, bottom=0.25, gap_x=0.08,
        gap_y=0.22,
    )  # fmt: skip
    finite = values[np.isfinite(values)]
    signed = finite.size and finite.min() < 0
    reach = float(np.abs(finite).max()) if finite.size else 1.0
    low = -reach if signed else 0.0
    image = None
    offset = int(roles["ijk"].astype(int)[:, 2].min())
    for axis, k in zip(axes, slices, strict=True):
        image = axis.imshow(
            volume[:, :, k].T, cmap=DIVERGING if signed else SEQUENTIAL, vmin=low, vmax=reach,
            origin="lower", interpolation="none", label="slice",
        )  # fmt: skip
        axis.set(xticks=[], yticks=[], facecolor="#F2F2F2")
        axis.set_title(f"k = {k + offset}", fontsize=7, pad=2)
        axis.spines[:].set_visible(False)
    height = figure.get_figheight()
    bar = figure.add_axes(((WIDTH - 0.62) / WIDTH, 0.25 / height, 0.11 / WIDTH,
                           min(1.8, height - 0.55) / height))  # fmt: skip
    figure.colorbar(image, cax=bar).set_label(str(extra.get("unit", "")))
    style.stamp(figure, reading.simulated)
    sentence = "Slices along the third voxel axis, in voxel coordinates; light grey: no voxel."
    if left_out:
        sentence += f" {left_out} slices between them are not shown."
    return Drawing("", figure, extra["title"], f"{extra['caption']} {sentence}".strip())


Drawer = Callable[[Reading, dict[str, Any], dict[str, np.ndarray]], Drawing]
DRAW: dict[str, Drawer] = {
    "rdm": rdms,
    "embedding": embedding,
    "matrix": matrix,
    "map": voxel_map,
}
