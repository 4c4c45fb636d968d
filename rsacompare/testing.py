"""The contract of a metric, executable: what `compare`, `infer` and the pages rely on.

A guest's own metric is tested by one line, ``check_metric(MyMetric())``, or check by check::

    @pytest.mark.parametrize("check", metric_checks(MyMetric()), ids=str)
    def test_my_metric(check):
        check()

To add a check, write a function of (metric, world) that raises AssertionError, and put it in
`CHECKS` under the sentence that it proves.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import LabelError
from rsacompare.kernels import resample
from rsacompare.metrics import registry
from rsacompare.metrics.evidence import KINDS, Evidence, Meaning, Metric
from rsacompare.schema import arrays

N_TRAIN, N_TEST, N_REPEATS, N_UNSEEN = 40, 20, 3, 5
N_VOXELS, N_UNITS, N_LATENT = 12, 9, 5
INPUTS = frozenset({"activation", "network_rdm", "response", "brain_rdm"})


@dataclass(frozen=True)
class World:
    """A small network and brain that share latent dimensions, as a metric meets them.

    `network` (stimulus, unit) has stimuli that the brain never saw; `brain` (presentation,
    voxel) shows the stimuli `shown` (indices), the first `N_TRAIN` once, the others repeatedly.
    """

    network_kind: str
    brain_kind: str
    split: bool
    sessions: int
    names: np.ndarray
    network: np.ndarray
    brain: np.ndarray
    shown: np.ndarray

    def __str__(self) -> str:
        extra = ", split" if self.split else ", 2 sessions" if self.sessions > 1 else ""
        return f"{self.network_kind} x {self.brain_kind}{extra}"

    def network_array(self, order: np.ndarray | None = None) -> xr.DataArray:
        """The network's layer, of the stimuli `order` in that order; by default as it stands."""
        order = np.arange(len(self.names)) if order is None else order
        names, values = self.names[order], self.network[order]
        if self.network_kind == "activation":
            tree = arrays.activations({"net": {"layer": values}}, stimulus_id=names)
        else:
            layers = {"net": {"layer": _rdm(values)}}
            tree = arrays.rdms(layers, stimulus_id=names, of="network")
        data = tree.children["net"].children["layer"].to_dataset()
        return data["activation" if self.network_kind == "activation" else "rdm"]

    def brain_array(self, shuffled: bool = False) -> xr.DataArray:
        """The brain's region; its presentations (or, of an RDM, its stimuli) in another order."""
        items = len(self.shown) if self.brain_kind == "response" else N_TRAIN + N_TEST
        order = np.random.default_rng(3).permutation(items) if shuffled else np.arange(items)
        if self.brain_kind == "response":
            shown = self.shown[order]
            tree = arrays.responses(
                {"s1": self.brain[order]},
                stimulus_id=self.names[shown],
                split=np.where(shown < N_TRAIN, "train", "test") if self.split else None,
            )
            array = tree.children["s1"].to_dataset()["response"]
        else:
            rdm = _rdm(self.brain_means()[order])
            rdms = rdm if self.sessions == 1 else np.stack([rdm, 2 * rdm])
            tree = arrays.rdms({"s1": {"roi": rdms}}, stimulus_id=self.names[order])
            array = tree.children["s1"].to_dataset()["rdm"].sel(roi="roi", drop=True)
        return array.assign_attrs(subject="s1", roi="roi")

    def brain_means(self) -> np.ndarray:
        """Mean response to each stimulus that was shown: (stimulus, voxel)."""
        return np.stack([self.brain[self.shown == i].mean(axis=0) for i in np.unique(self.shown)])

    def with_network(self, network: np.ndarray) -> World:
        """The same brain and another network, given for the stimuli that were shown."""
        padded = np.vstack([network, np.zeros((N_UNSEEN, network.shape[1]))])
        padded[-N_UNSEEN:] = 100 + np.arange(N_UNSEEN)[:, None] * np.arange(network.shape[1])
        return replace(self, network=padded)

    def evidence(self, metric: Metric) -> Evidence:
        """As `compare` makes it."""
        return _evidence(metric, self.network_array(), self.brain_array())


def worlds(metric: Metric, random_state: int = 0) -> list[World]:
    """A world for each combination of inputs that the metric accepts."""
    rng = np.random.default_rng(random_state)
    n = N_TRAIN + N_TEST
    shown = np.r_[np.arange(N_TRAIN), np.repeat(np.arange(N_TRAIN, n), N_REPEATS)]
    shown = rng.permutation(shown)
    names = rng.permutation([f"stimulus-{i:03d}" for i in range(n + N_UNSEEN)])
    latent = rng.standard_normal((n, N_LATENT))
    signal = latent @ rng.standard_normal((N_LATENT, N_VOXELS))
    brain = 10 + signal[shown] + 0.5 * rng.standard_normal((len(shown), N_VOXELS))
    network = latent @ rng.standard_normal((N_LATENT, N_UNITS))
    network += 0.5 * rng.standard_normal(network.shape)
    forms = [("response", True, 1), ("response", False, 1)]
    forms += [("brain_rdm", False, 1), ("brain_rdm", False, 2)]
    return [
        World(kind, form, split, sessions, names, network, brain, shown).with_network(network)
        for kind in ("activation", "network_rdm")
        for form, split, sessions in forms
        if {kind, form} <= metric.accepts
    ]


@dataclass(frozen=True)
class Check:
    """One check of one metric in one world: call it; its name is its `str`."""

    name: str
    function: Callable[[Metric, World], None]
    metric: Metric
    world: World

    def __call__(self) -> None:
        self.function(self.metric, self.world)

    def __str__(self) -> str:
        return f"{self.name} [{self.world}]"


def metric_checks(metric: Metric | str) -> list[Check]:
    """Every check of a metric, for each kind of input that it accepts."""
    if isinstance(metric, str):
        metric = registry.metric(metric)
    _require(
        isinstance(metric, Metric),
        f"{metric!r} is no rsacompare.Metric; pass a metric's registered name, or an object",
    )
    _require(
        bool(metric.accepts) and set(metric.accepts) <= INPUTS,
        f"accepts must name some of {sorted(INPUTS)}, got {sorted(metric.accepts)}",
    )
    if getattr(metric, "random_state", 0) is None:  # as `compare` does
        metric = copy.copy(metric)
        metric.random_state = 0  # type: ignore[attr-defined]
    found = [
        Check(name, function, metric, world)
        for world in worlds(metric)
        for name, function in CHECKS.items()
    ]
    _require(bool(found), "accepts must name a network's input and a brain's")
    return found


def check_metric(metric: Metric | str) -> list[str]:
    """Run every check.

    Parameters
    ----------
    metric : Metric or str
        An object, or the name that it is registered by.

    Returns
    -------
    list of str
        The names of the checks, all of which passed.

    Raises
    ------
    AssertionError
        Names every check that failed and says what was found.

    Examples
    --------
    >>> import rsacompare as rc
    >>> class MeanLevel(rc.Metric):
    ...     name = "mean_level"
    ...     meaning = rc.Meaning("mean level")
    ...
    ...     def compare(self, activation, response):
    ...         ids, brain, _, _ = rc.average_repetitions(response)
    ...         network = activation.sel(stimulus_id=ids).mean("neuroid").values
    ...         return rc.TargetEvidence(ids, brain.mean(axis=1)[:, None], network[:, None])
    >>> "ones as weights change nothing [activation x response]" in check_metric(MeanLevel())
    True
    """
    failed, passed = [], []
    for check in metric_checks(metric):
        try:
            check()
        except Exception as error:  # whatever a guest's code raises is a failed check
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            failed.append(f"{check}: {kind}{error}")
        else:
            passed.append(str(check))
    if failed:
        name = metric if isinstance(metric, str) else getattr(metric, "name", type(metric).__name__)
        raise AssertionError(
            f"metric '{name}' fails {len(failed)} of {len(failed) + len(passed)} checks:\n- "
            + "\n- ".join(failed)
        )
    return passed


def _evidence(metric: Metric, network: xr.DataArray, brain: xr.DataArray) -> Evidence:
    return metric.compare(metric.prepare_activation(network), metric.prepare_response(brain))


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _same(got: Any, expected: Any, what: str, tolerance: float = 1e-12) -> None:
    got, expected = np.asarray(got), np.asarray(expected)
    close = got.shape == expected.shape and np.allclose(got, expected, tolerance, tolerance)
    _require(close, f"{what}: {got} instead of {expected}")


def _rdm(values: np.ndarray) -> np.ndarray:
    """Euclidean distances between rows: (pair,)."""
    i, j = np.triu_indices(len(values), 1)
    return np.sqrt(((values[i] - values[j]) ** 2).sum(axis=1))


def _some_weights(evidence: Evidence, n: int = 6) -> np.ndarray:
    k = len(evidence.stimulus_id)
    return np.random.default_rng(1).multinomial(k, np.full(k, 1 / k), size=n).astype(np.float64)


def _declares_itself(metric: Metric, world: World) -> None:
    _require(isinstance(metric.name, str) and metric.name, f"name is {metric.name!r}")
    meaning = metric.meaning
    _require(isinstance(meaning, Meaning) and meaning.label, f"meaning is {meaning!r}")
    _require(
        meaning.minimum <= meaning.chance <= meaning.maximum,
        f"chance {meaning.chance} outside [{meaning.minimum}, {meaning.maximum}]",
    )


def _is_evidence(metric: Metric, world: World) -> None:
    evidence = world.evidence(metric)
    _require(isinstance(evidence, Evidence), f"compare returned {type(evidence).__name__}")
    ids = np.asarray(evidence.stimulus_id)
    _require(ids.dtype.kind == "U", f"stimulus ids are {ids.dtype}, not strings")
    _require((ids[1:] > ids[:-1]).all(), "stimulus ids are not sorted, or stand twice")
    _require(np.isin(ids, world.names[world.shown]).all(), "stimuli that were never shown")
    _require("stimuli" in evidence.sources, f"sources {evidence.sources} lack 'stimuli'")
    _require(evidence.n_targets >= 1, f"n_targets is {evidence.n_targets}")
    _require(np.shape(evidence.score()) == (), f"score has shape {np.shape(evidence.score())}")


def _within_bounds(metric: Metric, world: World) -> None:
    low, high = metric.meaning.minimum, metric.meaning.maximum
    noise = np.random.default_rng(2).standard_normal((N_TRAIN + N_TEST, N_UNITS))
    for other in (world, world.with_network(noise), world.with_network(world.brain_means())):
        evidence = other.evidence(metric)
        scores = np.append(evidence.score(_some_weights(evidence)), evidence.score())
        inside = (scores >= low - 1e-9) & (scores <= high + 1e-9)
        _require(inside.all(), f"{scores[~inside]} lie outside [{low}, {high}]")


def _ones_as_weights(metric: Metric, world: World) -> None:
    evidence = world.evidence(metric)
    n = len(evidence.stimulus_id)
    _same(evidence.score(np.ones(n)), evidence.score(), "score(ones)")
    stack = evidence.score(np.ones((2, 3, n)))
    _same(stack, np.full((2, 3), evidence.score()), "score of (2, 3, stimulus) ones")
    if "units" in evidence.sources:
        targets = np.ones((2, evidence.target_size))
        got = evidence.score(np.ones((2, n)), targets)
        _same(got, np.full(2, evidence.score()), "score under ones for stimuli and units")


def _weights_are_relative(metric: Metric, world: World) -> None:
    evidence = world.evidence(metric)
    weights = _some_weights(evidence)
    once = evidence.score(weights)
    _require(np.isfinite(once).all(), f"bootstrap draws score {once}")
    _require(np.ptp(once) > 0, "six bootstrap draws of the stimuli all score the same")
    # not to the last digit: tau-a, rho-a and the whitened comparators see that copies are ties
    _same(evidence.score(2 * weights), once, "every stimulus twice as often", 0.03)


def _brain_order(metric: Metric, world: World) -> None:
    moved = _evidence(metric, world.network_array(), world.brain_array(shuffled=True))
    here = world.evidence(metric)
    _require((moved.stimulus_id == here.stimulus_id).all(), "other stimuli")
    _same(moved.score(), here.score(), "score")
    weights = _some_weights(here)
    _same(moved.score(weights), here.score(weights), "score under weights")


def _network_order(metric: Metric, world: World) -> None:
    order = np.random.default_rng(4).permutation(len(world.names))
    moved = _evidence(metric, world.network_array(order), world.brain_array())
    _same(moved.score(), world.evidence(metric).score(), "score")


def _unseen_stimuli(metric: Metric, world: World) -> None:
    seen = np.arange(N_TRAIN + N_TEST)
    less = _evidence(metric, world.network_array(seen), world.brain_array())
    _same(less.score(), world.evidence(metric).score(), "score")


def _missing_stimulus(metric: Metric, world: World) -> None:
    without = world.network_array(np.delete(np.arange(len(world.names)), N_TRAIN + 3))
    brain = world.brain_array()
    try:
        score = _evidence(metric, without, brain).score()
    except (LabelError, KeyError):  # KeyError: xarray's own, of `.sel`
        return
    raise AssertionError(f"the network lacks a test stimulus and yet scores {score}")


def _null(metric: Metric, world: World) -> None:
    evidence = world.evidence(metric)
    identity = np.arange(len(evidence.stimulus_id))
    _same(evidence.null(identity[None]), np.atleast_1d(evidence.score()), "null(identity)", 1e-10)
    orders = resample.permutations(
        np.random.default_rng(5), len(identity), 8, getattr(evidence, "fold", None)
    )
    drawn = evidence.null(orders)
    _require(drawn.shape == (8,) and np.isfinite(drawn).all(), f"null of 8 orders is {drawn}")
    _require(np.ptp(drawn) > 0, "eight orders of the stimuli all score the same")


def _round_trip(metric: Metric, world: World) -> None:
    evidence = world.evidence(metric)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **evidence.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as held:
        back = {name: held[name] for name in held.files}
    kind = str(back.get("kind"))
    _require(kind in KINDS, f"to_arrays gives kind '{kind}', not one of evidence.KINDS")
    again = KINDS[kind].from_arrays(back)
    weights = _some_weights(evidence)
    for got, expected in (
        (again.score(), evidence.score()),
        (again.score(weights), evidence.score(weights)),
    ):
        _require(np.array_equal(got, expected), f"stored and read again {got}, not {expected}")
    _require(again.digest() == evidence.digest(), "stored and read again its content differs")
    _require(again.sources == evidence.sources, f"sources became {again.sources}")


def _labels_from_outside(metric: Metric, world: World) -> None:
    evidence = world.evidence(metric)
    before = evidence.score()
    names = np.array([f"kind {i % 4}" for i in range(len(evidence.stimulus_id))])
    for label in ("block", "category", "segment"):
        if getattr(evidence, label) is None:
            setattr(evidence, label, names)  # as `compare` does; a frozen dataclass refuses
            held = getattr(evidence, label)
            _require(np.array_equal(held, names), f"{label} was set to {names}, it is {held}")
    _same(evidence.score(), before, "score once blocks and categories are told")


def _threads(metric: Metric, world: World) -> None:
    network, brain = world.network_array(), world.brain_array()
    before = network.copy(deep=True), brain.copy(deep=True)
    ready = metric.prepare_activation(network), metric.prepare_response(brain)
    expected = world.evidence(metric).digest()
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(metric.compare, *ready) for _ in range(8)]
        same = [job.result().digest() == expected for job in jobs]
    _require(all(same), f"{same.count(False)} of 8 threads on one prepared pair differ")
    for was, now in zip(before, (network, brain), strict=True):
        _require(was.identical(now), f"{now.name} was changed")


def _config(metric: Metric, world: World) -> None:
    before = json.dumps(metric.config(), sort_keys=True)
    world.evidence(metric)
    after = json.dumps(metric.config(), sort_keys=True)
    _require(after == before, f"options changed by comparing, from {before} to {after}")


def _ceiling(metric: Metric, world: World) -> None:
    evidence = world.evidence(metric)
    cells = [evidence, evidence, evidence]
    weights = _some_weights(evidence)
    for draws, shape in ((None, (3,)), (weights, (6, 3))):
        low, high = type(evidence).group_ceiling(cells, draws)
        _require(low.shape == high.shape == shape, f"ceilings {low.shape}, {high.shape}")
        both = np.isfinite(low) & np.isfinite(high)
        _require((low <= high + 1e-9)[both].all(), f"lower {low} above upper {high}")
    _require(isinstance(evidence.ceiling_key(), str), "ceiling_key is no string")


def _better_than_noise(metric: Metric, world: World) -> None:
    noise = np.random.default_rng(6).standard_normal((N_TRAIN + N_TEST, N_VOXELS))
    own = float(world.with_network(world.brain_means()).evidence(metric).score())
    other = float(world.with_network(noise).evidence(metric).score())
    better = own > other if metric.meaning.higher_is_better else own < other
    _require(better, f"the brain's own mean responses score {own}, noise scores {other}")


CHECKS: dict[str, Callable[[Metric, World], None]] = {
    "declares its name and what its number means": _declares_itself,
    "gives evidence on sorted stimuli that were shown": _is_evidence,
    "scores lie within the declared bounds": _within_bounds,
    "ones as weights change nothing": _ones_as_weights,
    "weights count relative to one another": _weights_are_relative,
    "the order of presentations does not matter": _brain_order,
    "the order of the network's stimuli does not matter": _network_order,
    "stimuli that the brain never saw do not matter": _unseen_stimuli,
    "a missing stimulus is an error": _missing_stimulus,
    "the null of no permutation is the score": _null,
    "evidence survives the store bit by bit": _round_trip,
    "blocks and categories of the stimuli can be told": _labels_from_outside,
    "threads share what was prepared": _threads,
    "options are plain and stay as they are": _config,
    "ceilings have their shapes and order": _ceiling,
    "the brain's own responses beat noise": _better_than_noise,
}
