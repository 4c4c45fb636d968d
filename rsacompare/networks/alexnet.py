"""AlexNet as BVLC trained it, in its two orders: AlexNet and CaffeNet.

AlexNet normalises before it pools (conv, relu, norm, pool), CaffeNet pools before it normalises,
in layers 1 and 2 alone (FACTS 5); their weights have the same shapes and are not interchangeable.
Every operation is a layer of its own, so that what is read is said by name: `conv1` is before the
ReLU, `relu1` behind it, then `norm1`, `pool1`, …; `fc8` are the logits, `prob` the softmax.
Dropout does nothing when a network only runs, and is left out.

Units are counted in the order height, width, channel, as Keras stores them; Caffe (and the files
of the GOD study) counts channel, height, width. Unit `(c * H + h) * W + w` there is unit
`(h * W + w) * C + c` here. The fully connected layers count alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsacompare.networks import engine
from rsacompare.networks.loading import load_weights
from rsacompare.networks.lrn import CAFFE, local_response_normalization

if TYPE_CHECKING:
    from rsacompare.networks.keras_network import KerasNetwork
    from rsacompare.networks.preprocess import Preprocessing

SIZE = 227
N_PARAMETERS = 60_965_224
WEIGHTS = {
    "alexnet": "networks/bvlcalexnet-12.onnx",
    "caffenet": "networks/caffenet-9.onnx",
}

_CONV = [f"conv{i}" for i in range(1, 6)]
_RELU = [f"relu{i}" for i in range(1, 6)]
SETS = {
    # Yu et al. 2018 took cnn1 to cnn8 from the GOD study, whose CaffeNet prototxt names the
    # ReLU's output apart: conv1 to fc7 are before the ReLU, fc8 before the softmax (FACTS 5).
    "default": [*_CONV, "fc6", "fc7", "fc8"],
    "yu2018": [*_CONV, "fc6", "fc7", "fc8"],
    # Wen et al. 2018 read the blobs conv1 to fc8 of the stock prototxt, where the ReLU works in
    # place: conv1 to fc7 are behind it (FACTS 6.1).
    "wen2018": [*_RELU, "relu6", "relu7", "fc8"],
}

_SOURCE = "Caffe model readme, centre crop"
ABOUT = {
    "alexnet": {"imagenet_top1": 57.1, "imagenet_top1_source": _SOURCE},
    "caffenet": {"imagenet_top1": 57.4, "imagenet_top1_source": _SOURCE},
}
CITATION = (
    "Krizhevsky, Sutskever & Hinton 2012, ImageNet classification with deep convolutional neural "
    "networks, NIPS 25; weights: Jia et al. 2014, Caffe, arXiv:1408.5093"
)


def alexnet(
    weights: str | Path | None = "imagenet",
    *,
    random_state: int = 0,
    preprocessing: str | Preprocessing = "caffe-squash-227",
) -> KerasNetwork:
    """BVLC AlexNet: convolution, ReLU, normalisation, pooling; 227 pixels, groups, 61 M weights.

    Parameters
    ----------
    weights : "imagenet", path or None
        The trained weights (`bvlcalexnet-12.onnx`, 244 MB, fetched once), an ONNX file of the
        same architecture, an npz file of :func:`~rsacompare.networks.weights.save_weights_npz`,
        or random weights.
    random_state : int
        Of random weights.
    preprocessing : str or Preprocessing
        `caffe-squash-227`: as the GOD study showed its pictures, bicubic straight to 227 x 227
        (gd_cnn.py); `caffe-256-227`: Caffe's own centre crop, of which the published top-1 is;
        or your own. All in the order BGR, less the mean of the ImageNet pictures.

    Returns
    -------
    KerasNetwork
        Layer sets `default`, `yu2018` (before the ReLU) and `wen2018` (behind it).

    Raises
    ------
    ProtocolError, DataError, FetchError
        An option that does not exist; weights that cannot be used; weights that cannot be had.
    """
    return _network("alexnet", weights, random_state, preprocessing)


def caffenet(
    weights: str | Path | None = "imagenet",
    *,
    random_state: int = 0,
    preprocessing: str | Preprocessing = "caffe-squash-227",
) -> KerasNetwork:
    """BVLC reference CaffeNet: AlexNet with pooling before normalisation; that of the GOD study.

    Parameters, result and errors as of :func:`alexnet`; the trained weights are `caffenet-9.onnx`.
    """
    return _network("caffenet", weights, random_state, preprocessing)


def _network(
    name: str,
    weights: str | Path | None,
    random_state: int,
    preprocessing: str | Preprocessing,
) -> KerasNetwork:
    from rsacompare.networks.keras_network import KerasNetwork
    from rsacompare.networks.presets import preprocessing as preset

    shown = preset(preprocessing)
    model = build_alexnet() if name == "alexnet" else build_caffenet()
    said = load_weights(
        model, weights, random_state=random_state, published=WEIGHTS[name], about=ABOUT[name]
    )
    order = "normalises before it pools" if name == "alexnet" else "pools before it normalises"
    note = f"{order} in layers 1 and 2; conv and fc layers are read before their ReLU"
    attrs = {"citation": CITATION, "note": note, **said}
    return KerasNetwork(model, name, shown, sets=SETS, attrs=attrs)


def build_alexnet() -> Any:
    """BVLC AlexNet without weights (all zero): a functional ``keras.Model``, BGR pictures in."""
    return _build("alexnet", ("norm", "pool"))


def build_caffenet() -> Any:
    """CaffeNet without weights (all zero): a functional ``keras.Model``, BGR pictures in."""
    return _build("caffenet", ("pool", "norm"))


def _build(name: str, order: tuple[str, str]) -> Any:
    keras = engine.keras()
    normalization = local_response_normalization()

    def conv(x: Any, number: int, filters: int, kernel: int, **options: Any) -> Any:
        # Keras' own groups run here on a CPU, compiled or not; zeros, because all are set later.
        options = {"padding": "same", "kernel_initializer": "zeros", **options}
        x = keras.layers.Conv2D(filters, kernel, name=f"conv{number}", **options)(x)
        return keras.layers.ReLU(name=f"relu{number}")(x)

    def pool(x: Any, number: int) -> Any:
        # Caffe rounds sizes up; 55, 27 and 13 leave nothing to round.
        return keras.layers.MaxPooling2D(3, 2, "valid", name=f"pool{number}")(x)

    def norm_and_pool(x: Any, number: int) -> Any:
        for step in order:
            if step == "pool":
                x = pool(x, number)
            else:
                x = normalization(**CAFFE, name=f"norm{number}")(x)
        return x

    def dense(x: Any, number: int, units: int) -> Any:
        return keras.layers.Dense(units, kernel_initializer="zeros", name=f"fc{number}")(x)

    picture = keras.Input((SIZE, SIZE, 3), name="data")
    x = norm_and_pool(conv(picture, 1, 96, 11, strides=4, padding="valid"), 1)
    x = norm_and_pool(conv(x, 2, 256, 5, groups=2), 2)
    x = conv(x, 3, 384, 3)
    x = conv(x, 4, 384, 3, groups=2)
    x = pool(conv(x, 5, 256, 3, groups=2), 5)
    x = keras.layers.Flatten(name="flatten")(x)  # height, width, channel; Caffe: channel first
    for number in (6, 7):
        x = keras.layers.ReLU(name=f"relu{number}")(dense(x, number, 4096))
    x = keras.layers.Softmax(name="prob")(dense(x, 8, 1000))
    return keras.Model(picture, x, name=name)
