"""What every runnable network is: layers that can be listed, and one forward pass for many.

Two kinds exist, :class:`rsacompare.networks.keras_network.KerasNetwork` and
:class:`rsacompare.networks.tflite.TFLiteNetwork`; a guest's is a function that returns a
``keras.Model`` or a subclass of :class:`Network`, under the entry point `rsacompare.networks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.networks.preprocess import Preprocessing

# images as the network takes them (image, height, width, 3) -> {layer spec: (image, *shape)}
Forward = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Layer:
    """One place in a network that can be read.

    Attributes
    ----------
    name : str
        As in the model; with `:op` behind it where a spec asked for one.
    op : str
        What its output is: `conv`, `dense`, `norm`, `relu`, `add`, `pool`, `softmax`, …
    shape : tuple of int
        Of the output for one image, channels last: (height, width, channel) or (unit,).
    n_parameters : int
        Weights of this operation alone.
    index : int
        Position in the network's own order, from 0.
    depth : float
        Weighted operations (convolutions, dense layers) on the longest way from the image to
        here, this one included, as a share of those of the whole network: 0 to 1.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    n_parameters: int
    index: int
    depth: float

    @property
    def n_units(self) -> int:
        """Number of units, in the flat order height, width, channel (C order)."""
        return prod(self.shape)


class Network(ABC):
    """A network that runs here.

    Attributes
    ----------
    name : str
    preprocessing : Preprocessing
        From a picture to what the network takes: part of its identity.
    sets : {name: sequence of layer specs}
        Named layer sets; `default` is always there: about eight, evenly spaced by depth.
    attrs : mapping
        `weights` (what they are, in words), `weights_sha256`, `framework` (name and version), and
        where known `imagenet_top1` (per cent), `imagenet_top1_source`, `citation`, `licence`,
        `note`.
    """

    name: str
    preprocessing: Preprocessing
    sets: Mapping[str, Sequence[str]]
    attrs: Mapping[str, Any]

    @abstractmethod
    def layers(self) -> list[Layer]:
        """All layers, from image to output."""

    @abstractmethod
    def layer(self, spec: str) -> Layer:
        """The layer that a spec `name[:op]` means.

        Raises
        ------
        ProtocolError
            No such layer (with the nearest name), or no such operation there.
        """

    @abstractmethod
    def forward(self, specs: Sequence[str]) -> Forward:
        """A function that runs a batch once and reads all the layers asked for."""

    def choose(self, layers: str | Sequence[str] = "default") -> list[str]:
        """Layer specs from the name of a set, `all`, one spec, or several of specs and sets.

        Raises
        ------
        ProtocolError
            A spec or set that does not exist; a spec given twice.
        """
        if isinstance(layers, str):
            if layers in self.sets:
                return list(self.sets[layers])
            if layers == "all":
                return [layer.name for layer in self.layers()]
            names = [layer.name for layer in self.layers()]
            if layers.split(":")[0] not in names:
                known = [*self.sets, "all", *names]
                raise ProtocolError(
                    plugins.unknown(f"layer set or layer of {self.name}", layers, known)
                )
            layers = [layers]
        own = {layer.name for layer in self.layers()}
        chosen: list[str] = []
        for spec in layers:
            is_set = isinstance(spec, str) and spec in self.sets and spec not in own
            chosen += self.sets[spec] if is_set else [spec]
        if not chosen:
            raise ProtocolError(f"network {self.name}: no layers asked for")
        twice = sorted({spec for spec in chosen if chosen.count(spec) > 1})
        if twice:
            raise ProtocolError(f"network {self.name}: layer '{twice[0]}' is asked for twice")
        for spec in chosen:
            self.layer(spec)
        return chosen
