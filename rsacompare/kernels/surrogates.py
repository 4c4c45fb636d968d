"""Phase-randomised surrogates of time series that belong together.

Theiler et al. (1992), Physica D 58:77-94; for several series Prichard & Theiler (1994), Physical
Review Letters 73:951-954: every series' Fourier coefficients are turned by random phases, the
*same* for all series. Each keeps its power spectrum, hence its autocorrelation, and any two keep
their cross-spectrum, hence how they go together in time; what is lost is any relation to a series
that was not turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsacompare.kernels.columns import CONSTANT

_COLUMNS = 1000  # targets worked on at a time; a constant
LARGEST_R = 1 - 1e-12  # of Fisher's z


def rotations(rng: np.random.Generator, n: int, n_draws: int) -> np.ndarray:
    """Random phases of the Fourier coefficients of series of length `n`: (draw, n // 2 + 1).

    Complex numbers of size 1. That of the mean is 1, so that it stays; that of the highest
    frequency of an even length is 1 or -1, since its coefficient is real.

    Raises
    ------
    ValueError
        No time points.
    """
    if n < 1:
        raise ValueError(f"a series has one time point at least, got {n}")
    out = np.exp(2j * np.pi * rng.random((n_draws, n // 2 + 1)))
    out[:, 0] = 1.0
    if n % 2 == 0:
        out[:, -1] = np.where(out[:, -1].real < 0, -1.0, 1.0)
    return out


@dataclass(frozen=True)
class Surrogates:
    """Draws of random phases for stimuli that make one or more runs of time.

    Attributes
    ----------
    runs : sequence of (time,) int
        The stimuli of each run in the order of time; each stimulus stands in one run.
    phases : sequence of (draw, frequency) complex
        Of :func:`rotations`, for each run.
    """

    runs: Sequence[np.ndarray]
    phases: Sequence[np.ndarray]

    def __post_init__(self) -> None:
        every = np.concatenate([np.empty(0, dtype=int), *self.runs])
        if not np.array_equal(np.sort(every), np.arange(len(every))):
            raise ValueError("each stimulus must stand in one run, once")
        for run, phase in zip(self.runs, self.phases, strict=True):
            if phase.shape != (len(self), len(run) // 2 + 1):
                raise ValueError(
                    f"phases {phase.shape} for a run of {len(run)}, expected "
                    f"({len(self)}, {len(run) // 2 + 1})"
                )

    def __len__(self) -> int:
        return len(self.phases[0]) if self.phases else 0

    def turn(self, values: np.ndarray, draw: int) -> np.ndarray:
        """The surrogate of one draw: (stimulus, ...) as `values`."""
        out = np.empty(values.shape)
        for run, phase in zip(self.runs, self.phases, strict=True):
            turned = np.fft.rfft(values[run], axis=0)
            turned *= phase[draw].reshape(-1, *[1] * (values.ndim - 1))
            out[run] = np.fft.irfft(turned, n=len(run), axis=0)
        return out


def null_mean_correlation(
    still: np.ndarray,
    turned: np.ndarray,
    surrogates: Surrogates,
    fold: np.ndarray | None = None,
    *,
    fisher: bool = False,
    factor: np.ndarray | None = None,
) -> np.ndarray:
    """Mean correlation over targets with one side phase-randomised.

    Parameters
    ----------
    still, turned : (stimulus, target)
    surrogates : Surrogates
        Runs that lie inside folds.
    fold : (stimulus,) int, optional
        Values are centred within folds.
    fisher : bool
        Mean of atanh(r) in place of r; takes no `factor`.
    factor : (target,), optional
        What the correlation of each target is multiplied by; NaN leaves the target out.

    Returns
    -------
    (draw,)
        Mean over the targets that vary on both sides; NaN where none does.

    Raises
    ------
    ValueError
        Shapes that do not fit; a run that leaves its fold.

    Notes
    -----
    By Parseval r is a sum over frequencies of the cross-spectrum times the phases: turning keeps
    means and lengths, so that neither is computed again, and no surrogate is made. For the mean
    of r over targets the cross-spectra are summed over these first.
    """
    x, y = np.asarray(still, dtype=np.float64), np.asarray(turned, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"{x.shape} and {y.shape} must both be (stimulus, target)")
    if sum(map(len, surrogates.runs)) != len(x):
        raise ValueError(f"runs of {sum(map(len, surrogates.runs))} of {len(x)} stimuli")
    if fisher and factor is not None:
        raise ValueError("either fisher or factor, not both")
    groups = np.zeros(len(x), dtype=int) if fold is None else np.asarray(fold)
    if any(len(np.unique(groups[run])) > 1 for run in surrogates.runs):
        raise ValueError("runs must lie inside folds")
    draws = len(surrogates)
    total, count = np.zeros(draws), 0
    for start in range(0, x.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        a, b, alive = _unit(x[:, part], y[:, part], groups)
        scale = np.ones(a.shape[1]) if factor is None else np.asarray(factor)[part]
        alive &= np.isfinite(scale)
        a, b, scale = a[:, alive], b[:, alive], scale[alive]
        count += int(alive.sum())
        r = np.zeros((draws, a.shape[1] if fisher else 1))
        for run, phase in zip(surrogates.runs, surrogates.phases, strict=True):
            cross = _cross_spectrum(a[run], b[run])
            r += (phase @ (cross if fisher else cross @ scale[:, None])).real
        z = np.arctanh(np.clip(r, -LARGEST_R, LARGEST_R)) if fisher else r
        total += z.sum(axis=1)
    return total / count if count else np.full(draws, np.nan)


def _cross_spectrum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(frequency, target), of which the sum over frequencies has the real part Σ_t x_t y_t."""
    n = len(x)
    out = np.fft.rfft(x, axis=0).conj() * np.fft.rfft(y, axis=0) / n
    both = slice(1, -1 if n % 2 == 0 else None)  # frequencies that stand for two
    out[both] *= 2
    return out


def _unit(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns centred within groups, of length 1, and which of them vary on both sides."""
    sides, alive = [], np.ones(x.shape[1], dtype=bool)
    for values in (x, y):
        largest = np.abs(values).max(axis=0)
        centred = np.empty_like(values)
        for label in np.unique(groups):
            own = groups == label
            centred[own] = values[own] - values[own].mean(axis=0)
        # a column that never varies keeps nothing but the rounding of its mean
        varies = np.abs(centred).max(axis=0) > CONSTANT * largest
        alive &= varies
        length = np.linalg.norm(centred, axis=0)
        sides.append(centred / np.where(varies, length, 1.0))
    return sides[0], sides[1], alive
