"""The phase-randomised null: the network's side, the same phases for all, and its rate."""

import json

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.datasets import movie
from rsacompare.errors import ProtocolError
from rsacompare.inference import phase
from rsacompare.inference.family import arrange
from rsacompare.inference.permutation import null_block as permuted
from rsacompare.inference.permutation import p_values
from rsacompare.kernels import resample
from rsacompare.kernels.surrogates import Surrogates, rotations
from rsacompare.metrics.evidence import (
    IdentificationEvidence,
    NormalisedEvidence,
    PatternEvidence,
    ProfileEvidence,
    TargetEvidence,
)

OPTIONS = dict(n_subjects=2, n_train=3, n_test=2, n_volumes=40, n_voxels=6, n_units=7)


@pytest.fixture(scope="module")
def scene():
    return movie.load_networks("closer", **OPTIONS), movie.load_brain("closer", **OPTIONS)


def infer(comparison, **given):
    return rc.infer(comparison, n_bootstrap=20, n_splits=1, null="phase", **given)


def test_the_null_is_that_of_the_network_s_series_turned_by_hand(scene):
    metrics = {
        "encoding": rc.metric("encoding", features="given"),
        "decoding": rc.metric("decoding", estimator="ridge"),
    }
    comparison = rc.compare(*scene, metrics, rois=["V1"])
    result = infer(comparison, n_permutations=30, random_state=4)
    for metric, side in (("encoding", "predicted"), ("decoding", "observed")):
        for layer in result["layer"].values.astype(str)[:2]:
            scores = []
            for cell in comparison.cells(metric):
                if cell.layer != layer:
                    continue
                held = comparison.evidence[cell]
                assert (held.segment == [i.rsplit("-", 1)[0] for i in held.stimulus_id]).all()
                runs = [np.flatnonzero(held.segment == s) for s in ("test-1", "test-2")]
                assert [len(run) for run in runs] == [40, 40]
                phases = [
                    rotations(resample.stream(4, "phase", held.stimulus_id[run], 0), 40, 30)
                    for run in runs
                ]
                own = []
                for d in range(30):
                    sides = {"observed": held.observed, "predicted": held.predicted}
                    sides[side] = Surrogates(runs, phases).turn(sides[side], d)
                    own.append(TargetEvidence(held.stimulus_id, **sides).score())
                scores.append(own)
            got = result["null"].sel(metric=metric, roi="V1", layer=layer).values
            np.testing.assert_allclose(got, np.mean(scores, axis=0), rtol=1e-4, atol=1e-6)
    notes = json.loads(result.attrs["notes"])
    said = [n for n in notes if "follow each other" in n]
    assert len(said) == 2
    assert all("were resampled and counted as levels" in n and "orders" not in n for n in said)
    assert json.loads(result.attrs["inference"])["null"] == "phase"


def test_every_kind_of_target_evidence_says_the_same_as_its_score():
    rng = np.random.default_rng(0)
    ids = np.array([f"a-{i:02d}" for i in range(24)])
    x, y = rng.standard_normal((24, 6)), rng.standard_normal((24, 6))
    y[:, 5] = 1.0
    runs = [np.arange(10), np.arange(10, 24)]
    made = Surrogates(runs, [rotations(rng, len(r), 5) for r in runs])
    noise = dict(noise_variance=np.full((24, 6), 0.2), n_repetitions=np.full(24, 4))
    kinds = [
        TargetEvidence(ids, x, y, noisy="predicted"),
        TargetEvidence(ids, x, y, noisy="observed"),
        ProfileEvidence(ids, x, y, average="fisher", noisy="predicted"),
        ProfileEvidence(ids, x, y, dead="zero"),
        PatternEvidence(ids, x, y),
        IdentificationEvidence(ids, x, y),
        NormalisedEvidence(ids, x, y, **noise),
    ]
    sides = ["observed", "predicted", "observed", "predicted", "observed", "observed", "predicted"]
    for held, side in zip(kinds, sides, strict=True):
        assert held.network_side == side
        got = held.null_series(made)
        for d in range(5):
            again = type(held).from_arrays(
                held.to_arrays() | {side: made.turn(getattr(held, side), d)}
            )
            assert got[d] == pytest.approx(float(again.score()), abs=1e-12)
    others = IdentificationEvidence(ids, x, y, above=np.ones((24, 24), int),
                                    n_others=np.full(24, 3))  # fmt: skip
    with pytest.raises(ProtocolError, match="candidates' patterns are not kept"):
        others.null_series(made)


def test_runs_are_recordings_without_gaps_inside_folds():
    names = np.array(["m-9", "m-10", "m-11", "m-13", "n-1", "n-2", "n-3"])
    block = np.array(list("aabbccc"))
    fold = np.array([0, 0, 1, 1, 1, 1, 1])

    def found(*given):
        return sorted(run.tolist() for run in phase.runs(*given))

    assert found(names, block) == [[0, 1, 2], [3], [4, 5, 6]]
    assert found(names, block, None, fold) == [[0, 1], [2, 3], [4, 5, 6]]
    assert found(names, block, np.array(list("uuvvwww"))) == [[0, 1], [2, 3], [4, 5, 6]]
    words = np.array(list("dcbaxyz"))  # no numbers: time blocks, in the order of the names
    assert [r.tolist() for r in phase.runs(words, block)] == [[1, 0], [3, 2], [4, 5, 6]]
    assert found(np.array(["m-2", "m-4", "m-6", "m-7"]), block[:4]) == [[0, 1, 2], [3]]


def test_what_cannot_be_turned_is_an_error(scene):
    similar = rc.compare(*scene, {"similar": rc.metric("rsa")}, rois=["V1"])
    with pytest.raises(ProtocolError, match=r"evidence of similar holds .*null='permutation'"):
        infer(similar, n_permutations=20)
    networks, brain = scene
    bare = brain.copy(deep=True)
    for node in bare.children.values():
        node.dataset = node.to_dataset().drop_vars("time_block")
    metric = {"e": rc.metric("encoding", features="given")}
    with pytest.raises(ProtocolError, match="coordinate 'time_block'"):
        infer(rc.compare(networks, bare, metric, rois=["V1"]), n_permutations=20)
    short = brain.copy(deep=True)
    for node in short.children.values():
        names = [f"{i}" for i in node["stimulus_id"].values]
        node.dataset = node.to_dataset().assign_coords(segment=("presentation", names))
    with pytest.raises(ProtocolError, match="0 phases are free"):
        infer(rc.compare(networks, short, metric, rois=["V1"]), n_permutations=20)


def autoregressive(rng, n, rho, columns):
    """Stationary AR(1) series of variance 1: (time, column)."""
    out = np.empty((n, columns))
    out[0] = rng.standard_normal(columns)
    for t in range(1, n):
        out[t] = rho * out[t - 1] + np.sqrt(1 - rho**2) * rng.standard_normal(columns)
    return out


def test_shuffled_time_points_are_anticonservative_and_phases_are_not(product_comparison):
    """200 pairs of unrelated series that correlate with their past by .8."""
    rng = np.random.default_rng(7)
    n, series = 120, np.zeros((1, 1, 120))
    found = {"single": [], "phase": []}
    for seed in range(200):
        made = product_comparison({"net": series})
        (cell,) = made.cells()
        ids = made.evidence[cell].stimulus_id
        x, y = (autoregressive(rng, n, 0.8, 3) @ rng.standard_normal((3, 3)) for _ in range(2))
        held = TargetEvidence(ids, x, y)
        made.evidence[cell] = held
        family = arrange(made, "product", 1)
        null = permuted(family, seed, 0, 199)
        found["single"].append(p_values(np.array([[held.score()]]), null)[0][0, 0])
        held.block = np.repeat(np.arange(6), 20)
        family = arrange(made, "product", 1)
        phase.require(family)
        null = phase.null_block(family, seed, 0, 199)
        found["phase"].append(p_values(np.array([[held.score()]]), null)[0][0, 0])
    rates = {k: np.mean(np.array(v) < 0.05) for k, v in found.items()}
    error = np.sqrt(0.05 * 0.95 / 200)
    assert rates["single"] > 0.05 + 5 * error, rates
    assert abs(rates["phase"] - 0.05) < 2.5 * error, rates


def test_metrics_without_series_permute_blocks_beside_those_with(scene):
    both = rc.compare(
        *scene, {"encoding": rc.metric("encoding"), "rsa": rc.metric("rsa")}, rois=["V1"]
    )
    result = rc.infer(both, n_bootstrap=20, n_permutations=50, n_splits=1, null="phase")
    plain = rc.infer(both, n_bootstrap=20, n_permutations=50, n_splits=1)
    assert json.loads(result.attrs["inference"])["nulls"] == {
        "encoding": "phase",
        "rsa": "permutation",
    }
    assert any(n.startswith("rsa: holds no series") for n in json.loads(result.attrs["notes"]))
    nulls = [r["null"].sel(metric=m).values for m in ("encoding", "rsa") for r in (result, plain)]
    assert not np.array_equal(nulls[0], nulls[1])
    assert np.array_equal(nulls[2], nulls[3])
