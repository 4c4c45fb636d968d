"""The options of decoding: which there are, what is sensible, what a score then means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.kernels import sparse
from rsacompare.metrics.base import Meaning
from rsacompare.metrics.profiles import AVERAGES, DEAD

HORIKAWA_N_VOXELS = {"LVC": 1000, "HVC": 1000, "VC": 1000, "*": 500}
DEFAULT_ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
# what an option may be, and which options matter for it
ESTIMATORS: dict[str, tuple[str, ...]] = {
    "ols": (),
    "ard": ("n_iter", "prune", "rules"),
    "ridge": ("alpha",),
}
SCORES: dict[str, tuple[str, ...]] = {
    "profile": ("average", "dead_units"),
    "pattern": ("average", "dead_units"),
    "pairwise": ("candidates",),
    "n_way": ("candidates", "n_way"),
}
ITEMS = ("stimuli", "categories", "imagery")
CANDIDATES = ("items", "all")
IDENTIFICATION = ("pairwise", "n_way")

CITATIONS = (
    "Horikawa, T. & Kamitani, Y. (2017). Generic decoding of seen and imagined objects "
    "using hierarchical visual features. Nature Communications 8, 15037.",
    "Yu, Lu, Hasson, Norman & Pillow (2018). Conference on Cognitive Computational Neuroscience.",
)
_SATO = (
    "Sato, M. (2001). Online model selection based on the variational Bayes. Neural Computation 13."
)
_FIT = {
    "ols": "by ordinary least squares fitted to training stimuli",
    "ard": "by sparse Bayesian regression (automatic relevance determination) fitted to training "
    "stimuli",
    "ridge": "by ridge regression fitted to training stimuli",
}
_TRUTH = {
    "stimuli": "test stimuli",
    "categories": "the categories of test stimuli, whose true activation is the category average",
    "imagery": "imagined categories, whose true activation is the category average",
}
_CEILING = (
    "Square root of the reliability of the decoded activations, from how much they vary "
    "between repetitions of a stimulus: the score that this decoder would reach if its "
    "predictions were right but for that noise. It does not bound a better decoder."
)


def checked_n_voxels(n_voxels: Any) -> Any:
    """A number, ``all``, or a table of these per ROI as a dict."""
    table = HORIKAWA_N_VOXELS if n_voxels is None else n_voxels
    table = dict(table) if isinstance(table, Mapping) else table
    counts = list(table.values()) if isinstance(table, dict) else [table]
    if not counts or not all(_is_count(count, 1) or count == "all" for count in counts):
        raise ProtocolError(
            "decoding: n_voxels must be a whole number from 1 or 'all', or a table of these per "
            f"ROI, got {n_voxels!r}"
        )
    return table


def check(options: Mapping[str, Any]) -> None:
    """Raise ProtocolError for an option that makes no sense, or that the others contradict."""
    for name, known in (
        ("estimator", ESTIMATORS),
        ("score", SCORES),
        ("items", ITEMS),
        ("rules", sparse.RULES),
        ("average", AVERAGES),
        ("dead_units", DEAD),
    ):
        if options[name] not in tuple(known):
            raise ProtocolError(f"decoding: {plugins.unknown(name, options[name], known)}")
    for name, least in (("n_folds", 2), ("n_inner_folds", 2), ("n_iter", 1), ("n_way", 2)):
        if not _is_count(options[name], least):
            raise ProtocolError(
                f"decoding: {name} must be a whole number from {least}, got {options[name]!r}"
            )
    if options["n_units"] not in ("all", None) and not _is_count(options["n_units"], 1):
        raise ProtocolError(
            f"decoding: n_units must be a whole number from 1 or 'all', got {options['n_units']!r}"
        )
    if not _is_number(options["prune"]) or not 0 <= options["prune"] < 1:
        raise ProtocolError(
            f"decoding: prune must be a number from 0 to below 1, got {options['prune']!r}"
        )
    alpha = options["alpha"]
    if alpha != "cv" and not (_is_number(alpha) and 0 < alpha < float("inf")):
        raise ProtocolError(f"decoding: alpha must be a positive number or 'cv', got {alpha!r}")
    alphas = options["alphas"]
    if (
        not isinstance(alphas, Sequence)
        or isinstance(alphas, str)
        or not alphas
        or not all(_is_number(a) and 0 < a < float("inf") for a in alphas)
    ):
        raise ProtocolError(f"decoding: alphas must be a list of positive numbers, got {alphas!r}")
    candidates = options["candidates"]
    if isinstance(candidates, str) and candidates not in CANDIDATES:
        raise ProtocolError(f"decoding: {plugins.unknown('candidates', candidates, CANDIDATES)}")
    if not isinstance(candidates, str) and not (
        isinstance(candidates, Sequence) and all(isinstance(c, str) for c in candidates)
    ):
        raise ProtocolError(
            "decoding: candidates must be 'items', 'all', or a list of stimulus ids of the "
            f"network, got {candidates!r}"
        )


def that_matter(options: dict[str, Any]) -> dict[str, Any]:
    """Without the options that only other estimators and scores read."""
    used = {*ESTIMATORS[options["estimator"]], *SCORES[options["score"]]}
    every = {o for table in (ESTIMATORS, SCORES) for names in table.values() for o in names}
    if options["estimator"] == "ridge" and options["alpha"] == "cv":
        used |= {"alphas", "n_inner_folds"}
    every |= {"alphas", "n_inner_folds"}
    return {k: v for k, v in options.items() if k not in every - used}


def meaning(estimator: str, score: str, items: str, average: str, n_way: int) -> Meaning:
    """What the number means under these options."""
    start = (
        "Each unit's activation was predicted from the voxels that correlate most with it, "
        f"{_FIT[estimator]}; "
    )
    mean = "averaged" if average == "arithmetic" else "averaged as Fisher z"
    over = _TRUTH[items]
    citations = (*CITATIONS, *([_SATO] if estimator == "ard" else []))
    label = {"ols": "linear", "ard": "sparse Bayesian", "ridge": "ridge"}[estimator] + " decoding"
    label += {"stimuli": "", "categories": " of categories", "imagery": " of imagery"}[items]
    if score == "profile":
        text = f"the score is the correlation of predicted with true activation over {over}, "
        return Meaning(
            label=label,
            sentence=f"{start}{text}{mean} over units.",
            ceiling=_CEILING,
            citations=citations,
        )
    if score == "pattern":
        return Meaning(
            label=f"{label}, patterns",
            sentence=f"{start}the score is the correlation across units of the predicted with the "
            "true pattern of each item, both standardised by the mean and standard deviation of "
            f"each unit over training stimuli, {mean} over {over}.",
            citations=citations,
        )
    how = (
        "with another candidate than with its own, over all pairs (pairwise identification)"
        if score == "pairwise"
        else f"with any of {n_way - 1} other candidates than with its own"
    )
    return Meaning(
        label=f"{label}, {'pairwise' if score == 'pairwise' else f'{n_way}-way'} identification",
        unit="proportion correct",
        chance=0.5 if score == "pairwise" else 1 / n_way,
        minimum=0.0,
        maximum=1.0,
        sentence=f"{start}the score is the share of identifications in which the predicted pattern "
        f"did not correlate more {how}; items were {over}; ties count as correct.",
        citations=citations,
    )


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
