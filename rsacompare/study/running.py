"""Networks of a study that run: their pictures, and their activations kept beside the cells."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.networks.network import Network
from rsacompare.networks.units import parse as parse_units
from rsacompare.schema import labels, store, streaming, trees

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsacompare.study.protocol import NetworkSource, Study

UNITS = 1000  # of a layer, at random, unless the study says otherwise
_IDENTITY = ("weights_sha256", "framework")  # attributes of a network that its output depends on
_OF_MODELS = ("preprocessing", "sets", "like")
FORMAT = 1  # of kept activations: another number makes them again


def is_network_file(file: str | Path, with_stimuli: Any) -> bool:
    """Whether a file holds a network that runs; an `.h5` does where pictures are given with it."""
    suffix = Path(file).suffix.lower()
    return suffix in (".keras", ".tflite") or (suffix in (".h5", ".hdf5") and bool(with_stimuli))


def check_table(table: NetworkSource, source: str, runs_here: bool | None, folder: Path) -> None:
    """Whether the keys of a `[networks.NAME]` table fit the kind of its source.

    Raises
    ------
    ProtocolError
        A network that runs without `stimuli`; keys of such a network for one that is known by
        its activations alone; stimuli that are neither registered nor a file.
    """
    if runs_here is False:
        given = [key for key in ("stimuli", "units") if getattr(table, key) is not None]
        if given:
            raise ProtocolError(
                f"{source} is known by its activations alone and sees no pictures: take "
                f"{labels.listed(given)} out, or name a network that runs"
            )
        if isinstance(table.layers, str):
            raise ProtocolError(
                f"{source} is known by its activations alone and has no layer sets: layers = "
                f'["{table.layers}"] is expected, a list of names'
            )
    elif table.stimuli is not None:
        locate_stimuli(table.stimuli, folder)
        if table.network is not None:
            raise ProtocolError(
                f"network: {source} is one network that runs; the name of the table is its name"
            )
    elif runs_here:
        sets = plugins.names("stimuli")
        example = sets[0] if sets else "pictures"
        raise ProtocolError(
            f'{source} is a network that runs, and needs pictures: add stimuli = "{example}", the '
            f"name of a set ({', '.join(sets) or 'none is registered'}), or a folder or csv "
            "beside the study file"
        )


def locate_stimuli(stimuli: str, folder: Path) -> str:
    """The name of a registered set, or the path of pictures from the study file's folder.

    Raises
    ------
    ProtocolError
        It is neither, with what is nearest.
    """
    if stimuli in plugins.names("stimuli"):
        return stimuli
    fixed = re.split(r"[*?\[]", stimuli)[0]
    path = folder / (fixed if fixed == stimuli else fixed.rpartition("/")[0])
    if path.exists():
        return str(folder / stimuli)
    text = plugins.unknown("stimulus set", stimuli, plugins.names("stimuli"))
    here = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, here, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise ProtocolError(
        f"stimuli: {text}; nor is there a file or folder {path.name} in "
        f"{path.parent.resolve()}{hint}"
    )


def own_options(factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that the registered function itself has to take.

    The others are of :func:`rsacompare.networks.zoo.network`, for a function that returns a
    `keras.Model`.
    """
    try:
        taken = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return dict(options)
    return {k: v for k, v in options.items() if k in taken or k not in _OF_MODELS}


@dataclass(frozen=True)
class Extraction:
    """A network, its layers and its pictures: all that is needed to make its activations."""

    name: str
    source: str
    network: Network
    layers: list[str]
    sources: Mapping[str, Any]
    units: int | str
    random_state: int

    @classmethod
    def of(
        cls, study: Study, name: str, source: str | Path, options: Mapping[str, Any]
    ) -> Extraction:
        """What a `[networks.NAME]` table asks for, checked as far as it can be before it runs.

        Parameters
        ----------
        study : Study
        name : str
        source : str or path
            A registered name, or a file.
        options : mapping
            Of the network, with paths that can be followed from here.

        Raises
        ------
        ProtocolError, DataError
            Layers, units, options or pictures that do not exist.
        """
        from rsacompare.networks import images, zoo

        table = study.networks[name]
        called = table.source or name
        check_table(table, called, True, study.folder)
        network = zoo.network(source, **options)
        layers = network.choose("default" if table.layers is None else table.layers)
        assert table.stimuli is not None  # check_table has seen to it
        sources = images.find_stimuli(locate_stimuli(table.stimuli, study.folder))
        units = UNITS if table.units is None else table.units
        parse_units(units)
        return cls(name, called, network, layers, sources, units, study.random_state)

    @property
    def stimulus_id(self) -> np.ndarray:
        """Of the pictures."""
        return labels.as_stimulus_ids(list(self.sources), f"pictures of {self.name}", unique=True)

    def digest(self) -> str:
        """Hash of all that the activations depend on."""
        from rsacompare.networks import images

        layers = [self.network.layer(spec) for spec in self.layers]
        seeds = self.units not in ("all", "channel-mean", "yu2018", "god2017")
        return store.digest(
            FORMAT,
            {k: str(self.network.attrs.get(k)) for k in _IDENTITY},
            self.network.preprocessing.as_dict(),
            [(layer.name, layer.op, layer.shape) for layer in layers],
            self.units,
            self.random_state if seeds else None,
            images.digest(self.sources),
        )

    def run(
        self, folder: Path | None = None, progress: Callable[[str, int, int], None] | None = None
    ) -> xr.DataTree:
        """The activations: those kept in `folder` where all is as it was, else made and kept.

        Of a network that does not say what its weights are (`weights_sha256`) they are made anew.

        Raises
        ------
        DataError, ProtocolError
            A picture that cannot be read, a network that cannot run.
        """
        from rsacompare.networks.extract import extract

        file = None if folder is None else folder / f"{self.name}-{self.digest()[:12]}.nc"
        weights = self.network.attrs.get("weights_sha256")
        tree = self._kept(file) if file is not None and weights and file.is_file() else None
        if tree is None:
            tree = extract(
                self.network,
                self.sources,
                self.layers,
                self.units,
                self.random_state,
                out=file,
                name=self.name,
                overwrite=True,  # what is there and cannot be read
                progress=progress,
            )
        inputs = json.loads(tree.attrs.get("inputs", "{}"))
        if weights:
            inputs[f"{self.source} (weights)"] = weights
        tree.attrs["inputs"] = json.dumps(inputs)
        return tree

    def _kept(self, file: Path) -> xr.DataTree | None:
        """Activations of an earlier run; None where the file is broken."""
        try:
            tree = streaming.open_activations(file)
            found = [data["stimulus_id"].values.tolist() for _, _, data in trees.iter_layers(tree)]
        except (DataError, KeyError, OSError):
            return None
        wanted = self.stimulus_id.tolist()
        whole = len(found) == len(self.layers) and all(ids == wanted for ids in found)
        return tree if whole else None
