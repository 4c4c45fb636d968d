"""Find a metric, data set or network by entry point, by registration or as the object itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

from rsacompare.errors import ProtocolError

GROUPS = ("metrics", "datasets", "networks", "stimuli")
_ONE = {
    "metrics": "metric",
    "datasets": "dataset",
    "networks": "network",
    "stimuli": "stimulus set",
}
_registered: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}


def register(group: str, name: str, plugin: Any) -> None:
    """Make `plugin` known as `name` in this process.

    Parameters
    ----------
    group : {"metrics", "datasets", "networks", "stimuli"}
    name : str
    plugin : object
        A metric class, or a function that loads a data set, a network or a set of pictures.

    Raises
    ------
    ProtocolError
        When another plugin, registered or installed, already has the name.
    """
    known = _registered[group].get(name)
    origins = [e.value.replace(":", ".") for e in _entry_points(group) if e.name == name]
    if known is not None and known is not plugin:
        origins.append(_origin(known))
    for origin in origins:
        if origin != _origin(plugin):
            raise ProtocolError(
                f"{_ONE[group]} '{name}' is registered already, by {origin}; choose another name"
            )
    _registered[group][name] = plugin


def _origin(plugin: Any) -> str:
    """Module and name: the same class defined again (a notebook cell run twice) is no conflict."""
    return f"{getattr(plugin, '__module__', '?')}.{getattr(plugin, '__qualname__', plugin)}"


def names(group: str) -> list[str]:
    """All names known in a group, sorted."""
    return sorted({*_registered[group], *(e.name for e in _entry_points(group))})


def find(group: str, name: str) -> Any:
    """The plugin called `name`.

    Raises
    ------
    ProtocolError
        When there is none: the message lists what there is and the nearest spelling. When two
        installed packages offer the same name.
    """
    if name in _registered[group]:
        return _registered[group][name]
    offered = {entry.value: entry for entry in _entry_points(group) if entry.name == name}
    if len(offered) > 1:
        raise ProtocolError(
            f"{_ONE[group]} '{name}' is offered by several installed packages, as "
            f"{' and '.join(sorted(offered))}; uninstall all but one, or have the guest renamed"
        )
    for entry in offered.values():
        return entry.load()
    raise ProtocolError(unknown(_ONE[group], name, names(group)))


def _entry_points(group: str) -> Any:
    return entry_points(group=f"rsacompare.{group}")


def described(group: str) -> list[str]:
    """Name and first line of the docstring of each plugin of a group."""
    import inspect

    docs = {}
    for name in names(group):
        try:
            docs[name] = (inspect.getdoc(find(group, name)) or "").split("\n")[0]
        except Exception as err:  # a guest's broken plugin hides no other
            docs[name] = f"(cannot be loaded: {type(err).__name__}: {err})"
    width = max(map(len, docs), default=0)
    return [f"{name:<{width}}  {doc}".rstrip() for name, doc in docs.items()]


def unknown(what: str, name: object, known: Iterable[object]) -> str:
    """The sentence for a name that does not exist: nearest spelling, then all there are.

    Examples
    --------
    >>> unknown("roi", "V1x", ["V1", "LOC"])
    "unknown roi 'V1x'; did you mean 'V1'? There are: V1, LOC"
    """
    options = [str(k) for k in known]
    lower = {k.lower(): k for k in reversed(options)}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    hint = f"; did you mean '{lower[close[0]]}'?" if close else "."
    listed = ", ".join(options[:40]) + (", …" if len(options) > 40 else "")
    return f"unknown {what} '{name}'{hint} There are: {listed or 'none'}"
