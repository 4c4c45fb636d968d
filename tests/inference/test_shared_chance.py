"""What two cells share they draw together; what is no level of chance is not counted as one."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

import rsacompare as rc
from rsacompare.errors import DataError
from rsacompare.inference import contrast, permutation
from rsacompare.inference.family import Pool, arrange, draw_block
from rsacompare.kernels import resample

IDS = np.array([f"s{i:02d}" for i in range(20)])
QUICK = {"n_bootstrap": 300, "n_permutations": 199, "n_splits": 2}


class Level(rc.Metric):
    """Voxel by voxel against the layer's first unit; options make it a difficult guest."""

    name = "level"
    meaning = rc.Meaning("level")

    def __init__(self, shuffle=False, drop=0, targets=None, dead=(), sources=("stimuli",)):
        self.shuffle, self.drop, self.targets = shuffle, drop, targets
        self.dead, self.sources = dead, sources

    def compare(self, activation, response):
        ids, brain, _, _ = rc.average_repetitions(response)
        number = int(response.attrs["subject"][-1])
        keep = np.arange(len(ids))
        if self.drop and number:
            keep = np.delete(keep, np.arange(number, number + self.drop))
        if self.shuffle:
            keep = np.random.default_rng(number).permutation(keep)
        brain = brain[keep][:, : None if self.targets is None else self.targets[number]]
        network = activation.sel(stimulus_id=ids[keep]).values[:, :1]
        if (activation.attrs["network"], number) in self.dead or ("", number) in self.dead:
            network = 0 * network
        predicted = np.repeat(network, brain.shape[1], axis=1)
        return rc.TargetEvidence(ids[keep], brain, predicted, sources=tuple(self.sources))


@pytest.fixture(scope="module")
def scene():
    """Two networks, three subjects who share much of their stimulus-driven response."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((20, 4))
    acts = {n: {f"l{i}": rng.standard_normal((20, 3)) for i in range(3)} for n in "ab"}
    brain = {f"sub-{i}": shared + 0.3 * rng.standard_normal((20, 4)) for i in range(3)}
    return rc.activations(acts, stimulus_id=IDS), rc.responses(brain, stimulus_id=IDS)


def test_the_order_in_which_a_guest_holds_its_stimuli_changes_nothing(scene):
    plain, shuffled = (
        rc.infer(rc.compare(*scene, [Level(shuffle=s)]), **QUICK) for s in (False, True)
    )
    for name in ("se", "null", "boot", "p_null_fwer", "contrast_difference", "contrast_p"):
        # draws of few stimuli tie, so that another layer may be the best in one or two of them
        loose = 1e-3 if name == "contrast_p" else 1e-6
        np.testing.assert_allclose(plain[name], shuffled[name], rtol=loose, atol=1e-7, err_msg=name)


def test_subjects_who_lack_different_stimuli_share_the_chance_of_the_others(scene):
    comparison = rc.compare(*scene, [Level(drop=2)])
    family = arrange(comparison, "level", 1)
    draws, halves = draw_block(family, 0, 0, 50), contrast.Halves.split(family, 3, 0)
    assert sorted(len(ids) for ids in family.ids.values()) == [18, 18, 20]
    whole = next(k for k, ids in family.ids.items() if len(ids) == 20)
    for key, ids in family.ids.items():
        at = np.searchsorted(IDS, ids)
        np.testing.assert_array_equal(draws.stimuli[key], draws.stimuli[whole][:, at])
        # else a stimulus would choose the layer in one subject and judge it in another
        np.testing.assert_array_equal(halves.stimuli[key], halves.stimuli[whole][:, at])
    complete = rc.infer(rc.compare(*scene, [Level()]), **QUICK)["null"].std("permutation")
    lacking = rc.infer(comparison, **QUICK)["null"].std("permutation")
    # three subjects permuted each on their own give about .6; orders that go around the missing
    # stimuli cannot be the same throughout
    assert 0.75 < float((lacking / complete).mean()) < 1.1


@pytest.mark.parametrize("exchanged", ["category", "block", "fold"])
def test_so_do_those_of_whole_categories_blocks_and_folds(scene, exchanged):
    """Three subjects permuted each on their own would give about .6 of the complete null's sd."""
    spread = {}
    for drop in (0, 2):
        comparison = rc.compare(*scene, [Level(drop=drop)])
        for cell in comparison.cells():
            held = comparison.evidence[cell]
            kind = np.array([f"c{int(i[1:]) // 2}" for i in held.stimulus_id.tolist()])
            fold = resample.folds(held.stimulus_id, 2, 0)
            setattr(held, exchanged, fold if exchanged == "fold" else kind)
        result = rc.infer(comparison, **QUICK)
        spread[drop] = result["null"].std("permutation")
        said = [n for n in json.loads(result.attrs["notes"]) if "lack different stimuli" in n]
        assert len(said) == (drop > 0 and exchanged == "fold")
    ratio = float((spread[2] / spread[0]).mean())
    # folds of other stimuli are other folds, whose null is widened to what it could be at most
    assert 0.8 < ratio < (1.5 if exchanged == "fold" else 1.15)


def test_subjects_who_lack_stimuli_of_nested_categories_keep_the_error_rate(product_comparison):
    """Five subjects of one brain, each without one stimulus: independent orders rejected at .23."""
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        effects = rng.standard_normal((2, 10, 1)) + rng.standard_normal((2, 10, 4))
        network, brain = effects.reshape(2, 40)
        made = product_comparison({"net": np.tile(network, (1, 5, 1))}, brain=brain)
        scores = []
        for cell in made.cells():
            held = made.evidence[cell]
            keep = np.delete(np.arange(40), rng.integers(40))
            held.category = np.repeat([f"c{i}" for i in range(10)], 4)[keep]
            held.stimulus_id, held.network = held.stimulus_id[keep], held.network[keep]
            held.brain = held.brain[keep]
            scores.append(held.score())
        null = permutation.null_block(arrange(made, "product", 1), seed, 0, 99)
        found.append(permutation.p_values(np.full((1, 1), np.mean(scores)), null)[0][0, 0])
    assert np.mean(np.array(found) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_permutations_of_a_part_of_the_pool_are_uniform():
    pool = Pool(IDS[:5], np.array([4, 0, 2]), whole=False)
    orders = pool.restrict(resample.permutations(np.random.default_rng(0), 5, 12_000))
    seen, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(seen) == 6
    assert stats.chisquare(counts).pvalue > 0.001


def test_the_same_network_twice_never_differs():
    """Sums of equal numbers in another order differ in the last digits, and so do their draws."""
    rng = np.random.default_rng(1)
    layers = {f"l{i}": rng.standard_normal((20, 6)) for i in range(7)}
    acts = rc.activations({"a": layers, "b": layers}, stimulus_id=IDS)
    brain = rc.responses(
        {f"sub-{i}": rng.standard_normal((20, 5)) for i in range(9)}, stimulus_id=IDS
    )
    for metric in (Level(), rc.metric("rsa")):
        result = rc.infer(rc.compare(acts, brain, [metric]), n_bootstrap=60, n_permutations=1)
        table = rc.tables(result)["contrasts"]
        assert (table["difference"] == 0).all()
        assert (table["p"] == 1).all()
        assert not table["verdict"].isin(["a", "b"]).any()


def test_networks_are_not_compared_on_different_subjects(scene):
    result = rc.infer(rc.compare(*scene, [Level(dead=[("a", 1)])]), **QUICK)
    assert result["contrast_p"].isnull().all()
    assert (result["contrast_verdict"] == "undecided").all()
    assert all("no score in sub-1" in str(n) for n in result["contrast_note"].values)
    assert result["p_null"].notnull().all()


def test_a_subject_without_any_score_is_no_level_of_chance(scene):
    acts, brain = scene
    lost = rc.infer(rc.compare(acts, brain, [Level(dead=[("", 1)])]), **QUICK)
    kept = rc.responses(
        {s: brain[s]["response"].values for s in ("sub-0", "sub-2")}, stimulus_id=IDS
    )
    alone = rc.infer(rc.compare(acts, kept, [Level()]), **QUICK)
    assert json.loads(lost.attrs["inference"])["dof"]["level"] == {"all": 1}
    for name in ("se", "ci", "p_null", "contrast_p"):
        np.testing.assert_array_equal(lost[name], alone[name])


def test_units_must_be_the_same_for_all_subjects(scene):
    comparison = rc.compare(*scene, [Level(targets=[2, 3, 4], sources=("stimuli", "units"))])
    with pytest.raises(DataError, match=r"declares the source 'units'.* 2 to 4 targets"):
        rc.infer(comparison, **QUICK)


def test_a_score_that_no_permutation_changes_is_not_significant():
    rng = np.random.default_rng(0)
    null = np.where(rng.random((999, 1, 2)) < 0.01, np.nextafter(0.3, 0), 0.3)
    null[..., 1] = rng.standard_normal(999)[:, None]
    above = np.nextafter(np.nextafter(0.3, 1), 1)
    p, p_fwer = permutation.p_values(np.array([[above, 2.5]]), null)
    assert p[0, 0] == 1
    assert np.isnan(p_fwer[0, 0])
    assert p_fwer[0, 1] == p[0, 1] < 0.05


def test_a_missing_p_has_its_reason():
    rng = np.random.default_rng(2)
    layer = {"l": rng.standard_normal((4, 6))}
    acts = rc.activations({"a": layer, "b": {"l": layer["l"][:, ::-1] ** 2}}, stimulus_id=IDS[:4])
    brain = rc.responses(
        {f"sub-{i}": rng.standard_normal((4, 5)) for i in range(3)}, stimulus_id=IDS[:4]
    )
    result = rc.infer(rc.compare(acts, brain, ["rsa"]), **QUICK)
    missing = result["contrast_p"].isnull().values
    assert missing.any()
    notes = result["contrast_note"].values[missing]
    assert all("no p: " in str(n) or "no score" in str(n) for n in notes)


@dataclass
class Ranks(rc.TargetEvidence):
    """A guest's score on our evidence: correlation of ranks."""

    def score(self, weights=None, target_weights=None):
        if weights is None:
            pairs = zip(self.observed.T, self.predicted.T, strict=True)
            ranks = [[stats.rankdata(a), stats.rankdata(b)] for a, b in pairs]
            return np.mean([np.corrcoef(pair)[0, 1] for pair in ranks])
        flat = np.asarray(weights).reshape(-1, len(self.stimulus_id)).astype(int)
        rows = [np.repeat(np.arange(len(w)), w) for w in flat]
        scores = [
            Ranks(self.stimulus_id[r], self.observed[r], self.predicted[r]).score() for r in rows
        ]
        return np.array(scores).reshape(np.shape(weights)[:-1])


@dataclass
class Twice(rc.PairEvidence):
    def score(self, weights=None, target_weights=None):
        return 2 * super().score(weights)


class Guest(Level):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def compare(self, activation, response):
        if self.kind == "ranks":
            e = super().compare(activation, response)
            return Ranks(e.stimulus_id, e.observed, np.exp(4 * e.predicted))
        rsa = rc.metric("rsa", comparator="corr")
        e = rsa.compare(rsa.prepare_activation(activation), rsa.prepare_response(response))
        return Twice(e.stimulus_id, e.network, e.brain)


@pytest.mark.parametrize("kind", ["ranks", "twice"])
def test_a_score_of_a_guests_own_is_used_everywhere(scene, tmp_path, kind):
    acts, brain = scene
    options = {"n_bootstrap": 10, "n_permutations": 5, "n_splits": 1}
    memory = rc.compare(acts, brain, [Guest(kind)])
    fresh, resumed = (rc.compare(acts, brain, [Guest(kind)], store=tmp_path) for _ in range(2))
    expected = rc.infer(memory, **options)
    for other in (fresh, resumed):
        assert other.scores["score"].equals(memory.scores["score"])
        assert rc.infer(other, **options)["boot"].equals(expected["boot"])
    family = arrange(memory, "level", 1)
    evidence = family.evidence[0]
    assert expected["score"].values.ravel()[0] == evidence.score()
    orders = resample.permutations(np.random.default_rng(0), 20, 30)
    null = evidence.null(orders)
    if kind == "ranks":
        by_hand = [
            np.mean(stats.spearmanr(evidence.predicted[p, 0], evidence.observed).statistic[0, 1:])
            for p in orders
        ]
    else:
        plain = rc.PairEvidence(evidence.stimulus_id, evidence.network, evidence.brain)
        by_hand = 2 * plain.null(orders)
    np.testing.assert_allclose(null, by_hand, atol=1e-12)


def test_the_null_of_cross_validated_predictions_is_widened_and_says_so(scene):
    comparison = rc.compare(*scene, ["decoding"])
    result = rc.infer(comparison, n_bootstrap=10, n_permutations=2000, n_splits=1)
    evidence = arrange(comparison, "decoding", 1).evidence
    orders = resample.permutations(np.random.default_rng(1), 20, 2000, evidence[0].fold)
    subjects = [e.null(orders) for e in evidence[:3]]  # of the first layer
    plain = np.mean(subjects, axis=0).std()
    widened = float(result["null"].sel(layer="a/l0").std())
    assert widened == pytest.approx(np.sqrt(2) * plain, rel=0.08)
    assert any("without refitting" in n for n in json.loads(result.attrs["notes"]))


def test_one_subject_has_no_rsa_ceiling():
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(12)]
    brain = rc.rdms({"one": {"V1": rng.random(66)}}, stimulus_id=ids)
    acts = rc.activations({"net": {"l": rng.standard_normal((12, 9))}}, stimulus_id=ids)
    result = rc.infer(rc.compare(acts, brain, ["rsa"]), n_bootstrap=20, n_permutations=10)
    assert np.isnan(result["ceiling_low"].item())
    assert np.isnan(result["ceiling_high"].item())
