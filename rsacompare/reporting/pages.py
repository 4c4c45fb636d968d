"""A stored result to pages: `index.html`, one page per metric, figures as SVG and PNG."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined

from rsacompare.reporting import extras, figures, maps, methods, panels, sentences, style
from rsacompare.reporting.numbers import MISSING, counted, interval, number, p_value
from rsacompare.reporting.reading import ALPHA, OVER, PAIRINGS, Reading, Row
from rsacompare.schema import store
from rsacompare.schema.checks import is_check
from rsacompare.schema.results import iter_extras, load_result

DATA_KEYS = (
    "name", "title", "description", "citation", "licence", "n_subjects", "rois", "n_stimuli", "kind"
)  # fmt: skip
FILES = ("scores.csv", "summary.csv", "contrasts.csv", "results.nc", "provenance.json")


def report(result: xr.Dataset | str | Path, out: str | Path) -> Path:
    """Write the pages of a result.

    Parameters
    ----------
    result : Dataset or path
        What `infer` gives, a `results.nc`, or the folder that holds one.
    out : path
        Folder for `index.html`, `<metric>.html` and `figures/`. Tables and `results.nc` are
        linked to, not written.

    Returns
    -------
    Path
        Of `index.html`.

    Raises
    ------
    DataError
        When the result cannot be read or the folder not be written.
    """
    data = result if isinstance(result, xr.Dataset) else load_result(result)
    if is_check(data):
        from rsacompare.reporting.check_page import check_report  # it builds on this module

        return check_report(data, out)
    folder = Path(out)
    reading = Reading(data)
    pages = page_names(reading.metrics)
    environment = _environment()
    shared = {
        "reading": reading,
        "pages": pages,
        "css": _template_text(environment, "style.css"),
        "colour": lambda network: style.colour(reading.networks, network),
    }
    for metric in reading.metrics:
        context = _metric_context(reading, metric, folder, Path(pages[metric]).stem)
        html = environment.get_template("metric.html.j2").render(**shared, **context)
        store.write_text(folder / pages[metric], html)
    html = environment.get_template("index.html.j2").render(
        **shared, **_index_context(reading, folder)
    )
    index = folder / "index.html"
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


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rsacompare.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["entry"] = _entry
    environment.filters["pretty"] = lambda value: json.dumps(
        value, indent=2, ensure_ascii=False, default=str
    )
    return environment


def _template_text(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _place(drawing: style.Drawing | None, folder: Path, prefix: str) -> dict[str, str] | None:
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
    networks = {n["name"]: n for n in reading.attr("networks", [])}
    shown = []
    for name in reading.networks:
        layers = max((reading.layers(m, name)[0] for m in reading.metrics), key=len)
        told = networks.get(name, {})
        accuracy = told.get("imagenet_top1")
        known = isinstance(accuracy, (int, float)) and np.isfinite(accuracy)
        shown.append(
            {
                "name": name,
                "n_layers": len(layers) or len(told.get("layers", [])),
                "layers": ", ".join(layers),
                "accuracy": f"{accuracy:.1f} %" if known else MISSING,
                "note": told.get("note") or "",
            }
        )
    return {
        "drawing": _place(figures.answer(reading), folder, ""),
        "sentences": sentences.answer(reading),
        "verdicts": _verdict_tables(reading),
        "over": OVER[reading.pairing],
        "data": [dict.fromkeys(DATA_KEYS, "") | d for d in reading.attr("data", [])],
        "networks": shown,
        "intervals": methods.intervals(reading),
        "notes": reading.attr("notes", []),
        "not_applicable": reading.attr("not_applicable", []),
        "extras": _extras(reading, "", folder, "study"),
        "provenance": provenance,
        "inference": reading.inference,
        "files": FILES,
    }


def _verdict_tables(reading: Reading) -> list[dict[str, Any]]:
    """Who is closer: a table per contrast, ROIs down, metrics across."""
    found = []
    for pair in reading.pairs:
        rows = reading.rows(None, pair, reading.pairing)
        metrics = [m for m in reading.metrics if m in {r.metric for r in rows}]
        rois = [r for r in reading.result["roi"].values.astype(str) if r in {x.roi for x in rows}]
        cells = {(r.roi, r.metric): _verdict_cell(r) for r in rows}
        lines = [(roi, [cells.get((roi, m)) for m in metrics]) for roi in rois]
        if lines:
            found.append({"pair": pair, "metrics": metrics, "lines": lines})
    return found


def _verdict_cell(row: Row) -> dict[str, str]:
    return {
        "outcome": row.outcome,
        "winner": row.winner,
        "difference": number(row.difference, signed=True),
        "interval": interval(row.ci_low, row.ci_high),
    }


def _metric_context(reading: Reading, metric: str, folder: Path, stem: str) -> dict[str, Any]:
    meaning = reading.meaning[metric]
    pairs = [
        placed
        for pair in reading.pairs
        if (placed := _place(figures.layer_pairs(reading, metric, pair), folder, stem))
    ]
    paragraph, references = methods.paragraph(reading, metric)
    return {
        "metric": metric,
        "meaning": meaning,
        "options": meaning.get("options", {}),
        "ceiling": methods.ceiling(reading, metric),
        "pair_figures": pairs,
        "roi_figure": _place(panels.roi_panels(reading, metric), folder, stem),
        "map_figure": _place(maps.score_maps(reading, metric), folder, stem),
        "contrasts": _contrast_tables(reading, metric),
        "scores": _score_rows(reading, metric),
        "extras": _extras(reading, metric, folder, stem),
        "paragraph": paragraph,
        "references": references,
    }


def _contrast_tables(reading: Reading, metric: str) -> list[dict[str, Any]]:
    """A table per pairing, all contrasts in it; and why a contrast has no rows there."""
    found = []
    for pairing, meaning in PAIRINGS.items():
        groups, missing = [], []
        for pair in reading.pairs:
            own = reading.rows(metric, pair, pairing)
            if own:
                groups.append((pair, [_contrast_row(r) for r in own]))
            n = [len(reading.layers(metric, network)[0]) for network in pair]
            if pairing == "ordinal" and not own and 0 not in n and n[0] != n[1]:
                missing.append(f"{pair[0]} has {counted(n[0], 'layer')}, {pair[1]} has {n[1]}")
        rows = [row for _, group in groups for row in group]
        if rows or missing:
            found.append(
                {
                    "pairing": pairing,
                    "meaning": f"{meaning[0].upper()}{meaning[1:]}",
                    "groups": groups,
                    "n": len(rows),
                    "layered": any(r["layer_a"] for r in rows),
                    "missing": missing,
                }
            )
    return found


def _contrast_row(row: Row) -> dict[str, Any]:
    return _verdict_cell(row) | {
        "roi": row.roi,
        "layer_a": row.layer_a,
        "layer_b": row.layer_b,
        "dof": f"{row.dof:g}" if np.isfinite(row.dof) else MISSING,
        "p": p_value(row.p),
        "p_fwer": p_value(row.p_fwer),
        "p_equivalence": p_value(row.p_equivalence),
        "bound": f"±{number(row.bound)}" if np.isfinite(row.bound) else MISSING,
        "note": row.note,
    }


def _score_rows(reading: Reading, metric: str) -> list[dict[str, Any]]:
    permutations = int(reading.inference.get("n_permutations", 0)) or None
    rows = []
    for roi in reading.rois(metric):
        for network in reading.networks_of(metric):
            c = reading.curve(metric, roi, network)
            for i, layer in enumerate(c.names):
                rows.append(
                    {
                        "roi": roi,
                        "network": network,
                        "layer": layer,
                        "score": number(c.mean[i]),
                        "interval": interval(c.low[i], c.high[i]),
                        "p": p_value(c.p[i], permutations),
                        "p_fwer": p_value(c.p_fwer[i], permutations),
                        "ceiling": _range(c.ceiling_low[i], c.ceiling_high[i]),
                        "significant": bool(c.p_fwer[i] < ALPHA),
                    }
                )
    return rows


def _range(low: float, high: float) -> str:
    """Lower to upper ceiling, once where they are one."""
    first, second = number(low), number(high)
    return first if first == second else f"{first} to {second}"


def _extras(reading: Reading, metric: str, folder: Path, stem: str) -> list[dict[str, Any]]:
    """Each extra as a figure or a table, by its kind alone."""
    placed = []
    for n, (extra, roles) in enumerate(iter_extras(reading.result, metric)):
        if extra["kind"] == "table":
            columns = {name: [_entry(v) for v in values] for name, values in roles.items()}
            placed.append(
                {
                    "kind": "table",
                    "title": extra["title"],
                    "caption": extra["caption"],
                    "columns": list(columns),
                    "rows": list(zip(*columns.values(), strict=True)),
                }
            )
        else:
            drawing = extras.DRAW[extra["kind"]](reading, extra, roles)
            figure = _place(drawing, folder, f"{stem}-{extra['kind']}-{n + 1}")
            placed.append({"kind": extra["kind"], "figure": figure})
    return placed


def _entry(value: Any) -> str:
    """A table's entry as text."""
    if isinstance(value, (float, np.floating)):
        return number(float(value))
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
