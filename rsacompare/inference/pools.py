"""What is drawn and permuted: single stimuli, blocks of time, or categories.

Stimuli that follow each other in time are exchanged in blocks, whatever was asked for. Where
stimuli are nested in categories (eight pictures of each of twenty kinds), two pictures of one kind
resemble each other in network and brain alike, for reasons that another sample of kinds would not
share: chance is then that of the categories, and single stimuli make nulls and intervals too
narrow. With `exchange`

- ``auto``: categories where the scored stimuli are nested in them in a balanced way, every category
  with the same number of two stimuli at least, and there are `FEWEST` categories at least, so that
  orders are plenty; otherwise single stimuli, with the reason on the pages where any category has
  several;
- ``categories``: always (unknown ones, or fewer than three, are an error);
- ``stimuli``: single ones.

The bootstrap then draws categories whole, halves hold whole categories, and categories are the
levels that are counted. Permutations move categories of one size as wholes *and* shuffle the
stimuli inside each: under the null of nested sampling (categories at random, stimuli at random
within their category) the joint distribution is invariant to just that group of orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import factorial, prod

import numpy as np

from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import resample
from rsacompare.metrics.evidence import Evidence
from rsacompare.schema.results import Cell

Key = tuple[str, ...]
FEWEST = 8  # categories; 8! orders of these alone
FEW_ORDERS = 200  # of blocks; with fewer, p = .01 is out of reach or nearly so
BLOCKS, CATEGORIES = "time blocks", "categories"


@dataclass(frozen=True)
class Pool:
    """The stimuli of all cells of an ROI that share any, directly or through others.

    A stimulus has one multiplicity, one place in a permutation and one half of a split, in
    whatever order a cell holds its stimuli and whichever of the others it lacks: what two
    subjects saw is one stimulus, and its chance is shared.

    Attributes
    ----------
    ids : (member,) str
        Sorted.
    own : (stimulus,) int
        Where the stimuli of a key stand among the members.
    whole : bool
        True when every cell of the pool has all of its stimuli.
    level : (member,) int or None
        The time block or category of each member where these, not single stimuli, are the levels
        of chance.
    kind : {"", "time blocks", "categories"}
        What the levels are.
    declined : str
        Why categories that are known are not the levels.
    """

    ids: np.ndarray
    own: np.ndarray
    whole: bool
    level: np.ndarray | None = None
    kind: str = ""
    declined: str = ""

    @property
    def n_levels(self) -> int:
        """How many there are to draw: members, or blocks or categories of these."""
        return len(self.ids) if self.level is None else int(self.level.max()) + 1

    @property
    def own_level(self) -> np.ndarray:
        """The level of each stimulus of the key: (stimulus,) int."""
        return self.own if self.level is None else self.level[self.own]

    def multiplicities(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Bootstrap draws of the key's stimuli: (draw, stimulus)."""
        drawn = resample.multiplicities(rng, self.n_levels, size)
        return np.take(drawn, self.own_level, axis=1)

    def permutations(
        self, rng: np.random.Generator, size: int, fold: np.ndarray | None
    ) -> np.ndarray:
        """Orders of all members, inside the folds where there are any: (perm, member)."""
        inside = self.kind == CATEGORIES
        return resample.permutations(rng, len(self.ids), size, fold, self.level, inside)

    def own_permutations(
        self, rng: np.random.Generator, size: int, fold: np.ndarray | None
    ) -> np.ndarray:
        """Orders of the key's own stimuli alone: (perm, stimulus)."""
        level = None if self.level is None else self.level[self.own]
        inside = self.kind == CATEGORIES
        return resample.permutations(rng, len(self.own), size, fold, level, inside)

    def fold(self, fold: np.ndarray | None) -> np.ndarray | None:
        """The key's folds in the order of the members; None where cells lack some of these."""
        return None if fold is None or not self.whole else fold[np.argsort(self.own)]

    def restrict(self, orders: np.ndarray) -> np.ndarray:
        """Permutations of the members as permutations of the key's stimuli: (perm, stimulus).

        A stimulus goes where its member goes; past members that the key lacks, on to where those
        go. Every order of the key's stimuli stays equally likely.
        """
        place = np.full(len(self.ids), -1)
        place[self.own] = np.arange(len(self.own))
        to = np.take(orders, self.own, axis=1)
        while (outside := place[to] < 0).any():
            to = np.where(outside, np.take_along_axis(orders, to, axis=1), to)
        return place[to]


def stimulus_key(evidence: Evidence, pool: Pool) -> Key:
    """Cells of equal keys share their draws."""
    fold = () if evidence.fold is None else ("folds", *map(str, evidence.fold.tolist()))
    level = () if pool.level is None else (pool.kind, *map(str, pool.level.tolist()))
    return (*_ids(evidence), *fold, *level, *(() if pool.whole else ("of", *pool.ids.tolist())))


def pools(cells: Iterable[Cell], evidence: Iterable[Evidence], exchange: str) -> list[Pool]:
    """Each cell's pool: the sets of stimuli of one ROI are joined where they overlap.

    Raises
    ------
    DataError
        A stimulus in two time blocks.
    ProtocolError
        Categories were asked for and cannot be had.
    """
    cells, evidence = list(cells), list(evidence)
    keyed = [(c.roi, _ids(e)) for c, e in zip(cells, evidence, strict=True)]
    held = list({k: e for k, e in zip(keyed, evidence, strict=True)}.items())
    block, category = _blocks(held), _categories(held)
    folded: dict[tuple[str, Key], list[np.ndarray]] = {}
    for key, e in zip(keyed, evidence, strict=True):
        if e.fold is not None:
            folded.setdefault(key, []).append(np.asarray(e.fold))
    joined: dict[str, list[set[str]]] = {}
    for roi, ids in dict.fromkeys(keyed):
        found = joined.setdefault(roi, [])
        joined[roi] = [p for p in found if not p & set(ids)]
        joined[roi].append(set(ids).union(*(p for p in found if p & set(ids))))
    made: dict[tuple[str, Key], Pool] = {}
    distinct = list(dict.fromkeys(keyed))
    for roi, ids in distinct:
        members = next(p for p in joined[roi] if p >= set(ids))
        together = [k for r, k in distinct if r == roi and members >= set(k)]
        pool = np.array(sorted(members))
        level, kind, declined = None, "", ""
        blocks, known = block.get(roi, {}), category.get(roi, {})
        if any(i in blocks for i in pool.tolist()):
            # a stimulus without a block is one of its own
            names = [blocks.get(i, f"\0{i}") for i in pool.tolist()]
            level, kind = np.unique(names, return_inverse=True)[1], BLOCKS
            if exchange == "categories":
                declined = "the stimuli follow each other in time: time blocks are exchanged"
        else:
            names = [known.get(i, "") for i in pool.tolist()]
            torn = any(
                _torn([known.get(i, "") for i in key], fold)
                for key in together
                for fold in folded.get((roi, key), [])
            )
            use, declined = _decide(names, torn, exchange)
            if use:
                level, kind = np.unique(names, return_inverse=True)[1], CATEGORIES
        if declined and exchange == "categories":
            raise ProtocolError(
                f"ROI {roi}: exchange='categories', but {declined}. Categories are the coordinate "
                "'category' of the responses' presentations; leave exchange out to decide by them"
            )
        whole = all(len(k) == len(members) for k in together)
        place = np.searchsorted(pool, ids)
        made[roi, ids] = Pool(pool, place, whole, level, kind, declined)
    return [made[key] for key in keyed]


def _ids(evidence: Evidence) -> Key:
    return tuple(np.asarray(evidence.stimulus_id).astype(str).tolist())


def _blocks(held: list[tuple[tuple[str, Key], Evidence]]) -> Mapping[str, dict[str, str]]:
    """{roi: {stimulus: its time block}}, the same for every subject."""
    found: dict[str, dict[str, str]] = {}
    for (roi, ids), evidence in held:
        if evidence.block is not None:
            named = dict(zip(ids, np.asarray(evidence.block).astype(str).tolist(), strict=True))
            known = found.setdefault(roi, {})
            torn = [i for i in ids if known.get(i, named[i]) != named[i]]
            if torn:
                raise DataError(
                    f"ROI {roi}: stimulus '{torn[0]}' is in time block '{known[torn[0]]}' for one "
                    f"subject and in '{named[torn[0]]}' for another; give it one block"
                )
            known |= named
    return found


def _categories(held: list[tuple[tuple[str, Key], Evidence]]) -> Mapping[str, dict[str, str]]:
    """{roi: {stimulus: its category}}, "" where subjects do not agree on one."""
    found: dict[str, dict[str, str]] = {}
    for (roi, ids), evidence in held:
        if evidence.category is not None:
            known = found.setdefault(roi, {})
            for i, name in zip(
                ids, np.asarray(evidence.category).astype(str).tolist(), strict=True
            ):
                known[i] = name if known.get(i, name) == name else ""
    return found


def _torn(category: list[str], fold: np.ndarray) -> bool:
    """Whether any category has stimuli in several folds."""
    return len(set(zip(category, fold.tolist(), strict=True))) > len(set(category))


def _decide(names: list[str], torn: bool, exchange: str) -> tuple[bool, str]:
    """Whether these categories, one per stimulus and "" where unknown, are the levels; why not.

    Not a word where there is nothing to say: no categories, or none of several stimuli.
    """
    counts = np.unique([n for n in names if n], return_counts=True)[1]
    forced = exchange == "categories"
    if exchange == "stimuli" or (not forced and (not counts.size or counts.max() < 2)):
        return False, ""
    if not counts.size:
        return False, "no category of any scored stimulus is known"
    if "" in names:
        return False, (
            f"the category of {names.count('')} of {len(names)} scored stimuli is not known, or "
            "not one for all their presentations and subjects"
        )
    if torn:
        return False, (
            "the folds of the cross-validation divide categories, and permutations stay inside "
            "folds (with a split into training and test stimuli there are none)"
        )
    if len(counts) < (3 if forced else FEWEST):
        return False, f"there are {len(counts)} categories only"
    if not forced and counts.min() < counts.max():
        return False, f"categories have between {counts.min()} and {counts.max()} scored stimuli"
    return True, ""


def are_levels(names: Iterable[str], exchange: str) -> bool:
    """Whether categories, one per scored stimulus and "" where unknown, are the levels of chance.

    As long as no fold divides them.

    Examples
    --------
    >>> are_levels(["a", "a", "b", "b"], "auto"), are_levels([*"aabbccddeeffgghh"], "auto")
    (False, True)
    """
    return _decide(list(names), False, exchange)[0]


def level_notes(metric: str, found: Iterable[Pool], permuted: bool = True) -> list[str]:
    """How stimuli that are nested in something were drawn, for the pages.

    `permuted`: whether the null permutes them; phase randomisation does not.
    """
    told: dict[tuple[str, int, int, int, str], None] = {}
    for pool in found:
        if pool.level is not None:
            lengths = np.bincount(pool.level)
            # only levels of one length change places
            orders = prod(map(factorial, np.unique(lengths, return_counts=True)[1].tolist()))
            told[pool.kind, len(lengths), len(pool.ids), orders, ""] = None
        elif pool.declined:
            told["", 0, len(pool.ids), 0, pool.declined] = None
    notes = []
    for kind, n_levels, n, orders, declined in sorted(told):
        if kind == BLOCKS:
            note = (
                f"the {n} scored stimuli follow each other in time; {n_levels} contiguous blocks "
                f"of these, not single ones, were resampled{', permuted' if permuted else ''} and "
                "counted as levels."
            )
            few = (
                f" Blocks of equal length have {orders} orders only, so that p_null cannot lie "
                f"below about {1 / orders:.2g}: make blocks of one length, or shorter ones."
            )
        elif kind == CATEGORIES:
            note = (
                f"the {n} scored stimuli are nested in {n_levels} categories; categories, not "
                "single stimuli, were resampled and counted as levels. Permutations move whole "
                "categories of equal size and shuffle the stimuli inside each."
            )
            few = (
                f" Categories of equal size have {orders} orders only, so that p_null can hardly "
                "tell a network from one of other categories: score equally many stimuli of each."
            )
        else:
            notes.append(
                f"{metric}: some of the {n} scored stimuli share a category, yet single stimuli "
                f"were resampled and permuted, since {declined}. Where categories matter to "
                "network and brain alike, this makes intervals and nulls too narrow; "
                "exchange='categories' asks for categories."
            )
            continue
        note += few if orders < FEW_ORDERS and permuted else ""
        notes.append(f"{metric}: {note}")
    return notes
