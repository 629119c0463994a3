"""What a study is judged by: metrics, objectives and budgets, once the task's own metric is known."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autoopt.core import budgets as budget_syntax
from autoopt.core import equivalence
from autoopt.core.budgets import Budget
from autoopt.core.metrics import STANDARD, Metric
from autoopt.core.search_space import SearchSpace
from autoopt.errors import ConfigError
from autoopt.execution.job_graph import Setting
from autoopt.study.folder import StudyConfig
from autoopt.targets import Target

TIMED = ("latency_ms", "latency_ratio")
MEASURED = (*TIMED, "memory_bytes", "flash_bytes")
"""Metrics that some target brings; all others follow from the file and the task's data."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a study is judged by.

    Attributes:
        quality: the task's own metric.
        metrics: all that candidates may have, by name.
        objectives: names of metrics.
        budgets: the study's limits.
        equivalence: by how much qualities may differ and count as as good; `` for the default.
    """

    quality: Metric
    metrics: Mapping[str, Metric]
    objectives: tuple[str, ...]
    budgets: tuple[Budget, ...]
    equivalence: str = ""


def narrowed(space: SearchSpace, limits: Iterable[Mapping[str, Any]]) -> SearchSpace:
    """A space without what its task's model can't be put through (see `intake.Limit`).

    Raises:
        ConfigError: if no recipe is left.
    """
    for limit in limits:
        space = space.without(limit["parts"], limit["schemes"], limit["why"], limit["values"])
    return space


def setting(config: StudyConfig, task: Mapping[str, Any], machine: str) -> Setting:
    """What all candidates of a study share.

    Args:
        config: of the study.
        task: what the job that read the task has found.
        machine: see `Setting`.
    """
    return Setting(
        task=task["manifest"],
        fingerprint=task["fingerprint"],
        model=task["model"],
        target=config.target,
        machine=machine,
        threads=config.threads,
        seed=config.seed,
        measuring=config.measuring,
    )


def settle(config: StudyConfig, metric: Mapping[str, str], where: str) -> Terms:
    """Put names to a study's objectives and limits to its budgets.

    Args:
        config: the study's.
        metric: the task's own: name, direction, unit.
        where: the file, for messages.

    Raises:
        ConfigError: for a metric that is not known, or that the target does not measure.
    """
    quality = Metric(name=metric["name"], direction=metric["direction"], unit=metric["unit"])
    metrics = {quality.name: quality, **STANDARD}
    objectives = tuple(quality.name if name == "quality" else name for name in config.objectives)
    for name in objectives:
        if name not in metrics:
            raise ConfigError(f"{where}: objectives: unknown metric {name!r}; known: {', '.join(metrics)}")
    try:
        budgets = tuple(budget_syntax.parse(text, metrics) for text in config.budgets)
        equivalence.parse(config.equivalence, quality)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    _expect_measured("objectives", objectives, config.target, where)
    _expect_measured("budgets", (budget.metric for budget in budgets), config.target, where)
    return Terms(
        quality=quality, metrics=metrics, objectives=objectives, budgets=budgets, equivalence=config.equivalence
    )


def _expect_measured(what: str, names: Iterable[str], target: Target, where: str) -> None:
    brings = {*target.measures, *(TIMED if "latency_ms" in target.measures else ())}
    for name in names:
        if name in MEASURED and name not in brings:
            known = ", ".join(target.measures)
            raise ConfigError(f"{where}: {what}: the target {target.name} does not measure {name}; it measures {known}")
