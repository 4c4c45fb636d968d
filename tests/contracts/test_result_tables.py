"""The three tidy tables as views of a result, and what rides along with it."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from rsacompare.errors import DataError
from rsacompare.schema import results, store

LAYERS = [
    ("netA", "conv1", {"layer_index": 0, "depth": 0.0}),
    ("netA", "fc", {"layer_index": 1, "depth": 1.0}),
    ("netB", "conv1", {"layer_index": 0, "depth": 1.0}),
]


@pytest.fixture
def result():
    """One metric, two subjects, two ROIs, three layers; sub-02 has no V2, nobody netB in V2."""
    shape = (1, 2, 2, 3)
    score = np.arange(12.0).reshape(shape)
    score[0, 1, 1] = np.nan
    score[0, :, 1, 2] = np.nan
    n_targets = np.where(np.isnan(score), np.nan, 7)
    cells = ("metric", "subject", "roi", "layer")
    group = ("metric", "roi", "layer")
    mean = np.arange(6.0).reshape(1, 2, 3)
    mean[0, 1, 2] = np.nan
    data = {
        "score": (cells, score),
        "ceiling_low": (cells, score + 0.1),
        "ceiling_high": (cells, score + 0.2),
        "n_targets": (cells, n_targets),
        "mean_score": (group, mean),
        "p_null": (group, mean / 100),
        "p_null_fwer": (group, mean / 10),
        "group_ceiling_low": (group, mean + 1),
        "group_ceiling_high": (group, mean + 2),
        "ci": ((*group, "ci_bound"), np.stack([mean - 0.5, mean + 0.5], axis=-1)),
    }
    numbers = {"difference", "ci_low", "ci_high", "p", "p_fwer", "p_equivalence"}
    for i, column in enumerate(results.CONTRAST_COLUMNS):
        values = [i + 0.5, i + 0.75] if column in numbers else [f"{column}0", f"{column}1"]
        data[f"contrast_{column}"] = ("contrast", values)
    return xr.Dataset(
        data,
        coords={
            "metric": ["rsa"],
            "subject": ["sub-01", "sub-02"],
            "roi": ["V1", "V2"],
            "ci_bound": ["lower", "upper"],
            **results.layer_coords(LAYERS),
        },
        attrs={"meaning": json.dumps({"rsa": {"label": "RSA"}})},
    )


def test_scores_have_a_row_per_cell_that_exists(result):
    scores = results.tables(result)["scores"]
    assert tuple(scores.columns) == results.SCORE_COLUMNS
    assert len(scores) == 8
    for row in scores.itertuples():
        cell = result["score"].sel(
            metric=row.metric, subject=row.subject, roi=row.roi, layer=f"{row.network}/{row.layer}"
        )
        assert row.score == cell.item()
        assert row.ceiling_low == cell.item() + 0.1
        assert (row.layer_index, row.depth) == (cell["layer_index"].item(), cell["depth"].item())
    assert scores["n_targets"].dtype.kind == "i"
    assert scores["n_targets"].eq(7).all()
    assert scores.query("network == 'netB' and roi == 'V2'").empty
    assert scores.query("subject == 'sub-02' and roi == 'V2'").empty
    order = list(dict.fromkeys(scores["network"] + "/" + scores["layer"]))
    assert order == ["netA/conv1", "netA/fc", "netB/conv1"]


def test_a_cell_that_exists_but_has_no_score_keeps_its_row(result):
    """A layer of constant units gives NaN: a result, not an absence."""
    result["score"][0, 0, 0, 0] = np.nan
    scores = results.tables(result)["scores"]
    assert len(scores) == 8
    assert scores["score"].isna().sum() == 1


def test_summary_takes_bounds_by_name(result):
    swapped = result.isel(ci_bound=[1, 0])
    for data in (result, swapped):
        summary = results.tables(data)["summary"]
        assert tuple(summary.columns) == results.SUMMARY_COLUMNS
        assert len(summary) == 5
        row = summary.query("network == 'netA' and layer == 'fc' and roi == 'V2'").iloc[0]
        assert row[["score", "ci_low", "ci_high"]].tolist() == [4.0, 3.5, 4.5]
        assert row[["p_null", "p_null_fwer"]].tolist() == [0.04, 0.4]
        assert row[["ceiling_low", "ceiling_high"]].tolist() == [5.0, 6.0]


def test_contrasts_are_copied_column_by_column(result):
    contrasts = results.tables(result)["contrasts"]
    assert tuple(contrasts.columns) == results.CONTRAST_COLUMNS
    assert contrasts["verdict"].tolist() == ["verdict0", "verdict1"]
    assert contrasts["difference"].tolist() == [7.5, 7.75]
    none = results.tables(result.isel(contrast=slice(0)))["contrasts"]
    assert len(none) == 0
    assert tuple(none.columns) == results.CONTRAST_COLUMNS


def test_csv_and_netcdf_round_trip(result, tmp_path):
    written = results.write_tables(result, tmp_path)
    three, more = ["scores", "summary", "contrasts"], ["summary_more", "contrasts_more"]
    assert [p.stem for p in written] == [*three, *more]
    frames = results.tables(result) | results.checks_beside(result)
    for path in written:
        pd.testing.assert_frame_equal(pd.read_csv(path), frames[path.stem])
    store.write_netcdf(result, tmp_path / "results.nc")
    for source in (tmp_path, tmp_path / "results.nc"):
        back = results.load_result(source)
        assert back.identical(result)
        for name, frame in results.tables(back).items():
            pd.testing.assert_frame_equal(frame, frames[name])
    assert results.meanings(back) == {"rsa": {"label": "RSA"}}


def test_results_that_are_none(result, tmp_path):
    with pytest.raises(DataError, match="no file"):
        results.load_result(tmp_path)
    store.write_netcdf(result.drop_vars("mean_score"), tmp_path / "results.nc")
    with pytest.raises(DataError, match="holds no result of rsacompare"):
        results.load_result(tmp_path)
    store.write_netcdf(result, tmp_path / "results.nc")
    raw = (tmp_path / "results.nc").read_bytes()
    (tmp_path / "results.nc").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match="truncated"):
        results.load_result(tmp_path)


def test_extras_ride_along(result, tmp_path):
    before = dict(result.attrs)
    with_one = results.add_extra(
        result,
        kind="rdm",
        metric="rsa",
        title="RDMs",
        caption="…",
        arrays={
            "values": xr.DataArray(np.eye(2), dims=("item", "pair")),
            "stimulus_id": xr.DataArray(np.array(["a", "bc"], dtype=object), dims="stimulus"),
        },
    )
    with_two = results.add_extra(
        with_one,
        kind="table",
        metric="",
        title="Truth",
        caption="",
        arrays={"n": xr.DataArray([1, 2, 3], dims="item")},
        note=None,
        structure={"x": 1},
    )
    assert result.attrs == before, "the given result stays as it was"
    store.write_netcdf(with_two, tmp_path / "results.nc")
    back = results.load_result(tmp_path)
    extras = list(results.iter_extras(back))
    assert [e["title"] for e, _ in extras] == ["RDMs", "Truth"]
    np.testing.assert_array_equal(extras[0][1]["values"], np.eye(2))
    assert extras[0][1]["stimulus_id"].tolist() == ["a", "bc"]
    assert extras[1][1]["n"].tolist() == [1, 2, 3]
    assert [e["title"] for e, _ in results.iter_extras(back, metric="rsa")] == ["RDMs"]
    assert list(results.tables(back)["scores"].columns) == list(results.SCORE_COLUMNS)
    with pytest.raises(DataError, match="kind 'picture'"):
        results.add_extra(result, kind="picture", metric="", title="", caption="", arrays={})


def test_cells_of_a_metric():
    a, b = (results.Cell(m, "net/l", "V1", "sub-01") for m in ("rsa", "decoding"))
    comparison = results.Comparison(scores=xr.Dataset(), evidence={a: 1, b: 2})
    assert comparison.cells() == [a, b]
    assert comparison.cells("decoding") == [b]
