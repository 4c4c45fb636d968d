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
    out: Out = None,
    jobs: Jobs = None,
    seed: Seed = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Look at data before a run: what is there, how reliable, do the labels match?"""
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


def _option(text: str) -> tuple[str, Any]:
    """`KEY=VALUE`, the value as in a study file where it can be read so, else as text."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"'{text}' is not KEY=VALUE", param_hint="--option")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


@app.command()
def report(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS", help="A results.nc or check.nc, or the folder that holds it."
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
    debug: Debug = False,
) -> None:
    """List what is registered, or the layers of a network."""
    with _clean_errors(debug):
        if kind is not Kind.LAYERS:
            from rsacompare import plugins

            lines = plugins.described(kind.value)
        else:
            from rsacompare.errors import ProtocolError

            if name is None:
                raise ProtocolError("of which network? rsacompare list layers NETWORK")
            lines = _layers(name)
        for line in lines:
            typer.echo(line)


def _layers(name: str) -> list[str]:
    """The table of a network that runs, or a line per layer of known activations."""
    from rsacompare.datasets.load import resolve
    from rsacompare.networks import listing
    from rsacompare.schema.reading import load_activations
    from rsacompare.schema.trees import layer_lines

    source = resolve(name)
    network = listing.runnable(source)
    if network is not None:
        return listing.layer_table(network)
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
        hint = f"; finished cells are kept in {folder}, run again to go on" if folder else ""
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
        said = f"{type(err).__name__}: {err}".rstrip(": ").replace("\n", " ")
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
