"""What one subject's data hold, and how reliable they are: the brain side of a check."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, RsacompareError
from rsacompare.kernels import reliability, resample
from rsacompare.metrics.evidence import Evidence, Metric, TargetEvidence
from rsacompare.schema import arrays, labels
from rsacompare.schema.checks import Finding

NO_SPLIT = "all"  # how a check calls the split of data that have none
BLOCK = 2048  # voxels looked at together


@dataclass
class Measured:
    """One subject: numbers per ROI and split, and evidence of each ROI against itself."""

    subject: str
    dataset: str
    kind: str
    stimuli: dict[str, np.ndarray] = field(default_factory=dict)  # split: distinct ids, sorted
    counts: dict[str, np.ndarray] = field(default_factory=dict)  # split: repetitions of each
    scored: np.ndarray = field(default_factory=lambda: np.array([], dtype=str))
    rois: dict[str, dict[str, float]] = field(default_factory=dict)
    overlap: dict[tuple[str, str], float] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def measure(
    subject: str,
    dataset: str,
    data: xr.Dataset,
    rois: list[str] | None,
    rsa: Metric,
    n_splits: int,
    random_state: int,
) -> Measured:
    """Look at one subject; what is wrong becomes a finding, not an exception.

    Parameters
    ----------
    data : Dataset
        `response` and `roi_mask`, or `rdm`.
    rois : list of str, optional
        Only these; by default all.
    rsa : Metric
        Its evidence of a region against itself gives the RDMs and ceilings.
    """
    there = [str(r) for r in data["roi"].values] if "roi" in data.coords else []
    wanted = [r for r in there if rois is None or r in rois]
    if "response" in data and "roi_mask" in data:
        found = Measured(subject, dataset, "responses")
        _responses(found, data, wanted, rsa, n_splits, random_state)
    elif "rdm" in data:
        found = Measured(subject, dataset, "rdms")
        _rdms(found, data, wanted, rsa)
    else:
        found = Measured(subject, dataset, "rdms")
        sentence = "There are neither responses with their roi_mask nor RDMs."
        found.findings.append(Finding("error", subject, sentence, "Make the file again."))
    return found


def _responses(
    found: Measured,
    data: xr.Dataset,
    rois: list[str],
    rsa: Metric,
    n_splits: int,
    random_state: int,
) -> None:
    ids = data["stimulus_id"].values.astype(str)
    split = data["split"].values.astype(str) if "split" in data.coords else np.full(len(ids), "")
    for name in sorted(set(split.tolist()), key=_place):
        label = name or NO_SPLIT
        found.stimuli[label], found.counts[label] = np.unique(
            ids[split == name], return_counts=True
        )
    rows = _scored_rows(found, split)
    found.scored = np.unique(ids[rows])
    masks = {r: data["roi_mask"].sel(roi=r).values.astype(bool) for r in rois}
    response = data["response"].transpose("presentation", "neuroid")
    voxels = _voxels(response, masks, ids, rows, n_splits, (random_state, found.subject))
    for roi, mask in masks.items():
        good = mask & ~voxels["missing"]
        live = good & ~voxels["constant"]
        half = voxels["split_half"][live]
        half = half[np.isfinite(half)]
        found.rois[roi] = {
            "n_voxels": float(mask.sum()),
            "n_missing": float((mask & voxels["missing"]).sum()),
            "n_constant": float((good & voxels["constant"]).sum()),
            "split_half": float(half.mean()) if half.size else np.nan,
            "split_half_sd": float(half.std(ddof=1)) if half.size > 1 else np.nan,
            "voxel_ceiling": _ceiling(response, live, rows),
        }
        part = response.isel(presentation=rows, neuroid=np.flatnonzero(good))
        part = part.assign_attrs(subject=found.subject, roi=roi)
        _self_evidence(found, roi, part, rsa)
    for a, b in itertools.product(masks, masks):
        n = masks[a].sum()
        found.overlap[a, b] = float((masks[a] & masks[b]).sum() / n) if n else np.nan
    if any(values["n_missing"] or not values["n_voxels"] for values in found.rois.values()):
        _invalid(found, data, rois)


def _place(split: str) -> int:
    return labels.SPLITS.index(split) if split in labels.SPLITS else -1


def _scored_rows(found: Measured, split: np.ndarray) -> np.ndarray:
    """The presentations that are scored: the test split, or all where there is no split."""
    if (split == "").all():
        return np.arange(len(split))
    rows = np.flatnonzero(split == "test")
    if not rows.size:
        held = labels.listed(sorted(set(split.tolist())))
        sentence = f"No presentation has the split 'test' (there are {held}): nothing can be scored"
        found.findings.append(
            Finding(
                "error",
                found.subject,
                f"{sentence}; reliability below is that of all presentations.",
                "Mark the stimuli to score as split 'test', or give no split at all.",
            )
        )
        return np.arange(len(split))
    return rows


def _voxels(
    response: xr.DataArray,
    masks: Mapping[str, np.ndarray],
    ids: np.ndarray,
    rows: np.ndarray,
    n_splits: int,
    names: tuple[int, str],
) -> dict[str, np.ndarray]:
    """Per voxel of any ROI, each looked at once though ROIs overlap: missing, constant, halves."""
    n = response.sizes["neuroid"]
    missing, constant = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    half = np.full(n, np.nan)
    used = np.flatnonzero(np.any(list(masks.values()), axis=0)) if masks else np.array([], int)
    for start in range(0, len(used), BLOCK):
        block = used[start : start + BLOCK]
        values = np.asarray(response.isel(neuroid=block).values, dtype=np.float64)
        missing[block] = ~np.isfinite(values).all(axis=0)
        good = ~missing[block]
        constant[block[good]] = np.ptp(values[:, good], axis=0) == 0
        # the same stream for every block: all voxels are split alike
        rng = resample.stream(names[0], "split_half", names[1])
        half[block[good]] = reliability.split_half(
            values[np.ix_(rows, good)], ids[rows], n_splits, rng
        )
    return {"missing": missing, "constant": constant, "split_half": half}


def _ceiling(response: xr.DataArray, voxels: np.ndarray, rows: np.ndarray) -> float:
    """Noise ceiling per voxel as encoding reports it, mean over the voxels."""
    if not voxels.any():
        return np.nan
    part = response.isel(presentation=rows, neuroid=np.flatnonzero(voxels))
    ids, mean, variance, counts = labels.average_repetitions(part)
    if len(ids) < 3:
        return np.nan
    evidence = TargetEvidence(ids, mean, mean, noise_variance=variance, n_repetitions=counts)
    return float(evidence.ceiling())


def _self_evidence(found: Measured, roi: str, part: xr.DataArray, rsa: Metric) -> None:
    """Evidence of a region against itself: its RDM, made exactly as the metric makes it."""
    if not part.sizes["neuroid"]:
        return
    where = f"{found.subject}, {roi}"
    try:
        ids, mean, _, _ = labels.average_repetitions(part)
        own = xr.DataArray(mean, dims=("stimulus_id", "neuroid"), coords={"stimulus_id": ids})
        found.evidence[roi] = rsa.compare(rsa.prepare_activation(own), rsa.prepare_response(part))
    except RsacompareError as err:
        found.findings.append(Finding("error", where, f"No RDM can be made: {err}", ""))


def _invalid(found: Measured, data: xr.Dataset, rois: list[str]) -> None:
    """Say in the words of the validation what is wrong with the voxels."""
    bad = [
        f"{roi} {values['n_missing']:.0f}"
        for roi, values in found.rois.items()
        if values["n_missing"]
    ]
    try:
        arrays.validate_response(data.sel(roi=rois), f"responses of {found.subject}")
    except DataError as err:
        count = f" Voxels with missing values by ROI: {', '.join(bad)}." if bad else ""
        found.findings.append(
            Finding(
                "error",
                found.subject,
                f"A run would stop: {str(err).split('; ')[0]}.{count}",
                "Drop these voxels from the masks or mend them; the numbers here leave them out.",
            )
        )


def _rdms(found: Measured, data: xr.Dataset, rois: list[str], rsa: Metric) -> None:
    pair = data["rdm"]
    both = np.concatenate([pair["stimulus_a"].values, pair["stimulus_b"].values]).astype(str)
    found.stimuli[NO_SPLIT] = found.scored = np.unique(both)
    sessions = pair.sizes.get("session", 1)
    found.counts[NO_SPLIT] = np.full(len(found.scored), sessions)
    for roi in rois:
        where = f"{found.subject}, {roi}"
        found.rois[roi] = {}
        rdm = pair.sel(roi=roi, drop=True).assign_attrs(subject=found.subject, roi=roi)
        try:
            mean = rdm.mean("session") if "session" in rdm.dims else rdm
            found.evidence[roi] = _agreement(rsa, mean, rdm)
            if sessions > 1:
                pairs = itertools.combinations(range(sessions), 2)
                scores = [
                    float(_agreement(rsa, rdm.isel(session=i), rdm.isel(session=j)).score())
                    for i, j in pairs
                ]
                found.rois[roi]["session_reliability"] = float(np.mean(scores))
            vector = getattr(found.evidence[roi], "brain", None)
            if vector is not None and np.ptp(vector) == 0:
                sentence = "All dissimilarities are equal: nothing can correlate with them."
                found.findings.append(Finding("error", where, sentence, "Leave the ROI out."))
        except RsacompareError as err:
            found.findings.append(Finding("error", where, f"The RDM cannot be used: {err}", ""))


def _agreement(rsa: Metric, network: xr.DataArray, brain: xr.DataArray) -> Evidence:
    return rsa.compare(rsa.prepare_activation(network), rsa.prepare_response(brain))


def rsa_ceilings(
    subjects: list[Measured], roi: str
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """(lower, upper) ceiling of each subject from those who saw the same stimuli.

    Returns
    -------
    ceilings : {subject: (low, high)}
    alone : list of str
        Subjects whose stimuli nobody else saw: they have no lower ceiling.
    """
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for one in subjects:
        if roi in one.evidence:
            groups.setdefault(tuple(one.evidence[roi].stimulus_id.tolist()), []).append(one)
    ceilings: dict[str, tuple[float, float]] = {}
    alone = []
    for members in groups.values():
        cells: list[Any] = [one.evidence[roi] for one in members]
        low, high = type(cells[0]).group_ceiling(cells)
        for one, lower, upper in zip(members, low, high, strict=True):
            ceilings[one.subject] = (float(lower), float(upper))
        alone += [one.subject for one in members if len(members) == 1]
    return ceilings, alone
