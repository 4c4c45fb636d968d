"""Which ROIs share voxels, and the largest rule-bound set that shares none."""

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.schema import overlap


def mask(*places):
    out = np.zeros(12, bool)
    out[list(places)] = True
    return out


MASKS = {
    "VC": mask(*range(10)),
    "LVC": mask(*range(6)),
    "V1": mask(0, 1, 2),
    "V2": mask(3, 4),
    "LOC": mask(6, 7, 8),
    "FFA": mask(8, 9),
}


def test_scores_tell_the_largest_share_of_any_subject():
    rng = np.random.default_rng(0)
    brain = {s: rng.standard_normal((8, 12)) for s in ("s1", "s2")}
    other = MASKS | {"FFA": mask(9, 10), "V1": mask(0, 1)}
    ids = [f"p{i}" for i in range(8)]
    tree = rc.responses(brain, stimulus_id=ids, roi_mask={"s1": MASKS, "s2": other})
    acts = rc.activations({"net": {"l": rng.standard_normal((8, 5))}}, stimulus_id=ids)
    scores = rc.compare(acts, tree, ["rsa"]).scores
    held = overlap.of_scores(scores.attrs)
    assert held["voxels"] == {"VC": 10, "LVC": 6, "V1": 3, "V2": 2, "LOC": 3, "FFA": 2}
    assert held["shared"]["FFA"] == {"VC": 1.0, "LOC": 0.5}
    assert held["shared"]["LOC"]["FFA"] == pytest.approx(1 / 3)
    assert held["shared"]["LVC"] == {"VC": 1.0, "V1": 0.5, "V2": pytest.approx(1 / 3)}
    kept, dropped = overlap.disjoint(list(MASKS), held)
    assert kept == ["V1", "V2", "FFA"]  # FFA of two voxels comes before LOC of three
    assert dropped == ["VC", "LVC", "LOC"]
    only = overlap.of_scores(rc.compare(acts, tree, ["rsa"], rois=["VC", "V2"]).scores.attrs)
    assert overlap.disjoint(["VC", "V2"], only) == (["V2"], ["VC"])


def test_the_kept_share_nothing_and_no_other_could_be_added():
    rng = np.random.default_rng(1)
    for _ in range(50):
        masks = [("s", f"r{i}", rng.random(30) < rng.uniform(0.05, 0.5)) for i in range(9)]
        masks = [m for m in masks if m[2].any()]
        known = overlap.describe(masks)
        kept, dropped = overlap.disjoint([roi for _, roi, _ in masks], known)
        voxels = {roi: m for _, roi, m in masks}
        total = np.sum([voxels[r] for r in kept], axis=0)
        assert total.max() <= 1
        assert all((total[voxels[r]] > 0).any() for r in dropped)
        order = sorted(voxels, key=lambda r: voxels[r].sum())
        assert order[0] in kept


def test_rois_known_by_rdms_are_all_kept():
    known = overlap.describe([("s", "EVC", None), ("s", "IT", None)])
    assert known == {"voxels": {}, "shared": {}}
    assert overlap.disjoint(["IT", "EVC"], known) == (["IT", "EVC"], [])
    assert overlap.of_scores({}) == known
