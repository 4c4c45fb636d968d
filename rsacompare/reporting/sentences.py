"""The answer in three sentences, generated from the contrast rows of a result."""

from __future__ import annotations

from collections import Counter

import numpy as np

from rsacompare.reporting import networks
from rsacompare.reporting.methods import sign_flip_floor
from rsacompare.reporting.numbers import counted, interval, listing, number, p_value
from rsacompare.reporting.reading import ALPHA, OVER, Reading, Row

MOST_IN_LINE = 3  # findings told in one paragraph; more of them stand in lines of their own
MOST_PAIRS = 5  # told in words beside the first; the table has all


def answer(reading: Reading) -> list[tuple[str, str]]:
    """(heading, text) three times: what won where, how sure, what it does not show."""
    rows = reading.rows(None, None, reading.pairing)
    return [
        ("What won where.", _won(reading, rows)),
        ("How sure.", _sure(reading, rows)),
        ("What it does not show.", _limits(reading, rows)),
    ]


def _won(reading: Reading, rows: list[Row]) -> str:
    if not rows:
        return (
            "Nothing was contrasted, so no network won or lost: this result holds the scores of "
            f"{listing(reading.networks)} only."
        )
    pairs = [p for p in reading.pairs if reading.rows(None, p, reading.pairing)]
    text = _first_pair(reading, rows, pairs[0]) + _otherwise(reading, pairs[0])
    return f"{text} {_other_pairs(reading, pairs[1:])}" if len(pairs) > 1 else text


def _first_pair(reading: Reading, rows: list[Row], pair: tuple[str, str]) -> str:
    """The contrast that the study asks about first, metric by metric, with sizes."""
    own = [row for row in rows if row.pair == pair]
    torn = _disagreement(reading, own)
    clauses = [_finding(reading, m, own, sizes=True) for m in _told(reading, own)]
    over = OVER[reading.pairing]
    lead = f"{torn[0].upper()}{torn[1:]}, so no single network won: {over}, " if torn else (
        f"{over[0].upper()}{over[1:]}, "
    )  # fmt: skip
    apart = ";\n– " if len(clauses) > MOST_IN_LINE else "; "
    first = f":{apart[1:]}" if len(clauses) > MOST_IN_LINE else ", "
    return f"{lead}between {pair[0]} and {pair[1]}{first}{apart.join(clauses)}."


def _otherwise(reading: Reading, pair: tuple[str, str]) -> str:
    """Winners that another way to pair the layers names and this one does not."""
    named = {(r.metric, r.roi): r.winner for r in reading.rows(None, pair, reading.pairing)}
    told = []
    for pairing in ("mean", "depth", "best"):
        rows = reading.rows(None, pair, pairing) if pairing != reading.pairing else []
        found = []
        for metric in reading.metrics:
            own = [row for row in rows if row.metric == metric]
            for network in pair:
                won = [
                    row
                    for row in own
                    if row.winner == network and named.get((metric, row.roi)) != network
                ]
                if won:
                    found.append(
                        f"{network} by {reading.label(metric)} in {_where(won, own)} "
                        f"({_largest(won)})"
                    )
        if found:
            told.append(f"{OVER[pairing]}, {listing(found, most=4)}")
    return f"\nOther pairings of layers name more winners: {'; '.join(told)}." if told else ""


def _other_pairs(reading: Reading, pairs: list[tuple[str, str]]) -> str:
    """The remaining contrasts in a clause each; those with nothing decided in one together."""
    told, nothing = [], []
    for pair in pairs:
        own = reading.rows(None, pair, reading.pairing)
        between = f"between {pair[0]} and {pair[1]}"
        if all(row.outcome == "undecided" for row in own):
            nothing.append(between)
            continue
        sizes = len(reading.metrics) == 1
        found = [_finding(reading, m, own, sizes=sizes) for m in _told(reading, own)]
        torn = _disagreement(reading, own)
        told.append(f"{between}, {', '.join(found)}{f' ({torn})' if torn else ''}")
    more = len(told) - MOST_PAIRS
    told = told[:MOST_PAIRS]
    if more > 0:
        told.append(f"{counted(more, 'more pair')} with something decided stand in the table below")
    if len(nothing) > MOST_PAIRS:
        told.append(f"nothing is decided between {len(nothing)} further pairs")
    elif nothing:
        told.append(f"nothing is decided {listing(nothing)}")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}."


def _sentences(pieces: list[str]) -> str:
    return " ".join(f"{piece[0].upper()}{piece[1:]}." for piece in pieces if piece)


def _told(reading: Reading, rows: list[Row]) -> list[str]:
    """Metrics that have rows, those that name a winner first."""
    metrics = [m for m in reading.metrics if any(row.metric == m for row in rows)]
    return sorted(metrics, key=lambda m: not any(r.winner for r in rows if r.metric == m))


def _finding(reading: Reading, metric: str, rows: list[Row], *, sizes: bool) -> str:
    """What one metric says about one pair, in all its ROIs."""
    own = [row for row in rows if row.metric == metric]
    a, b = own[0].pair
    found = []
    for network in (a, b):
        won = [row for row in own if row.winner == network]
        if won:
            size = f" ({_largest(won)})" if sizes else ""
            found.append(f"{network} closer to the brain in {_where(won, own)}{size}")
    same = [row for row in own if row.outcome == "equivalent"]
    if same:
        found.append(f"the two equivalent in {_where(same, own)}")
    label = reading.label(metric)
    open_ = [row for row in own if row.outcome == "undecided"]
    parts = [f"{label} finds {listing(found)}"] if found else []
    if open_:
        parts.append(f"{'' if found else label + ' '}is undecided in {_where(open_, own)}")
        known = [row for row in open_ if np.isfinite(row.difference)]
        if sizes and not found and known:
            top = max(known, key=lambda row: abs(row.difference))
            ahead = a if _favours_a(reading, top) else b
            parts[-1] += f" (largest observed difference {_size(top)} for {ahead}, in {top.roi})"
    return " and ".join(parts)


def _favours_a(reading: Reading, row: Row) -> bool:
    higher = bool(reading.meaning[row.metric].get("higher_is_better", True))
    return (row.difference > 0) == higher


def _where(some: list[Row], every: list[Row]) -> str:
    """ROIs by name where they are few, else how many of all."""
    n, total = len(some), len(every)
    if n == total:
        return (
            f"{some[0].roi}, the one ROI" if n == 1 else "both ROIs" if n == 2 else f"all {n} ROIs"
        )
    return listing([row.roi for row in some]) if n <= 4 else f"{n} of {total} ROIs"


def _largest(rows: list[Row]) -> str:
    top = max(rows, key=lambda row: abs(row.difference))
    return f"by up to {_size(top)}, in {top.roi}" if len(rows) > 1 else f"by {_size(top)}"


def _size(row: Row) -> str:
    """How large the difference is, whichever way it points, with its interval."""
    low, high = row.ci_low, row.ci_high
    if row.difference < 0:
        low, high = -high, -low
    known = np.isfinite(low) and np.isfinite(high)
    return f"{number(abs(row.difference))} {interval(low, high) if known else '(no interval)'}"


def _disagreement(reading: Reading, rows: list[Row]) -> str:
    """Whether metrics or ROIs name different winners: said, never averaged away."""
    winners: dict[str, set[str]] = {}
    for row in rows:
        if row.winner:
            winners.setdefault(row.metric, set()).add(row.winner)
    if len(set().union(*winners.values())) < 2:
        return ""
    within = [reading.label(m) for m, names in winners.items() if len(names) > 1]
    if len(within) == len(winners):
        return f"the ROIs disagree within {listing(within)}"
    return "the metrics disagree" + (f", and ROIs within {listing(within)}" if within else "")


def _sure(reading: Reading, rows: list[Row]) -> str:
    pieces = []
    if rows:
        pieces.append(_decided(reading, rows))
        small = [r for r in rows if r.winner and r.p_equivalence < ALPHA]
        if small:
            pieces.append(
                f"{len(small)} of the named differences {'is' if len(small) == 1 else 'are'} "
                "significant yet within the equivalence range, so small"
            )
        same = [row.p_equivalence for row in rows if row.outcome == "equivalent"]
        if same:
            pieces.append(
                f"“Equivalent” means within ±{_bound(reading)} % of the lower noise ceiling "
                f"(p {_at_most(max(same), len(same))}, not corrected)"
            )
    pieces.append(_beyond_chance(reading))
    dof = [v for own in reading.by_metric("dof").values() for v in own.values()]
    t = f" from t with {_span(dof)} degrees of freedom" if dof else ""
    pieces.append(
        f"intervals are {reading.confidence * 100:g} %{t}, conditional on the fitted models"
    )
    return _sentences(pieces)


def _decided(reading: Reading, rows: list[Row]) -> str:
    """The rule by which a winner is named, and how clear the named ones are."""
    decided = [row for row in rows if row.winner]
    kept = sum(row.withheld for row in rows)
    withheld = (
        f" ({kept} of {counted(len(rows), 'row')} withheld: the networks differ, but the closer "
        "one is not beyond chance itself)"
        if kept
        else ""
    )
    baselines = set(reading.networks.baselines)
    own = Counter((row.metric, not baselines.isdisjoint(row.pair)) for row in rows)
    sizes = sorted(set(own.values()))
    size = listing(sizes) if len(sizes) < 3 else f"{sizes[0]} to {sizes[-1]}"
    each = "each metric's " if len({row.metric for row in rows}) > 1 else "the "
    holm = f"Holm's correction over {each}{size} {'row' if sizes == [1] else 'rows'}"
    known = [row.p_fwer for row in (decided or rows) if np.isfinite(row.p_fwer)]
    if decided:
        return (
            f"a winner is named only where p < {ALPHA:g} after {holm} (the {len(decided)} named: "
            f"p {_at_most(max(known, default=np.nan), len(decided))}) and the winner's own score "
            f"is beyond its null{withheld}"
        )
    if withheld:
        return f"nobody is named, though differences reached p < {ALPHA:g} after {holm}{withheld}"
    least = f" (smallest corrected p: {p_value(min(known))})" if known else ""
    return f"no difference reached p < {ALPHA:g} after {holm}{least}"


def _at_most(p: float, n: int) -> str:
    """The largest of n p values, to stand after the letter p."""
    text = p_value(p)
    return text if text[0] in "<>" else f"= {text}" if n == 1 else f"≤ {text}"


def _beyond_chance(reading: Reading) -> str:
    cells = []
    for metric in reading.metrics:
        p = reading.result["p_null_fwer"].sel(metric=metric).values
        p = p[np.isfinite(p)]
        if p.size:
            cells.append(f"{int((p < ALPHA).sum())} of {p.size} by {reading.label(metric)}")
    if not cells:
        return ""
    return f"layer × ROI scores beyond chance (family-wise p < {ALPHA:g}): {listing(cells)}"


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _bound(reading: Reading) -> str:
    """Half width of the equivalence range in per cent of the ceiling."""
    return f"{100 * float(reading.inference.get('equivalence_bound', 0.1)):g}"


def _limits(reading: Reading, rows: list[Row]) -> str:
    pieces = []
    open_ = sum(row.outcome == "undecided" for row in rows)
    if open_:
        pieces.append(
            f"“Undecided” ({open_} of {counted(len(rows), 'comparison')}) does not mean equally "
            "close"
        )
    left_out = reading.by_metric("left_out")
    if left_out:
        sources = list(dict.fromkeys(s for v in left_out.values() for s in v))
        pieces.append(f"nothing here covers chance from {listing(sources)}")
    counts = [reading.n_subjects(m, r) for m in reading.metrics for r in reading.rois(m)]
    if counts and sign_flip_floor(min(counts)) > ALPHA:
        pieces.append(
            (
                f"with {counted(min(counts), 'subject')} per ROI"
                if min(counts) == max(counts)
                else f"where an ROI has only {counted(min(counts), 'subject')},"
            )
            + " a claim about people in general is weak"
        )
    if reading.simulated:
        pieces.append("data are simulated, so nothing follows about real brains or real networks")
    else:
        pieces.append(_versions(reading))
        random = networks.untrained(reading)
        if random:
            pieces.append(
                f"it says nothing of trained networks: {listing(random)} "
                f"{'have' if len(random) > 1 else 'has'} random weights"
            )
        pieces.append("a difference between two networks does not say what in them causes it")
    return _sentences(pieces)


def _versions(reading: Reading) -> str:
    """That the answer holds for the networks as they were: notes of the first contrast's two."""
    notes = {n["name"]: str(n["note"]) for n in reading.attr("networks", []) if n.get("note")}
    asked = reading.pairs[0] if reading.pairs else tuple(reading.networks[:2])
    short = {name: notes[name].split(";")[0].rstrip(". ") for name in asked if name in notes}
    if not notes:
        return ""
    told = "; ".join(f"{name}: {note}" for name, note in short.items())
    return (
        "it holds for these versions of the networks only"
        + (f" ({told})" if told else "")
        + ", all described under “Networks” below"
    )
