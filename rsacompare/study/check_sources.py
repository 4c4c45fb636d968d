"""What a check is asked to look at: read with what is wrong kept as findings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from rsacompare import plugins
from rsacompare.datasets.load import load_dataset, resolve
from rsacompare.errors import DataError, ProtocolError, RsacompareError
from rsacompare.metrics.evidence import Metric
from rsacompare.metrics.registry import metric
from rsacompare.schema import reading, store, trees
from rsacompare.schema.checks import Finding
from rsacompare.schema.rdm_files import RDM_SUFFIXES, RdmOptions
from rsacompare.study import baselines, beside, inputs, keys
from rsacompare.study.protocol import Study
from rsacompare.study.running import Extraction


@dataclass
class Sources:
    """The arguments of `check`, and what is known from loading them."""

    brains: dict[str, xr.DataTree] = field(default_factory=dict)
    networks: list[xr.DataTree] = field(default_factory=list)
    rois: list[str] | None = None
    rsa: Metric = field(default_factory=lambda: metric("rsa"))
    metrics: dict[str, Metric] | None = None
    inference: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    failed: list[RsacompareError] = field(default_factory=list)

    def activations(self) -> xr.DataTree | None:
        """All networks as one tree; a name that stands twice is a finding."""
        if not self.networks:
            return None
        try:
            return trees.merge_networks(self.networks)
        except RsacompareError as err:
            self.findings.append(Finding("error", "networks", f"{err}.", ""))
            return self.networks[0]

    def fail(self, where: str, err: RsacompareError, looked_at: bool = False) -> None:
        """Keep an error of loading as a finding; `looked_at`: the check itself will say where."""
        advice = "The check looks at the file all the same." if looked_at else ""
        sentence = f"It cannot be read as it should: {err}"
        self.findings.append(Finding("error", where, f"{sentence.rstrip('.')}.", advice))
        self.failed.append(err)


def from_study(
    study: Study, folder: Path | None = None, progress: inputs.Progress | None = None
) -> Sources:
    """Everything that a study file names; networks that run do so.

    Parameters
    ----------
    study : Study
    folder : path, optional
        Where extracted activations are kept.
    progress : callable (stage, done, total), optional

    Raises
    ------
    RsacompareError
        A metric that cannot be made; no brain data at all.
    """
    found = Sources(rois=study.rois)
    made = found.metrics = study.make_metrics()
    found.inference = dict(study.inference)
    for label, choice in study.metrics.items():
        if (choice.type or label) == "rsa":
            found.rsa = made[label]
            break
    for group, names in (("brain", study.brain), ("networks", study.networks)):
        for name in names:
            where = f"[{group}.{name}]"
            try:
                with keys.at(study.place(group, name)):
                    source = study.locate(group, name)
                    tree = inputs.load_source(study, group, name, source)
                    if isinstance(tree, Extraction):
                        tree = inputs.extract_all(study, {name: tree}, folder, progress)[name]
            except RsacompareError as err:
                raw = None
                if group == "brain":
                    raw = _unchecked(study.folder / (study.brain[name].source or name))
                found.fail(where, err, raw is not None)
                if raw is None:
                    continue
                tree = raw
            if group == "brain":
                found.brains[name] = tree
            else:
                found.networks.append(tree)
    _contrasts(study, found)
    try:
        baselines.untrained(study)
    except ProtocolError as err:
        found.findings.append(Finding("error", "[baselines]", f"{err}."))
    try:
        inputs.each_counts_once(study, found.brains)
    except ProtocolError as err:
        found.findings.append(Finding("error", "[brain]", f"{err}."))
    _beside(study, made, found)
    return _some(found)


def _beside(study: Study, metrics: Mapping[str, Metric], found: Sources) -> None:
    """What a run would refuse of `[partition]`, `[searchlight]` and `combine`."""
    if found.failed or not found.networks:
        return  # what is missing may be what they name
    try:
        activations = trees.merge_networks(found.networks)
    except RsacompareError:
        return  # told elsewhere
    try:
        beside.check(study, metrics, found.brains, activations)
    except RsacompareError as err:
        found.findings.append(Finding("error", "study file", f"{err}."))


def _contrasts(study: Study, found: Sources) -> None:
    """Networks that a contrast names but no source holds."""
    there = [network for tree in found.networks for network in tree.children]
    there += baselines.names(study, there)
    if len(found.networks) < len(study.networks):
        return  # the missing one may be the one that could not be read
    named = [network for pair in study.inference.contrast or [] for network in pair]
    for network in dict.fromkeys(named):
        if network not in there:
            text = plugins.unknown("network", network, there)
            sentence = f"{text[0].upper()}{text[1:]}"
            found.findings.append(Finding("error", "[inference] contrast", sentence))


def from_dataset(
    source: str | Path, options: Mapping[str, Any], activations: Sequence[str | Path] = ()
) -> Sources:
    """One data set by name or file, and networks to match it with.

    Raises
    ------
    RsacompareError
        The data set cannot be read at all.
    """
    found = Sources()
    name = Path(source).stem if Path(source).is_file() else str(source)
    try:
        place = resolve(source)
        if isinstance(place, str) and place in plugins.names("datasets"):
            loader = plugins.find("datasets", place)
            options = keys.check_options(f"data set {place}", loader, options)
        elif options and isinstance(place, Path) and place.suffix.lower() in RDM_SUFFIXES:
            options = keys.check_options(f"file {source}", RdmOptions, options)
        elif options:
            raise ProtocolError(
                f"options are for registered data sets and files of RDMs, not for {source}"
            )
        found.brains[name] = load_dataset(place, **options)
        if isinstance(place, Path):
            found.brains[name].attrs["inputs"] = json.dumps({place.name: store.file_sha256(place)})
    except TypeError as err:
        raise ProtocolError(f"data set {source}: {err}") from err
    except DataError as err:
        raw = _unchecked(Path(source))
        found.fail(name, err, raw is not None)
        if raw is not None:
            found.brains[name] = raw
    for network in activations:
        try:
            found.networks.append(reading.load_activations(resolve(network)))
        except RsacompareError as err:
            found.fail(str(network), err)
    return _some(found)


def _unchecked(file: Path) -> xr.DataTree | None:
    """Brain data of a file of ours that the validation refuses: the check says where it is bad."""
    if not file.is_file():
        return None
    try:
        tree = store.read_netcdf(file)
    except DataError:
        return None
    return tree if tree.attrs.get("rsacompare_kind") in ("responses", "rdms") else None


def _some(found: Sources) -> Sources:
    """Without any brain data there is nothing to look at: the first error is the answer."""
    if not found.brains:
        raise found.failed[0]
    return found
