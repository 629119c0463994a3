"""Reads what a Keras model's file says of its layers, for what it would run or read while it is loaded."""

import builtins
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from autoopt.models import pure_operations

LIBRARIES = ("keras", "tf_keras", "tensorflow_model_optimization")
"""Whose classes and functions a file may name; of the first two only from `ROOMS`."""
ROOMS = (
    "activations", "backend", "constraints", "dtype_policies", "engine", "experimental", "initializers", "layers", "losses", "metrics",
    "mixed_precision", "models", "ops", "optimizers", "quantizers", "random", "regularizers",
)  # fmt: skip
"""Parts of Keras that hold what models are made of, and nothing that opens files."""
FUNCTION_ROOMS = ("activations", "constraints", "initializers", "losses", "metrics", "ops", "regularizers")
"""Parts of Keras whose functions a file may name."""
OPENS = {
    "TFSMLayer": "loads a SavedModel",
    "TorchModuleWrapper": "unpickles a model",
    "JaxLayer": "runs code",
    "FlaxLayer": "runs code",
}
"""Layers that do more than compute."""
LAMBDAS = ("Lambda", "__lambda__")
FILES = ("vocabulary", "idf_weights", "vocabulary_file", "filepath")
"""Settings of layers that a file's name may stand in, which is read while the layer is made."""
SPECS = ("TensorSpec", "RaggedTensorSpec", "SparseTensorSpec")
PLAIN = ("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__", "__tuple__")
"""Values that are no classes."""


def unsafe(config: Any, known: Collection[str], *, lambdas: bool = True, imports: bool = True) -> str | None:
    """The first thing in a model's description that would do more than compute, in words; None if there is nothing.

    Args:
        config: decoded JSON.
        known: names of classes and functions that the user has given.
        lambdas: whether Lambda layers count.
        imports: whether who loads it imports any module that it names; Keras 3 does not.
    """
    for found in _objects(config):
        why = _file(found) or _object(found, known, lambdas, imports)
        if why is not None:
            return why
    return None


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every dictionary in a description, however deep it lies."""
    rest = [config]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            yield value
            rest += value.values()
        elif isinstance(value, list | tuple):
            rest += value


def _file(found: Mapping[str, Any]) -> str | None:
    for name in FILES:
        if isinstance(found.get(name), str) and found[name]:
            return f"{_title(found)} reads the file {found[name]!r} ({name})"
    return None


def _title(found: Mapping[str, Any]) -> str:
    """What a layer is called, for messages."""
    inner = found.get("config")
    name = inner.get("name") if isinstance(inner, dict) else found.get("name")
    kind = found.get("class_name")
    return f"the layer {name}" if isinstance(name, str) else f"its {kind}" if isinstance(kind, str) else "a layer"


def _object(found: Mapping[str, Any], known: Collection[str], lambdas: bool, imports: bool) -> str | None:
    """Why one described class or function is refused."""
    name = found.get("class_name")
    if name is None:
        return None
    if not isinstance(name, str):
        return f"its class_name is no text ({type(name).__name__})"
    named = {
        name,
        name.rpartition(">")[2],
        str(found.get("registered_name")),
        str(found.get("registered_name")).rpartition(">")[2],
    }
    if name == "function":
        return _function(found, known, imports)
    if name == "__typespec__":
        spec = found.get("spec_name")
        return None if spec in SPECS else f"it asks for {found.get('module')}.{spec}"
    if named & set(known):
        return None
    kind = name.rpartition(">")[2].rpartition(".")[2]
    if kind in LAMBDAS:
        return f"{_title(found)} is a Lambda" if lambdas else None
    if kind in OPENS:
        return f"{_title(found)} is a {kind}, which {OPENS[kind]}"
    if (refused := _operation(found, kind)) is not None:
        return refused
    return None if name in PLAIN else _module(found, name, ROOMS, imports)


def _operation(found: Mapping[str, Any], kind: str) -> str | None:
    """Why a layer that stands for one of TensorFlow's operations is refused."""
    inner = found.get("config")
    config: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    asked: str | None = None
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        function = config.get("function")
        asked = None if isinstance(function, str) and pure_operations.known(function) else f"tf.{function}"
    elif kind == "TensorFlowOpLayer":
        node = config.get("node_def")
        op = node.get("op") if isinstance(node, dict) else None
        asked = None if op in pure_operations.NODES else f"the operator {op or 'of a form that is not read'}"
    elif kind == "ClassMethod":
        asked = f"{config.get('cls_symbol')}.{config.get('method_name')}"
    elif kind == "InstanceMethod":
        attribute = config.get("attr_name")
        asked = None if attribute in pure_operations.METHODS else f"the method {attribute}"
    elif kind == "InstanceProperty":
        attribute = config.get("attr_name")
        asked = None if attribute in pure_operations.ATTRIBUTES else f"the attribute {attribute}"
    return None if asked is None else f"{_title(found)} runs {asked}, which is not known to do nothing but compute"


def _function(found: Mapping[str, Any], known: Collection[str], imports: bool) -> str | None:
    """Why a described function is refused."""
    name = found.get("config")
    if not isinstance(name, str):
        return "it asks for a function without a name"
    registered = str(found.get("registered_name"))
    if {name, name.rpartition(">")[2], registered, registered.rpartition(">")[2]} & set(known):
        return None
    if found.get("module") == "builtins" and hasattr(builtins, name):
        return f"it asks for Python's {name}"
    return _module(found, name, FUNCTION_ROOMS, imports)


def _module(found: Mapping[str, Any], name: str, rooms: Collection[str], imports: bool) -> str | None:
    """Why a class or function can't be taken from the module that a description names."""
    module = found.get("module")
    if module is None or module == "builtins":
        return None  # it is looked up among those that Keras knows by name
    if not isinstance(module, str):
        return f"its module is no text ({type(module).__name__})"
    parts = [part for part in module.split(".") if part != "src"]
    if parts[0] not in LIBRARIES and not imports:
        return None
    inside = parts[0] in LIBRARIES and (len(parts) == 1 or parts[0] == LIBRARIES[-1] or parts[1] in rooms)
    if inside and (name.isidentifier() or ">" in name):
        return None
    return f"it asks for {module}.{name}, which is none of Keras's own parts of models"
