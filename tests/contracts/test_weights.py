"""Wrong weights files are refused with file, layer, expected and found; right ones land exactly."""

import contextlib
import hashlib
import re
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="pip install tensorflow: the networks run in it")
onnx = pytest.importorskip("onnx", reason="pip install onnx: weights are read from its files")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rsacompare.errors import DataError, FetchError, MissingDependency, ProtocolError  # noqa: E402
from rsacompare.networks import alexnet, loading, lrn, squeezenet, weights, zoo  # noqa: E402
from rsacompare.networks.onnx_weights import load_weights_onnx  # noqa: E402
from rsacompare.networks.wiring import model_graph  # noqa: E402

SHAPES = {"conv1": (6, 3, 3, 3), "conv2": (8, 3, 3, 3), "fc3": (5, 8 * 3 * 2)}


@pytest.fixture
def model():
    """AlexNet's ways in a few hundred weights: groups, normalisation, rectangle flattened."""
    import keras

    def conv(x, filters, name, **options):
        return keras.layers.Conv2D(filters, 3, padding="same", name=name, **options)(x)

    picture = keras.Input((6, 4, 3), name="data")
    x = keras.layers.ReLU(name="relu1")(conv(picture, 6, "conv1"))
    x = lrn.local_response_normalization()(**lrn.CAFFE, name="norm1")(x)
    x = keras.layers.MaxPooling2D(2, 2, name="pool1")(x)
    x = keras.layers.ReLU(name="relu2")(conv(x, 8, "conv2", groups=2))
    x = keras.layers.Dense(5, name="fc3")(keras.layers.Flatten(name="flatten")(x))
    return keras.Model(picture, keras.layers.Softmax(name="prob")(x), name="tiny")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        name: [rng.normal(0, 1, shape).astype("f4"), rng.normal(0, 1, shape[:1]).astype("f4")]
        for name, shape in SHAPES.items()
    }


def write(path, arrays, *, order=("norm", "pool"), groups=2, dense="Gemm", pads=1, alpha=1e-4):
    """The same network as an ONNX file; `dense` is how its last layer is written."""
    nodes, tensors = [], []

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def own(name, array):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def conv(x, name, **attributes):
        inputs = [x, *(own(f"{name}.{i}", a) for i, a in enumerate(arrays[name]) if a is not None)]
        return add("Relu", [add("Conv", inputs, name, **attributes)], f"{name}_relu")

    x = conv("data", "conv1", pads=[pads] * 4)
    for step in order:
        if step == "norm":
            x = add("LRN", [x], "norm1", size=5, alpha=alpha, beta=0.75, bias=1.0)
        else:
            x = add("MaxPool", [x], "pool1", kernel_shape=[2, 2], strides=[2, 2])
    if "conv2" in arrays:
        x = conv(x, "conv2", pads=[1] * 4, group=groups)
    x = add("Flatten", [x], "flat")
    w, b = arrays["fc3"]
    if dense == "Gemm":
        x = add("Gemm", [x, own("w", w), own("b", b)], "fc3", transB=1)
    elif dense == "Gemm, not transposed":
        x = add("Gemm", [x, own("w", w.T), own("b", b)], "fc3")
    elif dense == "MatMul":
        constant = numpy_helper.from_array(np.ascontiguousarray(w.T), "w")
        add("Constant", [], "w", value=constant)
        x = add("Add", [add("MatMul", [x, "w"], "product"), own("b", b)], "fc3")
    else:
        x = add("Gemm", [x, own("w", w), own("b", b)], "fc3", transB=1, alpha=0.5)
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("data", "fc3")]
    graph = helper.make_graph(nodes, "tiny", info[:1], info[1:], tensors)
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize("dense", ["Gemm", "Gemm, not transposed", "MatMul"])
def test_onnx_weights_land_in_their_places(model, arrays, tmp_path, dense):
    load_weights_onnx(model, write(tmp_path / "w.onnx", arrays, dense=dense))
    held = {name: w.numpy() for name, w in weights.named_weights(model).items()}
    w, b = arrays["conv2"]
    np.testing.assert_array_equal(held["conv2.kernel"], np.moveaxis(w, (0, 1), (3, 2)))
    np.testing.assert_array_equal(held["conv2.bias"], b)
    # unit (channel 5, row 2, column 1) of the file is (row 2, column 1, channel 5) here
    np.testing.assert_array_equal(
        held["fc3.kernel"][(2 * 2 + 1) * 8 + 5], arrays["fc3"][0][:, (5 * 3 + 2) * 2 + 1]
    )


def _spoil(arrays, name, index, change):
    arrays[name][index] = change(arrays[name][index])
    return arrays


def _nan(array):
    array = array.copy()
    array.flat[3] = np.nan
    return array


WRONG = {
    "order": (lambda a: a, {"order": ("pool", "norm")}, "conv2.*AlexNet normalises before"),
    "groups": (
        lambda a: _spoil(a, "conv2", 0, lambda w: np.repeat(w, 2, 1)),
        {"groups": 1},
        r"conv2 of tiny .*expected groups 2, found 1",
    ),
    "padding": (
        lambda a: a,
        {"pads": 0},
        r"conv1 of tiny .*expected pad \(1, 1, 1, 1\), found \(0",
    ),
    "alpha": (lambda a: a, {"alpha": 5e-4}, r"conv2 .*alpha 0\.0001.*found.*alpha 0\.0005"),
    "kernel": (
        lambda a: _spoil(a, "conv1", 0, lambda w: w[:4]),
        {},
        r"conv1 of tiny \(node 'conv1', 1 of 3 .*expected shape \(3, 3, 3, 6\), found \(3, 3, 3, 4",
    ),
    "bias": (
        lambda a: _spoil(a, "conv2", 1, lambda b: b[:7]),
        {},
        r"conv2 .*bias: expected shape \(8,\), found \(7,\)",
    ),
    "no bias": (
        lambda a: _spoil(a, "conv2", 1, lambda b: None),
        {},
        r"conv2 .*expected a bias of shape \(8,\), found none",
    ),
    "dense": (
        lambda a: _spoil(a, "fc3", 0, lambda w: w[:, :40]),
        {},
        r"fc3 .*expected shape \(48, 5\), found \(40, 5\)",
    ),
    "scaled": (lambda a: a, {"dense": "scaled"}, "node 'fc3': expected alpha 1"),
    "NaN": (
        lambda a: _spoil(a, "fc3", 0, _nan),
        {},
        "fc3 .*kernel: expected finite weights, found 1 that are NaN",
    ),
    "infinite": (
        lambda a: _spoil(a, "conv1", 1, lambda b: b * np.float32(np.inf)),
        {},
        "conv1 .*bias: expected finite weights, found 6",
    ),
    "integers": (
        lambda a: _spoil(a, "conv1", 0, lambda w: w.astype("i8")),
        {},
        "conv1 .*expected floating-point numbers, found int64",
    ),
    "fewer layers": (
        lambda a: {n: w for n, w in a.items() if n != "conv2"},
        {},
        r"expected the 3 convolutions and dense layers of tiny, found 2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_onnx_of_another_network(model, arrays, tmp_path, case):
    change, options, said = WRONG[case]
    path = write(tmp_path / "w.onnx", change(arrays), **options)
    before = weights.weights_digest(model)
    with pytest.raises(DataError, match=said) as caught:
        load_weights_onnx(model, path)
    assert str(path) in str(caught.value)
    assert weights.weights_digest(model) == before  # nothing half done


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:6b0d\nsize 243863787\n"


@pytest.mark.parametrize("suffix", [".onnx", ".npz"])
def test_files_that_are_none(model, arrays, tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    if suffix == ".onnx":
        whole = write(path, arrays).read_bytes()
    else:
        whole = weights.save_weights_npz(model, path).read_bytes()
    loading.load_weights(model, path)  # the whole file is one
    for content, said in [
        (POINTER, r"Git LFS pointer of 74 bytes, not the weights \(243863787 bytes\)"),
        (b"", "found an empty file"),
        (whole[:-50], "cannot be read"),
        (whole[: len(whole) // 2], "cannot be read"),
        (b"<!DOCTYPE html><html>not found</html>", "cannot be read"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=said) as caught:
            loading.load_weights(model, path)
        assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match="there is no such file"):
        loading.load_weights(model, path)


@pytest.mark.parametrize("suffix", [".onnx", ".npz"])
def test_no_damage_gets_past(model, arrays, tmp_path, suffix):
    """A file cut anywhere, or with bytes changed, is refused or read; nothing else is raised."""
    path = tmp_path / f"w{suffix}"
    write(path, arrays) if suffix == ".onnx" else weights.save_weights_npz(model, path)
    whole = path.read_bytes()
    refused = pytest.raises(DataError, match=re.escape(str(path)))
    for seed in range(150):
        rng = np.random.default_rng(seed)
        content = bytearray(whole)
        cut = seed % 3 == 0
        if cut:
            content = content[: rng.integers(1, len(content))]
        else:  # where the graph stands, or anywhere
            reach = 700 if seed % 3 == 1 else len(content)
            for place in rng.integers(0, reach, 3):
                content[place] = rng.integers(256)
        path.write_bytes(bytes(content))
        with refused if cut else contextlib.suppress(DataError):
            loading.load_weights(model, path)


def test_without_onnx(model, arrays, tmp_path, monkeypatch):
    path = write(tmp_path / "w.onnx", arrays)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match=r"pip install 'rsacompare\[networks\]'"):
        load_weights_onnx(model, path)


def test_npz_of_another_network(model, tmp_path):
    path = weights.save_weights_npz(model, tmp_path / "w.npz")
    with np.load(path) as file:
        held = dict(file)
    assert list(held) == [f"{n}.{w}" for n in ("conv1", "conv2", "fc3") for w in ("kernel", "bias")]

    def refused(change, said):
        np.savez(path, **{**held, **change})
        with pytest.raises(DataError, match=said):
            weights.load_weights_npz(model, path)

    refused(
        {"conv9.kernel": held["conv1.kernel"]}, "holds 'conv9.kernel', which the network has not"
    )
    refused({"conv1.bias": _nan(held["conv1.bias"])}, "conv1.bias of tiny: expected finite weights")
    refused(
        {"fc3.kernel": held["fc3.kernel"].T},
        r"fc3.kernel of tiny: expected shape \(48, 5\), found \(5, 48\)",
    )
    refused({"fc3.bias": np.array([None] * 5)}, "cannot be read")  # no pickles
    refused({"attrs": np.array("{")}, "'attrs' is not JSON")
    del held["conv2.bias"]
    refused({}, "the file lacks 'conv2.bias'")
    with pytest.raises(ProtocolError, match=r"written as \.npz"):
        weights.save_weights_npz(model, tmp_path / "w.h5")


def test_random_weights_are_seeded_and_alive(model):
    import keras

    weights.fill_random(model, 4)
    first = weights.weights_digest(model)
    parts = [f"<f4{w.shape}".encode() + w.astype("<f4").tobytes() for w in model.get_weights()]
    assert first == hashlib.sha256(b"".join(parts)).hexdigest()
    weights.fill_random(model, 5)
    assert weights.weights_digest(model) != first
    weights.fill_random(model, 4)
    assert weights.weights_digest(model) == first
    kernel = model.get_layer("fc3").get_weights()[0]
    assert kernel.std() == pytest.approx(np.sqrt(2 / 48), rel=0.15)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    assert weights.weights_digest(twin) == first
    changed = model.get_layer("conv2").bias
    changed.assign(np.asarray(changed) + 1e-7)
    assert weights.weights_digest(model) != first


def test_choice_of_weights(model, tmp_path, monkeypatch):
    said = loading.load_weights(model, None, random_state=3)
    assert said["weights"] == "random (He normal, random_state 3), not trained"
    assert "imagenet_top1" not in said
    with pytest.raises(ProtocolError, match="tiny: no trained weights are registered"):
        loading.load_weights(model, "imagenet")
    with pytest.raises(ProtocolError, match="did you mean 'imagenet'"):
        loading.load_weights(model, "imagnet", published=alexnet.WEIGHTS["alexnet"])
    with pytest.raises(ProtocolError, match=re.escape("weights must be 'imagenet', 'random'")):
        loading.load_weights(model, tmp_path / "model.pt")
    # published weights are the registry's business: a damaged file in the offline folder is told
    monkeypatch.setenv("RSACOMPARE_DATA", str(tmp_path))
    (tmp_path / "networks").mkdir()
    (tmp_path / alexnet.WEIGHTS["alexnet"]).write_bytes(POINTER)
    with pytest.raises(FetchError, match="registry says 6b0da9510f27f234"):
        loading.load_weights(model, "imagenet", published=alexnet.WEIGHTS["alexnet"])


def test_published_weights_bring_their_accuracy(model, arrays, tmp_path, monkeypatch):
    """By the checksum of the file, wherever it lies; not by its name."""
    from rsacompare.datasets.registry import Entry

    path = write(tmp_path / "w.onnx", arrays)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    name = alexnet.WEIGHTS["alexnet"]
    entry = Entry(name, sha256, "BSD", "https://x.y", "tiny, trained")
    monkeypatch.setattr(loading, "registry", lambda: {name: entry})
    about = alexnet.ABOUT["alexnet"]
    said = loading.load_weights(model, path, published=name, about=about)
    assert (said["imagenet_top1"], said["weights_file_sha256"]) == (57.1, sha256)
    assert said["weights"] == "tiny, trained (w.onnx)"
    arrays["fc3"][1][0] += 1
    other = loading.load_weights(model, write(path, arrays), published=name, about=about)
    assert "imagenet_top1" not in other


def test_layer_sets_name_the_operations():
    """FACTS 5: before the ReLU in Yu et al., behind it in Wen et al.; the logits in both."""
    graph = {step.name: step for step in model_graph(alexnet.build_caffenet()).steps}
    yu, wen = alexnet.SETS["yu2018"], alexnet.SETS["wen2018"]
    assert list(graph) == list(yu) == list(alexnet.SETS["default"])
    assert list(wen) == [*(f"relu{i}" for i in range(1, 8)), "fc8"]
    assert graph["conv3"].reads.startswith("LRN")  # CaffeNet: pools, then normalises
    with pytest.raises(ProtocolError, match="version must be one of caffe, torchvision"):
        squeezenet.build_squeezenet("1.1")


def test_networks_are_runnable():
    """The whole way: a network with its layers, of which one forward pass reads many."""
    pytest.importorskip("rsacompare.networks.keras_network", reason="not in this tree")
    with pytest.raises(ProtocolError, match="squeezenet: no trained weights are registered"):
        squeezenet.squeezenet()
    network = squeezenet.squeezenet(None, random_state=1)
    assert network.attrs["weights"].startswith("random")
    assert [network.layer(spec).shape for spec in network.choose()][-2:] == [(13, 13, 512), (1000,)]
    images = np.random.default_rng(0).normal(0, 60, (2, 227, 227, 3)).astype("f4")
    read = network.forward(["fire2_concat", "pool10", "prob"])(images)
    np.testing.assert_allclose(read["prob"], network.model.predict_on_batch(images), atol=1e-6)
    again = squeezenet.squeezenet(None, random_state=1)
    assert again.attrs["weights_sha256"] == network.attrs["weights_sha256"]
    with pytest.raises(ProtocolError, match="caffe-squash-227"):
        alexnet.alexnet(None, preprocessing="caffe-squash-22")
    network = alexnet.caffenet(None, random_state=2)
    assert sum(layer.n_parameters for layer in network.layers()) == 60_965_224
    for spec, shape in {"conv1": (55, 55, 96), "norm1": (27, 27, 96), "fc8": (1000,)}.items():
        assert network.layer(spec).shape == shape
    assert network.layer("fc8").depth == 1
    assert "imagenet_top1" not in network.attrs


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "squeezenet", "resnet50"])
def test_without_tensorflow_the_install_line_is_told(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingDependency, match=r"pip install 'rsacompare\[networks\]'"):
        zoo.network(name, weights="random")


def test_published_weights_that_cannot_be_had_name_the_other_ways(monkeypatch):
    def offline(*_):
        raise FetchError("no connection")

    monkeypatch.setattr("rsacompare.networks.loading.fetch", offline)
    with pytest.raises(FetchError, match=r"alexnet: no connection; or give .*'random'"):
        zoo.network("alexnet")
