"""Studies that `autoopt init` makes of pictures and of tables, from the command to the bundle, as a user runs them.

Each searches for real, once a kind: only the jobs' own processes show whether they take what `task.py` hands over, memory maps
and what it converts batch by batch, and only a bundle shows whether its reader is told what was done.
"""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tf_keras
import tinystudy
from PIL import Image

PARTS = ("train", "validation", "test")
STUDY = "task: task.py\nspace: {prune: {sparsity: 0.5}, scheme: [float32, int8]}\ntrials: 3\nconfirm: false\nmeasuring: quick\n"
layers = tf_keras.layers
RNG = np.random.default_rng(0)


def trained(shape, x, y):
    tf_keras.utils.set_random_seed(0)
    stack = [layers.Flatten(), layers.Dense(16, activation="relu"), layers.Dense(3, activation="softmax")]
    model = tf_keras.Sequential([layers.Input(shape), *stack])
    model.compile(tf_keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=150, verbose=0)
    return model


def searched(tmp_path, *data):
    """What the study's folder holds after init, check, run and export, and the bundle."""
    study = tmp_path / "study"
    made = tinystudy.invoke("init", study, "--model", tmp_path / "model.keras", *data)
    assert made.returncode == 0, made.stderr
    (study / "study.yaml").write_text(STUDY)
    checked = tinystudy.invoke("check", study, "--json")
    assert checked.returncode == 0, checked.stderr
    assert not [text for text in json.loads(checked.stdout)["warnings"] if "scale" in text]
    ran = tinystudy.invoke("run", study, "--plain", "--json")
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(tinystudy.invoke("front", study, "--all", "--json").stdout)
    assert len(rows) == 3
    assert not [row for row in rows if row["status"] == "failed"]
    assert tinystudy.invoke("export", study, 0, "--to", tmp_path / "bundle").returncode == 0
    assert tinystudy.invoke("verify", tmp_path / "bundle").returncode == 0
    return rows


def test_pictures_in_folders_become_a_study_and_a_bundle(tmp_path):
    for label, name in enumerate(("dark", "grey", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(40):
            x = np.clip(RNG.normal(50 + 70 * label, 20, (12, 10, 3)), 0, 255).astype(np.uint8)
            x[:2], x[-2:] = 0, 255  # as photos have it, so that predict.py knows the range of values
            Image.fromarray(x).save(tmp_path / "images" / name / f"{number}.jpg")
    data = tf_keras.utils.image_dataset_from_directory(tmp_path / "images", image_size=(8, 8), batch_size=None)
    x, y = (np.stack(column) for column in zip(*data.as_numpy_iterator(), strict=True))
    model = trained((8, 8, 3), x / 255, y)
    model.save(tmp_path / "model.keras")
    rows = searched(tmp_path, "--images", tmp_path / "images")
    x, y = (np.load(tmp_path / "study" / f"{kind}_validation.npy") for kind in "xy")
    found = model.predict(x / 255.0, verbose=0).argmax(axis=1)
    assert rows[0]["accuracy"] == pytest.approx((found == y).mean())
    assert rows[0]["accuracy"] > 0.7
    assert (tmp_path / "bundle" / "labels.txt").read_text().split() == ["dark", "grey", "light"]
    shown = subprocess.run(
        [sys.executable, "predict.py", tmp_path / "images" / "light" / "3.jpg"],
        cwd=tmp_path / "bundle", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "light" in shown.stdout


def test_a_table_becomes_a_study_and_a_bundle(tmp_path):
    y = RNG.integers(0, 3, 150)
    frame = pd.DataFrame({"size": RNG.normal(100 + 30 * y, 10), "town": np.where(y == 1, "Ulm", "Bonn")})
    frame.assign(kind=np.array(["a", "b", "c"])[y]).to_csv(tmp_path / "table.csv", index=False)
    x = np.column_stack([(frame["size"] - frame["size"].mean()) / frame["size"].std(), pd.get_dummies(frame["town"])])
    trained((3,), x.astype(np.float32), y).save(tmp_path / "model.keras")
    rows = searched(tmp_path, "--table", tmp_path / "table.csv", "--label", "kind")
    assert rows[0]["accuracy"] > 0.7
    told = json.loads((tmp_path / "bundle" / "preparation.json").read_text())
    assert [step["column"] for step in told["columns"]] == ["size", "town"]
    assert "`(number - subtract) / divide`" in (tmp_path / "bundle" / "README.md").read_text()
    fresh = frame.iloc[:20, ::-1].assign(note="bought, not rented")  # other order, another column, no labels
    fresh.to_csv(tmp_path / "fresh.csv", index=False)
    shown = subprocess.run(
        [sys.executable, "predict.py", tmp_path / "fresh.csv"],
        cwd=tmp_path / "bundle", capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert shown[0] == "fresh.csv: 20 rows prepared as preparation.json says; left out note"
    inputs = np.concatenate([np.load(tmp_path / "study" / f"x_{part}.npy") for part in PARTS])
    step = told["columns"][0]
    size = inputs[:, step["values"][0]] * step["divide"] + step["subtract"]
    same = inputs[[np.abs(size - one).argmin() for one in frame["size"][:20]]]
    network = tf_keras.models.load_model(tmp_path / "model.keras")
    classes = network.predict(same, verbose=0).argmax(axis=1)
    assert [line.split(": ")[1][0] for line in shown[1:]] == ["abc"[one] for one in classes]
