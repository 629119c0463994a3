"""Candidates for programs that track experiments: what is handed on, and that the libraries read it again."""

import dataclasses
import math

import nights
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.candidate import Confirmation
from autoopt.core.metrics import Measurement, Metric
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.reporting import mlflow_export, tensorboard_export
from autoopt.reporting.tracking import tracked

MOMENT = "2026-11-21T06:00:00+00:00"


def night():
    """A few candidates, one of them failed and one confirmed."""
    again = Confirmation(quality=Measurement.exact(0.85, "x"))
    kept = [dataclasses.replace(c, finished=MOMENT) for c in nights.realistic().candidates[:6]]
    kept[3] = dataclasses.replace(kept[3], confirmation=again)
    return nights.results(*kept, nights.failure(28, finished=MOMENT))


def test_a_run_has_what_the_candidate_has():
    found = {one.number: one for one in tracked(night())}
    assert found[3].metrics["accuracy_test"] == 0.85
    assert found[3].metrics["size_bytes"] == 95_904
    assert found[5].parameters["scheme"] == "int8"
    assert found[5].parameters["prune.sparsity"] == 0.8
    assert "channels" not in found[5].parameters
    assert found[28].failed
    assert found[28].metrics == {}
    assert found[28].tags["autoopt.reason"] == "no QAT config for Multiply"
    assert sum(one.tags["autoopt.pick"] == "yes" for one in found.values()) == 1
    assert found[5].ended - found[5].began == 700


@given(name=st.text(min_size=1, max_size=20), finished=st.text(max_size=20))
def test_names_and_moments_that_others_wrote_do_no_harm(name, finished):
    metric = Metric(name=name, direction="max", unit="fraction")
    c = dataclasses.replace(nights.baseline(), finished=finished, measurements={name: Measurement.exact(0.5, "x")})
    study = nights.results(c, quality=name, metrics={**nights.METRICS, name: metric}, objectives=(name,))
    (found,) = tracked(study)
    assert all(part.isalnum() or part in "_-. /" for key in found.metrics for part in key)
    assert math.isfinite(found.began)


def test_without_the_library_it_says_what_to_install(monkeypatch, tmp_path):
    for name in ("mlflow", "tensorboard"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'autoopt\[mlflow\]'"):
        mlflow_export.write(night())
    with pytest.raises(ConfigError, match=r"pip install 'autoopt\[tensorboard\]'"):
        tensorboard_export.write(night(), tmp_path)


@pytest.fixture
def mlflow():
    return pytest.importorskip("mlflow", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_mlflow_reads_what_was_written_once_however_often_it_is(mlflow, tmp_path):
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert mlflow_export.write(night(), address) == (address, 7)
    assert mlflow_export.write(night(), address) == (address, 7)
    client = mlflow.MlflowClient(tracking_uri=address)
    runs = client.search_runs([client.get_experiment_by_name("resnet8").experiment_id])
    assert len(runs) == 7
    by_number = {run.data.tags["autoopt.candidate"]: run for run in runs}
    assert by_number["3"].data.metrics["accuracy_test"] == 0.85
    assert by_number["5"].data.params["prune.sparsity"] == "0.8"
    assert by_number["28"].info.status == "FAILED"
    assert by_number["5"].info.end_time - by_number["5"].info.start_time == 700_000


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_an_mlflow_that_is_not_there_is_told_in_one_line_without_its_password(mlflow):
    with pytest.raises(TargetUnavailable) as raised:
        mlflow_export.write(night(), "http://me:secret@127.0.0.1:9")
    assert str(raised.value).startswith("MLflow at http://127.0.0.1:9: ")
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own
def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    assert tensorboard_export.write(night(), tmp_path / "logs") == 6
    read = EventAccumulator(str(tmp_path / "logs" / "resnet8-00005")).Reload()
    assert set(read.Tags()["tensors"]) >= {"accuracy", "size_bytes"}
    content = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    parsed = metadata.parse_session_start_info_plugin_data(content)
    assert parsed.hparams["prune.sparsity"].number_value == 0.8
    with pytest.raises(ConfigError, match="exists already, and would show twice"):
        tensorboard_export.write(night(), tmp_path / "logs")
