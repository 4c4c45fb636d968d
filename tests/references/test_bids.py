"""ds001246 in its true layout, at a reduced image size, on the real events of sub-01.

Every presentation has a planted amplitude per voxel, one volume after its onset: what comes out
is checked number by number. Trends are judged by scipy, resampling by nibabel, betas by nilearn.
"""

import json
import os
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.signal
from nibabel.processing import resample_from_to
from nilearn.glm.first_level import FirstLevelModel

import rsacompare as rc
from rsacompare.datasets import timeseries, volumes
from rsacompare.datasets.images import Grid
from rsacompare.datasets.load import load_dataset
from rsacompare.errors import (
    DataError,
    FetchError,
    MissingDependency,
    ProtocolError,
    RsacompareError,
)
from rsacompare.schema.reading import read_tree
from rsacompare.schema.store import write_netcdf

REAL = Path(os.environ.get("RSACOMPARE_DATA") or "/nowhere") / "ds001246"

SHAPE = (6, 5, 4)
AFFINE = np.array([[-3.0, 0, 0, 9], [0, 3, 0, -6], [0, 0, 3, -4.5], [0, 0, 0, 1]])
TR, DISCARDED, LAG = 3.0, 3, 1
BASE = 1000.0
RUNS = {
    "perceptionTraining01": ("perception", ("01", "10")),
    "perceptionTraining02": ("perception", ("02",)),
    "perceptionTest01": ("perception", ("01", "02")),
    "imageryTest01": ("imagery", ("01",)),
}
AREAS = ("V1d", "V1v", "V2d", "V2v", "V3d", "V3v", "hV4", "LOC", "FFA", "PPA", "HVC")


def amplitude(name, voxels):
    """Planted percent signal change of a stimulus: known without reading any file."""
    seed = int.from_bytes(name.encode()[-6:], "little")
    return np.random.default_rng(seed).normal(size=voxels)


def mask_voxels():
    """Two voxels per mask, 22 masks of 120 voxels; HVC shares a voxel with LOC per hemisphere."""
    masks = {}
    for s, side in enumerate(("LH", "RH")):
        for a, area in enumerate(AREAS):
            first = 2 * (a + s * len(AREAS))
            masks[side, area] = [first, first + 1]
        masks[side, "HVC"][0] = masks[side, "LOC"][1]
    return masks


def image(flat, affine=AFFINE, dtype=np.float32):
    return nibabel.Nifti1Image(np.asarray(flat, dtype=dtype), affine)


def shown(table):
    """Rows that are presentations, repeats among them."""
    return table[table["event_type"].isin(["stimulus", "imagery"])]


def series(table, n_volumes, trend):
    """A run: baseline, a trend per voxel, and each block's amplitude LAG volumes late."""
    n = int(np.prod(SHAPE))
    signal = np.zeros((n_volumes, n))
    column = "stimulus_name" if "stimulus_name" in table else "category_name"
    for _, row in shown(table).iterrows():
        first = int(float(row["onset"]) / TR) - DISCARDED + LAG
        signal[first : first + int(float(row["duration"]) / TR)] += amplitude(row[column], n)
    # without any trend of their own the planted blocks must stay as they are
    time = np.arange(n_volumes) - (n_volumes - 1) / 2
    signal -= np.outer(time, time @ signal / (time @ time))
    signal -= signal.mean(axis=0)
    return BASE * (1 + signal / 100) + trend * np.outer(time, np.linspace(-2, 2, n)), signal


def planted(signal, onset, n):
    first = int(onset / TR) - DISCARDED + LAG
    return signal[first : first + n].mean(axis=0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The tree on disk, and the planted signal of every run."""
    if not REAL.is_dir():
        pytest.skip("RSACOMPARE_DATA is not set: the real event files are not here")
    root = tmp_path_factory.mktemp("bids") / "ds001246"
    root.mkdir()
    for file in REAL.glob("*.json"):
        shutil.copyfile(file, root / file.name)
    signals = {}
    for session, (task, labels) in RUNS.items():
        for label in labels:
            name = f"sub-01_ses-{session}_task-{task}_run-{label}"
            folder = root / "sub-01" / f"ses-{session}" / "func"
            folder.mkdir(parents=True, exist_ok=True)
            source = REAL / folder.relative_to(root) / f"{name}_events.tsv"
            shutil.copyfile(source, folder / source.name)
            table = pd.read_csv(source, sep="\t", dtype=str)
            volumes_ = 175 if task == "perception" else 210
            values, signal = series(table, volumes_, trend=0.5)
            signals[session, label] = signal
            out = root / "derivatives/preproc-spm/output/sub-01" / f"ses-{session}" / "func"
            out.mkdir(parents=True, exist_ok=True)
            grid = values.T.reshape(*SHAPE, -1, order="F")
            image(grid).to_filename(out / f"{name}_bold_preproc.nii.gz")
    anat = root / "sourcedata/sub-01/anat"
    anat.mkdir(parents=True)
    for (side, area), held in mask_voxels().items():
        flat = np.zeros(np.prod(SHAPE))
        flat[held] = 1
        file = anat / f"sub-01_mask_{side}_{area}.nii.gz"
        image(flat.reshape(SHAPE, order="F"), dtype=np.uint8).to_filename(file)
    return root, signals


@pytest.fixture(scope="module")
def tree(dataset):
    return load_dataset("bids", path=dataset[0])


@pytest.fixture
def copy(dataset, tmp_path):
    """A copy that a test may break, with one training run only."""
    root = tmp_path / "copy"
    keep = re.compile(r"Training01|mask|json$")
    for file in dataset[0].rglob("*"):
        if (
            file.is_file()
            and keep.search(str(file.relative_to(dataset[0])))
            and "n-10" not in str(file)
        ):
            target = root / file.relative_to(dataset[0])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return root


def bold_of(root, pattern="*_bold_preproc.nii.gz"):
    return next((root / "derivatives").rglob(pattern))


def flat_index(node):
    return np.ravel_multi_index(tuple(node[a].values for a in "ijk"), SHAPE, order="F")


def test_presentations_are_those_of_the_real_events(tree):
    """50 a run once the five repeats are dropped, 25 imagined; labels, splits, runs, values."""
    data = tree["sub-01"].to_dataset()
    frame = data["response"].isel(neuroid=0).to_dataframe()
    assert frame.groupby("run").size().to_list() == [25, 50, 50, 50, 50, 50]
    assert frame.groupby("split").size().to_dict() == {"imagery": 25, "test": 100, "train": 150}
    place = frame.groupby("run")[["session", "task", "run_label"]].first()
    assert place.to_numpy().tolist() == [
        ["imageryTest01", "imagery", "01"],
        ["perceptionTest01", "perception", "01"],
        ["perceptionTest01", "perception", "02"],
        ["perceptionTraining01", "perception", "01"],
        ["perceptionTraining01", "perception", "10"],
        ["perceptionTraining02", "perception", "02"],
    ]
    test = frame[frame["split"] == "test"]
    assert test["stimulus_id"].nunique() == 50
    assert sorted(test["repetition"].unique()) == [0, 1]
    train = frame[frame["split"] == "train"]
    assert train["stimulus_id"].is_unique
    # the first rows of the file of training run 1, the repeat at 78 s among them
    first = train[(train["run_label"] == "01") & (train["session"] == "perceptionTraining01")]
    assert first["stimulus_id"].to_list()[:6] == [
        "n02766534_15976",
        "n01970164_28566",
        "n04376876_11868",
        "n04225987_6665",
        "n03079230_8270",
        "n03394916_23304",
    ]
    assert first["onset"].to_list()[:6] == [33, 42, 51, 60, 69, 87]
    assert first["category"].iloc[0] == "n02766534"
    assert first["god_label"].iloc[4] == 3079230.008270
    assert np.isnan(first["vividness"]).all()
    imagery = frame[frame["split"] == "imagery"]
    assert imagery["stimulus_id"].to_list()[:3] == ["n02690373", "n01976957", "n04210120"]
    assert imagery["vividness"].to_list()[:3] == [5, 4, 5]
    assert json.loads(tree.attrs["categories"])["n03079230_8270"] == "n03079230"
    assert "Horikawa" in tree.attrs["citation"]
    assert tree.attrs["licence"] == "CC0"


def test_real_labels_are_the_floats_of_the_bdata_files(tree):
    """`god_label` is synset + image / 1e6 bit for bit, so that labels meet those of GOD."""
    data = tree["sub-01"].to_dataset()
    pictures = data["task"].values == "perception"
    for name, label in zip(
        data["stimulus_id"].values[pictures], data["god_label"].values[pictures], strict=True
    ):
        synset, picture = name[1:].split("_")
        assert label == float(f"{int(synset)}.{int(picture):06d}")


def test_planted_amplitudes_come_back(dataset, tree):
    """Trends gone, run mean divided out, three volumes (five imagined) averaged, one late."""
    data = tree["sub-01"].to_dataset()
    index = flat_index(data)
    values = data["response"].values
    for row in range(data.sizes["presentation"]):
        key = str(data["session"].values[row]), str(data["run_label"].values[row])
        n = 5 if data["task"].values[row] == "imagery" else 3
        want = planted(dataset[1][key], data["onset"].values[row], n)[index]
        # float32 images of about 1000 hold percent signal to about 1e-5
        np.testing.assert_allclose(values[row], want, atol=3e-5)


def test_another_shift_is_not_the_planted_signal(dataset):
    """The lag matters: with none, a third of each average is the block before: r = 2 / √5."""
    options = {"path": dataset[0], "sessions": ["perceptionTraining02"], "masks": ["V1"]}
    right = load_dataset("bids", **options)["sub-01"]["response"].values
    wrong = load_dataset("bids", shift=0, **options)["sub-01"]["response"].values
    r = np.corrcoef(right.ravel(), wrong.ravel())[0, 1]
    assert r == pytest.approx(2 / np.sqrt(5), abs=0.03)
    fewer = load_dataset("bids", n_volumes=1, **options)["sub-01"]
    signal = dataset[1]["perceptionTraining02", "02"][:, flat_index(fewer)]
    np.testing.assert_allclose(fewer["response"].values[0], signal[9], atol=1e-4)


def test_masks_are_united_over_hemispheres(tree):
    data = tree["sub-01"].to_dataset()
    index = flat_index(data)
    held = {
        roi: sorted(index[data["roi_mask"].sel(roi=roi).values].tolist())
        for roi in data["roi"].values
    }
    masks = mask_voxels()
    early = {f"V{n}": (f"V{n}d", f"V{n}v") for n in (1, 2, 3)}
    want = {**early, "V4": ("hV4",), **{a: (a,) for a in ("LOC", "FFA", "PPA", "HVC")}}
    want["LVC"] = sum(early.values(), ())
    want["VC"] = AREAS
    assert list(held) == list(want)
    for roi, areas in want.items():
        union = {v for area in areas for side in ("LH", "RH") for v in masks[side, area]}
        assert held[roi] == sorted(union), roi
    assert (len(held["V1"]), len(held["LVC"]), len(held["HVC"]), len(held["VC"])) == (8, 24, 4, 42)


def test_masks_of_your_own(dataset):
    where = "sourcedata/{subject}/anat/{subject}_mask_LH_%s.nii.gz"
    options = {"path": dataset[0], "sessions": ["imageryTest01"]}
    tree = load_dataset(
        "bids", masks={"early": [where % "V1d", where % "V2?"], "face": where % "FFA"}, **options
    )
    counts = tree["sub-01"]["roi_mask"].sum("neuroid").to_series().to_dict()
    assert counts == {"early": 6, "face": 2}
    same = load_dataset("bids", masks={"sub-01": {"face": where % "FFA"}}, **options)
    assert same["sub-01"].sizes["neuroid"] == 2
    with pytest.raises(ProtocolError, match="unknown roi 'V5'; did you mean 'V"):
        load_dataset("bids", masks=["V5"], **options)
    with pytest.raises(DataError, match=r"sub-01, ROI x: no mask nothing\.nii in"):
        load_dataset("bids", masks={"x": "nothing.nii"}, **options)


def test_maps_go_back_to_where_they_were(dataset, tree, tmp_path):
    node = tree["sub-01"]
    values = node["response"].values[:2]
    back = volumes.to_nifti(values, node)
    assert back.shape == (*SHAPE, 2)
    np.testing.assert_array_equal(back.affine, AFFINE)
    flat = back.get_fdata().reshape(-1, 2, order="F")
    np.testing.assert_array_equal(flat[flat_index(node)], values.T)
    assert np.isnan(flat).sum() == 2 * (np.prod(SHAPE) - node.sizes["neuroid"])
    # one ROI, and after a round through netCDF
    write_netcdf(tree, tmp_path / "tree.nc")
    again = read_tree(tmp_path / "tree.nc")["sub-01"]
    v1 = volumes.to_nifti(np.arange(8.0), again, roi="V1", fill=-1).get_fdata()
    assert sorted(v1[v1 >= 0]) == list(range(8))
    mask = nibabel.load(dataset[0] / "sourcedata/sub-01/anat/sub-01_mask_LH_V1d.nii.gz")
    assert (v1[np.asarray(mask.dataobj) > 0] >= 0).all()
    with pytest.raises(DataError, match=r"\(5,\) values for 42 voxels"):
        volumes.to_nifti(np.zeros(5), node)


def test_detrending_is_scipys_with_the_mean_kept():
    values = np.random.default_rng(0).normal(50, 9, (37, 6)).cumsum(axis=0)
    want = scipy.signal.detrend(values, axis=0) + values.mean(axis=0)
    np.testing.assert_allclose(timeseries.detrend(values), want, rtol=1e-12)


def test_normalisation():
    values = np.array([[90.0, 5, 0], [110, 5, 0]])
    np.testing.assert_allclose(
        timeseries.normalise(values, "percent"), [[-10, 0, np.nan], [10, 0, np.nan]]
    )
    np.testing.assert_allclose(
        timeseries.normalise(values, "zscore"), [[-1, np.nan, np.nan], [1, np.nan, np.nan]]
    )
    assert timeseries.normalise(values, "none") is values
    with pytest.raises(ProtocolError, match="did you mean 'percent'"):
        timeseries.normalise(values, "percents")


def glm_events(table):
    """The events as nilearn takes them: a condition per trial, and the nuisance events."""
    rows = shown(table)
    name = rows["stimulus_name" if "stimulus_name" in rows else "category_name"]
    repeat = (name == name.shift()).to_numpy()
    kept = rows[~repeat]
    conditions = [f"t{i:02d}" for i in range(len(kept))]
    other = [rows[repeat].assign(trial_type="repeat")]
    other += [
        table[table["event_type"] == kind].assign(trial_type=kind) for kind in ("cue", "evaluation")
    ]
    both = pd.concat([kept.assign(trial_type=conditions), *other])[
        ["onset", "duration", "trial_type"]
    ]
    both[["onset", "duration"]] = both[["onset", "duration"]].astype(float)
    return both.reset_index(drop=True), conditions


@pytest.mark.filterwarnings("ignore:.*Generation of a mask:RuntimeWarning")
@pytest.mark.parametrize("session", ["perceptionTraining02", "imageryTest01"])
def test_glm_betas_are_nilearns(dataset, session):
    task, (label,) = RUNS[session]
    ours = load_dataset(
        "bids",
        path=dataset[0],
        sessions=[session],
        masks=["VC"],
        estimator="glm",
        normalise="none",
    )["sub-01"].to_dataset()
    name = f"sub-01_ses-{session}_task-{task}_run-{label}"
    events, conditions = glm_events(
        pd.read_csv(next((dataset[0] / "sub-01").rglob(f"{name}_events.tsv")), sep="\t", dtype=str)
    )
    file = bold_of(dataset[0], f"{name}_bold_preproc.nii.gz")
    # nilearn counts from the first volume it is given: move the events instead of the frames
    events["onset"] -= DISCARDED * TR
    whole = image(np.ones(SHAPE), dtype=np.uint8)
    model = FirstLevelModel(
        t_r=TR,
        hrf_model="spm",
        drift_model="cosine",
        high_pass=0.01,
        mask_img=whole,
        noise_model="ols",
        signal_scaling=False,
        minimize_memory=False,
    ).fit(nibabel.load(file), events)
    theirs = np.array(
        [
            model.compute_contrast(c, output_type="effect_size")
            .get_fdata()
            .ravel(order="F")[flat_index(ours)]
            for c in conditions
        ]
    )
    assert theirs.shape == ours["response"].shape == (25 if task == "imagery" else 50, 42)
    np.testing.assert_allclose(ours["response"].values, theirs, atol=5e-5)
    assert theirs.std() > 1  # percent of 1000


def test_glm_recovers_planted_betas():
    """A series that is a design times known betas gives them back; overlaps are told."""
    onset = np.arange(12, 120, 12.0)
    duration = np.full(len(onset), 4.0)
    betas = np.random.default_rng(1).normal(size=(len(onset), 3))
    design = timeseries.glm_betas(np.eye(80), onset, duration, 2.0)  # the pseudo-inverse
    rows = np.linalg.pinv(design)  # its own span: what the trials explain beyond the drifts
    np.testing.assert_allclose(
        timeseries.glm_betas(rows @ betas, onset, duration, 2.0), betas, atol=1e-9
    )
    # drifts and a constant are taken out
    drift = np.cos(np.pi * np.arange(80) / 80)[:, None] * 50 + 1000
    assert np.abs(timeseries.glm_betas(drift, onset, duration, 2.0)).max() < 60
    with pytest.raises(DataError, match="trials that cannot be told apart"):
        timeseries.glm_betas(np.eye(80), np.repeat(onset, 2), np.repeat(duration, 2), 2.0)


def test_nilearn_missing_is_told(dataset, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nilearn.glm.first_level", None)
    with pytest.raises(MissingDependency, match=r"pip install 'rsacompare\[glm\]'"):
        load_dataset("bids", path=dataset[0], sessions=["imageryTest01"], estimator="glm")


def test_a_mask_on_another_grid(copy):
    """Told with both grids; by nearest voxel when asked, as nibabel does it."""
    file = copy / "sourcedata/sub-01/anat/sub-01_mask_LH_V1d.nii.gz"
    fine = np.diag([-1.5, 1.5, 1.5, 1]) @ np.eye(4)
    fine[:3, 3] = [9.4, -6.2, -4.9]
    held = (np.random.default_rng(3).random((12, 10, 8)) < 0.4).astype(np.uint8)
    image(held, fine, np.uint8).to_filename(file)
    with pytest.raises(DataError) as told:
        load_dataset("bids", path=copy, task="perception", masks=["V1"])
    assert "Mask: shape (12, 10, 8), affine [-1.5 0 0 9.4; " in str(told.value)
    assert "Images: shape (6, 5, 4), affine [-3 0 0 9; 0 3 0 -6; 0 0 3 -4.5]" in str(told.value)
    only = {"x": "sourcedata/{subject}/anat/{subject}_mask_LH_V1d.nii.gz"}
    node = load_dataset("bids", path=copy, task="perception", masks=only, resample_masks=True)[
        "sub-01"
    ]
    want = resample_from_to(nibabel.load(file), (SHAPE, AFFINE), order=0).get_fdata()
    assert sorted(flat_index(node)) == np.flatnonzero(want.ravel(order="F")).tolist()
    assert 20 < node.sizes["neuroid"] < 80


def test_grids_are_the_same_up_to_rounding():
    grid = Grid((64, 64, 50), AFFINE)
    near = AFFINE.copy()
    near[0, 3] += 0.1
    tilted = AFFINE.copy()
    tilted[0, 1] = 0.003  # a twentieth of a voxel within 63
    assert grid.same(Grid((64, 64, 50), near))
    assert not grid.same(Grid((64, 64, 50), tilted))
    assert not grid.same(Grid((64, 64, 49), AFFINE))


def test_links_without_content_say_how_to_get_it(copy):
    file = bold_of(copy)
    file.unlink()
    file.symlink_to("../../../../.git/annex/objects/xx/yy/MD5E-s1--0.nii.gz")
    with pytest.raises(FetchError) as told:
        load_dataset("bids", path=copy, task="perception")
    part = file.relative_to(copy).as_posix()
    assert f"in {copy} run `datalad get {part}` (or `git annex get {part}`)" in str(told.value)
    file.unlink()
    file.write_text("/annex/objects/MD5E-s1--0.nii.gz\n")  # an unlocked file
    with pytest.raises(FetchError, match="datalad get"):
        load_dataset("bids", path=copy, task="perception")
    file.unlink()
    with pytest.raises(DataError, match=r"sub-01: no images match .*get them \(datalad get\)"):
        load_dataset("bids", path=copy, task="perception")


def test_a_run_that_was_not_cut_is_told(copy):
    """178 volumes instead of 175: nothing was discarded, and all windows would be wrong."""
    file = bold_of(copy)
    values = nibabel.load(file).get_fdata()
    image(np.concatenate([values[..., :3], values], axis=-1)).to_filename(file)
    with pytest.raises(DataError, match=r"has 178 volumes; 178 were scanned.* expected 0 for"):
        load_dataset("bids", path=copy, task="perception")
    right = load_dataset("bids", path=copy, task="perception", discarded=0)
    assert right["sub-01"].sizes["presentation"] == 50


def test_voxels_without_signal_are_told_or_dropped(copy):
    file = bold_of(copy)
    values = nibabel.load(file).get_fdata()
    dead = np.unravel_index(mask_voxels()["LH", "V1d"][0], SHAPE, order="F")
    values[dead] = 0
    image(values).to_filename(file)
    with pytest.raises(DataError) as told:
        load_dataset("bids", path=copy, task="perception", masks=["V1", "V2"])
    assert "1 of 16 voxels have no usable values" in str(told.value)
    assert "data that are centred already need 'zscore'" in str(told.value)
    assert f"first at (i, j, k) {tuple(map(int, dead))}" in str(told.value)
    node = load_dataset(
        "bids", path=copy, task="perception", masks=["V1", "V2"], dead_voxels="drop"
    )["sub-01"]
    assert node["roi_mask"].sum("neuroid").values.tolist() == [7, 8]


def test_names_that_are_not_there(copy):
    for options, message in (
        ({"layout": "ds00124"}, "unknown layout 'ds00124'; did you mean 'ds001246'"),
        ({"subjects": ["02"]}, "unknown subject 'sub-02'; did you mean 'sub-01'"),
        ({"shift": 1.5}, "shift=1.5: a whole number of volumes is expected"),
        ({"n_volumes": 0}, "n_volumes=0: a whole number"),
        ({"estimator": "glm", "hrf_model": "x"}, "nilearn makes no design of these: "),
        ({"estimator": "glms"}, "unknown estimator 'glms'; did you mean 'glm'"),
        ({"normalise": "psc"}, "unknown normalise 'psc'"),
        ({"columns": {"k": "kind"}}, "columns: the name k has a meaning already"),
        ({"splits": {"x*": "train"}}, r"no pattern of `splits` \(x\*\) fits 'perceptionTrai"),
    ):
        with pytest.raises(ProtocolError, match=message):
            load_dataset("bids", path=copy, task="perception", **options)
    for options, message in (
        ({"stimulus": "picture"}, r"events\.tsv: unknown column 'picture'"),
        ({"stimulus": "category_index", "events": "rest"}, r"2 presentations name no stimulus"),
        ({"sessions": ["ses-nothing"]}, "no images match"),
        ({"path": "/nowhere/at/all"}, "no folder /nowhere/at/all"),
        ({"shift": 4}, r"1 of 50 blocks are not wholly in its 175 volumes, first the one at 519"),
    ):
        with pytest.raises(DataError, match=message):
            load_dataset("bids", **{"path": copy, "task": "perception", **options})
    fewer = load_dataset("bids", path=copy, task="perception", shift=4, incomplete="drop")
    assert fewer["sub-01"].sizes["presentation"] == 49


def test_from_scans_to_scores(dataset, tree):
    """A network that is V1's planted patterns scores 1 with V1, and not with areas apart from it.

    The whole way: events, masks, runs averaged over repetitions, the test split, RSA.
    """
    data = tree["sub-01"].to_dataset()
    v1 = flat_index(data)[data["roi_mask"].sel(roi="V1").values]
    test = data["split"].values == "test"
    names = np.unique(data["stimulus_id"].values[test])
    network = np.zeros((len(names), len(v1)))
    for row in np.flatnonzero(test):  # two runs, each stimulus once in each
        key = str(data["session"].values[row]), str(data["run_label"].values[row])
        want = planted(dataset[1][key], data["onset"].values[row], 3)[v1]
        network[np.searchsorted(names, data["stimulus_id"].values[row])] += want / 2
    acts = rc.activations({"net": {"v1": network}}, stimulus_id=names)
    scores = rc.compare(acts, tree, metrics=["rsa"], rois=["V1", "V2", "V3", "VC"]).scores["score"]
    found = scores.squeeze().to_series().to_dict()
    assert found["V1"] == pytest.approx(1, abs=1e-4)
    assert 0.1 < found["VC"] < 0.9  # 8 of its 42 voxels
    assert abs(found["V2"]) < 0.15
    assert abs(found["V3"]) < 0.15


def test_what_is_told_of_the_data(dataset, tree, copy):
    assert tree.attrs["description"] == (
        "BIDS data set 10.18112/openneuro.ds001246.v1.2.1. Patterns: 3 initial volumes discarded; "
        "one-back repeats left out; linear trend of each run removed; percent of the run's mean; "
        "mean over each block's volumes, 1 volume(s) after its onset."
    )
    assert list(json.loads(tree.attrs["inputs"])) == ["ds001246/sub-01 (6 runs)"]

    def checksum(**options):
        held = load_dataset("bids", path=copy, task="perception", masks=["V1"], **options)
        return next(iter(json.loads(held.attrs["inputs"]).values()))

    before = checksum()
    assert checksum(shift=0) == before  # of the files, not of the options
    events = next(copy.rglob("*run-01_events.tsv"))
    events.write_text(events.read_text().replace("79.034210", "79.034211"))
    assert checksum() != before


# any BIDS derivative: fMRIPrep names, no sessions, side-car inherited, two subjects


@pytest.fixture
def generic(tmp_path):
    root = tmp_path / "study"
    rng = np.random.default_rng(5)
    (root / "derivatives/rois").mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "My study", "License": "CC0"}')
    (root / "task-view_bold.json").write_text('{"RepetitionTime": 2.0}')
    for subject in ("sub-a", "sub-b"):
        raw, prep = root / subject / "func", root / "derivatives/fmriprep" / subject / "func"
        raw.mkdir(parents=True)
        prep.mkdir(parents=True)
        for run in (1, 2, 10):
            rows = ["onset\tduration\ttrial_type\tkind"]
            values = np.full((*SHAPE, 40), 500.0)
            for trial, name in enumerate(rng.permutation(["cat", "dog", "car", "cup"])):
                onset = 4 + 16 * trial
                rows.append(f"{onset}\t8\t{name}\t{'animal' if name in ('cat', 'dog') else 'tool'}")
                level = 5 * (1 + ["cat", "dog", "car", "cup"].index(name)) * run
                values[..., onset // 2 + 2 : onset // 2 + 6] += level
            (raw / f"{subject}_task-view_run-{run}_events.tsv").write_text("\n".join(rows) + "\n")
            name = f"{subject}_task-view_run-{run:02d}_space-T1w_desc-preproc_bold.nii.gz"
            image(values, dtype=np.int16).to_filename(prep / name)
        mask = np.zeros(SHAPE)
        mask[1:3, 2, 1] = 1
        image(mask, dtype=np.uint8).to_filename(root / f"derivatives/rois/{subject}_V1.nii.gz")
    return root, {"V1": "derivatives/rois/{subject}_V1.nii.gz"}


def test_any_derivative(generic):
    root, masks = generic
    tree = load_dataset(
        "bids",
        path=root,
        task="view",
        masks=masks,
        category="kind",
        detrend=False,
        normalise="none",
    )
    assert list(tree.children) == ["sub-a", "sub-b"]
    for node in tree.children.values():
        # runs in natural order (10 after 2), the lag of 4 s is two volumes here, four averaged
        assert node["run_label"].values.tolist() == ["01"] * 4 + ["02"] * 4 + ["10"] * 4
        assert node["run"].values.tolist() == [1] * 4 + [2] * 4 + [3] * 4
        order = ["cat", "dog", "car", "cup"]
        want = [
            500 + 5 * (1 + order.index(s)) * int(r)
            for s, r in zip(node["stimulus_id"].values, node["run_label"].values, strict=True)
        ]
        np.testing.assert_array_equal(node["response"].values, np.repeat([want], 2, axis=0).T)
        assert set(node["split"].values) == {""}
        assert node["repetition"].values.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert json.loads(tree.attrs["categories"])["dog"] == "animal"
    assert tree.attrs["title"] == "My study"
    parted = load_dataset(
        "bids",
        path=root,
        masks=masks,
        subjects=["b"],
        splits={"view": "test"},
        columns={"sort": "kind"},
    )
    assert list(parted.children) == ["sub-b"]
    assert set(parted["sub-b"]["split"].values) == {"test"}
    assert set(parted["sub-b"]["sort"].values) == {"animal", "tool"}


def test_damaged_tables_are_told(generic):
    """Any bit of an events table or of a side-car: it loads, or an error of ours names the file."""
    root, masks = generic
    table = root / "sub-a/func/sub-a_task-view_run-1_events.tsv"
    options = {"path": root, "masks": masks, "subjects": "a", "incomplete": "drop"}
    rng = np.random.default_rng(0)
    told = 0
    for file, flips in ((table, 60), (root / "task-view_bold.json", 30)):
        whole = file.read_bytes()
        for place in rng.integers(len(whole), size=flips):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(bytes(damaged))
            try:
                load_dataset("bids", **options)
            except RsacompareError:
                told += 1
        file.write_bytes(whole)
    assert told > 15
    table.write_text("onset\tduration\ttrial_type\n1e300\t1e300\tcat\n")
    with pytest.raises(DataError, match=r"1 of 1 blocks are not wholly in its 40 volumes"):
        load_dataset("bids", **{**options, "incomplete": "error"})
    assert load_dataset("bids", **options)["sub-a"].sizes["presentation"] == 8
    for text in ("", "onset\tduration\n", "a\tb\n1\t2\n", "onset\tduration\nn/a\t2\n"):
        table.write_text(text)
        with pytest.raises(DataError, match=r"run-1_events\.tsv"):
            load_dataset("bids", **options)


def test_what_a_derivative_may_lack(generic):
    root, masks = generic
    with pytest.raises(ProtocolError, match="masks: name at least one ROI"):
        load_dataset("bids", path=root)
    file = root / "derivatives/fmriprep/sub-a/func"
    other = file / "sub-a_task-view_run-02_space-MNI_desc-preproc_bold.nii.gz"
    shutil.copyfile(file / "sub-a_task-view_run-02_space-T1w_desc-preproc_bold.nii.gz", other)
    with pytest.raises(DataError, match=r"two images of one scan: .*space-MNI.* and .*space-T1w"):
        load_dataset("bids", path=root, masks=masks)
    bold = "derivatives/fmriprep/{subject}/func/*_task-{task}_*space-T1w_desc-preproc_bold.nii.gz"
    load_dataset("bids", path=root, masks=masks, bold=bold)
    (root / "task-view_bold.json").unlink()
    with pytest.raises(DataError, match=r"no repetition time in side-car or header"):
        load_dataset("bids", path=root, masks=masks, bold=bold)
    load_dataset("bids", path=root, masks=masks, bold=bold, repetition_time=2.0)
    (root / "sub-b/func/sub-b_task-view_run-10_events.tsv").unlink()
    with pytest.raises(DataError, match=r"no events; expected sub-b_task-view_run-10_events"):
        load_dataset("bids", path=root, masks=masks, bold=bold)


def test_all_masks_are_looked_at_before_the_first_run_is_read(copy, monkeypatch):
    """A second subject's mask on another grid must not cost the first subject's computation."""
    from rsacompare.datasets import bids

    for file in [f for f in copy.rglob("*") if f.is_file() and "sub-01" in f.name]:
        other = Path(str(file).replace("sub-01", "sub-02"))
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, other)
    read, real = [], bids.read_run
    monkeypatch.setattr(bids, "read_run", lambda run, *a: read.append(run.subject) or real(run, *a))
    two = load_dataset("bids", path=copy, masks="V1")
    assert read == ["sub-01", "sub-02"]
    np.testing.assert_array_equal(two["sub-01"]["response"], two["sub-02"]["response"])
    read.clear()
    mask = copy / "sourcedata/sub-02/anat/sub-02_mask_LH_V1d.nii.gz"
    image(np.ones((3, 3, 3)), dtype=np.uint8).to_filename(mask)
    with pytest.raises(DataError, match=r"sub-02_mask_LH_V1d.*on another grid"):
        load_dataset("bids", path=copy, masks="V1")
    assert read == []
