"""Any Keras model with a graph, read layer by layer in one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rsacompare.errors import ProtocolError
from rsacompare.networks import default_layers, engine
from rsacompare.networks.graph import Graph, Place, ancestors, call_place, flatten, run_places
from rsacompare.networks.layer_ops import Reading, resolve
from rsacompare.networks.network import Forward, Layer, Network
from rsacompare.networks.preprocess import Preprocessing


class KerasNetwork(Network):
    """A functional or sequential `keras.Model` as a network.

    Layers are called as in the model; those of a model inside a model `inner.layer`; a layer used
    several times is read at one of its calls, `layer@1`, `layer@2`, … What `layer:op` means:
    :mod:`rsacompare.networks.layer_ops`. The weights are the model's own and are not copied.

    Parameters
    ----------
    model : keras.Model
        With one input, (height, width, 3).
    name : str
    preprocessing : Preprocessing
        From a picture to what the model takes (a `Rescaling` layer inside the model is part of
        the model). Its size must be the model's, or fixes that of a model for any size.
    sets : {name: sequence of layer specs}, optional
        Where it has no `default`, about eight layers are chosen by depth
        (:func:`rsacompare.networks.default_layers.choose`).
    attrs : mapping, optional
        See :class:`rsacompare.networks.network.Network`; `framework` is added.

    Raises
    ------
    ProtocolError
        A model without a graph, with several inputs, or that does not take pictures of the size;
        a set that names no layer.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        preprocessing: Preprocessing,
        sets: Mapping[str, Sequence[str]] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        keras = engine.keras()
        if not isinstance(model, keras.Model):
            raise ProtocolError(
                f"network {name}: expected a keras.Model, got {type(model).__name__}"
            )
        self.model = model
        self.name = name
        self.preprocessing = preprocessing
        graph = flatten(model, f"network {name}")
        self._graph = _sized(graph, preprocessing.size, f"network {name}")
        chosen = {key: tuple(specs) for key, specs in (sets or {}).items()}
        if "default" not in chosen:
            chosen["default"] = tuple(default_layers.choose(self._graph))
        self.sets = chosen
        self.attrs = {
            "framework": f"keras {keras.__version__} ({keras.backend.backend()})",
            **(attrs or {}),
        }
        for specs in chosen.values():
            for spec in specs:
                self.layer(spec)

    def layers(self) -> list[Layer]:
        """All layers, from image to output; those with several outputs or of no fixed size not."""
        return [
            self._as_layer(index, place.name, place.label)
            for index, place in enumerate(self._graph.places)
            if len(place.shapes) == 1 and None not in place.shapes[0]
        ]

    def layer(self, spec: str) -> Layer:
        """The layer that a spec `name[:op]` means.

        Raises
        ------
        ProtocolError
            No such layer, no such op there, or a place that cannot be read as one array.
        """
        reading = self._read(spec)
        op = reading.op or self._graph.places[reading.place].label
        return self._as_layer(reading.place, spec, op)

    def _read(self, spec: str) -> Reading:
        reading = resolve(self._graph, self.name, spec)
        place = self._graph.places[reading.place]
        if len(place.shapes) > 1:
            raise ProtocolError(
                f"network {self.name}: {place.name} has {len(place.shapes)} outputs; read a layer "
                "that takes one of them"
            )
        if None in place.shapes[0]:
            raise ProtocolError(
                f"network {self.name}: {place.name} has no fixed size {place.shapes[0]}, so its "
                "units cannot be counted"
            )
        return reading

    def _as_layer(self, index: int, name: str, op: str) -> Layer:
        place = self._graph.places[index]
        shape = tuple(int(n) for n in place.shapes[0] if n is not None)
        depth = place.before / max(self._graph.n_weighted, 1)
        return Layer(name, op, shape, place.n_parameters, index, min(depth, 1.0))

    def forward(self, specs: Sequence[str]) -> Forward:
        """A function that runs a batch once, in inference mode, and reads all the layers asked for.

        Raises
        ------
        ProtocolError
            No such layer; images of another size (when it is called).
        """
        import keras
        import tensorflow as tf

        if keras.backend.backend() != "tensorflow":
            raise ProtocolError(
                f"Keras runs on {keras.backend.backend()} here, expected tensorflow; set "
                "KERAS_BACKEND=tensorflow before Keras is imported"
            )
        readings = {spec: self._read(spec) for spec in specs}
        order = ancestors(self._graph, (r.place for r in readings.values()))
        shape = (*self.preprocessing.size, 3)

        @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32)])
        def run(images: Any) -> dict[str, Any]:
            values = run_places(self._graph, order, images)
            read = {spec: self._value(reading, values) for spec, reading in readings.items()}
            return {spec: tf.cast(value, tf.float32) for spec, value in read.items()}

        def forward(images: np.ndarray) -> dict[str, np.ndarray]:
            images = np.asarray(images, dtype=np.float32)
            if images.shape[1:] != shape:
                raise ProtocolError(
                    f"network {self.name} takes images {shape}, got an array of shape "
                    f"{images.shape}, expected (image, *{shape})"
                )
            # shared memory: numpy() copies, and would hold every layer twice
            return {k: np.asarray(memoryview(v)) for k, v in run(tf.constant(images)).items()}

        return forward

    def _value(self, reading: Reading, values: dict[int, list[Any]]) -> Any:
        import keras

        place = self._graph.places[reading.place]
        value = values[reading.place][0]
        if reading.change in ("linear", "abs") and place.fused:
            value = call_place(place, values, _without_activation(place))[0]
        if reading.change == "abs":
            return keras.ops.abs(value)
        if reading.change == "softmax":
            return keras.ops.softmax(value)
        return value


def _without_activation(place: Place) -> Any:
    """The same layer with the same variables, its activation left out; the model is untouched."""
    import keras

    layer = place.operation
    twin = object.__new__(type(layer))
    for key, value in vars(layer).items():  # round Keras' tracking of attributes
        object.__setattr__(twin, key, value)
    object.__setattr__(twin, "activation", keras.activations.linear)
    return twin


def _sized(graph: Graph, size: tuple[int, int], what: str) -> Graph:
    """The graph for pictures of one size; shapes of a model for any size are worked out."""
    for ours, theirs in zip(size, graph.input_shape, strict=False):
        if theirs is not None and theirs != ours:
            raise ProtocolError(
                f"{what} takes pictures of {graph.input_shape[0]} x {graph.input_shape[1]}, but "
                f"its preprocessing makes them {size[0]} x {size[1]}; pass Preprocessing(size=…)"
            )
    if all(n is not None for place in graph.places for shape in place.shapes for n in shape):
        return graph
    import tensorflow as tf

    everything = list(range(len(graph.places)))

    @tf.function(input_signature=[tf.TensorSpec((None, *size, 3), tf.float32)])
    def run(images: Any) -> dict[str, list[Any]]:
        return {str(k): v for k, v in run_places(graph, everything, images).items()}

    values = run.get_concrete_function().structured_outputs
    places = [
        replace(place, shapes=[tuple(t.shape[1:]) for t in values[str(index)]])
        for index, place in enumerate(graph.places)
    ]
    return replace(graph, places=places)
