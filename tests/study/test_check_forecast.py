"""What a run is said to cost, against what it costs."""

from __future__ import annotations

import time

import pytest

from rsacompare import pipeline
from rsacompare.schema import trees
from rsacompare.study.check_forecast import forecast
from rsacompare.study.forecast_cells import speedup
from rsacompare.study.inputs import load_inputs
from rsacompare.study.protocol import load_study


def test_threads_beyond_the_pieces_of_work_bring_nothing():
    assert speedup(1, 10) == 1
    assert speedup(2, 10) == pytest.approx(1.8)
    assert speedup(8, 2) == pytest.approx(1.8)


@pytest.mark.slow
def test_a_run_takes_what_was_forecast_within_a_factor_of_three(tmp_path):
    """Processor time of both, so that a busy machine does not matter."""
    file = tmp_path / "study.toml"
    file.write_text(
        'name = "small"\n[brain.phantom]\n[networks.phantom]\n'
        "[metrics.decoding]\n[metrics.rsa]\n[metrics.encoding]\n"
        "[inference]\nn_bootstrap = 500\nn_permutations = 500\nn_splits = 1\n",
        encoding="utf-8",
    )
    study = load_study(file)
    brains, networks = load_inputs(study)
    told = forecast(
        trees.merge_networks(list(networks.values())),
        trees.merge_brains(brains),
        study.make_metrics(),
        inference=dict(study.inference),
        write=pipeline._pages_elsewhere,
    )
    assert told.about["complete"]
    assert sum(r["count"] for r in told.rows if r["stage"].endswith(": cells")) == 3 * 16 * 10 * 5
    started = time.process_time()
    pipeline.run(study, tmp_path / "out")
    took = time.process_time() - started
    assert 1 / 3 < told.about["seconds"] / took < 3
