"""The column grammar against bdpy on random expressions, and against sets where bdpy errs."""

import contextlib

import numpy as np
import pytest
from bdpy.bdata import BData
from hypothesis import given, settings
from hypothesis import strategies as st

from rsacompare.datasets.bdata import select_columns
from rsacompare.errors import ProtocolError

N = 12
KEYS = ["VoxelData", "ROI_V1", "ROI_V2", "ROI_LOC", "Run", "hand+eye"]


def tables():
    cell = st.sampled_from([0.0, 1.0, np.nan, 2.0])
    row = st.lists(cell, min_size=N, max_size=N).map(np.array)
    return st.fixed_dictionaries({key: row for key in KEYS})


def judge(table):
    bdata = BData()
    bdata.dataset = np.zeros((1, N))
    bdata.metadata.key = list(table)
    bdata.metadata.value = np.array(list(table.values()))
    bdata.metadata.description = [""] * len(table)
    return bdata


plain = st.sampled_from(
    ["VoxelData", "ROI_V1", "ROI_V2", "ROI_LOC", "Run", "ROI_*", "*", "ROI_V*", "*o*", "'hand+eye'"]
)
spaces = st.sampled_from(["", " ", "  "])
term = st.builds(
    lambda key, a, tail: f"{key}{a}{tail}", plain, spaces, st.sampled_from(["", "=1", "= 1"])
)
operator = st.builds(lambda a, sign, b: f"{a}{sign}{b}", spaces, st.sampled_from("|+&-"), spaces)


def chains(of):
    return st.builds(
        lambda first, rest: first + "".join(f"{sign}{other}" for sign, other in rest),
        of,
        st.lists(st.tuples(operator, of), max_size=4),
    )


grouped = st.builds("({})".format, chains(term))


@settings(max_examples=120, deadline=None)
@given(tables(), chains(term | grouped))
def test_chains_and_groups_select_what_bdpy_selects(table, expression):
    _, expected = judge(table).select(expression, return_index=True)
    np.testing.assert_array_equal(select_columns(table, expression), expected)


def trees():
    leaf = plain.filter(lambda key: "*" not in key)
    return st.recursive(
        leaf, lambda below: st.tuples(below, st.sampled_from("|&-"), below), max_leaves=8
    )


def written(tree):
    if isinstance(tree, str):
        return tree
    return f"({written(tree[0])} {tree[1]} {written(tree[2])})"


def as_sets(tree, table):
    if isinstance(tree, str):
        return set(np.flatnonzero(table[tree.strip("'")] == 1).tolist())
    a, b = as_sets(tree[0], table), as_sets(tree[2], table)
    return {"|": a | b, "&": a & b, "-": a - b}[tree[1]]


@settings(max_examples=80, deadline=None)
@given(tables(), trees())
def test_nested_parentheses_mean_what_is_written(table, tree):
    found = select_columns(table, written(tree))
    assert set(np.flatnonzero(found).tolist()) == as_sets(tree, table)


def test_bdpy_closes_all_parentheses_at_once():
    """Why nested ones are judged by sets: A | ((B & C) - D) is read as (A | (B & C)) - D there."""
    table = {key: np.array(v) for key, v in zip("ABCD", np.eye(4)[[0, 1, 1, 0]], strict=True)}
    bdata = BData()
    bdata.dataset = np.zeros((1, 4))
    bdata.metadata.key = list(table)
    bdata.metadata.value = np.array(list(table.values()))
    expression = "A | ((B & C) - D)"
    theirs = bdata.select(expression, return_index=True)[1].tolist()
    assert theirs == [False, True, False, False]
    assert select_columns(table, expression).tolist() == [True, True, False, False]


TABLE = {
    "ROI_V1": np.array([1, 0, 2, np.nan]),
    "ROI_V2": np.array([0, 1, 2, np.nan]),
    "V2": np.array([0, 0, 1, 0.0]),
    "Run": np.array([np.nan, np.nan, np.nan, 1]),
}


def test_values_are_compared_and_nan_is_never_selected():
    assert select_columns(TABLE, "ROI_V1 = 2").tolist() == [False, False, True, False]
    assert select_columns(TABLE, "ROI_V1 = 0").tolist() == [False, True, False, False]
    assert select_columns(TABLE, "ROI_V1 = 2.0 | Run").tolist() == [False, False, True, True]


def test_a_short_name_is_a_roi_unless_it_is_a_key():
    assert select_columns(TABLE, "V1").tolist() == [True, False, False, False]
    assert select_columns(TABLE, "V2").tolist() == [False, False, True, False]
    assert select_columns(TABLE, "V1 + ROI_V2 - V2").tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "a key is missing"),
        ("V1 |", "a key is missing"),
        ("V1 & | V2", r"'\|' where a key"),
        ("(V1 | V2", "not closed"),
        ("V1)", r"'\)' closes nothing"),
        ("V1 = ", "'' where a number"),
        ("V1 = x", "'x' where a number"),
        ("'V1", "quote is not closed"),
        ("''", "an empty key"),
        ("V1 (V2)", r"'\(' where"),
        ("V1 @ V2", "'@' where"),
        ("ROI_V.", "unknown key 'ROI_V.'; did you mean"),
        ("ROI_V[12]", "unknown key"),
        ("ROI_X*", "unknown key"),
    ],
)
def test_expressions_that_are_refused(expression, message):
    with pytest.raises(ProtocolError, match=message):
        select_columns(TABLE, expression)


@settings(max_examples=120, deadline=None)
@given(st.text(alphabet="V12RO_I*|&+-=()'\" @.", max_size=14))
def test_no_text_raises_anything_else(expression):
    with contextlib.suppress(ProtocolError):
        assert select_columns(TABLE, expression).dtype == bool
