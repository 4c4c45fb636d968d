"""A whole study: load, compare, infer, write results, tables and pages."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.datasets.map_files import write_maps
from rsacompare.errors import DataError, ProtocolError
from rsacompare.inference.infer import infer
from rsacompare.reporting.check_page import check_report
from rsacompare.reporting.leftovers import remove_stale
from rsacompare.reporting.pages import report
from rsacompare.reporting.reading import OVER, Reading
from rsacompare.reporting.sensitivity_page import sensitivity_report
from rsacompare.schema import checks, results, store, trees
from rsacompare.schema import sensitivity as specifications
from rsacompare.study import beside, check_sources, keys, pools
from rsacompare.study.check import check
from rsacompare.study.compare import compare
from rsacompare.study.inputs import Progress, check_inputs, load_inputs
from rsacompare.study.options import SensitivityOptions
from rsacompare.study.protocol import Study, load_study
from rsacompare.study.sensitivity import pair_of, sensitivity


def run(
    study: Study | str | Path,
    out: str | Path | None = None,
    *,
    n_jobs: int = 1,
    random_state: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Run a study from its description to its pages.

    Everything that can be checked is checked before anything is computed, and nothing in `out`
    is overwritten unless all was computed.

    Parameters
    ----------
    study : Study or path of a STUDY.toml
    out : path, optional
        Folder for `results.nc`, the three CSV tables, `provenance.json` and the pages; finished
        cells are kept in `out/cells`, activations of networks that run in `out/activations`, and
        a run that was stopped goes on from there. Without it nothing is written.
    n_jobs : int
        Worker threads; results do not depend on it.
    random_state : int, optional
        In place of the study's own seed.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    Dataset
        See DESIGN section 2.

    Raises
    ------
    ProtocolError, LabelError, DataError, FetchError
        A study file, labels or files that cannot be used, naming the place.
    """
    started = time.perf_counter()
    if not isinstance(study, Study):
        study = load_study(study)
    if random_state is not None:
        study = study.with_seed(random_state)
    metrics = study.make_metrics()
    folder = None if out is None else _writable(Path(out))
    brains, networks = load_inputs(
        study, progress, None if folder is None else folder / "activations"
    )
    with keys.at(study.place("networks")):
        activations = trees.merge_networks(list(networks.values()))
    check_inputs(study, brains, activations)
    beside.check(study, metrics, brains, activations)
    cells = None if folder is None else folder / "cells"
    comparison = compare(
        activations,
        brains,
        metrics,
        rois=study.rois,
        n_jobs=n_jobs,
        random_state=study.random_state,
        store=cells,
        progress=progress,
    )
    comparison = beside.add(study, comparison, brains, activations, cells, n_jobs, progress)
    result = infer(
        comparison,
        **dict(study.inference),
        random_state=study.random_state,
        n_jobs=n_jobs,
        progress=progress,
    )
    describe(result, study, brains, networks)
    note = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
    _update(result, "provenance", note | {"seconds": round(time.perf_counter() - started, 1)})
    if folder is not None:
        write(result, folder, progress)
    return result


def describe(
    result: xr.Dataset,
    study: Study,
    brains: Mapping[str, xr.DataTree],
    networks: Mapping[str, xr.DataTree],
) -> None:
    """Write the question, the whole configuration and the input files' hashes into a result."""
    inputs: dict[str, str] = {}
    simulated = False
    for tree in [*brains.values(), *networks.values()]:
        inputs |= json.loads(tree.attrs.get("inputs", "{}"))
        simulated |= bool(int(tree.attrs.get("simulated", 0)))
    result.attrs |= {"title": study.title or study.name, "question": study.question}
    result.attrs["simulated"] = int(simulated)
    configuration = study.model_dump(mode="json") | {"file": study.file and study.file.name}
    inputs |= json.loads(result.attrs.get("provenance", "{}")).get("inputs", {})
    _update(result, "provenance", {"configuration": configuration, "inputs": inputs})


def _update(result: xr.Dataset, attr: str, values: Mapping[str, Any]) -> None:
    """Add to a structured attribute, which is one JSON string."""
    result.attrs[attr] = json.dumps(json.loads(result.attrs.get(attr, "{}")) | dict(values))


def write(result: xr.Dataset, out: str | Path, progress: Progress | None = None) -> Path:
    """Write `results.nc`, the tables, `provenance.json` and the pages; all of them or none.

    Returns
    -------
    Path
        Of `index.html`.
    """
    if progress:
        progress("report", 0, 1)
    with staged(out) as folder:
        store.write_netcdf(result, folder / "results.nc")
        results.write_tables(result, folder)
        write_maps(result, folder / "maps")
        record = {
            key: json.loads(result.attrs[key])
            for key in ("provenance", "inference", "data", "networks")
            if key in result.attrs
        }
        store.write_text(folder / "provenance.json", json.dumps(record, indent=2) + "\n")
        report(result, folder)
    remove_stale(out)
    if progress:
        progress("report", 1, 1)
    return Path(out) / "index.html"


def check_source(
    source: str | Path,
    out: str | Path | None = None,
    *,
    activations: Sequence[str | Path] = (),
    options: Mapping[str, Any] | None = None,
    power: bool = False,
    n_jobs: int = 1,
    random_state: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Look at the data of a study, or at one data set, before running anything.

    Parameters
    ----------
    source : path of a STUDY.toml, name of a data set, or a netCDF file of brain data
    out : path, optional
        Folder for `check.nc`, its tables and its page; without it nothing is written.
    activations : sequence of path or name
        Beside a data set: networks whose labels should match (a study names its own).
    options : mapping, optional
        For the loader of a registered data set.
    power : bool
        Also simulate how small a difference the design would see, and forecast a run's time and
        memory.
    n_jobs, random_state, progress
        As in `run`.

    Returns
    -------
    Dataset
        See `rsacompare.check`.

    Raises
    ------
    RsacompareError
        The study file is wrong, no brain data can be read, or `out` holds a run's results.
    """
    folder = None if out is None else _writable(Path(out))
    if folder is not None and (folder / "results.nc").is_file():
        raise ProtocolError(
            f"{folder} holds the results of a run, whose page would be lost; choose another --out"
        )
    if Path(source).suffix == ".toml":
        if activations or options:
            raise ProtocolError(f"{source} is a study: it names its networks and options itself")
        study = load_study(source)
        found = check_sources.from_study(
            study, None if folder is None else folder / "activations", progress
        )
        title = study.title or study.name
        seed = study.random_state if random_state is None else random_state
    else:
        found = check_sources.from_dataset(source, options or {}, activations)
        title, seed = "", random_state or 0
    result = check(
        found.brains,
        found.activations(),
        rois=found.rois,
        rsa=found.rsa,
        power=power,
        metrics=found.metrics,
        inference=found.inference,
        report=_pages_elsewhere if power else None,
        n_jobs=n_jobs,
        random_state=seed,
        findings=found.findings,
        progress=progress,
    )
    if title:
        result.attrs["title"] = title
    inputs: dict[str, str] = {}
    for tree in [*found.brains.values(), *found.networks]:
        inputs |= json.loads(tree.attrs.get("inputs", "{}"))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    _update(result, "provenance", {"inputs": inputs, "source": str(source), "created": created})
    if folder is not None:
        with staged(folder) as fresh:
            store.write_netcdf(result, fresh / "check.nc")
            checks.write_tables(result, fresh)
            check_report(result, fresh)
    return result


def _pages_elsewhere(result: xr.Dataset) -> None:
    """Write a result's pages where nobody reads them, to see how long that takes."""
    with tempfile.TemporaryDirectory() as folder:
        store.write_netcdf(result, Path(folder) / "results.nc")
        report(result, folder)


def sensitivity_of(
    study: Study | str | Path,
    out: str | Path | None = None,
    *,
    n_jobs: int = 1,
    random_state: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Whether the sign of a study's difference survives other choices, as `[sensitivity]` asks.

    Parameters
    ----------
    study : Study or path of a STUDY.toml
    out : path, optional
        Folder for `sensitivity.nc`, its tables and its page. Finished specifications are kept in
        `out/specifications` and cells in `out/cells`; of a folder `sensitivity` inside that of a
        run, cells and activations are the run's.
    n_jobs, random_state, progress
        As in `run`.

    Returns
    -------
    Dataset
        See `rsacompare.sensitivity`.

    Raises
    ------
    RsacompareError
        A study file, labels or files that cannot be used, or `out` holds a run's results.
    """
    if not isinstance(study, Study):
        study = load_study(study)
    if random_state is not None:
        study = study.with_seed(random_state)
    folder = None if out is None else Path(out)
    for taken in ("results.nc", "check.nc"):
        if folder is not None and (folder / taken).is_file():
            raise ProtocolError(
                f"{folder} holds {taken}, whose page would be lost; choose another --out, as "
                f"{folder / 'sensitivity'}"
            )
    home = folder
    if folder is not None and folder.name == "sensitivity" and (folder.parent / "cells").is_dir():
        home = folder.parent
    activities = None if home is None else _writable(home) / "activations"
    asked = study.sensitivity or SensitivityOptions()
    metrics = study.make_metrics()
    combined = [label for label in metrics if study.metrics[label].combine is not None]
    brains, networks = load_inputs(study, progress, activities)
    with keys.at(study.place("networks")):
        activations = trees.merge_networks(list(networks.values()))
    check_inputs(study, brains, activations)
    named = asked.contrast or next(iter(study.inference.contrast or []), None)
    primary = study.inference.primary if study.inference.primary != "best" else None
    with keys.at(study.place("sensitivity")):
        pair = pair_of(named, activations)
        pool = pools.more_units(study, asked.pool_units, pair, activities, progress)
        result = sensitivity(
            activations,
            brains if len(brains) > 1 else next(iter(brains.values())),
            {label: m for label, m in metrics.items() if label not in combined},
            pair,
            rois=study.rois,
            pairing=asked.pairing or primary,
            unit_draws=asked.unit_draws,
            n_units=asked.n_units,
            n_voxels=asked.n_voxels,
            number_draws=asked.number_draws,
            leave_out={
                name: study.folder / ids if isinstance(ids, str) else ids
                for name, ids in asked.leave_out.items()
            },
            leave_one_subject_out=asked.leave_one_subject_out,
            crossed=asked.crossed,
            pool=pool,
            n_bootstrap=asked.n_bootstrap,
            confidence=study.inference.confidence,
            sources=study.inference.sources,
            exchange=study.inference.exchange,
            n_jobs=n_jobs,
            random_state=study.random_state,
            store=folder,
            cells=None if home is None else home / "cells",
            progress=progress,
        )
    describe(result, study, brains, networks)
    left = [f"{label}: layers combined into one model, left out here" for label in combined]
    held = json.loads(result.attrs["not_applicable"]) + left
    result.attrs["not_applicable"] = json.dumps(held)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    _update(result, "provenance", {"created": created})
    if folder is not None:
        with staged(folder) as fresh:
            store.write_netcdf(result, fresh / "sensitivity.nc")
            specifications.write_tables(result, fresh)
            sensitivity_report(result, fresh)
        remove_stale(folder)
    return result


def rebuild(source: str | Path, out: str | Path | None = None) -> Path:
    """Pages from stored results, beside them or in `out`.

    Parameters
    ----------
    source : path of a `results.nc`, `check.nc` or `sensitivity.nc`, or of the folder of one
    out : path, optional

    Returns
    -------
    Path
        Of `index.html`.

    Raises
    ------
    DataError
        There is no result, or it cannot be read.
    """
    path = Path(source)
    kinds: dict[str, tuple[Any, Any]] = {
        "results.nc": (results.load_result, report),
        "check.nc": (checks.load_check, check_report),
        "sensitivity.nc": (specifications.load_sensitivity, sensitivity_report),
    }
    there = path.name if path.is_file() else next((n for n in kinds if (path / n).is_file()), "")
    load, write = kinds.get(there, kinds["results.nc"])
    result = load(path)
    target = Path(out) if out is not None else path if path.is_dir() else path.parent
    with staged(target) as folder:
        write(result, folder, files_in=path if path.is_dir() else path.parent)
    remove_stale(target)
    return target / "index.html"


def answer(result: xr.Dataset) -> list[str]:
    """One line per metric: the first pair of networks, in the pairing that the pages show.

    Parameters
    ----------
    result : Dataset
        What `infer` returns.

    Returns
    -------
    list of str
        With up to three ROIs the difference, its interval and the verdict of each; with more, how
        often each verdict was reached.
    """
    rows = results.tables(result)["contrasts"]
    pairing = Reading(result).pairing
    rows = rows[rows["pairing"] == pairing]
    lines = []
    for metric in dict.fromkeys(rows["metric"]):
        own = rows[rows["metric"] == metric]
        a, b = own.iloc[0][["network_a", "network_b"]]
        own = own[(own["network_a"] == a) & (own["network_b"] == b)]
        words = {"a": f"{a} closer", "b": f"{b} closer"}
        verdicts = [words.get(v, v or "undecided") for v in own["verdict"]]
        if len(own) > 3:
            counted = ", ".join(f"{v} in {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
            said = f"{counted} of {len(own)} ROIs"
        else:
            said = "; ".join(
                f"{row.roi} {row.difference:+.3f} "
                + (
                    f"[{row.ci_low:+.3f}, {row.ci_high:+.3f}] {verdict} "
                    f"(corrected p {row.p_fwer:.2g})"
                    if np.isfinite([row.ci_low, row.ci_high, row.p_fwer]).all()
                    else f"{verdict} (no interval)"
                )
                for row, verdict in zip(own.itertuples(), verdicts, strict=True)
            )
        lines.append(f"{metric}: {a} − {b}, {OVER[pairing]}: {said}")
    return lines


@contextmanager
def staged(out: str | Path) -> Iterator[Path]:
    """A folder beside the files of `out` whose files take their places when the block ends well."""
    target = _writable(Path(out))
    with tempfile.TemporaryDirectory(dir=target, prefix=".new-") as name:
        yield Path(name)
        for file in sorted(Path(name).rglob("*")):
            place = target / file.relative_to(name)
            if file.is_dir():
                _writable(place)
            else:
                os.replace(file, place)


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"cannot make the folder {folder}: {err.strerror}") from err
    if not os.access(folder, os.W_OK):
        raise DataError(f"cannot write in {folder}: no permission")
    return folder
