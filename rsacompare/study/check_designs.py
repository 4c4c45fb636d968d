"""The designs of given data: what a study of each ROI is made of, for simulating others like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from rsacompare.errors import RsacompareError
from rsacompare.inference import pools
from rsacompare.kernels import dissimilarity
from rsacompare.metrics.evidence import Metric
from rsacompare.schema import trees
from rsacompare.study.check_brain import NO_SPLIT, Measured
from rsacompare.study.simulated import MOST_VOXELS, Design, Region, fitted

LEAST = 0.02  # a reliability, or an RSA ceiling, below which no signal is told from noise
SAME = 0.9  # share of the stimuli that all subjects must have been scored on
LAYER_STIMULI = 60  # that layers of a network are compared on
SHARE = 0.5  # of a simulated network that is in the brains
USUAL_UNITS = 1000  # of a layer, where no network is given


@dataclass(frozen=True)
class Networks:
    """What simulated networks take over from real ones.

    `known`: whether there are any; `n_layers`: the fewest that a network has; `correlation`: mean
    correlation of the RDMs of two layers of a network; `n_units`: median over layers.
    """

    known: bool = False
    n_layers: int = 1
    correlation: float = 0.0
    n_units: int = USUAL_UNITS

    def simulated(self) -> tuple[int, float]:
        """Two layers whose mean varies about as that of all: their number and correlation.

        Features of layers of which a share c is in the brain and whose own parts correlate by r
        correlate by c + (1 − c) r, and their RDMs by about the square of that. The own part of a
        mean over L layers has the variance r + (1 − r) / L, as has that of two which correlate by
        twice this less 1.
        """
        if self.n_layers == 1:
            return 1, 0.0
        own = np.clip((np.sqrt(self.correlation) - SHARE) / (1 - SHARE), 0, 1)
        variance = own + (1 - own) / self.n_layers
        return 2, float(2 * variance - 1)


@dataclass
class Designs:
    """Regions by design, and why others have none."""

    regions: dict[Design, list[Region]] = field(default_factory=dict)
    without: list[tuple[str, str]] = field(default_factory=list)  # (ROI, sentence)


def designs(
    check: xr.Dataset,
    subjects: Sequence[Measured],
    tree: xr.DataTree,
    networks: Networks,
    rsa: Metric,
    seed: int,
    exchange: str = "auto",
) -> Designs:
    """What a study of each ROI is made of, from what a check measured; `exchange` as in `infer`."""
    found = Designs()
    for roi in check["roi"].values.astype(str).tolist():
        own = [one for one in subjects if roi in one.rois and len(one.scored)]
        why = _unusable(own, tree, exchange)
        if not why:
            made = _design(own, networks)
            numbers = check.sel(roi=roi, subject=[one.subject for one in own])
            region, why = _region(numbers, made, roi, rsa, seed)
        if why or region is None:
            found.without.append((roi, why))
        else:
            found.regions.setdefault(made, []).append(region)
    return found


def _unusable(own: list[Measured], tree: xr.DataTree, exchange: str) -> str:
    if not own:
        return "no subject has usable data"
    if len({one.kind for one in own}) > 1:
        return "some subjects have responses and others RDMs"
    stimuli = [set(one.scored.tolist()) for one in own]
    if min(map(len, stimuli)) < 4:
        return "fewer than four stimuli are scored"
    if len(set.intersection(*stimuli)) < SAME * max(map(len, stimuli)):
        return "subjects were scored on different stimuli"
    if any("time_block" in tree[one.subject].to_dataset().coords for one in own):
        return "its stimuli follow each other in time, and independent ones are simulated"
    if pools.are_levels(_categories(own, tree), exchange):
        return (
            "its stimuli are nested in categories, which are drawn as wholes, and independent "
            "stimuli are simulated (exchange = 'stimuli' draws single ones)"
        )
    if any({"train", "test"} & one.counts.keys() == {"train"} for one in own):
        return "there is no test split"
    return ""


def _categories(own: list[Measured], tree: xr.DataTree) -> list[str]:
    """The category of each scored stimulus, "" where it has none or several."""
    found: dict[str, str] = {}
    for one in own:
        data = tree[one.subject].to_dataset()
        if "category" not in data.coords:
            continue
        scored = np.isin(data["stimulus_id"].values.astype(str), one.scored)
        named = (data[c].values[scored].astype(str).tolist() for c in ("stimulus_id", "category"))
        for stimulus, category in zip(*named, strict=True):
            found[stimulus] = category if found.get(stimulus, category) == category else ""
    return [found.get(i, "") for i in sorted({i for one in own for i in one.scored.tolist()})]


def _design(own: list[Measured], networks: Networks) -> Design:
    split = "test" if all("test" in one.counts for one in own) else NO_SPLIT
    scored = [one.counts[split] for one in own if split in one.counts]
    train = [one.counts["train"] for one in own if "train" in one.counts and split == "test"]
    n_layers, correlation = networks.simulated()
    return Design(
        kind=own[0].kind,
        n_subjects=len(own),
        n_stimuli=min(len(one.scored) for one in own),
        n_repetitions=int(np.median(np.concatenate(scored))) if scored else 1,
        n_train=min(map(len, train)) if train else 0,
        train_repetitions=int(np.median(np.concatenate(train))) if train else 1,
        n_layers=n_layers,
        layer_correlation=round(correlation, 6),
    )


def _region(
    numbers: xr.Dataset, design: Design, roi: str, rsa: Metric, seed: int
) -> tuple[Region | None, str]:
    reliability = float(numbers["split_half"].mean()) if design.n_repetitions > 1 else np.nan
    ceiling = float(numbers["rsa_ceiling_low"].mean())
    n_voxels = MOST_VOXELS // 2
    if design.kind == "responses":
        usable = numbers["n_voxels"] - numbers["n_missing"] - numbers["n_constant"]
        n_voxels = int(usable.median())
        if n_voxels < 2:
            return None, "fewer than two usable voxels"
    if np.isfinite(reliability) and reliability < LEAST:
        return None, f"its split-half reliability is {reliability:.3f}: there is no signal to share"
    if not np.isfinite(reliability):
        if not np.isfinite(ceiling):
            return None, (
                "with one subject and one repetition (or without an RSA ceiling) signal cannot be "
                "told from noise"
            )
        if ceiling < LEAST:
            return (
                None,
                f"its lower RSA noise ceiling is {ceiling:.3f}: there is no signal to share",
            )
    region = Region(roi, n_voxels, min(reliability, 0.999))
    try:
        region = fitted(design, region, ceiling, rsa, seed)
    except (RsacompareError, ValueError):
        # this metric needs what is not simulated (residuals, runs): subjects agree, or no number
        if not np.isfinite(reliability):
            return None, "the RSA of this study cannot be simulated, and there are no repetitions"
    if region.agreement < LEAST:
        return None, (
            f"subjects' RDMs do not agree (lower ceiling {ceiling:.3f}): nothing is shared that a "
            "network could be close to in all of them"
        )
    return region, ""


def networks_of(activations: xr.DataTree | None) -> Networks:
    """How many layers real networks have, and how alike these are."""
    if activations is None:
        return Networks()
    layers: dict[str, list[np.ndarray]] = {}
    units: list[int] = []
    for network, _, data in trees.iter_layers(activations):
        own = layers.setdefault(network, [])
        if "activation" in data:
            values = data["activation"].transpose("stimulus_id", "neuroid")
            units.append(values.sizes["neuroid"])
            patterns = np.asarray(values[-LAYER_STIMULI:, :USUAL_UNITS].values, dtype=float)
            flat = np.ptp(patterns, axis=1) == 0
            if flat.any() or not np.isfinite(patterns).all():
                continue
            own.append(dissimilarity.DISTANCES["correlation"](patterns))
        else:
            own.append(np.asarray(data["rdm"].values, dtype=float).ravel())
    alike = []
    for vectors in layers.values():
        same = [v for v in vectors if len(v) == len(vectors[0])]
        if len(same) > 1:
            r = np.corrcoef(same)
            alike.append(float(np.nanmean(r[np.triu_indices(len(same), 1)])))
    fewest = min((sum(1 for _ in activations[n].children) for n in layers), default=1)
    correlation = float(np.clip(np.mean(alike), 0, 1)) if alike else 0.0
    return Networks(
        True, max(fewest, 1), correlation, int(np.median(units)) if units else USUAL_UNITS
    )
