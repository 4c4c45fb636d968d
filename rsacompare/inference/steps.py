"""What is computed of every metric beside its scores and contrasts, in the order of its page."""

from __future__ import annotations

from collections.abc import Callable

from rsacompare.inference import (
    bayes,
    depth_curve,
    fraction,
    hierarchy,
    inclusion,
    mixed,
    multiple,
    sign_flip,
    wins,
)
from rsacompare.inference.inferred import Beside, Inferred

STEPS: tuple[Callable[[Inferred], Beside], ...] = (
    sign_flip.beside,
    bayes.beside,
    fraction.beside,
    multiple.corrections,
    depth_curve.beside,
    inclusion.beside,
    wins.beside,
    hierarchy.beside,
    mixed.beside,
)
