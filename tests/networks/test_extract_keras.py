"""Extraction with Keras itself: equal to predicting a sub-model, files and names as networks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import rsacompare as rc
from rsacompare import plugins
from rsacompare.cli import app
from rsacompare.errors import ProtocolError
from rsacompare.networks.keras_network import KerasNetwork
from rsacompare.networks.preprocess import Preprocessing

keras = pytest.importorskip("keras", reason="TensorFlow is not installed")

N = 10


# Keras 3.15 turns its variables into arrays the way that numpy 2 warns of, when it saves a model
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(4)
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.MaxPooling2D(name="pool")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="dense")(x), name="small")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(1)
    return {f"s{i}": rng.integers(0, 256, (12, 12, 3)).astype(np.uint8) for i in range(N)}


@pytest.fixture
def folder(pictures, tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    for name, picture in pictures.items():
        Image.fromarray(picture).save(place / f"{name}.png")
    return place


LAYERS = ["conv", "relu", "pool", "dense"]
RAW = Preprocessing((12, 12), "raw")


def predicted(model, pictures, layer):
    part = keras.Model(model.input, model.get_layer(layer).output)
    images = np.array(list(pictures.values()), dtype=np.float32)
    return part.predict(images, verbose=0).reshape(N, -1)


@pytest.mark.parametrize("batch_size", [3, 32])
def test_values_are_those_of_a_sub_model(batch_size, model, pictures):
    tree = rc.extract(
        model, pictures, LAYERS, "all", preprocessing=RAW, batch_size=batch_size, name="mine"
    )
    for layer in LAYERS:
        ours = tree["mine"][layer]["activation"].values
        expected = predicted(model, pictures, layer)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-4)
        assert ours.std() > 1
    sampled = rc.extract(model, pictures, "conv", 50, 2, preprocessing=RAW, batch_size=batch_size)
    units = sampled["small/conv"]["neuroid"].values
    np.testing.assert_array_equal(
        sampled["small/conv"]["activation"].values, tree["mine/conv"]["activation"].values[:, units]
    )


def test_a_saved_model_gives_the_same_and_a_changed_weight_is_noticed(model, pictures, tmp_path):
    file, out = tmp_path / "small.keras", tmp_path / "small.nc"
    model.save(file)
    given = {"stimuli": pictures, "layers": "dense", "preprocessing": RAW}
    made = rc.extract(file, **given, out=out)
    direct = rc.extract(model, **given)
    assert np.array_equal(made["small/dense"]["activation"], direct["small/dense"]["activation"])
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    changed = again.get_layer("dense")
    changed.set_weights([w + 1e-3 for w in changed.get_weights()])
    again.save(file)
    with pytest.raises(rc.RsacompareError, match=r"another extraction \(weights differ\)"):
        rc.extract(file, **given, out=out)
    with pytest.raises(ProtocolError, match=r"rc\.extract"):
        rc.load_activations(file)


@pytest.fixture
def registered(model, monkeypatch):
    """A guest's network by name; how often it has been made."""
    made = []

    def small_net(weights: str | None = None) -> KerasNetwork:
        """A small network."""
        made.append(weights)
        attrs = {"weights": "seed 4", "weights_sha256": "4"}
        return KerasNetwork(model, "small_net", RAW, {"default": ["conv", "dense"]}, attrs)

    monkeypatch.setitem(plugins._registered["networks"], "small_net", small_net)
    return made


def test_stored_activations_of_a_network_that_runs(registered, monkeypatch):
    with pytest.raises(ProtocolError, match=r"runs here .*rc\.extract\('small_net', pictures\)"):
        rc.load_activations("small_net")
    assert registered == []  # nothing is made to find that out

    def unsaid(**options):
        return KerasNetwork

    monkeypatch.setitem(plugins._registered["networks"], "unsaid", unsaid)
    with pytest.raises(ProtocolError, match="'unsaid' runs here"):
        rc.load_activations("unsaid")
    assert list(rc.load_activations("phantom").children) == ["sim-alexnet", "sim-resnet50"]


@pytest.fixture
def registered_model(model, monkeypatch):
    """A guest's function that returns a model of Keras, which says nothing of pictures."""

    def bare_net(weights: str | None = None) -> keras.Model:
        """A model alone."""
        return model

    monkeypatch.setitem(plugins._registered["networks"], "bare_net", bare_net)


def test_a_registered_model_takes_the_preprocessing_given(registered_model, model, pictures):
    given = {"stimuli": pictures, "layers": "dense", "units": "all"}
    with pytest.raises(ProtocolError, match="bare_net does not say how it takes pictures"):
        rc.extract("bare_net", **given)
    expected = predicted(model, pictures, "dense")
    for shown in (RAW, "keras-raw", {"size": 12, "scaling": "raw"}):
        tree = rc.extract("bare_net", **given, preprocessing=shown)
        ours = tree["bare_net/dense"]["activation"].values
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-4)
    tree = rc.extract("bare_net", **given, preprocessing=RAW, name="mine", weights="random")
    assert tree.children.keys() == {"mine"}


# -- the command line ----------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch, tmp_path, registered):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["extract", *map(str, arguments)])


def test_the_command_writes_what_python_gives(call, folder, model, tmp_path):
    run = call("small_net", folder, "--units", "40", "--seed", "3", "--batch", "4")
    assert run.exit_code == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["layer", "op", "shape", "units", "constant"]
    assert lines[1].split() == ["conv", "conv", "12", "x", "12", "x", "6", "40", "0"]
    assert lines[2].split() == ["dense", "dense", "5", "5", "0"]
    assert "40 of 864 units at random (seed 3)" in lines
    assert "all 5 units (40 were asked for)" in lines
    assert lines[-1].endswith(f"activations: {tmp_path / 'small_net.nc'}")
    assert "images/s" in lines[-1]
    assert f"small_net: pictures ({N})" in run.stderr
    tree = rc.load_activations(tmp_path / "small_net.nc")
    assert tree.identical(rc.extract("small_net", folder, "default", 40, 3, batch_size=4))


def test_a_registered_model_on_the_command_line(call, folder, registered_model, tmp_path):
    done = call("bare_net", folder, "-l", "dense", "--preprocess", "keras-raw")
    assert done.exit_code == 0, done.output
    assert "dense" in done.output
    assert (tmp_path / "bare_net.nc").is_file()
    done = CliRunner().invoke(app, ["list", "layers", "bare_net"])
    assert done.exit_code == 0, done.output
    assert "bare_net: 6 layers" in done.output


def test_options_of_the_command(call, folder, registered, tmp_path):
    (tmp_path / "train.txt").write_text("s1\ns2\ns5\ns7\n")
    run = call(
        "small_net", folder / "s[0-7].png", folder / "s8.png", "-l", "conv,dense:linear",
        "-u", "pca:2", "--fit-on", "train.txt", "-w", "mine.npz", "--preprocess", "scaling=tf",
        "--name", "renamed", "-o", "sub/a.nc", "-q",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert run.stdout == "sub/a.nc\n"
    assert run.stderr == ""
    assert registered == ["mine.npz"]
    tree = rc.load_activations("sub/a.nc")
    assert tree["renamed/conv"].sizes == {"stimulus_id": 9, "neuroid": 2}
    assert "over 4 pictures" in tree["renamed/conv"].attrs["units"]
    assert '"scaling": "tf"' in tree["renamed/conv"].attrs["preprocessing"]
    same = rc.extract(
        "small_net", folder, ["conv", "dense:linear"], "pca:2",
        preprocessing={"scaling": "tf"}, fit_on=["s1", "s2", "s5", "s7"], batch_size=32,
    )  # fmt: skip
    np.testing.assert_array_equal(
        same["small_net/conv"]["activation"][:9], tree["renamed/conv"]["activation"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["small_ne", "pictures"], "did you mean 'small_net'?"),
        (["small_net", "picture"], "did you mean 'pictures'?"),
        (["small_net", "pictures", "nowhere.png"], "nowhere.png"),
        (["small_net", "pictures", "-l", "con"], "did you mean 'conv'"),
        (["small_net", "pictures", "-u", "0"], "units '0': a whole number from 1"),
        (["small_net", "pictures", "--preprocess", "keras-tof"], "did you mean 'keras-tf'?"),
        (["small_net", "pictures", "--fit-on", "none.txt"], "none.txt cannot be read"),
        (["small_net", "pictures", "--option", "wait=3"], "unknown option of network small_net"),
        (["small_net", "pictures", "-o", "pictures"], "pictures is a folder"),
        (["phantom", "pictures"], "known activations and cannot run"),
    ],
)
def test_every_mistake_is_one_line(arguments, said, call, folder):
    run = call(*arguments)
    assert run.exit_code == 1, run.stderr
    assert run.stdout == ""
    (line,) = run.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert sorted(p.name for p in folder.parent.iterdir()) == ["pictures"]


def test_a_file_is_replaced_only_by_force(call, folder):
    assert call("small_net", folder).exit_code == 0
    again = call("small_net", folder)
    assert again.exit_code == 0
    assert "small_net.nc holds this extraction already" in again.stderr
    other = call("small_net", folder, "--seed", "5")
    assert other.exit_code == 1
    assert "holds another extraction (seed differ" in other.stderr
    assert call("small_net", folder, "--seed", "5", "--force").exit_code == 0
    assert rc.load_activations("small_net.nc")["small_net/conv"].attrs["random_state"] == 5


def test_a_stopped_command_says_where_its_work_is_kept(call, folder, monkeypatch):
    from rsacompare.networks import extract

    first = []

    def stop(_values, _network, _spec, ids):
        first[:] = first or ids
        if ids != first:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(extract, "_require_finite", stop)
        run = call("small_net", folder, "--batch", "2")
    assert run.exit_code == 130
    said = "stopped; finished batches are kept in .small_net.nc.partial, run again to go on"
    assert run.stderr.strip().splitlines()[-1] == said
    assert call("small_net", folder, "--batch", "2").exit_code == 0
