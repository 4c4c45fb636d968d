"""Some rows of the table of `make calibration`, with few simulations (there: 1000 of each).

No rate may be as far from what it should be as happens by chance in one of 300; the percentile
intervals and bars over five people of the same studies must be far from it, or nothing would be
measured.
"""

import sys
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "analyses"))
import calibration
import calibration_table as report
from calibration_population import DESIGNS, SCENARIOS

pytestmark = pytest.mark.slow
BASE = "5 people, 50 stimuli"
ROWS = {BASE: 100, "unequal reliability": 60, "no split": 60}
ALLOWED = 1 / 300


@cache
def table() -> pd.DataFrame:
    """Rates of all rows, as the script makes them."""
    simulations, truths = [], []
    for name, n in ROWS.items():
        for scenario in SCENARIOS if name == BASE else ("null", "equal"):
            lines = [
                x for i in range(n) for x in calibration.simulate(DESIGNS[name], scenario, i, 0)
            ]
            row = {"design": name, "scenario": scenario}
            simulations.append(pd.DataFrame(lines).assign(**row))
            truths.append(calibration.truth(DESIGNS[name], scenario, 0, 40).assign(**row))
    return report.rates(pd.concat(simulations), pd.concat(truths))


def rates(quantity: str, method: str = report.OURS, nominal: float = 0.05) -> pd.DataFrame:
    """The lines of a quantity, one per design and metric."""
    t = table()
    found = t[(t["quantity"] == quantity) & (t["method"] == method) & (t["nominal"] == nominal)]
    assert len(found)
    return found


@pytest.mark.parametrize("quantity", ["p_null", "fwe"])
def test_unrelated_networks_are_found_related_at_the_stated_rate(quantity):
    found = rates(quantity)
    assert (found["chance"] > ALLOWED).all(), found.to_string()


@pytest.mark.parametrize("nominal", [0.05, 0.01])
@pytest.mark.parametrize("scenario", ["null", "equal"])
def test_equal_networks_differ_at_most_at_the_stated_rate(scenario, nominal):
    found = rates(f"contrast, {scenario}", nominal=nominal)
    assert (found["chance"] > ALLOWED).all(), found.to_string()


@pytest.mark.parametrize("scenario", ["null", "equal"])
def test_a_winner_is_named_at_most_at_the_stated_rate(scenario):
    found = rates(f"winner, {scenario}")
    assert (found["chance"] > ALLOWED).all(), found.to_string()


def test_intervals_hold_the_true_difference_and_effects_are_found():
    found = rates("coverage, closer", nominal=0.95)
    assert (found["chance"] > ALLOWED).all(), found.to_string()
    assert (rates("contrast, wrong network")["rate"] <= 0.05).all()
    assert (rates("contrast, closer")["rate"] > 0.1).all()
    assert (rates("p_null, closer")["rate"] > 0.95).all()


@pytest.mark.parametrize("method", [report.BARS, report.PAIRED])
def test_bars_over_five_people_come_out_far_from_nominal(method):
    found = rates("contrast, equal", method)
    assert (found[found["design"] == BASE]["chance"] < report.FAR).sum() >= 3
    unrelated = rates("contrast, null", method)
    assert (unrelated[unrelated["design"] == BASE]["rate"] > 0.1).all()
    if method == report.PAIRED:
        missed = rates("coverage, closer", method, 0.95)
        assert (missed["rate"] < 0.9).all()
        assert missed["outside"].all()
