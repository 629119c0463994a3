"""Writes a study's candidates to MLflow, by MLflow's own client: an experiment a study, a run a candidate."""

import logging
import os
import re
from typing import Any

from autoopt.core.results import Results
from autoopt.errors import ConfigError, TargetUnavailable, one_line, retold
from autoopt.reporting.tracking import Tracked, tracked

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing is told of a study but to who was named
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default it waits for minutes for a server that is not there
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Settings of MLflow's client, where the user has none of their own."""
KEY = "autoopt.candidate"
_SECRET = re.compile(r"//[^@/\s]*@")


def write(results: Results, address: str = "") -> tuple[str, int]:
    """Write all candidates; those that were written before are brought up to date.

    Args:
        results: of the study, whose name is the experiment's.
        address: of the tracking server or database, as MLflow knows them; by default MLflow's own.

    Returns:
        the address, and how many runs the experiment holds of the study.

    Raises:
        ConfigError: if MLflow is not installed.
        TargetUnavailable: if it can't be written to.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ImportError as error:
        raise ConfigError("an export to MLflow needs it: pip install 'autoopt[mlflow]'") from error
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    where = address or mlflow.get_tracking_uri()
    shown = _SECRET.sub("//", where)
    with retold(
        lambda error: TargetUnavailable(f"MLflow at {shown}: {_SECRET.sub('//', one_line(error, 300))}"),
        passing=(MemoryError,),
    ):
        client = mlflow.MlflowClient(tracking_uri=where)
        experiment = client.get_experiment_by_name(results.study)
        number = client.create_experiment(results.study) if experiment is None else experiment.experiment_id
        candidates = tracked(results)
        known = _known(client, number)
        for candidate in candidates:
            _write(client, number, candidate, known.get(str(candidate.number)))
    return shown, len(candidates)


def _known(client: Any, experiment: str) -> dict[str, str]:
    """The runs of an experiment that are ours, by candidate."""
    found: dict[str, str] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        found |= {run.data.tags[KEY]: run.info.run_id for run in page if KEY in run.data.tags}
        token = page.token
        if not token:
            return found


def _write(client: Any, experiment: str, one: Tracked, known: str | None) -> None:
    from mlflow.entities import Metric, Param, RunTag

    ended = int(one.ended * 1000)
    if known is None:
        run = client.create_run(experiment, start_time=int(one.began * 1000), run_name=one.name[:250])
        known = run.info.run_id
    client.log_batch(
        known,
        metrics=[Metric(name, value, ended, 0) for name, value in one.metrics.items()],
        params=[Param(name, str(value)) for name, value in one.parameters.items()],
        tags=[RunTag(name, text[:5000]) for name, text in one.tags.items()],
    )
    client.set_terminated(known, "FAILED" if one.failed else "FINISHED", end_time=ended)
