"""Jobs that a target does: latency and memory of a `.tflite`."""

from autoopt import targets
from autoopt.execution.jobs.context import Context, to_json
from autoopt.targets import Target, benchmark


def latency(context: Context) -> bytes:
    """Latency of the `.tflite` (first parent), interleaved with the reference's (third).

    Returns:
        JSON: `processes` (rounds of pairs of ns, by process), `flags` and `target`.
    """
    file, _, reference = context.parents
    target = _target(context)
    facts, settings = target.describe(), context.settings
    processes, flags = benchmark.timed(target, file, reference, fewest=settings["fewest"], most=settings["most"])
    return to_json({"processes": processes, "flags": flags, "target": facts})


def memory(context: Context) -> bytes:
    """Memory that the `.tflite` (first parent) takes.

    Returns:
        JSON: `readings` (bytes by metric, one a process) and `target`; `flags` where a reader must know something of them.
    """
    target = _target(context)
    facts = target.describe()
    told = {"readings": benchmark.readings(target, context.parents[0]), "target": facts}
    flags = target.fallbacks(context.parents[0])
    return to_json(told | ({"flags": list(flags)} if flags else {}))


def _target(context: Context) -> Target:
    return targets.find(context.settings["target"], context.settings["threads"])
