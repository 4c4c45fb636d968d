"""Files that are no pictures, or such as Pillow shows wrongly without a word."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import IO, Any

import numpy as np

from rsacompare.errors import DataError

_READABLE = "JPEG, PNG, BMP, GIF, TIFF, WebP or PPM"
# what a file that is no picture often is: (where the mark stands, the mark, its name)
_MARKS = (
    (4, b"ftyphei", "HEIC, a phone's format; convert it to PNG or JPEG"),
    (4, b"ftypmif1", "HEIF, a phone's format; convert it to PNG or JPEG"),
    (4, b"ftypavif", "AVIF; convert it to PNG"),
    (0, b"\0\0\0\x0cjP", "JPEG 2000, half of which passes for a whole; convert it to PNG"),
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"8BPS", "a Photoshop file; export it as PNG"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"MATLAB", "a MATLAB file"),
    (0, b"\x93NUMPY", "a numpy array; load it and give the array"),
    (0, b"PK\x03\x04", "a zip archive; unpack it"),
    (0, b"\x1f\x8b", "gzip-compressed; unpack it"),
    (0, b"<svg", "an SVG drawing; export it as PNG"),
    (0, b"<!DOCTYPE", "a web page, perhaps of a download that failed"),
    (0, b"<html", "a web page, perhaps of a download that failed"),
    (0, b"<?xml", "XML text"),
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with 'git lfs pull'"),
    (0, b"/annex/objects", "a git-annex pointer; fetch the file itself with 'git annex get'"),
    (0, b"../.git/annex", "a git-annex pointer; fetch the file itself with 'git annex get'"),
)  # fmt: skip


def require_file(path: Path, where: str) -> None:
    """DataError where there is no file, with what looks like it."""
    if path.is_dir():
        raise DataError(f"{where} is a folder, a picture is expected")
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        link = " (a link that leads nowhere)" if path.is_symlink() else ""
        raise DataError(f"{where}: no such file{link}{hint}")
    if not path.is_file():
        raise DataError(f"{where} is not a file")


def require_end(file: IO[bytes], where: str) -> None:
    """A JPEG whose tail was never written (zeros) decodes without a complaint, but has no end."""
    at = file.tell()
    file.seek(0)
    held = file.read()
    file.seek(at)
    if held.rfind(b"\xff\xd9") < held.rfind(b"\xff\xda"):
        raise DataError(f"{where} is truncated: a JPEG without its end mark; get it again")


def what_it_is(head: bytes) -> str:
    """What a file is that is no picture."""
    for at, mark, name in _MARKS:
        if head[at:].lstrip()[: len(mark)].lower() == mark.lower():
            return f"is no picture that can be read: it is {name}"
    return (
        f"is no picture that can be read, or one broken at its beginning: {_READABLE} is expected"
    )


def is_16_bit(image: Any) -> bool:
    """Whether the file holds 16 bits a value, of which Pillow keeps the high byte in colour."""
    if image.format == "TIFF":
        return 16 in np.atleast_1d(image.tag_v2.get(258, 1))
    return image.format == "PNG" and ";16" in str(image.tile)


def require_plain_tiff(image: Any, where: str) -> None:
    """TIFFs that Pillow shows wrongly and without a word."""
    tags = image.tag_v2
    odd = ""
    if 2 in np.atleast_1d(tags.get(339, 1)):
        odd = "signed numbers"
    elif is_16_bit(image) and tags.get(262) == 0:
        odd = "16-bit grey with 0 for white"
    elif is_16_bit(image) and tags.get(284) == 2:
        odd = "16-bit colours in separate planes"
    if odd:
        raise DataError(f"{where} is a TIFF of {odd}; save it as 8-bit RGB")
