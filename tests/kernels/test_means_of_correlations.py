"""Means of correlations and ceilings under draws and halves, against one draw at a time."""

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.kernels import columns
from rsacompare.kernels.means import mean_correlations
from rsacompare.kernels.resample import halves, multiplicities, permutations
from rsacompare.metrics.many import score_permuted
from rsacompare.metrics.parts import score_in_parts, target_ceilings


def by_rows(x, y, weights, fold, part):
    """Correlation of each target over the rows that a draw stands for: (target,)."""
    rows = np.repeat(np.arange(len(x)), (weights * part).astype(int))
    a, b = x[rows].copy(), y[rows].copy()
    for label in np.unique(fold[rows]):
        own = fold[rows] == label
        a[own], b[own] = a[own] - a[own].mean(axis=0), b[own] - b[own].mean(axis=0)
    dead = (np.ptp(a, axis=0) < 1e-9) | (np.ptp(b, axis=0) < 1e-9) if len(rows) else [True]
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return np.where(dead, np.nan, r)


def mean_of(r, units=None):
    units = np.ones(r.shape) if units is None else units
    live = np.isfinite(r)
    total = units[live].sum()
    return (units[live] * r[live]).sum() / total if total else np.nan


def scene(n, n_targets, n_cells, n_folds, seed=0):
    """Targets that are constant, hold an outlier, or vary in one stimulus alone."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, n_targets))
    ys = [0.3 * x + rng.standard_normal(x.shape) for _ in range(n_cells)]
    fold = np.arange(n) % n_folds
    x[:, 3], ys[0][:, 5], ys[0][:, 6] = 2.5, 0.1, np.nan
    x[:, 8], x[1, 8] = 0.0, 7.0
    ys[1][7:, 9] = 1.0
    ys[0][2, 10], x[3, 11] = 1e5, 1e4
    return rng, x, ys, fold


@pytest.mark.parametrize("n_folds", [1, 4])
def test_means_are_those_of_one_draw_at_a_time(n_folds):
    rng, x, ys, fold = scene(20, 70, 2, n_folds)
    w = multiplicities(rng, 20, 150)
    w[0], w[1] = 0.0, np.eye(20)[3] * 20  # nothing, and one stimulus alone
    u = multiplicities(rng, 70, 150)
    split = halves(rng, 20, 2, fold)
    found = mean_correlations(x, ys, w, u, split, fold if n_folds > 1 else None)
    parts = [np.ones(20, bool), *(m for half in split for m in (half, ~half))]
    assert np.isnan(found.stimuli[:, :2]).all()
    for p, part in enumerate(parts):
        for c, y in enumerate(ys):
            plain = by_rows(x, y, np.ones(20), fold, part)
            assert found.nothing[p, 0, c] == pytest.approx(mean_of(plain), abs=1e-10)
            expected = [mean_of(plain, v) for v in u]
            np.testing.assert_allclose(found.units[p, :, c], expected, atol=1e-10)
            drawn = [by_rows(x, y, v, fold, part) for v in w]
            expected = [mean_of(r) for r in drawn]
            np.testing.assert_allclose(found.stimuli[p, :, c], expected, atol=1e-10)
            expected = [mean_of(r, v) for r, v in zip(drawn, u, strict=True)]
            np.testing.assert_allclose(found.both[p, :, c], expected, atol=1e-10)


def test_every_draw_is_scored_as_if_it_were_alone():
    """Blocks of draws and of targets, and the other cells, leave a mean as it is."""
    rng, x, ys, _ = scene(20, 70, 3, 1)
    w, u = multiplicities(rng, 20, 300), multiplicities(rng, 70, 300)
    together = mean_correlations(x, ys, w, u)
    for d in (0, 127, 128, 299):
        alone = mean_correlations(x, ys[2:], w[d : d + 1], u[d : d + 1])
        for name in ("stimuli", "units", "both"):
            expected = getattr(together, name)[0, d, 2]
            assert getattr(alone, name)[0, 0, 0] == pytest.approx(expected, abs=1e-13)


def test_what_is_wrong_is_said():
    _, x, ys, _ = scene(20, 70, 2, 1)
    with pytest.raises(ValueError, match=r"observed \(20, 70\) and predicted \(20, 69\)"):
        mean_correlations(x, [ys[0][:, 1:]])
    with pytest.raises(ValueError, match="3 draws of stimuli but 2 of targets"):
        mean_correlations(x, ys, np.ones((3, 20)), np.ones((2, 70)))


def evidence(n_folds, sides=("observed", "predicted"), noise=True):
    """Cells that share their observed side, two and two, or not at all."""
    rng, x, ys, fold = scene(24, 40, 2, n_folds, seed=3)
    other = rng.standard_normal(x.shape)
    known = {}
    if noise:
        known = {"n_repetitions": np.full(24, 5), "noise_variance": rng.chisquare(4, x.shape) / 2}
    ys[0][:, 6] = 1.0
    # `score` takes the squares of all stimuli and loses the digits that an outlier takes
    ys[0][2, 10] = x[3, 11] = 20.0
    return rng, [
        rc.TargetEvidence(
            np.arange(24).astype(str), observed, y, fold if n_folds > 1 else None,
            ("stimuli", "units"), noisy=side, **known,
        )
        for observed in (x, other)
        for y, side in zip(ys, sides, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("n_folds", [1, 3])
def test_scores_nulls_and_ceilings_are_those_of_each_cell(n_folds):
    rng, cells = evidence(n_folds)
    fold = cells[0].fold
    w, u = multiplicities(rng, 24, 60), multiplicities(rng, 40, 60)
    half = halves(rng, 24, 1, fold)
    scores = score_in_parts(cells, half, w, [u] * 4)
    roofs = target_ceilings(cells, w, u)
    orders = permutations(rng, 24, 50, fold)
    nulls = score_permuted(cells, orders)
    for c, cell in enumerate(cells):
        for p, part in enumerate((np.ones(24), half[0], ~half[0])):
            np.testing.assert_allclose(scores.stimuli[p, :, c], cell.score(w * part), atol=1e-10)
            np.testing.assert_allclose(scores.both[p, :, c], cell.score(w * part, u), atol=1e-10)
            np.testing.assert_allclose(scores.units[p, :, c], cell.score(1.0 * part, u), atol=1e-10)
        for name, given in {
            "nothing": (None, None), "stimuli": (w, None), "units": (None, u), "both": (w, u),
        }.items():  # fmt: skip
            expected = np.broadcast_to(cell.ceiling(*given), getattr(roofs, name)[0, :, c].shape)
            np.testing.assert_allclose(getattr(roofs, name)[0, :, c], expected, atol=1e-10)
        np.testing.assert_allclose(nulls[:, c], cell.null(orders), atol=1e-12)
        one = [columns.correlate_columns(cell.observed, cell.predicted[o], fold=fold)
               for o in orders]  # fmt: skip
        np.testing.assert_allclose(nulls[:, c], np.nanmean(one, axis=1), atol=1e-10)


def test_a_ceiling_that_nobody_knows_is_nan():
    rng, cells = evidence(1, noise=False)
    cells[1].noise_variance, cells[1].n_repetitions = np.ones((24, 40)), np.ones(24, int)
    roofs = target_ceilings(cells, multiplicities(rng, 24, 9))
    assert np.isnan(roofs.stimuli).all()
    assert roofs.stimuli.shape == (1, 9, 4)


class Doubled(rc.TargetEvidence):
    """A guest's own mean."""

    def _mean(self, values, weights):
        return 2 * super()._mean(values, weights)


def test_a_guest_that_means_otherwise_is_asked_itself():
    rng, cells = evidence(1)
    plain = cells[0]
    guest = Doubled(plain.stimulus_id, plain.observed, plain.predicted, sources=plain.sources)
    w, u = multiplicities(rng, 24, 20), multiplicities(rng, 40, 20)
    half = halves(rng, 24, 2)
    both = score_in_parts([plain, guest], half, w, [u, u])
    for name in ("nothing", "stimuli", "units", "both"):
        found = getattr(both, name)
        np.testing.assert_allclose(found[..., 1], 2 * found[..., 0], atol=1e-10)
    assert target_ceilings([guest]) is None


def test_ceilings_of_cells_with_unlike_numbers_of_targets():
    """Regions of several people: each has its own number of voxels."""
    rng = np.random.default_rng(8)
    w = multiplicities(rng, 24, 30)
    cells = [
        rc.TargetEvidence(
            np.arange(24).astype(str), rng.standard_normal((24, k)), rng.standard_normal((24, k)),
            n_repetitions=np.full(24, 5), noise_variance=rng.chisquare(4, (24, k)) / 2,
        )
        for k in (3, 200, 70)
    ]  # fmt: skip
    roofs = target_ceilings(cells, w)
    for c, cell in enumerate(cells):
        np.testing.assert_allclose(roofs.stimuli[0, :, c], cell.ceiling(w), atol=1e-10)
