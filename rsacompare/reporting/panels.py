"""A panel per ROI: all layers of all networks side by side."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rsacompare.reporting import figures, style
from rsacompare.reporting.numbers import shorten
from rsacompare.reporting.reading import Curve, Reading
from rsacompare.reporting.style import CEILING, GREY, INK, Drawing


@style.drawn
def roi_panels(reading: Reading, metric: str) -> Drawing:
    """A panel per ROI: the layers of every network beside each other, in order or over depth."""
    rois = reading.rois(metric)
    networks = reading.networks_of(metric)
    counts = {n: len(reading.layers(metric, n)[0]) for n in networks}
    ordinal = len(set(counts.values())) == 1
    named = ordinal and len({tuple(reading.layers(metric, n)[0]) for n in networks}) == 1
    crowded = sum(counts.values()) > 20
    columns = 1 if crowded or len(rois) == 1 else 2
    names = reading.layers(metric, networks[0])[0]
    longest = max(len(n) for n in names) if named else 2
    slanted = named and longest * len(names) * 0.06 > 6.3 / columns
    legend_rows = -(-(len(networks) + 4) // 4)
    figure, axes = style.panels(
        len(rois),
        columns,
        1.75 if crowded else 1.12,
        top=0.35 + 0.17 * legend_rows,
        bottom=0.5 + (0.05 * min(longest, 16) if slanted else 0),
        gap_x=0.15,
        gap_y=0.38,
    )
    low, high = reading.extent(metric)
    per_network = False
    for i, (axis, roi) in enumerate(zip(axes, rois, strict=True)):
        curves = [reading.curve(metric, roi, n) for n in networks]
        curves = [c for c in curves if c.names]
        per_network |= _ceiling(axis, reading, curves, ordinal)
        for curve in curves:
            _curve(axis, reading, curve, networks, ordinal)
        axis.axhline(reading.meaning[metric]["chance"], color=INK, lw=0.8, ls=(0, (4, 2)), zorder=1)
        n = reading.n_subjects(metric, roi)
        axis.set_title(f"{shorten(roi, 40)} (n = {n})", loc="left", weight="bold")
        axis.set_ylim(low, high)
        if ordinal:
            axis.set_xlim(0.4, len(names) + 0.6)
            axis.set_xticks(range(1, len(names) + 1))
        else:
            axis.set_xlim(-0.03, 1.03)
        bottom = i + columns >= len(rois)
        axis.tick_params(labelbottom=bottom, labelleft=i % columns == 0)
        if bottom and named:
            labels = axis.set_xticklabels([shorten(n, 16) for n in names])
            for label in labels if slanted else []:
                label.set(rotation=40, ha="right", rotation_mode="anchor")
        if bottom:
            axis.set_xlabel(
                "layer"
                if named
                else "layer (in order)"
                if ordinal
                else "relative depth of the layer"
            )
        if i % columns == 0:
            axis.set_ylabel(shorten(str(reading.meaning[metric].get("unit", "score")), 30))
    handles: list[Line2D | Patch] = [
        Line2D(
            [],
            [],
            color=style.colour(reading.networks, n),
            marker=style.marker(reading.networks, n),
            ms=4,
            label=shorten(n, 24),
        )
        for n in networks
    ]
    handles += [
        style.key_subject(),
        style.key_interval(reading.confidence),
        Line2D([], [], color=GREY, lw=1, ls=":", label="noise ceiling (per network)")
        if per_network
        else style.key_ceiling(),
        style.key_chance(),
    ]
    style.legend(figure, handles, columns=4)
    style.stamp(figure, reading.simulated)
    over = "their order" if ordinal else "relative depth (0 = input, 1 = output)"
    ceiling = (
        "dotted lines: noise ceiling, which here depends on what is predicted and so on the layer "
        "(colour of the network)"
        if per_network
        else "grey: noise ceiling, from its lower to its upper bound (a line where the two are one)"
    )
    caption = (
        f"A panel per ROI; layers of each network over {over}. Large markers: group mean; small "
        f"dots beside them: subjects; whiskers: {reading.confidence * 100:g} % intervals of the "
        f"mean; {ceiling}; dashed: chance. Networks are shifted sideways a "
        "little so that their marks do not cover each other."
    )
    return Drawing("roi-panels", figure, "A panel per ROI: all layers side by side", caption)


def _positions(curve: Curve, place: int, n: int, ordinal: bool) -> np.ndarray:
    """Where a network's layers stand, shifted by its place among the n networks."""
    base = np.arange(1, len(curve.names) + 1, dtype=float) if ordinal else curve.depth
    step = (0.6 / max(n, 2)) if ordinal else 0.008
    return base + (place - (n - 1) / 2) * step


def _curve(axis: Axes, reading: Reading, curve: Curve, networks: list[str], ordinal: bool) -> None:
    hue = style.colour(reading.networks, curve.network)
    x = _positions(curve, networks.index(curve.network), len(networks), ordinal)
    shape = style.marker(reading.networks, curve.network)
    axis.plot(
        x, curve.mean, color=hue, marker=shape, ms=3.8, lw=1.1, zorder=5, mec="white", mew=0.4,
        label=curve.network,
    )  # fmt: skip
    axis.vlines(x, curve.low, curve.high, color=hue, lw=1, zorder=4)
    subjects = len(curve.scores)
    # the dots stand beside the whisker, not on it
    beside, wide = (0.1, 0.07) if ordinal else (0.0055, 0.004)
    xs = x[None, :] + beside + figures.spread(subjects, wide)[:, None]
    figures.dots(axis, xs.ravel(), curve.scores.ravel(), curve.network, hue)


def _ceiling(axis: Axes, reading: Reading, curves: list[Curve], ordinal: bool) -> bool:
    """One band where all layers share their ceiling, else a dotted line per network."""
    lows = np.concatenate([c.ceiling_low for c in curves])
    highs = np.concatenate([c.ceiling_high for c in curves])
    known = np.concatenate([lows[np.isfinite(lows)], highs[np.isfinite(highs)]])
    if not known.size:
        return False
    if all(np.ptp(v[np.isfinite(v)]) < 1e-9 for v in (lows, highs) if np.isfinite(v).any()):
        low, high = known.min(), known.max()
        if high - low > 1e-9:
            axis.axhspan(low, high, color=CEILING, lw=0, zorder=0, label="ceiling")
        else:
            axis.axhline(high, color=GREY, lw=1.4, zorder=0, label="ceiling")
        return False
    for place, curve in enumerate(curves):
        x = _positions(curve, place, len(curves), ordinal)
        hue = style.colour(reading.networks, curve.network)
        axis.fill_between(
            x, curve.ceiling_low, curve.ceiling_high, color=hue, alpha=0.12, lw=0, zorder=0
        )
        axis.plot(x, curve.ceiling_high, color=hue, lw=1, ls=":", zorder=1, label="ceiling")
    return True
