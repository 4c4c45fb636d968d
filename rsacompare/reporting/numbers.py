"""Numbers and lists as a reader wants them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MISSING = "–"


def number(value: float, signed: bool = False) -> str:
    """Three decimals (fewer for large values), a true minus sign, a dash for NaN.

    Examples
    --------
    >>> number(-0.01234), number(0.5, signed=True), number(float("nan")), number(71.257)
    ('−0.012', '+0.500', '–', '71.26')
    >>> number(43894.46)
    '43,894'
    """
    if not np.isfinite(value):
        return MISSING
    size = abs(value)
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
    text = f"{value:,.{decimals}f}"
    if not text.strip("-0."):  # rounding must not leave "-0.000", nor the sign of a zero
        text = text.lstrip("-")
        signed = False
    text = f"+{text}" if signed and value > 0 else text
    return text.replace("-", "−")


def interval(low: float, high: float) -> str:
    """Both ends in square brackets.

    Examples
    --------
    >>> interval(-0.1, 0.25)
    '[−0.100, 0.250]'
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return MISSING
    return f"[{number(low)}, {number(high)}]"


def p_value(p: float, n_permutations: int | None = None) -> str:
    """A p value, never 0: a permutation p cannot be known below 1/(B+1).

    Parameters
    ----------
    p : float
    n_permutations : int, optional
        B, where p counts permutations.

    Examples
    --------
    >>> p_value(0.0421), p_value(0.00031), p_value(1e-9), p_value(0.0, 999), p_value(0.9997)
    ('0.042', '0.0003', '< 0.0001', '< 0.001', '> 0.999')
    """
    if not np.isfinite(p):
        return MISSING
    floor = 1e-4 if n_permutations is None else 1 / (n_permutations + 1)
    if p < floor * (1 - 1e-9):
        return f"< {float(f'{floor:.1g}'):.10f}".rstrip("0")
    if p > 0.9995:
        return "> 0.999" if p < 1 else "1"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}" if p >= 1e-4 else f"{p:.0e}"


def bayes_factor(value: float) -> str:
    """Three digits, in powers of ten where it is far from 1.

    Examples
    --------
    >>> bayes_factor(17.185), bayes_factor(0.2871), bayes_factor(63.96), bayes_factor(122.4)
    ('17.2', '0.287', '64.0', '122')
    >>> bayes_factor(3.2e8), bayes_factor(float("nan"))
    ('3e+08', '–')
    """
    if np.isnan(value):
        return MISSING
    if not 1e-3 <= value < 1e4:
        return f"{value:.0e}".replace("-", "−")
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def listing(items: Sequence[Any], most: int = 12) -> str:
    """Words in a row.

    Examples
    --------
    >>> listing(["V1"]), listing(["V1", "V2"]), listing(["V1", "V2", "V3"])
    ('V1', 'V1 and V2', 'V1, V2 and V3')
    >>> listing(list("abcdef"), most=3)
    'a, b, c and 3 more'
    """
    words = [str(i) for i in items]
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    Examples
    --------
    >>> counted(1, "ROI"), counted(3, "ROI"), counted(10000, "draw")
    ('1 ROI', '3 ROIs', '10,000 draws')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def said_once(notes: list[str], metrics: list[str]) -> list[str]:
    """Notes that several metrics share word for word, said once with all their names.

    Examples
    --------
    >>> said_once(["rsa, model: poor.", "few people.", "cka, model: poor."], ["rsa", "cka"])
    ['rsa and cka, model: poor.', 'few people.']
    """
    found: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        own = [m for m in metrics if note.startswith((f"{m}: ", f"{m}, "))]
        name = max(own, key=len, default="")
        found.setdefault((note[len(name) :], "" if name else note), []).append(name)
    return [
        f"{listing(list(dict.fromkeys(names)))}{rest}" if names[0] else rest
        for (rest, _), names in found.items()
    ]


def by_value(values: Mapping[str, Any]) -> str:
    """Equal values said once, with the keys they belong to where they are not all equal.

    Examples
    --------
    >>> by_value({"V1": 4, "V2": 4}), by_value({"EVC": 14, "IT": 14, "hIT": 3})
    ('4', '14 (EVC and IT) and 3 (hIT)')
    """
    groups: dict[Any, list[str]] = {}
    for key, value in values.items():
        groups.setdefault(value, []).append(key)
    if len(groups) == 1:
        return str(next(iter(groups)))
    return listing([f"{value} ({listing(keys)})" for value, keys in groups.items()])


def shorten(text: str, most: int) -> str:
    """A long name with its middle left out.

    Examples
    --------
    >>> shorten("conv5_block3_out_relu", 12)
    'conv5…t_relu'
    """
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def shorten_apart(texts: Sequence[str], most: int) -> list[str]:
    """Names shortened so that different ones stay different, where that can be.

    Examples
    --------
    >>> shorten_apart(["Conv2d_11_pointwise", "Conv2d_13_pointwise"], 12)
    ['Conv2d_11_p…', 'Conv2d_13_p…']
    """
    apart = len(set(texts))
    ways = (
        [shorten(text, most) for text in texts],
        [text if len(text) <= most else f"{text[: most - 1]}…" for text in texts],
        [text if len(text) <= most else f"…{text[len(text) - most + 1 :]}" for text in texts],
    )
    return next((way for way in ways if len(set(way)) == apart), ways[0])


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the end that all of them share, from its first `_`, `.` or `-` on.

    Examples
    --------
    >>> short_names(["b1_out_relu", "b2_out_relu"]), short_names(["fc6", "fc7"])
    (['b1', 'b2'], ['fc6', 'fc7'])
    """
    n = 0
    while n < min(map(len, names)) and len({name[len(name) - n - 1] for name in names}) == 1:
        n += 1
    start = re.search(r"[_.\-]", names[0][len(names[0]) - n :])
    if len(names) < 2 or not start:
        return list(names)
    return [name[: len(name) - n + start.start()] or name for name in names]


def short_labels(labels: Sequence[str], groups: Sequence[str], most: int) -> list[str]:
    """Labels without what all of a group share: `net/` in front, `_out_relu` behind.

    Examples
    --------
    >>> short_labels(["n/b1_out_relu", "n/b2_out_relu", "V1"], ["n", "n", "brain"], 18)
    ['b1', 'b2', 'V1']
    """
    short = [
        s[len(g) + 1 :] if s.startswith(f"{g}/") else s for s, g in zip(labels, groups, strict=True)
    ]
    for group in set(groups):
        members = [i for i, g in enumerate(groups) if g == group]
        apart = shorten_apart(short_names([short[i] for i in members]), most)
        for i, name in zip(members, apart, strict=True):
            short[i] = name
    return short
