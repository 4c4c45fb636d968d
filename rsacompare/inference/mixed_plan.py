"""What goes into the mixed model: networks, depths, subjects, and ROIs that share no voxels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.schema import overlap

MOST_NETWORKS = 3  # more make more terms than anybody reads


@dataclass
class Plan:
    """What goes into the model, and sentences about what does not."""

    metric: str
    scores: xr.DataArray  # (subject, roi, layer)
    depth: np.ndarray
    rois: list[str]
    networks: list[str]
    notes: list[str] = field(default_factory=list)


def choose(
    data: xr.Dataset,
    metric: str,
    rois: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
) -> Plan | str:
    """ROIs, networks and subjects of the model, or why there is none.

    Raises
    ------
    ProtocolError
        ROIs or networks that there are not.
    """
    scores = data["score"].sel(metric=metric, drop=True).transpose("subject", "roi", "layer")
    alive = scores.notnull()
    there = scores["roi"].values[alive.any(["subject", "layer"]).values].astype(str).tolist()
    named = scores["network"].values.astype(str)
    scored = alive.any(["subject", "roi"]).values
    notes: list[str] = []
    chosen = _networks(data, named[scored].tolist(), networks, notes)
    depth = data["depth"].values.astype(float)
    flat = [n for n in chosen if len(np.unique(depth[scored & (named == n)])) < 2]
    if flat:
        notes.append(f"{', '.join(flat)} is left out: the model needs two depths of a network")
        chosen = [n for n in chosen if n not in flat]
    if len(chosen) < 2:
        return f"it needs two networks of two depths each, and there {_count(len(chosen))}"
    layers = np.flatnonzero(scored & np.isin(named, chosen))
    kept = _rois(data, there, rois, notes)
    scores = scores.isel(layer=layers).sel(roi=kept)
    owned = scores.notnull().any("layer")
    scores = scores.isel(subject=np.flatnonzero(owned.any("roi").values))
    if scores.sizes["subject"] < 2:
        return f"it needs two subjects, and there {_count(scores.sizes['subject'])}"
    whole = scores.notnull().any("layer").all("subject").values
    if rois is None and whole.any() and not whole.all():
        lacking = [r for r, ok in zip(kept, whole, strict=True) if not ok]
        notes.append(f"{', '.join(lacking)} left out: not every subject has it")
        scores = scores.isel(roi=np.flatnonzero(whole))
    elif rois is None and not whole.any():
        # regions of different people: those that most cells share
        groups: dict[bytes, list[int]] = {}
        held = scores.notnull().any("layer").transpose("roi", "subject").values
        for i, row in enumerate(held):
            groups.setdefault(row.tobytes(), []).append(i)
        able = [g for g in groups.values() if held[g[0]].sum() > 1]
        if not able:
            return "no region has two subjects"
        best = max(able, key=lambda g: len(g) * int(held[g[0]].sum()))
        lacking = [r for i, r in enumerate(kept) if i not in best]
        notes.append(f"{', '.join(lacking)} left out: other subjects than the rest")
        scores = scores.isel(roi=best, subject=np.flatnonzero(held[best[0]]))
    kept = scores["roi"].values.astype(str).tolist()
    return Plan(metric, scores, depth[layers], kept, chosen, notes)


def _count(n: int) -> str:
    return "is one" if n == 1 else "are none" if n == 0 else f"are {n}"


def _networks(
    data: xr.Dataset, there: list[str], asked: Sequence[str] | None, notes: list[str]
) -> list[str]:
    there = list(dict.fromkeys(there))
    if asked is not None:
        for name in asked:
            if name not in there:
                raise ProtocolError(plugins.unknown("network", name, there))
        return list(dict.fromkeys(asked))
    told = json.loads(data.attrs.get("networks", "[]"))
    baselines = [n["name"] for n in told if n.get("baseline")]
    pairs = json.loads(data.attrs.get("contrast", "[]"))
    order = list(dict.fromkeys([*(n for pair in pairs for n in pair), *([] if pairs else there)]))
    real = [n for n in order if n in there and n not in baselines]
    if len(real) > MOST_NETWORKS:
        notes.append(
            f"of {len(real)} networks the first two are in the model (others: rc.mixed_model, "
            "networks=)"
        )
        real = real[:2]
    return real


def _rois(
    data: xr.Dataset, there: list[str], asked: Sequence[str] | None, notes: list[str]
) -> list[str]:
    known = overlap.of_scores(data.attrs)
    unmeasured = [roi for roi in (asked or there) if roi not in known["voxels"]]
    if asked is not None:
        for roi in asked:
            if roi not in there:
                raise ProtocolError(plugins.unknown("ROI", roi, there))
        kept = list(dict.fromkeys(asked))
        both = overlap.overlapping(kept, known)
        if both:
            pairs = ", ".join(f"{a} and {b}" for a, b in both[:4])
            notes.append(f"ROIs that were asked for share voxels, which count twice: {pairs}")
    else:
        kept, dropped = overlap.disjoint(there, known)
        if dropped:
            notes.append(
                f"{', '.join(dropped)} left out: the ROIs of the model share no voxels "
                f"({overlap.RULE})"
            )
    if unmeasured and len(kept) > 1:
        some = "the ROIs" if len(unmeasured) == len(kept) else ", ".join(unmeasured)
        notes.append(
            f"whether {some} share voxels is not known (no masks); they are taken as they are"
        )
    return kept
