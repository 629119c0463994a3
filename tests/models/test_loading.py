"""Models that users bring, in every format, and models carried between jobs."""

import io
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.errors import ConfigError
from autoopt.models import loading

layers = tf_keras.layers
FORMATS = ("model.h5", "model.keras", "saved_model")


@pytest.fixture(scope="module")
def cnn():
    return tiny.cnn()


@pytest.fixture(scope="module")
def saved(cnn, tmp_path_factory):
    """A folder with the model in every format."""
    folder = tmp_path_factory.mktemp("saved")
    for name in FORMATS:
        cnn.save(folder / name)
    return folder


class Subclassed(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def predictions(model):
    return model.predict(tiny.images(8, 5)[0], verbose=0)


@pytest.mark.parametrize("name", FORMATS)
def test_every_keras_2_format_gives_the_same_model(name, saved, cnn):
    for path in (saved / name, str(saved / name)):
        loaded = loading.load(path)
        assert [layer.name for layer in loaded.layers] == [layer.name for layer in cnn.layers]
        np.testing.assert_array_equal(predictions(loaded), predictions(cnn))


def test_a_compiled_file_comes_without_its_optimizer(tmp_path):
    model = tiny.network(layers.Flatten(), layers.Dense(4))
    model.compile("adam", "mse")
    model.save(tmp_path / "model.h5")
    assert loading.load(tmp_path / "model.h5").optimizer is None


def test_a_model_object_is_taken_as_it_is(cnn):
    assert loading.load(cnn) is cnn
    sequential = tf_keras.Sequential([layers.Dense(2)])
    sequential.build((None, 3))
    assert loading.load(sequential) is sequential


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: None, "expected a Keras model or a path, got builtins.NoneType$"),
        (lambda: np.ones(3), "expected a Keras model or a path, got numpy.ndarray$"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), "has no input shape yet; give it an Input layer"),
        (
            Subclassed,
            "Subclassed is subclassed: .* can't convert it as it is: .*; call a subclassed model once on data",
        ),
        (lambda: tf_keras.Sequential([layers.Dense(2)]), "has no input shape yet; give it an Input layer"),
        (
            lambda: tiny.network(layers.Conv2D(2, 3), shape=(None, None, 3)),
            r"expected fixed input shapes \(only the batch may vary\), got image \(None, None, None, 3\)",
        ),
    ],
)
def test_what_is_no_flat_model_is_refused_in_one_line(model, message):
    with pytest.raises(ConfigError, match=f"^task.py: model: .*{message}") as caught:
        loading.load(model(), "task.py")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"task: model: no file .*nothing\.h5"):
        loading.load(tmp_path / "nothing.h5")


# Keras 3 copies its own variables in a way that numpy 2 will give up.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_keras_3_files_are_rebuilt(name, tmp_path):
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    model.save(tmp_path / name)
    x = np.random.default_rng(0).random((3, 4), dtype=np.float32)
    found = loading.load(tmp_path / name)
    assert isinstance(found, tf_keras.Model)
    np.testing.assert_allclose(found.predict_on_batch(x), model(x), atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_has_the_same_fingerprint_each_time(name, saved):
    assert loading.fingerprint(loading.load(saved / name)) == loading.fingerprint(loading.load(saved / name))


def test_a_model_and_its_file_have_one_fingerprint(saved, cnn):
    assert loading.fingerprint(loading.load(saved / "model.h5")) == loading.fingerprint(cnn)


def test_fingerprint_follows_weights_and_architecture(cnn):
    same, weight, activation = tf_keras.models.clone_model(cnn), tf_keras.models.clone_model(cnn), tiny.cnn("sigmoid")
    for model in (same, weight, activation):
        model.set_weights(cnn.get_weights())
    assert loading.fingerprint(same) == loading.fingerprint(cnn)
    changed = cnn.get_weights()
    changed[-1][0] += 1e-6
    weight.set_weights(changed)
    assert len({loading.fingerprint(model) for model in (cnn, weight, activation)}) == 3


def test_packing_loses_nothing_and_gives_the_same_bytes(cnn):
    reports = [{"stage": "prune", "best": 2}, {"stage": "cluster"}]
    packed = loading.pack(cnn, reports)
    model, back = loading.unpack(packed)
    assert back == reports
    assert loading.fingerprint(model) == loading.fingerprint(cnn)
    np.testing.assert_array_equal(predictions(model), predictions(cnn))
    assert loading.pack(cnn, reports) == packed
    assert loading.pack(model, reports) == packed
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:  # a clock would be the same for two seconds
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_reports_are_read_without_tensorflow(cnn, tmp_path):
    path = tmp_path / "packed"
    path.write_bytes(loading.pack(cnn, [{"stage": "prune"}]))
    code = (
        "import sys; from autoopt.models import loading as models; from pathlib import Path;"
        f"print(models.reports_of(Path({str(path)!r}).read_bytes()), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[{'stage': 'prune'}] False"


def test_layers_before_batch_normalization_are_told():
    """Also of a sequential model, whose file names no connections."""
    assert loading.normalized(loading.pack(tiny.cnn())) == ["conv"]
    layers = tf_keras.layers
    stack = [layers.Input((8, 8, 1)), layers.BatchNormalization(), layers.Conv2D(2, 3, name="a"), layers.ReLU(),
             layers.Conv2D(2, 3, name="b"), layers.BatchNormalization()]  # fmt: skip
    found = loading.normalized(loading.pack(tf_keras.Sequential(stack)))
    assert "b" in found
    assert "a" not in found


# --- what is no model, and what to do


def test_weights_alone_are_told_apart(tmp_path):
    model = tf_keras.Sequential([layers.Input((4,)), layers.Dense(2)])
    model.save_weights(tmp_path / "weights.h5")
    model.save_weights(tmp_path / "checkpoint_1")
    (tmp_path / "weights.keras").write_bytes((tmp_path / "weights.h5").read_bytes())
    for path in (tmp_path / "weights.h5", tmp_path / "weights.keras", tmp_path):
        with pytest.raises(ConfigError, match="holds weights alone; build the model in Python, load_weights into it"):
            loading.load(path)


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_a_file_cut_short_is_said_to_be(name, saved, tmp_path):
    whole = (saved / name).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 20):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=rf"{name} is damaged or cut short; save or copy it anew$"):
            loading.load(tmp_path / name)


def test_what_is_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("not a model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"garbage")
    for name, said in {
        "notes.txt": "is no Keras model; expected a .h5, .keras, SavedModel or float32 .tflite",
        "empty": "is a folder without a saved_model.pb; expected a SavedModel",
        "broken": "its saved_model.pb is damaged; save or copy it anew",
    }.items():
        with pytest.raises(ConfigError, match=said):
            loading.load(tmp_path / name)


def test_whatever_else_goes_wrong_ends_in_one_line(monkeypatch):
    def fails(*_):
        raise RuntimeError("of\nTensorFlow")

    monkeypatch.setattr(loading, "flatten", fails)
    model = tf_keras.Sequential([layers.Input((4,)), layers.Dense(2)])
    with pytest.raises(ConfigError, match=r"^task: model: can't be taken in \(RuntimeError: of TensorFlow\); "):
        loading.load(model)
