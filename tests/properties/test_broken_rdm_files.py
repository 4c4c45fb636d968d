"""Truncated and bit-flipped RDM files: an error with the file's name, or the very same values.

Formats with checksums (npz; compressed .mat) must notice every flip in what they hold. In plain
bytes (a number in a csv or in an uncompressed .mat) a flip can give another number that nobody
could notice; then the reader must still end in numbers.
"""

import io
import pickle
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rsacompare as rc
from rsacompare.errors import DataError, RsacompareError

IDS = ["face", "house", "shoe", "cat"]
RDM = np.array([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0.5 - 0.5]])
MOST_BYTES = 20_000_000


def npz():
    out = io.BytesIO()
    np.savez_compressed(out, stimulus_id=IDS, rdm=RDM)
    return out.getvalue()


def mat5(compressed):
    out = io.BytesIO()
    scipy.io.savemat(
        out,
        {"stimuli": np.array(IDS, dtype=object), "rdm": RDM, "sub": {"RDM": RDM, "name": "s"}},
        do_compression=compressed,
    )
    return out.getvalue()


def mat73():
    out = io.BytesIO()
    with h5py.File(out, "w", userblock_size=512) as file:
        codes = np.array([[ord(c) for c in word.ljust(5)] for word in IDS], dtype=np.uint16).T
        file.create_dataset("stimuli", data=codes).attrs["MATLAB_class"] = np.bytes_("char")
        rdm = file.create_dataset("rdm", data=RDM, compression="gzip", fletcher32=True)
        rdm.attrs["MATLAB_class"] = np.bytes_("double")
    return out.getvalue()


def text():
    return "\n".join([",".join(["", *IDS]), *(
        ",".join([i, *map(str, row)]) for i, row in zip(IDS, RDM.tolist(), strict=True)
    )]).encode()  # fmt: skip


FILES = {
    "x.npz": npz(),
    "x.mat": mat5(True),
    "plain.mat": mat5(False),
    "v73.mat": mat73(),
    "x.csv": text(),
}


def attempt(file):
    """The tree, or None where it was refused in words that name the file."""
    tracemalloc.start()
    try:
        return rc.load_rdms(file)
    except RsacompareError as err:
        assert str(file) in str(err)  # noqa: PT017
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_BYTES, f"{peak / 1e6:.0f} MB for a file of {file.stat().st_size} bytes"


def same(tree):
    values = next(iter(tree.children.values()))["rdm"].values
    return np.array_equal(values.ravel(), RDM[np.triu_indices(4, 1)])


@pytest.mark.parametrize("name", FILES)
def test_whole(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    assert same(rc.load_rdms(tmp_path / name, variable=None if name == "x.csv" else "rdm"))


@pytest.mark.parametrize("name", FILES)
def test_truncated(tmp_path, name):
    file, data = tmp_path / name, FILES[name]
    for keep in sorted({*range(0, len(data), max(len(data) // 60, 1)), len(data) - 1}):
        file.write_bytes(data[:keep])
        tree = attempt(file)
        # a csv cut inside its last number is a shorter number
        assert tree is None or same(tree) or (name == "x.csv" and keep > len(data) - 4), keep


@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped(tmp_path, name, data):
    raw = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path / name
    file.write_bytes(raw)
    tree = attempt(file)
    if tree is not None:
        values = next(iter(tree.children.values()))["rdm"].values
        assert np.isfinite(values).all()
        assert name not in ("x.npz", "x.mat") or same(tree)


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    file = tmp_path / "x.npz"
    bombs = np.empty((4, 4), dtype=object)
    bombs[:] = Bomb()
    np.savez(file, stimulus_id=IDS, rdm=bombs)
    with pytest.raises(DataError, match=r"x\.npz.*'rdm\.npy' holds Python objects.*unpickled"):
        rc.load_rdms(file)
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="cannot be read as npz"):
        rc.load_rdms(file)
    assert not (tmp_path / "ran").exists()


def test_what_matlab_alone_understands_is_refused_where_it_is_wanted(tmp_path):
    file = tmp_path / "x.mat"
    nested = np.empty((2, 2), dtype=object)
    nested[:] = [[1.0, "a"], [RDM, 2.0]]
    scipy.io.savemat(file, {"stimuli": IDS, "rdm": RDM, "cells": nested})
    assert same(rc.load_rdms(file))  # not wanted, not read
    with pytest.raises(DataError, match=r"x\.mat: a cell or struct array of other things"):
        rc.load_rdms(file, variable="cells")


def test_sizes_that_a_file_cannot_hold_are_not_believed(tmp_path):
    """Headers of true form that claim terabytes."""
    file = tmp_path / "x.npz"
    header = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rdm.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(DataError, match="more than the file holds"):
        rc.load_rdms(file, stimulus_id=IDS)
    file = tmp_path / "x.mat"
    with h5py.File(file, "w") as held:
        held.create_dataset("rdm", shape=(10**6, 10**6), chunks=(1000, 1000), dtype="f8")
    with pytest.raises(DataError, match="more than the file can hold"):
        rc.load_rdms(file, stimulus_id=IDS)
