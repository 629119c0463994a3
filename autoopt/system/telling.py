"""Tells somebody outside: starts a command, or posts to an address. Neither may harm or hold up whoever tells."""

import contextlib
import http.client
import os
import queue
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from autoopt.errors import one_line

LONGEST = 200
"""Characters of what a command said, in the line that tells of its failure."""
HANDED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "SYSTEMROOT",
    "SSL_CERT_FILE",
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
"""Variables that a command gets of this process's, beside `LC_*`: what programs need to start, to speak, and to reach a
desktop or the network. Tokens and passwords are among the others."""


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The variables that a command is started with.

    Args:
        more: beside those of this process that may be handed on.
    """
    found = {name: value for name, value in os.environ.items() if name in HANDED_ON or name.startswith("LC_")}
    return found | dict(more)


def start(words: Sequence[str], text: str, variables: Mapping[str, str], folder: Path, limit_s: float) -> str:
    """Start a command and wait for its end; what goes wrong is told in one line, `` where nothing does.

    Args:
        words: program and arguments; no shell reads them.
        text: on its standard input.
        variables: its whole environment.
        folder: that it works in.
        limit_s: after which it is ended, with all that it has started.
    """
    with contextlib.ExitStack() as stack:
        said: IO[bytes] | int = subprocess.DEVNULL
        with contextlib.suppress(OSError):  # no room for what it says
            said = stack.enter_context(tempfile.TemporaryFile())
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said,
                cwd=folder, env=dict(variables), start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            return f"can't be started ({getattr(error, 'strerror', None) or error})"
        try:
            _hand_over(process, text)
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"was not done after {limit_s:g} s, and was ended"
        finally:
            _end(process)
        return "" if code == 0 else f"{_how(code)}{_last_line(said)}"


def _hand_over(process: subprocess.Popen[bytes], text: str) -> None:
    """Write to a command's standard input in a thread, for it may never read that."""
    pipe = process.stdin
    assert pipe is not None

    def write() -> None:
        with contextlib.suppress(OSError, ValueError), pipe:  # it has closed that, or has ended
            pipe.write(text.encode())

    try:
        threading.Thread(target=write, daemon=True).start()
    except RuntimeError:  # the system has no room for a thread
        pipe.close()
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that still runs, and what it has started."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _last_line(said: Any) -> str:
    """The last line that a command has said on standard error, as an addition in brackets; `` where it said nothing."""
    if said == subprocess.DEVNULL:
        return ""
    said.seek(0, os.SEEK_END)
    said.seek(max(0, said.tell() - 4 * LONGEST))
    lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    return f" ({one_line(lines[-1], LONGEST)})" if lines else ""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects as the answers that they are: to follow one would turn a POST into a GET without its content."""

    def redirect_request(self, *of: Any) -> None:
        """Follow none."""


def post(address: str, text: str, limit_s: float) -> str:
    """Post JSON to an http or https address; what goes wrong is told in one line, `` where nothing does.

    The line names the host alone: the rest of an address may be a secret.

    Args:
        address: with its scheme.
        text: the JSON.
        limit_s: after which no answer is waited for, whatever it is that takes so long.
    """
    answers: queue.Queue[str] = queue.Queue()
    host = urlsplit(address).hostname

    def ask() -> None:
        answers.put(_post(address, text, limit_s))

    threading.Thread(target=ask, daemon=True).start()  # the time for names and for slow answers has no limit of its own
    try:
        trouble = answers.get(timeout=limit_s)
    except queue.Empty:
        trouble = _late(limit_s)
    return f"{host}: {trouble}" if trouble else ""


def _post(address: str, text: str, limit_s: float) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": "autoopt"}
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        request = urllib.request.Request(address, text.encode(), headers, method="POST")  # noqa: S310 - http(s) alone
        with opener.open(request, timeout=limit_s):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code} {one_line(error.reason, LONGEST)}".rstrip()
    except (OSError, ValueError, http.client.HTTPException) as error:  # a server may answer anything
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            return _late(limit_s)
        return one_line(getattr(cause, "strerror", None) or cause, LONGEST) or type(cause).__name__


def _late(limit_s: float) -> str:
    return f"no answer within {limit_s:g} s"
