"""What a Keras model's file would run or read while it is loaded is found and refused before that."""

import contextlib
import io
import json
import shutil
import struct
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

from autoopt.errors import ConfigError
from autoopt.models import keras_config, keras_files, loading, saved_models

layers = tf_keras.layers


def layer(kind, **config):
    return {
        "class_name": kind,
        "config": {"name": "odd", "dtype": "float32", **config},
        "name": "odd",
        "inbound_nodes": [],
    }


def described(*odd):
    """A model of a dense layer and odd ones, as Keras 2 describes it."""
    dense = {
        "class_name": "Dense",
        "config": {"name": "d", "units": 2},
        "name": "d",
        "inbound_nodes": [[["i", 0, 0, {}]]],
    }
    ends = {"batch_input_shape": [None, 4], "dtype": "float32", "name": "i"}
    known = [{"class_name": "InputLayer", "config": ends, "name": "i", "inbound_nodes": []}, dense]
    body = {"name": "m", "layers": [*known, *odd], "input_layers": [["i", 0, 0]], "output_layers": [["d", 0, 0]]}
    return {"class_name": "Functional", "config": body}


def h5(path, config):
    with h5py.File(path, "w") as file:
        file.attrs.update(keras_version="2.15.0", backend="tensorflow", model_config=json.dumps(config))
        group = file.create_group("model_weights")
        group.attrs.update(layer_names=[b"d"], keras_version="2.15.0")
        group.create_group("d").attrs["weight_names"] = [b"d/kernel:0", b"d/bias:0"]
        group["d/d/kernel:0"], group["d/d/bias:0"] = np.zeros((4, 2), "f4"), np.zeros(2, "f4")
    return path


def refusal(path, **more):
    with pytest.raises(ConfigError) as caught:
        loading.load(path, **more)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def writing(target):
    """A layer that writes a file while it is loaded."""
    odd = layer("TFOpLambda", function="io.write_file")
    return odd | {"inbound_nodes": [["_CONSTANT_VALUE", -1, str(target), {"contents": "x"}]]}


def test_a_file_that_writes_another_does_not_get_to_it(tmp_path):
    target = tmp_path / "target.txt"
    path = h5(tmp_path / "m.h5", described(writing(target)))
    said = refusal(path)
    assert "the layer odd runs tf.io.write_file" in said
    assert "allow_code=True (init: --allow-code)" in said
    assert not target.exists()
    with contextlib.suppress(ConfigError):  # what comes of it is no model
        loading.load(path, allow_code=True)
    assert target.read_text() == "x"


NESTED = {
    "class_name": "Sequential",
    "config": {"name": "inner", "layers": [layer("TFOpLambda", function="io.write_file")]},
}
CODE = {
    "gfile": layer("TFOpLambda", function="io.gfile.rmtree"),
    "loading": layer("TFOpLambda", function="keras.models.load_model"),
    "python": layer("TFOpLambda", function="numpy_function"),
    "printing": layer("TFOpLambda", function="print"),
    "no name": layer("TFOpLambda", function=None),
    "slicing": layer("SlicingOpLambda", function="io.write_file"),
    "old": layer("TFOpLambda", function="compat.v1.py_func"),
    "node": layer("TensorFlowOpLayer", node_def={"op": "WriteFile", "name": "w"}),
    "node as text": layer("TensorFlowOpLayer", node_def="\n\x01w\x12\tWriteFile"),
    "class": layer("ClassMethod", cls_symbol="io.TFRecordWriter", method_name="write"),
    "method": layer("InstanceMethod", attr_name="eval"),
    "attribute": layer("InstanceProperty", attr_name="__class__"),
    "package": layer("Custom>TFOpLambda", function="io.write_file"),
    "by module": layer("TFOpLambda", function="io.write_file") | {"module": "tf_keras.src.layers.core.tf_op_layer"},
    "nested": NESTED,
    "wrapped": layer("TimeDistributed", layer=layer("TFOpLambda", function="io.write_file")),
    "cell": layer("RNN", cell=layer("Lambda", function=["code", None, None])),
    "lambda": layer("Lambda", function=["code", None, None], function_type="lambda"),
    "activation": layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "code"}}),
    "module": {"class_name": "Popen", "module": "subprocess", "config": {"args": "true"}, "registered_name": "Popen"},
    "utilities": layer("Dense", activation={"class_name": "function", "module": "keras.utils", "config": "get_file"}),
    "deep": layer("Dense", activation={"class_name": "function", "module": "keras.src.utils.file_utils", "config": "get_file"}),
    "builtin": layer("Dense", activation={"class_name": "function", "module": "builtins", "config": "exec"}),
    "dotted": layer("Dense", activation={"class_name": "function", "module": "keras.activations", "config": "sys.exit"}),
    "specification": layer("X", spec={"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess", "config": []}),
    "SavedModel": layer("TFSMLayer", path="/somewhere"),
    "torch": layer("TorchModuleWrapper", module="AAAA"),
    "vocabulary": layer("StringLookup", vocabulary="/etc/passwd"),
    "column": layer("DenseFeatures", feature_columns=[{"class_name": "V", "config": {"vocabulary_file": "/etc/passwd"}}]),
}  # fmt: skip


@pytest.mark.parametrize("odd", CODE)
def test_code_is_refused_wherever_it_hides(odd, tmp_path):
    said = refusal(h5(tmp_path / "m.h5", described(CODE[odd])))
    assert "it brings code with it: " in said
    assert "allow_code=True" in said


@pytest.mark.parametrize(
    ("version", "words"), [("2.15.0", "it asks for subprocess.Popen"), ("3.9.0", "can't be read as a Keras 3 model")]
)
def test_code_is_refused_in_both_kinds_of_zips(version, words, tmp_path):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(described(CODE["module"])))
        archive.writestr("model.weights.h5", h5(tmp_path / "w.h5", {}).read_bytes())
    assert words in refusal(path)


def difference(labels, outputs):
    return keras.ops.mean(labels - outputs)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_how_a_model_was_trained_is_not_read(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adam", difference)
    model.save(tmp_path / "m.keras")
    assert loading.load(tmp_path / "m.keras").output_shape == (None, 2)


class Doubling(tf_keras.layers.Layer):
    def call(self, x):
        return x * 2.0


def everyday():
    """Models with operations, as people write them."""
    x = layers.Input((8, 8, 3))
    y = tf.nn.relu(layers.Conv2D(4, 3, padding="same")(x) * 2.0 + 1.0)
    y = tf.concat([y, tf.math.tanh(y)], -1)[:, 1:-1, :, ::2] / 3.0
    y = tf.image.resize(y, (4, 4)) - tf.reduce_mean(y, axis=(1, 2), keepdims=True)
    z = tf.reshape(y, (-1, y.shape[1] * y.shape[2] * 4))
    yield tf_keras.Model(x, layers.Dense(2)(tf.clip_by_value(z, -1.0, 1.0)))
    x = layers.Input((6,))
    shape = tf.shape(x)
    yield tf_keras.Model(x, tf.transpose(tf.reshape(layers.Dense(6, tf.nn.swish)(x), (shape[0], 2, 3)), (0, 2, 1)))
    x = layers.Input((6, 2))
    cell = layers.Bidirectional(layers.LSTM(2, kernel_regularizer="l2", return_sequences=True))
    yield tf_keras.Model(
        x, layers.TimeDistributed(tf_keras.Sequential([layers.Dense(2, tf_keras.activations.gelu)]))(cell(x))
    )


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_models_that_only_compute_pass(suffix, tmp_path):
    for number, model in enumerate(everyday()):
        path = tmp_path / f"{number}{suffix}"
        model.save(path)
        keras_files.check(path, "task")


def test_a_class_of_the_users_own_is_known_by_its_name(tmp_path):
    model = tf_keras.Sequential([layers.Input((4,)), Doubling(), layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    assert f"it asks for {__name__}.Doubling" in refusal(tmp_path / "m.keras")
    assert "custom_objects" in refusal(tmp_path / "m.keras")
    loading.load(tmp_path / "m.keras", custom_objects={"Doubling": Doubling})


# --- where weights are read from


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.bin"
    path.write_bytes(bytes(range(32)))
    return path


def external(group, secret):
    group.create_dataset("kernel:0", (4, 2), "f4", external=[(str(secret), 0, 32)])


def virtual(group, secret):
    layout = h5py.VirtualLayout((4, 2), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", (4, 2))
    group.create_virtual_dataset("kernel:0", layout)


def linked(group, secret):
    group["kernel:0"] = h5py.ExternalLink(str(secret), "/x")


def soft(group, secret):
    group["kernel:0"] = h5py.SoftLink("/model_weights/d")


@pytest.mark.parametrize("hide", [external, virtual, linked, soft])
@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_weights_from_elsewhere_are_refused_even_with_code_allowed(hide, kind, secret, tmp_path):
    path = h5(tmp_path / "m.h5", described())
    with h5py.File(path, "a") as file:
        del file["model_weights/d/d/kernel:0"]
        hide(file["model_weights/d/d"], secret)
    if kind == "keras":
        packed = tmp_path / "m.keras"
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
            archive.writestr("config.json", json.dumps(described()))
            archive.write(path, "model.weights.h5")
        path = packed
    assert "which no model needs" in refusal(path, allow_code=True)


def test_weights_that_memory_cannot_hold_are_refused(tmp_path):
    path = h5(tmp_path / "m.h5", described())
    with h5py.File(path, "a") as file:
        file.create_dataset("large", (1 << 50,), "f4", chunks=(1024,))
    assert "is too large: it takes" in refusal(path)


def test_groups_that_hold_themselves_end(tmp_path):
    path = h5(tmp_path / "m.h5", described())
    with h5py.File(path, "a") as file:
        file["model_weights/again"] = file["model_weights"]
    loading.load(path)


# --- damage


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model = tf_keras.Sequential([layers.Input((4,)), layers.Dense(3, "relu"), layers.Dense(2)])
    model.save(folder / "m.h5")
    model.save(folder / "m.keras")
    return folder


def test_a_file_that_keeps_its_library_busy_for_ever_is_refused(saved, monkeypatch):
    """A text in the file's heap says that it is 256 bytes longer than it is; HDF5 2.0 then never ends."""
    content = bytearray((saved / "m.h5").read_bytes())
    at = content.index(b"GCOL") + 16
    while True:  # over the heap's objects: index, references, size, text
        number, _, _, size = struct.unpack_from("<HHIQ", content, at)
        following = at + 16 + -(-size // 8) * 8
        if struct.unpack_from("<H", content, following)[0] == 0:
            break
        at = following
    assert number > 1
    struct.pack_into("<Q", content, at + 8, size + 256)
    path = saved / "endless.h5"
    path.write_bytes(content)
    monkeypatch.setattr(keras_files, "PATIENCE_S", 3.0)
    with pytest.raises(ConfigError, match=r"endless.h5 is damaged .*reading it ended with no answer after 3 s"):
        keras_files.check(path, "task")


@settings(max_examples=20, deadline=None)  # each is looked at in a process of its own
@given(data=st.data())
@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_flipped_bits_end_in_one_line_or_in_a_check_that_passes(name, data, saved):
    """The structure alone is read here: what Keras makes of it later is a job's, in a process of its own."""
    content = bytearray((saved / name).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path = saved / f"damaged-{name}"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        keras_files.check(path, "task")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["class_name", "config", "module", "registered_name", "vocabulary", "function", "x"]), inner)))  # fmt: skip
def test_any_description_can_be_looked_through(config):
    keras_config.unsafe(config, ())


# --- SavedModels


class Module(tf.Module):
    def __init__(self, run):
        super().__init__()
        self.run = run
        self.weight = tf.Variable(tf.ones((4, 2)))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
    def __call__(self, x):
        return self.run(x) @ self.weight


def reading(x):
    return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def in_a_branch(x):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: reading(x), lambda: x)


def of_python(x):
    return tf.reshape(tf.numpy_function(lambda a: a, [x], tf.float32), (-1, 4))


def printing(x):
    with tf.control_dependencies([tf.print(x, output_stream="file:///tmp/printed")]):
        return tf.identity(x)


def saving(x):
    with tf.control_dependencies(
        [tf.raw_ops.SaveV2(prefix="/tmp/x", tensor_names=["x"], shape_and_slices=[""], tensors=[x])]
    ):
        return tf.identity(x)


@pytest.mark.parametrize("run", [reading, in_a_branch, of_python, printing, saving])
def test_a_graph_that_touches_files_is_refused(run, tmp_path):
    module = Module(run)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.__call__)
    said = refusal(tmp_path / "m")
    assert "it brings code with it: its graph runs " in said
    assert "allow_code=True" in said


def test_a_graph_that_computes_passes_and_so_does_one_that_says_what_it_sees(tmp_path):
    for name, run in {"plain": tf.nn.relu, "talking": lambda x: (tf.print(x), x)[1]}.items():
        module = Module(run)
        tf.saved_model.save(module, str(tmp_path / name), signatures=module.__call__)
        saved_models.check(tmp_path / name, "task")


def test_layers_of_a_saved_model_that_would_run_something_are_not_revived(tmp_path):
    x = layers.Input((4,))
    tf_keras.Model(x, layers.Dense(2)(tf.math.tanh(x))).save(tmp_path / "m")
    file = tmp_path / "m" / "keras_metadata.pb"
    content = file.read_bytes()
    assert b'"function": "math.tanh"' in content
    file.write_bytes(content.replace(b'"function": "math.tanh"', b'"function": "io.rename"'))
    found = loading.load(tmp_path / "m")
    assert "runs tf.io.rename" in found.why


def test_a_saved_model_of_two_graphs_is_refused(tmp_path):
    tf_keras.Sequential([layers.Input((4,)), layers.Dense(2)]).save(tmp_path / "m")
    shutil.copy(tmp_path / "m" / "saved_model.pb", tmp_path / "m" / "saved_model.cpb")
    assert "holds its graph twice" in refusal(tmp_path / "m")


def test_saving_that_the_start_of_a_graph_runs_is_refused(tmp_path):
    """In TensorFlow 1 nodes are run as the graph is loaded, which no signature names."""
    module = Module(tf.nn.relu)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.__call__)
    file = tmp_path / "m" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    graph = model.meta_graphs[0]
    graph.graph_def.node.add(name="hidden", op="SaveV2")
    file.write_bytes(model.SerializeToString())
    saved_models.check(tmp_path / "m", "task")
    graph.collection_def["saved_model_main_op"].node_list.value.append("hidden")
    file.write_bytes(model.SerializeToString())
    assert "its graph runs SaveV2" in refusal(tmp_path / "m")


def test_a_damaged_saved_model_and_one_with_a_pipe_are_refused(tmp_path):
    tf_keras.Sequential([layers.Input((4,)), layers.Dense(2)]).save(tmp_path / "m")
    graph = tmp_path / "m" / "saved_model.pb"
    whole = graph.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"hello" + whole):
        graph.write_bytes(content)
        assert "damaged" in refusal(tmp_path / "m")
    graph.unlink()
    graph.symlink_to("/dev/zero")
    assert "expected a file, got a device" in refusal(tmp_path / "m")
    shutil.rmtree(tmp_path / "m")


def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
        archive.writestr("../../evil.txt", "x")
    path = Path(tmp_path, "m.keras")
    path.write_bytes(out.getvalue())
    assert "leads out of it" in refusal(path, allow_code=True)
