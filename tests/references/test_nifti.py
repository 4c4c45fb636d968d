"""Beta images with labels, written with nibabel and read back value by value."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest

from rsacompare.datasets.images import open_image
from rsacompare.datasets.load import load_dataset
from rsacompare.datasets.volumes import to_nifti
from rsacompare.errors import DataError, LabelError
from rsacompare.schema.arrays import responses

SHAPE = (5, 4, 3)
AFFINE = np.array([[2.0, 0, 0, -4], [0, 2, 0, -3], [0, 0, 2.5, 1], [0, 0, 0, 1]])
N = 6


@pytest.fixture
def scene(tmp_path):
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(*SHAPE, N)).astype(np.float32)
    v1, it = rng.random((2, *SHAPE)) < 0.3
    for name, array in (("sub-07_betas", betas), ("V1", v1), ("IT", it)):
        values = array.astype(np.uint8) if array.dtype == bool else array
        nibabel.Nifti1Image(values, AFFINE).to_filename(tmp_path / f"{name}.nii.gz")
    table = pd.DataFrame(
        {
            "stimulus_id": ["007", "a", "b", "007", "a", "c"],
            "split": ["train", "train", "train", "test", "test", "test"],
            "run": [1, 1, 1, 2, 2, 2],
            "category": ["x", "x", "y", "x", "x", "y"],
        }
    )
    table.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    table.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path, betas, {"V1": v1, "IT": it}, table


def masks(folder):
    return {roi: folder / f"{roi}.nii.gz" for roi in ("V1", "IT")}


@pytest.mark.parametrize("labels", ["labels.tsv", "labels.csv"])
def test_every_value_is_where_it_was(scene, labels):
    folder, betas, rois, table = scene
    tree = load_dataset(
        "nifti", betas=folder / "sub-07_betas.nii.gz", labels=folder / labels, masks=masks(folder)
    )
    node = tree["sub-07"]
    for roi, mask in rois.items():
        chosen = node["response"].values[:, node["roi_mask"].sel(roi=roi).values]
        np.testing.assert_array_equal(chosen, betas[mask].T)
    # labels stay text: a table that reads 007 as the number 7 would lose it
    assert node["stimulus_id"].values.tolist() == table["stimulus_id"].to_list()
    assert node["split"].values.tolist() == table["split"].to_list()
    assert node["run"].values.tolist() == [1, 1, 1, 2, 2, 2]
    assert node["repetition"].values.tolist() == [0] * 6
    assert json.loads(tree.attrs["categories"]) == {"007": "x", "a": "x", "b": "y", "c": "y"}
    back = to_nifti(node["response"].values, node, fill=0).get_fdata()
    union = rois["V1"] | rois["IT"]
    np.testing.assert_array_equal(back, np.where(union[..., None], betas, 0))


def test_one_image_per_file_and_no_masks(scene):
    """A list of 3-D images; without masks the voxels that have values."""
    folder, betas, _, _ = scene
    betas[0, 0, 0] = 0
    betas[1, 1, 1, 2] = np.nan
    files = [folder / f"beta_{i:04d}.nii" for i in range(N)]
    for i, file in enumerate(files):
        nibabel.Nifti1Image(betas[..., i], AFFINE).to_filename(file)
    tree = load_dataset("nifti", betas=files, labels=list("abcdef"))
    node = tree["sub-01"]
    keep = np.ones(SHAPE, dtype=bool)
    keep[0, 0, 0] = keep[1, 1, 1] = False
    np.testing.assert_array_equal(node["response"].values, betas[keep].T)
    assert node["roi"].values.tolist() == ["all"]
    assert set(node["split"].values) == {""}


def test_several_subjects(scene):
    folder, betas, rois, table = scene
    other = betas[..., ::-1] * 2
    nibabel.Nifti1Image(other, AFFINE).to_filename(folder / "b.nii")
    nibabel.Nifti1Image(rois["IT"].astype(np.uint8) * 255, AFFINE).to_filename(folder / "b_IT.nii")
    tree = load_dataset(
        "nifti",
        betas={"a": folder / "sub-07_betas.nii.gz", "b": folder / "b.nii"},
        labels={"a": table, "b": {c: v[::-1].to_list() for c, v in table.items()}},
        masks={"a": masks(folder), "b": {"IT": folder / "b_IT.nii"}},
    )
    assert [node["roi"].values.tolist() for node in tree.children.values()] == [
        ["V1", "IT"],
        ["IT"],
    ]
    np.testing.assert_array_equal(tree["b"]["response"].values, other[rois["IT"]].T)
    assert tree["b"]["stimulus_id"].values.tolist() == table["stimulus_id"].to_list()[::-1]
    assert tree["b"]["run"].values.tolist() == [2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["i2", "f4", "f8", "u1"])
def test_reading_is_nibabels(tmp_path, order, kind, dtype):
    """Byte orders, versions of the format, types, and the scaling of integers."""
    values = np.random.default_rng(1).uniform(-50, 50, (4, 3, 2, 5))
    image = kind(values, AFFINE, dtype=np.dtype(dtype))
    image.header.set_data_dtype(np.dtype(dtype))
    made = kind(values, AFFINE, header=image.header.as_byteswapped(order))
    file = tmp_path / "image.nii.gz"
    made.to_filename(file)
    theirs = nibabel.load(file)
    assert theirs.header.endianness == order
    ours = open_image(file)
    np.testing.assert_array_equal(ours.grid.affine, theirs.affine)
    want = theirs.get_fdata().reshape(-1, 5, order="F").T
    np.testing.assert_allclose(ours.read(), want, rtol=1e-6)
    ijk = np.array([[3, 2, 1], [0, 1, 0], [2, 0, 1]])
    np.testing.assert_allclose(ours.read(ijk), theirs.get_fdata()[tuple(ijk.T)].T, rtol=1e-6)


def test_the_time_unit_of_the_header(tmp_path):
    for unit, zoom, want in (("sec", 2.5, 2.5), ("msec", 2000, 2.0), ("unknown", 1, 0.0)):
        image = nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), AFFINE)
        image.header.set_xyzt_units("mm", unit)
        image.header["pixdim"][4] = zoom
        image.to_filename(tmp_path / "image.nii")
        assert open_image(tmp_path / "image.nii").repetition_time == want


def test_further_coordinates_of_responses():
    """One value per row or column, shared or per subject; text from pandas stays text."""
    values = {"a": np.zeros((2, 3)), "b": np.zeros((2, 3))}
    tree = responses(
        values,
        stimulus_id=["x", "y"],
        presentation={"run": {"a": [1, 2], "b": [3, 4]}, "session": pd.Series(["p", "q"])},
        neuroid={"i": [7, 8, 9]},
    )
    assert tree["b"]["run"].values.tolist() == [3, 4]
    assert tree["a"]["session"].values.dtype.kind == "U"
    assert tree["b"]["i"].dims == ("neuroid",)
    for options, message in (
        (
            {"presentation": {"run": [1, 2, 3]}},
            r"one for each of 2 along presentation; got shape \(3,\)",
        ),
        ({"neuroid": {"i": {"a": [1, 2, 3]}}}, "responses of b: no labels for this subject"),
        ({"presentation": {"split": ["", ""]}}, "'split' has a meaning of its own"),
    ):
        with pytest.raises(LabelError, match=message):
            responses(values, stimulus_id=["x", "y"], **options)


def test_what_does_not_fit_is_told(scene):
    folder, betas, rois, table = scene
    file = folder / "sub-07_betas.nii.gz"

    def load(**options):
        given = {"betas": file, "labels": folder / "labels.tsv", "masks": masks(folder), **options}
        return load_dataset("nifti", **given)

    with pytest.raises(LabelError, match=r"5 labels for 6 images in .*sub-07_betas"):
        load(labels=table[:5])
    with pytest.raises(LabelError, match="unknown column 'stim'; did you mean 'stimulus_id'"):
        load(stimulus="stim")
    with pytest.raises(LabelError, match="'i' cannot be a coordinate of rows and of columns"):
        load(labels=table.assign(i=1))
    with pytest.raises(LabelError, match="unknown subject with labels 'a'"):
        load(betas={"a": file}, labels={"b": table})
    with pytest.raises(DataError, match=r"no file .*absent\.nii"):
        load(masks=folder / "absent.nii")
    with pytest.raises(DataError, match="a mask of 6 volumes; one is expected"):
        load(masks=file)
    nibabel.Nifti1Image(betas[..., 0], AFFINE).to_filename(folder / "odd.nii")
    with pytest.raises(DataError, match="a mask holds 0 and one other value, this one 60 values"):
        load(masks=folder / "odd.nii")
    nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE).to_filename(folder / "none.nii")
    with pytest.raises(DataError, match="the mask of ROI 'empty' holds no voxel"):
        load(masks={"empty": folder / "none.nii"})
    shifted = AFFINE.copy()
    shifted[2, 3] += 1.0
    nibabel.Nifti1Image(rois["V1"].astype(np.uint8), shifted).to_filename(folder / "moved.nii")
    with pytest.raises(DataError, match=r"Mask: shape \(5, 4, 3\), affine .* 0 0 2\.5 2\]"):
        load(masks=folder / "moved.nii")
    with pytest.raises(DataError, match="on another grid than the subject's first image"):
        load(betas=[file, folder / "moved.nii"], labels=[*"abcdefg"])
    broken = betas.copy()
    broken[tuple(np.argwhere(rois["V1"])[0])] = np.nan
    nibabel.Nifti1Image(broken, AFFINE).to_filename(folder / "nan.nii")
    with pytest.raises(DataError, match=r"1 of \d+ voxels have no usable values"):
        load(betas=folder / "nan.nii")
    kept = load(betas={"s": folder / "nan.nii"}, dead_voxels="drop")
    assert kept["s"].sizes["neuroid"] == (rois["V1"] | rois["IT"]).sum() - 1
