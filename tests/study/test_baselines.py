"""Noise-only and untrained baselines: by themselves, in a study, and on its pages."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rsacompare as rc
from rsacompare import pipeline, plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.networks.baselines import noise_baseline
from rsacompare.networks.network import Layer, Network
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.reporting import networks as in_words
from rsacompare.reporting import style
from rsacompare.reporting.reading import Reading
from rsacompare.schema import store, trees
from rsacompare.study.check_sources import from_study
from rsacompare.study.protocol import load_study

N, TRAIN = 40, 120
IDS = [f"p{i:03d}" for i in range(TRAIN + N)]


def scene(seed=0, n=TRAIN + N):
    """Two networks and two brains that share latent features."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 6))

    def mixed(columns, noise):
        mixture = rng.standard_normal((6, columns))
        return latent @ mixture + noise * rng.standard_normal((n, columns))

    layers = {net: {f"l{i}": mixed(60, 1.0) for i in range(2)} for net in ("one", "two")}
    voxels = {f"s{i}": mixed(80, 2.0) for i in range(3)}
    split = np.repeat(["train", "test"], [TRAIN, N])
    activations = rc.activations(layers, stimulus_id=IDS[:n])
    return activations, rc.responses(voxels, stimulus_id=IDS[:n], split=split)


def test_noise_has_the_shape_of_its_network_and_a_stream_per_layer():
    activations, _ = scene()
    noise = noise_baseline(activations, random_state=3)
    assert list(noise.children) == ["one-noise", "two-noise"]
    cells = []
    for network, layer, data in trees.iter_layers(noise):
        origin = activations[network.removesuffix("-noise")][layer]
        assert data["activation"].shape == origin["activation"].shape
        assert data["stimulus_id"].values.tolist() == origin["stimulus_id"].values.tolist()
        for key in ("layer_index", "depth"):
            assert data.attrs[key] == origin.attrs[key]
        assert (data.attrs["baseline"], data.attrs["baseline_of"]) == (
            "noise", network.removesuffix("-noise"),
        )  # fmt: skip
        cells.append(data["activation"].values.ravel())
    values = np.array(cells)
    assert values.mean(axis=1) == pytest.approx(np.zeros(4), abs=0.04)
    assert values.std(axis=1) == pytest.approx(np.ones(4), abs=0.03)
    assert np.abs(np.corrcoef(values) - np.eye(4)).max() < 0.05
    again = noise_baseline(activations, random_state=3, networks=["two"])
    assert list(again.children) == ["two-noise"]
    np.testing.assert_array_equal(
        again["two-noise/l1"]["activation"], noise["two-noise/l1"]["activation"]
    )
    other = noise_baseline(activations, random_state=4)["one-noise/l0"]["activation"]
    assert not np.array_equal(other, noise["one-noise/l0"]["activation"])


def test_networks_known_by_rdms_have_no_noise_and_it_is_said():
    activations, brain = scene()
    square = np.ones((N, N)) - np.eye(N)
    known = rc.rdms({"three": {"l0": square}}, of="network", stimulus_id=IDS[-N:])
    with pytest.raises(DataError, match="three, known by layer RDMs alone"):
        noise_baseline(known)
    with pytest.raises(DataError, match=r"three.*numbers of units"):
        noise_baseline(trees.merge_networks([activations, known]), networks=["three"])
    with pytest.raises(ProtocolError, match="did you mean 'one'"):
        noise_baseline(activations, networks=["ones"])
    both = noise_baseline(trees.merge_networks([activations, known]))
    assert list(both.children) == ["one-noise", "two-noise"]
    merged = trees.merge_networks([activations, both])
    comparison = rc.compare(merged, brain, ["rsa"])
    sentence = "noise baseline: not for three, known by layer RDMs alone"
    assert sentence in json.loads(comparison.scores.attrs["not_applicable"])
    with pytest.raises(DataError, match="all are baselines already"):
        noise_baseline(both)


def test_noise_scores_nothing_except_by_plain_cka():
    """Which is what it is for: a metric may give a number to anything of that shape."""
    activations, brain = scene()
    tree = trees.merge_networks([activations, noise_baseline(activations)])
    metrics = {
        "decoding": "decoding", "encoding": "encoding", "rsa": "rsa",
        "plain": rc.metric("cka", debiased=False), "debiased": "cka",
    }  # fmt: skip
    scores = rc.compare(tree, brain, metrics).scores["score"]
    noise = scores.sel(layer=["one-noise/l0", "one-noise/l1", "two-noise/l0", "two-noise/l1"])
    real = scores.sel(layer=["one/l0", "one/l1", "two/l0", "two/l1"])
    for metric in ("decoding", "encoding", "rsa", "debiased"):
        assert abs(noise.sel(metric=metric).mean().item()) < 0.06
        assert real.sel(metric=metric).mean().item() > 0.25
    assert noise.sel(metric="plain").min().item() > 0.25


def test_networks_are_paired_with_their_own_baselines_and_these_not_with_each_other():
    activations, brain = scene()
    tree = trees.merge_networks([noise_baseline(activations), activations])
    comparison = rc.compare(tree, brain, ["rsa"])
    result = rc.infer(comparison, n_bootstrap=50, n_permutations=50)
    pairs = [["one", "two"], ["one", "one-noise"], ["two", "two-noise"]]
    assert json.loads(result.attrs["contrast"]) == pairs
    asked = rc.infer(comparison, ("one-noise", "two-noise"), n_bootstrap=50, n_permutations=50)
    assert json.loads(asked.attrs["contrast"]) == [["one-noise", "two-noise"]]
    reading = Reading(result)
    assert reading.pairs[0] == ("one", "two")
    assert style.colour(reading.networks, "one") == style.OKABE_ITO[0]
    assert style.colour(reading.networks, "two") == style.OKABE_ITO[1]
    assert style.colour(reading.networks, "two-noise") == style.GREYS[1]
    assert style.dashes(reading.networks, "one-noise") != style.dashes(reading.networks, "one")
    told = {row["name"]: row["told"] for row in in_words.rows(reading)}
    assert told["one-noise"]["baseline"].startswith("noise in place of every layer of one")
    assert "baseline" not in told["one"]


# ---- in a study file ---------------------------------------------------------------------------

STUDY = """
name = "tiny"
random_state = 3

[brain.lab]
source = "brain.nc"

[networks.lab]
source = "networks.nc"

[metrics.rsa]

[inference]
n_bootstrap = 20
n_permutations = 20

"""


@pytest.fixture
def study(tmp_path):
    activations, brain = scene()
    store.write_netcdf(activations, tmp_path / "networks.nc")
    store.write_netcdf(brain, tmp_path / "brain.nc")

    def write(more):
        file = tmp_path / "STUDY.toml"
        file.write_text(STUDY + more, encoding="utf-8")
        return file

    return write


def test_a_study_with_noise(study, tmp_path):
    file = study("[baselines]\nnoise = true\n")
    result = pipeline.run(file, tmp_path / "out")
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    mean = scores.groupby("network")["score"].mean()
    assert set(mean.index) == {"one", "two", "one-noise", "two-noise"}
    assert mean["one"] > 0.25 > 0.1 > abs(mean["one-noise"])
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "noise in place of every layer of one" in html
    answer = html[html.index("What won where") :]
    assert "between one and two" in answer[: answer.index("one-noise")]
    pd.testing.assert_frame_equal(
        rc.tables(rc.load_result(tmp_path / "out"))["scores"], rc.tables(result)["scores"]
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("noise = ['ones']", r"\[baselines\] noise: .*did you mean 'one'"),
        ("noise = 3", r"\[baselines\] noise: true, false or a list of networks"),
        ("nois = true", r"\[baselines\]: .*did you mean 'noise'"),
        ("untrained = true", r"\[baselines\] untrained: \[networks.lab\] is known by its acti.*"
         "take untrained out"),
        ("untrained = ['la']", r"\[baselines\] untrained: .*did you mean 'lab'"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_before_anything_runs(study, table, message):
    with pytest.raises((ProtocolError, DataError), match=message):
        pipeline.run(study(f"[baselines]\n{table}\n"))


def test_a_check_tells_of_baselines_that_cannot_be(study):
    found = from_study(load_study(study("[baselines]\nuntrained = true\n")))
    assert [f.where for f in found.findings if f.level == "error"] == ["[baselines]"]


class Rows(Network):
    """One layer of closed form: the mean of the picture's rows, times its one weight."""

    def __init__(self, weights="trained", random_state=0):
        self.name = "rows"
        self.preprocessing = Preprocessing((6, 8), "raw")
        self.sets = {"default": ("rows",)}
        rng = np.random.default_rng(random_state)
        self.factor = np.ones(6) if weights == "trained" else rng.standard_normal(6)
        told = "trained" if weights == "trained" else "random"
        self.attrs = {"weights": told, "weights_sha256": f"{told}{random_state}"}

    def layers(self):
        return [Layer("rows", "conv", (6, 3), 0, 0, 1.0)]

    def layer(self, spec):
        return self.layers()[0]

    def forward(self, specs):
        return lambda images: {"rows": images.mean(axis=2) * self.factor[:, None]}


def rows(weights="trained", random_state=0):
    """A network that runs, with weights."""
    return Rows(weights, random_state)


def fixed():
    """A network that runs, with weights that cannot be chosen."""
    return Rows()


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(plugins._registered["networks"], "rows", rows)
    monkeypatch.setitem(plugins._registered["networks"], "fixed", fixed)
    rng = np.random.default_rng(7)
    (tmp_path / "photos").mkdir()
    pixels = {label: rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for label in IDS}
    for label, picture in pixels.items():
        Image.fromarray(picture).save(tmp_path / "photos" / f"{label}.png")
    return pixels


RUNS = '[networks.mine]\nsource = "rows"\nstimuli = "photos"\nunits = "all"\n'


def test_a_study_with_an_untrained_network(study, pictures):
    file = study(f'{RUNS}\n[baselines]\nuntrained = ["mine"]\nnoise = ["mine"]\n')
    result = pipeline.run(file)
    told = {n["name"]: n for n in json.loads(result.attrs["networks"])}
    assert list(told) == ["one", "two", "mine", "mine-untrained", "mine-noise"]
    assert told["mine-untrained"]["baseline"] == "untrained"
    assert told["mine-untrained"]["baseline_of"] == "mine"
    assert told["mine-untrained"]["weights"] == "random"
    assert "baseline" not in told["mine"]
    pairs = [tuple(p) for p in json.loads(result.attrs["contrast"])]
    assert pairs == [("one", "two"), ("one", "mine"), ("two", "mine"), ("mine", "mine-untrained"),
                     ("mine", "mine-noise")]  # fmt: skip
    assert in_words.untrained(Reading(result)) == []


def test_an_untrained_network_sees_the_same_pictures_with_weights_of_the_studys_seed(
    study, pictures
):
    from rsacompare.study.inputs import load_inputs

    file = study(f'{RUNS}\n[baselines]\nuntrained = ["mine"]\n')
    _, networks = load_inputs(load_study(file))
    found = networks["mine-untrained (baseline)"]["mine-untrained/rows"]["activation"]
    factor = np.random.default_rng(3).standard_normal(6)
    images = np.stack([pictures[i] for i in found["stimulus_id"].values]).astype(float)
    expected = (images.mean(axis=2) * factor[:, None]).reshape(len(images), -1)
    np.testing.assert_allclose(found.values, expected[:, found["neuroid"].values], rtol=1e-5)


def test_untrained_needs_a_network_that_takes_weights(study, pictures):
    more = RUNS.replace("mine", "other").replace('"rows"', '"fixed"')
    file = study(f"{RUNS}\n{more}\n[baselines]\nuntrained = ['other']\n")
    with pytest.raises(ProtocolError, match=r"runs fixed, which takes no .*untrained = \[\"mine\""):
        pipeline.run(file)
