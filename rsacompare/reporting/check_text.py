"""A check on the terminal: compact tables and the findings."""

from __future__ import annotations

from typing import Any

import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rsacompare.reporting import check_power_text
from rsacompare.reporting.check_page import network_lines, stimuli_lines, summary_table, verdict
from rsacompare.schema import checks

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
PLAIN_WIDTH = 160  # where nobody looks at a terminal, rows stay whole


def print_check(check: xr.Dataset, console: Console | None = None) -> None:
    """Print stimuli, ROIs, networks and findings; without frames where it is no terminal.

    Parameters
    ----------
    check : Dataset
        What `rsacompare.check` gives.
    console : rich.console.Console, optional
        Standard output by default.
    """
    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=PLAIN_WIDTH)
    title = str(check.attrs.get("title", ""))
    if check.attrs.get("simulated") and "simulated" not in title.lower():
        title += " (simulated)"
    console.print(Text(title, style="bold"), soft_wrap=True)
    for table in (stimuli_lines(check), summary_table(check), network_lines(check)):
        if table["rows"]:
            console.print()
            console.print(_grid(table, console.is_terminal))
    console.print()
    said = [*check_power_text.power_sentences(check), check_power_text.forecast_sentence(check)]
    for sentence in filter(None, said):
        console.print(Text(sentence), soft_wrap=not console.is_terminal)
    if any(said):
        console.print()
    found = checks.findings(check)
    for finding in found:
        line = Text(f"{finding.level:<8}", style=STYLES[finding.level])
        line.append(f"{finding.where}: ", style="bold")
        line.append(f"{finding.sentence} {finding.advice}".rstrip(), style="default")
        console.print(line, soft_wrap=not console.is_terminal)
    console.print(verdict(found), soft_wrap=True)


def _grid(table: dict[str, Any], terminal: bool) -> Table:
    grid = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    for k, column in enumerate(table["columns"]):
        grid.add_column(column, justify="left" if k == 0 else "right", no_wrap=not terminal)
    for row in table["rows"]:
        grid.add_row(*map(Text, row))
    return grid
