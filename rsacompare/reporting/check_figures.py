"""Figures of a check: reliability, voxel counts, repetitions, overlap of ROIs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from rsacompare.reporting import style
from rsacompare.reporting.figures import spread
from rsacompare.reporting.maps import SEQUENTIAL
from rsacompare.reporting.numbers import by_value, shorten
from rsacompare.reporting.style import CEILING, GREY, INK, WIDTH, Drawing

BAD = "#B00020"
PANELS = {
    "split_half": ("Split-half reliability of voxels", "reliability"),
    "voxel_ceiling": ("Noise ceiling per voxel", "correlation r"),
    "session_reliability": ("Agreement of two sessions", "{} between RDMs"),
    "rsa_ceiling_low": ("RSA noise ceiling", "{} between RDMs"),
}
EXPLAINED = {
    "split_half": (
        "split-half reliability: correlation over the scored stimuli between the means of two "
        "random halves of the repetitions, stepped up to all repetitions by Spearman–Brown, mean "
        "over voxels"
    ),
    "voxel_ceiling": (
        "noise ceiling per voxel: the correlation that a perfect model would reach with the mean "
        "over repetitions, mean over voxels"
    ),
    "session_reliability": (
        "agreement of two sessions of one subject, between their RDMs (not stepped up)"
    ),
    "rsa_ceiling_low": (
        "RSA noise ceiling: dots show how well the other subjects' RDMs predict each subject's "
        "(lower bound), the grey box runs from the mean of these to the mean of the upper bound"
    ),
}


def drawings(check: xr.Dataset) -> list[Drawing]:
    """All figures that these data allow, in the order of the page."""
    made = [reliability(check), voxels(check), repetitions(check), overlap(check)]
    return [drawing for drawing in made if drawing is not None]


def subjects_of(check: xr.Dataset, name: str) -> tuple[list[str], dict[str, int]]:
    """ROIs in which a number is known, and of how many subjects."""
    known = np.isfinite(check[name].values).sum(axis=0)
    rois = check["roi"].values.astype(str)
    counts = {str(r): int(n) for r, n in zip(rois, known, strict=True) if n}
    return list(counts), counts


@style.drawn
def reliability(check: xr.Dataset) -> Drawing | None:
    """A panel per kind of reliability: ROIs on x, subjects as dots."""
    shown = [name for name in PANELS if subjects_of(check, name)[0]]
    if not shown:
        return None
    most = max(len(subjects_of(check, name)[0]) for name in shown)
    longest = max(len(shorten(str(r), 14)) for r in check["roi"].values)
    columns = int(np.clip(6.9 // (0.24 * most + 0.55), 1, min(3, len(shown))))
    # a row of its own for one left over would be wide and empty
    columns = 2 if columns == 3 and len(shown) == 4 else columns
    upright = longest * most * columns > 75
    figure, axes = style.panels(
        len(shown),
        columns,
        1.5,
        top=0.62,
        bottom=0.2 + 0.06 * longest if upright else 0.42,
        gap_x=0.5,
        gap_y=0.35 + 0.06 * longest if upright else 0.6,
    )
    values = np.concatenate([check[name].values.ravel() for name in shown])
    low = min(0.0, float(np.nanmin(values)) - 0.05)
    for axis, name in zip(axes, shown, strict=True):
        rois, _ = subjects_of(check, name)
        _reliability_panel(axis, check, name, rois)
        label = PANELS[name][1].format(_comparator(check))
        axis.set(ylim=(low, 1.02), ylabel=label, xlim=(-0.6, len(rois) - 0.4))
        axis.set_title(PANELS[name][0], loc="left", weight="bold")
        axis.axhline(0, color=INK, lw=0.6, zorder=1)
        axis.set_xticks(range(len(rois)), [shorten(r, 14) for r in rois])
        axis.tick_params(axis="x", labelrotation=90 if upright else 0)
    handles: list[Any] = [
        style.key_subject(),
        _key_mean(),
    ]
    if "rsa_ceiling_low" in shown:
        label = "RSA ceiling, lower to upper bound (means)"
        handles.append(Patch(facecolor=CEILING, edgecolor=GREY, lw=0.5, label=label))
    style.legend(figure, handles, columns=3)
    style.stamp(figure, bool(check.attrs.get("simulated")))
    n = by_value({roi: k for name in shown for roi, k in subjects_of(check, name)[1].items()})
    what = "; ".join(EXPLAINED[name] for name in shown)
    caption = (
        f"{what[0].upper()}{what[1:]}. Small dots: subjects (n = {n}); large markers and whiskers: "
        "mean and one standard deviation over subjects. Where they are low, so must be "
        "what RSA and encoding can reach."
    )
    return Drawing("check-reliability", figure, "Reliability of each ROI", caption)


def _comparator(check: xr.Dataset) -> str:
    options = json.loads(check.attrs.get("options", "{}"))
    return str(options.get("rsa", {}).get("comparator", "agreement"))


def _reliability_panel(axis: Axes, check: xr.Dataset, name: str, rois: list[str]) -> None:
    values = check[name].sel(roi=rois).values
    if name == "rsa_ceiling_low":
        high = check["rsa_ceiling_high"].sel(roi=rois).mean("subject").values
        boxes = [
            Rectangle((j - 0.34, low), 0.68, top - low)
            for j, (low, top) in enumerate(zip(np.nanmean(values, axis=0), high, strict=True))
        ]
        axis.add_collection(
            PatchCollection(
                boxes, facecolor=CEILING, edgecolor=GREY, lw=0.4, zorder=0, label="ceiling"
            )
        )
    _subjects_and_mean(axis, values, name)


def _subjects_and_mean(axis: Axes, values: np.ndarray, name: str) -> None:
    """Dots of the subjects left, mean and SD right of each tick; values (subject, roi)."""
    for j in range(values.shape[1]):
        own = values[np.isfinite(values[:, j]), j]
        if not own.size:
            continue
        _dots(axis, j - 0.12 + spread(len(own), 0.26), own)
        if own.size > 1:
            axis.vlines(j + 0.14, own.mean() - own.std(ddof=1), own.mean() + own.std(ddof=1),
                        color=INK, lw=1.1, zorder=4)  # fmt: skip
        axis.plot([j + 0.14], [own.mean()], ls="", marker="o", ms=4, color=INK, mec="white",
                  mew=0.4, zorder=5, label=f"mean {name}")  # fmt: skip


def _key_mean() -> Line2D:
    return Line2D([], [], color=INK, lw=1, marker="o", ms=4, label="mean ± 1 SD over subjects")


def _dots(axis: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """One dot per subject, large enough to be counted: there are no curves to hide."""
    axis.scatter(x, y, s=8, color=GREY, alpha=0.8, lw=0, zorder=6, label="subjects")


@style.drawn
def voxels(check: xr.Dataset) -> Drawing | None:
    """Voxels per ROI, subjects as dots; those that cannot be used are marked."""
    rois, counts = subjects_of(check, "n_voxels")
    if not rois:
        return None
    part = check.sel(roi=rois)
    n = part["n_voxels"].values
    bad = np.nan_to_num(part["n_missing"].values + part["n_constant"].values)
    longest = max(len(shorten(r, 14)) for r in rois)
    width = min(WIDTH - 0.65, 0.8 + 0.55 * len(rois))
    upright = longest * len(rois) * 0.075 > width
    figure, (axis,) = style.panels(
        1, 1, 1.6, top=0.42, bottom=0.2 + 0.06 * longest if upright else 0.42, width=width
    )
    _subjects_and_mean(axis, n, "voxels")
    for j, mean in enumerate(np.nanmean(n, axis=0)):
        axis.annotate(f"{mean:.0f}", (j, np.nanmax(n[:, j])), (0, 4), textcoords="offset points",
                      ha="center", va="bottom", fontsize=7, color=INK)  # fmt: skip
        if bad[:, j].any():
            who = bad[:, j] > 0
            axis.plot(j - 0.12 + spread(len(n), 0.26)[who], bad[who, j], ls="", marker="x", ms=4,
                      mew=1, color=BAD, zorder=7, label="unusable")  # fmt: skip
    every = np.concatenate([n[np.isfinite(n)], bad[bad > 0]])
    wide = np.nanmax(n) > 20 * max(np.nanmin(n), 1)
    if wide:
        axis.set(yscale="log", ylim=(max(0.8, 0.6 * every.min()), 2 * every.max()))
        axis.yaxis.set_major_formatter("{x:,.0f}")
    else:
        axis.set_ylim(0, 1.16 * every.max())
    axis.set(ylabel="voxels", xlim=(-0.6, len(rois) - 0.4))
    axis.set_xticks(range(len(rois)), [shorten(r, 14) for r in rois])
    axis.tick_params(axis="x", labelrotation=90 if upright else 0)
    handles: list[Any] = [style.key_subject(), _key_mean()]
    unusable = " Red crosses: voxels with missing values or one value only." if bad.any() else ""
    if bad.any():
        handles.append(Line2D([], [], ls="", marker="x", color=BAD, ms=4, label="unusable voxels"))
    style.legend(figure, handles, columns=3)
    style.stamp(figure, bool(check.attrs.get("simulated")))
    caption = (
        f"Voxels in the mask of each ROI. Small dots: subjects (n = {by_value(counts)}); large "
        "markers and whiskers: mean and one standard deviation over subjects; number: mean."
        f"{unusable}" + (" The axis is logarithmic." if wide else "")
    )
    return Drawing("check-voxels", figure, "Voxels per ROI", caption)


@style.drawn
def repetitions(check: xr.Dataset) -> Drawing | None:
    """How many stimuli were shown how often: a panel per split, a colour per data set."""
    counts = check["n_repeated"].values.astype(float)
    splits, times = check["split"].values.astype(str), check["repetitions"].values
    if not counts.any():
        return None
    names = check["dataset"].values.astype(str)
    sets = list(dict.fromkeys(names.tolist()))
    figure, axes = style.panels(
        len(splits), min(len(splits), 3), 1.3, top=0.62 if len(sets) > 1 else 0.32, gap_x=0.55,
        width=None if len(splits) > 1 else 3.6,
    )  # fmt: skip
    width = 0.7 / len(sets)
    for j, (axis, split) in enumerate(zip(axes, splits, strict=True)):
        here = np.flatnonzero(counts[:, j].any(axis=0))
        for k, name in enumerate(sets):
            own = counts[names == name, j][:, here]
            own = own[own.any(axis=1)]
            if not own.size:
                continue
            x = np.arange(len(here)) + (k - (len(sets) - 1) / 2) * width
            bars = axis.bar(x, own.mean(axis=0), 0.92 * width, lw=0, alpha=0.75,
                            color=style.OKABE_ITO[k % 8], label=f"{split} {name}")  # fmt: skip
            axis.vlines(x, own.min(axis=0), own.max(axis=0), color=INK, lw=0.8)
            for bar, value, top in zip(bars, own.mean(axis=0), own.max(axis=0), strict=True):
                if len(here) * len(sets) <= 12 and value:
                    axis.annotate(f"{value:.4g}", (bar.get_x() + bar.get_width() / 2, top), (0, 2),
                                  textcoords="offset points", ha="center", fontsize=7)  # fmt: skip
        axis.set_xticks(range(len(here)), [str(times[i]) for i in here])
        if len(here) > 16:
            axis.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        edge = max(0.75, 1.6 - 0.3 * len(here))  # a single bar need not fill its panel
        axis.set(xlim=(-edge, len(here) - 1 + edge), xlabel="times shown", ylabel="stimuli")
        axis.set_ylim(0, 1.18 * counts[:, j].max())
        title = "all stimuli (no split)" if split == "all" else f"{split} stimuli"
        axis.set_title(title, loc="left", weight="bold")
    if len(sets) > 1:
        style.legend(
            figure,
            [
                Patch(color=style.OKABE_ITO[k % 8], alpha=0.75, label=name)
                for k, name in enumerate(sets)
            ],
        )
    style.stamp(figure, bool(check.attrs.get("simulated")))
    rdms = "rdms" in check["kind"].values
    caption = (
        "How many stimuli were shown how often, per split. Bars and numbers: mean over subjects; "
        "whiskers: smallest and largest over subjects."
        + (" Where only RDMs exist, sessions are counted." if rdms else "")
    )
    return Drawing("check-repetitions", figure, "Repetitions", caption)


@style.drawn
def overlap(check: xr.Dataset) -> Drawing | None:
    """Share of an ROI's voxels (row) that another ROI (column) holds too, mean over subjects."""
    rois, _ = subjects_of(check, "n_voxels")
    if len(rois) < 2:
        return None
    share = check["overlap"].sel(roi=rois, roi_other=rois).mean("subject").values
    names = [shorten(r, 14) for r in rois]
    longest = max(map(len, names))
    cell = min(0.42, (WIDTH - 1.2 - 0.07 * longest) / len(rois))
    left, top = 0.2 + 0.068 * longest, 0.25 + 0.068 * longest
    side, height = cell * len(rois), cell * len(rois) + 0.35 + 0.068 * longest
    figure = style.Figure(figsize=(WIDTH, height))
    axis = figure.add_axes((left / WIDTH, 1 - (top + side) / height, side / WIDTH, side / height))
    image = axis.imshow(
        100 * share, cmap=SEQUENTIAL, vmin=0, vmax=100, interpolation="none", label="overlap"
    )
    axis.set_yticks(range(len(rois)), names)
    axis.set_xticks(range(len(rois)), names, rotation=90)
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axis.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(share):
        if cell > 0.24 and np.isfinite(value) and value > 0 and i != j:
            hue = INK if value > 0.6 else "white"
            axis.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=hue)
    bar = figure.add_axes(
        ((left + side + 0.15) / WIDTH, 1 - (top + min(side, 2)) / height, 0.11 / WIDTH,
         min(side, 2) / height)
    )  # fmt: skip
    figure.colorbar(image, cax=bar).set_label("% of the row's voxels")
    bar.tick_params(length=2)
    style.stamp(figure, bool(check.attrs.get("simulated")))
    caption = (
        "Per cent of the voxels of the ROI in the row that the ROI in the column holds too, mean "
        "over subjects; no number where two ROIs share no voxel. ROIs that share voxels do not "
        "give independent results."
    )
    return Drawing("check-overlap", figure, "Overlap of ROIs", caption)
