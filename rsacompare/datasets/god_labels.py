"""The labels of the GOD study: floats in the files, names of pictures with us (FACTS 1.4, 2)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np

from rsacompare.errors import LabelError
from rsacompare.schema.labels import listed

MOST_SYNSET = 10**8
MOST_IMAGE = 10**6
SPLIT_OF_TYPE = {1: "train", 2: "test", 3: "imagery"}
CITATION = (
    "Horikawa T, Kamitani Y (2017). Generic decoding of seen and imagined objects using "
    "hierarchical visual features. Nature Communications 8:15037. doi:10.1038/ncomms15037"
)


def names_of(label: np.ndarray, where: str, *, category: bool = False) -> np.ndarray:
    """Names from float labels: 1518878.010042 is `n01518878_10042`.

    Parameters
    ----------
    label : (n,) float64
        Synset, and the image id as six decimals.
    where : str
        For the message.
    category : bool
        Labels of synsets, without an image: `n01518878`.

    Returns
    -------
    ndarray of str (n,)

    Raises
    ------
    LabelError
        Labels that are no such numbers, with the rows: NaN, an image id that is missing or too
        long, or any that is not *exactly* the float of its name (float32 was in between).

    Examples
    --------
    >>> names_of(np.array([1518878.010042, 3767745.000109]), "here").tolist()
    ['n01518878_10042', 'n03767745_109']
    """
    label = np.asarray(label, dtype=np.float64)
    sound = np.isfinite(label) & (label >= 1) & (label < MOST_SYNSET)
    number = np.where(sound, label, 1.0)
    synset = np.floor(number).astype(np.int64)
    image = np.rint((number - synset) * MOST_IMAGE).astype(np.int64)
    sound &= synset + image / MOST_IMAGE == number
    # real image ids have at most five digits; a sixth is the grid of float32
    sound &= (image == 0) if category else (image > 0) & (image < MOST_IMAGE // 10)
    if not sound.all():
        bad = np.flatnonzero(~sound)
        shown = listed([repr(float(v)) for v in label[bad[:3]]])
        wanted = "synsets like 1443537" if category else "synset.image like 1518878.010042"
        raise LabelError(
            f"{where}: {bad.size} of {label.size} labels are not {wanted} (rows "
            f"{listed(bad.tolist())}: {shown}); labels that went through float32 "
            "cannot be mended, take the original file"
        )
    if category:
        return np.array([f"n{s:08d}" for s in synset.tolist()], dtype=str)
    pairs = zip(synset.tolist(), image.tolist(), strict=True)
    return np.array([f"n{s:08d}_{i}" for s, i in pairs], dtype=str)


@cache
def ilsvrc_table() -> dict[str, bool]:
    """The 50 test images: whether each is in the training set of ILSVRC-2012 (20 are).

    The table of KamitaniLab/GenericObjectDecoding; none is in the validation set.
    """
    text = files("rsacompare.datasets").joinpath("god_test_images.txt").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return {name: flag == "1" for name, flag in rows}


def ilsvrc_flag(stimulus_id: np.ndarray) -> np.ndarray:
    """1 for a test image in the ILSVRC-2012 training set, 0 for one that is not, -1 for others.

    What is known of the test images is not known of training images and categories.
    """
    known = ilsvrc_table()
    return np.array([int(known.get(s, -1)) for s in stimulus_id.tolist()], dtype=np.int8)
