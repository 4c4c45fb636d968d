"""How similar are two neural networks to the brain, and is one of them really closer?

The public names are loaded on first use, so that `import rsacompare` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

_HOMES = {
    "activations": "schema.arrays",
    "extract": "networks.extract",
    "network": "networks.zoo",
    "responses": "schema.arrays",
    "rdms": "schema.arrays",
    "load_activations": "schema.reading",
    "load_rdms": "schema.rdm_files",
    "from_rsatoolbox": "schema.rsatoolbox_from",
    "to_rsatoolbox": "schema.rsatoolbox_to",
    "average_repetitions": "schema.labels",
    "Comparison": "schema.results",
    "tables": "schema.results",
    "load_result": "schema.results",
    "load_dataset": "datasets.load",
    "frames_to_volumes": "datasets.frames",
    "Metric": "metrics.evidence",
    "Meaning": "metrics.evidence",
    "Evidence": "metrics.evidence",
    "TargetEvidence": "metrics.evidence",
    "PairEvidence": "metrics.evidence",
    "metric": "metrics.registry",
    "register_metric": "metrics.registry",
    "compare": "study.compare",
    "combine_layers": "study.combine",
    "searchlight": "study.searchlight",
    "variance_partition": "study.partition",
    "infer": "inference.infer",
    "mixed_model": "inference.mixed",
    "noise_baseline": "networks.baselines",
    "inter_subject": "study.inter_subject",
    "check": "study.check",
    "sensitivity": "study.sensitivity",
    "report": "reporting.pages",
    "run": "pipeline",
    "RsacompareError": "errors",
}
__all__ = sorted(_HOMES)
__version__ = version("rsacompare")


def __getattr__(name: str) -> Any:
    if name == "testing":  # the one module that is public by itself
        return import_module("rsacompare.testing")
    if name not in _HOMES:
        raise AttributeError(f"module 'rsacompare' has no attribute '{name}'")
    value = getattr(import_module(f"rsacompare.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__, "testing"]
