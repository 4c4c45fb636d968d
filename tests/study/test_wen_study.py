"""The movie protocol from one command: its known answer, as analyses/README.md tells it."""

from pathlib import Path

import pytest

import rsacompare as rc

STUDY = Path(__file__).parents[2] / "analyses" / "wen2018.toml"


@pytest.mark.slow
def test_the_movie_study_finds_the_closer_network_and_writes_its_maps(tmp_path):
    result = rc.run(STUDY, tmp_path)
    rows = rc.tables(result)["contrasts"]
    best = rows[rows["pairing"] == "best"]
    assert best["verdict"].tolist() == ["b"] * 6  # sim-resnet50, in three ROIs by two metrics
    scores = rc.tables(result)["summary"].set_index(["metric", "network", "layer", "roi"])["score"]
    for roi, level, low, high in (
        ("V1", "level1", 0.76, 0.91),
        ("V4", "level2", 0.75, 0.91),
        ("LOC", "level3", 0.74, 0.91),
    ):
        for network, expected in (("sim-alexnet", low), ("sim-resnet50", high)):
            assert abs(scores["normalised", network, level, roi] - expected) < 0.006
    assert len(list((tmp_path / "maps").glob("*.nii.gz"))) == 3 * (10 + 8)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "best layer against best layer, between sim-alexnet and sim-resnet50" in page.lower()
