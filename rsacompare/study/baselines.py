"""`[baselines]` of a study file: noise in place of networks, and the same networks untrained."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.networks.baselines import SUFFIX, noise_baseline
from rsacompare.schema import labels, trees
from rsacompare.study import keys

if TYPE_CHECKING:
    from rsacompare.study.protocol import Study


def untrained(study: Study) -> list[str]:
    """The `[networks.NAME]` tables that are to be run with random weights too.

    Raises
    ------
    ProtocolError
        A table that there is not, or whose network cannot be run with random weights: with the
        place in the file and what to do.
    """
    asked = study.baselines.untrained
    if not asked:
        return []
    names = list(study.networks) if asked is True else list(asked)
    able = [n for n in study.networks if not _why_not(study, n)]
    with keys.at(study.place("baselines", "untrained")):
        for name in names:
            if name not in study.networks:
                raise ProtocolError(plugins.unknown("table of networks", name, study.networks))
            why = _why_not(study, name)
            if why:
                do = f"untrained = {able}".replace("'", '"') if able else "take untrained out"
                raise ProtocolError(
                    f"[networks.{name}] {why}, so it has no untrained self: "
                    + (f"name those that have, {do}" if able else do)
                )
    return names


def _why_not(study: Study, name: str) -> str:
    """Why the network of a table cannot be run with random weights; "" where it can."""
    table = study.networks[name]
    source = table.source or name
    if table.stimuli is None:
        return "is known by its activations and is not run here (it has no stimuli)"
    if source not in plugins.names("networks"):
        return "is a file with its weights in it"
    if not _takes(source, "weights"):
        return f"runs {source}, which takes no weights"
    return ""


def _takes(source: str, option: str) -> bool:
    try:
        parameters = inspect.signature(plugins.find("networks", source)).parameters
    except (TypeError, ValueError):
        return True
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def untrained_options(study: Study, name: str) -> dict[str, Any]:
    """The options of a table with random weights in place of its own."""
    options = {**study.networks[name].options, "weights": "random"}
    source = study.networks[name].source or name
    try:
        named = "random_state" in inspect.signature(plugins.find("networks", source)).parameters
    except (TypeError, ValueError):
        named = False
    return {"random_state": study.random_state, **options} if named else options


def noise(study: Study, networks: Mapping[str, xr.DataTree]) -> xr.DataTree | None:
    """The noise baselines that a study asks for.

    Raises
    ------
    ProtocolError, DataError
        A network that there is not, or that is known by RDMs alone where it is named.
    """
    asked = study.baselines.noise
    if not asked:
        return None
    with keys.at(study.place("baselines", "noise")):
        every = trees.merge_networks(list(networks.values()))
        named = None if asked is True else [labels.safe_name(name) for name in asked]
        return noise_baseline(every, study.random_state, networks=named)


def names(study: Study, networks: Sequence[str]) -> list[str]:
    """What the baselines will be called, as far as it can be told before they are made."""
    asked = study.baselines.noise
    of_noise = list(networks) if asked is True else list(asked or [])
    with_random = study.baselines.untrained
    of_weights = list(study.networks) if with_random is True else list(with_random or [])
    return [f"{n}{SUFFIX['noise']}" for n in of_noise] + [
        f"{n}{SUFFIX['untrained']}" for n in of_weights
    ]
