"""Resizing a picture, by a filter whose name says whether it antialiases.

- `nearest`: Pillow's, as ``keras.utils.load_img(target_size=…)`` does.
- `bilinear_antialias`, `bicubic_antialias`: Pillow's, which widens the filter when it shrinks, on
  8-bit pixels; torchvision does the same on Pillow images, and Keras with `interpolation=…`.
- `bilinear_no_antialias`, `bicubic_no_antialias`: the picture sampled where the pixel falls
  (half-pixel centres, cubic with a = -0.5), in fractions, as ``tf.image.resize`` does.
  The linear one is also ``torch.nn.functional.interpolate``'s and, but for its rounding, OpenCV's;
  the cubic one is neither's (both take a = -0.75).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from rsacompare.networks.picture import pillow

Size = tuple[int, int]


def resized(picture: np.ndarray, size: Size, how: str) -> np.ndarray:
    """A picture brought to another size.

    Parameters
    ----------
    picture : (height, width, 3) uint8
    size : (height, width)
    how : str
        A name of `RESIZES`.

    Returns
    -------
    (*size, 3)
        uint8; float64 for the filters without antialias.
    """
    return picture if picture.shape[:2] == size else RESIZES[how](picture, size)


def _by_pillow(picture: np.ndarray, size: Size, how: str) -> np.ndarray:
    image = pillow().Image
    return np.asarray(image.fromarray(picture).resize(size[::-1], image.Resampling[how]))


def _sampled(picture: np.ndarray, size: Size, cubic: bool) -> np.ndarray:
    values = picture.astype(np.float64)
    for axis, n_out in enumerate(size):
        index, weight = _taps(values.shape[axis], n_out, cubic)
        weight = weight[:, :, None, None] if axis == 0 else weight[:, :, None]
        values = (np.take(values, index, axis=axis) * weight).sum(axis=axis + 1)
    return values


def _taps(n_in: int, n_out: int, cubic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and weights (n_out, tap) of each sampled position.

    Beyond the border the linear filter repeats the last pixel; the cubic one leaves taps out and
    weighs the others up, as TensorFlow does.
    """
    place = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    index = np.floor(place).astype(int)[:, None] + np.array([-1, 0, 1, 2] if cubic else [0, 1])
    distance = np.abs(place[:, None] - index)
    if cubic:  # Keys 1981, a = -0.5
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weight = np.where(distance <= 1, near, far)
        weight[(index < 0) | (index >= n_in)] = 0
        weight /= weight.sum(axis=1, keepdims=True)
    else:
        weight = 1 - distance
    return np.clip(index, 0, n_in - 1), weight


RESIZES: dict[str, Callable[[np.ndarray, Size], np.ndarray]] = {
    "nearest": partial(_by_pillow, how="NEAREST"),
    "bilinear_antialias": partial(_by_pillow, how="BILINEAR"),
    "bicubic_antialias": partial(_by_pillow, how="BICUBIC"),
    "bilinear_no_antialias": partial(_sampled, cubic=False),
    "bicubic_no_antialias": partial(_sampled, cubic=True),
}
