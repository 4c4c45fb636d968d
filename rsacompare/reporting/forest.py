"""Rows of a dot with its interval, panels side by side (extras of kind `intervals`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from rsacompare.reporting import style
from rsacompare.reporting.numbers import shorten
from rsacompare.reporting.reading import Reading
from rsacompare.reporting.style import CEILING, GREY, INK, WIDTH, Drawing

LABEL, WORD, TITLE = 46, 20, 34  # characters at most
LETTER = 0.06  # inches of one of these
MOST_ACROSS, NARROWEST = 4, 1.05  # panels side by side, inches of the narrowest
STRIPE = "#ECECEC"


@style.drawn
def intervals(reading: Reading, extra: dict[str, Any], roles: dict[str, np.ndarray]) -> Drawing:
    """Rows of dot and interval on one scale; what they are is said by `schema.results.add_extra`.

    Items of one label and panel share a row, one below the other in the order of their groups.
    """
    label, panel, group, outcome = (
        _texts(roles, name, len(roles["estimate"]))
        for name in ("label", "panel", "group", "outcome")
    )
    labels = list(dict.fromkeys(label))
    titles = list(dict.fromkeys(panel))
    looks = _looks(reading, list(dict.fromkeys(group)))
    offset, share = _dodge(label, panel, group)
    place = np.array([labels.index(text) for text in label]) + offset

    step = (0.19 if len(labels) <= 20 else 0.152) * max(1.0, 0.62 / share)
    height = step * len(labels) + 0.1
    left = 0.2 + LETTER * max(len(shorten(text, LABEL)) for text in labels)
    words = max(len(shorten(text, WORD)) for text in outcome)
    right = 0.12 + (LETTER * words + 0.06 if words else 0.0)
    columns = _columns(len(titles), left, right)
    keys = _keys(reading, extra, roles, looks)
    per_row = max(1, min(4, len(keys)))
    over = 0.12 + 0.17 * -(-len(keys) // per_row) + (0.2 if titles != [""] else 0.0)
    figure, axes = style.panels(
        len(titles), columns, height, left=left, right=right, top=over, bottom=0.56,
        gap_x=right + 0.06, gap_y=0.72,
    )  # fmt: skip
    span = _span(roles, extra, np.full(len(label), True))
    for i, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        here = np.array([text == title for text in panel])
        _rows(axis, reading, roles, here, place, group, looks, share)
        _words(axis, reading, outcome, here, place)
        if extra.get("reference") is not None:
            axis.axvline(float(extra["reference"]), color=INK, lw=0.8, zorder=1.5)
        own = _span(roles, extra, here) if extra.get("own_scales") else span
        axis.set(xlim=own, ylim=(len(labels) - 0.5, -0.5))
        shown = [shorten(text, LABEL) for text in labels] if i % columns == 0 else []
        axis.set_yticks(range(len(labels)) if shown else [], shown)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.locator_params(axis="x", nbins=max(3, int(axis.get_position().width * WIDTH / 0.36)))
        if title:
            axis.set_title(shorten(title, TITLE), loc="left", weight="bold", pad=4)
    _axis_label(figure, axes, columns, str(extra.get("axis", "")))
    if keys:
        style.legend(figure, keys, columns=per_row, left=0.1)
    style.stamp(figure, reading.simulated)
    return Drawing("", figure, extra["title"], extra["caption"])


def _texts(roles: dict[str, np.ndarray], name: str, n: int) -> list[str]:
    return [str(text) for text in roles[name]] if name in roles else [""] * n


def _dodge(label: list[str], panel: list[str], group: list[str]) -> tuple[np.ndarray, float]:
    """How far each item stands from the middle of its row, and the share of a row that it has."""
    groups = list(dict.fromkeys(group))
    seen: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(panel, label, strict=True)):
        seen.setdefault(key, []).append(i)
    most = max(map(len, seen.values()))
    share = 0.84 / most
    offset = np.zeros(len(label))
    for own in seen.values():
        ordered = sorted(own, key=lambda i: groups.index(group[i]))
        for rank, i in enumerate(ordered):
            offset[i] = (rank - (len(own) - 1) / 2) * share
    return offset, share


def _columns(n: int, left: float, right: float) -> int:
    """As many panels side by side as stay wide enough to read."""
    columns = min(n, MOST_ACROSS)
    while columns > 1 and (WIDTH - left - columns * right) / columns < NARROWEST:
        columns -= 1
    return columns


def _looks(reading: Reading, groups: list[str]) -> dict[str, tuple[str, str, Any]]:
    """Colour, marker and dashes of each group; those of no network have colours of their own."""
    looks: dict[str, tuple[str, str, Any]] = {}
    others = 0
    for name in groups:
        if name in reading.networks:
            known = reading.networks
            looks[name] = (style.colour(known, name), style.marker(known, name),
                           style.dashes(known, name))  # fmt: skip
        else:
            single = len(groups) == 1
            hue = INK if single else style.CATEGORIES[others % len(style.CATEGORIES)]
            looks[name] = (hue, "o" if single else style.MARKERS[others % 8], "-")
            others += 1
    return looks


def _span(
    roles: dict[str, np.ndarray], extra: dict[str, Any], here: np.ndarray
) -> tuple[float, float]:
    """Limits that hold every value of these items."""
    names = ("estimate", "low", "high", "inner_low", "inner_high", "range_low", "range_high")
    held = [np.asarray(roles[name], dtype=float)[here] for name in names if name in roles]
    every = np.concatenate([*held, np.array([float(extra.get("reference", np.nan))])])
    every = every[np.isfinite(every)]
    if not every.size:
        return -1.0, 1.0
    pad = 0.04 * (np.ptp(every) or 1.0)
    return float(every.min() - pad), float(every.max() + pad)


def _rows(
    axis: Axes,
    reading: Reading,
    roles: dict[str, np.ndarray],
    here: np.ndarray,
    place: np.ndarray,
    group: list[str],
    looks: dict[str, tuple[str, str, Any]],
    share: float,
) -> None:
    """Stripes to lead the eye, ranges, intervals and dots of one panel."""
    axis.hlines(
        np.unique(np.round(place)), 0, 1, transform=axis.get_yaxis_transform(), color=STRIPE,
        lw=0.6, zorder=0.2,
    )  # fmt: skip
    if "range_low" in roles:
        ends = np.stack([roles["range_low"], roles["range_high"]], axis=1).astype(float)
        known = here & np.isfinite(ends).all(axis=1)
        boxes = [
            Rectangle((low, y - share / 2), high - low, share)
            for (low, high), y in zip(ends[known], place[known], strict=True)
        ]
        axis.add_collection(
            PatchCollection(boxes, facecolor=CEILING, edgecolor="none", zorder=0.5, label="range")
        )
    for name, (hue, shape, dashes) in looks.items():
        own = here & np.array([text == name for text in group])
        if not own.any():
            continue
        y = place[own]
        axis.hlines(
            y, roles["low"][own], roles["high"][own], color=hue, lw=1.1, ls=dashes, zorder=2,
            label=f"interval {name}",
        )  # fmt: skip
        if "inner_low" in roles:
            axis.hlines(
                y, roles["inner_low"][own], roles["inner_high"][own], color=hue, lw=2.8,
                zorder=2.5, label=f"inner {name}",
            )  # fmt: skip
        axis.plot(
            roles["estimate"][own], y, ls="", marker=shape, ms=4.6, color=hue, mec="white",
            mew=0.5, zorder=3, label=f"estimate {name}",
        )  # fmt: skip


def _words(
    axis: Axes, reading: Reading, outcome: list[str], here: np.ndarray, place: np.ndarray
) -> None:
    for i in np.flatnonzero(here):
        if outcome[i]:
            known = outcome[i] in reading.networks
            axis.annotate(
                shorten(outcome[i], WORD), (1, place[i]), (4, 0),
                xycoords=axis.get_yaxis_transform(), textcoords="offset points", va="center",
                fontsize=6.6, color=style.colour(reading.networks, outcome[i]) if known else GREY,
            )  # fmt: skip


def _axis_label(figure: Figure, axes: list[Axes], columns: int, text: str) -> None:
    """Under each panel of the last row; once for all where it would not fit under one."""
    for i, axis in enumerate(axes):
        if i + columns >= len(axes):
            fits = len(text) * LETTER <= axis.get_position().width * WIDTH + 0.1
            if fits or columns == 1:
                axis.set_xlabel(text)
    last = axes[len(axes) - 1 - (len(axes) - 1) % columns :]
    if columns > 1 and not last[0].get_xlabel():
        middle = (last[0].get_position().x0 + last[-1].get_position().x1) / 2
        low = last[0].get_position().y0 - 0.23 / figure.get_figheight()
        figure.text(middle, low, text, ha="center", va="top", fontsize=7.5)


def _keys(
    reading: Reading,
    extra: dict[str, Any],
    roles: dict[str, np.ndarray],
    looks: dict[str, tuple[str, str, Any]],
) -> list[Line2D | Patch]:
    """Groups where there are several, then what intervals and ranges are where that is told."""
    keys: list[Line2D | Patch] = []
    if len(looks) > 1:
        keys += [
            Line2D([], [], color=hue, marker=shape, ms=4.6, lw=1.1, ls=dashes, mec="white",
                   mew=0.5, label=shorten(name, 28) or "other")
            for name, (hue, shape, dashes) in looks.items()
        ]  # fmt: skip
    for name, role, width in (("interval_label", "low", 1.1), ("inner_label", "inner_low", 2.8)):
        if extra.get(name) and role in roles:
            keys.append(Line2D([], [], color=INK, lw=width, label=str(extra[name])))
    if "range_low" in roles and np.isfinite(roles["range_low"].astype(float)).any():
        keys.append(Patch(facecolor=CEILING, label=str(extra.get("range_label", "range"))))
    return keys
