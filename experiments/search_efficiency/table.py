"""Make every recipe of a small space, and write what came out: the ground truth for comparing searches.

    python experiments/search_efficiency/table.py

Resumable: stopped at any moment, the same command goes on. Writes table.csv beside this script: each recipe
with its objectives, and its jobs with the seconds that each took.
"""

import csv
import itertools
import json
from pathlib import Path

from autoopt.folder import StudyFolder
from autoopt.knobs import Choice
from autoopt.pipeline import plan
from autoopt.progress import Plain
from autoopt.recipe import Finetune, Recipe
from autoopt.search import Search
from autoopt.space import SearchSpace

HERE = Path(__file__).resolve().parent
STUDY = HERE / "digits"


def everything(space: SearchSpace, defaults: Finetune, seed: int) -> list[Recipe]:
    """Every recipe of a space whose knobs are lists."""
    values = {}
    for name, knob in space.knobs.items():
        if not isinstance(knob, Choice):
            raise SystemExit(f"{name} is no list, so the space can't be gone through")
        values[name] = knob.values
    found: dict[Recipe, None] = {}
    for chosen in itertools.product(*values.values()):
        setting = dict(zip(values, chosen, strict=True))
        found[space.build(lambda name, _: setting[name], defaults, seed)] = None  # noqa: B023 - used at once
    return list(found)


def main() -> None:
    folder = StudyFolder(STUDY)
    config = folder.config()
    recipes = everything(config.space, Finetune(), config.seed)
    with folder.lock(), Plain() as view:
        search = Search(folder, config, view, trials=None, hours=None, scheduler=None, store=None, recipes=recipes)
        search.run()
    with open(HERE / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "recipe", *search.objectives, "failed", "jobs"])
        for number, candidate in sorted(search.candidates.items()):
            jobs = [
                [job.key[:12], job.name, search.store.seconds(job.key)]
                for job in plan(candidate.recipe, search.setting).jobs
            ]
            values = [candidate.value(name) for name in search.objectives]
            failed = f"{candidate.failed_stage}: {candidate.reason}" if candidate.failed else ""
            writer.writerow([number, candidate.recipe.to_json(), *values, failed, json.dumps(jobs)])


if __name__ == "__main__":
    main()
