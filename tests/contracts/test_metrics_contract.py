"""Every registered metric keeps the contract, and the contract catches metrics that do not."""

import numpy as np
import pytest

import rsacompare as rc
from rsacompare import plugins, testing
from rsacompare.errors import LabelError, ProtocolError

NAMES = plugins.names("metrics")


@pytest.mark.parametrize("name", NAMES)
def test_registered_metric_passes_every_check(name):
    passed = testing.check_metric(rc.metric(name))
    assert len(passed) % len(testing.CHECKS) == 0
    assert passed


@pytest.mark.parametrize("name", NAMES)
def test_registered_metric_names_the_missing_stimulus(name):
    metric = testing.metric_checks(rc.metric(name))[0].metric  # with a seed, where it takes one
    for world in testing.worlds(metric):
        lacking = np.delete(np.arange(len(world.names)), testing.N_TRAIN + 3)
        ready = metric.prepare_response(world.brain_array())
        with pytest.raises(LabelError, match=world.names[testing.N_TRAIN + 3]):
            metric.compare(metric.prepare_activation(world.network_array(lacking)), ready)


@pytest.mark.parametrize("name", NAMES)
def test_twice_every_stimulus_is_once_every_stimulus(name):
    for check in testing.metric_checks(rc.metric(name))[:: len(testing.CHECKS)]:
        evidence = check.world.evidence(check.metric)
        n = len(evidence.stimulus_id)
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=5)
        np.testing.assert_allclose(
            evidence.score(2.0 * weights), evidence.score(weights), rtol=1e-10
        )


class Sound(rc.Metric):
    """Mean activation against mean response; each metric below breaks it in one way."""

    name = "sound"
    meaning = rc.Meaning("mean level")

    def rows(self, activation, ids):
        return activation.sel(stimulus_id=ids).values

    def compare(self, activation, response):
        ids, brain, _, _ = rc.average_repetitions(response)
        network = self.rows(activation, ids).mean(axis=1)
        return rc.TargetEvidence(ids, brain.mean(axis=1)[:, None], network[:, None])


class ByRowOrder(Sound):
    """Takes the network's rows as they come, never looking at the labels."""

    def rows(self, activation, ids):
        return activation.values[: len(ids)]


class ByPresentation(Sound):
    """Scores every presentation as if it were a stimulus of its own."""

    def compare(self, activation, response):
        ids = response["stimulus_id"].values.astype(str)
        network = self.rows(activation, ids).mean(axis=1)
        return rc.TargetEvidence(ids, response.values.mean(axis=1)[:, None], network[:, None])


class Drifting(Sound):
    """Changes what was prepared, which other threads share."""

    def prepare_response(self, response):
        return response.copy()

    def compare(self, activation, response):
        evidence = super().compare(activation, response)
        response.values[0] += 1.0
        return evidence


class WrongSign(Sound):
    """Says that lower is better of a correlation."""

    meaning = rc.Meaning("mean level", higher_is_better=False)


class WrongBounds(Sound):
    """Promises scores that a correlation does not keep to."""

    meaning = rc.Meaning("mean level", minimum=0.0, maximum=0.2)


class WeightSum(rc.TargetEvidence):
    """Grows with the number of stimuli."""

    def score(self, weights=None, target_weights=None):
        w = np.ones(len(self.stimulus_id)) if weights is None else weights
        return super().score(weights) * np.mean(w, axis=-1)


class Growing(Sound):
    """Gives evidence that is no mean over its stimuli."""

    def compare(self, activation, response):
        good = super().compare(activation, response)
        return WeightSum(good.stimulus_id, good.observed, good.predicted)


class WithArrayOption(Sound):
    """Keeps an option that no study file can hold."""

    def __init__(self):
        self.template = np.ones(3)


def failures(metric):
    failed = set()
    for check in testing.metric_checks(metric):
        try:
            check()
        except Exception:
            failed.add(check.name)
    return failed


def test_the_sound_metric_passes():
    assert failures(Sound()) == set()


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (
            ByRowOrder(),
            {
                "the order of the network's stimuli does not matter",
                "a missing stimulus is an error",
                "the brain's own responses beat noise",
            },
        ),
        (
            ByPresentation(),
            {
                "gives evidence on sorted stimuli that were shown",
                "the order of presentations does not matter",
            },
        ),
        (Drifting(), {"threads share what was prepared"}),
        (WrongSign(), {"the brain's own responses beat noise"}),
        (WrongBounds(), {"scores lie within the declared bounds"}),
        (Growing(), {"weights count relative to one another"}),
        (WithArrayOption(), {"options are plain and stay as they are"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, rc.Metric) else "",
)
def test_a_broken_metric_fails_the_checks_that_name_its_fault(metric, expected):
    assert failures(metric) == expected
    with pytest.raises(AssertionError, match=sorted(expected)[0]):
        testing.check_metric(metric)


def test_what_is_no_metric_is_refused():
    with pytest.raises(AssertionError, match=r"no rsacompare\.Metric"):
        testing.check_metric(len)
    with pytest.raises(ProtocolError, match="unknown metric 'decodign'; did you mean 'decoding'"):
        testing.check_metric("decodign")
    greedy = Sound()
    greedy.accepts = frozenset({"activation", "spikes"})
    with pytest.raises(AssertionError, match="accepts must name"):
        testing.check_metric(greedy)
