"""Alignment and averaging of repetitions against pandas."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from rsacompare.errors import LabelError
from rsacompare.schema import labels


@pytest.mark.parametrize("seed", range(20))
def test_index_of_equals_get_indexer(seed):
    rng = np.random.default_rng(seed)
    pool = np.array([f"n{a:08d}_{b}" for a, b in rng.integers(0, 10**5, (60, 2))])
    available = rng.permutation(np.unique(pool))[: rng.integers(2, 50)]
    wanted = rng.choice(available, rng.integers(1, 80))
    expected = pd.Index(available).get_indexer(wanted)
    np.testing.assert_array_equal(labels.index_of(wanted, available, "a", "b"), expected)
    extra = np.append(wanted, "missing")
    assert pd.Index(available).get_indexer(extra)[-1] == -1
    with pytest.raises(LabelError, match="'missing'"):
        labels.index_of(extra, available, "a", "b")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("split", [None, "train", "test"])
def test_average_repetitions_equals_groupby(seed, split):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 60))
    ids = rng.choice([f"s{i}" for i in range(12)], n)
    splits = np.append(["train", "test"], rng.choice(["train", "test"], n - 2))
    values = 1000 + rng.standard_normal((n, 4))  # a large mean: the variance must not lose it
    response = xr.DataArray(
        values,
        dims=("presentation", "neuroid"),
        coords={"stimulus_id": ("presentation", ids), "split": ("presentation", splits)},
    )
    frame = pd.DataFrame(values).assign(id=ids)
    if split is not None:
        frame = frame[splits == split]
    grouped = frame.groupby("id")
    found_ids, mean, variance, count = labels.average_repetitions(response, split)
    assert found_ids.tolist() == list(grouped.groups)
    np.testing.assert_allclose(mean, grouped.mean().to_numpy(), rtol=1e-13)
    np.testing.assert_allclose(variance, grouped.var(ddof=1).to_numpy(), rtol=1e-9)
    np.testing.assert_array_equal(count, grouped.size().to_numpy())
