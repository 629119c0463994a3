"""From a recipe to the jobs that make and measure it.

Each job's key is the SHA-256 of everything its result follows from, so that equal prefixes of two
recipes are one job, in memory and in the store.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from autoopt import measure
from autoopt.jobs import JOBS
from autoopt.recipe import SCHEMES, Recipe
from autoopt.targets import Target

LIBRARIES = ("ai-edge-litert", "litert-quantizer", "numpy", "tensorflow", "tensorflow-model-optimization", "tf-keras")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One step, as data: it can be sent to another machine.

    Attributes:
        name: a key of `jobs.JOBS`.
        key: of its result in the store.
        settings: plain values.
        parents: keys of the results it starts from.
        exclusive: what it has to itself, see `targets.Target`.
        cached: whether its result may be kept and reused.
    """

    name: str
    key: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    exclusive: str = ""
    cached: bool = True


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Where training can stop, for what it has come to is known.

    Attributes:
        after: key of the job that ends there.
        point: the stage's name, and whether it is `begun` or `done`.
    """

    after: str
    point: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs behind one candidate, each after its parents.

    Attributes:
        jobs: in an order in which they can be submitted.
        file: key of the `.tflite`.
        results: keys of `proof`, `accuracy`, `latency` and `memory`, by name; what the target does not
            measure is left out.
        gates: where its training can stop, in the order of the jobs.
    """

    jobs: tuple[Job, ...]
    file: str
    results: Mapping[str, str]
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all candidates of a study share.

    Attributes:
        task: key of the task's manifest.
        fingerprint: of the task.
        model: key of the packed baseline model.
        target: where it is measured.
        machine: what identifies the machine that measures; readings of another are not reused.
        threads: of the interpreter while measuring.
        seed: of the baseline's recipes.
    """

    task: str
    fingerprint: str
    model: str
    target: Target
    machine: str
    threads: int = 1
    seed: int = 0

    @property
    def baseline(self) -> Recipe:
        """The untouched model."""
        return Recipe(seed=self.seed)

    @property
    def reference(self) -> Recipe:
        """The untouched model in the scheme that latencies are relative to."""
        return Recipe(scheme=self.target.reference, seed=self.seed)


def job(
    name: str, settings: Mapping[str, Any], parents: tuple[str, ...] = (), salt: str = "", exclusive: str = ""
) -> Job:
    """A job with its key.

    Args:
        name: a key of `jobs.JOBS`.
        settings: plain values.
        parents: keys.
        salt: what the result follows from beside settings and parents.
        exclusive: what it has to itself, see `targets.Target`.
    """
    kind = JOBS[name]
    parts = [name, kind.version, _meaningful(settings), parents, salt, library_versions()]
    key = _digest(parts)
    return Job(name=name, key=key, settings=dict(settings), parents=parents, exclusive=exclusive, cached=kind.cached)


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _meaningful(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only says where something lies: the task (its fingerprint is the salt), a training's state."""
    return {name: value for name, value in settings.items() if name not in ("task", "state")}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results follow from."""
    if not _versions:
        _versions.update({name: version(name) for name in LIBRARIES})
    return _versions


_versions: dict[str, str] = {}


def plan(recipe: Recipe, setting: Setting, *, confirm: bool = False, begin: bool = False) -> Plan:
    """The jobs that make and measure a candidate.

    The chain is baseline -> training stages -> float32 -> scheme -> proof -> measurements; a file
    that fails its proof is not measured. What the target can't run is not measured on it.

    Args:
        recipe: of the candidate.
        setting: of the study.
        confirm: measure once more, on the test split and with more repeats.
        begin: have a job of its own for the first epochs of each stage, so that training can stop after them.
    """
    steps = _Steps(setting, begin)
    file, proof = steps.file(recipe)
    split = "test" if confirm else "validation"
    results = {"proof": proof, "accuracy": steps.accuracy(recipe, split)}
    target = setting.target
    if not target.refuses(recipe.scheme):
        where = {"target": target.name, "threads": setting.threads, "machine": setting.machine}
        if "memory_bytes" in target.measures and not confirm:
            alone = "" if target.exclusive == "machine" else target.exclusive
            results["memory"] = steps.add("memory", where, file, proof, exclusive=alone)
        if "latency_ms" in target.measures:
            reference, _ = steps.file(setting.reference)
            most = (measure.CONFIRM_FEWEST, measure.CONFIRM_MOST) if confirm else (measure.FEWEST, measure.MOST)
            where |= dict(zip(("fewest", "most"), most, strict=True))
            results["latency"] = steps.add("latency", where, file, proof, reference, exclusive=target.exclusive)
    return Plan(jobs=tuple(steps.jobs.values()), file=file, results=results, gates=tuple(steps.gates.values()))


class _Steps:
    """Collects jobs, each once."""

    def __init__(self, setting: Setting, begin: bool) -> None:
        self.setting, self.begin = setting, begin
        self.jobs: dict[str, Job] = {}
        self.gates: dict[str, Gate] = {}

    def add(
        self, name: str, settings: Mapping[str, Any], *parents: str, data: bool = False, exclusive: str = ""
    ) -> str:
        task = {"task": self.setting.task} if data else {}
        salt = self.setting.fingerprint if data else ""
        made = job(name, {**settings, **task}, parents, salt=salt, exclusive=exclusive)
        self.jobs.setdefault(made.key, made)
        return made.key

    def file(self, recipe: Recipe) -> tuple[str, str]:
        """Keys of a recipe's `.tflite` and of its proof."""
        model = self.setting.model
        for stage, settings in recipe.stages():
            model = self.train(stage, {"stage": stage, **settings}, model)
        scheme = recipe.scheme
        if SCHEMES[scheme].qat or scheme == "int16x8":
            file = self.add("convert", {"scheme": scheme}, model, data=scheme == "int16x8")
        else:
            file = self.add("float32", {}, model)
            if scheme != "float32":
                file = self.add("quantize", {"scheme": scheme}, file, data=True)
        return file, self.add("proof", {"recipe": recipe.to_dict()}, file, model)

    def train(self, stage: str, settings: Mapping[str, Any], model: str) -> str:
        """Key of the model behind a stage."""
        state = _digest(["state", job(stage, settings, (model,), salt=self.setting.fingerprint).key])
        given = {**settings, "state": state}
        if self.begin and settings["finetune"]["epochs"] > 1:
            begun = self.add("begin", given, model, data=True)
            self.gates[begun] = Gate(after=begun, point=(stage, "begun"))
        model = self.add(stage, given, model, data=True)
        self.gates[model] = Gate(after=model, point=(stage, "done"))
        return model

    def accuracy(self, recipe: Recipe, split: str) -> str:
        """Key of a recipe's quality; the baseline's stands before all others', which are compared with it."""
        baseline = self.setting.baseline
        before = () if recipe == baseline else (self.accuracy(baseline, split),)
        return self.add("accuracy", {"split": split}, *self.file(recipe), *before, data=True)
