"""autoopt makes trained Keras models small and fast: a joint search of pruning, clustering and quantization.

    results = autoopt.run("studies/digits", trials=20)
    results.table()                              # pandas
    results.pick(max_size="300KB", max_accuracy_drop="1%")

Names are loaded on first use, so that `import autoopt` stays quick and free of TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AutooptError": "errors",
    "CandidateFailed": "errors",
    "ConfigError": "errors",
    "TargetUnavailable": "errors",
    "Cluster": "core.stage_settings",
    "Finetune": "core.stage_settings",
    "Prune": "core.stage_settings",
    "Recipe": "core.recipe",
    "Measurement": "core.metrics",
    "Metric": "core.metrics",
    "Candidate": "core.candidate",
    "Pick": "core.results",
    "Results": "core.results",
    "QualityMetric": "models.task",
    "Task": "models.task",
    "verdicts": "reporting.ablation",
    "compare": "reporting.comparison",
    "verify": "api.verification",
    "confirm": "api.run",
    "load": "api.saved_study",
    "run": "api.run",
}
__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from autoopt.api.run import confirm as confirm
    from autoopt.api.run import run as run
    from autoopt.api.saved_study import load as load
    from autoopt.api.verification import verify as verify
    from autoopt.core.candidate import Candidate as Candidate
    from autoopt.core.metrics import Measurement as Measurement
    from autoopt.core.metrics import Metric as Metric
    from autoopt.core.recipe import Recipe as Recipe
    from autoopt.core.results import Pick as Pick
    from autoopt.core.results import Results as Results
    from autoopt.core.stage_settings import Cluster as Cluster
    from autoopt.core.stage_settings import Finetune as Finetune
    from autoopt.core.stage_settings import Prune as Prune
    from autoopt.errors import AutooptError as AutooptError
    from autoopt.errors import CandidateFailed as CandidateFailed
    from autoopt.errors import ConfigError as ConfigError
    from autoopt.errors import TargetUnavailable as TargetUnavailable
    from autoopt.models.task import QualityMetric as QualityMetric
    from autoopt.models.task import Task as Task
    from autoopt.reporting.ablation import verdicts as verdicts
    from autoopt.reporting.comparison import compare as compare


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'autoopt' has no attribute {name!r}")
    return getattr(importlib.import_module(f"autoopt.{_HOMES[name]}"), name)
