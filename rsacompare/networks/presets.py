"""Preprocessing by name: the classic ways that pictures reach a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.networks.preprocess import Preprocessing

_KERAS = Preprocessing((224, 224))
PRESETS = {
    # GOD's Caffe script: bicubic straight to 227, no cut (FACTS 5)
    "caffe-squash-227": Preprocessing((227, 227), "bvlc", "bicubic_antialias"),
    # Caffe's own: squashed to 256, centre of 227; its Python resize samples, without antialias
    "caffe-256-227": Preprocessing(
        (227, 227), "bvlc", "bilinear_no_antialias", "squash_crop", resize_to=256
    ),
    "yu2018": _KERAS,  # load_img's nearest and mode "caffe" (FACTS 4.1)
    "keras-caffe": _KERAS,
    "keras-torch": dataclasses.replace(_KERAS, scaling="torch", channels=None),
    "keras-tf": dataclasses.replace(_KERAS, scaling="tf", channels=None),
    "keras-raw": dataclasses.replace(_KERAS, scaling="raw", channels=None),
    "torchvision": Preprocessing((224, 224), "torch", "bilinear_antialias", "crop", resize_to=256),
}


def preprocessing(
    given: str | Preprocessing | Mapping[str, Any] = "keras-caffe", **changes: Any
) -> Preprocessing:
    """The preprocessing of a name, of its stored form, or itself; with changes.

    Parameters
    ----------
    given : str, Preprocessing or mapping
        A name of `PRESETS`, or what :meth:`Preprocessing.as_dict` gave.
    **changes
        Fields to set otherwise. A changed `scaling` brings its own order of the colours.

    Raises
    ------
    ProtocolError
        An unknown name or field, or values that do not go together.

    Examples
    --------
    >>> preprocessing("keras-tf", size=299, resize="bilinear_antialias").size
    (299, 299)
    """
    if isinstance(given, Preprocessing):
        held = given
    elif isinstance(given, Mapping):
        held = Preprocessing.from_dict(given)
    elif given in PRESETS:
        held = PRESETS[given]
    else:
        raise ProtocolError(plugins.unknown("preprocessing", given, PRESETS))
    if not changes:
        return held
    if "scaling" in changes:
        changes = {"channels": None, **changes}
    return Preprocessing.from_dict({**held.as_dict(), **changes})
