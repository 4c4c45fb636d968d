"""Stimulus labels: what is refused, in a sentence that says where, what and what to do."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from rsacompare.errors import DataError, LabelError
from rsacompare.schema import labels


def god_ids(n=1250):
    """Labels of the form synset + image / 1e6, as in the GOD files."""
    rng = np.random.default_rng(0)
    return 1_500_000 + rng.integers(0, 13_000_000, 200).repeat(7)[:n] + np.arange(n) / 1e6


def test_float32_labels_are_refused_because_they_merge_images():
    ids = god_ids()
    assert np.unique(ids).size == 1250
    assert np.unique(ids.astype(np.float32)).size < 250  # the trap itself
    with pytest.raises(LabelError, match=r"float32.*GOD"):
        labels.as_stimulus_ids(ids.astype(np.float32), "responses of S1")
    with pytest.raises(LabelError, match="responses of S1: stimulus_id is float64"):
        labels.as_stimulus_ids(ids, "responses of S1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", "b", "a"], "duplicates: 'a'"),
        (["a", "", "c"], "empty or 'nan' at rows '1'"),
        (["a", "nan"], "empty or 'nan'"),
        (np.array(["a", None], dtype=object), "missing or non-text labels at rows '1'"),
        (pd.Series(["a", pd.NA, "c"]), "missing or non-text labels at rows '1'"),
        (np.array(["a", 1.5], dtype=object), "missing or non-text"),
        ([["a", "b"]], "one-dimensional"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "must be strings"),
    ],
)
def test_labels_that_are_refused(given, message):
    with pytest.raises(LabelError, match=message):
        labels.as_stimulus_ids(given, "here", unique=True)


@pytest.mark.parametrize(
    "given",
    [
        np.array([b"x1", b"x2"]),
        np.array(["x1", "x2"], dtype=object),
        pd.Series(["x1", "x2"]),
        pd.array(["x1", "x2"], dtype="string"),
        np.array(["x1", "x2"], dtype=np.dtypes.StringDType()),
        ("x1", b"x2"),
    ],
)
def test_labels_that_are_taken(given):
    out = labels.as_stimulus_ids(given, "here", unique=True)
    assert out.dtype.kind == "U"
    assert out.tolist() == ["x1", "x2"]


def test_whole_numbers_become_text_and_repeats_are_fine():
    assert labels.as_stimulus_ids(np.array([3, 3, 12]), "here").tolist() == ["3", "3", "12"]


def test_missing_ids_name_both_sides():
    with pytest.raises(LabelError, match="1 of 2 stimuli of the brain are not in the network: 'b'"):
        labels.index_of(np.array(["a", "b"]), np.array(["a", "c"]), "the brain", "the network")
    with pytest.raises(LabelError, match=r"No id matches at all.*like 'x'.*like 'stim01'"):
        labels.index_of(np.array(["x", "y"]), np.array(["stim01"]), "the brain", "the network")
    with pytest.raises(LabelError, match="the network has no stimuli"):
        labels.index_of(np.array(["a"]), np.array([], dtype=str), "the brain", "the network")


def test_a_longer_id_is_not_cut_to_match():
    with pytest.raises(LabelError, match="'stim100'"):
        labels.index_of(np.array(["stim100"]), np.array(["stim10"]), "a", "b")


def test_clean_attrs_survive_netcdf_and_keep_numbers(tmp_path):
    given = {
        "none": None,
        "yes": True,
        "no": np.bool_(False),
        "structure": {"b": np.int64(3), "a": np.float32(0.5), "list": (1, 2), "ok": np.bool_(True)},
        "array": np.arange(3),
        "text": "naïve …",
    }
    clean = labels.clean_attrs(given)
    assert "none" not in clean
    assert clean["yes"] == 1
    assert json.loads(clean["structure"]) == {"a": 0.5, "b": 3, "list": [1, 2], "ok": True}
    xr.Dataset(attrs=clean).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as back:
        assert back.attrs["structure"] == clean["structure"]
        assert back.attrs["text"] == "naïve …"
        assert int(back.attrs["no"]) == 0


def test_safe_names():
    assert labels.safe_name("block1/conv/relu") == "block1.conv.relu"
    for name in ("", " ", ".", "..", "/"):
        with pytest.raises(LabelError, match="cannot name"):
            labels.safe_name(name)


def test_require_finite_counts():
    values = np.zeros((4, 3))
    values[1, 2], values[2, 2], values[0, 0] = np.nan, np.inf, -np.inf
    with pytest.raises(DataError, match=r"V1: 3 values are NaN or infinite, in 2 of 3 columns"):
        labels.require_finite(values, "V1")


def test_one_repetition_has_no_variance():
    response = xr.DataArray(
        [[1.0, 2.0], [3.0, 5.0], [5.0, 9.0]],
        dims=("presentation", "neuroid"),
        coords={
            "stimulus_id": ("presentation", ["b", "a", "a"]),
            "split": ("presentation", ["test"] * 3),
        },
    )
    ids, mean, variance, count = labels.average_repetitions(response, "test")
    assert ids.tolist() == ["a", "b"]
    np.testing.assert_array_equal(mean, [[4.0, 7.0], [1.0, 2.0]])
    np.testing.assert_array_equal(variance, [[2.0, 8.0], [np.nan, np.nan]])
    assert count.tolist() == [2, 1]
    with pytest.raises(LabelError, match="no presentations with split 'train'; there are 'test'"):
        labels.average_repetitions(response, "train")
