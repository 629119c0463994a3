"""The front as a picture for a slide: a PNG or an SVG file, drawn by a browser without a window."""

import asyncio
import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.core.results import Results
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.reporting.figures import front_figure
from autoopt.system.files import write_atomically

if TYPE_CHECKING:
    import plotly.graph_objects as go

KINDS = ("png", "svg")
WIDTH, HEIGHT, SCALE = 1600, 900, 2
"""In pixels, drawn at half the size and scaled up, so that letters and points can be read across a room."""
TIMEOUT_S = 60.0


def write(results: Results, path: Path, kind: str = "") -> None:
    """Write the front's figure, whole or not at all.

    Args:
        results: the study's.
        path: of the file, which ends in its kind.
        kind: one of `KINDS`, where only that will do.

    Raises:
        ConfigError: for another kind, or if kaleido is not installed.
        TargetUnavailable: if there is no browser, or it fails; if the file can't be written.
    """
    found = path.suffix.lower().removeprefix(".")
    if found not in ([kind] if kind else KINDS):
        raise ConfigError(f"{path}: expected a name that ends in .{kind or ' or .'.join(KINDS)}")
    write_atomically(path, _draw(slide(results), found))


def slide(results: Results) -> "go.Figure":
    """The front's figure with the study's name, for a white page."""
    figure = front_figure(results)
    top = {
        "text": escape("".join(c for c in results.study if c.isprintable())),
        "x": 0,
        "xref": "paper",
        "y": 0.97,
        "yanchor": "top",
        "font": {"size": 20},
    }
    return figure.update_layout(
        title=top, paper_bgcolor="#ffffff", plot_bgcolor="#ffffff", margin={"l": 70, "r": 30, "t": 80, "b": 60}
    )


def _draw(figure: "go.Figure", kind: str) -> bytes:
    try:
        import kaleido
        from choreographer.errors import ChromeNotFoundError, DevtoolsProtocolError
        from kaleido.errors import KaleidoError
    except ImportError as error:
        raise ConfigError("a picture needs kaleido, which is not installed; pip install 'autoopt[pictures]'") from error
    logging.getLogger("choreographer").setLevel(logging.CRITICAL)  # what matters is in the error
    options = {"format": kind, "width": WIDTH // SCALE, "height": HEIGHT // SCALE, "scale": SCALE}
    browser: dict[str, Any] = {
        "enable_sandbox": os.geteuid() != 0,  # chromium refuses to run as root in its sandbox
        "mathjax": False,  # which would be fetched from the network
        "proxy_server": "127.0.0.1:9",  # a dead end for the browser's own errands
    }

    async def drawing() -> bytes:
        drawer = kaleido.Kaleido(**browser)
        limit = asyncio.get_running_loop().call_later(TIMEOUT_S, _kill, drawer)
        try:
            async with drawer:
                found: bytes = await drawer.calc_fig(figure, opts=options)
                return found
        finally:
            limit.cancel()

    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has an event loop running already
            return thread.submit(asyncio.run, drawing()).result()
    except ChromeNotFoundError as error:
        asked = os.environ.get("BROWSER_PATH")
        where = f"none is at BROWSER_PATH={asked}" if asked else "none was found"
        raise TargetUnavailable(
            f"a picture needs a browser to draw it, and {where}; install one (on Debian: apt install chromium), "
            "or set BROWSER_PATH to a Chrome or Chromium"
        ) from error
    except (RuntimeError, OSError, DevtoolsProtocolError, KaleidoError) as error:
        raise TargetUnavailable(
            f"the browser could not draw the picture ({type(error).__name__}); see whether `chromium --headless` runs "
            "here, or set BROWSER_PATH to another Chrome or Chromium"
        ) from error


def _kill(drawer: Any) -> None:
    """End a browser that hangs; whoever waits for it is told that it is gone."""
    process = getattr(drawer, "subprocess", None)
    if process is not None and process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
