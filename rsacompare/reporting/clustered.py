"""A similarity matrix in the order of its clustering, under its tree."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.cluster import hierarchy

from rsacompare.reporting import maps, style
from rsacompare.reporting.numbers import number, shorten
from rsacompare.reporting.reading import Reading
from rsacompare.reporting.style import GREY, INK, WIDTH, Drawing

MOST_DIGITS, TREE, LABEL = 12, 0.55, 26


def matrix(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """A matrix as it stands, or under its tree where it has one (role `linkage`)."""
    draw = clustered if "linkage" in roles else maps.matrix
    return draw(reading, extra, roles)


@style.drawn
def clustered(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """Items against themselves, reordered; the tree above, labels in their network's colour."""
    tree = hierarchy.dendrogram(roles["linkage"], no_plot=True)
    order = np.array(tree["leaves"])
    values = roles["values"][np.ix_(order, order)]
    names = [shorten(str(roles["row"][i]), LABEL) for i in order]
    groups = [str(g) for g in roles["group"][order]] if "group" in roles else [""] * len(order)
    n = len(order)
    left = 0.2 + 0.062 * max(map(len, names))
    cell = min(0.4, (WIDTH - left - 0.95) / n)
    side, top, below = cell * n, TREE + 0.12, 0.1 + 0.062 * max(map(len, names))
    height = side + top + below
    figure = Figure(figsize=(WIDTH, height))

    box = (left / WIDTH, below / height, side / WIDTH, side / height)
    axis = figure.add_axes(box)
    off = values[~np.eye(n, dtype=bool)]
    signed = off.min() < 0
    reach = float(np.abs(off).max()) or 1.0
    low = -reach if signed else float(off.min())
    high = reach if signed else max(float(off.max()), low + 1e-9)
    image = axis.imshow(
        values, cmap=maps.DIVERGING if signed else maps.SEQUENTIAL, vmin=low, vmax=high,
        aspect="auto", interpolation="none", label="matrix",
    )  # fmt: skip
    axis.set_yticks(range(n), names)
    axis.set_xticks(range(n), names, rotation=90)
    axis.tick_params(length=0, labelsize=min(7.0, 0.9 * 72 * cell))
    axis.spines[:].set_visible(False)
    for label, group in [
        *zip(axis.get_yticklabels(), groups, strict=True),
        *zip(axis.get_xticklabels(), groups, strict=True),
    ]:
        if group in reading.networks:
            label.set_color(style.colour(reading.networks, group))
    if n <= MOST_DIGITS and cell > 0.27:
        rgba = np.asarray(image.cmap(image.norm(values)))
        dark = rgba[..., :3] @ np.array([0.299, 0.587, 0.114]) < 0.6
        for i, j in np.argwhere(~np.eye(n, dtype=bool)):
            text = f"{round(values[i, j], 2) + 0:.2f}".replace("-", "−").replace("0.", ".", 1)
            hue = "white" if dark[i, j] else INK
            axis.text(j, i, text, ha="center", va="center", fontsize=6.5, color=hue)

    above = figure.add_axes((box[0], (below + side + 0.04) / height, box[2], TREE / height))
    # scipy puts leaves at 5, 15, 25, …
    branches = [
        np.c_[(np.array(x) - 5) / 10, y]
        for x, y in zip(tree["icoord"], tree["dcoord"], strict=True)
    ]
    above.add_collection(LineCollection(branches, colors=GREY, linewidths=0.8, label="tree"))
    above.set(xlim=(-0.5, n - 0.5), ylim=(0, 1.05 * float(roles["linkage"][:, 2].max() or 1.0)))
    above.set_axis_off()

    bar = figure.add_axes(((left + side + 0.12) / WIDTH, (below + max(side - 2.0, 0)) / height,
                           0.11 / WIDTH, min(side, 2.0) / height))  # fmt: skip
    figure.colorbar(image, cax=bar).set_label(str(extra.get("unit", "")))
    style.stamp(figure, reading.simulated)
    sentence = (
        f"Off the diagonal values go from {number(off.min())} to {number(off.max())}; the diagonal "
        "(an item with itself) does not count for the colour scale."
    )
    return Drawing("", figure, extra["title"], f"{extra['caption']} {sentence}".strip())
