"""Says in words what a model's outputs mean for a person's own files.

Stands alone, beside `own_files`: what follows the imports becomes part of a bundle's `predict.py`.
"""

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.reporting.bundle.own_files import FEW, BadInput, arrays_of, loaded, real
from autoopt.reporting.bundle.table_rows import prepared_rows

# ---- what follows stands in predict.py as it is

TOP = 5  # classes that are printed


def main(folder: Path, predict: Callable[..., Any], arguments: Sequence[str]) -> None:
    """Predict for each of the files that are named, or for the first stored sample, and print what comes out.

    Args:
        folder: of the bundle.
        predict: gives the model's real outputs, an array or a dict of arrays by name, for one item.
        arguments: names of files; a model of several inputs takes one for each, in its order.
    """
    try:
        card = json.loads(_text(folder / "card.json"))
        names = _text(folder / "labels.txt").splitlines() if (folder / "labels.txt").is_file() else []
        if arguments:
            _each(card, predict, names, [Path(name) for name in arguments], _preparing(folder))
        else:
            _first(folder, card, predict, names)
    except json.JSONDecodeError as error:
        print(f"predict.py: {folder / 'card.json'}: damaged ({error}); copy it again", file=sys.stderr)
        raise SystemExit(2) from None
    except BadInput as error:
        print(f"predict.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _preparing(folder: Path) -> Any:
    """What makes inputs of a table's rows, where the model was trained on a table; else None."""
    path = folder / "preparation.json"
    if not path.is_file():
        return None
    try:
        told = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: damaged ({error}); copy it again") from None
    return functools.partial(prepared_rows, told=told) if told.get("kind") == "table" and "columns" in told else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: can't read it ({error.strerror}); copy the whole folder") from error


def _each(card: Any, predict: Callable[..., Any], names: list[str], paths: list[Path], rows: Any) -> None:
    """Read the files, and print a line for every item."""
    inputs = card["inputs"]
    npz = len(paths) == 1 and paths[0].suffix.lower() == ".npz"
    if len(inputs) > 1 and not npz and len(paths) != len(inputs):
        called = ", ".join(end.get("key") or end["name"] for end in inputs)
        raise BadInput(
            f"the model has {len(inputs)} inputs ({called}): give a file for each, in this order, or one .npz"
        )
    for together in [paths] if len(inputs) > 1 else [[path] for path in paths]:
        arrays, single = arrays_of(card, together, rows)
        for place in range(len(arrays[0])):
            found = predict(*(array[place] for array in arrays))
            path = together[0]
            where = path.name if single else f"{path.name}[{place}]"
            stem = path.stem if single else f"{path.stem}_{place}"
            for line in _told(card, found, names, where, stem, arrays[0][place]):
                print(line)
    note = _unit(card)
    if note:
        print(note)


def _first(folder: Path, card: Any, predict: Callable[..., Any], names: list[str]) -> None:
    """Predict for the first stored sample, or for zeros where none is stored."""
    where = "first stored sample"
    if (folder / "samples.npz").is_file():
        stored = loaded(folder / "samples.npz")
        items = [real(stored[f"input_{i}"][0], end) for i, end in enumerate(card["inputs"])]
    else:
        where = "zeros"
        print("no samples are stored: this is what the model says of zeros", file=sys.stderr)
        items = [np.zeros(end["shape"][1:], end["dtype"]) for end in card["inputs"]]
    found = predict(*items)
    if isinstance(found, dict):
        for name, values in found.items():
            print(name, values.reshape(-1))
        return
    meaning = card["meaning"][0]
    if meaning["kind"] in ("classes", "binary"):
        print(*_best(found.reshape(-1), meaning, names))
    elif meaning["kind"] == "values" and found.size <= FEW:
        print(found.reshape(-1))
    else:
        for line in _told(card, found, names, where, "", items[0]):
            print(line)


def _best(scores: np.ndarray, meaning: Any, names: list[str]) -> list[Any]:
    """The class that is given, and its probability or score."""
    alone, note = "threshold" in meaning, []
    best = int(scores[0] > meaning["threshold"]) if alone else int(scores.argmax())
    if meaning["values"] == "logits":
        scores = _probabilities(scores.astype(np.float64), alone)
        note = [f"({'sigmoid' if alone else 'softmax'} of the model's logits)"]
    score = scores[0] if alone else scores[best]
    if alone and not best and meaning["values"] != "scores":
        score = 1 - score  # of the class that is given, not of the other one
    return [names[best] if best < len(names) else best, score, *note]


def _told(card: Any, found: Any, names: list[str], where: str, stem: str, item: np.ndarray) -> list[str]:
    """A line for each output of one item."""
    if not isinstance(found, dict):
        return [f"{where}: {_meant(found, card['meaning'][0], names, stem, item)}"]
    return [
        f"{where}: {name}: {_meant(values, meaning, names, f'{stem}_{place}', item)}"
        for place, ((name, values), meaning) in enumerate(zip(found.items(), card["meaning"], strict=True))
    ]


def _meant(values: np.ndarray, meaning: Any, names: list[str], stem: str, item: np.ndarray) -> str:
    """What the values of one output mean, in words."""
    kind, of = meaning["kind"], meaning["values"]
    if kind == "values":
        return _numbers(values, names, stem, item)
    threshold, alone, note = meaning.get("threshold", 0.5), "threshold" in meaning, ""
    if of == "logits":
        note = f" ({'sigmoid' if alone else 'softmax'} of the model's logits)"
        values, threshold = _probabilities(values.astype(np.float64), alone), 0.5
    show = "{:.4g}".format if of == "scores" else _percent
    if kind == "mask":
        return _mask(values, alone, threshold, names, stem)
    scores = values.reshape(-1)
    called = [names[i] if len(names) == max(2, len(scores)) else f"class {i}" for i in range(max(2, len(scores)))]
    if kind == "binary":
        what = "score" if of == "scores" else "probability"
        yes = scores[0] > threshold
        return f"{called[int(yes)]} ({what} of {called[1]} {show(scores[0])}, decided at {show(threshold)}){note}"
    order = np.argsort(-scores, kind="stable")
    if kind == "labels":
        yes = [f"{called[i]} {show(scores[i])}" for i in order if scores[i] > threshold]
        no = [f"{called[i]} {show(scores[i])}" for i in order if not scores[i] > threshold]
        left = f" and {len(no) - TOP} more" if len(no) > TOP else ""
        return f"{', '.join(yes) or 'none'}; not {', '.join(no[:TOP]) or 'any other'}{left}; decided at {show(threshold)}{note}"
    note += " (scores, no probabilities)" if of == "scores" else ""
    return ", ".join(f"{called[i]} {show(scores[i])}" for i in order[:TOP]) + note


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _probabilities(logits: np.ndarray, alone: bool) -> Any:
    """What a softmax over the last axis makes of logits, or a sigmoid of each."""
    if alone:
        return np.exp(-np.logaddexp(0, -logits))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _mask(values: np.ndarray, alone: bool, threshold: float, names: list[str], stem: str) -> str:
    """The class, or yes and no, at each place: how often each comes, and where it was written to."""
    if alone:
        chosen = (values > threshold).astype(np.uint8)
        chosen = chosen[..., 0] if chosen.shape[-1] == 1 and chosen.ndim > 1 else chosen
        several = chosen.ndim > 2 and chosen.shape[-1] > 1
        counts = chosen.reshape(-1, chosen.shape[-1]).mean(axis=0) if several else [1 - chosen.mean(), chosen.mean()]
    else:
        classes = values.shape[-1]
        chosen, several = values.argmax(axis=-1).astype(np.uint8 if classes <= 256 else np.uint16), False
        counts = np.bincount(chosen.reshape(-1), minlength=classes) / chosen.size
    called = [names[i] if len(names) == len(counts) else f"class {i}" for i in range(len(counts))]
    shares = ", ".join(
        f"{called[i]} {_percent(counts[i])}" for i in np.argsort(-np.asarray(counts), kind="stable") if counts[i]
    )
    if chosen.ndim == 1 and chosen.size <= 2 * FEW:
        return f"{', '.join(called[i] for i in chosen)} ({shares})"
    size = " x ".join(map(str, chosen.shape))
    image = not several and chosen.ndim == 2 and len(counts) <= 256
    return f"{shares or 'none'} of {size} places{_written(chosen, stem, len(counts) if image else 0)}"


def _written(array: np.ndarray, stem: str, classes: int = 0) -> str:
    """Write an array, and with Pillow an image of its classes, into the working folder; say where.

    Nothing is written where there is no stem for the name.
    """
    if not stem:
        return ""
    path = Path(f"{stem}_predicted.npy")
    try:
        replaced = " (replaced)" if path.exists() else ""
        np.save(path, array, allow_pickle=False)
        text = f"; written to {path}{replaced}"
        if classes:
            from PIL import Image

            picture = path.with_suffix(".png")
            replaced = " (replaced)" if picture.exists() else ""
            Image.fromarray((array * (255 // max(1, classes - 1))).astype(np.uint8)).save(picture)
            text += f" and {picture}{replaced}, black for the first class to white for the last"
        return text
    except ImportError:
        return f"{text}; with Pillow also as an image"
    except OSError as error:
        raise BadInput(f"{path.absolute()}: can't write it ({error.strerror})") from error


def _numbers(values: np.ndarray, names: list[str], stem: str, item: np.ndarray) -> str:
    """The values of a regression."""
    flat = values.reshape(-1)
    if flat.size <= FEW:
        named = [f"{name} " for name in names] if len(names) == flat.size else [""] * flat.size
        return ", ".join(f"{name}{value:.6g}" for name, value in zip(named, flat, strict=True))
    text = (
        f"{flat.size} values from {flat.min():.4g} to {flat.max():.4g}, mean {flat.mean():.4g}{_written(values, stem)}"
    )
    if values.shape == item.shape:
        text += f"; mean absolute difference from the input {np.abs(values - item).mean():.4g}"
    return text


def _unit(card: Any) -> str:
    """What a regression's values are in, and how far off they usually are; `` for other outputs."""
    if all(meaning["kind"] != "values" for meaning in card["meaning"]):
        return ""
    name = card.get("quality", "")
    error = card["metrics"].get(name) if any(word in name for word in ("mae", "rmse", "error")) else None
    known = f"; {error['label']} on the validation data: {error['shown']}" if error else ""
    return f"(values in the unit of the labels that the model was trained with{known})"
