"""The haemodynamic response and the way from frames of a movie to volumes of a scanner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import gamma

SPM = (6.0, 16.0, 1.0, 1.0, 6.0, 0.0, 32.0)
WEN = (5.0, 16.0, 1.0, 1.0, 6.0, 0.0, 32.0)


def spm_hrf(step: float, parameters: Sequence[float] = SPM) -> np.ndarray:
    """Two-gamma haemodynamic response as SPM makes it, sampled every `step` seconds; sums to 1.

    Parameters
    ----------
    step : float
        Seconds between samples.
    parameters : 7 floats
        Delay of response and of undershoot, their dispersions, ratio of response to undershoot,
        onset, length of the kernel (all but the ratio in seconds). `WEN`: those of Wen et al.

    Returns
    -------
    (sample,)
        ``length / step`` samples and one at 0.

    Raises
    ------
    ValueError
        A step, delay, dispersion or length that is not positive; not seven parameters.

    Notes
    -----
    The difference of two gamma densities, g(delay / dispersion, rate 1 / dispersion). SPM builds
    the same curve on a grid of 1/16 of the step and then takes every sixteenth sample, which for
    an onset of whole steps is this. FACTS 6.1: with `WEN` and 1/30 s, 961 samples, peak at 4.0 s,
    undershoot lowest at 15.33 s.

    Examples
    --------
    >>> response = spm_hrf(1 / 30, WEN)
    >>> response.size, round(float(response.argmax() / 30), 3), round(float(response.sum()), 12)
    (961, 4.0, 1.0)
    """
    if len(parameters) != 7:
        raise ValueError(f"seven parameters make the response, got {len(parameters)}")
    delay, undershoot, spread, spread_under, ratio, onset, length = map(float, parameters)
    if not (0 < step < length and min(delay, undershoot, spread, spread_under) > 0 and ratio > 0):
        raise ValueError(f"step {step} and parameters {list(parameters)} must be positive")
    time = np.arange(int(np.floor(length / step + 1e-6)) + 1) * step - onset
    response = gamma.pdf(time, delay / spread, scale=spread)
    response -= gamma.pdf(time, undershoot / spread_under, scale=spread_under) / ratio
    return response / response.sum()


def to_volumes(
    frames: np.ndarray,
    frame_rate: float,
    repetition_time: float,
    *,
    hrf: np.ndarray | None = None,
    n_volumes: int | None = None,
    shift: float = 0.0,
) -> np.ndarray:
    """Features of the frames of one segment, convolved with the response, at the scanner's times.

    Volume t is taken at the middle of its acquisition, ``(t + 1/2) · repetition_time`` seconds
    after the first frame (Wen et al. sample at 1 s, 3 s, 5 s … for 2 s), by linear interpolation
    between frames where it falls between two.

    Parameters
    ----------
    frames : (frame, unit)
        In order, of one continuous segment: the response never reaches into another one. Before
        the first frame there was nothing (zeros: standardise the features beforehand).
    frame_rate : float
        Frames per second.
    repetition_time : float
        Seconds.
    hrf : (sample,), optional
        At the frame rate; ``spm_hrf(1 / frame_rate)`` when absent. ``[1.0]`` for none.
    n_volumes : int, optional
        How many; by default all that the frames last for.
    shift : float
        Seconds by which the volumes lie later in the convolved series. The released code of Wen
        et al. takes 4 s, which compensates how their files were trimmed: a property of those
        files, not of the method. The response of the last frame goes on, so that a shift up to
        the response's length is defined.

    Returns
    -------
    (volume, unit)

    Raises
    ------
    ValueError
        Rates that are not positive, no frame, or more volumes than the frames and the response
        last for.
    """
    frames = np.asarray(frames, dtype=np.float64)
    if frames.ndim != 2 or not len(frames):
        raise ValueError(f"frames must be (frame, unit) with a frame at least, got {frames.shape}")
    if not (frame_rate > 0 and repetition_time > 0 and shift >= 0):
        raise ValueError(
            f"frame rate {frame_rate} and repetition time {repetition_time} must be positive, "
            f"shift {shift} not negative"
        )
    kernel = spm_hrf(1.0 / frame_rate) if hrf is None else np.asarray(hrf, dtype=np.float64)
    series = fftconvolve(frames, kernel[:, None], axes=0) if len(kernel) > 1 else frames * kernel[0]
    lasting = int(np.floor(len(frames) / frame_rate / repetition_time + 1e-9))
    n = lasting if n_volumes is None else n_volumes
    place = ((np.arange(n) + 0.5) * repetition_time + shift) * frame_rate
    if n < 1 or place[-1] > len(series) - 1 + 1e-6:
        raise ValueError(
            f"{n} volumes of {repetition_time:g} s, {shift:g} s late, from {len(frames)} frames "
            f"({len(frames) / frame_rate:g} s)"
        )
    low = np.minimum(np.floor(place + 1e-9).astype(int), len(series) - 1)
    high = np.minimum(low + 1, len(series) - 1)
    part = np.clip(place - low, 0.0, 1.0)[:, None]
    return (1 - part) * series[low] + part * series[high]


def detrend(values: np.ndarray, order: int) -> np.ndarray:
    """What a polynomial of this order leaves of each column, mean included: (time, column).

    Raises
    ------
    ValueError
        A negative order; fewer than ``order + 2`` time points, of which nothing would be left.
    """
    values = np.asarray(values, dtype=np.float64)
    if order < 0 or len(values) < order + 2:
        raise ValueError(f"a polynomial of order {order} over {len(values)} time points")
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(values)), order)
    q, _ = np.linalg.qr(basis)
    return values - q @ (q.T @ values)
