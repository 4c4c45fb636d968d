"""Specification curves: differences sorted by size, and the choices that each stands for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rsacompare.reporting import style
from rsacompare.reporting.numbers import shorten
from rsacompare.reporting.sensitivity_text import OVER
from rsacompare.reporting.style import GREY, INK, WIDTH, Drawing
from rsacompare.schema import sensitivity
from rsacompare.schema.sensitivity import AS_STUDIED, CHOICES, REFERENCE

MOST_PEOPLE = 8  # with more, all that are left out share a row
BESIDE = 4  # panels in a row
ROW = 0.125  # inches of the matrix
UPPER = 1.55
LABELS = 1.62  # inches left of the panels


@style.drawn
def curve(data: xr.Dataset, metric: str) -> Drawing:
    """One metric's specification curve, a panel per ROI.

    Parameters
    ----------
    data : Dataset
        Of `rsacompare.sensitivity`.
    metric : str
    """
    frame = sensitivity.tables(data)["specifications"]
    frame = frame[(frame["metric"] == metric) & frame["difference"].notna()]
    rois = list(dict.fromkeys(frame["roi"]))
    lines = matrix_rows(frame)
    bands = -(-len(rois) // BESIDE)
    columns = -(-len(rois) // bands)
    gap, right, top, lower = 0.12, 0.08, 0.62, ROW * (len(lines) + 0.6)
    height = UPPER + 0.06 + lower
    total = top + bands * height + (bands - 1) * 0.42 + 0.2
    figure = Figure(figsize=(WIDTH, total))
    width = (WIDTH - LABELS - right - gap * (columns - 1)) / columns
    ends = frame[["difference", "ci_low", "ci_high"]].to_numpy()
    low, high = min(np.nanmin(ends), 0.0), max(np.nanmax(ends), 0.0)
    margin = 0.06 * ((high - low) or 1.0)
    a, b = json.loads(data.attrs["contrast"])
    meaning = json.loads(data.attrs["meaning"])[metric]
    better = 1 if meaning["higher_is_better"] else -1
    for k, roi in enumerate(rois):
        band, column = divmod(k, columns)
        x = LABELS + column * (width + gap)
        y = total - top - band * (height + 0.42) - UPPER
        upper = figure.add_axes(_box(x, y, width, UPPER, total))
        matrix = figure.add_axes(_box(x, y - 0.06 - lower, width, lower, total))
        own = frame[frame["roi"] == roi].sort_values("difference", kind="stable")
        _curve(upper, own, better)
        upper.set(ylim=(low - margin, high + margin), xlim=(-1, len(own)), xticks=[])
        upper.set_title(roi, loc="left", weight="bold")
        _matrix(matrix, own, lines, better, named=column == 0)
        matrix.set_xlim(-1, len(own))
        if column:
            upper.tick_params(labelleft=False)
        else:
            unit = str(meaning["unit"])
            upper.set_ylabel(f"{shorten(a, 18)} − {shorten(b, 18)}\n{unit}")
    style.legend(figure, _keys(a, b, data), columns=3, left=0.06)
    style.stamp(figure, bool(int(data.attrs.get("simulated", 0))))
    return Drawing(
        _file(metric), figure, f"Specification curve, {meaning['label']}", _caption(data, a, b)
    )


def _file(metric: str) -> str:
    safe = "".join(c if c.isalnum() or c in ".+-_" else "-" for c in metric)
    return f"specifications-{safe}"


def _box(x: float, y: float, w: float, h: float, total: float) -> tuple[float, float, float, float]:
    return x / WIDTH, y / total, w / WIDTH, h / total


def matrix_rows(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(choice, level, label) of each row of the matrix; a choice that was never varied has none.

    With many people "one left out" is a row, and stands for all of these (level "").
    """
    rows = []
    for choice in CHOICES:
        levels = list(dict.fromkeys(frame[choice]))
        if len(levels) < 2:
            continue
        levels.sort(key=lambda level: level != AS_STUDIED)
        if choice == "subjects" and len(levels) - 1 > MOST_PEOPLE:
            rows += [(choice, AS_STUDIED, "all"), (choice, "", "one left out")]
            continue
        names = {"subjects": "all", "stimuli": "all", "voxels": "all"}
        rows += [
            (choice, level, names.get(choice, level) if level == AS_STUDIED else level)
            for level in levels
        ]
    return rows


def _colours(own: pd.DataFrame, better: int) -> list[str]:
    first, second = style.OKABE_ITO[:2]
    return [first if better * d > 0 else second if d else GREY for d in own["difference"]]


def _curve(axis: Axes, own: pd.DataFrame, better: int) -> None:
    place = np.arange(len(own))
    colours = _colours(own, better)
    clear = own["significant"].fillna(False).to_numpy(dtype=bool)
    size = float(np.clip(180 / max(len(own), 1), 1.2, 9))
    axis.axhline(0, color=INK, lw=0.8, zorder=1)
    known = own["ci_low"].notna().to_numpy()
    axis.vlines(
        place[known],
        own["ci_low"][known],
        own["ci_high"][known],
        colors=[c for c, k in zip(colours, known, strict=True) if k],
        lw=float(np.clip(60 / max(len(own), 1), 0.25, 1.2)),
        alpha=0.45,
        zorder=2,
    )
    axis.scatter(
        place,
        own["difference"],
        s=size,
        c=[c if k else "white" for c, k in zip(colours, clear, strict=True)],
        edgecolors=colours,
        linewidths=0.5,
        zorder=3,
        label="specifications",
    )
    here = place[(own["changed"] == REFERENCE).to_numpy()]
    value = own.loc[own["changed"] == REFERENCE, "difference"]
    axis.scatter(here, value, s=22, marker="D", c=INK, linewidths=0, zorder=4, label="reference")
    for x in here:
        axis.axvline(x, color=INK, lw=0.5, ls=(0, (2, 2)), zorder=0)


def _matrix(
    axis: Axes, own: pd.DataFrame, rows: list[tuple[str, str, str]], better: int, named: bool
) -> None:
    colours = np.array(_colours(own, better))
    heights: list[float] = []
    y = 0.0
    before = rows[0][0] if rows else ""
    for choice, level, _ in rows:
        y += 0.3 if choice != before else 0.0  # a gap between choices
        before = choice
        heights.append(y)
        values = own[choice].to_numpy()
        held = values != AS_STUDIED if level == "" else values == level
        place = np.flatnonzero(held)
        faint = level == AS_STUDIED
        axis.vlines(
            place, y - 0.36, y + 0.36, colors="#C9C9C9" if faint else colours[held],
            lw=float(np.clip(75 / max(len(own), 1), 0.35, 1.6)), zorder=2,
        )  # fmt: skip
        y += 1
    for x in np.flatnonzero((own["changed"] == REFERENCE).to_numpy()).tolist():
        axis.axvline(x, color=INK, lw=0.5, ls=(0, (2, 2)), zorder=3)
    axis.set(ylim=(max(y, 1) - 0.4, -0.6), xticks=[])
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    if not named:
        axis.set_yticks([])
        return
    axis.set_yticks(heights, [shorten(label, 24) for *_, label in rows], fontsize=6)
    for choice in dict.fromkeys(c for c, *_ in rows):
        first = next(h for h, (c, *_) in zip(heights, rows, strict=True) if c == choice)
        axis.text(
            -(LABELS - 0.06) / (axis.get_position().width * WIDTH), first, choice,
            transform=axis.get_yaxis_transform(), fontsize=6, weight="bold", va="center",
        )  # fmt: skip


def _keys(a: str, b: str, data: xr.Dataset) -> list[Any]:
    percent = 100 * json.loads(data.attrs["options"])["confidence"]

    def dot(colour: str, full: bool, label: str) -> Line2D:
        face = colour if full else "white"
        return Line2D([], [], ls="", marker="o", ms=4, mfc=face, mec=colour, label=label)

    first, second = style.OKABE_ITO[:2]
    return [
        dot(first, True, f"{shorten(a, 20)} closer"),
        dot(second, True, f"{shorten(b, 20)} closer"),
        Line2D([], [], ls="", marker="D", ms=4, color=INK, label="the study itself"),
        dot(GREY, True, f"{percent:g} % interval excludes 0"),
        dot(GREY, False, "interval includes 0"),
    ]


def _caption(data: xr.Dataset, a: str, b: str) -> str:
    options = json.loads(data.attrs["options"])
    percent, draws = 100 * options["confidence"], options["n_bootstrap"]
    return (
        f"Upper panels: the difference {a} − {b}, {OVER[str(data.attrs['pairing'])]}, in every "
        f"specification, sorted by size, with its {percent:g} % interval ({draws} bootstrap draws, "
        "so that the study's own may differ a little from the run's; not corrected for their "
        "number). Diamond and dotted line: the study itself. Lower panels: which "
        "choice each specification stands for; the grey rows are the study's own choices. "
        "Specifications share their data and are not independent: the curve describes, it does "
        "not test."
    )
