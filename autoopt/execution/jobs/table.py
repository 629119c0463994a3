"""The kinds of jobs: each is a pure function of bytes and settings, run in a process of its own.

To add one: write a function in a module beside this one and list it in `JOBS`; raise its version when its result changes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from autoopt.compression import stages
from autoopt.execution.jobs import conversion, evaluation, looking, measuring, probing, task, teaching, training
from autoopt.execution.jobs.context import Context


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of job.

    Attributes:
        body: what it does.
        version: part of its key; raise it when the result changes.
        cached: whether its result follows from its key, and may be kept.
        gpu: whether it trains, or runs a model over a whole split, and so has a GPU where there is one.
    """

    body: Callable[[Context], bytes]
    version: int = 1
    cached: bool = True
    gpu: bool = False


JOBS: dict[str, Kind] = {
    "task": Kind(body=task.read_task, cached=False),
    "survey": Kind(body=looking.survey),
    "scalings": Kind(body=looking.scalings),
    "probes": Kind(body=probing.probe),
    "cover": Kind(body=training.cover, gpu=True),
    "rehearse": Kind(body=training.rehearse, version=2, gpu=True),
    "teach": Kind(body=teaching.teach, gpu=True),
    "one_shot": Kind(body=training.one_shot, version=2),
    "weigh": Kind(body=conversion.weigh, version=2),
    "begin": Kind(body=training.begin_stage, version=2, gpu=True),
    **{stage: Kind(body=training.train_stage, version=3, gpu=True) for stage in stages.STAGES},
    "qat": Kind(body=training.train_stage, version=5, gpu=True),
    "float32": Kind(body=conversion.to_float32, version=2),
    "convert": Kind(body=conversion.to_scheme, version=3),
    "quantize": Kind(body=conversion.quantize, version=6),
    "proof": Kind(body=conversion.prove, version=7),
    "accuracy": Kind(body=evaluation.accuracy, version=4),
    "crosscheck": Kind(body=evaluation.compare_baseline),
    "memory": Kind(body=measuring.memory, version=3),
    "latency": Kind(body=measuring.latency, version=2),
}
