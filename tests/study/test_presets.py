"""The known answer of each phantom preset comes out of compare and infer."""

from functools import cache

import pytest

import rsacompare as rc
from rsacompare.datasets import phantom

ROIS = ["V1", "V4", "FFA", "LVC", "HVC"]  # early to late, areas and unions of areas
ALL = ("decoding", "rsa", "encoding")


@cache
def found(preset, *metrics):
    """The contrasts sim-alexnet − sim-resnet50 of a small phantom, and its smallest p_null_fwer."""
    comparison = rc.compare(
        phantom.load_networks(preset), phantom.load_brain(preset), metrics, rois=ROIS
    )
    result = rc.infer(comparison, n_bootstrap=200, n_permutations=199, n_splits=1)
    return rc.tables(result)["contrasts"], float(result["p_null_fwer"].min())


def verdicts(preset, metric, pairing="mean"):
    table = found(preset, "decoding", "encoding")[0]
    own = table[(table["metric"] == metric) & (table["pairing"] == pairing)]
    assert own["roi"].tolist() == ROIS
    return own["verdict"].tolist()


@pytest.mark.parametrize("metric", ["decoding", "encoding"])
def test_closer_is_found_closer_in_every_roi(metric):
    assert verdicts("closer", metric) == ["a"] * len(ROIS)


def test_flip_decoding_and_encoding_name_different_winners_in_every_roi():
    assert verdicts("flip", "decoding") == ["a"] * len(ROIS)
    assert verdicts("flip", "encoding") == ["b"] * len(ROIS)


def test_null_names_no_winner_and_finds_nothing_related():
    table, least = found("null", *ALL)
    assert not table["verdict"].isin(["a", "b"]).any()
    assert least >= 0.05


def test_equal_networks_have_no_winner():
    table, least = found("equal", *ALL)
    assert not table["verdict"].isin(["a", "b"]).any()
    assert least < 0.05  # both are related to the brain
