"""Studies live, while they run: figures come from `figures`, decisions from `results`; nothing is written.

Bound to this machine unless told otherwise. Other people may work on this machine too: whoever asks needs the token that
stands in the printed address.
"""

import hmac
import io
import logging
import secrets
import socket
import tempfile
import urllib.parse
import zipfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import dash
import flask
import plotly.graph_objects as go
from dash import Input, Output, State, dcc, html
from werkzeug.serving import BaseWSGIServer, make_server

from autoopt.api.live_study import Watched
from autoopt.api.saved_study import SavedResults
from autoopt.core.budgets import SHORT_FORMS, Budget
from autoopt.core.formatting import duration
from autoopt.core.hypervolume import history
from autoopt.core.metrics import STANDARD
from autoopt.errors import AutooptError, ConfigError, TargetUnavailable
from autoopt.reporting import report_data, wording
from autoopt.reporting.axes import chosen_axes
from autoopt.reporting.figures import front_figure, history_figure
from autoopt.system import screen

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERY_MS = 2000
ROWS = 50
"""Candidates in the table at most: the report has them all."""
ENTRANCE = '<!doctype html><title>autoopt</title><meta http-equiv="refresh" content="0; url=/"><a href="/">autoopt</a>'
"""The page that a browser sees for a moment when it brings the token."""
GRAPH = {"showSendToCloud": False, "displaylogo": False, "responsive": True}


def serve(studies: Sequence[Path], *, host: str = "127.0.0.1", port: int = 8050) -> tuple[BaseWSGIServer, str]:
    """A server that is bound, with the address to open.

    Args:
        studies: folders of studies.
        host: address to bind.
        port: 0 for any that is free.

    Raises:
        ConfigError: if one is no study.
        TargetUnavailable: if the address can't be had.
    """
    watched = Watched(studies, warn=lambda text: screen.say_line(f"warning: {text}", err=True))
    token = secrets.token_urlsafe(24)
    app = application(watched, token, local=host in LOCAL)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each of its own questions
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise TargetUnavailable(f"can't listen on {host}:{port} ({error}); give another --host or --port") from error
    server = make_server(host, port, app.server, threaded=True, fd=bound.detach())
    anywhere = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 - only compared
    name, number = f"[{anywhere}]" if ":" in anywhere else anywhere, server.socket.getsockname()[1]
    return server, f"http://{name}:{number}/?token={token}"


def application(watched: Watched, token: str, *, local: bool) -> dash.Dash:
    """The pages and what they answer.

    Args:
        watched: the studies.
        token: that every question must know.
        local: whether this machine alone can ask, by one of its names for itself.
    """
    app = dash.Dash("autoopt", title="autoopt", update_title="", serve_locally=True)
    style = resources.files("autoopt.reporting").joinpath("assets", "page.css").read_text(encoding="utf-8")
    app.index_string = app.index_string.replace("{%css%}", f"<style>{style}</style>").replace(
        "<html>", '<html lang="en">'
    )
    app.layout = _layout(watched)
    _guard(app.server, token, local=local)
    limits, states = ({name: kind(f"limit-{name}", "value") for name in LIMITS} for kind in (Input, State))

    @app.callback(
        {name: Output(name, part) for name, part in LIVE.items()},
        {"_": Input("tick", "n_intervals"), "seen": State("seen", "data"), **limits, "study": Input("study", "value")},
    )
    def show(_: int, study: int, seen: Any, **given: str | None) -> dict[str, Any]:
        now = watched.now(study)
        shown = {"progress": _progress(now), "running": _running(now), "seen": [study, watched.version(study), given]}
        if shown["seen"] == seen:  # drawing it again would only cost the search its processor
            return dict.fromkeys(LIVE, dash.no_update) | shown
        return shown | _shown(watched, study, given)

    for kind in DOWNLOADS:

        @app.callback(
            {"file": Output(f"{kind}-file", "data"), "told": Output(f"{kind}-told", "children")},
            {
                "_": Input(kind, "n_clicks"),
                "study": State("study", "value"),
                "number": State("number", "value"),
                **states,
            },
            prevent_initial_call=True,
        )
        def download(_: int, study: int, number: str | None, kind: str = kind, **given: str | None) -> dict[str, Any]:
            try:
                return {"file": _download(watched.results(study), number, given, kind), "told": ""}
            except AutooptError as error:
                return {"file": dash.no_update, "told": str(error)}

    return app


def _guard(server: flask.Flask, token: str, *, local: bool) -> None:
    """Let in who knows the token: from the address, a cookie or a header; and only under this machine's names if local."""

    def cookie() -> str:  # browsers keep one jar for all ports of a machine
        return f"autoopt-{flask.request.environ.get('SERVER_PORT', '')}"

    def knows(given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="backslashreplace"), token.encode())

    @server.before_request
    def check() -> Any:
        # A page elsewhere may point its own name at 127.0.0.1: the name that was asked for gives it away.
        if local and urllib.parse.urlsplit(f"//{flask.request.host}").hostname not in LOCAL:
            return _refused(f"open it as http://{LOCAL[0]}, not under another name")
        kind, _, given = flask.request.headers.get("Authorization", "").partition(" ")
        if (kind.lower() == "token" and knows(given.strip())) or knows(flask.request.cookies.get(cookie(), "")):
            return None
        if not knows(flask.request.args.get("token", "")):
            return _refused(
                "open the address that autoopt dashboard printed, with its ?token=...; "
                "a script may send the header 'Authorization: token ...'"
            )
        # Browsers keep back a strict cookie while they follow a link from elsewhere, redirections included: the page
        # that it leads to asks again by itself.
        answer = flask.make_response(ENTRANCE)
        answer.set_cookie(cookie(), token, httponly=True, samesite="Strict")
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["Cache-Control"] = "no-store"
        return answer


def _refused(why: str) -> flask.Response:
    return flask.Response(f"403: {why}\n", status=403, mimetype="text/plain")


# ---- what is shown

LIMITS = {
    "max_accuracy_drop": "quality below baseline by at most",
    **{short: f"{STANDARD[name].label} at most" for short, name in SHORT_FORMS.items()},
}
"""The short forms of budgets, as on the command line, with their labels."""
LIVE = dict.fromkeys(("head", "progress", "running", "pick", "failures", "table", "wrong"), "children") | {
    "front": "figure", "history": "figure", "seen": "data"}  # fmt: skip
"""What is kept up to date, and which property of it."""
DOWNLOADS = {"model": "model.tflite", "bundle": "the bundle"}
EXAMPLES = {
    "max_accuracy_drop": "1 point",
    "max_latency": "2ms",
    "max_size": "300KB",
    "max_compressed": "100KB",
    "max_download": "90KB",
    "max_memory": "2MB",
    "max_flash": "1MB",
}


def _layout(watched: Watched) -> html.Div:
    studies = [{"label": str(folder.path), "value": i} for i, folder in enumerate(watched.folders)]
    boxes = [
        html.Label(
            [text, dcc.Input(id=f"limit-{name}", placeholder=f"such as {EXAMPLES[name]}", debounce=0.4, type="text")]
        )
        for name, text in LIMITS.items()
    ]
    downloads = [part for kind, text in DOWNLOADS.items() for part in (
        html.Button(f"download {text}", id=kind), dcc.Download(id=f"{kind}-file"), html.Span(id=f"{kind}-told", className="flag"))]  # fmt: skip
    parts = [
        html.Header([html.H1("autoopt"), dcc.RadioItems(studies, 0, id="study", inline=True), html.P(id="head")]),
        html.Section([html.H2("Now"), html.Div(id="progress"), html.Div(id="running")]),
        html.Section([html.H2("Budget"), html.P("None given: the study's own.", className="soft"), html.Div(boxes, className="boxes"), html.P(id="wrong", className="flag")]),
        html.Section([html.H2("The pick"), html.Div(id="pick"), html.Label(["candidate ", dcc.Input(id="number", placeholder="the pick")]), *downloads]),
        html.Section([html.H2("The front"), dcc.Graph(id="front", config=GRAPH)]),
        html.Section([html.H2("How far"), dcc.Graph(id="history", config=GRAPH)]),
        html.Section([html.H2("Failures"), html.Div(id="failures")]),
        html.Section([html.H2("Candidates"), html.Div(id="table")]),
    ]  # fmt: skip
    return html.Main([*parts, dcc.Store(id="seen"), dcc.Interval(id="tick", interval=EVERY_MS)])


def _shown(watched: Watched, study: int, given: Mapping[str, str | None]) -> dict[str, Any]:
    try:
        results = watched.results(study)
    except ConfigError as error:  # a search that has only just begun
        nothing = dict.fromkeys(("pick", "failures", "table", "wrong"), "")
        return nothing | {"head": str(error), "front": go.Figure(), "history": go.Figure()}
    pick, budgets, wrong = _pick(results, given)
    failures = [f"{len(names)} in {stage}: {reason}" for stage, reason, names in wording.failures(results)]
    failures += [
        f"{len(names)} recipes not trained, or not to the end: {kind}" for kind, names in wording.skips(results)
    ]
    statuses, order = results.statuses(budgets), ("front", "dominated", "infeasible", "failed")
    rows = sorted(results.candidates, key=lambda c: (order.index(statuses[c.number]), -c.number))[:ROWS]
    names = report_data.shown_metrics(results)
    head = ["", "status", "recipe", *(results.metrics[n].label for n in names)]
    table = [[c.name, statuses[c.number], c.recipe.label() + " ✓ confirmed" * (c.confirmation is not None),
              *(results.metrics[n].show(m.value) if (m := c.measurements.get(n)) else "–" for n in names)] for c in rows]  # fmt: skip
    return {
        "head": wording.summary(results),
        "wrong": wrong,
        "pick": _described(results, pick, budgets),
        "front": front_figure(results, *chosen_axes(results), budgets=budgets),
        "history": history_figure(history(results)),
        "failures": html.Ul([html.Li(text) for text in failures]) if failures else "None.",
        "table": [_table(head, table), html.P(f"{len(rows)} of {len(results.candidates)}; the report has them all.")],
    }


def _pick(results: SavedResults, given: Mapping[str, str | None]) -> tuple[Any, Any, str]:
    """The pick, the budgets it was made for, and what is wrong with the given ones."""
    asked = {name: text for name, text in given.items() if text and text.strip()}
    try:
        budgets, wrong = results.asked(no_budget=False, **asked), ""
    except ConfigError as error:
        budgets, wrong = results.budgets, str(error)
    return results.pick_within(budgets), budgets, wrong


def _described(results: SavedResults, pick: Any, budgets: Sequence[Budget]) -> Any:
    if (c := pick.candidate) is None:
        near = [f"{c.name} {c.recipe.label()}: {', '.join(wording.misses(results, c, budgets))}" for c in pick.nearest]
        return [html.P(f"None: {pick.why}."), *(html.P(f"What keeps them out: {line}.") for line in pick.binding),
                *(html.P(f"Nearest: {line}.") for line in near)]  # fmt: skip
    lines = [
        [wording.label(results, n), results.metrics[n].show(m.value), wording.interval(results.metrics[n], m), wording.change(results, c, n)]
        for n in report_data.shown_metrics(results)
        if (m := c.measurements.get(n))
    ]  # fmt: skip
    again = f"confirmed: {wording.confirmed(results, c)}" if c.confirmation else wording.unconfirmed(results, c)
    told = [*wording.lost(results, c), *((again,) if again else ())]
    return [
        html.P(f"{c.name} {c.recipe.label()}", className="recipe"),
        html.P(f"Why: {pick.why}."),
        *(html.P(text, className="flag") for text in (pick.doubt, pick.advice) if text),
        *(html.P(text) for text in told),
        _table(["", "value", "95 % interval (or range)", "change"], lines),
        html.Pre(wording.export_command(results, c)),
        html.P(["sha256 ", html.Code(c.sha256)], className="soft"),
    ]


def _progress(now: Mapping[str, Any]) -> Any:
    if "total" not in now:
        return "Starting." if now else "No search is running."
    left = "" if now["left_s"] is None else f", about {duration(now['left_s'])} left"
    text = (
        f"{now['done']} of {now['total']} candidates, {now['failed']} failed; {duration(now['elapsed_s'])} gone{left}"
    )
    return [html.Progress(value=str(now["done"]), max=str(max(1, now["total"]))), html.P(text)]


def _running(now: Mapping[str, Any]) -> Any:
    return _table([], [[f"#{number}", recipe, job, at] for number, recipe, job, at in now.get("running", ())])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> html.Div:
    table = html.Table([html.Thead(html.Tr([html.Th(text) for text in head])),
                       html.Tbody([html.Tr([html.Td(text) for text in row]) for row in rows])])  # fmt: skip
    return html.Div(table, className="scroll")


def _download(results: SavedResults, number: str | None, given: Mapping[str, str | None], kind: str) -> dict[str, Any]:
    """A candidate's file or bundle; the pick's where no number is given."""
    candidate = results.find(number.strip()) if number and number.strip() else _pick(results, given)[0].candidate
    if candidate is None:
        raise ConfigError("nothing fits the budget, so there is nothing to download; give a candidate's number")
    name = f"{results.study}-{candidate.number}"
    if kind == "model":
        return dict(dcc.send_bytes(results.file(candidate), f"{name}.tflite"))
    with tempfile.TemporaryDirectory() as folder:
        made = results.export(candidate.number, Path(folder, name))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(made.rglob("*")):
                archive.write(path, path.relative_to(folder))
    return dict(dcc.send_bytes(packed.getvalue(), f"{name}.zip"))
