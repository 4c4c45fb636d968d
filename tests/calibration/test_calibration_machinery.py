"""The script behind `make calibration` measures what it says, and can find something wrong."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rsacompare as rc
from rsacompare.datasets import phantom_truth
from rsacompare.inference.statistics import Options
from rsacompare.kernels import resample

sys.path.insert(0, str(Path(__file__).parents[2] / "analyses"))
import calibration
import calibration_population as population
import calibration_table as report

SMALL = replace(population.DESIGNS["5 people, 50 stimuli"], n_subjects=4, n_stimuli=16, n_train=30)


@pytest.mark.parametrize(
    ("metric", "split"),
    [(m, s) for s in (True, False) for m in calibration.metrics_of(replace(SMALL, split=s))],
)
def test_what_is_measured_is_what_compare_and_infer_give(metric, split):
    design = replace(SMALL, split=split)
    options = Options(60, 39, 5, 0.95, 0.1, 1, None)
    ours = calibration.compared(design, "closer", 3)[metric]
    _, _, row, p_null, p_fwer = calibration.inferred(ours, metric, options)

    study = population.draw(design, "closer", 3)
    readout, given = calibration.METRICS[metric]
    theirs = rc.compare(
        study.networks[readout], study.brain, {metric: rc.metric(metric, **given)}, random_state=0
    )
    result = rc.infer(theirs, n_bootstrap=60, n_permutations=39, n_splits=1, random_state=5)
    scores = theirs.scores["score"]
    np.testing.assert_allclose(
        ours.scores["score"].transpose(*scores.dims).sel(layer=scores["layer"]), scores, rtol=1e-9
    )
    table = rc.tables(result)["contrasts"].set_index(["roi", "pairing"])
    public = table.loc[calibration.ROI, "mean"]
    for ours_name, name in (
        ("difference", "difference"), ("ci_low", "ci_low"), ("ci_high", "ci_high"), ("p", "p"),
        ("p_fwer", "p_fwer"),
    ):  # fmt: skip
        assert row[ours_name] == pytest.approx(public[name], rel=1e-9), name
    # ceilings are left out: nothing is equivalent here
    assert (row["verdict"] in ("a", "b")) == (public["verdict"] in ("a", "b"))
    cells = result.sel(metric=metric)
    judged = cells["p_null"].sel(roi=calibration.ROI, layer=calibration.LAYER)
    assert p_null == pytest.approx(float(judged))
    assert p_fwer == pytest.approx(float(cells["p_null_fwer"].min()))


def test_dual_variance_is_that_of_rsatoolbox():
    inference_util = pytest.importorskip("rsatoolbox.util.inference_util")
    rng = np.random.default_rng(0)
    for both, subjects, stimuli in rng.uniform(0.1, 1, (50, 3)):
        ours = calibration.dual_variance(both, subjects, stimuli, 5, 50)
        theirs = inference_util._dual_bootstrap(np.array([[both], [subjects], [stimuli]]), 5, 50)
        assert ours == pytest.approx(float(theirs[0]))


def test_the_dual_bootstrap_is_that_of_rsatoolbox_on_the_same_draws():
    """rsatoolbox re-scores resampled RDMs, draw by draw; ours weighs the stimuli."""
    pytest.importorskip("rsatoolbox")
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs, compare
    from rsatoolbox.util.inference_util import extract_variances

    n_draws, n_subjects, n_stimuli = 25, SMALL.n_subjects, SMALL.n_stimuli
    options = Options(n_draws, 9, 5, 0.95, 0.1, 1, None)
    comparison = calibration.compared(SMALL, "closer", 3)["rsa"]
    family, _, row, _, _ = calibration.inferred(comparison, "rsa", options)
    from rsacompare.inference.family import draw_block

    drawn = draw_block(family, 5, 0, n_draws)
    (key,) = family.ids
    rows = family.place[calibration.ROI]
    brains = RDMs(np.stack([family.evidence[p].brain for p in rows[0]]))
    models = [ModelFixed(layer, RDMs(family.evidence[r[0]].network[None]))
              for layer, r in zip(family.layers, rows, strict=True)]  # fmt: skip
    every = [np.arange(n_subjects), np.arange(n_stimuli)]
    evaluations = np.zeros((n_draws, len(models), 3))
    for i in range(n_draws):
        picked = [
            np.repeat(np.arange(len(w)), w.astype(int))
            for w in (drawn.subjects[family.subjects[calibration.ROI]][i], drawn.stimuli[key][i])
        ]
        for k, (people, stimuli) in enumerate(
            [picked, (picked[0], every[1]), (every[0], picked[1])]
        ):
            sample = brains.subsample("index", people).subsample_pattern("index", stimuli)
            for m, model in enumerate(models):
                predicted = model.predict_rdm().subsample_pattern("index", stimuli)
                evaluations[i, m, k] = compare(predicted, sample, "spearman").mean()
    a_minus_b = np.array([0.5, 0.5, -0.5, -0.5])
    assert [m.name for m in models] == ["a/l1", "a/l2", "b/l1", "b/l2"]
    sources = ({"subjects", "stimuli"}, {"subjects"}, {"stimuli"})
    v = []
    for k, of in enumerate(sources):
        np.testing.assert_allclose(
            evaluations[:, :, k] @ a_minus_b, row["draws"][frozenset(of)], atol=1e-10
        )
        v.append(row["draws"][frozenset(of)].var(ddof=1))
    # rsatoolbox's own way from evaluations to the variance of a difference, for two "models"
    pairs = np.stack([evaluations[:, :2].mean(axis=1), evaluations[:, 2:].mean(axis=1)], axis=1)
    covariance = np.stack([np.cov(pairs[:, :, k].T) for k in range(3)])
    _, theirs, _ = extract_variances(covariance, False, n_subjects, n_stimuli)
    assert calibration.dual_variance(*v, n_subjects, n_stimuli) == pytest.approx(float(theirs[0]))


def test_a_percentile_interval_over_five_people_covers_84_percent():
    """FACTS 9.2: 84.4 % of percentile intervals, 94.8 % of t intervals, hold the mean."""
    rng = np.random.default_rng(0)
    n, held, t_held = 1500, 0, 0
    for i in range(n):
        scores = np.column_stack([rng.standard_normal(5), np.zeros(5)])
        found = calibration.bars(scores, resample.stream(i, "bars"), 1000)
        held += found["paired_low"] <= 0 <= found["paired_high"]
        assert found["a_low"] == found["paired_low"]
        assert found["b_low"] == found["b_high"] == 0
        half = stats.t.ppf(0.975, 4) * stats.sem(scores[:, 0])
        t_held += abs(scores[:, 0].mean()) <= half
    assert held / n == pytest.approx(0.844, abs=3 * np.sqrt(0.844 * 0.156 / n))
    assert t_held / n == pytest.approx(0.95, abs=3 * np.sqrt(0.05 * 0.95 / n))


def _made(n, scale, seed=0):
    """Simulations of a difference with a standard error that is `scale` times the right one."""
    rng = np.random.default_rng(seed)
    parts, truths = [], []
    for scenario, true in (("null", 0.0), ("equal", 0.0), ("closer", 0.1)):
        d = true + 0.05 * rng.standard_normal(n)
        half, wide = (scale * 0.05 * stats.norm.ppf(q) for q in (0.975, 0.995))
        p = 2 * stats.norm.sf(np.abs(d) / (scale * 0.05))
        low, high = d - half, d + half
        parts.append(
            pd.DataFrame(
                {
                    "design": "made", "scenario": scenario, "metric": "rsa", "code": "x",
                    "simulation": np.arange(n), "p_null": rng.uniform(size=n) * scale,
                    "p_fwer": rng.uniform(size=n) * scale, "difference": d, "dof": 1e6,
                    "se": scale * 0.05, "low": low, "high": high, "p": p, "dual_se": scale * 0.05,
                    "verdict": np.where(p < 0.05, np.where(d > 0, "a", "b"), "undecided"),
                    "a_low": low, "a_high": high, "b_low": 0.0, "b_high": 0.0,
                    "paired_low": low, "paired_high": high, "paired_low99": d - wide,
                    "paired_high99": d + wide,
                }
            )
        )  # fmt: skip
        truths.append({"design": "made", "scenario": scenario, "metric": "rsa",
                       "difference": true, "se": 0.0})  # fmt: skip
    return pd.concat(parts, ignore_index=True), pd.DataFrame(truths)


def test_rates_are_right_and_a_liberal_test_is_marked():
    right = report.rates(*_made(4000, 1.0)).set_index(["quantity", "method", "nominal"])
    assert not (right["rule"].ne("") & (right["chance"] < 0.002)).any()
    held = right.loc[("coverage, closer", report.OURS, 0.95)]
    assert held["rate"] == pytest.approx(0.95, abs=0.01)
    assert held["mc_se"] == pytest.approx(np.sqrt(held["rate"] * (1 - held["rate"]) / 4000))
    power = right.loc[("contrast, closer", report.OURS, 0.05), "rate"]
    assert power == pytest.approx(stats.norm.sf(1.96 - 2), abs=0.02)
    assert right.loc[("contrast, closer", report.DUAL, 0.05), "rate"] == power

    simulations, truths = _made(4000, 0.7)
    liberal = report.rates(simulations, truths).set_index(["quantity", "method", "nominal"])
    expected = 2 * stats.norm.sf(0.7 * 1.96)
    for quantity in ("contrast, null", "contrast, equal"):
        row = liberal.loc[(quantity, report.OURS, 0.05)]
        assert row["rate"] == pytest.approx(expected, abs=0.02)
        assert row["outside"]
    assert liberal.loc[("coverage, closer", report.OURS, 0.95), "outside"]
    assert liberal.loc[("p_null", report.OURS, 0.05), "outside"]
    said = report.sentences(liberal.reset_index())
    assert any("too far for chance" in s and "contrast" in s for s in said)


def test_a_conservative_test_is_marked_only_where_it_should_be_exact():
    table = report.rates(*_made(2000, 1.6)).set_index(["quantity", "method", "nominal"])
    assert table.loc[("p_null", report.OURS, 0.05), "outside"]  # says `equal`
    assert not table.loc[("contrast, equal", report.OURS, 0.05), "outside"]  # says `at most`
    assert not table.loc[("coverage, closer", report.OURS, 0.95), "outside"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_jobs_change_nothing(tmp_path, monkeypatch):
    name = "no split"
    tiny = replace(SMALL, name=name, split=False, n_subjects=2, n_stimuli=10)
    monkeypatch.setitem(population.DESIGNS, name, tiny)
    monkeypatch.setattr(calibration, "CHUNK", 2)
    monkeypatch.setattr(calibration, "_truth_file", _no_truth)
    given = {"designs": [name], "seed": 1, "quiet": True}
    first, _ = calibration.run(tmp_path / "one", 2, n_jobs=1, **given)
    files = sorted((tmp_path / "one").rglob("00000.csv"))
    assert len(files) == 3
    before = [f.stat().st_mtime_ns for f in files]
    more, _ = calibration.run(tmp_path / "one", 4, n_jobs=1, **given)
    assert [f.stat().st_mtime_ns for f in files] == before  # not run again
    assert len(more) == 2 * len(first)
    pd.testing.assert_frame_equal(more[more["simulation"] < 2].reset_index(drop=True), first)
    other, _ = calibration.run(tmp_path / "two", 4, n_jobs=2, **given)
    pd.testing.assert_frame_equal(other, more)
    assert calibration.files(tmp_path, [name], 2, 1) != calibration.files(tmp_path, [name], 2, 2)


def _no_truth(file, design, scenario, seed):
    table = pd.DataFrame([{"metric": "decoding", "difference": 0.0, "se": 0.0}])
    calibration._write(file, table)


def test_page_and_tables_are_written(tmp_path):
    simulations, truths = _made(300, 0.6)
    said = report.write(tmp_path, simulations, truths)
    table = pd.read_csv(tmp_path / "calibration.csv")
    assert {"rate", "mc_se", "n", "chance", "outside"} <= set(table.columns)
    assert (table["n"] == 300).all()
    text = (tmp_path / "calibration.md").read_text()
    assert "| made | rsa |" in text
    assert " * |" in text
    assert "lie outside" in said
    ratio = report.standard_errors(_made(20_000, 0.7)[0]).loc[0, "equal"]
    assert float(ratio.split()[0]) == pytest.approx(0.7, abs=0.011)
    page = (tmp_path / "index.html").read_text()
    assert "calibration.svg" in page
    assert (tmp_path / "calibration.svg").stat().st_size > 10_000
    assert "percentile" in (tmp_path / "readme.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["decoding", "encoding"])
def test_truth_agrees_with_the_closed_form(metric):
    """With much training data the expected scores have closed forms (`phantom_truth`)."""
    design = replace(
        population.DESIGNS["5 people, 50 stimuli"], n_train=1000, n_subjects=20, n_repetitions=3
    )
    found = [
        calibration.differences(design, "closer", seed, 200, [metric])[metric]
        for seed in range(100, 112)
    ]
    rng, limits = np.random.default_rng(1), []
    kind = population.READOUTS[calibration.METRICS[metric][0]]
    group = population._profile(design)
    for _ in range(150):
        taste = 1 - 0.8 * (1 - rng.uniform(0.1, 0.9))
        share = np.concatenate([group, taste * group, (1 - taste) * group]) / 2
        voxels = population.orthogonal(rng, design.n_voxels, share)
        score = {}
        for network, own in (("a", 1), ("b", 2)):
            profile = population._network_profile(design, "closer", network, "l1")
            common, shared, private = profile[:4], profile[4:8], profile[8:]
            places = {1: [common, shared, 0 * shared], 2: [common, 0 * shared, shared]}[own]
            units = kind(rng, design.n_units, np.concatenate([*places, private]))
            noisy = design.noise, design.n_repetitions
            if metric == "decoding":
                score[network] = phantom_truth.decoding_limit(units, voxels, *noisy).mean()
            else:
                live = units[:, np.square(units).sum(axis=0) > 0]
                assert live.shape[1] == 12  # four common, four shared, four private
                score[network] = phantom_truth.encoding_limit(
                    np.hstack([voxels, np.zeros((len(voxels), len(private)))]), units, *noisy
                ).mean()
        limits.append(score["a"] - score["b"])
    error = np.hypot(stats.sem(found), stats.sem(limits))
    assert np.mean(found) == pytest.approx(np.mean(limits), abs=3 * error + 0.004)
    assert error < 0.015
    assert np.mean(limits) > 5 * error
