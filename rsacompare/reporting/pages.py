"""A stored result to pages: `index.html`, one page per metric, figures as SVG and PNG."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined

from rsacompare.reporting import (
    extras,
    figures,
    maps,
    methods,
    networks,
    panels,
    sentences,
    style,
    tables,
)
from rsacompare.reporting.leftovers import remove_stale
from rsacompare.reporting.numbers import MISSING, number, p_value, said_once
from rsacompare.reporting.reading import OVER, Reading
from rsacompare.schema import store
from rsacompare.schema.checks import is_check
from rsacompare.schema.results import extra_tables, iter_extras, load_result, require_result
from rsacompare.schema.sensitivity import is_sensitivity

MOST_ROWS = 12  # of a table that is not folded
IMAGES = {"rdm", "embedding", "matrix", "map"}  # extras that show the data, not the difference
DATA_KEYS = (
    "name", "title", "description", "citation", "licence", "n_subjects", "rois", "n_stimuli", "kind"
)  # fmt: skip
FILES = (
    "scores.csv", "summary.csv", "contrasts.csv", "summary_more.csv", "contrasts_more.csv",
    "results.nc", "provenance.json",
)  # fmt: skip


def report(
    result: xr.Dataset | str | Path, out: str | Path, *, files_in: str | Path | None = None
) -> Path:
    """Write the pages of a result.

    Parameters
    ----------
    result : Dataset or path
        What `infer` gives, a `results.nc`, or the folder that holds one.
    out : path
        Folder for `index.html`, `<metric>.html` and `figures/`. Tables and `results.nc` are
        linked to where they are there, not written. Pages and figures that an earlier report
        left there go.
    files_in : path, optional
        Where the tables and `results.nc` lie by the time the pages are read, default `out`.

    Returns
    -------
    Path
        Of `index.html`.

    Raises
    ------
    DataError
        When the result cannot be read or the folder not be written.
    """
    data = load_result(result) if isinstance(result, (str, Path)) else result
    require_result(data, "report")
    if is_check(data):
        from rsacompare.reporting.check_page import check_report  # it builds on this module

        return check_report(data, out, files_in=files_in)
    if is_sensitivity(data):
        from rsacompare.reporting.sensitivity_page import sensitivity_report

        return sensitivity_report(data, out, files_in=files_in)
    folder = Path(out)
    reading = Reading(data)
    pages = page_names(reading.metrics)
    environment = template_environment()
    shared = {
        "reading": reading,
        "pages": pages,
        "css": template_text(environment, "style.css"),
        "colour": lambda network: style.colour(reading.networks, network),
    }
    written = {}
    for metric in reading.metrics:
        context = _metric_context(reading, metric, folder, Path(pages[metric]).stem)
        html = environment.get_template("metric.html.j2").render(**shared, **context)
        written[folder / pages[metric]] = html
    names = (*FILES[:5], *(f"{name}.csv" for name in extra_tables(data)), *FILES[5:])
    written[folder / "index.html"] = environment.get_template("index.html.j2").render(
        **shared, **_index_context(reading, folder), files=files_there(names, files_in or out)
    )
    for path, html in written.items():
        store.write_text(path, html)
    remove_stale(folder)
    return folder / "index.html"


def write_page(
    template: str,
    data: xr.Dataset,
    out: str | Path,
    files: Sequence[str],
    files_in: str | Path | None,
    colour: Callable[[str], str],
    /,
    **context: Any,
) -> Path:
    """An `index.html` that is the only page: of what is no result.

    Parameters
    ----------
    template : str
    data : Dataset
        What the page tells: title, whether it is simulated, provenance and options are taken from
        its attributes.
    out, files_in
        As in `report`.
    files : sequence of str
        Those of them that are there are linked.
    colour : callable
        Of a network.
    **context
        What else the template needs.
    """
    environment = template_environment()
    html = environment.get_template(template).render(
        reading=SimpleNamespace(simulated=bool(int(data.attrs.get("simulated", 0)))),
        pages={},
        css=template_text(environment, "style.css"),
        colour=colour,
        title=str(data.attrs.get("title", "")),
        options=json.loads(data.attrs.get("options", "{}")),
        provenance=json.loads(data.attrs.get("provenance", "{}")),
        files=files_there(files, files_in or out),
        **context,
    )
    index = Path(out) / "index.html"
    store.write_text(index, html)
    return index


def page_names(metrics: list[str]) -> dict[str, str]:
    """File of each metric's page: its label, made safe; never `index.html`, never one twice.

    Examples
    --------
    >>> page_names(["rsa", "rsa/cosine", "rsa cosine", "index"])
    {'rsa': 'rsa.html', 'rsa/cosine': 'rsa-cosine.html', 'rsa cosine': 'rsa-cosine-2.html', \
'index': 'index-2.html'}
    """
    taken, names = {"index"}, {}
    for metric in metrics:
        base = re.sub(r"[^\w.+-]+", "-", metric).strip("-.") or "metric"
        stem, n = base, 2
        while stem.lower() in taken:
            stem, n = f"{base}-{n}", n + 1
        taken.add(stem.lower())
        names[metric] = f"{stem}.html"
    return names


def template_environment() -> Environment:
    """The templates of all pages; a missing value is an error, not a blank."""
    environment = Environment(
        loader=PackageLoader("rsacompare.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["limit"] = lambda value: f"{value:g}".replace("-", "−")
    environment.filters["entry"] = _entry
    environment.filters["pretty"] = lambda value: json.dumps(
        value, indent=2, ensure_ascii=False, default=str
    )
    return environment


def template_text(environment: Environment, name: str) -> str:
    """The raw text of a file beside the templates."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def place_figure(drawing: style.Drawing | None, folder: Path, prefix: str) -> dict[str, str] | None:
    """Save a drawing and give what the template needs; the SVG goes into the page itself."""
    if drawing is None:
        return None
    name = "-".join(part for part in (prefix, drawing.name) if part)
    named = style.Drawing(name, drawing.figure, drawing.title, drawing.caption)
    svg = style.save(named, folder / "figures")
    return {
        "name": name,
        "title": drawing.title,
        "caption": drawing.caption,
        "uri": f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}",
        "width": f"{drawing.figure.get_figwidth() * 96:.0f}",
        "height": f"{drawing.figure.get_figheight() * 96:.0f}",
    }


def _index_context(reading: Reading, folder: Path) -> dict[str, Any]:
    provenance = reading.attr("provenance", {})
    return {
        "drawing": place_figure(figures.answer(reading), folder, ""),
        "sentences": sentences.answer(reading),
        "verdicts": tables.verdict_tables(reading),
        "over": OVER[reading.pairing],
        "data": [dict.fromkeys(DATA_KEYS, "") | d for d in reading.attr("data", [])],
        "networks": networks.rows(reading),
        "intervals": methods.intervals(reading),
        "notes": said_once(reading.attr("notes", []), reading.metrics),
        "not_applicable": reading.attr("not_applicable", []),
        "extras": _extras(reading, "", folder, "study"),
        "provenance": provenance,
        "inference": reading.inference,
    }


def files_there(names: Sequence[str], folder: str | Path) -> list[str]:
    """Those of the files that a page can link to."""
    return [name for name in names if (Path(folder) / name).is_file()]


def _metric_context(reading: Reading, metric: str, folder: Path, stem: str) -> dict[str, Any]:
    meaning = reading.meaning[metric]
    pairs = [
        placed
        for pair in reading.pairs
        if (placed := place_figure(figures.layer_pairs(reading, metric, pair), folder, stem))
    ]
    paragraph, references = methods.paragraph(reading, metric)
    return {
        "metric": metric,
        "meaning": meaning,
        "options": meaning.get("options", {}),
        "ceiling": methods.ceiling(reading, metric),
        "pair_figures": pairs,
        "depth_figure": place_figure(panels.depth_curves(reading, metric), folder, stem),
        "roi_figure": place_figure(panels.roi_panels(reading, metric), folder, stem),
        "map_figure": place_figure(maps.score_maps(reading, metric), folder, stem),
        "contrasts": tables.contrast_tables(reading, metric),
        "sign_flips": tables.sign_flips(reading, metric),
        "scores": (scores := tables.score_rows(reading, metric)),
        "fractions": any(row["fraction"] != MISSING for row in scores),
        "extras": _extras(reading, metric, folder, stem),
        "paragraph": paragraph,
        "references": references,
    }


def _extras(reading: Reading, metric: str, folder: Path, stem: str) -> list[dict[str, Any]]:
    """Each extra as a figure or a table, by its kind alone: first what is told of the difference.

    Images of the data come last; of figures of a kind in a row, one per pair of networks, all but
    the first are folded, and so are long tables.
    """
    placed: list[dict[str, Any]] = []
    for n, (extra, roles) in enumerate(iter_extras(reading.result, metric)):
        if not extra.get("shown", 1):  # kept as a file alone
            continue
        if extra["kind"] == "table":
            columns = {name: [_entry(v, name) for v in values] for name, values in roles.items()}
            told = json.loads(extra.get("columns", "{}"))
            placed.append(
                {
                    "kind": "table",
                    "title": extra["title"],
                    "caption": extra["caption"],
                    "columns": list(columns),
                    "explained": {name: told[name] for name in columns if name in told},
                    "rows": (rows := list(zip(*columns.values(), strict=True))),
                    "folded": len(rows) > MOST_ROWS,
                }
            )
        else:
            drawing = extras.DRAW[extra["kind"]](reading, extra, roles)
            figure = place_figure(drawing, folder, f"{stem}-{extra['kind']}-{n + 1}")
            again = bool(placed) and placed[-1]["kind"] == extra["kind"] in {"curves", "intervals"}
            placed.append({"kind": extra["kind"], "figure": figure, "folded": again})
    return sorted(placed, key=lambda one: one["kind"] in IMAGES)


def _entry(value: Any, column: str = "") -> str:
    """A table's entry as text; a column `p` or `p_…` holds p values."""
    if isinstance(value, float) and (column == "p" or column.startswith("p_")):
        return p_value(value)
    if isinstance(value, (float, np.floating)):
        return number(float(value))
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
