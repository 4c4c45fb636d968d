"""ROIs that share voxels (LVC holds V1 to V3), and which to keep where none may."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

RULE = (
    "from the ROI of fewest voxels to that of most, each is kept that shares no voxel with those "
    "kept before"
)


def describe(masks: Iterable[tuple[str, str, np.ndarray | None]]) -> dict[str, Any]:
    """How large ROIs are and what they share: what `compare` keeps as `roi_overlap`.

    Parameters
    ----------
    masks : (subject, roi, (voxel,) bool or None)
        Masks of one subject are of one set of voxels; None where only an RDM is known.

    Returns
    -------
    dict
        `voxels`: {roi: most voxels of any subject}, without ROIs known by RDMs; `shared`:
        {roi: {other: largest share of the voxels of roi that lie in other}}, 0 left out.

    Examples
    --------
    >>> v1, v = np.array([1, 1, 0, 0], bool), np.array([1, 1, 1, 0], bool)
    >>> describe([("sub-01", "V1", v1), ("sub-01", "V", v)])["shared"]["V1"]
    {'V': 1.0}
    """
    by_subject: dict[str, dict[str, np.ndarray]] = {}
    for subject, roi, mask in masks:
        if mask is not None:
            by_subject.setdefault(subject, {})[roi] = mask
    voxels: dict[str, int] = {}
    shared: dict[str, dict[str, float]] = {}
    for own in by_subject.values():
        for roi, mask in own.items():
            size = int(mask.sum())
            voxels[roi] = max(size, voxels.get(roi, 0))
            shared.setdefault(roi, {})
            for other, against in own.items():
                both = int((mask & against).sum()) if other != roi else 0
                if both:
                    part = max(both / size, shared[roi].get(other, 0.0))
                    shared[roi][other] = part
    return {"voxels": voxels, "shared": shared}


def of_scores(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """What `describe` gave, from the attributes of scores or a result; nothing known otherwise."""
    held: dict[str, Any] = json.loads(attrs.get("roi_overlap", "{}"))
    return {"voxels": held.get("voxels", {}), "shared": held.get("shared", {})}


def overlapping(rois: Sequence[str], known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of ROIs that share voxels in any subject."""
    shared = known["shared"]
    return [
        (a, b)
        for i, a in enumerate(rois)
        for b in rois[i + 1 :]
        if shared.get(a, {}).get(b) or shared.get(b, {}).get(a)
    ]


def disjoint(rois: Sequence[str], known: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """ROIs of which no two share a voxel in any subject, small ones before those that hold them.

    From the ROI of fewest voxels to that of most (ties by the order given) each is kept that
    shares no voxel with those kept before. Of ROIs known by RDMs alone it is not known what they
    share: they are all kept.

    Parameters
    ----------
    rois : sequence of str
    known : mapping
        From `describe` or `of_scores`.

    Returns
    -------
    kept, dropped : lists of str
        In the order given.

    Examples
    --------
    >>> known = {"voxels": {"V1": 2, "V": 3}, "shared": {"V1": {"V": 1.0}, "V": {"V1": 0.67}}}
    >>> disjoint(["V", "V1"], known)
    (['V1'], ['V'])
    """
    voxels = known["voxels"]
    kept = [roi for roi in rois if roi not in voxels]
    measured = [roi for roi in rois if roi in voxels]
    for roi in sorted(measured, key=lambda roi: voxels[roi]):
        if not overlapping([roi, *kept], known):
            kept.append(roi)
    return [r for r in rois if r in kept], [r for r in rois if r not in kept]
