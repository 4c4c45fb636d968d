"""Layer specs on small Keras models: what each op reads, and what is refused with a sentence."""

import subprocess
import sys

import numpy as np
import pytest

from rsacompare import plugins
from rsacompare.errors import DataError, FetchError, ProtocolError
from rsacompare.networks import engine, keras_models, zoo
from rsacompare.networks.keras_network import KerasNetwork
from rsacompare.networks.preprocess import Preprocessing

keras = pytest.importorskip("keras", reason="networks need TensorFlow") and engine.keras()
SHOWN = Preprocessing((8, 8), "raw")
pytestmark = [  # TensorFlow's and Keras' own
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def _numpy_initialisers():
    keras.utils.set_random_seed(1)


def residual():
    """One block with identity shortcut, one with a projection, then a linear head and softmax."""
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="picture")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(image)
    y = layers.Conv2D(4, 3, padding="same", name="a1")(x)
    y = layers.BatchNormalization(name="a1_bn")(y)
    y = layers.ReLU(max_value=6.0, name="a1_relu")(y)
    y = layers.Conv2D(4, 1, name="a2")(y)
    y = layers.BatchNormalization(name="a2_bn")(y)
    x = layers.Add(name="a_add")([x, y])
    x = layers.Activation("relu", name="a_out")(x)
    shortcut = layers.Conv2D(5, 1, name="b0")(x)
    shortcut = layers.BatchNormalization(name="b0_bn")(shortcut)
    y = layers.Conv2D(5, 1, activation="swish", name="b1")(x)
    x = layers.Add(name="b_add")([shortcut, y])
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.Dense(6, name="fc")(x)
    return keras.Model(image, layers.Softmax(name="prob")(x), name="residual")


@pytest.fixture(scope="module")
def net():
    model = residual()
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if layer.name.endswith("_bn"):  # away from 0 and 1, so that a norm does something
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return KerasNetwork(model, "residual", SHOWN)


@pytest.fixture(scope="module")
def read(net):
    specs = [
        "stem", "stem:linear", "stem:relu", "stem:abs", "a1", "a1:norm", "a1:relu", "a1:block",
        "a2:block", "a_add:relu", "a_add:block", "a_out:block", "b0:norm", "b1", "b1:linear",
        "b0:block", "fc", "fc:logits", "fc:softmax", "prob:logits", "prob", "a1_bn", "a1_relu",
        "a_out", "a_add", "b_add", "b0_bn", "average", "dropout", "a1:abs",
    ]  # fmt: skip
    return net.forward(specs)(IMAGES)


@pytest.mark.parametrize(
    ("spec", "same_as"),
    [
        ("stem:relu", "stem"),
        ("a1:norm", "a1_bn"),
        ("a1:relu", "a1_relu"),
        ("a1:block", "a_out"),
        ("a2:block", "a_out"),
        ("a_add:relu", "a_out"),
        ("a_add:block", "a_out"),
        ("a_out:block", "a_out"),
        ("b0:norm", "b0_bn"),
        ("b0:block", "b_add"),
        ("fc:logits", "fc"),
        ("prob:logits", "fc"),
        ("fc:softmax", "prob"),
        ("dropout", "average"),  # inference mode
    ],
)
def test_an_op_reads_the_place_that_follows(read, spec, same_as):
    np.testing.assert_array_equal(read[spec], read[same_as])


def test_fused_activations_are_taken_apart_by_arithmetic(net, read):
    np.testing.assert_array_equal(read["stem"], np.maximum(read["stem:linear"], 0))
    assert (read["stem:linear"] < 0).mean() > 0.2
    np.testing.assert_array_equal(read["stem:abs"], np.abs(read["stem:linear"]))
    np.testing.assert_array_equal(read["a1:abs"], np.abs(read["a1"]))
    linear = read["b1:linear"].astype(float)
    np.testing.assert_allclose(read["b1"], linear / (1 + np.exp(-linear)), atol=1e-6)
    kernel, bias = net.model.get_layer("b1").get_weights()
    np.testing.assert_allclose(linear, read["a_out"] @ kernel[0, 0] + bias, atol=1e-5)


def test_reading_before_an_activation_leaves_the_model_as_it_was(net, read):
    assert net.model.get_layer("stem").activation is keras.activations.relu
    assert len(net.model.get_layer("stem")._inbound_nodes) == 1
    np.testing.assert_allclose(net.model(IMAGES, training=False), read["prob"], atol=1e-6)


def test_softmax_and_norm_by_hand(net, read):
    logits = read["prob:logits"].astype(float)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(read["prob"], shifted / shifted.sum(axis=1, keepdims=True), 1e-5)
    gamma, beta, mean, variance = net.model.get_layer("a1_bn").get_weights()
    by_hand = (read["a1"] - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(read["a1:norm"], by_hand, atol=1e-5)
    np.testing.assert_allclose(read["a1:relu"], np.clip(by_hand, 0, 6), atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("b0:relu", "b0 (conv) comes first, then b0_bn (norm); next comes b_add (add)"),
        ("a2:relu", "then a2_bn (norm); next comes a_add (add)"),
        ("stem:norm", "stem (conv+relu) has its relu inside"),
        ("b1:relu", "b1 (conv+silu) has silu inside"),
        ("stem:block", "not inside a residual block"),
        ("average:block", "not inside a residual block"),
        ("a1_bn:linear", "a1_bn (norm) has no linear part"),
        ("a1:softmax", "a1 (conv) comes first; next comes a1_bn (norm)"),
        ("average:norm", "next comes fc (dense)"),
        ("prob:relu", "nothing comes after it"),
        ("a1:nrom", "did you mean 'norm'?"),
        ("a1:", "ends with a colon"),
        ("a11", "did you mean 'a1'?"),
        (":relu", "unknown layer of residual ':relu'"),
        (3, "a layer is a string, got 3"),
    ],
)
def test_what_does_not_follow_is_refused_with_what_does(net, spec, said):
    with pytest.raises(ProtocolError) as refused:
        net.layer(spec)
    assert said in str(refused.value)


def test_the_table_counts_by_hand(net):
    held = {layer.name: layer for layer in net.layers()}
    assert list(held)[:3] == ["picture", "stem", "a1"]
    assert held["stem"].op == "conv+relu"
    assert held["stem"].n_parameters == 3 * 3 * 3 * 4 + 4
    assert held["a1_bn"].n_parameters == 16
    assert held["b_add"].shape == (8, 8, 5)
    assert held["b_add"].n_units == 320
    # longest way: stem, a1, a2, then b0 or b1, fc
    weighted = {"stem": 1, "a1": 2, "a2": 3, "a_out": 3, "b0": 4, "b1": 4, "fc": 5, "prob": 5}
    for name, n in weighted.items():
        assert held[name].depth == pytest.approx(n / 5)
    assert held["picture"].depth == 0
    assert [held[n].index for n in ("picture", "stem")] == [0, 1]
    assert net.layer("a1:relu").index == held["a1_relu"].index
    assert net.layer("fc:logits").op == "logits"


def test_a_set_that_names_no_layer_is_refused_when_the_network_is_made():
    with pytest.raises(ProtocolError, match="did you mean 'stem'"):
        KerasNetwork(residual(), "x", SHOWN, sets={"mine": ["stemm"]})


def test_sequential_and_nested_models_are_opened_and_named():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.BatchNormalization(name="bn"),
        ],
        name="inner",
    )
    outer = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Rescaling(0.5, name="half"),
            inner,
            keras.layers.ReLU(name="relu"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(2, activation="softmax", name="out"),
        ]
    )
    net = KerasNetwork(outer, "outer", SHOWN)
    names = [layer.name for layer in net.layers()]
    assert names[1:] == ["half", "inner.conv", "inner.bn", "relu", "flat", "out"]
    read = net.forward(["half", "inner.conv", "inner", "inner.conv:relu", "relu", "out"])(IMAGES)
    np.testing.assert_allclose(read["half"], IMAGES / 2)
    np.testing.assert_allclose(read["inner.conv"], inner.get_layer("conv")(IMAGES / 2), atol=1e-6)
    np.testing.assert_allclose(read["inner"], inner(IMAGES / 2, training=False), atol=1e-6)
    np.testing.assert_array_equal(read["inner.conv:relu"], read["relu"])
    np.testing.assert_allclose(read["out"], outer(IMAGES, training=False), atol=1e-6)
    assert net.layer("inner.conv").depth == 0.5


def test_a_shared_layer_is_read_at_one_of_its_calls():
    image = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", name="conv")
    model = keras.Model(image, conv(conv(image)), name="twice")
    net = KerasNetwork(model, "twice", SHOWN)
    with pytest.raises(ProtocolError, match="used 2 times; say which: conv@1, conv@2"):
        net.layer("conv")
    read = net.forward(["conv@1", "conv@2"])(IMAGES)
    np.testing.assert_allclose(read["conv@1"], conv(IMAGES), atol=1e-6)
    np.testing.assert_allclose(read["conv@2"], conv(conv(IMAGES)), atol=1e-6)
    assert [net.layer(f"conv@{k}").depth for k in (1, 2)] == [0.5, 1.0]


def test_a_model_used_twice_inside_another_gives_each_call_its_layers():
    part = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 1, name="conv")], name="p"
    )
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, part(part(image)))
    read = KerasNetwork(model, "m", SHOWN).forward(["p@1.conv", "p@2.conv"])(IMAGES)
    np.testing.assert_allclose(read["p@2.conv"], model(IMAGES), atol=1e-6)
    assert np.abs(read["p@1.conv"] - read["p@2.conv"]).max() > 1e-3


def test_a_model_for_any_size_takes_that_of_its_preprocessing():
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(2, 3, strides=2, name="conv"),
            keras.layers.GlobalAveragePooling2D(name="mean"),
        ]
    )
    assert KerasNetwork(model, "m", SHOWN).layer("conv").shape == (3, 3, 2)
    net = KerasNetwork(model, "m", Preprocessing((9, 11), "raw"))
    assert net.layer("conv").shape == (4, 5, 2)
    assert net.forward(["conv", "mean"])(np.zeros((1, 9, 11, 3)))["conv"].shape == (1, 4, 5, 2)
    with pytest.raises(ProtocolError, match=r"takes images \(9, 11, 3\), got an array of shape"):
        net.forward(["conv"])(IMAGES)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, images):
        return self.dense(images)


def _two_inputs():
    a, b = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    return keras.Model([a, b], keras.layers.Add()([a, b]))


def _one_channel():
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])


def _vector():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])


def _unbuilt():
    return keras.Sequential([keras.layers.Conv2D(2, 3)])


def _sixteen():
    return keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 3)])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Own, r"is a subclassed model: Keras keeps no graph of it.* functional API"),
        (_two_inputs, r"has 2 inputs \(left, right\), but a picture is one"),
        (_one_channel, r"takes pictures of 1 channel"),
        (_vector, r"takes inputs of shape \(8,\), expected pictures"),
        (_unbuilt, r"is not built.* begin it with keras.Input"),
        (_sixteen, r"takes pictures of 16 x 16, but its preprocessing makes them 8 x 8"),
        (dict, r"expected a keras.Model, got dict"),
    ],
)
def test_models_that_cannot_be_read_are_refused_with_a_way_out(make, said):
    with pytest.raises(ProtocolError, match=said):
        KerasNetwork(make(), "mine", SHOWN)


def test_norms_and_dropout_do_not_train_even_where_the_graph_says_so():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dropout(0.9, name="drop")(image, training=True)
    model = keras.Model(image, keras.layers.Flatten()(x))
    read = KerasNetwork(model, "m", SHOWN).forward(["drop"])(IMAGES)
    np.testing.assert_array_equal(read["drop"], IMAGES)


def test_operations_without_a_layer_are_places_too():
    image = keras.Input((8, 8, 3))
    x = keras.ops.relu(keras.layers.Conv2D(4, 3, name="conv")(image))
    x = keras.layers.Flatten(name="flat")(x * 2.0 + 1.0)
    model = keras.Model(image, x)
    net = KerasNetwork(model, "m", SHOWN)
    read = net.forward(["conv:relu", "conv", "flat"])(IMAGES)
    np.testing.assert_array_equal(read["conv:relu"], np.maximum(read["conv"], 0))
    flat = 2 * read["conv:relu"].reshape(3, -1) + 1
    np.testing.assert_allclose(read["flat"], flat, rtol=1e-6)


def test_knowing_the_zoo_loads_no_tensorflow():
    code = (
        "import sys; from rsacompare import plugins; from rsacompare.networks import listing, zoo;"
        "said = plugins.described('networks');"
        "print([m for m in ('tensorflow', 'keras', 'ai_edge_litert', 'onnx') if m in sys.modules]);"
        "print(*said, sep=chr(10))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, *said = run.stdout.splitlines()
    assert loaded == "[]"
    held = dict(line.split(maxsplit=1) for line in said)
    assert held["vgg16"] == "VGG16 of keras.applications: 224 pixels, 138.4 M weights; top-1 71.3%."
    assert held["resnet50"].startswith("ResNet-50 of keras.applications")
    assert "top-1" not in held["efficientnet_b0"]


def test_downloads_talk_to_stderr(monkeypatch, capsys):
    monkeypatch.setattr(keras.applications, "VGG16", lambda **_: print("Downloading") or residual())
    keras_models.build("vgg16", "imagenet", 0)
    assert capsys.readouterr() == ("", "Downloading\n")


# --- one door: rsacompare.networks.zoo.network -------------------------------------------------


def test_a_guests_model_must_say_how_it_takes_pictures():
    with pytest.raises(ProtocolError, match=r"a guess would be wrong in silence.*keras-tf"):
        zoo.network(residual())
    net = zoo.network(residual(), preprocessing="keras-tf", name="mine", sets={"two": ["a1", "fc"]})
    assert net.name == "mine"
    assert net.preprocessing.size == (8, 8)
    assert net.preprocessing.scaling == "tf"
    assert net.choose("two") == ["a1", "fc"]
    assert len(net.attrs["weights_sha256"]) == 64
    assert zoo.network(net) is net
    with pytest.raises(ProtocolError, match="is a network already and takes no preprocessing"):
        zoo.network(net, preprocessing="keras-tf")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_saved_model_gives_what_the_model_gave(tmp_path, suffix):
    model = residual()
    file = tmp_path / f"mine.{suffix}"
    model.save(file)
    net = zoo.network(file, preprocessing=SHOWN)
    assert net.name == "mine"
    np.testing.assert_allclose(
        net.forward(["prob"])(IMAGES)["prob"], model(IMAGES, training=False), atol=1e-6
    )


@keras.saving.register_keras_serializable(package="tests_only")
class Doubling(keras.layers.Layer):
    def call(self, images):
        return 2 * images


def _saved(folder, layer):
    file = folder / "custom.keras"
    keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Flatten(name="flat")]).save(file)
    return file


def test_a_file_with_a_custom_layer_says_what_to_pass(tmp_path):
    file = _saved(tmp_path, Doubling(name="double"))
    custom = keras.saving.get_custom_objects()
    held = custom.pop("tests_only>Doubling")
    try:
        with pytest.raises(DataError, match=r"custom\.keras.*custom_objects="):
            zoo.network(file, preprocessing=SHOWN)
        net = zoo.network(file, preprocessing=SHOWN, custom_objects={"tests_only>Doubling": held})
    finally:
        custom["tests_only>Doubling"] = held
    read = net.forward(["flat"])(IMAGES)["flat"]
    np.testing.assert_allclose(read, 2 * IMAGES.reshape(3, -1))


def test_code_in_a_file_is_not_run(tmp_path):
    file = _saved(tmp_path, keras.layers.Lambda(lambda images: images, name="code"))
    with pytest.raises(DataError, match=r"custom\.keras: it holds a Lambda layer"):
        zoo.network(file, preprocessing=SHOWN)


def test_files_that_are_no_models_are_named(tmp_path):
    for name, content in (("a.keras", b"PK no zip"), ("b.h5", b"no hdf5"), ("c.keras", b"")):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            zoo.network(file, preprocessing=SHOWN)
    with pytest.raises(DataError, match="there is no such file"):
        zoo.network(tmp_path / "none.keras", preprocessing=SHOWN)
    weights = tmp_path / "only.weights.h5"
    residual().save_weights(weights)
    with pytest.raises(DataError, match=r"only\.weights\.h5"):
        zoo.network(weights, preprocessing=SHOWN)
    whole = tmp_path / "whole.keras"
    residual().save(whole)
    cut = tmp_path / "cut.keras"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.keras"):
        zoo.network(cut, preprocessing=SHOWN)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("resnet51", {}, "unknown network 'resnet51'; did you mean 'resnet50'?"),
        ("vgg16", {"weigths": None}, "unknown option of network vgg16 'weigths'; did you mean"),
        ("resnet50", {"sets": {"a": ["b"]}, "weights": None}, "resnet50 takes no sets"),
        ("phantom", {}, "known activations and cannot run"),
        (7, {}, "got int"),
        ("resnet50", {"padding": "same"}, "unknown padding of resnet50 'same'"),
        ("resnet50", {"weights": "imagnet"}, "weights must be 'imagenet', 'random'"),
        ("resnet50", {"weights": None, "random_state": -1}, "random_state must be"),
    ],
)
def test_wrong_sources_and_options(source, options, said):
    with pytest.raises(ProtocolError) as refused:
        zoo.network(source, **options)
    assert said in str(refused.value)


def test_missing_and_damaged_weights_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.h5: there is no such file"):
        zoo.network("mobilenet", weights=tmp_path / "none.h5")
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"broken\.weights\.h5: these are no weights of mobilenet"):
        zoo.network("mobilenet", weights=broken)


def test_trained_weights_that_cannot_be_had(monkeypatch, tmp_path):
    address = "https://storage.googleapis.com/tensorflow/keras-applications/x/weights.h5"

    def builder(**_):
        raise Exception(f"URL fetch failure on {address}: None -- [Errno -2] Name not known")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.applications, "VGG16", builder)
    with pytest.raises(FetchError) as refused:
        keras_models.build("vgg16", "imagenet", 0)
    assert "([Errno -2] Name not known)" in str(refused.value)
    for part in (address, str(tmp_path / "models"), "weights=PATH", "weights='random'"):
        assert part in str(refused.value)


def test_a_guests_function_may_return_a_model(monkeypatch):
    monkeypatch.setitem(plugins._registered["networks"], "guest", lambda: residual())
    net = zoo.network("guest", preprocessing=SHOWN)
    assert net.name == "guest"
    with pytest.raises(ProtocolError, match="network guest does not say how it takes pictures"):
        zoo.network("guest")
    monkeypatch.setitem(plugins._registered["networks"], "odd", lambda: 3)
    with pytest.raises(ProtocolError, match=r"returned int, expected a Network or a keras\.Model"):
        zoo.network("odd")
