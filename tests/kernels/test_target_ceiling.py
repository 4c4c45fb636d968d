"""The ceiling of target evidence against simulations whose signal and noise are known."""

import numpy as np
import pytest

from rsacompare.metrics.evidence import TargetEvidence
from rsacompare.schema.labels import group_rows


def simulate(n_stimuli, n_targets, s2, sigma2, repetitions, seed=0, fold=None):
    """Signal, and evidence whose noisy side is the mean over repetitions (one number or each's)."""
    rng = np.random.default_rng(seed)
    signal = np.sqrt(s2) * rng.standard_normal((n_stimuli, n_targets))
    count = np.broadcast_to(repetitions, n_stimuli)
    ids = np.repeat([f"im{i:04d}" for i in range(n_stimuli)], count)
    shift = 0 if fold is None else 20.0 * fold[:, None]
    trials = (signal + shift)[np.repeat(np.arange(n_stimuli), count)]
    trials = trials + np.sqrt(sigma2) * rng.standard_normal(trials.shape)
    return signal, evidence(*group_rows(trials, ids), other=signal, fold=fold)


def evidence(ids, mean, variance, count, other, fold=None, noisy="observed"):
    sides = {"observed": mean, "predicted": other}
    if noisy == "predicted":
        sides = {"observed": other, "predicted": mean}
    return TargetEvidence(
        ids, **sides, fold=fold, noise_variance=variance, n_repetitions=count, noisy=noisy
    )


def take(cell, rows):
    """The evidence with its rows repeated."""
    return TargetEvidence(
        np.array([f"{i:05d}" for i in range(len(rows))]),
        cell.observed[rows],
        cell.predicted[rows],
        fold=None if cell.fold is None else cell.fold[rows],
        noise_variance=cell.noise_variance[rows],
        n_repetitions=cell.n_repetitions[rows],
        noisy=cell.noisy,
    )


@pytest.mark.parametrize(("s2", "sigma2", "m"), [(1.0, 4.0, 5), (2.0, 1.0, 2), (0.5, 9.0, 20)])
def test_ceiling_is_what_the_true_signal_reaches(s2, sigma2, m):
    _, cell = simulate(400, 200, s2, sigma2, m)
    known = np.sqrt(s2 / (s2 + sigma2 / m))
    assert abs(cell.ceiling() - known) < 0.006
    # the score of the perfect prediction, which is what the ceiling bounds
    assert abs(cell.ceiling() - cell.score()) < 0.006


def test_both_sides_give_the_same_ceiling_and_it_is_that_of_the_noisy_one():
    signal, cell = simulate(60, 10, 1.0, 4.0, 5)
    given = (cell.stimulus_id, cell.observed, cell.noise_variance, cell.n_repetitions, signal)
    other = evidence(*given, noisy="predicted")
    assert other.ceiling() == cell.ceiling()
    wrong = TargetEvidence(
        cell.stimulus_id,
        cell.observed,
        3 * signal,
        noise_variance=cell.noise_variance,
        n_repetitions=cell.n_repetitions,
        noisy="predicted",
    )
    assert wrong.ceiling() > cell.ceiling() + 0.05


def test_ceiling_is_the_closed_form_of_the_paper():
    _, cell = simulate(30, 8, 1.0, 4.0, 5, seed=3)
    expected = []
    for t in range(8):  # one target at a time, as in FACTS 6.2
        noise = cell.noise_variance[:, t].mean() / 5
        signal = max(0.0, np.var(cell.observed[:, t], ddof=1) - noise)
        expected.append(np.sqrt(signal / (signal + noise)))
    np.testing.assert_allclose(cell.ceiling(), np.mean(expected), rtol=1e-12)


def test_unequal_repetitions_weigh_the_noise_of_each_stimulus():
    count = np.where(np.arange(600) % 2 == 0, 2, 12)
    _, cell = simulate(600, 150, 1.0, 4.0, count)
    known = np.sqrt(1 / (1 + 4 * np.mean(1 / count)))
    assert abs(cell.ceiling() - known) < 0.006
    assert abs(cell.ceiling() - cell.score()) < 0.006


def test_within_folds_differences_between_folds_do_not_count():
    fold = np.arange(400) % 5
    signal, cell = simulate(400, 200, 1.0, 4.0, 5, fold=fold)
    known = np.sqrt(1 / (1 + 4 / 5))
    assert abs(cell.ceiling() - known) < 0.006
    assert abs(cell.ceiling() - cell.score()) < 0.006
    # without the folds the shifts between them look like signal
    pooled = evidence(
        cell.stimulus_id, cell.observed, cell.noise_variance, cell.n_repetitions, signal
    )
    assert pooled.ceiling() > 0.99


def test_no_signal_gives_a_ceiling_near_zero():
    _, cell = simulate(1000, 100, 0.0, 4.0, 5)
    cell.predicted[:] = np.random.default_rng(1).standard_normal((1000, 100))
    # clipped at zero per target, so it is not exactly zero
    assert 0 < cell.ceiling() < 0.2


@pytest.mark.parametrize("folds", [None, 4])
@pytest.mark.parametrize("noisy", ["observed", "predicted"])
def test_multiplicities_are_repeated_rows(folds, noisy):
    rng = np.random.default_rng(1)
    fold = None if folds is None else np.arange(40) % folds
    signal, cell = simulate(40, 9, 1.0, 4.0, rng.integers(2, 6, 40), fold=fold)
    given = (cell.stimulus_id, cell.observed, cell.noise_variance, cell.n_repetitions, signal)
    cell = evidence(*given, fold=fold, noisy=noisy)
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=(2, 3)).astype(float)
    scored = cell.ceiling(weights)
    assert scored.shape == (2, 3)
    for draw in np.ndindex(2, 3):
        rows = np.repeat(np.arange(40), weights[draw].astype(int))
        # the same, degrees of freedom included: copies count as stimuli of their own
        np.testing.assert_allclose(scored[draw], take(cell, rows).ceiling(), rtol=1e-12)
    assert np.ptp(scored) > 0.01
    np.testing.assert_allclose(cell.ceiling(np.ones(40)), cell.ceiling(), rtol=1e-12)


def test_a_fold_that_a_draw_leaves_out_costs_no_degree_of_freedom():
    fold = np.arange(12) % 4
    _, cell = simulate(12, 50, 1.0, 4.0, 5, fold=fold)
    weights = np.where(fold == 3, 0.0, 1.0)
    rows = np.flatnonzero(weights)
    np.testing.assert_allclose(cell.ceiling(weights), take(cell, rows).ceiling(), rtol=1e-12)


def test_a_draw_of_one_stimulus_has_no_ceiling():
    _, cell = simulate(12, 5, 1.0, 4.0, 5)
    weights = np.zeros((2, 12))
    weights[0, 4], weights[1] = 12, 1
    assert np.isnan(cell.ceiling(weights)[0])
    assert np.isfinite(cell.ceiling(weights)[1])


def test_nothing_is_known_without_repetitions():
    _, cell = simulate(12, 5, 1.0, 4.0, np.where(np.arange(12) == 3, 1, 5))
    assert np.isnan(cell.ceiling())
    assert np.isnan(cell.ceiling(np.ones((3, 12)))).tolist() == [True] * 3
    bare = TargetEvidence(cell.stimulus_id, cell.observed, cell.predicted)
    assert np.isnan(bare.ceiling())


def test_targets_that_are_not_scored_are_left_out_of_the_ceiling():
    _, cell = simulate(30, 6, 1.0, 4.0, 5)
    alone = cell.take(np.arange(1, 6)).ceiling()
    dead = cell.take(np.arange(6))
    dead.observed[:, 0] = 3.0
    dead.noise_variance[:, 0] = 0.0
    np.testing.assert_allclose(dead.ceiling(), alone, rtol=1e-12)


def test_cells_share_a_ceiling_only_when_it_is_the_same():
    signal, cell = simulate(30, 6, 1.0, 4.0, 5)
    given = (cell.stimulus_id, cell.observed, cell.noise_variance, cell.n_repetitions)
    other = evidence(*given, other=signal + 1.5)  # another network, all targets scored
    assert other.ceiling_key() == cell.ceiling_key()
    assert other.ceiling() == cell.ceiling()
    fewer = signal.copy()
    fewer[:, :3] = 0.0  # a network that predicts nothing for three targets
    fewer = evidence(*given, other=fewer)
    assert fewer.ceiling() != cell.ceiling()
    assert fewer.ceiling_key() != cell.ceiling_key()


def test_group_ceiling_is_each_subjects_own():
    cells = [simulate(30, 6, 1.0, 4.0, 5, seed=s)[1] for s in range(3)]
    low, high = TargetEvidence.group_ceiling(cells)
    np.testing.assert_array_equal(low, [c.ceiling() for c in cells])
    np.testing.assert_array_equal(low, high)
    weights = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=4).astype(float)
    low, _ = TargetEvidence.group_ceiling(cells, weights, np.ones((4, 3)))
    np.testing.assert_allclose(low, np.stack([c.ceiling(weights) for c in cells], axis=1))
    low, _ = TargetEvidence.group_ceiling(cells, None, np.ones((4, 3)))
    assert low.shape == (4, 3)
