"""Four MobileNets trained on ImageNet, as the 8-bit TFLite files of the data registry."""

from __future__ import annotations

from rsacompare.datasets.load import fetch
from rsacompare.datasets.registry import registry
from rsacompare.networks.preprocess import Preprocessing, Resize
from rsacompare.networks.tflite import TFLiteNetwork

TOP1_SOURCE = (
    "TensorFlow Lite hosted models, quantised (tensorflow.org/lite/guide/hosted_models): the "
    "TFLite file itself, one crop"
)
CITATION = {
    "v1": (
        "Howard et al. (2017). MobileNets: efficient convolutional neural networks for mobile "
        "vision applications. arXiv:1704.04861"
    ),
    "v2": (
        "Sandler et al. (2018). MobileNetV2: inverted residuals and linear bottlenecks. "
        "arXiv:1801.04381"
    ),
}
# the last operation at each spatial size, then the last before pooling and the logits: places that
# the versions share, so that a comparison pairs like with like
STAGES = {
    "v1": (
        "Conv2d_1_pointwise",
        "Conv2d_3_pointwise",
        "Conv2d_5_pointwise",
        "Conv2d_11_pointwise",
        "Conv2d_13_pointwise",
        "Logits_Conv2d_1c_1x1",
    ),
    "v2": (
        "expanded_conv_project",
        "expanded_conv_2_add",
        "expanded_conv_5_add",
        "expanded_conv_12_add",
        "Conv_1",
        "Logits_Conv2d_1c_1x1",
    ),
}
CROP = 0.875  # of the shorter side: what is shown in their own evaluation


def mobilenet_v1_025_128(
    resize: Resize = "bicubic_antialias", crop: bool = False, threads: int = 1
) -> TFLiteNetwork:
    """MobileNet v1, width 0.25, 128 pixels, 8 bits, trained on ImageNet (top-1 39.5 %)."""
    return _mobilenet("mobilenet_v1_0.25_128", "v1", 39.5, resize, crop, threads)


def mobilenet_v1_05_160(
    resize: Resize = "bicubic_antialias", crop: bool = False, threads: int = 1
) -> TFLiteNetwork:
    """MobileNet v1, width 0.5, 160 pixels, 8 bits, trained on ImageNet (top-1 57.2 %)."""
    return _mobilenet("mobilenet_v1_0.5_160", "v1", 57.2, resize, crop, threads)


def mobilenet_v1_075_192(
    resize: Resize = "bicubic_antialias", crop: bool = False, threads: int = 1
) -> TFLiteNetwork:
    """MobileNet v1, width 0.75, 192 pixels, 8 bits, trained on ImageNet (top-1 66.1 %)."""
    return _mobilenet("mobilenet_v1_0.75_192", "v1", 66.1, resize, crop, threads)


def mobilenet_v2_10_224(
    resize: Resize = "bicubic_antialias", crop: bool = False, threads: int = 1
) -> TFLiteNetwork:
    """MobileNet v2, width 1.0, 224 pixels, 8 bits, trained on ImageNet (top-1 70.8 %)."""
    return _mobilenet("mobilenet_v2_1.0_224", "v2", 70.8, resize, crop, threads)


def _mobilenet(
    name: str, version: str, top1: float, resize: Resize, crop: bool, threads: int
) -> TFLiteNetwork:
    path = f"tflite/{name}_quant.tflite"
    file = fetch(path)
    size = int(name.rpartition("_")[2])
    return TFLiteNetwork(
        file,
        name,
        Preprocessing(
            size=(size, size),
            scaling="raw",
            resize=resize,
            fit="crop" if crop else "squash",
            resize_to=round(size / CROP) if crop else None,
            dtype="uint8",
        ),
        sets={"stages": STAGES[version]},
        attrs={
            "weights": f"ImageNet, 8 bits, {path} of the data registry",
            "imagenet_top1": top1,
            "imagenet_top1_source": TOP1_SOURCE,
            "citation": CITATION[version],
            "licence": registry()[path].licence,
            "note": (
                f"8-bit MobileNet {version} for {size} pixels, trained on ImageNet; top-1 by "
                "TensorFlow Lite's hosted models"
            ),
        },
        threads=threads,
    )
