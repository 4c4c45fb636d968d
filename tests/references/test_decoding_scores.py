"""Scores of decoding against the lab's own library (bdpy), scipy, and plain counting."""

import itertools

import numpy as np
import pytest
from bdpy.evals import metrics as bdpy_metrics
from scipy import stats

from rsacompare.errors import DataError
from rsacompare.metrics.decoding import Decoding
from rsacompare.metrics.evidence import (
    IdentificationEvidence,
    PatternEvidence,
    ProfileEvidence,
    TargetEvidence,
)
from rsacompare.metrics.identification import count_above
from rsacompare.schema import arrays


def values(n=9, units=14, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    observed = rng.standard_normal((n, units)) + rng.standard_normal(units)
    predicted = observed + noise * rng.standard_normal((n, units))
    return np.array([f"s{i}" for i in range(n)]), observed, predicted


def some_weights(n=9, draws=6):
    return np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), draws).astype(float)


def repeated(matrix, w):
    return np.repeat(matrix, np.asarray(w).astype(int), axis=0)


def test_pattern_correlation_is_bdpys_and_a_mean_over_drawn_stimuli():
    ids, observed, predicted = values()
    evidence = PatternEvidence(ids, observed, predicted)
    r = bdpy_metrics.pattern_correlation(predicted, observed)
    np.testing.assert_allclose(evidence.pattern, r, rtol=1e-10)
    assert float(evidence.score()) == pytest.approx(r.mean(), abs=1e-12)
    w, t = some_weights(), some_weights(14)
    np.testing.assert_allclose(evidence.score(w), w @ r / 9, atol=1e-12)
    drawn = [
        np.average(
            bdpy_metrics.pattern_correlation(repeated(predicted.T, b).T, repeated(observed.T, b).T),
            weights=a,
        )
        for a, b in zip(w, t, strict=True)
    ]
    np.testing.assert_allclose(evidence.score(w, t), drawn, atol=1e-12)
    order = np.random.default_rng(2).permuted(np.tile(np.arange(9), (5, 1)), axis=1)
    moved = [bdpy_metrics.pattern_correlation(predicted[o], observed).mean() for o in order]
    np.testing.assert_allclose(evidence.null(order), moved, atol=1e-12)
    z = PatternEvidence(ids, observed, predicted, average="fisher")
    assert float(z.score()) == pytest.approx(np.tanh(np.arctanh(r).mean()), abs=1e-12)
    moved = [bdpy_metrics.pattern_correlation(predicted[o], observed) for o in order]
    np.testing.assert_allclose(z.null(order), np.tanh(np.arctanh(moved).mean(axis=1)), atol=1e-12)
    assert np.isnan(evidence.ceiling(w)).all()


def test_a_stimulus_without_variance_has_no_pattern():
    ids, observed, predicted = values()
    predicted[3] = 0.1
    r = np.delete(
        [
            np.corrcoef(a, b)[0, 1]
            for a, b in zip(observed, predicted + 1e-9 * observed, strict=True)
        ],
        3,
    )
    drop, zero = (PatternEvidence(ids, observed, predicted, dead=d) for d in ("drop", "zero"))
    assert np.isnan(drop.pattern[3])
    assert float(drop.score()) == pytest.approx(r.mean(), abs=1e-6)
    assert float(zero.score()) == pytest.approx(r.sum() / 9, abs=1e-6)
    identity = np.arange(9)[None]
    assert float(zero.null(identity)[0]) == pytest.approx(float(zero.score()), abs=1e-12)
    assert np.isnan(PatternEvidence(ids, observed, 0 * predicted, dead="zero").score())


def test_fisher_average_and_dead_units():
    ids, observed, predicted = values()
    predicted[:, 5] = 2.0
    predicted[:, 7] = observed[:, 7]  # perfect: z is held at a finite 14.2
    evidence = {
        (a, d): ProfileEvidence(ids, observed, predicted, average=a, dead=d)
        for a in ("arithmetic", "fisher")
        for d in ("drop", "zero")
    }
    r = np.array([stats.pearsonr(observed[:, u], predicted[:, u])[0] for u in range(14) if u != 5])
    z = np.arctanh(np.minimum(r, 1 - 1e-12))
    expected = {
        ("arithmetic", "drop"): r.mean(),
        ("arithmetic", "zero"): r.sum() / 14,
        ("fisher", "drop"): np.tanh(z.mean()),
        ("fisher", "zero"): np.tanh(z.sum() / 14),
    }
    plain = TargetEvidence(ids, observed, predicted)
    order = np.random.default_rng(2).permuted(np.tile(np.arange(9), (5, 1)), axis=1)
    for key, held in evidence.items():
        assert float(held.score()) == pytest.approx(expected[key], abs=1e-10)
        assert held.n_targets == (13 if key[1] == "drop" else 14)
        moved = [
            ProfileEvidence(ids, observed, predicted[o], average=key[0], dead=key[1]).score()
            for o in order
        ]
        np.testing.assert_allclose(held.null(order), moved, atol=1e-10)
        assert np.isfinite(held.score(some_weights())).all()
    np.testing.assert_array_equal(
        evidence["arithmetic", "drop"].score(some_weights()), plain.score(some_weights())
    )
    assert np.isnan(ProfileEvidence(ids, observed, 0 * predicted, dead="zero").score())
    with pytest.raises(DataError, match="average must be one of"):
        ProfileEvidence(ids, observed, predicted, average="mode")


def counted(predicted, observed, n_way=2, others=None, fold=None):
    """Every identification of the source's rule, one by one."""
    rates = []
    for i, row in enumerate(predicted):
        rivals = [
            j for j in range(len(observed)) if j != i and (fold is None or fold[i] == fold[j])
        ]
        pool = [observed[j] for j in rivals] + ([] if others is None else list(others))
        own = np.corrcoef(row, observed[i])[0, 1]
        wins = [np.corrcoef(row, rival)[0, 1] <= own + 1e-12 for rival in pool]
        trials = list(itertools.combinations(wins, n_way - 1))
        rates.append(np.mean([all(t) for t in trials]))
    return np.array(rates)


def test_pairwise_identification_is_bdpys():
    ids, observed, predicted = values()
    evidence = IdentificationEvidence(ids, observed, predicted)
    rate = bdpy_metrics.pairwise_identification(predicted, observed)
    assert float(evidence.score()) == pytest.approx(rate.mean(), abs=1e-12)
    assert 0.6 < rate.mean() < 1
    order = np.random.default_rng(2).permuted(np.tile(np.arange(9), (5, 1)), axis=1)
    moved = [bdpy_metrics.pairwise_identification(predicted[o], observed).mean() for o in order]
    np.testing.assert_allclose(evidence.null(order), moved, atol=1e-12)


def test_every_order_together_is_at_chance():
    """Over all cyclic shifts each prediction meets each candidate: exactly 1/2, exactly 1/n."""
    ids, observed, predicted = values()
    shifts = np.array([np.roll(np.arange(9), k) for k in range(9)])
    for n_way in (2, 3, 5, 9):
        evidence = IdentificationEvidence(ids, observed, predicted, n_way=n_way)
        assert evidence.null(shifts).mean() == pytest.approx(1 / n_way, abs=1e-12)


@pytest.mark.parametrize("n_way", [2, 3, 6])
@pytest.mark.parametrize("fold", [None, np.repeat([0, 1], [6, 6])])
@pytest.mark.parametrize("n_others", [0, 5])
def test_identification_equals_counting(n_way, fold, n_others):
    ids, observed, predicted = values(12, seed=3)
    others = np.random.default_rng(8).standard_normal((n_others, 14)) + observed.mean(axis=0)
    beside = {}
    if n_others:
        above, count = count_above(predicted, observed, others)
        beside = {"above": above, "n_others": count}
    evidence = IdentificationEvidence(ids, observed, predicted, fold=fold, n_way=n_way, **beside)
    rate = counted(predicted, observed, n_way, others, fold)
    assert float(evidence.score()) == pytest.approx(rate.mean(), abs=1e-12)
    assert 1 / n_way + 0.1 < rate.mean() < 1
    again = IdentificationEvidence.from_arrays(evidence.to_arrays())
    assert again.score() == evidence.score()
    w = some_weights(12)
    if n_way > 2:
        np.testing.assert_allclose(evidence.score(w), w @ rate / 12, atol=1e-12)
    elif fold is None:
        for row, got in zip(w, evidence.score(w), strict=True):
            right = total = 0.0
            for i in range(12):
                own = np.corrcoef(predicted[i], observed[i])[0, 1]
                rivals = [(row[j], observed[j]) for j in range(12) if j != i]
                rivals += [(1.0, other) for other in others]
                for weight, rival in rivals:
                    right += row[i] * weight * (np.corrcoef(predicted[i], rival)[0, 1] <= own)
                    total += row[i] * weight
            assert got == pytest.approx(right / total, abs=1e-12)


def test_n_way_is_a_hypergeometric_probability():
    ids, observed, predicted = values(40, noise=4.0, seed=5)
    above = [
        sum(np.corrcoef(p, o)[0, 1] > np.corrcoef(p, observed[i])[0, 1] for o in observed)
        for i, p in enumerate(predicted)
    ]
    expected = np.mean([stats.hypergeom(39, k, 9).pmf(0) for k in above])
    evidence = IdentificationEvidence(ids, observed, predicted, n_way=10)
    assert float(evidence.score()) == pytest.approx(expected, abs=1e-12)


def test_ties_count_as_correct_and_one_candidate_under_many_names_is_none():
    ids, observed, predicted = values(6)
    observed[4] = observed[1]  # two names, one pattern: never told apart, both right
    rate = counted(predicted, observed)
    assert float(IdentificationEvidence(ids, observed, predicted).score()) == pytest.approx(
        rate.mean(), abs=1e-12
    )
    twice = observed[[0, 0, 1, 1]]
    assert IdentificationEvidence(ids[:4], twice, twice).score() == 1
    dead = np.tile(observed[:1], (6, 1))
    assert np.isnan(IdentificationEvidence(ids, dead, predicted).score())


def test_what_does_not_vary_is_neither_identified_nor_a_candidate():
    ids, observed, predicted = values()
    observed[2], predicted[5] = 0.1, 7.0
    for n_way in (2, 3):
        got = IdentificationEvidence(ids, observed, predicted, n_way=n_way)
        rates = []
        for i in (0, 1, 3, 4, 6, 7, 8):
            rivals = [observed[j] for j in range(9) if j not in (i, 2)]
            own = np.corrcoef(predicted[i], observed[i])[0, 1]
            wins = [np.corrcoef(predicted[i], rival)[0, 1] <= own for rival in rivals]
            rates.append(np.mean([all(t) for t in itertools.combinations(wins, n_way - 1)]))
        assert float(got.score()) == pytest.approx(np.mean(rates), abs=1e-12)
        np.testing.assert_allclose(got.score(np.ones((1, 9))), np.mean(rates), atol=1e-12)


def test_drawn_units_are_scored_where_it_can_be_done():
    ids, observed, predicted = values()
    t = some_weights(14, 4)
    evidence = IdentificationEvidence(ids, observed, predicted)
    expected = [counted(repeated(predicted.T, b).T, repeated(observed.T, b).T).mean() for b in t]
    np.testing.assert_allclose(evidence.score(np.ones((4, 9)), t), expected, atol=1e-12)
    above, n = count_above(predicted, observed, observed[:2] + 1)
    more = IdentificationEvidence(ids, observed, predicted, above=above, n_others=n)
    with pytest.raises(DataError, match="patterns are not kept"):
        more.score(None, t)
    assert "units" not in evidence.sources


def god_like(seed=0, n_units=30, imagery=True, averages=True):
    """The study in small: pictures of 20 + 8 synsets, tested ones imagined, category averages."""
    rng = np.random.default_rng(seed)
    train = [f"n{c:03d}_{k}" for c in range(20) for k in range(3)]
    test = [f"n{c:03d}_7" for c in range(20, 28)]
    categories = [f"n{c:03d}" for c in range(40)]  # of 12 nothing was shown at all
    latent = {c: rng.standard_normal(6) for c in categories}
    picture = {p: latent[p[:4]] + 0.5 * rng.standard_normal(6) for p in train + test}
    unit, voxel = rng.standard_normal((6, n_units)), rng.standard_normal((6, 25))
    names = train + test + (categories if averages else [])
    acts = np.array([{**latent, **picture}[n] for n in names]) @ unit + rng.standard_normal(n_units)
    seen = train + [t for t in test for _ in range(4)]
    imagined = [c for c in categories[20:28] for _ in range(3)] if imagery else []
    signal = [picture[s] for s in seen] + [latent[c] for c in imagined]
    brain = np.array(signal) @ voxel
    brain += 1.5 * rng.standard_normal(brain.shape)
    ids = np.array(seen + imagined)
    tree = arrays.responses(
        {"s1": brain},
        stimulus_id=ids,
        split=["train"] * 60 + ["test"] * 32 + ["imagery"] * len(imagined),
        presentation={"category": np.array([i[:4] for i in ids])},
    )
    network = arrays.activations({"net": {"l1": acts}}, stimulus_id=names)
    response = tree["s1"]["response"].assign_attrs(roi="V1", subject="s1")
    return network["net/l1"]["activation"], response


def evidence_of(metric, activation, response):
    return metric.compare(metric.prepare_activation(activation), metric.prepare_response(response))


def predictions(activation, response, split):
    """Least squares on all voxels by numpy, a prediction per trial."""
    x, ids = response.values, response["stimulus_id"].values
    train, new = response["split"].values == "train", response["split"].values == split
    y = activation.sel(stimulus_id=ids[train]).values
    rows = np.c_[x, np.ones(len(x))]
    return rows[new] @ np.linalg.lstsq(rows[train], y, rcond=None)[0], ids[new], y


def test_patterns_are_standardised_by_training_stimuli_as_bdpy_does():
    activation, response = god_like()
    trials, ids, y = predictions(activation, response, "test")
    names = np.unique(ids)
    mean = np.stack([trials[ids == n].mean(axis=0) for n in names])
    truth = activation.sel(stimulus_id=names).values
    r = bdpy_metrics.pattern_correlation(
        mean, truth, mean=y.mean(axis=0), std=y.std(axis=0, ddof=1)
    )
    got = evidence_of(Decoding(score="pattern"), activation, response)
    np.testing.assert_allclose(got.pattern, r, atol=1e-8)
    raw = bdpy_metrics.pattern_correlation(mean, truth)
    assert abs(raw.mean() - r.mean()) > 1e-3


@pytest.mark.parametrize("items", ["categories", "imagery"])
@pytest.mark.parametrize("averages", [True, False])
def test_seen_and_imagined_categories_against_category_averages(items, averages):
    activation, response = god_like(averages=averages)
    split = "test" if items == "categories" else "imagery"
    trials, ids, _ = predictions(activation, response, split)
    of = np.array([i[:4] for i in ids])
    names = np.unique(of)
    mean = np.stack([trials[of == n].mean(axis=0) for n in names])
    if averages:
        truth = activation.sel(stimulus_id=names).values
    else:  # of what was shown of the category: its one test picture
        truth = activation.sel(stimulus_id=[f"{n}_7" for n in names]).values
    got = evidence_of(Decoding(items=items), activation, response)
    assert got.stimulus_id.tolist() == names.tolist()
    np.testing.assert_allclose(got.observed, truth, rtol=1e-12)
    np.testing.assert_allclose(got.predicted, mean, rtol=1e-8)
    r = bdpy_metrics.profile_correlation(mean, truth)
    assert float(got.score()) == pytest.approx(np.nanmean(r), abs=1e-9)
    assert got.n_repetitions.tolist() == [4 if items == "categories" else 3] * 8
    assert got.score() > 0.3

    if averages:
        metric = Decoding(items=items, score="pairwise", candidates="all")
        identified = evidence_of(metric, activation, response)
        # the source: own candidate, then all others; 12 + 20 categories were not scored
        pool = activation.sel(stimulus_id=[f"n{c:03d}" for c in range(40) if not 20 <= c < 28])
        rate = counted(mean, truth, 2, pool.values)
        assert identified.n_others.tolist() == [32] * 8
        assert float(identified.score()) == pytest.approx(rate.mean(), abs=1e-12)
        chosen = [f"n{c:03d}" for c in (3, 21, 35)]  # one of them scored anyway
        metric = Decoding(items=items, score="n_way", n_way=4, candidates=chosen)
        pool = activation.sel(stimulus_id=["n003", "n035"]).values
        rate = counted(mean, truth, 4, pool)
        assert float(evidence_of(metric, activation, response).score()) == pytest.approx(
            rate.mean(), abs=1e-12
        )


def test_category_average_is_over_all_that_was_shown_of_it():
    activation, response = god_like(averages=False)
    merged = np.array([f"m{int(c[1:]) // 2}" for c in response["category"].values])
    response = response.assign_coords(category=("presentation", merged))
    got = evidence_of(Decoding(items="categories"), activation, response)
    assert got.stimulus_id.tolist() == ["m10", "m11", "m12", "m13"]
    pair = activation.sel(stimulus_id=["n020_7", "n021_7"]).values
    np.testing.assert_allclose(got.observed[0], pair.mean(axis=0), rtol=1e-12)
    assert got.n_repetitions.tolist() == [8] * 4


def test_imagery_without_training_marks_is_decoded_by_all_that_was_seen():
    activation, response = god_like()
    split = response["split"].values
    free = response.assign_coords(
        split=("presentation", np.where(split == "imagery", "imagery", ""))
    )
    marked = response.assign_coords(
        split=("presentation", np.where(split == "imagery", "imagery", "train"))
    )
    metric = Decoding(items="imagery")
    got, expected = (evidence_of(metric, activation, r) for r in (free, marked))
    np.testing.assert_array_equal(got.predicted, expected.predicted)


def test_cross_validated_categories_are_held_out_whole():
    activation, response = god_like(imagery=False)
    free = response.assign_coords(split=("presentation", np.full(len(response), "")))
    metric = Decoding(items="categories", score="pattern", random_state=0)
    prepared = metric.prepare_response(free)
    for part in prepared.parts:
        trained = {i[:4] for i in part.train_id.tolist()}
        assert not trained & set(part.item.tolist())
    assert sum(len(p.item) for p in prepared.parts) == 92
    evidence = metric.compare(metric.prepare_activation(activation), prepared)
    assert len(evidence.stimulus_id) == 28
    assert evidence.score() > 0.3


def test_first_units_only():
    activation, response = god_like()
    few = evidence_of(Decoding(n_units=7), activation, response)
    cut = evidence_of(Decoding(), activation.isel(neuroid=slice(0, 7)), response)
    np.testing.assert_array_equal(few.predicted, cut.predicted)
    for n_units in ("all", None, 500):
        assert evidence_of(Decoding(n_units=n_units), activation, response).n_targets == 30
