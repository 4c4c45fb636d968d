"""What a check says about the brain data, from the numbers of all subjects together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from rsacompare.schema.checks import Finding
from rsacompare.schema.labels import listed
from rsacompare.study.check_brain import NO_SPLIT, Measured

FEW_VOXELS = 20  # a pattern of fewer hardly has a dissimilarity
FEW_STIMULI = 20  # a correlation over fewer has a standard error above 0.22
FEW_SUBJECTS = 6  # a two-sided sign-flip test of five cannot reach p < .05
UNRELIABLE = 0.1
SAME = 0.5  # share of an ROI's voxels that another holds too


def brain_findings(check: xr.Dataset, subjects: list[Measured]) -> list[Finding]:
    """Voxels, reliability, stimuli, repetitions, overlaps and the number of subjects."""
    return [
        *(finding for one in subjects for finding in one.findings),
        *_voxels(check),
        *_reliability(check),
        *_stimuli(subjects),
        *_overlaps(check),
        *_subjects(check),
    ]


def some(items: Sequence[str], most: int = 6) -> str:
    """The first few of many names.

    Examples
    --------
    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown


def _who(subjects: Sequence[str], total: int) -> str:
    if len(subjects) == total > 1:
        return "all subjects"
    return some(subjects, 3)


def _places(check: xr.Dataset, wanted: np.ndarray, values: np.ndarray) -> str:
    """`V1 1–3 (sub-01, sub-02), LOC 2 (all subjects)` for the cells (subject, roi) wanted."""
    told = []
    for j, roi in enumerate(check["roi"].values):
        own = values[wanted[:, j], j]
        if own.size:
            n = f"{own.min():.0f}" if np.ptp(own) == 0 else f"{own.min():.0f}–{own.max():.0f}"
            who = [str(s) for s in check["subject"].values[wanted[:, j]]]
            told.append(f"{roi} {n} ({_who(who, len(values))})")
    return some(told)


def _voxels(check: xr.Dataset) -> list[Finding]:
    found = []
    constant = check["n_constant"].values
    if (constant > 0).any():
        found.append(
            Finding(
                "warning",
                _places(check, constant > 0, constant),
                "Voxels that have one value in all presentations: outside the brain or outside "
                "the field of view, as a rule.",
                "Take them out of the masks: they shift correlation distances and count as voxels.",
            )
        )
    usable = check["n_voxels"].values - check["n_missing"].values - constant
    few = (usable < FEW_VOXELS) & (check["n_voxels"].values > 0)
    if few.any():
        found.append(
            Finding(
                "warning",
                _places(check, few, usable),
                f"ROIs with fewer than {FEW_VOXELS} usable voxels: patterns of so few are noisy, "
                "and decoding has little to choose from.",
                "Merge small ROIs, or read these results with care.",
            )
        )
    absent = ~check["present"].values
    if absent.any():
        rois = [
            f"{roi} ({n} of {len(absent)} subjects)"
            for roi, n in zip(check["roi"].values, (~absent).sum(axis=0), strict=True)
            if n < len(absent)
        ]
        datasets = len(set(check["dataset"].values.tolist()))
        if datasets == 1:
            sentence = "ROIs that some subjects lack; statistics of an ROI use its own subjects."
            found.append(Finding("note", ", ".join(rois), sentence))
    return found


def _reliability(check: xr.Dataset) -> list[Finding]:
    found = []
    means = {
        "split_half": "split-half reliability",
        "session_reliability": "agreement of two sessions",
        "rsa_ceiling_low": "lower RSA noise ceiling",
    }
    for name, said in means.items():
        mean = check[name].mean("subject").values
        low = [
            f"{r} {m:.3f}" for r, m in zip(check["roi"].values, mean, strict=True) if m < UNRELIABLE
        ]
        if low:
            found.append(
                Finding(
                    "warning",
                    ", ".join(low),
                    f"The {said} is below {UNRELIABLE} (mean over subjects): RSA and encoding of "
                    "any network will come out near chance here.",
                    "Do not read a missing difference here as equality.",
                )
            )
    live = check["n_voxels"].values > check["n_missing"].values + check["n_constant"].values
    unknown = live & np.isnan(check["voxel_ceiling"].values)
    if unknown.any():
        who = check["subject"].values[unknown.any(axis=1)]
        found.append(
            Finding(
                "warning",
                _who([str(w) for w in who], len(live)),
                "Some scored stimuli were shown once, or fewer than three were: there is no noise "
                "ceiling per voxel, so scores cannot be set against what these data allow.",
                "Score stimuli that were repeated, if there are any.",
            )
        )
    return found


def _stimuli(subjects: list[Measured]) -> list[Finding]:
    found = []
    n = {one.subject: len(one.scored) for one in subjects if len(one.stimuli)}
    short = [s for s, k in n.items() if k < 3]
    if short:
        sentence = "Fewer than three scored stimuli: nothing can be compared."
        found.append(Finding("error", _who(short, len(n)), sentence, "Score more stimuli."))
    few = sorted({k for s, k in n.items() if 3 <= k < FEW_STIMULI})
    if few:
        found.append(
            Finding(
                "warning",
                _who([s for s, k in n.items() if k in few], len(n)),
                f"Only {few[0]} scored stimuli: a correlation over them has a standard error of "
                f"about {1 / np.sqrt(max(few[0] - 1, 1)):.2f}.",
            )
        )
    sharing = {
        one.subject: np.intersect1d(one.stimuli["train"], one.stimuli["test"])
        for one in subjects
        if {"train", "test"} <= one.stimuli.keys()
    }
    sharing = {s: ids for s, ids in sharing.items() if ids.size}
    if sharing:
        first = next(iter(sharing.values()))
        found.append(
            Finding(
                "error",
                _who(list(sharing), len(subjects)),
                f"Stimuli stand in the training and in the test split ({first.size}: "
                f"{listed(list(first), 3)}): decoding and encoding would be tested on what they "
                "were trained on.",
                "Give every stimulus one split.",
            )
        )
    for dataset in dict.fromkeys(one.dataset for one in subjects):
        own = [one for one in subjects if one.dataset == dataset and len(one.scored)]
        if len({tuple(one.scored.tolist()) for one in own}) > 1:
            shared = set.intersection(*(set(one.scored.tolist()) for one in own))
            found.append(
                Finding(
                    "warning",
                    dataset or "all subjects",
                    "Subjects were not scored on the same stimuli "
                    f"({len(shared)} are shared by all): RSA ceilings are taken among those with "
                    "equal stimuli only.",
                )
            )
    uneven = []
    for one in subjects:
        split = "test" if "test" in one.counts else NO_SPLIT
        if split in one.counts and np.ptp(one.counts[split]) > 0:
            uneven.append((one.subject, one.counts[split].min(), one.counts[split].max()))
    if uneven:
        low, high = min(u[1] for u in uneven), max(u[2] for u in uneven)
        sentence = f"Scored stimuli were not repeated equally often ({low} to {high} times), so "
        sentence += "their noise differs."
        where = _who([u[0] for u in uneven], len(subjects))
        found.append(Finding("note", where, sentence))
    return found


def _overlaps(check: xr.Dataset) -> list[Finding]:
    share = check["overlap"].mean("subject").values
    rois = check["roi"].values
    twins: list[str] = []
    holds: dict[str, list[str]] = {}
    for i in range(len(rois)):
        for j in range(i + 1, len(rois)):
            if min(share[i, j], share[j, i]) >= 1:
                twins.append(f"{rois[i]} = {rois[j]}")
            elif max(share[i, j], share[j, i]) >= SAME:
                small, large = (i, j) if share[i, j] >= share[j, i] else (j, i)
                part = share[small, large]
                told = rois[small] if part >= 1 else f"{100 * part:.0f} % of {rois[small]}"
                holds.setdefault(rois[large], []).append(told)
    found = []
    if twins:
        sentence = "These ROIs are the same voxels in every subject."
        found.append(Finding("warning", some(twins, 12), sentence, "Keep one of each."))
    if holds:
        told = "; ".join(f"{large} holds {', '.join(own)}" for large, own in holds.items())
        sentence = f"ROIs share most of their voxels, so their results are not independent: {told}."
        found.append(Finding("note", some(list(holds)), sentence))
    return found


def _subjects(check: xr.Dataset) -> list[Finding]:
    groups: dict[int, list[str]] = {}
    for roi, n in zip(check["roi"].values, check["present"].values.sum(axis=0), strict=True):
        if n < FEW_SUBJECTS:
            groups.setdefault(int(n), []).append(str(roi))
    found = []
    for n, rois in sorted(groups.items()):
        if n == 1:
            sentence = "One subject: nothing can be said beyond this person, nor is there an RSA "
            sentence += "noise ceiling from other subjects."
        else:
            sentence = (
                f"{n} subjects: a sign-flip test over them cannot go below p = {2 / 2**n:.4g} "
                "(two-sided)."
            )
        where = "all ROIs" if len(rois) == check.sizes["roi"] else some(rois, 12)
        found.append(Finding("note", where, sentence))
    return found
