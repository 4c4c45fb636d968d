"""The simultaneous band over depth holds the whole curve as often as it says."""

import numpy as np
import pytest

from rsacompare.inference import bootstrap, depth_curve
from rsacompare.inference.statistics import Options, Statistics, Values

SIMULATIONS, DRAWS = 300, 300
OPTIONS = Options(
    n_bootstrap=DRAWS, n_permutations=1, seed=0, confidence=0.95, equivalence_bound=0.1,
    n_splits=1, sources=None,
)  # fmt: skip


def statistics_of(x, rng):
    """Draws of the mean over a crossed (subject, stimulus, point) layout."""
    counts = [rng.multinomial(n, np.full(n, 1 / n), DRAWS) / n for n in x.shape[:2]]
    by = {
        "subjects": counts[0] @ x.mean(axis=1),
        "stimuli": counts[1] @ x.mean(axis=0),
        "subjects+stimuli": np.einsum("bs,bp,spg->bg", *counts, x, optimize=True),
    }

    def values(mean):
        return Values(mean[..., None, :], np.empty(0), np.empty(0))

    draws = {s: values(by[bootstrap.name(s)]) for s in bootstrap.subsets(["subjects", "stimuli"])}
    return Statistics(values(x.mean(axis=(0, 1))), draws, [], np.empty(0))


def curve(values):
    return values.mean[..., 0, :]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subjects", "stimuli", "scale"),
    [
        (5, 50, (1.0, 0.1, 0.5)),  # five subjects who differ: the hardest
        (5, 50, (0.3, 1.0, 1.0)),
        (15, 92, (1.0, 1.0, 1.0)),
    ],
)
def test_band_covers_the_whole_true_curve(subjects, stimuli, scale):
    rng = np.random.default_rng(subjects)
    points = 12
    near = 0.85 ** np.abs(np.subtract.outer(np.arange(points), np.arange(points)))
    root = np.linalg.cholesky(near).T
    truth = np.sin(np.linspace(0, 3, points))
    levels = {"subjects": subjects, "stimuli": stimuli}
    whole = 0
    pointwise = 0
    for _ in range(SIMULATIONS):
        parts = [(subjects, 1), (1, stimuli), (subjects, stimuli)]
        x = truth + sum(
            s * rng.standard_normal((*p, points)) @ root
            for s, p in zip(scale, parts, strict=True)
        )  # fmt: skip
        held = statistics_of(x, rng)
        found = depth_curve.t_estimate(curve, held, levels, OPTIONS)
        low, high = depth_curve.band(curve, found, held, levels, OPTIONS)
        whole += ((low <= truth) & (truth <= high)).all()
        pointwise += ((found.low <= truth) & (truth <= found.high)).all()
    error = np.sqrt(0.95 * 0.05 / SIMULATIONS)
    assert whole / SIMULATIONS > 0.95 - 2.5 * error
    # and the pointwise interval is no band
    assert pointwise < whole
