"""False positives of `p_null` for the scores of decoding beside the profile correlation.

Brains and networks that share nothing, compare → infer; the rate is of one cell, so that its
Monte-Carlo error is binomial. The network's units share a few dimensions and have different means,
as real ones do: patterns that were not standardised would correlate by these means alone.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest

import rsacompare as rc

pytestmark = pytest.mark.slow
N = 150
VARIANTS = {
    "pattern": {"score": "pattern"},
    "pattern, fisher": {"score": "pattern", "average": "fisher"},
    "pairwise": {"score": "pairwise"},
    "3-way": {"score": "n_way", "n_way": 3},
    "profile": {},
    "profile, fisher": {"average": "fisher"},
}


def unrelated(seed, split, n_train=24, n_test=18, n_subjects=3):
    rng = np.random.default_rng((seed, 7))
    n = n_train + n_test
    row = np.r_[np.arange(n_train), np.repeat(np.arange(n_train, n), 2)]
    latent = rng.standard_normal((n, 4))  # the subjects' brains share it; the network does not
    subjects = {
        f"s{i}": (latent @ rng.standard_normal((4, 10)))[row] + rng.standard_normal((len(row), 10))
        for i in range(n_subjects)
    }
    acts = rng.standard_normal((n, 3)) @ rng.standard_normal((3, 15)) + 3 * rng.standard_normal(15)
    acts += 0.5 * rng.standard_normal(acts.shape)
    names = np.array([f"p{i:02d}" for i in range(n)])
    part = np.where(row < n_train, "train", "test") if split else None
    return (
        rc.activations({"net": {"l": acts}}, stimulus_id=names),
        rc.responses(subjects, stimulus_id=names[row], split=part),
    )


@cache
def simulations(split: bool, n: int = N) -> pd.DataFrame:
    found = []
    for seed in range(n):
        metrics = {k: rc.metric("decoding", n_voxels=6, **v) for k, v in VARIANTS.items()}
        comparison = rc.compare(*unrelated(seed, split), metrics, random_state=seed)
        result = rc.infer(
            comparison, n_bootstrap=20, n_permutations=199, n_splits=1, random_state=seed
        )
        for name in VARIANTS:
            own = result.sel(metric=name).isel(roi=0, layer=0)
            found.append(
                {"variant": name, "p": float(own["p_null"]), "score": float(own["mean_score"])}
            )
    return pd.DataFrame(found)


def summary(split: bool) -> pd.DataFrame:
    """Rate of p_null < .05 and mean score, with their Monte-Carlo errors."""
    grouped = simulations(split).assign(found=lambda t: t["p"] < 0.05).groupby("variant")
    return pd.DataFrame(
        {
            "rate": grouped["found"].mean(),
            "score": grouped["score"].mean(),
            "se": grouped["score"].sem(),
        }
    )


CHANCE = {"pairwise": 0.5, "3-way": 1 / 3}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("split", [True, False], ids=["split", "cross-validated"])
def test_unrelated_networks_are_found_related_at_the_stated_rate(variant, split):
    row = summary(split).loc[variant]
    error = np.sqrt(0.05 * 0.95 / N)
    if split:
        assert row["rate"] == pytest.approx(0.05, abs=2.5 * error)
    else:  # the cross-validated null is widened, an upper bound
        assert row["rate"] <= 0.05 + 2.5 * error
    assert row["score"] == pytest.approx(CHANCE.get(variant, 0.0), abs=3.5 * row["se"])


def main() -> None:
    """Print both tables."""
    for split in (True, False):
        print("split" if split else "cross-validated", N, "simulations")
        print(summary(split).round(4).to_string())


if __name__ == "__main__":
    main()
