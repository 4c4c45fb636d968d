"""Solve a positive definite system where it lies, without holding up other threads."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from scipy.linalg import cython_lapack

SMALLEST_PIVOT = 1e-7  # share of a variable's variance that the others must leave unexplained


def _lapack(name: str, n_arguments: int) -> Any:
    """A LAPACK routine of scipy's, called without the GIL (scipy.linalg.lapack keeps it)."""
    capsule = cython_lapack.__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(address)


_potrf = _lapack("dpotrf", 5)
_potrs = _lapack("dpotrs", 8)
_trtri = _lapack("dtrtri", 6)


def solve_in_place(matrix: np.ndarray, right: np.ndarray, smallest: float = SMALLEST_PIVOT) -> bool:
    """Solve a positive definite system by Cholesky; False where it is (nearly) singular.

    Parameters
    ----------
    matrix : (n, n) float64, C order
        Read from its upper triangle, overwritten.
    right : (n,) or (m, n) float64, C order
        One right-hand side per row, overwritten by the solutions.
    smallest : float
        A pivot below this share of its diagonal entry counts as singular. The error of least
        squares by a Gram matrix is about machine precision over this.

    Raises
    ------
    ValueError
        Arrays that LAPACK cannot work on in place.

    Examples
    --------
    >>> right = np.array([4.0, 32.0])
    >>> solve_in_place(np.array([[4.0, 0], [0, 16]]), right), right.tolist()
    (True, [1.0, 2.0])
    """
    for array in (matrix, right):
        if array.dtype != np.float64 or not array.flags.c_contiguous:
            raise ValueError("need float64 arrays in C order")
    if matrix.shape != (right.shape[-1],) * 2:
        raise ValueError(f"matrix {matrix.shape} does not fit right-hand side {right.shape}")
    n, m, info = (ctypes.c_int(v) for v in (len(matrix), right.size // len(matrix), 0))
    lower = ctypes.c_char(b"L")  # what is the upper triangle here is the lower one to Fortran
    ref = ctypes.byref
    diagonal = matrix.diagonal().copy()
    _potrf(ref(lower), ref(n), matrix.ctypes.data, ref(n), ref(info))
    if info.value or (matrix.diagonal() ** 2 <= smallest * diagonal).any():
        return False
    _potrs(
        ref(lower), ref(n), ref(m), matrix.ctypes.data, ref(n), right.ctypes.data, ref(n), ref(info)
    )
    return True


def inverse_factor_in_place(matrix: np.ndarray) -> bool:
    """Inverse of the Cholesky factor of a positive definite matrix; False where there is none.

    Parameters
    ----------
    matrix : (n, n) float64, C order
        Read from its upper triangle. Left in the upper triangle: U with U'U = matrix^-1 read
        the other way, that is ``matrix^-1 = U U'``. The lower triangle keeps what it held.

    Raises
    ------
    ValueError
        An array that LAPACK cannot work on in place.

    Examples
    --------
    >>> matrix = np.array([[4.0, 0], [0, 16]])
    >>> inverse_factor_in_place(matrix), np.diag(matrix).tolist()
    (True, [0.5, 0.25])
    """
    n = len(matrix)
    if matrix.dtype != np.float64 or not matrix.flags.c_contiguous or matrix.shape != (n, n):
        raise ValueError("need a square float64 array in C order")
    ref = ctypes.byref
    size, info = ctypes.c_int(n), ctypes.c_int(0)
    lower, unit = ctypes.c_char(b"L"), ctypes.c_char(b"N")
    _potrf(ref(lower), ref(size), matrix.ctypes.data, ref(size), ref(info))
    if info.value:
        return False
    _trtri(ref(lower), ref(unit), ref(size), matrix.ctypes.data, ref(size), ref(info))
    return not info.value
