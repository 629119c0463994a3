"""Reads a person's own files as a model takes them.

Stands alone, on numpy and for images on Pillow: what follows the imports becomes part of a bundle's `predict.py`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# ---- what follows stands in predict.py as it is

FEW = 16  # numbers that are printed; more are written to a file
RANGES = ((0, 255), (0, 1), (-1, 1), (-128, 127))  # that 8-bit images are brought to in training
USAGE = "give an image, an .npy or .npz, or a .csv with one item a row"


class BadInput(Exception):
    """A file can't be used; its text is one line for a person."""


def arrays_of(card: Any, paths: list[Path], rows: Any = None) -> tuple[list[np.ndarray], bool]:
    """An array for each input, items first, and whether it is one item alone.

    Args:
        card: of the bundle.
        paths: a file for each input.
        rows: makes inputs of the rows of a table that was not prepared yet, of its path and an item's shape; it gives None
            for rows that are inputs already. Without it all are.
    """
    inputs = card["inputs"]
    facts = card.get("data") or [None] * len(inputs)
    if paths[0].suffix.lower() == ".npz":
        given = [(f"{paths[0].name}: {name}", array) for name, array in _npz(paths[0], inputs)]
    else:
        given = [
            (path.name, _read(path, end, fact, rows)) for path, end, fact in zip(paths, inputs, facts, strict=True)
        ]
    fitted = [_fitted(array, end, fact, where) for (where, array), end, fact in zip(given, inputs, facts, strict=True)]
    counts = {len(array) for array, _ in fitted}
    if len(counts) > 1:
        raise BadInput(
            f"expected as many items for each input, got {', '.join(str(len(array)) for array, _ in fitted)}"
        )
    if counts == {0}:
        raise BadInput(f"{paths[0].name}: holds no items")
    return [array for array, _ in fitted], all(single for _, single in fitted)


def _read(path: Path, end: Any, fact: Any, rows: Any) -> Any:
    """What a file holds for one input."""
    if not path.is_file():
        raise BadInput(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; {USAGE}")
    kind = path.suffix.lower()
    if kind == ".npy":
        return loaded(path)
    if kind in (".csv", ".tsv"):
        item = tuple(end["shape"][1:])
        prepared = None if rows is None else rows(path, item)
        return _rows(path, item) if prepared is None else prepared
    return _image(path, tuple(end["shape"][1:]), fact)


def loaded(path: Path) -> Any:
    """What an .npy or .npz holds; never unpickles."""
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for what is damaged
        raise BadInput(f"{path.name}: not a file of plain arrays ({' '.join(str(error).split())[:200]})") from error


def _npz(path: Path, inputs: Any) -> list[tuple[str, np.ndarray]]:
    """Name and array for each input of an .npz: by the input's name, by `input_0` and so on, or the only one."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; {USAGE}")
    with loaded(path) as arrays:
        for called in ([end.get("key") or end["name"] for end in inputs], [f"input_{i}" for i in range(len(inputs))]):
            if set(called) <= set(arrays.files):
                found = [(name, _loaded_array(path, arrays, name)) for name in called]
                stored = called[0] == "input_0"  # as samples.npz holds them: in the integers that the model takes
                return [
                    (name, real(array, end) if stored and array.dtype == end["dtype"] else array)
                    for (name, array), end in zip(found, inputs, strict=True)
                ]
        if len(inputs) == len(arrays.files) == 1:
            return [(arrays.files[0], _loaded_array(path, arrays, arrays.files[0]))]
        wanted = ", ".join(end.get("key") or end["name"] for end in inputs)
        raise BadInput(f"{path.name}: expected arrays named {wanted}, got {', '.join(arrays.files) or 'none'}")


def _loaded_array(path: Path, arrays: Any, name: str) -> Any:
    try:
        return arrays[name]
    except Exception as error:  # as above
        raise BadInput(f"{path.name}: {name}: can't be read ({' '.join(str(error).split())[:200]})") from error


def _rows(path: Path, item: tuple[int, ...]) -> np.ndarray:
    """The numbers of a .csv, one item a row; a first row of names is left out."""
    size, found, first = int(np.prod(item)), [], True
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            start = stream.readline()
            stream.seek(0)
            between = "\t" if "\t" in start and "," not in start else ";" if ";" in start and "," not in start else ","
            for number, cells in enumerate(csv.reader(stream, delimiter=between), 1):
                if not any(cell.strip() for cell in cells):
                    continue
                try:
                    values = [float(cell) for cell in cells]
                except ValueError:
                    if first:
                        print(f"{path.name}: the first row is names and left out")
                        first = False
                        continue
                    odd = next(cell for cell in cells if not _number(cell))
                    raise BadInput(f"{path.name}: line {number}: expected numbers, got {odd[:40]!r}") from None
                first = False
                if len(values) != size:
                    shape = " x ".join(map(str, item)) or "1"
                    raise BadInput(f"{path.name}: line {number}: expected {size} values ({shape}), got {len(values)}")
                found.append(values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path.name}: can't be read as a table ({' '.join(str(error).split())[:200]})") from error
    return np.array(found, np.float64).reshape(len(found), *item)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _image(path: Path, item: tuple[int, ...], fact: Any) -> np.ndarray:
    """An image in the model's size and colours, scaled as the task's data was where that is beyond doubt."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise BadInput(f"{path.name}: images need Pillow: pip install pillow") from error
    mode = colours(item)
    if mode is None:
        shape = " x ".join(map(str, item)) or "one number"
        raise BadInput(f"{path.name}: the model takes {shape}, which is no image of height x width x colours; {USAGE}")
    span = brightness(fact)
    if span is None:
        had = (
            "are not known"
            if fact is None
            else f"reached from {fact['low']:.4g} to {fact['high']:.4g} ({fact['dtype']})"
        )
        raise BadInput(
            f"{path.name}: the values that the model was trained on {had}, so how to scale an image is in doubt; give an .npy of such values"
        )
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
                raise BadInput(
                    f"{path.name}: expected 8 bits a colour, got an image of mode {image.mode}; give an .npy"
                )
            size, was, image = image.size, image.mode, image.convert(mode)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path.name}: no image that Pillow can read, nor .npy, .npz or .csv") from error
    done = [] if was == mode else [f"converted from {was} to {mode}"]
    height, width = item[:2]
    if size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        shape = "" if size[0] * height == size[1] * width else ", which changes its proportions"
        done.append(f"resized from {size[0]} x {size[1]} to {width} x {height}{shape}")
    low, high = span
    data = f"the task's data ({fact['dtype']}, from {fact['low']:.4g} to {fact['high']:.4g})"
    done.append(
        f"left at 0 to 255, as {data}" if span == (0, 255) else f"scaled from 0..255 to {low}..{high}, as {data}"
    )
    print(f"{path.name}: {', '.join(done)}")
    pixels = np.asarray(image, np.float32)
    pixels = pixels if span == (0, 255) else low + pixels * ((high - low) / 255)
    return pixels.reshape(item)


def colours(item: Sequence[int]) -> str | None:
    """Pillow's name for the colours of images of a shape (height, width, colours), or None where it is none of images."""
    if len(item) == 2:
        return "L" if min(item) >= 8 else None
    return {1: "L", 3: "RGB", 4: "RGBA"}.get(item[2]) if len(item) == 3 else None


def brightness(fact: Any) -> tuple[int, int] | None:
    """The range that images of 0..255 were brought to for the task's data, or None where that is in doubt."""
    if fact is None:
        return None
    if fact["dtype"] == "uint8" and fact["high"] >= 128:
        return (0, 255)
    for low, high in RANGES:
        near = (high - low) / 20
        if low <= fact["low"] <= low + near and high - near <= fact["high"] <= high:
            return None if fact["whole"] and high == 1 else (low, high)  # black and white: by what threshold?
    return None


def _fitted(array: np.ndarray, end: Any, fact: Any, where: str) -> tuple[np.ndarray, bool]:
    """An input's array with items first, and whether it was given as one item alone."""
    item = tuple(end["shape"][1:])
    if array.dtype.kind not in "biuf":
        raise BadInput(f"{where}: expected numbers, got {array.dtype}")
    shapes = [(item, True), (array.shape[:1] + item, False)]
    if item[-1:] == (1,):  # the last axis of 1 may be missing
        shapes += [(item[:-1], True), (array.shape[:1] + item[:-1], False)]
    found = next((single for shape, single in shapes if array.shape == shape), None)
    if found is None:
        raise BadInput(f"{where}: expected shape {item}, or (items, {', '.join(map(str, item))}), got {array.shape}")
    array = array.reshape(1 if found else len(array), *item)
    if not np.isfinite(array).all():
        raise BadInput(f"{where}: holds NaN or infinity")
    dtype = np.dtype(end["dtype"])
    if dtype.kind in "iu" and not end["scale"] and array.size:
        limits = np.iinfo(dtype)
        if (array != np.floor(array)).any() or array.min() < limits.min or array.max() > limits.max:
            raise BadInput(f"{where}: expected whole numbers of {dtype}, as the model takes them")
    if fact is not None and array.size:
        _compare(array, fact, where)
    return array, found


def _compare(array: np.ndarray, fact: Any, where: str) -> None:
    """Say so where values do not lie where those of the task's data lay."""
    low, high, width = fact["low"], fact["high"], fact["high"] - fact["low"]
    least, most = float(array.min()), float(array.max())
    beyond = least < low - width / 2 or most > high + width / 2
    narrow = array.size > FEW and 0 < (most - least) * 50 < width
    if beyond or narrow:
        print(
            f"{where}: CAUTION: its values reach from {least:.4g} to {most:.4g}, those of the task's data from "
            f"{low:.4g} to {high:.4g}: give values as the model was trained on"
        )


def real(array: np.ndarray, end: Any) -> np.ndarray:
    """The values that a tensor's integers stand for."""
    if not end["scale"] or array.dtype.kind not in "iu":
        return array
    return (array.astype(np.float32) - (end["zero_point"] or 0)) * np.float32(end["scale"])
