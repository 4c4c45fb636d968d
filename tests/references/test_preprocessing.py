"""Preprocessing against Pillow, Keras, TensorFlow, torch and the numbers of the papers."""

import json

import numpy as np
import PIL.Image
import pytest

from rsacompare.errors import DataError, ProtocolError
from rsacompare.networks.images import read_image
from rsacompare.networks.preprocess import SCALINGS, Preprocessing
from rsacompare.networks.presets import PRESETS, preprocessing
from rsacompare.networks.resize import RESIZES, resized

SHAPES = [(60, 91), (301, 240), (37, 37), (224, 224), (5, 400), (1, 1)]


def photo(shape, seed=0):
    """Smooth with a little noise and two edges, unlike in the three colours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = [np.sin(y / 9 + c) + np.cos(x / (7 + c)) + (x > shape[1] / 3) for c in range(3)]
    values = 110 + 45 * np.stack(waves, -1) + rng.normal(0, 12, (*shape, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras", reason="needs rsacompare[networks]")


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="needs rsacompare[networks]")


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
@pytest.mark.parametrize("shape", SHAPES)
def test_files_as_keras_loads_and_scales_them(keras, tmp_path, shape, mode):
    """load_img(target_size) and preprocess_input: the path of Yu et al., to the bit."""
    path = tmp_path / "photo.png"
    PIL.Image.fromarray(photo(shape)).save(path)
    loaded = keras.utils.img_to_array(keras.utils.load_img(path, target_size=(224, 224)))
    expected = keras.applications.imagenet_utils.preprocess_input(loaded, mode=mode)
    got = preprocessing(f"keras-{mode}")(read_image(path))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
def test_antialiased_filters_are_those_of_keras_load_img(keras, tmp_path, how):
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(photo((301, 240))).save(path)
    loaded = keras.utils.load_img(path, target_size=(96, 128), interpolation=how)
    got = Preprocessing((96, 128), "raw", f"{how}_antialias")(read_image(path))
    np.testing.assert_array_equal(got, keras.utils.img_to_array(loaded))


@pytest.mark.parametrize(
    "module",
    [
        "densenet", "efficientnet", "convnext", "inception_v3", "mobilenet", "mobilenet_v2",
        "mobilenet_v3", "nasnet", "resnet", "resnet_v2", "vgg16", "xception",
    ],
)  # fmt: skip
def test_every_module_of_keras_applications_has_one_of_the_modes(keras, module):
    modes = {
        "densenet": "torch", "efficientnet": "raw", "convnext": "raw", "mobilenet_v3": "raw",
        "resnet": "caffe", "vgg16": "caffe",
    }  # fmt: skip
    picture = photo((224, 224))
    expected = getattr(keras.applications, module).preprocess_input(picture.astype(np.float32))
    got = preprocessing(f"keras-{modes.get(module, 'tf')}")(picture)
    np.testing.assert_array_equal(got, expected)


def test_black_in_caffe_mode_is_minus_the_mean_pixel_blue_first():
    black = np.zeros((2, 2, 3), np.uint8)
    got = preprocessing("yu2018")(black)
    assert got.shape == (224, 224, 3)
    np.testing.assert_allclose(got[0, 0], [-103.939, -116.779, -123.68], atol=1e-5)
    for name in ("caffe-squash-227", "caffe-256-227"):
        got = preprocessing(name)(black)
        assert got.shape == (227, 227, 3)
        np.testing.assert_allclose(
            got[5, 5], [-104.00698793, -116.66876762, -122.67891434], atol=1e-5
        )
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(preprocessing("yu2018")(red)[0, 0, 2], 200 - 123.68, atol=1e-4)


def test_god_script_bicubic_straight_to_227():
    """What GOD's makedata_features.py does, step by step in Pillow and numpy (FACTS 5)."""
    picture = photo((500, 375))
    image = PIL.Image.fromarray(picture).resize((227, 227), PIL.Image.Resampling.BICUBIC)
    expected = np.asarray(image, dtype=np.float64)[:, :, ::-1]
    expected = expected - np.array([104.00698793, 116.66876762, 122.67891434])
    np.testing.assert_allclose(preprocessing("caffe-squash-227")(picture), expected, atol=1e-4)


def test_torchvision_by_closed_form():
    """Resize(256), CenterCrop(224), ToTensor, Normalize: the same steps, written out."""
    torch = pytest.importorskip("torch", reason="needs rsacompare[test]")
    for shape in ((300, 401), (401, 300), (200, 513), (513, 200)):
        picture = photo(shape)
        short = min(shape)
        height, width = (int(256 * n / short) for n in shape)
        image = PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.BILINEAR)
        top, left = (round((n - 224) / 2.0) for n in (height, width))
        image = image.crop((left, top, left + 224, top + 224))
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32).div(255)
        mean, std = (
            torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        expected = tensor.sub(mean).div(std).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(preprocessing("torchvision")(picture), expected, atol=1e-6)


def test_caffe_squashes_to_256_and_cuts_from_14():
    """The window [14:241] of FACTS 5, whatever the picture's proportions."""
    place = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 256, 3))
    got = preprocessing("caffe-256-227", scaling="raw", resize="nearest")(place)
    np.testing.assert_array_equal(got[:, 0, 0], np.arange(14, 241))
    wide = np.repeat(place, 3, axis=1)
    got_wide = preprocessing("caffe-256-227", scaling="raw", resize="nearest")(wide)
    np.testing.assert_array_equal(got_wide, got)


def test_a_crop_rounds_half_a_pixel_as_its_original_does():
    rows = np.broadcast_to(np.arange(33, dtype=np.uint8)[:, None, None], (33, 33, 3))
    for fit, first in (("crop", 2), ("squash_crop", 1)):  # 3 to spare: 1.5
        made = Preprocessing((30, 30), "raw", "nearest", fit, resize_to=33)
        assert made(rows)[0, 0, 0] == first


def test_a_crop_keeps_proportions_and_a_squash_does_not():
    disc = np.zeros((100, 200, 3), np.uint8)
    y, x = np.mgrid[:100, :200]
    disc[(y - 49.5) ** 2 + (x - 99.5) ** 2 < 30**2] = 255
    cut = Preprocessing((50, 50), "raw", "bilinear_antialias", "crop", resize_to=50)(disc)
    squashed = Preprocessing((50, 50), "raw", "bilinear_antialias")(disc)
    extent = [
        [np.ptp(np.flatnonzero(v[..., 0].max(a) > 127)) for a in (1, 0)] for v in (cut, squashed)
    ]
    assert extent[0][0] == extent[0][1] == 29
    assert extent[1][0] == pytest.approx(2 * extent[1][1], abs=1)


@pytest.mark.parametrize("size", [(48, 64), (224, 224), (301, 500), (3, 2)])
def test_linear_without_antialias_is_tensorflows_and_torchs(tf, size):
    torch = pytest.importorskip("torch", reason="needs rsacompare[test]")
    picture = photo((120, 161))
    got = resized(picture, size, "bilinear_no_antialias")
    by_tf = tf.image.resize(picture, size, method="bilinear", antialias=False).numpy()
    np.testing.assert_allclose(got, by_tf, atol=0.002)  # TensorFlow places in float32
    tensor = torch.from_numpy(picture.astype(np.float64)).permute(2, 0, 1)[None]
    by_torch = torch.nn.functional.interpolate(
        tensor, size=size, mode="bilinear", align_corners=False, antialias=False
    )
    np.testing.assert_allclose(got, by_torch[0].permute(1, 2, 0).numpy(), atol=1e-6)


@pytest.mark.parametrize("size", [(48, 64), (224, 224), (301, 500), (7, 5)])
def test_cubic_without_antialias_is_tensorflows(tf, size):
    picture = photo((120, 161))
    got = resized(picture, size, "bicubic_no_antialias")
    scale = np.array(size, np.float32) / np.array(picture.shape[:2], np.float32)
    exact = tf.raw_ops.ScaleAndTranslate(
        images=picture[None].astype(np.float32), size=size, scale=scale,
        translation=[0.0, 0.0], kernel_type="keyscubic", antialias=False,
    ).numpy()[0]  # fmt: skip
    np.testing.assert_allclose(got, exact, atol=0.005)
    # tf.image.resize takes the same cubic from a table of 1,024 places
    table = tf.image.resize(picture, size, method="bicubic", antialias=False).numpy()
    assert np.abs(got - table).max() < 0.2
    assert np.abs(got - table).mean() < 0.01


def test_shrinking_tells_the_filters_apart():
    """A fine grating turns to grey with antialias, and to another grating without."""
    grating = np.zeros((240, 240, 3), np.uint8)
    grating[:, ::2] = 255
    spread = {how: float(np.std(resized(grating, (70, 70), how))) for how in RESIZES}
    assert spread["bilinear_antialias"] < 15
    assert spread["bicubic_antialias"] < 15
    assert min(spread[f"{k}_no_antialias"] for k in ("bilinear", "bicubic")) > 40
    assert spread["nearest"] > 100


def test_enlarging_pillow_and_sampling_agree_but_for_rounding():
    picture = np.clip(photo((40, 50)), 60, 190)  # so that no overshoot is cut off at 255
    for kind in ("bilinear", "bicubic"):
        by_pillow = resized(picture, (120, 150), f"{kind}_antialias").astype(float)
        sampled = resized(picture, (120, 150), f"{kind}_no_antialias")
        assert np.abs(by_pillow - sampled).max() <= 1.2  # two passes rounded to 8 bits


def test_quantised_input_pixels_as_they_are():
    """The MobileNets of the registry: uint8, scale 1/128, zero point 128."""
    picture = photo((128, 128))
    made = Preprocessing((128, 128), "raw", dtype="uint8")
    np.testing.assert_array_equal(made(picture), picture)
    assert made(picture).dtype == np.uint8
    bgr = Preprocessing((128, 128), "raw", dtype="uint8", channels="bgr")
    np.testing.assert_array_equal(bgr(picture), picture[..., ::-1])


def test_quantising_pixels_by_their_file_is_not_the_pixels_themselves():
    """-1 to 1 in steps of 1/128 about 128 moves the brighter half by one: hence `raw`."""
    every = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (1, 256, 3))
    made = Preprocessing((1, 256), "tf", dtype="uint8", quantization=(0.0078125, 128))
    moved = made(every).astype(int) - every
    np.testing.assert_array_equal(np.flatnonzero(moved[0, :, 0] == 1), np.arange(128, 255))
    assert set(np.unique(moved)) == {0, 1}


@pytest.mark.parametrize(
    ("dtype", "scaling", "quantization"),
    [
        ("int8", "tf", (1 / 127.5, -1)),
        ("uint8", "tf", (0.0078125, 128)),
        ("int8", "unit", (1 / 255, -128)),
        ("int8", "torch", (0.0186, -14)),
        ("int8", "raw", (1.0, -128)),
    ],
)
def test_quantisation_as_tensorflow_quantises(tf, dtype, scaling, quantization):
    every = np.arange(256, dtype=np.uint8)
    picture = np.broadcast_to(every[None, :, None], (1, 256, 3))
    real = Preprocessing((1, 256), scaling)(picture)
    got = Preprocessing((1, 256), scaling, dtype=dtype, quantization=quantization)(picture)
    scale, zero = quantization
    limits = np.iinfo(dtype)
    expected = tf.quantization.quantize(
        real,
        (limits.min - zero) * scale,
        (limits.max - zero) * scale,
        tf.qint8 if dtype == "int8" else tf.quint8,
        mode="MIN_FIRST",
        round_mode="HALF_AWAY_FROM_ZERO",
    ).output
    np.testing.assert_array_equal(got, tf.cast(expected, tf.int32).numpy())
    error = np.abs((got.astype(float) - zero) * scale - real)
    inside = (got > limits.min) & (got < limits.max)
    assert error[inside].max() <= scale / 2 * 1.001


def test_integers_round_half_away_from_zero_and_stop_at_the_ends():
    halves = np.array([[[1, 3, 255]]], np.uint8)
    made = Preprocessing((1, 1), "raw", dtype="int8", quantization=(2.0, -100))
    np.testing.assert_array_equal(
        made(halves), [[[-99, -98, 28]]]
    )  # .5 -> 1, 1.5 -> 2, 127.5 -> 128
    ends = Preprocessing((1, 1), "raw", dtype="uint8", quantization=(0.5, 0))
    np.testing.assert_array_equal(ends(halves), [[[2, 6, 255]]])


def test_own_mean_and_deviation_stay_with_their_colours():
    picture = photo((9, 9))
    mean, std = (10.0, 20.0, 30.0), (1.0, 2.0, 4.0)
    rgb = Preprocessing((9, 9), "own", mean=mean, std=std)(picture)
    np.testing.assert_allclose(rgb, (picture - np.array(mean)) / std, atol=1e-5)
    bgr = Preprocessing((9, 9), "own", mean=mean, std=std, channels="bgr")(picture)
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])
    caffe_in_rgb = preprocessing("keras-caffe", size=9, channels="rgb")(picture)
    np.testing.assert_array_equal(caffe_in_rgb[..., ::-1], preprocessing("yu2018", size=9)(picture))


@pytest.mark.parametrize("scaling", [s for s in SCALINGS if s != "own"])
def test_scalings_keep_their_range(scaling):
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    got = Preprocessing((1, 2), scaling)(ends)
    width = {"tf": 2, "unit": 1, "torch": 1 / np.array([0.229, 0.224, 0.225])}
    np.testing.assert_allclose(got[0, 1] - got[0, 0], width.get(scaling, 255), rtol=1e-5)


EXAMPLES = {
    **PRESETS,
    "int8": Preprocessing((96, 96), "tf", "nearest", dtype="int8", quantization=(0.5, -3)),
    "own": Preprocessing(
        (8, 9), "own", "bicubic_no_antialias", "crop", 32, "bgr", mean=(1, 2, 3), std=(4, 5, 6)
    ),
    "numpy": Preprocessing(np.array([8, 9]), "raw", dtype="uint8"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_through_json_and_back_it_is_the_same(name):
    held = json.loads(json.dumps(EXAMPLES[name].as_dict()))
    again = preprocessing(held)
    assert again == EXAMPLES[name]
    assert hash(again) == hash(EXAMPLES[name])
    picture = photo((40, 50))
    np.testing.assert_array_equal(again(picture), EXAMPLES[name](picture))


def test_a_changed_scaling_brings_its_own_order_of_colours():
    assert preprocessing("yu2018").channels == "bgr"
    assert preprocessing("yu2018", scaling="torch").channels == "rgb"
    assert preprocessing("yu2018", scaling="torch", channels="bgr").channels == "bgr"
    assert preprocessing("keras-tf", scaling="bvlc") == Preprocessing((224, 224), "bvlc")
    assert preprocessing(PRESETS["yu2018"]) is PRESETS["yu2018"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"size": (0, 5)}, "size must be"),
        ({"size": 5.5}, "size must be"),
        ({"size": (1, 2, 3)}, "size must be"),
        ({"size": None}, "size must be"),
        ({"size": "ab"}, "size must be"),
        ({"size": (True, 2)}, "size must be"),
        ({"size": (100_000, 100_000)}, "larger than 89,478,485"),
        ({"scaling": "cafe"}, "unknown scaling 'cafe'; did you mean 'caffe'"),
        ({"resize": "bilinear"}, "unknown resize 'bilinear'; did you mean 'bilinear_"),
        ({"resize": ["nearest"]}, "unknown resize"),
        ({"fit": "centre"}, "unknown fit"),
        ({"dtype": "float64"}, "unknown dtype 'float64'"),
        ({"channels": "gbr"}, "unknown channels 'gbr'"),
        ({"fit": "crop"}, "resize_to must be"),
        ({"fit": "crop", "resize_to": 7}, "at least 8, got 7"),
        ({"resize_to": 256}, "resize_to is for fit='crop'"),
        ({"quantization": (0.5, 1)}, "needs dtype"),
        ({"dtype": "int8"}, "needs quantization"),
        ({"dtype": "uint8", "scaling": "tf"}, "needs quantization"),
        ({"dtype": "uint8", "quantization": (0, 1)}, "quantization must be"),
        ({"dtype": "uint8", "quantization": (0.5, 1.5)}, "quantization must be"),
        ({"dtype": "uint8", "quantization": 3}, "quantization must be"),
        ({"dtype": "uint8", "quantization": (float("nan"), 0)}, "quantization must be"),
        ({"mean": (1, 2, 3)}, "mean .* goes with scaling='own'"),
        ({"scaling": "own", "mean": (1, 2, 3)}, "std .* goes with scaling='own', got std=None"),
        ({"scaling": "own", "mean": (1, 2), "std": (1, 1, 1)}, "mean must be three numbers"),
        ({"scaling": "own", "mean": (1, 2, 3), "std": (1, 0, 1)}, "std must be finite and not 0"),
        ({"scaling": "own", "mean": (1, 2, float("inf")), "std": (1, 1, 1)}, "mean must be finite"),
    ],
)
def test_choices_that_are_refused(options, why):
    with pytest.raises(ProtocolError, match=why):
        Preprocessing(**{"size": (8, 8), **options})


def test_stored_forms_that_are_refused():
    with pytest.raises(ProtocolError, match="unknown key 'shorter_side'"):
        preprocessing({"size": [8, 8], "shorter_side": 3})
    with pytest.raises(ProtocolError, match=r"'size'.*missing"):
        preprocessing({"scaling": "tf"})
    with pytest.raises(
        ProtocolError, match="unknown preprocessing 'yu2081'; did you mean 'yu2018'"
    ):
        preprocessing("yu2081")
    with pytest.raises(ProtocolError, match="unknown key 'siez'; did you mean 'size'"):
        preprocessing("yu2018", siez=3)


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (np.zeros((8, 8, 3)), "float64.*read_image makes it"),
        (np.zeros((8, 8), np.uint8), r"got \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"got \(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (np.zeros((1, 60_000, 3), np.uint8), "60000 x 1 is too long and thin.*squash"),
    ],
)
def test_pictures_that_are_refused(picture, why):
    with pytest.raises(DataError, match=f"stimulus 's1': .*{why}|stimulus 's1': {why}"):
        preprocessing("torchvision")(picture, "stimulus 's1'")


def test_the_picture_given_is_left_as_it_is():
    picture = photo((224, 224))
    before = picture.copy()
    for made in PRESETS.values():
        made(picture)[:] = 0
    np.testing.assert_array_equal(picture, before)
    raw = Preprocessing((224, 224), "raw", dtype="uint8")
    raw(picture)[:] = 0
    np.testing.assert_array_equal(picture, before)
