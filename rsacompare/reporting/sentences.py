"""The answer in three sentences, generated from the contrast rows of a result."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsacompare.reporting.methods import sign_flip_floor
from rsacompare.reporting.numbers import counted, interval, listing, number, p_value
from rsacompare.reporting.reading import ALPHA, OVER, Reading


def answer(reading: Reading) -> list[tuple[str, str]]:
    """(heading, sentence) three times: what won where, how sure, what it does not show."""
    rows = reading.rows(None, None, reading.pairing)
    return [
        ("What won where.", _won(reading, rows)),
        ("How sure.", _sure(reading, rows)),
        ("What it does not show.", _limits(reading, rows)),
    ]


def outcome(row: pd.Series) -> str:
    """One of the winning network's name, `equivalent`, `undecided`."""
    if row["verdict"] == "a":
        return str(row["network_a"])
    if row["verdict"] == "b":
        return str(row["network_b"])
    return "equivalent" if row["verdict"] == "equivalent" else "undecided"


def _won(reading: Reading, rows: pd.DataFrame) -> str:
    if not len(rows):
        return (
            "Nothing was contrasted, so no network won or lost: this result holds the scores of "
            f"{listing(reading.networks)} only."
        )
    if len(reading.pairs) == 1:
        return _one_pair(reading, rows, reading.pairs[0])
    return _many_pairs(reading, rows)


def _one_pair(reading: Reading, rows: pd.DataFrame, pair: tuple[str, str]) -> str:
    clauses, winners = [], {}
    for metric in reading.metrics:
        own = rows[rows["metric"] == metric]
        if len(own):
            clauses.append(f"by {reading.label(metric)}, {_clause(own, pair, not clauses)}")
            winners[metric] = {outcome(r) for _, r in own.iterrows()} & set(pair)
    over = OVER[reading.pairing]
    text = f"{over[0].upper()}{over[1:]}, {'; '.join(clauses)}."
    return text + _differ(reading, winners, pair)


def _clause(rows: pd.DataFrame, pair: tuple[str, str], first: bool) -> str:
    """What one metric says about one pair, in all its ROIs."""
    outcomes = rows.apply(outcome, axis=1)
    total = len(rows)
    parts = []
    for network, other in (pair, pair[::-1]):
        own = rows[outcomes == network]
        if not len(own):
            continue
        where = (
            f"in {'the one ROI' if total == 1 else f'all {total} ROIs'}"
            if len(own) == total
            else f"in {len(own)} of {total} ROIs"
        )
        largest = own.loc[own["difference"].abs().idxmax()]
        shown = (
            f"{'' if len(own) == 1 else 'largest '}difference {_size(largest)} in {largest['roi']}"
        )
        names = "" if len(own) in (1, total) else f"{listing(own['roi'])}; "
        than = f" to the brain than {other}" if first else ""
        parts.append(f"{network} is closer{than} {where} ({names}{shown})")
    same = rows[outcomes == "equivalent"]
    if len(same):
        parts.append(f"the two are equivalent in {_of(same, total)}")
    open_ = rows[outcomes == "undecided"]
    if len(open_):
        parts.append(
            f"undecided in {_of(open_, total)}"
            if parts
            else f"{pair[0]} against {pair[1]} is undecided in {_of(open_, total)}"
        )
        if len(open_) == total:
            largest = open_.loc[open_["difference"].abs().fillna(-1).idxmax()]
            if np.isfinite(largest["difference"]):
                parts[-1] += f" (largest observed difference {_size(largest)} in {largest['roi']})"
    return ", ".join(parts)


def _of(rows: pd.DataFrame, total: int) -> str:
    if len(rows) == total:
        return "the one ROI" if total == 1 else f"all {total} ROIs"
    return f"{len(rows)} of {total} ({listing(rows['roi'])})"


def _size(row: pd.Series) -> str:
    """How large the difference is, whichever way it points, with its interval."""
    low, high = row["ci_low"], row["ci_high"]
    if row["difference"] < 0:
        low, high = -high, -low
    return f"{number(abs(row['difference']))} {interval(low, high)}"


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


def _many_pairs(reading: Reading, rows: pd.DataFrame) -> str:
    outcomes = rows.apply(outcome, axis=1)
    metrics = rows["metric"].nunique()
    parts = []
    for network in reading.networks:
        part = (rows["network_a"] == network) | (rows["network_b"] == network)
        if not part.any():
            continue
        won = int((outcomes[part] == network).sum())
        lost = int((~outcomes[part].isin([network, "equivalent", "undecided"])).sum())
        parts.append((won - lost, network, f"{network} is closer in {won} and farther in {lost} "
                      f"of its {int(part.sum())}"))  # fmt: skip
    parts.sort(key=lambda p: -p[0])
    same, open_ = int((outcomes == "equivalent").sum()), int((outcomes == "undecided").sum())
    text = (
        f"{OVER[reading.pairing].capitalize()}, of {counted(len(rows), 'comparison')} "
        f"({counted(len(reading.pairs), 'pair')} of networks by ROI"
        f"{'' if metrics == 1 else f' and {metrics} metrics'}) "
        f"{_are(len(rows) - same - open_, 'decided')}, {same} equivalent and {open_} undecided: "
        f"{'; '.join(p[2] for p in parts)}."
    )
    decided = rows[~outcomes.isin(["equivalent", "undecided"])]
    if len(decided):
        size = decided["difference"].abs()
        top = decided.loc[size.idxmax()]
        text += (
            f" The largest decided difference is {_size(top)}, of {outcome(top)} over "
            f"{top['network_b'] if top['verdict'] == 'a' else top['network_a']} in {top['roi']} by "
            f"{reading.label(top['metric'])}."
        )
    torn = [
        f"{a} against {b}"
        for a, b in reading.pairs
        if len({o for o, x, y in zip(outcomes, rows["network_a"], rows["network_b"], strict=True)
                if (x, y) == (a, b)} & {a, b}) > 1
    ]  # fmt: skip
    if torn:
        text += f" No single winner, because metrics or ROIs differ: {listing(torn, 8)}."
    return text


def _are(n: int, word: str) -> str:
    return f"{n} {'is' if n == 1 else 'are'} {word}"


def _sure(reading: Reading, rows: pd.DataFrame) -> str:
    percent = f"{reading.confidence * 100:g} %"
    pieces = []
    if len(rows):
        outcomes = rows.apply(outcome, axis=1)
        decided = rows[~outcomes.isin(["equivalent", "undecided"])]
        family = rows.groupby(["metric"], sort=False).size()
        size = f"{family.iloc[0]}" if family.nunique() == 1 else listing(family.tolist())
        each = "each metric's " if rows["metric"].nunique() > 1 else "the "
        holm = f"Holm's correction over {each}{size} {'row' if size == '1' else 'rows'}"
        if len(decided):
            worst = float(decided["p_fwer"].max())
            pieces.append(
                f"a winner is named only where p < {ALPHA:g} after {holm} (largest corrected p "
                f"among the {len(decided)} named: {p_value(worst)})"
            )
        else:
            best = float(rows["p_fwer"].min()) if rows["p_fwer"].notna().any() else np.nan
            pieces.append(
                f"no difference reached p < {ALPHA:g} after {holm}"
                + (f" (smallest corrected p: {p_value(best)})" if np.isfinite(best) else "")
            )
        same = rows[outcomes == "equivalent"]
        if len(same):
            pieces.append(
                f"equivalence was tested (largest p {p_value(float(same['p_equivalence'].max()))}) "
                f"against ±{_bound(reading)} of the lower noise ceiling"
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
    dof = [v for own in reading.inference.get("dof", {}).values() for v in own.values()]
    least = f" from t with {_span(dof)} degrees of freedom" if dof else ""
    pieces.append(f"intervals are {percent}{least}, conditional on the fitted models")
    text = "; ".join(pieces)
    return f"{text[0].upper()}{text[1:]}."


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _bound(reading: Reading) -> str:
    return f"{float(reading.inference.get('equivalence_bound', 0.1)):g}"


def _limits(reading: Reading, rows: pd.DataFrame) -> str:
    pieces = []
    if len(rows):
        open_ = int((rows.apply(outcome, axis=1) == "undecided").sum())
        if open_:
            pieces.append(
                f"{open_} of {counted(len(rows), 'comparison')} "
                f"{'is' if open_ == 1 else 'are'} undecided, which does not show that the networks "
                "are equally close there"
            )
    left_out = {m: tuple(v) for m, v in reading.inference.get("left_out", {}).items() if v}
    if left_out:
        sources = list(dict.fromkeys(s for v in left_out.values() for s in v))
        pieces.append(f"nothing here covers chance from {listing(sources)}")
    counts = [reading.n_subjects(m, r) for m in reading.metrics for r in reading.rois(m)]
    if counts and sign_flip_floor(min(counts)) > ALPHA:
        pieces.append(
            f"with {counted(min(counts), 'subject')} per ROI a claim about people in general is weak"
            if min(counts) == max(counts)
            else f"where an ROI has only {counted(min(counts), 'subject')} a claim about people in "
            "general is weak"
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
