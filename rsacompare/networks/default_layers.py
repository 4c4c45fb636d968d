"""The default layers of a network: about eight, evenly spaced by depth, found by rule.

A *neck* is a place that every way from the image to the output passes. Candidates are the first
and the last layer and those necks where branches meet again (in a residual network the blocks'
outputs, after their activation; in Inception and DenseNet the concatenations); where that makes
fewer than eight, all necks (in a plain chain every layer); else all layers. Of several at one
depth the last counts, after norm and activation. Equal steps of depth from the first weighted
operation to the output each take the nearest candidate. The network's output is read before its
softmax.
"""

from __future__ import annotations

from collections.abc import Iterable

from rsacompare.networks.graph import Graph, ancestors
from rsacompare.networks.layer_ops import ACTIVATIONS, activated

N_LAYERS = 8
# the rest only moves units about, or is one step inside a block
_LAYERS = ("conv", "dense", "norm", "add", "concat", *ACTIVATIONS)


def choose(graph: Graph, n_layers: int = N_LAYERS) -> list[str]:
    """Layer specs of the default set, from image to output."""
    necks = _necks(graph)
    everything = _last_per_depth(graph, range(len(graph.places)))
    for tier in (_last_per_depth(graph, _meetings(graph, necks)), _last_per_depth(graph, necks)):
        if len(tier) >= n_layers:
            return _spread(graph, tier, n_layers)
    if not everything:
        return [graph.places[graph.outputs[0]].name]
    return _spread(graph, everything, n_layers)


def _spread(graph: Graph, candidates: dict[int, int], n_layers: int) -> list[str]:
    """Nearest candidate {depth: place} to each of equal steps of depth."""
    left = dict(candidates)
    first, last, n = min(left), max(left), min(n_layers, len(left))
    chosen = []
    for step in range(n):
        target = first + (last - first) * step / max(n - 1, 1)
        chosen.append(left.pop(min(left, key=lambda d: (abs(d - target), -d))))
    return [_spec(graph, index) for index in sorted(chosen)]


def _spec(graph: Graph, index: int) -> str:
    place = graph.places[index]
    return f"{place.name}:logits" if place.fused == "softmax" else place.name


def _last_per_depth(graph: Graph, indices: Iterable[int]) -> dict[int, int]:
    """{weighted operations before: the last place there that is a layer of its own}."""
    held = {}
    for index in sorted(indices):
        place = graph.places[index]
        fixed = len(place.shapes) == 1 and bool(place.shapes[0]) and None not in place.shapes[0]
        if fixed and place.before > 0 and place.kind in _LAYERS:
            held[place.before] = index
    return held


def _meetings(graph: Graph, necks: list[int]) -> list[int]:
    """First and last layer, and necks where branches meet, after their activation."""
    depths = list(_last_per_depth(graph, necks).values())
    met = [activated(graph, k) for k in necks if graph.places[k].kind in ("add", "concat")]
    return [*depths[:1], *met, *depths[-1:]]


def _necks(graph: Graph) -> list[int]:
    """Places through which every way from the image to the output passes."""
    end = graph.outputs[0]
    useful = set(ancestors(graph, [end]))
    necks, reach = [], 0
    for k in sorted(useful):
        if reach <= k:  # no edge from before k lands after it
            necks.append(k)
        reach = max([reach, *(u for u in graph.places[k].consumers if u in useful)])
    return necks
