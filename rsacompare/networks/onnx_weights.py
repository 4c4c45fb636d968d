"""Weights of a Keras network from an ONNX file of the same architecture.

ONNX files name their weights as they like, so weights are found by their place in the graph: the
convolutions and dense layers in order. Whether the file is of this architecture is told from the
graph itself: what every one of them reads (which earlier ones, through which operations), kernel,
stride, padding and groups of convolutions and pools, numbers of the normalisations. A CaffeNet is
so told from an AlexNet, though all their weights have the same shapes. The size of the pictures is
not compared: the AlexNet of the ONNX model zoo was exported for 224 pixels, with 54 x 54 units in
conv1, and has the weights of the network trained on 227 pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rsacompare.errors import DataError, MissingDependency
from rsacompare.networks import weights
from rsacompare.networks.wiring import Graph, Step, lrn_words, model_graph

# Operations that only hand on what they get, as far as the values of units are concerned.
SILENT = {"Dropout", "Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast"}
WEIGHTED = {"Conv": "conv", "Gemm": "dense", "MatMul": "dense"}


def load_weights_onnx(model: Any, path: str | Path) -> None:
    """Read the weights of an ONNX file into a Keras model of the same architecture.

    Parameters
    ----------
    model : keras.Model
        Changed in place, or left as it was when an error is raised. Its dense layers behind a
        flattened convolution count units in the order height, width, channel; the file's in
        channel, height, width: rows are permuted.
    path : str or path

    Raises
    ------
    DataError
        No such file, a Git LFS pointer, a damaged or truncated file; another architecture (with
        the layer, what was expected and what was found); weights that are NaN.
    """
    path = Path(path)
    found, expected = read_onnx(path), model_graph(model)
    count = f"{len(expected.steps)} convolutions and dense layers"
    if len(found.steps) != len(expected.steps):
        raise DataError(
            f"{path}: expected the {count} of {model.name}, found {len(found.steps)}: "
            f"{_summary(found)}"
        )
    arrays: dict[str, np.ndarray] = {}
    for place, (theirs, ours) in enumerate(zip(found.steps, expected.steps, strict=True), 1):
        what = f"{path}: {ours.name} of {model.name} (node '{theirs.name}', {place} of {count})"
        _compare(what, ours, theirs)
        kernel, shape = np.asarray(theirs.kernel), tuple(ours.kernel)
        weights.check(kernel, shape, f"{what}, kernel")
        if theirs.bias is None:
            raise DataError(f"{what}: expected a bias of shape {shape[-1:]}, found none")
        weights.check(theirs.bias, shape[-1:], f"{what}, bias")
        if ours.flattened is not None:
            height, width, channels = ours.flattened
            by_place = kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3)
            kernel = by_place.reshape(shape)
        arrays[f"{ours.name}.kernel"], arrays[f"{ours.name}.bias"] = kernel, theirs.bias
    tails = [graph.tail.removeprefix("Softmax ") for graph in (expected, found)]
    if tails[0] != tails[1]:  # a file may end with logits
        raise DataError(
            f"{path}: behind the last layer of {model.name} expected {tails[0]!r}, "
            f"found {tails[1]!r}"
        )
    weights.assign(model, arrays, path)


def _compare(what: str, ours: Step, theirs: Step) -> None:
    for expected, found, label in (
        (ours.kind, theirs.kind, "operation"),
        (ours.reads, theirs.reads, "input (nearest operation first, then the layer's number)"),
        *((ours.options[key], theirs.options.get(key), key) for key in ours.options),
    ):
        if expected != found:
            hint = ""
            if "LRN" in f"{expected}{found}" and sorted(str(expected)) == sorted(str(found)):
                hint = "; AlexNet normalises before it pools, CaffeNet pools before it normalises"
            raise DataError(f"{what}: expected {label} {expected!r}, found {found!r}{hint}")


def _summary(graph: Graph) -> str:
    return ", ".join(f"{s.kind} {tuple(np.shape(s.kernel))}" for s in graph.steps[:4]) + (
        ", …" if len(graph.steps) > 4 else ""
    )


# --- a file -------------------------------------------------------------------------------------


def read_onnx(path: Path) -> Graph:
    """The weighted operations of an ONNX file, with their weights in the layout of Keras.

    Raises
    ------
    DataError
        The file cannot be read, or its graph holds what no network of ours has.
    MissingDependency
        onnx is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as err:
        raise MissingDependency(
            f"{path}: reading ONNX files needs onnx: pip install 'rsacompare[networks]' ({err})"
        ) from err
    weights.refuse_pointer(path)
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (DecodeError, ValueError, TypeError, OSError) as err:
        raise DataError(
            f"{path}: expected an ONNX file, but it cannot be read ({err}); it is damaged, "
            f"truncated ({path.stat().st_size:,} bytes) or of another kind"
        ) from err
    if not graph.node:
        raise DataError(f"{path}: expected an ONNX file with a network, found an empty graph")
    try:
        return _FileReader(path, graph).read()
    except (KeyError, TypeError, ValueError, IndexError) as err:  # an attribute lacks, or has lost
        raise DataError(  # its type: not what ONNX says of its operation
            f"{path}: a node of the network lacks what its operation needs ({err}); the file is "
            "damaged or of no valid ONNX"
        ) from err


class _FileReader:
    """Walks the nodes of an ONNX graph, which are stored in the order of computation."""

    def __init__(self, path: Path, graph: Any):
        self.path, self.graph = path, graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.said: dict[str, str] = {
            value.name: "picture" for value in graph.input if value.name not in self.tensors
        }
        self.found = Graph()

    def read(self) -> Graph:
        for node in self.graph.node:
            if node.op_type == "Constant":
                held = [a.t for a in node.attribute if a.name == "value"]
                if held:
                    self.tensors[node.output[0]] = held[0]
                continue
            if any(name in self.tensors for name in node.input[:1]):
                continue  # arithmetic on constants: shapes for a Reshape
            self.said[node.output[0]] = self._say(node)
        last = self.graph.output[0].name if self.graph.output else ""
        if last not in self.said:
            raise DataError(f"{self.path}: the graph's output '{last}' is computed by no node")
        self.found.tail = self.said[last]
        return self.found

    def _say(self, node: Any) -> str:
        attributes = {a.name: _value(a) for a in node.attribute}
        inputs = []
        for name in node.input:
            if name in self.said:
                inputs.append(self.said[name])
            elif name and name not in self.tensors:
                raise DataError(f"{self.path}: node '{_label(node)}' reads '{name}', not computed")
        source = inputs[0] if len(inputs) == 1 else f"({', '.join(inputs)})"
        op = node.op_type
        if op in SILENT:
            return source
        if op in WEIGHTED:
            self.found.steps.append(self._step(node, source, attributes))
            return str(len(self.found.steps))
        if op == "Add" and source.isdigit():  # the bias of a MatMul
            step, added = self.found.steps[int(source) - 1], self._array(node, 1)
            if step.kind == "dense" and step.bias is None and added is not None:
                step.bias = added
                return source
        return f"{op}{_numbers(op, attributes)} {source}"

    def _step(self, node: Any, source: str, attributes: dict[str, Any]) -> Step:
        kernel, bias = self._array(node, 1), self._array(node, 2)
        where = f"{self.path}: node '{_label(node)}'"
        if kernel is None:
            raise DataError(f"{where}: its weights are not in the file")
        options: dict[str, Any] = {}
        if node.op_type == "Conv":
            if kernel.ndim != 4:
                raise DataError(f"{where}: expected a kernel with 4 axes, found {kernel.shape}")
            kernel = kernel.transpose(2, 3, 1, 0)
            automatic = attributes.get("auto_pad", "NOTSET")
            pads = attributes.get("pads", [0, 0, 0, 0])
            options = {
                "stride": tuple(attributes.get("strides", [1, 1])),
                "pad": tuple(pads) if automatic in ("NOTSET", "VALID") else automatic,
                "groups": attributes.get("group", 1),
                "dilation": tuple(attributes.get("dilations", [1, 1])),
            }
        else:
            if kernel.ndim != 2:
                raise DataError(f"{where}: expected a matrix of weights, found {kernel.shape}")
            if node.op_type == "Gemm":
                scale = (attributes.get("alpha", 1.0), attributes.get("beta", 1.0))
                if scale != (1.0, 1.0) or attributes.get("transA", 0):
                    raise DataError(f"{where}: expected alpha 1, beta 1, transA 0, found others")
                if attributes.get("transB", 0):
                    kernel = kernel.T
            if bias is not None:
                bias = bias.reshape(-1)
        return Step(_label(node), WEIGHTED[node.op_type], source, options, kernel, bias)

    def _array(self, node: Any, index: int) -> np.ndarray | None:
        from onnx import TensorProto, numpy_helper

        name = node.input[index] if index < len(node.input) else ""
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        if tensor.data_location == TensorProto.EXTERNAL:
            raise DataError(f"{self.path}: '{name}' lies in another file; save the model as one")
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as err:
            raise DataError(f"{self.path}: '{name}' cannot be read ({err}): damaged") from err


def _label(node: Any) -> str:
    return node.name or (node.output[0] if node.output else node.op_type)


def _value(attribute: Any) -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _numbers(op: str, attributes: dict[str, Any]) -> str:
    """What of an operation's numbers decides over values: of pools and normalisations."""
    if op == "MaxPool":
        # Padding at the end is how exporters write Caffe's rounding up; at the start it shifts.
        start = tuple(attributes.get("pads", [0, 0])[:2])
        kernel, stride = attributes["kernel_shape"], attributes.get("strides", [1, 1])
        return f"{tuple(kernel)}/{tuple(stride)}" + (f" from {start}" if any(start) else "")
    if op == "LRN":
        return lrn_words(
            attributes["size"],
            attributes.get("alpha", 1e-4),
            attributes.get("bias", 1.0),
            attributes.get("beta", 0.75),
        )
    return ""
