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

from autoopt.jobs import JOBS
from autoopt.recipe import SCHEMES, Recipe

LIBRARIES = ("ai-edge-litert", "litert-quantizer", "numpy", "tensorflow", "tensorflow-model-optimization", "tf-keras")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One step, as data: it can be sent to another machine.

    Attributes:
        name: a key of `jobs.JOBS`.
        key: of its result in the store.
        settings: plain values.
        parents: keys of the results it starts from.
        exclusive: nothing else may run on the machine meanwhile.
        cached: whether its result may be kept and reused.
    """

    name: str
    key: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    exclusive: bool = False
    cached: bool = True


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs behind one candidate, each after its parents.

    Attributes:
        jobs: in an order in which they can be submitted.
        file: key of the `.tflite`.
        results: keys of `proof`, `accuracy`, `latency` and `memory`, by name.
    """

    jobs: tuple[Job, ...]
    file: str
    results: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all candidates of a study share.

    Attributes:
        task: key of the task's manifest.
        fingerprint: of the task.
        model: key of the packed baseline model.
        target: name of the target.
        machine: what identifies the machine that measures; readings of another are not reused.
        threads: of the interpreter while measuring.
    """

    task: str
    fingerprint: str
    model: str
    target: str
    machine: str
    threads: int = 1


def job(name: str, settings: Mapping[str, Any], parents: tuple[str, ...] = (), salt: str = "") -> Job:
    """A job with its key.

    Args:
        name: a key of `jobs.JOBS`.
        settings: plain values.
        parents: keys.
        salt: what the result follows from beside settings and parents.
    """
    kind = JOBS[name]
    parts = [name, kind.version, _without_task(settings), parents, salt, library_versions()]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(text.encode()).hexdigest()
    return Job(
        name=name, key=key, settings=dict(settings), parents=parents, exclusive=kind.exclusive, cached=kind.cached
    )


def _without_task(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The task's key says where it lies; what it is stands in the salt, its fingerprint."""
    return {name: value for name, value in settings.items() if name != "task"}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results follow from."""
    if not _versions:
        _versions.update({name: version(name) for name in LIBRARIES})
    return _versions


_versions: dict[str, str] = {}


def plan(recipe: Recipe, setting: Setting) -> Plan:
    """The jobs that make and measure a candidate.

    The chain is baseline -> training stages -> float32 -> scheme -> proof -> measurements; a file
    that fails its proof is not measured.
    """
    jobs: list[Job] = []

    def add(name: str, settings: Mapping[str, Any], *parents: str, data: bool = False) -> str:
        task = {"task": setting.task} if data else {}
        made = job(name, {**settings, **task}, parents, salt=setting.fingerprint if data else "")
        if made.key not in {j.key for j in jobs}:
            jobs.append(made)
        return made.key

    model = setting.model
    for stage, settings in recipe.stages():
        model = add(stage, {"stage": stage, **settings}, model, data=True)
    file = _file(recipe.scheme, model, add)
    baseline = add("float32", {}, setting.model)
    proof = add("proof", {"recipe": recipe.to_dict()}, file, model)
    where = {"target": setting.target, "threads": setting.threads}
    results = {
        "proof": proof,
        "accuracy": add("accuracy", {}, file, proof, data=True),
        "memory": add("memory", {**where, "machine": setting.machine}, file, proof),
        "latency": add("latency", {**where, "machine": setting.machine}, file, proof, baseline),
    }
    return Plan(jobs=tuple(jobs), file=file, results=results)


def _file(scheme: str, model: str, add: Any) -> str:
    """Key of the `.tflite` in a scheme, made from a packed model."""
    if SCHEMES[scheme].qat or scheme == "int16x8":
        return str(add("convert", {"scheme": scheme}, model, data=scheme == "int16x8"))
    float32 = str(add("float32", {}, model))
    return float32 if scheme == "float32" else str(add("quantize", {"scheme": scheme}, float32, data=True))
