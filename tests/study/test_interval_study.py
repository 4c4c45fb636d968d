"""`[inference] sources` and `interval` of a study file, down to pages and files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rsacompare as rc
from rsacompare.errors import ProtocolError

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
STUDY = """
name = "intervals"
rois = ["V1", "LOC"]
[brain.sample]
source = "{sample}/responses.nc"
[networks.tiny-a]
source = "{sample}/tiny-a.npz"
[networks.tiny-b]
source = "{sample}/tiny-b.npz"
[metrics.rsa]
[metrics.encoding]
[metrics.share]
type = "encoding"
normalise = true
[inference]
n_bootstrap = 100
n_permutations = 20
"""


def written(folder, more):
    path = folder / "study.toml"
    path.write_text(STUDY.format(sample=SAMPLE.as_posix()) + more)
    return path


@pytest.fixture(scope="module")
def studentised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study = written(folder, 'sources = ["stimuli"]\ninterval = "studentised"\n')
    return rc.run(study, folder / "out"), folder / "out"


def test_the_interval_asked_for_reaches_result_and_pages(studentised):
    result, out = studentised
    assert result["ci"].attrs["kind"] == (
        "studentised bootstrap interval, over stimuli, conditional on the fitted models"
    )
    told = json.loads(result.attrs["inference"])
    assert told["sources"] == {m: ["stimuli"] for m in ("rsa", "encoding", "share")}
    index = (out / "index.html").read_text()
    assert "bootstrap-t" in index
    assert "± t ×" not in index
    page = (out / "rsa.html").read_text()
    assert "studentised bootstrap intervals (100 draws) over stimuli" in page
    # no interval is symmetric, as one of t is
    low, high = (result["ci"].sel(ci_bound=b) for b in ("lower", "upper"))
    assert abs((low + high) / 2 - result["mean_score"]).max() > 0.01
    p, at = result["contrast_p"], [result[f"contrast_ci_{e}"] for e in ("low", "high")]
    known = np.isfinite(p)
    assert known.sum() > 10
    assert (((at[0] > 0) | (at[1] < 0)) == (p < 0.05))[known].all()


def test_sign_flips_and_bayes_factors_stand_in_the_contrast_tables(studentised):
    result, out = studentised
    page = (out / "encoding.html").read_text()
    assert "p sign-flip" in page
    assert "cannot lie below 0.25 for 3 subjects" in page
    assert "BF₁₀" in page
    found = result.sel(contrast=result["contrast_metric"] == "encoding")
    shown = f"{found['contrast_p_sign_flip'].dropna('contrast').values[0]:.4f}"
    assert f"<td>{shown}</td>" in page
    bayes = f"{found['contrast_bf10'].dropna('contrast').values[0]:#.3g}".rstrip(".")
    assert f"<td>{bayes}</td>" in page


def test_fractions_are_shown_and_written(studentised):
    result, out = studentised
    ratio = result["mean_score"] / result["group_ceiling_low"]
    known = np.isfinite(result["fraction"])
    np.testing.assert_allclose(result["fraction"].values[known], ratio.values[known])
    assert known.sel(metric="encoding").any()
    assert not known.sel(metric="share").any()  # divided by its ceiling already
    bounds = result["fraction_ci"]
    low, high = bounds.sel(ci_bound="lower"), bounds.sel(ci_bound="upper")
    assert ((low < high) | ~np.isfinite(low)).all()
    table = pd.read_csv(out / "summary_more.csv")
    assert table.columns.tolist() == [
        "metric", "network", "layer", "roi", "p_null_step", "p_null_bh", "p_null_by", "fraction",
        "fraction_low", "fraction_high",
    ]  # fmt: skip
    row = table[table["metric"] == "encoding"].iloc[0]
    cell = result.sel(metric="encoding", roi=row["roi"], layer=f"{row['network']}/{row['layer']}")
    assert row["fraction"] == pytest.approx(cell["fraction"].item())
    assert row["fraction_high"] == pytest.approx(cell["fraction_ci"].values[1])
    assert row["p_null_by"] == pytest.approx(cell["p_null_by"].item())
    rows = pd.read_csv(out / "contrasts_more.csv")
    assert len(rows) == result.sizes["contrast"]
    np.testing.assert_allclose(rows["p_bh"], result["contrast_p_bh"])
    np.testing.assert_allclose(rows["bf10"], result["contrast_bf10"])
    assert "share of ceiling" in (out / "encoding.html").read_text()
    assert "share of ceiling" not in (out / "share.html").read_text()
    assert table.loc[table["metric"] == "share", "fraction"].isna().all()


def test_a_study_names_its_one_source_before_anything_is_loaded(tmp_path):
    study = written(tmp_path, 'interval = "bca"\n')
    with pytest.raises(ProtocolError, match=r'single source.*sources = \["stimuli"\].*"t"'):
        rc.run(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()
