"""Reads pictures of all usual kinds as arrays of one size, as Keras' `image_dataset_from_directory` does."""

import contextlib
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import ConfigError, one_line, retold
from autoopt.system import foreign_files

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow's names of what is tried; it knows more, some of which start other programs."""
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""How the names of pictures end, in small letters."""
ORIENTATION = 0x0112
"""EXIF's tag for how a camera was held."""
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of 16 bits a value."""
NO_PILLOW = "pictures need Pillow, which is not installed; pip install 'autoopt[images]'"
CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


class Unreadable(ConfigError):
    """A file is no picture that can be decoded; the text says why, without the path."""


def expect_pillow() -> None:
    """Check that Pillow is installed.

    Raises:
        ConfigError: if it is not.
    """
    try:
        import PIL  # noqa: F401 - whether it is there is the question
    except ImportError as error:
        raise ConfigError(NO_PILLOW) from error


def read(path: Path, mode: str, height: int, width: int) -> tuple[np.ndarray, bool]:
    """Decode a picture and bring it to a size.

    Both sides are stretched to the size, whatever the picture's proportions, bilinearly and without smoothing first. A
    picture is turned upright where its EXIF data says how the camera was held. Of an animation the first frame is taken,
    of 16 bits a value the upper 8, and what is transparent shows the colour that it hides.

    Args:
        path: of the file.
        mode: the colours, by Pillow's name: `L`, `RGB` or `RGBA`.
        height: of the result.
        width: of the result.

    Returns:
        shape (height, width, channels), dtype uint8; and whether it was turned.

    Raises:
        Unreadable: if the file is no whole picture.
    """
    import tensorflow as tf

    pixels, turned = _decoded(path, mode)
    if pixels.shape[:2] != (height, width):
        resized = tf.image.resize(pixels, (height, width), method="bilinear").numpy()
        pixels = np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    return pixels, turned


def _decoded(path: Path, mode: str) -> tuple[np.ndarray, bool]:
    """A picture's pixels in its own size, upright, and whether it had to be turned."""
    from PIL import Image

    with _unreadable(path), Image.open(path, formats=FORMATS) as opened:
        method = _turn(opened)
        if mode == "L" and opened.format in ("JPEG", "MPO"):
            opened.draft("L", None)  # a JPEG holds its brightness apart from its colours
        opened.load()
        image = _eight_bits(opened)
        if image.mode != mode:
            image = image.convert(mode)
        if method is not None:
            image = image.transpose(method)
        return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, CHANNELS[mode]), method is not None


@contextlib.contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """Say of whatever Pillow raises that the picture can't be read: its plugins raise many kinds."""
    try:
        foreign_files.expect_regular(path)
    except ConfigError as error:
        raise Unreadable(str(error).removeprefix(f"{path}: ")) from error
    with warnings.catch_warnings(), retold(lambda error: Unreadable(_why(error))):
        warnings.simplefilter("ignore")  # of damaged EXIF data and the like, which pixels do not depend on
        yield


def _why(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "is no picture of a kind that can be read"
    return one_line(error, 120) or type(error).__name__


def _turn(image: Any) -> Any:
    """How a picture has to be turned to stand upright; None for one that does."""
    from PIL.Image import Transpose

    orientation: Any = None
    with contextlib.suppress(SyntaxError, ValueError, TypeError, LookupError, OSError, struct.error):
        orientation = image.getexif().get(ORIENTATION)  # damaged EXIF data says nothing
    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)


def _eight_bits(image: Any) -> Any:
    """A picture with 8 bits a value."""
    from PIL import Image

    if image.mode in DEEP or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise Unreadable(f"holds values of 32 bits (mode {image.mode}), whose range is not known; save it with 8 bits")
    return image
