"""What the pages say of their p values and notes agrees with the numbers beside it."""

import json

import pytest

from rsacompare import report
from rsacompare.inference import sign_flip
from rsacompare.reporting import tables
from rsacompare.reporting.reading import Reading


def test_as_many_subjects_are_flipped_exactly_as_is_told():
    assert tables.MOST_EXACT_FLIPS == sign_flip.MOST_EXACT


@pytest.mark.parametrize(
    ("n", "told"), [(5, "0.0625 for 5"), (14, "0.0001 for 14"), (15, "0.0005")]
)
def test_floor_of_random_sign_flips_is_that_of_their_number(monkeypatch, phantom_result, n, told):
    """15 people have a floor of 6e-5 by all patterns, but .0005 by 2,000 random ones."""
    inference = json.loads(phantom_result.attrs["inference"]) | {"n_permutations": 2000}
    reading = Reading(phantom_result.assign_attrs(inference=json.dumps(inference)))
    metric = reading.metrics[0]
    row = type("Row", (), {"roi": reading.rois(metric)[0], "p_sign_flip": 0.5})
    monkeypatch.setattr(Reading, "n_subjects", lambda *_: n)
    monkeypatch.setattr(Reading, "rows", lambda *_: [row])
    sentence = tables.sign_flips(reading, metric)
    assert f"cannot lie below {told}" in sentence
    assert ("2,000 random patterns" in sentence) == (n > 14)


def test_a_note_of_every_metric_is_said_once(phantom_result, tmp_path):
    metrics = Reading(phantom_result).metrics
    assert len(metrics) > 1
    notes = [f"{m}, mixed model: it did not converge." for m in metrics]
    page = report(phantom_result.assign_attrs(notes=json.dumps(notes)), tmp_path).read_text()
    assert page.count("mixed model: it did not converge.") == 1
    assert f"{metrics[-1]}, mixed model: it did not converge." in page
