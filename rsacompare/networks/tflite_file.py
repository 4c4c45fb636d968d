"""What a TFLite file says of its network, read with every offset checked.

The interpreter is C++ and trusts much of a file; here a damaged one is refused by name first. The
format is a flatbuffer: tables of offsets, described in TensorFlow's `schema.fbs`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from rsacompare.errors import DataError

T = TypeVar("T")

# schema.fbs: numbers of types, of operations and of what is fused into them
_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16",
          9: "int8", 10: "float64"}  # fmt: skip
_OPS = {
    0: "add", 1: "pool", 2: "concatenate", 3: "conv", 4: "depthwise_conv", 6: "dequantize",
    9: "dense", 11: "norm", 12: "pool", 13: "norm", 14: "sigmoid", 17: "pool", 18: "multiply",
    19: "relu", 20: "relu", 21: "relu6", 22: "reshape", 25: "softmax", 28: "tanh", 34: "pad",
    39: "transpose", 40: "pool", 41: "subtract", 42: "divide", 43: "reshape", 54: "prelu",
    60: "pad", 67: "conv_transpose", 114: "quantize", 117: "hard_swish",
}  # fmt: skip
_FUSED = {0: "", 1: "relu", 2: "relu1", 3: "relu6", 4: "tanh", 5: "sign"}
# operation number: field of its options that holds the fused activation
_FUSED_FIELD = {0: 0, 1: 5, 2: 1, 3: 3, 4: 4, 9: 0, 11: 0, 12: 5, 17: 5, 18: 0, 41: 0, 42: 0}
WEIGHTED = ("conv", "depthwise_conv", "conv_transpose", "dense")
_HOLDS_PARAMETERS = (*WEIGHTED, "add", "subtract", "multiply", "divide", "prelu")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: its values are known (`constant`), kept (`variable`) or computed.

    `scale` and `zero_point` are empty where it is not quantised; with more than one they belong to
    the slices of dimension `axis`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    constant: bool
    variable: bool = False


@dataclass(frozen=True)
class Operation:
    """An operation that runs for every image; `fused` is the activation inside it, or ""."""

    op: str
    fused: str
    inputs: tuple[int, ...]
    output: int
    n_parameters: int


@dataclass(frozen=True)
class Model:
    """The main graph of a file: tensors by index, operations in the order they run."""

    tensors: list[Tensor]
    operations: list[Operation]
    inputs: list[int]
    outputs: list[int]


def read_model(file: Path) -> Model:
    """Read and check a TFLite file.

    Raises
    ------
    DataError
        No such file, no TFLite file, damaged or truncated.
    """
    try:
        data = file.read_bytes()
    except OSError as err:
        raise DataError(f"cannot read the network {file}: {err.strerror}") from err
    if data[4:8] != b"TFL3":
        raise DataError(
            f"{file} is not a TFLite file: it starts with {data[:8]!r}, and a TFLite file has "
            "'TFL3' as bytes 5 to 8"
        )
    try:
        return _model(_Table(data, _uint(data, 0)))
    except (_Broken, struct.error, UnicodeDecodeError) as err:
        raise DataError(
            f"{file} ({len(data)} bytes) is damaged or truncated: {err}; get it again"
        ) from err


class _Broken(Exception):
    """What does not fit inside the file."""


def _uint(data: bytes, at: int) -> int:
    if not 0 <= at <= len(data) - 4:
        raise _Broken(f"an offset points to byte {at}")
    return int(struct.unpack_from("<I", data, at)[0])


class _Table:
    """A table of a flatbuffer; every field that is absent has its default."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        if not 0 <= at <= len(data) - 4:
            raise _Broken(f"an offset points to byte {at}")
        self.fields = at - struct.unpack_from("<i", data, at)[0]
        if not 0 <= self.fields <= len(data) - 4:
            raise _Broken(f"the table at byte {at} has no list of fields")
        size, length = struct.unpack_from("<HH", data, self.fields)
        self.n_fields, self.length = size // 2 - 2, length
        if self.fields + size > len(data) or at + length > len(data):
            raise _Broken(f"the table at byte {at} ends behind the file")

    def _where(self, field: int) -> int:
        if field >= self.n_fields:
            return 0
        offset = int(struct.unpack_from("<H", self.data, self.fields + 4 + 2 * field)[0])
        if offset and offset >= self.length:
            raise _Broken(f"a field of the table at byte {self.at} lies outside of it")
        return self.at + offset if offset else 0

    def number(self, field: int, kind: str) -> int:
        where = self._where(field)
        return int(struct.unpack_from(f"<{kind}", self.data, where)[0]) if where else 0

    def table(self, field: int) -> _Table | None:
        where = self._where(field)
        return _Table(self.data, where + _uint(self.data, where)) if where else None

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        """First byte and length of a vector."""
        where = self._where(field)
        if not where:
            return 0, 0
        start = where + _uint(self.data, where)
        length = _uint(self.data, start)
        if start + 4 + length * width > len(self.data):
            raise _Broken(f"{length * width} bytes from byte {start} end behind the file")
        return start + 4, length

    def array(self, field: int, dtype: str) -> np.ndarray:
        start, length = self._vector(field, np.dtype(dtype).itemsize)
        return np.frombuffer(self.data, dtype=dtype, count=length, offset=start)

    def text(self, field: int) -> str:
        start, length = self._vector(field, 1)
        return self.data[start : start + length].decode("utf-8")

    def tables(self, field: int) -> Iterator[_Table]:
        start, length = self._vector(field, 4)
        for at in range(start, start + 4 * length, 4):
            yield _Table(self.data, at + _uint(self.data, at))


def _model(root: _Table) -> Model:
    codes = [max(t.number(0, "b"), t.number(3, "i")) for t in root.tables(1)]
    sizes = [_stored(t, len(root.data)) for t in root.tables(4)]
    graphs = list(root.tables(2))
    if not graphs:
        raise _Broken("it holds no graph")
    for other in graphs[1:]:  # of branches and loops: read for their offsets alone
        _graph(other, codes, sizes)
    return _graph(graphs[0], codes, sizes)


def _stored(buffer: _Table, n_bytes: int) -> int:
    """Bytes of a constant; they may lie behind the flatbuffer, by place and size."""
    offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    if offset > 1:
        if offset + size > n_bytes:
            raise _Broken(f"{size} bytes from byte {offset} end behind the file")
        return size
    return buffer._vector(0, 1)[1]


def _graph(graph: _Table, codes: list[int], sizes: list[int]) -> Model:
    tensors = [_tensor(t, sizes) for t in graph.tables(0)]
    inputs, outputs = (_indices(graph, k, tensors) for k in (1, 2))
    fixed = {i for i, tensor in enumerate(tensors) if tensor.constant}
    known = {*inputs, *fixed}
    operations = []
    for table in graph.tables(3):
        code = _at(codes, table.number(0, "I"), "operation code")
        taken = _indices(table, 1, tensors)
        given = _indices(table, 2, tensors)
        for index in taken:
            if index in known or 0 in tensors[index].shape or tensors[index].variable:
                continue
            raise _Broken(f"nothing makes tensor '{tensors[index].name}', which is used")
        known.update(given)
        if not given:
            continue
        if taken and fixed.issuperset(taken):
            fixed.update(given)  # weights stored in another type: made before any image
            continue
        op = _OPS.get(code, f"op{code}")
        options = table.table(4)
        fused = options.number(_FUSED_FIELD[code], "b") if options and code in _FUSED_FIELD else 0
        weights = [prod(tensors[i].shape) for i in taken if i in fixed]
        operations.append(
            Operation(
                op,
                _FUSED.get(fused, f"activation {fused}"),
                tuple(i for i in taken if i not in fixed),
                given[0],
                sum(weights) if op in _HOLDS_PARAMETERS else 0,
            )
        )
    return Model(tensors, operations, inputs, outputs)


def _tensor(table: _Table, sizes: list[int]) -> Tensor:
    shape = tuple(int(n) for n in table.array(0, "<i4"))
    if any(n < 0 for n in shape):
        raise _Broken(f"tensor '{table.text(3)}' has shape {shape}")
    dtype = _TYPES.get(table.number(1, "b"), "other")
    stored = _at(sizes, table.number(2, "I"), "buffer")
    if stored and dtype != "other" and table.table(6) is None:
        wanted = prod(shape) * np.dtype(dtype).itemsize
        if stored != wanted:
            raise _Broken(
                f"tensor '{table.text(3)}' of {shape} {dtype} has {stored} bytes, not {wanted}"
            )
    quantised = table.table(4)
    scale, zero = np.array([], dtype="<f4"), np.array([], dtype="<i8")
    axis = 0
    if quantised is not None:
        scale, zero = quantised.array(2, "<f4"), quantised.array(3, "<i8")
        axis = quantised.number(6, "i")
        per_slice = len(scale) > 1
        if per_slice and not (0 <= axis < len(shape) and shape[axis] == len(scale)):
            raise _Broken(f"tensor '{table.text(3)}' has {len(scale)} scales for shape {shape}")
        if len(zero) not in (0, 1, len(scale)) or not np.isfinite(scale).all():
            raise _Broken(f"tensor '{table.text(3)}' has scales that make no sense")
    return Tensor(
        table.text(3), shape, dtype, scale, zero, axis, bool(stored), bool(table.number(5, "b"))
    )


def _indices(table: _Table, field: int, tensors: list[Tensor]) -> list[int]:
    """Tensors of an operation or a graph; -1 is an optional one that is not there."""
    found = [int(i) for i in table.array(field, "<i4")]
    for index in found:
        if not -1 <= index < len(tensors):
            raise _Broken(f"tensor {index} of {len(tensors)} is asked for")
    return [index for index in found if index >= 0]


def _at(values: list[T], index: int, what: str) -> T:
    if index >= len(values):
        raise _Broken(f"{what} {index} of {len(values)} is asked for")
    return values[index]
