"""What each weighted operation of a network reads: comparable between a model and a file.

Said in the words of ONNX, nearest operation first: `MaxPool(3, 3)/(2, 2) Relu 1` is the pooled,
rectified output of the first convolution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Step:
    """One weighted operation, of a file or of a model; comparable between the two."""

    name: str
    kind: str  # conv, dense
    reads: str  # which steps' outputs, through which operations: "MaxPool LRN Relu 1"
    options: dict[str, Any]  # stride, pad, groups of a convolution
    kernel: np.ndarray | tuple[int, ...]  # of a file in Keras' layout; of a model its shape
    bias: np.ndarray | None = None
    flattened: tuple[int, ...] | None = None  # of a model: (height, width, channel) before it


@dataclass
class Graph:
    """The weighted operations in order, and what is done with the last one."""

    steps: list[Step] = field(default_factory=list)
    tail: str = ""


def lrn_words(size: int, alpha: float, bias: float, beta: float) -> str:
    """Alpha as Caffe, ONNX and torch have it: divided by size when it is used."""
    return f"({size}, alpha {alpha:.3g}, k {bias:.3g}, beta {beta:.3g})"


def model_graph(model: Any) -> Graph:
    """The weighted operations of a functional Keras model, said in the words of ONNX."""
    import keras

    graph, said, flat = Graph(), {}, {}
    pads: dict[str, int] = {}
    names = {
        keras.layers.ReLU: "Relu",
        keras.layers.Concatenate: "Concat",
        keras.layers.GlobalAveragePooling2D: "GlobalAveragePool",
        keras.layers.Softmax: "Softmax",
    }
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            said[layer.name] = "picture"
            continue
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        above = [tensor._keras_history.operation.name for tensor in tensors]
        inputs = [said[name] for name in above]
        source = inputs[0] if len(inputs) == 1 else f"({', '.join(inputs)})"
        said[layer.name] = source
        if isinstance(layer, keras.layers.Flatten):
            flat[layer.name] = tuple(layer.input.shape[1:])
        elif isinstance(layer, keras.layers.ZeroPadding2D):
            pads[layer.name] = layer.padding[0][0]
        elif isinstance(layer, keras.layers.Conv2D):
            pad = pads.get(above[0], 0)
            if layer.padding == "same":
                pad += (layer.kernel_size[0] - 1) // 2
            options = {
                "stride": tuple(layer.strides),
                "pad": (pad,) * 4,
                "groups": layer.groups,
                "dilation": tuple(layer.dilation_rate),
            }
            graph.steps.append(Step(layer.name, "conv", source, options, tuple(layer.kernel.shape)))
            said[layer.name] = str(len(graph.steps))
        elif isinstance(layer, keras.layers.Dense):
            shape = tuple(layer.kernel.shape)
            step = Step(layer.name, "dense", source, {}, shape, flattened=flat.get(above[0]))
            graph.steps.append(step)
            said[layer.name] = str(len(graph.steps))
        elif isinstance(layer, keras.layers.MaxPooling2D):
            size, stride = tuple(layer.pool_size), tuple(layer.strides)
            said[layer.name] = f"MaxPool{size}/{stride} {source}"
        elif type(layer).__name__ == "LocalResponseNormalization":
            size = 2 * layer.depth_radius + 1
            numbers = lrn_words(size, layer.alpha * size, layer.bias, layer.beta)
            said[layer.name] = f"LRN{numbers} {source}"
        else:
            said[layer.name] = f"{names.get(type(layer), type(layer).__name__)} {source}"
    graph.tail = said[model.outputs[0]._keras_history.operation.name]
    return graph
