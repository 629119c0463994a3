"""Looks through a Keras model's file without TensorFlow, before it is loaded: what it would run, and where it would read."""

import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from autoopt.errors import ConfigError
from autoopt.models import keras_config
from autoopt.system import foreign_files, isolation

CODE = "if you trust the file, set allow_code=True (init: --allow-code)"
DAMAGED = "is damaged or cut short; save or copy it anew"
CONFIG = "config.json"
OUTSIDE = "which no model needs: it could be any file of this machine; save the model anew"
PATIENCE_S, SLOWEST_BYTES_A_S = 60.0, 10e6
"""A file is damaged whose reading takes longer than this, and so much for its size."""
FAULTS = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, RecursionError, EOFError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, struct.error,
)  # fmt: skip
"""What h5py, json and zipfile raise of damaged files."""


def check(path: Path, where: str, known: Collection[str] = (), *, allow_code: bool = False) -> bool:
    """Check an `.h5` or `.keras` file.

    It is read in a process of its own: the library that reads HDF5 crashes on some damaged files, and never ends on others.

    Args:
        path: of the file.
        where: for messages.
        known: names of classes and functions that the user has given.
        allow_code: what it runs while it is loaded is welcome; where it reads is checked all the same.

    Returns:
        whether it is for Keras 3.

    Raises:
        ConfigError: naming what was found, and what to do.
    """
    foreign_files.expect_regular(path, f"{where}: model", empty=True)
    longest_s = PATIENCE_S + path.stat().st_size / SLOWEST_BYTES_A_S
    try:
        return isolation.call(look, path, where, tuple(known), allow_code=allow_code, longest_s=longest_s)
    except isolation.Crashed as error:
        raise ConfigError(f"{where}: model: {path} {DAMAGED} (reading it ended with {error})") from error


def look(path: Path, where: str, known: Collection[str], *, allow_code: bool) -> bool:
    """Look through a file, all of it; see `check`."""
    import h5py  # type: ignore[import-untyped]

    begin = f"{where}: model: {path}"
    try:
        configs, version = list[Any](), ""
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                foreign_files.expect_packed(archive, begin)
                configs += _packed(archive, begin)
                version = _version(lambda: json.loads(archive.read("metadata.json"))["keras_version"])
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                _expect_inside(file, begin)
                configs += _described(file)
                version = version or _version(lambda: file.attrs["keras_version"])
    except FAULTS as error:
        raise ConfigError(f"{begin} {DAMAGED}") from error
    keras3 = version.startswith("3")
    for config in configs:  # Keras 2 imports any module that a file names
        if not allow_code and (why := keras_config.unsafe(config, known, imports=not keras3)) is not None:
            raise ConfigError(f"{begin}: it brings code with it: {why}; {advice(why)}")
    return keras3


def _version(read: Callable[[], Any]) -> str:
    """The version of Keras that a file names, if it names one."""
    try:
        return str(read())
    except FAULTS:
        return ""


def advice(why: str) -> str:
    """What to do about a file that brings code."""
    own = "give the task its class or function as custom_objects={name: ...}, or, " if "it asks for" in why else ""
    return own + CODE


def _packed(archive: zipfile.ZipFile, begin: str) -> Iterator[Any]:
    """The descriptions in a `.keras` file, whose weights are looked through too."""
    import h5py

    for name in archive.namelist():
        if name == CONFIG:
            config = json.loads(archive.read(name))
            if isinstance(config, dict):  # how it was trained is never read
                config.pop("compile_config", None)
            yield config
        elif name.endswith((".h5", ".hdf5")):
            with h5py.File(io.BytesIO(archive.read(name))) as file:
                _expect_inside(file, begin)


def _described(file: Any) -> Iterator[Any]:
    """The descriptions in an HDF5 file; how it was trained is never read."""
    text = file.attrs.get("model_config")
    if text is not None:
        yield json.loads(text)


def _expect_inside(file: Any, begin: str) -> None:
    """Check that all that an HDF5 file holds lies in it, and that memory can hold it.

    Raises:
        ConfigError: naming the dataset or link.
    """
    import h5py

    rest, seen, size = [file["/"]], set(), 0
    while rest:
        found = rest.pop()
        if (place := h5py.h5o.get_info(found.id).addr) in seen:
            continue
        seen.add(place)
        dict(found.attrs)  # read here, where a crash or a loop without end costs nothing
        if isinstance(found, h5py.Dataset):
            _expect_own(found, begin)
            size += found.nbytes
            foreign_files.expect_room(size, f"{begin} is too large")
            found[()]
        elif isinstance(found, h5py.Group):
            rest += _children(found, begin)


def _children(group: Any, begin: str) -> Iterator[Any]:
    """What lies in a group; links that lead elsewhere are refused, not followed."""
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            kind = {"ExternalLink": "to another file", "SoftLink": "to another place"}.get(
                type(link).__name__, "elsewhere"
            )
            raise ConfigError(f"{begin}: {group.name.rstrip('/')}/{name} is a link {kind}, {OUTSIDE}")
        yield group[name]


def _expect_own(dataset: Any, begin: str) -> None:
    if dataset.external:
        raise ConfigError(f"{begin}: {dataset.name} takes its values from {dataset.external[0][0]!r}, {OUTSIDE}")
    if dataset.is_virtual:
        raise ConfigError(f"{begin}: {dataset.name} is put together of other files' values, {OUTSIDE}")
