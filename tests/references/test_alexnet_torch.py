"""AlexNet, CaffeNet and SqueezeNet against the same layers in torch, every layer of them.

Weights travel as they do in use: random ones are written into an ONNX file of the form of
`bvlcalexnet-12.onnx` (operations, order, shapes, names) and read from there into Keras; torch gets
them directly, and onnx's own reference evaluator judges the file.
"""

import os

import numpy as np
import pytest

if os.environ.get("CI"):
    import torch  # must be there: a skip would hide that nothing was compared
else:
    torch = pytest.importorskip(
        "torch", reason="pip install torch==2.13.0: the judge of the layers"
    )
onnx = pytest.importorskip("onnx", reason="pip install onnx: weights are read from its files")
pytest.importorskip("tensorflow", reason="pip install tensorflow: the networks run in it")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rsacompare.errors import DataError  # noqa: E402
from rsacompare.networks import alexnet, lrn, squeezenet, weights  # noqa: E402
from rsacompare.networks.loading import load_weights  # noqa: E402
from rsacompare.networks.onnx_weights import load_weights_onnx  # noqa: E402

F = torch.nn.functional
TOLERANCE = 1e-4
# FACTS 5: the table (channel, height, width of what each layer gives, and its weights)
TABLE = {
    "conv1": ((96, 55, 55), 34_944),
    "pool1": ((96, 27, 27), 0),
    "conv2": ((256, 27, 27), 307_456),
    "pool2": ((256, 13, 13), 0),
    "conv3": ((384, 13, 13), 885_120),
    "conv4": ((384, 13, 13), 663_936),
    "conv5": ((256, 13, 13), 442_624),
    "pool5": ((256, 6, 6), 0),
    "fc6": ((4096,), 37_752_832),
    "fc7": ((4096,), 16_781_312),
    "fc8": ((1000,), 4_097_000),
}
CONVS = {  # filters, channels in per group, kernel, stride, pad, groups
    "conv1": (96, 3, 11, 4, 0, 1),
    "conv2": (256, 48, 5, 1, 2, 2),
    "conv3": (384, 256, 3, 1, 1, 1),
    "conv4": (384, 192, 3, 1, 1, 2),
    "conv5": (256, 192, 3, 1, 1, 2),
}
FCS = {"fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (1000, 4096)}
ORDERS = {"alexnet": ("norm", "pool"), "caffenet": ("pool", "norm")}
BUILD = {"alexnet": alexnet.build_alexnet, "caffenet": alexnet.build_caffenet}


def pictures(n, size, channels=3):
    """As a network of Caffe gets them: BGR minus the mean, smooth enough to excite units."""
    rng = np.random.default_rng(5)
    coarse = rng.uniform(0, 255, (n, 15, 15, channels))
    fine = np.kron(coarse, np.ones((1, -(-size // 15), -(-size // 15), 1)))[:, :size, :size]
    fine = fine + rng.normal(0, 20, fine.shape) - np.array([104.0, 116.7, 122.7])
    return fine.astype(np.float32)


def he(rng, shape):
    sd = np.sqrt(2 / np.prod(shape[1:]))
    return (rng.standard_normal(shape, dtype=np.float32) * np.float32(sd)).astype(np.float32)


@pytest.fixture(scope="module")
def arrays():
    """Random weights of AlexNet in the layout of Caffe, ONNX and torch."""
    rng = np.random.default_rng(11)
    held = {}
    for name, (filters, channels, kernel, *_) in CONVS.items():
        held[name] = (he(rng, (filters, channels, kernel, kernel)), rng.normal(0, 0.1, filters))
    for name, shape in FCS.items():
        held[name] = (he(rng, shape), rng.normal(0, 0.1, shape[0]))
    held["fc8"][0][:] *= 0.05  # logits of a few units, so that the softmax is not all in one class
    return {name: (w, b.astype(np.float32)) for name, (w, b) in held.items()}


def torch_alexnet(arrays, images, order):
    """Every layer's output, (picture, channel, height, width), of the layers as torch has them."""
    seen = {}
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

    def keep(name, value):
        seen[name] = value.numpy()
        return value

    with torch.no_grad():
        for i in range(1, 6):
            _, _, _, stride, pad, groups = CONVS[f"conv{i}"]
            w, b = (torch.from_numpy(a) for a in arrays[f"conv{i}"])
            x = keep(f"conv{i}", F.conv2d(x, w, b, stride=stride, padding=pad, groups=groups))
            x = keep(f"relu{i}", F.relu(x))
            for step in order if i < 3 else ("pool",) * (i == 5):
                if step == "pool":
                    x = keep(f"pool{i}", F.max_pool2d(x, 3, 2, ceil_mode=True))
                else:  # torch divides alpha by the size, as Caffe does
                    norm = torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
                    x = keep(f"norm{i}", norm(x))
        x = torch.flatten(x, 1)
        for i in (6, 7, 8):
            x = keep(f"fc{i}", F.linear(x, *(torch.from_numpy(a) for a in arrays[f"fc{i}"])))
            if i < 8:
                x = keep(f"relu{i}", F.relu(x))
        keep("prob", F.softmax(x, 1))
    return seen


def write_onnx(path, arrays, order, size):
    """An ONNX file as the model zoo's: names, operations, order; weights also graph inputs."""
    nodes, tensors = [], []

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def own(name, array):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    x, rounded = "data_0", (size - 11) // 4 + 1
    for i in range(1, 6):
        _, _, kernel, stride, pad, groups = CONVS[f"conv{i}"]
        w, b = arrays[f"conv{i}"]
        x = add(
            "Conv",
            [x, own(f"conv{i}_w_0", w), own(f"conv{i}_b_0", b)],
            f"conv{i}_1",
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            **({"group": groups} if groups > 1 else {}),
        )
        x = add("Relu", [x], f"conv{i}_2")
        for step in order if i < 3 else ("pool",) * (i == 5):
            if step == "pool":
                over = (rounded - 3) % 2 if i == 5 else 0  # as the zoo's file: 54, 26, 12, 6
                rounded = (rounded + over - 3) // 2 + 1
                pads = [0, 0, over, over]
                x = add(
                    "MaxPool", [x], f"pool{i}_1", kernel_shape=[3, 3], strides=[2, 2], pads=pads
                )
            else:
                x = add("LRN", [x], f"norm{i}_1", size=5, alpha=1e-4, beta=0.75, bias=1.0)
    x = add("Reshape", [x, own("OC2_DUMMY_1", np.array([1, 9216], np.int64))], "OC2_DUMMY_0")
    for i in (6, 7, 8):
        w, b = arrays[f"fc{i}"]
        x = add("Gemm", [x, own(f"fc{i}_w_0", w), own(f"fc{i}_b_0", b)], f"fc{i}_1", transB=1)
        if i < 8:
            x = add("Relu", [x], f"fc{i}_2")
            nodes.append(helper.make_node("Dropout", [x], [f"fc{i}_3", f"_fc{i}_mask_1"]))
            x = f"fc{i}_3"
    add("Softmax", [x], "prob_1", axis=1)
    inputs = [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [1, 3, size, size])]
    inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    outputs = [helper.make_tensor_value_info("prob_1", TensorProto.FLOAT, [1, 1000])]
    graph = helper.make_graph(nodes, "AlexNet", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)])
    model.ir_version = 3
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def files(arrays, tmp_path_factory):
    """Both networks as files, 244 MB each; CaffeNet for 224 pixels, as both are in the zoo."""
    folder = tmp_path_factory.mktemp("onnx")
    written = {
        name: write_onnx(folder / f"{name}.onnx", arrays, order, size)
        for (name, order), size in zip(ORDERS.items(), (227, 224), strict=True)
    }
    yield written
    for path in written.values():  # pytest would keep three runs of them
        path.unlink()


def run_all(model, images):
    import keras

    names = [layer.name for layer in model.layers[1:]]
    every = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    return dict(zip(names, map(np.asarray, every.predict_on_batch(images)), strict=True))


def difference(ours, theirs):
    """Largest difference relative to the layer's largest activation; theirs channel first."""
    if theirs.ndim == 4:
        theirs = theirs.transpose(0, 2, 3, 1)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("name", ["alexnet", "caffenet"])
def test_every_layer_equals_torch(name, arrays, files):
    model = BUILD[name]()
    assert model.count_params() == alexnet.N_PARAMETERS == 60_965_224
    load_weights_onnx(model, files[name])
    images = pictures(3, 227)
    ours, theirs = run_all(model, images), torch_alexnet(arrays, images, ORDERS[name])
    assert set(ours) - set(theirs) == {"flatten"}
    assert set(theirs) <= set(ours)
    apart = {layer: difference(ours[layer], theirs[layer]) for layer in theirs}
    print(name, {layer: f"{value:.1e}" for layer, value in apart.items()})
    assert max(apart.values()) < TOLERANCE, apart
    for layer, (shape, parameters) in TABLE.items():
        assert ours[layer].shape[1:] == (*shape[1:], shape[0])
        assert model.get_layer(layer).count_params() == parameters
    # alive: the comparison is of numbers that matter, down to the last layer
    assert ours["norm1"].max() < 0.9 * ours["relu1"].max()
    assert all(np.ptp(ours[layer], axis=0).max() > 1e-3 for layer in ("fc8", "prob"))
    # and the other order is another network
    other = torch_alexnet(
        arrays, images[:1], ORDERS["caffenet" if name == "alexnet" else "alexnet"]
    )
    assert difference(ours["conv2"][:1], other["conv2"]) > 100 * TOLERANCE


def test_the_file_is_what_onnx_computes(arrays, files):
    """The judge of the mapping that is none of ours: onnx's own evaluator."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class LRN(OpRun):
        """By the operator's definition: onnx <= 1.23 walks along the wrong axis (issue 7805)."""

        def _run(self, x, alpha=None, beta=None, bias=None, size=None):
            padded = np.pad(x**2, ((0, 0), (size // 2, size // 2), (0, 0), (0, 0)))
            summed = sum(padded[:, i : i + x.shape[1]] for i in range(size))
            return ((x / (bias + alpha / size * summed) ** beta).astype(x.dtype),)

    file = onnx.load(files["alexnet"])
    onnx.checker.check_model(file)
    images = pictures(1, 227)
    outputs = ["conv1_2", "norm1_1", "pool2_1", "pool5_1", "fc6_1", "fc8_1", "prob_1"]
    session = ReferenceEvaluator(file, new_ops=[LRN])
    held = session.run(outputs, {"data_0": images.transpose(0, 3, 1, 2)})
    model = alexnet.build_alexnet()
    load_weights_onnx(model, files["alexnet"])
    ours = run_all(model, images)
    layers = ["relu1", "norm1", "pool2", "pool5", "fc6", "fc8", "prob"]
    apart = {x: difference(ours[x], y) for x, y in zip(layers, held, strict=True)}
    assert max(apart.values()) < TOLERANCE, apart


def test_orders_are_not_interchangeable(files):
    model = alexnet.build_alexnet()
    with pytest.raises(
        DataError, match=r"conv2 of alexnet.*MaxPool.*LRN.*found.*CaffeNet pools before it norm"
    ):
        load_weights_onnx(model, files["caffenet"])
    with pytest.raises(DataError, match=r"conv2 of caffenet .*AlexNet normalises before it pools"):
        load_weights_onnx(alexnet.build_caffenet(), files["alexnet"])
    assert not any(np.any(w) for w in model.get_layer("conv1").get_weights())  # left as it was


@pytest.mark.slow  # half a gigabyte written and read
def test_file_and_npz_give_the_same_network(arrays, files, tmp_path):
    model = alexnet.build_alexnet()
    said = load_weights(model, files["alexnet"], published=alexnet.WEIGHTS["alexnet"])
    assert said["weights"] == "from alexnet.onnx"
    assert "imagenet_top1" not in said  # not the published weights
    assert said["weights_sha256"] == weights.weights_digest(model)
    path = weights.save_weights_npz(model, tmp_path / "own.npz", imagenet_top1=12.5)
    again = alexnet.build_alexnet()
    read = load_weights(again, path)
    assert read["imagenet_top1"] == 12.5
    assert read["weights_sha256"] == said["weights_sha256"]
    with np.load(path) as file:  # the documented layout, against the file's own
        kernel = file["fc6.kernel"].reshape(6, 6, 256, 4096)
        np.testing.assert_array_equal(kernel[2, 3, 7], arrays["fc6"][0][:, 7 * 36 + 2 * 6 + 3])
        np.testing.assert_array_equal(
            file["conv2.kernel"][4, 1, 5, 200], arrays["conv2"][0][200, 5, 4, 1]
        )
    path.unlink()


def test_normalisation_equals_torch_and_loads_again(tmp_path):
    import keras

    layer = lrn.local_response_normalization()
    x = np.random.default_rng(0).normal(0, 100, (2, 5, 4, 9)).astype(np.float32)
    judge = torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    theirs = judge(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert difference(np.asarray(layer()(x)), theirs) < 1e-6
    # Caffe's alpha handed to TensorFlow undivided is the usual mistake
    assert difference(np.asarray(layer(alpha=1e-4)(x)), theirs) > 0.01
    picture = keras.Input((5, 4, 9))
    model = keras.Model(picture, layer(alpha=3e-5, depth_radius=1, name="norm1")(picture))
    model.save(tmp_path / "held.keras")
    again = keras.saving.load_model(tmp_path / "held.keras")
    assert again.get_layer("norm1").get_config() == model.get_layer("norm1").get_config()
    np.testing.assert_array_equal(again(x), model(x))


# --- SqueezeNet ----------------------------------------------------------------------------------


def squeezenet_arrays():
    rng = np.random.default_rng(3)
    shapes = {"conv1": (96, 3, 7, 7)}
    channels = 96
    for number, s in squeezenet.FIRE.items():
        shapes[f"fire{number}_squeeze"] = (s, channels, 1, 1)
        shapes[f"fire{number}_expand1x1"] = (4 * s, s, 1, 1)
        shapes[f"fire{number}_expand3x3"] = (4 * s, s, 3, 3)
        channels = 8 * s
    shapes["conv10"] = (1000, channels, 1, 1)
    return {
        name: (he(rng, shape), rng.normal(0, 0.1, shape[0]).astype(np.float32))
        for name, shape in shapes.items()
    }


def torch_squeezenet(arrays, images, pad):
    seen = {}
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

    def keep(name, value):
        seen[name] = value.numpy()
        return value

    def conv(x, name, **options):
        return keep(name, F.conv2d(x, *(torch.from_numpy(a) for a in arrays[name]), **options))

    with torch.no_grad():
        x = keep("relu1", F.relu(conv(x, "conv1", stride=2)))
        x = keep("pool1", F.max_pool2d(x, 3, 2, ceil_mode=True))
        for i in squeezenet.FIRE:
            x = keep(f"fire{i}_squeeze_relu", F.relu(conv(x, f"fire{i}_squeeze")))
            one = keep(f"fire{i}_expand1x1_relu", F.relu(conv(x, f"fire{i}_expand1x1")))
            three = conv(x, f"fire{i}_expand3x3", padding=1)
            three = keep(f"fire{i}_expand3x3_relu", F.relu(three))
            x = keep(f"fire{i}_concat", torch.cat([one, three], 1))
            if i in (4, 8):
                x = keep(f"pool{i}", F.max_pool2d(x, 3, 2, ceil_mode=True))
        x = keep("relu10", F.relu(conv(x, "conv10", padding=pad)))
        x = keep("pool10", x.mean((2, 3)))
        keep("prob", F.softmax(x, 1))
    return seen


def write_squeezenet(path, arrays, pad, swap=False):
    nodes, tensors = [], []

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def conv(x, name, **attributes):
        held = [
            numpy_helper.from_array(a, f"{name}_{k}")
            for a, k in zip(arrays[name], "wb", strict=True)
        ]
        tensors.extend(held)
        x = add("Conv", [x, *(t.name for t in held)], name, **attributes)
        return add("Relu", [x], f"{name}_relu")

    def pool(x, name):
        return add("MaxPool", [x], name, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)

    x = pool(conv("data_0", "conv1", strides=[2, 2]), "pool1")
    for i in squeezenet.FIRE:
        x = conv(x, f"fire{i}_squeeze")
        both = [conv(x, f"fire{i}_expand1x1"), conv(x, f"fire{i}_expand3x3", pads=[1] * 4)]
        x = add("Concat", both[::-1] if swap and i == 5 else both, f"fire{i}_concat", axis=1)
        if i in (4, 8):
            x = pool(x, f"pool{i}")
    x = add("Dropout", [x], "drop9")
    x = add("GlobalAveragePool", [conv(x, "conv10", pads=[pad] * 4)], "pool10")
    add("Softmax", [x], "softmaxout_1", axis=1)
    inputs = [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [1, 3, 224, 224])]
    outputs = [helper.make_tensor_value_info("softmaxout_1", TensorProto.FLOAT, [1, 1000, 1, 1])]
    graph = helper.make_graph(nodes, "SqueezeNet", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)])
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(("version", "pad", "places"), [("caffe", 1, 15), ("torchvision", 0, 13)])
def test_squeezenet_equals_torch(version, pad, places, tmp_path):
    arrays = squeezenet_arrays()
    model = squeezenet.build_squeezenet(version)
    assert model.count_params() == squeezenet.N_PARAMETERS == 1_248_424
    load_weights_onnx(model, write_squeezenet(tmp_path / "squeezenet.onnx", arrays, pad))
    images = pictures(3, model.input_shape[1])
    ours, theirs = run_all(model, images), torch_squeezenet(arrays, images, pad)
    assert set(ours) - set(theirs) <= {"conv10_pad"}
    apart = {layer: difference(ours[layer], theirs[layer]) for layer in theirs}
    print(version, f"{max(apart.values()):.1e}")
    assert max(apart.values()) < TOLERANCE, apart
    assert ours["conv10"].shape[1:] == (places, places, 1000)
    assert ours["fire9_concat"].shape[1:] == (13, 13, 512)
    assert np.ptp(ours["pool10"], axis=0).max() > 1e-3
    swapped = write_squeezenet(tmp_path / "swapped.onnx", arrays, pad, swap=True)
    with pytest.raises(DataError, match=r"fire6_squeeze of squeezenet.*Concat"):
        load_weights_onnx(model, swapped)
    other = write_squeezenet(tmp_path / "other.onnx", arrays, 1 - pad)
    with pytest.raises(DataError, match=r"conv10 of squeezenet.*expected pad"):
        load_weights_onnx(model, other)
