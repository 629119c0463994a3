"""The script that an engineer writes in an afternoon, after Optuna's and tensorflow-model-optimization's tutorials.

    python experiments/search_efficiency/hand_written.py [--trials 24]
    python experiments/search_efficiency/hand_written.py --model model.h5 --data data.npz --seconds 700 --out trials.csv

One process, one trial after another: load the baseline, prune, cluster, train with quantization, convert, evaluate,
measure. It uses nothing of autoopt but the data. Writes hand_written.csv beside this script, or what --out says: what
each trial took and gave. `replay.py` reads from it how long such a script's trials take.
"""

import argparse
import csv
import gzip
import os
import runpy
import time
from pathlib import Path
from typing import Any

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import optuna
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

HERE = Path(__file__).resolve().parent
DIGITS = HERE / "digits"
BATCH = 32
Data = dict[str, tuple[np.ndarray, np.ndarray]]


def splits(file: Path | None) -> Data:
    """Training and validation data: of a file, or of the digits."""
    if file is None:
        made = runpy.run_path(str(DIGITS / "task.py"))["task"]()
        return {name: getattr(made, name) for name in ("train", "validation")}
    with np.load(file, allow_pickle=False) as arrays:
        return {name: (arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in ("train", "validation")}


def fit(model: Any, data: Data, trial: optuna.Trial, callbacks: Any = None) -> Any:
    """Fine-tune as the tutorials do."""
    epochs = trial.suggest_categorical("epochs", [1, 3])
    model.compile(tf_keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*data["train"], BATCH, epochs, validation_data=data["validation"], callbacks=callbacks, verbose=0)
    return model


def compress(trial: optuna.Trial, data: Data, baseline: Path) -> Any:
    """The model of a trial."""
    model = tf_keras.models.load_model(baseline, compile=False)
    prune = trial.suggest_categorical("prune", [False, True])
    cluster = trial.suggest_categorical("cluster", [False, True])
    if prune:
        epochs = trial.suggest_categorical("epochs", [1, 3])
        steps = -(-len(data["train"][0]) // BATCH) * epochs
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            0.0, trial.suggest_categorical("sparsity", [0.5, 0.7, 0.85]), 0, steps // 2, frequency=10
        )
        model = tfmot.sparsity.keras.prune_low_magnitude(model, schedule)
        model = fit(model, data, trial, [tfmot.sparsity.keras.UpdatePruningStep()])
        model = tfmot.sparsity.keras.strip_pruning(model)
    if cluster:
        from tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster import cluster_weights

        model = cluster_weights(
            model,
            number_of_clusters=trial.suggest_categorical("number", [8, 16, 32]),
            cluster_centroids_init=tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS,
            preserve_sparsity=prune,
        )
        model = tfmot.clustering.keras.strip_clustering(fit(model, data, trial))
    if trial.params["scheme"] == "qat_int8":
        if not prune and not cluster:
            model = tfmot.quantization.keras.quantize_model(model)
        else:
            annotated = tfmot.quantization.keras.quantize_annotate_model(model)
            combine = tfmot.experimental.combine
            keep = (
                combine.Default8BitClusterPreserveQuantizeScheme(prune)
                if cluster
                else combine.Default8BitPrunePreserveQuantizeScheme()
            )
            model = tfmot.quantization.keras.quantize_apply(annotated, keep)
        model = fit(model, data, trial)
    return model


def convert(model: Any, scheme: str, data: Data) -> bytes:
    """Its `.tflite`."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if scheme != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if scheme == "int8":
        converter.representative_dataset = lambda: ([x[None]] for x in data["train"][0][:200])
    file: bytes = converter.convert()
    return file


def evaluate(file: bytes, data: Data) -> tuple[float, float, int]:
    """Accuracy on the validation split, mean latency of 50 runs in ms, bytes after gzip."""
    interpreter = tf.lite.Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    images, labels = data["validation"]
    right = 0
    for image, label in zip(images, labels, strict=True):
        interpreter.set_tensor(into, image[None])
        interpreter.invoke()
        right += int(interpreter.get_tensor(out).argmax() == label)
    begun = time.perf_counter()
    for _ in range(50):
        interpreter.invoke()
    latency = (time.perf_counter() - begun) / 50 * 1e3
    return right / len(labels), latency, len(gzip.compress(file, 9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seconds", type=float, help="begin no trial after so many")
    parser.add_argument("--model", type=Path, default=DIGITS / "out" / "baseline.h5")
    parser.add_argument("--data", type=Path, help="an .npz with x_train, y_train, x_validation, y_validation")
    parser.add_argument("--out", type=Path, default=HERE / "hand_written.csv")
    given = parser.parse_args()
    trials = None if given.seconds else given.trials
    data = splits(given.data)
    started = time.monotonic()
    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0)
    )
    rows = []

    def objective(trial: optuna.Trial) -> tuple[float, float, int]:
        begun = time.monotonic()
        scheme = trial.suggest_categorical("scheme", ["float32", "float16", "dynamic", "int8", "qat_int8"])
        found = evaluate(convert(compress(trial, data, given.model), scheme, data), data)
        now = time.monotonic()
        rows.append({**trial.params, "ended": round(now - started, 2), "seconds": round(now - begun, 2),
                     "accuracy": found[0], "latency_ms": found[1], "compressed_bytes": found[2]})  # fmt: skip
        return found

    study.optimize(objective, n_trials=trials, timeout=given.seconds, catch=(Exception,))
    names = ["scheme", "prune", "sparsity", "cluster", "number", "epochs", "ended", "seconds", "accuracy", "latency_ms", "compressed_bytes"]  # fmt: skip
    with open(given.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} of {trials or 'as many as went'} trials, {sum(r['seconds'] for r in rows):.0f} s")


if __name__ == "__main__":
    main()
