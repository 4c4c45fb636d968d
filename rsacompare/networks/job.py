"""What an extraction is: all that its result depends on, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsacompare.errors import ProtocolError
from rsacompare.networks import presets
from rsacompare.networks.network import Network
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.networks.spool import UNIT_INDICES
from rsacompare.networks.units import Plan
from rsacompare.schema import labels, store


@dataclass(frozen=True)
class Job:
    """Everything that the result depends on but the contents of the pictures."""

    network: Network
    name: str
    preprocessing: Preprocessing
    plans: dict[str, Plan]
    ids: np.ndarray
    fit: np.ndarray
    drop_constant: bool
    units: str
    random_state: int
    batch_size: int
    options: dict[str, str]

    @property
    def has_checksum(self) -> bool:
        """Whether the weights are known by their contents, so that they can be compared."""
        return bool(self.network.attrs.get("weights_sha256"))

    def configuration(self) -> dict[str, Any]:
        """What an extraction must share with this one to be gone on with."""
        told = {
            "network": self.network.name,
            "name": self.name,
            "options": self.options,
            "weights": {k: str(v) for k, v in self.network.attrs.items()},
            "layers": {
                spec: [plan.layer.op, *plan.layer.shape] for spec, plan in self.plans.items()
            },
            "units": self.units,
            UNIT_INDICES: store.digest(*(plan.neuroid for plan in self.plans.values())),
            "seed": self.random_state,
            "preprocessing": self.preprocessing.as_dict(),
            "batch size": self.batch_size,
            "stimuli": store.digest(self.ids),
            "fit_on": store.digest(self.fit),
            "drop_constant": self.drop_constant,
        }
        return json.loads(json.dumps(told))

    def attrs(self, pictures: str) -> dict[str, Any]:
        """Of the tree; `extraction` is what the file is known by when it is asked for again."""
        return {
            "title": f"Activations of {self.name}",
            "inputs": {pictures_of(self.ids): pictures},
            "extraction": self.configuration(),
        }


def pictures_of(ids: np.ndarray) -> str:
    """The name of the pictures among the inputs."""
    return f"pictures ({len(ids)})"


def preprocessing_of(
    net: Network, given: str | Preprocessing | Mapping[str, Any] | None
) -> Preprocessing:
    """The network's own preprocessing, another, or its own with changed fields."""
    if given is None:
        return net.preprocessing
    if isinstance(given, Mapping):
        made = presets.preprocessing(net.preprocessing, **given)
    else:
        made = presets.preprocessing(given)
    if made.size != net.preprocessing.size:
        raise ProtocolError(
            f"preprocessing: {net.name} takes pictures of {net.preprocessing.size}, not {made.size}"
        )
    return made


def fit_rows(fit_on: Sequence[str] | None, ids: np.ndarray) -> np.ndarray:
    """Rows of the stimuli that components are fitted on."""
    if fit_on is None:
        return np.arange(len(ids))
    wanted = labels.as_stimulus_ids(list(fit_on), "fit_on", unique=True)
    if len(wanted) < 2:
        raise ProtocolError(f"fit_on names {len(wanted)} stimuli; components need at least 2")
    return np.sort(labels.index_of(wanted, ids, "fit_on", "the stimuli"))
