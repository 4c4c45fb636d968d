"""Seed streams, bootstrap multiplicities, permutations, folds and halves.

Every stream is named, never numbered in the order of use: the same seed and the same name give
the same draws whatever else is computed, in whatever order, on however many workers.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import numpy as np


def as_seed(random_state: int | None) -> int:
    """The seed itself, or fresh entropy for None (to be stored with the results)."""
    if random_state is None:
        return secrets.randbits(63)
    if isinstance(random_state, bool) or int(random_state) != random_state or random_state < 0:
        raise ValueError(f"random_state must be a whole number from 0, got {random_state!r}")
    return int(random_state)


def stream(random_state: int, *names: Any) -> np.random.Generator:
    """A generator of its own for `names` (strings, numbers, arrays of strings).

    Examples
    --------
    >>> bool(stream(0, "stimuli").random() == stream(0, "stimuli").random())
    True
    >>> bool(stream(0, "stimuli").random() == stream(0, "subjects").random())
    False
    """
    state = hashlib.blake2b(digest_size=16)
    for name in names:
        part = "\1".join(map(str, name)) if isinstance(name, (np.ndarray, list, tuple)) else name
        state.update(str(part).encode() + b"\0")
    words = np.frombuffer(state.digest(), dtype=np.uint32).tolist()
    return np.random.default_rng(np.random.SeedSequence([as_seed(random_state), *words]))


def multiplicities(rng: np.random.Generator, n: int, n_draws: int) -> np.ndarray:
    """How often each of `n` levels stands in each bootstrap draw: (draw, level), rows sum to n."""
    out = np.empty((n_draws, n))
    rows = max(1, 1_000_000 // n)  # a constant block: draws never depend on memory
    for start in range(0, n_draws, rows):
        stop = min(start + rows, n_draws)
        index = rng.integers(n, size=(stop - start, n)) + n * np.arange(stop - start)[:, None]
        out[start:stop] = np.bincount(index.ravel(), minlength=(stop - start) * n).reshape(-1, n)
    return out


def permutations(
    rng: np.random.Generator,
    n: int,
    n_draws: int,
    fold: np.ndarray | None = None,
    block: np.ndarray | None = None,
    inside: bool = False,
) -> np.ndarray:
    """Random orders of `n` stimuli, within folds where given: (draw, stimulus) intp.

    With `block` (stimulus,) whole blocks change places and what is inside keeps its order, as
    time points need that follow each other: only blocks of one length (in one fold) can, so that
    every order is equally likely. A block whose length no other has stays where it is. With
    `inside` the stimuli within each block are shuffled too, as those of a category may be.
    """
    out = np.tile(np.arange(n), (n_draws, 1))
    groups = np.zeros(n, dtype=int) if fold is None else np.asarray(fold)
    if block is not None:
        for place in _equal_blocks(groups, np.asarray(block)):
            order = rng.permuted(np.tile(np.arange(len(place)), (n_draws, 1)), axis=1)
            moved = place[order]
            moved = rng.permuted(moved, axis=2) if inside else moved
            out[:, place.ravel()] = moved.reshape(n_draws, -1)
        return out
    for label in np.unique(groups):
        place = np.flatnonzero(groups == label)
        out[:, place] = rng.permuted(np.tile(place, (n_draws, 1)), axis=1)
    return out


def _equal_blocks(fold: np.ndarray, block: np.ndarray) -> list[np.ndarray]:
    """Places of the stimuli of blocks of one fold and length: (block, stimulus) for each such."""
    found: dict[tuple[Any, int], list[np.ndarray]] = {}
    for label in np.unique(block):
        inside = np.flatnonzero(block == label)
        for part in np.unique(fold[inside]):
            place = inside[fold[inside] == part]
            found.setdefault((part, len(place)), []).append(place)
    return [np.array(places) for places in found.values()]


def contiguous_folds(n: int, n_folds: int) -> np.ndarray:
    """Fold number per stimulus, runs of neighbours of near-equal size: (stimulus,) int.

    Where the folds do not divide `n`, the first ones hold one more.

    Examples
    --------
    >>> contiguous_folds(7, 3).tolist()
    [0, 0, 0, 1, 1, 2, 2]
    """
    if not 2 <= n_folds <= n:
        raise ValueError(f"n_folds must lie between 2 and the {n} stimuli, got {n_folds}")
    return np.repeat(np.arange(n_folds), [len(p) for p in np.array_split(np.arange(n), n_folds)])


def folds(stimulus_id: np.ndarray, n_folds: int, random_state: int) -> np.ndarray:
    """Fold number per stimulus, near-equal sizes; it depends on the seed and the labels alone.

    Parameters
    ----------
    stimulus_id : (stimulus,) str, unique
    n_folds : int
        From 2 to the number of stimuli.
    random_state : int

    Returns
    -------
    (stimulus,) int
    """
    n = len(stimulus_id)
    if not 2 <= n_folds <= n:
        raise ValueError(f"n_folds must lie between 2 and the {n} stimuli, got {n_folds}")
    order = np.argsort(stimulus_id, kind="stable")
    out = np.empty(n, dtype=int)
    shuffled = stream(random_state, "folds", stimulus_id[order]).permutation(n)
    out[order] = np.argsort(shuffled) % n_folds
    return out


def halves(
    rng: np.random.Generator,
    n: int,
    n_splits: int,
    fold: np.ndarray | None = None,
    block: np.ndarray | None = None,
) -> np.ndarray:
    """Repeated splits of `n` levels in two: (split, level) bool, True for the first half.

    Where `fold` is given every fold is halved, so that both halves can be centred within folds.
    With `block` (level,) whole blocks fall into a half (those across folds by their first level).
    """
    if block is not None:
        _, first, member = np.unique(block, return_index=True, return_inverse=True)
        own = None if fold is None else np.asarray(fold)[first]
        return halves(rng, len(first), n_splits, own)[:, member]
    out = np.zeros((n_splits, n), dtype=bool)
    groups = np.zeros(n, dtype=int) if fold is None else np.asarray(fold)
    for split in range(n_splits):
        for label in np.unique(groups):
            place = rng.permutation(np.flatnonzero(groups == label))
            # which half gets the odd one out is itself a matter of chance
            size = (len(place) + int(rng.integers(2))) // 2
            out[split, place[:size]] = True
    return out
