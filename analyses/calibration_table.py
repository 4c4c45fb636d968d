"""From simulations to the table, the figure and the page of `calibration.py`."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

OURS, BARS, PAIRED, DUAL = (
    "rsacompare",
    "bars do not overlap",
    "paired percentile",
    "dual bootstrap",
)
METHODS = (OURS, BARS, PAIRED, DUAL)
COLOURS = dict(zip(METHODS, ("#0072b2", "#d55e00", "#e69f00", "#009e73"), strict=True))
MARKERS = dict(zip(METHODS, "oXDs", strict=True))
BAND = 2.0  # Monte-Carlo standard errors: further out is marked
MARKED, FAR = stats.norm.sf(BAND), 2e-4  # the same as a chance, and too far for chance
WORDS = {
    "p_null": "`p_null` of one cell, unrelated networks",
    "fwe": "any `p_null_fwer` at or below .05, unrelated networks",
    "contrast, null": "contrast, unrelated networks",
    "contrast, equal": "contrast, equally related networks",
    "winner, null": "winner named, unrelated networks",
    "winner, equal": "winner named, equally related networks",
    "coverage, null": "95 % interval covers, unrelated networks",
    "coverage, equal": "95 % interval covers, equally related networks",
    "coverage, closer": "95 % interval covers, one network closer",
}


@dataclass(frozen=True)
class Judged:
    """A rate and what it should be: `equal` to the nominal, `most`, `least`, or `` (a power)."""

    quantity: str
    method: str
    nominal: float
    rule: str
    hits: np.ndarray

    def line(self) -> dict:
        """The rate, its error, and how likely one as bad would be at the nominal level."""
        n, hits = len(self.hits), int(self.hits.sum())
        inside = np.clip(hits / n, 1 / n, 1 - 1 / n)  # an error of 0 would be no error
        above = stats.binom.sf(hits - 1, n, self.nominal)
        below = stats.binom.cdf(hits, n, self.nominal)
        # one-sided also where both sides count, so that one limit serves all
        chance = {"equal": min(above, below), "most": above, "least": below}.get(self.rule, np.nan)
        return {
            "quantity": self.quantity, "method": self.method, "nominal": self.nominal,
            "rule": self.rule, "rate": hits / n, "n": n,
            "mc_se": float(np.sqrt(inside * (1 - inside) / n)),
            "chance": chance, "outside": bool(chance < MARKED),
        }  # fmt: skip


def rates(simulations: pd.DataFrame, truths: pd.DataFrame) -> pd.DataFrame:
    """One line per design, metric, quantity and method.

    Parameters
    ----------
    simulations, truths : DataFrame
        As `calibration.run` gives them.
    """
    truth = truths.set_index(["design", "scenario", "metric"])["difference"]
    lines = []
    for (design, metric), own in simulations.groupby(["design", "metric"], sort=False):
        parts = {s: t for s, t in own.groupby("scenario")}
        for scenario, table in parts.items():
            true = float(truth[design, scenario, metric])
            for judged in _judged(design, metric, scenario, table, true):
                lines.append({"design": design, "metric": metric, **judged.line()})
    return pd.DataFrame(lines)


def standard_errors(simulations: pd.DataFrame) -> pd.DataFrame:
    """Root mean square of our standard errors over the sd of the differences that they are of.

    Below 1 an interval is too narrow; a line per design and metric, a column per scenario.
    """
    grouped = simulations.groupby(["design", "metric", "scenario"], sort=False)
    ratio = grouped["se"].agg(lambda se: np.sqrt(np.mean(se**2))) / grouped["difference"].std()
    n = grouped["difference"].count()
    text = ratio.map(lambda r: f"{r:.2f}") + (ratio / np.sqrt(2 * n)).map(lambda e: f" ± {e:.2f}")
    wide = text.unstack("scenario").reindex(columns=["null", "equal", "closer"])
    order = list(dict.fromkeys(zip(simulations["design"], simulations["metric"], strict=True)))
    return wide.loc[order].fillna("").reset_index()


def _judged(design: str, metric: str, scenario: str, t: pd.DataFrame, true: float) -> list[Judged]:
    found = []
    # without a split the null is widened to an upper bound
    exact = "most" if design.startswith("no split") else "equal"
    if scenario == "null":
        # a permutation p reaches .05 and .01 exactly: at or below
        found += [Judged("p_null", OURS, a, exact, t["p_null"].values <= a) for a in (0.05, 0.01)]
        found.append(Judged("fwe", OURS, 0.05, exact, t["p_fwer"].values <= 0.05))
    else:
        found.append(Judged(f"p_null, {scenario}", OURS, 0.05, "", t["p_null"].values <= 0.05))
    difference = t["difference"].values
    apart = (t["a_low"] > t["b_high"]).values | (t["b_low"] > t["a_high"]).values
    dual = {
        level: (difference - half, difference + half)
        for level in (0.05, 0.01)
        for half in [stats.t.ppf(1 - level / 2, t["dof"]) * t["dual_se"].values]
    }
    excluded = {
        (OURS, 0.05): t["p"].values < 0.05, (OURS, 0.01): t["p"].values < 0.01,
        (BARS, 0.05): apart,
        (PAIRED, 0.05): _excludes(t["paired_low"].values, t["paired_high"].values),
        (PAIRED, 0.01): _excludes(t["paired_low99"].values, t["paired_high99"].values),
        **({(DUAL, a): _excludes(*dual[a]) for a in dual} if metric == "rsa" else {}),
    }  # fmt: skip
    rule = "" if scenario == "closer" else "most"
    for (method, level), hits in excluded.items():
        found.append(Judged(f"contrast, {scenario}", method, level, rule, hits))
    if scenario == "closer":
        wrong = excluded[OURS, 0.05] & (difference * true < 0)
        found.append(Judged("contrast, wrong network", OURS, 0.05, "most", wrong))
    named = t["verdict"].isin(["a", "b"]).values
    found.append(Judged(f"winner, {scenario}", OURS, 0.05, rule, named))
    intervals = {
        OURS: (t["low"].values, t["high"].values),
        PAIRED: (t["paired_low"].values, t["paired_high"].values),
        **({DUAL: dual[0.05]} if metric == "rsa" else {}),
    }
    for method, (low, high) in intervals.items():
        covered = (low <= true) & (true <= high)
        found.append(Judged(f"coverage, {scenario}", method, 0.95, "least", covered))
    return found


def _excludes(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (low > 0) | (high < 0)


# -- words ---------------------------------------------------------------------------------------


def shown(rate: float, digits: int = 3) -> str:
    """`.050`, as p values are printed."""
    text = f"{rate:.{digits}f}"
    return text[1:] if text.startswith("0.") else text


def _cell(table: pd.DataFrame, quantity: str, method: str = OURS, nominal: float = 0.05) -> str:
    row = table[
        (table["quantity"] == quantity)
        & (table["method"] == method)
        & (np.isclose(table["nominal"], nominal))
    ]
    if row.empty:
        return ""
    r = row.iloc[0]
    return f"{shown(r['rate'])} ± {shown(r['mc_se'])}{' *' if r['outside'] else ''}"


def _wide(table: pd.DataFrame, columns: dict[str, tuple]) -> pd.DataFrame:
    lines = []
    for (design, metric), own in table.groupby(["design", "metric"], sort=False):
        line = {"design": design, "metric": metric}
        lines.append(line | {name: _cell(own, *where) for name, where in columns.items()})
    return pd.DataFrame(lines)


def tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{caption: wide table} for people."""
    equal, cover, closer = "contrast, equal", "coverage, closer", "contrast, closer"
    return {
        "rsacompare": _wide(
            table,
            {
                "p_null .05": ("p_null",),
                "p_null .01": ("p_null", OURS, 0.01),
                "any p_null_fwer .05": ("fwe",),
                "contrast .05, unrelated": ("contrast, null",),
                "contrast .01, unrelated": ("contrast, null", OURS, 0.01),
                "contrast .05, equal": (equal,),
                "contrast .01, equal": (equal, OURS, 0.01),
                "winner named, unrelated": ("winner, null",),
                "winner named, equal": ("winner, equal",),
                "coverage .95": (cover, OURS, 0.95),
                "power": (closer,),
                "winner named, closer": ("winner, closer",),
            },
        ),
        "False positives of the contrast at .05 between equally related networks, same data": _wide(
            table, {m: (equal, m) for m in METHODS}
        ),
        "Coverage of the 95 % interval of the difference, same data": _wide(
            table, {m: (cover, m, 0.95) for m in (OURS, PAIRED, DUAL)}
        ),
        "Power at .05, same data": _wide(table, {m: (closer, m) for m in METHODS}),
    }


def sentences(table: pd.DataFrame) -> list[str]:
    """What lies outside its error band, in words."""
    ours = table[(table["method"] == OURS) & (table["rule"] != "")]
    outside = ours[ours["outside"]]
    expected = MARKED * (len(ours) + (ours["rule"] == "equal").sum())
    said = [
        f"Of {len(ours)} rates of rsacompare, {len(outside)} lie outside {BAND:g} Monte-Carlo "
        f"errors (at most {expected:.0f} would by chance, were all exactly at their nominal level)"
        + ("." if outside.empty else ", marked *:")
    ]
    for _, r in outside.iterrows():
        far = ", too far for chance" if r["chance"] < FAR else ""
        said.append(
            f"{r['design']}, {r['metric']}: {WORDS.get(r['quantity'], r['quantity'])} at "
            f"{shown(r['nominal'], 2)}: {shown(r['rate'])} ± {shown(r['mc_se'])} "
            f"(chance {r['chance']:.2g}{far})."
        )
    return said


def _markdown(table: pd.DataFrame) -> str:
    head = "| " + " | ".join(table.columns) + " |"
    rule = "|" + "---|" * len(table.columns)
    return "\n".join([head, rule, *("| " + " | ".join(r) + " |" for r in table.values.tolist())])


HOW = (
    "Every row is a population of studies: people, stimuli, noise and networks are drawn anew in "
    "each. Unrelated networks give the false-positive rates of `p_null` (of one cell named "
    "beforehand, at or below the level) and of any `p_null_fwer` over two regions and four layers; "
    "unrelated and equally related networks those of the contrast (mean over layers, one region, "
    "named beforehand); one truly closer network the coverage of the 95 % interval of the "
    "difference, and power. A winner is named by the verdict, corrected over two regions. After "
    "each rate its Monte-Carlo error; * marks a rate worse than its nominal level by more than two "
    "of these (of `p_null` with a split: different by more than two). The truth of an interval is "
    "the expected difference for new people and new stimuli. Bars: percentile bootstrap over "
    "people of each network, different where the bars do not overlap (Yu et al. 2018); paired "
    "percentile: of the difference. Dual bootstrap: the variance formula of rsatoolbox, with its "
    "clip, on our draws."
)


def readme(table: pd.DataFrame) -> str:
    """A short table: the first design, and the worst of all."""
    columns = {
        "unrelated: `p_null`": ("p_null", OURS, 0.05),
        "unrelated: any `p_null_fwer`": ("fwe", OURS, 0.05),
        "unrelated: contrast `p`": ("contrast, null", OURS, 0.05),
        "equally related: contrast `p`": ("contrast, equal", OURS, 0.05),
        "… by bars that do not overlap": ("contrast, equal", BARS, 0.05),
        "… by a percentile interval over people": ("contrast, equal", PAIRED, 0.05),
        "one closer: 95 % interval covers": ("coverage, closer", OURS, 0.95),
        "… percentile interval over people": ("coverage, closer", PAIRED, 0.95),
        "power of the contrast": ("contrast, closer", OURS, 0.05),
    }
    metrics = list(dict.fromkeys(table["metric"]))
    lines = []
    for name, (quantity, method, nominal) in columns.items():
        own = table[(table["quantity"] == quantity) & (table["method"] == method)
                    & np.isclose(table["nominal"], nominal)]  # fmt: skip
        line = {"": name}
        for metric in metrics:
            r = own[own["metric"] == metric]["rate"]
            line[metric] = f"{shown(r.min())} – {shown(r.max())}"
        lines.append(line)
    return _markdown(pd.DataFrame(lines))


# -- figure and page -----------------------------------------------------------------------------

PANELS = (
    ("p_null at .05\n(unrelated)", "p_null", (OURS,), 0.05),
    ("any p_null_fwer at .05\n(unrelated)", "fwe", (OURS,), 0.05),
    ("contrast at .05\n(unrelated)", "contrast, null", METHODS, 0.05),
    ("contrast at .05\n(equally related)", "contrast, equal", METHODS, 0.05),
    ("95 % interval covers\n(one closer)", "coverage, closer", (OURS, PAIRED, DUAL), 0.95),
    ("power at .05\n(one closer)", "contrast, closer", METHODS, 0.05),
)


def figure(table: pd.DataFrame) -> plt.Figure:
    """Rates with two Monte-Carlo errors against their nominal level, a row per design, metric."""
    rows = list(dict.fromkeys(zip(table["design"], table["metric"], strict=True)))
    places = {row: i + 0.8 * _group(rows, i) for i, row in enumerate(rows)}
    drawn, axes = plt.subplots(
        1, len(PANELS), sharey=True, figsize=(15, 1.6 + 0.26 * max(places.values())),
        layout="constrained",
    )  # fmt: skip
    for axis, (title, quantity, methods, nominal) in zip(axes, PANELS, strict=True):
        for k, method in enumerate(methods):
            own = table[(table["quantity"] == quantity) & (table["method"] == method)
                        & np.isclose(table["nominal"], nominal)]  # fmt: skip
            y = [places[r] for r in zip(own["design"], own["metric"], strict=True)]
            y = np.array(y) + 0.18 * (k - (len(methods) - 1) / 2)
            axis.errorbar(
                own["rate"], y, xerr=2 * own["mc_se"], fmt=MARKERS[method], ms=4, lw=1,
                color=COLOURS[method], label=method,
            )  # fmt: skip
        if quantity != "contrast, closer":
            n = table.loc[table["quantity"] == quantity, "n"].min()
            error = BAND * np.sqrt(nominal * (1 - nominal) / n)
            axis.axvspan(nominal - error, nominal + error, color="0.88", zorder=0)
            axis.axvline(nominal, color="0.4", lw=1, zorder=0)
        axis.set_xlim(left=max(axis.get_xlim()[0], -0.02), right=min(axis.get_xlim()[1], 1.02))
        axis.set_title(title, fontsize=9)
        axis.grid(axis="y", color="0.93")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(list(places.values()), [f"{d}, {m}" for d, m in rows], fontsize=8)
    axes[0].set_ylim(max(places.values()) + 0.7, -0.7)
    handles, names = axes[3].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return drawn


def _group(rows: list[tuple[str, str]], i: int) -> int:
    return len(dict.fromkeys(d for d, _ in rows[: i + 1])) - 1


def write(out: str | Path, simulations: pd.DataFrame, truths: pd.DataFrame) -> str:
    """Table, figure and page into a folder; returns what to print."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    table = rates(simulations, truths)
    table.to_csv(out / "calibration.csv", index=False, float_format="%.6g")
    counts = simulations.groupby(["design", "scenario"])["simulation"].nunique()
    n = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    about = [f"{n} simulated studies per row and population.", HOW, *sentences(table)]
    worst = truths.merge(
        simulations.groupby(["design", "scenario", "metric"])["difference"].std().reset_index(),
        on=["design", "scenario", "metric"],
    )
    share = (worst["se"] / worst["difference_y"]).max()
    about.append(
        "The truth of related networks of which one is closer is simulated, with a standard error "
        f"of at most {share:.0%} of the standard deviation of an estimate; else it is 0."
    )
    if simulations["code"].nunique() > 1:
        about.append(
            f"These simulations are from {simulations['code'].nunique()} versions of the code: "
            "remove raw/ to measure one."
        )
    people = tables(table)
    people["Standard error of rsacompare over the true standard deviation"] = standard_errors(
        simulations
    )
    text = ["# Calibration", *about, *(f"## {k}\n\n{_markdown(t)}" for k, t in people.items())]
    (out / "calibration.md").write_text("\n\n".join(text) + "\n")
    (out / "readme.md").write_text(readme(table) + "\n")
    drawn = figure(table)
    for kind in ("svg", "png"):
        drawn.savefig(out / f"calibration.{kind}", dpi=130)
    plt.close(drawn)
    (out / "index.html").write_text(_page(about, people))
    return "\n".join([*about[2:], f"Page: {out / 'index.html'}"])


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem }
table { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .5rem; text-align: left;
  border-bottom: 1px solid #ddd; vertical-align: top }
.wide { overflow-x: auto } img { max-width: 100% }
"""


def _page(about: list[str], people: dict[str, pd.DataFrame]) -> str:
    parts = [f"<p>{html.escape(s).replace('`', '')}</p>" for s in about]
    parts.append(
        '<img src="calibration.svg" alt="Rates with two Monte-Carlo errors against their nominal '
        'level, in a row per design and metric; the numbers are in the tables below">'
    )
    for caption, table in people.items():
        parts.append(f"<h2>{html.escape(caption)}</h2>")
        parts.append(f'<div class="wide">{table.to_html(index=False, border=0)}</div>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Calibration</title><style>{STYLE}</style></head><body><h1>Calibration</h1>"
        + "\n".join(parts)
        + "</body></html>"
    )
