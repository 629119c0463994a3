"""Pictures of all kinds as arrays: the pixels that Keras' own loader gives, and what it does not know."""

import os

import numpy as np
import pytest
import tf_keras
from PIL import Image

from autoopt.models import pictures

RNG = np.random.default_rng(0)
COLOUR = np.repeat(np.repeat(RNG.integers(0, 256, (6, 9, 3)), 5, 0), 5, 1).astype(np.uint8)  # blocks survive JPEG
CAMERA = {2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, 1), 7: lambda x: np.rot90(x.swapaxes(0, 1), 2), 8: lambda x: np.rot90(x, -1)}  # fmt: skip
"""How a camera that was held so stores what stands upright."""


def keras(path, mode, height, width):
    """The picture as `image_dataset_from_directory` reads it from a folder of its own."""
    kinds = {"L": "grayscale", "RGB": "rgb", "RGBA": "rgba"}
    made = tf_keras.utils.image_dataset_from_directory(
        path.parent, labels=None, color_mode=kinds[mode], image_size=(height, width), shuffle=False
    )
    return next(iter(made)).numpy()[0]


def saved(folder, image, name, **how):
    (folder / "only").mkdir(exist_ok=True)
    image.save(folder / "only" / name, **how)
    return folder / "only" / name


@pytest.mark.parametrize("size", [(30, 45), (7, 11), (64, 50), (45, 30), (1, 1)])
@pytest.mark.parametrize(("ending", "off"), [("png", 0.51), ("bmp", 0.51), ("gif", 0.51), ("jpg", 6)])
def test_pixels_are_those_of_keras_loader(ending, off, size, tmp_path):
    """Whole numbers are half a step off at most; decoders of JPEG differ by some."""
    path = saved(tmp_path, Image.fromarray(COLOUR), f"a.{ending}")
    found, turned = pictures.read(path, "RGB", *size)
    assert (found.dtype, found.shape, turned) == (np.uint8, (*size, 3), False)
    assert np.abs(found - keras(path, "RGB", *size)).max() <= off


@pytest.mark.parametrize(
    ("image", "ending", "mode"),
    [
        (Image.fromarray(COLOUR[..., 0]), "png", "L"),
        (Image.fromarray(COLOUR[..., 0]), "png", "RGB"),
        (Image.fromarray(COLOUR).quantize(16), "png", "RGB"),
        (Image.fromarray(np.dstack([COLOUR, COLOUR[..., :1]])), "png", "RGB"),
        (Image.fromarray(np.dstack([COLOUR, COLOUR[..., :1]])), "png", "RGBA"),
        (Image.fromarray(COLOUR[..., 0] > 99), "png", "L"),
        (Image.fromarray(COLOUR[..., 0].astype(np.uint16) * 256 + 255), "png", "L"),
    ],
    ids=["grey", "grey as colour", "palette", "alpha", "with alpha", "one bit", "16 bits"],
)
def test_every_mode_is_read_as_keras_does(image, ending, mode, tmp_path):
    path = saved(tmp_path, image, f"a.{ending}")
    found, _ = pictures.read(path, mode, 12, 20)
    assert np.abs(found - keras(path, mode, 12, 20)).max() <= 0.51


def test_grey_of_a_colour_jpeg_is_its_brightness(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOUR), "a.jpg", quality=95)
    assert np.abs(pictures.read(path, "L", 30, 45)[0] - keras(path, "L", 30, 45)).mean() < 3


def test_cmyk_is_read_as_colours(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOUR).convert("CMYK"), "a.jpg", quality=95)
    assert np.abs(pictures.read(path, "RGB", 30, 45)[0].astype(int) - COLOUR).mean() < 10


@pytest.mark.parametrize("ending", ["webp", "tiff", "ppm"])
def test_kinds_that_keras_does_not_know_are_read(ending, tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOUR), f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(pictures.read(path, "RGB", 30, 45)[0], COLOUR)


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert (pictures.read(path, "RGB", 8, 8)[0] == 10).all()


@pytest.mark.parametrize("orientation", CAMERA)
@pytest.mark.parametrize("ending", ["png", "webp"])
def test_a_picture_is_turned_upright(orientation, ending, tmp_path):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(CAMERA[orientation](COLOUR)))
    path = saved(tmp_path, stored, f"a.{ending}", exif=exif, **({"lossless": True} if ending == "webp" else {}))
    found, turned = pictures.read(path, "RGB", 30, 45)
    np.testing.assert_array_equal(found, COLOUR)
    assert turned


def test_damaged_exif_data_does_not_matter(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOUR), "a.jpg", exif=b"Exif\x00\x00no such thing at all")
    found, turned = pictures.read(path, "RGB", 30, 45)
    assert (found.shape, turned) == ((30, 45, 3), False)


def broken(folder, kind):
    path = saved(folder, Image.fromarray(COLOUR), "a.jpg")
    whole = path.read_bytes()
    if kind in ("link", "pipe", "folder"):
        path.unlink()
        {"link": lambda: path.symlink_to("nowhere"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    else:
        path.write_bytes({"text": b"<html>", "empty": b"", "truncated": whole[: len(whole) // 2]}.get(kind, b""))
    if kind == "float":
        return saved(folder, Image.fromarray(COLOUR[..., 0].astype(np.float32)), "a.tiff")
    if kind == "script":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    return path


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("text", "no picture"),
        ("script", "no picture"),
        ("empty", "is empty"),
        ("truncated", "(?i)truncated"),
        ("link", "No such file"),
        ("pipe", "got a pipe"),
        ("folder", "got a folder"),
        ("float", "32 bits"),
    ],
)
def test_what_is_no_whole_picture_says_why_without_its_path(kind, why, tmp_path):
    with pytest.raises(pictures.Unreadable, match=why) as refused:
        pictures.read(broken(tmp_path, kind), "RGB", 8, 8)
    assert str(tmp_path) not in str(refused.value)
