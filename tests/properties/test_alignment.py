"""Whatever the order of rows: the same stimuli give the same numbers."""

import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from rsacompare.schema import arrays, labels, reading, store

ids_ = st.lists(st.text(min_size=1, max_size=4).map(lambda s: f"s{s}"), min_size=1, max_size=12)
ids_ = ids_.map(lambda ids: [i.replace("\0", "0") for i in ids])  # netCDF text ends at a null


@st.composite
def presentations(draw):
    """(ids, values, permutation): repeated stimuli in any order, and another order of the rows."""
    unique = draw(ids_)
    ids = draw(st.lists(st.sampled_from(unique), min_size=1, max_size=25))
    seed = draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).standard_normal((len(ids), 3))
    return np.array(ids), values, np.array(draw(st.permutations(range(len(ids)))))


def labelled(ids, values):
    return xr.DataArray(
        values,
        dims=("presentation", "neuroid"),
        coords={"stimulus_id": ("presentation", ids)},
    )


@given(presentations())
def test_averages_do_not_depend_on_the_order_of_presentations(case):
    ids, values, order = case
    found = labels.average_repetitions(labelled(ids, values))
    other = labels.average_repetitions(labelled(ids[order], values[order]))
    assert found[0].tolist() == other[0].tolist() == sorted(set(ids.tolist()))
    np.testing.assert_allclose(found[1], other[1], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[2], other[2], rtol=1e-9, atol=1e-14)
    np.testing.assert_array_equal(found[3], other[3])
    assert found[3].sum() == len(ids)


@given(presentations())
def test_averages_are_the_means_of_the_rows_with_that_label(case):
    ids, values, _ = case
    for label, mean in zip(*labels.average_repetitions(labelled(ids, values))[:2], strict=True):
        np.testing.assert_allclose(mean, values[ids == label].mean(axis=0), atol=1e-12)


@given(st.data())
def test_alignment_undoes_any_order_of_stimuli(data):
    ids = np.array(sorted(set(data.draw(ids_))))
    order = np.array(data.draw(st.permutations(range(len(ids)))))
    values = np.arange(len(ids) * 2.0).reshape(-1, 2)
    index = labels.index_of(ids, ids[order], "a", "b")
    np.testing.assert_array_equal(values[order][index], values)


@settings(max_examples=25, deadline=None)
@given(presentations())
def test_files_give_back_labels_and_values(tmp_path_factory, case):
    ids, values, _ = case
    tree = arrays.responses({"S": values}, stimulus_id=ids)
    path = tmp_path_factory.mktemp("trip") / "tree.nc"
    store.write_netcdf(tree, path)
    back = reading.read_tree(path)["S"]
    assert back["stimulus_id"].values.tolist() == ids.tolist()
    np.testing.assert_array_equal(back["response"], values)
    np.testing.assert_array_equal(back["repetition"], tree["S"]["repetition"])


@given(st.permutations(range(5)))
def test_rdm_pairs_follow_their_labels(order):
    """Reordering stimuli moves pairs; the dissimilarity of two labels stays what it was."""
    ids = np.array(["a", "b", "c", "d", "e"])
    square = np.abs(np.subtract.outer(np.arange(5.0) ** 2, np.arange(5.0) ** 2))

    def pairs(index):
        index = np.array(index)
        tree = arrays.rdms({"S": {"V1": square[np.ix_(index, index)]}}, stimulus_id=ids[index])
        data = tree["S"]
        names = zip(data["stimulus_a"].values, data["stimulus_b"].values, strict=True)
        return dict(zip(map(frozenset, names), data["rdm"].values[0].tolist(), strict=True))

    assert pairs(order) == pairs(range(5))
