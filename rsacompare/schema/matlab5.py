"""MATLAB's version 5 files, read so that a damaged one ends in an error.

scipy's reader ends in a segmentation fault on some damaged files (a flipped bit is enough), and
no `except` catches that. Here every size is checked against the bytes that are there. What is
read: numbers, text, cells and structs; the rest (sparse, objects, function handles) is named.
Format: MathWorks, "MAT-File Format", R2023a, chapter 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
NUMBERS |= {13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, COMPRESSED = 14, 15
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"}
CLASSES |= {14: "i8", 15: "u8"}
CELL, STRUCT, CHAR = 1, 2, 4
OTHERS = {3: "an object", 5: "a sparse matrix", 16: "a function handle", 17: "an opaque object"}
DEEPEST = 16  # cells in cells
WIDEST = 32  # dimensions
MOST_PACKED = 1032  # how far zlib can pack


class Refused(NamedTuple):
    """A variable that is not read, and why; an error only for one who wants it."""

    why: str


@dataclass
class Cells:
    """A cell array, or a struct array as one {field: value} per element, in column order."""

    values: list[Any]


class BrokenError(ValueError):
    """The bytes are no version 5 file, or one that is damaged."""


def read(data: bytes) -> dict[str, Any]:
    """All variables by name.

    Returns
    -------
    dict
        ndarray (numbers, in their own shape; text, a string per row), :class:`Cells` or
        :class:`Refused`.

    Raises
    ------
    BrokenError
        Not a version 5 file, truncated or damaged.
    """
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise BrokenError("no header of a version 5 (or 7.3) MATLAB file")
    order = "<" if data[126:128] == b"IM" else ">"
    held: dict[str, Any] = {}
    for kind, body in _elements(data[128:], order):
        if kind == COMPRESSED:
            (kind, body), *more = _elements(_inflated(body, order), order)
            if more:
                raise BrokenError("more than one variable in one compressed block")
        if kind == MATRIX:
            name, value = _matrix(body, order, 0)
            if name in held:
                raise BrokenError(f"two variables called '{name}'")
            held[name] = value
        else:
            raise BrokenError(f"an element of type {kind} where a variable should be")
    return held


def _inflated(body: bytes, order: str) -> bytes:
    """A compressed variable: as many bytes as its own tag declares, and no more."""
    stream = zlib.decompressobj()
    tag = stream.decompress(body, 8)
    declared = int(np.frombuffer(tag, f"{order}u4")[1]) if len(tag) == 8 else 0
    if declared > MOST_PACKED * len(body):
        raise BrokenError(f"{declared} bytes are claimed for a block of {len(body)}")
    plain = tag + stream.decompress(stream.unconsumed_tail, declared + 8)
    more = stream.decompress(stream.unconsumed_tail, 1)
    if more or not stream.eof or len(plain) != declared + 8:
        raise BrokenError("a compressed variable of another length than it declares")
    return plain


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, bytes) of each element; every length is checked against what is there."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise BrokenError("it ends within a tag")
        kind, size = np.frombuffer(data, f"{order}u4", 2, at).tolist()
        if kind >> 16:  # small: size and type share a word, the data the other
            kind, size = kind & 0xFFFF, kind >> 16
            start, after = at + 4, at + 8
            if size > 4:
                raise BrokenError(f"a small element of {size} bytes")
        else:
            start = at + 8
            after = start + size + (0 if kind == COMPRESSED else -size % 8)
        if start + size > len(data):
            raise BrokenError(f"{size} bytes are claimed where {len(data) - start} are left")
        yield kind, data[start : start + size]
        at = after


def _matrix(body: bytes, order: str, depth: int) -> tuple[str, Any]:
    """(name, value) of an array element."""
    if not body:
        return "", np.zeros((0, 0))
    if depth > DEEPEST:
        raise BrokenError("cells within cells without end")
    parts = _elements(body, order)
    kind = int(_numbers(*_next(parts), order)[0]) & 0xFF
    if kind in OTHERS:
        # an opaque object has no dimensions; where there is a name it follows them
        after = [data for _, data in parts][:2]
        called = after[0 if kind == 17 else -1] if after else b""
        return called.decode("latin-1"), Refused(f"{OTHERS[kind]} of MATLAB")
    shape = tuple(int(n) for n in _numbers(*_next(parts), order))
    if not 2 <= len(shape) <= WIDEST or min(shape) < 0:
        raise BrokenError(f"an array of shape {shape}")
    name = _next(parts)[1].decode("latin-1")
    count = prod(shape)
    if kind in (CELL, STRUCT):
        fields = _fields(parts, order) if kind == STRUCT else [""]
        if count > len(body):
            raise BrokenError(f"a cell array claims {shape}, more than the file holds")
        children = [_child(parts, order, depth) for _ in range(count * len(fields))]
        if kind == CELL:
            return name, Cells(children)
        width = len(fields)
        rows = [children[i * width : (i + 1) * width] for i in range(count)]
        return name, Cells([dict(zip(fields, row, strict=True)) for row in rows])
    if kind == CHAR:
        return name, _text(parts, shape, order)
    if kind not in CLASSES:
        raise BrokenError(f"an array of class {kind}")
    values = _numbers(*_next(parts), order)
    if values.size != count:
        raise BrokenError(f"'{name}' has {values.size} values for shape {shape}")
    if next(parts, None) is not None:
        return name, Refused("complex numbers")
    return name, values.astype(CLASSES[kind]).reshape(shape, order="F")


def _child(parts: Iterator[tuple[int, bytes]], order: str, depth: int) -> Any:
    kind, data = _next(parts)
    if kind != MATRIX:
        raise BrokenError(f"an element of type {kind} in a cell")
    return _matrix(data, order, depth + 1)[1]


def _next(parts: Iterator[tuple[int, bytes]]) -> tuple[int, bytes]:
    part = next(parts, None)
    if part is None:
        raise BrokenError("an array ends too early")
    return part


def _numbers(kind: int, data: bytes, order: str) -> np.ndarray:
    if kind not in NUMBERS:
        raise BrokenError(f"an element of type {kind} where numbers should be")
    dtype = np.dtype(order + NUMBERS[kind])
    if len(data) % dtype.itemsize:
        raise BrokenError(f"{len(data)} bytes of {dtype.itemsize} each")
    return np.frombuffer(data, dtype)


def _fields(parts: Iterator[tuple[int, bytes]], order: str) -> list[str]:
    length = int(_numbers(*_next(parts), order)[0])
    names = _next(parts)[1]
    if length < 1 or len(names) % length:
        raise BrokenError("field names of uneven length")
    cut = [names[i : i + length] for i in range(0, len(names), length)]
    return [name.split(b"\0", 1)[0].decode("latin-1") for name in cut]


def _text(parts: Iterator[tuple[int, bytes]], shape: tuple[int, ...], order: str) -> np.ndarray:
    """A string per row of a char matrix, without the blanks that pad it."""
    part = next(parts, None)
    if prod(shape) == 0:
        return np.zeros(shape[0] if shape[0] == 0 else 1, dtype="U1")
    if part is None or part[0] not in TEXTS:
        raise BrokenError("text of no known kind")
    code = TEXTS[part[0]]
    code += {"<": "-le", ">": "-be"}[order] if code in ("utf-16", "utf-32") else ""
    letters = part[1].decode(code)
    if not letters:  # some versions store a blank so
        return np.array([""], dtype="U1")
    if len(letters) != prod(shape) or len(shape) != 2:
        raise BrokenError(f"{len(letters)} letters for shape {shape}")
    return np.array([letters[row :: shape[0]].rstrip("\0 ") for row in range(shape[0])], dtype=str)
