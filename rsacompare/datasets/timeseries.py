"""From the time series of a run to one pattern per presentation: trends, blocks, GLM betas."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsacompare import plugins
from rsacompare.errors import DataError, MissingDependency, ProtocolError

LAG = 4.0  # seconds; one volume at TR 3 (Horikawa 2017), two at TR 2 (Shen et al. 2019)
NORMALISE = ("percent", "zscore", "none")
ESTIMATORS = ("average", "glm")


def detrend(values: np.ndarray) -> np.ndarray:
    """Remove each voxel's linear trend and keep its mean.

    Parameters
    ----------
    values : (time, voxel)

    Examples
    --------
    >>> detrend(np.array([[1.0], [3.0], [5.0]])).ravel()
    array([3., 3., 3.])
    """
    time = np.arange(len(values)) - (len(values) - 1) / 2
    if len(values) < 2:
        return values
    slope = time @ values / (time @ time)
    return values - time[:, None] * slope


def normalise(values: np.ndarray, how: str) -> np.ndarray:
    """One run in comparable units.

    Parameters
    ----------
    values : (time, voxel)
    how : {"percent", "zscore", "none"}
        `percent`: 100 · (x / run mean − 1); a voxel whose run mean is not positive is NaN.
        `zscore`: by the run's mean and standard deviation (ddof 0); a constant voxel is NaN.
    """
    if how not in NORMALISE:
        raise ProtocolError(plugins.unknown("normalise", how, NORMALISE))
    if how == "none":
        return values
    mean = values.mean(axis=0)
    if how == "percent":
        return 100.0 * (values / np.where(mean > 0, mean, np.nan) - 1.0)
    spread = values.std(axis=0)
    small = 1e-12 * np.abs(mean)  # rounding of a constant voxel is no variance
    return (values - mean) / np.where(spread > small, spread, np.nan)


def default_shift(repetition_time: float) -> int:
    """Volumes from an onset to its response: 4 s, rounded.

    Examples
    --------
    >>> default_shift(3.0), default_shift(2.0)
    (1, 2)
    """
    return int(np.floor(LAG / repetition_time + 0.5))


def windows(
    onset: np.ndarray,
    duration: np.ndarray,
    repetition_time: float,
    discarded: int = 0,
    shift: int = 0,
    n_volumes: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """First volume and number of volumes of each block.

    Parameters
    ----------
    onset, duration : (event,) seconds
        From the start of the scan, before any volume was discarded.
    repetition_time : float
    discarded : int
        Volumes at the start of the scan that the images no longer hold.
    shift : int
        Haemodynamic delay in volumes.
    n_volumes : int, optional
        Volumes to average; those of the duration (at least one) when absent.

    Examples
    --------
    >>> windows(np.array([33.0]), np.array([9.0]), 3.0, discarded=3, shift=1)
    (array([9]), array([3]))
    """

    def whole(seconds: np.ndarray) -> np.ndarray:
        # a damaged table may say anything: within what an integer holds it is told as outside
        return np.clip(np.floor(seconds / repetition_time + 0.5), -(2**31), 2**31).astype(int)

    count = np.maximum(whole(duration), 1) if n_volumes is None else np.full(len(onset), n_volumes)
    return whole(onset) - discarded + shift, count


def block_average(values: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean over the volumes of each block: (time, voxel) to (block, voxel)."""
    return np.array([values[f : f + n].mean(axis=0) for f, n in zip(first, count, strict=True)])


def glm_betas(
    values: np.ndarray,
    onset: np.ndarray,
    duration: np.ndarray,
    repetition_time: float,
    *,
    discarded: int = 0,
    nuisance: Sequence[tuple[str, float, float]] = (),
    hrf_model: str = "spm",
    high_pass: float = 0.01,
    where: str = "GLM",
) -> np.ndarray:
    """One beta per trial: least squares with a regressor for each, designed by nilearn.

    Parameters
    ----------
    values : (time, voxel)
    onset, duration : (trial,) seconds from the start of the scan
    repetition_time : float
    discarded : int
        Volumes at the start of the scan that the images no longer hold.
    nuisance : sequence of (name, onset, duration)
        Other events; a regressor per name.
    hrf_model : str
        As in `nilearn.glm.first_level.make_first_level_design_matrix`.
    high_pass : float
        Cut-off of the cosine drift model in Hz.
    where : str
        For messages.

    Returns
    -------
    (trial, voxel)

    Raises
    ------
    MissingDependency
        Without nilearn.
    ProtocolError
        An `hrf_model` there is not.
    DataError
        Trials that the design cannot tell apart.
    """
    try:
        import pandas as pd
        from nilearn.glm.first_level import make_first_level_design_matrix
    except ImportError as err:
        raise MissingDependency(
            "estimator='glm' needs nilearn for its design; pip install 'rsacompare[glm]'"
        ) from err
    names = [f"trial_{i:05d}" for i in range(len(onset))]
    events = pd.DataFrame(
        {
            "trial_type": names + [f"other_{name}" for name, _, _ in nuisance],
            # frames from 0: nilearn's fine time grid is uneven when they start later
            "onset": np.array([*onset, *(o for _, o, _ in nuisance)]) - discarded * repetition_time,
            "duration": [*duration, *(d for _, _, d in nuisance)],
        }
    )
    with warnings.catch_warnings():
        # a singular design is told below, as an error
        warnings.filterwarnings("ignore", "Matrix is singular", UserWarning)
        try:
            design: Any = make_first_level_design_matrix(
                np.arange(len(values)) * repetition_time,
                events,
                hrf_model=hrf_model,
                drift_model="cosine",
                high_pass=high_pass,
            )
        except (ValueError, TypeError, NotImplementedError) as err:
            raise ProtocolError(f"{where}: nilearn makes no design of these: {err}") from err
    matrix = design.to_numpy(dtype=np.float64)
    rank = np.linalg.matrix_rank(matrix / np.linalg.norm(matrix, axis=0))
    if rank < matrix.shape[1]:
        raise DataError(
            f"{where}: the design of {len(onset)} trials has {matrix.shape[1]} columns, rank "
            f"{rank}, over {len(values)} volumes: trials that cannot be told apart; "
            "use estimator='average'"
        )
    betas = np.linalg.lstsq(matrix, values, rcond=None)[0]
    return betas[[design.columns.get_loc(name) for name in names]]
