"""The answer in three sentences, generated from the contrast rows of a result."""

from __future__ import annotations

from collections import Counter

import numpy as np

from rsacompare.reporting.methods import sign_flip_floor
from rsacompare.reporting.numbers import counted, interval, listing, number, p_value
from rsacompare.reporting.reading import ALPHA, OVER, Reading, Row


def answer(reading: Reading) -> list[tuple[str, str]]:
    """(heading, sentence) three times: what won where, how sure, what it does not show."""
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
    if len(reading.pairs) == 1:
        return _one_pair(reading, rows, reading.pairs[0])
    return _many_pairs(reading, rows)


def _one_pair(reading: Reading, rows: list[Row], pair: tuple[str, str]) -> str:
    clauses: list[str] = []
    winners: dict[str, set[str]] = {}
    for metric in reading.metrics:
        own = [row for row in rows if row.metric == metric]
        if own:
            clauses.append(f"by {reading.label(metric)}, {_clause(own, pair, not clauses)}")
            winners[metric] = {row.winner for row in own} & set(pair)
    over = OVER[reading.pairing]
    text = f"{over[0].upper()}{over[1:]}, {'; '.join(clauses)}."
    return text + _differ(reading, winners, pair)


def _clause(rows: list[Row], pair: tuple[str, str], first: bool) -> str:
    """What one metric says about one pair, in all its ROIs."""
    total = len(rows)
    parts: list[str] = []
    for network, other in (pair, pair[::-1]):
        own = [row for row in rows if row.winner == network]
        if not own:
            continue
        where = _of(own, total, named=False)
        largest = max(own, key=lambda row: abs(row.difference))
        size = f"{'' if len(own) == 1 else 'largest '}difference {_size(largest)} in {largest.roi}"
        names = "" if len(own) in (1, total) else f"{_rois(own)}; "
        than = f" to the brain than {other}" if first and not parts else ""
        parts.append(f"{network} is closer{than} in {where} ({names}{size})")
    same = [row for row in rows if row.outcome == "equivalent"]
    if same:
        parts.append(f"the two are equivalent in {_of(same, total)}")
    open_ = [row for row in rows if row.outcome == "undecided"]
    if open_:
        subject = "" if parts else f"{pair[0]} against {pair[1]} is "
        parts.append(f"{subject}undecided in {_of(open_, total)}")
        known = [row for row in open_ if np.isfinite(row.difference)]
        if len(open_) == total and known:
            largest = max(known, key=lambda row: abs(row.difference))
            parts[-1] += (
                f" (largest observed difference {pair[0]} − {pair[1]}: "
                f"{number(largest.difference, signed=True)} "
                f"{interval(largest.ci_low, largest.ci_high)} in {largest.roi})"
            )
    return ", ".join(parts)


def _rois(rows: list[Row]) -> str:
    return listing([row.roi for row in rows])


def _of(rows: list[Row], total: int, named: bool = True) -> str:
    if len(rows) == total:
        return f"the one ROI ({rows[0].roi})" if total == 1 else f"all {total} ROIs"
    return f"{len(rows)} of {total}{f' ({_rois(rows)})' if named else ' ROIs'}"


def _size(row: Row) -> str:
    """How large the difference is, whichever way it points, with its interval."""
    low, high = row.ci_low, row.ci_high
    if row.difference < 0:
        low, high = -high, -low
    return f"{number(abs(row.difference))} {interval(low, high)}"


def _differ(reading: Reading, winners: dict[str, set[str]], pair: tuple[str, str]) -> str:
    """Metrics or ROIs that name different winners: said, never averaged away."""
    named = set().union(*winners.values()) if winners else set()
    if len(named) < 2:
        return ""
    torn = [reading.label(m) for m, w in winners.items() if len(w) > 1]
    by = {n: [reading.label(m) for m, w in winners.items() if w == {n}] for n in pair}
    pieces = []
    if all(by.values()):
        pieces.append(
            "the metrics differ: "
            + ", ".join(
                f"{listing(by[n])} favour{'s' if len(by[n]) == 1 else ''} {n}" for n in pair
            )
        )
    if torn:
        pieces.append(f"the ROIs differ within {listing(torn)}")
    if not pieces:
        pieces.append("the metrics and ROIs differ")
    return f" So there is no single winner: {'; '.join(pieces)}."


def _many_pairs(reading: Reading, rows: list[Row]) -> str:
    found = Counter(row.outcome for row in rows)
    decided = [row for row in rows if row.winner]
    metrics = len({row.metric for row in rows})
    parts: list[tuple[int, str]] = []
    for network in reading.networks:
        own = [row for row in rows if network in row.pair]
        won = sum(row.winner == network for row in own)
        lost = sum(row.winner not in ("", network) for row in own)
        if own:
            text = f"{network} is closer in {won} and farther in {lost} of its {len(own)}"
            parts.append((lost - won, text))
    over = OVER[reading.pairing]
    by = "by ROI" if metrics == 1 else f"by ROI and {metrics} metrics"
    text = (
        f"{over[0].upper()}{over[1:]}, of {counted(len(rows), 'comparison')} "
        f"({counted(len(reading.pairs), 'pair')} of networks {by}) "
        f"{_are(len(decided), 'decided')}, {found['equivalent']} equivalent and "
        f"{found['undecided']} undecided: "
        f"{'; '.join(text for _, text in sorted(parts, key=lambda part: part[0]))}."
    )
    if decided:
        top = max(decided, key=lambda row: abs(row.difference))
        loser = next(n for n in top.pair if n != top.winner)
        text += (
            f" The largest decided difference is {_size(top)}, of {top.winner} over {loser} in "
            f"{top.roi} by {reading.label(top.metric)}."
        )
    torn = [
        f"{pair[0]} against {pair[1]}"
        for pair in reading.pairs
        if len({row.winner for row in decided if row.pair == pair}) > 1
    ]
    if torn:
        text += f" No single winner, because metrics or ROIs differ: {listing(torn, 8)}."
    return text


def _are(n: int, word: str) -> str:
    return f"{n} {'is' if n == 1 else 'are'} {word}"


def _sure(reading: Reading, rows: list[Row]) -> str:
    pieces = []
    if rows:
        decided = [row for row in rows if row.winner]
        family = Counter(row.metric for row in rows)
        sizes = sorted(set(family.values()))
        size = listing(sizes) if len(sizes) < 3 else f"{sizes[0]} to {sizes[-1]}"
        each = "each metric's " if len(family) > 1 else "the "
        holm = f"Holm's correction over {each}{size} {'row' if sizes == [1] else 'rows'}"
        known = [row.p_fwer for row in (decided or rows) if np.isfinite(row.p_fwer)]
        if decided:
            pieces.append(
                f"a winner is named only where p < {ALPHA:g} after {holm} (largest corrected p "
                f"among the {len(decided)} named: {p_value(max(known, default=np.nan))})"
            )
        else:
            least = f" (smallest corrected p: {p_value(min(known))})" if known else ""
            pieces.append(f"no difference reached p < {ALPHA:g} after {holm}{least}")
        same = [row.p_equivalence for row in rows if row.outcome == "equivalent"]
        if same:
            pieces.append(
                f"equivalence was tested (largest p {p_value(max(same))}) against "
                f"±{_bound(reading)} of the lower noise ceiling"
            )
    cells = []
    for metric in reading.metrics:
        p = reading.result["p_null_fwer"].sel(metric=metric).values
        p = p[np.isfinite(p)]
        if p.size:
            cells.append(f"{int((p < ALPHA).sum())} of {p.size} by {reading.label(metric)}")
    if cells:
        pieces.append(
            f"scores beyond chance (family-wise p < {ALPHA:g}) in layer × ROI cells: "
            f"{listing(cells)}"
        )
    dof = [v for own in reading.by_metric("dof").values() for v in own.values()]
    t = f" from t with {_span(dof)} degrees of freedom" if dof else ""
    pieces.append(
        f"intervals are {reading.confidence * 100:g} %{t}, conditional on the fitted models"
    )
    text = "; ".join(pieces)
    return f"{text[0].upper()}{text[1:]}."


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _bound(reading: Reading) -> str:
    return f"{float(reading.inference.get('equivalence_bound', 0.1)):g}"


def _limits(reading: Reading, rows: list[Row]) -> str:
    pieces = []
    if rows:
        open_ = sum(row.outcome == "undecided" for row in rows)
        if open_:
            pieces.append(
                f"{open_} of {counted(len(rows), 'comparison')} "
                f"{'is' if open_ == 1 else 'are'} undecided, which does not show that the networks "
                "are equally close there"
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
        noted = [n for n in reading.attr("networks", []) if n.get("note")]
        if noted:
            pieces.append(
                "it holds for the networks as they were ("
                + "; ".join(f"{n['name']}: {str(n['note']).rstrip('.')}" for n in noted)
                + ")"
            )
        pieces.append("a difference between two networks does not say which of their many "
                      "differences causes it")  # fmt: skip
    text = "; ".join(pieces)
    return f"{text[0].upper()}{text[1:]}."
