"""SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360): eight fire modules, 1.2 M weights.

Two versions share the weights' shapes: the authors' Caffe network (227 pixels, BGR, `conv10`
padded by one, 15 x 15 places) and torchvision's (224 pixels, RGB, no padding, 13 x 13). Every
operation is a layer of its own; `fire2_squeeze` and `fire2_expand1x1` are before their ReLU,
`fire2_concat` is the module's output, `pool10` what the softmax reads (behind the ReLU of
`conv10`, so never negative).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsacompare.errors import ProtocolError
from rsacompare.networks import engine
from rsacompare.networks.loading import load_weights

if TYPE_CHECKING:
    from rsacompare.networks.keras_network import KerasNetwork
    from rsacompare.networks.preprocess import Preprocessing

N_PARAMETERS = 1_248_424
FIRE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}  # squeeze channels; expand 4 + 4
SIZES = {"caffe": 227, "torchvision": 224}
SHOWN = {"caffe": "caffe-256-227", "torchvision": "torchvision"}  # names of preprocessing
SETS = {
    # convolutions on the way from the picture: 1, 3, 5, 7, 11, 13, 17, 18 of 18
    "default": [
        "relu1",
        "fire2_concat",
        "fire3_concat",
        "fire4_concat",
        "fire6_concat",
        "fire7_concat",
        "fire9_concat",
        "pool10",
    ]
}
CITATION = (
    "Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB "
    "model size, arXiv:1602.07360"
)


def squeezenet(
    weights: str | Path | None = "imagenet",
    *,
    version: str = "caffe",
    random_state: int = 0,
    preprocessing: str | Preprocessing | None = None,
) -> KerasNetwork:
    """SqueezeNet 1.0 with weights of your own: an npz or ONNX file, or random.

    Parameters
    ----------
    weights : path or None
        An npz file of :func:`~rsacompare.networks.weights.save_weights_npz` (whose `attrs` may
        say `imagenet_top1` and its source), an ONNX file of the same architecture, or None for
        random weights. "imagenet" is refused, because none are registered: the ONNX model zoo's
        `squeezenet1.0-8.onnx` (4,952,222 bytes) is too small to hold 1,248,424 weights.
    version : {"caffe", "torchvision"}
        Whose input size, preprocessing and padding of the last convolution.
    random_state : int
        Of random weights.
    preprocessing : str or Preprocessing, optional
        In place of the version's own.

    Returns
    -------
    KerasNetwork

    Raises
    ------
    ProtocolError, DataError
        No such version; weights that cannot be used.
    """
    from rsacompare.networks.keras_network import KerasNetwork
    from rsacompare.networks.presets import preprocessing as preset

    model = build_squeezenet(version)
    said = load_weights(model, weights, random_state=random_state)
    attrs = {"citation": CITATION, "note": f"SqueezeNet 1.0 as in {version}", **said}
    shown = preset(SHOWN[version] if preprocessing is None else preprocessing)
    return KerasNetwork(model, "squeezenet", shown, sets=SETS, attrs=attrs)


def build_squeezenet(version: str = "caffe") -> Any:
    """SqueezeNet 1.0 without weights (all zero): a functional ``keras.Model``.

    Raises
    ------
    ProtocolError
        No such version.
    """
    if version not in SIZES:
        raise ProtocolError(
            f"squeezenet: version must be one of {', '.join(SIZES)}, got '{version}'"
        )
    keras = engine.keras()

    def conv(x: Any, name: str, filters: int, kernel: int, **options: Any) -> Any:
        options = {"padding": "valid", "kernel_initializer": "zeros", **options}
        return keras.layers.Conv2D(filters, kernel, name=name, **options)(x)

    def relu(x: Any, name: str) -> Any:
        return keras.layers.ReLU(name=name)(x)

    def pool(x: Any, number: int) -> Any:
        # Sizes are rounded up, by Caffe always and by torchvision here: where the last window
        # hangs over by one, "same" adds that one behind; where it fits, "same" would shift.
        padding = "valid" if x.shape[1] % 2 else "same"
        return keras.layers.MaxPooling2D(3, 2, padding, name=f"pool{number}")(x)

    picture = keras.Input((SIZES[version], SIZES[version], 3), name="data")
    x = pool(relu(conv(picture, "conv1", 96, 7, strides=2), "relu1"), 1)
    for number, channels in FIRE.items():
        name = f"fire{number}"
        x = relu(conv(x, f"{name}_squeeze", channels, 1), f"{name}_squeeze_relu")
        one = conv(x, f"{name}_expand1x1", 4 * channels, 1)
        three = conv(x, f"{name}_expand3x3", 4 * channels, 3, padding="same")
        both = [relu(one, f"{name}_expand1x1_relu"), relu(three, f"{name}_expand3x3_relu")]
        x = keras.layers.Concatenate(name=f"{name}_concat")(both)
        if number in (4, 8):
            x = pool(x, number)
    if version == "caffe":
        x = keras.layers.ZeroPadding2D(1, name="conv10_pad")(x)
    x = relu(conv(x, "conv10", 1000, 1), "relu10")
    x = keras.layers.GlobalAveragePooling2D(name="pool10")(x)
    return keras.Model(picture, keras.layers.Softmax(name="prob")(x), name="squeezenet")
