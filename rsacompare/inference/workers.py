"""Jobs in threads, in order, with progress: kernels release the GIL, so nothing is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import joblib

Progress = Callable[[str, int, int], None]


def in_threads(
    function: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    *,
    n_jobs: int,
    stage: str,
    progress: Progress | None,
) -> list[Any]:
    """What `function` gives for each tuple of arguments, in their order.

    Parameters
    ----------
    function : callable
    arguments : iterable of tuples
    n_jobs : int
        Threads, as in joblib.
    stage : str
        What `progress` is told beside (done, total).
    progress : callable (stage, done, total), optional
    """
    listed = list(arguments)
    pool = joblib.Parallel(n_jobs=n_jobs, backend="threading", return_as="generator")
    results = []
    for result in pool(joblib.delayed(function)(*given) for given in listed):
        results.append(result)
        if progress is not None:
            progress(stage, len(results), len(listed))
    return results
