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

from autoopt.compression.weight_pruning import AT_ONCE
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import AFTER_TRAINING, SCHEMES
from autoopt.core.stage_settings import Finetune, Quantize, plain
from autoopt.execution.jobs import JOBS
from autoopt.targets import Target, benchmark

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
        results: keys of `proof`, `accuracy`, `latency` and `memory`, by name, and of the baseline's `crosscheck`; what
            the target does not measure is left out.
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
        measuring: how thoroughly times are read, see `benchmark.REPEATS`.
    """

    task: str
    fingerprint: str
    model: str
    target: Target
    machine: str
    threads: int = 1
    seed: int = 0
    measuring: str = "usual"

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
    if recipe == setting.baseline and not confirm:
        results["crosscheck"] = steps.add("crosscheck", {}, file, setting.model, data=True)
    if not setting.target.refuses(recipe.scheme, recipe.quantize):
        results |= steps.measurements(file, proof, confirm=confirm)
    return Plan(jobs=tuple(steps.jobs.values()), file=file, results=results, gates=tuple(steps.gates.values()))


def probe(recipe: Recipe, setting: Setting) -> Plan:
    """The jobs that show a recipe's cheap metrics before it is trained.

    The one-shot file has its masks and centroids, and the post-training form of its scheme. Where the target
    computes its metrics from the very file, it does so; other metrics a file has in common with its scheme.

    Args:
        recipe: that `compresses`.
        setting: of the study.
    """
    steps = _Steps(setting, begin=False)
    # How long it would train, and when it would prune, makes no difference here.
    tuning = plain(Finetune())
    alike: dict[str, dict[str, Any]] = {"channels": {}, "prune": AT_ONCE, "cluster": {}, "levels": {}}
    chain = [(name, {**s, **alike[name], "finetune": tuning}) for name, s in recipe.stages() if name in alike]
    model = steps.add("one_shot", {"stages": chain}, setting.model, data=by_data(recipe))
    file = steps.convert(model, AFTER_TRAINING.get(recipe.scheme, recipe.scheme), recipe.quantize)
    results = {"weigh": steps.add("weigh", {}, file)}
    if shows_all(recipe, setting):
        results |= steps.measurements(file, file)
    return Plan(jobs=tuple(steps.jobs.values()), file=file, results=results)


def by_data(recipe: Recipe) -> bool:
    """Whether a stage looks at the data before it trains, to choose what goes or to solve what stays."""
    chooses = recipe.channels is not None and (recipe.channels.importance == "taylor" or recipe.channels.solve)
    return chooses or (recipe.prune is not None and recipe.prune.allocation == "sensitivity")


def shows_all(recipe: Recipe, setting: Setting) -> bool:
    """Whether a recipe's one-shot file is measured, as far as that does not hang on the weights' values.

    Otherwise the target can't tell it from the other files of its scheme.
    """
    return setting.target.exact or recipe.channels is not None


def rehearsal(model: str, recipe: Recipe, setting: Setting) -> Plan:
    """The jobs that convert a model, prove it, and run it once on the target, where that can run such files.

    Args:
        model: key of a packed model, trained already.
        recipe: it was trained by.
        setting: of the study.
    """
    steps = _Steps(setting, begin=False)
    file = steps.convert(model, recipe.scheme, recipe.quantize)
    proof = steps.add("proof", {"recipe": recipe.to_dict()}, file, model)
    results = {"proof": proof}
    if not setting.target.refuses(recipe.scheme, recipe.quantize):
        results["run"] = steps.once(file, proof)
    return Plan(jobs=tuple(steps.jobs.values()), file=file, results=results)


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
        model = teacher = self.setting.model
        for stage, settings in recipe.stages():
            model = self.train(stage, {"stage": stage, **settings}, model, teacher)
            teacher = model if stage == "tune" else teacher
        file = self.convert(model, recipe.scheme, recipe.quantize)
        return file, self.add("proof", {"recipe": recipe.to_dict()}, file, model)

    def convert(self, model: str, scheme: str, how: Quantize | None) -> str:
        """Key of a model's `.tflite` in a scheme."""
        batch = {"batch": 1} if self.setting.target.one_item else {}
        if SCHEMES[scheme].qat or scheme == "int16x8":
            return self.add("convert", {"scheme": scheme, **batch}, model, data=scheme == "int16x8")
        file = self.add("float32", batch, model)
        if scheme == "float32":
            return file
        return self.add("quantize", {"scheme": scheme} | ({} if how is None else plain(how)), file, data=True)

    def train(self, stage: str, settings: Mapping[str, Any], model: str, teacher: str) -> str:
        """Key of the model behind a stage.

        Args:
            stage: a key of `STAGES`.
            settings: of the stage.
            model: key of the model before it.
            teacher: key of the model that a distillation asks, where the task gives none.
        """
        parents: tuple[str, ...] = (model,)
        if settings["finetune"].get("distillation"):
            asked = {name: value for name, value in settings["finetune"].items() if name in ("augment", "items")}
            parents += (self.add("teach", asked, teacher, data=True),)
            # Where it is asked in every step, the training itself has to have it; the untouched model is in the task.
            parents += () if teacher == self.setting.model else (teacher,)
        state = _digest(["state", job(stage, settings, parents, salt=self.setting.fingerprint).key])
        given = {**settings, "state": state}
        if self.begin and settings["finetune"]["epochs"] > 1:
            begun = self.add("begin", given, *parents, data=True)
            self.gates[begun] = Gate(after=begun, point=(stage, "begun"))
        model = self.add(stage, given, *parents, data=True)
        self.gates[model] = Gate(after=model, point=(stage, "done"))
        return model

    def measurements(self, file: str, proof: str, *, confirm: bool = False) -> dict[str, str]:
        """Keys of what the target measures of a file, by name, once it is proven."""
        setting, target, results = self.setting, self.setting.target, {}
        where = {"target": target.name, "threads": setting.threads, "machine": setting.machine}
        if "memory_bytes" in target.measures and not confirm:
            alone = "" if target.exclusive == "machine" else target.exclusive
            results["memory"] = self.add("memory", where, file, proof, exclusive=alone)
        if "latency_ms" in target.measures:
            reference, _ = self.file(setting.reference)
            searching, confirming = benchmark.REPEATS[setting.measuring]
            where |= dict(zip(("fewest", "most"), confirming if confirm else searching, strict=True))
            results["latency"] = self.add("latency", where, file, proof, reference, exclusive=target.exclusive)
        return results

    def once(self, file: str, proof: str) -> str:
        """Key of the cheapest measurement on the target that runs a file."""
        setting, target = self.setting, self.setting.target
        where = {"target": target.name, "threads": setting.threads, "machine": setting.machine}
        if "memory_bytes" in target.measures:
            return self.add("memory", where, file, proof)
        return self.add("latency", where | {"fewest": 1, "most": 1}, file, proof, self.file(setting.reference)[0])

    def accuracy(self, recipe: Recipe, split: str) -> str:
        """Key of a recipe's quality; the baseline's stands before all others', which are compared with it."""
        baseline = self.setting.baseline
        before = () if recipe == baseline else (self.accuracy(baseline, split),)
        return self.add("accuracy", {"split": split}, *self.file(recipe), *before, data=True)
