"""A search without training: an engine whose results follow from the recipes, and whose clock moves when it is waited for."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builders import METRICS, measured

from autoopt import targets
from autoopt.core import budgets
from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.search_space_yaml import parse
from autoopt.core.stage_settings import Finetune
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Job, Setting
from autoopt.execution.job_process import Outcome
from autoopt.search.agenda import Agenda
from autoopt.search.driver import Driver
from autoopt.search.early_stopping import Foresight
from autoopt.search.progress import Silent
from autoopt.search.sampler import Proposals
from autoopt.search.time_accounting import Spent
from autoopt.study.folder import StudyConfig, StudyFolder
from autoopt.study.ledger import Ledger
from autoopt.study.objectives import Terms
from autoopt.study.search_options import Strategy

ONE_EPOCH = Finetune(epochs=1)
SPACE = {"prune": {"optional": True, "sparsity": {"low": 0.1, "high": 0.9, "step": 0.1}, "frequency": 2}, "scheme": ["float32", "int8"]}  # fmt: skip
SETTING = Setting(task="task", fingerprint="print", model="model", target=targets.find("host", 1), machine="here")
TRAINING_S, OTHER_S = 2.0, 0.1
NO_CORNERS = Strategy(corners=False)
Fault = Callable[[Job, int], str | None]
"""The state in which a job ends in place of `done`, by the job and how often it was begun; None for `done`."""


def usual_accuracy(recipe: Recipe) -> float:
    """Falls with sparsity, slowly at first, and a little with integers."""
    sparsity = 0.0 if recipe.prune is None else recipe.prune.sparsity
    return 0.9 - 0.1 * sparsity**3 - 0.005 * (recipe.scheme == "int8")


class Told(Silent):
    """Keeps what a search says."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class World:
    """An engine and a clock.

    Args:
        store: of the study.
        accuracy: of a recipe, by the split.
        fault: what goes wrong.
        machine_ms: what the baseline takes here.
    """

    slots = 2

    def __init__(
        self,
        store: Store,
        accuracy: Callable[[Recipe, str], float] = lambda recipe, split: usual_accuracy(recipe),
        fault: Fault = lambda job, times: None,
        machine_ms: float = 2.0,
    ) -> None:
        self.store, self.accuracy, self.fault, self.machine_ms = store, accuracy, fault, machine_ms
        self.seconds: Callable[[Job], float] = lambda job: TRAINING_S if job.name == "prune" else OTHER_S
        self.now = 1000.0
        self.begun: dict[str, int] = {}
        self.made: list[Job] = []
        self.at: list[tuple[float, str]] = []
        self._jobs: dict[str, Job] = {}
        self._recipes: dict[str, Recipe] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._ends: dict[str, float] = {}

    def clock(self) -> float:
        return self.now

    def submit(self, job: Job) -> None:
        self._jobs[job.key] = job
        if job.name == "proof":
            self._recipes[job.parents[0]] = Recipe.from_dict(job.settings["recipe"])
        gone = [
            self._outcomes[key] for key in job.parents if key in self._outcomes and self._outcomes[key].state != "done"
        ]
        if gone:
            self._outcomes[job.key], self._ends[job.key] = gone[0], self.now
            return
        cached = job.cached and self.store.seconds(job.key) is not None
        if not cached:
            self.begun[job.key] = self.begun.get(job.key, 0) + 1
            self.at.append((self.now, job.name))
        state = None if cached else self.fault(job, self.begun[job.key])
        if state is None and not cached:
            self.made.append(job)
            self.store.put(job.key, self._result(job), 1.0)
        ready = max([self.now, *(self._ends.get(key, self.now) for key in job.parents)])
        self._ends[job.key] = ready if cached else ready + self.seconds(job)
        reason = "" if state is None else f"it was {state}"
        self._outcomes[job.key] = Outcome(
            key=job.key, name=job.name, stage=job.name, state=state or "done", reason=reason, seconds=1.0,
            cached=cached, ended=self.now,
        )  # fmt: skip

    def ended(self, timeout: float) -> str | None:
        self.now += timeout
        return None

    def outcome(self, key: str) -> Outcome | None:
        return self._outcomes.get(key) if self.now >= self._ends.get(key, self.now) else None

    def release(self, key: str) -> None:
        """A job may be submitted anew afterwards."""

    def _result(self, job: Job) -> bytes:
        if job.name in ("proof", "accuracy", "latency", "memory", "weigh", "crosscheck"):
            return json.dumps(getattr(self, f"_{job.name}")(job)).encode()
        return b"model"

    def _recipe(self, job: Job) -> Recipe:
        return self._recipes[job.parents[0]]

    def _bytes(self, recipe: Recipe) -> dict[str, float]:
        sparsity = 0.0 if recipe.prune is None else recipe.prune.sparsity
        size = 100_000 if recipe.scheme == "float32" else 30_000
        return _weighed(size, sparsity)

    def _proof(self, job: Job) -> dict[str, Any]:
        return {**self._bytes(self._recipe(job)), "contents": {}, "reports": [], "sha256": job.parents[0]}

    def _accuracy(self, job: Job) -> dict[str, Any]:
        value = self.accuracy(self._recipe(job), job.settings["split"])
        empty: dict[str, Any] = {"agreement": None, "outcomes": "", "resamples": [], "classes": []}
        return {"measurement": measured(value, 1e-4).to_dict(), **empty}

    def _latency(self, job: Job) -> dict[str, Any]:
        by = round(self.machine_ms * 1e6)
        own = by if self._recipe(job).scheme == "float32" else by // 2
        return {"processes": [[[(own, by)] * 5] * 2] * 5, "flags": []}

    def _memory(self, job: Job) -> dict[str, Any]:
        return {"readings": [{"memory_bytes": 5_000_000}] * 2}

    def _weigh(self, job: Job) -> dict[str, Any]:
        above = job
        while above.name != "one_shot":
            above = self._jobs[above.parents[0]]
        [(_, settings)] = above.settings["stages"]
        sparsity = settings["sparsity"]
        return _weighed(30_000, sparsity)

    def _crosscheck(self, job: Job) -> dict[str, Any]:
        return {}


def _weighed(size: int, sparsity: float) -> dict[str, float]:
    compressed = round(size * (1 - 0.8 * sparsity))
    return {"size_bytes": size, "compressed_bytes": compressed, "download_bytes": round(0.9 * compressed)}


def study(
    path: Path,
    world: World,
    view: Told | None = None,
    *,
    trials: int = 12,
    space: Mapping[str, Any] = SPACE,
    limits: Sequence[str] = (),
    search: Strategy = NO_CORNERS,
    recipes: Sequence[Recipe] = (),
    hours: float | None = None,
    defaults: Finetune = ONE_EPOCH,
) -> Driver:
    """A driver for the study in a folder; several, one after the other, are several runs of it."""
    (path / "out").mkdir(parents=True, exist_ok=True)
    terms = Terms(
        quality=METRICS["accuracy"],
        metrics=METRICS,
        objectives=("accuracy", "latency_ms", "compressed_bytes"),
        budgets=tuple(budgets.parse(text, METRICS) for text in limits),
    )
    sampled = parse(dict(space), "test")
    config = StudyConfig(
        task=path / "task.py", space=sampled, objectives=terms.objectives, target=SETTING.target, search=search
    )
    ledger, told = Ledger(StudyFolder(path), terms), view or Told()
    metrics = [METRICS[name] for name in terms.objectives]
    agenda: Agenda
    foresight = Foresight(search, SETTING, world.store, terms, lambda recipe: agenda.siblings(recipe))
    agenda = Agenda(
        config=config,
        setting=SETTING,
        defaults=defaults,
        ledger=ledger,
        proposals=Proposals(ledger.folder.database, sampled, defaults, metrics, "random", 0),
        foresight=foresight,
        store=world.store,
        trials=trials,
        recipes=recipes,
        say=told.note,
    )
    deadline = {} if hours is None else {"deadline": world.now + hours * 3600}
    return Driver(agenda, world, told, Spent(), clock=world.clock, **deadline)


def plain(candidates: Mapping[int, Candidate]) -> dict[int, dict[str, Any]]:
    """Candidates as they are written down, to be compared."""
    return {number: json.loads(json.dumps(candidate.to_dict())) for number, candidate in candidates.items()}


def run(driver: Driver) -> dict[int, Candidate]:
    """Search as `Search` does; the candidates by number."""
    driver.search(driver.take_up())
    return driver.ledger.candidates
