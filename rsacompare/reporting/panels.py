"""A panel per ROI: all layers of all networks side by side."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rsacompare.reporting import figures, style
from rsacompare.reporting.methods import over_chance
from rsacompare.reporting.numbers import short_names, shorten
from rsacompare.reporting.reading import Curve, Reading
from rsacompare.reporting.style import CEILING, GREY, INK, Drawing


@style.drawn
def roi_panels(reading: Reading, metric: str) -> Drawing:
    """A panel per ROI: the layers of one network beside those of the others.

    With equal layer counts the networks share the x axis, layer by layer; otherwise each network
    has its own stretch of it, so that every layer keeps its name and its dots.
    """
    rois = reading.rois(metric)
    networks = reading.networks_of(metric)
    layers = {n: reading.layers(metric, n)[0] for n in networks}
    ordinal = len({len(names) for names in layers.values()}) == 1
    named = not ordinal or len({tuple(names) for names in layers.values()}) == 1
    x = _shared_places(layers) if ordinal else _own_places(layers)
    ticks = _ticks(layers, x, ordinal, named)
    columns = 1 if not ordinal or len(x[networks[0]]) > 20 or len(rois) == 1 else 2
    longest = max(len(text) for _, text, _ in ticks)
    upright = not ordinal
    slanted = ordinal and named and longest * len(ticks) * 0.06 > 6.3 / columns
    legend_rows = -(-(len(networks) + 4) // 4)
    figure, axes = style.panels(
        len(rois),
        columns,
        1.12 if ordinal else 1.45,
        top=0.35 + 0.17 * legend_rows,
        bottom=0.5 + (0.064 if upright else 0.05 if slanted else 0) * min(longest, 16),
        gap_x=0.15,
        gap_y=0.38,
    )
    low, high = reading.extent(metric)
    per_network = False
    for i, (axis, roi) in enumerate(zip(axes, rois, strict=True)):
        curves = [reading.curve(metric, roi, n) for n in networks]
        curves = [c for c in curves if c.names]
        places = [np.array([x[c.network][layers[c.network].index(n)] for n in c.names])
                  for c in curves]  # fmt: skip
        per_network |= _ceiling(axis, reading, curves, places)
        for curve, place in zip(curves, places, strict=True):
            _curve(axis, reading, curve, place, wide=ordinal)
        axis.axhline(reading.meaning[metric]["chance"], color=INK, lw=0.8, ls=(0, (4, 2)), zorder=1)
        n = reading.n_subjects(metric, roi)
        axis.set_title(f"{shorten(roi, 40)} (n = {n})", loc="left", weight="bold")
        axis.set_ylim(low, high)
        every = np.concatenate(list(x.values()))
        axis.set_xlim(every.min() - 0.6, every.max() + (0.6 if ordinal else 0.9))
        axis.set_xticks([at for at, _, _ in ticks])
        bottom = i + columns >= len(rois)
        axis.tick_params(labelbottom=bottom, labelleft=i % columns == 0)
        if bottom:
            labels = axis.set_xticklabels([text for _, text, _ in ticks])
            for label, (_, _, hue) in zip(labels, ticks, strict=True):
                label.set_color(style.colour(reading.networks, hue) if hue else INK)
                if upright:
                    label.set(rotation=90)
                elif slanted:
                    label.set(rotation=40, ha="right", rotation_mode="anchor")
            axis.set_xlabel("layer" if named else "layer (in order)")
        if i % columns == 0:
            axis.set_ylabel(shorten(str(reading.meaning[metric].get("unit", "score")), 30))
    bounded = reading.has_ceiling(metric)
    style.legend(figure, _keys(reading, networks, per_network, bounded), columns=4)
    style.stamp(figure, reading.simulated)
    ceiling = (
        "dotted lines: noise ceiling, which here depends on what is predicted and so on the layer "
        "(colour of the network); "
        if per_network
        else f"{figures.CEILING_TOLD}; "
        if bounded
        else ""
    )
    caption = (
        "Layers of each network from input (left) to output (right)"
        + ("" if ordinal else ", one network after the other")
        + f". Markers: group mean; small dots beside them: subjects; whiskers: "
        f"{reading.confidence * 100:g} % intervals of the mean{over_chance(reading, metric)}; "
        f"{ceiling}dashed: chance."
        + (" Networks are shifted sideways a little." if ordinal else "")
    )
    return Drawing("roi-panels", figure, "A panel per ROI: all layers side by side", caption)


@style.drawn
def depth_curves(reading: Reading, metric: str) -> Drawing | None:
    """Group means over relative depth, all networks in one panel per ROI.

    Returns
    -------
    Drawing or None
        None where layer counts are equal: the panels per ROI then show the same.
    """
    rois, networks = reading.rois(metric), reading.networks_of(metric)
    if len({len(reading.layers(metric, n)[0]) for n in networks}) == 1:
        return None
    columns = min(3, len(rois))
    legend_rows = -(-(len(networks) + 2) // 4)
    figure, axes = style.panels(
        len(rois), columns, 1.5, top=0.35 + 0.17 * legend_rows, gap_x=0.15, gap_y=0.38
    )
    low, high = reading.extent(metric, subjects=False)
    per_network = False
    for i, (axis, roi) in enumerate(zip(axes, rois, strict=True)):
        curves = [reading.curve(metric, roi, n) for n in networks]
        curves = [c for c in curves if c.names]
        per_network |= _ceiling(axis, reading, curves, [c.depth for c in curves])
        for curve in curves:
            hue = style.colour(reading.networks, curve.network)
            shape = style.marker(reading.networks, curve.network)
            axis.plot(
                curve.depth, curve.mean, color=hue, marker=shape, ms=3, lw=1.1, mec="white",
                mew=0.3, ls=style.dashes(reading.networks, curve.network), label=curve.network,
            )  # fmt: skip
        axis.axhline(reading.meaning[metric]["chance"], color=INK, lw=0.8, ls=(0, (4, 2)), zorder=1)
        axis.set_title(shorten(roi, 30), loc="left", weight="bold")
        axis.set(ylim=(low, high), xlim=(-0.04, 1.04))
        axis.tick_params(labelbottom=i + columns >= len(rois), labelleft=i % columns == 0)
        if i + columns >= len(rois):
            axis.set_xlabel("relative depth of the layer")
        if i % columns == 0:
            axis.set_ylabel(shorten(str(reading.meaning[metric].get("unit", "score")), 30))
    keys = _keys(reading, networks, per_network, reading.has_ceiling(metric))
    style.legend(figure, [*keys[: len(networks)], *keys[-2:]], columns=4)
    style.stamp(figure, reading.simulated)
    caption = (
        "The same group means over relative depth (0: first layer given, 1: last). The pairing "
        "“depth” compares the areas under two such curves; intervals and subjects stand in the "
        "figure above."
    )
    return Drawing("depth-curves", figure, "The curves over relative depth", caption)


def _shared_places(layers: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Places on x of each network's layers 1, 2, …, shifted sideways per network."""
    step = 0.6 / max(len(layers), 2)
    return {
        network: np.arange(1, len(names) + 1) + (place - (len(layers) - 1) / 2) * step
        for place, (network, names) in enumerate(layers.items())
    }


def _own_places(layers: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Places on x of each network's layers, one network after the other with a gap between."""
    places, start = {}, 1.0
    for network, names in layers.items():
        places[network] = start + np.arange(len(names))
        start += len(names) + 1
    return places


def _ticks(
    layers: dict[str, list[str]], x: dict[str, np.ndarray], ordinal: bool, named: bool
) -> list[tuple[float, str, str]]:
    """(x, text, network whose colour the text has) of the labels that fit."""
    if ordinal:
        names = next(iter(layers.values()))
        texts = [shorten(name, 16) if named else str(i + 1) for i, name in enumerate(names)]
        return [(float(i + 1), text, "") for i, text in enumerate(texts)]
    step = -(-sum(map(len, layers.values())) // 62)
    return [
        (float(x[network][i]), shorten(text, 16), network)
        for network, names in layers.items()
        for i, text in enumerate(short_names(names))
        if i % step == 0
    ]


def _keys(
    reading: Reading, networks: list[str], per_network: bool, bounded: bool
) -> list[Line2D | Patch]:
    """Legend: the networks, then subject, interval, ceiling (where there is one), chance."""
    ceiling = (
        Line2D([], [], color=GREY, lw=1, ls=":", label="noise ceiling (per network)")
        if per_network
        else style.key_ceiling()
    )
    return [
        *[
            Line2D(
                [],
                [],
                color=style.colour(reading.networks, n),
                marker=style.marker(reading.networks, n),
                ls=style.dashes(reading.networks, n),
                ms=4,
                label=shorten(n, 24),
            )
            for n in networks
        ],
        style.key_subject(),
        style.key_interval(reading.confidence),
        *([ceiling] if bounded else []),
        style.key_chance(),
    ]


def _curve(axis: Axes, reading: Reading, curve: Curve, x: np.ndarray, *, wide: bool) -> None:
    hue = style.colour(reading.networks, curve.network)
    shape = style.marker(reading.networks, curve.network)
    axis.plot(
        x, curve.mean, color=hue, marker=shape, ms=3.8, lw=1.1, zorder=5, mec="white", mew=0.4,
        ls=style.dashes(reading.networks, curve.network), label=curve.network,
    )  # fmt: skip
    axis.vlines(x, curve.low, curve.high, color=hue, lw=1, zorder=4)
    # the dots stand beside the whisker, not on it
    beside, spread = (0.1, 0.07) if wide else (0.42, 0.3)
    xs = x[None, :] + beside + figures.spread(len(curve.scores), spread)[:, None]
    figures.dots(axis, xs.ravel(), curve.scores.ravel(), curve.network, hue)


def _ceiling(axis: Axes, reading: Reading, curves: list[Curve], places: list[np.ndarray]) -> bool:
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
    for curve, x in zip(curves, places, strict=True):
        hue = style.colour(reading.networks, curve.network)
        axis.fill_between(
            x, curve.ceiling_low, curve.ceiling_high, color=hue, alpha=0.12, lw=0, zorder=0
        )
        axis.plot(x, curve.ceiling_high, color=hue, lw=1, ls=":", zorder=1, label="ceiling")
    return True
