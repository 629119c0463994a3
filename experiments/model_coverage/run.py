"""What becomes of well-known Keras 3 models?

    python experiments/model_coverage/run.py [MODEL ...] [--schemes]

Builds each with random weights, rebuilds it in Keras 2 and runs `autoopt check` on it: every stage is trained for a few
steps, every scheme is converted and proven; with `--schemes` no stage is tried, which is several times as quick. Keeps
each model's row under out/, and writes README.md beside this script from all there are.
"""

import argparse
import datetime
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from autoopt.api import check
from autoopt.api.checked import Checked, Tried
from autoopt.errors import AutooptError
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
SIZE = 75
"""Pixels to a side: the least that all of them take."""
MODELS = (
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ResNet50", "ResNet50V2",
    "DenseNet121", "NASNetMobile", "Xception", "ConvNeXtTiny", "VGG16", "InceptionV3",
)  # fmt: skip
TASK = """
import keras
import numpy as np

import autoopt


def task():
    rng = np.random.default_rng(0)
    model = keras.applications.{name}(weights=None, classes=10, input_shape=({size}, {size}, 3))
    splits = [(rng.random((n, {size}, {size}, 3)).astype("float32"), rng.integers(0, 10, n)) for n in (16, 8, 8)]
    tuning = autoopt.Finetune(epochs=1, learning_rate=1e-4, batch_size=4)
    return autoopt.Task(model=model, train=splits[0], validation=splits[1], test=splits[2], finetune=tuning)
"""
STUDY = """
space:
  channels: {ratio: 0.25}
  prune: {sparsity: 0.5}
  cluster: {number: 16, initialisation: linear}
  scheme: [float32, dynamic, int8, qat_int8]
objectives: [accuracy, size_bytes]
limits: {job_time: 10 min}
"""


def look(name: str, stages: bool) -> Checked | str:
    """What the check found, or why it could not."""
    study = STUDY if stages else "space: {scheme: [float32, dynamic, int8]}\nobjectives: [accuracy, size_bytes]\n"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, name)
        folder.mkdir()
        (folder / "task.py").write_text(TASK.format(name=name, size=SIZE))
        (folder / "study.yaml").write_text(study)
        try:
            return check.check(folder, say=lambda text: print(f"{name}: {text}", flush=True))
        except AutooptError as error:
            return str(error).partition("task.py: ")[2] or str(error)


def row(name: str, found: Checked | str, tried: bool) -> str:
    """A line of the table.

    Args:
        name: of the model.
        found: see `look`.
        tried: whether stages were.
    """
    if isinstance(found, str):
        return f"| {name} | {found} | | | | | | | | |"
    weights = sum(layer["weights"] for layer in found.layers)
    by_name = {tried.name: tried for tried in (*found.stages, *found.schemes)}
    missing = "left out" if tried else "not tried"
    stages = [_stage(found, by_name.get(stage), weights, missing) for stage in ("channels", "prune", "cluster", "qat")]
    schemes = [_scheme(by_name.get(scheme), missing) for scheme in ("float32", "int8", "qat_int8")]
    return f"| {name} | {weights / 1e6:.2f} M | {' | '.join([*stages, *schemes])} | {found.seconds:.0f} s |"


def _stage(found: Checked, tried: Tried | None, weights: int, missing: str) -> str:
    if tried is None:
        return missing
    if tried.reason:
        return f"fails: {tried.reason}"
    inside = sum(layer["weights"] for layer in found.layers if layer["layer"] in tried.touched)
    return f"{inside / weights:.0%}"


def _scheme(tried: Tried | None, missing: str) -> str:
    if tried is None:
        return missing
    return f"fails: {tried.reason}" if tried.reason else f"{tried.size_bytes / 1e6:.2f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"of keras.applications; default: {', '.join(MODELS)}"
    )
    lines = [
        "# What becomes of well-known models?",
        "",
        f"Written by `run.py`. {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, TensorFlow "
        f"{version('tensorflow')}, Keras {version('keras')}, tf_keras {version('tf-keras')}; {datetime.date.today()}.",
        "",
        f"`keras.applications` models of Keras 3 with random weights, {SIZE} pixels to a side, 10 classes, rebuilt in Keras 2 (outputs",
        "compared, 1e-5) and put through `autoopt check`. The stages show the share of the weights in layers that they change, after",
        "some steps of training; the schemes the size of the file that was converted and proven. Random weights say nothing of accuracy.",
        "Where the stages were not tried (`--schemes`), training with quantization was not either, and the check is so much shorter.",
        "",
        "| model | weights | channels | prune | cluster | QAT | float32 | int8 | QAT int8 | check took |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    parser.add_argument("--schemes", action="store_true", help="try no stage; for models without a row only")
    told = parser.parse_args()
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    for name in told.models or MODELS:
        kept = out / f"{name}.md"
        if told.schemes and kept.exists():
            continue
        kept.write_text(row(name, look(name, not told.schemes), not told.schemes), encoding="utf-8")
        rows = [path.read_text(encoding="utf-8") for path in (out / f"{model}.md" for model in MODELS) if path.exists()]
        (HERE / "README.md").write_text("\n".join([*lines, *rows, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
