"""NIfTI files, read as a stream: a volume at a time, of which the wanted voxels are kept.

A run of any size costs one volume and its wanted voxels. What a header promises is checked
against the file before anything is allocated.
"""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from rsacompare.errors import DataError, FetchError

GZIP = b"\x1f\x8b"
MOST_DEFLATED = 1032  # bytes that one byte of deflate can stand for at most
PIECE = 1 << 24
# a voxel centre may lie this far (in voxels) from where another grid has it: rounding of headers
SAME_PLACE = 0.05


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image are: `shape` (x, y, z) and `affine` (4, 4) to millimetres."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __str__(self) -> str:
        rows = "; ".join(" ".join(f"{v:g}" for v in row) for row in self.affine[:3].round(4))
        return f"shape {self.shape}, affine [{rows}]"

    def same(self, other: Grid) -> bool:
        """Whether no voxel is more than a twentieth of a voxel from its place in `other`."""
        if self.shape != other.shape:
            return False
        corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in self.shape))])
        moved = corners @ (self.affine - other.affine)[:3].T
        return bool(np.abs(moved @ np.linalg.inv(other.affine[:3, :3]).T).max() < SAME_PLACE)


@dataclass(frozen=True)
class Image:
    """A NIfTI file whose header has been read and checked, and none of its values."""

    path: Path
    grid: Grid
    n_volumes: int
    repetition_time: float  # seconds; 0 where the header does not say
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float

    def read(self, voxels: np.ndarray | None = None) -> np.ndarray:
        """Values of some voxels in every volume.

        Parameters
        ----------
        voxels : (voxel, 3) int, optional
            Indices i, j, k; all voxels in Fortran order when absent.

        Returns
        -------
        (volume, voxel) float64

        Raises
        ------
        DataError
            When the file ends early or its compressed data are damaged.
        """
        n_bytes = int(np.prod(self.grid.shape)) * self.dtype.itemsize
        flat: Any = slice(None)
        if voxels is not None:
            flat = np.ravel_multi_index(tuple(voxels.T), self.grid.shape, order="F")
        rows = []
        try:
            with _stream(self.path) as handle:
                for start in range(0, self.offset, PIECE):
                    _exactly(handle, min(PIECE, self.offset - start))
                for _ in range(self.n_volumes):
                    volume = np.frombuffer(_exactly(handle, n_bytes), self.dtype)
                    rows.append(volume[flat])
                while handle.read(PIECE):  # at the end of gzip data their checksum is verified
                    pass
        except (OSError, EOFError, zlib.error, MemoryError) as err:
            raise _broken(self.path, err) from err
        values = np.array(rows, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # told as values that are not finite
            values *= self.slope
            values += self.intercept
        return values


def open_image(path: str | Path) -> Image:
    """A NIfTI-1 or NIfTI-2 file (`.nii`, `.nii.gz`), its header checked against its size.

    Raises
    ------
    FetchError
        A git-annex link whose content is not on this machine.
    DataError
        No such file; not NIfTI; a header that cannot be true; a file shorter than it promises.
    """
    from nibabel import Nifti1Header, Nifti2Header

    file = Path(path)
    require_content([file])
    try:
        with _stream(file) as handle:
            head = handle.read(540)
    except (OSError, EOFError, zlib.error) as err:
        raise _broken(file, err) from err
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    kind = Nifti1Header if 348 in sizes else Nifti2Header if 540 in sizes else None
    if kind is None or len(head) < kind.sizeof_hdr:
        raise DataError(f"{file} is not a NIfTI file (.nii or .nii.gz), or is damaged")
    try:
        with np.errstate(all="ignore"):
            header = kind(head[: kind.sizeof_hdr], check=False)  # its check logs; ours are below
            shape = tuple(int(n) for n in header.get_data_shape())
            dtype = header.get_data_dtype()
            affine = np.asarray(header.get_best_affine(), dtype=np.float64)
            offset = int(header.get_data_offset())
            slope, intercept = header.get_slope_inter()
            zooms = [float(z) for z in header.get_zooms()]
            unit = header.get_xyzt_units()[1]
            single = bytes(header["magic"].item())[:2] == b"n+"
    except Exception as err:  # nibabel raises many kinds for a damaged header
        raise _broken(file, err) from err
    if not single:
        raise DataError(f"{file}: a header apart from its image; convert it to one .nii file")
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if not 3 <= len(shape) <= 4 or min(shape) < 1:
        raise DataError(f"{file}: shape {shape}; three or four dimensions are expected")
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise DataError(f"{file}: values of type {dtype}; plain numbers are expected")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"{file}: an affine that places no voxel: {affine[:3].round(4).tolist()}")
    needed = offset + int(np.prod([*map(int, shape)], dtype=object)) * dtype.itemsize
    held = file.stat().st_size
    if _magic(file) == GZIP:
        held *= MOST_DEFLATED
    if needed > held or offset < kind.sizeof_hdr:
        raise DataError(
            f"{file}: its header promises shape {shape} of {dtype} from byte {offset}, more than "
            f"the file of {file.stat().st_size} bytes can hold: truncated or damaged, get it again"
        )
    # without a unit the header's interval is a writer's default (1) as often as a measurement
    seconds = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(unit, 0.0)
    interval = zooms[3] * seconds if len(shape) == 4 and len(zooms) > 3 else 0.0
    return Image(
        path=file,
        grid=Grid((shape[0], shape[1], shape[2]), affine),
        n_volumes=shape[3] if len(shape) == 4 else 1,
        repetition_time=interval if np.isfinite(interval) and interval > 0 else 0.0,
        dtype=dtype,
        offset=offset,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
    )


def require_content(paths: Iterable[Path], root: str | Path | None = None) -> None:
    """Raise where a file is missing; where it is a git-annex link, say how to get its content.

    Parameters
    ----------
    paths : iterable of Path
    root : path, optional
        The folder of the data set, for the command.
    """
    absent: list[Path] = []
    links: list[Path] = []
    for path in paths:
        if path.is_file():
            if path.stat().st_size < 1024 and path.read_bytes()[:15] == b"/annex/objects/":
                links.append(path)  # an unlocked annex file without content names its key
        else:
            (links if path.is_symlink() else absent).append(path)
    if links:
        place = Path(root or links[0].parent)
        common = os.path.commonpath([os.path.abspath(link) for link in links])
        wanted = os.path.relpath(common, os.path.abspath(place))
        raise FetchError(
            f"{len(links)} files are git-annex links whose content is not on this machine "
            f"(first: {links[0]}); in {place} run `datalad get {wanted}` "
            f"(or `git annex get {wanted}`)"
        )
    if absent:
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise DataError(f"no file {absent[0]}{more}")


def _magic(file: Path) -> bytes:
    with open(file, "rb") as handle:
        return handle.read(2)


def _stream(file: Path) -> IO[bytes]:
    """The bytes of a file, decompressed where they are gzip (whatever its name says)."""
    return gzip.open(file) if _magic(file) == GZIP else open(file, "rb")  # type: ignore[return-value]


def _exactly(handle: IO[bytes], size: int) -> bytes:
    """Bytes in pieces, so that a false size allocates no more than the file has."""
    pieces, left = [], size
    while left:
        piece = handle.read(min(left, PIECE))
        if not piece:
            raise EOFError(f"the data end {left} bytes early")
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _broken(file: Path, err: Exception) -> DataError:
    return DataError(
        f"{file} cannot be read as NIfTI ({type(err).__name__}: {err}); it may be truncated or "
        "damaged: get it again"
    )
