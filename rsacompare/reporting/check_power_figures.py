"""Figures of a check's power: smallest differences beside the ceiling, and how they shrink."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rsacompare.reporting import style
from rsacompare.reporting.numbers import shorten
from rsacompare.reporting.style import CEILING, GREY, INK, Drawing
from rsacompare.schema import checks

VARIED = {"subjects": "subjects", "stimuli": "scored stimuli", "repetitions": "repetitions"}


def power_rows(check: xr.Dataset) -> pd.DataFrame:
    """The table of power; without rows where a check has none."""
    nothing = pd.DataFrame({name: pd.Series(dtype=float) for name in checks.POWER})
    return checks.tables(check).get("power", nothing)


@style.drawn
def smallest(check: xr.Dataset) -> Drawing | None:
    """A panel per metric: smallest visible difference and noise ceiling of each ROI."""
    rows = power_rows(check)
    rows = rows[rows["varied"] == ""]
    metrics = list(dict.fromkeys(rows["metric"]))
    if not metrics:
        return None
    most = max(rows.groupby("metric").size())
    longest = max(len(shorten(r, 14)) for r in rows["roi"])
    columns = int(np.clip(6.9 // (0.26 * most + 0.55), 1, min(3, len(metrics))))
    upright = longest * most * columns > 75
    figure, axes = style.panels(
        len(metrics), columns, 1.6, top=0.62, bottom=0.2 + 0.06 * longest if upright else 0.42,
        gap_x=0.5, gap_y=0.35 + 0.06 * longest if upright else 0.6,
        width=None if columns > 1 or most > 8 else 0.8 + 0.6 * most,
    )  # fmt: skip
    corrected = checks.about(check, "power").get("n_tests", 1) > 1
    for axis, metric in zip(axes, metrics, strict=True):
        own = rows[rows["metric"] == metric]
        x = np.arange(len(own))
        axis.bar(x, own["ceiling"], 0.68, color=CEILING, ec=GREY, lw=0.4, label="ceiling", zorder=0)
        axis.plot(x, own["smallest"], ls="", marker="o", ms=4.5, color=INK, label="smallest",
                  zorder=4)  # fmt: skip
        if corrected:
            axis.plot(x, own["smallest_holm"], ls="", marker="_", ms=9, mew=1.6, color="#B00020",
                      label="corrected", zorder=3)  # fmt: skip
        top = np.nanmax(own[["ceiling", "smallest"]].to_numpy())
        if corrected:  # far outside the picture a mark would flatten all others
            held = own["smallest_holm"].to_numpy()
            top = max(top, min(np.nanmax(held), 1.6 * top))
            for place, value in zip(x[held > top], held[held > top], strict=True):
                axis.annotate(f"{value:.2g}", (place, 1.08 * top), color="#B00020", fontsize=6.5,
                              ha="center", va="top", clip_on=False)  # fmt: skip
        axis.set(xlim=(-0.6, len(own) - 0.4), ylim=(0, 1.1 * top), ylabel="score")
        axis.set_xticks(x, [shorten(r, 14) for r in own["roi"]])
        axis.tick_params(axis="x", labelrotation=90 if upright else 0)
        axis.set_title(metric, loc="left", weight="bold")
    handles: list[Any] = [
        Line2D([], [], ls="", marker="o", ms=4.5, color=INK, label="smallest difference seen"),
        *(
            [Line2D([], [], ls="", marker="_", ms=9, mew=1.6, color="#B00020",
                    label="corrected for all tests")]
            if corrected
            else []
        ),
        Patch(facecolor=CEILING, edgecolor=GREY, lw=0.5, label="lower noise ceiling"),
    ]  # fmt: skip
    style.legend(figure, handles, columns=3)
    style.stamp(figure, bool(check.attrs.get("simulated")))
    about = checks.about(check, "power")
    caption = (
        "Dots: the smallest true difference between two networks (mean over layers) that the "
        f"two-sided test of {about.get('alpha', 0.05):g} sees in "
        f"{about.get('wanted', 0.8):.0%} of studies like this one."
        + (
            f" Red bars: the same with Holm's correction for {about['n_tests']} tests, when it is "
            "the only difference; a red number: beyond the axis."
            if corrected
            else ""
        )
        + " Grey: what a perfect model would reach, from 0 to the lower noise ceiling of the "
        "simulated studies. A dot high up in the grey: only large differences can be seen."
    )
    return Drawing("check-power", figure, "The smallest difference that could be seen", caption)


@style.drawn
def growth(check: xr.Dataset) -> Drawing | None:
    """Smallest difference, in per cent of the ceiling, against subjects, stimuli, repetitions."""
    rows = power_rows(check)
    rows = rows[np.isfinite(rows["share"])]
    shown = [v for v in VARIED if (rows["varied"] == v).any()]
    metrics = list(dict.fromkeys(rows["metric"]))
    if not shown:
        return None
    figure, axes = style.panels(len(shown), len(shown), 1.7, top=0.45, bottom=0.6, gap_x=0.5,
                                width=None if len(shown) == 3 else 2.4)  # fmt: skip
    top = 0.0
    for axis, varied in zip(axes, shown, strict=True):
        part = rows[rows["varied"] == varied]
        factors = np.unique(part["factor"].round(4))
        for k, metric in enumerate(metrics):
            own = part[part["metric"] == metric]
            if not len(own):
                continue
            colour = style.OKABE_ITO[k % 8]
            groups = own.groupby(own["factor"].round(4))["share"]
            x = np.array(list(groups.groups), dtype=float)
            low, middle, high = (100 * np.array(getattr(groups, f)()) for f in
                                 ("min", "median", "max"))  # fmt: skip
            axis.fill_between(x, low, high, color=colour, alpha=0.18, lw=0, label=f"band {metric}")
            axis.plot(x, middle, color=colour, marker=style.MARKERS[k % 8], ms=3.5, label=metric)
            top = max(top, float(high.max()))
        counts = part.groupby(part["factor"].round(4))[f"n_{varied}"]
        one = (counts.nunique() == 1).all()
        names = [f"{counts.get_group(f).iloc[0]:g}" if one else f"×{f:g}" for f in factors.tolist()]
        axis.axvline(1, color=GREY, lw=0.8, ls=":", zorder=0)
        axis.set_xscale("log")
        axis.set_xticks(factors, names)
        axis.minorticks_off()
        edge = (factors.max() / factors.min()) ** 0.07
        axis.set(xlim=(factors.min() / edge, factors.max() * edge), xlabel=VARIED[varied])
    for axis in axes:
        axis.set_ylim(0, 1.06 * top)
    axes[0].set_ylabel("% of the ceiling")
    handles = [
        Line2D([], [], color=style.OKABE_ITO[k % 8], marker=style.MARKERS[k % 8], ms=3.5, label=m)
        for k, m in enumerate(metrics)
    ]
    style.legend(figure, handles, columns=4)
    style.stamp(figure, bool(check.attrs.get("simulated")))
    caption = (
        "The smallest difference seen in 8 of 10 studies, uncorrected, in per cent of the lower "
        "noise ceiling, if one thing about the design were changed. Lines: median over ROIs; "
        "bands: smallest to largest; dotted: the design as it is. Subjects and stimuli by "
        "components of variance; repetitions simulated each, where noise is known from them."
    )
    return Drawing("check-power-growth", figure, "What more data would bring", caption)
