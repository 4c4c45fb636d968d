"""Tables of a study file beside the metrics: partition, searchlight, sensitivity."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rsacompare import plugins
from rsacompare.kernels import correlate
from rsacompare.kernels.noise import NOISE
from rsacompare.study.searchlight import DISTANCES

Name = Annotated[str, Field(min_length=1)]
Layers = dict[str, Annotated[list[Name], Field(min_length=1)]]


class Table(BaseModel):
    """Strict: the text "5" is no number; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _one_of(what: str, known: Any, value: Any) -> Any:
    if isinstance(value, str) and value not in known:
        raise ValueError(plugins.unknown(what, value, known))
    return value


class BaselineOptions(Table):
    """`[baselines]`: networks to compare with, for all (true) or for those named.

    `noise`: of networks with activations, `NAME-noise` of the same layers and units. `untrained`:
    of `[networks.NAME]` tables that run a registered network, `NAME-untrained` with random
    weights, shown the same pictures.
    """

    noise: bool | list[Name] = False
    untrained: bool | list[Name] = False

    @field_validator("noise", "untrained", mode="before")
    @classmethod
    def _all_or_named(cls, value: Any) -> Any:
        named = isinstance(value, list) and value and all(isinstance(v, str) and v for v in value)
        if not isinstance(value, bool) and not named:
            raise ValueError(f"true, false or a list of networks is expected, got {value!r}")
        return value


class PartitionOptions(Table):
    """`[partition]`: unique and shared variance of two networks, by banded ridge.

    `networks` may be left out where the study has two; `layers` says which make up a network
    (all unless given). The draws and the confidence are those of `[inference]`.
    """

    networks: Annotated[list[Name], Field(min_length=2, max_length=2)] | None = None
    layers: Layers = Field(default_factory=dict)
    components: Annotated[float, Field(gt=0, le=1)] | None = None
    folds: str = "random"
    n_folds: Annotated[int, Field(ge=2)] = 5
    alphas: Annotated[list[float], Field(min_length=1)] | None = None

    @field_validator("folds")
    @classmethod
    def _folds(cls, value: str) -> str:
        return _one_of("kind of folds", ("random", "contiguous"), value)

    @field_validator("networks")
    @classmethod
    def _two(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and value[0] == value[1]:
            raise ValueError(f"'{value[0]}' cannot share variance with itself")
        return value


class SearchlightOptions(Table):
    """`[searchlight]`: RSA around every voxel of subjects whose voxels lie on a grid.

    All networks, layers and subjects unless they are named.
    """

    radius_mm: Annotated[float, Field(gt=0)] = 9.0
    distance: str = "correlation"
    comparator: str = "spearman"
    noise: str = "shrinkage_diag"
    folds: Name = "repetition"
    min_voxels: Annotated[int, Field(ge=1)] = 10
    roi: Name | None = None
    subjects: Annotated[list[Name], Field(min_length=1)] | None = None
    networks: Annotated[list[Name], Field(min_length=1)] | None = None
    layers: Layers = Field(default_factory=dict)

    @field_validator("distance")
    @classmethod
    def _distance(cls, value: str) -> str:
        return _one_of("searchlight distance", DISTANCES, value)

    @field_validator("noise")
    @classmethod
    def _noise(cls, value: str) -> str:
        return _one_of("noise", (*NOISE, "none"), value)

    @field_validator("comparator")
    @classmethod
    def _comparator(cls, value: str) -> str:
        return _one_of("comparator", correlate.COMPARATORS, value)


Size = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]


class SensitivityOptions(Table):
    """`[sensitivity]`: the arguments of :func:`rsacompare.sensitivity`.

    `contrast` is the first of `[inference]` unless given. `leave_out` has a list of stimuli, or a
    text file of one a line beside the study file, for each set. `pool_units`: of networks that
    run, so many units of each layer are kept to draw from.
    """

    contrast: Annotated[list[Name], Field(min_length=2, max_length=2)] | None = None
    pairing: str | None = None
    unit_draws: Annotated[int, Field(ge=0)] = 20
    pool_units: Annotated[int, Field(ge=1)] | None = None
    n_units: list[Size] = [0.5, 0.25]
    n_voxels: list[Size] = [0.5, 0.25]
    number_draws: Annotated[int, Field(ge=0)] = 3
    leave_out: dict[str, Annotated[list[Name], Field(min_length=1)] | Name] = Field(
        default_factory=dict
    )
    leave_one_subject_out: bool = True
    crossed: bool = False
    n_bootstrap: Annotated[int, Field(ge=10)] = 200

    @field_validator("pairing")
    @classmethod
    def _pairing(cls, value: str | None) -> str | None:
        return _one_of("pairing", ("mean", "depth"), value)
