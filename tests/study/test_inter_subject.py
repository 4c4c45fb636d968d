"""Stimulus x stimulus correlations between brains, against numpy's corrcoef."""

import json

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.errors import DataError, ProtocolError
from rsacompare.study.inter_subject import inter_subject

SHAPE = (4, 3, 3)


def brain(same_grid=True, kept=0.8, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.tile([f"s{i}" for i in range(5)], 2)
    signal = rng.standard_normal((5, *SHAPE))
    trees, values = [], {}
    for name in ("p", "q", "r"):
        ijk = np.argwhere(rng.random(SHAPE) < kept)
        y = np.tile(signal[(slice(None), *ijk.T)], (2, 1)) + rng.standard_normal((10, len(ijk)))
        tree = rc.responses({name: y}, stimulus_id=ids, roi_mask={"left": ijk[:, 0] < 2},
                            neuroid={a: ijk[:, k] for k, a in enumerate("ijk")})  # fmt: skip
        affine = np.diag([3.0, 3, 3, 1])
        affine[0, 3] = 0 if same_grid or name != "q" else 1.5
        tree[name].attrs |= {"affine": json.dumps(affine.tolist()), "shape": json.dumps(SHAPE)}
        trees.append(tree)
        full = np.full((5, *SHAPE), np.nan)
        full[(slice(None), *ijk.T)] = (y[:5] + y[5:]) / 2
        values[name] = full
    merged = trees[0]
    for tree in trees[1:]:
        merged = merged.assign(dict(tree.children))
    return merged, values


@pytest.mark.parametrize("roi", [None, "left"])
def test_correlations_over_the_voxels_in_common(roi):
    tree, values = brain()
    found = inter_subject(tree, roi)
    for a in values:
        for b in values:
            x, y = (v[:, : 2 if roi else 4].reshape(5, -1) for v in (values[a], values[b]))
            both = np.isfinite(x[0]) & np.isfinite(y[0])
            expected = np.corrcoef(x[:, both], y[:, both])[:5, 5:]
            at = {"subject_a": a, "subject_b": b}
            np.testing.assert_allclose(found["similarity"].sel(at), expected, atol=1e-6)
            assert int(found["n_voxels"].sel(at)) == both.sum()
            off = expected[~np.eye(5, dtype=bool)].mean()
            assert float(found["matched"].sel(at)) == pytest.approx(
                np.diag(expected).mean() - off, abs=1e-6
            )
    assert float(found["matched"].sel(subject_a="p", subject_b="q")) > 0.1


def test_voxels_declared_to_be_the_same():
    rng = np.random.default_rng(1)
    y = {"a": rng.standard_normal((4, 9)), "b": rng.standard_normal((4, 9))}
    tree = rc.responses(y, stimulus_id=list("wxyz"))
    found = inter_subject(tree, same_voxels=True)["similarity"].sel(subject_a="a", subject_b="b")
    np.testing.assert_allclose(found, np.corrcoef(y["a"], y["b"])[:4, 4:], atol=1e-6)


def test_where_there_is_no_common_space():
    with pytest.raises(ProtocolError, match=r"different grids.*second-order"):
        inter_subject(brain(same_grid=False)[0])
    with pytest.raises(ProtocolError, match="same_voxels=True, but p has"):
        inter_subject(brain()[0], same_voxels=True)
    phantom = rc.load_dataset("phantom", n_subjects=2)
    with pytest.raises(ProtocolError, match=r"sub-01 did not come from images.*second-order"):
        inter_subject(phantom)
    rdms = rc.rdms({"p": {"V1": np.arange(3.0)}}, stimulus_id=list("abc"))
    with pytest.raises(ProtocolError, match="RDMs alone"):
        inter_subject(rdms)
    with pytest.raises(ProtocolError, match="did you mean 'left'"):
        inter_subject(brain()[0], "lefft")
    with pytest.raises(ProtocolError, match="unknown subject 'x'"):
        inter_subject(brain()[0], subjects=["x"])
    with pytest.raises(DataError, match="0 voxels in common"):
        inter_subject(brain(kept=0.06, seed=5)[0])
