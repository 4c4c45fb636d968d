"""The README's code runs, and its numbers are those of the study."""

import os
import re
from pathlib import Path

import pytest

import rsacompare as rc

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scene: dict = {}
    for block in blocks("python"):
        exec(block, scene)
    assert (tmp_path / "reports" / "mine" / "index.html").is_file()
    assert "mynet" in (tmp_path / "reports" / "mine" / "rsa.html").read_text()
    table = rc.tables(scene["result"])["contrasts"].set_index(["metric", "roi", "pairing"])
    # what conv1 shares with the voxels is found by every metric
    assert (table["difference"].xs("mean", level="pairing") > 0.05).all()
    assert "verdict" in capsys.readouterr().out


def test_study_block_runs(tmp_path):
    study = tmp_path / "study.toml"
    whole = next(block for block in blocks("toml") if block.startswith("name ="))
    study.write_text(whole.replace("= 1000", "= 50"))
    for file in ("responses.nc", "tiny-a.npz", "tiny-b.npz"):
        (tmp_path / file).symlink_to(ROOT / "data" / "sample" / file)
    rc.run(study, tmp_path / "out")
    assert (tmp_path / "out" / "decoding.html").is_file()


@pytest.mark.slow
@pytest.mark.skipif(
    "RSACOMPARE_DATA" not in os.environ, reason="needs the published RDMs: set RSACOMPARE_DATA"
)
def test_numbers_of_the_real_study():
    result = rc.run(ROOT / "analyses" / "kriegeskorte92.toml", n_jobs=2)
    table = rc.tables(result)["contrasts"].set_index(["pairing", "network_a", "network_b", "roi"])
    rows = re.findall(r"^\| (EVC|IT|hIT) \|(.*)\|$", README, flags=re.MULTILINE)
    assert len(rows) == 3
    for roi, text in rows:
        cells = [c.strip().replace("−", "-") for c in text.split("|")]
        for network, (interval, p, verdict) in zip(
            ("alexnet_w1a2", "squeezenet"), (cells[:3], cells[3:]), strict=True
        ):
            row = table.loc["mean", network, "resnet50_w1a2", roi]
            numbers = [float(n) for n in re.findall(r"[-+]?\d*\.\d+", interval)]
            assert [row["difference"], row["ci_low"], row["ci_high"]] == pytest.approx(
                numbers, abs=0.00051
            )
            assert row["p_fwer"] == pytest.approx(float(p), abs=0.00051)
            assert {"a": "SqueezeNet"}.get(row["verdict"], row["verdict"]) == verdict
    stated = re.search(r"p = (\.\d+) for their curves.*?but (\.\d+) for the means", README, re.S)
    assert stated is not None
    for pairing, p in zip(("depth", "mean"), stated.groups(), strict=True):
        row = table.loc[pairing, "alexnet_w1a2", "resnet50_w1a2", "IT"]
        assert row["p_equivalence"] == pytest.approx(float(p), abs=0.00051)
    best = result["mean_score"].sel(metric="rsa", roi="IT")
    low_bit = best["network"].isin(["alexnet_w1a2", "resnet50_w1a2"])
    assert best.where(low_bit).max().item() == pytest.approx(0.13, abs=0.005)
    assert result["group_ceiling_low"].sel(roi="IT").max().item() == pytest.approx(0.45, abs=0.005)
