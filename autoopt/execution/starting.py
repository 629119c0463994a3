"""Starts a job's process: from a server that is forked, or from scratch, without what this process carries along."""

import contextlib
import multiprocessing
import os
import site
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil

import autoopt
from autoopt.system import lifeline, scratch

_METHOD = os.environ.get("AUTOOPT_START", "forkserver" if lifeline.LINUX else "spawn")
PRELOADED = ("autoopt.system.lifeline", "autoopt.execution.forkserver_preload", "autoopt.execution.job_process")
"""Modules that the server imports, so that no job has to."""
TRIES = 3
"""A server that is lost while it is asked is started again so often."""
LONGEST_FOLDER = 80
"""Longer than that, no socket has room in a folder: names of sockets are short."""
OWN_FOLDER = "pymp-01234567"
"""What Python calls a folder of its own, in which it puts sockets where it is given none."""
DYING_S = 5.0
"""A server that is killed closes its pipes and sockets a moment before it counts as dead."""
_starting = threading.Lock()


def process(target: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    """Start `target(answer, *arguments)` in a process; returns it and the end of the pipe on which it answers.

    Raises:
        OSError: if that is not possible now.
    """
    method = _method()
    context: Any = multiprocessing.get_context(method)
    for left in reversed(range(TRIES)):
        hear, answer = context.Pipe(duplex=False)
        try:
            with _starting, _clean(scratch.place(), method):
                if method == "forkserver":
                    context.set_forkserver_preload(list(PRELOADED))
                made = context.Process(target=target, args=(answer, *arguments), daemon=False)
                made.start()
                made.server = _server().get("_forkserver_pid") if method == "forkserver" else None
            return made, hear
        except (ConnectionError, EOFError, ChildProcessError) as error:  # the server is lost: the next try starts one
            hear.close()
            with _starting:
                _forget_lost_server()
            if not left:
                raise OSError(f"the server that jobs are forked from is lost: {error}") from error
        except BaseException:
            hear.close()
            raise
        finally:
            answer.close()
    raise AssertionError("unreachable")


def is_served(process: Any) -> bool:
    """Whether the server that a process was forked from lives, so that its exit code is to be believed."""
    return process.server is None or not _has_died(process.server)


def _has_died(server: int) -> bool:
    """Whether a process that gives no answer is at its end, which may take it a moment."""
    patience = time.monotonic() + DYING_S
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(server).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            if time.monotonic() > patience:
                return False
            time.sleep(0.02)
    return True


def _server() -> dict[str, Any]:
    """What multiprocessing knows of the server that it started."""
    return vars(forkserver._forkserver)


def _forget_lost_server() -> None:
    """Have the next start make a server, also where somebody else has heard of the end of this one."""
    known = _server()
    pid = known["_forkserver_pid"]
    if pid is None or not _has_died(pid) or psutil.pid_exists(pid):  # of a zombie the next start learns by itself
        return
    with contextlib.suppress(OSError):
        os.close(known["_forkserver_alive_fd"])
    known.update(_forkserver_pid=None, _forkserver_alive_fd=None, _forkserver_address=None)


def _method() -> str:
    """How processes are started: from a server, unless there is none here, or no path is short enough for its socket."""
    paths = (str(scratch.place()), os.path.join(tempfile.gettempdir(), OWN_FOLDER))
    short = min(map(len, paths)) <= LONGEST_FOLDER
    served = _METHOD != "forkserver" or short
    return _METHOD if served and _METHOD in multiprocessing.get_all_start_methods() else "spawn"


@contextlib.contextmanager
def _clean(folder: Path, method: str) -> Iterator[None]:
    """Start processes without our `__main__`, which they would import (seconds, or worse), and with what is ours in order.

    Their modules come from where this process's do, but never first from the folder that it happens to run in, nor from
    Dask's; their sockets and temporary files lie in `folder`.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": _python_path(),
        "TMPDIR": str(folder),
        lifeline.VARIABLE: str(folder / scratch.LIFELINE) if method == "forkserver" else "",
    }
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    main, path, place = sys.modules["__main__"], sys.path, config.get("tempdir")
    before = {name: os.environ.get(name) for name in given}
    sys.modules["__main__"], sys.path = types.ModuleType("__main__"), _search_path()
    os.environ.update({name: value for name, value in given.items() if value})
    if len(str(folder)) <= LONGEST_FOLDER:
        config["tempdir"] = str(folder)
    try:
        yield
    finally:
        sys.modules["__main__"], sys.path, config["tempdir"] = main, path, place
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _search_path() -> list[str]:
    """This process's path with its current folder at the end, unless that was asked for, and without Dask's folders."""
    here = _real(".")
    asked = {_real(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    first: list[str] = []
    last: list[str] = []
    for entry in sys.path:
        if any(part in ("dask-scratch-space", "dask-worker-space") for part in Path(entry).parts):
            continue
        (last if _real(entry or ".") == here and here not in asked else first).append(entry)
    return first + [here] * bool(last)


def _python_path() -> str:
    """The variable `PYTHONPATH` with which a process finds autoopt, where it is not installed."""
    home = str(Path(autoopt.__file__).parents[1])
    asked = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    known = {_real(entry) for entry in (*asked, *site.getsitepackages(), site.getusersitepackages())}
    return os.pathsep.join(asked if _real(home) in known else [*asked, home])


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except OSError:  # the current folder is gone
        return ""
