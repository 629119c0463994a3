"""The command that makes room in a study's store."""

import json
from pathlib import Path

import click

from autoopt.cli.framework import STUDY, command, wants_json
from autoopt.system import screen


@command
@STUDY
@click.option(
    "--keep", default="front", show_default=True, type=click.Choice(["front"]), help="Whose files and models stay."
)
@click.option("--yes", is_flag=True, help="Remove it; without, only say what can go.")
def clean(study: Path, keep: str, yes: bool) -> None:
    """Make room: remove what the study's store holds and nothing on its front needs.

    Training states, trained models and files of candidates that others beat go. The baseline, the front, the pick, and what
    other studies need in the same store stay, and all measurements. What went is made again if it is wanted after all.
    """
    from autoopt.api.clean import clean as tidy

    found = tidy(study, keep=keep, remove=yes)
    if wants_json():
        screen.give(json.dumps(found.to_dict()))
    else:
        screen.say(found.text())
