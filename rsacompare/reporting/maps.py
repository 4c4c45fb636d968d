"""Heat maps of scores; matrices and voxel maps."""

from __future__ import annotations

import json
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rsacompare.reporting import style
from rsacompare.reporting.numbers import number, shorten
from rsacompare.reporting.reading import ALPHA, Reading
from rsacompare.reporting.style import INK, WIDTH, Drawing
from rsacompare.schema.results import iter_extras

DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
MOST_SLICES = 24
BAR_ROOM = 1.1  # inches beside the slices, for a colour bar with a name of up to three lines
SHORTEST_BAR = 0.9  # inches that the numbers and the name of a colour bar need


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
    label = 0.1 + 0.06 * longest
    cell_w, cell_h = 0.3, 0.19
    wide = label + cell_w * max(len(rois), 3) + 0.15
    columns = int(np.clip((WIDTH - 0.75) // wide, 1, len(networks)))
    cell_w = min(0.5, ((WIDTH - 0.75) / columns - label - 0.15) / len(rois))
    slanted = max(len(r) for r in rois) > 4
    top = 0.18 + (0.05 * min(max(len(r) for r in rois), 16) if slanted else 0.14)
    blocks = [networks[i : i + columns] for i in range(0, len(networks), columns)]
    heights = [top + 0.22 + cell_h * max(len(layers[n]) for n in block) for block in blocks]
    total = sum(heights) + 0.3 + 0.12 * (len(blocks) - 1)
    # a map of few rows is lower than its colour bar, which must not reach down to the stamp
    total = max(total, top + (0.42 if reading.simulated else 0.32) + SHORTEST_BAR)
    figure = Figure(figsize=(WIDTH, total))
    y = total
    image: Any = None
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
    tall = min(2.0, max(heights[0] - top - 0.22, SHORTEST_BAR))
    bar = figure.add_axes((right / WIDTH, (total - top - 0.22 - tall) / total,
                           0.11 / WIDTH, tall / total))  # fmt: skip
    unit = str(reading.meaning[metric].get("unit", ""))
    said = next((s for s in (reading.axis(metric), unit) if len(s) <= tall / 0.06), unit)
    figure.colorbar(image, cax=bar).set_label(shorten(said, int(tall / 0.05)))
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
            text = f"{round(value, 2) + 0:.2f}".replace("-", "−").replace("0.", ".", 1)
            hue = "white" if dark[i, j] else INK
            axis.text(j, i, text, ha="center", va="center", fontsize=7, color=hue)
    rows, columns = np.nonzero(p < ALPHA)
    ink = np.where(dark[rows, columns], "white", INK)
    axis.scatter(columns + 0.38, rows - 0.3, s=3.5, color=ink, lw=0, label="significant", zorder=3)
    axis.spines[:].set_visible(False)
    return image


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
    limits: dict[str, Any] = {"vmin": -reach, "vmax": reach} if signed else {}
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
    start = ijk.min(axis=0)
    ijk = ijk - start
    shape = ijk.max(axis=0) + 1
    volume = np.full(shape, np.nan)
    volume[tuple(ijk.T)] = values
    slices = np.unique(ijk[:, 2])
    left_out = max(0, len(slices) - MOST_SLICES)
    if left_out:
        slices = slices[np.linspace(0, len(slices) - 1, MOST_SLICES).round().astype(int)]
    affine = np.array(json.loads(extra["affine"]), dtype=float) if "affine" in extra else np.eye(4)
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    aspect = float(sides[1] / sides[0]) if sides[0] > 0 and sides[1] > 0 else 1.0
    columns = min(6, len(slices))
    size = (WIDTH - BAR_ROOM - 0.08 * (columns - 1)) / columns
    tall = float(np.clip(size * aspect * shape[1] / shape[0], 0.4, 1.6 * size))
    figure, axes = style.panels(
        len(slices), columns, tall, width=size, left=0.1, top=0.3, bottom=0.32, gap_x=0.08,
        gap_y=0.22,
    )  # fmt: skip
    look = _layer_colours(values) if extra.get("unit") == "layer" else _colours(reading, extra)
    image: Any = None
    for axis, k in zip(axes, slices, strict=True):
        image = axis.imshow(
            volume[:, :, k].T, origin="lower", interpolation="none", label="slice", aspect=aspect,
            **look,
        )  # fmt: skip
        axis.set(xticks=[], yticks=[], facecolor="#F2F2F2")
        axis.set_title(f"k = {k + start[2]}", fontsize=7, pad=2)
        axis.spines[:].set_visible(False)
    _voxel_bar(figure, image, str(extra.get("unit", "")))
    style.stamp(figure, reading.simulated)
    sentence = "Slices along the third voxel axis (k); light grey: no voxel, or none with a value."
    if extra.get("unit") != "layer":
        sentence += " Maps of one quantity on this page share their colours."
    if "affine" in extra:
        across, up = _direction(affine[:3, 0]), _direction(affine[:3, 1])
        text = f"left to right: {across}; bottom to top: {up}"
        figure.text(0.1 / WIDTH, 0.05 / figure.get_figheight(), text, fontsize=7, color=INK)
        sentence += (
            f" From left to right {across}, from bottom to top {up} (L and R are the subject's "
            "own; by the affine of the image)."
        )
    if left_out:
        sentence += f" {left_out} slices between them are not shown."
    return Drawing("", figure, extra["title"], f"{extra['caption']} {sentence}".strip())


def _direction(step: np.ndarray) -> str:
    """Where a step along a voxel axis leads, by the largest of its scanner directions."""
    axis = int(np.abs(step).argmax())
    ends = ("L → R", "P → A", "I → S")[axis]
    return ends if step[axis] >= 0 else ends[::-1]


def _colours(reading: Reading, extra: dict[str, Any]) -> dict[str, Any]:
    """One colour scale for all maps of a page that show the same quantity."""
    alike = [
        roles["values"].astype(float)
        for other, roles in iter_extras(reading.result, extra.get("metric"))
        if other["kind"] == "map"
        and other.get("shown", 1)
        and other.get("unit") == extra.get("unit")
    ]
    finite = np.concatenate([v[np.isfinite(v)] for v in alike]) if alike else np.empty(0)
    signed = bool(finite.size and finite.min() < 0)
    reach = float(np.abs(finite).max()) if finite.size else 1.0
    return {
        "cmap": DIVERGING if signed else SEQUENTIAL,
        "vmin": -reach if signed else 0.0,
        "vmax": reach,
    }


def _layer_colours(values: np.ndarray) -> dict[str, Any]:
    """A colour per layer: numbers from 1, with nothing between them."""
    finite = values[np.isfinite(values)]
    n = max(2, int(finite.max())) if finite.size else 2
    return {"cmap": colormaps[SEQUENTIAL].resampled(n), "vmin": 0.5, "vmax": n + 0.5}


def _voxel_bar(figure: Figure, image: Any, unit: str) -> None:
    height = figure.get_figheight()
    tall = min(1.8, height - 0.62)
    box = ((WIDTH - BAR_ROOM + 0.15) / WIDTH, 0.32 / height, 0.11 / WIDTH, tall / height)
    whole = unit == "layer"
    bar = figure.colorbar(
        image, cax=figure.add_axes(box), ticks=MaxNLocator(6, integer=True) if whole else None
    )
    if whole:
        bar.ax.minorticks_off()
    bar.ax.tick_params(length=2)
    bar.set_label("\n".join(wrap(unit, max(12, int(tall / 0.055)))))
