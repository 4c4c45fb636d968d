"""Pages say which weights, pictures and units a network was run with."""

from __future__ import annotations

import json

import pytest

from rsacompare.reporting import methods, networks, sentences
from rsacompare.reporting.reading import Reading

PREPROCESSING = {
    "size": [227, 227], "fit": "squash_crop", "resize_to": 256, "resize": "bilinear_no_antialias",
    "scaling": "bvlc", "channels": "bgr",
}  # fmt: skip


@pytest.fixture
def told(real_result):
    """A result whose first network ran here with random weights."""
    first = str(real_result["network"].values[0])
    described = json.loads(real_result.attrs["networks"])
    for entry in described:
        if entry["name"] == first:
            entry |= {
                "weights": "random (He normal, random_state 3), not trained",
                "preprocessing": json.dumps(PREPROCESSING),
                "units": "1000",
                "units_seed": 3.0,
                "citation": "Somebody et al. 2012",
            }
    changed = real_result.copy()
    changed.attrs = {**real_result.attrs, "networks": json.dumps(described), "simulated": 0}
    return first, Reading(changed)


def test_the_table_says_what_was_run(told):
    first, reading = told
    row = next(row for row in networks.rows(reading) if row["name"] == first)
    assert row["told"] == {
        "weights": "random (He normal, random_state 3), not trained",
        "pictures": "squashed to 256 × 256 pixels (bilinear without antialias), centre of "
        "227 × 227 pixels, BGR less the mean of ImageNet (Caffe's numbers)",
        "units": "1,000 of each layer at random (seed 3), all where there are fewer",
        "source": "Somebody et al. 2012",
    }


def test_the_answer_and_the_methods_say_that_weights_were_random(told):
    first, reading = told
    limits = dict(sentences.answer(reading))["What it does not show."]
    assert f"It says nothing of trained networks: {first} has random weights." in limits
    text, references = methods.paragraph(reading, reading.metrics[0])
    assert f"Weights: {first} random (He normal, random_state 3), not trained; " in text
    assert "not stated." in text  # of the other
    assert "Somebody et al. 2012" in references


def test_nothing_is_said_where_nothing_is_known(real_result):
    reading = Reading(real_result)
    assert networks.untrained(reading) == []
    assert networks.methods(reading, reading.networks) == []
