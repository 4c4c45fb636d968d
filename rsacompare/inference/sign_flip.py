"""Exact sign-flip test over subjects of each difference, beside its t: it assumes least."""

from __future__ import annotations

import numpy as np

from rsacompare.inference.inferred import Beside, Inferred
from rsacompare.kernels import resample

MOST_EXACT = 14  # subjects whose 2^n patterns are all tried
BLOCK = 10_000  # random patterns at a time: a constant, so that results never depend on memory


def beside(inferred: Inferred) -> Beside:
    """Fills `p_sign_flip` of every row that weighs layers; the best layer of a subject is none.

    NaN too where a subject has a score in some of the row's layers only. It generalises over
    subjects alone, for these stimuli.
    """
    scores = inferred.scores["score"].sel(metric=inferred.family.metric)
    scores = scores.sel(layer=inferred.family.layers).transpose("roi", "subject", "layer")
    seed, n_random = inferred.options.seed, inferred.options.n_permutations
    for row, entry in zip(inferred.rows, inferred.table, strict=True):
        entry["p_sign_flip"] = np.nan
        if row.pairing == "best" or not np.isfinite(entry["difference"]):
            continue
        used = np.flatnonzero(row.weights)
        own = inferred.family.subjects[row.roi]
        differences = scores.sel(roi=row.roi, subject=list(own)).values[:, used] @ row.weights[used]
        differences = differences[np.isfinite(differences)]
        rng = resample.stream(seed, "sign flips", own)
        entry["p_sign_flip"] = sign_flip(differences, rng, n_random)
    return Beside()


def sign_flip(differences: np.ndarray, rng: np.random.Generator, n_random: int = 10_000) -> float:
    """Two-sided p of a mean difference when each subject's sign is as likely as its opposite.

    Parameters
    ----------
    differences : (subject,)
    rng : Generator
        For more subjects than 14, beyond which not all patterns are tried.
    n_random : int
        Random patterns then; p counts the observed one, (1 + #) / (n_random + 1).

    Returns
    -------
    float
        Cannot lie below 2 / 2^n; NaN with fewer than two subjects.

    Examples
    --------
    >>> sign_flip(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.random.default_rng(0))
    0.0625
    """
    n = len(differences)
    if n < 2:
        return float("nan")
    sum_ = abs(differences.sum())
    # the same sum may come out of another order with other last digits
    least = sum_ - 1e-12 * np.abs(differences).sum()
    if n <= MOST_EXACT:
        # of a pattern and its mirror image one is enough
        patterns = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
        return float((np.abs((1 - 2 * patterns) @ differences) >= least).mean())
    count = 0
    for start in range(0, n_random, BLOCK):
        size = min(BLOCK, n_random - start)
        signs = 1 - 2 * rng.integers(0, 2, size=(size, n))
        count += int((np.abs(signs @ differences) >= least).sum())
    return (1 + count) / (n_random + 1)
