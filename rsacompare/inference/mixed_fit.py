"""The mixed model itself: its design matrix with readable terms, and its fit with all trouble."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

RETRIED = "the first way of optimising did not converge and another was tried"
TROUBLE = (  # what statsmodels warns of, and what it means
    ("Retrying", RETRIED),
    ("optimization failed", "the optimisation did not converge"),
    (
        "boundary",
        "a variance between subjects is estimated at or near 0, the edge of what it can be",
    ),
    ("singular", "the covariance of the random effects is singular"),
    ("Hessian", "the likelihood has no clear maximum there, so that Wald intervals mean little"),
)


@dataclass(frozen=True)
class Design:
    """Fixed effects of network × depth × ROI.

    Attributes
    ----------
    parts : list of (network, depth, roi)
        What each term is made of, "" where a factor has no part in it; the first is the overall
        mean.
    x : (roi, layer, term)
    slopes : (layer, network − 1)
        The columns of the networks, for random slopes.
    centre : float
        The relative depth at which everything but depth is told.
    """

    parts: list[tuple[str, str, str]]
    x: np.ndarray
    slopes: np.ndarray
    centre: float

    @property
    def terms(self) -> list[str]:
        """Readable names."""
        return [_named(parts) for parts in self.parts]


def design(
    rois: Sequence[str], networks: Sequence[str], network: Sequence[str], depth: np.ndarray
) -> Design:
    """The design matrix of all cells, each factor centred.

    A factor of K levels has K − 1 columns, "level − reference": 1 in that level and 0 elsewhere,
    less 1/K everywhere. So a coefficient is the plain difference of two levels, as in treatment
    coding, but **averaged over the levels of the other factors**, as in sum coding (in treatment
    coding it would hold for the other factors' reference alone). The reference is the last
    network and the first ROI. Depth is relative depth less its mean (of the means of the
    networks); its coefficient is the change from the first layer to the last.

    Parameters
    ----------
    rois, networks : sequences of str
    network : (layer,) str
    depth : (layer,) float
    """
    named = np.asarray(network)
    centre = float(np.mean([depth[named == n].mean() for n in networks]))
    columns = np.stack([named == n for n in networks[:-1]], axis=1) - 1 / len(networks)
    levels = np.eye(len(rois))[:, 1:] - 1 / len(rois)
    against = [f"{n} − {networks[-1]}" for n in networks[:-1]]
    of_network = [("", np.ones(len(named))), *zip(against, columns.T, strict=True)]
    of_depth = [("", np.ones(len(named))), ("depth", depth - centre)]
    against = [f"{r} − {rois[0]}" for r in rois[1:]]
    of_roi = [("", np.ones(len(rois))), *zip(against, levels.T, strict=True)]
    crossed = [
        ((n, d, r), by_roi[:, None] * (by_network * by_depth))
        for (n, by_network), (d, by_depth), (r, by_roi) in product(of_network, of_depth, of_roi)
    ]
    # main effects first, those of the networks before all others
    crossed.sort(key=lambda term: (sum(map(bool, term[0])), not term[0][0]))
    return Design(
        [parts for parts, _ in crossed],
        np.stack([column for _, column in crossed], axis=-1),
        columns,
        centre,
    )


def _named(parts: tuple[str, str, str]) -> str:
    given = [part for part in parts if part]
    marked = [f"({p})" if len(given) > 1 and " − " in p else p for p in given]
    return " × ".join(marked) or "overall mean"


@dataclass
class Fit:
    """Coefficients with their Wald standard errors (NaN where there are none).

    `slopes`: whether subjects have random slopes for the networks; `trouble`: a phrase for
    everything that went wrong; `variances`: of the random effects and the residual.
    """

    coefficients: np.ndarray
    se: np.ndarray
    slopes: bool = False
    trouble: list[str] = field(default_factory=list)
    variances: dict[str, float] = field(default_factory=dict)


def fit(y: np.ndarray, x: np.ndarray, subject: np.ndarray, slopes: np.ndarray | None) -> Fit:
    """REML fit with a random intercept per subject, and random slopes where they can be fitted.

    Parameters
    ----------
    y : (observation,)
    x : (observation, term)
    subject : (observation,)
    slopes : (observation, slope) or None
        Tried first, together with the intercept; left out where the fit is not clean.

    Raises
    ------
    numpy.linalg.LinAlgError
        Terms that the observations cannot tell apart.
    """
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise np.linalg.LinAlgError("terms cannot be told apart")
    plain = np.linalg.lstsq(x, y, rcond=None)[0]
    residual = y - x @ plain
    scale = float(np.sqrt((residual**2).sum() / max(len(y) - x.shape[1], 1)))
    if scale <= 1e-12 * float(np.abs(y).max()):
        said = "the scores are what the fixed effects say, without any residual"
        return Fit(plain, np.full(x.shape[1], np.nan), trouble=[said])
    trouble = []
    ones = np.ones((len(y), 1))
    if slopes is not None:
        found = _mixed(y, x, subject, np.hstack([ones, slopes]), scale)
        if found is not None and not found.trouble:
            found.slopes = True
            return found
        why = "it could not be fitted" if found is None else ", ".join(found.trouble)
        trouble.append(f"random slopes of the networks were tried and left out ({why})")
    found = _mixed(y, x, subject, ones, scale)
    if found is None:
        trouble.append("the mixed model could not be fitted: the estimates are least squares")
        return Fit(plain, np.full(x.shape[1], np.nan), trouble=trouble)
    found.trouble = trouble + found.trouble
    return found


def _mixed(
    y: np.ndarray, x: np.ndarray, subject: np.ndarray, z: np.ndarray, scale: float
) -> Fit | None:
    """One fit; None where it breaks down.

    Scores are divided by the residual's scale: statsmodels says that a variance is near its
    boundary by an absolute number, which so becomes a hundredth of the residual variance.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = MixedLM(y / scale, x, groups=subject, exog_re=z).fit(
                reml=True, method=["bfgs", "lbfgs"]
            )
            coefficients, se = found.fe_params * scale, found.bse_fe * scale
            covariance = np.atleast_2d(found.cov_re) * scale**2
        except (np.linalg.LinAlgError, ValueError):
            return None
    trouble = [_phrase(str(w.message)) for w in caught]
    if not found.converged:  # which of the ways of optimising failed first says no more
        trouble = ["the optimisation did not converge", *(t for t in trouble if t != RETRIED)]
    if not (np.isfinite(coefficients).all() and np.isfinite(se).all()):
        trouble.append("not every standard error is a number")
    variances = {"intercept": float(covariance[0, 0]), "residual": float(found.scale) * scale**2}
    variances |= {f"slope {i}": float(v) for i, v in enumerate(np.diag(covariance)[1:], 1)}
    return Fit(
        np.asarray(coefficients), np.asarray(se), trouble=list(dict.fromkeys(trouble)),
        variances=variances,
    )  # fmt: skip


def _phrase(message: str) -> str:
    return next((said for word, said in TROUBLE if word in message), message.rstrip("."))
