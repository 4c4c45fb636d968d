"""Evidence of the second-moment family: the Grams of a layer and of a region."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from rsacompare.errors import DataError
from rsacompare.kernels import pcm, second_moment
from rsacompare.metrics.evidence import KINDS, Evidence
from rsacompare.schema.store import digest

_MOST_HELD = 8_000_000  # bytes of draws that a side keeps: memory, not results


class Side:
    """The Gram of a layer or a region and what is made of it, shared by all its cells.

    Results under weights are kept for the last array of weights: all cells of a study are scored
    under the same one.
    """

    def __init__(self, gram: np.ndarray):
        self.gram = gram
        self._made: dict[Any, Any] = {}
        self._under: tuple[Any, ...] = (None, None, None)

    @classmethod
    def of(cls, gram: np.ndarray) -> Side:
        """The side of this Gram that is alive already, where there is one: read cells share it."""
        key = digest(gram)
        side = _ALIVE.setdefault(key, cls(gram))
        side._made["key"] = key
        return side

    def made(self, name: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once; two threads may both make the same."""
        if name not in self._made:
            self._made.setdefault(name, make())
        return self._made[name]

    def prepared(self, debiased: bool) -> np.ndarray:
        return self.made(("prepared", debiased), lambda: second_moment.prepare(self.gram, debiased))

    def weighed(self, weights: np.ndarray, debiased: bool) -> second_moment.Weighted:
        return self._held(
            weights,
            debiased,
            lambda: second_moment.weigh(self.prepared(debiased), weights, debiased),
        )

    def drawn(self, weights: np.ndarray) -> second_moment.Drawn:
        found = self._held(weights, "drawn", lambda: second_moment.draw(self.factor, weights))
        if sum(x.nbytes for _, x in found.parts) > _MOST_HELD:
            self._under = (None, None, None)  # many stimuli: made again for every cell
        return found

    def _held(self, weights: np.ndarray, kind: Any, make: Callable[[], Any]) -> Any:
        held, made, value = self._under
        if held is None or held() is not weights or made != kind:
            value = make()
            self._under = (weakref.ref(weights), kind, value)
        return value

    @property
    def factor(self) -> np.ndarray:
        return self.made("factor", lambda: second_moment.factor(self.prepared(False)))

    @property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        return self.made("spectrum", lambda: pcm.spectrum(self.gram))

    @property
    def key(self) -> str:
        return self.made("key", lambda: digest(self.gram))


_ALIVE: weakref.WeakValueDictionary[str, Side] = weakref.WeakValueDictionary()


@dataclass
class GramEvidence(Evidence):
    """Grams of the same stimuli: `network` and `brain` are `Side` objects.

    Subclasses say how two Grams are compared.
    """

    stimulus_id: np.ndarray
    network: Side
    brain: Side
    sources: tuple[str, ...] = ("stimuli",)
    fold: np.ndarray | None = None
    kind: ClassVar[str]
    symmetric: ClassVar[bool] = True  # two layers, or two brains, can be compared in the same way

    def __post_init__(self) -> None:
        n = len(self.stimulus_id)
        if self.network.gram.shape != (n, n) or self.brain.gram.shape != (n, n):
            raise DataError(
                f"{n} stimuli make Grams of {n} x {n}; got {self.network.gram.shape} for the "
                f"network and {self.brain.gram.shape} for the brain"
            )

    @property
    def n_targets(self) -> int:
        return len(self.stimulus_id) * (len(self.stimulus_id) - 1) // 2

    def _under(self, weights: np.ndarray) -> np.ndarray:
        """Score under weights (draw, stimulus)."""
        raise NotImplementedError

    def score(
        self, weights: np.ndarray | None = None, target_weights: np.ndarray | None = None
    ) -> np.ndarray:
        n = len(self.stimulus_id)
        if weights is None:
            return self._under(np.ones((1, n)))[0]
        given = np.asarray(weights)
        flat = given if given.ndim == 2 and given.dtype == np.float64 else None
        flat = np.asarray(given, dtype=np.float64).reshape(-1, n) if flat is None else flat
        scores = self._under(flat).reshape(given.shape[:-1])
        if target_weights is None:
            return scores
        return np.broadcast_to(
            scores, np.broadcast_shapes(scores.shape, np.shape(target_weights)[:-1])
        )

    def _options(self) -> dict[str, np.ndarray]:
        return {}

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {
            "kind": np.array(self.kind),
            "stimulus_id": np.asarray(self.stimulus_id, dtype=str),
            "network": self.network.gram,
            "brain": self.brain.gram,
            "sources": np.array(self.sources, dtype=str),
            **({} if self.fold is None else {"fold": self.fold}),
            **self._options(),
        }

    @classmethod
    def _read(cls, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        return {
            "stimulus_id": arrays["stimulus_id"],
            "network": Side.of(arrays["network"]),
            "brain": Side.of(arrays["brain"]),
            "sources": tuple(arrays["sources"].tolist()),
            "fold": arrays.get("fold"),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> GramEvidence:
        return cls(**cls._read(arrays))


@dataclass
class AlignmentEvidence(GramEvidence):
    """Linear CKA; `debiased` by the unbiased HSIC.

    Its ceilings are those of RSA (FACTS 7.2): a subject's alignment with the mean of the
    subjects' Grams, each over its norm. No Gram is closer to all of them.
    """

    debiased: bool = True
    kind: ClassVar[str] = "alignment"

    def _under(self, weights: np.ndarray) -> np.ndarray:
        sides = self.network, self.brain
        a, b = (s.prepared(self.debiased) for s in sides)
        of_a, of_b = (s.weighed(weights, self.debiased) for s in sides)
        return second_moment.alignment(a, b, weights, self.debiased, of_a, of_b)

    def null(self, permutations: np.ndarray) -> np.ndarray:
        a, b = (s.prepared(self.debiased) for s in (self.network, self.brain))
        return second_moment.alignment_permuted(a, b, permutations)

    def ceiling_key(self) -> str:
        return digest(self.brain.key, self.debiased)

    @classmethod
    def group_ceiling(
        cls,
        cells: Sequence[AlignmentEvidence],
        weights: np.ndarray | None = None,
        subject_weights: np.ndarray | None = None,
        target_weights: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        n, debiased = len(cells[0].stimulus_id), cells[0].debiased
        w = np.ones((1, n)) if weights is None else np.asarray(weights, dtype=np.float64)
        grams = [c.brain.prepared(debiased) for c in cells]
        own = [c.brain.weighed(w, debiased) for c in cells]
        like = np.ones((len(w), len(cells), len(cells)))
        for s, (a, of_a) in enumerate(zip(grams, own, strict=True)):
            like[:, s, s] = np.where(np.isfinite(of_a.square), 1.0, np.nan)
            for t in range(s):
                both = second_moment.alignment(a, grams[t], w, debiased, of_a, own[t])
                like[:, s, t] = like[:, t, s] = both
        counts = np.ones((1, len(cells))) if subject_weights is None else subject_weights
        low, high = _pooled(like, np.asarray(counts, dtype=np.float64))
        if len(cells) == 1:  # a subject agrees with the mean of itself: that bounds nothing
            high = np.full_like(high, np.nan)
        bare = weights is None and subject_weights is None and target_weights is None
        if target_weights is not None and len(low) == 1:
            shape = (len(target_weights), len(cells))
            low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
        return (low[0], high[0]) if bare else (low, high)

    def _options(self) -> dict[str, np.ndarray]:
        return {"debiased": np.array(self.debiased)}

    @classmethod
    def _read(cls, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        return super()._read(arrays) | {"debiased": bool(arrays["debiased"])}


def _pooled(like: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of each subject with the mean of the others, and of all: (draw, subject) each.

    `like` (draw, subject, subject) are the cosines between subjects, `counts` (draw, subject) how
    often each subject stands in the pool; the others are all but every copy of the subject.
    """
    like, counts = (x[0] if len(x) == 1 else x for x in (like, counts))
    like = like if like.ndim == 3 else np.broadcast_to(like, (1, *like.shape))
    counts = counts if counts.ndim == 2 else counts[None]
    n = like.shape[-1]
    every = np.einsum("...st,...t->...s", like, counts)
    total = np.einsum("...s,...s->...", every, counts)[..., None]
    own = np.einsum("...ss->...s", like)
    others = every - counts * own
    rest = total - 2 * counts * every + counts**2 * own
    there = counts.sum(axis=-1, keepdims=True) - counts > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        low = np.where(there & (rest > 0), others / np.sqrt(rest), np.nan)
        high = np.where(total > 0, every / np.sqrt(total), np.nan)
    draws = max(len(like), len(counts))
    return np.broadcast_to(low, (draws, n)), np.broadcast_to(high, (draws, n))


@dataclass
class ProcrustesEvidence(GramEvidence):
    """Procrustes similarity; it knows no ceiling (no mean of rotated subjects bounds it)."""

    kind: ClassVar[str] = "procrustes"

    def _under(self, weights: np.ndarray) -> np.ndarray:
        a, b = self.network, self.brain
        if not (a.factor.size and b.factor.size):
            return np.full(len(weights), np.nan)
        of_a, of_b = a.drawn(weights), b.drawn(weights)
        return second_moment.procrustes(a.factor, b.factor, weights, of_a, of_b)

    def null(self, permutations: np.ndarray) -> np.ndarray:
        a, b = self.network.factor, self.brain.factor
        return second_moment.procrustes_permuted(a, b, np.asarray(permutations))


@dataclass
class ComponentEvidence(GramEvidence):
    """PCM: log-likelihood per voxel above that of unrelated stimuli, in nats.

    Signal and noise variance are fitted once, to all stimuli. Under weights the fitted likelihood
    is weighed: a stimulus counts w_i times with its influence (`kernels.pcm.contributions`), over
    the total weight and times the number of stimuli. The null fits both variances anew for each
    order.
    """

    channels: int = 1
    kind: ClassVar[str] = "component"
    symmetric: ClassVar[bool] = False

    @cached_property
    def parts(self) -> np.ndarray:
        """The share of each stimulus in the gain."""
        return _parts(self.network.spectrum, self)

    def _under(self, weights: np.ndarray) -> np.ndarray:
        return _weigh_parts(self.parts, weights)

    def null(self, permutations: np.ndarray) -> np.ndarray:
        values, vectors = self.network.spectrum
        found = pcm.energy(vectors, self.brain.factor, np.asarray(permutations))
        return pcm.gain(values, found, self.channels)[0]

    def ceiling_key(self) -> str:
        return digest(self.brain.key, self.channels)

    @classmethod
    def group_ceiling(
        cls,
        cells: Sequence[ComponentEvidence],
        weights: np.ndarray | None = None,
        subject_weights: np.ndarray | None = None,
        target_weights: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gain of the mean Gram of the others, and of all, as the model of each subject.

        The mean is over the subjects as they are, also where subjects are drawn: the models stay
        as they were fitted, and the caller weighs the subjects.
        """
        n = len(cells[0].stimulus_id)
        given = [x for x in (weights, subject_weights, target_weights) if x is not None]
        w = np.ones((1, n)) if weights is None else np.asarray(weights, dtype=np.float64)
        shape = (len(given[0]) if given else 1, len(cells))
        low, high = np.full(shape, np.nan), np.full(shape, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = np.array([c.brain.gram / np.trace(c.brain.gram) for c in cells])
        if len(cells) > 1 and np.isfinite(scaled).all():
            total = scaled.sum(axis=0)
            everyone = pcm.spectrum(total)
            for s, cell in enumerate(cells):
                others = pcm.spectrum(total - scaled[s])
                low[:, s] = _weigh_parts(_parts(others, cell), w)
                high[:, s] = _weigh_parts(_parts(everyone, cell), w)
        return (low, high) if given else (low[0], high[0])

    def _options(self) -> dict[str, np.ndarray]:
        return {"channels": np.array(self.channels)}

    @classmethod
    def _read(cls, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        return super()._read(arrays) | {"channels": int(arrays["channels"])}


def _parts(spectrum: tuple[np.ndarray, np.ndarray], cell: ComponentEvidence) -> np.ndarray:
    values, vectors = spectrum
    data = cell.brain.factor
    _, ratio, noise = pcm.gain(values, pcm.energy(vectors, data), cell.channels)
    if not np.isfinite(noise):
        return np.full(len(vectors), np.nan)
    return pcm.contributions(values, vectors, data, cell.channels, float(ratio), float(noise))


def _weigh_parts(parts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return len(parts) * (weights @ parts) / weights.sum(axis=1)


KINDS.update(
    {kind.kind: kind for kind in (AlignmentEvidence, ProcrustesEvidence, ComponentEvidence)}
)
