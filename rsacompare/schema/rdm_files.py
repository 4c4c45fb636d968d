"""RDMs from files as people have them: `.npz`, `.mat`, `.csv`, with labels, Meadows' names too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, LabelError, ProtocolError, RsacompareError
from rsacompare.schema import labels, rdm_tables, rdm_variables, store
from rsacompare.schema.arrays import rdms

LABEL_NAMES = ("stimulus_id", "stimuli", "stimulus", "labels", "conds", "conditions")
# what names the RDMs of a stack, one label each
ROW_NAMES = ("subject", "subjects", "participant", "participants", "network", "networks", "names")
NUMBERED = {"brain": "sub-{:02d}", "network": "network-{:02d}"}
PART = {"brain": "all", "network": "rdm"}
MEADOWS = "rdmutv"


RDM_SUFFIXES = (".npz", ".mat", ".csv", ".tsv")


@dataclass
class RdmOptions:
    """What a file does not say of itself: the options of :func:`load_rdms`, for study files."""

    name: str | None = None
    roi: str | None = None
    variable: str | None = None
    stimulus_id: list[str] | None = None


class Row(NamedTuple):
    """One RDM: whose (None: the file does not say), of what part, which session, its vector."""

    name: str | None
    part: str | None
    session: str | None
    stimulus_id: np.ndarray
    values: np.ndarray  # (stimulus, stimulus) or (pair,)


def load_rdms(
    path: str | Path,
    of: str = "brain",
    *,
    name: str | None = None,
    roi: str | None = None,
    variable: str | None = None,
    stimulus_id: Any = None,
) -> xr.DataTree:
    """RDMs with their labels from an `.npz`, `.mat`, `.csv` or `.tsv` file.

    Parameters
    ----------
    path : path
        - `.csv`, `.tsv`: square with labels in the header (and, where they stand, in the first
          column), or long with columns `stimulus_a`, `stimulus_b`, `value` and, where there are
          several RDMs, `subject`, `roi`, `session` (or `network`, `layer`).
        - `.npz`, `.mat` (version 5 and 7.3): labels under `stimulus_id` (or `stimuli`, `labels`,
          `conds`), and one variable per ROI or layer: square, an upper triangle in row-major
          order, or a stack of either with a leading axis (in MATLAB square ones are stacked along
          the last) of subjects or networks, whose names stand under `subject` or `network`. In a
          `.mat` file also a struct array with fields `RDM` and `name`.
        - Meadows (`Meadows_<study>_v_<version>_<participant>_<task>_1D.mat`): `rdmutv` and
          `stimuli`, or one of each per participant; endings of the stimulus files are dropped,
          and participants who saw the stimuli in another order are aligned by label.
    of : {"brain", "network"}
    name : str, optional
        The subject or network, where the file holds one RDM per part and does not name it; by
        default the name of the file.
    roi : str, optional
        The ROI (or layer), where the file does not name it: `all` (`rdm`) by default.
    variable : str, optional
        The only variable to read of an `.npz` or `.mat` file.
    stimulus_id : (stimulus,) str, optional
        Labels, where the file has none.

    Returns
    -------
    DataTree
        As of :func:`rsacompare.rdms`.

    Raises
    ------
    DataError
        A file that is broken, or holds no RDM; values that are missing, twice or no numbers.
    LabelError
        No labels, or labels that do not fit.
    ProtocolError
        A name where the file has its own, or a kind of file that is not read here.
    """
    file = Path(path)
    if of not in PART:
        raise ProtocolError(plugins.unknown("kind of RDM", of, PART))
    if file.suffix.lower() not in RDM_SUFFIXES:
        raise ProtocolError(f"{file}: RDMs are read from {', '.join(RDM_SUFFIXES)} files")
    if not file.is_file():
        raise DataError(f"no file {file}")
    try:
        if file.suffix.lower() in (".csv", ".tsv"):
            if variable is not None or stimulus_id is not None:
                raise ProtocolError("a text file has its labels; no 'variable' or 'stimulus_id'")
            rows = [Row(*found) for found in rdm_tables.read(file, of)]
        else:
            rows = _from_variables(rdm_variables.read(file), file, of, variable, stimulus_id)
        return _tree(_named(rows, file, of, name, roi), file, of)
    except RsacompareError as err:
        raise type(err)(f"{file}: {err}") from err


def _from_variables(
    held: Mapping[str, Any], file: Path, of: str, variable: str | None, given: Any
) -> list[Row]:
    """Rows of named arrays; which are labels and which RDMs is told by name, then by shape."""
    if variable is not None:
        if variable not in held:
            raise ProtocolError(plugins.unknown("variable", variable, held))
    elif any(re.fullmatch(f"{MEADOWS}(_.*)?", key) for key in held):
        return _meadows(held, file)
    ids = given if given is not None else _first(held, LABEL_NAMES)
    if ids is None or isinstance(ids, rdm_variables.Refused):
        raise LabelError(
            f"no stimulus labels: expected text under {', '.join(LABEL_NAMES[:3])}, there are "
            f"{labels.listed(list(held)) or 'no variables'}; or give stimulus_id"
        )
    ids = labels.as_stimulus_ids(np.ravel(ids), "labels", unique=True)
    names = _first(held, ROW_NAMES)
    wanted = [k for k in held if k not in LABEL_NAMES + ROW_NAMES] if variable is None else []
    parts = [k for k in wanted if _rdm_like(held[k], len(ids), file)]
    rows: list[Row] = []
    for key in [variable] if variable is not None else wanted:
        if isinstance(held[key], list):  # a struct array: (name, array) each
            rows += [Row(n, None, None, ids, v) for n, v in held[key]]
        elif key in parts or variable is not None:
            rows += _stack(held[key], key if len(parts) > 1 else None, ids, names, file, of)
    if not rows:
        there = {k: getattr(held[k], "why", None) or np.shape(held[k]) for k in wanted}
        raise DataError(
            f"no RDM of {len(ids)} stimuli: expected ({len(ids)}, {len(ids)}) or an upper "
            f"triangle of {len(ids) * (len(ids) - 1) // 2}, there are {there}"
        )
    return rows


def _stack(
    values: Any, part: str | None, ids: np.ndarray, names: Any, file: Path, of: str
) -> list[Row]:
    """One row, or one per RDM of a stack."""
    if isinstance(values, rdm_variables.Refused):
        raise DataError(f"{values.why} is not read; save it as a plain array of numbers")
    array = _leading(np.asarray(values), len(ids), file)
    if array.ndim == 1 or array.shape == (len(ids), len(ids)):
        return [Row(None, part, None, ids, array)]
    if len(array) == 1:
        return [Row(None, part, None, ids, array[0])]
    if names is None:
        names = [NUMBERED[of].format(i + 1) for i in range(len(array))]
    if len(names) != len(array):
        raise LabelError(f"{len(names)} names for {len(array)} RDMs")
    return [Row(str(n), part, None, ids, v) for n, v in zip(names, array, strict=True)]


def _leading(array: np.ndarray, n: int, file: Path) -> np.ndarray:
    """The stacking axis first: MATLAB's users stack along the last."""
    if file.suffix.lower() == ".mat":
        m = n * (n - 1) // 2
        if array.ndim == 3 and array.shape[:2] in ((n, n), (1, m)):
            array = np.moveaxis(array, -1, 0)
            return array[:, 0] if array.shape[1:] == (1, m) else array
        if array.ndim == 2 and array.shape[1] == 1:  # a column
            return array.T
    return array


def _rdm_like(values: Any, n: int, file: Path) -> bool:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        return False
    shape = _leading(values, n, file).shape
    triangle = len(shape) in (1, 2) and shape[-1] == n * (n - 1) // 2
    return triangle or (len(shape) in (2, 3) and shape[-2:] == (n, n))


def _meadows(held: Mapping[str, Any], file: Path) -> list[Row]:
    """Meadows' matrix structure: `rdmutv`, `stimuli`, both with `_<participant>` where several."""
    rows = []
    for key in [k for k in held if re.fullmatch(f"{MEADOWS}(_.*)?", k)]:
        owner = key[len(MEADOWS) :]
        stimuli = held.get(f"stimuli{owner}", held.get("stimuli"))
        if stimuli is None:
            raise LabelError(f"'{key}' without 'stimuli{owner}'")
        names = [re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,3}$", "", str(s)) for s in stimuli]
        name = owner[1:].replace("_", "-") or _meadows_participant(file)
        ids = labels.as_stimulus_ids(names, f"stimuli of {name or 'the participant'}", unique=True)
        rows.append(Row(name, None, None, ids, np.ravel(held[key])))
    return rows


def _meadows_participant(file: Path) -> str | None:
    """The participant in `Meadows_<study>_v_<version>_<participant>[_<task>]_<structure>.mat`."""
    parts = re.fullmatch(r"Meadows_.+_v_v?[^_]+_([a-z]+-[a-z]+)(_\d+)?_[^_]+", file.stem)
    return parts[1] if parts else None


def _named(rows: list[Row], file: Path, of: str, name: str | None, roi: str | None) -> list[Row]:
    """Names where the file gives none; an option that would rename what is named is refused."""
    for given, option, own in (
        (name, "name", {r.name for r in rows if r.name is not None}),
        (roi, "roi", {r.part for r in rows if r.part is not None}),
    ):
        if given is not None and len(own) > 1:
            raise ProtocolError(
                f"{option} = '{given}', but the file names its own: {labels.listed(sorted(own))}"
            )
    return [
        row._replace(name=name or row.name or file.stem, part=roi or row.part or PART[of])
        for row in rows
    ]


def _tree(rows: list[Row], file: Path, of: str) -> xr.DataTree:
    """Rows aligned to the stimuli of the first, as a tree."""
    ids = rows[0].stimulus_id
    nested: dict[str, dict[str, Any]] = {}
    sessions: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for row in rows:
        cell = sessions.setdefault((str(row.name), str(row.part)), {})
        if (row.session or "") in cell:
            raise LabelError(f"two RDMs of {row.name}, {row.part}; name them apart")
        cell[row.session or ""] = _aligned(row, ids)
    held = {tuple(cell) for cell in sessions.values()}
    if len(held) > 1:
        raise LabelError(f"not all subjects and ROIs have the same sessions: {sorted(held)}")
    for (name, part), cell in sessions.items():
        stack = list(cell.values())
        nested.setdefault(name, {})[part] = stack[0] if list(cell) == [""] else np.array(stack)
    tree = rdms(
        nested,
        stimulus_id=ids,
        of=of,
        attrs={"title": file.stem, "inputs": {file.name: store.file_sha256(file)}},
    )
    names = next(iter(held))
    if of == "brain" and names != ("",):
        for subject in tree.children:
            data = tree[subject].to_dataset()
            tree[subject] = xr.DataTree(data.assign_coords(session=list(names)))
    return tree


def _aligned(row: Row, ids: np.ndarray) -> np.ndarray:
    """The RDM of a row with its stimuli in the order of `ids`."""
    where = f"the RDM of {row.name}"
    if np.array_equal(row.stimulus_id, ids):
        return row.values
    if len(row.stimulus_id) != len(ids):
        raise LabelError(f"{where} has {len(row.stimulus_id)} stimuli, the first {len(ids)}")
    order = labels.index_of(ids, row.stimulus_id, "the first RDM", where)
    square = row.values
    if square.ndim == 1:
        n = len(ids)
        if square.size != n * (n - 1) // 2:
            raise DataError(f"{where}: {square.size} values do not fit {n} stimuli")
        square = np.zeros((n, n))
        square[np.triu_indices(n, 1)] = row.values
        square += square.T
    return square[np.ix_(order, order)]


def _first(held: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((held[n] for n in names if n in held), None)
