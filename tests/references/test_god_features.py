"""ImageFeatures.h5 written by bdpy at the study's full row count, every value compared."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.errors import DataError, LabelError, ProtocolError

DATA = Path(os.environ.get("RSACOMPARE_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (DATA / "god").is_dir(), reason="the GOD tables not at hand")
WIDTHS = {**{f"cnn{i}": 3 for i in range(1, 8)}, "cnn8": 4, "hmax1": 2, "hmax2": 2, "hmax3": 1}
WIDTHS |= {"gist": 5, "sift": 2}
N_OTHER = 15_322


def table(name):
    with open(DATA / "god" / name) as file:
        return [(row[0], float(row[1])) for row in csv.reader(file, delimiter="\t")]


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    pictures = table("stimulus_ImageNetTraining.tsv") + table("stimulus_ImageNetTest.tsv")
    image = np.array([label for _, label in pictures])
    tested = np.floor(image[1200:])
    others = 9_000_000.0 + np.arange(N_OTHER)
    n = 1250 + 50 + N_OTHER
    logits = rng.standard_normal((n, 4)) * 3
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    values = {layer: rng.standard_normal((n, width)) for layer, width in WIDTHS.items()}
    values["cnn2"] = np.maximum(values["cnn2"], 0)  # after a ReLU
    values["cnn8"] = np.float32(softmax)
    return {
        "FeatureType": np.repeat([1, 2, 3, 4], [1200, 50, 50, N_OTHER]),
        "CatID": np.r_[np.floor(image), tested, others],
        "ImageID": np.r_[image, np.full(50 + N_OTHER, np.nan)],
        **values,
    }


@pytest.fixture(scope="module")
def features(tmp_path_factory, write_bdata, columns):
    folder = tmp_path_factory.mktemp("features")
    write_bdata(folder / "ImageFeatures.h5", columns)
    return folder


def test_every_layer_has_its_values_names_and_place(features, columns):
    tree = rc.load_activations("god_features", path=str(features))
    pictures = table("stimulus_ImageNetTraining.tsv") + table("stimulus_ImageNetTest.tsv")
    names = [name for name, _ in pictures]
    assert list(tree) == ["god_alexnet", "hmax", "gist", "sift"]
    places = {"god_alexnet": 8, "hmax": 3, "gist": 1, "sift": 1}
    for network, n_layers in places.items():
        assert len(tree[network]) == n_layers
        for i, (layer, leaf) in enumerate(tree[network].children.items()):
            np.testing.assert_array_equal(leaf["activation"].values, columns[layer][:1250])
            assert leaf["stimulus_id"].values.tolist() == names
            np.testing.assert_array_equal(leaf["feature_type"], np.repeat([1, 2], [1200, 50]))
            assert leaf.attrs["layer_index"] == i
            assert leaf.attrs["depth"] == (i / (n_layers - 1) if n_layers > 1 else 1)
            assert "features distributed with the GOD study" in leaf.attrs["note"]
    assert json.loads(tree.attrs["notes"]) == []
    deep = rc.load_activations("god_features", path=str(features), layers=["cnn7", "cnn3"])
    assert list(deep) == ["god_alexnet"]
    assert [leaf.attrs["depth"] for leaf in deep["god_alexnet"].children.values()] == [2 / 7, 6 / 7]


def test_the_operation_is_told_from_the_values(features, tmp_path, write_bdata, columns):
    tree = rc.load_activations("god_features", path=str(features))

    def told(tree, layer):
        attrs = tree[f"god_alexnet/{layer}"].attrs
        return attrs["kind"], attrs["activation_stage"]

    assert told(tree, "cnn1") == ("conv", "pre-ReLU")
    assert told(tree, "cnn2") == ("relu", "post-ReLU")
    assert told(tree, "cnn6") == ("fc", "pre-ReLU")
    assert told(tree, "cnn8") == ("softmax", "softmax")
    assert tree["hmax/hmax1"].attrs["kind"] == "hmax"
    least = columns["cnn1"][:1250].min()
    assert tree["god_alexnet/cnn1"].attrs["detected"] == f"smallest value {least:.4g}"
    for change, expected in (
        (lambda v: np.log(np.asarray(v, float)), ("logits", "pre-softmax")),
        (lambda v: v * 2, ("relu", "post-ReLU")),
    ):
        changed = {**columns, "cnn8": change(columns["cnn8"])}
        write_bdata(tmp_path / "ImageFeatures.h5", changed)
        again = rc.load_activations("god_features", path=str(tmp_path), layers=["cnn8"])
        assert told(again, "cnn8") == expected


def test_category_averages_are_known_by_their_synset(features, columns):
    tree = rc.load_activations(
        "god_features",
        path=str(features),
        layers=["cnn5"],
        feature_types=["test_category", "other_category"],
        dtype="float32",
    )
    leaf = tree["god_alexnet/cnn5"]
    np.testing.assert_array_equal(
        leaf["activation"].values, columns["cnn5"][1250:].astype(np.float32)
    )
    imagined = [name for name, _ in table("category_GODImagery.tsv")]
    assert leaf["stimulus_id"].values[:50].tolist() == imagined
    assert leaf["stimulus_id"].values[-1] == f"n{9_000_000 + N_OTHER - 1:08d}"
    np.testing.assert_array_equal(leaf["feature_type"], np.repeat([3, 4], [50, N_OTHER]))


def changed(columns, key, at, value):
    array = np.array(columns[key], dtype=float)
    array[at] = value
    return {**columns, key: array}


def test_rows_that_are_missing_or_twice_there_are_refused(tmp_path, write_bdata, columns):
    file = tmp_path / "ImageFeatures.h5"
    fewer = {key: values[:16_234] for key, values in columns.items()}  # a broken copy is known
    write_bdata(file, fewer)
    options = {"path": str(file), "layers": ["gist"]}
    tree = rc.load_activations("god_features", **options)
    assert "16234 rows, the study's file has 16622" in json.loads(tree.attrs["notes"])[0]
    assert "16234 rows" in tree["gist/gist"].attrs["note"]
    with pytest.raises(DataError, match=r"ImageFeatures\.h5: 16234 rows"):
        rc.load_activations("god_features", **options, feature_types=["other_category"])
    write_bdata(file, {key: values[5:] for key, values in columns.items()})
    with pytest.raises(DataError, match=r"1195 of type 1 \(train\), expected 1200"):
        rc.load_activations("god_features", **options)
    tree = rc.load_activations("god_features", **options, check_rows=False)
    assert tree["gist/gist"].sizes["stimulus_id"] == 1245
    for key, at, value, error, message in (
        ("ImageID", 3, columns["ImageID"][4], LabelError, "'n01518878_5958'"),
        ("ImageID", 3, np.nan, LabelError, "1 of 1250 labels are not synset.image"),
        ("FeatureType", 3, 7, DataError, r"FeatureType is \[7.0\]"),
        ("gist", (3, 0), np.nan, DataError, "1 values are NaN"),
    ):
        write_bdata(file, changed(columns, key, at, value))
        with pytest.raises(error, match=message):
            rc.load_activations("god_features", **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": ["conv1"]}, ProtocolError, "unknown layer 'conv1'"),
        ({"layers": []}, ProtocolError, "may be empty"),
        ({"feature_types": ["tests"]}, ProtocolError, "did you mean 'test'"),
        ({"dtype": "int8"}, ProtocolError, "unknown dtype 'int8'"),
    ],
)
def test_options_that_are_refused(features, options, error, message):
    with pytest.raises(error, match=message):
        rc.load_activations("god_features", path=str(features), **options)


def test_a_folder_without_features_says_where_they_are(tmp_path):
    with pytest.raises(DataError, match="figshare"):
        rc.load_activations("god_features", path=str(tmp_path))
