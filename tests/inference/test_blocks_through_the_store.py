"""Time blocks and all else that infer needs survive the store, for every kind of evidence."""

import json

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.datasets import movie
from rsacompare.metrics.evidence import KINDS
from rsacompare.schema.results import Comparison
from rsacompare.study.cells import CellCache

METRICS = {
    "target": ("encoding", {"features": "given", "folds": "contiguous"}),
    "normalised": ("encoding", {"features": "given", "normalise": True}),
    "profile": ("decoding", {"average": "fisher"}),
    "pattern": ("decoding", {"score": "pattern"}),
    "identification": ("decoding", {"score": "pairwise"}),
    "pair": ("rsa", {}),
    "alignment": ("cka", {}),
    "procrustes": ("procrustes", {}),
    "component": ("pcm", {}),
}


@pytest.fixture(scope="module")
def scene():
    options = dict(n_subjects=2, n_train=3, n_test=2, n_volumes=24, n_voxels=6, n_units=7)
    return movie.load_networks("closer", **options), movie.load_brain("closer", **options)


def same(memory, stored):
    given = dict(n_bootstrap=20, n_permutations=20, n_splits=1)
    a, b = rc.infer(memory, **given), rc.infer(stored, **given)
    for name in ("score", "mean_score", "ci", "boot", "null", "p_null", "group_ceiling_low"):
        np.testing.assert_array_equal(a[name].values, b[name].values)
    assert np.isfinite(a["boot"].values).any()
    for part in ("dof", "sources"):
        assert json.loads(a.attrs["inference"])[part] == json.loads(b.attrs["inference"])[part]
    assert a.attrs["notes"] == b.attrs["notes"]
    assert any("blocks of these" in note for note in json.loads(a.attrs["notes"]))


@pytest.mark.parametrize("kind", [*METRICS, "combined"])
def test_what_is_read_back_gives_the_same_inference(kind, scene, tmp_path):
    name, options = METRICS["pair" if kind == "combined" else kind]
    metrics = {kind: rc.metric(name, **options)}
    memory = rc.compare(*scene, metrics, rois=["V1"])
    if kind == "combined":
        memory = rc.combine_layers(memory, kind, n_folds=2)
        cache = CellCache(tmp_path, memory.cells())
        for i, cell in enumerate(memory.cells()):
            fold, block = memory.evidence[cell].fold, memory.evidence[cell].block
            assert all(len(set(fold[block == b])) == 1 for b in block)
            cache.put(cell, f"key{i}", memory.evidence[cell])
        stored = Comparison(memory.scores, cache)
    else:
        stored = rc.compare(*scene, metrics, rois=["V1"], store=tmp_path)
    for cell in memory.cells():
        held, again = memory.evidence[cell], stored.evidence[cell]
        assert (held.kind, type(again)) == (kind, KINDS[kind])
        assert again is not held
        assert len(set(again.block)) > 2
    same(memory, stored)


def test_no_kind_is_left_out(scene):
    from rsacompare.metrics import combined_evidence, gram_evidence  # noqa: F401  they add theirs

    assert {kind for kind, made in KINDS.items() if made.__module__.startswith("rsacompare.")} == {
        *METRICS,
        "combined",
    }


def test_grams_read_from_the_store_are_shared(scene, tmp_path):
    stored = rc.compare(*scene, ["cka"], rois=["V1"], store=tmp_path)
    held = {cell: stored.evidence[cell] for cell in stored.cells()}
    sides = {id(e.network) for e in held.values()} | {id(e.brain) for e in held.values()}
    layers, subjects = {c.layer for c in held}, {c.subject for c in held}
    assert len(sides) == len(layers) + len(subjects)
