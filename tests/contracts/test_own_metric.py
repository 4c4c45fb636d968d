"""A metric of one's own, each way to bring it: the score is the closed form, the rest comes free.

The entry point of an installed package is in tests/cli/test_guest_package.py.
"""

import json

import numpy as np
import pytest

import rsacompare as rc
from rsacompare import pipeline, plugins, testing
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema import store
from rsacompare.study.protocol import load_study

RNG = np.random.default_rng(7)
IDS = [f"s{i:02d}" for i in range(20)]
LATENT = RNG.standard_normal((20, 4))
LAYERS = {
    "near": {"l1": LATENT @ RNG.standard_normal((4, 6)), "l2": RNG.standard_normal((20, 5))},
    "far": {"l1": RNG.standard_normal((20, 6)), "l2": RNG.standard_normal((20, 5))},
}
VOXELS = {
    f"p{i}": LATENT @ RNG.standard_normal((4, 8)) + 0.5 * RNG.standard_normal((20, 8))
    for i in range(3)
}
ACTS = rc.activations(LAYERS, stimulus_id=IDS)
BRAIN = rc.responses(VOXELS, stimulus_id=IDS)


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {group: {} for group in plugins.GROUPS})


def level(activation, response):
    """Mean response against mean activation."""
    ids, voxels, _, _ = rc.average_repetitions(response)
    network = activation.sel(stimulus_id=ids).mean("neuroid").values
    return rc.TargetEvidence(ids, voxels.mean(axis=1)[:, None], network[:, None])


class Level(rc.Metric):
    """The same from a voxel on."""

    name = "level"
    meaning = rc.Meaning("mean level")

    def __init__(self, first: int = 0):
        self.first = first

    def compare(self, activation, response):
        return level(activation, response.isel(neuroid=slice(self.first, None)))


def expected(network, layer, subject, first=0):
    brain = VOXELS[subject][:, first:].mean(axis=1)
    return np.corrcoef(brain, LAYERS[network][layer].mean(axis=1))[0, 1]


def by_object():
    return {"level": Level()}


def by_decorated_function():
    rc.register_metric("level", meaning=rc.Meaning("mean level"))(level)
    return "level"


def by_class():
    rc.register_metric("level")(Level)
    return ["level"]


@pytest.mark.parametrize("way", [by_object, by_decorated_function, by_class])
def test_each_way_gives_the_closed_form_and_all_the_statistics(way, tmp_path):
    comparison = rc.compare(ACTS, BRAIN, metrics=way())
    for network, layers in LAYERS.items():
        for layer in layers:
            got = comparison.scores["score"].sel(
                metric="level", layer=f"{network}/{layer}", roi="all"
            )
            want = [expected(network, layer, subject) for subject in VOXELS]
            np.testing.assert_allclose(got.values, want, rtol=1e-12)
    result = rc.infer(comparison, contrast=("near", "far"), n_bootstrap=100, n_permutations=1000)
    low, high = result["ci"].sel(metric="level", roi="all", layer="near/l1").values
    mean = float(np.mean([expected("near", "l1", subject) for subject in VOXELS]))
    assert low < mean < high
    assert (low + high) / 2 == pytest.approx(mean)  # mean ± t·SE
    # permuting a network's stimuli leaves r at 0 ± the root of (mean correlation of people)/(n - 1)
    null = result["null"].sel(metric="level", roi="all", layer="near/l1").values
    people = np.corrcoef([v.mean(axis=1) for v in VOXELS.values()])
    sd = np.sqrt(people.mean() / 19)
    assert null.mean() == pytest.approx(0, abs=3 * sd / np.sqrt(1000))
    assert null.std() == pytest.approx(sd, rel=0.08)
    p = result["p_null"].sel(metric="level", roi="all", layer="near/l1").item()
    assert p == pytest.approx((1 + (null >= mean - 1e-12).sum()) / 1001)
    rows = rc.tables(result)["contrasts"].query("pairing == 'mean'")
    difference = np.mean(
        [expected("near", x, s) - expected("far", x, s) for x in ("l1", "l2") for s in VOXELS]
    )
    assert rows["difference"].item() == pytest.approx(difference)
    rc.report(result, tmp_path)
    page = (tmp_path / "level.html").read_text("utf-8")
    assert "mean level" in page
    assert 'href="level.html"' in (tmp_path / "index.html").read_text("utf-8")


@pytest.mark.parametrize("way", [by_object, by_decorated_function, by_class])
def test_each_way_keeps_the_contract(way):
    made = way()
    metric = made["level"] if isinstance(made, dict) else "level"
    assert len(testing.check_metric(metric)) == 2 * len(testing.CHECKS)


def test_pairs_have_the_noise_ceiling_of_their_subjects():
    """Kriegeskorte's: others' mean RDM (lower) and everybody's (upper), z-scored for `corr`."""

    @rc.register_metric("cityblock")
    def cityblock(activation, response):
        ids, voxels, _, _ = rc.average_repetitions(response)
        network = activation.sel(stimulus_id=ids).values
        return rc.PairEvidence(ids, distances(network), distances(voxels))

    result = rc.infer(rc.compare(ACTS, BRAIN, "cityblock"), n_bootstrap=10, n_permutations=10)
    rdms = np.stack([distances(v) for v in VOXELS.values()])
    z = (rdms - rdms.mean(axis=1, keepdims=True)) / rdms.std(axis=1, keepdims=True)
    upper = [np.corrcoef(z.mean(axis=0), own)[0, 1] for own in rdms]
    lower = [np.corrcoef(np.delete(z, i, 0).mean(axis=0), own)[0, 1] for i, own in enumerate(rdms)]
    cell = result.sel(metric="cityblock", roi="all", layer="near/l1")
    assert cell["group_ceiling_high"].item() == pytest.approx(np.mean(upper))
    assert cell["group_ceiling_low"].item() == pytest.approx(np.mean(lower))
    own = np.corrcoef(distances(LAYERS["near"]["l1"]), rdms[0])[0, 1]
    assert cell["score"].sel(subject="p0").item() == pytest.approx(own)


def distances(values):
    i, j = np.triu_indices(len(values), 1)
    return np.abs(values[i] - values[j]).sum(axis=1)


STUDY = """
name = "mine"
[brain.lab]
source = "brain.nc"
[networks.near]
source = "near.npz"
[networks.far]
source = "far.npz"
[metrics.level]
[metrics.late]
type = "level"
first = 3
[inference]
n_bootstrap = 20
n_permutations = 20
"""


@pytest.fixture
def study(tmp_path):
    store.write_netcdf(BRAIN, tmp_path / "brain.nc")
    for name, layers in LAYERS.items():
        np.savez(tmp_path / f"{name}.npz", stimulus_id=IDS, layers=list(layers), **layers)
    (tmp_path / "STUDY.toml").write_text(STUDY, "utf-8")
    return tmp_path / "STUDY.toml"


def test_a_study_file_names_it_with_its_options(study):
    rc.register_metric("level")(Level)
    result = pipeline.run(study)
    for label, first in (("level", 0), ("late", 3)):
        got = result["score"].sel(metric=label, roi="all", layer="near/l1").values
        np.testing.assert_allclose(got, [expected("near", "l1", s, first) for s in VOXELS])
    assert json.loads(result.attrs["meaning"])["late"]["options"] == {"first": 3}


@pytest.mark.parametrize(
    ("guest", "old", "new", "said"),
    [
        (
            Level,
            "first = 3",
            "frist = 3",
            "unknown option of metric level 'frist'; did you mean 'f",
        ),
        (
            Level,
            "first = 3",
            'first = "3"',
            "option 'first' of metric level: expected int, got '3'",
        ),
        (level, "first = 3", "first = 3", "metric 'level' takes no options; got first"),
        (Level, 'type = "level"', 'type = "lvel"', "unknown metric 'lvel'; did you mean 'level'?"),
    ],
)
def test_options_that_do_not_fit_are_named_with_their_place(study, guest, old, new, said):
    rc.register_metric("level")(guest)
    study.write_text(STUDY.replace(old, new), "utf-8")
    with pytest.raises(ProtocolError) as error:
        load_study(study).make_metrics()
    assert "STUDY.toml, [metrics.late]: " in str(error.value)
    assert said in str(error.value)


def holed(values, row=3):
    values = np.array(values, dtype=float)
    values[row] = np.nan
    return values


SLIPS = {
    "no evidence": (lambda i, v, a: v[:, 0], ProtocolError, "gave ndarray, expected evidence"),
    "other shapes": (
        lambda i, v, a: rc.TargetEvidence(i, v, a),
        DataError,
        r"observed \(20, 8\) and predicted \(20, [65]\) must both be",
    ),
    "one dimension": (
        lambda i, v, a: rc.TargetEvidence(i, v[:, 0], a[:, 0]),
        DataError,
        r"observed \(20,\) and predicted \(20,\) must both be \(stimulus, target\)",
    ),
    "ids of others": (
        lambda i, v, a: rc.TargetEvidence(i[:9], v[:, :2], a[:, :2]),
        DataError,
        "9 stimulus ids for 20 predicted stimuli",
    ),
    "pairs of others": (
        lambda i, v, a: rc.PairEvidence(i, np.ones(9), np.ones(9)),
        DataError,
        r"20 stimuli make 190 pairs; got \(9,\)",
    ),
    "a NaN": (
        lambda i, v, a: rc.TargetEvidence(i, holed(v[:, :2]), a[:, :2]),
        DataError,
        r"observed is NaN for some stimuli \('s03'\) in 2 of 2 targets",
    ),
    "a NaN pair": (
        lambda i, v, a: rc.PairEvidence(i, holed(distances(a)), distances(v)),
        DataError,
        "1 of 190 dissimilarities of the network are NaN",
    ),
    "unknown stimuli": (
        lambda i, v, a: rc.TargetEvidence(np.array([*i[:19], "t00"]), v[:, :2], a[:, :2]),
        LabelError,
        "1 stimuli that the brain never saw: 't00'",
    ),
    "row numbers": (
        lambda i, v, a: rc.TargetEvidence(np.arange(10, 30), v[:, :2], a[:, :2]),
        LabelError,
        "20 stimuli that the brain never saw: '10'",
    ),
    "twice": (
        lambda i, v, a: rc.TargetEvidence(np.array([i[1], *i[1:]]), v[:, :2], a[:, :2]),
        LabelError,
        f"stimuli stand twice in the metric's evidence: '{IDS[1]}'",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_guests_slip_is_named_with_its_cell(slip):
    make, kind, said = SLIPS[slip]

    @rc.register_metric("mine")
    def mine(activation, response):
        ids, voxels, _, _ = rc.average_repetitions(response)
        return make(ids, voxels, activation.sel(stimulus_id=ids).values)

    with pytest.raises(kind, match=r"^mine, near/l1, ROI all, p0: .*" + said):
        rc.compare(ACTS, BRAIN, metrics="mine")
    with pytest.raises(AssertionError, match="metric 'mine' fails"):
        testing.check_metric("mine")


def test_a_score_that_is_no_number_is_named():
    class Profile(rc.TargetEvidence):
        def score(self, weights=None, target_weights=None):
            return self.profile

    class Loose(Level):
        def compare(self, activation, response):
            ids, voxels, _, _ = rc.average_repetitions(response)
            return Profile(ids, voxels[:, :2], activation.sel(stimulus_id=ids).values[:, :2])

    with pytest.raises(ProtocolError, match=r"the score of Profile has shape \(2,\), expected one"):
        rc.compare(ACTS, BRAIN, metrics={"loose": Loose()})


def test_an_error_inside_says_in_which_cell():
    rc.register_metric("mine")(lambda activation, response: 1 / 0)
    with pytest.raises(ZeroDivisionError) as error:
        rc.compare(ACTS, BRAIN, metrics="mine")
    assert error.value.__notes__ == ["while comparing mine, near/l1, ROI all, p0"]


def test_a_target_of_nothing_but_nan_is_left_out_and_lists_are_arrays():
    @rc.register_metric("mine")
    def mine(activation, response):
        ids, voxels, _, _ = rc.average_repetitions(response)
        predicted = np.column_stack(
            [activation.sel(stimulus_id=ids).values[:, 0], np.full(20, np.nan)]
        )
        return rc.TargetEvidence(ids.tolist(), voxels[:, :2].tolist(), predicted)

    scores = rc.compare(ACTS, BRAIN, metrics="mine").scores.sel(layer="near/l1", subject="p0")
    want = np.corrcoef(VOXELS["p0"][:, 0], LAYERS["near"]["l1"][:, 0])[0, 1]
    assert scores["score"].item() == pytest.approx(want)
    assert scores["n_targets"].item() == 1


def test_a_name_that_is_taken_says_by_whom():
    rc.register_metric("mine")(level)
    with pytest.raises(ProtocolError, match=r"'mine' is registered already, by .*\.level; choose"):
        rc.register_metric("mine")(Level)
    assert rc.metric("mine").compare.__self__.name == "mine"
