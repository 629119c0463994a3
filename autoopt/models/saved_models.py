"""Looks through a SavedModel's graph before it is loaded, for operators that touch files, run Python or leave the machine."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autoopt.errors import ConfigError
from autoopt.models import keras_config
from autoopt.models.keras_files import CODE
from autoopt.system import foreign_files

GRAPH, KERAS = "saved_model.pb", "keras_metadata.pb"
OTHER_FORMS = ("saved_model.cpb", "saved_model.pbtxt")
"""Of the graph, of which some readers take the one and some the other."""
DAMAGED = "is damaged; save or copy it anew"
TOUCHES = re.compile(
    "File|Reader|TextLineDataset|TFRecord|FixedLengthRecord|Sql|LMDB|CSV|Snapshot|CacheDataset|SaveDataset|LoadDataset|"
    "PyFunc|Summary(File|Db)?Writer|^Debug|DataService|Rpc|Gcs|FileSystem|BigQuery|BigTable|^(De|En)codeProto|Checkpoint|"
    "^Save|^Restore|^Abort$|GeneratorDataset|RemoteCall|^Print$|StatsAggregator|LookupTableExport|RemoteFused"
)
"""Parts of the names of such operators."""
HARMLESS = frozenset({"ShardedFilename", "ShardedFilespec"})
SAVING = re.compile("^Save|^Restore|Checkpoint")
"""What every SavedModel holds to be saved again; nobody runs it, unless it is reached from what is run."""


def check(path: Path, where: str, *, allow_code: bool = False) -> None:
    """Check the folder of a SavedModel.

    Args:
        path: of the folder.
        where: for messages.
        allow_code: whatever its graph does is welcome.

    Raises:
        ConfigError: naming the operator, or what is damaged.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    begin = f"{where}: model: {path}"
    for file in path.rglob("*"):
        if not file.is_dir():
            foreign_files.expect_regular(file, f"{where}: model", empty=True)  # markers may be empty
    for name in OTHER_FORMS:
        if (path / name).exists():
            raise ConfigError(f"{begin} holds its graph twice, as {GRAPH} and as {name}; expected {GRAPH} alone")
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(foreign_files.read(path / GRAPH, f"{where}: model"))
    except DecodeError as error:
        raise ConfigError(f"{begin}: its {GRAPH} {DAMAGED}") from error
    if not model.meta_graphs:
        raise ConfigError(f"{begin}: its {GRAPH} {DAMAGED}")
    if allow_code:
        return
    for graph in model.meta_graphs:
        for op in _operators(graph):
            raise ConfigError(
                f"{begin}: it brings code with it: its graph runs {op}, which does more than compute; {CODE}"
            )


def _operators(meta: Any) -> Iterator[str]:
    """Operators of a graph that touch more than tensors; those for saving only where they are run."""
    functions = {function.signature.name: function.node_def for function in meta.graph_def.library.function}
    nodes = {node.name: node for node in meta.graph_def.node}
    ends = [end.name for signature in meta.signature_def.values() for end in signature.outputs.values()]
    ends += [
        name for collection in meta.collection_def.values() for name in collection.node_list.value
    ]  # what starts it
    run = [nodes[name] for name in _behind(ends, nodes)]
    called = _reached(run, functions, meta.object_graph_def.concrete_functions)
    restoring = [nodes[name] for name in _behind([meta.saver_def.restore_op_name], nodes)]
    for node in (*run, *(node for name in called for node in functions[name])):
        if _touches(node):
            yield node.op
    for node in (*nodes.values(), *(node for body in functions.values() for node in body)):
        if _touches(node) and not SAVING.search(node.op):
            yield node.op
    restored = (*restoring, *(node for name in _reached(restoring, functions) for node in functions[name]))
    for node in restored:  # the loading runs it
        if _touches(node) and not node.op.startswith("Restore"):
            yield node.op


def _touches(node: Any) -> bool:
    if node.op == "PrintV2":
        return bool(node.attr["output_stream"].s.startswith(b"file:"))
    return TOUCHES.search(node.op) is not None and node.op not in HARMLESS


def _behind(ends: Iterable[str], nodes: Mapping[str, Any]) -> set[str]:
    """Names of the nodes that tensors or nodes are computed by."""
    rest, seen = [_node(end) for end in ends], set[str]()
    while rest:
        name = rest.pop()
        if name in nodes and name not in seen:
            seen.add(name)
            rest += [_node(given) for given in nodes[name].input]
    return seen


def _node(tensor: str) -> str:
    """The node that a tensor or a control edge comes from."""
    return tensor.removeprefix("^").partition(":")[0]


def _reached(nodes: Iterable[Any], functions: Mapping[str, Any], called: Iterable[str] = ()) -> set[str]:
    """Names of the functions that nodes call, and those that these call."""
    seen = {name for name in called if name in functions}
    rest = [*nodes, *(node for name in seen for node in functions[name])]
    while rest:
        for name in _called(rest.pop()):
            if name in functions and name not in seen:
                seen.add(name)
                rest += functions[name]
    return seen


def _called(node: Any) -> Iterator[str]:
    """Functions that a node names: by its operator, or in its attributes."""
    yield node.op
    for attribute in node.attr.values():
        yield attribute.func.name
        yield from (function.name for function in attribute.list.func)


def unsafe_layers(path: Path, known: Collection[str] = ()) -> str | None:
    """What the Keras layers of a SavedModel would do while they are loaded, beyond computing; None if nothing.

    A `Lambda` is left out: Keras does not run its code unless told to.

    Args:
        path: of the folder; `check` has passed it.
        known: names of classes and functions that the user has given.
    """
    for text in _metadata(path):
        try:
            described = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            return "what it says of its Keras layers can't be read"
        if isinstance(described, dict):  # how it was trained is never read
            described.pop("training_config", None)
        if (why := keras_config.unsafe(described, known, lambdas=False)) is not None:
            return why
    return None


def _metadata(path: Path) -> Iterator[str]:
    """What a SavedModel says of its Keras layers: in a file of its own, or in its graph if it is old."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2
    from tf_keras.protobuf import saved_metadata_pb2

    if (path / KERAS).exists():
        metadata = saved_metadata_pb2.SavedMetadata()
        try:
            metadata.ParseFromString((path / KERAS).read_bytes())
        except DecodeError:
            yield "damaged"
            return
        yield from (node.metadata for node in metadata.nodes)
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((path / GRAPH).read_bytes())
    for graph in model.meta_graphs:
        yield from (node.user_object.metadata for node in graph.object_graph_def.nodes if node.HasField("user_object"))
