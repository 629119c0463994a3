"""Functions and classes of the user's own: described, so that every job finds them again in its process."""

import importlib
import linecache
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoopt.core.validation import fail
from autoopt.errors import ConfigError, one_line, retold

MODULE = "autoopt_user_task"
"""The name under which `task.py` is imported."""
SOURCE = "__autoopt_source__"
"""The attribute of that module which says from what text and path it came."""
BIND = "give it a name at the top level of task.py, such as `weighted = make_loss(9.0)`, and hand that over"
"""What to do with what a function makes, or an object, so that another process finds it."""


def run(source: str, path: Path) -> types.ModuleType:
    """Import a `task.py` from its text; what lies beside it can be imported from there.

    Raises:
        ConfigError: if it can't be imported.
    """
    module = types.ModuleType(MODULE)
    module.__file__ = str(path)
    setattr(module, SOURCE, (source, str(path)))
    sys.modules[module.__name__] = module
    if path.parent.is_dir():
        sys.path.insert(0, str(path.parent))

    def tell(error: Exception) -> ConfigError:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        return ConfigError(f"{path}: can't be imported{where}: {type(error).__name__}: {one_line(error)}")

    # TensorFlow reads a function's source to make a graph of it: this text, whatever has become of the file since.
    linecache.cache[str(path)] = (len(source), None, source.splitlines(keepends=True), str(path))
    with retold(tell, passing=()):  # the user's code may raise our errors too, and ask for more memory than there is
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - the user's own code, documented so
    return module


def describe(found: Any, where: str, what: str = "function") -> dict[str, str]:
    """Where another process finds a function or class: module (`` for `task.py` itself) and name.

    Raises:
        ConfigError: if it can't be found again.
    """
    module, name = bound(found) or ("", "")
    if not callable(found) or not name.isidentifier() or module == "__main__":
        made = callable(found) and what == "function"
        expected = f"a {what} defined at the top level of task.py or of a module"
        raise ConfigError(f"{where}: expected {expected}, got {found!r}{f'; {BIND}' if made else ''}")
    if getattr(sys.modules.get(module), name, None) is not found:
        fail(where, f"a {what} that can be found again as {module}.{name}", found)
    return {"module": "" if module == MODULE else module, "name": name}


def bound(found: Any) -> tuple[str, str] | None:
    """Module and name of a function or class; of what a function made, or an object, those that it is bound to."""
    name, module = getattr(found, "__qualname__", ""), getattr(found, "__module__", "") or ""
    if name.isidentifier():
        return module, name
    for place in (module, MODULE):
        names = vars(sys.modules[place]) if place in sys.modules else {}
        for known, value in names.items():
            if value is found and known.isidentifier():
                return place, known
    return None


def refuse_neighbour(described: Mapping[str, str], path: Path) -> None:
    """A module beside `task.py` is found only here, and a change in it would not change the fingerprint.

    Raises:
        ConfigError: if that is where it comes from.
    """
    file = getattr(sys.modules.get(described["module"]), "__file__", None)
    if file and Path(file).resolve().is_relative_to(path.parent.resolve()) and "site-packages" not in Path(file).parts:
        name, module = described["name"], described["module"]
        raise ConfigError(
            f"{path}: {name} is imported from {module}, which lies beside it, where jobs can't find it; "
            f"define {name} in {path.name}, or install {module} as a package"
        )


def find(described: Mapping[str, str], source: str, path: str) -> Any:
    """What was described.

    Args:
        described: see `describe`.
        source: text of `task.py`, where it is defined there.
        path: of `task.py`, for messages.
    """
    module = importlib.import_module(described["module"]) if described["module"] else _once(source, Path(path))
    return getattr(module, described["name"])


def _once(source: str, path: Path) -> types.ModuleType:
    """A `task.py` as this process has imported it: another import would give other classes of the same names."""
    module = sys.modules.get(MODULE)
    if module is not None and getattr(module, SOURCE, None) == (source, str(path)):
        return module
    return run(source, path)
