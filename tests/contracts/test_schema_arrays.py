"""The small doors into the labelled arrays: values kept, labels kept, bad input refused."""

import json

import numpy as np
import pytest
import scipy.spatial.distance as distance

from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema import arrays, reading, store, trees

IDS = ["p3", "p1", "p2", "p4"]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5))


def brain(**changes):
    options = {
        "stimulus_id": ["a", "b", "a", "c"],
        "split": ["test", "train", "test", "test"],
        "roi_mask": {"V1": [1, 1, 0, 0, 0], "LVC": np.array([1, 1, 1, 1, 0], dtype=bool)},
    }
    return arrays.responses({"S1": X}, **{**options, **changes})


def test_responses_keep_values_labels_and_overlapping_masks():
    node = brain()["S1"]
    np.testing.assert_array_equal(node["response"], X)
    assert node["stimulus_id"].values.tolist() == ["a", "b", "a", "c"]
    assert node["repetition"].values.tolist() == [0, 0, 1, 0]
    masks = {str(roi): node["roi_mask"].sel(roi=roi).values for roi in node["roi"].values}
    assert masks["V1"].tolist() == [True, True, False, False, False]
    assert masks["LVC"].tolist() == [True, True, True, True, False]
    np.testing.assert_array_equal(node["response"].values[:, masks["V1"] & masks["LVC"]], X[:, :2])


def test_repetitions_are_counted_within_a_split():
    tree = brain(stimulus_id=["a"] * 4, split=["train", "test", "train", "test"])
    assert tree["S1"]["repetition"].values.tolist() == [0, 0, 1, 1]


def test_defaults_one_roi_and_no_split():
    node = arrays.responses({"S1": X}, stimulus_id=IDS)["S1"]
    assert node["roi"].values.tolist() == ["all"]
    assert node["roi_mask"].values.all()
    assert set(node["split"].values.tolist()) == {""}
    again = arrays.responses({"S1": X}, stimulus_id=IDS, split=node["split"].values)["S1"]
    assert again.to_dataset().identical(node.to_dataset())


def test_labels_and_masks_per_subject():
    tree = arrays.responses(
        {"S1": X, "S2": X[:2, :3]},
        stimulus_id={"S1": IDS, "S2": ["p1", "p2"]},
        roi_mask={"S1": {"V1": np.ones(5, bool)}, "S2": {"V1": np.array([0, 1, 0], bool)}},
    )
    assert tree["S2"]["roi_mask"].values.tolist() == [[False, True, False]]
    with pytest.raises(LabelError, match="S2: no labels for this subject"):
        arrays.responses({"S1": X, "S2": X}, stimulus_id={"S1": IDS})
    with pytest.raises(LabelError, match="roi_mask has no entry"):
        arrays.responses({"S2": X}, stimulus_id=IDS, roi_mask={"S1": {"V1": np.ones(5, bool)}})


def test_further_coordinates_of_rows_and_voxels():
    subjects = {"S1": X, "S2": X[:, :3]}
    tree = arrays.responses(
        subjects,
        stimulus_id=IDS,
        presentation={"run": [1, 1, 2, 2], "label": {"S1": [0.5, 1, 2, 3], "S2": [4.0, 5, 6, 7]}},
        neuroid={"voxel_x": {"S1": np.arange(5.0), "S2": np.arange(3.0)}},
    )
    for subject, label in (("S1", [0.5, 1, 2, 3]), ("S2", [4, 5, 6, 7])):
        node = tree[subject]
        assert node["run"].values.tolist() == [1, 1, 2, 2]
        assert node["label"].values.tolist() == label
        assert node["label"].dims == ("presentation",)
        assert node["voxel_x"].values.tolist() == list(range(subjects[subject].shape[1]))
        assert node["voxel_x"].dims == ("neuroid",)
    words = {"category": np.array(["a", "b", "a", "c"], dtype=object), "seen": [True] * 4}
    node = arrays.responses({"S1": X}, stimulus_id=IDS, presentation=words)["S1"]
    assert node["category"].dtype.kind == "U"
    assert node["seen"].values.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"presentation": {"run": [1, 2]}}, r"'run' must be .* each of 4 along presentation"),
        ({"neuroid": {"voxel_x": np.eye(5)}}, "each of 5 along neuroid"),
        ({"presentation": {"when": np.array(["2020"] * 4, "M8[Y]")}}, "numbers or text"),
        ({"presentation": {"split": ["train"] * 4}}, "'split' has a meaning of its own"),
        ({"neuroid": {"x": {"S2": np.ones(5)}}}, "no labels for this subject"),
    ],
)
def test_further_coordinates_that_do_not_fit(options, message):
    with pytest.raises(LabelError, match=message):
        arrays.responses({"S1": X}, stimulus_id=IDS, **options)


NAN_INSIDE = np.where(np.arange(5) == 1, np.nan, X)
NAN_OUTSIDE = np.where(np.arange(5) == 4, np.nan, X)


@pytest.mark.parametrize(
    ("subjects", "changes", "error", "message"),
    [
        ({}, {}, DataError, "no subjects"),
        ({"S1": NAN_INSIDE}, {}, DataError, "S1, ROI V1: 4 values are NaN"),
        ({"S1": X[:, 0]}, {}, DataError, r"expected \(presentation, neuroid\)"),
        ({"S1": X[:3]}, {}, DataError, "with 4 rows for 4 stimulus ids"),
        ({"S1": X[:, :0]}, {"roi_mask": None}, DataError, "empty, shape"),
        ({"S1": X.astype(str)}, {}, DataError, "numbers expected"),
        ({"S1": X.astype(complex)}, {}, DataError, "numbers expected"),
        ({"S1": X}, {"roi_mask": {"FFA": np.zeros(5, bool)}}, DataError, "ROI 'FFA' is empty"),
        ({"S1": X}, {"roi_mask": {"V1": np.ones(4, bool)}}, DataError, "one per voxel"),
        ({"S1": X}, {"roi_mask": {"V1": np.arange(5)}}, DataError, "must be boolean"),
        ({"S1": X}, {"split": ["test", "train", "tset", "test"]}, LabelError, "got 'tset'"),
        # not cut to seven letters and taken for "imagery"
        ({"S1": X}, {"split": ["imagery_2"] * 4}, LabelError, "got 'imagery_2'"),
        ({"S1": X}, {"split": ["test", "", "test", "test"]}, LabelError, "got ''"),
        ({"S1": X}, {"split": ["test"]}, LabelError, "for each of 4 presentations"),
        ({"S1": X}, {"repetition": [0, 0, 0.5, 1]}, LabelError, "whole numbers"),
        ({"S1": X}, {"repetition": [0, 1]}, LabelError, "2 repetitions for 4 rows"),
        ({"S1": X}, {"stimulus_id": [1.5, 2, 3, 4]}, LabelError, "float64"),
        ({"s/1": X, "s.1": X}, {}, LabelError, "two subjects are called 's.1'"),
        ({"": X}, {}, LabelError, "cannot name"),
    ],
)
def test_responses_that_are_refused(subjects, changes, error, message):
    options = {"stimulus_id": ["a", "b", "a", "c"], "roi_mask": {"V1": [1, 1, 0, 0, 0]}}
    with pytest.raises(error, match=message):
        arrays.responses(subjects, **{**options, **changes})


def test_nan_outside_every_roi_is_no_matter():
    tree = arrays.responses({"S1": NAN_OUTSIDE}, stimulus_id=IDS, roi_mask={"V1": [1, 1, 1, 1, 0]})
    assert np.isnan(tree["S1"]["response"].values[:, 4]).all()


def test_activations_keep_order_depth_and_units():
    tree = arrays.activations(
        {"net": {"conv": X, "block/out": X[:, :2], "fc": X[:, :1]}},
        stimulus_id=IDS,
        neuroid={"net": {"conv": [7, 3, 9, 1, 2]}},
        layer_attrs={"net": {"fc": {"kind": "logits", "n_units": 1000}}},
        attrs={"title": "a net"},
    )
    found = [(net, layer, data.attrs["depth"]) for net, layer, data in trees.iter_layers(tree)]
    assert found == [("net", "conv", 0.0), ("net", "block.out", 0.5), ("net", "fc", 1.0)]
    assert tree["net/block.out"].attrs["original_name"] == "block/out"
    assert tree["net/conv"]["neuroid"].values.tolist() == [7, 3, 9, 1, 2]
    assert tree["net/fc"].attrs["kind"] == "logits"
    np.testing.assert_array_equal(tree["net/conv"]["activation"].sel(stimulus_id="p1"), X[1])


def test_layers_come_in_their_order_not_in_that_of_the_alphabet():
    names = [f"layer{i}" for i in range(1, 13)]
    tree = arrays.activations({"net": {n: X for n in names}}, stimulus_id=IDS)
    assert [layer for _, layer, _ in trees.iter_layers(tree)] == names


def test_precision_is_kept_and_byte_order_is_not():
    tree = arrays.activations(
        {"net": {"f4": X.astype(np.float32), "big": X.astype(">f8"), "int": X.astype(np.int16)}},
        stimulus_id=IDS,
    )
    assert tree["net/f4"]["activation"].dtype == np.float32
    assert tree["net/big"]["activation"].dtype == np.dtype(np.float64)
    assert tree["net/int"]["activation"].dtype == np.float64
    np.testing.assert_array_equal(tree["net/big"]["activation"], X)


@pytest.mark.parametrize(
    ("networks", "options", "error", "message"),
    [
        ({}, {}, DataError, "no networks"),
        ({"net": {}}, {}, DataError, "'net' has no layers"),
        ({"net": {"l": NAN_INSIDE}}, {}, DataError, "net/l: 4 values are NaN"),
        ({"net": {"l": X[:2]}}, {}, DataError, r"expected \(stimulus, neuroid\) with 4 rows"),
        ({"net": {"a/b": X, "a.b": X}}, {}, LabelError, "two layers are called 'net/a.b'"),
        ({"net": {"l": X}}, {"stimulus_id": ["a", "a", "b", "c"]}, LabelError, "duplicates: 'a'"),
        ({"net": {"l": X}}, {"neuroid": {"net": {"l": [1]}}}, LabelError, "1 unit labels for 5"),
    ],
)
def test_activations_that_are_refused(networks, options, error, message):
    with pytest.raises(error, match=message):
        arrays.activations(networks, **{"stimulus_id": IDS, **options})


def test_rdms_square_and_triangle_agree_with_scipy():
    vector = distance.pdist(X, "correlation")
    square = distance.squareform(vector)
    tree = arrays.rdms({"S1": {"EVC": square}, "S2": {"EVC": vector}}, stimulus_id=IDS)
    for subject in ("S1", "S2"):
        np.testing.assert_allclose(tree[subject]["rdm"].sel(roi="EVC"), vector, rtol=1e-15)
    node = tree["S1"]
    for k, (a, b) in enumerate(zip(*(node[f"stimulus_{x}"].values for x in "ab"), strict=True)):
        assert node["rdm"].values[0, k] == square[IDS.index(a), IDS.index(b)]


def test_rdms_with_sessions_and_of_networks():
    two = np.stack([distance.squareform(distance.pdist(X[:, c])) for c in (slice(3), slice(2, 5))])
    node = arrays.rdms({"S1": {"IT": two}}, stimulus_id=IDS)["S1"]
    assert node["rdm"].dims == ("roi", "session", "pair")
    np.testing.assert_allclose(node["rdm"].values[0, 1], distance.pdist(X[:, 2:5]), rtol=1e-15)
    net = arrays.rdms({"net": {"a": two[0], "b": two[1]}}, stimulus_id=IDS, of="network")
    assert [(n, layer, d.attrs["depth"]) for n, layer, d in trees.iter_layers(net)] == [
        ("net", "a", 0.0),
        ("net", "b", 1.0),
    ]
    with pytest.raises(DataError, match="without sessions"):
        arrays.rdms({"net": {"a": two}}, stimulus_id=IDS, of="network")


SQUARE = distance.squareform(distance.pdist(X))


@pytest.mark.parametrize(
    ("rdm", "message"),
    [
        (SQUARE + np.triu(SQUARE), "not symmetric"),
        (np.corrcoef(X), "the diagonal is not zero: are these similarities"),
        (SQUARE[:3, :3], r"does not fit 4 stimuli: expected \(4, 4\) or the upper triangle of 6"),
        (np.r_[np.nan, np.ones(5)], "NaN"),
        (np.full((4, 4), np.nan), "NaN"),
        (SQUARE.astype(str), "numbers expected"),
    ],
)
def test_rdms_that_are_refused(rdm, message):
    with pytest.raises(DataError, match=f"RDM of S1, V1.*{message}"):
        arrays.rdms({"S1": {"V1": rdm}}, stimulus_id=IDS)


def test_rdms_other_refusals():
    with pytest.raises(ProtocolError, match="did you mean 'network'"):
        arrays.rdms({"S1": {"V1": SQUARE}}, stimulus_id=IDS, of="networks")
    with pytest.raises(DataError, match="equal session counts"):
        arrays.rdms({"S1": {"V1": SQUARE, "V2": SQUARE[None]}}, stimulus_id=IDS)
    with pytest.raises(DataError, match="no subjects"):
        arrays.rdms({}, stimulus_id=IDS)
    with pytest.raises(LabelError, match="two subjects"):
        arrays.rdms({"s/1": {"V1": SQUARE}, "s.1": {"V1": SQUARE}}, stimulus_id=IDS)
    with pytest.raises(DataError, match="at least 3"):
        arrays.rdms({"S1": {"V1": np.zeros((2, 2))}}, stimulus_id=IDS[:2])


# -- files -----------------------------------------------------------------------------------------


def examples():
    return {
        "responses": brain(attrs={"title": "t", "categories": {"a": "face"}, "simulated": True}),
        "rdms": arrays.rdms({"S1": {"V1": SQUARE, "é": 2 * SQUARE}}, stimulus_id=IDS),
        "activations": arrays.activations({"n": {"a/b": X, "c": X[:, :1]}}, stimulus_id=IDS),
        "network rdms": arrays.rdms({"n": {"a": SQUARE}}, stimulus_id=IDS, of="network"),
    }


@pytest.mark.parametrize("kind", examples())
def test_round_trip_without_pickle(kind, tmp_path):
    tree = examples()[kind]
    store.write_netcdf(tree, tmp_path / "tree.nc")
    back = reading.read_tree(tmp_path / "tree.nc")
    assert back.identical(tree)
    for node in back.subtree:
        for name, variable in node.variables.items():
            assert variable.dtype.kind != "O", name
            assert variable.dtype.kind == tree[node.path].variables[name].dtype.kind
    raw = (tmp_path / "tree.nc").read_bytes()
    assert raw.startswith(b"\x89HDF")
    assert b"pickle" not in raw
    assert b"numpy.core" not in raw


@pytest.mark.parametrize("kind", examples())
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_truncated_netcdf(kind, keep, tmp_path):
    file = tmp_path / "tree.nc"
    store.write_netcdf(examples()[kind], file)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(DataError, match=r"tree\.nc cannot be read as netCDF.*truncated"):
        reading.read_tree(file)


def test_files_of_another_kind(tmp_path):
    with pytest.raises(DataError, match="no file"):
        reading.read_tree(tmp_path / "absent.nc")
    store.write_netcdf(examples()["responses"], tmp_path / "brain.nc")
    with pytest.raises(DataError, match="holds responses, expected activations"):
        reading.load_activations(tmp_path / "brain.nc")
    examples()["rdms"]["S1"].to_dataset().to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="holds no rsacompare data"):
        reading.read_tree(tmp_path / "other.nc")
    (tmp_path / "text.nc").write_text("not a netCDF file")
    with pytest.raises(DataError, match="cannot be read as netCDF"):
        reading.read_tree(tmp_path / "text.nc")


@pytest.mark.parametrize(
    ("kind", "variable", "where"),
    [("responses", "response", "S1"), ("rdms", "rdm", "S1"), ("activations", "activation", "n/c")],
)
def test_a_file_is_validated_when_read(kind, variable, where, tmp_path):
    tree = examples()[kind]
    leaf = tree[where].to_dataset()
    spoilt = leaf.copy(deep=True)
    spoilt[variable].values[..., 0] = np.nan
    tree[where].dataset = spoilt
    store.write_netcdf(tree, tmp_path / "spoilt.nc")
    with pytest.raises(DataError, match=f"spoilt.nc, {where}.*NaN"):
        reading.read_tree(tmp_path / "spoilt.nc")
    tree[where].dataset = leaf.drop_vars(variable)
    store.write_netcdf(tree, tmp_path / "absent.nc")
    with pytest.raises(DataError, match=f"absent.nc, {where}.*not there"):
        reading.read_tree(tmp_path / "absent.nc")


def npz(path, **changes):
    held = {
        "stimulus_id": np.array(IDS),
        "layers": np.array(["conv", "a/b"]),
        "conv": X.astype(np.float32),
        "conv.unit_index": np.array([9, 4, 3, 7, 8]),
        "conv.n_units": np.array(10),
        "a/b": X[:, :2],
        "note": np.array("a note"),
        "imagenet_top1": np.array(57.5),
    }
    np.savez(path, **{k: v for k, v in {**held, **changes}.items() if v is not None})
    return path


def test_npz_with_units_note_and_accuracy(tmp_path):
    path = npz(tmp_path / "net.npz")
    tree = reading.load_activations(path)
    assert [layer for _, layer, _ in trees.iter_layers(tree)] == ["conv", "a.b"]
    conv = tree["net/conv"]
    np.testing.assert_array_equal(conv["activation"], X.astype(np.float32))
    assert conv["neuroid"].values.tolist() == [9, 4, 3, 7, 8]
    assert (conv.attrs["n_units"], conv.attrs["note"]) == (10, "a note")
    assert conv.attrs["imagenet_top1"] == 57.5
    assert json.loads(tree.attrs["inputs"]) == {"net.npz": store.file_sha256(path)}
    assert list(reading.load_activations(path, name="mine").children) == ["mine"]
    unknown = reading.load_activations(npz(tmp_path / "n.npz", imagenet_top1=np.array(np.nan)))
    assert "imagenet_top1" not in unknown["n/conv"].attrs


def test_npz_that_is_refused(tmp_path):
    path = npz(tmp_path / "net.npz")
    raw = path.read_bytes()
    for keep in (0, 10, len(raw) // 2, len(raw) - 30):
        (tmp_path / "cut.npz").write_bytes(raw[:keep])
        with pytest.raises(DataError, match=r"cut\.npz cannot be read as npz.*truncated"):
            reading.load_activations(tmp_path / "cut.npz")
    with pytest.raises(DataError, match="no file"):
        reading.load_activations(tmp_path / "absent.npz")
    with pytest.raises(DataError, match="needs the keys 'stimulus_id' and 'layers'"):
        reading.load_activations(npz(tmp_path / "x.npz", layers=None))
    with pytest.raises(DataError, match="layers named but not there: 'conv'"):
        reading.load_activations(npz(tmp_path / "x.npz", conv=None))
    with pytest.raises(LabelError, match="float32"):
        reading.load_activations(npz(tmp_path / "x.npz", stimulus_id=np.arange(4, dtype="f4")))
    objects = np.empty(4, dtype=object)
    with pytest.raises(DataError, match="cannot be read as npz"):  # a pickle is not opened
        reading.load_activations(npz(tmp_path / "x.npz", stimulus_id=objects))


def test_sources_that_are_neither(tmp_path, monkeypatch):
    with pytest.raises(ProtocolError, match="unknown network 'alexnet_a2021'; did you mean"):
        reading.load_activations("alexnet_a2021")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alexnet_a2021").mkdir()  # a folder of that name is no file of activations
    with pytest.raises(ProtocolError, match="unknown network"):
        reading.load_activations("alexnet_a2021")
    store.write_netcdf(examples()["activations"], tmp_path / "net.nc")
    with pytest.raises(ProtocolError, match="takes no options, got name"):
        reading.load_activations(tmp_path / "net.nc", name="other")


def test_merging_networks_keeps_inputs_and_refuses_twins(tmp_path):
    one = reading.load_activations(npz(tmp_path / "one.npz"))
    two = reading.load_activations(npz(tmp_path / "two.npz", **{"a/b": X[:, 2:]}))
    both = trees.merge_networks([one, two])
    assert list(both.children) == ["one", "two"]
    assert sorted(json.loads(both.attrs["inputs"])) == ["one.npz", "two.npz"]
    np.testing.assert_array_equal(both["two/a.b"]["activation"], X[:, 2:])
    with pytest.raises(LabelError, match="two networks are called 'one'"):
        trees.merge_networks([one, one])
