"""What the networks hold, and whether their stimuli are those of the brains."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.kernels import dissimilarity
from rsacompare.schema import labels, trees
from rsacompare.schema.checks import Finding
from rsacompare.study.check_brain import Measured
from rsacompare.study.inputs import scored_stimuli

MANY_CONSTANT = 0.2  # share of a layer's units
# what people do to names of pictures, from the mildest change to the boldest
RENAMINGS: dict[str, Callable[[str], str]] = {
    "without spaces around them": str.strip,
    "without their folders": lambda s: re.split(r"[\\/]", s)[-1],
    "without the ending of a file": lambda s: re.sub(
        r"\.(jpe?g|png|bmp|tiff?|gif)$", "", s, flags=re.I
    ),
    "in lower case": str.lower,
    "with '_' for '-' and spaces": lambda s: re.sub(r"[- ]", "_", s),
    "without leading zeros in numbers": lambda s: re.sub(r"(?<!\d)0+(?=\d)", "", s),
}  # fmt: skip


def layer_rows(tree: xr.DataTree | None) -> list[dict[str, Any]]:
    """Units, stimuli, constant and missing units and the share of negative values, per layer."""
    rows = []
    for network, layer, data in trees.iter_layers(tree) if tree is not None else ():
        row: dict[str, Any] = {
            "network": network,
            "layer": layer,
            "attrs": data.attrs,
            "layer_kind": str(data.attrs.get("kind", "")),
            "n_shown": float(len(np.unique(scored_stimuli(data)))),
            "one_sum": False,
        }
        if "activation" in data:
            x = data["activation"].transpose("stimulus_id", "neuroid").values
            finite = np.isfinite(x)
            good = finite.all(axis=0)
            row |= {
                "n_units": float(x.shape[1]),
                "n_missing_units": float((~good).sum()),
                "n_constant_units": float((np.ptp(x[:, good], axis=0) == 0).sum()),
                "share_negative": float((x[finite] < 0).mean()) if finite.any() else np.nan,
                "one_sum": bool(good.all() and np.allclose(x.sum(axis=1), 1, atol=1e-3)),
            }
        else:
            row["n_missing_units"] = float((~np.isfinite(data["rdm"].values)).sum())
        rows.append(row)
    return rows


def layer_findings(rows: list[dict[str, Any]]) -> list[Finding]:
    """Missing and constant units; what negative values say of the operation that was read."""
    found = []
    for row in rows:
        where = f"{row['network']}/{row['layer']}"
        units, constant = row.get("n_units", np.nan), row.get("n_constant_units", 0.0)
        if row["n_missing_units"]:
            what = "units with" if "n_units" in row else "dissimilarities that are"
            sentence = f"{row['n_missing_units']:.0f} {what} NaN or infinite values."
            found.append(Finding("error", where, sentence, "Extract the layer again."))
        if constant == units:
            sentence = f"All {units:.0f} units are constant over the stimuli."
            found.append(Finding("error", where, sentence, "Leave the layer out."))
        says = row["layer_kind"].lower()
        if "relu" in says and "pre" not in says and row.get("share_negative", 0) > 0:
            sentence = f"It is labelled '{row['layer_kind']}' but has negative values."
            found.append(Finding("warning", where, sentence, "Look up which operation was read."))
    return found + _constant(rows) + _operations(rows)


def _constant(rows: list[dict[str, Any]]) -> list[Finding]:
    """Units that never vary, a finding per network."""
    found = []
    for network in dict.fromkeys(r["network"] for r in rows):
        own = {
            r["layer"]: r["n_constant_units"] / r["n_units"]
            for r in rows
            if r["network"] == network and 0 < r.get("n_constant_units", 0) < r["n_units"]
        }
        many = [f"{layer} ({100 * p:.0f} %)" for layer, p in own.items() if p >= MANY_CONSTANT]
        if many:
            sentence = (
                f"Many units are constant over the stimuli in {', '.join(many)}: dead after a "
                "ReLU, as a rule. Decoding scores the others only, which is a selection."
            )
            advice = "Sample units among those that vary, or say so with the result."
            found.append(Finding("warning", network, sentence, advice))
        elif own:
            worst = max(own, key=lambda layer: own[layer])
            sentence = (
                f"A few units are constant over the stimuli (at most {100 * own[worst]:.1f} % of a "
                f"layer, in {worst}); decoding leaves them out."
            )
            found.append(Finding("note", network, sentence))
    return found


def _operations(rows: list[dict[str, Any]]) -> list[Finding]:
    """Pre- or post-ReLU, logits or softmax: what the signs of the values give away."""
    found = []
    shares: dict[str, float] = {}
    for network in dict.fromkeys(r["network"] for r in rows if "n_units" in r):
        own = [r for r in rows if r["network"] == network and "n_units" in r]
        signed = [r["layer"] for r in own if r["share_negative"] > 0]
        probable = [r["layer"] for r in own if r["one_sum"] and not r["share_negative"]]
        shares[network] = len(signed) / len(own)
        if 0 < len(signed) < len(own):
            sentence = (
                f"{len(signed)} of {len(own)} layers have negative values "
                f"({labels.listed(signed, 4)}): these were read before a ReLU, or from an "
                "operation that keeps the sign; the others after a ReLU."
            )
            found.append(Finding("note", network, sentence))
        if probable:
            sentence = f"Rows of {labels.listed(probable)} sum to 1: probabilities, not logits."
            found.append(Finding("note", network, sentence))
    for share, said in (
        (1, "All layers have negative values: read before a ReLU, or from operations that keep "
            "the sign."),
        (0, "No layer has a negative value: read after a ReLU, or a pooling of it."),
    ):  # fmt: skip
        who = [network for network, s in shares.items() if s == share]
        if who:
            found.append(Finding("note", ", ".join(who), said))
    for row in rows:
        logits = {row["layer"].lower(), row["layer_kind"].lower()} & {"logits", "fc8"}
        if logits and row.get("share_negative") == 0 and not row["one_sum"]:
            sentence = "Logits without a negative value: a ReLU seems to stand behind them."
            found.append(Finding("note", f"{row['network']}/{row['layer']}", sentence))
    if shares and max(shares.values()) >= 0.5 and min(shares.values()) < 0.1:
        before = labels.listed([n for n, s in shares.items() if s >= 0.5])
        after = labels.listed([n for n, s in shares.items() if s < 0.1])
        found.append(
            Finding(
                "warning",
                ", ".join(shares),
                f"Networks seem to be read at different operations: {before} before the ReLU, "
                f"{after} after it. A difference between them may be one of operations.",
                "Read all networks at the same kind of operation.",
            )
        )
    return found


def flat_patterns(subjects: Iterable[Measured], tree: xr.DataTree | None) -> list[Finding]:
    """Scored stimuli to which all units of a layer answer alike: no correlation distance."""
    scored = {i for one in subjects for i in one.scored.tolist()}
    flat: dict[str, dict[str, list[str]]] = {}
    for network, layer, data in trees.iter_layers(tree) if tree is not None else ():
        if "activation" not in data:
            continue
        x = data["activation"].transpose("stimulus_id", "neuroid").values
        alike = data["stimulus_id"].values[dissimilarity.constant_patterns(x)].astype(str)
        if lost := [i for i in alike.tolist() if i in scored]:
            flat.setdefault(network, {})[layer] = lost
    return [
        Finding(
            "warning",
            network,
            "All units of a layer have the same value for some scored stimuli ("
            + ", ".join(f"{layer}: {labels.listed(ids, 2)}" for layer, ids in layers.items())
            + "): RSA with the correlation distance would stop.",
            "Leave these layers out (layers = […]), or use distance='euclidean'.",
        )
        for network, layers in flat.items()
    ]


def match(
    subjects: Iterable[Measured], tree: xr.DataTree | None
) -> tuple[dict[tuple[str, str], dict[str, float]], list[tuple[str, ...]], list[Finding]]:
    """Stimuli of the brains that a network was not shown, and the other way round.

    Returns
    -------
    counts : {(subject, network): {n_not_shown, n_train_not_shown, n_unused}}
    unmatched : list of rows of `schema.checks.UNMATCHED`
    findings : list of Finding
    """
    counts: dict[tuple[str, str], dict[str, float]] = {}
    unmatched: list[tuple[str, ...]] = []
    found: list[Finding] = []
    shown = _shown(tree, found)
    groups: dict[tuple[Any, ...], list[Measured]] = {}
    for one in subjects:
        seen = tuple((s, tuple(ids.tolist())) for s, ids in one.stimuli.items())
        groups.setdefault((one.dataset, seen, tuple(one.scored.tolist())), []).append(one)
    for members in groups.values():
        first = members[0]
        who = ", ".join(m.subject for m in members)
        everything = set().union(*(set(ids.tolist()) for ids in first.stimuli.values()))
        for network, there in shown.items():
            missing = {s: sorted(set(ids.tolist()) - there) for s, ids in first.stimuli.items()}
            lost = [i for i in first.scored.tolist() if i not in there]
            unused = sorted(there - everything)
            train = missing.get("train", [])
            unmatched += [
                (who, network, s, i, "network") for s, ids in missing.items() for i in ids
            ]
            unmatched += [(who, network, "", i, "brain") for i in unused]
            for one in members:
                counts[one.subject, network] = {
                    "n_not_shown": float(len(lost)),
                    "n_train_not_shown": float(len(train)),
                    "n_unused": float(len(unused)),
                }
            label = f"{network} and {_who(first.dataset, members)}"
            if lost:
                found.append(_lost(label, network, lost, first.scored, there))
            if train:
                found.append(
                    Finding(
                        "warning",
                        label,
                        f"{len(train)} of {len(first.stimuli['train'])} training stimuli were not "
                        f"shown to {network} ({labels.listed(train, 3)}): decoding and encoding "
                        "would stop, RSA does not need them.",
                        "Extract these stimuli too.",
                    )
                )
            if unused and not lost:
                found.append(
                    Finding(
                        "note",
                        label,
                        f"{len(unused)} of {len(there)} stimuli of {network} were never shown to "
                        f"the subjects ({labels.listed(unused, 3)}); they are not used.",
                    )
                )
    return counts, unmatched, found


def _shown(tree: xr.DataTree | None, found: list[Finding]) -> dict[str, set[str]]:
    """Stimuli that all layers of a network know; layers that differ are told."""
    shown: dict[str, set[str]] = {}
    for network, layer, data in trees.iter_layers(tree) if tree is not None else ():
        ids = set(np.asarray(scored_stimuli(data)).astype(str).tolist())
        if network in shown and ids != shown[network]:
            sentence = "The layers of this network were not shown the same stimuli."
            found.append(Finding("warning", f"{network}/{layer}", sentence, "Extract it again."))
        shown[network] = shown.get(network, ids) & ids
    return shown


def _who(dataset: str, members: list[Measured]) -> str:
    if len(members) == 1:
        return members[0].subject
    return f"{dataset} ({len(members)} subjects)" if dataset else f"{len(members)} subjects"


def _lost(
    label: str, network: str, lost: list[str], scored: np.ndarray, there: set[str]
) -> Finding:
    """Scored stimuli that a network lacks, with what may have happened to the names."""
    sentence = (
        f"{len(lost)} of {len(scored)} scored stimuli were not shown to {network}: "
        f"{labels.listed(lost, 3)}."
    )
    renaming = _renaming(scored.tolist(), there)
    if renaming:
        how, n = renaming
        sentence += f" Names taken {how}, {n} of {len(scored)} would match."
        return Finding("error", label, sentence, "Write the names alike on both sides.")
    near = {i: difflib.get_close_matches(i, list(there), n=1, cutoff=0.6) for i in lost[:3]}
    pairs = [f"'{i}' is nearest to '{close[0]}'" for i, close in near.items() if close]
    if len(lost) == len(scored):
        sentence += f" No name matches; {network} has names like '{min(there)}'."
    if pairs:
        sentence += f" {'; '.join(pairs)}."
    return Finding("error", label, sentence, "Rename them, or extract what is missing.")


def _renaming(scored: list[str], there: set[str]) -> tuple[str, int] | None:
    """The mildest changes of the names, made one after another, after which more match."""
    now = sum(i in there for i in scored)
    ours, theirs, said = list(scored), list(there), []
    best: tuple[str, int] | None = None
    for how, change in RENAMINGS.items():
        fresh, other = [change(i) for i in ours], [change(i) for i in theirs]
        # a change that makes two names one loses stimuli
        if len(set(fresh)) < len(set(ours)) or len(set(other)) < len(set(theirs)):
            continue
        if (fresh, other) != (ours, theirs):
            said.append(how)
            ours, theirs = fresh, other
            matching = sum(i in set(theirs) for i in ours)
            if matching > now:
                now, best = matching, (" and ".join(said), matching)
    return best


def counts_array(
    counts: Mapping[tuple[str, str], Mapping[str, float]],
    subjects: list[str],
    networks: list[str],
    name: str,
) -> np.ndarray:
    """(subject, network) of one of the counts."""
    return np.array(
        [[counts.get((s, n), {}).get(name, np.nan) for n in networks] for s in subjects]
    ).reshape(len(subjects), len(networks))
