"""Networks in words: layers and units that were read, weights, how pictures were shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsacompare.reporting.numbers import MISSING, listing
from rsacompare.reporting.reading import Reading

_FILTERS = {
    "nearest": "nearest neighbour",
    "bilinear_antialias": "bilinear with antialias",
    "bicubic_antialias": "bicubic with antialias",
    "bilinear_no_antialias": "bilinear without antialias",
    "bicubic_no_antialias": "bicubic without antialias",
}
_SCALED = {
    "caffe": "less the mean of ImageNet (Keras' numbers)",
    "bvlc": "less the mean of ImageNet (Caffe's numbers)",
    "torch": "from 0 to 1, less mean and over standard deviation of ImageNet",
    "tf": "from −1 to 1",
    "unit": "from 0 to 1",
    "raw": "from 0 to 255",
}


def described(reading: Reading) -> dict[str, dict[str, Any]]:
    """What a result tells of each network, by name; empty where it tells nothing."""
    told = {n["name"]: n for n in reading.attr("networks", [])}
    return {name: dict(told.get(name, {})) for name in reading.networks}


def rows(reading: Reading) -> list[dict[str, Any]]:
    """A row of the table of networks each."""
    shown = []
    for name, told in described(reading).items():
        layers = max((reading.layers(m, name)[0] for m in reading.metrics), key=len)
        accuracy = told.get("imagenet_top1")
        known = isinstance(accuracy, (int, float)) and np.isfinite(accuracy)
        read = told.get("read", {})
        shown.append(
            {
                "name": name,
                "n_layers": len(layers) or len(told.get("layers", [])),
                "layers": [f"{n} ({read[n]})" if n in read else n for n in layers],
                "accuracy": f"{accuracy:.1f} %" if known else MISSING,
                "note": told.get("note") or "",
                "told": {
                    key: text
                    for key, text in (
                        ("baseline", baseline(told)),
                        ("weights", told.get("weights", "")),
                        ("pictures", pictures(told.get("preprocessing", ""))),
                        ("units", units(told)),
                        ("run by", told.get("framework", "")),
                        ("source", told.get("citation", "")),
                        ("licence", told.get("licence", "")),
                    )
                    if text
                },
            }
        )
    return shown


BASELINES = {
    "noise": "noise in place of every layer of {}, nothing else: what a metric gives by its shape",
    "untrained": "{} with random weights: what its architecture gives without learning",
}


def baseline(told: Mapping[str, Any]) -> str:
    """What a baseline stands for; "" for a network that is none.

    Examples
    --------
    >>> baseline({"baseline": "untrained", "baseline_of": "vgg16"})
    'vgg16 with random weights: what its architecture gives without learning'
    """
    kind = str(told.get("baseline", ""))
    return BASELINES.get(kind, f"{kind} of {{}}" if kind else "").format(told.get("baseline_of"))


def untrained(reading: Reading) -> list[str]:
    """Networks whose weights are random, other than as a baseline."""
    return [
        n
        for n, told in described(reading).items()
        if _weights(told).startswith("random") and not told.get("baseline")
    ]


def methods(reading: Reading, networks: list[str]) -> list[str]:
    """Sentences on weights, pictures and units, of the networks that ran."""
    told = {
        n: t
        for n, t in described(reading).items()
        if n in networks and t.get("baseline") != "noise"  # it has neither weights nor pictures
    }
    held = (
        ("Weights", {n: _weights(t) for n, t in told.items()}),
        ("Pictures", {n: pictures(t.get("preprocessing", "")) for n, t in told.items()}),
        ("Units", {n: units(t) for n, t in told.items()}),
    )
    return [
        f"{word}: {_by_network({n: v or 'not stated' for n, v in values.items()})}."
        for word, values in held
        if any(values.values())
    ]


def _by_network(values: Mapping[str, str]) -> str:
    """Equal phrases said once, with whose they are; semicolons, since phrases hold commas."""
    whose: dict[str, list[str]] = {}
    for name, text in values.items():
        whose.setdefault(text, []).append(name)
    if len(whose) == 1:
        return next(iter(whose))
    return "; ".join(f"{listing(names)} {text}" for text, names in whose.items())


def citations(reading: Reading, networks: list[str]) -> list[str]:
    """Where the networks come from, each source once."""
    told = described(reading)
    return list(dict.fromkeys(str(told[n]["citation"]) for n in networks if "citation" in told[n]))


def _weights(told: Mapping[str, Any]) -> str:
    return str(told.get("weights", ""))


def units(told: Mapping[str, Any]) -> str:
    """Which units of each layer were kept, for all layers in one phrase.

    Examples
    --------
    >>> units({"units": "300", "units_seed": 0}), units({"units": "all"}), units({})
    ('300 of each layer at random (seed 0), all where there are fewer', 'all of each layer', '')
    """
    option = str(told.get("units", ""))
    seed = f"seed {float(told.get('units_seed', 0)):g}"
    if option.isdigit():
        return f"{int(option):,} of each layer at random ({seed}), all where there are fewer"
    kind, _, number = option.partition(":")
    return {
        "": "",
        "all": "all of each layer",
        "channel-mean": "the mean of each channel",
        "projection": f"{number} random projections of each layer ({seed})",
        "pca": f"principal components of each layer ({number})",
        "yu2018": "1,000 of each layer, those of Yu et al. (2018)",
        "god2017": "1,000 of each layer, drawn as by Horikawa & Kamitani (2017)",
    }.get(kind, option)


def pictures(preprocessing: str) -> str:
    """How a picture was brought to what the network takes.

    Parameters
    ----------
    preprocessing : str
        JSON, as extraction writes it; "" where it is not known.

    Examples
    --------
    >>> pictures('{"size": [224, 224], "fit": "squash", "resize": "nearest", "scaling": "tf"}')
    'whole, squashed to 224 × 224 pixels (nearest neighbour), RGB from −1 to 1'
    """
    if not preprocessing:
        return ""
    held = json.loads(preprocessing)
    size = "{} × {} pixels".format(*held["size"])
    how = _FILTERS.get(held["resize"], held["resize"])
    side = held.get("resize_to")
    fit = {
        "squash": f"whole, squashed to {size} ({how})",
        "crop": f"shorter side brought to {side} pixels ({how}), centre of {size}",
        "squash_crop": f"squashed to {side} × {side} pixels ({how}), centre of {size}",
    }[held["fit"]]
    scaled = _SCALED.get(held["scaling"], f"less {held.get('mean')}, over {held.get('std')}")
    return f"{fit}, {str(held.get('channels') or 'rgb').upper()} {scaled}"
