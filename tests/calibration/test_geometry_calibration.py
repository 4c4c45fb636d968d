"""False-positive rates for CKA, PCM and crossnobis RSA: of p_null, and of the contrast's p."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

import rsacompare as rc

pytestmark = pytest.mark.slow
N = 400
METRICS = {
    "cka": ("cka", {}),
    "plain cka": ("cka", {"debiased": False}),
    "pcm": ("pcm", {}),
    "crossnobis": ("rsa", {"distance": "crossnobis", "comparator": "cosine"}),
    "mahalanobis": ("rsa", {"distance": "mahalanobis", "comparator": "corr_cov"}),
}


@cache
def simulations(effect: float = 0.0, n: int = N) -> pd.DataFrame:
    """Two subjects, 16 stimuli shown three times; noise correlated over the 10 voxels."""
    metrics = {label: rc.metric(name, **options) for label, (name, options) in METRICS.items()}
    ids = [f"s{i:02d}" for i in range(16)]
    found = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((16, 12))
        brain = {}
        for subject in ("p", "q"):
            signal = rng.standard_normal((16, 10)) + effect * x @ rng.standard_normal((12, 10))
            mixing = rng.standard_normal((10, 10)) / 3 + np.eye(10)
            noise = rng.standard_normal((48, 10)) @ mixing
            brain[subject] = np.tile(signal, (3, 1)) + noise
        comparison = rc.compare(
            rc.activations({"net": {"l": x}}, stimulus_id=ids),
            rc.responses(brain, stimulus_id=ids * 3),
            metrics,
        )
        result = rc.infer(comparison, n_bootstrap=20, n_permutations=199, random_state=seed)
        found.append(result["p_null"].squeeze(["roi", "layer"]).to_series() < 0.05)
    return pd.DataFrame(found)


@pytest.mark.parametrize("metric", METRICS)
def test_unrelated_networks_are_found_related_at_the_stated_rate(metric):
    rate = float(simulations()[metric].mean())
    assert rate == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / N)), rate


@pytest.mark.parametrize("metric", METRICS)
def test_power_beside_it(metric):
    """All metrics find a network that has part of each subject's signal."""
    assert float(simulations(0.4, 60)[metric].mean()) > 0.5


@cache
def contrasts(n: int) -> pd.DataFrame:
    """Three subjects of noise alone, and two networks: many dimensions, and two.

    A network of nearly equal distances gains most where a score is biased, such as distances that
    are all too large: p_null cannot show it, since re-indexing leaves the bias where it is.
    """
    kept = ("cka", "pcm", "crossnobis", "mahalanobis")
    metrics = {label: rc.metric(METRICS[label][0], **METRICS[label][1]) for label in kept}
    ids = [f"s{i:02d}" for i in range(16)]
    found = []
    for seed in range(n):
        rng = np.random.default_rng(10_000 + seed)
        layers = {"flat": rng.standard_normal((16, 60)), "spiky": rng.standard_normal((16, 2))}
        mixing = np.linalg.cholesky(0.3 + 0.7 * np.eye(30))
        brain = {f"p{i}": rng.standard_normal((48, 30)) @ mixing.T for i in range(3)}
        comparison = rc.compare(
            rc.activations({name: {"l": x} for name, x in layers.items()}, stimulus_id=ids),
            rc.responses(brain, stimulus_id=ids * 3),
            metrics,
        )
        result = rc.infer(comparison, n_bootstrap=200, n_permutations=1, random_state=seed)
        rows = rc.tables(result)["contrasts"]
        rows = rows[rows["pairing"] == "mean"].set_index("metric")
        found.append(rows["p"] < 0.05)
    return pd.DataFrame(found)


@pytest.mark.parametrize("metric", ["cka", "pcm", "crossnobis", "mahalanobis"])
def test_no_network_wins_on_noise_by_its_dimensions(metric):
    n = 60
    rate = float(contrasts(n)[metric].mean())
    assert rate <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n), rate


@cache
def named(n: int) -> pd.DataFrame:
    """The same by scores that lie above 0 for unrelated patterns: p_fwer and the verdict."""
    metrics = {
        "plain cka": rc.metric("cka", debiased=False),
        "procrustes": rc.metric("procrustes"),
        "cosine": rc.metric("rsa", distance="euclidean", comparator="cosine"),
    }
    ids = [f"s{i:02d}" for i in range(16)]
    found = []
    for seed in range(n):
        rng = np.random.default_rng(20_000 + seed)
        layers = {"flat": rng.standard_normal((16, 60)), "spiky": rng.standard_normal((16, 2))}
        brain = {f"p{i}": rng.standard_normal((48, 30)) for i in range(3)}
        comparison = rc.compare(
            rc.activations({name: {"l": x} for name, x in layers.items()}, stimulus_id=ids),
            rc.responses(brain, stimulus_id=ids * 3),
            metrics,
        )
        result = rc.infer(comparison, n_bootstrap=200, n_permutations=199, random_state=seed)
        rows = rc.tables(result)["contrasts"]
        rows = rows[rows["pairing"] == "mean"].set_index("metric")
        outcome = {"differs": rows["p_fwer"] < 0.05, "named": rows["verdict"].isin(["a", "b"])}
        found.append(pd.DataFrame(outcome).stack())
    return pd.DataFrame(found)


@pytest.mark.parametrize("metric", ["plain cka", "procrustes", "cosine"])
def test_a_score_that_is_biased_names_no_winner_on_noise(metric):
    n = 60
    rates = named(n).mean()[metric]
    assert rates["differs"] > 0.5, rates  # the difference is there, and means nothing
    assert rates["named"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n), rates


def main() -> None:
    """Print all rates with their Monte-Carlo error."""
    for effect, n in ((0.0, N), (0.4, 60)):
        table = simulations(effect, n)
        print(f"\neffect {effect}, {n} simulations")
        print(table.mean().map("{:.3f}".format) + " ± " + table.sem().map("{:.3f}".format))
    print("\ncontrast p < .05 between two networks on noise")
    print(contrasts(60).mean().map("{:.3f}".format))
    print("\nnoise, biased scores: the networks differ, and one is named")
    print(named(60).mean().unstack().map("{:.3f}".format))


if __name__ == "__main__":
    main()
