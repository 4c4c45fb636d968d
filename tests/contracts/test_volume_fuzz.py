"""Damaged NIfTI files: an error of ours with the file's name, in no time and in little memory."""

import gzip
import time
import tracemalloc

import nibabel
import numpy as np
import pytest

from rsacompare.datasets import volumes
from rsacompare.datasets.images import open_image
from rsacompare.datasets.load import load_dataset
from rsacompare.errors import DataError, RsacompareError

SHAPE, N = (8, 7, 6), 12
MOST_MEMORY = 64 * 2**20
MOST_SECONDS = 5.0
HEADER = 352


@pytest.fixture(scope="module", params=[".nii", ".nii.gz"])
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    values = rng.integers(-300, 300, (*SHAPE, N)).astype(np.int16)
    nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1])).to_filename(folder / f"b{request.param}")
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 2:5, 2:4] = 1
    nibabel.Nifti1Image(mask, np.diag([3.0, 3, 3, 1])).to_filename(folder / f"m{request.param}")
    return folder / f"b{request.param}", folder / f"m{request.param}"


def load(betas, mask):
    return load_dataset(
        "nifti", betas={"s": betas}, labels=[f"p{i}" for i in range(N)], masks={"roi": mask}
    )


def read(betas, mask):
    """What every loader does with its files, without the tree."""
    image = open_image(betas)
    ijk, _ = volumes.voxels_of({"roi": volumes.read_mask([mask], image.grid)}, str(mask))
    assert image.read(ijk).shape == (image.n_volumes, len(ijk))


def judge(betas, mask, act=read):
    """None when it loads, else what is told: an error of ours that names a file, cheaply."""
    told = None
    tracemalloc.start()
    start = time.perf_counter()
    try:
        act(betas, mask)
    except RsacompareError as err:
        told = str(err)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY, f"{peak / 2**20:.0f} MiB"
    assert seconds < MOST_SECONDS
    assert told is None or betas.name in told or mask.name in told, told
    return told


def damage(file, tmp_path, data):
    out = tmp_path / f"damaged-{file.name}"
    out.write_bytes(data)
    return out


@pytest.mark.parametrize("which", [0, 1])
def test_truncated(whole, tmp_path, which):
    """Cut anywhere, betas or mask: never loads, always named."""
    data = whole[which].read_bytes()
    for size in sorted({0, 1, 2, 3, 10, 18, 100, 347, 348, 351, 352, *range(0, len(data), 397)}):
        if size >= len(data):
            continue
        files = list(whole)
        files[which] = damage(whole[which], tmp_path, data[:size])
        err = judge(*files, act=load)
        assert err is not None, size
        assert files[which].name in err
    files[which] = damage(whole[which], tmp_path, data[:-1])
    assert judge(*files) is not None


@pytest.mark.parametrize("which", [0, 1])
def test_bits_of_the_header(whole, tmp_path, which):
    """Each byte of the header in turn, three bits of it: loads with the right shape, or is told."""
    packed = whole[which].suffix == ".gz"
    data = whole[which].read_bytes()
    plain = gzip.decompress(data) if packed else data
    told = 0
    for byte in range(HEADER):
        bit = (byte * 3) % 8
        flipped = bytearray(plain)
        flipped[byte] ^= 1 << bit
        out = gzip.compress(bytes(flipped), 1) if packed else bytes(flipped)
        files = list(whole)
        files[which] = damage(whole[which], tmp_path, out)
        told += judge(*files) is not None
    assert told >= 20  # sizes, type, offset, scale, place, magic


@pytest.mark.parametrize("which", [0, 1])
def test_bits_of_the_file(whole, tmp_path, which):
    """Any bit: compressed data have a checksum, so that every flip in them is told."""
    data = whole[which].read_bytes()
    rng = np.random.default_rng(which)
    packed = whole[which].suffix == ".gz"
    for place in rng.integers(18 if packed else HEADER, len(data), 60):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        files = list(whole)
        files[which] = damage(whole[which], tmp_path, bytes(flipped))
        err = judge(*files)
        if packed and err is None:  # bits that say the same otherwise: zeros from elsewhere
            assert gzip.decompress(bytes(flipped)) == gzip.decompress(data), place
        elif packed:
            assert files[which].name in err


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_terabytes(tmp_path, packed):
    """Sizes are checked against the file first; a gzip stream holds at most 1032 times itself."""
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float64), np.eye(4))
    file = tmp_path / "small.nii"
    image.to_filename(file)
    data = bytearray(file.read_bytes())
    data[40:56] = np.array([4, 30000, 30000, 30000, 30000, 1, 1, 1], np.int16).tobytes()
    file = tmp_path / ("huge.nii.gz" if packed else "huge.nii")
    file.write_bytes(gzip.compress(bytes(data)) if packed else bytes(data))
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"huge\.nii.*promises shape \(30000, 30000, 30000, 30000\)"
    ):
        open_image(file)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_bomb_costs_no_memory(tmp_path):
    """A header that promises what deflate could hold, and less there: memory is what is there."""
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
    image.to_filename(tmp_path / "small.nii")
    data = bytearray((tmp_path / "small.nii").read_bytes()[:HEADER])
    data[40:56] = np.array([3, 320, 320, 320, 1, 1, 1, 1], np.int16).tobytes()
    file = tmp_path / "bomb.nii.gz"
    with gzip.open(file, "wb", compresslevel=1) as out:
        out.write(bytes(data))
        out.write(bytes(2**24))  # 16 of the 63 MiB that are promised
    small = tmp_path / "m.nii"
    nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)).to_filename(small)
    tracemalloc.start()
    with pytest.raises(RsacompareError, match=r"bomb\.nii\.gz .*EOFError"):
        load_dataset("nifti", betas={"s": file}, labels=["a"])
    assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    tracemalloc.stop()


def test_files_that_are_no_images(tmp_path):
    for name, data in (
        ("a.nii", b""),
        ("b.nii.gz", b"\x1f\x8b"),
        ("c.nii", b"PK\3\4" + bytes(900)),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            open_image(tmp_path / name)
    with pytest.raises(DataError, match="no file"):
        open_image(tmp_path)
