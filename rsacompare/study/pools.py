"""More units than a study analyses, of its networks that run, for a sensitivity analysis."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from rsacompare.errors import ProtocolError
from rsacompare.networks.units import parse as parse_units
from rsacompare.schema import trees
from rsacompare.study.inputs import Progress, extract_all, load_source
from rsacompare.study.protocol import Study
from rsacompare.study.running import UNITS, Extraction


def more_units(
    study: Study,
    pool_units: int | None,
    pair: tuple[str, str],
    folder: Path | None = None,
    progress: Progress | None = None,
) -> xr.DataTree | None:
    """Activations of `pool_units` units of each layer, of the networks of `pair` that run.

    Parameters
    ----------
    study : Study
    pool_units : int or None
        None: no pool.
    pair : (a, b)
    folder : path, optional
        Where extracted activations are kept.
    progress : callable (stage, done, total), optional

    Raises
    ------
    ProtocolError
        No network of the pair runs, one keeps no random draw of units, or the pool is no larger
        than what is analysed.
    """
    if pool_units is None:
        return None
    runs = [name for name in pair if name in study.networks and study.networks[name].stimuli]
    if not runs:
        raise ProtocolError(
            f"pool_units is for networks that run from pictures, and neither {pair[0]} nor "
            f"{pair[1]} does: draws are then from the units at hand"
        )
    larger = {}
    for name in runs:
        units = study.networks[name].units
        kind, number = parse_units(UNITS if units is None else units)
        if kind == "all":
            continue  # the layer has no more
        if kind not in ("sample", "yu2018", "god2017"):
            raise ProtocolError(
                f"pool_units: {name} keeps units = '{units}', which is no draw of units"
            )
        if pool_units <= (number if kind == "sample" else UNITS):
            raise ProtocolError(
                f"pool_units = {pool_units} is no more than the {int(number) or UNITS} units that "
                f"are analysed of {name}"
            )
        larger[name] = study.networks[name].model_copy(update={"units": pool_units})
    if not larger:
        return None
    wide = study.model_copy(update={"networks": {**study.networks, **larger}})
    wide._file = study.file
    found = {}
    for name in larger:
        extraction = load_source(wide, "networks", name, wide.locate("networks", name))
        assert isinstance(extraction, Extraction)  # it has stimuli
        found[name] = extraction
    return trees.merge_networks(list(extract_all(wide, found, folder, progress).values()))
