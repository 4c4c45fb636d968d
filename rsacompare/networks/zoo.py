"""A runnable network by name, from a file, from a Keras model: one door in.

The networks of keras.applications are registered under names such as `vgg16`, `resnet50`,
`mobilenet_v2`; their table is `zoo.toml`. Importing this module imports no TensorFlow.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError
from rsacompare.networks import engine, keras_models
from rsacompare.networks.network import Network
from rsacompare.networks.preprocess import Preprocessing
from rsacompare.networks.presets import PRESETS
from rsacompare.networks.presets import preprocessing as as_preprocessing
from rsacompare.networks.resnet import SETS

if TYPE_CHECKING:
    from rsacompare.networks.keras_network import KerasNetwork

_FILES = (".keras", ".h5", ".hdf5", ".tflite")


def network(
    source: Any,
    *,
    name: str | None = None,
    preprocessing: str | Preprocessing | Mapping[str, Any] | None = None,
    sets: Mapping[str, Sequence[str]] | None = None,
    like: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    **options: Any,
) -> Network:
    """A network that runs, from whatever names or holds one.

    Parameters
    ----------
    source : str, path, Network or keras.Model
        A registered name (``rsacompare list networks``); a file (`.keras`, `.h5`, `.tflite`); a
        Network, which is returned as it is; a functional or sequential `keras.Model`.
    name : str, optional
        For files and models: what results call it.
    preprocessing : Preprocessing, str or mapping, optional
        How pictures become what the network takes. Files of Keras and models do not say, so there
        it must be given, or `like`; a name of
        :data:`rsacompare.networks.presets.PRESETS` takes the model's size.
    sets : {name: layer specs}, optional
        For files and models: named layer sets; without a `default`, one is chosen by depth.
    like : str, optional
        For models and files of Keras: a network of the zoo that this one is an instance of, such
        as `resnet50` with weights of yours. Its layers are checked (a difference is refused) and
        its preprocessing and layer sets are taken.
    custom_objects : {name: class}, optional
        For files with layers that are not Keras' own.
    **options
        Passed to a registered network: `weights` ("imagenet", a file, or "random"), `random_state`,
        `padding`, …

    Returns
    -------
    Network

    Raises
    ------
    ProtocolError
        An unknown name or option; a network of known activations, which cannot run; a model
        without a stated preprocessing or without a graph.
    DataError
        A file that is not there, damaged, or holds layers that cannot be found.
    FetchError, MissingDependency
        Weights that cannot be had; TensorFlow is not installed.

    Examples
    --------
    >>> network("resnet50", weights="random").choose("yu2018")[0]  # doctest: +SKIP
    'conv1_conv'
    """
    if isinstance(source, Network):
        given = [*options, *(k for k, v in _given(name, preprocessing, sets, like).items() if v)]
        if given:
            raise ProtocolError(
                f"{source.name} is a network already and takes no {', '.join(given)}"
            )
        return source
    held = _given(name, preprocessing, sets, like)
    if _is_keras_model(source):
        _no_options(options, "a keras.Model")
        return _wrapped(source, source.name, f"model '{source.name}'", held)
    if not isinstance(source, (str, Path)):
        raise ProtocolError(
            "a network is a registered name, a file, a Network or a keras.Model, got "
            f"{type(source).__name__}"
        )
    path = Path(source)
    if path.suffix.lower() in _FILES:
        if path.suffix.lower() != ".tflite":
            _no_options(options, str(path))
            model = _load(path, custom_objects)
            return _wrapped(model, path.stem, str(path), held)
        return _tflite(path, held, options)
    if path.exists() and str(source) not in plugins.names("networks"):
        raise ProtocolError(f"{path}: expected a file {', '.join(_FILES)}, or a registered name")
    return _as_network(_made(str(source), held, options), str(source), held)


def _given(name: Any, preprocessing: Any, sets: Any, like: Any) -> dict[str, Any]:
    return {"name": name, "preprocessing": preprocessing, "sets": sets, "like": like}


def _no_options(options: Mapping[str, Any], what: str) -> None:
    if options:
        raise ProtocolError(
            f"{what} takes no {', '.join(options)}; there are: name, preprocessing, sets, like, "
            "custom_objects"
        )


def _is_keras_model(source: Any) -> bool:
    keras = sys.modules.get("keras")  # an object of Keras cannot be there before Keras is
    return keras is not None and isinstance(source, keras.Model)


def registered(
    name: str, options: Mapping[str, Any], preprocessing: Any = None
) -> tuple[Network, Any]:
    """A registered network, and the preprocessing that is still to be set in place of its own.

    A function that returns a `keras.Model` does not say how it takes pictures: there
    `preprocessing` is needed and taken, and None is left. Raises as :func:`network`.
    """
    own = {key: options.get(key) for key in ("name", "preprocessing", "sets", "like")}
    made = _made(name, own, {k: v for k, v in options.items() if k not in own})
    if _is_keras_model(made) and own["preprocessing"] is None:
        own["preprocessing"], preprocessing = preprocessing, None
    return _as_network(made, name, own), preprocessing


def _made(name: str, held: dict[str, Any], options: Mapping[str, Any]) -> Any:
    """What a registered function returns; what it takes of `held` is None there afterwards."""
    maker = plugins.find("networks", name)
    taken = {**options}
    # `preprocessing` and the like go to the network where it knows them, else to the wrapping
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    for key, value in list(held.items()):
        if value is not None and key in parameters:
            taken[key] = value
            held[key] = None
    known = [p.name for p in parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in taken:
        if parameters and not anything and key not in known:
            raise ProtocolError(plugins.unknown(f"option of network {name}", key, known))
    if taken.get("weights") == "random":  # a word for None, which TOML and the shell do not have
        taken["weights"] = None
    return maker(**taken)


def _as_network(made: Any, name: str, held: Mapping[str, Any]) -> Network:
    """The network that a registered function returned; a model of Keras is wrapped."""
    if isinstance(made, Network):
        extra = [key for key, value in held.items() if value is not None]
        if extra:
            raise ProtocolError(f"network {name} takes no {', '.join(extra)}")
        return made
    if _is_keras_model(made):
        return _wrapped(made, name, f"network {name}", held)
    if type(made).__name__ == "DataTree":
        raise ProtocolError(
            f"network {name} is a set of known activations and cannot run; use it where "
            "activations are asked for"
        )
    raise ProtocolError(
        f"network {name}: its function returned {type(made).__name__}, expected a Network or a "
        "keras.Model"
    )


def _wrapped(model: Any, name: str, what: str, held: Mapping[str, Any]) -> Network:
    """A guest's model: its preprocessing is asked for, its layers are checked for `like`."""
    from rsacompare.networks.keras_network import KerasNetwork
    from rsacompare.networks.weights import weights_digest

    name = held["name"] or name
    like, shown, sets = held["like"], held["preprocessing"], held["sets"]
    if like is not None:
        keras_models.row(like)
        if shown is None:
            shown = keras_models.default_preprocessing(like)
    if shown is None:
        raise ProtocolError(
            f"{what} does not say how it takes pictures, and a guess would be wrong in silence: "
            f"pass preprocessing=, a Preprocessing or one of {', '.join(PRESETS)} (tf: -1 to 1; "
            "raw: 0 to 255, for models that rescale inside); or like=NAME for an instance of a "
            "network of the zoo (on the command line: --preprocess NAME, --option like=NAME)"
        )
    if isinstance(shown, str):
        size = tuple(getattr(model, "input_shape", ())[1:3])
        fixed = len(size) == 2 and None not in size
        changes = {"size": size} if fixed and size != as_preprocessing(shown).size else {}
        shown = as_preprocessing(shown, **changes)
    attrs = {"weights": f"of {what}"}
    net = KerasNetwork(model, name, as_preprocessing(shown), sets, attrs)
    if like is not None:
        keras_models.check(net, like, {})
        net.sets = {**(SETS if like == "resnet50" else {}), **net.sets}
    net.attrs = {**net.attrs, "weights_sha256": weights_digest(model)}
    return net


def _load(path: Path, custom_objects: Mapping[str, Any] | None) -> Any:
    """A saved model, without compiling it and without running code from the file."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    keras = engine.keras()
    try:
        return keras.saving.load_model(
            path, custom_objects=dict(custom_objects or {}), compile=False, safe_mode=True
        )
    except Exception as err:  # h5py's, zipfile's and Keras' are of many kinds
        told = " ".join(str(err).split())
        if "Could not locate" in told or "Unknown layer" in told or "Unknown" in told[:12]:
            raise DataError(
                f"{path}: it holds layers that are not Keras' own; pass them: "
                f"custom_objects={{'NAME': CLASS}} ({told[:200]})"
            ) from err
        if "safe_mode" in told or "lambda" in told.lower():
            raise DataError(
                f"{path}: it holds a Lambda layer, that is code, which is not run from a file; "
                "build the model in Python and pass it (keras.config.enable_unsafe_"
                "deserialization() allows it, for files you trust)"
            ) from err
        if "No model config found" in told:
            raise DataError(
                f"{path}: it holds weights without their model; pass them to a network, such as "
                f"network('resnet50', weights='{path.name}')"
            ) from err
        raise DataError(f"{path}: no saved Keras model, or damaged: {told[:300]}") from err


def _tflite(path: Path, held: Mapping[str, Any], options: Mapping[str, Any]) -> Network:
    from rsacompare.networks.tflite import TFLiteNetwork

    if held["like"] is not None:
        raise ProtocolError(f"{path}: like= is for Keras models")
    for key in options:
        if key != "threads":
            known = ["name", "preprocessing", "sets", "threads"]
            raise ProtocolError(plugins.unknown(f"option of {path}", key, known))
    given = {k: v for k, v in held.items() if v is not None}
    if "preprocessing" in given:
        given["preprocessing"] = as_preprocessing(given["preprocessing"])
    return TFLiteNetwork(path, **given, **options)


def _member(name: str, row: Mapping[str, Any]) -> Callable[..., KerasNetwork]:
    """The function that builds a network of the table."""

    def build(
        weights: str | Path | None = "imagenet",
        *,
        random_state: int = 0,
        preprocessing: Any = None,
    ) -> KerasNetwork:
        model, attrs = keras_models.build(name, weights, random_state)
        return keras_models.finished(model, name, attrs, preprocessing)

    build.__name__ = build.__qualname__ = name
    build.__module__ = __name__
    top1 = f"; top-1 {row['imagenet_top1']}%" if "imagenet_top1" in row else ""
    said = f"{row['size']} pixels, {row['n_parameters'] / 1e6:.1f} M weights{top1}"
    build.__doc__ = f"""{row["builder"]} of keras.applications: {said}.

    Parameters
    ----------
    weights : "imagenet", path or None
        Keras' download; a file of weights (`.weights.h5`, `.h5`, `.npz`); random.
    random_state : int
        Of random weights.
    preprocessing : Preprocessing or name, optional
        By default squashed by nearest neighbour to the network's size, and its own scaling.
    """
    return build


globals().update(
    {
        name: _member(name, row)
        for name, row in keras_models.table().items()
        if name != "resnet50"  # has options of its own: rsacompare.networks.resnet
    }
)
