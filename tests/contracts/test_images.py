"""Pictures as they come: read by the stated rule, or refused by a sentence that names them."""

import csv
import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsacompare import plugins
from rsacompare.errors import (
    DataError,
    LabelError,
    MissingDependency,
    ProtocolError,
    RsacompareError,
)
from rsacompare.networks.images import digest, digests, find_stimuli, read_image
from rsacompare.networks.picture import MOST_PIXELS

RGB = (np.add.outer(np.arange(12) * 17, np.arange(16) * 4)[..., None] + [0, 3, 7]).astype(np.uint8)
RGB[3:6, 2:9] = np.random.default_rng(0).integers(0, 256, (3, 7, 3))
GREY = RGB[..., 1]


def encoded(format_, pixels=RGB, mode=None, **options):
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, format_, **options)
    return buffer.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(values, depth, transparent=None, size=None):
    """A PNG by the letter of its specification: Pillow writes no 16-bit colour."""
    values = np.asarray(values).astype(f">u{depth // 8}")
    height, width = size or values.shape[:2]
    colour_type = 2 if values.ndim == 3 else 0
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [chunk(b"IHDR", head)]
    if transparent is not None:
        chunks.append(chunk(b"tRNS", struct.pack(">H", transparent)))
    chunks.append(chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r.tobytes() for r in values))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


LOSSLESS = {
    "png": encoded("PNG"),
    "bmp": encoded("BMP"),
    "tiff": encoded("TIFF"),
    "tiff-lzw": encoded("TIFF", compression="tiff_lzw"),
    "tiff-deflate": encoded("TIFF", compression="tiff_deflate"),
    "webp": encoded("WEBP", lossless=True),
    "ppm": encoded("PPM"),
}
GREYS = {
    "png": encoded("PNG", GREY),
    "tiff": encoded("TIFF", GREY),
    "gif": encoded("GIF", GREY),
    "bmp": encoded("BMP", GREY),
    "pgm": encoded("PPM", GREY),
    "png-palette": encoded("PNG", GREY, "P"),
    "png-opaque-alpha": encoded("PNG", GREY, "LA"),
    "png-16": png(GREY.astype(int) * 256 + 77, 16),
    "tiff-16": encoded("TIFF", GREY.astype(np.uint16) * 256 + 77),
    "pgm-16": encoded("PPM", PIL.Image.fromarray(GREY.astype(np.int32) * 256 + 77, mode="I")),
}
LOSSY = {
    "jpeg": encoded("JPEG"),
    "jpeg-progressive": encoded("JPEG", progressive=True),
    "jpeg-cmyk": encoded("JPEG", RGB, "CMYK"),
    "webp-lossy": encoded("WEBP"),
}
ALL = LOSSLESS | {f"grey-{k}": v for k, v in GREYS.items()} | LOSSY


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_colour_is_the_picture(kind):
    np.testing.assert_array_equal(read_image(LOSSLESS[kind]), RGB)


@pytest.mark.parametrize("kind", GREYS)
def test_grey_stands_in_all_three_colours(kind):
    np.testing.assert_array_equal(read_image(GREYS[kind]), np.stack([GREY] * 3, -1))


def test_one_bit_is_black_and_white():
    bits = GREY > 100
    for format_ in ("PNG", "TIFF", "BMP", "PPM"):
        got = read_image(encoded(format_, PIL.Image.fromarray(bits)))
        np.testing.assert_array_equal(got, np.stack([bits] * 3, -1) * 255)


def test_sixteen_bit_colour_keeps_the_high_byte():
    np.testing.assert_array_equal(read_image(png(RGB.astype(int) * 256 + 200, 16)), RGB)


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "colour"])
def test_twelve_bits_stored_in_sixteen_are_refused_and_not_black(pixels):
    deep = pixels.astype(np.uint16)
    for data in (png(deep * 16, 16), png(deep, 16), tiff(deep * 16, pixels.ndim - 1)):
        with pytest.raises(DataError, match="16 bits but holds nothing above 4095"):
            read_image(data)
    dark = read_image(png(deep // 255, 8))  # as dark, and stated
    assert dark.max() <= 1


def tiff(values, photometric, planar=1, sample_format=1):
    """A TIFF by the letter of its specification, with what Pillow does not write."""
    values = np.asarray(values)
    planes = [values[..., c] for c in range(3)] if planar == 2 else [values]
    n_samples = 3 if values.ndim == 3 else 1
    lists, data = b"", b""  # where more than one SHORT or LONG is said, and the pixels
    start = 8 + 2 + 10 * 12 + 4

    def several(kind, numbers):
        nonlocal lists
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed) <= 4:
            return kind, len(numbers), packed.ljust(4, b"\0")
        lists += packed
        return kind, len(numbers), struct.pack("<I", start + len(lists) - len(packed))

    at = start + 64
    data = b"".join(plane.tobytes() for plane in planes)
    size = len(data) // len(planes)
    entries = {
        256: several(3, [values.shape[1]]),
        257: several(3, [values.shape[0]]),
        258: several(3, [values.dtype.itemsize * 8] * n_samples),
        259: several(3, [1]),
        262: several(3, [photometric]),
        273: several(4, [at + i * size for i in range(len(planes))]),
        277: several(3, [n_samples]),
        278: several(3, [values.shape[0]]),
        279: several(4, [size] * len(planes)),
        284: several(3, [planar]),
    }
    if sample_format != 1:
        entries.pop(278)  # the rows of the only strip need not be said
        entries[339] = several(3, [sample_format] * n_samples)
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHI", tag, kind, n) + value for tag, (kind, n, value) in entries.items()
    )
    head = b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + lists
    return head.ljust(at, b"\0") + data


DEEP = RGB.astype("<u2") * 256 + 77
ODD_TIFFS = {
    "16-bit grey with 0 for white": tiff(DEEP[..., 1], 0),
    "16-bit colours in separate planes": tiff(DEEP, 2, planar=2),
    "signed numbers": tiff(DEEP[..., 1].astype("<i2"), 1, sample_format=2),
}


@pytest.mark.parametrize("why", ODD_TIFFS)
def test_tiffs_that_pillow_shows_wrongly_are_refused(why):
    with PIL.Image.open(io.BytesIO(ODD_TIFFS[why])) as image:
        image.load()  # no complaint
    with pytest.raises(DataError, match=rf"odd\.tif is a TIFF of {why}; save it as 8-bit RGB"):
        read_image(ODD_TIFFS[why], "odd.tif")


def test_tiffs_that_differ_from_those_in_one_word_are_read():
    grey = np.stack([GREY] * 3, -1)
    for data, expected in (
        (tiff(DEEP[..., 1], 1), grey),
        (tiff(GREY, 0), 255 - grey),
        (tiff(DEEP, 2), RGB),
        (tiff(RGB, 2, planar=2), RGB),
    ):
        np.testing.assert_array_equal(read_image(data), expected)


def test_cmyk_by_closed_form_in_tiff_and_in_adobe_jpeg():
    inks = np.random.default_rng(1).integers(0, 256, (4, 5, 4)).astype(np.uint8)
    expected = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    got = read_image(encoded("TIFF", PIL.Image.fromarray(inks, mode="CMYK")))
    assert np.abs(got - expected).max() <= 1
    flat = np.broadcast_to(np.array([10, 200, 90, 40], np.uint8), (16, 16, 4))
    image = PIL.Image.frombytes("CMYK", (16, 16), flat.tobytes())
    got = read_image(encoded("JPEG", image, quality=95))
    expected = (255.0 - flat[..., :3]) * (255.0 - flat[..., 3:]) / 255
    assert np.abs(got - expected).max() <= 3  # inverted it would be 100 off


def test_cmyk_jpeg_without_adobes_mark_is_refused():
    data = LOSSY["jpeg-cmyk"]
    at = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[at + 2 : at + 4])[0]
    with pytest.raises(DataError, match=r"cmyk\.jpg.*without Adobe's mark.*save it as RGB"):
        read_image(data[:at] + data[at + 2 + length :], "cmyk.jpg")


# EXIF 1-8: what has to be done to what is stored
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_the_cameras_orientation_is_applied(orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    expected = TURNED[orientation](RGB)
    for format_, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        got = read_image(encoded(format_, exif=exif, **options))
        np.testing.assert_array_equal(got, expected, err_msg=format_)
    upright = read_image(encoded("JPEG", quality=95)).astype(int)
    jpeg = read_image(encoded("JPEG", quality=95, exif=exif))
    np.testing.assert_array_equal(jpeg, TURNED[orientation](upright))


def test_broken_exif_is_refused_and_an_odd_orientation_ignored():
    with pytest.raises(DataError, match=r"odd\.png: its EXIF is broken .* which way is up"):
        read_image(encoded("PNG", exif=b"Exif\0\0garbage"), "odd.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 0
    np.testing.assert_array_equal(read_image(encoded("PNG", exif=exif)), RGB)


def test_transparency_is_dropped_composited_or_refused(tmp_path):
    alpha = np.full(GREY.shape, 255, np.uint8)
    np.testing.assert_array_equal(read_image(encoded("PNG", np.dstack([RGB, alpha]))), RGB)
    alpha[0, :3] = 0, 51, 128
    path = tmp_path / "shine.png"
    path.write_bytes(encoded("PNG", np.dstack([RGB, alpha])))
    with pytest.raises(
        DataError, match=r"shine\.png is transparent in 1\.6%.*background=\(R, G, B\)"
    ):
        read_image(path)
    got = read_image(path, background=(10, 20, 30))
    a = alpha[..., None] / 255
    expected = np.rint(RGB * a + np.array([10, 20, 30]) * (1 - a))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(read_image(np.dstack([RGB, alpha]), background=(10, 20, 30)), got)
    np.testing.assert_array_equal(got[0, 0], [10, 20, 30])
    with pytest.raises(DataError, match="transparent everywhere"):
        read_image(np.dstack([RGB, alpha * 0]), background=(1, 2, 3))


def test_a_transparent_colour_or_palette_entry_counts_as_transparency():
    keyed = png(GREY, 8, int(GREY[0, 0]))
    palette = encoded("PNG", GREY, "P", transparency=int(GREY[5, 5]))
    deep = png(GREY.astype(int) * 257, 16, int(GREY[4, 4]) * 257)
    for data, value in ((keyed, GREY[0, 0]), (palette, GREY[5, 5]), (deep, GREY[4, 4])):
        with pytest.raises(DataError, match="is transparent in"):
            read_image(data)
        got = read_image(data, background=(9, 8, 7))
        seen = value != GREY
        np.testing.assert_array_equal(got[seen], np.stack([GREY] * 3, -1)[seen])
        assert (got[~seen] == [9, 8, 7]).all()


@pytest.mark.parametrize("background", [(1, 2), "white", (1.0, 2.0, 3.0), (0, 0, 256)])
def test_a_background_is_a_colour(background):
    with pytest.raises(ProtocolError, match="background must be"):
        read_image(RGB, background=background)


def test_of_a_cameras_file_of_two_the_first_is_the_photograph():
    first, second = PIL.Image.fromarray(RGB), PIL.Image.fromarray(255 - RGB)
    data = encoded("MPO", first, save_all=True, append_images=[second], quality=95)
    np.testing.assert_array_equal(read_image(data), read_image(encoded("JPEG", quality=95)))


def test_pillow_images_and_arrays_are_read_by_the_same_rules():
    image = PIL.Image.open(io.BytesIO(GREYS["png-16"]))
    np.testing.assert_array_equal(read_image(image), np.stack([GREY] * 3, -1))
    np.testing.assert_array_equal(read_image(PIL.Image.fromarray(RGB)), RGB)
    for array in (GREY, GREY[..., None], GREY / 255, (GREY / 255).astype(np.float32)):
        np.testing.assert_array_equal(read_image(array), np.stack([GREY] * 3, -1))
    np.testing.assert_array_equal(read_image(GREY > 9)[..., 0], (GREY > 9) * 255)
    np.testing.assert_array_equal(read_image(np.full((1, 1, 3), 0.5)), 128)


def test_what_is_read_is_the_callers_own():
    given = RGB.copy()
    read_image(given)[:] = 0
    np.testing.assert_array_equal(given, RGB)


BAD_ARRAYS = {
    "channels first": (np.zeros((3, 8, 8), np.uint8), "channels first.*moveaxis"),
    "five channels": (np.zeros((8, 8, 5), np.uint8), r"\(8, 8, 5\)"),
    "one row": (np.zeros(8, np.uint8), r"shape \(8,\)"),
    "a batch": (np.zeros((1, 8, 8, 3), np.uint8), r"shape \(1, 8, 8, 3\)"),
    "empty": (np.zeros((0, 8, 3), np.uint8), "empty"),
    "uint16": (np.zeros((8, 8, 3), np.uint16), "uint16: black and white are not known"),
    "int64": (np.zeros((8, 8, 3), int), "int64: black and white"),
    "floats to 255": (np.full((8, 8, 3), 255.0), "from 0 to 1, got 255 to 255.*round"),
    "negative": (np.full((8, 8, 3), -0.1), "from 0 to 1"),
    "NaN": (np.full((8, 8, 3), np.nan), "from 0 to 1, got nan"),
    "text": (np.array([["a"]]), "<U1"),
    "too large": (np.broadcast_to(np.uint8(0), (10_000, 10_000, 3)), "too large"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_are_no_pictures(case):
    array, why = BAD_ARRAYS[case]
    with pytest.raises(DataError, match=f"(?s)^stimulus 's1'.*{why}"):
        read_image(array, "stimulus 's1'")


# above Pillow's limit, but below twice: there it only warns
LARGE = png(GREY, 8, size=(10_000, 10_000))
_IMAGE = PIL.Image.fromarray(RGB)
BAD_FILES = {
    "empty.png": (b"", "is empty"),
    "text.jpg": (b"hello, this is no picture", "no picture that can be read.*PNG"),
    "page.jpg": (b"\n<!doctype html><html>404</html>", "web page.*download"),
    "phone.jpg": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC.*convert"),
    "new.jpg": (b"\0\0\0\x18ftypavif" + bytes(40), "AVIF.*convert"),
    "paper.png": (b"%PDF-1.7 ", "a PDF"),
    "array.png": (b"\x93NUMPY" + bytes(40), "numpy array"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1", "LFS pointer"),
    "annex.JPEG": (b"/annex/objects/MD5E-s1--0.JPEG\n", "git-annex pointer.*git annex get"),
    "packed.png": (b"\x1f\x8b\x08" + bytes(40), "gzip"),
    "half.jp2": (encoded("JPEG2000"), "JPEG 2000"),
    "text.ppm": (b"P3\n1 1\n255\n1 2 3\n", "text form"),
    "moving.gif": (
        encoded("GIF", _IMAGE, save_all=True, append_images=[PIL.Image.fromarray(255 - RGB)]),
        "holds 2 pictures",
    ),
    "moving.png": (
        encoded("PNG", _IMAGE, save_all=True, append_images=[PIL.Image.fromarray(255 - RGB)]),
        "holds 2 pictures",
    ),
    "moving.webp": (
        encoded("WEBP", _IMAGE, save_all=True, append_images=[PIL.Image.fromarray(255 - RGB)]),
        "holds 2 pictures",
    ),
    "pages.tif": (
        encoded("TIFF", _IMAGE, save_all=True, append_images=[PIL.Image.fromarray(255 - RGB)] * 2),
        "holds 3 pictures",
    ),
    "bomb.png": (png(GREY, 8, size=(20_000, 20_000)), "too large"),
    "large.png": (LARGE, "too large.*shrink"),
    "float.tif": (encoded("TIFF", GREY.astype(np.float32)), "F pixels.*8-bit"),
    "int.tif": (encoded("TIFF", GREY.astype(np.int32)), "signed numbers.*8-bit"),
    "lab.tif": (encoded("TIFF", PIL.Image.frombytes("LAB", (2, 2), bytes(12))), "LAB pixels"),
    "drawing.eps": (encoded("EPS"), "PostScript"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_are_refused_say_their_name_and_why(tmp_path, name):
    data, why = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"(?s){name}.*{why}"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_pillow_only_warns_of_is_refused_too():
    with pytest.raises(DataError, match="10000 x 10000 pixels, at most 89,478,485"):
        read_image(LARGE, "large.png")


def test_paths_that_are_no_files(tmp_path):
    (tmp_path / "face_01.png").write_bytes(LOSSLESS["png"])
    with pytest.raises(DataError, match=r"face_1\.png: no such file; did you mean 'face_01\.png'"):
        read_image(tmp_path / "face_1.png")
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "annexed.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="a link that leads nowhere"):
        read_image(tmp_path / "annexed.png")
    with pytest.raises(DataError, match="got NoneType"):
        read_image(None, "stimulus 's1'")


def test_pillows_switch_for_truncated_files_is_not_obeyed(monkeypatch):
    monkeypatch.setattr(PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match=r"LOAD_TRUNCATED_IMAGES is set.*set it to False"):
        read_image(LOSSLESS["png"])


@pytest.mark.filterwarnings("ignore")  # Pillow's warnings, so that they are not what refuses
@pytest.mark.parametrize("kind", ALL)
def test_cut_anywhere_a_file_is_refused_or_still_whole(kind):
    data = ALL[kind]
    whole = read_image(data)
    refused = 0
    for length in range(len(data)):
        try:
            got = read_image(data[:length], "cut")
        except DataError as err:
            refused += str(err).startswith("cut ")
        else:
            np.testing.assert_array_equal(got, whole, err_msg=f"{kind}, {length} bytes")
    assert refused >= len(data) - 12


def test_a_jpeg_whose_second_half_was_never_written_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype(np.uint8)
    data = encoded("JPEG", noise)
    half = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    with PIL.Image.open(io.BytesIO(half)) as image:
        image.load()  # Pillow alone has no complaint
    with pytest.raises(DataError, match="without its end mark"):
        read_image(half)


def test_every_changed_byte_of_a_png_is_noticed_or_harmless():
    data = LOSSLESS["png"]
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x55
        try:
            got = read_image(bytes(changed), "changed")
        except DataError:
            continue
        np.testing.assert_array_equal(got, RGB, err_msg=str(at))


def picture_or_our_error(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            got = read_image(data, "odd.jpg")
        except DataError as err:
            return "odd.jpg" in str(err)
        return got.dtype == np.uint8 and got.ndim == 3 and got.shape[2] == 3


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data):
    assert picture_or_our_error(data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(ALL)),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    st.binary(max_size=20),
)
def test_files_with_changed_bytes(kind, changes, tail):
    data = bytearray(ALL[kind])
    for at, value in changes:
        data[at % len(data)] = value
    assert picture_or_our_error(bytes(data) + tail)


# --- sets of pictures


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for name in ("b/n01518878_10042.JPEG", "a/face.png", "car.PNG", "a/house.v2.png"):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded("JPEG" if name.endswith("JPEG") else "PNG"))
    for name in (".DS_Store", "._car.PNG", "notes.txt", ".cache/car.png", "a/.hidden.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_a_folder_gives_its_pictures_by_name(folder):
    found = find_stimuli(folder)
    assert list(found) == ["face", "house.v2", "n01518878_10042", "car"]
    assert found["n01518878_10042"] == folder / "b/n01518878_10042.JPEG"
    assert found.about.startswith(f"4 pictures of {folder}; 4 other files left out (")
    assert find_stimuli(str(folder)) == found
    assert find_stimuli(found) is found


def test_two_files_of_one_name_are_refused_by_both_names(folder):
    (folder / "car.jpg").write_bytes(LOSSY["jpeg"])
    with pytest.raises(LabelError, match=r"(?s)'car'.*car\.PNG.*car\.jpg"):
        find_stimuli(folder)
    with pytest.raises(LabelError, match=r"(?s)'car'.*car\.PNG.*car\.jpg"):
        find_stimuli([folder / "car.PNG", folder / "car.jpg"])


def test_folders_linked_in_a_circle_end(folder):
    (folder / "a/loop").symlink_to(folder)
    assert len(find_stimuli(folder)) == 4


def test_an_empty_folder_says_what_it_saw(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        DataError, match=r"no pictures \(\.jpg.*1 other files left out \('notes\.txt'\)"
    ):
        find_stimuli(tmp_path)


def test_files_and_patterns(folder, monkeypatch):
    assert list(find_stimuli([folder / "car.PNG", f"{folder}/a/*"])) == ["car", "face", "house.v2"]
    assert len(find_stimuli(f"{folder}/**/*.png")) == 2
    assert list(find_stimuli(folder / "car.PNG")) == ["car"]
    (folder / "odd[1].png").write_bytes(LOSSLESS["png"])
    assert list(find_stimuli([folder / "odd[1].png"])) == ["odd[1]"]
    named = find_stimuli([folder / "car.PNG", folder / "a/face.png"], ["x", "y"])
    assert named == {"x": folder / "car.PNG", "y": folder / "a/face.png"}
    with pytest.raises(DataError, match=r"no picture matches '.*\.gif'"):
        find_stimuli(f"{folder}/*.gif")
    with pytest.raises(ProtocolError, match="pattern has no order"):
        find_stimuli([f"{folder}/a/*"], ["x"])
    with pytest.raises(DataError, match=r"1 of 2 files are not there: '.*gone\.png'"):
        find_stimuli([folder / "car.PNG", folder / "gone.png"])
    with pytest.raises(DataError, match="empty list"):
        find_stimuli([])


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_names_files_beside_it(folder, suffix):
    path = folder / f"table{suffix}"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",")
        writer.writerows([["path", "category", "stimulus_id"], ["car.PNG", "a, b", "007"]])
    assert find_stimuli(path) == {"007": folder / "car.PNG"}


BAD_TABLES = {
    "stimulus_id;path\na;b\n": "one column 'stimulus_id'.*commas; there are: stimulus_id;path",
    "stimulus_id,file\na,car.PNG\n": "one column 'path'.*there are: stimulus_id, file",
    "": "there are: none",
    "stimulus_id,path\n": "no rows",
    "stimulus_id,path\na\n": "line 2 does not have",
    "stimulus_id,path\na,car.PNG\n,car.PNG\n": "line 3 does not have",
    "stimulus_id,path\na,gone.png\nb,car.PNG\n": "1 of 2 files are not there.*gone",
    "stimulus_id,path\na,car.PNG\na,a/face.png\n": "duplicates: 'a'",
    "stimulus_id,path\n\xff\n": "cannot be read as a table|line 2",
    'stimulus_id,path\na,"car': "cannot be read as a table",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_tables_that_are_refused(folder, text):
    path = folder / "bad.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises((DataError, LabelError), match=rf"(?s)bad\.csv.*({BAD_TABLES[text]})"):
        find_stimuli(path)


def test_mappings_and_arrays(folder):
    held = find_stimuli({"s1": str(folder / "car.PNG"), "s2": RGB, "s3": PIL.Image.fromarray(GREY)})
    assert held["s1"] == folder / "car.PNG"
    np.testing.assert_array_equal(held["s3"], np.stack([GREY] * 3, -1))
    batch = np.stack([RGB, 255 - RGB])
    for found in (
        find_stimuli(batch, ["a", "b"]),
        find_stimuli([RGB, 255 - RGB], ["a", "b"]),
        find_stimuli(
            xr.DataArray(
                batch.transpose(1, 2, 3, 0),
                dims=("y", "x", "c", "stimulus"),
                coords={"stimulus_id": ("stimulus", ["a", "b"])},
            )
        ),
    ):
        assert list(found) == ["a", "b"]
        np.testing.assert_array_equal(found["b"], 255 - RGB)


@pytest.mark.parametrize(
    ("given_", "ids", "error", "why"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), None, LabelError, "needs stimulus_id"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["a"], LabelError, "1 stimulus ids for 2 pictures"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["a", "a"], LabelError, "duplicates: 'a'"),
        (np.zeros((2, 8, 8, 3), np.uint8), [1.0, 2.0], LabelError, "must be strings"),
        (np.zeros((2, 3, 8, 8), np.uint8), ["a", "b"], DataError, "channels come first"),
        (np.zeros((8, 8, 3), np.uint8), ["a"], DataError, r"got shape \(8, 8, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), [], DataError, "no pictures"),
        ([RGB], None, LabelError, "needs stimulus_id"),
        ({}, None, DataError, "no pictures"),
        ({"a": None}, None, DataError, "stimulus 'a'.*got NoneType"),
        ({"a": RGB}, ["b"], ProtocolError, "brings its own ids"),
        ({"": RGB}, None, LabelError, "empty"),
        (xr.DataArray(np.zeros((1, 8, 8, 3))), None, LabelError, "needs a coord stimulus_id"),
        (5, None, DataError, "got int"),
        (np.zeros((2, 8, 8, 3), np.uint8), 5, LabelError, "must be one-dimensional"),
        (np.zeros((2, 8, 8, 3), np.uint8), "ab", LabelError, "must be one-dimensional"),
        ({("a", "b"): RGB}, None, LabelError, "must be one-dimensional"),
    ],
)
def test_sets_that_are_refused(given_, ids, error, why):
    with pytest.raises(error, match=why):
        find_stimuli(given_, ids)


def test_registered_sets_and_names_that_are_not(tmp_path, monkeypatch):
    monkeypatch.setitem(plugins._registered["stimuli"], "mine", lambda: {"s1": RGB})
    monkeypatch.setitem(plugins._registered["stimuli"], "broken", lambda: [RGB])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()
    np.testing.assert_array_equal(find_stimuli("mine")["s1"], RGB)
    with pytest.raises(DataError, match=r"stimulus set 'broken'.*got list"):
        find_stimuli("broken")
    with pytest.raises(ProtocolError, match="'kriegskorte92'; did you mean 'kriegeskorte92'"):
        find_stimuli("kriegskorte92")
    with pytest.raises(ProtocolError, match=r"'photografs'; did you mean 'photographs'.*here: /"):
        find_stimuli("photografs")
    with pytest.raises(ProtocolError, match=r"no folder /.*/gone"):
        find_stimuli("gone/photographs")
    (tmp_path / "photographs/face.png").write_bytes(LOSSLESS["png"])
    with pytest.raises(ProtocolError, match=r"did you mean 'photographs/face\.png'"):
        find_stimuli("photographs/fase.png")
    # a folder that is called as a registered set: the set by its name, the folder by its path
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/car.png").write_bytes(LOSSLESS["png"])
    assert list(find_stimuli("mine")) == ["s1"]
    assert list(find_stimuli("./mine")) == list(find_stimuli(Path("mine"))) == ["car"]


def test_the_digest_is_of_content_ids_and_order(folder, tmp_path):
    first = find_stimuli(folder)
    same = {k: Path(v) for k, v in first.items()}
    copy = tmp_path / "copy.png"
    copy.write_bytes(first["car"].read_bytes())
    assert digest(first) == digest({**same, "car": copy})
    assert digest(first) != digest(dict(reversed(first.items())))
    assert digest({"a": RGB}) != digest({"b": RGB})
    assert digest({"a": RGB}) != digest({"a": RGB.reshape(16, 12, 3)})
    assert digest({"a": RGB}) == digest({"a": np.asfortranarray(RGB)})
    copy.write_bytes(copy.read_bytes() + b"x")
    assert digest(first) != digest({**same, "car": copy})
    assert digests(first)["car"] != digests({"car": copy})["car"]
    with pytest.raises(DataError, match=r"stimulus 'x'.*cannot be read: No such file"):
        digest({"x": tmp_path / "gone.png"})


def test_the_limit_is_pillows():
    assert MOST_PIXELS == PIL.Image.MAX_IMAGE_PIXELS


def test_arrays_need_no_pillow_and_files_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    np.testing.assert_array_equal(read_image(RGB), RGB)
    np.testing.assert_array_equal(find_stimuli(RGB[None], ["a"])["a"], RGB)
    with pytest.raises(MissingDependency, match=r'pip install "rsacompare\[networks\]"'):
        read_image(LOSSLESS["png"])


@pytest.mark.parametrize(
    "text", ["x" * 5000, "a/" + "x" * 5000, "\0", "~nobody-of-this-name/x.png", ""]
)
def test_texts_that_are_no_paths(text):
    with pytest.raises(RsacompareError):
        find_stimuli(text)
    with pytest.raises(RsacompareError):
        find_stimuli([text])
    with pytest.raises(DataError):
        read_image(Path(text))
