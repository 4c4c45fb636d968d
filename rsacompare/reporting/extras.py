"""What a result carries beside its scores: dispatch on the kind; RDM images and embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rsacompare.reporting import clustered, curves, forest, maps, style
from rsacompare.reporting.maps import SEQUENTIAL
from rsacompare.reporting.numbers import number, short_labels, shorten
from rsacompare.reporting.reading import Reading
from rsacompare.reporting.style import INK, WIDTH, Drawing

MOST_LABELS, MOST_CATEGORIES = 60, 8


@style.drawn
def rdms(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """RDM images in one shared order of stimuli, each as percentiles of its own dissimilarities."""
    values = np.atleast_2d(roles["values"])
    n = round((1 + np.sqrt(1 + 8 * values.shape[1])) / 2)
    names = _labels(extra, roles, len(values))
    category = roles.get("category")
    order = np.arange(n) if category is None else _by_category(category)
    columns = 4 if len(values) <= 12 else 6
    left = 0.1 if category is None else 1.05
    below = 0.25
    size = (WIDTH - left - 0.65 - 0.12 * (columns - 1) - 0.1) / columns
    most = int(size / 0.06)
    over = 0.54 if any("\n" in _in_two(name, most, reading) for name in names) else 0.42
    figure, axes = style.panels(
        len(values), columns, size, width=size, left=left, top=over, bottom=below, gap_x=0.12,
        gap_y=over,
    )  # fmt: skip
    spans = [_span(vector) for vector in values]
    ranked = len(set(spans)) == 1  # percentiles already: their range says nothing
    upper = np.triu_indices(n, 1)
    image: Any = None
    for i, (axis, vector, name) in enumerate(zip(axes, values, names, strict=True)):
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
            _categories(axis, category[order], beside=i % columns == 0)
        network = name.split("/")[0]
        hue = style.colour(reading.networks, network) if network in reading.networks else INK
        for text, ink, rise in (
            (_in_two(name, most, reading), hue, 2 if ranked else 12),
            ("" if ranked else spans[i], style.GREY, 2),
        ):
            axis.annotate(
                text, (0, 1), (0, rise), xycoords="axes fraction", textcoords="offset points",
                fontsize=7, color=ink,
            )  # fmt: skip
    height = figure.get_figheight()
    tall = min(2.0, height - over - below)
    bar = figure.add_axes(((WIDTH - 0.55) / WIDTH, (height - over - tall) / height,
                           0.11 / WIDTH, tall / height))  # fmt: skip
    unit = str(extra.get("unit", "dissimilarity")).replace(" (percentile)", "")
    figure.colorbar(image, cax=bar).set_label("percentile")
    style.stamp(figure, reading.simulated)
    sentence = (
        "All images share one order of stimuli"
        + ("" if category is None else ", sorted by category (in rows as in columns)")
        + f". Colour: percentile of each pair's {unit} within its own RDM"
        + ("." if ranked else f"; above each image the range of its {unit}.")
    )
    return Drawing("", figure, extra["title"], f"{extra['caption']} {sentence}".strip())


def _in_two(name: str, most: int, reading: Reading) -> str:
    """`network/layer` on one line where it fits, else on two: the layer is what tells most."""
    network, _, layer = name.partition("/")
    if len(name) <= most or network not in reading.networks or not layer:
        return shorten(name, most)
    return f"{shorten(network, most)}\n{shorten(layer, most)}"


def _span(vector: np.ndarray) -> str:
    finite = vector[np.isfinite(vector)]
    return f"{number(finite.min())} to {number(finite.max())}" if finite.size else "no values"


def _categories(axis: Axes, named: np.ndarray, *, beside: bool) -> None:
    """White lines between the categories, and their names to the left (columns are alike)."""
    n = len(named)
    edges = np.flatnonzero(named[1:] != named[:-1]) + 0.5
    axis.hlines(edges, -0.5, n - 0.5, color="white", lw=0.5)
    axis.vlines(edges, -0.5, n - 0.5, color="white", lw=0.5)
    bounds = np.array([-0.5, *edges, n - 0.5])
    middle = (bounds[1:] + bounds[:-1]) / 2
    texts = [shorten(str(t), 18) for t in dict.fromkeys(named.tolist())]
    if beside and len(texts) <= MOST_CATEGORIES:
        axis.set_yticks(middle, texts)
        axis.tick_params(length=0, pad=1)


def _by_category(category: np.ndarray) -> np.ndarray:
    """Order of the stimuli: category by category, as they first appear."""
    rank = {name: i for i, name in enumerate(dict.fromkeys(category.tolist()))}
    return np.argsort([rank[name] for name in category.tolist()], kind="stable")


def _percentile(vector: np.ndarray) -> np.ndarray:
    """Ranks as 0..100, ties averaged, NaN kept."""
    out = np.full(vector.shape, np.nan)
    live = np.isfinite(vector)
    _, inverse, counts = np.unique(vector[live], return_inverse=True, return_counts=True)
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
    """Labelled points with equal axes; the layers of a network are joined in their order.

    With a role `panel` (a name per item) each name is a small panel of its own.
    """
    xy = roles["xy"]
    labels = _labels(extra, roles, len(xy))
    groups = roles.get("group", np.full(len(xy), "")).astype(str)
    panel = roles.get("panel", np.full(len(xy), "")).astype(str)
    titles = list(dict.fromkeys(panel.tolist()))
    looks = _looks(reading, groups)
    columns = min(len(titles), 4)
    if len(titles) > 1:
        size = (WIDTH - 0.2 - 0.1 * (columns - 1)) / columns
        top = 0.35 + 0.17 * -(-len(looks) // 5)
        two = 0.12 if any("\n" in _in_two(title, 30, reading) for title in titles) else 0.0
        figure, axes = style.panels(
            len(titles),
            columns,
            size,
            left=0.1,
            top=top + two,
            bottom=0.2,
            gap_x=0.1,
            gap_y=0.25 + two,
        )
    else:
        figure = Figure(figsize=(WIDTH, 5.0))
        axes = [figure.add_axes((0.015, 0.04, 0.97, 0.88))]
    for axis, title in zip(axes, titles, strict=True):
        here = panel == title
        for group, (hue, shape, joined) in looks.items():
            member = here & (groups == group)
            star = 9.0 if shape == "*" else 5.0
            axis.plot(
                xy[member, 0],
                xy[member, 1],
                ls="-" if joined else "",
                lw=0.7,
                color=hue,
                marker=shape,
                ms=star if len(titles) == 1 else 3.2,
                mec="white",
                mew=0.5 if len(titles) == 1 else 0.2,
                label=f"points {group}",
                zorder=3,
            )
        axis.set_aspect("equal", adjustable="datalim")
        axis.margins(0.08)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(visible=True, color="#BBBBBB")
        if len(titles) > 1:
            network = title.split("/")[0]
            hue = style.colour(reading.networks, network) if network in reading.networks else INK
            axis.set_title(_in_two(title, 30, reading), loc="left", fontsize=7, pad=2, color=hue)
        elif len(xy) <= MOST_LABELS:
            paths = [xy[groups == g] for g, look in looks.items() if look[2]]
            short = short_labels(labels, groups.tolist(), 18)
            _place_labels(axis, xy, short, paths, [looks[g][0] for g in groups.tolist()])
    handles = [
        Line2D([], [], color=hue, marker=shape, lw=0.7 if joined else 0, ms=5,
               label=shorten(group, 28) or "items")
        for group, (hue, shape, joined) in looks.items()
    ]  # fmt: skip
    style.legend(figure, handles, columns=5, left=0.05)
    style.stamp(figure, reading.simulated)
    sentence = "Axes share one scale and have no unit or direction: only distances count."
    return Drawing("", figure, extra["title"], f"{extra['caption']} {sentence}".strip())


def _looks(reading: Reading, groups: np.ndarray) -> dict[str, tuple[str, str, bool]]:
    """Colour, marker and whether points are joined, per group.

    Groups that are no networks (the brain, categories) have colours that no network has.
    """
    looks, others = {}, 0
    for group in dict.fromkeys(groups.tolist()):
        if group in reading.networks:
            hue, shape = (f(reading.networks, group) for f in (style.colour, style.marker))
            looks[group] = (hue, shape, True)
        else:
            hue = style.CATEGORIES[others % len(style.CATEGORIES)]
            looks[group] = (hue, "*hdp<>"[others % 6], False)
            others += 1
    if len(looks) == 1 or sum(not joined for _, _, joined in looks.values()) == 1:
        looks = {g: (INK if not joined else h, m, joined) for g, (h, m, joined) in looks.items()}
    return looks


def _place_labels(
    axis: Axes, xy: np.ndarray, labels: list[str], joined: list[np.ndarray], hues: list[str]
) -> None:
    """Each label at that of eight places around its point where it covers least.

    `joined` are the points along each drawn line: a label on a line is hard to read.
    """
    axis.apply_aspect()
    points = axis.transData.transform(xy)
    scale = 72 / axis.figure.dpi
    boxes: list[tuple[float, float, float, float]] = [
        (x - 3, y - 3, x + 3, y + 3) for x, y in points * scale
    ]
    for path in joined:
        line = axis.transData.transform(path) * scale
        for start, end in pairwise(line):
            n = int(np.hypot(*(end - start)) // 3) + 1
            boxes += [
                (x - 1.2, y - 1.2, x + 1.2, y + 1.2)
                for x, y in start + (end - start) * (np.arange(n) / n)[:, None]
            ]
    frame = axis.get_window_extent()
    x0, y0, x1, y1 = (v * scale for v in frame.extents)
    for (x, y), text, hue in zip(points * scale, labels, hues, strict=True):
        wide, tall = 4.3 * len(text), 8.0
        best, place = np.inf, (4.0, 4.0, "left", "bottom")
        for reach in (5.0, 9.0, 15.0):
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
            textcoords="offset points", ha=place[2], va=place[3], fontsize=7, color=hue, zorder=4,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": style.GREY}
            if np.hypot(*place[:2]) > 9.5 else None,
        )  # fmt: skip


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


Drawer = Callable[[Reading, dict[str, Any], dict[str, np.ndarray]], Drawing]
DRAW: dict[str, Drawer] = {
    "rdm": rdms,
    "embedding": embedding,
    "matrix": clustered.matrix,
    "map": maps.voxel_map,
    "intervals": forest.intervals,
    "curves": curves.curves,
}
