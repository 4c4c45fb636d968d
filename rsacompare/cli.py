"""The command line: an error is one clean line and an exit code.

Exit codes: 0 done; 1 something in the input (one sentence says what); 2 wrong usage; 3 an
unexpected error; 130 stopped. Only typer is imported before a command runs.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rsacompare.errors import FetchError, RsacompareError
from rsacompare.reporting import progress

app = typer.Typer(
    help="How similar are two neural networks to the brain, and is one of them really closer?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Worker threads.  [default: all cores]")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="In place of the study's seed.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no more than a path.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Kind(StrEnum):
    """What `list` can list."""

    METRICS = "metrics"
    DATASETS = "datasets"
    NETWORKS = "networks"
    STIMULI = "stimuli"
    LAYERS = "layers"


def main() -> None:
    """Entry point of the `rsacompare` script."""
    app(prog_name="rsacompare")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"rsacompare {version('rsacompare')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Out = None,
    jobs: Jobs = None,
    seed: Seed = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run the whole study on simulated brains and networks with known answers."""
    from importlib.resources import as_file, files

    with as_file(files("rsacompare.study") / "demo.toml") as file:
        _run(file, out, jobs, seed, quiet, debug)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="A study file.")],
    out: Out = None,
    jobs: Jobs = None,
    seed: Seed = None,
    if_available: Annotated[
        bool,
        typer.Option("--if-available", help="Where data cannot be had, say so and exit with 0."),
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a study from a file: compare, infer, report. Goes on where a stopped run ended."""
    _run(study, out, jobs, seed, quiet, debug, if_available)


@app.command()
def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="STUDY.toml|DATASET|FILE.nc", help="A study, a data set's name, or its file."
        ),
    ],
    activations: Annotated[
        list[str] | None,
        typer.Option(
            "--activations", "-a", help="Networks to match a data set with (files or names)."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="For a data set: an option, as path=…"),
    ] = None,
    power: Annotated[
        bool,
        typer.Option(
            "--power/--no-power",
            help="Simulate how small a difference the design would see; forecast a run's time.",
        ),
    ] = True,
    out: Out = None,
    jobs: Jobs = None,
    seed: Seed = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Look at data before a run: what is there, how reliable, how big an effect could it see?"""
    with _clean_errors(debug):
        from rsacompare import pipeline
        from rsacompare.reporting.check_text import print_check
        from rsacompare.schema import checks

        started = time.perf_counter()
        with progress.stage_bars(quiet) as told:
            result = pipeline.check_source(
                source,
                out,
                activations=activations or (),
                options=dict(map(_option, option or ())),
                power=power,
                n_jobs=jobs or 1,
                random_state=seed,
                progress=told,
            )
        if not quiet:
            print_check(result)
        if out is not None:
            _say_where(out / "index.html", started, quiet)
        if any(finding.level == "error" for finding in checks.findings(result)):
            raise typer.Exit(1)


@app.command()
def sensitivity(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="A study file.")],
    out: Out = None,
    jobs: Jobs = None,
    seed: Seed = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Does the sign of the difference survive other units, voxels, stimuli and people?

    Goes on where a stopped run ended; the table `sensitivity` in the study file says what to vary.
    """
    folder = out
    with _clean_errors(debug, lambda: folder and folder / "specifications"):
        from rsacompare.study.protocol import load_study

        started = time.perf_counter()
        loaded = load_study(study)  # before the heavy imports: a wrong file is told at once
        import joblib

        from rsacompare import pipeline
        from rsacompare.reporting.sensitivity_text import answer

        folder = out or Path("reports") / loaded.name / "sensitivity"
        with progress.stage_bars(quiet) as told:
            result = pipeline.sensitivity_of(
                loaded,
                folder,
                n_jobs=jobs or joblib.cpu_count(),
                random_state=seed,
                progress=told,
            )
        if not quiet:
            for sentence in answer(result):
                typer.echo(sentence)
        _say_where(folder / "index.html", started, quiet)


@app.command()
def extract(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A name, or a .keras, .h5 or .tflite file.")
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="A folder, files, a pattern, a csv of stimulus_id and path, or the name of a set.",
        ),
    ],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers", "-l", help="A set, `all`, or layers NAME[:OP], comma-separated or repeated."
        ),
    ] = None,
    units: Annotated[
        str,
        typer.Option(
            "--units",
            "-u",
            help="all, N, channel-mean, projection:K, pca:SHARE, yu2018 or god2017.",
        ),
    ] = "1000",
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="A file, imagenet, or random.")
    ] = None,
    preprocess: Annotated[
        list[str] | None,
        typer.Option(
            "--preprocess",
            metavar="NAME|KEY=VALUE",
            help="In place of the network's own: a preset, or fields to change (repeated).",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Of the network, as padding=yu2018."),
    ] = None,
    fit_on: Annotated[
        Path | None,
        typer.Option("--fit-on", help="For pca: a text file of the stimulus_id to fit on."),
    ] = None,
    drop_constant: Annotated[
        bool, typer.Option("--drop-constant", help="Leave out units that never vary.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write.  [default: NETWORK.nc]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that holds something else.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="Of the network, in the file.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random units.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at a time.")] = 32,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a network on pictures and write its activations. Goes on where a stopped run ended."""
    target = out or Path(f"{Path(network).stem if Path(network).is_file() else network}.nc")
    with _clean_errors(debug, lambda: _partial(target)):
        from rsacompare.networks.extract import extract as run_network
        from rsacompare.reporting.extract_text import Rate, lines

        chosen = [part for text in layers or ["default"] for part in text.split(",") if part]
        options = dict(map(_option, option or ()))
        if weights is not None:
            options["weights"] = weights
        with _messages(quiet), progress.stage_bars(quiet) as told:
            rate = Rate(told)
            tree = run_network(
                network,
                images[0] if len(images) == 1 else images,
                chosen[0] if len(chosen) == 1 else chosen,
                units,
                seed,
                out=target,
                batch_size=batch,
                preprocessing=_preprocess(preprocess or []),
                name=name,
                drop_constant=drop_constant,
                fit_on=None if fit_on is None else _words(fit_on),
                overwrite=force,
                progress=rate,
                **options,
            )
        if not quiet:
            for line in lines(tree):
                typer.echo(line)
            typer.echo(f"{rate}activations: {target.resolve()}")
        else:
            typer.echo(target)


def _partial(target: Path) -> Path | None:
    folder = target.parent / f".{target.name}.partial"
    return folder if folder.is_dir() else None


def _preprocess(given: list[str]) -> Any:
    """A preset's name, or fields to change."""
    if not given:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    return dict(_option(text, "--preprocess") for text in given)


def _words(file: Path) -> list[str]:
    """A word a line, as a list of stimulus_id."""
    from rsacompare.errors import DataError

    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"--fit-on: {file} cannot be read as text ({err})") from err


@contextmanager
def _messages(quiet: bool) -> Iterator[None]:
    """What is logged, as lines on stderr; TensorFlow says no more than its errors."""
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    log, handler = logging.getLogger("rsacompare"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def _option(text: str, hint: str = "--option") -> tuple[str, Any]:
    """`KEY=VALUE`, the value as in a study file where it can be read so, else as text."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"'{text}' is not KEY=VALUE", param_hint=hint)
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


@app.command()
def report(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="A results.nc, check.nc or sensitivity.nc, or the folder that holds it.",
        ),
    ],
    out: Out = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rebuild the pages from stored results."""
    with _clean_errors(debug):
        from rsacompare import pipeline

        started = time.perf_counter()
        index = pipeline.rebuild(results, out)
        _say_where(index, started, quiet)


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NETWORK]", help="For layers: its name or file, or a file of activations."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="Of the network, as padding=yu2018; like=NAME refuses another architecture.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """List what is registered, or the layers of a network."""
    with _clean_errors(debug):
        if kind is not Kind.LAYERS:
            if option:
                raise typer.BadParameter("is for layers", param_hint="--option")
            from rsacompare import plugins

            lines = plugins.described(kind.value)
        else:
            from rsacompare.errors import ProtocolError

            if name is None:
                raise ProtocolError("of which network? rsacompare list layers NETWORK")
            lines = _layers(name, dict(map(_option, option or ())))
        for line in lines:
            typer.echo(line)


def _layers(name: str, options: dict[str, Any]) -> list[str]:
    """The table of a network that runs, or a line per layer of known activations."""
    from rsacompare.datasets.load import resolve
    from rsacompare.errors import ProtocolError
    from rsacompare.networks import listing
    from rsacompare.schema.reading import load_activations
    from rsacompare.schema.trees import layer_lines

    source = resolve(name)
    network = listing.runnable(source, options)
    if network is not None:
        return listing.layer_table(network)
    if options:
        raise ProtocolError(f"{name} is known activations, and takes no {', '.join(options)}")
    return layer_lines(load_activations(source))


@app.command()
def fetch(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A folder or file of the data registry.")
    ],
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder for downloads.  [default: RSACOMPARE_CACHE, else your cache folder]"
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="For ds001246: the folder that holds it, or shall hold it.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download the files of a data set; checksums are verified, a broken download goes on.

    ds001246 is downloaded by OpenNeuro's own tools: the commands are printed, and the folder is
    checked where it is there already.
    """
    with _clean_errors(debug):
        from rsacompare import plugins
        from rsacompare.datasets import openneuro
        from rsacompare.datasets.load import fetch as fetch_file
        from rsacompare.datasets.registry import registry
        from rsacompare.errors import ProtocolError

        if dataset == openneuro.DATASET:
            _openneuro(to, quiet)
            return
        if to is not None:
            raise ProtocolError(f"--to is for {openneuro.DATASET}; for {dataset} use --cache")
        names = [n for n in registry() if n == dataset or n.split("/")[0] == dataset]
        if not names:
            folders = dict.fromkeys([*(n.split("/")[0] for n in registry()), openneuro.DATASET])
            raise ProtocolError(plugins.unknown("data set", dataset, folders))
        with progress.download_bar(quiet) as told:
            for name in names:
                path = fetch_file(name, cache=cache, progress=told)
                if not quiet:
                    typer.echo(path)


def _openneuro(folder: Path | None, quiet: bool) -> None:
    """Say how ds001246 is had; check the folder where there is one."""
    from rsacompare.datasets import openneuro
    from rsacompare.errors import ProtocolError

    if folder is None:
        raise ProtocolError(
            f"{openneuro.DATASET} needs a folder: rsacompare fetch {openneuro.DATASET} --to FOLDER"
        )
    if not folder.is_dir():
        lines = [*openneuro.commands(folder), "or, without datalad:"]
        for line in [*lines, *openneuro.commands_without_datalad(folder)]:
            typer.echo(line)
        return
    found = openneuro.check(folder)
    if not quiet:
        for line in openneuro.lines(folder, found):
            typer.echo(line)
    missing = openneuro.verdict(folder, found)
    if missing is not None:
        raise FetchError(missing)
    typer.echo(folder if quiet else f"{folder}: complete")


def _run(
    file: Path,
    out: Path | None,
    jobs: int | None,
    seed: int | None,
    quiet: bool,
    debug: bool,
    if_available: bool = False,
) -> None:
    folder: Path | None = out
    with _clean_errors(debug, lambda: folder and folder / "cells"):
        from rsacompare.study.protocol import load_study

        started = time.perf_counter()
        study = load_study(file)  # before the heavy imports: a wrong file is told at once
        import joblib

        from rsacompare import pipeline

        folder = out or Path("reports") / study.name
        try:
            with progress.stage_bars(quiet) as told:
                result = pipeline.run(
                    study,
                    folder,
                    n_jobs=jobs or joblib.cpu_count(),
                    random_state=seed,
                    progress=told,
                )
        except FetchError as err:
            if not if_available:
                raise
            typer.echo(f"{study.name} is left out: {err}")
            return
        if not quiet:
            for line in pipeline.answer(result):
                typer.echo(line)
        _say_where(folder / "index.html", started, quiet)


@contextmanager
def _clean_errors(debug: bool, kept: Any = None) -> Iterator[None]:
    """One line on stderr and an exit code in place of a traceback (which `--debug` shows)."""
    try:
        yield
    except KeyboardInterrupt:
        folder = kept() if kept else None
        kinds = {"cells": "cells are", "specifications": "specifications are"}
        what = kinds.get(folder.name, "batches are") if folder else ""
        hint = f"; finished {what} kept in {folder}, run again to go on" if folder else ""
        typer.echo(f"stopped{hint}", err=True)
        raise typer.Exit(130) from None
    except RsacompareError as err:
        if debug:
            traceback.print_exc()
        typer.echo(f"error: {err}", err=True)
        raise typer.Exit(1) from None
    except (typer.Exit, typer.BadParameter):
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Exception as err:
        if debug:
            traceback.print_exc()
        notes = "".join(f" ({note})" for note in getattr(err, "__notes__", []))
        said = f"{type(err).__name__}: {err}".rstrip(": ").replace("\n", " ") + notes
        hint = "" if debug else "; run again with --debug for the traceback"
        typer.echo(f"error: unexpected {said}{hint}", err=True)
        raise typer.Exit(3) from None


def _say_where(index: Path, started: float, quiet: bool) -> None:
    if quiet:
        typer.echo(index)
        return
    typer.echo(f"report: {index.resolve()} ({time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    main()
