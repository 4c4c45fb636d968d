"""The three sentences say what the verdicts say, for any number of metrics, ROIs and networks."""

import json

import numpy as np
import pytest

from rsacompare.reporting import figures, numbers, sentences, tables
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
    assert won.startswith("Averaged over layers, between net0 and net1, decoding finds net0 closer")
    assert "encoding finds net0 closer to the brain in both ROIs" in won
    assert "disagree" not in won
    assert "net1 closer" not in won


def test_the_primary_pairing_leads(make_result):
    result = make_result.result(
        ["rsa"],
        {"net0": ["l1", "l2"], "net1": ["l1", "l2"]},
        {"V1": [f"s{i}" for i in range(5)]},
        [["net0", "net1"]],
        np.random.default_rng(0),
    )
    assert Reading(result).pairing == "mean"
    named = json.loads(result.attrs["inference"]) | {"primary": "depth"}
    result.attrs["inference"] = json.dumps(named)
    assert Reading(result).pairing == "depth"
    (_, won), *_ = sentences.answer(Reading(result))
    assert won.lower().startswith("over the common range of relative depth")


def test_size_is_that_of_the_largest_row_in_the_winners_favour(told):
    (won, _, _), reading = told({"*": "b"}, metrics=("rsa",))
    top = max(reading.rows("rsa", None, "mean"), key=lambda r: abs(r.difference))
    assert top.difference < 0
    expected = f"{-top.difference:.3f} [{-top.ci_high:.3f}, {-top.ci_low:.3f}], in {top.roi}"
    found = f"RSA finds net1 closer to the brain in both ROIs (by up to {expected})"
    assert found in won.replace("−", "-")


def test_metrics_that_disagree_name_no_single_winner(told):
    (won, _, _), _ = told({"decoding": "a", "encoding": "b"})
    assert won.startswith("The metrics disagree, so no single network won: averaged over layers")
    assert "decoding finds net0 closer" in won
    assert "encoding finds net1 closer" in won


def test_rois_that_disagree_name_no_single_winner(told):
    key = ("rsa", "LOC", "net0", "net1")
    (won, _, _), _ = told({"*": "a", key: "b"}, metrics=("rsa",))
    assert won.startswith("The ROIs disagree within RSA, so no single network won")
    assert "net0 closer to the brain in V1" in won
    assert "net1 closer to the brain in LOC" in won


def test_undecided_is_said_and_not_taken_for_equality(told):
    (won, sure, limits), reading = told({"*": "undecided"}, metrics=("rsa",))
    top = max(reading.rows("rsa", None, "mean"), key=lambda r: abs(r.difference))
    assert "RSA is undecided in both ROIs" in won
    assert f"largest observed difference {abs(top.difference):.3f}" in won
    assert f"for net0, in {top.roi})" in won
    assert "closer" not in won
    assert "No difference reached p < 0.05 after Holm's correction over the 2 rows" in sure
    assert "“Undecided” (2 of 2 comparisons) does not mean equally close" in limits


def test_names_that_were_withheld_are_counted(told):
    def sure(verdicts):
        _, reading = told(verdicts, metrics=("rsa",))
        result = reading.result
        at_v1 = result["contrast_roi"].values == "V1"
        result["contrast_p_fwer"] = ("contrast", np.full(len(at_v1), 0.004))
        result["contrast_p_beyond"] = ("contrast", np.where(at_v1, 0.3, 0.01))
        found = Reading(result)
        rows = found.rows("rsa", None, "mean")
        assert [r.withheld for r in rows] == [r.roi == "V1" and not r.winner for r in rows]
        return sentences.answer(found)[1][1]

    some = sure({"rsa": "a", ("rsa", "V1", "net0", "net1"): "undecided"})
    assert "after Holm's correction over the 2 rows (the 1 named: p = 0.004) and the winner" in some
    assert "own score is beyond its null (1 of 2 rows withheld: the networks differ, but" in some
    none = sure({"*": "undecided"})
    assert "Nobody is named, though differences reached p < 0.05 after Holm" in none
    assert "(1 of 2 rows withheld" in none
    assert "withheld" not in sure({"*": "a"})


def test_equivalence_is_its_own_outcome(told):
    (won, sure, limits), _ = told({"*": "equivalent"}, metrics=("rsa",), rois=("V1",))
    assert "RSA finds the two equivalent in V1, the one ROI" in won
    assert "“Equivalent” means within ±10 % of the lower noise ceiling" in sure
    assert "not corrected" in sure
    assert "ndecided" not in won + limits


def test_a_winner_within_the_equivalence_range_is_called_small(told):
    _, reading = told({"*": "a"}, metrics=("rsa",))
    result = reading.result
    p = np.where(result["contrast_roi"].values == "V1", 0.01, 0.9)
    result["contrast_p_equivalence"] = ("contrast", p)
    sure = sentences.answer(Reading(result))[1][1]
    assert "1 of the named differences is significant yet within the equivalence range" in sure
    result["contrast_p_equivalence"] = ("contrast", p * 0 + 0.9)
    assert "equivalence range" not in sentences.answer(Reading(result))[1][1]


def test_the_first_contrast_is_told_first_and_the_others_in_a_clause_each(told):
    verdicts = {
        "*": "undecided",
        ("rsa", "V1", "net0", "net1"): "a",
        ("rsa", "LOC", "net0", "net1"): "b",
        ("rsa", "V1", "net1", "net2"): "b",
        ("rsa", "LOC", "net1", "net2"): "equivalent",
    }
    (won, sure, _), _ = told(verdicts, n_networks=3, metrics=("rsa",))
    first, second, third = (
        won.index(f"etween {a} and {b}")
        for a, b in (("net0", "net1"), ("net1", "net2"), ("net0", "net2"))
    )
    assert first < second < third  # the one with nothing decided comes last
    assert won.startswith("The ROIs disagree within RSA, so no single network won")
    assert "net2 closer to the brain in V1" in won[second:third]
    assert "the two equivalent in LOC" in won[second:third]
    assert won[:third].endswith("nothing is decided b")
    assert "closer" not in won[third:]
    assert "the 3 named: p " in sure


def test_many_pairs_are_not_all_spelled_out(told):
    (won, _, _), _ = told({"*": "a"}, n_networks=5, metrics=("rsa",))
    assert won.count("closer to the brain") == 1 + sentences.MOST_PAIRS
    assert "4 more pairs with something decided stand in the table below" in won


def test_what_it_does_not_show_follows_from_the_study(told):
    (_, _, real), _ = told({"*": "a"})
    assert "1-bit weights" in real  # the note of the networks
    assert "With 5 subjects per ROI a claim about people in general is weak" in real
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
    assert "undecided in both ROIs" in won


def test_a_winner_that_only_another_pairing_names_is_said_on_the_first_page(told):
    (won, _, _), reading = told({"*": "undecided"}, metrics=("rsa",))
    assert "Other pairings" not in won
    result = reading.result.copy()
    best = result["contrast_pairing"].values.astype(str) == "best"
    result["contrast_verdict"] = result["contrast_verdict"].where(~best, "b")
    result["contrast_difference"] = abs(result["contrast_difference"]) * np.where(best, -1, 1)
    again = Reading(result)
    won = sentences.answer(again)[0][1]
    assert "RSA is undecided in both ROIs" in won
    line = won.split("\n")[1]
    assert line.startswith("Other pairings of layers name more winners: best layer against best")
    assert "net1 by RSA in both ROIs (by up to" in line
    assert "net0" not in line
    assert "averaged" not in line


def test_many_metrics_have_a_line_each_and_a_row_each(told):
    metrics = ("decoding", "rsa", "encoding", "cka", "pcm", "procrustes")
    (won, _, _), reading = told({"*": "a"}, metrics=metrics)
    assert [line.split(" finds ")[0] for line in won.split("\n")[1:]] == [
        f"– {reading.label(m)}" for m in metrics
    ]
    (table,) = tables.verdict_tables(reading)
    assert table["turned"]
    assert table["across"] == ["V1", "LOC"]
    assert [name for name, _ in table["lines"]] == list(metrics)
    row = next(r for r in reading.rows("rsa", None, "mean") if r.roi == "LOC")
    cell = dict(table["lines"])["rsa"][1]
    assert cell["difference"] == numbers.number(row.difference, signed=True)


def test_a_difference_without_an_interval_is_said_to_have_none(told):
    _, reading = told({"*": "undecided"}, metrics=("rsa",), rois=("V1",))
    result = reading.result.copy()
    for bound in ("contrast_ci_low", "contrast_ci_high"):
        result[bound] = result[bound] * np.nan
    won = sentences.answer(Reading(result))[0][1]
    assert "(no interval) for net0, in V1)" in won
    assert "–" not in won


def test_a_long_label_gives_way_to_the_metrics_key_in_the_study(told):
    _, reading = told({"*": "a"}, metrics=("rsa", "encoding"))
    assert figures.titles(reading, ["rsa", "encoding"], 3) == ["RSA", "e…g"]
    reading.meaning["rsa"]["label"] = "linear decoding of categories, pairwise identification"
    assert figures.titles(reading, ["rsa", "encoding"], 20) == ["rsa", "encoding"]
