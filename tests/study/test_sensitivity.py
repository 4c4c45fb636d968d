"""Sensitivity: re-scored specifications equal fresh studies, known flips are found and named."""

from __future__ import annotations

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.reporting.sensitivity_text import answer
from rsacompare.schema.sensitivity import load_sensitivity
from rsacompare.study.subsets import chosen, leave_out

N, SPECIAL = 40, [f"p{i:02d}" for i in range(14)]
IDS = [f"p{i:02d}" for i in range(N)]
OFF = {"unit_draws": 0, "n_units": None, "n_voxels": None, "leave_one_subject_out": False}
DRAWS = {"n_bootstrap": 60, "random_state": 3}


def scene(seed=0, split=True):
    """40 test stimuli (and 60 to train on) of 5 people, 2 ROIs, two networks of 2 layers."""
    rng = np.random.default_rng(seed)
    n = N + (60 if split else 0)
    ids = IDS + [f"t{i:02d}" for i in range(n - N)]
    latent = rng.normal(size=(n, 8))
    layers = {
        net: {
            f"l{k}": latent[:, :width] @ rng.normal(size=(width, 24)) + rng.normal(size=(n, 24))
            for k in range(2)
        }
        for net, width in (("a", 8), ("b", 4))
    }
    acts = rc.activations(layers, stimulus_id=ids)
    people = {}
    for s in range(5):
        signal = latent @ rng.normal(size=(8, 30))
        rows = np.r_[signal[:N], signal[:N], signal[N:]]
        people[f"s{s}"] = rows + rng.normal(size=rows.shape)
    shown = [*IDS, *IDS, *ids[N:]]
    place = np.arange(30)
    brain = rc.responses(
        people,
        stimulus_id=shown,
        split=["test"] * 2 * N + ["train"] * (n - N) if split else None,
        roi_mask={"V1": place < 16, "LOC": place >= 12},
    )
    return acts, brain


@pytest.fixture(scope="module")
def data():
    return scene()


def without_subject(brain, subject):
    kept = brain.copy()
    del kept[subject]
    return kept


def without_stimuli(brain, ids):
    kept = brain.copy()
    for subject, node in brain.children.items():
        held = node.to_dataset()
        keep = ~np.isin(held["stimulus_id"].values, ids)
        kept[subject] = type(brain)(held.isel(presentation=keep))
    return kept


def fresh(acts, brain, metric, pairing="mean"):
    comparison = rc.compare(acts, brain, metric, random_state=DRAWS["random_state"])
    result = rc.infer(comparison, ("a", "b"), n_permutations=10, n_splits=1, **DRAWS)
    table = rc.tables(result)["contrasts"]
    return table[table["pairing"] == pairing].set_index("roi")


def agree(found, judge, roi, **choice):
    rows = rc.tables(found)["specifications"]
    rows = rows[rows["roi"] == roi]
    for column, value in choice.items():
        rows = rows[rows[column] == value]
    (row,) = rows.to_dict("records")
    for name in ("difference", "ci_low", "ci_high", "p"):
        np.testing.assert_allclose(row[name], judge.loc[roi, name], rtol=1e-10, atol=1e-12)
    return row


@pytest.mark.parametrize("metric", ["rsa", "decoding", "encoding", "cka"])
@pytest.mark.parametrize("pairing", ["mean", "depth"])
def test_leaving_out_equals_a_fresh_study(data, metric, pairing):
    acts, brain = data
    options = OFF | DRAWS | {"leave_one_subject_out": True}
    found = rc.sensitivity(
        acts, brain, metric, leave_out={"special": SPECIAL}, pairing=pairing, crossed=True,
        **options,
    )  # fmt: skip
    judge = fresh(acts, brain, metric, pairing)
    for roi in ("V1", "LOC"):
        agree(found, judge, roi, changed="reference")
    judge = fresh(acts, without_subject(brain, "s1"), metric, pairing)
    row = agree(found, judge, "LOC", changed="subjects", subjects="without s1")
    assert (row["n_subjects"], row["n_stimuli"]) == (4, N)
    less = without_stimuli(brain, SPECIAL)
    judge = fresh(acts, less, metric, pairing)
    row = agree(found, judge, "V1", changed="stimuli", stimuli="without special")
    assert (row["n_subjects"], row["n_stimuli"]) == (5, N - len(SPECIAL))
    if metric != "cka":  # whose Gram is computed again: no cheap choice to cross
        judge = fresh(acts, without_subject(less, "s3"), metric, pairing)
        agree(found, judge, "V1", changed="crossed", subjects="without s3")


def test_cross_validated_and_training_stimuli_are_fitted_again(data):
    acts, brain = scene(1, split=False)
    found = rc.sensitivity(acts, brain, "encoding", leave_out={"x": SPECIAL}, **OFF, **DRAWS)
    judge = fresh(acts, without_stimuli(brain, SPECIAL), "encoding")
    agree(found, judge, "V1", changed="stimuli")
    acts, brain = data
    some = ["p00", "t01", "t02", "t03"]
    found = rc.sensitivity(acts, brain, "decoding", leave_out={"x": some}, **OFF, **DRAWS)
    agree(found, fresh(acts, without_stimuli(brain, some), "decoding"), "V1", changed="stimuli")


@pytest.mark.parametrize("metric", ["rsa", "decoding", "encoding"])
def test_a_draw_of_units_equals_a_study_of_these_units(data, metric):
    acts, brain = data
    options = OFF | DRAWS | {"unit_draws": 2}
    found = rc.sensitivity(acts, brain, metric, **options)
    layers = {}
    for net in ("a", "b"):
        layers[net] = {}
        for layer in ("l0", "l1"):
            values = acts[net][layer]["activation"]
            own = chosen(3, ("units", f"{net}/{layer}"), 24, 12, 2)
            assert len(set(own.tolist())) == 12
            layers[net][layer] = values.values[:, own]
    ids = acts["a"]["l0"]["stimulus_id"].values
    judge = fresh(rc.activations(layers, stimulus_id=ids), brain, metric)
    row = agree(found, judge, "LOC", changed="units", units_draw=2)
    assert (row["units"], row["n_units"]) == ("12 of 24 units", 12)


def test_a_draw_of_voxels_equals_a_study_of_these_voxels(data):
    acts, brain = data
    for metric in ("rsa", "encoding"):
        options = OFF | DRAWS | {"n_voxels": [0.5, 8, 100], "number_draws": 2}
        found = rc.sensitivity(acts, brain, metric, **options)
        masks = {}
        for subject in brain.children:
            mask = np.zeros(30, bool)
            mask[np.arange(16)[chosen(3, ("voxels", "V1", subject), 16, 8, 1)]] = True
            masks[subject] = {"V1": mask}
        held = {s: node["response"].values for s, node in brain.children.items()}
        one = brain["s0"].to_dataset()
        cut = rc.responses(
            held, stimulus_id=one["stimulus_id"].values, split=one["split"].values, roi_mask=masks
        )
        judge = fresh(acts, cut, metric)
        row = agree(
            found, judge, "V1", changed="voxels", voxels="50 % of the voxels", voxels_draw=1
        )
        assert row["n_voxels"] == 8
        assert any("100 voxels: V1, LOC has no more" in n for n in notes(found))


def notes(found):
    import json

    return json.loads(found.attrs["notes"])


def test_a_pool_is_drawn_from(data):
    acts, brain = data
    few = {
        net: {layer: acts[net][layer]["activation"].values[:, :10] for layer in ("l0", "l1")}
        for net in ("a", "b")
    }
    ids = acts["a"]["l0"]["stimulus_id"].values
    small = rc.activations(few, stimulus_id=ids)
    options = OFF | DRAWS | {"unit_draws": 1}
    for metric in ("rsa", "decoding"):
        found = rc.sensitivity(small, brain, metric, pool=acts, **options)
        layers = {
            net: {
                layer: acts[net][layer]["activation"].values[
                    :, chosen(3, ("units", f"{net}/{layer}"), 24, 10, 1)
                ]
                for layer in ("l0", "l1")
            }
            for net in ("a", "b")
        }
        judge = fresh(rc.activations(layers, stimulus_id=ids), brain, metric)
        row = agree(found, judge, "V1", changed="units")
        assert row["units"] == "10 of 24 units"
        assert not any("half" in n for n in notes(found))
        agree(found, fresh(small, brain, metric), "V1", changed="reference")


def flipping(where):
    """Network b is closer only by the special stimuli, or by the last person."""
    rng = np.random.default_rng(5)
    inside = np.isin(IDS, SPECIAL)
    good, bad = rng.normal(size=(N, 6)), rng.normal(size=(N, 6))
    a = {"l": good @ rng.normal(size=(6, 30))}
    if where == "stimuli":  # a has nothing of the special ones, b a little less of the others
        people = {f"s{k}": good for k in range(4)}
        noise = rng.normal(size=good.shape)
        good, bad = np.where(inside[:, None], bad, good), good + 0.7 * noise * ~inside[:, None]
        a = {"l": good @ rng.normal(size=(6, 30))}
    else:
        people = {f"s{k}": 0.35 * good + rng.normal(size=good.shape) for k in range(3)}
        people["s3"] = bad
    b = {"l": bad @ rng.normal(size=(6, 30))}
    acts = rc.activations({"a": a, "b": b}, stimulus_id=IDS)
    mix = rng.normal(size=(6, 40))
    rows = {k: v @ mix + 0.3 * rng.normal(size=(N, 40)) for k, v in people.items()}
    return acts, rc.responses(rows, stimulus_id=IDS)


@pytest.mark.parametrize(
    ("where", "named"), [("stimuli", "without special"), ("subjects", "without s3")]
)
def test_a_flip_that_is_built_in_is_found_and_named(where, named):
    acts, brain = flipping(where)
    options = OFF | DRAWS | {"leave_one_subject_out": True, "unit_draws": 5}
    found = rc.sensitivity(acts, brain, "rsa", leave_out={"special": SPECIAL}, **options)
    rows = rc.tables(found)["specifications"]
    assert rows["difference"].iloc[0] < 0  # b is closer in the study
    flipped = rows[rows["same_sign"].eq(False).fillna(False)]
    assert flipped[where].tolist() == [named]
    assert flipped["difference"].iloc[0] > 0
    (said,) = answer(found)
    assert said.startswith("rsa, a − b: the sign of the difference survives in 9 of 10 ")
    assert f"it flips {named}, " in said
    summary = rc.tables(found)["summary"].iloc[0]
    assert (summary["n_scored"], summary["n_same_sign"]) == (10, 9)
    drawn = rows.loc[rows["changed"] == "units", "difference"]
    np.testing.assert_allclose(summary["sd_units"], drawn.std())


def test_any_number_of_jobs_and_a_resumed_run_give_the_same_bits(data, tmp_path):
    acts, brain = data
    options = DRAWS | {"unit_draws": 2, "n_units": [6], "n_voxels": [0.5], "number_draws": 1}
    metrics = ["decoding", "rsa"]
    one = rc.sensitivity(acts, brain, metrics, store=tmp_path, **options)
    kept = sorted((tmp_path / "specifications").rglob("*.npz"))
    assert len(kept) == 2 * (1 + 2 + 1 + 1 + 5)
    kept[3].unlink()
    seen = []
    two = rc.sensitivity(
        acts, brain, metrics, store=tmp_path, n_jobs=3,
        progress=lambda stage, done, total: seen.append((stage, done, total)), **options,
    )  # fmt: skip
    new = rc.sensitivity(acts, brain, metrics, n_jobs=2, **options)
    for other in (two, new):
        assert other.drop_attrs().identical(one.drop_attrs())
    assert seen[-1] == ("rsa: specifications", 10, 10)
    new.to_netcdf(tmp_path / "sensitivity.nc", engine="h5netcdf")
    assert load_sensitivity(tmp_path).drop_attrs().equals(one.drop_attrs())


def test_what_the_data_mark_is_left_out_by_itself(data):
    acts, brain = data
    marked = brain.copy()
    for subject, node in brain.children.items():
        held = node.to_dataset()
        flag = np.where(np.isin(held["stimulus_id"].values, SPECIAL), 1, 0)
        fresh_node = held.assign_coords(ilsvrc_train=("presentation", flag))
        marked[subject] = type(brain)(fresh_node)
    found = rc.sensitivity(acts, marked, "rsa", **OFF, **DRAWS)
    given = rc.sensitivity(acts, brain, "rsa", leave_out={"x": SPECIAL}, **OFF, **DRAWS)
    row = rc.tables(found)["specifications"].iloc[1]
    assert row["stimuli"] == "without ILSVRC training images"
    assert row["difference"] == rc.tables(given)["specifications"].iloc[1]["difference"]


def test_networks_known_by_rdms_have_no_units(data):
    acts, brain = data
    square = {
        net: {layer: 1 - np.corrcoef(acts[net][layer]["activation"].values[:N])
              for layer in ("l0", "l1")}
        for net in ("a", "b")
    }  # fmt: skip
    known = rc.rdms(square, stimulus_id=IDS, of="network")
    found = rc.sensitivity(known, brain, "rsa", n_voxels=None, **DRAWS)
    assert set(rc.tables(found)["specifications"]["changed"]) == {"reference", "subjects"}
    assert "a is known by layer RDMs alone: its units cannot be drawn" in notes(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"contrast": ("a", "bb")}, "did you mean 'b'"),
        ({"pairing": "best"}, "unknown pairing 'best'"),
        ({"n_units": [1.5]}, "n_units: numbers from 1 or shares between 0 and 1"),
        ({"unit_draws": -1}, "unit_draws: a whole number from 0"),
        ({"leave_out": {"x": ["p0"]}}, "leave_out 'x': unknown stimulus 'p0'"),
        ({"leave_out": {"x": []}}, "leave_out 'x' names no stimulus"),
        ({"leave_out": {"x": "nowhere.txt"}}, "leave_out 'x': nowhere.txt cannot be read"),
        ({"rois": ["V11"]}, "did you mean 'V1'"),
    ],
)
def test_what_is_wrong_is_said(data, change, said):
    acts, brain = data
    with pytest.raises(rc.RsacompareError, match=r".*") as error:
        rc.sensitivity(acts, brain, "rsa", **(OFF | DRAWS | change))
    assert said in str(error.value)


def test_a_specification_that_fails_says_why_and_the_others_stand(data):
    acts, brain = data
    most = IDS[: N - 2]  # of two stimuli nothing can be scored
    found = rc.sensitivity(acts, brain, "rsa", leave_out={"most": most}, **OFF, **DRAWS)
    rows = rc.tables(found)["specifications"]
    failed = rows[rows["changed"] == "stimuli"]
    assert failed["difference"].isna().all()
    assert failed["note"].tolist() == ["2 scored stimuli are left, too few"] * 2
    assert rows.loc[rows["changed"] == "reference", "difference"].notna().all()
    assert "no other specification could be scored" in answer(found)[0]


@pytest.mark.parametrize("choice", ["stimuli", "units"])
@pytest.mark.parametrize("metric", ["rsa", "decoding"])
def test_categories_stay_the_levels_of_chance(metric, choice):
    acts, brain = scene(seed=1)
    kind = {name: f"k{i % 10}" for i, name in enumerate(IDS)}  # ten kinds of four
    marked = brain.copy()
    for subject, node in brain.children.items():
        held = node.to_dataset()
        names = [kind.get(i, "trained") for i in held["stimulus_id"].values.tolist()]
        marked[subject] = type(brain)(held.assign_coords(category=("presentation", names)))
    gone = [i for i in IDS if kind[i] == "k0"]  # nine kinds of four are left
    options = OFF | DRAWS | ({"unit_draws": 1} if choice == "units" else {})
    found = rc.sensitivity(acts, marked, metric, leave_out={"k0": gone}, **options)
    if choice == "stimuli":
        judge = fresh(acts, without_stimuli(marked, gone), metric)
        agree(found, judge, "V1", changed="stimuli")
        assert rc.tables(found)["specifications"]["dof"].tolist() == [4.0] * 4
    else:
        rows = rc.tables(found)["specifications"].set_index(["roi", "changed"])
        assert rows.loc[("V1", "units"), "n_stimuli"] == 10  # kinds, as in the reference


def test_categories_stay_the_levels_of_chance_when_a_stimulus_is_left_out():
    """Ten categories of four; without one stimulus they are unbalanced, and levels still."""
    rng = np.random.default_rng(0)
    ids = [f"p{i:02d}" for i in range(40)]
    kinds = np.repeat([f"k{i}" for i in range(10)], 4)
    effect = np.repeat(rng.standard_normal((10, 12)), 4, axis=0)
    x = effect + rng.standard_normal((40, 12))
    acts = rc.activations(
        {"a": {"l": x}, "b": {"l": rng.standard_normal((40, 12))}}, stimulus_id=ids
    )
    brain = rc.responses(
        {"p": x + rng.standard_normal(x.shape)},
        stimulus_id=ids,
        presentation={"category": kinds},
    )
    found = rc.sensitivity(
        acts, brain, ["rsa"], unit_draws=0, n_units=None, n_voxels=None,
        leave_out={"one": ids[:1]}, leave_one_subject_out=False,
    )  # fmt: skip
    assert found["dof"].values.tolist() == [9.0, 9.0]
    se = found["se"].values
    assert se[1] == pytest.approx(se[0], rel=0.15)


def test_fewer_units_and_stimuli_keep_the_categories():
    held = rc.TargetEvidence(np.array(list("abcdef")), np.eye(6), np.eye(6)[::-1])
    held.category = np.array(list("xxyyzz"))
    assert held.take(np.array([0, 2])).category.tolist() == list("xxyyzz")
    assert leave_out(held, np.array(["b"])).category.tolist() == list("xyyzz")


@pytest.mark.parametrize("given", [{"sources": ["stimuli"]}, {"sources": ["subjects"]}])
def test_the_reference_has_the_sources_of_the_study(given):
    acts, brain = scene(seed=2)
    found = rc.sensitivity(acts, brain, "rsa", **OFF, **DRAWS, **given)
    comparison = rc.compare(acts, brain, "rsa", random_state=DRAWS["random_state"])
    result = rc.infer(comparison, n_permutations=1, n_splits=1, **DRAWS, **given)
    rows = rc.tables(result)["contrasts"].query("pairing == 'mean'").set_index("roi")
    for row in rc.tables(found)["specifications"].itertuples():
        assert row.ci_low == pytest.approx(rows.loc[row.roi, "ci_low"], abs=1e-12)
