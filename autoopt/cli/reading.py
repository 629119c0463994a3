"""Commands that read a study: how far it is, its front, the pick, comparisons, and what can be taken along."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autoopt.cli.framework import PATH, STUDY, budget_options, command, wants_json
from autoopt.errors import ConfigError
from autoopt.system import screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoopt.api.saved_study import SavedResults
    from autoopt.core.budgets import Budget
    from autoopt.core.results import Pick, Results


@command
@STUDY
def status(study: Path) -> None:
    """Say how far a study is, and what failed."""
    from collections import Counter

    from autoopt.cli import output
    from autoopt.reporting import wording

    results = _load(study)
    counts, running = Counter(results.statuses().values()), results.folder.driver()
    if not wants_json():
        output.print_status(results, counts, running)
        return
    failures = [{"stage": s, "reason": r, "count": len(names)} for s, r, names in wording.failures(results)]
    plain = {"study": results.study, "running": running, "counts": counts, "failures": failures}
    screen.give(json.dumps(plain | {"time": results.provenance.get("time", {})}))


@command
@STUDY
def summary(study: Path) -> None:
    """Say in one paragraph what was asked, how it ended, what to ship, and what to do next."""
    from autoopt.api.summary import summary as summarize
    from autoopt.cli import output

    found = summarize(study, warn=_warn)
    if wants_json():
        screen.give(json.dumps(found.to_dict()))
    else:
        output.print_paragraph(found.text)


@command
@STUDY
@click.option("--csv", is_flag=True, help="Print CSV.")
@click.option("--all", "everything", is_flag=True, help="All candidates, not the front alone.")
@click.option("--no-plot", is_flag=True, help="The table alone.")
@budget_options
def front(
    study: Path,
    csv: bool,
    everything: bool,
    no_plot: bool,
    budgets: tuple[str, ...],
    no_budget: bool,
    **short_forms: str | None,
) -> None:
    """Print the front: the candidates that no other beats on every objective."""
    from autoopt.cli import output

    results = _load(study)
    asked = results.asked(budgets, no_budget=no_budget, **short_forms)
    chosen = list(results.candidates) if everything else results.front(asked)
    if wants_json():
        screen.give(json.dumps(results.rows(chosen, asked)))
    elif csv:
        screen.give(results.to_csv(chosen, asked), nl=False)
    else:
        output.print_front(results, asked, everything=everything, plot=not no_plot)


@command
@STUDY
@click.option("--ask", is_flag=True, help="Ask for one budget after the other; Enter skips one.")
@budget_options
def pick(study: Path, ask: bool, budgets: tuple[str, ...], no_budget: bool, **short_forms: str | None) -> None:
    """Recommend one candidate inside the budgets (the study's own if none is given)."""
    from autoopt.cli import prompts
    from autoopt.reporting import wording

    results = _load(study)
    if ask:
        short_forms |= prompts.ask(results, budgets, short_forms)
    limits = results.asked(budgets, no_budget=no_budget, **short_forms)
    chosen = results.pick_within(limits)
    _print_pick(results, chosen, limits)
    if ask and chosen.candidate is not None and not wants_json():
        screen.say(f"\n{wording.export_command(results, chosen.candidate)}")
    if chosen.candidate is None:
        raise SystemExit(1)


@command
@STUDY
@click.argument("candidates", nargs=-1, required=True, metavar="A B [C D]")
def compare(study: Path, candidates: tuple[str, ...]) -> None:
    """Print two to four candidates side by side, each against the first (numbers, such as 3 7)."""
    from autoopt.cli import output
    from autoopt.reporting import comparison

    found = comparison.compare(_load(study), candidates)
    if wants_json():
        screen.give(json.dumps(found.to_dict()))
    else:
        output.print_comparison(found)


@command
@STUDY
@click.argument("candidate", required=False)
@click.option("--to", type=PATH, help="Folder to write; by default ./STUDY-NUMBER.")
@click.option("--force", is_flag=True, help="Replace an earlier bundle.")
@click.option("--no-samples", is_flag=True, help="Leave items of the validation data out of the bundle.")
@click.option("--model-card", is_flag=True, help="Make the bundle's README.md a model card of the Hugging Face Hub.")
@click.option(
    "--mlflow",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    help="In place of a bundle, write all candidates to MLflow, at the address of a server or of a database such as sqlite:///mlflow.db.",
)
@click.option(
    "--tensorboard",
    type=PATH,
    metavar="FOLDER",
    help="In place of a bundle, write all candidates for TensorBoard's HParams page.",
)
@budget_options
def export(
    study: Path,
    candidate: str | None,
    to: Path | None,
    force: bool,
    no_samples: bool,
    model_card: bool,
    mlflow: str | None,
    tensorboard: Path | None,
    budgets: tuple[str, ...],
    no_budget: bool,
    **short_forms: str | None,
) -> None:
    """Write a candidate's bundle: the model, its card, code that runs it, samples, how to make it again.

    CANDIDATE is a number; without one, the candidate that `autoopt pick` recommends.
    """
    results = _load(study)
    if mlflow is not None or tensorboard is not None:
        if candidate or to or force or no_samples or model_card:
            raise ConfigError("--mlflow and --tensorboard take all candidates and write no bundle: leave the rest out")
        _track(results, mlflow, tensorboard)
        return
    limits = results.asked(budgets, no_budget=no_budget, **short_forms)
    if candidate is not None and (no_budget or limits is not results.budgets):
        raise ConfigError(f"expected a candidate's number or budgets, got both: {candidate} and budgets")
    if candidate is None:
        chosen = results.pick_within(limits)
        if chosen.candidate is None:
            _print_pick(results, chosen, limits)
            raise SystemExit(1)
        candidate = str(chosen.candidate.number)
    found = results.find(candidate)
    folder = results.export(
        found.number,
        to or Path(f"{results.study}-{found.number}"),
        force=force,
        samples=not no_samples,
        model_card=model_card,
    )
    if wants_json():
        screen.give(json.dumps({"folder": str(folder), "candidate": found.number, "sha256": found.sha256}))
    else:
        screen.say(f"{found.name} {found.recipe.label()}\n{folder / 'model.tflite'}  sha256 {found.sha256}")


@command
@STUDY
@click.option("--to", type=PATH, help="File to write; by default STUDY/out/report.html.")
@click.option("--png", type=PATH, help="Write a picture of the front, for a slide; the report only with --to.")
@click.option("--svg", type=PATH, help="The same as SVG, which is sharp at any size; the report only with --to.")
def report(study: Path, to: Path | None, png: Path | None, svg: Path | None) -> None:
    """Write the HTML report, one file that needs nothing else, or a picture of the front."""
    from autoopt.reporting import image_export
    from autoopt.reporting import report as reports

    results = _load(study)
    written = {"png": png, "svg": svg, "report": to if to or png or svg else results.folder.report}
    made = {kind: path for kind, path in written.items() if path is not None}
    for kind, path in made.items():
        if kind == "report":
            reports.write(results, path)
        else:
            image_export.write(results, path, kind)
    texts = {kind: str(path) for kind, path in made.items()}
    if wants_json():
        screen.give(json.dumps(texts))
    else:
        screen.say("\n".join(texts.values()))


@command
@click.argument("studies", type=PATH, nargs=-1, required=True, metavar="STUDY...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", default=8050, show_default=True, type=click.IntRange(0, 65535), help="0 for any that is free.")
def dashboard(studies: tuple[Path, ...], host: str, port: int) -> None:
    """Show studies live in a browser, while they run. It only reads, and ends with Ctrl-C."""
    import os

    from autoopt.server.dashboard import serve

    if hasattr(os, "nice"):
        os.nice(10)  # the search comes first
    server, address = serve(studies, host=host, port=port)
    if wants_json():
        screen.give(json.dumps({"address": address}))
    else:
        screen.say(f"open {address} (Ctrl-C ends it)")
    try:
        server.serve_forever()
    finally:
        server.server_close()


def _print_pick(results: "Results", chosen: "Pick", limits: "Sequence[Budget]") -> None:
    from autoopt.cli import output
    from autoopt.reporting import plain

    if wants_json():
        screen.give(json.dumps(plain.pick(results, chosen, limits)))
    else:
        output.print_pick(results, chosen, limits)


def _track(results: "Results", mlflow: str | None, tensorboard: Path | None) -> None:
    """Write all candidates to programs that track experiments."""
    from autoopt.reporting import mlflow_export, tensorboard_export

    told: dict[str, dict[str, str | int]] = {}
    if mlflow is not None:
        address, runs = mlflow_export.write(results, mlflow)
        told["mlflow"] = {"address": address, "runs": runs}
    if tensorboard is not None:
        told["tensorboard"] = {"address": str(tensorboard), "runs": tensorboard_export.write(results, tensorboard)}
    if wants_json():
        screen.give(json.dumps(told))
    else:
        for name, facts in told.items():
            screen.say(f"{name}: {facts['runs']} runs in {facts['address']}")


def _load(study: Path) -> "SavedResults":
    from autoopt.api.saved_study import load

    results = load(study)
    if warning := results.warning():
        _warn(warning)
    return results


def _warn(text: str) -> None:
    screen.say_line(f"warning: {text}", err=True)
