"""ResNet-50 of keras.applications, with the layers and the variants of Yu et al. 2018."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsacompare import plugins
from rsacompare.errors import ProtocolError

if TYPE_CHECKING:
    from rsacompare.networks.keras_network import KerasNetwork

_YU = (
    "conv1_conv",
    "conv2_block2_3_conv",
    "conv3_block2_2_conv",
    "conv3_block4_3_conv",
    "conv4_block3_1_conv",
    "conv4_block5_2_conv",
)
_BLOCKS = [
    f"conv{s}_block{b}_out" for s, n in ((2, 3), (3, 4), (4, 6), (5, 3)) for b in range(1, n + 1)
]
SETS = {
    # convolutions before norm and ReLU, and the softmax, as their code sampled them; the seventh
    # is a shortcut projection, probably by an index off by one (FACTS 4.3)
    "yu2018": (*_YU, "conv5_block1_0_conv", "predictions"),
    # main path throughout: layer 43 of the paper
    "yu2018-intended": (*_YU, "conv5_block1_3_conv", "predictions"),
    # the residual blocks' outputs, after addition and ReLU, as studies of features take them
    "blocks": ("conv1_relu", *_BLOCKS, "predictions:logits"),
}
# padding of the picture before conv1, and before pool1: (top, bottom), (left, right)
_PADS = {
    "keras": (((3, 3), (3, 3)), ((1, 1), (1, 1))),
    "yu2018": (((2, 3), (2, 3)), ((0, 0), (0, 0))),
    "yu2018-conv1": (((2, 3), (2, 3)), ((1, 1), (1, 1))),
    "yu2018-pool1": (((3, 3), (3, 3)), ((0, 0), (0, 0))),
}


def resnet50(
    weights: str | Path | None = "imagenet",
    *,
    padding: str = "keras",
    bn_epsilon: float | None = None,
    random_state: int = 0,
    preprocessing: Any = None,
) -> KerasNetwork:
    """ResNet-50 of keras.applications; layer sets yu2018, yu2018-intended, blocks.

    Parameters
    ----------
    weights : "imagenet", path or None
        Keras' download; a file of weights (`.weights.h5`, `.h5`, `.npz`); random.
    padding : {"keras", "yu2018", "yu2018-conv1", "yu2018-pool1"}
        `yu2018`: as in Keras 2.0.7 to 2.1.4, which the code of Yu et al. ran on. There conv1 pads
        the picture by 2 before and 3 after (`padding="same"`), where the weights expect 3 and 3:
        it is sampled one pixel off (`yu2018-conv1` alone); and pool1 does not pad, which makes
        conv2 55 x 55 in place of 56 x 56 (`yu2018-pool1` alone). Names and weights are the same.
    bn_epsilon : float, optional
        Of the normalisations: 1.001e-5 here; the Keras of Yu et al. left its default, 1e-3.
    random_state : int
        Of random weights.
    preprocessing : Preprocessing or name, optional
        By default as Yu et al.: squashed to 224 by nearest neighbour, BGR less ImageNet's means.

    Returns
    -------
    KerasNetwork

    Raises
    ------
    ProtocolError, FetchError, DataError
        An option that does not exist; weights that cannot be had, or that do not fit.

    Notes
    -----
    FACTS 4.3 (the layers resolved), He et al. 2016 (arXiv:1512.03385). The 177 layers have
    25,636,712 parameters; torchvision's ResNet-50 is another network.
    """
    from rsacompare.networks import keras_models

    if padding not in _PADS:
        raise ProtocolError(plugins.unknown("padding of resnet50", padding, _PADS))
    model, attrs = keras_models.build("resnet50", weights, random_state)
    notes = []
    if padding != "keras":
        notes.append(f"padding {padding}")
    if bn_epsilon is not None:
        if not isinstance(bn_epsilon, (int, float)) or not 0 < bn_epsilon < 1:
            raise ProtocolError(f"bn_epsilon must lie between 0 and 1, got {bn_epsilon!r}")
        notes.append(f"bn_epsilon {bn_epsilon:g}")
    if notes:
        model = _rebuilt(model, _PADS[padding], bn_epsilon)
        attrs["note"] = f"variant: {', '.join(notes)}"
        for key in [key for key in attrs if key.startswith("imagenet_top1")]:
            del attrs[key]  # was measured on the network as Keras has it
    shapes = _shapes_55() if padding in ("yu2018", "yu2018-pool1") else {}
    return keras_models.finished(model, "resnet50", attrs, preprocessing, SETS, shapes)


def _rebuilt(model: Any, pads: tuple[Any, Any], epsilon: float | None) -> Any:
    """The same layers, names and weights with other paddings and epsilon."""
    config = model.get_config()
    new: Mapping[str, Any] = {"conv1_pad": pads[0], "pool1_pad": pads[1]}
    for layer in config["layers"]:
        held = layer["config"]
        if layer["name"] in new:
            held["padding"] = new[layer["name"]]
        if layer["class_name"] == "BatchNormalization" and epsilon is not None:
            held["epsilon"] = float(epsilon)
        layer.pop("build_config", None)  # shapes of before
    twin = type(model).from_config(config)
    twin.set_weights(model.get_weights())
    return twin


def _shapes_55() -> dict[str, tuple[int, ...]]:
    """Shapes of the table's conv2 layers where pool1 does not pad: 55 in place of 56."""
    from rsacompare.networks.keras_models import table

    held = table("layers.toml")["resnet50"]
    return {
        layer: tuple(55 if n == 56 else n for n in shape)
        for layer, (*shape, _) in held.items()
        if layer.startswith(("conv2_", "pool1_"))
    }
