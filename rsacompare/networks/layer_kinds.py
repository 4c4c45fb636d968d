"""What kind of operation a Keras layer is: the words that layer specs and tables use."""

from __future__ import annotations

import re
from typing import Any

# class name -> kind, for those that a layer spec or the choice of default layers asks about
_KINDS = {
    "InputLayer": "input",
    "Add": "add",
    "CustomScaleLayer": "add",  # Inception-ResNet: inputs[0] + scale * inputs[1]
    "Concatenate": "concat",
    "Dropout": "dropout",
    "SpatialDropout2D": "dropout",
    "GaussianDropout": "dropout",
    "GaussianNoise": "dropout",
    "AlphaDropout": "dropout",
    "ZeroPadding2D": "pad",
    "Flatten": "reshape",
    "Reshape": "reshape",
    "Softmax": "softmax",
    "Relu": "relu",
    "Relu6": "relu",
}


def kind_of(operation: Any) -> tuple[str, str]:
    """Kind of an operation, and of the activation inside it (convolution, dense; "" for none)."""
    import keras

    layers = keras.layers
    named = type(operation).__name__
    convs = (
        layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv2DTranspose,
        layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D,
        layers.SeparableConv2D,
    )  # fmt: skip
    if isinstance(operation, convs):
        return "conv", _activation(operation.activation)
    if isinstance(operation, layers.Dense | layers.EinsumDense):
        return "dense", _activation(operation.activation)
    if isinstance(operation, layers.Activation):
        return _activation(operation.activation) or "identity", ""
    if isinstance(operation, layers.ReLU):
        plain = not float(operation.negative_slope) and not float(operation.threshold)
        return ("relu" if plain else "leaky_relu"), ""
    for cls in type(operation).__mro__:
        if cls.__name__ in _KINDS:
            return _KINDS[cls.__name__], ""
    # Normalization rescales pixels, SpectralNormalization wraps another layer
    if named.endswith("Normalization") and named not in ("Normalization", "SpectralNormalization"):
        return "norm", ""
    return ("pool" if "Pool" in named else automatic_name(named)), ""


def automatic_name(class_name: str) -> str:
    """How Keras names a layer of a class where the user gives no name, before the number."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _activation(function: Any) -> str:
    """Name of an activation function or layer; "" for the identity."""
    if function is None:
        return ""
    if hasattr(function, "call"):  # a layer used as an activation
        return kind_of(function)[0]
    name = getattr(function, "__name__", type(function).__name__)
    return {"linear": "", "relu6": "relu"}.get(name, name)
