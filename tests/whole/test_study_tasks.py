"""Studies of tasks that are no plain image classification, as a user runs them."""

import textwrap
from pathlib import Path

import pytest

import autoopt
from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.search.progress import Silent

STUDY = "space: {prune: {sparsity: 0.5}, scheme: [float32, int8, qat_int8]}\nslots: 2\nconfirm: false\nmeasuring: quick\ntarget: %s\n"
HEAD = """
from pathlib import Path

import numpy as np
import tf_keras

import autoopt

layers = tf_keras.layers


def trained(model, x, y, loss, epochs=8):
    kept = Path(__file__).with_name("weights.npz")  # each job reads this file
    if kept.exists():
        model(x[:1] if not isinstance(x, dict) else {name: values[:1] for name, values in x.items()})
        model.set_weights(list(np.load(kept).values()))
        return model
    tf_keras.utils.set_random_seed(0)
    model.compile(tf_keras.optimizers.Adam(0.01), loss)
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0)
    np.savez(kept, *model.get_weights())
    return model


def task():
    splits = [data(n, seed) for seed, n in enumerate((320, 120, 120))]
    return autoopt.Task(train=splits[0], validation=splits[1], test=splits[2], **about(splits[0]))
"""
SERIES = """
def data(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    times = np.arange(16)[:, None] * (labels[:, None, None] + 1) * 0.4
    return (np.sin(times + [0, 1]) + rng.normal(0, 0.2, (n, 16, 2))).astype(np.float32) * 3 + 5, labels


def about(train):
    norm = layers.Normalization()
    norm.adapt(train[0])
    model = tf_keras.Sequential([layers.Input((16, 2)), norm, *STACK, layers.Dense(3, activation="softmax")])
    return {"model": trained(model, *train, "sparse_categorical_crossentropy")}
"""
TASKS = {
    "conv1d": SERIES.replace(
        "*STACK",
        "layers.Conv1D(8, 3), layers.BatchNormalization(momentum=0.8), layers.ReLU(), layers.GlobalAveragePooling1D()",
    ),
    "lstm": SERIES.replace("*STACK", "layers.LSTM(12)"),
    "text": """
def data(n, seed):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 60, (n, 12)).astype(np.int32)
    return words, (words < 20).sum(axis=1) > 3


def about(train):
    model = tf_keras.Sequential([
        layers.Input((12,), dtype="int32"), layers.Embedding(60, 8), layers.GlobalAveragePooling1D(),
        layers.Dense(8, activation="relu"), layers.Dense(1, activation="sigmoid"),
    ])
    return {"model": trained(model, *train, "binary_crossentropy", 20), "loss": "binary_crossentropy"}
""",
    "regression": """
def data(n, seed):
    x = np.random.default_rng(seed).random((n, 5)).astype(np.float32)
    return x, (x[:, :1] * 2 + x[:, 1:2] ** 2)


def mae(labels, outputs):
    return float(np.abs(labels - outputs).mean())


def about(train):
    model = tf_keras.Sequential([layers.Input((5,)), layers.Dense(24, activation="relu"), layers.Dense(1)])
    metric = autoopt.QualityMetric(name="mae", function=mae, direction="min")
    return {"model": trained(model, *train, "mse", 20), "loss": "mean_squared_error", "metric": metric}
""",
    "anomaly": """
def data(n, seed):
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(0, 0.3, (n, 12)), axis=1).astype(np.float32)
    if seed == 0:
        return x, x
    odd = rng.integers(0, 2, n)
    return x + odd[:, None] * rng.normal(0, 1, x.shape).astype(np.float32), odd


def auc(labels, outputs, inputs):
    error = np.square(inputs["signal"] - outputs).mean(axis=1)
    return float((error[labels == 1][:, None] > error[labels == 0][None]).mean())


def about(train):
    x = layers.Input((12,), name="signal")
    model = tf_keras.Model(x, layers.Dense(12)(layers.Dense(4, activation="relu")(layers.Dense(16, activation="relu")(x))))
    metric = autoopt.QualityMetric(name="auc", function=auc, unit="fraction")
    return {"model": trained(model, *train, "mse", 20), "loss": "mse", "metric": metric}
""",
    "two ends": """
def data(n, seed):
    rng = np.random.default_rng(seed)
    x = {"first": rng.random((n, 6), dtype=np.float32), "second": rng.random((n, 4), dtype=np.float32)}
    return x, {"kind": x["first"][:, :3].argmax(axis=1), "size": x["second"][:, :2] * 2}


def both(labels, outputs):
    right = (outputs["kind"].argmax(axis=1) == labels["kind"]).mean()
    return float(right - np.abs(outputs["size"] - labels["size"]).mean())


def about(train):
    a, b = layers.Input((6,), name="first"), layers.Input((4,), name="second")
    x = layers.Dense(24, activation="relu")(layers.Concatenate()([a, b]))
    kind = layers.Dense(3, activation="softmax", name="kind")(x)
    model = tf_keras.Model([a, b], [kind, layers.Dense(2, name="size")(x)])
    loss = {"kind": "sparse_categorical_crossentropy", "size": "mean_squared_error"}
    trained(model, *train, loss, 20)
    return {"model": model, "loss": loss, "metric": autoopt.QualityMetric(name="both", function=both)}
""",
    "nested": """
def data(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = rng.normal(0, 0.5, (n, 8, 8, 1)).astype(np.float32)
    x[labels == 1, :4] += 1
    return x, labels


def about(train):
    inner = tf_keras.Sequential([layers.Input((8, 8, 1)), layers.Conv2D(8, 3), layers.ReLU(), layers.Flatten()])
    model = tf_keras.Sequential([layers.Input((8, 8, 1)), inner, layers.Dense(2, activation="softmax")])
    return {"model": trained(model, *train, "sparse_categorical_crossentropy")}
""",
}
TUNING = Finetune(epochs=5, learning_rate=0.005)
RECIPES = [
    Recipe(prune=Prune(sparsity=0.25, frequency=2), scheme="int8", finetune=TUNING),
    Recipe(cluster=Cluster(number=8), prune=Prune(sparsity=0.25, frequency=2), scheme="qat_int8", finetune=TUNING),
]


def study(folder: Path, text: str, target: str = "host") -> Path:
    folder.mkdir()
    (folder / "task.py").write_text(HEAD + textwrap.dedent(text))
    (folder / "study.yaml").write_text(STUDY % target)
    return folder


def quality(candidate: Candidate) -> float:
    return next(m.value for name, m in candidate.measurements.items() if name in ("accuracy", "mae", "auc", "both"))


@pytest.mark.parametrize("name", list(TASKS))
def test_all_techniques_work_on_it(name: str, tmp_path: Path) -> None:
    left_out = name in ("text", "lstm")  # most of their weights are in layers that it does not take in
    recipes = [r for r in RECIPES if not (left_out and r.scheme == "qat_int8")]
    results = autoopt.run(study(tmp_path / "study", TASKS[name]), recipes=recipes)
    assert [c.reason for c in results.candidates if c.failed] == []
    assert len(results.candidates) == 1 + len(recipes)
    base = results.candidates[0]
    for candidate in results.candidates[1:]:
        worse = (quality(candidate) - quality(base)) * (1 if name == "regression" else -1)
        assert worse < 0.3, candidate.recipe.label()


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


CLOSED = """
class Own(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2, activation="softmax")

    def call(self, inputs):
        return self.dense(inputs)


def data(n, seed):
    x = np.random.default_rng(seed).random((n, 6)).astype(np.float32)
    return x, (x[:, 0] > x[:, 1]).astype(int)


def about(train):
    return {"model": trained(Own(), *train, "sparse_categorical_crossentropy")}
"""


def test_a_closed_model_is_searched_over_post_training_schemes(tmp_path: Path) -> None:
    notes = Notes()
    results = autoopt.run(study(tmp_path / "study", CLOSED), view=notes)
    assert {c.recipe.scheme for c in results.candidates} == {"float32", "int8"}
    assert not any(c.failed or c.recipe.trains for c in results.candidates)
    assert any("Own is subclassed" in text and "only post-training schemes are tried" in text for text in notes.said)
    again = autoopt.run(tmp_path / "study", trials=9)
    assert len(again.candidates) == len(results.candidates)
