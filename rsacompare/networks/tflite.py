"""TFLite files as networks: every operation's output, in real numbers, by a readable name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rsacompare import plugins
from rsacompare.errors import DataError, MissingDependency, ProtocolError
from rsacompare.networks.network import Forward, Layer, Network
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.networks.tflite_file import WEIGHTED, Model, Operation, Tensor, read_model
from rsacompare.schema.store import file_sha256

# last parts of a tensor's name that say no more than the kind of operation does
_GENERIC = re.compile(
    r"(relu\w?|biasadd|add_fold|conv2d(_fold)?|depthwise(_fold)?|matmul|fusedbatchnorm\w*"
    r"|batch_?norm\w*|softmax|reshape|avgpool|bias_?add)(_\d+)?(:\d+)?",
    re.IGNORECASE,
)
_INTEGERS = {"uint8": (0, 255), "int8": (-128, 127)}


class TFLiteNetwork(Network):
    """A network in a `.tflite` file.

    Every operation is a layer. What is fused into it belongs to it: a convolution with a fused
    ReLU6 can be read after the ReLU6 only, and its `op` says so (`conv+relu6`). Quantised outputs
    are read as the real numbers that they stand for, ``scale * (q - zero_point)``.

    Parameters
    ----------
    file : path
    name : str, optional
        By default the file's.
    preprocessing : Preprocessing, optional
        By default the whole picture at the size in the file, bicubic with antialiasing; pixels as
        they are for a quantised network, -1 to 1 for a float one.
    sets, attrs : mapping, optional
        See :class:`Network`.
    threads : int
        Of the interpreter.

    Raises
    ------
    DataError
        No TFLite file, a damaged one, or one that takes no RGB picture.

    Notes
    -----
    Specs: `name`; `name:relu6` and the like for what `op` says is fused, `name:linear` where
    nothing is; at the end `name:softmax`, and `name:logits` for what goes into it.
    """

    def __init__(
        self,
        file: str | Path,
        name: str | None = None,
        preprocessing: Preprocessing | None = None,
        sets: Mapping[str, Sequence[str]] | None = None,
        attrs: Mapping[str, Any] | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self.file = Path(file)
        self.name = name or self.file.stem
        self.threads = threads
        self._model = read_model(self.file)
        self._input = _picture_input(self.file, self._model)
        taken = self._model.tensors[self._input]
        height, width = taken.shape[1:3]
        self.preprocessing = preprocessing or Preprocessing(
            size=(height, width),
            scaling="raw" if taken.dtype in _INTEGERS else "tf",
            resize="bicubic_antialias",
        )
        if tuple(self.preprocessing.size) != (height, width):
            raise ProtocolError(
                f"network {self.name} takes pictures of {height} x {width}, the preprocessing "
                f"makes {' x '.join(map(str, self.preprocessing.size))}"
            )
        self._layers, self._operations = _layers(self._model)
        if not self._layers:
            raise DataError(f"{self.file} has no operation that can be read for a picture")
        self.sets = {"default": default_set(self._layers), **(sets or {})}
        self.attrs = {
            "weights": f"those in {self.file.name}",
            "weights_sha256": file_sha256(self.file),
            "framework": "TFLite",
            **(attrs or {}),
        }

    @cached_property
    def _index(self) -> dict[str, int]:
        """Where a layer stands, by its name and by the one in the file."""
        originals = (self.original_name(layer.name) for layer in self._layers)
        return {name: k for k, name in enumerate(originals)} | {
            layer.name: k for k, layer in enumerate(self._layers)
        }

    def layers(self) -> list[Layer]:
        """All operations, in the order they run."""
        return list(self._layers)

    def original_name(self, layer: str) -> str:
        """The name in the file: of all operations that were fused into this one."""
        position = [known.name for known in self._layers].index(layer)
        return self._model.tensors[self._operations[position].output].name

    def layer(self, spec: str) -> Layer:
        """The layer that a spec `name[:op]` means.

        Raises
        ------
        ProtocolError
            No such layer (with the nearest name), or no such operation there.
        """
        found = self._layers[self._find(spec)]
        if spec in self._index:
            return found
        asked = spec.rpartition(":")[2]
        return replace(found, name=spec, op=asked if asked == "logits" else found.op)

    def _find(self, spec: str) -> int:
        """Position of the operation whose output a spec means."""
        if spec in self._index:
            return self._index[spec]
        name, _, asked = spec.rpartition(":")
        if not name:
            name, asked = spec, ""
        if name not in self._index:
            known = [layer.name for layer in self._layers]
            raise ProtocolError(plugins.unknown(f"layer of {self.name}", name, known))
        position = self._index[name]
        operation = self._operations[position]
        last = self._ends_in_logits(position)
        there = [operation.fused or "linear"] if operation.op in WEIGHTED else []
        if operation.fused and not there:
            there = [operation.fused]
        if operation.op == "softmax":
            there = ["softmax", "logits"]
        elif last:
            there.append("logits")
        if asked not in there:
            if asked in ("linear", "conv", "dense", "add") and operation.fused:
                raise ProtocolError(
                    f"layer {name} of {self.name} has its {operation.fused.upper()} fused into "
                    "it: the file keeps no output before it; ask for "
                    f"'{name}' or '{name}:{operation.fused}'"
                )
            text = plugins.unknown(f"operation at layer {name} of {self.name}", asked, there)
            raise ProtocolError(text)
        if operation.op == "softmax" and asked == "logits":
            return self._producers[operation.inputs[0]]
        return position

    @cached_property
    def _producers(self) -> dict[int, int]:
        """{tensor: position of the operation that makes it}."""
        return {op.output: k for k, op in enumerate(self._operations)}

    def _ends_in_logits(self, position: int) -> bool:
        """Whether what an operation makes is, at most reshaped, what the softmax takes."""
        made = {self._operations[position].output}
        for operation in self._operations[position + 1 :]:
            if made.intersection(operation.inputs):
                if operation.op == "softmax":
                    return True
                if operation.op != "reshape":
                    return False
                made.add(operation.output)
        return operation_is_last(self._operations, position)

    def forward(self, specs: Sequence[str]) -> Forward:
        """A function that runs pictures through the network and reads the layers asked for.

        Pictures go one at a time: the shapes in such a file are those of one picture.
        """
        wanted = {spec: self._operations[self._find(spec)].output for spec in specs}
        shapes = {spec: self._layers[self._find(spec)].shape for spec in specs}
        tensors = self._model.tensors
        interpreter = self._interpreter()
        taken = tensors[self._input]

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            pictures = as_input(images, taken)
            out = {
                spec: np.empty((len(pictures), *shape), dtype=np.float32)
                for spec, shape in shapes.items()
            }
            for row, picture in enumerate(pictures):
                interpreter.set_tensor(self._input, picture[None])
                interpreter.invoke()
                for spec, index in wanted.items():
                    out[spec][row] = dequantised(interpreter.get_tensor(index), tensors[index])[0]
            return out

        return run

    def _interpreter(self) -> Any:
        """One of its own for every caller; without the default delegate, which hides tensors."""
        module = interpreter_module()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                interpreter = module.Interpreter(
                    str(self.file),
                    experimental_preserve_all_tensors=True,
                    experimental_op_resolver_type=(
                        module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                    ),
                    num_threads=self.threads,
                )
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as err:
            said = " ".join(str(err).split())
            raise DataError(f"TFLite cannot run {self.file}: {said}") from err
        return interpreter


def interpreter_module() -> ModuleType:
    """The module with TFLite's interpreter: LiteRT's, else TensorFlow's.

    Raises
    ------
    MissingDependency
        Neither is installed.
    """
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        try:
            from tensorflow.lite.python import interpreter
        except ImportError:
            raise MissingDependency(
                "TFLite files need an interpreter: pip install ai-edge-litert"
            ) from None
    module: ModuleType = interpreter
    return module


def dequantised(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The real numbers that a tensor's values stand for: ``scale * (q - zero_point)``.

    Parameters
    ----------
    values : array of the tensor's shape
    tensor : Tensor
        With one scale and zero point, or one for each slice of dimension `axis`.

    Returns
    -------
    float32 array

    Examples
    --------
    >>> one = Tensor("x", (1, 2), "uint8", np.array([0.5]), np.array([128]), 0, False)
    >>> dequantised(np.array([[128, 130]], dtype=np.uint8), one)
    array([[0., 1.]], dtype=float32)
    """
    if len(tensor.scale) == 0 or values.dtype.kind not in "iu":
        return values.astype(np.float32, copy=False)
    zero = tensor.zero_point if len(tensor.zero_point) else np.zeros(1, dtype=np.int64)
    scale = tensor.scale.astype(np.float64)
    if len(scale) > 1:
        shape = [1] * values.ndim
        shape[tensor.axis] = -1
        scale = scale.reshape(shape)
        zero = zero.reshape(shape) if len(zero) > 1 else zero
    return (scale * (values.astype(np.int64) - zero)).astype(np.float32)


def as_input(images: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Pictures as the network takes them: a quantised one takes pixels, int8 those less 128."""
    if tensor.dtype not in _INTEGERS:
        return np.ascontiguousarray(images, dtype=tensor.dtype)
    low, high = _INTEGERS[tensor.dtype]
    return np.clip(np.rint(images) + low, low, high).astype(tensor.dtype)


def operation_is_last(operations: Sequence[Operation], position: int) -> bool:
    """Whether a dense layer or convolution's output is the network's, without a softmax."""
    operation = operations[position]
    used = {tensor for other in operations for tensor in other.inputs}
    return operation.op in WEIGHTED and not operation.fused and operation.output not in used


def _picture_input(file: Path, model: Model) -> int:
    """The tensor that takes the picture."""
    shapes = {index: model.tensors[index].shape for index in model.inputs}
    found = [i for i, shape in shapes.items() if len(shape) == 4 and shape[3] == 3]
    if len(shapes) != 1 or not found or prod(shapes[found[0]]) == 0:
        listed = ", ".join(str(shape) for shape in shapes.values()) or "none"
        raise DataError(
            f"{file} takes no RGB picture: one input (1, height, width, 3) is expected, got {listed}"
        )
    tensor = model.tensors[found[0]]
    if shapes[found[0]][0] != 1 or tensor.dtype not in (*_INTEGERS, "float32"):
        raise DataError(
            f"{file} takes {shapes[found[0]]} {tensor.dtype}; one picture of uint8, int8 or "
            "float32 is expected"
        )
    return found[0]


def _layers(model: Model) -> tuple[list[Layer], list[Operation]]:
    """The operations that can be read for a picture, and how deep each lies."""
    ways: dict[int, int] = {}
    kept, counts = [], []
    for operation in model.operations:
        before = max((ways.get(i, 0) for i in operation.inputs), default=0)
        ways[operation.output] = before + (operation.op in WEIGHTED)
        tensor = model.tensors[operation.output]
        if len(tensor.shape) > 1 and tensor.shape[0] == 1 and prod(tensor.shape):
            kept.append(operation)
            counts.append(ways[operation.output])
    deepest = max(ways.values(), default=0) or 1
    names = short_names([(model.tensors[o.output].name, o.op) for o in kept])
    layers = [
        Layer(
            name=name,
            op=f"{operation.op}+{operation.fused}" if operation.fused else operation.op,
            shape=model.tensors[operation.output].shape[1:],
            n_parameters=operation.n_parameters,
            index=index,
            depth=count / deepest,
        )
        for index, (name, operation, count) in enumerate(zip(names, kept, counts, strict=True))
    ]
    return layers, kept


def short_names(tensors: Sequence[tuple[str, str]]) -> list[str]:
    """Short, readable and unique names from those of the tensors.

    Parameters
    ----------
    tensors : sequence of (name in the file, kind of operation)

    Examples
    --------
    >>> short_names([
    ...     ("Net/Net/Conv2d_0/Relu6;Net/Net/Conv2d_0/add_fold", "conv"),
    ...     ("Net/Logits/Conv2d_1c_1x1/BiasAdd", "conv"),
    ...     ("Net/Predictions/Softmax", "softmax"),
    ...     ("StatefulPartitionedCall:0", "add"),
    ... ])
    ['Conv2d_0', 'Logits_Conv2d_1c_1x1', 'Predictions', 'add']
    """
    firsts = [name.split(";")[0].strip("/").split("/") for name, _ in tensors]
    scopes = [parts[0] for parts in firsts if len(parts) > 1]
    scope = max(set(scopes), key=scopes.count) if scopes else ""
    common = bool(scope) and scopes.count(scope) > len(firsts) / 2
    names = []
    for parts, (_, op) in zip(firsts, tensors, strict=True):
        while common and len(parts) > 1 and parts[0] == scope:
            parts = parts[1:]
        while len(parts) > 1 and _GENERIC.fullmatch(parts[-1]):
            parts = parts[:-1]
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", "_".join(parts)).strip("_")
        if not name or re.match(r"(StatefulPartitionedCall|Identity)(_|$)", name):
            name = op
        names.append(name)
    used: set[str] = set()
    for k, name in enumerate(names):
        new, number = name, 1
        while new in used or (new != name and new in names):
            number += 1
            new = f"{name}_{number}"
        names[k] = new
        used.add(new)
    return names


def default_set(layers: Sequence[Layer]) -> list[str]:
    """TODO shared."""
    return [layers[0].name]
