"""`autoopt check`: tries everything that a study's night will ask of its model, each for a few steps.

Nothing is kept: the jobs are the search's own, in a store that is thrown away.
"""

import functools
import json
import os
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from autoopt.api import covering, hearing, size_proposals, suspicions
from autoopt.api.checked import Checked, Tried
from autoopt.core.parameters import Knob, Value
from autoopt.core.probes import Probes
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import OPTIONAL, Finetune
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.dask_engine import default_job_bytes, default_slots
from autoopt.execution.job_graph import Job
from autoopt.execution.job_process import Outcome, run
from autoopt.execution.workplace import Workplace
from autoopt.models.loading import reports_of
from autoopt.search import finalists
from autoopt.study import objectives, space_fitting
from autoopt.study.folder import StudyConfig, StudyFolder
from autoopt.system import scratch

NIGHT_H = 10.0
"""Of a study that sets no hours."""
FEW_TRIALS = 30
"""Under which a search learns little."""
PARTS, LEAST_PART = 10, 2000
"""A search may do with this share of the data, if that is so many items at least."""
DRAWN = 200
"""Recipes of the space over which the time of a trial is averaged."""


def check(
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    sizes: Mapping[str, float] | None = None,
    say: Callable[[str], None],
) -> Checked:
    """Try a study before a night is spent on it.

    Args:
        path: of its folder.
        target: where to measure, in place of the study's own.
        sizes: bytes by metric (`size_bytes`, `compressed_bytes`), for which to propose a mix of techniques by layer.
        say: told what is tried just now.

    Raises:
        ConfigError: if task, space or settings are wrong, or the untouched model can't be converted and measured.
        TargetUnavailable: if the target does not answer.
    """
    folder = StudyFolder(path)
    config = folder.config(target)
    space_fitting.expect_able(config, f"{folder.path}/study.yaml")
    config.target.describe()
    slots = config.slots or default_slots()
    began = time.monotonic()
    # Beside the study, where there must be room for its data anyway; temporary folders may lie in memory.
    beside = folder.path if os.access(folder.path, os.W_OK) else Path(tempfile.gettempdir())
    with scratch.beside(beside, ".autoopt-check-") as place:
        workplace = Workplace(
            store=str(place),
            mark=uuid.uuid4().hex,
            threads=max(1, (os.cpu_count() or 1) // slots),
            job_seconds=config.limits.job_seconds,
            job_bytes=config.limits.job_bytes or default_job_bytes(slots),
            gpus=config.gpus,
        )
        with workplace.claimed():
            return _Check(folder, config, Store(place), workplace, slots, say).result(began, sizes or {})


class _Check:
    """One check: runs jobs one after the other."""

    def __init__(
        self,
        folder: StudyFolder,
        config: StudyConfig,
        store: Store,
        workplace: Workplace,
        slots: int,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.store, self.workplace, self.slots, self.say = config, store, workplace, slots, say
        say(f"reading {config.task}")
        told = {"path": str(config.task.resolve()), "preset": config.preset}
        self.task = json.loads(self._expect(job_graph.job("task", told)))
        objectives.settle(config, self.task["metric"], f"{folder.path}/study.yaml")
        fitted = space_fitting.fitted(config.space, self.task, config.target)
        self.warnings: list[str] = [*self.task["warnings"], *fitted.notes]
        self.space = fitted.space
        self.setting = objectives.setting(config, self.task, "check")
        self.quantized = ""
        there = self.task["items"]["train"]
        self.defaults = finalists.defaults(Finetune(**self.task["finetune"]), config.search.items, there)

    def result(self, began: float, sizes: Mapping[str, float]) -> Checked:
        """Try all, and put it together."""
        self.say("looking at the model and its data")
        seen = json.loads(self._expect(self._job("survey", {})))
        self.say("measuring the untouched model")
        measuring, quality = self._baseline()
        self.say("looking at how the data is scaled")
        self.warnings += suspicions.about(seen | self._scalings(), quality, self.task)
        stages = [self._stage(name) for name in self._stages()]
        schemes = [self._scheme(str(name)) for name in self._values("scheme")]
        probes = self._probes()
        proposals = size_proposals.proposals(probes, sizes, *self._eight_bits()) if sizes else []
        recipes = self._cover([tried.name for tried in (*stages, *schemes) if tried.reason])
        for tried in (*stages, *schemes, *recipes):
            if tried.reason:
                self.warnings.append(f"{tried.name} does not work here: {tried.reason}")
        hours, most = self.config.hours or NIGHT_H, self._most()

        takes = functools.partial(self._trial, {t.name: t for t in stages}, {t.name: t for t in schemes}, measuring)

        def hold(seconds: float | None) -> int:
            """Trials that fit into the hours."""
            return 0 if seconds is None else int(min(hours * 3600 / seconds, most))

        there = self.task["items"]["train"]
        used = self.defaults.items or there
        fits = hold(trial := takes(used))
        slowest = max((tried.step_s for tried in stages if not tried.reason), default=0.0)
        return Checked(
            layers=seen["layers"],
            quality=f"{quality['name']} {quality['value']:.4g}",
            stages=stages,
            schemes=schemes,
            trial_s=trial,
            hours=hours,
            trials=(fits, int(min(fits * self.slots, most))),
            asked=int(min(self.config.trials, most)),
            recipes=recipes,
            warnings=self.warnings,
            seconds=time.monotonic() - began,
            epoch_s=slowest * -(-used // self.defaults.batch_size),
            part=None if used < there else part(there, fits, most, lambda items: hold(takes(items))),
            metric={name: self.task["metric"][name] for name in ("name", "direction", "unit")},
            probes=probes.to_dict(),
            proposals=proposals,
        )

    # ---- jobs

    def _job(self, name: str, settings: Mapping[str, Any], *parents: str) -> Job:
        given = {**settings, "task": self.setting.task}
        return job_graph.job(name, given, parents or (self.setting.model,), salt=self.setting.fingerprint)

    def _run(self, job: Job) -> Outcome:
        outcome = run(job, self.workplace, hearing.listener(self.workplace.progress(job.key), self.say))
        if outcome.state == "config":
            raise ConfigError(outcome.reason)
        if outcome.state not in ("done", "failed"):
            raise TargetUnavailable(outcome.reason)
        return outcome

    def _expect(self, job: Job) -> bytes:
        """The result of a job without which there is no study."""
        outcome = self._run(job)
        result = self.store.get(job.key) if outcome.state == "done" else None
        if result is None:
            raise ConfigError(f"{self.config.task}: {outcome.reason}")
        return result

    def _given(self, job: Job) -> tuple[bytes | None, str]:
        """The result of a job that may fail, and why it did."""
        outcome = self._run(job)
        return (self.store.get(job.key), "") if outcome.state == "done" else (None, outcome.reason)

    def _all(self, jobs: Iterable[Job]) -> tuple[float, str]:
        """Run jobs up to the first that fails: the seconds they took, and where and why it failed."""
        seconds = 0.0
        for job in jobs:
            outcome = self._run(job)
            seconds += outcome.seconds
            if outcome.state == "failed":
                return seconds, outcome.reason
        return seconds, ""

    # ---- what is tried

    def _baseline(self) -> tuple[float, dict[str, Any]]:
        """Seconds that a file takes to be proven and measured, and the untouched model's quality."""
        plan = job_graph.plan(self.setting.baseline, self.setting)
        seconds, reason = self._all(plan.jobs)
        if reason:
            raise ConfigError(f"{self.config.task}: the untouched model can't be measured: {reason}")
        found = json.loads(self.store.get(plan.results["accuracy"]) or b"{}")
        return seconds, {"name": self.task["metric"]["name"], **found["measurement"], "classes": found["classes"]}

    def _stages(self) -> list[str]:
        refuses = self.config.target.refuses
        aware = any(SCHEMES[str(name)].qat and not refuses(str(name)) for name in self._values("scheme"))
        return [*(part for part in OPTIONAL if part in self.space.knobs), *(["qat"] if aware else [])]

    def _values(self, name: str) -> tuple[Value, ...]:
        knob = self.space.knobs[name]
        return getattr(knob, "values", ())

    def _stage(self, name: str) -> Tried:
        """A few steps of a stage with the settings in the middle of the space."""
        self.say(f"trying {name} for a few steps")
        recipe = self._middle(name)
        settings = dict(next(s for stage, s in recipe.stages() if stage == name))
        settings |= {"preserve_clusters": False} if name == "qat" else {}
        settings |= {"preserve_sparsity": False} if name in ("cluster", "levels", "qat") else {}
        settings["finetune"] = {
            k: v for k, v in settings["finetune"].items() if k not in ("distillation", "temperature")
        }
        job = self._job("rehearse", {"stage": name, "state": "", **settings})
        outcome = self._run(job)
        packed = self.store.get(job.key) if outcome.state == "done" else None
        if packed is None:
            return Tried(name=name, reason=outcome.reason, seconds=outcome.seconds)
        [report] = reports_of(packed)
        if name == "qat":
            self.quantized = job.key
        return Tried(
            name=name,
            touched=tuple(dict.fromkeys(row["layer"] for row in report["touched"])),
            skipped={row["layer"]: row["why"] for row in report["skipped"]},
            notes=tuple(report.get("notes", ())),
            step_s=report["epoch_seconds"] / report["steps"],
            seconds=outcome.seconds,
            peak_bytes=report["peak_bytes"],
        )

    def _middle(self, stage: str) -> Recipe:
        """A recipe in the middle of the space, with one stage alone as far as the space allows."""

        def choose(name: str, knob: Knob) -> Value:
            if name in OPTIONAL:
                wanted: Value = name == stage
                return wanted if wanted in knob else knob.middle()
            if name == "scheme":
                fit = [n for n in self._values(name) if SCHEMES[str(n)].qat == (stage == "qat")]
                return (fit or self._values(name))[0]
            return knob.middle()

        return self.space.build(choose, self.defaults, self.config.seed)

    def _scheme(self, name: str) -> Tried:
        """The untouched model in a scheme: converted, proven, and run on the target."""
        self.say(f"trying {name}")
        refused = self.config.target.refuses(name)
        if refused:
            return Tried(name=name, reason=refused)
        if SCHEMES[name].qat and not self.quantized:
            return Tried(name=name, reason="quantization-aware training failed")
        model = self.quantized if SCHEMES[name].qat else self.setting.model
        plan = job_graph.rehearsal(model, Recipe(scheme=name, seed=self.setting.seed), self.setting)
        seconds, reason = self._all(plan.jobs)
        found = json.loads(self.store.get(plan.results["proof"]) or b"{}") if not reason else {}
        return Tried(name=name, reason=reason, seconds=seconds, size_bytes=found.get("size_bytes", 0))

    def _scalings(self) -> dict[str, Any]:
        """What becomes of the quality if the inputs are scaled otherwise; nothing where the metric can't be had of few items."""
        found, _ = self._given(self._job("scalings", {}))
        return json.loads(found) if found else {"scalings": [], "normalization": "", "rescaling": ""}

    def _probes(self) -> Probes:
        """What each technique does to one layer alone."""
        self.say("probing one layer after the other")
        found, reason = self._given(self._job("probes", {}))
        return Probes.from_dict(json.loads(found)) if found else Probes(reason=reason)

    def _eight_bits(self) -> tuple[bytes | None, str]:
        """The untouched model's int8 file, and why it can't be had."""
        plan = job_graph.plan(Recipe(scheme="int8", seed=self.setting.seed), self.setting)
        _, reason = self._all(plan.jobs[: [job.key for job in plan.jobs].index(plan.file) + 1])
        return (None, f"the model can't be had in int8: {reason}") if reason else (self.store.get(plan.file), "")

    def _cover(self, failed: Collection[str]) -> list[Tried]:
        """Recipes that together hold every value of the space's lists, without what has failed by itself."""
        knobs, schemes = self.space.knobs, [name for name in failed if name in SCHEMES]
        schemes += [n for n in map(str, self._values("scheme")) if SCHEMES[n].qat and "qat" in failed]
        try:
            space = self.space.without([n for n in failed if n in knobs], schemes, "it has failed")
        except ConfigError:  # nothing is left that could work
            return []
        recipes = [r for r in covering.recipes(space, self.defaults, self.config.seed) if r.trains or r.quantize]
        with ThreadPoolExecutor(self.slots) as pool:
            return list(pool.map(self._recipe, recipes))

    def _recipe(self, recipe: Recipe) -> Tried:
        """A step or two of each stage of a recipe; the file is proven and run on the target."""
        self.say(f"trying {recipe.label()}")
        model, jobs = self.setting.model, []
        if recipe.trains:
            jobs = [self._job("cover", {"stages": recipe.stages()})]
            model = jobs[0].key
        seconds, reason = self._all([*jobs, *job_graph.rehearsal(model, recipe, self.setting).jobs])
        how = f" (with {_settings(recipe)})" if reason else ""
        return Tried(name=recipe.label(), reason=f"{reason}{how}" if reason else "", seconds=seconds)

    def _most(self) -> float:
        """How many trials the space has, the baseline and what it is compared with among them."""
        beside = {self.setting.baseline, self.setting.reference}
        outside = [recipe for recipe in beside if self.space.parameters(recipe, self.defaults) is None]
        return self.space.count() + len(outside)

    def _trial(
        self, stages: Mapping[str, Tried], schemes: Mapping[str, Tried], measuring: float, items: int
    ) -> float | None:
        """Seconds that a trial of the space takes on average, where all of it has to be made; on so many training items."""
        rng, total, counted = random.Random(0), 0.0, 0
        for _ in range(DRAWN):
            recipe = self.space.random(rng, self.defaults, self.config.seed)
            chain = [(stages.get(name), settings["finetune"]) for name, settings in recipe.stages() if name != "tune"]
            scheme = schemes.get(recipe.scheme)
            if scheme is None or scheme.reason or any(tried is None or tried.reason for tried, _ in chain):
                continue
            steps = sum(
                tried.step_s * tuning["epochs"] * -(-(tuning.get("items") or items) // tuning["batch_size"])
                for tried, tuning in chain
                if tried
            )
            total, counted = total + steps + scheme.seconds + measuring, counted + 1
        return total / counted if counted else None


def part(there: int, fits: int, most: float, hold: Callable[[int], int]) -> tuple[int, int] | None:
    """A part of the data that holds more trials, where few fit with all of it; see `Checked.part`.

    Args:
        there: training items.
        fits: trials that fit with all of them.
        most: trials that the space has.
        hold: tells how many fit with so many items.
    """
    items = there // PARTS
    if fits >= min(FEW_TRIALS, most) or items < LEAST_PART:
        return None
    then = hold(items)
    return (items, then) if then >= 2 * fits else None


def _settings(recipe: Recipe) -> str:
    """A recipe's settings that its label leaves out, in words."""
    parts = {name: part for name, part in recipe.to_dict().items() if isinstance(part, dict) and name != "finetune"}
    told = [f"{part}.{name} {value}" for part, settings in parts.items() for name, value in settings.items()]
    tuning = recipe.finetune
    return ", ".join([*told, *([f"distillation {tuning.distillation:g}"] if tuning and tuning.distillation else [])])
