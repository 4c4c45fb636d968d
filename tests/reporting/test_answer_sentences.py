"""The three sentences say what the verdicts say, for any number of metrics, ROIs and networks."""

import numpy as np
import pytest

from rsacompare.reporting import sentences
from rsacompare.reporting.reading import Reading


@pytest.fixture
def told(make_result):
    """Sentences of a study whose verdicts are set by hand."""

    def tell(verdicts, n_networks=2, rois=("V1", "LOC"), metrics=("decoding", "encoding"), **more):
        names = [f"net{i}" for i in range(n_networks)]
        pairs = [[a, b] for i, a in enumerate(names) for b in names[i + 1 :]]
        result = make_result.result(
            list(metrics),
            {n: ["l1", "l2"] for n in names},
            {roi: [f"s{i}" for i in range(5)] for roi in rois},
            pairs,
            np.random.default_rng(0),
            **more,
        )
        rows = Reading(result).contrasts
        found = np.array([r.verdict for r in rows], dtype="<U12")
        signs = np.ones(len(rows))
        for i, row in enumerate(rows):
            key = (row.metric, row.roi, *row.pair)
            found[i] = verdicts.get(key, verdicts.get(row.metric, verdicts.get("*")))
            signs[i] = -1 if found[i] == "b" else 1
        result["contrast_verdict"] = ("contrast", found)
        size = np.abs(result["contrast_difference"].values)
        half = (result["contrast_ci_high"] - result["contrast_ci_low"]).values / 2
        result["contrast_difference"] = ("contrast", signs * size)
        result["contrast_ci_low"] = ("contrast", signs * size - half)
        result["contrast_ci_high"] = ("contrast", signs * size + half)
        reading = Reading(result)
        return [text for _, text in sentences.answer(reading)], reading

    return tell


def test_one_winner_everywhere(told):
    (won, _, _), _ = told({"*": "a"})
    assert "by decoding, net0 is closer to the brain than net1 in all 2 ROIs" in won
    assert "by encoding, net0 is closer in all 2 ROIs" in won
    assert "no single winner" not in won
    assert "net1 is closer" not in won


def test_size_is_that_of_the_largest_row_in_the_winners_favour(told):
    (won, _, _), reading = told({"*": "b"}, metrics=("rsa",))
    top = max(reading.rows("rsa", None, "mean"), key=lambda r: abs(r.difference))
    assert top.difference < 0
    expected = f"{-top.difference:.3f} [{-top.ci_high:.3f}, {-top.ci_low:.3f}] in {top.roi}"
    assert (
        f"net1 is closer to the brain than net0 in all 2 ROIs (largest difference {expected}"
        in (won.replace("−", "-"))
    )


def test_metrics_that_disagree_name_no_single_winner(told):
    (won, _, _), _ = told({"decoding": "a", "encoding": "b"})
    assert "So there is no single winner: the metrics differ: decoding favours net0" in won
    assert "encoding favours net1" in won


def test_rois_that_disagree_name_no_single_winner(told):
    key = ("rsa", "LOC", "net0", "net1")
    (won, _, _), _ = told({"*": "a", key: "b"}, metrics=("rsa",))
    assert "no single winner: the ROIs differ within RSA" in won


def test_undecided_is_said_and_not_taken_for_equality(told):
    (won, sure, limits), _ = told({"*": "undecided"}, metrics=("rsa",))
    assert "net0 against net1 is undecided in all 2 ROIs" in won
    assert "closer" not in won
    assert "No difference reached p < 0.05 after Holm's correction over the 2 rows" in sure
    assert "2 of 2 comparisons are undecided, which does not show that the networks are" in (
        limits[0].lower() + limits[1:]
    )


def test_equivalence_is_its_own_outcome(told):
    (won, sure, limits), _ = told({"*": "equivalent"}, metrics=("rsa",), rois=("V1",))
    assert "by RSA, the two are equivalent in the one ROI (V1)" in won
    assert "equivalence was tested" in sure
    assert "±0.1 of the lower noise ceiling" in sure
    assert "undecided" not in limits


def test_many_networks_are_counted_right(told):
    verdicts = {
        "*": "undecided",
        ("rsa", "V1", "net0", "net1"): "a",
        ("rsa", "V1", "net1", "net2"): "b",
        ("rsa", "LOC", "net0", "net1"): "b",
        ("rsa", "LOC", "net0", "net2"): "equivalent",
    }
    (won, sure, _), _ = told(verdicts, n_networks=3, metrics=("rsa",))
    assert (
        "of 6 comparisons (3 pairs of networks by ROI) 3 are decided, 1 equivalent and 2 undecided"
        in won
    )
    assert "net2 is closer in 1 and farther in 0 of its 4" in won
    assert "net0 is closer in 1 and farther in 1 of its 4" in won
    assert "net1 is closer in 1 and farther in 2 of its 4" in won
    assert won.index("net2 is closer") < won.index("net0 is closer") < won.index("net1 is closer")
    assert "No single winner, because metrics or ROIs differ: net0 against net1." in won
    assert "among the 3 named" in sure


def test_what_it_does_not_show_follows_from_the_study(told):
    (_, _, real), _ = told({"*": "a"})
    assert "1-bit weights" in real  # the note of the networks
    assert "with 5 subjects per ROI a claim about people in general is weak" in real
    assert "training stimuli and draw of units" in real
    (_, _, simulated), _ = told({"*": "a"}, simulated=1)
    assert "nothing follows about real brains or real networks" in simulated
    assert "1-bit weights" not in simulated


def test_how_sure_counts_cells_beyond_chance(told):
    (_, sure, _), reading = told({"*": "a"}, metrics=("rsa",))
    p = reading.result["p_null_fwer"].values
    assert f"{int((p < 0.05).sum())} of {p.size} by RSA" in sure
    assert "95 % from t with 4 degrees of freedom" in sure


def test_a_missing_verdict_is_undecided(told):
    (won, _, _), reading = told({"*": "a", "rsa": ""}, metrics=("rsa",))
    assert {row.outcome for row in reading.contrasts} == {"undecided"}
    assert "undecided in all 2 ROIs" in won
