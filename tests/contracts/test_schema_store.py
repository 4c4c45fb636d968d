"""Files whole or not at all; content hashes; a store of cells that survives being killed."""

import hashlib
import json
import os
import threading

import numpy as np
import pytest
import xarray as xr

from rsacompare.errors import DataError
from rsacompare.schema import store


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    store.write_text(target, "old")

    def interrupted():
        with store.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_folders_are_made_and_mode_is_the_usual(tmp_path):
    target = tmp_path / "new" / "folder" / "a.txt"
    store.write_text(target, "é")
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    assert target.read_bytes() == "é".encode()
    assert target.stat().st_mode == plain.stat().st_mode


def test_many_threads_leave_the_umask_alone(tmp_path):
    before = os.umask(0o022)
    os.umask(before)

    def write(k):
        for i in range(20):
            store.write_text(tmp_path / f"{k}-{i}", "x")

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = os.umask(before)
    assert after == before
    assert len(list(tmp_path.iterdir())) == 160


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot write in"):
        store.write_text(tmp_path / "file" / "a.txt", "x")


def test_file_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert store.file_sha256(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_digest_tells_contents_apart():
    x = np.arange(6.0)
    different = [
        (x,),
        (x.reshape(2, 3),),
        (x.astype(np.float32),),
        (x + 1e-12,),
        (x, x),
        (np.array(["a", "b"]),),
        (np.array(["ab"]),),
        ("a",),
        ({"a": 1},),
        ({"a": 2},),
        (np.array([True, False]),),
        (np.array([]),),
        (np.array([""]),),
        (),
    ]
    assert len({store.digest(*parts) for parts in different}) == len(different)


def test_digest_does_not_see_what_is_no_content():
    x = np.arange(6.0).reshape(2, 3)
    assert store.digest(x.T) == store.digest(np.ascontiguousarray(x.T))
    assert store.digest(np.array(["a"], dtype="<U1")) == store.digest(np.array(["a"], dtype="<U9"))
    assert store.digest(np.array(["a"])) == store.digest(np.array(["a"], dtype=object))
    assert store.digest({"a": 1, "b": 2}) == store.digest({"b": 2, "a": 1})
    text = np.array(["a"], dtype=np.dtypes.StringDType())
    assert store.digest(np.array(["a"])) == store.digest(text)


def test_digest_of_a_dataset_sees_labels_but_no_attributes():
    data = xr.Dataset({"x": ("i", [1.0, 2.0])}, coords={"i": ["a", "b"]})
    same = store.digest_dataset(data)
    assert store.digest_dataset(data.assign_attrs(title="t")) == same
    assert store.digest_dataset(data.assign_coords(i=["a", "c"])) != same
    assert store.digest_dataset(data.rename(x="y")) != same


def test_digest_is_the_same_after_a_round_trip(tmp_path):
    data = xr.Dataset({"x": ("i", [1.0, 2.0]), "m": ("i", [True, False])}, {"i": ["a", "bcd"]})
    store.write_netcdf(data, tmp_path / "d.nc")
    back = store.read_netcdf(tmp_path / "d.nc").to_dataset()
    assert store.digest_dataset(back) == store.digest_dataset(data)
    assert back.identical(data)


def test_empty_text_and_empty_dims_survive(tmp_path):
    data = xr.Dataset({"s": ("i", ["", "é"]), "none": ("j", np.empty(0))}, attrs={"note": ""})
    store.write_netcdf(data, tmp_path / "d.nc")
    back = store.read_netcdf(tmp_path / "d.nc").to_dataset()
    assert back["s"].values.tolist() == ["", "é"]
    assert back.sizes["j"] == 0
    assert back.attrs["note"] == ""


def test_cells_are_computed_once(tmp_path):
    cells = store.CellStore(tmp_path)
    calls = []

    def compute():
        calls.append(1)
        return {"observed": np.arange(3.0), "stimulus_id": np.array(["a", "b", "c"])}

    first = cells.cached("ab12", compute)
    again = store.CellStore(tmp_path).cached("ab12", compute)
    assert len(calls) == 1
    np.testing.assert_array_equal(again["observed"], first["observed"])
    assert again["stimulus_id"].tolist() == ["a", "b", "c"]
    assert cells.load("ab13") is None


@pytest.mark.parametrize("keep", [0, 20, 300])
def test_a_broken_cell_is_computed_again(tmp_path, keep):
    cells = store.CellStore(tmp_path)
    cells.save("ab12", {"x": np.arange(100.0)})
    file = cells.path("ab12")
    file.write_bytes(file.read_bytes()[:keep])
    assert cells.load("ab12") is None
    cells.cached("ab12", lambda: {"x": np.arange(2.0)})
    assert cells.load("ab12")["x"].tolist() == [0.0, 1.0]


def test_objects_are_not_stored(tmp_path):
    cells = store.CellStore(tmp_path)
    with pytest.raises(ValueError, match="allow_pickle"):
        cells.save("ab12", {"x": np.array([{}, None], dtype=object)})
    assert cells.load("ab12") is None
    assert not list(tmp_path.rglob("*.npz"))


def test_provenance_is_plain():
    held = json.loads(json.dumps(store.provenance()))
    assert held["versions"]["numpy"] == np.__version__
    assert {"python", "platform", "machine"} <= held.keys()
