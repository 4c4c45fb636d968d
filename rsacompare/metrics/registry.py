"""Metrics by name, object or decorated function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.metrics.evidence import Evidence, Meaning, Metric

_DECORATED = "_rsacompare_metric"


def metric(name: str, **options: Any) -> Metric:
    """Make a metric by its registered name.

    Parameters
    ----------
    name : str
        See ``rsacompare list metrics``.
    **options
        Its configuration, for instance ``distance="euclidean"``.

    Raises
    ------
    ProtocolError
        Unknown name or option.

    Examples
    --------
    >>> metric("rsa", comparator="cosine").comparator
    'cosine'
    """
    factory = find_metric(name)
    if isinstance(factory, Metric):
        if options:
            raise ProtocolError(f"metric '{name}' takes no options; got {', '.join(options)}")
        return factory
    known = [p for p in inspect.signature(factory).parameters if p != "self"]
    for option in options:
        if option not in known:
            raise ProtocolError(plugins.unknown(f"option of metric {name}", option, known))
    made = factory(**options)
    if not isinstance(made, Metric):
        raise ProtocolError(
            f"metric '{name}' made a {type(made).__name__}, not a rsacompare.Metric"
        )
    return made


def find_metric(name: str) -> Any:
    """What makes the metric of a name: a class, a function that returns one, or the metric itself.

    A function ``(activation, response) -> Evidence`` that an entry point names is a metric as it
    is, decorated or not.

    Raises
    ------
    ProtocolError
        Unknown name.
    """
    found = plugins.find("metrics", name)
    if not inspect.isfunction(found):
        return found
    if (decorated := getattr(found, _DECORATED, None)) is not None:
        return decorated
    parameters = inspect.signature(found).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return FunctionMetric(found, name) if len(needed) == 2 else found


def register_metric(
    name: str, *, meaning: Meaning | None = None, accepts: tuple[str, ...] | None = None
) -> Callable[[Any], Any]:
    """Decorate a Metric class, or a function ``(activation, response) -> Evidence``.

    Parameters
    ----------
    name : str
        How studies and tables call it.
    meaning : Meaning, optional
        What the number means, where it is not a correlation with chance 0; for a class, in place
        of its own.
    accepts : tuple of str, optional
        Its inputs, default ``("activation", "response")`` or those of the class.

    Examples
    --------
    >>> import rsacompare as rc
    >>> @rc.register_metric("first_unit")
    ... def first_unit(activation, response):
    ...     ids, brain, _, _ = rc.average_repetitions(response)
    ...     unit = activation.sel(stimulus_id=ids).values[:, :1]
    ...     return rc.TargetEvidence(ids, brain[:, :1], unit)
    >>> rc.metric("first_unit").name
    'first_unit'
    """
    if not isinstance(name, str):
        raise ProtocolError('the decorator needs a name: @rsacompare.register_metric("mine")')

    def decorate(thing: Any) -> Any:
        if inspect.isclass(thing):
            given: dict[str, Any] = {}
            if meaning is not None or not hasattr(thing, "meaning"):
                given["meaning"] = meaning or Meaning(name)
            if accepts is not None:
                given["accepts"] = frozenset(accepts)
            if not hasattr(thing, "name"):
                given["name"] = name
            plugins.register("metrics", name, thing)
            for attribute, value in given.items():
                setattr(thing, attribute, value)
        else:
            made = FunctionMetric(thing, name, meaning, accepts)
            plugins.register("metrics", name, made)
            setattr(thing, _DECORATED, made)  # an entry point may name the function
        return thing

    return decorate


class FunctionMetric(Metric):
    """A metric that is one function of two labelled arrays."""

    def __init__(
        self,
        function: Callable[[Any, Any], Evidence],
        name: str,
        meaning: Meaning | None = None,
        accepts: tuple[str, ...] | None = None,
    ):
        self._function = function
        self.name = name
        self.meaning = meaning or Meaning(name)
        self.accepts = frozenset(accepts or ("activation", "response"))
        self.__module__, self.__qualname__ = function.__module__, function.__qualname__

    def compare(self, activation: Any, response: Any) -> Evidence:
        return self._function(activation, response)

    def config(self) -> dict[str, Any]:
        try:
            source = inspect.getsource(self._function)
        except OSError:
            source = self._function.__qualname__
        return {"function": self._function.__qualname__, "source": source}


def as_metrics(metrics: Any) -> dict[str, Metric]:
    """Names, objects or {label: name or object} as {label: Metric}.

    Raises
    ------
    ProtocolError
        Two metrics of one label; something that is no metric.
    """
    if isinstance(metrics, (str, Metric)):
        metrics = [metrics]
    if isinstance(metrics, dict):
        items = list(metrics.items())
    else:
        items = [(m if isinstance(m, str) else getattr(m, "name", repr(m)), m) for m in metrics]
    made: dict[str, Metric] = {}
    for label, thing in items:
        if label in made:
            raise ProtocolError(f"two metrics are called '{label}'; pass a dict with two labels")
        made[label] = metric(thing) if isinstance(thing, str) else thing
        if not isinstance(made[label], Metric):
            raise ProtocolError(_no_metric(label, thing))
        if not hasattr(made[label], "meaning"):
            raise ProtocolError(
                f"metric '{label}' does not say what its number means: give {type(thing).__name__} "
                'a class attribute, meaning = rsacompare.Meaning("…")'
            )
    if not made:
        raise ProtocolError(f"no metrics given; there are {', '.join(plugins.names('metrics'))}")
    return made


def _no_metric(label: str, thing: Any) -> str:
    if isinstance(thing, dict):
        options = ", ".join(f"{k}={v!r}" for k, v in thing.items())
        example = f"rsacompare.metric('{label}'{', ' if options else ''}{options})"
        return f"'{label}' is a dict, not a metric; options are given by {example}"
    if inspect.isclass(thing) and issubclass(thing, Metric):
        return f"'{label}' is the class {thing.__name__}; pass an object of it, {thing.__name__}(…)"
    if inspect.isfunction(thing):
        return f"'{label}' is a function; decorate it with register_metric and pass its name"
    return f"'{label}' is no rsacompare.Metric but {type(thing).__name__}"
