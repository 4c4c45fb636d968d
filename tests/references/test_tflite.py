"""TFLite networks against the interpreter itself, direct arithmetic and what pictures show."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

from rsacompare import plugins
from rsacompare.datasets.load import fetch
from rsacompare.datasets.pictures92 import pictures
from rsacompare.errors import DataError, FetchError, MissingDependency, ProtocolError
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.networks.tflite import TFLiteNetwork, as_input, dequantised
from rsacompare.networks.tflite_file import Tensor, read_model
from rsacompare.networks.tflite_graph import short_names

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install ai-edge-litert")

SMALL, LARGE = "mobilenet_v1_0.25_128", "mobilenet_v2_1.0_224"
# million weights by the table of the models (slim/nets/mobilenet_v1.md, mobilenet/README.md)
PUBLISHED = {
    SMALL: 0.47,
    "mobilenet_v1_0.5_160": 1.34,
    "mobilenet_v1_0.75_192": 2.59,
    LARGE: 3.47,
}
# what is to be seen on pictures whose class ImageNet has, by looking at them
SEEN = {
    "stim25": "armadillo", "stim26": "camel", "stim30": "ostrich", "stim32": "zebra",
    "stim33": "elephant", "stim41": "German shepherd", "stim42": "Great Dane",
    "stim43": "baboon", "stim45": "crocodile", "stim47": "lion,", "stim56": "zucchini",
    "stim63": "banana", "stim68": "pineapple", "stim70": "bell pepper", "stim76": "cassette",
    "stim81": "triumphal arch", "stim83": "hammer", "stim87": "dome", "stim88": "umbrella",
    "stim89": "cellular telephone", "stim91": "stove",
}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    """A registered network by name, made once."""
    made = {}

    def get(name):
        if name not in made:
            try:
                made[name] = plugins.find("networks", name)()
            except FetchError as err:
                pytest.skip(str(err))
        return made[name]

    return get


@pytest.fixture(scope="module")
def shown():
    """The 92 pictures, {stimulus_id: RGB}."""
    try:
        return pictures()
    except FetchError as err:
        pytest.skip(str(err))


@pytest.fixture(scope="module")
def run(network, shown):
    """Activations of layers to all pictures, each asked for once."""
    held = {}

    def get(name, *specs):
        missing = [spec for spec in specs if (name, spec) not in held]
        if missing:
            net = network(name)
            images = np.stack([net.preprocessing(picture) for picture in shown.values()])
            found = net.forward(missing)(images)
            held.update({(name, spec): found[spec] for spec in missing})
        return [held[name, spec] for spec in specs]

    return get


def ordinary(net, images, outputs=None, **options):
    """Quantised values by an interpreter of its own: of the output, or of tensors by index."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = litert.Interpreter(str(net.file), num_threads=1, **options)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    outputs = outputs or [interpreter.get_output_details()[0]["index"]]
    found = []
    for image in images:
        interpreter.set_tensor(index, image[None])
        interpreter.invoke()
        found.append([interpreter.get_tensor(i)[0].copy() for i in outputs])
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    return [np.stack(values) for values in zip(*found, strict=True)], [details[i] for i in outputs]


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_outputs_are_scale_times_q_less_zero_of_the_very_tensor(network, shown, run, name):
    net = network(name)
    specs = net.choose("stages")
    images = np.stack([net.preprocessing(p) for p in list(shown.values())[:3]])
    preserved = {
        "experimental_preserve_all_tensors": True,
        "experimental_op_resolver_type": (litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES),
    }
    whole = litert.Interpreter(str(net.file), **preserved)
    by_name = {d["name"]: d["index"] for d in whole.get_tensor_details()}
    indices = [by_name[net.original_name(spec)] for spec in specs]
    values, details = ordinary(net, images, indices, **preserved)
    for spec, q, detail, ours in zip(specs, values, details, run(name, *specs), strict=True):
        scale, zero = detail["quantization"]
        expected = (q.astype(np.float64) - zero) * scale
        assert np.ptp(expected) > 0, spec
        np.testing.assert_allclose(ours[:3], expected, rtol=1e-6, atol=0, err_msg=spec)


def test_slices_with_scales_of_their_own():
    scale, zero = np.array([0.5, 2.0, 0.25]), np.array([0, 1, -3])
    q = np.array([[[4, 5, 6], [-8, 0, 127]]], dtype=np.int8)
    tensor = Tensor("t", (1, 2, 3), "int8", scale, zero, 2, False)
    np.testing.assert_array_equal(dequantised(q, tensor), [[[2.0, 8.0, 2.25], [-4.0, -2.0, 32.5]]])
    first = Tensor("t", (1, 2, 3), "int8", scale[:2], zero[:1], 1, False)
    np.testing.assert_array_equal(dequantised(q, first)[0, 1], [-16.0, 0.0, 254.0])


def test_floats_are_left_alone():
    tensor = Tensor("t", (1, 2), "float32", np.array([]), np.array([]), 0, False)
    values = np.array([[0.1, -3]], dtype=np.float32)
    np.testing.assert_array_equal(dequantised(values, tensor), values)


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_the_answer_is_that_of_the_ordinary_interpreter(network, shown, run, name):
    """With its default delegate, which computes in another order: a few steps of 1/256."""
    net = network(name)
    images = np.stack([net.preprocessing(picture) for picture in shown.values()])
    (q,), (detail,) = ordinary(net, images)
    expected = q * np.float32(detail["quantization"][0])
    (ours,) = run(name, "Predictions")
    assert np.abs(ours - expected).mean() < 2e-4
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours, expected, strict=True)]
    assert np.median(correlations) > 0.99
    same = (ours.argmax(axis=1) == expected.argmax(axis=1)).mean()
    assert same >= 0.9


def test_dissimilarities_agree_with_those_of_the_default_delegate(network, shown, run):
    net = network(SMALL)
    spec = "Conv2d_13_pointwise"
    images = np.stack([net.preprocessing(picture) for picture in shown.values()])
    interpreter = litert.Interpreter(str(net.file))
    index = {d["name"]: d["index"] for d in interpreter.get_tensor_details()}
    (values,), _ = ordinary(
        net, images, [index[net.original_name(spec)]], experimental_preserve_all_tensors=True
    )
    upper = np.triu_indices(len(images), 1)
    theirs = np.corrcoef(values.reshape(len(images), -1).astype(float))[upper]
    ours = np.corrcoef(run(SMALL, spec)[0].reshape(len(images), -1))[upper]
    assert np.corrcoef(ours, theirs)[0, 1] >= 0.987


def test_the_softmax_is_that_of_the_logits(run):
    logits, probability = run(SMALL, "Predictions:logits", "Predictions:softmax")
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected = raised / raised.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probability, expected, atol=0.51 / 256)
    np.testing.assert_array_equal(logits, run(SMALL, "Logits_SpatialSqueeze1")[0])


def test_pictures_get_the_names_of_what_is_to_be_seen(network, shown):
    """Colour order and scaling show here: in BGR, or shifted by 128, fewer are right."""
    try:
        names = fetch("tflite/imagenet_labels.txt").read_text(encoding="utf-8").splitlines()
    except FetchError as err:
        pytest.skip(str(err))
    assert (len(names), names[0]) == (1001, "background")

    def right(name, change=lambda images: images):
        net = network(name)
        images = np.stack([net.preprocessing(shown[stimulus]) for stimulus in SEEN])
        found = net.forward(["Predictions"])(change(images))["Predictions"]
        top5 = np.argsort(-found, axis=1)[:, :5]
        return sum(
            any(word in names[k] for k in five)
            for word, five in zip(SEEN.values(), top5, strict=True)
        )

    assert right(LARGE) >= 20
    rgb, bgr, signed = (
        sum(right(name, change) for name in PUBLISHED)
        for change in (
            lambda images: images,
            lambda images: images[..., ::-1],
            lambda images: images ^ 128,  # as if a signed type were taken
        )
    )
    assert rgb >= 68, rgb  # of 84
    assert bgr <= rgb - 8, bgr
    assert signed <= rgb - 30, signed


@pytest.mark.parametrize("name", PUBLISHED)
def test_layers_are_named_counted_and_as_large_as_published(network, name):
    net = network(name)
    layers = net.layers()
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 30
    assert not any(set(n) & set("/;: ") for n in names)
    total = sum(layer.n_parameters for layer in layers) / 1e6
    assert total == pytest.approx(PUBLISHED[name], rel=0.015)
    assert [layer.index for layer in layers] == list(range(len(layers)))
    depths = [layer.depth for layer in layers]
    assert depths[-1] == 1
    assert net.attrs["imagenet_top1"] in (39.5, 57.2, 66.1, 70.8)
    assert 7 <= len(net.choose("default")) <= 9


def test_depth_and_parameters_by_hand(network):
    v1 = {layer.name: layer for layer in network(SMALL).layers()}
    last = v1["Conv2d_13_pointwise"]
    assert (last.op, last.shape) == ("conv+relu6", (4, 4, 256))
    assert last.n_parameters == 256 * 256 + 256  # a 1 x 1 convolution and its bias
    assert v1["Conv2d_13_depthwise"].n_parameters == 3 * 3 * 256 + 256
    assert last.depth == pytest.approx(27 / 28)  # 1 + 13 x 2 convolutions; the logits are the 28th
    assert v1["Predictions"].n_parameters == 0
    v2 = {layer.name: layer for layer in network(LARGE).layers()}
    # the shortcut of the 2nd block is shorter than the way through it
    assert v2["expanded_conv_2_add"].depth == v2["expanded_conv_2_project"].depth
    assert v2["Conv_1"].depth == pytest.approx(52 / 53)
    assert v2["expanded_conv_2_project"].op == "conv"
    assert v2["expanded_conv_2_expand"].op == "conv+relu6"


def test_the_op_says_whether_an_output_is_rectified(network, run):
    """The table by the file's fused activation; the values by the interpreter."""
    net = network(LARGE)
    specs = ["expanded_conv_2_expand", "expanded_conv_2_project", "expanded_conv_2_add", "Conv_1"]
    for spec, values in zip(specs, run(LARGE, *specs), strict=True):
        rectified = net.layer(spec).op.endswith("+relu6")
        assert (values.min() < 0) != rectified, spec
        assert not rectified or values.max() <= 6 + 1e-6


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("Conv2d_1_pointwise:linear", ["ReLU6 of Conv2d_1_pointwise is fused", "after it"]),
        ("Conv2d_1_pointwise:abs", ["ReLU6 of Conv2d_1_pointwise is fused"]),
        ("Conv2d_1_pointwis", ["unknown layer", "did you mean 'Conv2d_1_pointwise'?"]),
        ("Conv2d_1_pointwise:rleu", ["unknown op", "did you mean 'relu'?"]),
        ("Conv2d_1_pointwise:logits", ["nowhere"]),
        ("picture", ["unknown layer"]),
    ],
)
def test_a_layer_that_is_not_there_is_refused_in_a_sentence(network, spec, said):
    with pytest.raises(ProtocolError) as caught:
        network(SMALL).layer(spec)
    for part in said:
        assert part in str(caught.value)


def test_what_is_asked_for_twice_under_two_names_is_the_same(network, run):
    net = network(LARGE)
    relu, plain, original = run(LARGE, "Conv_1:relu", "Conv_1", net.original_name("Conv_1"))
    np.testing.assert_array_equal(relu, plain)
    np.testing.assert_array_equal(original, plain)
    block, add = run(LARGE, "expanded_conv_2_expand:block", "expanded_conv_2_add")
    np.testing.assert_array_equal(block, add)
    bent, linear = run(LARGE, "expanded_conv_2_project:abs", "expanded_conv_2_project:linear")
    np.testing.assert_array_equal(bent, np.abs(linear))


def test_names_stay_apart():
    tensors = [("a/b/Relu", "conv"), ("a/b/BiasAdd", "conv"), ("a/b_2", "add"), ("", "add")]
    assert short_names(tensors) == ["b", "b_3", "b_2", "add"]


def test_pictures_that_passed_as_floats_are_the_same_pixels():
    tensor = Tensor("t", (1, 1, 1, 3), "uint8", np.array([1 / 128]), np.array([128]), 0, False)
    pixels = np.array([[[[0, 127, 255]]]], dtype=np.uint8)
    np.testing.assert_array_equal(as_input(pixels.astype(np.float32), tensor), pixels)


def test_a_preprocessing_for_another_network_is_refused(network):
    file = network(SMALL).file
    with pytest.raises(ProtocolError, match="128 x 128, the preprocessing makes 64 x 64"):
        TFLiteNetwork(file, preprocessing=Preprocessing((64, 64), "raw", dtype="uint8"))
    with pytest.raises(ProtocolError, match="takes uint8, the preprocessing makes float32"):
        TFLiteNetwork(file, preprocessing=Preprocessing((128, 128), "tf"))


def test_what_is_no_tflite_file_is_refused_by_name(tmp_path):
    for name, content in {
        "text": b"not a network at all",
        "empty": b"",
        "short": b"\0\0\0\0TFL3",
    }.items():
        file = tmp_path / f"{name}.tflite"
        file.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.tflite"):
            TFLiteNetwork(file)
    with pytest.raises(DataError, match=r"gone\.tflite: No such file"):
        TFLiteNetwork(tmp_path / "gone.tflite")


def test_a_file_cut_anywhere_in_the_network_is_refused(network, tmp_path):
    """Behind the network's own bytes lies a zip with the labels, which it does not need."""
    whole = network(SMALL).file.read_bytes()
    end = whole.rfind(b"PK\x03\x04")
    draw = random.Random(0)
    file = tmp_path / "cut.tflite"
    for length in [end - 1, end // 2, 100, *(draw.randrange(end) for _ in range(60))]:
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.tflite"):
            read_model(file)


def test_bytes_changed_anywhere_never_end_the_process(network, tmp_path):
    """The interpreter is C++: whatever it is given has to be refused, or to run."""
    script = tmp_path / "fuzz.py"
    script.write_text(
        textwrap.dedent(
            """
            import random, sys
            from pathlib import Path
            import numpy as np
            from rsacompare.errors import DataError, ProtocolError
            from rsacompare.networks.tflite import TFLiteNetwork

            whole, file = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
            ran = refused = 0
            for seed in range(120):
                draw, data = random.Random(seed), bytearray(whole)
                for _ in range(draw.choice([1, 2, 4])):
                    # the tables lie at the two ends, the weights between
                    near = draw.choice([(0, 2000), (len(data) - 60000, len(data))])
                    data[draw.randrange(*near)] = draw.choice([0, 1, 127, 255, draw.randrange(256)])
                file.write_bytes(data)
                try:
                    net = TFLiteNetwork(file)
                    net.forward([net.layers()[-1].name])(np.zeros((1, 128, 128, 3), np.uint8))
                    ran += 1
                except (DataError, ProtocolError) as err:
                    assert "damaged.tflite" in str(err) or "damaged" in str(err), err
                    refused += 1
            print(ran, refused)
            """
        ),
        encoding="utf-8",
    )
    command = [sys.executable, script, network(SMALL).file, tmp_path / "damaged.tflite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ran, refused = map(int, done.stdout.split())
    assert ran > 10
    assert refused > 10


def test_without_an_interpreter_the_install_line_is_told(network, monkeypatch):
    net = network(SMALL)
    for module in ("ai_edge_litert", "tensorflow", "tensorflow.lite.python"):
        monkeypatch.setitem(sys.modules, module, None)
    assert net.layers()  # the table needs none
    with pytest.raises(MissingDependency, match="pip install ai-edge-litert"):
        net.forward(["Predictions"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the converter
@pytest.mark.parametrize("kind", ["float", "int8"])
def test_a_converted_keras_model_gives_the_activations_of_keras(tmp_path, kind):
    """Fused activations, shortcuts and scales per channel, judged by Keras."""
    tf = pytest.importorskip("tensorflow", reason="pip install tensorflow")
    keras = tf.keras
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    first = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    deep = keras.layers.DepthwiseConv2D(3, padding="same", name="deep")(first)
    added = keras.layers.Add(name="added")([first, deep])
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(added)
    answer = keras.layers.Dense(5, bias_initializer="ones", name="answer")(pooled)
    model = keras.Model(image, keras.layers.Softmax(name="softmax")(answer))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 16, 16, 3)).astype(np.float32)
    scaled = pixels / 127.5 - 1
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([one[None]] for one in scaled)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    file = tmp_path / f"{kind}.tflite"
    file.write_bytes(converter.convert())

    net = TFLiteNetwork(file)
    layers = net.layers()
    ops = [layer.op for layer in layers]
    assert ops.count("conv+relu") == 1
    for op in ("depthwise_conv", "add", "dense", "softmax"):
        assert ops.count(op) == 1, ops
    images = np.stack([net.preprocessing(p) for p in pixels.astype(np.uint8)])
    parts = keras.Model(image, {"conv+relu": first, "add": added, "dense": answer})
    expected = {key: np.asarray(value) for key, value in parts(scaled).items()}
    specs = {key: layers[ops.index(key)].name for key in expected}
    found = net.forward(list(specs.values()))(images)
    for key, spec in specs.items():
        span = np.ptp(expected[key])
        tolerance = 1e-5 if kind == "float" else 0.03 * span
        np.testing.assert_allclose(found[spec], expected[key], atol=tolerance, err_msg=key)
    counts = {layer.op: layer.n_parameters for layer in layers}
    assert counts["conv+relu"] == 3 * 3 * 3 * 8 + 8
    assert counts["dense"] == 8 * 5 + 5
    assert [layers[ops.index(key)].depth for key in ("conv+relu", "add", "dense")] == [
        pytest.approx(k / 3) for k in (1, 2, 3)
    ]
