"""GOD files written by bdpy with the study's real stimulus tables, every value compared."""

import csv
import json
import os
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

import rsacompare as rc
from rsacompare.datasets import god_labels, phantom
from rsacompare.errors import DataError, LabelError, ProtocolError

DATA = (
    Path(os.environ.get("RSACOMPARE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "god"
)
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the GOD tables are not at hand")
AREAS = {"V1": 5, "V2": 4, "V3": 4, "V4": 3, "LOC": 4, "FFA": 3, "PPA": 2, "none": 3}
UNIONS = {"LVC": ["V1", "V2", "V3"], "HVC": ["LOC", "FFA", "PPA"]}
ORDER = ["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA", "LVC", "HVC", "VC"]


def table(name):
    with open(DATA / name) as file:
        return [(row[0], float(row[1])) for row in csv.reader(file, delimiter="\t")]


@pytest.fixture(scope="module")
def rows():
    """The 3,450 presentations of a subject: names, labels, DataType, Run."""
    rng = np.random.default_rng(0)
    shown = []
    train = table("stimulus_ImageNetTraining.tsv")
    for i, k in enumerate(rng.permutation(1200)):
        shown.append((*train[k], 1, 1 + i // 50))
    test, imagined = table("stimulus_ImageNetTest.tsv"), table("category_GODImagery.tsv")
    for run in range(35):
        shown += [(*test[k], 2, 25 + run) for k in rng.permutation(50)]
    for run in range(20):
        half = range(0, 50, 2) if run % 2 else range(1, 50, 2)
        shown += [(*imagined[k], 3, 60 + run) for k in half]
    names, labels, kinds, runs = zip(*shown, strict=True)
    assert len(names) == 3450
    return np.array(names), np.array(labels), np.array(kinds), np.array(runs)


def voxels(n_rows, seed):
    rng = np.random.default_rng(seed)
    area = np.repeat(list(AREAS), list(AREAS.values()))
    rng.shuffle(area)
    marks = {f"ROI_{name}": area == name for name in AREAS if name != "none"}
    # stored in another order than the paper's, one overlapping all, one of another kind
    marks = dict(reversed(marks.items()))
    marks |= {f"ROI_{name}": np.isin(area, parts) for name, parts in UNIONS.items()}
    marks |= {"ROI_VC": area != "none", "ROI_hand": (area == "V1") | (area == "FFA")}
    marks |= {f"voxel_{axis}": 3.0 * rng.integers(-30, 30, len(area)) for axis in "xyz"}
    return rng.standard_normal((n_rows, len(area))), marks


def write(write_bdata, path, rows, seed=1, spelling="dataset", **columns):
    """One subject's file; `columns` replace or add label columns (None takes one away)."""
    _names, labels, kinds, runs = rows
    data, marks = voxels(len(labels), seed)
    held = {"VoxelData": data, "DataType": kinds, "Run": runs, "stimulus_id": labels, **columns}
    held = {key: values for key, values in held.items() if values is not None}
    return write_bdata(path, held, marks, spelling)


def equal_trees(a, b):
    assert list(a) == list(b)
    for subject in a:
        assert a[subject].to_dataset().identical(b[subject].to_dataset())


@pytest.mark.parametrize(
    ("file", "spelling"),
    [
        ("Subject1.h5", "dataset"),
        ("Subject1.h5", "dataSet"),
        ("Subject1.mat", "dataset"),
        ("Subject1.mat", "dataSet"),  # this one compressed
    ],
)
def test_every_value_of_a_subject_is_that_of_bdpy(tmp_path, write_bdata, rows, file, spelling):
    judge = write(write_bdata, tmp_path / file, rows, spelling=spelling)
    names, labels, kinds, runs = rows
    tree = rc.load_dataset("god", path=str(tmp_path))
    node = tree["Subject1"]
    _, union = judge.select("ROI_VC | ROI_hand", return_index=True)
    assert union.sum() == 25  # the voxels that belong to no ROI are not read
    np.testing.assert_array_equal(node["response"].values, judge.dataset[:, union])
    assert node["response"].dtype == np.float64
    assert node["roi"].values.tolist() == [*ORDER, "hand"]
    for roi in node["roi"].values:
        mask = judge.get_metadata(f"ROI_{roi}")[union] == 1
        np.testing.assert_array_equal(node["roi_mask"].sel(roi=roi).values, mask)
        np.testing.assert_array_equal(
            node["response"].values[:, mask], judge.select(f"ROI_{roi} = 1")
        )
    for axis in "xyz":
        place = judge.get_metadata(f"voxel_{axis}")[union]
        np.testing.assert_array_equal(node[f"voxel_{axis}"].values, place)
    np.testing.assert_array_equal(node["stimulus_id"].values, names)
    np.testing.assert_array_equal(node["god_label"].values, labels)
    np.testing.assert_array_equal(node["run"].values, runs)
    assert node["run"].dtype.kind == "i"
    split = np.array(["", "train", "test", "imagery"])[kinds]
    np.testing.assert_array_equal(node["split"].values, split)
    np.testing.assert_array_equal(node["category"].values, [n.split("_")[0] for n in names])
    # run r of the test shows every image for the r-th time; imagined ones once in two runs
    np.testing.assert_array_equal(
        node["repetition"].values,
        np.select([kinds == 1, kinds == 2], [0, runs - 25], (runs - 60) // 2),
    )
    assert tree.attrs["family"] == "spm"
    assert json.loads(tree.attrs["voxels"])["Subject1"]["HVC"] == 9
    assert "VC 25" in tree.attrs["description"]
    assert "1200 training images in 1200 presentations" in tree.attrs["description"]
    assert list(json.loads(tree.attrs["inputs"])) == [file]


def test_a_tree_survives_netcdf(tmp_path, write_bdata, rows):
    from rsacompare.schema.store import write_netcdf

    write(write_bdata, tmp_path / "Subject1.h5", rows)
    tree = rc.load_dataset("god", path=str(tmp_path), rois=["V1"])
    write_netcdf(tree, tmp_path / "tree.nc")
    back = rc.load_dataset(tmp_path / "tree.nc")["Subject1"]
    for name, values in tree["Subject1"].to_dataset().variables.items():
        np.testing.assert_array_equal(back[name].values, values.values)


def test_labels_come_from_stimulus_id_else_the_first_label_column(tmp_path, write_bdata, rows):
    labels = rows[1]
    several = np.stack([labels, np.arange(3450.0), np.full(3450, np.nan)], axis=1)
    forms = {
        "plain": {},
        "several": {"stimulus_id": None, "Label": several},
        "both": {"Label": several[:, ::-1]},
        # the index columns of figshare versions before 5 are wrong
        "wrong": {"category_index": np.arange(3450.0) % 7, "image_index": np.full(3450, 9.0)},
    }
    trees = {}
    for form, columns in forms.items():
        (tmp_path / form).mkdir()
        write(write_bdata, tmp_path / form / "Subject1.h5", rows, **columns)
        trees[form] = rc.load_dataset("god", path=str(tmp_path / form))
    for form in forms:
        equal_trees(trees["plain"], trees[form])


def test_the_1250_names_and_floats_are_those_of_the_study():
    for name in ("stimulus_ImageNetTraining.tsv", "stimulus_ImageNetTest.tsv"):
        names, labels = zip(*table(name), strict=True)
        assert god_labels.names_of(np.array(labels), name).tolist() == list(names)
    names, labels = zip(*table("category_GODImagery.tsv"), strict=True)
    assert god_labels.names_of(np.array(labels), "", category=True).tolist() == list(names)


def test_labels_that_went_through_float32_are_refused(tmp_path, write_bdata, rows):
    labels = np.float64(np.float32(rows[1]))
    assert np.unique(labels).size == 200
    write(write_bdata, tmp_path / "Subject1.h5", rows, stimulus_id=labels)
    with pytest.raises(LabelError, match=r"Subject1\.h5, 'stimulus_id': \d+ of 2950 .*float32"):
        rc.load_dataset("god", path=str(tmp_path))


def test_twenty_test_images_are_in_ilsvrc(tmp_path, write_bdata, rows):
    with open(DATA / "stimulus_info_ImageNetTest.csv") as file:
        facts = {r[0]: r[1] == "Yes" for r in list(csv.reader(file))[1:]}
    assert sum(facts.values()) == 20
    assert god_labels.ilsvrc_table() == facts
    names, _, kinds, _ = rows
    write(write_bdata, tmp_path / "Subject1.h5", rows)
    options = {"path": str(tmp_path), "rois": ["V1"]}
    whole = rc.load_dataset("god", **options)["Subject1"]
    flag = whole["ilsvrc_train"].values
    np.testing.assert_array_equal(flag[kinds == 2], [facts[n] for n in names[kinds == 2]])
    assert set(flag[kinds != 2]) == {-1}
    for choice, keep in (("in_ilsvrc", flag != 0), ("not_in_ilsvrc", flag != 1)):
        part = rc.load_dataset("god", **options, test_images=choice)["Subject1"]
        assert part.to_dataset().identical(whole.to_dataset().isel(presentation=keep))
        n_test = 20 if choice == "in_ilsvrc" else 30
        assert np.unique(part["stimulus_id"].values[part["split"].values == "test"]).size == n_test


def test_rois_name_what_is_read(tmp_path, write_bdata, rows):
    judge = write(write_bdata, tmp_path / "Subject1.h5", rows)
    path = str(tmp_path)
    few = rc.load_dataset("god", path=path, rois=["FFA", "ROI_V1", "LOC | FFA"])["Subject1"]
    assert few["roi"].values.tolist() == ["FFA", "V1", "LOC | FFA"]
    np.testing.assert_array_equal(few["response"].values, judge.select("ROI_FFA|ROI_V1|ROI_LOC"))
    named = rc.load_dataset(
        "god", path=path, rois={"early": "V1 + V2", "rest": "ROI_VC - ROI_LVC"}, splits=["test"]
    )["Subject1"]
    test = rows[2] == 2
    for roi, selection in (("early", "ROI_V1 + ROI_V2"), ("rest", "ROI_VC - ROI_LVC")):
        mask = named["roi_mask"].sel(roi=roi).values
        np.testing.assert_array_equal(
            named["response"].values[:, mask], judge.select(selection)[test]
        )
    single = rc.load_dataset("god", path=path, rois=["FFA"], dtype="float32")["Subject1"]
    np.testing.assert_array_equal(
        single["response"].values, judge.select("ROI_FFA").astype(np.float32)
    )
    assert single["god_label"].dtype == np.float64


def test_one_file_under_any_name_is_a_subject(tmp_path, write_bdata, rows, one_subject):
    write(write_bdata, tmp_path / "ours.h5", rows)
    tree = rc.load_dataset("god", path=str(tmp_path / "ours.h5"), rois="V1", splits="test")
    whole = rc.load_dataset("god", path=str(one_subject))["Subject1"]
    assert list(tree) == ["ours"]
    test, mask = whole["split"].values == "test", whole["roi_mask"].sel(roi="V1").values
    np.testing.assert_array_equal(
        tree["ours"]["response"].values, whole["response"].values[test][:, mask]
    )


def test_options_as_a_study_file_gives_them():
    from rsacompare.datasets.god import load_brain
    from rsacompare.study.keys import check_options

    for given in (
        {"path": "x", "rois": ["V1"], "splits": ["train", "test"], "subjects": ["Subject1"]},
        {"rois": {"early": "V1 | V2"}, "test_images": "not_in_ilsvrc", "family": "spm"},
    ):
        assert check_options("data set god", load_brain, given) == given
    with pytest.raises(ProtocolError, match=r"expected .*list"):
        check_options("data set god", load_brain, {"subjects": 3})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rois": ["V1x"]}, ProtocolError, "Subject1.h5: unknown roi 'V1x'; did you mean 'V1'"),
        ({"rois": ["V1 |"]}, ProtocolError, "Subject1.h5: selection 'V1 |' cannot be read"),
        ({"rois": ["V1 - VC"]}, DataError, "ROI 'V1 - VC' has no voxels"),
        ({"rois": ["Run"]}, DataError, "columns that are not voxels"),
        ({"rois": []}, ProtocolError, "rois= names none"),
        ({"subjects": ["Subject7"]}, ProtocolError, "unknown subject 'Subject7'"),
        ({"splits": ["tset"]}, ProtocolError, "unknown split 'tset'; did you mean 'test'"),
        ({"test_images": "some"}, ProtocolError, "unknown test_images 'some'"),
        ({"family": "fmriprep"}, ProtocolError, "no files of family 'fmriprep', only 'spm'"),
        ({"dtype": "float16"}, ProtocolError, "unknown dtype 'float16'"),
    ],
)
def test_options_that_are_refused(one_subject, options, error, message):
    with pytest.raises(error, match=message.replace("|", r"\|")):
        rc.load_dataset("god", path=str(one_subject), **options)


@pytest.fixture(scope="module")
def one_subject(tmp_path_factory, write_bdata, rows):
    folder = tmp_path_factory.mktemp("god")
    write(write_bdata, folder / "Subject1.h5", rows)
    (folder / "README.txt").write_text("not a subject")
    return folder


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"stimulus_id": None}, DataError, "no labels, none of the keys stimulus_id"),
        ({"DataType": None}, DataError, "no key DataType"),
        ({"DataType": np.full(3450, 4.0)}, DataError, r"DataType is \[4.0\]"),
        ({"DataType": np.full(3450, 1.0)}, LabelError, "are not synset.image"),  # imagined ones
        ({"stimulus_id": np.full(3450, np.nan)}, LabelError, "2950 of 2950 labels"),
        ({"stimulus_id": np.arange(3450.0)}, LabelError, "labels are not synset.image"),
    ],
)
def test_files_that_are_refused(tmp_path, write_bdata, rows, columns, error, message):
    write(write_bdata, tmp_path / "Subject2.h5", rows, **columns)
    with pytest.raises(error, match=message) as caught:
        rc.load_dataset("god", path=str(tmp_path))
    assert "Subject2.h5" in str(caught.value)


def test_nothing_to_load_is_said_with_the_address(tmp_path, monkeypatch):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"10\.6084/m9\.figshare\.7387130"):
            rc.load_dataset("god", path=str(path))
    monkeypatch.delenv("RSACOMPARE_DATA", raising=False)
    with pytest.raises(ProtocolError, match="give path="):
        rc.load_dataset("god")


@pytest.fixture(scope="module")
def triple(tmp_path_factory, write_bdata, rows):
    """fMRIPrep's files as its script makes them: labels with several columns, rests, one-backs."""
    folder = tmp_path_factory.mktemp("fmriprep")
    names, labels, kinds, runs = rows
    data, marks = voxels(len(labels), 1)
    rng = np.random.default_rng(5)
    expected = {}
    for part, kind in (("ImageNetTraining", 1), ("ImageNetTest", 2), ("Imagery", 3)):
        take = np.flatnonzero(kinds == kind)
        session = 1 + (runs[take] - runs[take][0]) // 12
        run = 1 + (runs[take] - runs[take][0]) % 12
        shown = np.stack([np.arange(len(take)) + 1.0, labels[take]], axis=1)
        responses = data[take]
        expected[part] = names[take], responses, run, session
        if kind < 3:  # a one-back repeat now and then, and a rest before every run
            at = np.sort(rng.choice(len(take), 40, replace=False))
            order = np.sort(np.r_[np.arange(len(take)), at])
            first = np.r_[True, np.diff(run[order]) != 0]
            order = np.concatenate([[-1, k] if f else [k] for k, f in zip(order, first)])  # noqa: B905
            rest = order == -1
            order[rest] = order[np.flatnonzero(rest) + 1]
            noise = rng.standard_normal((len(order), data.shape[1]))
            repeat = np.r_[False, (np.diff(order) == 0) & ~rest[:-1]]
            responses = np.where((repeat | rest)[:, None], noise, data[take][order])
            shown, run, session = shown[order], run[order], session[order]
            shown[rest] = np.nan
        columns = {"VoxelData": responses, "Session": session, "Run": run, "Label": shown}
        file = folder / f"Subject1_{part}.h5"
        judge = write_bdata(file, columns, marks)
        # one of the columns of Label has the key of its own
        label = np.full(judge.dataset.shape[1], np.nan)
        label[judge.get_metadata("Label") == 1] = [0, 1]
        judge.add_metadata("stimulus_id" if kind < 3 else "category_id", label, "")
        judge.save(str(file))
    return folder, expected, marks


def test_the_three_files_of_fmriprep_are_joined(triple, tmp_path):
    folder, expected, marks = triple
    tree = rc.load_dataset("god", path=str(folder), rois=["VC"])
    node = tree["Subject1"]
    parts = [expected[p] for p in ("ImageNetTraining", "ImageNetTest", "Imagery")]
    held = [np.concatenate([part[i] for part in parts]) for i in range(4)]
    np.testing.assert_array_equal(node["stimulus_id"].values, held[0])
    np.testing.assert_array_equal(node["response"].values, held[1][:, marks["ROI_VC"] == 1])
    np.testing.assert_array_equal(node["run"].values, held[2])
    np.testing.assert_array_equal(node["session"].values, held[3])
    split = np.repeat(["train", "test", "imagery"], [1200, 1750, 500])
    np.testing.assert_array_equal(node["split"].values, split)
    assert node["repetition"].values.max() == 34
    assert tree.attrs["family"] == "fmriprep"
    assert "not the paper's voxels" in tree.attrs["description"]
    assert "40 one-back repeats left out of Subject1_ImageNet" in tree.attrs["description"]
    assert json.loads(tree.attrs["notes"]) == [
        "Subject1: 24 rows without a stimulus and 40 one-back repeats left out of "
        "Subject1_ImageNetTraining.h5",
        "Subject1: 35 rows without a stimulus and 40 one-back repeats left out of "
        "Subject1_ImageNetTest.h5",
    ]
    # the longer names of later downloads, some of the files
    for part in ("ImageNetTraining", "ImageNetTest"):
        later = tmp_path / f"sub-01_{part}_fmriprep_volume_native.h5"
        later.write_bytes((folder / f"Subject1_{part}.h5").read_bytes())
    two = rc.load_dataset("god", path=str(tmp_path), rois=["VC"])
    assert two.attrs["family"] == "fmriprep"
    first = node.to_dataset().isel(presentation=slice(2950))
    assert two["sub-01"].to_dataset().identical(first)
    (tmp_path / "sub-01_ImageNetTest_fmriprep_other.h5").write_bytes(b"")
    with pytest.raises(ProtocolError, match="two files of test for sub-01"):
        rc.load_dataset("god", path=str(tmp_path))
    no_imagery = rc.load_dataset("god", path=str(folder), rois=["VC"], splits=["train", "test"])
    assert no_imagery["Subject1"].to_dataset().identical(first)


def test_files_of_two_families_or_of_two_downloads_are_not_mixed(
    tmp_path, triple, write_bdata, rows
):
    for file in triple[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write(write_bdata, tmp_path / "Subject1.h5", rows)
    with pytest.raises(ProtocolError, match="family='spm' or family='fmriprep'"):
        rc.load_dataset("god", path=str(tmp_path))
    for family in ("spm", "fmriprep"):
        tree = rc.load_dataset("god", path=str(tmp_path), family=family, rois=["V1"])
        assert tree.attrs["family"] == family
    with h5py.File(tmp_path / "Subject1_ImageNetTest.h5", "a") as file:
        keys = [k.decode() for k in file["metadata/key"][()]]
        file["metadata/value"][keys.index("voxel_x"), np.argmax(triple[2]["ROI_VC"])] += 1
    with pytest.raises(DataError, match="do not have the same voxels"):
        rc.load_dataset("god", path=str(tmp_path), family="fmriprep")


def test_five_subjects_cost_the_memory_of_the_roi(tmp_path):
    """Peak while loading, against what is kept; the whole files would be 22 times as much."""
    n_rows, n_voxels, n_v1, n_subjects = 1600, 2200, 100, 5
    rng = np.random.default_rng(0)
    test = table("stimulus_ImageNetTest.tsv")
    labels = [label for _, label in test * (n_rows // 50)]
    for subject in range(1, n_subjects + 1):
        value = np.full((4, n_voxels + 2), np.nan)
        value[0, :n_voxels] = 1
        value[1, :n_voxels] = 0
        value[1, rng.choice(n_voxels, n_v1, replace=False)] = 1
        value[2, -2] = value[3, -1] = 1
        with h5py.File(tmp_path / f"Subject{subject}.h5", "w") as file:
            data = np.full((n_rows, n_voxels + 2), subject, dtype=np.float64)
            data[:, -2], data[:, -1] = labels, 2
            file["dataset"] = data
            file["metadata/key"] = [b"VoxelData", b"ROI_V1", b"stimulus_id", b"DataType"]
            file["metadata/value"] = value
    del data, value
    kept = n_subjects * n_rows * n_v1 * 8
    tracemalloc.start()
    try:
        tree = rc.load_dataset("god", path=str(tmp_path), rois=["V1"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tree["Subject4"]["response"].values.mean() == 4
    assert list(tree) == [f"Subject{i}" for i in range(1, 6)]
    # 8 MB for a block of rows, labels and names beside what is kept
    assert peak < kept + 20e6
    assert n_subjects * n_rows * n_voxels * 8 > 5 * (kept + 20e6)


def test_a_phantom_written_as_god_files_scores_the_same(tmp_path, write_bdata):
    options = {"n_subjects": 2, "n_train": 60, "n_test": 12, "n_repetitions": 3, "n_units": 48}
    brain = phantom.load_brain(**options)
    networks = phantom.load_networks(**options)
    names = [n for n, _ in table("stimulus_ImageNetTraining.tsv")[:60]]
    names += [n for n, _ in table("stimulus_ImageNetTest.tsv")[:12]]
    floats = dict(table("stimulus_ImageNetTraining.tsv") + table("stimulus_ImageNetTest.tsv"))
    shown = networks["sim-alexnet/cnn1"]["stimulus_id"].values
    name_of = dict(zip(shown.tolist(), names, strict=True))
    for i, node in enumerate(brain.children.values()):
        masks = {f"ROI_{r}": m for r, m in zip(node["roi"].values, node["roi_mask"].values)}  # noqa: B905
        columns = {
            "VoxelData": node["response"].values,
            "DataType": np.where(node["split"].values == "train", 1, 2),
            "stimulus_id": [floats[name_of[s]] for s in node["stimulus_id"].values],
        }
        write_bdata(tmp_path / f"Subject{i + 1}.h5", columns, masks)
    renamed = rc.activations(
        {
            net: {layer: leaf["activation"].values for layer, leaf in node.children.items()}
            for net, node in networks.children.items()
        },
        stimulus_id=names,
    )
    loaded = rc.load_dataset("god", path=str(tmp_path), rois=["V1"])
    ours = rc.compare(renamed, loaded, ["decoding"], random_state=0).scores["score"]
    plain = rc.compare(networks, brain, ["decoding"], rois=["V1"], random_state=0).scores["score"]
    # float32 in memory against the same values in float64
    np.testing.assert_allclose(ours.values, plain.values, atol=2e-5)
    assert ours.values.max() > 0.3
    assert ours["roi"].values.tolist() == ["V1"]
    single = rc.load_dataset("god", path=str(tmp_path), rois=["V1"], dtype="float32")
    same = rc.compare(renamed, single, ["decoding"], random_state=0).scores["score"]
    np.testing.assert_allclose(same.values, plain.values, rtol=0, atol=1e-12)
