"""Before a run: what is in this data set, how reliable is it, do the labels match?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from rsacompare import plugins
from rsacompare.errors import DataError
from rsacompare.inference.workers import Progress, in_threads
from rsacompare.kernels.resample import as_seed
from rsacompare.metrics.evidence import Metric
from rsacompare.metrics.registry import metric
from rsacompare.schema import checks, labels, store, trees
from rsacompare.schema.checks import Finding
from rsacompare.schema.results import layer_coords
from rsacompare.study import check_beforehand, check_networks
from rsacompare.study.check_brain import NO_SPLIT, Measured, measure, rsa_ceilings
from rsacompare.study.check_findings import brain_findings

ROI_NUMBERS = (
    "n_voxels", "n_missing", "n_constant", "split_half", "split_half_sd", "voxel_ceiling",
    "session_reliability", "rsa_ceiling_low", "rsa_ceiling_high",
)  # fmt: skip
LAYER_NUMBERS = ("n_units", "n_constant_units", "n_missing_units", "n_shown", "share_negative")


def check(
    brain: xr.DataTree | Mapping[str, xr.DataTree],
    activations: xr.DataTree | None = None,
    *,
    rois: Iterable[str] | None = None,
    rsa: str | Metric = "rsa",
    power: bool = False,
    metrics: Any = None,
    inference: Mapping[str, Any] | None = None,
    report: Callable[[xr.Dataset], None] | None = None,
    n_splits: int = 20,
    n_jobs: int = 1,
    random_state: int | None = 0,
    findings: Sequence[Finding] = (),
    progress: Progress | None = None,
) -> xr.Dataset:
    """Look at data before anything is computed with them.

    Parameters
    ----------
    brain : DataTree or {data set: DataTree}
        As `compare` takes it; what is wrong with it becomes a finding.
    activations : DataTree, optional
        Networks whose labels should match.
    rois : sequence of str, optional
        Only these; by default all.
    rsa : str or Metric
        The metric whose RDMs and noise ceilings are reported.
    power : bool
        Also say how small a difference between two networks this design would see, by simulating
        studies like it (`rsacompare.study.check_power`), and, with networks, how long a run would
        take (`rsacompare.study.check_forecast`). Takes a minute or two.
    metrics : as `compare` takes them
        Of the study, for `power`; by default decoding, rsa and encoding where they apply.
    inference : mapping, optional
        Arguments of `infer`, for `power`.
    report : callable, optional
        Writes a result's pages somewhere, so that this is timed too.
    n_splits : int
        Random halves of the repetitions that the split-half reliability is averaged over.
    n_jobs : int
        Threads; numbers do not depend on it.
    random_state : int or None
    findings : sequence of Finding
        What is known already, from loading.
    progress : callable (stage, done, total), optional

    Returns
    -------
    Dataset
        See `rsacompare.schema.checks` for its variables; `rsacompare.tables` gives its tables.

    Raises
    ------
    DataError, ProtocolError
        No subjects at all; an unknown metric.

    Notes
    -----
    Reliability is that of the scored stimuli: the `test` split, or all where there is no split.
    Ceilings per voxel: FACTS 6.2; of RSA: FACTS 7.2. `ceiling**2` and the split-half reliability
    estimate the same share of signal, one from variances and one from correlations.

    Examples
    --------
    >>> import rsacompare as rc
    >>> rng = np.random.default_rng(0)
    >>> signal = np.repeat(rng.normal(size=(200, 30)), 4, axis=0)
    >>> brain = rc.responses(
    ...     {"s1": signal + rng.normal(size=signal.shape)},
    ...     stimulus_id=np.repeat([f"picture{i}" for i in range(200)], 4),
    ... )
    >>> checked = rc.check(brain)
    >>> round(float(checked["split_half"].squeeze()), 1)  # 1 / (1 + 1 / 4)
    0.8
    """
    seed = as_seed(random_state)
    judge = metric(rsa) if isinstance(rsa, str) else rsa
    tree = brain if isinstance(brain, xr.DataTree) else trees.merge_brains(brain)
    wanted = None if rois is None else [rois] if isinstance(rois, str) else list(rois)
    owner = _owners(tree)
    known = list(findings)
    if not tree.children:
        raise DataError("there is no brain data to check: the tree has no subjects")
    with threadpool_limits(1):
        subjects = in_threads(
            measure,
            [
                (name, owner.get(name, ""), node.to_dataset(), wanted, judge, n_splits, seed)
                for name, node in tree.children.items()
            ],
            n_jobs=n_jobs,
            stage="check",
            progress=progress,
        )
        there = list(dict.fromkeys(roi for one in subjects for roi in one.rois))
        for roi in wanted or ():
            if roi not in there:
                every = dict.fromkeys(
                    str(r) for node in tree.children.values() for r in _rois(node)
                )
                sentence = plugins.unknown("ROI", roi, every)
                sentence = f"{sentence[0].upper()}{sentence[1:]}"
                known.append(Finding("error", roi, sentence, "Correct `rois`."))
        if wanted is not None:
            there = [r for r in dict.fromkeys(wanted) if r in there]
        result = _brain_part(subjects, there)
    if judge.config().get("distance") == "correlation":
        known += check_networks.flat_patterns(subjects, activations)
    result = xr.merge([result, _network_part(subjects, activations, known)], join="outer")
    known += brain_findings(result, subjects)
    about: dict[str, Any] = {}
    if power:
        beforehand = check_beforehand.beforehand(
            result, subjects, tree, activations, judge, metrics, dict(inference or {}), rois=wanted,
            report=report, seed=seed, n_jobs=n_jobs, progress=progress,
        )  # fmt: skip
        result = result.assign(beforehand.variables)
        known += beforehand.findings
        about = beforehand.attrs
    known.sort(key=lambda f: checks.LEVELS.index(f.level))
    result.attrs = labels.clean_attrs(
        {
            "rsacompare_kind": checks.KIND,
            "title": _title(tree),
            "simulated": _simulated(tree, activations),
            "data": _described(tree),
            "networks": [] if activations is None else trees.describe_networks(activations),
            "findings": [asdict(f) for f in known],
            "options": {
                "rsa": {"name": judge.name, **judge.config()},
                "n_splits": n_splits,
                "random_state": seed,
            },
            "provenance": store.provenance(),
            **about,
        }
    )
    return result


def _rois(node: xr.DataTree) -> list[str]:
    data = node.to_dataset()
    return [str(r) for r in data["roi"].values] if "roi" in data.coords else []


def _owners(tree: xr.DataTree) -> dict[str, str]:
    """Data set of each subject."""
    held = json.loads(tree.attrs.get("datasets", "{}"))
    return {subject: name for name, part in held.items() for subject in part["subjects"]}


def _title(tree: xr.DataTree) -> str:
    held = json.loads(tree.attrs.get("datasets", "{}"))
    titles = [str(part["attrs"].get("title") or name) for name, part in held.items()]
    return "; ".join(titles) or str(tree.attrs.get("title", "")) or "Brain data"


def _simulated(tree: xr.DataTree, activations: xr.DataTree | None) -> bool:
    given = [tree] if activations is None else [tree, activations]
    return any(bool(int(t.attrs.get("simulated", 0))) for t in given)


def _described(tree: xr.DataTree) -> list[dict[str, Any]]:
    """As on a result's page; of broken data what can be said."""
    try:
        return trees.describe_brain(tree)
    except (KeyError, ValueError):
        return []


def _brain_part(subjects: list[Measured], rois: list[str]) -> xr.Dataset:
    names = [one.subject for one in subjects]
    cube = np.full((len(ROI_NUMBERS), len(names), len(rois)), np.nan)
    overlap = np.full((len(names), len(rois), len(rois)), np.nan)
    present = np.zeros((len(names), len(rois)), dtype=bool)
    low, high = ROI_NUMBERS.index("rsa_ceiling_low"), ROI_NUMBERS.index("rsa_ceiling_high")
    for j, roi in enumerate(rois):
        ceilings, _ = rsa_ceilings(subjects, roi)
        for i, one in enumerate(subjects):
            present[i, j] = roi in one.rois
            for k, name in enumerate(ROI_NUMBERS):
                cube[k, i, j] = one.rois.get(roi, {}).get(name, np.nan)
            cube[[low, high], i, j] = ceilings.get(one.subject, (np.nan, np.nan))
            overlap[i, j] = [one.overlap.get((roi, other), np.nan) for other in rois]
    splits = [s for s in (NO_SPLIT, *labels.SPLITS) if any(s in one.counts for one in subjects)]
    every = [counts for one in subjects for counts in one.counts.values()]
    times = np.unique(np.concatenate(every)) if every else np.array([], dtype=int)
    spread = np.full((5, len(names), len(splits)), np.nan)
    repeated = np.zeros((len(names), len(splits), len(times)), dtype=int)
    for i, one in enumerate(subjects):
        for split, n in one.counts.items():
            j = splits.index(split)
            spread[:, i, j] = len(n), n.sum(), n.min(), np.median(n), n.max()
            repeated[i, j] = (n[:, None] == times).sum(axis=0)
    cell, shown = ("subject", "roi"), ("subject", "split")
    columns = ("n_stimuli", "n_presentations", "repetitions_min", "repetitions_median",
               "repetitions_max")  # fmt: skip
    return xr.Dataset(
        {
            "dataset": ("subject", [one.dataset for one in subjects]),
            "kind": ("subject", [one.kind for one in subjects]),
            "n_scored": ("subject", [len(one.scored) for one in subjects]),
            "present": (cell, present),
            "overlap": (("subject", "roi", "roi_other"), overlap),
            "n_repeated": (("subject", "split", "repetitions"), repeated),
        }
        | {name: (cell, cube[k]) for k, name in enumerate(ROI_NUMBERS)}
        | {name: (shown, spread[k]) for k, name in enumerate(columns)},
        coords={
            "subject": names,
            "roi": rois,
            "roi_other": rois,
            "split": splits,
            "repetitions": times,
        },
    )


def _network_part(
    subjects: list[Measured], activations: xr.DataTree | None, known: list[Finding]
) -> xr.Dataset:
    """Variables of the networks; what is found goes into `known`."""
    rows = check_networks.layer_rows(activations)
    counts, unmatched, found = check_networks.match(subjects, activations)
    known += found + check_networks.layer_findings(rows)
    names = [one.subject for one in subjects]
    networks = list(dict.fromkeys(row["network"] for row in rows))
    layers = {
        name: ("layer", np.array([row.get(name, np.nan) for row in rows], dtype=float))
        for name in LAYER_NUMBERS
    }
    matched = {
        name: (
            ("subject", "network_name"),
            check_networks.counts_array(counts, names, networks, name),
        )
        for name in ("n_not_shown", "n_train_not_shown", "n_unused")
    }
    pairs = {
        f"unmatched_{column}": ("unmatched", np.array([u[k] for u in unmatched], dtype=str))
        for k, column in enumerate(checks.UNMATCHED)
    }
    kinds = np.array([row["layer_kind"] for row in rows], dtype=str)
    return xr.Dataset(
        {"layer_kind": ("layer", kinds)} | layers | matched | pairs,
        coords={
            "subject": names,
            "network_name": np.array(networks, dtype=str),
            **layer_coords([(r["network"], r["layer"], r["attrs"]) for r in rows]),
        },
    )
