"""Networks that run, in a study file: what is extracted, kept and refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

import rsacompare as rc
from rsacompare import pipeline, plugins
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.networks.network import Layer, Network
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.study.inputs import load_inputs
from rsacompare.study.protocol import load_study
from rsacompare.study.subsets import chosen

N = 9
IDS = [f"p{i}" for i in range(N)]
STUDY = """
name = "tiny"
random_state = 3

[brain.lab]

[networks.mine]
source = "columns"
stimuli = "photos"
layers = ["columns"]
units = "all"

[networks.known]

[metrics.rsa]

[inference]
n_bootstrap = 20
n_permutations = 20
"""


class Columns(Network):
    """Layers with a closed form: mean and standard deviation of the picture's columns."""

    def __init__(self, weights: str = "one"):
        self.name = "columns"
        self.preprocessing = Preprocessing((6, 8), "raw")
        self.sets = {"default": ("columns", "spread"), "first": ("columns",)}
        self.attrs = {"weights": weights, "weights_sha256": weights * 3, "imagenet_top1": 12.0}

    def layers(self):
        return [
            Layer("columns", "conv", (8, 3), 0, 0, 0.5),
            Layer("spread", "norm", (8, 3), 0, 1, 1.0),
        ]

    def layer(self, spec):
        for layer in self.layers():
            if layer.name == spec:
                return layer
        raise ProtocolError(plugins.unknown("layer of columns", spec, ["columns", "spread"]))

    def forward(self, specs):
        def run(images):
            Columns.batches += 1
            found = {"columns": images.mean(axis=1), "spread": images.std(axis=1)}
            return {spec: found[spec] for spec in specs}

        return run


def columns(weights: str = "one") -> Columns:
    """Two layers of closed form."""
    return Columns(weights)


def unsaid(weights="one"):
    """The same, but its annotation does not say so."""
    return Columns(weights)


def known() -> xr.DataTree:
    """Activations alone."""
    rng = np.random.default_rng(5)
    return rc.activations({"known": {"l0": rng.normal(size=(N, 7))}}, stimulus_id=IDS)


def lab() -> xr.DataTree:
    """Three people, one ROI."""
    rng = np.random.default_rng(6)
    shared = rng.normal(size=(N, 20))
    rdm = {f"s{k}": {"IT": pdist(shared + rng.normal(size=(N, 20)))} for k in range(3)}
    return rc.rdms(rdm, stimulus_id=IDS)


@pytest.fixture(autouse=True)
def guests(monkeypatch):
    Columns.batches = 0
    for group, name, plugin in [
        ("networks", "columns", columns),
        ("networks", "unsaid", unsaid),
        ("networks", "known", known),
        ("datasets", "lab", lab),
    ]:
        monkeypatch.setitem(plugins._registered[group], name, plugin)


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures of the very size, so that nothing is resized; returns their pixels."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = {label: rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for label in IDS}
    for label, picture in pixels.items():
        Image.fromarray(picture).save(folder / f"{label}.png")
    return pixels


@pytest.fixture
def study(tmp_path, photos):
    def write(*changes):
        text = STUDY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        file = tmp_path / "STUDY.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_scores_are_those_of_activations_computed_by_hand(study, photos, tmp_path):
    pipeline.run(study(('layers = ["columns"]', 'layers = "default"')), tmp_path / "out")
    scores = pd.read_csv(tmp_path / "out" / "scores.csv").query("network == 'mine'")
    assert len(scores) == 3 * 2  # people x layers
    stack = np.stack([photos[label] for label in IDS]).astype(np.float32)
    layers = {"columns": stack.mean(axis=1), "spread": stack.std(axis=1)}
    brain = {name: node["rdm"].values[0] for name, node in lab().children.items()}
    for row in scores.itertuples():
        network = pdist(layers[row.layer].reshape(N, -1), "correlation")
        expected = spearmanr(network, brain[row.subject]).statistic
        assert row.score == pytest.approx(expected, abs=1e-10)
    held = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert held["provenance"]["inputs"]["columns (weights)"] == "oneoneone"
    assert [n["imagenet_top1"] for n in held["networks"] if n["name"] == "mine"] == [12.0]


def test_what_was_extracted_is_kept_and_used_again(study, tmp_path):
    out = tmp_path / "out"
    pipeline.run(study(), out)
    assert Columns.batches == 1
    first = (out / "scores.csv").read_bytes()
    (kept,) = (out / "activations").glob("mine-*.nc")
    pipeline.run(study(), out)
    pipeline.run(study(("random_state = 3", "random_state = 4")), out)  # all units: no draw
    assert Columns.batches == 1
    assert (out / "scores.csv").read_bytes() == first
    kept.write_bytes(kept.read_bytes()[:1000])  # broken: made again
    pipeline.run(study(), out)
    assert Columns.batches == 2
    assert (out / "scores.csv").read_bytes() == first


def test_weights_that_nobody_can_tell_apart_are_not_taken_for_the_same(
    study, tmp_path, monkeypatch
):
    def anonymous(weights: str = "one") -> Columns:
        net = Columns(weights)
        del net.attrs["weights_sha256"]
        return net

    monkeypatch.setitem(plugins._registered["networks"], "anonymous", anonymous)
    file = study(('source = "columns"', 'source = "anonymous"'))
    pipeline.run(file, tmp_path / "out")
    pipeline.run(file, tmp_path / "out")
    assert Columns.batches == 2


@pytest.mark.parametrize(
    "change",
    [
        ('layers = ["columns"]', 'layers = ["spread"]'),
        ('units = "all"', "units = 5"),
        ('units = "all"', 'units = "channel-mean"'),
        ('units = "all"', 'units = "all"\noptions = { weights = "two" }'),
    ],
)
def test_another_extraction_is_made_and_both_are_kept(study, tmp_path, change):
    out = tmp_path / "out"
    pipeline.run(study(), out)
    pipeline.run(study(change), out)
    assert Columns.batches == 2
    assert len(list((out / "activations").glob("mine-*.nc"))) == 2


def test_another_picture_or_another_draw_is_another_extraction(study, tmp_path, photos):
    out = tmp_path / "out"
    some = ('units = "all"', "units = 5")
    pipeline.run(study(some), out)
    before = pd.read_csv(out / "scores.csv")
    pipeline.run(study(some, ("random_state = 3", "random_state = 4")), out)
    assert Columns.batches == 2
    assert not np.allclose(before["score"], pd.read_csv(out / "scores.csv")["score"])
    Image.fromarray(photos["p3"][::-1].copy() // 2).save(tmp_path / "photos" / "p3.png")
    pipeline.run(study(some), out)
    assert Columns.batches == 3


def test_the_table_gives_the_network_its_name_and_progress_is_told(study):
    told = []
    _, networks = load_inputs(load_study(study()), lambda *now: told.append(now))
    assert list(networks["mine"].children) == ["mine"]
    assert list(networks["mine"]["mine"].children) == ["columns"]
    steps = [now for now in told if now[0] == "extract"]
    assert steps[-1] == ("extract", N, N)


def test_a_table_of_names_and_paths_serves_as_stimuli(study, tmp_path, photos):
    rows = "".join(f"{label},photos/{label}.png\n" for label in reversed(IDS))
    (tmp_path / "set.csv").write_text("stimulus_id,path\n" + rows, encoding="utf-8")
    file = study(('stimuli = "photos"', 'stimuli = "set.csv"'))
    _, networks = load_inputs(load_study(file))
    data = networks["mine"]["mine/columns"].to_dataset()
    assert data["stimulus_id"].values.tolist() == IDS[::-1]
    expected = photos["p8"].astype(float).mean(axis=0).ravel()
    np.testing.assert_allclose(data["activation"].values[0], expected, rtol=1e-6)


def test_a_set_may_be_registered(study, monkeypatch, photos):
    monkeypatch.setitem(plugins._registered["stimuli"], "shots", lambda: photos)
    _, networks = load_inputs(load_study(study(('stimuli = "photos"', 'stimuli = "shots"'))))
    data = networks["mine"]["mine/columns"].to_dataset()
    assert data["stimulus_id"].values.tolist() == IDS


def test_a_function_that_does_not_say_what_it_makes_may_run_too(study):
    _, networks = load_inputs(load_study(study(('source = "columns"', 'source = "unsaid"'))))
    assert networks["mine"]["mine/columns"].to_dataset().sizes == {"stimulus_id": N, "neuroid": 24}


def test_check_runs_the_network_too(study, tmp_path):
    result = pipeline.check_source(study(), tmp_path / "seen")
    units = dict(zip(result["layer"].values, result["n_units"].values, strict=True))
    assert units["mine/columns"] == 24
    assert len(list((tmp_path / "seen" / "activations").glob("mine-*.nc"))) == 1
    assert not [f for f in json.loads(result.attrs["findings"]) if f["level"] == "error"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'stimuli = "photos"\n', "",
            ["[networks.mine]", "columns is a network that runs", "add stimuli = "],
        ),
        (
            'source = "columns"\nstimuli = "photos"', 'source = "unsaid"',
            ["[networks.mine]", "unsaid is a network that runs", "add stimuli = "],
        ),
        ('"photos"', '"photo"', ["[networks.mine]", "stimuli", "did you mean 'photos'?"]),
        ('"photos"', '"kriegeskorte9"', ["[networks.mine]", "mean 'kriegeskorte92'?"]),
        ('"photos"', '""', ["[networks.mine] stimuli", "some text"]),
        ("stimuli =", "stimulus =", ["unknown key 'stimulus'", "mean 'stimuli'?"]),
        ('["columns"]', '["colums"]', ["[networks.mine]", "mean 'columns'?"]),
        ('["columns"]', '"defalt"', ["[networks.mine]", "mean 'default'?"]),
        ('["columns"]', "[]", ["[networks.mine] layers", "a list of layers or the name of a set"]),
        ('["columns"]', "3", ["[networks.mine] layers", "got 3"]),
        ('"all"', '"al"', ["[networks.mine] units", "unknown units 'al'", "mean 'all'?"]),
        ('"all"', "0", ["[networks.mine] units", "a whole number from 1"]),
        ('"all"', "1.5", ["[networks.mine] units", "1.5"]),
        ('"all"', '"all"\noptions = { weight = "x" }', ["'weight'", "mean 'weights'?"]),
        ('"all"', '"all"\noptions = { weights = 3 }', ["'weights'", "expected str"]),
        ('"all"', '"all"\nnetwork = "x"', ["[networks.mine]", "network: columns is one network"]),
        (
            "[networks.known]", '[networks.known]\nstimuli = "photos"',
            ["[networks.known]", "known by its activations alone", "stimuli"],
        ),
        (
            "[networks.known]", "[networks.known]\nunits = 5",
            ["[networks.known]", "known by its activations alone", "units"],
        ),
        (
            "[networks.known]", '[networks.known]\nlayers = "default"',
            ["[networks.known]", "no layer sets", 'layers = ["default"]'],
        ),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_before_anything_runs(study, old, new, said):
    file = study((old, new))
    with pytest.raises((ProtocolError, DataError)) as caught:
        load_inputs(load_study(file))
    message = str(caught.value)
    assert "STUDY.toml" in message
    for part in said:
        assert part in message
    assert Columns.batches == 0


def test_a_picture_that_the_brain_saw_and_the_network_did_not_is_told_first(study, tmp_path):
    (tmp_path / "photos" / "p4.png").unlink()
    with pytest.raises(LabelError, match=r"STUDY\.toml.*p4"):
        load_inputs(load_study(study()))
    assert Columns.batches == 0


def test_a_picture_that_cannot_be_read_is_named(study, tmp_path):
    (tmp_path / "photos" / "p4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"\[networks.mine\].*p4\.png"):
        load_inputs(load_study(study()))


def test_a_sensitivity_analysis_draws_from_more_units_than_are_analysed(study, photos, tmp_path):
    file = study(('units = "all"', "units = 8"))
    table = "\n[sensitivity]\nunit_draws = 2\npool_units = 16\nn_units = []\nn_bootstrap = 20\n"
    file.write_text(file.read_text(encoding="utf-8") + table, encoding="utf-8")
    found = pipeline.sensitivity_of(file, tmp_path / "out")
    rows = rc.tables(found)["specifications"]
    drawn = rows[rows["changed"] == "units"]
    assert drawn["units_draw"].tolist() == [1, 2]
    sizes = {}
    for kept in (tmp_path / "out" / "activations").glob("mine-*.nc"):
        layer = rc.load_activations(kept)["mine/columns"].to_dataset()
        sizes[layer.sizes["neuroid"]] = layer
    assert sorted(sizes) == [8, 16]
    stack = np.stack([photos[label] for label in IDS]).astype(np.float32)
    values = stack.mean(axis=1).reshape(N, -1)
    pool = sizes[16].sel(stimulus_id=IDS)
    np.testing.assert_allclose(pool["activation"], values[:, pool["neuroid"].values], rtol=1e-6)
    mine = values[:, pool["neuroid"].values[chosen(3, ("units", "mine/columns"), 16, 8, 2)]]
    other = known()["known/l0"]["activation"].values[:, chosen(3, ("units", "known/l0"), 7, 3, 2)]
    brain = {name: node["rdm"].values[0] for name, node in lab().children.items()}
    score = {
        name: np.mean([spearmanr(pdist(x, "correlation"), rdm).statistic for rdm in brain.values()])
        for name, x in (("mine", mine), ("known", other))
    }
    assert drawn["difference"].iloc[1] == pytest.approx(score["mine"] - score["known"], abs=1e-6)
    few = file.read_text(encoding="utf-8").replace("pool_units = 16", "pool_units = 8")
    file.write_text(few, encoding="utf-8")
    with pytest.raises(ProtocolError, match="pool_units = 8 is no more than the 8 units that are"):
        pipeline.sensitivity_of(file, tmp_path / "other")
