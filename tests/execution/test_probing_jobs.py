"""The job that probes a model's layers, in a process of its own."""

import json
from pathlib import Path

import real_jobs
import tinystudy

from autoopt.core.probes import FORMS, Probes
from autoopt.execution import job_graph
from autoopt.execution.job_process import run


def test_probes_are_kept_in_the_store_and_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    place = real_jobs.workplace(tmp_path / "store")
    folder = tinystudy.write(tmp_path / "study")
    setting, facts = real_jobs.taken_in(folder, place, (folder / "task.py").read_text())

    def probing(*layers: str) -> job_graph.Job:
        given = {"layers": list(layers), "task": setting.task}
        return job_graph.job("probes", given, (setting.model,), salt=setting.fingerprint)

    assert probing().cached
    assert probing().key != probing("conv2d").key
    assert run(probing("conv2d"), place, real_jobs.never).state == "done"
    found = Probes.from_dict(json.loads(real_jobs.result(place, probing("conv2d"))))
    assert found.items == facts["items"]["train"] == 400
    assert [(probed.layer, len(probed.forms)) for probed in found.layers] == [
        ("conv2d", len(FORMS)),
        ("dense", 0),
        ("dense_1", 0),
    ]
    refused = run(probing("conv2"), place, real_jobs.never)
    assert refused.state == "failed"
    assert refused.reason.endswith("the model has no layer 'conv2' with a kernel; did you mean 'conv2d'?")
