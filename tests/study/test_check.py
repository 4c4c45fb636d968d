"""What a check says, against counts made by hand, closed forms, scipy and rsatoolbox."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rsatoolbox
import scipy.stats
import xarray as xr
from rsatoolbox.inference import boot_noise_ceiling

import rsacompare as rc
from rsacompare.errors import DataError, FetchError
from rsacompare.schema import checks, store
from rsacompare.schema.checks import Finding

TRAIN = [f"train{i}" for i in range(8)]
TEST = [f"test{i}" for i in range(24)]
N_VOXELS = 60


def rng(seed=0):
    return np.random.default_rng(seed)


def make_brain(n_subjects=3, repetitions=4, noise=1.0, split=True, n_voxels=N_VOXELS, seed=0):
    """Eight training stimuli once, test stimuli `repetitions` times; A and B overlap, C is in A."""
    draw = rng(seed)
    ids = TRAIN + [i for i in TEST for _ in range(repetitions)]
    splits = ["train"] * len(TRAIN) + ["test"] * (len(ids) - len(TRAIN))
    features = {i: draw.normal(size=10) for i in TRAIN + TEST}
    x = np.array([features[i] for i in ids])
    subjects = {
        f"s{k}": x @ draw.normal(size=(10, n_voxels)) / np.sqrt(10)
        + np.sqrt(noise) * draw.normal(size=(len(ids), n_voxels))
        for k in range(n_subjects)
    }
    place = np.arange(n_voxels)
    third = n_voxels // 3
    masks = {"A": place < 2 * third, "B": place >= third, "C": place < third}
    return rc.responses(
        subjects, stimulus_id=ids, split=splits if split else None, roi_mask=masks,
        attrs={"title": "Made up"},
    )  # fmt: skip


def networks(ids, **layers):
    layers = layers or {"l1": rng(9).normal(size=(len(ids), 5))}
    return rc.activations({"net": layers}, stimulus_id=ids)


def found(check, level=None, *words):
    """The findings of a level that hold all the words."""
    return [
        f
        for f in checks.findings(check)
        if level in (None, f.level)
        and all(w in f"{f.where}: {f.sentence} {f.advice}" for w in words)
    ]


def test_counts_of_voxels_stimuli_and_repetitions():
    check = rc.check(make_brain(repetitions=4))
    assert check["n_voxels"].sel(subject="s1").values.tolist() == [40, 40, 20]
    share = check["overlap"].sel(subject="s0").values
    np.testing.assert_allclose(share, [[1, 0.5, 0.5], [0.5, 1, 0], [1, 0, 1]])
    stimuli = rc.tables(check)["stimuli"].set_index(["subject", "split"])
    assert stimuli.loc[("s2", "train")].tolist() == [8, 8, 1, 1, 1]
    assert stimuli.loc[("s2", "test")].tolist() == [24, 96, 4, 4, 4]
    assert check["n_repeated"].sel(subject="s0", split="test", repetitions=4) == 24
    assert check["n_repeated"].sum() == 3 * 32
    assert check["n_scored"].values.tolist() == [24] * 3
    assert not found(check, "error")
    assert found(check, "note", "B holds 50 % of A; A holds C")


def test_without_a_split_all_stimuli_are_scored():
    check = rc.check(make_brain(split=False, repetitions=2))
    assert check["split"].values.tolist() == ["all"]
    assert check["n_scored"].values.tolist() == [32] * 3
    # the training stimuli were shown once: no ceiling, but a reliability of the others
    assert np.isnan(check["voxel_ceiling"]).all()
    assert np.isfinite(check["split_half"]).all()
    assert found(check, "warning", "shown once")


def test_reliability_of_a_known_simulation():
    """Signal variance 1, noise 1, four repetitions: 1 / (1 + 1/4) and its root."""
    ids = np.repeat([f"p{i:03d}" for i in range(300)], 4)
    draw = rng(3)
    signal = np.repeat(draw.normal(size=(300, 100)), 4, axis=0)
    brains = {f"s{k}": signal + draw.normal(size=signal.shape) for k in range(4)}
    check = rc.check(rc.responses(brains, stimulus_id=ids))
    np.testing.assert_allclose(check["split_half"], 0.8, atol=0.01)
    np.testing.assert_allclose(check["voxel_ceiling"], np.sqrt(0.8), atol=0.006)
    noise = rc.check(make_brain(n_subjects=6, n_voxels=1200, noise=1e6, seed=3))
    # 24 stimuli: 2r / (1 + r) of a noisy r lies below zero on average, by about twice var(r)
    assert -0.08 < float(noise["split_half"].mean()) < 0.02
    assert found(noise, "warning", "split-half reliability is below")
    assert found(noise, "warning", "lower RSA noise ceiling is below")


def test_voxel_ceiling_is_the_closed_form():
    brain = make_brain()
    check = rc.check(brain)
    data = brain["s1"].to_dataset()
    values = data["response"].values[:, data["roi_mask"].sel(roi="B").values]
    cube = np.stack([values[data["stimulus_id"].values == i] for i in TEST])
    noise = cube.var(axis=1, ddof=1).mean(axis=0) / 4
    signal = np.maximum(cube.mean(axis=1).var(axis=0, ddof=1) - noise, 0)
    expected = np.sqrt(signal / (signal + noise)).mean()
    assert float(check["voxel_ceiling"].sel(subject="s1", roi="B")) == pytest.approx(expected)


@pytest.mark.parametrize("comparator", ["spearman", "corr", "cosine"])
def test_rsa_ceilings_are_those_of_rsatoolbox(comparator):
    brain = make_brain(n_subjects=5)
    check = rc.check(brain, rsa=rc.metric("rsa", comparator=comparator))
    patterns = []
    for node in brain.children.values():
        data = node.to_dataset()
        values = data["response"].values[:, data["roi_mask"].sel(roi="A").values]
        patterns.append(
            np.stack([values[data["stimulus_id"].values == i].mean(axis=0) for i in TEST])
        )
    rdms = rsatoolbox.rdm.concat(
        [
            rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(p), method="correlation")
            for p in patterns
        ]
    )
    low, high = boot_noise_ceiling(rdms, method=comparator, rdm_descriptor="index")
    mean = check.sel(roi="A").mean("subject")
    assert float(mean["rsa_ceiling_low"]) == pytest.approx(low, abs=1e-9)
    assert float(mean["rsa_ceiling_high"]) == pytest.approx(high, abs=1e-9)


def test_sessions_of_rdms_against_scipy():
    draw = rng(5)
    shared = draw.random(66)
    rdm = {f"s{k}": {"IT": shared + 0.4 * draw.random((3, 66))} for k in range(4)}
    check = rc.check(rc.rdms(rdm, stimulus_id=[f"p{i}" for i in range(12)]))
    for k in range(4):
        x = rdm[f"s{k}"]["IT"]
        pairs = ((0, 1), (0, 2), (1, 2))
        expected = np.mean([scipy.stats.spearmanr(x[i], x[j])[0] for i, j in pairs])
        assert float(check["session_reliability"][k, 0]) == pytest.approx(expected)
    assert check["repetitions_max"].values.tolist() == [[3]] * 4
    assert check["kind"].values.tolist() == ["rdms"] * 4
    assert np.isnan(check["n_voxels"]).all()


def test_published_rdms_have_their_reference_figures():
    """Numbers computed outside this project with numpy, scipy and rsatoolbox."""
    try:
        brain = {name: rc.load_dataset(name) for name in ("kriegeskorte92", "algonauts2019")}
    except FetchError as err:
        pytest.skip(str(err))
    check = rc.check(brain)
    sessions = check["session_reliability"].sel(roi="hIT").dropna("subject").values
    np.testing.assert_allclose(sessions, [0.277, 0.095, 0.382, 0.120], atol=5.1e-4)
    summary = rc.tables(check)["summary"].set_index("roi")
    ceilings = summary[["rsa_ceiling_low", "rsa_ceiling_high"]]
    np.testing.assert_allclose(ceilings.loc["EVC"], [0.2419, 0.3917], atol=5.1e-5)
    np.testing.assert_allclose(ceilings.loc["IT"], [0.4525, 0.5422], atol=5.1e-5)
    np.testing.assert_allclose(ceilings.loc["hIT"], [0.3723, 0.6657], atol=5.1e-5)
    assert summary["n_subjects"].to_dict() == {"hIT": 4, "EVC": 15, "IT": 15}


def spoil(brain, subject, change):
    """The brain with one subject's response changed in place of the validation."""
    data = brain[subject].to_dataset()
    values = data["response"].values.copy()
    change(values)
    brain[subject] = xr.DataTree(data.assign(response=(("presentation", "neuroid"), values)))
    return brain


def test_missing_voxels_are_located_and_left_out():
    def nan(values):
        values[5, 3:6] = np.nan
        values[7, 45] = np.inf

    whole = rc.check(make_brain())
    check = rc.check(spoil(make_brain(), "s1", nan))
    assert check["n_missing"].sel(subject="s1").values.tolist() == [3, 1, 3]
    assert check["n_missing"].sel(subject="s0").values.tolist() == [0, 0, 0]
    (finding,) = found(check, "error")
    assert finding.where == "s1"
    assert "ROI A: 3 values are NaN or infinite, in 3 of 40 columns" in finding.sentence
    assert "A 3, B 1, C 3" in finding.sentence
    for name in ("split_half", "voxel_ceiling", "rsa_ceiling_low"):
        assert np.isfinite(check[name]).all()
    assert check["split_half"].sel(subject="s0").equals(whole["split_half"].sel(subject="s0"))
    assert not np.allclose(check["split_half"].sel(subject="s1", roi="A"),
                           whole["split_half"].sel(subject="s1", roi="A"), atol=1e-9)  # fmt: skip


def test_constant_voxels_are_counted_and_do_not_move_the_mean():
    def flat(values):
        values[:, :2] = 7.5

    check = rc.check(spoil(make_brain(), "s2", flat))
    assert check["n_constant"].sel(subject="s2").values.tolist() == [2, 0, 2]
    assert found(check, "warning", "A 2 (s2), C 2 (s2)", "one value")
    # the same as without these voxels: a zero among the others would pull the mean down
    without = make_brain().map_over_datasets(
        lambda d: d.isel(neuroid=slice(2, None)) if "response" in d else d
    )
    expected = rc.check(without).sel(subject="s2", roi="A")
    for name in ("split_half", "split_half_sd", "voxel_ceiling"):
        np.testing.assert_allclose(check[name].sel(subject="s2", roi="A"), expected[name])


def test_few_voxels_and_few_stimuli_are_told():
    small = rc.check(make_brain(n_voxels=30))
    assert found(small, "warning", "C 10 (all subjects)", "fewer than 20")
    tree = make_brain()
    few = tree.map_over_datasets(
        lambda d: d.isel(presentation=slice(0, 8 + 4 * 5)) if "response" in d else d
    )
    assert found(rc.check(few), "warning", "Only 5 scored stimuli", "0.50")
    two = tree.map_over_datasets(
        lambda d: d.isel(presentation=slice(0, 8 + 4 * 2)) if "response" in d else d
    )
    assert found(rc.check(two), "error", "Fewer than three")


def test_a_stimulus_in_both_splits_is_an_error():
    ids = [*TRAIN, TRAIN[3], *TEST]
    splits = ["train"] * 8 + ["test"] * 25
    brain = rc.responses({"s": rng().normal(size=(33, 30))}, stimulus_id=ids, split=splits)
    assert found(rc.check(brain), "error", "'train3'", "training and in the test split")


def test_no_test_split_is_an_error():
    brain = rc.responses(
        {"s": rng().normal(size=(16, 30))}, stimulus_id=TRAIN * 2, split=["train"] * 16
    )
    check = rc.check(brain)
    assert found(check, "error", "No presentation has the split 'test'")
    assert np.isfinite(check["split_half"]).all()


def test_labels_that_match_say_nothing():
    check = rc.check(make_brain(), networks(TRAIN + TEST))
    assert check["n_not_shown"].values.tolist() == [[0]] * 3
    assert check.sizes["unmatched"] == 0
    assert not found(check, "error")


def test_missing_and_unused_stimuli_on_both_sides():
    check = rc.check(make_brain(), networks([*TRAIN[2:], *TEST[1:], "other1", "other2"]))
    assert check["n_not_shown"].values.tolist() == [[1]] * 3
    assert check["n_train_not_shown"].values.tolist() == [[2]] * 3
    assert check["n_unused"].values.tolist() == [[2]] * 3
    unmatched = rc.tables(check)["unmatched"]
    sides = {
        (row.stimulus_id, row.split, row.missing_in) for row in unmatched.itertuples(index=False)
    }
    assert sides == {
        ("train0", "train", "network"), ("train1", "train", "network"),
        ("test0", "test", "network"), ("other1", "", "brain"), ("other2", "", "brain"),
    }  # fmt: skip
    assert set(unmatched["subjects"]) == {"s0, s1, s2"}
    (lost,) = found(check, "error")
    assert "1 of 24 scored stimuli were not shown to net: 'test0'" in lost.sentence
    assert found(check, "warning", "2 of 8 training stimuli", "'train0', 'train1'")


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (lambda s: f"{s}.JPEG", "without the ending of a file"),
        (lambda s: f"images/{s}", "without their folders"),
        (str.upper, "in lower case"),
        (lambda s: f"{s[:-1]}0{s[-1]}" if s[-2].isalpha() else s, "without leading zeros"),
        (lambda s: f"images/{s.upper()}.png", "folders and without the ending of a file and in"),
    ],
)
def test_names_that_differ_in_spelling_only(rename, said):
    check = rc.check(make_brain(), networks([rename(i) for i in TRAIN + TEST]))
    (lost,) = found(check, "error")
    assert said in lost.sentence
    assert "24 of 24 would match" in lost.sentence


def test_nearest_spelling_when_nothing_matches():
    names = [f"x-{i.replace('e', 'oe')}" for i in TRAIN + TEST]
    (lost,) = found(rc.check(make_brain(), networks(names)), "error")
    assert "24 of 24 scored stimuli" in lost.sentence
    assert "No name matches; net has names like 'x-toest0'" in lost.sentence
    assert "'test0' is nearest to 'x-toest0'" in lost.sentence


def test_subjects_with_other_stimuli_are_matched_apart():
    ids = {"a": TEST, "b": [*TEST[1:], "odd"]}
    values = {s: rng(1).normal(size=(24, 30)) for s in ids}
    check = rc.check(rc.responses(values, stimulus_id=ids), networks(TEST))
    assert check["n_not_shown"].values.ravel().tolist() == [0, 1]
    assert found(check, "error", "net and b", "'odd'")
    assert found(check, "warning", "not scored on the same stimuli", "23 are shared")
    assert np.isnan(check["rsa_ceiling_low"]).all()


def test_units_and_signs_of_layers():
    x = rng(2).normal(size=(32, 10))
    relu = np.maximum(x, 0)
    dead = relu.copy()
    dead[:, :3] = 0
    soft = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    ids = TRAIN + TEST
    tree = rc.activations(
        {"pre": {"c1": x, "c2": x}, "post": {"c1": relu, "c2": dead, "out": soft}},
        stimulus_id=ids,
        layer_attrs={"pre": {"c2": {"kind": "relu"}}},
    )
    check = rc.check(make_brain(), tree)
    layers = rc.tables(check)["layers"]
    assert layers["n_units"].tolist() == [10] * 5
    assert layers["n_constant_units"].tolist() == [0, 0, 0, 3, 0]
    assert layers["n_shown"].tolist() == [32] * 5
    np.testing.assert_allclose(layers["share_negative"], [(x < 0).mean()] * 2 + [0] * 3)
    assert found(check, "warning", "post", "c2 (30 %)", "constant")
    assert found(check, "warning", "'pre' before the ReLU, 'post' after it")
    assert found(check, "warning", "pre/c2", "labelled 'relu' but has negative values")
    assert found(check, "note", "'out' sum to 1")
    assert found(check, "note", "post", "No layer has a negative value")


def test_several_data_sets_and_rdm_networks():
    draw = rng(6)
    rdm = draw.random(len(TEST) * 23 // 2)
    brains = {
        "lab": make_brain(),
        "old": rc.rdms({"s0": {"A": rdm, "Z": rdm}}, stimulus_id=TEST),
    }
    net = rc.rdms({"net": {"l1": rdm}}, stimulus_id=TEST, of="network")
    check = rc.check(brains, net)
    assert check["subject"].values.tolist() == ["lab.s0", "lab.s1", "lab.s2", "old.s0"]
    assert check["present"].sel(roi="Z").values.tolist() == [False, False, False, True]
    assert len(rc.tables(check)["rois"]) == 3 * 3 + 2
    assert np.isnan(check["n_units"]).all()
    assert check["n_not_shown"].values.ravel().tolist() == [0] * 4
    assert check["n_train_not_shown"].values.ravel().tolist() == [8, 8, 8, 0]


def test_an_unknown_roi_is_a_finding():
    check = rc.check(make_brain(), rois=["B", "Bb"])
    assert check["roi"].values.tolist() == ["B"]
    assert found(check, "error", "Unknown ROI 'Bb'; did you mean 'B'?")


def test_same_numbers_from_any_number_of_threads_and_from_the_file(tmp_path):
    brain, net = make_brain(), networks([*TEST, "odd"])
    one, two = rc.check(brain, net), rc.check(brain, net, n_jobs=2)
    xr.testing.assert_identical(one, two)
    store.write_netcdf(one, tmp_path / "check.nc")
    read = checks.load_check(tmp_path)
    xr.testing.assert_equal(one, read)
    assert checks.findings(read) == checks.findings(one)
    assert json.loads(read.attrs["options"])["rsa"]["comparator"] == "spearman"
    other = rc.check(brain, net, random_state=1)
    assert not np.array_equal(one["split_half"], other["split_half"])


def test_a_file_that_is_no_check_is_refused(tmp_path):
    store.write_netcdf(make_brain(), tmp_path / "check.nc")
    with pytest.raises(DataError, match="holds no check"):
        checks.load_check(tmp_path)


def test_given_findings_stand_with_the_others_errors_first():
    told = Finding("error", "[brain.x]", "It cannot be had.")
    levels = [f.level for f in checks.findings(rc.check(make_brain(), findings=[told]))]
    assert levels == sorted(levels, key=checks.LEVELS.index)
    assert levels[0] == "error"
    with pytest.raises(ValueError, match="level 'bad'"):
        Finding("bad", "", "")


def test_rdms_with_holes_or_without_variance_are_told():
    draw = rng(8)
    good = draw.random(45)
    brain = rc.rdms({s: {"V1": good, "IT": good} for s in "ab"}, stimulus_id=TEST[:10])
    holes = brain["b"]["rdm"].values.copy()
    holes[0, 3] = np.nan
    holes[1] = 0.5
    brain["b"] = xr.DataTree(brain["b"].to_dataset().assign(rdm=(("roi", "pair"), holes)))
    check = rc.check(brain)
    assert found(check, "error", "b, V1", "NaN")
    assert found(check, "error", "b, IT", "All dissimilarities are equal")
    assert np.isnan(check["rsa_ceiling_high"].sel(subject="b", roi="V1"))
    assert check["rsa_ceiling_high"].sel(subject="a", roi="V1").isnull()


def test_nothing_that_can_be_used_is_still_a_check(tmp_path):
    brain = make_brain()
    del brain["s1"]["roi_mask"]
    check = rc.check(brain, rois=["nowhere"])
    assert found(check, "error", "s1", "neither responses with their roi_mask nor RDMs")
    assert found(check, "error", "Unknown ROI 'nowhere'")
    assert all(table.empty for name, table in rc.tables(check).items() if "roi" in table)
    assert "nowhere" in rc.report(check, tmp_path).read_text()
    with pytest.raises(DataError, match="no subjects"):
        rc.check(xr.DataTree())
