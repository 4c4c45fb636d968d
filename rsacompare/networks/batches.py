"""Pictures in batches of one size, the next being read while the last runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsacompare.networks.images import digests, read_image
from rsacompare.networks.preprocess import Preprocessing


@dataclass(frozen=True)
class Batch:
    """Pictures `start` to `start + len(ids)`.

    Attributes
    ----------
    number, start : int
    ids : list of str
    shas : {stimulus_id: sha256}
    key : str
        Of the contents of its pictures.
    images : (batch size, height, width, 3) or None
        Filled up with the last picture; None where the batch need not run.
    """

    number: int
    start: int
    ids: list[str]
    shas: dict[str, str]
    key: str
    images: np.ndarray | None


def batches(
    sources: Mapping[str, Any],
    batch_size: int,
    preprocessing: Preprocessing,
    is_done: Callable[[int, str], bool],
) -> Iterator[Batch]:
    """Batches in the order of the pictures.

    A batch of another size can be computed by another routine of the engine, with other last
    bits (measured with TensorFlow 2.21: a picture run alone differs in the seventh digit from the
    same picture in a batch). So all batches have one size.

    Raises
    ------
    DataError
        A picture that cannot be read; those before it have been handed on by then.
    """
    ids = list(sources)

    def load(start: int) -> Batch:
        chosen = ids[start : start + batch_size]
        shas = digests({label: sources[label] for label in chosen})
        key = hashlib.blake2b("".join(shas.values()).encode(), digest_size=16).hexdigest()
        number = start // batch_size
        images = None
        if not is_done(number, key):
            images = np.empty((batch_size, *preprocessing.size, 3), preprocessing.dtype)
            for i, label in enumerate(chosen):
                images[i] = _read(sources[label], label, preprocessing)
            images[len(chosen) :] = images[len(chosen) - 1]
        return Batch(number, start, chosen, shas, key, images)

    with ThreadPoolExecutor(1) as reader:
        waiting: Future[Batch] | None = None
        for start in range(0, len(ids), batch_size):
            ready = waiting.result() if waiting else load(start)
            after = start + batch_size
            waiting = reader.submit(load, after) if after < len(ids) else None
            yield ready


def _read(source: Any, label: str, preprocessing: Preprocessing) -> np.ndarray:
    where = f"stimulus '{label}'"
    if not isinstance(source, np.ndarray):
        where += f" ({source})"
    return preprocessing(read_image(source, where), where)
