"""How small a difference a design would see: against direct simulation, and where none is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.inference import power as numbers
from rsacompare.schema import checks
from rsacompare.study import check_power
from rsacompare.study.check_designs import Designs, Networks
from rsacompare.study.simulated import Design, Region, fitted, rsa_ceiling, study
from rsacompare.study.simulated_tests import observe

DESIGN = Design("responses", n_subjects=5, n_stimuli=30, n_repetitions=6, n_train=120)
REGION = Region("V1", n_voxels=50, reliability=0.6, agreement=0.8)


def measured(metric, design=DESIGN, **options):
    held = Designs({design: [REGION]})
    return check_power.power(held, Networks(n_units=40), {metric: rc.metric(metric)}, **options)


def seen(metric, closeness, n, first=0, design=DESIGN):
    chosen = {metric: rc.metric(metric)}
    return [
        observe(design, [REGION], chosen, closeness, None, 0, first + i)[metric] for i in range(n)
    ]


def made(n_subjects=3, n_stimuli=16, repetitions=3, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"p{i:02d}" for i in range(n_stimuli)], repetitions)
    signal = np.repeat(rng.normal(size=(n_stimuli, 40)), repetitions, axis=0)
    data = {f"s{k}": signal + noise * rng.normal(size=signal.shape) for k in range(n_subjects)}
    return rc.responses(data, stimulus_id=ids)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(check_power, "STUDIES", 3)
    monkeypatch.setattr(check_power, "FEWER", 2)


def notes(check):
    return [f.sentence for f in checks.findings(check) if "No smallest difference" in f.sentence]


def test_simulated_responses_have_the_reliability_and_agreement_asked_for():
    region = Region("V1", 150, reliability=0.6, agreement=0.7)
    brain, _ = study(replace(DESIGN, n_train=0, n_stimuli=120), [region], (0.5, 0.5), 0, 0)
    check = rc.check(brain)
    assert float(check["split_half"].mean()) == pytest.approx(0.6, abs=0.04)
    # two subjects' ideal patterns share 70 % of their variance, and voxels read at random
    wanted = 0.65
    rsa = rc.metric("rsa")
    found = fitted(DESIGN, region, wanted, rsa, 0)
    assert 0 < found.agreement < 1
    assert rsa_ceiling(DESIGN, found, rsa, 0) == pytest.approx(wanted, abs=0.03)


def test_the_smallest_difference_is_that_of_the_tests_own_standard_error(quick):
    """RSA draws no units: the SE is the root mean square of those of the simulated tests."""
    rows = {(r["varied"], r["factor"]): r for r in measured("rsa").rows}
    studies = seen("rsa", check_power.CLOSENESS, 3)
    rms = np.sqrt(np.mean([s.variance[0] for s in studies]))
    base = rows["", 1.0]
    assert base["se"] == pytest.approx(rms)
    assert base["dof"] == 4
    assert base["smallest"] == pytest.approx(numbers.smallest_difference(rms, 4))
    assert rows["repetitions", 1.0]["se"] == pytest.approx(rms)
    assert rows["subjects", 2]["dof"] == 9
    assert rows["stimuli", 4]["se"] < rows["stimuli", 1]["se"] < rows["stimuli", 0.5]["se"]


def test_holm_counts_all_tests(quick):
    row = measured("rsa", n_pairs=6).rows[0]
    expected = numbers.smallest_difference(row["se"], row["dof"], 0.05 / 6)
    assert row["smallest_holm"] == pytest.approx(expected)


def test_an_roi_has_the_same_numbers_whatever_else_is_simulated(quick):
    other = Region("V2", 30, reliability=0.4, agreement=0.5)
    both = check_power.power(
        Designs({replace(DESIGN, n_train=0): [other, REGION]}),
        Networks(n_units=40),
        {"rsa": rc.metric("rsa")},
        n_jobs=2,
    )
    alone = measured("rsa", replace(DESIGN, n_train=0))
    second = [r for r in both.rows if r["roi"] == "V1"]
    for a, b in zip(alone.rows, second, strict=True):
        assert a["se"] == pytest.approx(b["se"], rel=1e-12)


def test_rdms_alone_are_simulated_and_repetitions_left_out(quick):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(16, 30))
    data = {}
    for k in range(4):
        own = shared + 0.7 * rng.normal(size=shared.shape)
        data[f"s{k}"] = {"IT": 1 - np.corrcoef(own)}
    check = rc.check(rc.rdms(data, stimulus_id=[f"p{i}" for i in range(16)]), power=True)
    power = rc.tables(check)["power"]
    assert set(power["metric"]) == {"rsa"}
    assert set(power["varied"]) == {"", "subjects", "stimuli"}
    base = power[power["varied"] == ""].iloc[0]
    assert base["ceiling"] == pytest.approx(float(check["rsa_ceiling_low"].mean()), abs=0.06)


def test_one_subject_with_repetitions_is_tested_over_stimuli(quick):
    check = rc.check(made(n_subjects=1), power=True, metrics=["rsa"])
    power = rc.tables(check)["power"]
    assert "subjects" not in set(power["varied"])
    base = power[power["varied"] == ""].iloc[0]
    assert base["dof"] == 15
    assert np.isnan(base["ceiling"])  # no other subjects
    assert np.isnan(base["share"])


def test_where_signal_cannot_be_told_from_noise_nothing_is_said():
    check = rc.check(made(n_subjects=1, repetitions=1), power=True)
    assert not len(rc.tables(check)["power"])
    assert any("cannot be told from noise" in s for s in notes(check))
    check = rc.check(made(noise=1e6), power=True, metrics=["rsa"])
    assert not len(rc.tables(check)["power"])
    assert any("no signal to share" in s for s in notes(check))


def test_a_metric_that_cannot_be_simulated_says_why(quick):
    metrics = {"rsa": "rsa", "imagery": rc.metric("decoding", score="n_way", items="imagery")}
    check = rc.check(made(), power=True, metrics=metrics)
    assert set(rc.tables(check)["power"]["metric"]) == {"rsa"}
    assert any("cannot be simulated for these data" in s for s in notes(check))


def test_large_smallest_differences_are_warned_of(quick):
    check = rc.check(made(n_subjects=2, noise=0.7), power=True, metrics=["rsa"])
    warned = [f for f in checks.findings(check) if "8 of 10 studies" in f.sentence]
    assert [f.level for f in warned] == ["warning"]
    share = rc.tables(check)["power"].iloc[0]["share"]
    assert f"{share:.0%}" in warned[0].where


def test_subjects_who_share_nothing_have_no_number():
    rng = np.random.default_rng(7)
    ids = np.repeat([f"p{i:02d}" for i in range(16)], 3)
    data = {f"s{k}": np.repeat(rng.normal(size=(16, 40)), 3, axis=0) for k in range(3)}
    data = {s: y + 0.3 * rng.normal(size=y.shape) for s, y in data.items()}
    check = rc.check(rc.responses(data, stimulus_id=ids), power=True, metrics=["rsa"])
    assert not len(rc.tables(check)["power"])
    assert any("do not agree" in s for s in notes(check))


def test_without_power_there_are_no_tables():
    check = rc.check(made())
    assert "power" not in rc.tables(check)
    assert "power" not in check.attrs


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["encoding", "decoding", "rsa"])
def test_the_stated_difference_is_seen_in_eight_of_ten_studies_or_more(metric):
    """Directly: networks as far apart as stated. RSA's test is conservative: more, never fewer."""
    smallest = measured(metric).rows[0]["smallest"]
    low, high = 0.02, 0.48
    for _ in range(6):
        middle = (low + high) / 2
        mean = np.mean([s.difference[0] for s in seen(metric, (0.5 + middle, 0.5 - middle), 25)])
        low, high = (middle, high) if mean < smallest else (low, middle)
    n = 100
    studies = seen(metric, (0.5 + low, 0.5 - low), n, first=10_000)
    share = np.mean([s.p[0] < 0.05 for s in studies])
    assert share >= 0.8 - 2 * np.sqrt(0.8 * 0.2 / n)
    assert share < 1 or metric == "rsa"


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["encoding", "decoding", "rsa"])
@pytest.mark.parametrize("varied", ["subjects", "stimuli"])
def test_components_of_variance_give_the_se_of_a_larger_study(metric, varied):
    """Twice the subjects within 12 %; of twice the stimuli too large by a quarter at most."""
    rows = {(r["varied"], r["factor"]): r for r in measured(metric).rows}
    larger = replace(DESIGN, **{f"n_{varied}": 2 * getattr(DESIGN, f"n_{varied}")})
    studies = seen(metric, check_power.CLOSENESS, 25, first=500, design=larger)
    direct = np.sqrt(np.mean([s.variance[0] for s in studies]))
    told = rows[varied, 2]["se"]
    assert 0.88 < told / direct < (1.12 if varied == "subjects" else 1.25)


def test_no_number_where_categories_are_drawn_as_wholes(quick):
    """Sixteen stimuli of eight kinds are eight levels of chance, not sixteen."""
    brain = made()
    kinds = [f"k{int(i[1:]) // 2}" for i in brain["s0"]["stimulus_id"].values.tolist()]
    for subject, node in list(brain.children.items()):
        marked = node.to_dataset().assign_coords(category=("presentation", kinds))
        brain[subject] = type(brain)(marked)
    options = {"power": True, "metrics": ["rsa"]}
    (told,) = notes(rc.check(brain, **options))
    assert "nested in categories" in told
    single = rc.check(brain, **options, inference={"exchange": "stimuli"})
    plain = rc.check(made(), **options)
    assert not notes(single)
    np.testing.assert_array_equal(single["power_smallest"], plain["power_smallest"])
    assert np.isfinite(plain["power_smallest"]).all()
