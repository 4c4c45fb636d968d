"""One picture, whatever it is stored as, to RGB: or a sentence that says why not.

The rules, the same for every network:

- Grey, palette and 1-bit pictures become the same picture in R, G and B.
- 16-bit pictures keep the high byte of each value, as Pillow does for 16-bit colour.
- Transparency: a channel that is opaque everywhere is dropped; where something shines through, the
  picture is refused unless a `background` is said.
- CMYK becomes (1 - C)(1 - K) and so on; a JPEG in CMYK without Adobe's mark is refused, since
  nothing says whether its values are inverted. Colour profiles (ICC) are not applied.
- The orientation that a camera noted (EXIF) is applied. (``keras.utils.load_img`` ignores it.)
- Several pictures in one file (animations, pages) are refused; of a camera's MPO file the first is
  the photograph.
- Broken in any way that can be noticed: refused. A JPEG damaged inside has no checksum and cannot
  be noticed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from rsacompare.errors import DataError, MissingDependency, ProtocolError
from rsacompare.networks import picture_checks as checks

if TYPE_CHECKING:
    from PIL import Image

# Pillow's own limit against files that unpack to fill the memory
MOST_PIXELS = 89_478_485
# no JPEG 2000: cut anywhere, it is a blurred picture and no error
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm",
    ".pgm", ".pbm", ".pnm",
)  # fmt: skip


def read_image(
    source: Path | str | bytes | np.ndarray | Image.Image,
    where: str = "",
    *,
    background: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """A picture as RGB, by the rules of this module.

    Parameters
    ----------
    source : path, bytes of a file, array, or Pillow image
        An array is (height, width[, 1, 3 or 4]): uint8, bool, or float from 0 to 1. Any other is
        refused: nothing says what its black and white are.
    where : str
        What the picture is, for messages.
    background : (R, G, B), optional
        Shines through where the picture is transparent; without it such pictures are refused.

    Returns
    -------
    (height, width, 3) uint8, RGB

    Raises
    ------
    DataError
        Naming the picture, what is wrong and what to do.
    ProtocolError
        A background that is no colour.
    MissingDependency
        Pillow is not installed (arrays do without).

    Examples
    --------
    >>> read_image(np.array([[0.0, 0.5, 1.0]]))[0, :, 0].tolist()
    [0, 128, 255]
    """
    behind = _colour(background)
    if isinstance(source, (str, Path)):
        path = Path(source)
        where = f"{where} ({path})" if where else str(path)
        try:
            checks.require_file(path, where)
            with path.open("rb") as file:
                return _decode(file, where, behind)
        except OSError as err:
            raise DataError(f"{where} cannot be read: {err.strerror or err}") from err
    where = where or "picture"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(bytes(source)), where, behind)
    if isinstance(source, np.ndarray):
        return _from_array(source, where, behind)
    if hasattr(source, "getbands"):
        return _guarded(_from_image, source, where, behind)
    raise DataError(
        f"{where}: a path, the bytes of a file, an array or a Pillow image is expected, "
        f"got {type(source).__name__}"
    )


def pillow() -> Any:
    """The Pillow package with the modules used here."""
    try:
        import PIL.Image
        import PIL.ImageFile
        import PIL.ImageOps
    except ImportError as err:
        raise MissingDependency(
            'pictures are read by Pillow: pip install "rsacompare[networks]"'
        ) from err
    return PIL


def _colour(background: Any) -> np.ndarray | None:
    if background is None:
        return None
    colour = np.asarray(background)
    if (
        colour.shape != (3,)
        or colour.dtype.kind not in "iu"
        or ((colour < 0) | (colour > 255)).any()
    ):
        raise ProtocolError(
            f"background must be (R, G, B) of whole numbers from 0 to 255, got {background!r}"
        )
    return colour.astype(np.float64)


def _guarded(read: Any, source: Any, where: str, background: np.ndarray | None) -> np.ndarray:
    """`read`, with whatever Pillow raises for a broken file told as one sentence."""
    try:
        return read(source, where, background)
    except (DataError, MissingDependency, ProtocolError):
        raise
    except Exception as err:  # Pillow raises many kinds
        raise DataError(
            f"{where} is broken or truncated ({type(err).__name__}: {err}); get it again, or save "
            "it anew as PNG"
        ) from err


def _decode(file: IO[bytes], where: str, background: np.ndarray | None) -> np.ndarray:
    return _guarded(_decode_file, file, where, background)


def _decode_file(file: IO[bytes], where: str, background: np.ndarray | None) -> np.ndarray:
    pil = pillow()
    if pil.ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError(
            f"{where}: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set in this process, with which "
            "truncated pictures pass half grey; set it to False"
        )
    head = file.read(128)
    file.seek(0)
    if not head:
        raise DataError(f"{where} is empty (0 bytes); get it again")
    try:
        image = pil.Image.open(file, formats=FORMATS)
    except pil.UnidentifiedImageError as err:
        raise DataError(f"{where} {checks.what_it_is(head)}") from err
    except (pil.Image.DecompressionBombError, pil.Image.DecompressionBombWarning) as err:
        raise DataError(f"{where} is too large: {err}; shrink it first") from err
    if head[:2] in (b"P1", b"P2", b"P3"):  # a last number cut short is still a number
        raise DataError(f"{where} is a PPM in text form; save it in binary form or as PNG")
    if image.format in ("JPEG", "MPO"):
        checks.require_end(file, where)
    if image.format == "PNG":  # reading alone skips the checksums
        image.verify()
        file.seek(0)
        image = pil.Image.open(file, formats=FORMATS)
    with image:
        return _from_image(image, where, background)


def _from_image(image: Image.Image, where: str, background: np.ndarray | None) -> np.ndarray:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{where} is too large: {width} x {height} pixels, at most {MOST_PIXELS:,}; "
            "shrink it first"
        )
    if not width or not height:
        raise DataError(f"{where} is empty: {width} x {height} pixels")
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1 and image.format != "MPO":
        raise DataError(
            f"{where} holds {n_frames} pictures (an animation, or pages); save the one that was "
            "shown as a file of its own"
        )
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        raise DataError(
            f"{where} is a JPEG in CMYK without Adobe's mark: nothing says whether its values are "
            "inverted; save it as RGB"
        )
    deep = checks.is_16_bit(image)
    known_white = deep or image.format == "PPM"
    if image.format == "TIFF":
        checks.require_plain_tiff(image, where)
    image.load()
    try:
        image = pillow().ImageOps.exif_transpose(image)
    except Exception as err:  # Pillow raises many kinds
        raise DataError(
            f"{where}: its EXIF is broken ({err}), so that nothing says which way is up; save it "
            "anew without EXIF"
        ) from err
    if image.mode.startswith("I;16") or (image.mode == "I" and known_white):
        rgba = _from_16_bit(image)
    elif image.mode in ("I", "F", "LAB", "HSV"):
        kind = "a colour space" if image.mode in ("LAB", "HSV") else "numbers"
        raise DataError(
            f"{where} holds {image.mode} pixels: {kind} without a stated black and white; save it "
            "as 8-bit RGB"
        )
    elif image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        rgba = np.asarray(image.convert("RGBA"))
    else:
        rgba = np.array(image.convert("RGB"))
    # kept is the high byte: of numbers that go to 4095 next to nothing
    if deep and rgba[..., :3].max() < 16:
        raise DataError(
            f"{where} is stored in 16 bits but holds nothing above 4095: that may be its white, "
            "and 65535 is not; save it as 8-bit"
        )
    return _flattened(rgba, where, background) if rgba.shape[2] == 4 else rgba


def _from_16_bit(image: Image.Image) -> np.ndarray:
    """Grey in 16 bits as RGBA; Pillow's own way to RGB would make it white."""
    values = np.asarray(image).astype(np.int64)
    grey = (values >> 8).astype(np.uint8)
    key = image.info.get("transparency")
    alpha = np.where(values == key, 0, 255) if key is not None else np.full(grey.shape, 255)
    return np.stack([grey, grey, grey, alpha.astype(np.uint8)], axis=-1)


def _flattened(rgba: np.ndarray, where: str, background: np.ndarray | None) -> np.ndarray:
    """(height, width, 4) uint8 without its transparency."""
    alpha = rgba[..., 3:]
    if (alpha == 255).all():
        return rgba[..., :3].copy()
    if not alpha.any():
        raise DataError(f"{where} is transparent everywhere: there is nothing to see")
    if background is None:
        share = np.count_nonzero(alpha < 255) / alpha.size
        raise DataError(
            f"{where} is transparent in {share:.1%} of its pixels: what shines through was decided "
            "by the screen; save it without transparency, or in Python give the picture as "
            "rsacompare.networks.images.read_image(file, background=(R, G, B))"
        )
    opacity = alpha / 255
    return np.rint(rgba[..., :3] * opacity + background * (1 - opacity)).astype(np.uint8)


def _from_array(array: np.ndarray, where: str, background: np.ndarray | None) -> np.ndarray:
    shape = array.shape
    if array.ndim == 3 and shape[2] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        raise DataError(
            f"{where}: shape {shape} has its channels first; (height, width, channel) is expected: "
            "np.moveaxis(picture, 0, -1)"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise DataError(
            f"{where}: an array (height, width[, 1, 3 or 4]) is expected, got shape {shape}"
        )
    if array.size == 0:
        raise DataError(f"{where}: empty, shape {shape}")
    if shape[0] * shape[1] > MOST_PIXELS:
        raise DataError(f"{where} is too large: shape {shape}, at most {MOST_PIXELS:,} pixels")
    values = _eight_bit(array, where)
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[2] == 4:
        return _flattened(values, where, background)
    return np.array(np.broadcast_to(values, (*shape[:2], 3)))


def _eight_bit(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind != "f":
        raise DataError(
            f"{where}: an array of {array.dtype}: black and white are not known; give uint8 "
            "(0 to 255) or float (0 to 1)"
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise DataError(
            f"{where}: floats of a picture must lie from 0 to 1, got {low:g} to {high:g}; if they "
            "are 0 to 255, round them to uint8"
        )
    return np.floor(array * 255.0 + 0.5).astype(np.uint8)
