"""MATLAB v5 files read with suspicion: declared sizes are checked before scipy allocates them.

`scipy.io.loadmat` believes what a file says of itself: one flipped bit in the size of a cell array
asks for gigabytes. So the wanted variables are walked first, every size against the bytes that
are there, and only then handed to scipy, alone. Layout: "MAT-File Format" (MathWorks), level 5.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import scipy.io

HEADER = 128
MATRIX, COMPRESSED = 14, 15
# bytes per number of the storage types int8 … uint64, and of the text types utf8, utf16, utf32
STORED = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
CELL, STRUCT, CHAR = 1, 2, 4
NUMERIC = range(6, 16)
DEFLATE_RATIO = 1032  # the most that zlib can expand
DEEPEST = 8


class _Element(NamedTuple):
    kind: int
    start: int
    stop: int
    following: int


def is_mat5(head: bytes) -> bool:
    """Whether the first 128 bytes are those of a v5 file."""
    return len(head) >= HEADER and head[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def load(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Variables of a v5 file by name, those that are there.

    Parameters
    ----------
    path : Path
    names : iterable of str

    Returns
    -------
    dict
        As `scipy.io.loadmat` gives them.

    Raises
    ------
    ValueError
        A size that does not fit the file, a class that is not numbers, text, cell or struct; what
        scipy raises on a broken file comes through as it is.
    """
    wanted = {name.encode() for name in names}
    size = path.stat().st_size
    kept: list[bytes] = []
    with open(path, "rb") as file:
        head = file.read(HEADER)
        order = ">" if head[126:128] == b"MI" else "<"
        at = HEADER
        while at + 8 <= size:
            file.seek(at)
            kind, n_bytes = np.frombuffer(file.read(8), dtype=f"{order}u4").tolist()
            at += 8
            if at + n_bytes > size:
                raise ValueError(f"a variable of {n_bytes} bytes at {at}, the file has {size}")
            if kind not in (MATRIX, COMPRESSED):
                raise ValueError(f"no variable at byte {at - 8} (type {kind})")
            element = _variable(file, kind, n_bytes, wanted, order)
            if element:
                kept.append(element)
            at += n_bytes
    return scipy.io.loadmat(io.BytesIO(b"".join([head, *kept])))


def _variable(file: BinaryIO, kind: int, n_bytes: int, wanted: set[bytes], order: str) -> bytes:
    """One variable, uncompressed and checked; nothing when its name is not wanted."""
    if kind == MATRIX:
        whole = np.array([kind, n_bytes], dtype=f"{order}u4").tobytes() + file.read(n_bytes)
    else:
        packed = file.read(n_bytes)
        unpacker = zlib.decompressobj()
        whole = unpacker.decompress(packed, 1024)
        if len(whole) < 8:
            raise ValueError("a compressed variable is empty")
        kind, declared = np.frombuffer(whole[:8], dtype=f"{order}u4").tolist()
        if kind != MATRIX or declared > DEFLATE_RATIO * n_bytes + 64:
            raise ValueError(f"{n_bytes} compressed bytes cannot hold {declared} (type {kind})")
        if _name(whole, order) not in wanted:
            return b""
        rest = declared + 8 - len(whole)
        if rest > 0:
            whole += unpacker.decompress(unpacker.unconsumed_tail, rest)
        if len(whole) < declared + 8:
            raise ValueError(f"a variable declares {declared} bytes and has {len(whole) - 8}")
        whole = whole[: declared + 8]
    if _name(whole, order) not in wanted:
        return b""
    _check(whole, _element(whole, 0, len(whole), order), order, 0)
    return whole


def _name(whole: bytes, order: str) -> bytes:
    at = 8
    for _ in range(2):  # flags, dimensions
        at = _element(whole, at, len(whole), order).following
    name = _element(whole, at, len(whole), order)
    return whole[name.start : name.stop]


def _element(data: bytes, at: int, end: int, order: str) -> _Element:
    """The element that begins at `at`; it must end by `end`."""
    if at + 8 > end:
        raise ValueError(f"an element at byte {at} passes the end of its variable, {end}")
    first, n_bytes = np.frombuffer(data, dtype=f"{order}u4", count=2, offset=at).tolist()
    if first >> 16:  # the short form: up to four bytes inside the tag
        kind, n_bytes, start, following = first & 0xFFFF, first >> 16, at + 4, at + 8
        if n_bytes > 4:
            raise ValueError(f"a short element of {n_bytes} bytes at {at}")
    else:
        kind, start = first, at + 8
        padding = 0 if kind == COMPRESSED else -n_bytes % 8
        following = start + n_bytes + padding
    if start + n_bytes > end:
        raise ValueError(f"an element of {n_bytes} bytes at {at} passes the end, {end}")
    return _Element(kind, start, start + n_bytes, following)


def _check(data: bytes, matrix: _Element, order: str, depth: int) -> None:
    """Every size inside a matrix element against the bytes it has."""
    if matrix.kind != MATRIX or depth > DEEPEST:
        raise ValueError(f"type {matrix.kind} at byte {matrix.start}, depth {depth}")
    if matrix.stop == matrix.start:
        return  # an empty matrix
    end = matrix.stop
    flags = _element(data, matrix.start, end, order)
    dims = _element(data, flags.following, end, order)
    name = _element(data, dims.following, end, order)
    if flags.stop - flags.start != 8 or (dims.stop - dims.start) % 4:
        raise ValueError(f"the head of a matrix at byte {matrix.start} is damaged")
    word = int(np.frombuffer(data, dtype=f"{order}u4", count=1, offset=flags.start)[0])
    count = (dims.stop - dims.start) // 4
    shape = np.frombuffer(data, dtype=f"{order}i4", count=count, offset=dims.start).tolist()
    if not 2 <= count <= 32 or min(shape) < 0:
        raise ValueError(f"a matrix of shape {shape} at byte {matrix.start}")
    size, kind, at = math.prod(shape), word & 0xFF, name.following
    if kind in NUMERIC or kind == CHAR:
        for _ in range(2 if word & 0x0800 else 1):  # complex numbers have a second part
            part = _element(data, at, end, order)
            width = STORED.get(part.kind, 0)
            n_bytes = part.stop - part.start
            # utf-8 text may be longer or shorter than its characters, never less than one byte
            fits = n_bytes == size * width or (kind == CHAR and size <= n_bytes)
            if not width or not fits:
                raise ValueError(f"{n_bytes} bytes for a matrix of shape {shape}")
            at = part.following
        return
    if kind == STRUCT:
        length = _element(data, at, end, order)
        fields = _element(data, length.following, end, order)
        width = int.from_bytes(
            data[length.start : length.stop], "big" if order == ">" else "little"
        )
        if not 0 < width <= 64 or (fields.stop - fields.start) % width:
            raise ValueError(f"field names of {width} bytes")
        size *= (fields.stop - fields.start) // width
        at = fields.following
    elif kind != CELL:
        raise ValueError(f"class {kind} is neither numbers, text, cell nor struct")
    if size * 8 > end - at:
        raise ValueError(f"{size} entries cannot stand in {end - at} bytes")
    for _ in range(size):
        entry = _element(data, at, end, order)
        _check(data, entry, order, depth + 1)
        at = entry.following
