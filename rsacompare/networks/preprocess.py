"""From a picture to what a network takes: part of the network's identity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Scaling = Literal["caffe", "bvlc", "torch", "tf", "raw"]
Resize = Literal["nearest", "bilinear", "bicubic", "bilinear_antialias", "bicubic_antialias"]


@dataclass(frozen=True)
class Preprocessing:
    """How a network takes its pictures.

    Attributes
    ----------
    size : (int, int)
        Height and width that the network is shown.
    scaling : {"caffe", "bvlc", "torch", "tf", "raw"}
    resize : str
        Filter of the resize.
    fit : {"squash", "crop"}
        Squash the whole picture to `size`, or resize its shorter side to `shorter_side` and cut
        the centre.
    shorter_side : int or None
        For `crop` only.
    """

    size: tuple[int, int]
    scaling: Scaling = "caffe"
    resize: Resize = "nearest"
    fit: Literal["squash", "crop"] = "squash"
    shorter_side: int | None = None

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """One RGB picture (height, width, 3) uint8 as the network takes it, (height, width, 3)."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """For attributes and hashes."""
        return asdict(self)
