"""TFLite files as networks: every operation's output, in real numbers, by a readable name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rsacompare.errors import DataError, MissingDependency, ProtocolError
from rsacompare.networks import default_layers, engine
from rsacompare.networks.layer_ops import Reading, resolve
from rsacompare.networks.network import Forward, Layer, Network
from rsacompare.networks.preprocess import Preprocessing, Resize
from rsacompare.networks.tflite_file import Model, Tensor, read_model
from rsacompare.networks.tflite_graph import graph_of, label, readable
from rsacompare.schema.store import file_sha256

FUSED_NAMES = {"relu": "ReLU", "relu6": "ReLU6"}
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
        By default the whole picture squashed to the size in the file, bicubic with antialiasing;
        pixels as they are for a quantised network, -1 to 1 for a float one.
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
    What `layer:op` means: :mod:`rsacompare.networks.layer_ops`; `linear` and `abs` of a layer with
    a fused activation are refused, because the file keeps nothing from before it.
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
        self.preprocessing = preprocessing or _preprocessing(taken)
        if self.preprocessing.size != (height, width):
            raise ProtocolError(
                f"network {self.name} takes pictures of {height} x {width}, the preprocessing "
                f"makes {' x '.join(map(str, self.preprocessing.size))}"
            )
        if self.preprocessing.dtype != taken.dtype:
            raise ProtocolError(
                f"network {self.name} takes {taken.dtype}, the preprocessing makes "
                f"{self.preprocessing.dtype}"
            )
        self._operations = readable(self._model)
        self._graph = graph_of(self._model, self._operations)
        self._by_original = {
            self._model.tensors[op.output].name: k for k, op in enumerate(self._operations, 1)
        }
        self.sets = {"default": tuple(default_layers.choose(self._graph)), **(sets or {})}
        self.attrs = {
            "weights": f"those in {self.file.name}",
            "weights_sha256": file_sha256(self.file),
            "framework": "TFLite",
            **(attrs or {}),
        }
        for specs in self.sets.values():
            for spec in specs:
                self.layer(spec)

    def layers(self) -> list[Layer]:
        """All operations, in the order they run."""
        return [
            self._as_layer(k, place.name, label(self._operations[k - 1]))
            for k, place in enumerate(self._graph.places)
            if k
        ]

    def original_name(self, layer: str) -> str:
        """The name in the file: of all operations that were fused into this one."""
        tensor = self._operations[self._read(layer).place - 1].output
        return self._model.tensors[tensor].name

    def layer(self, spec: str) -> Layer:
        """The layer that a spec `name[:op]` means; a name may be the one in the file.

        Raises
        ------
        ProtocolError
            No such layer (with the nearest name), or no such operation there.
        """
        reading = self._read(spec)
        op = label(self._operations[reading.place - 1])
        if reading.op in ("logits", "softmax", "abs", "block"):
            op = reading.op
        return self._as_layer(reading.place, spec, op)

    def _as_layer(self, place: int, name: str, op: str) -> Layer:
        found = self._graph.places[place]
        shape = tuple(int(n or 0) for n in found.shapes[0])
        depth = found.before / max(self._graph.n_weighted, 1)
        return Layer(name, op, shape, found.n_parameters, place - 1, min(depth, 1.0))

    def _read(self, spec: str) -> Reading:
        """What a spec means; the file keeps nothing from before a fused activation."""
        if spec in self._by_original:
            return Reading(self._by_original[spec])
        reading = resolve(self._graph, self.name, spec)
        place = self._graph.places[reading.place]
        fused = self._operations[reading.place - 1].fused
        if fused and reading.change in ("linear", "abs"):
            raise ProtocolError(
                f"network {self.name}: '{spec}' cannot be read: the {FUSED_NAMES.get(fused, fused)}"
                f" of {place.name} is fused into it, and the file keeps no output before it; ask "
                f"for '{place.name}', which is after it"
            )
        return reading

    def forward(self, specs: Sequence[str]) -> Forward:
        """A function that runs pictures through the network and reads the layers asked for.

        Pictures go one at a time: the shapes in such a file are those of one picture.
        """
        readings = {spec: self._read(spec) for spec in specs}
        wanted = {spec: self._operations[r.place - 1].output for spec, r in readings.items()}
        shapes = {spec: self.layer(spec).shape for spec in specs}
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
                try:
                    interpreter.set_tensor(self._input, picture[None])
                    interpreter.invoke()
                except (ValueError, RuntimeError) as err:
                    raise DataError(self._refusal(err)) from err
                for spec, index in wanted.items():
                    found = interpreter.get_tensor(index)
                    if found.shape != tensors[index].shape:
                        raise DataError(
                            f"{self.file} is damaged: layer {spec} is {found.shape}, and by the "
                            f"file {tensors[index].shape}"
                        )
                    values = dequantised(found, tensors[index])[0]
                    out[spec][row] = _CHANGES[readings[spec].change](values)
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
            raise DataError(self._refusal(err)) from err
        return interpreter

    def _refusal(self, err: Exception) -> str:
        return f"TFLite cannot run {self.file}: {' '.join(str(err).split())}"


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
            engine.keras()  # starts TensorFlow without its talk
            from tensorflow.lite.python import interpreter
        except (ImportError, MissingDependency):
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


def _preprocessing(tensor: Tensor) -> Preprocessing:
    """What a network takes by its file alone: pixels (int8: less 128) or, as float, -1 to 1."""
    height, width = tensor.shape[1:3]
    size = (height, width)
    resize: Resize = "bicubic_antialias"
    if tensor.dtype == "float32":
        return Preprocessing(size, "tf", resize)
    if tensor.dtype == "uint8":
        return Preprocessing(size, "raw", resize, dtype="uint8")
    return Preprocessing(size, "raw", resize, dtype="int8", quantization=(1.0, -128))


def as_input(images: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Pictures in the type that the network takes; as floats they may have passed by a batch."""
    if images.dtype.name == tensor.dtype or tensor.dtype not in _INTEGERS:
        return np.ascontiguousarray(images, dtype=tensor.dtype)
    low, high = _INTEGERS[tensor.dtype]
    return np.clip(np.rint(images), low, high).astype(tensor.dtype)


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


# what a layer spec asks to be done to an output; one without a fused activation is linear as it is
_CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": np.asarray,
    "linear": np.asarray,
    "abs": np.abs,
    "softmax": _softmax,
}


def _picture_input(file: Path, model: Model) -> int:
    """The tensor that takes the picture."""
    shapes = {index: model.tensors[index].shape for index in model.inputs}
    found = [i for i, shape in shapes.items() if len(shape) == 4 and shape[3] == 3]
    if len(shapes) != 1 or not found or prod(shapes[found[0]]) == 0:
        listed = ", ".join(str(shape) for shape in shapes.values()) or "none"
        raise DataError(
            f"{file} takes no RGB picture: one input (1, height, width, 3) is expected, got "
            f"{listed}"
        )
    tensor = model.tensors[found[0]]
    if shapes[found[0]][0] != 1 or tensor.dtype not in (*_INTEGERS, "float32"):
        raise DataError(
            f"{file} takes {shapes[found[0]]} {tensor.dtype}; one picture of uint8, int8 or "
            "float32 is expected"
        )
    return found[0]
