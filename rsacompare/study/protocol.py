"""A study file (STUDY.toml): read, checked key by key, and turned into metrics and sources."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from rsacompare import plugins
from rsacompare.datasets.load import no_file
from rsacompare.datasets.registry import registry
from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels.resample import as_seed
from rsacompare.metrics.evidence import Metric
from rsacompare.metrics.registry import find_metric, metric
from rsacompare.networks.units import parse as parse_units
from rsacompare.schema.rdm_files import RDM_SUFFIXES, RdmOptions
from rsacompare.schema.reading import makes_network
from rsacompare.study import keys, running
from rsacompare.study.options import (
    BaselineOptions,
    Name,
    PartitionOptions,
    SearchlightOptions,
    SensitivityOptions,
    Table,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")
# names become files (rsa.html), tree nodes (/network/layer) and parts of labels (dataset.subject)
COMBINED = ("nonnegative", "equal")


class BrainSource(Table):
    """`[brain.NAME]`: a data set; `source` is NAME unless given."""

    source: Name | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class NetworkSource(Table):
    """`[networks.NAME]`: one network (or a source that holds several).

    A source that holds one network is renamed to NAME. One that holds several keeps their own
    names, unless `network` picks one, which is then called NAME. `layers` keeps these only, in
    the network's own order.

    A network that runs (a registered one, a `.keras`, `.h5` or `.tflite` file) needs `stimuli`,
    the pictures it is shown: a registered set, or a folder, csv or glob from the study file's
    folder. `layers` may then name a set of the network's, and `units` says how many of a layer
    are kept (:mod:`rsacompare.networks.units`; 1,000 at random unless given).
    """

    source: Name | None = None
    network: Name | None = None
    stimuli: Name | None = None
    layers: list[str] | str | None = None
    units: int | str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("layers", mode="before")
    @classmethod
    def _layer_names(cls, value: Any) -> Any:
        names = value if isinstance(value, list) else [value]
        if value is not None and not (names and all(isinstance(n, str) and n for n in names)):
            raise ValueError(f"a list of layers or the name of a set is expected, got {value!r}")
        return value

    @field_validator("units", mode="before")
    @classmethod
    def _known_units(cls, value: Any) -> Any:
        if value is not None:
            try:
                parse_units(value)
            except ProtocolError as err:
                raise ValueError(str(err)) from err
        return value


class MetricChoice(Table):
    """`[metrics.LABEL]`: `type` is LABEL unless given; all other keys are the metric's options.

    `combine` is the study's: all layers of a network become one model (`rsacompare.combine_layers`)
    by weights that are `nonnegative` or `equal`.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: Name | None = None
    combine: str | None = None

    @field_validator("combine")
    @classmethod
    def _known_weights(cls, value: str | None) -> str | None:
        if value is not None and value not in COMBINED:
            raise ValueError(plugins.unknown("way of weighing", value, COMBINED))
        return value

    @property
    def options(self) -> dict[str, Any]:
        """What the metric is made with."""
        return dict(self.model_extra or {})


Source = Literal["subjects", "stimuli", "units"]


class InferenceOptions(Table):
    """`[inference]`: the arguments of :func:`rsacompare.infer`."""

    contrast: list[tuple[str, str]] | None = None
    n_bootstrap: Annotated[int, Field(ge=10)] = 10_000
    n_permutations: Annotated[int, Field(ge=10)] = 10_000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    equivalence_bound: Annotated[float, Field(gt=0)] = 0.1
    n_splits: Annotated[int, Field(ge=1)] = 4
    sources: Annotated[list[Source], Field(min_length=1)] | None = None
    interval: Literal["t", "percentile", "bca", "studentised"] = "t"
    exchange: Literal["auto", "stimuli", "categories"] = "auto"
    null: Literal["permutation", "phase"] = "permutation"
    hierarchy: Annotated[list[Name], Field(min_length=3)] | None = None
    primary: Literal["mean", "depth", "best"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> InferenceOptions:
        if self.interval != "t" and len(self.sources or ()) != 1:
            raise ValueError(
                f'interval = "{self.interval}" generalises over a single source of chance: name '
                'it, as in sources = ["stimuli"], or keep interval = "t", which covers several'
            )
        return self

    @field_validator("contrast", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        if len(value) == 2 and all(isinstance(v, str) for v in value):
            value = [value]
        pairs = [tuple(v) if isinstance(v, (list, tuple)) else v for v in value]
        for pair in pairs:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f'pairs like [["a", "b"], ["a", "c"]] are expected, got {value}')
            if pair[0] == pair[1]:
                raise ValueError(f"'{pair[0]}' cannot be contrasted with itself")
        return pairs


class Study(Table):
    """One question: which brains, which networks, which metrics, how sure.

    Examples
    --------
    >>> study = Study(
    ...     name="mine",
    ...     brain={"phantom": BrainSource()},
    ...     networks={"phantom": NetworkSource()},
    ...     metrics={"rsa": MetricChoice()},
    ... )
    >>> study.inference.confidence
    0.95
    """

    name: Name
    title: str = ""
    question: str = ""
    random_state: Annotated[int, Field(ge=0)] = 0
    rois: Annotated[list[Name], Field(min_length=1)] | None = None
    brain: Annotated[dict[str, BrainSource], Field(min_length=1)]
    networks: Annotated[dict[str, NetworkSource], Field(min_length=1)]
    metrics: Annotated[dict[str, MetricChoice], Field(min_length=1)]
    inference: InferenceOptions = InferenceOptions()
    baselines: BaselineOptions = BaselineOptions()
    partition: PartitionOptions | None = None
    searchlight: SearchlightOptions | None = None
    sensitivity: SensitivityOptions | None = None
    _file: Path | None = PrivateAttr(default=None)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(f"'{value}' must be letters, digits, spaces and . _ + - only")
        return value

    @field_validator("brain", "networks", "metrics")
    @classmethod
    def _plain_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            cls._plain_name(key)
            if key == "index":
                raise ValueError("'index' is the name of the first page; choose another")
        return value

    @property
    def file(self) -> Path | None:
        """The file this study was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """Where relative paths start: the study file's folder, else the working directory."""
        return self._file.parent if self._file is not None else Path()

    def place(self, *names: str) -> str:
        """Where something stands, for messages: `STUDY.toml, [metrics.rsa] distance`."""
        return keys.place(self._file or f"study '{self.name}'", names)

    def with_seed(self, random_state: int) -> Study:
        """The same study with another seed."""
        try:
            return self.model_copy(update={"random_state": as_seed(random_state)})
        except ValueError as err:
            raise ProtocolError(str(err)) from err

    def make_metrics(self) -> dict[str, Metric]:
        """The metrics by label, made with their options.

        Raises
        ------
        ProtocolError
            Unknown type or option, or a value that the metric refuses, naming the place.
        """
        made = {}
        for label, choice in self.metrics.items():
            name = choice.type or label
            where = self.place("metrics", label)
            with keys.at(where):
                factory = find_metric(name)
                options = keys.check_options(f"metric {name}", factory, choice.options)
                for option in keys.paths(factory) & options.keys():
                    if isinstance(options[option], (str, Path)):
                        options[option] = self.folder / options[option]
                try:
                    made[label] = metric(name, **options)
                except (TypeError, ValueError) as err:
                    raise ProtocolError(f"metric {name} cannot be made: {err}") from err
        return made

    def locate(self, group: str, name: str) -> str | Path:
        """What the source of one `[brain]` or `[networks]` table is.

        Returns
        -------
        str or Path
            An existing file as a Path; else a registered name or a path of the data registry.

        Raises
        ------
        ProtocolError, DataError
            Neither a registered name nor a file; options that its loader does not take.
        """
        table = self.brain[name] if group == "brain" else self.networks[name]
        kind = "datasets" if group == "brain" else "networks"
        source = table.source or name
        where = self.place(group, name)
        if source in plugins.names(kind):
            with keys.at(where):
                factory = plugins.find(kind, source)
                if isinstance(table, NetworkSource):
                    running.check_table(table, source, makes_network(factory), self.folder)
                options = table.options
                if isinstance(table, NetworkSource) and table.stimuli is not None:
                    options = running.own_options(factory, options)
                keys.check_options(f"{kind[:-1]} {source}", factory, options)
            return source
        file = self.folder / source
        if not file.is_file() and source not in registry():
            if Path(source).suffix or "/" in source:
                raise DataError(f"{where}: {no_file(file)}")
            text = plugins.unknown(kind[:-1], source, plugins.names(kind))
            raise ProtocolError(f"{where}: {text}")
        if isinstance(table, NetworkSource):
            runs = running.is_network_file(file, table.stimuli is not None)
            with keys.at(where):
                running.check_table(table, source, runs, self.folder)
            if runs:
                return file if file.is_file() else source
        if table.options and file.suffix.lower() not in RDM_SUFFIXES:
            raise ProtocolError(f"{where}: options are for registered {kind}; {source} is a file")
        with keys.at(where):
            keys.check_options(f"file {source}", RdmOptions, table.options)
        return file if file.is_file() else source


TABLES = {
    "": list(Study.model_fields),
    "brain": list(BrainSource.model_fields),
    "networks": list(NetworkSource.model_fields),
    "inference": list(InferenceOptions.model_fields),
    "baselines": list(BaselineOptions.model_fields),
    "partition": list(PartitionOptions.model_fields),
    "searchlight": list(SearchlightOptions.model_fields),
    "sensitivity": list(SensitivityOptions.model_fields),
}


def load_study(path: str | Path) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path : path of a TOML file

    Returns
    -------
    Study

    Raises
    ------
    DataError
        No such file, or not text.
    ProtocolError
        Not TOML; an unknown key (the nearest spelling is named), a wrong type, something missing:
        one sentence that names the file and the place in it.
    """
    file = Path(path)
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as err:
        raise DataError(f"no study file {file} ({err.strerror})") from err
    except UnicodeDecodeError as err:
        raise DataError(f"{file} is not a text file in UTF-8, so no study file") from err
    except tomllib.TOMLDecodeError as err:
        raise ProtocolError(f"{file} is not valid TOML: {err}") from err
    try:
        study = Study.model_validate(raw)
    except ValidationError as err:
        raise ProtocolError(keys.sentence(file, err, TABLES)) from None
    study._file = file
    return study
