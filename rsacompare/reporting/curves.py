"""Curves with bands, a small panel each: differences over depth, statistics along an order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rsacompare.reporting import style
from rsacompare.reporting.numbers import shorten
from rsacompare.reporting.reading import Reading
from rsacompare.reporting.style import GREY, INK, Drawing

COLUMNS = 3
Roles = Mapping[str, np.ndarray]


@style.drawn
def curves(reading: Reading, extra: dict[str, Any], roles: Roles) -> Drawing:
    """A panel per name in `panel`, one scale for all; a curve per name in `curve`.

    Bands: `low` to `high` dark, `outer_low` to `outer_high` light with thin edges. Where there is
    a reference, a bar along the lower edge marks where the outer band leaves it out. With named x
    (`x_labels`), curves are markers with whiskers, shifted sideways so that none hides another.
    """
    n = len(roles["x"])
    names = list(dict.fromkeys(roles["curve"].astype(str).tolist()))
    panel = roles.get("panel", np.full(n, "")).astype(str)
    titles = list(dict.fromkeys(panel.tolist()))
    labels = _listed(extra.get("x_labels"))
    looks = _looks(reading, names)
    columns = min(2 if labels else COLUMNS, len(titles))
    keys = _keys(extra, roles, looks, bool(labels))
    upright = bool(labels) and max(map(len, labels)) * len(labels) * 0.065 > 6.2 / columns
    below = (
        0.45 + 0.13 * reading.simulated + (0.062 * min(16, max(map(len, labels))) if upright else 0)
    )
    figure, axes = style.panels(
        len(titles),
        columns,
        1.9 if labels else 1.25,
        left=0.62,
        top=0.32 + 0.17 * -(-len(keys) // 3),
        bottom=below,
        gap_x=0.16,
        gap_y=0.38,
        width=4.2 if len(titles) == 1 else None,
    )
    reference = extra.get("reference")
    low, high = _extent(roles, reference)
    x = roles["x"].astype(float)
    pad = 0.5 if labels else 0.02 * (np.ptp(x) or 1.0)
    for i, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        if reference is not None:
            axis.axhline(float(reference), color=INK, lw=0.8, zorder=1)
        for place, name in enumerate(names):
            here = (panel == title) & (roles["curve"].astype(str) == name)
            own = {role: values[here] for role, values in roles.items()}
            shift = (place - (len(names) - 1) / 2) * 0.5 / max(len(names), 3)
            (_whiskers if labels else _band)(axis, own, name, looks[name], shift)
        if "outer_low" in roles and reference is not None and len(names) == 1:
            _mark_outside(axis, {r: v[panel == title] for r, v in roles.items()}, float(reference))
        axis.set(xlim=(x.min() - pad, x.max() + pad), ylim=(low, high))
        axis.locator_params(axis="y", nbins=5)
        if title:
            axis.set_title(shorten(title, 34), loc="left", weight="bold")
        last = i + columns >= len(titles)
        if labels:
            axis.set_xticks(range(len(labels)), [shorten(t, 16) for t in labels] if last else [])
            axis.tick_params(axis="x", rotation=90 if upright else 0)
        axis.tick_params(labelbottom=last, labelleft=i % columns == 0)
        if last:
            axis.set_xlabel(str(extra.get("x_axis", "")))
        if i % columns == 0:
            axis.set_ylabel(shorten(str(extra.get("y_axis", "")), 30))
    style.legend(figure, keys, columns=3)
    style.stamp(figure, reading.simulated)
    return Drawing("", figure, extra["title"], extra["caption"])


def _listed(given: Any) -> list[str]:
    found = json.loads(given) if isinstance(given, str) else given
    return [str(v) for v in found or []]


def _looks(reading: Reading, names: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each curve: a network's own; one other is black, more have others."""
    looks, others = {}, [n for n in names if n not in reading.networks]
    for name in names:
        if name in reading.networks:
            looks[name] = (
                style.colour(reading.networks, name),
                style.marker(reading.networks, name),
            )
        else:
            place = others.index(name)
            hue = style.CATEGORIES[place % len(style.CATEGORIES)] if len(others) > 1 else INK
            looks[name] = (hue, style.MARKERS[place % len(style.MARKERS)])
    return looks


def _extent(roles: Roles, reference: Any) -> tuple[float, float]:
    """Limits that hold all curves, bands and the reference."""
    parts = [roles[r] for r in ("y", "low", "high", "outer_low", "outer_high") if r in roles]
    every = np.concatenate([*parts, [] if reference is None else [float(reference)]])
    every = every[np.isfinite(every)]
    if not every.size:
        return -1.0, 1.0
    pad = 0.07 * (np.ptp(every) or 1.0)
    return float(every.min() - pad), float(every.max() + pad)


def _band(axis: Axes, own: Roles, name: str, look: tuple[str, str], shift: float) -> None:
    order = np.argsort(own["x"], kind="stable")
    x, y = own["x"][order], own["y"][order]
    hue, shape = look
    if "outer_low" in own:
        low, high = own["outer_low"][order], own["outer_high"][order]
        axis.fill_between(x, low, high, color=hue, alpha=0.13, lw=0, zorder=2, label="outer")
        for edge in (low, high):
            axis.plot(x, edge, color=hue, lw=0.6, ls=(0, (3, 1.5)), zorder=3)
    if "low" in own:
        low, high = own["low"][order], own["high"][order]
        axis.fill_between(x, low, high, color=hue, alpha=0.28, lw=0, zorder=3, label="band")
    axis.plot(x, y, color=hue, marker=shape, ms=2.2 if len(x) < 25 else 1.4, lw=1.1, zorder=5,
              label=name)  # fmt: skip


def _whiskers(axis: Axes, own: Roles, name: str, look: tuple[str, str], shift: float) -> None:
    order = np.argsort(own["x"], kind="stable")
    x, y = own["x"][order] + shift, own["y"][order]
    hue, shape = look
    if "low" in own:
        axis.vlines(x, own["low"][order], own["high"][order], color=hue, lw=1, zorder=3)
    axis.plot(
        x, y, color=hue, marker=shape, ms=4.2, lw=1.0, mec="white", mew=0.4, zorder=5, label=name
    )


def _mark_outside(axis: Axes, own: Roles, reference: float) -> None:
    """A bar along the lower edge over the x at which the outer band leaves the reference out.

    Bands are straight between points, so each stretch ends where an edge crosses the reference.
    """
    order = np.argsort(own["x"], kind="stable")
    x = own["x"][order]
    for edge in (own["outer_low"][order] - reference, reference - own["outer_high"][order]):
        for start, stop in _positive(x, edge):
            axis.plot(
                [start, stop], [0.02, 0.02], transform=axis.get_xaxis_transform(), color=INK,
                lw=3, solid_capstyle="butt", zorder=6, label="outside",
            )  # fmt: skip


def _positive(x: np.ndarray, edge: np.ndarray) -> list[tuple[float, float]]:
    """Stretches over which a polygon lies above 0.

    Examples
    --------
    >>> _positive(np.array([0.0, 1, 2, 3]), np.array([-1.0, 1, 1, -1]))
    [(0.5, 2.5)]
    """
    found: list[tuple[float, float]] = []
    for i in range(len(x) - 1):
        left, right = edge[i], edge[i + 1]
        if not (left > 0 or right > 0):
            continue
        cross = x[i] + (x[i + 1] - x[i]) * left / (left - right) if left * right < 0 else np.nan
        start = float(x[i] if left >= 0 else cross)
        stop = float(x[i + 1] if right >= 0 else cross)
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def _keys(
    extra: dict[str, Any], roles: Roles, looks: dict[str, tuple[str, str]], named: bool
) -> list[Line2D | Patch]:
    """Legend: the curves, then what the bands are."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=hue, marker=shape, ms=3.5, lw=1.1, label=shorten(name, 48))
        for name, (hue, shape) in looks.items()
    ]
    hue = next(iter(looks.values()))[0] if len(looks) == 1 else GREY
    if "low" in roles:
        text = str(extra.get("band_label", "interval"))
        handles.append(
            Line2D([], [], color=hue, lw=1, marker="|", ms=0, label=text)
            if named
            else Patch(facecolor=hue, alpha=0.4, lw=0, label=text)
        )
    if "outer_low" in roles:
        text = str(extra.get("outer_label", "wider band"))
        handles.append(Patch(facecolor=hue, alpha=0.13, lw=0, label=text))
        if extra.get("reference") is not None and len(looks) == 1:
            told = f"that band leaves out {float(extra['reference']):g}"
            handles.append(Line2D([], [], color=INK, lw=3, label=told))
    return handles
