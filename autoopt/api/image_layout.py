"""Finds pictures in folders: a folder a class, or such folders a split."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoopt.errors import ConfigError
from autoopt.models.pictures import ENDINGS

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}
"""What the folder of a split may be called, in small letters."""
EXPECTED = "expected FOLDER/CLASS/picture.jpg, or FOLDER/train/CLASS/picture.jpg and so for validation and test"
SHOWN = 5
"""Names that a message shows."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The pictures of a folder.

    Attributes:
        names: of the classes, sorted.
        parts: by split, the path of each picture and its class's index, in the order of class and name.
        left_out: how many files of other kinds there are, by the ending of their names.
    """

    names: tuple[str, ...]
    parts: Mapping[str, Sequence[tuple[Path, int]]]
    left_out: Mapping[str, int]


def find(folder: Path) -> Layout:
    """The pictures of a folder by split and class.

    Raises:
        ConfigError: if the folder is laid out in another way.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: expected a folder of pictures, {'got a file' if folder.exists() else 'found none'}"
        )
    left_out: Counter[str] = Counter()
    roots = _splits(folder)
    found = {part: _classes(root, left_out) for part, root in roots.items()}
    names = sorted(found["train"])
    for part, classes in found.items():
        _expect_same(roots["train"], names, roots[part], sorted(classes))
    if len(names) < 2:
        one = f"one class only ({names[0]})" if names else "no class folders"
        raise ConfigError(f"{roots['train']}: {one}; {EXPECTED}, with two classes or more")
    empty = [name for name in names if not found["train"][name]]
    if empty:
        raise ConfigError(f"{roots['train']}: no pictures in {_listed(empty)}; {_kinds(left_out)}")
    for part, classes in found.items():
        if not any(classes.values()):
            raise ConfigError(f"{roots[part]}: no pictures in it; {_kinds(left_out)}")
    parts = {
        part: [(path, label) for label, name in enumerate(names) for path in classes[name]]
        for part, classes in found.items()
    }
    return Layout(names=tuple(names), parts=parts, left_out=dict(left_out))


def _splits(folder: Path) -> dict[str, Path]:
    """The folders that hold classes, by split; the folder itself is train's where it holds them."""
    inside = _folders(folder)
    named = {
        part: [path for path in inside if path.name.casefold() in names and _folders(path)]
        for part, names in SPLITS.items()
    }
    roots = {part: paths[0] for part, paths in named.items() if paths}
    if not roots:
        return {"train": folder}
    for part, paths in named.items():
        if len(paths) > 1:
            raise ConfigError(f"{folder}: {_listed([p.name for p in paths])} are both folders for {part}; leave one")
    if "train" not in roots:
        raise ConfigError(f"{folder}: has {_listed([path.name for path in roots.values()])}, but no train; {EXPECTED}")
    others = [path.name for path in inside if path not in roots.values()]
    if others:
        raise ConfigError(
            f"{folder}: expected train, validation (or val, valid) and test alone, got also {_listed(others)}; "
            "move them elsewhere"
        )
    loose = [path.name for path in _listing(folder) if _is_picture(path)]
    if loose:
        raise ConfigError(f"{folder}: {_listed(loose)}: pictures beside train: of which class? {EXPECTED}")
    return roots


def _classes(root: Path, left_out: Counter[str]) -> dict[str, list[Path]]:
    """The pictures of each class under a folder; other files are counted."""
    classes: dict[str, list[Path]] = {}
    loose = []
    for path in _listing(root):
        if path.is_dir():
            classes[_expect_printable(path)] = _pictures(path, left_out)
        elif _is_picture(path):
            loose.append(path.name)
        else:
            left_out[_ending(path)] += 1
    if loose and not any(classes.values()):
        raise ConfigError(f"{root}: pictures without folders of classes ({_listed(loose)}); {EXPECTED}")
    if loose:
        raise ConfigError(f"{root}: {_listed(loose)}: pictures beside the class folders: of which class? {EXPECTED}")
    return classes


def _pictures(folder: Path, left_out: Counter[str]) -> list[Path]:
    """The pictures in the folder of a class, by name."""
    found = []
    for path in _listing(folder):
        if path.is_dir():
            if not path.is_symlink() and _holds_pictures(path):
                raise ConfigError(
                    f"{path}: a folder with pictures inside the folder of a class; {EXPECTED}; "
                    "move its pictures up, or give the folder whose folders are the classes"
                )
            left_out["folders"] += 1
        elif _is_picture(path):
            found.append(path)
        else:
            left_out[_ending(path)] += 1
    return found


def _holds_pictures(folder: Path) -> bool:
    """Whether a picture lies anywhere under a folder; links to folders are not followed, for they may lead in circles."""
    return any(_is_picture(Path(name)) for _, _, names in os.walk(folder) for name in names if not _hidden(name))


def _listing(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what systems hide there."""
    try:
        return sorted(path for path in folder.iterdir() if not _hidden(path.name))
    except OSError as error:
        raise ConfigError(f"{folder}: can't read it ({error.strerror or error})") from error


def _folders(folder: Path) -> list[Path]:
    return [path for path in _listing(folder) if path.is_dir()]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def _ending(path: Path) -> str:
    return path.suffix.lower() or "no ending"


def _expect_printable(path: Path) -> str:
    """The name of a class's folder, which has to be text."""
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(f"{path.parent}: the class folder {path.name!r} has no name in UTF-8; rename it") from error
    return path.name


def _expect_same(train: Path, names: Sequence[str], root: Path, others: Sequence[str]) -> None:
    missing, more = sorted(set(names) - set(others)), sorted(set(others) - set(names))
    if missing or more:
        said = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has {_listed(more)} more"] * bool(more)
        raise ConfigError(f"{root}: {' and '.join(said)}; expected the same class folders as in {train}")


def _kinds(left_out: Mapping[str, int]) -> str:
    """Which kinds are pictures, and what was there instead."""
    others = f", and there are {listed(left_out)}" if left_out else ""
    return f"pictures are files whose names end in {', '.join(ENDINGS)}{others}"


def listed(left_out: Mapping[str, int]) -> str:
    """Numbers of files by ending, the most frequent first: `12 .heic, 1 .txt`."""
    most = sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{number} {ending}" for ending, number in most[:SHOWN]) + ", …" * (len(most) > SHOWN)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
