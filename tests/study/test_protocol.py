"""Study files: what is read, and one sentence with place and nearest spelling for a fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rsacompare as rc
from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.schema import store
from rsacompare.study import keys
from rsacompare.study.keys import check_options
from rsacompare.study.protocol import InferenceOptions, Study, load_study

ROOT = Path(__file__).parents[2]
GOOD = """
name = "tiny"
random_state = 7
rois = ["IT", "EVC"]

[brain.lab]
options = { n_subjects = 3 }

[networks.netA]
layers = ["conv2"]

[metrics.level]

[metrics.level_scaled]
type = "level"
scale = 2

[inference]
contrast = ["netA", "netB"]
n_bootstrap = 100
"""


class Level(rc.Metric):
    """A metric with an option of each kind."""

    name = "level"
    meaning = rc.Meaning("level")

    def __init__(self, scale: float = 1.0, mode: str = "mean", powers: tuple[int, ...] = (1, 2)):
        if mode not in ("mean", "max"):
            raise ValueError(f"mode must be mean or max, got {mode}")
        self.scale, self.mode, self.powers = scale, mode, powers

    def compare(self, activation, response):
        raise NotImplementedError


def lab(n_subjects: int = 2):
    raise AssertionError("nothing is loaded while a study file is checked")


@pytest.fixture(autouse=True)
def guests(monkeypatch):
    monkeypatch.setitem(plugins._registered["metrics"], "level", Level)
    monkeypatch.setitem(plugins._registered["datasets"], "lab", lab)
    monkeypatch.setitem(plugins._registered["networks"], "netA", lab)


@pytest.fixture
def load(tmp_path):
    def load(text):
        file = tmp_path / "STUDY.toml"
        file.write_text(text, encoding="utf-8")
        return load_study(file)

    return load


def refusal(load, text):
    """The message of the error that the study is refused with, wherever it is noticed."""

    def check():
        study = load(text)
        study.make_metrics()
        for name in study.brain:
            study.locate("brain", name)
        for name in study.networks:
            study.locate("networks", name)

    with pytest.raises((ProtocolError, DataError)) as caught:
        check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_study_file_is_read_as_it_is_written(load):
    study = load(GOOD)
    assert (study.name, study.random_state, study.rois) == ("tiny", 7, ["IT", "EVC"])
    assert study.brain["lab"].options == {"n_subjects": 3}
    assert study.networks["netA"].layers == ["conv2"]
    assert study.inference == InferenceOptions(contrast=[("netA", "netB")], n_bootstrap=100)
    assert study.inference.n_permutations == 10_000
    metrics = study.make_metrics()
    assert [m.scale for m in metrics.values()] == [1.0, 2.0]
    assert list(metrics) == ["level", "level_scaled"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("random_state = 7", "random_sate = 7", ["key 'random_sate'", "'random_state'?"]),
        ("[inference]", "[inference]\nn_bootstraps = 5", ["[inference]", "mean 'n_bootstrap'?"]),
        ("layers =", "layer =", ["[networks.netA]", "unknown key 'layer'", "mean 'layers'?"]),
        (
            "options = { n_subjects = 3 }",
            "n_subjects = 3",
            ["[brain.lab]", "'n_subjects'", "options = { n_subjects = … }"],
        ),
        ("[metrics.level]", "[metric.level]", ["unknown key 'metric'", "mean 'metrics'?"]),
        ("random_state = 7", 'random_state = "7"', ["random_state", "a whole number", "'7'"]),
        ("random_state = 7", "random_state = true", ["random_state", "a whole number"]),
        ("random_state = 7", "random_state = -1", ["random_state", "greater than or equal to 0"]),
        ('["IT", "EVC"]', '"IT"', ["rois", "expected a list", "'IT' (text)"]),
        ('["IT", "EVC"]', '["IT", 3]', ["rois, item 2", "expected text"]),
        ("n_bootstrap = 100", "confidence = 95", ["[inference] confidence", "less than 1"]),
        ('["netA", "netB"]', '["netA", "netA"]', ["[inference] contrast", "with itself"]),
        ('["netA", "netB"]', '["netA"]', ["[inference] contrast", "pairs like"]),
        ('["netA", "netB"]', '"netA"', ["[inference] contrast", "expected a list"]),
        ('name = "tiny"', "", ["'name' is missing"]),
        ('name = "tiny"', 'name = "../x"', ["name: '../x' must be letters"]),
        ("[metrics.level]", "[metrics.'a/b']\ntype='level'", ["'a/b' must be letters"]),
        ("[metrics.level]", "[metrics.index]\ntype='level'", ["'index' is the name of the first"]),
        ("[brain.lab]\noptions = { n_subjects = 3 }", 'brain = "lab"', ["brain", "a table"]),
        ("scale = 2", "scal = 2", ["[metrics.level_scaled]", "option of metric level 'scal'"]),
        ("scale = 2", 'scale = "2"', ["'scale' of metric level", "expected float", "'2' (text)"]),
        ("scale = 2", 'mode = "median"', ["[metrics.level_scaled]", "mode must be mean or max"]),
        ('type = "level"', 'type = "levl"', ["unknown metric 'levl'", "mean 'level'?"]),
        ("n_subjects = 3", "n_subject = 3", ["[brain.lab]", "option of dataset lab 'n_subject'"]),
        ("n_subjects = 3", "n_subjects = 3.5", ["'n_subjects' of dataset lab", "expected int"]),
        ("[brain.lab]", "[brain.labb]", ["[brain.labb]", "unknown dataset", "mean 'lab'?"]),
        ("[networks.netA]", "[networks.netC]", ["unknown network 'netC'", "mean 'netA'?"]),
        ("[networks.netA]", "[networks.netA]\nsource = 'x.npz'", ["[networks.netA]", "no file"]),
        ("random_state = 7", "random_state = ", ["not valid TOML", "line 3"]),
    ],
)
def test_a_fault_is_one_sentence_with_its_place(load, old, new, said):
    assert old in GOOD
    message = refusal(load, GOOD.replace(old, new, 1))
    assert "STUDY.toml" in message
    for part in said:
        assert part in message


def test_several_faults_are_counted(load):
    message = refusal(load, GOOD.replace("random_state = 7", "a = 1\nb = 2"))
    assert message.endswith("(and 1 more to mend)")


def test_a_file_is_found_beside_the_study(load, tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"")
    text = GOOD.replace("[networks.netA]", '[networks.netA]\nsource = "mine.npz"')
    assert load(text).locate("networks", "netA") == tmp_path / "mine.npz"
    message = refusal(load, text.replace("layers =", "options = { a = 1 }\nlayers ="))
    assert "unknown option of file mine.npz 'a'" in message
    assert load(text.replace("layers =", 'options = { roi = "V1" }\nlayers =')).locate(
        "networks", "netA"
    )
    (tmp_path / "mine.nc").write_bytes(b"")
    message = refusal(
        load,
        text.replace("layers =", "options = { a = 1 }\nlayers =").replace("mine.npz", "mine.nc"),
    )
    assert "options are for registered networks; mine.nc is a file" in message


def test_a_file_of_the_registry_is_known_without_loading_it(load):
    source = "activations92/squeezenet.npz"
    study = load(GOOD.replace("[networks.netA]", f'[networks.netA]\nsource = "{source}"'))
    assert study.locate("networks", "netA") == source


@pytest.mark.parametrize("what", ["absent", "folder", "binary"])
def test_what_is_no_study_file(tmp_path, what):
    file = tmp_path / "STUDY.toml"
    if what == "folder":
        file.mkdir()
    elif what == "binary":
        file.write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(DataError, match=r"STUDY\.toml"):
        load_study(file)


def test_another_seed_leaves_the_study_as_it_was(load):
    study = load(GOOD)
    assert study.with_seed(3).random_state == 3
    assert study.with_seed(3).file == study.file
    assert study.random_state == 7
    with pytest.raises(ProtocolError, match="random_state must be a whole number"):
        study.with_seed(-1)


def test_options_become_what_the_signature_says():
    assert check_options("x", Level, {"powers": [3, 4], "scale": 2}) == {
        "powers": (3, 4),
        "scale": 2.0,
    }
    with pytest.raises(ProtocolError, match="option 'powers' of x: expected tuple"):
        check_options("x", Level, {"powers": ["a"]})


@pytest.mark.parametrize("name", ["demo", "kriegeskorte92"])
def test_the_studies_of_this_project_are_valid(name):
    study = load_study(ROOT / "analyses" / f"{name}.toml")
    assert study.name == name
    assert isinstance(study, Study)
    for label, metric in study.make_metrics().items():
        assert label == metric.name
    for table in study.brain:
        assert study.locate("brain", table) == table
    for table in study.networks:
        assert study.locate("networks", table)


def test_the_demo_beside_the_analyses_is_the_packaged_one():
    packaged = ROOT / "rsacompare" / "study" / "demo.toml"
    assert (ROOT / "analyses" / "demo.toml").resolve() == packaged.resolve()


def test_files_in_options_are_found_from_the_study_file(tmp_path):
    from rsacompare.study.inputs import _from_folder

    (tmp_path / "god").mkdir()
    (tmp_path / "rois").mkdir()
    (tmp_path / "betas.nii").touch()
    assert _from_folder(tmp_path, {"path": "god", "masks": {"V1": "god"}}) == {
        "path": str(tmp_path / "god"),
        "masks": {"V1": "god"},  # starts from `path` already
    }
    given = {
        "betas": {"sub-01": "betas.nii"},
        "masks": {
            "V1": "rois/{subject}_V1.nii.gz",
            "LOC": "/abs/{subject}.nii",
            "FFA": "nowhere/*.nii",
        },
        "labels": "{subject}_labels.tsv",
        "rois": ["rois"],
    }
    assert _from_folder(tmp_path, given) == {
        "betas": {"sub-01": str(tmp_path / "betas.nii")},
        "masks": {
            "V1": str(tmp_path / "rois/{subject}_V1.nii.gz"),
            "LOC": "/abs/{subject}.nii",
            "FFA": "nowhere/*.nii",
        },
        "labels": str(tmp_path / "{subject}_labels.tsv"),
        "rois": ["rois"],
    }


def test_a_misspelt_table_is_named_before_what_is_missing_for_it(load):
    message = refusal(load, GOOD.replace("[brain.lab]", "[brains.lab]"))
    assert "unknown key 'brains'; did you mean 'brain'" in message
    assert message.endswith("(and 1 more to mend)")


def test_all_that_is_missing_is_named(load):
    message = refusal(load, GOOD.split("[brain.lab]")[0])
    assert message.endswith("STUDY.toml: 'brain' and 'networks' and 'metrics' are missing")


def test_a_misspelt_file_is_named_once_with_its_folder_and_the_nearest(load, tmp_path):
    (tmp_path / "responses.nc").write_bytes(b"")
    text = GOOD.replace("options = { n_subjects = 3 }", 'source = "respnses.nc"')
    study = load(text)
    with keys.at(study.place("brain", "lab")), pytest.raises(DataError) as err:
        study.locate("brain", "lab")
    assert str(err.value).count("[brain.lab]") == 1
    assert f"no file respnses.nc in {tmp_path}" in str(err.value)
    assert "did you mean 'responses.nc'?" in str(err.value)
    with pytest.raises(DataError) as err, keys.at(study.place("brain", "lab")):
        study.locate("brain", "lab")
    assert str(err.value).count("[brain.lab]") == 1


def test_residuals_are_a_file_beside_the_study(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    tree = rc.responses(
        {"s1": rng.standard_normal((30, 4))}, stimulus_id=["rest"] * 30, roi_mask={"V1": [True] * 4}
    )
    store.write_netcdf(tree, tmp_path / "noise.nc")
    file = tmp_path / "study.toml"
    text = (
        'name = "n"\n[brain.phantom]\n[networks.phantom]\n[metrics.m]\ntype = "rsa"\n'
        'distance = "mahalanobis"\nresiduals = "noise.nc"\n'
    )
    file.write_text(text)
    monkeypatch.chdir("/")
    made = load_study(file).make_metrics()["m"]
    given = rc.metric("rsa", distance="mahalanobis", residuals=tree)
    assert made.config() == given.config()
    ids = np.tile(["a", "b", "c"], 2)
    brain = rc.responses({"s1": rng.standard_normal((6, 4))}, stimulus_id=ids)["s1"]["response"]
    brain = brain.assign_attrs(subject="s1", roi="V1")
    vectors = [m.prepare_response(brain).vector for m in (made, given)]
    np.testing.assert_array_equal(*vectors)
    file.write_text(text.replace("noise.nc", "nois.nc"))
    with pytest.raises(DataError, match=r"\[metrics.m\].*no file .*nois\.nc"):
        load_study(file).make_metrics()
    with pytest.raises(ProtocolError, match="netCDF file of it; got dict"):
        rc.metric("rsa", distance="mahalanobis", residuals={"s1": 1})


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('[inference]\nsources = ["people"]', "[inference] sources, item 1: expected 'subjects'"),
        ('[inference]\nhierarchy = ["V1", "V4"]', "[inference] hierarchy: expected 3 or more, got"),
        ("[sensitivity]\nn_units = [0]", "[sensitivity] n_units, item 1: expected greater than"),
    ],
)
def test_wrong_values_of_inference_are_told_before_anything_is_read(tmp_path, lines, told):
    study = tmp_path / "study.toml"
    study.write_text(
        'name = "x"\n[brain.b]\nsource = "b.nc"\n[networks.n]\nsource = "n.npz"\n[metrics.rsa]\n'
        + lines
    )
    with pytest.raises(ProtocolError) as error:
        load_study(study)
    assert told in str(error.value)
