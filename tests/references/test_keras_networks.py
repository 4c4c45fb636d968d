"""ResNet-50 and the zoo against FACTS 4.3 and 8, numpy, torch and Keras' own outputs."""

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from typer.testing import CliRunner

from rsacompare import cli
from rsacompare.errors import ProtocolError
from rsacompare.networks import engine, keras_models, zoo
from rsacompare.networks.keras_network import KerasNetwork
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.networks.resnet import resnet50
from rsacompare.networks.weights import save_weights_npz

pytest.importorskip("keras", reason="networks need TensorFlow")
keras = engine.keras()
pytestmark = [  # Keras' own
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]
IMAGES = np.random.default_rng(0).normal(0, 50, size=(2, 224, 224, 3)).astype(np.float32)
FACTS_4_3 = [  # layer, index in Keras 3, number in the paper, shape, parameters
    ("conv1_conv", 2, 1, (112, 112, 64), 9_472),
    ("conv2_block2_3_conv", 25, 7, (56, 56, 256), 16_640),
    ("conv3_block2_2_conv", 54, 15, (28, 28, 128), 147_584),
    ("conv3_block4_3_conv", 77, 22, (28, 28, 512), 66_048),
    ("conv4_block3_1_conv", 103, 29, (14, 14, 256), 262_400),
    ("conv4_block5_2_conv", 126, 36, (14, 14, 256), 590_080),
    ("conv5_block1_3_conv", 150, 43, (7, 7, 2048), 1_050_624),
    ("predictions", 176, 50, (1000,), 2_049_000),
]
# FACTS 8, the Keras columns
FACTS_8 = {
    "mobilenet": (70.4, 4_253_864), "mobilenet_v2": (71.3, 3_538_984),
    "vgg16": (71.3, 138_357_544), "vgg19": (71.3, 143_667_240), "resnet50": (74.9, 25_636_712),
    "resnet101": (76.4, 44_707_176), "resnet152": (76.6, 60_419_944),
    "resnet50_v2": (76.0, 25_613_800), "resnet101_v2": (77.2, 44_675_560),
    "resnet152_v2": (78.0, 60_380_648), "inception_v3": (77.9, 23_851_784),
    "inception_resnet_v2": (80.3, 55_873_736), "xception": (79.0, 22_910_480),
    "densenet121": (75.0, 8_062_504), "densenet169": (76.2, 14_307_880),
    "densenet201": (77.3, 20_242_984), "nasnet_mobile": (74.4, 5_326_716),
    "nasnet_large": (82.5, 88_949_818), "efficientnet_b0": (None, 5_330_571),
    "efficientnet_b4": (None, 19_466_823), "efficientnet_b7": (None, 66_658_687),
}  # fmt: skip


def _lively_norms(model):
    """Norms away from mean 0 and variance 1, as training leaves them."""
    rng = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            low_high = ((0.2, 0.8), (-0.5, 0.5), (-0.5, 0.5), (0.5, 1.5))  # gamma, beta, mean, var
            weights = zip(layer.get_weights(), low_high, strict=True)
            layer.set_weights([rng.uniform(*ends, w.shape) for w, ends in weights])


@pytest.fixture(scope="module")
def net():
    held = resnet50(None, random_state=3)
    _lively_norms(held.model)
    return held


# --- ResNet-50 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "index", "number", "shape", "n_parameters"), FACTS_4_3)
def test_the_layers_of_the_paper(net, name, index, number, shape, n_parameters):
    layer = net.layer(name)
    assert (layer.index, layer.shape, layer.n_parameters) == (index, shape, n_parameters)
    assert layer.depth == pytest.approx(number / 50)


def test_the_seventh_layer_as_coded_is_the_shortcut(net):
    layer = net.layer("conv5_block1_0_conv")
    assert (layer.index, layer.shape, layer.n_parameters) == (149, (7, 7, 2048), 2_099_200)
    assert layer.depth == pytest.approx(41 / 50)  # one convolution after 40 on the main path
    intended = [name for name, *_ in FACTS_4_3]
    assert net.choose("yu2018-intended") == intended
    coded = [n if n != "conv5_block1_3_conv" else "conv5_block1_0_conv" for n in intended]
    assert net.choose("yu2018") == coded
    assert len(net.choose("blocks")) == 18


def test_177_layers_as_keras_orders_them(net):
    assert [layer.name for layer in net.layers()] == [layer.name for layer in net.model.layers]
    assert len(net.layers()) == 177
    assert sum(layer.n_parameters for layer in net.layers()) == 25_636_712


def test_one_pass_gives_what_keras_gives_layer_by_layer(net):
    specs = [*net.choose("yu2018"), "conv5_block1_3_conv", "conv5_block3_out", "avg_pool"]
    ours = net.forward(specs)(IMAGES)
    theirs = keras.Model(net.model.inputs[0], [net.model.get_layer(s).output for s in specs])
    for spec, value in zip(specs, theirs(IMAGES, training=False), strict=True):
        value = np.asarray(value)
        assert ours[spec].dtype == np.float32
        np.testing.assert_allclose(ours[spec], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())


def test_logits_come_from_the_dense_layers_own_kernel(net):
    read = net.forward(["predictions", "predictions:logits", "predictions:linear", "avg_pool"])
    held = {key: value.astype(float) for key, value in read(IMAGES).items()}
    kernel, bias = net.model.get_layer("predictions").get_weights()
    np.testing.assert_allclose(
        held["predictions:logits"], held["avg_pool"] @ kernel + bias, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(held["predictions:linear"], held["predictions:logits"])
    softmax = scipy.special.softmax(held["predictions:logits"], axis=1)
    np.testing.assert_allclose(held["predictions"], softmax, rtol=1e-4, atol=1e-6)


def test_a_residual_block_against_torch(net):
    torch = pytest.importorskip("torch", reason="the test extra has it")
    specs = ["pool1_pool", "conv2_block1_1_conv", "conv2_block1_1_conv:norm",
             "conv2_block1_1_conv:relu", "conv2_block1_0_conv:norm", "conv2_block1_3_conv:norm",
             "conv2_block1_3_conv:block"]  # fmt: skip
    ours = net.forward(specs)(IMAGES)

    def conv(x, name, padding=0):
        kernel, bias = map(torch.tensor, net.model.get_layer(name).get_weights())
        kernel = kernel.permute(3, 2, 0, 1)
        return torch.nn.functional.conv2d(x, kernel, bias, padding=padding)

    def norm(x, name):
        gamma, beta, mean, var = map(torch.tensor, net.model.get_layer(name).get_weights())
        return torch.nn.functional.batch_norm(x, mean, var, gamma, beta, eps=1.001e-5)

    x = torch.tensor(ours["pool1_pool"]).permute(0, 3, 1, 2)
    held = {}
    held["conv2_block1_1_conv"] = y = conv(x, "conv2_block1_1_conv")
    held["conv2_block1_1_conv:norm"] = y = norm(y, "conv2_block1_1_bn")
    held["conv2_block1_1_conv:relu"] = y = y.relu()
    y = norm(conv(y, "conv2_block1_2_conv", padding=1), "conv2_block1_2_bn").relu()
    held["conv2_block1_3_conv:norm"] = y = norm(conv(y, "conv2_block1_3_conv"), "conv2_block1_3_bn")
    shortcut = norm(conv(x, "conv2_block1_0_conv"), "conv2_block1_0_bn")
    held["conv2_block1_0_conv:norm"] = shortcut
    held["conv2_block1_3_conv:block"] = (shortcut + y).relu()
    for spec, value in held.items():
        value = value.permute(0, 2, 3, 1).numpy()
        worst = np.abs(ours[spec] - value).max() / np.abs(value).max()
        assert worst < 1e-4, spec


def test_what_the_shortcut_has_not(net):
    with pytest.raises(ProtocolError, match=r"conv5_block1_0_bn \(norm\); next comes .*_add"):
        net.layer("conv5_block1_0_conv:relu")
    assert net.layer("conv5_block1_0_conv:block").index == net.layer("conv5_block1_out").index


# --- the variant that Yu et al. ran on ---------------------------------------------------------


@pytest.fixture(scope="module")
def variant(net):
    held = resnet50(None, random_state=3, padding="yu2018")
    held.model.set_weights(net.model.get_weights())
    return held


def test_conv1_of_2018_is_one_pixel_off(net, variant):
    """Against torch with padding 2 before and 3 after, and against a shifted picture."""
    torch = pytest.importorskip("torch", reason="the test extra has it")
    kernel, bias = map(torch.tensor, net.model.get_layer("conv1_conv").get_weights())
    x = torch.tensor(IMAGES).permute(0, 3, 1, 2)
    ours = {}
    for which, (before, after) in ((variant, (2, 3)), (net, (3, 3))):
        padded = torch.nn.functional.pad(x, (before, after, before, after))
        by_torch = torch.nn.functional.conv2d(padded, kernel.permute(3, 2, 0, 1), bias, stride=2)
        ours[which] = which.forward(["conv1_conv"])(IMAGES)["conv1_conv"]
        scale = float(by_torch.abs().max())
        np.testing.assert_allclose(
            ours[which], by_torch.permute(0, 2, 3, 1).numpy(), atol=1e-4 * scale
        )
    assert np.abs(ours[net] - ours[variant]).max() > 0.1 * scale
    shifted = np.zeros_like(IMAGES)
    shifted[:, :-1, :-1] = IMAGES[:, 1:, 1:]
    moved = net.forward(["conv1_conv"])(shifted)["conv1_conv"]
    np.testing.assert_allclose(
        moved[:, 2:-2, 2:-2], ours[variant][:, 2:-2, 2:-2], atol=1e-4 * scale
    )


def test_pool1_of_2018_does_not_pad(variant):
    torch = pytest.importorskip("torch", reason="the test extra has it")
    read = variant.forward(["conv1_relu", "pool1_pool", "conv2_block2_3_conv"])(IMAGES)
    assert variant.layer("conv2_block2_3_conv").shape == (55, 55, 256)
    assert variant.layer("conv3_block2_2_conv").shape == (28, 28, 128)
    assert variant.layer("conv2_block2_3_conv").n_units == 774_400  # FACTS 4.4
    x = torch.tensor(read["conv1_relu"]).permute(0, 3, 1, 2)
    by_torch = torch.nn.functional.max_pool2d(x, 3, 2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(read["pool1_pool"], by_torch)


def test_the_variant_says_what_it_is(net, variant):
    assert variant.attrs["note"] == "variant: padding yu2018"
    assert [x.name for x in variant.layers()] == [x.name for x in net.layers()]
    assert variant.choose("yu2018") == net.choose("yu2018")
    with pytest.raises(ProtocolError) as refused:
        zoo.network(variant.model, like="resnet50")
    assert "conv2_block2_3_conv: expected shape (56, 56, 256), found (55, 55, 256)" in str(
        refused.value
    )


def test_the_epsilon_of_2018(net):
    held = resnet50(None, random_state=3, bn_epsilon=1e-3)
    held.model.set_weights(net.model.get_weights())
    read = held.forward(["conv1_conv", "conv1_conv:norm"])(IMAGES)
    gamma, beta, mean, variance = net.model.get_layer("conv1_bn").get_weights()
    by_hand = (read["conv1_conv"] - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(read["conv1_conv:norm"], by_hand, rtol=1e-4, atol=1e-3)


def test_another_network_under_its_name_is_refused_with_the_differences(net):
    like = zoo.network(net.model, like="resnet50", name="mine")
    assert like.choose("yu2018") == net.choose("yu2018")
    assert like.preprocessing == Preprocessing((224, 224), "caffe", "nearest")
    image = keras.Input((224, 224, 3))
    x = keras.layers.Conv2D(64, 5, strides=2, padding="same", name="conv1_conv")(image)
    other = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x), name="other")
    with pytest.raises(ProtocolError) as refused:
        zoo.network(other, like="resnet50")
    said = str(refused.value)
    assert "conv1_conv: expected 9,472 parameters, found 4,864" in said
    assert "conv1_relu: expected, not found" in said


# --- other architectures -----------------------------------------------------------------------


def test_vgg_before_and_after_its_fused_relu():
    torch = pytest.importorskip("torch", reason="the test extra has it")
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    net = KerasNetwork(model, "vgg", Preprocessing((32, 32)))
    images = IMAGES[:, :32, :32]
    read = net.forward(["block1_conv1", "block1_conv1:linear", "block1_conv1:abs"])(images)
    kernel, bias = map(torch.tensor, model.get_layer("block1_conv1").get_weights())
    x = torch.tensor(images).permute(0, 3, 1, 2)
    y = torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1)
    linear = y.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(read["block1_conv1:linear"], linear, atol=1e-3)
    np.testing.assert_allclose(read["block1_conv1"], np.maximum(linear, 0), atol=1e-3)
    np.testing.assert_allclose(read["block1_conv1:abs"], np.abs(linear), atol=1e-3)
    assert (linear < -1).any()
    assert net.layer("block1_conv1").op == "conv+relu"
    assert net.layer("block1_conv1:linear").op == "conv"
    with pytest.raises(ProtocolError, match="not inside a residual block"):
        net.layer("block3_conv2:block")


def test_mobilenet_v2_has_relu6_and_linear_bottlenecks():
    model = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(96, 96, 3))
    _lively_norms(model)
    net = KerasNetwork(model, "small", Preprocessing((96, 96), "tf"))
    images = IMAGES[:, :96, :96]
    specs = ["Conv1:norm", "Conv1:relu", "block_2_expand:block", "block_2_add"]
    read = net.forward(specs)(images)
    np.testing.assert_allclose(read["Conv1:relu"], np.clip(read["Conv1:norm"], 0, 6), atol=1e-5)
    assert (read["Conv1:norm"] > 6).any()
    np.testing.assert_array_equal(read["block_2_expand:block"], read["block_2_add"])
    with pytest.raises(ProtocolError, match="block_1_project_BN"):
        net.layer("block_1_project:relu")
    with pytest.raises(ProtocolError, match="not inside a residual block"):
        net.layer("block_1_project:block")  # its stride leaves it without a shortcut


def test_resnet_v2_normalises_before_it_convolves():
    model = keras.applications.ResNet50V2(weights=None, include_top=False, input_shape=(64, 64, 3))
    net = KerasNetwork(model, "v2", Preprocessing((64, 64), "tf"))
    places = {layer.name: layer.index for layer in net.layers()}
    same = {
        "conv2_block2_1_conv:block": "conv2_block2_out",
        "conv2_block1_out:norm": "conv2_block2_preact_bn",
        "conv2_block1_out:relu": "conv2_block2_preact_relu",
        "conv2_block2_preact_relu:block": "conv2_block2_out",
        "conv2_block2_1_conv:relu": "conv2_block2_1_relu",
    }
    for spec, name in same.items():
        assert net.layer(spec).index == places[name], spec
    with pytest.raises(ProtocolError, match=r"next comes conv2_block2_out \(add\)"):
        net.layer("conv2_block2_3_conv:relu")


def test_a_way_round_inside_a_block_is_no_residual_block():
    """A squeeze-and-excitation has a way round it, in blocks without a shortcut too."""
    model = keras.applications.EfficientNetB0(weights=None, input_shape=(64, 64, 3))
    net = KerasNetwork(model, "small", Preprocessing((64, 64), "raw"))
    places = {layer.name: layer.index for layer in net.layers()}
    for name in ("block2b_expand_conv", "block2b_se_squeeze", "block2b_se_reduce", "block2b_drop"):
        assert net.layer(f"{name}:block").index == places["block2b_add"]
    for name in ("block1a_se_squeeze", "block2a_se_reduce", "block2a_project_conv", "block2a_bn"):
        with pytest.raises(ProtocolError, match="not inside a residual block"):
            net.layer(f"{name}:block")


# --- the zoo -----------------------------------------------------------------------------------


def test_the_table_is_facts_8():
    table = keras_models.table()
    for name, (top1, n_parameters) in FACTS_8.items():
        assert table[name]["n_parameters"] == n_parameters, name
        assert table[name].get("imagenet_top1") == top1, name
    without = [name for name, row in table.items() if "imagenet_top1" not in row]
    families = ("efficientnet", "convnext", "mobilenet_v3")
    assert all(name.startswith(families) for name in without)
    assert table["resnet50"]["imagenet_top1_torchvision"] == 76.130
    assert set(table) == set(keras_models.table("layers.toml"))
    for name, row in table.items():
        assert hasattr(keras.applications, row["builder"])
        assert callable(getattr(zoo, name, resnet50))


@pytest.mark.parametrize(
    ("name", "module"),
    [("vgg16", "vgg16"), ("resnet50", "resnet50"), ("densenet121", "densenet"),
     ("mobilenet_v2", "mobilenet_v2"), ("xception", "xception"), ("nasnet_mobile", "nasnet"),
     ("resnet50_v2", "resnet_v2"), ("efficientnet_b0", "efficientnet"),
     ("convnext_tiny", "convnext"), ("mobilenet_v3_small", "mobilenet_v3")],
)  # fmt: skip
def test_colours_are_those_of_kerass_own_preprocessing(name, module):
    shown = keras_models.default_preprocessing(name)
    picture = np.random.default_rng(1).integers(0, 256, (*shown.size, 3)).astype(np.uint8)
    theirs = getattr(keras.applications, module).preprocess_input(picture.astype(np.float32))
    np.testing.assert_allclose(shown(picture), theirs, atol=1e-5)


@pytest.fixture(scope="module")
def small():
    return zoo.network("mobilenet_v3_small", weights=None, random_state=1)


def test_random_weights_come_from_their_seed_alone(small):
    state = random.getstate()
    again = zoo.network("mobilenet_v3_small", weights=None, random_state=1)
    assert random.getstate() == state
    other = zoo.network("mobilenet_v3_small", weights=None, random_state=2)
    assert again.attrs["weights_sha256"] == small.attrs["weights_sha256"]
    assert other.attrs["weights_sha256"] != small.attrs["weights_sha256"]
    assert "random" in small.attrs["weights"]
    assert not any(key.startswith("imagenet_top1") for key in small.attrs)
    # built third in this process, and its layers are still called the same
    assert [x.name for x in other.layers()] == [x.name for x in small.layers()]
    assert small.layers()[8].name == "re_lu"
    assert small.sets["default"][0] == "activation"


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".npz"])
def test_weights_of_a_file(small, tmp_path, suffix):
    file = tmp_path / f"mine{suffix}"
    if suffix == ".npz":
        save_weights_npz(small.model, file)
    elif suffix == ".h5":  # the older layout, in which keras.applications publishes its weights
        small.model.save(file)
    else:
        small.model.save_weights(file)
    held = zoo.network("mobilenet_v3_small", weights=file, random_state=9)
    assert held.attrs["weights_sha256"] == small.attrs["weights_sha256"]
    assert held.attrs["weights"] == f"from {file.name}"


def test_published_top1_goes_with_the_published_weights(monkeypatch):
    real = keras.applications.MobileNet

    def builder(weights, input_shape):
        assert weights == "imagenet"
        return real(weights=None, input_shape=input_shape)

    monkeypatch.setattr(keras.applications, "MobileNet", builder)
    net = zoo.network("mobilenet")
    assert net.attrs["imagenet_top1"] == 70.4
    assert "Keras" in net.attrs["imagenet_top1_source"]
    # conv_preds, then a reshape and a softmax of its own
    assert net.layer("conv_preds").shape == (1, 1, 1000)
    for spec in ("conv_preds:logits", "predictions:logits"):
        assert (net.layer(spec).shape, net.layer(spec).index) == ((1000,), 89)
    assert net.layer("conv_preds:softmax").index == net.layer("predictions").index


def test_default_sets_spread_over_depth(net, small):
    for network, widest in ((net, 0.1), (small, 0.15)):  # blocks of three layers, and of five
        depths = [network.layer(spec).depth for spec in network.choose()]
        assert len(depths) == 8
        assert depths == sorted(depths)
        assert depths[-1] == 1
        assert np.abs(np.array(depths) - np.linspace(depths[0], 1, 8)).max() < widest
    assert net.choose() == [
        "conv1_relu", "conv2_block2_out", "conv3_block2_out", "conv3_block4_out",
        "conv4_block2_out", "conv4_block5_out", "conv5_block1_out", "predictions:logits",
    ]  # fmt: skip


def test_list_layers_prints_the_table():
    done = CliRunner().invoke(cli.app, ["list", "layers", "resnet50"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["layer", "op", "shape", "units", "parameters", "depth", "sets"]
    row = next(line for line in lines if line.startswith("conv3_block2_2_conv "))
    assert row.split() == ["conv3_block2_2_conv", "conv", "28", "x", "28", "x", "128", "100,352",
                           "147,584", "0.30", "yu2018,", "yu2018-intended"]  # fmt: skip
    assert "177 layers, 25,636,712 parameters" in lines[-1]


def test_list_layers_of_a_variant_and_against_a_network_of_the_zoo(variant, tmp_path):
    def listed(*arguments):
        return CliRunner().invoke(cli.app, ["list", "layers", *map(str, arguments)])

    done = listed("resnet50", "--option", "padding=yu2018")
    assert done.exit_code == 0, done.output
    line = next(x for x in done.output.splitlines() if x.startswith("conv2_block2_3_conv "))
    assert "55 x 55 x 256" in line
    assert "774,400" in line  # FACTS 4.3, 4.4
    file = tmp_path / "shifted.keras"
    variant.model.save(file)
    assert listed(file).exit_code == 0  # any model has a table, but is not any network
    done = listed(file, "--option", "like=resnet50")
    assert done.exit_code == 1
    assert "conv2_block2_3_conv: expected shape (56, 56, 256), found (55, 55, 256)" in done.output
    assert listed("resnet50", "--option", "paddding=yu2018").exit_code == 1


def test_sets_and_layers_in_one_list(net):
    both = net.choose(["conv1_conv:relu", "yu2018-intended", "avg_pool"])
    assert both == ["conv1_conv:relu", *(name for name, *_ in FACTS_4_3), "avg_pool"]
    with pytest.raises(ProtocolError, match="'conv1_conv' is asked for twice"):
        net.choose(["conv1_conv", "yu2018"])


def test_list_layers_of_a_file(tmp_path):
    file = tmp_path / "mine.keras"
    keras.Sequential([keras.Input((9, 9, 3)), keras.layers.Conv2D(2, 3, name="only")]).save(file)
    done = CliRunner().invoke(cli.app, ["list", "layers", str(file)])
    assert done.exit_code == 0, done.output
    assert any(line.startswith("only") and "7 x 7 x 2" in line for line in done.stdout.splitlines())


@pytest.mark.slow  # minutes, and up to 2 GiB: every network of the table is built
@pytest.mark.parametrize("name", keras_models.table())
def test_every_network_is_still_the_one_of_the_table(name):
    file = Path(__file__).parents[2] / "data" / "make_layer_table.py"
    spec = importlib.util.spec_from_file_location("make_layer_table", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    held, total = module.entries(name)
    assert held == keras_models.table("layers.toml")[name]
    assert total == keras_models.table()[name]["n_parameters"]
