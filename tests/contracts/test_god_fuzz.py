"""Damaged files: our error with the file's name, or values, but no traceback, hang or flood."""

import random
import resource
import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

import rsacompare as rc
from rsacompare.datasets.bdata import open_bdata
from rsacompare.errors import DataError, RsacompareError

COLUMNS = {
    "VoxelData": np.random.default_rng(0).standard_normal((4, 6)),
    "DataType": [1, 1, 2, 3],
    "Run": [1, 1, 2, 3],
    "stimulus_id": [1518878.010042, 1518878.012028, 1443537.022563, 1443537],
}
MARKS = {"ROI_V1": [1, 1, 0, 0, 0, 0], "ROI_VC": [1, 1, 1, 1, 0, 0], "voxel_x": range(6)}
FORMS = {"h5": (".h5", "dataset"), "mat": (".mat", "dataset"), "packed mat": (".mat", "dataSet")}
LIMIT = 30e6


@pytest.fixture(params=FORMS)
def sound(request, tmp_path, write_bdata):
    return write_sound(request.param, tmp_path, write_bdata)


def write_sound(form, tmp_path, write_bdata):
    """A sound file of one subject, and its bytes."""
    suffix, spelling = FORMS[form]
    file = tmp_path / f"Subject1{suffix}"
    write_bdata(file, COLUMNS, MARKS, spelling)
    if suffix == ".h5":  # without the header, where bdpy puts the source text of its callers
        with h5py.File(file) as whole, h5py.File(tmp_path / "short", "w") as short:
            for name in ("dataset", "metadata"):
                whole.copy(name, short)
        (tmp_path / "short").rename(file)
    return file, file.read_bytes()


def outcome(file):
    """None for a tree, else the error; anything but ours passes through and fails the test."""
    error = None
    try:
        rc.load_dataset("god", path=str(file.parent))
    except RsacompareError as err:
        error = err
    assert error is None or file.name in str(error), error
    return error


def test_a_truncated_file_is_told_at_any_length(sound):
    file, data = sound
    assert outcome(file) is None
    cuts = sorted({0, 1, 7, 8, 127, 128, 129, 136, len(data) - 1, *range(0, len(data), 97)})
    for cut in cuts:
        file.write_bytes(data[:cut])
        error = outcome(file)
        # the last variable of an uncompressed mat is a header that nobody needs
        if error is None:
            assert file.suffix == ".mat"
            assert cut >= data.index(b"header") - 60
        else:
            assert isinstance(error, DataError)


def test_flipped_bits_raise_ours_or_nothing(sound):
    file, data = sound
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    errors = 0
    for seed in range(200):
        rng = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 4])):
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if seed % 7 == 0:
            at = rng.randrange(len(data) - 4)
            damaged[at : at + 4] = rng.choice([b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0" * 4])
        file.write_bytes(damaged)
        errors += outcome(file) is not None
    assert errors > 20
    # in kB; the libraries themselves are loaded by then
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_heap_that_hangs_hdf5_is_read_by_us(tmp_path, write_bdata):
    """A damaged size in the heap of the keys: HDF5 2.0 reads it for ever."""
    file, data = write_sound("h5", tmp_path, write_bdata)
    for offset in (
        *range(15, 64, 8),
        *range(415, 435),
    ):  # at 425 it is a size, and h5py does not come back
        damaged = bytearray(data)
        damaged[data.index(b"GCOL") + offset] ^= 4
        file.write_bytes(damaged)
        outcome(file)
    damaged = data.replace(b"GCOL", b"GCOX")
    file.write_bytes(damaged)
    assert "no texts at byte" in str(outcome(file))


def test_a_shape_larger_than_the_file_is_not_allocated(tmp_path):
    file = tmp_path / "Subject1.h5"
    with h5py.File(file, "w") as held:
        held.create_dataset("dataset", shape=(1 << 30, 1 << 10), dtype="f8", chunks=(64, 64))
        held["metadata/key"] = [b"VoxelData"]
        held["metadata/value"] = np.ones((1, 3))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"Subject1\.h5: 'dataset' declares shape"):
            open_bdata(file)
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()


def matrix(kind, shape, body, name=b"dataSet"):
    """A variable of a v5 file as bytes: flags, dimensions, name, body."""
    dims = struct.pack(f"<{len(shape)}i", *shape)
    dims += b"\0" * (-len(dims) % 8)
    parts = struct.pack("<IIII", 6, 8, kind, 0)
    parts += struct.pack("<II", 5, 4 * len(shape)) + dims
    parts += struct.pack("<II", 1, len(name)) + name + b"\0" * (-len(name) % 8) + body
    return struct.pack("<II", 14, len(parts)) + parts


HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
NUMBERS = struct.pack("<II4d", 9, 32, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (matrix(6, (2, 3), NUMBERS), "4 values for shape"),
        (matrix(6, (1 << 30, 1 << 30), NUMBERS), "4 values for shape"),
        (matrix(6, (-2, -2), NUMBERS), "an array of shape"),
        (matrix(1, (1 << 30, 8), NUMBERS), "a cell array claims"),
        (struct.pack("<II", 14, 1 << 31), "2147483648 bytes are claimed"),
        (struct.pack("<II", 3, 8) + b"\0" * 8, "an element of type 3"),
    ],
)
def test_a_mat_that_declares_too_much_is_told_before_it_is_allocated(tmp_path, variable, message):
    file = tmp_path / "Subject1.mat"
    file.write_bytes(HEAD + variable)
    with pytest.raises(DataError, match=rf"Subject1\.mat cannot be read as MATLAB .*{message}"):
        open_bdata(file)


def test_a_compressed_variable_is_not_unpacked_beyond_what_it_declares(tmp_path):
    file = tmp_path / "Subject1.mat"
    for declared in (1 << 31, 4000):
        whole = struct.pack("<II", 14, declared) + matrix(6, (2, 2), NUMBERS)[8:]
        packed = zlib.compress(whole + b"\0" * 50_000_000)
        file.write_bytes(HEAD + struct.pack("<II", 15, len(packed)) + packed)
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=r"Subject1\.mat"):
                open_bdata(file)
            assert tracemalloc.get_traced_memory()[1] < LIMIT
        finally:
            tracemalloc.stop()


def test_a_v73_mat_and_other_files_are_refused_in_a_sentence(tmp_path):
    file = tmp_path / "Subject1.mat"
    with h5py.File(file, "w", userblock_size=512) as held:
        held["dataSet"] = np.eye(3)
    with open(file, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    with pytest.raises(DataError, match=r"Subject1\.mat is a MATLAB -v7\.3 file.*'-v7'"):
        rc.load_dataset("god", path=str(tmp_path))
    file.write_bytes(b"neither" * 100)
    with pytest.raises(DataError, match="neither HDF5 nor a MATLAB v5"):
        open_bdata(file)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        open_bdata(tmp_path / "absent.h5")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        open_bdata(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("metadata"), "holds no 'metadata', so it is no BData file"),
        (lambda f: f.pop("dataset"), "holds no 'dataset'"),
        (lambda f: f.pop("metadata/value"), "'metadata/value' is not an array"),
        (lambda f: put(f, "metadata/value", np.ones((2, 9))), "has shape"),
        (lambda f: put(f, "metadata/key", np.arange(7)), "the keys are int64"),
        (lambda f: put(f, "dataset", np.ones((4, 9), "f4")), "holds float32, expected float64"),
        (lambda f: put(f, "dataset", np.ones(9)), r"shape \(9,\)"),
        (lambda f: put(f, "dataset", np.full((4, 9), b"x")), "holds .S1"),
    ],
)
def test_an_hdf5_file_of_another_kind_is_refused(tmp_path, write_bdata, change, message):
    file = tmp_path / "Subject1.h5"
    write_bdata(file, COLUMNS, MARKS)
    with h5py.File(file, "a") as held:
        change(held)
    with pytest.raises(DataError, match=message) as caught:
        open_bdata(file)
    assert "Subject1.h5" in str(caught.value)


def put(file, name, values):
    del file[name]
    file[name] = values


def test_packed_and_chunked_arrays_and_fixed_length_keys_are_read(tmp_path, write_bdata):
    judge = write_bdata(tmp_path / "a.h5", COLUMNS, MARKS)
    with h5py.File(tmp_path / "a.h5", "a") as held:
        put(held, "metadata/key", np.array(judge.metadata.key, dtype="S12"))
        del held["dataset"]
        held.create_dataset("dataset", data=judge.dataset, chunks=(2, 3), compression="gzip")
    found = open_bdata(tmp_path / "a.h5")
    assert list(found.keys) == judge.metadata.key
    mask = found.select("ROI_* | Run")
    np.testing.assert_array_equal(found.read(mask), judge.select("ROI_* | Run"))


def test_scattered_rows_and_columns_over_many_blocks(tmp_path, monkeypatch):
    from rsacompare.datasets import bdata

    monkeypatch.setattr(bdata, "BLOCK_BYTES", 600)
    monkeypatch.setattr(bdata, "COLUMN_GAP", 7)
    rng = np.random.default_rng(0)
    data = rng.standard_normal((57, 40))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dataset"] = data
        file["metadata/key"] = [b"A"]
        file["metadata/value"] = np.ones((1, 40))
    held = open_bdata(tmp_path / "a.h5")
    for share in (0.0, 0.05, 0.3, 1.0):
        rows, columns = rng.random(57) <= share, rng.random(40) <= share
        np.testing.assert_array_equal(held.read(columns, rows), data[np.ix_(rows, columns)])
