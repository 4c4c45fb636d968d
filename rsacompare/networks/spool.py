"""Where activations are kept while a network runs: in memory, or on disk beside the result.

The folder `.NAME.partial/` beside `NAME` holds a raw array per layer, a file of finished batches
and the configuration that they belong to. A run that was killed goes on with the first batch that
is not there; a batch of which a picture has changed since is run again.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from rsacompare.errors import DataError
from rsacompare.schema import store

log = logging.getLogger("rsacompare")
VALUE = np.dtype("<f4")
AGAIN = "again"
UNIT_INDICES = "units drawn"  # of the configuration: a digest of them all
BLOCK = 1 << 24  # bytes of a block read back: what a pass over a layer holds in memory


class Memory:
    """Activations (stimulus, column) per layer in memory."""

    def __init__(self, n_stimuli: int, columns: Mapping[str, int]):
        needed = n_stimuli * sum(columns.values()) * VALUE.itemsize
        if needed > _memory():  # asked for first: what is only touched later fails later
            raise DataError(
                f"{size(needed)} of activations do not fit into this machine's memory "
                f"({size(_memory())}); give `out`, the file to write them to, or fewer units"
            )
        self._held = {name: np.empty((n_stimuli, k), VALUE) for name, k in columns.items()}

    def has(self, batch: int, key: str) -> bool:
        """Whether a batch is there already: never in memory."""
        return False

    def write(self, batch: int, key: str, start: int, blocks: Mapping[str, np.ndarray]) -> None:
        """Keep the rows of a batch, from row `start`."""
        for name, block in blocks.items():
            self._held[name][start : start + len(block)] = block

    def read(self, name: str, rows: slice, columns: slice) -> np.ndarray:
        """A block of a layer."""
        return self._held[name][rows, columns]


class Folder:
    """The same on disk, with a memory of which batches are done.

    `result` is the number of columns of the file that is made of it in the end. Without `resume`
    what is there is not gone on with: the network's weights cannot be compared.
    """

    def __init__(
        self,
        folder: Path,
        configuration: Mapping[str, Any],
        n_stimuli: int,
        columns: Mapping[str, int],
        result: int,
        resume: bool = True,
    ):
        self.folder, self._columns, self._resume = folder, dict(columns), resume
        self._files = {name: folder / f"{i:03d}.f4" for i, name in enumerate(columns)}
        self._done: dict[int, str] = {}
        self._open(configuration)
        self._require_space(n_stimuli, result)

    def _open(self, configuration: Mapping[str, Any]) -> None:
        """Go on with what is there, or start anew where it belongs to something else."""
        wanted = json.loads(json.dumps(configuration, default=str))
        manifest = self.folder / "configuration.json"
        if manifest.is_file():
            found = _json(manifest)
            changed = differing(wanted, found)
            if not changed and not self._resume:
                changed = ["weights, which have no checksum,"]
            if not changed:
                self._done = self._read_done()
                return
            log.warning(
                "%s is of another extraction (%s differ): starting anew",
                self.folder,
                ", ".join(changed),
            )
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            store.write_text(manifest, json.dumps(wanted, indent=1))
        except OSError as err:
            raise DataError(f"cannot write in {self.folder.parent}: {err.strerror}") from err

    def _read_done(self) -> dict[int, str]:
        file, done = self.folder / "done", {}
        for line in file.read_text().splitlines() if file.is_file() else ():
            number, _, key = line.partition(" ")
            if len(key) == 32:  # a line cut short by a kill is a batch to run again
                done[int(number)] = key
            elif key == AGAIN:
                done.pop(int(number), None)
        return done

    def _require_space(self, n_stimuli: int, result: int) -> None:
        """Both the folder and the file made of it have to find room."""
        value = n_stimuli * VALUE.itemsize
        kept, made = value * sum(self._columns.values()), value * result
        there = sum(file.stat().st_size for file in self._files.values() if file.is_file())
        needed, free = kept + made - there, shutil.disk_usage(self.folder).free
        if needed > free:
            if not there:
                self.remove()
            raise DataError(
                f"{self.folder.parent} has {size(free)} free, but {size(needed)} are needed "
                f"({size(kept)} kept while the network runs, and {size(made)} for the file made of "
                "it); extract fewer units or layers, or write to another disk"
            )

    @property
    def is_empty(self) -> bool:
        """Whether no batch is there."""
        return not self._done

    def has(self, batch: int, key: str) -> bool:
        """Whether a batch of these pictures is there already."""
        return self._done.get(batch) == key

    def write(self, batch: int, key: str, start: int, blocks: Mapping[str, np.ndarray]) -> None:
        """Keep the rows of a batch, from row `start`; only then is the batch done."""
        try:
            if batch in self._done:  # of another picture: not done while it is written over
                self._note(batch, AGAIN)
            for name, block in blocks.items():
                file = self._files[name]
                with open(file, "r+b" if file.is_file() else "w+b") as handle:
                    handle.seek(start * self._columns[name] * VALUE.itemsize)
                    handle.write(np.ascontiguousarray(block, VALUE).data)
            self._note(batch, key)
        except OSError as err:
            raise DataError(
                f"cannot write in {self.folder}: {err.strerror}; what is done is kept there, run "
                "again to go on"
            ) from err
        self._done[batch] = key

    def _note(self, batch: int, what: str) -> None:
        with open(self.folder / "done", "a", encoding="ascii") as handle:
            handle.write(f"\n{batch} {what}\n")

    def read(self, name: str, rows: slice, columns: slice) -> np.ndarray:
        """A block of a layer: read, not mapped, since what is mapped counts as memory in use."""
        k = self._columns[name]
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), VALUE)
        with open(self._files[name], "rb", buffering=0) as handle:
            if out.shape[1] == k:
                handle.seek(rows.start * k * VALUE.itemsize)
                _fill(handle, out)
                return out
            for i, row in enumerate(out, rows.start):
                handle.seek((i * k + columns.start) * VALUE.itemsize)
                _fill(handle, row)
        return out

    def remove(self) -> None:
        """When the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _fill(handle: IO[bytes], out: np.ndarray) -> None:
    """All of a contiguous array from a file that may give less at a time."""
    left = memoryview(out.data).cast("B")
    while left:
        count = handle.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise DataError(f"{handle.name} ends early: damaged; delete its folder, run again")
        left = left[count:]


def row_blocks(spool: Memory | Folder, name: str, n: int, k: int) -> Iterator[np.ndarray]:
    """A layer as blocks of rows; in memory it is one."""
    if isinstance(spool, Memory):
        yield spool.read(name, slice(0, n), slice(0, k))
        return
    step = max(1, BLOCK // (k * VALUE.itemsize))
    for start in range(0, n, step):
        yield spool.read(name, slice(start, min(start + step, n)), slice(0, k))


def column_blocks(spool: Memory | Folder, name: str, n: int, k: int) -> Iterator[np.ndarray]:
    """A layer as blocks of columns."""
    step = max(1, BLOCK // (n * VALUE.itemsize))
    for start in range(0, k, step):
        yield spool.read(name, slice(0, n), slice(start, min(start + step, k)))


def differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What two configurations do not share; that the units are others follows from most of it."""
    differ = sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k))
    return [k for k in differ if k != UNIT_INDICES] or differ


def size(n_bytes: float) -> str:
    """Bytes for a sentence.

    Examples
    --------
    >>> size(3_211_264)
    '3.21 MB'
    """
    for unit in ("bytes", "KB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def _memory() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not told on every system
        return math.inf


def _json(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}
