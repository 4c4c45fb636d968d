"""Category decoding on real voxels: the whole path from NIfTI to labelled patterns must hold.

Eight categories, twelve runs: scikit-learn trains on eleven runs and names the blocks of the
twelfth. A wrong mask order, a shifted label or a mixed-up run would take it to chance.
"""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import scipy.signal
from scipy.stats import binomtest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.svm import SVC

from rsacompare.datasets import volumes
from rsacompare.datasets.load import load_dataset
from rsacompare.datasets.nifti import CATEGORIES
from rsacompare.errors import ProtocolError

FOLDER = Path(os.environ.get("RSACOMPARE_DATA") or "/nowhere") / "haxby"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="RSACOMPARE_DATA is not set: the scans are not here"
)
CHANCE = 1 / 8


@pytest.fixture(scope="module")
def node():
    return load_dataset("haxby")["sub-01"]


LDA = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
SVM = SVC(kernel="linear")  # less exact, and a hundred times faster


def accuracy(values, names, run, classifier):
    found = cross_val_predict(classifier, values, names, groups=run, cv=LeaveOneGroupOut())
    return (found == names).mean()


def arrays(node):
    return (
        node["response"].values.astype(np.float64),
        node["stimulus_id"].values,
        node["run"].values,
    )


def test_one_pattern_per_run_and_category(node):
    values, names, run = arrays(node)
    assert values.shape == (96, 530)
    for number in range(12):
        assert sorted(names[run == number]) == sorted(CATEGORIES)
    # in the order of the run, as attributes_literal.txt has it
    literal = [line.split() for line in (FOLDER / "attributes_literal.txt").read_text().split("\n")]
    rows = [(r[0], int(r[1])) for r in literal if len(r) == 2 and r[1].isdigit()]
    blocks = [r for r, before in zip(rows, [("", -1), *rows], strict=False) if r != before]
    assert list(zip(names, run, strict=True)) == [b for b in blocks if b[0] != "rest"]
    assert node["repetition"].values.tolist() == run.tolist()


def test_patterns_are_those_of_nibabel_and_scipy(node):
    """Recomputed with other tools, whole volumes in memory."""
    mask = np.asarray(nibabel.load(FOLDER / "mask.nii.gz").dataobj) > 0
    bold = nibabel.load(FOLDER / "bold.nii.gz").get_fdata()[mask].T
    label, run = np.loadtxt(FOLDER / "attributes.txt", dtype=int).T
    values, names, runs = arrays(node)
    for number in (0, 7, 11):
        series = scipy.signal.detrend(bold[run == number], axis=0)
        series /= series.std(axis=0)
        for code, name in enumerate(CATEGORIES, start=1):
            want = series[label[run == number] == code].mean(axis=0)
            got = values[(runs == number) & (names == name)][0]
            np.testing.assert_allclose(got, want, atol=1e-5)
    # and a map finds its voxels again
    back = volumes.to_nifti(values[3], node)
    np.testing.assert_allclose(back.get_fdata()[mask], values[3], atol=1e-6)
    np.testing.assert_array_equal(back.affine, nibabel.load(FOLDER / "bold.nii.gz").affine)


def test_categories_are_decoded_well_above_chance(node):
    values, names, run = arrays(node)
    right = accuracy(values, names, run, LDA)
    # 88 of 96 when this was written; the interval is Clopper and Pearson's
    low, _ = binomtest(round(right * 96), 96).proportion_ci(0.999)
    assert right == pytest.approx(88 / 96, abs=0.03)
    assert low > 5 * CHANCE


def test_shuffled_labels_are_at_chance(node):
    """Labels shuffled within runs: the mean of twenty shuffles is 1/8 within binomial error."""
    values, names, run = arrays(node)
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(20):
        shuffled = names.copy()
        for number in range(12):
            shuffled[run == number] = rng.permutation(shuffled[run == number])
        rates.append(accuracy(values, shuffled, run, SVM))
    error = np.sqrt(CHANCE * (1 - CHANCE) / (96 * len(rates)))
    assert abs(np.mean(rates) - CHANCE) < 3 * error
    assert max(rates) < 0.3 < 0.6 < accuracy(values, names, run, SVM)


def test_labels_lie_where_the_response_is(node):
    """Why there is no shift: a delay on top of the labels' own loses accuracy at every step."""
    held = [accuracy(*arrays(load_dataset("haxby", shift=s)["sub-01"]), SVM) for s in (0, 2, 4)]
    assert held[0] > held[1] > held[2] > CHANCE
    with pytest.raises(ProtocolError, match="moves blocks out of run 0"):
        load_dataset("haxby", shift=20)
