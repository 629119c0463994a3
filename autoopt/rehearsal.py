"""`autoopt check`: tries everything that a study's night will ask of its model, each for a few steps.

Nothing is kept: the jobs are the search's own, in a store that is thrown away.
"""

import json
import os
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoopt import pipeline, terms
from autoopt.engine import default_job_bytes, default_slots
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.folder import StudyConfig, StudyFolder
from autoopt.knobs import Knob, Value
from autoopt.models import reports_of
from autoopt.pipeline import Job
from autoopt.process import Outcome, Workplace, run
from autoopt.recipe import COMPRESSING, SCHEMES, Finetune, Recipe
from autoopt.store import Store

NIGHT_H = 10.0
"""Of a study that sets no hours."""
DRAWN = 200
"""Recipes of the space over which the time of a trial is averaged."""
DEAD = 0.1
"""Share of dead weights from which a gain by pruning is no evidence."""
BALANCED = 0.2
"""A class that has less than this share of what it would have among equals is hardly calibrated for."""


TELLING = 10
"""Items a class, of which so few would come about by chance."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One technique or scheme.

    Attributes:
        name: a stage or a scheme.
        reason: why it failed; empty if it works.
        touched: layers that it changes.
        skipped: why it leaves others alone, by layer.
        notes: what it said.
        step_s: seconds that a step of training takes.
        seconds: that all of it took, in its process.
        peak_bytes: resident memory of its process, at most.
        size_bytes: of the file, for schemes.
    """

    name: str
    reason: str = ""
    touched: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    step_s: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What came of a check.

    Attributes:
        layers: with kernels: `layer`, `kind`, `weights`, `multiply_adds`, `dead`.
        quality: the baseline's on validation, in words.
        stages: training stages of the space.
        schemes: of the space.
        trial_s: seconds that a trial takes on average, alone; None if nothing of the space works.
        hours: that the study may take.
        trials: that fit into them, one after the other, and with all slots busy.
        asked: trials that the study asks for.
        warnings: what a person should know before the night.
        seconds: that the check took.
    """

    layers: list[dict[str, Any]]
    quality: str
    stages: list[Tried]
    schemes: list[Tried]
    trial_s: float | None
    hours: float
    trials: tuple[int, int]
    asked: int
    warnings: list[str]
    seconds: float

    @property
    def works(self) -> bool:
        """Whether the study can be run with all that its space holds."""
        return not any(tried.reason for tried in (*self.stages, *self.schemes))


def check(path: str | os.PathLike[str], *, target: str | None = None, say: Callable[[str], None]) -> Checked:
    """Try a study before a night is spent on it.

    Args:
        path: of its folder.
        target: where to measure, in place of the study's own.
        say: told what is tried just now.

    Raises:
        ConfigError: if task, space or settings are wrong, or the untouched model can't be converted and measured.
        TargetUnavailable: if the target does not answer.
    """
    folder = StudyFolder(path)
    config = folder.config(target)
    config.target.describe()
    slots = config.slots or default_slots()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="autoopt-check-") as place:
        workplace = Workplace(
            store=place,
            mark=uuid.uuid4().hex,
            threads=max(1, (os.cpu_count() or 1) // slots),
            job_seconds=config.limits.job_seconds,
            job_bytes=config.limits.job_bytes or default_job_bytes(slots),
        )
        with workplace.claimed():
            return _Check(folder, config, Store(Path(place)), workplace, slots, say).result(began)


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
        self.task = json.loads(self._expect(pipeline.job("task", {"path": str(config.task.resolve())})))
        terms.settle(config, self.task["metric"], f"{folder.path}/study.yaml")
        self.warnings: list[str] = [*self.task["warnings"]]
        self.warnings += [limit["why"] for limit in self.task["limits"]]
        self.space = terms.narrowed(config.space, self.task["limits"])
        self.setting = terms.setting(config, self.task, "check")
        self.quantized = ""
        self.defaults = Finetune(**self.task["finetune"])

    def result(self, began: float) -> Checked:
        """Try all, and put it together."""
        self.say("looking at the model and its data")
        seen = json.loads(self._expect(self._job("survey", {})))
        self.say("measuring the untouched model")
        measuring, quality = self._baseline()
        self.warnings += _about(seen, quality, self.task)
        stages = [self._stage(name) for name in self._stages()]
        schemes = [self._scheme(str(name)) for name in self._values("scheme")]
        for tried in (*stages, *schemes):
            if tried.reason:
                self.warnings.append(f"{tried.name} does not work here: {tried.reason}")
        trial = self._trial({t.name: t for t in stages}, {t.name: t for t in schemes}, measuring)
        hours = self.config.hours or NIGHT_H
        fits = 0 if trial is None else int(hours * 3600 / trial)
        return Checked(
            layers=seen["layers"],
            quality=f"{quality['name']} {quality['value']:.4g}",
            stages=stages,
            schemes=schemes,
            trial_s=trial,
            hours=hours,
            trials=(fits, fits * self.slots),
            asked=self.config.trials,
            warnings=self.warnings,
            seconds=time.monotonic() - began,
        )

    # ---- jobs

    def _job(self, name: str, settings: Mapping[str, Any], *parents: str) -> Job:
        given = {**settings, "task": self.setting.task}
        return pipeline.job(name, given, parents or (self.setting.model,), salt=self.setting.fingerprint)

    def _run(self, job: Job) -> Outcome:
        outcome = run(job, self.workplace, lambda: False)
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

    def _all(self, jobs: Iterable[Job]) -> tuple[float, str]:
        """Run jobs up to the first that fails: the seconds they took, and why it failed."""
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
        plan = pipeline.plan(self.setting.baseline, self.setting)
        seconds, reason = self._all(plan.jobs)
        if reason:
            raise ConfigError(f"{self.config.task}: the untouched model can't be measured: {reason}")
        found = json.loads(self.store.get(plan.results["accuracy"]) or b"{}")
        return seconds, {"name": self.task["metric"]["name"], **found["measurement"], "classes": found["classes"]}

    def _stages(self) -> list[str]:
        aware = any(SCHEMES[str(name)].qat for name in self._values("scheme"))
        return [*(part for part in COMPRESSING if part in self.space.knobs), *(["qat"] if aware else [])]

    def _values(self, name: str) -> tuple[Value, ...]:
        knob = self.space.knobs[name]
        return getattr(knob, "values", ())

    def _stage(self, name: str) -> Tried:
        """A few steps of a stage with the settings in the middle of the space."""
        self.say(f"trying {name} for a few steps")
        recipe = self._middle(name)
        settings = dict(next(s for stage, s in recipe.stages() if stage == name))
        settings |= {"preserve_clusters": False} if name == "qat" else {}
        settings |= {"preserve_sparsity": False} if name in ("cluster", "qat") else {}
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
            if name in COMPRESSING:
                wanted: Value = name == stage
                return wanted if wanted in knob else knob.middle()
            if name == "scheme":
                fit = [n for n in self._values(name) if SCHEMES[str(n)].qat == (stage == "qat")]
                return (fit or self._values(name))[0]
            return knob.middle()

        return self.space.build(choose, self.defaults, self.config.seed)

    def _scheme(self, name: str) -> Tried:
        """The untouched model in a scheme: converted and proven."""
        self.say(f"trying {name}")
        refused = self.config.target.refuses(name)
        if refused:
            return Tried(name=name, reason=refused)
        if SCHEMES[name].qat:
            if not self.quantized:
                return Tried(name=name, reason="quantization-aware training failed")
            convert = pipeline.job("convert", {"scheme": name}, (self.quantized,))
            recipe = Recipe(scheme=name)
            proof = pipeline.job("proof", {"recipe": recipe.to_dict()}, (convert.key, self.quantized))
            jobs = [convert, proof]
        else:
            plan = pipeline.plan(Recipe(scheme=name, seed=self.setting.seed), self.setting)
            wanted = {plan.file, plan.results["proof"]}
            jobs = [job for job in plan.jobs if job.key in wanted or job.name == "float32"]
            proof = next(job for job in jobs if job.name == "proof")
        seconds, reason = self._all(jobs)
        found = json.loads(self.store.get(proof.key) or b"{}") if not reason else {}
        return Tried(name=name, reason=reason, seconds=seconds, size_bytes=found.get("size_bytes", 0))

    def _trial(self, stages: Mapping[str, Tried], schemes: Mapping[str, Tried], measuring: float) -> float | None:
        """Seconds that a trial of the space takes on average, where all of it has to be made."""
        rng, total, counted = random.Random(0), 0.0, 0
        items = self.task["items"]["train"]
        for _ in range(DRAWN):
            recipe = self.space.random(rng, self.defaults, self.config.seed)
            chain = [(stages.get(name), settings["finetune"]) for name, settings in recipe.stages()]
            scheme = schemes.get(recipe.scheme)
            if scheme is None or scheme.reason or any(tried is None or tried.reason for tried, _ in chain):
                continue
            steps = sum(
                tried.step_s * tuning["epochs"] * -(-items // tuning["batch_size"]) for tried, tuning in chain if tried
            )
            total, counted = total + steps + scheme.seconds + measuring, counted + 1
        return total / counted if counted else None


def _about(seen: Mapping[str, Any], quality: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[str]:
    """What is suspicious of a model and its data."""
    weights = sum(row["weights"] for row in seen["layers"])
    dead = sum(row["dead"] for row in seen["layers"])
    if weights and dead / weights >= DEAD:
        yield (
            f"{dead / weights:.0%} of the weights are dead already (|w| < 1e-6): what pruning takes of them is no gain of its "
            "own; compare with the compressed size of the untouched model"
        )
    classes = quality["classes"]
    if classes:
        items = sum(n for _, n in classes)
        chance = max(n for _, n in classes) / items
        if quality["value"] <= chance + 2 * (chance * (1 - chance) / items) ** 0.5:
            low, high = seen["range"]
            yield (
                f"the untouched model is right in {quality['value']:.1%} of the validation items, no better than always "
                f"saying the most frequent class ({chance:.1%}): is the data scaled as in its training? It reaches from "
                f"{low:.3g} to {high:.3g}"
            )
        counts = seen["calibration"]
        even = sum(counts) / max(1, len(counts))
        rare = [i for i, n in enumerate(counts) if n < BALANCED * even] if even >= TELLING else []
        if rare and len(counts) > 1:
            names = task["class_names"]
            named = ", ".join(names[i] if i < len(names) else str(i) for i in rare[:5])
            yield (
                f"the calibration set hardly holds {len(rare)} of {len(counts)} classes ({named}{', …' if len(rare) > 5 else ''}), "
                "by what the untouched model says of it: int8 ranges may not fit them; give a balanced one"
            )
    if seen["constant"]:
        yield f"{seen['constant']} items of the calibration set are all one value"
