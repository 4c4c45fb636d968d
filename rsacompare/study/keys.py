"""Keys and options of a study file: checked against signatures, complaints in one sentence."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from rsacompare import plugins
from rsacompare.errors import ProtocolError, RsacompareError


def check_options(what: str, factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options checked by name and type against the signature of what takes them.

    Parameters
    ----------
    what : str
        For the message: `metric rsa`.
    factory : callable
        A metric class or a loader function.
    options : mapping
        As TOML gives them.

    Returns
    -------
    dict
        The same, a list as a tuple and a whole number as a float where the annotation says so.

    Raises
    ------
    ProtocolError
        An option that `factory` does not take, or of another type than its annotation; one that
        it needs and was not given.

    Examples
    --------
    >>> def loader(size: float = 1.0): ...
    >>> check_options("data set x", loader, {"size": 2})
    {'size': 2.0}
    """
    if not callable(factory):
        return dict(options)
    parameters = inspect.signature(factory).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [
        k for k, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    types = _annotations(factory)
    checked = {}
    for option, value in options.items():
        if option not in known and not open_ended:
            raise ProtocolError(plugins.unknown(f"option of {what}", option, known))
        checked[option] = value
        if option in types:
            try:
                # through JSON, where an array may be strictly a list or a tuple
                text = json.dumps(value, default=str)
                valid = TypeAdapter(types[option]).validate_json(text, strict=True)
                # pydantic checks an Iterable only while it is read
                checked[option] = list(valid) if isinstance(valid, Iterator) else valid
            except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
                continue  # an annotation that pydantic cannot check: the factory has to
            except ValidationError:
                wanted = inspect.formatannotation(types[option])
                raise ProtocolError(
                    f"option '{option}' of {what}: expected {wanted}, got {_shown(value)}"
                ) from None
    needed = [
        k for k in known if parameters[k].default is inspect.Parameter.empty and k not in checked
    ]
    if needed:
        raise ProtocolError(f"{what} needs the option {' and '.join(map(repr, needed))}")
    return checked


def paths(factory: Any) -> set[str]:
    """Options that take a path by their annotation: relative ones start at the study file."""
    types = _annotations(factory) if callable(factory) else {}
    return {k for k, kind in types.items() if kind is Path or Path in typing.get_args(kind)}


def _annotations(factory: Callable[..., Any]) -> dict[str, Any]:
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError):
        return {}


@contextmanager
def at(where: str) -> Iterator[None]:
    """Put the place in the study file before the message of an error raised inside."""
    try:
        yield
    except RsacompareError as err:
        if str(err).startswith(f"{where}: "):
            raise
        raise type(err)(f"{where}: {err}") from err


_TABLE_DEPTH = {"brain": 2, "networks": 2, "metrics": 2, "inference": 1}
_TABLE_DEPTH |= {"partition": 1, "searchlight": 1, "sensitivity": 1, "baselines": 1}


def place(file: object, keys: Sequence[object]) -> str:
    """`STUDY.toml, [metrics.rsa] distance` from ("metrics", "rsa", "distance")."""
    words = [f"item {k + 1}" if isinstance(k, int) else str(k) for k in keys]
    words = [w for w in words if not w.startswith("constrained-")]  # a branch of a union
    depth = _TABLE_DEPTH.get(words[0], 0) if words else 0
    table = f"[{'.'.join(words[:depth])}]" if depth else ""
    rest = ", ".join(words[depth:])
    return ", ".join(part for part in (str(file), f"{table} {rest}".strip()) if part)


_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a pair",
    "dict_type": "a table",
    "model_type": "a table",
    "string_too_short": "some text",
}


def sentence(file: Path, error: ValidationError, tables: Mapping[str, Sequence[str]]) -> str:
    """The first of pydantic's errors as one sentence.

    Parameters
    ----------
    file : Path
    error : ValidationError
    tables : {table: its keys}
        "" for the top of the file.
    """
    problems = error.errors(include_url=False)
    # a misspelt key comes first: it is why another one is missing
    problem = min(problems, key=lambda p: p["type"] != "extra_forbidden")
    keys, kind = problem["loc"], problem["type"]
    where = place(file, keys)
    if kind == "extra_forbidden":
        known = tables[str(keys[0]) if len(keys) > 1 else ""]
        text = f"{place(file, keys[:-1])}: {plugins.unknown('key', keys[-1], known)}"
        if "options" in known:
            text += f" (options of the loader itself: options = {{ {keys[-1]} = … }})"
    elif kind == "missing":
        alike = [p for p in problems if p["type"] == kind and p["loc"][:-1] == keys[:-1]]
        missing = " and ".join(f"'{p['loc'][-1]}'" for p in alike)
        text = f"{place(file, keys[:-1])}: {missing} {'is' if len(alike) == 1 else 'are'} missing"
        problems = [problem, *(p for p in problems if p not in alike)]
    elif kind == "value_error":
        text = f"{where}: {problem['ctx']['error']}"
    else:
        wanted = _WANTED.get(kind) or problem["msg"].removeprefix("Input should be ")
        if kind == "too_short":
            wanted = f"{problem['ctx']['min_length']} or more"
        text = f"{where}: expected {wanted}, got {_shown(problem['input'])}"
    more = len(problems) - 1
    return text + (f" (and {more} more to mend)" if more else "")


def _shown(value: Any) -> str:
    kinds = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    kinds |= {list: "a list", dict: "a table"}
    return f"{value!r} ({kinds.get(type(value), type(value).__name__)})"
