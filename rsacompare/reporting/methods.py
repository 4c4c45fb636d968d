"""What the intervals mean, and a methods paragraph ready to paste."""

from __future__ import annotations

from typing import Any

from rsacompare.reporting import networks as networks_in_words
from rsacompare.reporting.numbers import by_value, counted, listing, number
from rsacompare.reporting.reading import ALPHA, Reading

SCHUETT = (
    "Schütt HH, Kipnis AD, Diedrichsen J, Kriegeskorte N (2023). Statistical inference on "
    "representational geometries. eLife 12:e82566."
)
PRICHARD = (
    "Prichard D, Theiler J (1994). Generating surrogate data for time series with several "
    "simultaneously measured variables. Physical Review Letters 73:951–954."
)
NICHOLS = (
    "Nichols TE, Holmes AP (2002). Nonparametric permutation tests for functional neuroimaging: "
    "a primer with examples. Human Brain Mapping 15:1–25."
)
HOLM = (
    "Holm S (1979). A simple sequentially rejective multiple test procedure. Scandinavian "
    "Journal of Statistics 6:65–70."
)
TOST = (
    "Schuirmann DJ (1987). A comparison of the two one-sided tests procedure and the power "
    "approach for assessing the equivalence of average bioavailability. Journal of "
    "Pharmacokinetics and Biopharmaceutics 15:657–680."
)


EFRON = "Efron B, Tibshirani RJ (1993). An Introduction to the Bootstrap. Chapman & Hall, New York."
HOW = {  # the interval, and what its p is
    "percentile": "the range between two percentiles of the bootstrap values ({draws})",
    "bca": "the range between two percentiles of the bootstrap values ({draws}), moved for bias "
    "and for a spread that grows with the value (BCa; the acceleration from leaving out one level "
    "at a time)",
    "studentised": "the value less quantiles of (draw − value) / standard error of the draw "
    "({draws}) times its own standard error, each from leaving out a level at a time (bootstrap-t)",
}
METHOD = {
    "t": "t intervals",
    "percentile": "bootstrap percentile intervals",
    "bca": "BCa bootstrap intervals",
    "studentised": "studentised bootstrap intervals",
}


def sign_flip_floor(n_subjects: int) -> float:
    """Smallest two-sided p that a sign-flip test over n subjects can reach: 2 / 2^n.

    Examples
    --------
    >>> sign_flip_floor(5)
    0.0625
    """
    return 2.0 ** (1 - n_subjects)


LEVELS = {"categories": "categories of stimuli", "time blocks": "time blocks of stimuli"}


def levels(reading: Reading, metric: str) -> str:
    """What stands for the stimuli in draws and permutations: these, their categories or blocks."""
    found = reading.by_metric("levels").get(metric, [])
    return listing([LEVELS.get(kind, "stimuli") for kind in found]) if found else "stimuli"


def sources(reading: Reading, metric: str) -> list[str]:
    """What was resampled for this metric, by name."""
    told = reading.by_metric("sources").get(metric, [])
    return [levels(reading, metric) if source == "stimuli" else source for source in told]


def _null(reading: Reading, metrics: list[str], draws: str) -> str:
    """How the null was made, to stand after “p against chance:” and the like."""
    phase = [m for m in metrics if _phases(reading, m)]
    kinds = {levels(reading, m): None for m in metrics if m not in phase}
    only = f"for {listing([reading.label(m) for m in phase])}; " if phase and kinds else ""
    turned = (
        "the Fourier phases of the network's time series are drawn at random, the same for all "
        "units, layers, regions and subjects, which keeps every power and cross-spectrum "
        f"({only}{draws})"
    )
    if not kinds:
        return turned
    moved = [
        f"{kind} (as wholes, and the stimuli inside each)" if kind == LEVELS["categories"] else kind
        for kind in kinds
    ]
    permuted = f"{listing(moved)} of the network are permuted ({draws})"
    return f"{turned}; otherwise {permuted}" if phase else permuted


def _phases(reading: Reading, metric: str) -> bool:
    """Whether the null of a metric turns phases."""
    return reading.by_metric("nulls").get(metric) == "phase"


def over_chance(reading: Reading, metric: str) -> str:
    """For captions of whiskers: which sources of chance they cover, " (over …)" or nothing."""
    which = sources(reading, metric)
    return f" (over {listing(which)})" if which else ""


def intervals(reading: Reading) -> list[str]:
    """What the intervals and p values of this result mean, a paragraph each."""
    told = reading.inference
    percent = f"{reading.confidence * 100:g} %"
    draws = counted(int(told.get("n_bootstrap", 0)), "draw")
    permutations = counted(int(told.get("n_permutations", 0)), "permutation")
    text = []
    groups: dict[tuple[str, ...], list[str]] = {}
    for metric in reading.metrics:
        groups.setdefault(tuple(sources(reading, metric)), []).append(reading.label(metric))
    resampled = "; ".join(
        f"{listing(names)}: {listing(list(which)) if which else 'nothing'}"
        for which, names in groups.items()
    )
    method = str(told.get("interval", "t"))
    how = (
        HOW[method].format(draws=draws)
        if method in HOW
        else "the value ± t × its standard error. The standard "
        f"error comes from a bootstrap ({draws}), with a "
        "variance corrected for counting the interplay of the resampled sources more than once"
    )
    text.append(
        f"Every interval covers {percent} and is {how}. It generalises over what was resampled, by "
        f"metric – {resampled}. One draw is shared by all layers, ROIs and networks, so that "
        "differences are paired."
    )
    dof = {reading.label(m): by_value(v) for m, v in reading.by_metric("dof").items()}
    if method in HOW:
        text.append(
            "The p of a difference is the largest 1 − confidence whose interval still holds zero: "
            f"a p value below {1 - reading.confidence:.2g} and an interval that leaves out zero "
            "are the same statement. The degrees of freedom told beside (levels of the resampled "
            "source less one) serve the Bayes factor alone."
        )
    elif dof:
        text.append(
            f"Degrees of freedom of t (levels of the smallest resampled source less one): "
            f"{by_value(dof)}. A p value below {1 - reading.confidence:.2g} and an interval that "
            "leaves out zero are the same statement."
        )
    left_out = {reading.label(m): listing(v) for m, v in reading.by_metric("left_out").items()}
    text.append(
        "All intervals are conditional on the fitted models: nothing is fitted again within a "
        "draw, so they do not cover chance in the training stimuli or in the fitting."
        + (f" Left out: {by_value(left_out)}." if left_out else "")
    )
    counts = {r: reading.n_subjects(m, r) for m in reading.metrics for r in reading.rois(m)}
    few = {r: n for r, n in counts.items() if sign_flip_floor(n) > ALPHA}
    if few:
        floors = {r: f"n = {n}: p ≥ {sign_flip_floor(n):.4g}" for r, n in few.items()}
        text.append(
            "Few subjects. A sign-flip test over subjects, which assumes least and is given "
            f"beside, cannot go below its floor here ({by_value(floors)}, two-sided), whatever the "
            "data. "
            + (
                "The t interval can, because it assumes that the estimate is roughly normal."
                if method == "t"
                else "The interval can, because it leans on how the draws spread."
            )
        )
    crossed = [reading.label(m) for m in reading.by_metric("cross_validated")]
    if crossed:
        text.append(
            f"There is no split into training and test stimuli for {listing(crossed)}: predictions "
            "are cross-validated over stimuli, and observed and predicted values are centred "
            "within folds."
        )
    text.append(
        f"p against chance: {_null(reading, reading.metrics, permutations)}, one-sided, for the "
        "group mean over these subjects; the family-wise p takes the maximum over the metric's "
        "layer × ROI grid after each cell is standardised by its own null (step-down and false "
        "discovery rates stand on the metric's page). Contrast p: two-sided"
        f"{' t' if method == 't' else ', by inversion of the interval'}; corrected "
        "by Holm over all rows of one metric and pairing"
        + (", those with a baseline by themselves" if reading.networks.baselines else "")
        + ". Equivalence: two one-sided tests against "
        f"±{100 * float(told.get('equivalence_bound', 0.1)):g} % of the ROI's lower noise ceiling, "
        "which is recomputed in each draw, not corrected over rows; without a usable ceiling "
        "nothing is called equivalent."
    )
    text.append(
        f"Verdict: a network's name where the corrected p < {ALPHA:g} and the network's own score "
        f"in that row is beyond its null (p < {ALPHA:g}, by the maximum over the rows of the "
        "metric and pairing): of two networks that have nothing to do with the brain one may still "
        f"score higher. Else “equivalent” where the equivalence p < {ALPHA:g} and the corrected "
        "p is not; else “undecided”, which is no evidence for equality."
    )
    return text


def ceiling(reading: Reading, metric: str) -> str:
    """What the ceiling of this metric is, as the metric says it."""
    return str(reading.meaning[metric].get("ceiling", ""))


def paragraph(reading: Reading, metric: str) -> tuple[str, list[str]]:
    """A methods paragraph for one metric, and its references."""
    meaning, told = reading.meaning[metric], reading.inference
    rois, networks = reading.rois(metric), reading.networks_of(metric)
    layers = [f"{n}, {counted(len(reading.layers(metric, n)[0]), 'layer')}" for n in networks]
    subjects = by_value({r: reading.n_subjects(metric, r) for r in rois})
    percent = f"{reading.confidence * 100:g} %"
    text = [
        f"Networks ({'; '.join(layers)}) were compared "
        f"with {'simulated ' if reading.simulated else ''}brain responses in "
        f"{counted(len(rois), 'region')} of interest ({listing(rois)}; n = {subjects}) by "
        f"{reading.label(metric)}{_data(reading)}."
    ]
    text += networks_in_words.methods(reading, networks)
    if meaning.get("sentence"):
        text.append(str(meaning["sentence"]).strip())
    options = {
        k: v for k, v in meaning.get("options", {}).items() if v is not None and k != "random_state"
    }
    if options:
        text.append(f"Options: {', '.join(f'{k} = {_plain(v)}' for k, v in options.items())}.")
    if metric in reading.by_metric("cross_validated"):
        text.append(
            "Predictions were cross-validated over stimuli; since permutations do not refit them, "
            "the permutation null was widened by √2."
        )
    if ceiling(reading, metric):
        text.append(f"Noise ceiling: {ceiling(reading, metric).rstrip('.')}.")
    which, dof = sources(reading, metric), reading.by_metric("dof").get(metric, {})
    method = str(told.get("interval", "t"))
    draws = counted(int(told.get("n_bootstrap", 0)), "draw")
    text.append(
        f"Scores are means over subjects; chance is {number(float(meaning['chance']))}. {percent} "
        f"confidence intervals are {METHOD.get(method, METHOD['t'])}"
        + (f" with {by_value(dof)} degrees of freedom" if dof and method == "t" else "")
        + (f" on the bootstrap variance ({draws})" if method == "t" else f" ({draws})")
        + (f" over {listing(which)}" if which else "")
        + (", corrected for crossed sources (Schütt et al., 2023)" if len(which) > 1 else "")
        + ", conditional on the fitted models. Scores were tested against chance "
        + _against(reading, metric)
        + ", with family-wise correction by the maximum statistic over layers and regions (Nichols "
        "& Holmes, 2002)."
    )
    phase = _phases(reading, metric)
    references = [
        *([SCHUETT] if len(which) > 1 else []),
        *([EFRON] if method in HOW else []),
        *([PRICHARD] if phase else []),
        NICHOLS,
    ]
    pairings = list(dict.fromkeys(row.pairing for row in reading.rows(metric)))
    if pairings:
        text.append(
            f"Networks were contrasted in pairs ({listing(pairings)} pairing of layers"
            + (f"; {told['primary']} named as primary by the study" if "primary" in told else "")
            + "), two-sided, with Holm's (1979) correction over the rows of each pairing, and "
            "tested for equivalence by two one-sided tests (Schuirmann, 1987) within "
            f"±{100 * float(told.get('equivalence_bound', 0.1)):g} % of the lower noise ceiling. A "
            "network was named closer only where its own score was beyond its null as well."
        )
        references += [HOLM, TOST]
    version = reading.attr("provenance", {}).get("versions", {}).get("rsacompare", "")
    seed = told.get("random_state")
    text.append(
        f"Computed with rsacompare {version}".rstrip()
        + (f", random state {seed}." if seed is not None else ".")
    )
    cited = [str(c) for c in meaning.get("citations", [])]
    cited += networks_in_words.citations(reading, networks)
    return " ".join(text), list(dict.fromkeys([*cited, *references]))


def _against(reading: Reading, metric: str) -> str:
    """How scores were tested against chance."""
    draws = int(reading.inference.get("n_permutations", 0))
    if _phases(reading, metric):
        return (
            f"by phase randomisation of the network's series ({counted(draws, 'surrogate')}, the "
            "same phases for all; Prichard & Theiler, 1994)"
        )
    what = levels(reading, metric)
    inside = ", and stimuli inside these" if what == LEVELS["categories"] else ""
    return f"by permuting {what}{inside} ({counted(draws, 'permutation')})"


def _data(reading: Reading) -> str:
    names = [d.get("title") or d["name"] for d in reading.attr("data", [])]
    return f" (data: {listing(names)})" if names else ""


def _plain(value: Any) -> str:
    return listing(value) if isinstance(value, list) and value else str(value)
