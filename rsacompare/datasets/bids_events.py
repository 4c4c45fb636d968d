"""What was shown in a run: the events table of BIDS, and which of its rows count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rsacompare import plugins
from rsacompare.datasets.bids_layout import Layout, Run, split_of
from rsacompare.errors import DataError

# coordinates that responses have anyway
TAKEN = (
    *("stimulus_id", "split", "repetition", "session", "task", "run", "run_label", "onset"),
    *("duration", "category", "roi", "presentation", "neuroid", "i", "j", "k"),
)


def read_events(file: Path) -> pd.DataFrame:
    """An events table, all columns as text but `onset` and `duration`, in order of onset.

    Raises
    ------
    DataError
        Not a table with onset and duration in seconds.
    """
    try:
        table = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
        for column in ("onset", "duration"):
            if column not in table:
                raise DataError(f"{file}: {plugins.unknown('column', column, table.columns)}")
            table[column] = table[column].replace("n/a", "nan").astype(float)
    except (ValueError, OSError) as err:  # pandas' parser errors are ValueErrors
        raise DataError(f"{file} cannot be read as a table of events: {err}") from err
    if not np.isfinite(table["onset"]).all():
        raise DataError(f"{file}: {table['onset'].isna().sum()} events have no onset")
    return table.sort_values("onset", kind="stable", ignore_index=True)


def presentations(run: Run, number: int, layout: Layout) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The events of a run that are presentations, and all the others.

    Returns
    -------
    kept, other : DataFrame
        `kept` has the columns that become coordinates, and `duration`; `other` is as in the file.

    Raises
    ------
    DataError
        A column that is not there; a presentation without a stimulus.
    """
    table = read_events(run.events)
    where = np.ones(len(table), dtype=bool)
    if layout.events is not None:
        chosen = _column(table, layout.event_column, run).isin(layout.events)
        where = chosen.to_numpy(copy=True)
    shown = table[where]
    names = _first(shown, layout.stimulus, run)
    unnamed = names[names.isin(["", "n/a"])]
    if len(unnamed):
        raise DataError(
            f"{run.events}: {len(unnamed)} presentations name no stimulus ('n/a'), first at "
            f"{shown['onset'][unnamed.index[0]]:g} s; choose rows with `events`"
        )
    if layout.drop_repeats:
        repeat = (names == names.shift()).to_numpy()
        where[np.flatnonzero(where)[repeat]] = False
        shown, names = shown[~repeat], names[~repeat]
    kept = pd.DataFrame({"stimulus_id": names, "session": run.session, "task": run.task})
    if layout.splits is not None:
        kept["split"] = split_of(run, layout.splits)
    kept["run"], kept["run_label"] = number, run.label
    kept["onset"], kept["duration"] = shown["onset"], shown["duration"]
    if layout.category:
        kept["category"] = _column(shown, layout.category, run)
    elif layout.category_pattern:
        found = (re.match(layout.category_pattern, name) for name in names)
        kept["category"] = ["" if m is None else m[1] for m in found]
    for coord, candidates in layout.columns.items():
        there = [c for c in candidates if c in shown]
        kept[coord] = shown[there[0]] if there else "n/a"
    return kept.reset_index(drop=True), table[~where]


def nuisance(other: pd.DataFrame, layout: Layout) -> list[tuple[str, float, float]]:
    """Events that a GLM models beside the presentations; repeats that were dropped are some."""
    if layout.event_column not in other:
        return []
    names = other[layout.event_column]
    if layout.drop_repeats:
        repeats = names.isin(layout.events) if layout.events is not None else names == names
        names = names.where(~repeats, "repeat")
    wanted = names.isin([*layout.nuisance_events, *(["repeat"] if layout.drop_repeats else [])])
    rows = zip(
        names[wanted], other["onset"][wanted], other["duration"][wanted].fillna(0.0), strict=True
    )
    return list(rows)


def _column(table: pd.DataFrame, name: str, run: Run) -> pd.Series:
    if name not in table:
        raise DataError(f"{run.events}: {plugins.unknown('column', name, table.columns)}")
    return table[name]


def _first(table: pd.DataFrame, names: Sequence[str], run: Run) -> pd.Series:
    there = [name for name in names if name in table]
    return _column(table, there[0] if there else names[0], run)


def as_coord(column: pd.Series) -> np.ndarray:
    """Numbers where all are ('n/a' is NaN), else text."""
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy()
    numbers = pd.to_numeric(column.replace({"n/a": "nan", "": "nan"}), errors="coerce")
    text = ~column.isin(["n/a", "nan", ""])
    if column.name in ("session", "task", "run_label", "category") or numbers[text].isna().any():
        return column.to_numpy(dtype=str)
    return numbers.to_numpy(dtype=np.float64)
