"""The tests of simulated studies: compared and inferred as a run would do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rsacompare.errors import RsacompareError
from rsacompare.inference import bootstrap, ceiling, contrast
from rsacompare.inference import power as numbers
from rsacompare.inference.bootstrap import Sources
from rsacompare.inference.estimate import estimate
from rsacompare.inference.family import arrange
from rsacompare.inference.statistics import Options, bootstrap_family, levels_of
from rsacompare.inference.table import difference_of
from rsacompare.metrics.evidence import Metric
from rsacompare.schema.results import Comparison
from rsacompare.study import simulated
from rsacompare.study.cells import layers_of, plan, regions_of
from rsacompare.study.compare import compute_cells
from rsacompare.study.simulated import NETWORKS, Design, Region

ALPHA = 0.05
DRAWS = 80  # of the bootstrap, per simulated study


@dataclass
class Observed:
    """One simulated study: per ROI the difference, its variance by the test, and its parts."""

    difference: np.ndarray
    variance: np.ndarray
    ceiling: np.ndarray
    parts: list[dict[Sources, float]]
    levels: list[dict[str, int]]
    p: np.ndarray


def observe(
    design: Design,
    regions: Sequence[Region],
    metrics: Mapping[str, Metric],
    closeness: tuple[float, float],
    sources: Sequence[str] | None,
    seed: int,
    index: int,
) -> dict[str, Observed | str]:
    """Simulate a study and infer; for a metric that cannot be used the reason."""
    brain, networks = simulated.study(design, regions, closeness, seed, index)
    layers, rois = layers_of(networks), regions_of(brain, None)
    found: dict[str, Observed | str] = {}
    options = Options(
        DRAWS, 1, seed + index, 1 - ALPHA, 0.1, 1, None if sources is None else tuple(sources)
    )
    for label, metric in metrics.items():
        try:
            work, _ = plan({label: metric}, layers, rois)
            cells, scores = compute_cells({label: metric}, layers, rois, work)
            found[label] = _infer(label, metric, Comparison(scores, cells), options)
        except (RsacompareError, ValueError, KeyError) as err:
            found[label] = str(err)
    return found


def _infer(label: str, metric: Metric, comparison: Comparison, options: Options) -> Observed:
    family = arrange(comparison, label, 1 if metric.meaning.higher_is_better else -1)
    depth = np.linspace(0, 1, len(family.layers))
    rows, _ = contrast.rows(family, depth, [NETWORKS])
    rows = [row for row in rows if row.pairing == "mean"]
    statistics = bootstrap_family(family, rows, options, 1, None)
    roofs = ceiling.observed(family)
    difference, variance, p, parts, levels = [], [], [], [], []
    for row in rows:
        function = difference_of(family, row, statistics)
        own = levels_of(family, row.roi, options, row.layers)
        test = estimate(function, statistics, own, options)
        spreads = {
            s: bootstrap.spread(function(v)) for s, v in statistics.draws.items() if s <= own.keys()
        }
        difference.append(float(test.value))
        variance.append(float(test.se) ** 2)
        p.append(float(test.p))
        split = numbers.components(spreads, own) if own and min(own.values()) > 1 else {}
        parts.append({s: float(v) for s, v in split.items()})
        levels.append(own)
    with np.errstate(invalid="ignore"):
        low = [float(np.mean(roofs[row.roi][0])) for row in rows]
    return Observed(
        np.array(difference), np.array(variance), np.array(low), parts, levels, np.array(p)
    )
