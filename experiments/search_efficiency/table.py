"""Make every recipe of a small space, and write what came out: the ground truth for comparing searches.

    python experiments/search_efficiency/table.py

Resumable: stopped at any moment, the same command goes on. Writes table.csv beside this script: each recipe
with its objectives, what its one-shot file weighs, the accuracy at the points of its training, and its jobs with
the seconds that each took.
"""

import csv
import itertools
import json
from pathlib import Path

from autoopt.core.parameters import Choice
from autoopt.core.recipe import Recipe
from autoopt.core.search_space import SearchSpace
from autoopt.core.stage_settings import Finetune
from autoopt.execution import job_process
from autoopt.execution.job_graph import plan, probe
from autoopt.execution.workplace import Workplace
from autoopt.search.search import Search
from autoopt.search.views import Plain
from autoopt.study.folder import StudyFolder

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


def one_shots(search: Search, recipes: list[Recipe]) -> dict[str, int]:
    """Bytes after gzip of each recipe's one-shot file, by the recipe's digest."""
    workplace = Workplace(
        store=str(search.store.root.resolve()), mark="table", threads=2, job_seconds=600, job_bytes=8 << 30
    )
    found = {}
    with workplace.claimed():
        for number, recipe in enumerate(recipes):
            if recipe.prune or recipe.cluster:
                made = probe(recipe, search.setting)
                for job in made.jobs:
                    outcome = job_process.run(job, workplace, lambda: False)
                    assert outcome.state == "done", outcome.reason
                data = search.store.get(made.results["weigh"])
                assert data is not None
                found[recipe.digest] = json.loads(data)["compressed_bytes"]
                print(f"one-shot file {number + 1} of {len(recipes)}: {found[recipe.digest]} bytes", flush=True)
    return found


def main() -> None:
    folder = StudyFolder(STUDY)
    config = folder.config()
    recipes = everything(config.space, Finetune(), config.seed)
    with folder.lock(), Plain() as view:
        search = Search(folder, config, view, trials=None, hours=None, scheduler=None, store=None, recipes=recipes)
        search.run()
    weights = one_shots(search, recipes)
    with open(HERE / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        objectives = search.driver.ledger.terms.objectives
        writer.writerow(["number", "recipe", *objectives, "one_shot_bytes", "reached", "failed", "jobs"])
        for number, candidate in sorted(search.driver.ledger.candidates.items()):
            jobs = [
                [job.key[:12], job.name, search.store.seconds(job.key)]
                for job in plan(candidate.recipe, search.setting).jobs
            ]
            values = [candidate.value(name) for name in objectives]
            reached = {
                report["stage"]: [report["epochs"][report[at] - 1]["accuracy"] for at in ("judged_epoch", "best_epoch")]
                for report in candidate.report
            }
            failed = f"{candidate.failed_stage}: {candidate.reason}" if candidate.failed else ""
            row = [number, candidate.recipe.to_json(), *values, weights.get(candidate.recipe.digest, "")]
            writer.writerow([*row, json.dumps(reached), failed, json.dumps(jobs)])


if __name__ == "__main__":
    main()
