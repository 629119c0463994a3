"""What `autoopt check` warns of: what is suspicious of a model and its data."""

from collections.abc import Iterator, Mapping
from typing import Any

from autoopt.execution import input_scaling

DEAD = 0.1
"""Share of dead weights from which a gain by pruning is no evidence."""
BALANCED = 0.2
"""A class that has less than this share of what it would have among equals is hardly calibrated for."""
TELLING = 10
"""Items a class, of which so few would come about by chance."""


def about(seen: Mapping[str, Any], quality: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[str]:
    """What a person should know of a model and its data before a night.

    Args:
        seen: what the job `survey` has found.
        quality: the untouched model's on validation: `value`, and `classes` where the metric is accuracy.
        task: what the job that read the task has found.
    """
    weights = sum(row["weights"] for row in seen["layers"])
    dead = sum(row["dead"] for row in seen["layers"])
    if weights and dead / weights >= DEAD:
        yield (
            f"{dead / weights:.0%} of the weights are as good as zero already (|w| < 1e-6), so pruning them gains nothing; compare with "
            "the compressed size of the untouched model"
        )
    yield from input_scaling.suspicions(seen, task["metric"]["name"], task["metric"]["unit"])
    if quality["classes"]:
        yield from _guessing(seen, quality)
        yield from _rare(seen, task)
    if seen["constant"]:
        yield f"{seen['constant']} items of the calibration set are all one value"


def _guessing(seen: Mapping[str, Any], quality: Mapping[str, Any]) -> Iterator[str]:
    """A model that is no better than chance."""
    items = sum(n for _, n in quality["classes"])
    chance = max(n for _, n in quality["classes"]) / items
    if quality["value"] > chance + 2 * (chance * (1 - chance) / items) ** 0.5:
        return
    others = seen["scalings"][1:]
    why = ""
    if others and not any(row["better"] for row in others):
        shown = ", ".join(f"{row['way']}: {row['value']:.1%}" for row in others)
        why = f"; scaling the inputs otherwise does not help ({shown}): are labels in the order of its outputs, is it trained?"
    yield (
        f"the untouched model is right in {quality['value']:.1%} of the validation items, no better than always "
        f"saying the most frequent class ({chance:.1%}){why}"
    )


def _rare(seen: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[str]:
    """Classes that are hardly calibrated for."""
    counts = seen["calibration"]
    even = sum(counts) / max(1, len(counts))
    rare = [i for i, n in enumerate(counts) if n < BALANCED * even] if even >= TELLING else []
    if rare and len(counts) > 1:
        names = task["class_names"]
        named = ", ".join(names[i] if i < len(names) else str(i) for i in rare[:5])
        yield (
            f"the calibration set has very few items of {len(rare)} of {len(counts)} classes ({named}{', …' if len(rare) > 5 else ''}), "
            "by what the untouched model says of it: int8 ranges may not fit them; give a balanced one"
        )
