"""What the number of an RSA means, in words."""

from __future__ import annotations

from rsacompare.metrics import noise_distances
from rsacompare.metrics.base import BIASED
from rsacompare.metrics.evidence import Meaning

_UNITS = {
    "cosine": "cosine similarity",
    "corr": "correlation r",
    "spearman": "Spearman's ρ",
    "kendall": "Kendall's τ-b",
    "tau-b": "Kendall's τ-b",
    "tau-a": "Kendall's τ-a",
    "rho-a": "Spearman's ρ-a",
    "cosine_cov": "whitened cosine similarity",
    "corr_cov": "whitened correlation",
}
_WORDS = {
    "correlation": "one minus the Pearson correlation across units or voxels",
    "euclidean": "the squared Euclidean distance divided by the number of units or voxels",
}
_CITATIONS = (
    "Kriegeskorte, Mur & Bandettini 2008, Frontiers in Systems Neuroscience 2:4",
    "Nili et al. 2014, PLoS Computational Biology 10:e1003553",
    "Schütt et al. 2023, eLife 12:e82566",
)
_WALTHER = "Walther et al. 2016, NeuroImage 137:188-200"
_ESTIMATE = {
    "shrinkage_diag": "shrunk towards its diagonal (Schäfer & Strimmer 2005)",
    "shrinkage_eye": "shrunk towards a multiple of the identity (Ledoit & Wolf 2004)",
    "diag": "variances alone",
    "full": "the sample covariance",
}


def meaning(distance: str, comparator: str, method: str, folds: str, residuals: bool) -> Meaning:
    """Unit, sentence and citations for a choice of options."""
    unit = _UNITS[comparator]
    words = _WORDS.get(distance, "")
    if distance in noise_distances.DISTANCES:
        words = f"for a layer {_WORDS['euclidean']}, for a region "
        if distance == "crossnobis":
            words += (
                "the crossnobis distance (the product of the differences measured in different "
                f"levels of '{folds}', averaged; unbiased, negative values kept)"
            )
        else:
            words += "the squared Mahalanobis distance of mean patterns"
        if method == "none":
            words += " with unit noise covariance"
        else:
            left = "given residuals" if residuals else "repetitions around their stimulus means"
            words += f", with the noise covariance of {left}, {_ESTIMATE[method]}"
            if distance == "crossnobis" and not residuals:
                words += ", each level whitened by that of other levels alone"
    sentence = (
        "Representational similarity analysis: the dissimilarity of every two stimuli was "
        f"{words} (where a data set or network is given as dissimilarities, those), and "
        f"the dissimilarities of a layer were compared with those of a region by {unit}."
    )
    if comparator.startswith("cosine") and distance != "crossnobis":
        sentence += (
            " A cosine of distances that are all positive lies above 0 for unrelated "
            f"representations too: {BIASED}"
        )
    return Meaning(
        label="RSA",
        unit=unit,
        sentence=sentence,
        ceiling=(
            "The noise ceiling is the agreement of each subject's dissimilarities with the average "
            "of the other subjects (lower end) and of all subjects (upper end): no model can be "
            "expected to exceed the upper end, and one that reaches the lower end predicts a "
            "subject as well as the other subjects do."
        ),
        citations=(*_CITATIONS, _WALTHER) if distance in noise_distances.DISTANCES else _CITATIONS,
    )
