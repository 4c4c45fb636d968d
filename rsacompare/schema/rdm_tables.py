"""RDMs written as text: square with labels, or a row per pair."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rsacompare.errors import DataError, LabelError
from rsacompare.schema import labels

Found = tuple[str | None, str | None, str | None, np.ndarray, np.ndarray]
# the first of each is our own word; the others are of Meadows and of pandas' users
A = ("stimulus_a", "stim1_name", "stimulus_1", "stim_a", "stim1")
B = ("stimulus_b", "stim2_name", "stimulus_2", "stim_b", "stim2")
VALUE = ("value", "dissimilarity", "distance", "rdm", "label")
OWNER = {
    "brain": ("subject", "participant", "participation"),
    "network": ("network",),
}
PART = {"brain": ("roi",), "network": ("layer",)}
SESSION = {"brain": ("session",), "network": ()}


def read(file: Path, of: str) -> list[Found]:
    """Rows (name, part, session, stimulus_id, values) of a text file.

    Raises
    ------
    DataError, LabelError
        No text, no table of one of the two forms, a cell that is no number, pairs that are
        missing or stand twice.
    """
    table = _cells(file)
    header = [cell.strip() for cell in table[0]]
    lower = [cell.lower() for cell in header]
    if _column(lower, A) is not None and _column(lower, B) is not None:
        return _long(lower, table[1:], of)
    ids, values = _square(header, table[1:])
    return [(None, None, None, ids, values)]


def _cells(file: Path) -> list[list[str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        first = text.split("\n", 1)[0]
        mark = max(",;\t", key=first.count)
        table = [
            row for row in csv.reader(text.splitlines(), delimiter=mark, strict=True) if any(row)
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataError(f"cannot be read as text ({type(err).__name__}: {err})") from err
    if len(table) < 2:
        raise DataError("no table: a header and rows are expected")
    return table


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: a number expected, got '{text}'") from None


def _square(header: list[str], rows: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Labels in the header; in the first column too, when a row is one longer than numbers are."""
    n = len(rows)
    if len(header) == n + 1:
        names, with_labels = header[1:], True
    elif len(header) == n:
        names, with_labels = header, len(rows[0]) == n + 1
    else:
        raise DataError(
            f"{len(header)} columns and {n} rows: expected a square table with labels in the "
            "header, or the columns stimulus_a, stimulus_b, value"
        )
    ids = labels.as_stimulus_ids(names, "header", unique=True)
    values = np.empty((n, n))
    own = []
    for i, row in enumerate(rows):
        own.append(row[0].strip())
        cells = row[1:] if with_labels else row
        if len(cells) != n:
            raise DataError(f"row {i + 1}: {len(cells)} values, expected {n}")
        values[i] = [
            _number(c, f"row {i + 1}, column '{name}'")
            for c, name in zip(cells, ids.tolist(), strict=True)
        ]
    if with_labels:
        rows_of = labels.as_stimulus_ids(own, "first column", unique=True)
        values = values[labels.index_of(ids, rows_of, "the header", "the first column")]
    return ids, values


def _long(header: list[str], rows: list[list[str]], of: str) -> list[Found]:
    """A row per pair; every pair of the stimuli once, in either order."""
    a, b, value = _column(header, A), _column(header, B), _column(header, VALUE)
    if value is None or a is None or b is None:
        raise DataError(f"no column {' or '.join(VALUE[:3])}; there are {labels.listed(header)}")
    keys = [_column(header, names) for names in (OWNER[of], PART[of], SESSION[of])]
    groups: dict[tuple[str | None, ...], dict[tuple[str, str], float]] = {}
    order: dict[str, None] = {}
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(f"row {i + 1}: {len(row)} cells, expected {len(header)}")
        first, second = row[a].strip(), row[b].strip()
        number = _number(row[value], f"row {i + 1}, column '{header[value]}'")
        order |= dict.fromkeys((first, second))
        if first == second:
            if number != 0:
                raise DataError(f"row {i + 1}: '{first}' with itself is {number}, expected 0")
            continue
        group = groups.setdefault(tuple(None if k is None else row[k].strip() for k in keys), {})
        pair = (first, second) if first < second else (second, first)
        if group.setdefault(pair, number) != number:
            raise DataError(
                f"row {i + 1}: pair '{first}', '{second}' stands twice with different values; "
                "columns that name the RDMs apart are subject, roi, session (network, layer)"
            )
    ids = labels.as_stimulus_ids(list(order), "stimuli", unique=True)
    place = {name: k for k, name in enumerate(ids.tolist())}
    found: list[Found] = []
    for (name, part, session), pairs in groups.items():
        values = np.full((len(ids), len(ids)), np.nan)
        np.fill_diagonal(values, 0)
        for (first, second), number in pairs.items():
            i, j = place[first], place[second]
            values[i, j] = values[j, i] = number
        missing = len(ids) * (len(ids) - 1) // 2 - len(pairs)
        if missing:
            k, m = np.argwhere(np.isnan(values))[0] if np.isnan(values).any() else (0, 0)
            raise LabelError(
                f"{missing} of {len(pairs) + missing} pairs are missing"
                f"{f' for {name}' if name else ''} (first: '{ids[k]}', '{ids[m]}')"
            )
        found.append((name, part, session, ids, values))
    if not found:
        raise DataError("no pairs")
    return found
