"""Side by side: the answer in one figure, a panel per layer pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from rsacompare.reporting import style
from rsacompare.reporting.methods import over_chance
from rsacompare.reporting.numbers import by_value, shorten
from rsacompare.reporting.reading import ALPHA, OVER, Curve, Reading
from rsacompare.reporting.style import CEILING, GREY, INK, Drawing

CEILING_TOLD = "grey: noise ceiling, from its lower to its upper bound (a line where both are one)"


@style.drawn
def answer(reading: Reading) -> Drawing | None:
    """Network difference per ROI with its interval: a column per metric, a band per contrast.

    Returns
    -------
    Drawing or None
        None where nothing was contrasted.
    """
    pairs = [p for p in reading.pairs if len(reading.rows(None, p, reading.pairing))]
    metrics = [m for m in reading.metrics if len(reading.rows(m, None, reading.pairing))]
    if not pairs or not metrics:
        return None
    rows = reading.rows(None, None, reading.pairing)
    rois = [r for r in reading.result["roi"].values.astype(str) if r in {row.roi for row in rows}]
    left = 0.25 + 0.075 * max(len(shorten(r, 16)) for r in rois)
    height = 0.19 * len(rois) + 0.1
    stacked = len(pairs) > 1
    columns = len(metrics) if stacked else min(len(metrics), 3)
    figure, axes = style.panels(
        len(pairs) * len(metrics),
        columns,
        height,
        left=left,
        top=0.68,
        bottom=0.58,
        gap_x=0.2,
        gap_y=0.36 if stacked else 0.95,
    )
    for column, metric in enumerate(metrics):
        own = reading.rows(metric, None, reading.pairing)
        reach = _reach([v for r in own for v in (r.difference, r.ci_low, r.ci_high, r.bound)])
        for row, pair in enumerate(pairs):
            axis = axes[row * len(metrics) + column]
            _differences(axis, reading, metric, pair, rois)
            axis.set_xlim(-reach, reach)
            axis.locator_params(axis="x", nbins=5)
            first = column % columns == 0
            axis.set_yticks(range(len(rois)), [shorten(r, 16) for r in rois] if first else [])
            if not stacked or row == 0:
                most = int(axis.get_position().width * style.WIDTH / 0.068)
                axis.set_title(titles(reading, metrics, most)[column], pad=17)
            a_right = reading.meaning[metric].get("higher_is_better", True)
            _sides(axis, reading, pair if a_right else pair[::-1])
            last = row == len(pairs) - 1
            if not stacked or last:
                unit = reading.meaning[metric].get("unit", "")
                axis.set_xlabel(f"difference, {unit}" if unit else "difference")
            else:
                axis.tick_params(labelbottom=False)
    handles = [
        Line2D(
            [], [], color=INK, lw=1, marker="s", ms=4.5, label="one network closer (its colour)"
        ),
        Line2D([], [], color=GREY, lw=1, marker="o", ms=4.5, mfc="white", label="undecided"),
        Line2D([], [], color=INK, lw=1, marker="D", ms=4.5, mfc="white", label="equivalent"),
        Patch(facecolor=CEILING, label="equivalence range"),
    ]
    style.legend(figure, handles, columns=4, left=0.1)
    style.stamp(figure, reading.simulated)
    caption = (
        f"Difference between two networks per ROI, {OVER[reading.pairing]}, with its "
        f"{reading.confidence * 100:g} % interval; the closer network stands on that side. Filled "
        "square: closer after correction over the rows of that metric and pairing. Open diamond: "
        "equivalent, within the grey range (none without a usable noise ceiling); that is two "
        "one-sided tests, so the interval may reach a little beyond. Open grey circle: undecided, "
        "even where the uncorrected interval leaves out zero; that is no evidence for equality."
    )
    return Drawing("answer", figure, "The answer in one figure", caption)


def titles(reading: Reading, metrics: list[str], most: int) -> list[str]:
    """What each metric is called above its panel: its key in the study where the label is long."""
    said = [reading.label(m) for m in metrics]
    return [s if len(s) <= most else shorten(m, most) for s, m in zip(said, metrics, strict=True)]


def _reach(values: list[float]) -> float:
    """Half width of an axis around zero that holds every value."""
    finite = np.abs([v for v in values if np.isfinite(v)])
    return float(finite.max() * 1.08) if finite.size and finite.max() > 0 else 1.0


def _sides(axis: Axes, reading: Reading, pair: tuple[str, str]) -> None:
    """Which network is closer on which side: `pair` is (right, left)."""
    most = int(axis.get_position().width * style.WIDTH / 2 / 0.067) - 3
    for name, x, align in ((pair[1], 0.0, "left"), (pair[0], 1.0, "right")):
        text = shorten(name, most)
        axis.text(
            x,
            1.02,
            f"{text} →" if align == "right" else f"← {text}",
            transform=axis.transAxes,
            ha=align,
            va="bottom",
            fontsize=7,
            color=style.colour(reading.networks, name),
        )


def _differences(
    axis: Axes, reading: Reading, metric: str, pair: tuple[str, str], rois: list[str]
) -> None:
    rows = reading.rows(metric, pair, reading.pairing)
    bands = []
    for row in rows:
        place = rois.index(row.roi)
        if np.isfinite(row.bound):
            bands.append(Rectangle((-row.bound, place - 0.42), 2 * row.bound, 0.84))
        if row.winner:
            hue = style.colour(reading.networks, row.winner)
            look: dict[str, Any] = {"color": hue, "mfc": hue, "marker": "s"}
        elif row.verdict == "equivalent":
            look = {"color": INK, "mfc": "white", "marker": "D"}
        else:
            look = {"color": GREY, "mfc": "white", "marker": "o"}
        axis.plot([row.ci_low, row.ci_high], [place, place], color=look["color"], lw=1.2, zorder=2)
        axis.plot(
            [row.difference],
            [place],
            ls="",
            ms=4.5,
            zorder=3,
            label=f"difference {row.roi}",
            **look,
        )
    axis.add_collection(PatchCollection(bands, facecolor=CEILING, edgecolor="none", zorder=0))
    axis.axvline(0, color=INK, lw=0.8, zorder=1)
    axis.set_ylim(len(rois) - 0.5, -0.5)


@style.drawn
def layer_pairs(reading: Reading, metric: str, pair: tuple[str, str]) -> Drawing | None:
    """Yu's view: a panel per pair of layers, ROIs on x, the two networks as adjacent bars.

    Returns
    -------
    Drawing or None
        None where one of the two was not scored by this metric.
    """
    layers, ordinal = reading.layer_pairs(metric, pair)
    if not layers:
        return None
    rois = reading.rois(metric)
    longest = max(len(r) for r in rois)
    upright = longest > 5 and len(rois) > 3
    columns = int(np.clip(6.5 // max(1.5, 0.29 * len(rois)), 1, 4))
    figure, axes = style.panels(
        len(layers),
        columns,
        1.25,
        top=0.76,
        bottom=0.4 + (0.055 * min(longest, 16) if upright else 0),
        gap_x=0.12,
        gap_y=0.42,
    )
    curves = {(roi, n): reading.curve(metric, roi, n) for roi in rois for n in pair}
    low, high = reading.extent(metric)
    high += 0.07 * (high - low)  # room for the stars
    for i, (axis, names) in enumerate(zip(axes, layers, strict=True)):
        for side, (network, name) in enumerate(zip(pair, names, strict=True)):
            _bars(axis, reading, metric, [curves[roi, network] for roi in rois], name, side)
        _marks(axis, reading, metric, pair, names, rois)
        axis.axhline(reading.meaning[metric]["chance"], color=INK, lw=0.8, ls=(0, (4, 2)), zorder=4)
        axis.set(ylim=(low, high), xlim=(-0.6, len(rois) - 0.4))
        axis.set_xticks(range(len(rois)))
        if i + columns >= len(layers):
            labels = [shorten(r, 16) for r in rois]
            axis.set_xticklabels(labels, rotation=90 if upright else 0)
        else:
            axis.set_xticklabels([])
        if i % columns == 0:
            axis.set_ylabel(shorten(str(reading.meaning[metric].get("unit", "score")), 24))
        else:
            axis.tick_params(labelleft=False)
        most = int(axis.get_position().width * style.WIDTH / 0.062)
        for name, network, y in zip(names, pair, (1.12, 1.0), strict=True):
            axis.text(
                0,
                y,
                shorten(name, most),
                transform=axis.transAxes,
                va="bottom",
                fontsize=7.2,
                color=style.colour(reading.networks, network),
            )
    handles: list[Line2D | Patch] = [
        Patch(color=style.colour(reading.networks, n), alpha=0.65, label=shorten(n, 28))
        for n in pair
    ]
    handles += [style.key_subject(), style.key_interval(reading.confidence)]
    bounded = reading.has_ceiling(metric)
    if bounded:
        banded = any((c.ceiling_high - c.ceiling_low > 1e-9).any() for c in curves.values())
        handles.append(style.key_ceiling(banded=banded))
    handles.append(style.key_chance())
    style.legend(figure, handles, columns=3)
    style.stamp(figure, reading.simulated)
    counts = by_value({roi: reading.n_subjects(metric, roi) for roi in rois})
    how = (
        "A panel per layer pair in order (the names of the two layers stand above it); a star "
        f"marks an ROI in which the two layers differ (corrected p < {ALPHA:g})."
        if ordinal
        else "The networks differ in their number of layers, so each layer of the shorter one "
        "stands beside the layer of the other that is nearest in relative depth (names above "
        "the panel); this is a way of looking, and no test belongs to these pairs."
    )
    caption = (
        f"{how} Bars: group mean from the chance level; dots: subjects (n = {counts}); whiskers: "
        f"{reading.confidence * 100:g} % intervals of the mean{over_chance(reading, metric)}; "
        + (f"{CEILING_TOLD}; " if bounded else "")
        + "dashed: chance."
    )
    title = f"{pair[0]} beside {pair[1]}: a panel per pair of layers"
    place = reading.pairs.index(pair) if pair in reading.pairs else 0
    return Drawing(f"layer-pairs-{place + 1}", figure, title, caption)


def _bars(
    axis: Axes, reading: Reading, metric: str, curves: list[Curve], layer: str, side: int
) -> None:
    """Bars of one network's layer over ROIs, left (side 0) or right of the tick."""
    chance = float(reading.meaning[metric]["chance"])
    network = curves[0].network
    hue = style.colour(reading.networks, network)
    width = 0.36
    where, cells = [], []
    for place, curve in enumerate(curves):
        if layer in curve.names:
            where.append(place + (side - 0.5) * (width + 0.04))
            cells.append((curve, curve.names.index(layer)))
    x = np.array(where)
    mean = np.array([c.mean[i] for c, i in cells])
    axis.bar(x, mean - chance, width, bottom=chance, color=hue, alpha=0.65, lw=0, label=network)
    low = np.array([c.low[i] for c, i in cells])
    high = np.array([c.high[i] for c, i in cells])
    axis.vlines(x, low, high, color=INK, lw=0.9, zorder=5, label=f"interval {network}")
    ceilings = [
        (c.ceiling_low[i], c.ceiling_high[i], xi) for (c, i), xi in zip(cells, x, strict=True)
    ]
    _ceiling_boxes(axis, ceilings, 0.4)
    if cells:
        scores = [c.scores[:, i] for c, i in cells]
        xs = [xi + spread(len(own), 0.24) for xi, own in zip(x, scores, strict=True)]
        dots(axis, np.concatenate(xs), np.concatenate(scores), network, INK)


def spread(n: int, width: float) -> np.ndarray:
    """Fixed offsets for n subjects, so that a subject has the same place everywhere."""
    return np.linspace(-width / 2, width / 2, n) if n > 1 else np.zeros(n)


def dots(axis: Axes, x: np.ndarray, y: np.ndarray, network: str, hue: str) -> None:
    """One small dot per subject."""
    keep = np.isfinite(y)
    axis.scatter(
        x[keep], y[keep], s=3.2, color=hue, alpha=0.5, lw=0, zorder=6, label=f"subjects {network}"
    )


def _ceiling_boxes(axis: Axes, boxes: list[tuple[float, float, float]], width: float) -> None:
    """Grey boxes from the lower to the upper ceiling at each x; a line where they are one."""
    patches, lines = [], []
    for low, high, x in boxes:
        known = [v for v in (low, high) if np.isfinite(v)]
        if known and max(known) - min(known) > 1e-9:
            patches.append(Rectangle((x - width / 2, low), width, high - low))
        elif known:
            lines.append((x, known[0]))
    collection = PatchCollection(
        patches, facecolor=CEILING, edgecolor=GREY, lw=0.3, zorder=0, label="ceiling"
    )
    axis.add_collection(collection)
    if lines:
        x, y = np.array(lines).T
        axis.hlines(
            y, x - width / 2, x + width / 2, color=GREY, lw=1.4, zorder=1, label="ceiling line"
        )


def _marks(
    axis: Axes,
    reading: Reading,
    metric: str,
    pair: tuple[str, str],
    names: tuple[str, str],
    rois: list[str],
) -> None:
    """A star over each ROI in which the two layers differ after correction."""
    for row in reading.rows(metric, pair, "ordinal"):
        if (row.layer_a, row.layer_b) == names and row.p_fwer < ALPHA:
            axis.text(
                rois.index(row.roi),
                0.995,
                "*",
                transform=axis.get_xaxis_transform(),
                ha="center",
                va="top",
                fontsize=9,
                weight="bold",
            )
