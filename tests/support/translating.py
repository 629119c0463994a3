"""Makes files in a process that is forked from the server of jobs, and tells what TensorFlow had to translate for that."""

import json
from pathlib import Path
from typing import Any

from autoopt import targets
from autoopt.core.recipe import Recipe
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Job, Setting
from autoopt.execution.jobs import JOBS, Context

MADE_BY = ("float32", "convert", "quantize")
"""Jobs whose results are files."""


def make(answer: Any, folder: str, task: str, recipes: list[str], afresh: bool) -> None:
    """Tell the names of the functions that were translated, and make each recipe's file in the folder.

    Args:
        answer: the end of a pipe.
        folder: for the files, `0.tflite` and so on.
        task: path of a `task.py`.
        recipes: each as JSON.
        afresh: forget the translations that the server has made.
    """
    import tensorflow as tf
    from tensorflow.python.autograph.impl.api import _TRANSPILER
    from tensorflow.python.autograph.pyct.transpiler import GenericTranspiler

    tf.config.threading.set_intra_op_parallelism_threads(1)  # as each job does; later, it is too late
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if afresh:
        _TRANSPILER.__init__()
    names: list[str] = []
    whole = GenericTranspiler.transform_function

    def noted(self: Any, function: Any, context: Any) -> Any:
        names.append(f"{function.__module__}: {function.__qualname__}")
        return whole(self, function, context)

    GenericTranspiler.transform_function = noted
    store = Store(Path(folder, "store"))
    reading = job_graph.job("task", {"path": task})
    facts = json.loads(_done(reading, store))
    given = {"task": facts["manifest"], "fingerprint": facts["fingerprint"], "model": facts["model"]}
    setting = Setting(**given, target=targets.find("host"), machine="here")
    for number, recipe in enumerate(map(Recipe.from_json, recipes)):
        plan = job_graph.plan(recipe, setting)
        for job in plan.jobs:
            if (job.name in MADE_BY or job.name == job.settings.get("stage")) and store.get(job.key) is None:
                _done(job, store)
        Path(folder, f"{number}.tflite").write_bytes(store.get(plan.file) or b"")
    answer.send(names)


def _done(job: Job, store: Store) -> bytes:
    """A job's result, which is put into the store."""
    parents = [store.get(key) or b"" for key in job.parents]
    quiet: dict[str, Any] = {"progress": lambda _: None, "foretell": lambda _: None}
    context = Context(store=store, parents=parents, settings=job.settings, threads=1, **quiet)
    result = JOBS[job.name].body(context)
    store.put(job.key, result)
    return result
