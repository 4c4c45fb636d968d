"""compare: cells, labels, sharing, resume, the same bits for any n_jobs."""

import json
import threading

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.errors import DataError, LabelError, ProtocolError

IDS = np.array([f"s{i:02d}" for i in range(24)])


class Mean(rc.Metric):
    """Brain mean predicted by network mean; counts what it is asked to do."""

    name = "mean"
    meaning = rc.Meaning("mean level")

    def __init__(self, scale=1.0):
        self.scale = scale
        self._calls = {"activation": 0, "response": 0, "compare": 0}
        self._lock = threading.Lock()

    def _count(self, what):
        with self._lock:
            self._calls[what] += 1

    def prepare_activation(self, activation):
        self._count("activation")
        return activation.mean("neuroid")

    def prepare_response(self, response):
        self._count("response")
        return rc.average_repetitions(response)[:2]

    def compare(self, activation, response):
        self._count("compare")
        ids, brain = response
        network = activation.sel(stimulus_id=ids).values * self.scale
        return rc.TargetEvidence(ids, brain.mean(axis=1)[:, None], network[:, None])


class Voxels(Mean):
    name = "voxels"
    voxelwise = True

    def compare(self, activation, response):
        self._count("compare")
        ids, brain = response
        network = activation.sel(stimulus_id=ids).values
        return rc.TargetEvidence(ids, brain, np.repeat(network[:, None], brain.shape[1], axis=1))


def scene(seed=0, subjects=2):
    rng = np.random.default_rng(seed)
    layers = {f"l{i}": rng.standard_normal((24, 7)) for i in range(3)}
    acts = rc.activations(
        {"a": layers, "b": {k: v[:, :4] + 1 for k, v in layers.items()}}, stimulus_id=IDS
    )
    masks = {"V1": np.arange(10) < 4, "V2": (np.arange(10) >= 3) & (np.arange(10) < 9)}
    brain = rc.responses(
        {f"sub-{i}": rng.standard_normal((24, 10)) for i in range(subjects)},
        stimulus_id=IDS,
        roi_mask=masks,
    )
    return acts, brain


def expected(acts, brain, network, layer, roi, subject):
    x = acts[f"{network}/{layer}"]["activation"].values.mean(axis=1)
    node = brain[subject].to_dataset()
    y = node["response"].values[:, node["roi_mask"].sel(roi=roi).values].mean(axis=1)
    return np.corrcoef(x, y)[0, 1]


def test_scores_stand_under_their_labels():
    acts, brain = scene()
    scores = rc.compare(acts, brain, metrics=[Mean()]).scores["score"].sel(metric="mean")
    assert scores.dims == ("subject", "roi", "layer")
    for cell in (("a", "l2", "V2", "sub-1"), ("b", "l0", "V1", "sub-0")):
        value = scores.sel(subject=cell[3], roi=cell[2], layer=f"{cell[0]}/{cell[1]}").item()
        assert value == pytest.approx(expected(acts, brain, *cell), abs=1e-12)


def test_row_order_of_brain_and_network_does_not_matter():
    acts, brain = scene()
    order = np.random.default_rng(1).permutation(24)
    shuffled = rc.activations(
        {
            n: {k: acts[f"{n}/{k}"]["activation"].values[order] for k in ("l0", "l1", "l2")}
            for n in "ab"
        },
        stimulus_id=IDS[order],
    )
    one = rc.compare(acts, brain, metrics=[Mean()]).scores["score"]
    two = rc.compare(shuffled, brain, metrics=[Mean()]).scores["score"]
    np.testing.assert_allclose(one, two, atol=1e-12)


def test_work_of_one_array_is_done_once_and_voxelwise_metrics_share_voxels():
    acts, brain = scene()
    mean, voxels = Mean(), Voxels()
    result = rc.compare(acts, brain, metrics=[mean, voxels])
    assert mean._calls == {"activation": 6, "response": 4, "compare": 24}
    # both ROIs of a subject come out of one comparison
    assert voxels._calls == {"activation": 6, "response": 2, "compare": 12}
    assert (
        result.scores["n_targets"].sel(metric="voxels", roi="V1").values.tolist() == [[4.0] * 6] * 2
    )
    # and an ROI's voxels are its own: voxel 3 belongs to both
    alone = rc.compare(acts, brain, metrics=[Voxels()], rois=["V2"])
    assert alone.scores["score"].sel(metric="voxels", roi="V2").values == pytest.approx(
        result.scores["score"].sel(metric="voxels", roi="V2").values, abs=1e-12
    )


def test_same_bits_for_any_n_jobs():
    acts, brain = scene()
    metrics = ["rsa", Mean(), Voxels()]
    one = rc.compare(acts, brain, metrics=metrics, n_jobs=1)
    two = rc.compare(acts, brain, metrics=metrics, n_jobs=2)
    assert one.scores["score"].equals(two.scores["score"])
    assert list(one.evidence) == list(two.evidence)


def test_a_killed_run_resumes(tmp_path):
    acts, brain = scene()
    first = Mean()
    whole = rc.compare(acts, brain, metrics=[first], store=tmp_path)
    again = Mean()
    same = rc.compare(acts, brain, metrics=[again], store=tmp_path)
    assert again._calls == {"activation": 0, "response": 0, "compare": 0}
    assert same.scores["score"].equals(whole.scores["score"])
    victim = sorted(tmp_path.rglob("*.npz"))[0]
    victim.write_bytes(victim.read_bytes()[:50])  # killed while writing, or a broken disk
    third = Mean()
    mended = rc.compare(acts, brain, metrics=[third], store=tmp_path)
    assert third._calls["compare"] == 1
    assert mended.scores["score"].equals(whole.scores["score"])
    # another option or other data is another cell
    other = Mean(scale=2.0)
    rc.compare(acts, brain, metrics=[other], store=tmp_path)
    assert other._calls["compare"] == 24
    changed = Mean()
    rc.compare(scene(seed=9)[0], brain, metrics=[changed], store=tmp_path)
    assert changed._calls["compare"] == 24
    # inference reads the cells back and gives the same
    options = {"n_bootstrap": 50, "n_permutations": 20}
    stored, fresh = (
        rc.infer(same, **options),
        rc.infer(rc.compare(acts, brain, [Mean()]), **options),
    )
    assert stored["se"].equals(fresh["se"])


def test_several_data_sets_prefix_their_subjects_and_keep_their_rois():
    acts, brain = scene()
    rng = np.random.default_rng(5)
    other = rc.rdms(
        {"sub-0": {"IT": rng.random(276)}, "sub-1": {"IT": rng.random(276)}}, stimulus_id=IDS
    )
    result = rc.compare(acts, {"one": brain, "two": other}, metrics=["rsa", Mean()])
    score = result.scores["score"]
    assert score["subject"].values.tolist() == ["one.sub-0", "one.sub-1", "two.sub-0", "two.sub-1"]
    assert np.isfinite(score.sel(metric="rsa", roi="IT", subject="two.sub-1")).all()
    assert score.sel(roi="IT", subject="one.sub-0").isnull().all()
    assert score.sel(metric="mean", roi="IT").isnull().all()
    assert json.loads(result.scores.attrs["not_applicable"]) == [
        "mean: not for IT, known by RDMs alone"
    ]
    held = json.loads(result.scores.attrs["data"])
    assert [(d["name"], d["n_subjects"], d["rois"]) for d in held] == [
        ("one", 2, ["V1", "V2"]),
        ("two", 2, ["IT"]),
    ]


def test_nothing_applicable_is_an_error():
    acts, _ = scene()
    other = rc.rdms({"sub-0": {"IT": np.ones(276)}}, stimulus_id=IDS)
    with pytest.raises(ProtocolError, match="nothing to compare: mean: not for IT"):
        rc.compare(acts, other, metrics=[Mean()])


def test_errors_say_where():
    acts, brain = scene()
    with pytest.raises(LabelError, match="unknown ROI 'V3'; did you mean 'V"):
        rc.compare(acts, brain, metrics=[Mean()], rois=["V1", "V3"])

    @rc.register_metric("refuses")
    def refuses(activation, response):
        raise DataError("too flat")

    with pytest.raises(DataError, match="refuses, a/l0, ROI V1, sub-0: too flat"):
        rc.compare(acts, brain, metrics=["refuses"])

    @rc.register_metric("crashes")
    def crashes(activation, response):
        return 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        rc.compare(acts, brain, metrics=["crashes"])
    assert "crashes, a/l0, ROI V1, sub-0" in caught.value.__notes__[0]


def test_stimuli_that_do_not_match():
    acts, _ = scene()
    rng = np.random.default_rng(0)
    stranger = rc.responses(
        {"sub-0": rng.standard_normal((24, 5))}, stimulus_id=[f"{i}.jpg" for i in range(24)]
    )
    with pytest.raises(LabelError, match=r"No id matches at all.*'s00'"):
        rc.compare(acts, stranger, metrics=["rsa"])


def test_progress_counts_to_the_end():
    acts, brain = scene()
    seen = []
    rc.compare(acts, brain, metrics=[Mean()], progress=lambda *a: seen.append(a))
    assert seen[-1] == ("mean: layers", 6, 6)
    assert ("mean: regions", 4, 4) in seen


def test_rdm_extras_come_with_metrics_on_pairs():
    acts, brain = scene()
    comparison = rc.compare(acts, brain, metrics=["rsa", Mean()])
    kinds = [(e["kind"], e["metric"]) for e in comparison.extras]
    assert kinds == [("rdm", "rsa"), ("embedding", "rsa"), ("matrix", "rsa"), ("matrix", "rsa")]
    rdm, embedding = comparison.extras[:2]
    assert rdm["arrays"]["label"].values.tolist()[:2] == ["brain: V1", "brain: V2"]
    assert embedding["arrays"]["xy"].shape == (8, 2)


@pytest.mark.parametrize("split", [True, False])
def test_every_metric_gives_the_same_bits_for_any_n_jobs_and_from_the_store(tmp_path, split):
    options = {"n_subjects": 2, "n_train": 60, "n_test": 12, "n_repetitions": 3, "n_units": 50}
    brain, acts = rc.load_dataset("phantom", **options), rc.load_activations("phantom", **options)
    if not split:
        cut = {s: n.to_dataset().isel(presentation=slice(0, 60)) for s, n in brain.children.items()}
        brain = rc.responses(
            {s: d["response"].values for s, d in cut.items()},
            stimulus_id=cut["sub-01"]["stimulus_id"].values,
        )
    metrics = {
        "decoding": rc.metric("decoding", n_voxels=10),
        "rsa": "rsa",
        "encoding": rc.metric("encoding", n_folds=3),
    }
    rois = ["V1", "LVC"] if split else None
    results = []
    for jobs, store in ((1, None), (2, None), (2, tmp_path), (1, tmp_path)):
        comparison = rc.compare(acts, brain, metrics, rois, n_jobs=jobs, store=store)
        result = rc.infer(comparison, n_bootstrap=300, n_permutations=600, n_jobs=jobs)
        results.append(result.drop_attrs())
    assert all(results[0].identical(other) for other in results[1:])
    assert np.isfinite(results[0]["se"]).all()


def test_every_label_and_the_voxels_compared_together_belong_to_a_cell(tmp_path):
    acts, brain = scene()
    rc.compare(acts, brain, metrics=[Mean(), Voxels()], store=tmp_path)
    # a metric may read any label of the responses
    other = brain.copy()
    for subject in other.children:
        node = other[subject].to_dataset()
        other[subject].dataset = node.assign_coords(repetition=node["repetition"] + 1)
    changed = Mean()
    rc.compare(acts, other, metrics=[changed], store=tmp_path)
    assert changed._calls["compare"] == 24
    # one product over the voxels of fewer ROIs may differ in the last digits: other cells
    mean, voxels = Mean(), Voxels()
    one = rc.compare(acts, brain, metrics=[mean, voxels], rois=["V1"], store=tmp_path)
    fresh = rc.compare(acts, brain, metrics=[Mean(), Voxels()], rois=["V1"])
    assert (mean._calls["compare"], voxels._calls["compare"]) == (0, 12)
    assert one.scores["score"].equals(fresh.scores["score"])
