"""A Keras model as a flat list of places in the order of computation, nested models opened.

Keras keeps the graph of a functional or sequential model: nodes (a layer called once) joined by
symbolic tensors. Here a node becomes a :class:`Place`: where its inputs come from, what kind of
operation it is, and how many weighted operations lie before it. Running a list of places is
calling their layers one after another, with the model's own variables.
"""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rsacompare.errors import ProtocolError
from rsacompare.networks.layer_kinds import kind_of

Source = tuple[int, int]  # place, and which of its outputs


@dataclass
class Place:
    """One call of one layer or operation."""

    name: str
    operation: Any
    node: Any
    kind: str
    fused: str  # the activation inside a convolution or dense layer; "" for none
    inputs: list[tuple[int, Source]]  # id of the symbolic tensor, and what computes it
    shapes: list[tuple[int | None, ...]]  # of each output, for one image
    n_parameters: int
    weighted: bool
    before: int = 0  # weighted operations on the longest way here, this one included
    consumers: list[int] = field(default_factory=list)

    @property
    def parents(self) -> list[int]:
        """Places whose outputs it takes, in the order of its arguments."""
        return [place for _, (place, _) in self.inputs]

    @property
    def label(self) -> str:
        """Kind in words: a convolution with its activation inside is `conv+relu`."""
        return f"{self.kind}+{self.fused}" if self.fused else self.kind


@dataclass
class Graph:
    """Places in the network's order (a topological one); the first is the input."""

    places: list[Place]
    by_name: dict[str, int]
    several: dict[str, list[str]]  # name of a layer called several times -> names of its calls
    outputs: list[int]
    input_shape: tuple[int | None, ...]
    input_dtype: str

    @property
    def n_weighted(self) -> int:
        """Weighted operations on the longest way from the image to an output."""
        return max((self.places[i].before for i in self.outputs), default=0)


def flatten(model: Any, what: str) -> Graph:
    """The graph of a functional or sequential `keras.Model`.

    Parameters
    ----------
    model : keras.Model
    what : str
        How errors call it.

    Raises
    ------
    ProtocolError
        A model without a graph (subclassed, or not built), with several inputs, or whose input
        is no picture (height, width, channel).
    """
    functional = _functional(model, what)
    if len(functional.inputs) != 1:
        names = ", ".join(str(t.name) for t in functional.inputs)
        raise ProtocolError(
            f"{what} has {len(functional.inputs)} inputs ({names}), but a picture is one; fix the "
            "others and pass keras.Model(picture, outputs)"
        )
    shape = tuple(functional.inputs[0].shape[1:])
    if len(shape) != 3:
        raise ProtocolError(
            f"{what} takes inputs of shape {shape}, expected pictures (height, width, 3)"
        )
    if shape[-1] not in (3, None):
        raise ProtocolError(
            f"{what} takes pictures of {shape[-1]} channel(s), but pictures here are RGB; put a "
            "layer in front that makes them of three (channels come last)"
        )
    places: list[Place] = []
    several: dict[str, list[str]] = {}
    by_name: dict[str, int] = {}
    bound: dict[int, Source] = {}
    _open(functional, "", bound, places, by_name, several)
    for index, place in enumerate(places):
        by_name[place.name] = index
        for parent in dict.fromkeys(place.parents):
            places[parent].consumers.append(index)
    outputs = [bound[id(t)][0] for t in functional.outputs]
    return Graph(places, by_name, several, outputs, shape, str(functional.inputs[0].dtype))


def _functional(model: Any, what: str) -> Any:
    """The same graph as an object with inputs, outputs and operations."""
    import keras

    if isinstance(model, keras.Sequential) and not model.built:
        raise ProtocolError(
            f"{what} is not built, so its shapes are not known; begin it with "
            "keras.Input((height, width, 3)), or call model.build((None, height, width, 3))"
        )
    if not has_graph(model):
        raise ProtocolError(
            f"{what} ({type(model).__name__}) is a subclassed model: Keras keeps no graph of it, "
            "so its layers cannot be read. Build it with the functional API; or pass "
            "keras.Model(inputs, outputs) around the parts that are; or wrap it in a subclass of "
            "rsacompare.networks.network.Network that returns the outputs you want"
        )
    if isinstance(model, keras.Sequential):  # no new nodes: the graph is there already
        return keras.Model(model.inputs, model.outputs)
    return model


def has_graph(operation: Any) -> bool:
    """Whether Keras kept the graph inside a model (a layer has none)."""
    import keras

    if not isinstance(operation, keras.Model):
        return False
    if isinstance(operation, keras.Sequential):
        return bool(operation.built and operation.inputs)
    return hasattr(operation, "operations") and bool(getattr(operation, "inputs", None))


def _open(
    model: Any,
    prefix: str,
    bound: dict[int, Source],
    places: list[Place],
    by_name: dict[str, int],
    several: dict[str, list[str]],
) -> None:
    """Append the places of a model; `bound`: where each symbolic tensor of it comes from."""
    nodes = _nodes(model)
    calls: dict[int, list[Any]] = {}
    for node in nodes:
        calls.setdefault(id(node.operation), []).append(node)
    for node in nodes:
        operation = node.operation
        mine = calls[id(operation)]
        name = prefix + operation.name
        if len(mine) > 1:  # a shared layer: each call is a place of its own
            names = [f"{name}@{k + 1}" for k in range(len(mine))]
            several[name] = names
            name = names[[n is node for n in mine].index(True)]
        if node.is_input and all(id(t) in bound for t in node.outputs):
            continue  # of a nested model: bound to what the outer one gives it
        if has_graph(operation):
            inner = _functional(operation, name)
            given = [bound[id(t)] for t in node.input_tensors]
            inside = dict(zip(map(id, inner.inputs), given, strict=True))
            _open(inner, f"{name}.", inside, places, by_name, several)
            for ours, theirs in zip(node.outputs, inner.outputs, strict=True):
                bound[id(ours)] = inside[id(theirs)]
            by_name[name] = inside[id(inner.outputs[0])][0]
            continue
        for position, tensor in enumerate(node.outputs):
            bound[id(tensor)] = (len(places), position)
        places.append(_place(name, node, bound, places))


def _nodes(model: Any) -> list[Any]:
    """Nodes between inputs and outputs of one model, in its own order made topological."""
    rank = {id(operation): k for k, operation in enumerate(model.operations)}
    found: dict[int, Any] = {}
    ends = {id(t) for t in model.inputs}
    todo = list(model.outputs)
    while todo:
        tensor = todo.pop()
        operation, index, _ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if id(node) not in found:
            found[id(node)] = node
            if id(tensor) not in ends:
                todo.extend(node.input_tensors)
    made_by = {id(t): key for key, node in found.items() for t in node.outputs}
    waiting = {
        key: {made_by[id(t)] for t in node.input_tensors if id(t) in made_by}
        for key, node in found.items()
    }
    feeds: dict[int, list[int]] = {}
    for key, needs in waiting.items():
        for need in needs:
            feeds.setdefault(need, []).append(key)
    born = {key: k for k, key in enumerate(reversed(found))}
    where = {
        key: (rank.get(id(node.operation), len(rank)), born[key]) for key, node in found.items()
    }
    ready = [(*where[key], key) for key, needs in waiting.items() if not needs]
    heapq.heapify(ready)
    ordered = []
    while ready:
        key = heapq.heappop(ready)[-1]
        ordered.append(found[key])
        for fed in feeds.get(key, ()):
            waiting[fed].discard(key)
            if not waiting[fed]:
                heapq.heappush(ready, (*where[fed], fed))
    return ordered


def _place(name: str, node: Any, bound: dict[int, Source], before: list[Place]) -> Place:
    operation = node.operation
    inputs = [] if node.is_input else [(id(t), bound[id(t)]) for t in node.input_tensors]
    kind, fused = kind_of(operation)
    weights = getattr(operation, "weights", [])
    weighted = kind not in ("norm", "relu", "activation") and any(len(w.shape) > 1 for w in weights)
    longest = max((before[place].before for _, (place, _) in inputs), default=0)
    return Place(
        name=name,
        operation=operation,
        node=node,
        kind=kind,
        fused=fused,
        inputs=inputs,
        shapes=[tuple(t.shape[1:]) for t in node.outputs],
        n_parameters=int(operation.count_params()) if hasattr(operation, "count_params") else 0,
        weighted=weighted,
        before=longest + weighted,
    )


def ancestors(graph: Graph, wanted: Iterable[int]) -> list[int]:
    """The places that must run for those wanted, in order, themselves included."""
    needed: set[int] = set()
    todo = list(wanted)
    while todo:
        index = todo.pop()
        if index not in needed:
            needed.add(index)
            todo.extend(graph.places[index].parents)
    return sorted(needed)


def run_places(graph: Graph, order: list[int], images: Any) -> dict[int, list[Any]]:
    """Outputs of each place for a batch, in inference mode whatever the graph says."""
    import keras

    values: dict[int, list[Any]] = {}
    for index in order:
        place = graph.places[index]
        if not place.inputs and place.kind == "input":
            values[index] = [keras.ops.cast(images, graph.input_dtype)]
            continue
        values[index] = call_place(place, values, place.operation)
    return values


def call_place(place: Place, values: dict[int, list[Any]], operation: Any) -> list[Any]:
    """Call `operation` on what the place takes."""
    import keras

    given = {key: values[source][position] for key, (source, position) in place.inputs}
    args, kwargs = place.node.arguments.fill_in(given)
    if takes_training(operation):
        kwargs = {**kwargs, "training": False}
    return list(keras.tree.flatten(operation(*args, **kwargs)))


def takes_training(operation: Any) -> bool:
    """Whether a layer does something else in training (dropout, batch normalisation)."""
    return "training" in inspect.signature(operation.call).parameters
