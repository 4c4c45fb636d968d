"""What a result carries beside its scores: dispatch on the kind; RDM images and embeddings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rsacompare.reporting import maps, style
from rsacompare.reporting.maps import SEQUENTIAL
from rsacompare.reporting.numbers import number, shorten
from rsacompare.reporting.reading import Reading
from rsacompare.reporting.style import INK, WIDTH, Drawing

MOST_LABELS = 60


@style.drawn
def rdms(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """RDM images in one shared order of stimuli, each as percentiles of its own dissimilarities."""
    values = np.atleast_2d(roles["values"])
    n = round((1 + np.sqrt(1 + 8 * values.shape[1])) / 2)
    names = _labels(extra, roles, len(values))
    category = roles.get("category")
    order = np.arange(n) if category is None else _by_category(category)
    columns = 4 if len(values) <= 12 else 6
    size = (WIDTH - 0.75 - 0.12 * (columns - 1) - 0.1) / columns
    figure, axes = style.panels(
        len(values), columns, size, width=size, left=0.1, top=0.42, bottom=0.25, gap_x=0.12,
        gap_y=0.42,
    )  # fmt: skip
    upper = np.triu_indices(n, 1)
    image: Any = None
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
    """Labelled points with equal axes; the layers of a network are joined in their order."""
    xy = roles["xy"]
    labels = _labels(extra, roles, len(xy))
    groups = roles.get("group", np.full(len(xy), "")).astype(str)
    figure = Figure(figsize=(WIDTH, 5.4))
    axis = figure.add_axes((0.03, 0.04, 0.94, 0.88))
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
        tail = _shared_end([short[i] for i in members])
        start = re.search(r"[_.\-]", tail)
        if len(members) > 1 and start:
            for i in members:
                short[i] = short[i][: len(short[i]) - len(tail) + start.start()] or short[i]
    return short


def _shared_end(names: list[str]) -> str:
    n = 0
    while n < min(map(len, names)) and len({name[len(name) - n - 1] for name in names}) == 1:
        n += 1
    return names[0][len(names[0]) - n :]


def _taken(reading: Reading) -> set[str]:
    return {style.colour(reading.networks, n) for n in reading.networks}


def _place_labels(axis: Axes, xy: np.ndarray, labels: list[str]) -> None:
    """Each label at that of eight places around its point where it covers least."""
    axis.apply_aspect()
    points = axis.transData.transform(xy)
    scale = 72 / axis.figure.dpi
    boxes: list[tuple[float, float, float, float]] = [
        (x - 3, y - 3, x + 3, y + 3) for x, y in points * scale
    ]
    frame = axis.get_window_extent()
    x0, y0, x1, y1 = (v * scale for v in frame.extents)
    for (x, y), text in zip(points * scale, labels, strict=True):
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
            textcoords="offset points", ha=place[2], va=place[3], fontsize=7, color=INK, zorder=4,
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
    "matrix": maps.matrix,
    "map": maps.voxel_map,
}
