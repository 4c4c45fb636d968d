"""What `layer:op` means: the place in the graph, or a sentence on why it is nowhere.

| op | what is read |
|---|---|
| (none) | the layer's output exactly as in the model |
| `linear` | before the activation inside the layer |
| `norm` | after the normalisation that follows |
| `relu` | after the ReLU that follows, or that is inside the layer |
| `block` | the output of the residual block the layer is in: the addition and its activation |
| `logits`, `softmax` | before and after the softmax inside the layer or behind it |
| `abs` | the absolute value before the activation inside the layer |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.networks.graph import Graph, Place

_PASSED = ("dropout", "identity")  # change nothing in inference mode
_SOFTMAX_WAY = (*_PASSED, "reshape")


@dataclass(frozen=True)
class Reading:
    """A place, and what is done to it: "" as it is, or `linear`, `abs`, `softmax`."""

    place: int
    change: str = ""
    op: str = ""  # in words, where a spec asked for one


def resolve(graph: Graph, network: str, spec: str) -> Reading:
    """The place that a spec `name[:op]` means.

    Raises
    ------
    ProtocolError
        No such layer, no such op, or an op that does not follow here (it says what does).
    """
    if not isinstance(spec, str):
        raise ProtocolError(f"network {network}: a layer is a string, got {spec!r}")
    name, op = (spec, "") if spec in graph.by_name else _split(spec)
    if name in graph.several:
        calls = ", ".join(graph.several[name])
        raise ProtocolError(
            f"network {network}: layer '{name}' is used {len(graph.several[name])} times; "
            f"say which: {calls}"
        )
    if name not in graph.by_name:
        raise ProtocolError(plugins.unknown(f"layer of {network}", name, graph.by_name))
    index = graph.by_name[name]
    if not op:
        if spec.endswith(":"):
            raise ProtocolError(f"network {network}: '{spec}' ends with a colon and no op")
        return Reading(index)
    if op not in OPS:
        raise ProtocolError(plugins.unknown(f"op of a layer ('{spec}')", op, OPS))
    try:
        return OPS[op](graph, index)
    except ValueError as err:
        raise ProtocolError(f"network {network}: '{spec}' is nowhere: {err}") from None


def _split(spec: str) -> tuple[str, str]:
    name, _, op = spec.rpartition(":")
    return (name, op) if name else (spec, "")


def _linear(graph: Graph, index: int) -> Reading:
    place = graph.places[index]
    if place.kind not in ("conv", "dense"):
        raise ValueError(f"{_say(place)} has no linear part of its own")
    return Reading(index, "linear" if place.fused else "", place.kind)


def _abs(graph: Graph, index: int) -> Reading:
    return Reading(index, "abs", "abs")


def _norm(graph: Graph, index: int) -> Reading:
    place = graph.places[index]
    if place.fused:
        raise ValueError(f"{_say(place)} has its {place.fused} inside, and no norm before it")
    way = _follow(graph, index, ("norm",), _PASSED)
    return Reading(way[-1], "", "norm")


def _relu(graph: Graph, index: int) -> Reading:
    place = graph.places[index]
    if "relu" in (place.fused, place.kind):
        return Reading(index, "", "relu")
    if place.fused:
        raise ValueError(f"{_say(place)} has {place.fused} inside")
    way = _follow(graph, index, ("relu",), (*_PASSED, "norm"))
    return Reading(way[-1], "", "relu")


def _softmax(graph: Graph, index: int) -> Reading:
    place = graph.places[index]
    if "softmax" in (place.fused, place.kind):
        return Reading(index, "", "softmax")
    if place.fused:
        raise ValueError(f"{_say(place)} has {place.fused} inside")
    if index in graph.outputs and not place.consumers and len(place.shapes[0]) == 1:
        return Reading(index, "softmax", "softmax")  # a network without its last activation
    return Reading(_follow(graph, index, ("softmax",), _SOFTMAX_WAY)[-1], "", "softmax")


def _logits(graph: Graph, index: int) -> Reading:
    place = graph.places[index]
    if place.fused == "softmax":
        return Reading(index, "linear", "logits")
    if place.kind == "softmax":
        return Reading(place.parents[0], "", "logits")
    if place.fused:
        raise ValueError(f"{_say(place)} has {place.fused} inside")
    if index in graph.outputs and not place.consumers and place.kind in ("conv", "dense"):
        return Reading(index, "", "logits")
    way = _follow(graph, index, ("softmax",), _SOFTMAX_WAY)
    return Reading(graph.places[way[-1]].parents[0], "", "logits")


def _block(graph: Graph, index: int) -> Reading:
    """First addition ahead, and its activation, where its shortcut begins before this place.

    A way round is not enough: round a squeeze-and-excitation leads one too, inside its own block.
    """
    places = graph.places
    if _is_addition(places[index]):
        return Reading(activated(graph, index), "", "block")
    for parent in places[index].parents:
        if _is_addition(places[parent]) and activated(graph, parent) == index:
            return Reading(index, "", "block")
    through = _dominators(graph)
    ahead = {index}  # reached from here
    for k in range(index + 1, len(places)):
        if ahead.isdisjoint(places[k].parents):
            continue
        ahead.add(k)
        if _is_addition(places[k]):
            if through[k] >= index:  # the block begins here or behind
                break
            return Reading(activated(graph, k), "", "block")
    raise ValueError(
        f"{_say(places[index])} is not inside a residual block: no addition ahead has a shortcut "
        f"round it; {_next(graph, index)}"
    )


def _dominators(graph: Graph) -> list[int]:
    """The last place that every way from the image to each place passes, itself left out."""
    through: list[int] = []
    for place in graph.places:
        ways = set(place.parents)
        while len(ways) > 1:  # in topological order the later one is never the common one
            last = max(ways)
            ways.remove(last)
            ways.add(through[last])
        through.append(ways.pop() if ways else 0)
    return through


def _is_addition(place: Place) -> bool:
    return place.kind == "add" and len(set(place.parents)) > 1


def activated(graph: Graph, index: int) -> int:
    """An addition's own activation, where all that uses it is one."""
    users = graph.places[index].consumers
    if len(users) == 1 and graph.places[users[0]].kind in ACTIVATIONS:
        return users[0]
    return index


ACTIVATIONS = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "hard_silu",
               "hard_swish", "tanh", "sigmoid", "mish", "softplus", "p_re_lu")  # fmt: skip


def _follow(
    graph: Graph, index: int, wanted: tuple[str, ...], passed: tuple[str, ...]
) -> list[int]:
    """The way from a place to the first of a wanted kind, through those that may be passed."""
    places = graph.places
    way = [index]
    while True:
        users = places[way[-1]].consumers
        hits = [u for u in users if places[u].kind in wanted]
        if len(hits) == 1:
            return [*way, hits[0]]
        if len(hits) > 1:
            names = ", ".join(places[u].name for u in hits)
            raise ValueError(f"several follow: {names}; name one of them")
        onward = [u for u in users if places[u].kind in passed]
        if len(onward) != 1:
            steps = "".join(f", then {_say(places[k])}" for k in way[1:])
            raise ValueError(f"{_say(places[index])} comes first{steps}; {_next(graph, way[-1])}")
        way.append(onward[0])


def _next(graph: Graph, index: int) -> str:
    users = [_say(graph.places[u]) for u in graph.places[index].consumers]
    return f"next comes {' and '.join(users)}" if users else "nothing comes after it"


def _say(place: Place) -> str:
    return f"{place.name} ({place.label})"


OPS: dict[str, Callable[[Graph, int], Reading]] = {
    "linear": _linear,
    "norm": _norm,
    "relu": _relu,
    "block": _block,
    "logits": _logits,
    "softmax": _softmax,
    "abs": _abs,
}
