"""From a picture to what a network takes: part of the network's identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.networks.picture import MOST_PIXELS
from rsacompare.networks.resize import RESIZES, resized

Scaling = Literal["caffe", "bvlc", "torch", "tf", "unit", "raw", "own"]
Resize = Literal[
    "nearest",
    "bilinear_antialias",
    "bicubic_antialias",
    "bilinear_no_antialias",
    "bicubic_no_antialias",
]
Fit = Literal["squash", "crop", "squash_crop"]


class _Scale(NamedTuple):
    """(pixel / divide - mean) / std, colour by colour; `mean` and `std` in the order R, G, B."""

    channels: str
    divide: float
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None


SCALINGS = {
    "caffe": _Scale("bgr", 1.0, (123.68, 116.779, 103.939), None),  # Keras, mode "caffe"
    # channel means of Caffe's ilsvrc_2012_mean.npy (FACTS 5)
    "bvlc": _Scale("bgr", 1.0, (122.67891434, 116.66876762, 104.00698793), None),
    "torch": _Scale("rgb", 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "tf": _Scale("rgb", 127.5, (1.0, 1.0, 1.0), None),
    "unit": _Scale("rgb", 255.0, None, None),
    "raw": _Scale("rgb", 1.0, None, None),
    "own": _Scale("rgb", 1.0, None, None),
}
FITS = ("squash", "crop", "squash_crop")
DTYPES = ("float32", "uint8", "int8")


@dataclass(frozen=True)
class Preprocessing:
    """How a network takes its pictures: resize and cut, then colours.

    Attributes
    ----------
    size : (int, int)
        Height and width that the network is shown.
    scaling : str
        `caffe` (BGR less 103.939, 116.779, 123.68), `bvlc` (BGR less 104.00698793, 116.66876762,
        122.67891434), `torch` (0 to 1, then less mean, over standard deviation), `tf` (-1 to 1),
        `unit` (0 to 1), `raw` (0 to 255 as it is, for networks that rescale inside), or `own`:
        (pixel - `mean`) / `std`.
    resize : str
        `nearest`, `bilinear_antialias`, `bicubic_antialias` (Pillow's), `bilinear_no_antialias` or
        `bicubic_no_antialias` (TensorFlow's): see :mod:`rsacompare.networks.resize`.
    fit : {"squash", "crop", "squash_crop"}
        `squash` the whole picture to `size`; `crop`: bring its shorter side to `resize_to` and cut
        the centre (torchvision); `squash_crop`: squash it to `resize_to` squared and cut the
        centre (Caffe).
    resize_to : int or None
        For the crops: the side before the cut.
    channels : {"rgb", "bgr"}, optional
        Order of the colours; that of the scaling by default.
    dtype : {"float32", "uint8", "int8"}
        Of what the network takes. `uint8` with `raw` and no `quantization`: the pixels themselves,
        as quantised MobileNets take them.
    quantization : (scale, zero point), optional
        For integer inputs: the scaled value divided by `scale`, rounded, plus `zero point`.
    mean, std : (R, G, B), optional
        For the scaling `own`, in pixels of 0 to 255 and always in the order red, green, blue.

    Raises
    ------
    ProtocolError
        A value that does not exist, or values that do not go together.

    Examples
    --------
    >>> Preprocessing((1, 1))(np.zeros((2, 2, 3), np.uint8)).ravel().tolist()
    [-103.93900299072266, -116.77899932861328, -123.68000030517578]
    """

    size: tuple[int, int]
    scaling: Scaling = "caffe"
    resize: Resize = "nearest"
    fit: Fit = "squash"
    resize_to: int | None = None
    channels: Literal["rgb", "bgr"] | None = None
    dtype: Literal["float32", "uint8", "int8"] = "float32"
    quantization: tuple[float, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("scaling", tuple(SCALINGS)),
            ("resize", tuple(RESIZES)),
            ("fit", FITS),
            ("dtype", DTYPES),
        ):
            if getattr(self, name) not in known:
                raise ProtocolError(
                    f"preprocessing: {plugins.unknown(name, getattr(self, name), known)}"
                )
        _fix(self, "size", _size(self.size))
        _fix(self, "channels", self.channels or SCALINGS[self.scaling].channels)
        if self.channels not in ("rgb", "bgr"):
            raise ProtocolError(
                f"preprocessing: {plugins.unknown('channels', self.channels, ('rgb', 'bgr'))}"
            )
        self._check_crop()
        self._check_numbers()

    def _check_crop(self) -> None:
        if self.fit == "squash":
            if self.resize_to is not None:
                raise ProtocolError(
                    "preprocessing: resize_to is for fit='crop' and 'squash_crop', "
                    "but fit is 'squash'"
                )
            return
        side = self.resize_to
        if not _is_count(side) or cast(int, side) < max(self.size):
            raise ProtocolError(
                f"preprocessing: fit='{self.fit}' cuts {self.size} out of a larger picture: "
                f"resize_to must be a whole number of at least {max(self.size)}, got {side!r}"
            )
        _fix(self, "resize_to", int(cast(int, side)))

    def _check_numbers(self) -> None:
        for name in ("mean", "std"):
            given = getattr(self, name)
            if (self.scaling == "own") != (given is not None):
                raise ProtocolError(
                    f"preprocessing: {name} (R, G, B) goes with scaling='own', "
                    f"got {name}={given!r} and scaling='{self.scaling}'"
                )
            if given is not None:
                _fix(self, name, _colours(name, given))
        if self.quantization is not None:
            _fix(self, "quantization", _quantization(self.quantization))
            if self.dtype == "float32":
                raise ProtocolError("preprocessing: quantization needs dtype 'uint8' or 'int8'")
        elif self.dtype == "int8" or (self.dtype == "uint8" and self.scaling != "raw"):
            raise ProtocolError(
                f"preprocessing: dtype='{self.dtype}' with scaling='{self.scaling}' needs "
                "quantization=(scale, zero point) as the model's file has it; only "
                "scaling='raw' with dtype='uint8' takes the pixels themselves"
            )

    def __call__(self, picture: np.ndarray, where: str = "picture") -> np.ndarray:
        """One picture as the network takes it.

        Parameters
        ----------
        picture : (height, width, 3) uint8, RGB
            See :func:`rsacompare.networks.images.read_image`.
        where : str
            What the picture is, for messages.

        Returns
        -------
        (height, width, 3) of `dtype`

        Raises
        ------
        DataError
            Not such a picture, or one so long and thin that its resized form has no use.
        """
        picture = np.asarray(picture)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise DataError(
                f"{where}: expected (height, width, 3) uint8 RGB, got {picture.shape} "
                f"{picture.dtype}; rsacompare.networks.images.read_image makes it"
            )
        if 0 in picture.shape:
            raise DataError(f"{where}: empty, shape {picture.shape}")
        return self._as_input(self._scaled(self._fitted(picture, where)))

    def _fitted(self, picture: np.ndarray, where: str) -> np.ndarray:
        """Resized and cut to `size`."""
        if self.fit == "squash":
            return resized(picture, self.size, self.resize)
        side = cast(int, self.resize_to)
        height, width = picture.shape[:2]
        target = (side, side)
        if self.fit == "crop":  # the longer side rounded down, as torchvision does
            short = min(height, width)
            target = (height * side // short, width * side // short)
        if target[0] * target[1] > MOST_PIXELS:
            raise DataError(
                f"{where}: {width} x {height} is too long and thin to bring its shorter side to "
                f"{side}; crop it, or use fit='squash'"
            )
        larger = resized(picture, target, self.resize)
        spare = [had - wanted for had, wanted in zip(target, self.size, strict=True)]
        # torchvision rounds half a pixel to even, Caffe rounds down
        top, left = (round(s / 2) if self.fit == "crop" else s // 2 for s in spare)
        return larger[top : top + self.size[0], left : left + self.size[1]]

    def _scaled(self, picture: np.ndarray) -> np.ndarray:
        scale = SCALINGS[self.scaling]
        mean, std = (self.mean, self.std) if self.scaling == "own" else (scale.mean, scale.std)
        # in float32 and in this order: to the bit what Keras computes
        values = picture.astype(np.float32)
        if scale.divide != 1:
            values /= np.float32(scale.divide)
        if mean is not None:
            values -= np.array(mean, dtype=np.float32)
        if std is not None:
            values /= np.array(std, dtype=np.float32)
        return np.ascontiguousarray(values[..., ::-1] if self.channels == "bgr" else values)

    def _as_input(self, values: np.ndarray) -> np.ndarray:
        if self.dtype == "float32":
            return values
        scale, zero = self.quantization or (1.0, 0)
        steps = values.astype(np.float64) / scale
        steps = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zero  # half away from zero
        limits = np.iinfo(self.dtype)
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def as_dict(self) -> dict[str, Any]:
        """For attributes and hashes: plain values, JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Preprocessing:
        """The inverse of :meth:`as_dict`, also after a way through JSON.

        Raises
        ------
        ProtocolError
            A key that does not exist, `size` missing, or values as for the class.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in held:
            if key not in known:
                raise ProtocolError(f"preprocessing: {plugins.unknown('key', key, known)}")
        if "size" not in held:
            raise ProtocolError("preprocessing: 'size' (height, width) is missing")
        return cls(**held)


def _fix(held: Preprocessing, name: str, value: Any) -> None:
    """Set a field of a frozen dataclass to its normal form."""
    object.__setattr__(held, name, value)


def _is_count(value: Any) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and bool(value > 0)


def _size(size: Any) -> tuple[int, int]:
    pair = (size, size) if _is_count(size) else tuple(size) if np.iterable(size) else (size,)
    if len(pair) != 2 or not all(_is_count(n) for n in pair):
        raise ProtocolError(
            f"preprocessing: size must be (height, width) in whole pixels, got {size!r}"
        )
    if pair[0] * pair[1] > MOST_PIXELS:
        raise ProtocolError(f"preprocessing: size {size!r} is larger than {MOST_PIXELS:,} pixels")
    return int(pair[0]), int(pair[1])


def _colours(name: str, given: Any) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(v) for v in given)
    except (TypeError, ValueError):
        raise ProtocolError(
            f"preprocessing: {name} must be three numbers (R, G, B), got {given!r}"
        ) from None
    if not np.isfinite([red, green, blue]).all() or (name == "std" and 0 in (red, green, blue)):
        raise ProtocolError(
            f"preprocessing: {name} must be finite{' and not 0' * (name == 'std')}, got {given!r}"
        )
    return red, green, blue


def _quantization(given: Any) -> tuple[float, int]:
    try:
        scale, zero = given
        if not (np.isfinite(scale) and scale > 0 and int(zero) == zero):
            raise ValueError
    except (TypeError, ValueError):
        raise ProtocolError(
            f"preprocessing: quantization must be (scale above 0, whole zero point), got {given!r}"
        ) from None
    return float(scale), int(zero)
