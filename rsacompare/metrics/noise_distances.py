"""Distances of the brain's patterns that know its noise: mahalanobis and crossnobis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, ProtocolError
from rsacompare.kernels import dissimilarity, noise
from rsacompare.schema import labels, store
from rsacompare.schema.reading import read_tree

DISTANCES = ("mahalanobis", "crossnobis")
MOST_COVARIANCES = 5  # of a crossnobis; where there are more folds, several share one


def distances(
    response: xr.DataArray,
    distance: str,
    method: str,
    folds: str,
    residuals: xr.DataTree | None,
    dof: int | None,
    where: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Stimuli (sorted) and the dissimilarity of every pair of them.

    Parameters
    ----------
    response : DataArray (presentation, neuroid)
        The presentations that are scored.
    distance : {"mahalanobis", "crossnobis"}
    method : str
        A name of `kernels.noise.NOISE`, or `none` (unit covariance).
    folds : str
        Coordinate of `presentation` whose levels are independent measurements (crossnobis);
        several joined by `+`.
    residuals : DataTree, optional
        Residuals by subject and ROI as `rsacompare.responses` makes them; by default what
        repetitions leave after the mean of their stimulus (crossnobis: a covariance for each fold,
        or for each of five groups of folds, from the repetitions in the others).
    dof : int, optional
        Degrees of freedom of the residuals; rows − 1 when absent.
    where : str

    Raises
    ------
    ProtocolError
        No repetitions, a coordinate that is not there, a stimulus in a single fold.
    DataError
        A noise covariance that is singular, voxels without noise; NaN.
    """
    values = np.asarray(response.values, dtype=np.float64)
    ids = response["stimulus_id"].values.astype(str)
    labels.require_finite(values, where)
    given = residuals is not None or method == "none"
    if method != "none" and (given or distance == "mahalanobis"):
        if residuals is None:
            left, dof = _around_means(values, ids, method, where)
        else:
            left = _residuals_of(residuals, response, where)
        with _told(where):
            values = noise.whiten(values, noise.covariance(left, method, dof))
    if distance == "mahalanobis":
        unique, mean, _, _ = labels.group_rows(values, ids)
        return unique, dissimilarity.euclidean(mean)
    unique = np.unique(ids)
    level = _levels(response, folds, where)
    stack = np.full((level.max() + 1, len(unique), values.shape[1]), np.nan)
    for f, part in enumerate(stack):
        held, mean, _, _ = labels.group_rows(values[level == f], ids[level == f])
        part[np.searchsorted(unique, held)] = mean
    n_folds = np.isfinite(stack[:, :, 0]).sum(axis=0)
    if (n_folds < 2).any():
        lonely = unique[n_folds < 2]
        raise ProtocolError(
            f"{where}: crossnobis compares measurements of different folds, but "
            f"{len(lonely)} of {len(unique)} stimuli stand in a single level of '{folds}': "
            f"{labels.listed(list(lonely))}; name another coordinate (folds=…), or use "
            "distance='mahalanobis'"
        )
    left_out = None if given else _without_own(stack, values, ids, level, method, folds, where)
    try:
        return unique, dissimilarity.crossvalidated(stack, left_out)
    except ValueError as err:
        raise ProtocolError(f"{where}: crossnobis over '{folds}': {err}") from err


def _without_own(
    stack: np.ndarray,
    values: np.ndarray,
    ids: np.ndarray,
    level: np.ndarray,
    method: str,
    folds: str,
    where: str,
) -> np.ndarray:
    """Fold means times the inverse of a noise covariance that does not know their fold.

    A covariance of all repetitions fits the noise of every fold, and fitted noise counts for less
    in the products of two folds than it should: distances of stimuli that do not differ come out
    above 0 (by more than their own standard deviation, for 30 voxels, 20 stimuli and 3 folds).
    Here nothing that fold a is multiplied with knows fold a, so that its noise averages to 0.

    Returns
    -------
    (fold, stimulus, channel)
    """
    block = level % min(len(stack), MOST_COVARIANCES)
    out = np.zeros_like(stack)
    for b in np.unique(block):
        rest = block != b
        left, dof = _repeated(values[rest], ids[rest])
        if dof < 1:
            raise ProtocolError(
                f"{where}: without one of the {len(stack)} levels of '{folds}' every stimulus was "
                "shown once, so that nothing tells of the noise by which that level could be "
                "whitened (a covariance that knows the level itself would make crossnobis "
                f"distances too large; noise='{method}'); give residuals=…, or use noise='none' or "
                "distance='mahalanobis'"
            )
        own = np.arange(len(stack)) % (block.max() + 1) == b
        with _told(where):
            cov = noise.covariance(left, method, dof)
            out[own] = noise.precise(np.nan_to_num(stack[own]), cov)
    return out


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What a covariance that cannot be had means for the user."""
    try:
        yield
    except ValueError as err:
        if "no noise" in str(err):
            raise DataError(f"{where}: {err}; leave them out") from err
        raise DataError(
            f"{where}: {err}; shrink the covariance (noise='shrinkage_diag'), take variances "
            "alone (noise='diag'), or leave out the voxels that are copies"
        ) from err


def read(residuals: xr.DataTree | Path | str | None) -> xr.DataTree | None:
    """Residuals, from their file where a path is given.

    Raises
    ------
    ProtocolError
        Something else.
    DataError
        No file of responses.
    """
    if isinstance(residuals, (str, Path)):
        return read_tree(residuals, "responses")
    if residuals is not None and not isinstance(residuals, xr.DataTree):
        raise ProtocolError(
            "residuals are a DataTree that rsacompare.responses made, or a netCDF file of it; got "
            f"{type(residuals).__name__}"
        )
    return residuals


def digest(residuals: xr.DataTree | None) -> str | None:
    """Content hash of residuals, for the options of a metric."""
    if residuals is None:
        return None
    nodes = residuals.children.items()
    return store.digest(*(p for name, node in nodes for p in (name, _hash(node))))


def _hash(node: xr.DataTree) -> str:
    return store.digest_dataset(node.to_dataset())


def _around_means(
    values: np.ndarray, ids: np.ndarray, method: str, where: str
) -> tuple[np.ndarray, int]:
    left, dof = _repeated(values, ids)
    if dof < 1:
        raise ProtocolError(
            f"{where}: every stimulus was shown once, so that repetitions tell nothing of the "
            f"noise (noise='{method}'); give residuals=…, or use distance='euclidean' or "
            "'correlation'"
        )
    return left, dof


def _repeated(values: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, int]:
    """What repetitions leave after the mean of their stimulus, and its degrees of freedom."""
    unique, mean, _, counts = labels.group_rows(values, ids)
    left = values - mean[np.searchsorted(unique, ids)]
    return left[counts[np.searchsorted(unique, ids)] > 1], len(ids) - len(unique)


def _residuals_of(tree: xr.DataTree, response: xr.DataArray, where: str) -> np.ndarray:
    subject, roi = response.attrs.get("subject", ""), response.attrs.get("roi", "")
    if subject not in tree.children:
        raise ProtocolError(
            f"{where}: no residuals of '{subject}', only of {labels.listed(list(tree.children))}"
        )
    data = tree.children[subject].to_dataset()
    if roi not in data["roi"].values:
        raise ProtocolError(
            f"{where}: the residuals of '{subject}' know no ROI '{roi}', only "
            f"{labels.listed(data['roi'].values.tolist())}"
        )
    left = data["response"].values[:, data["roi_mask"].sel(roi=roi).values.astype(bool)]
    if left.shape[1] != response.sizes["neuroid"]:
        raise DataError(
            f"{where}: residuals of {left.shape[1]} voxels for responses of "
            f"{response.sizes['neuroid']}"
        )
    labels.require_finite(left, f"{where}: residuals")
    return np.asarray(left, dtype=np.float64)


def _levels(response: xr.DataArray, folds: str, where: str) -> np.ndarray:
    """Number of the fold of each presentation."""
    columns: list[Any] = []
    for name in folds.split("+"):
        if name not in response.coords or response[name].dims != ("presentation",):
            known = [str(c) for c in response.coords if response[c].dims == ("presentation",)]
            raise ProtocolError(
                f"{where}: no coordinate '{name}' to take folds from; there are "
                f"{labels.listed([c for c in known if c not in ('stimulus_id', 'split')])}"
            )
        columns.append(response[name].values.astype(str).tolist())
    joined = ["\0".join(parts) for parts in zip(*columns, strict=True)]
    return np.unique(joined, return_inverse=True)[1]
