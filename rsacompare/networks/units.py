"""Which units of a layer are kept: all, a random draw, channels, or a projection.

`units` is one word or number, the same in Python, in study files and on the command line:

- `all`; a number n: n units at random, without replacement, ascending
- `channel-mean`: the spatial average of each channel
- `projection:k`: a sparse random projection to k dimensions
- `pca:share` or `pca:k`: principal components to a share of the variance, or k of them
- `yu2018`: 1,000 units as Python 2's `random.sample` gave them to Yu et al. (FACTS 4.4)
- `god2017`: 1,000 units as the Caffe script of the GOD study drew them (FACTS 4.4)
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.networks.network import Layer

KINDS = ("all", "a number", "channel-mean", "projection:k", "pca:share", "yu2018", "god2017")
YU_SEED, YU_N = 72, 1000
GOD_SEED, GOD_N = 2501, 1000
# units of conv1 … conv5, fc6, fc7, fc8 of CaffeNet: the draws follow one another in this order
GOD_SIZES = (290400, 186624, 64896, 64896, 43264, 4096, 4096, 1000)


@dataclass(frozen=True)
class Plan:
    """What is kept of one layer.

    Attributes
    ----------
    layer : Layer
    words : str
        For the attributes and the summary.
    neuroid : (column,) int
        Flat index of each unit (C order: height, width, channel), or channel, or dimension.
    take : callable
        (image, *shape) -> (image, column): what is kept of a batch.
    pca : float or None
        Share or number of components that the whole layer is reduced to at the end.
    """

    layer: Layer
    words: str
    neuroid: np.ndarray
    take: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    pca: float | None = None


def plan(units: int | str, layers: Sequence[Layer], random_state: int) -> list[Plan]:
    """What is kept of each layer.

    A random draw has a stream of its own per layer: the same seed and the same layer give the
    same units whatever else is extracted. The stream bears the name of the layer without its
    operation, so that `conv1` and `conv1:relu` are read at the same units.

    Parameters
    ----------
    units : int or str
        See the module.
    layers : sequence of Layer
    random_state : int

    Raises
    ------
    ProtocolError
        A word that is none of these; a number that makes no sense; `god2017` for layers that are
        not the eight of CaffeNet.
    """
    kind, number = parse(units)
    if kind == "god2017":
        return _god2017(layers)
    return [_PLANS[kind](layer, number, random_state) for layer in layers]


def parse(units: int | str) -> tuple[str, float]:
    """Kind and number of a `units` word.

    Examples
    --------
    >>> parse("pca:0.99"), parse(500), parse("channel-mean")
    (('pca', 0.99), ('sample', 500), ('channel-mean', 0))
    """
    if isinstance(units, bool) or not isinstance(units, (int, np.integer, str)):
        raise ProtocolError(f"units must be a number or one of {', '.join(KINDS)}; got {units!r}")
    word, colon, argument = str(units).strip().partition(":")
    if word.lstrip("+-").isdigit() and not colon:
        return "sample", _count(word, units)
    if word in ("all", "channel-mean", "yu2018", "god2017") and not colon:
        return word, 0
    if word == "projection":
        return word, _count(argument, units)
    if word == "pca":
        try:
            share = float(argument)
        except ValueError:
            share = math.nan
        if 0 < share < 1 or (share >= 1 and share == int(share)):
            return word, share
        raise ProtocolError(
            f"units '{units}': a share of the variance between 0 and 1 or a whole number of "
            "components is expected, as in 'pca:0.99' or 'pca:100'"
        )
    raise ProtocolError(plugins.unknown("units", units, KINDS))


def _count(text: str, units: int | str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ProtocolError(f"units '{units}': a whole number from 1 is expected")
    return int(text)


def stream(random_state: int, layer: Layer, purpose: str) -> np.random.Generator:
    """The generator of one layer: it depends on the seed, the purpose and the layer's name."""
    name = layer.name.split(":")[0]
    words = hashlib.blake2b(f"{purpose}\0{name}".encode(), digest_size=16).digest()
    return np.random.default_rng([random_state, *np.frombuffer(words, dtype="<u4").tolist()])


def python2_sample(n: int, k: int, seed: int) -> np.ndarray:
    """Indices that `random.seed(seed); random.sample(range(n), k)` gives in Python 2.7.

    Python 3 draws other ones, although the underlying uniform numbers are the same.

    Returns
    -------
    (k,) int, in the order drawn

    Examples
    --------
    >>> python2_sample(802816, 1000, 72)[:3].tolist()
    [58948, 477163, 794343]
    """
    if not 0 <= k <= n:
        raise ProtocolError(f"a sample of {k} from {n} units")
    uniform = random.Random(seed).random
    set_size = 21 + (4 ** math.ceil(math.log(k * 3, 4)) if k > 5 else 0)
    drawn: list[int] = []
    if n <= set_size:
        pool = list(range(n))
        for i in range(k):
            j = int(uniform() * (n - i))
            drawn.append(pool[j])
            pool[j] = pool[n - i - 1]
        return np.array(drawn, dtype=np.int64)
    taken: set[int] = set()
    while len(drawn) < k:
        j = int(uniform() * n)
        if j not in taken:
            taken.add(j)
            drawn.append(j)
    return np.array(drawn, dtype=np.int64)


def _flat(block: np.ndarray) -> np.ndarray:
    return block.reshape(len(block), -1)


def _keep(layer: Layer, index: np.ndarray, words: str) -> Plan:
    return Plan(layer, words, index, lambda block: _flat(block)[:, index])


def _all(layer: Layer, number: float, seed: int, why: str = "") -> Plan:
    return Plan(layer, f"all {layer.n_units} units{why}", np.arange(layer.n_units), _flat)


def _sample(layer: Layer, number: float, seed: int) -> Plan:
    n, k = layer.n_units, int(number)
    if n <= k:
        return _all(layer, 0, seed, f" ({k} were asked for)" if n < k else "")
    index = np.sort(stream(seed, layer, "units").choice(n, k, replace=False))
    return _keep(layer, index, f"{k} of {n} units at random (seed {seed})")


def _channel_mean(layer: Layer, number: float, seed: int) -> Plan:
    if len(layer.shape) < 2:
        return _all(layer, 0, seed, " (no spatial axes)")
    n_channels, places = layer.shape[-1], math.prod(layer.shape[:-1])

    def take(block: np.ndarray) -> np.ndarray:
        return block.reshape(len(block), places, n_channels).mean(axis=1, dtype=np.float64)

    words = f"spatial mean of each of {n_channels} channels"
    return Plan(layer, words, np.arange(n_channels), take)


def _projection(layer: Layer, number: float, seed: int) -> Plan:
    from rsacompare.networks.projection import sparse_projection

    n, k = layer.n_units, int(number)
    if n <= k:
        return _all(layer, 0, seed, f" (no more than the {k} dimensions asked for)")
    matrix = sparse_projection(n, k, stream(seed, layer, "projection"))
    words = f"sparse random projection of {n} units to {k} dimensions (seed {seed})"
    return Plan(layer, words, np.arange(k), lambda block: (matrix @ _flat(block).T).T)


def _pca(layer: Layer, number: float, seed: int) -> Plan:
    return Plan(layer, "", np.arange(layer.n_units), _flat, pca=number)


def _yu2018(layer: Layer, number: float, seed: int) -> Plan:
    n = layer.n_units
    if n < YU_N:  # Python 2 would have raised; no layer of theirs is that small
        return _all(layer, 0, seed, f" ({YU_N} were asked for)")
    words = f"{YU_N} of {n} units as Yu et al. 2018 drew them (Python 2, seed {YU_SEED})"
    return _keep(layer, python2_sample(n, YU_N, YU_SEED), words)


def _god2017(layers: Sequence[Layer]) -> list[Plan]:
    found = tuple(layer.n_units for layer in layers)
    if found != GOD_SIZES:
        raise ProtocolError(
            "units 'god2017' draws for conv1 to conv5, fc6, fc7 and fc8 of CaffeNet in this "
            f"order, with {', '.join(map(str, GOD_SIZES))} units; these layers have "
            f"{', '.join(map(str, found))}"
        )
    state = np.random.RandomState(GOD_SEED)
    plans = []
    for layer in layers:
        index = state.permutation(layer.n_units)[:GOD_N]
        if len(layer.shape) == 3:  # theirs are counted channel, height, width
            height, width, channels = layer.shape
            c, h, w = np.unravel_index(index, (channels, height, width))
            index = np.ravel_multi_index((h, w, c), layer.shape)
        words = f"{GOD_N} of {layer.n_units} units as the GOD study drew them (seed {GOD_SEED})"
        plans.append(_keep(layer, np.asarray(index), words))
    return plans


_PLANS: dict[str, Callable[[Layer, float, int], Plan]] = {
    "all": _all,
    "sample": _sample,
    "channel-mean": _channel_mean,
    "projection": _projection,
    "pca": _pca,
    "yu2018": _yu2018,
}
