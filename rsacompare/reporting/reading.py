"""What pages and figures read from a stored result; nothing is computed anew here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rsacompare.schema.results import CONTRAST_COLUMNS, meanings

ALPHA = 0.05
CONTRAST_VARIABLES = (*CONTRAST_COLUMNS, "se", "dof", "bound", "note")
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
            for name in ("mean_score", "ci", "p_null", "p_null_fwer", "score")
            + ("group_ceiling_low", "group_ceiling_high")
        }

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
    def networks(self) -> list[str]:
        """All networks in the order of the study: their place decides their colour."""
        present = list(dict.fromkeys(self._network.tolist()))
        told = [n["name"] for n in self.attr("networks", [])]
        return [n for n in told if n in present] + [n for n in present if n not in told]

    def label(self, metric: str) -> str:
        """How sentences call a metric: its label where it says more than its key."""
        return str(self.meaning[metric].get("label") or metric)

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
        )

    def layers(self, metric: str, network: str) -> tuple[list[str], np.ndarray]:
        """Names and relative depths of the layers of a network that this metric scored."""
        alive = np.isfinite(self._values["mean_score"][self.metrics.index(metric)]).any(axis=0)
        where = np.flatnonzero((self._network == network) & alive)
        where = where[np.argsort(self.result["layer_index"].values[where], kind="stable")]
        names = self.result["layer_name"].values[where].astype(str).tolist()
        return names, self.result["depth"].values[where]

    def extent(self, metric: str, margin: float = 0.06) -> tuple[float, float]:
        """Limits that hold every score, interval, ceiling and chance of a metric."""
        place = self.metrics.index(metric)
        names = ("mean_score", "ci", "score", "group_ceiling_low", "group_ceiling_high")
        every = np.concatenate([self._values[n][place].ravel() for n in names])
        every = np.append(every[np.isfinite(every)], float(self.meaning[metric]["chance"]))
        pad = margin * (np.ptp(every) or 1.0)
        return float(every.min() - pad), float(every.max() + pad)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """All contrast rows, in the order of the result; `note` is "" where there is none."""
        frame = {}
        for column in CONTRAST_VARIABLES:
            name = f"contrast_{column}"
            frame[column] = self.result[name].values if name in self.result else np.nan
        table = pd.DataFrame(frame, index=range(self.result.sizes.get("contrast", 0)))
        table["note"] = ["" if n != n else str(n) for n in table["note"]]
        return table

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of networks that were contrasted."""
        told = [(str(a), str(b)) for a, b in self.attr("contrast", [])]
        rows = zip(self.contrasts["network_a"], self.contrasts["network_b"], strict=True)
        return list(dict.fromkeys([*told, *rows]))

    def rows(
        self,
        metric: str | None = None,
        pair: tuple[str, str] | None = None,
        pairing: str | None = None,
    ) -> pd.DataFrame:
        """Contrast rows of one metric, pair and pairing where given."""
        table = self.contrasts
        keep = np.ones(len(table), dtype=bool)
        if metric is not None:
            keep &= (table["metric"] == metric).to_numpy()
        if pair is not None:
            keep &= ((table["network_a"] == pair[0]) & (table["network_b"] == pair[1])).to_numpy()
        if pairing is not None:
            keep &= (table["pairing"] == pairing).to_numpy()
        return table[keep]

    @cached_property
    def pairing(self) -> str:
        """The pairing that answers the question, one row per ROI.

        The mean over layers where all contrasted networks have equally many layers; otherwise
        the mean would depend on which layers happen to be there, so relative depth.
        """
        present = set(self.contrasts["pairing"])
        equal = all(
            len(self.layers(m, a)[0]) == len(self.layers(m, b)[0])
            for m in self.metrics
            for a, b in self.pairs
        )
        order = ("mean", "depth") if equal else ("depth", "mean")
        return next((p for p in (*order, "best", "ordinal") if p in present), "mean")

    def layer_pairs(self, metric: str, pair: tuple[str, str]) -> tuple[list[tuple[str, str]], bool]:
        """Which layer of a stands beside which of b, and whether that is by ordinal position.

        With different layer counts each layer of the shorter network stands beside the nearest
        in relative depth of the longer.
        """
        rows = self.rows(metric, pair, "ordinal")
        if len(rows):
            pairs = zip(rows["layer_a"], rows["layer_b"], strict=True)
            return [(str(a), str(b)) for a, b in dict.fromkeys(pairs)], True
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
