"""Version 5 MATLAB files: every class of array against scipy's reader, real files included."""

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from rsacompare.schema import matlab5

RNG = np.random.default_rng(2)
DTYPES = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def written(held, **options):
    out = io.BytesIO()
    scipy.io.savemat(out, held, **options)
    return out.getvalue()


def equal(ours, theirs):
    """Ours against what scipy gives for the same bytes."""
    if isinstance(ours, matlab5.Refused):  # somewhere inside
        return
    if isinstance(ours, matlab5.Cells):
        flat = theirs.ravel(order="F")
        assert len(ours.values) == flat.size
        for mine, other in zip(ours.values, flat, strict=True):
            if isinstance(mine, dict):
                assert list(mine) == list(other.dtype.names if hasattr(other, "dtype") else [])
                for key, value in mine.items():
                    equal(value, other[key])
            else:
                equal(mine, other)
    elif ours.dtype.kind == "U":
        assert ours.tolist() == [str(t).rstrip() for t in np.ravel(theirs)] or theirs.size == 0
    else:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("compressed", [False, True])
def test_numbers_text_cells_and_structs(compressed):
    held = {d: (RNG.standard_normal((3, 4, 2)) * 50).astype(d) for d in DTYPES}
    held |= {
        "scalar": 3.5,
        "empty": np.zeros((0, 3)),
        "flags": np.array([[True, False]]),
        "whole": np.arange(6.0).reshape(2, 3),  # MATLAB packs such numbers into bytes
        "text": "räksmörgås",
        "rows": np.array(["one", "three", "äö"]),
        "cell": np.array([["a", 1.0], ["bc", np.eye(2)]], dtype=object),
        "struct": {"RDM": np.eye(3), "name": "x", "inner": {"deep": "er"}},
        "structs": np.array([[("p", 1.0), ("q", 2.0)]], dtype=[("name", "O"), ("v", "O")]),
    }
    data = written(held, do_compression=compressed, long_field_names=True)
    theirs = scipy.io.loadmat(io.BytesIO(data))
    ours = matlab5.read(data)
    assert sorted(ours) == sorted(k for k in theirs if not k.startswith("__"))
    for name, value in ours.items():
        equal(value, theirs[name])
    assert all(ours[d].dtype == d for d in DTYPES)
    assert ours["rows"].tolist() == ["one", "three", "äö"]


def test_what_is_not_read_is_named():
    held = {"s": scipy.sparse.eye(3, format="csc"), "c": np.eye(2) * 1j, "x": np.eye(2)}
    ours = matlab5.read(written(held))
    assert ours["s"] == matlab5.Refused("a sparse matrix of MATLAB")
    assert ours["c"] == matlab5.Refused("complex numbers")
    np.testing.assert_array_equal(ours["x"], np.eye(2))


def test_files_that_matlab_wrote():
    """scipy's own test files of many versions of MATLAB, where they are installed with it."""
    folder = Path(scipy.io.matlab.__file__).parent / "tests" / "data"
    files = [f for f in sorted(folder.glob("*.mat")) if f.read_bytes()[126:128] in (b"IM", b"MI")]
    if not files:
        pytest.skip("scipy is installed without its test files")
    compared, refused = 0, set()
    for file in files:
        try:
            theirs = scipy.io.loadmat(file)
        except (ValueError, NotImplementedError, zlib.error):  # bad on purpose, or version 7.3
            with pytest.raises((ValueError, zlib.error)):
                strictly(file.read_bytes())
            continue
        if file.stem in ("broken_utf8", "nasty_duplicate_fieldnames"):  # mended by scipy
            continue
        for key, value in matlab5.read(file.read_bytes()).items():
            if isinstance(value, matlab5.Refused):
                refused.add(value.why)
            elif key in theirs:
                equal(value, theirs[key])
                compared += 1
    assert compared > 50
    assert refused >= {"a sparse matrix of MATLAB", "complex numbers", "an object of MATLAB"}


def strictly(data):
    """Names in other letters than MATLAB's are refused by scipy, and read by us."""
    if not all(name.isascii() for name in matlab5.read(data)):
        raise ValueError("not ascii")


@pytest.mark.skipif(not os.environ.get("RSACOMPARE_DATA"), reason="RSACOMPARE_DATA is not set")
@pytest.mark.parametrize(
    "file", ["92_brainRDMs", "92_behavRDMs", "92_modelRDMs", "modelRDMs_A2020"]
)
def test_published_files(file):
    path = Path(os.environ["RSACOMPARE_DATA"]) / "kriegeskorte92" / f"{file}.mat"
    ours, theirs = matlab5.read(path.read_bytes()), scipy.io.loadmat(path)
    for name, value in ours.items():
        equal(value, theirs[name])
