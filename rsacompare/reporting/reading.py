"""What pages and figures read from a stored result; nothing is computed anew here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.reporting.style import Networks
from rsacompare.schema.results import CONTRAST_COLUMNS, CONTRAST_EXTRAS, meanings

ALPHA = 0.05
CELL_VARIABLES = (
    "mean_score",
    "ci",
    "p_null",
    "p_null_fwer",
    "score",
    "group_ceiling_low",
    "group_ceiling_high",
)
MAYBE_CELL_VARIABLES = ("fraction", "fraction_ci")  # of results that have them
PAIRINGS = {
    "mean": "mean over the layers of each network",
    "depth": "area between the two curves over their common range of relative depth",
    "best": "best layer of each network, chosen on other stimuli than it is scored on",
    "ordinal": "first layer against first layer, second against second, and so on",
}
OVER = {
    "mean": "averaged over layers",
    "depth": "over the common range of relative depth",
    "best": "best layer against best layer",
    "ordinal": "layer by layer",
}


@dataclass(frozen=True)
class Curve:
    """The layers of one network in one ROI, in order; arrays are (layer,), scores (subject, layer).

    Layers that were not scored are left out.
    """

    network: str
    names: list[str]
    index: np.ndarray
    depth: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ceiling_low: np.ndarray
    ceiling_high: np.ndarray
    p: np.ndarray
    p_fwer: np.ndarray
    scores: np.ndarray
    fraction: np.ndarray
    fraction_low: np.ndarray
    fraction_high: np.ndarray


@dataclass(frozen=True)
class Row:
    """One contrast: two networks, one metric, ROI and pairing."""

    metric: str
    roi: str
    pairing: str
    network_a: str
    layer_a: str
    network_b: str
    layer_b: str
    difference: float
    ci_low: float
    ci_high: float
    p: float
    p_fwer: float
    p_equivalence: float
    verdict: str
    se: float = np.nan
    dof: float = np.nan
    bound: float = np.nan
    p_beyond: float = np.nan
    p_bh: float = np.nan
    p_by: float = np.nan
    p_sign_flip: float = np.nan
    bf10: float = np.nan
    note: str = ""

    @property
    def pair(self) -> tuple[str, str]:
        """The two networks."""
        return self.network_a, self.network_b

    @property
    def winner(self) -> str:
        """The network that is closer, "" where the verdict names none."""
        return {"a": self.network_a, "b": self.network_b}.get(self.verdict, "")

    @property
    def withheld(self) -> bool:
        """Whether the networks differ, yet the closer one is not beyond its own null."""
        return self.verdict == "undecided" and self.p_fwer < ALPHA <= self.p_beyond

    @property
    def outcome(self) -> str:
        """Name of the winner, `equivalent` or `undecided`."""
        return self.winner or ("equivalent" if self.verdict == "equivalent" else "undecided")


class Reading:
    """A result with its attributes parsed and its arrays at hand.

    Parameters
    ----------
    result : Dataset
        As `infer` returns it.
    """

    def __init__(self, result: xr.Dataset):
        self.result = result
        self.meaning = meanings(result)
        self.metrics = [str(m) for m in result["metric"].values]
        self.subjects = [str(s) for s in result["subject"].values]
        self.simulated = bool(int(result.attrs.get("simulated", 0)))
        self.title = str(result.attrs.get("title", "")) or "Networks and the brain"
        self.question = str(result.attrs.get("question", ""))
        self._network = result["network"].values.astype(str)
        self._values = {
            name: result[name].transpose("metric", "roi", "layer", ...).values
            for name in CELL_VARIABLES
        }
        for name, like in zip(MAYBE_CELL_VARIABLES, ("mean_score", "ci"), strict=True):
            held = result.get(name)
            self._values[name] = (
                np.full_like(self._values[like], np.nan)
                if held is None
                else held.transpose("metric", "roi", "layer", ...).values
            )

    def attr(self, name: str, default: Any) -> Any:
        """A structured attribute."""
        value = self.result.attrs.get(name)
        return default if value is None else json.loads(value)

    @cached_property
    def inference(self) -> dict[str, Any]:
        """How chance was handled."""
        return self.attr("inference", {})

    @property
    def confidence(self) -> float:
        """Of the intervals."""
        return float(self.inference.get("confidence", 0.95))

    @cached_property
    def networks(self) -> Networks:
        """All networks in the order of the study: their place decides their colour."""
        present = list(dict.fromkeys(self._network.tolist()))
        told = [n["name"] for n in self.attr("networks", [])]
        names = [n for n in told if n in present] + [n for n in present if n not in told]
        return Networks(names, [n["name"] for n in self.attr("networks", []) if n.get("baseline")])

    def label(self, metric: str) -> str:
        """How sentences call a metric: its label, with its key where two share the label."""
        labels = {m: str(self.meaning[m].get("label") or m) for m in self.metrics}
        own = labels[metric]
        return f"{own} [{metric}]" if list(labels.values()).count(own) > 1 else own

    def by_metric(self, name: str) -> dict[str, Any]:
        """An entry of `inference` that is told per metric, for the metrics that have it."""
        told = self.inference.get(name, {})
        return {m: told[m] for m in self.metrics if told.get(m)}

    def has_ceiling(self, metric: str) -> bool:
        """Whether any cell has a noise ceiling (one subject alone may have none)."""
        held = self.result[["group_ceiling_low", "group_ceiling_high"]].sel(metric=metric)
        return any(bool(np.isfinite(v).any()) for v in held.values())

    def axis(self, metric: str) -> str:
        """Axis label with unit."""
        unit = str(self.meaning[metric].get("unit", ""))
        label = self.label(metric)
        return f"{label} ({unit})" if unit else label

    def rois(self, metric: str) -> list[str]:
        """ROIs with at least one score."""
        alive = np.isfinite(self._values["mean_score"][self.metrics.index(metric)]).any(axis=1)
        return [str(r) for r, a in zip(self.result["roi"].values, alive, strict=True) if a]

    def networks_of(self, metric: str) -> list[str]:
        """Networks with at least one score."""
        alive = np.isfinite(self._values["mean_score"][self.metrics.index(metric)]).any(axis=0)
        return [n for n in self.networks if alive[self._network == n].any()]

    def n_subjects(self, metric: str, roi: str) -> int:
        """Subjects with at least one score in this ROI."""
        scores = self._values["score"][self._place(metric, roi)]
        return int(np.isfinite(scores).any(axis=0).sum())

    def _place(self, metric: str, roi: str) -> tuple[int, int]:
        rois = self.result["roi"].values.astype(str).tolist()
        return self.metrics.index(metric), rois.index(roi)

    def curve(self, metric: str, roi: str, network: str) -> Curve:
        """One network's layers in one ROI."""
        place = self._place(metric, roi)
        mean = self._values["mean_score"][place]
        where = np.flatnonzero((self._network == network) & np.isfinite(mean))
        where = where[np.argsort(self.result["layer_index"].values[where], kind="stable")]
        cut = {name: values[place][where] for name, values in self._values.items()}
        return Curve(
            network=network,
            names=self.result["layer_name"].values[where].astype(str).tolist(),
            index=self.result["layer_index"].values[where],
            depth=self.result["depth"].values[where],
            mean=cut["mean_score"],
            low=cut["ci"][:, 0],
            high=cut["ci"][:, 1],
            ceiling_low=cut["group_ceiling_low"],
            ceiling_high=cut["group_ceiling_high"],
            p=cut["p_null"],
            p_fwer=cut["p_null_fwer"],
            scores=cut["score"].T,
            fraction=cut["fraction"],
            fraction_low=cut["fraction_ci"][:, 0],
            fraction_high=cut["fraction_ci"][:, 1],
        )

    def layers(self, metric: str, network: str) -> tuple[list[str], np.ndarray]:
        """Names and relative depths of the layers of a network that this metric scored."""
        alive = np.isfinite(self._values["mean_score"][self.metrics.index(metric)]).any(axis=0)
        where = np.flatnonzero((self._network == network) & alive)
        where = where[np.argsort(self.result["layer_index"].values[where], kind="stable")]
        names = self.result["layer_name"].values[where].astype(str).tolist()
        return names, self.result["depth"].values[where]

    def extent(
        self, metric: str, margin: float = 0.06, *, subjects: bool = True
    ) -> tuple[float, float]:
        """Limits that hold every mean, ceiling and chance; intervals and subjects too."""
        place = self.metrics.index(metric)
        names = ["mean_score", "group_ceiling_low", "group_ceiling_high"]
        names += ["ci", "score"] if subjects else []
        every = np.concatenate([self._values[n][place].ravel() for n in names])
        every = np.append(every[np.isfinite(every)], float(self.meaning[metric]["chance"]))
        pad = margin * (np.ptp(every) or 1.0)
        return float(every.min() - pad), float(every.max() + pad)

    @cached_property
    def contrasts(self) -> list[Row]:
        """All contrast rows, in the order of the result."""
        n = self.result.sizes.get("contrast", 0)
        names = [c for c in (*CONTRAST_COLUMNS, *CONTRAST_EXTRAS) if n]
        found = {c: self.result.get(f"contrast_{c}") for c in names}
        columns = {c: array.values.tolist() for c, array in found.items() if array is not None}
        return [Row(**{c: values[i] for c, values in columns.items()}) for i in range(n)]

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of networks that were contrasted; those with a baseline come last."""
        told = [(str(a), str(b)) for a, b in self.attr("contrast", [])]
        every = dict.fromkeys([*told, *(row.pair for row in self.contrasts)])
        return sorted(every, key=lambda pair: any(n in self.networks.baselines for n in pair))

    def rows(
        self,
        metric: str | None = None,
        pair: tuple[str, str] | None = None,
        pairing: str | None = None,
    ) -> list[Row]:
        """Contrast rows of one metric, pair and pairing where given."""
        return [
            row
            for row in self.contrasts
            if metric in (None, row.metric)
            and pair in (None, row.pair)
            and pairing in (None, row.pairing)
        ]

    @cached_property
    def pairing(self) -> str:
        """The pairing that answers the question, one row per ROI.

        The one named as primary; else the mean over layers where all contrasted networks have
        equally many layers; otherwise the mean would depend on which layers happen to be there,
        so relative depth.
        """
        present = {row.pairing for row in self.contrasts}
        equal = all(
            len(self.layers(m, a)[0]) == len(self.layers(m, b)[0])
            for m in self.metrics
            for a, b in self.pairs
        )
        order = ["mean", "depth"] if equal else ["depth", "mean"]
        if "primary" in self.inference:
            order.insert(0, self.inference["primary"])
        return next((p for p in (*order, "best", "ordinal") if p in present), "mean")

    def layer_pairs(self, metric: str, pair: tuple[str, str]) -> tuple[list[tuple[str, str]], bool]:
        """Which layer of a stands beside which of b, and whether that is by ordinal position.

        With different layer counts each layer of the shorter network stands beside the nearest
        in relative depth of the longer.
        """
        rows = self.rows(metric, pair, "ordinal")
        if rows:
            return list(dict.fromkeys((row.layer_a, row.layer_b) for row in rows)), True
        (names_a, depth_a), (names_b, depth_b) = (self.layers(metric, n) for n in pair)
        if not names_a or not names_b:
            return [], True
        if len(names_a) == len(names_b):
            return list(zip(names_a, names_b, strict=True)), True
        distance = np.abs(depth_a[:, None] - depth_b[None, :])
        if len(names_a) < len(names_b):
            nearest = distance.argmin(axis=1)
            return [(a, names_b[j]) for a, j in zip(names_a, nearest, strict=True)], False
        nearest = distance.argmin(axis=0)
        return [(names_a[i], b) for i, b in zip(nearest, names_b, strict=True)], False
