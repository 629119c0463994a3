"""Jobs that train: stages in whole or in part, a few steps to try them, and what a teacher says."""

import contextlib
import dataclasses
import sys
from typing import Any

from autoopt.compression import stages
from autoopt.compression.goals import Lessons
from autoopt.compression.training import Training
from autoopt.compression.training_state import Progress
from autoopt.errors import CandidateFailed, TargetUnavailable
from autoopt.execution.jobs import gpu_memory, teaching
from autoopt.execution.jobs.context import Context, limit_threads, to_json
from autoopt.models import loading

REHEARSED_STEPS, REHEARSED_ITEMS = 6, 64
COVERED_STEPS = 2


def begin_stage(context: Context) -> bytes:
    """The first epochs of the training stage named by the setting `stage`; what it takes to go on is kept beside.

    Returns:
        JSON: `epochs`, the loss and quality of each.
    """
    return gpu_memory.tried_twice(context, _begin)


def _begin(context: Context, notes: list[str]) -> bytes:
    name, state, model, _, settings = _stage(context)
    before = _kept(context, state)
    come = 0 if before is None else len(before.history)
    begun = stages.begin(name, model, settings, _training(context, state), before)
    if come < len(begun.history):
        context.store.put(state, begun.to_bytes())
    return to_json({"epochs": begun.history})


def train_stage(context: Context) -> bytes:
    """Run the training stage named by the setting `stage`: packed model -> packed model.

    It goes on from what `begin_stage` kept, or it itself before it was killed, if that is there; the result is the same.
    """
    return gpu_memory.tried_twice(context, _train)


def _train(context: Context, notes: list[str]) -> bytes:
    name, state, model, reports, settings = _stage(context)
    try:
        trained, report = stages.run(name, model, settings, _training(context, state), _kept(context, state))
        report |= {"notes": [*notes, *report.get("notes", ())]} if notes else {}
        packed = loading.pack(trained, [*reports, report], like=context.parents[0])
    except CandidateFailed:
        _forget(context, state)  # it would fail again
        raise
    _forget(context, state)
    return packed


def rehearse(context: Context) -> bytes:
    """A few steps of the training stage named by the setting `stage`: packed model -> packed model.

    Its report says too how many `steps` an epoch had, and how much memory it took (`peak_bytes`).
    """
    name, _, model, _, settings = _stage(context)
    settings["finetune"] = {**settings["finetune"], "epochs": 2}
    whole = _training(context)
    train = whole.train.some(REHEARSED_STEPS * settings["finetune"]["batch_size"])
    few = dataclasses.replace(whole, train=train, validation=whole.validation.some(REHEARSED_ITEMS))
    trained, report = stages.run(name, model, settings, few)
    report |= {"steps": few.steps(settings["finetune"]), "peak_bytes": _peak_bytes()}
    return loading.pack(trained, [report], like=context.parents[0])


def cover(context: Context) -> bytes:
    """A step or two of each of the training stages named by the setting `stages`: packed model -> packed model."""
    limit_threads(context.threads)
    model, reports = loading.unpack(context.parents[0])
    whole, tunings = _training(context), [settings["finetune"] for _, settings in context.settings["stages"]]
    size = max((tuning["batch_size"] for tuning in tunings), default=1)
    train = whole.train.some(COVERED_STEPS * size)
    lessons = teaching.lessons_on(context, train, tunings[0]) if tunings else Lessons()
    few = dataclasses.replace(whole, train=train, validation=whole.validation.some(REHEARSED_ITEMS), **vars(lessons))
    for name, given in context.settings["stages"]:
        settings = {**given, "finetune": {**given["finetune"], "epochs": 1}}
        model, report = stages.run(name, model, settings, few)
        reports.append(report)
    return loading.pack(model, reports, like=context.parents[0])


def one_shot(context: Context) -> bytes:
    """Packed model -> packed model with what the setting `stages` does to it, not trained."""
    model, reports = loading.unpack(context.parents[0])
    training = _training(context) if "task" in context.settings else None
    for name, settings in context.settings["stages"]:
        model = stages.one_shot(name, model, dict(settings), training)
    return loading.pack(model, reports, like=context.parents[0])


def _peak_bytes() -> int:
    """The most memory that this process had resident."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _stage(context: Context) -> tuple[str, str, Any, list[dict[str, Any]], dict[str, Any]]:
    """A stage's name, the key of its state, its model with the reports so far, its settings."""
    settings = dict(context.settings)
    name, state = settings.pop("stage"), settings.pop("state")
    limit_threads(context.threads)
    model, reports = loading.unpack(context.parents[0])
    return name, state, model, reports, settings


def _kept(context: Context, state: str) -> Progress | None:
    """How far an earlier job came with a stage, if one began it."""
    data = context.store.get(state)
    return None if data is None else Progress.from_bytes(data)


def _forget(context: Context, state: str) -> None:
    """Remove the state of a training that has ended: it is as large as several models."""
    context.store.path(state).unlink(missing_ok=True)


def _training(context: Context, state: str = "") -> Training:
    """What a stage trains with; with distillation what was taught is the second parent.

    Args:
        context: of the job.
        state: the key under which the training's state is kept while it is under way; `` to keep none.
    """

    def keep(data: bytes) -> None:
        with contextlib.suppress(TargetUnavailable):  # without room for it, a kill costs more, and nothing else
            context.store.put(state, data)

    lessons = teaching.lessons(context)
    return Training(
        manifest=context.manifest(),
        train=context.split("train", context.settings.get("finetune", {}).get("items", 0)),
        validation=context.split("validation"),
        progress=context.progress,
        foretell=context.foretell,
        **vars(lessons),
        keep=keep if state else None,
    )
