"""Whole studies on other targets: an NPU's cost model, a microcontroller's runtime, a phone that goes away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tinystudy as tiny
import waiting

import autoopt
from autoopt.api.saved_study import SavedResults
from autoopt.errors import ConfigError
from autoopt.search.progress import Silent

SPACE = """\
space:
  prune: {{sparsity: [0.5], frequency: 2, optional: {optional}}}
  scheme: [{schemes}]
target: {target}
trials: {trials}
measuring: quick
"""
TRANSCRIPT = """\
INFO: Loaded model {model}
INFO: count=5 first=106436 curr=105929 min=105929 max=106436 avg=106065 std=193 p5=105929 median=105948 p95=106436
INFO: count=50 first=106022 curr=105780 min=105416 max=106528 avg=105784 std=260 p5=105485 median=105718 p95=106281
INFO: Inference timings in us: Init: 87639, First inference: 106436, Warmup (avg): 106065, Inference (avg): 105784
INFO: Memory footprint delta from the start of the tool (MB): init=14.4414 overall=14.8164
"""
ADB = """\
#!/bin/sh
# What a phone says; it is away while the file `gone` is there.
here=$(dirname "$0")
if [ -e "$here/gone" ]; then echo "adb: device 'PHONE' not found" >&2; exit 1; fi
case "$4" in
  *benchmark_model*--graph*) cat "$here/transcript" ;;
  *getprop*) printf 'Pixel 8\\nTensor G3\\nzuma\\n15\\n' ;;
esac
case "$4" in *'; echo autoopt-ended:$?') echo autoopt-ended:0 ;; esac
"""


def study(folder: Path, target: str, schemes: str, trials: int, *, optional: str = "true") -> Path:
    text = SPACE.format(target=target, schemes=schemes, trials=trials, optional=optional)
    return tiny.write(folder / "study", study=text)


@pytest.fixture(scope="module")
def on_npu(tmp_path_factory: pytest.TempPathFactory) -> SavedResults:
    folder = study(tmp_path_factory.mktemp("npu"), "vela:ethos-u55-128", "dynamic, int8_io", 5)
    return autoopt.run(folder)


def test_on_an_npu_the_float_baseline_is_known_but_never_shipped(on_npu: SavedResults) -> None:
    first = on_npu.candidates[0]
    assert first.origin == "baseline"
    assert "int8" in first.refused
    assert "accuracy" in first.measurements
    assert "latency_ms" not in first.measurements
    assert on_npu.statuses()[0] == "infeasible"
    assert on_npu.pick().candidate is not first


def test_on_an_npu_latency_is_relative_to_the_int8_baseline_and_estimated(on_npu: SavedResults) -> None:
    reference = on_npu.candidates[1]
    assert (reference.recipe.scheme, reference.origin) == ("int8_io", "scheme")
    assert reference.measurements["latency_ratio"].value == 1
    for c in on_npu.candidates:
        for name in {"latency_ms", "memory_bytes", "flash_bytes"} & set(c.measurements):
            assert "estimated" in c.measurements[name].flags
    assert on_npu.objectives == ("accuracy", "latency_ms", "flash_bytes")


def test_what_the_target_cannot_run_fails_before_any_training(on_npu: SavedResults) -> None:
    refused = [c for c in on_npu.candidates if c.recipe.scheme == "dynamic"]
    assert refused
    for c in refused:
        assert (c.failed_stage, c.seconds, c.seconds_saved) == ("target", 0, 0)
        assert "Ethos-U" in c.reason


def test_on_a_microcontroller_the_arena_is_exact_and_a_budget(tmp_path: Path) -> None:
    results = autoopt.run(study(tmp_path, "micro:4KB", "float32, int8_io", 3))
    arenas = {c.recipe.scheme: c.measurements["memory_bytes"] for c in results.candidates if not c.recipe.trains}
    assert arenas["int8_io"].value < arenas["float32"].value
    assert arenas["int8_io"].low == arenas["int8_io"].high
    assert [b.text for b in results.budgets] == ["memory_bytes <= 4000"]
    for c in results.candidates:
        assert "latency_ms" not in c.measurements
        assert results.fits(c) == (c.measurements["memory_bytes"].value <= 4000)


class Notes(Silent):
    """Keeps what a study says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_what_a_scheme_failed_of_alone_is_not_trained_for_and_the_task_sets_the_epochs(tmp_path: Path) -> None:
    """TensorFlow Lite Micro has no softplus in 16 bits; the task fine-tunes for 1 epoch, whatever the space says."""
    pytest.importorskip("tflite_micro")
    text = SPACE.format(target="micro:64KB", schemes="float32, int16x8", trials=6, optional="true")
    longer = text.replace("scheme:", "finetune: {epochs: 3}\n  scheme:")
    folder = tiny.write(tmp_path / "study", study=longer, trained=False)
    task = (folder / "task.py").read_text()
    (folder / "task.py").write_text(task.replace("layers.ReLU()(x)", 'layers.Activation("softplus")(x)'))
    view = Notes()
    results = autoopt.run(folder, view=view)
    [alone] = [c for c in results.candidates if c.recipe.scheme == "int16x8" and not c.recipe.trains]
    assert alone.failed_stage == "micro"
    pruned = {c.recipe.scheme: c for c in results.candidates if c.recipe.compresses}
    assert (pruned["int16x8"].seconds, pruned["int16x8"].seconds_saved) == (0, 0)
    assert pruned["int16x8"].reason == f"{alone.reason} (so did #{alone.number}, the same scheme alone)"
    assert not pruned["float32"].failed
    assert pruned["float32"].recipe.finetune is not None
    assert pruned["float32"].recipe.finetune.epochs == 1
    assert any("epochs 1 in place of the space's 3" in note for note in view.said)


def test_a_space_of_which_the_target_runs_nothing_is_refused_before_anything(tmp_path: Path) -> None:
    folder = study(tmp_path, "vela:ethos-u55-128", "float32, dynamic", 5)
    with pytest.raises(ConfigError, match=r"space: the target vela:ethos-u55-128 can run none of .*; use space: npu"):
        autoopt.run(folder)


def test_a_phone_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "transcript").write_text(TRANSCRIPT)
    (tools / "benchmark_model").write_text("a binary for a phone")
    (tools / "adb").write_text(ADB)
    (tools / "adb").chmod(0o755)
    target = f"adb:PHONE?benchmark_model={tools / 'benchmark_model'}"
    folder = study(tmp_path, target, "float32, dynamic, int8", 4)
    code = "import autoopt.search.setbacks as s; s.AWAY_S = 0.5; from autoopt.cli.commands import main; main()"
    environment = {**tiny.ENVIRONMENT, "PATH": f"{tools}:{os.environ['PATH']}"}
    said = tmp_path / "stderr"
    with said.open("w") as stderr, subprocess.Popen(
        [sys.executable, "-c", code, "run", str(folder)], stderr=stderr, stdout=subprocess.DEVNULL, env=environment
    ) as process:  # fmt: skip
        waiting.until(lambda: "#0" in said.read_text(), of=process)
        (tools / "gone").touch()
        waiting.until(lambda: "waits: target adb:PHONE" in said.read_text(), of=process)
        (tools / "gone").unlink()
        assert process.wait() == 0, said.read_text()
    assert said.read_text().count("waits: ") == 1, "said once, however often it is tried again"
    assert "answers again, after" in said.read_text()
    results = autoopt.load(folder)
    assert len(results.candidates) == 4
    assert not any(c.failed for c in results.candidates)
    assert results.baseline is not None
    assert results.baseline.measurements["latency_ms"].value == pytest.approx(105.485)
    assert results.provenance["device"]["phone"] == "Pixel 8"


def test_confirming_later_is_the_same_as_at_the_end(tmp_path: Path) -> None:
    folder = study(tmp_path, "micro:64KB", "float32, int8", 3)
    (folder / "study.yaml").write_text((folder / "study.yaml").read_text() + "confirm: false\n")
    before = autoopt.run(folder)
    assert not any(c.confirmation for c in before.candidates)
    done = tiny.invoke("confirm", folder)
    assert done.returncode == 0, done.stderr
    assert "confirming" in done.stderr
    after = autoopt.load(folder)
    assert len(after.candidates) == len(before.candidates)
    for c in after.front():
        assert c.confirmation is not None
        assert c.confirmation.quality.how.endswith("test split")
        assert c.confirmation.quality.n == 200
    assert "confirmed" in (folder / "out" / "report.html").read_text()


def test_confirming_what_was_never_run_is_refused(tmp_path: Path) -> None:
    done = tiny.invoke("confirm", study(tmp_path, "host", "float32", 1))
    assert done.returncode == 2
    assert "no results yet" in done.stderr


def test_a_recipe_by_name_has_something_to_be_read_against(tmp_path: Path) -> None:
    """On a target that can't run the float baseline, the reference is made before it."""
    folder = study(tmp_path, "vela:ethos-u55-128", "int8_io", 5)
    tuning = autoopt.Finetune(epochs=1, learning_rate=0.002, batch_size=32)
    named = autoopt.Recipe(prune=autoopt.Prune(sparsity=0.5, frequency=2), scheme="int8_io", finetune=tuning)
    results = autoopt.run(folder, recipes=[named])
    assert [c.origin for c in results.candidates] == ["baseline", "scheme", "search"]
    assert results.candidates[-1].recipe == named
    assert "latency_ratio" in results.candidates[-1].measurements
