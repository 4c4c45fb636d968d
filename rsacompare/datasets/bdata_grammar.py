"""Columns of a BData matrix by words: the selection grammar of bdpy (FACTS 1.3)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

import numpy as np

from rsacompare import plugins
from rsacompare.errors import ProtocolError


def select_columns(keys: Mapping[str, np.ndarray], expression: str) -> np.ndarray:
    """Columns of a BData matrix by the selection grammar of bdpy.

    `V1`, `ROI_V1` and `ROI_V1 = 1` are the same; `|` or `+` is union, `&` intersection, `-`
    difference, all of one rank and read from the left; parentheses group; `*` stands for any
    text (`ROI_*` is the union of all such keys); quotes protect operators inside a key. NaN is
    never selected.

    Parameters
    ----------
    keys : {key: (column,) array}
    expression : str

    Returns
    -------
    ndarray (column,) bool

    Raises
    ------
    ProtocolError
        An unknown key, an expression that cannot be read.

    Notes
    -----
    Two differences from bdpy 0.26: nested parentheses are read as written (there, a closing one
    closes all), and `key = 2` compares the values (there, whether the key is 1). Its ranking
    (`top`, `@`) is not offered.

    Examples
    --------
    >>> import numpy as np
    >>> keys = {"ROI_V1": np.array([1, 0, 1, np.nan]), "ROI_V2": np.array([0, 1, 1, np.nan])}
    >>> select_columns(keys, "V1 - V2").tolist()
    [True, False, False, False]
    """
    tokens = _tokens(expression)
    mask, at = _chain(keys, expression, tokens, 0)
    if at != len(tokens):
        raise _unreadable(expression, f"'{tokens[at][1]}' closes nothing")
    return mask


def _tokens(expression: str) -> list[tuple[str, str]]:
    """(kind, text), kind "sign" or "word"; blanks count for nothing, as in bdpy."""
    tokens: list[tuple[str, str]] = []
    pattern = re.compile(r"""\s*(?:([()=|&+\-@])|((?:"[^"]*"|'[^']*'|[^()=|&+\-@"'])+))""")
    text = expression.rstrip()
    at = 0
    while at < len(text):
        found = pattern.match(text, at)
        if not found:
            raise _unreadable(expression, "a quote is not closed")
        if found[1]:
            tokens.append(("sign", found[1]))
        else:
            parts = re.findall(r"\"([^\"]*)\"|'([^']*)'|([^\"']+)", found[2])
            word = "".join(a or b or c.replace(" ", "") for a, b, c in parts)
            if not word:
                raise _unreadable(expression, "an empty key")
            tokens.append(("word", word))
        at = found.end()
    return tokens


def _chain(
    keys: Mapping[str, np.ndarray], expression: str, tokens: list[tuple[str, str]], at: int
) -> tuple[np.ndarray, int]:
    """Terms joined by operators, from the left, up to the end or a closing parenthesis."""
    mask, at = _term(keys, expression, tokens, at)
    while at < len(tokens) and tokens[at] != ("sign", ")"):
        kind, sign = tokens[at]
        if kind != "sign" or sign not in "|+&-":
            raise _unreadable(expression, f"'{sign}' where | + & or - should stand")
        other, at = _term(keys, expression, tokens, at + 1)
        if sign in "|+":
            mask = mask | other
        else:
            mask = mask & (other if sign == "&" else ~other)
    return mask, at


def _term(
    keys: Mapping[str, np.ndarray], expression: str, tokens: list[tuple[str, str]], at: int
) -> tuple[np.ndarray, int]:
    if at == len(tokens):
        raise _unreadable(expression, "a key is missing at its end")
    kind, text = tokens[at]
    if (kind, text) == ("sign", "("):
        mask, at = _chain(keys, expression, tokens, at + 1)
        if at == len(tokens):
            raise _unreadable(expression, "a parenthesis is not closed")
        return mask, at + 1
    if kind == "sign":
        raise _unreadable(expression, f"'{text}' where a key should stand")
    value, at = 1.0, at + 1
    if at < len(tokens) and tokens[at] == ("sign", "="):
        number = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if not re.fullmatch(r"\d+(\.\d*)?", number):
            raise _unreadable(expression, f"'{number}' where a number should stand after '='")
        value, at = float(number), at + 2
    return np.any([keys[key] == value for key in _matching(keys, text)], axis=0), at


def _matching(keys: Mapping[str, np.ndarray], pattern: str) -> list[str]:
    """Keys that a word names: itself, else with `ROI_` before it."""
    for text in (pattern, f"ROI_{pattern}"):
        glob = "*".join(re.sub(r"([\[\]?])", r"[\1]", part) for part in text.split("*"))
        found = [key for key in keys if fnmatch.fnmatchcase(key, glob)]
        if found:
            return found
    raise ProtocolError(plugins.unknown("key", pattern, keys))


def _unreadable(expression: str, why: str) -> ProtocolError:
    return ProtocolError(f"selection '{expression}' cannot be read: {why}")
